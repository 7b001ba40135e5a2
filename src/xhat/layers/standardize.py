"""Standardize: bring raw data to mean 0 and deviation 1 with fixed numbers, taken once from the training data.

    y = (x - mean) / std          dx = dy / std

As the first layer of a network it travels in the network's file, so that prediction takes raw data and cannot
forget, or repeat, the scaling.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import (
    Array,
    as_count,
    as_gradient,
    as_parameter_dtype,
    as_statistic,
    as_values,
    check_cache,
    shape_of,
)
from xhat.core import Case, Layer, Op

_ADVICE = "Give one mean and one std > 0 per feature, or one for all."


class Cache(NamedTuple):
    """What backward needs."""

    std: Array  # (D,) or (1,)
    shape: tuple[int, ...]  # of x
    dtype: np.dtype[Any]  # of x


class Grads(NamedTuple):
    """The gradient; the mean and std are constants."""

    dx: Array  # (..., D)


def reference_forward(x: Array, mean: Array, std: Array) -> tuple[Array, Cache]:
    """Shift and scale by constants."""
    return (x - mean) / std, Cache(std, x.shape, x.dtype)


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Scale by the same constants."""
    return Grads(dx=dy / cache.std)


def forward(x: ArrayLike, mean: Array, std: Array) -> tuple[Array, Cache]:
    """Compute `(x - mean) / std`.

    Parameters
    ----------
    x : array_like, shape (..., D)
        Any floating type.
    mean, std : array of float64, shape (D,) or (1,)
        Constants, unit of x; std is positive.

    Returns
    -------
    y : array
        Shape and type of `x`.
    cache : Cache
        For `backward`.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, a constant is not finite or a std not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.layers import standardize
    >>> y, cache = standardize.forward(np.array([[3.0, 9.0]]), np.array([1.0, 1.0]), np.array([2.0, 4.0]))
    >>> print(y)
    [[1. 2.]]
    """
    who = "standardize.forward"
    x = as_values(who, "x", x)
    if x.ndim < 1:
        raise ValueError(f"{who}: expected an x with at least one axis, got a single number. Give an array.")
    shape = (1,) if shape_of(who, "mean", mean) == (1,) else x.shape[-1:]
    mean = as_statistic(who, "mean", mean, shape, _ADVICE)
    std = _as_std(who, "std", std, shape)
    if not np.isfinite(mean).all():
        raise ValueError(f"{who}: expected a finite mean, got NaN or Inf. {_ADVICE}")
    with np.errstate(all="ignore"):
        return ((x.astype(np.float64) - mean) / std).astype(x.dtype), Cache(std, x.shape, x.dtype)


def backward(dy: ArrayLike, cache: Cache) -> Grads:
    """Return the gradient of `forward`.

    Parameters
    ----------
    dy : array_like, shape (..., D)
        Gradient of the output.
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
    who = "standardize.backward"
    check_cache(who, cache, Cache)
    dtype = as_parameter_dtype(who, cache.dtype)
    if not isinstance(cache.shape, tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
        got = type(cache.shape).__name__
        raise TypeError(f"{who}: expected cache.shape as a tuple, got {got}. Pass on the cache that forward returned.")
    shape = tuple(as_count(who, "cache.shape", n, 0, "Pass on the cache that forward returned.") for n in cache.shape)
    std = _as_std(who, "cache.std", cache.std, (1,) if shape_of(who, "cache.std", cache.std) == (1,) else shape[-1:])
    dy = as_gradient(who, dy, shape, dtype)
    with np.errstate(all="ignore"):
        return Grads((dy / std).astype(dtype))


def _as_std(who: str, name: str, std: object, shape: tuple[int, ...]) -> Array:
    """Return the deviations, if all are finite and positive."""
    values = as_statistic(who, name, std, shape, _ADVICE)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"{who}: expected {name} finite and > 0, got {values.min():g}. {_ADVICE}")
    return values


OP = Op(forward, backward, reference_forward, reference_backward)


class Standardize(Layer):
    """Bring raw data to mean 0 and deviation 1 with fixed numbers: `y = (x - mean) / std`.

    Parameters
    ----------
    features : int
        Number of features D, or 1 if one mean and one deviation serve all (the pixels of pictures).

    Attributes
    ----------
    state : dict
        `mean` and `std`, shape (features,), float64, unit of x; 0 and 1 until set. Nothing is trained.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> layer = xhat.Standardize.of(x)
    >>> print(layer.forward(x)[0])
    [[-1. -1.]
     [ 1.  1.]]
    """

    ops = (OP, OP)

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = as_count("Standardize", "features", features, 1, "Give the size of the last axis of x.")
        self.state = {"mean": np.zeros(self.features), "std": np.ones(self.features)}

    @classmethod
    def of(cls, x: ArrayLike, *, shared: bool = False) -> Standardize:
        """Return the layer that standardizes `x`.

        Parameters
        ----------
        x : array_like, shape (N, D)
            The training data: finite, at least one sample.
        shared : bool
            Whether one mean and one deviation serve all features, as for pixels.

        Returns
        -------
        Standardize
            A feature that never varies is only centred: its std is taken as 1.

        Raises
        ------
        TypeError, ValueError
            If `x` is not floating, not finite, or empty.
        """
        who = "Standardize.of"
        values = as_values(who, "x", x).astype(np.float64)
        if values.ndim != 2 or not values.size:
            raise ValueError(f"{who}: expected x of shape (N, D), not empty, got {values.shape}. Give a table.")
        if not np.isfinite(values).all():
            raise ValueError(f"{who}: expected finite x, got NaN or Inf. Fill or drop missing values first.")
        axis = None if shared else 0
        mean = np.atleast_1d(values.mean(axis))
        std = np.atleast_1d(values.std(axis))
        layer = cls(mean.size)
        layer.state["mean"][...] = mean
        layer.state["std"][...] = np.where(std > 1e-12 * np.abs(mean), std, 1.0)
        return layer

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return what the Op's forward is called with."""
        return dict(self.state)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        layer = cls(3)
        layer.state["mean"][...] = [1, -2, 0.5]
        layer.state["std"][...] = [2, 0.25, 3]
        yield Case(layer, x=(4, 3))
        layer = cls(1)
        layer.state["mean"][...] = 3
        layer.state["std"][...] = 2
        yield Case(layer, x=np.array([[3.0, 5.0, -1.0]]), y=[[0, 1, -2]], dy=[[2, 4, 6]], dx=[[1, 2, 3]])
