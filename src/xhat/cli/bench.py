"""`xhat bench`: the speed of the norms on this machine, beside whatever else is installed."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from xhat import kernels
from xhat.cli import machine
from xhat.cli.console import Refusal, complain, errors, refusing, say, show
from xhat.kernels.threads import MOST_THREADS
from xhat.training.checkpoints import write_whole

if TYPE_CHECKING:
    from xhat.bench.measuring import Row, Task

_SIZE = re.compile(r"(\d{1,15})\s*([kMG]?)i?B?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30}
_LARGEST_SIZE = 1 << 40

_SHORT = [4 << 10]
_USUAL = [64 << 10, 4 << 20, 32 << 20]
_FULL = [4 << 10, 64 << 10, 1 << 20, 8 << 20, 64 << 20, 512 << 20]
_QUIET = 0.5  # CPUs that others use
_FRAMEWORKS = ("numpy", "torch", "jax", "onnxruntime")


def bench(
    suite: Annotated[str, typer.Argument(metavar="[norms]", help="What is measured.")] = "norms",
    norm: Annotated[list[str] | None, typer.Option(help="Only these norms.", show_default="all")] = None,
    size: Annotated[
        list[str] | None, typer.Option(help="Bytes of the arrays: 64K,8M.", show_default="64K,4M,32M")
    ] = None,
    threads: Annotated[
        list[str] | None, typer.Option(help="Numbers of threads: 1,2.", show_default="1 and all CPUs")
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Only these: torch,jax, say.", show_default="all but torch.compile")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="All sizes from 4K to 512M, and torch.compile.")] = False,
    short: Annotated[bool, typer.Option("--short", help="A tiny size, in seconds: does it run?")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every measurement to a file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the ratios to a PNG file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> int:
    """Measure the norms beside torch, JAX, ONNX Runtime and NumPy, whichever are installed, and a plain copy.

    Every result is checked first; a wrong one is not timed. Takes about three minutes. Lists are written with commas.

    Exit codes: 0 done; 1 a contender was wrong, or a process died; 2 wrong command line.
    """
    from xhat.bench import tables  # not above: the other commands start without it

    if suite != "norms":
        raise Refusal(f"xhat bench: expected norms, got {suite!r}. Nothing else is measured yet.", 2)
    if full and short:
        raise Refusal("xhat bench: expected --full or --short, got both. Choose one.", 2)
    tasks = _tasks(norm, size, threads, against, full=full, short=short)
    places = [path for path in (csv, plot) if path is not None]
    for path in places:
        if not path.parent.is_dir() or path.is_dir():
            raise Refusal(f"xhat bench: expected a file in a folder that exists, got {path}. Choose another place.", 2)
    known = facts()
    if not as_json:
        show("Machine", ["", ""], known.items(), left=2)
        if float(known["load"]) > _QUIET:
            say("Other programs use the CPUs: expect noise, above all with several threads.", style="yellow")
    rows = _measure(tasks, quiet=as_json)
    wrong = tables.wrong(rows)
    if as_json:
        typer.echo(tables.json_text(rows, known))
    else:
        _conclude(rows)
    for line in wrong:
        complain(f"xhat bench: {line}")
    with refusing():
        if csv is not None:
            write_whole(csv, tables.csv_text(rows, known).encode())
        if plot is not None:
            from xhat.bench.plot import draw

            write_whole(plot, draw(rows, known))
    return 1 if wrong else 0


def _tasks(
    norm: list[str] | None,
    size: list[str] | None,
    threads: list[str] | None,
    against: list[str] | None,
    *,
    full: bool,
    short: bool,
) -> list[Task]:
    """Return one task for each number of threads and each setting of torch's memory."""
    from xhat.bench.contenders import HOUSES
    from xhat.bench.measuring import Task
    from xhat.bench.problems import NORMS

    norms = _words("--norm", norm, NORMS) or list(NORMS)
    sizes = [_bytes(word) for word in _split(size)] or (_SHORT if short else _FULL if full else _USUAL)
    counts = [_threads(word) for word in _split(threads)]
    counts = counts or ([1] if short else [1, kernels.get_num_threads()])
    others = [house for house in HOUSES if house != "xhat"]
    usual = [house for house in others if full or house != "torch.compile"]
    houses = ["xhat", *(_words("--against", against, others) or usual)]
    seconds, least_rounds = (0.01, 2) if short else (1.5, 7) if full else (0.3, 5)
    pages = [False, True] if find_spec("torch") and any(house.startswith("torch") for house in houses) else [False]
    return [
        Task(norms, list(dict.fromkeys(sizes)), count, huge, seconds, least_rounds, houses)
        for count in dict.fromkeys(counts)
        for huge in pages
    ]


