"""Optimizers: how gradients change parameters.

Each is one rule for one array, written as its equations; `Optimizer.update` walks the arrays and changes them in place.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from xhat.checks import Array, as_real


class Optimizer(ABC):
    """A rule that changes parameters, with what it remembers of each.

    Attributes
    ----------
    steps : int
        Updates made.
    memory : dict of str to tuple of array
        What the rule keeps of each parameter, by its name; at least float32.
    """

    slots = 0
    """How many arrays the rule keeps of each parameter."""

    def __init__(self) -> None:
        self.steps = 0
        self.memory: dict[str, tuple[Array, ...]] = {}

    def update(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array], learning_rate: float) -> None:
        """Change every parameter in place.

        Parameters
        ----------
        parameters : mapping of str to array
            The arrays to change.
        gradients : mapping of str to array
            A gradient for each, by the same names and of the same shapes.
        learning_rate : float
            Unit of parameter² per loss for SGD and momentum, of the parameter for RMSProp and Adam.

        Raises
        ------
        ValueError
            If the names or shapes differ; nothing is changed then.
        """
        who = f"{type(self).__name__}.update"
        if parameters.keys() != gradients.keys():
            odd = sorted(parameters.keys() ^ gradients.keys())
            raise ValueError(f"{who}: expected a gradient for every parameter, got {odd} on one side. Match the names.")
        for name, values in parameters.items():
            if gradients[name].shape != values.shape:
                raise ValueError(
                    f"{who}: expected a gradient of shape {values.shape} for {name}, got {gradients[name].shape}. "
                    "A gradient has the shape of its parameter."
                )
            kept = self.memory.get(name, ())
            if any(array.shape != values.shape for array in kept):
                raise ValueError(
                    f"{who}: expected {name} of shape {kept[0].shape} as before, got {values.shape}. "
                    "Use an optimizer of its own for every network."
                )
        learning_rate = as_real(
            who, "learning_rate", learning_rate, 0.0, math.inf, "Give a number that is not negative."
        )
        self.steps += 1
        for name, values in parameters.items():
            if name not in self.memory:
                self.memory[name] = tuple(np.zeros(values.shape, _wide(values)) for _ in range(self.slots))
            gradient = gradients[name].astype(_wide(values), copy=False)
            with np.errstate(all="ignore"):  # what the type cannot hold is Inf, and Inf * 0 NaN, as everywhere
                self.change(values, gradient, learning_rate, *self.memory[name])

    @abstractmethod
    def change(self, values: Array, gradient: Array, learning_rate: float, *memory: Array) -> None:
        """Change one parameter in place, and what is remembered of it."""


class SGD(Optimizer):
    """Stochastic gradient descent: go down the slope.

        w = w - learning_rate * dw

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.training import SGD
    >>> w = np.array([1.0])
    >>> SGD().update({"w": w}, {"w": np.array([2.0])}, learning_rate=0.1)
    >>> print(w)
    [0.8]
    """

    def change(self, values: Array, gradient: Array, learning_rate: float, *memory: Array) -> None:
        """Change one parameter in place."""
        values -= (gradient.dtype.type(learning_rate) * gradient).astype(values.dtype, copy=False)


class Momentum(Optimizer):
    """Gradient descent with momentum: keep part of the last move.

        v = momentum * v - learning_rate * dw
        w = w + v

    Parameters
    ----------
    momentum : float
        Share of the last move that is kept, in [0, 1]; no unit.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton 2013, "On the importance of initialization and momentum in deep learning", eqs. (1)
    and (2).
    """

    slots = 1

    def __init__(self, momentum: float = 0.9) -> None:
        super().__init__()
        advice = "The momentum is the share of the last move that is kept; 0.9 is usual."
        self.momentum = as_real("Momentum", "momentum", momentum, 0.0, 1.0, advice)

    def change(self, values: Array, gradient: Array, learning_rate: float, *memory: Array) -> None:
        """Change one parameter in place, and its last move."""
        (move,) = memory
        number = gradient.dtype.type
        move *= number(self.momentum)
        move -= number(learning_rate) * gradient
        values += move.astype(values.dtype, copy=False)


class RMSProp(Optimizer):
    """RMSProp: divide the gradient by its averaged size.

        r = decay * r + (1 - decay) * dw²
        w = w - learning_rate * dw / (sqrt(r) + eps)

    Parameters
    ----------
    decay : float
        Share of the old average that is kept, in [0, 1]; no unit.
    eps : float
        Keeps the quotient finite; unit of the gradient. With 0, where all gradients were 0 nothing moves.

    References
    ----------
    Tieleman, Hinton 2012, "Neural networks for machine learning", lecture 6.5; eps outside the root, as has
    become usual.
    """

    slots = 1

    def __init__(self, decay: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__()
        advice = "The decay is the share of the old average that is kept; 0.99 is usual."
        self.decay = as_real("RMSProp", "decay", decay, 0.0, 1.0, advice)
        self.eps = as_real("RMSProp", "eps", eps, 0.0, math.inf, "The usual one is 1e-8.")

    def change(self, values: Array, gradient: Array, learning_rate: float, *memory: Array) -> None:
        """Change one parameter in place, and its average."""
        (r,) = memory
        number = gradient.dtype.type
        r *= number(self.decay)
        r += number(1 - self.decay) * gradient**2
        size = _nonzero(np.sqrt(r) + number(self.eps))
        values -= (number(learning_rate) * (gradient / size)).astype(values.dtype, copy=False)


class Adam(Optimizer):
    """Adam: divide the averaged gradient by its averaged size.

        m = beta1 * m + (1 - beta1) * dw            m_hat = m / (1 - beta1^t)
        v = beta2 * v + (1 - beta2) * dw²           v_hat = v / (1 - beta2^t)
        w = w - learning_rate * m_hat / (sqrt(v_hat) + eps)

    Parameters
    ----------
    beta1, beta2 : float
        Shares of the old averages that are kept, in [0, 1); no unit.
    eps : float
        Keeps the quotient finite; unit of the gradient. With 0, where all gradients were 0 nothing moves.

    References
    ----------
    Kingma, Ba 2015, "Adam", arXiv:1412.6980, algorithm 1.
    """

    slots = 2

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        super().__init__()
        advice = "It is the share of the old average that is kept; 0.9 and 0.999 are usual."
        self.beta1 = as_real("Adam", "beta1", beta1, 0.0, 1.0, advice, below=True)
        self.beta2 = as_real("Adam", "beta2", beta2, 0.0, 1.0, advice, below=True)
        self.eps = as_real("Adam", "eps", eps, 0.0, math.inf, "The usual one is 1e-8.")

    def change(self, values: Array, gradient: Array, learning_rate: float, *memory: Array) -> None:
        """Change one parameter in place, and its two averages."""
        m, v = memory
        number = gradient.dtype.type
        m *= number(self.beta1)
        m += number(1 - self.beta1) * gradient
        v *= number(self.beta2)
        v += number(1 - self.beta2) * gradient**2
        size = _nonzero(np.sqrt(v / number(1 - self.beta2**self.steps)) + number(self.eps))
        step = number(learning_rate / (1 - self.beta1**self.steps)) * (m / size)
        values -= step.astype(values.dtype, copy=False)


def _nonzero(size: Array) -> Array:
    """Return sizes to divide by: where there never was a gradient, and no eps, nothing moves."""
    return size if size.all() else np.where(size == 0, size.dtype.type(1), size)


def _wide(values: Array) -> np.dtype[Any]:
    """Return the type to compute an update in: small steps vanish in 16 bits."""
    return values.dtype if values.dtype.itemsize >= 4 else np.dtype(np.float32)


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "momentum": Momentum, "rmsprop": RMSProp, "adam": Adam}
