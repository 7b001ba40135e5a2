"""Layer normalization: give every sample mean 0 and variance 1 over its features.

    mean  = average of x over the features           x_hat = (x - mean) * rstd
    rstd  = 1 / sqrt(variance + eps)                 y     = x_hat * gamma + beta

Going back, two directions of dx_hat = dy * gamma are lost, because x_hat cannot move along them: along the ones
vector (the mean was removed) and along x_hat (the length was fixed).

    dx = rstd * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat))
    dgamma = sum over samples of dy * x_hat          dbeta = sum over samples of dy

Source: Ba, Kiros, Hinton 2016, "Layer normalization", arXiv:1607.06450, eqs. (3) and (4); with eps,
as has become usual.
Derivation: docs/layer_norm.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from xhat import kernels
from xhat.checks import (
    Array,
    as_axes,
    as_count,
    as_epilogue,
    as_eps,
    as_gradient,
    as_output,
    as_parameter,
    as_parameter_dtype,
    as_statistic,
    as_values,
    check_cache,
    check_range,
    shape_of,
)
from xhat.core import Case, Layer, Op
from xhat.kernels import memory, small, strided
from xhat.kernels.fused import Epilogue


class Cache(NamedTuple):
    """What backward needs. `x` is what was normalized, the caller's array or its sum with the residual: leave it.

    The mean is `mean + mean_low`: what rounding the mean to float64 left behind is kept beside it, so that no
    offset of x costs digits.
    """

    x: Array  # any shape; x, or x + residual
    gamma: Array | None  # the normalized axes of x
    beta: Array | None  # the normalized axes of x
    mean: Array  # x with the normalized axes of size 1; float64, unit of x
    mean_low: Array  # likewise
    var: Array  # likewise; biased, unit of x²
    rstd: Array  # likewise; unit of 1/x
    axis: tuple[int, ...]  # the normalized axes, ascending


class Grads(NamedTuple):
    """The gradients, each with the shape and type of what it belongs to; None for a parameter that was None."""

    dx: Array
    dgamma: Array | None
    dbeta: Array | None


def reference_forward(
    x: Array, gamma: Array | None, beta: Array | None, eps: float, axis: int | tuple[int, ...] = -1
) -> tuple[Array, Cache]:
    """Centre, scale to unit variance, then apply gamma and beta."""
    axes = sorted_axes(x.ndim, axis)
    shape = parameter_shape(x.shape, axes)
    count = max(1, math.prod(shape))

    mean = x.sum(axes, keepdims=True) / count
    centred = x - mean
    mean_low = centred.sum(axes, keepdims=True) / count  # a mean of 1e9 is rounded by 1e-7: take that off too
    centred = centred - mean_low
    var = (centred * centred).sum(axes, keepdims=True) / count
    spread = var + eps
    rstd = np.where(spread == 0, 0, (spread + (spread == 0)) ** -0.5)  # nothing varies: nothing to scale

    y = centred * rstd
    if gamma is not None:
        y = y * gamma.reshape(shape)
    if beta is not None:
        y = y + beta.reshape(shape)
    return y, Cache(x, gamma, beta, mean, mean_low, var, rstd, axes)


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Remove from dx_hat the two directions that x_hat cannot move along."""
    x, gamma, beta, mean, mean_low, _, rstd, axes = cache
    shape = parameter_shape(x.shape, axes)
    count = max(1, math.prod(shape))
    samples = tuple(i for i in range(x.ndim) if i not in axes)

    x_hat = (x - mean - mean_low) * rstd
    dx_hat = dy if gamma is None else dy * gamma.reshape(shape)
    along_ones = dx_hat.sum(axes, keepdims=True) / count
    along_x_hat = (dx_hat * x_hat).sum(axes, keepdims=True) / count
    return Grads(
        dx=rstd * (dx_hat - along_ones - x_hat * along_x_hat),
        dgamma=None if gamma is None else (dy * x_hat).sum(samples),
        dbeta=None if beta is None else dy.sum(samples),
    )


