"""How the course's arrays, dicts and words become what xhat's layers take, and xhat's words the course's."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_array, as_count, as_parameter
from xhat.layers import conv

P = ParamSpec("P")
R = TypeVar("R")


def in_the_courses_words(function: Callable[P, R]) -> Callable[P, R]:
    """Let what xhat's layers refuse be refused in the name of the function, and dy be called dout."""

    @functools.wraps(function)
    def speaking(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError) as error:
            _, expected, text = str(error).partition(": expected ")
            if not expected:
                raise
            kind = TypeError if isinstance(error, TypeError) else ValueError
            text = re.sub(r"\bdy\b", "dout", text)
            raise kind(f"{function.__name__}: expected {text}") from None

    return speaking


def as_floats(who: str, **values: object) -> list[Array]:
    """Return the arrays in one floating type: that which NumPy's arithmetic would give them.

    Integers follow the others, so that an integer bias leaves float32 what it is; among themselves they become float64.
    """
    arrays: list[Array] = []
    for name, given in values.items():
        array = as_array(who, name, cast(ArrayLike, given))
        masked = isinstance(given, np.ma.MaskedArray)
        if masked or not (array.dtype.kind in "biuf" or array.dtype.name == "bfloat16"):
            got = "a masked array" if masked else str(array.dtype) if array.dtype.kind == "c" else type(given).__name__
            raise TypeError(f"{who}: expected {name} as an array of real numbers, got {got}. Convert or fill it first.")
        arrays.append(array)
    floats = [array.dtype for array in arrays if array.dtype.kind not in "biu"]
    try:
        kind: np.dtype[Any] = np.result_type(*floats) if floats else np.dtype(np.float64)
    except TypeError:
        got = " and ".join(str(one) for one in floats)
        raise TypeError(f"{who}: expected types that meet in one, got {got}. Convert one of them.") from None
    with np.errstate(over="ignore"):
        return [array.astype(kind, copy=False) for array in arrays]


def check_axes(who: str, x: Array, axes: str) -> None:
    """Refuse an x that does not have the axes that the course names, such as "N, C, H, W"."""
    if x.ndim != len(axes.split(", ")):
        raise ValueError(f"{who}: expected x of shape ({axes}), got {x.shape}. Reshape or transpose x first.")


def setting(who: str, name: str, param: object, key: str) -> Any:
    """Return what one of the course's dicts has under a key that it must have."""
    if not isinstance(param, Mapping):
        raise TypeError(
            f"{who}: expected {name} as a dict, got {type(param).__name__}. Give a dict with {key!r} in it."
        )
    settings = cast("Mapping[str, Any]", param)
    if key not in settings:
        raise ValueError(f"{who}: expected {name} with {key!r}, got the keys {list(settings)}. Put {key!r} into it.")
    return settings[key]


def contents(who: str, cache: object, *names: str) -> tuple[Any, ...]:
    """Return what a cache of the course begins with; more may follow."""
    wanted = f"({', '.join(names)})"
    advice = "Pass on the cache that forward returned."
    if not isinstance(cache, tuple | list):
        raise TypeError(f"{who}: expected a cache {wanted}, got {type(cache).__name__}. {advice}")
    entries = tuple(cast("tuple[object, ...]", cache))
    if len(entries) < len(names):
        raise ValueError(f"{who}: expected a cache {wanted}, got {len(entries)} entries. {advice}")
    return entries[: len(names)]


def as_convolution(who: str, x: object, w: object, b: object, conv_param: object) -> tuple[conv.Cache, tuple[int, ...]]:
    """Return what a convolution needs, judged, and the shape of its output."""
    images, filters, bias = as_floats(who, x=x, w=w, b=b)
    check_axes(who, images, "N, C, H, W")
    advice = "Give w as (F, C, HH, WW), with C the channels of x, and b as (F,)."
    filters = as_parameter(who, "w", filters, (None, images.shape[1], None, None), advice)
    bias = as_parameter(who, "b", bias, filters.shape[:1], advice)
    advice = "It is how many pixels a window moves on; divide with //."
    stride = as_count(who, "stride", setting(who, "conv_param", conv_param, "stride"), 1, advice)
    advice = "It is how many rows and columns of zeros go around x; divide with //, as in (filter_size - 1) // 2."
    pad = as_count(who, "pad", setting(who, "conv_param", conv_param, "pad"), 0, advice)
    judged = conv.Cache(images, filters, bias, (stride, stride), (pad, pad))
    return judged, conv.output_shape(who, images.shape, filters.shape, judged.stride, judged.padding)


def as_pooling(who: str, x: object, pool_param: object) -> tuple[Array, tuple[int, int], tuple[int, int]]:
    """Return images, the size of a window and the stride, judged."""
    (images,) = as_floats(who, x=x)
    check_axes(who, images, "N, C, H, W")
    advice = "Give the window and its stride in pixels; 2 is usual. Divide with //."
    height, width, stride = (
        as_count(who, name, setting(who, "pool_param", pool_param, name), 1, advice)
        for name in ("pool_height", "pool_width", "stride")
    )
    size, strides = (height, width), (stride, stride)
    conv.output_shape(who, images.shape, (images.shape[1], 1, *size), strides, (0, 0))
    return images, size, strides
