"""`xhat explain`: a layer taken apart, every step with its numbers, forward and backward."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
import typer
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from xhat import datasets
from xhat.checks import as_eps
from xhat.cli.console import Refusal, console, refusing, say
from xhat.cli.drawing import Walk, draw, page, rule_of, write_array, write_shape
from xhat.graph import Graph
from xhat.layers import batch_norm
from xhat.training.checkpoints import write_whole

_MOST_ENTRIES = 1_000_000
_SHAPE = re.compile(r"([0-9]{1,6})\s*[x×,]\s*([0-9]{1,6})")
_FORWARD, _BACKWARD = "bright_blue", "dark_orange"
_COLUMNS = 4  # what fits beside the formulas


class _Nodes(Protocol):
    """The values of a graph, which know the way back."""

    def __iter__(self) -> Iterator[tuple[str, NDArray[Any]]]: ...

    def backward(self, dy: Any) -> Iterable[tuple[str, NDArray[Any]]]:
        """Return the gradients."""
        ...


class _Explained(NamedTuple):
    """A layer that can be explained: its graph, and the function that walks it."""

    graph: Graph
    steps: Callable[..., _Nodes]


EXPLAINED: Mapping[str, _Explained] = {"batch_norm": _Explained(batch_norm.GRAPH, batch_norm.steps)}
"""One line per layer."""


def explain(
    layer: Annotated[str, typer.Argument(metavar="LAYER", help=f"One of: {', '.join(EXPLAINED)}.")],
    x: Annotated[str | None, typer.Option(help='The input, rows with semicolons between them: "1 2; 3 4".')] = None,
    data: Annotated[
        str | None, typer.Option(help="The input from a .csv, .tsv, .parquet, .npz or .npy file of numbers.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="A random input of this shape.", show_default="4x3")] = None,
    dy: Annotated[str | None, typer.Option(help="The gradient of y, as --x.", show_default="random")] = None,
    gamma: Annotated[str | None, typer.Option(help='"2 0.5"', show_default="random")] = None,
    beta: Annotated[str | None, typer.Option(help='"0 1"', show_default="random")] = None,
    eps: Annotated[float, typer.Option(help="Added to the variance; unit of x².")] = 1e-5,
    seed: Annotated[int, typer.Option(min=0, help="Draws what is random.")] = 0,
    html: Annotated[Path | None, typer.Option(help="Write a page of its own with the graph drawn.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the drawing alone.")] = None,
) -> None:
    """Take a layer apart: every step of its computational graph with its numbers, forward and backward."""
    if layer not in EXPLAINED:
        raise Refusal(
            f"xhat explain: expected a layer whose steps are written down, got {layer!r}. "
            f"Choose one of: {', '.join(EXPLAINED)}.",
            2,
        )
    explained = EXPLAINED[layer]
    with refusing(2):
        as_eps("xhat explain", eps)
        rng = np.random.default_rng(seed)
        values, told = _input(x, data, shape, rng)
        inputs = {"x": values}
        for name, text in (("gamma", gamma), ("beta", beta)):
            inputs[name] = _row(f"--{name}", text) if text else _tenths(rng.uniform(0.5, 2.0, values.shape[1:]))
        arriving = _matrix("--dy", dy) if dy else _tenths(rng.standard_normal(values.shape))
    with refusing(1 if data else 2):
        nodes = explained.steps(**inputs, eps=eps)
        gradients = dict(nodes.backward(arriving))
    walk = Walk(explained.graph, f"{told}; eps = {eps:g}", {**inputs, **dict(nodes)}, gradients)
    _print(walk)
    say()
    if html is not None:
        _write("--html", html, page(walk))
    if svg is not None:
        _write("--svg", svg, draw(walk, told=False) + "\n")


def _input(x: str | None, data: str | None, shape: str | None, rng: np.random.Generator) -> tuple[NDArray[Any], str]:
    """Return the input and what it is in words."""
    if sum(source is not None for source in (x, data, shape)) > 1:
        raise Refusal("xhat explain: expected one of --x, --data and --shape, got several. Choose one.", 2)
    if x is not None:
        values = _matrix("--x", x)
        return values, f"x of {write_shape(values)}"
    if data is not None:
        with refusing():
            values = datasets.read_matrix(data)
        name = "".join(c if c.isprintable() else "?" for c in data)  # of control codes and bytes that are no text
        return values, f"x of {write_shape(values)} from {name}"
    asked = shape or "4x3"
    sizes = _SHAPE.fullmatch(asked.strip())
    if sizes is None:
        raise Refusal(f"xhat explain: expected --shape as rows x columns, got {asked!r}. Give 4x3, say.", 2)
    rows, columns = int(sizes[1]), int(sizes[2])
    if rows * columns > _MOST_ENTRIES:
        raise Refusal(
            f"xhat explain: expected --shape of at most {_MOST_ENTRIES:,} numbers, got {asked!r}. Give 4x3, say.", 2
        )
    values = _tenths(rng.standard_normal((rows, columns)))
    return values, f"x of {write_shape(values)}, drawn at random"


def _tenths(values: NDArray[Any]) -> NDArray[Any]:
    """Round to one decimal: numbers to follow by hand."""
    return values.round(1) + 0.0


def _matrix(option: str, text: str) -> NDArray[Any]:
    rows = [re.split(r"[\s,]+", row.strip(" ,")) for row in text.strip(" ;").split(";")]
    try:
        return np.array([[float(cell) for cell in row] for row in rows])
    except ValueError:  # a word, or rows of different lengths
        raise Refusal(
            f"xhat explain: expected {option} as numbers, with semicolons between rows of equal length, got {text!r}. "
            'Give "1 2; 3 4", say.',
            2,
        ) from None


def _row(option: str, text: str) -> NDArray[Any]:
    values = _matrix(option, text)
    if len(values) != 1:
        raise Refusal(f"xhat explain: expected {option} as one row of numbers, got {len(values)} rows. Leave one.", 2)
    return values[0]


def _print(walk: Walk) -> None:
    graph = walk.graph
    last = graph.steps[-1].name
    say(f"{graph.layer} in {len(graph.steps)} steps", style="bold")
    say(walk.told)

    forward = [(name, "given", "", walk.values[name]) for name in graph.inputs]
    forward += [(step.name, step.formula, step.why, walk.values[step.name]) for step in graph.steps]
    say("\nForward", style=f"bold {_FORWARD}")
    _show("step", forward, _FORWARD)

    backward = [(f"d{last}", "given", "", walk.gradients[f"d{last}"])]
    backward += [(term.name, term.formula, rule_of(term), walk.gradients[term.name]) for term in graph.backward()]
    say(f"\nBackward: the derivative of sum(d{last} * {last}) by each of them", style=f"bold {_BACKWARD}")
    _show("gradient", backward, _BACKWARD)


def _show(head: str, rows: Iterable[tuple[str, str, str, NDArray[Any]]], colour: str) -> None:
    """Print one line per node, with its reason under its formula and its numbers beside it."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, show_lines=True)
    table.add_column(head, style=colour, no_wrap=True)
    table.add_column("formula", ratio=1, overflow="fold")
    table.add_column("shape", no_wrap=True)
    table.add_column("values", no_wrap=True)
    for name, formula, why, values in rows:
        reason = Group(Text(formula, style=colour), Text(why, style="dim")) if why else Text(formula, style="dim")
        numbers = "\n".join(write_array(values, columns=_COLUMNS).lines)
        table.add_row(Text(name), reason, Text(write_shape(values)), Text(numbers))
    console.print(table)


def _write(option: str, path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise Refusal(
            f"xhat explain: expected a file to write to, got {path} ({error.strerror or error}). "
            f"Choose another with {option}."
        ) from error
    say(f"Written to {path}")
