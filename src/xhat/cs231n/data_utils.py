"""The course's data sets, from the files that the course has one download.

Pickles are read as text (see `xhat.datasets.pickles`): none can run code.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from xhat.checks import Array
from xhat.datasets import cifar10

__all__ = [
    "get_CIFAR10_data",
    "load_CIFAR10",
    "load_CIFAR_batch",
    "load_imagenet_val",
    "load_models",
    "load_pickle",
    "load_tiny_imagenet",
]

PathLike = str | os.PathLike[str]


def load_pickle(f: BinaryIO) -> dict[str, Any]:
    """Read a batch of CIFAR-10 from an open file: a dict with `data` (N, 3072) uint8 and the list `labels`.

    Raises
    ------
    ValueError
        If it is anything else: the course reads nothing else in this way, and a pickle can run code.
    """
    try:
        data, labels = cifar10.parse_pickle(f.read())
    except ValueError as error:
        raise ValueError(
            f"load_pickle: expected a batch of CIFAR-10, got {error}. Download the archive again from "
            "https://www.cs.toronto.edu/~kriz/cifar.html."
        ) from None
    return {"data": data, "labels": labels.tolist()}


def load_CIFAR_batch(filename: PathLike) -> tuple[Array, Array]:  # noqa: N802
    """Return the pictures of one batch, (N, 32, 32, 3) float64 in 0 ... 255, and their labels (N,)."""
    with open(filename, "rb") as file:
        batch = load_pickle(file)
    pictures = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).astype(np.float64)
    return pictures, np.array(batch["labels"])


def load_CIFAR10(ROOT: PathLike) -> tuple[Array, Array, Array, Array]:  # noqa: N802
    """Return the pictures and labels of the five training batches, and those of the test batch.

    Raises
    ------
    FileNotFoundError
        If one of the six files is not in the folder ROOT.
    """
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    missing = [name for name in names if not (Path(ROOT) / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"load_CIFAR10: expected the six batches of CIFAR-10 in the folder {os.fspath(ROOT)!r}, got no "
            f"{', '.join(missing)}. Download cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html, "
            "unpack it, and give the folder cifar-10-batches-py."
        )
    batches = [load_CIFAR_batch(Path(ROOT) / name) for name in names]
    X, y = (np.concatenate(parts) for parts in zip(*batches[:5], strict=True))
    return X, y, *batches[5]


def get_CIFAR10_data(  # noqa: N802
    num_training: int = 49000,
    num_validation: int = 1000,
    num_test: int = 1000,
    subtract_mean: bool = True,
    *,
    cifar10_dir: PathLike = "cs231n/datasets/cifar-10-batches-py",
) -> dict[str, Array]:
    """Return CIFAR-10 as the course's notebooks take it.

    Parameters
    ----------
    num_training : int
        The first so many training pictures are `X_train`.
    num_validation : int
        The next so many are `X_val`.
    num_test : int
        The first so many test pictures are `X_test`.
    subtract_mean : bool
        Whether to take the average training picture off all of them.
    cifar10_dir : path
        Where the batches are; the default starts from the current folder.

    Returns
    -------
    dict of str to array
        X_train, X_val, X_test: (N, 3, 32, 32) float64, unit of the pixels, 0 ... 255. y_train, y_val, y_test: (N,).

    Raises
    ------
    FileNotFoundError
        If the data are not there; the message says how to get them.
    ValueError
        If fewer pictures are there than asked for.
    """
    X, y, X_test, y_test = load_CIFAR10(cifar10_dir)
    for asked, there in ((num_training + num_validation, len(X)), (num_test, len(X_test))):
        if asked > there:
            raise ValueError(f"get_CIFAR10_data: expected at most {there} pictures, got {asked}. Ask for fewer.")
    validation = slice(num_training, num_training + num_validation)
    parts = {"train": X[:num_training], "val": X[validation], "test": X_test[:num_test]}
    labels = {"train": y[:num_training], "val": y[validation], "test": y_test[:num_test]}
    mean_image = parts["train"].mean(0) if subtract_mean else np.zeros(())
    pictures = {f"X_{name}": (part - mean_image).transpose(0, 3, 1, 2).copy() for name, part in parts.items()}
    return {**pictures, **{f"y_{name}": part for name, part in labels.items()}}


def load_tiny_imagenet(path: PathLike, dtype: DTypeLike = np.float32, subtract_mean: bool = True) -> dict[str, Any]:
    """Return Tiny ImageNet, or one of its parts with fewer classes, from its folder. Needs Pillow.

    Parameters
    ----------
    path : path
        The folder with wnids.txt, words.txt, train, val and test.
    dtype : dtype
        The type of the pictures.
    subtract_mean : bool
        Whether to take the average training picture off all of them.

    Returns
    -------
    dict
        `class_names`: for each class the list of its names. `X_train`, `X_val`, `X_test`: (N, 3, 64, 64), unit of the
        pixels, 0 ... 255; grey pictures with three equal channels. `y_train`, `y_val`: (N,) class numbers; `y_test`
        likewise if the folder has them, else None. `mean_image`: (3, 64, 64).

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    """
    root = Path(path)
    wnids = (root / "wnids.txt").read_text().split()
    number = {wnid: i for i, wnid in enumerate(wnids)}
    words = dict(line.split("\t", 1) for line in (root / "words.txt").read_text().splitlines() if "\t" in line)

    train = [
        (root / "train" / wnid / "images" / name, number[wnid])
        for wnid in wnids
        for name, *_ in _table(root / "train" / wnid / f"{wnid}_boxes.txt")
    ]
    val = [
        (root / "val" / "images" / name, number[wnid])
        for name, wnid, *_ in _table(root / "val" / "val_annotations.txt")
    ]
    answers = root / "test" / "test_annotations.txt"
    known = {name: number[wnid] for name, wnid, *_ in _table(answers)} if answers.is_file() else None
    test = sorted((root / "test" / "images").iterdir())

    X_train = _pictures((file for file, _ in train), dtype)
    mean_image = X_train.mean(0)
    shift = mean_image if subtract_mean else np.zeros((), dtype)
    return {
        "class_names": [[name.strip() for name in words[wnid].split(",")] for wnid in wnids],
        "X_train": X_train - shift,
        "y_train": np.array([label for _, label in train]),
        "X_val": _pictures((file for file, _ in val), dtype) - shift,
        "y_val": np.array([label for _, label in val]),
        "X_test": _pictures(test, dtype) - shift,
        "y_test": None if known is None else np.array([known[file.name] for file in test]),
        "mean_image": mean_image,
    }


def load_models(models_dir: PathLike) -> dict[str, Any]:
    """Refuse: the course pickles whole models, and reading such a file runs what is written in it."""
    raise NotImplementedError(
        "load_models: expected models that can be read without running code, got a folder of pickles. "
        "Save parameters with model.save or numpy.savez instead."
    )


def load_imagenet_val(num: int | None = None) -> Any:
    """Refuse: the course's file holds a pickled dict, and belongs to another assignment."""
    raise NotImplementedError(
        "load_imagenet_val: expected assignment 2, got the data of another. Read its X and y with numpy.load."
    )


def _table(file: Path) -> Iterator[list[str]]:
    """Yield the rows of a file of columns parted by tabs, the first of which is the name of a picture."""
    for line in file.read_text().splitlines():
        name, *others = line.split("\t")
        yield [Path(name).name, *others]  # whatever the file says, nothing outside its folder is read


def _pictures(files: Iterable[Path], dtype: DTypeLike) -> Array:
    """Return pictures as an array (N, 3, H, W)."""
    from PIL import Image

    pictures: list[Array] = []
    for file in files:
        with Image.open(file) as picture:
            pictures.append(np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
    return np.array(pictures, dtype)
