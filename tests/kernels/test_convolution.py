"""Columns of images, and products of them, against a loop that says what is meant; bad arguments; bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels import oracle
from tests.kernels.oracle import DTYPES

from xhat import kernels
from xhat.kernels import convolution

pytestmark = oracle.needs_native

native = kernels.native
NATIVE = [name for name in kernels.VARIANTS if name != "reference"]
MESSAGE = r"^(im2col|col2im): expected .+, got .+\. [A-Z].+\.$"


@pytest.fixture(autouse=True)
def same_threads_after():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def counts(image, size, stride, padding):
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(image, size, stride, padding, strict=True))


def columns_by_loops(x, members, size, stride, padding):
    """What im2col shall write, entry by entry."""
    n, channels, *image = x.shape
    count = counts(image, size, stride, padding)
    columns = np.zeros((n // members, channels, *size, members, *count), x.dtype)
    for group, channel, i, j, member, r, c in np.ndindex(columns.shape):
        row, column = r * stride[0] + i - padding[0], c * stride[1] + j - padding[1]
        if 0 <= row < image[0] and 0 <= column < image[1]:
            columns[group, channel, i, j, member, r, c] = x[group * members + member, channel, row, column]
    return columns


def check_columns(shape, members, size, stride, padding, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    true = columns_by_loops(x, members, size, stride, padding)
    got = np.full_like(true, np.nan)
    native.im2col(x, got, stride, padding)
    assert np.array_equal(got, true)
    # col2im is the transpose: <im2col(x), d> = <x, col2im(d)>; whole numbers, so that no sum is rounded
    d = rng.integers(-9, 10, true.shape).astype(dtype)
    whole = rng.integers(-9, 10, shape).astype(dtype)
    native.im2col(whole, got, stride, padding)
    back = np.full_like(x, np.nan)
    native.col2im(d, back, stride, padding)
    assert (got * d).sum() == (whole * back).sum()


WINDOWS = [
    # image, size, stride, padding
    ((1, 1), (1, 1), (1, 1), (0, 0)),
    ((5, 4), (3, 2), (1, 1), (0, 0)),
    ((5, 4), (3, 3), (2, 2), (1, 1)),
    ((4, 7), (2, 3), (3, 2), (1, 2)),
    ((2, 2), (1, 1), (2, 1), (3, 2)),  # windows that see nothing but padding
    ((3, 2), (7, 6), (1, 1), (2, 2)),  # larger than the image
    ((17, 33), (3, 3), (2, 3), (0, 1)),
    ((9, 40), (1, 4), (5, 1), (0, 0)),
    ((3, 3), (2, 2), (2**31, 2**40 % 2**31 + 7), (0, 0)),  # one window
]


@pytest.mark.parametrize("windows", WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("images", "members"), [(1, 1), (4, 1), (6, 3), (2, 2)])
def test_columns(windows, dtype, images, members):
    image, size, stride, padding = windows
    check_columns((images, 3, *image), members, size, stride, padding, dtype, np.random.default_rng(1))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2)),
    st.tuples(*[st.tuples(st.integers(0, 8), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))] * 2),
    st.sampled_from(DTYPES),
)
def test_any_windows(counted, axes, dtype):
    groups, members, channels = counted
    image, size, stride, padding = (tuple(axis[i] for axis in axes) for i in range(4))
    if min(counts(image, size, stride, padding)) < 1:
        return
    rng = np.random.default_rng(2)
    check_columns((groups * members, channels, *image), members, size, stride, padding, dtype, rng)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_sums_of_overlapping_windows_are_rounded_once(stride):
    """1 + 2⁻²⁴ + 2⁻²⁴: added up in float32, in this order, both small ones are lost."""
    size = 2 * stride + 1
    d = np.zeros((1, 1, 1, size, 1, 1, 3), np.float32)
    for j, value in ((0, 1.0), (stride, 2.0**-24), (2 * stride, 2.0**-24)):  # the entries that meet in one pixel
        d[0, 0, 0, j, 0, 0, 2 - j // stride] = value
    image = np.empty((1, 1, 1, 2 * stride + size), np.float32)
    native.col2im(d, image, (1, stride), (0, 0))
    assert image[0, 0, 0, 2 * stride] == np.float32(1 + 2.0**-23)


def by_definition(x, w, b, dy, stride, padding):
    """The convolution and its gradients in long double: products of columns made by loops."""
    x, w, b, dy = (values.astype(np.longdouble) for values in (x, w, b, dy))
    columns = columns_by_loops(x, len(x), w.shape[2:], stride, padding)[0]  # (C, HH, WW, N, H', W')
    y = np.tensordot(w, columns, 3).swapaxes(0, 1) + b[:, None, None]
    dw = np.tensordot(dy, columns, ((0, 2, 3), (3, 4, 5)))
    dcolumns = np.tensordot(w, dy, (0, 1))  # (C, HH, WW, N, H', W')
    dx = np.zeros((*x.shape[:2], *(n + 2 * p for n, p in zip(x.shape[2:], padding, strict=True))), x.dtype)
    for i, j, r, c in np.ndindex(*w.shape[2:], *y.shape[2:]):
        dx[:, :, r * stride[0] + i, c * stride[1] + j] += dcolumns[:, i, j, :, r, c].T
    inside = tuple(slice(p, p + n) for p, n in zip(padding, x.shape[2:], strict=True))
    return y, dx[:, :, *inside], dw, dy.sum((0, 2, 3))


def run(x, w, b, dy, stride, padding):
    y, dx = np.full_like(dy, np.nan), np.full_like(x, np.nan)
    convolution.forward(x, w, b, stride, padding, y)
    return y, dx, *convolution.backward(dy, x, w, stride, padding, dx)


def make(dtype, shape=(7, 3, 6, 5), filters=(4, 3, 3, 2), stride=(2, 1), padding=(1, 0), seed=3):
    rng = np.random.default_rng(seed)
    y_shape = (shape[0], filters[0], *counts(shape[2:], filters[2:], stride, padding))
    arrays = (rng.standard_normal(s).astype(dtype) for s in (shape, filters, filters[:1], y_shape))
    return *arrays, stride, padding


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("images", [1, 2, 7])
@pytest.mark.parametrize(
    ("bytes_", "windows"),
    [(1, 1), (1, 40), (2**22, 512), (2**22, 30), (5000, 30), (5000, 1)],
    ids=["1 by 1", "1 by 3", "all at once", "3 products and a rest", "few", "few of 1"],
)
def test_any_blocks_give_the_convolution(monkeypatch, dtype, images, bytes_, windows):
    """Within 4 eps of the sums of absolute values, whatever images are worked on together."""
    monkeypatch.setattr(convolution, "_BLOCK_BYTES", bytes_)
    monkeypatch.setattr(convolution, "_PRODUCT_WINDOWS", windows)
    case = make(dtype, (images, 3, 6, 5))
    sizes = by_definition(*(np.abs(a) for a in case[:4]), *case[4:])
    for name, got, true, size in zip(("y", "dx", "dw", "db"), run(*case), by_definition(*case), sizes, strict=True):
        error = (np.abs(got - true) / size).max()
        assert error <= 4 * np.finfo(dtype).eps, f"{name}: error {error:.1e} of the sum of absolute values"


def test_no_bias_is_a_bias_of_zero():
    x, w, b, dy, *windows = make(np.float64)
    y, without = np.empty_like(dy), np.empty_like(dy)
    convolution.forward(x, w, 0 * b, *windows, y)
    convolution.forward(x, w, None, *windows, without)
    assert np.array_equal(y, without)


def test_no_images_and_no_filters():
    for shape, filters in (((0, 3, 6, 5), (4, 3, 3, 2)), ((2, 3, 6, 5), (0, 3, 3, 2)), ((2, 0, 6, 5), (4, 0, 3, 2))):
        x, w, b, dy, *windows = make(np.float32, shape, filters)
        y, dx, dw, db = run(x, w, b, dy, *windows)
        assert np.array_equal(y, np.broadcast_to(b[:, None, None], y.shape))
        assert not dx.any()
        assert not dw.any()
        assert np.allclose(db, dy.sum((0, 2, 3)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bits_do_not_depend_on_threads_or_variants(dtype):
    case = make(dtype, (40, 6, 29, 31), (5, 6, 3, 3), (1, 2), (1, 1))
    results = []
    for name in NATIVE:
        for threads in (1, 2, 5):
            kernels.set_num_threads(threads)
            with kernels.use(name):
                results.append([values.tobytes() for values in run(*case)])
    assert all(result == results[0] for result in results)


GOOD = {"x": np.zeros((4, 3, 5, 6)), "columns": np.zeros((2, 3, 2, 3, 2, 4, 4)), "stride": (1, 1), "padding": (0, 0)}


def call(function, **changes):
    """im2col or col2im with what the names say they read and write."""
    given = {**GOOD, **changes}
    arrays = (given["x"], given["columns"]) if function == "im2col" else (given["columns"], given["x"])
    getattr(native, function)(*arrays, given["stride"], given["padding"])


BAD = [
    {"x": None},
    {"x": [1.0]},
    {"x": np.zeros((4, 3, 5, 6), np.float32)},
    {"x": np.zeros((4, 3, 5, 6), np.int64)},
    {"x": np.zeros((4, 3, 5, 6), ">f8")},
    {"x": np.zeros((4, 3, 5))},
    {"x": np.zeros((3, 3, 5, 6))},
    {"x": np.zeros((4, 2, 5, 6))},
    {"x": np.zeros((4, 3, 5, 7))},
    {"x": np.zeros((4, 3, 6, 5))},
    {"x": np.zeros((4, 3, 5, 12))[..., ::2]},
    {"columns": None},
    {"columns": np.zeros((2, 3, 2, 3, 2, 4, 4), np.uint8)},
    {"columns": np.zeros((2, 3, 2, 3, 2, 4))},
    {"columns": np.zeros((2, 3, 2, 3, 3, 4, 4))},
    {"columns": np.zeros((2, 3, 2, 3, 2, 4, 5))},
    {"columns": np.zeros((2, 3, 0, 3, 2, 4, 4))},
    {"columns": np.zeros((2, 3, 6, 3, 2, 0, 4))},
    {"columns": np.zeros((2, 3, 2, 3, 2, 4, 4))[::-1]},
    {"columns": np.zeros((0, 3, 2, 3, 2, 4, 4))},
    {"stride": (0, 1)},
    {"stride": (1, -1)},
    {"stride": (2**62, 1)},
    {"padding": (-1, 0)},
    {"padding": (0, 1)},
    {"padding": (2**62, 0)},
    {"padding": (2**31, 2**31)},
]


@pytest.mark.parametrize("function", ["im2col", "col2im"])
def test_bad_arguments_are_refused(function):
    call(function)
    for changes in BAD:
        with pytest.raises((TypeError, ValueError), match=MESSAGE):
            call(function, **changes)
    memory = np.zeros(1152 + 360 - 1)
    overlapping = {"x": memory[-360:].reshape(4, 3, 5, 6), "columns": memory[:1152].reshape(2, 3, 2, 3, 2, 4, 4)}
    with pytest.raises(ValueError, match="to share no memory"):
        call(function, **overlapping)
    locked = {name: GOOD[name].copy() for name in ("x", "columns")}
    locked["columns" if function == "im2col" else "x"].flags.writeable = False
    with pytest.raises(ValueError, match="to be writable"):
        call(function, **locked)
