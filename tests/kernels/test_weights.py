"""The channels loop with weights, and its backward pass in two steps, held to long double."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels import oracle
from tests.kernels.oracle import DTYPES, TOLERANCES

from xhat import kernels

pytestmark = oracle.needs_native

SHAPES = [(7, 3, 1), (64, 5, 1), (129, 17, 1), (1, 2, 1), (5, 3, 9), (4, 2, 130), (2, 17, 131), (3, 1, 7), (6000, 2, 1)]
SHAPES += [(2, 3, 5001)]
NATIVE = [name for name in kernels.VARIANTS if name != "reference"]


class Situation:
    """x, dy, gamma, beta and weights, some of them 0, under some of which there is nothing."""

    def __init__(self, shape, dtype, seed=0, offset=0.0):
        rng = np.random.default_rng(seed)
        self.x, self.dy = (offset + rng.standard_normal(shape)).astype(dtype), rng.standard_normal(shape).astype(dtype)
        self.gamma, self.beta = rng.uniform(0.5, 2, shape[1]), rng.standard_normal(shape[1])
        self.weights = rng.random((shape[0], shape[2])) * rng.choice([1, 1, 1, 0, 1e-3, 50], (shape[0], shape[2]))
        self.weights.flat[0] = 0
        self.weights.flat[-1] = 1
        self.gone = np.broadcast_to((self.weights == 0)[:, None], shape) & (rng.random(shape) < 0.5)
        self.x[self.gone] = rng.choice([np.nan, np.inf, -np.inf], self.gone.sum())

    def truth(self, eps):
        """The definitions, in long double."""
        w = self.weights[:, None].astype(np.longdouble)
        x = np.where(self.gone, 0, self.x).astype(np.longdouble)
        dy = np.where(self.gone, 0, self.dy).astype(np.longdouble)
        gamma, beta = self.gamma[:, None], self.beta[:, None]

        def mean(values):
            return (w * values).sum((0, 2), keepdims=True) / w.sum()

        first = mean(x)
        rest = mean(x - first)
        centred = np.where(self.gone, 0, x - first - rest)
        var = mean(centred**2)
        rstd = 1 / np.sqrt(var + eps)
        x_hat = centred * rstd
        dgamma, dbeta = (dy * x_hat).sum((0, 2), keepdims=True), dy.sum((0, 2), keepdims=True)
        dx = gamma * rstd * (dy - w * (dbeta + x_hat * dgamma) / w.sum())
        y = np.where(self.gone, 0, gamma * x_hat + beta)
        return y, np.where(self.gone, 0, dx), dgamma, dbeta, x_hat, first, rest, var, rstd

    def run(self):
        y, dx = np.full_like(self.x, np.nan), np.full_like(self.x, np.nan)
        statistics = kernels.channels_forward(self.x, self.weights, self.gamma, self.beta, 1e-5, y)
        sums = kernels.channels_backward(self.dy, self.x, self.weights, self.gamma, statistics, dx)
        return y, dx, sums, statistics


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e7])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_weights(shape, dtype, offset):
    if offset == -1e7 and dtype == np.float32:
        offset = -1e5  # float32 has no digits for deviations of 1 beside 1e7
    case = Situation(shape, dtype, offset=offset)
    true_y, true_dx, dgamma, dbeta, x_hat, first, rest, var, rstd = case.truth(np.longdouble(1e-5))
    y, dx, sums, s = case.run()
    allowed = TOLERANCES[dtype]
    statistics = [values[None, :, None] for values in s]
    assert np.all(
        np.abs(((statistics[0] - first) + statistics[1]) - rest) <= 1e-11 * np.sqrt(var) + 1e-18 * abs(offset)
    )
    assert np.all(np.abs(statistics[2] - var) <= 1e-11 * var)
    gamma, beta = case.gamma[:, None], case.beta[:, None]
    scale = np.abs(gamma * x_hat).max((0, 2), keepdims=True) + np.abs(beta)
    assert np.all(np.abs(y - true_y) <= allowed.y * scale)
    scale = np.abs(gamma * case.dy).max((0, 2), keepdims=True) * rstd * max(1, case.weights.max() / case.weights.mean())
    assert np.all(np.abs(dx - true_dx) <= 2 * allowed.dx * scale)
    size = np.abs(case.dy).sum((0, 2)) * np.abs(x_hat).max((0, 2))
    assert np.all(np.abs(sums[0] - dgamma.ravel()) <= 1e-11 * size + 1e-15)
    assert np.all(np.abs(sums[1] - dbeta.ravel()) <= 1e-11 * np.abs(case.dy).sum((0, 2)))
    assert not y[case.gone].any()
    assert not dx[case.gone].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_two_steps_are_the_whole(shape, dtype):
    """Bit for bit, with weights and without."""
    case = Situation(shape, dtype)
    case.x[case.gone] = 0
    for weights in (case.weights, None):
        y, dx, again = (np.full_like(case.x, np.nan) for _ in range(3))
        statistics = kernels.channels_forward(case.x, weights, case.gamma, case.beta, 1e-5, y)
        alone = kernels.channels_statistics(case.x, weights, 1e-5)
        assert all(np.array_equal(one, other) for one, other in zip(alone, statistics, strict=True))
        kernels.channels_apply(case.x, weights, case.gamma, case.beta, *alone[:2], alone.rstd, again)
        assert np.array_equal(again, y)
        total = case.x.size / shape[1] if weights is None else weights.sum()
        whole = kernels.channels_backward(case.dy, case.x, weights, case.gamma, statistics, dx)
        sums = kernels.channels_sums(case.dy, case.x, weights, statistics)
        assert all(np.array_equal(one, other) for one, other in zip(sums, whole, strict=True))
        again.fill(np.nan)
        kernels.channels_gradient(case.dy, case.x, weights, case.gamma, statistics, *sums, total, again)
        assert np.array_equal(again, dx)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fixed_statistics_leave_out_what_is_missing(dtype):
    case = Situation((6, 3, 4), dtype)
    mean, rstd = np.array([0.5, -1, 2]), np.array([2, 0.5, 1.0])
    y, dx = np.full_like(case.x, np.nan), np.full_like(case.x, np.nan)
    kernels.channels_apply(case.x, case.weights, case.gamma, case.beta, mean, None, rstd, y)
    dgamma, dbeta = kernels.channels_apply_backward(case.dy, case.x, case.weights, case.gamma, mean, None, rstd, dx)
    x_hat = (np.where(case.gone, 0, case.x).astype(float) - mean[:, None]) * rstd[:, None]
    dy = np.where(case.gone, 0, case.dy)
    assert np.allclose(
        y, np.where(case.gone, 0, x_hat * case.gamma[:, None] + case.beta[:, None]), rtol=1e-6, atol=1e-6
    )
    assert np.allclose(dx, dy * (case.gamma * rstd)[:, None], rtol=1e-6)
    assert np.allclose(dgamma, np.where(case.gone, 0, dy * x_hat).sum((0, 2)), rtol=1e-6)
    assert np.allclose(dbeta, dy.sum((0, 2)), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (30_001, 11, 1), (40, 20, 701), (3, 2, 70_001)], ids=str)
def test_bits_depend_on_nothing_else(shape, dtype):
    case = Situation(shape, dtype, offset=3.0)
    results, before = [], kernels.get_num_threads()
    for name, threads in [(name, threads) for name in NATIVE for threads in (1, 2, 5)]:
        kernels.set_num_threads(threads)
        with kernels.use(name):
            y, dx, sums, statistics = case.run()
        results.append([values.tobytes() for values in (y, dx, *sums, *statistics)])
    kernels.set_num_threads(before)
    assert all(result == results[0] for result in results)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(
    shape=st.tuples(st.integers(0, 40), st.integers(0, 9), st.one_of(st.integers(0, 12), st.just(131))),
    junk=st.sampled_from([0.0, -1.0, np.nan, np.inf, 1e308]),
)
def test_nothing_crashes_whatever_the_weights_hold(shape, junk):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    weights = np.where(rng.random((shape[0], shape[2])) < 0.5, junk, 1.0)
    with np.errstate(all="ignore"):
        statistics = kernels.channels_forward(x, weights, None, None, 1e-5, np.empty_like(x))
        kernels.channels_backward(x, x, weights, None, statistics, np.empty_like(x))


def test_weights_of_zero_only_are_nobody():
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    statistics = kernels.channels_statistics(x, np.zeros((5, 3)), 0.25)
    assert not np.any(statistics[:3])
    assert (statistics.rstd == 2).all()
