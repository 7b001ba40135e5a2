import numpy as np
import pytest

import xhat
from xhat import kernels, layer_norm, rms_norm

each_variant = pytest.mark.parametrize("variant", kernels.VARIANTS)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@each_variant
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (2, 1), (0, 1, 2), (-1, -2)])
def test_any_axes_are_the_last_axes_of_a_transposed_array(variant, axis, rng):
    x, dy = rng.standard_normal((2, 4, 3, 5))
    axes = tuple(sorted(i % 3 for i in (axis if isinstance(axis, tuple) else (axis,))))
    gamma = rng.standard_normal([x.shape[i] for i in axes])
    order = (*(i for i in range(3) if i not in axes), *axes)
    with kernels.use(variant):
        y, cache = rms_norm.forward(x, gamma, axis=axis)
        g = rms_norm.backward(dy, cache)
        other, other_cache = rms_norm.forward(x.transpose(order), gamma, axis=tuple(range(-len(axes), 0)))
        others = rms_norm.backward(dy.transpose(order), other_cache)
    assert np.allclose(y.transpose(order), other, rtol=0, atol=1e-14)
    assert np.allclose(g.dx.transpose(order), others.dx, rtol=0, atol=1e-14)
    assert np.allclose(g.dgamma, others.dgamma, rtol=1e-13, atol=1e-14)
    assert cache.mean_square.shape == tuple(1 if i in axes else n for i, n in enumerate(x.shape))


@each_variant
def test_of_centred_samples_it_is_layer_norm(variant, rng):
    x, dy = rng.standard_normal((2, 6, 11))
    x -= x.mean(1, keepdims=True)
    gamma = rng.standard_normal(11)
    with kernels.use(variant):
        y, cache = rms_norm.forward(x, gamma)
        g = rms_norm.backward(dy, cache)
        other, other_cache = layer_norm.forward(x, gamma)
        others = layer_norm.backward(dy, other_cache)
    assert np.allclose(y, other, rtol=0, atol=1e-14)
    assert np.allclose(g.dgamma, others.dgamma, rtol=0, atol=1e-13)
    # layer norm's gradient is this one, centred: there the centring is part of the function
    assert np.allclose(g.dx - g.dx.mean(1, keepdims=True), others.dx, rtol=0, atol=1e-14)
    assert np.abs(g.dx - others.dx).max() > 0.01


@each_variant
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_sample_does_not_depend_on_its_company(variant, dtype, rng):
    x, dy = rng.standard_normal((2, 33, 17)).astype(dtype)
    gamma = rng.standard_normal(17)
    with kernels.use(variant):
        y, cache = rms_norm.forward(x, gamma)
        dx = rms_norm.backward(dy, cache).dx
        for i in (0, 13, 32):
            alone, own = rms_norm.forward(x[i : i + 1], gamma)
            assert np.array_equal(alone[0], y[i])
            assert np.array_equal(rms_norm.backward(dy[i : i + 1], own).dx[0], dx[i])


@each_variant
def test_long_rows_do_not_depend_on_their_company(variant, rng):
    """A few long rows are shared out among the threads, many are not."""
    x, dy = rng.standard_normal((2, 17, 140_002))
    with kernels.use(variant):
        y, cache = rms_norm.forward(x)
        dx = rms_norm.backward(dy, cache).dx
        alone, own = rms_norm.forward(x[7:8])
        assert np.array_equal(alone[0], y[7])
        assert np.array_equal(rms_norm.backward(dy[7:8], own).dx[0], dx[7])


@each_variant
def test_nan_and_inf_stay_in_their_sample(variant, rng):
    x = rng.standard_normal((4, 9))
    clean, _ = rms_norm.forward(x)
    x[1, 2], x[2, 3] = np.nan, -np.inf
    with kernels.use(variant):
        y, _ = rms_norm.forward(x)
    assert np.isnan(y[1]).all()
    assert np.isnan(y[2, 3])  # Inf times an rstd of 0
    assert np.allclose(y[[0, 3]], clean[[0, 3]], rtol=0, atol=1e-14)


@each_variant
@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1e-6, 1.0, 1e6, 1e20, 1e36])
def test_scale_costs_no_digits(variant, scale, rng):
    """Also where the squares leave the range of float32."""
    x, dy = (scale * rng.standard_normal((8, 512))).astype(np.float32), rng.standard_normal((8, 512)).astype(np.float32)
    wide = x.astype(np.longdouble)
    rstd = 1 / np.sqrt((wide * wide).mean(1, keepdims=True))
    x_hat = wide * rstd
    dx = rstd * (dy - x_hat * (dy * x_hat).mean(1, keepdims=True))
    with kernels.use(variant):
        y, cache = rms_norm.forward(x, eps=0.0)
        got = rms_norm.backward(dy, cache).dx
    assert np.abs(y - x_hat).max() <= 1.2e-7 * np.abs(x_hat).max()
    assert np.abs(got - dx).max() <= 1.2e-7 * np.abs(dx).max()


@each_variant
def test_nothing_in_nothing_out(variant):
    for shape in ((0, 5), (3, 0), (0, 0)):
        with kernels.use(variant):
            y, cache = rms_norm.forward(np.empty(shape), np.ones(shape[1]))
            g = rms_norm.backward(np.empty(shape), cache)
        assert y.shape == g.dx.shape == shape
        assert g.dgamma.shape == (shape[1],)
        assert not g.dgamma.any()


X = np.zeros((4, 3))
WRONG = [
    (lambda: rms_norm.forward(X, gamma=np.ones(4)), ValueError,
     "rms_norm.forward: expected gamma of shape (3,), got (4,). Give gamma the shape of the normalized axes of x."),
    (lambda: rms_norm.forward(X, axis=(1, 1)), ValueError,
     "rms_norm.forward: expected axis as one or several different axes, got (1, 1). Name each axis once."),
    (lambda: rms_norm.forward(np.float64(3)), ValueError,
     "rms_norm.forward: expected an x with at least one axis, got a single number. Give an array."),
    (lambda: rms_norm.forward(X + 1e308), ValueError,
     "rms_norm.forward: expected x whose mean square float64 can hold, got values up to 1.0e+308. "
     "Scale x by a power of two first."),
    (lambda: rms_norm.backward(X, layer_norm.forward(X)[1]), TypeError,
     "rms_norm.backward: expected a cache of type rms_norm.Cache, got layer_norm.Cache. "
     "Pass on the cache that forward returned."),
    (lambda: xhat.RMSNorm(4).forward(X), ValueError,
     "RMSNorm: expected x of shape (..., 4), got (4, 3). Make the layer with the sizes of the last axes of x."),
    (lambda: xhat.RMSNorm(()), ValueError,
     "RMSNorm: expected features with at least one size, got (). Give the size of the last axis of x, or the sizes of several last axes."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
