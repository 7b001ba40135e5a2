"""The course's update rules: `rule(w, dw, config=None)` returns `(next_w, config)`.

`config` is the dict that was passed in, with what the rule remembers put into it; it is not changed when a rule refuses
what it is given. `sgd` changes w in place, as the course's does, so that w must be a floating array there; the others
leave w and the arrays in the old config as they are, and take numbers, lists and integers too. next_w has the type of
w, float64 for integers.
"""

import math
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_count, as_real
from xhat.cs231n.arrays import as_floats
from xhat.training.optimizers import SGD, Adam, Momentum, Optimizer, RMSProp

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]

Config = dict[str, Any]

# From where to where each setting of the rules may go.
_SPANS = {
    "learning_rate": (-math.inf, math.inf),
    "momentum": (0.0, 1.0),
    "decay_rate": (0.0, 1.0),
    "beta1": (0.0, 1.0),
    "beta2": (0.0, 1.0),
    "epsilon": (0.0, math.inf),
}


def sgd(w: Array, dw: ArrayLike, config: Config | None = None) -> tuple[Array, Config]:
    """Go down the slope, in place. `config`: ``learning_rate`` (1e-2)."""
    who = "sgd"
    config, settings = _settings(who, config, learning_rate=1e-2)
    kind = _dtype(w)
    if kind is None or kind.kind in "biu":
        got = type(w).__name__ if kind is None else str(kind)
        raise TypeError(
            f"{who}: expected w as a floating array, which it changes in place, got {got}. "
            "Convert it with numpy.array(w, float)."
        )
    if not w.flags.writeable:
        raise ValueError(f"{who}: expected w writable, for it is changed in place, got a read-only array. Copy it.")
    as_floats(who, w=w)
    dw = _gradient(who, w, dw)
    config.update(settings)
    with np.errstate(all="ignore"):
        SGD().change(w, dw, settings["learning_rate"])
    return w, config


def sgd_momentum(w: ArrayLike, dw: ArrayLike, config: Config | None = None) -> tuple[Array, Config]:
    """Keep part of the last move. `config`: ``learning_rate`` (1e-2), ``momentum`` (0.9), ``velocity``."""
    config, settings = _settings("sgd_momentum", config, learning_rate=1e-2, momentum=0.9)
    return _next("sgd_momentum", Momentum(settings["momentum"]), w, dw, config, settings, "velocity")


def rmsprop(w: ArrayLike, dw: ArrayLike, config: Config | None = None) -> tuple[Array, Config]:
    """Divide the gradient by its averaged size, which takes in the new gradient first.

    `config`: ``learning_rate`` (1e-2), ``decay_rate`` (0.99), ``epsilon`` (1e-8), ``cache``.
    """
    config, settings = _settings("rmsprop", config, learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8)
    rule = RMSProp(settings["decay_rate"], settings["epsilon"])
    return _next("rmsprop", rule, w, dw, config, settings, "cache")


def adam(w: ArrayLike, dw: ArrayLike, config: Config | None = None) -> tuple[Array, Config]:
    """Divide the averaged gradient by its averaged size, both corrected for their start at zero.

    `config`: ``learning_rate`` (1e-3), ``beta1`` (0.9), ``beta2`` (0.999), ``epsilon`` (1e-8), ``m``, ``v``, and ``t``
    (0), which counts the steps and is increased before it is used. epsilon is added after the correction, as in the
    paper. beta1 and beta2 are below 1: at 1 there is nothing to correct by.
    """
    who = "adam"
    config, settings = _settings(who, config, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8)
    t = config.get("t", 0)
    whole = int(t) if isinstance(t, float) and t.is_integer() else t
    settings["t"] = as_count(who, 'config["t"]', whole, 0, "It counts the steps made; start at 0.") + 1
    rule = Adam(settings["beta1"], settings["beta2"], settings["epsilon"])
    rule.steps = settings["t"]
    return _next(who, rule, w, dw, config, settings, "m", "v")


def _settings(who: str, config: object, **defaults: float) -> tuple[Config, dict[str, Any]]:
    """Return the caller's dict, or a new one, and the settings of a rule, judged; the dict is not changed."""
    if config is None:
        config = Config()
    if not isinstance(config, dict):
        raise TypeError(f"{who}: expected config as a dict, got {type(config).__name__}. Give a dict or None.")
    given = cast("Config", config)
    settings: dict[str, Any] = {}
    for name, default in defaults.items():
        value = given.get(name, default)
        number: object = value if _dtype(value) is None or value.ndim else value[()]
        below = name in ("beta1", "beta2")
        advice = f"The usual one is {default:g}."
        settings[name] = as_real(who, f'config["{name}"]', number, *_SPANS[name], advice, below=below)
    return given, settings


def _dtype(values: object) -> np.dtype[Any] | None:
    """Return the type of an array's entries, and None for all that is no array."""
    return cast(Array, values).dtype if isinstance(values, np.ndarray) else None


def _gradient(who: str, w: Array, dw: ArrayLike) -> Array:
    """Return the gradient in the shape and type of w."""
    (gradient,) = as_floats(who, dw=dw)
    with np.errstate(over="ignore"):
        return _along(who, "dw", gradient, w).astype(w.dtype, copy=False)


def _along(who: str, name: str, values: Array, w: Array) -> Array:
    """Return values in the shape of w: one number stands for as many as there are."""
    try:
        return np.broadcast_to(values, w.shape)
    except ValueError:
        raise ValueError(
            f"{who}: expected {name} of shape {w.shape}, got {values.shape}. It has the shape of w."
        ) from None


def _next(
    who: str, rule: Optimizer, w: ArrayLike, dw: ArrayLike, config: Config, settings: dict[str, Any], *names: str
) -> tuple[Array, Config]:
    """Make the rule's change on copies, and then keep in config what it was and what it remembers."""
    next_w = np.array(as_floats(who, w=w)[0])
    gradient = _gradient(who, next_w, dw)
    kept: dict[str, Array] = {}
    for name in names:
        given: Any = np.zeros_like(next_w) if config.get(name) is None else config[name]
        # a list or a number, such as the 0 of one's own first step, becomes what w is
        kind = _dtype(given) or next_w.dtype
        kind = next_w.dtype if kind.kind in "biu" else kind
        said = f'config["{name}"]'
        kept[name] = np.array(_along(who, said, as_floats(who, **{said: given})[0], next_w), kind)
    with np.errstate(all="ignore"):  # what the type cannot hold is Inf, as everywhere
        rule.change(next_w, gradient, settings["learning_rate"], *kept.values())
    config.update(settings)
    config.update(kept)
    return (next_w if isinstance(w, np.ndarray) else next_w[()]), config
