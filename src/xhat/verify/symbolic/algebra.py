"""Polynomials in the entries of arrays of any size, and in sums over them.

A *factor* is a symbol (a size, eps), an entry of an array (x[i, j]), or a sum over bound indices of a product of
entries. A *monomial* is a product of powers of factors, a `Poly` a sum of monomials with rational coefficients. Sums
are flattened and taken apart until each is one connected product, whose bound indices are numbered in a canonical
order: two formulas that differ by the names of their indices are the same dictionary.

What is no polynomial gets a name: the root or the reciprocal of P is a power of a new quantity T = P, `exp`, `log`,
`max` and the indicator [P > 0] are new entries. What is known of a name is a *rule* that rewrites: where P contains a
sum linearly, that sum is expressed by T, so that T becomes the free variable. Every rule is an identity under the
assumptions that the `Space` records (T > 0, a divisor that is not 0), so that equal normal forms mean equal functions,
for all sizes and all real inputs. Different normal forms mean nothing by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations, product
from typing import Any

from xhat.verify.problem import Unsupported

# ("s", name) | ("e", name, indices) | ("S", dims, product). Free indices are numbers from 0 up; inside a sum, -1, -2,
# ... are its bound indices, in the order of dims. A product is a sorted tuple of (factor, exponent).
Factor = tuple[Any, ...]
Product = tuple[tuple[Factor, Any], ...]

# No name of a user's holds a $, so that none is taken for one of these.
_PREFIX = {
    "power": "$T",
    "positive": "$H",
    "exp": "$E",
    "log": "$L",
    "tanh": "$tanh",
    "max": "$max",
    "argmax": "$at",
}
_E: Factor = ("s", "$e")  # with e * e = 0: the direction of a derivative
_MOST_TERMS = 20_000
_MOST_DIGITS = 4_000
_MOST_ROUNDS = 40
_MARK = "\0"


def symbol(name: str) -> Factor:
    """Return the factor of a number."""
    return ("s", name)


def entry(name: str, indices: Sequence[int]) -> Factor:
    """Return the factor of an array's entry."""
    return ("e", name, tuple(indices))


def free_indices(factor: Factor) -> frozenset[int]:
    """Return the free indices of a factor."""
    if factor[0] == "e":
        return frozenset(i for i in factor[2] if i >= 0)
    if factor[0] == "S":
        return frozenset(i for inner, _ in factor[2] for i in inner[2] if i >= 0)
    return frozenset()


def entries(factor: Factor) -> Iterator[Factor]:
    """Yield the entries in a factor."""
    if factor[0] == "e":
        yield factor
    elif factor[0] == "S":
        for inner, _ in factor[2]:
            yield inner


@dataclass
class Named:
    """A quantity that got a name: `kind` of `poly`, with the free indices in this order."""

    name: str
    kind: str  # "power", "exp", "log", "positive", "max", "argmax", "tanh"
    poly: Poly
    indices: tuple[int, ...]
    over: tuple[int, ...]
    key: Poly  # poly in normal form under all rules of now; a power's own poly would be the name itself


@dataclass(frozen=True)
class _SumRule:
    """The sum on the left, with free indices as parameters, equals the polynomial on the right."""

    dims: tuple[str, ...]
    product: Product
    right: Poly
    names: frozenset[tuple[str, Any]]


@dataclass(frozen=True)
class _PowerRule:
    """T = lead**power + rest, for a lead that is no sum."""

    name: str
    lead: Product
    rest: Poly
    indices: tuple[int, ...]


