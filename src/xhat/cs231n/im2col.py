"""Patches of pictures as columns, so that a convolution is one product of matrices.

Row `(c * field_height + i) * field_width + j` of the columns holds pixel (i, j) of channel c of every patch; the
columns go through positions row by row, and at each through the pictures.
"""

from typing import Any, cast

import numpy as np

from xhat.checks import Array

__all__ = ["col2im_indices", "get_im2col_indices", "im2col_indices"]

Shape = tuple[int, int, int, int]


def get_im2col_indices(
    x_shape: Shape, field_height: int, field_width: int, padding: int = 1, stride: int = 1
) -> tuple[Array, Array, Array]:
    """Return indices (k, i, j) such that `x_padded[:, k, i, j]` has shape (N, rows, positions).

    k is (rows, 1), the channel; i and j are (rows, positions), the pixel of the padded picture.

    Raises
    ------
    ValueError
        If the patch is larger than the padded picture. Positions that do not fit are left out.
    """
    _, channels, height, width = x_shape
    down = (height + 2 * padding - field_height) // stride + 1
    across = (width + 2 * padding - field_width) // stride + 1
    if down < 1 or across < 1:
        raise ValueError(
            f"get_im2col_indices: expected patches within {height + 2 * padding} x {width + 2 * padding} pixels, "
            f"got {field_height} x {field_width}. Use smaller patches or more padding."
        )
    k, row, column = np.indices((channels, field_height, field_width)).reshape(3, -1, 1)
    top, left = stride * np.indices((down, across)).reshape(2, 1, -1)
    return k, row + top, column + left


def im2col_indices(x: Array, field_height: int, field_width: int, padding: int = 1, stride: int = 1) -> Array:
    """Return the patches of x (N, C, H, W), padded with zeros, as columns.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.cs231n.im2col import im2col_indices
    >>> im2col_indices(np.arange(6).reshape(1, 1, 2, 3), 2, 2, padding=0)
    array([[0, 1],
           [1, 2],
           [3, 4],
           [4, 5]])
    """
    indices = get_im2col_indices(_shape(x), field_height, field_width, padding, stride)
    edge = (padding, padding)
    patches = np.pad(x, ((0, 0), (0, 0), edge, edge))[(slice(None), *indices)]
    return patches.transpose(1, 2, 0).reshape(patches.shape[1], -1)


def col2im_indices(
    cols: Array, x_shape: Shape, field_height: int = 3, field_width: int = 3, padding: int = 1, stride: int = 1
) -> Array:
    """Return pictures (N, C, H, W) in which every pixel is the sum of its places in the columns.

    The transpose of `im2col_indices`: the gradient of the pictures from that of the columns.
    """
    count, channels, height, width = x_shape
    indices = get_im2col_indices(x_shape, field_height, field_width, padding, stride)
    patches = cols.reshape(len(indices[1]), -1, count).transpose(2, 0, 1)
    padded = np.zeros((count, channels, height + 2 * padding, width + 2 * padding), cols.dtype)
    np.add.at(padded, cast(Any, (slice(None), *indices)), patches)
    return padded[:, :, padding : padding + height, padding : padding + width]


def _shape(x: Array) -> Shape:
    count, channels, height, width = x.shape
    return count, channels, height, width
