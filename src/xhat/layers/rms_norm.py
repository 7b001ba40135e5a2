"""RMS normalization: scale every sample to root mean square 1 over its features.

    mean_square = average of x² over the features    x_hat = x * rstd
    rstd        = 1 / sqrt(mean_square + eps)        y     = x_hat * gamma

It is layer norm without the mean, so one direction of dx_hat = dy * gamma is lost instead of two: that along x_hat (the
length was fixed). A shift of x is no longer undone, and nothing is taken off for it.

    dx = rstd * (dx_hat - x_hat * mean(dx_hat * x_hat))
    dgamma = sum over samples of dy * x_hat

Source: Zhang, Sennrich 2019, "Root mean square layer normalization", arXiv:1910.07467; with eps, as has become usual.
Derivation: docs/rms_norm.md
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
from xhat.layers.layer_norm import added, adds, as_residual, features_last, parameter_shape, sorted_axes


class Cache(NamedTuple):
    """What backward needs. `x` is what was normalized, the caller's array or its sum with the residual: leave it."""

    x: Array  # any shape; x, or x + residual
    gamma: Array | None  # the normalized axes of x
    mean_square: Array  # x with the normalized axes of size 1; float64, unit of x²
    rstd: Array  # likewise; unit of 1/x
    axis: tuple[int, ...]  # the normalized axes, ascending


class Grads(NamedTuple):
    """The gradients, each with the shape and type of what it belongs to; None for a parameter that was None."""

    dx: Array
    dgamma: Array | None


