import numpy as np
import pytest

import xhat
from xhat import kernels, layer_norm

each_variant = pytest.mark.parametrize("variant", kernels.VARIANTS)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@each_variant
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (2, 1), (0, 1, 2), (-1, -2)])
def test_any_axes_are_the_last_axes_of_a_transposed_array(variant, axis, rng):
    x, dy = rng.standard_normal((2, 4, 3, 5))
    axes = tuple(sorted(i % 3 for i in (axis if isinstance(axis, tuple) else (axis,))))
    gamma, beta = rng.standard_normal((2, *(x.shape[i] for i in axes)))
    rest = tuple(i for i in range(3) if i not in axes)
    order = (*rest, *axes)
    with kernels.use(variant):
        y, cache = layer_norm.forward(x, gamma, beta, axis=axis)
        g = layer_norm.backward(dy, cache)
        last = tuple(range(-len(axes), 0))
        other, other_cache = layer_norm.forward(x.transpose(order), gamma, beta, axis=last)
        others = layer_norm.backward(dy.transpose(order), other_cache)
    assert np.allclose(y.transpose(order), other, rtol=0, atol=1e-14)
    assert np.allclose(g.dx.transpose(order), others.dx, rtol=0, atol=1e-14)
    assert np.allclose(g.dgamma, others.dgamma, rtol=1e-13, atol=1e-14)
    assert np.allclose(g.dbeta, others.dbeta, rtol=1e-13, atol=1e-14)
    assert cache.mean.shape == tuple(1 if i in axes else n for i, n in enumerate(x.shape))


@each_variant
def test_a_sample_does_not_depend_on_its_company(variant, rng):
    x, dy = rng.standard_normal((2, 33, 17)).astype(np.float32)
    with kernels.use(variant):
        y, cache = layer_norm.forward(x)
        dx = layer_norm.backward(dy, cache).dx
        for i in (0, 13, 32):
            alone, own = layer_norm.forward(x[i : i + 1])
            assert np.array_equal(alone[0], y[i])
            assert np.array_equal(layer_norm.backward(dy[i : i + 1], own).dx[0], dx[i])


@each_variant
def test_nan_and_inf_stay_in_their_sample(variant, rng):
    x = rng.standard_normal((4, 9))
    clean, _ = layer_norm.forward(x)
    x[1, 2], x[2, 3] = np.nan, -np.inf
    with kernels.use(variant):
        y, _ = layer_norm.forward(x)
    assert np.isnan(y[1]).all()
    assert not np.isfinite(y[2]).any()
    assert np.allclose(y[[0, 3]], clean[[0, 3]], atol=1e-14)


@each_variant
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_offsets_cost_no_digits(variant, offset, rng):
    x = (offset + rng.standard_normal((8, 512))).astype(np.float32)
    wide = x.astype(np.longdouble)
    true = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + np.longdouble(1e-5))
    with kernels.use(variant):
        y, _ = layer_norm.forward(x)
    assert np.abs(y - true).max() <= 1.2e-7 * np.abs(true).max()


X = np.zeros((4, 3))
WRONG = [
    (lambda: layer_norm.forward(X, gamma=np.ones(4)), ValueError,
     "layer_norm.forward: expected gamma of shape (3,), got (4,). Give gamma and beta the shape of the normalized axes of x."),
    (lambda: layer_norm.forward(X, axis=(1, 1)), ValueError,
     "layer_norm.forward: expected axis as one or several different axes, got (1, 1). Name each axis once."),
    (lambda: layer_norm.forward(X, axis=()), ValueError,
     "layer_norm.forward: expected axis as one or several different axes, got (). Name each axis once."),
    (lambda: layer_norm.forward(X, axis=2), ValueError,
     "layer_norm.forward: expected axis from -2 to 1 for an x of 2 axes, got 2. Count the axes of x from 0."),
    (lambda: layer_norm.forward(np.float64(3)), ValueError,
     "layer_norm.forward: expected an x with at least one axis, got a single number. Give an array."),
    (lambda: xhat.LayerNorm(4).forward(X), ValueError,
     "LayerNorm: expected x of shape (..., 4), got (4, 3). Make the layer with the sizes of the last axes of x."),
    (lambda: xhat.LayerNorm((2, 4, 3)).forward(X), ValueError,
     "LayerNorm: expected x of shape (..., 2, 4, 3), got (4, 3). Make the layer with the sizes of the last axes of x."),
    (lambda: xhat.LayerNorm(()), ValueError,
     "LayerNorm: expected features with at least one size, got (). Give the size of the last axis of x, or the sizes of several last axes."),
    (lambda: xhat.LayerNorm(2.0), TypeError,
     "LayerNorm: expected features as an integer, got float. Give the size of the last axis of x, or the sizes of several last axes."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
