"""Numbers without rounding, which live in NumPy's object arrays, so that layer code runs on them as it is.

    Prime        an element of a field with p elements, p prime and 3 mod 4
    Exponential  the same with one level of exp: an element mod p, and one mod q for what stands in an exponent
    Rational     a fraction, with its root where it is one
    Dual         a + b e with e² = 0 over any of them: a value, and its derivative in one direction
    Degree       a bound of the degree of the polynomials whose quotient a value is

Of the two roots in a field, `sqrt` takes the one that is a square itself: that choice is multiplicative, as is the
positive root of positive numbers. A field has no order. So its elements carry the float that they stand for, which
decides comparisons: the branch taken is that of the real numbers.

A float in the code that is run (0.5, or 1 / 3 computed) is read as the simplest fraction that rounds to it.

Two primes for exp: Wu et al. 2025, "Mirage: A Multi-Level Superoptimizer for Tensor Programs", OSDI, section 5.
"""

from __future__ import annotations

import functools
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction
from typing import Any, ClassVar, Self, cast

import numpy as np

from xhat.verify.problem import Unsupported

_AMBIGUOUS = 1e-11  # of two floats this near, and not equal exactly, no order is told
_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)  # of Miller-Rabin: enough below 3.3e24


class Redraw(ArithmeticError):  # noqa: N818  no error: another input is drawn
    """The number asked for does not exist here; at other inputs it may."""


class NoRoot(Redraw):
    """A root does not exist at this input."""


class Transcendental(Unsupported):
    """These numbers have no exp, log or tanh."""


@functools.lru_cache(4096)
def simplest(value: float) -> Fraction:
    """Return the simplest fraction that rounds to a float.

    Examples
    --------
    >>> simplest(1 / 3), simplest(-0.9)
    (Fraction(1, 3), Fraction(-9, 10))
    """
    if not math.isfinite(value):
        raise Unsupported(f"{value} is not a number to compute with")
    if value == int(value):
        return Fraction(int(value))
    if value < 0:
        return -simplest(-value)
    exact = Fraction(value)
    low = (exact + Fraction(math.nextafter(value, 0.0))) / 2
    high = (exact + Fraction(math.nextafter(value, math.inf))) / 2
    found = _between(low, high)
    return found if float(found) == value else exact


def _between(low: Fraction, high: Fraction) -> Fraction:
    """Return the fraction of least denominator in an interval, by continued fractions."""
    whole = math.floor(low)
    if whole == low:
        return Fraction(whole)
    if whole + 1 <= high:
        return Fraction(whole + 1)
    return whole + 1 / _between(1 / (high - whole), 1 / (low - whole))


