"""Loops over axes of any size: `for i in range(N)` runs its body once, for an index that stands for all.

`rewritten` changes a function's syntax tree so that every loop asks at run time what it goes over. If that is an axis,
names that the body binds hold something opaque while it runs: a name that keeps a sum (`total += f(i)`) can be added to
and nothing else, any other is lost with the iteration. Arrays are watched by `frames`. What else outlives an iteration
(lists, attributes, global names, random numbers, functions that are not known) must not be touched in the body.
"""

from __future__ import annotations

import ast
import builtins
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, cast

import numpy as np

from xhat.verify.problem import Unsupported
from xhat.verify.symbolic.algebra import Space
from xhat.verify.symbolic.arrays import Counting, Labels, Size, Symbolic, lift, told
from xhat.verify.symbolic.frames import Frame, Index, Opaque

_NAME = "$loops"
_LOCALS = "$locals"
_SLICE = "$slice"
_ENGINE = __name__.rpartition(".")[0]
_KEEPS = ("get", "items", "keys", "values", "copy", "index", "count", "format", "join", "lower", "upper", "startswith")
_OF_ITS_CLASS = ("__class__", "__dict__", "__doc__", "__module__", "__slots__")
_EMPTY: dict[str, int] = {}
_VIEWS = (type(_EMPTY.items()), type(_EMPTY.keys()), type(_EMPTY.values()))
_PLAIN = cast("tuple[type, ...]", (list, tuple, range, dict, str, set, frozenset, *_VIEWS))
_PURE = (tuple, list, dict, str, bool, slice, isinstance, getattr, hasattr, print, divmod, round, repr)


class Together:
    """`zip` or `enumerate` of arrays."""

    def __init__(self, *parts: Any, unpacked: bool = True) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[Any]:
        raise Unsupported("a loop over the entries of an array")


def zipped(*parts: Any, strict: bool = False) -> Any:
    """Return what stands for `zip`."""
    return Together(*parts) if any(_goes_on_symbols(part) for part in parts) else zip(*parts, strict=strict)


def enumerated(part: Any, start: Any = 0) -> Any:
    """Return what stands for `enumerate`."""
    if not _goes_on_symbols(part):
        return enumerate(part, start)
    if start != 0:
        raise Unsupported("enumerate that does not count from 0")
    return Together(None, part)


def _goes_on_symbols(value: Any) -> bool:
    return isinstance(value, (Counting, Together, Labels, Symbolic, Gathered))


class Gathered(Opaque):
    """`[f(i) for i in range(N)]`, to be made an array or a sum of."""

    def __init__(self, loop: _Loop, value: Any) -> None:
        super().__init__("a list as long as an axis, other than to make an array or a sum of it")
        self._loop, self._value = loop, value

    def stacked(self, space: Space) -> Symbolic:
        """Return the array whose first axis runs over the list."""
        value = self._value.stacked(space) if isinstance(self._value, Gathered) else lift(self._value, space)
        old = self._loop.index.indices
        if value is None or old is None:
            self.refuse()
        new = tuple(space.index(space.dims[i]) for i in old)
        return Symbolic.of(value.poly.renamed(dict(zip(old, new, strict=True))), (new, *value.axes))

    def sum(self, space: Space, start: Any = 0) -> Any:
        """Return the sum of the list."""
        value = self._value.stacked(space) if isinstance(self._value, Gathered) else lift(self._value, space)
        if value is None:
            self.refuse()
        return start + Symbolic.of(self._loop.frame.sum(value.poly), value.axes)


