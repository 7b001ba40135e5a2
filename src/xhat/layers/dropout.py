"""Dropout: in training, set a random share of the numbers to zero and scale up the rest.

    y = x / (1 - rate) where kept, else 0          dx = dy / (1 - rate) where kept, else 0

Dividing by the share that is kept leaves the expected value of y at x, so prediction needs no scaling: there
the layer passes x on.

What is kept follows from a key and each number's place (`xhat.kernels.random`), so the key is saved instead of a mask.

Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014, "Dropout", JMLR 15, section 10
(scaling in training, "inverted" dropout). Derivation: docs/dropout.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from xhat import kernels
from xhat.checks import (
    Array,
    as_generator,
    as_gradient,
    as_key,
    as_parameter_dtype,
    as_real,
    as_saved_shape,
    as_values,
    check_cache,
)
from xhat.core import Case, Layer, Op
from xhat.kernels import memory, random
from xhat.kernels.elementwise import masked

_CACHE = "Pass on the cache that forward returned."
_RATE = "The rate is the share that is dropped: 0 drops nothing, 1 everything."


class Cache(NamedTuple):
    """What backward needs."""

    key: int  # says, with the rate, what is kept
    rate: float
    shape: tuple[int, ...]  # of x
    dtype: np.dtype[Any]  # of x

    @property
    def keep(self) -> Array:
        """What is kept: bool, in the shape of x."""
        return random.kept(self.shape, self.key, self.rate)


class Grads(NamedTuple):
    """The gradient."""

    dx: Array  # shape of x


def draw_key(rate: float, rng: np.random.Generator) -> int:
    """Return a key of 64 bits. A rate of 0 draws nothing."""
    return int(rng.integers(1 << 64, dtype=np.uint64)) if rate > 0 else 0


def draw(shape: tuple[int, ...], dtype: np.dtype[Any], rate: float, rng: np.random.Generator) -> Cache:
    """Return a cache for an x of this shape and type, with a key of its own."""
    return Cache(draw_key(rate, rng), rate, shape, dtype)


def reference_forward(x: Array, rate: float, rng: np.random.Generator) -> tuple[Array, Cache]:
    """Scale what is kept, drop the rest."""
    cache = draw(x.shape, x.dtype, rate, rng)
    return scaled(x, cache), cache


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Scale the gradient of what was kept, drop the rest."""
    return Grads(dx=scaled(dy, cache))


def scaled(values: Array, cache: Cache) -> Array:
    """Scale what is kept, drop the rest: values, or gradients."""
    share = (1 - cache.rate) or 1  # where all is dropped there is nothing to scale
    return np.where(cache.keep, values, 0) / share


def forward(x: ArrayLike, rate: float, rng: int | np.random.Generator) -> tuple[Array, Cache]:
    """Drop a random share of `x` and scale up the rest.

    Parameters
    ----------
    x : array_like
        Any shape, any floating type.
    rate : float
        Share that is dropped, in [0, 1]; no unit. (Others call the share kept, or this one, `p`.)
    rng : int or numpy.random.Generator
        Draws the key of the mask. A generator advances.

    Returns
    -------
    y : array
        Shape and type of `x`; what was dropped is 0, also where `x` was Inf or NaN.
    cache : Cache
        For `backward`.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If `rate` is outside [0, 1].

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.dropout.forward(np.ones(6), rate=0.5, rng=0)
    >>> print(y)
    [2. 2. 2. 2. 0. 0.]
    """
    who = "dropout.forward"
    x = as_values(who, "x", x)
    rate = as_real(who, "rate", rate, 0.0, 1.0, _RATE)
    cache = draw(x.shape, x.dtype, rate, as_generator(who, rng))
    return _scale(x, cache.key, rate), cache


def backward(dy: ArrayLike, cache: Cache) -> Grads:
    """Return the gradient of `forward`.

    Parameters
    ----------
    dy : array_like
        Gradient of the output, shape of `x`.
    cache : Cache
        From `forward`.

    Returns
    -------
    Grads
        `dx`, with the shape and type of `x`.

    Raises
    ------
    TypeError, ValueError
        If `dy` or what was saved does not have the type and shape that `forward` gave it.
    """
    dy, key, rate = as_dropped(dy, cache)
    return Grads(_scale(dy, key, rate))


def as_dropped(dy: ArrayLike, cache: Cache) -> tuple[Array, int, float]:
    """Return a gradient that fits the cache, and the key and rate in it, each judged."""
    who = "dropout.backward"
    check_cache(who, cache, Cache)
    key = as_key(who, "cache.key", cache.key, _CACHE)
    rate = as_real(who, "cache.rate", cache.rate, 0.0, 1.0, _RATE)
    shape = as_saved_shape(who, "cache.shape", cache.shape, None, _CACHE)
    dtype = as_parameter_dtype(who, cache.dtype)
    return as_gradient(who, dy, shape, dtype), key, rate


def _scale(values: Array, key: int, rate: float) -> Array:
    """Return values / (1 - rate) where kept, else 0: a dropped Inf or NaN leaves no trace."""
    if kernels.serves_wide(values.dtype):
        out = memory.empty(values.shape, values.dtype)
        random.dropout(values, key, rate, out)
        return out
    keep = random.kept(values.shape, key, rate)
    with np.errstate(all="ignore"):
        return masked(values / values.dtype.type(1 - rate or 1), keep)  # where all is dropped there is nothing to scale


OP = Op(forward, backward, reference_forward, reference_backward)


class Dropout(Layer):
    """Set a random share of the numbers to zero in training; pass everything on in prediction.

    Parameters
    ----------
    rate : float
        Share that is dropped, in [0, 1]; no unit.
    rng : int or numpy.random.Generator
        Draws the masks.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> layer = xhat.Dropout(0.5, rng=0)
    >>> y, cache = layer.forward(np.ones(4))
    >>> print(y)
    [1. 1. 1. 1.]
    """

    ops = (OP, OP)

    def __init__(self, rate: float, *, rng: int | np.random.Generator) -> None:
        super().__init__()
        self.rate = as_real("Dropout", "rate", rate, 0.0, 1.0, _RATE)
        self.rng = as_generator("Dropout", rng)

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return what the Op's forward is called with: in prediction nothing is dropped, and nothing drawn."""
        return {"rate": self.rate if training else 0.0, "rng": self.rng}

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        yield Case(cls(0.4, rng=0), x=(6, 7))
        yield Case(cls(0.0, rng=0), x=np.array([1.0, -2.0]), y=[1, -2], dy=[3, 4], dx=[3, 4])
        yield Case(cls(0.4, rng=0), x=np.array([1.0, -2.0]), training=False, y=[1, -2], dy=[3, 4], dx=[3, 4])
        yield Case(cls(1.0, rng=0), x=np.array([1.0, -2.0]), y=[0, 0], dy=[3, 4], dx=[0, 0])
        # the key that default_rng(0) draws keeps the first four of six at rate 0.5
        yield Case(
            cls(0.5, rng=0),
            x=np.arange(1.0, 7.0),
            y=[2, 4, 6, 8, 0, 0],
            dy=np.ones(6),
            dx=[2, 2, 2, 2, 0, 0],
        )
