"""The course's update rules: `rule(w, dw, config=None)` returns `(next_w, config)`.

`config` is the dict that was passed in, with what the rule remembers put into it. `sgd` changes w in place, as the
course's does; the others leave w and the arrays in the old config as they are. next_w has the type of w.
"""

from typing import Any

import numpy as np

from xhat.checks import Array
from xhat.training.optimizers import SGD, Adam, Momentum, Optimizer, RMSProp

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]

Config = dict[str, Any]


def sgd(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Go down the slope, in place. `config`: ``learning_rate`` (1e-2)."""
    config = {} if config is None else config
    config.setdefault("learning_rate", 1e-2)
    SGD().change(w, dw.astype(w.dtype, copy=False), config["learning_rate"])
    return w, config


def sgd_momentum(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Keep part of the last move. `config`: ``learning_rate`` (1e-2), ``momentum`` (0.9), ``velocity``."""
    config = {} if config is None else config
    config.setdefault("learning_rate", 1e-2)
    config.setdefault("momentum", 0.9)
    return _next(Momentum(config["momentum"]), w, dw, config, "velocity")


def rmsprop(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Divide the gradient by its averaged size, which takes in the new gradient first.

    `config`: ``learning_rate`` (1e-2), ``decay_rate`` (0.99), ``epsilon`` (1e-8), ``cache``.
    """
    config = {} if config is None else config
    config.setdefault("learning_rate", 1e-2)
    config.setdefault("decay_rate", 0.99)
    config.setdefault("epsilon", 1e-8)
    return _next(RMSProp(config["decay_rate"], config["epsilon"]), w, dw, config, "cache")


def adam(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Divide the averaged gradient by its averaged size, both corrected for their start at zero.

    `config`: ``learning_rate`` (1e-3), ``beta1`` (0.9), ``beta2`` (0.999), ``epsilon`` (1e-8), ``m``, ``v``, and ``t``
    (0), which counts the steps and is increased before it is used. epsilon is added after the correction, as in the
    paper.
    """
    config = {} if config is None else config
    config.setdefault("learning_rate", 1e-3)
    config.setdefault("beta1", 0.9)
    config.setdefault("beta2", 0.999)
    config.setdefault("epsilon", 1e-8)
    config["t"] = config.get("t", 0) + 1
    rule = Adam(config["beta1"], config["beta2"], config["epsilon"])
    rule.steps = config["t"]
    return _next(rule, w, dw, config, "m", "v")


def _next(rule: Optimizer, w: Array, dw: Array, config: Config, *names: str) -> tuple[Array, Config]:
    """Make the rule's change on copies, and keep in config what it remembers."""
    next_w = w.copy()
    for name in names:
        config[name] = config[name].copy() if config.get(name) is not None else np.zeros_like(w)
    rule.change(next_w, dw.astype(w.dtype, copy=False), config["learning_rate"], *(config[name] for name in names))
    return next_w, config
