"""`xhat check`: hand-written gradients proved, or what exactly is wrong with them."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from xhat.cli.console import Refusal, console, errors, refusing, say, warn
from xhat.training.checkpoints import write_whole
from xhat.verify import certificate, formats, sandbox, source
from xhat.verify.formats import Checked
from xhat.verify.report import FileReport, Level, PairReport, Word
from xhat.verify.sandbox import Ending, Settings

_ENGINE = "xhat.verify.checking:check_file"
_LEVELS = [str(level) for level in Level if level is not Level.NONE]
_SPECS = ["cs231n", "torch", "none"]
_FORMATS: dict[str, Callable[[Sequence[Checked], Level], str]] = {
    "text": formats.text,
    "json": formats.json,
    "junit": formats.junit,
    "sarif": formats.sarif,
    "html": formats.html,
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)i?B?\s*", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SMALLEST_MEMORY = 64 << 20
_SKIPPED_FOLDERS = {"__pycache__", "site-packages", "node_modules"}

# From best to worst: of several files the worst decides.
_REACHED, _INCONCLUSIVE, _FINDINGS, _LIMIT, _USAGE = 0, 3, 1, 4, 2
_ORDER = (_REACHED, _INCONCLUSIVE, _FINDINGS, _LIMIT, _USAGE)


def _one_of(choices: Sequence[str], told: str) -> typer.models.OptionInfo:
    def known(value: str | None) -> str | None:
        if value is not None and value not in choices:
            raise typer.BadParameter(f"expected one of {', '.join(choices)}, got {value!r}.")
        return value

    return typer.Option(help=told, metavar="|".join(choices), callback=known)


class _Limits(NamedTuple):
    """What the code of a file may take."""

    timeout: float
    memory: int


def check(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="Python files, notebooks, or folders of them.")
    ] = None,
    pair: Annotated[str | None, typer.Option(help="Only this pair: batchnorm, say.", show_default="all")] = None,
    spec: Annotated[
        str | None,
        _one_of(_SPECS, "Whose signatures they have; none: only whether the gradient is that of the forward pass."),
    ] = None,
    level: Annotated[str, _one_of(_LEVELS, "What every gradient must reach; numeric runs floats alone.")] = "exact",
    format: Annotated[str, _one_of(list(_FORMATS), "How the report is written.")] = "text",
    output: Annotated[Path | None, typer.Option(help="Write the report to a file.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for each pair.")] = 10.0,
    memory: Annotated[str, typer.Option(help="What the code may take beyond Python and NumPy: 500M, 1G.")] = "1G",
    diff: Annotated[
        bool, typer.Option("--diff", help="Print only the repairs, for patch -p0 or git apply -p0.")
    ] = False,
    certificate: Annotated[Path | None, typer.Option(help="Write what was found and from what evidence.")] = None,
    recheck: Annotated[Path | None, typer.Option(help="Check again what a certificate says, and nothing else.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws what is random.")] = 0,
) -> int:
    """Prove hand-written gradients, or say what is wrong with them.

    Pairs such as batchnorm_forward and batchnorm_backward are found by their names.
    Their code runs in a limited process: that stops mistakes, not malice.
    For the code of strangers use a container.

    Exit codes, of which the worst of all files counts, the worst first:
    2 wrong command line, or a file that cannot be imported;
    4 a limit of time or memory was hit, or the code ended its process;
    1 something is wrong;
    3 nothing is wrong, but the level was not reached;
    0 all gradients reached the level, and nothing is wrong.
    """
    if not math.isfinite(timeout):
        raise Refusal(f"xhat check: expected --timeout in seconds, got {timeout:g}. Give 60, say.", 2)
    limits = _Limits(timeout, _bytes(memory))
    settings = Settings(pair, spec, Level[level.upper()], seed)
    if recheck is not None:
        if files or certificate or output or diff or pair or spec:
            raise Refusal(
                "xhat check: expected --recheck with no file and no other choice, got more. "
                "The certificate says what is checked.",
                2,
            )
        return _recheck(recheck, limits)
    if not files:
        raise Refusal("xhat check: expected a file to check, got none. Name a .py or .ipynb file, or a folder.", 2)
    if diff and format != "text":
        raise Refusal(f"xhat check: expected --diff or --format {format}, got both. Choose one.", 2)
    found = list(_found(files, pair))
    if certificate is not None and len(found) != 1:
        raise Refusal(f"xhat check: expected one file for --certificate, got {len(found)}. Name one.", 2)
    before = _read(found[0]) if certificate is not None else b""
    checked = _check_all(found, settings, limits)
    if diff:
        _give(_patch(checked), output)
    elif format == "text" and output is None:
        written = formats.text(checked, settings.level, colour=True, width=console.width)
        console.print(Text.from_ansi(written.rstrip("\n")), soft_wrap=True)
    else:
        _give(_FORMATS[format](checked, settings.level), output)
    if os.environ.get("GITHUB_ACTIONS") == "true" and (output is not None or (format == "text" and not diff)):
        for line in formats.github(checked, settings.level).splitlines():
            say(line)
    if certificate is not None:
        _certify(certificate, found[0], before, checked[0], settings)
    return max((_code(one, settings.level) for one in checked), key=_ORDER.index)


def _bytes(memory: str) -> int:
    size = _SIZE.fullmatch(memory)
    number = int(float(size[1]) * 2 ** _UNITS[size[2].lower()]) if size else 0
    if not _SMALLEST_MEMORY <= number < 1 << 50:
        raise Refusal(f"xhat check: expected --memory of at least 64M, got {memory!r}. Give 1G, say.", 2)
    return number


def _found(paths: Sequence[Path], pair: str | None) -> Iterator[Path]:
    """Give the files that are named, and those in folders that hold pairs, or the pair that is asked for."""
    for path in dict.fromkeys(paths):
        if not path.is_dir():
            yield path
            continue
        inside = [file for file in sorted(path.rglob("*")) if _may_hold_pairs(file, path, pair)]
        if not inside and pair is not None:
            raise Refusal(
                f"xhat check: expected --pair as a pair of some file in {path}, got {pair!r}, which none holds. "
                "Check the name: batchnorm for batchnorm_forward.",
                2,
            )
        if not inside:
            raise Refusal(
                f"xhat check: expected files with a forward and a backward pass in {path}, got none. "
                "Name a file, or call the functions x_forward and x_backward.",
                2,
            )
        yield from inside


def _may_hold_pairs(file: Path, folder: Path, pair: str | None) -> bool:
    """Whether a file of a folder is to be checked; one that cannot be read is, if it speaks of a backward pass."""
    parts = file.relative_to(folder).parts
    if file.suffix not in (".py", ".ipynb") or not file.is_file():
        return False
    if any(part.startswith(".") or part in _SKIPPED_FOLDERS for part in parts):
        return False
    try:
        text = source.read(file)
        return bool(_names(text)) if pair is None else pair in [found.name for found in source.pairs(text)]
    except source.SourceError:
        try:
            return b"backward" in file.read_bytes()
        except OSError:
            return False


def _names(text: source.Source) -> list[str]:
    """Return the pairs of a file that can be called, in the order in which they stand."""
    return [
        pair.name
        for pair in source.pairs(text)
        if pair.forward and (pair.backward or pair.kind == "loss") and pair.kind in ("functions", "loss")
    ]


def _check_all(paths: Sequence[Path], settings: Settings, limits: _Limits) -> list[Checked]:
    """Check the files one after the other, with a bar on a terminal."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:.0f}/{task.total:.0f} pairs"),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    checked: list[Checked] = []
    with bar:
        shown = bar.add_task("", total=0)
        for path in paths:
            label = formats.one_line(path.name)

            def on_start(total: int, label: str = label) -> None:
                bar.update(shown, description=label, completed=0, total=total)

            def on_pair(pair: PairReport) -> None:
                bar.advance(shown)

            checked.append(_check(path, settings, limits, on_start, on_pair))
    return checked


