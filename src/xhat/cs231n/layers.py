"""The course's layers: forward returns `(out, cache)`, backward takes `(dout, cache)`.

A cache has the contents that the course prescribes where it prescribes any, so that a forward of one's own can be
paired with a backward of these, and the other way round. The batch, layer and group norm caches are xhat's.
"""

import math
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_gradient, as_parameter, as_real, check_cache
from xhat.cs231n import years
from xhat.cs231n.arrays import as_convolution, as_floats, as_pooling, check_axes
from xhat.layers import affine, batch_norm, conv, group_norm, layer_norm, max_pool, relu
from xhat.layers.losses import hinge_loss, softmax_cross_entropy

__all__ = [
    "affine_backward",
    "affine_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward_naive",
    "conv_forward_naive",
    "dropout_backward",
    "dropout_forward",
    "layernorm_backward",
    "layernorm_forward",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
    "relu_backward",
    "relu_forward",
    "softmax_loss",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "svm_loss",
]

Gradients = tuple[Array, Array, Array]
AffineCache = tuple[ArrayLike, ArrayLike, ArrayLike]
BatchNormCache = batch_norm.Cache | batch_norm.FixedCache
DropoutCache = tuple[Mapping[str, Any], Array | None]


class GroupNormCache(NamedTuple):
    """What backward needs, and whether gamma and beta came as (1, C, 1, 1)."""

    cache: group_norm.Cache
    spread: tuple[bool, bool]


def affine_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike) -> tuple[Array, AffineCache]:
    """Multiply each sample, flattened, by w and add b.

    Parameters
    ----------
    x : array_like, shape (N, d_1, ..., d_k)
    w : array_like, shape (D, M), with D the product of d_1 ... d_k
    b : array_like, shape (M,)

    Returns
    -------
    out : array, shape (N, M)
    cache : tuple
        `(x, w, b)`, as they were given.

    Raises
    ------
    TypeError, ValueError
        If an argument is not numeric or a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.cs231n.layers import affine_forward
    >>> out, cache = affine_forward(np.ones((2, 3, 4)), np.ones((12, 1)), [5])
    >>> print(out.ravel())
    [17. 17.]
    """
    samples, weights, bias = as_floats(x, w, b)
    out, _ = affine.forward(_flat(samples), weights, bias)
    return out, (x, w, b)


def affine_backward(dout: ArrayLike, cache: AffineCache) -> Gradients:
    """Return dx in the shape of x, dw and db."""
    x, w, b = as_floats(*cache)
    dx, dw, db = cast("Gradients", affine.backward(as_floats(dout)[0], affine.Cache(_flat(x), w, b)))
    return dx.reshape(x.shape), dw, db


def relu_forward(x: ArrayLike) -> tuple[Array, ArrayLike]:
    """Return `max(x, 0)`, and x as the cache."""
    return relu.forward(as_floats(x)[0])[0], x


def relu_backward(dout: ArrayLike, cache: ArrayLike) -> Array:
    """Return dx: dout where x is positive, a new array."""
    return relu.backward(as_floats(dout)[0], relu.Cache(as_floats(cache)[0])).dx


def softmax_loss(x: ArrayLike, y: ArrayLike) -> tuple[float, Array]:
    """Return the average cross-entropy of the scores x (N, C) against the labels y (N,), in nats, and dx.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.cs231n.layers import softmax_loss
    >>> loss, dx = softmax_loss(np.array([[1000.0, 0.0]]), np.array([1]))
    >>> print(loss, dx)
    1000.0 [[ 1. -1.]]
    """
    return softmax_cross_entropy(as_floats(x)[0], y)


def svm_loss(x: ArrayLike, y: ArrayLike) -> tuple[float, Array]:
    """Return the average multiclass hinge loss, with a margin of 1, of the scores x (N, C) against y (N,), and dx."""
    return hinge_loss(as_floats(x)[0], y)


def batchnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: MutableMapping[str, Any]
) -> tuple[Array, BatchNormCache]:
    """Normalize each feature over the batch in mode "train", with the running statistics in mode "test".

    Parameters
    ----------
    x : array_like, shape (N, D)
    gamma, beta : array_like, shape (D,)
    bn_param : dict
        - ``mode``: "train" or "test"; required.
        - ``eps``: 1e-5; added to the variance.
        - ``momentum``: 0.9; the share of the *old* running statistics that is kept. In xhat's words 1 - update_rate.
        - ``running_mean``, ``running_var``: shape (D,); zeros. The variance is the biased one. Both are put into the
          dict by every call; "train" puts new arrays there.

    Returns
    -------
    out : array, shape (N, D)
    cache
        For both backward functions. In mode "test" too: there the statistics are constants.

    Raises
    ------
    TypeError, ValueError
        If the mode is another, an argument is not numeric or a shape does not fit; the dict is not changed then.

    Notes
    -----
    A batch of one sample has no variance: out is beta, and nothing passes back to x and gamma, as the course's formula
    has it. xhat's own `batch_norm.forward` refuses such a batch. A NaN or Inf in the batch does not get into the
    running statistics, which stay as they were.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.cs231n.layers import batchnorm_forward
    >>> bn_param = {"mode": "train"}
    >>> out, cache = batchnorm_forward(np.array([[0.0], [10.0]]), [1], [0], bn_param)
    >>> print(out.ravel().round(4), bn_param["running_mean"], bn_param["running_var"])
    [-1.  1.] [0.5] [2.5]
    """
    x, gamma, beta = as_floats(x, gamma, beta)
    check_axes("batchnorm_forward", x, "N, D")
    return _batch_norm("batchnorm_forward", x, gamma, beta, bn_param)


def batchnorm_backward(dout: ArrayLike, cache: BatchNormCache) -> Gradients:
    """Return dx, dgamma and dbeta."""
    return batchnorm_backward_alt(dout, cache)


def batchnorm_backward_alt(dout: ArrayLike, cache: BatchNormCache) -> Gradients:
    """Return dx, dgamma and dbeta, from the closed form."""
    dx, dgamma, dbeta = cast("Gradients", batch_norm.backward(as_floats(dout)[0], cache))
    return dx, dgamma, dbeta


def spatial_batchnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: MutableMapping[str, Any]
) -> tuple[Array, BatchNormCache]:
    """Normalize each channel of x (N, C, H, W) over the batch and all positions; gamma and beta are (C,).

    Everything else is as in `batchnorm_forward`; the running statistics are (C,).
    """
    x, gamma, beta = as_floats(x, gamma, beta)
    check_axes("spatial_batchnorm_forward", x, "N, C, H, W")
    return _batch_norm("spatial_batchnorm_forward", x, gamma, beta, bn_param)


def spatial_batchnorm_backward(dout: ArrayLike, cache: BatchNormCache) -> Gradients:
    """Return dx (N, C, H, W), dgamma and dbeta (C,)."""
    return batchnorm_backward_alt(dout, cache)


def layernorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, ln_param: Mapping[str, Any]
) -> tuple[Array, layer_norm.Cache]:
    """Normalize each sample of x (N, D) over its features; gamma and beta are (D,).

    Of `ln_param` only ``eps`` is read (1e-5); it may be empty, and may hold other keys.
    """
    x, gamma, beta = as_floats(x, gamma, beta)
    check_axes("layernorm_forward", x, "N, D")
    return layer_norm.forward(x, gamma, beta, eps=ln_param.get("eps", 1e-5))


def layernorm_backward(dout: ArrayLike, cache: layer_norm.Cache) -> Gradients:
    """Return dx (N, D), dgamma and dbeta (D,)."""
    dx, dgamma, dbeta = cast("Gradients", layer_norm.backward(as_floats(dout)[0], cache))
    return dx, dgamma, dbeta


def spatial_groupnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, G: int, gn_param: Mapping[str, Any]
) -> tuple[Array, GroupNormCache]:
    """Normalize each of G blocks of neighbouring channels of each sample of x (N, C, H, W).

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    gamma, beta : array_like, shape (1, C, 1, 1) or (C,)
        The gradients come back in the shape that these have.
    G : int
        Number of groups; divides C.
    gn_param : dict
        Only ``eps`` is read (1e-5); it may be empty, and may hold other keys.

    Returns
    -------
    out : array, shape (N, C, H, W)
    cache
        For `spatial_groupnorm_backward`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not numeric, a shape does not fit, or G does not divide C.
    """
    who = "spatial_groupnorm_forward"
    x, gamma, beta = as_floats(x, gamma, beta)
    check_axes(who, x, "N, C, H, W")
    channels = x.shape[1]
    for name, parameter in (("gamma", gamma), ("beta", beta)):
        if parameter.shape not in ((1, channels, 1, 1), (channels,)):
            raise ValueError(
                f"{who}: expected {name} of shape {(1, channels, 1, 1)} or {(channels,)}, got {parameter.shape}. "
                "Give one entry per channel, not per group."
            )
    eps = gn_param.get("eps", 1e-5)
    out, cache = group_norm.forward(x, gamma.reshape(-1), beta.reshape(-1), groups=G, eps=eps)
    return out, GroupNormCache(cache, (gamma.ndim == 4, beta.ndim == 4))


