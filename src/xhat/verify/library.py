"""The gradients of this library's own layers and losses, proved by both engines.

The problems come from what a layer says of itself, its cases: the shape of x, the parameters and the settings. An axis
of a parameter is one with the axis of x that is as long; each becomes a letter that stands for every length.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xhat.checks import Array
from xhat.core import Case, Layer, Loss, Op
from xhat.layers import LAYERS, LOSSES, dropout
from xhat.layers.batch_norm import nine_steps, reference, renormalization
from xhat.layers.batch_norm.layer import BatchNorm
from xhat.layers.batch_norm.pair import RENORM
from xhat.verify.exact import exact_identity
from xhat.verify.problem import Problem, Unsupported, Values
from xhat.verify.report import Level, Verdict, Word
from xhat.verify.symbolic import Refusal, prove, told

Axes = Mapping[str, tuple[str, ...]]

_SHARED = "CDE"  # letters of the axes of x that a parameter has too
_OTHERS = "NHWLPQ"
_NEW = "KMJ"
_WINDOW = "RS"

# axes that lengths cannot tell apart, or that have names of their own
_AXES: Mapping[str, Axes] = {
    "max_pool": {"x": ("N", "C", "H", "W")},
    "conv": {"x": ("N", "C", "H", "W"), "w": ("F", "C", "R", "S"), "b": ("F",)},
}


class Row(NamedTuple):
    """What one engine says of one gradient."""

    layer: str  # "batch_norm"
    case: str  # "(N, C) with gamma, beta"
    what: str  # "dx"
    engine: str  # "symbols", "exact numbers"
    verdict: Verdict
    ms: float

    @property
    def gradient(self) -> tuple[str, str, str]:
        """Which gradient it is, whatever the engine."""
        return self.layer, self.case, self.what


@dataclass(frozen=True)
class _Situation:
    """A case of a layer, at all sizes, or why there is none."""

    case: str
    problem: Problem | None
    why_not: str = ""


def prove_layers(names: Sequence[str] = ()) -> Iterator[Row]:
    """Prove that the reference gradients of layers and losses are those of their forward passes.

    Parameters
    ----------
    names : sequence of str
        Which: "batch_norm", "hinge_loss". None means all.

    Yields
    ------
    Row
        One for each gradient and engine.

    Raises
    ------
    ValueError
        If there is no such layer or loss.

    Examples
    --------
    >>> for row in prove_layers(["squared_error"]):
    ...     print(row.case, row.what, row.engine, row.verdict.word)
    (N, C) dpredictions symbols PROVED
    (N, C) dpredictions exact numbers EXACT
    """
    layers = {name_of(layer): layer for layer in LAYERS}
    known = [*layers, *LOSSES]
    for name in names:
        if name not in known:
            raise ValueError(
                f"prove_layers: expected a layer or a loss, got {name!r}. Choose from: {', '.join(known)}."
            )
    for name in names or known:
        for situation in _of_layer(name, layers[name]) if name in layers else _of_loss(name, LOSSES[name]):
            yield from _rows(name, situation)


def undecided(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of gradients that one engine disproves, or none proves or finds exact."""
    held = {row.gradient for row in rows if row.verdict.level >= Level.EXACT}
    wrong = {row.gradient for row in rows if row.verdict.wrong}
    return [row for row in rows if row.gradient in wrong or row.gradient not in held]


def name_of(layer: type[Layer]) -> str:
    """Return the name of the file or the folder of a layer: "batch_norm"."""
    module = layer.__module__
    inside = module.removeprefix("xhat.layers.")
    return module.rpartition(".")[2] if inside == module else inside.partition(".")[0]


def _rows(name: str, situation: _Situation) -> Iterator[Row]:
    problem = situation.problem
    if problem is None:
        yield Row(name, situation.case, "", "", Verdict("", Word.NOT_DECIDED, situation.why_not), 0.0)
        return
    for engine, judge in (("symbols", _on_symbols), ("exact numbers", _on_exact_numbers)):
        start = time.perf_counter()
        verdicts = judge(problem)
        spent = 1e3 * (time.perf_counter() - start) / len(verdicts)
        for verdict in verdicts:
            yield Row(name, situation.case, verdict.name, engine, verdict, spent)


