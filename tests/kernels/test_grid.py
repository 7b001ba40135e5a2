"""Every normalization, through its public functions, on all the data on which one may lose digits.

The figures of docs/accuracy.md, held here. `grid` has the data and the truth.
"""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels import grid, oracle
from tests.kernels.grid import BFLOAT16, DTYPES, FLOAT32, FLOAT64, NORMS, Case, call_of

import xhat
from xhat import kernels

pytestmark = oracle.needs_long_double

NATIVE = kernels.VARIANTS[1:]
FASTEST_AND_REFERENCE = ("reference", *NATIVE[-1:])
CENTRED = [norm for norm in NORMS if norm.centred]
ROWWISE = [norm for norm in NORMS if not norm.name.startswith("batch")]
LENGTHS = (1, 2, 3, 5, 7, 8, 9, 13, 16, 17, 63, 64, 65, 127, 128, 130, 509, 1031, 4099)

# NumPy adds up a column of float64 one number after the other: its error grows with their count.
REFERENCE_EPS = {1: 128, 10_000: 1024}

RANGE = "float64 beyond about 1e154 is an error, below about 1e-154 its variance is 0"


@pytest.fixture(autouse=True)
def same_threads_after():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def targets(dtype, variant, length):
    """Return what is promised; of the reference in float64 less is asked."""
    if dtype != FLOAT64 or variant != "reference":
        return grid.TARGETS[dtype]
    most = REFERENCE_EPS[max(n for n in REFERENCE_EPS if n <= length)] * grid.EPS64
    return grid.Errors(*[most] * len(grid.Errors._fields))


def check(call, variants=FASTEST_AND_REFERENCE):
    """Compare with the truth, in the variants named."""
    true = grid.truth(call)
    for variant in variants:
        with kernels.use(variant):
            result = grid.run(call)
        allowed = targets(call.case.x.dtype, variant, call.case.x.shape[1])
        for name, error, most in zip(grid.Errors._fields, grid.errors(call, result, true), allowed, strict=True):
            assert error <= most, (
                f"{call.norm.name}, {call.case.name}, {variant}: error of {name} {error:.2e}, allowed {most:.2e}; "
                f"largest |dx| {np.abs(result.dx.astype(np.float64)).max():.2e}"
            )


def check_all(case, norms=NORMS):
    """Compare every norm with the truth, and the other variants with the fastest, bit for bit."""
    for norm in norms:
        if case.x.shape[1] < norm.least:
            continue
        call = call_of(case, norm)
        check(call)
        results = []
        for variant in NATIVE:
            with kernels.use(variant):
                results.append(grid.bits(grid.run(call)))
        assert all(r == results[0] for r in results), f"{norm.name}, {case.name}: variants differ"


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{dtype}-{case.name}") for dtype in DTYPES for case in grid.cases(dtype)]
)
def test_the_whole_grid(case):
    check_all(case)


@pytest.mark.parametrize("which", grid.EXTREMES)
@pytest.mark.parametrize("variant", FASTEST_AND_REFERENCE)
@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
def test_float64_whose_variance_leaves_its_range(norm, variant, which, request):
    if variant == "reference":
        request.applymarker(pytest.mark.xfail(strict=True, raises=(AssertionError, ValueError), reason=RANGE))
    for case in grid.extreme_cases(which):
        if which == "to the limit" and variant != "reference":
            with pytest.raises(ValueError, match="Scale x by a power of two first"):
                grid.run(call_of(case, norm))
        else:
            check(call_of(case, norm), (variant,))


