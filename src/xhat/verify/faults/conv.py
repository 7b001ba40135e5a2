"""Mistakes in the naive convolution: the course's signature, loops over samples, filters and positions."""

from __future__ import annotations

from typing import Any

from xhat.verify.faults.dictionary import Dictionary, Function, Rows, Seen, normal, put_gradients

FORWARD = """
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, C, HH, WW = w.shape
    H_out = 1 + (H + 2 * pad - HH) // stride
    W_out = 1 + (W + 2 * pad - WW) // stride
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="constant")
    out = np.zeros((N, F, H_out, W_out))
    for n in range(N):
        for f in range(F):
            for i in range(H_out):
                for j in range(W_out):
                    top = i * stride
                    left = j * stride
                    window = x_pad[n, :, top : top + HH, left : left + WW]
                    out[n, f, i, j] = np.sum(window * w[f]) + b[f]
    cache = (x, w, b, conv_param)
    return out, cache
"""

BACKWARD = """
def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, C, HH, WW = w.shape
    N, F, H_out, W_out = dout.shape
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="constant")
    dx_pad = np.zeros_like(x_pad)
    dw = np.zeros_like(w)
    db = np.sum(dout, axis=(0, 2, 3))
    for n in range(N):
        for f in range(F):
            for i in range(H_out):
                for j in range(W_out):
                    top = i * stride
                    left = j * stride
                    window = x_pad[n, :, top : top + HH, left : left + WW]
                    dw[f] += window * dout[n, f, i, j]
                    dx_pad[n, :, top : top + HH, left : left + WW] += w[f] * dout[n, f, i, j]
    dx = dx_pad[:, :, pad : pad + H, pad : pad + W]
    return dx, dw, db
"""

FORWARD_ROWS: Rows = {
    "bias_missing": ("b is not added.", "np.sum(window * w[f]) + b[f]", "np.sum(window * w[f])"),
    "bias_inside": (
        "b is added to every product of the window: add it once.",
        "np.sum(window * w[f]) + b[f]",
        "np.sum(window * w[f] + b[f])",
    ),
    "kernel_flipped": (
        "The filter is flipped: what networks call convolution is not, multiply by w[f] as it lies.",
        "np.sum(window * w[f])",
        "np.sum(window * w[f, :, ::-1, ::-1])",
    ),
    "averaged": ("The products are averaged: sum them.", "np.sum(window * w[f])", "np.mean(window * w[f])"),
    "one_channel": (
        "Only the first channel is used: sum over all channels.",
        "np.sum(window * w[f])",
        "np.sum(window[0] * w[f, 0])",
    ),
    "stride_ignored": (
        "The stride is ignored where the window is taken: it begins at i * stride, j * stride.",
        "top = i * stride",
        "top = i",
        "left = j * stride",
        "left = j",
    ),
    "stride_ignored_across": (
        "The stride is ignored across: the window begins at j * stride.",
        "left = j * stride",
        "left = j",
    ),
    "pad_ignored": (
        "x is padded but not used padded: take the window from the padded array.",
        'np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="constant")',
        'np.pad(x, ((0, 0), (0, 0), (0, 2 * pad), (0, 2 * pad)), mode="constant")',
    ),
    "pad_not_zero": (
        "The border is filled with the edge of the image: pad with zeros.",
        'mode="constant"',
        'mode="edge"',
    ),
    "pad_with_ones": (
        "The border is filled with ones: pad with zeros.",
        'mode="constant"',
        'mode="constant", constant_values=1',
    ),
    "size_stride_missing": (
        "The output's height is not divided by the stride: H_out = 1 + (H + 2 * pad - HH) // stride.",
        "H_out = 1 + (H + 2 * pad - HH) // stride",
        "H_out = 1 + (H + 2 * pad - HH)",
        "top = i * stride",
        "top = min(i * stride, H + 2 * pad - HH)",
    ),
    "size_one_short": (
        "The output is one row short: H_out = 1 + (H + 2 * pad - HH) // stride.",
        "H_out = 1 + (H + 2 * pad - HH) // stride",
        "H_out = (H + 2 * pad - HH) // stride",
    ),
    "size_pad_once": (
        "The padding is counted once in the output's width: both sides are padded, 2 * pad.",
        "W_out = 1 + (W + 2 * pad - WW) // stride",
        "W_out = 1 + (W + pad - WW) // stride",
    ),
    "window_flipped": (
        "The rows of the window are reversed: take it as it lies.",
        "x_pad[n, :, top : top + HH, left : left + WW]",
        "x_pad[n, :, top : top + HH, left : left + WW][:, ::-1, :]",
    ),
    "sample_fixed": (
        "The window is always taken from the first sample: use x_pad[n].",
        "window = x_pad[n, :",
        "window = x_pad[0, :",
    ),
    "filter_fixed": ("The first filter is used for all: use w[f].", "window * w[f]", "window * w[0]"),
    "last_window": (
        "Later values overwrite: out[n, f, i, j] has one sum over the whole window.",
        "out[n, f, i, j] = np.sum(window * w[f]) + b[f]",
        "out[n, f, :, :] = np.sum(window * w[f]) + b[f]",
    ),
}

