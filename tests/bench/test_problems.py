"""What is computed: shapes, the truth, and the bytes that must be moved."""

import math

import numpy as np
import pytest

from xhat.bench import problems
from xhat.bench.problems import NORMS, Problem, textbook_backward, textbook_forward


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [1 << 10, 4 << 10, 12_345, 64 << 10, 3 << 20, 64 << 20, 512 << 20])
def test_shapes(norm, size):
    problem = problems.problem(norm, size)
    assert problem.norm == norm
    assert problem.nbytes <= size
    assert problem.nbytes > 0.5 * size or size < 1 << 16  # as large as asked for
    assert math.prod(problem.view) == math.prod(problem.shape)
    assert np.broadcast_shapes(problem.view, problem.parameter) == problem.view
    assert math.prod(problem.view[axis] for axis in problem.axes) > 1  # something to average over
    assert problem.features * 4 < problem.nbytes


@pytest.mark.parametrize("norm", NORMS)
def test_the_truth_is_a_gradient(norm):
    """The complex step on the textbook's own forward pass gives the textbook's dx."""
    problem = problems.problem(norm, 1 << 10)
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal(problem.view), rng.standard_normal(problem.view)
    gamma, beta = rng.uniform(0.5, 1.5, problem.parameter), rng.standard_normal(problem.parameter)
    _, x_hat, rstd = textbook_forward(x, gamma, beta, problem)
    dx, dgamma, dbeta = textbook_backward(dy, x_hat, rstd, gamma, problem)
    v, u = rng.standard_normal(x.shape), rng.standard_normal(gamma.shape)

    def loss(x, gamma, beta):
        axes = problem.axes
        centre = x - x.mean(axes, keepdims=True) if problem.centred else x
        rstd = ((centre * centre).mean(axes, keepdims=True) + problems.EPS) ** -0.5
        y = gamma * centre * rstd + (beta if problem.centred else 0)
        return (dy * y).sum()

    step = 1e-30j
    np.testing.assert_allclose(loss(x + step * v, gamma, beta).imag / 1e-30, (dx * v).sum(), rtol=1e-9)
    got = (dgamma.reshape(gamma.shape) * u).sum()
    np.testing.assert_allclose(loss(x, gamma + step * u, beta).imag / 1e-30, got, rtol=1e-9)
    if problem.centred:
        got = (dbeta.reshape(beta.shape) * u).sum()
        np.testing.assert_allclose(loss(x, gamma, beta + step * u).imag / 1e-30, got, rtol=1e-9)


def test_traffic():
    rows = problems.problem("layer", 1 << 20)  # a row of 2 KB
    assert rows.traffic("forward", 4096) == 2 * rows.nbytes
    assert rows.traffic("backward", 4096) == 3 * rows.nbytes
    assert rows.traffic("forward", 1024) == 3 * rows.nbytes  # a row that does not fit is read twice
    assert rows.traffic("backward", 2048) == 5 * rows.nbytes  # x and dy of a row
    columns = problems.problem("batch", 1 << 20)
    assert columns.traffic("forward", 1 << 19) == 3 * columns.nbytes
    assert columns.traffic("backward", 1 << 19) == 5 * columns.nbytes
    assert columns.traffic("forward", 1 << 20) == 2 * columns.nbytes  # all of it fits
    planes = Problem("batch NCHW", (4, 8, 2, 2), (4, 8, 4), (0, 2), (1, 8, 1))
    assert planes.traffic("forward", 4 * 16) == 2 * planes.nbytes  # one channel, of 16 numbers
    assert planes.traffic("forward", 4 * 15) == 3 * planes.nbytes
    last = Problem("batch NHWC", (4, 2, 2, 8), (16, 8), (0,), (1, 8))
    assert last.traffic("forward", 4 * 16) == 3 * last.nbytes


def test_the_arrays_are_drawn_alike():
    problem = problems.problem("group", 1 << 12)
    first, second = problems.make(problem), problems.make(problem)
    assert first.x.dtype == np.float32
    assert first.y.dtype == np.float64
    np.testing.assert_array_equal(first.x, second.x)
    assert not np.array_equal(first.x, first.dy)
    assert len(set(first.gamma)) == problem.features  # no parameter may stand for another
