"""CIFAR-10: 60 000 colour pictures of 32 by 32 pixels, 0..255, in ten classes.

Read are the two forms that its authors give out, each as the archive or as the folder it unpacks to:
`cifar-10-python.tar.gz` (pickles, see `xhat.datasets.pickles`) and `cifar-10-binary.tar.gz`. Of an archive
only the six batches are read, in memory; nothing is unpacked to the disk.

Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images",
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xhat.datasets import pickles
from xhat.datasets.dataset import Dataset, pixel_names
from xhat.datasets.pickles import Call, Name

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_PIXELS = 3 * 32 * 32

# Directory entries, the readme and the archive's own headers; the real ones come to 0.02 MB.
_MOST_OTHER_BYTES = 1 << 20

Images = NDArray[np.uint8]  # (images, 3072)
Labels = NDArray[np.int64]  # (images,)


@dataclass(frozen=True)
class _Form:
    """One of the two forms in which the data set is given out."""

    folder: str
    archive: str
    ending: str
    bytes_per_image: int  # at most
    parse: Callable[[bytes, int], tuple[Images, Labels]]


def find(folder: Path) -> Path | None:
    """Return `folder` if it holds the batches, else the folder or archive in it that does."""
    for form in _FORMS:
        if (folder / (_BATCHES[0] + form.ending)).is_file():
            return folder
    for form in _FORMS:
        if (folder / form.folder).is_dir():
            return folder / form.folder
    for form in _FORMS:
        if (folder / form.archive).is_file():
            return folder / form.archive
    return None


def load_named(places: Sequence[Path]) -> Dataset:
    """Load the first archive or folder that `find` sees in `places`."""
    for place in places:
        found = find(place)
        if found is not None:
            return load(found)
    names = " or ".join(name for form in _FORMS for name in (form.archive, form.folder))
    raise FileNotFoundError(
        f"datasets.load: expected {names} here, in data or in $XHAT_DATA, got none. "
        "Download an archive from https://www.cs.toronto.edu/~kriz/cifar.html, or give its path."
    )


def load(path: Path, images_per_batch: int = 10_000) -> Dataset:
    """Load an archive, or a folder that holds the six batches.

    Parameters
    ----------
    path : pathlib.Path
        A .tar.gz of either form, or a folder for which `find` returns itself.
    images_per_batch : int
        Other than 10 000 only for data made up in the same form.
    """
    x = np.empty((6 * images_per_batch, _PIXELS), np.float32)
    y = np.empty(6 * images_per_batch, np.int64)
    left = set(_BATCHES)
    try:
        batches = _in_folder(path, images_per_batch) if path.is_dir() else _in_archive(path, images_per_batch)
        for name, form, data in batches:
            if name not in left:
                raise ValueError(f"two of {name}")
            left.remove(name)
            start = _BATCHES.index(name) * images_per_batch
            rows = slice(start, start + images_per_batch)
            try:
                x[rows], y[rows] = form.parse(data, images_per_batch)
            except ValueError as error:
                raise ValueError(f"{error}, in {name}") from None
        if left:
            raise ValueError(f"none of {', '.join(sorted(left))}")
    # What a damaged archive makes of zlib and tarfile has no end of names.
    except Exception as error:
        reason = str(error)[:200] or type(error).__name__
        raise ValueError(
            f"datasets.load: expected the six batches of CIFAR-10, as its authors give them out, in {path}, "
            f"got {reason}. Download it again from https://www.cs.toronto.edu/~kriz/cifar.html."
        ) from None
    train = 5 * images_per_batch
    return Dataset(
        name="cifar10",
        x=x[:train],
        y=y[:train],
        x_test=x[train:],
        y_test=y[train:],
        classes=_CLASSES,
        features=pixel_names(_PIXELS),
        image_shape=(3, 32, 32),
    )


def _in_folder(folder: Path, images: int) -> Iterator[tuple[str, _Form, bytes]]:
    form = next(form for form in _FORMS if (folder / (_BATCHES[0] + form.ending)).is_file())
    for name in _BATCHES:
        file = folder / (name + form.ending)
        if file.is_file():
            _check_size(name, file.stat().st_size, form, images)
            yield name, form, file.read_bytes()


def _in_archive(path: Path, images: int) -> Iterator[tuple[str, _Form, bytes]]:
    wanted = {f"{form.folder}/{name}{form.ending}": (name, form) for form in _FORMS for name in _BATCHES}
    with gzip.open(path) as unzipped:
        content = _Bounded(unzipped)
        with tarfile.open(fileobj=cast(Any, content), mode="r|") as archive:
            for member in archive:
                if member.name.removeprefix("./") not in wanted:
                    continue
                name, form = wanted[member.name.removeprefix("./")]
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                    raise ValueError(f"something else than a plain file for {name}")
                _check_size(name, member.size, form, images)
                content.left += member.size
                file = archive.extractfile(member)
                yield name, form, b"" if file is None else file.read()
        while content.read(1 << 16):  # gzip compares its checksum at the very end
            pass


def _check_size(name: str, size: int, form: _Form, images: int) -> None:
    most = form.bytes_per_image * images + (1 << 12)
    if size > most:
        raise ValueError(f"{size} bytes for {name}, where at most {most} belong")


class _Bounded:
    """A compressed file that may grow by what is expected in it, and little else."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self.left = _MOST_OTHER_BYTES

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"more than {_MOST_OTHER_BYTES} bytes of other files")
        return data


