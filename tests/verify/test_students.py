"""The files in `students/` are what the table says they are: judged by central differences, without any engine."""

import ast
import copy
import inspect
import json
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.verify.expectations import BELOW, EXPECTATIONS, RIGHT, Expectation, broken

from xhat.verify.report import Finding, PairReport, Verdict, Word

STUDENTS = Path(__file__).parent / "students"
SIZES = {"N": 5, "D": 3, "M": 4, "E": 2, "H": 5, "K": 2, "V": 6, "C": 4, "G": 2, "A": 2, "B": 3, "W": 7, "F": 2, "S": 3}
SIZES |= {"stride": 2, "pad": 1}
STEP = 1e-5
TOLERANCE = 1e-6  # of a derivative; central differences in float64 reach 1e-9


# --- the course's layers, by plain formulas ---------------------------------------------------------------------------


def _normalized(v, axes, gamma, beta):
    x = v["x"]
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return gamma * (x - mean) / np.sqrt(var + v["eps"]) + beta


def _conv(v):
    s, p, (f, _, h, w) = v["stride"], v["pad"], v["w"].shape
    padded = np.pad(v["x"], ((0, 0), (0, 0), (p, p), (p, p)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), (2, 3))[:, :, ::s, ::s]
    return np.einsum("ncijhw,fchw->nfij", windows, v["w"]) + v["b"].reshape(f, 1, 1)


def _pool(v):
    s = v["stride"]
    return np.lib.stride_tricks.sliding_window_view(v["x"], (3, 3), (2, 3))[:, :, ::s, ::s].max((-1, -2))


def _groups(v):
    x = v["x"]
    cut = x.reshape(len(x), v["G"], -1)
    hat = (cut - cut.mean(2, keepdims=True)) / np.sqrt(cut.var(2, keepdims=True) + v["eps"])
    return v["gamma"] * hat.reshape(x.shape) + v["beta"]


def _cross_entropy(v):
    return np.mean(np.log(np.exp(v["x"]).sum(1)) - v["x"][np.arange(len(v["y"])), v["y"]])


def _hinge(v):
    right = v["x"][np.arange(len(v["y"])), v["y"]]
    return (np.maximum(0, v["x"] - right[:, None] + 1).sum() - len(right)) / len(right)


def _channels(a):
    return a.reshape(1, -1, 1, 1)


class Course(NamedTuple):
    shapes: Mapping[str, str]
    more: Callable[[Any], tuple[Any, ...]]  # what comes after the arrays
    formula: Callable[[Any], Any] | None


def _bn_param(v):
    return ({"mode": "train", "eps": v["eps"], "momentum": 0.8},)


_ROWS = {"x": "N D", "gamma": "D", "beta": "D"}
_IMAGES = {"x": "N C S W", "gamma": "C", "beta": "C"}
_BATCH = Course(_ROWS, _bn_param, lambda v: _normalized(v, 0, v["gamma"], v["beta"]))
_LAYER = Course(_ROWS, lambda v: ({"eps": v["eps"]},), lambda v: _normalized(v, 1, v["gamma"], v["beta"]))
_AFFINE = Course(
    {"x": "N A B", "w": "A*B M", "b": "M"}, lambda v: (), lambda v: v["x"].reshape(len(v["x"]), -1) @ v["w"] + v["b"]
)
COURSE = {
    "affine": _AFFINE,
    "linear": Course({"x": "N D", "w": "M D", "b": "M"}, lambda v: (), lambda v: v["x"] @ v["w"].T + v["b"]),
    "relu": Course({"x": "N D"}, lambda v: (), lambda v: np.maximum(v["x"], 0)),
    "batchnorm": _BATCH,
    "bn": _BATCH,
    "layernorm": _LAYER,
    "ln": _LAYER,
    "layer_norm": _LAYER,
    "dropout": Course({"x": "N D"}, lambda v: ({"mode": "train", "p": 0.6, "seed": 3},), None),
    "conv": Course(
        {"x": "N D H W", "w": "F D 3 3", "b": "F"}, lambda v: ({"stride": v["stride"], "pad": v["pad"]},), _conv
    ),
    "max_pool": Course(
        {"x": "N D H W"}, lambda v: ({"pool_height": 3, "pool_width": 3, "stride": v["stride"]},), _pool
    ),
    "spatial_batchnorm": Course(
        _IMAGES, _bn_param, lambda v: _normalized(v, (0, 2, 3), _channels(v["gamma"]), _channels(v["beta"]))
    ),
    "spatial_groupnorm": Course(
        {"x": "N C S W", "gamma": "1 C 1 1", "beta": "1 C 1 1"}, lambda v: (v["G"], {"eps": v["eps"]}), _groups
    ),
    "instancenorm": Course(
        _IMAGES, lambda v: (), lambda v: _normalized(v, (2, 3), _channels(v["gamma"]), _channels(v["beta"]))
    ),
    "softmax_loss": Course({"x": "N C"}, lambda v: (v["y"],), _cross_entropy),
    "svm_loss": Course({"x": "N C"}, lambda v: (v["y"],), _hinge),
}


