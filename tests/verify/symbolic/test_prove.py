"""Gradients proved for all sizes on symbols, in many styles; and what is wrong is not."""

from typing import Any

import numpy as np
import pytest

from xhat.verify.problem import Problem
from xhat.verify.symbolic import Refusal, prove

NORM = {"x": ("N", "D"), "gamma": ("D",), "beta": ("D",)}


def problem(forward: Any, backward: Any, inputs: Any, scalars: tuple[str, ...] = (), labels: Any = None) -> Problem:
    names = [*inputs, *(labels or {}), *scalars]
    return Problem(
        "pair",
        forward,
        backward,
        inputs,
        lambda values: (tuple(values[name] for name in names), {}),
        [{"N": 4, "D": 3}],
        scalars=scalars,
        labels=labels or {},
    )


def verdicts(question: Problem) -> dict[str, bool]:
    proof = prove(question)
    assert not proof.undecided
    return {name: gradient.proved for name, gradient in proof.gradients.items()}


def batch_norm(x: Any, gamma: Any, beta: Any, eps: Any) -> Any:
    x_hat = (x - np.mean(x, axis=0)) / np.sqrt(np.var(x, axis=0) + eps)
    return gamma * x_hat + beta, (x_hat, gamma, np.sqrt(np.var(x, axis=0) + eps))


def right(dy: Any, cache: Any) -> Any:
    x_hat, gamma, std = cache
    dx = gamma / std * (dy - dy.mean(0) - x_hat * (dy * x_hat).mean(0))
    return dx, (dy * x_hat).sum(0), dy.sum(0)


def in_place(dy: Any, cache: Any) -> Any:
    x_hat, gamma, std = cache
    dgamma, dbeta = (dy * x_hat).sum(0), dy.sum(0)
    dx = dy.copy()
    dx -= dbeta / dy.shape[0]
    dx -= x_hat * dgamma / len(dy)
    dx *= gamma
    dx /= std
    return dx, dgamma, dbeta


def matrices(dy: Any, cache: Any) -> Any:
    x_hat, gamma, std = cache
    n = float(dy.shape[0])
    ones = np.ones((dy.shape[0], 1))
    total = ones.T.dot(dy)
    projected = ones @ np.einsum("nd,nd->d", dy, x_hat)[None, :]
    dx = (1.0 / n) * (gamma / std) * (n * dy - ones.dot(total) - x_hat * projected)
    return dx, np.einsum("ij,ij->j", dy, x_hat), total.reshape(-1)


def transposed(dy: Any, cache: Any) -> Any:
    x_hat, gamma, std = cache
    d, h = dy.T, x_hat.T
    dx = (gamma / std)[:, None] * (d - d.mean(1, keepdims=True) - h * (d * h).mean(axis=1)[:, np.newaxis])
    return dx.T, (d * h).sum(axis=-1), np.add.reduce(d, axis=1)


RIGHT = [right, in_place, matrices, transposed]


@pytest.mark.parametrize("backward", RIGHT)
def test_batch_norm_in_several_styles(backward: Any) -> None:
    assert verdicts(problem(batch_norm, backward, NORM, ("eps",))) == dict.fromkeys(("dx", "dgamma", "dbeta"), True)


