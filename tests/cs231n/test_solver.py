"""The training loop against a few lines that do the same, draw by draw."""

import pickle

import numpy as np
import pytest

from xhat.cs231n import optim
from xhat.cs231n.classifiers.fc_net import FullyConnectedNet, TwoLayerNet
from xhat.cs231n.solver import Solver


def some_data(n=53, features=6, classes=3):
    X = np.random.randn(n, features)
    y = (X @ np.random.randn(features, classes)).argmax(1)
    return {"X_train": X[:40], "y_train": y[:40], "X_val": X[40:], "y_val": y[40:]}


def train_by_hand(model, data, lr, momentum, decay, batch_size, epochs, train_samples):
    """SGD with momentum and the course's bookkeeping, in the order in which it draws."""

    def accuracy(X, y, samples):
        if samples is not None and len(X) > samples:
            drawn = np.random.choice(len(X), samples)
            X, y = X[drawn], y[drawn]
        return np.mean([model.loss(x[None]).argmax() == label for x, label in zip(X, y, strict=True)])

    velocity = dict.fromkeys(model.params, 0.0)
    losses, train, val, best = [], [], [], (0, {})
    per_epoch = len(data["X_train"]) // batch_size
    for t in range(epochs * per_epoch):
        drawn = np.random.choice(len(data["X_train"]), batch_size)
        loss, grads = model.loss(data["X_train"][drawn], data["y_train"][drawn])
        losses.append(loss)
        for name in model.params:
            velocity[name] = momentum * velocity[name] - lr * grads[name]
            model.params[name] = model.params[name] + velocity[name]
        end = (t + 1) % per_epoch == 0
        lr *= decay if end else 1
        if end or t == 0:
            train.append(accuracy(data["X_train"], data["y_train"], train_samples))
            val.append(accuracy(data["X_val"], data["y_val"], None))
            if val[-1] > best[0]:
                best = val[-1], {name: w.copy() for name, w in model.params.items()}
    return losses, train, val, best


@pytest.mark.parametrize("train_samples", [None, 17, 1000])
def test_every_draw_and_number_is_that_of_the_course(train_samples):
    data = some_data()
    results = []
    for by_hand in (True, False):
        np.random.seed(5)
        model = TwoLayerNet(6, 8, 3, weight_scale=0.3, reg=0.01)
        if by_hand:
            results.append(train_by_hand(model, data, 0.2, 0.8, 0.7, 9, 4, train_samples))
            continue
        solver = Solver(
            model, data, update_rule="sgd_momentum", optim_config={"learning_rate": 0.2, "momentum": 0.8},
            lr_decay=0.7, batch_size=9, num_epochs=4, num_train_samples=train_samples, verbose=False,
        )  # fmt: skip
        solver.train()
        best = solver.best_val_acc, solver.best_params
        results.append((solver.loss_history, solver.train_acc_history, solver.val_acc_history, best))
        results.append(np.random.rand())
        assert solver.epoch == 4
        assert model.params is solver.best_params
        assert all(c["learning_rate"] == pytest.approx(0.2 * 0.7**4) for c in solver.optim_configs.values())
    (losses, train, val, (acc, params)), mine, _ = results
    assert np.allclose(mine[0], losses, rtol=1e-10)
    assert len(losses) == 16
    assert mine[1] == pytest.approx(train)
    assert mine[2] == pytest.approx(val)
    assert len(val) == 5
    assert mine[3][0] == pytest.approx(acc)
    assert acc > 0.5
    for name, w in params.items():
        assert np.allclose(mine[3][1][name], w, rtol=1e-9, atol=1e-12)


def test_it_prints_what_the_course_prints(capsys):
    model = TwoLayerNet(6, 8, 3)
    Solver(model, some_data(), batch_size=20, num_epochs=2, print_every=3).train()
    lines = capsys.readouterr().out.splitlines()
    words = [
        r"(Iteration 1 / 4) loss: 1.0986", r"(Epoch 0 / 2) train acc: ", r"(Epoch 1 / 2) train acc: ",
        r"(Iteration 4 / 4) loss: 1.0", r"(Epoch 2 / 2) train acc: ",
    ]  # fmt: skip
    assert len(lines) == len(words)
    for line, word in zip(lines, words, strict=True):
        assert line.startswith(word)
    assert "; val_acc: 0." in lines[1]
    assert len(lines[0].rsplit(".")[-1]) == 6
    Solver(model, some_data(), verbose=False).train()
    assert capsys.readouterr().out == ""


def test_defaults_and_errors():
    data, model = some_data(), TwoLayerNet(6, 8, 3)
    solver = Solver(model, data)
    assert (solver.lr_decay, solver.batch_size, solver.num_epochs, solver.print_every) == (1.0, 100, 10, 10)
    assert (solver.num_train_samples, solver.num_val_samples, solver.checkpoint_name) == (1000, None, None)
    assert solver.update_rule.__name__ == "sgd"
    with pytest.raises(ValueError, match='^Unrecognized arguments "epochs", "rate"$'):
        Solver(model, data, epochs=3, rate=2)
    for rule in ("lbfgs", "np", "Adam", "__doc__"):
        with pytest.raises(ValueError, match=f'^Invalid update_rule "{rule}"$'):
            Solver(model, data, update_rule=rule)


