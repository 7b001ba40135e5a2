"""Softmax rows against many digits, against the NumPy code where NaN and Inf occur, and bit for bit; bad arguments."""

import re
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels import oracle
from tests.kernels.oracle import DTYPES

import xhat
from xhat import kernels
from xhat.kernels import softmax

pytestmark = oracle.needs_native

NATIVE = [name for name in kernels.VARIANTS if name != "reference"]
MESSAGE = r"^softmax(_cross_entropy)?: expected .+, got .+\. [A-Z].+\.$"
HEADER = Path(__file__).parents[2] / "csrc" / "softmax.hpp"
EPS = float(np.finfo(np.float64).eps)
CLOSE = {np.dtype(np.float32): 1e-7, np.dtype(np.float64): 8 * EPS}


@pytest.fixture(autouse=True)
def same_threads_after():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def coefficients(function, low, high, count):
    """The polynomial of `count` coefficients that meets the function at Chebyshev's nodes, from 60 digits."""
    with mpmath.workdps(60):
        middle, half = (low() + high()) / 2, (high() - low()) / 2
        nodes = [middle + half * mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
        powers = mpmath.matrix([[node**j for j in range(count)] for node in nodes])
        return [float(c) for c in mpmath.lu_solve(powers, mpmath.matrix([function(node) for node in nodes]))]


def exp_rest(r):
    return (mpmath.exp(r) - 1 - r) / r**2


def log_rest(z):
    s = mpmath.sqrt(z)
    return (mpmath.log((1 + s) / (1 - s)) - 2 * s) / s**3


def largest_s():
    return (mpmath.sqrt(2) - 1) / (mpmath.sqrt(2) + 1)


@pytest.mark.parametrize(
    ("name", "function", "low", "high"),
    [
        ("kExp", exp_rest, lambda: -mpmath.log(2) / 2, lambda: mpmath.log(2) / 2),
        ("kLog", log_rest, lambda: mpmath.mpf(0), lambda: largest_s() ** 2 * mpmath.mpf("1.0001")),
    ],
)
def test_the_coefficients_are_the_computed_ones(name, function, low, high):
    found = re.search(rf"{name}\[\] = {{([^}}]*)}}", HEADER.read_text())
    assert found is not None
    written = [float.fromhex(number) for number in found[1].replace("\n", " ").split(",")]
    assert written == coefficients(function, low, high, len(written))


def run(scores, labels):
    dscores = np.full_like(scores, np.nan)
    losses = softmax.cross_entropy(scores, np.asarray(labels, np.int64), dscores)
    return losses, dscores


def shares_of(scores):
    out = np.full_like(scores, np.nan)
    softmax.softmax(scores, out)
    return out


def true_rows(scores, labels):
    """Losses and gradients with 60 digits."""
    losses, gradients = [], []
    with mpmath.workdps(60):
        for row, label in zip(scores.tolist(), labels, strict=True):
            top = max(row)
            shares = [mpmath.exp(mpmath.mpf(s) - top) for s in row]
            others = mpmath.fsum(share for j, share in enumerate(shares) if j != label)
            total = others + shares[label]
            losses.append(
                top - mpmath.mpf(row[label]) + mpmath.log(total) if row[label] < top else mpmath.log1p(others)
            )
            gradients.append(
                [(-others if j == label else share) / total / len(scores) for j, share in enumerate(shares)]
            )
    return losses, gradients


def ulps(got, true):
    """How far a number is from the true one, in units of the true one's last place."""
    spacing = float(np.spacing(np.abs(type(got)(true)))) if true else 1.0
    return float(abs(mpmath.mpf(float(got)) - true) / spacing)


def test_exp_is_within_two_ulp():
    """Far below the top, the loss of the leading class is exp(-gap) to the last digit."""
    rng = np.random.default_rng(0)
    gaps = np.concatenate(
        [rng.uniform(40, 708, 3000), np.arange(58, 1021) * np.log(2) * (1 + EPS), np.arange(40.0, 745)]
    )
    losses, _ = run(np.stack([np.zeros_like(gaps), -gaps], 1), np.zeros(gaps.size))
    with mpmath.workdps(40):
        worst = max(ulps(got, mpmath.exp(-mpmath.mpf(gap))) for got, gap in zip(losses, gaps.tolist(), strict=True))
    assert worst <= 2, worst
    far = np.array([[0.0, -745.2], [0.0, -746.0], [0.0, -1e308], [0.0, -np.inf]])
    assert run(far, [0, 0, 0, 0])[0].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_log1p_is_within_two_ulp():
    """C equal scores cost log(C)."""
    rng = np.random.default_rng(0)
    counts = [*range(2, 400), *rng.integers(400, 30_000, 100).tolist(), 100_000]
    with mpmath.workdps(40):
        worst = max(ulps(run(np.zeros((1, n)), [0])[0][0], mpmath.log(n)) for n in counts)
    assert worst <= 2, worst


def test_both_together_are_within_four_ulp():
    gaps = np.random.default_rng(0).uniform(0, 40, 3000)
    losses, _ = run(np.stack([np.zeros_like(gaps), -gaps], 1), np.zeros(gaps.size))
    with mpmath.workdps(40):
        true = [mpmath.log1p(mpmath.exp(-mpmath.mpf(gap))) for gap in gaps.tolist()]
    assert max(ulps(got, want) for got, want in zip(losses, true, strict=True)) <= 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", [1e-3, 1.0, 10.0, 60.0])
@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (3, 2), (9, 7), (8, 8), (7, 10), (5, 17), (2, 101)])
def test_every_number_is_right(dtype, spread, rows, classes):
    rng = np.random.default_rng(classes)
    scores = rng.normal(0, spread, (rows, classes)).astype(dtype)
    labels = rng.integers(0, classes, rows)
    labels[0] = scores[0].argmax()  # a confident row
    losses, gradients = true_rows(scores, labels)
    got, dscores = run(scores, labels)
    for i in range(rows):
        assert abs(got[i] - losses[i]) <= 8 * EPS * abs(losses[i])
        for j in range(classes):
            true = gradients[i][j]
            if abs(true) > np.finfo(dtype).tiny:
                assert abs(mpmath.mpf(float(dscores[i, j])) - true) <= CLOSE[dtype] * abs(true)
            else:
                assert abs(mpmath.mpf(float(dscores[i, j])) - true) <= np.finfo(dtype).smallest_subnormal
    shares = np.exp(scores.astype(np.longdouble) - scores.max(1, keepdims=True))
    assert np.allclose(shares_of(scores), shares / shares.sum(1, keepdims=True), rtol=CLOSE[dtype], atol=1e-40)