class _Carried(Opaque):
    """A number or an array that a body finds under a name and can only add to."""

    def __init__(self, loop: _Loop, name: str, start: Any, added: Symbolic | None = None) -> None:
        super().__init__(f"{name}, which a loop changes, is used in the loop")
        self.loop, self.name, self.start, self.added = loop, name, start, added

    def _plus(self, other: Any, sign: int) -> Any:
        other = lift(other, self.loop.space)
        if other is None:
            self.refuse()
        start = self.start.copy() if isinstance(self.start, Symbolic) and self.added is None else self.start
        added = other * sign if self.added is None else self.added + other * sign
        return _Carried(self.loop, self.name, start, added)

    def _in_place(self, other: Any, sign: int) -> Any:
        if isinstance(self.start, Symbolic) and (self.start.axes or self.start.changes):
            if self.added is not None or self.start.changes:
                self.refuse()
            self.start.add(other, sign)
            return self
        if isinstance(self.start, _Carried) and self.start.is_array:
            self.start._in_place(other, sign)
            return self
        return self._plus(other, sign)

    @property
    def is_array(self) -> bool:
        start = self.start
        return start.is_array if isinstance(start, _Carried) else isinstance(start, Symbolic) and bool(start.axes)

    def __add__(self, other: Any) -> Any:
        return self._plus(other, 1)

    def __radd__(self, other: Any) -> Any:
        return self._plus(other, 1)

    def __sub__(self, other: Any) -> Any:
        return self._plus(other, -1)

    def __iadd__(self, other: Any) -> Any:
        return self._in_place(other, 1)

    def __isub__(self, other: Any) -> Any:
        return self._in_place(other, -1)

    def settled(self) -> Any:
        """Return what the name holds after the loop."""
        if self.added is None:
            return self.start
        return self.start + Symbolic.of(self.loop.frame.sum(self.added.poly), self.added.axes)


class _Plain:
    """A loop that is none over symbols."""

    symbolic = False

    def __init__(self, iterable: Iterable[Any]) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable)


class _Loop:
    """A loop over an axis, whose body runs once."""

    symbolic = True

    def __init__(self, space: Space, iterable: Any, before: Mapping[str, Any], names: Sequence[str]) -> None:
        self.space = space
        self._before, self._names = before, names
        self.index, self._value = _first(space, iterable)
        self.frame = Frame(self.index)

    def __iter__(self) -> Iterator[Any]:
        self.space.loops.append(self.frame)
        yield self._value

    def start(self) -> list[Any]:
        """Return what the names that the body binds hold at its beginning."""
        return [self._carried(name) for name in self._names]

    def _carried(self, name: str) -> Any:
        value = self._before.get(name)
        number = isinstance(value, (int, float, Fraction, np.number, Size, Symbolic, _Carried))
        if number and not isinstance(value, bool) and not (isinstance(value, Symbolic) and value.boolean):
            return _Carried(self, name, value)
        return Opaque(f"{name} holds what an earlier iteration left")

    def finish(self, after: Mapping[str, Any], target: Sequence[str]) -> list[Any]:
        """Close the loop and return what the names hold after it."""
        self.close()
        return [self._settled(name, after.get(name, Opaque(""))) for name in (*self._names, *target)]

    def close(self) -> None:
        """Close the loop."""
        assert self.space.loops[-1] is self.frame
        self.space.loops.pop()
        self.frame.close()

    def _settled(self, name: str, value: Any) -> Any:
        if isinstance(value, _Carried) and value.loop is self and value.name == name:
            return value.settled()
        if value is None or isinstance(value, (bool, str)):  # the same in all iterations
            return value
        return Opaque(f"{name} holds what the last iteration left")


def _first(space: Space, iterable: Any) -> tuple[Index, Any]:
    """Return the index of a loop, and what its target is bound to."""
    length = _length(iterable)
    if len(length.poly.terms) != 1:
        raise Unsupported(f"a loop over {told(length)} entries, which may be none")
    index = Index(space, length.poly)

    def entry(value: Any) -> Any:
        if isinstance(value, Together):
            return tuple(index if part is None else entry(part) for part in value.parts)
        return index if isinstance(value, Counting) else value[index]

    return index, entry(iterable)


def _length(iterable: Any) -> Size:
    if isinstance(iterable, Together):
        lengths = [_length(part) for part in iterable.parts if part is not None]
        if any(length.poly != lengths[0].poly for length in lengths):
            raise Unsupported("zip of arrays that are not known to be equally long")
        return lengths[0]
    if isinstance(iterable, Counting):
        return iterable.size
    if isinstance(iterable, (Symbolic, Labels)) and iterable.ndim and isinstance(iterable.shape[0], Size):
        return iterable.shape[0]
    raise Unsupported(f"a loop over {type(iterable).__name__}")


