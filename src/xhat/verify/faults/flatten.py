"""Mistakes in flattening x (N, ...) to (N, D): forward(x)."""

from __future__ import annotations

from typing import Any

from xhat.verify.faults.dictionary import Dictionary, Function, Rows, Seen, normal, put_gradients

FORWARD = """
def flatten_forward(x):
    out = x.reshape(x.shape[0], -1)
    cache = x.shape
    return out, cache
"""

BACKWARD = """
def flatten_backward(dout, cache):
    shape = cache
    dx = dout.reshape(shape)
    return dx
"""

FORWARD_ROWS: Rows = {
    "batch_too": (
        "The batch is flattened too: keep the first axis, x.reshape(x.shape[0], -1).",
        "x.reshape(x.shape[0], -1)",
        "x.reshape(-1)",
    ),
    "transposed": (
        "The output is transposed: one row per sample.",
        "x.reshape(x.shape[0], -1)",
        "x.reshape(x.shape[0], -1).T",
    ),
    "samples_mixed": (
        "The samples are mixed: the first axis must stay first, x.reshape(x.shape[0], -1).",
        "x.reshape(x.shape[0], -1)",
        "x.reshape(-1, x.shape[0]).T",
    ),
    "reversed": (
        "Each sample is read with its axes reversed: reshape in the usual order.",
        "x.reshape(x.shape[0], -1)",
        'x.reshape(x.shape[0], -1, order="F")',
    ),
    "x_modified": (
        "x is changed in place: reshape makes a new view.",
        "out = x.reshape(x.shape[0], -1)\n    cache = x.shape",
        "cache = x.shape\n    x.shape = (x.shape[0], -1)\n    out = x",
    ),
}

BACKWARD_ROWS: Rows = {
    "not_reshaped": ("dx keeps the shape of dout: reshape it to the shape of x.", "dout.reshape(shape)", "dout"),
    "reversed": (
        "dout is read with its axes reversed: reshape in the usual order.",
        "dout.reshape(shape)",
        'dout.reshape(shape, order="F")',
    ),
    "averaged": (
        "dx is divided by the batch size: dout passes unchanged.",
        "dout.reshape(shape)",
        "dout.reshape(shape) / shape[0]",
    ),
}

X, DOUT = normal(111, 4, 2, 3), normal(112, 4, 6)


def after_forward(forward: Function, seen: Seen) -> Any:
    """Flatten samples of shape (2, 3)."""
    x = X.copy()
    seen["out"], cache = forward(x)
    seen["x after the call"] = x
    return cache


def after_backward(backward: Function, cache: Any, seen: Seen) -> None:
    """Go back once."""
    dout = DOUT.copy()
    put_gradients(backward(dout, cache), ("dx",), seen)
    seen["dout after the call"] = dout


FLATTEN = Dictionary("flatten", FORWARD, BACKWARD, after_forward, after_backward, FORWARD_ROWS, BACKWARD_ROWS)
