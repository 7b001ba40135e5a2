"""Repairs: small edits of the source, tried one after the other, of which only an accepted one is shown.

An edit replaces a piece of the text, so that comments, layout and line endings of all the rest stay as they are.
Whether an edited text is right is not judged here: the caller's `accept` does that.
"""

from __future__ import annotations

import ast
import difflib
import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xhat.verify.source import FoundPair, Function, Source, statements
from xhat.verify.static import bound_names, fixed_names, packed, parameters, unknown_names, unpacked

Edits = tuple["Edit", ...]

_PAIRED = 60  # of how many of the likeliest edits every two are tried together
_STEPS = 6  # how many edits that make some of it right are tried together with all others


class Edit(NamedTuple):
    """A piece of the text, from `start` to before `end`, and what stands there instead."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Hints:
    """What is known of the mistake; everything may be left out.

    Parameters
    ----------
    gradients : sequence of str
        The names of all gradients in the order in which they are returned: "dx", "dgamma", "dbeta".
    wrong : sequence of str
        Which of them are wrong. "out" and the names of running statistics mean the forward pass.
    lines : sequence of int
        Lines under suspicion, counted from 1.
    first : iterable of edits
        What is to be tried before all else.
    missing : callable
        `missing("dx", "1 / std")` returns the terms that dx lacks in what is multiplied by 1 / std there, in the names
        of the code, each with its sign: ["- np.mean(dout, axis=0)"]; nothing if this is not all that is wrong.
    whole : callable
        `whole("dx")` returns all of the true dx in the names of the code, or None.
    """

    gradients: Sequence[str] = ()
    wrong: Sequence[str] = ()
    lines: Sequence[int] = ()
    first: Iterable[Edits] = ()
    missing: Callable[[str, str], Sequence[str]] = lambda gradient, factor: ()
    whole: Callable[[str], str | None] = lambda gradient: None


@dataclass(frozen=True)
class Repair:
    """An accepted repair: the edits, the text after them, a unified diff, and the line of the first change."""

    edits: Edits
    text: str
    diff: str
    line: int


def edited(text: str, edits: Iterable[Edit]) -> str:
    """Return the text after edits that do not overlap.

    Examples
    --------
    >>> edited("dx = a + b", [Edit(7, 8, "-"), Edit(9, 10, "c")])
    'dx = a - c'
    """
    parts: list[str] = []
    end = 0
    for edit in sorted(edits):
        if not end <= edit.start <= edit.end <= len(text):
            raise ValueError(
                f"edited: expected edits apart from each other, got {edit.start} to {edit.end}. Leave one out."
            )
        parts += [text[end : edit.start], edit.text]
        end = edit.end
    return "".join([*parts, text[end:]])


def unified_diff(path: str, before: str, after: str) -> str:
    """Return what `patch` and `git apply` take, in the file's own line endings."""
    name = re.sub(r"[\r\n\t]", "?", path)
    lines = difflib.unified_diff(_lines(before), _lines(after), name, name)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def repairs(
    source: Source,
    candidates: Iterable[Edits],
    accept: Callable[[str], bool],
    budget_s: float,
    look: Callable[[Edits], frozenset[str]] = lambda _: frozenset(),
) -> Repair | None:
    """Return the first candidate that `accept` takes, then of several together, or None when time is up.

    Parameters
    ----------
    source : Source
        The file.
    candidates : iterable of edits
        The likeliest first.
    accept : callable
        Judges a whole edited text.
    budget_s : float
        How long to look, in seconds.
    look : callable
        Returns, quickly, what is still wrong after edits, by name: what is not empty is not judged. Edits that leave
        less than there was are tried together with others.
    """
    deadline = time.process_time() + budget_s
    seen = {source.text}
    untouched = look(())
    first: list[Edits] = []
    steps: list[tuple[int, Edits]] = []  # what makes some of it right

    def judged(edits: Edits) -> Repair | None:
        try:
            text = edited(source.text, edits)
        except ValueError:  # two candidates that overlap
            return None
        if text in seen:
            return None
        seen.add(text)
        left = look(edits)
        if left:
            if left < untouched:
                steps.append((len(left), edits))
            return None
        if not _is_python(text) or not accept(text):
            return None
        line = source.line_of(min(edits).start)
        # A notebook's code is not the text of its file: the name says that no patch is meant.
        name = f"{source.path} (code cells)" if source.path.lower().endswith(".ipynb") else source.path
        return Repair(edits, text, unified_diff(name, source.text, text), line)

    def tried() -> Iterator[Edits]:
        for edits in candidates:
            first.append(edits)
            yield edits
        for _, step in sorted(steps)[:_STEPS]:
            yield from ((*step, *other) for other in first if other is not step)
        for one, other in sorted(itertools.combinations(range(len(first[:_PAIRED])), 2), key=sum):
            yield (*first[one], *first[other])

    for edits in tried():
        if time.process_time() >= deadline:
            return None
        repair = judged(edits)
        if repair is not None:
            return repair
    return None


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def candidates(source: Source, pair: FoundPair, hints: Hints | None = None) -> Iterator[Edits]:
    """Yield likely edits of a pair, the likeliest first."""
    if hints is not None:
        yield from hints.first
    workshop = _Workshop(source, pair, hints or Hints())
    ranked = list(workshop.candidates())
    ranked.sort(key=lambda candidate: candidate[0])
    for _, edits in ranked:
        yield edits
    yield from workshop.rewritten()


