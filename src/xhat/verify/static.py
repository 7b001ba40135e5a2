"""What is wrong with a pair of functions for certain, seen without running them.

A name that is never defined, a cache of another length, a body that is not written yet. What depends on values is left
to those who run the code; what is only likely is not said.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import difflib
import functools
import importlib.util
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from xhat.verify.report import Finding
from xhat.verify.source import FoundPair, Function, Source, SourceError, declaration, statements

_ALWAYS = frozenset(dir(builtins)) | {
    "__name__", "__file__", "__doc__", "__spec__", "__loader__", "__package__", "__builtins__", "__path__", "__class__",
    "get_ipython", "display", "In", "Out", "_", "__", "___",
}  # fmt: skip
_PYTHON_2 = {"xrange": "range", "raw_input": "input", "unicode": "str", "unichr": "chr", "long": "int"}
_OPENS_NAMES = {"exec", "eval", "globals", "vars", "locals", "setattr", "__import__"}
_CATCHES_NAMES = {"NameError", "UnboundLocalError", "Exception", "BaseException", "AttributeError"}
# Functions of NumPy that only compute, unless they are given more arguments than this: then the last is `out`.
_COMPUTES: dict[str, int] = {
    **dict.fromkeys(["sqrt", "exp", "log", "square", "abs", "zeros_like", "ones_like"], 1),
    **dict.fromkeys(["sum", "mean", "var", "std", "max", "min", "argmax", "dot", "matmul", "outer", "maximum"], 2),
    **dict.fromkeys(["minimum", "multiply", "divide", "add", "subtract", "power", "reshape", "transpose"], 2),
    **dict.fromkeys(["expand_dims", "broadcast_to", "repeat", "tile"], 2),
}


def static_findings(source: Source, pair: FoundPair) -> list[Finding]:
    """Return what is wrong with a pair, and with the functions of the file that it calls, by their lines."""
    findings: list[Finding] = []
    for name in _reached(source, pair):
        function = source.functions[name]
        findings += _names(source, pair, name)
        findings += _useless(source, function)
    forward, backward = (source.functions.get(name or "") for name in (pair.forward, pair.backward))
    for function in _own(source, pair):
        findings += _not_written(function, is_forward=function is not backward and pair.kind != "loss")
    if pair.kind == "class":  # its arguments and its cache are not ours to judge
        return sorted(findings, key=lambda finding: finding.line or 0)
    for function in _own(source, pair):
        findings += _no_return(function)
        findings += _overwritten(function)
        findings += _modified(source, function)
    if forward is not None and backward is not None:
        findings += _cache(source, forward, backward)
        findings += _gradient_order(source, pair, forward, backward)
    return sorted(findings, key=lambda finding: finding.line or 0)


def fixed_names(source: Source, pair: FoundPair) -> list[tuple[ast.expr, str]]:
    """Return each use of a name that is never defined, with the name that is likely meant, where one is near."""
    return [
        (use.node, use.meant)
        for name in _reached(source, pair)
        for use in unknown_names(source, pair, name)
        if use.meant is not None
    ]


def _own(source: Source, pair: FoundPair) -> list[Function]:
    return [source.functions[name] for name in (pair.forward, pair.backward) if name in source.functions]


def _reached(source: Source, pair: FoundPair) -> list[str]:
    """Return the pair's functions, and those of the file that they call, directly or not."""
    reached = [name for name in (pair.forward, pair.backward) if name is not None and name in source.functions]
    for name in reached:
        for node in ast.walk(source.functions[name]):
            if isinstance(node, ast.Name) and node.id in source.functions and node.id not in reached:
                reached.append(node.id)
    return reached


class Use(NamedTuple):
    """A use of a name that has no value there."""

    node: ast.expr
    name: str
    earlier: frozenset[str]  # local names that may have a value there
    local: bool  # it gets a value somewhere else in the function
    meant: str | None = None


def _names(source: Source, pair: FoundPair, name: str) -> Iterator[Finding]:
    seen: set[str] = set()
    for use in unknown_names(source, pair, name):
        if use.name not in seen:
            seen.add(use.name)
            yield Finding("undefined-name", _unknown(source, pair, name, use), use.node.lineno)


