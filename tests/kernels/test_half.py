"""Numbers of 16 bits: every one is read right, everything is rounded once, and norms are theirs too."""

import re
from functools import lru_cache

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels import oracle

from xhat import kernels
from xhat.kernels import pooling

pytestmark = oracle.needs_native

VARIANTS = kernels.VARIANTS[1:]
FRACTION_BITS = {np.dtype(np.float16): 10, np.dtype(ml_dtypes.bfloat16): 7}
DTYPES = tuple(FRACTION_BITS)
ALL_BITS = np.arange(2**16, dtype=np.uint16)
NORMALS = [(3, n) for n in (1, 2, 7, 8, 9, 17, 1025)] + [(700, 13), (2, 70_001)]
NORMALS += [(n, 5, 1) for n in (1, 2, 7, 129)] + [(5, 1, 1), (3, 11, 7), (2, 3, 129), (1, 2, 70_001)]


@lru_cache
def values_of(dtype):
    """What all 65,536 patterns mean, in float64, by the definition of the format."""
    fraction_bits = FRACTION_BITS[dtype]
    bits = ALL_BITS.astype(np.int64)
    largest = 2 ** (15 - fraction_bits) - 1  # exponent of Inf and NaN
    exponent, fraction = bits >> fraction_bits & largest, bits & (2**fraction_bits - 1)
    whole = fraction + np.where(exponent == 0, 0, 2**fraction_bits)
    size = np.ldexp(whole.astype(float), np.maximum(exponent, 1) - largest // 2 - fraction_bits)
    size = np.where(exponent == largest, np.where(fraction == 0, np.inf, np.nan), size)
    return np.where(bits >> 15 == 1, -size, size)


def nearest(numbers, dtype):
    """The patterns of the nearest numbers of the type, ties to even; for NaN, a pattern of NaN."""
    positive = values_of(dtype)[: 2**15]
    values = positive[np.isfinite(positive)]
    after_last = values[-1] + (values[-1] - values[-2])  # stands for Inf
    middles = (values + np.append(values[1:], after_last)) / 2
    below = np.searchsorted(middles, np.abs(numbers))
    tie = np.append(middles, np.inf)[below] == np.abs(numbers)
    bits = np.where(np.isnan(numbers), len(values) + 1, below + (tie & (below % 2 == 1) & (below < len(values))))
    return (bits + (np.signbit(numbers) * 2**15)).astype(np.uint16).view(dtype)


def is_nan(numbers):
    """Which are NaN; ml_dtypes' own warns of some."""
    return np.isnan(values_of(numbers.dtype)[numbers.view(np.uint16)])


def same(got, true):
    """Whether all patterns are equal, or both NaN."""
    return ((got.view(np.uint16) == true.view(np.uint16)) | (is_nan(got) & is_nan(true))).all()


def distance(got, true):
    """How many numbers of the type lie between, and one more; NaN only fits NaN."""
    order = [np.where(bits < 0, -(bits & 0x7FFF), bits) for bits in (a.view(np.int16).astype(int) for a in (got, true))]
    return np.where(is_nan(got) | is_nan(true), 2**16 * (is_nan(got) != is_nan(true)), abs(order[0] - order[1]))


def stored(numbers, dtype):
    """What the kernels write for these float64: y of x = -0, whose mean is 0, with beta."""
    n = len(numbers)
    x = np.full((1, n, 1), -0.0).astype(dtype)
    y = np.full_like(x, np.nan)
    kernels.channels_apply(x, None, np.ones(n), numbers, np.zeros(n), None, np.ones(n), y)
    return y.reshape(n)


def loaded(x):
    """What the kernels read, in float64: the sum of a single number."""
    dy = x.reshape(1, -1, 1)
    zeros = np.zeros(x.size)
    return kernels.channels_sums(dy, np.zeros_like(dy), None, kernels.Statistics(zeros, zeros, zeros, zeros))[1]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_definition_is_numpys(dtype):
    with np.errstate(invalid="ignore"):
        assert np.array_equal(values_of(dtype), ALL_BITS.view(dtype).astype(np.float64), equal_nan=True)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_pattern_is_read(dtype, name):
    true = values_of(dtype)
    with kernels.use(name):
        assert np.array_equal(loaded(ALL_BITS.view(dtype)), true, equal_nan=True)
        for n in range(1, 9):  # the last few of a line go another way
            few = ALL_BITS[: 2**16 - n].view(dtype)
            assert np.array_equal(loaded(few), true[: 2**16 - n], equal_nan=True)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_number_is_written_as_it_is(dtype, name):
    numbers = values_of(dtype)
    with kernels.use(name):
        assert same(stored(numbers, dtype), ALL_BITS.view(dtype))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rounded_once(dtype, name):
    """Around every number and every middle between two, where a detour through float32 would go wrong."""
    values = values_of(dtype)
    values = np.unique(values[np.isfinite(values)])
    step = values[-1] - values[-2]
    values = np.concatenate([[values[0] - step], values, [values[-1] + step]])
    edges = np.concatenate([values, (values[:-1] + values[1:]) / 2])
    numbers = [edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)]
    numbers += [edges * (1 + sign * 2.0**-k) for k in (23, 24, 25, 30, 41, 45) for sign in (-1, 1)]
    with kernels.use(name):
        for some in numbers:
            assert same(stored(some, dtype), nearest(some, dtype))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_double_is_rounded(dtype, name):
    rng = np.random.default_rng(41)
    random = rng.integers(0, 2**64, 200_000, np.uint64).view(np.float64)
    inside = np.ldexp(rng.uniform(-2, 2, 200_000), rng.integers(-150, 130, 200_000))
    tiny, huge = np.nextafter(0, 1), np.finfo(np.float64).max
    special = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, tiny, -tiny, huge, -huge, 1e-310, 2.0**128, 2.0**-149]
    )
    payloads = [0x7FF0000000000001, 0xFFF0000000000001, 2**63 - 1, 2**64 - 1]  # rounding must not carry into the sign
    nans = np.array(payloads, np.uint64).view(np.float64)
    with kernels.use(name):
        for numbers in (random, inside, special, nans):
            assert same(stored(numbers, dtype), nearest(numbers, dtype))


