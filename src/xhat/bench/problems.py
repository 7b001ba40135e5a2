"""What is computed: a norm of an array of some size, its textbook formulas, and the bytes that it must move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]
Direction: TypeAlias = Literal["forward", "backward"]

EPS = 1e-5
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")
SMALLEST_SIZE = 1 << 10
"""Bytes of x. Below it some norms would have nothing to average over."""

_MOST_FEATURES = 1024
_CHANNELS = 64
_USUAL_L2 = 1 << 20


@dataclass(frozen=True)
class Problem:
    """One norm of one array, float32.

    Attributes
    ----------
    norm : str
        One of `NORMS`.
    shape : tuple of int
        Of x.
    view : tuple of int
        The shape in which a statistic is taken over whole axes; in C order the same numbers.
    axes : tuple of int
        Those axes of the view.
    parameter : tuple of int
        The shape in which gamma and beta meet the view.
    groups : int
        Of group norm; else 1.
    """

    norm: str
    shape: tuple[int, ...]
    view: tuple[int, ...]
    axes: tuple[int, ...]
    parameter: tuple[int, ...]
    groups: int = 1

    @property
    def centred(self) -> bool:
        """Whether the mean is taken off."""
        return self.norm != "rms"

    @property
    def channels_last(self) -> bool:
        """Whether the channels of an image lie beside each other."""
        return self.norm == "batch NHWC"

    @property
    def features(self) -> int:
        """How many entries gamma and beta have."""
        return math.prod(self.parameter)

    @property
    def nbytes(self) -> int:
        """The bytes of x."""
        return 4 * math.prod(self.shape)

    def traffic(self, direction: Direction, l2: int) -> int:
        """Return the bytes that must be read and written.

        Forward x is read and y is written; backward dy and x are read and dx is written. Nothing can be written before
        all numbers of a statistic are read: where these outgrow the L2 cache, the inputs are read twice. A row or a
        plane lies in one piece; the channels of (N, D) and channels-last arrays lie side by side, so that all of x
        counts.

        Parameters
        ----------
        direction : str
            `forward` or `backward`.
        l2 : int
            Bytes of the cache.

        Returns
        -------
        int
            Bytes.
        """
        inputs = 1 if direction == "forward" else 2
        together = math.prod(self.view) if self.axes == (0,) else math.prod(self.view[axis] for axis in self.axes)
        reads = inputs if 4 * inputs * together <= l2 else 2 * inputs
        return (reads + 1) * self.nbytes


def _matrix(norm: str, size: int) -> Problem:
    count = size // 4
    features = min(2 ** int(math.log2(count) / 2), _MOST_FEATURES)
    shape = count // features, features
    return Problem(norm, shape, shape, (0,) if norm == "batch" else (1,), (1, features))


def _images(norm: str, size: int) -> Problem:
    count = size // 4
    channels = _CHANNELS if size >= 1 << 16 else 8
    side = 56 if size >= 1 << 24 else 28 if size >= 1 << 19 else 8 if size >= 1 << 14 else 4
    samples = max(1, count // (channels * side * side))
    shape = samples, channels, side, side
    pixels = side * side
    if norm == "batch NHWC":
        return Problem(norm, (samples, side, side, channels), (samples * pixels, channels), (0,), (1, channels))
    if norm == "batch NCHW":
        return Problem(norm, shape, (samples, channels, pixels), (0, 2), (1, channels, 1))
    if norm == "instance":
        return Problem(norm, shape, (samples, channels, pixels), (2,), (1, channels, 1))
    groups = max(2, channels // 8)
    view = samples, groups, channels // groups, pixels
    return Problem(norm, shape, view, (2, 3), (1, groups, channels // groups, 1), groups)


_MAKERS = {
    "batch": _matrix,
    "batch NCHW": _images,
    "batch NHWC": _images,
    "layer": _matrix,
    "rms": _matrix,
    "group": _images,
    "instance": _images,
}

NORMS = tuple(_MAKERS)
"""What can be measured. `batch` is of (N, D), `batch NHWC` of channels-last images."""


def problem(norm: str, size: int) -> Problem:
    """Return a norm of an array of about so many bytes, at most if that is possible.

    Parameters
    ----------
    norm : str
        One of `NORMS`.
    size : int
        Bytes of x, at least `SMALLEST_SIZE`.

    Returns
    -------
    Problem
        Its shapes.
    """
    return _MAKERS[norm](norm, size)


def textbook_forward(x: Any, gamma: Any, beta: Any, problem: Problem) -> tuple[Any, Any, Any]:
    """Normalize as textbooks do, in the type of x; NumPy's arrays and JAX's alike.

    Parameters
    ----------
    x : array
        In the shape of the problem's view.
    gamma, beta : array
        In the shape of its parameters.
    problem : Problem
        What is computed.

    Returns
    -------
    y, x_hat, rstd : array
        What backward needs comes along.
    """
    axes = problem.axes
    if problem.centred:
        centre = x - x.mean(axes, keepdims=True)
        rstd = (x.var(axes, keepdims=True) + EPS) ** -0.5
    else:
        centre = x
        rstd = ((x * x).mean(axes, keepdims=True) + EPS) ** -0.5
    x_hat = centre * rstd
    y = gamma * x_hat
    return (y + beta if problem.centred else y), x_hat, rstd


def textbook_backward(dy: Any, x_hat: Any, rstd: Any, gamma: Any, problem: Problem) -> tuple[Any, Any, Any]:
    """Return the gradients of `textbook_forward`.

    Parameters
    ----------
    dy, x_hat : array
        In the shape of the problem's view.
    rstd, gamma : array
        As they came from or went into `textbook_forward`.
    problem : Problem
        What is computed.

    Returns
    -------
    dx, dgamma, dbeta : array
        dbeta also where there is no beta.
    """
    axes = problem.axes
    samples = tuple(axis for axis, size in enumerate(problem.parameter) if size == 1)
    dgamma, dbeta = (dy * x_hat).sum(samples), dy.sum(samples)
    dx_hat = dy * gamma
    along_x_hat = (dx_hat * x_hat).mean(axes, keepdims=True)
    along_ones = dx_hat.mean(axes, keepdims=True) if problem.centred else 0
    return rstd * (dx_hat - along_ones - x_hat * along_x_hat), dgamma, dbeta


@dataclass(frozen=True)
class Data:
    """The arrays of a problem, float32, and the truth about them, float64 in the shape of the view.

    Attributes
    ----------
    x, dy : numpy.ndarray
        In the shape of the problem.
    gamma, beta : numpy.ndarray
        (features,).
    y, dx, dgamma, dbeta : numpy.ndarray
        The results, float64.
    y_scale, dx_scale : numpy.ndarray
        What errors are relative to: the largest |y| of each statistic, and the largest |gamma · dy| times its rstd.
    """

    x: Array
    dy: Array
    gamma: Array
    beta: Array
    y: Array
    dx: Array
    dgamma: Array
    dbeta: Array
    y_scale: Array
    dx_scale: Array


def make(problem: Problem) -> Data:
    """Draw the arrays of a problem, always the same, and compute the truth.

    Parameters
    ----------
    problem : Problem
        What is computed.

    Returns
    -------
    Data
        Its arrays.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal(problem.shape, np.float32)
    dy = rng.standard_normal(problem.shape, np.float32)
    gamma = rng.uniform(0.5, 1.5, problem.features).astype(np.float32)
    beta = rng.standard_normal(problem.features, np.float32)
    wide_gamma, wide_beta = (p.astype(np.float64).reshape(problem.parameter) for p in (gamma, beta))
    y, x_hat, rstd = textbook_forward(x.reshape(problem.view).astype(np.float64), wide_gamma, wide_beta, problem)
    y_scale = np.abs(y).max(problem.axes, keepdims=True)
    wide_dy = dy.reshape(problem.view).astype(np.float64)
    dx, dgamma, dbeta = textbook_backward(wide_dy, x_hat, rstd, wide_gamma, problem)
    dx_scale = np.abs(wide_gamma * wide_dy).max(problem.axes, keepdims=True) * rstd
    return Data(x, dy, gamma, beta, y, dx, dgamma.reshape(-1), dbeta.reshape(-1), y_scale, dx_scale)


def l2_bytes() -> int:
    """Return the size of this processor's second cache, or 1 MB where the system does not tell.

    Returns
    -------
    int
        Bytes.
    """
    try:
        told = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return int(told.removesuffix("K")) << 10
    except (OSError, ValueError):
        return _USUAL_L2
