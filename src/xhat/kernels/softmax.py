"""Softmax of rows of scores, and its cross-entropy, in compiled loops: float64 inside, rounded once.

The bits depend neither on the number of threads nor on the variant. NaN and Inf stay in their row, and give there what
they give in `xhat.softmax_cross_entropy` without kernels.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xhat import kernels

__all__ = ["cross_entropy", "softmax"]

Numbers: TypeAlias = NDArray[np.floating[Any]]


def softmax(scores: Numbers, out: Numbers) -> None:
    """Write the probabilities of the classes into `out`.

    Parameters
    ----------
    scores : numpy.ndarray
        (rows, classes), C-contiguous, float32 or float64; no unit.
    out : numpy.ndarray
        Like scores.

    Raises
    ------
    TypeError
        If an array has another type.
    ValueError
        If shapes differ, an array is not contiguous, aligned or writable, or memory is shared.
    """
    kernels.native.softmax(scores, out)


def cross_entropy(scores: Numbers, labels: NDArray[np.int64], out: Numbers) -> NDArray[np.float64]:
    """Write the gradient of the average cross-entropy into `out` and return the cross-entropy of each row.

    Parameters
    ----------
    scores : numpy.ndarray
        (rows, classes), C-contiguous, float32 or float64; no unit.
    labels : numpy.ndarray
        (rows,) int64, C-contiguous: the right classes, each in 0 ... classes - 1.
    out : numpy.ndarray
        Like scores.

    Returns
    -------
    numpy.ndarray
        (rows,) float64, in nats.

    Raises
    ------
    TypeError, ValueError
        As `softmax`; ValueError also if a label is out of range.
    """
    losses = np.empty(scores.shape[0])
    kernels.native.softmax_cross_entropy(scores, labels, out, losses)
    return losses
