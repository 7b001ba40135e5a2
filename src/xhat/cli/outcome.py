"""A trained network with everything that is said about it, and how its numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xhat.networks import Evaluation, Sequential
    from xhat.training import Epoch
    from xhat.verify import GradientCheck


@dataclass(frozen=True)
class Outcome:
    """What came of training one network.

    Attributes
    ----------
    label : str
        How it is called in the tables and pictures, such as `batch norm`.
    network : Sequential
        As it was saved.
    check : GradientCheck
        The verdict on its gradients, before training.
    epochs : list of Epoch
        Its history.
    best : Epoch or None
        The epoch with the best validation score; None before the first epoch ended.
    results : dict of str to Evaluation
        Loss and score on `train`, `validation` (where there is one) and `test`, after training.
    stopped : bool
        Whether Ctrl-C ended it.
    model : Path
        The file it was saved to.
    """

    label: str
    network: Sequential
    check: GradientCheck
    epochs: list[Epoch]
    best: Epoch | None
    results: dict[str, Evaluation]
    stopped: bool
    model: Path

    @property
    def seconds(self) -> float:
        """The time spent in training, without the looks at validation data."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def samples_per_second(self) -> float:
        """The training throughput over all its epochs; nan before the first epoch ended."""
        samples = sum(epoch.samples_per_second * epoch.seconds for epoch in self.epochs)
        return samples / self.seconds if self.epochs else math.nan


CHECK_HEADS = ("parameter", "shape", "gradient", "error", "relative error", "")


def check_rows(check: GradientCheck) -> list[tuple[str, ...]]:
    """Write a gradient check for a table under `CHECK_HEADS`.

    Parameters
    ----------
    check : GradientCheck
        The check of one network.

    Returns
    -------
    list of tuple of str
        One row per parameter.
    """
    return [
        (
            row.name,
            " × ".join(map(str, row.shape)),
            f"{row.size:.1e}",
            f"{row.error:.1e}",
            f"{row.relative_error:.1e}",
            "ok" if row.ok else "WRONG",
        )
        for row in check.rows
    ]


def number(value: float, digits: int = 4) -> str:
    """Write a number for a table.

    Parameters
    ----------
    value : float
        nan and infinity included.
    digits : int
        Digits after the point, or significant ones where the value is huge or tiny.

    Returns
    -------
    str
        A dash for nan.
    """
    if math.isnan(value):
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{digits}f}"


def score(name: str, value: float) -> str:
    """Write a score for a table: an accuracy in percent, an R² as it is.

    Parameters
    ----------
    name : str
        The network's `score_name`.
    value : float
        A share of 1; nan where there is none.

    Returns
    -------
    str
        A dash for nan.
    """
    return f"{100 * value:.2f} %" if name == "accuracy" and not math.isnan(value) else number(value)


def rate(value: float) -> str:
    """Write a throughput or a count for a table.

    Parameters
    ----------
    value : float
        In samples per second, say.

    Returns
    -------
    str
        With separators; a dash for nan.
    """
    return "–" if math.isnan(value) else f"{value:,.0f}"
