"""How many threads the kernels use.

One small pool serves the whole process (csrc/parallel.hpp). It sleeps when there is nothing to do, is not used for
small arrays, and a kernel that finds it in use, by another Python thread say, runs on its own thread. The results do
not depend on any of this.

At the start the number of threads is OMP_NUM_THREADS if that is a positive integer or a list that begins with one,
cut at 1024. Otherwise it is the number of CPUs that the process may use: affinity and control groups count. In a worker
of multiprocessing, concurrent.futures or joblib it is OMP_NUM_THREADS (joblib's loky sets it for its workers) or 1,
since the other workers use the other CPUs; what the parent had set does not count there. `set_num_threads` in the
worker, in the pool's initializer say, changes that. A child that is merely forked keeps the number of its parent.
"""

from __future__ import annotations

import operator
import os
import sys
from typing import SupportsIndex

from xhat import kernels
from xhat.kernels import granted

MOST_THREADS = 1024


def set_num_threads(n: SupportsIndex) -> None:
    """Set how many threads a kernel may use, in the whole process. The results do not depend on it.

    Parameters
    ----------
    n : int
        From 1 to 1024. At the start: OMP_NUM_THREADS if it is a positive integer or a list that begins with one, else
        the CPUs granted to the process, and 1 in a worker process.

    Raises
    ------
    TypeError
        If n is not an integer.
    ValueError
        If n is out of range.
    """
    try:
        count = operator.index(n)
    except TypeError:
        raise TypeError(
            f"set_num_threads: expected an integer, got {n!r} ({type(n).__name__}). Pass a number of threads."
        ) from None
    if not 1 <= count <= MOST_THREADS:
        raise ValueError(
            f"set_num_threads: expected n from 1 to {MOST_THREADS}, got {count}. Pass 1 for no other thread."
        )
    if kernels.native:
        kernels.native.set_num_threads(count)


def get_num_threads() -> int:
    """Return how many threads a kernel may use; 1 where there are no kernels."""
    return kernels.native.get_num_threads() if kernels.native else 1


def _wish() -> int:
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    wanted = int(first) if first.isascii() and first.isdigit() and len(first) < 10 else 0
    return min(wanted, MOST_THREADS)


def _begin_as_worker(_: object = None) -> None:
    set_num_threads(_wish() or 1)


def _is_worker() -> bool:
    """Tell whether multiprocessing made this process, or is about to: then it is imported on behalf of a task."""
    process = sys.modules.get("multiprocessing.process")
    if not process:
        return False
    return process.parent_process() is not None or getattr(process.current_process(), "_inheriting", False)


def _begin() -> None:
    if _is_worker():
        _begin_as_worker()
    else:
        set_num_threads(_wish() or min(granted.cpus(), MOST_THREADS))


def _expect_to_be_a_worker() -> None:
    """Have multiprocessing call us when it makes a worker of this forked process, which is later than the fork."""
    if util := sys.modules.get("multiprocessing.util"):
        util.register_after_fork(_begin_as_worker, _begin_as_worker)


_begin()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_expect_to_be_a_worker)
