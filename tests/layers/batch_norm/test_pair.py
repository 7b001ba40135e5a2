import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import xhat
from xhat import batch_norm, kernels

each_variant = pytest.mark.parametrize("variant", kernels.VARIANTS)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@each_variant
def test_every_channel_axis_is_the_same_operation(variant, rng):
    x, dy = rng.standard_normal((2, 6, 3, 4, 5))
    gamma, beta = rng.standard_normal((2, 3))
    with kernels.use(variant):
        y, cache = batch_norm.forward(x, gamma, beta)
        g = batch_norm.backward(dy, cache)
        for axis in (0, 2, 3, -1):
            moved, moved_dy = (np.moveaxis(v, 1, axis) for v in (x, dy))
            other, other_cache = batch_norm.forward(moved, gamma, beta, channel_axis=axis)
            others = batch_norm.backward(moved_dy, other_cache)
            assert np.allclose(np.moveaxis(other, axis, 1), y, rtol=0, atol=1e-14)
            assert np.allclose(np.moveaxis(others.dx, axis, 1), g.dx, rtol=0, atol=1e-14)
            assert np.allclose(others.dgamma, g.dgamma, rtol=1e-13)
            assert np.allclose(others.dbeta, g.dbeta, rtol=1e-13)


@each_variant
def test_nan_and_inf_stay_in_their_channel(variant, rng):
    x, dy = rng.standard_normal((2, 9, 4)).astype(np.float32)
    clean, cache = batch_norm.forward(x)
    clean_dx = batch_norm.backward(dy, cache).dx
    x[2, 1], x[3, 2], dy[4, 3] = np.nan, np.inf, np.nan
    with kernels.use(variant):
        y, cache = batch_norm.forward(x)
        dx = batch_norm.backward(dy, cache).dx
    assert np.isnan(y[:, 1]).all()
    assert not np.isfinite(y[:, 2]).any()
    assert np.allclose(y[:, [0, 3]], clean[:, [0, 3]])
    assert np.allclose(dx[:, 0], clean_dx[:, 0], atol=1e-6)
    assert np.isnan(dx[:, 1:]).all()


@each_variant
@settings(max_examples=60, deadline=None)
@given(
    x=hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=6),
                 elements=st.floats(-100, 100)),
    shift=st.floats(-1e6, 1e6),
    scale=st.sampled_from([0.25, 2.0, -4.0, 1024.0]),
)  # fmt: skip
def test_invariances(variant, x, shift, scale):
    """x_hat has mean 0, is bounded by the root of the count, and ignores shift and scale of x."""
    count = x.size // x.shape[1]
    if count < 2:
        return
    with kernels.use(variant):
        y, cache = batch_norm.forward(x, eps=1e-3)
        axes = tuple(i for i in range(x.ndim) if i != 1)
        assert np.abs(y.mean(axes)).max() < 1e-12 * count
        assert np.abs(y).max() <= np.sqrt(count)
        scaled, _ = batch_norm.forward(scale * x, eps=1e-3 * scale**2)
        assert np.allclose(scaled, np.sign(scale) * y, rtol=1e-12, atol=1e-12)
        shifted, other = batch_norm.forward(x + shift, eps=1e-3)
        assert np.allclose(shifted, y, rtol=0, atol=1e-13 * (1 + abs(shift)) * cache.rstd.max() + 1e-13)
        assert np.allclose(other.mean, cache.mean + shift, rtol=1e-14, atol=1e-9)
        dx = batch_norm.backward(np.ones_like(x), cache).dx
        assert np.abs(dx).max() < 1e-11 * cache.rstd.max() * count  # ones cannot move x_hat


@each_variant
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_offsets_cost_no_digits_where_they_cost_others_all(variant, offset, rng):
    x = (offset + rng.standard_normal((512, 8))).astype(np.float32)
    wide = x.astype(np.longdouble)
    true = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + np.longdouble(1e-5))
    with kernels.use(variant):
        y, _ = batch_norm.forward(x)
    assert np.abs(y - true).max() <= 1.2e-7 * np.abs(true).max()


