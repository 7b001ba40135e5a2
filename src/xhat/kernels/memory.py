"""Memory for large results, used again and again.

Fresh pages from the system cost more than a normalization that fills them. So the memory of a large array made by
`empty` comes back when the array and the last view of it are gone, and serves a later one of about the same size. It
begins at a multiple of 2 MB and asks the system for large pages.

To its user such an array is like any other, except that it does not own its memory: `array.flags.owndata` is False,
`array.base` is the owner, and the method `array.resize` refuses, as for any view. Copies and pickles are ordinary.

A part of what came back is kept, up to a limit (`set_idle_memory`): 1 GiB, or an eighth of the memory that the process
may use if that is less. Beyond it, and before an allocation fails, the longest unused goes back to the system. A forked
child starts without idle memory.
"""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple, SupportsIndex, cast

import numpy as np
from numpy.typing import NDArray

from xhat import kernels
from xhat.kernels import granted

SMALLEST = 4 << 20  # bytes; what is smaller comes from NumPy, which recycles it well

_LARGEST = 1 << 48  # bytes; NumPy says better what is wrong with more
_USUAL_IDLE = 1 << 30


class Memory(NamedTuple):
    """How much memory is held for large arrays, in bytes.

    Attributes
    ----------
    used : int
        By arrays that are alive.
    idle : int
        By none, kept for later ones.
    limit : int
        How much may be idle.
    """

    used: int
    idle: int
    limit: int


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a new C-contiguous array whose contents are not set, like `numpy.empty`.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        A type of numbers.

    Returns
    -------
    numpy.ndarray
        Writable. Whatever was in its memory before, results of earlier calls too, is still there.

    Raises
    ------
    MemoryError
        NumPy's, if the system has no such memory.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < SMALLEST or size > _LARGEST or not _recycles:
        return np.empty(shape, dtype)
    try:
        buffer = kernels.native.Buffer(size)
    except MemoryError:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, cast("memoryview", buffer))  # any buffer will do


def set_idle_memory(limit: SupportsIndex) -> None:
    """Set how much memory of arrays that are gone is kept for new ones, in the whole process.

    Parameters
    ----------
    limit : int
        Bytes, >= 0. With 0 nothing is kept, and new arrays are `numpy.empty`'s.

    Raises
    ------
    TypeError
        If limit is not an integer.
    ValueError
        If limit is negative or larger than any memory.
    """
    global _recycles
    try:
        size = operator.index(limit)
    except TypeError:
        raise TypeError(
            f"set_idle_memory: expected an integer, got {limit!r} ({type(limit).__name__}). Pass a number of bytes."
        ) from None
    if not 0 <= size <= _LARGEST:
        raise ValueError(
            f"set_idle_memory: expected limit from 0 to 2**48, got {size}. Pass a number of bytes, 0 to keep no memory."
        )
    if kernels.native:
        kernels.native.set_idle_memory(size)
        _recycles = size > 0


def get_memory() -> Memory:
    """Return how much memory large arrays use, how much is idle, and how much may be; zeros where there are no kernels.

    Returns
    -------
    Memory
    """
    if not kernels.native:
        return Memory(0, 0, 0)
    return Memory(*kernels.native.memory_held(), kernels.native.get_idle_memory())


_recycles = False
set_idle_memory(min(_USUAL_IDLE, granted.memory() // 8))
