import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.contract import MESSAGE

import xhat
from xhat import group_norm, instance_norm, kernels, layer_norm

each_variant = pytest.mark.parametrize("variant", kernels.VARIANTS)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def by_loops(x, gamma, beta, groups, eps):
    """The definition, group by group, for x (N, C, ...) in extended precision."""
    y = np.empty(x.shape, np.longdouble)
    size = x.shape[1] // groups
    for n in range(x.shape[0]):
        for g in range(groups):
            block = x[n, g * size : (g + 1) * size].astype(np.longdouble)
            x_hat = (block - block.mean()) / np.sqrt(block.var() + np.longdouble(eps))
            for i in range(size):
                c = g * size + i
                y[n, c] = gamma[c] * x_hat[i] + beta[c]
    return y


@st.composite
def situations(draw):
    """A shape (N, C, ...), how many groups, and where the channels are moved to."""
    groups, size = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    positions = draw(st.lists(st.integers(1, 5), max_size=3))
    shape = (draw(st.integers(1, 4)), groups * size, *positions)
    if size * np.prod(positions) == 1:
        shape = (*shape, 2)
    return shape, groups, draw(st.integers(-len(shape), len(shape) - 1)), draw(st.integers(0, 99))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(situations())
def test_any_shape_groups_and_layout_is_the_definition(situation):
    shape, groups, axis, seed = situation
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, *shape))
    gamma, beta = rng.standard_normal((2, shape[1]))
    true = by_loops(x, gamma, beta, groups, 1e-3)
    g = group_norm.reference_backward(dy, group_norm.reference_forward(x, gamma, beta, groups, 1e-3)[1])
    for variant in (kernels.VARIANTS[0], kernels.VARIANTS[-1]):
        with kernels.use(variant):
            moved, cache = group_norm.forward(
                np.moveaxis(x, 1, axis), gamma, beta, groups=groups, eps=1e-3, channel_axis=axis
            )
            got = group_norm.backward(np.moveaxis(dy, 1, axis), cache)
        assert np.allclose(np.moveaxis(moved, axis, 1), true, rtol=0, atol=1e-13)
        assert cache.mean.shape == cache.rstd.shape == (shape[0], groups)
        assert np.allclose(np.moveaxis(got.dx, axis, 1), g.dx, rtol=0, atol=1e-12)
        assert np.allclose(got.dgamma, g.dgamma, rtol=0, atol=1e-12)
        assert np.allclose(got.dbeta, g.dbeta, rtol=0, atol=1e-12)


@each_variant
def test_one_group_is_layer_norm_over_channels_and_positions(variant, rng):
    x, dy = rng.standard_normal((2, 3, 5, 4, 2))
    gamma, beta = rng.standard_normal((2, 5))
    laid = [np.broadcast_to(values[:, None, None], (5, 4, 2)) for values in (gamma, beta)]
    with kernels.use(variant):
        y, cache = group_norm.forward(x, gamma, beta, groups=1)
        g = group_norm.backward(dy, cache)
        other, other_cache = layer_norm.forward(x, *laid, axis=(1, 2, 3))
        others = layer_norm.backward(dy, other_cache)
    assert np.allclose(y, other, rtol=0, atol=1e-14)
    assert np.allclose(g.dx, others.dx, rtol=0, atol=1e-14)
    assert np.allclose(g.dgamma, others.dgamma.sum((1, 2)), rtol=0, atol=1e-13)
    assert np.allclose(g.dbeta, others.dbeta.sum((1, 2)), rtol=0, atol=1e-13)


@each_variant
@pytest.mark.parametrize("axis", [1, 0, -1])
def test_a_group_per_channel_is_instance_norm(variant, axis, rng):
    x, dy = (np.moveaxis(values, 1, axis) for values in rng.standard_normal((2, 3, 5, 4, 2)))
    gamma, beta = rng.standard_normal((2, 5))
    with kernels.use(variant):
        y, cache = group_norm.forward(x, gamma, beta, groups=5, channel_axis=axis)
        g = group_norm.backward(dy, cache)
        other, other_cache = instance_norm.forward(x, gamma, beta, channel_axis=axis)
        others = instance_norm.backward(dy, other_cache)
    assert np.allclose(y, other, rtol=0, atol=1e-14)
    assert np.allclose(cache.mean, other_cache.mean, rtol=0, atol=1e-15)
    for got, true in zip(g, others, strict=True):
        assert np.allclose(got, true, rtol=0, atol=1e-13)


