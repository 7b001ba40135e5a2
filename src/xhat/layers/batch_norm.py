"""Batch normalization: give every channel mean 0 and variance 1 over the batch and all positions.

    mean  = average of x over batch and positions    x_hat = (x - mean) * rstd
    rstd  = 1 / sqrt(variance + eps)                 y     = x_hat * gamma + beta

Statistics of the batch and fixed statistics are different functions with different gradients:

    forward   statistics come from x, so x moves them:   dx = gamma * rstd * (dy - mean(dy) - x_hat * mean(dy * x_hat))
    apply     statistics are constants:                  dx = gamma * rstd * dy

In both, dgamma = sum(dy * x_hat) and dbeta = sum(dy) over batch and positions.

Source: Ioffe, Szegedy 2015, "Batch normalization", arXiv:1502.03167, algorithms 1 and 2; the backward pass in closed
form follows from the unnumbered equations of its section 3. Derivation: docs/batch_norm.md
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from xhat import kernels
from xhat.checks import (
    Array,
    as_axis,
    as_choice,
    as_count,
    as_eps,
    as_gradient,
    as_output,
    as_parameter,
    as_parameter_dtype,
    as_real,
    as_statistic,
    as_values,
    check_cache,
    check_range,
)
from xhat.core import Case, Layer, Op


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
    axes, channels = _averaged_axes(x.ndim, channel_axis), _channel_shape(x, channel_axis)
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
    axes, channels = _averaged_axes(x.ndim, channel_axis), _channel_shape(x, channel_axis)

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
    channels = _channel_shape(x, channel_axis)
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
    axes, channels = _averaged_axes(x.ndim, channel_axis), _channel_shape(x, channel_axis)
    x_hat = (x - mean.reshape(channels)) * rstd.reshape(channels)
    slope = rstd if gamma is None else gamma * rstd
    return Grads(
        dx=slope.reshape(channels) * dy,
        dgamma=None if gamma is None else (dy * x_hat).sum(axes),
        dbeta=None if beta is None else dy.sum(axes),
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
    check_range(who, x, statistics.var, _averaged_axes(x.ndim, axis))
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


def _averaged_axes(ndim: int, channel_axis: int) -> tuple[int, ...]:
    """Return all axes but that of the channels."""
    return tuple(i for i in range(ndim) if i != channel_axis % ndim)


def _channel_shape(x: Array, channel_axis: int) -> tuple[int, ...]:
    """Return the shape that lays a value per channel along the channel axis of x."""
    return tuple(n if i == channel_axis % x.ndim else 1 for i, n in enumerate(x.shape))


def _view(values: Array, axis: int) -> Array:
    """Return the array as the channels loop sees it: (outer, C, inner)."""
    shape = values.shape
    return values.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


def _wide(parameter: Array | None) -> Array | None:
    """Return a parameter as the kernels take it."""
    return None if parameter is None else parameter.astype(np.float64, copy=False)


OP = Op(forward, backward, reference_forward, reference_backward)
FIXED = Op(apply, backward, reference_apply, reference_apply_backward)


class RunningStatistics:
    """Mean and variance of each channel over all batches seen, for use in prediction.

    Parameters
    ----------
    channels : int
        Number of channels C.
    update_rate : float or None
        Share of the new batch, in [0, 1]; no unit. torch calls this `momentum`, Keras and Flax call 1 - update_rate
        `momentum`. None averages over everything seen, each batch weighted by its count: after one pass
        these are the exact statistics of the data.
    unbiased : bool
        Whether `var` estimates the population's variance (divided by count - 1, as torch does) or is that of the
        values seen (divided by count).
    nonfinite : {"raise", "skip"}
        What to do with a batch whose statistics hold a NaN or Inf: they never get in. "skip" counts them in
        `skipped`.

    Attributes
    ----------
    mean, var : array, shape (C,)
        float64; unit of x and x². They start at 0 and 1.
    count : array, shape ()
        float64, how many values per channel were seen.
    skipped : int
        Batches left out because they were not finite.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> stats = xhat.RunningStatistics(1, update_rate=None)
    >>> for batch in ([[1.0], [2.0]], [[3.0], [4.0], [5.0], [6.0]]):
    ...     y, cache = xhat.batch_norm.forward(np.array(batch))
    ...     stats.update(cache)
    >>> print(stats.mean, stats.var, np.var([1, 2, 3, 4, 5, 6]))
    [3.5] [2.91666667] 2.9166666666666665
    """

    def __init__(
        self,
        channels: int,
        update_rate: float | None = 0.1,
        unbiased: bool = False,
        *,
        nonfinite: str = "raise",
    ) -> None:
        who = "RunningStatistics"
        channels = as_count(who, "channels", channels, 1, "Give the number of channels of x.")
        if update_rate is not None:
            advice = "The update_rate is the share of the new batch; None averages over everything seen."
            update_rate = as_real(who, "update_rate", update_rate, 0.0, 1.0, advice)
        self.update_rate = update_rate
        self.unbiased = bool(unbiased)
        self.nonfinite = as_choice(who, "nonfinite", nonfinite, ("raise", "skip"))
        self._mean: Array = np.zeros(channels)
        self._var: Array = np.ones(channels)
        self._count: Array = np.zeros(())
        self.skipped = 0

    @property
    def mean(self) -> Array:
        """Mean of each channel, shape (C,); write into it with `[...]`."""
        return self._mean

    @property
    def var(self) -> Array:
        """Variance of each channel, shape (C,); write into it with `[...]`."""
        return self._var

    @property
    def count(self) -> Array:
        """How many values per channel were seen, shape ()."""
        return self._count

    def update(self, cache: Cache) -> None:
        """Take in the statistics of one batch.

        Parameters
        ----------
        cache : Cache
            From `batch_norm.forward`.

        Raises
        ------
        TypeError
            If `cache` is not such a cache: fixed statistics say nothing about a batch.
        ValueError
            If the channels differ in number, or the statistics are not finite and `nonfinite` is "raise".
        """
        who = "RunningStatistics.update"
        check_cache(who, cache, Cache)
        advice = f"These statistics have {self._mean.size} channels; pass on the cache that forward returned."
        mean = as_statistic(who, "cache.mean", cache.mean, self._mean.shape, advice)
        var = as_statistic(who, "cache.var", cache.var, self._var.shape, advice)
        count = as_real(who, "cache.count", cache.count, 0.0, math.inf, advice)
        if count == 0:
            return
        if count < 2 or (var < 0).any():
            raise ValueError(
                f"{who}: expected at least 2 values per channel and var >= 0, got {count:g} and {var.min():g}. {advice}"
            )
        if not (np.isfinite(mean).all() and np.isfinite(var).all()):
            if self.nonfinite == "raise":
                worst = int(np.flatnonzero(~(np.isfinite(mean) & np.isfinite(var)))[0])
                raise ValueError(
                    f"{who}: expected finite batch statistics, got NaN or Inf in channel {worst}. "
                    'Look for NaN in the data or a learning rate that is too high; nonfinite="skip" leaves '
                    "such batches out."
                )
            self.skipped += 1
            return
        if self.update_rate is not None:
            if self.unbiased:
                var = var * (count / (count - 1))
            self._mean += self.update_rate * (mean - self._mean)
            self._var += self.update_rate * (var - self._var)
        else:
            self._merge(mean, var, count)
        self._count += count

    def _merge(self, mean: Array, var: Array, count: float) -> None:
        """Add the sums of a batch to those of all before, by Chan's rule."""
        seen = float(self._count)
        total = seen + count
        taken = 1.0 if self.unbiased else 0.0  # degrees of freedom
        squares = self._var * (seen - taken) if seen else 0.0
        shift = mean - self._mean
        squares = squares + var * count + shift * shift * (seen * count / total)
        self._mean += shift * (count / total)
        self._var[...] = squares / (total - taken)


