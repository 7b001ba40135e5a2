"""The NumPy, the `math` and the builtins that code sees while it runs on symbols: what stands here is modelled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from fractions import Fraction
from typing import Any, NoReturn, cast

import numpy as np

from xhat.verify.problem import Unsupported
from xhat.verify.symbolic import arrays, loops
from xhat.verify.symbolic.algebra import Poly, Space
from xhat.verify.symbolic.arrays import Axes, Counting, LabelColumn, Labels, Size, Symbolic, check_dtype, lift, listed
from xhat.verify.symbolic.frames import Opaque, incomparable
from xhat.verify.symbolic.loops import Gathered


class SymbolicWorld:
    """What code sees in the place of NumPy, `math` and some builtins."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.numpy = _Numpy(space)
        self.modules: Mapping[str, Any] = {"numpy": self.numpy, "math": _Math(self.numpy), "time": _Time()}
        self.builtins: Mapping[str, Any] = {
            "float": _float,
            "int": _int,
            "len": _len,
            "range": _range,
            "abs": abs,
            "max": _refusing("max", max),
            "min": _refusing("min", min),
            "sum": self._sum,
            "isinstance": _isinstance,
            "type": _type,
            "hasattr": _hasattr,
            "getattr": _getattr,
            "print": _print,
            "str": _str,
            "repr": _told(repr),
            "dir": _told(dir),
            "vars": _told(vars),
            "callable": _told(callable),
            **loops.builtins_of(space),
        }

    def _sum(self, values: Any, start: Any = 0) -> Any:
        if isinstance(values, Gathered):
            return values.sum(self._space, start)
        return _refusing("sum", sum)(values, start)

    def begin(self) -> None:
        """Begin a run: random numbers are drawn from the start again."""
        self._space.loops.clear()
        self.numpy.random.begin()


class _Stand:
    """In the place of `float` or `int`: called, or named as a dtype."""

    def __init__(self, stands_for: type, call: Callable[..., Any]) -> None:
        self.stands_for = stands_for
        self._call = call

    def __call__(self, *values: Any) -> Any:
        return self._call(*values)


def _as_float(value: Any = 0) -> Any:
    if isinstance(value, Size):
        return value.number()
    if isinstance(value, Symbolic):
        if any(value.axes):
            raise TypeError("only length-1 arrays can be converted to Python scalars")
        return value.reshape(()) if value.axes else value
    return float(value)


def _as_int(value: Any = 0, *base: Any) -> Any:
    if isinstance(value, Size):
        return value
    if isinstance(value, Symbolic):
        raise Unsupported("int() of a value")
    return int(value, *base)


_float = _Stand(float, _as_float)
_int = _Stand(int, _as_int)


def _len(value: Any) -> Any:
    if isinstance(value, (Symbolic, Labels)):
        if not value.ndim:
            raise TypeError("len() of unsized object")
        return value.shape[0]
    return len(value)


def _range(*limits: Any) -> Any:
    if any(isinstance(limit, (Size, Symbolic)) for limit in limits):
        limits = limits[1:] if len(limits) == 2 and limits[0] == 0 else limits
        if len(limits) == 1 and isinstance(limits[0], Size):
            return Counting(limits[0])
        raise Unsupported("a range that does not count the entries of an axis from 0 on")
    return range(*limits)


def _isinstance(value: Any, kinds: Any) -> bool:
    told = listed(kinds)
    if isinstance(value, (Opaque, Counting)) or (isinstance(value, Symbolic) and value.changes):
        raise Unsupported("isinstance() of a number")
    if isinstance(value, (Symbolic, Size, Labels)):
        if any(kind in (_float, float) for kind in told) and isinstance(value, Symbolic):
            return not value.axes
        if any(kind in (_int, int) for kind in told) and isinstance(value, Size):
            return True
        return not isinstance(value, Size) and bool(value.ndim) and any(kind is Array for kind in told)
    real: dict[Any, Any] = {_float: float, _int: int, _str: str, Array: np.ndarray, _type: type}
    return isinstance(value, tuple(real.get(kind, kind) for kind in told))


