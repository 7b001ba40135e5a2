"""A new layer is one file and one line in the list: a toy layer is pushed through everything."""

import numpy as np
import pytest
from tests.contract import contract, dynamic_tanh
from tests.contract.test_mutants import judge_layer, survivors

import xhat
from xhat import kernels, networks, verify
from xhat.training import checkpoints

CASES = contract.cases_of(dynamic_tanh.DynamicTanh)


@pytest.fixture
def listed(monkeypatch):
    """The one line in the list."""
    monkeypatch.setattr(checkpoints, "LAYERS", (*checkpoints.LAYERS, dynamic_tanh.DynamicTanh))
    monkeypatch.setitem(networks.NORMALIZATIONS, "dynamic_tanh", dynamic_tanh.DynamicTanh)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_toy_layer_keeps_the_contract(case):
    contract.judge_gradient(case)
    contract.judge_example(case)
    contract.check_copies(case)
    for dtype in contract.DTYPES:
        contract.judge_agreement(case, dtype)
        for variant in kernels.VARIANTS:
            contract.check_layouts(case, variant, dtype)
            contract.check_out(case, variant, dtype)
    for variant in kernels.VARIANTS:
        contract.check_errors(case, variant)
        contract.check_empty(case, variant)
        contract.check_extremes(case, variant)


def test_faults_in_the_toy_layer_are_caught():
    alive, count = survivors(
        dynamic_tanh.__file__, dynamic_tanh.__name__, lambda module: judge_layer(module, "DynamicTanh")
    )
    assert count > 20
    assert not alive, "\n".join(alive)


def test_toy_layer_learns_is_checked_and_saved(listed, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 5), np.float32)
    labels = (x[:, 0] > x[:, 1]).astype(int)
    net = xhat.mlp(5, [16], 2, normalization="dynamic_tanh", rng=0)
    assert "0.b" in net.parameters
    assert verify.check_network(net, x[:8], labels[:8]).ok
    history = xhat.Trainer(net, learning_rate=0.02, batch_size=32).fit(x, labels, epochs=8)
    assert history[-1].score > 0.95
    xhat.save(net, tmp_path / "net.safetensors")
    again = xhat.load(tmp_path / "net.safetensors")
    assert np.array_equal(again.predict(x), net.predict(x))
    assert "DynamicTanh(features=16)" in str(again)
