"""Convolution: every output is a weighted sum of a small window of the image, with the same weights everywhere.

    y[n, f, r, c] = b[f] + sum over channels k and entries (i, j) of w[f, k, i, j] * x[n, k, r*s + i - p, c*s + j - p]

with stride s and padding p, and 0 for what lies outside the image. The filter is not flipped: a mathematician would
say cross-correlation. The output has H' = 1 + floor((H + 2p - HH) / s) rows, and columns likewise.

Each entry of a filter meets a picture of its own: every s-th pixel, beginning at its place in the window. With x_ij for
this picture and w_ij for the entry (i, j) of all filters, a matrix from channels to filters,

    y = b + sum over (i, j) of w_ij @ x_ij

an affine layer for each entry, all added up. So are the gradients; and where pictures share a pixel, it gets the sum:

    dw_ij = sum over samples and windows of outer(dy, x_ij)          dx_ij += w_ij.T @ dy          db = sum of dy

Source: Dumoulin, Visin 2016, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.
Derivation: docs/conv.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from xhat import kernels
from xhat.checks import (
    Array,
    as_count,
    as_flag,
    as_generator,
    as_gradient,
    as_output,
    as_pair,
    as_parameter,
    as_parameter_dtype,
    as_saved_shape,
    as_values,
    check_cache,
)
from xhat.core import Case, Layer, Op
from xhat.kernels import convolution

_CACHE = "Pass on the cache that forward returned."
_STRIDE = "The stride is how many pixels a window moves on; 1 is usual."
_PADDING = "The padding is how many rows and columns of zeros go around the image; 0 is none."


class Cache(NamedTuple):
    """What backward needs. `x` and `w` are shared, not copied: leave them alone until then."""

    x: Array  # (N, C, H, W)
    w: Array  # (F, C, HH, WW)
    b: Array | None  # (F,)
    stride: tuple[int, int]  # rows, columns
    padding: tuple[int, int]  # rows, columns


class Grads(NamedTuple):
    """The gradients, each with the shape and type of what it belongs to; `db` is None where there is no b."""

    dx: Array  # (N, C, H, W)
    dw: Array  # (F, C, HH, WW)
    db: Array | None  # (F,)


def reference_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
) -> tuple[Array, Cache]:
    """Add up what each entry of the filters makes of its picture."""
    stride, padding = _pair(stride), _pair(padding)
    rows, columns = padding
    padded = np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)))
    count = window_count(x.shape, w.shape, stride, padding)

    # for n, f, r, c, k, i, j: y[n, f, r, c] += w[f, k, i, j] * padded[n, k, r * stride + i, c * stride + j]
    y = np.zeros((), w.dtype)
    for i, j in np.ndindex(w.shape[2:]):
        picture = padded[:, :, pixels(i, stride[0], count[0]), pixels(j, stride[1], count[1])]  # (N, C, H', W')
        y = y + np.tensordot(w[:, :, i, j], picture, (1, 1)).swapaxes(0, 1)  # (F, N, H', W') to (N, F, H', W')
    if b is not None:
        y = y + b[:, None, None]
    return y, Cache(x, w, b, stride, padding)


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Carry dy back through each entry of the filters."""
    x, w, b, stride, padding = cache
    rows, columns = padding
    padded = np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)))

    # for n, f, r, c, k, i, j: dw[f, k, i, j] += dy[n, f, r, c] * padded[n, k, r * stride + i, c * stride + j]
    #                          dpadded[n, k, r * stride + i, c * stride + j] += dy[n, f, r, c] * w[f, k, i, j]
    dw, dpadded = np.zeros_like(w), np.zeros_like(padded)
    for i, j in np.ndindex(w.shape[2:]):
        here = (slice(None), slice(None), pixels(i, stride[0], dy.shape[2]), pixels(j, stride[1], dy.shape[3]))
        dw[:, :, i, j] = np.tensordot(dy, padded[here], ((0, 2, 3), (0, 2, 3)))  # (F, C)
        dpadded[here] += np.tensordot(w[:, :, i, j], dy, (0, 1)).swapaxes(0, 1)  # (C, N, H', W') to (N, C, H', W')
    return Grads(
        dx=dpadded[:, :, rows : rows + x.shape[2], columns : columns + x.shape[3]],
        dw=dw,
        db=None if b is None else dy.sum((0, 2, 3)),
    )


def forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    *,
    out: Array | None = None,
) -> tuple[Array, Cache]:
    """Convolve images with filters (cross-correlation: filters are not flipped).

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
        Images: samples, channels, rows, columns. Any floating type.
    w : array_like, shape (F, C, HH, WW)
        Filters; unit of y per unit of x.
    b : array_like, shape (F,), optional
        Bias; unit of y.
    stride : int or (int, int)
        How many pixels a window moves on, down and to the right.
    padding : int or (int, int)
        Rows of zeros above and below the image, and columns to its left and right.
    out : array, optional
        Where to write y: its shape, type of `x`, C-contiguous, apart from the inputs.

    Returns
    -------
    y : array, shape (N, F, H', W')
        Of the type of `x`; H' = 1 + floor((H + 2 padding - HH) / stride), W' likewise.
    cache : Cache
        For `backward`.

    Raises
    ------
    TypeError
        If an argument has the wrong type; integers in `x` must be converted first.
    ValueError
        If a shape does not fit, a filter is larger than the padded image, or a stride is 0.

    Notes
    -----
    float32 and float64 products are taken by BLAS in the type of `x`, a few images at a time; the bias is added in
    that type, which rounds once more, by at most half a unit in the last place of y. Without the native module, and
    for 16-bit types, they are taken in float64. Their last bits may depend on BLAS's threads. The columns of at least
    one image, C * HH * WW * H' * W' numbers, are held in memory while it is worked on. Zeros of the padding take
    part: an Inf in `w` makes NaN of them.

    References
    ----------
    Dumoulin, Visin 2016, arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> y, cache = xhat.conv.forward(x, w=[[[[1, 0], [0, 10]]]], b=[0.5])
    >>> print(y[0, 0])
    [[40.5 51.5]
     [73.5 84.5]]
    """
    who = "conv.forward"
    given = x, w, b
    x, w, b, stride, padding = _inputs(who, "", x, w, b, stride, padding)
    y = as_output(who, out, output_shape(who, x.shape, w.shape, stride, padding), x.dtype, *given)

    with np.errstate(all="ignore"):
        if kernels.serves_wide(x.dtype):
            narrow = None if b is None else b.astype(x.dtype, copy=False)
            convolution.forward(x, w.astype(x.dtype, copy=False), narrow, stride, padding, y)
        else:
            wide = None if b is None else b.astype(np.float64)
            y[...], _ = reference_forward(x.astype(np.float64), w.astype(np.float64), wide, stride, padding)
    return y, Cache(x, w, b, stride, padding)


def backward(dy: ArrayLike, cache: Cache, *, out: Array | None = None) -> Grads:
    """Return the gradients of `forward`.

    Parameters
    ----------
    dy : array_like, shape (N, F, H', W')
        Gradient of the output.
    cache : Cache
        From `forward`.
    out : array, optional
        Where to write dx: shape and type of `x`, C-contiguous, apart from the inputs.

    Returns
    -------
    Grads
        `dx` (N, C, H, W), 0 where no window reaches; `dw` (F, C, HH, WW); `db` (F,) or None.

    Raises
    ------
    TypeError, ValueError
        If `dy` or a saved array does not have the type and shape that `forward` gave it.
    """
    who = "conv.backward"
    check_cache(who, cache, Cache)
    given = dy, *cache[:3]
    x, w, b, stride, padding = _inputs(who, "cache.", *cache)
    dy = as_gradient(who, dy, output_shape(who, x.shape, w.shape, stride, padding), x.dtype)
    dx = as_output(who, out, x.shape, x.dtype, *given)

    with np.errstate(all="ignore"):
        if kernels.serves_wide(x.dtype):
            dw, db = convolution.backward(dy, x, w.astype(x.dtype, copy=False), stride, padding, dx)
        else:
            wide = Cache(x.astype(np.float64), w.astype(np.float64), b, stride, padding)
            dx[...], dw, db = reference_backward(dy.astype(np.float64), wide)
        return Grads(
            dx,
            dw.astype(w.dtype, copy=False),
            None if b is None or db is None else db.astype(b.dtype, copy=False),
        )


