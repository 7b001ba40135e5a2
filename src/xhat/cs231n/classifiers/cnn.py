"""The course's convolutional network."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from xhat.checks import Array
from xhat.cs231n import layer_utils, layers
from xhat.cs231n.classifiers.parameters import Parameters, draw
from xhat.cs231n.layer_utils import *  # noqa: F403  (the course's notebooks reach the layers through here)

__all__ = ["ThreeLayerConvNet"]
__all__ += layer_utils.__all__


class ThreeLayerConvNet(Parameters):
    """conv - relu - 2x2 max pool - affine - relu - affine - softmax.

    Parameters
    ----------
    input_dim : tuple of int
        (C, H, W) of the pictures.
    num_filters, filter_size : int
        Filters of the convolution, and their height and width. An odd size keeps the size of the picture.
    hidden_dim, num_classes : int
        Hidden units, classes.
    weight_scale : float
        Standard deviation of the first weights; biases start at 0.
    reg : float
        Strength of the L2 penalty, 0.5 * reg * (sum of squared weights).
    dtype : dtype
        The type of the parameters. X is not converted: float64 pictures are computed with in float64.

    Attributes
    ----------
    params : dict
        W1 (F, C, size, size), b1 (F,), W2 (F * H/2 * W/2, hidden), b2, W3 (hidden, classes), b3; the weights are
        drawn with `numpy.random.randn` in this order.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.cs231n.classifiers.cnn import ThreeLayerConvNet
    >>> model = ThreeLayerConvNet(input_dim=(3, 8, 6), num_filters=4, filter_size=3)
    >>> model.params["W2"].shape, model.loss(np.zeros((2, 3, 8, 6))).shape
    ((48, 100), (2, 10))
    """

    def __init__(
        self,
        input_dim: tuple[int, int, int] = (3, 32, 32),
        num_filters: int = 32,
        filter_size: int = 7,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if filter_size % 2 == 0:
            raise ValueError(
                f"ThreeLayerConvNet: expected an odd filter_size, got {filter_size}. An even one changes the size of "
                "the picture; 3, 5 and 7 are usual."
            )
        self.reg = reg
        self.dtype = dtype
        channels, height, width = input_dim
        pooled = num_filters * (height // 2) * (width // 2)
        self.params = {
            "W1": draw(weight_scale, num_filters, channels, filter_size, filter_size, dtype=dtype),
            "b1": np.zeros(num_filters, dtype),
            "W2": draw(weight_scale, pooled, hidden_dim, dtype=dtype),
            "b2": np.zeros(hidden_dim, dtype),
            "W3": draw(weight_scale, hidden_dim, num_classes, dtype=dtype),
            "b3": np.zeros(num_classes, dtype),
        }

    def loss(self, X: ArrayLike, y: ArrayLike | None = None) -> Any:
        """Return the scores (N, classes) of the pictures X (N, C, H, W); with labels y (N,), `(loss, grads)`."""
        params = self.params
        conv_param = {"stride": 1, "pad": (params["W1"].shape[2] - 1) // 2}
        pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
        pooled, conv_cache = layer_utils.conv_relu_pool_forward(X, params["W1"], params["b1"], conv_param, pool_param)
        hidden, hidden_cache = layer_utils.affine_relu_forward(pooled, params["W2"], params["b2"])
        scores, cache = layers.affine_forward(hidden, params["W3"], params["b3"])
        if y is None:
            return scores
        loss, dscores = layers.softmax_loss(scores, y)
        grads: dict[str, Array] = {}
        dhidden, grads["W3"], grads["b3"] = layers.affine_backward(dscores, cache)
        dpooled, grads["W2"], grads["b2"] = layer_utils.affine_relu_backward(dhidden, hidden_cache)
        _, grads["W1"], grads["b1"] = layer_utils.conv_relu_pool_backward(dpooled, conv_cache)
        return self.penalize(loss, grads, ("W1", "W2", "W3")), grads
