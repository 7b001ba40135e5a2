"""Weights count entries more than once, not at all, or as missing; the gradient knows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xhat
from xhat import batch_norm, kernels
from xhat.verify.numeric import complex_step

each_variant = pytest.mark.parametrize("variant", kernels.VARIANTS)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@each_variant
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from([(5, 3), (4, 2, 3), (7, 1), (3, 5, 2, 2), (2, 1)]))
def test_a_weight_is_a_number_of_copies(variant, seed, shape):
    """Statistics, y and parameter gradients are those of the batch in which every sample is repeated."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    weights = rng.integers(0, 4, shape[0])
    weights[:2] += 1
    gamma, beta = rng.standard_normal((2, shape[1]))
    copies = np.repeat(np.arange(shape[0]), weights)
    with kernels.use(variant):
        y, cache = batch_norm.forward(x, gamma, beta, weights=weights)
        repeated, other = batch_norm.forward(x[copies], gamma, beta)
        assert np.allclose(y[copies], repeated, rtol=1e-12, atol=1e-13)
        assert np.allclose(cache.mean, other.mean, rtol=1e-13, atol=1e-15)
        assert np.allclose(cache.var, other.var, rtol=1e-12)
        assert cache.count == other.count == weights.sum() * (x.size / shape[0] / shape[1])
        # every copy passes its share of the gradient: copies of dy that add up to dy
        dy = rng.standard_normal(shape)
        dy[weights == 0] = 0  # what has no copy has no dy there
        share = (dy / np.maximum(weights, 1).reshape(-1, *(1,) * (x.ndim - 1)))[copies]
        g, others = batch_norm.backward(dy, cache), batch_norm.backward(share, other)
        assert np.allclose(g.dgamma, others.dgamma, rtol=1e-11, atol=1e-12)
        assert np.allclose(g.dbeta, others.dbeta, rtol=1e-11, atol=1e-12)
        dx = np.zeros(shape)
        np.add.at(dx, copies, others.dx)
        kept = weights > 0
        assert np.allclose(g.dx[kept], dx[kept], rtol=0, atol=1e-11 * (np.abs(dy).max() * cache.rstd.max() + 1))


@each_variant
@each_dtype
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (3, 4, 7, 9), (130, 17)])
def test_missing_samples_change_nothing_for_the_others(variant, dtype, shape, rng):
    """Padding may hold anything, NaN included; it is as if it were not there."""
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    gamma, beta = rng.standard_normal((2, 4 if shape[1] == 4 else 17)).astype(dtype)
    there = rng.random(shape[0]) < 0.6
    there[:2] = True
    x[~there] = rng.choice([np.nan, np.inf, -np.inf], x[~there].shape)
    with kernels.use(variant):
        y, cache = batch_norm.forward(x, gamma, beta, weights=there)
        g = batch_norm.backward(dy, cache)
        alone, other = batch_norm.forward(x[there], gamma, beta)
        others = batch_norm.backward(dy[there], other)
    tolerance = 8 * np.finfo(dtype).eps
    assert np.abs(y[there] - alone).max() <= tolerance * np.abs(alone).max()
    assert not y[~there].any()
    assert np.abs(g.dx[there] - others.dx).max() <= tolerance * np.abs(others.dx).max()
    assert not g.dx[~there].any()
    assert np.allclose(g.dgamma, others.dgamma, rtol=tolerance, atol=4 * tolerance * np.abs(dy).max())
    assert np.allclose(g.dbeta, others.dbeta, rtol=tolerance, atol=tolerance * np.abs(dy).max())
    assert np.allclose(cache.mean, other.mean, rtol=1e-12, atol=1e-14)
    assert cache.count == other.count


