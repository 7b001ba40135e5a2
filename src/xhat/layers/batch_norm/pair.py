"""Batch normalization on arrays, forward and backward, whole and in parts."""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_count, as_epilogue, as_eps, as_gradient, as_output, check_cache
from xhat.core import Op
from xhat.kernels import small
from xhat.kernels.fused import Epilogue
from xhat.layers.batch_norm import compute
from xhat.layers.batch_norm.arguments import (
    as_cache,
    as_d_max,
    as_fixed,
    as_fixed_cache,
    as_inputs,
    as_moments,
    as_r_max,
    as_renorm_cache,
    as_sums,
    as_virtual_cache,
    as_weights,
    check_enough,
    check_whole,
)
from xhat.layers.batch_norm.reference import (
    Cache,
    FixedCache,
    Grads,
    Moments,
    Sums,
    batch_axis,
    count_of,
    reference_apply,
    reference_apply_backward,
    reference_backward,
    reference_forward,
)
from xhat.layers.batch_norm.renormalization import (
    RenormCache,
    corrected,
    correction,
    parameter_gradients,
    reference_renorm,
    reference_renorm_backward,
)
from xhat.layers.batch_norm.virtual_batches import (
    VirtualCache,
    reference_virtual,
    reference_virtual_backward,
    virtual_batches,
)


