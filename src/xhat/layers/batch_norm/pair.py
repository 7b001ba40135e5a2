"""Batch normalization on arrays: arguments are judged, then the kernels or the reference compute."""

import math

import numpy as np
from numpy.typing import ArrayLike

from xhat import kernels
from xhat.checks import (
    Array,
    as_axis,
    as_eps,
    as_gradient,
    as_output,
    as_parameter,
    as_real,
    as_statistic,
    as_values,
    check_cache,
    check_range,
)
from xhat.core import Op
from xhat.layers.batch_norm.reference import (
    Cache,
    FixedCache,
    Grads,
    averaged_axes,
    reference_apply,
    reference_apply_backward,
    reference_backward,
    reference_forward,
)


def forward(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
    channel_axis: int = 1,
    *,
    out: Array | None = None,
) -> tuple[Array, Cache]:
    """Give every channel of `x` mean 0 and variance 1 over the batch and all positions, then scale and shift.

    Parameters
    ----------
    x : array_like
        Any shape with a channel axis, any floating type: (N, C), (N, C, H, W), ...
    gamma, beta : array_like, shape (C,), optional
        Scale and shift, unit of y. None means none.
    eps : float
        Added to the variance; unit of x². With 0, a channel whose values are all equal gives beta.
    channel_axis : int
        The axis that statistics are kept apart for: 1 for (N, C, ...), -1 for channels last, 0 for
        features x samples.
    out : array, optional
        Where to write y: shape and type of `x`, C-contiguous, apart from the inputs.

    Returns
    -------
    y : array
        Shape and type of `x`.
    cache : Cache
        For `backward`, and for `RunningStatistics.update`.

    Raises
    ------
    TypeError
        If an argument has the wrong type; integers in `x` must be converted first.
    ValueError
        If a shape does not fit, an axis does not exist, `eps` is negative or not finite, the variance overflows, or
        there is one value per channel: its variance is 0 and says nothing.

    Notes
    -----
    Statistics are float64 whatever the type of `x`, and the variance is the biased one. A NaN or Inf stays in
    its channel. An empty batch gives an empty y. float64 data beyond about 1e154, whose variance overflows, is an
    error (found while computing: `out` has been written); below about 1e-154 the variance underflows to 0, which
    shows where eps is 0.

    References
    ----------
    Ioffe, Szegedy 2015, arXiv:1502.03167, algorithm 1.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.batch_norm.forward(np.array([[1.0, 0.0], [3.0, 8.0]]), eps=0.0)
    >>> print(y, cache.mean, cache.var)
    [[-1. -1.]
     [ 1.  1.]] [2. 4.] [ 1. 16.]
    """
    who = "batch_norm.forward"
    given = x, gamma, beta
    x, axis, gamma, beta = _inputs(who, "", x, gamma, beta, channel_axis)
    eps = as_eps(who, eps)
    count = math.prod(x.shape[:axis] + x.shape[axis + 1 :])
    if count == 1:
        raise ValueError(
            f"{who}: expected at least 2 values per channel, got 1 in x of shape {x.shape}. "
            "Use a larger batch, batch_norm.apply with fixed statistics, or layer_norm."
        )
    y = as_output(who, out, x.shape, x.dtype, *given)
    if kernels.serves(x.dtype):
        statistics = kernels.channels_forward(_view(x, axis), _wide(gamma), _wide(beta), eps, _view(y, axis))
    else:
        with np.errstate(all="ignore"):
            y[...], cache = reference_forward(x.astype(np.float64), gamma, beta, eps, axis)
        statistics = kernels.Statistics(cache.mean, cache.mean_low, cache.var, cache.rstd)
    check_range(who, x, statistics.var, averaged_axes(x.ndim, axis))
    return y, Cache(x, gamma, beta, *statistics, count, axis)


def apply(
    x: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float = 1e-5,
    channel_axis: int = 1,
    *,
    out: Array | None = None,
) -> tuple[Array, FixedCache]:
    """Normalize every channel of `x` with fixed statistics, then scale and shift.

    Parameters
    ----------
    x, gamma, beta, eps, channel_axis, out
        As in `forward`.
    mean : array_like, shape (C,)
        Unit of x.
    var : array_like, shape (C,)
        Finite and not negative; unit of x².

    Returns
    -------
    y : array
        Shape and type of `x`.
    cache : FixedCache
        For the same `backward`: its type says that statistics were constants.

    Raises
    ------
    TypeError, ValueError
        As in `forward`; also if a statistic is not finite or a variance is negative.

    References
    ----------
    Ioffe, Szegedy 2015, arXiv:1502.03167, algorithm 2.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.batch_norm.apply(np.array([[5.0, 1.0]]), None, None, mean=[3, 1], var=[4, 9], eps=0.0)
    >>> print(y)
    [[1. 0.]]
    """
    who = "batch_norm.apply"
    given = x, gamma, beta, mean, var
    x, axis, gamma, beta = _inputs(who, "", x, gamma, beta, channel_axis)
    eps = as_eps(who, eps)
    advice = "Give statistics with one finite entry per channel and no negative variance."
    shape = x.shape[axis : axis + 1]
    mean = as_parameter(who, "mean", mean, shape, advice).astype(np.float64)
    var = as_parameter(who, "var", var, shape, advice).astype(np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(var).all() and (var >= 0).all()):
        worst = int(np.flatnonzero(~(np.isfinite(mean) & np.isfinite(var) & (var >= 0)))[0])
        raise ValueError(
            f"{who}: expected finite mean and var >= 0, got mean {mean[worst]:g} and var {var[worst]:g} "
            f"in channel {worst}. {advice}"
        )
    y = as_output(who, out, x.shape, x.dtype, *given)
    spread = var + eps
    rstd = np.where(spread == 0, 0.0, 1.0 / np.sqrt(spread + (spread == 0)))
    if kernels.serves(x.dtype):
        kernels.channels_apply(_view(x, axis), _wide(gamma), _wide(beta), mean, rstd, _view(y, axis))
    else:
        with np.errstate(all="ignore"):
            y[...], _ = reference_apply(x.astype(np.float64), gamma, beta, mean, var, eps, axis)
    return y, FixedCache(x, gamma, beta, mean, rstd, axis)


