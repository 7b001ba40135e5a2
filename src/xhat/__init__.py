"""xhat: normalized neural-network layers with explicit forward and backward passes on NumPy arrays.

Pairs on arrays, each a module with `forward` and `backward`: `xhat.batch_norm`, `xhat.layer_norm`,
`xhat.group_norm`, `xhat.instance_norm`, `xhat.rms_norm`, `xhat.affine`, `xhat.relu`,
`xhat.dropout`. Layers for networks: `xhat.BatchNorm` and its like. Losses are functions.
"""

from importlib import import_module as _import_module
from typing import Any as _Any

from xhat import training, verify
from xhat.kernels import get_num_threads, set_num_threads
from xhat.layers import affine, batch_norm, dropout, group_norm, instance_norm, layer_norm, relu, rms_norm
from xhat.layers.affine import Affine
from xhat.layers.batch_norm import BatchNorm, RunningStatistics
from xhat.layers.dropout import Dropout
from xhat.layers.group_norm import GroupNorm
from xhat.layers.instance_norm import InstanceNorm
from xhat.layers.layer_norm import LayerNorm
from xhat.layers.losses import softmax, softmax_cross_entropy, squared_error
from xhat.layers.relu import ReLU
from xhat.layers.rms_norm import RMSNorm
from xhat.layers.standardize import Standardize
from xhat.networks import Sequential, mlp
from xhat.training import Trainer
from xhat.training.checkpoints import load, save

__version__ = "0.1.0"


def __getattr__(name: str) -> _Any:
    """Load `xhat.datasets` when it is first asked for: an import of xhat need not wait for it."""
    if name == "datasets":
        return _import_module("xhat.datasets")
    raise AttributeError(f"module 'xhat' has no attribute {name!r}")


__all__ = [
    "Affine",
    "BatchNorm",
    "Dropout",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "RMSNorm",
    "ReLU",
    "RunningStatistics",
    "Sequential",
    "Standardize",
    "Trainer",
    "affine",
    "batch_norm",
    "dropout",
    "get_num_threads",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "load",
    "mlp",
    "relu",
    "rms_norm",
    "save",
    "set_num_threads",
    "softmax",
    "softmax_cross_entropy",
    "squared_error",
    "training",
    "verify",
]
