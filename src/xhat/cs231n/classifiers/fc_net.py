"""The course's fully connected networks."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from xhat.checks import Array, as_real
from xhat.cs231n import layer_utils, layers, years
from xhat.cs231n.classifiers.parameters import Parameters, draw
from xhat.cs231n.layer_utils import *  # noqa: F403  (the course's notebooks reach the layers through here)

__all__ = ["FullyConnectedNet", "TwoLayerNet"]
__all__ += layer_utils.__all__


class TwoLayerNet(Parameters):
    """affine - relu - affine - softmax.

    Parameters
    ----------
    input_dim, hidden_dim, num_classes : int
        Numbers that come in, hidden units, classes.
    weight_scale : float
        Standard deviation of the first weights; biases start at 0.
    reg : float
        Strength of the L2 penalty, 0.5 * reg * (sum of squared weights).

    Attributes
    ----------
    params : dict
        W1 (D, H), b1 (H,), W2 (H, C), b2 (C,), drawn with `numpy.random.randn` in this order; float64.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.cs231n.classifiers.fc_net import TwoLayerNet
    >>> model = TwoLayerNet(input_dim=4, hidden_dim=5, num_classes=3)
    >>> loss, grads = model.loss(np.zeros((2, 4)), np.array([0, 1]))
    >>> print(round(loss / np.log(3), 12), sorted(grads))
    1.0 ['W1', 'W2', 'b1', 'b2']
    """

    def __init__(
        self,
        input_dim: int = 3 * 32 * 32,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
    ) -> None:
        self.reg = reg
        self.params = {
            "W1": draw(weight_scale, input_dim, hidden_dim),
            "b1": np.zeros(hidden_dim),
            "W2": draw(weight_scale, hidden_dim, num_classes),
            "b2": np.zeros(num_classes),
        }

    def loss(self, X: ArrayLike, y: ArrayLike | None = None) -> Any:
        """Return the scores (N, C) of the samples X (N, d_1, ..., d_k); with labels y (N,), `(loss, grads)`."""
        params = self.params
        hidden, hidden_cache = layer_utils.affine_relu_forward(X, params["W1"], params["b1"])
        scores, cache = layers.affine_forward(hidden, params["W2"], params["b2"])
        if y is None:
            return scores
        loss, dscores = layers.softmax_loss(scores, y)
        grads: dict[str, Array] = {}
        dhidden, grads["W2"], grads["b2"] = layers.affine_backward(dscores, cache)
        _, grads["W1"], grads["b1"] = layer_utils.affine_relu_backward(dhidden, hidden_cache)
        return self.penalize(loss, grads, ("W1", "W2")), grads


class FullyConnectedNet(Parameters):
    """{affine - [batch norm or layer norm] - relu - [dropout]} x (L - 1) - affine - softmax.

    Parameters
    ----------
    hidden_dims : list of int
        Units of each hidden layer; L - 1 of them.
    input_dim, num_classes : int
        Numbers that come in, classes.
    dropout_keep_ratio : float
        The share that dropout keeps; 1 for no dropout. Other years call it `dropout` (see `xhat.cs231n.set_year`).
    normalization : {None, "batchnorm", "layernorm"}
        Until 2017 `use_batchnorm`.
    reg : float
        Strength of the L2 penalty, 0.5 * reg * (sum of squared weights); gamma, beta and biases are not in it.
    weight_scale : float
        Standard deviation of the first weights; biases start at 0.
    dtype : dtype
        The type of the parameters, which X is converted to.
    seed : int, optional
        Put into `dropout_param`: every dropout layer then draws the same mask in every call.

    Attributes
    ----------
    params : dict
        W1, b1, ... WL, bL, and with a norm gamma1, beta1, ... gamma(L-1), beta(L-1). The weights are drawn with
        `numpy.random.randn` in order; nothing else draws.
    dropout_param : dict
        `mode`, `p` and perhaps `seed`, shared by all layers; empty without dropout.
    bn_params : list of dict
        One for each norm.

    Raises
    ------
    ValueError
        If the normalization is another.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.cs231n.classifiers.fc_net import FullyConnectedNet
    >>> model = FullyConnectedNet([6, 5], input_dim=4, num_classes=3, normalization="batchnorm")
    >>> loss, grads = model.loss(np.random.randn(7, 4), np.arange(7) % 3)
    >>> sorted(grads) == sorted(model.params), model.loss(np.zeros((2, 4))).shape
    (True, (2, 3))
    """

    @years.spelled_as_in_its_year
    def __init__(
        self,
        hidden_dims: list[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout_keep_ratio: float = 1,
        normalization: str | None = None,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
    ) -> None:
        if normalization not in (None, "batchnorm", "layernorm"):
            raise ValueError(
                f"FullyConnectedNet: expected normalization None, 'batchnorm' or 'layernorm', got {normalization!r}. "
                "Choose one of these."
            )
        form = years.form()
        advice = "It is the share kept; where 0 shall mean no dropout, choose xhat.cs231n.set_year(2017)."
        if not form.p_is_kept:
            advice = "It is the share dropped; 0 drops nothing."
        as_real("FullyConnectedNet", form.dropout, dropout_keep_ratio, 0.0, 1.0, advice, above=form.p_is_kept)
        self.normalization = normalization
        self.use_dropout = dropout_keep_ratio != form.no_dropout
        self.reg = reg
        self.num_layers = 1 + len(hidden_dims)
        self.dtype = dtype
        self._year = years.current_year()

        self.params = {}
        sizes = [input_dim, *hidden_dims, num_classes]
        for i in range(1, self.num_layers + 1):
            self.params[f"W{i}"] = draw(weight_scale, sizes[i - 1], sizes[i], dtype=dtype)
            self.params[f"b{i}"] = np.zeros(sizes[i], dtype)
            if normalization is not None and i < self.num_layers:
                self.params[f"gamma{i}"] = np.ones(sizes[i], dtype)
                self.params[f"beta{i}"] = np.zeros(sizes[i], dtype)

        self.dropout_param: dict[str, Any] = {}
        if self.use_dropout:
            self.dropout_param = {"mode": "train", "p": dropout_keep_ratio}
            if seed is not None:
                self.dropout_param["seed"] = seed
        norms = 0 if normalization is None else len(hidden_dims)
        self.bn_params: list[dict[str, Any]] = [
            {"mode": "train"} if normalization == "batchnorm" else {} for _ in range(norms)
        ]

    @property
    def use_batchnorm(self) -> bool:
        """Whether there is batch norm: what `normalization` was called until 2017."""
        return self.normalization == "batchnorm"

    def loss(self, X: ArrayLike, y: ArrayLike | None = None) -> Any:
        """Return the scores (N, C) of the samples X (N, d_1, ..., d_k); with labels y (N,), `(loss, grads)`.

        With labels, batch norm and dropout are in mode "train", and the running statistics learn from the batch.
        """
        mode = "test" if y is None else "train"
        if self.use_dropout:
            self.dropout_param["mode"] = mode
        if self.normalization == "batchnorm":
            for bn_param in self.bn_params:
                bn_param["mode"] = mode

        hidden, last = range(1, self.num_layers), self.num_layers
        a, caches = np.asarray(X).astype(self.dtype), dict[int, tuple[Any, Any, Any, Any]]()
        with years.year(self._year):
            for i in hidden:
                a, caches[i] = self._hidden_forward(i, a)
        scores, cache = layers.affine_forward(a, self.params[f"W{last}"], self.params[f"b{last}"])
        if y is None:
            return scores

        loss, dscores = layers.softmax_loss(scores, y)
        grads: dict[str, Array] = {}
        da, grads[f"W{last}"], grads[f"b{last}"] = layers.affine_backward(dscores, cache)
        for i in reversed(hidden):
            da = self._hidden_backward(i, da, caches[i], grads)
        return self.penalize(loss, grads, (f"W{i}" for i in (*hidden, last))), grads

    def _hidden_forward(self, i: int, x: Array) -> tuple[Array, tuple[Any, Any, Any, Any]]:
        """Go through hidden layer i; what it does not have has no cache."""
        params, norm_cache, dropout_cache = self.params, None, None
        a, affine_cache = layers.affine_forward(x, params[f"W{i}"], params[f"b{i}"])
        if self.normalization == "batchnorm":
            a, norm_cache = layers.batchnorm_forward(a, params[f"gamma{i}"], params[f"beta{i}"], self.bn_params[i - 1])
        elif self.normalization == "layernorm":
            a, norm_cache = layers.layernorm_forward(a, params[f"gamma{i}"], params[f"beta{i}"], self.bn_params[i - 1])
        a, relu_cache = layers.relu_forward(a)
        if self.use_dropout:
            a, dropout_cache = layers.dropout_forward(a, self.dropout_param)
        return a, (affine_cache, norm_cache, relu_cache, dropout_cache)

    def _hidden_backward(self, i: int, da: Array, caches: tuple[Any, Any, Any, Any], grads: dict[str, Array]) -> Array:
        """Go back through hidden layer i, and note its gradients down."""
        affine_cache, norm_cache, relu_cache, dropout_cache = caches
        if self.use_dropout:
            da = layers.dropout_backward(da, dropout_cache)
        da = layers.relu_backward(da, relu_cache)
        if self.normalization == "batchnorm":
            da, grads[f"gamma{i}"], grads[f"beta{i}"] = layers.batchnorm_backward_alt(da, norm_cache)
        elif self.normalization == "layernorm":
            da, grads[f"gamma{i}"], grads[f"beta{i}"] = layers.layernorm_backward(da, norm_cache)
        dx, grads[f"W{i}"], grads[f"b{i}"] = layers.affine_backward(da, affine_cache)
        return dx