@overload
def forward(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
    channel_axis: int = 1,
    weights: ArrayLike | None = None,
    *,
    virtual_batch: None = None,
    moments: Moments | None = None,
    epilogue: Epilogue | None = None,
    out: Array | None = None,
) -> tuple[Array, Cache]: ...
@overload
def forward(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
    channel_axis: int = 1,
    weights: ArrayLike | None = None,
    *,
    virtual_batch: int,
    out: Array | None = None,
) -> tuple[Array, VirtualCache]: ...
def forward(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
    channel_axis: int = 1,
    weights: ArrayLike | None = None,
    *,
    virtual_batch: int | None = None,
    moments: Moments | None = None,
    epilogue: Epilogue | None = None,
    out: Array | None = None,
) -> tuple[Array, Cache | VirtualCache]:
    """Give every channel of `x` mean 0 and variance 1 over the batch and all positions, then scale and shift.

    Parameters
    ----------
    x : array_like
        Any shape with a channel axis, any floating type: (N, C), (N, C, H, W), ...
    gamma, beta : array_like, shape (C,), optional
        Scale and shift, unit of y. None means none.
    eps : float
        Added to the variance; unit of x². With 0, a channel whose values are all equal gives beta.
    channel_axis : int
        The axis that statistics are kept apart for: 1 for (N, C, ...), -1 for channels last, 0 for
        features x samples.
    weights : array_like, optional
        How often each entry counts in the statistics, >= 0, no unit; the same for all channels. Shape (N,), or that of
        x without the channel axis; may be bool. A weight of 2 is as good as a second copy; 0 takes an entry out of the
        statistics. Such an entry is still normalized with them, unless it is NaN or Inf: then it is missing, y and dx
        are 0 there, and its dy counts for nothing.
    virtual_batch : int, optional
        Samples per virtual ("ghost") batch: consecutive samples, each part normalized by itself. A rest that is
        shorter belongs to the last one.
    moments : Moments, optional
        Of a larger batch that `x` is a part of, merged from `moments` of all parts.
    epilogue : kernels.fused.Epilogue, optional
        What follows in the same pass: ReLU, and dropout if its rate is above 0. For float32 and float64 with compiled
        loops; give `backward` the same. Not of a batch in parts.
    out : array, optional
        Where to write y: shape and type of `x`, C-contiguous, apart from the inputs.

    Returns
    -------
    y : array
        Shape and type of `x`.
    cache : Cache or VirtualCache
        For `backward`, and for `RunningStatistics.update`.

    Raises
    ------
    TypeError
        If an argument has the wrong type; integers in `x` must be converted first.
    ValueError
        If a shape does not fit, an axis does not exist, `eps` is negative or not finite, the variance overflows, or
        there is one value (of positive weight) per channel: its variance is 0 and says nothing.

    Notes
    -----
    Statistics are float64 whatever the type of `x`, and the variance is the biased one. A NaN or Inf stays in its
    channel. An empty batch gives an empty y. Where the squares of float64 data leave the range, beyond about 1e154 or
    below 1e-154, `var` is Inf or 0, and y and dx are right all the same. Without compiled loops, and beyond 4e307, such
    data are an error (found while computing: `out` has been written), or count as not varying. So they are with
    `weights` or `moments`.

    References
    ----------
    Ioffe, Szegedy 2015, arXiv:1502.03167, algorithm 1. Virtual batches: Hoffer, Hubara, Soudry 2017,
    arXiv:1705.08741, algorithm 1.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.batch_norm.forward(np.array([[1.0, 0.0], [3.0, 8.0]]), eps=0.0)
    >>> print(y, cache.mean, cache.var)
    [[-1. -1.]
     [ 1.  1.]] [2. 4.] [ 1. 16.]

    The last sample is padding:

    >>> y, cache = xhat.batch_norm.forward(np.array([[1.0], [3.0], [np.nan]]), eps=0.0, weights=[1, 1, 0])
    >>> print(y.T, cache.mean, cache.count)
    [[-1.  1.  0.]] [2.] 2.0
    """
    if weights is virtual_batch is moments is epilogue is out is None:
        done = small.channels_forward(x, gamma, beta, eps, channel_axis)
        if done is not None:
            return done[0], Cache._make(done[1])

    who = "batch_norm.forward"
    given = x, gamma, beta, weights
    x, axis, gamma, beta = as_inputs(who, "", x, gamma, beta, channel_axis)
    eps = as_eps(who, eps)
    weights = as_weights(who, "weights", weights, x, axis)
    epilogue = as_epilogue(who, epilogue, x)
    if epilogue is not None and (moments is not None or virtual_batch is not None):
        raise ValueError(
            f"{who}: expected an epilogue or a batch in parts, got both. Call relu.forward and dropout.forward on y."
        )
    if moments is not None:
        moments = as_moments(who, moments, x.shape[axis : axis + 1])
        if virtual_batch is not None:
            raise ValueError(
                f"{who}: expected moments or virtual_batch, got both. Virtual batches have statistics of their own."
            )
        own = count_of(x, axis, weights)
        if moments.count < own * (1 - 1e-9):
            raise ValueError(
                f"{who}: expected moments of at least the {own:g} values of this x, got {moments.count:g}. "
                "Merge what batch_norm.moments returned for all parts."
            )
        if weights is None and 0 < moments.count <= 1:
            raise ValueError(
                f"{who}: expected moments of at least 2 values per channel, got {moments.count:g}. "
                "Use a larger batch, batch_norm.apply with fixed statistics, or layer_norm."
            )
    if virtual_batch is not None:
        virtual_batch = as_count(who, "virtual_batch", virtual_batch, 1, "Give the samples per virtual batch.")
        parts = list(virtual_batches(x.shape, axis, virtual_batch))
    else:
        parts = []
    for part, samples in parts:
        place = f" of the virtual batch from sample {samples.start}"
        check_enough(who, x[part], axis, None if weights is None else weights[samples], place)
    if not parts and moments is None:
        check_enough(who, x, axis, weights)

    y = as_output(who, out, x.shape, x.dtype, *given)
    if not parts:
        return y, compute.normalize(who, x, axis, gamma, beta, eps, weights, y, moments, epilogue)
    caches: list[Cache] = []
    for part, samples in parts:
        part_x, part_y = np.ascontiguousarray(x[part]), np.ascontiguousarray(y[part])
        part_weights = None if weights is None else weights[samples]
        cache = compute.normalize(who, part_x, axis, gamma, beta, eps, part_weights, part_y)
        caches.append(cache._replace(x=x[part]))
        _write_back(part_y, y[part])
    return y, VirtualCache(tuple(caches), axis)


