"""Norms with what stands beside them, against the kernels one after the other and NumPy; bad arguments."""

import re
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels import oracle
from tests.kernels.oracle import DTYPES

from xhat import kernels
from xhat.kernels import fused, random
from xhat.kernels.fused import Epilogue
from xhat.layers import relu

pytestmark = oracle.needs_native

NATIVE = [name for name in kernels.VARIANTS if name != "reference"]
KEY = 0xFEDC_BA98_7654_3210
RATES = [0.0, 0.5, 1.0]
ROWS = [  # shape, lines
    ((5, 7), (1, 7)),
    ((1, 1), (1, 1)),
    ((2, 2), (1, 2)),
    ((37, 129), (1, 129)),
    ((12, 256), (3, 2)),  # an entry for a long run
    ((12, 30), (3, 2)),  # and for a short one
    ((8, 97), (1, 1)),
    ((700, 523), (1, 523)),  # several blocks
    ((2, 140001), (1, 140001)),  # few long rows
    ((2, 140001), (1, 1)),
    ((0, 5), (1, 5)),
    ((3, 0), (1, 0)),
]
CHANNELS = [
    (5, 7, 1),
    (300, 33, 1),
    (4, 5, 9),
    (3, 4, 200),
    (2, 17, 131),
    (1, 1, 1),
    (2, 2, 70000),
    (0, 3, 4),
    (3, 2, 0),
]

by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
by_rate = pytest.mark.parametrize("rate", RATES)
by_variant = pytest.mark.parametrize("variant", NATIVE)


@pytest.fixture(autouse=True)
def same_threads_after():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


class Way(NamedTuple):
    """How a norm is called, alone and with what follows it."""

    forward: object  # (x, gamma, beta, out) -> statistics
    backward: object  # (dy, x, gamma, statistics, out) -> gradients
    fused_forward: object  # (..., epilogue)
    fused_backward: object  # with beta after gamma


def rows(lines, centred=True):
    return Way(
        lambda x, gamma, beta, out: kernels.rows_forward(x, gamma, beta, 1e-5, out, centred=centred),
        lambda dy, x, gamma, s, out: kernels.rows_backward(dy, x, gamma, s, out, shape=lines, centred=centred),
        lambda x, gamma, beta, out, e: fused.rows_forward(x, gamma, beta, 1e-5, out, centred=centred, epilogue=e),
        lambda dy, x, gamma, beta, s, out, e: fused.rows_backward(
            dy, x, gamma, beta, s, out, shape=lines, centred=centred, epilogue=e
        )[:2],
    )


def channels(weights=None):
    return Way(
        lambda x, gamma, beta, out: kernels.channels_forward(x, weights, gamma, beta, 1e-5, out),
        lambda dy, x, gamma, s, out: kernels.channels_backward(dy, x, weights, gamma, s, out),
        lambda x, gamma, beta, out, e: fused.channels_forward(x, weights, gamma, beta, 1e-5, out, epilogue=e),
        lambda dy, x, gamma, beta, s, out, e: fused.channels_backward(dy, x, weights, gamma, beta, s, out, epilogue=e),
    )


def fixed(statistics, weights=None):
    three = statistics.mean, statistics.mean_low, statistics.rstd

    def forward(x, gamma, beta, out):
        kernels.channels_apply(x, weights, gamma, beta, *three, out)
        return statistics

    def fused_forward(x, gamma, beta, out, e):
        fused.channels_apply(x, weights, gamma, beta, *three, out, epilogue=e)
        return statistics

    return Way(
        forward,
        lambda dy, x, gamma, s, out: kernels.channels_apply_backward(dy, x, weights, gamma, *three, out),
        fused_forward,
        lambda dy, x, gamma, beta, s, out, e: fused.channels_apply_backward(
            dy, x, weights, gamma, beta, *three, out, epilogue=e
        ),
    )


def dropped(values, epilogue):
    out = np.empty_like(values)
    random.dropout(values, epilogue.key, epilogue.rate, out)
    return out


