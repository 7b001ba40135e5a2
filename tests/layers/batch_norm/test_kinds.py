"""Virtual batches, renormalization, frozen statistics."""

import numpy as np
import pytest

import xhat
from xhat import batch_norm, kernels

each_variant = pytest.mark.parametrize("variant", kernels.VARIANTS)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@each_variant
@pytest.mark.parametrize("samples", [4, 7, 8, 9, 3, 2])
@pytest.mark.parametrize("channel_axis", [0, 1, -1])
def test_virtual_batches_are_batches(variant, samples, channel_axis, rng):
    """Each part has the bits that it has alone; dgamma and dbeta add up."""
    x, dy = rng.standard_normal((2, samples, 3, 5)).astype(np.float32)
    gamma, beta = rng.standard_normal((2, 3))
    ends = {2: [2], 3: [3], 4: [4], 7: [7], 8: [4, 8], 9: [4, 9]}[samples]  # a short rest belongs to the last one
    x, dy = (np.moveaxis(v, 1, channel_axis) for v in (x, dy))
    axis = int(channel_axis == 0)
    with kernels.use(variant):
        y, cache = batch_norm.forward(x, gamma, beta, channel_axis=channel_axis, virtual_batch=4)
        g = batch_norm.backward(dy, cache)
        start, dgamma = 0, 0
        assert [part.x.shape[axis] for part in cache.parts] == np.diff([0, *ends]).tolist()
        for end in ends:
            part = (*(slice(None),) * axis, slice(start, end))
            alone, other = batch_norm.forward(x[part], gamma, beta, channel_axis=channel_axis)
            others = batch_norm.backward(dy[part], other)
            assert np.array_equal(y[part], alone)
            assert np.array_equal(g.dx[part], others.dx)
            dgamma, start = dgamma + others.dgamma, end
    assert np.allclose(g.dgamma, dgamma, rtol=1e-12)


def test_running_statistics_take_virtual_batches_one_after_the_other(rng):
    x = rng.normal(4, 2, (8, 3))
    layer, by_hand = xhat.BatchNorm(3, virtual_batch=4), xhat.RunningStatistics(3)
    layer.forward(x, training=True)
    for part in (x[:4], x[4:]):
        by_hand.update(batch_norm.forward(part)[1])
    assert np.array_equal(layer.statistics.mean, by_hand.mean)
    assert np.array_equal(layer.statistics.var, by_hand.var)
    exact = xhat.RunningStatistics(3, update_rate=None)
    exact.update(batch_norm.forward(x, virtual_batch=3)[1])
    assert np.allclose(exact.mean, x.mean(0), rtol=1e-14)
    assert np.allclose(exact.var, x.var(0), rtol=1e-13)


def test_a_bad_virtual_batch_teaches_nothing(rng):
    x = rng.standard_normal((8, 2))
    x[6, 1] = np.nan
    stats = xhat.RunningStatistics(2)
    with pytest.raises(ValueError, match="in channel 1"):
        stats.update(batch_norm.forward(x, virtual_batch=4)[1])
    assert not stats.mean.any()
    assert stats.count == 0


def test_virtual_batches_whose_union_overflows_teach_nothing():
    """Each of the two is fine; the variance of both together is not. What the first one taught is not kept either."""
    x = np.array([[1e155], [1e155 * (1 + 1e-10)], [-1e155], [-1e155 * (1 + 1e-10)]])
    cache = batch_norm.forward(x, virtual_batch=2)[1]
    stats = xhat.RunningStatistics(1, update_rate=None)
    with pytest.raises(
        ValueError, match=r"^RunningStatistics\.update: expected statistics that float64 can hold, got "
    ):
        stats.update(cache)
    assert (stats.count, *stats.mean, *stats.var) == (0, 0, 1)


def test_settings_that_exclude_each_other_stay_apart():
    layer = xhat.BatchNorm(3, virtual_batch=2)
    with pytest.raises(ValueError, match="got both"):
        layer.renorm = (3.0, 5.0)
    assert layer.renorm is None
    layer.virtual_batch = None
    layer.renorm = (3.0, 5.0)
    with pytest.raises(ValueError, match="got both"):
        layer.virtual_batch = 4
    assert layer.settings()["virtual_batch"] is None


