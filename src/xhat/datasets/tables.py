"""Tables in .csv, .tsv and .parquet files: named columns of numbers, and one of them to predict.

Both kinds are read block by block, so memory follows the numbers that are there, never a claim in a header.
"""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xhat.datasets.dataset import (
    INTEGER,
    LARGEST,
    Cell,
    Dataset,
    Features,
    Target,
    find_classes,
    first_unfit,
    listing,
    number_classes,
    rows_for_test,
)

_DELIMITERS = (",", ";", "\t")
_MISSING = frozenset(("", "na", "n/a", "nan", "null", "?"))
_MOST_INTEGER_CLASSES = 20
_CSV_BLOCK = 4096
_PARQUET_BLOCK = 65536


class _Block(NamedTuple):
    """Some rows of the chosen columns, and where each stands in the file."""

    x: Features
    target: list[Cell]  # empty if no target was asked for
    places: list[int]  # line of a text file, row of a parquet file


def load(path: Path, target: str | None, test_fraction: float, rng: np.random.Generator) -> Dataset:
    """Load a table whose column `target` is to be predicted from all others."""
    columns = _columns(path)
    if target not in columns:
        close = difflib.get_close_matches(target or "", columns, 1)
        advice = f"Did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"datasets.load: expected target, the column of {path} to predict, got {target!r}. "
            f"{advice}Choose one of {listing(columns)}."
        )
    features = tuple(column for column in columns if column != target)
    if not features:
        raise ValueError(
            f"datasets.load: expected columns besides {target!r} in {path}, got none. "
            "Add the columns to predict it from."
        )
    table = _read(path, features, target)
    y, classes = _as_target(path, target, table)
    held_back = rows_for_test(f"column {target!r} of {path}", y, classes, test_fraction, rng)
    return Dataset(
        name=path.stem,
        x=table.x[~held_back],
        y=y[~held_back],
        x_test=table.x[held_back],
        y_test=y[held_back],
        classes=classes,
        features=features,
    )


def read_features(
    path: Path, features: Sequence[str], target: str | None, classes: Sequence[str] | None
) -> tuple[Features, Target | None]:
    """Read the columns `features` by name, in this order, and the labels if the table has them."""
    columns = _columns(path)
    absent = [name for name in features if name not in columns]
    if absent:
        raise ValueError(
            f"datasets.read_features: expected the {len(features)} columns the model was trained on in "
            f"{path}, got a table without {listing(absent)}. Add what is missing; the order does not matter."
        )
    if target is None or target not in columns:
        return _read(path, features, None).x, None
    table = _read(path, features, target)
    if classes is None:
        return table.x, _as_numbers(path, target, table)
    y = find_classes(table.target, classes)
    if y.min() < 0:
        row = int(y.argmin())
        raise ValueError(
            f"datasets.read_features: expected one of the classes {listing(classes)} in column {target!r} of "
            f"{path}, got {str(table.target[row])!r} in {_place(path, table.places[row])}. Correct the "
            "label, or remove the column."
        )
    return table.x, y


def read_matrix(path: Path) -> Features:
    """Read all columns, in their order."""
    return _read(path, _columns(path), None).x


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _place(path: Path, place: int) -> str:
    return f"row {place}" if _is_parquet(path) else f"line {place}"


def _columns(path: Path) -> tuple[str, ...]:
    """Read the names of the columns, which must be there and differ."""
    if _is_parquet(path):
        with _parquet_file(path) as file:
            names = tuple(map(str, file.schema_arrow.names))
    else:
        with _csv_rows(path) as (header, _):
            names = tuple(header)
    if not names or all(map(_is_number, names)):
        got = f"only numbers ({listing(names)})" if names else "an empty one"
        raise ValueError(f"datasets.load: expected a first row of column names in {path}, got {got}. Add a header row.")
    seen: set[str] = set()
    for i, name in enumerate(names):
        if not name:
            raise ValueError(
                f"datasets.load: expected a name for every column of {path}, got none for column {i + 1}. "
                "Name it, or save the table without its row numbers."
            )
        if name in seen:
            raise ValueError(
                f"datasets.load: expected different column names in {path}, got {name!r} twice. Rename one of them."
            )
        seen.add(name)
    return names