def forward(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
    axis: int | tuple[int, ...] = -1,
    *,
    residual: ArrayLike | None = None,
    epilogue: Epilogue | None = None,
    out: Array | None = None,
) -> tuple[Array, Cache]:
    """Give every sample of `x` mean 0 and variance 1 over the axes `axis`, then scale and shift.

    Parameters
    ----------
    x : array_like
        Any shape with at least one axis, any floating type.
    gamma, beta : array_like, optional
        Scale and shift, unit of y, in the shape of the normalized axes: (D,) for the last axis. None means none.
    eps : float
        Added to the variance; unit of x². With 0, a sample whose features are all equal gives beta.
    axis : int or tuple of int
        The axes to normalize over, in any order.
    residual : array_like, optional
        Added to `x` first, in its type: what is normalized is their sum, which is kept as `cache.x`. Shape of `x`,
        or that of the normalized axes: a bias.
    epilogue : kernels.fused.Epilogue, optional
        What follows in the same pass: ReLU, and dropout if its rate is above 0. For float32 and float64 with compiled
        loops, the normalized axes last; give `backward` the same.
    out : array, optional
        Where to write y: shape and type of `x`, C-contiguous, apart from the inputs.

    Returns
    -------
    y : array
        Shape and type of `x`.
    cache : Cache
        For `backward`.

    Raises
    ------
    TypeError
        If an argument has the wrong type; integers in `x` must be converted first.
    ValueError
        If a shape does not fit, an axis does not exist, `eps` is negative or not finite, or x is out of
        range (see Notes).

    Notes
    -----
    Statistics are float64 whatever the type of `x`. A NaN or Inf stays in its sample. Where the squares of float64 data
    leave the range, beyond about 1e154 or below 1e-154, `var` is Inf or 0, and y and dx are right all the same. Without
    compiled loops, and beyond 4e307, such data are an error (found while computing: `out` has been written), or count
    as not varying.

    References
    ----------
    Ba, Kiros, Hinton 2016, arXiv:1607.06450, eqs. (3) and (4).

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.layer_norm.forward(np.array([[1.0, 2.0, 3.0]]), eps=1 / 3)
    >>> print(y, cache.mean, cache.rstd)
    [[-1. 0. 1.]] [[2.]] [[1.]]
    """
    plain = out is residual is epilogue is None
    done = small.rows_forward(x, gamma, beta, eps, axis) if plain else None
    if done is not None:
        return done[0], Cache._make(done[1])

    who = "layer_norm.forward"
    given = x, gamma, beta, residual
    x = as_values(who, "x", x)
    axes = as_axes(who, "axis", axis, x.ndim)
    features = tuple(x.shape[i] for i in axes)
    advice = "Give gamma and beta the shape of the normalized axes of x."
    gamma = None if gamma is None else as_parameter(who, "gamma", gamma, features, advice)
    beta = None if beta is None else as_parameter(who, "beta", beta, features, advice)
    eps = as_eps(who, eps)
    epilogue = as_epilogue(who, epilogue, features_last(x, axes))
    y = as_output(who, out, x.shape, x.dtype, *given)
    total = x
    if residual is not None:
        residual, total = as_residual(who, residual, x, axes), memory.empty(x.shape, x.dtype)
        if not adds(x, axes):
            x, residual = added(x, residual, total), None

    if not kernels.serves(x.dtype):
        with np.errstate(all="ignore"):
            y[...], cache = reference_forward(x.astype(np.float64), gamma, beta, eps, axes)
        check_range(who, x, cache.var, axes)
        return y, cache._replace(x=x)

    statistics = strided.rows_forward(
        features_last(x, axes),
        gamma,
        beta,
        eps,
        features_last(y, axes),
        kept=x.ndim - len(axes),
        shape=(1, math.prod(features)),
        epilogue=epilogue,
        added=residual,
        total=total if residual is not None else None,
    )
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    mean, mean_low, var, rstd = (s.reshape(kept) for s in statistics)
    check_range(who, total, var, axes, rstd=rstd)
    return y, Cache(total, gamma, beta, mean, mean_low, var, rstd, axes)


