import copy
import re

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import xhat
from xhat import kernels
from xhat.training import OPTIMIZERS, SGD, Adam, AdamW, Momentum, Nesterov, Optimizer, RMSProp

every_rule = pytest.mark.parametrize("kind", OPTIMIZERS.values())
every_variant = pytest.mark.parametrize("variant", kernels.VARIANTS)


def path(optimizer, steps=3, rate=0.1):
    """Minimize w² / 2 from w = 1: the gradient is w."""
    w = np.array([1.0])
    values = []
    for _ in range(steps):
        optimizer.update({"w": w}, {"w": w.copy()}, rate)
        values.append(float(w[0]))
    return values


def test_sgd_by_hand():
    assert path(SGD()) == pytest.approx([0.9, 0.81, 0.729], rel=1e-15)


def test_momentum_by_hand():
    # v: -0.1, -0.05 - 0.09 = -0.14, -0.07 - 0.076 = -0.146
    assert path(Momentum(0.5)) == pytest.approx([0.9, 0.76, 0.614], rel=1e-14)


def test_nesterov_is_the_papers_seen_from_the_point_ahead():
    momentum, rate, theta, v, ahead = 0.9, 0.1, 1.0, 0.0, []
    for _ in range(6):
        v = momentum * v - rate * (theta + momentum * v)  # eq. (3): the gradient of w² / 2 at the point ahead
        theta = theta + v  # eq. (4)
        ahead.append(theta + momentum * v)
    assert path(Nesterov(momentum), steps=6, rate=rate) == pytest.approx(ahead, rel=1e-13)
    # v: -0.1, -0.05 - 0.085 = -0.135; w: 1 - 0.05 - 0.1, 0.85 - 0.0675 - 0.085
    assert path(Nesterov(0.5), steps=2) == pytest.approx([0.85, 0.6975], rel=1e-14)


def test_rmsprop_by_hand():
    # r: 1/2 of 1, then 1/4 + 1/2 * 9/16 = 17/32; with eps = 1 - sqrt(1/2) the first size is exactly 1
    optimizer = RMSProp(decay=0.5, eps=1 - np.sqrt(0.5))
    second = 0.75 - 0.25 * 0.75 / (np.sqrt(17 / 32) + 1 - np.sqrt(0.5))
    assert path(optimizer, steps=2, rate=0.25) == pytest.approx([0.75, second], rel=1e-14)
    assert optimizer.memory["w"][0][0] == pytest.approx(17 / 32, rel=1e-15)


def test_adam_by_the_algorithm_of_the_paper():
    beta1, beta2, eps, rate = 0.9, 0.999, 1e-8, 0.1
    w, m, v, values = 1.0, 0.0, 0.0, []
    for t in range(1, 6):
        g = w
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w -= rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        values.append(w)
    assert path(Adam(), steps=5) == pytest.approx(values, rel=1e-13)
    assert values[0] == pytest.approx(0.9, rel=1e-7)


def test_adamw_by_the_algorithm_of_the_paper():
    beta1, beta2, eps, rate, decay = 0.9, 0.999, 1e-8, 0.1, 0.3
    w, m, v, values = 1.0, 0.0, 0.0, []
    for t in range(1, 6):
        g = w
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w -= rate * ((m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps) + decay * w)
        values.append(w)
    assert path(AdamW(weight_decay=decay), steps=5) == pytest.approx(values, rel=1e-13)
    assert path(AdamW(weight_decay=0.0), steps=5) == path(Adam(), steps=5)


@every_variant
def test_weight_decay_pulls_on_weights_only(variant):
    parameters = {"w": np.full(3, 2.0), "b": np.full(3, 2.0), "h": np.full(3, 2.0, np.float16)}
    gradients = {name: np.zeros(3, values.dtype) for name, values in parameters.items()}
    with kernels.use(variant):
        AdamW(weight_decay=0.5).update(parameters, gradients, 0.5, weights=["w", "h"])
        assert [float(values[0]) for values in parameters.values()] == [1.5, 2.0, 1.5]
        AdamW(weight_decay=0.5).update(parameters, gradients, 0.5)
    assert [float(values[0]) for values in parameters.values()] == [1.125, 1.5, 1.125]


