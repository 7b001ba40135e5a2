"""Which pairs are known, and how a pair of functions becomes a Problem.

A function's parameters are read as *roles* (x, gamma, eps, bn_param), from their names in any usual spelling, and a
layer says which axes each role has and what the output should be. Three conventions are known:

    cs231n     batchnorm_forward(x, gamma, beta, bn_param), and the course's other signatures
    torch      batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    xhat       forward(x, gamma, beta, eps)

Everything else is declared: `{"x": "N D", "slope": "D"}`. Where only the gradient is judged, and no output is asked
for, the convention is "none".

In `values`, besides what a Problem draws, a caller may put "mode", "momentum", "running_mean", "running_var", "p" and
"seed": they reach the function where it takes them.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xhat.checks import Array
from xhat.verify.problem import Call, Problem, Unsupported, Values, size

CONVENTIONS = ("cs231n", "torch", "xhat", "none")
DEFAULTS: Mapping[str, Any] = {"mode": "train", "momentum": 0.9, "eps": 1e-5, "p": 0.6, "seed": 231}

Axes = tuple[str, ...]
Formula = Callable[[Values], Any]


@dataclass(frozen=True)
class Norm:
    """Which entries of x a normalization takes a mean and a variance over, and how gamma and beta lie along x.

    Parameters
    ----------
    axes : tuple of int
        The axes of x; of x in blocks (N, G, K, H, W) where it is `grouped`.
    centred : bool
        Whether the mean is taken off. RMS norm leaves it.
    grouped : bool
        Whether the channels are taken in groups.
    scale, shift : tuple, optional
        The index that lays gamma, or beta, along x; () where broadcasting does so by itself, None without it.
    """

    axes: tuple[int, ...]
    centred: bool = True
    grouped: bool = False
    scale: tuple[Any, ...] | None = None
    shift: tuple[Any, ...] | None = None

    def blocks(self, values: Values) -> Any:
        """Return x with an axis for the groups, if there are any."""
        if not self.grouped:
            return values["x"]
        return values["x"].reshape((values["N"], values["G"], values["K"], values["H"], values["W"]))

    def scaled(self, x_hat: Any, values: Values) -> Any:
        """Return `gamma * x_hat + beta` in the shape of x."""
        y = x_hat.reshape(values["x"].shape) if self.grouped else x_hat
        if self.scale is not None:
            y = y * (values["gamma"][self.scale] if self.scale else values["gamma"])
        if self.shift is not None:
            y = y + (values["beta"][self.shift] if self.shift else values["beta"])
        return y


@dataclass(frozen=True)
class Running:
    """How a batch norm keeps its running statistics.

    Parameters
    ----------
    read : callable
        `read(call)` returns what holds "running_mean" and "running_var" after a call with these arguments.
    seen : callable
        `seen(values)` returns the array whose statistics are kept: x, or what comes out of the layers before.
    axes : tuple of int
        The axes of that array that are averaged over.
    shape : tuple of str
        The axes of a running statistic.
    keeps_old : bool
        Whether momentum is the share of the old statistics that is kept, as in the course, or the share of the new.
    unbiased : bool
        Whether the running variance divides by one less than the count.
    required : bool
        Whether a caller must hand in statistics; the course's functions make them.
    """

    read: Callable[[Call], Mapping[str, Any]]
    seen: Formula
    axes: tuple[int, ...]
    shape: Axes
    keeps_old: bool = True
    unbiased: bool = False
    required: bool = False


@dataclass(frozen=True)
class Spec:
    """A pair of functions, and what is asked of it.

    Parameters
    ----------
    name : str
        What the pair is called: "batchnorm_alt".
    layer : str, optional
        The layer of this library that it is: "batch_norm". None for sandwiches and for what is only declared.
    convention : str
        "cs231n", "torch", "xhat", "declared" or "none".
    problem : Problem
        The question.
    norm : Norm, optional
        What is averaged over, for a normalization that stands alone.
    running : Running, optional
        For batch norm.
    modes : bool
        Whether the function is told to train or to predict.
    """

    name: str
    layer: str | None
    convention: str
    problem: Problem
    norm: Norm | None = None
    running: Running | None = None
    modes: bool = False


def find(
    name: str,
    forward: Callable[..., Any],
    backward: Callable[..., Any] | None,
    *,
    convention: str | None = None,
    declaration: Mapping[str, Any] | None = None,
    layer: str | None = None,
    axis: int = 0,
) -> Spec:
    """Return what is asked of a pair of functions.

    Parameters
    ----------
    name : str
        What the pair is called: "batchnorm", "affine_relu", "conv_naive".
    forward : callable
        Returns `(y, cache)`; of a loss without backward, the loss and its gradient.
    backward : callable, optional
        Takes `(dy, cache)`.
    convention : str, optional
        "cs231n", "torch" or "xhat"; "none" where only the gradient is judged. By default read from the parameters.
    declaration : mapping, optional
        What the forward's parameters are, by name, where names do not tell: "N D" is an array of floats with these
        axes, to be differentiated; "N < C" are N class numbers below C; "size N" is that size; "eps" is a positive
        number; anything else is passed on as it is. Also "gradients", the order in which the backward returns them
        ("dx dw", only these are judged); "output", the axes of y; "layer", as below.
    layer : str, optional
        A layer of this library: "batch_norm".
    axis : int
        Along which axis of a two-dimensional x the samples lie; 1 for features x samples.

    Returns
    -------
    Spec

    Raises
    ------
    TypeError
        If the forward cannot be called with what is known, or the declaration is no mapping.
    ValueError
        If nothing is known of the pair, or the declaration does not fit the function.

    Examples
    --------
    >>> def batchnorm_forward(x, gamma, beta, bn_param): ...
    >>> def batchnorm_backward(dout, cache): ...
    >>> spec = find("batchnorm", batchnorm_forward, batchnorm_backward)
    >>> spec.layer, spec.convention, spec.problem.inputs["gamma"]
    ('batch_norm', 'cs231n', ('D',))
    """
    if convention is not None and convention not in CONVENTIONS:
        words = ", ".join(map(repr, CONVENTIONS))
        raise ValueError(f"{name}: expected convention {words}, got {convention!r}. Choose one of these.")
    if axis not in (0, 1):
        raise ValueError(f"{name}: expected axis 0 or 1, got {axis}. Along which axis of x do the samples lie?")
    parameters = _parameters(name, forward)
    if declaration is not None:
        return _declared(name, forward, backward, parameters, declaration, layer, convention)
    if layer is not None and layer not in _LAYERS:
        raise ValueError(f"{name}: expected layer {', '.join(sorted(_LAYERS))}, got {layer!r}. Choose one of these.")
    words = _words(name) or _words(getattr(forward, "__name__", ""))
    parts = [layer] if layer is not None else _parts(words)
    if parts:
        return _known(name, forward, backward, parameters, parts, words, convention, axis, layer is not None)
    return _inferred(name, forward, backward, parameters)


# Formulas: what the output should be, in plain arithmetic, for any kind of number.


def _normalization(norm: Norm) -> Formula:
    """Return the formula of a normalization."""

    def specification(values: Values) -> Any:
        blocks = norm.blocks(values)
        centred = blocks - np.mean(blocks, axis=norm.axes, keepdims=True) if norm.centred else blocks
        var = np.mean(centred * centred, axis=norm.axes, keepdims=True)
        return norm.scaled(centred / np.sqrt(var + values.get("eps", DEFAULTS["eps"])), values)

    return specification


def _with_modes(norm: Norm, place: tuple[Any, ...]) -> Formula:
    """Return the formula of batch norm: in mode "test" the running statistics stand in for the batch's."""
    train = _normalization(norm)

    def specification(values: Values) -> Any:
        if values.get("mode", "train") != "test":
            return train(values)
        mean, var = values["running_mean"], values["running_var"]
        if place:
            mean, var = mean[place], var[place]
        return norm.scaled((values["x"] - mean) / np.sqrt(var + values.get("eps", DEFAULTS["eps"])), values)

    return specification


