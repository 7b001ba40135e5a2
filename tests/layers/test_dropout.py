import numpy as np
import pytest

import xhat
from xhat import dropout, kernels
from xhat.kernels import random


def kept(cache):
    return random.kept(cache.shape, cache.key, cache.rate)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_dropped_and_expected_value(rate):
    x = np.ones(200_000, np.float32)
    y, cache = dropout.forward(x, rate, rng=0)
    assert abs((~kept(cache)).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / x.size)
    assert abs(y.mean() - 1) < 5 * np.sqrt(rate / (1 - rate) / x.size)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / (1 - rate))}


def test_what_is_dropped_leaves_no_trace():
    x = np.full(100, np.inf)
    x[::2] = np.nan
    y, cache = dropout.forward(x, 0.5, rng=0)
    assert (y[~kept(cache)] == 0).all()
    assert not np.isfinite(y[kept(cache)]).any()
    assert (dropout.backward(np.full(100, np.nan), cache).dx[~kept(cache)] == 0).all()


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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_type_and_way_drops_the_same(dtype):
    x = np.ones((7, 11, 3), dtype)
    y, cache = dropout.forward(x, 0.3, rng=5)
    dx = dropout.backward(x, cache).dx
    with kernels.use("reference"):
        plain, _ = dropout.forward(x, 0.3, rng=5)
    for got in (y, dx, plain, dropout.forward(x.T.copy().T, 0.3, rng=5)[0]):
        assert np.array_equal(got != 0, kept(cache))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_rate_of_zero_draws_nothing(rate):
    rng = np.random.default_rng(1)
    before = rng.bit_generator.state
    dropout.forward(np.ones(3), rate, rng)
    assert (rng.bit_generator.state == before) == (rate == 0)


def forged(**changes):
    return dropout.forward(np.ones(3), 0.5, 0)[1]._replace(**changes)


WRONG = [
    (lambda: dropout.backward(np.ones(3), forged(key=1 << 64)), ValueError,
     "dropout.backward: expected cache.key from 0 to 2**64 - 1, got 18446744073709551616. Pass on the cache that forward returned."),
    (lambda: dropout.backward(np.ones(3), forged(key=-1)), ValueError,
     "dropout.backward: expected cache.key from 0 to 2**64 - 1, got -1. Pass on the cache that forward returned."),
    (lambda: dropout.backward(np.ones(3), forged(key=None)), TypeError,
     "dropout.backward: expected cache.key as an integer, got NoneType. Pass on the cache that forward returned."),
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