def one_after_the_other(way, case, epilogue):
    """Norm, ReLU and dropout, each with a result in memory."""
    y, dx = np.full_like(case.x, np.nan), np.full_like(case.x, np.nan)
    statistics = way.forward(case.x, case.gamma, case.beta, y)
    rectified, cache = relu.forward(y)
    dy = relu.backward(dropped(case.dy, epilogue), cache).dx
    gradients = way.backward(np.ascontiguousarray(dy), case.x, case.gamma, statistics, dx)
    return oracle.Result(dropped(rectified, epilogue), dx, *gradients, statistics)


def together(way, case, epilogue):
    y, dx = np.full_like(case.x, np.nan), np.full_like(case.x, np.nan)
    statistics = way.fused_forward(case.x, case.gamma, case.beta, y, epilogue)
    gradients = way.fused_backward(case.dy, case.x, case.gamma, case.beta, statistics, dx, epilogue)
    return oracle.Result(y, dx, *gradients, statistics)


def assert_same(got, expected, rate):
    """Alike but for what is rounded between: nothing in double, nor where the scale is a power of two."""
    for a, b in zip(got.statistics, expected.statistics, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(got.y == 0, expected.y == 0)
    if rate in RATES or got.y.dtype == np.float64:
        np.testing.assert_array_equal(got.y, expected.y)
        for a, b in zip(got[1:4], expected[1:4], strict=True):
            np.testing.assert_array_equal(a, b)
        return
    np.testing.assert_array_max_ulp(got.y, expected.y, 1)
    for a, b in zip(got[1:4], expected[1:4], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max(initial=0))


@by_variant
@by_dtype
@pytest.mark.parametrize("rate", [*RATES, 0.3])
@pytest.mark.parametrize(("shape", "lines"), ROWS, ids=str)
def test_rows_are_what_the_layers_give_one_after_the_other(shape, lines, rate, dtype, variant):
    case = oracle.make_case(shape, dtype, np.random.default_rng(1), lines=lines)
    with kernels.use(variant):
        for centred in (True, False):
            way, epilogue = rows(lines, centred), Epilogue(rate, KEY)
            assert_same(together(way, case, epilogue), one_after_the_other(way, case, epilogue), rate)


@by_variant
@by_dtype
@pytest.mark.parametrize("rate", [*RATES, 0.3])
@pytest.mark.parametrize("shape", CHANNELS, ids=str)
def test_channels_are_what_the_layers_give_one_after_the_other(shape, rate, dtype, variant):
    rng = np.random.default_rng(2)
    case = oracle.make_case(shape, dtype, rng)
    given = kernels.Statistics(*(rng.uniform(0.5, 2, shape[1]) for _ in range(4)))
    weights = rng.integers(0, 3, shape[::2]).astype(np.float64)
    epilogue = Epilogue(rate, KEY)
    with kernels.use(variant):
        for way in (channels(), fixed(given), channels(weights), fixed(given, weights)):
            assert_same(together(way, case, epilogue), one_after_the_other(way, case, epilogue), rate)


@by_dtype
@by_rate
def test_without_parameters_and_without_a_lower_part(dtype, rate):
    rng = np.random.default_rng(3)
    for shape, way in (((9, 11), rows((1, 11))), ((9, 11, 1), channels())):
        case = oracle.make_case(shape, dtype, rng, parameters=False)
        epilogue = Epilogue(rate, KEY)
        assert_same(together(way, case, epilogue), one_after_the_other(way, case, epilogue), rate)
    y, expected = np.empty_like(case.x), np.empty_like(case.x)
    fused.channels_apply(case.x, None, None, None, np.ones(11), None, np.full(11, 2.0), y, epilogue=Epilogue())
    kernels.channels_apply(case.x, None, None, None, np.ones(11), None, np.full(11, 2.0), expected)
    np.testing.assert_array_equal(y, np.maximum(expected, 0))


@pytest.mark.parametrize("case", ["rows", "kept", "long", "wide", "narrow"])
@by_dtype
def test_bits_depend_on_no_number_of_threads_and_no_variant(case, dtype):
    rng = np.random.default_rng(4)
    shape, lines = {
        "rows": ((700, 523), (1, 523)),
        "kept": ((60, 4096), (2, 4)),
        "long": ((3, 140001), (1, 140001)),
        "wide": ((7, 17, 4001), None),
        "narrow": ((3001, 77, 1), None),
    }[case]
    data = oracle.make_case(shape, dtype, rng, lines=lines)
    way = rows(lines) if lines else channels()
    also, results = rng.standard_normal(shape).astype(dtype), []
    for variant in NATIVE:
        for threads in (1, 2, 3) if variant == NATIVE[-1] else (2,):
            kernels.set_num_threads(threads)
            with kernels.use(variant):
                result = together(way, data, Epilogue(0.3, KEY))
                found = oracle.bits(result)
                if lines:
                    out = np.empty_like(data.x)
                    gradients = fused.rows_backward(
                        data.dy,
                        data.x,
                        data.gamma,
                        data.beta,
                        result.statistics,
                        out,
                        shape=lines,
                        also=also,
                        bias=True,
                    )
                    found += [a.tobytes() for a in (out, *gradients)]
                results.append(found)
    assert all(result == results[0] for result in results)


def test_results_past_the_cache():
    rng = np.random.default_rng(5)
    for shape, way, offset in (
        ((2100, 1025), rows((1, 1025)), 1),
        ((2100, 1024, 1), channels(), 4),
        ((11, 3, 70001), channels(), 3),
    ):
        case = oracle.make_case(shape, np.float32, rng)
        case = case._replace(x=np.concatenate([np.zeros(offset, np.float32), case.x.ravel()])[offset:].reshape(shape))
        epilogue = Epilogue(0.5, KEY)
        assert_same(together(way, case, epilogue), one_after_the_other(way, case, epilogue), 0.5)


@by_dtype
def test_constant_rows_and_channels_give_beta_and_a_slope_by_its_sign(dtype):
    beta = np.array([[-1.0, 0.0, 2.0]])
    x = np.full((4, 3), 7.7, dtype)
    x[:, :] = x[0, 0]
    y = np.empty_like(x)
    fused.rows_forward(x, np.ones((1, 3)), beta, 0.0, y, epilogue=Epilogue())
    np.testing.assert_array_equal(y, np.tile(np.array([0, 0, 2], dtype), (4, 1)))
    out = np.empty_like(x)[:, :, None]
    s = kernels.Statistics(*(np.full(3, value) for value in (float(x[0, 0]), 0.0, 1.0, 1.0)))
    dy = np.full((4, 3, 1), 5, dtype)
    _, dbeta = fused.channels_apply_backward(
        dy, x[:, :, None], None, None, beta[0], s.mean, s.mean_low, s.rstd, out, epilogue=Epilogue()
    )
    np.testing.assert_array_equal(dbeta, [0, 0, 20])  # at 0 the slope is 0
    np.testing.assert_array_equal(out[0, :, 0], [0, 0, 5])


def test_what_rounds_to_zero_is_not_positive():
    least = float(np.finfo(np.float32).smallest_subnormal)
    beta = least * np.array([0.4999, 0.5, 0.5001, -1.0, np.nan])
    x, dy = np.zeros((1, 5, 1), np.float32), np.ones((1, 5, 1), np.float32)
    zeros, ones, y, dx = np.zeros(5), np.ones(5), np.empty_like(x), np.empty_like(x)
    for epilogue, scale in ((Epilogue(), 1), (Epilogue(0.5, 1), 2)):
        kept = random.kept((5,), epilogue.key, epilogue.rate)
        fused.channels_apply(x, None, ones, beta, zeros, None, ones, y, epilogue=epilogue)
        expected = np.where(kept, [0, 0, least * scale, 0, np.nan], 0)
        np.testing.assert_allclose(y.ravel(), expected, rtol=0, atol=0 if scale == 1 else least)
        fused.channels_apply_backward(dy, x, None, ones, beta, zeros, None, ones, dx, epilogue=epilogue)
        np.testing.assert_array_equal(dx.ravel(), np.where(kept, [0, 0, 1, 0, 1], 0) * scale)


@by_dtype
@by_variant
def test_nan_and_inf_pass_unless_dropped(dtype, variant):
    rng = np.random.default_rng(6)
    bad = np.array([np.nan, np.inf, -np.inf, 1.0, -1.0])
    x = rng.choice(bad, (3, 4, 21)).astype(dtype)
    dy = rng.choice(bad, x.shape).astype(dtype)
    case = oracle.Case(x, dy, np.ones(4), np.zeros(4), 1e-5)
    given = kernels.Statistics(np.zeros(4), np.zeros(4), np.ones(4), np.ones(4))
    with kernels.use(variant), np.errstate(invalid="ignore"):
        for rate in RATES:
            way, epilogue = fixed(given), Epilogue(rate, KEY)
            assert_same(together(way, case, epilogue), one_after_the_other(way, case, epilogue), rate)
            x = np.zeros((6, 9), dtype)
            x[2, 3], x[4, 0] = np.nan, np.inf
            case_rows = oracle.make_case((6, 9), dtype, rng, x=x, lines=(1, 9))
            assert_same(
                together(rows((1, 9)), case_rows, epilogue),
                one_after_the_other(rows((1, 9)), case_rows, epilogue),
                rate,
            )


@by_variant
@by_dtype
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(("shape", "lines"), ROWS, ids=str)
@pytest.mark.parametrize("kind", ["residual", "bias"])
def test_what_is_added_before(kind, shape, lines, centred, dtype, variant):
    rng = np.random.default_rng(7)
    case = oracle.make_case(shape, dtype, rng, lines=lines, centred=centred)
    added = (1e3 * rng.standard_normal(shape if kind == "residual" else shape[1:])).astype(dtype)
    expected, y = np.empty_like(case.x), np.empty_like(case.x)
    expected_total = case.x + added
    with kernels.use(variant):
        statistics = kernels.rows_forward(expected_total, case.gamma, case.beta, 1e-5, expected, centred=centred)
        mine = case.x.copy(), added.copy()
        for total in [np.empty_like(case.x), mine[0], *(mine[1:] if kind == "residual" else ())]:
            x, term = case.x.copy() if total is not mine[0] else total, added.copy() if total is not mine[1] else total
            y.fill(np.nan)
            got = fused.rows_forward(
                x, case.gamma, case.beta, 1e-5, y, centred=centred, added=term, total=total, epilogue=Epilogue()
            )
            np.testing.assert_array_equal(total, expected_total)
            np.testing.assert_array_equal(y, np.maximum(expected, 0))
            for a, b in zip(got, statistics, strict=True):
                np.testing.assert_array_equal(a, b)
            if total is not x:
                np.testing.assert_array_equal(x, case.x)
            if total is not term:
                np.testing.assert_array_equal(term, added)


@by_variant
@by_dtype
@pytest.mark.parametrize("rate", [None, 0.0, 0.5])
@pytest.mark.parametrize(("shape", "lines"), ROWS, ids=str)
def test_what_arrives_at_the_total_and_the_gradient_of_a_bias(shape, lines, rate, dtype, variant):
    rng = np.random.default_rng(8)
    case = oracle.make_case(shape, dtype, rng, lines=lines)
    also = rng.standard_normal(shape).astype(dtype)
    epilogue = None if rate is None else Epilogue(rate, KEY)
    y, alone, out = (np.empty_like(case.x) for _ in range(3))
    with kernels.use(variant):
        s = fused.rows_forward(case.x, case.gamma, case.beta, 1e-5, y, epilogue=epilogue)
        first = fused.rows_backward(case.dy, case.x, case.gamma, case.beta, s, alone, shape=lines, epilogue=epilogue)
        assert first[2] is None
        both = [
            fused.rows_backward(
                case.dy, case.x, case.gamma, case.beta, s, out, shape=lines, epilogue=epilogue, also=also, bias=bias
            )
            for bias in (False, True)
        ]
    expected = alone.astype(np.float64) + also
    limit = 4 * np.finfo(dtype).eps * (np.abs(alone).max(initial=0) + np.abs(also).max(initial=0))
    np.testing.assert_allclose(out, expected, rtol=0, atol=limit)
    assert both[0][2] is None
    np.testing.assert_allclose(both[1][2], expected.sum(0), rtol=0, atol=limit * max(1, shape[0]))
    for got in both:
        for a, b in zip(got[:2], first[:2], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(b).max(initial=0) * max(1, *shape))


def test_the_gradient_of_a_bias_is_summed_before_dx_is_rounded():
    rng = np.random.default_rng(9)
    case = oracle.make_case((400, 33), np.float32, rng)
    wide = case._replace(x=case.x.astype(np.float64), dy=case.dy.astype(np.float64))
    found = []
    for data in (case, wide):
        y, out = np.empty_like(data.x), np.empty_like(data.x)
        s = fused.rows_forward(data.x, data.gamma, data.beta, 1e-5, y)
        found.append(fused.rows_backward(data.dy, data.x, data.gamma, data.beta, s, out, shape=(1, 33), bias=True)[2])
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-12 * np.abs(found[1]).max())


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_shape(data):
    seed, rate = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.sampled_from(RATES))
    dtype, epilogue = data.draw(st.sampled_from(DTYPES)), Epilogue(rate, data.draw(st.integers(0, 2**64 - 1)))
    rng = np.random.default_rng(seed)
    if data.draw(st.booleans()):
        groups, entries = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
        shape = groups * data.draw(st.integers(0, 6)), entries * data.draw(st.integers(1, 80))
        way, case = rows((groups, entries)), oracle.make_case(shape, dtype, rng, lines=(groups, entries))
    else:
        shape = data.draw(st.tuples(st.integers(0, 9), st.integers(1, 40), st.integers(1, 200)))
        way, case = channels(), oracle.make_case(shape, dtype, rng)
    assert_same(together(way, case, epilogue), one_after_the_other(way, case, epilogue), rate)