def test_fixed_statistics_pass_no_gradient_through_the_statistics(rng):
    x, dy = rng.standard_normal((2, 5, 3))
    mean, var, gamma = rng.standard_normal(3), rng.random(3), rng.standard_normal(3)
    y, cache = batch_norm.apply(x, gamma, None, mean, var, eps=1e-3)
    assert np.allclose(y, gamma * (x - mean) / np.sqrt(var + 1e-3), rtol=1e-14)
    g = batch_norm.backward(dy, cache)
    assert np.allclose(g.dx, dy * gamma / np.sqrt(var + 1e-3), rtol=1e-14)
    assert g.dbeta is None


@pytest.mark.parametrize("sizes", [[7, 1, 30, 2], [40]])
@pytest.mark.parametrize("unbiased", [False, True])
def test_cumulative_statistics_are_those_of_all_data(sizes, unbiased, rng):
    x = 1e4 + rng.standard_normal((sum(sizes), 3, 2))
    stats = xhat.RunningStatistics(3, update_rate=None, unbiased=unbiased)
    for part in np.split(x, np.cumsum(sizes)[:-1]):
        stats.update(batch_norm.forward(part)[1])
    assert np.allclose(stats.mean, x.mean((0, 2)), rtol=1e-15)
    assert np.allclose(stats.var, x.var((0, 2), ddof=int(unbiased)), rtol=1e-11)
    assert stats.count == sum(sizes) * 2


def test_exponential_statistics_by_hand():
    stats = xhat.RunningStatistics(1, update_rate=0.25)
    stats.update(batch_norm.forward(np.array([[2.0], [6.0]]))[1])  # mean 4, variance 4
    assert (stats.mean[0], stats.var[0]) == (1.0, 1.75)
    stats.update(batch_norm.forward(np.array([[8.0], [10.0]]))[1])  # mean 9, variance 1
    assert (stats.mean[0], stats.var[0]) == (3.0, 1.5625)
    unbiased = xhat.RunningStatistics(1, update_rate=0.25, unbiased=True)
    unbiased.update(batch_norm.forward(np.array([[2.0], [6.0]]))[1])  # variance 8
    assert unbiased.var[0] == 2.75


def test_running_statistics_never_take_in_what_is_not_finite():
    good, bad = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, np.nan], [3.0, 4.0]])
    stats = xhat.RunningStatistics(2)
    stats.update(batch_norm.forward(good)[1])
    kept = stats.mean.copy(), stats.var.copy(), float(stats.count)
    with pytest.raises(ValueError) as caught:
        stats.update(batch_norm.forward(bad)[1])
    assert str(caught.value) == (
        "RunningStatistics.update: expected finite batch statistics, got NaN or Inf in channel 1. Look for NaN in the "
        'data, values beyond 1e154 or a learning rate that is too high; nonfinite="skip" leaves such batches out.'
    )
    assert np.array_equal(stats.mean, kept[0])
    assert np.array_equal(stats.var, kept[1])
    assert stats.count == kept[2]
    skipping = xhat.RunningStatistics(2, nonfinite="skip")
    for batch in (good, bad, bad):
        skipping.update(batch_norm.forward(batch)[1])
    assert skipping.skipped == 2
    assert np.array_equal(skipping.mean, kept[0])


def test_an_empty_batch_teaches_nothing():
    stats = xhat.RunningStatistics(2, update_rate=None)
    stats.update(batch_norm.forward(np.zeros((0, 2)))[1])
    assert (stats.count, *stats.mean, *stats.var) == (0, 0, 0, 1, 1)


def test_layer_learns_in_training_only(rng):
    layer = xhat.BatchNorm(3)
    layer.forward(rng.standard_normal((8, 3)))
    assert not layer.statistics.mean.any()
    layer.forward(5 + rng.standard_normal((8, 3)), training=True)
    assert (layer.statistics.mean > 0.3).all()
    assert layer.state["running_mean"] is layer.statistics.mean