class Loops:
    """What the rewritten code calls."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def enter(self, iterable: Any, before: Mapping[str, Any], names: Sequence[str], why: str | None) -> Any:
        """Begin a loop."""
        if not _goes_on_symbols(iterable):
            if self._space.loops and not isinstance(iterable, (*_PLAIN, zip, enumerate)):
                raise Unsupported(f"a loop over {type(iterable).__name__} in a loop over an axis")
            return _Plain(iterable)
        if why is not None:
            raise Unsupported(f"{why} in a loop over an axis")
        stale = next((n for n, v in before.items() if isinstance(v, Iterator) and not isinstance(v, Opaque)), None)
        if stale is not None:
            raise Unsupported(f"a loop over an axis beside {stale}, of which each iteration could take a part")
        return _Loop(self._space, iterable, before, names)

    def gather(self, iterable: Any, run: Callable[[Iterable[Any]], Any]) -> Any:
        """Run a comprehension."""
        if not _goes_on_symbols(iterable):
            return run(iterable)
        loop = _Loop(self._space, iterable, {}, ())
        (value,) = run(loop)
        loop.close()
        return Gathered(loop, value)

    def known(self, function: Any) -> Any:
        """Return a function that is to be called, if it may be."""
        if self._space.loops and not _is_known(function):
            name = getattr(function, "__name__", type(function).__name__)
            raise Unsupported(f"{name}() in a loop over an axis")
        return function

    def store(self, target: Any) -> Any:
        """Return an object whose entry or attribute is to be set, if it may be."""
        if self._space.loops and not isinstance(target, Symbolic):
            if isinstance(target, Opaque):
                target.refuse()
            raise Unsupported(f"a change of a {type(target).__name__} in a loop over an axis")
        return target

    def asked(self, value: Any) -> Any:
        """Return a value that is asked what it is, if it is no symbol."""
        if isinstance(value, (Symbolic, Size, Labels, Counting, Opaque)):
            raise Unsupported("a question about what a value is made of")
        return value

    def place(self, target: Any, key: Any) -> _Place:
        """Return the entry that is to be added to."""
        return _Place(self.store(target), key)

    def seen(self, value: Any) -> Any:
        """Return a value that is compared by identity, if it may be."""
        return value.refuse() if isinstance(value, Opaque) else value

    def same(self, value: Any) -> Any:
        """Return a value that is compared by identity with something other than None, if it may be."""
        if isinstance(value, Size):
            raise Unsupported("a size compared by identity")
        return self.seen(value)

    def outside(self) -> None:
        """Refuse a function that binds names of its surroundings, inside a loop."""
        if self._space.loops:
            raise Unsupported("a function that binds global or outer names, in a loop over an axis")


class _Place:
    """An entry that something is added to."""

    def __init__(self, target: Any, key: Any) -> None:
        self._target, self._key = target, key
        keys = cast("tuple[Any, ...]", key) if isinstance(key, tuple) else (key,)
        self._here = isinstance(target, Symbolic) and any(isinstance(k, Opaque) for k in keys)
        self._held = None if self._here else target[key]

    def add(self, value: Any) -> None:
        if self._here:
            self._target.add_at(self._key, value)
        else:
            self._held += value
            self._target[self._key] = self._held

    def subtract(self, value: Any) -> None:
        if self._here:
            self._target.add_at(self._key, value, -1)
        else:
            self._held -= value
            self._target[self._key] = self._held


def _is_known(function: Any) -> bool:
    """Say whether a call leaves nothing behind but changes of arrays."""
    if isinstance(function, types.MethodType):
        return _is_known(function.__func__)
    if isinstance(function, types.FunctionType):
        return function.__module__.startswith(_ENGINE) or _NAME in function.__code__.co_names
    if isinstance(function, types.BuiltinFunctionType):
        owner: Any = function.__self__
        if isinstance(owner, _PLAIN):
            return function.__name__ in _KEEPS
    if isinstance(function, type) and issubclass(function, BaseException):
        return True
    return any(function is pure for pure in _PURE) or type(cast(Any, function)).__module__.startswith(_ENGINE)


# --- the syntax tree ------------------------------------------------------------------------------------------------


def rewritten(tree: ast.FunctionDef) -> ast.FunctionDef:
    """Return a function whose loops ask what they go over."""
    return cast(ast.FunctionDef, ast.fix_missing_locations(_Rewriter().visit(tree)))


def builtins_of(space: Space) -> Mapping[str, Any]:
    """Return the names that rewritten code uses, and the builtins that stand in for those of its loops."""
    loops = Loops(space)
    return {_NAME: loops, _LOCALS: builtins.locals, _SLICE: slice, "zip": zipped, "enumerate": enumerated}


def _called(method: str, *values: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name(_NAME, ast.Load()), method, ast.Load()), list(values), [])


def _names(names: Iterable[str], context: ast.expr_context) -> ast.Tuple:
    return ast.Tuple([ast.Name(name, context) for name in names], context)


class _Rewriter(ast.NodeTransformer):
    """Rewrites one function and those inside it."""

    def __init__(self) -> None:
        self._loops = 0

    def visit(self, node: ast.AST) -> Any:
        result: Any = super().visit(node)
        for new in cast("list[Any]", result if isinstance(result, list) else [result]):
            if isinstance(new, (ast.stmt, ast.expr)) and isinstance(node, (ast.stmt, ast.expr)):
                _place(new, node)
        return cast(Any, result)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        outer = any(isinstance(inner, (ast.Global, ast.Nonlocal)) for inner in _own(node.body))
        self.generic_visit(node)
        first = int(ast.get_docstring(node) is not None)
        mark = _called("outside") if outer else ast.Name(_NAME, ast.Load())
        node.body.insert(first, ast.Expr(mark))
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        self.generic_visit(node)
        node.body = ast.Subscript(ast.Tuple([ast.Name(_NAME, ast.Load()), node.body], ast.Load()), ast.Constant(1))
        node.body.ctx = ast.Load()
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        return node

    def visit_For(self, node: ast.For) -> list[ast.stmt]:
        target = sorted(_bound([node.target]))
        names = sorted(_bound(node.body) - set(target))
        why = _way_out(node.body)
        self.generic_visit(node)
        self._loops += 1
        loop = f"$loop{self._loops}"

        def of_loop(name: str) -> ast.Attribute:
            return ast.Attribute(ast.Name(loop, ast.Load()), name, ast.Load())

        def local() -> ast.Call:
            return ast.Call(ast.Name(_LOCALS, ast.Load()), [], [])

        def told(words: Sequence[str]) -> ast.Tuple:
            return ast.Tuple([ast.Constant(word) for word in words], ast.Load())

        enter = _called("enter", node.iter, local(), told(names), ast.Constant(why))
        start = ast.Call(of_loop("start"), [], [])
        finish = ast.Call(of_loop("finish"), [local(), told(target)], [])
        node.iter = ast.Name(loop, ast.Load())
        node.body.insert(0, ast.If(of_loop("symbolic"), [ast.Assign([_names(names, ast.Store())], start)], []))
        after = _names([*names, *target], ast.Store())
        node.orelse.insert(0, ast.If(of_loop("symbolic"), [ast.Assign([after], finish)], []))
        begin = ast.Assign([ast.Name(loop, ast.Store())], enter)
        for new in (begin, node.body[0], node.orelse[0]):
            _place(new, node)
        return [begin, node]

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        return self._comprehension(node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        only = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if isinstance(only, ast.GeneratorExp) and isinstance(node.func, ast.Name) and node.func.id in ("sum", "list"):
            node.args[0] = _place(ast.ListComp(only.elt, only.generators), only)
        self.generic_visit(node)
        node.func = _place(_called("known", node.func), node.func)
        return node

    def _comprehension(self, node: ast.ListComp) -> ast.expr:
        walrus = any(isinstance(inner, ast.NamedExpr) for inner in ast.walk(node))
        self.generic_visit(node)
        generator = node.generators[0]
        if walrus or len(node.generators) > 1 or generator.ifs or generator.is_async:
            return node
        iterable, generator.iter = generator.iter, ast.Name("$over", ast.Load())
        only = ast.arguments(
            posonlyargs=[], args=[ast.arg("$over")], kwonlyargs=[], kw_defaults=[], defaults=[], vararg=None, kwarg=None
        )
        return _called("gather", iterable, ast.Lambda(only, node))

    def visit_Subscript(self, node: ast.Subscript) -> ast.Subscript:
        self.generic_visit(node)
        return cast(ast.Subscript, self._stored(node))

    def visit_Attribute(self, node: ast.Attribute) -> ast.Attribute:
        self.generic_visit(node)
        if node.attr in _OF_ITS_CLASS:
            node.value = _place(_called("asked", node.value), node.value)
        return cast(ast.Attribute, self._stored(node))

    def _stored(self, node: ast.Subscript | ast.Attribute) -> ast.Subscript | ast.Attribute:
        if not isinstance(node.ctx, ast.Load):
            node.value = _place(_called("store", node.value), node.value)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        if not isinstance(node.target, ast.Subscript) or not isinstance(node.op, (ast.Add, ast.Sub)):
            self.generic_visit(node)
            return node
        where = _called("place", self.visit(node.target.value), self.visit(_as_value(node.target.slice)))
        method = "add" if isinstance(node.op, ast.Add) else "subtract"
        return ast.Expr(ast.Call(ast.Attribute(where, method, ast.Load()), [self.visit(node.value)], []))

    def visit_Compare(self, node: ast.Compare) -> ast.Compare:
        self.generic_visit(node)
        if any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            sides = [node.left, *node.comparators]
            none = any(isinstance(side, ast.Constant) and side.value is None for side in sides)
            method = "seen" if none and len(sides) == 2 else "same"
            node.left, *node.comparators = [_place(_called(method, side), side) for side in sides]
        return node


def _place(new: Any, old: Any) -> Any:
    """Give new nodes the position of old code: those that have none yet."""
    for inner in ast.walk(new):
        if isinstance(inner, (ast.stmt, ast.expr, ast.arg)) and not hasattr(inner, "lineno"):
            ast.copy_location(inner, old)
    return new


def _as_value(key: ast.expr) -> ast.expr:
    """Return a subscript as something that can be passed on: a:b as slice(a, b)."""
    if isinstance(key, ast.Slice):
        ends = [part or ast.Constant(None) for part in (key.lower, key.upper, key.step)]
        return ast.Call(ast.Name(_SLICE, ast.Load()), ends, [])
    if isinstance(key, ast.Tuple):
        return ast.Tuple([_as_value(part) for part in key.elts], ast.Load())
    return key


def _own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes of a piece of code, without those of functions inside."""
    for node in nodes:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield from _own(ast.iter_child_nodes(node))


def _bound(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names that a piece of code binds."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            found |= _bound([inner.target for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr)])
        elif not isinstance(node, ast.Lambda):
            name = getattr(node, "name", None) or getattr(node, "rest", None)
            if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping)) and name:
                found.add(name)
            found |= _bound(ast.iter_child_nodes(node))
    return found


def _way_out(body: Sequence[ast.stmt], inside: bool = False) -> str | None:
    """Return why not all iterations take place, or not all in a row."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(node, ast.Break) and not inside:
            return "break"
        for kind, word in (
            (ast.Return, "return"),
            (ast.Yield, "yield"),
            (ast.YieldFrom, "yield"),
            (ast.Await, "await"),
        ):
            if isinstance(node, kind):
                return word
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            return "global or nonlocal"
        deeper = inside or isinstance(node, (ast.For, ast.While, ast.AsyncFor))
        found = _way_out(cast("list[ast.stmt]", list(ast.iter_child_nodes(node))), deeper)
        if found is not None:
            return found
    return None