def backward(
    dy: ArrayLike,
    cache: Cache,
    *,
    also: ArrayLike | None = None,
    epilogue: Epilogue | None = None,
    out: Array | None = None,
) -> Grads:
    """Return the gradients of `forward`.

    Parameters
    ----------
    dy : array_like
        Gradient of the output, shape of `x`.
    cache : Cache
        From `forward`.
    also : array_like, optional
        A gradient that arrives at what was normalized, beside the norm: shape of `x`. Added to dx.
    epilogue : kernels.fused.Epilogue, optional
        What `forward` was given; `dy` is then the gradient of what came out of it.
    out : array, optional
        Where to write dx: shape and type of `x`, C-contiguous, apart from the inputs.

    Returns
    -------
    Grads
        `dx` like `x`; `dgamma`, `dbeta` like their parameters, None for a parameter that was None. Where there was a
        residual, `dx` is its gradient too; where that was a bias, the sum of `dx` over the samples is.

    Raises
    ------
    TypeError, ValueError
        If `dy` or a saved array does not have the type and shape that `forward` gave it.
    """
    plain = type(cache) is Cache and out is also is epilogue is None
    done = small.rows_backward(dy, *cache) if plain else None
    if done is not None:
        return Grads._make(done)

    who = "layer_norm.backward"
    check_cache(who, cache, Cache)
    given = dy, also, *cache
    advice = "Pass on the cache that forward returned."
    x = as_values(who, "cache.x", cache.x)
    axes = as_axes(who, "cache.axis", cache.axis, x.ndim)
    features = tuple(x.shape[i] for i in axes)
    gamma = None if cache.gamma is None else as_parameter(who, "cache.gamma", cache.gamma, features, advice)
    beta = None if cache.beta is None else as_parameter(who, "cache.beta", cache.beta, features, advice)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    statistics = kernels.Statistics(
        *(as_statistic(who, f"cache.{name}", getattr(cache, name), kept, advice) for name in kernels.Statistics._fields)
    )
    epilogue = as_epilogue(who, epilogue, features_last(x, axes))
    dy = as_gradient(who, dy, x.shape, x.dtype)
    also = None if also is None else as_gradient(who, also, x.shape, x.dtype, "also")
    dx = as_output(who, out, x.shape, x.dtype, *given)

    if not kernels.serves(x.dtype):
        wide = Cache(x.astype(np.float64), gamma, beta, *statistics, axes)
        with np.errstate(all="ignore"):
            dx[...], dgamma, dbeta = reference_backward(dy.astype(np.float64), wide)
    else:
        samples = tuple(n for i, n in enumerate(x.shape) if i not in axes)
        dgamma, dbeta = strided.rows_backward(
            features_last(dy, axes),
            features_last(x, axes),
            gamma,
            kernels.Statistics(*(s.reshape(samples) for s in statistics)),
            features_last(dx, axes),
            shape=(1, math.prod(features)),
            beta=beta,
            epilogue=epilogue,
            also=also if adds(x, axes) else None,
        )
    if also is not None and not adds(x, axes):
        added(dx, also, dx)
    with np.errstate(all="ignore"):
        return Grads(
            dx,
            None if gamma is None or dgamma is None else dgamma.reshape(features).astype(gamma.dtype, copy=False),
            None if beta is None or dbeta is None else dbeta.reshape(features).astype(beta.dtype, copy=False),
        )


