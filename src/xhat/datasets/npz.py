"""Arrays in an .npz file, as `numpy.savez` and `numpy.savez_compressed` write it.

NumPy's own reader takes the last of two members of one name, and allocates what a header claims. Here each
member is held against the directory of the archive and the size of the file before any memory is taken.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from xhat.datasets.dataset import (
    LARGEST,
    Dataset,
    Features,
    Target,
    find_classes,
    first_unfit,
    listing,
    number_classes,
    pixel_names,
    rows_for_test,
)

_X = ("x", "X", "data")
_Y = ("y", "labels", "target")

# What grows more than a hundredfold, and beyond this size, was made to fill the memory.
_MOST_GROWTH = 100
_UNSUSPICIOUS = 1 << 28


class _Part(NamedTuple):
    """The rows for training, or those for the test."""

    x: Features
    features: tuple[str, ...]
    image_shape: tuple[int, ...] | None
    y: NDArray[Any] | None  # (N, 1) float64, or (N,) of text, bool or integers


def load(path: Path, test_fraction: float, rng: np.random.Generator) -> Dataset:
    """Load the arrays; if `x_test` and `y_test` are not among them, rows for the test are drawn."""
    arrays = _read(path)
    train, test = _part(path, arrays, ""), _part(path, arrays, "_test")
    if train is None or train.y is None:
        raise ValueError(
            f"datasets.load: expected arrays x and y in {path}, got {listing(sorted(arrays)) or 'neither'}. "
            "Save them with numpy.savez(path, x=..., y=...)."
        )
    y, classes = train.y, None
    if y.ndim == 1:
        y, classes = number_classes(str(path), y.tolist())
    x = train.x
    if test is None:
        held_back = rows_for_test(str(path), y, classes, test_fraction, rng)
        x, x_test, y, y_test = x[~held_back], x[held_back], y[~held_back], y[held_back]
    elif test.y is None or (test.features, test.image_shape) != (train.features, train.image_shape):
        got = "no y_test" if test.y is None else f"{len(train.features)} and {len(test.features)} numbers per row"
        raise ValueError(
            f"datasets.load: expected x_test and y_test in {path} of the same kind as x and y, got {got}. "
            "Save arrays that belong together."
        )
    else:
        x_test, y_test = test.x, _target("datasets.load", path, test.y, classes)
    return Dataset(path.stem, x, y, x_test, y_test, classes, train.features, train.image_shape)


def read_features(path: Path, features: Sequence[str], classes: Sequence[str] | None) -> tuple[Features, Target | None]:
    """Read the test rows if the file has such, else all, and their labels if it has them."""
    arrays = _read(path)
    part = _part(path, arrays, "_test") or _part(path, arrays, "")
    if part is None or len(part.features) != len(features):
        got = "no x" if part is None else str(len(part.features))
        raise ValueError(
            f"datasets.read_features: expected {len(features)} numbers per row of x in {path}, as the model "
            f"was trained on, got {got}. Save the same columns in the same order."
        )
    return part.x, None if part.y is None else _target("datasets.read_features", path, part.y, classes)


def read_matrix(path: Path) -> Features:
    """Read the array `x` of an .npz file, or the one array of an .npy file."""
    arrays = {"x": _read_one(path)} if path.suffix.lower() == ".npy" else _read(path)
    part = _part(path, arrays, "")
    if part is None:
        raise ValueError(f"datasets.read_matrix: expected an array x in {path}, got none. Save it as x.")
    return part.x


def _part(path: Path, arrays: dict[str, NDArray[Any]], ending: str) -> _Part | None:
    x, y = _pick(path, arrays, _X, ending), _pick(path, arrays, _Y, ending)
    if x is None:
        if y is not None and ending:
            raise ValueError(
                f"datasets.load: expected x_test beside y_test in {path}, got none. Save both, or neither."
            )
        return None
    name = f"x{ending}"
    if x.dtype.kind not in "biuf" or x.ndim < 2 or x.size == 0:
        raise ValueError(
            f"datasets.load: expected {name} in {path} as numbers of shape (rows, features) or (rows, …) for "
            f"pictures, got {x.dtype} of shape {x.shape}. Convert or reshape it."
        )
    rows = x.reshape(len(x), -1)
    place = first_unfit(rows) if x.dtype.kind == "f" else None
    if place is not None:
        raise ValueError(
            f"datasets.load: expected finite numbers of size up to {LARGEST:.1e} in {name} of {path}, "
            f"got {rows[place]} in row {place[0]}. Correct the value, or remove the row."
        )
    image_shape = x.shape[1:] if _is_picture(x.shape[1:]) else None
    width = rows.shape[1]
    features = pixel_names(width) if image_shape else tuple(f"column {i}" for i in range(width))
    labels = None if y is None else _labels(path, f"y{ending}", y, len(x))
    return _Part(
        np.ascontiguousarray(rows, np.float32 if x.itemsize < 4 or x.dtype == np.float32 else np.float64),
        features,
        image_shape,
        labels,
    )


def _is_picture(shape: tuple[int, ...]) -> bool:
    """Tell whether a sample is a picture: height by width, with an axis of 1 or 3 for grey or colour at an end."""
    return len(shape) == 2 or (len(shape) == 3 and (shape[0] in (1, 3) or shape[2] in (1, 3)))


def _pick(path: Path, arrays: dict[str, NDArray[Any]], names: Sequence[str], ending: str) -> NDArray[Any] | None:
    found = [name + ending for name in names if name + ending in arrays]
    if len(found) > 1:
        raise ValueError(
            f"datasets.load: expected one of the arrays {listing(found)} in {path}, got all of them. Save one."
        )
    return arrays[found[0]] if found else None


def _labels(path: Path, name: str, y: NDArray[Any], rows: int) -> NDArray[Any]:
    if y.shape not in ((rows,), (rows, 1)):
        advice = (
            "Save one-hot labels as y.argmax(axis=1)." if y.ndim == 2 and len(y) == rows else "Save one label per row."
        )
        raise ValueError(f"datasets.load: expected {name} of shape ({rows},) in {path}, got {y.shape}. {advice}")
    if y.dtype.kind not in "Ubiuf":
        raise ValueError(
            f"datasets.load: expected {name} in {path} as text, bool, integers or floats, got {y.dtype}. Convert it."
        )
    if y.dtype.kind != "f":
        return y.reshape(rows)
    y = y.reshape(rows, 1).astype(np.float64)
    if not np.isfinite(y).all():
        row = int(np.isfinite(y).argmin())
        raise ValueError(
            f"datasets.load: expected finite numbers in {name} of {path}, got {y[row, 0]} in row {row}. "
            "Correct the value, or remove the row."
        )
    return y


def _target(who: str, path: Path, y: NDArray[Any], classes: Sequence[str] | None) -> Target:
    """Bring labels into the form that known classes, or a regression, have."""
    if classes is None and y.dtype.kind != "U":
        return y.reshape(len(y), 1).astype(np.float64)
    if classes is None or y.ndim == 2:
        expected = "numbers" if classes is None else "classes, as text, bool or integers"
        raise ValueError(
            f"{who}: expected labels in {path} that are {expected}, got {y.dtype}. Save labels of the kind trained on."
        )
    numbers = find_classes(y.tolist(), classes)
    if numbers.min() < 0:
        row = int(numbers.argmin())
        raise ValueError(
            f"{who}: expected one of the classes {listing(classes)} in {path}, got {str(y[row])!r} in row "
            f"{row} of the labels. Correct it, or remove the row."
        )
    return numbers


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays that have a meaning here, and no others."""
    wanted = [name + ending for ending in ("", "_test") for name in (*_X, *_Y)]
    try:
        with zipfile.ZipFile(path) as archive:
            members: dict[str, zipfile.ZipInfo] = {}
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name in members:
                    raise ValueError(f"two members of the name {name}")
                if name in wanted:
                    members[name] = member
            size, on_disk = sum(member.file_size for member in members.values()), path.stat().st_size
            if size > max(_UNSUSPICIOUS, _MOST_GROWTH * on_disk):
                raise ValueError(f"{size} bytes of arrays in a file of {on_disk}; numpy.savez packs without shrinking")
            return {name: _array(archive, member) for name, member in members.items()}
    # What a damaged file makes of zlib, zipfile and NumPy has no end of names.
    except Exception as error:
        raise ValueError(
            f"datasets.load: expected an .npz file of plain arrays in {path}, got "
            f"{str(error)[:200] or type(error).__name__}. Write it again with numpy.savez."
        ) from None


def _read_one(path: Path) -> NDArray[Any]:
    """Read an .npy file, held against its size before memory is taken."""
    try:
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:
        # NumPy's own words advise to load what may run code
        got = "Python objects or no array" if "pickle" in str(error) else str(error)[:200] or type(error).__name__
        raise ValueError(
            f"datasets.load: expected an .npy file of numbers in {path}, got {got}. Write it again with numpy.save."
        ) from None


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("a way of packing that NumPy does not use")
    with archive.open(member) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers of Python 2 are read, with a warning that helps nobody here
        version = npy.read_magic(file)
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, columns_first, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError(f"Python objects in {member.filename}, which are not read because they can run code")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size != member.file_size - file.tell():
            raise ValueError(f"a header that claims the wrong size, {shape}, in {member.filename}")
        data = file.read(size)  # a limit, because the directory may claim less than unpacking gives
    if len(data) != size:
        raise ValueError(f"half of {member.filename}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if columns_first else "C")
