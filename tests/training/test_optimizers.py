import numpy as np
import pytest

from xhat.training import OPTIMIZERS, SGD, Adam, Momentum, RMSProp


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


def test_ranges():
    for make in (
        lambda: Momentum(1.1),
        lambda: RMSProp(decay=1.1),
        lambda: RMSProp(eps=-1),
        lambda: Adam(beta1=1.0),
        lambda: Adam(beta2=1),
        lambda: Adam(eps=-1),
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


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
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


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
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
