"""The course's networks: arguments, parameters, draws, modes, gradients of every kind, files."""

import inspect
import os
import pickle
from itertools import pairwise

import numpy as np
import pytest

from xhat.cs231n.classifiers import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from xhat.cs231n.gradient_check import eval_numerical_gradient


def check_gradients(model, X, y):
    """All gradients against centred differences; those of a bias before a norm are exactly 0 in truth."""
    _, grads = model.loss(X, y)
    assert grads.keys() == model.params.keys()
    for name, w in model.params.items():
        true = eval_numerical_gradient(lambda _: model.loss(X, y)[0], w, verbose=False)
        assert grads[name].shape == w.shape
        error, size = np.abs(grads[name] - true).max(), np.abs(true).max()
        assert error < 1e-8 + 1e-6 * size, f"{name}: error {error:.1e} beside {size:.1e}"


def moved(model):
    """Away from biases of exactly 0, where a hidden row may sit on the corner of ReLU."""
    for w in model.params.values():
        w += 0.1 * np.random.randn(*w.shape)
    return model


# ---- two-layer net


def test_two_layer_net_has_the_courses_arguments_and_draws():
    assert str(inspect.signature(TwoLayerNet)).startswith(
        "(input_dim: 'int' = 3072, hidden_dim: 'int' = 100, num_classes: 'int' = 10, "
        "weight_scale: 'float' = 0.001, reg: 'float' = 0.0)".replace("'", "")
    )
    np.random.seed(3)
    W1, W2, after = 0.5 * np.random.randn(4, 5), 0.5 * np.random.randn(5, 3), np.random.rand()
    np.random.seed(3)
    model = TwoLayerNet(input_dim=4, hidden_dim=5, num_classes=3, weight_scale=0.5)
    assert np.random.rand() == after
    assert list(model.params) == ["W1", "b1", "W2", "b2"]
    assert np.array_equal(model.params["W1"], W1)
    assert np.array_equal(model.params["W2"], W2)
    assert not model.params["b1"].any()
    assert {w.dtype for w in model.params.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("reg", [0.0, 0.7])
def test_two_layer_net_gradients(reg):
    model = moved(TwoLayerNet(input_dim=6, hidden_dim=5, num_classes=3, weight_scale=0.3))
    X, y = np.random.randn(4, 2, 3), np.array([0, 2, 1, 2])
    plain = model.loss(X, y)[0]
    model.reg = reg  # a live attribute
    weights = sum((model.params[name] ** 2).sum() for name in ("W1", "W2"))
    assert model.loss(X, y)[0] == pytest.approx(plain + 0.5 * reg * weights, rel=1e-14)
    check_gradients(model, X, y)
    hidden = np.maximum(0, X.reshape(4, 6) @ model.params["W1"] + model.params["b1"])
    assert np.allclose(model.loss(X), hidden @ model.params["W2"] + model.params["b2"], rtol=1e-13)


# ---- fully connected nets


def test_fully_connected_net_has_the_courses_arguments():
    parameters = inspect.signature(FullyConnectedNet).parameters
    assert {name: p.default for name, p in list(parameters.items())[1:]} == {
        "input_dim": 3072,
        "num_classes": 10,
        "dropout_keep_ratio": 1,
        "normalization": None,
        "reg": 0.0,
        "weight_scale": 1e-2,
        "dtype": np.float32,
        "seed": None,
    }
    assert next(iter(parameters)) == "hidden_dims"


@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
def test_parameters_and_draws(normalization):
    sizes = [6, 5, 4, 3]
    np.random.seed(3)
    weights = [0.5 * np.random.randn(a, b) for a, b in pairwise(sizes)]
    after = np.random.rand()
    np.random.seed(3)
    model = FullyConnectedNet([5, 4], input_dim=6, num_classes=3, normalization=normalization, weight_scale=0.5)
    assert np.random.rand() == after
    names = {f"{kind}{i}" for kind in "Wb" for i in (1, 2, 3)}
    names |= {f"{kind}{i}" for kind in ("gamma", "beta") for i in (1, 2)} if normalization else set()
    assert model.params.keys() == names
    assert model.num_layers == 3
    assert {w.dtype for w in model.params.values()} == {np.dtype(np.float32)}
    for i, w in enumerate(weights, 1):
        assert np.array_equal(model.params[f"W{i}"], w.astype(np.float32))
        assert not model.params[f"b{i}"].any()
    if normalization:
        assert (model.params["gamma2"] == 1).all()
        assert not model.params["beta2"].any()
    expected = {None: [], "batchnorm": [{"mode": "train"}] * 2, "layernorm": [{}] * 2}
    assert model.bn_params == expected[normalization]
    assert model.bn_params[:1] == [] or model.bn_params[0] is not model.bn_params[1]
    assert not model.use_dropout
    assert model.dropout_param == {}


@pytest.mark.parametrize("reg", [0.0, 3.14])
@pytest.mark.parametrize("keep", [1, 0.6])
@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
def test_gradients(normalization, keep, reg):
    model = FullyConnectedNet(
        [6, 5], input_dim=4, num_classes=3, dropout_keep_ratio=keep, normalization=normalization,
        reg=reg, weight_scale=0.4, dtype=np.float64, seed=123,
    )  # fmt: skip
    X, y = np.random.randn(5, 4), np.array([0, 1, 2, 2, 1])
    check_gradients(moved(model), X, y)


def test_the_penalty_leaves_gamma_beta_and_biases_alone():
    model = moved(FullyConnectedNet([5, 4], 6, 3, normalization="batchnorm", dtype=np.float64, reg=2.0))
    X, y = np.random.randn(7, 6), np.arange(7) % 3
    loss, grads = model.loss(X, y)
    model.reg = 0.0
    plain, plain_grads = model.loss(X, y)
    assert loss == pytest.approx(plain + sum((model.params[f"W{i}"] ** 2).sum() for i in (1, 2, 3)), rel=1e-13)
    for name, w in model.params.items():
        assert np.allclose(grads[name] - plain_grads[name], 2.0 * w if name[0] == "W" else 0, atol=1e-13), name


def test_modes_are_set_and_prediction_changes_nothing():
    model = FullyConnectedNet([5], 4, 3, dropout_keep_ratio=0.5, normalization="batchnorm", weight_scale=1.0, seed=5)
    assert model.dropout_param == {"mode": "train", "p": 0.5, "seed": 5}
    X, y = np.random.randn(8, 4), np.arange(8) % 3
    model.loss(X, y)
    assert model.bn_params[0]["mode"] == model.dropout_param["mode"] == "train"
    assert (model.bn_params[0]["running_mean"] != 0).all()
    kept = {name: value.copy() for name, value in model.bn_params[0].items() if name != "mode"}
    scores = model.loss(X)
    assert model.bn_params[0]["mode"] == model.dropout_param["mode"] == "test"
    for name, value in kept.items():
        assert np.array_equal(model.bn_params[0][name], value)
    assert scores.shape == (8, 3)
    assert scores.dtype == np.float32  # X is converted
    assert np.abs(model.loss(X[:1]) - scores[:1]).max() < 1e-6  # whatever the company
    layernorm = FullyConnectedNet([5], 4, 3, normalization="layernorm")
    layernorm.loss(X, y)
    assert layernorm.bn_params == [{}]
    layernorm.bn_params[0]["mode"] = "test"  # what a student may put there
    layernorm.loss(X, y)


def test_a_seed_gives_every_layer_the_same_stream():
    """The contract's trap: one dict, one seed, the same mask in every layer and every call."""
    model = FullyConnectedNet([6, 6], 6, 3, dropout_keep_ratio=0.5, weight_scale=1.0, dtype=np.float64, seed=5)
    X, y = np.random.randn(4, 6), np.array([0, 1, 2, 0])
    assert model.loss(X, y)[0] == model.loss(X, y)[0]
    unseeded = FullyConnectedNet([6, 6], 6, 3, dropout_keep_ratio=0.5, weight_scale=1.0, dtype=np.float64)
    assert unseeded.loss(X, y)[0] != unseeded.loss(X, y)[0]


def test_pictures_are_flattened_and_dtype_holds():
    model = FullyConnectedNet([5], 12, 3, normalization="batchnorm")
    X, y = np.random.randn(4, 3, 2, 2), np.array([0, 1, 2, 0])
    loss, grads = model.loss(X, y)
    assert isinstance(loss, float)
    assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}
    assert model.loss((8 * X).astype(int)).dtype == np.float32


