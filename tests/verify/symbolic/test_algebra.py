"""Polynomials in entries and sums: equal formulas are equal dictionaries, and every rewriting is an identity."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhat.verify.problem import Unsupported
from xhat.verify.symbolic.algebra import Poly, Space, entries


class Model:
    """A space of symbols beside arrays of random numbers that they stand for."""

    def __init__(self, seed: int = 0) -> None:
        self.space = Space()
        self.sizes = {"N": 4, "D": 3}
        self.i, self.j = self.space.index("N"), self.space.index("D")
        rng = np.random.default_rng(seed)
        self.arrays = {"x": rng.standard_normal((4, 3)), "g": rng.standard_normal(3), "u": rng.standard_normal((4, 3))}
        self.x, self.g, self.u = (
            self.space.entry(name, axes)
            for name, axes in (("x", (self.i, self.j)), ("g", (self.j,)), ("u", (self.i, self.j)))
        )
        self.n = self.space.symbol("N", positive=True)

    def value(self, poly: Poly, at: dict[int, int]) -> float:
        return sum(float(c) * np.prod([self.factor(f, at) ** float(p) for f, p in m]) for m, c in poly.terms.items())

    def factor(self, factor: tuple, at: dict[int, int]) -> float:
        if factor[0] == "s":
            if factor[1] in self.sizes:
                return float(self.sizes[factor[1]])
            return self.value(self.space.named[factor[1]].poly, {})
        if factor[0] == "e":
            place = tuple(at[i] for i in factor[2])
            named = self.space.named.get(factor[1])
            if named is not None:
                return self.value(named.poly, {**at, **dict(zip(named.indices, place, strict=True))})
            return float(self.arrays[factor[1]][place])
        total = 0.0
        for bound in np.ndindex(*(self.sizes[dim] for dim in factor[1])):
            inner = {**at, **{-k: b for k, b in enumerate(bound, 1)}}
            total += float(np.prod([self.factor(f, inner) ** float(p) for f, p in factor[2]]))
        return total


formulas = st.recursive(
    st.sampled_from(["x", "g", "u", "2", "n"]),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-*"), inner, inner),
        st.tuples(st.sampled_from(["sum N", "sum D", "square"]), inner),
    ),
    max_leaves=7,
)


def symbols(model: Model, formula: object) -> Poly:
    if isinstance(formula, str):
        return model.space.number(2) if formula == "2" else getattr(model, formula)
    operation, *parts = formula
    values = [symbols(model, part) for part in parts]
    if operation in "+-*":
        a, b = values
        return a + b if operation == "+" else a - b if operation == "-" else a * b
    if operation == "square":
        return values[0] * values[0]
    return model.space.sum_over(values[0], [model.i if operation == "sum N" else model.j])


def floats(model: Model, formula: object) -> np.ndarray:
    """The same on arrays of (N, D), in which a sum is spread over the axis again."""
    if isinstance(formula, str):
        known = {"2": 2.0, "n": 4.0}
        return np.broadcast_to(known[formula] if formula in known else model.arrays[formula], (4, 3))
    operation, *parts = formula
    values = [floats(model, part) for part in parts]
    if operation in "+-*":
        a, b = values
        return a + b if operation == "+" else a - b if operation == "-" else a * b
    if operation == "square":
        return values[0] ** 2
    return np.broadcast_to(values[0].sum(axis=0 if operation == "sum N" else 1, keepdims=True), (4, 3))


@settings(max_examples=150, deadline=None)
@given(formulas)
def test_a_formula_is_what_it_is_on_numbers(formula: object) -> None:
    model = Model()
    try:
        poly = symbols(model, formula)
    except Unsupported:  # more sums than can be put in order
        return
    expected = floats(model, formula)
    size = 1 + np.abs(expected).max()
    for place in ((0, 0), (3, 2), (1, 1)):
        got = model.value(poly, {model.i: place[0], model.j: place[1]})
        assert abs(got - expected[place]) < 1e-9 * size


@settings(max_examples=60, deadline=None)
@given(formulas, st.sampled_from([Fraction(-1), Fraction(-2)]), st.integers(0, 5))
def test_reciprocals_are_reciprocals(formula: object, power: Fraction, seed: int) -> None:
    model = Model(seed)
    try:
        poly = symbols(model, formula)
        inverse = poly.power(power)
        product = (inverse * poly.power(-power)).normal()
    except (Unsupported, ZeroDivisionError):
        return
    at = {model.i: 2, model.j: 1}
    value = model.value(poly, at)
    if abs(value) < 1e-3:
        return
    assert model.value(inverse, at) == pytest.approx(value ** float(power), rel=1e-6)
    assert model.value(product, at) == pytest.approx(1, rel=1e-6)


def test_variance_plus_eps_is_its_root_squared() -> None:
    model = Model()
    space, n = model.space, model.n
    eps = space.symbol("eps", positive=True)
    mean = space.sum_over(model.x, [model.i]) * n.power(Fraction(-1))
    centred = model.x - mean
    var = space.sum_over(centred * centred, [model.i]) * n.power(Fraction(-1))
    root = (var + eps).power(Fraction(1, 2))
    assert (root * root - var - eps).normal() == space.number(0)
    again = (n * var + n * eps).power(Fraction(1, 2))  # a multiple has the same root
    assert (again - root * n.power(Fraction(1, 2))).normal() == space.number(0)
    x_hat = centred * root.power(Fraction(-1))
    share = n - n * eps * root.power(Fraction(-2))
    assert (space.sum_over(x_hat * x_hat, [model.i]) - share).normal() == space.number(0)


def test_names_of_indices_do_not_matter() -> None:
    space = Space()
    a, b, c = (space.index(dim) for dim in "NND")
    one = space.sum_over(space.entry("x", (a, c)) * space.entry("w", (a,)), [a])
    other = space.sum_over(space.entry("w", (b,)) * space.entry("x", (b, c)), [b])
    assert one == other
    assert one.free_indices() == {c}


def test_two_sums_of_one_index_are_not_one_sum_of_a_product() -> None:
    space = Space()
    i = space.index("N")
    x = space.entry("x", (i,))
    assert space.sum_over(x, [i]) * space.sum_over(x, [i]) != space.sum_over(x * x, [i])


def test_one_hot_rows() -> None:
    space = Space()
    i, k = space.index("N"), space.index("C")
    space.one_hot("$y", ["N", "C"], [1])
    y, x = space.entry("$y", (i, k)), space.entry("x", (i, k))
    assert space.sum_over(y, [k]) == space.number(1)
    assert y * y == y
    picked = space.sum_over(y * x, [k])
    assert picked * picked == space.sum_over(y * x * x, [k])
    assert y * picked == y * x
    assert picked != x


def test_sizes_less_one() -> None:
    space = Space()
    space.index("N")
    n = space.symbol("N", positive=True)
    rest = (n - space.number(1)).power(Fraction(-1))
    assert (n * rest - rest - space.number(1)).normal() == space.number(0)
    assert (rest * n.power(Fraction(-1)) - rest + n.power(Fraction(-1))).normal() == space.number(0)
    assert space.assumptions == [("{} != 0", n - space.number(1))]


def test_a_root_of_unknown_sign_is_refused() -> None:
    space = Space()
    g = space.entry("g", (space.index("D"),))
    with pytest.raises(Unsupported, match="sign of g"):
        (g * g).power(Fraction(1, 2))
    with pytest.raises(Unsupported, match="no rational number"):
        space.number(2).power(Fraction(1, 2))
    with pytest.raises(ZeroDivisionError):
        (g - g).power(Fraction(-1))


def test_entries_of_a_sum() -> None:
    model = Model()
    ((factor, _),) = next(iter(model.space.sum_over(model.x * model.u, [model.i]).terms))
    assert sorted(inner[1] for inner in entries(factor)) == ["u", "x"]


def test_squares_are_seen() -> None:
    model = Model()
    one = model.space.number(1)
    for root in (
        one + model.x,
        model.x * 2 - model.g * model.u + one,
        model.x + model.space.sum_over(model.x, [model.i]),
    ):
        inverse = root.power(Fraction(-1))
        assert (root * root).power(Fraction(-1)) == inverse * inverse
    assert ((one + model.x) * (one + model.g)).power(Fraction(-1)).names() != {"x", "g"}