def reference_forward(
    x: Array, gamma: Array | None, eps: float, axis: int | tuple[int, ...] = -1
) -> tuple[Array, Cache]:
    """Scale to root mean square 1, then apply gamma."""
    axes = sorted_axes(x.ndim, axis)
    shape = parameter_shape(x.shape, axes)
    count = max(1, math.prod(shape))

    mean_square = (x * x).sum(axes, keepdims=True) / count
    power = mean_square + eps
    rstd = np.where(power == 0, 0, (power + (power == 0)) ** -0.5)  # all zero: nothing to scale

    y = x * rstd
    if gamma is not None:
        y = y * gamma.reshape(shape)
    return y, Cache(x, gamma, mean_square, rstd, axes)


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Remove from dx_hat the one direction that x_hat cannot move along."""
    x, gamma, _, rstd, axes = cache
    shape = parameter_shape(x.shape, axes)
    count = max(1, math.prod(shape))
    samples = tuple(i for i in range(x.ndim) if i not in axes)

    x_hat = x * rstd
    dx_hat = dy if gamma is None else dy * gamma.reshape(shape)
    along_x_hat = (dx_hat * x_hat).sum(axes, keepdims=True) / count
    return Grads(
        dx=rstd * (dx_hat - x_hat * along_x_hat),
        dgamma=None if gamma is None else (dy * x_hat).sum(samples),
    )


def forward(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    eps: float = 1e-5,
    axis: int | tuple[int, ...] = -1,
    *,
    residual: ArrayLike | None = None,
    epilogue: Epilogue | None = None,
    out: Array | None = None,
) -> tuple[Array, Cache]:
    """Scale every sample of `x` to root mean square 1 over the axes `axis`, then by gamma.

    Parameters
    ----------
    x : array_like
        Any shape with at least one axis, any floating type.
    gamma : array_like, optional
        Scale, unit of y, in the shape of the normalized axes: (D,) for the last axis. None means none.
    eps : float
        Added to the mean square; unit of x². With 0, a sample of zeros stays one of zeros.
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
        If a shape does not fit, an axis does not exist, `eps` is negative or not finite, or the mean square overflows.

    Notes
    -----
    Statistics are float64 whatever the type of `x`. A NaN or Inf stays in its sample. Where the squares of float64 data
    leave the range, beyond about 1e154 or below 1e-154, `mean_square` is Inf or 0, and y and dx are right all the same.
    Without compiled loops, and beyond 4e307, such data are an error (found while computing: `out` has been written), or
    count as not varying.

    References
    ----------
    Zhang, Sennrich 2019, arXiv:1910.07467, where eps is 0.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.rms_norm.forward(np.array([[1.0, 2.0, 2.0]]), eps=1.0)
    >>> print(y, cache.mean_square, cache.rstd)
    [[0.5 1. 1. ]] [[3.]] [[0.5]]
    """
    plain = out is residual is epilogue is None
    done = small.rows_forward(x, gamma, None, eps, axis, centred=False) if plain else None
    if done is not None:
        y, (saved_x, saved_gamma, _, _, _, *statistics, axes) = done
        return y, Cache._make((saved_x, saved_gamma, *statistics, axes))

    who = "rms_norm.forward"
    given = x, gamma, residual
    x = as_values(who, "x", x)
    axes = as_axes(who, "axis", axis, x.ndim)
    features = tuple(x.shape[i] for i in axes)
    advice = "Give gamma the shape of the normalized axes of x."
    gamma = None if gamma is None else as_parameter(who, "gamma", gamma, features, advice)
    eps = as_eps(who, eps)
    epilogue = as_epilogue(who, epilogue, features_last(x, axes))
    y = as_output(who, out, x.shape, x.dtype, *given)
    total = x
    if residual is not None:
        residual, total = as_residual(who, residual, x, axes), memory.empty(x.shape, x.dtype)
        if not adds(x, axes):
            x, residual = added(x, residual, total), None

    if kernels.serves(x.dtype):
        statistics = strided.rows_forward(
            features_last(x, axes),
            gamma,
            None,
            eps,
            features_last(y, axes),
            kept=x.ndim - len(axes),
            shape=(1, math.prod(features)),
            centred=False,
            epilogue=epilogue,
            added=residual,
            total=total if residual is not None else None,
        )
        kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        cache = Cache(total, gamma, statistics.var.reshape(kept), statistics.rstd.reshape(kept), axes)
    else:
        with np.errstate(all="ignore"):
            y[...], cache = reference_forward(x.astype(np.float64), gamma, eps, axes)
    check_range(who, total, cache.mean_square, axes, "mean square", cache.rstd)
    return y, cache._replace(x=total)


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
        `dx` like `x`; `dgamma` like gamma, None if that was None. Where there was a residual, `dx` is its gradient too;
        where that was a bias, the sum of `dx` over the samples is.

    Raises
    ------
    TypeError, ValueError
        If `dy` or a saved array does not have the type and shape that `forward` gave it.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.rms_norm.forward(np.array([[1.0, 2.0, 2.0]]), gamma=[2.0, 1.0, -3.0], eps=1.0)
    >>> print(xhat.rms_norm.backward(np.array([[3.0, 0.0, 0.0]]), cache).dx)
    [[ 2.75 -0.5  -0.5 ]]
    """
    if type(cache) is Cache and out is also is epilogue is None:
        done = small.rows_backward(dy, *cache[:2], None, None, None, *cache[2:], centred=False)
        if done is not None:
            return Grads(*done[:2])

    who = "rms_norm.backward"
    check_cache(who, cache, Cache)
    given = dy, also, *cache
    advice = "Pass on the cache that forward returned."
    x = as_values(who, "cache.x", cache.x)
    axes = as_axes(who, "cache.axis", cache.axis, x.ndim)
    features = tuple(x.shape[i] for i in axes)
    gamma = None if cache.gamma is None else as_parameter(who, "cache.gamma", cache.gamma, features, advice)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    mean_square = as_statistic(who, "cache.mean_square", cache.mean_square, kept, advice)
    rstd = as_statistic(who, "cache.rstd", cache.rstd, kept, advice)
    epilogue = as_epilogue(who, epilogue, features_last(x, axes))
    dy = as_gradient(who, dy, x.shape, x.dtype)
    also = None if also is None else as_gradient(who, also, x.shape, x.dtype, "also")
    dx = as_output(who, out, x.shape, x.dtype, *given)

    if kernels.serves(x.dtype):
        no_mean = np.zeros(kept)
        samples = tuple(n for i, n in enumerate(x.shape) if i not in axes)
        dgamma, _ = strided.rows_backward(
            features_last(dy, axes),
            features_last(x, axes),
            gamma,
            kernels.Statistics(*(s.reshape(samples) for s in (no_mean, no_mean, mean_square, rstd))),
            features_last(dx, axes),
            shape=(1, math.prod(features)),
            centred=False,
            epilogue=epilogue,
            also=also if adds(x, axes) else None,
        )
    else:
        wide = Cache(x.astype(np.float64), gamma, mean_square, rstd, axes)
        with np.errstate(all="ignore"):
            dx[...], dgamma = reference_backward(dy.astype(np.float64), wide)
    if also is not None and not adds(x, axes):
        added(dx, also, dx)
    if gamma is None or dgamma is None:
        return Grads(dx, None)
    with np.errstate(all="ignore"):
        return Grads(dx, dgamma.reshape(features).astype(gamma.dtype, copy=False))