BACKWARD_ROWS: Rows = {
    "db_averaged": ("db is averaged: sum dout.", "np.sum(dout, axis=(0, 2, 3))", "np.mean(dout, axis=(0, 2, 3))"),
    "db_over_samples": (
        "db is summed over the samples alone: sum over the positions too, axis=(0, 2, 3).",
        "np.sum(dout, axis=(0, 2, 3))",
        "np.sum(dout, axis=0)",
    ),
    "db_over_positions": (
        "db is summed over the positions alone: sum over the samples too, axis=(0, 2, 3).",
        "np.sum(dout, axis=(0, 2, 3))",
        "np.sum(dout, axis=(2, 3))",
    ),
    "db_over_all": ("db is one number: give np.sum axis=(0, 2, 3).", "np.sum(dout, axis=(0, 2, 3))", "np.sum(dout)"),
    "stride_ignored": (
        "The stride is ignored: the window begins at i * stride, j * stride.",
        "top = i * stride",
        "top = i",
        "left = j * stride",
        "left = j",
    ),
    "stride_ignored_dw": (
        "The stride is ignored for dw: it takes the same windows as the forward pass.",
        "window = x_pad[n, :, top : top + HH, left : left + WW]",
        "window = x_pad[n, :, i : i + HH, j : j + WW]",
    ),
    "stride_ignored_dx": (
        "The stride is ignored for dx: it goes to the same windows as in the forward pass.",
        "dx_pad[n, :, top : top + HH, left : left + WW] +=",
        "dx_pad[n, :, i : i + HH, j : j + WW] +=",
    ),
    "dx_overwritten": (
        "Windows overlap, so dx must be added to: write += instead of =.",
        "dx_pad[n, :, top : top + HH, left : left + WW] +=",
        "dx_pad[n, :, top : top + HH, left : left + WW] =",
    ),
    "dw_overwritten": ("dw must be added up over all positions: write += instead of =.", "dw[f] +=", "dw[f] ="),
    "dx_flipped": (
        "The filter is flipped for dx: in this form each window gets w[f] as it lies.",
        "w[f] * dout[n, f, i, j]",
        "w[f, :, ::-1, ::-1] * dout[n, f, i, j]",
    ),
    "dw_flipped": (
        "The window is flipped for dw: take it as it lies.",
        "window * dout[n, f, i, j]",
        "window[:, ::-1, ::-1] * dout[n, f, i, j]",
    ),
    "dx_filter_fixed": (
        "dx takes the first filter for all: use w[f].",
        "w[f] * dout[n, f, i, j]",
        "w[0] * dout[n, f, i, j]",
    ),
    "dx_without_w": (
        "dx ignores the filter: multiply dout by w[f].",
        "w[f] * dout[n, f, i, j]",
        "np.ones_like(w[f]) * dout[n, f, i, j]",
    ),
    "dx_not_cropped": (
        "dx still has the border: cut pad rows and columns off each side.",
        "dx_pad[:, :, pad : pad + H, pad : pad + W]",
        "dx_pad",
    ),
    "dx_cropped_at_corner": (
        "The border is cut off one side only: dx begins at pad.",
        "dx_pad[:, :, pad : pad + H, pad : pad + W]",
        "dx_pad[:, :, :H, :W]",
    ),
    "dx_cropped_minus_pad": (
        "dx_pad[:, :, pad:-pad, pad:-pad] is empty where pad is 0: cut with pad : pad + H.",
        "dx_pad[:, :, pad : pad + H, pad : pad + W]",
        "dx_pad[:, :, pad:-pad, pad:-pad]",
    ),
    "dw_without_pad": (
        "dw takes windows of x without its border: use the padded x.",
        'np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="constant")',
        'np.pad(x, ((0, 0), (0, 0), (0, 2 * pad), (0, 2 * pad)), mode="constant")',
    ),
    "dw_averaged": (
        "dw is divided by N: dout already holds the loss's 1/N.",
        "window * dout[n, f, i, j]",
        "window * dout[n, f, i, j] / N",
    ),
    "dx_dw_exchanged": (
        "dx and dw are returned in exchanged order: return dx, dw, db.",
        "return dx, dw, db",
        "return dw, dx, db",
    ),
}

X, W, B = normal(91, 2, 2, 5, 4), normal(92, 2, 2, 3, 2), normal(93, 2)
DOUT, DOUT_BARE = normal(94, 2, 2, 3, 3), normal(95, 2, 2, 3, 3)


def after_forward(forward: Function, seen: Seen) -> Any:
    """Use a stride of 2 with a border, and a stride of 1 without."""
    x = X.copy()
    seen["out"], cache = forward(x, W.copy(), B.copy(), {"stride": 2, "pad": 1})
    seen["x after the call"] = x
    seen["out with pad 0"], bare = forward(X.copy(), W.copy(), B.copy(), {"stride": 1, "pad": 0})
    return cache, bare


def after_backward(backward: Function, cache: Any, seen: Seen) -> None:
    """Go back through both."""
    dout = DOUT.copy()
    put_gradients(backward(dout, cache[0]), ("dx", "dw", "db"), seen)
    seen["dout after the call"] = dout
    put_gradients(backward(DOUT_BARE.copy(), cache[1]), ("dx with pad 0", "dw with pad 0", "db with pad 0"), seen)


CONV = Dictionary("conv", FORWARD, BACKWARD, after_forward, after_backward, FORWARD_ROWS, BACKWARD_ROWS)
