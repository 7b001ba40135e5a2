"""Mistakes in group norm of x (N, C, H, W) over the channels of a group: the course's signature."""

from __future__ import annotations

from typing import Any

import numpy as np

from xhat.verify.faults import closed_form
from xhat.verify.faults.dictionary import Dictionary, Function, Seen, fill, filled, normal, put_gradients

WORDS = {
    "AXIS": "axis=(2, 3, 4), keepdims=True",
    "SUM": "axis=(0, 2, 3), keepdims=True",
    "X_HAT": "x_hat.reshape(N, C, H, W)",
    "x_hat_out": "x_hat.reshape(N, C, H, W)",
    "DOUT": "dout.reshape(N, G, C // G, H, W)",
    "(M - 1)": "(C // G * H * W - 1)",
    "dx_hat = dout": "dx_hat = dout.reshape(N, G, C // G, H, W)",
    "axis=0)": "axis=0, keepdims=True)",
}

FORWARD = f"""
def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    eps = gn_param.get("eps", 1e-5)
    N, C, H, W = x.shape
    x = x.reshape(N, G, C // G, H, W)
{filled(closed_form.NORMALIZED, **WORDS)}\
    gamma_x = gamma * x_hat.reshape(N, C, H, W)
    out = gamma_x + beta
    cache = (x_hat, gamma, std, var, eps, G)
    return out, cache
"""

BACKWARD = f"""
def spatial_groupnorm_backward(dout, cache):
    x_hat, gamma, std, var, eps, G = cache
    N, C, H, W = dout.shape
    dbeta = np.sum(dout, axis=(0, 2, 3), keepdims=True)
    dgamma = np.sum(dout * x_hat.reshape(N, C, H, W), axis=(0, 2, 3), keepdims=True)
    dy_gamma = dout * gamma
    dx_hat = dy_gamma.reshape(N, G, C // G, H, W)
{filled(closed_form.PROJECTED, **WORDS)}\
    dx = dx.reshape(N, C, H, W)
    return dx, dgamma, dbeta
"""

GAMMA_ROWS = {
    "gamma_missing": (
        "dx lacks the factor gamma: multiply dout by it.",
        "dy_gamma = dout * gamma",
        "dy_gamma = dout",
    ),
    "gamma_divided": (
        "dout is divided by gamma: multiply, as the forward pass does.",
        "dy_gamma = dout * gamma",
        "dy_gamma = dout / gamma",
    ),
    "gamma_squared": (
        "dx has a factor gamma too many: multiply dout by gamma once.",
        "dy_gamma = dout * gamma",
        "dy_gamma = dout * gamma**2",
    ),
    "dout_modified": (
        "dout is changed in place: write dout * gamma, which makes a new array.",
        "dy_gamma = dout * gamma",
        "dout *= gamma\n    dy_gamma = dout",
    ),
}

FORWARD_ROWS = {
    **fill(closed_form.FORWARD_ROWS, **WORDS),
    "groups_exchanged": (
        "There are C // G groups of G channels: reshape to (N, G, C // G, H, W).",
        "x = x.reshape(N, G, C // G, H, W)",
        "x = x.reshape(N, C // G, G, H, W)",
    ),
    "groups_interleaved": (
        "A group takes every G-th channel: groups are channels that stand side by side.",
        "x = x.reshape(N, G, C // G, H, W)",
        "x = x.reshape(N, C // G, G, H, W).swapaxes(1, 2)",
        "gamma_x = gamma * x_hat.reshape(N, C, H, W)",
        "gamma_x = gamma * x_hat.swapaxes(1, 2).reshape(N, C, H, W)",
    ),
    "statistics_per_channel": (
        "The statistics are taken per channel, as in instance norm: average over the channels of a group too.",
        "np.mean(x, axis=(2, 3, 4), keepdims=True)",
        "np.mean(x, axis=(3, 4), keepdims=True)",
        "np.mean(xmu**2, axis=(2, 3, 4), keepdims=True)",
        "np.mean(xmu**2, axis=(3, 4), keepdims=True)",
    ),
    "statistics_over_groups": (
        "The statistics are taken over all channels, as in layer norm: keep the groups apart.",
        "np.mean(x, axis=(2, 3, 4), keepdims=True)",
        "np.mean(x, axis=(1, 2, 3, 4), keepdims=True)",
        "np.mean(xmu**2, axis=(2, 3, 4), keepdims=True)",
        "np.mean(xmu**2, axis=(1, 2, 3, 4), keepdims=True)",
    ),
    "gamma_with_new_axes": (
        "gamma is given new axes though it has shape (1, C, 1, 1): multiply by it as it is.",
        "gamma_x = gamma * x_hat",
        "gamma_x = gamma[np.newaxis, :, np.newaxis, np.newaxis] * x_hat",
    ),
    "eps_ignored": (
        'eps is a fixed number: read it with gn_param.get("eps", 1e-5).',
        'gn_param.get("eps", 1e-5)',
        "1e-5",
    ),
}

