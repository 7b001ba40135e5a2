"""Dynamic tanh: squash instead of normalize. A layer that a newcomer might add; the contract tests push it through everything.

    y = gamma * tanh(alpha * x)          dz = dy * gamma * (1 - t²) with t = tanh(alpha * x)
    dx = alpha * dz          dalpha = sum(dz * x)          dgamma = sum over samples of dy * t

Source: Zhu et al. 2025, "Transformers without normalization", arXiv:2503.10622; without beta.
"""

from typing import NamedTuple

import numpy as np

from xhat.checks import as_gradient, as_parameter, as_values, check_cache
from xhat.core import Case, Layer, Op


class Cache(NamedTuple):
    x: np.ndarray  # (..., D)
    alpha: np.ndarray  # (), unit of 1/x
    gamma: np.ndarray  # (D,), unit of y


class Grads(NamedTuple):
    dx: np.ndarray
    dalpha: np.ndarray
    dgamma: np.ndarray


def reference_forward(x, alpha, gamma):
    return gamma * np.tanh(alpha * x), Cache(x, alpha, gamma)


def reference_backward(dy, cache):
    x, alpha, gamma = cache
    t = np.tanh(alpha * x)
    dz = dy * gamma * (1 - t * t)
    samples = tuple(range(x.ndim - 1))
    return Grads(dx=alpha * dz, dalpha=(dz * x).sum(), dgamma=(dy * t).sum(samples))


def forward(x, alpha, gamma):
    x, alpha, gamma = _inputs("dynamic_tanh.forward", x, alpha, gamma)
    y, _ = reference_forward(x.astype(np.float64), alpha.astype(np.float64), gamma.astype(np.float64))
    return y.astype(x.dtype), Cache(x, alpha, gamma)


def backward(dy, cache):
    who = "dynamic_tanh.backward"
    check_cache(who, cache, Cache)
    x, alpha, gamma = _inputs(who, *cache)
    dy = as_gradient(who, dy, x.shape, x.dtype).astype(np.float64)
    dx, dalpha, dgamma = reference_backward(dy, Cache(*(values.astype(np.float64) for values in (x, alpha, gamma))))
    return Grads(dx.astype(x.dtype), np.asarray(dalpha, alpha.dtype), dgamma.astype(gamma.dtype))


def _inputs(who, x, alpha, gamma):
    x = as_values(who, "x", x)
    alpha = as_parameter(who, "alpha", alpha, (), "Give one number.")
    return x, alpha, as_parameter(who, "gamma", gamma, x.shape[-1:], "Give one entry per feature.")


OP = Op(forward, backward, reference_forward, reference_backward)


class DynamicTanh(Layer):
    ops = (OP, OP)
    normalizes_features = True

    def __init__(self, features, *, dtype=np.float32):
        super().__init__()
        self.features = features
        self.parameters = {"alpha": np.asarray(0.5, dtype), "gamma": np.ones(features, dtype)}

    @classmethod
    def cases(cls):
        yield Case(cls(4), x=(5, 4))
        yield Case(cls(3), x=(2, 5, 3))
        yield Case(  # tanh(log 2) = 3/5
            cls(2),
            x=np.log([[2.0, 0.5]]),
            parameters={"alpha": 1, "gamma": [5, 10]},
            y=[[3, -6]],
            dy=[[1, 1]],
            dx=[[3.2, 6.4]],
        )
