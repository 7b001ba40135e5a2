"""Optimizers: how gradients change parameters.

Each is one rule for one array, written as its equations; `Optimizer.update` changes all arrays in place. Where there is
a kernel (`xhat.kernels.updates`), it does so in one pass, to within a few roundings of the equations; they serve all
other arrays: those of 16 bits, those that lie otherwise in memory, and those that share it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from xhat.checks import Array, as_real
from xhat.kernels import updates


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

    weight_decay = 0.0
    """How much of each weight a step takes off, beside the rule: learning_rate * weight_decay of it."""

    def __init__(self) -> None:
        self.steps = 0
        self.memory: dict[str, tuple[Array, ...]] = {}

    def __init_subclass__(cls) -> None:
        """Keep a new rule from the kernel of the one that it is derived from."""
        super().__init_subclass__()
        if "change" in vars(cls) and "fused" not in vars(cls):
            cls.fused = Optimizer.fused

    def update(
        self,
        parameters: Mapping[str, Array],
        gradients: Mapping[str, Array],
        learning_rate: float,
        *,
        weights: Collection[str] | None = None,
    ) -> None:
        """Change every parameter in place.

        Parameters
        ----------
        parameters : mapping of str to array
            The arrays to change.
        gradients : mapping of str to array
            A gradient for each, by the same names and of the same shapes.
        learning_rate : float
            Unit of parameter² per loss for SGD, momentum and Nesterov, of the parameter for RMSProp, Adam and AdamW.
        weights : collection of str, optional
            The names of those that weight decay pulls on, such as `Sequential.weights`; all of them if not given.

        Raises
        ------
        TypeError
            If a parameter is no array of a floating type or its gradient none that converts to it; nothing is changed
            then.
        ValueError
            If the names or shapes differ, or a parameter is read-only; nothing is changed then.
        """
        who = f"{type(self).__name__}.update"
        if parameters.keys() != gradients.keys():
            odd = sorted(parameters.keys() ^ gradients.keys())
            raise ValueError(f"{who}: expected a gradient for every parameter, got {odd} on one side. Match the names.")
        for name, values in parameters.items():
            self._check(who, name, values, gradients[name])
        learning_rate = as_real(
            who, "learning_rate", learning_rate, 0.0, math.inf, "Give a number that is not negative."
        )
        for name, values in parameters.items():
            if name not in self.memory:
                self.memory[name] = tuple(np.zeros(values.shape, _wide(values)) for _ in range(self.slots))
        self.steps += 1
        share = learning_rate * self.weight_decay
        decay = {name: share if weights is None or name in weights else 0.0 for name in parameters}
        done = self._update_fused(parameters, gradients, learning_rate, decay)
        for name, values in parameters.items():
            if name in done:
                continue
            number = _wide(values).type
            with np.errstate(all="ignore"):  # what the type cannot hold is Inf, and Inf * 0 NaN, as everywhere
                gradient = gradients[name].astype(_wide(values), copy=False)
                if decay[name]:
                    values -= (number(decay[name]) * values.astype(number, copy=False)).astype(values.dtype, copy=False)
                self.change(values, gradient, learning_rate, *self.memory[name])

    @abstractmethod
    def change(self, values: Array, gradient: Array, learning_rate: float, *memory: Array) -> None:
        """Change one parameter in place, and what is remembered of it."""

    def fused(self, learning_rate: float) -> updates.Rule | None:
        """Return what the kernel calls this step, or None: there is no kernel for this rule."""
        return None

    def _check(self, who: str, name: str, values: Array, gradient: Array) -> None:
        if type(values) is not np.ndarray or type(gradient) is not np.ndarray:
            _check_array(who, name, values)
            _check_array(who, f"the gradient of {name}", gradient)
        dtype, shape = values.dtype, values.shape
        if dtype.kind != "f" and dtype.name != "bfloat16":
            raise TypeError(
                f"{who}: expected {name} of a floating type, got {dtype}. Convert it with astype(numpy.float32)."
            )
        if gradient.shape != shape:
            raise ValueError(
                f"{who}: expected a gradient of shape {shape} for {name}, got {gradient.shape}. "
                "A gradient has the shape of its parameter."
            )
        if gradient.dtype != dtype and not np.can_cast(gradient.dtype, _wide(values), "same_kind"):
            raise TypeError(
                f"{who}: expected a gradient of a real type for {name}, got {gradient.dtype}. "
                "A gradient has the type of its parameter."
            )
        if not values.flags.writeable:
            raise ValueError(
                f"{who}: expected {name} writable, for it is changed in place, got a read-only array. Copy it."
            )
        for kept in self.memory.get(name, ()):
            if kept.shape != shape:
                raise ValueError(
                    f"{who}: expected {name} of shape {kept.shape} as before, got {shape}. "
                    "Use an optimizer of its own for every network."
                )

    def _update_fused(
        self,
        parameters: Mapping[str, Array],
        gradients: Mapping[str, Array],
        learning_rate: float,
        decay: Mapping[str, float],
    ) -> Collection[str]:
        """Change what the kernel takes; return the names."""
        names = [name for name, values in parameters.items() if updates.serves(values, self.memory[name])]
        rule = self.fused(learning_rate)
        if rule is None or not names:
            return ()
        with np.errstate(over="ignore"):  # too large for the type is Inf, as everywhere
            done = updates.update(
                rule,
                [parameters[name] for name in names],
                [_like(gradients[name], parameters[name]) for name in names],
                [self.memory[name] for name in names],
                [decay[name] for name in names],
            )
        return names if done else ()


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

    def fused(self, learning_rate: float) -> updates.Rule:
        """Return what the kernel calls this step."""
        return updates.Rule("sgd", learning_rate)


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
        self.momentum = as_real(type(self).__name__, "momentum", momentum, 0.0, 1.0, advice)

    def change(self, values: Array, gradient: Array, learning_rate: float, *memory: Array) -> None:
        """Change one parameter in place, and its last move."""
        (move,) = memory
        number = gradient.dtype.type
        move *= number(self.momentum)
        move -= number(learning_rate) * gradient
        values += move.astype(values.dtype, copy=False)

    def fused(self, learning_rate: float) -> updates.Rule:
        """Return what the kernel calls this step."""
        return updates.Rule("momentum", learning_rate, self.momentum)


class Nesterov(Momentum):
    """Nesterov's momentum: the slope is that of the point where the last move alone would lead.

        v = momentum * v - learning_rate * dw
        w = w + momentum * v - learning_rate * dw

    The paper moves from w by v = momentum * v - learning_rate * (gradient at w + momentum * v). Here the parameters are
    those at the look-ahead point w + momentum * v at all times, so that an ordinary backward pass gives that gradient;
    putting the one into the other gives the lines above.

    Parameters
    ----------
    momentum : float
        Share of the last move that is kept, in [0, 1]; no unit.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton 2013, "On the importance of initialization and momentum in deep learning", eqs. (3)
    and (4).

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.training import Nesterov
    >>> w = np.array([1.0])
    >>> Nesterov(0.5).update({"w": w}, {"w": np.array([2.0])}, learning_rate=0.1)
    >>> print(w)
    [0.7]
    """

    def change(self, values: Array, gradient: Array, learning_rate: float, *memory: Array) -> None:
        """Change one parameter in place, and its last move."""
        (move,) = memory
        number = gradient.dtype.type
        slope = number(learning_rate) * gradient
        move *= number(self.momentum)
        move -= slope
        values += (number(self.momentum) * move - slope).astype(values.dtype, copy=False)

    def fused(self, learning_rate: float) -> updates.Rule:
        """Return what the kernel calls this step."""
        return updates.Rule("nesterov", learning_rate, self.momentum)


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

    def fused(self, learning_rate: float) -> updates.Rule:
        """Return what the kernel calls this step."""
        return updates.Rule("rmsprop", learning_rate, self.decay, eps=self.eps)


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
        self.beta1 = as_real(type(self).__name__, "beta1", beta1, 0.0, 1.0, advice, below=True)
        self.beta2 = as_real(type(self).__name__, "beta2", beta2, 0.0, 1.0, advice, below=True)
        self.eps = as_real(type(self).__name__, "eps", eps, 0.0, math.inf, "The usual one is 1e-8.")

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

    def fused(self, learning_rate: float) -> updates.Rule:
        """Return what the kernel calls this step."""
        first, second = 1 - self.beta1**self.steps, 1 - self.beta2**self.steps
        return updates.Rule("adam", learning_rate / first, self.beta1, self.beta2, 1 / second, self.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay: besides, each weight loses a share of itself.

        w = w - learning_rate * weight_decay * w
        w = w - (the step of Adam, from the gradient of the loss alone)

    An L2 penalty goes through Adam's averages, which divide it by the size of the gradient: weights with large
    gradients are hardly pulled on. Here all are pulled on alike. The trainer lets it pull on weights only, no biases,
    gammas or betas, as its `l2` does; `update` does so if it is told their names.

    Parameters
    ----------
    beta1, beta2, eps : float
        Those of Adam.
    weight_decay : float
        Share of the weights that is taken off, per unit of the learning rate; >= 0. What the paper calls lambda is its
        product with the first learning rate: schedules act on both.

    References
    ----------
    Loshchilov, Hutter 2019, "Decoupled weight decay regularization", arXiv:1711.05101, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.training import AdamW
    >>> w, b = np.array([1.0]), np.array([1.0])
    >>> none = {"w": np.zeros(1), "b": np.zeros(1)}
    >>> AdamW(weight_decay=0.5).update({"w": w, "b": b}, none, learning_rate=0.1, weights={"w"})
    >>> print(w, b)
    [0.95] [1.]
    """

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.01) -> None:
        super().__init__(beta1, beta2, eps)
        self.weight_decay = as_real("AdamW", "weight_decay", weight_decay, 0.0, math.inf, "The usual one is 0.01.")


def _nonzero(size: Array) -> Array:
    """Return sizes to divide by: where there never was a gradient, and no eps, nothing moves."""
    return size if size.all() else np.where(size == 0, size.dtype.type(1), size)


def _check_array(who: str, said: str, array: Array) -> None:
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{who}: expected {said} as an array, got {type(array).__name__}. Give numpy arrays.")


def _like(gradient: Array, values: Array) -> Array:
    """Return a gradient in the type of its parameter, C-contiguous and aligned; itself if it is."""
    flags = gradient.flags
    if gradient.dtype == values.dtype and flags.c_contiguous and flags.aligned:
        return gradient
    return np.require(gradient, values.dtype, ["C", "A"])


def _wide(values: Array) -> np.dtype[Any]:
    """Return the type to compute an update in: small steps vanish in 16 bits."""
    return values.dtype if values.dtype.itemsize >= 4 else np.dtype(np.float32)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
}
