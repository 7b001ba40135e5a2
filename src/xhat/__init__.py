"""xhat: normalized neural-network layers with explicit forward and backward passes on NumPy arrays.

Pairs on arrays, each a module with `forward` and `backward`: `xhat.batch_norm`, `xhat.layer_norm`,
`xhat.group_norm`, `xhat.instance_norm`, `xhat.rms_norm`, `xhat.affine`, `xhat.relu`,
`xhat.dropout`. Layers for networks: `xhat.BatchNorm` and its like. Losses are functions.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from xhat.kernels import get_memory, get_num_threads, set_idle_memory, set_num_threads
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
)
from xhat.layers.affine import Affine
from xhat.layers.batch_norm import BatchNorm, RunningStatistics
from xhat.layers.conv import Conv2d
from xhat.layers.dropout import Dropout
from xhat.layers.flatten import Flatten
from xhat.layers.group_norm import GroupNorm
from xhat.layers.instance_norm import InstanceNorm
from xhat.layers.layer_norm import LayerNorm
from xhat.layers.losses import hinge_loss, softmax, softmax_cross_entropy, squared_error
from xhat.layers.max_pool import MaxPool2d
from xhat.layers.relu import ReLU
from xhat.layers.rms_norm import RMSNorm
from xhat.layers.standardize import Standardize
from xhat.networks import Sequential, cnn, mlp

if _TYPE_CHECKING:
    from xhat import datasets, training, verify
    from xhat.training import Trainer
    from xhat.training.checkpoints import load, save

__version__ = "0.1.0"


_LATER = {
    "Trainer": "xhat.training",
    "datasets": "",
    "load": "xhat.training.checkpoints",
    "save": "xhat.training.checkpoints",
    "training": "",
    "verify": "",
}
"""What is loaded when it is first asked for, and where it is; an import of xhat need not wait for it."""


def __getattr__(name: str) -> _Any:
    """Load what is public but not loaded yet."""
    if name not in _LATER:
        raise AttributeError(f"module 'xhat' has no attribute {name!r}")
    where = _LATER[name]
    thing = getattr(_import_module(where), name) if where else _import_module(f"xhat.{name}")
    globals()[name] = thing
    return thing


def __dir__() -> list[str]:
    """Name everything public, loaded or not."""
    return sorted({*globals(), *_LATER})


__all__ = [
    "Affine",
    "BatchNorm",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "MaxPool2d",
    "RMSNorm",
    "ReLU",
    "RunningStatistics",
    "Sequential",
    "Standardize",
    "Trainer",
    "affine",
    "batch_norm",
    "cnn",
    "conv",
    "datasets",
    "dropout",
    "flatten",
    "get_memory",
    "get_num_threads",
    "group_norm",
    "hinge_loss",
    "instance_norm",
    "layer_norm",
    "load",
    "max_pool",
    "mlp",
    "relu",
    "rms_norm",
    "save",
    "set_idle_memory",
    "set_num_threads",
    "softmax",
    "softmax_cross_entropy",
    "squared_error",
    "training",
    "verify",
]
