import numpy as np
import pytest

import xhat
from xhat import batch_norm, instance_norm, kernels

each_variant = pytest.mark.parametrize("variant", kernels.VARIANTS)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@each_variant
def test_it_is_batch_norm_sample_by_sample(variant, rng):
    x, dy = rng.standard_normal((2, 3, 5, 4, 2))
    gamma, beta = rng.standard_normal((2, 5))
    with kernels.use(variant):
        y, cache = instance_norm.forward(x, gamma, beta)
        g = instance_norm.backward(dy, cache)
        alone = [batch_norm.forward(x[i : i + 1], gamma, beta) for i in range(3)]
        others = [batch_norm.backward(dy[i : i + 1], own) for i, (_, own) in enumerate(alone)]
    assert np.allclose(y, np.concatenate([other for other, _ in alone]), rtol=0, atol=1e-14)
    assert np.allclose(g.dx, np.concatenate([other.dx for other in others]), rtol=0, atol=1e-14)
    assert np.allclose(g.dgamma, sum(other.dgamma for other in others), rtol=0, atol=1e-13)
    assert np.allclose(g.dbeta, sum(other.dbeta for other in others), rtol=0, atol=1e-13)
    assert np.allclose(cache.var, [own.var for _, own in alone], rtol=1e-13, atol=0)


@each_variant
@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 2, 2), (2, 3, 4, 5), (2, 3, 2, 3, 2)])
@pytest.mark.parametrize("axis", [0, 2, -1])
def test_any_channel_axis(variant, shape, axis, rng):
    x, dy = rng.standard_normal((2, *shape))
    gamma, beta = rng.standard_normal((2, shape[1]))
    with kernels.use(variant):
        y, cache = instance_norm.forward(x, gamma, beta)
        g = instance_norm.backward(dy, cache)
        moved, other_cache = instance_norm.forward(np.moveaxis(x, 1, axis), gamma, beta, channel_axis=axis)
        others = instance_norm.backward(np.moveaxis(dy, 1, axis), other_cache)
    atol = 1e-13 if variant == "reference" else 0  # one loop serves all layouts: the same bits
    assert np.allclose(np.moveaxis(moved, axis, 1), y, rtol=0, atol=atol)
    assert np.allclose(np.moveaxis(others.dx, axis, 1), g.dx, rtol=0, atol=atol)
    assert np.allclose(others.dgamma, g.dgamma, rtol=0, atol=atol)
    assert np.allclose(others.dbeta, g.dbeta, rtol=0, atol=atol)
    assert other_cache.mean.shape == shape[:2]


@each_variant
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_sample_does_not_depend_on_its_company(variant, dtype, rng):
    x, dy = rng.standard_normal((2, 33, 3, 7)).astype(dtype)
    gamma, beta = rng.standard_normal((2, 3))
    with kernels.use(variant):
        y, cache = instance_norm.forward(x, gamma, beta)
        dx = instance_norm.backward(dy, cache).dx
        for i in (0, 13, 32):
            alone, own = instance_norm.forward(x[i : i + 1], gamma, beta)
            assert np.array_equal(alone[0], y[i])
            assert np.array_equal(instance_norm.backward(dy[i : i + 1], own).dx[0], dx[i])


@each_variant
def test_long_rows_do_not_depend_on_their_company(variant, rng):
    """A few long rows are shared out among the threads, many are not."""
    x, dy = rng.standard_normal((2, 17, 1, 140_002))
    with kernels.use(variant):
        y, cache = instance_norm.forward(x)
        dx = instance_norm.backward(dy, cache).dx
        alone, own = instance_norm.forward(x[7:8])
        assert np.array_equal(alone[0], y[7])
        assert np.array_equal(instance_norm.backward(dy[7:8], own).dx[0], dx[7])


@each_variant
def test_nan_and_inf_stay_in_their_channel_of_their_sample(variant, rng):
    x = rng.standard_normal((3, 4, 5))
    clean, _ = instance_norm.forward(x)
    x[1, 2, 0], x[2, 0, 3] = np.nan, -np.inf
    with kernels.use(variant):
        y, _ = instance_norm.forward(x)
    bad = np.zeros(x.shape, bool)
    bad[1, 2] = bad[2, 0] = True
    assert not np.isfinite(y[bad]).any()
    assert np.allclose(y[~bad], clean[~bad], rtol=0, atol=1e-14)


@each_variant
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_offsets_cost_no_digits(variant, offset, rng):
    x = (offset + rng.standard_normal((3, 4, 211))).astype(np.float32)
    wide = x.astype(np.longdouble)
    true = (wide - wide.mean(2, keepdims=True)) / np.sqrt(wide.var(2, keepdims=True) + np.longdouble(1e-5))
    with kernels.use(variant):
        y, _ = instance_norm.forward(x)
    assert np.abs(y - true).max() <= 1.2e-7 * np.abs(true).max()


@each_variant
@pytest.mark.parametrize("shape", [(0, 3, 4), (0, 3), (0, 3, 1), (3, 2, 0), (2, 0, 4)])
def test_nothing_in_nothing_out(variant, shape):
    parameters = np.ones(shape[1])
    with kernels.use(variant):
        y, cache = instance_norm.forward(np.empty(shape), parameters, parameters)
        g = instance_norm.backward(np.empty(shape), cache)
    assert y.shape == g.dx.shape == shape
    assert g.dgamma.shape == g.dbeta.shape == (shape[1],)
    assert not g.dgamma.any()
    assert not g.dbeta.any()


X = np.zeros((2, 3, 4))
WRONG = [
    (lambda: instance_norm.forward(X[..., 0]), ValueError,
     "instance_norm.forward: expected at least 2 values per channel of a sample, got 1 in x of shape (2, 3). "
     "Use an x with positions, group_norm with fewer groups than channels, or batch_norm."),
    (lambda: instance_norm.forward(X[0, 0], channel_axis=0), ValueError,
     "instance_norm.forward: expected x with a batch axis and a channel axis, got shape (4,). Add one with x[None]."),
    (lambda: instance_norm.forward(X, beta=np.ones(4)), ValueError,
     "instance_norm.forward: expected beta of shape (3,), got (4,). "
     "The channel axis 1 of x has size 3; choose another with channel_axis."),
    (lambda: instance_norm.forward(7e306 * np.arange(24.0).reshape(2, 3, 4)), ValueError,
     "instance_norm.forward: expected x whose variance float64 can hold, got values up to 1.6e+308. "
     "Scale x by a power of two first."),
    (lambda: xhat.InstanceNorm(4, affine=False).forward(X), ValueError,
     "InstanceNorm: expected x with 4 channels along axis 1, got shape (2, 3, 4). "
     "Make the layer with the size of the channel axis of x."),
    (lambda: xhat.InstanceNorm(4, channel_axis=5).forward(X), ValueError,
     "instance_norm.forward: expected channel_axis from -3 to 2 for an x of 3 axes, got 5. Count the axes of x from 0."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
