"""Edits that undo a known mistake, wherever in somebody's code it stands and whatever the variables are called there.

A dictionary holds a mistake as right code and what it became. The changed expression, with more or less of what stands
around it, is looked for in the code; the right one takes its place, in the names of the code.
"""

from __future__ import annotations

import ast
import copy
import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from xhat.verify.faults.dictionary import Dictionary, Fault
from xhat.verify.repair import Edit, Edits
from xhat.verify.source import Function, Source, statements
from xhat.verify.static import bound_names, parameters
from xhat.verify.values import USUAL_NAMES

_MOST = 200
_Names = Mapping[str, str]  # those of the dictionary's function, and what a parameter is called in the user's
_Change = tuple[ast.expr, ast.expr]  # what is wrong, and what is right


def undone(source: Source, function: Function, dictionary: Dictionary, fault: Fault) -> Iterator[Edits]:
    """Yield edits of a function that undo a mistake, those first that fit more of what stands around it."""
    wrong, right = (
        [one for one in statements(_last(dictionary.text(fault.side, faults)).body) if not hasattr(one, "body")]
        for faults in ((fault,), ())
    )
    of = _last(dictionary.text(fault.side))
    by_place = zip(parameters(of), parameters(function), strict=False)
    local = {**dict.fromkeys(bound_names(of), ""), **dict(by_place)}
    steps = difflib.SequenceMatcher(None, [ast.dump(one) for one in wrong], [ast.dump(one) for one in right], False)
    places: list[list[Edits]] = []
    for kind, a, b, c, d in steps.get_opcodes():
        if kind == "insert":
            places.append(list(_inserted(source, function, right[c:d], local)))
        elif kind == "replace" and b - a == d - c:
            for old, new in zip(wrong[a:b], right[c:d], strict=True):
                places.append(
                    [edits for change in _levels(old, new) for edits in _put(source, function, change, local)]
                )
        elif kind != "equal":
            return
    for chosen in itertools.islice(itertools.product(*places), _MOST):
        edits = tuple(sorted({edit for some in chosen for edit in some}))
        if edits and all(one.end <= other.start for one, other in itertools.pairwise(edits)):
            yield edits


def _last(text: str) -> ast.FunctionDef:
    return [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)][-1]


def _levels(wrong: ast.AST, right: ast.AST) -> Iterator[_Change]:
    """Yield the changed expressions: the largest first, and then what in it is changed."""
    if type(wrong) is not type(right):
        return
    for one, other in _apart(wrong, right):
        if isinstance(one, ast.expr) and isinstance(other, ast.expr):
            if not (isinstance(one, ast.Constant) and isinstance(one.value, int)):
                yield one, other
            yield from _levels(one, other)


def _apart(wrong: ast.AST, right: ast.AST) -> list[tuple[ast.AST, ast.AST]]:
    """Return the only two children in which two nodes differ; nothing if they differ in more."""
    pairs: list[tuple[Any, Any]] = []
    for name, value in ast.iter_fields(wrong):
        one, other = _listed(value), _listed(getattr(right, name))
        pairs += zip(one, other, strict=True) if len(one) == len(other) else [(value, getattr(right, name))]
    found = [(one, other) for one, other in pairs if _dumped(one) != _dumped(other)]
    plain = len(found) == 1 and all(isinstance(node, ast.AST) for node in found[0])
    if plain and isinstance(found[0][0], ast.keyword) and isinstance(found[0][1], ast.keyword):
        return _apart(*found[0])
    return found if plain else []


