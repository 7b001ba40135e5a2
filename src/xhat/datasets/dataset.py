"""The data set itself, and the rules all sources share: what a class is, and how rows are held back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Features: TypeAlias = NDArray[np.floating[Any]]
Target: TypeAlias = NDArray[np.int64] | NDArray[np.float64]
Cell: TypeAlias = str | bool | int | float

INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Numbers to learn from, and numbers held back for the test.

    Attributes
    ----------
    name : str
        The name it was loaded by, or the name of the file without its ending.
    x : numpy.ndarray, shape (N, D), C-contiguous; float32 for pictures, float64 for tables
        Features in the source's own unit (pixels 0..16 or 0..255, table columns as they are), all finite.
    y : numpy.ndarray
        Classes: int64, shape (N,), numbers into `classes`. Regression: float64, shape (N, 1), in the target's
        own unit, all finite.
    x_test, y_test : numpy.ndarray
        The rows held back, in the same form as `x` and `y`.
    classes : tuple of str, or None
        The names of the classes by class number; None for regression.
    features : tuple of str
        The names of the D columns of `x`.
    image_shape : tuple of int, or None
        How a row of `x` becomes a picture, ``x[0].reshape(image_shape)``; None if the rows are no pictures.
    """

    name: str
    x: Features
    y: Target
    x_test: Features
    y_test: Target
    classes: tuple[str, ...] | None
    features: tuple[str, ...]
    image_shape: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        target = "regression" if self.classes is None else f"{len(self.classes)} classes"
        return (
            f"Dataset({self.name!r}: {len(self.x)} rows to learn from, {len(self.x_test)} for the test, "
            f"{len(self.features)} features, {target})"
        )


def pixel_names(count: int) -> tuple[str, ...]:
    """Name the columns of flattened pictures "pixel 0", "pixel 1" and so on."""
    return tuple(f"pixel {i}" for i in range(count))


def listing(names: Sequence[str]) -> str:
    """Write names for a message, the first twenty if there are more."""
    shown = ", ".join(map(repr, names[:20]))
    return shown if len(names) <= 20 else f"{shown}, … ({len(names)} in all)"


def first_unfit(values: NDArray[Any]) -> tuple[int, int] | None:
    """Find the first number of a matrix that float32 cannot hold: NaN, Inf, or larger than `LARGEST`."""
    unfit = ~(np.abs(values) <= np.float64(LARGEST))  # not >, which lets NaN through
    if not unfit.any():
        return None
    row, column = np.unravel_index(int(unfit.argmax()), unfit.shape)
    return int(row), int(column)


def number_classes(origin: str, cells: Sequence[Cell]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Count through the distinct values of a column of one type in sorted order, and name them as text.

    Numbers sort by value, text by code point, False before True. A single class is refused.
    """
    distinct = sorted(set(cells))
    if len(distinct) == 1:
        raise ValueError(
            f"datasets.load: expected two or more classes in {origin}, got only {str(distinct[0])!r}. "
            "Add rows of another class, or choose another target."
        )
    number = {cell: i for i, cell in enumerate(distinct)}
    return np.array([number[cell] for cell in cells], np.int64), tuple(map(str, distinct))


def find_classes(cells: Sequence[Cell], classes: Sequence[str]) -> NDArray[np.int64]:
    """Find each value among the names of known classes; -1 where it is none.

    Whole numbers are found in any spelling: "07" is class "7".
    """
    number = {name: i for i, name in enumerate(classes)}

    def find(cell: Cell) -> int:
        name = str(cell)
        if name not in number and INTEGER.fullmatch(name):
            name = str(int(name))
        return number.get(name, -1)

    return np.array([find(cell) for cell in cells], np.int64)


def rows_for_test(
    origin: str, y: Target, classes: Sequence[str] | None, fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw the rows to hold back: the share `fraction` of every class, or of all rows in regression.

    Of n rows the whole number nearest to ``fraction * n`` is drawn, but at least 1 and at most n - 1.
    """
    if classes is None:
        groups = [np.arange(len(y))]
        if len(y) < 2:
            raise ValueError(
                f"datasets.load: expected at least 2 rows in {origin}, got {len(y)}. "
                "Add rows: one has to be held back for the test."
            )
    else:
        groups = [np.flatnonzero(y == number) for number in range(len(classes))]
        alone = [name for name, rows in zip(classes, groups, strict=True) if len(rows) == 1]
        if alone:
            raise ValueError(
                f"datasets.load: expected at least 2 rows of every class in {origin}, got 1 of "
                f"{listing(alone)}. Add rows of the class or remove it; for regression, write the target "
                "with decimals (3.0)."
            )
    held_back = np.zeros(len(y), np.bool_)
    for rows in groups:
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        held_back[rng.permutation(rows)[:count]] = True
    return held_back