def backward(dy: ArrayLike, cache: Cache | FixedCache, *, out: Array | None = None) -> Grads:
    """Return the gradients of `forward` or of `apply`; the cache says which.

    Parameters
    ----------
    dy : array_like
        Gradient of the output, shape of `x`.
    cache : Cache or FixedCache
        From `forward` or `apply`.
    out : array, optional
        Where to write dx: shape and type of `x`, C-contiguous, apart from the inputs.

    Returns
    -------
    Grads
        `dx` like `x`; `dgamma`, `dbeta` like their parameters, None for a parameter that was None.

    Raises
    ------
    TypeError, ValueError
        If `dy` or a saved array does not have the type and shape that `forward` gave it.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.batch_norm.forward(np.array([[1.0], [2.0], [3.0]]), gamma=[2.0], beta=[0.0], eps=1 / 3)
    >>> xhat.batch_norm.backward(np.array([[3.0], [0.0], [0.0]]), cache).dx.round(9)
    array([[ 2.],
           [-2.],
           [ 0.]])
    """
    who = "batch_norm.backward"
    check_cache(who, cache, Cache, FixedCache)
    given = dy, *cache
    advice = "Pass on the cache that forward returned."
    x, axis, gamma, beta = _inputs(who, "cache.", cache.x, cache.gamma, cache.beta, cache.channel_axis)
    shape = x.shape[axis : axis + 1]

    def statistic(name: str) -> Array:
        return as_statistic(who, f"cache.{name}", getattr(cache, name), shape, advice)

    mean, rstd = statistic("mean"), statistic("rstd")
    if isinstance(cache, Cache):
        statistics = kernels.Statistics(mean, statistic("mean_low"), statistic("var"), rstd)
        count = math.prod(x.shape[:axis] + x.shape[axis + 1 :])
        if as_real(who, "cache.count", cache.count, 0.0, math.inf, advice) != count:
            raise ValueError(f"{who}: expected cache.count {count} for this x, got {cache.count!r}. {advice}")
        kept = Cache(x, gamma, beta, *statistics, count, axis)
    else:
        statistics = None
        kept = FixedCache(x, gamma, beta, mean, rstd, axis)
    dy = as_gradient(who, dy, x.shape, x.dtype)
    dx = as_output(who, out, x.shape, x.dtype, *given)

    if kernels.serves(x.dtype):
        views = _view(dy, axis), _view(x, axis), _wide(gamma)
        if statistics is not None:
            dgamma, dbeta = kernels.channels_backward(*views, statistics, _view(dx, axis))
        else:
            dgamma, dbeta = kernels.channels_apply_backward(*views, mean, rstd, _view(dx, axis))
    else:
        wide = kept._replace(x=x.astype(np.float64))
        with np.errstate(all="ignore"):
            if isinstance(wide, Cache):
                dx[...], dgamma, dbeta = reference_backward(dy.astype(np.float64), wide)
            else:
                dx[...], dgamma, dbeta = reference_apply_backward(dy.astype(np.float64), wide)
    with np.errstate(all="ignore"):
        return Grads(
            dx,
            None if gamma is None or dgamma is None else dgamma.astype(gamma.dtype, copy=False),
            None if beta is None or dbeta is None else dbeta.astype(beta.dtype, copy=False),
        )


def _inputs(
    who: str, owner: str, x: ArrayLike, gamma: ArrayLike | None, beta: ArrayLike | None, channel_axis: object
) -> tuple[Array, int, Array | None, Array | None]:
    """Return x, its channel axis counted from the front, and the parameters, each checked."""
    x = as_values(who, f"{owner}x", x)
    axis = as_axis(who, f"{owner}channel_axis", channel_axis, x.ndim)
    advice = f"The channel axis {axis} of x has size {x.shape[axis]}; choose another with channel_axis."
    shape = x.shape[axis : axis + 1]
    return (
        x,
        axis,
        None if gamma is None else as_parameter(who, f"{owner}gamma", gamma, shape, advice),
        None if beta is None else as_parameter(who, f"{owner}beta", beta, shape, advice),
    )


def _view(values: Array, axis: int) -> Array:
    """Return the array as the channels loop sees it: (outer, C, inner)."""
    shape = values.shape
    return values.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


def _wide(parameter: Array | None) -> Array | None:
    """Return a parameter as the kernels take it."""
    return None if parameter is None else parameter.astype(np.float64, copy=False)


OP = Op(forward, backward, reference_forward, reference_backward)
FIXED = Op(apply, backward, reference_apply, reference_apply_backward)