# --- a file, loaded ---------------------------------------------------------------------------------------------------


def lines_of(path):
    """Return the lines of Python in a file; those of a notebook without its magics."""
    if path.suffix == ".py":
        return path.read_text().splitlines()
    cells = json.loads(path.read_text())["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines()]
    defined = [
        i
        for i, line in enumerate(lines)
        if not line.startswith(("%", "!", "plt.", "import matplotlib")) and not line.endswith("?")
    ]
    return [lines[i] for i in defined]


@pytest.fixture
def load(monkeypatch):
    """Load a file as its own module, and undo what it does to NumPy and to the list of modules."""
    numpy, modules = dict(vars(np)), set(sys.modules)

    def loaded(path):
        monkeypatch.syspath_prepend(path.parent)
        module = types.ModuleType(path.stem)
        module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, path.stem, module)
        exec(compile("\n".join(lines_of(path)), str(path), "exec"), vars(module))
        return module

    yield loaded
    vars(np).update(numpy)
    for name in set(sys.modules) - modules:
        if Path(getattr(sys.modules[name], "__file__", None) or "").is_relative_to(STUDENTS):
            del sys.modules[name]


def functions(module, pair):
    """Return the forward and the backward of a pair by its name; no backward for a loss."""
    if isinstance(getattr(module, pair, None), type):
        return getattr(module, pair).forward, getattr(module, pair).backward
    stem, _, variant = pair.rpartition("_")
    for forward, backward in (
        (f"{pair}_forward", f"{pair}_backward"),
        (f"{pair}_fwd", f"{pair}_bwd"),
        (f"{stem}_forward_{variant}", f"{stem}_backward_{variant}"),
        (f"{stem}_forward", f"{stem}_backward_{variant}"),
        (pair, None),
    ):
        if hasattr(module, forward):
            return getattr(module, forward), getattr(module, backward) if backward else None
    raise LookupError(f"no pair {pair}")


class Question:
    """A pair, how it is called, and what is asked of it."""

    def __init__(self, expected, load):
        path = STUDENTS / expected.file
        module = load(path)
        self.forward, self.backward = functions(module, expected.pair)
        declared = getattr(module, "XHAT", {}).get(expected.pair)
        self.labels = {"y": ("N", "C")} if expected.pair in ("softmax_loss", "svm_loss") else {}
        if declared is None:
            base = expected.pair.lower().removesuffix("_alt").removesuffix("_naive")
            self.shapes, self.more, self.formula = COURSE[base]
            parameters = list(inspect.signature(self.forward).parameters)
            if parameters[-1] == "eps":
                self.more = lambda v: (v["eps"],)
            self.order, self.named = list(self.shapes), list(self.shapes)
        else:
            axes = {name: axis for name, axis in declared.items() if name != "gradients" and isinstance(axis, str)}
            self.labels = {name: tuple(axis.split(" < ")) for name, axis in axes.items() if "<" in axis}
            self.shapes = {name: axis for name, axis in axes.items() if "<" not in axis and axis != "eps"}
            self.fixed = {name: value for name, value in declared.items() if not isinstance(value, str)}
            self.order = [name for name in declared if name != "gradients"]
            self.more, self.formula = (lambda v: ()), None
            told = declared.get("gradients", " ".join(f"d{name}" for name in self.shapes))
            self.named = [name.removeprefix("d") for name in told.split()]
        self.declared = declared

    def draw(self, rng, sizes):
        def length(axis):
            return int(np.prod([int(part) if part.isdecimal() else sizes[part] for part in axis.split("*")]))

        values: dict[str, Any] = {**sizes, "eps": float(rng.uniform(0.3, 0.5))}
        for i, (name, axes) in enumerate(self.shapes.items()):
            drawn = rng.standard_normal([length(axis) for axis in axes.split()])
            values[name] = 2 * drawn + 0.5 if i == 0 and self.formula is not None else drawn
        for name, (axis, classes) in self.labels.items():
            values[name] = rng.integers(sizes[classes], size=sizes[axis])
        values.update(self.fixed if self.declared else {})
        return values

    def run(self, values):
        np.random.seed(7)  # noqa: NPY002  noise that is drawn anew in every call would have no derivative
        arguments = [*(values[name] for name in self.order), *self.more(values)]
        result = self.forward(*arguments)
        bn_param = arguments[-1] if isinstance(arguments[-1], dict) else {}
        if self.backward is not None:
            y, cache = result
        else:
            y, *cache = result
            cache = cache[0] if len(cache) == 1 else tuple(cache)
        return y, cache, bn_param

    def gradients(self, dout, cache):
        found = cache if self.backward is None else self.backward(dout, cache)
        if isinstance(found, dict):
            found = tuple(found[f"d{name}"] for name in self.named)
        elif not isinstance(found, (tuple, list)):
            found = (found,)
        assert len(found) == len(self.named), f"1 gradient for {len(self.named)}"
        if self.backward is None:
            found = tuple(dout * gradient for gradient in found)
        return dict(zip(self.named, found, strict=True))


