"""The course's layers: forward returns `(out, cache)`, backward takes `(dout, cache)`.

A cache has the contents that the course prescribes where it prescribes any, so that a forward of one's own can be
paired with a backward of these, and the other way round. The batch, layer and group norm caches are xhat's.
"""

import math
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_choice, as_count, as_eps, as_flag, as_gradient, as_parameter, as_real, check_cache
from xhat.cs231n import years
from xhat.cs231n.arrays import (
    as_convolution,
    as_floats,
    as_pooling,
    check_axes,
    contents,
    in_the_courses_words,
    setting,
)
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


@in_the_courses_words
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
    _, judged = _affine("affine_forward", x, w, b)
    out, _ = affine.forward(*judged)
    return out, (x, w, b)


@in_the_courses_words
def affine_backward(dout: ArrayLike, cache: AffineCache) -> Gradients:
    """Return dx in the shape of x, dw and db."""
    who = "affine_backward"
    shape, judged = _affine(who, *contents(who, cache, "x", "w", "b"))
    dx, dw, db = cast("Gradients", affine.backward(as_floats(who, dout=dout)[0], judged))
    return dx.reshape(shape), dw, db


@in_the_courses_words
def relu_forward(x: ArrayLike) -> tuple[Array, ArrayLike]:
    """Return `max(x, 0)`, and x as the cache."""
    return relu.forward(as_floats("relu_forward", x=x)[0])[0], x


@in_the_courses_words
def relu_backward(dout: ArrayLike, cache: ArrayLike) -> Array:
    """Return dx: dout where x is positive, a new array."""
    who = "relu_backward"
    (x,), (dy,) = as_floats(who, cache=cache), as_floats(who, dout=dout)
    return relu.backward(dy, relu.Cache(x)).dx


@in_the_courses_words
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
    return softmax_cross_entropy(as_floats("softmax_loss", x=x)[0], y)


@in_the_courses_words
def svm_loss(x: ArrayLike, y: ArrayLike) -> tuple[float, Array]:
    """Return the average multiclass hinge loss, with a margin of 1, of the scores x (N, C) against y (N,), and dx."""
    return hinge_loss(as_floats("svm_loss", x=x)[0], y)


@in_the_courses_words
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
    return _batch_norm("batchnorm_forward", "N, D", x, gamma, beta, bn_param)


@in_the_courses_words
def batchnorm_backward(dout: ArrayLike, cache: BatchNormCache) -> Gradients:
    """Return dx, dgamma and dbeta."""
    return batchnorm_backward_alt(dout, cache)


@in_the_courses_words
def batchnorm_backward_alt(dout: ArrayLike, cache: BatchNormCache) -> Gradients:
    """Return dx, dgamma and dbeta, from the closed form."""
    dx, dgamma, dbeta = cast("Gradients", batch_norm.backward(as_floats("batchnorm_backward", dout=dout)[0], cache))
    return dx, dgamma, dbeta


@in_the_courses_words
def spatial_batchnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: MutableMapping[str, Any]
) -> tuple[Array, BatchNormCache]:
    """Normalize each channel of x (N, C, H, W) over the batch and all positions; gamma and beta are (C,).

    Everything else is as in `batchnorm_forward`; the running statistics are (C,).
    """
    return _batch_norm("spatial_batchnorm_forward", "N, C, H, W", x, gamma, beta, bn_param)


@in_the_courses_words
def spatial_batchnorm_backward(dout: ArrayLike, cache: BatchNormCache) -> Gradients:
    """Return dx (N, C, H, W), dgamma and dbeta (C,)."""
    return batchnorm_backward_alt(dout, cache)


@in_the_courses_words
def layernorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, ln_param: Mapping[str, Any]
) -> tuple[Array, layer_norm.Cache]:
    """Normalize each sample of x (N, D) over its features; gamma and beta are (D,).

    Of `ln_param` only ``eps`` is read (1e-5); it may be empty, and may hold other keys.
    """
    x, gamma, beta = _with_parameters("layernorm_forward", "N, D", x, gamma, beta)
    return layer_norm.forward(x, gamma, beta, eps=ln_param.get("eps", 1e-5))


@in_the_courses_words
def layernorm_backward(dout: ArrayLike, cache: layer_norm.Cache) -> Gradients:
    """Return dx (N, D), dgamma and dbeta (D,)."""
    dx, dgamma, dbeta = cast("Gradients", layer_norm.backward(as_floats("layernorm_backward", dout=dout)[0], cache))
    return dx, dgamma, dbeta


