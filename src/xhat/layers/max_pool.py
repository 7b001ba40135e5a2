"""Max pooling: every window of the image gives its largest number.

    y[n, c, r, q] = max over entries (i, j) of x[n, c, r*s + i, q*s + j]

with stride s; the windows are those of a convolution without padding, and there are 1 + floor((H - HH) / s) of them
down and likewise across. What no window reaches, a last row perhaps, takes no part.

Only the largest number moves y, so only it gets a gradient: each window gives its dy to that entry, and where windows
overlap, an entry gets the sum of what they give. Among equal numbers it is the first, row by row: one of them, for the
function has a corner there, and all of them together would get too much. A NaN makes its window NaN.

    dx[n, c, r*s + i, q*s + j] += dy[n, c, r, q] where (i, j) is the window's first largest entry

Derivation: docs/max_pool.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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


class Cache(NamedTuple):
    """What backward needs."""

    argmax: Array  # (N, C, H', W'); which entry of its window is the largest, row by row; the smallest unsigned type
    shape: tuple[int, ...]  # of x
    size: tuple[int, int]  # of a window: rows, columns
    stride: tuple[int, int]  # rows, columns
    dtype: np.dtype[Any]  # of x


class Grads(NamedTuple):
    """The gradient."""

    dx: Array  # shape of x


def reference_forward(
    x: Array, size: int | tuple[int, int] = 2, stride: int | tuple[int, int] | None = None
) -> tuple[Array, Cache]:
    """Keep the largest number so far, and where it was, while going through the entries of all windows."""
    size = size if isinstance(size, tuple) else (size, size)
    stride = size if stride is None else stride if isinstance(stride, tuple) else (stride, stride)
    count = window_count(x.shape, size, stride, (0, 0))

    # for n, c, r, q, i, j: if x[n, c, r * stride + i, q * stride + j] > y[n, c, r, q]: keep it, and its (i, j)
    y = x[:, :, pixels(0, stride[0], count[0]), pixels(0, stride[1], count[1])]
    argmax = np.zeros(y.shape, _index_type(size))
    for k, (i, j) in enumerate(np.ndindex(size)):
        entry = x[:, :, pixels(i, stride[0], count[0]), pixels(j, stride[1], count[1])]
        takes = ~(entry <= y) & (y == y)  # a NaN is not <= a number, and gives way to none
        y, argmax = np.where(takes, entry, y), np.where(takes, argmax.dtype.type(k), argmax)
    return y, Cache(argmax, x.shape, size, stride, x.dtype)


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Give each window's gradient to its largest entry."""
    argmax, shape, size, stride, _ = cache
    dx = np.zeros(shape, dy.dtype)
    for k, (i, j) in enumerate(np.ndindex(size)):
        here = (slice(None), slice(None), pixels(i, stride[0], dy.shape[2]), pixels(j, stride[1], dy.shape[3]))
        dx[here] += np.where(argmax == k, dy, 0)
    return Grads(dx)


def forward(
    x: ArrayLike,
    size: int | tuple[int, int] = 2,
    stride: int | tuple[int, int] | None = None,
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
    out : array, optional
        Where to write y: its shape, type of `x`, C-contiguous, apart from `x`.

    Returns
    -------
    y : array, shape (N, C, H', W')
        Of the type of `x`, exact; H' = 1 + floor((H - rows) / stride), W' likewise. NaN where a window holds one.
    cache : Cache
        For `backward`. It does not hold `x`, but a byte for each entry of y (more where a window has over 255).

    Raises
    ------
    TypeError
        If an argument has the wrong type; integers in `x` must be converted first.
    ValueError
        If `x` has other than four axes, a window is larger than the image, or a size or stride is 0.

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
    """
    who = "max_pool.forward"
    given = x
    x = as_images(who, "x", x)
    size = as_pair(who, "size", size, 1, _SIZE)
    stride = size if stride is None else as_pair(who, "stride", stride, 1, _STRIDE)
    shape = output_shape(who, x.shape, (x.shape[1], 1, *size), stride, (0, 0))
    y = as_output(who, out, shape, x.dtype, given)
    if pooling.serves(x.dtype, size):
        argmax = pooling.max_forward(x, size, stride, y)
    else:
        with np.errstate(invalid="ignore"):
            y[...], (argmax, *_) = reference_forward(x, size, stride)
    return y, Cache(argmax, x.shape, size, stride, x.dtype)


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
        its window.
    """
    who = "max_pool.backward"
    check_cache(who, cache, Cache)
    shape = as_saved_shape(who, "cache.shape", cache.shape, 4, _CACHE)
    size = saved_pair(who, "cache.size", cache.size, 1)
    stride = saved_pair(who, "cache.stride", cache.stride, 1)
    dtype = as_parameter_dtype(who, cache.dtype)
    y_shape = output_shape(who, shape, (shape[1], 1, *size), stride, (0, 0))
    argmax = as_indices(who, "cache.argmax", cache.argmax, y_shape, _index_type(size), math.prod(size), _CACHE)
    given = dy, cache.argmax
    dy = as_gradient(who, dy, y_shape, dtype)
    dx = as_output(who, out, shape, dtype, *given)
    with np.errstate(all="ignore"):
        if pooling.serves(dtype, size):
            pooling.max_backward(dy, argmax, size, stride, dx)
        else:
            wide = Cache(argmax, shape, size, stride, np.dtype(np.float64))
            (dx[...],) = reference_backward(dy.astype(np.float64), wide)
    return Grads(dx)


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

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.MaxPool2d(2).forward(np.arange(16.0).reshape(1, 1, 4, 4))
    >>> print(y)
    [[[[ 5. 7.]
       [13. 15.]]]]
    """

    ops = (OP, OP)

    def __init__(self, size: int | tuple[int, int] = 2, *, stride: int | tuple[int, int] | None = None) -> None:
        super().__init__()
        self.size = in_short(as_pair("MaxPool2d", "size", size, 1, _SIZE))
        self.stride = None if stride is None else in_short(as_pair("MaxPool2d", "stride", stride, 1, _STRIDE))

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return what the Op's forward is called with."""
        return {"size": self.size, "stride": self.stride}

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        yield Case(cls(), x=(2, 3, 4, 6))
        yield Case(cls((2, 3), stride=(1, 2)), x=(2, 1, 4, 8))  # windows overlap, and leave the last column out
        yield Case(cls(2), x=(1, 2, 5, 3))  # no window reaches the last row and column
        yield Case(cls(1, stride=(2, 3)), x=(1, 1, 5, 4))  # strides beyond the windows
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
