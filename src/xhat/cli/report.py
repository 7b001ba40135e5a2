"""report.html: a whole run on one page that needs no network, no folder and no script."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xhat.cli.curves import draw_agreement, draw_image
from xhat.cli.outcome import CHECK_HEADS, check_rows, number, rate, score
from xhat.layers.losses import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xhat.cli.outcome import Outcome
    from xhat.datasets import Dataset

_MOST_CLASSES = 40
_MOST_MISTAKES = 24

_STYLE = """
:root { --ink: #1c2024; --soft: #5d6570; --line: #e3e6ea; --blue: #0072B2; --paper: #fff; }
* { box-sizing: border-box }
body { margin: 0; color: var(--ink); background: #f5f6f8; font: 15px/1.55 system-ui, sans-serif }
main { max-width: 1060px; margin: 0 auto; padding: 32px 24px 64px }
h1 { font-size: 28px; margin: 0 }
h2 { font-size: 18px; margin: 0 0 14px } h3 { font-size: 15px; margin: 18px 0 8px }
p { margin: 4px 0 12px } .soft { color: var(--soft) }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 22px 24px;
  margin-top: 20px; overflow-x: auto }
.cards { display: flex; flex-wrap: wrap; gap: 14px; margin-top: 20px }
.card { flex: 1 1 150px; background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 18px }
.card b { display: block; font-size: 26px; font-variant-numeric: tabular-nums }
.card span { color: var(--soft) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: 5px 14px 5px 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap }
th { color: var(--soft); font-weight: 600 } th.word, td.word { text-align: left }
td.word { white-space: normal; overflow-wrap: break-word; max-width: 640px }
.confusion th, .confusion td { padding: 5px 9px; text-align: center; border: 1px solid #fff }
.confusion th.word { text-align: right; max-width: 170px; overflow: hidden; text-overflow: ellipsis }
pre { margin: 0; font: 13px/1.5 ui-monospace, monospace; overflow-x: auto }
pre.command { white-space: pre-wrap; overflow-wrap: anywhere; background: #f5f6f8; padding: 12px;
  border-radius: 8px }
img { max-width: min(100%, 1000px); height: auto } img.half { max-width: min(100%, 520px) }
.warning { border-left: 4px solid #D55E00 }
.gallery { display: flex; flex-wrap: wrap; gap: 14px } figure { margin: 0; width: 104px; font-size: 13px }
.gallery img { width: 104px; height: 104px; object-fit: contain; image-rendering: pixelated; background: #000;
  border-radius: 6px }
figcaption { line-height: 1.35; margin-top: 4px; overflow-wrap: anywhere }
@media print { body { background: #fff } section { break-inside: avoid } }
"""


@dataclass(frozen=True)
class Report:
    """All that the page tells.

    Attributes
    ----------
    title : str
        Such as `digits · batch norm`.
    written : str
        The date and time.
    data : Dataset
        What was learned; its test part is what the mistakes are shown on.
    target : str
        The name of what is predicted.
    rows : mapping of str to int
        How many rows trained, validated and tested.
    outcomes : sequence of Outcome
        One or two networks.
    curves : bytes
        The PNG of the learning curves.
    settings : mapping of str to str
        Every setting by its option's name.
    versions : mapping of str to str
        Of Python and the packages.
    machine : str
        The CPU, the kernels and the threads.
    command : str
        What repeats the run.
    """

    title: str
    written: str
    data: Dataset
    target: str
    rows: Mapping[str, int]
    outcomes: Sequence[Outcome]
    curves: bytes
    settings: Mapping[str, str]
    versions: Mapping[str, str]
    machine: str
    command: str

    def to_html(self) -> str:
        """Write the page.

        Returns
        -------
        str
            HTML in which every picture is embedded.
        """
        data_rows = [
            ("name", self.data.name),
            *((f"{part} rows", rate(count)) for part, count in self.rows.items()),
            ("features", rate(self.data.x.shape[1])),
            ("target", self.target),
            ("classes", ", ".join(self.data.classes) if self.data.classes else "none: a number is predicted"),
        ]
        sections = [
            self._stopped(),
            _section("Curves", _image(self.curves, "Loss and score over the epochs")),
            _section("Results", self._results()),
            *(self._test(outcome) for outcome in self.outcomes),
            _section("Data", _table(["", ""], data_rows, words=2)),
            _section("Settings", _table(["", ""], self.settings.items(), words=2)),
            *(self._network(outcome) for outcome in self.outcomes),
            _section(
                "Repeat it",
                "<p>With the same data, versions and threads, this gives the same numbers again.</p>"
                f'<pre class="command">{_text(self.command)}</pre>'
                f"<h3>Versions</h3>{_table(['', ''], self.versions.items(), words=2)}"
                f'<p class="soft">{_text(self.machine)}</p>',
            ),
        ]
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
            f"<title>{_text(self.title)}</title><style>{_STYLE}</style></head><body><main>"
            f'<h1>{_text(self.title)}</h1><p class="soft">{_text(self.written)} · xhat train</p>'
            f"{self._cards()}{''.join(sections)}</main></body></html>\n"
        )

    def _cards(self) -> str:
        cards: list[tuple[str, str]] = []
        for outcome in self.outcomes:
            name, shown = outcome.network.score_name, outcome.results["test"].score
            which = f", {outcome.label}" if len(self.outcomes) > 1 else ""
            cards.append((score(name, shown), f"test {name}{which}"))
        first = self.outcomes[0]
        if len(self.outcomes) == 1:
            if first.best is not None and "--patience" in self.settings:
                cards.append((f"{first.best.epoch} of {len(first.epochs)}", "best epoch, which is kept"))
            cards.append((rate(first.samples_per_second), "samples per second"))
        cards.append((f"{sum(outcome.seconds for outcome in self.outcomes):.1f} s", "training"))
        drawn = (f'<div class="card"><b>{_text(b)}</b><span>{_text(s)}</span></div>' for b, s in cards)
        return f'<div class="cards">{"".join(drawn)}</div>'

    def _stopped(self) -> str:
        if not any(outcome.stopped for outcome in self.outcomes):
            return ""
        told = "<b>Stopped by Ctrl-C.</b> The numbers are those reached until then."
        return f'<section class="warning">{told}</section>'

    def _results(self) -> str:
        rows: list[list[str]] = []
        for outcome in self.outcomes:
            for part, evaluation in outcome.results.items():
                name = outcome.network.score_name
                rows.append([outcome.label, part, number(evaluation.loss), score(name, evaluation.score)])
        speeds = [
            [
                outcome.label,
                str(len(outcome.epochs)),
                str(outcome.best.epoch) if outcome.best is not None else "–",
                f"{outcome.seconds:.2f}",
                rate(outcome.samples_per_second),
                outcome.model.name,
            ]
            for outcome in self.outcomes
        ]
        heads = ["", "epochs", "best", "seconds", "samples/s", "model"]
        kept = "best" if "--patience" in self.settings else "last"
        unit = (
            ""
            if self.data.classes
            else " The loss is in the target's unit, squared; in the curves, of the target divided by its deviation."
        )
        return (
            f"<p>Of the network after its {kept} epoch.{unit}</p>"
            + _table(["", "data", "loss", self.outcomes[0].network.score_name], rows, words=2)
            + "<h3>Speed</h3>"
            + _table(heads, speeds, words=1)
        )

    def _test(self, outcome: Outcome) -> str:
        name = f": {outcome.label}" if len(self.outcomes) > 1 else ""
        scores = outcome.network.predict(self.data.x_test)
        if self.data.classes is None:
            true = np.asarray(self.data.y_test, np.float64).ravel()
            picture = draw_agreement(true, np.asarray(scores, np.float64).ravel(), self.target)
            return _section(
                f"Predictions on the test data{name}", _image(picture, "Predicted against true values", "half")
            )
        chances = softmax(scores)
        body = self._confusion(chances.argmax(axis=1), self.data.classes)
        if self.data.image_shape is not None:
            body += self._mistakes(chances, self.data.classes, self.data.image_shape)
        return _section(f"Confusion on the test data{name}", body)

    def _confusion(self, predicted: NDArray[np.intp], classes: tuple[str, ...]) -> str:
        count = np.zeros((len(classes), len(classes)), np.int64)
        np.add.at(count, (self.data.y_test.astype(np.intp), predicted), 1)
        if len(classes) > _MOST_CLASSES:
            np.fill_diagonal(count, 0)
            most = np.argsort(-count, axis=None, kind="stable")[:_MOST_MISTAKES]
            pairs = [divmod(int(place), len(classes)) for place in most if count.flat[place]]
            rows = [(classes[i], classes[j], str(count[i, j])) for i, j in pairs]
            return "<p>The most frequent confusions.</p>" + _table(["true", "predicted", "rows"], rows, words=2)
        heads = "".join(f'<th scope="col">{_text(name)}</th>' for name in classes)
        lines: list[str] = []
        for i, name in enumerate(classes):
            total = max(int(count[i].sum()), 1)
            cells = "".join(_confusion_cell(int(n), n / total, i == j) for j, n in enumerate(count[i]))
            found = f"<td>{100 * count[i, i] / total:.1f} %</td>"
            lines.append(f'<tr><th class="word" scope="row">{_text(name)}</th>{cells}{found}</tr>')
        return (
            '<p class="soft">One row per true class, one column per predicted class.</p>'
            '<table class="confusion">'
            f"<tr><th></th>{heads}<th>found</th></tr>{''.join(lines)}</table>"
        )

    def _mistakes(self, chances: NDArray[np.float64], classes: tuple[str, ...], shape: tuple[int, ...]) -> str:
        predicted, true = chances.argmax(axis=1), self.data.y_test
        wrong = np.flatnonzero(predicted != true)
        if not wrong.size:
            return "<h3>Mistakes</h3><p>None.</p>"
        surest = wrong[np.argsort(-chances[wrong, predicted[wrong]], kind="stable")][:_MOST_MISTAKES]
        brightest = float(self.data.x.max()) or 1.0
        figures: list[str] = []
        for row in surest:
            said, is_ = classes[int(predicted[row])], classes[int(true[row])]
            picture = _image(
                draw_image(self.data.x_test[row], shape, brightest),
                f"{is_}, taken for {said} (test row {row})",
            )
            caption = f"<b>{_text(is_)}</b>, taken for <b>{_text(said)}</b> ({chances[row, predicted[row]]:.0%})"
            figures.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
        return (
            f"<h3>Mistakes</h3><p>{wrong.size:,} of {len(true):,}; those it was surest of first.</p>"
            f'<div class="gallery">{"".join(figures)}</div>'
        )

    def _network(self, outcome: Outcome) -> str:
        name = f": {outcome.label}" if len(self.outcomes) > 1 else ""
        return _section(
            f"Network{name}",
            f"<pre>{_text(str(outcome.network))}</pre><h3>Gradient check before training</h3>"
            "<p>In float64, against exact derivatives of the reference along random directions; the error is "
            "relative to the length of the gradient.</p>"
            + _table(list(CHECK_HEADS), check_rows(outcome.check), words=2),
        )


def _confusion_cell(count: int, share: float, right: bool) -> str:
    if not count:
        return '<td style="color:#b8bec6">0</td>'
    colour = "0,114,178" if right else "213,94,0"
    strength = max(share**0.5, 0.08)  # the root, so that a confusion of a few percent is seen
    ink = "#fff" if strength > 0.55 else "#1c2024"
    return f'<td style="background:rgba({colour},{strength:.2f});color:{ink}">{count}</td>'


def _text(words: str) -> str:
    return html.escape(words)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{body}</section>"


def _image(png: bytes, described: str, size: str = "full") -> str:
    coded = base64.b64encode(png).decode("ascii")
    return f'<img class="{size}" alt="{_text(described)}" src="data:image/png;base64,{coded}">'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, words: int) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        kinds = (' class="word"' if column < words else "" for column in range(len(cells)))
        return "".join(f"<{tag}{kind}>{_text(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True))

    head = f"<tr>{line(heads, 'th')}</tr>" if any(heads) else ""
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table>{head}{body}</table>"