def _parse_binary(data: bytes, images: int) -> tuple[Images, Labels]:
    """Read records of one byte for the class and 3072 for the pixels."""
    if len(data) != images * (1 + _PIXELS):
        raise ValueError(f"{len(data)} bytes instead of {images * (1 + _PIXELS)}")
    records = np.frombuffer(data, np.uint8).reshape(images, 1 + _PIXELS)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        raise ValueError(f"the class number {labels.max()}")
    return records[:, 1:], labels


def parse_pickle(data: bytes, images: int | None = None) -> tuple[Images, Labels]:
    """Read a dict with a uint8 array of pixels under data and a list of class numbers under labels; None for any."""
    batch = pickles.read(data)
    if not isinstance(batch, dict) or not {"data", "labels"} <= cast(dict[str, Any], batch).keys():
        raise ValueError("a pickle without data and labels")
    labels = cast(list[Any], batch["labels"])
    if images is None:
        images = len(labels) if type(labels) is list else 0
    if type(labels) is not list or len(labels) != images or not all(map(_is_label, labels)):
        raise ValueError(f"labels other than a list of {images} numbers from 0 to 9")
    return _pixels(batch["data"], images), np.array(labels, np.int64)


def _is_label(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 9


def _pixels(array: Any, images: int) -> Images:
    """Make the array that NumPy described; NumPy itself is handed nothing but the bytes."""
    match array:
        case Call(
            "numpy._core.multiarray _reconstruct",
            (Name("numpy ndarray"), *_),
            (int(), shape, Call("numpy dtype", ("u1", *_)), int() as columns_first, content),
        ):
            order = "F" if columns_first else "C"
        case Call(
            "numpy._core.numeric _frombuffer",
            (content, Call("numpy dtype", ("u1", *_)), shape, "C" | "F" as order),
        ):
            pass
        case _:
            raise ValueError("pixels other than a NumPy array of uint8")
    if isinstance(content, str):
        content = content.encode("latin-1")
    if not isinstance(content, bytes | bytearray) or shape != (images, _PIXELS) or len(content) != images * _PIXELS:
        raise ValueError(f"pixels that do not fill an array of shape {(images, _PIXELS)}")
    return np.frombuffer(content, np.uint8).reshape((images, _PIXELS), order=order)


# A pickle of protocol 0 spells a byte in up to 6; per image there is also a label and a file name.
_FORMS = (
    _Form("cifar-10-batches-py", "cifar-10-python.tar.gz", "", 6 * _PIXELS + 256, parse_pickle),
    _Form("cifar-10-batches-bin", "cifar-10-binary.tar.gz", ".bin", 1 + _PIXELS, _parse_binary),
)
