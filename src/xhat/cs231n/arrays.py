"""How the course's arrays and dicts become what xhat's layers take."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_count, as_parameter
from xhat.layers import conv


def as_floats(*values: ArrayLike) -> list[Array]:
    """Return the arrays in one floating type: that which NumPy's arithmetic would give them.

    Integers follow the others, so that an integer bias leaves float32 what it is; among themselves they become float64.
    """
    arrays = [np.asanyarray(array) for array in values]
    floats = [array.dtype for array in arrays if array.dtype.kind not in "biu"]
    kind: np.dtype[Any] = np.result_type(*floats) if floats else np.dtype(np.float64)
    return [array.astype(kind, copy=False) for array in arrays]


def check_axes(who: str, x: Array, axes: str) -> None:
    """Refuse an x that does not have the axes that the course names, such as "N, C, H, W"."""
    if x.ndim != len(axes.split(", ")):
        raise ValueError(f"{who}: expected x of shape ({axes}), got {x.shape}. Reshape or transpose x first.")


def as_convolution(
    who: str, x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: Mapping[str, Any]
) -> tuple[conv.Cache, tuple[int, ...]]:
    """Return what a convolution needs, judged, and the shape of its output."""
    images, filters, bias = as_floats(x, w, b)
    check_axes(who, images, "N, C, H, W")
    advice = "Give w as (F, C, HH, WW), with C the channels of x, and b as (F,)."
    filters = as_parameter(who, "w", filters, (None, images.shape[1], None, None), advice)
    bias = as_parameter(who, "b", bias, filters.shape[:1], advice)
    stride = as_count(who, "stride", conv_param["stride"], 1, "It is how many pixels a window moves on.")
    pad = as_count(who, "pad", conv_param["pad"], 0, "It is how many rows and columns of zeros go around x.")
    judged = conv.Cache(images, filters, bias, (stride, stride), (pad, pad))
    return judged, conv.output_shape(who, images.shape, filters.shape, judged.stride, judged.padding)


def as_pooling(who: str, x: ArrayLike, pool_param: Mapping[str, Any]) -> tuple[Array, tuple[int, int], tuple[int, int]]:
    """Return images, the size of a window and the stride, judged."""
    (images,) = as_floats(x)
    check_axes(who, images, "N, C, H, W")
    height, width, stride = (
        as_count(who, name, pool_param[name], 1, "Give the window and its stride in pixels; 2 is usual.")
        for name in ("pool_height", "pool_width", "stride")
    )
    size, strides = (height, width), (stride, stride)
    conv.output_shape(who, images.shape, (images.shape[1], 1, *size), strides, (0, 0))
    return images, size, strides
