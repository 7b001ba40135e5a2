"""The course's layers against loops and formulas written down here: values, caches, dicts, types, traps."""

import copy
import inspect
import subprocess
import sys

import numpy as np
import pytest

from xhat.cs231n import fast_layers, im2col, im2col_cython, layer_utils, layers
from xhat.cs231n.gradient_check import eval_numerical_gradient_array
from xhat.cs231n.layers import *  # noqa: F403

FLOATS = (np.float32, np.float64)


def rel_error(x, y):
    return np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y)))


def near(got, true, dtype=np.float64):
    """Equal up to rounding, beside the largest entry."""
    assert got.shape == np.shape(true)
    assert got.dtype == dtype
    error, size = np.abs(got - true).max(), np.abs(true).max()
    assert error <= 16 * np.finfo(dtype).eps * (1 + size), f"error {error:.1e} beside {size:.1e}"


def check_gradients(forward, backward, *arrays):
    """Every gradient against centred differences, by closures that ignore their argument and rely on live arrays."""
    out, cache = forward(*arrays)
    dout = np.random.randn(*out.shape)
    gradients = backward(dout, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for array, gradient in zip(arrays, gradients, strict=True):
        true = eval_numerical_gradient_array(lambda _: forward(*arrays)[0], array, dout)
        assert gradient.shape == array.shape
        assert np.abs(true).max() > 1e-3, "nothing would be tested"
        assert np.abs(gradient - true).max() < 1e-8 * (1 + np.abs(true).max())


# ---- what the course writes down


SIGNATURES = {
    "affine_forward": "x, w, b",
    "affine_backward": "dout, cache",
    "relu_forward": "x",
    "relu_backward": "dout, cache",
    "softmax_loss": "x, y",
    "svm_loss": "x, y",
    "batchnorm_forward": "x, gamma, beta, bn_param",
    "batchnorm_backward": "dout, cache",
    "batchnorm_backward_alt": "dout, cache",
    "layernorm_forward": "x, gamma, beta, ln_param",
    "layernorm_backward": "dout, cache",
    "dropout_forward": "x, dropout_param",
    "dropout_backward": "dout, cache",
    "conv_forward_naive": "x, w, b, conv_param",
    "conv_backward_naive": "dout, cache",
    "max_pool_forward_naive": "x, pool_param",
    "max_pool_backward_naive": "dout, cache",
    "spatial_batchnorm_forward": "x, gamma, beta, bn_param",
    "spatial_batchnorm_backward": "dout, cache",
    "spatial_groupnorm_forward": "x, gamma, beta, G, gn_param",
    "spatial_groupnorm_backward": "dout, cache",
    "affine_relu_forward": "x, w, b",
    "affine_relu_backward": "dout, cache",
    "conv_relu_forward": "x, w, b, conv_param",
    "conv_relu_backward": "dout, cache",
    "conv_bn_relu_forward": "x, w, b, gamma, beta, conv_param, bn_param",
    "conv_bn_relu_backward": "dout, cache",
    "conv_relu_pool_forward": "x, w, b, conv_param, pool_param",
    "conv_relu_pool_backward": "dout, cache",
    "conv_forward_fast": "x, w, b, conv_param",
    "conv_backward_fast": "dout, cache",
    "conv_forward_strides": "x, w, b, conv_param",
    "conv_backward_strides": "dout, cache",
    "conv_forward_im2col": "x, w, b, conv_param",
    "conv_backward_im2col": "dout, cache",
    "max_pool_forward_fast": "x, pool_param",
    "max_pool_backward_fast": "dout, cache",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_names_and_arguments(name):
    """All come with one star import of layer_utils, as in the course."""
    assert name in layer_utils.__all__
    assert ", ".join(inspect.signature(getattr(layer_utils, name)).parameters) == SIGNATURES[name]


@pytest.mark.parametrize("dtype", FLOATS)
def test_affine(dtype):
    x, w, b = (np.random.randn(*shape).astype(dtype) for shape in ((2, 3, 5, 7), (105, 3), (3,)))
    out, cache = affine_forward(x, w, b)
    near(out, x.reshape(2, -1).astype(float) @ w + b, dtype)
    assert cache[0] is x
    assert cache[1] is w
    assert cache[2] is b
    dout = np.random.randn(2, 3).astype(dtype)
    dx, dw, db = affine_backward(dout, cache)
    near(dx, (dout.astype(float) @ w.T).reshape(x.shape), dtype)
    near(dw, x.reshape(2, -1).astype(float).T @ dout, dtype)
    near(db, dout.sum(0), dtype)
    check_gradients(affine_forward, affine_backward, *(a.astype(float) for a in (x, w, b)))


def test_relu_changes_nothing_in_place_and_passes_nothing_at_zero():
    x, dout = np.array([[-1.0, 0.0, 2.0]]), np.array([[3.0, 4.0, 5.0]])
    out, cache = relu_forward(x)
    assert np.array_equal(out, [[0, 0, 2]])
    assert cache is x
    assert np.array_equal(relu_backward(dout, cache), [[0, 0, 5]])
    assert np.array_equal(dout, [[3, 4, 5]])
    assert np.array_equal(x, [[-1, 0, 2]])


def test_losses_are_averages_and_finite():
    x, y = np.random.randn(5, 3), np.array([0, 2, 1, 1, 0])
    loss, dx = softmax_loss(x, y)
    shares = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    assert loss == pytest.approx(-np.log(shares[np.arange(5), y]).mean(), rel=1e-14)
    near(dx, (shares - np.eye(3)[y]) / 5)
    loss, dx = svm_loss(x, y)
    margins = np.maximum(0, x - x[np.arange(5), y, None] + 1) * (1 - np.eye(3)[y])
    assert loss == pytest.approx(margins.sum() / 5, rel=1e-14)
    near(dx, ((margins > 0) - np.eye(3)[y] * (margins > 0).sum(1, keepdims=True)) / 5)
    loss, dx = softmax_loss(np.array([[1000.0, -1000.0]]), np.array([1]))
    assert loss == 2000
    assert np.array_equal(dx, [[1, -1]])


# ---- batch norm


def batch_norm(x, gamma, beta, eps=1e-5):
    """The formula on (samples, features), in float64."""
    x = x.astype(float)
    return gamma * (x - x.mean(0)) / np.sqrt(x.var(0) + eps) + beta


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(4, 5), (2, 1), (97, 3)])
def test_batchnorm_training(shape, dtype):
    x, (gamma, beta) = (3 * np.random.randn(*shape) + 7).astype(dtype), np.random.randn(2, shape[1]).astype(dtype)
    kept = copy.deepcopy((x, gamma, beta))
    bn_param = {"mode": "train"}
    out, cache = batchnorm_forward(x, gamma, beta, bn_param)
    near(out, batch_norm(x, gamma, beta), dtype)
    near(bn_param["running_mean"], 0.1 * x.astype(float).mean(0), dtype)
    near(bn_param["running_var"], 0.1 * x.astype(float).var(0), dtype)
    dout = np.random.randn(*shape).astype(dtype)
    for backward in (batchnorm_backward, batchnorm_backward_alt):
        dx, dgamma, dbeta = backward(dout, cache)
        x_hat = (out.astype(float) - beta) / gamma
        near(dbeta, dout.sum(0), dtype)
        assert np.allclose(dgamma, (dout * x_hat).sum(0), atol=1e-4)
        assert dx.dtype == dgamma.dtype == dtype
    for before, after in zip(kept, (x, gamma, beta), strict=True):
        assert np.array_equal(before, after)


