"""What prediction normalizes with: mean and variance over all batches seen."""

import math

import numpy as np

from xhat.checks import Array, as_choice, as_count, as_flag, as_real, as_statistic, check_cache
from xhat.layers.batch_norm.reference import Cache


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
