"""Arrays whose sizes are symbols.

An array is a polynomial for its entry at [i, j, ...] and an arrangement of the indices in axes. An axis holds one
index, several (what `reshape` put together), or none (its length is 1). Views share a `_Buffer`, so that a change in
place is seen through all names, as in NumPy. What is not modelled raises `Unsupported`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NoReturn, cast

import numpy as np

from xhat.verify.exact.numbers import simplest
from xhat.verify.problem import Unsupported
from xhat.verify.symbolic.algebra import Poly, Space, entries, entry
from xhat.verify.symbolic.frames import Index, Opaque, clock, incomparable

Axes = tuple[tuple[int, ...], ...]


class _Buffer:
    """The memory behind an array and its views."""

    __slots__ = ("born", "in_order", "poly", "settled", "slots", "whole")

    def __init__(self, poly: Poly, slots: tuple[int, ...], in_order: bool = True) -> None:
        self.poly = poly
        self.slots = slots
        self.in_order = in_order  # whether memory is known to run as the slots do
        self.settled = False  # whether it may share memory with another buffer: then it must not be changed
        self.whole = False  # whether it holds whole numbers only, so that what is written into it would be cut off
        self.born = next(clock)

    def read(self, fixed: Mapping[int, int]) -> Poly:
        """Return the entry; `fixed` are slots at which an open loop stands, with the loop's index."""
        for frame in self.poly.space.loops:
            if frame.is_older(self):
                frame.touch(self, fixed, writes=False)
        return self.poly.renamed(fixed)

    def store(self, poly: Poly, fixed: Mapping[int, int]) -> None:
        """Change the entries at these places."""
        slots = self._slots_of(fixed)
        for frame in poly.space.loops:
            if frame.is_older(self):
                frame.touch(self, fixed, writes=True)
        self.poly = poly.renamed(slots)

    def add(self, value: Callable[[], Poly], fixed: Mapping[int, int]) -> None:
        """Add to the entries at these places."""
        slots = self._slots_of(fixed)
        for frame in self.poly.space.loops:
            if frame.is_older(self):
                frame.adds(self, fixed)
        self.poly = self.poly + value().renamed(slots)

    def _slots_of(self, fixed: Mapping[int, int]) -> dict[int, int]:
        loops = [frame for frame in self.poly.space.loops if frame.is_older(self)]
        if len(set(fixed.values())) < len(fixed) or not {i for f in loops for i in f.index.indices or ()} >= set(
            fixed.values()
        ):
            raise Unsupported("a change at one index of an array made in the same iteration, or after the loop")
        return {index: slot for slot, index in fixed.items()}


class Size:
    """The length of an axis: a number in arithmetic, a length in shapes."""

    __array_ufunc__ = None
    __slots__ = ("poly",)

    def __init__(self, poly: Poly) -> None:
        self.poly = poly

    def _with(self, other: Any, combine: Callable[[Poly, Poly], Poly]) -> Any:
        if isinstance(other, Size):
            return Size(combine(self.poly, other.poly))
        if isinstance(other, (int, np.integer)) and not isinstance(other, bool):
            return Size(combine(self.poly, self.poly.space.number(int(cast("Any", other)))))
        return NotImplemented

    def __add__(self, other: Any) -> Any:
        result = self._with(other, lambda a, b: a + b)
        return self.number() + other if result is NotImplemented else result

    def __sub__(self, other: Any) -> Any:
        result = self._with(other, lambda a, b: a - b)
        return self.number() - other if result is NotImplemented else result

    def __rsub__(self, other: Any) -> Any:
        result = self._with(other, lambda a, b: b - a)
        return other - self.number() if result is NotImplemented else result

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, (str, tuple, list)):
            raise Unsupported("a list repeated as often as an axis is long")
        result = self._with(other, lambda a, b: a * b)
        return self.number() * other if result is NotImplemented else result

    __radd__, __rmul__ = __add__, __mul__

    def __floordiv__(self, other: Any) -> Any:
        quotient = self._with(other, lambda a, b: a * b.power(Fraction(-1)))
        terms = {} if quotient is NotImplemented else cast("Size", quotient).poly.terms
        if terms and all(c.denominator == 1 and all(p > 0 for _, p in m) for m, c in terms.items()):
            return quotient
        raise Unsupported(f"({told(self)}) // ({told(other)}): a size that is not known to be a whole number")

    def __truediv__(self, other: Any) -> Any:
        return self.number() / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.number()

    def __pow__(self, other: Any) -> Any:
        return self.number() ** other

    def __neg__(self) -> Any:
        return -self.number()

    def __float__(self) -> float:
        raise Unsupported("a size was asked for as a plain number")

    def __index__(self) -> int:
        raise Unsupported("a size was asked for as a plain number")

    def __bool__(self) -> bool:
        self.poly.space.assume("{} > 0", self.poly)
        return True

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (Size, int)):
            poly = other.poly if isinstance(other, Size) else self.poly.space.number(other)
            if poly == self.poly:
                return True
            if isinstance(other, int) and other <= 0:
                return False
        raise Unsupported(f"the comparison of the sizes {told(self)} and {told(other)}")

    def __ne__(self, other: object) -> bool:
        return not self == other

    def _order(self, other: Any) -> NoReturn:
        raise Unsupported(f"the comparison of the sizes {told(self)} and {told(other)}")

    __lt__ = __le__ = __gt__ = __ge__ = _order

    def __hash__(self) -> int:
        raise Unsupported("a size looked up in a set or a dictionary")

    def _text(self, *_: Any) -> NoReturn:
        raise Unsupported("a text made of a size")

    __repr__ = __str__ = __format__ = __reduce_ex__ = _text

    def is_count(self) -> bool:
        """Whether it is made of lengths by sums and products, so that it is a whole number from 1 on."""
        terms = self.poly.terms.items()
        return bool(terms) and all(
            c > 0 and c.denominator == 1 and all(isinstance(p, int) and p > 0 for _, p in m) for m, c in terms
        )

    def __copy__(self) -> Size:
        return self

    def __deepcopy__(self, _: Any) -> Size:
        return self

    def number(self) -> Symbolic:
        """Return it as a number that takes part in arithmetic."""
        return Symbolic.scalar(self.poly)

    def told(self) -> str:
        """Return it as a message tells it."""
        terms = [
            "*".join([str(c)] * (c != 1 or not m) + [f[1] if p == 1 else f"{f[1]}^{p}" for f, p in m])
            for m, c in self.poly.terms.items()
        ]
        return " + ".join(terms) or "0"