def _affine(values: Values) -> Any:
    x, w = values["x"], values["w"]
    y = np.dot(x.reshape((x.shape[0], w.shape[0])) if len(x.shape) > 2 else x, w)
    return y + values["b"] if "b" in values else y


def _affine_transposed(values: Values) -> Any:
    y = np.dot(values["x"], values["w"].T)
    return y + values["b"] if "b" in values else y


def _relu(values: Values) -> Any:
    return np.maximum(values["x"], 0)


def _sigmoid(values: Values) -> Any:
    return 1 / (1 + np.exp(-values["x"]))


def _tanh(values: Values) -> Any:
    return np.tanh(values["x"])


def _silu(values: Values) -> Any:
    return values["x"] / (1 + np.exp(-values["x"]))


def _flatten(values: Values) -> Any:
    x = values["x"]
    return x.reshape((x.shape[0], values["A"] * values["B"]))


def _conv(values: Values) -> Any:
    x, w, stride, pad = values["x"], values["w"], int(values["stride"]), int(values["pad"])
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows = (x.shape[2] + 2 * pad - w.shape[2]) // stride + 1
    columns = (x.shape[3] + 2 * pad - w.shape[3]) // stride + 1
    y: Any = values["b"][:, None, None] if "b" in values else 0
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            seen = padded[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]  # (N, C, H', W')
            y = y + np.sum(w[None, :, :, i, j, None, None] * seen[:, None], axis=2)  # (N, F, H', W')
    return y


def _max_pool(values: Values) -> Any:
    x, stride, height, width = values["x"], *(int(values[key]) for key in ("stride", "pool_height", "pool_width"))
    rows, columns = (x.shape[2] - height) // stride + 1, (x.shape[3] - width) // stride + 1
    y = x[:, :, : stride * rows : stride, : stride * columns : stride]
    for i in range(height):
        for j in range(width):
            y = np.maximum(y, x[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride])
    return y


def _rows(x: Any) -> Any:
    return np.arange(x.shape[0])  # pyright: ignore[reportUnknownVariableType]


def _softmax_loss(values: Values) -> Any:
    x, y = values["x"], values["y"]
    rows = _rows(x)
    return np.mean(np.log(np.sum(np.exp(x), axis=1)) - x[rows, y])  # pyright: ignore[reportUnknownVariableType]


def _hinge_loss(values: Values) -> Any:
    x, y = values["x"], values["y"]
    rows = _rows(x)
    margins: Any = np.maximum(x - x[rows, y][:, None] + 1, 0)
    return (np.sum(margins) - np.sum(margins[rows, y])) / x.shape[0]  # pyright: ignore[reportUnknownVariableType]


