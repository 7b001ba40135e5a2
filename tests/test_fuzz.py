"""Random calls, many of them senseless, in a process of their own: no crash, no strange exception, no input changed.

`python -m tests.test_fuzz SEED CALLS` makes as many calls; `python -m tests.test_fuzz SEED CALLS FIRST` begins at one of
them, so that what a report names can be looked at again.
"""

import copy
import functools
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.bad_input import junk
from tests.contract import contract

from xhat import RunningStatistics, kernels, softmax
from xhat.layers import LAYERS, LOSSES

ROOT = Path(__file__).parent.parent
DTYPES = (*contract.DTYPES, np.float32, np.float64, np.float32, np.float64)


def draw_shape(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.integers(0, 8, rng.integers(0, 5)).tolist())


def draw_array(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
    scale = 10.0 ** rng.choice([0, 0, 0, -30, 4, 30])
    kind = dtype or DTYPES[rng.integers(len(DTYPES))]
    with np.errstate(over="ignore"):
        values = np.asarray(scale * rng.standard_normal(shape)).astype(kind)
    if values.size and rng.random() < 0.1:
        values.reshape(-1)[rng.integers(values.size)] = rng.choice([np.nan, np.inf, -np.inf])
    return values


def pick(rng: np.random.Generator, probes: Any) -> Any:
    values = [probe.value for probe in probes]
    return values[rng.integers(len(values))]


def bent(rng: np.random.Generator, good: Any) -> Any:
    """Something else in place of a good argument: the same lying differently, of another kind, or nothing like it."""
    if isinstance(good, np.ndarray):
        kinds = [junk.types, junk.narrow_types, junk.layouts, lambda g: junk.shapes(g, free=True)]
        kinds += [lambda g: junk.strangers(), lambda g: junk.numbers()]
        if good.dtype.kind == "f" or good.dtype.name == "bfloat16":
            kinds.append(junk.values)
            if rng.random() < 0.2:
                return draw_array(rng, draw_shape(rng))
        return pick(rng, kinds[rng.integers(len(kinds))](good))
    if isinstance(good, type | np.dtype):
        return pick(rng, junk.dtypes())
    return pick(rng, junk.numbers() if rng.random() < 0.7 else junk.strangers())


def bend_some(rng: np.random.Generator, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with none, one or several of them bent."""
    share = rng.choice([0.0, 0.2, 0.5])
    return {name: bent(rng, value) if rng.random() < share else value for name, value in arguments.items()}


def draw_op_call(rng: np.random.Generator) -> Any:
    layer = LAYERS[rng.integers(len(LAYERS))]
    cases = contract.cases_of(layer)
    case = cases[rng.integers(len(cases))]
    op = case.layer.op(case.training)
    dtype = DTYPES[rng.integers(len(DTYPES))]
    with np.errstate(over="ignore"):
        x, parameters = case.draw(rng, dtype)
    arguments = contract.arguments(case, parameters)
    if rng.random() < 0.5:
        x = draw_array(rng, draw_shape(rng), dtype)
        if rng.random() < 0.7 and x.ndim:  # parameters that fit one of the axes
            size = x.shape[rng.integers(x.ndim)]
            for name in parameters:
                shape = (size,) * min(1, parameters[name].ndim) + parameters[name].shape[1:]
                arguments[name] = draw_array(rng, shape, dtype)
    if rng.random() < 0.5:
        return f"{layer.__name__} forward", op.forward, bend_some(rng, {"x": x, **arguments})
    try:
        y, cache = op.forward(x, **copy.deepcopy(arguments))
    except (TypeError, ValueError):
        x, parameters = case.draw(rng, np.float64)
        y, cache = op.forward(x, **contract.arguments(case, parameters))
    forged = cache._replace(**bend_some(rng, cache._asdict()))
    dy = draw_array(rng, y.shape)
    return f"{layer.__name__} backward", op.backward, {**bend_some(rng, {"dy": dy}), "cache": forged}


def draw_constructor_call(rng: np.random.Generator) -> Any:
    layer = LAYERS[rng.integers(len(LAYERS))]
    cases = contract.cases_of(layer)
    settings = cases[rng.integers(len(cases))].layer.settings()

    def build(x: Any, **arguments: Any) -> None:
        layer(**arguments).forward(x, training=True)

    if "rng" in layer.__init__.__code__.co_varnames:
        settings["rng"] = 0
    return layer.__name__, build, bend_some(rng, {"x": draw_array(rng, draw_shape(rng)), **settings})


def draw_loss_call(rng: np.random.Generator) -> Any:
    name = list(LOSSES)[rng.integers(len(LOSSES))]
    cases = list(LOSSES[name].cases())
    case = cases[rng.integers(len(cases))]
    arguments = bend_some(rng, {"predictions": case.predictions, "targets": case.targets})
    if rng.random() < 0.1:
        return "softmax", softmax, {"scores": arguments["predictions"]}
    return name, lambda predictions, targets: LOSSES[name].function(predictions, targets), arguments


def draw_statistics_call(rng: np.random.Generator) -> Any:
    batch_norm = next(layer for layer in LAYERS if "running_mean" in contract.cases_of(layer)[0].layer.state)
    case = contract.cases_of(batch_norm)[0]
    x, parameters = case.draw(rng)
    _, cache = case.layer.op(True).forward(x, **contract.arguments(case, parameters))
    statistics = RunningStatistics(x.shape[1], [0.1, None][rng.integers(2)], bool(rng.integers(2)))

    def update(cache: Any) -> None:
        statistics.update(cache)
        assert np.isfinite(statistics.mean).all()
        assert np.isfinite(statistics.var).all()

    return "RunningStatistics.update", update, {"cache": cache._replace(**bend_some(rng, cache._asdict()))}


@functools.cache
def recorded() -> dict[str, list[tuple[Any, ...]]]:
    """What the layers pass to each compiled function in their own cases."""
    calls: dict[str, list[tuple[Any, ...]]] = {}
    native = kernels.native

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            function = getattr(native, name)

            def record(*args: Any, **kwargs: Any) -> Any:
                calls.setdefault(name, []).append(copy.deepcopy((*args, *kwargs.values())))
                return function(*args, **kwargs)

            return record

    kernels.native = Recorder()
    try:
        rng = np.random.default_rng(0)
        for layer in LAYERS:
            for case in layer.cases():
                for dtype in (np.float32, np.float64):
                    x, parameters = case.draw(rng, dtype)
                    y, cache = case.layer.op(case.training).forward(x, **contract.arguments(case, parameters))
                    case.layer.backward(y, cache)
    finally:
        kernels.native = native
    return {name: args for name, args in calls.items() if any(isinstance(value, np.ndarray) for value in args[0])}


def draw_native_call(rng: np.random.Generator) -> Any:
    """A compiled function with the arguments of a real call, some of them bent, or two that share memory."""
    names = sorted(recorded())
    name = names[rng.integers(len(names))]
    function = getattr(kernels.native, name)
    known = recorded()[name]
    arguments = {str(i): value for i, value in enumerate(copy.deepcopy(known[rng.integers(len(known))]))}
    arguments = bend_some(rng, arguments)
    if rng.random() < 0.3:
        one, other = rng.choice(list(arguments), 2)
        arguments[one] = arguments[other]
    return f"native.{name}", lambda **given: function(*given.values()), arguments


DRAWERS = {
    draw_op_call: 0.6,
    draw_constructor_call: 0.1,
    draw_loss_call: 0.1,
    draw_statistics_call: 0.05,
    draw_native_call: 0.15,
}


def snapshot(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tobytes() if 0 < value.nbytes < 2**20 and value.dtype != object else None
    return [snapshot(inner) for inner in value] if isinstance(value, tuple | list) else None


def make_call(seed: int, number: int) -> str:
    """Make one call; return "returned" or "refused", or what is wrong with what came of it."""
    rng = np.random.default_rng([seed, number])
    drawers = [d for d in DRAWERS if d is not draw_native_call or recorded()]
    weights = np.array([DRAWERS[d] for d in drawers])
    name, function, arguments = drawers[rng.choice(len(drawers), p=weights / weights.sum())](rng)
    native = name.startswith("native.")
    before = [] if native else [snapshot(value) for value in arguments.values()]
    outcome = "refused"
    try:
        function(**arguments)
        outcome = "returned"
    except (TypeError, ValueError) as error:
        if not native and not contract.MESSAGE.fullmatch(str(error)):
            return f"{name}: {type(error).__name__}: {error}"
    except MemoryError:  # an array of 2**59 entries
        pass
    except Exception as error:
        return f"{name}: {type(error).__name__}: {error}"
    if before != [snapshot(value) for value in arguments.values()][: len(before)]:
        return f"{name}: an argument was changed"
    return outcome


def main(seed: int, calls: int, first: int = 0) -> None:
    """Make calls; print what is wrong. The file that XHAT_FUZZ names holds the number of the call under way."""
    warnings.simplefilter("error")
    counts: Counter[str] = Counter()
    progress = os.open(os.environ.get("XHAT_FUZZ", os.devnull), os.O_WRONLY)
    for number in range(first, first + calls):
        os.pwrite(progress, b"%12d" % number, 0)
        outcome = make_call(seed, number)
        counts[outcome] += 1
        if outcome not in ("returned", "refused"):
            print(f"seed {seed}, call {number}: {outcome}")
    print(f"{calls} calls: {counts['returned']} returned, {counts['refused']} refused")


def fuzz(seed: int, calls: int) -> None:
    with tempfile.NamedTemporaryFile() as progress:
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-m", "tests.test_fuzz", str(seed), str(calls)],
            cwd=ROOT,
            env={**os.environ, "XHAT_FUZZ": progress.name},
            capture_output=True,
            text=True,
        )
        last = progress.read().decode().strip()
    assert done.returncode == 0, f"seed {seed}, call {last}: ended with {done.returncode}\n{done.stderr[-3000:]}"
    *wrong, last = done.stdout.splitlines()
    assert not wrong, "\n".join(wrong[:50])
    print(last)
    made, returned, refused = map(int, re.findall(r"\d+", last))
    assert made == calls == returned + refused
    assert min(returned, refused) > calls / 5, f"{last}: one of the two is hardly tested"


def test_random_calls():
    fuzz(seed=0, calls=12_000)


@pytest.mark.soak
def test_soak(request):
    """Minutes of calls with a new seed, for who asks for it: `pytest -m soak`."""
    if "soak" not in request.config.option.markexpr:
        pytest.skip("asked for by -m soak")
    seed = int.from_bytes(os.urandom(4))
    fuzz(seed, calls=300_000)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