def _split(values: list[str] | None) -> list[str]:
    return [word.strip() for value in values or () for word in value.split(",") if word.strip()]


def _words(option: str, values: list[str] | None, known: list[str] | tuple[str, ...]) -> list[str]:
    words = list(dict.fromkeys(_split(values)))
    for word in words:
        if word not in known:
            raise Refusal(f"xhat bench: expected {option} from {', '.join(known)}, got {word!r}. Choose of these.", 2)
    return words


def _bytes(word: str) -> int:
    from xhat.bench.problems import SMALLEST_SIZE

    size = _SIZE.fullmatch(word)
    number = int(size[1]) << _UNITS[size[2].lower()] if size else 0
    if not SMALLEST_SIZE <= number <= _LARGEST_SIZE:
        raise Refusal(f"xhat bench: expected --size from 1K to 1024G, got {word!r}. Give 64K or 8M, say.", 2)
    return number


def _threads(word: str) -> int:
    count = int(word) if word.isascii() and word.isdigit() and len(word) < 10 else 0
    if not 1 <= count <= MOST_THREADS:
        raise Refusal(f"xhat bench: expected --threads from 1 to {MOST_THREADS}, got {word!r}. Give 1,2.", 2)
    return count


def _measure(tasks: list[Task], *, quiet: bool) -> list[Row]:
    """Run the processes one after the other, with a bar on a terminal; the tables follow each number of threads."""
    from xhat.bench import processes
    from xhat.bench.measuring import contests
    from xhat.bench.tables import size_text

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    rows: list[Row] = []
    with bar:
        shown = bar.add_task("loading", total=sum(map(contests, tasks)))
        for number, task in enumerate(tasks):
            try:
                for found in processes.run(task):
                    rows += found
                    if found:
                        last = found[0]
                        told = f"{task.threads} threads, {last.norm} {last.direction} {size_text(last.size)}"
                        bar.update(shown, description=told)
                    bar.advance(shown)
            except RuntimeError as error:
                raise Refusal(str(error)) from error
            is_last = number + 1 == len(tasks) or tasks[number + 1].threads != task.threads
            if is_last and not quiet:
                _report([row for row in rows if row.threads == task.threads], task.threads)
    return rows


def _report(rows: list[Row], threads: int) -> None:
    """Show the tables of one number of threads."""
    from xhat.bench import tables

    own, others = tables.of_xhat(rows), tables.of_others(rows)
    many = f"{threads} thread{'s' if threads > 1 else ''}"
    show(f"\nxhat, {many}: into fresh memory, and into given memory (out=) beside copies", own.heads, own.rows)
    if len(others.heads) > 1:
        show(f"\nTime of others as a multiple of xhat's, {many}", others.heads, others.rows)
        say("+huge: with THP_MEM_ALLOC_ENABLE=1 for torch.  out=: into given memory, as a multiple of xhat's out=")
    line = tables.overhead(rows)
    if line:
        say(f"\n{line}")


def _conclude(rows: list[Row]) -> None:
    """Show the means over everything, and who was not there."""
    from xhat.bench import tables

    summed = tables.summary(rows)
    if summed.rows:
        show("\nGeometric means of the multiples; below 1 the other is faster", summed.heads, summed.rows, left=2)
    for line in tables.absences(rows):
        say(f"not timed: {line}")


def facts() -> dict[str, str]:
    """Collect what the numbers belong to.

    Returns
    -------
    dict of str to str
        The machine, the versions, and how the system gives out large pages.
    """
    from xhat.bench.problems import l2_bytes

    processor = machine.cpu()
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "cpu": f"{processor.name} x {processor.cores}",
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "0",
        "L2": f"{l2_bytes() >> 10}K",
        "system": platform.platform(),
        "python": platform.python_version(),
        "xhat": version("xhat"),
        "commit": _commit(),
        "variant": kernels.variant(),
        **{name: _version(name) for name in _FRAMEWORKS},
        "huge pages": pages.read_text().strip() if pages.exists() else "unknown",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """Return the commit of a source checkout, or ''."""
    here = Path(__file__)
    try:
        for words in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "--short", "HEAD"]):
            done = subprocess.run(
                ["git", "-C", str(here.parent), *words], capture_output=True, text=True, check=True, timeout=10
            )
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