SPECIAL = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 1000.0, -1000.0, np.inf, -np.inf, np.nan, 1e308, -1e308, 5e-324, -740.0]
)


@st.composite
def special_rows(draw):
    rows, classes = draw(st.integers(1, 4)), draw(st.integers(1, 19))
    quiet = draw(st.booleans())
    number = st.floats(-5, 5) if quiet else SPECIAL
    scores = np.array([[draw(number) for _ in range(classes)] for _ in range(rows)])
    if quiet:
        scores[draw(st.integers(0, rows - 1)), draw(st.integers(0, classes - 1))] = draw(SPECIAL)
    return scores, np.array([draw(st.integers(0, classes - 1)) for _ in range(rows)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", NATIVE)
@settings(max_examples=60, deadline=None)
@given(case=special_rows())
def test_nan_and_inf_as_without_kernels(variant, dtype, case):
    scores, labels = case
    with np.errstate(all="ignore"):
        scores = scores.astype(dtype)
    results = []
    for name in (variant, "reference"):
        with kernels.use(name):
            results.append([*xhat.softmax_cross_entropy(scores, labels), xhat.softmax(scores)])
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=4 * CLOSE[dtype], atol=float(np.finfo(dtype).smallest_subnormal))


def scores_for_bits(classes, dtype):
    rng = np.random.default_rng(classes)
    rows = max(3, 20_000 // classes)
    return rng.normal(0, 20, (rows, classes)).astype(dtype), rng.integers(0, classes, rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 3, 10, 64, 1000, 10_007])
def test_bits_depend_on_no_variant_thread_or_neighbour(classes, dtype):
    scores, labels = scores_for_bits(classes, dtype)
    losses, dscores = run(scores, labels)
    shares = shares_of(scores)
    for variant in NATIVE:
        with kernels.use(variant):
            for threads in (1, 2, 3):
                kernels.set_num_threads(threads)
                again, dagain = run(scores, labels)
                assert again.tobytes() == losses.tobytes()
                assert dagain.tobytes() == dscores.tobytes()
                assert shares_of(scores).tobytes() == shares.tobytes()
    assert run(scores[1:2], labels[1:2])[0].tobytes() == losses[1:2].tobytes()
    assert shares_of(scores[1:2]).tobytes() == shares[1:2].tobytes()


def test_the_last_columns_may_lie_at_the_end_of_memory():
    """A row of fewer columns than lanes, or of some more, reads and writes nothing beside it."""
    for classes in range(1, 20):
        memory = np.full((3, classes), 1e30)
        memory[1] = np.arange(classes)
        out = np.full((3, classes), 7.0)
        softmax.softmax(memory[1:2], out[1:2])
        assert (out[[0, 2]] == 7).all()
        assert abs(out[1].sum() - 1) < 1e-15


def test_no_rows_and_no_classes():
    assert run(np.zeros((0, 3)), [])[0].shape == (0,)
    assert shares_of(np.zeros((3, 0))).shape == (3, 0)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int32, np.uint64, ">i4"])
