"""Both loops, both directions, against long double."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels import oracle
from tests.kernels.oracle import DTYPES, TOLERANCES, make_case, run

from xhat import kernels

pytestmark = [oracle.needs_native, oracle.needs_long_double]

SIZES = (1, 2, 3, 7, 8, 9, 17, 1023, 1025)
ROWS = [(3, n) for n in SIZES] + [(n, 5) for n in SIZES] + [(6, 9001), (1, 70001), (700, 130)]
NARROW = [(n, 3, 1) for n in SIZES] + [(5, n, 1) for n in SIZES] + [(3, n, 7) for n in (1, 2, 17, 129)]
NARROW += [(1100, 70, 1), (130, 9, 31), (40, 17, 49), (5, 3, 127)]
WIDE = [(2, 3, n) for n in (128, 129, 135, 1023, 1025, 9001)] + [(n, 17, 130) for n in (1, 3, 40)]
WIDE += [(1, 1, 70001), (9000, 1, 9)]
SHAPES = ROWS + NARROW + WIDE
# (samples * groups, entries * inner) with (groups, entries): group norm, instance norm, and RMS norm's one line
LINES = [((6, 4), (3, 2)), ((6, 5), (3, 5)), ((6, 5), (6, 1)), ((10, 1), (5, 1)), ((7, 9), (7, 9)), ((12, 63), (4, 7))]
LINES += [((15, 3 * n), (5, 3)) for n in (7, 31, 63, 64, 65, 129)] + [((15, n), (3, 1)) for n in (2, 7, 63, 65, 4099)]
LINES += [((1400, 35), (7, 5)), ((1400, 6), (7, 1)), ((3, 5 * 9001), (3, 5)), ((2, 140_001), (1, 140_001))]
LINES += [((4, 140_006), (2, 70_003)), ((3, 140_004), (3, 2)), ((2, 140_001), (2, 1)), ((4, 4 * 33_001), (2, 4))]
FEW_LINES = [((6, 35), (2, 5)), ((10, 402), (5, 3)), ((9, 129), (3, 1))]
FEW_SHAPES = [(5, 1025), (1025, 3, 1), (60, 5, 9), (9, 3, 130)]


def axis_length(shape):
    """How many numbers stand behind one statistic."""
    return shape[1] if len(shape) == 2 else shape[0] * shape[2]


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_size(shape, dtype, rng):
    oracle.check(make_case(shape, dtype, rng))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "lines"), LINES, ids=str)
def test_lines_of_parameters(shape, lines, dtype, centred, rng):
    oracle.check(make_case(shape, dtype, rng, x=3 + rng.standard_normal(shape), lines=lines, centred=centred))


@pytest.mark.parametrize("lines", [(1, 35), (2, 5), (2, 1), (6, 35)])
def test_one_parameter_without_the_other(lines, rng):
    case = make_case((6, 35), np.float64, rng, lines=lines)
    for gamma, beta in ((case.gamma, None), (None, case.beta), (None, None)):
        oracle.check(case._replace(gamma=gamma, beta=beta))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [shape for shape in ROWS if shape[1] < 2000], ids=str)
def test_rows_that_are_not_centred(shape, dtype, rng):
    case = make_case(shape, dtype, rng, x=-2 + rng.standard_normal(shape), centred=False)
    result = run(case)
    oracle.check(case, result)
    assert (result.statistics.mean == 0).all()
    assert (result.statistics.mean_low == 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_not_centred_and_zero(dtype, rng):
    """Nothing to scale: y is beta, and with eps 0 nothing passes back."""
    case = make_case((3, 9), dtype, rng, x=np.zeros((3, 9)), eps=0.0, centred=False)
    result = run(case)
    assert np.array_equal(result.y, np.broadcast_to(case.beta.astype(dtype), (3, 9)))
    assert (result.dx == 0).all()
    assert (result.dgamma == 0).all()


@pytest.mark.parametrize(("shape", "lines"), FEW_LINES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "offset"),
    [(np.float32, 10.0**k) for k in (3, 7)] + [(np.float64, 10.0**k) for k in (8, 12)],
)
def test_offset_costs_no_digits_in_lines(shape, lines, dtype, offset, rng):
    oracle.check(make_case(shape, dtype, rng, x=offset + rng.standard_normal(shape), lines=lines))


@pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_parameters(shape, dtype, rng):
    oracle.check(make_case(shape, dtype, rng, parameters=False))


@pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "offset"),
    [(np.float32, 10.0**k) for k in (1, 3, 5, 6, 7)] + [(np.float64, 10.0**k) for k in (1, 4, 8, 10, 12)],
)
def test_offset_costs_no_digits(shape, dtype, offset, rng):
    oracle.check(make_case(shape, dtype, rng, x=offset + rng.standard_normal(shape)))


@pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.float32, s) for s in (1e-42, 1e-38, 1e-20, 1e18, 1e30)]
    + [(np.float64, s) for s in (1e-140, 1e-20, 1e30, 1e140)],
)
def test_any_scale(shape, dtype, scale, rng):
    case = make_case(shape, dtype, rng, x=scale * rng.standard_normal(shape), eps=0.0)
    oracle.check(case._replace(dy=(case.dy * dtype(scale)).astype(dtype) if scale < 1 else case.dy))


@pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
def test_full_range_of_float32(shape, rng):
    x = rng.choice(np.array([-3.4e38, 3.4e38, 1e38, 0], np.float32), shape)
    oracle.check(make_case(shape, np.float32, rng, x=x, eps=0.0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1e3, 1e8, 1e15])
@pytest.mark.parametrize("where", [0, 1, 0.25, 0.5, 0.75, -1])
@pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
def test_outlier_anywhere(shape, where, size, dtype, rng):
    x = rng.standard_normal(shape)
    along = x.T if len(shape) == 2 else x.transpose(0, 2, 1).reshape(-1, shape[1])
    index = int(where * len(along)) if isinstance(where, float) else where
    along[index] = size
    x = along.T if len(shape) == 2 else along.reshape(shape[0], shape[2], shape[1]).transpose(0, 2, 1)
    oracle.check(make_case(shape, dtype, rng, x=x))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
def test_sorted_data(shape, dtype, rng):
    """The samples that give the shift are far from typical."""
    x = np.sort(rng.standard_normal(shape) ** 3, axis=1 if len(shape) == 2 else 0)
    oracle.check(make_case(shape, dtype, rng, x=x))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("constant", [0.0, 0.1, -7.7, 1e7 / 3, 1e30, -3e38, 1e-40])
@pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
def test_constant_is_exact(shape, constant, eps, dtype, rng):
    case = make_case(shape, dtype, rng, x=np.full(shape, constant), eps=eps)
    result = run(case)
    s = result.statistics
    assert (s.var == 0).all()
    assert (s.mean_low == 0).all()
    assert (s.mean == float(case.x.flat[0])).all()
    assert (s.rstd == (1 / np.sqrt(eps) if eps else 0)).all()
    beta = oracle.wide(case, case.beta, 0).astype(dtype)
    assert np.array_equal(result.y, np.broadcast_to(beta, shape))
    assert (result.dgamma == 0).all()
    assert np.isfinite(result.dx).all()
    if not eps:
        assert (result.dx == 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
def test_order_does_not_matter_where_sums_are_exact(shape, dtype, rng):
    """Small integers around a mean that is one: mean and variance must be exact, in any order."""
    n = axis_length(shape) // 2 * 2
    values = np.zeros(axis_length(shape))
    values[:n] = np.tile([-3, 3], n // 2)
    values = rng.permutation(values) + 16
    x = np.empty(shape)
    if len(shape) == 2:
        x[:] = values
    else:
        x[:] = values.reshape(shape[0], 1, shape[2])
    s = run(make_case(shape, dtype, rng, x=x)).statistics
    assert (s.mean == 16).all()
    assert (s.mean_low == 0).all()
    assert np.abs(s.var - 9 * n / axis_length(shape)).max() <= 4 * oracle.EPS64 * 9


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_many_numbers(dtype, rng):
    oracle.check(make_case((400_003, 2, 1), dtype, rng, x=100 + rng.standard_normal((400_003, 2, 1))))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
def test_nan_and_inf_stay_in_their_channel(shape, dtype, bad, rng):
    channel = (2,) if len(shape) == 2 else (slice(None), 2)
    clean = make_case(shape, dtype, rng)
    before = run(clean)
    others = np.ones(shape, bool)
    others[channel] = False
    for position in (0, -1, axis_length(shape) // 2):
        for name in ("x", "dy"):
            dirty = getattr(clean, name).copy()
            part = dirty[channel]
            part[np.unravel_index(position % part.size, part.shape)] = bad
            after = run(clean._replace(**{name: dirty}))
            assert np.array_equal(after.dx[others], before.dx[others])
            assert not np.isfinite(after.dx[channel]).any()
            if name == "x":
                assert np.array_equal(after.y[others], before.y[others])
                assert np.isnan(after.y[channel]).all()
                assert np.isnan(np.delete(after.statistics.var, 2)).sum() == 0
                assert np.isnan(after.statistics.var[2])
                assert np.array_equal(after.statistics.mean[2], bad, equal_nan=True)


EMPTY = [
    (0, 5),
    (5, 0),
    (0, 0),
    (0, 3, 4),
    (3, 0, 4),
    (3, 4, 0),
    (0, 1, 40),
    (0, 20, 40),
    (0, 0, 0),
    (0, 1, 1),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_empty_arrays(shape, dtype, rng):
    case = make_case(shape, dtype, rng, eps=0.25)
    result = run(case)
    assert result.y.shape == result.dx.shape == shape
    assert result.dgamma.shape == result.dbeta.shape == ((1, shape[1]) if len(shape) == 2 else (shape[1],))
    assert (result.dgamma == 0).all()
    assert (result.dbeta == 0).all()
    s = result.statistics
    assert s.mean.shape == (shape[0] if len(shape) == 2 else shape[1],)
    assert (s.mean == 0).all()
    assert (s.mean_low == 0).all()
    assert (s.var == 0).all()
    assert (s.rstd == 2).all()
    if len(shape) == 3:
        dgamma, dbeta = fixed(case, s.mean, s.rstd)[2:]
        assert (dgamma == 0).all()
        assert (dbeta == 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(
    ("shape", "lines"),
    [((0, 6), (3, 2)), ((6, 0), (3, 2)), ((6, 0), (3, 0)), ((0, 5), (0, 1)), ((0, 0), (0, 0)), ((0, 200), (2, 2))],
    ids=str,
)
def test_empty_lines(shape, lines, centred, dtype, rng):
    case = make_case(shape, dtype, rng, eps=0.25, lines=lines, centred=centred)
    result = run(case)
    assert result.dgamma.shape == result.dbeta.shape == lines
    assert (result.dgamma == 0).all()
    assert (result.dbeta == 0).all()
    assert (result.statistics.mean == 0).all()
    assert (result.statistics.var == 0).all()
    assert (result.statistics.rstd == 2).all()


def fixed(case, mean, rstd):
    y, dx = np.full_like(case.x, np.nan), np.full_like(case.x, np.nan)
    kernels.channels_apply(case.x, None, case.gamma, case.beta, mean, None, rstd, y)
    dgamma, dbeta = kernels.channels_apply_backward(case.dy, case.x, None, case.gamma, mean, None, rstd, dx)
    return y, dx, dgamma, dbeta


@pytest.mark.parametrize("parameters", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", NARROW + WIDE, ids=str)
def test_fixed_statistics(shape, dtype, parameters, rng):
    case = make_case(shape, dtype, rng, parameters=parameters)
    mean, rstd = rng.standard_normal(shape[1]), rng.uniform(0.5, 2, shape[1])
    y, dx, dgamma, dbeta = fixed(case, mean, rstd)
    gamma, beta = oracle.wide(case, case.gamma, 1), oracle.wide(case, case.beta, 0)
    x, dy = case.x.astype(np.longdouble), case.dy.astype(np.longdouble)
    r = oracle.wide(case, rstd, 1)
    x_hat = (x - oracle.wide(case, mean, 0)) * r
    allowed = TOLERANCES[np.dtype(dtype)]
    assert np.all(np.abs(y - (x_hat * gamma + beta)) <= allowed.y * (np.abs(x_hat * gamma) + np.abs(beta)))
    assert np.all(np.abs(dx - r * gamma * dy) <= allowed.dx * np.abs(r * gamma * dy))
    terms = dy * x_hat
    assert np.all(np.abs(dgamma - terms.sum((0, 2))) <= allowed.sums * np.abs(terms).sum((0, 2)))
    assert np.all(np.abs(dbeta - dy.sum((0, 2))) <= allowed.sums * np.abs(dy).sum((0, 2)))


@pytest.mark.parametrize("shape", [(60, 5, 9), (9, 3, 130)], ids=str)
def test_fixed_statistics_keep_nan_in_its_place(shape, rng):
    case = make_case(shape, np.float32, rng)
    ones = np.ones(shape[1])
    y, dx, dgamma, _ = fixed(case, ones, ones)
    case.x[4, 2, 3] = np.nan
    y_nan, dx_nan, dgamma_nan, _ = fixed(case, ones, ones)
    y[4, 2, 3] = dgamma[2] = np.nan
    assert np.array_equal(y_nan, y, equal_nan=True)
    assert np.array_equal(dx_nan, dx)
    assert np.array_equal(dgamma_nan, dgamma, equal_nan=True)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    shape=st.one_of(
        st.tuples(st.integers(0, 40), st.integers(0, 90)),
        st.tuples(st.integers(0, 70), st.integers(0, 40), st.integers(0, 12)),
        st.tuples(st.integers(0, 5), st.integers(0, 20), st.integers(120, 160)),
    ),
    dtype=st.sampled_from(DTYPES),
    offset=st.sampled_from([0.0, -3.0, 1e3, 1e6]),
    eps=st.sampled_from([1e-5, 0.0, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape(shape, dtype, offset, eps, seed):
    if axis_length(shape) == 0:
        return
    rng = np.random.default_rng(seed)
    oracle.check(make_case(shape, dtype, rng, x=offset + rng.standard_normal(shape), eps=eps))


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    samples=st.integers(1, 20),
    groups=st.integers(1, 6),
    entries=st.integers(1, 9),
    inner=st.one_of(st.integers(1, 12), st.integers(58, 70)),
    dtype=st.sampled_from(DTYPES),
    offset=st.sampled_from([0.0, -3.0, 1e3]),
    eps=st.sampled_from([1e-5, 0.0, 1.0]),
    centred=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_lines(samples, groups, entries, inner, dtype, offset, eps, centred, seed):
    rng = np.random.default_rng(seed)
    shape = samples * groups, entries * inner
    x = offset + rng.standard_normal(shape)
    oracle.check(make_case(shape, dtype, rng, x=x, eps=eps, lines=(groups, entries), centred=centred))