def test_a_network_trains_with_virtual_batches(rng):
    x = rng.standard_normal((256, 4)).astype(np.float32)
    labels = (x[:, 0] > x[:, 1]).astype(int)
    net = xhat.Sequential(
        [
            xhat.Affine(4, 32, bias=False, rng=0),
            xhat.BatchNorm(32, virtual_batch=16),
            xhat.ReLU(),
            xhat.Affine(32, 2, rng=1),
        ]
    )
    assert xhat.verify.check_network(net, x[:40], labels[:40]).ok
    history = xhat.Trainer(net, learning_rate=0.02, batch_size=64).fit(x, labels, epochs=20)
    assert history[-1].score > 0.9


@each_variant
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_renorm_without_limits_gives_what_prediction_gives(variant, dtype, rng):
    """… and a gradient between those of batch norm and of constants: r and d do not move."""
    x, dy = rng.normal(2, 3, (2, 30, 4)).astype(dtype)
    gamma, beta, mean = rng.standard_normal((3, 4)).astype(dtype)
    var = rng.random(4) + 0.5
    with kernels.use(variant):
        y, cache = batch_norm.renorm(x, gamma, beta, mean, var, r_max=1e9, d_max=1e9)
        fixed, _ = batch_norm.apply(x, gamma, beta, mean, var)
        g = batch_norm.backward(dy, cache)
        # the same function with r and d written as numbers
        _, plain = batch_norm.forward(x.astype(float), gamma * cache.r, beta + gamma * cache.d)
        true = batch_norm.backward(dy.astype(float), plain)
    tolerance = 8 * float(np.finfo(dtype).eps)
    assert y.dtype == g.dx.dtype == g.dgamma.dtype == dtype
    assert np.abs(y - fixed.astype(float)).max() <= tolerance * np.abs(fixed).max()
    assert np.abs(g.dx - true.dx).max() <= tolerance * np.abs(true.dx).max()
    assert np.allclose(g.dbeta, dy.astype(float).sum(0), rtol=tolerance, atol=tolerance)
    x_hat = (fixed.astype(float) - beta) / gamma  # dgamma = sum(dy * (x_hat * r + d))
    assert np.allclose(g.dgamma, (dy.astype(float) * x_hat).sum(0), rtol=60 * tolerance, atol=300 * tolerance)


def test_renorm_with_the_tightest_limits_is_batch_norm(rng):
    x, dy = rng.standard_normal((2, 6, 3))
    y, cache = batch_norm.renorm(x, None, None, np.full(3, 7.0), np.full(3, 4.0), r_max=1.0, d_max=0.0)
    plain, other = batch_norm.forward(x)
    assert np.array_equal(y, plain)
    assert np.array_equal(batch_norm.backward(dy, cache).dx, batch_norm.backward(dy, other).dx)


def test_renorm_layer_learns_and_its_limits_may_change(rng):
    layer = xhat.BatchNorm(3, renorm=(1.0, 0.0), update_rate=0.5)
    x = rng.normal(3, 2, (50, 3))
    y, _ = layer.forward(x, training=True)
    assert np.allclose(y, batch_norm.forward(x)[0], atol=1e-12)
    layer.renorm = (3.0, 5.0)
    y, cache = layer.forward(x, training=True)
    assert not np.allclose(cache.r, 1)
    assert layer.settings()["renorm"] == (3.0, 5.0)
    for _ in range(60):
        y, _ = layer.forward(x, training=True)
    assert np.allclose(y, layer.forward(x)[0], atol=1e-9)  # the running statistics have arrived


def test_frozen_statistics_stay_and_pass_no_gradient(rng):
    layer = xhat.BatchNorm(3, dtype=np.float64)
    layer.forward(rng.normal(2, 3, (20, 3)), training=True)
    kept = {name: values.copy() for name, values in layer.state.items()}
    layer.frozen = True
    x, dy = rng.standard_normal((2, 5, 3))
    y, cache = layer.forward(x, training=True)
    assert np.array_equal(y, layer.forward(x)[0])
    assert type(cache) is batch_norm.FixedCache
    assert np.array_equal(layer.backward(dy, cache).dx, dy * cache.rstd)
    assert np.abs(layer.backward(dy, cache).dgamma).max() > 0
    assert all(np.array_equal(layer.state[name], values) for name, values in kept.items())
    layer.frozen = False
    layer.forward(x, training=True)
    assert not np.array_equal(layer.state["running_mean"], kept["running_mean"])


