from dataclasses import replace

import numpy as np
import pytest

from xhat.verify.faults.signature import DICTIONARIES, faults_of
from xhat.verify.glance import at_a_point, by_dictionary
from xhat.verify.specs import find


def forward(x, gamma, beta, bn_param):
    std = np.sqrt(x.var(axis=0) + bn_param.get("eps", 1e-5))
    x_hat = (x - x.mean(axis=0)) / std
    return gamma * x_hat + beta, (x_hat, std, gamma)


def backward(dout, cache):
    x_hat, std, gamma = cache
    g = dout * gamma
    dx = (g - g.mean(axis=0) - x_hat * (g * x_hat).mean(axis=0)) / std
    return dx, (dout * x_hat).sum(axis=0), dout.sum(axis=0)


def problem(forward=forward, backward=backward):
    return find("batchnorm", forward, backward).problem


def changed(dout, cache):
    dout *= 2
    return backward(dout / 2, cache)


def broken(x, gamma, beta, bn_param):
    raise ArithmeticError


WRONG = {
    "dx": lambda dout, cache: (backward(dout, cache)[0] * 1.01, *backward(dout, cache)[1:]),
    "dgamma": lambda dout, cache: (
        backward(dout, cache)[0],
        *(d[None] for d in backward(dout, cache)[1:2]),
        dout.sum(0),
    ),
    "dbeta": lambda dout, cache: (*backward(dout, cache)[:2], dout.mean(axis=0)),
    "dout after the call": changed,
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_at_a_point(name):
    look = at_a_point(problem())
    assert look(problem()) == frozenset()
    assert look(problem(backward=WRONG[name])) == {name}


def test_an_error_leaves_everything_wrong():
    look = at_a_point(problem())
    assert look(problem(backward=lambda dout, cache: 1 / 0)) == {"error", "dx", "dgamma", "dbeta"}
    assert look(problem(forward=broken)) == {"error", "out", "dx", "dgamma", "dbeta"}


def test_a_forward_pass_is_held_to_its_specification():
    """A forward pass that fits a wrong backward is not right for that."""
    look = at_a_point(problem())
    fitting = problem(
        lambda x, gamma, beta, p: (gamma * x + beta, (x, gamma)), lambda d, c: (d * c[1], (d * c[0]).sum(0), d.sum(0))
    )
    assert look(fitting) >= {"out", "dx", "dgamma"}
    own = at_a_point(replace(fitting, specification=None))
    assert own(fitting) == frozenset()
    assert own(problem()) >= {"out", "dx", "dgamma"}


def test_nothing_is_seen_where_nothing_runs():
    assert at_a_point(replace(problem(broken), specification=None)) is None


def test_every_mistake_is_seen_by_its_dictionary():
    for layer, dictionary in DICTIONARIES.items():
        look = by_dictionary(layer, lambda problem: (problem.forward, problem.backward))
        for fault in faults_of(layer)[::6]:
            forward, backward = dictionary.functions([fault])
            assert bool(look(replace(problem(), forward=forward, backward=backward))) != fault.harmless, fault.key
        assert not look(replace(problem(), forward=dictionary.functions()[0], backward=dictionary.functions()[1]))


def test_global_state_is_left_as_it_was():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    at_a_point(problem())(problem())
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