def test_labels_of_any_integer_type(kind):
    scores = np.random.default_rng(0).standard_normal((2, 3, 4), np.float32)
    labels = np.array([[0, 3, 1], [2, 2, 0]])
    loss, dscores = xhat.softmax_cross_entropy(scores, labels)
    again, dagain = xhat.softmax_cross_entropy(scores, labels.astype(kind))
    assert again == loss
    assert np.array_equal(dagain, dscores)


def overlapping():
    memory = np.zeros(13)
    return memory[:12].reshape(3, 4), np.zeros(3, np.int64), memory[1:].reshape(3, 4)


def read_only():
    out = np.zeros((3, 4))
    out.setflags(write=False)
    return np.zeros((3, 4)), np.zeros(3, np.int64), out


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: (np.zeros((3, 4)), np.zeros(3, np.int32), np.zeros((3, 4))), TypeError),
        (lambda: (np.zeros((3, 4)), np.zeros(3), np.zeros((3, 4))), TypeError),
        (lambda: (np.zeros((3, 4)), np.zeros(2, np.int64), np.zeros((3, 4))), ValueError),
        (lambda: (np.zeros((3, 4)), np.zeros((3, 1), np.int64), np.zeros((3, 4))), ValueError),
        (lambda: (np.zeros((3, 4)), np.array([0, 4, 0]), np.zeros((3, 4))), ValueError),
        (lambda: (np.zeros((3, 4)), np.array([0, -1, 0]), np.zeros((3, 4))), ValueError),
        (lambda: (np.zeros((3, 4)), np.array([0, 2**62, 0]), np.zeros((3, 4))), ValueError),
        (lambda: (np.zeros((3, 0)), np.zeros(3, np.int64), np.zeros((3, 0))), ValueError),
        (lambda: (np.zeros((3, 4)), np.zeros(3, np.int64), np.zeros((4, 3))), ValueError),
        (lambda: (np.zeros((3, 4)), np.zeros(3, np.int64), np.zeros((3, 4), np.float32)), TypeError),
        (lambda: (np.zeros((4, 3)).T, np.zeros(3, np.int64), np.zeros((3, 4))), ValueError),
        (lambda: (np.zeros((3, 4, 1)), np.zeros(3, np.int64), np.zeros((3, 4, 1))), ValueError),
        (overlapping, ValueError),
        (read_only, ValueError),
    ],
)
def test_bad_arguments(make, error):
    scores, labels, out = make()
    before = out.copy()
    with pytest.raises(error, match=MESSAGE):
        softmax.cross_entropy(scores, labels, out)
    assert np.array_equal(out, before)


@pytest.mark.parametrize("out", [None, np.zeros((3, 5)), np.zeros((3, 4), np.float32)])
def test_bad_outputs_of_softmax(out):
    with pytest.raises((TypeError, ValueError), match=MESSAGE):
        softmax.softmax(np.zeros((3, 4)), out)
