"""Group normalization: give every group of channels of every sample mean 0 and variance 1.

The C channels are cut into G blocks of C/G neighbours. With averages over one block of one sample, its channels and
all positions:

    mean  = average of x over the group              x_hat = (x - mean) * rstd
    rstd  = 1 / sqrt(variance + eps)                 y     = x_hat * gamma + beta

gamma and beta belong to channels, so gamma varies inside a group and stays inside the means:

    dx = rstd * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat)),   dx_hat = dy * gamma
    dgamma = sum over samples and positions of dy * x_hat          dbeta = sum over samples and positions of dy

Source: Wu, He 2018, "Group normalization", arXiv:1803.08494, eqs. (1), (2), (6) and (7).
Derivation: docs/group_norm.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from xhat import kernels
from xhat.checks import (
    Array,
    as_axis,
    as_count,
    as_epilogue,
    as_eps,
    as_flag,
    as_gradient,
    as_output,
    as_parameter,
    as_parameter_dtype,
    as_statistic,
    as_values,
    check_cache,
    check_channels,
    check_range,
)
from xhat.core import Case, Layer, Op
from xhat.kernels import small, strided
from xhat.kernels.fused import Epilogue


class Cache(NamedTuple):
    """What backward needs. `x` is shared, not copied: leave it alone until then.

    The mean is `mean + mean_low`: what rounding the mean to float64 left behind is kept beside it, so that no
    offset of x costs digits.
    """

    x: Array  # at least two axes
    gamma: Array | None  # (C,)
    beta: Array | None  # (C,)
    mean: Array  # (N, G) float64, unit of x
    mean_low: Array  # (N, G) float64, unit of x
    var: Array  # (N, G) float64, biased, unit of x²
    rstd: Array  # (N, G) float64, unit of 1/x
    groups: int
    channel_axis: int


class Grads(NamedTuple):
    """The gradients, each with the shape and type of what it belongs to; None for a parameter that was None."""

    dx: Array
    dgamma: Array | None  # (C,)
    dbeta: Array | None  # (C,)


def reference_forward(
    x: Array, gamma: Array | None, beta: Array | None, groups: int, eps: float, channel_axis: int = 1
) -> tuple[Array, Cache]:
    """Centre each group, scale it to unit variance, then apply gamma and beta."""
    blocks = blocks_of(x, groups, channel_axis)  # (N, G, C/G, positions)
    inside = tuple(range(2, blocks.ndim))
    count = max(1, math.prod(blocks.shape[2:]))

    mean = blocks.sum(inside, keepdims=True) / count
    centred = blocks - mean
    mean_low = centred.sum(inside, keepdims=True) / count  # a mean of 1e9 is rounded by 1e-7: take that off too
    centred = centred - mean_low
    var = (centred * centred).sum(inside, keepdims=True) / count
    spread = var + eps
    rstd = np.where(spread == 0, 0, (spread + (spread == 0)) ** -0.5)  # nothing varies: nothing to scale

    y = centred * rstd
    if gamma is not None:
        y = y * _per_channel(gamma, blocks)
    if beta is not None:
        y = y + _per_channel(beta, blocks)
    mean, mean_low, var, rstd = (values.reshape(blocks.shape[:2]) for values in (mean, mean_low, var, rstd))
    return _joined(y, x, channel_axis), Cache(x, gamma, beta, mean, mean_low, var, rstd, groups, channel_axis)


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Remove from dx_hat, group by group, the two directions that x_hat cannot move along."""
    x, gamma, beta, mean, mean_low, _, rstd, groups, channel_axis = cache
    blocks = blocks_of(x, groups, channel_axis)  # (N, G, C/G, positions)
    inside = tuple(range(2, blocks.ndim))
    count = max(1, math.prod(blocks.shape[2:]))
    outside = (0, *range(3, blocks.ndim))  # samples and positions
    mean, mean_low, rstd = (s.reshape(*s.shape, *(1 for _ in inside)) for s in (mean, mean_low, rstd))

    dy = blocks_of(dy, groups, channel_axis)
    x_hat = (blocks - mean - mean_low) * rstd
    dx_hat = dy if gamma is None else dy * _per_channel(gamma, blocks)
    along_ones = dx_hat.sum(inside, keepdims=True) / count
    along_x_hat = (dx_hat * x_hat).sum(inside, keepdims=True) / count
    return Grads(
        dx=_joined(rstd * (dx_hat - along_ones - x_hat * along_x_hat), x, channel_axis),
        dgamma=None if gamma is None else (dy * x_hat).sum(outside).reshape(-1),
        dbeta=None if beta is None else dy.sum(outside).reshape(-1),
    )