def _unknown(source: Source, pair: FoundPair, function: str, use: Use) -> str:
    if isinstance(use.node, ast.Attribute):
        hint = f" Did you mean `{use.meant}`?" if use.meant else " Look it up in NumPy's reference."
        return f"NumPy has no `{use.name.partition('.')[2]}`.{hint}"
    if use.local:
        later = [line for line in _lines_that_store(source.functions[function], use.name) if line > use.node.lineno]
        if later:
            where = source.lines[min(later)]
            return f"`{use.name}` is used here, but gets its value only on {where}. Move that line up."
        return f"`{use.name}` has no value yet when this line uses it. Give it one before."
    if use.meant is not None:
        line = _first_line(source.functions[function], use.meant)
        where = f" ({source.lines[line]})" if line is not None else ""
        return f"`{use.name}` is never defined. Did you mean `{use.meant}`{where}?"
    if use.name in _forwards_names(source, pair, function):
        return (
            f"`{use.name}` is a variable of {pair.forward} and not known here. "
            "Put it in the cache there and take it out here."
        )
    return f"`{use.name}` is never defined. Give it a value before this line."


def _lines_that_store(function: Function, name: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
    ]


def _first_line(function: Function, name: str) -> int | None:
    return function.lineno if name in parameters(function) else min(_lines_that_store(function, name), default=None)


def _forwards_names(source: Source, pair: FoundPair, function: str) -> set[str]:
    """Return the names of the forward pass if the function is its backward pass."""
    if function != pair.backward or pair.forward is None or pair.forward not in source.functions:
        return set()
    return bound_names(source.functions[pair.forward])


@functools.lru_cache(maxsize=64)
def unknown_names(source: Source, pair: FoundPair, name: str) -> tuple[Use, ...]:
    """Return the uses in a function of names that have no value there."""
    module = _module_names(source)
    if module is None:
        return ()
    flow = _Flow(source.functions[name], module.names | _ALWAYS, module.numpy)
    outside = _forwards_names(source, pair, name)
    found: list[Use] = []
    for use in flow.unknown:
        if isinstance(use.node, ast.Attribute):
            found.append(use._replace(meant=_near_numpy(use.node)))
        elif use.local or use.name in outside:
            found.append(use)
        else:
            found.append(use._replace(meant=_PYTHON_2.get(use.name) or _near(use.name, use.earlier, module.names)))
    return tuple(found)


def _near(name: str, local: Iterable[str], module: Iterable[str]) -> str | None:
    """Return the name that is most like this one, local names before those of the module."""
    for names, cutoff in ((sorted(local), 0.6), (sorted(module), 0.75)):
        same = [other for other in names if other.casefold() == name.casefold()]
        near = same or difflib.get_close_matches(name, names, 1, cutoff)
        if near:
            return near[0]
    return None


def _near_numpy(node: ast.Attribute) -> str | None:
    if node.attr in dir(builtins):
        return node.attr
    near = difflib.get_close_matches(node.attr, [name for name in dir(np) if not name.startswith("_")], 1, 0.7)
    alias = node.value.id if isinstance(node.value, ast.Name) else "np"
    return f"{alias}.{near[0]}" if near else None


@functools.cache
def _in_numpy(attribute: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hasattr(np, attribute) or importlib.util.find_spec(f"numpy.{attribute}") is not None


class _Module(NamedTuple):
    names: frozenset[str]
    numpy: frozenset[str]  # the names by which numpy goes


@functools.lru_cache(maxsize=4)
def _module_names(source: Source) -> _Module | None:
    """Return the names of the module, or None where they cannot be known from the text."""
    if not source.complete:
        return None
    names = _bound(source.tree.body)
    numpy: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return None
        if isinstance(node, ast.Name) and node.id in _OPENS_NAMES:
            return None
        if isinstance(node, ast.Global):
            names.update(node.names)
        elif isinstance(node, ast.Import):
            numpy.update(alias.asname or alias.name for alias in node.names if alias.name == "numpy")
    changed = {
        name.id
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Name | ast.Attribute) and not isinstance(node.ctx, ast.Load)
        for name in ast.walk(node)
        if isinstance(name, ast.Name)
    }
    return _Module(frozenset(names), frozenset(numpy - changed))