ARRAYS = {  # what is written last
    "fused_rows_forward": "x added total gamma beta eps centred epilogue out mean mean_low var rstd",
    "fused_rows_backward": "dy x also gamma beta mean mean_low rstd centred epilogue out dgamma dbeta dbias",
    "fused_channels_forward": "x weights count gamma beta eps epilogue out mean mean_low var rstd",
    "fused_channels_apply": "x weights gamma beta mean mean_low rstd epilogue out",
    "fused_channels_backward": "dy x weights count gamma beta mean mean_low rstd epilogue out dgamma dbeta",
    "fused_channels_apply_backward": "dy x weights gamma beta mean mean_low rstd epilogue out dgamma dbeta",
}
OPTIONAL = {"added", "total", "also", "gamma", "beta", "weights", "dbias"}


def arguments_of(function):
    of_rows = "rows" in function
    whole, each = ((6, 4), (6,)) if of_rows else ((6, 4, 2), (4,))
    line = (3, 2) if of_rows else (4,)
    values = {"eps": 1e-5, "centred": True, "epilogue": Epilogue(0.5, 1), "count": 12.0}
    shapes = {"weights": (6, 2), "dbias": (4,)}
    shapes |= dict.fromkeys(("x", "dy", "out", "added", "total", "also"), whole)
    shapes |= dict.fromkeys(("gamma", "beta", "dgamma", "dbeta"), line)
    return {
        name: values[name] if name in values else np.ones(shapes.get(name, each)) for name in ARRAYS[function].split()
    }