def forward(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    groups: int,
    eps: float = 1e-5,
    channel_axis: int = 1,
    epilogue: Epilogue | None = None,
    out: Array | None = None,
) -> tuple[Array, Cache]:
    """Give every group of channels of every sample mean 0 and variance 1, then scale and shift each channel.

    Parameters
    ----------
    x : array_like
        Any shape with a batch axis and a channel axis, any floating type: (N, C, H, W), (N, C), ... The batch axis is
        the first that is not the channel axis; all others are positions.
    gamma, beta : array_like, shape (C,), optional
        Scale and shift, unit of y. None means none.
    groups : int
        Number of groups G, a divisor of C. Group g holds the channels g * C/G to (g + 1) * C/G - 1.
    eps : float
        Added to the variance; unit of x². With 0, a group whose values are all equal gives beta.
    channel_axis : int
        1 for (N, C, ...), -1 for channels last, 0 for features x samples.
    epilogue : kernels.fused.Epilogue, optional
        What follows in the same pass: ReLU, and dropout if its rate is above 0. For float32 and float64 with compiled
        loops and the channels along axis 1; give `backward` the same.
    out : array, optional
        Where to write y: shape and type of `x`, C-contiguous, apart from the inputs.

    Returns
    -------
    y : array
        Shape and type of `x`.
    cache : Cache
        For `backward`.

    Raises
    ------
    TypeError
        If an argument has the wrong type; integers in `x` must be converted first.
    ValueError
        If a shape does not fit, an axis does not exist, `groups` does not divide the channels, `eps` is negative or
        not finite, the variance overflows, or there is one value per group: its variance is 0 and says nothing.

    Notes
    -----
    Statistics are float64 whatever the type of `x`, and the variance is the biased one. A NaN or Inf stays in its
    group. A sample's result does not depend on the rest of the batch; an empty batch gives an empty y. Where the
    squares of float64 data leave the range, beyond about 1e154 or below 1e-154, `var` is Inf or 0, and y and dx are
    right all the same. Without compiled loops, and beyond 4e307, such data are an error (found while computing: `out`
    has been written), or count as not varying.

    References
    ----------
    Wu, He 2018, arXiv:1803.08494, eqs. (1), (2), (6) and (7).

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.group_norm.forward(np.array([[1.0, 3.0, 0.0, 8.0]]), groups=2, eps=0.0)
    >>> print(y, cache.mean, cache.var)
    [[-1. 1. -1. 1.]] [[2. 4.]] [[ 1. 16.]]
    """
    done = small.groups_forward(x, gamma, beta, eps, groups, channel_axis) if out is epilogue is None else None
    if done is not None:
        return done[0], Cache._make(done[1])

    who = "group_norm.forward"
    given = x, gamma, beta
    x, groups, axis, gamma, beta = _inputs(who, "", x, gamma, beta, groups, channel_axis)
    eps = as_eps(who, eps)
    blocks = blocks_of(x, groups, axis)
    epilogue = as_epilogue(who, epilogue, blocks)
    if x.size and math.prod(blocks.shape[2:]) == 1:
        raise ValueError(
            f"{who}: expected at least 2 values per group, got 1 in x of shape {x.shape} with {groups} groups. "
            "Use fewer groups, an x with positions, or batch_norm."
        )
    y = as_output(who, out, x.shape, x.dtype, *given)
    if kernels.serves(x.dtype):
        statistics = strided.rows_forward(
            blocks,
            gamma,
            beta,
            eps,
            blocks_of(y, groups, axis),
            kept=2,
            shape=blocks.shape[1:3],
            epilogue=epilogue,
        )
    else:
        with np.errstate(all="ignore"):
            y[...], cache = reference_forward(x.astype(np.float64), gamma, beta, groups, eps, axis)
        statistics = kernels.Statistics(cache.mean, cache.mean_low, cache.var, cache.rstd)
    check_range(who, blocks, statistics.var, tuple(range(2, blocks.ndim)), rstd=statistics.rstd)
    return y, Cache(x, gamma, beta, *statistics, groups, axis)


