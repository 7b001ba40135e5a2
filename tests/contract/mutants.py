"""Seeded faults: every arithmetic step of a layer's file, made wrong in turn.

A mutant is the file with one operator exchanged, one operand dropped, one sign lost, one comparison or choice turned round,
or one result off by a thousandth. What is not arithmetic in this sense (messages, checks, indices) stays; see `_Arithmetic`.
"""

import ast
import copy
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

from xhat.core import Layer

_EXCHANGED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Lt: ast.GtE,
    ast.Eq: ast.NotEq,
}
_SWAPPED = {"maximum": "minimum", "where": "where"}


class Mutant(NamedTuple):
    name: str  # "reference_forward: x - mean → x + mean"
    tree: ast.Module


class _Arithmetic(ast.NodeVisitor):
    """Collects the functions whose arithmetic makes the result, and in them the expressions that do."""

    def __init__(self) -> None:
        self.function = ""
        self.found: list[tuple[str, ast.expr | ast.AugAssign]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.function = node.name
        for statement in node.body:
            self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """A class wires; what it computes lies in functions."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """A message computes nothing."""

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """An index picks, it does not compute."""
        self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        """A condition decides which way is taken; what is computed stands on the ways, but not on those that raise."""
        if isinstance(node.body[-1], ast.Raise):
            return
        for statement in (*node.body, *node.orelse):
            self.visit(statement)

    def visit_Compare(self, node: ast.Compare) -> None:
        if self.function and type(node.ops[0]) in _EXCHANGED and len(node.ops) == 1:
            self.found.append((self.function, node))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if self.function and isinstance(node.func, ast.Attribute) and node.func.attr in _SWAPPED:
            self.found.append((self.function, node))
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """See visit_If."""
        self.visit(node.body)
        self.visit(node.orelse)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """What a comprehension runs over is picked, not computed."""

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if self.function and not isinstance(node.op, ast.BitAnd | ast.BitOr | ast.Mod):
            self.found.append((self.function, node))
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if self.function and type(node.op) in _EXCHANGED:
            self.found.append((self.function, node))
        self.visit(node.value)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if self.function and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
            self.found.append((self.function, node))
        self.generic_visit(node)


def mutants(path: Path) -> Iterator[Mutant]:
    tree = ast.parse(path.read_text())
    arithmetic = _Arithmetic()
    arithmetic.visit(tree)
    for function, node in arithmetic.found:
        before = ast.unparse(node)
        for changed in _changes(node):
            other = copy.deepcopy(tree)
            _Replace(ast.dump(node, include_attributes=True), changed).visit(other)
            yield Mutant(f"{function}: {before} → {ast.unparse(changed)}", ast.fix_missing_locations(other))


class _Replace(ast.NodeTransformer):
    def __init__(self, wanted: str, changed: ast.expr | ast.stmt) -> None:
        self.wanted, self.changed = wanted, changed

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.expr | ast.AugAssign) and ast.dump(node, include_attributes=True) == self.wanted:
            return ast.copy_location(self.changed, node)
        return super().generic_visit(node)


def _changes(node: ast.expr | ast.AugAssign) -> Iterator[ast.expr | ast.stmt]:
    if isinstance(node, ast.AugAssign):
        yield ast.AugAssign(node.target, _EXCHANGED[type(node.op)](), node.value)
        yield ast.Pass()
        return
    if isinstance(node, ast.UnaryOp):
        yield node.operand
        return
    if isinstance(node, ast.Compare):
        yield ast.Compare(node.left, [_EXCHANGED[type(node.ops[0])]()], node.comparators)
        return
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Attribute)
        swapped = ast.Attribute(node.func.value, _SWAPPED[node.func.attr], ast.Load())
        yield ast.Call(swapped, [node.args[0], *reversed(node.args[1:])], node.keywords)
        return
    assert isinstance(node, ast.BinOp)
    if type(node.op) in _EXCHANGED:
        yield ast.BinOp(node.left, _EXCHANGED[type(node.op)](), node.right)
        yield node.left
        yield node.right
    if isinstance(node.op, ast.Pow):
        yield node.left
    yield ast.BinOp(node, ast.Mult(), ast.Constant(1.001))


def files(layer: type[Layer]) -> list[Path]:
    """Where a layer's functions and those of its Ops are written: its own file, or some of its package's."""
    ops = {case.layer.op(case.training) for case in layer.cases()}
    modules = {function.__module__ for op in ops for function in op} | {
        layer.settings.__module__,
        layer.cases.__module__,
    }
    return sorted({Path(sys.modules[name].__file__) for name in modules if name != "xhat.core"})


@contextmanager
def loaded(mutant: Mutant, path: Path, name: str) -> Iterator[ModuleType]:
    """Import the module `name` anew with the file at `path` replaced by the mutant; afterwards all is as it was."""
    parent, _, last = name.rpartition(".")
    inside = [other for other in sys.modules if other == name or other.startswith(f"{name}.")]
    kept = {other: sys.modules.pop(other) for other in inside}
    finder = _Finder(path, compile(mutant.tree, str(path), "exec"))
    sys.meta_path.insert(0, finder)
    try:
        yield importlib.import_module(name)
    finally:
        sys.meta_path.remove(finder)
        for other in [other for other in sys.modules if other == name or other.startswith(f"{name}.")]:
            del sys.modules[other]
        sys.modules.update(kept)
        setattr(sys.modules[parent], last, kept[name])


class _Finder:
    """Finds the module that lies at a path, and runs other code in its place."""

    def __init__(self, path: Path, code: CodeType) -> None:
        self.path, self.code = path, code

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        wanted = self.path.parent.name if self.path.stem == "__init__" else self.path.stem
        if name.rpartition(".")[2] != wanted:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None or not self.path.samefile(spec.origin):
            return None
        spec.loader = self
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system make it."""

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code, module.__dict__)
