"""Max pooling: every window of the image gives its largest number.

    y[n, c, r, q] = max over entries (i, j) inside the image of x[n, c, r*s + i - p, q*s + j - p]

with stride s and padding p; the windows are those of a convolution, 1 + floor((H + 2p - HH) / s) of them down and
likewise across. Where one reaches over the edge, there is nothing, not zeros: only the image is looked at, and p is at
most half a window, so that each has some of it. What no window reaches, a last row perhaps, takes no part.

Only the largest number moves y, so only it gets a gradient: each window gives its dy to that entry, and where windows
overlap, an entry gets the sum of what they give. Among equal numbers it is the first, row by row: one of them, for the
function has a corner there, and all of them together would get too much. A NaN makes its window NaN.

    dx[n, c, r*s + i - p, q*s + j - p] += dy[n, c, r, q] where (i, j) is the window's first largest entry

Derivation: docs/max_pool.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import (
    Array,
    Dtype,
    as_gradient,
    as_indices,
    as_output,
    as_pair,
    as_parameter_dtype,
    as_saved_shape,
    check_cache,
)
from xhat.core import Case, Layer, Op
from xhat.kernels import pooling
from xhat.layers.conv import as_images, in_short, output_shape, pixels, saved_pair, window_count

_CACHE = "Pass on the cache that forward returned."
_SIZE = "Give the rows and columns of a window; 2 is usual."
_STRIDE = "The stride is how many pixels a window moves on; None is the window's size."
_PADDING = "The padding is how far windows reach over the edges of the image; 0 is not at all."


class Cache(NamedTuple):
    """What backward needs."""

    argmax: Array  # (N, C, H', W'); which entry of its window is the largest, row by row; the smallest unsigned type
    shape: tuple[int, ...]  # of x
    size: tuple[int, int]  # of a window: rows, columns
    stride: tuple[int, int]  # rows, columns
    padding: tuple[int, int]  # rows, columns
    dtype: np.dtype[Any]  # of x


class Grads(NamedTuple):
    """The gradient."""

    dx: Array  # shape of x


def reference_forward(
    x: Array,
    size: int | tuple[int, int] = 2,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> tuple[Array, Cache]:
    """Keep the largest number so far, and where it was, while going through the entries of all windows."""
    size = size if isinstance(size, tuple) else (size, size)
    stride = size if stride is None else stride if isinstance(stride, tuple) else (stride, stride)
    padding = padding if isinstance(padding, tuple) else (padding, padding)
    rows, columns = window_count(x.shape, size, stride, padding)
    around = tuple((p, p) for p in padding)
    padded = np.pad(x, ((0, 0), (0, 0), *around))
    inside = np.pad(np.ones(x.shape[2:], bool), around)

    # for n, c, r, q, i, j: if inside[r * stride + i, q * stride + j]
    #                       and padded[n, c, r * stride + i, q * stride + j] > y[n, c, r, q]: keep it, and its (i, j)
    y = np.zeros((*x.shape[:2], rows, columns), x.dtype)
    argmax = np.zeros(y.shape, _index_type(size))
    met = np.zeros((rows, columns), bool)  # the windows that have found a pixel
    for k, (i, j) in enumerate(np.ndindex(size)):
        here = pixels(i, stride[0], rows), pixels(j, stride[1], columns)
        entry = padded[:, :, *here]
        larger = ~(entry <= y) & (y == y)  # a NaN is not <= a number, and gives way to none
        takes = inside[here] & (larger | ~met)
        y, argmax = np.where(takes, entry, y), np.where(takes, argmax.dtype.type(k), argmax)
        met = met | inside[here]
    return y, Cache(argmax, x.shape, size, stride, padding, x.dtype)


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Give each window's gradient to its largest entry."""
    argmax, shape, size, stride, (rows, columns), _ = cache
    dpadded = np.pad(np.zeros(shape, dy.dtype), ((0, 0), (0, 0), (rows, rows), (columns, columns)))
    for k, (i, j) in enumerate(np.ndindex(size)):
        here = (slice(None), slice(None), pixels(i, stride[0], dy.shape[2]), pixels(j, stride[1], dy.shape[3]))
        dpadded[here] += np.where(argmax == k, dy, 0)
    return Grads(dpadded[:, :, rows : rows + shape[2], columns : columns + shape[3]])