class Space:
    """The names of one proof, the rules between them and the assumptions that they rest on."""

    def __init__(self) -> None:
        self.dims: dict[int, str] = {}
        self.named: dict[str, Named] = {}
        self.assumptions: list[tuple[str, Poly | None]] = []
        self.literals: dict[float, Fraction] = {}
        self.positive: set[tuple[str, str]] = set()
        self.idempotent: set[str] = set()
        self._one_hot: dict[str, tuple[int, ...]] = {}
        self._sum_rules: list[_SumRule] = []
        self._power_rules: list[_PowerRule] = []
        self.undefined = 0
        self.loops: list[Any] = []  # the frames of those that are open, the outermost first
        self._count = 0
        self._places: dict[tuple[int, str], int] = {}

    def index(self, dim: str) -> int:
        """Return a new free index of this dimension."""
        self._count += 1
        self.dims[self._count] = dim
        return self._count

    def place(self, number: int, dim: str) -> int:
        """Return the same free index whenever it is asked for, to compare what has indices of its own."""
        key = number, dim
        if key not in self._places:
            self._places[key] = self.index(dim)
        return self._places[key]

    def number(self, value: Fraction | int) -> Poly:
        """Return a constant."""
        return Poly(self, {(): Fraction(value)})

    def symbol(self, name: str, *, positive: bool = False) -> Poly:
        """Return a number with a name."""
        if positive:
            self.positive.add(("s", name))
        return Poly(self, {((symbol(name), 1),): Fraction(1)})

    def entry(self, name: str, indices: Sequence[int]) -> Poly:
        """Return an array's entry."""
        return Poly(self, {((entry(name, indices), 1),): Fraction(1)})

    def sum_rule(self, left: Factor, right: Poly) -> None:
        """Let the sum on the left be the polynomial on the right, whatever its free indices are."""
        names = frozenset((inner[1], power) for inner, power in left[2])
        self._sum_rules.append(_SumRule(left[1], left[2], right, names))

    def one_hot(self, name: str, dims: Sequence[str], along: Sequence[int]) -> None:
        """Let entries with this name, and indices of these dimensions, be 0 but for one 1 along some of them."""
        self.idempotent.add(name)
        self._one_hot[name] = tuple(along)
        bound = {k: -n for n, k in enumerate(along, 1)}
        indices = [bound.get(k) or self.index(dim) for k, dim in enumerate(dims)]
        self.sum_rule(("S", tuple(dims[k] for k in along), ((entry(name, indices), 1),)), self.number(1))

    def assume(self, text: str, poly: Poly | None = None) -> None:
        """Record what the proof rests on: "{} > 0" for a polynomial, say."""
        if (text, poly) not in self.assumptions:
            self.assumptions.append((text, poly))

    def _meaning(self, factor: Factor) -> Poly:
        """Return what a name stands for; a factor without one stands for itself."""
        named = self.named.get(factor[1]) if factor[0] != "S" else None
        return named.poly if named is not None and named.kind == "power" else Poly(self, {((factor, 1),): Fraction(1)})

    # --- products -----------------------------------------------------------------------------------------------

    def collect(self, factors: Iterable[tuple[Factor, Any]], coefficient: Fraction = Fraction(1)) -> Poly:
        """Return the product of powers of factors, reduced by what is known of the names in it."""
        powers: dict[Factor, Any] = {}
        for factor, power in factors:
            powers[factor] = powers.get(factor, 0) + power
        for factor, power in list(powers.items()):
            if not power:
                del powers[factor]
            elif factor[0] == "e" and factor[1] in self.idempotent and power != 1:
                if power < 0:
                    raise ZeroDivisionError("division by something that is 0 for some inputs")
                powers[factor] = 1
        if powers.get(_E, 0) > 1:
            return Poly(self, {})
        picked = self._pick(powers)
        if picked is not None:
            return picked * coefficient
        for rule in self._power_rules:
            reduced = self._reduce(powers, rule)
            if reduced is not None:
                return reduced * coefficient
        return Poly(self, {_sorted(powers): coefficient})

    def _pick(self, powers: Mapping[Factor, Any]) -> Poly | None:
        """Put together what is picked by one 1 in a row: sum(Y a) sum(Y b) = sum(Y a b), and Y sum(Y a) = Y a."""
        seen: dict[tuple[Any, ...], Factor] = {}
        for factor, power in sorted(powers.items(), key=lambda item: item[0][0] == "S"):
            for inner in entries(factor):
                along = self._one_hot.get(inner[1])
                if along is None or any(i < 0 for k, i in enumerate(inner[2]) if k not in along):
                    continue
                if factor[0] == "S" and any(inner[2][k] >= 0 for k in along):
                    continue
                key = (inner[1], tuple(i for k, i in enumerate(inner[2]) if k not in along))
                other = seen.setdefault(key, factor)
                if factor[0] == "S" and (other != factor or power > 1):
                    return self._merged(powers, other, factor, key)
        return None

    def _merged(self, powers: Mapping[Factor, Any], one: Factor, other: Factor, key: tuple[Any, ...]) -> Poly:
        rest = [(f, p) for f, p in powers.items() if f not in (one, other)]
        chosen: list[int] | None = None
        bound: set[int] = set()
        together: list[tuple[Factor, Any]] = []
        for factor in dict.fromkeys((one, other)):
            for _ in range(int(powers[factor]) if factor[0] == "S" else 1):
                fresh = [self.index(dim) for dim in factor[1]] if factor[0] == "S" else []
                inner = opened(factor, fresh) if factor[0] == "S" else [(factor, powers[factor])]
                along = self._one_hot[key[0]]
                here = next(
                    [f[2][k] for k in along]
                    for f, _ in inner
                    if f[1] == key[0] and tuple(i for k, i in enumerate(f[2]) if k not in along) == key[1]
                )
                if chosen is None:
                    chosen = here
                    bound |= set(fresh)
                renaming = dict(zip(here, chosen, strict=True))
                together += [(_renamed(f, renaming), p) for f, p in inner]
                bound |= set(fresh) - set(here)
        return self.collect(rest) * self.sum_over(self.collect(together), bound)

    def picks(self, factor: Factor) -> tuple[Poly, Poly, list[int]] | None:
        """Return Y, a and the index k if a factor is sum over k of Y a, where Y has one 1."""
        if factor[0] != "S":
            return None
        fresh = [self.index(dim) for dim in factor[1]]
        inner = opened(factor, fresh)
        for f, _ in inner:
            along = self._one_hot.get(f[1])
            if along is not None and all((k in along) == (i in fresh) for k, i in enumerate(f[2])):
                chosen = [f[2][k] for k in along]
                rest = self.collect((g, p) for g, p in inner if g != f)
                return self.collect([(f, 1)]), self.sum_over(rest, set(fresh) - set(chosen)), chosen
        return None

    def _reduce(self, powers: Mapping[Factor, Any], rule: _PowerRule) -> Poly | None:
        """Rewrite a product by T = lead^n + rest, so that T is left with powers below 1, without what it divides."""
        for t, present in powers.items():
            if t[0] == "S" or t[1] != rule.name:
                continue
            renaming = dict(zip(rule.indices, t[2], strict=True)) if t[0] == "e" else {}
            lead = [(_renamed(f, renaming), p) for f, p in rule.lead]
            rest = rule.rest.renamed(renaming)
            others = [(f, p) for f, p in powers.items() if f != t]
            if present >= 1:  # T = lead + rest
                low = self.collect([*others, (t, present - 1)])
                return self.collect([*others, *lead, (t, present - 1)]) + low * rest
            if present > 0:
                continue
            if all(powers.get(f, 0) >= p for f, p in lead):  # lead = T - rest
                others += [(f, -p) for f, p in lead]
                return self.collect([*others, (t, present + 1)]) - self.collect([*others, (t, present)]) * rest
            unit = len(rest.terms) == 1 and self._is_unit(next(iter(rest.terms)))
            if unit and any(powers.get(f, 0) < 0 for f, _ in lead):  # 1 = (T - lead) / rest
                low, high = self.collect([*others, (t, present + 1)]), self.collect([*others, *lead, (t, present)])
                return (low - high) * rest.power(Fraction(-1))
        return None

    def _is_unit(self, monomial: Product) -> bool:
        return all(
            self.is_positive(f) or (f[0] != "S" and f[1] in self.named and self.named[f[1]].kind == "power")
            for f, _ in monomial
        )

    def is_positive(self, factor: Factor) -> bool:
        """Say whether a factor is known to be greater than 0."""
        return factor[:2] in self.positive

    def take_positive(self, factor: Factor) -> None:
        """Let a named quantity be greater than 0: because it is, or by assumption."""
        if factor[:2] not in self.positive:
            self.positive.add(factor[:2])
            named = self.named.get(factor[1])
            if named is None or not self._is_sum_of_positives(named.poly):
                self.assume("{} > 0", self._meaning(factor))

    def take_nonzero(self, factor: Factor) -> None:
        """Let a named quantity be other than 0: because it is, or by assumption."""
        named = self.named.get(factor[1])
        if named is not None and self._is_sum_of_positives(named.poly):
            self.positive.add(factor[:2])
        elif not self.is_positive(factor):
            self.assume("{} != 0", self._meaning(factor))

    def _is_sum_of_positives(self, poly: Poly) -> bool:
        """Whether no term is below 0, and one is above."""

        def never_negative(factor: Factor, power: Any) -> bool:
            if factor[0] == "S":
                return all(never_negative(inner, p) for inner, p in factor[2])
            return self.is_positive(factor) or (power > 0 and power % 2 == 0)

        def above(factor: Factor) -> bool:
            return all(self.is_positive(e) for e in entries(factor)) if factor[0] == "S" else self.is_positive(factor)

        terms = poly.terms.items()
        return all(c > 0 and all(never_negative(f, p) for f, p in m) for m, c in terms) and any(
            all(above(f) for f, _ in m) for m, _ in terms
        )

    # --- sums ---------------------------------------------------------------------------------------------------

    def sum_over(self, poly: Poly, indices: Iterable[int]) -> Poly:
        """Return the sum over all values of these free indices."""
        bound = frozenset(indices)
        if not bound:
            return poly
        total = _Total(self)
        for monomial, coefficient in poly.terms.items():
            total.add(self._sum_product(monomial, bound), coefficient)
        return total.poly()

    def _sum_product(self, monomial: Product, bound: frozenset[int]) -> Poly:
        outside: list[tuple[Factor, Any]] = []
        inside: dict[Factor, Any] = {}
        everything = set(bound)
        for factor, power in monomial:
            if not free_indices(factor) & bound:
                outside.append((factor, power))
            elif factor[0] == "e":
                inside[factor] = inside.get(factor, 0) + power
            else:
                for _ in range(int(power)):  # a sum is never in a denominator: it would have a name
                    fresh = [self.index(dim) for dim in factor[1]]
                    everything.update(fresh)
                    for inner, exponent in opened(factor, fresh):
                        inside[inner] = inside.get(inner, 0) + exponent
        result = self.collect(outside)
        reduced = self.collect(inside.items())
        if reduced.terms == {tuple(sorted(inside.items())): 1}:
            return result * self._sum_components(inside, everything)
        return result * self.sum_over(reduced, everything)  # a rule rewrote the product

    def _sum_components(self, inside: Mapping[Factor, Any], bound: set[int]) -> Poly:
        """Take a product apart into pieces that share no bound index, and sum each."""
        result = self.number(1)
        left = dict(inside)
        waiting = set(bound)
        while waiting:
            piece_indices = {waiting.pop()}
            piece: dict[Factor, Any] = {}
            grown = True
            while grown:
                grown = False
                for factor in list(left):
                    here = free_indices(factor) & bound
                    if here & piece_indices:
                        piece[factor] = left.pop(factor)
                        piece_indices |= here
                        grown = True
            waiting -= piece_indices
            if piece:
                result = result * self._component(piece, piece_indices)
            else:
                (only,) = piece_indices
                result = result * self.symbol(self.dims[only], positive=True)
        return result * self.collect(left.items()) if left else result

    def _component(self, piece: Mapping[Factor, Any], bound: set[int]) -> Poly:
        """Return one connected sum, by a rule if there is one for a part of it, else under its canonical name."""
        for rule in self._sum_rules:
            if not rule.names <= {(f[1], p) for f, p in piece.items()}:
                continue
            rewritten = self._apply(rule, piece, bound)
            if rewritten is not None:
                return rewritten
        return Poly(self, {((self._canonical(piece, bound), 1),): Fraction(1)})

    def _apply(self, rule: _SumRule, piece: Mapping[Factor, Any], bound: set[int]) -> Poly | None:
        candidates = [[i for i in bound if self.dims[i] == dim] for dim in rule.dims]
        for chosen in product(*candidates):
            if len(set(chosen)) < len(chosen):
                continue
            incident = [(f, p) for f, p in piece.items() if not free_indices(f).isdisjoint(chosen)]
            if len(incident) != len(rule.product):
                continue
            for order in permutations(incident):
                renaming = _matched(rule.product, order, chosen)
                if renaming is None:
                    continue
                rest = self.collect((f, p) for f, p in piece.items() if free_indices(f).isdisjoint(chosen))
                return self.sum_over(rest * rule.right.renamed(renaming), bound - set(chosen))
        return None

    def _canonical(self, piece: Mapping[Factor, Any], bound: set[int]) -> Factor:
        """Return the sum with its bound indices numbered so that the sorted product is the least one."""
        signatures: dict[tuple[Any, ...], list[int]] = {}
        for index in bound:
            role = sorted(
                (f[1], str(p), tuple(k for k, i in enumerate(f[2]) if i == index), len(f[2]))
                for f, p in piece.items()
                if index in f[2]
            )
            signatures.setdefault((self.dims[index], tuple(role)), []).append(index)
        groups = [signatures[key] for key in sorted(signatures)]
        if math.prod(math.factorial(len(group)) for group in groups) > 5040:
            raise Unsupported("a product with more sums than can be put in order")
        dims = tuple(self.dims[i] for group in groups for i in group)
        best: Product | None = None
        for orders in product(*(permutations(group) for group in groups)):
            number = {i: -k for k, i in enumerate((i for order in orders for i in order), 1)}
            candidate = tuple(sorted((_renamed(f, number), p) for f, p in piece.items()))
            if best is None or candidate < best:
                best = candidate
        assert best is not None
        return ("S", dims, best)

    # --- names --------------------------------------------------------------------------------------------------

    def name(self, kind: str, poly: Poly, over: Sequence[int] = (), *, within: bool = False) -> Poly:
        """Return the entry that stands for `kind` of a polynomial; equal polynomials get equal names.

        What is taken over some of its free indices (a maximum) does not have them itself, unless it is `within`.
        """
        gone = () if within else tuple(over)
        free = sorted(poly.free_indices())
        for known in self.named.values():
            if known.kind != kind or len(known.indices) != len(free) or len(known.key.terms) != len(poly.terms):
                continue
            for order in permutations(free):
                if any(self.dims[a] != self.dims[b] for a, b in zip(known.indices, order, strict=True)):
                    continue
                renaming = dict(zip(known.indices, order, strict=True))
                if {renaming[i] for i in known.over} == set(over) and known.key.renamed(renaming) == poly:
                    return self._named(known.name, [renaming[i] for i in known.indices if renaming[i] not in gone])
        name = f"{_PREFIX[kind]}{sum(known.kind == kind for known in self.named.values()) + 1}"
        self.named[name] = Named(name, kind, poly, tuple(free), tuple(over), poly)
        return self._named(name, [i for i in free if i not in gone])

    def _named(self, name: str, indices: Sequence[int]) -> Poly:
        return self.entry(name, indices) if indices else self.symbol(name)

    def named_power(self, poly: Poly) -> Poly:
        """Return T = poly, with a rule by which T takes the place of something in poly."""
        before = len(self.named)
        t = self.name("power", poly)
        if len(self.named) > before:
            self._orient(next(reversed(self.named)), t, poly)
            for known in self.named.values():
                if known.kind != "power":
                    known.key = known.key.normal()
        return t

    def _orient(self, name: str, t: Poly, poly: Poly) -> None:
        for monomial, coefficient in poly.terms.items():
            for factor, power in monomial:
                if factor[0] != "S" or power != 1:
                    continue
                others = tuple((f, p) for f, p in monomial if f != factor)
                if not self._is_unit(others) or free_indices(factor) != poly.free_indices():
                    continue
                unit = Poly(self, {others: coefficient}).power(Fraction(-1))
                rest = Poly(self, {m: c for m, c in poly.terms.items() if m != monomial})
                self.sum_rule(factor, self.symbol(_MARK))
                found_again = _MARK in rest.normal().names()  # it would be rewritten for ever
                self._sum_rules.pop()
                if not found_again:
                    self.sum_rule(factor, (t - rest) * unit)
                    return
        indices = self.named[name].indices
        leads = [
            monomial
            for monomial, coefficient in poly.terms.items()
            if coefficient == 1
            and monomial
            and all(f[0] != "S" and p > 0 and len(set(_of(f))) == len(_of(f)) for f, p in monomial)
        ]
        for monomial in sorted(leads, key=lambda m: (all(f[0] == "s" for f, _ in m), len(m), m)):
            rest = Poly(self, {m: c for m, c in poly.terms.items() if m != monomial})
            if not {f[1] for f, _ in monomial} & rest.names():
                self._power_rules.append(_PowerRule(name, monomial, rest, indices))
                return


