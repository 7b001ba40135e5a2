"""The compiled updates against the rules in float64, bit by bit; bad arguments; shared memory."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.kernels import oracle
from tests.kernels.oracle import DTYPES

from xhat import kernels
from xhat.kernels import updates
from xhat.kernels.updates import Rule

pytestmark = oracle.needs_native

NATIVE = [name for name in kernels.VARIANTS if name != "reference"]
RULES = [
    Rule("sgd", 0.1),
    Rule("momentum", 0.1, 0.9),
    Rule("nesterov", 0.1, 0.9),
    Rule("rmsprop", 0.01, 0.99, eps=1e-8),
    Rule("adam", 0.02, 0.9, 0.999, correction=700.0, eps=1e-8),
]
SLOTS = {"sgd": 0, "momentum": 1, "nesterov": 1, "rmsprop": 1, "adam": 2}
SHAPES = [(), (0,), (1,), (2,), (7,), (8,), (3, 3), (13,), (31, 3), (0, 4), (257,)]

by_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(autouse=True)
def same_threads_after():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def after(rule, w, dw, memory, decay):
    """The parameter and what is kept of it after a step: in float64, rounded where it is stored."""
    dtype = w.dtype
    dw, old = dw.astype(np.float64), w.astype(np.float64)
    with np.errstate(over="ignore"):
        rate = np.float64(dtype.type(rule.rate))

    def stored(values):
        new.append(np.asarray(values, dtype))
        return new[-1].astype(np.float64)

    def average(slot, kept, values):
        return stored(kept * memory[slot].astype(np.float64) + (1 - kept) * values)

    def over_size(values, square):
        size = np.sqrt(square) + rule.eps
        return rate * (values / np.where(size == 0, 1.0, size))

    new = []
    with np.errstate(all="ignore"):
        match rule.name:
            case "sgd":
                step = rate * dw
            case "momentum":
                step = -stored(rule.kept1 * memory[0].astype(np.float64) - rate * dw)
            case "nesterov":
                v = stored(rule.kept1 * memory[0].astype(np.float64) - rate * dw)
                step = rate * dw - rule.kept1 * v
            case "rmsprop":
                step = over_size(dw, average(0, rule.kept1, dw * dw))
            case "adam":
                m, v = average(0, rule.kept1, dw), average(1, rule.kept2, dw * dw)
                step = over_size(m, rule.correction * v)
        return [np.asarray((old - decay * old if decay else old) - step, dtype), *new]


def make(rule, shapes, dtype, seed=3):
    """Parameters, gradients, memory and shares, of random values."""
    rng = np.random.default_rng(seed)
    parameters, gradients = ([rng.standard_normal(shape).astype(dtype)[...] for shape in shapes] for _ in range(2))
    memory = [tuple(rng.random(shape).astype(dtype)[...] for _ in range(SLOTS[rule.name])) for shape in shapes]
    return parameters, gradients, memory, [0.0 if i % 2 else 0.25 for i in range(len(shapes))]


def as_arrays(parameters, gradients, memory, decay):
    """Numbers without a shape come out of NumPy as scalars."""
    return (
        [np.asarray(a) for a in parameters],
        [np.asarray(a) for a in gradients],
        [tuple(np.asarray(a) for a in arrays) for arrays in memory],
        decay,
    )


def flat(parameters, memory):
    return [array for w, arrays in zip(parameters, memory, strict=True) for array in (w, *arrays)]


def check(rule, parameters, gradients, memory, decay):
    """Make the step and compare every bit; the gradients stay as they are."""
    before = [gradient.copy() for gradient in gradients]
    expected = [
        array for item in zip(parameters, gradients, memory, decay, strict=True) for array in after(rule, *item)
    ]
    assert updates.update(rule, parameters, gradients, memory, decay) is True
    for i, (got, true) in enumerate(zip(flat(parameters, memory), expected, strict=True)):
        assert got.dtype == true.dtype
        assert np.array_equal(got, true, equal_nan=True), f"array {i}"
        there = ~np.isnan(got)
        assert np.array_equal(np.signbit(got[there]), np.signbit(true[there])), f"array {i}: a zero's sign"
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(gradients, before, strict=True))


@by_rule
@by_dtype
@pytest.mark.parametrize("name", NATIVE)
def test_many_parameters_bit_by_bit(rule, dtype, name):
    with kernels.use(name):
        check(rule, *as_arrays(*make(rule, SHAPES, dtype)))


@by_rule
@by_dtype
def test_threads_and_pieces_leave_no_trace(rule, dtype):
    """Pieces begin and end inside parameters; small ones share a piece."""
    shapes = [(50_021,), *[(11,)] * 50, (30_011, 2), (1,)]
    for threads in (1, 2, 3):
        kernels.set_num_threads(threads)
        check(rule, *make(rule, shapes, dtype))


@by_rule
def test_both_types_in_one_call(rule):
    parameters, gradients, memory, decay = (
        a + b for a, b in zip(*(make(rule, [(5,), (9,)], dtype) for dtype in DTYPES), strict=True)
    )
    order = [0, 2, 1, 3]
    check(rule, *([list(items)[i] for i in order] for items in (parameters, gradients, memory, decay)))


@by_rule
def test_nothing_to_do(rule):
    assert updates.update(rule, [], [], [], []) is True


values_of = {
    dtype: st.one_of(
        st.floats(width=8 * dtype.itemsize, allow_subnormal=True),
        st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, float(np.finfo(dtype).max), float(np.finfo(dtype).tiny)]),
    )
    for dtype in DTYPES
}


@st.composite
def cases(draw):
    dtype = draw(st.sampled_from(DTYPES))
    rule = draw(st.sampled_from(RULES))
    rule = rule._replace(
        rate=draw(st.floats(0, 1e308)),
        kept1=draw(st.floats(0, 1)),
        kept2=draw(st.floats(0, 1)),
        correction=draw(st.floats(1, 1e4)),
        eps=draw(st.sampled_from([0.0, 1e-300, 1e-8, 1.0])),
    )
    shapes = draw(st.lists(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=9), max_size=4))

    def array(shape):
        return draw(hnp.arrays(dtype, shape, elements=values_of[dtype]))

    parameters, gradients = ([array(shape) for shape in shapes] for _ in range(2))
    memory = [tuple(array(shape) for _ in range(SLOTS[rule.name])) for shape in shapes]
    return rule, parameters, gradients, memory, [draw(st.floats(-1, 1)) for _ in shapes]


@given(cases())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_numbers(case):
    """Inf, NaN, denormals, zeros of either sign: each entry alone, as the rule says."""
    check(*case)


@by_rule
@by_dtype
def test_nan_and_inf_stay_in_place(rule, dtype):
    parameters, gradients, memory, decay = make(rule, [(29,), (40,)], dtype)
    gradients[0][[3, 17, 28]] = np.nan, np.inf, -np.inf
    assert updates.update(rule, parameters, gradients, memory, decay)
    touched = np.zeros(29, bool)
    touched[[3, 17, 28]] = True
    assert np.isfinite(parameters[0][~touched]).all()
    assert np.isfinite(parameters[1]).all()
    assert not np.isfinite(parameters[0][3])


def good():
    return as_arrays(*make(RULES[-1], [(4, 3), (5,)], np.dtype(np.float32)))


def refuse(error, message, parameters, gradients, memory, decay, rule=RULES[-1]):
    """Expect this error, and that nothing is written."""
    arrays = [a for a in (*flat(parameters, memory), *gradients) if isinstance(a, np.ndarray)] if memory else []
    before = [a.copy() for a in arrays]
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        updates.update(rule, parameters, gradients, memory, decay)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


def test_rule():
    refuse(
        ValueError,
        "update: expected rule 'sgd', 'momentum', 'nesterov', 'rmsprop' or 'adam', got 'lion'. Choose one of these.",
        *good(),
        rule=Rule("lion", 0.1),
    )


def test_lists():
    for i, name in enumerate(("parameters", "gradients", "memory", "decay")):
        arguments = list(good())
        arguments[i] = 3
        message = f"update: expected {name} as a list, got int. Pass one item for each parameter."
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            updates.update(RULES[-1], *arguments)
        if i > 0:
            arguments = list(good())
            arguments[i] = arguments[i][:1]
            message = f"update: expected {name} with 2 items, got 1. Make the lists fit each other and the rule."
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                updates.update(RULES[-1], *arguments)


def test_as_many_arrays_as_the_rule_keeps():
    parameters, gradients, memory, decay = good()
    memory[1] = memory[1][:1]
    message = "update: expected memory[1] with 2 items, got 1. Make the lists fit each other and the rule."
    refuse(ValueError, message, parameters, gradients, memory, decay)
    memory[1] = None
    message = "update: expected memory[1] as a list, got NoneType. Pass one item for each parameter."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        updates.update(RULES[-1], parameters, gradients, memory, decay)


def test_decay():
    parameters, gradients, memory, _ = good()
    message = "update: expected decay[1] as a number, got str. Give 0 for none."
    refuse(TypeError, message, parameters, gradients, memory, [0.0, "1"])


def replaced(where, value):
    """Good arguments in which one array of the second parameter is another."""
    parameters, gradients, memory, decay = good()
    if where == "parameters[1]":
        parameters[1] = value(parameters[1])
    elif where == "gradients[1]":
        gradients[1] = value(gradients[1])
    else:
        memory[1] = (memory[1][0], value(memory[1][1]))
    return parameters, gradients, memory, decay


WHERE = ["parameters[1]", "gradients[1]", "memory[1][1]"]


@pytest.mark.parametrize("where", WHERE)
def test_arrays(where):
    def misaligned(a):
        raw = np.zeros(a.nbytes + 1, np.uint8)
        return raw[1:].view(a.dtype)

    wrong = f"update: expected {where}"
    refuse(
        TypeError,
        f"{wrong} of native float16, bfloat16, float32 or float64, got int32. Convert it with astype.",
        *replaced(where, lambda a: a.astype(np.int32)),
    )
    refuse(
        TypeError,
        f"{wrong} of native float16, bfloat16, float32 or float64, got >f4. Convert it with astype.",
        *replaced(where, lambda a: a.astype(">f4")),
    )
    refuse(
        ValueError,
        f"{wrong} to be C-contiguous, got other strides. Convert it with np.ascontiguousarray.",
        *replaced(where, lambda a: np.repeat(a, 2)[::2]),
    )
    refuse(
        ValueError,
        f"{wrong} to be aligned, got an address between two elements. Copy it.",
        *replaced(where, misaligned),
    )
    refuse(
        TypeError,
        f"{wrong} as an array of float16, bfloat16, float32 or float64, got NoneType. Convert it with np.asarray.",
        *replaced(where, lambda _: None),
    )


@pytest.mark.parametrize("where", WHERE[1:])
def test_arrays_fit_their_parameter(where):
    refuse(
        TypeError,
        f"update: expected {where} of float32, got float64. Convert it with astype.",
        *replaced(where, lambda a: a.astype(np.float64)),
    )
    refuse(
        ValueError,
        f"update: expected {where} of shape (5,), got (5, 1). Make it fit parameters[1].",
        *replaced(where, lambda a: a[:, None]),
    )


@pytest.mark.parametrize("where", ["parameters[1]", "memory[1][1]"])
def test_read_only(where):
    def locked(a):
        a.flags.writeable = False
        return a

    message = f"update: expected {where} to be writable, got a read-only array. Pass one that may be written."
    refuse(ValueError, message, *replaced(where, locked))
    parameters, gradients, memory, decay = good()
    locked(gradients[0])
    assert updates.update(RULES[-1], parameters, gradients, memory, decay)


def lay_out(offsets, size=8, rule=RULES[-1]):
    """Arguments whose arrays lie at these places in one buffer: w, dw and memory of each parameter in turn."""
    buffer = np.random.default_rng(5).standard_normal(256)
    arrays = [buffer[at : at + size] for at in offsets]
    each = 2 + SLOTS[rule.name]
    items = [arrays[i : i + each] for i in range(0, len(arrays), each)]
    lists = [i[0] for i in items], [i[1] for i in items], [tuple(i[2:]) for i in items], [0.0] * len(items)
    return buffer, lists


def test_neighbours_do_not_overlap():
    buffer, lists = lay_out(range(0, 64, 8))
    before = buffer.copy()
    assert updates.update(RULES[-1], *lists)
    assert np.array_equal(buffer[64:], before[64:])
    # gradients are only read: one may serve two parameters
    assert updates.update(RULES[-1], *lay_out([0, 8, 16, 24, 32, 8, 40, 48])[1])
    assert updates.update(RULES[-1], *lay_out([0, 8, 24, 32, 40, 12, 48, 56])[1])
    # an empty array shares nothing
    assert updates.update(RULES[-1], *lay_out([3] * 8, size=0)[1])


@given(st.integers(0, 7), st.integers(0, 7), st.integers(-7, 7))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_what_is_written_is_nothing_else(one, other, shift):
    """Shared memory within a parameter or between two: refused, and nothing is written."""
    offsets = [8 + 16 * i for i in range(8)]
    if one == other:
        return
    offsets[one] = offsets[other] + shift
    buffer, lists = lay_out(offsets)
    before = buffer.copy()
    both_read = {one, other} == {1, 5}
    assert updates.update(RULES[-1], *lists) is both_read
    assert np.array_equal(buffer, before) == (not both_read)


def test_a_long_array_over_several_short_ones():
    """The one that overlaps need not be the neighbour by its beginning."""
    buffer = np.ones(300)
    parameters = [buffer[100:102], buffer[110:112], buffer[120:122]]
    gradients = [buffer[90:92], buffer[92:94], buffer[94:96]]
    assert updates.update(RULES[0], parameters, gradients, [()] * 3, [0.0] * 3)
    long = buffer[:200]
    before = buffer.copy()
    assert not updates.update(RULES[0], [*parameters, np.ones(200)], [*gradients, long], [()] * 4, [0.0] * 4)
    assert np.array_equal(buffer, before)


def test_lists_that_change_while_they_are_read():
    parameters, gradients, memory, decay = good()

    class Shrinking(list):
        def __iter__(self):
            yield from list.__iter__(self)
            parameters.clear()

    assert updates.update(RULES[-1], parameters, Shrinking(gradients), memory, decay)


def test_serves():
    a = np.zeros((4, 3), np.float32)
    assert updates.serves(a, (a.copy(), a.copy()))
    assert updates.serves(np.zeros(()), ())
    assert not updates.serves(a.T, ())
    assert not updates.serves(a, (a.astype(np.float64),))
    assert not updates.serves(a, (a.T.copy().T,))
    assert not updates.serves(a.astype(np.float16), ())
    assert not updates.serves(a.astype(">f4"), ())
    with kernels.use("reference"):
        assert not updates.serves(a, ())
