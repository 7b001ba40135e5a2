"""What is made of the measurements: tables of strings, means of ratios, and files that can be read again."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from xhat.bench.measuring import COPIES, Row

_HEADS = {
    "norm": "norm",
    "direction": "direction",
    "shape": "shape",
    "size": "size",
    "nbytes": "bytes",
    "threads": "threads",
    "huge_pages": "torch huge pages",
    "contender": "contender",
    "milliseconds": "milliseconds",
    "rate": "GB/s",
    "share": "share of copy",
    "ratio": "times xhat",
    "ulp": "error in ULP",
    "note": "note",
}
_OVERHEAD = "overhead"


_BRIEF = {  # and the order in which they stand
    "torch": "torch",
    "torch, huge pages": "+huge",
    "torch out=": "out=",
    "torch out=, huge pages": "+huge",
    "torch.compile": "compile",
    "torch.compile, huge pages": "+huge",
    "jax": "jax",
    "onnxruntime": "onnx",
    "numpy": "numpy",
}


class Table(NamedTuple):
    """Strings in columns.

    Attributes
    ----------
    heads : list of str
        One for each column.
    rows : list of list of str
        As many in each.
    """

    heads: list[str]
    rows: list[list[str]]


class Mean(NamedTuple):
    """How one contender did against xhat.

    Attributes
    ----------
    threads : int
        Of both.
    contender : str
        With its setting: `torch, huge pages`.
    mean : float
        The geometric mean of the ratios.
    worst : float
        The smallest ratio.
    where : str
        The contest of the smallest ratio.
    ulp : float
        Its largest error.
    contests : int
        How many there were.
    """

    threads: int
    contender: str
    mean: float
    worst: float
    where: str
    ulp: float
    contests: int


def size_text(size: int) -> str:
    """Write a number of bytes as the command line takes it.

    Parameters
    ----------
    size : int
        Bytes.

    Returns
    -------
    str
        `64K`, `8M`, or the number itself.
    """
    for unit, bits in (("G", 30), ("M", 20), ("K", 10)):
        if size and size % (1 << bits) == 0:
            return f"{size >> bits}{unit}"
    return str(size)


def case_text(norm: str, direction: str, size: int) -> str:
    """Write a contest in few letters.

    Parameters
    ----------
    norm, direction : str
        What is computed.
    size : int
        Bytes of x.

    Returns
    -------
    str
        `batch NCHW fwd 8M`.
    """
    return f"{norm} {direction[:1]}wd {size_text(size)}"


def multiple(ratio: float) -> str:
    """Write a ratio with three digits.

    Parameters
    ----------
    ratio : float
        Positive.

    Returns
    -------
    str
        `0.42`, `12.3`, `192`.
    """
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"


def label(row: Row) -> str:
    """Name a contender with the setting that matters to it.

    Parameters
    ----------
    row : Row
        A measurement.

    Returns
    -------
    str
        `torch`, `torch, huge pages`, `jax`, ….
    """
    return f"{row.contender}, huge pages" if row.huge_pages and row.contender.startswith("torch") else row.contender


def timed(rows: Iterable[Row]) -> list[Row]:
    """Return what was timed and is shown: of two settings of torch's memory, the others count in the first.

    Parameters
    ----------
    rows : iterable of Row
        All that was measured.

    Returns
    -------
    list of Row
        In the same order.
    """
    kept: dict[tuple[str, str, int, int, str], Row] = {}
    for row in rows:
        if not math.isnan(row.milliseconds):
            kept.setdefault((row.norm, row.direction, row.size, row.threads, label(row)), row)
    return list(kept.values())


def by_contest(rows: Iterable[Row]) -> dict[tuple[str, str, int], dict[str, Row]]:
    """Sort what was timed by norm, direction and size, and by label within.

    Parameters
    ----------
    rows : iterable of Row
        Of one number of threads.

    Returns
    -------
    dict
        Without the overhead.
    """
    found: dict[tuple[str, str, int], dict[str, Row]] = {}
    for row in timed(rows):
        if row.direction != _OVERHEAD:
            found.setdefault((row.norm, row.direction, row.size), {})[label(row)] = row
    return found


def of_xhat(rows: Iterable[Row]) -> Table:
    """Tell what xhat takes, and how near it is to a copy.

    Parameters
    ----------
    rows : iterable of Row
        Of one number of threads.

    Returns
    -------
    Table
        One row for each contest.
    """
    table = Table(["", "ms", "out= ms", "GB/s", "copy", "stream", "share", "ULP"], [])
    for contest, there in by_contest(rows).items():
        if "xhat" not in there or "xhat out=" not in there:
            continue
        fresh, given = there["xhat"], there["xhat out="]
        copies = [f"{there[name].rate:.1f}" if name in there else "-" for name in COPIES]
        times = [f"{one.milliseconds:.3g}" for one in (fresh, given)]
        share = f"{100 * given.share:.0f} %"
        table.rows.append([case_text(*contest), *times, f"{given.rate:.1f}", *copies, share, f"{fresh.ulp:.2f}"])
    return table


def of_others(rows: Iterable[Row]) -> Table:
    """Tell the times of the others as multiples of xhat's.

    Parameters
    ----------
    rows : iterable of Row
        Of one number of threads.

    Returns
    -------
    Table
        One row for each contest, one column for each contender.
    """
    names = contenders(rows)
    table = Table(["", *(_BRIEF[name] for name in names)], [])
    for contest, there in by_contest(rows).items():
        cells = [multiple(there[name].ratio) if name in there else "-" for name in names]
        table.rows.append([case_text(*contest), *cells])
    return table


def contenders(rows: Iterable[Row]) -> list[str]:
    """Return the labels of those who are compared with xhat; each setting of torch beside the other.

    Parameters
    ----------
    rows : iterable of Row
        All that was measured.

    Returns
    -------
    list of str
        Without xhat and the copies.
    """
    found = {label(row) for row in timed(rows)}
    return [name for name in _BRIEF if name in found]


def means(rows: Iterable[Row]) -> list[Mean]:
    """Sum up the ratios of each contender and number of threads.

    Parameters
    ----------
    rows : iterable of Row
        All that was measured.

    Returns
    -------
    list of Mean
        Only of contenders that were timed.
    """
    found: list[Mean] = []
    every = timed(rows)
    for threads in dict.fromkeys(row.threads for row in every):
        here = [row for row in every if row.threads == threads and row.direction != _OVERHEAD]
        for name in contenders(here):
            own = [row for row in here if label(row) == name and row.ratio > 0]
            if not own:
                continue
            worst = min(own, key=lambda row: row.ratio)
            found.append(
                Mean(
                    threads,
                    name,
                    geometric_mean(row.ratio for row in own),
                    worst.ratio,
                    case_text(worst.norm, worst.direction, worst.size),
                    max(row.ulp for row in own),
                    len(own),
                )
            )
    return found


def geometric_mean(ratios: Iterable[float]) -> float:
    """Return the number whose logarithm is the mean of the logarithms.

    Parameters
    ----------
    ratios : iterable of float
        All positive.

    Returns
    -------
    float
        NaN if there are none.
    """
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def summary(rows: Iterable[Row]) -> Table:
    """Write the means as strings.

    Parameters
    ----------
    rows : iterable of Row
        All that was measured.

    Returns
    -------
    Table
        One row for each contender and number of threads.
    """
    return Table(
        ["", "worst case", "threads", "mean", "worst", "cases", "ULP"],
        [
            [
                m.contender,
                m.where,
                str(m.threads),
                multiple(m.mean),
                multiple(m.worst),
                str(m.contests),
                f"{m.ulp:.3g}",
            ]
            for m in means(rows)
        ],
    )


def overhead(rows: Iterable[Row]) -> str:
    """Say what a call costs where there is almost nothing to compute.

    Parameters
    ----------
    rows : iterable of Row
        Of one number of threads.

    Returns
    -------
    str
        One line; '' if it was not measured.
    """
    found = [row for row in timed(rows) if row.direction == _OVERHEAD and not row.huge_pages]
    if not found:
        return ""
    times = ", ".join(f"{row.contender} {1e3 * row.milliseconds:.1f}" for row in found)
    return f"One {found[0].norm} norm forward of {found[0].shape}, microseconds: {times}"


def absences(rows: Iterable[Row]) -> list[str]:
    """Say once for each reason who did not take part, those that were wrong excepted.

    Parameters
    ----------
    rows : iterable of Row
        All that was measured.

    Returns
    -------
    list of str
        `jax: not installed`, say.
    """
    return list(
        dict.fromkeys(
            f"{row.norm} {size_text(row.size)} {row.note}"
            if row.note.startswith("left out")
            else f"{row.contender}: {row.note}"
            for row in rows
            if row.note and not is_wrong(row)
        )
    )


def is_wrong(row: Row) -> bool:
    """Tell whether a contender computed something else.

    Parameters
    ----------
    row : Row
        A measurement.

    Returns
    -------
    bool
        Such a contender has no time.
    """
    return row.note.startswith("WRONG")


def wrong(rows: Iterable[Row]) -> list[str]:
    """Say which contender computed something else, and where.

    Parameters
    ----------
    rows : iterable of Row
        All that was measured.

    Returns
    -------
    list of str
        One line each.
    """
    return list(
        dict.fromkeys(
            f"{row.norm} {row.direction} {row.shape}, {row.threads} threads: {label(row)} is {row.note}"
            for row in rows
            if is_wrong(row)
        )
    )


def csv_text(rows: Sequence[Row], facts: Mapping[str, str]) -> str:
    """Write the measurements as CSV, in every row the machine too.

    Parameters
    ----------
    rows : sequence of Row
        All that was measured.
    facts : mapping of str to str
        The machine and the versions.

    Returns
    -------
    str
        With a line of headings.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_HEADS.values(), *facts])
    for row in rows:
        cells = [f"{value:.6g}" if isinstance(value, float) else value for value in asdict(row).values()]
        writer.writerow([*(int(cell) if isinstance(cell, bool) else cell for cell in cells), *facts.values()])
    return file.getvalue()