def apply(
    x: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float = 1e-5,
    channel_axis: int = 1,
    weights: ArrayLike | None = None,
    *,
    epilogue: Epilogue | None = None,
    out: Array | None = None,
) -> tuple[Array, FixedCache]:
    """Normalize every channel of `x` with fixed statistics, then scale and shift.

    Parameters
    ----------
    x, gamma, beta, eps, channel_axis, epilogue, out
        As in `forward`.
    mean : array_like, shape (C,)
        Unit of x.
    var : array_like, shape (C,)
        Finite and not negative; unit of x².
    weights : array_like, optional
        As in `forward`, but the statistics are given: only says what is missing (NaN or Inf under a weight of 0).

    Returns
    -------
    y : array
        Shape and type of `x`.
    cache : FixedCache
        For the same `backward`: its type says that statistics were constants.

    Raises
    ------
    TypeError, ValueError
        As in `forward`; also if a statistic is not finite or a variance is negative.

    References
    ----------
    Ioffe, Szegedy 2015, arXiv:1502.03167, algorithm 2.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.batch_norm.apply(np.array([[5.0, 1.0]]), None, None, mean=[3, 1], var=[4, 9], eps=0.0)
    >>> print(y)
    [[1. 0.]]
    """
    who = "batch_norm.apply"
    given = x, gamma, beta, mean, var, weights
    x, axis, gamma, beta = as_inputs(who, "", x, gamma, beta, channel_axis)
    eps = as_eps(who, eps)
    mean, var = as_fixed(who, mean, var, x.shape[axis : axis + 1])
    weights = as_weights(who, "weights", weights, x, axis)
    epilogue = as_epilogue(who, epilogue, x)
    y = as_output(who, out, x.shape, x.dtype, *given)
    return y, compute.apply_fixed(x, axis, gamma, beta, mean, var, eps, weights, y, epilogue)


def renorm(
    x: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float = 1e-5,
    channel_axis: int = 1,
    weights: ArrayLike | None = None,
    *,
    r_max: float = 3.0,
    d_max: float = 5.0,
    out: Array | None = None,
) -> tuple[Array, RenormCache]:
    """Normalize with the batch's statistics, then bring the result where running statistics would have put it.

    y = (x_hat * r + d) * gamma + beta, with r and d from the two kinds of statistics, clipped, and constants in the
    backward pass. With r_max = 1 and d_max = 0 it is batch norm; where the limits are not reached its output is that of
    `apply`, but its gradient knows that the batch's statistics move.

    Parameters
    ----------
    x, gamma, beta, eps, channel_axis, weights, out
        As in `forward`.
    mean, var : array_like, shape (C,)
        Running statistics, as in `apply`.
    r_max : float
        Largest r, >= 1, no unit; the smallest is 1 / r_max. The paper goes from 1 to 3 while training settles.
    d_max : float
        Largest size of d, >= 0, no unit. The paper goes from 0 to 5.

    Returns
    -------
    y : array
        Shape and type of `x`.
    cache : RenormCache
        For the same `backward`, and for `RunningStatistics.update`.

    Raises
    ------
    TypeError, ValueError
        As in `forward` and `apply`.

    References
    ----------
    Ioffe 2017, "Batch renormalization", arXiv:1702.03275, algorithm 1.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> x = np.array([[1.0], [3.0]])  # mean 2, variance 1
    >>> y, cache = xhat.batch_norm.renorm(x, None, None, mean=[1.0], var=[4.0], eps=0.0)
    >>> print(y.T, cache.r, cache.d)
    [[0. 1.]] [0.5] [0.5]
    """
    who = "batch_norm.renorm"
    given = x, gamma, beta, mean, var, weights
    x, axis, gamma, beta = as_inputs(who, "", x, gamma, beta, channel_axis)
    eps = as_eps(who, eps)
    mean, var = as_fixed(who, mean, var, x.shape[axis : axis + 1])
    weights = as_weights(who, "weights", weights, x, axis)
    r_max = as_r_max(who, r_max)
    d_max = as_d_max(who, d_max)
    check_enough(who, x, axis, weights)
    y = as_output(who, out, x.shape, x.dtype, *given)
    batch = compute.moments_of(who, x, axis, weights)
    with np.errstate(all="ignore"):
        r, d = correction(batch, mean, var, eps, r_max, d_max)
        scale, shift = corrected(compute.wide(gamma), compute.wide(beta), r, d)
    cache = compute.normalize(who, x, axis, scale, shift, eps, weights, y, batch)
    return y, RenormCache(cache, gamma, beta, r, d)


