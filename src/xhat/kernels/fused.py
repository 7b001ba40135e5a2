"""Norms with what stands beside them in a network, in one pass over memory.

After the norm, ReLU and dropout are applied to y before it is rounded and written:

    forward    y = dropped(max(norm(x), 0))
    backward   dy goes to the norm where it was kept and norm(x) was positive, times the scale

Backward stores neither a mask nor y: the sign of y is worked out from x again, as forward did it, and what was dropped
follows from the key and each number's place (`xhat.kernels.random`). What is not positive once it is rounded counts as
0. NaN passes; what is dropped is 0 whatever it was.

Before the norm, rows may get something added, a residual or a bias: `total = x + added` is rounded, written and
normalized. Backward adds a gradient that arrives at the total itself, and sums up the gradient of a bias.

`y` and `dx` are rounded once; the bits depend neither on the number of threads nor on the variant. Where
`kernels.serves_wide(dtype)` says no, there is no such kernel.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xhat import kernels
from xhat.kernels import Statistics, empty_statistics, sum_of

__all__ = [
    "Epilogue",
    "channels_apply",
    "channels_apply_backward",
    "channels_backward",
    "channels_forward",
    "rows_backward",
    "rows_forward",
]

Numbers: TypeAlias = NDArray[np.floating[Any]]
Entries: TypeAlias = NDArray[np.float64]


class Epilogue(NamedTuple):
    """What follows a norm: ReLU, then dropout.

    Attributes
    ----------
    rate : float
        From 0 to 1: the share that is dropped. 0 is ReLU alone.
    key : int
        From 0 to 2**64 - 1. With the rate and a number's flat index in y, it says what is kept.
    """

    rate: float = 0.0
    key: int = 0


def rows_forward(
    x: Numbers,
    gamma: Numbers | None,
    beta: Numbers | None,
    eps: float,
    out: Numbers,
    *,
    centred: bool = True,
    epilogue: Epilogue | None = None,
    added: Numbers | None = None,
    total: Numbers | None = None,
) -> Statistics:
    """Normalize each row into `out`.

    Parameters
    ----------
    x : numpy.ndarray
        (rows, columns), float32 or float64.
    gamma, beta, eps, centred
        As in `kernels.rows_forward`.
    out : numpy.ndarray
        Like x. Receives y.
    epilogue : Epilogue or None
        What follows the norm. None means nothing.
    added : numpy.ndarray or None
        Of the type of x. A residual, (rows, columns), or a bias for each column, (columns,).
    total : numpy.ndarray or None
        Like x; with `added`, and only then. Receives `x + added`, whose rows are normalized. May be x itself, or a
        residual itself.

    Returns
    -------
    Statistics
        Of each row of what is normalized. A row without columns has mean 0 and variance 0.

    Raises
    ------
    TypeError
        If an array has another type.
    ValueError
        If shapes do not fit, an array is not contiguous, aligned or writable, memory is shared, eps is not finite and
        >= 0, or the rate is not from 0 to 1.
    """
    statistics = empty_statistics(x.shape[0])
    kernels.native.fused_rows_forward(x, added, total, gamma, beta, eps, centred, epilogue, out, *statistics)
    return statistics


def rows_backward(
    dy: Numbers,
    x: Numbers,
    gamma: Numbers | None,
    beta: Numbers | None,
    statistics: Statistics,
    out: Numbers,
    *,
    shape: tuple[int, int],
    centred: bool = True,
    epilogue: Epilogue | None = None,
    also: Numbers | None = None,
    bias: bool = False,
) -> tuple[Entries, Entries, Entries | None]:
    """Write the gradient of what was normalized into `out` and return those of gamma, beta and a bias.

    Parameters
    ----------
    dy, x : numpy.ndarray
        (rows, columns), float32 or float64. x is what was normalized: the total where something was added.
    gamma, beta : numpy.ndarray or None
        As in `rows_forward`; beta says where y was positive.
    statistics : Statistics
        From `rows_forward`.
    out : numpy.ndarray
        Like x. Receives dx; of a residual, it is the gradient too.
    shape : tuple of int
        (groups, entries), also where gamma is None.
    centred, epilogue
        As in `rows_forward`.
    also : numpy.ndarray or None
        Like x: a gradient that arrives at x itself. It is added to dx.
    bias : bool
        Whether the gradient of a bias is wanted.

    Returns
    -------
    dgamma, dbeta : numpy.ndarray
        (groups, entries) float64. Both, also where gamma is None. Zero if there are no rows.
    dbias : numpy.ndarray or None
        (columns,) float64, the sum of the rows of dx before they are rounded. None if it is not wanted.

    Raises
    ------
    TypeError, ValueError
        As `rows_forward`.
    """
    dgamma, dbeta = np.empty(shape), np.empty(shape)
    dbias = np.empty(x.shape[1]) if bias else None
    mean, mean_low, _, rstd = statistics
    kernels.native.fused_rows_backward(
        dy, x, also, gamma, beta, mean, mean_low, rstd, centred, epilogue, out, dgamma, dbeta, dbias
    )
    return dgamma, dbeta, dbias


def channels_forward(
    x: Numbers,
    weights: Entries | None,
    gamma: Numbers | None,
    beta: Numbers | None,
    eps: float,
    out: Numbers,
    *,
    epilogue: Epilogue | None = None,
) -> Statistics:
    """Normalize each channel into `out`.

    Parameters
    ----------
    x : numpy.ndarray
        (outer, channels, inner), float32 or float64.
    weights, gamma, beta, eps
        As in `kernels.channels_forward`.
    out : numpy.ndarray
        Like x. Receives y.
    epilogue : Epilogue or None
        What follows the norm. None means nothing.

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
    kernels.native.fused_channels_forward(x, weights, sum_of(weights), gamma, beta, eps, epilogue, out, *statistics)
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
    *,
    epilogue: Epilogue | None = None,
) -> None:
    """Normalize each channel with given statistics into `out`.

    Parameters
    ----------
    x, weights, gamma, beta, out, epilogue
        As in `channels_forward`; the weights only say what is missing.
    mean, mean_low, rstd : numpy.ndarray
        (channels,) float64, units of x, x and 1/x. A mean_low of None means 0.

    Raises
    ------
    TypeError, ValueError
        As `rows_forward`.
    """
    kernels.native.fused_channels_apply(x, weights, gamma, beta, mean, mean_low, rstd, epilogue, out)