def read_csv(path: Path) -> tuple[list[Row], dict[str, str]]:
    """Read what `csv_text` wrote.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    rows : list of Row
        All that was measured.
    facts : dict of str to str
        The machine and the versions.

    Raises
    ------
    ValueError
        If the file has other columns.
    """
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    if not lines or not set(_HEADS.values()) <= set(lines[0]):
        raise ValueError(f"bench: expected {path} with the columns of xhat bench --csv, got others. Measure again.")
    rows = [
        Row(
            norm=line["norm"],
            direction=line["direction"],
            shape=line["shape"],
            size=int(line["size"]),
            nbytes=int(line["bytes"]),
            threads=int(line["threads"]),
            huge_pages=line["torch huge pages"] == "1",
            contender=line["contender"],
            milliseconds=float(line["milliseconds"]),
            rate=float(line["GB/s"]),
            share=float(line["share of copy"]),
            ratio=float(line["times xhat"]),
            ulp=float(line["error in ULP"]),
            note=line["note"],
        )
        for line in lines
    ]
    return rows, {name: value for name, value in lines[0].items() if name not in _HEADS.values()}


def json_text(rows: Sequence[Row], facts: Mapping[str, str]) -> str:
    """Write the measurements as JSON; what was not timed is null.

    Parameters
    ----------
    rows : sequence of Row
        All that was measured.
    facts : mapping of str to str
        The machine and the versions.

    Returns
    -------
    str
        An object with `facts`, `rows` and `means`.
    """

    def known(value: object) -> object:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    written = [{name: known(value) for name, value in asdict(row).items()} for row in rows]
    summed = [{name: known(value) for name, value in mean._asdict().items()} for mean in means(rows)]
    return json.dumps({"facts": dict(facts), "rows": written, "means": summed}, indent=2)
