import numpy as np
import pytest
from tests.contract.contract import MESSAGE

import xhat
from xhat.networks import IMAGE_NORMALIZATIONS, NORMALIZATIONS


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_normalizations_are_found_in_the_list_of_layers():
    """Those that a number of features is enough to make; group norm needs groups, instance norm positions."""
    assert {"batch": xhat.BatchNorm, "layer": xhat.LayerNorm, "rms": xhat.RMSNorm} == NORMALIZATIONS


NORMS = [
    xhat.BatchNorm(4),
    xhat.LayerNorm((4, 3)),
    xhat.GroupNorm(4, 2),
    xhat.GroupNorm(4, 1),
    xhat.InstanceNorm(4),
    xhat.RMSNorm((4, 3)),
]


@pytest.mark.parametrize("layer", NORMS, ids=repr)
def test_what_absorbs_a_bias_is_not_moved_by_one(layer, rng):
    x = rng.standard_normal((5, 4, 3))
    plain, _ = layer.forward(x, training=True)
    shifted, _ = layer.forward(x + rng.standard_normal((4, 1)), training=True)
    moved = np.abs(shifted - plain).max()
    assert moved < 1e-12 if layer.absorbs_bias else moved > 0.1


@pytest.mark.parametrize("normalization", [None, *NORMALIZATIONS])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_gradients_of_a_whole_network_are_right(normalization, dropout, l2, rng):
    net = xhat.mlp(7, [11, 5], 3, normalization=normalization, dropout=dropout, rng=1)
    check = xhat.verify.check_network(net, rng.standard_normal((9, 7)), rng.integers(0, 3, 9), l2=l2)
    assert check.ok, str(check)
    assert check.worst < 1e-12
    assert all(row.size > 1e-6 for row in check.rows), str(check)


def test_blocks_are_affine_normalization_activation_dropout():
    net = xhat.mlp(4, [6, 5], 3, normalization="batch", dropout=0.5)
    kinds = [type(layer).__name__ for layer in net.layers]
    assert kinds == ["Affine", "BatchNorm", "ReLU", "Dropout"] * 2 + ["Affine"]
    assert sorted(net.weights) == ["0.w", "4.w", "8.w"]
    assert "0.b" not in net.parameters
    assert "8.b" in net.parameters


def test_blocks_of_a_cnn():
    net = xhat.cnn((2, 9, 8), [4, 3], [6], 5, normalization="batch", dropout=0.5)
    kinds = [type(layer).__name__ for layer in net.layers]
    assert kinds == [*["Conv2d", "BatchNorm", "ReLU", "MaxPool2d"] * 2, "Flatten",
                     "Affine", "BatchNorm", "ReLU", "Dropout", "Affine"]  # fmt: skip
    assert sorted(net.weights) == ["0.w", "13.w", "4.w", "9.w"]
    assert not {"0.b", "4.b", "9.b"} & net.parameters.keys()
    assert net.parameters["9.w"].shape == (3 * 2 * 2, 6)
    assert net.predict(np.zeros((3, 2, 9, 8))).shape == (3, 5)
    plain = xhat.cnn((1, 4, 4), [2], [], 3, size=2, pool=1)
    assert [type(layer).__name__ for layer in plain.layers] == ["Conv2d", "ReLU", "Flatten", "Affine"]
    assert plain.predict(np.zeros((3, 1, 4, 4))).shape == (3, 3)
    assert "0.b" in plain.parameters


@pytest.mark.parametrize("normalization", [None, *IMAGE_NORMALIZATIONS])
def test_gradients_of_a_whole_cnn_are_right(normalization, rng):
    net = xhat.cnn((2, 6, 7), [3, 4], [5], 3, normalization=normalization, dropout=0.3, rng=1)
    check = xhat.verify.check_network(net, rng.standard_normal((5, 2, 6, 7)), rng.integers(0, 3, 5), l2=0.1)
    assert check.ok, str(check)
    assert check.worst < 1e-11
    assert all(row.size > 1e-6 for row in check.rows), str(check)