WRONG = {
    "no mean": lambda u, h, g, s: (g / s * (u - h * (u * h).mean(0)), (u * h).sum(0), u.sum(0)),
    "no projection": lambda u, h, g, s: (g / s * (u - u.mean(0)), (u * h).sum(0), u.sum(0)),
    "doubled": lambda u, h, g, s: (g / s * (u - u.mean(0) - 2 * h * (u * h).mean(0)), (u * h).sum(0), u.sum(0)),
    "sum for mean": lambda u, h, g, s: (g / s * (u - u.mean(0) - h * (u * h).sum(0)), (u * h).sum(0), u.sum(0)),
    "variance": lambda u, h, g, s: (g / s**2 * (u - u.mean(0) - h * (u * h).mean(0)), (u * h).sum(0), u.sum(0)),
    "no gamma": lambda u, h, g, s: (1 / s * (u - u.mean(0) - h * (u * h).mean(0)), (u * h).sum(0), u.sum(0)),
    "zero": lambda u, h, g, s: (0 * u, (u * h).sum(0), u.sum(0)),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_are_not_proved(name: str) -> None:
    backward = lambda dy, cache: WRONG[name](dy, cache[0], cache[1], cache[2])  # noqa: E731
    assert verdicts(problem(batch_norm, backward, NORM, ("eps",))) == {"dx": False, "dgamma": True, "dbeta": True}


def test_the_divisor_of_a_sample_variance() -> None:
    def forward(x: Any, gamma: Any, beta: Any, eps: Any) -> Any:
        std = np.sqrt(np.var(x, axis=0, ddof=1) + eps)
        x_hat = (x - x.mean(0)) / std
        return gamma * x_hat + beta, (x_hat, gamma, std)

    def backward(dy: Any, cache: Any) -> Any:
        x_hat, gamma, std = cache
        share = (dy * x_hat).sum(0) / (x_hat.shape[0] - 1)
        return gamma / std * (dy - dy.mean(0) - x_hat * share), (dy * x_hat).sum(0), dy.sum(0)

    assert verdicts(problem(forward, backward, NORM, ("eps",)))["dx"]
    assert not verdicts(problem(forward, right, NORM, ("eps",)))["dx"]


def weighted(x: Any, w: Any, eps: Any) -> Any:
    total = w.sum()
    mean = w @ x / total
    std = np.sqrt(w @ (x - mean) ** 2 / total + eps)
    x_hat = (x - mean) / std
    return x_hat, (x_hat, std, w / total)


def weighted_backward(dy: Any, cache: Any) -> Any:
    x_hat, std, share = cache
    mean, along = dy.sum(0), (dy * x_hat).sum(0)
    dx = (dy - share[:, None] * (mean + x_hat * along)) / std
    centred = x_hat * std  # (N, D)
    slope = -(mean / std) * centred - along / (2 * std**2) * (centred**2 - (share[:, None] * centred**2).sum(0))
    return dx, (slope.sum(1) / (1 / share)) * 0 + slope.sum(1)


def test_weights_of_a_batch_norm() -> None:
    inputs = {"x": ("N", "D"), "w": ("N",)}
    assert verdicts(problem(weighted, weighted_backward, inputs, ("eps",)))["dx"]


def test_affine_of_images() -> None:
    def forward(x: Any, w: Any, b: Any) -> Any:
        return x.reshape(x.shape[0], -1).dot(w) + b, (x, w)

    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        return dy.dot(w.T).reshape(x.shape), x.reshape(len(x), -1).T.dot(dy), dy.sum(axis=0)

    inputs = {"x": ("N", "A", "B"), "w": ("A*B", "M"), "b": ("M",)}
    assert all(verdicts(problem(forward, backward, inputs)).values())


def group_norm(x: Any, gamma: Any, beta: Any, groups: Any, eps: Any) -> Any:
    n, c, h, w = x.shape
    parts = x.reshape(n, groups, c // groups, h, w)
    mean, var = parts.mean(axis=(2, 3, 4), keepdims=True), parts.var(axis=(2, 3, 4), keepdims=True)
    x_hat = ((parts - mean) / np.sqrt(var + eps)).reshape(n, c, h, w)
    return gamma * x_hat + beta, (x_hat, gamma, var + eps, groups)


def group_norm_backward(dy: Any, cache: Any) -> Any:
    x_hat, gamma, var, groups = cache
    n, c, h, w = dy.shape
    d = (dy * gamma).reshape(n, groups, -1)
    parts = x_hat.reshape(n * groups, -1).reshape(n, groups, -1)
    dx = d - d.mean(2, keepdims=True) - parts * (d * parts).mean(2, keepdims=True)
    dx = dx.reshape(n, groups, c // groups, h, w) / np.sqrt(var)
    axes = (0, 2, 3)
    return dx.reshape(n, c, h, w), (dy * x_hat).sum(axes, keepdims=True), dy.sum(axes, keepdims=True)


def test_group_norm() -> None:
    inputs = {"x": ("N", "G*K", "H", "W"), "gamma": ("1", "G*K", "1", "1"), "beta": ("1", "G*K", "1", "1")}
    question = Problem(
        "group_norm",
        group_norm,
        group_norm_backward,
        inputs,
        lambda v: ((v["x"], v["gamma"], v["beta"], v["G"], v["eps"]), {}),
        [],
        scalars=("eps",),
    )
    assert all(verdicts(question).values())


def softmax_loss(x: Any, y: Any) -> Any:
    shifted = x - np.max(x, axis=1, keepdims=True)
    log_p = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    n = x.shape[0]
    dx = np.exp(log_p)
    dx[np.arange(n), y] -= 1
    return -np.sum(log_p[np.arange(n), y]) / n, dx / n


def svm_loss(x: Any, y: Any) -> Any:
    n = x.shape[0]
    margins = np.maximum(0, x - x[np.arange(n), y][:, np.newaxis] + 1.0)
    margins[np.arange(n), y] = 0
    dx = np.zeros_like(x)
    dx[margins > 0] = 1
    dx[np.arange(n), y] -= np.sum(margins > 0, axis=1)
    return np.sum(margins) / n, dx / n


def squared_error(x: Any, t: Any) -> Any:
    return np.mean((x - t) ** 2), (2 * (x - t) / x.size, -2 * (x - t) / x.size)


@pytest.mark.parametrize("loss", [softmax_loss, svm_loss])
def test_losses_with_labels(loss: Any) -> None:
    labels = {"y": ("N", "C")}
    assert verdicts(problem(loss, None, {"x": ("N", "C")}, labels=labels)) == {"dx": True}
    wrong = lambda x, y: (loss(x, y)[0], loss(x, y)[1] * x.shape[0])  # noqa: E731
    assert verdicts(problem(wrong, None, {"x": ("N", "C")}, labels=labels)) == {"dx": False}


def test_squared_error() -> None:
    assert all(verdicts(problem(squared_error, None, {"x": ("N", "D"), "t": ("N", "D")})).values())


def network(x: Any, w: Any, b: Any, v: Any, c: Any, t: Any, active: Any, slope: Any) -> Any:
    z = x @ w + b
    h = active(z)
    y = h @ v + c
    n = x.shape[0]
    dy = 2 * (y - t) / n
    dz = (dy @ v.T) * slope(z, h)
    loss = ((y - t) ** 2).sum() / n
    return loss, (dz @ w.T, x.T @ dz, dz.sum(axis=0), h.T @ dy, dy.sum(axis=0), -dy)


@pytest.mark.parametrize(
    ("active", "slope", "holds"),
    [
        (lambda z: 1 / (1 + np.exp(-z)), lambda z, h: h * (1 - h), True),
        (lambda z: np.maximum(z, 0), lambda z, h: h > 0, True),
        (np.tanh, lambda z, h: 1 - h**2, True),
        (lambda z: 1 / (1 + np.exp(-z)), lambda z, h: 1, False),
    ],
    ids=["sigmoid", "relu", "tanh", "a slope of 1"],
)
def test_the_net_of_two_layers(active: Any, slope: Any, holds: bool) -> None:
    def loss(x: Any, w: Any, b: Any, v: Any, c: Any, t: Any) -> Any:
        return network(x, w, b, v, c, t, active, slope)

    inputs = {"x": ("N", "D"), "w": ("D", "H"), "b": ("H",), "v": ("H", "M"), "c": ("M",), "t": ("N", "M")}
    found = verdicts(problem(loss, None, inputs))
    assert found == {"dx": holds, "dw": holds, "db": holds, "dv": True, "dc": True, "dt": True}


def test_attention() -> None:
    def forward(q: Any, k: Any, v: Any) -> Any:
        s = q.dot(k.T) * 0.5
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        p = e / e.sum(-1, keepdims=True)
        return p.dot(v), (q, k, v, p)

    def backward(dy: Any, cache: Any) -> Any:
        q, k, v, p = cache
        dp = dy.dot(v.T)
        ds = p * (dp - np.sum(dp * p, axis=-1, keepdims=True)) * 0.5
        return ds.dot(k), ds.T.dot(q), p.T.dot(dy)

    assert all(verdicts(problem(forward, backward, {"q": ("N", "D"), "k": ("M", "D"), "v": ("M", "P")})).values())


ELEMENTWISE = {
    "silu": (lambda x: x / (1 + np.exp(-x)), lambda u, x: u * (1 + x * (1 - 1 / (1 + np.exp(-x)))) / (1 + np.exp(-x))),
    "tanh by hand": (
        lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
        lambda u, x: u * (1 - np.tanh(x) ** 2 * 0 - ((np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))) ** 2),
    ),
    "leaky relu": (lambda x: np.where(x > 0, x, 0.1 * x), lambda u, x: u * np.where(x > 0, 1, 0.1)),
    "abs": (np.abs, lambda u, x: u * np.sign(x)),
    "sigmoid over a square": (lambda x: 1 / (1 + np.exp(-x)), lambda u, x: u * np.exp(-x) / (1 + np.exp(-x)) ** 2),
    "cube": (lambda x: x**3, lambda u, x: 3 * u * x**2),
    "log": (np.log, lambda u, x: u / x),
    "reciprocal root": (lambda x: 1 / np.sqrt(x * x + 1), lambda u, x: -u * x * (x * x + 1) ** -1.5),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions_of_single_entries(name: str) -> None:
    f, slope = ELEMENTWISE[name]
    assert verdicts(problem(lambda x: (f(x), x), slope, {"x": ("N",)})) == {"dx": True}
    assert verdicts(problem(lambda x: (f(x), x), lambda u, x: 2 * slope(u, x), {"x": ("N",)})) == {"dx": False}


REFUSED = {
    "a branch on a value": (lambda x: (x * 2 if x.sum() > 0 else x, x), "branch"),
    "the root of a square": (lambda x: (np.sqrt(x**2), x), "root of a square"),
    "a function that is not modelled": (lambda x: (np.fft.fft(x), x), "np.fft"),
    "an integer": (lambda x: (x.astype(int), x), "dtype"),
    "a loop": (lambda x: (sum(row for row in x), x), "loop"),
    "memory that is not written": (lambda x: (np.empty(x.shape), x), "np.empty"),
    "division by nothing": (lambda x: (1 / (x - x), x), "ZeroDivisionError"),
    "a maximum compared": (lambda x: (x * (x == x.max(axis=0)), x), "maximum"),
    "rounding": (lambda x: (np.round(x), x), "np.round"),
    "slices": (lambda x: (x[1:], x), "index"),
    "an array of rows": (lambda x: (x * np.full_like(x, x.sum(axis=0)), x), "np.full_like with an array: not modelled"),
    "an axis by ndmin": (lambda x: (np.array(x, ndmin=3), x), "np.array with ndmin="),
    "a weighted mean": (lambda x: (np.average(x, 0, x), x), "np.average with weights"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_modelled_is_refused_with_its_line(name: str) -> None:
    forward, says = REFUSED[name]
    with pytest.raises(Refusal, match=says) as refusal:
        prove(problem(forward, lambda u, x: u, {"x": ("N", "D")}))
    if "np.empty" not in says:
        assert refusal.value.line == forward.__code__.co_firstlineno


def hinge(scores: Any, labels: Any) -> Any:
    margin = scores - np.take_along_axis(scores, labels[:, None], -1) + 1
    one_hot = np.eye(scores.shape[1])[labels]
    short = np.where(margin > 0, 1.0, 0.0)
    loss = (np.where(np.real(margin) > 0, margin, 0).sum(-1) - 1).mean()
    return loss, (short - one_hot * short.sum(1, keepdims=True)) / labels.size


def test_a_column_of_labels_picks_an_entry_of_every_row() -> None:
    labels = {"labels": ("N", "C")}
    assert verdicts(problem(hinge, None, {"scores": ("N", "C")}, labels=labels)) == {"dscores": True}
    wrong = lambda scores, labels: (hinge(scores, labels)[0], 2 * hinge(scores, labels)[1])  # noqa: E731
    assert verdicts(problem(wrong, None, {"scores": ("N", "C")}, labels=labels)) == {"dscores": False}


def test_a_length_is_at_least_1() -> None:
    forward = lambda x: (x.sum(0) / max(1, len(x)), x)  # noqa: E731
    for divisor, right in ((lambda n: n, True), (lambda n: max(n, 1), True), (lambda n: 2 * n, False)):
        backward = lambda u, x, divisor=divisor: u / divisor(len(x)) + 0 * x  # noqa: E731
        assert verdicts(problem(forward, backward, {"x": ("N", "D")})) == {"dx": right}


@pytest.mark.parametrize("bound", [lambda n: max(2, n), lambda n: max(1, n - 1), lambda n: max(n, n)])
def test_which_of_two_lengths_is_larger_is_not_guessed(bound: Any) -> None:
    with pytest.raises(Refusal, match="the comparison of the sizes"):
        prove(problem(lambda x: (x / bound(len(x)), x), lambda u, x: u, {"x": ("N", "D")}))


@pytest.mark.parametrize(("factor", "right"), [(lambda total: total, True), (lambda total: 5, False)])
def test_a_number_is_true_where_it_is_not_0(factor: Any, right: bool) -> None:
    question = Problem(
        "weighted",
        lambda x, w: (x * (w.sum() or 5), w.sum()),
        lambda u, total: u * factor(total),
        {"x": ("N",), "w": ("N",)},
        lambda values: ((values["x"], values["w"]), {}),
        [{"N": 3}],
        given=("w",),
    )
    assert verdicts(question) == {"dx": right}
    assert any("is nowhere exactly 0" in told for told, _ in prove(question).space.assumptions)


def test_a_number_that_may_be_0_for_many_inputs_is_no_condition() -> None:
    forward = lambda x: (x if np.maximum(x, 0).sum() else 2 * x, x)  # noqa: E731
    with pytest.raises(Refusal, match="masks|branch"):
        prove(problem(forward, lambda u, x: u, {"x": ("N",)}))


def test_what_is_given_is_not_differentiated() -> None:
    question = Problem(
        "weighted",
        lambda x, w: ((w * x).sum(0), w),
        lambda u, w: u * w,
        {"x": ("N", "D"), "w": ("N", "D")},
        lambda values: ((values["x"], values["w"]), {}),
        [{"N": 3, "D": 2}],
        given=("w",),
    )
    assert question.gradients == ("dx",)
    assert verdicts(question) == {"dx": True}


def test_a_new_array_is_filled_row_by_row() -> None:
    forward = lambda x: (x * np.full(x.shape, x.sum(axis=0)), x)  # noqa: E731
    inputs = {"x": ("N", "D")}
    right = lambda u, x: u * x.sum(axis=0) + (u * x).sum(axis=0)  # noqa: E731
    assert verdicts(problem(forward, right, inputs)) == {"dx": True}
    assert verdicts(problem(forward, lambda u, x: u * x.sum(axis=0), inputs)) == {"dx": False}
    with pytest.raises(Refusal):
        prove(problem(lambda x: (x * np.full(x.shape, x.sum(axis=1)), x), right, inputs))