def test_batchnorm_gradients():
    x, gamma, beta = 5 * np.random.randn(4, 5) + 12, np.random.randn(5), np.random.randn(5)
    for bn_param in ({"mode": "train"}, {"mode": "train", "eps": 0.3, "momentum": 0.2}):
        for backward in (batchnorm_backward, batchnorm_backward_alt):
            check_gradients(lambda *a, p=bn_param: batchnorm_forward(*a, p), backward, x, gamma, beta)
    test = {"mode": "test", "running_mean": np.random.randn(5), "running_var": np.random.rand(5)}
    check_gradients(lambda *a: batchnorm_forward(*a, test), batchnorm_backward, x, gamma, beta)
    check_gradients(lambda *a: batchnorm_forward(*a, test), batchnorm_backward_alt, x, gamma, beta)


def test_running_statistics_weigh_the_old_and_are_bound_again():
    bn_param = {"mode": "train", "momentum": 0.75, "eps": 0.5, "note": "mine"}
    mean, var = np.zeros(3), np.zeros(3)
    for _ in range(3):
        x = np.random.randn(5, 3)
        before = bn_param.get("running_mean")
        kept = None if before is None else before.copy()
        batchnorm_forward(x, np.ones(3), np.zeros(3), bn_param)
        mean, var = 0.75 * mean + 0.25 * x.mean(0), 0.75 * var + 0.25 * x.var(0)  # biased, without eps
        near(bn_param["running_mean"], mean)
        near(bn_param["running_var"], var)
        assert bn_param["running_mean"] is not before
        assert before is None or np.array_equal(before, kept)
    assert bn_param["note"] == "mine"
    kept = copy.deepcopy(bn_param)
    bn_param["mode"] = "test"
    out, _ = batchnorm_forward(x, np.ones(3), np.zeros(3), bn_param)
    near(out, (x - mean) / np.sqrt(var + 0.5))
    assert np.array_equal(bn_param["running_mean"], kept["running_mean"])
    assert np.array_equal(bn_param["running_var"], kept["running_var"])
    one, _ = batchnorm_forward(x[:1], np.ones(3), np.zeros(3), bn_param)
    assert np.array_equal(one, out[:1])  # a prediction does not depend on its company


