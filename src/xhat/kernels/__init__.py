"""The speed: compiled loops behind one door.

Two loops normalize: `rows` each row of a matrix (layer, group, instance and RMS norm are views of it), `channels` each
channel of an array (outer, channels, inner) (batch norm). With `centred = (x - mean) - mean_low` and
`x_hat = centred * rstd`:

    forward    y = x_hat * gamma + beta
    backward   dx = rstd * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat)),   dx_hat = dy * gamma
               dgamma = sum(dy * x_hat),   dbeta = sum(dy)

In the rows loop gamma and beta are (groups, entries): row i uses line i % groups, and each entry serves as many
adjacent columns as the others. Layer and RMS norm have one line and an entry per column; group norm has a line per
group and an entry per channel of it, for all its positions; instance norm a line of one entry per channel.

The kernels know arrays and no layers. They take C-contiguous float16, bfloat16 (ml_dtypes'), float32 or float64 in
native byte order and write into `out`, which may not share memory with an input. These two compute in float64 and round
once; the bits of the results depend neither on the number of threads nor on the variant. NaN and Inf stay in their row
or channel. Where `serves(dtype)` says no, there is no kernel: the layer's own NumPy code is used.

Windows that move over images have rooms of their own: `convolution`, whose products are BLAS's in the type of x, and
`pooling`; they take float32 and float64. `small` serves small arrays in one call, `strided` rows that lie otherwise in
memory, `elementwise` what NumPy needs help with. `threads` and `memory` are what all of them work with; `granted` is
what the system allows of both.

float64 data whose squares leave the range of the type are measured in another unit: `rstd` is right then, though `var`
may be Inf or 0. Deviations below 1e-308 count as none.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    from collections.abc import Generator

try:
    import xhat._native as native  # pyright: ignore[reportMissingModuleSource]  (it is C++)

    reason = ""
except ImportError as error:
    native = cast("Any", None)
    reason = str(error)

# After the native module, which they look for here.
from xhat.kernels.memory import Memory, get_memory, set_idle_memory
from xhat.kernels.threads import get_num_threads, set_num_threads

__all__ = [
    "VARIANTS",
    "Memory",
    "Statistics",
    "channels_apply",
    "channels_apply_backward",
    "channels_backward",
    "channels_forward",
    "channels_gradient",
    "channels_statistics",
    "channels_sums",
    "get_memory",
    "get_num_threads",
    "reason",
    "rows_backward",
    "rows_forward",
    "serves",
    "serves_wide",
    "set_idle_memory",
    "set_num_threads",
    "use",
    "variant",
]

Numbers: TypeAlias = NDArray[np.floating[Any]]
Entries: TypeAlias = NDArray[np.float64]

VARIANTS: tuple[str, ...] = ("reference", *(native.variants() if native else ()))
"""What can run here, slowest first. `reference` is the layers' own NumPy code."""

_WIDE = (np.dtype(np.float32), np.dtype(np.float64))
_HALF = np.dtype(np.float16)
_variant = "reference"


class Statistics(NamedTuple):
    """Mean and variance of each row or channel, and what follows from them.

    Attributes
    ----------
    mean : numpy.ndarray
        (n,) float64, unit of x. The mean, rounded to float64.
    mean_low : numpy.ndarray
        (n,) float64, unit of x. What the rounding lost: the mean is `mean + mean_low`.
    var : numpy.ndarray
        (n,) float64, unit of x². The biased variance.
    rstd : numpy.ndarray
        (n,) float64, unit of 1/x. `1 / sqrt(var + eps)`; 0 where `var + eps` is 0, so that x_hat is 0 there.
    """

    mean: Entries
    mean_low: Entries
    var: Entries
    rstd: Entries


def variant() -> str:
    """Return the name of the variant in use, one of `VARIANTS`."""
    return _variant


def serves(dtype: DTypeLike) -> bool:
    """Tell whether there is a kernel for the norms of arrays of this type.

    Parameters
    ----------
    dtype : numpy.dtype or what compares to one
        The type of x.

    Returns
    -------
    bool
        True for float16, bfloat16, float32 and float64 in native byte order, unless the variant in use is `reference`.
    """
    return serves_wide(dtype) or (_variant != "reference" and (dtype == _HALF or np.dtype(dtype).name == "bfloat16"))


def serves_wide(dtype: DTypeLike) -> bool:
    """Tell whether there are kernels that compute in this type.

    Parameters
    ----------
    dtype : numpy.dtype or what compares to one
        The type of x.

    Returns
    -------
    bool
        True for float32 and float64 in native byte order, unless the variant in use is `reference`.
    """
    return dtype in _WIDE and _variant != "reference"


@contextmanager
def use(name: str) -> Generator[None]:
    """Force one variant for a while. It holds for the whole process, other threads included.

    Parameters
    ----------
    name : str
        One of `VARIANTS`.

    Raises
    ------
    ValueError
        If the variant is unknown or cannot run here.
    """
    before = _variant
    _choose(name, "kernels.use")
    try:
        yield
    finally:
        _choose(before, "kernels.use")


