"""Whatever is passed: the right result, or an error that says what is wrong, and nothing written to what was given."""

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.bad_input import calls, junk
from tests.contract import contract

from xhat.layers import LAYERS, LOSSES

CALLS = [
    *calls.op_calls(),
    *calls.loss_calls(),
    *calls.constructor_calls(),
    *calls.layer_calls(),
]


def probes(call: calls.Call, argument: str) -> Iterator[junk.Probe]:
    """Yield what to pass for one argument: junk of every kind that its good value calls for."""
    good = call.arguments[argument]
    if hasattr(good, "_fields"):
        yield from junk.strangers()
        yield from forged(call, argument)
        return
    if isinstance(good, type | np.dtype):
        yield from junk.dtypes()
        return
    if argument == "out":
        yield from junk.outputs(call.written, lambda given: given["x"] if "x" in given else given["dy"])
    if isinstance(good, bool):
        yield from (probe._replace(stands_for=junk.NOTHING) for probe in junk.numbers() if "bool" not in probe.name)
    for probe in junk.strangers():
        if probe.name in call.legal or (probe.value is None and call.optional(argument)):
            continue
        yield probe
    if isinstance(good, np.ndarray):
        yield from junk.types(good)
        yield from junk.narrow_types(good)
        for probe in junk.layouts(good):
            yield probe._replace(taken=argument in call.taken)
        yield from junk.shapes(good, free=argument in ("x", "w", "scores", "std"))
        if good.dtype.kind == "f":
            yield from junk.values(good)
        elif good.dtype.kind == "i":  # class numbers
            for name, number in {"one -1": -1, "one too high": 99, "one of 2**40": 2**40}.items():
                changed = good.copy()
                changed.reshape(-1)[:1] = number
                yield junk.Probe(name, changed)
    elif not isinstance(good, str | bool):
        for probe in junk.numbers():
            counts = "axis" not in argument  # where numpy takes True for 1
            yield probe._replace(stands_for=junk.NOTHING) if counts and "bool" in probe.name else probe


def forged(call: calls.Call, argument: str) -> Iterator[junk.Probe]:
    """Yield a cache with each field in turn replaced by junk, by that of another call, and the caches of others."""
    cache = call.arguments[argument]
    for name in call.reads or cache._fields:
        inner = calls.Call("", cache._replace, {name: getattr(cache, name)}, call.judge)
        kept = getattr(cache, name)
        for probe in probes(inner, name) if kept is not None else junk.strangers():
            if probe.value is None:
                continue  # as if it had been none
            plain = junk.NOTHING if probe.stands_for is junk.NOTHING else cache._replace(**{name: probe.stands_for})
            yield junk.Probe(f"{name}: {probe.name}", cache._replace(**{name: probe.value}), plain)
    for other in CALLS:
        foreign = other.arguments.get("cache")
        if foreign is None or foreign is cache:
            continue
        if type(foreign) is not type(cache):
            yield junk.Probe(f"cache of {other.name}", foreign)
            continue
        for name in call.reads or cache._fields:
            mixed = cache._replace(**{name: getattr(foreign, name)})
            yield junk.Probe(f"{name} of {other.name}", mixed, mixed)


def snapshot(value: Any) -> Any:
    """The bytes of every array in a value."""
    if isinstance(value, np.ndarray):
        return value.tobytes() if 0 < value.nbytes < 2**20 and value.dtype != object else None
    if isinstance(value, dict):
        return {key: snapshot(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [snapshot(inner) for inner in value]
    return None


def check(call: calls.Call, argument: str, probe: junk.Probe) -> None:
    """One probe: refused in the house's words, or right."""
    arguments = {**copy.deepcopy(call.arguments), argument: probe.value}
    if isinstance(probe.value, junk.Made):
        arguments[argument] = probe.value.make(arguments)
    before = snapshot(arguments)
    try:
        result = call.function(**arguments)
    except (TypeError, ValueError) as error:
        assert contract.MESSAGE.fullmatch(str(error)), f"the message {str(error)!r} lacks who, expected, got or remedy"
        assert not probe.taken, f"refused: {error}"
    except call.errors:
        pass
    except MemoryError:
        assert "huge" in probe.name
    else:
        assert probe.stands_for is not junk.NOTHING, f"accepted {probe.value!r:.80}"
        call.judge({**copy.deepcopy(call.arguments), argument: probe.stands_for}, result)
        if argument == "out" and arguments["out"] is not None:
            assert result[0] is arguments["out"], "what was written to is not what came back"
            before["out"] = snapshot(arguments["out"])
    assert snapshot(arguments) == before, "an argument was changed"


def survey(call: calls.Call, argument: str) -> tuple[int, list[str]]:
    """Make all probes of one argument; return how many there were and what is wrong."""
    count, wrong = 0, []
    for probe in probes(call, argument):
        count += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                check(call, argument, probe)
        except Exception as error:
            wrong.append(f"{call.name}, {argument}, {probe.name}: {type(error).__name__}: {error}")
    return count, wrong


def assert_nothing_wrong(call: calls.Call) -> int:
    """Make all probes of all arguments of a call; return how many there were."""
    total, wrong = 0, []
    for argument in call.arguments:
        count, found = survey(call, argument)
        total += count
        wrong += found
    assert not wrong, "\n".join(wrong)
    return total


@pytest.mark.parametrize("call", [pytest.param(call, id=f"{call.name}-{i}") for i, call in enumerate(CALLS)])
def test_layers_and_losses(call):
    assert_nothing_wrong(call)


def test_networks_training_and_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = {}
    for call in calls.network_calls(tmp_path):
        try:
            assert assert_nothing_wrong(call) >= 30, f"{call.name}: hardly any probe"
        except AssertionError as error:
            wrong[call.name] = str(error)
    assert not wrong, "\n".join(wrong.values())


def test_every_kind_of_call_meets_every_kind_of_junk(tmp_path):
    """How many probes there are; and that what is new in LAYERS or LOSSES is among the calls."""
    everything = [*CALLS, *calls.network_calls(tmp_path)]
    count = sum(1 for call in everything for argument in call.arguments for _ in probes(call, argument))
    names = {call.name.partition("-")[0] for call in everything}
    print(f"{count:,} probes of {len(names)} functions")
    assert count >= 300
    for layer in LAYERS:
        module = layer.__module__.rpartition(".")[2]
        assert {layer.__name__, f"{layer.__name__}.forward", f"{module}.forward", f"{module}.backward"} <= names
    assert set(LOSSES) <= names