def _on_symbols(problem: Problem) -> list[Verdict]:
    try:
        proof = prove(problem)
    except Refusal as refusal:
        return [Verdict(name, Word.NOT_DECIDED, refusal.why) for name in problem.gradients]
    sizes = sorted({part for axes in problem.inputs.values() for axis in axes for part in axis.split("*")})
    verdicts: list[Verdict] = []
    for name in problem.gradients:
        found = proof.gradients.get(name)
        if found is not None and found.proved:
            verdicts.append(Verdict(name, Word.PROVED, f"for all {', '.join(sizes)}"))
        elif found is not None and found.shape and found.user is None:
            verdicts.append(
                Verdict(name, Word.NOT_DECIDED, f"shape {told(found.shape)}, expected {told(found.expected)}")
            )
        elif found is not None and found.user is not None:
            verdicts.append(Verdict(name, Word.NOT_DECIDED, "the gradient of the forward pass looks otherwise"))
        else:
            why, _ = proof.undecided.get(name) or proof.undecided.get("", ("nothing came back", None))
            verdicts.append(Verdict(name, Word.NOT_DECIDED, why))
    return verdicts


def _on_exact_numbers(problem: Problem) -> list[Verdict]:
    results = [exact_identity(problem, sizes) for sizes in problem.sizes]
    verdicts: list[Verdict] = []
    for name in problem.gradients:
        found = [result.verdicts[name] for result in results]
        worst = next((verdict for verdict in found if verdict.word is not Word.EXACT), None)
        if worst is None:
            verdicts.append(Verdict(name, Word.EXACT, "; ".join(verdict.message for verdict in found)))
        else:
            verdicts.append(Verdict(name, worst.word, worst.message, counterexample=worst.counterexample))
    return verdicts


def _of_layer(name: str, layer: type[Layer]) -> Iterator[_Situation]:
    """Yield one situation for every kind of case: what differs in sizes, numbers or eps alone is one kind."""
    kinds: dict[str, list[Case]] = {}
    ops: dict[Op, bool] = {}  # whether a case with it gives the shape of x alone
    for case in layer.cases():
        op = case.layer.op(case.training)
        if op is not RENORM:
            ops[op] = ops.get(op, False) or isinstance(case.x, tuple)
            if isinstance(case.x, tuple):
                kinds.setdefault(_kind(case), []).append(case)
    for cases in kinds.values():
        yield _first_that_tells(name, cases)
    for op, posed in ops.items():
        if not posed:
            yield _Situation(op.reference_forward.__name__, None, "no case gives the shape of x alone")
    if layer is BatchNorm:
        yield from _more_of_batch_norm()


def _first_that_tells(name: str, cases: Sequence[Case]) -> _Situation:
    why = ""
    for case in cases:
        try:
            return _of_case(name, case)
        except Unsupported as reason:
            why = why or str(reason)
    return _Situation(str(cases[0]), None, why)


def _kind(case: Case) -> str:
    """Return all by which two cases differ but sizes, numbers and eps."""
    op, arguments = case.layer.op(case.training), _arguments(case)
    ndims = {name: np.ndim(value) for name, value in arguments.items() if _is_array(value)}
    return f"{op.reference_forward.__name__} {len(case.x)} {ndims} {_settings(arguments)}"


