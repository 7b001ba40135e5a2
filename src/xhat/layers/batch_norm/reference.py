"""The mathematics of batch normalization: the page to read, and the oracle for everything faster.

With weights w, an entry counts w times in the statistics: mean = sum(w x) / sum(w), variance likewise. Without weights
w is 1. What a weight of 0 takes out of the statistics is still normalized with them, so its dy still moves them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from xhat.checks import Array


class Moments(NamedTuple):
    """Count, mean and centred sum of squares of each channel: what parts of a batch are put together from.

    The mean is `mean + mean_low`: what rounding the mean to float64 left behind is kept beside it, so that no
    offset of x costs digits.
    """

    count: float  # pyright: ignore[reportIncompatibleMethodOverride]  # sum of the weights
    mean: Array  # (C,) float64, unit of x
    mean_low: Array  # (C,) float64, unit of x
    squares: Array  # (C,) float64, sum of (x - mean)², unit of x²

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both parts together.

        The squares of the two parts are around two means; moving both to the common mean adds
        shift² * n1 * n2 / (n1 + n2), with shift the distance between the means.

        Parameters
        ----------
        other : Moments
            Of the other part, with the same channels.

        Raises
        ------
        ValueError
            If the channels differ in number.

        References
        ----------
        Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance", The American Statistician 37(3).

        Examples
        --------
        >>> import numpy as np, xhat
        >>> parts = [xhat.batch_norm.moments(np.array(part)) for part in ([[1.0], [2.0]], [[3.0], [4.0], [5.0]])]
        >>> both = parts[0].merge(parts[1])
        >>> print(both.count, both.mean, both.squares / both.count, np.var([1, 2, 3, 4, 5]))
        5.0 [3.] [2.] 2.0
        """
        if type(other) is not Moments:
            raise TypeError(
                f"Moments.merge: expected batch_norm.Moments, got {type(other).__name__}. "
                "Give what batch_norm.moments returned."
            )
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"Moments.merge: expected moments of {self.mean.size} channels, got {other.mean.size}. "
                "Merge parts of one batch."
            )
        if not self.count or not other.count:  # the mean of no numbers is 0, which is far from any offset
            return self if self.count else other
        count = self.count + other.count
        share = other.count / count
        with np.errstate(over="ignore", invalid="ignore"):
            shift = (other.mean - self.mean) + (other.mean_low - self.mean_low)
            mean = self.mean + shift * share
            moved = mean - self.mean
            lost = (self.mean - (mean - moved)) + (shift * share - moved)  # what rounding the sum took away
            squares = self.squares + other.squares + shift * shift * (self.count * share)
        return Moments(count, mean, self.mean_low + lost, squares)


class Sums(NamedTuple):
    """The sums over a part of a batch that backward needs of the whole: they are also that part's dgamma and dbeta."""

    dgamma: Array  # (C,) float64, sum of dy * x_hat
    dbeta: Array  # (C,) float64, sum of dy

    def merge(self, other: Sums) -> Sums:
        """Return the sums over both parts.

        Parameters
        ----------
        other : Sums
            Over the other part, with the same channels.

        Raises
        ------
        ValueError
            If the channels differ in number.
        """
        if type(other) is not Sums:
            raise TypeError(
                f"Sums.merge: expected batch_norm.Sums, got {type(other).__name__}. Give what batch_norm.sums returned."
            )
        if self.dbeta.shape != other.dbeta.shape:
            raise ValueError(
                f"Sums.merge: expected sums of {self.dbeta.size} channels, got {other.dbeta.size}. "
                "Merge parts of one batch."
            )
        return Sums(self.dgamma + other.dgamma, self.dbeta + other.dbeta)


