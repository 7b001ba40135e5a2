"""The course's fast convolution and pooling: xhat's fast paths, under all names that the course has for them.

Every stride, padding, window and shape works, also pools that overlap or leave pixels over. A cache begins as that of
the naive layer does, and a naive layer's cache is taken as well.
"""

from collections.abc import Mapping
from typing import Any, cast

from numpy.typing import ArrayLike

from xhat.checks import Array
from xhat.cs231n import im2col
from xhat.cs231n.arrays import as_convolution, as_floats, as_pooling, contents, in_the_courses_words
from xhat.cs231n.im2col import *  # noqa: F403  (the course's notebooks reach them through here)
from xhat.layers import conv, max_pool

__all__: list[str] = [
    "conv_backward_fast",
    "conv_backward_im2col",
    "conv_backward_strides",
    "conv_forward_fast",
    "conv_forward_im2col",
    "conv_forward_strides",
    "max_pool_backward_fast",
    "max_pool_backward_im2col",
    "max_pool_backward_reshape",
    "max_pool_forward_fast",
    "max_pool_forward_im2col",
    "max_pool_forward_reshape",
]
__all__ += im2col.__all__


@in_the_courses_words
def conv_forward_fast(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: Mapping[str, Any]
) -> tuple[Array, tuple[Any, ...]]:
    """Convolve x (N, C, H, W) with w (F, C, HH, WW) and add b (F,), as `conv_forward_naive` does.

    The cache is `(x, w, b, conv_param, cache)`, where the last is that of `xhat.conv`.
    """
    judged, _ = as_convolution("conv_forward_fast", x, w, b, conv_param)
    out, cache = conv.forward(*judged)
    return out, (x, w, b, conv_param, cache)


@in_the_courses_words
def conv_backward_fast(dout: ArrayLike, cache: tuple[Any, ...]) -> tuple[Array, Array, Array]:
    """Return dx, dw and db."""
    who = "conv_backward_fast"
    given = contents(who, cache, "x", "w", "b", "conv_param")
    judged = cache[-1] if isinstance(cache[-1], conv.Cache) else as_convolution(who, *given)[0]
    dx, dw, db = conv.backward(as_floats(who, dout=dout)[0], judged)
    return dx, dw, cast(Array, db)


@in_the_courses_words
def max_pool_forward_fast(x: ArrayLike, pool_param: Mapping[str, Any]) -> tuple[Array, tuple[Any, ...]]:
    """Take the largest number of every window of x (N, C, H, W), as `max_pool_forward_naive` does.

    The cache is `(x, pool_param, cache)`, where the last is that of `xhat.max_pool`.
    """
    out, cache = max_pool.forward(*as_pooling("max_pool_forward_fast", x, pool_param))
    return out, (x, pool_param, cache)


@in_the_courses_words
def max_pool_backward_fast(dout: ArrayLike, cache: tuple[Any, ...]) -> Array:
    """Return dx: each window's gradient goes to its first largest entry, to one also where several are equal."""
    who = "max_pool_backward_fast"
    given, pooled = contents(who, cache, "x", "pool_param"), cache[-1]
    if not isinstance(pooled, max_pool.Cache):
        _, pooled = max_pool.forward(*as_pooling(who, *given))
    return max_pool.backward(as_floats(who, dout=dout)[0], pooled).dx


conv_forward_im2col = conv_forward_strides = conv_forward_fast
conv_backward_im2col = conv_backward_strides = conv_backward_fast
max_pool_forward_im2col = max_pool_forward_reshape = max_pool_forward_fast
max_pool_backward_im2col = max_pool_backward_reshape = max_pool_backward_fast