def _squared_error(values: Values) -> Any:
    x = values["x"]
    targets = values["targets"] if "targets" in values else constant("targets", x.shape)
    return np.mean((x - targets) ** 2)  # pyright: ignore[reportUnknownVariableType]


def _along(axes: Axes, parameter: Axes) -> tuple[Any, ...]:
    """Return the index that lays a parameter along its axes of x; () where broadcasting does so by itself."""
    if len(parameter) == len(axes) or parameter == axes[len(axes) - len(parameter) :]:
        return ()
    first = next((i for i, name in enumerate(axes) if name in parameter), 0)
    return tuple(slice(None) if name in parameter else None for name in axes[first:])


# Layers: which roles they have, with which axes, at which sizes.


@dataclass(frozen=True)
class _Layer:
    """What is known of a layer before a function is seen."""

    aliases: str
    roles: tuple[str, ...]  # in the order of the course's parameters
    param: str | None = None  # what the dict of settings is called
    settings: tuple[str, ...] = ()  # what that dict holds


_LAYERS: Mapping[str, _Layer] = {
    "batch_norm": _Layer(
        "batchnorm bn batchnormalization batchnorm1d bn1d spatialbatchnorm spatialbn batchnorm2d bn2d batchnormspatial",
        ("x", "gamma", "beta", "eps", "mode", "momentum", "running_mean", "running_var"),
        "bn_param",
        ("mode", "eps", "momentum", "running_mean", "running_var"),
    ),
    "layer_norm": _Layer(
        "layernorm ln layernormalization", ("x", "gamma", "beta", "eps", "mode"), "ln_param", ("eps",)
    ),
    "group_norm": _Layer(
        "groupnorm gn groupnormalization spatialgroupnorm spatialgn spatialgroupnormquick",
        ("x", "gamma", "beta", "G", "eps"),
        "gn_param",
        ("eps",),
    ),
    "instance_norm": _Layer(
        "instancenorm instancenormalization instancenorm2d spatialinstancenorm",
        ("x", "gamma", "beta", "eps"),
        "in_param",
        ("eps",),
    ),
    "rms_norm": _Layer("rmsnorm rmsnormalization", ("x", "gamma", "eps"), "rms_param", ("eps",)),
    "affine": _Layer("affine fc linear dense fullyconnected", ("x", "w", "b")),
    "relu": _Layer("relu", ("x",)),
    "sigmoid": _Layer("sigmoid", ("x",)),
    "tanh": _Layer("tanh", ("x",)),
    "silu": _Layer("silu", ("x",)),
    "flatten": _Layer("flatten", ("x",)),
    "dropout": _Layer(
        "dropout inverteddropout", ("x", "p", "mode", "seed", "rng", "mask"), "dropout_param", ("p", "mode", "seed")
    ),
    "conv": _Layer("conv conv2d convolution", ("x", "w", "b", "stride", "pad"), "conv_param", ("stride", "pad")),
    "max_pool": _Layer(
        "maxpool pool maxpool2d maxpooling",
        ("x", "pool_height", "pool_width", "stride"),
        "pool_param",
        ("pool_height", "pool_width", "stride"),
    ),
    "softmax_cross_entropy": _Layer(
        "softmaxloss softmaxcrossentropy softmaxcrossentropyloss crossentropy crossentropyloss softmaxwithloss",
        ("x", "y"),
    ),
    "hinge_loss": _Layer("svmloss hingeloss svm hinge multiclasshinge", ("x", "y")),
    "squared_error": _Layer("squarederror mse mseloss meansquarederror squarederrorloss l2loss", ("x", "targets")),
}
_ALIASES = {alias: name for name, known in _LAYERS.items() for alias in (*known.aliases.split(), name.replace("_", ""))}
_OWN = frozenset(_LAYERS) - {"sigmoid", "tanh", "silu"}  # those that this library has
_VARIANTS = frozenset(  # words of a name that say how it is written, not what it is
    re.findall(
        r"\w+",
        "alt naive fast vectorized vectorised loop loops looped im2col strides numpy np my simple quick slow v "
        "forward backward fwd bwd pass op",
    )
)
_CONV_LIKE = frozenset({"conv", "max_pool"})
_NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"})
_LOSSES: Mapping[str, Formula] = {
    "softmax_cross_entropy": _softmax_loss,
    "hinge_loss": _hinge_loss,
    "squared_error": _squared_error,
}
_ELEMENTWISE: Mapping[str, Formula] = {"relu": _relu, "sigmoid": _sigmoid, "tanh": _tanh, "silu": _silu}

_SPELLINGS: Mapping[str, str] = {
    "x": "x inp input inputs data features scores logits predictions pred predicted yhat ypred",
    "w": "w weight weights kernel filters filter wmat",
    "b": "b bias biases",
    "gamma": "gamma g scale gain weight weights w gammas",
    "beta": "beta b shift bias offset betas",
    "eps": "eps epsilon e",
    "mode": "mode training train istraining istrain",
    "momentum": "momentum mom",
    "running_mean": "runningmean runmean movingmean",
    "running_var": "runningvar runvar movingvar runningvariance movingvariance",
    "G": "g groups numgroups ngroups group",
    "p": "p prob rate ratio keepprob dropprob dropoutrate droprate keepratio dropoutratio",
    "seed": "seed",
    "rng": "rng generator randomstate",
    "mask": "mask",
    "stride": "stride strides s",
    "pad": "pad padding",
    "pool_height": "poolheight ph hh kh",
    "pool_width": "poolwidth pw ww kw",
    "y": "y labels label targets target t classes ytrue",
    "targets": "y targets target t ytrue labels",
}
_ARRAYS = ("x", "w", "b", "gamma", "beta")