def test_a_cnn_learns_the_digits_and_is_saved(tmp_path):
    data = xhat.datasets.load("digits")
    x, held_out = (values.reshape(-1, 1, 8, 8) / 16 for values in (data.x, data.x_test))
    net = xhat.cnn((1, 8, 8), [8], [32], 10, normalization="batch", rng=0)
    xhat.Trainer(net, learning_rate=3e-3, batch_size=64).fit(x, data.y, epochs=4)
    assert net.evaluate(held_out, data.y_test).score > 0.95
    xhat.save(net, tmp_path / "net.safetensors")
    again = xhat.load(tmp_path / "net.safetensors")
    assert np.array_equal(again.predict(held_out), net.predict(held_out))
    assert str(again) == str(net)


def test_prediction_does_not_depend_on_the_company(rng):
    net = xhat.mlp(6, [8], 3, normalization="batch", dropout=0.5, dtype=np.float64)
    x = rng.standard_normal((2500, 6))
    net.forward(x, training=True)
    together = net.predict(x)
    assert together.shape == (2500, 3)
    one_by_one = np.concatenate([net.predict(x[i : i + 1]) for i in range(0, 2500, 50)])
    assert np.abs(one_by_one - together[::50]).max() < 1e-14
    assert net.predict(x[:0]).shape == (0, 3)


def test_network_computes_in_the_type_of_its_parameters(rng):
    net = xhat.mlp(6, [8], 3, normalization="layer")
    assert net.predict(rng.standard_normal((4, 6))).dtype == np.float32
    wide = net.astype(np.float64)
    assert wide.predict(rng.standard_normal((4, 6)).astype(np.float32)).dtype == np.float64
    assert net.parameters["0.w"].dtype == np.float32
    wide.parameters["0.w"][...] = 0
    assert net.parameters["0.w"].any()


def test_penalty_counts_weights_only(rng):
    net = xhat.mlp(6, [8], 3, normalization="batch", dtype=np.float64)
    x, labels = rng.standard_normal((5, 6)), rng.integers(0, 3, 5)
    plain, gradients = net.loss_and_gradients(x, labels)
    with_l2, others = net.loss_and_gradients(x, labels, l2=0.5)
    squares = sum((net.parameters[name] ** 2).sum() for name in ("0.w", "3.w"))
    assert with_l2 == pytest.approx(plain + 0.25 * squares, rel=1e-14)
    for name, gradient in gradients.items():
        pull = 0.5 * net.parameters[name] if name.endswith(".w") else 0
        assert np.allclose(others[name], gradient + pull, rtol=1e-13, atol=1e-15)


def test_regression(rng):
    x = rng.standard_normal((400, 3))
    y = x @ np.array([[1.0], [-2.0], [0.5]]) + 3
    net = xhat.mlp(3, [32], 1, loss="squared_error", rng=0)
    assert net.score_name == "R²"
    history = xhat.Trainer(net, learning_rate=0.01, batch_size=32).fit(x, y, epochs=40)
    assert history[-1].score > 0.97
    assert net.evaluate(x, y).score > 0.97


def test_the_first_layer_sees_all_digits(rng):
    """Data with a large offset keeps its digits until it is standardized."""
    x = 1.7e9 + rng.standard_normal((200, 3))
    net = xhat.Sequential([xhat.Standardize.of(x), *xhat.mlp(3, [8], 2, rng=0).layers])
    plain = xhat.Sequential([xhat.Standardize.of(x - 1.7e9), *net.layers[1:]])
    assert np.allclose(net.predict(x), plain.predict(x - 1.7e9), atol=1e-5)
    assert net.predict(x).dtype == np.float32


def test_prediction_draws_nothing(rng):
    net = xhat.mlp(5, [8], 2, dropout=0.5, rng=0)
    before = net.layers[2].rng.bit_generator.state
    net.predict(rng.standard_normal((4, 5)))
    assert net.layers[2].rng.bit_generator.state == before