def test_unknown_normalization():
    with pytest.raises(ValueError, match=r"expected normalization None, 'batchnorm' or 'layernorm', got 'batch_norm'"):
        FullyConnectedNet([5], normalization="batch_norm")


# ---- the convolutional net


def test_conv_net_has_the_courses_arguments_and_draws():
    parameters = inspect.signature(ThreeLayerConvNet).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "input_dim": (3, 32, 32),
        "num_filters": 32,
        "filter_size": 7,
        "hidden_dim": 100,
        "num_classes": 10,
        "weight_scale": 1e-3,
        "reg": 0.0,
        "dtype": np.float32,
    }
    np.random.seed(3)
    shapes = {"W1": (4, 3, 5, 5), "W2": (4 * 4 * 3, 6), "W3": (6, 10)}
    weights = {name: 1e-3 * np.random.randn(*shape) for name, shape in shapes.items()}
    np.random.seed(3)
    model = ThreeLayerConvNet((3, 8, 6), num_filters=4, filter_size=5, hidden_dim=6)
    for name, w in weights.items():
        assert np.array_equal(model.params[name], w.astype(np.float32))
    assert [model.params[f"b{i}"].shape for i in (1, 2, 3)] == [(4,), (6,), (10,)]


@pytest.mark.parametrize("reg", [0.0, 0.5])
def test_conv_net_gradients(reg):
    model = ThreeLayerConvNet((2, 6, 4), 3, 3, 5, 4, weight_scale=0.3, reg=reg, dtype=np.float64)
    check_gradients(moved(model), np.random.randn(3, 2, 6, 4), np.array([0, 3, 1]))