def backward(
    dy: ArrayLike,
    cache: Cache | VirtualCache | RenormCache | FixedCache,
    *,
    sums: Sums | None = None,
    epilogue: Epilogue | None = None,
    out: Array | None = None,
) -> Grads:
    """Return the gradients of `forward`, `renorm` or `apply`; the cache says which.

    Parameters
    ----------
    dy : array_like
        Gradient of the output, shape of `x`.
    cache : Cache, VirtualCache, RenormCache or FixedCache
        From `forward`, `renorm` or `apply`.
    sums : Sums, optional
        Where `forward` was given the moments of a larger batch: `sums` of all its parts, merged.
    epilogue : kernels.fused.Epilogue, optional
        What `forward` was given; `dy` is then the gradient of what came out of it.
    out : array, optional
        Where to write dx: shape and type of `x`, C-contiguous, apart from the inputs.

    Returns
    -------
    Grads
        `dx` like `x`; `dgamma`, `dbeta` like their parameters, None for a parameter that was None. Of a part of a
        batch they are that part's share; the shares add up to the whole.

    Raises
    ------
    TypeError, ValueError
        If `dy` or a saved array does not have the type and shape that `forward` gave it.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.batch_norm.forward(np.array([[1.0], [2.0], [3.0]]), gamma=[2.0], beta=[0.0], eps=1 / 3)
    >>> xhat.batch_norm.backward(np.array([[3.0], [0.0], [0.0]]), cache).dx.round(9)
    array([[ 2.],
           [-2.],
           [ 0.]])
    """
    if type(cache) is Cache and sums is epilogue is out is None:
        done = small.channels_backward(dy, *cache)
        if done is not None:
            return Grads._make(done)

    who = "batch_norm.backward"
    check_cache(who, cache, Cache, VirtualCache, RenormCache, FixedCache)
    if sums is not None and not isinstance(cache, Cache):
        raise TypeError(
            f"{who}: expected no sums with a cache of type {type(cache).__name__}, got some. "
            "Sums belong to a batch in parts, whose forward was given moments."
        )
    if epilogue is not None and (sums is not None or isinstance(cache, VirtualCache | RenormCache)):
        raise TypeError(
            f"{who}: expected no epilogue with sums or a cache of type {type(cache).__name__}, got one. "
            "Only forward of a whole batch, and apply, take an epilogue."
        )
    if isinstance(cache, VirtualCache):
        kept, shape = as_virtual_cache(who, cache)
        for i, part in enumerate(kept.parts):
            check_whole(who, part, None, f"cache.parts[{i}].")
        given = dy, *(values for part in cache.parts for values in part)
        dy = as_gradient(who, dy, shape, kept.parts[0].x.dtype)
        return _parts_backward(dy, kept, as_output(who, out, shape, dy.dtype, *given))
    if isinstance(cache, FixedCache):
        kept = as_fixed_cache(who, cache)
        x, given = kept.x, (dy, *cache)
    elif isinstance(cache, RenormCache):
        kept = as_renorm_cache(who, cache)
        x, given = kept.batch.x, (dy, *cache.batch, *cache[1:])
        check_whole(who, kept.batch, None, "cache.batch.")
    else:
        kept = as_cache(who, cache)
        x, given = kept.x, (dy, *cache)
        sums = None if sums is None else as_sums(who, sums, kept.mean.shape)
        check_whole(who, kept, sums)
    epilogue = as_epilogue(who, epilogue, x)
    dy = as_gradient(who, dy, x.shape, x.dtype)
    dx = as_output(who, out, x.shape, x.dtype, *given)
    if isinstance(kept, FixedCache):
        return _rounded(dx, compute.gradient_fixed(dy, kept, dx, epilogue), kept.gamma, kept.beta)
    if isinstance(kept, RenormCache):
        dscale, dshift = compute.gradient(dy, kept.batch, None, dx)
        with np.errstate(all="ignore"):
            dgamma, dbeta = parameter_gradients(dscale, dshift, kept)
        return _rounded(dx, (dgamma, dbeta), kept.gamma, kept.beta)
    return _rounded(dx, compute.gradient(dy, kept, sums, dx, epilogue), kept.gamma, kept.beta)