def spatial_groupnorm_backward(dout: ArrayLike, cache: GroupNormCache) -> Gradients:
    """Return dx (N, C, H, W), and dgamma and dbeta in the shapes of gamma and beta."""
    check_cache("spatial_groupnorm_backward", cache, GroupNormCache)
    dx, dgamma, dbeta = cast("Gradients", group_norm.backward(as_floats(dout)[0], cache.cache))
    spread_gamma, spread_beta = cache.spread
    return (
        dx,
        dgamma.reshape(1, -1, 1, 1) if spread_gamma else dgamma,
        dbeta.reshape(1, -1, 1, 1) if spread_beta else dbeta,
    )


def conv_forward_naive(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: Mapping[str, Any]
) -> tuple[Array, tuple[Any, ...]]:
    """Convolve pictures with filters (cross-correlation: filters are not flipped).

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    w : array_like, shape (F, C, HH, WW)
    b : array_like, shape (F,)
    conv_param : dict
        ``stride``, how many pixels a window moves on, and ``pad``, how many rows and columns of zeros go around x;
        both required.

    Returns
    -------
    out : array, shape (N, F, H', W')
        H' = 1 + floor((H + 2 pad - HH) / stride), W' likewise.
    cache : tuple
        `(x, w, b, conv_param)`, as they were given.

    Raises
    ------
    TypeError, ValueError
        If an argument is not numeric or a shape does not fit.

    Notes
    -----
    xhat's reference: the equations in NumPy. `fast_layers` has the fast path.
    """
    judged, _ = as_convolution("conv_forward_naive", x, w, b, conv_param)
    out, _ = conv.reference_forward(*judged)
    return out, (x, w, b, conv_param)


def conv_backward_naive(dout: ArrayLike, cache: tuple[Any, ...]) -> Gradients:
    """Return dx, dw and db."""
    who = "conv_backward_naive"
    judged, shape = as_convolution(who, *cache[:4])
    dy = as_gradient(who, as_floats(dout)[0], shape, judged.x.dtype)
    dx, dw, db = cast("Gradients", conv.reference_backward(dy, judged))
    return dx, dw, db


def max_pool_forward_naive(x: ArrayLike, pool_param: Mapping[str, Any]) -> tuple[Array, tuple[Any, ...]]:
    """Take the largest number of every window.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    pool_param : dict
        ``pool_height``, ``pool_width`` and ``stride``; all required. Windows may overlap, and may leave rows and
        columns over at the end.

    Returns
    -------
    out : array, shape (N, C, H', W')
        H' = 1 + floor((H - pool_height) / stride), W' likewise.
    cache : tuple
        `(x, pool_param)`, as they were given.

    Raises
    ------
    TypeError, ValueError
        If x is not numeric, a number is not at least 1, or a window is larger than the picture.
    """
    out, _ = max_pool.reference_forward(*as_pooling("max_pool_forward_naive", x, pool_param))
    return out, (x, pool_param)


def max_pool_backward_naive(dout: ArrayLike, cache: tuple[Any, ...]) -> Array:
    """Return dx: each window's gradient goes to its first largest entry, to one also where several are equal."""
    who = "max_pool_backward_naive"
    out, pooled = max_pool.reference_forward(*as_pooling(who, *cache[:2]))
    return max_pool.reference_backward(as_gradient(who, as_floats(dout)[0], out.shape, out.dtype), pooled).dx


