"""Batch normalization in a network: parameters, running statistics, settings; and where it must be right."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from xhat.checks import Array, as_axis, as_count, as_eps, as_flag, as_parameter_dtype
from xhat.core import Case, Layer
from xhat.layers.batch_norm.pair import FIXED, OP
from xhat.layers.batch_norm.running import RunningStatistics


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

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        update_rate: float | None = 0.1,
        unbiased: bool = False,
        channel_axis: int = 1,
        affine: bool = True,
        nonfinite: str = "raise",
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        who = "BatchNorm"
        self.channels = as_count(who, "channels", channels, 1, "Give the number of channels of x.")
        self.eps = as_eps(who, eps)
        self.channel_axis = as_axis(who, "channel_axis", channel_axis, None)
        self.affine = as_flag(who, "affine", affine)
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

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return what the Op's forward is called with."""
        parameters = {"gamma": None, "beta": None, **self.parameters}
        settings = {"eps": self.eps, "channel_axis": self.channel_axis}
        if training:
            return {**parameters, **settings}
        return {**parameters, "mean": self.statistics.mean, "var": self.statistics.var, **settings}

    def forward(self, x: ArrayLike, *, training: bool = False) -> tuple[Array, Any]:
        """Return the output and the cache that `backward` needs; in training, learn the batch's statistics."""
        y, cache = super().forward(x, training=training)
        if training:
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
