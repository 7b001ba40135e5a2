"""How arguments are judged, before anything is written.

Every message has one form, `who: expected …, got …. What to do.` A wrong type is a TypeError, a wrong
shape or value a ValueError. What passes comes back in the one form that the layers compute with:
C-contiguous, aligned, native byte order. An array that has this form already is passed on, not copied.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeGuard, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from xhat import kernels
from xhat.kernels import fused, memory

Array: TypeAlias = NDArray[Any]
Dtype: TypeAlias = np.dtype[Any]

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_MOST_CENTRED = 2.0**1022  # differences of larger numbers overflow
_MOST = 2**48  # beyond this, numpy refuses in its own words what no memory holds
_TYPES = "float16, bfloat16, float32 or float64"


def as_values(who: str, name: str, x: ArrayLike) -> Array:
    """Return `x` as a plain array of a floating type, ready to compute with."""
    if _is_ready(x):
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{who}: expected {name} without a mask, got a masked array. "
            f"Fill the gaps first, for example with {name}.filled(0)."
        )
    values = as_array(who, name, x)
    if values.dtype.name not in _FLOATS:
        raise TypeError(
            f"{who}: expected {name} of type {_TYPES}, got {values.dtype}. "
            f"Convert it with {name}.astype(numpy.float32)."
        )
    return np.require(values, values.dtype.newbyteorder("="), ["C", "A"])


def as_gradient(who: str, dy: ArrayLike, shape: tuple[int, ...], dtype: Dtype, name: str = "dy") -> Array:
    """Return a gradient that arrives from above, which must have the output's `shape`."""
    if _is_ready(dy) and dy.shape == shape and dy.dtype == dtype:
        return dy
    values = as_values(who, name, dy)
    if values.shape != shape:
        raise ValueError(
            f"{who}: expected {name} of shape {shape}, got {values.shape}. "
            "Pass on the gradient of the output, which has the output's shape."
        )
    with np.errstate(over="ignore"):  # too large for the type is Inf, as everywhere
        return values if values.dtype == dtype else values.astype(dtype)


def as_parameter(who: str, name: str, values: ArrayLike, shape: tuple[int | None, ...], advice: str) -> Array:
    """Return a parameter of `shape`, where None is any size, with its own type; integers become float64."""
    if _is_ready(values) and values.shape == shape:
        return values
    parameter = as_array(who, name, values)
    if isinstance(values, np.ma.MaskedArray) or not (parameter.dtype.kind in "iu" or parameter.dtype.name in _FLOATS):
        got = "a masked array" if isinstance(values, np.ma.MaskedArray) else str(parameter.dtype)
        raise TypeError(f"{who}: expected {name} of type {_TYPES} or integer, got {got}. {advice}")
    if parameter.ndim != len(shape) or any(n not in (m, None) for m, n in zip(parameter.shape, shape, strict=True)):
        wanted = str(shape).replace("None", "any")
        raise ValueError(f"{who}: expected {name} of shape {wanted}, got {parameter.shape}. {advice}")
    if parameter.dtype.kind in "iu":
        return parameter.astype(np.float64)
    return np.require(parameter, parameter.dtype.newbyteorder("="), ["C", "A"])


def as_targets(who: str, name: str, targets: ArrayLike) -> Array:
    """Return targets as an array; its type and shape are for the loss to judge."""
    if isinstance(targets, np.ma.MaskedArray):
        raise TypeError(f"{who}: expected {name} without a mask, got a masked array. Leave such samples out.")
    return as_array(who, name, targets)


def shape_of(who: str, name: str, values: ArrayLike) -> tuple[int, ...]:
    """Return the shape of an argument that is judged further when this is known."""
    return values.shape if type(values) is np.ndarray else as_array(who, name, values).shape


def as_statistic(who: str, name: str, values: object, shape: tuple[int, ...], advice: str) -> Array:
    """Return a saved or running statistic: float64 of exactly `shape`."""
    if _is_ready(values) and values.shape == shape and values.dtype.char == "d":
        return values
    if not _is_array(values) or isinstance(values, np.ma.MaskedArray) or values.dtype != np.float64:
        got = values.dtype if _is_array(values) else type(values).__name__
        raise TypeError(f"{who}: expected {name} as a float64 array, got {got}. {advice}")
    if values.shape != shape:
        raise ValueError(f"{who}: expected {name} of shape {shape}, got {values.shape}. {advice}")
    return np.require(values, np.float64, ["C", "A"])


