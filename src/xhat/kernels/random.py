"""Random numbers that are a function of their place, and dropout with them: no mask is stored.

Philox4x32 makes a block of four words of 32 bits from a counter and a key. The number at flat index i of an array goes
by word i % 4 of block i // 4, so it is kept or dropped whatever the number of threads, and by whichever loop. It is
kept if its word is at least `rate * 2**32`, rounded to an integer.

`philox` and `kept` are the NumPy form, for any type; `dropout` is the compiled loop. numpy.random.Philox cannot serve:
it is Philox4x64 with ten rounds.

Source: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", SC11. By its table 2, seven
rounds pass all of TestU01's BigCrush.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xhat import kernels

__all__ = ["dropout", "kept", "philox"]

Numbers: TypeAlias = NDArray[np.floating[Any]]

ROUNDS = 7

_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)
_FACTORS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_STEPS = (0x9E3779B9, 0xBB67AE85)
_AT_ONCE = 1 << 18  # blocks; bounds the memory in use


def philox(counters: NDArray[np.uint64], key: int, rounds: int = ROUNDS) -> NDArray[np.uint32]:
    """Return a block of four words for each counter.

    Parameters
    ----------
    counters : numpy.ndarray
        (4, n) uint64: the four words of 32 bits of each counter.
    key : int
        From 0 to 2**64 - 1.
    rounds : int
        How often the words are mixed.

    Returns
    -------
    numpy.ndarray
        (n, 4) uint32.
    """
    c0, c1, c2, c3 = counters
    keys = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(rounds):
        first, second = c0 * _FACTORS[0], c2 * _FACTORS[1]
        c0, c1, c2, c3 = (
            (second >> _HIGH) ^ c1 ^ np.uint64(keys[0]),
            second & _LOW,
            (first >> _HIGH) ^ c3 ^ np.uint64(keys[1]),
            first & _LOW,
        )
        keys = [(part + step) & 0xFFFFFFFF for part, step in zip(keys, _STEPS, strict=True)]
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def kept(shape: tuple[int, ...], key: int, rate: float) -> NDArray[np.bool_]:
    """Return which numbers dropout keeps.

    Parameters
    ----------
    shape : tuple of int
        Of the numbers.
    key : int
        From 0 to 2**64 - 1.
    rate : float
        From 0 to 1: the share that is dropped.

    Returns
    -------
    numpy.ndarray
        bool, of that shape.
    """
    size = math.prod(shape)
    keep = np.empty(size, np.bool_)
    threshold = np.uint64(round(rate * 2**32))
    for first in range(0, -(-size // 4), _AT_ONCE):
        block = np.arange(first, min(first + _AT_ONCE, -(-size // 4)), dtype=np.uint64)
        zero = np.zeros_like(block)
        words = philox(np.stack([block & _LOW, block >> _HIGH, zero, zero]), key).ravel()
        part = keep[4 * first : 4 * (first + block.size)]
        part[...] = words[: part.size] >= threshold
    return keep.reshape(shape)


def dropout(x: Numbers, key: int, rate: float, out: Numbers) -> None:
    """Write `x / (1 - rate)` into `out` where `kept`, else 0, also where x is NaN or Inf. Backward is the same loop.

    Parameters
    ----------
    x : numpy.ndarray
        C-contiguous, float32 or float64.
    key : int
        From 0 to 2**64 - 1.
    rate : float
        From 0 to 1: the share that is dropped. At 1 all is 0.
    out : numpy.ndarray
        Like x.

    Raises
    ------
    TypeError
        If an array has another type.
    ValueError
        If the rate is not from 0 to 1, shapes differ, an array is not contiguous, aligned or writable, or memory is
        shared.
    """
    kernels.native.dropout(x, key, rate, out)
