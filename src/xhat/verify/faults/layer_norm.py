"""Mistakes in layer norm of x (N, D) over the features: the course's signature, dx in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np

from xhat.verify.faults import closed_form
from xhat.verify.faults.dictionary import Dictionary, Function, Seen, fill, filled, normal, put_gradients

WORDS = {
    "AXIS": "axis=1, keepdims=True",
    "SUM": "axis=0",
    "X_HAT": "x_hat",
    "x_hat_out": "x_hat",
    "DOUT": "dout",
    "(M - 1)": "(D - 1)",
}

FORWARD = f"""
def layernorm_forward(x, gamma, beta, ln_param):
    eps = ln_param.get("eps", 1e-5)
    N, D = x.shape
{filled(closed_form.NORMALIZED, **WORDS)}\
    gamma_x = gamma * x_hat
    out = gamma_x + beta
    cache = (x_hat, gamma, std, var, eps)
    return out, cache
"""

BACKWARD = f"""
def layernorm_backward(dout, cache):
    x_hat, gamma, std, var, eps = cache
    N, D = dout.shape
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * x_hat, axis=0)
    dx_hat = dout * gamma
{filled(closed_form.PROJECTED, **WORDS)}\
    return dx, dgamma, dbeta
"""

FORWARD_ROWS = {
    **fill(closed_form.FORWARD_ROWS, **WORDS),
    "eps_ignored": (
        'eps is a fixed number: read it with ln_param.get("eps", 1e-5).',
        'ln_param.get("eps", 1e-5)',
        "1e-5",
    ),
    "eps_default": (
        "The default of eps is not 1e-5: the course's is 1e-5.",
        'ln_param.get("eps", 1e-5)',
        'ln_param.get("eps", 1e-8)',
    ),
}

BACKWARD_ROWS = {
    **fill(closed_form.BACKWARD_ROWS, **WORDS),
    **fill(closed_form.PARAMETER_ROWS, **WORDS),
    "dgamma_over_features": (
        "dgamma is summed over the features: gamma has one entry per feature, so sum over the batch, axis=0.",
        "np.sum(dout * x_hat, axis=0)",
        "np.sum(dout * x_hat, axis=1)",
    ),
    "dbeta_over_features": (
        "dbeta is summed over the features: beta has one entry per feature, so sum over the batch, axis=0.",
        "np.sum(dout, axis=0)",
        "np.sum(dout, axis=1)",
    ),
}

X, GAMMA, BETA = 2 * normal(11, 5, 4) + 1.5, np.array([1.3, -0.7, 0.6, -1.8]), normal(12, 4)
DOUT = normal(13, 5, 4)


def after_forward(forward: Function, seen: Seen) -> Any:
    """Normalize, and once more with the default eps."""
    x = X.copy()
    seen["out"], cache = forward(x, GAMMA.copy(), BETA.copy(), {"eps": 0.37})
    seen["x after the call"] = x
    seen["out with defaults"] = forward(0.003 * X, GAMMA.copy(), BETA.copy(), {})[0]
    return cache


def after_backward(backward: Function, cache: Any, seen: Seen) -> None:
    """Go back once."""
    dout = DOUT.copy()
    put_gradients(backward(dout, cache), ("dx", "dgamma", "dbeta"), seen)
    seen["dout after the call"] = dout


LAYER_NORM = Dictionary(
    "layer_norm",
    FORWARD,
    BACKWARD,
    after_forward,
    after_backward,
    FORWARD_ROWS,
    BACKWARD_ROWS,
    quantities={words: filled(expression, **WORDS) for words, expression in closed_form.QUANTITIES.items()},
)
