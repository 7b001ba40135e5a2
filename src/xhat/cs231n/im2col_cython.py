"""The names of the course's compiled extension, for the functions of `im2col`; nothing here is compiled."""

from xhat.checks import Array
from xhat.cs231n.im2col import Shape, col2im_indices, im2col_indices

__all__ = ["col2im_6d_cython", "col2im_cython", "im2col_cython"]


def im2col_cython(x: Array, field_height: int, field_width: int, padding: int, stride: int) -> Array:
    """Return the patches of x (N, C, H, W), padded with zeros, as columns; see `im2col_indices`."""
    return im2col_indices(x, field_height, field_width, padding, stride)


def col2im_cython(
    cols: Array, N: int, C: int, H: int, W: int, field_height: int, field_width: int, padding: int, stride: int
) -> Array:
    """Return pictures (N, C, H, W) in which every pixel is the sum of its places in the columns."""
    shape: Shape = (N, C, H, W)
    return col2im_indices(cols, shape, field_height, field_width, padding, stride)


def col2im_6d_cython(cols: Array, N: int, C: int, H: int, W: int, HH: int, WW: int, pad: int, stride: int) -> Array:
    """Return the same of columns (C, HH, WW, N, H', W'), where positions come after pictures.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.cs231n.im2col_cython import col2im_6d_cython
    >>> col2im_6d_cython(np.ones((1, 2, 2, 1, 1, 2)), 1, 1, 2, 3, 2, 2, 0, 1)
    array([[[[1., 2., 1.],
             [1., 2., 1.]]]])
    """
    return col2im_cython(cols.transpose(0, 1, 2, 4, 5, 3), N, C, H, W, HH, WW, pad, stride)