def window_count(
    image: tuple[int, ...], window: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, ...]:
    """Return how many windows there are along the last two axes of an image."""
    return tuple(
        1 + (n + 2 * p - size) // s for n, size, s, p in zip(image[-2:], window[-2:], stride, padding, strict=True)
    )


def pixels(entry: int, stride: int, count: int) -> slice:
    """Return which pixels along an axis one entry of a window meets: every `stride`-th, `count` in all."""
    return slice(entry, entry + stride * (count - 1) + 1, stride)


def output_shape(
    who: str, x: tuple[int, ...], w: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, ...]:
    """Return (N, F, H', W') for images (N, C, H, W) and filters (F, C, HH, WW), if the filters fit the images."""
    shape = x[0], w[0], *window_count(x, w, stride, padding)
    if min(shape[2:]) < 1:
        padded = tuple(n + 2 * p for n, p in zip(x[2:], padding, strict=True))
        raise ValueError(
            f"{who}: expected windows no larger than the padded image, {padded}, got {w[2:]}. "
            "Give smaller ones, or larger images."
        )
    if math.prod(max(n, 1) for n in shape) >= 2**48:
        raise ValueError(f"{who}: expected an output that fits memory, got one of shape {shape}. Use less padding.")
    return shape


def in_short(pair: tuple[int, int]) -> int | tuple[int, int]:
    """Return (rows, columns) as people write it: one number if both are the same."""
    return pair[0] if pair[0] == pair[1] else pair


def as_images(who: str, name: str, x: ArrayLike) -> Array:
    """Return `x` if it holds images: floating, of shape (N, C, H, W)."""
    images = as_values(who, name, x)
    if images.ndim != 4:
        raise ValueError(
            f"{who}: expected {name} of shape (N, C, H, W), got {images.shape}. "
            "Give images as samples, channels, rows, columns."
        )
    return images


def saved_pair(who: str, name: str, value: object, low: int) -> tuple[int, int]:
    """Return (rows, columns) from a cache."""
    return as_pair(who, name, as_saved_shape(who, name, value, 2, _CACHE), low, _CACHE)


