"""A user's function, run with something else in the place of NumPy.

The function is copied: the same code object, over new globals in which the names that lead to NumPy, to `math` and to
some builtins lead to stand-ins. The functions that it calls are copied likewise, and so on. Neither the function nor
its module is changed.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import collections
import contextlib
import dis
import functools
import inspect
import math
import sys
import textwrap
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from xhat.verify.problem import Unsupported

Transform = Callable[[ast.FunctionDef], ast.FunctionDef]
F = TypeVar("F", bound=Callable[..., Any])

_FUTURES = functools.reduce(int.__or__, (getattr(__future__, n).compiler_flag for n in __future__.all_feature_names))
_BLIND = ("eval", "exec", "compile", "globals")  # they would see names that were not exchanged
_NUMPY_MODULES = ("", "linalg", "random", "fft", "ma", "lib.stride_tricks", "polynomial", "testing", "typing")
_SEEDS = 1 << 40  # above those that code takes, so that no two generators are one
_GUARD = "$guard"
_ENGINES = __name__.rpartition(".")[0]
_LETS_THROUGH = (contextlib.nullcontext, warnings.catch_warnings, np.errstate)
_DATA = (bool, int, float, complex, str, bytes, type(None), type(...), slice, range)


class World(Protocol):
    """What the copied code sees."""

    @property
    def modules(self) -> Mapping[str, Any]:
        """What stands in for a module, by the module's name: "numpy", "math"."""
        ...

    @property
    def builtins(self) -> Mapping[str, Any]:
        """What stands in for a builtin: "float", "range"."""
        ...


