import ml_dtypes
import numpy as np
import pytest
from tests.contract.contract import MESSAGE

import xhat
from xhat import kernels, max_pool

each_variant = pytest.mark.parametrize("variant", kernels.VARIANTS)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def by_loops(x, dy, size, stride, padding=(0, 0)):
    """y and dx, window by window, in float64."""
    y, dx = np.empty(dy.shape), np.zeros(x.shape)
    for n, k, r, c in np.ndindex(dy.shape):
        top, left = r * stride[0] - padding[0], c * stride[1] - padding[1]
        rows, columns = slice(max(top, 0), top + size[0]), slice(max(left, 0), left + size[1])
        window = x[n, k, rows, columns]
        where = np.unravel_index(int((np.isnan(window) if np.isnan(window).any() else window).argmax()), window.shape)
        y[n, k, r, c] = window[where]
        dx[n, k, rows, columns][where] += dy[n, k, r, c]
    return y, dx


@each_variant
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        ((2, 2), None, (0, 0)),
        ((3, 2), (1, 1), (0, 0)),
        ((2, 3), (3, 2), (0, 0)),
        ((1, 1), (2, 3), (0, 0)),
        ((7, 9), None, (0, 0)),
        ((2, 1), (1, 4), (0, 0)),
        ((3, 3), (2, 2), (1, 1)),
        ((2, 2), (1, 1), (1, 0)),
        ((4, 5), (3, 1), (2, 2)),
        ((10, 13), (1, 2), (5, 6)),  # wider than the image
        ((20, 20), (3, 2), (10, 9)),  # without a kernel
    ],
)
def test_every_type_is_exact(variant, dtype, size, stride, padding, rng):
    x = rng.integers(-3, 4, (2, 3, 7, 9)).astype(dtype)  # with many ties
    x[0, 1, 2, 3] = x[1, 2, 6, 0] = np.nan
    x[1, 1, 1, 1], x[0, 0, 0, 0] = np.inf, -np.inf
    x[0, 2] = -np.inf
    with kernels.use(variant):
        y, cache = max_pool.forward(x, size, stride, padding)
        dy = rng.integers(-9, 10, y.shape).astype(dtype)
        dx = max_pool.backward(dy, cache).dx
    true_y, true_dx = by_loops(x.astype(float), dy.astype(float), size, stride or size, padding)
    assert y.dtype == dx.dtype == dtype
    assert np.array_equal(y.astype(float), true_y, equal_nan=True)
    assert np.array_equal(dx.astype(float), true_dx)


@each_variant
def test_one_gradient_for_equal_numbers(variant):
    with kernels.use(variant):
        _, cache = max_pool.forward(np.zeros((1, 1, 4, 4)), 2)
        dx = max_pool.backward(np.ones((1, 1, 2, 2)), cache).dx
    assert dx.sum() == 4
    assert np.array_equal(np.argwhere(dx[0, 0]), [[0, 0], [0, 2], [2, 0], [2, 2]])


@each_variant
@pytest.mark.parametrize("size", [(15, 17), (16, 16), (1, 300), (300, 230)])
def test_large_windows(variant, size, rng):
    """Beyond 255 entries an index takes two bytes, and NumPy computes."""
    x, dy = rng.permutation(np.prod(size)).astype(np.float32).reshape(1, 1, *size), np.full((1, 1, 1, 1), 3, np.float32)
    with kernels.use(variant):
        y, cache = max_pool.forward(x, size)
        dx = max_pool.backward(dy, cache).dx
    assert y == x.max()
    assert cache.argmax.dtype.itemsize == {255: 1, 256: 2, 300: 2, 69000: 4}[x.size]
    assert np.array_equal(dx, np.where(x == x.max(), 3, 0))


def test_the_cache_is_small_and_does_not_hold_x():
    x = np.zeros((2, 3, 8, 8), np.float32)
    _, cache = max_pool.forward(x)
    assert cache.argmax.nbytes == x.size / 4
    assert not any(np.may_share_memory(x, kept) for kept in cache if isinstance(kept, np.ndarray))


@each_variant
@pytest.mark.parametrize("size", [3, 17])
def test_what_lies_outside_never_wins(variant, size):
    """Not against the smallest number there is, either: its gradient would be lost."""
    x, p = np.full((1, 1, 40, 40), -np.inf), size // 2
    with kernels.use(variant):
        y, cache = max_pool.forward(x, size, 1, p)
        dx = max_pool.backward(np.ones(y.shape), cache).dx
    assert np.isneginf(y).all()
    assert dx.sum() == y.size
    assert dx[0, 0, 0, 0] == (p + 1) ** 2  # first of all windows that see it


def test_layer_keeps_what_was_said():
    assert repr(xhat.MaxPool2d((3, 3), stride=2)) == "MaxPool2d(size=3, stride=2)"
    assert repr(xhat.MaxPool2d()) == "MaxPool2d()"
    assert repr(xhat.MaxPool2d(3, 2, 1)) == "MaxPool2d(size=3, stride=2, padding=1)"
    assert repr(xhat.MaxPool2d((3, 2), padding=(0, 1))) == "MaxPool2d(size=(3, 2), padding=(0, 1))"
    y, _ = xhat.MaxPool2d((2, 3)).forward(np.zeros((1, 1, 4, 9)))
    assert y.shape == (1, 1, 2, 3)