WRONG = [
    (lambda: xhat.Sequential([xhat.ReLU]), TypeError,
     "Sequential: expected layers of type xhat.core.Layer, got type at place 0. Give instances such as xhat.ReLU()."),
    (lambda: xhat.Sequential([], loss="hinge"), ValueError,
     "Sequential: expected loss 'softmax_cross_entropy' or 'hinge_loss' or 'squared_error', got 'hinge'. Choose one of these."),
    (lambda: xhat.mlp(4, [3], 2, normalization="bach"), ValueError,
     f"mlp: expected normalization {' or '.join(map(repr, NORMALIZATIONS))}, got 'bach'. Choose one of these."),
    (lambda: xhat.mlp(4, [3], 2, dropout=1.5), ValueError,
     "mlp: expected dropout >= 0 and at most 1, got 1.5. The dropout is the share that is dropped."),
    (lambda: xhat.mlp(0, [3], 2), ValueError,
     "mlp: expected inputs >= 1, got 0. Give the number of features that come in."),
    (lambda: xhat.mlp(4, 3, 2), TypeError,
     "mlp: expected hidden as a list of sizes, got int. Give one such as [512]."),
    (lambda: xhat.mlp(4, [3], 2, dtype="foo"), TypeError,
     "Affine: expected dtype float16, bfloat16, float32 or float64, got 'foo'. The usual one is float32."),
    (lambda: xhat.mlp(4, [3], 2).predict(np.float32(3)), ValueError,
     "Sequential.predict: expected x of shape (N, ...), got a single number. Give an array."),
    (lambda: xhat.mlp(4, [3], 2).predict([[1.0], [1.0, 2.0]]), TypeError, None),
    (lambda: xhat.Sequential([(one := xhat.ReLU()), one]), ValueError,
     "Sequential: expected different layers, got one of them twice. Make a second one like it."),
    (lambda: xhat.Sequential([], classes="abc"), TypeError,
     "Sequential: expected classes as a sequence of names, got the single name 'abc'. Give a list."),
    (lambda: xhat.mlp(4, [3], 2).loss_and_gradients(np.zeros((2, 4)), [0, 1], l2=-1), ValueError,
     "Sequential.loss_and_gradients: expected l2 >= 0 and finite, got -1. Give 0 for none."),
    (lambda: xhat.mlp(4, [3], 2, rng=None), TypeError,
     "mlp: expected rng as an integer or a numpy.random.Generator, got NoneType. "
     "Give a seed such as rng=0, or numpy.random.default_rng()."),
    (lambda: xhat.mlp(4, [3], 2).predict(np.zeros((2, 4), int)), TypeError,
     "Sequential.predict: expected x of type float16, bfloat16, float32 or float64, got int64. "
     "Convert it with x.astype(numpy.float32)."),
    (lambda: xhat.mlp(4, [3], 2).predict(np.zeros((2, 5))), ValueError,
     "affine.forward: expected w of shape (D, M) with D the last axis of x, got w (4, 3) and x (2, 5). "
     "Flatten each sample of x first if it has several axes."),
    (lambda: xhat.cnn((3, 8), [4], [], 2), ValueError,
     "cnn: expected shape as three sizes, got (3, 8). Give the channels, rows and columns of an image, such as (3, 32, 32)."),
    (lambda: xhat.cnn((3, 8, 0), [4], [], 2), ValueError,
     "cnn: expected shape >= 1, got 0. Give the channels, rows and columns of an image, such as (3, 32, 32)."),
    (lambda: xhat.cnn((3, 8, 8), 4, [], 2), TypeError,
     "cnn: expected filters as a list of sizes, got int. Give one such as [32]."),
    (lambda: xhat.cnn((3, 8, 8), [4], "5", 2), TypeError,
     "cnn: expected hidden as a list of sizes, got str. Give one such as [32]."),
    (lambda: xhat.cnn((3, 8, 9), [4, 4, 4, 4], [], 2), ValueError,
     "cnn: expected an image that 4 blocks with pools of 2 leave something of, got (8, 9). Use fewer blocks, or smaller windows."),
    (lambda: xhat.cnn((3, 8, 8), [4], [], 2, normalization="layer"), ValueError,
     f"cnn: expected normalization {' or '.join(map(repr, IMAGE_NORMALIZATIONS))}, got 'layer'. Choose one of these."),
    (lambda: xhat.mlp(4, [3], 2).backward(np.zeros((2, 2)), []), ValueError,
     "Sequential.backward: expected 3 caches, one per layer, got 0. Pass on the caches that forward returned."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message is None or str(caught.value) == message
    assert MESSAGE.fullmatch(str(caught.value))
