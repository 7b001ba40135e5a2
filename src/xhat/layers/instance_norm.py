"""Instance normalization: give every channel of every sample mean 0 and variance 1 over its positions.

    mean  = average of x over positions              x_hat = (x - mean) * rstd
    rstd  = 1 / sqrt(variance + eps)                 y     = x_hat * gamma + beta

It is batch norm on a batch of one, sample by sample, so gamma is constant where x is averaged and may be taken out:

    dx = gamma * rstd * (dy - mean(dy) - x_hat * mean(dy * x_hat))
    dgamma = sum over samples and positions of dy * x_hat          dbeta = sum over samples and positions of dy

Source: Ulyanov, Vedaldi, Lempitsky 2016, "Instance normalization", arXiv:1607.08022; gamma and beta
as has become usual.
Derivation: docs/instance_norm.md
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
    mean: Array  # (N, C) float64, unit of x
    mean_low: Array  # (N, C) float64, unit of x
    var: Array  # (N, C) float64, biased, unit of x²
    rstd: Array  # (N, C) float64, unit of 1/x
    channel_axis: int


class Grads(NamedTuple):
    """The gradients, each with the shape and type of what it belongs to; None for a parameter that was None."""

    dx: Array
    dgamma: Array | None  # (C,)
    dbeta: Array | None  # (C,)


def reference_forward(
    x: Array, gamma: Array | None, beta: Array | None, eps: float, channel_axis: int = 1
) -> tuple[Array, Cache]:
    """Centre each channel of each sample, scale it to unit variance, then apply gamma and beta."""
    maps = np.moveaxis(x, channel_axis, 1)  # (N, C, positions)
    positions = tuple(range(2, x.ndim))
    count = max(1, math.prod(maps.shape[2:]))

    mean = maps.sum(positions, keepdims=True) / count
    centred = maps - mean
    mean_low = centred.sum(positions, keepdims=True) / count  # a mean of 1e9 is rounded by 1e-7: take that off too
    centred = centred - mean_low
    var = (centred * centred).sum(positions, keepdims=True) / count
    spread = var + eps
    rstd = np.where(spread == 0, 0, (spread + (spread == 0)) ** -0.5)  # nothing varies: nothing to scale

    y = centred * rstd
    if gamma is not None:
        y = y * _per_channel(gamma, x.ndim)
    if beta is not None:
        y = y + _per_channel(beta, x.ndim)
    mean, mean_low, var, rstd = (values.reshape(maps.shape[:2]) for values in (mean, mean_low, var, rstd))
    return np.moveaxis(y, 1, channel_axis), Cache(x, gamma, beta, mean, mean_low, var, rstd, channel_axis)


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Remove from dy, channel by channel, the two directions that x_hat cannot move along."""
    x, gamma, beta, mean, mean_low, _, rstd, channel_axis = cache
    maps, dy = np.moveaxis(x, channel_axis, 1), np.moveaxis(dy, channel_axis, 1)  # (N, C, positions)
    positions = tuple(range(2, x.ndim))
    count = max(1, math.prod(maps.shape[2:]))
    mean, mean_low, rstd = (s.reshape(*s.shape, *(1 for _ in positions)) for s in (mean, mean_low, rstd))

    x_hat = (maps - mean - mean_low) * rstd
    sum_of_dy = dy.sum(positions, keepdims=True)  # (N, C, 1, ...)
    sum_of_dy_x_hat = (dy * x_hat).sum(positions, keepdims=True)
    slope = rstd if gamma is None else rstd * _per_channel(gamma, x.ndim)
    dx = slope * (dy - sum_of_dy / count - x_hat * (sum_of_dy_x_hat / count))
    return Grads(
        dx=np.moveaxis(dx, 1, channel_axis),
        dgamma=None if gamma is None else sum_of_dy_x_hat.sum(0).reshape(-1),
        dbeta=None if beta is None else sum_of_dy.sum(0).reshape(-1),
    )


