"""Terms of a gradient as NumPy code, in the names that the user's own functions use.

The functions run on symbols once more, and what their local variables hold when they return is kept. A term is then
written as a product of such variables, with a sum or a mean where it needs one.
"""

from __future__ import annotations

import ast
import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import CodeType, FrameType
from typing import Any, NamedTuple

from xhat.verify.problem import Problem, Unsupported
from xhat.verify.symbolic import prove
from xhat.verify.symbolic.algebra import Poly, Space, opened
from xhat.verify.symbolic.arrays import Axes, Size, Symbolic

_Letter = tuple[str, tuple[str, ...]]  # an entry or a number, and the axes of its indices
_Letters = dict[_Letter, Fraction]
_Layout = tuple[tuple[str, ...], ...]  # the names of every axis; () where it has length 1

_ONE = Fraction(1)
_MOST_FACTORS = 5
_MOST_TERMS = 4
_PLAIN = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Name, ast.Constant, ast.operator, ast.unaryop, ast.Load)


class _Atom(NamedTuple):
    """A piece of code that holds one product."""

    text: str
    letters: _Letters
    coefficient: Fraction
    layout: _Layout
    cost: float


_Parts = Sequence[tuple[_Atom, int]]  # with 1 for a factor, -1 for a divisor


@dataclass(frozen=True)
class _Spelled:
    text: str  # without its sign
    cost: float


