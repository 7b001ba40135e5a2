"""Mistakes in RMS norm of x (N, D) over the features: forward(x, gamma, eps)."""

from __future__ import annotations

from typing import Any

import numpy as np

from xhat.verify.faults.dictionary import Dictionary, Function, Rows, Seen, normal, put_gradients

FORWARD = """
def rmsnorm_forward(x, gamma, eps):
    N, D = x.shape
    mean_square = np.mean(x**2, axis=1, keepdims=True)
    rms = np.sqrt(mean_square + eps)
    x_hat = x / rms
    out = gamma * x_hat
    cache = (x, x_hat, gamma, rms, mean_square, eps)
    return out, cache
"""

BACKWARD = """
def rmsnorm_backward(dout, cache):
    x, x_hat, gamma, rms, mean_square, eps = cache
    N, D = dout.shape
    dgamma = np.sum(dout * x_hat, axis=0)
    dx_hat = dout * gamma
    projection = np.mean(dx_hat * x_hat, axis=1, keepdims=True)
    dx = (dx_hat - x_hat * projection) / rms
    return dx, dgamma
"""

FORWARD_ROWS: Rows = {
    "over_all": (
        "The mean square is taken over all entries: give np.mean axis=1, keepdims=True.",
        "np.mean(x**2, axis=1, keepdims=True)",
        "np.mean(x**2)",
    ),
    "over_batch": (
        "The mean square is taken over the batch: give np.mean axis=1.",
        "np.mean(x**2, axis=1, keepdims=True)",
        "np.mean(x**2, axis=0)",
    ),
    "not_divided": (
        "The squares are summed: take their mean.",
        "np.mean(x**2, axis=1, keepdims=True)",
        "np.sum(x**2, axis=1, keepdims=True)",
    ),
    "divided_by_batch": (
        "The sum of the squares is divided by N: divide by the number of features.",
        "np.mean(x**2, axis=1, keepdims=True)",
        "np.sum(x**2, axis=1, keepdims=True) / N",
    ),
    "centred": (
        "The variance was used: RMS norm does not take off the mean.",
        "np.mean(x**2, axis=1, keepdims=True)",
        "np.var(x, axis=1, keepdims=True)",
    ),
    "centred_all": (
        "The mean is taken off, as in layer norm: RMS norm only divides.",
        "np.mean(x**2, axis=1, keepdims=True)",
        "np.var(x, axis=1, keepdims=True)",
        "x_hat = x / rms",
        "x_hat = (x - np.mean(x, axis=1, keepdims=True)) / rms",
    ),
    "eps_outside": (
        "eps is added outside the square root: write np.sqrt(mean_square + eps).",
        "np.sqrt(mean_square + eps)",
        "(np.sqrt(mean_square) + eps)",
    ),
    "eps_missing": (
        "eps is not used: write np.sqrt(mean_square + eps).",
        "np.sqrt(mean_square + eps)",
        "np.sqrt(mean_square)",
    ),
    "root_missing": (
        "The square root is missing: write np.sqrt(mean_square + eps).",
        "np.sqrt(mean_square + eps)",
        "mean_square + eps",
    ),
    "multiplied": (
        "x is multiplied by the root mean square: divide by it.",
        "x_hat = x / rms",
        "x_hat = x * rms",
    ),
    "not_scaled": (
        "x is not divided by the root mean square.",
        "x_hat = x / rms",
        "x_hat = x",
    ),
    "gamma_missing": (
        "gamma is not applied: multiply x_hat by it.",
        "out = gamma * x_hat",
        "out = x_hat",
    ),
    "gamma_offset": (
        "1 + gamma multiplies x_hat, as some models do: here gamma itself does.",
        "out = gamma * x_hat",
        "out = (1 + gamma) * x_hat",
    ),
    "x_modified": (
        "x is changed in place: write x / rms, which makes a new array, instead of x /= rms.",
        "x_hat = x / rms",
        "x /= rms\n    x_hat = x",
    ),
}