def _arguments(case: Case) -> dict[str, Any]:
    return {**case.layer.arguments(case.training), **case.arguments}


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that are neither arrays nor symbols."""
    return {
        name: value
        for name, value in arguments.items()
        if not _is_array(value) and not isinstance(value, np.random.Generator) and name not in ("eps", "groups")
    }


def _of_case(name: str, case: Case) -> _Situation:
    op, arguments = case.layer.op(case.training), _arguments(case)
    assert isinstance(case.x, tuple)
    shapes = {"x": case.x, **{key: value.shape for key, value in arguments.items() if _is_array(value)}}
    axes = _AXES.get(name) or _axes(shapes, arguments, tuple(case.arguments))
    inputs = {key: axes[key] for key in shapes}
    sizes = _sizes(inputs, shapes, arguments.get("groups"))
    problem = Problem(
        name,
        _forward(
            _any_mask if op is dropout.OP else op.reference_forward,
            [key for key, value in arguments.items() if _is_generator(value)],
        ),
        _backward(op.reference_backward),
        inputs,
        _call(inputs, arguments),
        [sizes, _others(sizes)],
        scalars=("eps",) if "eps" in arguments else (),
        given=tuple(key for key in shapes if key != "x" and key not in case.layer.parameters),
    )
    return _Situation(_title(op, inputs, arguments, tuple(case.arguments)), problem)


def _is_generator(value: Any) -> bool:
    return isinstance(value, np.random.Generator)


def _forward(function: Callable[..., Any], drawn: Sequence[str]) -> Callable[..., Any]:
    """Return a forward pass that draws the same random numbers whenever it is called."""

    def forward(**arguments: Any) -> Any:
        return function(**arguments, **{name: np.random.default_rng(0) for name in drawn})

    return forward


class _Kept(NamedTuple):
    """What the reference of dropout needs of a cache."""

    keep: Any
    rate: float


def _any_mask(x: Any, rate: float, rng: Any) -> Any:
    """Return the forward pass of dropout with a mask drawn entry by entry: on symbols it may be any mask."""
    kept = _Kept(rng.random(x.shape) >= rate, rate)
    return dropout.scaled(x, kept), kept  # pyright: ignore[reportArgumentType]


def _backward(function: Callable[..., Any]) -> Callable[..., Any]:
    def backward(dy: Any, cache: Any) -> Any:
        return function(dy, cache)._asdict()

    return backward


def _call(inputs: Axes, arguments: Mapping[str, Any]) -> Callable[[Values], Any]:
    """Return what puts values in the place of arrays, of eps and of the number of groups."""
    settings = _settings(arguments)

    def call(values: Values) -> Any:
        named = {**settings, **{name: values[name] for name in inputs}}
        if "eps" in arguments:
            named["eps"] = values["eps"]
        if "groups" in arguments:
            named["groups"] = values["G"]
        return (), named

    return call


def _axes(shapes: Mapping[str, tuple[int, ...]], arguments: Mapping[str, Any], per_entry: Sequence[str]) -> Axes:
    """Return a letter for each axis.

    What a case gives beside the parameters has a row for every sample. A parameter per channel lies along the channel
    axis, if there is one; any other axis of a parameter along the axis of x of the same length, if there is one.
    """
    x = shapes["x"]
    channel = arguments["channel_axis"] % len(x) if "channel_axis" in arguments else None
    places: dict[str, list[int | str]] = {}
    new: dict[int, str] = {}
    for name, shape in shapes.items():
        if name in per_entry:
            places[name] = [i for i in range(len(x)) if i != channel][: len(shape)]  # pyright: ignore[reportArgumentType]
        elif name != "x" and channel is not None and len(shape) == 1:
            places[name] = [channel]
        elif name != "x":
            places[name] = [_place(n, name, x, new) for n in shape]
    shared = sorted(
        {i for i in [channel] if i is not None}
        | {i for name, held in places.items() if name not in per_entry for i in held if isinstance(i, int)}
    )
    others = [i for i in range(len(x)) if i not in shared]
    letters = {**dict(zip(shared, _SHARED, strict=False)), **dict(zip(others, _OTHERS, strict=False))}
    if "groups" in arguments and channel is not None:
        letters[channel] = "G*K"
    named = {name: tuple(letters[i] if isinstance(i, int) else i for i in held) for name, held in places.items()}
    return {"x": tuple(letters[i] for i in range(len(x))), **named}


def _place(length: int, name: str, x: tuple[int, ...], new: dict[int, str]) -> int | str:
    """Return the axis of x that is as long, or the letter of a new axis."""
    found = [i for i, n in enumerate(x) if n == length]
    if len(found) > 1:
        raise Unsupported(f"{name} has an axis of length {length}, as have several of x: take lengths that differ")
    return found[0] if found else new.setdefault(length, _NEW[len(new)])


def _sizes(inputs: Axes, shapes: Mapping[str, tuple[int, ...]], groups: int | None) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, axes in inputs.items():
        for axis, length in zip(axes, shapes[name], strict=True):
            if groups is not None and axis == "G*K":
                sizes |= {"G": groups, "K": length // groups}
            else:
                sizes[axis] = length
    return sizes


def _others(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return other sizes, about as large; windows stay, since they may be no larger than what they go over."""
    return {letter: n if letter in _WINDOW else n + 1 if n < 3 else n - 1 for letter, n in sizes.items()}


