"""The picture: how many times xhat's time each contender takes, case by case."""

# matplotlib leaves its keyword arguments without types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from xhat.bench import tables
from xhat.bench.measuring import Row

# Okabe and Ito's colours: apart for every kind of colour vision
_COLOURS = {
    "torch": "#D55E00",
    "torch out=": "#E69F00",
    "torch.compile": "#CC79A7",
    "jax": "#0072B2",
    "onnxruntime": "#009E73",
    "numpy": "#777777",
}
_INK, _FAINT = "#222222", "#dddddd"
_HUGE = ", huge pages"


def draw(rows: Sequence[Row], facts: Mapping[str, str]) -> bytes:
    """Draw the ratios: one panel for each size and number of threads, one line for each norm and direction.

    Parameters
    ----------
    rows : sequence of Row
        All that was measured.
    facts : mapping of str to str
        For the line below.

    Returns
    -------
    bytes
        A PNG.
    """
    threads = list(dict.fromkeys(row.threads for row in rows))
    contests = [key for count in threads for key in tables.by_contest(row for row in rows if row.threads == count)]
    cases = list(dict.fromkeys((norm, direction) for norm, direction, _ in contests))
    sizes = sorted({size for _, _, size in contests})
    shape = max(1, len(threads)), max(1, len(sizes))
    figure = Figure(
        figsize=(max(7.0, 2.2 + 3.4 * shape[1]), 1.3 + shape[0] * (0.8 + 0.24 * len(cases))),
        dpi=130,
        layout="constrained",
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    figure.suptitle(
        "Time of others over xhat's (right of 1: xhat is faster)",
        fontsize=12,
        fontweight="bold",
        color=_INK,
    )
    panels = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False)
    ratios = [row.ratio for row in tables.timed(rows) if row.ratio > 0 and row.direction != "overhead"]
    widest = max(ratios, default=1.0) / min(ratios, default=1.0)
    shown: dict[str, object] = {}
    for count, line in zip(threads, panels, strict=False):
        there = tables.by_contest(row for row in rows if row.threads == count)
        for size, axes in zip(sizes, line, strict=False):
            _style(axes, widest, f"{tables.size_text(size)}, {count} thread{'s' if count > 1 else ''}", cases)
            for y, (norm, direction) in enumerate(cases):
                for name, row in there.get((norm, direction, size), {}).items():
                    colour = _COLOURS.get(name.removesuffix(_HUGE))
                    if colour and row.ratio > 0:
                        ring = name.endswith(_HUGE)  # around the dot where the setting does not matter
                        face, size_of = ("none", 8) if ring else (colour, 5.5)
                        dot = axes.plot(row.ratio, y, "o", color=colour, markerfacecolor=face, markersize=size_of)
                        shown.setdefault(name, dot[0])
    for axes in panels[-1]:
        axes.set_xlabel("times xhat", fontsize=9, color=_INK)
    ordered = [name for name in tables.contenders(rows) if name in shown]
    figure.legend(
        [shown[name] for name in ordered],  # pyright: ignore[reportArgumentType]
        ordered,
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    versions = ", ".join(f"{name} {facts[name]}" for name in ("xhat", "torch", "jax", "numpy") if facts.get(name))
    figure.text(0.005, 0.003, f"{facts.get('cpu', '')}; {versions}", fontsize=7, color="#777777")
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()


def _style(axes: Axes, widest: float, title: str, cases: Sequence[tuple[str, str]]) -> None:
    axes.set_title(title, fontsize=10, color=_INK)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if widest < 200 else (1.0,)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    axes.set_yticks(range(len(cases)), [f"{norm} {direction}" for norm, direction in cases])
    axes.set_ylim(len(cases) - 0.4, -0.6)
    axes.tick_params(labelsize=8, colors=_INK, length=0)
    axes.grid(axis="both", color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axvline(1, color=_INK, linewidth=1.2)
    for side in axes.spines.values():
        side.set_visible(False)
