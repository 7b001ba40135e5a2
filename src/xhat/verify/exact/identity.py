"""Whether <u, J v> = <backward(u), v>, without rounding, at random points of large finite fields.

J v comes from the user's own forward pass, run on dual numbers. Both sides are quotients of polynomials in the entries
drawn. If they are not the same, then at a random point they are equal with a probability that follows from the degree.

Every number carries the float that it stands for, so that each point is judged twice: EXACT needs both sides equal in
the field, and as floats but for rounding; DISPROVED needs an input at which they differ in both.

The probability, for one point and one prime, with entries drawn from a set of S numbers, polynomials of degree d with
coefficients below 2^h, and k roots: roots multiply the degree by at most 2^k (the product over the signs of the roots
is a polynomial), and points at which all roots exist are one in 2^k. Hence d 4^k / S (Schwartz 1980, Zippel 1979), and
for the random prime to divide all coefficients h 2^k / (bits - 1) / (number of such primes).
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

import numpy as np

from xhat.verify.exact.namespace import ExactWorld, exact_array
from xhat.verify.exact.numbers import (
    Degree,
    Degrees,
    Dual,
    ExponentialField,
    Field,
    NoRoot,
    Num,
    Rationals,
    Redraw,
    Ring,
    Transcendental,
    random_prime,
)
from xhat.verify.problem import Malformed, Problem, Unsupported, size
from xhat.verify.rebind import Rebinding, line_of
from xhat.verify.report import Word

_STEPS = 2**50  # entries drawn are whole multiples of 1 / _STEPS, which floats hold exactly
_RANGE = 2**52  # at least so many of them
_DRAWS = 2000
_NEW_FIELD = 16  # draws after which another prime is tried: a constant may have no root in this one
_SHORT_DRAWS = 100  # after which a point whose roots are fractions is not looked for
_READABLE = 40  # entries of all inputs, beyond which nobody reads fractions
_PATIENCE = 40  # draws in which a counterexample without ties is looked for
_AGREE = 1e-6
_DIFFER = 1e-8
_NOISE = 1e-6  # of dout: terms that are no more may be rounding alone
_SCALES = (Fraction(1), Fraction(1, 100), Fraction(1, 2000))
_ENTRIES = 64  # of an input that are tried for a counterexample

_Made = TypeVar("_Made")

Draw = Callable[[bool], Fraction]
"""Draws an entry; positive where asked."""


class ExactVerdict(NamedTuple):
    """What is known of one gradient."""

    word: Word
    message: str
    counterexample: str | None = None
    line: int | None = None


class ExactResult(NamedTuple):
    """What the test found, and what it rests on.

    `log2_failure` is the binary logarithm of the probability with which a wrong gradient would have passed, on the
    branches taken; with exp it rests on a conjecture (a polynomial in exponentials is as seldom zero as another one).
    """

    verdicts: dict[str, ExactVerdict]
    kind: str  # "prime field", "prime field with exp"
    log2_failure: float
    degree: int
    primes: tuple[int, ...]
    seed: int
    sizes: dict[str, int]
    redraws: int
    branches: int
    roots: int
    literals: dict[float, Fraction]


class _Difference(NamedTuple):
    """The two sides for one input, and the sum of the absolute values of their terms, which is no less than noise."""

    forward: Any
    backward: Any
    size: float

    @property
    def zero(self) -> bool:
        return bool(self.forward == self.backward)

    @property
    def relative(self) -> float:
        """How far apart the floats are."""
        difference = abs(_real(self.forward) - _real(self.backward))
        return difference / self.size if self.size else 0.0


class _WrongShape(Exception):  # noqa: N818  a finding
    """A gradient has not the shape of its input."""


class _Entries:
    """The entries of the inputs, as fractions: drawn at random, and again where it is asked for.

    Parameters
    ----------
    problem : Problem
        Whose inputs.
    sizes : mapping of str to int
        The sizes.
    rng : random.Random
        Draws class numbers.
    draw : callable
        Draws fractions.
    """

    def __init__(self, problem: Problem, sizes: Mapping[str, int], rng: random.Random, draw: Draw) -> None:
        self.sizes, self.draw = sizes, draw
        self.shapes = {name: problem.shape(name, sizes) for name in problem.inputs}
        self.flat = [draw(False) for shape in self.shapes.values() for _ in range(math.prod(shape))]
        self.scalars = {name: draw(True) for name in problem.scalars}
        self.labels: dict[str, Any] = {}
        for name, (axis, classes) in problem.labels.items():
            below = size(classes, sizes)
            self.labels[name] = np.array([rng.randrange(below) for _ in range(size(axis, sizes))])

    def again(self, which: int) -> None:
        """Draw again the entries whose bits are set."""
        for i in range(len(self.flat)):
            if which >> i & 1:
                self.flat[i] = self.draw(False)

    def values(self, ring: Ring, enter: Callable[[Fraction, int], Num]) -> dict[str, Any]:
        """Return what the forward pass is called with, in the numbers of a ring."""
        values: dict[str, Any] = {**self.sizes, **self.labels}
        numbers = (enter(entry, 1 << i) for i, entry in enumerate(self.flat))
        for name, shape in self.shapes.items():
            flat = np.empty(math.prod(shape), object)
            for i in range(flat.size):
                flat[i] = next(numbers)
            values[name] = exact_array(flat.reshape(shape), ring)
        return {**values, **{name: enter(value, 0) for name, value in self.scalars.items()}}


class _Point:
    """A problem on one kind of number, at one point.

    Parameters
    ----------
    problem : Problem
        With the user's own functions.
    ring : Ring
        The numbers.
    entries : _Entries
        The point.
    enter : callable, optional
        Makes a number of the ring out of an entry and its bit.
    """

    def __init__(
        self,
        problem: Problem,
        ring: Ring,
        entries: _Entries,
        enter: Callable[[Fraction, int], Num] | None = None,
    ) -> None:
        self.ring = ring
        self._world = ExactWorld(ring)
        self._problem = problem.on(Rebinding(self._world))
        self.origin = entries
        self._draw = entries.draw
        self._enter = enter or self._plain
        self.values = entries.values(ring, self._enter)

    def _plain(self, entry: Fraction, _: int) -> Num:
        return self.ring.of(entry)

    def run(self) -> _Point:
        """Run both passes."""
        self.y, cache = self.forward(self.values)
        self.dy: Any = self._enter(self._draw(False), 0) if np.shape(self.y) == () else self.entries(np.shape(self.y))
        self.gradients = self._problem.run_backward(_copied(self.dy), cache)
        return self

    def entries(self, shape: tuple[int, ...]) -> Any:
        """Return an array of entries drawn."""
        flat = np.empty(math.prod(shape), object)
        for i in range(flat.size):
            flat[i] = self._enter(self._draw(False), 0)
        return exact_array(flat.reshape(shape), self.ring)

    def forward(self, values: Mapping[str, Any]) -> tuple[Any, Any]:
        """Run the forward pass on copies, with the random numbers of every run."""
        self._world.restart()
        y, cache = self._problem.run_forward({name: _copied(value) for name, value in values.items()})
        return (y if isinstance(y, Num) else exact_array(y, self.ring)), cache

    def difference(self, name: str, direction: Any = None) -> _Difference:
        """Return the two sides for one input, along a random direction or the one given."""
        gradient = self.gradients["d" + name]
        x = self.values[name]
        if np.shape(gradient) != x.shape:
            raise _WrongShape(f"d{name} has the shape {np.shape(gradient)}; expected {x.shape}, that of {name}")
        v = self.entries(x.shape) if direction is None else direction
        moved = np.empty(x.shape, object)
        for index in np.ndindex(x.shape):
            moved[index] = Dual(x[index], v[index])
        y, _ = self.forward({**self.values, name: exact_array(moved, self.ring)})
        if np.shape(y) != np.shape(self.y) or not all(a == b for a, b in zip(_flat(y), _flat(self.y), strict=True)):
            raise Malformed("forward returns another output when it is called again with the same input")
        zero = self.ring(0)
        left = [u * (e.slope if isinstance(e, Dual) else zero) for u, e in zip(_flat(self.dy), _flat(y), strict=True)]
        right = [a * b for a, b in zip(_flat(exact_array(gradient, self.ring)), _flat(v), strict=True)]
        scale = sum(abs(_real(term)) for term in (*left, *right)) + _NOISE * sum(abs(_real(u)) for u in _flat(self.dy))
        return _Difference(sum(left, zero), sum(right, zero), scale)

    def told(self, name: str) -> str | None:
        """Return an entry at which the gradient is wrong, as a sentence; None if there is none to be seen."""
        x = self.values[name]
        for index in list(np.ndindex(x.shape))[:_ENTRIES]:
            direction = np.full(x.shape, self.ring(0), object)
            direction[index] = self.ring(1)
            found = self.difference(name, exact_array(direction, self.ring))
            if not found.zero and found.relative > _DIFFER:
                at = ", ".join(f"{n} = {_text(self.values[n])}" for n in self._shown())
                place = f"[{', '.join(map(str, index))}]"
                return (
                    f"at {at}, dout = {_text(self.dy)}: "
                    f"d{name}{place} is {_text(found.backward)}, but the derivative is {_text(found.forward)}"
                )
        return None

    def _shown(self) -> list[str]:
        return [*self._problem.inputs, *self._problem.labels, *self._problem.scalars]


class _Fields:
    """Draws fields and points in them until all roots exist there."""

    def __init__(self, problem: Problem, sizes: Mapping[str, int], seed: int, bits: int) -> None:
        self._problem, self._sizes, self._bits = problem, sizes, bits
        self._rng = random.Random(seed)
        self.exponential = False
        self.redraws = 0

    def _ring(self) -> Ring:
        if self.exponential:
            return ExponentialField.draw(self._bits, self._rng)
        return Field(random_prime(self._bits, self._rng))

    def _wide(self, positive: bool) -> Fraction:
        count = self._rng.randrange(1, _RANGE)
        return Fraction(count if positive or self._rng.getrandbits(1) else -count, _STEPS)

    def _short(self, scale: Fraction, positive: bool) -> Fraction:
        count = self._rng.choice((1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13))
        return scale * Fraction(count if positive or self._rng.getrandbits(1) else -count, self._rng.choice((1, 2, 4)))

    def _found(
        self,
        make: Callable[[_Point], _Made],
        sizes: Mapping[str, int],
        draw: Draw,
        ring: Callable[[], Ring] | None = None,
    ) -> _Made:
        """Return what is made of a random point at which all roots exist and nothing is divided by zero."""
        draws = _DRAWS if ring is None else _SHORT_DRAWS
        current = (ring or self._ring)()
        why: Redraw | None = None
        entries = _Entries(self._problem, sizes, self._rng, draw)
        for attempt in range(draws):
            if attempt:
                which = self._missing(current, entries) if isinstance(why, NoRoot) else None
                if which:
                    entries.again(which)
                else:
                    entries = _Entries(self._problem, sizes, self._rng, draw)
                    current = (ring or self._ring)() if attempt % _NEW_FIELD == 0 else current
            current.roots.clear()
            current.ties = 0
            try:
                return make(_Point(self._problem, current, entries).run())
            except Redraw as reason:
                self.redraws += 1
                why = reason
            except Transcendental:
                if self.exponential or ring is not None:
                    raise
                self.exponential = True
                current, why = self._ring(), None
        raise Unsupported(f"no input was found in {draws} draws: {why}")

    def _missing(self, ring: Ring, entries: _Entries) -> int:
        """Return which entries to draw again, for roots to exist that do not, and all that hang together with them.

        Roots of numbers that share no entry exist independently of each other. Each group of entries is drawn again
        until all of its own roots exist, which leaves each point at which all roots exist as likely as another.
        """
        degrees = Degrees(ring)
        ring.missing = []
        point = _Point(self._problem, degrees, entries, functools.partial(_entry, degrees))
        try:
            point.forward(point.values)
            missing = ring.missing
        except Redraw:
            return 0
        finally:
            ring.missing = None
        groups: list[tuple[int, bool]] = []
        for support, absent in zip(degrees.supports, missing, strict=True):
            apart = [group for group in groups if not group[0] & support]
            joined = [group for group in groups if group[0] & support]
            whole = functools.reduce(int.__or__, (group[0] for group in joined), support)
            groups = [*apart, (whole, absent or any(group[1] for group in joined))]
        return functools.reduce(int.__or__, (support for support, absent in groups if absent), 0)

    def trial(self) -> tuple[_Point, dict[str, _Difference | Exception]]:
        """Return a random point, and the two sides there, or the error, for each input."""

        def make(point: _Point) -> tuple[_Point, dict[str, _Difference | Exception]]:
            return point, {name: _judged(point, name) for name in self._problem.differentiated}

        return self._found(make, self._sizes, self._wide)

    def degree(self, point: _Point) -> Degree:
        """Return the largest degree of a difference, on the branches taken at a point."""
        ring = Degrees(point.ring)
        posed = _Point(self._problem, ring, point.origin, functools.partial(_entry, ring)).run()
        worst: Any = ring(0)
        for name in self._problem.differentiated:
            found = _judged(posed, name)
            if isinstance(found, _Difference):
                worst = max(worst, found.forward - found.backward, key=_weight)
        return worst

    def counterexample(self, name: str, ties: bool) -> str | None:
        """Return an input at which a gradient is wrong: the smallest, and in fractions, if there is one.

        Where two numbers that are compared are equal, there may be no derivative: such an input serves only if there is
        no other one, and `ties` says that the gradient is known to be wrong elsewhere.
        """
        smallest = min((*self._problem.sizes, self._sizes), key=lambda sizes: math.prod(sizes.values()))
        for sizes in (smallest, self._sizes):
            entries = sum(math.prod(self._problem.shape(n, sizes)) for n in self._problem.inputs)
            for ring in (Rationals, None) if entries <= _READABLE else (None,):
                for scale in _SCALES:
                    patience = iter(range(_PATIENCE))

                    def make(point: _Point, patience: Iterator[int] = patience) -> str | None:
                        if point.ring.ties and next(patience, None) is not None:
                            raise Redraw("two numbers are equal")
                        return None if point.ring.ties and not ties else point.told(name)

                    try:
                        told = self._found(make, sizes, functools.partial(self._short, scale), ring)
                    except Exception:  # there is none of this kind; why, the trials have told
                        continue
                    if told is not None:
                        return told
        return None


def exact_identity(
    problem: Problem, sizes: Mapping[str, int], *, trials: int = 4, seed: int = 0, bits: int = 61
) -> ExactResult:
    """Test without rounding whether the backward pass is the gradient of the forward pass, at these sizes.

    Parameters
    ----------
    problem : Problem
        With the user's own functions.
    sizes : mapping of str to int
        How long the axes are.
    trials : int
        At how many points, each with a prime of its own.
    seed : int
        Of the points and primes.
    bits : int
        Length of the primes.

    Returns
    -------
    ExactResult
        A verdict for each gradient, EXACT, DISPROVED or NOT DECIDED, and what it rests on.

    Examples
    --------
    >>> from xhat.verify.problem import Problem
    >>> def forward(x):
    ...     return x * x, x
    >>> def backward(dy, x):
    ...     return x * dy
    >>> square = Problem("square", forward, backward, {"x": ("N",)}, lambda v: ((v["x"],), {}), [{"N": 1}])
    >>> print(exact_identity(square, {"N": 1}).verdicts["dx"].word)
    DISPROVED
    """
    fields = _Fields(problem, sizes, seed, bits)
    points: list[_Point] = []
    found: list[dict[str, _Difference | Exception]] = []
    try:
        for _ in range(trials):
            point, differences = fields.trial()
            points.append(point)
            found.append(differences)
        branched = any(point.ring.branches for point in points)
        degrees = [fields.degree(point) for point in (points if branched else points[:1])]
    except Exception as error:  # whatever the user's code raises is a verdict
        verdict = _undecided(error, problem)
        return _result(fields, points, dict.fromkeys(problem.gradients, verdict), 0.0, 0, seed, sizes)
    degree = max(d.above + d.below for d in degrees)
    roots = max(len(point.ring.roots) for point in points)
    failure = trials * _log2_failure(degree, max(d.height for d in degrees), roots, bits)
    verdicts = {
        "d" + name: _verdict(problem, fields, name, [trial[name] for trial in found], points, failure, sizes)
        for name in problem.differentiated
    }
    return _result(fields, points, verdicts, failure, degree, seed, sizes)


def _verdict(
    problem: Problem,
    fields: _Fields,
    name: str,
    found: list[_Difference | Exception],
    points: list[_Point],
    failure: float,
    sizes: Mapping[str, int],
) -> ExactVerdict:
    for error in found:
        if isinstance(error, _WrongShape):
            return ExactVerdict(Word.DISPROVED, str(error))
        if isinstance(error, Exception):
            return _undecided(error, problem)
    differences = [difference for difference in found if isinstance(difference, _Difference)]
    if not all(difference.zero for difference in differences):
        seen = any(not difference.zero and difference.relative > _DIFFER for difference in differences)
        told = fields.counterexample(name, ties=seen)
        if told is not None:
            return ExactVerdict(Word.DISPROVED, f"d{name} is not the gradient of your forward", told)
        return ExactVerdict(
            Word.NOT_DECIDED,
            f"d{name} differs from the gradient by less than floats can show: "
            "a constant was rounded, or the sign of a root is not known",
        )
    if not all(difference.relative < _AGREE for difference in differences):
        return ExactVerdict(Word.NOT_DECIDED, f"d{name} is the gradient but for signs of roots, which are not known")
    if failure > -20:
        return ExactVerdict(Word.NOT_DECIDED, "too many roots: a wrong gradient could pass")
    at = ", ".join(f"{axis} = {count}" for axis, count in sizes.items())
    notes = ["with exp, on a conjecture"] * fields.exponential
    notes += ["on the branches taken"] * any(point.ring.branches for point in points)
    rest = f", {'; '.join(notes)}" if notes else ""
    return ExactVerdict(Word.EXACT, f"at {at} (wrong code passes with p < 2^{math.ceil(failure)}{rest})")


def _result(
    fields: _Fields,
    points: list[_Point],
    verdicts: dict[str, ExactVerdict],
    failure: float,
    degree: int,
    seed: int,
    sizes: Mapping[str, int],
) -> ExactResult:
    rings: list[Any] = [point.ring for point in points]
    literals: dict[float, Fraction] = {}
    for ring in rings:
        literals.update(ring.literals)
    return ExactResult(
        verdicts=verdicts,
        kind="prime field with exp" if fields.exponential else "prime field",
        log2_failure=failure,
        degree=degree,
        primes=tuple(ring.p for ring in rings),
        seed=seed,
        sizes=dict(sizes),
        redraws=fields.redraws,
        branches=sum(ring.branches for ring in rings),
        roots=max((len(ring.roots) for ring in rings), default=0),
        literals=literals,
    )


def _log2_failure(degree: int, height: int, roots: int, bits: int) -> float:
    """Return the binary logarithm of the probability that one point of one field hides a difference."""
    primes = 2 ** (bits - 1) / (bits * math.log(2)) / 32 / 2  # one odd number in 32 serves; a half, to be safe
    return math.log2((degree + 1) * 4**roots / _RANGE + (height + 1) * 2**roots / (bits - 1) / primes)


def _undecided(error: Exception, problem: Problem) -> ExactVerdict:
    lines = (line_of(error, function) for function in (problem.forward, problem.backward) if function is not None)
    line = next((found for found in lines if found is not None), None)
    told = str(error) if isinstance(error, Unsupported | Malformed) else f"{type(error).__name__}: {error}"
    return ExactVerdict(Word.NOT_DECIDED, told, line=line)


def _judged(point: _Point, name: str) -> _Difference | Exception:
    try:
        return point.difference(name)
    except (Redraw, Transcendental):
        raise
    except Exception as error:  # what the user's code raises concerns this input alone
        return error


def _entry(ring: Degrees, value: Fraction, bit: int) -> Degree:
    return Degree(ring, ring.base.of(value), 1, 0, 1, bit)


def _weight(degree: Any) -> int:
    return degree.above + degree.below


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value  # pyright: ignore[reportUnknownVariableType]


def _flat(values: Any) -> list[Any]:
    return [values] if isinstance(values, Num) else list(values.flat)


def _real(value: Any) -> float:
    return value.real() if isinstance(value, Num) else float(value)


def _text(value: Any) -> str:
    """Return numbers as one writes them: fractions where they are known, else floats."""
    if isinstance(value, np.ndarray):
        return "[" + ", ".join(_text(entry) for entry in value) + "]"
    if isinstance(value, Num):
        fraction = value.fraction()
        return f"{value.real():.10g}" if fraction is None else str(fraction)
    return str(value)