class Refused:
    """In the place of something that the world does not model: an error once it is used, and not before."""

    def __init__(self, reason: str) -> None:
        self.__dict__["reason"] = reason

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Raise."""
        raise Unsupported(self.reason)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsupported(self.reason)


class Rebinding:
    """Copies functions into a world, each of them once: functions of one module share the copy of its globals.

    Parameters
    ----------
    world : World
        What stands in for NumPy, `math` and the builtins.
    transform : callable, optional
        Takes and returns the `ast.FunctionDef` of each plain function before it is compiled again, with its file name
        and line numbers. Where the source cannot be had, or is no longer that of the code, the code stays as it is.
    """

    def __init__(self, world: World, transform: Transform | None = None) -> None:
        self._world = world
        self._transform = transform
        self._copies: dict[int, Any] = {}
        self._originals: list[Any] = []  # kept alive, since their ids are the keys
        self._home: str | None = None
        self._builtins = {**vars(builtins), **world.builtins, "__import__": self._import, _GUARD: _Guard()}
        for name in _BLIND:
            self._builtins[name] = Refused(f"{name}() is not modelled")

    @property
    def copies(self) -> list[Any]:
        """All that was copied and can hold something: functions, the globals of modules, lists, objects."""
        return list(self._copies.values())

    def __call__(self, function: F) -> F:
        """Return the copy of a function."""
        if self._home is None:
            self._home = _package(getattr(function, "__module__", None) or "")
        return self._copy(function)

    def _copy(self, value: Any) -> Any:
        """Return what stands for a value; the value itself where nothing in it leads to NumPy or to user code."""
        path = _numpy_path(value)
        if path is not None:
            return self._resolve(path)
        if type(value) in _DATA:
            return value
        if id(value) in self._copies:
            return self._copies[id(value)]
        if isinstance(value, types.FunctionType):
            module = value.__globals__.get("__name__")  # `__module__` may be set; text that is run may have no name
            return self._function(value) if module is None or self._is_user_code(module) else value
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if isinstance(value, type):
            return self._class(value) if self._is_user_code(value.__module__) else value
        return self._object(value)

    def _object(self, value: Any) -> Any:
        if isinstance(value, types.MethodType):
            return types.MethodType(self._copy(value.__func__), self._copy(value.__self__))
        if isinstance(value, functools.partial):
            partial = cast("functools.partial[Any]", value)
            return functools.partial(
                self._copy(partial.func),
                *map(self._copy, partial.args),
                **{k: self._copy(v) for k, v in partial.keywords.items()},
            )
        if isinstance(value, functools._lru_cache_wrapper):  # pyright: ignore[reportPrivateUsage]
            return self._copy(cast(Any, value).__wrapped__)
        if isinstance(value, staticmethod | classmethod | property):
            return self._descriptor(cast(Any, value))
        if isinstance(value, np.random.Generator | np.random.RandomState):
            return self._remember(value, self._resolve("random.default_rng")(_SEEDS + len(self._originals)))
        if type(value) is np.ndarray:
            return self._remember(value, cast(Any, value).copy())
        if type(value) in (list, set, frozenset, tuple):
            items = cast("list[Any]", value)
            if type(value) is not list:
                return self._remember(value, type(value)(map(self._copy, items)))
            copy: list[Any] = self._remember(value, [])
            copy.extend(map(self._copy, items))
            return copy
        make = _named_tuple(type(value))
        if make is not None:  # it may hold functions
            return self._remember(value, make(map(self._copy, value)))
        if type(value) in (dict, collections.defaultdict, collections.OrderedDict):
            mapping = cast("dict[Any, Any]", value)
            fresh = self._remember(mapping, mapping.copy())
            for key, item in mapping.items():
                fresh[key] = self._copy(item)
            return fresh
        return self._instance(value)

    def _instance(self, value: Any) -> Any:
        kind: type = self._copy(type(value))
        if kind is type(value) or type(getattr(value, "__dict__", None)) is not dict:
            return value
        instance = self._remember(value, object.__new__(kind))
        for name, item in cast("dict[str, Any]", vars(value)).items():
            object.__setattr__(instance, name, self._copy(item))
        return instance

    def _remember(self, value: Any, copy: Any) -> Any:
        self._originals.append(value)
        self._copies[id(value)] = copy
        return copy

    def _descriptor(self, value: Any) -> Any:
        if isinstance(value, property):
            return property(*(None if f is None else self._copy(f) for f in (value.fget, value.fset, value.fdel)))
        return type(value)(self._copy(value.__func__))

    def _function(self, function: types.FunctionType) -> Any:
        names = self._globals_of(function)
        code = self._transformed(function)
        if code is None:
            why = f"{function.__name__} goes on after errors, and its source cannot be had"
            return self._remember(function, Refused(why))
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        closure = tuple(self._cell(cells[name]) for name in code.co_freevars)
        copy = self._remember(function, types.FunctionType(code, names, function.__name__, None, closure))
        copy.__module__, copy.__qualname__, copy.__doc__ = function.__module__, function.__qualname__, function.__doc__
        copy.__defaults__ = self._copy(function.__defaults__)
        copy.__kwdefaults__ = self._copy(function.__kwdefaults__)
        for name in _mentioned(code):
            self._fill(names, function.__globals__, name)
        for name, item in vars(function).items():
            copy.__dict__[name] = self._copy(item)
        return copy

    def _globals_of(self, function: types.FunctionType) -> dict[str, Any]:
        source = function.__globals__
        if id(source) not in self._copies:
            own = {name: item for name, item in source.items() if name.startswith("__") and name.endswith("__")}
            self._remember(source, {**own, "__builtins__": self._builtins})
        return self._copies[id(source)]

    def _fill(self, names: dict[str, Any], source: dict[str, Any], name: str) -> None:
        if name not in names and name in source:
            names[name] = None  # a function that calls itself finds its name taken, and then replaced
            names[name] = self._copy(source[name])

    def _cell(self, cell: types.CellType) -> types.CellType:
        if id(cell) not in self._copies:
            try:
                content = cell.cell_contents
            except ValueError:  # a variable that has no value yet
                return cell
            copy = self._remember(cell, types.CellType())  # first: the function in it may be the one that asks
            copy.cell_contents = self._copy(content)
        return self._copies[id(cell)]

    def _class(self, kind: type) -> type:
        if type(kind) is not type or any(base in (BaseException, tuple) for base in kind.__mro__):
            return kind  # enumerations, errors, named tuples: they hold, and do not compute
        hidden = ("__dict__", "__weakref__", "__slots__")
        slots = vars(kind).get("__slots__", ())
        names = {name: item for name, item in vars(kind).items() if name not in (*hidden, *slots)}
        copy = self._remember(kind, type(kind.__name__, tuple(map(self._copy, kind.__bases__)), names))
        for name, item in names.items():
            if not (name.startswith("__") and not callable(item)):
                setattr(copy, name, self._copy(item))
        return copy

    def _module(self, module: types.ModuleType) -> Any:
        name = module.__name__
        if name in self._world.modules:
            return self._world.modules[name]
        if name.split(".")[0] == "numpy":
            return self._resolve(name.removeprefix("numpy."))
        return self._remember(module, _UserModule(module, self._copy)) if self._is_user_code(name) else module

    def _resolve(self, path: str) -> Any:
        stand_in = self._world.modules[path.split(":")[0]] if ":" in path else self._world.modules["numpy"]
        for part in path.split(":")[-1].split("."):
            try:
                stand_in = getattr(stand_in, part)
            except Unsupported as error:
                return Refused(str(error))
        return stand_in

    def _import(
        self,
        name: str,
        names: Mapping[str, object] | None = None,
        local: Mapping[str, object] | None = None,
        fromlist: tuple[str, ...] | None = (),
        level: int = 0,
    ) -> Any:
        return self._copy(__import__(name, names, local, fromlist or (), level))

    def _is_user_code(self, name: str | None) -> bool:
        if not name or _package(name) in sys.stdlib_module_names or _package(name) == "numpy":
            return name == "__main__"
        if _package(name) == self._home:
            return True
        file = getattr(sys.modules.get(name), "__file__", None) or ""
        return "site-packages" not in file and "dist-packages" not in file

    def _transformed(self, function: types.FunctionType) -> types.CodeType | None:
        """Return the code to run; None if it may go on after an error and cannot be guarded."""
        code = function.__code__
        handles = _handles_errors(code)
        transform = self._transform
        if transform is None and not handles:
            return code
        as_it_is = None if handles else code
        try:
            lines, _ = inspect.getsourcelines(code)
            tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
            imports = _imports(ast.parse("".join(inspect.findsource(code)[0])))
        except (OSError, TypeError, SyntaxError, IndexError):
            return as_it_is
        if not isinstance(tree, ast.FunctionDef) or tree.name != code.co_name:
            return as_it_is
        tree.decorator_list = []
        ast.increment_lineno(tree, code.co_firstlineno - 1)
        if (
            _compiled(tree, code, imports).co_code != code.co_code
        ):  # the file was changed, or its import hook changed the code
            return as_it_is
        tree = transform(tree) if transform is not None else tree
        return _compiled(_guarded(tree) if handles else tree, code, imports)


class _Guard:
    """What guarded code calls."""

    def context(self, manager: Any) -> Any:
        """Return what a `with` enters, if it lets errors through."""
        if isinstance(manager, _LETS_THROUGH):
            return cast(Any, manager)
        raise Unsupported(f"with {type(manager).__name__}")

    def handled(self, always: bool = False) -> None:
        """Refuse code that goes on after an error: on numbers there may be none, or another one."""
        error = sys.exc_info()[1]
        step = None if error is None else error.__traceback__
        while step is not None and step.tb_next is not None:
            step = step.tb_next
        place = "" if step is None else step.tb_frame.f_globals.get("__name__", "")
        if always or not isinstance(error, KeyError) or place.startswith(_ENGINES):
            raise Unsupported("code that goes on after an error")


class _Guarding(ast.NodeTransformer):
    """Lets code ask, before it goes on after an error, whether it may."""

    def visit_With(self, node: ast.With) -> ast.With:
        self.generic_visit(node)
        for item in node.items:
            item.context_expr = _asking("context", item.context_expr)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        self.generic_visit(node)
        node.body.insert(0, ast.Expr(_asking("handled")))
        return node

    def visit_Try(self, node: ast.Try) -> ast.Try:
        self.generic_visit(node)
        if any(isinstance(inner, (ast.Return, ast.Break, ast.Continue)) for inner in _own(node.finalbody)):
            node.finalbody.insert(0, ast.Expr(_asking("handled", ast.Constant(True))))
        return node

    def visit_TryStar(self, node: ast.TryStar) -> ast.TryStar:
        return cast(ast.TryStar, self.visit_Try(cast(ast.Try, node)))


def _guarded(tree: ast.FunctionDef) -> ast.FunctionDef:
    return cast(ast.FunctionDef, ast.fix_missing_locations(_Guarding().visit(tree)))


def _asking(method: str, *values: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name(_GUARD, ast.Load()), method, ast.Load()), list(values), [])


def _own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes of a piece of code, without those of functions inside."""
    for node in nodes:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield from _own(ast.iter_child_nodes(node))