def rows_forward(
    x: Numbers, gamma: Numbers | None, beta: Numbers | None, eps: float, out: Numbers, *, centred: bool = True
) -> Statistics:
    """Normalize each row into `out`.

    Parameters
    ----------
    x : numpy.ndarray
        (rows, columns), float16, bfloat16, float32 or float64.
    gamma, beta : numpy.ndarray or None
        (groups, entries) of any floating type, unit of y; both sizes divide those of x. Row i goes by line
        `i % groups`, column j by entry `j // (columns // entries)`. None means 1 and 0.
    eps : float
        Finite and >= 0, unit of x².
    out : numpy.ndarray
        Like x. Receives y.
    centred : bool
        Whether the mean is taken off. If not, it counts as 0, and `var` is the mean of x².

    Returns
    -------
    Statistics
        Of each row. A row without columns has mean 0 and variance 0.

    Raises
    ------
    TypeError
        If an array has another type.
    ValueError
        If shapes do not fit, an array is not contiguous, aligned or writable, memory is shared, or eps is not
        finite and >= 0.
    """
    statistics = empty_statistics(x.shape[0])
    native.rows_forward(x, gamma, beta, eps, centred, out, *statistics)
    return statistics


def rows_backward(
    dy: Numbers,
    x: Numbers,
    gamma: Numbers | None,
    statistics: Statistics,
    out: Numbers,
    *,
    shape: tuple[int, int],
    centred: bool = True,
) -> tuple[Entries, Entries]:
    """Write the gradient of x into `out` and return those of gamma and beta.

    Parameters
    ----------
    dy, x : numpy.ndarray
        (rows, columns), float16, bfloat16, float32 or float64.
    gamma : numpy.ndarray or None
        As in `rows_forward`.
    statistics : Statistics
        From `rows_forward`.
    out : numpy.ndarray
        Like x. Receives dx.
    shape : tuple of int
        (groups, entries), also where gamma is None.
    centred : bool
        As in `rows_forward`. If not, the term `mean(dx_hat)` falls away.

    Returns
    -------
    dgamma, dbeta : numpy.ndarray
        (groups, entries) float64. Both, also where gamma is None. Zero if there are no rows.

    Raises
    ------
    TypeError, ValueError
        As `rows_forward`.
    """
    dgamma, dbeta = np.empty(shape), np.empty(shape)
    mean, mean_low, _, rstd = statistics
    native.rows_backward(dy, x, gamma, mean, mean_low, rstd, centred, out, dgamma, dbeta)
    return dgamma, dbeta


def channels_statistics(x: Numbers, weights: Entries | None, eps: float) -> Statistics:
    """Return the statistics of each channel.

    Parameters
    ----------
    x : numpy.ndarray
        (outer, channels, inner), float16, bfloat16, float32 or float64.
    weights : numpy.ndarray or None
        (outer, inner) float64, finite and >= 0: how often each entry counts, in every channel. None means once. What is
        NaN or Inf under a weight of 0 is missing: y and dx are 0 there, and dy counts for nothing.
    eps : float
        Finite and >= 0, unit of x².

    Returns
    -------
    Statistics
        Of each channel. A channel without numbers has mean 0 and variance 0.

    Raises
    ------
    TypeError, ValueError
        As `rows_forward`.
    """
    statistics = empty_statistics(x.shape[1])
    native.channels_statistics(x, weights, sum_of(weights), eps, *statistics)
    return statistics


def channels_forward(
    x: Numbers,
    weights: Entries | None,
    gamma: Numbers | None,
    beta: Numbers | None,
    eps: float,
    out: Numbers,
) -> Statistics:
    """Normalize each channel into `out`.

    Parameters
    ----------
    x, weights, eps
        As in `channels_statistics`.
    gamma, beta : numpy.ndarray or None
        (channels,) of any floating type, unit of y. None means 1 and 0.
    out : numpy.ndarray
        Like x. Receives y.

    Returns
    -------
    Statistics
        Of each channel. A channel without numbers has mean 0 and variance 0.

    Raises
    ------
    TypeError, ValueError
        As `rows_forward`.
    """
    statistics = empty_statistics(x.shape[1])
    native.channels_forward(x, weights, sum_of(weights), gamma, beta, eps, out, *statistics)
    return statistics


def channels_apply(
    x: Numbers,
    weights: Entries | None,
    gamma: Numbers | None,
    beta: Numbers | None,
    mean: Entries,
    mean_low: Entries | None,
    rstd: Entries,
    out: Numbers,
) -> None:
    """Normalize each channel with given statistics into `out`.

    Parameters
    ----------
    x, weights, gamma, beta, out
        As in `channels_forward`; the weights only say what is missing.
    mean, mean_low, rstd : numpy.ndarray
        (channels,) float64, units of x, x and 1/x. A mean_low of None means 0.

    Raises
    ------
    TypeError, ValueError
        As `rows_forward`.
    """
    native.channels_apply(x, weights, gamma, beta, mean, mean_low, rstd, out)


