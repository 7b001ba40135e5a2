import math
import pickle
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from tests.contract.contract import MESSAGE

import xhat
from xhat.training import schedules
from xhat.training.trainer import _bounds

RATES = {"adam": 0.02, "adamw": 0.02, "momentum": 0.1, "nesterov": 0.1, "rmsprop": 0.02, "sgd": 0.5}  # that learn fast


def problem(samples=300, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, 4), np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def trainer(**kwargs):
    net = xhat.mlp(4, [16], 2, normalization="batch", rng=0)
    return xhat.Trainer(net, **{"learning_rate": 0.01, "batch_size": 32, **kwargs})


@pytest.mark.parametrize(
    ("samples", "size", "bounds"),
    [
        (10, 4, [0, 4, 8, 10]),
        (9, 4, [0, 4, 9]),  # a last batch of one joins the one before
        (8, 4, [0, 4, 8]),
        (5, 4, [0, 5]),
        (1, 4, [0, 1]),
        (3, 1, [0, 1, 2, 3]),
        (2, 1, [0, 1, 2]),
        (3, 2, [0, 3]),
    ],
)
def test_bounds_of_batches(samples, size, bounds):
    assert _bounds(samples, size) == bounds


def test_every_sample_is_seen_once_per_epoch_in_a_new_order():
    x, labels = problem(33)
    seen = []
    net = xhat.mlp(4, [16], 2, rng=0)
    original = net.forward
    net.forward = lambda x, training=False: (training and seen.append(x.copy()), original(x, training=training))[1]
    xhat.Trainer(net, batch_size=8, rng=3).fit(x, labels, epochs=2)
    assert [len(batch) for batch in seen] == [8, 8, 8, 9] * 2
    first, second = np.concatenate(seen[:4]), np.concatenate(seen[4:])
    assert not np.array_equal(first, second)
    for epoch in (first, second):
        assert np.array_equal(epoch[np.lexsort(epoch.T)], x[np.lexsort(x.T)])


def test_same_seed_same_bits_and_fit_goes_on():
    x, labels = problem()
    one, two, other = trainer(rng=1), trainer(rng=1), trainer(rng=2)
    one.fit(x, labels, epochs=4)
    two.fit(x, labels, epochs=1)
    history = two.fit(x, labels, epochs=3)
    other.fit(x, labels, epochs=4)
    assert [e.epoch for e in history] == [1, 2, 3, 4]
    assert history.column("loss") == one.history.column("loss")
    for name, values in one.network.parameters.items():
        assert np.array_equal(values, two.network.parameters[name])
    assert not np.array_equal(one.network.parameters["0.w"], other.network.parameters["0.w"])


def test_epoch_numbers_are_averages_over_samples():
    x, labels = problem(41)
    steps = []
    t = trainer(batch_size=16)
    original = t._step
    t._step = lambda *args: (steps.append((len(args[0]), original(*args))), steps[-1][1])[1]
    epoch = t.fit(x, labels, epochs=1)[0]
    assert [n for n, _ in steps] == [16, 16, 9]
    assert epoch.loss == pytest.approx(sum(n * s.loss for n, s in steps) / 41)
    assert epoch.score == pytest.approx(sum(n * s.score for n, s in steps) / 41)
    assert math.isnan(epoch.validation_loss)
    assert t.history.best is None


def test_progress_and_epochs_are_reported():
    x, labels = problem(100)
    batches, epochs = [], []
    trainer().fit(x, labels, epochs=2, validation=problem(50, 1), on_batch=batches.append, on_epoch=epochs.append)
    assert [(p.epoch, p.batch) for p in batches] == [(e, b) for e in (1, 2) for b in (1, 2, 3, 4)]
    assert {(p.epochs, p.batches) for p in batches} == {(2, 4)}
    assert [p.samples for p in batches] == [32, 64, 96, 100] * 2
    assert batches[3].loss == epochs[0].loss
    assert all(0 <= e.validation_score <= 1 and e.samples_per_second > 0 for e in epochs)


