import numpy as np
import pytest

import xhat
from xhat.verify.numeric import central_difference, complex_step


@pytest.fixture
def setting():
    rng = np.random.default_rng(0)
    return (
        xhat.mlp(6, [9], 4, normalization="batch", rng=0),
        rng.standard_normal((8, 6)),
        rng.integers(0, 4, 8),
    )


def test_derivatives_of_known_functions():
    x, v = np.array([0.3, 2.0]), np.array([1.0, -0.5])
    true = np.cos(0.3) * 1.0 + np.exp(2.0) * -0.5

    def f(x):
        return np.sin(x[0]) + np.exp(x[1])

    assert complex_step(f, x, v) == pytest.approx(true, rel=1e-15)
    assert central_difference(f, x, v) == pytest.approx(true, rel=1e-9)


FAULTS = {
    "dx off by a constant": lambda g: g._replace(dx=g.dx + 1e-6),
    "dx off by a thousandth": lambda g: g._replace(dx=g.dx * 1.001),
    "dgamma off by 1e-6": lambda g: g._replace(dgamma=g.dgamma * (1 + 1e-6)),
    "dbeta and dgamma exchanged": lambda g: g._replace(dgamma=g.dbeta, dbeta=g.dgamma),
    "dgamma of zeros": lambda g: g._replace(dgamma=0 * g.dgamma),
    "dx of NaN": lambda g: g._replace(dx=g.dx * np.nan),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_gradient_is_named(setting, fault, monkeypatch):
    net, x, labels = setting
    assert xhat.verify.check_network(net, x, labels).ok
    right = type(net.layers[1]).backward
    monkeypatch.setattr(xhat.BatchNorm, "backward", lambda self, dy, cache: FAULTS[fault](right(self, dy, cache)))
    check = xhat.verify.check_network(net, x, labels)
    wrong = {row.name for row in check.rows if not row.ok}
    assert not check.ok
    assert wrong & ({"1.gamma", "1.beta"} if "dx" not in fault else {"0.w", "x"}), str(check)
    assert "WRONG" in str(check)


def test_a_gradient_that_is_zero_by_the_mathematics_is_right():
    """A bias before batch norm has no effect; what rounding leaves of its gradient is no error."""
    rng = np.random.default_rng(0)
    net = xhat.Sequential([xhat.Affine(5, 8, rng=0), xhat.BatchNorm(8), xhat.ReLU(), xhat.Affine(8, 3, rng=1)])
    check = xhat.verify.check_network(net, rng.standard_normal((9, 5)), rng.integers(0, 3, 9))
    assert check.ok, str(check)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e5])
def test_a_wrong_gradient_is_seen_at_any_size_of_the_scores(scale, monkeypatch):
    rng = np.random.default_rng(0)
    net, x, labels = xhat.mlp(6, [9], 4, rng=0), scale * rng.standard_normal((8, 6)), rng.integers(0, 4, 8)
    check = xhat.verify.check_network(net, x, labels)
    assert check.ok, str(check)
    right = xhat.Affine.backward
    monkeypatch.setattr(
        xhat.Affine, "backward", lambda self, dy, cache: (g := right(self, dy, cache))._replace(dw=1.001 * g.dw)
    )
    assert not xhat.verify.check_network(net, x, labels).ok


def test_nan_is_not_right(setting):
    net, x, labels = setting
    x[0, 0] = np.nan
    with pytest.raises(ValueError, match="expected finite batch statistics"):
        xhat.verify.check_network(net, x, labels)
    plain = xhat.mlp(6, [9], 4, rng=0)
    assert not xhat.verify.check_network(plain, x, labels).ok


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("normalization", [None, "layer", "batch"])
def test_units_that_are_off_do_not_put_the_next_on_its_corner(normalization, seed):
    rng = np.random.default_rng(seed)
    net = xhat.mlp(6, [2, 2], 3, normalization=normalization, dropout=0.5, rng=seed)
    check = xhat.verify.check_network(net, rng.standard_normal((16, 6)), rng.integers(0, 3, 16))
    assert check.ok, str(check)


def test_all_dropped_is_right(setting):
    _, x, labels = setting
    assert xhat.verify.check_network(xhat.mlp(6, [9], 4, dropout=1.0), x, labels).ok


def test_check_leaves_the_network_alone(setting):
    net, x, labels = setting
    before = {name: values.copy() for name, values in {**net.parameters, **net.state}.items()}
    xhat.verify.check_network(net, x, labels)
    for name, values in {**net.parameters, **net.state}.items():
        assert np.array_equal(values, before[name])


def test_table(setting):
    table = str(xhat.verify.check_network(*setting)).splitlines()
    assert table[0].split() == ["gradient", "shape", "size", "error", "relative"]
    assert [line.split()[1] for line in table[1:]] == ["0.w", "1.gamma", "1.beta", "3.w", "3.b", "x"]
    assert len({len(line) for line in table[1:]}) == 1