def test_the_trainer_decays_what_its_l2_pulls_on():
    x = np.zeros((8, 3), np.float32)
    net = xhat.mlp(3, [4], 2, normalization="batch", rng=0)
    before = copy.deepcopy(net.parameters)
    xhat.Trainer(net, optimizer=AdamW(weight_decay=1.0), learning_rate=0.25, batch_size=8).fit(x, [0, 1] * 4, epochs=1)
    pulled = {name for name, w in net.parameters.items() if np.array_equal(w, before[name] * np.float32(0.75))}
    assert net.weights <= pulled
    assert all((before[name] == 0).all() for name in pulled - net.weights)  # where the share of 0 is 0


def test_ranges():
    for make in (
        lambda: Momentum(1.1),
        lambda: RMSProp(decay=1.1),
        lambda: RMSProp(eps=-1),
        lambda: Adam(beta1=1.0),
        lambda: Adam(beta2=1),
        lambda: Adam(eps=-1),
        lambda: Nesterov(1.1),
        lambda: AdamW(weight_decay=-1),
    ):
        with pytest.raises(ValueError, match="expected"):
            make()
    with pytest.raises(ValueError, match="expected learning_rate >= 0 and finite, got nan"):
        SGD().update({"w": np.ones(1)}, {"w": np.ones(1)}, float("nan"))


def test_an_optimizer_belongs_to_one_network():
    optimizer = Adam()
    optimizer.update({"w": np.ones(2)}, {"w": np.ones(2)}, 0.1)
    with pytest.raises(
        ValueError, match=r"expected w of shape \(2,\) as before, got \(3,\)\. Use an optimizer of its own"
    ):
        optimizer.update({"w": np.ones(3)}, {"w": np.ones(3)}, 0.1)


@every_rule
def test_names_shapes_and_types(kind):
    optimizer = kind()
    w, b = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"expected a gradient for every parameter, got \['b'\] on one side"):
        optimizer.update({"w": w, "b": b}, {"w": w}, 0.1)
    with pytest.raises(ValueError, match=r"expected a gradient of shape \(3,\) for b, got \(2, 3\)"):
        optimizer.update({"w": w, "b": b}, {"w": w, "b": w}, 0.1)
    assert optimizer.steps == 0
    assert (w == 1).all()
    optimizer.update({"w": w, "b": b}, {"w": np.ones((2, 3)), "b": np.zeros(3)}, 0.1, weights={"w"})
    assert w.dtype == np.float32
    assert (w < 1).all()
    assert (b == 1).all()
    assert all(kept.dtype == np.float32 for arrays in optimizer.memory.values() for kept in arrays)


@every_rule
def test_a_step_too_large_for_the_type_shows_without_a_warning(kind):
    w = np.ones(2, np.float32)
    kind().update({"w": w}, {"w": np.array([1e30, -1e30])}, 1e308)
    assert not np.isfinite(w).any()


def test_a_large_average_does_not_hide_the_new_gradient():
    rmsprop, adam = RMSProp(decay=0.0, eps=0), Adam(beta1=0.0, beta2=0.0, eps=0)
    for optimizer in (rmsprop, adam):
        optimizer.update({"w": np.ones(1)}, {"w": np.array([1e12])}, 0.1)
        optimizer.update({"w": np.ones(1)}, {"w": np.array([1e-3])}, 0.1)
    assert rmsprop.memory["w"][0][0] == 1e-3**2
    assert [array[0] for array in adam.memory["w"]] == [1e-3, 1e-3**2]


def test_without_eps_a_gradient_of_0_moves_nothing():
    for optimizer in (RMSProp(decay=1, eps=0), Adam(eps=0)):
        w = np.ones(2)
        optimizer.update({"w": w}, {"w": np.zeros(2)}, 0.1)
        assert (w == 1).all()


STATED = 8  # roundings, of the numbers that a step is made of, between the kernels and the equations


def close(got, true, scale, dtype):
    """Agreement to some roundings of `scale`; the same Inf and NaN."""
    finite = np.isfinite(true)
    assert np.array_equal(np.isfinite(got), finite)
    assert np.array_equal(got[~finite], true[~finite], equal_nan=True)
    error, allowed = np.abs(got - true)[finite], (STATED * np.finfo(dtype).eps * scale)[finite]
    assert (error <= allowed).all(), f"error {error.max()}, allowed {allowed.min()}"


