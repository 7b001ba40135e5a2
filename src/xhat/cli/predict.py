"""`xhat predict`: a trained model on new data, as a table on the screen and a file for others."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

import xhat
from xhat import datasets
from xhat.cli.console import Refusal, console, refusing, table
from xhat.cli.outcome import number, probabilities, score

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS_SHOWN = 10
_CLASSES_SHOWN = 3


def predict(
    model: Annotated[Path, typer.Argument(help="A model.safetensors that `xhat train` wrote.")],
    data: Annotated[
        str, typer.Argument(help="A data set by name, or a file with the columns the model wants.")
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
    trained_on: Any = network.notes.get("target")
    with refusing():
        x, y = datasets.read_features(
            data, network.features, target=target or trained_on, classes=network.classes
        )
    if (
        out is not None
        and out.exists()
        and any(out.samefile(read) for read in (model, Path(data)) if read.exists())
    ):
        raise Refusal(
            f"xhat predict: expected --out apart from the inputs, got {out}. Choose another file.", 2
        )
    scores = np.asarray(network.predict(x), np.float64)
    if network.classes is None:
        heads, rows = (
            ["row", "prediction"],
            [[str(i + 1), repr(float(v))] for i, v in enumerate(scores.ravel())],
        )
        shown = [[place, number(float(value))] for place, value in rows[:_ROWS_SHOWN]]
        if y is not None:
            heads.append("true")
            truths = [float(value) for value in np.asarray(y).ravel()]
            rows = [[*row, repr(truth)] for row, truth in zip(rows, truths, strict=True)]
            shown = [[*row, number(truth)] for row, truth in zip(shown, truths, strict=False)]
        shown_heads = heads
    else:
        heads, rows, shown_heads, shown = _classified(probabilities(scores), y, network.classes)
    console.print(table(f"{model} on {data}", shown_heads, shown, left=1))
    if len(rows) > len(shown):
        more = "" if out else " --out writes them all to a file."
        console.print(f"… and {len(rows) - len(shown):,} more rows.{more}")
    if y is not None and len(y):
        judged = network.evaluate(x, y)
        console.print(
            f"{network.score_name} {score(network.score_name, judged.score)}, loss {number(judged.loss)}"
        )
    if out is not None:
        _write(out, heads, rows)
        console.print(f"Written to {out}", soft_wrap=True)


def _classified(
    chances: NDArray[np.float64], y: NDArray[Any] | None, classes: tuple[str, ...]
) -> tuple[list[str], list[list[str]], list[str], list[list[str]]]:
    """Return the heads and rows of the file, and those of the screen, with the likeliest classes only."""
    heads = ["row", "prediction", *(f"p({name})" for name in classes)]
    shown_heads = ["row", "prediction", "probability", "next"]
    if y is not None:
        heads.append("true")
        shown_heads.append("true")
    rows: list[list[str]] = []
    shown: list[list[str]] = []
    order = np.argsort(-chances, axis=1, kind="stable")
    for i, (chance, ranked) in enumerate(zip(chances, order, strict=True)):
        place, said = str(i + 1), classes[ranked[0]]
        true = [] if y is None else [classes[int(y[i])]]
        rows.append([place, said, *(f"{p:.6g}" for p in chance), *true])
        if i < _ROWS_SHOWN:
            others = ", ".join(f"{classes[j]} {chance[j]:.1%}" for j in ranked[1:_CLASSES_SHOWN])
            shown.append([place, said, f"{chance[ranked[0]]:.1%}", others, *true])
    return heads, rows, shown_heads, shown


def _write(out: Path, heads: list[str], rows: list[list[str]]) -> None:
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(heads)
            writer.writerows(rows)
    except OSError as error:
        raise Refusal(
            f"xhat predict: expected a file to write to, got {out} ({error.strerror}). "
            "Choose another with --out."
        ) from error
