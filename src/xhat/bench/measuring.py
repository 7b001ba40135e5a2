"""How it is timed: each result is checked, then the contenders take turns in random order, round by round."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xhat import kernels
from xhat.bench import contenders, problems
from xhat.bench.contenders import Absent, Contender
from xhat.bench.problems import DIRECTIONS, Array, Data, Direction, Problem

EPS32 = 2.0**-23
LARGEST_ERROR = 1e-3
"""Of the largest value: a result that is wrong in its third digit is not timed."""

COPIES = ("copy", "copy streaming")
"""The yardsticks: NumPy's copy through the cache, and one past it."""

_TURN_SECONDS = 2e-3
_PAUSE_SECONDS = 3e-3  # until the threads of other libraries have stopped waiting actively for work
_ROUNDS = 25
_NBYTES_AT_ONCE = 24  # of arrays as large as x, when all are there: 20 were seen
_OVERHEAD_SHAPE = (32, 64)
_OVERHEAD_CALLS = 1000


class Task(NamedTuple):
    """What one process measures.

    Attributes
    ----------
    norms : list of str
        From `problems.NORMS`.
    sizes : list of int
        Bytes of x.
    threads : int
        Of every contender.
    huge_pages : bool
        Whether torch asks for them.
    seconds : float
        For the rounds of one contest, if that suffices for `least_rounds`.
    least_rounds : int
        So many in any case.
    houses : list of str
        From `contenders.HOUSES`; `xhat` is the first.
    """

    norms: list[str]
    sizes: list[int]
    threads: int
    huge_pages: bool
    seconds: float
    least_rounds: int
    houses: list[str]


@dataclass(frozen=True)
class Row:
    """One contender in one contest.

    Attributes
    ----------
    norm, direction, shape : str
        What was computed; `overhead` as a direction is the call alone, on a tiny array.
    size : int
        Bytes of x that were asked for.
    nbytes : int
        Bytes of x.
    threads : int
        Of every contender.
    huge_pages : bool
        Whether torch asked for them.
    contender : str
        Its name.
    milliseconds : float
        The median; NaN if it was not timed.
    rate : float
        Necessary traffic per second, GB/s.
    share : float
        Of the rate of the faster copy.
    ratio : float
        Its time over xhat's: above 1, xhat is faster. `out=` is compared with `out=`.
    ulp : float
        Its error in 2^-23 of the largest value of a statistic; NaN for copies.
    note : str
        Why it was not timed, or ''.
    """

    norm: str
    direction: str
    shape: str
    size: int
    nbytes: int
    threads: int
    huge_pages: bool
    contender: str
    milliseconds: float = math.nan
    rate: float = math.nan
    share: float = math.nan
    ratio: float = math.nan
    ulp: float = math.nan
    note: str = ""


def measure(task: Task) -> Generator[list[Row]]:
    """Check and time all contests of a task; one list of rows for each, and one for the overhead of a call.

    Parameters
    ----------
    task : Task
        What is measured.

    Yields
    ------
    list of Row
        The contenders of one contest, those included that did not take part.
    """
    kernels.set_num_threads(task.threads)
    l2 = problems.l2_bytes()
    yield list(_overhead(task))
    for norm in task.norms:
        for size in task.sizes:
            problem = problems.problem(norm, size)
            if _NBYTES_AT_ONCE * problem.nbytes > available_bytes():
                note = f"left out: expected {_NBYTES_AT_ONCE * problem.nbytes >> 20} MB of free memory, got less"
                for direction in DIRECTIONS:
                    yield [_row(task, problem, size, direction, "xhat", note=note)]
                continue
            data = problems.make(problem)
            for direction in DIRECTIONS:
                yield _contest(task, problem, size, data, direction, l2)
            del data
            gc.collect()


def contests(task: Task) -> int:
    """Return how many lists of rows `measure` yields.

    Parameters
    ----------
    task : Task
        What is measured.

    Returns
    -------
    int
        The overhead included.
    """
    return 1 + len(DIRECTIONS) * len(task.norms) * len(task.sizes)


def _contest(task: Task, problem: Problem, size: int, data: Data, direction: Direction, l2: int) -> list[Row]:
    """Check and time all who compute one problem."""
    ulp: dict[str, float] = {}
    notes: dict[str, str] = {}
    calls: dict[str, Callable[[], object]] = {}
    for contender in _present(task.houses, problem, data, direction, notes):
        error, rest = errors(contender.arrays(contender.call()), problem, data, direction)
        ulp[contender.name] = error / EPS32
        if error < LARGEST_ERROR and rest < LARGEST_ERROR:  # and not NaN
            calls[contender.name] = contender.call
        else:
            what = error if not error < LARGEST_ERROR else rest
            notes[contender.name] = f"WRONG by {what:.1e} of the largest value: not timed"
    calls |= _copies(data.x)
    times = take_turns(calls, task)
    copied = min(times[name] for name in COPIES if name in times)
    traffic = problem.traffic(direction, l2)
    rows: list[Row] = []
    for name in dict.fromkeys([*calls, *notes]):
        seconds = times.get(name, math.nan)
        moved = 2 * problem.nbytes if name in COPIES else traffic
        rows.append(
            _row(
                task,
                problem,
                size,
                direction,
                name,
                milliseconds=1e3 * seconds,
                rate=moved / seconds / 1e9,
                share=moved / seconds / (2 * problem.nbytes / copied),
                ratio=seconds / times.get(opponent(name), math.nan),
                ulp=ulp.get(name, math.nan),
                note=notes.get(name, ""),
            )
        )
    return rows