shapes = st.lists(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=11), min_size=1, max_size=4)


@pytest.mark.skipif(bool(kernels.reason), reason=f"no native module: {kernels.reason}")
@every_rule
@given(
    shapes=shapes, dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 99), steps=st.integers(0, 50)
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_kernel_and_equations_agree(kind, shapes, dtype, seed, steps):
    """One step from the same state, early or late, with some denormals, zeros, Inf and NaN in it."""
    rng = np.random.default_rng(seed)

    def arrays(special):
        made = {str(i): np.asarray(rng.standard_normal(shape), dtype) for i, shape in enumerate(shapes)}
        for array in made.values():
            array[rng.random(array.shape) < 0.2] = rng.choice(special)
        return made

    tiny = float(np.finfo(dtype).smallest_subnormal)
    parameters, gradients = arrays([0, 100 * tiny, np.nan, np.inf]), arrays([0, 100 * tiny, np.nan, -np.inf])
    optimizer = kind()
    optimizer.steps = steps
    if steps:
        kept = [arrays([0, tiny, np.inf]) for _ in range(optimizer.slots)]
        optimizer.memory = {name: tuple(np.abs(k[name], out=k[name]) for k in kept) for name in parameters}
    results = {}
    for variant in ("reference", kernels.VARIANTS[-1]):
        its, own = copy.deepcopy(parameters), copy.deepcopy(optimizer)
        with kernels.use(variant):
            own.update(its, gradients, 0.1)
        results[variant] = its, own
    (true, equations), (got, kernel) = results.values()
    assert equations.steps == kernel.steps == steps + 1
    for name in parameters:
        with np.errstate(all="ignore"):
            w, g = np.abs(parameters[name]), np.abs(gradients[name])
            m = np.abs(optimizer.memory[name][0]) if steps and optimizer.slots else np.zeros_like(w)
            step = np.abs(true[name] - parameters[name])
            close(got[name], true[name], w + g + m + step + np.finfo(dtype).tiny, dtype)
            for a, b, power in zip(kernel.memory[name], equations.memory[name], (1, 2), strict=False):
                assert a.dtype == b.dtype == dtype
                squares = power == 2 or kind is RMSProp
                close(a, b, np.abs(b) + m + (g * g if squares else g) + np.finfo(dtype).tiny, dtype)


def one_step(kind, parameters, gradients, variant, **options):
    with kernels.use(variant):
        optimizer = kind()
        optimizer.update(parameters, gradients, 0.1, **options)
    return optimizer


