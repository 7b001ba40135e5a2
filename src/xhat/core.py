"""The contract on one page: what a layer is made of, and what is asked of it.

An *Op* is two pure functions on arrays, forward and backward, with the mathematics that judges them.
A *Layer* is an Op with parameters, remembered state and settings. A *Case* is a small situation in which
a layer must be provably right. Everything generic (contract tests, `Sequential`, the trainer, files, the gradient
check) is written against these three and the list `xhat.layers.LAYERS`; only what builds networks, `mlp` and
`xhat train`, names layers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array


class Op(NamedTuple):
    """A forward pass, its backward pass, and a reference for each.

    `forward(x, **arguments)` returns `(y, cache)`, `backward(dy, cache)` returns the gradients: a NamedTuple
    with `dx` and, for every parameter `p`, a field `dp`. Both check what they are given, keep the type of `x`
    and may use a fast kernel. The references take and return the same, check nothing and use only arithmetic
    that also works on complex, extended-precision and exact numbers: they are the page to learn from and the
    oracle. The two share no code, but for what numbers worked out by hand hold.
    """

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., Any]
    reference_forward: Callable[..., tuple[Array, Any]]
    reference_backward: Callable[..., Any]


class Layer:
    """An Op with parameters, remembered state and settings.

    A subclass sets `ops` and fills `parameters` and `state` in its constructor; each constructor argument but
    `rng` and `dtype` is a setting and is kept as an attribute of the same name, so that a saved network can
    be built again.

    Attributes
    ----------
    parameters : dict of str to array
        What training changes, by the names that the Op's forward takes them by.
    state : dict of str to array
        What is remembered besides: running statistics. Saved with the parameters, changed by no optimizer. Write into
        its arrays with `[...]`; another array put in their place is not what the layer computes with.
    """

    ops: ClassVar[tuple[Op, Op]]
    """The Op for training and the one for prediction; most layers have one for both."""

    weights: ClassVar[tuple[str, ...]] = ()
    """The parameters that an L2 penalty pulls on."""

    absorbs_bias: ClassVar[bool] = False
    """Whether a constant added to a channel of x has no effect, so that a layer before it needs no bias."""

    normalizes_features: ClassVar[bool] = False
    """Whether it is a normalization of samples of plain features, (N, features), that their number is enough to make:
    `mlp` and `xhat train` then offer it."""

    parameters: dict[str, Array]
    state: dict[str, Array]

    def __init__(self) -> None:
        self.parameters = {}
        self.state = {}

    def op(self, training: bool) -> Op:
        """Return the Op that serves."""
        return self.ops[0] if training else self.ops[1]

    def fuses(self, training: bool) -> bool:
        """Return whether ReLU and dropout may follow in the same pass over memory.

        Then `forward`, and the backward of its Op, take `epilogue`: a `kernels.fused.Epilogue`, or None.
        """
        return False

    def arguments(self, training: bool) -> dict[str, Any]:
        """Return everything but `x` that the Op's forward is called with."""
        return dict(self.parameters)

    def forward(self, x: ArrayLike, *, training: bool = False) -> tuple[Array, Any]:
        """Return the output and the cache that `backward` needs."""
        return self.op(training).forward(x, **self.arguments(training))

    def backward(self, dy: ArrayLike, cache: Any) -> Any:
        """Return the gradients for `x` and for every parameter."""
        return self.ops[0].backward(dy, cache)

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments, but for `rng` and `dtype`."""
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names if name not in ("rng", "dtype")}

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Yield the situations in which this layer must be provably right."""
        raise NotImplementedError(f"{cls.__name__}.cases: say where this layer must be right.")

    def __repr__(self) -> str:
        """Return the call that would make this layer, without what is as by default."""
        defaults = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        told = [f"{name}={value!r}" for name, value in self.settings().items() if value != defaults[name]]
        return f"{type(self).__name__}({', '.join(told)})"


@dataclass(frozen=True)
class Case:
    """A small situation in which a layer must be provably right.

    Parameters
    ----------
    layer : Layer
        The layer with its settings. Tests work on copies, with random parameters.
    x : tuple of int, or array_like
        The shape of the input, which is then drawn at random; or the numbers themselves.
    training : bool
        Which of the layer's two Ops is meant.
    parameters : mapping of str to array_like
        Parameters to use instead of random ones.
    arguments : mapping of str to array
        What else the forward pass is called with: an entry, or a row, for every sample.
    y : array_like, optional
        The output, worked out by hand.
    dy, dx : array_like, optional
        A gradient that arrives and the one that leaves, worked out by hand.
    zero_gradients : tuple of str
        The inputs (`"x"` or a parameter) that cannot move the output here. Anywhere else a gradient of zeros is
        an error: a test whose true gradient is zero passes whatever the code does.
    """

    layer: Layer
    x: tuple[int, ...] | Array
    training: bool = True
    parameters: Mapping[str, ArrayLike] = field(default_factory=dict[str, ArrayLike])
    arguments: Mapping[str, Array] = field(default_factory=dict[str, Array])
    y: ArrayLike | None = None
    dy: ArrayLike | None = None
    dx: ArrayLike | None = None
    zero_gradients: tuple[str, ...] = ()

    def draw(self, rng: np.random.Generator, dtype: Any = np.float64) -> tuple[Array, dict[str, Array]]:
        """Return an input and parameters of the given type, random where the case leaves them open."""
        shape = self.x if isinstance(self.x, tuple) else None
        x = rng.standard_normal(shape) if shape is not None else np.asarray(self.x)
        parameters = {
            name: np.asarray(self.parameters[name], dtype)
            if name in self.parameters
            else rng.standard_normal(values.shape).astype(dtype)
            for name, values in self.layer.parameters.items()
        }
        return x.astype(dtype), parameters

    def __str__(self) -> str:
        """Return a short name for a test report."""
        shape = "x".join(map(str, self.x if isinstance(self.x, tuple) else np.shape(self.x)))
        by_hand = "" if self.y is None else ", by hand"
        given = "".join(f" with {name}" for name in self.arguments)
        return f"{self.layer!r} on {shape}{given}{'' if self.training else ', predicting'}{by_hand}"


class LossCase(NamedTuple):
    """A small situation in which a loss must be right; what has a default may be worked out by hand."""

    predictions: Array
    targets: Array
    loss: float | None = None
    dpredictions: ArrayLike | None = None
    score: float | None = None


class Loss(NamedTuple):
    """A number that training makes small.

    `function(predictions, targets)` returns `(loss, dpredictions)`. `reference` returns the loss alone, straight from
    its definition and with arithmetic that also works on complex, extended-precision and exact numbers, and
    `reference_gradient` returns dpredictions likewise. `check(who, targets, shape)` returns the targets as an array if
    they fit predictions of that shape, so that data can be judged before anything is trained on it.

    `score(predictions, targets, spread)` says in the user's terms how good predictions are, more being better. It is an
    average over samples, so that batches can be averaged; `spread(targets)` is what it is measured against, taken once
    from all targets. `cases` yields where the loss must be right.
    """

    function: Callable[[ArrayLike, ArrayLike], tuple[float, Array]]
    reference: Callable[[Array, Array], Any]
    reference_gradient: Callable[[Array, Array], Array]
    check: Callable[[str, ArrayLike, tuple[int, ...]], Array]
    score_name: str
    score: Callable[[Array, Array, float], float]
    spread: Callable[[Array], float]
    cases: Callable[[], Iterator[LossCase]]
