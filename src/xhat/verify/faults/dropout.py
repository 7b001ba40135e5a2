"""Mistakes in dropout, where p is the share that is kept: the course's signature since 2018."""

from __future__ import annotations

from typing import Any

import numpy as np

from xhat.verify.faults.dictionary import Dictionary, Function, Rows, Seen, normal, put_gradients

FORWARD = """
def dropout_forward(x, dropout_param):
    p, mode = dropout_param["p"], dropout_param["mode"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = None
    out = None
    if mode == "train":
        drawn = np.random.rand(*x.shape)
        mask = (drawn < p) / p
        out = x * mask
    elif mode == "test":
        out = x
    cache = (dropout_param, mask)
    out = out.astype(x.dtype, copy=False)
    return out, cache
"""

BACKWARD = """
def dropout_backward(dout, cache):
    dropout_param, mask = cache
    mode = dropout_param["mode"]
    dx = None
    if mode == "train":
        dx = dout * mask
    elif mode == "test":
        dx = dout
    return dx
"""

FORWARD_ROWS: Rows = {
    "p_dropped": (
        "p is taken as the share that is dropped: since 2018 it is the share that is kept, (drawn < p) / p.",
        "(drawn < p) / p",
        "(drawn > p) / (1 - p)",
    ),
    "wrong_share_scaled": (
        "The mask keeps a share of 1 - p but is divided by p: keep where drawn < p.",
        "(drawn < p) / p",
        "(drawn > p) / p",
    ),
    "divided_by_dropped": (
        "The mask is divided by 1 - p, the share that is dropped: divide by p.",
        "(drawn < p) / p",
        "(drawn < p) / (1 - p)",
    ),
    "not_inverted": (
        "The mask is not divided by p: without it the test mode must scale, and the course's does not.",
        "(drawn < p) / p",
        "(drawn < p)",
    ),
    "not_inverted_scaled_in_test": (
        "The test mode multiplies by p: divide the mask by p when training instead.",
        "(drawn < p) / p",
        "(drawn < p)",
        "        out = x\n",
        "        out = x * p\n",
    ),
    "multiplied": ("The mask is multiplied by p: divide by it.", "(drawn < p) / p", "(drawn < p) * p"),
    "normal_drawn": (
        "np.random.randn draws normal numbers: np.random.rand draws evenly from 0 to 1.",
        "np.random.rand(*x.shape)",
        "np.random.randn(*x.shape)",
    ),
    "one_mask_per_feature": (
        "One mask serves all samples: draw one number per entry of x.",
        "np.random.rand(*x.shape)",
        "np.random.rand(*x.shape[1:]) * np.ones_like(x)",
    ),
    "test_scaled": (
        "The test mode multiplies by p though training divides by it: out = x.",
        "        out = x\n",
        "        out = x * p\n",
    ),
    "test_drops": (
        "The test mode drops too: out = x.",
        "        out = x\n",
        "        out = x * (np.random.rand(*x.shape) < p) / p\n",
    ),
    "seed_ignored": (
        "The seed is not used: call np.random.seed with it before drawing.",
        'np.random.seed(dropout_param["seed"])',
        "np.random.seed(0)",
    ),
    "x_modified": (
        "x is changed in place: write x * mask, which makes a new array.",
        "out = x * mask",
        "x *= mask\n        out = x",
    ),
    "unmasked": ("The mask is drawn but not applied: out = x * mask.", "out = x * mask", "out = x.copy()"),
}

BACKWARD_ROWS: Rows = {
    "unmasked": ("The mask is not applied to dout: dx = dout * mask.", "dx = dout * mask", "dx = dout"),
    "scale_missing": (
        "The mask is applied without its factor 1/p: use the mask of the forward pass.",
        "dx = dout * mask",
        "dx = dout * (mask > 0)",
    ),
    "scaled_twice": (
        "dout is divided by p once more: the mask holds 1/p already.",
        "dx = dout * mask",
        'dx = dout * mask / dropout_param["p"]',
    ),
    "reversed": (
        "dout passes where x was dropped: use the mask of the forward pass.",
        "dx = dout * mask",
        'dx = dout * (mask == 0) / dropout_param["p"]',
    ),
    "drawn_again": (
        "A new mask is drawn: use the mask of the forward pass, from the cache.",
        "dx = dout * mask",
        'dx = dout * (np.random.rand(*dout.shape) < dropout_param["p"]) / dropout_param["p"]',
    ),
    "test_scaled": (
        "The test mode multiplies by p: dx = dout.",
        "        dx = dout\n",
        '        dx = dout * dropout_param["p"]\n',
    ),
    "test_returns_none": ("The test mode returns None: dx = dout.", "        dx = dout\n", "        pass\n"),
    "dout_modified": (
        "dout is changed in place: write dout * mask, which makes a new array.",
        "dx = dout * mask",
        "dout *= mask\n        dx = dout",
    ),
    "mode_ignored": (
        "The mask is applied in every mode: in test mode there is none, and dx = dout.",
        'if mode == "train":',
        'if mode != "none":',
    ),
}

X, DOUT = normal(81, 6, 5) + 2, normal(82, 6, 5)


def after_forward(forward: Function, seen: Seen) -> Any:
    """Train and predict with a seed and an uneven p."""
    x = X.copy()
    seen["out"], train = forward(x, {"mode": "train", "p": 0.7, "seed": 9})
    seen["x after the call"] = x
    seen["out (test)"], test = forward(X.copy(), {"mode": "test", "p": 0.7, "seed": 9})
    return train, test


def after_backward(backward: Function, cache: Any, seen: Seen) -> None:
    """Go back in both modes."""
    dout = DOUT.copy()
    np.random.seed(10)  # noqa: NPY002  not where forward began to draw
    put_gradients(backward(dout, cache[0]), ("dx",), seen)
    seen["dout after the call"] = dout
    put_gradients(backward(DOUT.copy(), cache[1]), ("dx of test mode",), seen)


DROPOUT = Dictionary("dropout", FORWARD, BACKWARD, after_forward, after_backward, FORWARD_ROWS, BACKWARD_ROWS)
