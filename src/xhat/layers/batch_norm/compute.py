"""What has been judged is computed here: by a kernel where one serves the type, else by the reference in float64."""

from __future__ import annotations

import math

import numpy as np

from xhat import kernels
from xhat.checks import Array, check_range
from xhat.kernels import Statistics, fused
from xhat.kernels.fused import Epilogue
from xhat.layers.batch_norm.reference import (
    Cache,
    FixedCache,
    Moments,
    Sums,
    along,
    averaged_axes,
    count_of,
    reference_apply,
    reference_apply_backward,
    reference_backward,
    reference_forward,
    reference_moments,
    reference_sums,
)


def moments_of(who: str, x: Array, axis: int, weights: Array | None) -> Moments:
    """Return what the entries of x say about their channels."""
    count = count_of(x, axis, weights)
    if kernels.serves(x.dtype):
        mean, mean_low, var, _ = kernels.channels_statistics(_view(x, axis), _flat(weights, axis), 0.0)
    else:
        with np.errstate(all="ignore"):
            _, mean, mean_low, squares = reference_moments(x.astype(np.float64), axis, weights)
            var = squares / (count or 1)
    _check_range(who, x, axis, weights, var)
    with np.errstate(over="ignore"):
        return Moments(count, mean, mean_low, var * count)


def normalize(
    who: str,
    x: Array,
    axis: int,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    weights: Array | None,
    y: Array,
    moments: Moments | None = None,
    epilogue: Epilogue | None = None,
) -> Cache:
    """Write y and return the cache; the statistics are those of x, or of the whole batch if its moments are given."""
    if not kernels.serves(x.dtype):
        with np.errstate(all="ignore"):
            y[...], cache = reference_forward(x.astype(np.float64), gamma, beta, eps, axis, weights, moments)
        statistics = Statistics(cache.mean, cache.mean_low, cache.var, cache.rstd)
    elif moments is None:
        views = _view(x, axis), _flat(weights, axis), gamma, beta
        if epilogue is None:
            statistics = kernels.channels_forward(*views, eps, _view(y, axis))
        else:
            statistics = fused.channels_forward(*views, eps, _view(y, axis), epilogue=epilogue)
    else:
        with np.errstate(over="ignore"):
            var = moments.squares / (moments.count or 1)
        statistics = Statistics(moments.mean, moments.mean_low, var, rstd_of(var, eps))
        write_with(x, axis, gamma, beta, weights, statistics, y)
    if moments is None:
        _check_range(who, x, axis, weights, statistics.var, statistics.rstd)
    count = count_of(x, axis, weights) if moments is None else moments.count
    return Cache(x, gamma, beta, *statistics, count, axis, weights)


def apply_fixed(
    x: Array,
    axis: int,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    var: Array,
    eps: float,
    weights: Array | None,
    y: Array,
    epilogue: Epilogue | None = None,
) -> FixedCache:
    """Write y with given statistics and return the cache."""
    rstd = rstd_of(var, eps)
    if kernels.serves(x.dtype):
        write_with(x, axis, gamma, beta, weights, Statistics(mean, np.zeros_like(mean), var, rstd), y, epilogue)
    else:
        with np.errstate(all="ignore"):
            y[...], _ = reference_apply(x.astype(np.float64), gamma, beta, mean, var, eps, axis, weights)
    return FixedCache(x, gamma, beta, mean, rstd, axis, weights)


def sums_of(dy: Array, cache: Cache) -> Sums:
    """Return the sums over x that backward needs of the whole batch."""
    if kernels.serves(dy.dtype):
        axis = cache.channel_axis
        views = _view(dy, axis), _view(cache.x, axis), _flat(cache.weights, axis)
        return Sums(*kernels.channels_sums(*views, _statistics(cache)))
    with np.errstate(all="ignore"):
        return reference_sums(dy.astype(np.float64), cache._replace(x=cache.x.astype(np.float64)))


