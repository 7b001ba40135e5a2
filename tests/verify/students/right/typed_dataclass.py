from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class BatchNormCache:
    x_hat: Array
    inverse_std: Array
    gamma: Array


@dataclass(frozen=True)
class LayerNormCache:
    x_hat: Array
    inverse_std: Array
    gamma: Array


def batchnorm_forward(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[Array, BatchNormCache]:
    centred: Array = x - x.mean(axis=0)
    inverse_std: Array = 1.0 / np.sqrt(np.mean(np.square(centred), axis=0) + eps)
    x_hat = centred * inverse_std
    return gamma * x_hat + beta, BatchNormCache(x_hat, inverse_std, gamma)


def batchnorm_backward(dout: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    dgamma = (dout * cache.x_hat).sum(axis=0)
    dbeta = dout.sum(axis=0)
    n = dout.shape[0]
    dx = cache.gamma * cache.inverse_std * (dout - (dbeta + cache.x_hat * dgamma) / n)
    return dx, dgamma, dbeta


def layernorm_forward(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[Array, LayerNormCache]:
    centred = x - x.mean(axis=-1, keepdims=True)
    inverse_std = 1.0 / np.sqrt(np.mean(np.square(centred), axis=-1, keepdims=True) + eps)
    return gamma * centred * inverse_std + beta, LayerNormCache(
        x_hat=centred * inverse_std, inverse_std=inverse_std, gamma=gamma
    )


def layernorm_backward(dout: Array, cache: LayerNormCache) -> tuple[Array, Array, Array]:
    g = dout * cache.gamma
    along = np.mean(g * cache.x_hat, axis=-1, keepdims=True)
    dx = cache.inverse_std * (g - np.mean(g, axis=-1, keepdims=True) - cache.x_hat * along)
    return dx, (dout * cache.x_hat).sum(axis=0), dout.sum(axis=0)
