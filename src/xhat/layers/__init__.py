"""The mathematics. Start here: one file is one layer, and reads from the equations down to the class.

`LAYERS` is the list that everything generic works from: contract tests, files, the command line. A new layer is a
file in this folder and its line here. `LOSSES` is the same for losses, which share one file.
"""

from xhat.core import Layer
from xhat.layers import (
    affine,
    batch_norm,
    conv,
    dropout,
    flatten,
    group_norm,
    instance_norm,
    layer_norm,
    max_pool,
    relu,
    rms_norm,
    standardize,
)
from xhat.layers.losses import LOSSES

LAYERS: tuple[type[Layer], ...] = (
    affine.Affine,
    relu.ReLU,
    batch_norm.BatchNorm,
    layer_norm.LayerNorm,
    group_norm.GroupNorm,
    instance_norm.InstanceNorm,
    rms_norm.RMSNorm,
    dropout.Dropout,
    conv.Conv2d,
    max_pool.MaxPool2d,
    flatten.Flatten,
    standardize.Standardize,
)

__all__ = [
    "LAYERS",
    "LOSSES",
    "affine",
    "batch_norm",
    "conv",
    "dropout",
    "flatten",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "max_pool",
    "relu",
    "rms_norm",
    "standardize",
]
