"""Wrong gradients in words, term by term, against the user's own forward pass."""

from typing import Any

import numpy as np
import pytest

from xhat.verify.problem import Problem
from xhat.verify.symbolic import prove
from xhat.verify.terms import Words, explain

NORM = {"x": ("N", "D"), "gamma": ("D",), "beta": ("D",)}


def told(
    forward: Any, backward: Any, inputs: Any, *, scalars: tuple[str, ...] = (), labels: Any = None
) -> dict[str, str]:
    names = [*inputs, *(labels or {}), *scalars]
    problem = Problem(
        "pair",
        forward,
        backward,
        inputs,
        lambda values: (tuple(values[name] for name in names), {}),
        [],
        scalars=scalars,
        labels=labels or {},
    )
    proof = prove(problem)
    words = Words(proof)
    return {
        name: "right" if gradient.proved else "\n".join(explain(gradient, words).lines)
        for name, gradient in proof.gradients.items()
    }


def norm(x: Any, gamma: Any, beta: Any, eps: Any) -> Any:
    std = np.sqrt(x.var(axis=0) + eps)
    x_hat = (x - x.mean(axis=0)) / std
    return gamma * x_hat + beta, (x_hat, gamma, std)


MISTAKES = {
    "constant statistics": (
        lambda u, h, g, s: (g * u / s, (u * h).sum(0), u.sum(0)),
        "dx",
        ["term missing: - gamma*mean(dout)/sigma", "term missing: - gamma*x_hat*mean(x_hat*dout)/sigma"],
    ),
    "a doubled term": (
        lambda u, h, g, s: (g / s * (u - u.mean(0) - 2 * h * (u * h).mean(0)), (u * h).sum(0), u.sum(0)),
        "dx",
        [
            "wrong coefficient: yours - 2*gamma*x_hat*mean(x_hat*dout)/sigma, should be - gamma*x_hat*mean(x_hat*dout)/sigma"
        ],
    ),
    "a sum for a mean": (
        lambda u, h, g, s: (g / s * (u - u.sum(0) - h * (u * h).mean(0)), (u * h).sum(0), u.sum(0)),
        "dx",
        ["yours - gamma*sum(dout)/sigma, should be - gamma*mean(dout)/sigma"],
    ),
    "a wrong sign": (
        lambda u, h, g, s: (g / s * (u + u.mean(0) - h * (u * h).mean(0)), (u * h).sum(0), u.sum(0)),
        "dx",
        ["yours gamma*mean(dout)/sigma, should be - gamma*mean(dout)/sigma"],
    ),
    "the variance for its root": (
        lambda u, h, g, s: (g / s**2 * (u - u.mean(0) - h * (u * h).mean(0)), (u * h).sum(0), u.sum(0)),
        "dx",
        ["off by a factor 1/sigma\n"],
    ),
    "gamma too often": (
        lambda u, h, g, s: (u, g * (u * h).sum(0), u.sum(0)),
        "dgamma",
        ["off by a factor gamma\ntrue dgamma = sum(x_hat*dout)"],
    ),
    "x - mu for x_hat": (lambda u, h, g, s: (u, (u * h * s).sum(0), u.sum(0)), "dgamma", ["off by a factor sigma\n"]),
    "a mean for a sum": (lambda u, h, g, s: (u, (u * h).sum(0), u.mean(0)), "dbeta", ["off by a factor 1/N\n"]),
    "dbeta for dgamma": (
        lambda u, h, g, s: (u, u.sum(0), u.sum(0)),
        "dgamma",
        ["term missing: + sum(x_hat*dout)", "term that should not be there: + sum(dout)"],
    ),
    "nothing": (lambda u, h, g, s: (0 * u, (u * h).sum(0), u.sum(0)), "dx", ["dx is 0 for all inputs"]),
    "eps forgotten": (
        lambda u, h, g, s: (
            g * (u - u.mean(0) - h * (u * h).mean(0)) / np.sqrt((h * h).mean(0)) / s,
            (u * h).sum(0),
            u.sum(0),
        ),
        "dx",
        ["off by a factor"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_batch_norm(name: str) -> None:
    wrong, gradient, lines = MISTAKES[name]

    def backward(dy: Any, cache: Any) -> Any:
        return wrong(dy, *cache)

    said = told(norm, backward, NORM, scalars=("eps",))
    for line in lines:
        assert line in said[gradient], said[gradient]
    assert "right" in said.values()


def test_sums_over_different_axes_are_told_apart() -> None:
    def forward(x: Any, w: Any, b: Any) -> Any:
        return x @ w + b, (x, w)

    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        return 3 * dy @ w.T, x.T @ dy / x.shape[0], dy.mean(0)

    said = told(forward, backward, {"x": ("N", "D"), "w": ("D", "M"), "b": ("M",)})
    assert said["dx"] == "off by a factor 3\ntrue dx = sum[M](w*dout)"
    assert said["dw"] == "off by a factor 1/N\ntrue dw = sum[N](x*dout)"
    assert said["db"] == "off by a factor 1/N\ntrue db = sum[N](dout)"


def test_a_loss_speaks_of_no_dout() -> None:
    def loss(x: Any, y: Any) -> Any:
        p = np.exp(x - x.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        n = x.shape[0]
        dx = p.copy()
        dx[np.arange(n), y] -= 1
        return -np.log(p[np.arange(n), y]).sum() / n, dx

    said = told(loss, None, {"x": ("N", "C")}, labels={"y": ("N", "C")})
    assert said["dx"] == "off by a factor N\ntrue dx = - [y=k]/N + exp(x)/(N*sum(exp(x)))"


def test_masks() -> None:
    said = told(lambda x: (np.maximum(x, 0), x), lambda dy, x: dy * (x < 0), {"x": ("N", "D")})
    assert said["dx"].startswith("wrong coefficient: yours dout - [x > 0]*dout, should be [x > 0]*dout")
