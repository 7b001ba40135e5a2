"""Every loss in LOSSES: its gradient, its reference, numbers by hand, types, bad input."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tests.contract import contract

import xhat
from xhat import kernels
from xhat.layers import LOSSES
from xhat.verify.numeric import central_difference, complex_step

CASES = [
    pytest.param(loss, case, id=f"{name}-{i}") for name, loss in LOSSES.items() for i, case in enumerate(loss.cases())
]


@pytest.fixture(autouse=True, params=kernels.VARIANTS)
def in_every_variant(request):
    with kernels.use(request.param):
        yield


each_case = pytest.mark.parametrize(("loss", "case"), CASES)


def judge_gradient(loss, case):
    """The gradient is that of the reference; the value is the reference's."""
    value, got = loss.function(case.predictions, case.targets)
    true_value = loss.reference(case.predictions.astype(np.longdouble), case.targets)
    assert abs(value - true_value) <= 1e-14 * abs(true_value)
    true = np.empty_like(got)
    for index in np.ndindex(got.shape):
        direction = np.zeros(got.shape)
        direction[index] = 1
        true[index] = complex_step(lambda p: loss.reference(p, case.targets), case.predictions, direction)
        rough = central_difference(lambda p: loss.function(p, case.targets)[0], case.predictions, direction)
        assert abs(got[index] - rough) < 1e-8
    size = np.abs(true).max()
    assert size > 1e-3
    error = np.abs(got - true).max()
    assert error <= 1e-14 * size, f"error {error:.1e} beside a gradient of size {size:.1e}"


def judge_reference_gradient(loss, case):
    """The gradient of the function is that of the textbook."""
    _, got = loss.function(case.predictions, case.targets)
    true = loss.reference_gradient(case.predictions.astype(np.longdouble), case.targets)
    size = np.abs(true).max()
    error = np.abs(got - true).max()
    assert error <= 1e-14 * size, f"error {error:.1e} beside a gradient of size {size:.1e}"


def judge_example(loss, case):
    """Numbers worked out by hand come out."""
    if case.loss is None:
        return
    value, got = loss.function(case.predictions, case.targets)
    assert abs(value - case.loss) < 1e-15
    assert abs(loss.reference(case.predictions, case.targets) - case.loss) < 1e-15
    assert np.allclose(got, case.dpredictions, rtol=1e-15, atol=1e-16)
    assert np.allclose(
        loss.reference_gradient(case.predictions, case.targets), case.dpredictions, rtol=1e-15, atol=1e-16
    )
    assert abs(loss.score(case.predictions, case.targets, loss.spread(case.targets)) - case.score) < 1e-15


def judge_softmax(softmax):
    """The probabilities are those of the definition, also where it would overflow."""
    scores = np.random.default_rng(0).normal(0, 3, (4, 5))
    powers = np.exp(scores.astype(np.longdouble))
    for shift in (0.0, 1e4, -1e4):
        got = softmax(scores + shift)
        assert np.abs(got - powers / powers.sum(-1, keepdims=True)).max() < 1e-11
    assert np.abs(softmax(scores).sum(-1) - 1).max() < 1e-15


@given(
    arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-1e6, 1e6, width=32)),
)
def test_softmax_keeps_the_order(scores):
    chances = xhat.softmax(scores)
    assert np.allclose(chances.sum(1), 1.0, rtol=1e-12)
    assert ((chances >= 0) & (chances <= 1)).all()
    for row, chance in zip(scores, chances, strict=True):
        assert (np.diff(chance[np.argsort(row)]) >= 0).all()


def test_softmax():
    judge_softmax(xhat.softmax)
    assert xhat.softmax(np.zeros((2, 3), np.float32)).dtype == np.float32
    assert xhat.softmax(np.zeros((0, 3))).shape == (0, 3)


LOSS_JUDGEMENTS = (judge_example, judge_gradient, judge_reference_gradient)


@each_case
def test_gradient_is_that_of_the_reference(loss, case):
    judge_gradient(loss, case)


@each_case
def test_gradient_is_that_of_the_textbook(loss, case):
    judge_reference_gradient(loss, case)


@each_case
def test_numbers_worked_out_by_hand_come_out(loss, case):
    judge_example(loss, case)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_an_example_worked_out_by_hand(name):
    assert any(case.loss is not None for case in LOSSES[name].cases())