def channels_sums(dy: Numbers, x: Numbers, weights: Entries | None, statistics: Statistics) -> tuple[Entries, Entries]:
    """Return the gradients of gamma and beta: the sums that the gradient of x needs.

    Parameters
    ----------
    dy, x : numpy.ndarray
        (outer, channels, inner), float16, bfloat16, float32 or float64.
    weights : numpy.ndarray or None
        As in `channels_statistics`; they only say what is missing.
    statistics : Statistics
        From `channels_statistics` or `channels_forward`.

    Returns
    -------
    dgamma, dbeta : numpy.ndarray
        (channels,) float64. Zero if the channels are empty.

    Raises
    ------
    TypeError, ValueError
        As `rows_forward`.
    """
    dgamma, dbeta = np.empty(x.shape[1]), np.empty(x.shape[1])
    mean, mean_low, _, rstd = statistics
    native.channels_sums(dy, x, weights, mean, mean_low, rstd, dgamma, dbeta)
    return dgamma, dbeta


def channels_gradient(
    dy: Numbers,
    x: Numbers,
    weights: Entries | None,
    gamma: Numbers | None,
    statistics: Statistics,
    dgamma: Entries,
    dbeta: Entries,
    total: float,
    out: Numbers,
) -> None:
    """Write the gradient of x into `out`, where x is a part of a batch.

    Parameters
    ----------
    dy, x, weights, statistics
        As in `channels_sums`; the weights are those of this part.
    gamma : numpy.ndarray or None
        (channels,) of any floating type. None means 1.
    dgamma, dbeta : numpy.ndarray
        (channels,) float64, from `channels_sums`, added up over all parts.
    total : float
        How many numbers a channel has in all parts, or the sum of their weights.
    out : numpy.ndarray
        Like x. Receives dx.

    Raises
    ------
    TypeError, ValueError
        As `rows_forward`.
    """
    mean, mean_low, _, rstd = statistics
    native.channels_gradient(dy, x, weights, total, gamma, mean, mean_low, rstd, dgamma, dbeta, out)


def channels_backward(
    dy: Numbers,
    x: Numbers,
    weights: Entries | None,
    gamma: Numbers | None,
    statistics: Statistics,
    out: Numbers,
) -> tuple[Entries, Entries]:
    """Write the gradient of x into `out` and return those of gamma and beta.

    Parameters
    ----------
    dy, x : numpy.ndarray
        (outer, channels, inner), float16, bfloat16, float32 or float64.
    weights : numpy.ndarray or None
        As in `channels_statistics`.
    gamma : numpy.ndarray or None
        (channels,) of any floating type. None means 1.
    statistics : Statistics
        From `channels_forward`.
    out : numpy.ndarray
        Like x. Receives dx.

    Returns
    -------
    dgamma, dbeta : numpy.ndarray
        (channels,) float64. Both, also where gamma is None. Zero if the channels are empty.

    Raises
    ------
    TypeError, ValueError
        As `rows_forward`.
    """
    dgamma, dbeta = np.empty(x.shape[1]), np.empty(x.shape[1])
    mean, mean_low, _, rstd = statistics
    native.channels_backward(dy, x, weights, sum_of(weights), gamma, mean, mean_low, rstd, out, dgamma, dbeta)
    return dgamma, dbeta


def channels_apply_backward(
    dy: Numbers,
    x: Numbers,
    weights: Entries | None,
    gamma: Numbers | None,
    mean: Entries,
    mean_low: Entries | None,
    rstd: Entries,
    out: Numbers,
) -> tuple[Entries, Entries]:
    """Write the gradient of x under given statistics into `out` and return those of gamma and beta.

    dx = rstd * gamma * dy: nothing moves the statistics.

    Parameters
    ----------
    dy, x : numpy.ndarray
        (outer, channels, inner), float16, bfloat16, float32 or float64.
    gamma : numpy.ndarray or None
        (channels,) of any floating type. None means 1.
    weights, mean, mean_low, rstd
        As given to `channels_apply`.
    out : numpy.ndarray
        Like x. Receives dx.

    Returns
    -------
    dgamma, dbeta : numpy.ndarray
        (channels,) float64. Both, also where gamma is None. Zero if the channels are empty.

    Raises
    ------
    TypeError, ValueError
        As `rows_forward`.
    """
    dgamma, dbeta = np.empty(x.shape[1]), np.empty(x.shape[1])
    native.channels_apply_backward(dy, x, weights, gamma, mean, mean_low, rstd, out, dgamma, dbeta)
    return dgamma, dbeta


def empty_statistics(n: int) -> Statistics:
    """Return room for the statistics of n rows or channels."""
    return Statistics(np.empty(n), np.empty(n), np.empty(n), np.empty(n))


def sum_of(weights: Entries | None) -> float:
    """Return the sum of the weights, which the native functions read where weights are given."""
    return 0.0 if weights is None else float(weights.sum())


def _choose(name: str, who: str) -> None:
    global _variant
    if name not in VARIANTS:
        message = f"{who}: expected one of {', '.join(VARIANTS)}, got {name!r}. Only these can run here."
        raise ValueError(f"{message} The native module is absent: {reason}" if reason else message)
    if name != "reference":
        native.use(name)
    _variant = name


_choose(os.environ.get("XHAT_KERNELS") or VARIANTS[-1], "XHAT_KERNELS")
