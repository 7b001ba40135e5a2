"""One look at a pair on floats: what is wrong at one point, in less than a millisecond.

It drops edits of the source that cannot be right, of which there are thousands. What it lets through is not right for
that: the judgement comes after it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from xhat.checks import Array
from xhat.verify.faults.dictionary import Function, Seen
from xhat.verify.faults.signature import guarded, right_signature, same, signature
from xhat.verify.problem import Problem, Values, as_array

Look = Callable[[Problem], frozenset[str]]
"""What is wrong with a pair, by name: "out", "dx", "x after the call", "error"."""

_STEP = 1e-5
_NEAR = 1e-5  # of the lengths of a gradient and of a direction: differences are no better
_SEED = 1


def by_dictionary(layer: str, called: Callable[[Problem], tuple[Function, Function | None]]) -> Look:
    """Return a look at all that right code of a layer leaves on the fixed inputs of its dictionary.

    Parameters
    ----------
    layer : str
        "batch_norm"; one of the dictionaries.
    called : callable
        Returns the two functions of a problem as the dictionary calls them.
    """
    right = right_signature(layer)

    def look(problem: Problem) -> frozenset[str]:
        found = signature(layer, *called(problem))
        names = right.keys() | found.keys()
        return frozenset(
            name for name in names if name not in right or name not in found or not same(found[name], right[name])
        )

    return look


def at_a_point(problem: Problem) -> Look | None:
    """Return a look at the output, and at the slope of each gradient along one direction, at a random point.

    What they should be follows from the specification; without one, from the forward pass as it is. None where that
    does not run.
    """
    seen = Seen()
    with guarded(seen):
        return _Point(problem).look
    return None


class _Point:
    """A point, and what is right there."""

    def __init__(self, problem: Problem) -> None:
        rng = np.random.default_rng(_SEED)
        self.values = problem.draw(rng, problem.sizes[0])
        self.wanted = as_array(self.output(problem, self.values))
        self.dout: Any = 1.0 if problem.backward is None else rng.standard_normal(self.wanted.shape)
        self.directions = {name: rng.standard_normal(np.shape(self.values[name])) for name in problem.differentiated}
        self.slopes = {name: self.slope(problem, name) for name in problem.differentiated}

    def output(self, problem: Problem, values: Values) -> Any:
        if problem.specification is not None:
            return problem.specification(values)
        np.random.seed(0)  # noqa: NPY002  a mask that is drawn is the same at every point
        return problem.run_forward(copy.deepcopy(values))[0]

    def slope(self, problem: Problem, name: str) -> float:
        """Return the derivative of sum(dout * y) along the direction of an input."""
        both: list[Array] = []
        for step in (_STEP, -_STEP):
            moved = {**self.values, name: self.values[name] + step * self.directions[name]}
            both.append(as_array(self.output(problem, moved)))
        return float(np.sum(self.dout * (both[0] - both[1])) / (2 * _STEP))

    def look(self, problem: Problem) -> frozenset[str]:
        wrong = {"error", "out", *problem.gradients}
        with guarded(Seen()):
            given, dout = copy.deepcopy(self.values), copy.deepcopy(self.dout)
            np.random.seed(0)  # noqa: NPY002
            y, cache = problem.run_forward(given)
            if np.shape(y) == self.wanted.shape and np.allclose(as_array(y), self.wanted, _NEAR, 1e-9):
                wrong.remove("out")
            for name, gradient in zip(problem.differentiated, problem.run_backward(dout, cache).values(), strict=True):
                if self.is_right(name, gradient):
                    wrong.remove(f"d{name}")
            wrong.remove("error")
            kept = {**self.values, "dout": self.dout}
            now = {**given, "dout": dout}
            wrong |= {f"{name} after the call" for name in kept if not np.array_equal(kept[name], now[name])}
        return frozenset(wrong)

    def is_right(self, name: str, gradient: Any) -> bool:
        direction = self.directions[name]
        if np.shape(gradient) != direction.shape:
            return False
        found = float(np.sum(as_array(gradient) * direction))
        size = np.linalg.norm(as_array(gradient)) * np.linalg.norm(direction)
        return abs(found - self.slopes[name]) <= _NEAR * (abs(self.slopes[name]) + float(size)) + 1e-9