def _handles_errors(code: types.CodeType) -> bool:
    """Whether a function, or one inside it, has `except`, `finally` or `with`."""
    return any(step.opname == "PUSH_EXC_INFO" for step in dis.get_instructions(code)) or any(
        _handles_errors(inner) for inner in code.co_consts if isinstance(inner, types.CodeType)
    )


class _UserModule:
    """A module of the user's, whose functions are copied as they are asked for."""

    def __init__(self, module: types.ModuleType, copy: Callable[[Any], Any]) -> None:
        self._module, self._copy = module, copy

    def __getattr__(self, name: str) -> Any:
        value = self._copy(getattr(self._module, name))
        self.__dict__[name] = value
        return value


def rebind(function: F, world: World, transform: Transform | None = None) -> F:
    """Return a copy of a function that sees `world` wherever the original sees NumPy, `math` or a builtin.

    Several functions that share the state of a module are copied by one `Rebinding`.

    Parameters
    ----------
    function : callable
        The user's function. It is not changed, nor is its module.
    world : World
        What the copy sees.
    transform : callable, optional
        As for `Rebinding`.

    Returns
    -------
    callable
        The copy, which is called as the original.

    Examples
    --------
    >>> import types, numpy as np
    >>> class Loud:
    ...     modules = {"numpy": types.SimpleNamespace(sqrt=lambda x: f"the root of {x}")}
    ...     builtins = {}
    >>> def length(x):
    ...     return np.sqrt(x)
    >>> rebind(length, Loud())(9)
    'the root of 9'
    """
    return Rebinding(world, transform)(function)


