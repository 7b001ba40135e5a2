"""The rows loop on arrays that lie in memory as they like.

A row is what stands behind the first `kept` axes. Views whose axes were moved or split (`numpy.moveaxis`,
`reshape`) are fine: where the numbers of a row do not follow one another in memory they are copied there and back.
"""

from __future__ import annotations

import math

import numpy as np

from xhat import kernels
from xhat.kernels import Entries, Numbers, Statistics, fused, memory


def rows_forward(
    x: Numbers,
    gamma: Numbers | None,
    beta: Numbers | None,
    eps: float,
    out: Numbers,
    *,
    kept: int,
    shape: tuple[int, int],
    centred: bool = True,
    epilogue: fused.Epilogue | None = None,
    added: Numbers | None = None,
    total: Numbers | None = None,
) -> Statistics:
    """Normalize each row into `out`.

    Parameters
    ----------
    x : numpy.ndarray
        Any shape and strides, a type that `kernels.serves`.
    gamma, beta : numpy.ndarray or None
        Any floating type and shape with as many entries as `shape`. None means 1 and 0.
    eps, centred
        As `kernels.rows_forward` takes them.
    out : numpy.ndarray
        Shape and type of x, any strides. Receives y.
    kept : int
        How many axes number the rows.
    shape : tuple of int
        (groups, entries), as `kernels.rows_forward` takes gamma and beta.
    epilogue : Epilogue or None
        What follows, where `fused` serves the type. Dropout goes by places in the matrix of rows.
    added, total : numpy.ndarray or None
        As `fused.rows_forward` takes them, of any shape with as many numbers; C-contiguous, as x and out must be then.

    Returns
    -------
    Statistics
        Of each row, in the shape of the first `kept` axes.

    Raises
    ------
    TypeError, ValueError
        As `kernels.rows_forward`.
    """
    rows = _room(out, kept)
    given = _matrix(x, kept), _lines(gamma, shape), _lines(beta, shape), eps, rows
    if epilogue is None and added is None:
        statistics = kernels.rows_forward(*given, centred=centred)
    else:
        if added is not None and total is not None:
            added = added.reshape(rows.shape if added.size == rows.size else -1)
            total = total.reshape(rows.shape)
        statistics = fused.rows_forward(*given, centred=centred, epilogue=epilogue, added=added, total=total)
    _put_back(rows, out)
    return Statistics(*(values.reshape(x.shape[:kept]) for values in statistics))


def rows_backward(
    dy: Numbers,
    x: Numbers,
    gamma: Numbers | None,
    statistics: Statistics,
    out: Numbers,
    *,
    shape: tuple[int, int],
    centred: bool = True,
    beta: Numbers | None = None,
    epilogue: fused.Epilogue | None = None,
    also: Numbers | None = None,
) -> tuple[Entries, Entries]:
    """Write the gradient of x into `out` and return those of gamma and beta.

    Parameters
    ----------
    dy, x : numpy.ndarray
        Any shape and strides, a type that `kernels.serves`.
    gamma, shape, centred
        As `rows_forward` takes them.
    statistics : Statistics
        As `rows_forward` returned them: one axis for each that numbers the rows.
    out : numpy.ndarray
        Shape and type of x, any strides. Receives dx.
    beta, epilogue, also
        As `fused.rows_backward` takes them, where it serves the type; `also` of any shape with as many numbers, and
        C-contiguous, as x and out must be then.

    Returns
    -------
    dgamma, dbeta : numpy.ndarray
        Of the given shape, float64. Both, also where gamma is None.

    Raises
    ------
    TypeError, ValueError
        As `kernels.rows_forward`.
    """
    kept = statistics.rstd.ndim
    flat = Statistics(*(values.reshape(-1) for values in statistics))
    rows = _room(out, kept)
    matrices = _matrix(dy, kept), _matrix(x, kept)
    if epilogue is None and also is None:
        dgamma, dbeta = kernels.rows_backward(*matrices, _lines(gamma, shape), flat, rows, shape=shape, centred=centred)
    else:
        dgamma, dbeta, _ = fused.rows_backward(
            *matrices,
            _lines(gamma, shape),
            _lines(beta, shape),
            flat,
            rows,
            shape=shape,
            centred=centred,
            epilogue=epilogue,
            also=None if also is None else also.reshape(rows.shape),
        )
    _put_back(rows, out)
    return dgamma, dbeta


def _matrix_shape(shape: tuple[int, ...], kept: int) -> tuple[int, int]:
    return math.prod(shape[:kept]), math.prod(shape[kept:])


def _matrix(values: Numbers, kept: int) -> Numbers:
    return np.ascontiguousarray(values).reshape(_matrix_shape(values.shape, kept))


def _room(out: Numbers, kept: int) -> Numbers:
    """Return a matrix to write rows to: `out` itself where it lies right, else new memory."""
    shape = _matrix_shape(out.shape, kept)
    return out.reshape(shape) if out.flags.c_contiguous else memory.empty(shape, out.dtype)


def _put_back(rows: Numbers, out: Numbers) -> None:
    if not out.flags.c_contiguous:
        out[...] = rows.reshape(out.shape)


def _lines(parameter: Numbers | None, shape: tuple[int, int]) -> Numbers | None:
    return None if parameter is None else parameter.reshape(shape)
