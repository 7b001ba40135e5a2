"""Flatten: all axes of a sample in a row, (N, ...) to (N, D), so that an affine layer can follow.

No number changes; the gradient goes back into the shape that x had.

Derivation: docs/flatten.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_gradient, as_parameter_dtype, as_saved_shape, as_values, check_cache
from xhat.core import Case, Layer, Op


class Cache(NamedTuple):
    """What backward needs."""

    shape: tuple[int, ...]  # of x
    dtype: np.dtype[Any]  # of x


class Grads(NamedTuple):
    """The gradient."""

    dx: Array  # shape of x


def reference_forward(x: Array) -> tuple[Array, Cache]:
    """Lay each sample's axes in a row, the last one running fastest."""
    return x.reshape(_flat(x.shape)), Cache(x.shape, x.dtype)


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Put every number back."""
    return Grads(dx=dy.reshape(cache.shape))


def forward(x: ArrayLike) -> tuple[Array, Cache]:
    """Lay the axes of each sample in a row.

    Parameters
    ----------
    x : array_like, shape (N, ...)
        Any floating type.

    Returns
    -------
    y : array, shape (N, D)
        Type of `x`; D is the number of entries of a sample, 1 if x has one axis. Shares its memory with a contiguous
        `x`: what is written into one appears in the other.
    cache : Cache
        For `backward`.

    Raises
    ------
    TypeError
        If `x` is not of a floating type.
    ValueError
        If `x` is a single number.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.flatten.forward(np.ones((5, 3, 8, 8)))
    >>> y.shape, xhat.flatten.backward(y, cache).dx.shape
    ((5, 192), (5, 3, 8, 8))
    """
    who = "flatten.forward"
    x = as_values(who, "x", x)
    if x.ndim < 1:
        raise ValueError(f"{who}: expected x of shape (N, ...), got a single number. Give an array of samples.")
    return x.reshape(_flat(x.shape)), Cache(x.shape, x.dtype)


def backward(dy: ArrayLike, cache: Cache) -> Grads:
    """Return the gradient of `forward`.

    Parameters
    ----------
    dy : array_like, shape (N, D)
        Gradient of the output.
    cache : Cache
        From `forward`.

    Returns
    -------
    Grads
        `dx`, with the shape and type of `x`. Shares its memory with a contiguous `dy`.

    Raises
    ------
    TypeError, ValueError
        If `dy` or what was saved does not have the type and shape that `forward` gave it.
    """
    who = "flatten.backward"
    check_cache(who, cache, Cache)
    shape = as_saved_shape(who, "cache.shape", cache.shape, None, "Pass on the cache that forward returned.")
    dtype = as_parameter_dtype(who, cache.dtype)
    if not shape:
        raise ValueError(f"{who}: expected cache.shape of samples, got (). Pass on the cache that forward returned.")
    return Grads(as_gradient(who, dy, _flat(shape), dtype).reshape(shape))


def _flat(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (N, D) for (N, ...)."""
    return shape[0], math.prod(shape[1:])


OP = Op(forward, backward, reference_forward, reference_backward)


class Flatten(Layer):
    """Lay the axes of each sample in a row, so that an affine layer can follow. No parameters.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.Flatten().forward(np.zeros((2, 3, 4, 4)))
    >>> y.shape
    (2, 48)
    """

    ops = (OP, OP)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        yield Case(cls(), x=(2, 3, 4, 5))
        yield Case(cls(), x=(5, 3))
        yield Case(cls(), x=(3,))
        yield Case(cls(), x=(1, 2, 1, 3, 1))
        yield Case(
            cls(),
            x=np.arange(8.0).reshape(2, 2, 2),
            y=[[0, 1, 2, 3], [4, 5, 6, 7]],
            dy=[[7, 6, 5, 4], [3, 2, 1, 0]],
            dx=[[[7, 6], [5, 4]], [[3, 2], [1, 0]]],
        )
