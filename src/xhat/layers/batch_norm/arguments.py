"""What callers hand in, judged: x and its parameters, weights, partial sums, every array that a cache brings back."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import (
    Array,
    as_array,
    as_axis,
    as_parameter,
    as_real,
    as_statistic,
    as_values,
    check_cache,
)
from xhat.layers.batch_norm.reference import Cache, FixedCache, Moments, Sums, batch_axis, count_of
from xhat.layers.batch_norm.renormalization import RenormCache
from xhat.layers.batch_norm.virtual_batches import VirtualCache

_LEAST_TOTAL = 1e-100  # products with smaller weights lose their digits, those with larger ones overflow
FROM_FORWARD = "Pass on the cache that forward returned."


def as_inputs(
    who: str, owner: str, x: ArrayLike, gamma: ArrayLike | None, beta: ArrayLike | None, channel_axis: object
) -> tuple[Array, int, Array | None, Array | None]:
    """Return x, its channel axis counted from the front, and the parameters."""
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


def as_weights(who: str, name: str, weights: ArrayLike | None, x: Array, axis: int) -> Array | None:
    """Return the weights as float64 in the shape of x without the channel axis."""
    if weights is None:
        return None
    entries = x.shape[:axis] + x.shape[axis + 1 :]
    samples = entries[:1]
    advice = (
        "Give one weight per sample, or one per entry of batch and positions; 0 takes an entry out of the statistics."
    )
    told = as_array(who, name, weights)
    masked = type(weights) is np.ma.MaskedArray
    given = as_parameter(
        who,
        name,
        told.astype(np.float64) if told.dtype == np.bool_ and not masked else weights,
        samples if told.shape == samples else entries,
        advice,
    )
    given = np.broadcast_to(given.reshape(given.shape + (1,) * (len(entries) - given.ndim)), entries)
    values = np.ascontiguousarray(given, np.float64)
    with np.errstate(all="ignore"):
        total = values.sum()
    if values.size and not (values.min() >= 0 and math.isfinite(total)):
        worst = values[~((values >= 0) & np.isfinite(values))]
        got = f"{worst[0]:g}" if worst.size else f"a sum of {total:g}"
        raise ValueError(f"{who}: expected {name} >= 0 and finite, got {got}. {advice}")
    if total > 0 and not _LEAST_TOTAL <= total <= 1 / _LEAST_TOTAL:
        raise ValueError(
            f"{who}: expected {name} with a sum from {_LEAST_TOTAL:g} to {1 / _LEAST_TOTAL:g}, got {total:g}. "
            "A common factor changes nothing but the count: take one that brings the largest near 1."
        )
    return values


def as_fixed(who: str, mean: ArrayLike, var: ArrayLike, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return given statistics as float64, finite and with no negative variance."""
    advice = "Give statistics with one finite entry per channel and no negative variance."
    mean = as_parameter(who, "mean", mean, shape, advice).astype(np.float64)
    var = as_parameter(who, "var", var, shape, advice).astype(np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(var).all() and (var >= 0).all()):
        worst = int(np.flatnonzero(~(np.isfinite(mean) & np.isfinite(var) & (var >= 0)))[0])
        raise ValueError(
            f"{who}: expected finite mean and var >= 0, got mean {mean[worst]:g} and var {var[worst]:g} "
            f"in channel {worst}. {advice}"
        )
    return mean, var


def as_moments(who: str, moments: object, shape: tuple[int, ...]) -> Moments:
    """Return the moments of a whole batch, of which x is a part."""
    advice = "Merge what batch_norm.moments returned for all parts."
    if type(moments) is not Moments:
        raise TypeError(f"{who}: expected moments as batch_norm.Moments, got {type(moments).__name__}. {advice}")
    mean, mean_low, squares = (
        as_statistic(who, f"moments.{name}", getattr(moments, name), shape, advice)
        for name in ("mean", "mean_low", "squares")
    )
    count = as_real(who, "moments.count", moments.count, 0.0, math.inf, advice)
    if (squares < 0).any():
        raise ValueError(f"{who}: expected moments.squares >= 0, got {squares.min():g}. {advice}")
    return Moments(count, mean, mean_low, squares)


def as_sums(who: str, sums: object, shape: tuple[int, ...]) -> Sums:
    """Return the sums over a whole batch, of which x is a part."""
    advice = "Merge what batch_norm.sums returned for all parts."
    if type(sums) is not Sums:
        raise TypeError(f"{who}: expected sums as batch_norm.Sums, got {type(sums).__name__}. {advice}")
    return Sums(*(as_statistic(who, f"sums.{name}", getattr(sums, name), shape, advice) for name in Sums._fields))


def as_r_max(who: str, r_max: object) -> float:
    """Return the limit of r."""
    return as_real(who, "r_max", r_max, 1.0, math.inf, "It limits the ratio of two roots; 1 makes it 1.")


def as_d_max(who: str, d_max: object) -> float:
    """Return the limit of d."""
    return as_real(who, "d_max", d_max, 0.0, math.inf, "It limits a shift in deviations; 0 allows none.")


