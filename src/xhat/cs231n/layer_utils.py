"""Layers that come together: one forward and one backward for each sandwich."""

from collections.abc import Mapping, MutableMapping
from typing import Any

from numpy.typing import ArrayLike

from xhat.checks import Array
from xhat.cs231n import fast_layers, layers
from xhat.cs231n.fast_layers import *  # noqa: F403  (the course's notebooks reach them through here)
from xhat.cs231n.layers import *  # noqa: F403

__all__: list[str] = [
    "affine_relu_backward",
    "affine_relu_forward",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
]
__all__ += fast_layers.__all__
__all__ += layers.__all__


def affine_relu_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike) -> tuple[Array, tuple[Any, Any]]:
    """Affine, then ReLU; the cache is `(fc_cache, relu_cache)`."""
    a, fc_cache = layers.affine_forward(x, w, b)
    out, relu_cache = layers.relu_forward(a)
    return out, (fc_cache, relu_cache)


def affine_relu_backward(dout: ArrayLike, cache: tuple[Any, Any]) -> tuple[Array, Array, Array]:
    """Return dx, dw and db."""
    fc_cache, relu_cache = cache
    return layers.affine_backward(layers.relu_backward(dout, relu_cache), fc_cache)


def conv_relu_forward(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: Mapping[str, Any]
) -> tuple[Array, tuple[Any, Any]]:
    """Convolution, then ReLU; the cache is `(conv_cache, relu_cache)`."""
    a, conv_cache = fast_layers.conv_forward_fast(x, w, b, conv_param)
    out, relu_cache = layers.relu_forward(a)
    return out, (conv_cache, relu_cache)


def conv_relu_backward(dout: ArrayLike, cache: tuple[Any, Any]) -> tuple[Array, Array, Array]:
    """Return dx, dw and db."""
    conv_cache, relu_cache = cache
    return fast_layers.conv_backward_fast(layers.relu_backward(dout, relu_cache), conv_cache)


def conv_bn_relu_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    conv_param: Mapping[str, Any],
    bn_param: MutableMapping[str, Any],
) -> tuple[Array, tuple[Any, Any, Any]]:
    """Convolution, spatial batch norm, ReLU; the cache is `(conv_cache, bn_cache, relu_cache)`."""
    a, conv_cache = fast_layers.conv_forward_fast(x, w, b, conv_param)
    an, bn_cache = layers.spatial_batchnorm_forward(a, gamma, beta, bn_param)
    out, relu_cache = layers.relu_forward(an)
    return out, (conv_cache, bn_cache, relu_cache)


def conv_bn_relu_backward(dout: ArrayLike, cache: tuple[Any, Any, Any]) -> tuple[Array, Array, Array, Array, Array]:
    """Return dx, dw, db, dgamma and dbeta."""
    conv_cache, bn_cache, relu_cache = cache
    da, dgamma, dbeta = layers.spatial_batchnorm_backward(layers.relu_backward(dout, relu_cache), bn_cache)
    return *fast_layers.conv_backward_fast(da, conv_cache), dgamma, dbeta


def conv_relu_pool_forward(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: Mapping[str, Any], pool_param: Mapping[str, Any]
) -> tuple[Array, tuple[Any, Any, Any]]:
    """Convolution, ReLU, max pool; the cache is `(conv_cache, relu_cache, pool_cache)`."""
    a, conv_cache = fast_layers.conv_forward_fast(x, w, b, conv_param)
    s, relu_cache = layers.relu_forward(a)
    out, pool_cache = fast_layers.max_pool_forward_fast(s, pool_param)
    return out, (conv_cache, relu_cache, pool_cache)


def conv_relu_pool_backward(dout: ArrayLike, cache: tuple[Any, Any, Any]) -> tuple[Array, Array, Array]:
    """Return dx, dw and db."""
    conv_cache, relu_cache, pool_cache = cache
    ds = fast_layers.max_pool_backward_fast(dout, pool_cache)
    return fast_layers.conv_backward_fast(layers.relu_backward(ds, relu_cache), conv_cache)