class Observed(NamedTuple):
    wrong: set[str]
    changed: set[str]


def _close(got, wanted):
    got, wanted = np.asarray(got), np.asarray(wanted)
    if got.dtype == object or got.shape != wanted.shape or not np.isfinite(got).all():
        return False
    return bool(np.abs(got - wanted).max() <= TOLERANCE * (1e-3 + np.abs(wanted).max()))


def _derivative(question, values, dout, name):
    """Return the gradient of sum(dout * y) for an input, from both sides of every entry."""
    gradient = np.empty_like(values[name])
    for index in np.ndindex(gradient.shape):
        both = []
        for step in (STEP, -STEP):
            moved = copy.deepcopy(values)
            moved[name][index] += step
            both.append(question.run(moved)[0])
        gradient[index] = np.sum((both[0] - both[1]) * dout) / (2 * STEP)
    return gradient


def observe(question, seed, *, at=(), sizes=()):
    """Return what is wrong at one random point: outputs, gradients, and the arguments that are modified."""
    rng = np.random.default_rng(seed)
    factors = dict(at)
    values = question.draw(rng, {**SIZES, **dict(sizes)})
    for name in factors.keys() & question.shapes.keys():
        values[name] = values[name] * factors[name]
    names = {f"d{name}" for name in question.named}
    wrong, changed = set(), set()
    kept = copy.deepcopy(values)
    try:
        y, cache, bn_param = question.run(values)
    except (NameError, ValueError, TypeError, IndexError):
        return Observed({"out", *names}, changed)
    changed |= _changed(question, values, kept)
    wrong |= _outputs(question, kept, y, bn_param)

    dout = rng.standard_normal(np.shape(y)) * factors.get("dout", 1.0)
    y = np.copy(y)
    question.run(question.draw(rng, {**SIZES, **dict(sizes)}))  # a gradient may not depend on what ran last
    handed = dout.copy()
    try:
        first = copy.deepcopy(question.gradients(handed, cache))
        changed |= _changed(question, values, kept) | ({"dout"} if not np.array_equal(handed, dout) else set())
        second = question.gradients(dout.copy(), question.run(copy.deepcopy(kept))[1])
    except (NameError, ValueError, TypeError, IndexError, AssertionError):
        return Observed(wrong | names, changed)
    for name in question.named:
        true = _derivative(question, kept, dout, name)
        if not (_close(first[name], true) and _close(second[name], true)):
            wrong.add(f"d{name}")
    return Observed(wrong, changed)


def _changed(question, values, kept):
    return {name for name in question.shapes if not np.array_equal(values[name], kept[name])}


def _outputs(question, values, y, bn_param):
    if question.formula is None:
        return set()
    wrong = set() if _close(y, question.formula(values)) else {"out"}
    if "mode" not in bn_param or "momentum" not in bn_param:
        return wrong
    x = values["x"]
    axes = tuple(i for i in range(x.ndim) if i != 1)
    for name, batch in (("running_mean", x.mean(axes)), ("running_var", x.var(axes))):
        if name not in bn_param or not _close(bn_param[name], 0.2 * batch):
            wrong.add(name)
    wide = [1 if i != 1 else -1 for i in range(x.ndim)]
    mean, var = values["beta"] + 1, values["gamma"] ** 2
    state = {"mode": "test", "eps": values["eps"], "running_mean": mean, "running_var": var}
    out = question.forward(x, values["gamma"], values["beta"], state)[0]
    gamma, beta = values["gamma"].reshape(wide), values["beta"].reshape(wide)
    wanted = gamma * (x - mean.reshape(wide)) / np.sqrt(var.reshape(wide) + values["eps"]) + beta
    if out is None or not _close(out, wanted):
        wrong.add("out (test)")
    return wrong


@pytest.mark.parametrize("expected", EXPECTATIONS, ids=str)
def test_a_file_is_what_the_table_says(load, expected):
    question = Question(expected, load)
    usual = [observe(question, seed) for seed in (0, 1)]
    special = [observe(question, 2, at=expected.at, sizes=expected.sizes)] if expected.at or expected.sizes else []
    for name, word in expected.words.items():
        if word in RIGHT:
            assert not any(name in seen.wrong for seen in usual), f"{name} is wrong"
        elif word in BELOW:
            assert any(name in seen.wrong for seen in (*usual, *special)), f"{name} is right"
        else:
            assert all(name in seen.wrong for seen in usual), f"{name} is right"
    assert set.union(*(seen.changed for seen in usual)) == set(expected.changes)