class Cache(NamedTuple):
    """What backward needs when the statistics came from x. `x` is shared, not copied: leave it alone until then."""

    x: Array  # any shape
    gamma: Array | None  # (C,)
    beta: Array | None  # (C,)
    mean: Array  # (C,) float64, unit of x; the mean is mean + mean_low
    mean_low: Array  # (C,) float64, unit of x
    var: Array  # (C,) float64, biased, unit of x²
    rstd: Array  # (C,) float64, unit of 1/x
    count: float  # pyright: ignore[reportIncompatibleMethodOverride]  # values behind each statistic, or their weights' sum
    channel_axis: int
    weights: Array | None = None  # x's shape without the channel axis; float64


class FixedCache(NamedTuple):
    """What backward needs when the statistics were given. `x` is shared, not copied."""

    x: Array  # any shape
    gamma: Array | None  # (C,)
    beta: Array | None  # (C,)
    mean: Array  # (C,) float64, unit of x
    rstd: Array  # (C,) float64, unit of 1/x
    channel_axis: int
    weights: Array | None = None  # x's shape without the channel axis; float64


class Grads(NamedTuple):
    """The gradients, each with the shape and type of what it belongs to; None for a parameter that was None."""

    dx: Array
    dgamma: Array | None  # (C,)
    dbeta: Array | None  # (C,)


def reference_forward(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    channel_axis: int = 1,
    weights: Array | None = None,
    moments: Moments | None = None,
) -> tuple[Array, Cache]:
    """Centre each channel, scale it to unit variance, then apply gamma and beta."""
    channels = channel_shape(x, channel_axis)

    count, mean, mean_low, squares = moments or reference_moments(x, channel_axis, weights)
    var = squares / (count or 1)
    spread = var + eps
    rstd = np.where(spread == 0, 0, (spread + (spread == 0)) ** -0.5)  # nothing varies: nothing to scale

    x_hat = (x - mean.reshape(channels) - mean_low.reshape(channels)) * rstd.reshape(channels)
    y = _scale_and_shift(x_hat, gamma, beta, channels)
    y = np.where(missing(x, weights, channel_axis), 0, y)
    return y, Cache(x, gamma, beta, mean, mean_low, var, rstd, count, channel_axis, per_entry(weights, x, channel_axis))


def reference_moments(x: Array, channel_axis: int = 1, weights: Array | None = None) -> Moments:
    """Count, average, and sum the squares of what lies around the average."""
    axes, channels = averaged_axes(x.ndim, channel_axis), channel_shape(x, channel_axis)
    w = along(weights, x, channel_axis)
    x = np.where(w == 0, 0, x)  # not 0 * x, which NaN survives
    count = math.prod(x.shape[i] for i in axes) if weights is None else w.sum()

    mean = (w * x).sum(axes) / (count or 1)
    centred = x - mean.reshape(channels)
    mean_low = (w * centred).sum(axes) / (count or 1)  # a mean of 1e9 is rounded by 1e-7: take that off too
    centred = centred - mean_low.reshape(channels)
    return Moments(count, mean, mean_low, (w * centred * centred).sum(axes))


def reference_sums(dy: Array, cache: Cache) -> Sums:
    """Sum dy * x_hat and dy over batch and positions."""
    axes = averaged_axes(dy.ndim, cache.channel_axis)
    dy = np.where(missing(cache.x, cache.weights, cache.channel_axis), 0, dy)
    return Sums((dy * _x_hat(cache)).sum(axes), dy.sum(axes))


def reference_backward(dy: Array, cache: Cache, sums: Sums | None = None) -> Grads:
    """Remove from dy the two directions that x_hat cannot move along: the ones vector and x_hat."""
    x, gamma, beta, _, _, _, rstd, count, channel_axis, weights = cache
    channels = channel_shape(x, channel_axis)
    w = along(weights, x, channel_axis)

    dgamma, dbeta = reference_sums(dy, cache)
    total_dgamma, total_dbeta = sums or (dgamma, dbeta)
    along_ones = (total_dbeta / (count or 1)).reshape(channels)
    along_x_hat = (total_dgamma / (count or 1)).reshape(channels)
    slope = rstd if gamma is None else gamma * rstd
    dx = slope.reshape(channels) * (dy - w * (along_ones + _x_hat(cache) * along_x_hat))
    return Grads(
        dx=np.where(missing(x, weights, channel_axis), 0, dx),
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
    weights: Array | None = None,
) -> tuple[Array, FixedCache]:
    """Centre and scale with the statistics given, then apply gamma and beta."""
    channels = channel_shape(x, channel_axis)
    spread = var + eps
    rstd = np.where(spread == 0, 0, (spread + (spread == 0)) ** -0.5)
    y = _scale_and_shift((x - mean.reshape(channels)) * rstd.reshape(channels), gamma, beta, channels)
    y = np.where(missing(x, weights, channel_axis), 0, y)
    return y, FixedCache(x, gamma, beta, mean, rstd, channel_axis, per_entry(weights, x, channel_axis))