def check(case, result):
    """y and dx are the nearest numbers or their neighbours, mostly the nearest; sums are those of float32."""
    true = oracle.truth(case)
    for name, got, exact in (("y", result.y, true.y), ("dx", result.dx, true.dx)):
        far = distance(got, nearest(exact.astype(np.float64), case.x.dtype))
        assert far.max(initial=0) <= 1, f"{name} is {far.max()} ULP off, shape {got.shape}"
        assert (far > 0).sum() <= 0.002 * far.size + 1, f"{name}: {(far > 0).sum()} of {far.size} are not the nearest"
    errors, most = oracle.errors(case, result), oracle.TOLERANCES[np.dtype(np.float32)]
    assert errors.sums <= most.sums
    assert errors.statistics <= most.statistics


@oracle.needs_long_double
@pytest.mark.parametrize("shape", NORMALS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_size(shape, dtype):
    case = oracle.make_case(shape, dtype, np.random.default_rng(42))
    check(case, oracle.run(case))


@oracle.needs_long_double
@pytest.mark.parametrize("scale", [6e-8, 1e-3, 6e4])
@pytest.mark.parametrize("offset", [0, 30, 1000])
@pytest.mark.parametrize("shape", [(5, 1025), (1025, 3, 1), (9, 3, 130)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_offset_and_scale(shape, offset, scale, dtype):
    rng = np.random.default_rng(43)
    x = np.clip((offset + rng.standard_normal(shape)) * scale, -65504, 65504)
    case = oracle.make_case(shape, dtype, rng, x=x, eps=0.0 if scale < 1 else 1e-5)
    case = case._replace(dy=(case.dy.astype(float) * min(scale, 1)).astype(dtype))
    check(case, oracle.run(case))


@oracle.needs_long_double
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(("shape", "lines"), [((6, 35), (2, 5)), ((10, 402), (5, 3)), ((9, 129), (3, 1))], ids=str)
def test_lines_of_parameters(shape, lines, centred, dtype):
    rng = np.random.default_rng(44)
    case = oracle.make_case(shape, dtype, rng, x=3 + rng.standard_normal(shape), lines=lines, centred=centred)
    check(case, oracle.run(case))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("constant", [0.1, -7.7, 6e4, 6e-8])
@pytest.mark.parametrize("shape", [(5, 130), (9, 3, 130), (77, 5, 1)], ids=str)
def test_constant_is_exact(shape, constant, dtype):
    case = oracle.make_case(shape, dtype, np.random.default_rng(45), x=np.full(shape, constant), eps=0.0)
    result = oracle.run(case)
    assert (result.statistics.var == 0).all()
    assert same(result.y, nearest(np.broadcast_to(oracle.wide(case, case.beta, 0).astype(float), shape), dtype))
    assert (result.dx == 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_the_type_cannot_hold_is_inf(dtype):
    case = oracle.make_case((4, 33), dtype, np.random.default_rng(46))
    result = oracle.run(case._replace(gamma=np.full((1, 33), 1e300), beta=None))
    assert np.isinf(result.y).all()
    assert (np.signbit(result.y) == (case.x.astype(float) < case.x.astype(float).mean(1, keepdims=True))).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_stays_in_its_channel(dtype, bad):
    case = oracle.make_case((6, 5, 9), dtype, np.random.default_rng(47))
    clean = oracle.run(case)
    x = case.x.copy()
    x[2, 3, 4] = bad
    dirty = oracle.run(case._replace(x=x))
    others = np.arange(5) != 3
    assert np.isnan(dirty.y[:, 3].astype(float)).all()
    for got, before in ((dirty.y, clean.y), (dirty.dx, clean.dx)):
        assert same(np.ascontiguousarray(got[:, others]), np.ascontiguousarray(before[:, others]))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 20)),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**32 - 1),
    weighted=st.booleans(),
)
def test_channels_with_weights(shape, dtype, seed, weighted):
    """Every function of the channels loop gives what it gives in float64, rounded."""
    rng = np.random.default_rng(seed)
    outer, channels, inner = shape
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], (outer, inner)) if weighted else None
    if weighted:
        x[np.broadcast_to(weights[:, None] == 0, shape) & (rng.random(shape) < 0.3)] = np.nan
    total = outer * inner if weights is None else float(weights.sum())
    gamma, beta = rng.uniform(0.5, 2, channels), rng.standard_normal(channels)
    mean, rstd = rng.standard_normal(channels), rng.uniform(0.5, 2, channels)
    results = []
    for x_, dy_ in ((x, dy), (x.astype(np.float64), dy.astype(np.float64))):
        y, dx, applied, applied_dx, part = (np.full_like(x_, np.nan) for _ in range(5))
        statistics = kernels.channels_forward(x_, weights, gamma, beta, 0.1, y)
        assert all(map(np.array_equal, statistics, kernels.channels_statistics(x_, weights, 0.1)))
        sums = kernels.channels_backward(dy_, x_, weights, gamma, statistics, dx)
        assert all(map(np.array_equal, sums, kernels.channels_sums(dy_, x_, weights, statistics)))
        kernels.channels_gradient(dy_, x_, weights, gamma, statistics, *sums, total or 1.0, part)
        kernels.channels_apply(x_, weights, gamma, beta, mean, None, rstd, applied)
        fixed = kernels.channels_apply_backward(dy_, x_, weights, gamma, mean, None, rstd, applied_dx)
        results.append(((y, dx, part, applied, applied_dx), (*statistics, *sums, *fixed)))
    (narrow, entries), (wide, wide_entries) = results
    for got, true in zip(narrow, wide, strict=True):
        assert got.dtype == dtype
        exact = nearest(true, dtype)
        small = np.abs(got.astype(float) - true) <= 1e-13 * np.nanmax(np.abs(true), initial=0)
        assert (small | (distance(got, exact) <= 1)).all()
    for got, true in zip(entries, wide_entries, strict=True):
        assert np.allclose(got, true, rtol=1e-11, atol=1e-11 * outer * inner, equal_nan=True)