class Speller:
    """Writes what a pair's gradients lack.

    Parameters
    ----------
    problem : Problem
        The pair, whose functions run on symbols.

    Raises
    ------
    Refusal
        If they cannot.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        function = problem.backward or problem.forward
        kept = _Kept({_code(problem.forward), _code(function)})
        with kept:
            self.proof = prove(replace(problem, specification=None))
        self._space: Space = self.proof.space
        self._indices: dict[str, int] = {}
        self._own = kept.of(_code(function), self._space)
        self._others = kept.of(_code(problem.forward), self._space) if problem.backward else {}
        self._known: dict[Any, tuple[float, _Parts] | None] = {}
        self._atoms = list(self._all_atoms())

    def missing(self, gradient: str, factor: str = "1") -> list[str]:
        """Return the terms that are to be added to a gradient, or to what is multiplied by a factor there.

        Each with its sign: "- gamma * np.mean(dout, axis=0) / std". None if terms of the gradient are themselves wrong,
        or if there are no names for what is missing.

        Parameters
        ----------
        gradient : str
            "dx".
        factor : str
            An expression in the names of the function: "1 / std".
        """
        known = self.proof.gradients.get(gradient)
        if known is None or known.user is None or gradient in self.proof.undecided:
            return []
        rest = (known.true - known.user).normal()
        if not rest.terms or rest.terms.keys() & known.user.terms.keys():
            return []
        try:
            scale = self._value(factor)
            if scale is None:
                return []
            rest, axes = self._canonical(rest, known.axes)
            rest = (rest * scale.power(Fraction(-1))).normal()
            return self._sum(rest, axes) or []
        except (Unsupported, ArithmeticError):
            return []

    def whole(self, gradient: str) -> str | None:
        """Return all of the true gradient as an expression, or None if there are no names for it."""
        known = self.proof.gradients.get(gradient)
        if known is None:
            return None
        try:
            true, axes = self._canonical(known.true, known.axes)
            terms = self._sum(true, axes)
        except (Unsupported, ArithmeticError):
            return None
        if not terms:
            return None
        terms.sort(key=lambda term: term.startswith("-"))
        text = " ".join(terms)
        return text.removeprefix("+ ") if text.startswith("+") else f"-{text.removeprefix('- ')}"

    # What the variables hold

    def _canonical(self, poly: Poly, axes: Axes) -> tuple[Poly, _Layout]:
        """Return a polynomial with one index for every name of an axis, and these names."""
        space = self._space
        names = [space.dims[i] for axis in axes for i in axis]
        if len(set(names)) < len(names):
            raise Unsupported("an axis that occurs twice")
        for name in names:
            if name not in self._indices:
                self._indices[name] = space.index(name)
        renaming = {i: self._indices[space.dims[i]] for axis in axes for i in axis}
        layout = tuple(tuple(space.dims[i] for i in axis) for axis in axes)
        return poly.renamed(renaming).normal(), layout

    def _value(self, expression: str) -> Poly | None:
        """Return what an expression of plain arithmetic holds."""
        tree = ast.parse(expression, mode="eval")
        if not all(isinstance(node, _PLAIN) for node in ast.walk(tree)):
            return None
        held = dict(self._own)
        if not all(node.id in held for node in ast.walk(tree) if isinstance(node, ast.Name)):
            return None
        value = eval(compile(tree, "<factor>", "eval"), {"__builtins__": {}}, held)
        if isinstance(value, int | float):
            return self._space.number(Fraction(value))
        if isinstance(value, Size):
            return value.poly
        return self._canonical(value.poly, value.axes)[0] if isinstance(value, Symbolic) else None

    def _all_atoms(self) -> Iterator[_Atom]:
        held: dict[str, tuple[Poly, _Layout, float]] = {}
        for names, cost in ((self._own, 1.0), (self._others, 3.0)):
            for name, value in names.items():
                if name in held or name in self._problem.gradients or not name.strip("_"):
                    continue
                try:
                    if isinstance(value, Size):
                        held[name] = value.poly, (), cost
                    elif isinstance(value, Symbolic) and not value.boolean:
                        held[name] = *self._canonical(value.poly, value.axes), cost
                except (Unsupported, ArithmeticError):
                    continue
        for name, (poly, layout, cost) in held.items():
            yield from self._atoms_of(name, poly, layout, cost)
            if layout:
                for place, axis in enumerate(layout):
                    if len(axis) == 1:
                        letters: _Letters = {(axis[0], ()): Fraction(1)}
                        yield _Atom(f"{name}.shape[{place}]", letters, Fraction(1), (), cost + 0.6)
        for (one, (p, layout, cost)), (other, (q, second, more)) in itertools.permutations(held.items(), 2):
            larger = layout if len(layout) >= len(second) else second
            try:
                if len(p.terms) == 2 and layout and _fitted("", second, layout) is not None:
                    yield from self._atoms_of(f"({one} - {other})", (p - q).normal(), layout, cost + more + 0.1)
                if other in self._problem.scalars:
                    yield from self._atoms_of(f"({one} + {other})", (p + q).normal(), larger, cost + more)
            except (Unsupported, ArithmeticError):
                continue

    def _atoms_of(self, text: str, poly: Poly, layout: _Layout, cost: float) -> Iterator[_Atom]:
        if len(poly.terms) != 1:
            return
        ((monomial, coefficient),) = poly.terms.items()
        letters = self._letters(monomial)
        if letters:
            yield _Atom(text, letters, coefficient, layout, cost)
            if len(letters) == 1 and coefficient == 1 and self._is_root(letters):
                halves = {letter: power / 2 for letter, power in letters.items()}
                inner = text.removeprefix("(").removesuffix(")") if text.startswith("(") else text
                yield _Atom(f"np.sqrt({inner})", halves, Fraction(1), layout, cost + 0.5)

    def _is_root(self, letters: _Letters) -> bool:
        ((name, _), _), *_ = letters.items()
        return any(known == name for _, known in self._space.positive)

    def _letters(self, monomial: Any) -> _Letters | None:
        """Return a product without sums; None with one."""
        letters: _Letters = {}
        for factor, power in monomial:
            if factor[0] == "S":
                return None
            indices = tuple(self._space.dims[i] for i in (factor[2] if factor[0] == "e" else ()))
            letters[factor[1], indices] = Fraction(power)
        return letters

    # Writing

    def _sum(self, poly: Poly, axes: _Layout) -> list[str] | None:
        """Return the terms, each with its sign."""
        if not 0 < len(poly.terms) <= _MOST_TERMS:
            return None
        told: list[str] = []
        for monomial, coefficient in poly.terms.items():
            spelled = self._term(monomial, abs(coefficient), axes)
            if spelled is None:
                return None
            told.append(f"{'-' if coefficient < 0 else '+'} {spelled.text}")
        return told

    def _term(self, monomial: Any, coefficient: Fraction, axes: _Layout) -> _Spelled | None:
        sums = [(factor, power) for factor, power in monomial if factor[0] == "S"]
        outside = self._letters([pair for pair in monomial if pair[0][0] != "S"])
        if outside is None or len(sums) > 1 or any(power != 1 for _, power in sums):
            return None
        if not sums:
            return self._product(outside, coefficient, axes, None)
        factor = sums[0][0]
        over = set(factor[1])
        fresh = [self._space.index(dim) for dim in factor[1]]
        inside = self._letters(opened(factor, fresh))
        if inside is None or len(over) < len(factor[1]):
            return None
        best: _Spelled | None = None
        for layout in self._layouts(axes, over):
            for parts in self._insides(inside, over, layout):
                text = self._reduced(parts, over, layout, axes)
                if text is None:
                    continue
                extra = _times(*({letter: sign * p for letter, p in atom.letters.items()} for atom, sign in parts))
                left = _times(outside, inside, {letter: -power for letter, power in extra.items()})
                number = coefficient
                for atom, sign in parts:
                    number /= atom.coefficient**sign
                mean = all(left.get((dim, ()), 0) <= -1 for dim in over)
                if mean:
                    left = _times(left, {(dim, ()): Fraction(1) for dim in over})
                cost = sum(atom.cost for atom, _ in parts) + 0.1 * len(parts)
                found = self._product(left, number, axes, text.replace("REDUCE", "mean" if mean else "sum"))
                if found is not None and (best is None or found.cost + cost < best.cost):
                    best = _Spelled(found.text, found.cost + cost)
        return best

    def _layouts(self, axes: _Layout, over: set[str]) -> list[_Layout]:
        """Return the layouts of arrays in which a sum can be taken: that of the gradient if it has these axes."""
        known = [axes, *(atom.layout for atom in self._atoms)]
        return [layout for layout in dict.fromkeys(known) if over <= {dim for axis in layout for dim in axis}]

    def _insides(self, inside: _Letters, over: set[str], layout: _Layout) -> Iterator[_Parts]:
        """Yield products of a few variables that hold what is summed, and factors that need not be inside."""
        useful = [atom for atom in self._atoms if atom.layout and atom.letters.keys() & inside.keys()]
        for count in (1, 2, 3):
            for atoms in itertools.combinations_with_replacement(useful, count):
                left = _times(inside, *({letter: -p for letter, p in atom.letters.items()} for atom in atoms))
                left = {letter: p for letter, p in left.items() if over & {letter[0], *letter[1]}}
                more = self._cover(left, 1, layout) if count < 3 else None
                if not left or more is not None:
                    yield [*((atom, 1) for atom in atoms), *(more[1] if left and more is not None else [])]

    def _reduced(self, parts: _Parts, over: set[str], layout: _Layout, axes: _Layout) -> str | None:
        if any(_fitted("", atom.layout, layout) is None for atom, _ in parts):
            return None
        places = [k for k, axis in enumerate(layout) if over & set(axis)]
        if {dim for k in places for dim in layout[k]} != over:
            return None
        shapes = [_spread(atom.layout, layout) for atom, _ in parts]
        if any(all(not shape[k] for shape in shapes) for k in places):  # summed over an axis of length 1
            return None
        left = tuple(axis for k, axis in enumerate(layout) if k not in places)
        keep = ""
        if left != axes and places != list(range(len(places))):
            keep = ", keepdims=True"
        if not (left == axes or layout == axes):
            return None
        axis = f"axis={places[0] if len(places) == 1 else tuple(places)}" if left else ""
        return f"np.REDUCE({', '.join(filter(None, [_written(parts, layout), axis]))}{keep})"

    def _product(self, letters: _Letters, coefficient: Fraction, axes: _Layout, reduced: str | None) -> _Spelled | None:
        found = self._cover({k: p for k, p in letters.items() if p}, _MOST_FACTORS, axes)
        if found is None:
            return None
        for atom, sign in found[1]:
            coefficient /= atom.coefficient**sign
        return _Spelled(_written(found[1], axes, coefficient, reduced), found[0]) if coefficient > 0 else None

    def _cover(self, letters: _Letters, most: int, axes: _Layout) -> tuple[float, _Parts] | None:
        """Return the cheapest product of variables and reciprocals that holds this."""
        if not letters:
            return 0.0, []
        key = (tuple(sorted(letters.items())), axes, most)
        if key in self._known:
            return self._known[key]
        best: tuple[float, _Parts] | None = None
        if most:
            first = max(letters, key=lambda letter: (len(letter[1]), str(letter)))
            for atom in self._atoms:
                if first not in atom.letters or _fitted("", atom.layout, axes) is None:
                    continue
                sign = 1 if atom.letters[first] * letters[first] > 0 else -1
                left = _times(letters, {letter: -sign * power for letter, power in atom.letters.items()})
                if sum(map(abs, left.values())) >= sum(map(abs, letters.values())):
                    continue
                rest = self._cover(left, most - 1, axes)
                if rest is not None and (best is None or atom.cost + rest[0] < best[0]):
                    best = atom.cost + rest[0], [(atom, sign), *rest[1]]
        self._known[key] = best
        return best


def _times(*products: Mapping[_Letter, Fraction]) -> _Letters:
    total: _Letters = {}
    for product in products:
        for letter, power in product.items():
            total[letter] = total.get(letter, Fraction(0)) + power
    return {letter: power for letter, power in total.items() if power}


def _written(parts: _Parts, axes: _Layout, coefficient: Fraction = _ONE, reduced: str | None = None) -> str:
    """Return a product as code that broadcasts along these axes."""
    above: list[str] = [] if coefficient.numerator == 1 else [str(coefficient.numerator)]
    below: list[str] = [] if coefficient.denominator == 1 else [str(coefficient.denominator)]
    for (text, sign), count in Counter((_fitted(atom.text, atom.layout, axes), sign) for atom, sign in parts).items():
        (above if sign > 0 else below).append(f"{text} ** {count}" if count > 1 else f"{text}")
    if reduced is not None:
        above.append(reduced)
    return " / ".join([" * ".join(above) or "1", *below])


def _fitted(text: str, layout: _Layout, axes: _Layout) -> str | None:
    """Return code that broadcasts along these axes, or None."""
    if len(layout) <= len(axes) and all(
        not own or own == axis for own, axis in zip(reversed(layout), reversed(axes), strict=False)
    ):
        return text
    places = [axes.index(axis) for axis in layout if axis in axes]
    if len(places) < len(layout) or places != sorted(places) or len(set(places)) < len(places):
        return None
    index = [":" if place in places else "None" for place in range(places[0], len(axes))]
    return f"{text}[{', '.join(index)}]"


def _spread(layout: _Layout, axes: _Layout) -> list[bool]:
    """Return which axes an array has that was fitted to them."""
    own = {dim for axis in layout for dim in axis}
    return [bool(own & set(axis)) for axis in axes]


class _Kept:
    """Keeps what the local variables of some functions hold when they return."""

    def __init__(self, codes: set[CodeType | None]) -> None:
        self._places = {(code.co_filename, code.co_name) for code in codes if code is not None}
        self._frames: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._entered)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _entered(self, frame: FrameType, event: str, _: Any) -> Any:
        if (frame.f_code.co_filename, frame.f_code.co_name) not in self._places:
            return None
        frame.f_trace_lines = False
        return self._left

    def _left(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "return":
            self._frames.setdefault((frame.f_code.co_filename, frame.f_code.co_name), []).append(dict(frame.f_locals))
        return self._left

    def of(self, code: CodeType | None, space: Space) -> dict[str, Any]:
        """Return the variables of the first call in a space."""
        for held in self._frames.get((code.co_filename, code.co_name), []) if code is not None else []:
            values = {name: value for name, value in held.items() if isinstance(value, Size | Symbolic)}
            if any(
                (value.poly.space if isinstance(value, Size) else value.space) is space for value in values.values()
            ):
                return {name: value for name, value in values.items() if name.isidentifier()}
        return {}


def _code(function: Any) -> CodeType | None:
    return getattr(function, "__code__", None)