def reference_apply_backward(dy: Array, cache: FixedCache) -> Grads:
    """Scale dy: constants pass no gradient on."""
    x, gamma, beta, mean, rstd, channel_axis, weights = cache
    axes, channels = averaged_axes(x.ndim, channel_axis), channel_shape(x, channel_axis)
    gone = missing(x, weights, channel_axis)
    x_hat = np.where(gone, 0, x - mean.reshape(channels)) * rstd.reshape(channels)
    dy = np.where(gone, 0, dy)
    slope = rstd if gamma is None else gamma * rstd
    return Grads(
        dx=slope.reshape(channels) * dy,
        dgamma=None if gamma is None else (dy * x_hat).sum(axes),
        dbeta=None if beta is None else dy.sum(axes),
    )


def _x_hat(cache: Cache) -> Array:
    """Return the normalized x; 0 where it is missing."""
    channels = channel_shape(cache.x, cache.channel_axis)
    centred = cache.x - cache.mean.reshape(channels) - cache.mean_low.reshape(channels)
    gone = missing(cache.x, cache.weights, cache.channel_axis)
    return np.where(gone, 0, centred) * cache.rstd.reshape(channels)


def _scale_and_shift(x_hat: Array, gamma: Array | None, beta: Array | None, channels: tuple[int, ...]) -> Array:
    y = x_hat if gamma is None else x_hat * gamma.reshape(channels)
    return y if beta is None else y + beta.reshape(channels)


def missing(x: Array, weights: Array | None, channel_axis: int) -> Array:
    """Tell what is not there: NaN or Inf under a weight of 0. y and dx are 0 there, and dy counts for nothing."""
    if weights is None:
        return np.array(False)
    return (along(weights, x, channel_axis) == 0) & ~np.isfinite(x)


def along(weights: Array | None, x: Array, channel_axis: int) -> Array:
    """Return the weights with a channel axis of size 1, so that they meet x; 1 for None."""
    each = per_entry(weights, x, channel_axis)
    return np.array(1.0) if each is None else np.expand_dims(each, channel_axis)


def per_entry(weights: Array | None, x: Array, channel_axis: int) -> Array | None:
    """Return a weight for every entry of batch and positions; one per sample serves all its positions."""
    if weights is None:
        return None
    entries = tuple(n for i, n in enumerate(x.shape) if i != channel_axis % x.ndim)
    return np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(entries) - weights.ndim)), entries)


def count_of(x: Array, axis: int, weights: Array | None) -> float:
    """Return how many values stand behind each statistic: their number, or the sum of their weights."""
    return math.prod(x.shape[:axis] + x.shape[axis + 1 :]) if weights is None else float(weights.sum())


def averaged_axes(ndim: int, channel_axis: int) -> tuple[int, ...]:
    """Return all axes but that of the channels."""
    return tuple(i for i in range(ndim) if i != channel_axis % ndim)


def batch_axis(ndim: int, channel_axis: int) -> int:
    """Return the axis of the samples: the first that is not the channels'."""
    return int(channel_axis % ndim == 0)


def channel_shape(x: Array, channel_axis: int) -> tuple[int, ...]:
    """Return the shape that lays a value per channel along the channel axis of x."""
    return tuple(n if i == channel_axis % x.ndim else 1 for i, n in enumerate(x.shape))