@in_the_courses_words
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

    Notes
    -----
    A group of one value has no variance: out is beta, as the course's formula has it. xhat's own `group_norm.forward`
    refuses such groups.
    """
    who = "spatial_groupnorm_forward"
    x, gamma, beta = as_floats(who, x=x, gamma=gamma, beta=beta)
    check_axes(who, x, "N, C, H, W")
    channels = x.shape[1]
    for name, parameter in (("gamma", gamma), ("beta", beta)):
        if parameter.shape not in ((1, channels, 1, 1), (channels,)):
            raise ValueError(
                f"{who}: expected {name} of shape {(1, channels, 1, 1)} or {(channels,)}, got {parameter.shape}. "
                "Give one entry per channel, not per group."
            )
    eps = as_eps(who, gn_param.get("eps", 1e-5))
    groups = as_count(who, "G", G, 1, "It is the number of groups, a divisor of the number of channels.")
    spread, gamma, beta = (gamma.ndim == 4, beta.ndim == 4), gamma.reshape(-1), beta.reshape(-1)
    if groups == channels and x.shape[2:] == (1, 1):
        with np.errstate(all="ignore"):
            wide, cache = group_norm.reference_forward(x.astype(np.float64), gamma, beta, groups, eps, 1)
            return wide.astype(x.dtype), GroupNormCache(cache._replace(x=x), spread)
    out, cache = group_norm.forward(x, gamma, beta, groups=groups, eps=eps)
    return out, GroupNormCache(cache, spread)


@in_the_courses_words
def spatial_groupnorm_backward(dout: ArrayLike, cache: GroupNormCache) -> Gradients:
    """Return dx (N, C, H, W), and dgamma and dbeta in the shapes of gamma and beta."""
    who = "spatial_groupnorm_backward"
    check_cache(who, cache, GroupNormCache)
    spread_gamma, spread_beta = (as_flag(who, "cache.spread", flag) for flag in contents(who, cache.spread, "a", "b"))
    dx, dgamma, dbeta = cast("Gradients", group_norm.backward(as_floats(who, dout=dout)[0], cache.cache))
    return (
        dx,
        dgamma.reshape(1, -1, 1, 1) if spread_gamma else dgamma,
        dbeta.reshape(1, -1, 1, 1) if spread_beta else dbeta,
    )


@in_the_courses_words
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


@in_the_courses_words
def conv_backward_naive(dout: ArrayLike, cache: tuple[Any, ...]) -> Gradients:
    """Return dx, dw and db."""
    who = "conv_backward_naive"
    judged, shape = as_convolution(who, *contents(who, cache, "x", "w", "b", "conv_param"))
    dy = as_gradient(who, as_floats(who, dout=dout)[0], shape, judged.x.dtype)
    dx, dw, db = cast("Gradients", conv.reference_backward(dy, judged))
    return dx, dw, db


@in_the_courses_words
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


@in_the_courses_words
def max_pool_backward_naive(dout: ArrayLike, cache: tuple[Any, ...]) -> Array:
    """Return dx: each window's gradient goes to its first largest entry, to one also where several are equal."""
    who = "max_pool_backward_naive"
    out, pooled = max_pool.reference_forward(*as_pooling(who, *contents(who, cache, "x", "pool_param")))
    dy = as_gradient(who, as_floats(who, dout=dout)[0], out.shape, out.dtype)
    return max_pool.reference_backward(dy, pooled).dx


@in_the_courses_words
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
    (x,) = as_floats(who, x=x)
    p_is_kept = years.form().p_is_kept
    meaning = "the share kept" if p_is_kept else "the share dropped"
    advice = f"In {years.current_year()} it is {meaning}; xhat.cs231n.set_year chooses the year."
    p = as_real(who, "p", setting(who, "dropout_param", dropout_param, "p"), 0.0, 1.0, advice)
    mode = as_choice(who, "mode", setting(who, "dropout_param", dropout_param, "mode"), ("train", "test"))
    if dropout_param.get("seed") is not None:
        np.random.seed(dropout_param["seed"])
    if mode == "test":
        return x, (dropout_param, None)
    draw = np.random.rand(*x.shape)
    keep, share = (draw < p, p) if p_is_kept else (draw > p, 1 - p)
    mask = np.asarray(keep / (share or 1))  # where nothing is kept there is nothing to scale
    with np.errstate(all="ignore"):
        return (x * mask).astype(x.dtype, copy=False), (dropout_param, mask)