def backward(dy: ArrayLike, cache: Cache, *, epilogue: Epilogue | None = None, out: Array | None = None) -> Grads:
    """Return the gradients of `forward`.

    Parameters
    ----------
    dy : array_like
        Gradient of the output, shape of `x`.
    cache : Cache
        From `forward`.
    epilogue : kernels.fused.Epilogue, optional
        What `forward` was given; `dy` is then the gradient of what came out of it.
    out : array, optional
        Where to write dx: shape and type of `x`, C-contiguous, apart from the inputs.

    Returns
    -------
    Grads
        `dx` like `x`; `dgamma`, `dbeta` like their parameters, None for a parameter that was None.

    Raises
    ------
    TypeError, ValueError
        If `dy` or a saved array does not have the type and shape that `forward` gave it.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.group_norm.forward(np.array([[1.0, 2.0, 3.0]]), gamma=[1.0, 2.0, 3.0], groups=1, eps=1 / 3)
    >>> xhat.group_norm.backward(np.array([[3.0, 0.0, 0.0]]), cache).dx.round(9)
    array([[ 1., -1.,  0.]])
    """
    done = small.groups_backward(dy, *cache) if type(cache) is Cache and out is epilogue is None else None
    if done is not None:
        return Grads._make(done)

    who = "group_norm.backward"
    check_cache(who, cache, Cache)
    given = dy, *cache
    advice = "Pass on the cache that forward returned."
    x, groups, axis, gamma, beta = _inputs(
        who, "cache.", cache.x, cache.gamma, cache.beta, cache.groups, cache.channel_axis
    )
    blocks = blocks_of(x, groups, axis)
    statistics = kernels.Statistics(
        *(
            as_statistic(who, f"cache.{name}", getattr(cache, name), blocks.shape[:2], advice)
            for name in kernels.Statistics._fields
        )
    )
    epilogue = as_epilogue(who, epilogue, blocks)
    dy = as_gradient(who, dy, x.shape, x.dtype)
    dx = as_output(who, out, x.shape, x.dtype, *given)

    if kernels.serves(x.dtype):
        dy, shape = blocks_of(dy, groups, axis), blocks.shape[1:3]
        rows = dy, blocks, gamma, statistics, blocks_of(dx, groups, axis)
        dgamma, dbeta = strided.rows_backward(*rows, shape=shape, beta=beta, epilogue=epilogue)
    else:
        wide = Cache(x.astype(np.float64), gamma, beta, *statistics, groups, axis)
        with np.errstate(all="ignore"):
            dx[...], dgamma, dbeta = reference_backward(dy.astype(np.float64), wide)
    with np.errstate(all="ignore"):
        return Grads(
            dx,
            None if gamma is None or dgamma is None else dgamma.reshape(-1).astype(gamma.dtype, copy=False),
            None if beta is None or dbeta is None else dbeta.reshape(-1).astype(beta.dtype, copy=False),
        )


def _inputs(
    who: str,
    owner: str,
    x: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    groups: object,
    channel_axis: object,
) -> tuple[Array, int, int, Array | None, Array | None]:
    """Return x, the number of groups, the channel axis counted from the front, and the parameters, each checked."""
    x = as_values(who, f"{owner}x", x)
    axis = as_axis(who, f"{owner}channel_axis", channel_axis, x.ndim)
    if x.ndim < 2:
        raise ValueError(
            f"{who}: expected {owner}x with a batch axis and a channel axis, got shape {x.shape}. Add one with x[None]."
        )
    channels = x.shape[axis]
    advice = "Groups are blocks of equally many channels: choose a divisor of their number."
    groups = as_count(who, f"{owner}groups", groups, 1, advice)
    if channels % groups:
        raise ValueError(
            f"{who}: expected {owner}groups to divide the {channels} channels of x, got {groups}. {advice}"
        )
    advice = f"The channel axis {axis} of x has size {channels}; choose another with channel_axis."
    return (
        x,
        groups,
        axis,
        None if gamma is None else as_parameter(who, f"{owner}gamma", gamma, (channels,), advice),
        None if beta is None else as_parameter(who, f"{owner}beta", beta, (channels,), advice),
    )


