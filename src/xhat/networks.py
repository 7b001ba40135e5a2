"""Networks: layers in a row, with a loss at the end."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Self, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from xhat import kernels
from xhat.checks import Array, as_choice, as_count, as_generator, as_parameter_dtype, as_real, as_values
from xhat.core import Layer, Loss
from xhat.kernels import small
from xhat.kernels.fused import Epilogue
from xhat.layers import LAYERS, LOSSES, batch_norm, dropout
from xhat.layers.affine import Affine
from xhat.layers.batch_norm import BatchNorm, RunningStatistics
from xhat.layers.conv import Conv2d
from xhat.layers.dropout import Dropout
from xhat.layers.flatten import Flatten
from xhat.layers.max_pool import MaxPool2d
from xhat.layers.relu import ReLU

NORMALIZATIONS: dict[str, type[Layer]] = {
    layer.__module__.split(".")[2].removesuffix("_norm"): layer for layer in LAYERS if layer.normalizes_features
}
"""The normalizations by the names that `mlp` and the command line take: "batch" is the layer of `batch_norm`."""

IMAGE_NORMALIZATIONS: dict[str, type[Layer]] = {
    layer.__module__.split(".")[2].removesuffix("_norm"): layer
    for layer in LAYERS
    if [p.name for p in inspect.signature(layer).parameters.values() if p.default is p.empty] == ["channels"]
}
"""Likewise those that `cnn` takes: a number of channels is enough to make them."""


class _Outputs(NamedTuple):
    """Where the outputs of a product lie: the axis of its weights, and the axes of its result that count them."""

    of_w: int
    of_y: tuple[int, ...]


_PRODUCTS: dict[type[Layer], _Outputs] = {Affine: _Outputs(1, (1, -1)), Conv2d: _Outputs(0, (1, -3))}
"""The layers that can take in a batch norm that follows them."""

_EVALUATION_BATCH = 1024


class Evaluation(NamedTuple):
    """How good a network is on some data: its loss, and its score (accuracy, or R² for numbers)."""

    loss: float
    score: float


class _Step(NamedTuple):
    """Layers that are run together: one, or a norm with the ReLU, and perhaps the dropout, that follow it."""

    first: int  # the place of the first in the network
    layers: tuple[Layer, ...]

    def forward(self, x: Array, training: bool) -> tuple[Array, list[Any]]:
        """Return the output of the last layer, and a cache for each; None for a ReLU that was done with its norm."""
        norm, *others = self.layers
        if others and x.nbytes > small.MOST_BYTES and norm.fuses(training) and kernels.serves_wide(x.dtype):
            dropped = [dropout.draw(x.shape, x.dtype, **layer.arguments(training)) for layer in others[1:]]
            epilogue = Epilogue(dropped[0].rate, dropped[0].key) if dropped else Epilogue()
            together: Callable[..., tuple[Array, Any]] = norm.forward
            y, cache = together(x, training=training, epilogue=epilogue)
            return y, [cache, None, *dropped]
        caches: list[Any] = []
        for layer in self.layers:
            x, cache = layer.forward(x, training=training)
            caches.append(cache)
        return x, caches

    def backward(self, dy: Array, caches: Sequence[Any]) -> tuple[Array, dict[str, Array]]:
        """Return the gradient for x, and those of all parameters by place and name."""
        if len(caches) > 1 and caches[1] is None:
            norm, epilogue = self.layers[0], Epilogue()
            if len(caches) > 2:
                dy, key, rate = dropout.as_dropped(dy, caches[2])
                epilogue = Epilogue(rate, key)
            return self._told(0, norm.ops[0].backward(dy, caches[0], epilogue=epilogue))
        gradients: dict[str, Array] = {}
        for i in reversed(range(len(self.layers))):
            dy, found = self._told(i, self.layers[i].backward(dy, caches[i]))
            gradients |= found
        return dy, gradients

    def _told(self, i: int, grads: Any) -> tuple[Array, dict[str, Array]]:
        names = self.layers[i].parameters
        return grads.dx, {f"{self.first + i}.{name}": getattr(grads, f"d{name}") for name in names}


def _steps(layers: Sequence[Layer]) -> Iterator[_Step]:
    """Cut layers into steps. What derives from a known layer may compute something else, and runs alone."""
    first = 0
    while first < len(layers):
        kinds = [type(layer) for layer in layers[first : first + 3]]
        count = 1
        if kinds[0] in LAYERS and kinds[0].fuses is not Layer.fuses and kinds[1:2] == [ReLU]:
            count = 3 if kinds[2:] == [Dropout] else 2
        yield _Step(first, tuple(layers[first : first + count]))
        first += count


class Sequential:
    """Layers in a row: each takes what the one before gives.

    Parameters
    ----------
    layers : iterable of Layer
        From the input to the scores.
    loss : {"softmax_cross_entropy", "squared_error"}
        What training makes small.
    classes : sequence of str, optional
        Names of the classes, by number.
    features : sequence of str, optional
        Names of the columns of x, in order.

    Attributes
    ----------
    layers : tuple of Layer
    notes : dict
        Whatever JSON can hold; saved with the network.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> net = xhat.Sequential([xhat.Affine(4, 3, rng=0), xhat.ReLU(), xhat.Affine(3, 2, rng=1)])
    >>> net.predict(np.zeros((5, 4), np.float32)).shape
    (5, 2)
    >>> print(net)
    layer                           parameters
    0  Affine(inputs=4, outputs=3)          15
    1  ReLU()                                0
    2  Affine(inputs=3, outputs=2)           8
       softmax_cross_entropy                23
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        *,
        loss: str = "softmax_cross_entropy",
        classes: Sequence[str] | None = None,
        features: Sequence[str] | None = None,
    ) -> None:
        try:
            given = tuple(layers)
        except TypeError:
            raise TypeError(
                f"Sequential: expected layers as a list, got {type(layers).__name__}. Give one such as [xhat.ReLU()]."
            ) from None
        for i, layer in enumerate(given):
            if not isinstance(layer, Layer):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    f"Sequential: expected layers of type xhat.core.Layer, got {type(layer).__name__} at place {i}. "
                    "Give instances such as xhat.ReLU()."
                )
        if len({id(layer) for layer in given}) < len(given):
            raise ValueError("Sequential: expected different layers, got one of them twice. Make a second one like it.")
        self.layers = given
        self.loss_name = as_choice("Sequential", "loss", loss, tuple(LOSSES))
        self.classes = _names("classes", classes)
        self.features = _names("features", features)
        self.notes: dict[str, Any] = {}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, from the input to the scores."""
        return self._layers

    @layers.setter
    def layers(self, layers: tuple[Layer, ...]) -> None:
        self._layers = layers
        self._steps = tuple(_steps(layers))

    @property
    def loss(self) -> Loss:
        """The loss, with its reference and its score."""
        return LOSSES[self.loss_name]

    @property
    def score_name(self) -> str:
        """What `score` is in the user's terms: "accuracy" or "R²"."""
        return self.loss.score_name

    @property
    def parameters(self) -> dict[str, Array]:
        """What training changes, by place and name: "0.w". The arrays are the layers' own, not copies."""
        return {name: values for name, _, values in self._tensors("parameters")}

    @property
    def state(self) -> dict[str, Array]:
        """What is remembered besides, likewise: "1.running_mean"."""
        return {name: values for name, _, values in self._tensors("state")}

    @property
    def weights(self) -> frozenset[str]:
        """The names in `parameters` that an L2 penalty pulls on: weights, but no biases, gammas or betas."""
        return frozenset(f"{i}.{name}" for i, layer in enumerate(self.layers) for name in layer.weights)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type the network computes in: that of its first parameter (float32 if it has none)."""
        return next((values.dtype for values in self.parameters.values()), np.dtype(np.float32))

    def astype(self, dtype: DTypeLike) -> Self:
        """Return a copy of the network whose parameters have another type."""
        kind = as_parameter_dtype("Sequential.astype", dtype)
        other = copy.deepcopy(self)
        for layer in other.layers:
            layer.parameters = {name: values.astype(kind) for name, values in layer.parameters.items()}
        return other

    def forward(self, x: ArrayLike, *, training: bool = False) -> tuple[Array, list[Any]]:
        """Return the scores of `x` and the caches of all layers, for `backward`.

        A norm, the ReLU after it and the dropout after that are one pass over memory, where arrays are large and
        compiled loops serve their type. The results are those of the layers one by one (after dropout within one unit
        in the last place); the cache of such a ReLU is None, since the norm's says enough.

        Parameters
        ----------
        x : array_like
            Any floating type; taken in the network's own from the first layer on that has parameters, so that
            `Standardize` sees all digits.
        training : bool
            Whether statistics come from this batch and dropout drops.
        """
        y = as_values("Sequential.forward", "x", x)
        caches: list[Any] = []
        for step in self._steps:
            if step.layers[0].parameters:
                y = y.astype(self.dtype, copy=False)
            y, made = step.forward(y, training)
            caches += made
        return y, caches

    def backward(self, dscores: ArrayLike, caches: Sequence[Any]) -> tuple[Array, dict[str, Array]]:
        """Return the gradient for x, and those of all parameters by the names of `parameters`."""
        advice = "Pass on the caches that forward returned."
        if not isinstance(caches, list | tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"Sequential.backward: expected a list of caches, got {type(caches).__name__}. {advice}")
        if len(caches) != len(self.layers):
            raise ValueError(
                f"Sequential.backward: expected {len(self.layers)} caches, one per layer, got {len(caches)}. {advice}"
            )
        gradients: dict[str, Array] = {}
        dx = as_values("Sequential.backward", "dscores", dscores)
        for step in reversed(self._steps):
            dx, found = step.backward(dx, caches[step.first : step.first + len(step.layers)])
            gradients |= found
        return dx, gradients

    def loss_and_gradients(
        self, x: ArrayLike, targets: ArrayLike, *, l2: float = 0.0, training: bool = True
    ) -> tuple[float, dict[str, Array]]:
        """Return the loss on one batch and its gradients, for a check by hand or a training loop of one's own.

        Parameters
        ----------
        x : array_like
            Inputs.
        targets : array_like
            Class numbers, or numbers to predict.
        l2 : float
            Adds l2 / 2 times the sum of squared weights to the loss (weights only); unit of the loss per weight².
        training : bool
            Whether statistics come from this batch (then running statistics learn from it) and dropout drops.

        Returns
        -------
        loss : float
        gradients : dict of str to array
            By the names of `parameters`.

        Examples
        --------
        >>> import numpy as np, xhat
        >>> net = xhat.mlp(4, [8], 3, normalization="batch", rng=0)
        >>> loss, gradients = net.loss_and_gradients(np.random.default_rng(0).random((6, 4)), [0, 1, 2, 0, 1, 2])
        >>> sorted(gradients)
        ['0.w', '1.beta', '1.gamma', '3.b', '3.w']
        """
        who = "Sequential.loss_and_gradients"
        l2 = as_real(who, "l2", l2, 0.0, math.inf, "Give 0 for none.")
        x = as_values(who, "x", x)
        if x.ndim < 1:
            raise ValueError(f"{who}: expected x of shape (N, ...), got a single number. Give an array.")
        shape = len(x), *self.predict(x[:1]).shape[1:]  # running statistics learn from nothing that is refused
        targets = self.loss.check(who, targets, shape)
        scores, caches = self.forward(x, training=training)
        loss, dscores = self.loss.function(scores, targets)
        _, gradients = self.backward(dscores, caches)
        return loss + self.penalty(l2, gradients), gradients

    def penalty(self, l2: float, gradients: dict[str, Array] | None = None) -> float:
        """Return l2 / 2 times the sum of squared weights; add its gradient to `gradients`, in place."""
        l2 = as_real("Sequential.penalty", "l2", l2, 0.0, math.inf, "Give 0 for none.")
        if l2 == 0:
            return 0.0
        total = 0.0
        parameters = self.parameters
        for name in self.weights & parameters.keys():
            w = parameters[name]
            total += float(np.square(w, dtype=np.float64).sum())
            if gradients is not None:
                with np.errstate(over="ignore"):  # too large for the type is Inf, as everywhere
                    gradients[name] += w.dtype.type(l2) * w
        return l2 / 2 * total

    def predict(self, x: ArrayLike) -> Array:
        """Return the scores of `x`: fixed statistics, no dropout, so no sample depends on its company.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            Any floating type.

        Returns
        -------
        array, shape (N, C)
            Of the network's type.
        """
        x = as_values("Sequential.predict", "x", x)
        if x.ndim < 1:
            raise ValueError("Sequential.predict: expected x of shape (N, ...), got a single number. Give an array.")
        parts = [self.forward(part)[0] for part in _slices(x)]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def evaluate(self, x: ArrayLike, targets: ArrayLike) -> Evaluation:
        """Return the loss and the score of the predictions for `x`.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            Any floating type.
        targets : array_like
            Class numbers, or numbers to predict.
        """
        scores = self.predict(x)
        wanted = self.loss.check("Sequential.evaluate", targets, scores.shape)
        loss, _ = self.loss.function(scores, wanted)
        return Evaluation(loss, self.loss.score(scores, wanted, self.loss.spread(wanted)))

    def recompute_statistics(self, x: ArrayLike) -> None:
        """Set the statistics of every batch norm to those of its inputs over a whole data set.

        From the first batch norm to the last, each seeing what the ones before it give with their new statistics:
        afterwards the network predicts on `x` with exactly the statistics that `x` has in it. Of use after weights were
        averaged, or where the last batches should not count more than others. Frozen layers are left alone.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            As for `predict`; taken in parts, so that it may be a memory map. Every batch norm means one more pass.

        Raises
        ------
        ValueError
            If `x` is empty, or gives statistics that are not finite; statistics set before that stay set.

        Examples
        --------
        >>> import numpy as np, xhat
        >>> net = xhat.Sequential([xhat.BatchNorm(2, affine=False)])
        >>> x = np.random.default_rng(0).normal(5, 3, (3000, 2))
        >>> net.recompute_statistics(x)
        >>> bool(np.abs(net.predict(x).mean(0)).max() < 1e-12)
        True
        """
        x = as_values("Sequential.recompute_statistics", "x", x)
        if x.ndim < 1 or not x.size:
            raise ValueError(
                f"Sequential.recompute_statistics: expected x of shape (N, ...) with samples, got {x.shape}. Give data."
            )
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, BatchNorm) or layer.frozen:
                continue
            before = Sequential(self.layers[:i])
            whole: batch_norm.Moments | None = None
            for part in _slices(x):
                inputs, _ = before.forward(part)
                inputs = inputs.astype(self.dtype, copy=False) if layer.parameters else inputs  # as `forward` does
                moments = batch_norm.moments(inputs, layer.channel_axis)
                whole = moments if whole is None else whole.merge(moments)
            assert whole is not None
            exact = RunningStatistics(layer.channels, update_rate=None, unbiased=layer.unbiased)
            exact.update(whole)
            layer.statistics.mean[...] = exact.mean
            layer.statistics.var[...] = exact.var
            layer.statistics.count[...] = exact.count

    def fold(self) -> Self:
        """Return a network for prediction in which batch norms are folded into the layers before them.

        In prediction a batch norm is a straight line per channel, which the affine layer before it can do
        in the same step. The scores are the same but for rounding, with fewer passes over memory. Train the
        original: what is folded learns no statistics.

        Returns
        -------
        Sequential
            A copy; a batch norm that follows no layer that could take it in stays.

        Notes
        -----
        An affine layer is taken to see (N, features), so that its outputs are the channels of the batch norm.

        Examples
        --------
        >>> import xhat
        >>> print(xhat.mlp(4, [8], 3, normalization="batch").fold())
        layer                           parameters
        0  Affine(inputs=4, outputs=8)          40
        1  ReLU()                                0
        2  Affine(inputs=8, outputs=3)          27
           softmax_cross_entropy                67
        """
        folded = copy.deepcopy(self)
        layers: list[Layer] = []
        for layer in folded.layers:
            before = layers[-1] if layers else None
            if not isinstance(before, Affine | Conv2d) or not _follows(layer, before):
                layers.append(layer)
                continue
            axis = _PRODUCTS[type(before)].of_w
            w, b = before.parameters["w"], before.parameters.get("b")
            gamma, beta = layer.parameters.get("gamma"), layer.parameters.get("beta")
            statistics = layer.statistics
            w, b = batch_norm.fold(w, b, gamma, beta, statistics.mean, statistics.var, layer.eps, axis)
            before.parameters |= {"w": w, "b": b}
            before.bias = True
        folded.layers = tuple(layers)
        return folded

    def __str__(self) -> str:
        """Return a table of the layers."""
        counts = [sum(values.size for values in layer.parameters.values()) for layer in self.layers]
        rows = [(f"{i}  {layer!r}", f"{n:,}") for i, (layer, n) in enumerate(zip(self.layers, counts, strict=True))]
        rows = [("layer", "parameters"), *rows, (f"   {self.loss_name}", f"{sum(counts):,}")]
        width, number = (max(len(row[i]) for row in rows) for i in (0, 1))
        return "\n".join(f"{left:{width}}  {right:>{number}}" for left, right in rows)

    def __repr__(self) -> str:
        """Return the call that would make this network."""
        return f"Sequential([{', '.join(map(repr, self.layers))}], loss={self.loss_name!r})"

    def _tensors(self, kind: str) -> Iterator[tuple[str, Layer, Array]]:
        for i, layer in enumerate(self.layers):
            for name, values in getattr(layer, kind).items():
                yield f"{i}.{name}", layer, values


def _follows(layer: Layer, before: Affine | Conv2d) -> TypeGuard[BatchNorm]:
    """Tell whether a layer is a batch norm whose channels are the outputs of the layer before it."""
    if type(layer) is not BatchNorm or type(before) not in _PRODUCTS or layer.channels != before.outputs:
        return False  # what derives from these may compute something else
    return layer.channel_axis in _PRODUCTS[type(before)].of_y


def _names(what: str, names: Sequence[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, str):
        raise TypeError(
            f"Sequential: expected {what} as a sequence of names, got the single name {names!r}. Give a list."
        )
    ordered = isinstance(names, Sequence) or (isinstance(names, np.ndarray) and names.ndim == 1)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not ordered or isinstance(names, bytes):
        raise TypeError(f"Sequential: expected {what} as a sequence of names, got {names!r}. Give a list.")
    for name in names:
        if not isinstance(name, str | int | float | np.generic):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"Sequential: expected names or numbers in {what}, got {name!r}. Give a list of str.")
    return tuple(map(str, names))


def _slices(x: Array) -> Iterator[Array]:
    """Yield x in parts that fit the cache; one empty part if x is empty."""
    for start in range(0, max(1, len(x)), _EVALUATION_BATCH):
        yield x[start : start + _EVALUATION_BATCH]


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    *,
    normalization: str | None = None,
    activation: str = "relu",
    dropout: float = 0.0,
    rng: int | np.random.Generator = 0,
    loss: str = "softmax_cross_entropy",
    dtype: DTypeLike = np.float32,
) -> Sequential:
    """Return a multilayer perceptron: blocks of affine, normalization, activation, dropout; then an affine layer.

    Parameters
    ----------
    inputs, outputs : int
        Features that come in; scores (classes) that go out.
    hidden : sequence of int
        Features of each hidden block.
    normalization : {"batch", "layer", "rms"}, optional
        None for none. Before a batch norm the affine layer has no bias: it would have no effect.
    activation : {"relu"}
        The nonlinearity.
    dropout : float
        Share dropped after each activation, in [0, 1].
    rng : int or numpy.random.Generator
        Draws the weights, then the masks.
    loss : {"softmax_cross_entropy", "squared_error"}
        What training makes small.
    dtype : dtype
        Type of the parameters, in which the network computes.

    Returns
    -------
    Sequential

    Examples
    --------
    >>> import xhat
    >>> print(xhat.mlp(784, [512], 10, normalization="layer", dropout=0.5))
    layer                               parameters
    0  Affine(inputs=784, outputs=512)     401,920
    1  LayerNorm(features=(512,))            1,024
    2  ReLU()                                    0
    3  Dropout(rate=0.5)                         0
    4  Affine(inputs=512, outputs=10)        5,130
       softmax_cross_entropy               408,074
    """
    who = "mlp"
    rate = as_real(who, "dropout", dropout, 0.0, 1.0, "The dropout is the share that is dropped.")
    if normalization is not None:
        as_choice(who, "normalization", normalization, tuple(NORMALIZATIONS))
    as_choice(who, "activation", activation, ("relu",))
    generator = as_generator(who, rng)
    width = as_count(who, "inputs", inputs, 1, "Give the number of features that come in.")
    if not isinstance(hidden, Sequence) or isinstance(hidden, str | bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"{who}: expected hidden as a list of sizes, got {type(hidden).__name__}. Give one such as [512]."
        )
    kind = NORMALIZATIONS[normalization] if normalization is not None else None
    affine = partial(Affine, rng=generator, dtype=dtype)
    widths = [width, *hidden]
    layers = [*_blocks(affine, widths, kind, dtype, lambda: _dropout(rate, generator)), affine(widths[-1], outputs)]
    return Sequential(layers, loss=loss)


def cnn(
    shape: tuple[int, int, int],
    filters: Sequence[int],
    hidden: Sequence[int],
    outputs: int,
    *,
    size: int = 3,
    normalization: str | None = None,
    pool: int = 2,
    dropout: float = 0.0,
    rng: int | np.random.Generator = 0,
    loss: str = "softmax_cross_entropy",
    dtype: DTypeLike = np.float32,
) -> Sequential:
    """Return a convolutional network for images.

    First blocks of convolution, normalization, ReLU, max pooling; then what is left of the image in a row, and on it
    the blocks of `mlp`.

    Parameters
    ----------
    shape : (int, int, int)
        Of an image: channels, rows, columns.
    filters : sequence of int
        Channels of each convolution block.
    hidden : sequence of int
        Features of each affine block.
    outputs : int
        Scores (classes) that go out.
    size : int
        Rows and columns of the filters. Zeros around the image keep its size, if this is odd.
    normalization : {"batch"}, optional
        None for none. The affine blocks have it too, if it normalizes plain features.
    pool : int
        Rows and columns of the pooling windows, which lie beside each other; 1 for no pooling.
    dropout : float
        Share dropped after each affine block's ReLU, in [0, 1].
    rng : int or numpy.random.Generator
        Draws the weights, then the masks.
    loss : {"softmax_cross_entropy", "squared_error"}
        What training makes small.
    dtype : dtype
        Type of the parameters, in which the network computes.

    Returns
    -------
    Sequential

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If a size is less than 1, a name is unknown, or the image is too small to be pooled so often.

    Examples
    --------
    >>> import xhat
    >>> print(xhat.cnn((3, 32, 32), [16, 32], [100], 10, normalization="batch"))
    layer                                                                 parameters
    0  Conv2d(inputs=3, outputs=16, size=3, padding=1, bias=False)               432
    1  BatchNorm(channels=16)                                                     32
    2  ReLU()                                                                      0
    3  MaxPool2d()                                                                 0
    4  Conv2d(inputs=16, outputs=32, size=3, padding=1, bias=False)            4,608
    5  BatchNorm(channels=32)                                                     64
    6  ReLU()                                                                      0
    7  MaxPool2d()                                                                 0
    8  Flatten()                                                                   0
    9  Affine(inputs=2048, outputs=100, bias=False)                          204,800
    10  BatchNorm(channels=100)                                                  200
    11  ReLU()                                                                     0
    12  Affine(inputs=100, outputs=10)                                         1,010
       softmax_cross_entropy                                                 211,146
    """
    who = "cnn"
    advice = "Give the channels, rows and columns of an image, such as (3, 32, 32)."
    if not isinstance(shape, tuple | list) or len(shape) != 3:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{who}: expected shape as three sizes, got {shape!r}. {advice}")
    channels, *image = (as_count(who, "shape", n, 1, advice) for n in shape)
    rate = as_real(who, "dropout", dropout, 0.0, 1.0, "The dropout is the share that is dropped.")
    if normalization is not None:
        as_choice(who, "normalization", normalization, tuple(IMAGE_NORMALIZATIONS))
    size = as_count(who, "size", size, 1, "Give the rows and columns of the filters; 3 is usual.")
    pool = as_count(who, "pool", pool, 1, "Give the rows and columns of the pooling windows; 2 is usual.")
    generator = as_generator(who, rng)
    for name, sizes in (("filters", filters), ("hidden", hidden)):
        if not isinstance(sizes, Sequence) or isinstance(sizes, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"{who}: expected {name} as a list of sizes, got {type(sizes).__name__}. Give one such as [32]."
            )
    padding = (size - 1) // 2
    for _ in filters:
        image = [(n + 2 * padding - size + 1) // pool for n in image]
    if min(image) < 1:
        raise ValueError(
            f"{who}: expected an image that {len(filters)} blocks with pools of {pool} leave something of, "
            f"got {tuple(shape[1:])}. Use fewer blocks, or smaller windows."
        )
    convolution = partial(Conv2d, size=size, padding=padding, rng=generator, dtype=dtype)
    affine = partial(Affine, rng=generator, dtype=dtype)
    maps, widths = [channels, *filters], [math.prod(image) * (filters[-1] if filters else channels), *hidden]
    kind, plain = (table.get(normalization or "") for table in (IMAGE_NORMALIZATIONS, NORMALIZATIONS))
    layers = [
        *_blocks(convolution, maps, kind, dtype, lambda: [MaxPool2d(pool)] if pool > 1 else []),
        Flatten(),
        *_blocks(affine, widths, plain, dtype, lambda: _dropout(rate, generator)),
        affine(widths[-1], outputs),
    ]
    return Sequential(layers, loss=loss)


def _blocks(
    weighted: Callable[..., Layer],
    widths: Sequence[int],
    normalization: type[Layer] | None,
    dtype: DTypeLike,
    after: Callable[[], list[Layer]],
) -> Iterator[Layer]:
    """Yield a block from each width to the next: weighted sums, normalization, ReLU, and what comes after."""
    bias = normalization is None or not normalization.absorbs_bias
    for width, following in pairwise(widths):
        yield weighted(width, following, bias=bias)
        if normalization is not None:
            yield normalization(following, dtype=dtype)  # type: ignore[call-arg]
        yield ReLU()
        yield from after()


def _dropout(rate: float, rng: np.random.Generator) -> list[Layer]:
    return [Dropout(rate, rng=rng)] if rate > 0 else []