def gradient(dy: Array, cache: Cache, sums: Sums | None, dx: Array, epilogue: Epilogue | None = None) -> Sums:
    """Write dx and return dgamma and dbeta, in float64 and also where there is no gamma or beta."""
    if not kernels.serves(dy.dtype):
        cache = cache._replace(x=cache.x.astype(np.float64))
        dy = dy.astype(np.float64)
        with np.errstate(all="ignore"):
            dx[...] = reference_backward(dy, cache, sums).dx
            return reference_sums(dy, cache)
    axis = cache.channel_axis
    views = _view(dy, axis), _view(cache.x, axis), _flat(cache.weights, axis)
    if epilogue is not None:
        parameters = cache.gamma, cache.beta, _statistics(cache)
        return Sums(*fused.channels_backward(*views, *parameters, _view(dx, axis), epilogue=epilogue))
    if sums is None:
        return Sums(*kernels.channels_backward(*views, cache.gamma, _statistics(cache), _view(dx, axis)))
    kernels.channels_gradient(*views, cache.gamma, _statistics(cache), *sums, cache.count, _view(dx, axis))
    return Sums(*kernels.channels_sums(*views, _statistics(cache)))


def gradient_fixed(dy: Array, cache: FixedCache, dx: Array, epilogue: Epilogue | None = None) -> Sums:
    """Write dx and return dgamma and dbeta, as `gradient`, for statistics that are constants."""
    x, gamma, beta, mean, rstd, axis, weights = cache
    if kernels.serves(dy.dtype):
        views = _view(dy, axis), _view(x, axis), _flat(weights, axis), gamma
        if epilogue is not None:
            given = *views, beta, mean, None, rstd, _view(dx, axis)
            return Sums(*fused.channels_apply_backward(*given, epilogue=epilogue))
        return Sums(*kernels.channels_apply_backward(*views, mean, None, rstd, _view(dx, axis)))
    ones = np.ones_like(mean)
    with np.errstate(all="ignore"):
        both = cache._replace(x=x.astype(np.float64), gamma=ones if gamma is None else gamma, beta=ones)
        dx[...], dgamma, dbeta = reference_apply_backward(dy.astype(np.float64), both)
    assert dgamma is not None
    assert dbeta is not None
    return Sums(dgamma, dbeta)


def write_with(
    x: Array,
    axis: int,
    gamma: Array | None,
    beta: Array | None,
    weights: Array | None,
    statistics: Statistics,
    y: Array,
    epilogue: Epilogue | None = None,
) -> None:
    """Write y with statistics that are known already."""
    mean, mean_low, _, rstd = statistics
    views = _view(x, axis), _flat(weights, axis), gamma, beta
    if epilogue is None:
        kernels.channels_apply(*views, mean, mean_low, rstd, _view(y, axis))
    else:
        fused.channels_apply(*views, mean, mean_low, rstd, _view(y, axis), epilogue=epilogue)


def rstd_of(var: Array, eps: float) -> Array:
    """Return 1 / sqrt(var + eps), and 0 where nothing varies: there is nothing to scale."""
    with np.errstate(over="ignore"):  # a spread beyond the type scales to 0
        spread = var + eps
        return np.where(spread == 0, 0.0, 1.0 / np.sqrt(spread + (spread == 0)))


def _check_range(who: str, x: Array, axis: int, weights: Array | None, var: Array, rstd: Array | None = None) -> None:
    """Refuse finite data, as far as they count, whose variance overflows."""
    if x.dtype == np.float64 and not np.isfinite(var).all():
        there = np.where(along(weights, x, axis) == 0, 0, x)
        check_range(who, there, var, averaged_axes(x.ndim, axis), rstd=rstd)


def _statistics(cache: Cache) -> Statistics:
    return Statistics(cache.mean, cache.mean_low, cache.var, cache.rstd)


def _view(values: Array, axis: int) -> Array:
    """Return the array as the channels loop sees it: (outer, C, inner)."""
    shape = values.shape
    return values.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


def _flat(weights: Array | None, axis: int) -> Array | None:
    """Return weights as the channels loop sees them: (outer, inner)."""
    if weights is None:
        return None
    return weights.reshape(math.prod(weights.shape[:axis]), math.prod(weights.shape[axis:]))


def wide(parameter: Array | None) -> Array | None:
    """Return a parameter in float64."""
    return None if parameter is None else parameter.astype(np.float64, copy=False)
