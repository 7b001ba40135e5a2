"""Affine: every output is a weighted sum of all inputs, plus a bias.

    y = x @ w + b

Going back, each of the three moved y linearly, so each gradient is dy carried back through the other factor:

    dx = dy @ w.T        dw = sum over samples of outer(x, dy) = x.T @ dy        db = sum over samples of dy

Derivation: docs/affine.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from xhat.checks import (
    Array,
    Dtype,
    as_count,
    as_flag,
    as_generator,
    as_gradient,
    as_parameter,
    as_parameter_dtype,
    as_values,
    check_cache,
    shape_of,
)
from xhat.core import Case, Layer, Op


class Cache(NamedTuple):
    """What backward needs. `x` and `w` are shared, not copied: leave them alone until then."""

    x: Array  # (..., D)
    w: Array  # (D, M)
    b: Array | None  # (M,)


class Grads(NamedTuple):
    """The gradients, each with the shape and type of what it belongs to; `db` is None where there is no b."""

    dx: Array  # (..., D)
    dw: Array  # (D, M)
    db: Array | None  # (M,)


def reference_forward(x: Array, w: Array, b: Array | None = None) -> tuple[Array, Cache]:
    """Compute y = x @ w + b."""
    y = x @ w
    if b is not None:
        y = y + b
    return y, Cache(x, w, b)


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Carry dy back through each factor."""
    x, w, b = cache
    samples, dy_samples = _samples(x), _samples(dy)
    return Grads(
        dx=dy @ w.T,
        dw=samples.T @ dy_samples,
        db=None if b is None else dy_samples.sum(0),
    )


