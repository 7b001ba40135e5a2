"""The update rules against their formulas, and what they leave in the dict that was passed in."""

import inspect

import numpy as np
import pytest

from xhat.cs231n import optim

DEFAULTS = {
    "sgd": {"learning_rate": 1e-2},
    "sgd_momentum": {"learning_rate": 1e-2, "momentum": 0.9},
    "rmsprop": {"learning_rate": 1e-2, "decay_rate": 0.99, "epsilon": 1e-8},
    "adam": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
}


def sgd(w, dw, c):
    return w - c["learning_rate"] * dw


def sgd_momentum(w, dw, c):
    c["velocity"] = c["momentum"] * c.get("velocity", 0) - c["learning_rate"] * dw
    return w + c["velocity"]


def rmsprop(w, dw, c):
    c["cache"] = c["decay_rate"] * c.get("cache", 0) + (1 - c["decay_rate"]) * dw**2
    return w - c["learning_rate"] * dw / (np.sqrt(c["cache"]) + c["epsilon"])


def adam(w, dw, c):
    c["t"] = c.get("t", 0) + 1
    c["m"] = c["beta1"] * c.get("m", 0) + (1 - c["beta1"]) * dw
    c["v"] = c["beta2"] * c.get("v", 0) + (1 - c["beta2"]) * dw**2
    m, v = c["m"] / (1 - c["beta1"] ** c["t"]), c["v"] / (1 - c["beta2"] ** c["t"])
    return w - c["learning_rate"] * m / (np.sqrt(v) + c["epsilon"])


TRUE = {"sgd": sgd, "sgd_momentum": sgd_momentum, "rmsprop": rmsprop, "adam": adam}


@pytest.mark.parametrize("name", TRUE)
def test_signature_and_defaults(name):
    rule = getattr(optim, name)
    parameters = inspect.signature(rule).parameters
    assert list(parameters) == ["w", "dw", "config"]
    assert parameters["config"].default is None
    w, dw = np.random.randn(2, 3, 2)
    expected = TRUE[name](w.copy(), dw, dict(DEFAULTS[name]))
    next_w, config = rule(w, dw)
    assert config.items() >= {**DEFAULTS[name], **({"t": 1} if name == "adam" else {})}.items()
    assert np.allclose(next_w, expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TRUE)
def test_steps_from_any_state(name, dtype):
    """Non-default settings, state put there by the caller, several steps; read back from the same dict."""
    rule = getattr(optim, name)
    settings = {"learning_rate": 0.3, "momentum": 0.6, "decay_rate": 0.7, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}
    state = {name: np.random.rand(4, 3).astype(dtype) for name in ("velocity", "cache", "m", "v")}
    config = {**settings, **state, "t": 5}
    mine = {name: np.asarray(value, float) if name in state else value for name, value in config.items()}
    w = np.random.randn(4, 3).astype(dtype)
    true = w.astype(float)
    for _ in range(3):
        dw = np.random.randn(4, 3).astype(dtype)
        before = w.copy()
        next_w, returned = rule(w, dw, config)
        true = TRUE[name](true, dw.astype(float), mine)
        assert returned is config
        assert next_w.dtype == dtype
        assert np.allclose(next_w, true, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)
        for key in state:
            assert np.allclose(config[key], mine[key], rtol=20 * np.finfo(dtype).eps), key
        assert (next_w is w) == (name == "sgd")
        assert name == "sgd" or np.array_equal(w, before)
        w = next_w
    assert config["t"] == (8 if name == "adam" else 5)


def test_first_step_of_adam_is_the_learning_rate():
    """With t increased before use, both averages are corrected to the gradient itself."""
    next_w, _ = optim.adam(np.zeros(3), np.array([5.0, -1e-3, 40.0]), {"learning_rate": 0.5, "epsilon": 1e-12})
    assert np.allclose(next_w, [-0.5, 0.5, -0.5], rtol=1e-8)


def test_the_arrays_of_an_old_config_are_left_alone():
    velocity = np.ones(3)
    config = {"velocity": velocity}
    optim.sgd_momentum(np.zeros(3), np.ones(3), config)
    assert np.array_equal(velocity, [1, 1, 1])
    assert np.allclose(config["velocity"], 0.89)


def test_a_float64_gradient_leaves_float32_parameters_what_they_are():
    for name in TRUE:
        assert getattr(optim, name)(np.ones(3, np.float32), np.ones(3))[0].dtype == np.float32


@pytest.mark.parametrize("name", ["sgd_momentum", "rmsprop", "adam"])
def test_integers_numbers_and_lists(name):
    rule = getattr(optim, name)
    true, _ = rule(np.array([1.0, 2.0]), np.array([3.0, -1.0]))
    assert np.array_equal(rule(np.array([1, 2]), [3, -1])[0], true)
    assert np.array_equal(
        rule([1, 2], [3, -1], {"velocity": 0, "cache": 0, "m": [0, 0], "v": np.zeros(2, int)})[0], true
    )
    for number in (1.0, np.float64(1), np.float32(1)):
        assert rule(number, 3)[0] == pytest.approx(true[0], rel=1e-6)


def test_sgd_takes_only_what_it_can_change():
    for w, got in ((np.ones(2, int), "int64"), (1.0, "float"), ([1.0], "list")):
        with pytest.raises(TypeError, match=f"sgd: expected w as a floating array, .* got {got}"):
            optim.sgd(w, 1.0)


def test_limits_and_words_of_the_course():
    w, dw = np.ones(2), np.ones(2)
    assert np.allclose(optim.sgd_momentum(w, dw, {"momentum": 1.0, "velocity": 2.0})[0], 2.99)
    assert np.array_equal(optim.rmsprop(w, dw, {"decay_rate": 1, "epsilon": 0, "cache": np.ones(2)})[0], [0.99, 0.99])
    assert np.allclose(optim.adam(w, dw, {"epsilon": 0})[0], 0.999)
    for rule, key, value in (
        (optim.sgd_momentum, "momentum", 2),
        (optim.rmsprop, "decay_rate", -1),
        (optim.adam, "beta1", 1),
        (optim.adam, "t", -1),
    ):
        config = {key: value}
        with pytest.raises(ValueError, match=rf'{rule.__name__}: expected config\["{key}"\]'):
            rule(w, dw, config)
        assert config == {key: value}
