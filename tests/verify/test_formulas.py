"""Formulas in plain text: right and wrong ones for every layer, and text from strangers."""

import builtins
import os

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xhat.verify import formulas
from xhat.verify.formulas import prove
from xhat.verify.report import Word

NORM = "rstd * (gamma*dy - mean(gamma*dy) - x_hat*mean(gamma*dy*x_hat))"
SHARED = "gamma/sigma * (center(dY) - Xhat*mean(dY*Xhat))"  # where gamma is one number for all that is averaged
RIGHT = [
    *((layer, "x", NORM) for layer in ("batch_norm", "layer_norm", "spatial_batch_norm", "instance_norm")),
    *((layer, "x", SHARED) for layer in ("batch_norm", "spatial_batch_norm", "instance_norm")),
    *((layer, "gamma", "sum(dout * (x - mu)/std)") for layer in ("batch_norm", "layer_norm", "instance_norm")),
    *((layer, "beta", "sum(dY)") for layer in ("layer_norm", "spatial_batch_norm")),
    ("batch_norm", "x", "γ/σ · (dy − mean(dy) − x̂·mean(dy·x̂))"),
    ("batch_norm", "x", "1/m*gamma*(var + ε)**(-1/2) * (m*dy - dy.sum(0) - (x - μ)/(var + eps)*sum(dy*(x - μ)))"),
    ("batch_norm", "x", "gamma*rstd/N * (N*dy - np.sum(dy, axis=0) - x_hat*np.sum(dy*x_hat, axis=0))"),
    (
        "batch_norm",
        "x",
        "gamma[None, :]/sqrt(var(x) + eps) * (dy - dy.mean(axis=0, keepdims=True) - xhat*mean(dy*xhat))",
    ),
    ("batch_norm", "x", "gamma/sigma * (H @ dy - x_hat * (ones((N, N))/N @ (dy*x_hat)))"),
    ("batch_norm", "x", "gamma/sigma * ((I - np.ones((N, N))/N) @ (H @ dy) - x_hat * (ones(N) @ (dy*x_hat))/N)"),
    ("batch_norm", "gamma", "np.sum(dy*x_hat, axis=0)"),
    ("Batch Norm", "γ", "(dy*xhat).sum(axis=0)"),
    ("layer_norm", "x", "(gamma*dy - np.mean(gamma*dy, axis=1, keepdims=True) - xhat*mean(gamma*dy*xhat))/std"),
    ("layer_norm", "gamma", "sum(dy * (x - mean(x))/sqrt(mean((x - mean(x))**2) + eps))"),
    ("rms_norm", "x", "gamma*dy/rms - x*mean(gamma*dy*x)/rms**3"),
    ("rms_norm", "gamma", "sum(dy*x_hat)"),
    ("group_norm", "x", NORM),
    ("group_norm", "gamma", "np.sum(dy*x_hat, axis=(0, 2, 3))"),
    ("affine", "x", "dy @ W'"),
    ("affine", "w", "np.dot(X.T, dY)"),
    ("affine", "b", "sum(dy)"),
    ("affine", "b", "ones(N) @ dy"),
    ("relu", "x", "dy * (x > 0)"),
    ("relu", "x", "np.where(x > 0, dy, 0)"),
    ("sigmoid", "x", "dy * y * (1 - y)"),
    ("sigmoid", "x", "dy * exp(-x)/(1 + exp(-x))**2"),
    ("tanh", "x", "dy * (1 - tanh(x)**2)"),
    ("silu", "x", "dy * (sigmoid(x) + y*(1 - sigmoid(x)))"),
    ("softmax_cross_entropy", "x", "(p - y)/N"),
    ("softmax", "x", "dy * (exp(x)/sum(exp(x)) - onehot)/N"),
    ("squared_error", "x", "2*(x - t)/(N*D)"),
    ("squared_error", "targets", "-2*dy*(x - y)/(N*D)"),
]
WRONG = [
    ("batch_norm", "x", "gamma/sigma * center(dY)", "term missing: - gamma*x_hat*mean(x_hat*dy)/sigma"),
    ("batch_norm", "x", "gamma/sqrt(var) * (center(dy) - xhat*mean(dy*xhat))", "off by a factor"),
    ("batch_norm", "x", "rstd * (center(dy) - xhat*mean(dy*xhat))", "off by a factor 1/gamma"),
    ("batch_norm", "x", "gamma/sigma * (dy - np.mean(dy) - xhat*mean(dy*xhat))", "np.mean(v) over all entries"),
    ("batch_norm", "gamma", "dy*x_hat", "shape (N, D), expected (D,)"),
    ("batch_norm", "beta", "mean(dy)", "off by a factor 1/N"),
    ("batch_norm", "x", "0", "dx is 0 for all inputs"),
    ("layer_norm", "x", SHARED, "term missing: - mean(gamma*dy)/sigma"),
    ("layer_norm", "gamma", "np.sum(dy*x_hat, axis=1)", "shape (N,), expected (D,)"),
    ("instance_norm", "beta", "sum(dy)/N", "off by a factor 1/N"),
    ("rms_norm", "x", "gamma*dy/rms", "term missing"),
    ("affine", "b", "mean(dy)", "off by a factor 1/N"),
    ("relu", "x", "dy", "off by a factor"),
    ("sigmoid", "x", "y * (1 - y)", "no dy, the gradient that arrives"),
    ("tanh", "x", "dy * (1 - y)", "wrong coefficient"),
    ("softmax_cross_entropy", "x", "p - y", "off by a factor N"),
    ("squared_error", "x", "(x - t)/(N*D)", "off by a factor 1/2"),
]