_Ranked = tuple[float, Edits]  # the lower, the likelier

_REDUCTIONS = {"sum", "mean", "var", "std", "max", "min", "prod"}
_SIGNS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Pow: "**", ast.MatMult: "@",
    ast.Mod: "%", ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<=",
}  # fmt: skip
_INSTEAD = {"+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], ">": [">=", "<"], ">=": [">", "<="], "<": ["<=", ">"]} | {
    "<=": ["<", ">="]
}
_POWERS = ["2", "-0.5", "-1", "-1.5", "0.5", "-2", "3", "-3"]
_EPS = ("eps", "epsilon", "EPS", "e")


class _Site(NamedTuple):
    """A statement's right-hand side."""

    statement: ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Return
    value: ast.expr


@dataclass
class _Workshop:
    source: Source
    pair: FoundPair
    hints: Hints

    def candidates(self) -> Iterator[_Ranked]:
        functions = self.source.functions
        forward = functions.get(self.pair.forward or "")
        backward = functions.get(self.pair.backward or "")
        wrong = set(self.hints.wrong)
        of_gradients = {name for name in wrong if name in self.hints.gradients}
        for rank, edits in self._names(forward, backward):
            yield self._nearer(rank, edits), edits
        gradient = backward if self.pair.kind != "loss" else forward
        found: list[Iterator[_Ranked]] = []
        if gradient is not None and (of_gradients or not wrong):
            for outputs in self._outputs(gradient, self.hints.gradients, skip=self.pair.kind == "loss"):
                found += [self._function(gradient, outputs, of_gradients), self._exchanges(outputs)]
        if forward is not None and forward is not gradient and (not wrong or wrong - of_gradients):
            found += [self._function(forward, outputs, wrong & {"out"}) for outputs in self._outputs(forward, ["out"])]
        for rank, edits in itertools.chain(*found):
            yield self._nearer(rank, edits), edits

    def rewritten(self) -> Iterator[Edits]:
        """Yield edits that write a wrong gradient anew, whatever it was."""
        function = self.source.functions.get(
            (self.pair.backward if self.pair.kind != "loss" else self.pair.forward) or ""
        )
        wrong = [name for name in self.hints.gradients if name in self.hints.wrong]
        if function is None or not wrong:
            return
        for outputs in self._outputs(function, self.hints.gradients, skip=self.pair.kind == "loss"):
            anew: list[Edits] = []
            for name in wrong:
                text = self.hints.whole(name) if name in outputs else None
                if text is None:
                    continue
                carried = self._carried(function, text)
                for _, value in self._last_values(list(self._sites(function)), outputs[name]):
                    yield (*carried, Edit(*self.source.span(value), text))
                anew.append((*carried, Edit(*self.source.span(outputs[name]), text)))
            if len(anew) == len(wrong) > 1:
                yield tuple(dict.fromkeys(itertools.chain(*anew)))

    def _nearer(self, rank: float, edits: Edits) -> float:
        """Return a lower rank for edits of a line under suspicion."""
        lines = {self.source.line_of(edit.start) for edit in edits}
        return rank - 3 if lines & set(self.hints.lines) else rank

    # Names and caches

    def _names(self, forward: Function | None, backward: Function | None) -> Iterator[_Ranked]:
        fixes = [Edit(*self.source.span(node), meant) for node, meant in fixed_names(self.source, self.pair)]
        if fixes:
            yield 0, tuple(dict.fromkeys(fixes))
        if forward is None or backward is None:
            return
        put, taken = packed(forward) or [], unpacked(backward)
        local = bound_names(forward)
        if put and taken:
            given, used = ([self.source.segment(element) for element in node.elts] for node in (put[0], taken[0]))
            if given != used and all(name in local for name in used):
                yield 1, tuple(self._tuple(node, used) for node in put)
            if given != used and all(name.isidentifier() for name in given):
                yield 1, tuple(self._tuple(node, given) for node in taken)
        unknown = [use.name for use in unknown_names(self.source, self.pair, self.pair.backward or "")]
        needed = [name for name in dict.fromkeys(unknown) if name in local]
        if needed:
            yield 1, self._carry(forward, backward, needed)

    def _tuple(self, node: ast.Tuple | ast.List, names: Sequence[str]) -> Edit:
        text = f"{', '.join(names)}{',' * (len(names) == 1)}"
        bare = isinstance(node, ast.Tuple) and not self.source.segment(node).startswith("(")
        return Edit(*self.source.span(node), text if bare else f"({text})")

    def _carry(self, forward: Function, backward: Function, names: Sequence[str]) -> Edits:
        """Return the edits by which the cache hands over more names; none where it is not plain."""
        put, taken = packed(forward) or [], unpacked(backward)
        if len(put) != 1 or len(taken) != 1 or len(put[0].elts) != len(taken[0].elts):
            return ()
        return tuple(
            self._tuple(node, [*(self.source.segment(element) for element in node.elts), *names])
            for node in (put[0], taken[0])
        )

    # One function

    def _function(self, function: Function, outputs: Mapping[str, ast.expr], wrong: set[str]) -> Iterator[_Ranked]:
        """Yield edits of a function, first of what only its wrong outputs depend on."""
        names = self._factors(function)
        sites = list(self._sites(function))
        starts = set[str]().union(*(_loaded(outputs[name]) for name in wrong if name in outputs))
        relevant = _slice(sites, starts)
        shared = _slice(
            sites, set[str]().union(*(_loaded(node) for name, node in outputs.items() if name not in wrong))
        )
        for number, site in enumerate(sites):
            if starts and number not in relevant:
                continue
            penalty = 2.0 * (number in shared and bool(wrong))
            for rank, edits in itertools.chain(self._statement(function, site), self._entries(function, site, names)):
                yield rank + penalty, edits
        yield from self._alike([site for n, site in enumerate(sites) if not starts or n in relevant])
        if len(wrong) > 1:
            for text in (".reshape(-1)", *(f" {sign} {name}" for name in (*names, _rows(function)) for sign in "*/")):
                nodes = [outputs[name] for name in outputs if name in wrong]
                yield 4, tuple(self._put(node, node, self._whole(node) + text) for node in nodes)
        for name, node in outputs.items():
            if name in wrong or not wrong:
                yield from self._output(function, sites, name, node, names)
                if starts and not isinstance(node, ast.Name):
                    yield from self._expressions(function, node, names)

    def _alike(self, sites: Sequence[_Site]) -> Iterator[_Ranked]:
        """Yield the same change of all reductions of a function at once."""
        alike: dict[tuple[str, str], dict[ast.Call, Edits]] = {}
        for site in sites:
            for node in ast.walk(site.value):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    for _, what, edits in self._reduction(node, node.func):
                        alike.setdefault((node.func.attr, what), {})[node] = edits
        for found in alike.values():
            edits = sorted(edit for edits in found.values() for edit in edits)
            apart = all(one.end <= other.start for one, other in itertools.pairwise(edits))  # a sum may stand in a sum
            if len(found) > 1 and apart:
                yield 3, tuple(edits)

    def _sites(self, function: Function) -> Iterator[_Site]:
        for statement in statements(function.body):
            if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Return) and statement.value:
                yield _Site(statement, statement.value)

    def _outputs(self, function: Function, names: Sequence[str], *, skip: bool = False) -> list[dict[str, ast.expr]]:
        """Return the expressions that a function returns, by these names, of its last return first.

        They are empty where they are not plain to see.
        """
        found: list[dict[str, ast.expr]] = []
        for statement in statements(function.body):
            if not isinstance(statement, ast.Return) or statement.value is None:
                continue
            elements = statement.value.elts if isinstance(statement.value, ast.Tuple) else [statement.value]
            if skip:  # the loss
                elements = elements[1:]
                if len(elements) == 1 and isinstance(elements[0], ast.Tuple):
                    elements = elements[0].elts
            plain = len(elements) == len(names) or (len(elements) > len(names) == 1)
            found.append(dict(zip(names, elements, strict=False)) if plain else {})
        return found[::-1] or [{}]

    def _exchanges(self, outputs: Mapping[str, ast.expr]) -> Iterator[_Ranked]:
        """Yield exchanges of two returned gradients."""
        wrong = set(self.hints.wrong)
        for one, other in itertools.combinations(outputs, 2):
            first, second = outputs[one], outputs[other]
            edits = (
                Edit(*self.source.span(first), self.source.segment(second)),
                Edit(*self.source.span(second), self.source.segment(first)),
            )
            yield (1 if not wrong or {one, other} <= wrong else 7), edits

    def _factors(self, function: Function) -> list[str]:
        """Return the names that a term may lack as a factor: local ones, those of arrays and sizes first."""
        skipped = set[str]()
        if function.name == self.pair.backward:
            skipped = set(parameters(function)[: 2 if unpacked(function) else 1])
        stored = [
            node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        ]
        names = dict.fromkeys([*parameters(function), *stored])
        gradients = set(self.hints.gradients)
        return [name for name in names if name not in skipped and name not in gradients]

    # One output

    def _output(
        self, function: Function, sites: Sequence[_Site], name: str, returned: ast.expr, names: Sequence[str]
    ) -> Iterator[_Ranked]:
        """Yield edits of an output as a whole: where it gets its last value, and where it is returned."""
        places = self._last_values(sites, returned)
        of = name.removeprefix("d")
        for later, value in places:
            whole = self._whole(value)
            yield from self._completed(function, name, value, later)
            product = isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult | ast.Div)
            times = self.source.segment(value) if product else whole
            yield 3 + later, (self._put(value, value, f"-{whole}"),)
            for factor in names:
                yield 4.5 + later, (self._put(value, value, f"{whole} + {factor}"),)
            samples = [f"{of}.shape[0]"] if of in names else []
            for factor in (*names, *_settings(function), _rows(function), *samples, "2"):
                yield 3.5 + later, (self._put(value, value, f"{times} / {factor}"),)
                yield 3.5 + later, (self._put(value, value, f"{times} * {factor}"),)
            for factor, carried in self._others(function):
                yield 4 + later, (self._put(value, value, f"{times} * {factor}"), *carried)
                yield 4 + later, (self._put(value, value, f"{times} / {factor}"), *carried)
            for factor in names:
                yield 6 + later, (self._put(value, value, f"{times} * ({factor} > 0)"),)
            yield 4 + later, (self._put(value, value, f"{whole}.reshape(-1)"),)
            if of in names:
                yield 4 + later, (self._put(value, value, f"{whole}.reshape({of}.shape)"),)
            for axis in ("axis=0", "axis=1", "axis=0, keepdims=True", "axis=1, keepdims=True"):
                yield 5 + later, (self._put(value, value, f"np.sum({self.source.segment(value)}, {axis})"),)

    def _last_values(self, sites: Sequence[_Site], returned: ast.expr) -> list[tuple[float, ast.expr]]:
        """Return where an output gets its last value, and where it is returned, with a rank."""
        places: list[tuple[float, ast.expr]] = [(1, returned)]
        if isinstance(returned, ast.Name):
            last = [
                site
                for site in sites
                if isinstance(site.statement, ast.Assign)
                and any(isinstance(node, ast.Name) and node.id == returned.id for node in site.statement.targets)
            ]
            places = [*((0, site.value) for site in last[-1:]), *places]
        return places

    def _completed(self, function: Function, name: str, value: ast.expr, later: float) -> Iterator[_Ranked]:
        """Yield edits that add what a gradient lacks, inside a product if there is a sum in it."""
        inside = [(node, factor) for node, factor in self._sums(value) if factor is not None]
        for rank, (node, factor) in enumerate([*inside, (value, None)]):
            terms = self.hints.missing(name, factor or "1")
            if terms:
                text = f"{self.source.segment(node)} {' '.join(terms)}"
                edit = Edit(*self.source.span(node), text)
                yield later + 0.1 * rank - 4, (*self._carried(function, text), edit)

    def _sums(self, value: ast.expr, factor: str | None = None) -> Iterator[tuple[ast.expr, str | None]]:
        """Yield the sums in a product, each with what it is multiplied by."""
        if not isinstance(value, ast.BinOp):
            return
        before = f"({factor}) * " if factor is not None else ""
        match value.op:
            case ast.Add() | ast.Sub():
                yield value, factor
            case ast.Mult():
                yield from self._sums(value.left, f"{before}({self.source.segment(value.right)})")
                yield from self._sums(value.right, f"{before}({self.source.segment(value.left)})")
            case ast.Div():
                yield from self._sums(value.left, f"{before}(1 / ({self.source.segment(value.right)}))")
            case _:
                return

    def _carried(self, function: Function, text: str) -> Edits:
        """Return the edits by which the cache hands over what a text needs from the forward pass."""
        forward = self.source.functions.get(self.pair.forward or "")
        if forward is None or forward is function:
            return ()
        needed = {node.id for node in ast.walk(ast.parse(f"({text})")) if isinstance(node, ast.Name)}
        names = sorted((needed & bound_names(forward)) - bound_names(function))
        return self._carry(forward, function, names) if names else ()

    def _others(self, function: Function) -> Iterator[tuple[str, Edits]]:
        """Yield the forward pass's variables that the backward pass does not know, and how the cache brings them."""
        forward = self.source.functions.get(self.pair.forward or "")
        if forward is not None and function.name == self.pair.backward:
            known = bound_names(function)
            for name in self._factors(forward):
                carried = () if name in known else self._carry(forward, function, [name])
                if carried:
                    yield name, carried

    def _whole(self, node: ast.expr) -> str:
        return _parenthesized(self.source.segment(node)) if not _is_atom(node) else self.source.segment(node)

    def _put(self, root: ast.expr, node: ast.expr, text: str) -> Edit:
        """Return the edit that puts text in a node's place; in parentheses unless it is all of the value."""
        return Edit(*self.source.span(node), text if node is root else _parenthesized(text))

    # One statement

    def _statement(self, function: Function, site: _Site) -> Iterator[_Ranked]:
        statement = site.statement
        argument = parameters(function)[:1]
        if isinstance(statement, ast.AugAssign):
            target, sign = self.source.segment(statement.target), _SIGNS.get(type(statement.op))
            if sign is None:
                return
            span = self.source.span(statement)
            rank = 1 if target in argument else 6
            yield rank, (Edit(*span, f"{target} = {target} {sign} {self._whole(statement.value)}"),)
            gap = self._gap(statement.target, statement.value, sign + "=")
            if gap is not None:
                for other in _INSTEAD.get(sign, ()):
                    yield 3, (Edit(*gap, other + "="),)
        elif isinstance(statement, ast.Assign):
            target = statement.targets[-1]
            if isinstance(target, ast.Subscript):
                gap = self._gap(target, statement.value, "=")
                if gap is not None:
                    yield 3, (Edit(*gap, "+="),)
            if isinstance(statement.value, ast.Name) and statement.value.id in argument:
                yield 2, (Edit(*self.source.span(statement.value), f"{statement.value.id}.copy()"),)

    def _gap(self, left: ast.expr, right: ast.expr, sign: str) -> tuple[int, int] | None:
        """Return where an operator stands between its two sides."""
        start, end = self.source.span(left)[1], self.source.span(right)[0]
        # A comment in between may hold the same sign.
        blank = re.sub(r"#[^\r\n]*", lambda match: " " * len(match[0]), self.source.text[start:end])
        place = blank.find(sign)
        return None if place < 0 else (start + place, start + place + len(sign))

    # One expression

    def _entries(self, function: Function, site: _Site, names: Sequence[str]) -> Iterator[_Ranked]:
        """Yield edits of a statement's right side, and of the entries that it writes to."""
        yield from self._expressions(function, site.value, names)
        if isinstance(site.statement, ast.Assign | ast.AugAssign):
            targets = site.statement.targets if isinstance(site.statement, ast.Assign) else [site.statement.target]
            for target in targets:
                if isinstance(target, ast.Subscript):
                    yield from self._expressions(function, target.slice, names)

    def _expressions(self, function: Function, root: ast.expr, names: Sequence[str]) -> Iterator[_Ranked]:
        todo: list[tuple[ast.expr, ast.AST | None]] = [(root, None)]
        while todo:
            node, parent = todo.pop(0)
            match node:
                case ast.BinOp():
                    yield from self._operation(root, node, names)
                case ast.UnaryOp(op=ast.USub()):
                    yield 3, (self._put(root, node, self._whole(node.operand)),)
                case ast.Compare(ops=[operator], comparators=[right]) if type(operator) in _SIGNS:
                    sign = _SIGNS[type(operator)]
                    gap = self._gap(node.left, right, sign)
                    if gap is not None:
                        yield from ((4.0, (Edit(*gap, other),)) for other in _INSTEAD[sign])
                case ast.Call():
                    yield from self._call(function, root, node, names)
                case ast.Attribute(attr="T"):
                    yield 6, (Edit(*self.source.span(node), self._whole(node.value)),)
                case ast.Name(ctx=ast.Load()) if not (isinstance(parent, ast.Call) and parent.func is node):
                    yield from self._name(node, parent, names)
                case ast.JoinedStr() | ast.Lambda():
                    continue
                case _:
                    pass
            todo += [(child, node) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
            todo += [(keyword.value, node) for keyword in getattr(node, "keywords", ())]

    def _name(self, node: ast.Name, parent: ast.AST | None, names: Sequence[str]) -> Iterator[_Ranked]:
        if isinstance(parent, ast.Attribute) and node.id in ("np", "numpy"):
            return
        for other in names:
            if other != node.id:
                near = difflib.SequenceMatcher(None, node.id, other).ratio() >= 0.5
                yield (4 if near else 6), (Edit(*self.source.span(node), other),)
        if len(node.id) == 1 or node.id in ("batch_size", "num", "count"):
            yield 5, (Edit(*self.source.span(node), f"({node.id} - 1)"),)

    def _operation(self, root: ast.expr, node: ast.BinOp, names: Sequence[str]) -> Iterator[_Ranked]:
        sign = _SIGNS.get(type(node.op), "")
        gap = self._gap(node.left, node.right, sign) if sign else None
        if gap is not None and sign in "+-*/":
            yield (3 if sign in "+-" else 3.5), (Edit(*gap, _INSTEAD[sign][0]),)
            if sign == "-":
                yield 5, (Edit(*gap, "/"),)
        left, right = self._side(node, node.left), self._side(node, node.right)
        span = self.source.span(node)
        if isinstance(node.op, ast.Pow):
            exponent = self.source.segment(node.right)
            yield 4.5, (Edit(*span, self._whole(node.left)),)
            for power in _POWERS:
                if power != exponent:
                    yield 5, (Edit(*self.source.span(node.right), power),)
        elif isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
            rank = 4 if isinstance(node.op, ast.Add | ast.Sub) else 3.4
            yield rank, (self._alone(node, left),)
            if isinstance(node.op, ast.Sub):
                yield rank, (self._put(root, node, f"-{self._whole(node.right)}"),)
            elif not isinstance(node.op, ast.Div):
                yield rank, (self._alone(node, right),)
        if isinstance(node.op, ast.Mult | ast.Div) and not isinstance(node.right, ast.Name):
            for name in names:
                yield from ((6, (self._put(root, node, f"{self._side(node, node.left)} {s} {name}"),)) for s in "*/")
        if isinstance(node.op, ast.Mult | ast.Div):
            for side in (node.left, node.right):
                if isinstance(side, ast.Name):
                    yield from ((5, (Edit(*self.source.span(side), f"{side.id} ** {n}"),)) for n in (2, 3))
        if isinstance(node.op, ast.Div) and not isinstance(node.right, ast.Constant):
            yield 4.6, (self._put(node.right, node.right, f"np.sqrt({self.source.segment(node.right)})"),)
        if isinstance(node.op, ast.Add | ast.Sub):
            for term in (node.left, node.right):
                if not (isinstance(term, ast.BinOp) and isinstance(term.op, ast.Add | ast.Sub)):
                    for factor in names:
                        yield 5.5, (self._put(root, term, f"{self._whole(term)} * {factor}"),)
                        yield 5.5, (self._put(root, term, f"{self._whole(term)} / {factor}"),)
                    if not isinstance(term, ast.Constant):
                        yield 5, (self._put(root, term, f"{self._whole(term)} ** 2"),)
                    yield 4.5, (self._put(root, term, f"0.5 * {self._whole(term)}"),)
                    yield 4.5, (self._put(root, term, f"2 * {self._whole(term)}"),)
        if isinstance(node.op, ast.Add) and _is_eps(node.right) and isinstance(node.left, ast.Call) and node.left.args:
            inside = node.left.args[0]
            call = self.source.segment(node.left.func)
            text = f"{call}({self.source.segment(inside)} + {self.source.segment(node.right)})"
            yield 2.5, (Edit(*span, text),)

    def _alone(self, node: ast.expr, text: str) -> Edit:
        """Return the edit that puts text in a node's place, without parentheses that are no longer needed."""
        start, end = self.source.span(node)
        around = self.source.text[:start].rstrip(" "), self.source.text[end:].lstrip(" ")
        opened, closed = len(around[0]) - 1, len(self.source.text) - len(around[1]) + 1
        grouping = around[0].endswith("(") and around[1].startswith(")") and around[0][-2:-1] in " =(+-*/"
        return Edit(opened, closed, text) if grouping and text.isidentifier() else Edit(start, end, text)

    def _side(self, node: ast.BinOp, side: ast.expr) -> str:
        """Return one side of an operation as it may stand in the operation's place."""
        sums = (ast.Add, ast.Sub)
        if isinstance(side, ast.BinOp) and isinstance(side.op, sums) and not isinstance(node.op, sums):
            return _parenthesized(self.source.segment(side))
        return self.source.segment(side) if isinstance(side, ast.BinOp) else self._whole(side)

    def _call(self, function: Function, root: ast.expr, node: ast.Call, names: Sequence[str]) -> Iterator[_Ranked]:
        if not isinstance(node.func, ast.Attribute):
            return
        attribute = node.func.attr
        numpy = isinstance(node.func.value, ast.Name) and node.func.value.id in ("np", "numpy")
        span = self.source.span(node)
        if attribute == "sqrt" and len(node.args) == 1:
            inside = node.args[0]
            yield 4.5, (self._put(root, node, self._whole(inside)),)
            if not any(_is_eps(part) for part in ast.walk(inside)):
                yield from self._add_eps(function, inside)
        reductions = list(self._reduction(node, node.func))
        yield from ((rank, edits) for rank, _, edits in reductions)
        if reductions and numpy:
            inside = node.args[0]
            for factor in names:
                yield 4, (self._put(inside, inside, f"{self._whole(inside)} * {factor}"),)
                yield 5, (self._put(inside, inside, f"{self._whole(inside)} / {factor}"),)
            yield 6, (Edit(*span, self._whole(inside)),)

    def _reduction(self, node: ast.Call, func: ast.Attribute) -> Iterator[tuple[float, str, Edits]]:
        """Yield other ways to sum or average the same values, each with a word for what was changed."""
        numpy = isinstance(func.value, ast.Name) and func.value.id in ("np", "numpy")
        given = node.args[1:] if numpy else node.args
        plain = all(keyword.arg is not None for keyword in node.keywords) and len(given) <= 1
        if func.attr not in _REDUCTIONS or not plain or (numpy and not node.args):
            return
        if func.attr in ("sum", "mean"):
            other, end = ("mean" if func.attr == "sum" else "sum"), self.source.span(func)[1]
            yield 2, other, (Edit(end - len(func.attr), end, other),)
        first = [self.source.segment(argument) for argument in node.args[: 1 if numpy else 0]]
        kept = {str(keyword.arg): self.source.segment(keyword.value) for keyword in node.keywords}
        axis = self.source.segment(given[0]) if given else kept.get("axis")
        keepdims = kept.get("keepdims")
        others = {name: text for name, text in kept.items() if name not in ("axis", "keepdims")}

        def call(axis: str | None, keepdims: str | None, others: Mapping[str, str] = others) -> Edits:
            shown = {"axis": axis, **others, "keepdims": keepdims}
            arguments = first + [f"{name}={text}" for name, text in shown.items() if text is not None]
            return (Edit(*self.source.span(node), f"{self.source.segment(func)}({', '.join(arguments)})"),)

        for other in ("0", "1", None):
            if other != axis:
                yield 2, f"axis={other}", call(other, keepdims if other is not None else None)
                if other == "1":
                    yield 2.5, "axis=1, keepdims", call(other, "True")
        if axis is not None:
            yield 2.5, "keepdims", call(axis, None if keepdims is not None else "True")
        if "ddof" in others:
            yield 2.5, "ddof", call(axis, keepdims, {name: text for name, text in others.items() if name != "ddof"})

    def _add_eps(self, function: Function, inside: ast.expr) -> Iterator[_Ranked]:
        """Yield the edit that adds eps under a root, carried over by the cache if it must be."""
        local = bound_names(function)
        edit = Edit(*self.source.span(inside), f"{self.source.segment(inside)} + ")
        forward = self.source.functions.get(self.pair.forward or "")
        for name in _EPS[:3]:
            added = (edit._replace(text=edit.text + name),)
            if name in local:
                yield 2.5, added
            elif forward is not None and function.name == self.pair.backward and name in bound_names(forward):
                carried = self._carry(forward, function, [name])
                if carried:
                    yield 3, added + carried


def _rows(function: Function) -> str:
    """Return the number of samples, in terms of the first argument."""
    return f"{parameters(function)[0]}.shape[0]" if parameters(function) else "N"


def _settings(function: Function) -> list[str]:
    """Return what a function reads out of a dict: param["p"]."""
    found = [
        ast.unparse(node)
        for node in ast.walk(function)
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    ]
    return list(dict.fromkeys(found))


def _loaded(node: ast.expr) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def _slice(sites: Sequence[_Site], names: set[str]) -> set[int]:
    """Return the numbers of the statements on which these names depend."""
    needed, found = set(names), set[int]()
    grown = True
    while grown:
        grown = False
        for number, site in enumerate(sites):
            if number in found:
                continue
            targets = _targets(site.statement)
            if targets & needed:
                found.add(number)
                needed |= _loaded(site.value)
                grown = True
    return found


def _targets(statement: ast.stmt) -> set[str]:
    """Return the names that a statement gives a value, or a part of one."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AugAssign | ast.AnnAssign):
        targets = [statement.target]
    else:
        return set()
    nodes = [node for target in targets for node in ast.walk(target)]
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {_base(node) for node in nodes if isinstance(node, ast.Subscript)}


def _base(node: ast.expr) -> str:
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_eps(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id in _EPS) or (
        isinstance(node, ast.Constant) and isinstance(node.value, float) and 0 < node.value < 1e-2
    )


def _is_atom(node: ast.expr) -> bool:
    return isinstance(node, ast.Name | ast.Call | ast.Attribute | ast.Subscript | ast.Constant)


def _parenthesized(text: str) -> str:
    return text if re.fullmatch(r"[\w.]+", text) else f"({text})"
