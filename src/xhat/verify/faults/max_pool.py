"""Mistakes in naive max pooling: the course's signature."""

from __future__ import annotations

from typing import Any

from xhat.verify.faults.dictionary import Dictionary, Function, Rows, Seen, normal, put_gradients

FORWARD = """
def max_pool_forward_naive(x, pool_param):
    HH, WW, stride = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H, W = x.shape
    H_out = 1 + (H - HH) // stride
    W_out = 1 + (W - WW) // stride
    out = np.zeros((N, C, H_out, W_out))
    for n in range(N):
        for c in range(C):
            for i in range(H_out):
                for j in range(W_out):
                    top = i * stride
                    left = j * stride
                    out[n, c, i, j] = np.max(x[n, c, top : top + HH, left : left + WW])
    cache = (x, pool_param)
    return out, cache
"""

BACKWARD = """
def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    HH, WW, stride = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H_out, W_out = dout.shape
    dx = np.zeros_like(x)
    for n in range(N):
        for c in range(C):
            for i in range(H_out):
                for j in range(W_out):
                    top = i * stride
                    left = j * stride
                    window = x[n, c, top : top + HH, left : left + WW]
                    mask = window == np.max(window)
                    dx[n, c, top : top + HH, left : left + WW] += mask * dout[n, c, i, j]
    return dx
"""

FORWARD_ROWS: Rows = {
    "mean": ("The window is averaged: take its maximum.", "np.max(x[n, c", "np.mean(x[n, c"),
    "minimum": ("The minimum is taken: take the maximum.", "np.max(x[n, c", "np.min(x[n, c"),
    "largest_size": (
        "The entry of largest size is taken: negative ones do not count as large.",
        "np.max(x[n, c",
        "np.max(np.abs(x)[n, c",
    ),
    "zero_floor": (
        "The maximum is at least 0: start it from the window, not from 0.",
        "np.max(x[n, c",
        "np.max(np.maximum(x, 0)[n, c",
    ),
    "over_channels": (
        "The maximum is taken over the channels too: pool each channel by itself.",
        "np.max(x[n, c, top",
        "np.max(x[n, :, top",
    ),
    "over_samples": (
        "The maximum is taken over the batch: pool each sample by itself.",
        "np.max(x[n, c, top",
        "np.max(x[:, c, top",
    ),
    "stride_ignored": (
        "The stride is ignored: the window begins at i * stride, j * stride.",
        "top = i * stride",
        "top = i",
        "left = j * stride",
        "left = j",
    ),
    "stride_by_window": (
        "The window moves by its own size: it moves by the stride.",
        "top = i * stride",
        "top = min(i * HH, H - HH)",
        "left = j * stride",
        "left = min(j * WW, W - WW)",
    ),
    "window_square": (
        "The window's height serves as its width: the columns go to left + WW.",
        "left : left + WW",
        "left : left + HH",
    ),
    "window_one_short": (
        "The window is one row short: a slice leaves out its end, so write top + HH.",
        "top : top + HH",
        "top : top + HH - 1",
    ),
    "size_one_short": (
        "The output is one row short: H_out = 1 + (H - HH) // stride.",
        "H_out = 1 + (H - HH) // stride",
        "H_out = (H - HH) // stride",
    ),
    "size_by_stride": (
        "The output's width ignores the window: W_out = 1 + (W - WW) // stride.",
        "W_out = 1 + (W - WW) // stride",
        "W_out = W // stride",
    ),
}

BACKWARD_ROWS: Rows = {
    "overwritten": (
        "Windows overlap, so dx must be added to: write += instead of =.",
        "] += mask * dout",
        "] = mask * dout",
    ),
    "spread": (
        "dout goes to the whole window: only the maximum gets it.",
        "mask = window == np.max(window)",
        "mask = np.ones_like(window)",
    ),
    "averaged": (
        "dout is shared out evenly, as in average pooling: only the maximum gets it.",
        "mask = window == np.max(window)",
        "mask = np.ones_like(window) / window.size",
    ),
    "minimum": ("dout goes to the minimum: it belongs to the maximum.", "np.max(window)", "np.min(window)"),
    "times_maximum": (
        "dx has a factor of the maximum: the derivative is 1 there.",
        "mask * dout[n, c, i, j]",
        "mask * window * dout[n, c, i, j]",
    ),
    "without_dout": ("dx ignores dout: multiply the mask by it.", "mask * dout[n, c, i, j]", "mask"),
    "maximum_of_image": (
        "The maximum of the whole channel is looked for: take the window's.",
        "np.max(window)",
        "np.max(x[n, c])",
    ),
    "stride_ignored": (
        "The stride is ignored: the window begins at i * stride, j * stride.",
        "top = i * stride",
        "top = i",
        "left = j * stride",
        "left = j",
    ),
    "window_square": (
        "The window's height serves as its width in the window that is read and in dx: use left + WW.",
        "window = x[n, c, top : top + HH, left : left + WW]",
        "window = x[n, c, top : top + HH, left : left + HH]",
        "dx[n, c, top : top + HH, left : left + WW]",
        "dx[n, c, top : top + HH, left : left + HH]",
    ),
    "flat_dout": (
        "dout of the first position is used everywhere: use dout[n, c, i, j].",
        "mask * dout[n, c, i, j]",
        "mask * dout[n, c, 0, 0]",
    ),
}

X, DOUT = normal(101, 2, 3, 5, 8) - 0.5, normal(102, 2, 3, 2, 3)
POOL = {"pool_height": 3, "pool_width": 4, "stride": 2}


def after_forward(forward: Function, seen: Seen) -> Any:
    """Use windows of 3 rows and 4 columns that overlap."""
    x = X.copy()
    seen["out"], cache = forward(x, dict(POOL))
    seen["x after the call"] = x
    return cache


def after_backward(backward: Function, cache: Any, seen: Seen) -> None:
    """Go back once."""
    dout = DOUT.copy()
    put_gradients(backward(dout, cache), ("dx",), seen)
    seen["dout after the call"] = dout


MAX_POOL = Dictionary("max_pool", FORWARD, BACKWARD, after_forward, after_backward, FORWARD_ROWS, BACKWARD_ROWS)
