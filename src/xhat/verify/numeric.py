"""Numeric derivatives, and the check of a whole network against them.

Two ways to a derivative along a direction v, both exact enough to judge a backward pass in float64:

    complex step          Im f(x + ihv) / h          no subtraction, so h may be 1e-30: right to the last digits
    central differences   (f(x + hv) - f(x - hv)) / 2h      for functions that do not take complex numbers

Source of the complex step: Squire, Trapp 1998, "Using complex variables to estimate derivatives of real functions",
SIAM Review 40(1).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_generator, as_values
from xhat.networks import Sequential

_COMPLEX_STEP = 1e-30
_TOLERANCE = 1e-9
_ROUNDING = 1e-13  # of the largest gradient: what is smaller cannot be told from zero
_DIRECTIONS = 4
_JITTER = 1e-2  # moves parameters off values at which ReLU sits on its corner, where there is no derivative


def complex_step(f: Callable[[Array], Any], x: Array, direction: Array) -> float:
    """Return the derivative of the number f(x) along a direction, for an f that takes complex arrays."""
    return complex(f(x + 1j * _COMPLEX_STEP * direction)).imag / _COMPLEX_STEP


def central_difference(f: Callable[[Array], Any], x: Array, direction: Array, step: float = 1e-5) -> float:
    """Return the derivative of the number f(x) along a direction, from both sides."""
    return float((f(x + step * direction) - f(x - step * direction)) / (2 * step))


class GradientRow(NamedTuple):
    """The verdict on one gradient."""

    name: str  # "0.w"
    shape: tuple[int, ...]
    size: float  # Euclidean length of the gradient
    error: float  # largest difference to the true derivative along a random direction
    relative_error: float  # error / size
    ok: bool


class GradientCheck(NamedTuple):
    """The verdict on all gradients of a network.

    `worst` is the largest relative error; `ok` says whether every gradient is right.
    """

    rows: tuple[GradientRow, ...]

    @property
    def ok(self) -> bool:
        """Whether every gradient is right."""
        return all(row.ok for row in self.rows)

    @property
    def worst(self) -> float:
        """The largest relative error."""
        return max((row.relative_error for row in self.rows), default=0.0)

    def __str__(self) -> str:
        """Return a table with a row per gradient."""
        head = f"{'gradient':12}  {'shape':>12}  {'size':>9}  {'error':>9}  {'relative':>9}"
        rows = [
            f"{'d ' + r.name:12}  {'x'.join(map(str, r.shape)):>12}  {r.size:9.2e}  {r.error:9.1e}  "
            f"{r.relative_error:9.1e}  {'ok' if r.ok else 'WRONG'}"
            for r in self.rows
        ]
        return "\n".join([head, *rows])


def check_network(
    network: Sequential,
    x: ArrayLike,
    targets: ArrayLike,
    *,
    l2: float = 0.0,
    rng: int | np.random.Generator = 0,
) -> GradientCheck:
    """Compare the gradients of a network on a batch with the true derivatives of its loss.

    The gradients are those that training would use, computed in float64 by the same functions. The true derivatives
    come from the layers' reference functions by the complex step, along random directions for every parameter and
    for x. The network is not changed: a copy is checked, whose parameters are moved at random by a hundredth. A fresh
    network's biases are exactly 0, and where all inputs of a unit are off, that is the corner of ReLU, at which there
    is no derivative to compare with.

    Parameters
    ----------
    network : Sequential
        What to check.
    x : array_like, shape (N, ...)
        A small batch; 16 samples are plenty.
    targets : array_like
        As the network's loss takes them.
    l2 : float
        As in training.
    rng : int or numpy.random.Generator
        Draws the directions.

    Returns
    -------
    GradientCheck
        A row per parameter, and one for x. A gradient is right if it differs by at most 1e-9 of its size, or by no
        more than rounding (1e-13 of the network's largest gradient, for those that are zero by the mathematics).
        One that is not finite, or whose derivative is not, is wrong.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> net = xhat.mlp(5, [7], 3, normalization="batch", dropout=0.2, rng=0)
    >>> x = np.random.default_rng(0).standard_normal((8, 5))
    >>> check = xhat.verify.check_network(net, x, np.arange(8) % 3)
    >>> check.ok, len(check.rows), check.worst < 1e-12
    (True, 6, True)
    """
    draw = as_generator("check_network", rng)
    wide = network.astype(np.float64)
    for parameter in wide.parameters.values():
        parameter += _JITTER * draw.standard_normal(parameter.shape)
    values = as_values("check_network", "x", x).astype(np.float64)
    wanted = np.asarray(targets)

    trained = copy.deepcopy(wide)
    scores, caches = trained.forward(values, training=True)
    _, dscores = wide.loss.function(scores, wanted)
    dx, gradients = trained.backward(dscores, caches)
    trained.penalty(l2, gradients)

    arrays = {"x": values, **wide.parameters}
    lengths = {name: math.sqrt(float((g * g).sum())) for name, g in {**gradients, "x": dx}.items()}
    noise = _ROUNDING * max(lengths.values())
    rows: list[GradientRow] = []
    for name in (*wide.parameters, "x"):
        gradient = dx if name == "x" else gradients[name]

        def loss(changed: Array, name: str = name) -> Any:
            with np.errstate(all="ignore"):
                return _reference_loss(wide, {**arrays, name: changed}, wanted, l2)

        error = 0.0
        for _ in range(_DIRECTIONS):
            direction = draw.standard_normal(gradient.shape)
            slope = complex_step(loss, arrays[name], direction)
            difference = abs(slope - float((gradient * direction).sum()))
            error = max(error, difference if math.isfinite(difference) else math.inf)
        size = lengths[name]
        relative = error / size if size else (math.inf if error > noise else 0.0)
        rows.append(GradientRow(name, gradient.shape, size, error, relative, error <= max(_TOLERANCE * size, noise)))
    return GradientCheck(tuple(rows))


def _reference_loss(network: Sequential, arrays: dict[str, Array], targets: Array, l2: float) -> Any:
    """Return the loss by the reference functions alone, with these parameters."""
    # One copy of all layers: generators draw the same masks every time, also one that several layers share.
    kept = {id(values): values for values in network.parameters.values()}
    layers = copy.deepcopy(network.layers, kept)
    y = arrays["x"]
    penalty = 0.0
    for i, layer in enumerate(layers):
        layer.parameters = {name: arrays[f"{i}.{name}"] for name in layer.parameters}
        y, _ = layer.op(True).reference_forward(y, **layer.arguments(True))
        penalty = penalty + sum((layer.parameters[name] ** 2).sum() for name in layer.weights)
    return network.loss.reference(y, targets) + l2 / 2 * penalty