@incomparable
class Labels:
    """An array of N class numbers below C: what it is good for is picking one entry of every row."""

    def __init__(self, space: Space, name: str, dim: str, classes: str) -> None:
        self.space, self.name, self.dim, self.classes = space, name, dim, classes
        self.shape = (Size(space.symbol(dim, positive=True)),)
        self.ndim, self.size, self.dtype = 1, self.shape[0], Type(np.dtype(np.int64))
        space.one_hot(self._entry, (dim, classes), (1,))

    @property
    def _entry(self) -> str:
        return f"$[{self.name}=k]"

    def picked(self, row: int, column: int) -> Poly:
        """Return 1 where the label of the row is the column, else 0."""
        return self.space.entry(self._entry, (row, column))

    def astype(self, *_: Any, **__: Any) -> Labels:
        return self

    def copy(self) -> Labels:
        return self

    def reshape(self, *shape: Any) -> Labels:
        if shape in ((-1,), ((-1,),)):
            return self
        raise Unsupported("labels in another shape")

    ravel = flatten = squeeze = copy

    def __getitem__(self, key: Any) -> Label | LabelColumn:
        if isinstance(key, Index):
            return Label(self, key)
        keys = listed(key)
        if len(keys) == 2 and keys[1] is None and (keys[0] is Ellipsis or keys[0] == slice(None)):
            return LabelColumn(self)
        raise Unsupported("some of the labels")

    def __deepcopy__(self, _: Any) -> Labels:
        return self

    def __getattr__(self, name: str) -> NoReturn:
        raise Unsupported(f"labels.{name}")


class Label(Opaque):
    """The label of one row: it picks a column."""

    def __init__(self, labels: Labels, row: Index) -> None:
        super().__init__("arithmetic with a label, or a question about it")
        self.labels = labels
        (self.row,) = row.on((labels.space.index(labels.dim),))

    def is_column(self, column: int) -> Poly:
        """Return 1 where the label is the column, else 0."""
        if self.labels.space.dims[column] != self.labels.classes:
            raise Unsupported("a label on an axis that is not one of classes")
        return self.labels.picked(self.row, column)

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, Index):
            self.refuse()
        (column,) = other.on((self.labels.space.index(self.labels.classes),))
        return Symbolic.of(self.is_column(column), (), boolean=True)

    def __ne__(self, other: object) -> Any:
        return ~(self == other)


@incomparable
class LabelColumn:
    """`labels[:, None]`: what picks one entry of every row."""

    __array_ufunc__ = None

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def __getattr__(self, name: str) -> NoReturn:
        raise Unsupported(f"labels[:, None].{name}")


class Type(Opaque):
    """The type of entries: it can be asked for again, and nothing can be asked of it."""

    def __init__(self, stands_for: np.dtype[Any]) -> None:
        super().__init__("a question about a dtype")
        self.stands_for = stands_for


@incomparable
class Counting:
    """`np.arange(N)` or `range(N)`."""

    def __init__(self, size: Size) -> None:
        self.size = size

    def __iter__(self) -> Iterator[Any]:
        raise Unsupported(f"a loop over {told(self.size)} entries")


