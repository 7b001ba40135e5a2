"""What is checked: a forward and a backward pass, and how they are called, whatever the kind of number.

The shapes are told by names ("N", "D"), so that the same problem can be posed at sizes of one's choice, on floats, on
exact numbers, and on symbols that stand for all sizes at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from xhat.checks import Array

Values = Mapping[str, Any]
"""What a forward pass is called with, by name: inputs, labels, scalars, and every size ("N")."""

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Unsupported(Exception):  # noqa: N818  no error of the code that is checked
    """What runs the code does not know an operation, so that nothing is decided: it never guesses."""


class Malformed(Exception):  # noqa: N818  a finding, told to the user
    """The code does not return what such a function returns; the message says what is wrong, as a sentence."""


@dataclass(frozen=True)
class Problem:
    """A forward and a backward pass of somebody's, and the question whether one is the gradient of the other.

    Parameters
    ----------
    name : str
        What the pair is called: "batchnorm".
    forward : callable
        Returns `(y, cache)`. Without a backward: the loss, and its gradient or gradients.
    backward : callable, optional
        Takes `(dy, cache)` and returns a gradient for every input. None for a loss.
    inputs : mapping of str to tuple of str
        What is differentiated, with the name of each axis, in the order in which the gradients are returned; and what
        is `given`. An axis "G*K" is as long as the product of two sizes.
    arguments : callable
        Makes the forward's arguments out of `Values`. They must be made afresh each time (`bn_param` is written to).
    sizes : sequence of mappings of str to int
        At which sizes the problem is posed on numbers; the smallest first.
    output : tuple of str, optional
        The axes of y; () for a loss. None where they follow from more than names (convolution).
    scalars : tuple of str
        Positive numbers that the forward takes and that may be anything: "eps".
    labels : mapping of str to pair of str
        Arrays of class numbers: ("N", "C") are N numbers below C.
    specification : callable, optional
        `specification(values)` returns the y that is asked for, with plain arithmetic.
    layer : str, optional
        The layer of this library that it is: "batch_norm".
    given : tuple of str
        Those of the inputs that are not differentiated, and may be anything: targets, weights, running statistics.
    """

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any] | None
    inputs: Mapping[str, tuple[str, ...]]
    arguments: Callable[[Values], Call]
    sizes: Sequence[Mapping[str, int]]
    output: tuple[str, ...] | None = None
    scalars: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, str]] = field(default_factory=lambda: _NOTHING)
    specification: Callable[[Values], Any] | None = None
    layer: str | None = None
    given: tuple[str, ...] = ()

    @property
    def differentiated(self) -> tuple[str, ...]:
        """The inputs by which the output is differentiated: "x", "gamma"."""
        return tuple(name for name in self.inputs if name not in self.given)

    @property
    def gradients(self) -> tuple[str, ...]:
        """The names of the gradients: "dx", "dgamma"."""
        return tuple(f"d{name}" for name in self.differentiated)

    def shape(self, name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape of an input at these sizes."""
        return tuple(math.prod(size(part, sizes) for part in axis.split("*")) for axis in self.inputs[name])

    def draw(self, rng: np.random.Generator, sizes: Mapping[str, int]) -> dict[str, Any]:
        """Return random float64 values at these sizes: inputs of no special mean, eps large enough to be seen."""
        values: dict[str, Any] = dict(sizes)
        for number, name in enumerate(self.inputs):
            shape = self.shape(name, sizes)
            values[name] = 2 * rng.standard_normal(shape) + 1.5 if number == 0 else rng.standard_normal(shape)
        for name, (axis, classes) in self.labels.items():
            values[name] = rng.integers(size(classes, sizes), size=size(axis, sizes))
        for name in self.scalars:
            values[name] = float(rng.uniform(0.3, 0.5))
        return values

    def run_forward(self, values: Values) -> tuple[Any, Any]:
        """Call the forward pass and return `(y, cache)`; of a loss, the loss and its gradients.

        Raises
        ------
        Malformed
            If it returns something else.
        """
        positional, named = self.arguments(values)
        result = self.forward(*positional, **named)
        wanted = "the loss and its gradient" if self.backward is None else "the output and the cache"
        if not isinstance(result, tuple) or len(result) < 2 or (self.backward is not None and len(result) != 2):  # pyright: ignore[reportUnknownArgumentType]
            got = f"{len(result)} values" if isinstance(result, tuple) else _kind(result)  # pyright: ignore[reportUnknownArgumentType]
            raise Malformed(f"forward returns {got}; expected {wanted}")
        y, *rest = result  # pyright: ignore[reportUnknownVariableType]
        return y, rest[0] if len(rest) == 1 else tuple(rest)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]

    def run_backward(self, dy: Any, cache: Any) -> dict[str, Any]:
        """Call the backward pass and return the gradients by name; those of a loss, times dy.

        Raises
        ------
        Malformed
            If it returns another number of gradients.
        """
        result: Any = cache if self.backward is None else self.backward(dy, cache)
        names = self.gradients
        if isinstance(result, Mapping):
            missing = [name for name in names if name not in result]
            if missing:
                raise Malformed(f"backward returns no {missing[0]}")
            found = [result[name] for name in names]  # pyright: ignore[reportUnknownVariableType]
        elif isinstance(result, (tuple, list)):
            found = list(result)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        else:
            found = [result]
        if len(found) != len(names):  # pyright: ignore[reportUnknownArgumentType]
            told = "nothing" if result is None else _gradients(len(found))  # pyright: ignore[reportUnknownArgumentType]
            who = "backward" if self.backward is not None else "the function"
            raise Malformed(f"{who} returns {told}; expected {_gradients(len(names))}: {', '.join(names)}")
        for name, gradient in zip(names, found, strict=True):  # pyright: ignore[reportUnknownArgumentType]
            if gradient is None:
                raise Malformed(f"{name} is None")
        if self.backward is None:
            found = [dy * gradient for gradient in found]  # pyright: ignore[reportUnknownVariableType]
        return dict(zip(names, found, strict=True))  # pyright: ignore[reportUnknownArgumentType]

    def on(self, functions: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Problem:
        """Return the problem with its two functions exchanged for what `functions` makes of them."""
        backward = None if self.backward is None else functions(self.backward)
        return replace(self, forward=functions(self.forward), backward=backward)


def size(name: str, sizes: Mapping[str, int]) -> int:
    """Return a size by its name; a name that is a number is that number."""
    return int(name) if name.isdecimal() else sizes[name]


def as_array(value: Any) -> Array:
    """Return a gradient or an output as an array of floats, for a comparison."""
    return np.asarray(value, np.float64)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a single {type(value).__name__}"


def _gradients(count: int) -> str:
    return f"{count} gradient{'s' * (count != 1)}"
