"""What the system grants to this process: CPUs and memory, as affinity and control groups (cgroups) limit them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMBERSHIP = "/proc/self/cgroup"
_GROUPS = "/sys/fs/cgroup"


def cpus(membership: str = _MEMBERSHIP, groups: str = _GROUPS) -> int:
    """Return how many CPUs may be used, at least 1; a part of a CPU counts as one.

    Parameters
    ----------
    membership, groups : str
        The file that names the process's control groups, and the folder where these are.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _folders("cpu", membership, groups):
        words = _words(f"{folder}/cpu.max")  # version 2: quota and period, version 1: a file for each
        words = words or _words(f"{folder}/cpu.cfs_quota_us") + _words(f"{folder}/cpu.cfs_period_us")
        if len(words) == 2 and all(word.isdigit() and int(word) > 0 for word in words):
            count = min(count, -(-int(words[0]) // int(words[1])))
    return count


def memory(membership: str = _MEMBERSHIP, groups: str = _GROUPS) -> int:
    """Return how many bytes of memory may be used; 0 if this is not known.

    Parameters
    ----------
    membership, groups : str
        As in `cpus`.
    """
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0
    for folder in _folders("memory", membership, groups):
        words = _words(f"{folder}/memory.max") or _words(f"{folder}/memory.limit_in_bytes")
        if len(words) == 1 and words[0].isdigit():
            size = min(size, int(words[0]))
    return max(size, 0)


def _folders(controller: str, membership: str, groups: str) -> Iterator[str]:
    """Yield the folders of the process's own group and of its parents: the limits of all of them hold.

    In a container the names may be those outside, with only the topmost folder present.
    """
    for line in _lines(membership):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):  # version 1: a tree for each controller
            top = f"{groups}/{controllers}"
        elif number == "0" and not controllers:  # version 2: one tree
            top = groups
        else:
            continue
        path = os.path.normpath(f"/{path.strip()}").strip("/")
        while path:
            yield f"{top}/{path}"
            path = path.rpartition("/")[0]
        yield top


def _words(path: str) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:  # not pathlib: its import takes as long as five rooms of xhat
            return file.readlines()
    except (OSError, UnicodeDecodeError):
        return []