def raises(function, error, text, **changed):
    arguments = arguments_of(function) | changed
    before = {name: value.tobytes() for name, value in arguments.items() if isinstance(value, np.ndarray)}
    with pytest.raises(error, match=re.escape(text)):
        getattr(kernels.native, function)(*arguments.values())
    assert before == {name: value.tobytes() for name, value in arguments.items() if isinstance(value, np.ndarray)}


@pytest.mark.parametrize("function", ARRAYS)
def test_bad_arrays_are_told_and_nothing_is_written(function):
    who = function.replace("_", ".", 1)
    arguments = arguments_of(function)
    getattr(kernels.native, function)(*arguments.values())
    arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
    outputs = ARRAYS[function].split()
    outputs = {"out", "total", "dgamma", "dbeta", "dbias"} | ({*outputs[-4:]} if "forward" in function else set())
    optional = OPTIONAL | ({"mean_low"} if "channels" in function else set()) - outputs
    for name, array in arrays.items():
        for bad in ("text", [1.0], np.ones((6, 4), int), *(() if name in optional else (None,))):
            raises(function, TypeError, f"{who}: expected {name}", **{name: bad})
        raises(function, ValueError, f"{who}: expected {name}", **{name: np.ones((5, *array.shape[1:], 1))})
        raises(function, ValueError, f"{who}: expected {name}", **{name: np.ones((*array.shape, 2))[..., 0]})
        bytes_ = np.zeros(array.nbytes + 1, np.uint8)[1:]
        raises(function, ValueError, f"{who}: expected {name}", **{name: bytes_.view(np.float64).reshape(array.shape)})
        if name not in ("gamma", "beta"):
            raises(function, TypeError, f"{who}: expected", **{name: array.astype(np.float32)})
        if name in outputs:
            locked = array.copy()
            locked.flags.writeable = False
            raises(function, ValueError, f"{who}: expected {name} to be writable", **{name: locked})
    for written in outputs & arrays.keys():
        for name, array in arrays.items():
            if (
                name != written
                and array.shape == arrays[written].shape
                and {name, written} not in ({"x", "total"}, {"added", "total"})
            ):
                raises(function, ValueError, "share no memory", **{written: array, name: array})
    half = np.ones(arrays["x"].shape, np.float16)
    wide = {name: half.copy() for name, array in arrays.items() if array.shape == half.shape}
    raises(function, TypeError, f"{who}: expected x of float32 or float64", **wide)