def _type(value: Any, *others: Any) -> Any:
    if others or not isinstance(value, (Symbolic, Size, Labels, Counting, Opaque)):
        return type(value, *others)
    if isinstance(value, Labels) or (isinstance(value, Symbolic) and value.axes):
        return Array
    raise Unsupported("the type of a number")


def _getattr(value: Any, name: str, *default: Any) -> Any:
    if isinstance(value, (Symbolic, Size, Labels, Counting, Opaque)) and not _hasattr(value, name):
        if default:
            return default[0]
        raise AttributeError(f"'numpy.ndarray' object has no attribute {name!r}")
    return getattr(value, name, *default)


def _hasattr(value: Any, name: str) -> bool:
    if not isinstance(value, (Symbolic, Size, Labels, Counting, Opaque)):
        return hasattr(value, name)
    if isinstance(value, Labels) or (isinstance(value, Symbolic) and value.axes):
        return hasattr(np.ndarray, name)
    raise Unsupported("hasattr() of a number")


def _print(*_: Any, **__: Any) -> None:
    """Print nothing."""


def _told(builtin: Callable[..., Any]) -> Callable[..., Any]:
    def called(*values: Any, **options: Any) -> Any:
        if any(isinstance(value, (Symbolic, Size, Labels, Counting, Opaque)) for value in values):
            raise Unsupported(f"{builtin.__name__}() of a value")
        return builtin(*values, **options)

    return called


_str = _Stand(str, _told(str))


def _refusing(name: str, builtin: Callable[..., Any]) -> Callable[..., Any]:
    def called(*values: Any, **options: Any) -> Any:
        told = listed(values[0]) if len(values) == 1 else list(values)
        if name == "max" and len(told) == 2 and not options and (length := _length_above(*told)) is not None:
            return length
        if any(isinstance(value, Symbolic) for value in told):
            if name == "max" and len(told) == 2 and not options and not any(getattr(v, "axes", ()) for v in told):
                a, b = told
                return arrays.where(_symbol(a, b) > b, a, b)
            raise Unsupported(f"{name}() of values")
        return builtin(*values, **options)

    return called


def _length_above(a: Any, b: Any) -> Size | None:
    """Return the length of an axis, which is at least 1, if the other number is no more than that."""
    length, other = (a, b) if isinstance(a, Size) else (b, a)
    whole = isinstance(length, Size) and isinstance(other, int) and other <= 1
    return length if whole and length.is_count() else None


def _symbol(*values: Any) -> Symbolic:
    space = next(v.space for v in values if isinstance(v, Symbolic))
    lifted = lift(values[0], space)
    assert lifted is not None
    return lifted


class Array:
    """`np.ndarray`, for isinstance and type."""


Array.__name__ = Array.__qualname__ = "ndarray"


def _whole(seed: Any) -> int:
    if not isinstance(seed, (int, np.integer)):
        raise Unsupported("a seed that is no whole number")
    return int(cast(int, seed))