class BatchNorm(Layer):
    """Give every channel mean 0 and variance 1 over the batch, then scale and shift.

    In training the statistics are the batch's, and the running statistics learn from them; in prediction they are the
    running ones, so that a sample's result does not depend on its company.

    Parameters
    ----------
    channels : int
        Number of channels C.
    eps : float
        Added to the variance; unit of x².
    update_rate : float or None
        Share of the new batch in the running statistics, in [0, 1]; no unit. torch calls this `momentum`, Keras and
        Flax call 1 - update_rate `momentum`. None averages over everything seen.
    unbiased : bool
        Whether the running variance is the unbiased estimate, as in torch.
    channel_axis : int
        1 for (N, C, ...), -1 for channels last, 0 for features x samples.
    affine : bool
        Whether to scale and shift by learned gamma and beta.
    nonfinite : {"raise", "skip"}
        What the running statistics do with a batch that holds a NaN or Inf.
    dtype : dtype
        Type of the parameters.

    Attributes
    ----------
    parameters : dict
        `gamma` (ones) and `beta` (zeros), shape (C,), unit of y; empty without `affine`.
    statistics : RunningStatistics
        What prediction normalizes with.

    Raises
    ------
    ValueError
        In training, if there is one value per channel.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> layer = xhat.BatchNorm(2, update_rate=1.0)
    >>> x = np.random.default_rng(0).normal(5, 3, (100, 2))
    >>> y, cache = layer.forward(x, training=True)
    >>> z, cache = layer.forward(x)
    >>> bool(np.abs(y - z).max() < 1e-12)
    True
    """

    ops = (OP, FIXED)
    absorbs_bias = True

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        update_rate: float | None = 0.1,
        unbiased: bool = False,
        channel_axis: int = 1,
        affine: bool = True,
        nonfinite: str = "raise",
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        who = "BatchNorm"
        self.channels = as_count(who, "channels", channels, 1, "Give the number of channels of x.")
        self.eps = as_eps(who, eps)
        self.channel_axis = as_axis(who, "channel_axis", channel_axis, None)
        self.affine = bool(affine)
        kind = as_parameter_dtype(who, dtype)
        if self.affine:
            self.parameters = {"gamma": np.ones(self.channels, kind), "beta": np.zeros(self.channels, kind)}
        self.statistics = RunningStatistics(self.channels, update_rate, unbiased, nonfinite=nonfinite)
        self.state = {
            "running_mean": self.statistics.mean,
            "running_var": self.statistics.var,
            "running_count": self.statistics.count,
        }

    @property
    def update_rate(self) -> float | None:
        """Share of the new batch in the running statistics."""
        return self.statistics.update_rate

    @property
    def unbiased(self) -> bool:
        """Whether the running variance is the unbiased estimate."""
        return self.statistics.unbiased

    @property
    def nonfinite(self) -> str:
        """What happens to a batch whose statistics are not finite: "raise" or "skip"."""
        return self.statistics.nonfinite

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return what the Op's forward is called with."""
        parameters = {"gamma": None, "beta": None, **self.parameters}
        settings = {"eps": self.eps, "channel_axis": self.channel_axis}
        if training:
            return {**parameters, **settings}
        return {**parameters, "mean": self.statistics.mean, "var": self.statistics.var, **settings}

    def forward(self, x: ArrayLike, *, training: bool = False) -> tuple[Array, Any]:
        """Return the output and the cache that `backward` needs; in training, learn the batch's statistics."""
        y, cache = super().forward(x, training=training)
        if training:
            self.statistics.update(cache)
        return y, cache

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        yield Case(cls(5), x=(7, 5))
        yield Case(cls(3, affine=False), x=(4, 3))
        yield Case(cls(3), x=(2, 3, 4, 5))
        yield Case(cls(3, channel_axis=-1), x=(2, 5, 3))
        yield Case(cls(4, channel_axis=0), x=(4, 11))
        yield Case(cls(2), x=(2, 2))
        yield Case(cls(2), x=1e8 + np.array([[0.1, 0.5], [1.7, -0.2], [-1.1, 0.3]]))
        # mean 2 and 4, variance 1 and 16, so with eps = 48 the roots are 7 and 8
        yield Case(
            cls(2, eps=48.0),
            x=np.array([[1.0, 0.0], [3.0, 8.0]]),
            parameters={"gamma": [7, 2], "beta": [10, 20]},
            y=[[9, 19], [11, 21]],
            dy=[[49, 0], [0, 16]],
            dx=[[24, -1.5], [-24, 1.5]],
        )
        # an eps of 0: the first channel does not vary, so nothing is scaled and nothing passes back
        yield Case(
            cls(2, eps=0.0),
            x=np.array([[5.0, 1.0], [5.0, 3.0], [5.0, 5.0], [5.0, 3.0]]),
            parameters={"gamma": [2, 1], "beta": [1, 4]},
            y=[[1, 4 - 2**0.5], [1, 4], [1, 4 + 2**0.5], [1, 4]],
            dy=[[1, 0], [0, 0], [0, 0], [0, 4]],
            dx=[[0, -(0.5**0.5)], [0, -(0.5**0.5)], [0, -(0.5**0.5)], [0, 3 * 0.5**0.5]],
        )
        # not varying with an eps of 1/4, where rstd is 2
        yield Case(
            cls(1, eps=0.25),
            x=np.array([[5.0], [5.0]]),
            parameters={"gamma": [3], "beta": [4]},
            y=[[4], [4]],
            dy=[[1], [0]],
            dx=[[3], [-3]],
        )
        predicting = cls(3)
        predicting.statistics.mean[...] = [1, -2, 3]
        predicting.statistics.var[...] = [0.5, 1, 4]
        yield Case(predicting, x=(4, 3, 2), training=False)
        predicting = cls(2, eps=3.0)
        predicting.statistics.mean[...] = [1, 2]
        predicting.statistics.var[...] = [1, 22]
        yield Case(
            predicting,
            x=np.array([[5.0, 12.0]]),
            training=False,
            parameters={"gamma": [1, 2], "beta": [0, 1]},
            y=[[2, 5]],
            dy=[[2, 5]],
            dx=[[1, 2]],
        )
        predicting = cls(2, eps=0.0)
        predicting.statistics.mean[...] = [1, 2]
        predicting.statistics.var[...] = [0, 4]
        yield Case(
            predicting,
            x=np.array([[5.0, 12.0]]),
            training=False,
            parameters={"gamma": [1, 2], "beta": [3, 1]},
            y=[[3, 11]],
            dy=[[2, 5]],
            dx=[[0, 5]],
        )
        predicting = cls(1, eps=0.25)
        predicting.statistics.var[...] = 0
        yield Case(
            predicting,
            x=np.array([[3.0]]),
            training=False,
            parameters={"gamma": [1], "beta": [1]},
            y=[[7]],
            dy=[[1]],
            dx=[[2]],
        )