def _check(
    path: Path,
    settings: Settings,
    limits: _Limits,
    on_start: Callable[[int], None] = lambda _: None,
    on_pair: Callable[[PairReport], None] = lambda _: None,
) -> Checked:
    """Check one file; the pairs after one that met a limit are checked in processes of their own."""
    name = str(path)
    try:
        text = source.read(path)
        names = _names(text)
    except source.SourceError as error:
        return Checked(FileReport(name, error=str(error), error_line=error.line))
    if settings.pair is not None:
        every = [found.name for found in source.pairs(text)]
        if settings.pair not in every:
            close = difflib.get_close_matches(settings.pair, every, 1) or every
            told = (
                f"Choose one of: {', '.join(close)}." if close else "It holds no pair of a forward and a backward pass."
            )
            raise Refusal(f"xhat check: expected --pair as a pair of {name}, got {settings.pair!r}. {told}", 2)
        names = [settings.pair]
    on_start(len(names))
    whole = _run(path, settings, limits, len(names), on_pair)
    report, outcomes = whole.report, [whole]
    if report is None:
        report = FileReport(name, whole.pairs)
        if not whole.pairs and whole.ending in (Ending.FAILED, Ending.EXITED, Ending.RECURSION):
            report = FileReport(name, error=whole.message)
        elif settings.pair is None:
            outcomes += _go_on(path, settings, limits, names, whole, on_pair)
        if report.error is None:
            report = FileReport(name, _pairs(names, outcomes))
    return Checked(
        replace(report, file=name),
        text.text,
        text.lines,
        " ".join(dict.fromkeys(one.message for one in outcomes if one.message)) if report.error is None else "",
        "".join(one.printed for one in outcomes),
        sum(one.dropped for one in outcomes),
        tuple(dict.fromkeys(act for one in outcomes for act in one.refused)),
        (*text.notes, *dict.fromkeys(note for one in outcomes for note in one.notes)),
        sum(one.seconds for one in outcomes),
    )