def _loads(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def parameters(function: Function | ast.Lambda) -> list[str]:
    """Return the names of a function's parameters, those by position first."""
    arguments = function.args
    several = [argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)] + several


def bound_names(function: Function) -> set[str]:
    """Return the names that are local to a function."""
    return _bound(function.body) | set(parameters(function))


def _bound(body: Sequence[ast.AST]) -> set[str]:
    """Return the names that code binds in its own scope."""
    names: set[str] = set()
    elsewhere: set[str] = set()
    todo: list[tuple[ast.AST, bool]] = [(node, False) for node in body]  # with: inside a comprehension?
    while todo:
        node, inside = todo.pop()
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                if not inside:
                    names.add(name)
            case ast.NamedExpr(target=ast.Name(id=name)):
                names.add(name)
                todo.append((node.value, inside))
                continue
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
                todo += [(child, inside) for child in node.decorator_list]
                continue
            case ast.Lambda():
                continue
            case ast.Import() | ast.ImportFrom():
                names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
            case ast.MatchMapping(rest=str(name)):
                names.add(name)
            case ast.Global() | ast.Nonlocal():
                elsewhere.update(node.names)
            case ast.comprehension():
                todo += [(node.target, True), (node.iter, inside), *((test, inside) for test in node.ifs)]
                continue
            case _:
                pass
        todo += [(child, inside) for child in ast.iter_child_nodes(node)]
    return names - elsewhere