@every_variant
@every_rule
def test_arrays_of_every_kind_in_one_update(kind, variant):
    """Other strides, other types and byte orders, gradients of another type, misaligned ones: the same step."""
    rng = np.random.default_rng(4)
    values, slope = rng.standard_normal((6, 4)).astype(np.float32), rng.standard_normal((6, 4)).astype(np.float32)
    plain = {"w": values.copy()}
    one_step(kind, plain, {"w": slope}, "reference")

    raw = np.zeros(values.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(6, 4)
    raw[...] = slope
    wide = np.zeros((6, 8), np.float32)
    wide[:, ::2] = values
    parameters = {
        "plain": values.copy(),
        "columns": values.T.copy().T,
        "strided": wide[:, ::2],
        "double": values.astype(np.float64),
        "foreign": values.astype(">f4"),
        "half": values.astype(np.float16),
        "bfloat": values.astype(ml_dtypes.bfloat16),
        "other": values.copy(),
        "misaligned": values.copy(),
        "locked": values.copy(),
        "backwards": values[::-1].copy(),
    }
    locked = slope.copy()
    locked.flags.writeable = False
    gradients = dict.fromkeys(parameters, slope) | {
        "other": slope.astype(np.float64),
        "misaligned": raw,
        "locked": locked,
        "backwards": slope[::-1],
    }
    before = {name: gradient.copy() for name, gradient in gradients.items()}
    optimizer = one_step(kind, parameters, gradients, variant)
    for name, got in parameters.items():
        tolerance = {"half": 2e-3, "bfloat": 1.6e-2}.get(name, 1e-6)
        true = plain["w"][::-1] if name == "backwards" else plain["w"]
        np.testing.assert_allclose(got.astype(np.float64), true, rtol=tolerance, atol=tolerance, err_msg=name)
        assert np.array_equal(gradients[name], before[name])
    assert (wide[:, 1::2] == 0).all()
    kept = {name: arrays[0].dtype.newbyteorder("=") for name, arrays in optimizer.memory.items() if arrays}
    assert all(dtype == np.float32 for name, dtype in kept.items() if name != "double")
    assert kept.get("double", np.float64) == np.float64


@every_variant
@every_rule
def test_shared_parameters_are_changed_one_after_the_other(kind, variant):
    shared, alone = np.ones(5, np.float32), np.ones(5, np.float32)
    first, second = np.full(5, 0.5, np.float32), np.full(5, 0.25, np.float32)
    one_step(kind, {"a": shared, "b": shared[:3]}, {"a": first, "b": second[:3]}, variant)
    one_step(kind, {"a": alone}, {"a": first}, "reference")
    assert np.array_equal(shared[3:], alone[3:])
    part = alone[:3].copy()
    one_step(kind, {"b": part}, {"b": second[:3]}, "reference")
    assert np.array_equal(shared[:3], part)
    itself = np.ones(5, np.float32)
    one_step(kind, {"w": itself}, {"w": itself}, variant)  # the gradient of w² / 2
    other = np.ones(5, np.float32)
    one_step(kind, {"w": other}, {"w": other.copy()}, "reference")
    assert np.array_equal(itself, other)


@every_variant
@every_rule
@pytest.mark.parametrize(
    ("error", "message", "w", "dw"),
    [
        (ValueError, "expected w writable, for it is changed in place, got a read-only array. Copy it.",
         np.broadcast_to(np.float32(1), 3), np.ones(3)),
        (TypeError, "expected w as an array, got list. Give numpy arrays.", [1.0], np.ones(1)),
        (TypeError, "expected w as an array, got MaskedArray. Give numpy arrays.", np.ma.zeros(3), np.ones(3)),
        (TypeError, "expected the gradient of w as an array, got float. Give numpy arrays.", np.ones(()), 1.0),
        (TypeError, "expected w of a floating type, got int64. Convert it with astype(numpy.float32).",
         np.ones(3, np.int64), np.ones(3)),
        (TypeError, "expected a gradient of a real type for w, got complex128. A gradient has the type of its parameter.",
         np.ones(3), np.ones(3, complex)),
        (TypeError, "expected a gradient of a real type for w, got object. A gradient has the type of its parameter.",
         np.ones(3, np.float32), np.ones(3, object)),
    ],
)  # fmt: skip
def test_refused_before_anything_changes(kind, variant, error, message, w, dw):
    optimizer, a, da = kind(), np.ones(3, np.float32), np.ones(3, np.float32)
    with kernels.use(variant), pytest.raises(error, match=f"^{kind.__name__}.update: {re.escape(message)}$"):
        optimizer.update({"a": a, "w": w}, {"a": da, "w": dw}, 0.1)
    assert (a == 1).all()
    assert optimizer.steps == 0
    assert not optimizer.memory


@every_variant
def test_a_rule_of_ones_own_is_not_its_parents(variant):
    class Backwards(Momentum):
        def change(self, values, gradient, learning_rate, *memory):
            values += np.float32(learning_rate) * gradient

    class Plain(Optimizer):
        def change(self, values, gradient, learning_rate, *memory):
            values -= np.float32(learning_rate)

    for kind, expected in ((Backwards, 1.1), (Plain, 0.9)):
        w = np.ones(3, np.float32)
        one_step(kind, {"w": w}, {"w": np.ones(3, np.float32)}, variant)
        assert w == pytest.approx(expected)


@every_variant
@every_rule
def test_what_is_remembered_may_be_of_another_type(kind, variant):
    """After a change of the parameters' type the equations go on with the memory that is there."""
    w = np.ones(4)
    optimizer = one_step(kind, {"w": w}, {"w": np.ones(4)}, variant)
    narrow = w.astype(np.float32)
    with kernels.use(variant):
        optimizer.update({"w": w}, {"w": np.ones(4)}, 0.1)
        optimizer.steps -= 1
        optimizer = one_step(kind, {"w": np.ones(4)}, {"w": np.ones(4)}, variant)
        optimizer.update({"w": narrow}, {"w": np.ones(4, np.float32)}, 0.1)
    assert narrow == pytest.approx(w, rel=1e-6)