@each_case
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_type_is_kept_and_layout_does_not_matter(loss, case, dtype):
    predictions = case.predictions.astype(dtype)
    kept = predictions.copy()
    value, got = loss.function(predictions, case.targets)
    true_value, true = loss.function(predictions.astype(np.float64), case.targets)
    assert isinstance(value, float)
    assert value == pytest.approx(true_value, rel=1e-15)
    assert got.dtype == predictions.dtype
    assert np.abs(got.astype(float) - true).max() <= contract.TOLERANCE[np.dtype(dtype)] * np.abs(true).max()
    for _, other in contract.layouts(predictions):
        other_value, other_got = loss.function(other, case.targets)
        assert other_value == value
        assert np.array_equal(other_got, got)
    assert np.array_equal(predictions, kept)


@each_case
def test_bad_input_is_refused(loss, case):
    p, t = case.predictions, case.targets
    for bad in (p.astype(int), p.astype(object), p.astype(complex), np.ma.masked_array(p), None, "x"):
        contract.assert_refused(lambda bad=bad: loss.function(bad, t))
    for bad in (
        t[:-1] if len(t) > 1 else t[None],
        t.astype(object),
        t.astype(complex),
        np.full(t.shape, "a"),
        None,
    ):
        contract.assert_refused(lambda bad=bad: loss.function(p, bad))


@pytest.mark.parametrize("name", LOSSES)
def test_empty_batch_is_zero(name):
    case = next(iter(LOSSES[name].cases()))
    value, got = LOSSES[name].function(case.predictions[:0], case.targets[:0])
    assert value == 0.0
    assert got.shape == case.predictions[:0].shape


LABEL_PROBES = [[-1, 0], [0, 4], [0, 2**40], [0.0, 1.0], [True, False]]


@pytest.mark.parametrize("labels", LABEL_PROBES, ids=str)
def test_labels_out_of_range_are_refused(labels):
    contract.assert_refused(lambda: LOSSES["softmax_cross_entropy"].function(np.zeros((2, 4)), np.array(labels)))


def test_label_message():
    with pytest.raises(ValueError, match=r"^softmax_cross_entropy: expected labels from 0 to 3, got -1\. Number the"):
        LOSSES["softmax_cross_entropy"].function(np.zeros((1, 4)), np.array([-1]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gap", [0.0, 0.5, 5.0, 17.0, 40.0, 100.0, 700.0, -17.0, -1000.0])
def test_confident_rows_keep_all_digits(dtype, gap):
    """The loss and every gradient entry, also where p_label rounds to 1."""
    scores = np.array([[gap, 0.0, -1.0], [0.3, gap, 0.2]], dtype)
    labels = np.array([0, 1])
    value, got = LOSSES["softmax_cross_entropy"].function(scores, labels)
    # computed in float64: only there does rounding a difference of scores count
    tolerance = np.finfo(dtype).eps * (2 + abs(gap) * (dtype == np.float64))
    with mpmath.workdps(700):
        true_value = mpmath.mpf(0)
        for row, label, dscores in zip(scores.tolist(), labels.tolist(), got, strict=True):
            powers = [mpmath.exp(mpmath.mpf(s)) for s in row]
            total = mpmath.fsum(powers)
            true_value += mpmath.log(total / powers[label]) / 2
            for j, power in enumerate(powers):
                others = total - power
                true = -others / total / 2 if j == label else power / total / 2
                if abs(true) > float(np.finfo(dtype).tiny):
                    assert abs(float(dscores[j]) - true) <= tolerance * abs(true)
        assert abs(value - true_value) <= 1e-15 * (2 + abs(gap)) * true_value
    assert abs(got.sum(1)).max() <= np.finfo(dtype).eps


def test_large_scores_stay_finite():
    scores = np.array([[1000.0, -1000.0], [1000.0, -1000.0]], np.float32)
    value, got = LOSSES["softmax_cross_entropy"].function(scores, np.array([0, 1]))
    assert value == 1000.0
    assert np.array_equal(got, [[0, 0], [0.5, -0.5]])


def test_hinge_loss_at_its_corner_passes_nothing_on():
    value, got = xhat.hinge_loss(np.array([[2.0, 1.0, 0.5], [3.0, 3.0, 2.0]]), [0, 1])
    assert value == 0.5  # leads of exactly 1 cost nothing; one that is missing costs 1 of two samples
    assert np.array_equal(got, [[0, 0, 0], [0.5, -0.5, 0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hinge_loss_stays_finite_and_shows_what_is_not_a_number(dtype):
    scores = np.array([[1000.0, -1000.0], [1000.0, -1000.0]], dtype)
    value, got = xhat.hinge_loss(scores, [0, 1])
    assert value == 2001 / 2
    assert np.array_equal(got, [[0, 0], [0.5, -0.5]])
    scores[0, 0] = np.nan
    assert np.isnan(xhat.hinge_loss(scores, [0, 1])[0])
