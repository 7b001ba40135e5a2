"""Schedules: by what factor the learning rate is multiplied in each epoch.

A schedule is any function from the number of the epoch, counted from 0, to a factor that is not negative.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from xhat.checks import as_count, as_real

Schedule: TypeAlias = Callable[[int], float]


def exponential(factor: float) -> Schedule:
    """Multiply by `factor`, in (0, 1], after every epoch.

    Examples
    --------
    >>> from xhat.training import schedules
    >>> [schedules.exponential(0.5)(epoch) for epoch in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    """
    factor = as_real("exponential", "factor", factor, 0.0, 1.0, "1 keeps the learning rate.", above=True)
    return partial(_exponential, factor)


def step(every: int, factor: float = 0.1) -> Schedule:
    """Multiply by `factor`, in (0, 1], after every `every` epochs.

    Examples
    --------
    >>> from xhat.training import schedules
    >>> [schedules.step(2, 0.5)(epoch) for epoch in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    every = as_count("step", "every", every, 1, "Give a number of epochs.")
    factor = as_real("step", "factor", factor, 0.0, 1.0, "1 keeps the learning rate.", above=True)
    return partial(_step, every, factor)


def cosine(epochs: int) -> Schedule:
    """Fall from 1 towards 0 along half a cosine over `epochs` epochs; 0 after them.

    References
    ----------
    Loshchilov, Hutter 2017, "SGDR", arXiv:1608.03983, eq. (5), without restarts.

    Examples
    --------
    >>> from xhat.training import schedules
    >>> [round(schedules.cosine(4)(epoch), 3) for epoch in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    epochs = as_count("cosine", "epochs", epochs, 1, "Give the number of epochs you will train.")
    return partial(_cosine, epochs)


# Functions of the module, not of their makers, so that a trainer can be pickled.
def _exponential(factor: float, epoch: int) -> float:
    return factor**epoch


def _step(every: int, factor: float, epoch: int) -> float:
    return factor ** (epoch // every)


def _cosine(epochs: int, epoch: int) -> float:
    return (1 + math.cos(math.pi * min(epoch, epochs) / epochs)) / 2