def test_conv_net_penalty_and_types():
    model = ThreeLayerConvNet((2, 6, 4), 3, 3, 5, 4, weight_scale=0.3, reg=0.5)
    X, y = np.random.randn(3, 2, 6, 4), np.array([0, 3, 1])
    loss = model.loss(X, y)[0]
    model.reg = 0.0
    weights = sum((model.params[f"W{i}"] ** 2).sum() for i in (1, 2, 3))
    assert loss == pytest.approx(model.loss(X, y)[0] + 0.25 * weights, rel=1e-6)
    assert model.loss(X).dtype == np.float64  # X is not converted
    assert model.loss(X.astype(np.float32)).dtype == np.float32
    assert {g.dtype for g in model.loss(X.astype(np.float32), y)[1].values()} == {np.dtype(np.float32)}


def test_a_fresh_net_knows_nothing():
    """With small weights all classes are as likely, and the loss is log(C)."""
    X, y = np.random.randn(20, 3, 8, 8), np.random.randint(10, size=20)
    for model in (ThreeLayerConvNet((3, 8, 8)), TwoLayerNet(192), FullyConnectedNet([9, 8], 192, weight_scale=1e-4)):
        assert model.loss(X, y)[0] == pytest.approx(np.log(10), rel=1e-4)


# ---- files


def test_save_and_load(tmp_path, capsys):
    model = FullyConnectedNet([5], 4, 3, normalization="batchnorm", weight_scale=1.0)
    file = tmp_path / "best.npy"  # the name is taken as it is
    model.save(file)
    other = FullyConnectedNet([5], 4, 3, normalization="batchnorm")
    assert other.load(str(file)) is True
    assert capsys.readouterr().out == f"{file} saved.\n{file} loaded.\n"
    X = np.random.randn(3, 4)
    assert np.array_equal(other.loss(X), model.loss(X))
    assert {w.dtype for w in other.params.values()} == {np.dtype(np.float32)}
    with np.load(file, allow_pickle=False) as arrays:
        assert set(arrays.files) == set(model.params)
    with pytest.raises(ValueError, match=r"TwoLayerNet\.load: expected parameters .*'W1': \(4, 5\)"):
        TwoLayerNet(4, 5, 3).load(file)


def test_load_refuses_a_pickle(tmp_path):
    model = TwoLayerNet(4, 5, 3)

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.save(tmp_path / "a.npy", model.params)  # as the course saves it
    (tmp_path / "b.npy").write_bytes(pickle.dumps({"W1": 1}))
    np.savez(tmp_path / "c.npz", **{**model.params, "W1": np.array([Trap()], object)})
    for name in ("a.npy", "b.npy"):
        with pytest.raises(ValueError, match="A pickle is not read, for it can run code"):
            model.load(tmp_path / name)
    with pytest.raises(ValueError, match="TwoLayerNet.load: expected"):
        model.load(tmp_path / "c.npz")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "d.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:300])
    with pytest.raises(ValueError, match="TwoLayerNet.load: expected"):
        model.load(tmp_path / "d.npz")
    assert model.load(tmp_path / "none.npz") is False


def test_constructors_refuse_what_loss_could_not_use():
    with pytest.raises(ValueError, match="ThreeLayerConvNet: expected an odd filter_size, got 4"):
        ThreeLayerConvNet(filter_size=4)
    with pytest.raises(ValueError, match=r"FullyConnectedNet: expected dropout_keep_ratio > 0.*set_year\(2017\)"):
        FullyConnectedNet([5], dropout_keep_ratio=0)
    with pytest.raises(ValueError, match="FullyConnectedNet: expected dropout_keep_ratio"):
        FullyConnectedNet([5], dropout_keep_ratio=1.5)
    with pytest.raises(TypeError, match="^FullyConnectedNet: .*hidden"):
        FullyConnectedNet(hidden=[5])


def test_use_batchnorm_is_said_of_every_net():
    assert FullyConnectedNet([5], normalization="batchnorm").use_batchnorm
    assert not FullyConnectedNet([5], normalization="layernorm").use_batchnorm
