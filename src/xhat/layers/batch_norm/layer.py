"""Batch normalization in a network: parameters, running statistics, settings; and where it must be right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from xhat.checks import Array, as_axis, as_count, as_eps, as_flag, as_parameter_dtype
from xhat.core import Case, Layer, Op
from xhat.kernels.fused import Epilogue
from xhat.layers.batch_norm.arguments import as_d_max, as_r_max
from xhat.layers.batch_norm.pair import FIXED, OP, RENORM, VIRTUAL
from xhat.layers.batch_norm.running_statistics import RunningStatistics


class BatchNorm(Layer):
    """Give every channel mean 0 and variance 1 over the batch, then scale and shift.

    In training the statistics are the batch's, and the running statistics learn from them; in prediction they are the
    running ones, so that a sample's result does not depend on its company.

    Parameters
    ----------
    channels : int
        Number of channels C.
    eps : float
        Added to the variance; unit of x².
    update_rate : float or None
        Share of the new batch in the running statistics, in [0, 1]; no unit. torch calls this `momentum`, Keras and
        Flax call 1 - update_rate `momentum`. None averages over everything seen.
    unbiased : bool
        Whether the running variance is the unbiased estimate, as in torch.
    channel_axis : int
        1 for (N, C, ...), -1 for channels last, 0 for features x samples.
    affine : bool
        Whether to scale and shift by learned gamma and beta.
    virtual_batch : int, optional
        Samples per virtual ("ghost") batch: in training each part of so many samples has statistics of its own.
    renorm : tuple of two float, optional
        (r_max, d_max) of batch renormalization, see `xhat.batch_norm.renorm`. May be set anew while training goes on.
    frozen : bool
        Whether training too normalizes with the running statistics and leaves them alone, for fine-tuning; gamma and
        beta still learn. May be set anew.
    nonfinite : {"raise", "skip"}
        What the running statistics do with a batch that holds a NaN or Inf.
    dtype : dtype
        Type of the parameters.

    Attributes
    ----------
    parameters : dict
        `gamma` (ones) and `beta` (zeros), shape (C,), unit of y; empty without `affine`.
    statistics : RunningStatistics
        What prediction normalizes with.

    Raises
    ------
    ValueError
        In training, if there is one value per channel.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> layer = xhat.BatchNorm(2, update_rate=1.0)
    >>> x = np.random.default_rng(0).normal(5, 3, (100, 2))
    >>> y, cache = layer.forward(x, training=True)
    >>> z, cache = layer.forward(x)
    >>> bool(np.abs(y - z).max() < 1e-12)
    True
    """

    ops = (OP, FIXED)
    absorbs_bias = True
    normalizes_features = True

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        update_rate: float | None = 0.1,
        unbiased: bool = False,
        channel_axis: int = 1,
        affine: bool = True,
        virtual_batch: int | None = None,
        renorm: tuple[float, float] | None = None,
        frozen: bool = False,
        nonfinite: str = "raise",
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        who = "BatchNorm"
        self.channels = as_count(who, "channels", channels, 1, "Give the number of channels of x.")
        self.eps = as_eps(who, eps)
        self.channel_axis = as_axis(who, "channel_axis", channel_axis, None)
        self.affine = as_flag(who, "affine", affine)
        self.frozen = frozen
        self._renorm = None
        self.virtual_batch = virtual_batch
        self.renorm = renorm
        kind = as_parameter_dtype(who, dtype)
        if self.affine:
            self.parameters = {"gamma": np.ones(self.channels, kind), "beta": np.zeros(self.channels, kind)}
        self.statistics = RunningStatistics(self.channels, update_rate, unbiased, nonfinite=nonfinite)
        self.state = {
            "running_mean": self.statistics.mean,
            "running_var": self.statistics.var,
            "running_count": self.statistics.count,
        }

    @property
    def update_rate(self) -> float | None:
        """Share of the new batch in the running statistics."""
        return self.statistics.update_rate

    @property
    def unbiased(self) -> bool:
        """Whether the running variance is the unbiased estimate."""
        return self.statistics.unbiased

    @property
    def nonfinite(self) -> str:
        """What happens to a batch whose statistics are not finite: "raise" or "skip"."""
        return self.statistics.nonfinite

    @property
    def renorm(self) -> tuple[float, float] | None:
        """(r_max, d_max) of batch renormalization, or None."""
        return self._renorm

    @renorm.setter
    def renorm(self, limits: tuple[float, float] | None) -> None:
        if limits is not None:
            if not isinstance(limits, tuple | list) or len(limits) != 2:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    f"BatchNorm: expected renorm as (r_max, d_max), got {limits!r}. Give (3.0, 5.0), or None."
                )
            limits = as_r_max("BatchNorm", limits[0]), as_d_max("BatchNorm", limits[1])
            self._check_one_kind(self.virtual_batch, limits)
        self._renorm = limits

    @property
    def virtual_batch(self) -> int | None:
        """Samples per virtual batch, or None."""
        return self._virtual_batch

    @virtual_batch.setter
    def virtual_batch(self, size: int | None) -> None:
        if size is not None:
            size = as_count("BatchNorm", "virtual_batch", size, 1, "Give the samples per virtual batch.")
        self._check_one_kind(size, self._renorm)
        self._virtual_batch = size

    @staticmethod
    def _check_one_kind(virtual_batch: int | None, renorm: tuple[float, float] | None) -> None:
        if virtual_batch is not None and renorm is not None:
            raise ValueError("BatchNorm: expected virtual_batch or renorm, got both. Choose one of them.")

    @property
    def frozen(self) -> bool:
        """Whether training leaves the running statistics alone, and normalizes with them."""
        return self._frozen

    @frozen.setter
    def frozen(self, frozen: bool) -> None:
        self._frozen = as_flag("BatchNorm", "frozen", frozen)

    def op(self, training: bool) -> Op:
        """Return the Op that serves."""
        if not training or self.frozen:
            return FIXED
        return RENORM if self.renorm is not None else VIRTUAL if self.virtual_batch is not None else OP

    def fuses(self, training: bool) -> bool:
        """Return whether ReLU and dropout may follow in the same pass: not where a batch is in parts."""
        return self.op(training) in (OP, FIXED)

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return what the Op's forward is called with."""
        arguments = {"gamma": None, "beta": None, **self.parameters, "eps": self.eps, "channel_axis": self.channel_axis}
        op = self.op(training)
        if op is FIXED or op is RENORM:
            arguments |= {"mean": self.statistics.mean, "var": self.statistics.var}
        if op is RENORM and self.renorm is not None:
            arguments |= {"r_max": self.renorm[0], "d_max": self.renorm[1]}
        if op is VIRTUAL:
            arguments |= {"virtual_batch": self.virtual_batch}
        return arguments

    def forward(
        self,
        x: ArrayLike,
        *,
        training: bool = False,
        weights: ArrayLike | None = None,
        epilogue: Epilogue | None = None,
    ) -> tuple[Array, Any]:
        """Return the output and the cache that `backward` needs; in training, learn the batch's statistics.

        Parameters
        ----------
        x : array_like
            Any shape with the layer's channels.
        training : bool
            Whether statistics come from this batch.
        weights : array_like, optional
            As in `xhat.batch_norm.forward`.
        epilogue : kernels.fused.Epilogue, optional
            As there, where the layer `fuses`.
        """
        arguments = {**self.arguments(training), "weights": weights}
        if epilogue is not None:
            arguments["epilogue"] = epilogue
        y, cache = self.op(training).forward(x, **arguments)
        if training and not self.frozen:
            self.statistics.update(cache)
        return y, cache

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        yield Case(cls(5), x=(7, 5))
        yield Case(cls(3, affine=False), x=(4, 3))
        yield Case(cls(3), x=(2, 3, 4, 5))
        yield Case(cls(3, channel_axis=-1), x=(2, 5, 3))
        yield Case(cls(4, channel_axis=0), x=(4, 11))
        yield Case(cls(2), x=(2, 2))
        yield Case(cls(2), x=1e8 + np.array([[0.1, 0.5], [1.7, -0.2], [-1.1, 0.3]]))
        # mean 2 and 4, variance 1 and 16, so with eps = 48 the roots are 7 and 8
        yield Case(
            cls(2, eps=48.0),
            x=np.array([[1.0, 0.0], [3.0, 8.0]]),
            parameters={"gamma": [7, 2], "beta": [10, 20]},
            y=[[9, 19], [11, 21]],
            dy=[[49, 0], [0, 16]],
            dx=[[24, -1.5], [-24, 1.5]],
        )
        # an eps of 0: the first channel does not vary, so nothing is scaled and nothing passes back
        yield Case(
            cls(2, eps=0.0),
            x=np.array([[5.0, 1.0], [5.0, 3.0], [5.0, 5.0], [5.0, 3.0]]),
            parameters={"gamma": [2, 1], "beta": [1, 4]},
            y=[[1, 4 - 2**0.5], [1, 4], [1, 4 + 2**0.5], [1, 4]],
            dy=[[1, 0], [0, 0], [0, 0], [0, 4]],
            dx=[[0, -(0.5**0.5)], [0, -(0.5**0.5)], [0, -(0.5**0.5)], [0, 3 * 0.5**0.5]],
        )
        # not varying with an eps of 1/4, where rstd is 2
        yield Case(
            cls(1, eps=0.25),
            x=np.array([[5.0], [5.0]]),
            parameters={"gamma": [3], "beta": [4]},
            y=[[4], [4]],
            dy=[[1], [0]],
            dx=[[3], [-3]],
        )
        predicting = cls(3)
        predicting.statistics.mean[...] = [1, -2, 3]
        predicting.statistics.var[...] = [0.5, 1, 4]
        yield Case(predicting, x=(4, 3, 2), training=False)
        predicting = cls(2, eps=3.0)
        predicting.statistics.mean[...] = [1, 2]
        predicting.statistics.var[...] = [1, 22]
        yield Case(
            predicting,
            x=np.array([[5.0, 12.0]]),
            training=False,
            parameters={"gamma": [1, 2], "beta": [0, 1]},
            y=[[2, 5]],
            dy=[[2, 5]],
            dx=[[1, 2]],
        )
        predicting = cls(2, eps=0.0)
        predicting.statistics.mean[...] = [1, 2]
        predicting.statistics.var[...] = [0, 4]
        yield Case(
            predicting,
            x=np.array([[5.0, 12.0]]),
            training=False,
            parameters={"gamma": [1, 2], "beta": [3, 1]},
            y=[[3, 11]],
            dy=[[2, 5]],
            dx=[[0, 5]],
        )
        predicting = cls(1, eps=0.25)
        predicting.statistics.var[...] = 0
        yield Case(
            predicting,
            x=np.array([[3.0]]),
            training=False,
            parameters={"gamma": [1], "beta": [1]},
            y=[[7]],
            dy=[[1]],
            dx=[[2]],
        )
        yield Case(cls(3), x=(5, 3), arguments={"weights": np.array([1.0, 0.5, 0.0, 3.0, 2.25])})
        per_entry = np.array([[1.0, 0.0], [0.25, 1.0], [0.0, 2.0]])
        yield Case(cls(2), x=(3, 2, 2), arguments={"weights": per_entry})
        yield Case(cls(2), x=(3, 2, 2, 3), arguments={"weights": np.array([1.0, 0.0, 2.5])})
        yield Case(cls(2, affine=False, channel_axis=-1), x=(3, 2, 2), arguments={"weights": per_entry})
        x = 1e8 + np.array([[0.1, 0.5], [1.7, -0.2], [-1.1, 0.3]])
        yield Case(cls(2), x=x, arguments={"weights": np.array([1.0, 3.0, 0.5])})
        # weights are copies: 1, 3, 3, 3 has mean 5/2, variance 3/4; with eps = 1/4 the root is 1. The last is missing
        yield Case(
            cls(1, eps=0.25),
            x=np.array([[1.0], [3.0], [np.nan]]),
            arguments={"weights": np.array([1.0, 3.0, 0.0])},
            parameters={"gamma": [2], "beta": [10]},
            y=[[7], [11], [0]],
            dy=[[8], [0], [5]],
            dx=[[3], [-3], [0]],
        )
        yield Case(cls(3, virtual_batch=2), x=(7, 3, 2))
        yield Case(cls(2, virtual_batch=3, channel_axis=0), x=(2, 6))
        # two virtual batches of variance 1 and 16, so with eps = 48 the roots are 7 and 8
        yield Case(
            cls(1, virtual_batch=2, eps=48.0),
            x=np.array([[1.0], [3.0], [0.0], [8.0]]),
            parameters={"gamma": [56], "beta": [10]},
            y=[[2], [18], [-18], [38]],
            dy=[[49], [0], [0], [16]],
            dx=[[192], [-192], [-42], [42]],
        )
        # three virtual batches, the last one with the rest: variances 1, 1, 6, so with eps = 3 the roots are 2, 2, 3
        yield Case(
            cls(1, virtual_batch=2, eps=3.0),
            x=np.array([[1.0], [3.0], [1.0], [3.0], [2.0], [5.0], [8.0]]),
            parameters={"gamma": [6], "beta": [10]},
            y=[[7], [13], [7], [13], [4], [10], [16]],
            dy=[[4], [0], [0], [0], [3], [0], [0]],
            dx=[[4.5], [-4.5], [0], [0], [2], [-2], [0]],
        )
        # far from the running statistics: r and d are at their limits, so that they do not move with x
        renormalizing = cls(3, renorm=(1.5, 0.25))
        renormalizing.statistics.mean[...] = [9, -9, 9]
        renormalizing.statistics.var[...] = [100, 0.01, 100]
        yield Case(renormalizing, x=(5, 3, 2))
        renormalizing = cls(2, affine=False, renorm=(2.0, 3.0))
        renormalizing.statistics.mean[...] = 20
        renormalizing.statistics.var[...] = 0.01
        yield Case(renormalizing, x=(4, 2))
        # mean 2, variance 1; running mean -3, variance 22: with eps = 3 the roots are 2 and 5, so r = 2/5 and d = 1
        renormalizing = cls(1, renorm=(3.0, 5.0), eps=3.0)
        renormalizing.statistics.mean[...] = -3
        renormalizing.statistics.var[...] = 22
        yield Case(
            renormalizing,
            x=np.array([[1.0], [1.0], [3.0], [3.0]]),
            parameters={"gamma": [10], "beta": [0]},
            y=[[8], [8], [12], [12]],
            dy=[[4], [0], [0], [0]],
            dx=[[5.5], [-2.5], [-1.5], [-1.5]],
        )
        # a running variance of 0 and an eps of 0: r is at its lower limit, and d is 0
        renormalizing = cls(1, renorm=(2.0, 5.0), eps=0.0)
        renormalizing.statistics.mean[...] = 1
        renormalizing.statistics.var[...] = 0
        yield Case(
            renormalizing,
            x=np.array([[1.0], [3.0]]),
            parameters={"gamma": [4], "beta": [10]},
            y=[[8], [12]],
            dy=[[1], [0]],
            dx=[[0], [0]],
        )
        # neighbours in float64: their mean lies between two numbers, as does its distance from the running mean
        neighbours = np.array([[1.0], [1.0], [1 + 2.0**-52], [1 + 2.0**-52]])
        yield Case(
            cls(1, eps=0.0),
            x=neighbours,
            parameters={"gamma": [2], "beta": [1]},
            y=[[-1], [-1], [3], [3]],
            dy=[[2.0**-53], [0], [0], [0]],
            dx=[[1], [-1], [0], [0]],
        )
        renormalizing = cls(1, renorm=(3.0, 5.0), eps=0.0)
        renormalizing.statistics.mean[...] = 1
        renormalizing.statistics.var[...] = 2.0**-106
        yield Case(
            renormalizing,
            x=neighbours,
            parameters={"gamma": [2], "beta": [3]},
            y=[[3], [3], [7], [7]],
            dy=[[2.0**-53], [0], [0], [0]],
            dx=[[1], [-1], [0], [0]],
        )
        frozen = cls(2, eps=3.0, frozen=True)
        frozen.statistics.mean[...] = [1, 2]
        frozen.statistics.var[...] = [1, 22]
        yield Case(frozen, x=(3, 2))