def forward(
    x: ArrayLike,
    size: int | tuple[int, int] = 2,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    *,
    out: Array | None = None,
) -> tuple[Array, Cache]:
    """Take the largest number of every window.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
        Images: samples, channels, rows, columns. Any floating type.
    size : int or (int, int)
        Rows and columns of a window.
    stride : int or (int, int), optional
        How many pixels a window moves on, down and to the right. None means `size`: windows beside each other.
    padding : int or (int, int)
        How far windows reach over the edges: rows above and below the image, columns to its left and right. At most
        half of `size`. What lies there is never the largest.
    out : array, optional
        Where to write y: its shape, type of `x`, C-contiguous, apart from `x`.

    Returns
    -------
    y : array, shape (N, C, H', W')
        Of the type of `x`, exact; H' = 1 + floor((H + 2 padding - rows) / stride), W' likewise. NaN where a window
        holds one.
    cache : Cache
        For `backward`. It does not hold `x`, but a byte for each entry of y (more where a window has over 255).

    Raises
    ------
    TypeError
        If an argument has the wrong type; integers in `x` must be converted first.
    ValueError
        If `x` has other than four axes, a window is larger than the padded image, a size or stride is 0, the padding is
        more than half a window, or the image has no pixels.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> x = np.array([[[[1.0, 5, 2, 0, 9], [3, 4, 8, 8, 9]]]])
    >>> y, cache = xhat.max_pool.forward(x)
    >>> print(y)
    [[[[5. 8.]]]]
    >>> print(xhat.max_pool.backward(y, cache).dx)
    [[[[0. 5. 0. 0. 0.]
       [0. 0. 8. 0. 0.]]]]
    >>> print(xhat.max_pool.forward(-x, size=3, stride=2, padding=1)[0])
    [[[[-1. -0. -0.]]]]
    """
    who = "max_pool.forward"
    given = x
    x = as_images(who, "x", x)
    size = as_pair(who, "size", size, 1, _SIZE)
    stride = size if stride is None else as_pair(who, "stride", stride, 1, _STRIDE)
    padding = _as_padding(who, "padding", as_pair(who, "padding", padding, 0, _PADDING), size, _PADDING)
    shape = _output_shape(who, x.shape, size, stride, padding)
    y = as_output(who, out, shape, x.dtype, given)
    if pooling.serves(x.dtype, size):
        argmax = pooling.max_forward(x, size, stride, padding, y)
    else:
        with np.errstate(invalid="ignore"):
            y[...], (argmax, *_) = reference_forward(x, size, stride, padding)
    return y, Cache(argmax, x.shape, size, stride, padding, x.dtype)


def backward(dy: ArrayLike, cache: Cache, *, out: Array | None = None) -> Grads:
    """Return the gradient of `forward`.

    Parameters
    ----------
    dy : array_like, shape (N, C, H', W')
        Gradient of the output.
    cache : Cache
        From `forward`.
    out : array, optional
        Where to write dx: shape and type of `x`, C-contiguous, apart from `dy`.

    Returns
    -------
    Grads
        `dx`, with the shape and type of `x`: 0 but for the largest entry of each window.

    Raises
    ------
    TypeError, ValueError
        If `dy` or what was saved does not have the type and shape that `forward` gave it, or an index lies outside
        its window or outside the image.
    """
    who = "max_pool.backward"
    check_cache(who, cache, Cache)
    shape = as_saved_shape(who, "cache.shape", cache.shape, 4, _CACHE)
    size = saved_pair(who, "cache.size", cache.size, 1)
    stride = saved_pair(who, "cache.stride", cache.stride, 1)
    padding = _as_padding(who, "cache.padding", saved_pair(who, "cache.padding", cache.padding, 0), size, _CACHE)
    dtype = as_parameter_dtype(who, cache.dtype)
    y_shape = _output_shape(who, shape, size, stride, padding)
    argmax = as_indices(who, "cache.argmax", cache.argmax, y_shape, _index_type(size), math.prod(size), _CACHE)
    _expect_inside(who, argmax, shape, size, stride, padding)
    given = dy, cache.argmax
    dy = as_gradient(who, dy, y_shape, dtype)
    dx = as_output(who, out, shape, dtype, *given)
    with np.errstate(all="ignore"):
        if pooling.serves(dtype, size):
            pooling.max_backward(dy, argmax, size, stride, padding, dx)
        else:
            wide = Cache(argmax, shape, size, stride, padding, np.dtype(np.float64))
            (dx[...],) = reference_backward(dy.astype(np.float64), wide)
    return Grads(dx)


def _as_padding(who: str, name: str, padding: tuple[int, int], size: tuple[int, int], advice: str) -> tuple[int, int]:
    """Return `padding` if it leaves every window at least half of its rows and columns."""
    if 2 * padding[0] > size[0] or 2 * padding[1] > size[1]:
        most = size[0] // 2, size[1] // 2
        raise ValueError(f"{who}: expected {name} of at most half a window, {most}, got {padding}. {advice}")
    return padding


def _output_shape(
    who: str, x: tuple[int, ...], size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, ...]:
    """Return (N, C, H', W') for images (N, C, H, W), if every window meets them."""
    shape = output_shape(who, x, (x[1], 1, *size), stride, padding)
    if 0 in x[2:]:
        raise ValueError(f"{who}: expected images with at least one row and column, got {x}. Give larger images.")
    return shape


