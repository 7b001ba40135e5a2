import numpy as np
import pytest
from tests.contract.contract import MESSAGE

import xhat
from xhat import conv, kernels

each_variant = pytest.mark.parametrize("variant", kernels.VARIANTS)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@each_variant
def test_a_filter_of_one_pixel_is_an_affine_layer_at_every_pixel(variant, rng):
    x, w, b, dy = (rng.standard_normal(s) for s in ((4, 3, 5, 6), (2, 3, 1, 1), (2,), (4, 2, 5, 6)))
    with kernels.use(variant):
        y, cache = conv.forward(x, w, b)
        g = conv.backward(dy, cache)
        last = [values.transpose(0, 2, 3, 1) for values in (x, dy)]
        other, other_cache = xhat.affine.forward(last[0], w[:, :, 0, 0].T, b)
        others = xhat.affine.backward(last[1], other_cache)
    assert np.allclose(y.transpose(0, 2, 3, 1), other, rtol=0, atol=1e-14)
    assert np.allclose(g.dx.transpose(0, 2, 3, 1), others.dx, rtol=0, atol=1e-14)
    assert np.allclose(g.dw[:, :, 0, 0].T, others.dw, rtol=1e-13, atol=1e-14)
    assert np.allclose(g.db, others.db, rtol=1e-13, atol=1e-14)


@each_variant
def test_a_filter_as_large_as_the_image_is_an_affine_layer(variant, rng):
    x, w, b = (rng.standard_normal(s) for s in ((4, 3, 5, 2), (7, 3, 5, 2), (7,)))
    with kernels.use(variant):
        y, _ = conv.forward(x, w, b, stride=3)
    other, _ = xhat.affine.forward(x.reshape(4, -1), w.reshape(7, -1).T, b)
    assert y.shape == (4, 7, 1, 1)
    assert np.allclose(y.reshape(4, 7), other, rtol=0, atol=1e-13)


@each_variant
def test_padding_is_zeros_around_the_image(variant, rng):
    x, w = rng.standard_normal((2, 3, 5, 4)), rng.standard_normal((2, 3, 3, 3))
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (1, 1)))
    with kernels.use(variant):
        y, cache = conv.forward(x, w, stride=2, padding=(2, 1))
        other, other_cache = conv.forward(padded, w, stride=2)
        dy = rng.standard_normal(y.shape)
        g, others = conv.backward(dy, cache), conv.backward(dy, other_cache)
    assert np.allclose(y, other, rtol=0, atol=1e-14)
    assert np.allclose(g.dx, others.dx[:, :, 2:-2, 1:-1], rtol=0, atol=1e-14)
    assert np.allclose(g.dw, others.dw, rtol=0, atol=1e-13)


@each_variant
def test_what_no_window_reaches_gets_no_gradient(variant, rng):
    x, w = rng.standard_normal((2, 1, 7, 6)), rng.standard_normal((1, 1, 2, 3))
    with kernels.use(variant):
        y, cache = conv.forward(x, w, stride=(3, 4))
        dx = conv.backward(rng.standard_normal(y.shape), cache).dx
    assert y.shape == (2, 1, 2, 1)
    reached = np.zeros((7, 6), bool)
    reached[np.ix_([0, 1, 3, 4], [0, 1, 2])] = True
    assert (dx[:, :, reached] != 0).all()
    assert not dx[:, :, ~reached].any()


@each_variant
def test_nan_and_inf_reach_the_windows_that_see_them_and_no_others(variant, rng):
    x, w = rng.standard_normal((2, 2, 6, 6)), rng.standard_normal((3, 2, 3, 3))
    clean, _ = conv.forward(x, w)
    x[1, 0, 0, 0], x[0, 1, 5, 5] = np.nan, np.inf
    with kernels.use(variant):
        y, _ = conv.forward(x, w)
    seen = np.zeros(y.shape, bool)
    seen[1, :, 0, 0] = seen[0, :, 3, 3] = True
    assert not np.isfinite(y[seen]).any()
    assert np.allclose(y[~seen], clean[~seen], rtol=0, atol=1e-14)


@each_variant
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_error_is_a_few_eps_of_the_sum_of_absolute_values(variant, dtype, rng):
    """Windows of 900 numbers, which largely cancel."""
    x, w = rng.standard_normal((3, 100, 7, 8)).astype(dtype), rng.standard_normal((5, 100, 3, 3)).astype(dtype)
    b = rng.standard_normal(5).astype(dtype)
    with kernels.use(variant):
        y, cache = conv.forward(x, w, b, padding=1)
        dy = rng.standard_normal(y.shape).astype(dtype)
        g = conv.backward(dy, cache)
    wide, absolute = ([change(v.astype(np.longdouble)) for v in (x, w, b, dy)] for change in (np.asarray, np.abs))
    worst = {}
    truths, sizes = [], []
    for results, (wide_x, wide_w, wide_b, wide_dy) in ((truths, wide), (sizes, absolute)):
        true_y, true_cache = conv.reference_forward(wide_x, wide_w, wide_b, padding=1)
        results += [true_y, *conv.reference_backward(wide_dy, true_cache)]
    for name, got, true, size in zip(("y", "dx", "dw", "db"), (y, *g), truths, sizes, strict=True):
        worst[name] = float((np.abs(got - true) / size).max()) / np.finfo(dtype).eps
    assert worst["y"] < 1, worst
    assert max(worst.values()) < 3, worst


