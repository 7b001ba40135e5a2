"""Batch normalization in nine steps: every node of its computational graph, forward and backward, one line each.

The closed form in `reference` is what these lines come to when they are multiplied out. Here nothing is multiplied
out: each step does one thing, each gradient is that of one step, and all of them can be looked at. Read forward
downwards, backward upwards:

    mean     = sum(x) / N             dx_via_mean          = dmean / N
    centred  = x - mean               dmean                = -sum(dcentred)
                                      dx_via_centred       = dcentred
    squared  = centred * centred      dcentred_via_squared = 2 * centred * dsquared
    variance = sum(squared) / N       dsquared             = dvariance / N
    root     = sqrt(variance + eps)   dvariance            = droot / (2 * root)
    inverse  = 1 / root               droot                = -dinverse / root**2
    x_hat    = centred * inverse      dcentred_via_x_hat   = inverse * dx_hat
                                      dinverse             = sum(centred * dx_hat)
    scaled   = gamma * x_hat          dx_hat               = gamma * dscaled
                                      dgamma               = sum(x_hat * dscaled)
    y        = scaled + beta          dscaled              = dy
                                      dbeta                = sum(dy)

`sum` runs over the rows. Where two steps use a value, their two gradients are added: centred goes to squared and to
x_hat, x goes to mean and to centred.

Source: the staging in nine steps is Kratzert's (2016, "Understanding the backward pass through batch normalization
layer"); the function is that of Ioffe, Szegedy 2015, arXiv:1502.03167, algorithm 1. More: docs/batch_norm_steps.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_eps, as_gradient, as_parameter, as_statistic, as_values, check_range
from xhat.graph import Edge, Graph, Step


@dataclass(frozen=True, eq=False)
class StepGradients:
    """The gradient of every node, in the order of the backward pass; iterates as (name, array).

    float64 inside; what leaves the layer (`dx`, `dgamma`, `dbeta`) has the type of what it belongs to.
    """

    dy: Array  # (N, D)
    dbeta: Array  # (D,)
    dscaled: Array  # (N, D)
    dgamma: Array  # (D,)
    dx_hat: Array  # (N, D)
    dinverse: Array  # (D,)
    dcentred_via_x_hat: Array  # (N, D)
    droot: Array  # (D,)
    dvariance: Array  # (D,)
    dsquared: Array  # (N, D)
    dcentred_via_squared: Array  # (N, D)
    dcentred: Array  # (N, D)
    dx_via_centred: Array  # (N, D)
    dmean: Array  # (D,)
    dx_via_mean: Array  # (N, D)
    dx: Array  # (N, D)

    def __iter__(self) -> Iterator[tuple[str, Array]]:
        """Yield every gradient with its name."""
        yield from ((field.name, getattr(self, field.name)) for field in fields(self))


@dataclass(frozen=True, eq=False)
class Steps:
    """The value of every node, in the order of the forward pass; the nine steps iterate as (name, array).

    float64 inside; `y` has the type of `x`, which is shared, not copied: leave it alone until `backward`.
    """

    x: Array  # (N, D)
    gamma: Array  # (D,)
    beta: Array  # (D,)
    eps: float  # unit of x²
    mean: Array  # (D,), unit of x
    centred: Array  # (N, D), unit of x
    squared: Array  # (N, D), unit of x²
    variance: Array  # (D,), biased, unit of x²
    root: Array  # (D,), unit of x
    inverse: Array  # (D,), unit of 1/x
    x_hat: Array  # (N, D), no unit
    scaled: Array  # (N, D), unit of y
    y: Array  # (N, D)

    def __iter__(self) -> Iterator[tuple[str, Array]]:
        """Yield every step with its name."""
        yield from ((step.name, getattr(self, step.name)) for step in GRAPH.steps)

    def backward(self, dy: ArrayLike) -> StepGradients:
        """Go back through the nine steps.

        Parameters
        ----------
        dy : array_like, shape (N, D)
            Gradient of y.

        Returns
        -------
        StepGradients
            The gradient of every node.

        Raises
        ------
        TypeError, ValueError
            If `dy` or a saved array does not have the type and shape that `steps` gave it.
        """
        who = "batch_norm.steps.backward"
        advice = "Go back from what batch_norm.steps returned."
        x = as_values(who, "x", self.x)
        if x.ndim != 2:
            raise ValueError(f"{who}: expected x of shape (N, D), got {x.shape}. {advice}")
        gamma = as_parameter(who, "gamma", self.gamma, x.shape[1:], advice)
        beta = as_parameter(who, "beta", self.beta, x.shape[1:], advice)
        saved = {
            step.name: as_statistic(who, step.name, getattr(self, step.name), x.shape[2 - len(step.shape) :], advice)
            for step in GRAPH.steps[:-1]
        }
        dy = as_gradient(who, dy, x.shape, x.dtype)
        with np.errstate(all="ignore"):
            gone = reference_steps_backward(
                dy.astype(np.float64), replace(self, gamma=gamma.astype(np.float64), **saved)
            )
            return replace(
                gone,
                dy=dy,
                dx=gone.dx.astype(x.dtype, copy=False),
                dgamma=gone.dgamma.astype(gamma.dtype, copy=False),
                dbeta=gone.dbeta.astype(beta.dtype, copy=False),
            )


def reference_steps(x: Array, gamma: Array, beta: Array, eps: float) -> Steps:
    """Go forward: each line is one node."""
    N = max(1, len(x))
    mean = x.sum(0) / N
    centred = x - mean
    squared = centred * centred
    variance = squared.sum(0) / N
    root = (variance + eps) ** 0.5
    inverse = 1 / root
    x_hat = centred * inverse
    scaled = gamma * x_hat
    y = scaled + beta
    return Steps(x, gamma, beta, eps, mean, centred, squared, variance, root, inverse, x_hat, scaled, y)


def reference_steps_backward(dy: Array, steps: Steps) -> StepGradients:
    """Go back: each block is one node, last one first.

    The gradient of a product is handed to each factor times the other; what served all rows collects the sum over
    them; what was summed hands every row the same.
    """
    N = max(1, len(dy))

    # y = scaled + beta
    dbeta = dy.sum(0)
    dscaled = dy

    # scaled = gamma * x_hat
    dgamma = (steps.x_hat * dscaled).sum(0)
    dx_hat = steps.gamma * dscaled

    # x_hat = centred * inverse
    dinverse = (steps.centred * dx_hat).sum(0)
    dcentred_via_x_hat = steps.inverse * dx_hat

    # inverse = 1 / root
    droot = -dinverse / steps.root**2

    # root = sqrt(variance + eps)
    dvariance = droot / (2 * steps.root)

    # variance = sum(squared) / N
    dsquared = np.full(dy.shape, dvariance / N)

    # squared = centred * centred
    dcentred_via_squared = 2 * steps.centred * dsquared
    dcentred = dcentred_via_x_hat + dcentred_via_squared

    # centred = x - mean
    dx_via_centred = dcentred
    dmean = -dcentred.sum(0)

    # mean = sum(x) / N
    dx_via_mean = np.full(dy.shape, dmean / N)
    dx = dx_via_centred + dx_via_mean

    return StepGradients(
        dy=dy,
        dbeta=dbeta,
        dscaled=dscaled,
        dgamma=dgamma,
        dx_hat=dx_hat,
        dinverse=dinverse,
        dcentred_via_x_hat=dcentred_via_x_hat,
        droot=droot,
        dvariance=dvariance,
        dsquared=dsquared,
        dcentred_via_squared=dcentred_via_squared,
        dcentred=dcentred,
        dx_via_centred=dx_via_centred,
        dmean=dmean,
        dx_via_mean=dx_via_mean,
        dx=dx,
    )


def steps(x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, eps: float = 1e-5) -> Steps:
    """Normalize the columns of `x` in nine steps, and keep every one of them.

    Parameters
    ----------
    x : array_like, shape (N, D)
        Any floating type, N >= 2. Channels elsewhere: move them last and reshape to (-1, C).
    gamma, beta : array_like, shape (D,)
        Scale and shift, unit of y.
    eps : float
        Added to the variance; unit of x². With 0, every column must vary: the step 1 / root is not defined at 0.

    Returns
    -------
    Steps
        Every node by name: `mean`, `centred`, `squared`, `variance`, `root`, `inverse`, `x_hat`, `scaled`, `y`. Its
        `backward(dy)` gives the gradient of every node.

    Raises
    ------
    TypeError
        If an argument has the wrong type; integers in `x` must be converted first.
    ValueError
        If a shape does not fit, `eps` is negative or not finite, there is one row, the variance overflows, or a column
        does not vary where `eps` is 0.

    Notes
    -----
    float64 inside. This is the graph of the textbooks, to be looked at; `forward` and `backward` are for use. Its mean
    is one number and it forms root**2 on its way back, so that an offset of x costs digits and the smallest and largest
    numbers overflow earlier.

    References
    ----------
    Kratzert 2016, "Understanding the backward pass through batch normalization layer"; Ioffe, Szegedy 2015,
    arXiv:1502.03167, algorithm 1.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> nodes = xhat.batch_norm.steps(np.array([[1.0, 0.0], [3.0, 8.0]]), gamma=[7.0, 2.0], beta=[10.0, 20.0], eps=48.0)
    >>> for name, value in nodes:
    ...     print(f"{name:9}", *value.tolist())
    mean      2.0 4.0
    centred   [-1.0, -4.0] [1.0, 4.0]
    squared   [1.0, 16.0] [1.0, 16.0]
    variance  1.0 16.0
    root      7.0 8.0
    inverse   0.14285714285714285 0.125
    x_hat     [-0.14285714285714285, -0.5] [0.14285714285714285, 0.5]
    scaled    [-1.0, -1.0] [1.0, 1.0]
    y         [9.0, 19.0] [11.0, 21.0]
    >>> back = nodes.backward([[49.0, 0.0], [0.0, 16.0]])
    >>> print(back.dgamma, back.dinverse, back.dmean)
    [-7.  8.] [-343.  128.] [-49.  -4.]
    >>> print(back.dx)
    [[ 24.   -1.5]
     [-24.    1.5]]
    """
    who = "batch_norm.steps"
    x = as_values(who, "x", x)
    if x.ndim != 2:
        raise ValueError(
            f"{who}: expected x of shape (N, D), got {x.shape}. Move the channels last and reshape to (-1, C)."
        )
    advice = "Give gamma and beta one entry per column of x."
    gamma = as_parameter(who, "gamma", gamma, x.shape[1:], advice)
    beta = as_parameter(who, "beta", beta, x.shape[1:], advice)
    eps = as_eps(who, eps)
    if len(x) == 1:
        raise ValueError(f"{who}: expected at least 2 rows in x, got 1. One value has no spread: use a larger batch.")
    with np.errstate(all="ignore"):
        nodes = reference_steps(x.astype(np.float64), gamma.astype(np.float64), beta.astype(np.float64), eps)
        nodes = replace(nodes, x=x, gamma=gamma, beta=beta, y=nodes.y.astype(x.dtype, copy=False))
    check_range(who, x, nodes.variance, (0,))
    if not nodes.root.all():
        raise ValueError(
            f"{who}: expected columns that vary, or eps > 0, got a variance of 0 in column "
            f"{int(np.flatnonzero(nodes.root == 0)[0])}. Give an eps such as 1e-5: the step 1 / root needs it."
        )
    return nodes


_MATRIX, _ROW = ("N", "D"), ("D",)

GRAPH = Graph(
    layer="batch_norm",
    inputs={"x": _MATRIX, "gamma": _ROW, "beta": _ROW},
    steps=(
        Step(
            "mean",
            "sum(x) / N",
            _ROW,
            "The centre of each column.",
            (Edge("x", "1 / N", "dmean / N", "An average: every row gets the same share."),),
        ),
        Step(
            "centred",
            "x - mean",
            _MATRIX,
            "Take the centre off: from here on a constant added to a column has no effect.",
            (
                Edge("x", "1", "dcentred", "A difference hands its gradient on."),
                Edge(
                    "mean", "-1", "-sum(dcentred)", "One mean was taken off all rows, so it collects minus their sum."
                ),
            ),
        ),
        Step(
            "squared",
            "centred * centred",
            _MATRIX,
            "How far each entry lies from the centre, whichever side.",
            (
                Edge(
                    "centred",
                    "2 * centred",
                    "2 * centred * dsquared",
                    "A square moves by twice its root times the move.",
                ),
            ),
        ),
        Step(
            "variance",
            "sum(squared) / N",
            _ROW,
            "The spread of each column: the average square.",
            (Edge("squared", "1 / N", "dvariance / N", "An average again: every row gets the same share."),),
        ),
        Step(
            "root",
            "sqrt(variance + eps)",
            _ROW,
            "The standard deviation; eps keeps it away from 0 where a column hardly varies.",
            (Edge("variance", "1 / (2 * root)", "droot / (2 * root)", "The larger a root is, the less it moves."),),
        ),
        Step(
            "inverse",
            "1 / root",
            _ROW,
            "What a column must be multiplied by to get the deviation 1.",
            (
                Edge(
                    "root",
                    "-1 / root**2",
                    "-dinverse / root**2",
                    "A larger deviation has a smaller inverse: the sign turns.",
                ),
            ),
        ),
        Step(
            "x_hat",
            "centred * inverse",
            _MATRIX,
            "The normalized x: every column has mean 0 and, but for eps, variance 1.",
            (
                Edge(
                    "inverse",
                    "centred",
                    "sum(centred * dx_hat)",
                    "A product: times the other factor; one inverse served all rows, so their shares are added.",
                ),
                Edge("centred", "inverse", "inverse * dx_hat", "A product: times the other factor."),
            ),
        ),
        Step(
            "scaled",
            "gamma * x_hat",
            _MATRIX,
            "Give each column the deviation that training finds best.",
            (
                Edge(
                    "gamma",
                    "x_hat",
                    "sum(x_hat * dscaled)",
                    "A product: times the other factor; one gamma served all rows, so their shares are added.",
                ),
                Edge("x_hat", "gamma", "gamma * dscaled", "A product: times the other factor."),
            ),
        ),
        Step(
            "y",
            "scaled + beta",
            _MATRIX,
            "Give each column the mean that training finds best.",
            (
                Edge(
                    "beta",
                    "1",
                    "sum(dy)",
                    "A sum hands its gradient on; one beta served all rows, so their shares are added.",
                ),
                Edge("scaled", "1", "dy", "A sum hands its gradient on."),
            ),
        ),
    ),
)
"""The same nine steps as data, to draw them and to test that the lines above compute what the texts say."""
