import numpy as np
import pytest

import xhat
from xhat import dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_dropped_and_expected_value(rate):
    x = np.ones(200_000, np.float32)
    y, cache = dropout.forward(x, rate, rng=0)
    assert abs((~cache.keep).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / x.size)
    assert abs(y.mean() - 1) < 5 * np.sqrt(rate / (1 - rate) / x.size)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(1 - rate)}


def test_what_is_dropped_leaves_no_trace():
    x = np.full(100, np.inf)
    x[::2] = np.nan
    y, cache = dropout.forward(x, 0.5, rng=0)
    assert (y[~cache.keep] == 0).all()
    assert not np.isfinite(y[cache.keep]).any()
    assert (dropout.backward(np.full(100, np.nan), cache).dx[~cache.keep] == 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rate_one_gives_zeros_and_rate_zero_gives_x(dtype):
    x = np.array([1, np.nan, np.inf, -2], dtype)
    y, cache = dropout.forward(x, 1.0, rng=0)
    assert np.array_equal(y, np.zeros(4))
    assert np.array_equal(dropout.backward(x, cache).dx, np.zeros(4))
    y, _ = dropout.forward(x, 0, rng=0)
    assert np.array_equal(y, x, equal_nan=True)
    assert not np.shares_memory(y, x)


def test_a_generator_advances_and_a_seed_repeats():
    x, rng = np.ones(64), np.random.default_rng(1)
    first, second = (dropout.forward(x, 0.5, rng)[0] for _ in range(2))
    assert not np.array_equal(first, second)
    assert np.array_equal(dropout.forward(x, 0.5, 1)[0], first)


WRONG = [
    (lambda: dropout.forward(np.ones(3), 1.5, 0), ValueError,
     "dropout.forward: expected rate >= 0 and at most 1, got 1.5. The rate is the share that is dropped: 0 drops nothing, 1 everything."),
    (lambda: dropout.forward(np.ones(3), float("nan"), 0), ValueError,
     "dropout.forward: expected rate >= 0 and at most 1, got nan. The rate is the share that is dropped: 0 drops nothing, 1 everything."),
    (lambda: dropout.forward(np.ones(3), 0.5, None), TypeError,
     "dropout.forward: expected rng as an integer or a numpy.random.Generator, got NoneType. Give a seed such as rng=0, or numpy.random.default_rng()."),
    (lambda: dropout.forward(np.ones(3), 0.5, -1), ValueError,
     "dropout.forward: expected rng >= 0, got -1. Give a seed or a numpy.random.Generator."),
    (lambda: xhat.Dropout("0.5", rng=0), TypeError,
     "Dropout: expected rate as a number, got str. The rate is the share that is dropped: 0 drops nothing, 1 everything."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