def as_cache(who: str, cache: object, owner: str = "cache.") -> Cache:
    """Return a cache of batch statistics, every entry of which fits the others."""
    check_cache(who, cache, Cache)
    assert isinstance(cache, Cache)
    x, axis, gamma, beta = as_inputs(who, owner, cache.x, cache.gamma, cache.beta, cache.channel_axis)
    mean, mean_low, var, rstd = (
        as_statistic(who, f"{owner}{name}", getattr(cache, name), x.shape[axis : axis + 1], FROM_FORWARD)
        for name in ("mean", "mean_low", "var", "rstd")
    )
    weights = as_saved_weights(who, owner, cache.weights, x, axis)
    count = as_real(who, f"{owner}count", cache.count, 0.0, math.inf, FROM_FORWARD)
    return Cache(x, gamma, beta, mean, mean_low, var, rstd, count, axis, weights)


def as_fixed_cache(who: str, cache: FixedCache) -> FixedCache:
    """Return a cache of given statistics, every entry of which fits the others."""
    x, axis, gamma, beta = as_inputs(who, "cache.", cache.x, cache.gamma, cache.beta, cache.channel_axis)
    shape = x.shape[axis : axis + 1]
    mean, rstd = (
        as_statistic(who, f"cache.{name}", getattr(cache, name), shape, FROM_FORWARD) for name in ("mean", "rstd")
    )
    return FixedCache(x, gamma, beta, mean, rstd, axis, as_saved_weights(who, "cache.", cache.weights, x, axis))


def as_renorm_cache(who: str, cache: RenormCache) -> RenormCache:
    """Return a cache of batch renormalization, every entry of which fits the others."""
    batch = as_cache(who, cache.batch, "cache.batch.")
    shape = batch.mean.shape
    gamma, beta = (
        None if values is None else as_parameter(who, f"cache.{name}", values, shape, FROM_FORWARD)
        for name, values in (("gamma", cache.gamma), ("beta", cache.beta))
    )
    if batch.gamma is None or batch.beta is None:
        raise ValueError(f"{who}: expected cache.batch with gamma and beta, got None. {FROM_FORWARD}")
    r, d = (as_statistic(who, f"cache.{name}", getattr(cache, name), shape, FROM_FORWARD) for name in ("r", "d"))
    return RenormCache(batch, gamma, beta, r, d)


def as_virtual_cache(who: str, cache: VirtualCache) -> tuple[VirtualCache, tuple[int, ...]]:
    """Return a cache of virtual batches, whose parts fit each other, and the shape of x."""
    parts = cache.parts
    if type(parts) is not tuple or not parts:
        got = "()" if type(parts) is tuple else type(parts).__name__
        raise TypeError(f"{who}: expected cache.parts as a tuple of caches, got {got}. {FROM_FORWARD}")
    judged = tuple(as_cache(who, part, f"cache.parts[{i}].") for i, part in enumerate(parts))
    first = judged[0]
    axis = as_axis(who, "cache.channel_axis", cache.channel_axis, first.x.ndim)
    samples = batch_axis(first.x.ndim, axis)

    def kind(part: Cache) -> tuple[object, ...]:
        rest = part.x.shape[:samples] + part.x.shape[samples + 1 :]
        parameters = tuple(None if p is None else p.dtype for p in (part.gamma, part.beta))
        return part.channel_axis, part.x.ndim, rest, part.x.dtype, *parameters, part.weights is None

    for i, part in enumerate(judged):
        if kind(part) != kind(first) or part.channel_axis != axis:
            raise ValueError(
                f"{who}: expected cache.parts that are alike, got {part.x.dtype} of shape {part.x.shape} and channel "
                f"axis {part.channel_axis} at place {i}. {FROM_FORWARD}"
            )
    shape = list(first.x.shape)
    shape[samples] = sum(part.x.shape[samples] for part in judged)
    return VirtualCache(judged, axis), tuple(shape)


def as_saved_weights(who: str, owner: str, weights: Array | None, x: Array, axis: int) -> Array | None:
    """Return the weights that a cache brings back."""
    if weights is None:
        return None
    entries = x.shape[:axis] + x.shape[axis + 1 :]
    return as_weights(
        who, f"{owner}weights", as_statistic(who, f"{owner}weights", weights, entries, FROM_FORWARD), x, axis
    )


def check_enough(who: str, x: Array, axis: int, weights: Array | None, part: str = "") -> None:
    """Refuse a batch with one value per channel: its variance is 0 and says nothing."""
    present = math.prod(x.shape[:axis] + x.shape[axis + 1 :]) if weights is None else np.count_nonzero(weights)
    if present > 1 or not x.size:
        return
    wanted = "values" if weights is None else "values of positive weight"
    raise ValueError(
        f"{who}: expected at least 2 {wanted} per channel{part}, got {present} in x of shape {x.shape}. "
        "Use a larger batch, batch_norm.apply with fixed statistics, or layer_norm."
    )


def check_whole(who: str, cache: Cache, sums: Sums | None, owner: str = "cache.") -> None:
    """Refuse sums over less than stands behind the statistics, and a part of a batch taken for the whole."""
    own = count_of(cache.x, cache.channel_axis, cache.weights)
    if cache.x.size and cache.count == 0:
        raise ValueError(f"{who}: expected {owner}count above 0 for this x, got 0. {FROM_FORWARD}")
    if sums is None and cache.count != own:
        raise ValueError(
            f"{who}: expected {owner}count {own:g} for this x, got {cache.count!r}. If the statistics are those of a "
            "larger batch, give sums= merged from batch_norm.sums of all its parts; else pass on the cache that "
            "forward returned."
        )
    if cache.count < own * (1 - 1e-9):
        raise ValueError(
            f"{who}: expected {owner}count of at least {own:g} for this x, got {cache.count!r}. {FROM_FORWARD}"
        )
