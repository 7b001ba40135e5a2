"""The nine steps: the code, the texts beside it, the closed form and the derivative all say the same."""

import ast
import dataclasses
import re

import numpy as np
import pytest
from tests.contract.contract import MESSAGE, TOLERANCE
from tests.contract.test_mutants import survivors

import xhat
from xhat.layers import batch_norm
from xhat.layers.batch_norm import GRAPH
from xhat.layers.batch_norm import nine_steps as written

SHAPES = [(2, 1), (2, 3), (3, 1), (7, 5), (13, 2)]
STEP = 1e-30


def draw(shape, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    gamma, beta = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
    return x, gamma, beta, dy


def values_of(nodes):
    return {name: getattr(nodes, name) for name in GRAPH.inputs} | dict(nodes)


def meaning(text, names, rows, eps):
    """What a formula of the graph comes to."""
    words = {"sum": lambda values: values.sum(0), "sqrt": lambda values: values**0.5, "N": rows, "eps": eps}
    return eval(text, {"__builtins__": {}}, {**words, **names})


def objective(inputs, dy, eps, shifts):
    """sum(dy * y) by the texts alone, each step taking its source with a shift of its own added."""
    values = dict(inputs)
    for step in GRAPH.steps:
        taken = {edge.source: values[edge.source] + shifts.get((edge.source, step.name), 0) for edge in step.edges}
        values[step.name] = meaning(step.formula, taken, len(dy), eps)
    return (dy * (values["y"] + shifts.get(("y", ""), 0))).sum()


def true_gradient(name, inputs, dy, eps):
    """The derivative of sum(dy * y) by what a gradient belongs to, along all edges or along the one of a part."""
    source, _, via = name.removeprefix("d").partition("_via_")
    users = [via] if via else GRAPH.users(source) or [""]
    shape = dy.shape if GRAPH.shape(source) == ("N", "D") else dy.shape[1:]
    true = np.empty(shape)
    for index in np.ndindex(shape):
        shift = np.zeros(shape, complex)
        shift[index] = 1j * STEP
        true[index] = objective(inputs, dy, eps, {(source, user): shift for user in users}).imag / STEP
    return true


def judge_derivatives(module, shape=(5, 3), eps=0.1):
    """Every gradient of every node and branch is the derivative, entry by entry."""
    x, gamma, beta, dy = draw(shape)
    nodes = module.steps(x, gamma, beta, eps)
    for name, got in nodes.backward(dy):
        true = true_gradient(name, {"x": x, "gamma": gamma, "beta": beta}, dy, eps)
        size = np.abs(true).max()
        assert size > 1e-3, f"{name} has size {size:.1e}: nothing would be tested"
        assert got.shape == true.shape, name
        assert np.abs(got - true).max() <= 1e-13 * size, f"{name}: error beside a gradient of size {size:.1e}"


def judge_texts(module, shape=(5, 3), eps=0.1):
    """Formulas, slopes and gradients as they are written give the numbers that are computed."""
    x, gamma, beta, dy = draw(shape, seed=1)
    nodes = module.steps(x, gamma, beta, eps)
    values, gradients = values_of(nodes), dict(nodes.backward(dy))
    for step in module.GRAPH.steps:
        np.testing.assert_allclose(meaning(step.formula, values, shape[0], eps), values[step.name], rtol=1e-14)
        for edge in step.edges:
            arriving = gradients[f"d{step.name}"]
            slope = meaning(edge.slope, values, shape[0], eps) * arriving
            if slope.ndim > values[edge.source].ndim:
                slope = slope.sum(0)
            leaving = gradients[module.GRAPH.gradient(edge.source, step.name)]
            np.testing.assert_allclose(np.broadcast_to(slope, leaving.shape), leaving, rtol=1e-13)
    for term in module.GRAPH.backward():
        got = gradients[term.name]
        said = meaning(term.formula, values | gradients, shape[0], eps)
        np.testing.assert_allclose(np.broadcast_to(said, got.shape), got, rtol=1e-13)


def judge_example(module):
    """Worked out by hand: means 2 and 4, variances 1 and 16, so with eps = 48 the roots are 7 and 8."""
    nodes = module.steps(np.array([[1.0, 0.0], [3.0, 8.0]]), [7, 2], [10, 20], 48.0)
    by_hand = {
        "mean": [2, 4],
        "centred": [[-1, -4], [1, 4]],
        "squared": [[1, 16], [1, 16]],
        "variance": [1, 16],
        "root": [7, 8],
        "inverse": [1 / 7, 1 / 8],
        "x_hat": [[-1 / 7, -1 / 2], [1 / 7, 1 / 2]],
        "scaled": [[-1, -1], [1, 1]],
        "y": [[9, 19], [11, 21]],
    }
    gradients = {
        "dy": [[49, 0], [0, 16]],
        "dbeta": [49, 16],
        "dscaled": [[49, 0], [0, 16]],
        "dgamma": [-7, 8],
        "dx_hat": [[343, 0], [0, 32]],
        "dinverse": [-343, 128],
        "dcentred_via_x_hat": [[49, 0], [0, 4]],
        "droot": [7, -2],
        "dvariance": [1 / 2, -1 / 8],
        "dsquared": [[1 / 4, -1 / 16], [1 / 4, -1 / 16]],
        "dcentred_via_squared": [[-1 / 2, 1 / 2], [1 / 2, -1 / 2]],
        "dcentred": [[48.5, 0.5], [0.5, 3.5]],
        "dx_via_centred": [[48.5, 0.5], [0.5, 3.5]],
        "dmean": [-49, -4],
        "dx_via_mean": [[-24.5, -2], [-24.5, -2]],
        "dx": [[24, -1.5], [-24, 1.5]],
    }
    for name, value in nodes:
        np.testing.assert_allclose(value, by_hand.pop(name), rtol=1e-14, err_msg=name)
    for name, value in nodes.backward([[49.0, 0.0], [0.0, 16.0]]):
        np.testing.assert_allclose(value, gradients.pop(name), rtol=1e-14, err_msg=name)
    assert not by_hand
    assert not gradients


JUDGEMENTS = (judge_example, judge_texts, judge_derivatives)


# Of two values x_hat is 1 and -1 but for eps, so with a small eps nothing would come back to x.
@pytest.mark.parametrize(
    ("shape", "eps"), [(s, e) for s in SHAPES for e in (1e-5, 0.3) if s[0] > 2 or e > 0.1], ids=str
)
def test_every_gradient_is_the_derivative(shape, eps):
    judge_derivatives(batch_norm, shape, eps)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_texts_say_what_is_computed(shape):
    judge_texts(batch_norm, shape)


def test_the_example_worked_out_by_hand():
    judge_example(batch_norm)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("eps", [0.0, 1e-5, 1.0])
def test_the_closed_form_gives_the_same(shape, dtype, eps):
    x, gamma, beta, dy = draw(shape, 2, dtype)
    y, cache = xhat.batch_norm.forward(x, gamma, beta, eps)
    wanted = xhat.batch_norm.backward(dy, cache)
    nodes = xhat.batch_norm.steps(x, gamma, beta, eps)
    back = nodes.backward(dy)
    pairs = [("y", nodes.y, y), *((name, getattr(back, name), getattr(wanted, name)) for name in wanted._fields)]
    rounding = 20 * TOLERANCE[np.dtype(dtype)]
    scale = np.abs(gamma * cache.rstd).max() * np.abs(dy).max()
    for name, got, closed in pairs:
        assert got.dtype == closed.dtype == dtype
        error, size = np.abs(got - closed).max(), max(np.abs(closed).max(), scale)
        assert error <= rounding * size, f"{name}: error {error:.1e} beside {size:.1e}"
    np.testing.assert_allclose(nodes.variance, cache.var, rtol=1e-12)
    np.testing.assert_allclose(nodes.inverse, cache.rstd, rtol=1e-12)


def test_nodes_and_gradients_come_in_order():
    x, gamma, beta, dy = draw((4, 3))
    nodes = xhat.batch_norm.steps(x, gamma, beta)
    names = ["mean", "centred", "squared", "variance", "root", "inverse", "x_hat", "scaled", "y"]
    assert [name for name, _ in nodes] == names
    assert all(value is getattr(nodes, name) for name, value in nodes)
    back = nodes.backward(dy)
    assert [name for name, _ in back] == ["dy", *(term.name for term in GRAPH.backward())]
    assert all(value is getattr(back, name) for name, value in back)
    assert (nodes.x is x, nodes.eps) == (True, 1e-5)


def test_values_used_twice_get_two_gradients():
    x, gamma, beta, dy = draw((4, 3))
    back = xhat.batch_norm.steps(x, gamma, beta).backward(dy)
    assert np.array_equal(back.dcentred, back.dcentred_via_x_hat + back.dcentred_via_squared)
    assert np.array_equal(back.dx, back.dx_via_centred + back.dx_via_mean)
    assert {name for name in GRAPH.inputs if len(GRAPH.users(name)) > 1} == {"x"}


def test_the_edges_are_the_names_in_the_formulas():
    known = set(GRAPH.inputs)
    for step in GRAPH.steps:
        names = {node.id for node in ast.walk(ast.parse(step.formula)) if isinstance(node, ast.Name)}
        sources = [edge.source for edge in step.edges]
        assert names - {"sum", "sqrt", "N", "eps"} == set(sources)
        assert len(set(sources)) == len(sources)
        assert set(sources) <= known, f"{step.name} takes what is not there yet"
        assert step.why.endswith(".")
        assert all(edge.why.endswith(".") for edge in step.edges)
        known.add(step.name)


def test_the_page_shows_the_formulas():
    """The table at the top of the file is the graph."""
    for step in GRAPH.steps:
        assert re.search(rf"^    {step.name} += {re.escape(step.formula)}( |$)", written.__doc__, re.MULTILINE)
    for term in GRAPH.backward():
        assert not term.step or re.search(rf"{term.name} += {re.escape(term.formula)}$", written.__doc__, re.MULTILINE)


def test_faults_in_the_steps_are_caught():
    def judge(module):
        for judgement in JUDGEMENTS:
            judgement(module)

    judge(batch_norm)
    alive, count = survivors(written.__file__, batch_norm.__name__, judge)
    print(f"{count} faults seeded, {len(alive)} survived")
    assert count > 60
    assert not alive, "\n".join(alive)


@pytest.mark.parametrize("field", ["formula", "slope", "gradient"])
def test_faults_in_the_texts_are_caught(field, monkeypatch):
    """A text that says another thing, one at a time."""
    count = 0
    for i, step in enumerate(GRAPH.steps):
        for j, text in enumerate(
            [step.formula] if field == "formula" else [getattr(edge, field) for edge in step.edges]
        ):
            wrong = f"1.001 * ({text})"
            changed = (
                step._replace(formula=wrong)
                if field == "formula"
                else step._replace(
                    edges=(*step.edges[:j], step.edges[j]._replace(**{field: wrong}), *step.edges[j + 1 :])
                )
            )
            steps = (*GRAPH.steps[:i], changed, *GRAPH.steps[i + 1 :])
            monkeypatch.setattr(batch_norm, "GRAPH", GRAPH._replace(steps=steps))
            with pytest.raises(AssertionError):
                judge_texts(batch_norm)
            count += 1
    assert count >= 9


WRONG = [
    (
        lambda x, g, b: xhat.batch_norm.steps(x[0], g, b),
        "batch_norm.steps: expected x of shape (N, D), got (3,). Move the channels last and reshape to (-1, C).",
    ),
    (
        lambda x, g, b: xhat.batch_norm.steps(x, g[:2], b),
        "batch_norm.steps: expected gamma of shape (3,), got (2,). Give gamma and beta one entry per column of x.",
    ),
    (
        lambda x, g, b: xhat.batch_norm.steps(x, g, b[None]),
        "batch_norm.steps: expected beta of shape (3,), got (1, 3). Give gamma and beta one entry per column of x.",
    ),
    (
        lambda x, g, b: xhat.batch_norm.steps(x[:1], g, b),
        "batch_norm.steps: expected at least 2 rows in x, got 1. One value has no spread: use a larger batch.",
    ),
    (
        lambda x, g, b: xhat.batch_norm.steps(x * [1, 0, 1], g, b, eps=0.0),
        "batch_norm.steps: expected columns that vary, or eps > 0, got a variance of 0 in column 1. "
        "Give an eps such as 1e-5: the step 1 / root needs it.",
    ),
    (
        lambda x, g, b: xhat.batch_norm.steps(x, g, b, eps=-1),
        "batch_norm.steps: expected eps >= 0 and finite, got -1. "
        "The eps is added to a variance (unit of x squared); 1e-5 is usual.",
    ),
    (
        lambda x, g, b: xhat.batch_norm.steps(1e200 * x, g, b),
        "batch_norm.steps: expected x whose variance float64 can hold, got values up to 1.3e+200. "
        "Scale x by a power of two first.",
    ),
    (
        lambda x, g, b: xhat.batch_norm.steps(x.astype(int), g, b),
        "batch_norm.steps: expected x of type float16, bfloat16, float32 or float64, got int64. "
        "Convert it with x.astype(numpy.float32).",
    ),
    (
        lambda x, g, b: xhat.batch_norm.steps(x, g, b).backward(x[:, :2]),
        "batch_norm.steps.backward: expected dy of shape (4, 3), got (4, 2). "
        "Pass on the gradient of the output, which has the output's shape.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "text"), WRONG, ids=[text[:60] for _, text in WRONG])
def test_what_is_wrong_is_said(call, text):
    x, gamma, beta, _ = draw((4, 3))
    with pytest.raises((TypeError, ValueError)) as caught:
        call(x, gamma, beta)
    assert str(caught.value) == text


def test_forged_nodes_are_refused():
    x, gamma, beta, dy = draw((4, 3))
    nodes = xhat.batch_norm.steps(x, gamma, beta)
    for name in ("x", "gamma", "beta", *(step.name for step in GRAPH.steps[:-1])):
        kept = getattr(nodes, name)
        for bad in (None, "no array", kept[:1], kept[None], kept.astype(complex), kept.astype(object)):
            forged = dataclasses.replace(nodes, **{name: bad})
            with pytest.raises((TypeError, ValueError)) as caught:
                forged.backward(dy)
            assert MESSAGE.fullmatch(str(caught.value))


def test_what_is_given_is_not_changed():
    x, gamma, beta, dy = draw((4, 3))
    copies = [values.copy() for values in (x, gamma, beta, dy)]
    for values in (x, gamma, beta, dy):
        values.flags.writeable = False
    xhat.batch_norm.steps(x, gamma, beta).backward(dy)
    assert all(np.array_equal(now, before) for now, before in zip((x, gamma, beta, dy), copies, strict=True))


def test_no_rows_give_empty_nodes():
    nodes = xhat.batch_norm.steps(np.empty((0, 3)), np.ones(3), np.zeros(3))
    back = nodes.backward(np.empty((0, 3)))
    assert (nodes.y.shape, back.dx.shape) == ((0, 3), (0, 3))
    assert not back.dgamma.any()
    assert not back.dbeta.any()


def test_integer_parameters_get_float64_gradients():
    x, _, _, dy = draw((4, 3), dtype=np.float32)
    back = xhat.batch_norm.steps(x, [1, 2, 3], [0, 0, 1]).backward(dy)
    assert (back.dgamma.dtype, back.dbeta.dtype, back.dx.dtype) == (np.float64, np.float64, np.float32)
