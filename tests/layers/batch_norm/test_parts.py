"""A batch in parts: merged moments and sums give what the whole batch gives."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xhat
from xhat import affine, batch_norm, kernels, relu, squared_error

each_variant = pytest.mark.parametrize("variant", kernels.VARIANTS)


def merged(parts):
    return functools.reduce(lambda one, other: one.merge(other), parts)


@each_variant
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 9), max_size=4),
    positions=st.sampled_from([(), (3,), (2, 5)]),
    weighted=st.booleans(),
    offset=st.sampled_from([0.0, 1e6]),
    dtype=st.sampled_from([np.float64, np.float32, np.float16]),
)
def test_parts_give_what_the_whole_gives(variant, seed, cuts, positions, weighted, offset, dtype):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, 9, 3, *positions))
    x, dy = ((offset if dtype != np.float16 else 0) + x).astype(dtype), dy.astype(dtype)
    gamma, beta = rng.standard_normal((2, 3))
    weights = rng.random((9, *positions)) if weighted else None
    cuts = sorted(cuts)  # some parts are empty, or have one sample

    def split(values):
        return np.split(values, cuts) if values is not None else [None] * (len(cuts) + 1)

    with kernels.use(variant):
        y, cache = batch_norm.forward(x, gamma, beta, weights=weights)
        g = batch_norm.backward(dy, cache)
        moments = merged([batch_norm.moments(x, weights=w) for x, w in zip(split(x), split(weights), strict=True)])
        results = [
            batch_norm.forward(x, gamma, beta, weights=w, moments=moments)
            for x, w in zip(split(x), split(weights), strict=True)
        ]
        caches = [part for _, part in results]
        sums = merged([batch_norm.sums(d, part) for d, part in zip(split(dy), caches, strict=True)])
        grads = [batch_norm.backward(d, part, sums=sums) for d, part in zip(split(dy), caches, strict=True)]
    eps = float(np.finfo(dtype).eps)
    assert moments.count == pytest.approx(cache.count, rel=1e-14)
    assert np.allclose(moments.mean + moments.mean_low, cache.mean + cache.mean_low, rtol=1e-15, atol=1e-15)
    assert np.allclose(moments.squares / moments.count, cache.var, rtol=1e-10)
    parts_y = np.concatenate([part for part, _ in results])
    assert parts_y.dtype == dtype
    assert np.abs(parts_y - y).max() <= 8 * eps * np.abs(y).max() + 1e-10
    dx = np.concatenate([part.dx for part in grads])
    assert np.abs(dx - g.dx).max() <= 8 * eps * np.abs(g.dx).max() + 1e-10
    digits = 1e-9 if dtype == np.float64 else eps / 10  # an offset of 1e6 is kept in one number for float32
    assert np.allclose(sum(part.dgamma for part in grads), g.dgamma, rtol=digits, atol=digits)
    assert np.allclose(sum(part.dbeta for part in grads), g.dbeta, rtol=1e-9, atol=1e-10)


def judge_parts():
    """Two parts of a small batch, to the last digits."""
    rng = np.random.default_rng(1)
    x, dy = 1e8 + rng.standard_normal((7, 2)), rng.standard_normal((7, 2))
    gamma, beta, weights = *rng.standard_normal((2, 2)), rng.random(7)
    y, cache = batch_norm.reference_forward(*(v.astype(np.longdouble) for v in (x, gamma, beta)), 1e-5, 1, weights)
    true = batch_norm.reference_backward(dy.astype(np.longdouble), cache)
    parts = [slice(0, 3), slice(3, 7)]
    moments = merged([batch_norm.moments(x[part], weights=weights[part]) for part in parts])
    results = [batch_norm.forward(x[part], gamma, beta, weights=weights[part], moments=moments) for part in parts]
    sums = merged([batch_norm.sums(dy[part], cache) for part, (_, cache) in zip(parts, results, strict=True)])
    grads = [batch_norm.backward(dy[part], cache, sums=sums) for part, (_, cache) in zip(parts, results, strict=True)]
    got = np.concatenate([y for y, _ in results]), np.concatenate([g.dx for g in grads]), sums.dgamma, sums.dbeta
    for values, wanted in zip(got, (y, *true), strict=True):
        assert np.abs(values - wanted).max() <= 1e-14 * np.abs(wanted).max()
    assert np.allclose(sum(g.dgamma for g in grads), sums.dgamma, rtol=1e-14)


@each_variant
def test_two_parts(variant):
    with kernels.use(variant):
        judge_parts()


@pytest.mark.parametrize("variant", kernels.VARIANTS[-1:])
def test_merging_keeps_the_digits_of_an_offset(variant):
    """float64 data at 1e12: merged in many parts, in any order, the moments are those of exact arithmetic."""
    rng = np.random.default_rng(0)
    x = 1e12 + rng.standard_normal((1000, 2))
    wide = x.astype(np.longdouble)
    with kernels.use(variant):
        parts = [batch_norm.moments(part) for part in np.split(x, 50)]
    for order in (parts, parts[::-1], parts[::2] + parts[1::2]):
        moments = merged(order)
        mean = moments.mean.astype(np.longdouble) + moments.mean_low
        assert np.abs(mean - wide.mean(0)).max() < 1e-7  # long double itself has 1e12 * 5e-20 * sqrt(1000)
        assert np.abs(moments.squares / 1000 / wide.var(0) - 1).max() < 1e-9


def test_micro_batches_give_the_gradients_of_the_big_batch():
    """A network by hand: every layer goes over all micro-batches before the next one does."""
    rng = np.random.default_rng(0)
    x, targets = rng.standard_normal((24, 5)), rng.standard_normal((24, 1))
    net = xhat.mlp(5, [7], 1, normalization="batch", loss="squared_error", dtype=np.float64, rng=0)
    loss, wanted = net.loss_and_gradients(x, targets)
    w1, gamma, beta, w2, b2 = (net.parameters[name] for name in ("0.w", "1.gamma", "1.beta", "3.w", "3.b"))

    micro = np.split(x, 4)
    hidden = [affine.forward(part, w1) for part in micro]
    moments = merged([batch_norm.moments(h) for h, _ in hidden])
    normalized = [batch_norm.forward(h, gamma, beta, moments=moments) for h, _ in hidden]
    active = [relu.forward(n) for n, _ in normalized]
    scores = [affine.forward(a, w2, b2) for a, _ in active]
    losses = [squared_error(s, t) for (s, _), t in zip(scores, np.split(targets, 4), strict=True)]
    assert np.mean([value for value, _ in losses]) == pytest.approx(loss, rel=1e-14)

    last = [affine.backward(d / 4, cache) for (_, d), (_, cache) in zip(losses, scores, strict=True)]
    bent = [relu.backward(g.dx, cache).dx for g, (_, cache) in zip(last, active, strict=True)]
    sums = merged([batch_norm.sums(d, cache) for d, (_, cache) in zip(bent, normalized, strict=True)])
    middle = [batch_norm.backward(d, cache, sums=sums) for d, (_, cache) in zip(bent, normalized, strict=True)]
    first = [affine.backward(g.dx, cache) for g, (_, cache) in zip(middle, hidden, strict=True)]
    got = {
        "0.w": sum(g.dw for g in first),
        "1.gamma": sum(g.dgamma for g in middle),
        "1.beta": sum(g.dbeta for g in middle),
        "3.w": sum(g.dw for g in last),
        "3.b": sum(g.db for g in last),
    }
    for name, values in wanted.items():
        error = np.abs(got[name] - values).max()
        assert error <= 1e-13 * np.abs(values).max(), (
            f"{name}: error {error:.1e} beside size {np.abs(values).max():.1e}"
        )

    separate = [net.loss_and_gradients(part, t)[1] for part, t in zip(micro, np.split(targets, 4), strict=True)]
    naive = np.mean([g["0.w"] for g in separate], 0)
    assert np.abs(naive - wanted["0.w"]).max() > 1e-2 * np.abs(wanted["0.w"]).max()  # without the moments it is not


def test_running_statistics_take_moments():
    x = np.random.default_rng(0).normal(3, 2, (10, 2))
    stats, whole = xhat.RunningStatistics(2), xhat.RunningStatistics(2)
    stats.update(merged([batch_norm.moments(part) for part in np.split(x, [3, 4])]))
    whole.update(batch_norm.forward(x)[1])
    assert np.allclose(stats.mean, whole.mean, rtol=1e-14)
    assert np.allclose(stats.var, whole.var, rtol=1e-14)


def test_nan_in_another_part_stays_in_its_channel():
    first, second = np.array([[np.nan, 1.0], [2.0, 3.0]]), np.array([[1.0, 2.0], [3.0, 5.0]])
    whole = batch_norm.moments(first).merge(batch_norm.moments(second))
    y, _ = batch_norm.forward(second, moments=whole)
    assert np.isnan(y[:, 0]).all()
    assert np.allclose(y[:, 1], batch_norm.forward(np.concatenate([first, second]))[0][2:, 1])


X = np.random.default_rng(0).standard_normal((6, 3))
PART = batch_norm.moments(X[:2])
SUMS = batch_norm.Sums(np.zeros(3), np.zeros(3))
WRONG = [
    (lambda: batch_norm.forward(X, moments=PART), ValueError,
     "batch_norm.forward: expected moments of at least the 6 values of this x, got 2. "
     "Merge what batch_norm.moments returned for all parts."),
    (lambda: batch_norm.forward(X, moments=PART._asdict()), TypeError,
     "batch_norm.forward: expected moments as batch_norm.Moments, got dict. "
     "Merge what batch_norm.moments returned for all parts."),
    (lambda: batch_norm.forward(X, moments=PART._replace(squares=-np.ones(3))), ValueError,
     "batch_norm.forward: expected moments.squares >= 0, got -1. Merge what batch_norm.moments returned for all parts."),
    (lambda: batch_norm.forward(X[:2], moments=PART, virtual_batch=2), ValueError,
     "batch_norm.forward: expected moments or virtual_batch, got both. Virtual batches have statistics of their own."),
    (lambda: batch_norm.forward(X[:1], moments=batch_norm.moments(X[:1])), ValueError,
     "batch_norm.forward: expected moments of at least 2 values per channel, got 1. "
     "Use a larger batch, batch_norm.apply with fixed statistics, or layer_norm."),
    (lambda: PART.merge(None), TypeError,
     "Moments.merge: expected batch_norm.Moments, got NoneType. Give what batch_norm.moments returned."),
    (lambda: SUMS.merge(batch_norm.Sums(np.zeros(1), np.zeros(1))), ValueError,
     "Sums.merge: expected sums of 3 channels, got 1. Merge parts of one batch."),
    (lambda: PART.merge(batch_norm.moments(X[:, :2])), ValueError,
     "Moments.merge: expected moments of 3 channels, got 2. Merge parts of one batch."),
    (lambda: batch_norm.backward(X[:2], batch_norm.forward(X[:2], moments=batch_norm.moments(X))[1]), ValueError,
     "batch_norm.backward: expected cache.count 2 for this x, got 6.0. If the statistics are those of a larger batch, give "
     "sums= merged from batch_norm.sums of all its parts; else pass on the cache that forward returned."),
    (lambda: batch_norm.backward(X, batch_norm.forward(X)[1], sums=(1, 2)), TypeError,
     "batch_norm.backward: expected sums as batch_norm.Sums, got tuple. Merge what batch_norm.sums returned for all parts."),
    (lambda: batch_norm.backward(X, batch_norm.forward(X)[1]._replace(count=3.0), sums=SUMS), ValueError,
     "batch_norm.backward: expected cache.count of at least 6 for this x, got 3.0. Pass on the cache that forward returned."),
    (lambda: batch_norm.backward(X, batch_norm.apply(X, None, None, np.zeros(3), np.ones(3))[1], sums=SUMS), TypeError,
     "batch_norm.backward: expected no sums with a cache of type FixedCache, got some. "
     "Sums belong to a batch in parts, whose forward was given moments."),
    (lambda: batch_norm.sums(X, batch_norm.apply(X, None, None, np.zeros(3), np.ones(3))[1]), TypeError,
     "batch_norm.sums: expected a cache of type batch_norm.Cache, got batch_norm.FixedCache. "
     "Pass on the cache that forward returned."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