def channels_backward(
    dy: Numbers,
    x: Numbers,
    weights: Entries | None,
    gamma: Numbers | None,
    beta: Numbers | None,
    statistics: Statistics,
    out: Numbers,
    *,
    epilogue: Epilogue | None = None,
) -> tuple[Entries, Entries]:
    """Write the gradient of x into `out` and return those of gamma and beta.

    Parameters
    ----------
    dy, x : numpy.ndarray
        (outer, channels, inner), float32 or float64.
    weights, gamma, beta, epilogue
        As in `channels_forward`.
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
    kernels.native.fused_channels_backward(
        dy,
        x,
        weights,
        sum_of(weights),
        gamma,
        beta,
        mean,
        mean_low,
        rstd,
        epilogue,
        out,
        dgamma,
        dbeta,
    )
    return dgamma, dbeta


def channels_apply_backward(
    dy: Numbers,
    x: Numbers,
    weights: Entries | None,
    gamma: Numbers | None,
    beta: Numbers | None,
    mean: Entries,
    mean_low: Entries | None,
    rstd: Entries,
    out: Numbers,
    *,
    epilogue: Epilogue | None = None,
) -> tuple[Entries, Entries]:
    """Write the gradient of x under given statistics into `out` and return those of gamma and beta.

    Parameters
    ----------
    dy, x : numpy.ndarray
        (outer, channels, inner), float32 or float64.
    weights, gamma, beta, mean, mean_low, rstd, epilogue
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
    kernels.native.fused_channels_apply_backward(
        dy, x, weights, gamma, beta, mean, mean_low, rstd, epilogue, out, dgamma, dbeta
    )
    return dgamma, dbeta