X = np.zeros((4, 3))
WRONG = [
    (lambda: batch_norm.forward(np.zeros((4, 3), int)), TypeError,
     "batch_norm.forward: expected x of type float16, bfloat16, float32 or float64, got int64. Convert it with x.astype(numpy.float32)."),
    (lambda: batch_norm.forward(np.ma.masked_array(X)), TypeError,
     "batch_norm.forward: expected x without a mask, got a masked array. Fill the gaps first, for example with x.filled(0)."),
    (lambda: batch_norm.forward(X, gamma=np.ones(4)), ValueError,
     "batch_norm.forward: expected gamma of shape (3,), got (4,). The channel axis 1 of x has size 3; choose another with channel_axis."),
    (lambda: batch_norm.forward(X, beta="abc"), TypeError,
     "batch_norm.forward: expected beta of type float16, bfloat16, float32 or float64 or integer, got <U3. The channel axis 1 of x has size 3; choose another with channel_axis."),
    (lambda: batch_norm.forward(X, channel_axis=2), ValueError,
     "batch_norm.forward: expected channel_axis from -2 to 1 for an x of 2 axes, got 2. Count the axes of x from 0."),
    (lambda: batch_norm.forward(X, channel_axis="C"), TypeError,
     "batch_norm.forward: expected channel_axis as an integer, got str. Count the axes of x from 0."),
    (lambda: batch_norm.forward(X, eps=-1), ValueError,
     "batch_norm.forward: expected eps >= 0 and finite, got -1. The eps is added to a variance (unit of x squared); 1e-5 is usual."),
    (lambda: batch_norm.forward(X, eps=float("nan")), ValueError,
     "batch_norm.forward: expected eps >= 0 and finite, got nan. The eps is added to a variance (unit of x squared); 1e-5 is usual."),
    (lambda: batch_norm.forward(X, eps=True), TypeError,
     "batch_norm.forward: expected eps as a number, got bool. The eps is added to a variance (unit of x squared); 1e-5 is usual."),
    (lambda: batch_norm.forward(X[:1]), ValueError,
     "batch_norm.forward: expected at least 2 values per channel, got 1 in x of shape (1, 3). Use a larger batch, batch_norm.apply with fixed statistics, or layer_norm."),
    (lambda: batch_norm.forward(X, out=X), ValueError,
     "batch_norm.forward: expected out apart from the inputs, got memory that overlaps one. Give it memory of its own."),
    (lambda: batch_norm.apply(X, None, None, np.zeros(3), -np.ones(3)), ValueError,
     "batch_norm.apply: expected finite mean and var >= 0, got mean 0 and var -1 in channel 0. Give statistics with one finite entry per channel and no negative variance."),
    (lambda: batch_norm.apply(X, None, None, np.zeros(3), np.array([1, np.inf, 1])), ValueError,
     "batch_norm.apply: expected finite mean and var >= 0, got mean 0 and var inf in channel 1. Give statistics with one finite entry per channel and no negative variance."),
    (lambda: batch_norm.backward(np.zeros((4, 2)), batch_norm.forward(X)[1]), ValueError,
     "batch_norm.backward: expected dy of shape (4, 3), got (4, 2). Pass on the gradient of the output, which has the output's shape."),
    (lambda: batch_norm.backward(X, xhat.layer_norm.forward(X)[1]), TypeError,
     "batch_norm.backward: expected a cache of type batch_norm.Cache or VirtualCache or RenormCache or FixedCache, got layer_norm.Cache. Pass on the cache that forward returned."),
    (lambda: batch_norm.backward(X, batch_norm.forward(X)[1]._replace(rstd=np.ones(2))), ValueError,
     "batch_norm.backward: expected cache.rstd of shape (3,), got (2,). Pass on the cache that forward returned."),
    (lambda: xhat.RunningStatistics(3).update(batch_norm.apply(X, None, None, np.zeros(3), np.ones(3))[1]), TypeError,
     "RunningStatistics.update: expected a cache of type batch_norm.Cache or VirtualCache or RenormCache or Moments, got batch_norm.FixedCache. Pass on the cache that forward returned."),
    (lambda: xhat.RunningStatistics(2).update(batch_norm.forward(X)[1]), ValueError,
     "RunningStatistics.update: expected cache.mean of shape (2,), got (3,). These statistics have 2 channels; pass on the cache that forward returned."),
    (lambda: xhat.RunningStatistics(3, update_rate=1.5), ValueError,
     "RunningStatistics: expected update_rate >= 0 and at most 1, got 1.5. The update_rate is the share of the new batch; None averages over everything seen."),
    (lambda: xhat.BatchNorm(0), ValueError,
     "BatchNorm: expected channels >= 1, got 0. Give the number of channels of x."),
    (lambda: xhat.BatchNorm(3, channel_axis=1.5), TypeError,
     "BatchNorm: expected channel_axis as an integer, got float. Count the axes of x from 0."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
