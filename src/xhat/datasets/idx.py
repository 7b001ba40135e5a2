"""Pictures with labels in four idx files, the form of Fashion-MNIST and of MNIST before it.

An idx file is a magic number (two zero bytes, the type, the number of axes), the axes' lengths as 32-bit
big-endian numbers, then the values. Only unsigned bytes are read, from .gz files or unpacked ones.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits"; Xiao, Rasul, Vollgraf 2017,
"Fashion-MNIST", arXiv:1708.07747, https://github.com/zalandoresearch/fashion-mnist
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from xhat.datasets.dataset import Dataset, pixel_names

_CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
# SHA-256 of the 10 000 test labels: what tells Fashion-MNIST from the digits that use the same file names.
_CLOTHES_TEST_LABELS = "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9"

_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

# Pictures shrink to about a half. What would grow a hundredfold was made to fill the memory.
_MOST_GROWTH = 100
_UNSUSPICIOUS = 1 << 26

Bytes = NDArray[np.uint8]


def load_named(places: Sequence[Path]) -> Dataset:
    """Load Fashion-MNIST from a folder `fashion-mnist` in one of `places`, or from Debian's."""
    for folder in (*(place / "fashion-mnist" for place in places), _DEBIAN_FOLDER):
        if holds_pictures(folder):
            return replace(load(folder), name="fashion-mnist", classes=_CLOTHES)
    raise FileNotFoundError(
        "datasets.load: expected the folder 'fashion-mnist' here, in data, in $XHAT_DATA or in "
        f"{_DEBIAN_FOLDER.parent}, got none. Get it with: apt-get install dataset-fashion-mnist, or download "
        "its four files from https://github.com/zalandoresearch/fashion-mnist into a folder and give the "
        "folder."
    )


def holds_pictures(folder: Path) -> bool:
    """Whether this is a folder for `load`: one with the training pictures in it."""
    return _find(folder, _TRAIN[0]) is not None


def load(folder: Path) -> Dataset:
    """Load a folder of the four files; its own split into training and test is kept.

    The classes have the names of Fashion-MNIST if the test labels are its labels, else they are the digits.
    """
    x, y = _read_pair(folder, *_TRAIN)
    x_test, y_test = _read_pair(folder, *_TEST)
    if x.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"datasets.load: expected pictures of one size in {folder}, got {x.shape[1:]} for training and "
            f"{x_test.shape[1:]} for the test. Put four files that belong together into the folder."
        )
    digest = hashlib.sha256(y_test.tobytes()).hexdigest()
    pixels = math.prod(x.shape[1:])
    return Dataset(
        name=folder.resolve().name,
        x=x.reshape(len(x), pixels).astype(np.float32),
        y=y.astype(np.int64),
        x_test=x_test.reshape(len(x_test), pixels).astype(np.float32),
        y_test=y_test.astype(np.int64),
        classes=_CLOTHES if digest == _CLOTHES_TEST_LABELS else tuple("0123456789"),
        features=pixel_names(pixels),
        image_shape=x.shape[1:],
    )


def _find(folder: Path, stem: str) -> Path | None:
    # The packed one first: it carries a checksum.
    return next((path for path in (folder / f"{stem}.gz", folder / stem) if path.is_file()), None)


def _read_pair(folder: Path, images: str, labels: str) -> tuple[Bytes, Bytes]:
    x, y = _read(folder, images, 3), _read(folder, labels, 1)
    if len(x) != len(y):
        raise ValueError(
            f"datasets.load: expected a label for every picture in {folder}, got {len(x)} pictures in "
            f"{images} and {len(y)} labels in {labels}. Put four files that belong together into the folder."
        )
    if y.max() > 9:
        raise ValueError(
            f"datasets.load: expected labels from 0 to 9 in {folder / labels}, got {y.max()}. Download the file again."
        )
    return x, y


def _read(folder: Path, stem: str, axes: int) -> Bytes:
    path = _find(folder, stem)
    if path is None:
        raise FileNotFoundError(
            f"datasets.load: expected {stem}.gz or {stem} in {folder}, got neither. "
            "Put all four files (training and test, pictures and labels) into the folder."
        )
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse(file, axes, path)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"datasets.load: expected an idx file of unsigned bytes with {axes} axes in {path}, got {error}. "
            "Download the file again."
        ) from None


def _parse(file: BinaryIO | gzip.GzipFile, axes: int, path: Path) -> Bytes:
    header = file.read(4 + 4 * axes)
    magic = bytes((0, 0, 8, axes))  # 8 is the type: unsigned byte
    if len(header) != 4 + 4 * axes:
        raise ValueError("a file that ends within its header")
    if header[:4] != magic:
        raise ValueError(f"a file that begins with {header[:4].hex()} instead of {magic.hex()}")
    shape = struct.unpack(f">{axes}I", header[4:])
    size = math.prod(shape)
    on_disk = path.stat().st_size
    most = max(_UNSUSPICIOUS, _MOST_GROWTH * on_disk) if path.suffix == ".gz" else on_disk
    if not 0 < size <= most:
        raise ValueError(f"a header that claims {size} bytes in a file of {on_disk}")
    data = file.read(size + 1)
    if len(data) != size:
        raise ValueError(f"{'more' if len(data) > size else 'less'} than the {size} bytes that its header claims")
    return np.frombuffer(data, np.uint8).reshape(shape)