@each_variant
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_sample_does_not_depend_on_its_company(variant, dtype, rng):
    x, dy = rng.standard_normal((2, 33, 6, 5)).astype(dtype)
    gamma, beta = rng.standard_normal((2, 6))
    with kernels.use(variant):
        y, cache = group_norm.forward(x, gamma, beta, groups=3)
        dx = group_norm.backward(dy, cache).dx
        for i in (0, 13, 32):
            alone, own = group_norm.forward(x[i : i + 1], gamma, beta, groups=3)
            assert np.array_equal(alone[0], y[i])
            assert np.array_equal(group_norm.backward(dy[i : i + 1], own).dx[0], dx[i])


@each_variant
def test_long_rows_do_not_depend_on_their_company(variant, rng):
    """A few long rows are shared out among the threads, many are not."""
    x, dy = rng.standard_normal((2, 17, 2, 70_001))
    with kernels.use(variant):
        y, cache = group_norm.forward(x, groups=1)
        dx = group_norm.backward(dy, cache).dx
        alone, own = group_norm.forward(x[7:8], groups=1)
        assert np.array_equal(alone[0], y[7])
        assert np.array_equal(group_norm.backward(dy[7:8], own).dx[0], dx[7])


@each_variant
def test_nan_and_inf_stay_in_their_group(variant, rng):
    x = rng.standard_normal((3, 6, 4))
    clean, _ = group_norm.forward(x, groups=3)
    x[1, 2, 0], x[2, 5, 3] = np.nan, -np.inf
    with kernels.use(variant):
        y, _ = group_norm.forward(x, groups=3)
    bad = np.zeros(x.shape, bool)
    bad[1, 2:4] = bad[2, 4:6] = True
    assert not np.isfinite(y[bad]).any()
    assert np.allclose(y[~bad], clean[~bad], rtol=0, atol=1e-14)


@each_variant
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_offsets_cost_no_digits(variant, offset, rng):
    x = (offset + rng.standard_normal((4, 6, 37))).astype(np.float32)
    true = by_loops(x, np.ones(6), np.zeros(6), 2, 1e-5)
    with kernels.use(variant):
        y, _ = group_norm.forward(x, groups=2)
    assert np.abs(y - true).max() <= 1.2e-7 * np.abs(true).max()


@each_variant
@pytest.mark.parametrize("shape", [(0, 6, 4), (0, 6), (0, 2, 1), (3, 6, 0), (2, 0, 4)])
def test_nothing_in_nothing_out(variant, shape):
    parameters = np.ones(shape[1])
    with kernels.use(variant):
        y, cache = group_norm.forward(np.empty(shape), parameters, parameters, groups=2)
        g = group_norm.backward(np.empty(shape), cache)
    assert y.shape == g.dx.shape == shape
    assert g.dgamma.shape == g.dbeta.shape == (shape[1],)
    assert not g.dgamma.any()
    assert not g.dbeta.any()


@each_variant
def test_eps_0_and_values_that_do_not_vary(variant, rng):
    x, dy = rng.standard_normal((2, 2, 4, 3))
    x[0, :2] = 1e7 / 3
    with kernels.use(variant):
        y, cache = group_norm.forward(x, beta=[1.0, 2.0, 3.0, 4.0], groups=2, eps=0.0)
        dx = group_norm.backward(dy, cache).dx
    assert np.array_equal(y[0, :2], [[1.0] * 3, [2.0] * 3])
    assert np.array_equal(dx[0, :2], np.zeros((2, 3)))
    assert np.abs(dx[0, 2:]).max() > 0.01