class Symbolic:
    """An array of any size; see the module."""

    __array_ufunc__ = None
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __init__(
        self, buffer: _Buffer, axes: Axes, boolean: bool = False, fixed: Mapping[int, int] = MappingProxyType({})
    ) -> None:
        self._buffer = buffer
        self.axes = axes
        self.boolean = boolean
        self.changes = False  # whether it is an array without axes: a number, but for other names that see it change
        self._fixed = fixed  # slots of the buffer that stand at the index of a loop, and that index

    @staticmethod
    def of(poly: Poly, axes: Axes, *, boolean: bool = False, in_order: bool = True) -> Symbolic:
        """Return a new array with memory of its own."""
        return Symbolic(_Buffer(poly, tuple(i for axis in axes for i in axis), in_order), axes, boolean)

    @staticmethod
    def scalar(poly: Poly) -> Symbolic:
        """Return a number."""
        return Symbolic.of(poly, ())

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def poly(self) -> Poly:
        """The entry at its indices."""
        return self._buffer.read(self._fixed)

    @property
    def space(self) -> Space:
        return self._buffer.poly.space

    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple(_length(self.space, axis) for axis in self.axes)

    @property
    def dtype(self) -> Type:
        return Type(np.dtype(bool if self.boolean else np.float64))

    @property
    def ndim(self) -> int:
        return len(self.axes)

    @property
    def size(self) -> Any:
        return _length(self.space, tuple(i for axis in self.axes for i in axis))

    @property
    def T(self) -> Symbolic:
        return self.transpose()

    @property
    def real(self) -> Symbolic:
        return self

    @property
    def in_order(self) -> bool:
        """Whether memory is known to run as the axes do."""
        slots = (*self._fixed, *(i for axis in self.axes for i in axis))
        return self._buffer.in_order and self._buffer.slots == slots

    def arranged(self, axes: Axes) -> Symbolic:
        """Return a view of the same entries in other axes."""
        view = Symbolic(self._buffer, axes, self.boolean, self._fixed)
        view.changes = not axes
        return view

    def settle(self, other: Symbolic) -> None:
        """Refuse changes in place of two arrays that may share memory."""
        self._buffer.settled = other._buffer.settled = True

    def copy(self, *_: Any, **__: Any) -> Symbolic:
        return Symbolic.of(self.poly, self.axes, boolean=self.boolean, in_order=self.in_order)

    __copy__ = __deepcopy__ = copy

    def astype(self, dtype: Any, *_: Any, copy: bool = True, **__: Any) -> Symbolic:
        check_dtype(dtype, self.boolean)
        kind = np.dtype(getattr(dtype, "stands_for", dtype)).kind
        if not self.boolean or kind == "b":
            return self.copy() if copy else self
        return self.copy().numeric().counting(kind in "iu")

    def view(self) -> Symbolic:
        return self.arranged(self.axes)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsupported(f"ndarray.{name}")

    def __iter__(self) -> Iterator[Any]:
        raise Unsupported("a loop over the entries of an array")

    def __float__(self) -> float:
        raise Unsupported("an entry was asked for as a plain number")

    __int__ = __index__ = __complex__ = __float__

    def __bool__(self) -> bool:
        """Say whether a number is not 0, or a mask is 1."""
        if any(self.axes):
            raise Unsupported("a branch that depends on values")
        truth = self.poly if self.boolean else self.poly.space.number(1) - zero(self.poly)
        constant = truth.constant
        if constant is None:
            raise Unsupported("a branch that depends on values")
        return bool(constant)

    def __len__(self) -> int:
        raise Unsupported("len() of an array whose size is a symbol")

    def _text(self, *_: Any) -> NoReturn:
        raise Unsupported("a text made of values")

    __repr__ = __str__ = __format__ = __reduce_ex__ = _text

    # --- arithmetic ---------------------------------------------------------------------------------------------

    def _combined(self, other: Any, combine: Callable[[Poly, Poly], Poly], divides: bool = False) -> Any:
        whole = self.whole and (isinstance(other, (int, np.integer, np.bool_, Size)) or getattr(other, "whole", False))
        other = lift(other, self.space)
        if other is None:
            return NotImplemented
        a, b, axes = broadcast(self, other)
        return Symbolic.of(combine(a, b), axes, in_order=self._ordered(other)).counting(whole and not divides)

    def _ordered(self, other: Symbolic) -> bool:
        return (self.in_order or self.ndim < 2) and (other.in_order or other.ndim < 2)

    def __add__(self, other: Any) -> Any:
        return self | other if self._are_masks(other) else self._combined(other, lambda a, b: a + b)

    def __sub__(self, other: Any) -> Any:
        if self._are_masks(other):
            raise TypeError("numpy boolean subtract, the `-` operator, is not supported")
        return self._combined(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Any:
        if self._are_masks(other):
            raise TypeError("numpy boolean subtract, the `-` operator, is not supported")
        return self._combined(other, lambda a, b: b - a)

    def __mul__(self, other: Any) -> Any:
        return self & other if self._are_masks(other) else self._combined(other, lambda a, b: a * b)

    def _are_masks(self, other: Any) -> bool:
        return self.boolean and (other.boolean if isinstance(other, Symbolic) else isinstance(other, (bool, np.bool_)))

    @property
    def whole(self) -> bool:
        """Whether entries are of a type that holds whole numbers only."""
        return self.boolean or self._buffer.whole

    def counting(self, whole: bool) -> Symbolic:
        """Return this new array, of a type that holds whole numbers only if it is made of such."""
        self._buffer.whole = whole
        return self

    def numeric(self) -> Symbolic:
        """Return a mask as numbers."""
        return Symbolic(self._buffer, self.axes, False, self._fixed)

    def __truediv__(self, other: Any) -> Any:
        return self._combined(other, lambda a, b: a * b.power(Fraction(-1)), divides=True)

    def __rtruediv__(self, other: Any) -> Any:
        return self._combined(other, lambda a, b: b * a.power(Fraction(-1)), divides=True)

    __radd__, __rmul__ = __add__, __mul__

    def __pow__(self, exponent: Any) -> Any:
        power = lift(exponent, self.space)
        number = None if power is None or power.axes else power.poly.constant
        if number is None:
            raise Unsupported("a power whose exponent is no number")
        return self.map(lambda p: p.power(number))

    def __rpow__(self, base: Any) -> Any:
        raise Unsupported("a power whose exponent is no number")

    def __neg__(self) -> Symbolic:
        if self.boolean:
            raise TypeError("the numpy boolean negative, the `-` operator, is not supported")
        return self.map(lambda p: -p)

    def __pos__(self) -> Symbolic:
        return self.copy()

    def __abs__(self) -> Symbolic:
        return self.map(lambda p: p * (positive(p) * 2 - p.space.number(1)))

    def map(self, f: Callable[[Poly], Poly], *, boolean: bool = False) -> Symbolic:
        """Return a new array with f of every entry."""
        return Symbolic.of(f(self.poly), self.axes, boolean=boolean, in_order=self.in_order)

    def __matmul__(self, other: Any) -> Any:
        return matmul(self, _array(other, self.space))

    def __rmatmul__(self, other: Any) -> Any:
        return matmul(_array(other, self.space), self)

    def __mod__(self, other: Any) -> NoReturn:
        raise Unsupported("% or //")

    __floordiv__ = __rfloordiv__ = __rmod__ = __divmod__ = __mod__

    # --- comparisons --------------------------------------------------------------------------------------------

    def _compared(self, other: Any, judge: Callable[[Poly, Poly], Poly]) -> Any:
        result = self._combined(other, judge)
        if result is NotImplemented:
            raise Unsupported(f"a comparison with {type(other).__name__}")
        result.boolean = True
        return result

    def __gt__(self, other: Any) -> Any:
        return self._compared(other, lambda a, b: positive(a - b))

    def __lt__(self, other: Any) -> Any:
        return self._compared(other, lambda a, b: positive(b - a))

    def __ge__(self, other: Any) -> Any:
        return self._compared(other, lambda a, b: a.space.number(1) - positive(b - a))

    def __le__(self, other: Any) -> Any:
        return self._compared(other, lambda a, b: a.space.number(1) - positive(a - b))

    def __eq__(self, other: object) -> Any:
        return self._compared(other, lambda a, b: zero(a - b))

    def __ne__(self, other: object) -> Any:
        return self._compared(other, lambda a, b: a.space.number(1) - zero(a - b))

    def _logical(self, other: Any, combine: Callable[[Poly, Poly], Poly]) -> Any:
        other = _array(other, self.space)
        if not (self.boolean and other.boolean):
            raise Unsupported("&, | or ^ on what is no mask")
        result = self._combined(other, combine)
        result.boolean = True
        return result

    def __and__(self, other: Any) -> Any:
        return self._logical(other, lambda a, b: a * b)

    def __or__(self, other: Any) -> Any:
        return self._logical(other, lambda a, b: a + b - a * b)

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> Symbolic:
        if not self.boolean:
            raise Unsupported("~ on what is no mask")
        return self.map(lambda p: p.space.number(1) - p, boolean=True)

    # --- changes in place ---------------------------------------------------------------------------------------

    def write(self, value: Any) -> None:
        """Put a value of the same or a smaller shape in the place of the entries."""
        value = _array(value, self.space)
        if (value._buffer, value.axes, value._fixed) == (self._buffer, self.axes, self._fixed):
            return
        self._buffer.store(self._fitting(value), self._fixed)

    def _fitting(self, value: Symbolic) -> Poly:
        """Return the entries of a value at the indices of this array, which is to be changed."""
        if self._buffer.whole:
            raise Unsupported("a change in place of an array of whole numbers")
        if self._buffer.settled or (value._buffer.settled and value._buffer is not self._buffer):
            raise Unsupported("a change in place of an array that may share its memory with another")
        if self.boolean and not value.boolean:
            raise Unsupported("numbers written into a mask")
        _, poly, axes = broadcast(Symbolic.of(self.space.number(0), self.axes), value)
        if axes != self.axes:
            raise ValueError(
                f"could not broadcast input array from shape {told(value.shape)} into shape {told(self.shape)}"
            )
        return poly

    def add(self, value: Any, sign: int = 1) -> Symbolic:
        """Add to the entries in place; those of a single entry as well, which `+=` would bind anew."""
        value = _array(value, self.space)
        if self.boolean:
            raise Unsupported("a sum of masks in a loop")
        self._buffer.add(lambda: self._fitting(value) * sign, self._fixed)
        return self

    def _in_place(self, result: Any) -> Symbolic:
        if result is NotImplemented:
            return result
        if not self.axes:  # a number: the name is bound anew, as in NumPy
            if self.changes:
                raise Unsupported("a change in place of an array without axes")
            return result
        if _dims(result) != _dims(self):
            raise ValueError(f"non-broadcastable output operand with shape {told(self.shape)}")
        self.write(result)
        return self

    def __iadd__(self, other: Any) -> Symbolic:
        return self.add(other) if self._is_summed() else self._in_place(self + other)

    def __isub__(self, other: Any) -> Symbolic:
        return self.add(other, -1) if self._is_summed() else self._in_place(self - other)

    def _is_summed(self) -> bool:
        return bool(self.axes) and any(frame.is_older(self._buffer) for frame in self.space.loops)

    def __imul__(self, other: Any) -> Symbolic:
        return self._in_place(self * other)

    def __itruediv__(self, other: Any) -> Symbolic:
        return self._in_place(self / other)

    def __ipow__(self, other: Any) -> Symbolic:
        return self._in_place(self**other)

    def fill(self, value: Any) -> None:
        self.write(value)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, Symbolic):
            if not key.boolean or _dims(key) != _dims(self):
                raise Unsupported("an assignment to chosen entries by something that is no mask of the same shape")
            if isinstance(value, _Chosen):
                if value.mask.axes != key.axes or (value.mask.poly - key.poly).normal():
                    raise Unsupported("entries under one mask assigned to entries under another")
                value = value.array
            else:
                value = _array(value, self.space)
                if value.axes:
                    raise Unsupported("an assignment of an array to the entries under a mask")
            self.write(where(key, value, self))
        elif (one_hot := self._picked(key)) is not None:
            self.write(where(one_hot, _column(_array(value, self.space)), self))
        else:
            entries, mask = self._at(key)
            entries.write(value if mask is None else where(mask, value, entries))

    def add_at(self, key: Any, value: Any, sign: int = 1) -> None:
        """Add to the entries at an index of a loop."""
        entries, mask = self._at(key)
        entries.add(value if mask is None else mask * value, sign)

    # --- other shapes -------------------------------------------------------------------------------------------

    def _picked(self, key: Any) -> Symbolic | None:
        """Return the mask of the entries [row, label of the row], if that is what the key means."""
        if not isinstance(key, tuple) or len(listed(key)) != 2:
            return None
        rows, labels = listed(key)
        if not isinstance(labels, Labels):
            return None
        if not (isinstance(rows, Counting) and self.ndim == 2 and rows.size == self.shape[0]):
            raise Unsupported("this choice of entries by labels")
        return self.mask_of(labels)

    def mask_of(self, labels: Labels) -> Symbolic:
        """Return the mask of the entries [row, label of the row]."""
        if _dims(self) != ((labels.dim,), (labels.classes,)):
            raise Unsupported("this choice of entries by labels")
        return Symbolic.of(labels.picked(self.axes[0][0], self.axes[1][0]), self.axes, boolean=True)

    def __getitem__(self, key: Any) -> Symbolic:
        one_hot = self._picked(key)
        if one_hot is not None:
            return (self * one_hot).sum(axis=1)
        if isinstance(key, Symbolic):
            return cast(Any, _Chosen(self, key))
        entries, mask = self._at(key)
        if mask is not None:
            (axis,) = (k for k, indices in enumerate(mask.axes) if indices)
            return (entries * mask).sum(axis)
        if not entries.axes and (self.axes or key != ()):  # a number, which changes no more
            if any(k is Ellipsis for k in listed(key)):
                raise Unsupported("a view of one entry")
            return entries.copy()
        return entries

    def _at(self, key: Any) -> tuple[Symbolic, Symbolic | None]:
        """Return a view of the entries meant, and which of a row is meant if a label says so."""
        keys = listed(key)
        if any(k is Ellipsis for k in keys):
            at = next(i for i, k in enumerate(keys) if k is Ellipsis)
            missing = self.ndim - sum(k is not None and k is not Ellipsis for k in keys)
            keys[at : at + 1] = [slice(None)] * missing
        axes: list[tuple[int, ...]] = []
        fixed: dict[int, int] = dict(self._fixed)
        label: tuple[Label, int] | None = None
        waiting = list(self.axes)
        for k in keys:
            if k is None:
                axes.append(())
                continue
            if not waiting:
                raise IndexError("too many indices for array")
            axis = waiting.pop(0)
            if isinstance(k, slice) and k == slice(None):
                axes.append(axis)
            elif isinstance(k, Index):
                fixed.update(zip(axis, k.on(axis), strict=True))
            elif isinstance(k, Label) and len(axis) == 1 and label is None:
                label = k, len(axes)
                axes.append(axis)
            elif isinstance(k, (int, np.integer)) and k in (0, -1) and not axis:
                continue
            elif isinstance(k, Opaque):
                k.refuse()
            else:
                raise Unsupported(f"the index {told(k)} on an axis whose length is a symbol")
        axes += waiting
        entries = Symbolic(self._buffer, tuple(axes), self.boolean, fixed)
        if label is None:
            return entries, None
        ((column,), place) = axes[label[1]], label[1]
        picked = tuple((column,) if n == place else () for n in range(len(axes)))
        return entries, Symbolic.of(label[0].is_column(column), picked, boolean=True)

    def transpose(self, *order: Any) -> Symbolic:
        if len(order) == 1:
            order = () if order[0] is None else tuple(listed(order[0]))
        if not order:
            return self.arranged(self.axes[::-1])
        if sorted(i % self.ndim for i in order) != list(range(self.ndim)):
            raise ValueError("axes don't match array")
        return self.arranged(tuple(self.axes[int(i)] for i in order))

    def swapaxes(self, a: int, b: int) -> Symbolic:
        axes = list(self.axes)
        axes[a], axes[b] = axes[b], axes[a]
        return self.arranged(tuple(axes))

    def squeeze(self, axis: Any = None) -> Symbolic:
        chosen = self._which(axis) if axis is not None else [k for k, a in enumerate(self.axes) if not a]
        if axis is None:
            for indices in filter(None, self.axes):  # else it would go as well
                self.space.assume("{} > 1", _length(self.space, indices).poly)
        if any(self.axes[k] for k in chosen):
            raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
        return self.arranged(tuple(a for k, a in enumerate(self.axes) if k not in chosen))

    def reshape(self, *shape: Any, order: str = "C") -> Symbolic:
        if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
            shape = tuple(cast("Sequence[Any]", shape[0]))
        if order != "C":
            raise Unsupported(f"reshape with order={order!r}")
        flat = tuple(i for axis in self.axes for i in axis)
        axes = _grouped(self.space, flat, shape)
        if self.in_order:
            return self.arranged(axes)
        copy = Symbolic.of(self.poly, axes, boolean=self.boolean)
        if flat != tuple(i for axis in axes for i in axis) or self.ndim > 1:
            copy.settle(self)  # NumPy copies or not, as memory happens to lie
        return copy

    def ravel(self, order: str = "C") -> Symbolic:
        return self.reshape(-1, order=order)

    def flatten(self, order: str = "C") -> Symbolic:
        return self.copy().reshape(-1, order=order).copy()

    # --- reductions ---------------------------------------------------------------------------------------------

    def _which(self, axis: Any) -> list[int]:
        if axis is None:
            return list(range(self.ndim))
        chosen = listed(axis)
        if not all(isinstance(a, (int, np.integer)) for a in chosen):
            raise Unsupported(f"axis={told(axis)}")
        if any(not -self.ndim <= a < self.ndim for a in chosen):
            raise np.exceptions.AxisError(f"axis {axis} is out of bounds for array of dimension {self.ndim}")
        return [int(a) % self.ndim for a in chosen]

    def _reduced(self, axis: Any, keepdims: Any, reduce: Callable[[Poly, list[int]], Poly]) -> Symbolic:
        chosen = self._which(axis)
        gone = [i for k in chosen for i in self.axes[k]]
        axes = tuple(() if k in chosen else a for k, a in enumerate(self.axes) if keepdims or k not in chosen)
        return Symbolic.of(reduce(self.poly, gone), axes)

    def sum(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Symbolic:
        check_dtype(dtype)
        return into(out, self._reduced(axis, keepdims, self.space.sum_over).counting(self.whole and dtype is None))

    def mean(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Symbolic:
        check_dtype(dtype)
        return into(out, self.sum(axis, keepdims=keepdims) / self._count(axis))

    def _count(self, axis: Any) -> Any:
        return _length(self.space, tuple(i for k in self._which(axis) for i in self.axes[k]))

    def var(
        self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False
    ) -> Symbolic:
        check_dtype(dtype)
        centred = self - self.mean(axis, keepdims=True)
        return into(out, (centred * centred).sum(axis, keepdims=keepdims) / (self._count(axis) - ddof))

    def std(
        self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False
    ) -> Symbolic:
        return into(out, self.var(axis, dtype, None, ddof, keepdims) ** Fraction(1, 2))

    def max(self, axis: Any = None, out: Any = None, keepdims: Any = False) -> Symbolic:
        return into(out, self._reduced(axis, keepdims, largest))

    def min(self, axis: Any = None, out: Any = None, keepdims: Any = False) -> Symbolic:
        return into(out, -(-self).max(axis, keepdims=keepdims))

    def dot(self, other: Any) -> Any:
        return dot(self, _array(other, self.space))

    def any(self, *_: Any, **__: Any) -> NoReturn:
        raise Unsupported("any() or all() of entries")

    all = any


class _Chosen:
    """The entries under a mask, good for nothing but arithmetic with numbers and being put back under the same mask."""

    __array_ufunc__ = None

    def __init__(self, array: Symbolic, mask: Symbolic) -> None:
        if not mask.boolean or _dims(mask) != _dims(array):
            raise Unsupported("entries chosen by something that is no mask of the same shape")
        _, poly, axes = broadcast(array, mask)
        self.array = array.copy()
        self.mask = Symbolic.of(poly, axes, boolean=True)

    def _with(self, other: Any, combine: Callable[[Any, Any], Any]) -> _Chosen:
        if isinstance(other, _Chosen):
            if other.mask.axes != self.mask.axes or (other.mask.poly - self.mask.poly).normal():
                raise Unsupported("arithmetic between entries under two masks")
            return _Chosen(combine(self.array, other.array), self.mask)
        other = _array(other, self.array.space)
        if other.axes:
            raise Unsupported("arithmetic of the entries under a mask with an array")
        return _Chosen(combine(self.array, other), self.mask)

    def __add__(self, other: Any) -> _Chosen:
        return self._with(other, lambda a, b: a + b)

    def __sub__(self, other: Any) -> _Chosen:
        return self._with(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> _Chosen:
        return self._with(other, lambda a, b: b - a)

    def __mul__(self, other: Any) -> _Chosen:
        return self._with(other, lambda a, b: a * b)

    def __truediv__(self, other: Any) -> _Chosen:
        return self._with(other, lambda a, b: a / b)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> _Chosen:
        return self * -1

    def __getattr__(self, name: str) -> NoReturn:
        raise Unsupported("the entries under a mask, whose number is not known")


# --- what every function shares -------------------------------------------------------------------------------------


def listed(value: Any) -> list[Any]:
    """Return what a tuple or a list holds; anything else alone."""
    return list(cast("Sequence[Any]", value)) if isinstance(value, (tuple, list)) else [value]


def told(value: Any) -> str:
    """Return what a message says of a size, a shape or an index."""
    if isinstance(value, Size):
        return value.told()
    if isinstance(value, Symbolic):
        return "an array"
    if isinstance(value, slice):
        ends = cast("slice[Any, Any, Any]", value)
        return f"slice({told(ends.start)}, {told(ends.stop)}, {told(ends.step)})"
    if isinstance(value, (tuple, list)):
        parts = listed(value)
        return f"({', '.join(map(told, parts))}{',' * (len(parts) == 1)})"
    return repr(value)


def _length(space: Space, axis: Sequence[int]) -> Any:
    if not axis:
        return 1
    poly = space.number(1)
    for i in axis:
        poly = poly * space.symbol(space.dims[i], positive=True)
    return Size(poly)


def _dims(array: Symbolic) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(array.space.dims[i] for i in axis) for axis in array.axes)


def lift(value: Any, space: Space) -> Symbolic | None:
    """Return a number, a size or an array as an array; None for anything else."""
    if isinstance(value, Symbolic):
        return value
    if isinstance(value, Size):
        return value.number()
    if isinstance(value, np.ndarray) and not cast("Any", value).ndim:
        value = cast("Any", value)[()]
    if isinstance(value, (bool, np.bool_)):
        return Symbolic.of(space.number(int(cast("Any", value))), (), boolean=True)
    if isinstance(value, (int, np.integer)):
        return Symbolic.scalar(space.number(int(cast("Any", value))))
    if isinstance(value, Fraction):
        return Symbolic.scalar(space.number(value))
    if isinstance(value, (float, np.floating)):
        number = float(cast("Any", value))
        if not np.isfinite(number):
            raise Unsupported(f"the number {number}")
        space.literals[number] = simplest(number)
        return Symbolic.scalar(space.number(simplest(number)))
    return None


def _array(value: Any, space: Space) -> Symbolic:
    lifted = lift(value, space)
    if lifted is None:
        if isinstance(value, Opaque):
            value.refuse()
        raise Unsupported(f"arithmetic of symbols with {type(value).__name__}")
    return lifted


def check_dtype(dtype: Any, boolean: bool = False) -> None:
    """Refuse a type in which numbers would not stay what they are."""
    dtype = getattr(dtype, "stands_for", dtype)
    if dtype is None:
        return
    kind = np.dtype(dtype)
    if kind.kind not in ("fiub" if boolean else "f") or (kind.kind == "f" and kind.itemsize < np.dtype("f4").itemsize):
        raise Unsupported(f"dtype={dtype!r}")


def into(out: Any, result: Symbolic) -> Symbolic:
    """Return a result, written into `out=` if that was given."""
    if isinstance(out, tuple):
        (out,) = listed(out)
    if out is None:
        return result
    if not isinstance(out, Symbolic) or _dims(out) != _dims(result):
        raise Unsupported("out= of another shape")
    out.write(result)
    return out


def broadcast(a: Symbolic, b: Symbolic) -> tuple[Poly, Poly, Axes]:
    """Return the entries of both at common indices, those of `a` where it has them, and the axes of the result."""
    space = a.space
    n = max(a.ndim, b.ndim)
    left = ((),) * (n - a.ndim) + a.axes
    right = ((),) * (n - b.ndim) + b.axes
    renaming: dict[int, int] = {}
    axes: list[tuple[int, ...]] = []
    taken = {i for axis in left for i in axis}
    for one, other in zip(left, right, strict=True):
        if one and other:
            if [space.dims[i] for i in one] != [space.dims[i] for i in other]:
                if sorted(space.dims[i] for i in one) == sorted(space.dims[i] for i in other):
                    raise Unsupported("two axes put together from the same ones in another order")
                raise ValueError(
                    f"operands could not be broadcast together with shapes {told(a.shape)} {told(b.shape)}"
                )
            renaming.update(zip(other, one, strict=True))
            axes.append(one)
        else:
            for i in other:
                renaming[i] = space.index(space.dims[i]) if i in taken else i
            axes.append(one or tuple(renaming[i] for i in other))
    return a.poly, b.poly.renamed(renaming), tuple(axes)


def where(condition: Any, chosen: Any, otherwise: Any) -> Symbolic:
    """Return `chosen` where the mask is true, else `otherwise`."""
    space = next(v.space for v in (condition, chosen, otherwise) if isinstance(v, Symbolic))
    mask = _array(condition, space)
    if not mask.boolean:
        raise Unsupported("np.where by something that is no mask")
    if mask.poly.constant is not None:  # NaN * 0 does not come from what is not chosen
        picked, other = (chosen, otherwise) if mask.poly.constant else (otherwise, chosen)
        _, poly, axes = broadcast(_array(other, space) * 0 + mask * 0, _array(picked, space))
        return Symbolic.of(poly, axes)
    chosen, otherwise = _array(chosen, space), _array(otherwise, space)
    result = otherwise.numeric() + mask * (chosen.numeric() - otherwise.numeric())
    result.boolean = chosen.boolean and otherwise.boolean
    return result


def _column(value: Symbolic) -> Symbolic:
    return value[:, None] if value.ndim == 1 else value


def _grouped(space: Space, flat: tuple[int, ...], shape: Sequence[Any]) -> Axes:
    """Cut a row of indices into axes of the lengths asked for."""
    unknown = [k for k, n in enumerate(shape) if isinstance(n, (int, np.integer)) and n == -1]
    if len(unknown) > 1:
        raise ValueError("can only specify one unknown dimension")

    def cut(lengths: Sequence[Any], indices: tuple[int, ...]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
        axes: list[tuple[int, ...]] = []
        for n in lengths:
            wanted = n.poly if isinstance(n, Size) else space.number(int(n))
            taken: tuple[int, ...] = ()
            while _poly_of(space, taken) != wanted:
                if not indices:
                    raise Unsupported(f"reshape to {told(tuple(shape))}: these axes cannot be cut so for all sizes")
                taken, indices = (*taken, indices[0]), indices[1:]
            axes.append(taken)
        return axes, indices

    if not unknown:
        axes, left = cut(shape, flat)
        if left:
            raise Unsupported(f"reshape to {told(tuple(shape))}: these axes cannot be cut so for all sizes")
        return tuple(axes)
    first, left = cut(shape[: unknown[0]], flat)
    last, middle = cut(shape[unknown[0] + 1 :][::-1], left[::-1])
    return (*first, middle[::-1], *(axis[::-1] for axis in last[::-1]))


def _poly_of(space: Space, axis: Sequence[int]) -> Poly:
    length = _length(space, axis)
    return length.poly if isinstance(length, Size) else space.number(1)


def contracted(a: Symbolic, b: Symbolic, pairs: Sequence[tuple[int, int]]) -> tuple[Poly, Axes, Axes]:
    """Return the product summed over pairs of axes, and the axes left of each."""
    space = a.space
    fresh = {i: space.index(space.dims[i]) for axis in b.axes for i in axis}
    for left, right in pairs:
        one, other = a.axes[left], b.axes[right]
        if [space.dims[i] for i in one] != [space.dims[i] for i in other]:
            raise ValueError(f"shapes {told(a.shape)} and {told(b.shape)} not aligned")
        fresh.update(zip(other, one, strict=True))
    total = a.poly * b.poly.renamed(fresh)
    gone = [i for left, _ in pairs for i in a.axes[left]]
    kept_a = tuple(axis for k, axis in enumerate(a.axes) if k not in {left for left, _ in pairs})
    kept_b = tuple(
        tuple(fresh[i] for i in axis) for k, axis in enumerate(b.axes) if k not in {right for _, right in pairs}
    )
    return space.sum_over(total, gone), kept_a, kept_b


def dot(a: Symbolic, b: Symbolic) -> Symbolic:
    """Return `np.dot`."""
    if not a.ndim or not b.ndim:
        return a * b
    poly, left, right = contracted(a, b, [(a.ndim - 1, max(b.ndim - 2, 0))])
    return Symbolic.of(poly, left + right)


def matmul(a: Symbolic, b: Symbolic) -> Symbolic:
    """Return `a @ b`."""
    if not a.ndim or not b.ndim:
        raise ValueError("matmul: Input operand does not have enough dimensions")
    if b.ndim > 2:
        raise Unsupported("matmul of stacks of matrices")
    return dot(a, b)


def positive(poly: Poly) -> Poly:
    """Return 1 where poly > 0, else 0. What is not 0 for all inputs is taken to be 0 nowhere, and that is recorded."""
    return _by_masks(poly.split()[0].normal(), _positive, frozenset())


def zero(poly: Poly) -> Poly:
    """Return 1 where poly is 0, else 0, with the same understanding."""
    return _by_masks(poly.split()[0].normal(), _zero, frozenset())


def _by_masks(value: Poly, judge: Callable[[Poly], Poly], done: frozenset[Any]) -> Poly:
    """Judge a polynomial for every value of the masks in it: between them it is 0 only on a set of measure 0."""
    space = value.space
    for mask in _masks_in(value):
        if mask not in done:
            chosen = space.collect([(mask, 1)])
            inside = value * chosen
            here = Poly(space, {tuple((f, p) for f, p in m if f != mask): c for m, c in inside.terms.items()})
            elsewhere = Poly(space, {m: c for m, c in value.terms.items() if mask not in dict(m)})
            yes, no = (_by_masks(part.normal(), judge, done | {mask}) for part in (here, elsewhere))
            return chosen * yes + (space.number(1) - chosen) * no
    return judge(value)


def _masks_in(value: Poly) -> list[Any]:
    """Return the factors that are 0 or 1 at the entry judged, and those that are hidden in a pick from its row."""
    space = value.space
    found: set[Any] = set()
    for factor in {f for m in value.terms for f, _ in m}:
        for inner in entries(factor) if factor[0] != "s" else [factor]:
            named = space.named.get(inner[1])
            if named is not None and named.kind == "max":
                raise Unsupported("a comparison with a maximum")
            if inner[1] not in space.idempotent:
                continue
            if factor[0] != "S":
                found.add(factor)
            elif space.picks(factor) is None:
                raise Unsupported("a comparison of a sum of masks")
            else:
                dims = [space.dims[i] if i >= 0 else factor[1][-i - 1] for i in inner[2]]
                for i in value.free_indices():
                    if all(k >= 0 or space.dims[i] == dim for k, dim in zip(inner[2], dims, strict=True)):
                        found.add(entry(inner[1], [k if k >= 0 else i for k in inner[2]]))
    return sorted(found)


def _positive(value: Poly) -> Poly:
    space = value.space
    if not value.terms:
        return space.number(0)
    least = {f: min(dict(m).get(f, 0) for m in value.terms) for m in value.terms for f, _ in m if space.is_positive(f)}
    value = value * space.collect([(f, -p) for f, p in least.items() if p])
    first = max(value.terms)
    sign = value.terms[first]
    value = value * (1 / abs(sign))
    if all(space.is_positive(f) or p % 2 == 0 for m in value.terms for f, p in m):
        if all(c > 0 for c in value.terms.values()):
            return space.number(1)
        if all(c < 0 for c in value.terms.values()):
            return space.number(0)
    if sign < 0:
        return space.number(1) - _indicator(-value)
    return _indicator(value)


def _zero(value: Poly) -> Poly:
    if value.terms and value.constant is None:
        _differs_somewhere(value)
        value.space.assume("{} is nowhere exactly 0", value)
    return value.space.number(int(not value.terms))


def _differs_somewhere(value: Poly) -> None:
    """Refuse a comparison of sizes: these are whole numbers, so that two may be equal anywhere."""
    if value.names() <= set(value.space.dims.values()):
        raise Unsupported("a comparison of sizes")


def _indicator(value: Poly) -> Poly:
    space = value.space
    _differs_somewhere(value)
    known = len(space.named)
    mask = space.name("positive", value)
    if len(space.named) > known:
        name = next(reversed(space.named))
        space.idempotent.add(name)
        space.assume("{} is nowhere exactly 0", value)
    return mask


def largest(poly: Poly, indices: Sequence[int]) -> Poly:
    """Return the maximum over these indices; its derivative is that of the entry at which it is taken."""
    space = poly.space
    value, derivative = poly.split()
    value = value.normal()
    if not indices or not set(indices) & value.free_indices():
        return poly
    gone = [i for i in indices if i in value.free_indices()]
    result = space.name("max", value, gone)
    known = len(space.named)
    at = space.name("argmax", value, gone, within=True)
    if len(space.named) > known:
        name = next(reversed(space.named))
        order = space.named[name].indices
        space.one_hot(name, [space.dims[i] for i in order], [order.index(i) for i in gone])
        space.assume("a maximum is taken at one entry only")
    return result + space.sum_over(at * derivative, gone) * space.symbol("$e") if derivative else result


def exp(poly: Poly) -> Poly:
    """Return e^poly, as a product over the terms of poly."""

    def value(p: Poly) -> Poly:
        space = p.space
        result = space.number(1)
        for monomial, coefficient in p.normal().terms.items():
            if not monomial:
                base = space.symbol("$exp(1)", positive=True)
            elif (inverse := _undone(space, monomial, "log")) is not None:
                result = result * inverse.power(coefficient)
                continue
            else:
                base = space.name("exp", Poly(space, {monomial: Fraction(1)}))
            ((((factor, _),), _),) = base.terms.items()
            space.positive.add(factor[:2])
            power = int(coefficient) if coefficient.denominator == 1 else coefficient
            result = result * space.collect([(factor, power)])
        return result

    return poly.along(value, value)


def log(poly: Poly) -> Poly:
    """Return the natural logarithm, of a product as a sum."""

    def value(p: Poly) -> Poly:
        space = p.space
        p = p.normal()
        if not p.terms:
            raise ZeroDivisionError("the logarithm of 0")
        if len(p.terms) > 1:
            content = p.content(root=True)
            t = space.named_power(p * content.power(Fraction(-1)))
            return value(content) + _log_of_name(t)
        ((monomial, coefficient),) = p.terms.items()
        if coefficient <= 0:
            raise Unsupported("the logarithm of a negative number")
        result = space.number(0)
        if coefficient != 1:
            result = space.symbol(f"$log({coefficient})")
        for factor, power in monomial:
            inverse = _undone(space, ((factor, 1),), "exp")
            picked = space.picks(factor)
            if inverse is not None:
                term = inverse
            elif picked is not None:
                mask, inner, indices = picked
                term = space.sum_over(mask * log(inner), indices)
            elif factor == ("s", "$exp(1)"):
                term = space.number(1)
            else:
                alone = Poly(space, {((factor, 1),): Fraction(1)})
                term = _log_of_name(space.named_power(alone) if factor[0] == "S" else alone)
            result = result + term * Fraction(power)
        return result

    return poly.along(value, lambda p: p.power(Fraction(-1)))


def _log_of_name(name: Poly) -> Poly:
    space = name.space
    ((((factor, _),), _),) = name.terms.items()
    space.take_positive(factor)
    return space.name("log", name)


def _undone(space: Space, monomial: Any, kind: str) -> Poly | None:
    """Return a if the monomial is the name of exp(a), or of log(a)."""
    if len(monomial) != 1 or monomial[0][1] != 1 or monomial[0][0][0] == "S":
        return None
    factor = monomial[0][0]
    named = space.named.get(factor[1])
    if named is None or named.kind != kind:
        return None
    return named.poly.renamed(dict(zip(named.indices, factor[2] if factor[0] == "e" else (), strict=True)))


def tanh(poly: Poly) -> Poly:
    """Return the hyperbolic tangent."""

    def value(p: Poly) -> Poly:
        p = p.normal()
        if not p.terms:
            return p
        sign = 1 if p.terms[max(p.terms)] > 0 else -1
        return p.space.name("tanh", p * sign) * sign

    return poly.along(value, lambda p: p.space.number(1) - value(p) * value(p))