OP = Op(forward, backward, reference_forward, reference_backward)


class RMSNorm(Layer):
    """Scale every sample to root mean square 1 over its features, then by gamma.

    The same in training and in prediction: a sample's statistics are its own.

    Parameters
    ----------
    features : int or tuple of int
        Sizes of the normalized axes, which are the last ones of x.
    eps : float
        Added to the mean square; unit of x².
    dtype : dtype
        Type of the parameters.

    Attributes
    ----------
    parameters : dict
        `gamma` (ones), in the shape `features`; unit of y.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.RMSNorm(3).forward(np.array([[1.0, 2.0, 3.0]]))
    >>> print(y.round(3))
    [[0.463 0.926 1.389]]
    """

    ops = (OP, OP)
    normalizes_features = True

    def __init__(self, features: int | tuple[int, ...], *, eps: float = 1e-5, dtype: DTypeLike = np.float32) -> None:
        super().__init__()
        who = "RMSNorm"
        sizes = tuple(features) if isinstance(features, tuple | list) else (features,)
        advice = "Give the size of the last axis of x, or the sizes of several last axes."
        if not sizes:
            raise ValueError(f"{who}: expected features with at least one size, got (). {advice}")
        self.features = tuple(as_count(who, "features", size, 1, advice) for size in sizes)
        self.eps = as_eps(who, eps)
        self.parameters = {"gamma": np.ones(self.features, as_parameter_dtype(who, dtype))}

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return what the Op's forward is called with."""
        return {**self.parameters, "eps": self.eps, "axis": tuple(range(-len(self.features), 0))}

    def fuses(self, training: bool) -> bool:
        """Return whether ReLU and dropout may follow in the same pass."""
        return True

    def forward(self, x: ArrayLike, *, training: bool = False, epilogue: Epilogue | None = None) -> tuple[Array, Cache]:
        """Return the output and the cache that `backward` needs."""
        shape = shape_of("RMSNorm", "x", x)
        if shape[len(shape) - len(self.features) :] != self.features:
            raise ValueError(
                f"RMSNorm: expected x of shape (..., {', '.join(map(str, self.features))}), got {shape}. "
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
        yield Case(cls(1, eps=0.5), x=(3, 1))  # one feature: only eps lets it move
        # mean squares 3 and 8, so with eps = 1 rstd is 1/2 and 1/3
        yield Case(
            cls(3, eps=1.0),
            x=np.array([[1.0, 2.0, 2.0], [2.0, 2.0, 4.0]]),
            parameters={"gamma": [2, 1, -3]},
            y=[[1, 1, -3], [4 / 3, 2 / 3, -4]],
            dy=[[3, 0, 0], [0, 0, 1]],
            dx=[[11 / 4, -1 / 2, -1 / 2], [8 / 27, 8 / 27, -11 / 27]],
        )
        # an eps of 0: a sample of zeros stays zero and passes nothing back; in the other the mean square is 25
        yield Case(
            cls(2, eps=0.0),
            x=np.array([[0.0, 0.0], [1.0, 7.0]]),
            parameters={"gamma": [10, 5]},
            y=[[0, 0], [2, 7]],
            dy=[[1, 2], [5, 0]],
            dx=[[0, 0], [9.8, -1.4]],
        )
