"""The formulas of docs/matrix_calculus.md, taken from the page itself, at sizes that the page does not show."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PAGE = Path(__file__).parents[2] / "docs" / "matrix_calculus.md"
DEFINES = ("def ", "class ", "import ", "from ")


def functions(changed=None):
    """The functions that the page defines, perhaps with one text of it changed."""
    names = {}
    for example in doctest.DocTestParser().get_examples(PAGE.read_text(encoding="utf-8")):
        if example.source.startswith(DEFINES):
            exec(example.source if changed is None else example.source.replace(*changed), names)
    return names


def draw(N, p1, p2, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(rng.normal(0, 2, p1), 1, (N, p1)), rng.standard_normal((N, 1))
    shapes = {"Γ1": (p1, p2), "γ": (1, p2), "β": (1, p2), "Γ2": (p2, 1)}
    return X, y, {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def worst(page, sizes, eps, seed, *, transposed):
    """The largest error of any gradient beside the length of the largest."""
    X, y, parameters = draw(*sizes, seed)
    true = page["derivatives"](X, y, parameters, eps)
    found = page["backward_numerator_layout" if transposed else "backward"](X, y, **parameters, eps=eps)
    assert set(found) == set(true) == {"Γ1", "γ", "β", "Γ2"}
    # what goes back through a column that hardly varies is large, and so is its rounding
    spread = page["forward"](X, y, **parameters, eps=eps).s.max()
    errors = {}
    for name, values in true.items():
        got = found[name].T if transposed else found[name]
        assert found[name].shape == (parameters[name].shape[::-1] if transposed else parameters[name].shape)
        errors[name] = np.abs(got - values).max()
    size = max(np.abs(values).max() for values in true.values())
    return max(errors.values()) / (size * max(1.0, spread) * np.abs(X).max()) if size else max(errors.values())


PAGE_FUNCTIONS = functions()


@pytest.mark.parametrize("transposed", [False, True], ids=["denominator layout", "numerator layout"])
@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.5])
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(N=st.integers(3, 17), p1=st.integers(1, 5), p2=st.integers(1, 7), seed=st.integers(0, 10**6))
def test_the_formulas_give_the_derivatives(transposed, eps, N, p1, p2, seed):
    assert worst(PAGE_FUNCTIONS, (N, p1, p2), eps, seed, transposed=transposed) < 1e-12


FAULTS = [
    ("2 / N * (ŷ - y)", "1 / N * (ŷ - y)"),
    ("2 / N * (ŷ - y)", "2 / N * (y - ŷ)"),
    ("(B > 0) * (g @ Γ2.T)", "g @ Γ2.T"),
    ("G_B - dβ / N - X_hat * dγ / N", "G_B"),
    ("G_B - dβ / N", "G_B"),
    (" - X_hat * dγ / N", ""),
    ("- X_hat * dγ / N", "+ X_hat * dγ / N"),
    ("X_hat * dγ / N", "X_hat * dγ"),
    ("* (γ * s)", "* γ"),
    ("* (γ * s)", "* s"),
    ("(G_B * X_hat).sum(0", "(G_B * B).sum(0"),
    ('"Γ2": A.T @ g', '"Γ2": B.T @ g'),
    (" - ι @ dβ.T / N", ""),
    (" - X_hat @ np.diagflat(dγ) / N", ""),
    ("@ np.diagflat(γ * s)", "@ np.diagflat(γ)"),
    ("G_B.T @ ι", "(G_B * X_hat).T @ ι"),
    ("g.T @ A", "g.T @ B"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=" → ".join)
def test_a_wrong_formula_is_caught(fault):
    wrong = functions(fault)
    assert any(worst(wrong, (7, 3, 2), 0.3, 1, transposed=transposed) > 1e-3 for transposed in (False, True))


@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_what_is_lost_with_constant_statistics(eps):
    """Leaving out the mean or the deviation or both lacks the terms that the page names, at sizes of its own."""
    page = PAGE_FUNCTIONS
    X, y, parameters = draw(9, 5, 4, 3)
    nodes = page["forward"](X, y, **parameters, eps=eps)
    right = page["backward"](X, y, **parameters, eps=eps)
    scale = parameters["γ"] * nodes.s
    N, G_B = len(X), (nodes.B > 0) * (2 / len(X) * (nodes.ŷ - y) @ parameters["Γ2"].T)
    S, x_mean = np.cov(X.T, bias=True), X.mean(0)[:, None]
    for_mean = x_mean @ (right["β"] * scale)
    for_deviation = S @ parameters["Γ1"] * (right["γ"] * scale * nodes.s)
    without_mean = X.T @ ((G_B - nodes.X_hat * right["γ"] / N) * scale)
    without_deviation = X.T @ ((G_B - right["β"] / N) * scale)
    np.testing.assert_allclose(without_mean - right["Γ1"], for_mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(without_deviation - right["Γ1"], for_deviation, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(X.T @ (G_B * scale) - right["Γ1"], for_mean + for_deviation, rtol=1e-10, atol=1e-12)
    assert min(np.abs(for_mean).max(), np.abs(for_deviation).max()) > 0.1 * np.abs(right["Γ1"]).max()