def _listed(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _dumped(value: Any) -> Any:
    return ast.dump(value) if isinstance(value, ast.AST) else value


def _put(source: Source, function: Function, change: _Change, local: _Names) -> Iterator[Edits]:
    """Yield edits that put the right expression where the wrong one stands."""
    wrong, right = change
    known = bound_names(function)
    alone = {id(node) for node in ast.walk(function) for node in _whole_values(node)}
    for statement in statements(function.body):
        if hasattr(statement, "body"):
            continue
        for node in ast.walk(statement):
            if not isinstance(node, ast.expr):
                continue
            if isinstance(wrong, ast.Name) and not (id(node) in alone and _is_called(node, _expected(wrong.id, local))):
                continue  # a name alone stands everywhere
            for names in _unified(wrong, node, {}, local):
                text = _renamed(right, names, local, known)
                if text is not None:
                    atom = isinstance(right, ast.Name | ast.Call | ast.Attribute | ast.Subscript | ast.Constant)
                    yield (Edit(*source.span(node), text if atom or id(node) in alone else f"({text})"),)


def _whole_values(node: ast.AST) -> list[ast.expr]:
    """Return the expressions that need no parentheses, whatever they are."""
    match node:
        case ast.Assign(value=value) | ast.AugAssign(value=value) | ast.keyword(value=value):
            return [value]
        case ast.Return(value=ast.expr() as value):
            return [value]
        case ast.Call(args=arguments):
            return arguments
        case _:
            return []


def _unified(pattern: Any, node: Any, names: dict[str, str], local: _Names) -> Iterator[dict[str, str]]:
    """Yield what the names of a pattern are called in a piece of code, if it is of this form."""
    if isinstance(pattern, ast.Name):
        if not isinstance(node, ast.Name):
            return
        if pattern.id not in local:
            if node.id == pattern.id:
                yield names
        elif names.get(pattern.id, node.id) == node.id:
            yield {**names, pattern.id: node.id}
        return
    if isinstance(pattern, list):
        if isinstance(node, list) and len(_listed(pattern)) == len(_listed(node)):
            yield from _all_unified(list(zip(_listed(pattern), _listed(node), strict=True)), names, local)
        return
    if not isinstance(pattern, ast.AST):
        if pattern == node:
            yield names
        return
    if type(pattern) is not type(node):
        return
    fields = [(value, getattr(node, name)) for name, value in ast.iter_fields(pattern) if name not in ("ctx", "kind")]
    yield from _all_unified(fields, names, local)
    if (
        isinstance(pattern, ast.BinOp)
        and isinstance(pattern.op, ast.Add | ast.Mult)
        and type(pattern.op) is type(node.op)
    ):
        yield from _all_unified([(pattern.left, node.right), (pattern.right, node.left)], names, local)


def _all_unified(pairs: Sequence[tuple[Any, Any]], names: dict[str, str], local: _Names) -> Iterator[dict[str, str]]:
    if not pairs:
        yield names
        return
    for found in _unified(*pairs[0], names, local):
        yield from _all_unified(pairs[1:], found, local)


def _renamed(tree: ast.AST, names: Mapping[str, str], local: _Names, known: set[str]) -> str | None:
    """Return code in the names of the function; None if one of them has no name there."""
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in local:
            found = names.get(node.id) or next((name for name in _expected(node.id, local) if name in known), None)
            if found is None:
                return None
            node.id = found
    return ast.unparse(tree)


def _expected(name: str, local: _Names) -> Mapping[str, None]:
    """Return what a variable of the dictionary's is probably called, the likeliest first."""
    return dict.fromkeys((name, *USUAL_NAMES.get(name, ()), local[name]))


def _is_called(node: ast.expr, names: Mapping[str, None]) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def _inserted(source: Source, function: Function, missing: Sequence[ast.stmt], local: _Names) -> Iterator[Edits]:
    """Yield edits that put what is missing before the last return, or before all."""
    texts = [_renamed(one, {}, local, bound_names(function)) for one in missing]
    edits: list[Edit] = []
    for one in statements(function.body):
        start = source.span(one)[0]
        indent = source.text[:start].rpartition("\n")[2]
        if isinstance(one, ast.Return) and not indent.strip():
            edits.append(Edit(start, start, "".join(f"{text}\n{indent}" for text in texts)))
    if edits and None not in texts:
        yield tuple(edits[-1:])
        yield tuple(edits)