def test_a_first_call_in_test_mode_stores_zeros():
    bn_param = {"mode": "test"}
    x = np.random.randn(2, 3).astype(np.float32)
    out, _ = batchnorm_forward(x, np.ones(3, np.float32), np.zeros(3, np.float32), bn_param)
    near(out, x / np.sqrt(1e-5), np.float32)
    for name in ("running_mean", "running_var"):
        assert np.array_equal(bn_param[name], np.zeros(3))
        assert bn_param[name].dtype == np.float32


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_batch_of_one_gives_beta_and_passes_nothing_back(dtype):
    bn_param = {"mode": "train"}
    x, gamma, beta, dout = np.random.randn(4, 1, 3).astype(dtype)
    out, cache = batchnorm_forward(x, gamma[0], beta[0], bn_param)
    assert out.dtype == dtype
    assert np.array_equal(out, beta)
    near(bn_param["running_mean"], 0.1 * x[0], dtype)
    assert np.array_equal(bn_param["running_var"], np.zeros(3))
    dx, dgamma, dbeta = batchnorm_backward(dout, cache)
    assert np.array_equal(dx, np.zeros((1, 3)))
    assert np.array_equal(dgamma, np.zeros(3))
    assert np.array_equal(dbeta, dout[0])


def test_a_nan_does_not_get_into_the_running_statistics():
    bn_param = {"mode": "train", "running_mean": np.ones(2), "running_var": np.ones(2)}
    out, _ = batchnorm_forward(np.array([[np.nan, 1.0], [2.0, 3.0]]), np.ones(2), np.zeros(2), bn_param)
    assert np.isnan(out[:, 0]).all()
    assert np.array_equal(bn_param["running_mean"], [1, 1])
    assert np.array_equal(bn_param["running_var"], [1, 1])


def test_modes_and_momentum_are_judged_before_the_dict_changes():
    x, gamma, beta = np.ones((2, 3)), np.ones(3), np.zeros(3)
    for bn_param, message in (
        ({"mode": "eval"}, 'Invalid forward batchnorm mode "eval"'),
        ({"mode": "train", "momentum": 1.5}, "batchnorm_forward: expected momentum >= 0 and at most 1, got 1.5"),
        ({"mode": "train", "running_var": np.ones(2)}, r"batchnorm_forward: expected running_var of shape \(3,\)"),
        ({"mode": "test", "running_var": -np.ones(3)}, "expected finite mean and var >= 0"),
        ({"mode": "train", "eps": -1}, "expected eps >= 0"),
    ):
        kept = copy.deepcopy(bn_param)
        with pytest.raises(ValueError, match=message):
            batchnorm_forward(x, gamma, beta, bn_param)
        assert bn_param.keys() == kept.keys()
    with pytest.raises(ValueError, match='^Invalid forward batchnorm mode "None"$'):
        batchnorm_forward(x, gamma, beta, {})
    with pytest.raises(ValueError, match=r"batchnorm_forward: expected x of shape \(N, D\), got \(2, 3, 1, 1\)"):
        batchnorm_forward(x[:, :, None, None], gamma, beta, {"mode": "train"})


def test_spatial_batchnorm():
    x, gamma, beta = 4 * np.random.randn(2, 3, 4, 5) + 10, np.random.randn(3), np.random.randn(3)
    bn_param = {"mode": "train"}
    out, _ = spatial_batchnorm_forward(x, gamma, beta, bn_param)
    rows = x.transpose(0, 2, 3, 1).reshape(-1, 3)
    near(out, batch_norm(rows, gamma, beta).reshape(2, 4, 5, 3).transpose(0, 3, 1, 2))
    near(bn_param["running_mean"], 0.1 * rows.mean(0))
    near(bn_param["running_var"], 0.1 * rows.var(0))
    check_gradients(
        lambda *a: spatial_batchnorm_forward(*a, {"mode": "train"}), spatial_batchnorm_backward, x, gamma, beta
    )
    test = {"mode": "test", "running_mean": np.random.randn(3), "running_var": np.random.rand(3)}
    check_gradients(lambda *a: spatial_batchnorm_forward(*a, test), spatial_batchnorm_backward, x, gamma, beta)


# ---- layer and group norm


@pytest.mark.parametrize("ln_param", [{}, {"mode": "train", "eps": 1e-5}, {"eps": 0.7}], ids=str)
def test_layernorm(ln_param):
    x, gamma, beta = 3 * np.random.randn(4, 7) - 2, np.random.randn(7), np.random.randn(7)
    kept = dict(ln_param)
    out, _ = layernorm_forward(x, gamma, beta, ln_param)
    eps = ln_param.get("eps", 1e-5)
    near(out, gamma * batch_norm(x.T, 1, 0, eps).T + beta)
    assert ln_param == kept
    check_gradients(lambda *a: layernorm_forward(*a, ln_param), layernorm_backward, x, gamma, beta)


