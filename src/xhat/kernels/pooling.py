"""Max pooling in compiled loops, for windows of at most 255 entries: a byte counts them."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from xhat import kernels
from xhat.kernels import memory

__all__ = ["max_backward", "max_forward", "serves"]

Numbers: TypeAlias = NDArray[np.floating[Any]]
Pair: TypeAlias = tuple[int, int]

_MOST_ENTRIES = 255


def serves(dtype: DTypeLike, size: Pair) -> bool:
    """Tell whether there is a kernel for arrays of this type and windows of this size (rows, columns)."""
    return kernels.serves_wide(dtype) and math.prod(size) <= _MOST_ENTRIES


def max_forward(x: Numbers, size: Pair, stride: Pair, padding: Pair, out: Numbers) -> NDArray[np.uint8]:
    """Write the largest entry of each window into `out` and return which of the window's entries it is.

    Parameters
    ----------
    x : numpy.ndarray
        (N, C, H, W), float32 or float64.
    size, stride : tuple of int
        Of the windows, (rows, columns).
    padding : tuple of int
        How far windows reach over the edges of the image, (rows, columns); at most half of `size`.
    out : numpy.ndarray
        (N, C, H', W'), type of x. Receives y.

    Returns
    -------
    numpy.ndarray
        Shape of `out`. Counts the entries of a window row by row, from 0. Of equal ones, the first; the first NaN
        where there is one.

    Raises
    ------
    TypeError, ValueError
        If types or shapes do not fit, or the padding is more than half a window.
    """
    argmax = memory.empty(out.shape, np.dtype(np.uint8))
    kernels.native.max_pool_forward(_planes(x), _planes(out), _planes(argmax), size, stride, padding)
    return argmax


def max_backward(dy: Numbers, argmax: NDArray[np.uint8], size: Pair, stride: Pair, padding: Pair, out: Numbers) -> None:
    """Give the gradient of each window to the entry that was the largest; the sum where windows share one.

    Parameters
    ----------
    dy : numpy.ndarray
        (N, C, H', W'), float32 or float64.
    argmax : numpy.ndarray
        Shape of dy; from `max_forward`.
    size, stride : tuple of int
        Of the windows, (rows, columns).
    padding : tuple of int
        How far windows reach over the edges of the image, (rows, columns); at most half of `size`.
    out : numpy.ndarray
        (N, C, H, W), type of dy. Receives dx.

    Raises
    ------
    TypeError, ValueError
        If types or shapes do not fit, or an index lies outside its window or outside the image.
    """
    kernels.native.max_pool_backward(_planes(dy), _planes(argmax), _planes(out), size, stride, padding)


def _planes(images: NDArray[Any]) -> NDArray[Any]:
    """Return images (N, C, H, W) as planes (N * C, H, W)."""
    return images.reshape(images.shape[0] * images.shape[1], *images.shape[2:])
