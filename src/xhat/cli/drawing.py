"""A computational graph with its numbers, as an SVG picture and as a page of its own.

Neither needs a network, a font or a script: both are text, in the colours of the reader's own light or dark screen.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xhat.graph import Graph, Term

_MOST_ROWS = 8
_MOST_COLUMNS = 6
_DECIMALS = 3


class Walk(NamedTuple):
    """A graph with the numbers of one walk forward and one back."""

    graph: Graph
    told: str
    """What was computed, in a line: the data, eps."""
    values: Mapping[str, NDArray[Any]]
    """Of the inputs and of every step, by name."""
    gradients: Mapping[str, NDArray[Any]]
    """Of everything, and of its parts where several steps use it, by name."""


class Written(NamedTuple):
    """An array as text: its rows, lined up, or what sums it up."""

    lines: tuple[str, ...]
    whole: bool


def write_array(values: NDArray[Any], rows: int = _MOST_ROWS, columns: int = _MOST_COLUMNS) -> Written:
    """Write an array in full if it is small, else its extremes and its mean.

    Parameters
    ----------
    values : array, shape (N, D) or (D,)
        The numbers.
    rows, columns : int
        The most that are written in full.

    Returns
    -------
    Written
        Lines of equal length.
    """
    matrix = np.atleast_2d(np.asarray(values, np.float64))
    if not matrix.size:
        return Written(("none",), False)
    if matrix.shape[0] <= rows and matrix.shape[1] <= columns:
        cells = [_numbers(row, matrix) for row in matrix]
        width = max(len(cell) for row in cells for cell in row)
        return Written(tuple(" ".join(cell.rjust(width) for cell in row) for row in cells), True)
    names = ("min", "mean", "max")
    with np.errstate(all="ignore"):
        told = np.array([matrix.min(), matrix.mean(), matrix.max()])
    cells = _numbers(told, told)
    width = max(map(len, cells))
    return Written(tuple(f"{name:4} {cell:>{width}}" for name, cell in zip(names, cells, strict=True)), False)


def _numbers(numbers: NDArray[Any], company: NDArray[Any]) -> list[str]:
    """Write numbers with as many decimals as their company needs, some four digits in all."""
    finite = company[np.isfinite(company)]
    size = float(np.abs(finite).max(initial=0.0))
    if size and not 1e-2 <= size < 1e5:
        return [f"{number:.1e}" for number in numbers]
    most = max(0, _DECIMALS - max(0, math.floor(math.log10(size)))) if size else 0
    exact = (d for d in range(most + 2) if np.allclose(finite, finite.round(d), rtol=0, atol=1e-12 * size))
    decimals = next(exact, most)
    return [f"{round(number, decimals) + 0.0:.{decimals}f}" for number in numbers.tolist()]


def write_shape(values: NDArray[Any]) -> str:
    """Write a shape as people do.

    Parameters
    ----------
    values : array
        Whose.

    Returns
    -------
    str
        Such as `4 × 3`.
    """
    return " × ".join(map(str, values.shape))


# The picture. Lengths are in pixels at full size.
_LETTER = 6.7  # width of a letter of the 11 px monospaced font
_LINE = 15
_PAD = 10
_SPACE = 6  # between the parts of a node
_GAP = 26
_LANE_GAP = 70
_ARC = 30
_STRIP = 92

_PICTURE_STYLE = """
.graph { --paper: #fff; --box: #f7f8fa; --line: #c9ced6; --ink: #1c2024; --soft: #5d6570; --go: #00609a;
  --back: #b3400a; font: 11px/1 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  background: var(--paper) }
@media (prefers-color-scheme: dark) {
  .graph { --paper: #14171b; --box: #1e2329; --line: #48505b; --ink: #e9ecef; --soft: #a3acb8; --go: #74bdf2;
    --back: #ffad73 }
}
.graph text { fill: var(--ink); white-space: pre } .graph .soft { fill: var(--soft) }
.graph .go { fill: var(--go) } .graph .back { fill: var(--back) } .graph .name { font-weight: 700; font-size: 13px }
.graph rect { fill: var(--box); stroke: var(--line) } .graph .given rect { stroke-dasharray: 4 3 }
.graph .rule { stroke: var(--line) } .graph .bracket { fill: none; stroke: var(--soft) }
.graph .edge { fill: none; stroke: var(--go); stroke-width: 1.5 } .graph marker path { fill: var(--go) }
.graph .told { visibility: hidden } .graph .node { outline: none }
.graph .node:hover > rect, .graph .node:focus > rect { stroke: var(--go); stroke-width: 2 }
.graph .node:hover .told, .graph .node:focus .told { visibility: visible }
.graph:has(.node:hover) .hint, .graph:has(.node:focus) .hint { visibility: hidden }
"""


class _Box:
    """A node with the text in it, and where it is put."""

    def __init__(self, walk: Walk, name: str) -> None:
        graph = walk.graph
        steps = {step.name: step for step in graph.steps}
        self.name = name
        self.given = name not in steps
        self.shape = write_shape(walk.values[name])
        self.formula = "given" if self.given else steps[name].formula
        self.value = write_array(walk.values[name])
        self.back = _back_formulas(graph, name)
        self.gradient = write_array(walk.gradients[f"d{name}"])
        self.top_lane = len(graph.shape(name)) > 1
        brackets = [len(line) + 2 for line in (*self.value.lines, *self.gradient.lines)]
        letters = max(len(name) * 1.25 + len(self.shape) + 2, *map(len, (self.formula, *self.back)), *brackets)
        self.width = round(_LETTER * letters) + 2 * _PAD
        lines = 3 + len(self.value.lines) + len(self.back) + len(self.gradient.lines)
        self.height = lines * _LINE + 2 * _PAD + 4 * _SPACE
        self.x = self.y = 0

    @property
    def right(self) -> int:
        """The right edge."""
        return self.x + self.width


def _back_formulas(graph: Graph, name: str) -> list[str]:
    """Return the formula of a value's gradient, a line per step that uses the value."""
    parts = [edge.gradient for step in reversed(graph.steps) for edge in step.edges if edge.source == name]
    return [f"{'+ ' if i else ''}{part}" for i, part in enumerate(parts)] or ["given"]


def _lay_out(walk: Walk) -> dict[str, _Box]:
    """Put matrices in an upper lane and rows in a lower one, each node to the right of what it takes."""
    boxes: dict[str, _Box] = {}
    edges = {True: -_GAP, False: -_GAP}  # the right edge of each lane so far
    for step in walk.graph.steps:
        sources = [edge.source for edge in step.edges]
        for name in (*(source for source in sources if source not in boxes), step.name):
            box = _Box(walk, name)
            box.x = edges[box.top_lane] + _GAP
            for source in sources if name == step.name else ():
                before = boxes[source]
                same = before.top_lane == box.top_lane
                box.x = max(box.x, before.right + _GAP if same else before.x + before.width // 2)
            edges[box.top_lane] = box.right
            boxes[name] = box
    low = _ARC + max(box.height for box in boxes.values() if box.top_lane) + _LANE_GAP
    for box in boxes.values():
        box.x += 1
        box.y = _ARC if box.top_lane else low
    return boxes


def draw(walk: Walk, *, told: bool = True) -> str:
    """Draw the graph from left to right: values under each node's name, gradients under its values.

    Parameters
    ----------
    walk : Walk
        The graph and its numbers.
    told : bool
        Whether a strip below tells the rule of the node under the pointer.

    Returns
    -------
    str
        An SVG element, which is also a file.
    """
    boxes = _lay_out(walk)
    width = max(box.right for box in boxes.values()) + 1
    bottom = max(box.y + box.height for box in boxes.values())
    height = bottom + (_STRIP if told else 1)
    margin = 0 if told else _PAD
    seen = f"{-margin} {-margin} {width + 2 * margin} {height + 2 * margin}"
    edges = [_edge(boxes, edge.source, step.name) for step in walk.graph.steps for edge in step.edges]
    nodes = [_node(walk, box, bottom + 26 if told else None) for box in boxes.values()]
    hint = f'<text class="soft hint" x="1" y="{bottom + 26}">Point at a node to read its rules.</text>' if told else ""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" class="graph" role="img" '
        f'viewBox="{seen}" width="{width + 2 * margin}" height="{height + 2 * margin}" '
        f'style="min-width: {round(0.8 * width)}px" '
        f'aria-label="{_text(walk.graph.layer)}: values forward, gradients backward">'
        f"<style>{_PICTURE_STYLE}</style>"
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs>'
        f"{''.join(edges)}{''.join(nodes)}{hint}</svg>"
    )


def _edge(boxes: Mapping[str, _Box], source: str, step: str) -> str:
    one, other = boxes[source], boxes[step]
    if one.top_lane != other.top_lane:
        start, end = one.x + 0.67 * one.width, other.x + 0.33 * other.width
        top, bottom = (one.y + one.height, other.y - 2) if one.top_lane else (one.y, other.y + other.height + 2)
        bend = (bottom - top) / 2
        path = f"M{start:.0f} {top}C{start:.0f} {top + bend:.0f} {end:.0f} {bottom - bend:.0f} {end:.0f} {bottom}"
    elif any(box.top_lane == one.top_lane and one.x < box.x < other.x for box in boxes.values()):
        start, end, crest = one.x + 0.67 * one.width, other.x + 0.33 * other.width, one.y - _ARC + 4
        path = (
            f"M{start:.0f} {one.y}C{start:.0f} {crest} {start + 20:.0f} {crest} {start + 60:.0f} {crest}"
            f"L{end - 60:.0f} {crest}C{end - 20:.0f} {crest} {end:.0f} {crest} {end:.0f} {other.y - 2}"
        )
    else:
        path = f"M{one.right} {one.y + 40}L{other.x - 2} {other.y + 40}"
    return f'<path class="edge" marker-end="url(#arrow)" d="{path}"/>'


def _node(walk: Walk, box: _Box, strip: int | None) -> str:
    """Draw a box: name and shape, formula, value; below a line the gradient, its formula, its value."""
    left, y = box.x + _PAD, box.y + _PAD + 11
    parts = [f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="7"/>']

    def write(kind: str, line: str) -> None:
        nonlocal y
        parts.append(f'<text class="{kind}" x="{left}" y="{y}">{_text(line)}</text>')
        y += _LINE

    def write_below(written: Written) -> None:
        nonlocal y
        parts.append(_array(written, left, y - _LINE + _SPACE))
        y += _LINE * len(written.lines) + _SPACE

    shape = f'<text class="soft" text-anchor="end" x="{box.right - _PAD}" y="{y}">{_text(box.shape)}</text>'
    parts.append(shape)
    write("name go", box.name)
    write("soft" if box.given else "go", box.formula)
    write_below(box.value)
    middle = y - _LINE + 2 * _SPACE
    parts.append(f'<line class="rule" x1="{box.x}" x2="{box.right}" y1="{middle}" y2="{middle}"/>')
    y += 2 * _SPACE
    write("name back", f"d{box.name}")
    for line in box.back:
        write("soft" if line == "given" else "back", line)
    write_below(box.gradient)
    if strip is not None:
        for i, line in enumerate(_rules(walk.graph, box.name)):
            parts.append(f'<text class="told {"back" if i else "go"}" x="1" y="{strip + i * 17}">{_text(line)}</text>')
    given = " given" if box.given else ""
    reached = "" if strip is None else ' tabindex="0"'
    return f'<g class="node{given}"{reached}>{"".join(parts)}</g>'


def _array(written: Written, left: int, y: int) -> str:
    """Draw the rows of an array below y, between brackets if it is whole."""
    inset = left + (_LETTER if written.whole else 0)
    rows = "".join(
        f'<text x="{inset:.0f}" y="{y + _LINE * (i + 1)}">{_text(line)}</text>' for i, line in enumerate(written.lines)
    )
    if not written.whole:
        return rows
    top, bottom = y + 4, y + 4 + _LINE * len(written.lines)
    right = inset + _LETTER * len(written.lines[0]) + _LETTER
    return (
        f'{rows}<path class="bracket" d="M{left + 3} {top}H{left}V{bottom}H{left + 3}'
        f'M{right - 3:.0f} {top}H{right:.0f}V{bottom}H{right - 3:.0f}"/>'
    )


def _rules(graph: Graph, name: str) -> list[str]:
    """Say how a node is computed and why, then how its gradient is."""
    steps = {step.name: step for step in graph.steps}
    lines = [f"{name} = {steps[name].formula}     {steps[name].why}" if name in steps else f"{name} is given."]
    terms = [term for term in graph.backward() if term.source == name]
    lines += (f"{term.name} = {term.formula}     {_reason(term)}" for term in terms)
    return lines if terms else [*lines, f"d{name} is given: the gradient that arrives."]


def rule_of(term: Term) -> str:
    """Say the scalar rule behind a gradient.

    Parameters
    ----------
    term : Term
        A gradient of a graph.

    Returns
    -------
    str
        Such as `Slope of root in variance: 1 / (2 * root)`; where several gradients are added, what adds up.
    """
    return f"Slope of {term.step} in {term.source}: {term.slope}" if term.slope else term.why


def _reason(term: Term) -> str:
    """Say the rule and why it is so."""
    return f"{rule_of(term)}. {term.why}" if term.slope else term.why


_PAGE_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ground: #f3f4f6; --line: #dde1e6; --ink: #1c2024; --soft: #5d6570;
  --go: #00609a; --back: #b3400a }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ground: #0c0e11; --line: #343b44; --ink: #e9ecef; --soft: #a3acb8; --go: #74bdf2;
    --back: #ffad73 }
}
* { box-sizing: border-box }
body { margin: 0; color: var(--ink); background: var(--ground); font: 15px/1.55 system-ui, sans-serif }
main { max-width: 1480px; margin: 0 auto; padding: 28px 24px 64px }
h1 { font-size: 26px; margin: 0 } h2 { font-size: 18px; margin: 0 0 12px } p { margin: 4px 0 12px; max-width: 90ch }
.soft { color: var(--soft) } b.go { color: var(--go) } b.back { color: var(--back) }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px;
  margin-top: 18px; overflow-x: auto }
svg { display: block; max-width: 100%; height: auto }
table { border-collapse: collapse } th, td { text-align: left; vertical-align: top; padding: 8px 22px 8px 0;
  border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 600 } td.why { min-width: 24ch; max-width: 44ch }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; margin: 0; white-space: pre }
