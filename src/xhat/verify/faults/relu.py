"""Mistakes in ReLU: the course's signature."""

from __future__ import annotations

from typing import Any

import numpy as np

from xhat.verify.faults.dictionary import Dictionary, Function, Rows, Seen, normal, put_gradients

FORWARD = """
def relu_forward(x):
    out = np.maximum(0, x)
    cache = x
    return out, cache
"""

BACKWARD = """
def relu_backward(dout, cache):
    x = cache
    mask = x > 0
    dx = dout * mask
    return dx
"""

FORWARD_ROWS: Rows = {
    "minimum": ("The negative part is kept: use np.maximum(0, x).", "np.maximum(0, x)", "np.minimum(0, x)"),
    "absolute": ("The absolute value is taken: use np.maximum(0, x).", "np.maximum(0, x)", "np.abs(x)"),
    "maximum_of_all": (
        "np.max returns one number for all: np.maximum(0, x) compares entry by entry.",
        "np.maximum(0, x)",
        "np.max(x) * np.ones_like(x)",
    ),
    "mask_returned": (
        "The output is the mask x > 0: multiply it by x.",
        "np.maximum(0, x)",
        "(x > 0).astype(x.dtype)",
    ),
    "leaky": ("Negative entries keep a slope: ReLU makes them 0.", "np.maximum(0, x)", "np.maximum(0.01 * x, x)"),
    "clipped": ("Entries are clipped at 1: ReLU has no upper bound.", "np.maximum(0, x)", "np.clip(x, 0, 1)"),
    "linear": ("Negative entries pass: use np.maximum(0, x).", "np.maximum(0, x)", "x.copy()"),
    "x_modified": (
        "x is changed in place, and the cache with it: np.maximum(0, x) makes a new array.",
        "out = np.maximum(0, x)",
        "x[x < 0] = 0\n    out = x",
    ),
    "cache_of_out": (
        "The output is cached instead of x; it is positive where x is, so nothing changes.",
        "cache = x",
        "cache = out",
    ),
}

BACKWARD_ROWS: Rows = {
    "one_at_zero": ("The gradient at x = 0 is 1: the course's is 0, so use x > 0.", "mask = x > 0", "mask = x >= 0"),
    "reversed": ("The mask is reversed: dout passes where x > 0.", "mask = x > 0", "mask = x < 0"),
    "of_dout": ("The mask is taken from dout: take it from x.", "mask = x > 0", "mask = dout > 0"),
    "always_one": ("The derivative is 1 everywhere: dout passes only where x > 0.", "dx = dout * mask", "dx = dout"),
    "without_dout": ("dx ignores dout: multiply the mask by it.", "dx = dout * mask", "dx = mask.astype(float)"),
    "times_x": ("dx has a factor x: the derivative is 1, not x.", "dx = dout * mask", "dx = dout * np.maximum(0, x)"),
    "of_product": (
        "np.maximum is applied to dout: the sign of x decides.",
        "dx = dout * mask",
        "dx = np.maximum(0, dout)",
    ),
    "not_zeroed": (
        "Entries with x <= 0 keep x instead of 0: set them to 0.",
        "dx = dout * mask",
        "dx = np.where(mask, dout, x)",
    ),
    "dout_modified": (
        "dout is changed in place: copy it first, or write dout * (x > 0).",
        "dx = dout * mask",
        "dout[x <= 0] = 0\n    dx = dout",
    ),
    "leaky": (
        "A slope is left where x <= 0: the gradient there is 0.",
        "dx = dout * mask",
        "dx = dout * np.where(mask, 1, 0.01)",
    ),
}

X = np.concatenate([2 * normal(71, 4, 3), [[0.0, 1.4, -0.3]]])
DOUT = normal(72, 5, 3)


def after_forward(forward: Function, seen: Seen) -> Any:
    """Use an x with a zero in it."""
    x = X.copy()
    seen["out"], cache = forward(x)
    seen["x after the call"] = x
    return cache


def after_backward(backward: Function, cache: Any, seen: Seen) -> None:
    """Go back once."""
    dout = DOUT.copy()
    put_gradients(backward(dout, cache), ("dx",), seen)
    seen["dout after the call"] = dout


RELU = Dictionary(
    "relu",
    FORWARD,
    BACKWARD,
    after_forward,
    after_backward,
    FORWARD_ROWS,
    BACKWARD_ROWS,
    harmless=frozenset({"cache_of_out"}),
)