def is_prime(n: int) -> bool:
    """Return whether n is a prime: for certain below 3.3e24, and but for one chance in 4^13 above."""
    if n < 2 or any(n % w == 0 for w in _WITNESSES):
        return n in _WITNESSES
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for witness in _WITNESSES:
        power = pow(witness, odd, n)
        if power in (1, n - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % n
            if power == n - 1:
                break
        else:
            return False
    return True


def random_prime(bits: int, rng: random.Random) -> int:
    """Return a prime of this many bits, of those that `serves` accepts each as likely as another."""
    while True:
        n = rng.getrandbits(bits) | 1 << (bits - 1) | 3
        if serves(n) and is_prime(n):
            return n


def serves(p: int) -> bool:
    """Return whether p is 3 mod 4 and 2, 3, 5 and 7 are squares mod p, so that the root of 4 is 2 and not -2."""
    return p % 4 == 3 and all(pow(small, (p - 1) // 2, p) == 1 for small in (2, 3, 5, 7))


def as_fraction(value: Any) -> Fraction | None:
    """Return a Python or NumPy number as a fraction, and None for what is no such number."""
    value = _scalar(value)
    if isinstance(value, int):
        return Fraction(value)
    if isinstance(value, float):
        return simplest(value)
    return value if isinstance(value, Fraction) else None


def _scalar(value: Any) -> Any:
    """Return a number of NumPy's as one of Python's."""
    return cast(Any, value).item() if isinstance(value, np.generic) else value


def exact_root(value: Fraction) -> Fraction | None:
    """Return the root of a fraction, if it is one."""
    if value < 0:
        return None
    root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    return root if root * root == value else None


class Ring(ABC):
    """A kind of number: makes them, and keeps what was met while they were computed with.

    Attributes
    ----------
    literals : dict of float to Fraction
        How floats were read.
    branches : int
        Comparisons made.
    ties : int
        Those of them that found two numbers equal: there a function may have no derivative.
    roots : set
        What roots were taken of.
    missing : list of bool, optional
        Where this is a list, a root that does not exist is 1 and no error, and the list tells it of each root in order.
    """

    def __init__(self) -> None:
        self.literals: dict[float, Fraction] = {}
        self.branches = 0
        self.ties = 0
        self.roots: set[Any] = set()
        self.missing: list[bool] | None = None

    def __call__(self, value: Any) -> Num:
        """Return the number that stands for a Python or NumPy number."""
        if isinstance(value, Num):
            return value
        fraction = as_fraction(value)
        if value is None:
            raise TypeError("an entry of np.empty is read before it is written")
        if fraction is None:
            raise TypeError(f"expected a number, got {type(value).__name__}")
        if fraction.denominator != 1 and not isinstance(value, Fraction):
            self.literals[float(value)] = fraction
        return self.of(fraction)

    @abstractmethod
    def of(self, value: Fraction) -> Num:
        """Return the number that stands for a fraction."""

    def note_root(self, of: Any, exists: bool) -> None:
        """Keep in mind that a root was taken."""
        self.roots.add(of)
        if self.missing is not None:
            self.missing.append(not exists)
        elif not exists:
            raise NoRoot("a root does not exist")


class Num(ABC):
    """What exact numbers share: the operators, with Python's and NumPy's numbers on either side."""

    __slots__ = ("ring",)
    ring: Any

    # as a NumPy scalar, whose place it takes
    shape: ClassVar[tuple[int, ...]] = ()
    ndim: ClassVar[int] = 0
    size: ClassVar[int] = 1
    dtype: ClassVar[np.dtype[Any]] = np.dtype(object)

    @abstractmethod
    def _plus(self, other: Any) -> Num: ...

    @abstractmethod
    def _times(self, other: Any) -> Num: ...

    @abstractmethod
    def __neg__(self) -> Num: ...

    @abstractmethod
    def reciprocal(self) -> Num:
        """Return 1 / self."""

    @abstractmethod
    def sqrt(self) -> Num:
        """Return the root."""

    @abstractmethod
    def exp(self) -> Num:
        """Return e to the power of this."""

    @abstractmethod
    def log(self) -> Num:
        """Return the natural logarithm."""

    @abstractmethod
    def is_zero(self) -> bool:
        """Return whether this is 0, exactly."""

    @abstractmethod
    def real(self) -> float:
        """Return the float that this stands for."""

    def _lift(self, other: Any) -> Any:
        """Return the other operand as a number of this kind; None if it is none."""
        if type(other) is type(self):
            return other
        if isinstance(other, bool | int | float | Fraction | np.generic):
            return self.ring(other)
        return None

    def _less(self, other: Any) -> bool:
        """Return whether this is below another, as real numbers are."""
        self.ring.branches += 1
        if self._same(other):
            self.ring.ties += 1
            return False
        a, b = self.real(), other.real()
        if abs(a - b) <= _AMBIGUOUS * (abs(a) + abs(b)):
            raise Redraw("two numbers are too near to be told apart")
        return a < b

    def _same(self, other: Any) -> bool:
        return self._plus(-other).is_zero()

    def __add__(self, other: Any) -> Any:
        other = self._lift(other)
        return NotImplemented if other is None else self._plus(other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        other = self._lift(other)
        return NotImplemented if other is None else self._times(other)

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Any:
        other = self._lift(other)
        return NotImplemented if other is None else self._plus(-other)

    def __rsub__(self, other: Any) -> Any:
        other = self._lift(other)
        return NotImplemented if other is None else other._plus(-self)

    def __truediv__(self, other: Any) -> Any:
        other = self._lift(other)
        return NotImplemented if other is None else self._times(other.reciprocal())

    def __rtruediv__(self, other: Any) -> Any:
        other = self._lift(other)
        return NotImplemented if other is None else other._times(self.reciprocal())

    def __pow__(self, exponent: Any) -> Any:
        if isinstance(exponent, Num):
            raise Unsupported("a power with an exponent that is computed is not modelled: write it with exp and log")
        power = as_fraction(exponent)
        if power is None:
            return NotImplemented
        if power.denominator > 2:
            raise Unsupported(f"the power {power} is not modelled: only whole and half ones are")
        base: Any = self if power >= 0 else self.reciprocal()
        if power.denominator == 2:
            base = base.sqrt()
        count, result = abs(power.numerator), self._lift(1)
        while count:
            if count & 1:
                result = result._times(base)
            count >>= 1
            if count:
                base = base._times(base)
        return result

    def __rpow__(self, base: Any) -> Any:
        raise Unsupported("a power with an exponent that is computed is not modelled: write it with exp and log")

    def fraction(self) -> Fraction | None:
        """Return this as a fraction, if it is known to be one."""
        return None

    def __eq__(self, other: object) -> Any:
        if isinstance(other, float) and math.isinf(other):
            return False
        other = self._lift(other)
        return NotImplemented if other is None else self._same(other)

    def __lt__(self, other: Any) -> Any:
        return self._compared(other, lambda a, b: a._less(b))

    def __gt__(self, other: Any) -> Any:
        return self._compared(other, lambda a, b: b._less(a))

    def __le__(self, other: Any) -> Any:
        return self._compared(other, lambda a, b: not b._less(a))

    def __ge__(self, other: Any) -> Any:
        return self._compared(other, lambda a, b: not a._less(b))

    def _compared(self, other: Any, judge: Callable[[Any, Any], bool]) -> Any:
        other = _scalar(other)
        if isinstance(other, float) and math.isinf(other):
            return judge(_End(0.0), _End(other))
        lifted = self._lift(other)
        return NotImplemented if lifted is None else judge(self, lifted)

    @abstractmethod
    def __hash__(self) -> int: ...

    def __abs__(self) -> Any:
        return -self if self < 0 else self

    def __pos__(self) -> Self:
        return self

    def tanh(self) -> Num:
        """Return the hyperbolic tangent."""
        squared = (self + self).exp()
        return (squared - 1) / (squared + 1)

    def log1p(self) -> Num:
        """Return log(1 + self)."""
        return (self + 1).log()

    def expm1(self) -> Num:
        """Return exp(self) - 1."""
        return self.exp() - 1

    def square(self) -> Num:
        """Return self * self."""
        return self * self

    def conjugate(self) -> Self:
        """Return this, which is real."""
        return self

    def copy(self) -> Self:
        """Return this, which never changes."""
        return self

    def item(self) -> Self:
        """Return this, as a NumPy scalar does."""
        return self

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: Any) -> Self:
        return self

    def __bool__(self) -> bool:
        self.ring.branches += 1
        return self != 0

    def __format__(self, spec: str) -> str:
        return format(self.real(), spec)

    def _refused(self, *_: Any) -> Any:
        raise Unsupported("rounding to a float or to an integer is not modelled: it is not exact")

    __float__ = __int__ = __complex__ = __round__ = __floor__ = __ceil__ = __trunc__ = __index__ = _refused
    __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = __divmod__ = __rdivmod__ = _refused


class _End:
    """An end of the real line, or any number compared with one."""

    def __init__(self, value: float) -> None:
        self.value = value

    def _less(self, other: Any) -> bool:
        return self.value < other.value


def _power(base: int, exponent: int, modulus: int) -> int:
    return pow(base, exponent, modulus)


def _inverse(residue: int, modulus: int) -> int:
    return pow(residue, -1, modulus)


def _root(residue: int, modulus: int) -> int | None:
    """Return the root that is itself a square, if there is a root."""
    root = _power(residue, (modulus + 1) // 4, modulus)
    return root if root * root % modulus == residue else None


def _shadow(value: float) -> float:
    if not math.isfinite(value):
        raise Redraw("a number is too large")
    return value


class Field(Ring):
    """The field with p elements.

    Parameters
    ----------
    p : int
        A prime, 3 mod 4.

    Examples
    --------
    >>> field = Field(103)
    >>> field(0.5) + field(0.5) == 1, (field(3) * field(3)).sqrt() ** 2 == 9
    (True, True)
    """

    def __init__(self, p: int) -> None:
        super().__init__()
        self.p = p

    def of(self, value: Fraction) -> Prime:
        """Return the number that stands for a fraction."""
        try:
            residue = value.numerator * pow(value.denominator, -1, self.p) % self.p
        except ValueError:
            raise Redraw("division by zero") from None
        return Prime(self, residue, float(value))


class Prime(Num):
    """An element of a field, and the float that it stands for."""

    __slots__ = ("shadow", "v")

    def __init__(self, ring: Field, v: int, shadow: float) -> None:
        self.ring, self.v, self.shadow = ring, v, shadow

    def _plus(self, other: Any) -> Prime:
        return Prime(self.ring, (self.v + other.v) % self.ring.p, self.shadow + other.shadow)

    def _times(self, other: Any) -> Prime:
        return Prime(self.ring, self.v * other.v % self.ring.p, self.shadow * other.shadow)

    def __neg__(self) -> Prime:
        return Prime(self.ring, -self.v % self.ring.p, -self.shadow)

    def reciprocal(self) -> Prime:
        """Return 1 / self."""
        if self.v == 0 or self.shadow == 0.0:
            raise Redraw("division by zero")
        return Prime(self.ring, _inverse(self.v, self.ring.p), _shadow(1 / self.shadow))

    def sqrt(self) -> Prime:
        """Return the root that is itself a square."""
        root = _root(self.v, self.ring.p)
        self.ring.note_root(self.v, root is not None and (self.shadow >= 0 or self.v == 0))
        return Prime(self.ring, 1 if root is None else root, math.sqrt(abs(self.shadow)))

    def exp(self) -> Num:
        """Raise: there is no exp in a field."""
        raise Transcendental("exp is not modelled in a prime field")

    def log(self) -> Num:
        """Raise: there is no log in a field."""
        raise Transcendental("log is not modelled in a prime field")

    def is_zero(self) -> bool:
        """Return whether this is 0 in the field."""
        return self.v == 0

    def real(self) -> float:
        """Return the float that this stands for."""
        return self.shadow

    def _same(self, other: Any) -> bool:
        return self.v == other.v

    def __hash__(self) -> int:
        return hash(self.v)

    def __repr__(self) -> str:
        return f"{self.v} mod {self.ring.p}"


class ExponentialField(Ring):
    """A field with p elements, and exp from a field with q elements, q a divisor of p - 1, into it.

    With w of order q, exp(a) is w to the power of a mod q, so that exp(a + b) = exp(a) exp(b).

    Parameters
    ----------
    p, q : int
        Primes, 3 mod 4, with q a divisor of p - 1.
    base : int
        An element of order q: what e is taken to be.
    """

    def __init__(self, p: int, q: int, base: int) -> None:
        super().__init__()
        self.p, self.q, self.base = p, q, base

    @classmethod
    def draw(cls, bits: int, rng: random.Random) -> ExponentialField:
        """Return a field whose q has this many bits."""
        while True:
            q = random_prime(bits, rng)
            for k in range(2, 4000, 4):  # k q + 1 is 3 mod 4
                p = k * q + 1
                if serves(p) and is_prime(p):
                    base = 1
                    while base == 1:
                        base = pow(rng.randrange(2, p), k, p)
                    return cls(p, q, base)

    def of(self, value: Fraction) -> Exponential:
        """Return the number that stands for a fraction."""
        try:
            v = value.numerator * pow(value.denominator, -1, self.p) % self.p
            w = value.numerator * pow(value.denominator, -1, self.q) % self.q
        except ValueError:
            raise Redraw("division by zero") from None
        return Exponential(self, v, w, float(value))


class Exponential(Num):
    """An element mod p and one mod q; the second is None where an exp is in it, of which there is no exp again."""

    __slots__ = ("shadow", "v", "w")

    def __init__(self, ring: ExponentialField, v: int, w: int | None, shadow: float) -> None:
        self.ring, self.v, self.w, self.shadow = ring, v, w, shadow

    def _plus(self, other: Any) -> Exponential:
        ring = self.ring
        w = None if self.w is None or other.w is None else (self.w + other.w) % ring.q
        return Exponential(ring, (self.v + other.v) % ring.p, w, self.shadow + other.shadow)

    def _times(self, other: Any) -> Exponential:
        ring = self.ring
        w = None if self.w is None or other.w is None else self.w * other.w % ring.q
        return Exponential(ring, self.v * other.v % ring.p, w, self.shadow * other.shadow)

    def __neg__(self) -> Exponential:
        w = None if self.w is None else -self.w % self.ring.q
        return Exponential(self.ring, -self.v % self.ring.p, w, -self.shadow)

    def reciprocal(self) -> Exponential:
        """Return 1 / self."""
        if self.v == 0 or self.w == 0 or self.shadow == 0.0:
            raise Redraw("division by zero")
        w = None if self.w is None else _inverse(self.w, self.ring.q)
        return Exponential(self.ring, _inverse(self.v, self.ring.p), w, _shadow(1 / self.shadow))

    def sqrt(self) -> Exponential:
        """Return the root that is itself a square, in both fields."""
        root = _root(self.v, self.ring.p)
        w = None if self.w is None else _root(self.w, self.ring.q)
        exists = root is not None and (self.w is None or w is not None) and (self.shadow >= 0 or self.v == 0)
        self.ring.note_root((self.v, self.w), exists)
        w = 1 if w is None and self.w is not None else w
        return Exponential(self.ring, 1 if root is None else root, w, math.sqrt(abs(self.shadow)))

    def exp(self) -> Exponential:
        """Return e to the power of this, in the one field."""
        if self.w is None:
            raise Unsupported("exp of something that is computed from an exp or a log is not modelled")
        if self.shadow > 700:
            raise Redraw("a number is too large")
        return Exponential(self.ring, _power(self.ring.base, self.w, self.ring.p), None, math.exp(self.shadow))

    def log(self) -> Exponential:
        """Return a number that depends on this one, and is otherwise any: only the derivative of log is known."""
        if self.shadow <= 0:
            raise Redraw("the logarithm of a number that is not positive")
        value = random.Random(self.v).randrange(self.ring.p)
        return Exponential(self.ring, value, None, math.log(self.shadow))

    def is_zero(self) -> bool:
        """Return whether this is 0 in the field."""
        return self.v == 0

    def real(self) -> float:
        """Return the float that this stands for."""
        return self.shadow

    def _same(self, other: Any) -> bool:
        return self.v == other.v

    def __hash__(self) -> int:
        return hash(self.v)

    def __repr__(self) -> str:
        return f"{self.v} mod {self.ring.p}"


class Rationals(Ring):
    """The fractions.

    Examples
    --------
    >>> number = Rationals()
    >>> number(0.1) + 2, number(2.25).sqrt()
    (21/10, 3/2)
    """

    def of(self, value: Fraction) -> Rational:
        """Return the number that stands for a fraction."""
        return Rational(self, value)


class Rational(Num):
    """A fraction."""

    __slots__ = ("v",)

    def __init__(self, ring: Ring, v: Fraction) -> None:
        self.ring, self.v = ring, v

    def _plus(self, other: Any) -> Rational:
        return Rational(self.ring, self.v + other.v)

    def _times(self, other: Any) -> Rational:
        return Rational(self.ring, self.v * other.v)

    def __neg__(self) -> Rational:
        return Rational(self.ring, -self.v)

    def reciprocal(self) -> Rational:
        """Return 1 / self."""
        if self.v == 0:
            raise Redraw("division by zero")
        return Rational(self.ring, 1 / self.v)

    def sqrt(self) -> Rational:
        """Return the root, if it is a fraction."""
        root = exact_root(self.v)
        self.ring.note_root(self.v, root is not None)
        return Rational(self.ring, Fraction(1) if root is None else root)

    def exp(self) -> Num:
        """Raise: exp of a fraction is none."""
        raise Transcendental("exp is not modelled in fractions")

    def log(self) -> Num:
        """Raise: log of a fraction is none."""
        raise Transcendental("log is not modelled in fractions")

    def is_zero(self) -> bool:
        """Return whether this is 0."""
        return self.v == 0

    def real(self) -> float:
        """Return the nearest float."""
        return float(self.v)

    def fraction(self) -> Fraction:
        """Return this as a fraction."""
        return self.v

    def _same(self, other: Any) -> bool:
        return self.v == other.v

    def _less(self, other: Any) -> bool:
        self.ring.branches += 1
        self.ring.ties += self.v == other.v
        return self.v < other.v

    def __hash__(self) -> int:
        return hash(self.v)

    def __repr__(self) -> str:
        return str(self.v)


class Degrees(Ring):
    """Bounds of degrees, beside the numbers of another ring, which decide the branches.

    Parameters
    ----------
    base : Ring
        The numbers.

    Attributes
    ----------
    supports : list of int
        For each root in order, on which entries its number depends, as bits.
    """

    def __init__(self, base: Ring) -> None:
        super().__init__()
        self.base = base
        self.supports: list[int] = []

    def of(self, value: Fraction) -> Degree:
        """Return the number that stands for a fraction: a constant."""
        height = max(abs(value.numerator), value.denominator).bit_length()
        return Degree(self, self.base.of(value), 0, 0, height)


class Degree(Num):
    """A value that is a quotient of two polynomials in the entries drawn, with whole coefficients.

    `above` and `below` bound the degrees of the two polynomials, and `height` the binary logarithm of the sum of the
    absolute values of the coefficients, of each of them. A root counts with half of all, rounded up. `support` tells
    the entries on which the value may depend, as bits.
    """

    __slots__ = ("above", "below", "height", "support", "value")

    def __init__(self, ring: Ring, value: Num, above: int, below: int, height: int, support: int = 0) -> None:
        self.ring, self.value, self.support = ring, value, support
        self.above, self.below, self.height = above, below, height

    def _plus(self, other: Any) -> Degree:
        above = max(self.above + other.below, other.above + self.below)
        height, support = self.height + other.height + 1, self.support | other.support
        return Degree(self.ring, self.value + other.value, above, self.below + other.below, height, support)

    def _times(self, other: Any) -> Degree:
        above, below, height = self.above + other.above, self.below + other.below, self.height + other.height
        return Degree(self.ring, self.value * other.value, above, below, height, self.support | other.support)

    def __neg__(self) -> Degree:
        return Degree(self.ring, -self.value, self.above, self.below, self.height, self.support)

    def reciprocal(self) -> Degree:
        """Return 1 / self."""
        return Degree(self.ring, self.value.reciprocal(), self.below, self.above, self.height, self.support)

    def sqrt(self) -> Degree:
        """Return the root."""
        above, below, height = (-(-n // 2) for n in (self.above, self.below, self.height))
        self.ring.supports.append(self.support)
        return Degree(self.ring, self.value.sqrt(), above, below, height, self.support)

    def exp(self) -> Degree:
        """Return the exponential, which counts as a new entry, of the degree of its exponent."""
        return Degree(self.ring, self.value.exp(), max(self.above, 1), self.below, self.height, self.support)

    def log(self) -> Degree:
        """Return the logarithm, which counts as a new entry."""
        return Degree(self.ring, self.value.log(), 1, 0, 1, self.support)

    def is_zero(self) -> bool:
        """Return whether the value is 0."""
        return self.value.is_zero()

    def real(self) -> float:
        """Return the float that the value stands for."""
        return self.value.real()

    def _same(self, other: Any) -> bool:
        return self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"degree {self.above}/{self.below}"


class Dual(Num):
    """A value and its derivative in one direction. Comparisons and hashes see the value alone.

    Parameters
    ----------
    value, slope : Num
        Of one kind.

    Examples
    --------
    >>> number = Rationals()
    >>> Dual(number(9), number(1)).sqrt()
    3 + 1/6 e
    """

    __slots__ = ("slope", "value")

    def __init__(self, value: Num, slope: Num) -> None:
        self.ring, self.value, self.slope = value.ring, value, slope

    def _lift(self, other: Any) -> Any:
        if type(other) is Dual:
            return other
        value = self.value._lift(other)  # pyright: ignore[reportPrivateUsage]
        return None if value is None else Dual(value, self.ring(0))

    def _plus(self, other: Any) -> Dual:
        return Dual(self.value + other.value, self.slope + other.slope)

    def _times(self, other: Any) -> Dual:
        return Dual(self.value * other.value, self.value * other.slope + self.slope * other.value)

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.slope)

    def reciprocal(self) -> Dual:
        """Return 1 / self."""
        inverse = self.value.reciprocal()
        return Dual(inverse, -(self.slope * inverse * inverse))

    def sqrt(self) -> Dual:
        """Return the root."""
        root = self.value.sqrt()
        return Dual(root, self.slope / (root + root))

    def exp(self) -> Dual:
        """Return e to the power of this."""
        value = self.value.exp()
        return Dual(value, self.slope * value)

    def log(self) -> Dual:
        """Return the natural logarithm."""
        return Dual(self.value.log(), self.slope / self.value)

    def is_zero(self) -> bool:
        """Return whether value and derivative are 0."""
        return self.value.is_zero() and self.slope.is_zero()

    def real(self) -> float:
        """Return the float that the value stands for."""
        return self.value.real()

    def _same(self, other: Any) -> bool:
        return self.value == other.value

    def _less(self, other: Any) -> bool:
        return self.value < other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"{self.value!r} + {self.slope!r} e"
