"""Pictures in a grid, for one call of imshow."""

import math
from collections.abc import Sequence

import numpy as np

from xhat.checks import Array

__all__ = ["vis_grid", "vis_nn", "visualize_grid"]


def visualize_grid(Xs: Array, ubound: float = 255.0, padding: int = 1) -> Array:
    """Lay pictures out in a square grid, each stretched to the full range.

    Parameters
    ----------
    Xs : array, shape (N, H, W, C)
    ubound : float
        The brightest value of each picture becomes this, the darkest 0; a picture of one value becomes 0.
    padding : int
        Pixels of 0 between pictures.

    Returns
    -------
    array, shape (A H + (A - 1) padding, A W + (A - 1) padding, C), with A the square root of N, rounded up

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.cs231n.vis_utils import visualize_grid
    >>> visualize_grid(np.arange(12.0).reshape(3, 2, 2, 1))[:, :, 0]
    array([[  0.,  85.,   0.,   0.,  85.],
           [170., 255.,   0., 170., 255.],
           [  0.,   0.,   0.,   0.,   0.],
           [  0.,  85.,   0.,   0.,   0.],
           [170., 255.,   0.,   0.,   0.]])
    """
    size = math.ceil(math.sqrt(len(Xs)))
    low, high = Xs.min((1, 2, 3), keepdims=True), Xs.max((1, 2, 3), keepdims=True)
    stretched = ubound * (Xs - low) / np.where(high > low, high - low, 1)
    grid = _tiled([stretched[i : i + size] for i in range(0, len(Xs), size)], size, size, padding, 0.0)
    return grid[: grid.shape[0] - padding, : grid.shape[1] - padding]


def vis_grid(Xs: Array) -> Array:
    """Lay pictures (N, H, W, C) out in a square, all stretched together to 0 ... 1, with a dark line after each."""
    size = math.ceil(math.sqrt(len(Xs)))
    return _stretched(_tiled([Xs[i : i + size] for i in range(0, len(Xs), size)], size, size, 1, Xs.min()))


def vis_nn(rows: Sequence[Sequence[Array]]) -> Array:
    """Lay out rows of pictures (H, W, C), all stretched together to 0 ... 1, with a line of the value 1 after each."""
    return _stretched(_tiled(rows, len(rows), len(rows[0]), 1, 1.0))


def _tiled(rows: Sequence[Sequence[Array] | Array], down: int, across: int, gap: int, background: float) -> Array:
    """Return a canvas of the background with the pictures on it, each followed by a gap below and to the right."""
    picture = rows[0][0]
    height, width, colours = picture.shape
    canvas = np.full((down * (height + gap), across * (width + gap), colours), background, picture.dtype)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (height + gap), j * (width + gap)
            canvas[top : top + height, left : left + width] = image
    return canvas


def _stretched(canvas: Array) -> Array:
    """Return the canvas with its darkest value at 0 and its brightest at 1."""
    low, high = canvas.min(), canvas.max()
    return (canvas - low) / (high - low if high > low else 1)
