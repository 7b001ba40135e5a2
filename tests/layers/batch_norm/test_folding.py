"""A batch norm folded into what comes before it, and statistics of a whole data set."""

import numpy as np
import pytest

import xhat
from xhat import affine, batch_norm


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_folded_weights_give_the_same_but_for_rounding(dtype, bias, scaled, rng):
    x, w = rng.standard_normal((9, 6)).astype(dtype), rng.standard_normal((6, 4)).astype(dtype)
    b, gamma, beta, mean = rng.standard_normal((4, 4)).astype(dtype)
    b, gamma, beta = (b if bias else None), *((gamma, beta) if scaled else (None, None))
    var = rng.random(4)
    wide = [None if values is None else values.astype(float) for values in (x, w, b, gamma, beta)]
    true, _ = batch_norm.apply(affine.forward(*wide[:3])[0], *wide[3:], mean, var)
    one_w, one_b = batch_norm.fold(w, b, gamma, beta, mean, var)
    assert one_w.dtype == one_b.dtype == dtype
    got = affine.forward(wide[0], one_w.astype(float), one_b.astype(float))[0]
    # each weight is rounded once: half an eps of the sum of sizes
    bound = np.abs(wide[0]) @ np.abs(one_w.astype(float)) + np.abs(one_b.astype(float))
    assert (np.abs(got - true) <= 0.51 * float(np.finfo(dtype).eps) * bound + 1e-14).all()


def test_a_network_folds(rng):
    net = xhat.mlp(5, [16, 8], 3, normalization="batch", dropout=0.2, rng=0, dtype=np.float64)
    x = rng.normal(2, 3, (300, 5))
    for _ in range(3):
        net.forward(x, training=True)
    for values in net.parameters.values():
        values += 0.1 * rng.standard_normal(values.shape)
    kept = {name: values.copy() for name, values in {**net.parameters, **net.state}.items()}
    folded = net.fold()
    assert [type(layer).__name__ for layer in folded.layers] == [
        "Affine", "ReLU", "Dropout", "Affine", "ReLU", "Dropout", "Affine",
    ]  # fmt: skip
    true = net.predict(x)
    assert np.abs(folded.predict(x) - true).max() < 1e-13 * np.abs(true).max()
    assert not folded.state
    assert "0.b" in folded.parameters
    assert repr(folded.layers[0]) == "Affine(inputs=5, outputs=16)"
    for name, values in {**net.parameters, **net.state}.items():
        assert np.array_equal(values, kept[name])
        assert not any(np.shares_memory(values, other) for other in folded.parameters.values())


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_takes_a_batch_norm_in(bias, rng):
    layers = [xhat.Conv2d(2, 3, 3, padding=1, bias=bias, rng=0, dtype=np.float64), xhat.BatchNorm(3, dtype=np.float64)]
    net = xhat.Sequential([*layers, xhat.ReLU(), xhat.Flatten(), xhat.Affine(75, 2, rng=1, dtype=np.float64)])
    x = rng.normal(1, 2, (20, 2, 5, 5))
    net.forward(x, training=True)
    folded = net.fold()
    assert [type(layer).__name__ for layer in folded.layers] == ["Conv2d", "ReLU", "Flatten", "Affine"]
    true = net.predict(x)
    assert np.abs(folded.predict(x) - true).max() < 1e-13 * np.abs(true).max()


def test_what_cannot_be_folded_stays(rng):
    columns = xhat.Sequential([xhat.Conv2d(2, 3, 3, rng=0), xhat.BatchNorm(3, channel_axis=-1)])
    assert len(columns.fold().layers) == 2  # it normalizes columns of the image, which the filters do not tell apart
    layers = [xhat.BatchNorm(4), xhat.Affine(4, 3, rng=0), xhat.ReLU(), xhat.BatchNorm(3), xhat.LayerNorm(3)]
    net = xhat.Sequential(layers)
    assert [repr(layer) for layer in net.fold().layers] == [repr(layer) for layer in layers]


def test_what_derives_from_a_layer_is_not_folded():
    class Doubled(xhat.Affine):
        """Computes something else."""

    assert len(xhat.Sequential([Doubled(2, 3, rng=0), xhat.BatchNorm(3)]).fold().layers) == 2