def sorted_axes(ndim: int, axis: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return the normalized axes, counted from the front, ascending."""
    return tuple(sorted(i % ndim for i in (axis if isinstance(axis, tuple) else (axis,))))


def parameter_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that lays gamma and beta along the normalized axes of x."""
    return tuple(n if i in axes else 1 for i, n in enumerate(shape))


def features_last(values: Array, axes: tuple[int, ...]) -> Array:
    """Return a view of the array with the normalized axes last."""
    return values.transpose(*(i for i in range(values.ndim) if i not in axes), *axes)


def as_residual(who: str, residual: ArrayLike, x: Array, axes: tuple[int, ...]) -> Array:
    """Return what is added to x, in its type: of its shape, or laid along the normalized axes."""
    values = as_values(who, "residual", residual)
    features = tuple(x.shape[i] for i in axes)
    if values.shape not in (x.shape, features):
        raise ValueError(
            f"{who}: expected residual of shape {x.shape} or {features}, got {values.shape}. "
            "Give it the shape of x, or of the normalized axes of x."
        )
    with np.errstate(over="ignore"):
        values = values.astype(x.dtype, copy=False)
    return values if values.shape == x.shape else values.reshape(parameter_shape(x.shape, axes))


def adds(x: Array, axes: tuple[int, ...]) -> bool:
    """Tell whether a loop adds on its way over the rows."""
    return kernels.serves_wide(x.dtype) and features_last(x, axes).flags.c_contiguous


def added(x: Array, other: Array, out: Array) -> Array:
    """Write the sum where no loop adds on its way."""
    with np.errstate(all="ignore"):
        return np.add(x, other, out=out)


OP = Op(forward, backward, reference_forward, reference_backward)


class LayerNorm(Layer):
    """Give every sample mean 0 and variance 1 over its features, then scale and shift.

    The same in training and in prediction: a sample's statistics are its own.

    Parameters
    ----------
    features : int or tuple of int
        Sizes of the normalized axes, which are the last ones of x.
    eps : float
        Added to the variance; unit of x².
    dtype : dtype
        Type of the parameters.

    Attributes
    ----------
    parameters : dict
        `gamma` (ones) and `beta` (zeros), in the shape `features`; unit of y.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.LayerNorm(3).forward(np.array([[1.0, 2.0, 3.0]]))
    >>> print(y.round(3))
    [[-1.225 0. 1.225]]
    """

    ops = (OP, OP)
    normalizes_features = True

    def __init__(self, features: int | tuple[int, ...], *, eps: float = 1e-5, dtype: DTypeLike = np.float32) -> None:
        super().__init__()
        who = "LayerNorm"
        sizes = tuple(features) if isinstance(features, tuple | list) else (features,)
        advice = "Give the size of the last axis of x, or the sizes of several last axes."
        if not sizes:
            raise ValueError(f"{who}: expected features with at least one size, got (). {advice}")
        self.features = tuple(as_count(who, "features", size, 1, advice) for size in sizes)
        self.eps = as_eps(who, eps)
        kind = as_parameter_dtype(who, dtype)
        self.parameters = {"gamma": np.ones(self.features, kind), "beta": np.zeros(self.features, kind)}

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return what the Op's forward is called with."""
        return {**self.parameters, "eps": self.eps, "axis": tuple(range(-len(self.features), 0))}

    def fuses(self, training: bool) -> bool:
        """Return whether ReLU and dropout may follow in the same pass."""
        return True

    def forward(self, x: ArrayLike, *, training: bool = False, epilogue: Epilogue | None = None) -> tuple[Array, Cache]:
        """Return the output and the cache that `backward` needs."""
        shape = shape_of("LayerNorm", "x", x)
        if shape[len(shape) - len(self.features) :] != self.features:
            raise ValueError(
                f"LayerNorm: expected x of shape (..., {', '.join(map(str, self.features))}), got {shape}. "
                "Make the layer with the sizes of the last axes of x."
            )
        return forward(x, **self.arguments(training), epilogue=epilogue)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        yield Case(cls(7), x=(4, 7))
        yield Case(cls(5), x=(2, 3, 5))
        yield Case(cls((3, 5)), x=(2, 3, 5))
        yield Case(cls(2), x=(5, 2))
        yield Case(cls(1), x=(3, 1), zero_gradients=("x", "gamma"))  # one feature: nothing is left to move
        yield Case(cls(3), x=1e8 + np.array([[0.1, 0.5, -0.3], [1.7, 0.2, -1.1]]))
        # mean 2 and variance 2/3, so with eps = 1/3 rstd is 1; mean 0 and variance 26/3, so it is 1/3
        yield Case(
            cls(3, eps=1 / 3),
            x=np.array([[1.0, 2.0, 3.0], [-1.0, -3.0, 4.0]]),
            parameters={"gamma": [1, 2, 3], "beta": [0, 10, 20]},
            y=[[-1, 10, 23], [-1 / 3, 8, 24]],
            dy=[[3, 0, 0], [0, 0, 1]],
            dx=[[1, -1, 0], [-5 / 27, 1 / 9, 2 / 27]],
        )
        # an eps of 0: the first sample does not vary, so nothing is scaled and nothing passes back
        yield Case(
            cls(2, eps=0.0),
            x=np.array([[5.0, 5.0], [1.0, 3.0]]),
            parameters={"gamma": [2, 2], "beta": [1, 4]},
            y=[[1, 4], [-1, 6]],
            dy=[[1, 0], [1, 2]],
            dx=[[0, 0], [0, 0]],
        )
        # not varying with an eps of 1/4, where rstd is 2; variance 1 with an eps of 1/4
        yield Case(
            cls(2, eps=0.25),
            x=np.array([[5.0, 5.0]]),
            parameters={"gamma": [1, 2], "beta": [1, 4]},
            y=[[1, 4]],
            dy=[[1, 0]],
            dx=[[1, -1]],
        )
