"""The contract can fail: faults seeded into every layer, every loss and every kernel are all caught."""

import ast
import inspect
import warnings
from pathlib import Path

import numpy as np
import pytest
from tests.contract import contract, mutants
from tests.contract.test_losses import LOSS_JUDGEMENTS, judge_softmax
from tests.layers.batch_norm.test_parts import judge_parts

from xhat import Conv2d, Dropout, MaxPool2d, kernels
from xhat.kernels import convolution, pooling, random, softmax
from xhat.layers import LAYERS, losses

# Mutants that compute the same: each with the reason.
EQUIVALENT = {}


def survivors(path, name, judge):
    """The mutants of a file that no judgement of the module `name` objects to, and how many there were."""
    alive, count = [], 0
    for mutant in mutants.mutants(Path(path)):
        count += 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                with mutants.loaded(mutant, Path(path), name) as module:
                    judge(module)
            except Exception:  # an error of any kind is seen by whoever runs the tests
                continue
        if mutant.name not in EQUIVALENT:
            alive.append(mutant.name)
    return alive, count


def judge_layer(module, name):
    cases = list(getattr(module, name).cases())
    for judgement in contract.JUDGEMENTS:  # the quick ones first: most faults need no more
        for case in cases:
            judgement(case)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_what_is_no_fault_is_not_caught(layer):
    """The files themselves, run as mutants are, pass: what is caught is the fault, not the way it is run."""
    for path in mutants.files(layer):
        nothing = mutants.Mutant("none", ast.parse(path.read_text()))
        with mutants.loaded(nothing, path, layer.__module__) as module:
            judge_layer(module, layer.__name__)
            assert getattr(module, layer.__name__) is not layer


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_faults_in_a_layer_are_caught(layer):
    alive, count = [], 0
    for path in mutants.files(layer):
        found, seeded = survivors(path, layer.__module__, lambda module: judge_layer(module, layer.__name__))
        alive, count = alive + found, count + seeded
    print(f"{layer.__name__}: {count} faults seeded, {len(alive)} survived")
    assert count >= 2 or all(only_moves_numbers(case) for case in layer.cases())
    assert not alive, "\n".join(alive)


def only_moves_numbers(case):
    """Whether y holds the numbers of x, each once: then there is no arithmetic to be wrong."""
    x, parameters = case.draw(np.random.default_rng(1))
    y, _ = case.layer.op(case.training).reference_forward(x, **contract.arguments(case, parameters))
    return np.array_equal(np.sort(x, axis=None), np.sort(y, axis=None))


def judge_losses(module):
    for variant in {"reference", kernels.VARIANTS[-1]}:
        with kernels.use(variant):
            judge_softmax(module.softmax)
            for loss in module.LOSSES.values():
                for case in loss.cases():
                    for judgement in LOSS_JUDGEMENTS:
                        judgement(loss, case)


def test_faults_in_a_loss_are_caught():
    alive, count = survivors(losses.__file__, losses.__name__, judge_losses)
    print(f"losses: {count} faults seeded, {len(alive)} survived")
    assert count >= 20
    assert not alive, "\n".join(alive)


def _off(factor):
    return lambda values: values.__imul__(factor)


def _last_entry_forgotten(values):
    if values.size:
        values.reshape(-1)[-1] = 0


def _rounded_to_float32(values):
    values[...] = values.astype(np.float32)


FAULTS = {
    "off by 1e-6": _off(1 + 1e-6),
    "of the wrong sign": _off(-1),
    "with its last entry forgotten": _last_entry_forgotten,
    "computed in float32": _rounded_to_float32,
}
DOORS = [name for name in kernels.__all__ if name.startswith(("rows_", "channels_"))]


@pytest.mark.skipif(len(kernels.VARIANTS) == 1, reason="needs the native module")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("door", DOORS)
def test_faults_in_a_kernel_are_caught(door, fault, monkeypatch):
    """Each output of each kernel, made wrong in turn."""
    right = getattr(kernels, door)
    names = list(inspect.signature(right).parameters)

    def outputs(args, result):
        return [*([args[names.index("out")]] if "out" in names else []), *(result or ())]

    def make(which):
        def wrong(*args, **kwargs):
            result = right(*args, **kwargs)
            FAULTS[fault](outputs(args, result)[which])
            return result

        return wrong

    kind = door.rpartition("_")[2]
    count = {"forward": 5, "statistics": 4, "sums": 2, "apply": 1, "gradient": 1}.get(kind, 3)
    mean_low = {"forward": 2, "statistics": 1}.get(kind)
    for which in range(count):
        monkeypatch.setattr(kernels, door, make(which))
        try:
            for layer in LAYERS:
                for case in layer.cases():
                    contract.judge_agreement(case)
            judge_parts()
        except (AssertionError, RuntimeWarning):
            continue
        # mean_low corrects the last digits of the mean: its own last digits change nothing
        harmless = which == mean_low and fault in ("off by 1e-6", "computed in float32")
        unused = kind == "statistics" and which == 3  # rstd: what is merged has another one
        assert harmless or unused, f"{door}: output {which} {fault} was not caught"


def judge_agreement_of(layer):
    for case in layer.cases():
        contract.judge_agreement(case)


@pytest.mark.skipif(len(kernels.VARIANTS) == 1, reason="needs the native module")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("layer", "room", "door", "count"),
    [
        (Conv2d, convolution, "forward", 1),
        (Conv2d, convolution, "backward", 3),
        (MaxPool2d, pooling, "max_forward", 1),
        (MaxPool2d, pooling, "max_backward", 1),
        (Dropout, random, "dropout", 1),
    ],
)
def test_faults_in_another_kernel_are_caught(layer, room, door, count, fault, monkeypatch):
    """Likewise where out is the last argument, and perhaps floating results come beside it."""
    right = getattr(room, door)
    for which in range(count):

        def wrong(*args, which=which):
            result = right(*args)
            FAULTS[fault]([args[-1], *(result or ())][which] if count > 1 else args[-1])
            return result

        monkeypatch.setattr(room, door, wrong)
        with pytest.raises(AssertionError):
            judge_agreement_of(layer)


@pytest.mark.skipif(len(kernels.VARIANTS) == 1, reason="needs the native module")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("door", "count"), [("softmax", 1), ("cross_entropy", 2)])
def test_faults_in_a_kernel_of_scores_are_caught(door, count, fault, monkeypatch):
    right = getattr(softmax, door)
    for which in range(count):

        def wrong(*args, which=which):
            result = right(*args)
            FAULTS[fault]((args[-1], result)[which])
            return result

        monkeypatch.setattr(softmax, door, wrong)
        with pytest.raises(AssertionError):
            judge_losses(losses)


@pytest.mark.skipif(len(kernels.VARIANTS) == 1, reason="needs the native module")
def test_a_wrong_argmax_is_caught(monkeypatch):
    right = pooling.max_forward

    def wrong(x, size, stride, padding, out):
        argmax = right(x, size, stride, padding, out)
        argmax[...] = (argmax + 1) % np.prod(size)
        return argmax

    monkeypatch.setattr(pooling, "max_forward", wrong)
    with pytest.raises(AssertionError):
        judge_agreement_of(MaxPool2d)
