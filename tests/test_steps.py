"""A norm, ReLU and dropout of a network in one pass: the same as layer by layer."""

import copy

import numpy as np
import pytest
from tests.contract.contract import MESSAGE

import xhat
from xhat import kernels, networks
from xhat.kernels import small
from xhat.kernels.fused import Epilogue

compiled = pytest.mark.skipif(len(kernels.VARIANTS) == 1, reason="needs the native module")

NORMS = {
    "batch": (lambda **kind: xhat.BatchNorm(6, **kind), (9, 6)),
    "batch on images": (lambda **kind: xhat.BatchNorm(3, **kind), (5, 3, 4, 7)),
    "batch, channels last": (lambda **kind: xhat.BatchNorm(3, channel_axis=-1, **kind), (5, 4, 3)),
    "batch without parameters": (lambda **kind: xhat.BatchNorm(6, affine=False, **kind), (9, 6)),
    "frozen": (lambda **kind: xhat.BatchNorm(6, frozen=True, **kind), (9, 6)),
    "virtual batches": (lambda **kind: xhat.BatchNorm(6, virtual_batch=4, **kind), (9, 6)),
    "renormalized": (lambda **kind: xhat.BatchNorm(6, renorm=(3.0, 5.0), **kind), (9, 6)),
    "layer": (lambda **kind: xhat.LayerNorm(6, **kind), (9, 6)),
    "layer, large": (lambda **kind: xhat.LayerNorm(1031, **kind), (67, 1031)),
    "layer, two axes": (lambda **kind: xhat.LayerNorm((4, 7), **kind), (5, 3, 4, 7)),
    "rms": (lambda **kind: xhat.RMSNorm(6, **kind), (9, 6)),
    "group": (lambda **kind: xhat.GroupNorm(6, 2, **kind), (5, 6, 4, 3)),
    "group, channels last": (lambda **kind: xhat.GroupNorm(6, 2, channel_axis=-1, **kind), (5, 4, 6)),
    "instance": (lambda **kind: xhat.InstanceNorm(3, **kind), (5, 3, 4, 7)),
    "instance, channels last": (lambda **kind: xhat.InstanceNorm(3, channel_axis=-1, **kind), (5, 4, 3)),
}
ONE_BY_ONE = {"virtual batches", "renormalized", "group, channels last", "instance, channels last"}


@pytest.fixture(autouse=True)
def small_arrays_count(monkeypatch):
    monkeypatch.setattr(small, "MOST_BYTES", -1)


def network(name, rate, dtype):
    make, shape = NORMS[name]
    layers = [make(dtype=dtype), xhat.ReLU()]
    if rate is not None:
        layers.append(xhat.Dropout(rate, rng=5))
    net = xhat.Sequential(layers)
    rng = np.random.default_rng(1)
    for values in net.parameters.values():
        values[...] = rng.standard_normal(values.shape)
    for key, values in net.state.items():
        if "mean" in key or "var" in key:
            values[...] = rng.random(values.shape) + 0.5
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    return net, x, dy


def one_by_one(net, x, training):
    caches = []
    for layer in net.layers:
        x, cache = layer.forward(x, training=training)
        caches.append(cache)
    return x, caches


def back_one_by_one(net, dy, caches):
    gradients = {}
    for i in reversed(range(len(net.layers))):
        grads = net.layers[i].backward(dy, caches[i])
        gradients |= {f"{i}.{name}": getattr(grads, f"d{name}") for name in net.layers[i].parameters}
        dy = grads.dx
    return dy, gradients


def same(got, wanted, ulps):
    """Bit for bit, or within some units in the last place of the largest number."""
    assert got.dtype == wanted.dtype
    if ulps == 0:
        assert np.array_equal(got, wanted, equal_nan=True)
        return
    finite = np.isfinite(wanted)
    assert np.array_equal(finite, np.isfinite(got))
    size = np.abs(wanted[finite]).max(initial=0)
    error = np.abs(got - wanted)[finite].max(initial=0)
    assert error <= ulps * np.finfo(got.dtype).eps * size, f"error {error:.1e} beside size {size:.1e}"