BACKWARD_ROWS = {
    **fill(
        {key: row for key, row in closed_form.BACKWARD_ROWS.items() if key not in GAMMA_ROWS},
        **WORDS,
    ),
    **GAMMA_ROWS,
    **fill(closed_form.PARAMETER_ROWS, **WORDS),
    "dgamma_keepdims": (
        "dgamma has shape (C,): the course's gamma is (1, C, 1, 1), so give np.sum keepdims=True.",
        "np.sum(dout * x_hat.reshape(N, C, H, W), axis=(0, 2, 3), keepdims=True)",
        "np.sum(dout * x_hat.reshape(N, C, H, W), axis=(0, 2, 3))",
    ),
    "dbeta_keepdims": (
        "dbeta has shape (C,): the course's beta is (1, C, 1, 1), so give np.sum keepdims=True.",
        "np.sum(dout, axis=(0, 2, 3), keepdims=True)",
        "np.sum(dout, axis=(0, 2, 3))",
    ),
    "not_reshaped": (
        "dx is left in groups: reshape it to the shape of x.",
        "    dx = dx.reshape(N, C, H, W)\n",
        "",
    ),
    "mean_per_channel": (
        "The mean of dx_hat is taken per channel: average over the channels of a group too.",
        "np.mean(dx_hat, axis=(2, 3, 4), keepdims=True)",
        "np.mean(dx_hat, axis=(3, 4), keepdims=True)",
    ),
    "projection_per_channel": (
        "The mean of dx_hat * x_hat is taken per channel: average over the channels of a group too.",
        "np.mean(dx_hat * x_hat, axis=(2, 3, 4), keepdims=True)",
        "np.mean(dx_hat * x_hat, axis=(3, 4), keepdims=True)",
    ),
}

GROUPS = 2
X, DOUT = 2 * normal(21, 4, 6, 2, 1) + 1.5, normal(22, 4, 6, 2, 1)
GAMMA, BETA = np.array([1.3, -0.7, 0.6, -1.8, 0.4, 2.1]).reshape(1, 6, 1, 1), normal(23, 1, 6, 1, 1)


def after_forward(forward: Function, seen: Seen) -> Any:
    """Normalize six channels in two groups."""
    x = X.copy()
    seen["out"], cache = forward(x, GAMMA.copy(), BETA.copy(), GROUPS, {"eps": 0.37})
    seen["x after the call"] = x
    seen["out with defaults"] = forward(0.003 * X, GAMMA.copy(), BETA.copy(), GROUPS, {})[0]
    return cache


def after_backward(backward: Function, cache: Any, seen: Seen) -> None:
    """Go back once."""
    dout = DOUT.copy()
    put_gradients(backward(dout, cache), ("dx", "dgamma", "dbeta"), seen)
    seen["dout after the call"] = dout


GROUP_NORM = Dictionary(
    "group_norm",
    FORWARD,
    BACKWARD,
    after_forward,
    after_backward,
    FORWARD_ROWS,
    BACKWARD_ROWS,
    quantities={words: filled(expression, **WORDS) for words, expression in closed_form.QUANTITIES.items()},
)
