"""The mathematics of batch normalization: the page to read, and the oracle for everything faster."""

import math
from typing import NamedTuple

import numpy as np

from xhat.checks import Array


class Cache(NamedTuple):
    """What backward needs when the statistics came from x. `x` is shared, not copied: leave it alone until then.

    The mean is `mean + mean_low`: what rounding the mean to float64 left behind is kept beside it, so that no
    offset of x costs digits.
    """

    x: Array  # any shape
    gamma: Array | None  # (C,)
    beta: Array | None  # (C,)
    mean: Array  # (C,) float64, unit of x
    mean_low: Array  # (C,) float64, unit of x
    var: Array  # (C,) float64, biased, unit of x²
    rstd: Array  # (C,) float64, unit of 1/x
    count: float  # pyright: ignore[reportIncompatibleMethodOverride]  # values behind each statistic
    channel_axis: int


class FixedCache(NamedTuple):
    """What backward needs when the statistics were given. `x` is shared, not copied."""

    x: Array  # any shape
    gamma: Array | None  # (C,)
    beta: Array | None  # (C,)
    mean: Array  # (C,) float64, unit of x
    rstd: Array  # (C,) float64, unit of 1/x
    channel_axis: int


class Grads(NamedTuple):
    """The gradients, each with the shape and type of what it belongs to; None for a parameter that was None."""

    dx: Array
    dgamma: Array | None  # (C,)
    dbeta: Array | None  # (C,)


def reference_forward(
    x: Array, gamma: Array | None, beta: Array | None, eps: float, channel_axis: int = 1
) -> tuple[Array, Cache]:
    """Centre each channel, scale it to unit variance, then apply gamma and beta."""
    axes, channels = averaged_axes(x.ndim, channel_axis), channel_shape(x, channel_axis)
    count = math.prod(x.shape[i] for i in axes)

    mean = x.sum(axes) / max(1, count)
    centred = x - mean.reshape(channels)
    mean_low = centred.sum(axes) / max(1, count)  # a mean of 1e9 is rounded by 1e-7: take that off too
    centred = centred - mean_low.reshape(channels)
    var = (centred * centred).sum(axes) / max(1, count)
    spread = var + eps
    rstd = np.where(spread == 0, 0, (spread + (spread == 0)) ** -0.5)  # nothing varies: nothing to scale

    y = centred * rstd.reshape(channels)
    if gamma is not None:
        y = y * gamma.reshape(channels)
    if beta is not None:
        y = y + beta.reshape(channels)
    return y, Cache(x, gamma, beta, mean, mean_low, var, rstd, count, channel_axis)


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Remove from dy the two directions that x_hat cannot move along: the ones vector and x_hat."""
    x, gamma, beta, mean, mean_low, _, rstd, count, channel_axis = cache
    axes, channels = averaged_axes(x.ndim, channel_axis), channel_shape(x, channel_axis)

    x_hat = (x - mean.reshape(channels) - mean_low.reshape(channels)) * rstd.reshape(channels)
    dgamma = (dy * x_hat).sum(axes)
    dbeta = dy.sum(axes)
    along_ones = (dbeta / max(1, count)).reshape(channels)
    along_x_hat = (dgamma / max(1, count)).reshape(channels)
    slope = rstd if gamma is None else gamma * rstd
    return Grads(
        dx=slope.reshape(channels) * (dy - along_ones - x_hat * along_x_hat),
        dgamma=None if gamma is None else dgamma,
        dbeta=None if beta is None else dbeta,
    )


def reference_apply(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    var: Array,
    eps: float,
    channel_axis: int = 1,
) -> tuple[Array, FixedCache]:
    """Centre and scale with the statistics given, then apply gamma and beta."""
    channels = channel_shape(x, channel_axis)
    spread = var + eps
    rstd = np.where(spread == 0, 0, (spread + (spread == 0)) ** -0.5)
    y = (x - mean.reshape(channels)) * rstd.reshape(channels)
    if gamma is not None:
        y = y * gamma.reshape(channels)
    if beta is not None:
        y = y + beta.reshape(channels)
    return y, FixedCache(x, gamma, beta, mean, rstd, channel_axis)


def reference_apply_backward(dy: Array, cache: FixedCache) -> Grads:
    """Scale dy: constants pass no gradient on."""
    x, gamma, beta, mean, rstd, channel_axis = cache
    axes, channels = averaged_axes(x.ndim, channel_axis), channel_shape(x, channel_axis)
    x_hat = (x - mean.reshape(channels)) * rstd.reshape(channels)
    slope = rstd if gamma is None else gamma * rstd
    return Grads(
        dx=slope.reshape(channels) * dy,
        dgamma=None if gamma is None else (dy * x_hat).sum(axes),
        dbeta=None if beta is None else dy.sum(axes),
    )


def averaged_axes(ndim: int, channel_axis: int) -> tuple[int, ...]:
    """Return all axes but that of the channels."""
    return tuple(i for i in range(ndim) if i != channel_axis % ndim)


def channel_shape(x: Array, channel_axis: int) -> tuple[int, ...]:
    """Return the shape that lays a value per channel along the channel axis of x."""
    return tuple(n if i == channel_axis % x.ndim else 1 for i, n in enumerate(x.shape))