_TILES = {"pool_height": 2, "pool_width": 2, "stride": 2}
_FLAT = ({"N": 4, "D": 3}, {"N": 5, "D": 2})
_SIZES: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]] = {
    "affine": ({"N": 4, "A": 2, "B": 3, "D": 5, "M": 2}, {"N": 3, "A": 3, "B": 2, "D": 2, "M": 5}),
    "flatten": ({"N": 4, "A": 2, "B": 3}, {"N": 3, "A": 3, "B": 2}),
    "spatial": ({"N": 2, "C": 3, "H": 2, "W": 3}, {"N": 3, "C": 2, "H": 4, "W": 2}),
    "layer_norm": ({"N": 3, "D": 4}, {"N": 2, "D": 5}),
    "group_norm": ({"N": 2, "G": 2, "K": 3, "H": 3, "W": 2}, {"N": 2, "G": 3, "K": 2, "H": 2, "W": 3}),
    "conv": (
        {"N": 2, "C": 3, "H": 5, "W": 6, "F": 4, "HH": 3, "WW": 2, "stride": 2, "pad": 1},
        {"N": 3, "C": 2, "H": 5, "W": 4, "F": 2, "HH": 2, "WW": 3, "stride": 1, "pad": 0},
    ),
    "max_pool": (
        {"N": 2, "C": 3, "H": 4, "W": 6, "pool_height": 2, "pool_width": 2, "stride": 2},
        {"N": 3, "C": 2, "H": 4, "W": 5, "pool_height": 2, "pool_width": 3, "stride": 1},
    ),
    "pooled": (  # a convolution, then windows that tile
        {"N": 2, "C": 3, "H": 4, "W": 8, "F": 4, "HH": 2, "WW": 2, **_TILES, "pad": 0},
        {"N": 3, "C": 2, "H": 6, "W": 10, "F": 2, "HH": 2, "WW": 2, **_TILES, "pad": 1},
    ),
    "loss": ({"N": 4, "C": 3}, {"N": 5, "C": 2}),
}


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a name that say what it is: "convForward_naive" is ("conv",)."""
    split = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3_\2\4", name)
    words = [word for word in re.split(r"[^a-zA-Z0-9]+", split.lower()) if word]
    words = [word if word in _ALIASES else re.sub(r"(?<=[a-z])\d+$", "", word) for word in words]
    return tuple(word for word in words if word not in _VARIANTS and not word.isdecimal())


def _parts(words: Sequence[str]) -> list[str]:
    """Return the layers that a name lists, one after the other; [] if a word of it is no layer."""
    parts: list[str] = []
    i = 0
    while i < len(words):
        for length in (4, 3, 2, 1):
            known = _ALIASES.get("".join(words[i : i + length]))
            if known is not None and i + length <= len(words):
                parts.append(known)
                i += length
                break
        else:
            if words[i] not in ("layer", "spatial"):
                return []
            i += 1
    return parts


def _parameters(name: str, forward: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that a caller can fill."""
    try:
        signature = inspect.signature(forward)
    except (TypeError, ValueError):
        kind = type(forward).__name__
        raise TypeError(f"{name}: expected a forward function, got {kind}. Give a function with parameters.") from None
    return [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _spelled(name: str) -> str:
    return name.lower().replace("_", "")


def _is_settings(name: str) -> bool:
    return re.search(r"(params?|config|cfg|options|opts|settings|dict)$", _spelled(name)) is not None


def _roles(name: str, parameters: Sequence[inspect.Parameter], parts: Sequence[str]) -> dict[str, str]:
    """Return the role of every parameter that has one: by its name, and of those that must be given by its place."""
    known = [_LAYERS[part] for part in parts]
    free = list(dict.fromkeys(role for layer in known for role in layer.roles))
    dicts = [layer.param for layer in known if layer.param is not None]
    roles: dict[str, str] = {}
    for parameter in parameters:
        word = _spelled(parameter.name)
        spelled = [role for role in free if word == _spelled(role) or word in _SPELLINGS[role].split()]
        role = parameter.name if parameter.name in spelled else next(iter(spelled), None)
        if role is not None:
            free.remove(role)
        elif _is_settings(parameter.name) and dicts:
            role = next((d for d in dicts if word.startswith(d.partition("_")[0])), dicts[0])
            dicts.remove(role)
        if role is not None:
            roles[parameter.name] = role
    for parameter in parameters:
        if parameter.name in roles or parameter.default is not parameter.empty:
            continue
        arrays = [role for role in free if role in (*_ARRAYS, "y", "targets", "G")]
        if arrays:
            roles[parameter.name] = arrays[0]
            free.remove(arrays[0])
        elif dicts:
            roles[parameter.name] = dicts.pop(0)
        else:
            raise ValueError(_undeclared(name, parameters, parameter.name))
    return roles


def _undeclared(name: str, parameters: Sequence[inspect.Parameter], what: str) -> str:
    shown = ", ".join(p.name for p in parameters)
    example = ", ".join(f'"{p.name}": "{"N D" if i == 0 else "D"}"' for i, p in enumerate(parameters[:3]))
    return (
        f"{name}: expected a forward whose parameters are known, got forward({shown}) with an unknown {what!r}. "
        f'Say what they are, in the file: XHAT = {{"{name}": {{{example}}}}}, or in a call: shapes={{{example}}}, '
        'with the names of the axes of each array, "N < C" for class numbers, "eps" for a positive number, or the '
        "value itself."
    )


def _fill(role: str, values: Values, taken: Mapping[str, Axes]) -> Any:
    """Return what a role is called with."""
    if role in values:
        return values[role]
    if role == "training":
        return values.get("mode", "train") == "train"
    if role in taken:
        return constant(role, tuple(size(axis, values) for axis in taken[role]))
    if role == "rng":
        return np.random.default_rng(DEFAULTS["seed"])
    if role in ("running_mean", "running_var"):
        zeros = (values["gamma"] if "gamma" in values else values["x"][0]) * 0
        return zeros if role == "running_mean" else zeros + 1
    return DEFAULTS[role]


def constant(name: str, shape: tuple[Any, ...]) -> Array:
    """Return an array that is not differentiated: quarters, the same for the same name and shape.

    Raises
    ------
    Unsupported
        If a size is no number.
    """
    if not all(isinstance(n, int) for n in shape):
        raise Unsupported(f"{name} is a constant array, which has no values at sizes that are symbols")
    if name == "mask":
        return np.array([(1.0, 0.0, 1.0)[i % 3] for i in range(math.prod(shape))]).reshape(shape)
    start = sum(map(ord, name))
    return np.array([((start + 5 * i) % 17 - 8) / 4 for i in range(math.prod(shape))]).reshape(shape)


def _caller(
    parameters: Sequence[inspect.Parameter], roles: Mapping[str, str], taken: Mapping[str, Axes]
) -> Callable[[Values], Call]:
    """Return the function that makes the forward's arguments."""
    settings = {layer.param: layer.settings for layer in _LAYERS.values() if layer.param is not None}

    def arguments(values: Values) -> Call:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        skipped = False
        for parameter in parameters:
            role = roles.get(parameter.name)
            if role is None:
                skipped = True
                continue
            if role in settings:
                value: Any = {
                    key: _fill(key, values, {})
                    for key in settings[role]
                    if key not in ("running_mean", "running_var") or key in values
                }
            elif role.startswith("running_") and role not in values and parameter.default is not parameter.empty:
                skipped = True
                continue
            else:
                value = _fill(role, values, taken)
            if skipped or parameter.kind is parameter.KEYWORD_ONLY:
                named[parameter.name] = value
            else:
                positional.append(value)
        return tuple(positional), named

    return arguments


def _style(spelled: set[str], used: set[str], parts: Sequence[str], words: Sequence[str], *, by_layer: bool) -> str:
    """Return the convention that the parameters tell."""
    if any(role.endswith("_param") for role in used):
        return "cs231n"
    if {"weight", "training"} <= spelled or {"input", "weight"} <= spelled:
        return "torch"
    alike = set(parts) <= {"relu", "dropout", "softmax_cross_entropy", "hinge_loss"} and not by_layer
    return "cs231n" if alike or "affine" in words else "xhat"


def _layout(parts: Sequence[str], words: Sequence[str], style: str, axis: int) -> tuple[Axes, str]:
    """Return the axes of x, and the name of the sizes at which to pose the problem."""
    first = parts[0]
    if first in _LOSSES:
        return ("N", "C"), "loss"
    if first == "group_norm":
        return ("N", "G*K", "H", "W"), first
    if first == "flatten":
        return ("N", "A", "B"), first
    if first == "affine":
        flat = style != "cs231n" or bool({"fc", "linear", "dense"} & set(words))
        return ("N", "D") if flat else ("N", "A", "B"), first
    pictures = _CONV_LIKE.intersection(parts) or {"group_norm", "instance_norm"}.intersection(parts)
    if pictures or any(re.search("spatial|2d", word) is not None for word in words):
        both = "conv" in parts and "max_pool" in parts
        return ("N", "C", "H", "W"), "pooled" if both else first if first in _CONV_LIKE else "spatial"
    return ("D", "N") if axis == 1 else ("N", "D"), first


def _known(
    name: str,
    forward: Callable[..., Any],
    backward: Callable[..., Any] | None,
    parameters: list[inspect.Parameter],
    parts: list[str],
    words: Sequence[str],
    convention: str | None,
    axis: int,
    by_layer: bool,
) -> Spec:
    """Return the Spec of a known layer, or of known layers one after the other."""
    roles = _roles(name, parameters, parts)
    told = next((p for p, role in roles.items() if role == "mode"), "mode")
    if _spelled(told) != "mode":
        roles[told] = "training"
    used = set(roles.values())
    if "x" not in used:
        raise ValueError(_undeclared(name, parameters, parameters[0].name if parameters else "x"))
    style = convention
    if convention in (None, "none"):
        style = _style({_spelled(p.name) for p in parameters}, used, parts, words, by_layer=by_layer)
    style = style or "xhat"
    axes, kind = _layout(parts, words, style, axis)
    inputs: dict[str, Axes] = {"x": axes}

    steps: list[Formula] = []
    labels: dict[str, tuple[str, str]] = {}
    taken: dict[str, Axes] = {}
    norm: Norm | None = None
    running: Running | None = None
    output: Axes | None = axes
    for part in parts:
        if part in _NORMS:
            norm, formula = _place_norm(part, axes, used, style, inputs)
            if part == "batch_norm":
                running = _running(parameters, roles, axes, norm, tuple(steps), style)
        elif part == "affine":
            features = "*".join(axes[1:])
            formula = _affine_transposed if style == "torch" else _affine
            inputs["w"] = ("M", features) if style == "torch" else (features, "M")
            if "b" in used:
                inputs["b"] = ("M",)
            axes = output = ("N", "M")
        elif part == "conv":
            inputs["w"] = ("F", "C", "HH", "WW")
            if "b" in used:
                inputs["b"] = ("F",)
            axes, output, formula = ("N", "F", "H'", "W'"), None, _conv
        elif part == "max_pool":
            axes, output, formula = (*axes[:2], "H''", "W''"), None, _max_pool
        elif part == "flatten":
            axes, output, formula = ("N", "A*B"), ("N", "A*B"), _flatten
        elif part in _LOSSES:
            output, formula = (), _LOSSES[part]
            if part == "squared_error":
                taken["targets"] = axes
            else:
                labels["y"] = (axes[0], axes[-1])
        elif part == "dropout":
            taken["mask"] = axes
            formula = None
        else:
            formula = _ELEMENTWISE[part]
        steps.append(_through if formula is None else formula)
    if "eps" in used or any("eps" in _LAYERS[part].settings and _LAYERS[part].param in used for part in parts):
        scalars: tuple[str, ...] = ("eps",)
    else:
        scalars = ()
    specification: Formula | None = steps[0] if len(steps) == 1 else _chain(tuple(steps))
    loose = "squared_error" in parts and not by_layer  # half of it, or a sum, is as usual as the mean
    if convention == "none" or "dropout" in parts or loose:
        specification = None
    sizes = _sizes(kind, inputs, labels, _FLAT, tiled="fast" in name)
    layer = parts[0] if len(parts) == 1 and parts[0] in _OWN else None
    problem = Problem(
        name=name,
        forward=forward,
        backward=backward,
        inputs=inputs,
        arguments=_caller(parameters, roles, taken),
        sizes=sizes,
        output=output,
        scalars=scalars,
        labels=labels,
        specification=specification,
        layer=layer,
    )
    modes = "mode" in used or "training" in used or bool({"bn_param", "dropout_param"} & used)
    return Spec(
        name,
        layer,
        "none" if convention == "none" else style,
        problem,
        norm=norm if len(parts) == 1 and specification is not None else None,
        running=running if convention != "none" else None,
        modes=modes and ("batch_norm" in parts or "dropout" in parts) and convention != "none",
    )


def _through(values: Values) -> Any:
    return values["x"]


def _chain(steps: tuple[Formula, ...]) -> Formula:
    """Return the formula of layers one after the other."""

    def specification(values: Values) -> Any:
        y = values["x"]
        for step in steps:
            y = step({**values, "x": y})
        return y

    return specification


def _place_norm(part: str, axes: Axes, used: set[str], style: str, inputs: dict[str, Axes]) -> tuple[Norm, Formula]:
    """Return what a normalization averages over and its formula, and put its parameters among the inputs."""
    samples = axes.index("N")
    channel = 1 - samples
    parameter: Axes = (axes[channel],)
    if part == "batch_norm":
        norm = Norm(tuple(i for i in range(len(axes)) if i != channel))
        if samples:
            parameter = (axes[channel], "1")
    elif part == "group_norm":
        norm = Norm((2, 3, 4), grouped=True)
        if style == "cs231n":
            parameter = ("1", axes[1], "1", "1")
    elif part == "instance_norm":
        norm = Norm((2, 3))
    else:
        norm = Norm(tuple(i for i in range(len(axes)) if i != samples), centred=part == "layer_norm")
        parameter = axes[1:] if not samples else (axes[0], "1")
    for role, index in (("gamma", "scale"), ("beta", "shift")):
        if role in used:
            inputs[role] = parameter
            norm = replace(norm, **{index: _along(axes, parameter)})
    return norm, _with_modes(norm, _along(axes, parameter)) if part == "batch_norm" else _normalization(norm)


def _running(
    parameters: Sequence[inspect.Parameter],
    roles: Mapping[str, str],
    axes: Axes,
    norm: Norm,
    before: tuple[Formula, ...],
    style: str,
) -> Running | None:
    """Return how running statistics are kept, if the function is given a place for them."""
    place = {roles[p.name]: (i, p.name) for i, p in enumerate(parameters) if p.name in roles}
    seen = _chain(before) if before else _through
    shape = tuple(axis for i, axis in enumerate(axes) if i not in norm.axes)

    def given(call: Call, role: str) -> Any:
        i, name = place[role]
        positional, named = call
        return named[name] if name in named else positional[i]

    if axes[0] != "N":
        return None
    if "bn_param" in place:
        return Running(lambda call: given(call, "bn_param"), seen, norm.axes, shape)
    if "running_mean" in place and "running_var" in place:
        return Running(
            lambda call: {role: given(call, role) for role in ("running_mean", "running_var")},
            seen,
            norm.axes,
            shape,
            keeps_old=style != "torch",
            unbiased=style == "torch",
            required=True,
        )
    return None


def _sizes(
    kind: str,
    inputs: Mapping[str, Axes],
    labels: Mapping[str, tuple[str, str]],
    fallback: tuple[Mapping[str, int], Mapping[str, int]],
    *,
    tiled: bool = False,
) -> list[Mapping[str, int]]:
    """Return the sizes of a kind of layer, of those names that it has."""
    chosen = _SIZES.get(kind, fallback)
    named = set(_names(*inputs.values(), *labels.values()))
    settings = {"stride", "pad", "pool_height", "pool_width"}
    more = _small_sizes(inputs, labels)  # for layers that seldom come together
    sizes = [
        {
            **{k: n for k, n in other.items() if k not in some},
            **{k: n for k, n in some.items() if k in named | settings},
        }
        for some, other in zip(chosen, more, strict=True)
    ]
    if kind == "max_pool" and tiled:
        sizes[1] = {"N": 3, "C": 2, "H": 6, "W": 3, "pool_height": 3, "pool_width": 3, "stride": 3}
    return list(sizes)


def _names(*axes: Axes) -> Iterator[str]:
    """Yield the names of sizes that axes are made of, each as often as it occurs."""
    return (part for names in axes for axis in names for part in axis.split("*") if not part.isdecimal())


# What names do not tell.


def _inferred(
    name: str, forward: Callable[..., Any], backward: Callable[..., Any] | None, parameters: list[inspect.Parameter]
) -> Spec:
    """Return the Spec of an unknown pair whose parameters tell their shapes: only the gradient is judged."""
    needed = [p for p in parameters if p.default is p.empty]
    if backward is None or not needed:
        raise ValueError(_undeclared(name, parameters, needed[0].name if needed else "forward"))
    inputs: dict[str, Axes] = {needed[0].name: ("N", "D")}
    scalars: list[str] = []
    features, layers = "D", 0
    for parameter in needed[1:]:
        word = _spelled(parameter.name)
        if word in _SPELLINGS["eps"].split():
            scalars.append(parameter.name)
        elif re.fullmatch(r"(w|weights?)\d*", word):
            layers += 1
            inputs[parameter.name] = (features, f"M{layers}")
            features = f"M{layers}"
        elif word in ("gamma", "scale") or (re.fullmatch(r"(b|bias|beta|shift)\d*", word) and len(inputs) > 1):
            inputs[parameter.name] = (features,)
        else:
            raise ValueError(_undeclared(name, parameters, parameter.name))
    problem = Problem(
        name=name,
        forward=forward,
        backward=backward,
        inputs=inputs,
        arguments=_caller(needed, {p.name: p.name for p in needed}, {}),
        sizes=_small_sizes(inputs, {}),
        scalars=tuple(scalars),
    )
    return Spec(name, None, "none", problem)


def _small_sizes(inputs: Mapping[str, Axes], labels: Mapping[str, tuple[str, str]], *more: str) -> list[dict[str, int]]:
    """Return two sets of sizes for names of one's own: small, neighbours differ, and some class numbers repeat."""
    names = list(dict.fromkeys((*_names(*inputs.values(), *labels.values()), *more)))
    chosen = [{name: some[i % len(some)] for i, name in enumerate(names)} for some in ((4, 3, 2, 5), (5, 2, 3, 4))]
    for sizes in chosen:
        for axis, classes in labels.values():
            if axis in sizes and sizes[axis] <= size(classes, sizes):
                sizes[axis] = size(classes, sizes) + 2
    return chosen


def _declared(
    name: str,
    forward: Callable[..., Any],
    backward: Callable[..., Any] | None,
    parameters: list[inspect.Parameter],
    declaration: Mapping[str, Any],
    layer: str | None,
    convention: str | None,
) -> Spec:
    """Return the Spec of a pair whose parameters are declared."""
    if not isinstance(declaration, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        kind = type(declaration).__name__
        raise TypeError(f'{name}: expected a declaration as a dict, got {kind}. Write {{"x": "N D"}}.')
    told = dict(declaration)
    layer = told.pop("layer", layer)
    order, shown = told.pop("gradients", None), told.pop("output", None)
    if layer is not None and layer not in _LAYERS:
        raise ValueError(f"{name}: expected layer {', '.join(sorted(_LAYERS))}, got {layer!r}. Choose one of these.")
    known = {p.name for p in parameters}
    for key in told:
        if key not in known:
            raise ValueError(
                f"{name}: expected a declaration of {', '.join(sorted(known))}, got {key!r}. "
                "Use the names of the forward's parameters."
            )
    for parameter in parameters:
        if parameter.name not in told and parameter.default is parameter.empty:
            raise ValueError(_undeclared(name, parameters, parameter.name))

    arrays: dict[str, Axes] = {}
    labels: dict[str, tuple[str, str]] = {}
    scalars: list[str] = []
    sized: dict[str, str] = {}
    fixed: dict[str, Any] = {}
    for key, value in told.items():
        match value.split() if isinstance(value, str) else None:
            case [axis, "<", classes]:
                labels[key] = (axis, classes)
            case ["size", axis]:
                sized[key] = axis
            case [word] if re.fullmatch(r"[a-z]\w*", word) and word in ("eps", "positive", key):
                scalars.append(key)
            case list() as axes if all(re.fullmatch(r"[A-Z1-9]\w*(\*[A-Z1-9]\w*)*", axis) for axis in axes):
                arrays[key] = tuple(axes)
            case None:
                fixed[key] = value
            case _:
                raise ValueError(
                    f'{name}: expected {key} as axes ("N D"), class numbers ("N < C"), a size ("size N"), "eps" or a '
                    f"value, got {value!r}. Names of axes begin with a capital letter."
                )
    if not arrays:
        raise ValueError(f'{name}: expected an array to differentiate, got none. Declare one: {{"x": "N D"}}.')
    inputs = arrays
    if order is not None:
        names = [word[1:] if word.startswith("d") else word for word in str(order).replace(",", " ").split()]
        strange = [word for word in names if word not in arrays]
        if strange or not names:
            got = f"d{strange[0]}" if strange else "none"
            raise ValueError(
                f"{name}: expected gradients out of {', '.join('d' + key for key in arrays)}, got {got}. "
                "Name declared arrays, each with a d before it."
            )
        inputs = {word: arrays[word] for word in names}
    inner = _scalars_inside(fixed)
    scalars += [key for key in inner if key not in scalars]

    def arguments(values: Values) -> Call:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for parameter in parameters:
            key = parameter.name
            if key not in told:
                continue
            if key in values:
                value = values[key]
            elif key in arrays:
                value = constant(key, tuple(_length(axis, values) for axis in arrays[key]))
            elif key in sized:
                value = values[sized[key]]
            else:
                value = _filled(fixed[key], values)
            if parameter.kind is parameter.KEYWORD_ONLY or len(positional) < parameters.index(parameter):
                named[key] = value
            else:
                positional.append(value)
        return tuple(positional), named

    output = None if shown is None else tuple(str(shown).split())
    if backward is None:
        output = ()
    norm, specification = _declared_formula(layer, arrays, scalars, convention)
    problem = Problem(
        name=name,
        forward=forward,
        backward=backward,
        inputs=inputs,
        arguments=arguments,
        sizes=_small_sizes(arrays, labels, *sized.values()),
        output=output,
        scalars=tuple(scalars),
        labels=labels,
        specification=specification,
        layer=layer if layer in _OWN else None,
    )
    return Spec(name, problem.layer, "declared", problem, norm=norm)


def _length(axis: str, values: Values) -> Any:
    lengths = [int(part) if part.isdecimal() else values[part] for part in axis.split("*")]
    return functools.reduce(operator.mul, lengths)


def _scalars_inside(value: Any) -> list[str]:
    """Return the keys of declared dicts that stand for a positive number: {"eps": "eps"}."""
    if not isinstance(value, Mapping):
        return []
    found: list[str] = []
    for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
        found += [str(key)] if key == inner == "eps" else _scalars_inside(inner)  # pyright: ignore[reportUnknownArgumentType]
    return found


def _filled(value: Any, values: Values) -> Any:
    """Return a copy of a declared value, with the numbers that it leaves open."""
    if isinstance(value, Mapping):
        return {
            key: values.get("eps", 1e-5) if key == inner == "eps" else _filled(inner, values)
            for key, inner in value.items()  # pyright: ignore[reportUnknownVariableType]
        }
    return copy.deepcopy(value)


def _declared_formula(
    layer: str | None, arrays: Mapping[str, Axes], scalars: Sequence[str], convention: str | None
) -> tuple[Norm | None, Formula | None]:
    """Return what a declared layer averages over and its formula; nothing where its axes do not tell."""
    if layer is None or convention == "none":
        return None, None
    named: dict[str, str] = {}
    for role in (*_LAYERS[layer].roles, "eps"):
        spellings = (_spelled(role), *_SPELLINGS[role].split())
        free = (key for key in (*arrays, *scalars) if key not in named.values())
        found = next((key for key in free if _spelled(key) in spellings), None)
        if found is not None:
            named[role] = found
    if "x" not in named:
        named["x"] = next(iter(arrays))
    axes = arrays[named["x"]]
    parameters = {role: arrays[named[role]] for role in ("gamma", "beta") if role in named}
    norm: Norm | None = None
    if layer in ("batch_norm", "layer_norm", "rms_norm"):
        own = set(next(iter(parameters.values()), ())) - {"1"}
        inside = tuple(i for i, axis in enumerate(axes) if (axis in own) is not (layer == "batch_norm"))
        if not own or not own <= set(axes) or not inside:
            return None, None
        places = {role: _along(axes, own_axes) for role, own_axes in parameters.items()}
        norm = Norm(inside, layer != "rms_norm", scale=places.get("gamma"), shift=places.get("beta"))
        formula = _normalization(norm)
    elif layer in _ELEMENTWISE:
        formula = _ELEMENTWISE[layer]
    elif layer == "affine" and len(axes) == 2 and "w" in named and arrays[named["w"]][0] == axes[1]:
        formula = _affine
    else:
        return None, None

    def specification(values: Values) -> Any:
        return formula({**values, **{role: values[key] for role, key in named.items()}})

    return norm, specification