@pytest.mark.parametrize(("of", "wrt", "formula"), RIGHT)
def test_right_formulas_are_proved(of, wrt, formula):
    verdict = prove(formula, of=of, wrt=wrt)
    assert verdict.word is Word.PROVED, verdict
    assert verdict.message.startswith("for all ")


@pytest.mark.parametrize(("of", "wrt", "formula", "said"), WRONG)
def test_wrong_formulas_are_disproved_and_explained(of, wrt, formula, said):
    verdict = prove(formula, of=of, wrt=wrt)
    assert verdict.word is Word.DISPROVED, verdict
    assert said in verdict.message
    assert "dout" not in verdict.message
    if "shape" not in said:
        assert verdict.counterexample


@pytest.mark.parametrize("title", formulas._LAYERS)
def test_the_table_holds_the_layers_and_their_gradients(title):
    layer = formulas._LAYERS[title]
    for name, formula in layer.gradients.items():
        assert prove(formula, of=title, wrt=name).word is Word.PROVED
    if layer.known is None:
        return
    forward, backward, _ = formulas._functions(layer, "0", "x")
    found = formulas.specs.find(layer.known, forward, backward).problem
    values = found.draw(np.random.default_rng(1), found.sizes[1])
    np.testing.assert_allclose(found.run_forward(values)[0], found.specification(values), rtol=1e-13)


@pytest.mark.parametrize(
    ("of", "wrt", "formula", "options"),
    [
        ("1/(1 + exp(-x))", "x", "dy * y * (1 - y)", {}),
        ("x @ w + b", "w", "x.T @ dy", {"shapes": {"b": "M"}}),
        ("sum(x**2)", "x", "2*x*dy", {}),
        ("np.sum(x**2)", "x", "2*x", {}),
        ("sqrt(x**2 + eps)", "x", "dy*x/y", {}),
        ("gamma*(x - mean(x)) + beta", "x", "center(gamma*dy)", {}),
        ("gamma*(x - mean(x)) + beta", "gamma", "sum(dy*center(x))", {}),
        ("x*a", "a", "x*dy", {"shapes": {"a": "N D"}}),
        ("x/(x**2 + e)", "x", "dy*(e - x**2)/(x**2 + e)**2", {"shapes": {"e": "eps"}}),
        ("x*x", "x", "2*dy*x", {"shapes": {"x": "N"}}),
    ],
)
def test_the_output_may_be_a_formula(of, wrt, formula, options):
    assert prove(formula, of=of, wrt=wrt, **options).word is Word.PROVED
    wrong = prove(f"({formula})*3/2", of=of, wrt=wrt, **options)
    assert (wrong.word, wrong.message.splitlines()[0]) == (Word.DISPROVED, "off by a factor 3/2")