@dataclass
class _Flow:
    """A walk through a function in the order of execution, which keeps the names that may have a value by then.

    A use of a local name outside this set fails whichever way the code takes, so that it may be reported.
    """

    function: Function | ast.Lambda
    outer: frozenset[str]
    numpy: frozenset[str]
    unknown: list[Use] = field(default_factory=list[Use])

    def __post_init__(self) -> None:
        body = self.function.body if isinstance(self.function.body, list) else [self.function.body]
        self._local = frozenset(_bound(body) | set(parameters(self.function)))
        self._assigned = set(parameters(self.function))
        self._later: frozenset[str] = frozenset()  # what the loop that we are in assigns in its other rounds
        self._deleted: set[str] = set()
        self._guarded = False  # by an `except` that catches unknown names
        if isinstance(self.function, ast.Lambda):
            self._expression(self.function.body)
        else:
            self._block(self.function.body)

    def _block(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self._statement(statement)
            if isinstance(statement, ast.Return | ast.Raise | ast.Break | ast.Continue):
                return

    def _branches(self, *bodies: Iterable[ast.stmt]) -> None:
        """Walk through bodies of which any may be executed, in the first round of a loop or later."""
        before = self._assigned
        after = set(before)
        for body in bodies:
            body = list(body)
            self._assigned = before | self._later
            self._block(body)
            after |= _bound(body)
        self._assigned = after

    def _loop(self, targets: Sequence[ast.expr], body: list[ast.stmt], orelse: list[ast.stmt]) -> None:
        """Walk through a loop's body as in its first round, which may be a later round of the loop around it."""
        before, later = self._assigned, self._later
        bound = _bound(body) | _bound(targets)
        self._assigned = before | later
        self._later = later | bound
        for target in targets:
            self._expression(target)
        self._block(body)
        self._later = later
        self._assigned = before | bound
        self._block(orelse)

    def _statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                for node in (*statement.decorator_list, *statement.args.defaults, *statement.args.kw_defaults):
                    if node is not None:
                        self._expression(node)
                self._nested(statement)
                self._assigned.add(statement.name)
            case ast.ClassDef():
                self._assigned.add(statement.name)
            case ast.If(test=ast.Constant(value=value)):
                self._block(statement.body if value else statement.orelse)
            case ast.If():
                self._expression(statement.test)
                self._branches(statement.body, statement.orelse)
            case ast.For() | ast.AsyncFor():
                self._expression(statement.iter)
                self._loop([statement.target], statement.body, statement.orelse)
            case ast.While():
                self._expression(statement.test)
                self._loop([], statement.body, statement.orelse)
            case ast.With() | ast.AsyncWith():
                for item in statement.items:
                    self._expression(item.context_expr)
                    if item.optional_vars is not None:
                        self._expression(item.optional_vars)
                self._block(statement.body)
            case ast.Try() | ast.TryStar():
                self._try(statement)
            case ast.Match():
                self._expression(statement.subject)
                self._assigned |= _bound([case.pattern for case in statement.cases])
                for case in statement.cases:
                    if case.guard is not None:
                        self._expression(case.guard)
                self._branches(*(case.body for case in statement.cases))
            case ast.Assign():
                self._expression(statement.value)
                for target in statement.targets:
                    self._expression(target)
            case ast.AnnAssign():
                if statement.value is not None:
                    self._expression(statement.value)
                    self._expression(statement.target)
            case ast.AugAssign():
                if isinstance(statement.target, ast.Name):
                    self._name(statement.target)
                self._expression(statement.value)
                self._expression(statement.target)
            case ast.Delete():
                for target in statement.targets:
                    if isinstance(target, ast.Name):
                        self._deleted.add(target.id)
            case ast.Import() | ast.ImportFrom():
                self._assigned |= _bound([statement])
            case _:
                for child in ast.iter_child_nodes(statement):
                    if isinstance(child, ast.expr):
                        self._expression(child)

    def _try(self, statement: ast.Try | ast.TryStar) -> None:
        guarded = self._guarded
        self._guarded = guarded or any(_catches_names(handler) for handler in statement.handlers)
        self._block(statement.body)
        self._guarded = guarded
        self._assigned |= _bound(statement.body) | {handler.name for handler in statement.handlers if handler.name}
        self._branches(statement.orelse, *(handler.body for handler in statement.handlers))
        self._block(statement.finalbody)

    def _nested(self, function: Function | ast.Lambda) -> None:
        if not self._guarded:
            inner = _Flow(function, self.outer | self._local, self.numpy - self._local)
            self.unknown += [use for use in inner.unknown if not use.local]

    def _expression(self, node: ast.AST, hidden: frozenset[str] = frozenset()) -> None:
        match node:
            case ast.Name(ctx=ast.Store()):
                self._assigned.add(node.id)
            case ast.Name():
                if node.id not in hidden:
                    self._name(node)
            case ast.NamedExpr():
                self._expression(node.value, hidden)
                self._expression(node.target)
            case ast.Lambda():
                for default in (*node.args.defaults, *node.args.kw_defaults):
                    if default is not None:
                        self._expression(default, hidden)
                if not hidden:
                    self._nested(node)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                self._comprehension(node, hidden)
            case ast.IfExp():
                self._expression(node.test, hidden)
                self._sometimes((node.body, node.orelse), hidden)
            case ast.BoolOp():
                self._expression(node.values[0], hidden)
                self._sometimes(node.values[1:], hidden)
            case ast.Attribute(value=ast.Name(id=alias), ctx=ast.Load()) if alias in self.numpy - self._local:
                if not (self._guarded or alias in hidden or _in_numpy(node.attr)):
                    self.unknown.append(Use(node, f"{alias}.{node.attr}", frozenset(), local=False))
            case _:
                for child in ast.iter_child_nodes(node):
                    self._expression(child, hidden)

    def _sometimes(self, nodes: Iterable[ast.expr], hidden: frozenset[str]) -> None:
        """Walk through expressions that the first round of a loop may leave out."""
        nodes = list(nodes)
        before = self._assigned
        self._assigned = before | self._later
        for node in nodes:
            self._expression(node, hidden)
        self._assigned = before | _bound(nodes)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, hidden: frozenset[str]
    ) -> None:
        for generator in node.generators:
            self._expression(generator.iter, hidden)
            hidden |= {name.id for name in ast.walk(generator.target) if isinstance(name, ast.Name)}
            self._sometimes(generator.ifs, hidden)
        self._sometimes((node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,), hidden)

    def _name(self, node: ast.Name) -> None:
        name = node.id
        if self._guarded or name in self._assigned or name in self._deleted:
            return
        if name in self._local:
            self.unknown.append(Use(node, name, frozenset(self._assigned), local=True))
        elif name not in self.outer:
            self.unknown.append(Use(node, name, frozenset(self._assigned), local=False))


