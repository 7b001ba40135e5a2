"""A wrong gradient in words: the true one and the user's, term by term.

Both are polynomials in the same symbols (`symbolic`). The words are those of the field: mu and sigma, x_hat, mean(...)
and sum(...) over the axes that are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from xhat.verify.problem import Unsupported
from xhat.verify.symbolic.algebra import Factor, Poly, Product
from xhat.verify.symbolic.prove import UPSTREAM, Gradient, Proof

_MOST_TERMS = 8


class Explanation(NamedTuple):
    """What is wrong with a gradient.

    Parameters
    ----------
    lines : list of str
        The first stands alone.
    missing : list of str
        Terms that the gradient lacks, in words.
    factor : str or None
        What it is to be multiplied by, if that is all.
    """

    lines: list[str]
    missing: list[str]
    factor: str | None = None


class Words:
    """Writes polynomials of one proof in words.

    Parameters
    ----------
    proof : Proof
        Gives the names their meaning.
    dout : str
        What the gradient that arrives is called.
    """

    def __init__(self, proof: Proof, dout: str = "dout") -> None:
        self._space = proof.space
        self._draws: list[str] = []
        self._names = {UPSTREAM: dout, "$mu": "mu"}
        self._loss = not proof.output_axes
        self._main = proof.centred
        roots = [name for name in proof.space.named if self._is_root(name)]
        self._sigma = {name: "sigma" if len(roots) == 1 else f"sigma{k}" for k, name in enumerate(roots, 1)}
        self._variances = {name for name, named in proof.space.named.items() if self._is_variance(named.poly)}

    def _is_root(self, name: str) -> bool:
        """Whether a name stands for a variance plus something, or another quantity of which roots are taken."""
        named = self._space.named[name]
        return (
            named.kind == "power" and any(known == name for _, known in self._space.positive) and _is_second(named.poly)
        )

    def _is_variance(self, poly: Poly) -> bool:
        """Whether a polynomial is sigma^2 less a number: what code that forgets eps computes with."""
        held = {f[1] for monomial in poly.terms for f, _ in monomial}
        numbers = {m for m in poly.terms if not any(f[1] in self._sigma for f, _ in m)}
        return len(self._sigma) == 1 and len(poly.terms) == 2 and held >= set(self._sigma) and len(numbers) == 1

    def sum(self, poly: Poly) -> str:
        """Return a polynomial in words."""
        if not poly.terms:
            return "0"
        terms = sorted(poly.terms.items(), key=lambda item: (_is_number(item[0]), len(item[0]), str(item[0])))
        told = [self.term(monomial, coefficient) for monomial, coefficient in terms[:_MOST_TERMS]]
        rest = f" + {len(terms) - _MOST_TERMS} more terms" if len(terms) > _MOST_TERMS else ""
        return " ".join(told).removeprefix("+ ") + rest

    def term(self, monomial: Product, coefficient: Fraction) -> str:
        """Return one term in words, with its sign: "- gamma*mean(dout)/sigma"."""
        powers: dict[Factor, Any] = dict(monomial)
        roots = {f: powers[f] for f in powers if f[0] != "S" and f[1] in self._sigma}
        sums: list[str] = []
        for factor in [f for f in powers if f[0] == "S"]:
            power = powers.pop(factor)
            picked = self._picked(factor)
            if picked is not None:
                sums.append(_powered(picked, power))
                continue
            over = list(factor[1])
            mean = power == 1 and all(powers.get(("s", dim), 0) <= -over.count(dim) for dim in over)
            if mean:
                for dim in over:
                    powers[("s", dim)] += 1
            inside: dict[Factor, Any] = dict(factor[2])
            for f in [f for f in inside if f[1] in self._sigma]:
                roots_inside = {f: inside.pop(f)}
                text = self._product(inside, roots_inside)
                break
            else:
                text = self._product(inside, roots)
            sums.append(_powered(f"{'mean' if mean else 'sum'}{self._over(factor)}({text})", power))
        for f in roots:
            powers.pop(f)
        above, below = self._written(powers, roots)
        for f, power in roots.items():
            if power:
                (above if power > 0 else below).append(_powered(self._sigma[f[1]], abs(power) * 2))
        numerator, denominator = abs(coefficient).numerator, abs(coefficient).denominator
        parts = [*above, *sums]
        if numerator != 1 or not parts:
            parts.insert(0, str(numerator))
        if denominator != 1:
            below.insert(0, str(denominator))
        text = "*".join(parts)
        if below:
            text += f"/{below[0]}" if len(below) == 1 else f"/({'*'.join(below)})"
        return f"{'-' if coefficient < 0 else '+'} {text}"

    def _picked(self, factor: Factor) -> str | None:
        """Return what is picked from a row by its label: "x[y]"."""
        picks = self._space.picks(factor)
        if picks is None:
            return None
        mask, inside, _ = picks
        (((chosen, _),),) = mask.terms
        label = chosen[1].removeprefix("$[").partition("=")[0] if chosen[1].startswith("$[") else "at max"
        text = self.sum(inside)
        return f"{text}[{label}]" if text.isidentifier() else f"({text})[{label}]"

    def _over(self, factor: Factor) -> str:
        """Return over which axes, where it is not the only way to sum."""
        return "" if len(set(self._space.dims.values())) <= 2 or not factor[1] else f"[{','.join(sorted(factor[1]))}]"

    def _product(self, powers: Mapping[Factor, Any], roots: dict[Factor, Any]) -> str:
        above, below = self._written(dict(powers), roots)
        for f, power in list(roots.items()):
            if f in powers or (power and any(i < 0 for i in (f[2] if f[0] == "e" else ()))):
                (above if power > 0 else below).append(_powered(self._sigma[f[1]], abs(power) * 2))
                roots[f] = 0
        text = "*".join(above) or "1"
        return text + "".join(f"/{part}" for part in below)

    def _written(self, powers: dict[Factor, Any], roots: dict[Factor, Any]) -> tuple[list[str], list[str]]:
        """Return what stands above and below the line; x - mu over sigma is x_hat."""
        above: list[str] = []
        below: list[str] = []
        if self._loss:
            powers = {f: p for f, p in powers.items() if f[1] != UPSTREAM}
        for f, power in list(powers.items()):
            if self._parameter(f) and power > 0:
                above.append(_powered(self.name(f), powers.pop(f)))
        above.sort()
        for f in [f for f in powers if f[1] == "$centred"]:
            power = powers.pop(f)
            hats = 0
            for root in roots:
                available = max(0, int(-roots[root] * 2)) if power > 0 else 0
                taken = min(int(power), available)
                roots[root] += Fraction(taken, 2)
                hats += taken
            name = self._main[0] if self._main else "x"
            if hats:
                above.append(_powered(f"{name}_hat", hats))
            if power - hats:
                (above if power > 0 else below).append(_powered(f"({name} - mu)", abs(power - hats)))
        for f, power in sorted(
            powers.items(), key=lambda item: (item[0][1] not in self._space.dims.values(), str(item))
        ):
            if power:
                (above if power > 0 else below).append(_powered(self.name(f), abs(power)))
        return above, below

    def _parameter(self, factor: Factor) -> bool:
        return not factor[1].startswith("$") and factor[0] == "e"

    def name(self, factor: Factor) -> str:
        """Return what a factor is called."""
        name = factor[1]
        if name in self._names:
            return self._names[name]
        if name in self._sigma:
            return f"{self._sigma[name]}^2"
        if name.startswith("$["):
            return name[1:]
        if name.startswith("$random"):
            return self._draw(name)
        named = self._space.named.get(name)
        if named is None:
            return name.removeprefix("$")
        inside = self.sum(named.poly)
        if named.kind == "power" and name in self._variances:
            return "var"
        if named.kind == "power":
            return f"({inside})" if len(named.poly.terms) > 1 else inside
        if named.kind == "positive":
            return f"[{inside} > 0]"
        if named.kind == "argmax":
            return f"[at max({inside})]"
        return f"{named.kind}({inside})"

    def _draw(self, name: str) -> str:
        """Return what entries of `np.random` are called: random, and random2 for another draw."""
        if name not in self._draws:
            self._draws.append(name)
        number = self._draws.index(name) + 1
        return "random" if number == 1 else f"random{number}"

    def assumptions(self) -> list[str]:
        """Return what the proof rests on, in words."""
        told = [text.format("" if poly is None else self.sum(poly)) for text, poly in self._space.assumptions]
        return list(dict.fromkeys(told))

    def meaning(self) -> list[str]:
        """Return what sigma and mu are: "sigma^2 = mean((x - mu)^2) + eps"."""
        told = [f"{word}^2 = {self.sum(self._space.named[name].poly)}" for name, word in self._sigma.items()]
        if self._main:
            told.insert(0, f"mu = mean({self._main[0]})")
        told += [f"var = {self.sum(self._space.named[name].poly)}" for name in self._variances]
        return told


def explain(gradient: Gradient, words: Words) -> Explanation:
    """Compare a gradient with the true one.

    Parameters
    ----------
    gradient : Gradient
        With the shape of its input; not a proved one.
    words : Words
        Of the same proof.
    """
    name, true, user = gradient.name, gradient.true, gradient.user
    assert user is not None
    told = f"true {name} = {words.sum(true)}"
    if not user.terms:
        return Explanation([f"{name} is 0 for all inputs", told], [words.sum(true)])
    if not true.terms:
        return Explanation([f"{name} should be 0 for all inputs", f"yours = {words.sum(user)}"], [])
    factor = _common_factor(true, user)
    if factor is not None:
        said = words.sum(factor)
        return Explanation([f"off by a factor {said}", told], [], said)
    lines: list[str] = []
    missing: list[str] = []
    mine, right = _by_skeleton(user), _by_skeleton(true)
    for skeleton, part in right.items():
        if skeleton not in mine:
            lines.append(f"term missing: {words.sum(part) if len(part.terms) > 1 else _alone(part, words)}")
            missing.append(_alone(part, words))
        elif (part - mine[skeleton]).normal():
            lines.append(f"wrong coefficient: yours {words.sum(mine[skeleton])}, should be {words.sum(part)}")
    lines += [
        f"term that should not be there: {_alone(part, words)}"
        for skeleton, part in mine.items()
        if skeleton not in right
    ]
    return Explanation([*lines, told], missing)


def _alone(poly: Poly, words: Words) -> str:
    if len(poly.terms) != 1:
        return words.sum(poly)
    ((monomial, coefficient),) = poly.terms.items()
    return words.term(monomial, coefficient)


def _is_entry(factor: Factor) -> bool:
    """Whether a factor holds values of the batch, and is no mere coefficient."""
    return factor[0] == "S" or factor[1] in (UPSTREAM, "$centred", "$mu")


def _by_skeleton(poly: Poly) -> dict[Product, Poly]:
    """Group terms that differ in coefficients only: the same entries and the same sums."""
    groups: dict[Product, Poly] = {}
    for monomial, coefficient in poly.terms.items():
        skeleton = tuple((f, p) for f, p in monomial if _is_entry(f))
        groups[skeleton] = groups.get(skeleton, Poly(poly.space, {})) + Poly(poly.space, {monomial: coefficient})
    return groups


def _common_factor(true: Poly, user: Poly) -> Poly | None:
    """Return f with user = true * f, if it holds no values of the batch."""
    space = true.space
    first, coefficient = max(true.terms.items(), key=lambda item: str(item[0]))
    for monomial, mine in user.terms.items():
        powers: dict[Factor, Any] = dict(monomial)
        for f, p in first:
            powers[f] = powers.get(f, 0) - p
        powers = {f: p for f, p in powers.items() if p}
        if any(_is_entry(f) for f in powers):
            continue
        factor = Poly(space, {tuple(sorted(powers.items())): mine / coefficient})
        try:
            same = not (true * factor - user).normal()
        except (ArithmeticError, Unsupported):  # a factor that cannot be multiplied is none
            same = False
        if same:
            return factor
    return None


def _is_second(poly: Poly) -> bool:
    """Whether a polynomial holds a sum of squares: a variance, or a mean square."""
    return any(
        f[0] == "S" and any(p == 2 or len(f[2]) > 1 for _, p in f[2]) for monomial in poly.terms for f, _ in monomial
    )


def _is_number(monomial: Product) -> bool:
    return all(factor[0] == "s" for factor, _ in monomial)


def _powered(text: str, power: Any) -> str:
    if power == 1:
        return text
    if power == Fraction(1, 2):
        return f"sqrt{text}" if text.startswith("(") else f"sqrt({text})"
    return f"{text}^{power}" if Fraction(power).denominator == 1 else f"{text}^({power})"
