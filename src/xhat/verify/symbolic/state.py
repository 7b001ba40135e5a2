"""What functions keep between calls: global names, attributes, lists; as something that can be compared."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any, cast

import numpy as np

from xhat.verify.symbolic.algebra import Space
from xhat.verify.symbolic.arrays import Size, Symbolic

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_OF_THE_IMPORT = {"__builtins__", "__loader__", "__spec__", "__cached__"}  # whoever imported the module hangs on these
_MANY = (list, tuple, set, frozenset)


def kept(objects: Iterable[Any], space: Space) -> Any:
    """Return what objects hold; equal for equal contents, and unequal where that is not known."""
    return _Reader(space).of(list(objects))


class _Reader:
    def __init__(self, space: Space) -> None:
        self._space = space
        self._seen: dict[int, tuple[int, Any]] = {}  # by id, and so kept alive

    def of(self, value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return type(value).__name__, repr(value)
        if isinstance(value, Symbolic):
            return self._symbolic(value)
        if isinstance(value, Size):
            return "size", repr(value)
        if isinstance(value, np.ndarray):
            return "array", repr(cast(Any, value).shape), value.tobytes()
        if id(value) in self._seen:
            return "again", self._seen[id(value)][0]
        self._seen[id(value)] = len(self._seen), value
        if isinstance(value, dict):
            items = cast("dict[Any, Any]", value).items()
            return "dict", tuple((repr(key), self.of(item)) for key, item in items if key not in _OF_THE_IMPORT)
        if isinstance(value, _MANY):
            return type(cast(object, value)).__name__, tuple(self.of(item) for item in cast("list[Any]", value))
        if isinstance(value, types.CellType):
            return "cell", self.of(value.cell_contents) if value != types.CellType() else None
        if isinstance(value, types.ModuleType):
            return "name", value.__name__
        if isinstance(value, type):
            own = cast("dict[str, Any]", {} if value.__module__ == "builtins" else vars(value))
            return "class", value.__qualname__, self.of({k: v for k, v in own.items() if not k.startswith("__")})
        if isinstance(value, staticmethod | classmethod | types.MethodType):
            return "method", self.of(cast(Any, value).__func__)
        if isinstance(value, property):
            return "property", self.of([value.fget, value.fset, value.fdel])
        if isinstance(value, types.FunctionType):
            code = value.__code__
            inside = [value.__dict__, value.__defaults__, value.__kwdefaults__, value.__closure__]
            return "function", code.co_filename, code.co_firstlineno, code.co_qualname, self.of(inside)
        if type(value).__module__.startswith("xhat.verify."):
            return "stand-in", type(value).__name__
        inside = getattr(value, "__dict__", None)
        return ("object", type(value).__name__, self.of(inside)) if type(inside) is dict else ("id", id(value))

    def _symbolic(self, value: Symbolic) -> Any:
        flat = [i for axis in value.axes for i in axis]
        dims = [self._space.dims[i] for i in flat]
        poly = value.poly.normal()
        same = dict(zip(flat, (self._space.place(k, dim) for k, dim in enumerate(dims)), strict=True))
        lengths = tuple(map(len, value.axes))
        return "symbolic", tuple(dims), lengths, frozenset(poly.renamed(same).terms.items()), value.boolean