def test_two_batch_norms_fold_into_one_layer():
    twice = xhat.Sequential([xhat.Affine(4, 3, rng=0), xhat.BatchNorm(3), xhat.BatchNorm(3)])
    assert len(twice.fold().layers) == 1


def test_a_folded_network_can_be_saved(rng, tmp_path):
    net = xhat.mlp(4, [8], 3, normalization="batch", rng=0)
    x = rng.standard_normal((50, 4)).astype(np.float32)
    net.forward(x, training=True)
    folded = net.fold()
    xhat.save(folded, tmp_path / "net.safetensors")
    assert np.array_equal(xhat.load(tmp_path / "net.safetensors").predict(x), folded.predict(x))


def test_recomputed_statistics_are_those_of_the_data(rng):
    net = xhat.mlp(5, [7, 6], 2, normalization="batch", dropout=0.5, rng=0, dtype=np.float64)
    x = rng.normal(2, 3, (2500, 5))  # more than one part
    kept = {name: values.copy() for name, values in net.parameters.items()}
    net.recompute_statistics(x)
    y = x
    for layer in net.layers:
        if isinstance(layer, xhat.BatchNorm):
            assert np.allclose(layer.statistics.mean, y.mean(0), rtol=1e-12)
            assert np.allclose(layer.statistics.var, y.var(0), rtol=1e-12)
            assert layer.statistics.count == 2500
        y, _ = layer.forward(y)
    assert all(np.array_equal(net.parameters[name], values) for name, values in kept.items())
    again = {name: values.copy() for name, values in net.state.items()}
    net.recompute_statistics(x[::-1])
    assert all(np.allclose(net.state[name], values, rtol=1e-12) for name, values in again.items())


def test_the_last_part_may_be_one_sample(rng):
    """A thousand and twenty-four samples are taken at once."""
    x = rng.normal(2, 3, (1025, 2))
    net = xhat.Sequential([xhat.BatchNorm(2, unbiased=True, dtype=np.float64)])
    net.recompute_statistics(x)
    assert np.allclose(net.layers[0].statistics.var, x.var(0, ddof=1), rtol=1e-13)


def test_statistics_are_taken_in_the_type_that_the_layer_sees(rng):
    x = 1e8 + rng.standard_normal((400, 1))
    net = xhat.Sequential([xhat.BatchNorm(1, affine=False), xhat.Affine(1, 1, rng=0)])
    net.recompute_statistics(x)
    assert np.allclose(net.layers[0].statistics.var, x.var(0), rtol=1e-9)


def test_recomputed_statistics_respect_the_settings_of_a_layer(rng):
    x = rng.normal(2, 3, (10, 3))
    net = xhat.Sequential([xhat.BatchNorm(3, unbiased=True, dtype=np.float64), xhat.BatchNorm(3, frozen=True)])
    net.recompute_statistics(x)
    assert np.allclose(net.layers[0].statistics.var, x.var(0, ddof=1), rtol=1e-13)
    assert net.layers[1].statistics.count == 0


WRONG = [
    (lambda: batch_norm.fold(np.ones((2, 3)), None, None, None, np.zeros(2), np.ones(2)), ValueError,
     "batch_norm.fold: expected mean of shape (3,), got (2,). Give statistics with one finite entry per channel and no negative variance."),
    (lambda: batch_norm.fold(np.ones((2, 3)), np.ones(2), None, None, np.zeros(3), np.ones(3)), ValueError,
     "batch_norm.fold: expected b of shape (3,), got (2,). The output axis 1 of w has size 3; choose another with output_axis."),
    (lambda: batch_norm.fold(np.full((2, 1), 1e30, np.float32), None, [1e30], None, [0], [1]), ValueError,
     "batch_norm.fold: expected results that float32 can hold, got NaN or Inf. "
     "Look for NaN in w and for a variance near 0, or convert w to a wider type."),
    (lambda: xhat.Sequential([xhat.BatchNorm(2)]).recompute_statistics(np.zeros((0, 2))), ValueError,
     "Sequential.recompute_statistics: expected x of shape (N, ...) with samples, got (0, 2). Give data."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