@oracle.needs_native
@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
def test_float64_whose_sums_round_one_way(norm):
    """Near 1e9 all numbers are multiples of 2^-23, and a running sum of their squares beyond 64 rounds down, never up.

    So does one of equal numbers, as RMS norm has them.
    """
    rng = np.random.default_rng(33)
    x = 1e9 + rng.standard_normal((1, 65_536)) if norm.centred else np.full((1, 65_536), 1.919732)
    check(call_of(Case("one way", x, 0.0), norm), NATIVE[-1:])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_length(dtype, length):
    rng = np.random.default_rng(33)
    mean = {FLOAT32: 1e4, FLOAT64: 1e6}.get(dtype, 10)
    for lines in (1, 11):
        x = (mean + rng.standard_normal((lines, length))).astype(dtype)
        check_all(Case(f"{lines} lines", x, 0.0, 1e-3))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_constant_is_exactly_beta(dtype, length):
    """Whatever the constant: no mean that is rounded, and no noise that is blown up to 1."""
    constants = {
        FLOAT32: [0.1, -7.7, 1.1e4, 1e7 / 3, 1e30, -3e38, 1e-40, 1e-45, 0.0, 1 / 3],
        FLOAT64: [0.1, -7.7, 1e15 / 3, 1e30, 1e300, -1e304, 1e-310, 5e-324, 0.0, 1 / 3],
        BFLOAT16: [0.1, -7.7, 1.1e4, 1e7 / 3, 1e30, -3e38, 1e-40, 0.0, 1 / 3, 255],
    }.get(dtype, [0.1, -7.7, 1.1e4, 65504.0, 6e-8, 1e-5, 0.0, 1 / 3, 255, 1000])
    x = np.tile(np.array(constants)[:, None], (1, length)).astype(dtype)
    for norm in CENTRED:
        for eps in (0.0, 1e-12, 1e-5):
            if length < norm.least:
                continue
            call = call_of(Case("constant", x, eps, 1e-3), norm)
            expected = norm.spread(call.beta.astype(dtype), x.shape).astype(dtype)
            for variant in kernels.VARIANTS:
                with kernels.use(variant):
                    result = grid.run(call)
                said = f"{norm.name}, {variant}, eps {eps}"
                assert np.array_equal(result.y, expected), said
                assert np.isfinite(result.dx.astype(np.float64)).all(), said
                assert (result.var == 0).all(), said
                assert np.array_equal(result.mean + result.mean_low, x[:, 0].astype(np.float64)), said
                assert (result.dgamma == 0).all(), said
                assert eps or (result.dx == 0).all(), said


@pytest.mark.parametrize("norm", CENTRED, ids=lambda norm: norm.name)
@oracle.needs_native
def test_a_constant_may_be_the_largest_there_is(norm):
    """The reference refuses it: its sum overflows."""
    call = call_of(Case("constant", np.full((grid.LINES, 65), -1.7e308), 1e-5), norm)
    result = grid.run(call)
    assert np.array_equal(result.y, norm.spread(call.beta, (grid.LINES, 65)).astype(np.float64))
    assert (result.mean == -1.7e308).all()
    assert np.isfinite(result.dx).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("gradient", ["far from 0", "along x", "one alone"])
def test_gradients_that_cancel(dtype, gradient):
    """What a normalization does not pass back, ones and x itself, is most of dy: the rest keeps its digits."""
    case = next(grid.cases(dtype))
    for norm in NORMS:
        call = call_of(case, norm)
        if gradient == "far from 0":
            dy = 1e3 + call.dy.astype(np.float64)
        elif gradient == "along x":
            dy = 1e3 * case.x.astype(np.float64) + call.dy.astype(np.float64)
        else:
            dy = np.zeros(case.x.shape)
            dy[:, -1] = 1
        check(call._replace(dy=(case.dy_scale * dy).astype(dtype)))


LONG = {
    "mean 1000": lambda rng, n: 1000 + rng.standard_normal((2, n)),
    "ReLU": lambda rng, n: np.maximum(rng.standard_normal((2, n)), 0),
}


