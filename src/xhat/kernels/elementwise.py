"""Work on one number at a time, where NumPy alone is slow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def masked(values: NDArray[Any], keep: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the values where they are kept, and 0 elsewhere, also where they are Inf or NaN.

    A product with the mask would make NaN of a dropped Inf; `numpy.where` branches on every number and takes 20
    times as long on a random mask. Here a dropped number loses all its bits.

    Parameters
    ----------
    values : numpy.ndarray
        Any shape, contiguous, of a floating type.
    keep : numpy.ndarray
        bool, the same shape.

    Returns
    -------
    numpy.ndarray
        Like `values`.
    """
    bits = values.view(f"i{values.dtype.itemsize}")
    return np.asarray(bits & -keep.astype(bits.dtype)).view(values.dtype)
