"""The data room: numbers to learn from, by name or from a file.

`load` gives a `Dataset`; `read_features` reads the same sources for a model that is already trained. There
is one file per kind of source: `digits`, `idx` (Fashion-MNIST), `cifar10` with `pickles`, `tables`, `npz`.
What they share is in `dataset`. Files are not trusted: none can run code, and none gets memory for a claim.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from xhat.checks import as_generator, as_real
from xhat.datasets import cifar10, digits, idx, npz, tables
from xhat.datasets.dataset import Dataset, Features, Target, listing

__all__ = ["Dataset", "load", "read_features", "read_matrix"]

_NAMED: Mapping[str, Callable[[Sequence[Path]], Dataset]] = {
    "digits": digits.load_named,
    "fashion-mnist": idx.load_named,
    "cifar10": cifar10.load_named,
}
_TABLES = (".csv", ".tsv", ".parquet")
_OTHERS = (".npz", ".tar.gz")
_KINDS = ".csv, .tsv, .parquet, .npz, a CIFAR-10 .tar.gz, or a folder with CIFAR-10 or Fashion-MNIST in it"


def load(
    source: str | os.PathLike[str],
    *,
    target: str | None = None,
    test_fraction: float = 0.2,
    rng: int | np.random.Generator = 0,
) -> Dataset:
    """Load a data set by its name or from a file, with rows held back for the test.

    Parameters
    ----------
    source : str or path
        A name:

        - ``"digits"``: 1797 digits of 8 by 8 pixels, 0..16; comes with scikit-learn.
        - ``"fashion-mnist"``: 70 000 pieces of clothing, 28 by 28 pixels, 0..255.
        - ``"cifar10"``: 60 000 colour pictures, 3 by 32 by 32, 0..255.

        The last two are looked for in the folders ``.``, ``data`` and ``$XHAT_DATA``. Or a path:

        - ``.csv``, ``.tsv``: UTF-8 text with a header row; fields cut by comma, semicolon or tab (found from
          the header), quoted where needed.
        - ``.parquet``: needs pyarrow; feature columns of integers, floats, decimals or bool (0 and 1).
        - ``.npz``: arrays ``x`` (or ``X``, ``data``) of shape (N, D), or (N, …) for pictures, and ``y`` (or
          ``labels``, ``target``); perhaps ``x_test`` and ``y_test``.
        - a CIFAR-10 archive or folder in its python or binary form, or a folder with the four files of
          Fashion-MNIST or MNIST (``train-images-idx3-ubyte.gz`` …).
    target : str, optional
        The column of a table to predict; required for tables, refused elsewhere.
    test_fraction : float
        The share of rows to hold back, above 0 and at most 0.9, where the source has no split of its own:
        in tables, and in ``.npz`` files without ``x_test``. Classes are split one by one: of n rows of a
        class the whole number nearest to ``test_fraction * n`` is held back, at least 1 and at most n - 1.
    rng : int or numpy.random.Generator
        Draws these rows. Named data sets do not use it; their split never changes (of the digits, the test
        has every fifth picture of each class).

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError
        If there is no such file; the message says how to get a named data set.
    ValueError
        If the source is unknown, or what is in it is damaged, incomplete or not numbers; the message names
        the place.
    TypeError
        If an argument has the wrong type.

    Notes
    -----
    *Classes or regression.* A target of text or bool means classes, floats mean regression. Integers in a
    table mean classes if there are at most 20 distinct values and on average at least 2 rows of each, else
    regression; in an ``.npz`` file they always mean classes. In text files a column is integers if every cell
    is one (``3``), floats if every cell is a number (``3.0``), otherwise text: write ``3.0`` to make it
    regression, ``c3`` to make it a class. Classes are sorted: numbers by value, text by code point, False
    before True.

    *Missing values.* Empty cells and NA, N/A, NaN, null and ? (in any case) are errors, not numbers.

    Examples
    --------
    >>> from xhat import datasets
    >>> digits = datasets.load("digits")
    >>> digits
    Dataset('digits': 1442 rows to learn from, 355 for the test, 64 features, 10 classes)
    >>> digits.x[0].reshape(digits.image_shape).shape
    (8, 8)
    """
    generator = as_generator("datasets.load", rng)
    fraction = as_real(
        "datasets.load",
        "test_fraction",
        test_fraction,
        0.0,
        0.9,
        "Hold back a share such as 0.2.",
        above=True,
    )
    found = _resolve(source)
    if isinstance(found, Path) and _ending(found) in _TABLES:
        return tables.load(found, target, fraction, generator)
    if target is not None:
        raise ValueError(
            f"datasets.load: expected no target for {str(source)!r}, got {target!r}. "
            "Leave it out: only tables have a choice of columns."
        )
    if isinstance(found, Path) and _ending(found) == ".npz":
        return npz.load(found, fraction, generator)
    return _pictures(found)


def read_features(
    source: str | os.PathLike[str],
    features: Sequence[str],
    *,
    target: str | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[Features, Target | None]:
    """Read what a trained model needs to predict, and the labels if they are there.

    From tables come all rows, from sources with a split of their own (named data sets, ``.npz`` files with
    ``x_test``) the rows for the test, and from other ``.npz`` files all rows.

    Parameters
    ----------
    source : str or path
        As in `load`.
    features : sequence of str
        `Dataset.features` of the data the model was trained on. The columns of a table are picked by these
        names, in this order, and others are left out; pictures must have the same names; the arrays of an
        ``.npz`` file, which have no names, the same number of columns.
    target : str, optional
        The column of a table with the labels. It may be missing from the table.
    classes : sequence of str, optional
        `Dataset.classes` of the data the model was trained on; None for regression.

    Returns
    -------
    x : numpy.ndarray, shape (N, len(features)), C-contiguous; float32 for pictures, float64 for tables
    y : numpy.ndarray, or None
        The labels, if the source has them: int64 numbers into `classes` of shape (N,), or for regression
        float64 of shape (N, 1).

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        As `load`; also if a column is missing, or a label is none of `classes`.

    Examples
    --------
    >>> from xhat import datasets
    >>> digits = datasets.load("digits")
    >>> x, y = datasets.read_features("digits", digits.features, classes=digits.classes)
    >>> x.shape, y.shape
    ((355, 64), (355,))
    """
    if isinstance(features, str) or not features:
        raise ValueError(
            f"datasets.read_features: expected a sequence of column names, got {features!r}. "
            "Give the features of the data set the model was trained on."
        )
    found = _resolve(source)
    if isinstance(found, Path) and _ending(found) in _TABLES:
        return tables.read_features(found, features, target, classes)
    if isinstance(found, Path) and _ending(found) == ".npz":
        return npz.read_features(found, features, classes)
    data = _pictures(found)
    for what, own, asked in (("features", data.features, features), ("classes", data.classes, classes)):
        if asked is not None and tuple(asked) != own:
            raise ValueError(
                f"datasets.read_features: expected the {what} of {data.name!r} ({listing(own or ())}), "
                f"got a model with {listing(asked)}. Use it on data of the kind it was trained on."
            )
    return data.x_test, data.y_test


def read_matrix(source: str | os.PathLike[str]) -> Features:
    """Read a file that holds nothing but numbers, without a target.

    Parameters
    ----------
    source : str or path
        A ``.csv``, ``.tsv`` or ``.parquet`` table, of which all columns are read, an ``.npz`` file with an array ``x``
        (or ``X``, ``data``), or an ``.npy`` file.

    Returns
    -------
    numpy.ndarray, shape (N, D), C-contiguous; float64, or float32 where the arrays of a file are that or smaller

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        As `load`.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from xhat import datasets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savetxt(f"{folder}/small.csv", [[1, 2], [3, 5]], delimiter=",", header="height,width", comments="")
    ...     print(datasets.read_matrix(f"{folder}/small.csv"))
    [[1. 2.]
     [3. 5.]]
    """
    found = _resolve(source, ".npy")
    if isinstance(found, Path) and _ending(found) in _TABLES:
        return tables.read_matrix(found)
    if isinstance(found, Path) and _ending(found) in (".npz", ".npy"):
        return npz.read_matrix(found)
    raise ValueError(
        f"datasets.read_matrix: expected a file of numbers, got {str(source)!r}. "
        "Give a .csv, .tsv, .parquet, .npz or .npy file."
    )


def _resolve(source: str | os.PathLike[str], *more: str) -> str | Path:
    """Return a known name, or the path of a folder or of a file of a known kind, or of one `more`."""
    try:
        path = Path(source)
    except TypeError:
        raise TypeError(
            f"datasets.load: expected a name or a path, got {type(source).__name__}. "
            'Give a name such as "digits", or the path of a file.'
        ) from None
    if isinstance(source, str) and source in _NAMED:
        return source
    known = _ending(path) in (*_TABLES, *_OTHERS, *more)
    if path.is_dir() or (known and path.is_file()):
        return path
    if path.is_file():
        raise ValueError(f"datasets.load: expected {_KINDS}, got {str(path)!r}. Convert it to one of these.")
    if known or len(path.parts) > 1:
        raise FileNotFoundError(
            f"datasets.load: expected a file or folder {str(path)!r}, got none. Correct the path; "
            "it starts from the current folder."
        )
    close = difflib.get_close_matches(str(path).lower(), _NAMED, 1)
    question = f"Did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"datasets.load: expected one of {listing(tuple(_NAMED))} or the path of {_KINDS}, got "
        f"{str(path)!r}. {question}Give one of these."
    )


def _ending(path: Path) -> str:
    """Return the ending that tells the kind of a file."""
    return ".tar.gz" if path.name.lower().endswith((".tar.gz", ".tgz")) else path.suffix.lower()


def _pictures(found: str | Path) -> Dataset:
    if isinstance(found, str):
        places = [Path(), Path("data")]
        if os.environ.get("XHAT_DATA"):
            places.append(Path(os.environ["XHAT_DATA"]))
        return _NAMED[found](places)
    if not found.is_dir():
        return cifar10.load(found)
    if idx.holds_pictures(found):
        return idx.load(found)
    batches = cifar10.find(found)
    if batches is None:
        raise ValueError(
            f"datasets.load: expected CIFAR-10 or Fashion-MNIST in the folder {found}, got neither. Give the "
            "folder with data_batch_1, data_batch_1.bin or train-images-idx3-ubyte.gz in it, or the path of "
            "a file."
        )
    return cifar10.load(batches)
