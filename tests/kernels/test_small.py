"""Small arrays in one native call: the bits of the layers' own way, or None for it to judge."""

import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tests.contract.contract import the_layers_own_way
from tests.kernels import oracle

import xhat
from xhat import kernels
from xhat.kernels import small

pytestmark = oracle.needs_native

DOORS = [name for name in vars(small) if name.endswith(("_forward", "_backward"))]
KINDS = (np.float32, np.float64)


def with_small_alone():
    """Fails where the one call does not serve."""

    def only(door):
        def call(*arguments, **settings):
            done = door(*arguments, **settings)
            assert done is not None
            return done

        return call

    return mock.patch.multiple(small, **{name: only(getattr(small, name)) for name in DOORS})


def assert_same(got, expected):
    assert type(got) is type(expected)
    if isinstance(expected, tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        assert got.flags.carray
        assert got.tobytes() == expected.tobytes()
    else:
        assert got == expected


@st.composite
def calls(draw):
    """A layer's functions with the usual arguments."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    name = draw(st.sampled_from(["batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm"]))
    least = 2 if name in ("group_norm", "instance_norm") else 1
    shape = draw(npst.array_shapes(min_dims=least, max_dims=4, max_side=9))
    if name == "batch_norm":
        axis = draw(st.integers(-len(shape), len(shape) - 1))
        where, features = {"channel_axis": axis}, (shape[axis],)
    elif name in ("layer_norm", "rms_norm"):
        kept = draw(st.integers(0, len(shape) - 1))
        several = tuple(range(kept, len(shape))), tuple(range(kept - len(shape), 0))
        axis = draw(st.sampled_from([*several, len(shape) - 1, -1]))
        where = {"axis": axis}
        features = shape[kept:] if isinstance(axis, tuple) else shape[-1:]
    else:
        where, features = {"channel_axis": draw(st.sampled_from([1, 1 - len(shape)]))}, (shape[1],)
        if name == "group_norm":
            where["groups"] = draw(st.sampled_from([n for n in range(1, shape[1] + 1) if shape[1] % n == 0]))
    kind = draw(st.sampled_from(KINDS))
    parameters = {
        which: rng.standard_normal(features).astype(draw(st.sampled_from(KINDS))) if draw(st.booleans()) else None
        for which in ("gamma", "beta")[: 1 if name == "rms_norm" else 2]
    }
    x, dy = (rng.standard_normal(shape).astype(kind) for _ in range(2))
    if draw(st.booleans()):
        x.flat[rng.integers(x.size)] = draw(st.sampled_from([np.nan, np.inf, 1e30]))
    eps = draw(st.sampled_from([0.0, 1e-5, 1.0]))
    return getattr(xhat, name), dy, {"x": x, **parameters, "eps": eps, **where}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(calls())
def test_the_bits_are_those_of_the_layers_own_way(call):
    layer, dy, arguments = call
    try:
        with the_layers_own_way():
            y, cache = layer.forward(**arguments)
            grads = layer.backward(dy, cache)
    except ValueError as error:
        with pytest.raises(ValueError, match=r"^\w+.forward: expected ") as raised:
            layer.forward(**arguments)
        assert str(raised.value) == str(error)
        return
    usual = arguments["x"].dtype == np.float32 or np.isfinite(arguments["x"]).all()
    with with_small_alone() if usual else mock.MagicMock():
        got, got_cache = layer.forward(**arguments)
        assert_same(got, y)
        assert_same(got_cache, cache)
        assert all(a is b for a, b in zip(got_cache[:2], cache[:2], strict=True))
        assert_same(layer.backward(dy, got_cache), grads)


def usual(kind=np.float32):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4, 6, 3)).astype(kind)
    return x, rng.standard_normal(6).astype(kind), rng.standard_normal(6).astype(kind)


class Subclass(np.ndarray):
    pass


def misaligned(values):
    memory = np.zeros(values.nbytes + 1, np.uint8)
    memory[1:] = np.frombuffer(values.tobytes(), np.uint8)
    return memory[1:].view(values.dtype).reshape(values.shape)


def strange(values):
    """What is like these values, and not plain; the layer's own way may take it."""
    yield from (None, 3, "x", values.tolist(), values.view(Subclass), np.ma.array(values), values.astype(np.float16))
    yield from (values.astype(values.dtype.newbyteorder()), values.astype(np.int32), values.reshape(-1)[:-1])
    yield from (
        np.concatenate([values, values], -1)[..., ::2],
        values[::-1],
        misaligned(values),
        values[:0],
        memoryview,
    )


CALLS = {
    "channels": lambda x, gamma, beta, eps=1e-5, axis=1: (x, gamma, beta, eps, axis),
    "groups": lambda x, gamma, beta, eps=1e-5, axis=1, groups=2: (x, gamma, beta, eps, groups, axis),
    "instances": lambda x, gamma, beta, eps=1e-5, axis=1: (x, gamma, beta, eps, axis),
    "rows": lambda x, gamma, beta, eps=1e-5, axis=-1: (x, gamma, beta, eps, axis),
}


def good(loop, kind=np.float32):
    x, gamma, beta = usual(kind)
    return (x, gamma[:3].copy(), beta[:3].copy()) if loop == "rows" else (x, gamma, beta)


@pytest.mark.parametrize("loop", CALLS)
def test_what_is_unusual_is_left_alone(loop):
    forward, make = getattr(small, f"{loop}_forward"), CALLS[loop]
    x, gamma, beta = good(loop)
    assert forward(*make(x, gamma, beta)) is not None
    for other in strange(x):
        assert forward(*make(other, gamma, beta)) is None, other
    for which in (0, 1):
        for other in strange(gamma):
            parameters = [gamma, beta]
            parameters[which] = other
            assert (forward(*make(x, *parameters)) is None) == (other is not None), other
    for eps in (1, True, np.float64(1e-5), -1.0, np.nan, np.inf, None, "1", 2**80):
        assert forward(*make(x, gamma, beta, eps=eps)) is None, eps
    for axis in (
        True,
        1.0,
        np.int64(1),
        3,
        -4,
        2**70,
        -(2**70),
        None,
        "1",
        [1],
        (),
        (3,),
        (2, 1),
        (0, 1, 2, 3),
        (1, 1),
    ):
        assert forward(*make(x, gamma, beta, axis=axis)) is None, axis
    if loop == "groups":
        for groups in (0, -1, 4, 7, True, 2.0, 2**70, None):
            assert forward(*make(x, gamma, beta, groups=groups)) is None, groups


@pytest.mark.parametrize("loop", CALLS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_saved_entry_is_judged_again(loop, kind):
    x, gamma, beta = good(loop, kind)
    y, saved = getattr(small, f"{loop}_forward")(*CALLS[loop](x, gamma, beta))
    backward = getattr(small, f"{loop}_backward")
    assert backward(y, *saved) is not None
    for other in (*strange(y), y.astype(np.float32 if kind == np.float64 else np.float64)):
        assert backward(other, *saved) is None, other
    for i, entry in enumerate(saved):
        junk = strange(entry) if isinstance(entry, np.ndarray) else (1.5, "x", None, 2**70, -7, (0,), y, float("nan"))
        for other in junk:
            optional = other is None and (i in (1, 2) or entry is None)
            forged = [*saved[:i], other, *saved[i + 1 :]]
            assert (backward(y, *forged) is None) == (not optional), (i, other)
    for wrong in (saved[:-1], (*saved, None), ()):
        assert backward(y, *wrong) is None


def test_without_a_mean():
    x, gamma, _ = good("rows")
    y, saved = small.rows_forward(x, gamma, None, 1e-5, -1, centred=False)
    none = (*saved[:3], None, None, *saved[5:])
    assert small.rows_backward(y, *none, centred=False) is not None
    assert small.rows_backward(y, *none) is None
    assert small.rows_backward(y, *saved, centred=False) is None


def test_large_arrays_go_the_other_way():
    x = np.ones((256, 256), np.float32)
    assert small.channels_forward(x, None, None, 1e-5, 1) is not None
    assert small.channels_forward(np.ones((256, 257), np.float32), None, None, 1e-5, 1) is None
    assert small.rows_forward(x.astype(np.float64), None, None, 1e-5, 1) is None


def test_one_value_is_no_variance():
    assert small.channels_forward(np.ones((1, 5), np.float32), None, None, 1e-5, 1) is None
    assert small.groups_forward(np.ones((3, 4), np.float32), None, None, 1e-5, 4, 1) is None
    assert small.instances_forward(np.ones((3, 4), np.float32), None, None, 1e-5, 1) is None


def test_a_variance_that_overflows():
    x = np.array([[1e200, -1e200], [-1e200, 1e200]])
    assert small.rows_forward(x, None, None, 1e-5, 1) is None


def test_the_reference_is_not_passed_by():
    x, gamma, beta = usual()
    y, saved = small.channels_forward(x, gamma, beta, 1e-5, 1)
    with kernels.use("reference"):
        assert small.channels_forward(x, gamma, beta, 1e-5, 1) is None
        assert small.channels_backward(y, *saved) is None


def test_nothing_is_kept():
    x, gamma, beta = usual()
    watched = (x, gamma, beta, None, 1e-5)
    before = [sys.getrefcount(value) for value in watched]
    for _ in range(200):
        y, cache = xhat.batch_norm.forward(x, gamma, beta)
        xhat.batch_norm.backward(y, cache)
        xhat.layer_norm.backward(*xhat.layer_norm.forward(x))
        small.channels_forward(x, gamma, x, 1e-5, 1)
    del y, cache
    after = [sys.getrefcount(value) for value in watched]
    assert all(abs(a - b) < 50 for a, b in zip(after, before, strict=True))


def test_most_bytes_are_served_and_nothing_above():
    columns = small.MOST_BYTES // 4
    for size, served in ((columns, True), (columns + 1, False)):
        x = np.zeros((1, size), np.float32)
        assert (small.rows_forward(x, None, None, 1e-5, -1, centred=True) is not None) == served
