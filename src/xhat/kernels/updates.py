"""One step of an optimizer over all parameters, in one compiled pass.

The rules are written in `xhat.training.optimizers`. Here every entry is worked out in float64 from the numbers as they
are stored, and each result is rounded once. What a rule keeps is rounded before the step is made of it, so that the
step follows from the numbers that are kept. The rate is taken in the type of the parameter. The bits depend neither on
the number of threads nor on the variant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xhat import kernels

__all__ = ["Rule", "serves", "update"]

Numbers: TypeAlias = NDArray[np.floating[Any]]


class Rule(NamedTuple):
    """Which rule, and its numbers for this step.

    Attributes
    ----------
    name : {"sgd", "momentum", "nesterov", "rmsprop", "adam"}
        They keep 0, 1, 1, 1 and 2 arrays of a parameter.
    rate : float
        What the step is multiplied by; Adam's with the correction of its first average.
    kept1, kept2 : float
        The shares that are kept of the first and the second array.
    correction : float
        What Adam's second average is multiplied by.
    eps : float
        Added to the size that RMSProp and Adam divide by. Where the sum is 0, it counts as 1.
    """

    name: Literal["sgd", "momentum", "nesterov", "rmsprop", "adam"]
    rate: float
    kept1: float = 0.0
    kept2: float = 0.0
    correction: float = 1.0
    eps: float = 0.0


def serves(values: Numbers, memory: Sequence[Numbers]) -> bool:
    """Tell whether there is a kernel for this parameter and what is kept of it, as they lie in memory."""
    dtype = values.dtype
    if not (kernels.serves_wide(dtype) and values.flags.carray):
        return False
    return all(array.dtype == dtype and array.flags.carray for array in memory)


def update(
    rule: Rule,
    parameters: Sequence[Numbers],
    gradients: Sequence[Numbers],
    memory: Sequence[Sequence[Numbers]],
    decay: Sequence[float],
) -> bool:
    """Change all parameters in place, and what is kept of them.

    Parameters
    ----------
    rule : Rule
        The same for all.
    parameters : sequence of numpy.ndarray
        C-contiguous, float32 or float64 each.
    gradients : sequence of numpy.ndarray
        One for each parameter, of its type and shape.
    memory : sequence of sequence of numpy.ndarray
        As many arrays for each parameter as the rule keeps, of its type and shape.
    decay : sequence of float
        The share of each parameter that weight decay takes off.

    Returns
    -------
    bool
        False, and nothing is written, if an array that is written shares memory with another. Such parameters can only
        be changed one after the other.

    Raises
    ------
    TypeError
        If something has another type; nothing is written then.
    ValueError
        If the rule is unknown, lengths or shapes do not fit, or an array is not contiguous, aligned or writable;
        nothing is written then.
    """
    return kernels.native.update(*rule, parameters, gradients, memory, decay)