class _Random:
    """`np.random`: entries that are the same in every run, and in every run of one seed, whatever they are."""

    def __init__(self, space: Space, source: str = "") -> None:
        self._space = space
        self._source = source
        self._drawn: tuple[Any, ...] = ()
        self._made: list[_Random] = []

    def begin(self) -> None:
        """Begin a run."""
        self._drawn = ()
        for made in self._made:
            made.begin()

    def seed(self, seed: Any = None) -> None:
        self._drawn = (_whole(seed),)

    def default_rng(self, seed: Any = None) -> _Random:
        return self._maker("default_rng", seed)

    def RandomState(self, seed: Any = None) -> _Random:
        return self._maker("RandomState", seed)

    def _maker(self, kind: str, seed: Any) -> _Random:
        if self._source:
            raise Unsupported(f"np.random.{kind} of a generator")
        source = f"#{len(self._made)}" if seed is None else f"({_whole(seed)})"
        self._made.append(_Random(self._space, kind + source))
        return self._made[-1]

    def _draw(self, kind: str, shape: Any) -> Symbolic:
        if self._space.loops:
            raise Unsupported("random numbers drawn in a loop over an axis")
        axes = _new_axes(self._space, shape)
        self._drawn = (*self._drawn, kind, tuple(tuple(self._space.dims[i] for i in axis) for axis in axes))
        poly = self._space.entry(f"$random {self._source}{self._drawn}", [i for axis in axes for i in axis])
        return Symbolic.of(poly, axes)

    def rand(self, *shape: Any) -> Symbolic:
        return self._draw("uniform", shape)

    def randn(self, *shape: Any) -> Symbolic:
        return self._draw("normal", shape)

    def random(self, size: Any = (), dtype: Any = None) -> Symbolic:
        check_dtype(dtype)
        return self._draw("uniform", size)

    random_sample = random

    def standard_normal(self, size: Any = ()) -> Symbolic:
        return self._draw("normal", size)

    def __getattr__(self, name: str) -> NoReturn:
        raise Unsupported(f"np.random.{name}")


def _new_axes(space: Space, shape: Any) -> Axes:
    axes: list[tuple[int, ...]] = []
    for n in listed(shape):
        if isinstance(n, Size):
            if len(n.poly.terms) != 1:
                raise Unsupported(f"an array of length {arrays.told(n)}")
            ((monomial, coefficient),) = n.poly.terms.items()
            if coefficient != 1 or any(not isinstance(p, int) or p < 0 for _, p in monomial):
                raise Unsupported(f"an array of length {arrays.told(n)}")
            axes.append(tuple(space.index(f[1]) for f, p in monomial for _ in range(p)))
        elif isinstance(n, (int, np.integer)) and n == 1:
            axes.append(())
        else:
            raise Unsupported(f"an array of length {arrays.told(n)} among arrays of any size")
    return tuple(axes)


