"""The NumPy that is modelled for exact numbers, and the array that they stand in.

What a user's code may call stands in tables here; everything else is refused by its name. An array of floats becomes
an array of objects that are exact numbers. Arrays of integers and truth values stay what they are, since NumPy's loops
are exact on them. Memory is NumPy's own: views share it, and operators in place write into it.
"""

# pyright: reportIncompatibleMethodOverride=false
# What NumPy's own methods take besides, they take by position and by overloads; here it is refused.

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from xhat.verify.exact.numbers import Num, Ring, as_fraction, exact_root
from xhat.verify.problem import Unsupported

_ARITHMETIC = "add subtract multiply negative positive square absolute sign maximum minimum power matmul conjugate"
_ROUNDING = "divide true_divide sqrt exp log log1p expm1 tanh reciprocal"
_COMPARISONS = "greater greater_equal less less_equal equal not_equal"
_LOGICAL = "logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_xor invert"
_WHOLE = "floor_divide remainder"
_FINITE = "isnan isinf isfinite"
_UFUNCS = frozenset(" ".join((_ARITHMETIC, _ROUNDING, _COMPARISONS, _LOGICAL, _WHOLE, _FINITE)).split())
_REDUCTIONS = ("add", "multiply", "maximum", "minimum", "logical_and", "logical_or", "bitwise_and", "bitwise_or")
_OTHER_NAMES = {"abs": "absolute", "mod": "remainder", "conj": "conjugate", "bitwise_not": "invert", "pow": "power"}

# functions that move entries and compute nothing, and what they may be told by name
_MOVES: Mapping[str, str] = {
    "reshape": "shape newshape order",
    "transpose": "axes",
    "permute_dims": "axes",
    "matrix_transpose": "",
    "swapaxes": "axis1 axis2",
    "moveaxis": "source destination",
    "rollaxis": "axis start",
    "expand_dims": "axis",
    "squeeze": "axis",
    "ravel": "order",
    "broadcast_to": "shape",
    "broadcast_arrays": "",
    "atleast_1d": "",
    "atleast_2d": "",
    "atleast_3d": "",
    "flip": "axis",
    "fliplr": "",
    "flipud": "",
    "rot90": "k axes",
    "roll": "shift axis",
    "repeat": "repeats axis",
    "tile": "reps",
    "concatenate": "axis",
    "stack": "axis",
    "vstack": "",
    "hstack": "",
    "dstack": "",
    "column_stack": "",
    "split": "axis",
    "array_split": "axis",
    "hsplit": "",
    "vsplit": "",
    "take": "indices axis",
    "take_along_axis": "indices axis",
    "diagonal": "offset axis1 axis2",
    "append": "axis",
}
_FILLS: Mapping[str, str] = {"pad": "pad_width mode constant_values", "diag": "k", "tril": "k", "triu": "k"}
_PRODUCTS: Mapping[str, str] = {"dot": "", "outer": "", "inner": "", "vdot": "", "tensordot": "axes", "trace": ""}
_INDICES = "ndindex unravel_index ravel_multi_index ix_ indices meshgrid nonzero argwhere flatnonzero shape ndim size"
_SAME = "newaxis inf ndarray integer floating generic errstate s_ index_exp isscalar iterable iinfo min_scalar_type"
_INTEGERS = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 intp int_ bool bool_"
_FLOATS = "float16 float32 float64 float128 longdouble double single half"
_METHODS = "sum prod mean var std max min any all cumsum argmax argmin argsort clip"
_REFUSED_METHODS = (
    "argpartition byteswap choose compress cumprod getfield partition put round searchsorted setfield setflags "
    "to_device tobytes tofile view"
)