def test_every_file_is_in_the_table():
    files = {str(path.relative_to(STUDENTS)) for path in STUDENTS.glob("*/*") if path.suffix in (".py", ".ipynb")}
    assert files == {expected.file for expected in EXPECTATIONS}


def test_each_row_stands_once():
    rows = [str(expected) for expected in EXPECTATIONS]
    assert len(rows) == len(set(rows))


def test_every_line_is_found_once():
    for expected in EXPECTATIONS:
        if expected.line:
            found = [line for line in lines_of(STUDENTS / expected.file) if expected.line in line]
            assert len(found) == 1, f"{expected}: {expected.line!r} stands in {len(found)} lines"


def test_declarations_are_literals():
    for path in STUDENTS.glob("*/*.py"):
        for statement in ast.parse(path.read_text()).body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "XHAT":
                assert isinstance(ast.literal_eval(statement.value), dict)


def test_scores_of_a_thousand_overflow(load):
    softmax = load(STUDENTS / "wrong" / "softmax_overflows.py").softmax_loss
    with np.errstate(all="ignore"):
        loss, _ = softmax(np.array([[1000.0, 0.0]]), np.array([0]))
    assert not np.isfinite(loss)
    assert np.isfinite(load(STUDENTS / "right" / "layers.py").softmax_loss(np.array([[1000.0, 0.0]]), np.array([0]))[0])


def test_float32_becomes_float64(load):
    x, w, b = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32), np.zeros(1, np.float32)
    wide = load(STUDENTS / "wrong" / "conv_float32_becomes_float64.py")
    narrow = load(STUDENTS / "right" / "conv_im2col.py")
    for module, dtype in ((wide, np.float64), (narrow, np.float32)):
        y, cache = module.conv_forward_naive(x, w, b, {"stride": 1, "pad": 1})
        assert y.dtype == dtype
        assert module.conv_backward_naive(y, cache)[0].dtype == dtype


# --- the judge of reports ---------------------------------------------------------------------------------------------

_SOURCE = ["def f(x):", "    return np.sum(x)"]


def report(*findings, **words):
    return PairReport(
        "f", [Verdict(name, Word(word), "term missing: - mean(dout)", 2) for name, word in words.items()], findings
    )


@pytest.mark.parametrize(
    ("word", "found", "fits"),
    [
        ("PROVED", "PROVED", True),
        ("PROVED", "EXACT", False),
        ("EXACT", "PROVED", True),
        ("AGREES", "NOT DECIDED", False),
        ("DISPROVED", "DISPROVED", True),
        ("DISPROVED", "NOT DECIDED", False),
        ("DISPROVED", "PROVED", False),
        ("WRONG", "NOT DECIDED", False),
        ("WRONG", "AGREES", False),
        ("NOT_EXACT", "AGREES", True),
        ("NOT_EXACT", "EXACT", False),
        ("NOT_PROVED", "EXACT", True),
        ("NOT_PROVED", "PROVED", False),
    ],
)
def test_judge_of_words(word, found, fits):
    assert (not broken(Expectation("f.py", "f", {"dx": word}), report(dx=found), _SOURCE)) == fits


def test_judge_of_findings():
    finding = Finding("input-modified", "dout is changed", 1)
    assert not broken(Expectation("f.py", "f", {"dx": "WRONG"}), report(finding, dx="NOT DECIDED"), _SOURCE)
    assert not broken(Expectation("f.py", "f", {}, changes=("dout",), says="DOUT"), report(finding), _SOURCE)
    assert broken(Expectation("f.py", "f", {"dy": "DISPROVED"}, changes=("dout",)), report(), _SOURCE) == [
        "dy: expected DISPROVED, got no verdict",
        "no finding, though dout is modified",
    ]
    assert broken(Expectation("f.py", "f", {"dx": "PROVED"}), report(finding, dx="PROVED"), _SOURCE) == [
        "a false alarm: dout is changed"
    ]
    assert not broken(Expectation("f.py", "f", {"dx": "PROVED"}, may="dout"), report(finding, dx="PROVED"), _SOURCE)


def test_judge_of_messages_and_lines():
    told = report(dx="DISPROVED")
    assert not broken(Expectation("f.py", "f", {"dx": "DISPROVED"}, r"MEAN\(dout", "np.sum"), told, _SOURCE)
    assert broken(Expectation("f.py", "f", {"dx": "DISPROVED"}, "eps", "def f"), told, _SOURCE) == [
        "no message says 'eps'",
        "line 1 is not named: def f",
    ]