class Poly:
    """A sum of monomials with rational coefficients; nothing in it means 0."""

    __slots__ = ("space", "terms")

    def __init__(self, space: Space, terms: Mapping[Product, Fraction]) -> None:
        self.space = space
        self.terms = {m: c for m, c in terms.items() if c}
        if len(self.terms) > _MOST_TERMS:
            raise Unsupported(f"a formula of more than {_MOST_TERMS:,} terms")

    def __add__(self, other: Poly) -> Poly:
        terms = dict(self.terms)
        for monomial, coefficient in other.terms.items():
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return Poly(self.space, terms)

    def __neg__(self) -> Poly:
        return Poly(self.space, {m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Poly) -> Poly:
        return self + (-other)

    def __mul__(self, other: Poly | Fraction | int) -> Poly:
        if not isinstance(other, Poly):
            return Poly(self.space, {m: c * other for m, c in self.terms.items()})
        total = _Total(self.space)
        for m1, c1 in self.terms.items():
            for m2, c2 in other.terms.items():
                if not m2:
                    total.terms[m1] = total.terms.get(m1, 0) + c1 * c2
                else:
                    total.add(self.space.collect([*m1, *m2]), c1 * c2)
        return total.poly()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __bool__(self) -> bool:
        return bool(self.terms)

    @property
    def constant(self) -> Fraction | None:
        """The number that it is; None if it is none."""
        if not self.terms:
            return Fraction(0)
        return self.terms.get(()) if len(self.terms) == 1 else None

    def names(self) -> set[str]:
        """Return the names of all symbols and entries."""
        found: set[str] = set()
        for monomial in self.terms:
            for factor, _ in monomial:
                found.update([factor[1]] if factor[0] != "S" else (inner[1] for inner in entries(factor)))
        return found

    def free_indices(self) -> frozenset[int]:
        """Return the free indices."""
        return frozenset(i for monomial in self.terms for factor, _ in monomial for i in free_indices(factor))

    def renamed(self, renaming: Mapping[int, int]) -> Poly:
        """Return the same with other free indices, all exchanged at once."""
        renaming = {a: b for a, b in renaming.items() if a != b}
        if not renaming:
            return self
        total = _Total(self.space)
        for monomial, coefficient in self.terms.items():
            if not any(free_indices(factor) & renaming.keys() for factor, _ in monomial):
                total.terms[monomial] = total.terms.get(monomial, 0) + coefficient
                continue
            total.add(self.space.collect([(self._renamed(f, renaming), p) for f, p in monomial]), coefficient)
        return total.poly()

    def _renamed(self, factor: Factor, renaming: Mapping[int, int]) -> Factor:
        if factor[0] != "S":
            return _renamed(factor, renaming)
        fresh = [self.space.index(dim) for dim in factor[1]]
        piece = {_renamed(inner, renaming): power for inner, power in opened(factor, fresh)}
        return self.space._canonical(piece, set(fresh))  # pyright: ignore[reportPrivateUsage]

    def normal(self) -> Poly:
        """Return the normal form under all rules known by now."""
        seen = self
        for _ in range(_MOST_ROUNDS):
            total = _Total(self.space)
            for monomial, coefficient in seen.terms.items():
                term = self.space.collect([(f, p) for f, p in monomial if f[0] != "S"])
                for factor, power in monomial:
                    if factor[0] == "S":
                        fresh = [self.space.index(dim) for dim in factor[1]]
                        inner = self.space.collect(opened(factor, fresh))
                        term = term * self.space.sum_over(inner, fresh).power(Fraction(power))
                total.add(term, coefficient)
            result = total.poly()
            if result == seen:
                return result
            seen = result
        raise Unsupported("a formula that does not come to rest")

    def split(self) -> tuple[Poly, Poly]:
        """Return value and derivative of `value + derivative * e`."""
        value: dict[Product, Fraction] = {}
        derivative: dict[Product, Fraction] = {}
        for monomial, coefficient in self.terms.items():
            if any(factor == _E for factor, _ in monomial):
                derivative[tuple((f, p) for f, p in monomial if f != _E)] = coefficient
            else:
                value[monomial] = coefficient
        return Poly(self.space, value), Poly(self.space, derivative)

    def along(self, f: Callable[[Poly], Poly], slope: Callable[[Poly], Poly]) -> Poly:
        """Return f of this, with the derivative `slope` of f."""
        value, derivative = self.split()
        result = f(value)
        if derivative:
            result = result + slope(value) * derivative * self.space.symbol("$e")
        return result

    # --- powers -------------------------------------------------------------------------------------------------

    def power(self, exponent: Fraction) -> Poly:
        """Return a rational power.

        Raises
        ------
        ZeroDivisionError
            If this is 0 and the exponent negative.
        Unsupported
            If it is the root of something whose sign is not known.
        """
        if exponent.denominator == 1 and exponent >= 0:
            result = self.space.number(1)
            for _ in range(int(exponent)):
                result = result * self
            return result
        return self.along(lambda p: p._power(exponent), lambda p: p._power(exponent - 1) * exponent)

    def _power(self, exponent: Fraction) -> Poly:
        if exponent.denominator == 1 and exponent >= 0:
            return self.power(exponent)
        poly = self.normal()
        if not poly.terms:
            if exponent < 0:
                raise ZeroDivisionError("division by something that is 0 for all inputs")
            return poly
        if len(poly.terms) == 1:
            ((monomial, coefficient),) = poly.terms.items()
            result = self.space.number(_number_power(coefficient, exponent))
            for factor, power in monomial:
                result = result * self._factor_power(factor, power, exponent)
            return result
        content = poly.content(exponent.denominator != 1)
        divided = poly * content.power(Fraction(-1))
        space = self.space
        if exponent.denominator == 1 and (root := _square_root(divided)) is not None:
            return root.power(2 * exponent) * content.power(exponent)
        ((((factor, _),), _),) = space.named_power(divided).terms.items()
        if exponent.denominator == 1:
            space.take_nonzero(factor)
        else:
            space.take_positive(factor)
        return space.collect([(factor, exponent)]) * content.power(exponent)

    def _factor_power(self, factor: Factor, power: Any, exponent: Fraction) -> Poly:
        space = self.space
        raised = power * exponent
        picked = space.picks(factor)
        if picked is not None:
            mask, value, indices = picked
            return space.sum_over(mask * value.power(Fraction(raised)), indices)
        if factor[0] == "S":
            t = space.named_power(Poly(space, {((factor, 1),): Fraction(1)}))
            ((((factor, _),), _),) = t.terms.items()
        if exponent.denominator != 1 and not space.is_positive(factor):
            if Fraction(power).numerator % 2 == 0 or (factor[0] == "s" and factor[1] not in space.named):
                raise Unsupported(f"the root of a square: the sign of {factor[1]} is not known")
            space.take_positive(factor)
        elif raised < 0:
            space.take_nonzero(factor)
        return space.collect([(factor, int(raised) if Fraction(raised).denominator == 1 else raised)])

    def content(self, root: bool) -> Poly:
        """Return what to divide by, so that multiples of one polynomial become one: c in c * (var + eps)."""
        space = self.space
        factors = {f for monomial in self.terms for f, _ in monomial if f[0] != "S"}
        least = {f: min(dict(monomial).get(f, 0) for monomial in self.terms) for f in factors}
        shared = {f: p for f, p in least.items() if p and (not root or space.is_positive(f))}
        rest = self * Poly(space, {_sorted({f: -p for f, p in shared.items()}): Fraction(1)})
        numbers = [m for m in rest.terms if all(f[0] == "s" for f, _ in m)]
        plain = [m for m in numbers if not all(self._is_size(f) for f, _ in m)]
        if plain or len(numbers) < len(rest.terms):
            chosen = min(plain or rest.terms, key=lambda m: (len(m), m))
            for f, p in chosen:
                if f[0] == "s" and self._is_size(f):
                    shared[f] = shared.get(f, 0) + p
        else:  # of sizes alone: N - 1
            chosen = max(rest.terms, key=lambda m: (sum(p for _, p in m), m))
        coefficient = abs(rest.terms[chosen]) if root else rest.terms[chosen]
        if root and not _is_square(coefficient):
            coefficient = Fraction(1)
        return Poly(space, {_sorted(shared): coefficient})

    def _is_size(self, factor: Factor) -> bool:
        return factor[0] == "s" and factor[1] in self.space.dims.values()


class _Total:
    """A sum being collected."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.terms: dict[Product, Fraction] = {}

    def add(self, poly: Poly, coefficient: Fraction) -> None:
        for monomial, c in poly.terms.items():
            self.terms[monomial] = self.terms.get(monomial, Fraction(0)) + c * coefficient

    def poly(self) -> Poly:
        return Poly(self.space, self.terms)


def _of(factor: Factor) -> tuple[int, ...]:
    return factor[2] if factor[0] == "e" else ()


def _sorted(powers: Mapping[Factor, Any]) -> Product:
    return tuple(sorted((f, p) for f, p in powers.items() if p))


def opened(factor: Factor, fresh: Sequence[int]) -> list[tuple[Factor, Any]]:
    """Return the product under a sum, with free indices in the place of the bound ones."""
    renaming = {-k: i for k, i in enumerate(fresh, 1)}
    return [(_renamed(inner, renaming), power) for inner, power in factor[2]]


def _renamed(factor: Factor, renaming: Mapping[int, int]) -> Factor:
    return ("e", factor[1], tuple(renaming.get(i, i) for i in factor[2])) if factor[0] == "e" else factor


def _matched(pattern: Product, found: Sequence[tuple[Factor, Any]], chosen: Sequence[int]) -> dict[int, int] | None:
    """Return what the pattern's free indices stand for, if the found factors are the pattern's."""
    renaming: dict[int, int] = {}
    for (left, power), (right, exponent) in zip(pattern, found, strict=True):
        if left[1] != right[1] or power != exponent or len(left[2]) != len(right[2]):
            return None
        for a, b in zip(left[2], right[2], strict=True):
            if a < 0:
                if b != chosen[-a - 1]:
                    return None
            elif b in chosen or renaming.setdefault(a, b) != b:
                return None
    return renaming


def _number_power(value: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator == 1:
        if abs(int(exponent)) * max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_DIGITS:
            raise Unsupported("a power too large")
        return value ** int(exponent)
    if exponent.denominator == 2 and _is_square(value):
        root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
        return root**exponent.numerator
    raise Unsupported(f"the root of {value}, which is no rational number")


def _square_root(poly: Poly) -> Poly | None:
    """Return a polynomial whose square this one is, so that 1/(1 + e)^2 and (1/(1 + e))^2 become one."""
    space = poly.space
    variables = sorted({f for monomial in poly.terms for f, _ in monomial})
    left = {tuple(dict(m).get(f, 0) for f in variables): c for m, c in poly.terms.items()}
    lead = max(left)
    if any(Fraction(p).denominator != 1 or p % 2 for p in lead) or not _is_square(left[lead]):
        return None
    first = tuple(p // 2 for p in lead)
    root = {first: _number_power(left[lead], Fraction(1, 2))}
    for _ in range(len(left) + 1):  # the next term of the root stands in the leading one of what is left
        rest = dict(left)
        for a, x in root.items():
            for b, y in root.items():
                both = tuple(p + q for p, q in zip(a, b, strict=True))
                rest[both] = rest.get(both, Fraction(0)) - x * y
        rest = {m: c for m, c in rest.items() if c}
        if not rest:
            return Poly(space, {_sorted(dict(zip(variables, m, strict=True))): c for m, c in root.items()})
        top = max(rest)
        term = tuple(p - q for p, q in zip(top, first, strict=True))
        if term in root or term > first:
            return None
        root[term] = rest[top] / (2 * root[first])
    return None


def _is_square(value: Fraction) -> bool:
    return value > 0 and all(math.isqrt(n) ** 2 == n for n in (value.numerator, value.denominator))
