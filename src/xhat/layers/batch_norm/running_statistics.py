"""What prediction normalizes with: mean and variance over all batches seen."""

from __future__ import annotations

import math

import numpy as np

from xhat.checks import Array, as_choice, as_count, as_flag, as_real, as_statistic, check_cache
from xhat.layers.batch_norm.arguments import as_moments, as_virtual_cache
from xhat.layers.batch_norm.reference import Cache, Moments
from xhat.layers.batch_norm.renormalization import RenormCache
from xhat.layers.batch_norm.virtual_batches import VirtualCache


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
        self.unbiased = as_flag(who, "unbiased", unbiased)
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

    def update(self, cache: Cache | VirtualCache | RenormCache | Moments) -> None:
        """Take in the statistics of one batch, or of its virtual batches one after the other.

        Parameters
        ----------
        cache : Cache, VirtualCache, RenormCache or Moments
            From `batch_norm.forward`, `batch_norm.renorm` or `batch_norm.moments`. Where the moments of several parts
            were merged, the caches of all parts hold the same statistics: give one of them.

        Raises
        ------
        TypeError
            If `cache` is not such a cache: fixed statistics say nothing about a batch.
        ValueError
            If the channels differ in number, or the statistics are not finite and `nonfinite` is "raise".
        """
        who = "RunningStatistics.update"
        check_cache(who, cache, Cache, VirtualCache, RenormCache, Moments)
        batches = as_virtual_cache(who, cache)[0].parts if isinstance(cache, VirtualCache) else (cache,)
        kept = [self._judged(batch) for batch in batches]
        mean, var, count = self._mean, self._var, float(self._count)
        for batch in kept:
            if batch is not None and batch.count > 0:
                mean, var, count = self._taken_in(batch, mean, var, count)
        self._mean[...], self._var[...], self._count[...] = mean, var, count  # all of it, or nothing
        self.skipped += kept.count(None)

    def _judged(self, cache: Cache | RenormCache | Moments) -> Moments | None:
        """Return the moments of a batch; None if they are not finite and such batches are skipped."""
        who = "RunningStatistics.update"
        shape = self._mean.shape
        advice = f"These statistics have {shape[0]} channels; pass on the cache that forward returned."
        if isinstance(cache, Moments):
            batch = as_moments(who, cache, shape)
        else:
            cache = cache.batch if isinstance(cache, RenormCache) else cache
            check_cache(who, cache, Cache)
            mean, mean_low, var = (
                as_statistic(who, f"cache.{name}", getattr(cache, name), shape, advice)
                for name in ("mean", "mean_low", "var")
            )
            count = as_real(who, "cache.count", cache.count, 0.0, math.inf, advice)
            with np.errstate(over="ignore"):
                batch = Moments(count, mean, mean_low, var * count)
        if (batch.squares < 0).any():
            raise ValueError(f"{who}: expected var >= 0, got {batch.squares.min():g} times the count. {advice}")
        if self.unbiased and 0 < batch.count <= 1:
            raise ValueError(
                f"{who}: expected a count above 1 for unbiased statistics, got {batch.count:g}. "
                "Weights count how often an entry was seen: scale them, or choose unbiased=False."
            )
        finite = np.isfinite(batch.mean) & np.isfinite(batch.squares)
        if finite.all():
            return batch
        if self.nonfinite == "raise":
            worst = int(np.flatnonzero(~finite)[0])
            raise ValueError(
                f"{who}: expected finite batch statistics, got NaN or Inf in channel {worst}. "
                "Look for NaN in the data, values beyond 1e154 or a learning rate that is too high; "
                'nonfinite="skip" leaves such batches out.'
            )
        return None

    def _taken_in(self, batch: Moments, mean: Array, var: Array, seen: float) -> tuple[Array, Array, float]:
        """Return the statistics after they moved toward those of a batch, or merged with them."""
        taken = 1.0 if self.unbiased else 0.0  # degrees of freedom
        with np.errstate(over="ignore", invalid="ignore"):
            if self.update_rate is not None:
                mean = mean + self.update_rate * (batch.mean - mean)
                var = var + self.update_rate * (batch.squares / (batch.count - taken) - var)
            else:
                squares = var * (seen - taken) if seen else np.zeros_like(var)
                everything = Moments(seen, mean, np.zeros_like(mean), squares).merge(batch)
                mean, var = everything.mean, everything.squares / (everything.count - taken)
        if not (np.isfinite(mean).all() and np.isfinite(var).all()):
            raise ValueError(
                "RunningStatistics.update: expected statistics that float64 can hold, "
                f"got a batch of variance {(batch.squares / batch.count).max():g}. Scale x by a power of two first."
            )
        return mean, var, seen + batch.count