@pytest.mark.parametrize(
    ("dtype", "norm"),
    [(FLOAT32, norm) for norm in NORMS] + [(FLOAT64, NORMS[0]), (FLOAT64, NORMS[3])],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_million_numbers(dtype, norm):
    x = LONG["mean 1000"](np.random.default_rng(34), 1_000_000)[:1].astype(dtype)
    check(call_of(Case("mean 1000", x, 1e-5), norm), NATIVE[-1:])


@pytest.mark.soak
@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
@pytest.mark.parametrize("data", LONG)
def test_ten_million_numbers(request, data, norm):
    if "soak" not in request.config.option.markexpr:
        pytest.skip("asked for by -m soak")
    x = LONG[data](np.random.default_rng(34), 10_000_000).astype(np.float32)
    check(call_of(Case(data, x, 1e-5), norm), NATIVE[-1:])


@pytest.mark.soak
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("size", [1e2, 1e4, 1e8])
def test_an_outlier_in_every_place(request, size, dtype):
    if "soak" not in request.config.option.markexpr:
        pytest.skip("asked for by -m soak")
    rng = np.random.default_rng(35)
    for first in range(0, grid.LENGTH, 64):
        x = rng.standard_normal((64, grid.LENGTH))
        x[np.arange(64), first + np.arange(64)] = size
        check_all(Case(f"outlier from {first}", x.astype(dtype), 0.0))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    dtype=st.sampled_from([FLOAT32, FLOAT64]),
    norm=st.sampled_from(NORMS),
    lines=st.integers(1, 20),
    length=st.integers(2, 300),
    offset=st.floats(-6.5, 6.5),
    scale=st.floats(-10, 10),
    spikes=st.floats(0, 8),
    share=st.sampled_from([0.0, 0.01, 0.5]),
    eps=st.sampled_from([0.0, 1e-12, 1e-5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_mixture(dtype, norm, lines, length, offset, scale, spikes, share, eps, seed):
    """An offset in deviations, a scale, and a share of the numbers that are larger by a factor."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((lines, length))
    x = np.where(rng.random(x.shape) < share, x * 10**spikes, x)
    x = 10**scale * (np.copysign(10 ** abs(offset), offset) + x)
    check(call_of(Case("mixture", x.astype(dtype), eps, min(10**scale, 1.0)), norm, seed))


def exact(rng, length, dtype):
    """Fill lines so that every sum is exact in any order (the method of oneDNN's benchdnn): mean and var by hand too.

    Pairs lie evenly around a mean that is a power of two; a quarter of the numbers is off by 2, the rest is not.
    """
    mean = 0.25 * 2.0 ** (np.arange(grid.LINES) % 7)
    away = np.zeros(length)
    away[: length // 4 : 2], away[1 : length // 4 : 2] = 2, -2
    x = mean[:, None] + rng.permuted(np.tile(away, (grid.LINES, 1)), axis=1)
    dy = rng.integers(-2, 3, x.shape)
    return mean, x.astype(dtype), dy.astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "length"),
    [(dtype, length) for dtype in DTYPES for length in (8, 64, 1000)] + [(FLOAT32, 80_000), (FLOAT64, 80_000)],
    ids=str,
)
def test_order_and_layout_do_not_matter_where_sums_are_exact(dtype, length):
    """The variance is 1 and eps 3, so that rstd is 1/2: statistics and gradients have one right value, to the bit."""
    rng = np.random.default_rng(36)
    mean, x, dy = exact(rng, length, dtype)
    order = rng.permutation(length)
    for norm in CENTRED:
        size = norm.parameter_shape(x.shape)
        gamma, beta = 2.0 ** rng.integers(-1, 2, size), 2.0 ** rng.integers(-1, 2, size)
        call = grid.Call(Case("exact", x, 3.0), norm, dy, gamma, beta)
        true = grid.truth(call)
        for variant in kernels.VARIANTS:
            with kernels.use(variant):
                result = grid.run(call)
                said = f"{norm.name}, {variant}"
                assert np.array_equal(result.mean, mean), said
                assert (result.mean_low == 0).all(), said
                assert (result.var == 1).all(), said
                assert (result.rstd == 0.5).all(), said
                assert np.array_equal(result.y, true.y.astype(dtype)), said
                assert np.array_equal(result.dgamma, true.dgamma.astype(np.float64)), said
                assert np.array_equal(result.dbeta, true.dbeta.astype(np.float64)), said
                if norm.name == "layer":  # its gamma goes along with the places
                    continue
                if norm.name == "group" and norm.split(*x.shape)[2] > 1:
                    continue
                moved = grid.run(call._replace(case=call.case._replace(x=x[:, order]), dy=dy[:, order]))
                assert np.array_equal(moved.y, result.y[:, order]), said
                assert np.array_equal(moved.dx, result.dx[:, order]), said
                assert np.array_equal(moved.dgamma, result.dgamma), said


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_layouts_of_images_agree(dtype):
    """Images as they lie, channels last, and one row per position: the same lines, so the same within the rounding."""
    case = next(case for case in grid.cases(dtype) if case.name.startswith("mean 1e+01"))
    columns, *images = (grid.run(call_of(case, norm)) for norm in NORMS if norm.name.startswith("batch"))
    for image in images:
        largest = np.abs(columns.y.astype(np.float64)).max(1, keepdims=True)
        step = {FLOAT32: 2.0**-23, FLOAT64: 4 * grid.EPS64}.get(dtype, float(np.finfo(np.float16).eps) * 8)
        assert (np.abs(image.y.astype(np.float64) - columns.y.astype(np.float64)) <= step * largest).all()
        assert np.allclose(image.var, columns.var, rtol=1e-12, atol=0)
        assert np.allclose(image.dgamma, columns.dgamma, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 9, 64, 509, 512, 4099])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_batch_of_one_has_the_bits_of_its_row(dtype, length):
    rng = np.random.default_rng(37)
    x = (3 + rng.standard_normal((grid.LINES, length))).astype(dtype)
    for norm in ROWWISE:
        if length < norm.least:
            continue
        call = call_of(Case("batch", x, 1e-5), norm)
        whole = grid.run(call)
        laid, dy = norm.laid(x), norm.laid(call.dy)
        each = grid.LINES // len(laid)
        groups = {"groups": norm.split(*x.shape)[1]} if norm.name == "group" else {}
        parameters = (call.gamma, call.beta) if norm.centred else (call.gamma,)
        for i in (0, len(laid) // 2, len(laid) - 1):
            y, cache = norm.module.forward(laid[i : i + 1], *parameters, **groups)
            dx = norm.module.backward(dy[i : i + 1], cache).dx
            here = slice(i * each, (i + 1) * each)
            assert y.tobytes() == whole.y[here].tobytes(), norm.name
            assert dx.tobytes() == whole.dx[here].tobytes(), norm.name
            assert cache.rstd.tobytes() == whole.rstd[here].tobytes(), norm.name


@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_batch_of_one_has_the_bits_of_its_row_with_fixed_statistics(dtype, channel_axis):
    rng = np.random.default_rng(38)
    shape = (13, 7, 9, 7)
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    gamma, beta, mean, var = (rng.uniform(0.5, 2, 7) for _ in range(4))

    def both(i):
        y, cache = xhat.batch_norm.apply(x[i], gamma, beta, mean, var, channel_axis=channel_axis)
        return y, xhat.batch_norm.backward(dy[i], cache).dx

    y, dx = both(slice(None))
    for i in (0, 6, 12):
        y_alone, dx_alone = both(slice(i, i + 1))
        assert y_alone.tobytes() == y[i].tobytes()
        assert dx_alone.tobytes() == dx[i].tobytes()


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(10, 40_000), (3000, 130), (1, 300_007)], ids=str)
def test_any_number_of_threads_gives_the_same_bits(shape, dtype, norm):
    rng = np.random.default_rng(39)
    call = call_of(Case("threads", (3 + rng.standard_normal(shape)).astype(dtype), 1e-5), norm)
    results = []
    for threads in (1, 2, 3, 4, 7, 16):
        xhat.set_num_threads(threads)
        results.append(grid.bits(grid.run(call)))
    assert all(r == results[0] for r in results)


FAULTS = {
    "y": lambda r: r._replace(y=r.y * r.y.dtype.type(1 + 2e-7)),
    "dx": lambda r: r._replace(dx=r.dx * r.dx.dtype.type(1 + 4e-7)),
    "dgamma": lambda r: r._replace(dgamma=r.dgamma + 1e-3 * np.abs(r.dgamma).max()),
    "dbeta": lambda r: r._replace(dbeta=r.dbeta + 1e-10),
    "mean": lambda r: r._replace(mean_low=r.mean_low + 1e-10),
    "var": lambda r: r._replace(var=r.var * (1 + 1e-10)),
    "rstd": lambda r: r._replace(rstd=r.rstd * (1 + 1e-10)),
}


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
@pytest.mark.parametrize("name", FAULTS)
def test_a_small_fault_is_seen(name, norm, monkeypatch):
    """What is compared can fail: each quantity, wrong by little more than its target."""
    if name == "dbeta" and not norm.centred:
        return
    call = call_of(next(grid.cases(FLOAT32)), norm)
    right = grid.run(call)
    monkeypatch.setattr(grid, "run", lambda _: FAULTS[name](right))
    with pytest.raises(AssertionError, match=f"error of {name} "):
        check(call)


def running_sum(x):
    """Add up in float32, one number after the other."""
    mean = np.add.accumulate(x, 1, dtype=np.float32)[:, -1:] / np.float32(x.shape[1])
    return mean, np.zeros_like(mean), ((x - mean.astype(np.float64)) ** 2).mean(1, keepdims=True)


def rounded_mean(x):
    """Take the mean once, in the type of x."""
    mean = x.mean(1, keepdims=True, dtype=np.float64).astype(x.dtype)
    return mean, np.zeros_like(mean), ((x - mean.astype(np.float64)) ** 2).mean(1, keepdims=True)


def one_pass(x):
    """Subtract the square of the mean from the mean of the squares."""
    wide = x.astype(np.float64)
    mean = wide.mean(1, keepdims=True)
    return mean, (wide - mean).mean(1, keepdims=True), np.abs((wide**2).mean(1, keepdims=True) - mean**2)


def shifted_by_the_first(x):
    """Do so after the first number was taken off, and never look whether that was an outlier."""
    first = x[:, :1].astype(np.float64)
    mean, low, var = one_pass(x - first)
    return first, mean + low, var


def squares_in_its_type(x):
    """Square the deviations in the type of x: they overflow and underflow."""
    wide = x.astype(np.float64)
    mean = wide.mean(1, keepdims=True)
    low = (wide - mean).mean(1, keepdims=True)
    return mean, low, (((wide - mean) - low).astype(x.dtype) ** 2).mean(1, keepdims=True, dtype=np.float64)


@pytest.mark.parametrize(
    ("method", "dtype", "caught"),
    [
        (running_sum, FLOAT32, "mean 1e+03"),
        (rounded_mean, FLOAT32, "mean 1e+03"),
        (rounded_mean, FLOAT64, "mean 1e+12"),
        (one_pass, FLOAT32, "mean 1e+07"),
        (one_pass, FLOAT64, "mean 1e+03"),
        (shifted_by_the_first, FLOAT64, "outlier 1e+04"),
        (squares_in_its_type, FLOAT32, "scale 1e+19"),
        (squares_in_its_type, FLOAT32, "scale 1e-23, eps 0"),
    ],
)
def test_the_data_tell_a_worse_method(method, dtype, caught):
    """What others do, in place of the kernel: plain data do not tell, the case named does."""
    plain = next(grid.cases(dtype))
    for case in (plain, next(case for case in grid.cases(dtype) if case.name.startswith(caught))):
        call = call_of(case, NORMS[0])
        with np.errstate(all="ignore"):
            mean, low, var = method(case.x)
            rstd = 1 / np.sqrt(var + case.eps)
            y = ((case.x - mean.astype(np.float64)) - low) * rstd * call.gamma[:, None] + call.beta[:, None]
            error = grid.errors(call, grid.run(call)._replace(y=y.astype(dtype)), grid.truth(call)).y
        if case is plain:
            assert error < 1e-14 if dtype == FLOAT64 else error < 1e-6
        else:
            assert error > grid.TARGETS[dtype].y


def exactly(call):
    """Compute one line with 60 digits; no parameter is shared with another line."""
    with mpmath.workdps(60):
        x, dy = ([mpmath.mpf(float(v)) for v in values[0]] for values in (call.case.x, call.dy))
        gamma, beta = ([mpmath.mpf(float(v)) for v in p] * (len(x) // len(p)) for p in (call.gamma, call.beta))
        n = len(x)
        mean = mpmath.fsum(x) / n if call.norm.centred else mpmath.mpf(0)
        rstd = 1 / mpmath.sqrt(mpmath.fsum((v - mean) ** 2 for v in x) / n + mpmath.mpf(call.case.eps))
        x_hat = [(v - mean) * rstd for v in x]
        dx_hat = [d * g for d, g in zip(dy, gamma, strict=True)]
        ones = mpmath.fsum(dx_hat) / n if call.norm.centred else mpmath.mpf(0)
        along = mpmath.fsum(d * v for d, v in zip(dx_hat, x_hat, strict=True)) / n
        y = [v * g + b for v, g, b in zip(x_hat, gamma, beta, strict=True)]
        dx = [rstd * (d - ones - v * along) for d, v in zip(dx_hat, x_hat, strict=True)]
        return [[np.longdouble(mpmath.nstr(v, 30)) for v in values] for values in (y, dx)]


@pytest.mark.parametrize("norm", [NORMS[0], NORMS[3], NORMS[-1]], ids=lambda norm: norm.name)
@pytest.mark.parametrize("name", ["mean 1e+15", "outlier 1e+15", "scale 1e+150", "scale 1e-150", "scale 1e+300"])
def test_long_double_is_truth_enough(name, norm):
    """The oracle against 60 digits: a thousandth of what float64 is allowed."""
    case = next(c for c in (*grid.cases(FLOAT64), *grid.extreme_cases("large")) if c.name.startswith(name))
    call = call_of(case._replace(x=case.x[:1]), norm)
    true = grid.truth(call)
    y, dx = (np.array([values]) for values in exactly(call))
    nothing = np.zeros(1)
    errors = grid.errors(call, grid.Result(y, dx, call.gamma, call.beta, nothing, nothing, nothing, nothing), true)
    assert max(errors.y, errors.dx) < 1e-18


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
def test_the_reference_refuses_a_variance_out_of_range(norm):
    """It knows no other unit: zeros instead of numbers would be silent."""
    call = call_of(Case("large", 1e160 * np.random.default_rng(41).standard_normal((3, 8)), 0.0), norm)
    with kernels.use("reference"), pytest.raises(ValueError, match="Scale x by a power of two first"):
        grid.run(call)


def test_weights_refuse_a_variance_out_of_range():
    x = 1e160 * np.random.default_rng(42).standard_normal((8, 3))
    with pytest.raises(ValueError, match="Scale x by a power of two first"):
        xhat.batch_norm.forward(x, weights=np.arange(1.0, 9.0))
