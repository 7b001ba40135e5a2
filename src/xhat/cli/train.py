"""`xhat train`: check the gradients of a network, train it before the user's eyes, and keep what came."""

from __future__ import annotations

import csv
import io
import itertools
import re
import tempfile
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xhat import datasets, kernels, training
from xhat.cli import machine
from xhat.cli.console import Refusal, refusing, say, show, warn
from xhat.cli.info import versions
from xhat.cli.outcome import Outcome, rate, score
from xhat.cli.run import NO_NORM, SCHEDULES, Parts, Settings, train_all
from xhat.networks import NORMALIZATIONS
from xhat.training import OPTIMIZERS
from xhat.training.checkpoints import write_whole

if TYPE_CHECKING:
    from xhat.datasets import Dataset

_NORMS = (*NORMALIZATIONS, NO_NORM)


def _one_of(choices: Collection[str], told: str, **shown: Any) -> Any:
    """Return an option that takes one of some words, which other files list."""

    def known(word: str | None) -> str | None:
        if word is not None and word not in choices:
            raise typer.BadParameter(f"{word!r} is not one of {', '.join(map(repr, choices))}.")
        return word

    return typer.Option(help=told, metavar="|".join(choices), callback=known, **shown)


def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="digits, fashion-mnist, cifar10, or a .csv, .npz or .parquet file, or a folder.",
        ),
    ],
    target: Annotated[str | None, typer.Option(help="The column of a table to predict.")] = None,
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers, or none.")] = "256,256",
    norm: Annotated[str, _one_of(_NORMS, "The normalization of the hidden layers.")] = "batch",
    compare: Annotated[
        str | None,
        _one_of(
            _NORMS, "Train the same network with this one too, for comparison; none: without any.", show_default=False
        ),
    ] = None,
    dropout: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of hidden values dropped.")] = 0.0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training data.")] = 15,
    batch_size: Annotated[
        int | None, typer.Option(min=2, help="Rows per step.", show_default="128, fewer below 1280 rows")
    ] = None,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="The learning rate at the start.")] = 2e-3,
    optimizer: Annotated[str, _one_of(OPTIMIZERS, "The update rule.")] = "adam",
    schedule: Annotated[
        str, _one_of(SCHEDULES, "The learning rate stays; falls to 0; falls tenfold after each third.")
    ] = "cosine",
    l2: Annotated[float, typer.Option(min=0.0, help="L2 penalty on the weights.")] = 0.0,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1, help="Stop after so many epochs without a better one, and keep the best.", show_default=False
        ),
    ] = None,
    validation: Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of the rows that only judge.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Decides the split, the start and the order.")] = 0,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads.", show_default="all; one for BLAS where products are small"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The run folder, new or empty.", show_default="the next free runs/NAME"),
    ] = None,
) -> None:
    """Train a network, after checking its gradients, and write model, curves and report to a run folder.

    Ctrl-C ends the training and keeps what was reached; a second Ctrl-C ends at once.
    """
    import_module("matplotlib")  # takes a while to load, so it is here; and must be found before training

    if compare == norm:
        raise Refusal(f"xhat train: expected --compare to differ from --norm, got {norm} twice. Change one.", 2)
    widths = _widths(hidden)
    if threads is not None:
        with refusing(2):
            machine.use_threads(threads)
    advice = machine.blas_advice(machine.cpu(), machine.blas())
    if advice:
        warn(advice)
    with refusing():
        read = datasets.load(data, target=target, rng=seed)
    rows_per_step = batch_size or min(128, max(16, len(read.x) // 10))
    settings = Settings(
        data, target, widths, norm, compare, dropout, epochs, rows_per_step, learning_rate, optimizer,
        schedule, l2, patience, validation, seed, threads,
    )  # fmt: skip
    if threads is None:
        sizes = [len(read.features), *widths, len(read.classes or "1")]
        machine.calm_blas(rows_per_step * max(a * b for a, b in itertools.pairwise(sizes)))
    parts = Parts.of(read, settings)
    _announce(read, parts)
    with _run_folder(out, read.name) as folder:
        outcomes = train_all(settings, read, parts, folder)
        _write(settings, read, parts, outcomes, folder)
        _show(outcomes, folder, settings)
    if outcomes[-1].stopped or len(outcomes) < len(settings.norms):
        raise typer.Exit(130)


def _widths(hidden: str) -> tuple[int, ...]:
    """Read `256,256`, or `none` for a linear model."""
    words = [] if hidden.strip().lower() == "none" else hidden.split(",")
    if not all(word.strip().isdecimal() and len(word.strip()) < 10 and int(word) for word in words):
        raise Refusal(
            f"xhat train: expected --hidden as widths with commas between them, got {hidden!r}. "
            "Give 256,256 for two layers, or none.",
            2,
        )
    return tuple(map(int, words))


def _announce(read: Dataset, parts: Parts) -> None:
    kind = f"{len(read.classes)} classes" if read.classes else "a number to predict"
    counts = ", ".join(f"{count:,} {part}" for part, count in _rows(read, parts).items())
    say(f"{read.name}: {len(read.features):,} features, {kind}; rows: {counts}")


def _rows(read: Dataset, parts: Parts) -> dict[str, int]:
    validation = {"validation": len(parts.validation[0])} if parts.validation else {}
    return {"training": len(parts.x), **validation, "test": len(read.x_test)}


@contextmanager
def _run_folder(out: Path | None, name: str) -> Generator[Path]:
    """Make the folder and prove that it can be written to; take it away again if nothing came of the run.

    Without `out` it is the first of runs/NAME, runs/NAME-2, … that does not exist. A folder that holds
    something is never written to, so no run can destroy another.
    """
    try:
        folder = _free_folder(name) if out is None else out
        made = out is None or not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        held = sum(1 for _ in folder.iterdir())
        if held:
            raise Refusal(
                f"xhat train: expected --out as a new or empty folder, got {out} with {held} entries. "
                "Choose another, or leave --out away for the next free runs/NAME."
            )
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Refusal(
            f"xhat train: expected a folder to write to, got {error.filename or out} ({error.strerror}). "
            "Choose another with --out."
        ) from error
    try:
        yield folder
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _free_folder(name: str) -> Path:
    safe = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "run"
    number_ = 1
    while True:
        folder = Path("runs") / (safe if number_ == 1 else f"{safe}-{number_}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number_ += 1
        else:
            return folder


def _write(settings: Settings, read: Dataset, parts: Parts, outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write everything of the run folder but the models, which are there already."""
    from xhat.cli.curves import draw_curves
    from xhat.cli.report import Report

    title = f"{read.name} · {' and '.join(outcome.label for outcome in outcomes)}"
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["network", *training.Epoch._fields])
    for outcome in outcomes:
        writer.writerows([outcome.label, *epoch] for epoch in outcome.epochs)
    with refusing():
        write_whole(folder / "history.csv", table.getvalue().encode())
    picture = draw_curves(title, outcomes)
    processor = machine.cpu()
    page = Report(
        title=title,
        written=datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
        data=read,
        target=settings.target or "class",
        rows=_rows(read, parts),
        outcomes=outcomes,
        curves=picture,
        settings=settings.options(),
        versions={name: number for name, number in versions().items() if number},
        machine=f"{processor.name}, {processor.cores} cores; {kernels.variant()} kernels, "
        f"{kernels.get_num_threads()} threads",
        command=settings.command(),
    )
    with refusing():
        write_whole(folder / "curves.png", picture)
        write_whole(folder / "report.html", page.to_html().encode())


def _show(outcomes: Sequence[Outcome], folder: Path, settings: Settings) -> None:
    name = outcomes[0].network.score_name
    parts = list(outcomes[0].results)
    rows = [
        [
            outcome.label,
            *(score(name, outcome.results[part].score) for part in parts),
            *([str(outcome.best.epoch) if outcome.best is not None else "–"] if settings.patience else []),
            f"{outcome.seconds:.2f}",
            rate(outcome.samples_per_second),
        ]
        for outcome in outcomes
    ]
    show(f"\nResults: {name}", ["", *parts, *(["of epoch"] if settings.patience else []), "seconds", "samples/s"], rows)
    say(f"\nWritten to {folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