def as_indices(
    who: str, name: str, values: object, shape: tuple[int, ...], dtype: Dtype, count: int, advice: str
) -> Array:
    """Return saved indices: of exactly this shape and unsigned type, and all below `count`."""
    if not _is_array(values) or isinstance(values, np.ma.MaskedArray) or values.dtype != dtype:
        got = values.dtype if _is_array(values) else type(values).__name__
        raise TypeError(f"{who}: expected {name} as an array of {dtype}, got {got}. {advice}")
    if values.shape != shape:
        raise ValueError(f"{who}: expected {name} of shape {shape}, got {values.shape}. {advice}")
    if values.size and values.max() >= count:
        raise ValueError(f"{who}: expected {name} below {count}, got {values.max()}. {advice}")
    return np.require(values, dtype, ["C", "A"])


def as_output(who: str, out: object, shape: tuple[int, ...], dtype: Dtype, *inputs: object) -> Array:
    """Return the array to write to: a new one, or the caller's `out` if it is fit to be written.

    `inputs` are the caller's own arguments: what lies differently in memory was copied, but must not be overwritten.
    """
    if out is None:
        return memory.empty(shape, dtype)
    if not _is_array(out) or isinstance(out, np.ma.MaskedArray) or out.dtype != dtype:
        got = str(out.dtype) if type(out) is np.ndarray else type(out).__name__
        raise TypeError(f"{who}: expected out as an array of type {dtype}, got {got}. Make it with numpy.empty_like.")
    if out.shape != shape:
        raise ValueError(f"{who}: expected out of shape {shape}, got {out.shape}. Make it with numpy.empty_like.")
    if not (out.flags.carray and out.dtype.isnative):
        raise ValueError(
            f"{who}: expected out writable, aligned and C-contiguous, got an array that is not. "
            "Make it with numpy.empty_like."
        )
    if any(_is_array(values) and np.may_share_memory(out, values) for values in inputs):
        raise ValueError(
            f"{who}: expected out apart from the inputs, got memory that overlaps one. Give it memory of its own."
        )
    return out


def as_axis(who: str, name: str, axis: object, ndim: int | None) -> int:
    """Return `axis` counted from the front of an array of `ndim` axes; as it is while `ndim` is not known."""
    if type(axis) is int and ndim is not None and 0 <= axis < ndim:
        return axis
    try:
        index = operator.index(axis)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"{who}: expected {name} as an integer, got {type(axis).__name__}. Count the axes of x from 0."
        ) from None
    if ndim is None:
        return index
    if ndim == 0:
        raise ValueError(f"{who}: expected an x with at least one axis, got a single number. Give an array.")
    if not -ndim <= index < ndim:
        raise ValueError(
            f"{who}: expected {name} from {-ndim} to {ndim - 1} for an x of {ndim} axes, got {index}. "
            "Count the axes of x from 0."
        )
    return index % ndim


def as_axes(who: str, name: str, axis: object, ndim: int) -> tuple[int, ...]:
    """Return one axis or several different ones, counted from the front, ascending."""
    entries = tuple(cast("Sequence[object]", axis)) if isinstance(axis, tuple | list) else (axis,)
    axes = tuple(sorted(as_axis(who, name, entry, ndim) for entry in entries))
    if not axes or len(set(axes)) < len(axes):
        raise ValueError(f"{who}: expected {name} as one or several different axes, got {axis}. Name each axis once.")
    return axes