def test_what_has_no_value_is_not_decided():
    verdict = prove("dy/x", of="log(x)", wrt="x")
    assert verdict.word is Word.NOT_DECIDED
    assert "NaN" in verdict.message
    assert prove("dy/(x - x)", of="tanh", wrt="x").word is Word.NOT_DECIDED


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.tuples(*[st.sampled_from(["0", "1/2", "1", "2"])] * 2))
@example(("1", "1"))
def test_proved_exactly_where_the_coefficients_are_right(coefficients):
    a, b = coefficients
    verdict = prove(f"({a}*gamma*dy - {b}*x_hat*mean(gamma*dy*x_hat))/rms", of="rms_norm", wrt="x")
    assert verdict.word is (Word.PROVED if coefficients == ("1", "1") else Word.DISPROVED)


@pytest.mark.parametrize(
    ("formula", "of", "wrt", "said"),
    [
        ("gama*dy", "batch_norm", "x", "Did you mean 'gamma'?"),
        ("gamma*sgima", "batch_norm", "x", "Did you mean 'sigma'?"),
        ("centr(dy)", "batch_norm", "x", "Did you mean 'center'?"),
        ("np.meen(dy)", "batch_norm", "x", "Did you mean 'mean'?"),
        ("dy", "batchnrm", "x", "Did you mean 'batch_norm'?"),
        ("dy", "batch_norm", "gama", "Did you mean 'gamma'?"),
        ("sigma*dy", "relu", "x", "expected a name of relu (x, dy, y, N, D, m)"),
        ("dy*x^2", "batch_norm", "x", "expected ** for a power, got ^ in the formula. Write x**2."),
        ("dy +", "batch_norm", "x", "expected one formula in NumPy's syntax, got 'dy +'"),
        ("", "batch_norm", "x", "expected one formula"),
        ("np.mean(dy, axis=1)*x", "layer_norm", "x", "keepdims=True"),
        ("dy @ w", "affine", "x", "expected shapes that fit (x (N, D), w (D, M), b (M))"),
        ("1/0*dy", "tanh", "x", "division by zero"),
        ("(-1)**0.5*dy", "tanh", "x", "expected real numbers"),
        ("mean", "tanh", "x", "Call it: mean(...)."),
        ("gamma/sigma * H @ dy", "batch_norm", "x", "Put brackets around what @ joins"),
        ("I", "batch_norm", "x", "Write I @ dy"),
        ("I + 1", "batch_norm", "x", "expected a matrix beside I"),
        ("dy", "x + q", "x", "expected a name of the formula of=..."),
        ("dy", "gamma*2", "x", "expected of to be a formula of x"),
        ("sum(dy, axis=N)", "tanh", "x", "expected axis as a plain value"),
        ("center(dy, axis=0)", "tanh", "x", "Write v - mean(v, axis=0)."),
        ("max(dy)", "group_norm", "x", "expected no max over groups"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(formula, of, wrt, said):
    with pytest.raises(ValueError, match=r"^prove: expected .*, got .*\. \S.*[.?]$") as refused:
        prove(formula, of=of, wrt=wrt)
    assert said in str(refused.value)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="Write a small letter"):
        prove("dy", of="x + a", wrt="x", shapes={"a": "n d"})
    with pytest.raises(ValueError, match="expected no shapes for relu"):
        prove("dy", of="relu", wrt="x", shapes={"x": "N"})
    for name in ("np", "lambda", "dy", "y", "_a"):
        with pytest.raises(ValueError, match="expected shapes"):
            prove("dy", of="x", wrt="x", shapes={name: "N D"})
    with pytest.raises(TypeError, match="expected the formula as text, got int"):
        prove(3, of="relu", wrt="x")


HOSTILE = [
    "__import__('os').system('true')",
    "().__class__.__base__.__subclasses__()",
    "x.__class__",
    "np.load(x)",
    "np.lib.os",
    "np.exp.__globals__",
    "np.random.rand()",
    "eval(x)",
    "open(x)",
    "[v for v in x]",
    "{x: x}",
    "lambda: x",
    "(x := dy)",
    "dy if x else x",
    "x and dy",
    "not x",
    "~x",
    "x % 2",
    "x // 2",
    "x[0]",
    "x[N:]",
    "x.shape",
    "x.fill(0)",
    "x.sum(0, out=dy)",
    "np.exp(x, out=dy)",
    "np.exp(*x)",
    "np.sum(x, **x)",
    "f'{x}'",
    '"x"',
    "1j*dy",
    "True",
    "None",
    "...",
    "1e999",
    "2/" * 20 + "(x)" + "**2" * 20,
    "1/(" * 19 + "x" + ")**2" * 19,
    "9**9**9",
    "((9**12)**12)**12",
    "x**dy",
    "x**1000",
    "np.ones((999999, 999999)) @ dy",
    "ones((N, N, N))",
    "(" * 900 + "x" + ")" * 900,
    "-" * 1900 + "x",
    "x" * 1999,
    "x+" * 3000 + "x",
    "9" * 1999,
    "center(" * 30 + "dy" + ")" * 30,
    "(x + dy + mu + gamma)**12",
    "x[None]" + "[None]" * 200,
    "dy\x00",
    "\ud800",
    "1or 2",
]


@pytest.mark.parametrize("formula", HOSTILE)
def test_hostile_text_is_refused(formula, monkeypatch):
    def called(*_, **__):
        raise AssertionError("the text was executed")

    monkeypatch.setattr(os, "system", called)
    for name in ("eval", "open"):
        monkeypatch.setattr(builtins, name, called)
    for arguments in ({"expression": formula, "of": "batch_norm"}, {"expression": "dy", "of": f"x + {formula}"}):
        with pytest.raises(ValueError, match="^prove: "):
            prove(**arguments, wrt="x")


WORDS = [
    *("x", "dy", "y", "N", "D", "m", "I", "H", "2", "0.5", "1e-5", "0", "gamma", "eps", "mean", "sum", "center", "exp"),
    *("np", ".", "sqrt", "(", ")", "(", ")", "[", "]", ",", ":", "None", "+", "-", "*", "/", "**", "@", ">", "'", ".T"),
    *("axis=0", "keepdims=True", "__class__", "lambda", "if", "=", "σ", "²", "\n", "#", "\\", "λ"),
]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)))
def test_any_text_gives_a_verdict_or_a_refusal(text):
    for expression, of, wrt in ((text, "tanh", "x"), ("dy", text, "x"), ("dy", "tanh", text)):
        try:
            verdict = prove(expression, of=of, wrt=wrt)
        except ValueError as refused:
            assert str(refused).startswith("prove: ")
        else:
            assert verdict.word in Word