def moments(x: ArrayLike, channel_axis: int = 1, weights: ArrayLike | None = None) -> Moments:
    """Return count, mean and centred sum of squares of each channel: of a batch, or of a part of one.

    A batch in parts (micro-batches, machines) has the statistics of the whole if `forward` is given the merged moments
    of all parts, and its exact gradient if `backward` is given the merged `sums`.

    Parameters
    ----------
    x, channel_axis, weights
        As in `forward`.

    Returns
    -------
    Moments
        float64. Of an empty part all are 0.

    Raises
    ------
    TypeError, ValueError
        As in `forward`; one value per channel is no error, it may be a part of more.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> x, dy = np.random.default_rng(0).standard_normal((2, 6, 3))
    >>> parts, dparts = np.split(x, [1, 4]), np.split(dy, [1, 4])
    >>> first, *others = [xhat.batch_norm.moments(part) for part in parts]
    >>> whole = first.merge(others[0]).merge(others[1])
    >>> caches = [xhat.batch_norm.forward(part, moments=whole)[1] for part in parts]
    >>> first, *others = [xhat.batch_norm.sums(d, cache) for d, cache in zip(dparts, caches)]
    >>> total = first.merge(others[0]).merge(others[1])
    >>> dx = [xhat.batch_norm.backward(d, cache, sums=total).dx for d, cache in zip(dparts, caches)]
    >>> bool(np.allclose(np.concatenate(dx), xhat.batch_norm.backward(dy, xhat.batch_norm.forward(x)[1]).dx))
    True
    """
    who = "batch_norm.moments"
    x, axis, _, _ = as_inputs(who, "", x, None, None, channel_axis)
    weights = as_weights(who, "weights", weights, x, axis)
    return compute.moments_of(who, x, axis, weights)


def sums(dy: ArrayLike, cache: Cache) -> Sums:
    """Return the sums over a part of a batch that the backward pass of every part needs.

    Parameters
    ----------
    dy : array_like
        Gradient of the part's output, shape of its `x`.
    cache : Cache
        From `forward` with the moments of the whole batch.

    Returns
    -------
    Sums
        float64. For `merge`, then for `backward`.

    Raises
    ------
    TypeError, ValueError
        As in `backward`.
    """
    who = "batch_norm.sums"
    kept = as_cache(who, cache)
    return compute.sums_of(as_gradient(who, dy, kept.x.shape, kept.x.dtype), kept)


def _parts_backward(dy: Array, cache: VirtualCache, dx: Array) -> Grads:
    """Go back through every virtual batch by itself, and add up dgamma and dbeta before they are rounded."""
    samples = batch_axis(dy.ndim, cache.channel_axis)
    dgamma: Array = np.zeros_like(cache.parts[0].mean)
    dbeta: Array = np.zeros_like(dgamma)
    start = 0
    for part in cache.parts:
        place = (*(slice(None),) * samples, slice(start, start + part.x.shape[samples]))
        start += part.x.shape[samples]
        part_dx = np.ascontiguousarray(dx[place])
        part_sums = compute.gradient(np.ascontiguousarray(dy[place]), part, None, part_dx)
        _write_back(part_dx, dx[place])
        with np.errstate(all="ignore"):
            dgamma, dbeta = dgamma + part_sums.dgamma, dbeta + part_sums.dbeta
    return _rounded(dx, (dgamma, dbeta), cache.parts[0].gamma, cache.parts[0].beta)


def _rounded(dx: Array, sums: tuple[Array | None, Array | None], gamma: Array | None, beta: Array | None) -> Grads:
    """Give each parameter its gradient in its own type."""
    dgamma, dbeta = sums
    with np.errstate(all="ignore"):
        return Grads(
            dx,
            None if gamma is None or dgamma is None else dgamma.astype(gamma.dtype, copy=False),
            None if beta is None or dbeta is None else dbeta.astype(beta.dtype, copy=False),
        )


def _write_back(part: Array, place: Array) -> None:
    """Put a part where it belongs, if it is a copy."""
    if not np.may_share_memory(part, place):
        place[...] = part


OP = Op(forward, backward, reference_forward, reference_backward)
VIRTUAL = Op(forward, backward, reference_virtual, reference_virtual_backward)
RENORM = Op(renorm, backward, reference_renorm, reference_renorm_backward)
FIXED = Op(apply, backward, reference_apply, reference_apply_backward)