def _inputs(
    who: str, prefix: str, x: ArrayLike, w: ArrayLike, b: ArrayLike | None, stride: object, padding: object
) -> tuple[Array, Array, Array | None, tuple[int, int], tuple[int, int]]:
    """Return all arguments of forward, or entries of its cache, after checking each."""
    images = as_images(who, f"{prefix}x", x)
    advice = "Give w as (F, C, HH, WW), with C the channels of x, and b as (F,)." if not prefix else _CACHE
    w = as_parameter(who, f"{prefix}w", w, (None, images.shape[1], None, None), advice)
    if 0 in w.shape[2:]:
        raise ValueError(f"{who}: expected {prefix}w with at least one row and column, got {w.shape}. {advice}")
    b = None if b is None else as_parameter(who, f"{prefix}b", b, w.shape[:1], advice)
    if prefix:
        return images, w, b, saved_pair(who, "cache.stride", stride, 1), saved_pair(who, "cache.padding", padding, 0)
    return images, w, b, as_pair(who, "stride", stride, 1, _STRIDE), as_pair(who, "padding", padding, 0, _PADDING)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns)."""
    return value if isinstance(value, tuple) else (value, value)


OP = Op(forward, backward, reference_forward, reference_backward)


class Conv2d(Layer):
    """Every output is a weighted sum of a small window of the image, with the same weights everywhere.

    Filters start as normal random numbers of standard deviation sqrt(2 / n), where n is how many numbers a window
    holds; this keeps the size of signals through ReLU layers. Biases start at zero.

    Parameters
    ----------
    inputs, outputs : int
        Channels that come in (C) and go out (F).
    size : int or (int, int)
        Rows and columns of the filters.
    stride : int or (int, int)
        How many pixels a window moves on, down and to the right.
    padding : int or (int, int)
        Rows of zeros above and below the image, and columns to its left and right.
    bias : bool
        Whether to add b. Before a batch norm it has no effect.
    rng : int or numpy.random.Generator
        Draws the weights. Give all layers of a network the same generator, or each a seed of its own.
    dtype : dtype
        Type of the parameters.

    Attributes
    ----------
    parameters : dict
        `w` (F, C, HH, WW) and, with a bias, `b` (F,).

    References
    ----------
    He, Zhang, Ren, Sun 2015, "Delving deep into rectifiers", arXiv:1502.01852, eq. (10).

    Examples
    --------
    >>> import numpy as np, xhat
    >>> layer = xhat.Conv2d(3, 8, 5, stride=2, padding=2, rng=0)
    >>> y, cache = layer.forward(np.zeros((10, 3, 32, 32), np.float32))
    >>> y.shape, layer.parameters["w"].shape
    ((10, 8, 16, 16), (8, 3, 5, 5))
    """

    ops = (OP, OP)
    weights = ("w",)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
        rng: int | np.random.Generator = 0,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        who = "Conv2d"
        self.inputs = as_count(who, "inputs", inputs, 1, "Give the number of channels that come in.")
        self.outputs = as_count(who, "outputs", outputs, 1, "Give the number of channels that go out.")
        sizes = as_pair(who, "size", size, 1, "Give the rows and columns of the filters; 3 is usual.")
        self.size = in_short(sizes)
        self.stride = in_short(as_pair(who, "stride", stride, 1, _STRIDE))
        self.padding = in_short(as_pair(who, "padding", padding, 0, _PADDING))
        self.bias = as_flag(who, "bias", bias)
        kind = as_parameter_dtype(who, dtype)
        shape = self.outputs, self.inputs, *sizes
        spread = math.sqrt(2 / math.prod(shape[1:]))
        self.parameters["w"] = (spread * as_generator(who, rng).standard_normal(shape)).astype(kind)
        if self.bias:
            self.parameters["b"] = np.zeros(self.outputs, kind)

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return what the Op's forward is called with."""
        return {**self.parameters, "stride": self.stride, "padding": self.padding}

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        yield Case(cls(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)), x=(2, 2, 5, 3))
        yield Case(cls(1, 2, 2), x=(3, 1, 3, 4))
        yield Case(cls(3, 2, 1, bias=False), x=(2, 3, 2, 3))
        yield Case(cls(2, 1, 3, stride=2, padding=1), x=(1, 2, 4, 5))
        yield Case(cls(1, 2, 2, stride=2), x=(2, 1, 5, 3))  # no window reaches the last row and column
        yield Case(cls(1, 1, (1, 2), stride=(2, 3), padding=(0, 2)), x=(1, 1, 3, 4))  # strides beyond the windows
        # y[r, c] = x[r, c] + 10 x[r + 1, c + 1] + 1/2
        yield Case(
            cls(1, 1, 2),
            x=np.arange(1.0, 10.0).reshape(1, 1, 3, 3),
            parameters={"w": [[[[1, 0], [0, 10]]]], "b": [0.5]},
            y=[[[[51.5, 62.5], [84.5, 95.5]]]],
            dy=[[[[1, 0], [0, 2]]]],
            dx=[[[[1, 0, 0], [0, 12, 0], [0, 0, 20]]]],
        )
        # the one window sees the image with zeros above and to its left: 5*1 + 6*2 + 8*3 + 9*4
        yield Case(
            cls(1, 1, 3, stride=2, padding=1),
            x=np.array([[[[1.0, 2.0], [3.0, 4.0]]]]),
            parameters={"w": np.arange(1, 10).reshape(1, 1, 3, 3), "b": [0]},
            y=[[[[77]]]],
            dy=[[[[2]]]],
            dx=[[[[10, 12], [16, 18]]]],
        )
        # two channels to two: y0 = x0 - x1, y1 = 10 x1, at every second pixel
        yield Case(
            cls(2, 2, 1, stride=2, bias=False),
            x=np.array([[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]]),
            parameters={"w": np.array([[1, -1], [0, 10]]).reshape(2, 2, 1, 1)},
            y=[[[[-3, -3]], [[40, 60]]]],
            dy=[[[[1, 2]], [[3, 0]]]],
            dx=[[[[1, 0, 2]], [[29, 0, -2]]]],
        )