@pytest.mark.parametrize("form", [(1, 6, 1, 1), (6,)], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_spatial_groupnorm(groups, form):
    x, gamma, beta = np.random.randn(2, 6, 2, 3), np.random.randn(*form), np.random.randn(*form)
    gn_param = {"mode": "train", "eps": 0.2}
    out, _ = spatial_groupnorm_forward(x, gamma, beta, groups, gn_param)
    rows = x.reshape(2 * groups, -1)  # neighbouring channels make a group
    x_hat = batch_norm(rows.T, 1, 0, 0.2).T.reshape(x.shape)
    near(out, gamma.reshape(6, 1, 1) * x_hat + beta.reshape(6, 1, 1))
    check_gradients(
        lambda *a: spatial_groupnorm_forward(*a, groups, gn_param), spatial_groupnorm_backward, x, gamma, beta
    )


def test_groupnorm_refuses_gamma_per_group():
    x = np.random.randn(2, 6, 2, 3)
    with pytest.raises(ValueError, match=r"expected gamma of shape \(1, 6, 1, 1\) or \(6,\), got \(2,\)"):
        spatial_groupnorm_forward(x, np.ones(2), np.zeros(6), 2, {})
    with pytest.raises(ValueError, match="divi"):
        spatial_groupnorm_forward(x, np.ones(6), np.zeros(6), 4, {})


# ---- dropout


def test_dropout_is_one_draw_of_the_global_generator():
    x = np.random.randn(5, 3)
    np.random.seed(7)
    draw, after = np.random.rand(5, 3), np.random.rand()
    np.random.seed(7)
    dropout_param = {"mode": "train", "p": 0.3}
    out, (kept, mask) = dropout_forward(x, dropout_param)
    assert np.random.rand() == after
    assert kept is dropout_param
    assert np.array_equal(mask, (draw < 0.3) / 0.3)
    near(out, x * (draw < 0.3) / 0.3)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_dropout_gradient_and_means(p):
    x = np.random.randn(6, 7) + 10
    seeded = {"mode": "train", "p": p, "seed": 123}
    check_gradients(lambda a: dropout_forward(a, seeded), dropout_backward, x)
    out, _ = dropout_forward(np.ones((500, 400)) * 10, seeded)
    assert abs((out == 0).mean() - (1 - p)) < 0.01  # p is the share kept
    assert abs(out.mean() - 10) < 0.15  # inverted: the expectation stays
    test, (_, mask) = dropout_forward(x, {"mode": "test", "p": p})
    assert mask is None
    assert np.array_equal(test, x)


def test_dropout_seeds_the_global_generator_in_both_modes():
    for mode in ("train", "test"):
        dropout_param = {"mode": mode, "p": 0.5, "seed": 11}
        first, _ = dropout_forward(np.ones((4, 4)), dropout_param)
        state = np.random.rand()
        second, _ = dropout_forward(np.ones((4, 4)), dropout_param)
        assert np.array_equal(first, second)
        assert np.random.rand() == state


def test_dropout_backward_reads_the_mode_from_the_live_dict():
    dropout_param = {"mode": "train", "p": 0.5}
    _, cache = dropout_forward(np.ones((4, 4)), dropout_param)
    dout = np.random.randn(4, 4)
    near(dropout_backward(dout, cache), dout * cache[1])
    dropout_param["mode"] = "test"
    assert np.array_equal(dropout_backward(dout, cache), dout)


@pytest.mark.parametrize("dtype", FLOATS)
def test_dropout_at_its_ends_and_types(dtype):
    x = np.random.randn(3, 4).astype(dtype)
    for p, true in ((0, 0 * x), (1, x)):
        out, cache = dropout_forward(x, {"mode": "train", "p": p})
        assert np.array_equal(out, true)
        assert out.dtype == dtype
        dx = dropout_backward(x, cache)
        assert np.array_equal(dx, true)
        assert dx.dtype == dtype


def test_dropout_messages():
    with pytest.raises(ValueError, match="expected p >= 0 and at most 1, got 2. In 2026 it is the share kept"):
        dropout_forward(np.ones(2), {"mode": "train", "p": 2})
    with pytest.raises(ValueError, match="dropout_forward: expected mode 'train' or 'test', got 'eval'"):
        dropout_forward(np.ones(2), {"mode": "eval", "p": 0.5})


# ---- convolution and pooling


def conv_loops(x, w, b, stride, pad):
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    padded = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    padded[:, :, pad : pad + H, pad : pad + W] = x
    out = np.zeros((N, F, (H + 2 * pad - HH) // stride + 1, (W + 2 * pad - WW) // stride + 1))
    for n, f, r, c in np.ndindex(out.shape):
        window = padded[n, :, r * stride : r * stride + HH, c * stride : c * stride + WW]
        out[n, f, r, c] = (window * w[f]).sum() + b[f]
    return out


def pool_loops(x, height, width, stride):
    N, C, H, W = x.shape
    out = np.zeros((N, C, (H - height) // stride + 1, (W - width) // stride + 1))
    for n, c, r, q in np.ndindex(out.shape):
        out[n, c, r, q] = x[n, c, r * stride : r * stride + height, q * stride : q * stride + width].max()
    return out


CONVS = [(conv_forward_naive, conv_backward_naive)]
CONVS.append((fast_layers.conv_forward_fast, fast_layers.conv_backward_fast))
POOLS = [(max_pool_forward_naive, max_pool_backward_naive)]
POOLS.append((fast_layers.max_pool_forward_fast, fast_layers.max_pool_backward_fast))
KINDS = ["naive", "fast"]

# H, W, HH, WW, stride, pad: squares and oblongs, strides that leave pixels over, no padding
CONV_SHAPES = [(5, 5, 3, 3, 1, 1), (4, 6, 3, 2, 2, 0), (5, 4, 2, 3, 3, 2), (3, 5, 1, 1, 1, 0), (4, 4, 4, 4, 2, 1)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", CONV_SHAPES, ids=str)
@pytest.mark.parametrize(("forward", "backward"), CONVS, ids=KINDS)
def test_conv(forward, backward, shape, dtype):
    H, W, HH, WW, stride, pad = shape
    x, w, b = (np.random.randn(*s).astype(dtype) for s in ((2, 3, H, W), (4, 3, HH, WW), (4,)))
    conv_param = {"stride": stride, "pad": pad}
    kept = x.copy()
    out, cache = forward(x, w, b, conv_param)
    near(out, conv_loops(x, w, b, stride, pad), dtype)
    assert all(a is c for a, c in zip(cache, (x, w, b, conv_param), strict=False))
    assert len(cache) == (4 if forward is conv_forward_naive else 5)
    dx, dw, db = backward(np.random.randn(*out.shape).astype(dtype), cache)
    assert dx.dtype == dw.dtype == db.dtype == dtype
    assert np.array_equal(x, kept)
    if dtype == np.float64:
        check_gradients(lambda *a: forward(*a, conv_param), backward, x, w, b)


# H, W, height, width, stride: tiling, overlapping, leaving pixels over, oblong
POOL_SHAPES = [(4, 6, 2, 2, 2), (5, 4, 3, 3, 1), (5, 7, 2, 3, 2), (6, 5, 3, 2, 3), (3, 3, 3, 3, 1)]


@pytest.mark.parametrize("shape", POOL_SHAPES, ids=str)
@pytest.mark.parametrize(("forward", "backward"), POOLS, ids=KINDS)
def test_max_pool(forward, backward, shape):
    H, W, height, width, stride = shape
    x = np.random.permutation(2 * 3 * H * W).reshape(2, 3, H, W) / 8.0  # apart by more than a numeric step
    pool_param = {"pool_height": height, "pool_width": width, "stride": stride}
    out, cache = forward(x, pool_param)
    assert np.array_equal(out, pool_loops(x, height, width, stride))
    assert cache[0] is x
    assert cache[1] is pool_param
    check_gradients(lambda a: forward(a, pool_param), backward, x)
    out, cache = forward(x.astype(np.float32), pool_param)
    assert out.dtype == backward(out, cache).dtype == np.float32


@pytest.mark.parametrize(("forward", "backward"), POOLS, ids=KINDS)
def test_equal_numbers_share_one_gradient(forward, backward):
    _, cache = forward(np.ones((1, 1, 2, 2)), {"pool_height": 2, "pool_width": 2, "stride": 2})
    assert np.array_equal(backward(np.full((1, 1, 1, 1), 8.0), cache), [[[[8, 0], [0, 0]]]])


def test_a_students_forward_goes_with_our_backward():
    """Caches made by hand, with no more in them than the course's contract says."""
    x, w, b = np.random.randn(2, 3, 5, 4), np.random.randn(2, 3, 3, 2), np.random.randn(2)
    conv_param, pool_param = {"stride": 2, "pad": 1}, {"pool_height": 2, "pool_width": 3, "stride": 1}
    dout = np.random.randn(*conv_loops(x, w, b, 2, 1).shape)
    naive = conv_backward_naive(dout, (x, w, b, conv_param))
    for cache in (
        (x, w, b, conv_param),
        (x, w, b, conv_param, np.zeros((18, 12))),  # the staff's columns
        fast_layers.conv_forward_fast(x, w, b, conv_param)[1],
    ):
        for backward in (fast_layers.conv_backward_fast, conv_backward_naive):
            for got, true in zip(backward(dout, cache), naive, strict=True):
                near(got, true)
    dout = np.random.randn(2, 3, 4, 2)
    for backward in (fast_layers.max_pool_backward_fast, max_pool_backward_naive):
        near(backward(dout, (x, pool_param)), max_pool_backward_naive(dout, (x, pool_param)))
    rows, dout = np.random.randn(4, 6), np.random.randn(4, 6)
    assert np.array_equal(relu_backward(dout, rows), dout * (rows > 0))
    mask = (np.random.rand(4, 6) < 0.4) / 0.4
    near(dropout_backward(dout, ({"mode": "train", "p": 0.4}, mask)), dout * mask)
    weights = np.random.randn(6, 6)
    near(affine_backward(dout, (rows, weights, np.zeros(6)))[1], rows.T @ dout)


def test_required_keys_and_shapes_are_asked_for():
    x, w, b = np.ones((1, 2, 4, 4)), np.ones((3, 2, 3, 3)), np.zeros(3)
    dout = np.ones((1, 3, 2, 3))
    for forward, backward in CONVS:
        with pytest.raises(ValueError, match="expected conv_param with 'stride', got the keys"):
            forward(x, w, b, {"pad": 1})
        with pytest.raises(ValueError, match="expected conv_param with 'pad', got the keys"):
            forward(x, w, b, {"stride": 1})
        with pytest.raises(ValueError, match=rf"{forward.__name__}: expected stride >= 1, got 0"):
            forward(x, w, b, {"stride": 0, "pad": 1})
        with pytest.raises(ValueError, match=r"expected w of shape"):
            forward(x, w[:, :1], b, {"stride": 1, "pad": 1})
        with pytest.raises(ValueError, match=r"expected windows no larger than the padded image"):
            forward(x[:, :, :2], w, b, {"stride": 1, "pad": 0})
        _, cache = forward(x, w, b, {"stride": 1, "pad": 0})
        with pytest.raises(ValueError, match=r"expected dout of shape \(1, 3, 2, 2\), got \(1, 3, 2, 3\)"):
            backward(dout, cache)
    for forward, backward in POOLS:
        with pytest.raises(ValueError, match="expected pool_param with 'pool_width', got"):
            forward(x, {"pool_height": 2, "stride": 2})
        with pytest.raises(ValueError, match=r"expected x of shape \(N, C, H, W\), got \(1, 2, 4\)"):
            forward(x[..., 0], {"pool_height": 2, "pool_width": 2, "stride": 2})
        _, cache = forward(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
        with pytest.raises(ValueError, match=r"expected dout of shape \(1, 2, 2, 2\), got \(1, 2, 1, 2\)"):
            backward(np.ones((1, 2, 1, 2)), cache)


# ---- sandwiches


def test_sandwiches():
    x, w, b = np.random.randn(2, 3, 8, 6), np.random.randn(4, 3, 3, 3), np.random.randn(4)
    gamma, beta = np.random.randn(2, 4)
    conv_param, pool_param = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
    check_gradients(lambda *a: layer_utils.conv_relu_forward(*a, conv_param), layer_utils.conv_relu_backward, x, w, b)
    check_gradients(
        lambda *a: layer_utils.conv_relu_pool_forward(*a, conv_param, pool_param),
        layer_utils.conv_relu_pool_backward,
        x, w, b,
    )  # fmt: skip

    def conv_bn_relu(x, w, b, gamma, beta):
        return layer_utils.conv_bn_relu_forward(x, w, b, gamma, beta, conv_param, {"mode": "train"})

    out, cache = conv_bn_relu(x, w, b, gamma, beta)
    assert len(cache) == 3
    dout = np.random.randn(*out.shape)
    gradients = dict(zip(("x", "w", "b", "gamma", "beta"), layer_utils.conv_bn_relu_backward(dout, cache), strict=True))
    assert np.abs(gradients["b"]).max() < 1e-12  # a bias before a batch norm has no effect
    small = {"x": x[:1, :, :4, :4].copy(), "w": w, "b": b, "gamma": gamma, "beta": beta}
    out, cache = conv_bn_relu(*small.values())
    dout = np.random.randn(*out.shape)
    gradients = layer_utils.conv_bn_relu_backward(dout, cache)
    for (name, array), gradient in zip(small.items(), gradients, strict=True):
        true = eval_numerical_gradient_array(lambda _: conv_bn_relu(*small.values())[0], array, dout)
        assert np.abs(gradient - true).max() < 1e-8 * (1 + np.abs(true).max()), name
    x, w, b = np.random.randn(2, 3, 4), np.random.randn(12, 10), np.random.randn(10)
    check_gradients(layer_utils.affine_relu_forward, layer_utils.affine_relu_backward, x, w, b)
    fc_cache, relu_cache = layer_utils.affine_relu_forward(x, w, b)[1]
    assert fc_cache[0] is x
    assert relu_cache.shape == (2, 10)


# ---- types


def test_integers_are_taken_as_numpy_would():
    x = np.arange(24).reshape(2, 12)
    w, b = np.ones((12, 2), int), np.array([0, 128])
    out, cache = affine_forward(x, w, b)
    near(out, np.array([[66, 194], [210, 338]]))
    dx, dw, db = affine_backward(np.ones((2, 2), int), cache)
    assert dx.dtype == dw.dtype == db.dtype == np.float64
    gamma, beta = np.array([3, 4, 5]), np.array([6, 7, 8])
    images = x.reshape(2, 3, 2, 2)
    for values, dtype in ((images, np.float64), (images.astype(np.float32), np.float32)):
        out, cache = spatial_batchnorm_forward(values, gamma, beta, {"mode": "train"})
        assert out.dtype == dtype
        assert np.allclose(out.mean((0, 2, 3)), beta, atol=1e-5)
        assert [g.dtype for g in spatial_batchnorm_backward(np.ones(out.shape), cache)] == [dtype] * 3
        assert spatial_groupnorm_forward(values, gamma, beta, 3, {})[0].dtype == dtype
        assert conv_forward_naive(values, np.ones((2, 3, 1, 1), int), b, {"stride": 1, "pad": 0})[0].dtype == dtype
    assert relu_forward(x - 5)[0].dtype == np.float64
    assert dropout_forward(x, {"mode": "train", "p": 0.5})[0].max() > 2
    assert (
        max_pool_forward_naive(images, {"pool_height": 2, "pool_width": 2, "stride": 2})[0].sum()
        == 3 + 7 + 11 + 15 + 19 + 23
    )
    assert softmax_loss(x, np.array([0, 1]))[0] > 0


def test_different_floating_types_meet_as_in_numpy():
    x, w, b = np.random.randn(2, 3).astype(np.float32), np.random.randn(3, 4), np.zeros(4, np.float32)
    out, cache = affine_forward(x, w, b)
    assert out.dtype == np.float64
    near(out, x.astype(float) @ w)
    assert affine_backward(np.ones((2, 4)), cache)[0].dtype == np.float64


def test_perturbing_live_arrays_shows():
    """A closure that ignores its argument sees every change in place."""
    x, gamma, beta = np.random.randn(2, 3, 4, 4), np.ones(3), np.zeros(3)
    dout = np.random.randn(2, 3, 4, 4)
    _, cache = spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
    true = eval_numerical_gradient_array(
        lambda a: spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})[0], gamma, dout
    )
    assert rel_error(true, spatial_batchnorm_backward(dout, cache)[1]) < 1e-6


# ---- im2col


@pytest.mark.parametrize("shape", CONV_SHAPES, ids=str)
def test_im2col(shape):
    H, W, HH, WW, stride, pad = shape
    x, w, b = np.random.randn(2, 3, H, W), np.random.randn(4, 3, HH, WW), np.random.randn(4)
    columns = im2col.im2col_indices(x, HH, WW, pad, stride)
    out = conv_loops(x, w, b, stride, pad)
    product = w.reshape(4, -1) @ columns + b[:, None]
    near(product.reshape(4, *out.shape[2:], 2).transpose(3, 0, 1, 2), out)
    other = np.random.randn(*columns.shape)
    back = im2col.col2im_indices(other, x.shape, HH, WW, pad, stride)
    assert back.shape == x.shape
    assert (back * x).sum() == pytest.approx((other * columns).sum(), rel=1e-12)  # the transpose
    k, i, j = im2col.get_im2col_indices(x.shape, HH, WW, pad, stride)
    assert k.shape == (3 * HH * WW, 1)
    assert i.shape == j.shape == (3 * HH * WW, out.shape[2] * out.shape[3])


def test_im2col_refuses_patches_that_do_not_fit():
    with pytest.raises(ValueError, match="expected patches within 4 x 3 pixels, got 4 x 4"):
        im2col.im2col_indices(np.zeros((1, 1, 4, 3)), 4, 4, padding=0)


def test_xhat_itself_does_not_load_it():
    code = "import sys, xhat; assert not any(name.startswith('xhat.cs231n') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_star_imports_bring_what_the_notebooks_use():
    for module in (layers, layer_utils):
        assert set(module.__all__) <= set(dir(module))
    space = {}
    exec("from xhat.cs231n.classifiers.fc_net import *", space)
    assert {"FullyConnectedNet", "TwoLayerNet", "batchnorm_forward", "dropout_forward", "softmax_loss"} <= space.keys()
    space = {}
    exec("from xhat.cs231n.classifiers.cnn import *", space)
    assert {"ThreeLayerConvNet", "conv_forward_naive", "conv_forward_fast", "conv_relu_pool_forward"} <= space.keys()


# ---- what does not fit


def test_forged_caches_are_refused_in_words():
    d = np.ones((2, 3))
    for backward, cache in (
        (affine_backward, (d, d)),
        (affine_backward, None),
        (relu_backward, None),
        (batchnorm_backward, (1, 2)),
        (layernorm_backward, None),
        (spatial_batchnorm_backward, None),
        (spatial_groupnorm_backward, (1, 2, 3)),
        (dropout_backward, ({"mode": "train", "p": 0.5}, "x")),
        (dropout_backward, ({"mode": "train", "p": 0.5}, np.ones(3))),
        (dropout_backward, ({}, None)),
        (conv_backward_naive, ()),
        (conv_backward_naive, (d, d, d, {})),
        (max_pool_backward_naive, ("reshape", d)),
        (fast_layers.conv_backward_fast, ()),
        (fast_layers.max_pool_backward_fast, ("reshape", (d, d))),
    ):
        with pytest.raises((TypeError, ValueError), match=r"^(spatial_)?\w+_backward\w*: expected .*, got .*\. "):
            backward(d, cache)


def test_words_are_those_of_the_course():
    x = np.ones((2, 3))
    for call, message in (
        (lambda: affine_forward(x, np.ones((3, 2)), None), "^affine_forward: expected b as an array of real numbers"),
        (lambda: affine_forward(x, np.ones((2, 2)), 0), r"^affine_forward: expected w of shape \(3, any\)"),
        (lambda: batchnorm_forward(x, np.ones(2), 0, {"mode": "train"}), r"^batchnorm_forward: expected gamma of .*D"),
        (
            lambda: layernorm_forward(x, np.ones(2), np.ones(3), {}),
            r"^layernorm_forward: expected gamma of shape \(3,\)",
        ),
        (lambda: relu_backward(np.ones(2), x), r"^relu_backward: expected dout of shape \(2, 3\)"),
        (
            lambda: conv_forward_naive(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), [0], {"stride": 1, "pad": 1.0}),
            "^conv_forward_naive: expected pad as an integer, got float.*//",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()


def test_a_refused_mode_does_not_seed():
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    with pytest.raises(ValueError, match="mode"):
        dropout_forward(np.ones(2), {"mode": "eval", "p": 0.5, "seed": 7})
    assert np.array_equal(np.random.get_state()[1], state)


def test_group_norm_of_one_value_gives_beta():
    x, gamma, beta = np.random.randn(2, 3, 1, 1), np.ones((1, 3, 1, 1)), np.random.randn(1, 3, 1, 1)
    out, cache = spatial_groupnorm_forward(x, gamma, beta, 3, {})
    assert np.array_equal(out, np.broadcast_to(beta, x.shape))
    dx, dgamma, dbeta = spatial_groupnorm_backward(np.ones_like(x), cache)
    assert not dx.any()
    assert not dgamma.any()
    assert np.array_equal(dbeta, np.full((1, 3, 1, 1), 2.0))


def test_running_statistics_have_the_type_of_x_and_stay_the_callers():
    for dtype, kind in ((np.float32, np.float32), (int, np.float64)):
        bn_param = {"mode": "train"}
        batchnorm_forward(np.arange(6).reshape(2, 3).astype(dtype), np.ones(3), np.zeros(3), bn_param)
        assert bn_param["running_mean"].dtype == bn_param["running_var"].dtype == kind
    mean, var = [0.0, 1.0, 2.0], 1.0
    bn_param = {"mode": "test", "running_mean": mean, "running_var": var}
    batchnorm_forward(np.ones((2, 3)), np.ones(3), np.zeros(3), bn_param)
    assert bn_param["running_mean"] is mean
    assert bn_param["running_var"] is var


def test_the_names_of_the_extension():
    x, dout = np.random.randn(2, 3, 5, 4), np.random.randn(2, 3, 5, 4)
    cols = im2col_cython.im2col_cython(x, 3, 2, 1, 1)
    assert np.array_equal(cols, fast_layers.im2col_indices(x, 3, 2, 1, 1))
    back = im2col_cython.col2im_cython(cols, 2, 3, 5, 4, 3, 2, 1, 1)
    assert np.allclose((back * dout).sum(), (cols * im2col.im2col_indices(dout, 3, 2, 1, 1)).sum())
    by_picture = cols.reshape(3, 3, 2, 5, 5, 2).transpose(0, 1, 2, 5, 3, 4)
    assert np.array_equal(im2col_cython.col2im_6d_cython(by_picture, 2, 3, 5, 4, 3, 2, 1, 1), back)
