"""Mistakes in instance norm of x (N, C, H, W) over the positions of a channel: forward(x, gamma, beta, eps)."""

from __future__ import annotations

from typing import Any

import numpy as np

from xhat.verify.faults import closed_form
from xhat.verify.faults.dictionary import Dictionary, Function, Seen, fill, filled, normal, put_gradients

WORDS = {
    "AXIS": "axis=(2, 3), keepdims=True",
    "SUM": "axis=(0, 2, 3)",
    "X_HAT": "x_hat",
    "x_hat_out": "x_hat",
    "DOUT": "dout",
    "gamma_x + beta": "gamma_x + beta.reshape(1, C, 1, 1)",
    "gamma_x - beta": "gamma_x - beta.reshape(1, C, 1, 1)",
    "x_hat + beta": "x_hat + beta.reshape(1, C, 1, 1)",
    "gamma + x_hat": "gamma.reshape(1, C, 1, 1) + x_hat",
    "(M - 1)": "(H * W - 1)",
    "dout * gamma": "dout * gamma.reshape(1, C, 1, 1)",
    "dout / gamma": "dout / gamma.reshape(1, C, 1, 1)",
    "dout *= gamma": "dout *= gamma.reshape(1, C, 1, 1)",
}

FORWARD = f"""
def instancenorm_forward(x, gamma, beta, eps):
    N, C, H, W = x.shape
{filled(closed_form.NORMALIZED, **WORDS)}\
    gamma_x = gamma.reshape(1, C, 1, 1) * x_hat
    out = gamma_x + beta.reshape(1, C, 1, 1)
    cache = (x_hat, gamma, std, var, eps)
    return out, cache
"""

BACKWARD = f"""
def instancenorm_backward(dout, cache):
    x_hat, gamma, std, var, eps = cache
    N, C, H, W = dout.shape
    dbeta = np.sum(dout, axis=(0, 2, 3))
    dgamma = np.sum(dout * x_hat, axis=(0, 2, 3))
    dx_hat = dout * gamma.reshape(1, C, 1, 1)
{filled(closed_form.PROJECTED, **WORDS)}\
    return dx, dgamma, dbeta
"""

FORWARD_ROWS = {
    **fill(closed_form.FORWARD_ROWS, **WORDS),
    "statistics_over_rows": (
        "The statistics are taken over the last axis alone: average over both axes of the image, axis=(2, 3).",
        "np.mean(x, axis=(2, 3), keepdims=True)",
        "np.mean(x, axis=3, keepdims=True)",
        "np.mean(xmu**2, axis=(2, 3), keepdims=True)",
        "np.mean(xmu**2, axis=3, keepdims=True)",
    ),
    "statistics_over_channels": (
        "The statistics are taken over the channels too, as in layer norm: use axis=(2, 3).",
        "np.mean(x, axis=(2, 3), keepdims=True)",
        "np.mean(x, axis=(1, 2, 3), keepdims=True)",
        "np.mean(xmu**2, axis=(2, 3), keepdims=True)",
        "np.mean(xmu**2, axis=(1, 2, 3), keepdims=True)",
    ),
    "statistics_over_samples": (
        "The statistics are taken over the samples too, as in batch norm: use axis=(2, 3).",
        "np.mean(x, axis=(2, 3), keepdims=True)",
        "np.mean(x, axis=(0, 2, 3), keepdims=True)",
        "np.mean(xmu**2, axis=(2, 3), keepdims=True)",
        "np.mean(xmu**2, axis=(0, 2, 3), keepdims=True)",
    ),
}

BACKWARD_ROWS = {
    **fill(closed_form.BACKWARD_ROWS, **WORDS),
    **fill(closed_form.PARAMETER_ROWS, **WORDS),
    "dgamma_per_sample": (
        "dgamma has a row for every sample: gamma serves all samples, so sum over axis 0 too.",
        "np.sum(dout * x_hat, axis=(0, 2, 3))",
        "np.sum(dout * x_hat, axis=(2, 3))",
    ),
    "dbeta_per_sample": (
        "dbeta has a row for every sample: beta serves all samples, so sum over axis 0 too.",
        "np.sum(dout, axis=(0, 2, 3))",
        "np.sum(dout, axis=(2, 3))",
    ),
}

X, DOUT = 2 * normal(31, 4, 2, 3, 2) + 1.5, normal(32, 4, 2, 3, 2)
GAMMA, BETA = np.array([1.3, -0.7]), normal(33, 2)


def after_forward(forward: Function, seen: Seen) -> Any:
    """Normalize once."""
    x = X.copy()
    seen["out"], cache = forward(x, GAMMA.copy(), BETA.copy(), 0.37)
    seen["x after the call"] = x
    return cache


def after_backward(backward: Function, cache: Any, seen: Seen) -> None:
    """Go back once."""
    dout = DOUT.copy()
    put_gradients(backward(dout, cache), ("dx", "dgamma", "dbeta"), seen)
    seen["dout after the call"] = dout


INSTANCE_NORM = Dictionary(
    "instance_norm",
    FORWARD,
    BACKWARD,
    after_forward,
    after_backward,
    FORWARD_ROWS,
    BACKWARD_ROWS,
    quantities={words: filled(expression, **WORDS) for words, expression in closed_form.QUANTITIES.items()},
)
