"""Mistakes in batch norm of images (N, C, H, W), made of batch norm of (N, D) as the course proposes."""

from __future__ import annotations

from typing import Any

import numpy as np

from xhat.verify.faults import batch_norm
from xhat.verify.faults.dictionary import Dictionary, Function, Rows, Seen, normal, put_gradients

FORWARD = """
def spatial_batchnorm_forward(x, gamma, beta, bn_param):
    N, C, H, W = x.shape
    x_moved = x.transpose(0, 2, 3, 1)
    x_rows = x_moved.reshape(N * H * W, C)
    out_rows, cache = batchnorm_forward(x_rows, gamma, beta, bn_param)
    out = out_rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)
    return out, cache
"""

BACKWARD = """
def spatial_batchnorm_backward(dout, cache):
    N, C, H, W = dout.shape
    dout_moved = dout.transpose(0, 2, 3, 1)
    dout_rows = dout_moved.reshape(N * H * W, C)
    dx_rows, dgamma, dbeta = batchnorm_backward(dout_rows, cache)
    dx = dx_rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)
    return dx, dgamma, dbeta
"""

FORWARD_ROWS: Rows = {
    "reshaped_without_transpose": (
        "x is reshaped to (N*H*W, C) without moving the channels last, which mixes them: transpose(0, 2, 3, 1) first.",
        "x.transpose(0, 2, 3, 1)",
        "x",
        "out_rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)",
        "out_rows.reshape(N, C, H, W)",
    ),
    "rows_not_moved": (
        "The channels are not last when x is reshaped to (N*H*W, C): transpose(0, 2, 3, 1) first.",
        "x.transpose(0, 2, 3, 1)",
        "x",
    ),
    "not_moved_back": (
        "The output is reshaped to (N, C, H, W) directly: reshape to (N, H, W, C), then transpose(0, 3, 1, 2).",
        "out_rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)",
        "out_rows.reshape(N, C, H, W)",
    ),
    "moved_back_transposed": (
        "Height and width are exchanged on the way: the inverse of transpose(0, 2, 3, 1) is transpose(0, 3, 1, 2).",
        "transpose(0, 3, 1, 2)",
        "transpose(0, 3, 2, 1)",
    ),
    "channels_left_last": (
        "The channels are left last: transpose(0, 3, 1, 2) brings them back.",
        "out_rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)",
        "out_rows.reshape(N, H, W, C)",
    ),
    "moved_by_channels_first": (
        "x is moved to (C, N, H, W) and then reshaped to (N*H*W, C): reshape to (C, N*H*W) and transpose that.",
        "x.transpose(0, 2, 3, 1)",
        "x.transpose(1, 0, 2, 3)",
    ),
    "sample_by_sample": (
        "The statistics are taken sample by sample, as in instance norm: average over N, H and W.",
        "x_rows = x_moved.reshape(N * H * W, C)\n"
        "    out_rows, cache = batchnorm_forward(x_rows, gamma, beta, bn_param)",
        "x_rows = x_moved.reshape(N, H * W, C)\n"
        "    out_rows, cache = batchnorm_forward(x_moved.reshape(N * H * W, C), gamma, beta, bn_param)\n"
        '    eps = bn_param.get("eps", 1e-5)\n'
        '    if bn_param["mode"] == "train":\n'
        "        std = np.sqrt(x_rows.var(axis=1, keepdims=True) + eps)\n"
        "        out_rows = gamma * (x_rows - x_rows.mean(axis=1, keepdims=True)) / std + beta",
    ),
    "per_position": (
        "Each position has statistics of its own, averaged over the samples alone: average over N, H and W.",
        "out = out_rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)",
        'eps = bn_param.get("eps", 1e-5)\n'
        "    out = out_rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)\n"
        '    if bn_param["mode"] == "train":\n'
        "        std = np.sqrt(x.var(axis=0) + eps)\n"
        "        out = gamma.reshape(1, C, 1, 1) * (x - x.mean(axis=0)) / std + beta.reshape(1, C, 1, 1)",
    ),
    "bn_param_copied": (
        "batchnorm_forward gets a copy of bn_param, so that the running statistics are lost: pass bn_param itself.",
        "batchnorm_forward(x_rows, gamma, beta, bn_param)",
        "batchnorm_forward(x_rows, gamma, beta, dict(bn_param))",
    ),
    "eps_not_passed": (
        "eps of bn_param is not passed on: give batchnorm_forward the bn_param itself.",
        "out_rows, cache = batchnorm_forward(x_rows, gamma, beta, bn_param)",
        'eps = bn_param.pop("eps", None)\n'
        "    out_rows, cache = batchnorm_forward(x_rows, gamma, beta, bn_param)\n"
        "    if eps is not None:\n"
        '        bn_param["eps"] = eps',
    ),
    "gamma_beta_exchanged": (
        "gamma and beta are passed in exchanged order.",
        "batchnorm_forward(x_rows, gamma, beta, bn_param)",
        "batchnorm_forward(x_rows, beta, gamma, bn_param)",
    ),
}