def test_every_parameter_has_a_config_of_its_own():
    given = {"learning_rate": 0.1}
    solver = Solver(
        TwoLayerNet(6, 8, 3), some_data(), update_rule="adam", optim_config=given, num_epochs=2, verbose=False
    )
    solver.train()  # one step per epoch: the batch is larger than the data
    assert given == {"learning_rate": 0.1}
    assert [c["t"] for c in solver.optim_configs.values()] == [2] * 4
    assert solver.optim_configs["W1"]["m"].shape == (6, 8)
    assert len(solver.loss_history) == 2
    assert len(solver.val_acc_history) == 2  # the first step ends the first epoch


def test_check_accuracy():
    data = some_data()
    solver = Solver(TwoLayerNet(6, 8, 3, weight_scale=1.0), data, verbose=False)
    true = (solver.model.loss(data["X_train"]).argmax(1) == data["y_train"]).mean()
    state = np.random.get_state()[2]
    for batch_size in (1, 7, 40, 100):
        assert solver.check_accuracy(data["X_train"], data["y_train"], batch_size=batch_size) == pytest.approx(true)
    assert solver.check_accuracy(data["X_train"], data["y_train"], num_samples=40) == pytest.approx(true)
    assert np.random.get_state()[2] == state  # nothing was drawn
    solver.check_accuracy(data["X_train"], data["y_train"], num_samples=39)
    assert np.random.get_state()[2] != state


class Scripted:
    """A model whose accuracy is what it is told, and whose one parameter counts the steps."""

    def __init__(self, right):
        self.params = {"w": np.zeros(1)}
        self.right = right  # of four samples, after each step

    def loss(self, X, y=None):
        if y is not None:
            return 1.0, {"w": -np.ones(1)}
        right = self.right[int(self.params["w"][0]) - 1]
        return np.stack([np.arange(len(X)) < right, np.full(len(X), 0.5)], 1)


@pytest.mark.parametrize("rule", ["sgd", "sgd_momentum"])
def test_the_first_of_the_best_parameters_are_kept_as_they_were(rule):
    """Also by sgd, which goes on to change the same array."""
    X, y = np.zeros((4, 1)), np.zeros(4, int)
    data = {"X_train": X, "y_train": y, "X_val": X, "y_val": y}
    model = Scripted([2, 3, 3, 1])
    config = {"learning_rate": 1.0, "momentum": 0.0}
    solver = Solver(model, data, update_rule=rule, optim_config=config, batch_size=4, num_epochs=4, verbose=False)
    solver.train()
    assert solver.val_acc_history == [0.5, 0.75, 0.75, 0.25]
    assert solver.best_val_acc == 0.75
    assert model.params["w"] == 2


def test_a_hopeless_model_keeps_its_parameters():
    data = some_data()
    data["y_val"] = np.full(13, 7)  # no such class
    model = TwoLayerNet(6, 8, 3)
    Solver(model, data, num_epochs=1, verbose=False).train()
    assert model.params.keys() == {"W1", "b1", "W2", "b2"}


def test_checkpoints_are_the_courses(tmp_path, capsys):
    solver = Solver(
        TwoLayerNet(6, 8, 3), some_data(), batch_size=40, num_epochs=2, checkpoint_name=str(tmp_path / "run")
    )
    solver.train()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run_epoch_1.pkl", "run_epoch_2.pkl"]
    assert f'Saving checkpoint to "{tmp_path}/run_epoch_2.pkl"' in capsys.readouterr().out
    checkpoint = pickle.loads((tmp_path / "run_epoch_2.pkl").read_bytes())
    assert checkpoint.keys() == {
        "model", "update_rule", "lr_decay", "optim_config", "batch_size", "num_train_samples", "num_val_samples",
        "epoch", "loss_history", "train_acc_history", "val_acc_history",
    }  # fmt: skip
    assert checkpoint["epoch"] == 2
    assert len(checkpoint["loss_history"]) == 2


@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
@pytest.mark.parametrize("rule", ["sgd", "sgd_momentum", "rmsprop", "adam"])
def test_every_rule_overfits_a_small_set(rule, normalization):
    data = some_data()
    model = FullyConnectedNet([20, 20], 6, 3, normalization=normalization, weight_scale=0.3)
    rate = {"sgd": 0.3, "sgd_momentum": 0.05, "rmsprop": 5e-3, "adam": 1e-2}[rule]
    solver = Solver(
        model, data, update_rule=rule, optim_config={"learning_rate": rate}, num_epochs=60, batch_size=20, verbose=False
    )
    solver.train()
    assert solver.loss_history[0] > 0.8
    assert max(solver.train_acc_history) == 1.0
    assert {w.dtype for w in model.params.values()} == {np.dtype(np.float32)}


def test_a_rule_put_into_the_module_is_taken(monkeypatch):
    def still(w, dw, config=None):
        return w, config

    monkeypatch.setattr(optim, "still", still, raising=False)
    assert Solver(TwoLayerNet(6, 8, 3), some_data(), update_rule="still").update_rule is still
