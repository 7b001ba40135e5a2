"""The pictures: learning curves, predicted against true values, and the single images of a data set."""

# matplotlib leaves its keyword arguments without types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xhat.cli.outcome import Outcome

# Okabe and Ito's colours: apart for every kind of colour vision, and in grey.
_COLOURS = ("#0072B2", "#D55E00")
_INK, _FAINT = "#222222", "#d9d9d9"


def draw_curves(title: str, outcomes: Sequence[Outcome]) -> bytes:
    """Draw loss and score over the epochs, training dashed and validation solid, the best epoch marked.

    Parameters
    ----------
    title : str
        Stands above both panels.
    outcomes : sequence of Outcome
        One or two networks, each in its own colour.

    Returns
    -------
    bytes
        A PNG of 1600 × 680 pixels.
    """
    figure = Figure(figsize=(10, 4.25), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13, fontweight="bold", color=_INK, x=0.015, ha="left", parse_math=False)
    loss, score = figure.subplots(1, 2)
    score_name = outcomes[0].network.score_name
    _style(loss, "Loss")
    _style(score, score_name[:1].upper() + score_name[1:])
    for outcome, colour in zip(outcomes, _COLOURS, strict=False):
        _curve(loss, outcome, colour, "loss")
        _curve(score, outcome, colour, "score")
    if any(outcome.epochs for outcome in outcomes):
        _scale_loss(loss, outcomes)
        handles = loss.get_legend_handles_labels()[0]
        lines = len(handles) // len(outcomes)
        figure.legend(
            handles=[handle for line in range(lines) for handle in handles[line::lines]],  # a row per network
            loc="outside lower left", ncols=lines, frameon=False, fontsize=9, labelcolor=_INK,
        )  # fmt: skip
    _scale_score(score, outcomes)
    return _png(figure)


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.set_xlabel("epoch", color=_INK)
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
    axes.tick_params(which="both", colors=_INK, length=0, labelsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.03)


def _curve(axes: Axes, outcome: Outcome, colour: str, quantity: str) -> None:
    numbers = [epoch.epoch for epoch in outcome.epochs]
    marker = "o" if len(numbers) == 1 else None
    train = [getattr(epoch, quantity) for epoch in outcome.epochs]
    validation = [getattr(epoch, f"validation_{quantity}") for epoch in outcome.epochs]
    axes.plot(
        numbers, train, color=colour, linewidth=1.4, linestyle=(0, (4, 2)), alpha=0.75, marker=marker,
        label=f"{outcome.label}, training",
    )  # fmt: skip
    if all(math.isnan(value) for value in validation):
        return
    axes.plot(numbers, validation, color=colour, linewidth=2.2, marker=marker, label=f"{outcome.label}, validation")
    best = outcome.best
    if best is not None:
        axes.plot(
            [best.epoch], [getattr(best, f"validation_{quantity}")], color=colour, marker="o", markersize=9,
            markeredgecolor="white", markeredgewidth=1.8, linestyle="none", zorder=5,
            label=f"{outcome.label}, best epoch ({best.epoch})",
        )  # fmt: skip


def _scale_loss(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    values = [
        value for outcome in outcomes for epoch in outcome.epochs for value in (epoch.loss, epoch.validation_loss)
    ]
    finite = [value for value in values if math.isfinite(value) and value > 0]
    if finite and max(finite) > 20 * min(finite):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)


def _scale_score(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    """Leave the first epochs of training out of sight where they would press all that follows to the top."""
    seen = [
        value
        for outcome in outcomes
        for epoch in outcome.epochs
        for value in (epoch.validation_score, epoch.score if epoch.epoch > 1 else math.nan)
        if math.isfinite(value)
    ]
    if len(seen) > 1 and max(seen) > min(seen):
        room = 0.06 * (max(seen) - min(seen))
        axes.set_ylim(max(min(seen) - room, -0.25), max(seen) + room)  # an R² below 0 is as good as 0
    if outcomes[0].network.score_name == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def draw_agreement(true: NDArray[np.float64], predicted: NDArray[np.float64], target: str) -> bytes:
    """Draw predicted against true values of a regression, with the line where they agree.

    Parameters
    ----------
    true, predicted : (N,) float64
        In the unit of the target.
    target : str
        Its name.

    Returns
    -------
    bytes
        A PNG.
    """
    figure = Figure(figsize=(5.5, 4.5), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _style(axes, "Test data: predicted against true")
    axes.set_xlabel(f"true {target}", color=_INK, parse_math=False)
    axes.set_ylabel(f"predicted {target}", color=_INK, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    ends = [float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))]
    axes.plot(ends, ends, color=_INK, linewidth=1, linestyle=(0, (4, 2)))
    axes.scatter(true, predicted, s=14, color=_COLOURS[0], alpha=0.5, linewidths=0)
    return _png(figure)


def draw_image(row: NDArray[np.floating[Any]], shape: tuple[int, ...], brightest: float) -> bytes:
    """Draw one row of an image data set.

    Parameters
    ----------
    row : (D,) float32
        Its pixels, 0 for dark.
    shape : tuple of int
        (height, width) for grey, with an axis of 1 or 3 before or behind for grey or colour.
    brightest : float
        The value of a pixel that is fully on.

    Returns
    -------
    bytes
        A PNG of one pixel per pixel.
    """
    pixels = np.clip(row.reshape(shape) / brightest, 0.0, 1.0)
    if pixels.ndim == 3 and shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    buffer = io.BytesIO()
    if pixels.ndim == 3:
        imsave(buffer, pixels, format="png")
    else:
        imsave(buffer, pixels, format="png", cmap="gray", vmin=0.0, vmax=1.0)
    return buffer.getvalue()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()
