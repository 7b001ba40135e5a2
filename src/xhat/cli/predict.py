"""`xhat predict`: a trained model on new data, as a table on the screen and a file for others."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer

import xhat
from xhat import datasets
from xhat.cli.console import Refusal, refusing, say, show
from xhat.cli.outcome import number, score
from xhat.training.checkpoints import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS_SHOWN = 10
_CLASSES_SHOWN = 3


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model.safetensors that `xhat train` wrote.")],
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="A data set by name, or a file with the columns the model wants."),
    ],
    target: Annotated[
        str | None,
        typer.Option(help="The column with the true values, if there.", show_default="as in training"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write every prediction to this CSV file.")] = None,
) -> None:
    """Predict classes with their probabilities, or values; with true values in the data, score them."""
    with refusing():
        network = xhat.load(model)
    if network.features is None:
        raise Refusal(
            f"xhat predict: expected a model that knows its columns, got {model} without them. "
            "Train it with xhat train, or give Sequential its features."
        )
    with refusing():
        x, y = datasets.read_features(
            data, network.features, target=target or network.notes.get("target"), classes=network.classes
        )
    if out is not None and any(_same(out, read) for read in (model, Path(data))):
        raise Refusal(f"xhat predict: expected --out apart from the inputs, got {out}. Choose another file.", 2)
    with refusing():
        scores = np.asarray(network.predict(x), np.float64)
    classes = network.classes
    wanted = 1 if classes is None else len(classes)
    if scores.shape != (len(x), wanted) or (classes is None) != (network.loss_name == "squared_error"):
        raise Refusal(
            f"xhat predict: expected a model with one output per class, or one for a number, got {model} with outputs "
            f"of shape {scores.shape[1:]} for {'no' if classes is None else wanted} classes. Use the model in Python."
        )
    answer = _values(scores, y) if classes is None else _classes(xhat.softmax(scores), y, classes)
    if out is not None:
        _write(out, answer)
    show(f"{model} on {data}", answer.shown_heads, answer.shown, left=2)
    unseen = len(answer.rows) - len(answer.shown)
    if unseen:
        say(f"… and {unseen:,} more rows." + ("" if out else " --out writes them all to a file."))
    if y is not None and len(y):
        with refusing():
            judged = network.evaluate(x, y)
        say(f"\n{network.score_name} {score(network.score_name, judged.score)}, loss {number(judged.loss)}")
    if out is not None:
        say(f"\nWritten to {out}")


class _Answer(NamedTuple):
    """The predictions as they go to the file, and the first of them as they go to the screen."""

    heads: list[str]
    rows: list[list[str]]
    shown_heads: list[str]
    shown: list[list[str]]


def _values(scores: NDArray[np.float64], y: NDArray[Any] | None) -> _Answer:
    columns = [scores.ravel().tolist()]
    if y is not None:
        columns.append(y.ravel().tolist())
    heads = ["row", "prediction", "true"][: len(columns) + 1]
    values = list(zip(*columns, strict=True))
    rows = [[str(i), *map(repr, row)] for i, row in enumerate(values, 1)]
    shown = [[str(i), *(f"{value:.6g}" for value in row)] for i, row in enumerate(values[:_ROWS_SHOWN], 1)]
    return _Answer(heads, rows, heads, shown)


def _classes(chances: NDArray[np.float64], y: NDArray[Any] | None, classes: tuple[str, ...]) -> _Answer:
    ranking = np.argsort(-chances, axis=1, kind="stable")
    said = [classes[int(best)] for best in ranking[:, 0]]
    true: list[list[str]] = [[]] * len(said) if y is None else [[classes[int(label)]] for label in y]
    rows = [
        [str(i), word, *(f"{p:.6g}" for p in chance), *label]
        for i, (word, chance, label) in enumerate(zip(said, chances, true, strict=True), 1)
    ]
    shown = [
        [
            str(i + 1),
            said[i],
            f"{chances[i, best[0]]:.1%}",
            ", ".join(f"{classes[int(j)]} {chances[i, j]:.1%}" for j in best[1:]),
            *true[i],
        ]
        for i, best in enumerate(ranking[:_ROWS_SHOWN, :_CLASSES_SHOWN])
    ]
    known = [] if y is None else ["true"]
    heads = ["row", "prediction", *(f"p({name})" for name in classes), *known]
    return _Answer(heads, rows, ["row", "prediction", "probability", "next", *known], shown)


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _write(out: Path, answer: _Answer) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(answer.heads)
    writer.writerows(answer.rows)
    try:
        write_whole(out, table.getvalue().encode())
    except OSError as error:
        raise Refusal(
            f"xhat predict: expected a file to write to, got {out} ({error.strerror}). Choose another with --out."
        ) from error