@pytest.mark.parametrize("variant", sorted({"reference", kernels.VARIANTS[-1]}))
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rate", [None, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_is_its_layers(dtype, name, rate, training, variant):
    net, x, dy = network(name, rate, dtype)
    alone = copy.deepcopy(net)
    with kernels.use(variant):
        for _ in range(2):  # generators and running statistics go on alike
            y, caches = net.forward(x, training=training)
            wanted, others = one_by_one(alone, x, training)
            dx, gradients = net.backward(dy, caches)
            wanted_dx, wanted_gradients = back_one_by_one(alone, dy, others)
            together = variant != "reference" and not (training and name in ONE_BY_ONE and "batch" in name)
            if name in ONE_BY_ONE and (training or "last" in name):
                together = False
            assert (caches[1] is None) == together
            assert len(caches) == len(net.layers)
            ulps = 0 if not training or rate in (None, 0.0) else 2
            same(y, wanted, ulps and 1)
            same(dx, wanted_dx, ulps)
            assert gradients.keys() == wanted_gradients.keys()
            for key, gradient in gradients.items():
                same(gradient, wanted_gradients[key], ulps)
            for key, values in net.state.items():
                assert np.array_equal(values, alone.state[key])


@compiled
@pytest.mark.parametrize("name", NORMS)
def test_empty_batches(name):
    net, x, dy = network(name, 0.5, np.float32)
    y, caches = net.forward(x[:0])
    dx, gradients = net.backward(dy[:0], caches)
    assert y.shape == dx.shape == x[:0].shape
    assert not any(gradient.any() for gradient in gradients.values())


@compiled
@pytest.mark.parametrize("rate", [None, 0.5])
@pytest.mark.parametrize("name", ["batch", "layer", "rms"])
def test_nan_and_inf_go_where_the_layers_send_them(name, rate):
    net, x, dy = network(name, rate, np.float32)
    if name == "batch":
        net.layers[0].frozen = True  # statistics would refuse them
    x[1], x[3, 4], dy[2, 2] = np.nan, np.inf, np.nan
    alone = copy.deepcopy(net)
    with np.errstate(all="ignore"):
        y, caches = net.forward(x, training=True)
        dx, _ = net.backward(dy, caches)
        wanted, others = one_by_one(alone, x, True)
        wanted_dx, _ = back_one_by_one(alone, dy, others)
    for got, right in ((y, wanted), (dx, wanted_dx)):
        assert np.array_equal(np.isnan(got), np.isnan(right))
    assert np.isnan(y).any()


@compiled
def test_which_layers_are_one_step():
    class Loud(xhat.BatchNorm):
        pass

    class Leaky(xhat.ReLU):
        pass

    def sizes(*layers):
        return [len(step.layers) for step in networks._steps(layers)]

    norm, relu, dropout = xhat.LayerNorm(3), xhat.ReLU(), xhat.Dropout(0.5, rng=0)
    assert sizes(norm, relu, dropout, relu) == [3, 1]
    assert sizes(norm, relu, norm, relu, dropout) == [2, 3]
    assert sizes(relu, dropout, norm, dropout, relu) == [1, 1, 1, 1, 1]
    assert sizes(Loud(3), relu) == [1, 1]
    assert sizes(norm, Leaky(), dropout) == [1, 1, 1]
    assert sizes(xhat.Affine(3, 3, rng=0), relu, norm) == [1, 1, 1]
    net = xhat.mlp(4, [8, 5], 3, normalization="batch", dropout=0.5)
    assert [step.first for step in net._steps] == [0, 1, 4, 5, 8]


@compiled
def test_small_arrays_are_quicker_layer_by_layer(monkeypatch):
    monkeypatch.undo()
    net = xhat.Sequential([xhat.LayerNorm(512), xhat.ReLU()])
    for rows, one_pass in ((128, False), (129, True)):
        x = np.ones((rows, 512), np.float32)
        _, (norm, relu) = net.forward(x)
        assert (relu is None) == one_pass
        net.backward(x, [norm, relu])


@compiled
def test_the_type_decides_at_every_call():
    net, x, dy = network("layer", 0.3, np.float32)
    _, caches = net.forward(x, training=True)
    assert caches[1] is None
    half = x.astype(np.float16)
    for parameters in net.layers[0].parameters.values():
        assert parameters.dtype == np.float32
    _, caches = net.astype(np.float16).forward(half, training=True)
    assert caches[1] is not None
    dx, _ = net.astype(np.float16).backward(dy.astype(np.float16), caches)
    assert dx.dtype == np.float16