def _row(
    task: Task, problem: Problem, size: int, direction: str, contender: str, *, note: str = "", **numbers: float
) -> Row:
    return Row(
        problem.norm,
        direction,
        "x".join(map(str, problem.shape)),
        size,
        problem.nbytes,
        task.threads,
        task.huge_pages,
        contender,
        note=note,
        **numbers,
    )


def opponent(contender: str) -> str:
    """Return which call of xhat a contender is compared with: into given memory like itself, or into fresh.

    Parameters
    ----------
    contender : str
        Its name.

    Returns
    -------
    str
        `xhat` or `xhat out=`.
    """
    return "xhat out=" if contender.endswith("out=") or contender in COPIES else "xhat"


def _present(
    houses: Sequence[str], problem: Problem, data: Data, direction: Direction, notes: dict[str, str]
) -> Iterator[Contender]:
    """Give the contenders that are there; the notes say why others are not."""
    for house in houses:
        try:
            yield from contenders.HOUSES[house](problem, data, direction)
        except Absent as absent:
            notes[house] = str(absent)


def errors(got: Sequence[Array | None], problem: Problem, data: Data, direction: Direction) -> tuple[float, float]:
    """Compare what a contender computed with the truth.

    Parameters
    ----------
    got : sequence of numpy.ndarray
        (y,) or (dx, dgamma, dbeta); the latter two may be missing.
    problem : Problem
        What was computed.
    data : Data
        The truth.
    direction : str
        `forward` or `backward`.

    Returns
    -------
    error : float
        Of y, relative to the largest |y| of its statistic; or of dx, relative to the largest |gamma · dy| times rstd.
    rest : float
        The larger one of dgamma and dbeta, relative to their largest entry.
    """
    truth, scale = (data.y, data.y_scale) if direction == "forward" else (data.dx, data.dx_scale)
    first = got[0]
    if first is None or first.size != truth.size:
        return math.inf, 0.0
    error = float((np.abs(first.reshape(problem.view) - truth) / scale).max())
    rest = [
        np.abs(one.reshape(-1) - true).max() / np.abs(true).max()
        for one, true in zip(got[1:], (data.dgamma, data.dbeta), strict=False)
        if one is not None
    ]
    return error, float(np.max([0.0, *rest]))  # NaN, if one is


def _copies(x: Array) -> dict[str, Callable[[], object]]:
    """Return the yardsticks, which copy x into memory that is there."""
    out = np.zeros_like(x)
    calls: dict[str, Callable[[], object]] = {"copy": lambda: np.copyto(out, x)}
    if kernels.native:
        flat, flat_out = x.reshape(-1), out.reshape(-1)
        calls["copy streaming"] = lambda: kernels.native.copy(flat, flat_out)
    return calls


def take_turns(calls: dict[str, Callable[[], object]], task: Task) -> dict[str, float]:
    """Return the median seconds of each call.

    A turn is one call, or as many as fill two milliseconds. Who comes next finds what the last one left in the cache,
    so the order is drawn anew in every round.

    Parameters
    ----------
    calls : dict of str to callable
        By name; each was called before.
    task : Task
        For the number of rounds.

    Returns
    -------
    dict of str to float
        Seconds of one call.
    """
    pause = _PAUSE_SECONDS if task.threads > 1 else 0.0
    repeats = {name: _repeats(_turn(call, 1)) for name, call in calls.items()}
    start = time.perf_counter()
    repeats = {name: _repeats(_turn(call, repeats[name])) for name, call in calls.items()}  # the first call was cold
    rounds = int(task.seconds / (time.perf_counter() - start + pause * len(calls)))
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(min(max(rounds, task.least_rounds), _ROUNDS)):
        for name in map(str, rng.permutation(list(calls))):
            if pause:
                time.sleep(pause)
            times[name].append(_turn(calls[name], repeats[name]))
    return {name: float(np.median(each)) for name, each in times.items()}


def _repeats(seconds: float) -> int:
    return max(1, int(_TURN_SECONDS / seconds))


def _turn(call: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of so many calls in a row."""
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return max(float(np.median(times)), 1e-9)


def _overhead(task: Task) -> Iterator[Row]:
    """Time batch norm's forward call on an array so small that only the call counts."""
    size = 4 * math.prod(_OVERHEAD_SHAPE)
    problem = Problem("batch", _OVERHEAD_SHAPE, _OVERHEAD_SHAPE, (0,), (1, _OVERHEAD_SHAPE[1]))
    data = problems.make(problem)
    xhat_seconds: dict[str, float] = {}
    for contender in _present(task.houses, problem, data, "forward", {}):
        _turn(contender.call, _OVERHEAD_CALLS // 10)
        seconds = _turn(contender.call, _OVERHEAD_CALLS)
        xhat_seconds.setdefault(contender.name, seconds)
        ratio = seconds / xhat_seconds[opponent(contender.name)]
        yield _row(task, problem, size, "overhead", contender.name, milliseconds=1e3 * seconds, ratio=ratio)


def available_bytes() -> int:
    """Return how much memory this process may still take, as far as the system tells.

    Returns
    -------
    int
        Bytes; 2 GB where it does not tell.
    """
    found: list[int] = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) << 10)
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            found.append(int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return min(found, default=2 << 30)
