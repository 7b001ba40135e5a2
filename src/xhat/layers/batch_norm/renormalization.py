"""Batch renormalization: normalize a small batch as the running statistics would, without losing the batch's gradient.

    r = clip(root of batch variance + eps / root of running variance + eps, 1/r_max, r_max)
    d = clip((batch mean - running mean) / root of running variance + eps, -d_max, d_max)
    y = (x_hat * r + d) * gamma + beta

Where nothing is clipped, x_hat * r + d is x normalized with the running statistics, which is what prediction does. In
the backward pass r and d are constants, so this is batch norm with gamma * r for gamma and beta + gamma * d for beta:

    dx that of batch norm     dgamma = r * sum(dy * x_hat) + d * sum(dy)     dbeta = sum(dy)

Source: Ioffe 2017, "Batch renormalization", arXiv:1702.03275, algorithm 1; there the running statistic is the root,
here it is the variance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xhat.checks import Array
from xhat.layers.batch_norm.reference import (
    Cache,
    Grads,
    Moments,
    reference_backward,
    reference_forward,
    reference_moments,
)


class RenormCache(NamedTuple):
    """What backward needs after batch renormalization."""

    batch: Cache  # of batch norm, with gamma * r and beta + gamma * d
    gamma: Array | None  # (C,)
    beta: Array | None  # (C,)
    r: Array  # (C,) float64, no unit
    d: Array  # (C,) float64, no unit


def reference_renorm(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    var: Array,
    eps: float,
    channel_axis: int = 1,
    weights: Array | None = None,
    *,
    r_max: float,
    d_max: float,
) -> tuple[Array, RenormCache]:
    """Normalize the batch, then bring it to the scale and the place that the running statistics would give it."""
    batch = reference_moments(x, channel_axis, weights)
    r, d = correction(batch, mean, var, eps, r_max, d_max)
    y, cache = reference_forward(x, *corrected(gamma, beta, r, d), eps, channel_axis, weights, batch)
    return y, RenormCache(cache, gamma, beta, r, d)


def reference_renorm_backward(dy: Array, cache: RenormCache) -> Grads:
    """Take the gradients of batch norm; gamma stood before x_hat * r + d."""
    dx, dscale, dshift = reference_backward(dy, cache.batch)
    return Grads(dx, *parameter_gradients(dscale, dshift, cache))


def correction(batch: Moments, mean: Array, var: Array, eps: float, r_max: float, d_max: float) -> tuple[Array, Array]:
    """Return r and d: constants for the backward pass, so only real parts enter, which a complex step does not move."""
    root = np.sqrt(np.real(batch.squares) / (batch.count or 1) + eps)
    spread = var + eps
    rstd = np.where(spread == 0, 0, (spread + (spread == 0)) ** -0.5)
    r = np.clip(root * rstd, 1 / r_max, r_max)
    d = np.clip((np.real(batch.mean) - mean + np.real(batch.mean_low)) * rstd, -d_max, d_max)
    return r, d


def corrected(gamma: Array | None, beta: Array | None, r: Array, d: Array) -> tuple[Array, Array]:
    """Return the gamma and beta with which batch norm gives (x_hat * r + d) * gamma + beta."""
    scale, shift = (r, d) if gamma is None else (gamma * r, gamma * d)
    return scale, shift if beta is None else beta + shift


def parameter_gradients(
    dscale: Array | None, dshift: Array | None, cache: RenormCache
) -> tuple[Array | None, Array | None]:
    """Return dgamma and dbeta from the gradients of what `corrected` made of gamma and beta."""
    assert dscale is not None
    assert dshift is not None
    return None if cache.gamma is None else dscale * cache.r + dshift * cache.d, None if cache.beta is None else dshift