def as_real(
    who: str,
    name: str,
    value: object,
    low: float,
    high: float,
    advice: str,
    *,
    above: bool = False,
    below: bool = False,
) -> float:
    """Return a finite number in [low, high]; without low when it must be `above`, without high when `below`."""
    if not _is_real(value):
        raise TypeError(f"{who}: expected {name} as a number, got {type(value).__name__}. {advice}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    inside = (low < number if above else low <= number) and (number < high if below else number <= high)
    if not (math.isfinite(number) and inside):
        span = f"{name} > {low:g}" if above else f"{name} >= {low:g}"
        bound = "finite" if math.isinf(high) else f"{'below' if below else 'at most'} {high:g}"
        raise ValueError(f"{who}: expected {span} and {bound}, got {value}. {advice}")
    return number


def as_eps(who: str, eps: object) -> float:
    """Return `eps`: finite and not negative."""
    if type(eps) is float and 0.0 <= eps < math.inf:
        return eps
    return as_real(who, "eps", eps, 0.0, math.inf, "The eps is added to a variance (unit of x squared); 1e-5 is usual.")


def as_count(who: str, name: str, value: object, low: int, advice: str) -> int:
    """Return a whole number of at least `low`."""
    if not _is_whole(value):
        raise TypeError(f"{who}: expected {name} as an integer, got {type(value).__name__}. {advice}")
    if value < low:
        raise ValueError(f"{who}: expected {name} >= {low}, got {value}. {advice}")
    if value > _MOST:
        raise ValueError(f"{who}: expected {name} <= 2**48, got {value}. No memory holds as much. {advice}")
    return int(value)


def as_pair(who: str, name: str, value: object, low: int, advice: str) -> tuple[int, int]:
    """Return (rows, columns), both from `low` to 2³¹ - 1, of a pair, or of one number that stands for both."""
    pair = tuple(cast("Sequence[object]", value)) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{who}: expected {name} as one number or (rows, columns), got {value}. {advice}")
    rows, columns = (as_count(who, name, one, low, advice) for one in pair)
    if max(rows, columns) >= 2**31:
        raise ValueError(f"{who}: expected {name} below 2**31, got {value}. {advice}")
    return rows, columns


def as_saved_shape(who: str, name: str, value: object, ndim: int | None, advice: str) -> tuple[int, ...]:
    """Return the saved shape of an array, of `ndim` axes where that is known."""
    if not isinstance(value, tuple):
        raise TypeError(f"{who}: expected {name} as a tuple, got {type(value).__name__}. {advice}")
    sizes = tuple(as_count(who, name, size, 0, advice) for size in cast("tuple[object, ...]", value))
    if ndim is not None and len(sizes) != ndim:
        raise ValueError(f"{who}: expected {name} of {ndim} sizes, got {sizes}. {advice}")
    return sizes


def as_epilogue(who: str, epilogue: object, x: Array) -> fused.Epilogue | None:
    """Return what is to follow a norm of x in the same pass over memory, if anything. The view x has its rows last."""
    if epilogue is None:
        return None
    if type(epilogue) is not fused.Epilogue:
        raise TypeError(
            f"{who}: expected epilogue as kernels.fused.Epilogue, got {type(epilogue).__name__}. "
            "Give Epilogue() for ReLU, or Epilogue(rate, key) for dropout after it."
        )
    if not kernels.serves_wide(x.dtype):
        raise TypeError(
            f"{who}: expected float32 or float64 and compiled loops for an epilogue, got {x.dtype} and the variant "
            f"{kernels.variant()!r}. Call relu.forward and dropout.forward on y instead."
        )
    if not x.flags.c_contiguous:
        raise ValueError(
            f"{who}: expected rows that follow one another in memory for an epilogue, got others. "
            "Normalize over the last axes, with the channels along axis 1."
        )
    rate = as_real(who, "epilogue.rate", epilogue.rate, 0.0, 1.0, "The rate is the share that is dropped.")
    return fused.Epilogue(rate, as_key(who, "epilogue.key", epilogue.key, "A layer draws it with dropout.draw_key."))


def as_key(who: str, name: str, key: object, advice: str) -> int:
    """Return a key of random numbers: 64 bits."""
    if not _is_whole(key):
        raise TypeError(f"{who}: expected {name} as an integer, got {type(key).__name__}. {advice}")
    if not 0 <= key < 1 << 64:
        raise ValueError(f"{who}: expected {name} from 0 to 2**64 - 1, got {key}. {advice}")
    return int(key)


def as_generator(who: str, rng: object) -> np.random.Generator:
    """Return a random generator from a seed, or the caller's own, which then advances."""
    if isinstance(rng, np.random.Generator):
        return rng
    if _is_whole(rng):
        if rng < 0:
            raise ValueError(f"{who}: expected rng >= 0, got {rng}. Give a seed or a numpy.random.Generator.")
        return np.random.default_rng(int(rng))
    raise TypeError(
        f"{who}: expected rng as an integer or a numpy.random.Generator, got {type(rng).__name__}. "
        "Give a seed such as rng=0, or numpy.random.default_rng()."
    )


def as_choice(who: str, name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of the words in `choices`."""
    if not isinstance(value, str) or value not in choices:
        words = " or ".join(repr(choice) for choice in choices)
        raise ValueError(f"{who}: expected {name} {words}, got {value!r}. Choose one of these.")
    return value


def as_flag(who: str, name: str, value: object) -> bool:
    """Return a yes or no; not what is merely true to Python, as the word "no" is."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{who}: expected {name} as a bool, got {type(value).__name__}. Give True or False.")
    return bool(value)  # pyright: ignore[reportUnknownArgumentType]


def as_parameter_dtype(who: str, dtype: DTypeLike | None) -> Dtype:
    """Return the type that a layer keeps its parameters in."""
    try:
        kind = None if dtype is None else np.dtype(dtype)  # numpy takes None for float64
    except TypeError:
        kind = None
    if kind is None or kind.name not in _FLOATS:
        raise TypeError(f"{who}: expected dtype {_TYPES}, got {kind or repr(dtype)}. The usual one is float32.")
    return kind.newbyteorder("=")


def check_range(
    who: str, x: Array, var: Array, axes: tuple[int, ...], what: str = "variance", rstd: Array | None = None
) -> None:
    """Refuse finite float64 data whose variance over `axes` overflows: it would come out as zeros or NaN.

    The kernels know the `rstd` of such data all the same: where it is positive, nothing is lost.
    """
    if x.dtype != np.float64 or np.isfinite(var).all():
        return
    finite = np.isfinite(x).all(axes)
    lost = ~np.isfinite(var) if rstd is None else ~np.isfinite(var) & ~(rstd > 0)
    beyond = np.abs(x).max(axes, initial=0) > _MOST_CENTRED
    if (finite & (lost.reshape(finite.shape) | beyond & ~np.isfinite(var).reshape(finite.shape))).any():
        raise ValueError(
            f"{who}: expected x whose {what} float64 can hold, got values up to {np.abs(x).max():.1e}. "
            "Scale x by a power of two first."
        )


def check_channels(who: str, x: ArrayLike, channels: int, channel_axis: int) -> None:
    """Refuse an x that does not have a layer's number of channels where the layer looks for them."""
    shape = as_array(who, "x", x).shape
    if -len(shape) <= channel_axis < len(shape) and shape[channel_axis] != channels:
        raise ValueError(
            f"{who}: expected x with {channels} channels along axis {channel_axis}, got shape {shape}. "
            "Make the layer with the size of the channel axis of x."
        )


def check_cache(who: str, cache: object, *kinds: type) -> None:
    """Refuse anything but a cache that the matching forward makes."""
    if type(cache) not in kinds:
        first, *others = (_qualified(kind) for kind in kinds)
        names = " or ".join([first, *(other.rpartition(".")[2] for other in others)])
        raise TypeError(
            f"{who}: expected a cache of type {names}, got {_qualified(type(cache))}. "
            "Pass on the cache that forward returned."
        )


def _qualified(kind: type) -> str:
    """Return the name of a class with its module's, which tells the caches of layers apart."""
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"


def _is_ready(values: object) -> TypeGuard[Array]:
    """Tell, quickly, whether this is an array of a usual type in the form that the layers compute with."""
    return type(values) is np.ndarray and values.dtype.char in "efd" and values.flags.carray and values.dtype.isnative


def _is_array(value: object) -> TypeGuard[Array]:
    return isinstance(value, np.ndarray)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_real(value: object) -> TypeGuard[float]:
    return _is_whole(value) or isinstance(value, float | np.floating)


def as_array(who: str, name: str, values: ArrayLike) -> Array:
    """Return any values as an array; type and shape are for the caller to judge."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{who}: expected {name} as an array, got {type(values).__name__}: {error}. "
            "Give numbers in rows of equal length."
        ) from None