def pooled():
    return max_pool.forward(np.zeros((1, 2, 4, 6), np.float32), 2)


def forged(**changes):
    y, cache = pooled()
    return lambda: max_pool.backward(y, cache._replace(**changes))


def forged_at(window, index, **changes):
    """The cache of windows of 3 x 3 over 4 x 6 pixels with one index changed."""
    y, cache = max_pool.forward(np.zeros((1, 2, 4, 6), np.float32), 3, 2, 1)
    argmax = cache.argmax.copy()
    argmax[0, 1, *window] = index
    return lambda: max_pool.backward(y, cache._replace(argmax=argmax, **changes))


FOUR = np.full((1, 2, 2, 3), 4, np.uint8)
PASS_ON = "Pass on the cache that forward returned."
WRONG = [
    (lambda: max_pool.forward(np.zeros((4, 4))), ValueError,
     "max_pool.forward: expected x of shape (N, C, H, W), got (4, 4). Give images as samples, channels, rows, columns."),
    (lambda: max_pool.forward(np.zeros((1, 1, 4, 4)), (2, 5)), ValueError,
     "max_pool.forward: expected windows no larger than the padded image, (4, 4), got (2, 5). "
     "Give smaller ones, or larger images."),
    (lambda: max_pool.forward(np.zeros((1, 1, 4, 4)), 0), ValueError,
     "max_pool.forward: expected size >= 1, got 0. Give the rows and columns of a window; 2 is usual."),
    (lambda: max_pool.forward(np.zeros((1, 1, 4, 4)), 2, 0), ValueError,
     "max_pool.forward: expected stride >= 1, got 0. "
     "The stride is how many pixels a window moves on; None is the window's size."),
    (forged(argmax=FOUR), ValueError, f"max_pool.backward: expected cache.argmax below 4, got 4. {PASS_ON}"),
    (forged(argmax=FOUR.astype(np.int8)), TypeError,
     f"max_pool.backward: expected cache.argmax as an array of uint8, got int8. {PASS_ON}"),
    (forged(argmax=FOUR[..., :2]), ValueError,
     f"max_pool.backward: expected cache.argmax of shape (1, 2, 2, 3), got (1, 2, 2, 2). {PASS_ON}"),
    (forged(shape=(1, 2, 4, 1)), ValueError, None),
    (forged(shape=(1, 2, 4)), ValueError,
     f"max_pool.backward: expected cache.shape of 4 sizes, got (1, 2, 4). {PASS_ON}"),
    (forged(shape=(1, 2, 4, -6)), ValueError, f"max_pool.backward: expected cache.shape >= 0, got -6. {PASS_ON}"),
    (forged(size=(200, 200)), ValueError, None),
    (lambda: max_pool.forward(np.zeros((1, 1, 4, 4)), 3, 2, 2), ValueError,
     "max_pool.forward: expected padding of at most half a window, (1, 1), got (2, 2). "
     "The padding is how far windows reach over the edges of the image; 0 is not at all."),
    (lambda: max_pool.forward(np.zeros((1, 1, 4, 4)), 2, padding=-1), ValueError,
     "max_pool.forward: expected padding >= 0, got -1. "
     "The padding is how far windows reach over the edges of the image; 0 is not at all."),
    (lambda: max_pool.forward(np.zeros((1, 1, 4, 4)), 2, padding=0.5), TypeError, None),
    (lambda: max_pool.forward(np.zeros((1, 1, 0, 4)), 2, padding=1), ValueError,
     "max_pool.forward: expected images with at least one row and column, got (1, 1, 0, 4). Give larger images."),
    (lambda: max_pool.forward(np.zeros((1, 1, 1, 4)), 4, padding=1), ValueError,
     "max_pool.forward: expected windows no larger than the padded image, (3, 6), got (4, 4). "
     "Give smaller ones, or larger images."),
    (lambda: xhat.MaxPool2d((4, 2), padding=2), ValueError,
     "MaxPool2d: expected padding of at most half a window, (2, 1), got (2, 2). "
     "The padding is how far windows reach over the edges of the image; 0 is not at all."),
    (forged(padding=1), TypeError, f"max_pool.backward: expected cache.padding as a tuple, got int. {PASS_ON}"),
    (forged(padding=(0, 2)), ValueError,
     f"max_pool.backward: expected cache.padding of at most half a window, (1, 1), got (0, 2). {PASS_ON}"),
    (forged(padding=(1, 1)), ValueError, None),
    (forged_at((1, 1), 9), ValueError, f"max_pool.backward: expected cache.argmax below 9, got 9. {PASS_ON}"),
    (forged_at((1, 2), 4, padding=(0, 0)), ValueError, None),
    *[(forged_at(window, index), ValueError,
       "max_pool.backward: expected cache.argmax inside the image, got an entry of a window that lies outside. "
       f"{PASS_ON}")
      for window, index in (((0, 0), 0), ((0, 0), 2), ((0, 0), 3), ((0, 2), 1), ((1, 0), 6))],
    (forged(stride=2), TypeError, f"max_pool.backward: expected cache.stride as a tuple, got int. {PASS_ON}"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message is None or str(caught.value) == message
    assert MESSAGE.fullmatch(str(caught.value))
