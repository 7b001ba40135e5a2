"""The training shown while it runs: one line per epoch, and on a terminal a bar below them."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from xhat.cli.console import console, say
from xhat.cli.outcome import number, rate, score

if TYPE_CHECKING:
    from xhat import training

_REDRAW_SECONDS = 0.1


class Live:
    """Shows one training run; give its two methods to `Trainer.fit`.

    Parameters
    ----------
    epochs : int
        How many were asked for.
    score_name : str
        `accuracy` or `R²`.
    """

    def __init__(self, epochs: int, score_name: str) -> None:
        self._score_name = score_name
        self._epochs = epochs
        self._next_redraw = 0.0
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn(f"{score_name} {{task.fields[score]}}"),
            TextColumn("{task.fields[rate]} samples/s"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            expand=True,
        )
        self._task = self._bar.add_task("", total=None, epoch="", loss="", score="", rate="")

    def __enter__(self) -> Self:
        """Write the headings and start the bar."""
        heads = (
            "epoch",
            "loss",
            self._score_name,
            "val. loss",
            f"val. {self._score_name}",
            "samples/s",
            "seconds",
        )
        say(_line(heads), style="bold")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away; the lines stay."""
        self._bar.stop()

    def on_batch(self, progress: training.Progress) -> None:
        """Move the bar, ten times a second at most.

        Parameters
        ----------
        progress : Progress
            Where the training stands.
        """
        now = time.perf_counter()
        if self._bar.disable or now < self._next_redraw:
            return
        self._next_redraw = now + _REDRAW_SECONDS
        self._bar.update(
            self._task,
            total=progress.epochs * progress.batches,
            completed=(progress.epoch - 1) * progress.batches + progress.batch,
            epoch=f"{progress.epoch}/{progress.epochs}",
            loss=number(progress.loss),
            score=score(self._score_name, progress.score),
            rate=rate(progress.samples_per_second),
        )

    def on_epoch(self, epoch: training.Epoch) -> None:
        """Write the line of a finished epoch.

        Parameters
        ----------
        epoch : Epoch
            Its numbers.
        """
        cells = (
            f"{epoch.epoch}/{self._epochs}",
            number(epoch.loss),
            score(self._score_name, epoch.score),
            number(epoch.validation_loss),
            score(self._score_name, epoch.validation_score),
            rate(epoch.samples_per_second),
            f"{epoch.seconds:.2f}",
        )
        say(_line(cells))


def _line(cells: tuple[str, ...]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, (8, 10, 10, 11, 15, 13, 10), strict=True))