BACKWARD_ROWS: Rows = {
    "reshaped_without_transpose": (
        "dout is reshaped to (N*H*W, C) without moving the channels last: transpose(0, 2, 3, 1), and back for dx.",
        "dout.transpose(0, 2, 3, 1)",
        "dout",
        "dx_rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)",
        "dx_rows.reshape(N, C, H, W)",
    ),
    "rows_not_moved": (
        "The channels are not last when dout is reshaped to (N*H*W, C): transpose(0, 2, 3, 1) first.",
        "dout.transpose(0, 2, 3, 1)",
        "dout",
    ),
    "not_moved_back": (
        "dx is reshaped to (N, C, H, W) directly: reshape to (N, H, W, C), then transpose(0, 3, 1, 2).",
        "dx_rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)",
        "dx_rows.reshape(N, C, H, W)",
    ),
    "moved_back_transposed": (
        "Height and width are exchanged in dx: the inverse of transpose(0, 2, 3, 1) is transpose(0, 3, 1, 2).",
        "transpose(0, 3, 1, 2)",
        "transpose(0, 3, 2, 1)",
    ),
    "channels_left_last": (
        "The channels of dx are left last: transpose(0, 3, 1, 2) brings them back.",
        "dx_rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)",
        "dx_rows.reshape(N, H, W, C)",
    ),
    "moved_by_channels_first": (
        "dout is moved to (C, N, H, W) and then reshaped to (N*H*W, C): use transpose(0, 2, 3, 1).",
        "dout.transpose(0, 2, 3, 1)",
        "dout.transpose(1, 0, 2, 3)",
    ),
    "exchanged": (
        "dgamma and dbeta are returned in exchanged order: return dx, dgamma, dbeta.",
        "return dx, dgamma, dbeta",
        "return dx, dbeta, dgamma",
    ),
    "averaged_over_positions": (
        "dgamma and dbeta are averaged over the positions: sum over N, H and W.",
        "return dx, dgamma, dbeta",
        "return dx, dgamma / (H * W), dbeta / (H * W)",
    ),
    "per_position": (
        "dbeta is summed over the samples alone: sum over H and W too.",
        "return dx, dgamma, dbeta",
        "return dx, dgamma, np.sum(dout, axis=0)",
    ),
}

X, DOUT, X_TEST = 2 * normal(41, 3, 4, 2, 3) + 1.5, normal(42, 3, 4, 2, 3), normal(43, 2, 4, 2, 3)
GAMMA, BETA = np.array([1.3, -0.7, 0.6, -1.8]), normal(44, 4)
RUNNING_MEAN, RUNNING_VAR = normal(45, 4), np.array([0.8, 1.7, 0.5, 1.1])


def after_forward(forward: Function, seen: Seen) -> Any:
    """Train once, and predict."""

    def state(mode: str) -> dict[str, Any]:
        statistics = {"running_mean": RUNNING_MEAN.copy(), "running_var": RUNNING_VAR.copy()}
        return {"mode": mode, "eps": 0.37, "momentum": 0.83, **statistics}

    x, train, test = X.copy(), state("train"), state("test")
    seen["out"], cache = forward(x, GAMMA.copy(), BETA.copy(), train)
    seen["x after the call"] = x
    for name in ("running_mean", "running_var"):
        seen[name] = train[name]
    seen["out (test)"] = forward(X_TEST.copy(), GAMMA.copy(), BETA.copy(), test)[0]
    for name in ("running_mean", "running_var"):
        seen[f"{name} after test mode"] = test[name]
    return cache


def after_backward(backward: Function, cache: Any, seen: Seen) -> None:
    """Go back once."""
    dout = DOUT.copy()
    put_gradients(backward(dout, cache), ("dx", "dgamma", "dbeta"), seen)
    seen["dout after the call"] = dout


SPATIAL_BATCH_NORM = Dictionary(
    "spatial_batch_norm",
    FORWARD,
    BACKWARD,
    after_forward,
    after_backward,
    FORWARD_ROWS,
    BACKWARD_ROWS,
    before=f"{batch_norm.FORWARD}\n{batch_norm.BACKWARD}",
)