def _run(
    path: Path, settings: Settings, limits: _Limits, steps: int, on_pair: Callable[[PairReport], None]
) -> sandbox.Outcome:
    with refusing(2):
        return sandbox.run_limited(
            sandbox.Task(path, settings, _ENGINE),
            timeout=limits.timeout,
            memory=limits.memory,
            steps=steps,
            on_pair=on_pair,
        )


def _go_on(
    path: Path,
    settings: Settings,
    limits: _Limits,
    names: Sequence[str],
    first: sandbox.Outcome,
    on_pair: Callable[[PairReport], None],
) -> Iterator[sandbox.Outcome]:
    """Check the pairs after the one that ended the process, until two in a row say nothing: then it is the import."""
    done = {pair.pair for pair in first.pairs}
    waiting = [name for name in names if name not in done][1:]
    silent = not first.pairs
    for name in waiting:
        outcome = _run(path, settings._replace(pair=name), limits, 1, on_pair)
        yield outcome
        if silent and not outcome.pairs:
            return
        silent = not outcome.pairs


def _pairs(names: Sequence[str], outcomes: Sequence[sandbox.Outcome]) -> list[PairReport]:
    """Put the pairs that were finished and those that were not into the order of the file."""
    done = {pair.pair: pair for one in outcomes for pair in (one.report.pairs if one.report else one.pairs)}
    endings = iter([outcome.ending for outcome in outcomes if outcome.ending is not Ending.DONE])
    missing = {name: PairReport(name, limit=str(next(endings, "not reached"))) for name in names if name not in done}
    return [*(done.get(name) or missing[name] for name in names), *(done[name] for name in done if name not in names)]


def _code(checked: Checked, level: Level) -> int:
    """Return the exit code of one file."""
    report = checked.report
    if report.error is not None or not report.pairs:
        return _USAGE
    if checked.stopped or any(pair.limit for pair in report.pairs):
        return _LIMIT
    if any(pair.wrong for pair in report.pairs):
        return _FINDINGS
    return _REACHED if all(pair.level >= level for pair in report.pairs) else _INCONCLUSIVE


def _patch(checked: Sequence[Checked]) -> str:
    repairs = formats.patch(checked)
    if repairs.left_out:
        warn(
            f"{repairs.left_out} repairs are left out: they touch the same lines as another, or a notebook. "
            "Apply these and check again."
        )
    return repairs.diff


def _give(written: str, output: Path | None) -> None:
    """Write a report to a file, or as it is to standard output."""
    data = written.encode("utf-8", "replace")
    if output is not None:
        with refusing():
            write_whole(output, data)
        return
    try:
        console.file.write(data.decode())
    except OSError:  # whoever read it went away
        console.on_broken_pipe()


def _read(path: Path) -> bytes:
    with refusing(2):
        return path.read_bytes()


def _certify(path: Path, file: Path, before: bytes, checked: Checked, settings: Settings) -> None:
    if _read(file) != before:
        raise Refusal(f"xhat check: expected {file} to stay as it is, got changes during the check. Check it again.")
    with refusing():
        write_whole(path, certificate.issue(checked.report, before, settings, path.parent).encode())


def _recheck(path: Path, limits: _Limits) -> int:
    """Check a certificate again and return the exit code."""
    runs: list[Checked] = []

    def run(file: Path, settings: Settings) -> FileReport:
        runs.append(_check(file, settings, limits))
        return runs[-1].report

    with refusing(2):
        result = certificate.recheck(path, run)
    say(formats.one_line(f"{path}: of {result.file}"), style="bold")
    for told in result.confirmed:
        say(f"  confirmed  {formats.one_line(told)}", style="green")
    for told in result.differences:
        say(f"  NOT FOUND AGAIN  {formats.one_line(told)}", style="red")
    seeds = " and ".join(map(str, result.seeds))
    say(f"{len(result.confirmed)} confirmed, {len(result.differences)} not, with seeds {seeds}")
    codes = [_REACHED, *(_USAGE for one in runs if one.report.error), *(_LIMIT for one in runs if one.stopped)]
    if result.differences:
        codes.append(_FINDINGS if any(Word.DISPROVED in told for told in result.differences) else _INCONCLUSIVE)
    return max(codes, key=_ORDER.index)