def _read(path: Path, features: Sequence[str], target: str | None) -> _Block:
    blocks = list((_parquet_blocks if _is_parquet(path) else _csv_blocks)(path, features, target))
    if not blocks:
        raise ValueError(f"datasets.load: expected rows of data in {path}, got only column names. Add rows.")
    return _Block(
        np.concatenate([block.x for block in blocks]),
        [cell for block in blocks for cell in block.target],
        [place for block in blocks for place in block.places],
    )


def _as_target(path: Path, target: str, table: _Block) -> tuple[Target, tuple[str, ...] | None]:
    """Decide between classes and regression by the rule that `xhat.datasets.load` documents."""
    cells = table.target if _is_parquet(path) else _typed(table.target)
    few = len(set(cells)) <= min(_MOST_INTEGER_CLASSES, len(cells) // 2)
    if isinstance(cells[0], float) or (type(cells[0]) is int and not few):
        return _as_numbers(path, target, table), None
    return number_classes(f"column {target!r} of {path}", cells)


def _typed(cells: Sequence[Cell]) -> list[Cell]:
    """Read text as integers if every cell is one, else as numbers if every cell is one, else leave it."""
    text = [str(cell) for cell in cells]
    if all(map(INTEGER.fullmatch, text)):
        return [int(cell) for cell in text]
    return [_number(cell) for cell in text] if all(map(_is_number, text)) else list(text)


def _number(cell: Cell) -> float:
    if isinstance(cell, str) and "_" in cell:
        raise ValueError(cell)  # float() would read 1_0 as 10, which no table means
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _as_numbers(path: Path, target: str, table: _Block) -> NDArray[np.float64]:
    y = np.empty((len(table.target), 1), np.float64)
    for i, cell in enumerate(table.target):
        try:
            y[i] = _number(cell)
        except ValueError:
            y[i] = math.nan
        if not math.isfinite(y[i, 0]):
            raise ValueError(
                f"datasets.load: expected finite numbers in the target column {target!r} of {path}, "
                f"got {cell!r} in {_place(path, table.places[i])}. Correct the value, or remove the row."
            )
    return y


def _missing(path: Path, column: str, place: int) -> ValueError:
    return ValueError(
        f"datasets.load: expected a value in every cell of column {column!r} of {path}, "
        f"got none in {_place(path, place)}. Fill it in, or remove the row or the column."
    )


def _not_numbers(path: Path, column: str, got: str) -> ValueError:
    return ValueError(
        f"datasets.load: expected numbers in column {column!r} of {path}, got {got}. "
        "Encode the column as numbers first (for categories, a column of 0 and 1 for each), or remove it."
    )


def _as_features(path: Path, columns: Sequence[str], values: NDArray[np.float64], places: list[int]) -> Features:
    """Refuse what a float32 network cannot take in; keep all digits, since standardizing may need them."""
    unfit = first_unfit(values)
    if unfit is not None:
        column, place = columns[unfit[1]], places[unfit[0]]
        if np.isnan(values[unfit]):
            raise _missing(path, column, place)
        raise ValueError(
            f"datasets.load: expected numbers of size up to {LARGEST:.1e} in column {column!r} of {path}, "
            f"got {values[unfit]} in {_place(path, place)}. Correct the value, rescale the column, or remove "
            "the row."
        )
    return values


@contextmanager
def _csv_rows(path: Path) -> Generator[tuple[list[str], Any]]:
    """Open a text table: the names in its first row, and the reader of the rows below.

    The delimiter is the one of comma, semicolon and tab that cuts the first line into the most fields; in a
    tie the first of them.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            fields = [len(next(csv.reader([first], delimiter=mark), list[str]())) for mark in _DELIMITERS]
            file.seek(0)
            rows = csv.reader(
                file, delimiter=_DELIMITERS[fields.index(max(fields))], skipinitialspace=True, strict=True
            )
            yield [name.strip() for name in next(rows, list[str]())], rows
    except UnicodeDecodeError:
        raise ValueError(
            f"datasets.load: expected UTF-8 text in {path}, got other bytes. Save the table as CSV in UTF-8."
        ) from None
    except csv.Error as error:
        raise ValueError(
            f"datasets.load: expected well-formed CSV in {path}, got an error ({error}). "
            "Look for a quotation mark without its partner."
        ) from None


def _csv_blocks(path: Path, features: Sequence[str], target: str | None) -> Iterator[_Block]:
    with _csv_rows(path) as (header, rows):
        picked = [header.index(name) for name in features]
        label = None if target is None else header.index(target)
        numbered = ((rows.line_num, row) for row in rows if row)  # a blank line is no row
        while block := list(islice(numbered, _CSV_BLOCK)):
            places = [line for line, _ in block]
            for line, row in block:
                if len(row) != len(header):
                    raise ValueError(
                        f"datasets.load: expected {len(header)} fields in every row of {path}, as in its "
                        f"header, got {len(row)} in line {line}. Look for a delimiter too many or too few."
                    )
            text = [[row[j] for j in picked] for _, row in block]
            cells: list[Cell] = [] if label is None else [row[label].strip() for _, row in block]
            if target is not None:
                for line, cell in zip(places, cells, strict=True):
                    if str(cell).lower() in _MISSING:
                        raise _missing(path, target, line)
            yield _Block(_as_features(path, features, _parse(path, features, text, places), places), cells, places)


def _parse(path: Path, columns: Sequence[str], text: list[list[str]], places: list[int]) -> NDArray[np.float64]:
    try:
        values = np.array(text, np.float64)
        if not any("_" in cell for row in text for cell in row):
            return values
    except ValueError:
        pass
    for line, row in zip(places, text, strict=True):
        for column, cell in zip(columns, row, strict=True):
            if cell.strip().lower() in _MISSING:
                raise _missing(path, column, line)
            if not _is_number(cell):
                raise _not_numbers(path, column, f"{cell!r} in line {line}")
    return np.array([list(map(float, row)) for row in text], np.float64)


@contextmanager
def _parquet_file(path: Path) -> Generator[Any]:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError(
            f"datasets.load: expected pyarrow, which reads {path}, got no such package. "
            'Install it with: pip install "xhat[parquet]"'
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (arrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"datasets.load: expected a parquet file in {path}, got one that pyarrow cannot read ({reason}). "
            "Write it again."
        ) from None


def _parquet_blocks(path: Path, features: Sequence[str], target: str | None) -> Iterator[_Block]:
    wanted = [*features, *([] if target is None else [target])]
    with _parquet_file(path) as file:
        types = import_module("pyarrow.types")
        kinds = {field.name: field.type for field in file.schema_arrow}
        for name in features:
            kind = kinds[name]
            if not (
                types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)
            ):
                raise _not_numbers(path, name, f"values of type {kind}")
        start = 1
        for batch in file.iter_batches(_PARQUET_BLOCK, columns=wanted):
            places = list(range(start, start + batch.num_rows))
            start += len(places)
            for name in wanted:
                column = batch.column(name)
                if column.null_count:
                    row: int = column.is_null().to_pylist().index(True)
                    raise _missing(path, name, places[row])
            values = np.empty((len(batch), len(features)), np.float64)
            for j, name in enumerate(features):
                values[:, j] = batch.column(name).cast("float64", safe=False).to_numpy(zero_copy_only=False)
            cells = [] if target is None else _parquet_target(path, target, batch.column(target).to_pylist())
            if places:
                yield _Block(_as_features(path, features, values, places), cells, places)


def _parquet_target(path: Path, target: str, cells: list[Any]) -> list[Cell]:
    cells = [float(cell) if isinstance(cell, Decimal) else cell for cell in cells]
    if not all(isinstance(cell, Cell) for cell in cells):
        raise ValueError(
            f"datasets.load: expected numbers, text or bool in the target column {target!r} of {path}, "
            f"got a value of type {type(cells[0]).__name__}. Convert the column, or choose another."
        )
    return cells