@in_the_courses_words
def dropout_backward(dout: ArrayLike, cache: DropoutCache) -> Array:
    """Return dx: dout times the mask in mode "train", dout in "test". The mode is read from the dict in the cache."""
    who = "dropout_backward"
    dropout_param, mask = contents(who, cache, "dropout_param", "mask")
    mode = as_choice(who, "mode", setting(who, "dropout_param", dropout_param, "mode"), ("train", "test"))
    (dy,) = as_floats(who, dout=dout)
    if mask is not None:
        (mask,) = as_floats(who, **{"the mask in the cache": mask})
        dy = as_gradient(who, dy, mask.shape, dy.dtype)
    if mode == "test" or mask is None:
        return dy
    with np.errstate(all="ignore"):
        return np.asarray(dy * mask).astype(dy.dtype, copy=False)


def _affine(who: str, x: ArrayLike, w: ArrayLike, b: ArrayLike) -> tuple[tuple[int, ...], affine.Cache]:
    """Return the shape of x, and what an affine layer needs, judged: x with a row per sample."""
    samples, weights, bias = as_floats(who, x=x, w=w, b=b)
    if samples.ndim < 1:
        raise ValueError(f"{who}: expected x of shape (N, d_1, ..., d_k), got (). Give an array with a row per sample.")
    features = math.prod(samples.shape[1:])
    advice = "Give w as (D, M), with D the product of d_1 ... d_k of x, and b as (M,)."
    weights = as_parameter(who, "w", weights, (features, None), advice)
    bias = as_parameter(who, "b", bias, weights.shape[1:], advice)
    return samples.shape, affine.Cache(samples.reshape(len(samples), features), weights, bias)


def _with_parameters(who: str, axes: str, x: ArrayLike, gamma: ArrayLike, beta: ArrayLike) -> list[Array]:
    """Return x of the axes that the course names, gamma and beta, judged."""
    x, gamma, beta = as_floats(who, x=x, gamma=gamma, beta=beta)
    check_axes(who, x, axes)
    letter = axes.split(", ")[1]
    advice = f"Give gamma and beta as ({letter},), with {letter} the second axis of x."
    return [
        x,
        as_parameter(who, "gamma", gamma, x.shape[1:2], advice),
        as_parameter(who, "beta", beta, x.shape[1:2], advice),
    ]


def _batch_norm(
    who: str, axes: str, x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: MutableMapping[str, Any]
) -> tuple[Array, BatchNormCache]:
    """Normalize over all axes of x but the second, and put the running statistics into the dict."""
    given = np.asarray(x).dtype
    x, gamma, beta = _with_parameters(who, axes, x, gamma, beta)
    mode, eps = bn_param.get("mode"), as_eps(who, bn_param.get("eps", 1e-5))
    if mode not in ("train", "test"):
        raise ValueError(f'Invalid forward batchnorm mode "{mode}"')
    advice = "It is the share of the old running statistics that is kept; 0.9 is usual."
    momentum = as_real(who, "momentum", bn_param.get("momentum", 0.9), 0.0, 1.0, advice)
    kind = np.dtype(np.float64) if given.kind in "biu" else given  # in which they start
    kept = {name: bn_param.get(name, np.zeros(x.shape[1], kind)) for name in ("running_mean", "running_var")}
    old_mean, old_var = (_statistic(who, name, values, x.shape[1], kind) for name, values in kept.items())
    cache: BatchNormCache
    if mode == "test":
        y, cache = batch_norm.apply(x, gamma, beta, old_mean, old_var, eps)
    else:
        if x.size == x.shape[1]:
            with np.errstate(all="ignore"):
                wide, cache = batch_norm.reference_forward(x.astype(np.float64), gamma, beta, eps)
                y, cache = wide.astype(x.dtype), cache._replace(x=x)
        else:
            y, cache = batch_norm.forward(x, gamma, beta, eps)
        kept = {"running_mean": old_mean, "running_var": old_var}
        if x.size and np.isfinite(cache.mean).all() and np.isfinite(cache.var).all():
            kept = {
                "running_mean": _mixed(old_mean, cache.mean, momentum),
                "running_var": _mixed(old_var, cache.var, momentum),
            }
    bn_param.update(kept)
    return y, cache


def _statistic(who: str, name: str, values: object, size: int, kind: np.dtype[Any]) -> Array:
    """Return a running statistic as one number per channel: one number stands for all; integers take the type given."""
    (statistic,) = as_floats(who, **{name: values})
    if np.asarray(values).dtype.kind in "biu":
        statistic = statistic.astype(kind)
    if not statistic.ndim:
        statistic = np.full(size, statistic)
    return as_parameter(who, name, statistic, (size,), "It has one entry for each of x's channels.")


def _mixed(old: Array, new: Array, momentum: float) -> Array:
    """Return the running statistic with the batch's taken in, of the type of the old one."""
    return (momentum * old + (1 - momentum) * new).astype(old.dtype, copy=False)
