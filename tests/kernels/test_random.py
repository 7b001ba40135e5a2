"""Random numbers by their place: the published answers, chance by statistics, the loops bit for bit, bad arguments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels import oracle
from tests.kernels.oracle import DTYPES

from xhat import kernels
from xhat.kernels import random

NATIVE = [name for name in kernels.VARIANTS if name != "reference"]
MESSAGE = r"^dropout: expected .+, got .+\. [A-Z].+\.$"
PI = "243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0"
ZEROS = "00000000 00000000 00000000 00000000", "00000000 00000000"
ONES = "ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff"


def words(text):
    return np.array([int(word, 16) for word in text.split()], np.uint64)


def as_key(text):
    low, high = words(text).tolist()
    return low | high << 32


# Random123, file kat_vectors
@pytest.mark.parametrize(
    ("given_words", "rounds", "answer"),
    [
        (ZEROS, 7, "5f6fb709 0d893f64 4f121f81 4f730a48"),
        (ONES, 7, "5207ddc2 45165e59 4d8ee751 8c52f662"),
        (PI, 7, "4dfccaba 190a87f0 c47362ba b6b5242a"),
        (ZEROS, 10, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (ONES, 10, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (PI, 10, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_published_answers(given_words, rounds, answer):
    counter, key = given_words
    assert np.array_equal(random.philox(words(counter)[:, None], as_key(key), rounds)[0], words(answer))


def bits_of(key, count):
    """The words of the first `count` numbers."""
    block = np.arange(-(-count // 4), dtype=np.uint64)
    zero = np.zeros_like(block)
    return random.philox(np.stack([block, zero, zero, zero]), key).ravel()[:count]


COUNT = 1 << 18
KEYS = [0, 1, 2, 1 << 32, 2**64 - 1, 0x243F6A8885A308D3]


@pytest.mark.parametrize("key", KEYS)
def test_each_bit_is_set_half_the_time(key):
    ones = np.unpackbits(bits_of(key, COUNT).view(np.uint8)).reshape(COUNT, 32).sum(0, dtype=np.int64)
    assert np.abs(ones - COUNT / 2).max() < 5 * np.sqrt(COUNT) / 2


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("key", KEYS)
def test_the_share_kept(rate, key):
    keep = random.kept((COUNT,), key, rate)
    assert abs(keep.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / COUNT)
    by_word = keep.reshape(-1, 4).mean(0)
    assert np.abs(by_word - (1 - rate)).max() < 10 * np.sqrt(rate * (1 - rate) / COUNT)


def correlation(a, b):
    """In standard deviations of what chance gives."""
    return abs(np.corrcoef(a, b)[0, 1]) * np.sqrt(a.size)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 64, 128, 784, 1000, 1024, 4096])
def test_numbers_do_not_know_their_neighbours(lag):
    values = bits_of(3, COUNT).astype(np.float64)
    assert correlation(values[:-lag], values[lag:]) < 5
    keep = random.kept((COUNT,), 3, 0.5)
    assert correlation(keep[:-lag], keep[lag:]) < 5


@pytest.mark.parametrize("change", [1, 2, 1 << 31, 1 << 32, 1 << 63])
def test_keys_do_not_know_each_other(change):
    key = 12345
    first, second = bits_of(key, COUNT), bits_of(key ^ change, COUNT)
    assert correlation(first.astype(np.float64), second.astype(np.float64)) < 5
    changed = np.unpackbits((first ^ second).view(np.uint8)).reshape(COUNT, 32).sum(0, dtype=np.int64)
    assert np.abs(changed - COUNT / 2).max() < 5 * np.sqrt(COUNT) / 2


def test_runs_and_values_are_spread_as_by_chance():
    values = bits_of(9, COUNT)
    for shift in (0, 12, 24):  # chi-squared of each byte, 255 degrees of freedom: mean 255, deviation sqrt(510)
        found = np.bincount((values >> np.uint32(shift)) & np.uint32(255), minlength=256)
        chi = ((found - COUNT / 256) ** 2).sum() / (COUNT / 256)
        assert abs(chi - 255) < 5 * np.sqrt(510)
    keep = random.kept((COUNT,), 9, 0.5)
    runs = 1 + np.count_nonzero(keep[1:] != keep[:-1])
    assert abs(runs - COUNT / 2) < 5 * np.sqrt(COUNT) / 2


def test_kept_is_one_answer_however_it_is_cut(monkeypatch):
    whole = random.kept((1003,), 5, 0.3)
    monkeypatch.setattr(random, "_AT_ONCE", 7)
    assert np.array_equal(random.kept((17, 59), 5, 0.3).ravel(), whole)


@pytest.fixture
def same_threads_after():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def run(x, key, rate):
    out = np.full_like(x, np.nan)
    random.dropout(x, key, rate, out)
    return out


def expected(x, key, rate):
    return np.where(random.kept(x.shape, key, rate), x.astype(np.float64) * (1 / (1 - rate)), 0).astype(x.dtype)


@oracle.needs_native
@pytest.mark.parametrize("variant", NATIVE)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40, deadline=None)
@given(size=st.integers(0, 300), start=st.integers(0, 7), key=st.integers(0, 2**64 - 1), rate=st.floats(0, 0.99))
def test_the_loop_is_the_numpy_form(variant, dtype, size, start, key, rate):
    x = np.random.default_rng(size).standard_normal(start + size).astype(dtype)[start:]
    with kernels.use(variant):
        assert run(x, key, rate).tobytes() == expected(x, key, rate).tobytes()


@oracle.needs_native
@pytest.mark.parametrize("variant", NATIVE)
def test_every_bit_of_a_word_counts(variant):
    size, key = 37, 0xDEADBEEF12345678
    x = np.ones(size)
    with kernels.use(variant):
        for at, word in enumerate(bits_of(key, size).tolist()):
            assert run(x, key, word / 2**32)[at] != 0
            assert run(x, key, (word + 1) / 2**32)[at] == 0


@oracle.needs_native
@pytest.mark.parametrize("variant", NATIVE)
@pytest.mark.parametrize("skew", [0, 1, 2, 3, 5, 6])
@pytest.mark.usefixtures("same_threads_after")
def test_bits_do_not_depend_on_threads(variant, skew):
    x = np.random.default_rng(2).standard_normal(3 * 8192 + skew).astype(np.float32)
    true = expected(x, 77, 0.25).tobytes()
    with kernels.use(variant):
        for threads in (1, 2, 3, 5):  # 3 and 5 cut where no block begins
            kernels.set_num_threads(threads)
            assert run(x, 77, 0.25).tobytes() == true


@oracle.needs_native
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_dropped_is_zero(dtype):
    x = np.tile(np.array([np.nan, np.inf, -np.inf, -1.0], dtype), 16)
    y = run(x, 4, 0.5)
    keep = random.kept(x.shape, 4, 0.5)
    assert (y[~keep].tobytes() == bytes(y[~keep].nbytes)) and not keep.all()
    assert np.array_equal(y[keep], x[keep] * 2, equal_nan=True)
    assert run(x, 4, 1.0).tobytes() == bytes(x.nbytes)
    assert run(x, 4, 0.0).tobytes() == x.tobytes()


def overlapping():
    memory = np.zeros(9)
    return memory[:8], 1, 0.5, memory[1:]


def read_only():
    out = np.zeros(8)
    out.setflags(write=False)
    return np.zeros(8), 1, 0.5, out


@oracle.needs_native
@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: (None, 1, 0.5, np.zeros(8)), TypeError),
        (lambda: (np.zeros(8, np.int64), 1, 0.5, np.zeros(8)), TypeError),
        (lambda: (np.zeros(8), 1, 0.5, np.zeros(8, np.float32)), TypeError),
        (lambda: (np.zeros(8), 1, 0.5, np.zeros(9)), ValueError),
        (lambda: (np.zeros((4, 2)).T, 1, 0.5, np.zeros((2, 4))), ValueError),
        (lambda: (np.zeros(8), 1, -0.1, np.zeros(8)), ValueError),
        (lambda: (np.zeros(8), 1, 1.1, np.zeros(8)), ValueError),
        (lambda: (np.zeros(8), 1, np.nan, np.zeros(8)), ValueError),
        (overlapping, ValueError),
        (read_only, ValueError),
    ],
)
def test_bad_arguments(make, error):
    with pytest.raises(error, match=MESSAGE):
        random.dropout(*make())


@oracle.needs_native
@pytest.mark.parametrize("key", [-1, 2**64, None, 0.5])
def test_a_key_of_another_kind_is_refused(key):
    with pytest.raises(TypeError):
        random.dropout(np.zeros(8), key, 0.5, np.zeros(8))
