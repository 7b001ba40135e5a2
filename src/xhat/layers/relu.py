"""ReLU: let what is positive through, and nothing else.

    y = max(x, 0)          dx = dy where x > 0, else 0

At x = 0 the function has a corner; the gradient there is taken as 0. A NaN stays a NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_gradient, as_values, check_cache
from xhat.core import Case, Layer, Op
from xhat.kernels.elementwise import masked


class Cache(NamedTuple):
    """What backward needs. `x` is shared, not copied: leave it alone until then."""

    x: Array  # any shape


class Grads(NamedTuple):
    """The gradient."""

    dx: Array  # shape of x


def reference_forward(x: Array) -> tuple[Array, Cache]:
    """Let through what is positive."""
    return np.where(x <= 0, 0, x), Cache(x)


def reference_backward(dy: Array, cache: Cache) -> Grads:
    """Let through the gradient of what went through."""
    return Grads(dx=np.where(cache.x <= 0, 0, dy))


def forward(x: ArrayLike) -> tuple[Array, Cache]:
    """Compute `max(x, 0)`.

    Parameters
    ----------
    x : array_like
        Any shape, any floating type.

    Returns
    -------
    y : array
        Shape and type of `x`.
    cache : Cache
        For `backward`.

    Raises
    ------
    TypeError
        If `x` is not of a floating type.

    References
    ----------
    Nair, Hinton 2010, "Rectified linear units improve restricted Boltzmann machines".

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.relu.forward(np.array([-1.0, 0.0, 2.0]))
    >>> print(y)
    [0. 0. 2.]
    """
    x = as_values("relu.forward", "x", x)
    return np.asarray(np.maximum(x, x.dtype.type(0))), Cache(x)


def backward(dy: ArrayLike, cache: Cache) -> Grads:
    """Return the gradient of `forward`.

    Parameters
    ----------
    dy : array_like
        Gradient of the output, shape of `x`.
    cache : Cache
        From `forward`.

    Returns
    -------
    Grads
        `dx`, with the shape and type of `x`.

    Raises
    ------
    TypeError, ValueError
        If `dy` or the saved `x` does not have the type and shape that `forward` gave it.
    """
    who = "relu.backward"
    check_cache(who, cache, Cache)
    x = as_values(who, "cache.x", cache.x)
    dy = as_gradient(who, dy, x.shape, x.dtype)
    with np.errstate(invalid="ignore"):  # bfloat16 warns of NaN
        return Grads(masked(dy, ~(x <= 0)))  # not x > 0: where x is NaN, so is y, and the gradient passes


OP = Op(forward, backward, reference_forward, reference_backward)


class ReLU(Layer):
    """Let what is positive through, and nothing else: `y = max(x, 0)`. No parameters.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> y, cache = xhat.ReLU().forward(np.array([[-3.0, 4.0]]))
    >>> print(y)
    [[0. 4.]]
    """

    ops = (OP, OP)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be right."""
        yield Case(cls(), x=(5, 7))
        yield Case(cls(), x=(2, 3, 4, 5))
        yield Case(cls(), x=np.array([-2.0, -0.0, 0.0, 3.0]), y=[0, 0, 0, 3], dy=[1, 1, 1, 5], dx=[0, 0, 0, 5])