def _expect_inside(
    who: str,
    argmax: Array,
    shape: tuple[int, ...],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> None:
    """Refuse an index of a window over the edge that names an entry outside the image."""
    if argmax.size == 0 or not any(padding):
        return
    for axis, windows in enumerate((argmax, argmax.swapaxes(2, 3))):
        length = shape[2 + axis]
        for window, first in zip(range(windows.shape[2]), count(-padding[axis], stride[axis]), strict=False):
            if first >= 0 and first + size[axis] <= length:
                continue
            entry = np.divmod(windows[:, :, window], size[1])[axis]
            if entry.min() < -first or entry.max() >= length - first:
                raise ValueError(
                    f"{who}: expected cache.argmax inside the image, got an entry of a window that lies outside. "
                    f"{_CACHE}"
                )


def _index_type(size: tuple[int, int]) -> Dtype:
    """Return the smallest unsigned type that can count the entries of a window."""
    return np.min_scalar_type(math.prod(size))


OP = Op(forward, backward, reference_forward, reference_backward)


class MaxPool2d(Layer):
    """Take the largest number of every window of an image. No parameters.

    Parameters
    ----------
    size : int or (int, int)
        Rows and columns of a window.
    stride : int or (int, int), optional
        How many pixels a window moves on, down and to the right. None means `size`.
    padding : int or (int, int)
        How far windows reach over the edges of the image, in rows and columns; at most half of `size`.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.MaxPool2d(2).forward(np.arange(16.0).reshape(1, 1, 4, 4))
    >>> print(y)
    [[[[ 5. 7.]
       [13. 15.]]]]
    """

    ops = (OP, OP)

    def __init__(
        self,
        size: int | tuple[int, int] = 2,
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        who = "MaxPool2d"
        sizes = as_pair(who, "size", size, 1, _SIZE)
        self.size = in_short(sizes)
        self.stride = None if stride is None else in_short(as_pair(who, "stride", stride, 1, _STRIDE))
        paddings = as_pair(who, "padding", padding, 0, _PADDING)
        self.padding = in_short(_as_padding(who, "padding", paddings, sizes, _PADDING))

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return what the Op's forward is called with."""
        return {"size": self.size, "stride": self.stride, "padding": self.padding}

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        yield Case(cls(), x=(2, 3, 4, 6))
        yield Case(cls((2, 3), stride=(1, 2)), x=(2, 1, 4, 8))  # windows overlap, and leave the last column out
        yield Case(cls(2), x=(1, 2, 5, 3))  # no window reaches the last row and column
        yield Case(cls(1, stride=(2, 3)), x=(1, 1, 5, 4))  # strides beyond the windows
        yield Case(cls(3, stride=2, padding=1), x=(2, 2, 5, 6))
        yield Case(cls((2, 5), stride=(1, 3), padding=(1, 2)), x=(1, 2, 3, 4))  # the outer windows have one row
        # overlapping windows of two: the 4 is the largest of both, the last column of none
        yield Case(
            cls((1, 2), stride=1),
            x=np.array([[[[3.0, 4.0, 1.0, 0.0]]]]),
            y=[[[[4, 4, 1]]]],
            dy=[[[[10, 20, 30]]]],
            dx=[[[[0, 30, 30, 0]]]],
        )
        # equal numbers: the first one, row by row, whatever the sign of zero
        yield Case(
            cls(2),
            x=np.array([[[[7.0, 7.0, -0.0, 0.0], [7.0, 7.0, 0.0, -1.0]]]]),
            y=[[[[7, 0]]]],
            dy=[[[[1, 2]]]],
            dx=[[[[1, 0, 2, 0], [0, 0, 0, 0]]]],
        )
        # windows over the edge see only the image: below 0 the padding does not win, and the dy of all four is kept
        yield Case(
            cls(2, padding=1),
            x=np.array([[[[-4.0, -3.0], [-2.0, -1.0]]]]),
            y=[[[[-4, -3], [-2, -1]]]],
            dy=[[[[1, 2], [3, 4]]]],
            dx=[[[[1, 2], [3, 4]]]],
        )
        # rows alone are padded, and windows overlap: they are rows (., 1, 2) and (2, 3, .)
        yield Case(
            cls((3, 1), stride=(2, 1), padding=(1, 0)),
            x=np.array([[[[5.0, -7.0], [6.0, -8.0], [1.0, -9.0]]]]),
            y=[[[[6, -7], [6, -8]]]],
            dy=[[[[1, 2], [10, 20]]]],
            dx=[[[[0, 2], [11, 20], [0, 0]]]],
        )