def _catches_names(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return any(isinstance(node, ast.Name) and node.id in _CATCHES_NAMES for node in ast.walk(handler.type))


def _not_written(function: Function, *, is_forward: bool) -> Iterator[Finding]:
    name = function.name
    body = [statement for statement in function.body if not _says_nothing(statement)]
    if all(isinstance(statement, ast.Raise) and _is_not_implemented(statement.exc) for statement in body):
        yield Finding("not-written", f"{name} is not written yet: its body is empty.", function.lineno)
        return
    empty = _always_none(function)
    told: set[str] = set()
    for statement in _returns(function):
        value = statement.value
        parts = value.elts if isinstance(value, ast.Tuple) else [value]
        names = [part.id for part in parts if isinstance(part, ast.Name) and part.id in empty - told]
        # A cache alone may be None: not every backward pass needs one.
        cache = parts[1] if is_forward and len(parts) == 2 else None
        if names and not (isinstance(cache, ast.Name) and names == [cache.id]):
            told.update(names)
            yield Finding("not-written", f"{name} is not written yet: {_list(names)} still None.", statement.lineno)


def _no_return(function: Function) -> Iterator[Finding]:
    """Yield where a pass with a body hands nothing back."""
    written = not all(_says_nothing(statement) or isinstance(statement, ast.Raise) for statement in function.body)
    generator = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function))
    if written and not generator and not any(statement.value is not None for statement in _returns(function)):
        yield Finding(
            "no-return", f"{function.name} returns nothing. End it with `return` and its results.", function.lineno
        )


def _says_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _is_not_implemented(raised: ast.expr | None) -> bool:
    function = raised.func if isinstance(raised, ast.Call) else raised
    return isinstance(function, ast.Name) and function.id == "NotImplementedError"


def _returns(function: Function) -> list[ast.Return]:
    return [statement for statement in statements(function.body) if isinstance(statement, ast.Return)]


def _list(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return f"{quoted[0]} is" if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]} are"


def _bindings(function: Function) -> dict[str, list[ast.expr | None]]:
    """Return what each local name is bound to, one entry for each place that binds it; None where that is not plain."""
    plain: dict[str, list[ast.expr | None]] = {}
    for statement in statements(function.body):
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                for name, value in _assigned(target, statement.value):
                    plain.setdefault(name, []).append(value)
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            plain.setdefault(statement.target.id, []).append(statement.value)
    stores: dict[str, int] = dict.fromkeys(parameters(function), 1)
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            stores[node.id] = stores.get(node.id, 0) + 1
        elif isinstance(node, ast.Global | ast.Nonlocal):
            stores.update({name: stores.get(name, 0) + 1 for name in node.names})
    return {name: plain.get(name, []) + [None] * (n - len(plain.get(name, []))) for name, n in stores.items()}


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
        parts = [*target.elts, *value.elts]
        if len(target.elts) == len(value.elts) and not any(isinstance(part, ast.Starred) for part in parts):
            for one, other in zip(target.elts, value.elts, strict=True):
                yield from _assigned(one, other)


def _always_none(function: Function) -> set[str]:
    return {
        name
        for name, values in _bindings(function).items()
        if all(isinstance(value, ast.Constant) and value.value is None for value in values)
    }


def _useless(source: Source, function: Function) -> Iterator[Finding]:
    """Yield statements without effect, and comparisons by identity."""
    tried = {
        inner
        for statement in statements(function.body)
        if isinstance(statement, ast.Try | ast.TryStar | ast.With | ast.AsyncWith)
        for inner in statements(statement.body)
    }
    for statement in statements(function.body):
        if not isinstance(statement, ast.Expr) or statement in tried:  # an error may be what is wanted of it there
            continue
        value = statement.value
        if isinstance(value, ast.Compare) and len(value.ops) == 1 and isinstance(value.ops[0], ast.Eq):
            message = "`==` compares, and the answer is thrown away. To give a value, write `=`."
            yield Finding("comparison-statement", message, statement.lineno)
        elif isinstance(value, ast.BinOp | ast.UnaryOp | ast.Compare) or _is_calculation(source, value):
            message = f"The result of `{_short(source.segment(value))}` is thrown away. Give it a name: `name = ...`."
            yield Finding("unused-result", message, statement.lineno)
    for node in ast.walk(function):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
                if isinstance(operator, ast.Is | ast.IsNot) and (_is_value(left) or _is_value(right)):
                    sign = "==" if isinstance(operator, ast.Is) else "!="
                    message = f"`is` asks for the same object, not for the same value. Write `{sign}`."
                    yield Finding("identity-comparison", message, node.lineno)