def test_early_stopping_goes_back_to_the_best():
    x, labels = problem(60)
    held = problem(200, 1)
    t = trainer(learning_rate=0.05, patience=3)
    history = t.fit(x, labels, epochs=200, validation=held)
    assert len(history) < 200
    best = history.best
    assert len(history) == best.epoch + 3
    assert best.validation_score == max(history.column("validation_score"))
    now = t.network.evaluate(*held)
    assert now.score == best.validation_score
    assert now.loss == pytest.approx(best.validation_loss, rel=1e-12)
    assert t.optimizer.steps == best.epoch * 2  # the optimizer went back, too


@pytest.mark.parametrize("optimizer", xhat.training.OPTIMIZERS)
def test_every_optimizer_learns(optimizer):
    x, labels = problem()
    labels = (x[:, 0] > x[:, 1]).astype(int)
    rate = RATES[optimizer]
    history = trainer(optimizer=optimizer, learning_rate=rate).fit(x, labels, epochs=40)
    assert history[-1].score > 0.95
    assert history[-1].loss < history[0].loss / 2


def test_schedule_is_applied_per_epoch_and_goes_on():
    x, labels = problem(40)
    t = trainer(learning_rate=0.1, schedule=schedules.exponential(0.5))
    t.fit(x, labels, epochs=2)
    t.fit(x, labels, epochs=1)
    assert t.history.column("learning_rate") == [0.1, 0.05, 0.025]


def test_l2_shrinks_weights():
    x, labels = problem()
    plain, pulled = trainer(), trainer(l2=0.1)
    for t in (plain, pulled):
        t.fit(x, labels, epochs=15)
    sizes = [np.square(t.network.parameters["0.w"]).sum() for t in (plain, pulled)]
    assert sizes[1] < sizes[0] / 2


def test_a_loss_that_stops_being_finite_is_an_error():
    x, labels = problem()
    net = xhat.mlp(4, [16], 2, rng=0)
    t = xhat.Trainer(net, optimizer="sgd", learning_rate=1e30, batch_size=32)
    with pytest.raises(
        FloatingPointError, match=r"^Trainer\.fit: expected a finite loss, got nan in epoch 1, batch \d+\. L"
    ):
        t.fit(x, labels, epochs=5)
    assert len(t.history) == 0


def test_a_trainer_can_be_copied_and_goes_on_alike():
    x, labels = problem()
    t = trainer(schedule=schedules.cosine(6), patience=5)
    t.fit(x, labels, epochs=2, validation=(x, labels))
    twin = pickle.loads(pickle.dumps(t))
    for each in (t, twin):
        each.fit(x, labels, epochs=2, validation=(x, labels))
    assert twin.history.column("loss") == t.history.column("loss")


def test_history_prints_as_a_table():
    x, labels = problem(40)
    t = trainer()
    t.fit(x, labels, epochs=2, validation=(x, labels))
    lines = repr(t.history).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 3


WRONG = [
    ({"optimizer": "adagrad"}, "Trainer: expected optimizer 'sgd' or 'momentum' or 'nesterov' or 'rmsprop' or 'adam' or 'adamw', got 'adagrad'. Choose one of these."),
    ({"learning_rate": 0}, "Trainer: expected learning_rate > 0 and finite, got 0. The usual one for Adam is 1e-3."),
    ({"learning_rate": float("nan")}, "Trainer: expected learning_rate > 0 and finite, got nan. The usual one for Adam is 1e-3."),
    ({"batch_size": 0}, "Trainer: expected batch_size >= 1, got 0. The usual one is 128."),
    ({"l2": -1}, "Trainer: expected l2 >= 0 and finite, got -1. Give 0 for none."),
    ({"patience": 0}, "Trainer: expected patience >= 1, got 0. Give a number of epochs, or None."),
]  # fmt: skip


@pytest.mark.parametrize(("kwargs", "message"), WRONG)
def test_constructor_messages(kwargs, message):
    with pytest.raises(ValueError) as caught:
        trainer(**kwargs)
    assert str(caught.value) == message