@compiled
def test_forged_caches_are_refused():
    net, x, dy = network("batch", 0.3, np.float32)
    _, (norm, relu, dropped) = net.forward(x, training=True)
    _, (own, own_relu, own_dropped) = one_by_one(net, x, True)
    assert relu is None
    forged = [
        (None, None, dropped),
        (norm, None, None),
        (norm, None, own_relu),
        (norm, own_relu, None),
        (norm, 0, dropped),
        (norm._replace(x=norm.x[:-1]), None, dropped),
        (norm._replace(x=norm.x[:, ::-1][:, :3]), None, dropped),
        (norm._replace(rstd=norm.rstd[:3]), None, dropped),
        (norm._replace(beta=norm.beta[:3]), None, dropped),
        (norm._replace(x=norm.x.astype(np.float16)), None, dropped),
        (norm, None, dropped._replace(key=-1)),
        (norm, None, dropped._replace(key=1 << 64)),
        (norm, None, dropped._replace(key="a")),
        (norm, None, dropped._replace(rate=1.5)),
        (norm, None, dropped._replace(shape=(9, 7))),
        (norm, None, dropped._replace(shape=(54,))),
        (norm, None, dropped._replace(dtype=np.dtype(object))),
    ]
    for caches in forged:
        with pytest.raises((TypeError, ValueError), match=MESSAGE):
            net.backward(dy, list(caches))
    for caches in ((norm, None, dropped), (own, own_relu, own_dropped), (norm, own_relu, dropped)):
        net.backward(dy, caches)
    with kernels.use("reference"), pytest.raises(TypeError, match="compiled loops for an epilogue"):
        net.backward(dy, (norm, None, dropped))
    virtual = xhat.BatchNorm(6, virtual_batch=3).forward(x, training=True)[1]
    with pytest.raises(TypeError, match="expected no epilogue"):
        net.backward(dy, (virtual, None, dropped))


@compiled
@pytest.mark.parametrize("name", ["batch", "frozen", "layer", "rms", "group", "instance"])
def test_epilogues_are_judged_before_anything_is_written(name):
    net, x, dy = network(name, None, np.float64)
    layer = net.layers[0]
    op, arguments = layer.op(True), layer.arguments(True)
    _, cache = op.forward(x, **arguments)
    for epilogue in (
        (0.5, 1),
        0.5,
        Epilogue(2.0),
        Epilogue(np.nan),
        Epilogue("a"),
        Epilogue(0.5, -1),
        Epilogue(0.5, 0.5),
    ):
        out = np.full_like(x, 7)
        with pytest.raises((TypeError, ValueError), match=MESSAGE):
            op.forward(x, **arguments, epilogue=epilogue, out=out)
        with pytest.raises((TypeError, ValueError), match=MESSAGE):
            op.backward(dy, cache, epilogue=epilogue, out=out)
        assert (out == 7).all()
    with kernels.use("reference"), pytest.raises(TypeError, match="compiled loops for an epilogue"):
        op.forward(x, **arguments, epilogue=Epilogue())


@compiled
def test_rows_that_lie_apart_take_no_epilogue():
    x = np.ones((3, 4, 5))
    for call in (
        lambda: xhat.layer_norm.forward(x, axis=0, epilogue=Epilogue()),
        lambda: xhat.rms_norm.forward(x, axis=(0, 2), epilogue=Epilogue()),
        lambda: xhat.group_norm.forward(x, groups=1, channel_axis=-1, epilogue=Epilogue()),
        lambda: xhat.instance_norm.forward(x, channel_axis=0, epilogue=Epilogue()),
    ):
        with pytest.raises(ValueError, match="expected rows that follow one another in memory"):
            call()
    for parts in ({"virtual_batch": 2}, {"moments": xhat.batch_norm.moments(x)}):
        with pytest.raises(ValueError, match="expected an epilogue or a batch in parts, got both"):
            xhat.batch_norm.forward(x, epilogue=Epilogue(), **parts)


def test_gradients_of_steps_are_right():
    rng = np.random.default_rng(3)
    layers = [
        xhat.Conv2d(2, 4, 3, padding=1, rng=0), xhat.GroupNorm(4, 2), xhat.ReLU(), xhat.Dropout(0.3, rng=1),
        xhat.Conv2d(4, 3, 3, rng=2), xhat.InstanceNorm(3), xhat.ReLU(), xhat.Flatten(), xhat.Affine(12, 3, rng=4),
    ]  # fmt: skip
    net = xhat.Sequential(layers)
    check = xhat.verify.check_network(net, rng.standard_normal((5, 2, 4, 4)), rng.integers(0, 3, 5))
    assert check.ok, str(check)