def _is_calculation(source: Source, value: ast.expr) -> bool:
    """Whether a statement calls a function of NumPy that only computes."""
    module = _module_names(source)
    return (
        module is not None
        and isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and isinstance(value.func.value, ast.Name)
        and value.func.value.id in module.numpy
        and len(value.args) <= _COMPUTES.get(value.func.attr, -1)
        and all(keyword.arg is not None and keyword.arg != "out" for keyword in value.keywords)
        and not any(isinstance(argument, ast.Starred) for argument in value.args)
    )


def _is_value(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str | bytes | int | float | complex)
        and not (isinstance(node.value, bool))
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:37] + "..."


def _overwritten(function: Function) -> Iterator[Finding]:
    """Yield where the first argument gets another value before it was looked at."""
    names = parameters(function)
    if not names:
        return
    for statement in function.body:
        seen = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and node.id == names[0]]
        if not seen:
            continue
        if isinstance(statement, ast.Assign) and not any(_loads(node) for node in seen):
            message = f"`{names[0]}` gets another value before it was used, so the argument counts for nothing."
            yield Finding("argument-ignored", f"{message} Use another name here.", statement.lineno)
        return


def _modified(source: Source, function: Function) -> Iterator[Finding]:
    """Yield where the first argument, an array of the caller's, is changed in place."""
    names = parameters(function)
    if not names:
        return
    same = {names[0]}  # names of that very array
    for statement in statements(function.body):
        match statement:
            case ast.AugAssign(target=target) if _array_name(target) in same:
                changed = _array_name(target)
            case ast.Assign(targets=[*targets]) if {
                _array_name(t) for t in targets if isinstance(t, ast.Subscript)
            } & same:
                changed = next(_array_name(t) for t in targets if _array_name(t) in same)
            case _:
                value = statement.value if isinstance(statement, ast.Assign) else None
                alias = isinstance(value, ast.Name) and value.id in same and statement in function.body
                bound = _bound([statement])
                same = same | bound if alias else same - bound
                continue
        what = f"`{changed}`" if changed == names[0] else f"`{changed}`, which is `{names[0]}` itself,"
        text = _short(source.segment(statement))
        message = f"{what} is changed in place by `{text}`, so the caller's array changes too. Make a copy first."
        yield Finding("input-modified", message, statement.lineno)
        return


def _array_name(target: ast.expr) -> str | None:
    """Return the name of the array that an assignment to this target changes; None for a dictionary's entry."""
    if isinstance(target, ast.Subscript):
        if isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, str):
            return None
        return _array_name(target.value)
    return target.id if isinstance(target, ast.Name) else None


