"""The largest entry of each window against a loop that says what is meant; bad arguments; bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels import oracle
from tests.kernels.oracle import DTYPES

from xhat import kernels
from xhat.kernels import pooling

pytestmark = oracle.needs_native

native = kernels.native
NATIVE = [name for name in kernels.VARIANTS if name != "reference"]
MESSAGE = r"^max_pool_(forward|backward): expected .+, got .+\. [A-Z].+\.$"


@pytest.fixture(autouse=True)
def same_threads_after():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def by_loops(x, dy, size, stride, padding=(0, 0)):
    """y, argmax and dx, window by window; dx in float64."""
    y, argmax, dx = np.empty_like(dy), np.empty(dy.shape, np.uint8), np.zeros(x.shape)
    for n, k, r, c in np.ndindex(y.shape):
        top, left = r * stride[0] - padding[0], c * stride[1] - padding[1]
        window = x[n, k, max(top, 0) : top + size[0], max(left, 0) : left + size[1]]
        where = int(np.isnan(window).argmax() if np.isnan(window).any() else window.argmax())
        i, j = divmod(where, window.shape[1])
        row, column = max(top, 0) + i, max(left, 0) + j
        y[n, k, r, c], argmax[n, k, r, c] = window[i, j], (row - top) * size[1] + column - left
        dx[n, k, row, column] += dy[n, k, r, c]
    return y, argmax, dx.astype(x.dtype)


def run(x, dy, size, stride, padding=(0, 0)):
    y, dx = np.full_like(dy, np.nan), np.full_like(x, np.nan)
    argmax = pooling.max_forward(x, size, stride, padding, y)
    pooling.max_backward(dy, argmax, size, stride, padding, dx)
    return y, argmax, dx


def make(shape, size, stride, dtype, seed=1, ties=True, padding=(0, 0)):
    rng = np.random.default_rng(seed)
    axes = zip(shape[2:], size, stride, padding, strict=True)
    y_shape = (*shape[:2], *((n + 2 * p - k) // s + 1 for n, k, s, p in axes))
    x = rng.integers(-2, 3, shape) * rng.choice([1.0, -1.0], shape) if ties else rng.standard_normal(shape)
    return x.astype(dtype), rng.standard_normal(y_shape).astype(dtype), size, stride, padding


def check(case):
    for name, got, true in zip(("y", "argmax", "dx"), run(*case), by_loops(*case), strict=True):
        assert got.dtype == true.dtype
        assert np.array_equal(got, true, equal_nan=True), name
        assert name == "argmax" or np.array_equal(np.signbit(got), np.signbit(true)), f"{name}: a zero's sign"


WINDOWS = [
    # image, size, stride, padding
    ((1, 1), (1, 1), (1, 1)),
    ((4, 6), (2, 2), (2, 2)),
    ((5, 7), (2, 3), (1, 2)),
    ((7, 5), (3, 2), (2, 1)),
    ((9, 9), (2, 2), (3, 4)),
    ((3, 67), (1, 3), (1, 1)),
    ((3, 131), (3, 3), (2, 2)),
    ((17, 31), (15, 17), (1, 1)),
    ((4, 4), (4, 4), (2**31, 2**31)),
    ((1, 1), (2, 2), (1, 1), (1, 1)),
    ((1, 1), (15, 17), (1, 1), (7, 8)),
    ((2, 64), (2, 2), (1, 1), (1, 1)),
    ((7, 112), (3, 3), (2, 2), (1, 1)),
    ((9, 19), (3, 1), (1, 1), (1, 0)),
    ((9, 20), (1, 5), (1, 1), (0, 2)),
    ((5, 31), (5, 15), (3, 3), (2, 7)),
    ((6, 6), (6, 6), (2**31, 2**31), (3, 3)),
]


@pytest.mark.parametrize("windows", WINDOWS, ids=str)
@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_size(windows, ties, dtype):
    image, size, stride, padding = (*windows, (0, 0))[:4]
    check(make((2, 3, *image), size, stride, dtype, ties=ties, padding=padding))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    st.tuples(*[st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2))] * 2),
    st.sampled_from(DTYPES),
    st.integers(0, 2**32 - 1),
)
def test_any_windows(axes, dtype, seed):
    image, size, stride = (tuple(axis[i] for axis in axes) for i in range(3))
    padding = tuple(min(axis[3], axis[1] // 2) for axis in axes)
    if all(k <= n + 2 * p for n, k, p in zip(image, size, padding, strict=True)):
        check(make((1, 2, *image), size, stride, dtype, seed, padding=padding))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [3, 40])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1)])
def test_nan_and_inf(width, dtype, padding):
    rng = np.random.default_rng(4)
    x, dy, *windows = make((2, 2, 6, width), (3, 2), (2, 1), dtype, padding=padding)
    for value in (np.nan, np.inf, -np.inf):
        x[rng.random(x.shape) < 0.1] = value
    check((x, dy, *windows))


def test_sums_of_overlapping_windows_are_rounded_once():
    x = np.array([[[[0.0, 0, 1, 0, 0]]]], np.float32)
    dy = np.array([[[[1, 2.0**-24, 2.0**-24]]]], np.float32)  # both are lost where float32 adds them up
    _, _, dx = run(x, dy, (1, 3), (1, 1))
    assert dx[0, 0, 0, 2] == np.float32(1 + 2.0**-23)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("padding", [(0, 0), (1, 1)])
@pytest.mark.parametrize("stride", [(2, 2), (1, 1), (3, 3)])
def test_bits_do_not_depend_on_threads_or_variants(dtype, stride, padding):
    case = make((9, 11, 57, 61), (2, 3), stride, dtype, ties=False, padding=padding)
    results = []
    for name in NATIVE:
        for threads in (1, 2, 5):
            kernels.set_num_threads(threads)
            with kernels.use(name):
                results.append([values.tobytes() for values in run(*case)])
    assert all(result == results[0] for result in results)


GOOD = {
    "image": np.zeros((6, 5, 7)),
    "windows": np.zeros((6, 2, 3)),
    "argmax": np.zeros((6, 2, 3), np.uint8),
    "size": (2, 2),
    "stride": (2, 2),
    "padding": (0, 0),
}


def call(function, **changes):
    """max_pool_forward or max_pool_backward with what the names say they read and write."""
    given = {**GOOD, **changes}
    if function == "max_pool_forward":
        arrays = given["image"], given["windows"], given["argmax"]
    else:
        arrays = given["windows"], given["argmax"], given["image"]
    getattr(native, function)(*arrays, given["size"], given["stride"], given["padding"])


BAD = [
    {"image": None},
    {"image": np.zeros((6, 5, 7), np.float32)},
    {"image": np.zeros((6, 5, 7), np.uint8)},
    {"image": np.zeros((6, 5, 6))[..., :0]},
    {"image": np.zeros((2, 3, 5, 7))},
    {"image": np.zeros((5, 5, 7))},
    {"image": np.zeros((6, 5, 14))[..., ::2]},
    {"windows": None},
    {"windows": np.zeros((6, 2, 4))},
    {"windows": np.zeros((6, 6))},
    {"windows": np.zeros((6, 2, 3), ">f8")},
    {"argmax": None},
    {"argmax": np.zeros((6, 2, 3))},
    {"argmax": np.zeros((6, 2, 3), np.int8)},
    {"argmax": np.zeros((6, 2, 3), bool)},
    {"argmax": np.zeros((6, 2, 3), np.uint16)},
    {"argmax": np.zeros((6, 2, 4), np.uint8)},
    {"argmax": np.zeros((6, 2, 6), np.uint8)[..., ::2]},
    {"size": (0, 2)},
    {"size": (-1, 2)},
    {"size": (6, 2)},
    {"size": (2**62, 2**62)},
    {"stride": (0, 2)},
    {"stride": (2, 2**62)},
    {"padding": (-1, 0)},
    {"padding": (1, 0)},  # one row of windows more than there is room for
    {"padding": (2, 0), "stride": (4, 2)},  # the first row of windows outside
    {"padding": (2**62, 0)},
    {"image": np.zeros((6, 0, 7)), "windows": np.zeros((6, 1, 3)), "argmax": np.zeros((6, 1, 3), np.uint8),
     "padding": (1, 0)},
    {"image": np.zeros((1, 20, 20)), "windows": np.zeros((1, 1, 1)), "argmax": np.zeros((1, 1, 1), np.uint8),
     "size": (16, 16), "stride": (5, 5)},
]  # fmt: skip


@pytest.mark.parametrize("function", ["max_pool_forward", "max_pool_backward"])
def test_bad_arguments_are_refused(function):
    call(function)
    for changes in BAD:
        with pytest.raises((TypeError, ValueError), match=MESSAGE):
            call(function, **changes)
    memory = np.zeros(300)
    overlapping = {"image": memory[35:245].reshape(6, 5, 7), "windows": memory[:36].reshape(6, 2, 3)}
    with pytest.raises(ValueError, match="to share no memory"):
        call(function, **overlapping)
    overlapping = {"image": memory[:210].reshape(6, 5, 7), "argmax": memory.view(np.uint8)[:36].reshape(6, 2, 3)}
    with pytest.raises(ValueError, match="to share no memory"):
        call(function, **overlapping)


def refused(image, argmax, *windows):
    """Whether this argmax is refused before anything is written."""
    out = np.full((1, *image), 7.0)
    try:
        native.max_pool_backward(np.zeros(argmax.shape), argmax, out, *windows)
    except ValueError as error:
        assert str(error).startswith("max_pool_backward: expected argmax inside its window and the image")
        assert (out == 7).all()
        return True
    return False


@pytest.mark.parametrize("forged", [4, 255])
def test_an_index_outside_its_window_is_refused(forged):
    argmax = np.zeros((1, 2, 3), np.uint8)
    assert not refused((5, 7), argmax, (2, 2), (2, 2), (0, 0))
    argmax[0, 1, 2] = forged
    assert refused((5, 7), argmax, (2, 2), (2, 2), (0, 0))


@pytest.mark.parametrize(
    ("image", "size", "stride", "padding"),
    [((4, 5), (3, 3), (2, 2), (1, 1)), ((2, 3), (2, 4), (1, 1), (1, 2)), ((3, 3), (5, 1), (1, 2), (2, 0))],
)
def test_an_index_outside_the_image_is_refused(image, size, stride, padding):
    """Every index of every window in turn: exactly those that name a pixel are taken."""
    x, y, *_ = make((1, 1, *image), size, stride, np.float64, padding=padding)
    good, counts = pooling.max_forward(x, size, stride, padding, y)[0], y.shape[2:]
    for r, c, i, j in np.ndindex(*counts, *size):
        argmax = good.copy()
        argmax[0, r, c] = i * size[1] + j
        row, column = r * stride[0] - padding[0] + i, c * stride[1] - padding[1] + j
        inside = 0 <= row < image[0] and 0 <= column < image[1]
        assert refused(image, argmax, size, stride, padding) != inside