@pytest.mark.parametrize("function", ARRAYS)
def test_bad_epilogues_are_told(function):
    who = function.replace("_", ".", 1)
    for rate in (-0.1, 1.1, np.nan, np.inf):
        raises(function, ValueError, f"{who}: expected a rate from 0 to 1", epilogue=Epilogue(rate, 1))
    for bad in (1, "ab", (0.5,), (0.5, -1), (0.5, 1 << 64), (0.5, 1.5), ("x", 1), (0.5, None), [0.5, 1]):
        raises(function, TypeError, f"{who}: expected epilogue", epilogue=bad)
    if "forward" in function:
        raises(function, ValueError, f"{who}: expected eps", eps=-1.0)


def test_a_sum_has_a_place_of_its_own():
    who, x = "fused_rows_forward", np.ones((6, 4))
    raises(who, ValueError, "expected added and total together", added=None)
    raises(who, ValueError, "expected added and total together", total=None)
    raises(who, ValueError, "expected x to share no memory with added", x=x, added=x, total=x)
    raises(who, ValueError, "share no memory", x=x, total=x[:])
    raises(who, ValueError, "share no memory", x=x, added=x[0], total=x)
    bias = np.ones(4)
    raises(who, ValueError, "expected added of shape (6, 4), got (4,)", added=bias, total=bias)
    for shape in ((), (5,), (6,), (1, 4), (6, 4, 1)):
        raises(who, ValueError, "expected added", added=np.ones(shape))