def line_of(error: BaseException, where: Callable[..., Any] | str) -> int | None:
    """Return the innermost line of the user's file at which an error arose.

    Parameters
    ----------
    error : BaseException
        What was raised.
    where : callable or str
        A function of the user's file, or the name of the file.

    Returns
    -------
    int or None
        Counted from 1; None if the error did not pass through this file.
    """
    while isinstance(where, functools.partial):
        where = cast("functools.partial[Any]", where).func
    file: Any = where if isinstance(where, str) else getattr(getattr(where, "__code__", None), "co_filename", None)
    line: int | None = None
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == file:
            line = step.tb_lineno
        step = step.tb_next
    return line


def _named_tuple(kind: Any) -> Callable[[Any], Any] | None:
    """Return what makes a named tuple of this type out of its items; None if it is another type."""
    return getattr(kind, "_make", None) if tuple in kind.__mro__ else None


def _package(name: str) -> str:
    return name.partition(".")[0]


@functools.cache
def _numpy_names() -> Mapping[int, str]:
    """Return where each object of NumPy and of `math` is found, by its id: "linalg.norm", "math:sqrt"."""
    names: dict[int, str] = {}
    own = {id(value) for value in vars(builtins).values()}
    for part in _NUMPY_MODULES:
        module: Any = functools.reduce(getattr, filter(None, part.split(".")), np)
        for name in dir(module):
            if name.startswith("_"):
                continue
            value = getattr(module, name)
            if isinstance(value, types.ModuleType | str | bool | int | tuple | None) or id(value) in own:
                continue
            known = getattr(value, "__name__", name)  # "float64", of which "double" is another name
            names.setdefault(
                id(value), f"{part}.{known if getattr(module, known, None) is value else name}".lstrip(".")
            )
    for name, value in vars(math).items():
        if not name.startswith("_"):
            names.setdefault(id(value), f"math:{name}")
    return names


def _numpy_path(value: Any) -> str | None:
    try:
        return _numpy_names().get(id(value))
    except TypeError:
        return None


def _mentioned(code: types.CodeType) -> set[str]:
    """Return the names that a function and those inside it may look up among the globals."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _mentioned(constant)
    return names


def _imports(tree: ast.AST) -> list[ast.stmt]:
    """Return the imports of a module: a method of an imported name is called by other instructions."""
    found: list[ast.stmt] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            found += _imports(node)
    return found


def _compiled(tree: ast.FunctionDef, code: types.CodeType, imports: list[ast.stmt]) -> types.CodeType:
    """Return the code of a function; inside another one where it has variables of its surroundings."""
    body: ast.stmt = tree
    if code.co_freevars:
        names = [ast.arg(name) for name in code.co_freevars]
        around = ast.arguments(posonlyargs=[], args=names, kwonlyargs=[], kw_defaults=[], defaults=[])
        body = ast.FunctionDef(name="around", args=around, body=[tree], decorator_list=[])
        cast(Any, body).type_params = []
    module = ast.fix_missing_locations(ast.Module([*imports, body], []))
    found: types.CodeType = compile(module, code.co_filename, "exec", code.co_flags & _FUTURES, dont_inherit=True)
    for _ in range(1 + bool(code.co_freevars)):
        inner = [c for c in found.co_consts if isinstance(c, types.CodeType) and c.co_name in ("around", tree.name)]
        found = inner[0]
    return found
