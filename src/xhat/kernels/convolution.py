"""Convolution as products of matrices.

What one window sees is written as a column (im2col, compiled); then all filters meet all windows in one product,
which BLAS computes:

    forward    y = w @ columns          w (F, K), columns (K, windows), K = C * HH * WW
    backward   dw = dy @ columns.T,     dx = col2im(w.T @ dy)

The columns hold every pixel up to HH * WW times. They are made for a few images at a time, in memory that stays in
the cache, and made again going back: the memory taken does not grow with the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xhat import kernels

__all__ = ["backward", "forward"]

Numbers: TypeAlias = NDArray[np.floating[Any]]
Entries: TypeAlias = NDArray[np.float64]
Pair: TypeAlias = tuple[int, int]

_BLOCK_BYTES = 2**21  # of columns at a time, to stay in the cache
_PRODUCT_WINDOWS = 256  # worth a product: images with fewer share one


class _Block(NamedTuple):
    """Images that are worked on together: `groups` products, each of the windows of `members` images."""

    images: slice
    groups: int
    members: int


def forward(x: Numbers, w: Numbers, b: Numbers | None, stride: Pair, padding: Pair, out: Numbers) -> None:
    """Convolve images with filters into `out`.

    Parameters
    ----------
    x : numpy.ndarray
        (N, C, H, W), float32 or float64.
    w : numpy.ndarray
        (F, C, HH, WW), type of x.
    b : numpy.ndarray or None
        (F,), type of x.
    stride, padding : tuple of int
        (rows, columns).
    out : numpy.ndarray
        (N, F, H', W'), type of x. Receives y.

    Raises
    ------
    TypeError, ValueError
        If types or shapes do not fit.
    """
    filters, windows = w.reshape(len(w), math.prod(w.shape[1:])), math.prod(out.shape[2:])
    for block, columns, products in _blocks(w.shape, out):
        native_columns = _as_windows(columns, block, w.shape, out.shape)
        kernels.native.im2col(x[block.images], native_columns, stride, padding)
        np.matmul(filters, columns, out=products)
        product = products.reshape(block.groups, len(w), block.members, windows).swapaxes(1, 2)
        y = out[block.images].reshape(product.shape)
        if b is None:
            y[...] = product
        else:
            np.add(product, b[:, None], out=y)


def backward(dy: Numbers, x: Numbers, w: Numbers, stride: Pair, padding: Pair, out: Numbers) -> tuple[Entries, Entries]:
    """Write the gradient of x into `out` and return those of w and b.

    Parameters
    ----------
    dy : numpy.ndarray
        (N, F, H', W'), float32 or float64.
    x : numpy.ndarray
        (N, C, H, W), type of dy.
    w : numpy.ndarray
        (F, C, HH, WW), type of dy.
    stride, padding : tuple of int
        (rows, columns).
    out : numpy.ndarray
        Like x. Receives dx.

    Returns
    -------
    dw, db : numpy.ndarray
        Shape of w and (F,); float64. Sums of each block in the type of x, added up in the order of the images.

    Raises
    ------
    TypeError, ValueError
        If types or shapes do not fit.
    """
    filters, windows = w.reshape(len(w), math.prod(w.shape[1:])), math.prod(dy.shape[2:])
    dw, db = np.zeros(filters.shape), np.zeros(len(w))
    for block, columns, _ in _blocks(w.shape, dy):
        native_columns = _as_windows(columns, block, w.shape, dy.shape)
        kernels.native.im2col(x[block.images], native_columns, stride, padding)
        # dy (groups, members, F, windows) as the columns lie: a copy, unless every image has a product of its own
        dy_columns = dy[block.images].reshape(block.groups, block.members, len(w), windows).swapaxes(1, 2)
        dy_columns = dy_columns.reshape(block.groups, len(w), block.members * windows)
        for group in range(block.groups):
            dw += dy_columns[group] @ columns[group].T
        db += dy_columns.sum(2).sum(0, dtype=np.float64)
        np.matmul(filters.T, dy_columns, out=columns)
        kernels.native.col2im(native_columns, out[block.images], stride, padding)
    return dw.reshape(w.shape), db


def _blocks(w_shape: tuple[int, ...], like: Numbers) -> Iterator[tuple[_Block, Numbers, Numbers]]:
    """Yield all images block by block, with memory of the type of `like`, which has the shape of y.

    The memory is for the block's columns (groups, K, members * windows) and products (groups, F, members * windows).
    """
    images, windows, entries = len(like), math.prod(like.shape[2:]), math.prod(w_shape[1:])
    members = max(1, min(images, _PRODUCT_WINDOWS // max(windows, 1)))
    size = entries * members * windows
    groups = max(1, min(images // members, _BLOCK_BYTES // max(size * like.itemsize, 1)))
    memory = [np.empty(groups * rows * members * windows, like.dtype) for rows in (entries, w_shape[0])]
    whole = images - images % members
    blocks = [
        _Block(slice(start, min(start + groups * members, whole)), min(groups, (whole - start) // members), members)
        for start in range(0, whole, groups * members)
    ]
    if whole < images:
        blocks.append(_Block(slice(whole, images), 1, images - whole))
    for block in blocks:
        width = block.members * windows
        columns, products = (
            part[: block.groups * rows * width].reshape(block.groups, rows, width)
            for part, rows in zip(memory, (entries, w_shape[0]), strict=True)
        )
        yield block, columns, products


def _as_windows(columns: Numbers, block: _Block, w_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> Numbers:
    """Return the columns with an axis for everything that they count."""
    return columns.reshape(block.groups, *w_shape[1:], block.members, *y_shape[2:])
