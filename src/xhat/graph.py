"""A layer's computational graph, written down as data.

A *Step* is one node: a formula of values that are there already. An *Edge* leads into it from one of these values
and says what goes back along it: the slope of the step in that value, and the gradient that follows. Drawing a graph,
naming its gradients and testing its formulas all start from the same list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Edge(NamedTuple):
    """One value that a step takes, and what goes back to it.

    In `slope` and `gradient` a value is called by its name and the gradient of the step's own output `d` and its name;
    `sum` adds up a column and `N` is the number of rows.
    """

    source: str
    """The value taken: an input of the graph or an earlier step."""
    slope: str
    """The derivative of one entry of the step by one entry of the value: "-1 / root**2"."""
    gradient: str
    """What goes back: "-droot / root**2". A value used by all N rows collects the sum over them."""
    why: str
    """A sentence: why this goes back."""


class Step(NamedTuple):
    """One node of the graph."""

    name: str
    formula: str
    """Of its sources, as one would write it in Python: "x - mean"."""
    shape: tuple[str, ...]
    """By the names of the axes: ("N", "D")."""
    why: str
    """A sentence: what the step is for."""
    edges: tuple[Edge, ...]
    """In the order in which the gradients are best computed."""


class Term(NamedTuple):
    """One gradient of the backward pass."""

    name: str
    formula: str
    shape: tuple[str, ...]
    step: str
    """The step that is gone back through; "" where the terms of several are added."""
    source: str
    """The value that the gradient belongs to."""
    slope: str
    """The slope of the step in the source; "" where the terms of several are added."""
    why: str
    """A sentence."""


class Graph(NamedTuple):
    """The nodes of one layer from its inputs to y, each after those that it takes."""

    layer: str
    inputs: dict[str, tuple[str, ...]]
    """The shapes of what is given, by the names of the axes."""
    steps: tuple[Step, ...]

    def shape(self, name: str) -> tuple[str, ...]:
        """Return the shape of an input or a step by the names of its axes."""
        return {**self.inputs, **{step.name: step.shape for step in self.steps}}[name]

    def users(self, name: str) -> tuple[str, ...]:
        """Return the steps that take the value, in order."""
        return tuple(step.name for step in self.steps for edge in step.edges if edge.source == name)

    def gradient(self, source: str, step: str) -> str:
        """Return the name of what goes back to `source` from `step`.

        It is `d` and the name of the source; where several steps take it, each sends its part, named
        `d<source>_via_<step>`, and their sum is `d<source>`.
        """
        return f"d{source}" if len(self.users(source)) == 1 else f"d{source}_via_{step}"

    def backward(self) -> Iterator[Term]:
        """Yield the gradients in the order in which the backward pass computes them, after that of the last step."""
        waiting = {name: [*self.users(name)] for name in (*self.inputs, *(step.name for step in self.steps))}
        parts: dict[str, list[str]] = {name: [] for name in waiting}
        for step in reversed(self.steps):
            for edge in step.edges:
                name, shape = self.gradient(edge.source, step.name), self.shape(edge.source)
                yield Term(name, edge.gradient, shape, step.name, edge.source, edge.slope, edge.why)
                waiting[edge.source].remove(step.name)
                parts[edge.source].append(name)
            for edge in step.edges:
                if not waiting[edge.source] and len(parts[edge.source]) > 1:
                    total, shape = " + ".join(parts[edge.source]), self.shape(edge.source)
                    why = f"Used by {' and '.join(self.users(edge.source))}: what comes back is added."
                    yield Term(f"d{edge.source}", total, shape, "", edge.source, "", why)