def _title(op: Op, inputs: Axes, arguments: Mapping[str, Any], per_entry: Sequence[str]) -> str:
    """Return the shape of x, the arrays beside it, and the settings that are not as by default."""
    defaults = {name: p.default for name, p in inspect.signature(op.reference_forward).parameters.items()}
    arrays = [f"{key} {_tuple(axes)}" if key in per_entry else key for key, axes in inputs.items() if key != "x"]
    told = [
        f"{key}={value}"
        for key, value in _settings(arguments).items()
        if value is not None and value != defaults.get(key) and value != (defaults.get(key),)
    ]
    return _tuple(inputs["x"]) + (f" with {', '.join(arrays)}" if arrays else "") + "".join(f"; {t}" for t in told)


def _tuple(axes: Sequence[str]) -> str:
    return f"({', '.join(axes)})"


def _more_of_batch_norm() -> Iterator[_Situation]:
    """Yield what no case of the layer shows: the nine steps, and renormalization.

    r and d of renormalization are constants for its gradient, so they are given here.
    """
    channels = dict.fromkeys(("gamma", "beta"), ("C",))
    sizes = [{"N": 4, "C": 2}, {"N": 3, "C": 3}]

    def steps(**arguments: Any) -> Any:
        nodes = nine_steps.reference_steps(**arguments)
        return nodes.y, nodes

    def steps_backward(dy: Any, cache: Any) -> Any:
        return dict(nine_steps.reference_steps_backward(dy, cache))

    inputs: dict[str, tuple[str, ...]] = {"x": ("N", "C"), **channels}
    call = _call(inputs, {"eps": None})
    problem = Problem("batch_norm", steps, steps_backward, inputs, call, sizes, scalars=("eps",))
    yield _Situation("(N, C) with gamma, beta; nine steps", problem)

    def renormalized(x: Array, gamma: Array, beta: Array, r: Array, d: Array, eps: float) -> Any:
        scale_and_shift = renormalization.corrected(gamma, beta, r, d)
        y, batch = reference.reference_forward(x, *scale_and_shift, eps)
        return y, renormalization.RenormCache(batch, gamma, beta, r, d)

    inputs = {**inputs, "r": ("C",), "d": ("C",)}
    problem = Problem(
        "batch_norm",
        renormalized,
        _backward(renormalization.reference_renorm_backward),
        inputs,
        _call(inputs, {"eps": None}),
        sizes,
        scalars=("eps",),
        given=("r", "d"),
    )
    yield _Situation("(N, C) with gamma, beta, r, d; renormalized", problem)


def _of_loss(name: str, loss: Loss) -> Iterator[_Situation]:
    """Yield one situation for predictions (N, C); integer targets are class numbers, others have the same shape."""
    case = next(case for case in loss.cases() if case.predictions.ndim == 2)
    classes = case.targets.dtype.kind in "iu"

    def function(predictions: Array, targets: Array) -> tuple[Any, Array]:
        return loss.reference(predictions, targets), loss.reference_gradient(predictions, targets)

    count = dict(zip("NC", case.predictions.shape, strict=True))
    predictions = ("N", "C")
    problem = Problem(
        name,
        function,
        None,
        {"predictions": predictions} if classes else {"predictions": predictions, "targets": predictions},
        lambda values: ((values["predictions"], values["targets"]), {}),
        [count, _others(count)],
        output=(),
        labels={"targets": predictions} if classes else {},
        given=() if classes else ("targets",),
    )
    yield _Situation(_tuple(predictions), problem)