@each_variant
def test_a_finite_entry_of_weight_zero_is_normalized_and_passes_gradient(variant, rng):
    x, dy = rng.standard_normal((2, 5, 2))
    weights = np.array([1.0, 0.0, 2.0, 0.5, 0.0])
    gamma, beta = rng.standard_normal((2, 2))

    def objective(x):
        return (batch_norm.reference_forward(x, gamma, beta, 1e-5, 1, weights)[0] * dy).sum()

    with kernels.use(variant):
        y, cache = batch_norm.forward(x, gamma, beta, weights=weights)
        dx = batch_norm.backward(dy, cache).dx
    x_hat = (x - np.average(x, 0, weights)) / np.sqrt(
        np.average((x - np.average(x, 0, weights)) ** 2, 0, weights) + 1e-5
    )
    assert np.allclose(y, gamma * x_hat + beta, rtol=1e-12, atol=1e-13)
    for index in np.ndindex(x.shape):
        direction = np.zeros(x.shape)
        direction[index] = 1
        assert abs(complex_step(objective, x, direction) - dx[index]) < 1e-13 * np.abs(dx).max() * 10


@each_variant
@each_dtype
def test_offsets_cost_no_digits(variant, dtype, rng):
    offset = {np.float32: 1e6, np.float64: 1e10}[dtype]
    x = (offset + rng.standard_normal((700, 5, 3))).astype(dtype)
    weights = rng.random((700, 3)) * (rng.random((700, 3)) < 0.8)
    x[0] = 10 * offset  # an outlier, where a shift might be taken from
    weights[0] = 0
    wide, w = x.astype(np.longdouble) - offset, weights.astype(np.longdouble)[:, None]  # long double too rounds
    mean = (w * wide).sum((0, 2)) / w.sum()
    centred = wide - mean[:, None]
    var = (w * centred**2).sum((0, 2)) / w.sum()
    true = centred / np.sqrt(var + np.longdouble(1e-5))[:, None]
    with kernels.use(variant):
        y, cache = batch_norm.forward(x, weights=weights)
    tolerance = {np.float32: 1, np.float64: 8}[dtype] * np.finfo(dtype).eps
    assert np.abs((y - true)[1:]).max() <= tolerance * np.abs(true[1:]).max()
    assert np.allclose(cache.var, var.astype(float), rtol=1e-9)


def test_a_scale_of_all_weights_changes_nothing_but_the_count(rng):
    x, weights = rng.standard_normal((6, 3)), rng.random(6)
    y, cache = batch_norm.forward(x, weights=weights)
    for scale in (2.0**-300, 2.0**-40, 2.0**40, 2.0**300):
        other, scaled = batch_norm.forward(x, weights=scale * weights)
        assert np.allclose(other, y, rtol=1e-13, atol=1e-15)
        assert scaled.count == pytest.approx(scale * cache.count)


def test_bool_lists_and_integers_are_weights(rng):
    x = rng.standard_normal((4, 3, 2))
    mask = np.array([[True, False], [True, True], [False, True], [True, True]])
    y, _ = batch_norm.forward(x, weights=mask)
    for same in (mask.astype(int), mask.tolist(), mask.astype(np.float32), np.asfortranarray(mask)):
        assert np.array_equal(batch_norm.forward(x, weights=same)[0], y)
    per_sample, _ = batch_norm.forward(x, weights=[1, 2, 0, 1])
    per_entry, _ = batch_norm.forward(x, weights=[[1, 1], [2, 2], [0, 0], [1, 1]])
    assert np.array_equal(per_sample, per_entry)


@pytest.mark.parametrize("channel_axis", [0, 1, 2, -1])
def test_every_channel_axis(channel_axis, rng):
    x, dy = rng.standard_normal((2, 4, 3, 5))
    weights = rng.random((4, 5))
    y, cache = batch_norm.forward(x, weights=weights)
    moved, moved_dy = (np.moveaxis(v, 1, channel_axis) for v in (x, dy))
    other, other_cache = batch_norm.forward(moved, channel_axis=channel_axis, weights=weights)
    assert np.allclose(np.moveaxis(other, channel_axis, 1), y, rtol=0, atol=1e-14)
    dx = batch_norm.backward(moved_dy, other_cache).dx
    assert np.allclose(np.moveaxis(dx, channel_axis, 1), batch_norm.backward(dy, cache).dx, rtol=0, atol=1e-13)