def forward(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
    channel_axis: int = 1,
    *,
    epilogue: Epilogue | None = None,
    out: Array | None = None,
) -> tuple[Array, Cache]:
    """Give every channel of every sample mean 0 and variance 1 over its positions, then scale and shift.

    Parameters
    ----------
    x : array_like
        Any shape with a batch axis, a channel axis and positions, any floating type: (N, C, L), (N, C, H, W), ... The
        batch axis is the first that is not the channel axis; all others are positions.
    gamma, beta : array_like, shape (C,), optional
        Scale and shift, unit of y. None means none.
    eps : float
        Added to the variance; unit of x². With 0, a channel whose values are all equal gives beta.
    channel_axis : int
        1 for (N, C, ...), -1 for channels last, 0 for channels first of all.
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
        If a shape does not fit, an axis does not exist, `eps` is negative or not finite, the variance overflows, or
        there is one value per channel of a sample: its variance is 0 and says nothing.

    Notes
    -----
    Statistics are float64 whatever the type of `x`, and the variance is the biased one. There are no running
    statistics: prediction does the same. A NaN or Inf stays in its channel of its sample. A sample's result does not
    depend on the rest of the batch; an empty batch gives an empty y. Where the squares of float64 data leave the range,
    beyond about 1e154 or below 1e-154, `var` is Inf or 0, and y and dx are right all the same. Without compiled loops,
    and beyond 4e307, such data are an error (found while computing: `out` has been written), or count as not varying.

    References
    ----------
    Ulyanov, Vedaldi, Lempitsky 2016, arXiv:1607.08022.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.instance_norm.forward(np.array([[[1.0, 3.0], [0.0, 8.0]]]), eps=0.0)
    >>> print(y, cache.mean, cache.var)
    [[[-1. 1.]
      [-1. 1.]]] [[2. 4.]] [[ 1. 16.]]
    """
    done = small.instances_forward(x, gamma, beta, eps, channel_axis) if out is epilogue is None else None
    if done is not None:
        return done[0], Cache._make(done[1])

    who = "instance_norm.forward"
    given = x, gamma, beta
    x, axis, gamma, beta = _inputs(who, "", x, gamma, beta, channel_axis)
    eps = as_eps(who, eps)
    maps = np.moveaxis(x, axis, 1)
    epilogue = as_epilogue(who, epilogue, maps)
    if x.size and math.prod(maps.shape[2:]) == 1:
        raise ValueError(
            f"{who}: expected at least 2 values per channel of a sample, got 1 in x of shape {x.shape}. "
            "Use an x with positions, group_norm with fewer groups than channels, or batch_norm."
        )
    y = as_output(who, out, x.shape, x.dtype, *given)
    if kernels.serves(x.dtype):
        rows = maps, gamma, beta, eps, np.moveaxis(y, axis, 1)
        statistics = strided.rows_forward(*rows, kept=2, shape=(maps.shape[1], 1), epilogue=epilogue)
    else:
        with np.errstate(all="ignore"):
            y[...], cache = reference_forward(x.astype(np.float64), gamma, beta, eps, axis)
        statistics = kernels.Statistics(cache.mean, cache.mean_low, cache.var, cache.rstd)
    check_range(who, maps, statistics.var, tuple(range(2, x.ndim)), rstd=statistics.rstd)
    return y, Cache(x, gamma, beta, *statistics, axis)


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
    >>> y, cache = xhat.instance_norm.forward(np.array([[[1.0, 2.0, 3.0]]]), gamma=[2.0], eps=1 / 3)
    >>> xhat.instance_norm.backward(np.array([[[3.0, 0.0, 0.0]]]), cache).dx.round(9)
    array([[[ 2., -2.,  0.]]])
    """
    done = small.instances_backward(dy, *cache) if type(cache) is Cache and out is epilogue is None else None
    if done is not None:
        return Grads._make(done)

    who = "instance_norm.backward"
    check_cache(who, cache, Cache)
    given = dy, *cache
    advice = "Pass on the cache that forward returned."
    x, axis, gamma, beta = _inputs(who, "cache.", cache.x, cache.gamma, cache.beta, cache.channel_axis)
    maps = np.moveaxis(x, axis, 1)
    statistics = kernels.Statistics(
        *(
            as_statistic(who, f"cache.{name}", getattr(cache, name), maps.shape[:2], advice)
            for name in kernels.Statistics._fields
        )
    )
    epilogue = as_epilogue(who, epilogue, maps)
    dy = as_gradient(who, dy, x.shape, x.dtype)
    dx = as_output(who, out, x.shape, x.dtype, *given)

    if kernels.serves(x.dtype):
        rows = np.moveaxis(dy, axis, 1), maps, gamma, statistics, np.moveaxis(dx, axis, 1)
        dgamma, dbeta = strided.rows_backward(*rows, shape=(maps.shape[1], 1), beta=beta, epilogue=epilogue)
    else:
        wide = Cache(x.astype(np.float64), gamma, beta, *statistics, axis)
        with np.errstate(all="ignore"):
            dx[...], dgamma, dbeta = reference_backward(dy.astype(np.float64), wide)
    with np.errstate(all="ignore"):
        return Grads(
            dx,
            None if gamma is None or dgamma is None else dgamma.reshape(-1).astype(gamma.dtype, copy=False),
            None if beta is None or dbeta is None else dbeta.reshape(-1).astype(beta.dtype, copy=False),
        )


def _inputs(
    who: str, owner: str, x: ArrayLike, gamma: ArrayLike | None, beta: ArrayLike | None, channel_axis: object
) -> tuple[Array, int, Array | None, Array | None]:
    """Return x, its channel axis counted from the front, and the parameters, each checked."""
    x = as_values(who, f"{owner}x", x)
    axis = as_axis(who, f"{owner}channel_axis", channel_axis, x.ndim)
    if x.ndim < 2:
        raise ValueError(
            f"{who}: expected {owner}x with a batch axis and a channel axis, got shape {x.shape}. Add one with x[None]."
        )
    shape = x.shape[axis : axis + 1]
    advice = f"The channel axis {axis} of x has size {shape[0]}; choose another with channel_axis."
    return (
        x,
        axis,
        None if gamma is None else as_parameter(who, f"{owner}gamma", gamma, shape, advice),
        None if beta is None else as_parameter(who, f"{owner}beta", beta, shape, advice),
    )


def _per_channel(parameter: Array, ndim: int) -> Array:
    """Return a parameter in a shape that lays it along the channels of maps (N, C, positions)."""
    return parameter.reshape(-1, *(1 for _ in range(2, ndim)))


OP = Op(forward, backward, reference_forward, reference_backward)


class InstanceNorm(Layer):
    """Give every channel of every sample mean 0 and variance 1 over its positions, then scale and shift.

    The same in training and in prediction: a sample's statistics are its own.

    Parameters
    ----------
    channels : int
        Number of channels C.
    eps : float
        Added to the variance; unit of x².
    channel_axis : int
        1 for (N, C, ...), -1 for channels last, 0 for channels first of all.
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
        If x has one value per channel of a sample.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> x = np.random.default_rng(0).normal(5, 3, (2, 4, 8, 8))
    >>> y, cache = xhat.InstanceNorm(4).forward(x)
    >>> bool(np.abs(y.mean((2, 3))).max() < 1e-12)
    True
    """

    ops = (OP, OP)
    absorbs_bias = True

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        channel_axis: int = 1,
        affine: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        who = "InstanceNorm"
        self.channels = as_count(who, "channels", channels, 1, "Give the number of channels of x.")
        self.eps = as_eps(who, eps)
        self.channel_axis = as_axis(who, "channel_axis", channel_axis, None)
        self.affine = as_flag(who, "affine", affine)
        kind = as_parameter_dtype(who, dtype)
        if self.affine:
            self.parameters = {"gamma": np.ones(self.channels, kind), "beta": np.zeros(self.channels, kind)}

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return what the Op's forward is called with."""
        return {"gamma": None, "beta": None, **self.parameters, "eps": self.eps, "channel_axis": self.channel_axis}

    def fuses(self, training: bool) -> bool:
        """Return whether ReLU and dropout may follow in the same pass."""
        return self.channel_axis == 1

    def forward(self, x: ArrayLike, *, training: bool = False, epilogue: Epilogue | None = None) -> tuple[Array, Cache]:
        """Return the output and the cache that `backward` needs."""
        check_channels("InstanceNorm", x, self.channels, self.channel_axis)
        return forward(x, **self.arguments(training), epilogue=epilogue)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        yield Case(cls(3), x=(2, 3, 5))
        yield Case(cls(2), x=(3, 2, 4, 3))
        yield Case(cls(2), x=(2, 2, 3, 1, 2))
        yield Case(cls(1), x=(2, 1, 7))
        yield Case(cls(3, channel_axis=-1), x=(2, 5, 3))
        yield Case(cls(2, channel_axis=-1, affine=False), x=(2, 3, 4, 2))
        yield Case(cls(3, channel_axis=0), x=(3, 2, 4))
        yield Case(cls(3, channel_axis=2), x=(2, 4, 3, 2))
        yield Case(cls(3, affine=False), x=(2, 3, 5))
        yield Case(cls(2), x=1e8 + np.array([[[0.1, 0.5, -0.3], [1.7, 0.2, -1.1]]]))
        # means 2 and 0, variances 2/3 and 26/3, so with eps = 1/3 rstd is 1 and 1/3
        yield Case(
            cls(2, eps=1 / 3),
            x=np.array([[[1.0, 2.0, 3.0], [-1.0, -3.0, 4.0]]]),
            parameters={"gamma": [2, 3], "beta": [10, 20]},
            y=[[[8, 10, 12], [19, 17, 24]]],
            dy=[[[3, 0, 0], [0, 0, 1]]],
            dx=[[[2, -2, 0], [-5 / 27, 1 / 9, 2 / 27]]],
        )
        # an eps of 0: the first channel does not vary, so nothing is scaled and nothing passes back
        yield Case(
            cls(2, eps=0.0),
            x=np.array([[[5.0, 5.0], [1.0, 3.0]]]),
            parameters={"gamma": [2, 2], "beta": [1, 4]},
            y=[[[1, 1], [2, 6]]],
            dy=[[[1, 0], [1, 2]]],
            dx=[[[0, 0], [0, 0]]],
        )
        # not varying with an eps of 1/4, where rstd is 2
        yield Case(
            cls(1, eps=0.25),
            x=np.array([[[5.0, 5.0]]]),
            parameters={"gamma": [3], "beta": [4]},
            y=[[[4, 4]]],
            dy=[[[1, 0]]],
            dx=[[[3, -3]]],
        )