.go code { color: var(--go) } .back code { color: var(--back) }
pre.whole { display: inline-block; border: solid var(--soft); border-width: 0 1px; border-radius: 3px; padding: 0 6px }
@media print { body { background: #fff } section { break-inside: avoid } }
"""


def page(walk: Walk) -> str:
    """Make a page of its own: the picture, and the same in two tables with a sentence for every step.

    Parameters
    ----------
    walk : Walk
        The graph and its numbers.

    Returns
    -------
    str
        HTML that needs nothing else.
    """
    graph = walk.graph
    given = [[name, "", "Given.", walk.values[name]] for name in graph.inputs]
    forward = [*given, *([step.name, step.formula, step.why, walk.values[step.name]] for step in graph.steps)]
    last = graph.steps[-1].name
    backward: list[list[Any]] = [[f"d{last}", "", "Given: the gradient that arrives.", walk.gradients[f"d{last}"]]]
    backward += ([term.name, term.formula, _reason(term), walk.gradients[term.name]] for term in graph.backward())
    title = f"{graph.layer} in {len(graph.steps)} steps"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_PAGE_STYLE}</style></head><body><main>"
        f'<h1>{_text(title)}</h1><p class="soft">{_text(walk.told)}</p>'
        '<p>Values go <b class="go">forward</b> along the arrows, gradients <b class="back">back</b> against them: '
        f"<code>d</code> before a name is the derivative of <code>sum(d{last} * {last})</code> by it. "
        "Where two arrows leave a node, two gradients come back and are added.</p>"
        f"<section>{draw(walk)}</section>"
        f"<section><h2>Forward</h2>{_table('go', ('step', 'formula', 'shape', 'why', 'value'), forward)}</section>"
        f"<section><h2>Backward</h2>{_table('back', ('gradient', 'formula', 'shape', 'rule', 'value'), backward)}"
        "</section>"
        "</main></body></html>\n"
    )


def _table(kind: str, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines: list[str] = []
    for name, formula, why, values in rows:
        written = write_array(values)
        array = f"<pre{' class=whole' if written.whole else ''}>{_text(chr(10).join(written.lines))}</pre>"
        lines.append(
            f'<tr class="{kind}"><td><code>{_text(name)}</code></td><td><code>{_text(formula)}</code></td><td>'
            f'{_text(write_shape(values))}</td><td class="why">{_text(why)}</td><td>{array}</td></tr>'
        )
    head = "".join(f"<th>{head}</th>" for head in heads)
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _text(words: str) -> str:
    return html.escape(words)