def test_running_statistics_count_weights(rng):
    x, weights = rng.standard_normal((9, 2)), rng.integers(1, 4, 9)
    stats = xhat.RunningStatistics(2, update_rate=None, unbiased=True)
    for rows in (slice(0, 4), slice(4, 9)):
        stats.update(batch_norm.forward(x[rows], weights=weights[rows])[1])
    copies = np.repeat(x, weights, axis=0)
    assert stats.count == weights.sum()
    assert np.allclose(stats.mean, copies.mean(0), rtol=1e-13)
    assert np.allclose(stats.var, copies.var(0, ddof=1), rtol=1e-13)


def test_layer_takes_weights(rng):
    layer = xhat.BatchNorm(2, dtype=np.float64)
    x = rng.standard_normal((4, 2))
    x[3] = np.nan
    y, cache = layer.forward(x, training=True, weights=[1, 1, 1, 0])
    assert np.isfinite(y).all()
    assert np.isfinite(layer.statistics.mean).all()
    assert np.isfinite(layer.backward(np.ones((4, 2)), cache).dgamma).all()
    predicted, _ = layer.forward(x, weights=[1, 1, 1, 0])
    assert not predicted[3].any()
    assert np.isfinite(predicted).all()


def test_weights_forged_to_nothing_are_refused(rng):
    _, cache = batch_norm.forward(rng.standard_normal((4, 2)), weights=[1, 2, 0, 1])
    with pytest.raises(ValueError, match=r"^batch_norm\.backward: expected cache\.count above 0 for this x, got 0\."):
        batch_norm.backward(np.ones((4, 2)), cache._replace(weights=np.zeros(4), count=0.0))


ADVICE = "Give one weight per sample, or one per entry of batch and positions; 0 takes an entry out of the statistics."
X = np.zeros((4, 3, 2))
WRONG = [
    (lambda: batch_norm.forward(X, weights=np.ones(3)), ValueError,
     f"batch_norm.forward: expected weights of shape (4, 2), got (3,). {ADVICE}"),
    (lambda: batch_norm.forward(X, weights=np.ones((4, 3, 2))), ValueError,
     f"batch_norm.forward: expected weights of shape (4, 2), got (4, 3, 2). {ADVICE}"),
    (lambda: batch_norm.forward(X, weights=[1, 1, -1, 1]), ValueError,
     f"batch_norm.forward: expected weights >= 0 and finite, got -1. {ADVICE}"),
    (lambda: batch_norm.forward(X, weights=[1, np.nan, 1, 1]), ValueError,
     f"batch_norm.forward: expected weights >= 0 and finite, got nan. {ADVICE}"),
    (lambda: batch_norm.forward(X, weights=[1e308] * 4), ValueError,
     f"batch_norm.forward: expected weights >= 0 and finite, got a sum of inf. {ADVICE}"),
    (lambda: batch_norm.forward(X, weights=[5e-324] * 4), ValueError,
     "batch_norm.forward: expected weights with a sum from 1e-100 to 1e+100, got 3.95253e-323. "
     "A common factor changes nothing but the count: take one that brings the largest near 1."),
    (lambda: batch_norm.forward(X, weights=["a"] * 4), TypeError,
     f"batch_norm.forward: expected weights of type float16, bfloat16, float32 or float64 or integer, got <U1. {ADVICE}"),
    (lambda: batch_norm.forward(X, weights=np.ma.ones(4)), TypeError,
     f"batch_norm.forward: expected weights of type float16, bfloat16, float32 or float64 or integer, got a masked array. {ADVICE}"),
    (lambda: batch_norm.forward(X[..., 0], weights=[0, 1, 0, 0]), ValueError,
     "batch_norm.forward: expected at least 2 values of positive weight per channel, got 1 in x of shape (4, 3). "
     "Use a larger batch, batch_norm.apply with fixed statistics, or layer_norm."),
    (lambda: batch_norm.forward(X, weights=np.zeros(4)), ValueError,
     "batch_norm.forward: expected at least 2 values of positive weight per channel, got 0 in x of shape (4, 3, 2). "
     "Use a larger batch, batch_norm.apply with fixed statistics, or layer_norm."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