BACKWARD_ROWS: Rows = {
    "dgamma_mean": (
        "dgamma is averaged over the batch: sum it.",
        "np.sum(dout * x_hat, axis=0)",
        "np.mean(dout * x_hat, axis=0)",
    ),
    "dgamma_with_gamma": (
        "dgamma has a factor gamma too many: sum dout * x_hat.",
        "np.sum(dout * x_hat, axis=0)",
        "np.sum(dout * gamma * x_hat, axis=0)",
    ),
    "dgamma_from_x": (
        "dgamma uses x: use x_hat, which is divided by the root mean square.",
        "np.sum(dout * x_hat, axis=0)",
        "np.sum(dout * x, axis=0)",
    ),
    "dgamma_without_x_hat": (
        "dgamma ignores x_hat: sum dout * x_hat.",
        "np.sum(dout * x_hat, axis=0)",
        "np.sum(dout, axis=0)",
    ),
    "dgamma_not_summed": (
        "dgamma has a row for every sample: sum over axis 0.",
        "np.sum(dout * x_hat, axis=0)",
        "dout * x_hat",
    ),
    "dgamma_over_features": (
        "dgamma is summed over the features: sum over the batch, axis=0.",
        "np.sum(dout * x_hat, axis=0)",
        "np.sum(dout * x_hat, axis=1)",
    ),
    "gamma_missing": (
        "dx lacks the factor gamma: dx_hat = dout * gamma.",
        "dx_hat = dout * gamma",
        "dx_hat = dout",
    ),
    "dout_modified": (
        "dout is changed in place: write dout * gamma, which makes a new array.",
        "dx_hat = dout * gamma",
        "dout *= gamma\n    dx_hat = dout",
    ),
    "rms_constant": (
        "The root mean square is treated as constant: the term x_hat * mean(dx_hat * x_hat) is missing in dx.",
        "(dx_hat - x_hat * projection) / rms",
        "dx_hat / rms",
    ),
    "mean_term": (
        "mean(dx_hat) is taken off, as in layer norm: RMS norm has no mean.",
        "(dx_hat - x_hat * projection) / rms",
        "(dx_hat - np.mean(dx_hat, axis=1, keepdims=True) - x_hat * projection) / rms",
    ),
    "sign": (
        "The term x_hat * mean(dx_hat * x_hat) has the wrong sign: it is taken off.",
        "(dx_hat - x_hat * projection) / rms",
        "(dx_hat + x_hat * projection) / rms",
    ),
    "doubled": (
        "The term of the root mean square is doubled: the 1/2 of the root and the 2 of the square cancel.",
        "(dx_hat - x_hat * projection) / rms",
        "(dx_hat - 2 * x_hat * projection) / rms",
    ),
    "from_x": (
        "The term of the root mean square uses x: it is x_hat * mean(dx_hat * x_hat).",
        "(dx_hat - x_hat * projection) / rms",
        "(dx_hat - x * projection) / rms",
    ),
    "not_divided_by_rms": (
        "dx is not divided by the root mean square.",
        "(dx_hat - x_hat * projection) / rms",
        "dx_hat - x_hat * projection",
    ),
    "divided_by_square": (
        "dx is divided by the mean square: divide by its root once.",
        "(dx_hat - x_hat * projection) / rms",
        "(dx_hat - x_hat * projection) / rms**2",
    ),
    "eps_missing": (
        "eps is dropped in the backward pass: divide by np.sqrt(mean_square + eps).",
        "(dx_hat - x_hat * projection) / rms",
        "(dx_hat - x_hat * projection) / np.sqrt(mean_square)",
    ),
    "projection_over_batch": (
        "The mean of dx_hat * x_hat is taken over the batch: give np.mean axis=1.",
        "np.mean(dx_hat * x_hat, axis=1, keepdims=True)",
        "np.mean(dx_hat * x_hat, axis=0)",
    ),
    "projection_over_all": (
        "The mean of dx_hat * x_hat is taken over all entries: give np.mean axis=1, keepdims=True.",
        "np.mean(dx_hat * x_hat, axis=1, keepdims=True)",
        "np.mean(dx_hat * x_hat)",
    ),
    "projection_not_divided": (
        "dx_hat * x_hat is summed: take its mean.",
        "np.mean(dx_hat * x_hat, axis=1, keepdims=True)",
        "np.sum(dx_hat * x_hat, axis=1, keepdims=True)",
    ),
    "projection_divided_by_batch": (
        "The sum of dx_hat * x_hat is divided by N: divide by the number of features.",
        "np.mean(dx_hat * x_hat, axis=1, keepdims=True)",
        "np.sum(dx_hat * x_hat, axis=1, keepdims=True) / N",
    ),
    "projection_without_gamma": (
        "The term of the root mean square lacks gamma: use dx_hat = dout * gamma.",
        "np.mean(dx_hat * x_hat, axis=1, keepdims=True)",
        "np.mean(dout * x_hat, axis=1, keepdims=True)",
    ),
    "exchanged": (
        "dx and dgamma are returned in exchanged order: return dx, dgamma.",
        "return dx, dgamma",
        "return dgamma, dx",
    ),
}

X, GAMMA, DOUT = 2 * normal(51, 5, 4) + 1.5, np.array([1.3, -0.7, 0.6, -1.8]), normal(52, 5, 4)


def after_forward(forward: Function, seen: Seen) -> Any:
    """Normalize once."""
    x = X.copy()
    seen["out"], cache = forward(x, GAMMA.copy(), 0.37)
    seen["x after the call"] = x
    return cache


def after_backward(backward: Function, cache: Any, seen: Seen) -> None:
    """Go back once."""
    dout = DOUT.copy()
    put_gradients(backward(dout, cache), ("dx", "dgamma"), seen)
    seen["dout after the call"] = dout


QUANTITIES = {
    "x²": "x**2",
    "the sum over each row of x²": "np.sum(x**2, axis=1, keepdims=True)",
    "the mean of each row of x²": "mean_square",
    "mean_square + eps": "mean_square + eps",
    "the root mean square, with eps": "rms",
    "1 / rms": "1 / rms",
    "1 / rms³": "1 / rms**3",
    "dout * x_hat": "dout * x_hat",
    "dx_hat * x_hat": "dx_hat * x_hat",
    "dx_hat * x": "dx_hat * x",
    "dx_hat / rms": "dx_hat / rms",
    "the sum over each row of dx_hat * x_hat": "np.sum(dx_hat * x_hat, axis=1, keepdims=True)",
    "the mean of each row of dx_hat * x_hat": "np.mean(dx_hat * x_hat, axis=1, keepdims=True)",
    "the sum over each row of dx_hat * x": "np.sum(dx_hat * x, axis=1, keepdims=True)",
    "x_hat * mean(dx_hat * x_hat)": "x_hat * projection",
    "dx * rms": "dx * rms",
}

RMS_NORM = Dictionary(
    "rms_norm",
    FORWARD,
    BACKWARD,
    after_forward,
    after_backward,
    FORWARD_ROWS,
    BACKWARD_ROWS,
    quantities=QUANTITIES,
)
