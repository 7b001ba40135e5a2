"""Batch norm in prediction is a straight line per channel: a product that comes before it can take it in.

(x @ w + b - mean) * rstd * gamma + beta  =  x @ (w * slope) + ((b - mean) * slope + beta),   slope = gamma * rstd
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_axis, as_eps, as_parameter
from xhat.layers.batch_norm.arguments import as_fixed
from xhat.layers.batch_norm.compute import rstd_of, wide


def fold(
    w: ArrayLike,
    b: ArrayLike | None,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float = 1e-5,
    output_axis: int = -1,
) -> tuple[Array, Array]:
    """Return the weights and the bias that do in one step what an affine layer or a convolution and `apply` do in two.

    Parameters
    ----------
    w : array_like
        Weights: (D, M) of an affine layer, (F, C, HH, WW) of a convolution.
    b : array_like, shape (C,), optional
        Its bias. None means none.
    gamma, beta, mean, var, eps
        As in `apply`, with C the size of the output axis of `w`.
    output_axis : int
        The axis of `w` that counts the outputs: -1 (or 1) of an affine layer, 0 of a convolution.

    Returns
    -------
    w, b : array
        Type of `w` (float64 for integers); computed in float64 and rounded once.

    Raises
    ------
    TypeError, ValueError
        If shapes or types do not fit, a statistic is not finite, or the result exceeds what the type can hold.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> rng = np.random.default_rng(0)
    >>> x, w = rng.standard_normal((5, 3)), rng.standard_normal((3, 2))
    >>> gamma, beta, mean, var = *rng.standard_normal((3, 2)), rng.random(2)
    >>> y, _ = xhat.batch_norm.apply(x @ w, gamma, beta, mean, var)
    >>> one_w, one_b = xhat.batch_norm.fold(w, None, gamma, beta, mean, var)
    >>> bool(np.allclose(x @ one_w + one_b, y, rtol=1e-13))
    True
    """
    who = "batch_norm.fold"
    w = as_parameter(who, "w", w, (None,) * np.ndim(w), "Give the weights of an affine layer or of a convolution.")
    axis = as_axis(who, "output_axis", output_axis, w.ndim)
    shape = w.shape[axis : axis + 1]
    advice = f"The output axis {axis} of w has size {shape[0]}; choose another with output_axis."
    b, gamma, beta = (
        None if values is None else as_parameter(who, name, values, shape, advice)
        for name, values in (("b", b), ("gamma", gamma), ("beta", beta))
    )
    mean, var = as_fixed(who, mean, var, shape)
    rstd = rstd_of(var, as_eps(who, eps))
    with np.errstate(all="ignore"):
        slope = rstd if gamma is None else rstd * wide(gamma)
        shift = -mean if b is None else wide(b) - mean
        folded_b = shift * slope if beta is None else shift * slope + wide(beta)
        along_w = slope.reshape([-1 if i == axis else 1 for i in range(w.ndim)])
        folded = (w * along_w).astype(w.dtype), folded_b.astype(w.dtype)
    if not all(np.isfinite(values).all() for values in folded):
        raise ValueError(
            f"{who}: expected results that {w.dtype} can hold, got NaN or Inf. "
            "Look for NaN in w and for a variance near 0, or convert w to a wider type."
        )
    return folded
