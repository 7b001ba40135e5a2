"""Mistakes in the affine layer, x (N, d1, ..., dk) with w (D, M) and b (M,): the course's signature."""

from __future__ import annotations

from typing import Any

from xhat.verify.faults.dictionary import Dictionary, Function, Rows, Seen, normal, put_gradients

FORWARD = """
def affine_forward(x, w, b):
    N = x.shape[0]
    rows = x.reshape(N, -1)
    product = rows.dot(w)
    out = product + b
    cache = (x, w, b)
    return out, cache
"""

BACKWARD = """
def affine_backward(dout, cache):
    x, w, b = cache
    N = x.shape[0]
    rows = x.reshape(N, -1)
    dx = dout.dot(w.T).reshape(x.shape)
    dw = rows.T.dot(dout)
    db = np.sum(dout, axis=0)
    return dx, dw, db
"""

FORWARD_ROWS: Rows = {
    "bias_missing": ("b is not added.", "product + b", "product"),
    "bias_subtracted": ("b is subtracted: add it.", "product + b", "product - b"),
    "bias_scaled": ("b is added once per sample in all: add b as it is.", "product + b", "product + N * b"),
    "reshaped_transposed": (
        "x is flattened with its axes reversed: reshape each sample as it lies, x.reshape(N, -1).",
        "x.reshape(N, -1)",
        'x.reshape(N, -1, order="F")',
    ),
    "samples_mixed": (
        "x is reshaped to (D, N) and transposed, which mixes the samples: x.reshape(N, -1).",
        "x.reshape(N, -1)",
        "x.reshape(-1, N).T",
    ),
    "averaged": ("The output is divided by N: the layer has no mean.", "rows.dot(w)", "rows.dot(w) / N"),
    "x_modified": (
        "x is changed in place: its shape is set to (N, D). Reshape makes a new view instead.",
        "rows = x.reshape(N, -1)",
        "x.shape = (N, -1)\n    rows = x",
    ),
}

BACKWARD_ROWS: Rows = {
    "dx_flat": ("dx is left flat: reshape it to the shape of x.", "dout.dot(w.T).reshape(x.shape)", "dout.dot(w.T)"),
    "dx_averaged": (
        "dx is divided by N: dout already holds the loss's 1/N.",
        "dout.dot(w.T).reshape(x.shape)",
        "dout.dot(w.T).reshape(x.shape) / N",
    ),
    "dx_reshaped_transposed": (
        "dx is reshaped with its axes reversed: reshape(x.shape) in the usual order.",
        "dout.dot(w.T).reshape(x.shape)",
        'dout.dot(w.T).reshape(x.shape, order="F")',
    ),
    "dx_reshaped_w": (
        "w is reshaped where it must be transposed: use w.T.",
        "dout.dot(w.T).reshape(x.shape)",
        "dout.dot(w.reshape(w.shape[1], w.shape[0])).reshape(x.shape)",
    ),
    "dx_without_w": (
        "dx ignores w: multiply dout by w.T.",
        "dout.dot(w.T).reshape(x.shape)",
        "dout.dot(np.ones_like(w.T)).reshape(x.shape)",
    ),
    "dw_averaged": (
        "dw is divided by N: dout already holds the loss's 1/N.",
        "rows.T.dot(dout)",
        "rows.T.dot(dout) / N",
    ),
    "dw_transposed": ("dw is transposed: it has the shape of w.", "rows.T.dot(dout)", "dout.T.dot(rows)"),
    "dw_reshaped_x": (
        "x is reshaped where it must be transposed: use rows.T.",
        "rows.T.dot(dout)",
        "rows.reshape(-1, N).dot(dout)",
    ),
    "dw_without_x": ("dw ignores x: multiply by rows.T.", "rows.T.dot(dout)", "np.ones_like(rows.T).dot(dout)"),
    "dw_regularized": (
        "w is added to dw: the regularization's gradient belongs to the loss.",
        "rows.T.dot(dout)",
        "rows.T.dot(dout) + w",
    ),
    "db_averaged": ("db is averaged over the batch: sum it.", "np.sum(dout, axis=0)", "np.mean(dout, axis=0)"),
    "db_over_outputs": ("db is summed over the outputs: use axis=0.", "np.sum(dout, axis=0)", "np.sum(dout, axis=1)"),
    "db_over_all": ("db is one number: give np.sum axis=0.", "np.sum(dout, axis=0)", "np.sum(dout)"),
    "db_not_summed": ("db has a row for every sample: sum dout over axis 0.", "np.sum(dout, axis=0)", "dout"),
    "db_keepdims": (
        "db has shape (1, M): leave out keepdims, b has shape (M,).",
        "np.sum(dout, axis=0)",
        "np.sum(dout, axis=0, keepdims=True)",
    ),
    "db_of_ones": ("db is the batch size: sum dout.", "np.sum(dout, axis=0)", "np.sum(np.ones_like(dout), axis=0)"),
    "dx_dw_exchanged": (
        "dx and dw are returned in exchanged order: return dx, dw, db.",
        "return dx, dw, db",
        "return dw, dx, db",
    ),
    "dw_db_exchanged": (
        "dw and db are returned in exchanged order: return dx, dw, db.",
        "return dx, dw, db",
        "return dx, db, dw",
    ),
}

X, W, B, DOUT = normal(61, 5, 2, 3), normal(62, 6, 4), normal(63, 4), normal(64, 5, 4)


def after_forward(forward: Function, seen: Seen) -> Any:
    """Multiply samples of shape (2, 3)."""
    x = X.copy()
    seen["out"], cache = forward(x, W.copy(), B.copy())
    seen["x after the call"] = x
    return cache


def after_backward(backward: Function, cache: Any, seen: Seen) -> None:
    """Go back once."""
    dout = DOUT.copy()
    put_gradients(backward(dout, cache), ("dx", "dw", "db"), seen)
    seen["dout after the call"] = dout


AFFINE = Dictionary("affine", FORWARD, BACKWARD, after_forward, after_backward, FORWARD_ROWS, BACKWARD_ROWS)