class _Numpy:
    """`np`."""

    newaxis = None
    float64 = float32 = double = _float
    int64 = int32 = intp = _int
    bool_ = bool
    ndarray = Array
    inf = math.inf

    def __init__(self, space: Space) -> None:
        self.used: set[str] = set()
        self._space = space
        self.random = _Random(space)
        self.linalg = _Linalg(self)
        self.add = _Ufunc(self._add, self.sum)
        self.subtract = _Ufunc(self._subtract)
        self.multiply = _Ufunc(self._multiply)
        self.divide = self.true_divide = _Ufunc(self._divide)

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if not name.startswith("_") and callable(value):
            self.used.add(f"np.{name}")
        return value

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsupported(f"np.{name}")

    def _lift(self, value: Any) -> Symbolic:
        lifted = value.stacked(self._space) if isinstance(value, Gathered) else lift(value, self._space)
        if lifted is None:
            if isinstance(value, Opaque):
                value.refuse()
            raise Unsupported(f"a NumPy function of {type(value).__name__}")
        return lifted

    # --- making arrays ------------------------------------------------------------------------------------------

    def _filled(self, shape: Any, value: Any, dtype: Any) -> Any:
        boolean = getattr(dtype, "stands_for", dtype) in (bool, np.bool_, np.dtype(bool))
        check_dtype(dtype, boolean)
        sized = listed(shape)
        axes = _new_axes(self._space, sized)
        if len(set(self._flat(axes))) < len(self._flat(axes)):
            raise Unsupported("an array with one axis twice")
        boolean = boolean or (dtype is None and isinstance(value, (bool, np.bool_)))
        _, filling, whole = arrays.broadcast(Symbolic.of(self._space.number(0), axes), self._lift(value))
        if whole != axes:
            raise ValueError("could not broadcast the value into the shape")
        return self._new(Symbolic.of(filling, axes, boolean=boolean))

    @staticmethod
    def _new(array: Symbolic) -> Symbolic:
        """Mark a number that is an array, so that other names see it change."""
        array.changes = not array.axes
        return array

    @staticmethod
    def _flat(axes: Axes) -> tuple[int, ...]:
        return tuple(i for axis in axes for i in axis)

    def zeros(self, shape: Any, dtype: Any = None) -> Any:
        return self._filled(shape, 0, dtype)

    def ones(self, shape: Any, dtype: Any = None) -> Any:
        return self._filled(shape, 1, dtype)

    def empty(self, shape: Any, dtype: Any = None) -> Any:
        array = self._filled(shape, 0, dtype)
        self._space.undefined += 1
        array.write(
            Symbolic.of(
                self._space.entry(f"$undefined{self._space.undefined}", self._flat(array.axes)),
                array.axes,
                boolean=array.boolean,
            )
        )
        return array

    def full(self, shape: Any, fill_value: Any, dtype: Any = None) -> Any:
        array = self._filled(shape, fill_value, dtype)
        if dtype is None and isinstance(fill_value, (int, np.integer)):
            array.counting(whole=True)
        return array

    def zeros_like(self, a: Any, dtype: Any = None) -> Any:
        return self._like(a, 0, dtype)

    def ones_like(self, a: Any, dtype: Any = None) -> Any:
        return self._like(a, 1, dtype)

    def full_like(self, a: Any, fill_value: Any, dtype: Any = None) -> Any:
        return self._like(a, fill_value, dtype)

    def empty_like(self, a: Any, dtype: Any = None) -> Any:
        return self.empty(self._lift(a).shape, dtype)

    def _like(self, a: Any, value: Any, dtype: Any) -> Any:
        check_dtype(dtype)
        a = self._lift(a)
        if a.boolean and dtype is None:
            raise Unsupported("an array like a mask")
        value = self._lift(value)
        if value.axes:
            raise Unsupported("np.full_like with an array")
        return self._new(Symbolic.of(value.poly, a.axes, in_order=a.in_order))

    def array(self, a: Any, dtype: Any = None, copy: Any = True, ndmin: int = 0) -> Any:
        if isinstance(a, Labels):
            return a
        check_dtype(dtype, isinstance(a, Symbolic) and a.boolean)
        lifted = self._lift(a)
        if ndmin > lifted.ndim:
            raise Unsupported("np.array with ndmin=")
        lifted = lifted if dtype is None else lifted.astype(dtype, copy=False)
        if not lifted.axes:
            return lifted if lifted.changes and not copy else self._new(lifted.copy())
        return lifted.copy() if copy else lifted

    def asarray(self, a: Any, dtype: Any = None) -> Any:
        return self.array(a, dtype, copy=not isinstance(a, Symbolic))

    asanyarray = ascontiguousarray = asarray

    def copy(self, a: Any) -> Any:
        return self._lift(a).copy()

    def arange(self, *limits: Any, dtype: Any = None) -> Any:
        if len(limits) == 1 and isinstance(limits[0], Size):
            return Counting(limits[0])
        raise Unsupported("np.arange")

    def stack(self, arrays: Any, axis: Any = 0) -> Any:
        if isinstance(arrays, Gathered) and axis == 0:
            return self._lift(arrays)
        raise Unsupported("np.stack")

    def eye(self, n: Any, dtype: Any = None) -> Any:
        if isinstance(n, Size):
            return _Identity(self._space, n)
        raise Unsupported("np.eye of a fixed size among arrays of any size")

    identity = eye

    # --- entry by entry -----------------------------------------------------------------------------------------

    def _map(self, f: Callable[[Poly], Poly], a: Any, out: Any = None) -> Any:
        return _given(out, self._lift(a).map(f))

    def sqrt(self, a: Any, out: Any = None) -> Any:
        return self._map(lambda p: p.power(Fraction(1, 2)), a, out)

    def square(self, a: Any, out: Any = None) -> Any:
        return self._map(lambda p: p * p, a, out)

    def reciprocal(self, a: Any, out: Any = None) -> Any:
        return self._map(lambda p: p.power(Fraction(-1)), a, out)

    def negative(self, a: Any, out: Any = None) -> Any:
        return self._map(lambda p: -p, a, out)

    def exp(self, a: Any, out: Any = None) -> Any:
        return self._map(arrays.exp, a, out)

    def log(self, a: Any, out: Any = None) -> Any:
        return self._map(arrays.log, a, out)

    def log1p(self, a: Any, out: Any = None) -> Any:
        return self._map(lambda p: arrays.log(p + p.space.number(1)), a, out)

    def expm1(self, a: Any, out: Any = None) -> Any:
        return self._map(lambda p: arrays.exp(p) - p.space.number(1), a, out)

    def tanh(self, a: Any, out: Any = None) -> Any:
        return self._map(arrays.tanh, a, out)

    def abs(self, a: Any) -> Any:
        return abs(self._lift(a))

    absolute = fabs = abs

    def sign(self, a: Any) -> Any:
        return self._lift(a).map(lambda p: arrays.positive(p) - arrays.positive(-p))

    def _add(self, a: Any, b: Any, out: Any = None) -> Any:
        return _given(out, self._lift(a) + b)

    def _subtract(self, a: Any, b: Any, out: Any = None) -> Any:
        return _given(out, self._lift(a) - b)

    def _multiply(self, a: Any, b: Any, out: Any = None) -> Any:
        return _given(out, self._lift(a) * b)

    def _divide(self, a: Any, b: Any, out: Any = None) -> Any:
        return _given(out, self._lift(a) / b)

    def power(self, a: Any, b: Any, out: Any = None) -> Any:
        return _given(out, self._lift(a) ** b)

    def maximum(self, a: Any, b: Any, out: Any = None) -> Any:
        a, b = self._lift(a), self._lift(b)
        return _given(out, arrays.where(a > b, a, b))

    def minimum(self, a: Any, b: Any, out: Any = None) -> Any:
        a, b = self._lift(a), self._lift(b)
        return _given(out, arrays.where(b > a, a, b))

    def clip(self, a: Any, low: Any = None, high: Any = None) -> Any:
        a = a if low is None else self.maximum(a, low)
        return self._lift(a) if high is None else self.minimum(a, high)

    def where(self, condition: Any, *chosen: Any) -> Any:
        if len(chosen) != 2:
            raise Unsupported("np.where with a condition only")
        if not _any_symbol(condition, *chosen):
            raise Unsupported("np.where of what is no array of symbols")
        return arrays.where(condition, *chosen)

    def greater(self, a: Any, b: Any) -> Any:
        return self._lift(a) > b

    def less(self, a: Any, b: Any) -> Any:
        return self._lift(a) < b

    def greater_equal(self, a: Any, b: Any) -> Any:
        return self._lift(a) >= b

    def less_equal(self, a: Any, b: Any) -> Any:
        return self._lift(a) <= b

    def logical_not(self, a: Any) -> Any:
        return ~self._lift(a)

    def logical_and(self, a: Any, b: Any) -> Any:
        return self._lift(a) & b

    def logical_or(self, a: Any, b: Any) -> Any:
        return self._lift(a) | b

    def isfinite(self, a: Any) -> Any:
        return self._lift(a).map(lambda p: p.space.number(1), boolean=True)

    def isnan(self, a: Any) -> Any:
        return self._lift(a).map(lambda p: p.space.number(0), boolean=True)

    isinf = isnan

    def heaviside(self, a: Any, at_zero: Any) -> Any:
        a = self._lift(a)
        return a.map(arrays.positive) + a.map(arrays.zero) * at_zero

    def errstate(self, **_: Any) -> Any:
        return nullcontext()

    def dtype(self, kind: Any) -> Any:
        return np.dtype(kind)

    # --- sums ---------------------------------------------------------------------------------------------------

    def sum(self, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        return self._lift(a).sum(axis, dtype, out, keepdims)

    def mean(self, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        return self._lift(a).mean(axis, dtype, out, keepdims)

    def average(
        self, a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False
    ) -> Any:
        if weights is not None or returned:
            raise Unsupported("np.average with weights")
        return self._lift(a).mean(axis, None, None, keepdims)

    def var(
        self, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False
    ) -> Any:
        return self._lift(a).var(axis, dtype, out, ddof, keepdims)

    def std(
        self, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False
    ) -> Any:
        return self._lift(a).std(axis, dtype, out, ddof, keepdims)

    def max(self, a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        return self._lift(a).max(axis, out, keepdims)

    def min(self, a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        return self._lift(a).min(axis, out, keepdims)

    amax, amin = max, min

    def prod(self, a: Any, axis: Any = None) -> Any:
        if isinstance(a, (tuple, list)):
            return math.prod(listed(a))
        raise Unsupported("np.prod of an array")

    def dot(self, a: Any, b: Any) -> Any:
        return arrays.dot(self._lift(a), self._lift(b))

    def matmul(self, a: Any, b: Any) -> Any:
        return arrays.matmul(self._lift(a), self._lift(b))

    def outer(self, a: Any, b: Any) -> Any:
        return self._lift(a).reshape(-1)[:, None] * self._lift(b).reshape(-1)[None, :]

    def inner(self, a: Any, b: Any) -> Any:
        a, b = self._lift(a), self._lift(b)
        if not a.ndim or not b.ndim:
            return a * b
        poly, left, right = arrays.contracted(a, b, [(a.ndim - 1, b.ndim - 1)])
        return Symbolic.of(poly, left + right)

    def vdot(self, a: Any, b: Any) -> Any:
        return (self._lift(a).reshape(-1) * self._lift(b).reshape(-1)).sum()

    def tensordot(self, a: Any, b: Any, axes: Any = 2) -> Any:
        a, b = self._lift(a), self._lift(b)
        if isinstance(axes, int):
            pairs = [(a.ndim - axes + k, k) for k in range(axes)]
        else:
            left, right = (listed(n) for n in axes)
            pairs = [(i % a.ndim, k % b.ndim) for i, k in zip(left, right, strict=True)]
        poly, kept, other = arrays.contracted(a, b, pairs)
        return Symbolic.of(poly, kept + other)

    def einsum(self, subscripts: str, *operands: Any, optimize: Any = False) -> Any:
        return _einsum(self._space, subscripts, [self._lift(a) for a in operands])

    # --- other shapes -------------------------------------------------------------------------------------------

    def shape(self, a: Any) -> Any:
        return self._lift(a).shape

    def size(self, a: Any, axis: Any = None) -> Any:
        a = self._lift(a)
        return a.size if axis is None else a.shape[axis]

    def ndim(self, a: Any) -> Any:
        return self._lift(a).ndim

    def reshape(self, a: Any, shape: Any, order: str = "C") -> Any:
        return self._lift(a).reshape(listed(shape), order=order)

    def ravel(self, a: Any) -> Any:
        return self._lift(a).ravel()

    def transpose(self, a: Any, axes: Any = None) -> Any:
        return self._lift(a).transpose(axes)

    def swapaxes(self, a: Any, first: int, second: int) -> Any:
        return self._lift(a).swapaxes(first, second)

    def moveaxis(self, a: Any, source: Any, destination: Any) -> Any:
        a = self._lift(a)
        source, destination = (listed(n) for n in (source, destination))
        order = [k for k in range(a.ndim) if k not in {s % a.ndim for s in source}]
        for d, s in sorted(zip((d % a.ndim for d in destination), (s % a.ndim for s in source), strict=True)):
            order.insert(d, s)
        return a.transpose(order)

    def expand_dims(self, a: Any, axis: Any) -> Any:
        a = self._lift(a)
        chosen = listed(axis)
        n = a.ndim + len(chosen)
        places = {k % n for k in chosen}
        waiting = iter(a.axes)
        return a.arranged(tuple(() if k in places else next(waiting) for k in range(n)))

    def squeeze(self, a: Any, axis: Any = None) -> Any:
        return self._lift(a).squeeze(axis)

    def atleast_1d(self, a: Any) -> Any:
        a = self._lift(a)
        return a if a.ndim else a.reshape(1)

    def atleast_2d(self, a: Any) -> Any:
        a = self.atleast_1d(a)
        return a if a.ndim > 1 else a[None, :]

    def broadcast_to(self, a: Any, shape: Any) -> Any:
        a = self._lift(a)
        axes = _new_axes(self._space, shape)
        _, poly, result = arrays.broadcast(Symbolic.of(self._space.number(0), axes), a)
        copy = Symbolic.of(poly, result)
        copy.settle(a)  # a view that is read only
        return copy

    def tile(self, a: Any, reps: Any) -> Any:
        a = self._lift(a)
        axes = _new_axes(self._space, reps)
        n = max(a.ndim, len(axes))
        left, right = ((),) * (n - a.ndim) + a.axes, ((),) * (n - len(axes)) + axes
        if any(one and other for one, other in zip(left, right, strict=True)):
            raise Unsupported("np.tile along an axis whose length is not 1")
        return Symbolic.of(a.poly, tuple(one or other for one, other in zip(left, right, strict=True)))

    def repeat(self, a: Any, repeats: Any, axis: Any = None) -> Any:
        a = self._lift(a)
        if axis is None or a.axes[axis]:
            raise Unsupported("np.repeat along an axis whose length is not 1")
        (new,) = _new_axes(self._space, (repeats,))
        axes = list(a.axes)
        axes[axis] = new
        return Symbolic.of(a.poly, tuple(axes))

    def take_along_axis(self, a: Any, indices: Any, axis: Any) -> Any:
        if not isinstance(indices, LabelColumn) or axis not in (1, -1):
            raise Unsupported("np.take_along_axis")
        a = self._lift(a)
        return (a * a.mask_of(indices.labels)).sum(axis=1, keepdims=True)

    def real(self, a: Any) -> Any:
        return self._lift(a)

    def copyto(self, destination: Any, source: Any) -> None:
        if not isinstance(destination, Symbolic):
            raise Unsupported("np.copyto")
        destination.write(source)


class _Ufunc:
    """`np.add`, which can also be reduced, or `np.multiply`."""

    def __init__(self, call: Callable[..., Any], reduced: Callable[..., Any] | None = None) -> None:
        self._call = call
        self._reduced = reduced

    def __call__(self, a: Any, b: Any, out: Any = None) -> Any:
        return self._call(a, b, out)

    def reduce(self, a: Any, axis: Any = 0, keepdims: bool = False) -> Any:
        if self._reduced is None:
            raise Unsupported("reduce of this function")
        return self._reduced(a, axis, keepdims=keepdims)

    def outer(self, a: Any, b: Any) -> Any:
        a = a[(...,) + (None,) * b.ndim]
        return self._call(a, b)

    def __getattr__(self, name: str) -> NoReturn:
        raise Unsupported(f"{name} of a function of NumPy")


@incomparable
class _Identity:
    """`np.eye(C)`: rows picked by labels are one-hot rows."""

    __array_ufunc__ = None

    def __init__(self, space: Space, size: Size) -> None:
        self._space, self._size = space, size

    def __getitem__(self, labels: Any) -> Symbolic:
        if isinstance(labels, Labels):
            axes = _new_axes(self._space, (labels.shape[0], self._size))
            if self._space.dims[axes[1][0]] == labels.classes:
                return Symbolic.of(labels.picked(axes[0][0], axes[1][0]), axes)
        raise Unsupported("np.eye of an axis")

    def __getattr__(self, name: str) -> NoReturn:
        raise Unsupported("np.eye of an axis")


class _Linalg:
    """`np.linalg`."""

    def __init__(self, numpy: _Numpy) -> None:
        self._numpy = numpy

    def norm(self, a: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
        if ord not in (None, 2, "fro") or (ord == 2 and axis is None and self._numpy.ndim(a) != 1):
            raise Unsupported(f"np.linalg.norm with ord={ord!r}")
        return self._numpy.sqrt((self._numpy.square(a)).sum(axis, keepdims=keepdims))

    def __getattr__(self, name: str) -> NoReturn:
        raise Unsupported(f"np.linalg.{name}")


class _Time:
    """`time`: none passes."""

    def __getattr__(self, name: str) -> Any:
        if name in ("time", "perf_counter", "monotonic", "process_time", "thread_time"):
            return lambda: 0.0
        raise Unsupported(f"time.{name}")


class _Math:
    """`math`."""

    inf = math.inf

    def __init__(self, numpy: _Numpy) -> None:
        self._numpy = numpy

    def __getattr__(self, name: str) -> Any:
        def called(*values: Any) -> Any:
            if not _any_symbol(*values) and not any(isinstance(v, Size) for v in values):
                return getattr(math, name)(*values)
            if name in ("sqrt", "exp", "log", "tanh", "pow", "fabs") and len(values) == 1 + (name == "pow"):
                return getattr(self._numpy, {"pow": "power"}.get(name, name))(*values)
            raise Unsupported(f"math.{name}")

        if name == "prod":
            return math.prod
        if not callable(getattr(math, name, None)):
            raise Unsupported(f"math.{name}")
        return called


def _any_symbol(*values: Any) -> bool:
    return any(isinstance(value, Symbolic) for value in values)


def _given(out: Any, result: Any) -> Any:
    return arrays.into(out, result)


def _einsum(space: Space, subscripts: str, operands: Sequence[Symbolic]) -> Symbolic:
    text = subscripts.replace(" ", "")
    if "." in text:
        raise Unsupported("np.einsum with ...")
    inputs, arrow, output = text.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands) or any(len(t) != a.ndim for t, a in zip(terms, operands, strict=False)):
        raise ValueError("einstein sum subscripts do not fit the operands")
    if not arrow:
        output = "".join(sorted(c for c in set(inputs) - {","} if inputs.count(c) == 1))
    meaning: dict[str, tuple[int, ...]] = {}
    total = space.number(1)
    for term, operand in zip(terms, operands, strict=True):
        if len(set(term)) < len(term):
            raise Unsupported("np.einsum along a diagonal")
        renaming: dict[int, int] = {}
        for letter, axis in zip(term, operand.axes, strict=True):
            known = meaning.get(letter)
            if known is None or (not known and axis):
                known = meaning[letter] = tuple(space.index(space.dims[i]) for i in axis)
            if axis and [space.dims[i] for i in axis] != [space.dims[i] for i in known]:
                raise ValueError(f"operand has a mismatch in its axis {letter!r}: sizes differ")
            renaming.update(zip(axis, known, strict=False))
        total = total * operand.poly.renamed(renaming)
    gone = [i for letter, axis in meaning.items() if letter not in output for i in axis]
    if len(operands) == 1 and len(output) == len(terms[0]):  # a view
        return operands[0].transpose([terms[0].index(letter) for letter in output])
    return Symbolic.of(space.sum_over(total, gone), tuple(meaning[letter] for letter in output))