def dropout_forward(x: ArrayLike, dropout_param: Mapping[str, Any]) -> tuple[Array, DropoutCache]:
    """Drop a random part of x in mode "train" and scale up the rest; pass x on in mode "test".

    Parameters
    ----------
    x : array_like
        Any shape.
    dropout_param : dict
        - ``p``: the share *kept*, in [0, 1]; until 2017 the share dropped (see `xhat.cs231n.set_year`).
        - ``mode``: "train" or "test".
        - ``seed``: optional; NumPy's global generator is set to it by every call, in both modes.

    Returns
    -------
    out : array
        Shape of x.
    cache : tuple
        `(dropout_param, mask)`, the dict itself. The mask is 1 / (share kept) where x is kept, else 0; None in "test".

    Raises
    ------
    TypeError, ValueError
        If p is no share, or the mode is another.

    Notes
    -----
    The mask is one draw of `numpy.random.rand(*x.shape)` from the global generator, kept where it is below p
    (until 2017: above p). A p that keeps nothing gives zeros.
    """
    who = "dropout_forward"
    (x,) = as_floats(x)
    p_is_kept = years.form().p_is_kept
    meaning = "the share kept" if p_is_kept else "the share dropped"
    advice = f"In {years.current_year()} it is {meaning}; xhat.cs231n.set_year chooses the year."
    p = as_real(who, "p", dropout_param["p"], 0.0, 1.0, advice)
    if dropout_param.get("seed") is not None:
        np.random.seed(dropout_param["seed"])
    if dropout_param["mode"] == "test":
        return x, (dropout_param, None)
    if dropout_param["mode"] != "train":
        raise ValueError(f"{who}: expected mode 'train' or 'test', got {dropout_param['mode']!r}. Choose one of these.")
    draw = np.random.rand(*x.shape)
    keep, share = (draw < p, p) if p_is_kept else (draw > p, 1 - p)
    mask = np.asarray(keep / (share or 1))  # where nothing is kept there is nothing to scale
    return (x * mask).astype(x.dtype, copy=False), (dropout_param, mask)


def dropout_backward(dout: ArrayLike, cache: DropoutCache) -> Array:
    """Return dx: dout times the mask in mode "train", dout in "test". The mode is read from the dict in the cache."""
    dropout_param, mask = cache
    (dy,) = as_floats(dout)
    if dropout_param["mode"] == "test" or mask is None:
        return dy
    return (dy * mask).astype(dy.dtype, copy=False)


def _flat(x: Array) -> Array:
    """Return a matrix with a row per sample."""
    return x.reshape(*x.shape[:1], math.prod(x.shape[1:]))


def _batch_norm(
    who: str, x: Array, gamma: Array, beta: Array, bn_param: MutableMapping[str, Any]
) -> tuple[Array, BatchNormCache]:
    """Normalize over all axes of x but the second, and put the running statistics into the dict."""
    mode, eps = bn_param["mode"], bn_param.get("eps", 1e-5)
    if mode not in ("train", "test"):
        raise ValueError(f'Invalid forward batchnorm mode "{mode}"')
    advice = "It is the share of the old running statistics that is kept; 0.9 is usual."
    momentum = as_real(who, "momentum", bn_param.get("momentum", 0.9), 0.0, 1.0, advice)
    running_mean, running_var = (
        as_parameter(who, name, bn_param.get(name, np.zeros(x.shape[1], x.dtype)), x.shape[1:2], "It has x's channels.")
        for name in ("running_mean", "running_var")
    )
    cache: BatchNormCache
    if mode == "test":
        y, cache = batch_norm.apply(x, gamma, beta, running_mean, running_var, eps)
    else:
        if x.size == x.shape[1]:
            wide, cache = batch_norm.reference_forward(x.astype(np.float64), gamma, beta, eps)
            y, cache = wide.astype(x.dtype), cache._replace(x=x)
        else:
            y, cache = batch_norm.forward(x, gamma, beta, eps)
        if x.size and np.isfinite(cache.mean).all() and np.isfinite(cache.var).all():
            running_mean = _mixed(running_mean, cache.mean, momentum)
            running_var = _mixed(running_var, cache.var, momentum)
    bn_param["running_mean"], bn_param["running_var"] = running_mean, running_var
    return y, cache


def _mixed(old: Array, new: Array, momentum: float) -> Array:
    """Return the running statistic with the batch's taken in, of the type of the old one."""
    return (momentum * old + (1 - momentum) * new).astype(old.dtype, copy=False)