class ExactArray(np.ndarray):
    """An array of exact numbers, of integers or of truth values, all of whose methods are exact or refused."""

    ring: Ring

    def __array_finalize__(self, obj: Any) -> None:
        self.ring = getattr(obj, "ring", None)  # type: ignore[assignment]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        return _apply(self.ring, ufunc, method, inputs, named)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.dtype == object:
            values = _lifted(_array(value, self.ring), self.ring)
            value = values if values.ndim else values[()]
        super().__setitem__(key, value)

    def fill(self, value: Any) -> None:
        """Set all entries."""
        self[...] = value

    def astype(self, dtype: Any, order: Any = "K", casting: Any = "unsafe", subok: Any = True, copy: Any = True) -> Any:
        """Return the array in another type; floating types are exact numbers."""
        del order, casting, subok
        return _typed(self, dtype, self.ring, copy=bool(copy))

    def sum(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        """Return the sum."""
        _refuse("sum", out=out)
        values = self if dtype is None else self.astype(dtype, copy=False)
        return _reduce(np.add, values, axis, keepdims)

    def prod(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        """Return the product."""
        _refuse("prod", out=out)
        values = self if dtype is None else self.astype(dtype, copy=False)
        return _reduce(np.multiply, values, axis, keepdims)

    def mean(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        """Return the mean."""
        _refuse("mean", out=out)
        _as_float("mean", dtype)
        return _reduce(np.add, self.astype(float, copy=False), axis, keepdims) / _count(self, axis)

    def var(
        self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False, **named: Any
    ) -> Any:
        """Return the mean of the squared distances to the mean."""
        ddof = named.pop("correction", ddof)
        _refuse("var", out=out, **named)
        _as_float("var", dtype)
        distance = self - self.mean(axis=axis, keepdims=True)
        return _reduce(np.add, distance * distance, axis, keepdims) / (_count(self, axis) - ddof)

    def std(self, *args: Any, **named: Any) -> Any:
        """Return the root of the variance."""
        return _ufunc(np.sqrt, self.ring)(self.var(*args, **named))

    def max(self, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None) -> Any:
        """Return the largest."""
        _refuse("max", out=out, initial=initial)
        return _reduce(np.maximum, self, axis, keepdims)

    def min(self, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None) -> Any:
        """Return the smallest."""
        _refuse("min", out=out, initial=initial)
        return _reduce(np.minimum, self, axis, keepdims)

    def any(self, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        """Return whether any truth value is true."""
        _refuse("any", out=out)
        return _reduce(np.logical_or, self, axis, keepdims)

    def all(self, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        """Return whether all truth values are true."""
        _refuse("all", out=out)
        return _reduce(np.logical_and, self, axis, keepdims)

    def cumsum(self, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        """Return the running sums."""
        _refuse("cumsum", out=out)
        values = self if dtype is None else self.astype(dtype, copy=False)
        values = values.ravel() if axis is None else values
        return _wrap(np.add.accumulate(_plain(values), axis=axis or 0), self.ring)

    def argmax(self, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
        """Return where the largest is."""
        _refuse("argmax", out=out)
        return _wrap(np.argmax(_plain(self), axis=axis, keepdims=bool(keepdims)), self.ring)

    def argmin(self, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
        """Return where the smallest is."""
        _refuse("argmin", out=out)
        return _wrap(np.argmin(_plain(self), axis=axis, keepdims=bool(keepdims)), self.ring)

    def argsort(self, axis: Any = -1, **named: Any) -> Any:
        """Return the order of the entries."""
        _refuse("argsort", **named)
        return _wrap(np.argsort(_plain(self), axis=axis, kind="stable"), self.ring)

    def sort(self, axis: Any = -1, **named: Any) -> None:
        """Sort in place."""
        _refuse("sort", **named)
        _plain(self).sort(axis=axis, kind="stable")

    def dot(self, b: Any, out: Any = None) -> Any:
        """Return the matrix product."""
        _refuse("dot", out=out)
        return _product(np.dot, (self, b), {}, self.ring)

    def trace(self, *args: Any, **named: Any) -> Any:
        """Return the sum of a diagonal."""
        return _product(np.trace, (self, *args), named, self.ring)

    def clip(self, min: Any = None, max: Any = None, out: Any = None, **named: Any) -> Any:
        """Return the entries, moved into an interval."""
        _refuse("clip", out=out, **named)
        result: Any = self.copy()
        if min is not None:
            result = np.maximum(result, min)
        return result if max is None else np.minimum(result, max)


def _refused_method(name: str) -> Callable[..., Any]:
    def method(*_: Any, **__: Any) -> Any:
        raise Unsupported(f"the method {name} of an array is not modelled")

    return method


for _name in _REFUSED_METHODS.split():
    setattr(ExactArray, _name, _refused_method(_name))


def exact_array(values: Any, ring: Ring) -> ExactArray:
    """Return an array of exact numbers, from numbers of any kind.

    Examples
    --------
    >>> from xhat.verify.exact.numbers import Rationals
    >>> x = exact_array([[1.5, 2.0]], Rationals())
    >>> (x / 3).sum()
    7/6
    """
    return _wrap(_lifted(_array(values, ring), ring), ring)


def _wrap(result: Any, ring: Ring) -> Any:
    """Return a result of NumPy's as the user's code gets it."""
    if isinstance(result, tuple | list):
        return type(cast("list[Any]", result))(_wrap(item, ring) for item in cast("list[Any]", result))
    if not isinstance(result, np.ndarray):
        return result
    array = np.ndarray.view(cast(Any, result), ExactArray)
    array.ring = ring
    return array


def _plain(array: Any) -> np.ndarray[Any, Any]:
    """Return the same memory as an array of NumPy's own."""
    return np.ndarray.view(array, np.ndarray)


def _unwrapped(index: Any) -> Any:
    """Return an index with arrays of NumPy's own."""
    if isinstance(index, tuple):
        return tuple(map(_unwrapped, cast("tuple[Any, ...]", index)))
    return _plain(index) if isinstance(index, np.ndarray) else index


def _array(value: Any, ring: Ring) -> np.ndarray[Any, Any]:
    """Return what the user's code gave as an array of NumPy's own, of any type."""
    if isinstance(value, np.ndarray):
        return _plain(value)
    if isinstance(value, Num):
        array = np.empty((), object)
        array[()] = value
        return array
    if isinstance(value, list | tuple):
        value = _unpacked(cast("list[Any]", value))
    array: Any = np.array(value)
    if array.dtype.kind not in "biufO":
        raise Unsupported(f"an array of type {array.dtype} is not modelled")
    if array.dtype == object:
        _lifted(array, ring)
    return array


def _unpacked(items: Any) -> Any:
    """Return nested sequences with their arrays as lists, so that NumPy looks at all entries alike."""
    if isinstance(items, np.ndarray):
        return _plain(items).tolist()
    if isinstance(items, list | tuple):
        return [_unpacked(item) for item in cast("list[Any]", items)]
    return items


def _lifted(array: np.ndarray[Any, Any], ring: Ring) -> np.ndarray[Any, Any]:
    """Return the array with exact numbers; itself if it has nothing else."""
    if array.dtype == object and all(isinstance(entry, Num) or _infinite(entry) for entry in array.flat):
        return array
    lifted = np.empty(array.shape, object)
    entries: Any = lifted.reshape(-1)
    for i, entry in enumerate(array.flat):
        entries[i] = float(entry) if _infinite(entry) else ring(entry)
    return lifted


def _is_float(dtype: Any) -> bool:
    """Return whether a type that the user's code names is a floating one, for which exact numbers stand."""
    if isinstance(dtype, _FloatType) or dtype in (float, object):
        return True
    try:
        return np.dtype(dtype).kind in "fO"
    except TypeError:
        raise Unsupported(f"the type {dtype!r} is not modelled") from None


def _as_float(name: str, dtype: Any) -> None:
    if dtype is not None and not _is_float(dtype):
        raise Unsupported(f"np.{name} with dtype={np.dtype(dtype)} is not modelled")


def _typed(array: Any, dtype: Any, ring: Ring, copy: bool) -> Any:
    plain = _plain(array)
    if _is_float(dtype):
        lifted = _lifted(plain, ring)
        return _wrap(lifted.copy() if copy and lifted is plain else lifted, ring)
    kind = np.dtype(dtype)
    if kind.kind not in "biu":
        raise Unsupported(f"the type {kind} is not modelled")
    if plain.dtype.kind in "fO":
        if kind.kind != "b":
            raise Unsupported("rounding to integers is not modelled: it is not exact")
        zero: list[bool] = [not entry.is_zero() for entry in _lifted(plain, ring).flat]
        return _wrap(np.array(zero, bool).reshape(plain.shape), ring)
    return _wrap(plain.astype(kind, copy=copy), ring)


def _refuse(name: str, **named: Any) -> None:
    """Refuse keyword arguments that are not modelled, unless they say nothing."""
    for key, value in named.items():
        if value is not None and value is not np._NoValue:  # type: ignore[attr-defined]
            raise Unsupported(f"np.{name} with {key}= is not modelled")


def _count(array: np.ndarray[Any, Any], axis: Any) -> int:
    if axis is None:
        return array.size
    return math.prod(np.array(array.shape)[np.atleast_1d(axis)].tolist())


def _reduce(ufunc: Any, array: Any, axis: Any, keepdims: Any) -> Any:
    return _apply(array.ring, ufunc, "reduce", (array,), {"axis": axis, "keepdims": bool(keepdims)})


def _apply(ring: Ring, ufunc: Any, method: str, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Do what a ufunc does, on exact numbers."""
    name: str = ufunc.__name__
    if name not in _UFUNCS or method not in ("__call__", "reduce", "accumulate", "outer", "at"):
        raise Unsupported(f"np.{name}{'' if method == '__call__' else '.' + method} is not modelled")
    if method in ("reduce", "accumulate") and name not in _REDUCTIONS:
        raise Unsupported(f"np.{name}.{method} is not modelled")
    named = dict(named)
    dtype = named.pop("dtype", None)
    if dtype is not None and not _is_float(dtype):
        raise Unsupported(f"np.{name} with dtype= is not modelled")
    out: Any = named.pop("out", None)
    target: Any = out[0] if isinstance(out, tuple) else out  # pyright: ignore[reportUnknownVariableType]
    allowed = {"axis": named.pop("axis", 0), "keepdims": bool(named.pop("keepdims", False))}
    if method == "accumulate":
        del allowed["keepdims"]
    elif method != "reduce":
        allowed = {}
    _refuse(name, **{key: value for key, value in named.items() if not (key == "where" and value is True)})

    index = _unwrapped(inputs[1]) if method == "at" else None
    operands = (inputs[0], *inputs[2:]) if method == "at" else inputs
    arrays = [_array(operand, ring) for operand in operands]
    kinds = {array.dtype.kind for array in arrays}
    native = "O" not in kinds and (
        name in _COMPARISONS.split() or ("f" not in kinds and name not in _ROUNDING.split() and dtype is None)
    )
    if not native:
        if name in _LOGICAL.split():
            raise Unsupported(f"np.{name} of numbers is not modelled: compare them first")
        if method == "at" and arrays[0].dtype != object:
            raise Unsupported(f"np.{name}.at on integers is not modelled")
        whole = arrays[1] if name == "power" and arrays[1].dtype != object else None
        arrays = [_lifted(array, ring) for array in arrays]
        if whole is not None:
            arrays[1] = whole.astype(object)  # an exponent is a constant, of which the power takes its steps
        if name in _FINITE.split():
            infinite = [_infinite(entry) for entry in arrays[0].flat]
            shaped = np.array([not i if name == "isfinite" else i and name == "isinf" for i in infinite], bool)
            return _wrap(shaped.reshape(arrays[0].shape), ring)
    if method == "at":
        return getattr(ufunc, method)(arrays[0], index, *arrays[1:])
    if target is not None:
        allowed["out"] = _plain(target)
    result = getattr(ufunc, method)(*arrays, **allowed)
    if target is not None:
        return cast(Any, target)
    if not native and not isinstance(result, np.ndarray | Num | bool | np.bool_):
        return ring(result)  # the sum of nothing
    if name == "sign" and not native:
        return exact_array(result, ring)
    return _wrap(result, ring)


class _Ufunc:
    """A ufunc as the user's code calls it."""

    def __init__(self, ufunc: Any, ring: Ring) -> None:
        self._ufunc, self._ring = ufunc, ring

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        count = self._ufunc.nin
        if len(inputs) > count:
            inputs, named = inputs[:count], {**named, "out": inputs[count]}
        if self._ufunc is np.sqrt and not isinstance(inputs[0], np.ndarray | Num | list | tuple):
            return constant_root(inputs[0], self._ring)
        return _apply(self._ring, self._ufunc, "__call__", inputs, named)

    def __getattr__(self, method: str) -> Any:
        if method not in ("reduce", "accumulate", "outer", "at"):
            raise Unsupported(f"np.{self._ufunc.__name__}.{method} is not modelled")

        def call(*inputs: Any, **named: Any) -> Any:
            if method in ("reduce", "accumulate") and len(inputs) > 1:
                inputs, named = inputs[:1], {**named, "axis": inputs[1]}
            return _apply(self._ring, self._ufunc, method, inputs, named)

        return call


_ufunc = _Ufunc


def constant_root(value: Any, ring: Ring) -> Num:
    """Return the root of a number that is no input: a fraction where it is one."""
    fraction = as_fraction(value)
    if fraction is None:
        raise TypeError(f"expected a number, got {type(value).__name__}")
    root = exact_root(fraction)
    return ring(value).sqrt() if root is None else ring(root)


def _product(function: Any, args: tuple[Any, ...], named: dict[str, Any], ring: Ring, arrays: int = 2) -> Any:
    """Call one of NumPy's sums of products, which on objects adds and multiplies them."""
    values = [_array(value, ring) for value in args[:arrays]]
    if any(value.dtype.kind in "fO" for value in values):
        values = [_lifted(value, ring) for value in values]
    result = function(*values, *args[arrays:], **named)
    if isinstance(result, np.ndarray | Num) or all(value.dtype.kind in "biu" for value in values):
        return _wrap(result, ring)
    return ring(result)


class _FloatType:
    """A floating type, as a function and as a `dtype`: what it is given stays exact."""

    def __init__(self, name: str, ring: Ring) -> None:
        self._name, self._ring = name, ring
        self.__name__ = name

    def __call__(self, value: Any = 0.0) -> Any:
        if isinstance(value, np.ndarray | list | tuple):
            return exact_array(value, self._ring)
        return self._ring(value)

    def __repr__(self) -> str:
        return self._name


class _Random:
    """NumPy's random numbers: the same ones in every run, and short enough to be read as fractions."""

    def __init__(self, ring: Ring, seed: Any = None) -> None:
        self._ring = ring
        self.seed(seed)

    def seed(self, seed: Any = None) -> None:
        """Begin anew."""
        self._rng = np.random.default_rng(None if isinstance(seed, np.ndarray) else seed if seed is not None else 1)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsupported(f"np.random.{name} is not modelled")

    def _given(self, values: Any) -> Any:
        short: Any = np.round(np.asarray(values) * 4096) / 4096
        return _wrap(short, self._ring) if short.ndim else float(short)

    def rand(self, *shape: int) -> Any:
        """Draw between 0 and 1."""
        return self._given(self._rng.random(shape))

    def randn(self, *shape: int) -> Any:
        """Draw from the normal distribution."""
        return self._given(self._rng.standard_normal(shape))

    def random(self, size: Any = None, dtype: Any = None) -> Any:
        """Draw between 0 and 1."""
        _as_float("random.random", dtype)
        return self._given(self._rng.random(size))

    random_sample = ranf = sample = random

    def standard_normal(self, size: Any = None, dtype: Any = None) -> Any:
        """Draw from the normal distribution."""
        _as_float("random.standard_normal", dtype)
        return self._given(self._rng.standard_normal(size))

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Draw between two numbers."""
        return self._given(self._rng.uniform(low, high, size))

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Draw from a normal distribution."""
        return self._given(self._rng.normal(loc, scale, size))

    def _whole(self, name: str, *args: Any, **named: Any) -> Any:
        return _wrap(getattr(self._rng, name)(*args, **named), self._ring)

    def binomial(self, *args: Any, **named: Any) -> Any:
        """Draw counts."""
        return self._whole("binomial", *args, **named)

    def integers(self, *args: Any, **named: Any) -> Any:
        """Draw integers."""
        return self._whole("integers", *args, **named)

    randint = integers

    def permutation(self, x: Any) -> Any:
        """Draw an order of the integers below x."""
        return self._whole("permutation", operator.index(x))

    def default_rng(self, seed: Any = None) -> _Random:
        """Return a generator."""
        return _Random(self._ring, seed if isinstance(seed, int) else None)

    RandomState = default_rng


class _Modelled:
    """A module of which some names are modelled, and the others refused."""

    def __init__(self, path: str, names: Mapping[str, Any]) -> None:
        self.__dict__.update(names)
        self._path = path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsupported(f"{self._path}.{name} is not modelled")


def _kinds(kind: Any) -> Any:
    """Return the types that a user names, with those of NumPy and `type` itself in the place of their stand-ins."""
    if isinstance(kind, tuple):
        return tuple(map(_kinds, cast("tuple[Any, ...]", kind)))
    if kind is _type:
        return type
    return getattr(np, kind.__name__) if isinstance(kind, _FloatType) else kind


def _isinstance(value: Any, kind: Any) -> bool:
    return isinstance(np.float64(0) if isinstance(value, Num) else value, _kinds(kind))


def _type(value: Any, *others: Any) -> Any:
    if isinstance(value, Num):
        raise Unsupported("the type of a number")
    return np.ndarray if isinstance(value, ExactArray) and not others else type(value, *others)


class ExactWorld:
    """What a user's function sees in the place of NumPy and `math`, so that it computes with exact numbers.

    Parameters
    ----------
    ring : Ring
        The numbers.

    Attributes
    ----------
    modules, builtins : mapping
        What stands in for modules and for builtins, for `rebind`.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.verify.exact.numbers import Rationals
    >>> from xhat.verify.rebind import rebind
    >>> def thirds(n):
    ...     return np.ones(n) / 3
    >>> rebind(thirds, ExactWorld(Rationals()))(2).sum()
    2/3
    """

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._random = _Random(ring)
        names = {**self._creation(), **self._functions(), **self._types()}
        self.modules: Mapping[str, Any] = {"numpy": _Modelled("np", names), "math": _Modelled("math", self._math())}
        self.builtins: Mapping[str, Any] = {"isinstance": _isinstance, "type": _type}

    def restart(self) -> None:
        """Begin the random numbers anew, so that the next run draws those of the last one."""
        self._random.seed()

    def _types(self) -> dict[str, Any]:
        names: dict[str, Any] = {name: getattr(np, name) for name in f"{_SAME} {_INTEGERS}".split()}
        names |= {name: _FloatType(name, self._ring) for name in _FLOATS.split()}
        names["random"] = self._random
        names["linalg"] = _Modelled("np.linalg", {"norm": self._norm})
        tricks = {
            "as_strided": self._strided,
            "sliding_window_view": self._move(sliding_window_view, "window_shape axis"),
        }
        names["lib"] = _Modelled("np.lib", {"stride_tricks": _Modelled("np.lib.stride_tricks", tricks)})
        return names

    def _creation(self) -> dict[str, Any]:
        ring = self._ring

        def full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = None) -> Any:
            del order
            filled = np.broadcast_to(_array(fill_value, ring), shape).copy()
            return (
                _wrap(filled, ring)
                if dtype is None and filled.dtype.kind in "biu"
                else _typed(filled, float if dtype is None else dtype, ring, copy=False)
            )

        def empty(shape: Any, dtype: Any = None, order: Any = None) -> Any:
            del order
            if dtype is None or _is_float(dtype):
                return _wrap(np.empty(shape, object), ring)  # None: whoever reads it before it is written is told
            return full(shape, 0, dtype)

        def like(create: Callable[..., Any]) -> Callable[..., Any]:
            def created(a: Any, *value: Any, dtype: Any = None, order: Any = None, shape: Any = None) -> Any:
                del order
                array = _array(a, ring)
                return create(array.shape if shape is None else shape, *value, dtype=dtype or array.dtype)

            return created

        def zeros(shape: Any, dtype: Any = float, order: Any = None) -> Any:
            return full(shape, 0, dtype or float, order)

        def ones(shape: Any, dtype: Any = float, order: Any = None) -> Any:
            return full(shape, 1, dtype or float, order)

        def array(object: Any, dtype: Any = None, copy: Any = True, ndmin: int = 0, order: Any = None) -> Any:
            del order
            values = _array(object, ring)
            fresh = bool(copy) and isinstance(object, np.ndarray)
            result = _typed(values, dtype or (float if values.dtype.kind in "fO" else values.dtype), ring, copy=fresh)
            return result.reshape((1,) * (ndmin - result.ndim) + result.shape)

        def asarray(a: Any, dtype: Any = None, order: Any = None, copy: Any = None) -> Any:
            return array(a, dtype, copy=copy, order=order)

        def arange(*bounds: Any, dtype: Any = None) -> Any:
            return asarray(np.arange(*bounds), dtype)

        def eye(N: Any, M: Any = None, k: int = 0, dtype: Any = float) -> Any:
            return _typed(np.eye(N, M, k, dtype=int), dtype or float, ring, copy=False)

        def copy(a: Any, order: Any = None) -> Any:
            return array(a, order=order)

        def copyto(dst: Any, src: Any) -> None:
            dst[...] = src

        names = {"zeros": zeros, "ones": ones, "empty": empty, "full": full}
        names |= {f"{name}_like": like(create) for name, create in names.items()}
        names |= {"array": array, "asarray": asarray, "asanyarray": asarray, "ascontiguousarray": asarray}
        return {**names, "arange": arange, "eye": eye, "identity": eye, "copy": copy, "copyto": copyto}

    def _functions(self) -> dict[str, Any]:
        ring = self._ring
        names: dict[str, Any] = {name: _Ufunc(getattr(np, name), ring) for name in _UFUNCS}
        names |= {name: names[known] for name, known in _OTHER_NAMES.items()}
        names |= {name: self._move(getattr(np, name), keys) for name, keys in _MOVES.items() if hasattr(np, name)}
        names |= {name: self._move(getattr(np, name), keys, fills=True) for name, keys in _FILLS.items()}
        for name, keys in _PRODUCTS.items():
            names[name] = self._products(name, keys)
        for name in _INDICES.split():
            names[name] = self._indices(name)
        for name in _METHODS.split():
            names[name] = self._method(name)
        names |= {"amax": names["max"], "amin": names["min"]}
        names |= {
            "average": self._average,
            "where": self._where,
            "real": self._real,
            "einsum": self._einsum,
            "sort": self._sort,
            "count_nonzero": self._count_nonzero,
        }
        return names

    def _move(self, function: Any, keys: str, fills: bool = False) -> Callable[..., Any]:
        name, allowed = function.__name__, keys.split()

        def move(values: Any, *args: Any, **named: Any) -> Any:
            _refuse(name, **{key: value for key, value in named.items() if key not in allowed})
            if name in ("append", "broadcast_arrays"):
                values, args = (values, *args[:1]), args[1:]
            if isinstance(values, list | tuple) and not name.startswith(("reshape", "transpose", "tile", "repeat")):
                arrays = [_array(value, self._ring) for value in cast("list[Any]", values)]
                if any(array.dtype.kind in "fO" for array in arrays):
                    arrays = [_lifted(array, self._ring) for array in arrays]
                several = name in ("append", "broadcast_arrays")
                return _wrap(
                    function(*arrays, *args, **named) if several else function(arrays, *args, **named), self._ring
                )
            array = _array(values, self._ring)
            if array.dtype.kind == "f":
                array = _lifted(array, self._ring)
            result: Any = function(array, *args, **named)
            if fills and result.dtype == object:
                result = _lifted(result, self._ring)
            return _wrap(result, self._ring)

        return move

    def _products(self, name: str, keys: str) -> Callable[..., Any]:
        def product(*args: Any, **named: Any) -> Any:
            _refuse(name, **{key: value for key, value in named.items() if key not in keys.split()})
            return _product(getattr(np, name), args, named, self._ring, 1 if name == "trace" else 2)

        return product

    def _indices(self, name: str) -> Callable[..., Any]:
        def indices(*args: Any, **named: Any) -> Any:
            plain = [_plain(a) if isinstance(a, np.ndarray) else a for a in args]
            return _wrap(getattr(np, name)(*plain, **named), self._ring) if name != "ndindex" else np.ndindex(*args)

        return indices

    def _method(self, name: str) -> Callable[..., Any]:
        def call(a: Any, *args: Any, **named: Any) -> Any:
            array: Any = a
            if not isinstance(a, ExactArray):
                array = _wrap(_array(a, self._ring), self._ring)
            if array.dtype.kind == "f":
                array = exact_array(array, self._ring)
            return getattr(array, name)(*args, **named)

        return call

    def _where(self, condition: Any, *values: Any) -> Any:
        chosen = _array(condition, self._ring)
        if chosen.dtype.kind not in "biu":
            raise Unsupported("np.where on numbers is not modelled: compare them first")
        arrays = [_array(value, self._ring) for value in values]
        if any(array.dtype.kind in "fO" for array in arrays):
            arrays = [_lifted(array, self._ring) for array in arrays]
        return _wrap(np.where(chosen, *arrays), self._ring)

    def _real(self, value: Any) -> Any:
        return value if isinstance(value, Num) else _wrap(_array(value, self._ring), self._ring)

    def _einsum(self, subscripts: Any, *operands: Any, optimize: Any = None, **named: Any) -> Any:
        del optimize  # only the order of the products, which is all one here
        _refuse("einsum", **named)
        if not isinstance(subscripts, str):
            raise Unsupported("np.einsum without a string of subscripts is not modelled")
        arrays = [_array(operand, self._ring) for operand in operands]
        if any(array.dtype.kind in "fO" for array in arrays):
            arrays = [_lifted(array, self._ring) for array in arrays]
        result: Any = np.einsum(subscripts, *arrays)
        return _wrap(result, self._ring)

    def _sort(self, a: Any, axis: Any = -1, **named: Any) -> Any:
        array = _wrap(_array(a, self._ring).copy(), self._ring)
        array.sort(axis=axis, **named)
        return array

    def _average(self, a: Any, axis: Any = None, weights: Any = None, *, keepdims: Any = False) -> Any:
        values = exact_array(a, self._ring)
        if weights is None:
            return values.mean(axis=axis, keepdims=keepdims)
        shares = exact_array(weights, self._ring)
        if shares.shape != values.shape:
            raise Unsupported("np.average with weights of another shape is not modelled")
        return (values * shares).sum(axis=axis, keepdims=keepdims) / shares.sum(axis=axis, keepdims=keepdims)

    def _count_nonzero(self, a: Any, axis: Any = None, keepdims: Any = False) -> Any:
        return self._method("sum")(
            _typed(_array(a, self._ring), bool, self._ring, copy=False), axis=axis, keepdims=keepdims
        )

    def _norm(self, x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
        if ord not in (None, 2, "fro") or (ord == 2 and axis is None and np.ndim(x) != 1):
            raise Unsupported(f"np.linalg.norm with ord={ord} is not modelled")
        return _Ufunc(np.sqrt, self._ring)(exact_array(np.multiply(x, x), self._ring).sum(axis=axis, keepdims=keepdims))

    def _strided(self, x: Any, shape: Any = None, strides: Any = None, **named: Any) -> Any:
        _refuse("lib.stride_tricks.as_strided", **named)
        array = _array(x, self._ring)
        shape, strides = shape or array.shape, strides or array.strides
        last = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + array.itemsize
        start = array.__array_interface__["data"][0]
        if min(strides, default=0) < 0 or min(shape, default=1) < 1 or start + last > byte_bounds(array)[1]:
            raise ValueError("as_strided reaches past the array")
        return _wrap(as_strided(array, shape, strides), self._ring)

    def _math(self) -> dict[str, Any]:
        ring = self._ring

        def of(name: str) -> Callable[[Any], Any]:
            def call(x: Any) -> Any:
                return getattr(ring(x), name)()

            return call

        def sqrt(x: Any) -> Any:
            return x.sqrt() if isinstance(x, Num) else constant_root(x, ring)

        def power(x: Any, y: Any) -> Any:
            return ring(x) ** y

        names: dict[str, Any] = {name: of(name) for name in ("exp", "log", "log1p", "expm1", "tanh")}
        same = {name: getattr(math, name) for name in ("floor", "ceil", "isqrt", "gcd", "comb", "factorial", "inf")}
        return {
            **names,
            **same,
            "isinf": _infinite,
            "sqrt": sqrt,
            "pow": power,
            "fabs": abs,
            "prod": _prod,
            "fsum": sum,
        }


def _infinite(value: Any) -> bool:
    return isinstance(value, float | np.floating) and math.isinf(cast(float, value))


def _prod(values: Any, *, start: Any = 1) -> Any:
    return functools.reduce(operator.mul, values, start)