@pytest.mark.parametrize("shape", [(3, 1025), (40, 9001), (5, 3, 127), (300, 70, 1), (2, 2, 70_001)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_same_bits_from_every_variant_and_number_of_threads(shape, dtype):
    case = oracle.make_case(shape, dtype, np.random.default_rng(48))
    first = oracle.bits(oracle.run(case))
    before = kernels.get_num_threads()
    try:
        for name in VARIANTS:
            with kernels.use(name):
                for threads in (1, 3):
                    kernels.set_num_threads(threads)
                    assert oracle.bits(oracle.run(case)) == first, f"{name}, {threads} threads"
    finally:
        kernels.set_num_threads(before)


def test_served_where_norms_are():
    with kernels.use(VARIANTS[0]):
        for dtype in (*DTYPES, np.float16, ml_dtypes.bfloat16, "float16"):
            assert kernels.serves(dtype)
            assert not kernels.serves_wide(dtype)
            assert not pooling.serves(dtype, (2, 2))
        assert not kernels.serves(">f2")
        assert not kernels.serves(np.uint16)
        assert not kernels.serves(ml_dtypes.float8_e4m3fn)
    with kernels.use("reference"):
        assert not any(map(kernels.serves, DTYPES))


@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "float16"), (ml_dtypes.bfloat16, "bfloat16")])
def test_windows_refuse_them(dtype, name):
    x, y, argmax = (
        np.zeros(shape, kind) for shape, kind in (((1, 4, 4), dtype), ((1, 2, 2), dtype), ((1, 2, 2), np.uint8))
    )
    advice = "Convert it with astype."
    message = f"max_pool_forward: expected x of float32 or float64, got {name}. {advice}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        kernels.native.max_pool_forward(x, y, argmax, (2, 2), (2, 2), (0, 0))
    with pytest.raises(
        TypeError, match=f"^{re.escape(message.replace(' x ', ' dy ').replace('_forward', '_backward'))}$"
    ):
        kernels.native.max_pool_backward(y, argmax, x, (2, 2), (2, 2), (0, 0))
    images, columns = np.zeros((1, 1, 4, 4), dtype), np.zeros((1, 1, 2, 2, 1, 2, 2), dtype)
    with pytest.raises(TypeError, match="^im2col: expected x of float32 or float64"):
        kernels.native.im2col(images, columns, (2, 2), (0, 0))
    with pytest.raises(TypeError, match="^col2im: expected out of float32 or float64"):
        kernels.native.col2im(columns, images, (2, 2), (0, 0))
    assert not any(values.any() for values in (x, y, argmax, images, columns))


def test_one_is_not_taken_for_the_other():
    case = oracle.make_case((4, 9), np.float16, np.random.default_rng(49))
    y = np.zeros_like(case.x)
    for other, name in ((y.astype(ml_dtypes.bfloat16), "bfloat16"), (y.astype(np.float32), "float32")):
        message = f"rows_forward: expected out of float16, got {name}. Convert it with astype."
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            kernels.rows_forward(case.x, None, None, 1e-5, other)
    message = (
        "rows_forward: expected x of native float16, bfloat16, float32 or float64, got uint16. Convert it with astype."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        kernels.rows_forward(case.x.view(np.uint16), None, None, 1e-5, y)
    assert not y.any()