@each_variant
def test_types_of_parameters_are_their_own(variant, rng):
    x = rng.standard_normal((2, 1, 3, 3)).astype(np.float32)
    with kernels.use(variant):
        y, cache = conv.forward(x, rng.standard_normal((2, 1, 2, 2)), [1, 2])
        g = conv.backward(np.ones_like(y), cache)
    assert (y.dtype, g.dx.dtype, g.dw.dtype, g.db.dtype) == (np.float32, np.float32, np.float64, np.float64)


def test_first_weights():
    layer = xhat.Conv2d(16, 64, (3, 5), rng=0, dtype=np.float64)
    w = layer.parameters["w"]
    assert w.shape == (64, 16, 3, 5)
    assert abs(w.std() * np.sqrt(16 * 15 / 2) - 1) < 0.02
    assert abs(w.mean()) < 3 * w.std() / np.sqrt(w.size)
    assert not layer.parameters["b"].any()
    assert "b" not in xhat.Conv2d(1, 1, 1, bias=False).parameters
    assert repr(xhat.Conv2d(1, 2, (3, 3), padding=(1, 2))) == "Conv2d(inputs=1, outputs=2, size=3, padding=(1, 2))"


X, W = np.zeros((2, 3, 5, 4)), np.zeros((2, 3, 3, 3))
FITTING = "Give w as (F, C, HH, WW), with C the channels of x, and b as (F,)."
STRIDE = "The stride is how many pixels a window moves on; 1 is usual."
WRONG = [
    (lambda: conv.forward(X[0], W), ValueError,
     "conv.forward: expected x of shape (N, C, H, W), got (3, 5, 4). Give images as samples, channels, rows, columns."),
    (lambda: conv.forward(X, W[:, :2]), ValueError,
     f"conv.forward: expected w of shape (any, 3, any, any), got (2, 2, 3, 3). {FITTING}"),
    (lambda: conv.forward(X, W[0]), ValueError,
     f"conv.forward: expected w of shape (any, 3, any, any), got (3, 3, 3). {FITTING}"),
    (lambda: conv.forward(X, W[..., :0]), ValueError,
     f"conv.forward: expected w with at least one row and column, got (2, 3, 3, 0). {FITTING}"),
    (lambda: conv.forward(X, W, np.zeros(3)), ValueError,
     f"conv.forward: expected b of shape (2,), got (3,). {FITTING}"),
    (lambda: conv.forward(X, [[1], [2, 3]]), TypeError, None),
    (lambda: conv.forward(X, W, stride=0), ValueError, f"conv.forward: expected stride >= 1, got 0. {STRIDE}"),
    (lambda: conv.forward(X, W, stride=(1, 2, 3)), ValueError,
     f"conv.forward: expected stride as one number or (rows, columns), got (1, 2, 3). {STRIDE}"),
    (lambda: conv.forward(X, W, stride=1.5), TypeError,
     f"conv.forward: expected stride as an integer, got float. {STRIDE}"),
    (lambda: conv.forward(X, W, stride=2**31), ValueError,
     f"conv.forward: expected stride below 2**31, got 2147483648. {STRIDE}"),
    (lambda: conv.forward(X, W, padding=(0, -1)), ValueError,
     "conv.forward: expected padding >= 0, got -1. "
     "The padding is how many rows and columns of zeros go around the image; 0 is none."),
    (lambda: conv.forward(X, np.zeros((2, 3, 6, 7)), padding=(0, 1)), ValueError,
     "conv.forward: expected windows no larger than the padded image, (5, 6), got (6, 7). "
     "Give smaller ones, or larger images."),
    (lambda: conv.forward(X, W, padding=2**30), ValueError,
     "conv.forward: expected an output that fits memory, got one of shape (2, 2, 2147483651, 2147483650). "
     "Use less padding."),
    (lambda: xhat.Conv2d(0, 1, 3), ValueError,
     "Conv2d: expected inputs >= 1, got 0. Give the number of channels that come in."),
    (lambda: xhat.Conv2d(1, 1, 0), ValueError,
     "Conv2d: expected size >= 1, got 0. Give the rows and columns of the filters; 3 is usual."),
    (lambda: xhat.Conv2d(1, 1, 3, stride=0), ValueError, f"Conv2d: expected stride >= 1, got 0. {STRIDE}"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message is None or str(caught.value) == message
    assert MESSAGE.fullmatch(str(caught.value))