def test_in_a_network(rng, tmp_path):
    layers = [xhat.Affine(5, 6, rng=0), xhat.GroupNorm(6, 2), xhat.ReLU(), xhat.Affine(6, 3, rng=1)]
    net = xhat.Sequential(layers)
    x, labels = rng.standard_normal((9, 5)), rng.integers(0, 3, 9)
    check = xhat.verify.check_network(net, x, labels)
    assert check.ok, str(check)
    assert {row.name for row in check.rows} >= {"0.b", "1.gamma", "1.beta"}
    xhat.save(net, tmp_path / "net.safetensors")
    again = xhat.load(tmp_path / "net.safetensors")
    assert np.array_equal(again.predict(x), net.predict(x))
    assert "GroupNorm(channels=6, groups=2)" in str(again)


X = np.zeros((3, 6, 4))
WRONG = [
    (lambda: group_norm.forward(X, groups=4), ValueError,
     "group_norm.forward: expected groups to divide the 6 channels of x, got 4. "
     "Groups are blocks of equally many channels: choose a divisor of their number."),
    (lambda: group_norm.forward(X, groups=0), ValueError,
     "group_norm.forward: expected groups >= 1, got 0. "
     "Groups are blocks of equally many channels: choose a divisor of their number."),
    (lambda: group_norm.forward(X, groups=2.0), TypeError,
     "group_norm.forward: expected groups as an integer, got float. "
     "Groups are blocks of equally many channels: choose a divisor of their number."),
    (lambda: group_norm.forward(X[..., :1], groups=6), ValueError,
     "group_norm.forward: expected at least 2 values per group, got 1 in x of shape (3, 6, 1) with 6 groups. "
     "Use fewer groups, an x with positions, or batch_norm."),
    (lambda: group_norm.forward(X[..., 0], groups=6), ValueError,
     "group_norm.forward: expected at least 2 values per group, got 1 in x of shape (3, 6) with 6 groups. "
     "Use fewer groups, an x with positions, or batch_norm."),
    (lambda: group_norm.forward(X[0, :, 0], groups=2, channel_axis=0), ValueError,
     "group_norm.forward: expected x with a batch axis and a channel axis, got shape (6,). Add one with x[None]."),
    (lambda: group_norm.forward(X, np.ones(4), groups=2), ValueError,
     "group_norm.forward: expected gamma of shape (6,), got (4,). "
     "The channel axis 1 of x has size 6; choose another with channel_axis."),
    (lambda: group_norm.forward(X, groups=2, channel_axis=3), ValueError,
     "group_norm.forward: expected channel_axis from -3 to 2 for an x of 3 axes, got 3. Count the axes of x from 0."),
    (lambda: group_norm.forward(1e300 + 2e306 * np.arange(72.0).reshape(3, 6, 4), groups=2), ValueError,
     "group_norm.forward: expected x whose variance float64 can hold, got values up to 1.4e+308. "
     "Scale x by a power of two first."),
    (lambda: group_norm.backward(X, group_norm.forward(X, groups=2)[1]._replace(groups=3)), ValueError,
     "group_norm.backward: expected cache.mean of shape (3, 3), got (3, 2). Pass on the cache that forward returned."),
    (lambda: group_norm.backward(X, instance_norm.forward(X)[1]), TypeError,
     "group_norm.backward: expected a cache of type group_norm.Cache, got instance_norm.Cache. "
     "Pass on the cache that forward returned."),
    (lambda: xhat.GroupNorm(2, 1).forward([[1.0, 2.0], [1.0]]), TypeError, None),
    (lambda: xhat.GroupNorm(6, 4), ValueError,
     "GroupNorm: expected groups to divide the 6 channels, got 4. "
     "Groups are blocks of equally many channels: choose a divisor of their number."),
    (lambda: xhat.GroupNorm(4, 2, affine=False).forward(X), ValueError,
     "GroupNorm: expected x with 4 channels along axis 1, got shape (3, 6, 4). "
     "Make the layer with the size of the channel axis of x."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message is None or str(caught.value) == message
    assert MESSAGE.fullmatch(str(caught.value))