def forward(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> tuple[Array, Cache]:
    """Compute `x @ w + b`.

    Parameters
    ----------
    x : array_like, shape (..., D)
        Any floating type. Any number of leading axes.
    w : array_like, shape (D, M)
        Weights; unit of y per unit of x.
    b : array_like, shape (M,), optional
        Bias; unit of y.

    Returns
    -------
    y : array, shape (..., M)
        Of the type of `x`.
    cache : Cache
        For `backward`.

    Raises
    ------
    TypeError
        If an argument is not numeric, or `x` not floating.
    ValueError
        If the shapes do not fit.

    Notes
    -----
    The product is taken by BLAS in the type of `x` (float32 for 16-bit types).

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.affine.forward(np.array([[1.0, 2.0]]), w=[[1, 10], [1, 100]], b=[0, 5])
    >>> print(y)
    [[  3. 215.]]
    """
    who = "affine.forward"
    x = as_values(who, "x", x)
    w_shape = shape_of(who, "w", w)
    if x.ndim < 1 or len(w_shape) != 2 or w_shape[0] != x.shape[-1]:
        raise ValueError(
            f"{who}: expected w of shape (D, M) with D the last axis of x, got w {w_shape} and x {x.shape}. "
            "Flatten each sample of x first if it has several axes."
        )
    w = as_parameter(who, "w", w, w_shape, "Weights are numbers.")
    if b is not None:
        b = as_parameter(who, "b", b, w_shape[1:], "The bias has one entry per column of w.")
    wide = _product_type(x.dtype)
    with np.errstate(all="ignore"):
        y = x.astype(wide, copy=False) @ w.astype(wide, copy=False)
        if b is not None:
            y += b.astype(wide, copy=False)
        return y.astype(x.dtype, copy=False), Cache(x, w, b)


def backward(dy: ArrayLike, cache: Cache) -> Grads:
    """Return the gradients of `forward`.

    Parameters
    ----------
    dy : array_like, shape (..., M)
        Gradient of the output.
    cache : Cache
        From `forward`.

    Returns
    -------
    Grads
        `dx` (..., D), `dw` (D, M), `db` (M,) or None.

    Raises
    ------
    TypeError, ValueError
        If `dy` or a saved array does not have the type and shape that `forward` gave it.
    """
    who = "affine.backward"
    check_cache(who, cache, Cache)
    advice = "Pass on the cache that forward returned."
    x = as_values(who, "cache.x", cache.x)
    w_shape = shape_of(who, "cache.w", cache.w)
    if x.ndim < 1 or len(w_shape) != 2 or w_shape[0] != x.shape[-1]:
        raise ValueError(
            f"{who}: expected cache.w of shape (D, M) with D the last axis of x {x.shape}, got {w_shape}. {advice}"
        )
    w = as_parameter(who, "cache.w", cache.w, w_shape, advice)
    b = None if cache.b is None else as_parameter(who, "cache.b", cache.b, w_shape[1:], advice)
    dy = as_gradient(who, dy, (*x.shape[:-1], w_shape[1]), x.dtype)
    wide = _product_type(x.dtype)
    samples, dy_samples = _samples(x).astype(wide, copy=False), _samples(dy).astype(wide, copy=False)
    with np.errstate(all="ignore"):
        return Grads(
            dx=(dy.astype(wide, copy=False) @ w.astype(wide, copy=False).T).astype(x.dtype, copy=False),
            dw=(samples.T @ dy_samples).astype(w.dtype, copy=False),
            db=None if b is None else dy_samples.sum(0, dtype=np.float64).astype(b.dtype, copy=False),
        )


def _samples(values: Array) -> Array:
    """Return a matrix with a row per sample."""
    return values.reshape(math.prod(values.shape[:-1]), values.shape[-1])


def _product_type(dtype: Dtype) -> Dtype:
    """Return the type that BLAS multiplies in: 16-bit types have no products of their own."""
    return dtype if dtype.itemsize >= 4 else np.dtype(np.float32)


OP = Op(forward, backward, reference_forward, reference_backward)


class Affine(Layer):
    """Every output is a weighted sum of all inputs, plus a bias: `y = x @ w + b`.

    Weights start as normal random numbers of standard deviation sqrt(2 / inputs), which keeps the size of
    signals through ReLU layers; biases start at zero.

    Parameters
    ----------
    inputs, outputs : int
        Features that come in (D) and go out (M).
    bias : bool
        Whether to add b. Before a batch norm it has no effect.
    rng : int or numpy.random.Generator
        Draws the weights.
    dtype : dtype
        Type of the parameters.

    Attributes
    ----------
    parameters : dict
        `w` (D, M) and, with a bias, `b` (M,).

    References
    ----------
    He, Zhang, Ren, Sun 2015, "Delving deep into rectifiers", arXiv:1502.01852, eq. (10).

    Examples
    --------
    >>> import xhat
    >>> xhat.Affine(784, 10, rng=0).parameters["w"].shape
    (784, 10)
    """

    ops = (OP, OP)
    weights = ("w",)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: bool = True,
        rng: int | np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        who = "Affine"
        self.inputs = as_count(who, "inputs", inputs, 1, "Give the number of features that come in.")
        self.outputs = as_count(who, "outputs", outputs, 1, "Give the number of features that go out.")
        self.bias = as_flag(who, "bias", bias)
        kind = as_parameter_dtype(who, dtype)
        spread = math.sqrt(2 / self.inputs)
        draws = as_generator(who, rng).standard_normal((self.inputs, self.outputs))
        self.parameters["w"] = (spread * draws).astype(kind)
        if self.bias:
            self.parameters["b"] = np.zeros(self.outputs, kind)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        yield Case(cls(3, 2, rng=0), x=(4, 3))
        yield Case(cls(1, 1, rng=0), x=(1, 1))
        yield Case(cls(5, 3, bias=False, rng=0), x=(2, 7, 5))
        yield Case(
            cls(2, 2, rng=0),
            x=np.array([[1.0, 2.0], [3.0, 4.0]]),
            parameters={"w": [[1, 10], [1, 100]], "b": [0, 5]},
            y=[[3, 215], [7, 435]],
            dy=[[1, 0], [0, 1]],
            dx=[[1, 1], [10, 100]],
        )
