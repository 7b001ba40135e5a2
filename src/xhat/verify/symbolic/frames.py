"""What a loop over an axis of any size does to memory: its body runs once, for an index that stands for all.

This is right where the iterations do not see one another. Of every array that was there before the loop, an iteration
may therefore read anything, as long as none writes to it; or read and write its own entries, those at the loop's index;
or add to it, and not look at it. All else is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeVar

from xhat.verify.problem import Unsupported
from xhat.verify.symbolic.algebra import Poly, Space

clock = itertools.count()
"""Tells whether memory is older than a loop."""

_REFUSED = (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "rfloordiv", "mod", "rmod"),
    *("pow", "rpow", "matmul", "rmatmul", "and", "rand", "or", "ror", "xor", "rxor", "lshift", "rshift", "divmod"),
    *("iadd", "isub", "imul", "itruediv", "ifloordiv", "ipow", "imatmul", "iand", "ior", "ixor", "imod"),
    *("neg", "pos", "abs", "invert", "round", "int", "float", "complex", "index", "bool", "len", "iter", "next"),
    *("eq", "ne", "lt", "le", "gt", "ge", "hash", "contains", "getitem", "setitem", "delitem", "call"),
    *("str", "repr", "format", "enter", "exit", "copy", "deepcopy", "reversed"),
)


_NAMES = {"Labels": "labels", "LabelColumn": "labels", "Counting": "np.arange or range", "_Identity": "np.eye"}
T = TypeVar("T")


class Opaque:
    """A value of which the code may know nothing: whatever is done with it is refused."""

    __array_ufunc__ = None

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def refuse(self) -> NoReturn:
        """Raise."""
        raise Unsupported(self.reason)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self.refuse()


def _refusing(self: Opaque, *_: Any, **__: Any) -> NoReturn:
    self.refuse()


for _name in _REFUSED:
    setattr(Opaque, f"__{_name}__", _refusing)


def incomparable(kind: type[T]) -> type[T]:
    """Let a class refuse the operators that it does not define: Python's own `==` would say False, or compare texts."""
    for name in _REFUSED:
        method = f"__{name}__"
        if method not in vars(kind) and name not in ("call", "copy", "deepcopy", "enter", "exit", "next"):
            setattr(kind, method, _refusing_all)
    return kind


def _refusing_all(self: object, *_: Any, **__: Any) -> NoReturn:
    raise Unsupported(f"arithmetic with {_NAMES[type(self).__name__]}, or a question about them")


class Index(Opaque):
    """The number of an iteration, for all iterations at once: it picks entries and does nothing else."""

    def __init__(self, space: Space, length: Poly) -> None:
        super().__init__("arithmetic with the number of an iteration, or a question about it")
        self.space, self.length = space, length
        self.indices: tuple[int, ...] | None = None
        """The indices of the entry; known once an axis is met, which may be two put together."""

    def __eq__(self, other: object) -> Any:
        return other == self if isinstance(other, Opaque) and not isinstance(other, Index) else self.refuse()

    def __ne__(self, other: object) -> Any:
        return other != self if isinstance(other, Opaque) and not isinstance(other, Index) else self.refuse()

    def on(self, axis: tuple[int, ...]) -> tuple[int, ...]:
        """Return the indices that take the place of those of an axis."""
        dims = [self.space.dims[i] for i in axis]
        length = self.space.number(1)
        for dim in dims:
            length = length * self.space.symbol(dim, positive=True)
        if length != self.length:
            raise Unsupported("an axis that is not known to be as long as the loop around it")
        if self.indices is None:
            self.indices = tuple(self.space.index(dim) for dim in dims)
        elif [self.space.dims[i] for i in self.indices] != dims:
            raise Unsupported("one index for two axes put together in different orders")
        return self.indices


class Memory(Protocol):
    """What arrays share."""

    poly: Poly
    born: int


@dataclass
class _Access:
    """What an iteration did to memory that is older than the loop."""

    memory: Memory
    own: frozenset[tuple[int, int]] | None = None  # (slot, index) at which all of it took place
    written: bool = False
    before: Poly | None = None  # what it held, if the loop only adds to it


class Frame:
    """An open loop."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.opened = next(clock)
        self._accesses: dict[int, _Access] = {}

    def is_older(self, memory: Memory) -> bool:
        """Say whether memory was there before the loop."""
        return memory.born < self.opened

    def touch(self, memory: Memory, fixed: Mapping[int, int], *, writes: bool) -> None:
        """Note that entries are read, or written, and refuse what depends on the order of iterations."""
        access = self._access(memory)
        if access.before is not None:
            raise Unsupported("a loop that adds to an array and uses it as well")
        here = frozenset(fixed.items())
        access.own = here if access.own is None else access.own & here
        access.written |= writes
        if access.written and not self._is_own(access.own):
            raise Unsupported("a loop that writes to entries which other iterations read or write")

    def adds(self, memory: Memory, fixed: Mapping[int, int]) -> bool:
        """Note that something is added to entries; say whether they are those of all iterations."""
        if self._is_own(frozenset(fixed.items())):
            self.touch(memory, fixed, writes=True)
            return False
        access = self._access(memory)
        if access.before is None:
            if access.own is not None:
                raise Unsupported("a loop that adds to an array and uses it as well")
            access.before = memory.poly
            memory.poly = memory.poly.space.number(0)
        return True

    def _access(self, memory: Memory) -> _Access:
        return self._accesses.setdefault(id(memory), _Access(memory))

    def _is_own(self, pairs: frozenset[tuple[int, int]]) -> bool:
        indices = self.index.indices
        return indices is not None and {index for _, index in pairs} >= set(indices)

    def sum(self, poly: Poly) -> Poly:
        """Return the sum over all iterations."""
        if self.index.indices is None:
            return poly * self.index.length
        return poly.space.sum_over(poly, self.index.indices)

    def close(self) -> None:
        """Let memory hold what it holds after all iterations."""
        for access in self._accesses.values():
            if access.before is not None:
                access.memory.poly = access.before + self.sum(access.memory.poly)