def test_frozen_layers_learn_gamma_and_beta_one_sample_at_a_time(rng):
    """Fine-tuning with the smallest batch: no statistics are needed of it."""
    net = xhat.mlp(4, [8], 2, normalization="batch", rng=0)
    x = rng.standard_normal((64, 4)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(int)
    net.forward(x, training=True)
    net.layers[1].frozen = True
    before = {name: values.copy() for name, values in {**net.parameters, **net.state}.items()}
    _, gradients = net.loss_and_gradients(x[:1], labels[:1])
    assert np.abs(gradients["1.gamma"]).max() > 0
    for name, values in net.state.items():
        assert np.array_equal(values, before[name])


X = np.zeros((4, 3))
MEAN, VAR = np.zeros(3), np.ones(3)
WRONG = [
    (lambda: batch_norm.forward(X, virtual_batch=0), ValueError,
     "batch_norm.forward: expected virtual_batch >= 1, got 0. Give the samples per virtual batch."),
    (lambda: batch_norm.forward(X, virtual_batch=1), ValueError,
     "batch_norm.forward: expected at least 2 values per channel of the virtual batch from sample 0, got 1 in x of shape (1, 3). "
     "Use a larger batch, batch_norm.apply with fixed statistics, or layer_norm."),
    (lambda: batch_norm.forward(X, virtual_batch=2, weights=[1, 1, 0, 1]), ValueError,
     "batch_norm.forward: expected at least 2 values of positive weight per channel of the virtual batch from sample 2, got 1 in x of "
     "shape (2, 3). Use a larger batch, batch_norm.apply with fixed statistics, or layer_norm."),
    (lambda: batch_norm.renorm(X, None, None, MEAN, VAR, r_max=0.5), ValueError,
     "batch_norm.renorm: expected r_max >= 1 and finite, got 0.5. It limits the ratio of two roots; 1 makes it 1."),
    (lambda: batch_norm.renorm(X, None, None, MEAN, VAR, d_max=-1), ValueError,
     "batch_norm.renorm: expected d_max >= 0 and finite, got -1. It limits a shift in deviations; 0 allows none."),
    (lambda: batch_norm.renorm(X, None, None, MEAN, -VAR), ValueError,
     "batch_norm.renorm: expected finite mean and var >= 0, got mean 0 and var -1 in channel 0. "
     "Give statistics with one finite entry per channel and no negative variance."),
    (lambda: xhat.BatchNorm(3, renorm=3.0), TypeError,
     "BatchNorm: expected renorm as (r_max, d_max), got 3.0. Give (3.0, 5.0), or None."),
    (lambda: xhat.BatchNorm(3, renorm=(3.0, 5.0), virtual_batch=2), ValueError,
     "BatchNorm: expected virtual_batch or renorm, got both. Choose one of them."),
    (lambda: batch_norm.backward(X, batch_norm.forward(X, virtual_batch=2)[1]._replace(parts=())), TypeError,
     "batch_norm.backward: expected cache.parts as a tuple of caches, got (). Pass on the cache that forward returned."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_parts_that_do_not_fit_each_other_are_refused(rng):
    x = rng.standard_normal((4, 3))
    _, cache = batch_norm.forward(x, virtual_batch=2)
    one = cache.parts[0]
    _, wide = batch_norm.forward(rng.standard_normal((2, 5)))
    _, narrow = batch_norm.forward(x[:2].astype(np.float32))
    _, other_axis = batch_norm.forward(x[:3, :3], channel_axis=0)
    for bad in (wide, narrow, other_axis, None, one._replace(count=7.0)):
        with pytest.raises((ValueError, TypeError), match=r"^batch_norm\.backward: expected "):
            batch_norm.backward(x, cache._replace(parts=(one, bad)))
