"""What the kernels must compute, written plainly in long double, and how far they may be from it."""

from typing import NamedTuple

import numpy as np
import pytest

from xhat import kernels

needs_native = pytest.mark.skipif(bool(kernels.reason), reason=f"no native module: {kernels.reason}")
needs_long_double = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="long double is no wider than double here"
)

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class Tolerance(NamedTuple):
    """Largest error, as a share of what is named."""

    y: float  # largest |gamma * x_hat| of the row or channel, plus |beta|
    dx: float  # largest |gamma * dy| of the row or channel, times rstd
    sums: float  # sum of |dy| times the largest |x_hat|: dgamma, dbeta
    statistics: float  # std for the mean, var for var, rstd for rstd


EPS64 = float(np.finfo(np.float64).eps)
TOLERANCES = {
    np.dtype(np.float32): Tolerance(y=2.0**-23, dx=2e-7, sums=1e-8, statistics=1e-11),
    np.dtype(np.float64): Tolerance(y=8 * EPS64, dx=8 * EPS64, sums=8 * EPS64, statistics=8 * EPS64),
}


class Case(NamedTuple):
    """One call: arrays (rows, columns) with parameters (groups, entries), or (outer, channels, inner) with (channels,)."""

    x: np.ndarray
    dy: np.ndarray
    gamma: np.ndarray | None
    beta: np.ndarray | None
    eps: float
    lines: tuple[int, int] = (1, 1)  # of rows: (groups, entries)
    centred: bool = True


class Result(NamedTuple):
    """Everything that forward and backward give."""

    y: np.ndarray
    dx: np.ndarray
    dgamma: np.ndarray
    dbeta: np.ndarray
    statistics: kernels.Statistics


def is_rows(case):
    return case.x.ndim == 2


def make_case(shape, dtype, rng, x=None, eps=1e-5, parameters=True, lines=None, centred=True):
    """Random dy, gamma and beta; x as given, else standard normal. Rows have a line with an entry per column, if not told."""
    x = rng.standard_normal(shape) if x is None else x
    lines = lines or ((1, shape[1]) if len(shape) == 2 else (1, 1))
    size = lines if len(shape) == 2 else shape[1]
    gamma = rng.uniform(0.5, 2, size) * rng.choice([-1, 1], size) if parameters else None
    beta = rng.standard_normal(size) if parameters else None
    dy = rng.standard_normal(shape).astype(dtype)
    return Case(np.ascontiguousarray(x, dtype), dy, gamma, beta, eps, lines, centred)


def run(case):
    """Call the kernels, on outputs filled with NaN."""
    y, dx = np.full_like(case.x, np.nan), np.full_like(case.x, np.nan)
    if is_rows(case):
        statistics = kernels.rows_forward(case.x, case.gamma, case.beta, case.eps, y, centred=case.centred)
        dgamma, dbeta = kernels.rows_backward(
            case.dy, case.x, case.gamma, statistics, dx, shape=case.lines, centred=case.centred
        )
    else:
        statistics = kernels.channels_forward(case.x, None, case.gamma, case.beta, case.eps, y)
        dgamma, dbeta = kernels.channels_backward(case.dy, case.x, None, case.gamma, statistics, dx)
    return Result(y, dx, dgamma, dbeta, statistics)


def bits(result):
    """All the numbers of a result as bytes."""
    return [a.tobytes() for a in (*result[:-1], *result.statistics)]


def wide(case, parameter, default):
    """A parameter in long double, in the shape that goes with x."""
    if is_rows(case):
        (rows, columns), (groups, entries) = case.x.shape, case.lines
        parameter = np.full(case.lines, default) if parameter is None else parameter
        inner, samples = columns // max(entries, 1), rows // max(groups, 1)
        return np.tile(np.repeat(parameter, inner, 1), (samples, 1)).astype(np.longdouble)
    parameter = np.full(case.x.shape[1], default) if parameter is None else parameter
    return parameter.astype(np.longdouble).reshape(1, -1, 1)