WRONG_DATA = [
    (lambda t, x, y: t.fit(x[:5], y), "Trainer.fit: expected as many targets as samples in x, got shapes (300,) and (5, 4). Give one target per row."),
    (lambda t, x, y: t.fit(x[:0], y[:0]), "Trainer.fit: expected at least one sample in x, got none. Check the data."),
    (lambda t, x, y: t.fit(x, y, epochs=0), "Trainer.fit: expected epochs >= 1, got 0. Give the number of epochs to go."),
    (lambda t, x, y: t.fit(x, y + 5), "Trainer.fit: expected labels from 0 to 1, got 6. Number the classes from 0, one score for each."),
    (lambda t, x, y: t.fit(x[:1], y[:1]), "batch_norm.forward: expected at least 2 values per channel, got 1 in x of shape (1, 16). Use a larger batch, batch_norm.apply with fixed statistics, or layer_norm."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG_DATA)
def test_data_messages(call, message):
    with pytest.raises(ValueError) as caught:
        call(trainer(), *problem())
    assert str(caught.value) == message


def test_scores_of_numbers_are_against_the_spread_of_all_targets():
    """Averaging R² over batches would say -99 of good predictions."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3))
    y = x @ np.array([[1.0], [-2.0], [0.5]])
    net = xhat.mlp(3, [32], 1, loss="squared_error", rng=0)
    t = xhat.Trainer(net, learning_rate=0.01, batch_size=2)
    epoch = t.fit(x, y, epochs=3, validation=(x[:1], y[:1]))[-1]
    assert epoch.score > 0.9
    assert math.isnan(epoch.validation_score)  # one target has no spread
    assert t.history.best is min(t.history, key=lambda e: e.validation_loss)


def test_validation_changes_nothing():
    x, labels = problem()
    weights = []
    for validation in (None, (x, labels)):
        net = xhat.mlp(4, [16], 2, dropout=0.5, rng=0)
        xhat.Trainer(net, batch_size=32).fit(x, labels, epochs=3, validation=validation)
        weights.append(net.parameters["0.w"])
    assert np.array_equal(*weights)


@pytest.mark.parametrize("optimizer", xhat.training.OPTIMIZERS)
def test_half_precision_trains(optimizer):
    x, labels = problem()
    labels = (x[:, 0] > x[:, 1]).astype(int)
    net = xhat.mlp(4, [16], 2, normalization="batch", dtype=np.float16)
    rate = RATES[optimizer]
    history = xhat.Trainer(net, optimizer=optimizer, learning_rate=rate, batch_size=32).fit(x, labels, epochs=10)
    assert history[-1].score > 0.93
    assert net.parameters["0.w"].dtype == np.float16


def test_data_are_judged_before_anything_is_trained():
    x, labels = problem()
    t = trainer()
    before = {name: values.copy() for name, values in {**t.network.parameters, **t.network.state}.items()}
    wrong = [
        lambda: t.fit(x, labels, validation=(x[:, :3], labels)),
        lambda: t.fit(x, labels, validation=(x, labels + 7)),
        lambda: t.fit(x, np.where(np.arange(300) == 299, 9, labels)),
        lambda: t.fit(x, labels.astype(float)),
        lambda: t.fit(x, labels, validation=0.1),
        lambda: t.fit(x, labels, validation=(x[:0], labels[:0])),
    ]
    for call in wrong:
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert MESSAGE.fullmatch(str(caught.value))
    for name, values in {**t.network.parameters, **t.network.state}.items():
        assert np.array_equal(values, before[name])


def test_wrong_kinds():
    net = xhat.mlp(4, [16], 2)
    for call in (lambda: xhat.Trainer("net"), lambda: xhat.Trainer(net, schedule="cosine")):
        with pytest.raises(TypeError) as caught:
            call()
        assert MESSAGE.fullmatch(str(caught.value))


def test_patience_needs_validation():
    with pytest.raises(ValueError, match="expected validation data because patience is set, got None"):
        trainer(patience=2).fit(*problem())


def test_interrupt_keeps_what_was_reached():
    code = """
        import numpy as np, xhat
        rng = np.random.default_rng(0)
        x = rng.standard_normal((2000, 20), np.float32)
        net = xhat.mlp(20, [64], 2, normalization="batch")
        trainer = xhat.Trainer(net)
        try:
            trainer.fit(x, (x[:, 0] > 0).astype(int), epochs=10**6, on_epoch=lambda e: print(e.epoch, flush=True))
        except KeyboardInterrupt:
            print("stopped", len(trainer.history), np.isfinite(net.predict(x)).all())
        """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[0].split("\n")
    assert process.returncode == 0
    word, epochs, finite = rest[-2].split()
    assert word == "stopped"
    assert int(epochs) >= 3
    assert finite == "True"