def _cache(source: Source, forward: Function, backward: Function) -> Iterator[Finding]:
    """Yield where the backward pass takes out of the cache what the forward pass did not put in."""
    names = parameters(backward)
    if len(names) < 2 or len(_bindings(backward)[names[1]]) > 1:
        return
    cache = names[1]
    nodes = packed(forward)
    if nodes is None:
        uses = [node for node in ast.walk(backward) if isinstance(node, ast.Name) and node.id == cache]
        if uses and _cache_is_none(forward):
            message = f"{forward.name} returns None for the cache, but {backward.name} uses it. Put in what it needs."
            yield Finding("cache-none", message, uses[0].lineno)
        return
    targets = unpacked(backward)
    if len({len(target.elts) for target in targets}) != 1:
        return
    elements, line = targets[0].elts, targets[0].lineno
    every = [[_short(source.segment(element)) for element in node.elts] for node in nodes]
    taken = [source.segment(element) for element in elements]
    if any(isinstance(element, ast.Starred) for element in elements):
        return
    if all(len(put) != len(taken) for put in every):
        put = every[0]
        missing = [f"`{name}`" for name in taken if name not in put]
        left = [f"`{name}`" for name in put if name not in taken]
        hint = ""
        if len(taken) > len(put) and len(missing) == len(taken) - len(put):
            hint = f" {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not in the cache."
        elif len(taken) < len(put) and len(left) == len(put) - len(taken):
            hint = f" {', '.join(left)} {'is' if len(left) == 1 else 'are'} not taken out."
        message = (
            f"{forward.name} puts {len(put)} values in the cache ({', '.join(put)}), "
            f"but {backward.name} takes out {len(taken)} ({', '.join(taken)}).{hint}"
        )
        yield Finding("cache-length", message, line)
    elif all(set(put) == set(taken) and put != taken and len(set(taken)) == len(taken) for put in every):
        message = (
            f"{forward.name} puts ({', '.join(every[0])}) in the cache, but {backward.name} takes out "
            f"({', '.join(taken)}): another order. Use the same one."
        )
        yield Finding("cache-order", message, line)


def packed(forward: Function) -> list[ast.Tuple | ast.List] | None:
    """Return the tuples that a forward pass returns as its cache, or None if they are not plain to see."""
    values: list[ast.expr | None] = []
    for statement in _returns(forward):
        if not isinstance(statement.value, ast.Tuple) or len(statement.value.elts) != 2:
            return None
        cache = statement.value.elts[1]
        values += _bindings(forward).get(cache.id, [None]) if isinstance(cache, ast.Name) else [cache]
        if isinstance(cache, ast.Name) and _changed_by_method(forward, cache.id):
            return None
    found: list[ast.Tuple | ast.List] = []
    for value in values:
        if isinstance(value, ast.Constant) and value.value is None:
            continue
        if not isinstance(value, ast.Tuple | ast.List) or any(isinstance(e, ast.Starred) for e in value.elts):
            return None
        found.append(value)
    return found or None


def unpacked(backward: Function) -> list[ast.Tuple | ast.List]:
    """Return the names, as they stand in the text, into which a backward pass takes its cache apart."""
    names = parameters(backward)
    return [
        target
        for statement in statements(backward.body)
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1
        for target in statement.targets
        if isinstance(target, ast.Tuple | ast.List)
        and isinstance(statement.value, ast.Name)
        and statement.value.id in names[1:2]
    ]


def _changed_by_method(function: Function, name: str) -> bool:
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
        for node in ast.walk(function)
    )


def _cache_is_none(forward: Function) -> bool:
    empty = _always_none(forward)
    caches = [
        statement.value.elts[1]
        for statement in _returns(forward)
        if isinstance(statement.value, ast.Tuple) and len(statement.value.elts) == 2
    ]
    return bool(caches) and all(
        (isinstance(cache, ast.Constant) and cache.value is None) or (isinstance(cache, ast.Name) and cache.id in empty)
        for cache in caches
    )


def _gradient_order(source: Source, pair: FoundPair, forward: Function, backward: Function) -> Iterator[Finding]:
    """Yield where gradients are returned in another order than that of the forward pass's arguments."""
    with contextlib.suppress(SourceError):
        if "gradients" in declaration(source).get(pair.name, {}):
            return
    order = [name.casefold() for name in parameters(forward)]
    if len(set(order)) < len(order):
        return
    for statement in _returns(backward):
        parts = statement.value.elts if isinstance(statement.value, ast.Tuple) else []
        names = [part.id for part in parts if isinstance(part, ast.Name)]
        of = [name.casefold().removeprefix("grad").removeprefix("d").lstrip("_") for name in names]
        if len(names) < 2 or len(names) < len(parts) or len(set(of)) < len(of) or not set(of) <= set(order):
            continue
        wanted = sorted(range(len(of)), key=lambda number: order.index(of[number]))
        if wanted != sorted(wanted):
            told = ", ".join(names[number] for number in wanted)
            message = f"The gradients are returned as {', '.join(names)}; the order of the arguments is {told}."
            yield Finding("gradient-order", f"{message} Return them in that order.", statement.lineno)