LEAVES = st.sampled_from(["x", "dy", "y", "2", "N", "mean(dy)", "1/2"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(["sum", "mean", "center", "exp", "tanh", "-", "np.mean"]), inner).map(
            lambda t: f"{t[0]}({t[1]})"
        ),
    ),
    max_leaves=5,
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(TREES)
@example("(1 - y*y)*dy")
@example("dy - dy*y**2")
def test_proved_only_where_floats_agree(formula):
    """A second judge that shares nothing with the first but the formula: Python evaluates it."""
    try:
        word = prove(formula, of="tanh", wrt="x").word
    except ValueError:
        return
    rng = np.random.default_rng(5)
    x, dy = rng.standard_normal((2, 4, 3))
    known = {"x": x, "dy": dy, "y": np.tanh(x), "N": 4, "np": np, "exp": np.exp, "tanh": np.tanh}
    known |= {
        name: lambda v, f=f: f(v + 0 * x, axis=0, keepdims=True) for name, f in (("sum", np.sum), ("mean", np.mean))
    }
    known["center"] = lambda v: v - known["mean"](v)
    with np.errstate(all="ignore"):
        same = np.allclose(eval(formula, known) + 0 * x, dy * (1 - np.tanh(x) ** 2), rtol=1e-9)
    assert (word in (Word.PROVED, Word.EXACT)) <= same
    assert (word is Word.DISPROVED) <= (not same)