def blocks_of(values: Array, groups: int, channel_axis: int) -> Array:
    """Return a view (N, G, C/G, positions) of an array."""
    channels_second = np.moveaxis(values, channel_axis, 1)
    samples, channels, *positions = channels_second.shape
    return channels_second.reshape(samples, groups, channels // groups, *positions)


def _joined(blocks: Array, x: Array, channel_axis: int) -> Array:
    """Return blocks (N, G, C/G, positions) as an array like x."""
    channels_second = np.moveaxis(x, channel_axis, 1).shape
    return np.moveaxis(blocks.reshape(channels_second), 1, channel_axis)


def _per_channel(parameter: Array, blocks: Array) -> Array:
    """Return a parameter in a shape that lays it along the channels of blocks (N, G, C/G, positions)."""
    return parameter.reshape(*blocks.shape[1:3], *(1 for _ in blocks.shape[3:]))


OP = Op(forward, backward, reference_forward, reference_backward)


class GroupNorm(Layer):
    """Give every group of channels of every sample mean 0 and variance 1, then scale and shift.

    The same in training and in prediction: a sample's statistics are its own.

    Parameters
    ----------
    channels : int
        Number of channels C.
    groups : int
        Number of groups of neighbouring channels, a divisor of C.
    eps : float
        Added to the variance; unit of x².
    channel_axis : int
        1 for (N, C, ...), -1 for channels last, 0 for features x samples.
    affine : bool
        Whether to scale and shift by learned gamma and beta.
    dtype : dtype
        Type of the parameters.

    Attributes
    ----------
    parameters : dict
        `gamma` (ones) and `beta` (zeros), shape (C,), unit of y; empty without `affine`.

    Raises
    ------
    ValueError
        If `groups` does not divide `channels`.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> x = np.random.default_rng(0).normal(5, 3, (2, 4, 8, 8))
    >>> y, cache = xhat.GroupNorm(4, 2).forward(x)
    >>> bool(np.abs(y.reshape(2, 2, -1).mean(-1)).max() < 1e-12)
    True
    """

    ops = (OP, OP)

    def __init__(
        self,
        channels: int,
        groups: int,
        *,
        eps: float = 1e-5,
        channel_axis: int = 1,
        affine: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        who = "GroupNorm"
        self.channels = as_count(who, "channels", channels, 1, "Give the number of channels of x.")
        advice = "Groups are blocks of equally many channels: choose a divisor of their number."
        self.groups = as_count(who, "groups", groups, 1, advice)
        if self.channels % self.groups:
            raise ValueError(f"{who}: expected groups to divide the {channels} channels, got {groups}. {advice}")
        self.eps = as_eps(who, eps)
        self.channel_axis = as_axis(who, "channel_axis", channel_axis, None)
        self.affine = as_flag(who, "affine", affine)
        kind = as_parameter_dtype(who, dtype)
        if self.affine:
            self.parameters = {"gamma": np.ones(self.channels, kind), "beta": np.zeros(self.channels, kind)}

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return what the Op's forward is called with."""
        return {
            "gamma": None,
            "beta": None,
            **self.parameters,
            "groups": self.groups,
            "eps": self.eps,
            "channel_axis": self.channel_axis,
        }

    def fuses(self, training: bool) -> bool:
        """Return whether ReLU and dropout may follow in the same pass."""
        return self.channel_axis == 1

    def forward(self, x: ArrayLike, *, training: bool = False, epilogue: Epilogue | None = None) -> tuple[Array, Cache]:
        """Return the output and the cache that `backward` needs."""
        check_channels("GroupNorm", x, self.channels, self.channel_axis)
        return forward(x, **self.arguments(training), epilogue=epilogue)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        yield Case(cls(6, 2), x=(3, 6))
        yield Case(cls(6, 3), x=(2, 6, 5))
        yield Case(cls(4, 2), x=(2, 4, 3, 2))
        yield Case(cls(6, 3), x=(2, 6, 2, 1, 3))
        yield Case(cls(5, 1), x=(3, 5, 2))  # all channels
        yield Case(cls(3, 3), x=(2, 3, 4))  # one channel each
        yield Case(cls(6, 2, channel_axis=-1), x=(2, 3, 6))
        yield Case(cls(6, 3, channel_axis=-1, affine=False), x=(2, 2, 3, 6))
        yield Case(cls(6, 2, channel_axis=0), x=(6, 4))
        yield Case(cls(4, 2, channel_axis=0), x=(4, 2, 3))
        yield Case(cls(4, 2, channel_axis=2), x=(2, 3, 4, 2))
        yield Case(cls(4, 2, affine=False), x=(3, 4, 2))
        yield Case(cls(2, 1), x=1e8 + np.array([[[0.1, 0.5], [-0.3, 1.4]], [[1.7, 0.2], [-1.1, 0.3]]]))
        # groups with mean 2 and variance 1, mean 5 and variance 6: with eps = 3 rstd is 1/2 and 1/3
        yield Case(
            cls(4, 2, eps=3.0),
            x=np.array([[[1.0, 3.0], [1.0, 3.0], [1.0, 5.0], [7.0, 7.0]]]),
            parameters={"gamma": [1, 2, 3, -1], "beta": [0, 10, 0, 20]},
            y=[[[-1 / 2, 1 / 2], [9, 11], [-4, 0], [58 / 3, 58 / 3]]],
            dy=[[[4, 0], [0, 0], [3, 0], [0, 0]]],
            dx=[[[11 / 8, -3 / 8], [-5 / 8, -3 / 8], [11 / 12, -3 / 4], [-1 / 12, -1 / 12]]],
        )
        # an eps of 0: the first group does not vary, so nothing is scaled and nothing passes back
        yield Case(
            cls(4, 2, eps=0.0),
            x=np.array([[5.0, 5.0, 1.0, 3.0]]),
            parameters={"gamma": [2, 2, 2, 2], "beta": [1, 2, 3, 4]},
            y=[[1, 2, 1, 6]],
            dy=[[1, 0, 1, 2]],
            dx=[[0, 0, 0, 0]],
        )
        # not varying with an eps of 1/4, where rstd is 2
        yield Case(
            cls(2, 1, eps=0.25),
            x=np.array([[5.0, 5.0]]),
            parameters={"gamma": [1, 2], "beta": [1, 4]},
            y=[[1, 4]],
            dy=[[1, 0]],
            dx=[[1, -1]],
        )