def shared(case, terms):
    """The sum of terms like x over all that a parameter belongs to."""
    if not is_rows(case):
        return terms.sum((0, 2))
    (rows, columns), (groups, entries) = case.x.shape, case.lines
    return terms.reshape(rows // max(groups, 1), groups, entries, columns // max(entries, 1)).sum((0, 3))


class Truth(NamedTuple):
    """The same in long double, statistics in the shape that goes with x."""

    y: np.ndarray
    dx: np.ndarray
    dgamma: np.ndarray
    dbeta: np.ndarray
    x_hat: np.ndarray
    mean: np.ndarray  # rounded, and what that lost
    rest: np.ndarray
    var: np.ndarray
    rstd: np.ndarray


def truth(case):
    """Follow the textbook, but take the mean twice: even long double would lose digits to an offset."""
    over = (1,) if is_rows(case) else (0, 2)
    x, dy = case.x.astype(np.longdouble), case.dy.astype(np.longdouble)
    gamma, beta = wide(case, case.gamma, 1), wide(case, case.beta, 0)
    first = x.mean(over, keepdims=True) * case.centred
    rest = (x - first).mean(over, keepdims=True) * case.centred
    centred = (x - first) - rest
    var = (centred * centred).mean(over, keepdims=True)
    with np.errstate(divide="ignore"):
        rstd = np.where(var + case.eps == 0, 0, 1 / np.sqrt(var + case.eps))
    x_hat = centred * rstd
    dx_hat = dy * gamma
    along_ones = dx_hat.mean(over, keepdims=True) * case.centred
    dx = rstd * (dx_hat - along_ones - x_hat * (dx_hat * x_hat).mean(over, keepdims=True))
    return Truth(x_hat * gamma + beta, dx, shared(case, dy * x_hat), shared(case, dy), x_hat, first, rest, var, rstd)


def errors(case, result):
    """The error of each quantity as a share of its scale in `Tolerance`."""
    true = truth(case)
    over = (1,) if is_rows(case) else (0, 2)
    gamma, beta = wide(case, case.gamma, 1), wide(case, case.beta, 0)
    dy = case.dy.astype(np.longdouble)
    s = kernels.Statistics(*(a.reshape(true.mean.shape) for a in result.statistics))

    def worst(difference, scale):
        difference, scale = np.broadcast_arrays(np.abs(difference), scale)
        wrong = difference != 0  # 0 of 0 is no error, NaN is one
        with np.errstate(divide="ignore", invalid="ignore"):
            share = difference[wrong] / scale[wrong]
        return float(np.nan_to_num(share.max(initial=0), nan=np.inf))

    largest_x_hat = np.abs(true.x_hat).max(over, keepdims=True, initial=0)
    y_scale = np.abs(gamma * true.x_hat).max(over, keepdims=True, initial=0) + np.abs(beta)
    dx_scale = np.abs(gamma * dy).max(over, keepdims=True, initial=0) * true.rstd
    return Tolerance(
        y=worst(result.y - true.y, y_scale),
        dx=worst(result.dx - true.dx, dx_scale),
        sums=max(
            worst(result.dgamma - true.dgamma, shared(case, np.abs(dy) * largest_x_hat)),
            worst(result.dbeta - true.dbeta, shared(case, np.abs(dy))),
        ),
        statistics=max(
            worst(((s.mean - true.mean) + s.mean_low) - true.rest, np.sqrt(true.var)),
            worst(s.var - true.var, true.var),
            worst(s.rstd - true.rstd, true.rstd),
        ),
    )


def check(case, result=None):
    """Compare with the truth, and say how large the gradient was."""
    result = run(case) if result is None else result
    assert result.y.dtype == result.dx.dtype == case.x.dtype
    allowed = TOLERANCES[case.x.dtype]
    for name, error, most in zip(Tolerance._fields, errors(case, result), allowed, strict=True):
        assert error <= most, (
            f"{name}: error {error:.2e} of its scale, allowed {most:.2e}; "
            f"shape {case.x.shape}, largest |dx| {np.abs(result.dx).max(initial=0):.2e}"
        )
