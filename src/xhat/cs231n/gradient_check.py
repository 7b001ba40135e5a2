"""Centred differences, (f(x + h) - f(x - h)) / 2h, entry by entry.

Every function here changes the arrays that it is given in place and restores them, also when f raises: an f that
ignores its argument and reads the same array elsewhere, such as `lambda _: model.loss(X, y)[0]`, is checked all right.
"""

from collections.abc import Callable, Sequence
from random import randrange
from typing import Any, cast

import numpy as np

from xhat.checks import Array

__all__ = [
    "eval_numerical_gradient",
    "eval_numerical_gradient_array",
    "eval_numerical_gradient_blobs",
    "eval_numerical_gradient_net",
    "grad_check_sparse",
]


def eval_numerical_gradient(f: Callable[[Array], Any], x: Array, verbose: bool = True, h: float = 1e-5) -> Array:
    """Return the derivative of the number f(x) by every entry of x.

    Parameters
    ----------
    f : function
        Takes x and returns a number.
    x : array
        Floating, writable; changed in place and restored.
    verbose : bool
        Whether to print every entry.
    h : float
        The step, unit of x.

    Returns
    -------
    array
        Shape and type of x.

    Raises
    ------
    TypeError
        If x is not a floating array: a step of h would be lost in integers, and a list would be copied.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.cs231n.gradient_check import eval_numerical_gradient
    >>> eval_numerical_gradient(lambda x: (x**2).sum(), np.array([3.0, 4.0]), verbose=False).round(6)
    array([6., 8.])
    """
    _check("eval_numerical_gradient", x)
    grad = np.zeros_like(x)
    for ix in np.ndindex(x.shape):
        pos, neg = _both_sides(f, x, x, ix, h)
        grad[ix] = (pos - neg) / (2 * h)
        if verbose:
            print(ix, grad[ix])
    return grad


def eval_numerical_gradient_array(f: Callable[[Array], Array], x: Array, df: Array, h: float = 1e-5) -> Array:
    """Return the derivative of sum(f(x) * df) by every entry of x, for an f that returns an array; see above."""
    _check("eval_numerical_gradient_array", x)
    grad = np.zeros_like(x)
    for ix in np.ndindex(x.shape):
        pos, neg = _both_sides(f, x, x, ix, h)
        grad[ix] = np.sum((pos - neg) * df) / (2 * h)
    return grad


def eval_numerical_gradient_blobs(
    f: Callable[..., Any], inputs: Sequence[Any], output: Any, h: float = 1e-5
) -> list[Array]:
    """Return a gradient for each input blob, for an f that writes into an output blob.

    A blob has an array `vals` and an array `diffs`. `f(*inputs, output)` computes `output.vals`; `output.diffs` is the
    gradient that arrives there.
    """
    gradients: list[Array] = []

    def values(_: Any) -> Array:
        f(*inputs, output)
        return np.copy(output.vals)

    for blob in inputs:
        _check("eval_numerical_gradient_blobs", blob.vals)
        grad = np.zeros_like(blob.diffs)
        for ix in np.ndindex(blob.vals.shape):
            pos, neg = _both_sides(values, blob, blob.vals, ix, h)
            grad[ix] = np.sum((pos - neg) * output.diffs) / (2 * h)
        gradients.append(grad)
    return gradients


def eval_numerical_gradient_net(net: Any, inputs: Sequence[Any], output: Any, h: float = 1e-5) -> list[Array]:
    """Return a gradient for each input blob of a net whose `forward()` computes the output blob."""
    return eval_numerical_gradient_blobs(lambda *_: net.forward(), inputs, output, h=h)


def grad_check_sparse(
    f: Callable[[Array], Any], x: Array, analytic_grad: Array, num_checks: int = 10, h: float = 1e-5
) -> None:
    """Print the numeric and the analytic gradient at entries drawn with Python's `random`, and their relative error."""
    _check("grad_check_sparse", x)
    for _ in range(num_checks):
        ix = tuple(randrange(size) for size in x.shape)
        pos, neg = _both_sides(f, x, x, ix, h)
        numeric, analytic = (pos - neg) / (2 * h), analytic_grad[ix]
        size = abs(numeric) + abs(analytic)
        error = abs(numeric - analytic) / size if size else 0.0
        print(f"numerical: {numeric:f} analytic: {analytic:f}, relative error: {error:e}")


def _check(who: str, x: Any) -> None:
    """Refuse what cannot be moved by a small step in place."""
    got = type(x).__name__
    if isinstance(x, np.ndarray):
        kind = cast(Array, x).dtype
        if kind.kind == "f":
            return
        got = str(kind)
    raise TypeError(f"{who}: expected x as a floating array, got {got}. Convert it with numpy.asarray(x, float).")


def _both_sides(f: Callable[[Any], Any], argument: Any, x: Array, ix: tuple[int, ...], h: float) -> tuple[Any, Any]:
    """Return f(argument) with one entry of x moved up by h, and moved down."""
    kept = x[ix]
    try:
        x[ix] = kept + h
        pos = np.copy(f(argument))  # f may give the same array again
        x[ix] = kept - h
        return pos, np.copy(f(argument))
    finally:
        x[ix] = kept
