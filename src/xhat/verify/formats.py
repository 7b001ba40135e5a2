"""A check as others read it: text for a person, JSON, JUnit XML, SARIF, a page of HTML, a patch.

Names, messages and printed text come from files that anybody may have written, so every format writes them as text:
no control code reaches a terminal, no tag reaches a page, no character that XML forbids reaches XML.
"""

from __future__ import annotations

import difflib
import html as _html
import json as _json
import os
import re
import textwrap
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from xhat.verify.report import FileReport, Finding, Level, PairReport, Verdict, Word

SCHEMA = 1
"""The version of the JSON format; docs/check.schema.json describes it."""

_MARK: Mapping[Word, str] = {
    Word.PROVED: "✓",
    Word.EXACT: "✓",
    Word.AGREES: "≈",
    Word.DISPROVED: "✗",
    Word.NOT_DECIDED: "?",
}
"""So that the words are told apart without colour and from afar."""


@dataclass(frozen=True)
class Checked:
    """The report on a file, with what it takes to show it.

    Parameters
    ----------
    report : FileReport
        The verdicts and findings.
    text : str
        The Python source that the lines of the report count in; of a notebook, its code cells.
    lines : mapping of int to str
        Where a person finds a line: "line 12", or "cell 3, line 5" in a notebook.
    stopped : str
        Why the check ended before its end, as a sentence.
    printed : str
        What the code printed, as much as was kept.
    dropped : int
        How many bytes more it printed.
    refused : sequence of str
        What the code tried and was not allowed to do.
    notes : sequence of str
        What else the reader must know: a limit that this system does not have.
    seconds : float, optional
        How long it took.
    """

    report: FileReport
    text: str = ""
    lines: Mapping[int, str] = field(default_factory=dict[int, str])
    stopped: str = ""
    printed: str = ""
    dropped: int = 0
    refused: Sequence[str] = ()
    notes: Sequence[str] = ()
    seconds: float | None = None

    @property
    def notebook(self) -> bool:
        """Whether the lines are those of a notebook's cells and not of the file."""
        return self.report.file.endswith(".ipynb")

    def where(self, line: int) -> str:
        """Return a line as a person finds it."""
        return self.lines.get(line, f"line {line}")


class _Told(NamedTuple):
    """One thing that a report says: a verdict, a finding, a limit or an error, in the form all formats share."""

    pair: str
    name: str
    """ "dx", or the kind of the finding."""
    word: str
    """The verdict's word, "FINDING", "LIMIT" or "ERROR"."""
    message: str
    line: int | None
    repair: str | None
    counterexample: str | None
    level: Level

    def reaches(self, level: Level) -> bool:
        return self.level >= level

    def passes(self, level: Level) -> bool:
        """Whether it is all that is asked of it: of an output, that it agrees on floats."""
        return self.reaches(level if self.name.startswith("d") else min(level, Level.NUMERIC))


def _told(checked: Checked) -> Iterator[_Told]:
    """Give all that a report says, pair by pair."""
    report = checked.report
    if report.error is not None:
        yield _Told("", "import", "ERROR", report.error, report.error_line, None, None, Level.NONE)
    for pair in report.pairs:
        for v in pair.verdicts:
            yield _Told(pair.pair, v.name, str(v.word), v.message, v.line, v.repair, v.counterexample, v.level)
        for f in pair.findings:
            yield _Told(pair.pair, f.kind, "FINDING", f.message, f.line, f.repair, None, Level.NONE)
        if pair.limit is not None:
            yield _Told(pair.pair, "limit", "LIMIT", _limit(pair.limit), pair.line, None, None, Level.NONE)
        if not pair.verdicts and not pair.findings and pair.limit is None:
            words = "nothing was decided about this pair"
            yield _Told(pair.pair, "pair", str(Word.NOT_DECIDED), words, pair.line, None, None, Level.NONE)
    if not report.pairs and report.error is None and not checked.stopped:
        words = "no pair of a forward and a backward pass found. Call the functions x_forward and x_backward."
        yield _Told("", "pair", "ERROR", words, None, None, None, Level.NONE)
    if checked.stopped and not any(pair.limit for pair in report.pairs) and report.error is None:
        yield _Told("", "limit", "LIMIT", checked.stopped, None, None, None, Level.NONE)


def _readable(counterexample: str) -> str:
    """Return a counterexample, and of one with arrays of a page only where the two differ."""
    point, found, differ = counterexample.rpartition("]: ")
    if len(counterexample) <= _LONGEST_POINT or not found or not point.startswith("at "):
        return counterexample
    return f"{differ}, at a point that --format json shows whole"


def _limit(limit: str) -> str:
    return _LIMITS.get(limit, f"The check of this pair ended early: {limit}.")


_LONGEST_POINT = 800  # characters; ten lines on a terminal
_LIMITS: Mapping[str, str] = {
    "time": "The time was up before this was decided. Look for an endless loop, or give more with --timeout.",
    "memory": "The memory was used up before this was decided. Use smaller arrays, or give more with --memory.",
    "recursion": "A function calls itself without end.",
    "exited": "The code ended the process before this was decided.",
    "crashed": "The process crashed before this was decided.",
    "not reached": "Not begun: the check of this file ended before.",
}


# JSON: the document for other programs, and what the limited process sends home


def as_json(report: FileReport) -> dict[str, Any]:
    """Return a report as JSON values.

    Parameters
    ----------
    report : FileReport
        What a check said.

    Returns
    -------
    dict
        As docs/check.schema.json describes a file. `from_json` makes the report out of it again.
    """
    return {
        "file": report.file,
        "error": report.error,
        "error_line": report.error_line,
        "pairs": [pair_as_json(pair) for pair in report.pairs],
    }


def pair_as_json(pair: PairReport) -> dict[str, Any]:
    """Return the report on one pair as JSON values.

    Parameters
    ----------
    pair : PairReport
        What a check said of it.

    Returns
    -------
    dict
        As docs/check.schema.json describes a pair.
    """
    return {
        "pair": pair.pair,
        "line": pair.line,
        "level": str(pair.level),
        "wrong": pair.wrong,
        "limit": pair.limit,
        "verdicts": [
            {
                "name": v.name,
                "verdict": str(v.word),
                "level": str(v.level),
                "message": v.message,
                "line": v.line,
                "repair": v.repair,
                "counterexample": v.counterexample,
            }
            for v in pair.verdicts
        ],
        "findings": [{"kind": f.kind, "message": f.message, "line": f.line, "repair": f.repair} for f in pair.findings],
        "remarks": [{"kind": f.kind, "message": f.message, "line": f.line} for f in pair.remarks],
        "evidence": plain(pair.evidence),
    }


def plain(value: Any) -> Any:
    """Return a value in JSON's own types: fractions and whatever else JSON lacks become text.

    Parameters
    ----------
    value : object
        Numbers, text, sequences and mappings, one in another.

    Returns
    -------
    object
        The same of dict, list, str, int, float, bool and None.
    """
    if value is None or isinstance(value, (bool, str)):
        return value if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, (list, tuple, set, frozenset)):
        entries: list[Any] = [plain(entry) for entry in value]  # pyright: ignore[reportUnknownVariableType]
        return sorted(entries, key=str) if isinstance(value, (set, frozenset)) else entries
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return plain(value.tolist())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)  # NaN compares false
    return str(value)


def from_json(values: Any) -> FileReport:
    """Make a report out of JSON values that `as_json` gave.

    Parameters
    ----------
    values : object
        What `json.loads` returned.

    Returns
    -------
    FileReport
        The report.

    Raises
    ------
    ValueError
        If it is something else.
    """
    try:
        return FileReport(
            _typed(values["file"], str),
            tuple(pair_from_json(pair) for pair in _typed(values["pairs"], list)),
            _typed(values["error"], str, None),
            _typed(values["error_line"], int, None),
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"from_json: expected a report, got something else ({error}). Check the file again.") from None


def pair_from_json(values: Any) -> PairReport:
    """Make the report on one pair out of JSON values that `pair_as_json` gave.

    Parameters
    ----------
    values : object
        What `json.loads` returned.

    Returns
    -------
    PairReport
        The report.

    Raises
    ------
    ValueError
        If it is something else.
    """
    try:
        return PairReport(
            _typed(values["pair"], str),
            tuple(
                Verdict(
                    _typed(v["name"], str),
                    Word(v["verdict"]),
                    _typed(v["message"], str),
                    _typed(v["line"], int, None),
                    _typed(v["repair"], str, None),
                    _typed(v["counterexample"], str, None),
                )
                for v in _typed(values["verdicts"], list)
            ),
            tuple(
                Finding(
                    _typed(f["kind"], str),
                    _typed(f["message"], str),
                    _typed(f["line"], int, None),
                    _typed(f["repair"], str, None),
                )
                for f in _typed(values["findings"], list)
            ),
            _typed(values["line"], int, None),
            _typed(values["evidence"], dict),
            _typed(values["limit"], str, None),
            tuple(
                Finding(_typed(f["kind"], str), _typed(f["message"], str), _typed(f["line"], int, None))
                for f in _typed(values["remarks"], list)
            ),
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"from_json: expected a report, got something else ({error}). Check the file again.") from None


def _typed(value: Any, *types: type | None) -> Any:
    """Return a value of one of these types; None stands for none."""
    if (value is None and None in types) or type(value) in types:
        return value
    raise TypeError(f"a {type(value).__name__} where none belongs")


def json(files: Sequence[Checked], level: Level) -> str:
    """Write the document that docs/check.schema.json describes.

    Parameters
    ----------
    files : sequence of Checked
        What was checked.
    level : Level
        What was asked for.

    Returns
    -------
    str
        JSON.
    """
    document = {
        "schema": SCHEMA,
        "xhat": version("xhat"),
        "asked": str(level),
        "files": [
            {
                **as_json(checked.report),
                "stopped": checked.stopped or None,
                "printed": checked.printed,
                "dropped": checked.dropped,
                "refused": list(checked.refused),
                "notes": list(checked.notes),
                "seconds": checked.seconds,
            }
            for checked in files
        ],
    }
    return _json.dumps(document, indent=2) + "\n"  # ASCII: an unpaired surrogate in a name is no valid UTF-8


# Text


_COLOURS: Mapping[str, str] = {
    "PROVED": "1;32",
    "EXACT": "32",
    "AGREES": "36",
    "DISPROVED": "1;31",
    "NOT DECIDED": "33",
    "NOTE": "2",
    "FINDING": "1;31",
    "LIMIT": "33",
    "ERROR": "1;31",
    "head": "1",
    "soft": "2",
    "+": "32",
    "-": "31",
    "@": "36",
}


def text(files: Sequence[Checked], level: Level, *, colour: bool = False, width: int = 100) -> str:
    """Write what a person reads: aligned, a verdict word on each line, repairs below.

    Parameters
    ----------
    files : sequence of Checked
        What was checked.
    level : Level
        What was asked for.
    colour : bool
        Whether to use a terminal's colours.
    width : int
        Characters per line.

    Returns
    -------
    str
        Lines.
    """
    pen = _Pen(colour, max(width, 60))
    for checked in files:
        pen.file(checked, level)
    if len(files) > 1:
        pen.total(files, level)
    return "\n".join(pen.lines) + "\n"


class _Pen:
    """Writes lines, with or without colours."""

    def __init__(self, colour: bool, width: int) -> None:
        self.lines: list[str] = []
        self._colour = colour
        self._width = width

    def file(self, checked: Checked, level: Level) -> None:
        """Write all that is said of one file."""
        report = checked.report
        self._line(self._paint("head", one_line(report.file)))
        for one in _told(checked):
            if one.word == "ERROR":
                place = f"  ({checked.where(one.line)})" if one.line else ""
                self._row("ERROR", "!", "", one.message + place)
        for pair in report.pairs:
            self._pair(checked, pair)
        if checked.stopped:
            self._row("LIMIT", "!", "", checked.stopped)
        for note in checked.notes:
            self._paragraph("  ", f"note: {note}", "soft")
        for act in checked.refused:
            self._paragraph("  ", f"not allowed: {act}", "soft")
        if checked.printed:
            self._printed(checked)
        self._line()
        self._paragraph("  ", _summary([checked], level))
        self._line()

    def total(self, files: Sequence[Checked], level: Level) -> None:
        """Write the last line, on all files."""
        self._paragraph("", f"{len(files)} files: {_summary(files, level)}", "head")

    def _pair(self, checked: Checked, pair: PairReport) -> None:
        self._line()
        place = f"  ({checked.where(pair.line)})" if pair.line else ""
        self._line("  " + self._paint("head", one_line(pair.pair)) + self._paint("soft", one_line(place)))
        names = max((len(one_line(v.name)) for v in pair.verdicts), default=0)
        for v in pair.verdicts:
            place = f"  ({checked.where(v.line)})" if v.line else ""
            first, *rest = v.message.split("\n") or [""]
            self._row(str(v.word), _MARK[v.word], one_line(v.name).ljust(names), "\n".join([first + place, *rest]))
            if v.counterexample:
                self._paragraph("      ", f"for example: {_readable(v.counterexample)}")
            self._repair(v.repair)
        for f in pair.findings:
            place = f"  ({checked.where(f.line)})" if f.line else ""
            first, *rest = f.message.split("\n")
            self._row("FINDING", "!", "", "\n".join([first + place, *rest]), f.kind)
            self._repair(f.repair)
        for f in pair.remarks:
            place = f"  ({checked.where(f.line)})" if f.line else ""
            self._row("NOTE", "-", "", f.message + place, "note")
        if pair.limit is not None:
            self._row("LIMIT", "!", "", _limit(pair.limit))
        if not pair.verdicts and not pair.findings and pair.limit is None:
            self._row("NOT DECIDED", "?", "", "nothing was decided about this pair")

    def _row(self, word: str, mark: str, name: str, message: str, told: str | None = None) -> None:
        """Write a mark, a name, a word and a message that goes on under its own beginning."""
        label = told or word
        head = f"    {mark} {name}{'  ' if name else ''}{one_line(label):<11}  "
        painted = f"    {self._paint(word, mark)} {name}{'  ' if name else ''}"
        painted += self._paint(word, f"{one_line(label):<11}") + "  "
        lines = list(self._wrapped(message, self._width - len(head)))
        for number, line in enumerate(lines or [""]):
            self._line((painted if number == 0 else " " * len(head)) + line)

    def _repair(self, repair: str | None) -> None:
        if not repair:
            return
        self._line("      a change that was tried and found right:")
        for line in repair.splitlines():
            if not line.startswith(("---", "+++")):
                self._line("        " + self._paint(line[:1], one_line(line)))

    def _printed(self, checked: Checked) -> None:
        self._line("  your code printed:")
        for line in checked.printed.splitlines():
            self._line(self._paint("soft", "  | " + one_line(line)))
        if checked.dropped:
            self._line(self._paint("soft", f"  | ... and {checked.dropped:,} bytes more"))

    def _paragraph(self, indent: str, words: str, style: str = "") -> None:
        for line in self._wrapped(words, self._width - len(indent)):
            self._line(indent + self._paint(style, line))

    def _wrapped(self, words: str, width: int) -> Iterator[str]:
        for line in words.split("\n"):
            kept = one_line(line)
            own = len(kept) - len(kept.lstrip(" "))
            indent = " " * own
            yield from textwrap.wrap(
                kept.lstrip(" "),
                max(width, 20),
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
            ) or [""]

    def _paint(self, style: str, words: str) -> str:
        code = _COLOURS.get(style)
        return f"\x1b[{code}m{words}\x1b[0m" if self._colour and code and words else words

    def _line(self, line: str = "") -> None:
        self.lines.append(line.rstrip())


def one_line(words: str) -> str:
    """Return words without what a terminal would obey.

    Parameters
    ----------
    words : str
        What a file or its author called something.

    Returns
    -------
    str
        The same with four spaces for a tab and a mark for everything else that is not printable.
    """
    return "".join(c if c.isprintable() else "    " if c == "\t" else "\ufffd" for c in words)


def _summary(files: Iterable[Checked], level: Level) -> str:
    """Say how many outputs and gradients there are of each kind."""
    told = [one for checked in files for one in _told(checked)]
    verdicts = [one for one in told if one.word in _MARK]
    parts: list[str] = []
    if verdicts:
        reached = sum(one.reaches(level) for one in verdicts)
        asked = {Level.NUMERIC: "agree", Level.EXACT: "exact or proved", Level.PROOF: "proved"}.get(level, "checked")
        parts.append(f"{reached} of {len(verdicts)} outputs and gradients {asked}")
    below = sum(one.word in (Word.AGREES, Word.EXACT) and not one.reaches(level) for one in verdicts)
    for count, words in (
        (sum(one.word == Word.DISPROVED for one in told), "disproved"),
        (below, "right as far as they were checked"),
        (sum(one.word == Word.NOT_DECIDED for one in told), "not decided"),
        (sum(one.word == "FINDING" for one in told), "to change besides"),
        (sum(one.word == "LIMIT" for one in told), "stopped by a limit"),
        (sum(one.word == "ERROR" for one in told), "not to be checked"),
    ):
        if count:
            parts.append(f"{count} {words}")
    return ", ".join(parts) or "nothing to check"


# JUnit


def junit(files: Sequence[Checked], level: Level) -> str:
    """Write JUnit XML: a test suite per file, a test case per output, gradient and finding.

    Disproved is a failure, as is a finding; a limit or a file that cannot be imported is an error; right but below
    the level that was asked for, or not decided, is skipped.

    Parameters
    ----------
    files : sequence of Checked
        What was checked.
    level : Level
        What was asked for.

    Returns
    -------
    str
        XML.
    """
    suites: list[str] = []
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for checked in files:
        counts = dict.fromkeys(totals, 0)
        cases: list[str] = []
        for one in _told(checked):
            counts["tests"] += 1
            inside = ""
            kind = _kind(one, level)
            if kind is not None:
                counts[{"failure": "failures", "error": "errors", "skipped": "skipped"}[kind]] += 1
                first = f"{one.word}: {one.message}".partition("\n")[0]
                of_type = "" if kind == "skipped" else f" type={_attribute(one.word)}"
                inside = f"<{kind} message={_attribute(first)}{of_type}>{_xml(_whole(checked, one))}</{kind}>"
            group = ".".join(filter(None, (checked.report.file, one.pair)))
            cases.append(
                f"    <testcase classname={_attribute(group)} name={_attribute(one.name)}>{inside}</testcase>\n"
            )
        printed = f"    <system-out>{_xml(checked.printed)}</system-out>\n" if checked.printed else ""
        numbers = "".join(f' {name}="{count}"' for name, count in counts.items())
        seconds = f' time="{checked.seconds:.3f}"' if checked.seconds is not None else ""
        suites.append(
            f"  <testsuite name={_attribute(checked.report.file)}{numbers}{seconds}>\n"
            f"{''.join(cases)}{printed}  </testsuite>\n"
        )
        totals = {name: total + counts[name] for name, total in totals.items()}
    del totals["skipped"]  # the outermost element has no such attribute
    numbers = "".join(f' {name}="{count}"' for name, count in totals.items())
    whole = f'<testsuites name="xhat check"{numbers}>\n{"".join(suites)}</testsuites>\n'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{whole}'


def _kind(one: _Told, level: Level) -> str | None:
    """Return what stands inside a JUnit test case; None if it passed."""
    if one.word in ("DISPROVED", "FINDING"):
        return "failure"
    if one.word in ("LIMIT", "ERROR"):
        return "error"
    return None if one.passes(level) else "skipped"


def _whole(checked: Checked, one: _Told) -> str:
    """Return all that is said of one thing, as plain lines."""
    lines = [one.message]
    if one.line:
        lines.append(f"{checked.report.file}, {checked.where(one.line)}")
    if one.counterexample:
        lines.append(f"for example: {one.counterexample}")
    if one.repair:
        changed = [line for line in one.repair.splitlines() if not line.startswith(("--- ", "+++ "))]
        lines += ["a change that was tried and found right:", *changed]
    return "\n".join(lines)


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _xml(words: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", words))


def _attribute(words: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", words))


# SARIF


_RULES: Mapping[str, str] = {
    "disproved": "An output or a gradient differs from the true one at an input that is shown.",
    "not-reached": "An output or a gradient is not known to be right at the level that was asked for.",
    "reached": "An output or a gradient is right at the level that was asked for.",
    "limit": "The check met a limit before it was done.",
    "import-error": "The file could not be read or imported.",
}


def sarif(files: Sequence[Checked], level: Level) -> str:
    """Write SARIF 2.1.0, the form in which code hosts and editors take findings.

    Parameters
    ----------
    files : sequence of Checked
        What was checked.
    level : Level
        What was asked for.

    Returns
    -------
    str
        JSON. Lines are those of the file; a notebook has none, so that the place stands in the message.
    """
    rules = dict(_RULES)
    results: list[dict[str, Any]] = []
    for checked in files:
        for one in _told(checked):
            rule, kind = _rule(one, level)
            rules.setdefault(rule, f"Found without proof: {rule}.")
            results.append(_result(checked, one, rule, kind, list(rules).index(rule)))
    document = {
        "version": "2.1.0",
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "xhat check",
                        "version": version("xhat"),
                        "rules": [{"id": rule, "shortDescription": {"text": told}} for rule, told in rules.items()],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }
    return _json.dumps(document, indent=2) + "\n"


def _rule(one: _Told, level: Level) -> tuple[str, str]:
    """Return the SARIF rule and the kind of a result."""
    if one.word == "FINDING":
        return one.name, "fail"
    if one.word == "ERROR":
        return "import-error", "fail"
    if one.word == "LIMIT":
        return "limit", "open"
    if one.word == Word.DISPROVED:
        return "disproved", "fail"
    return ("reached", "pass") if one.passes(level) else ("not-reached", "open")


def _result(checked: Checked, one: _Told, rule: str, kind: str, index: int) -> dict[str, Any]:
    head = " ".join(filter(None, (one.pair, one.name if one.word in _MARK else "", one.word)))
    words = f"{head}: {one.message}"
    if one.counterexample:
        words += f"\nfor example: {one.counterexample}"
    artifact = {"uri": _uri(checked.report.file)}
    place: dict[str, Any] = {"artifactLocation": artifact}
    if one.line:
        if checked.notebook:
            words += f"\n({checked.where(one.line)})"
        else:
            place["region"] = {"startLine": one.line}
    location: dict[str, Any] = {"physicalLocation": place}
    if one.pair:
        location["logicalLocations"] = [{"name": one.name, "fullyQualifiedName": f"{one.pair}.{one.name}"}]
    result = {
        "ruleId": rule,
        "ruleIndex": index,
        "kind": kind,
        "level": "error" if kind == "fail" else "none",
        "message": {"text": words},
        "locations": [location],
    }
    edits = [] if checked.notebook or not one.repair else _edits(one.repair, _lines(checked.text))
    if edits:
        replacements = [
            {
                "deletedRegion": {
                    "startLine": edit.start + 1,
                    "startColumn": 1,
                    "endLine": edit.start + edit.removed + 1,
                    "endColumn": 1,
                },
                "insertedContent": {"text": "".join(edit.added)},
            }
            for edit in edits
        ]
        change = {"artifactLocation": artifact, "replacements": replacements}
        result["fixes"] = [
            {"description": {"text": "A change that was tried and found right."}, "artifactChanges": [change]}
        ]
    return result


def _uri(file: str) -> str:
    quoted = urllib.parse.quote(os.fsencode(file))
    return f"file://{quoted}" if file.startswith("/") else quoted


# Patches


class _Edit(NamedTuple):
    """Lines of a text exchanged for others."""

    start: int  # counted from 0
    removed: int
    added: list[str]


_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@")


def _lines(words: str) -> list[str]:
    """Return the lines with what ends them; only a line feed does."""
    return re.findall(r"[^\n]*\n|[^\n]+", words)


def _edits(diff: str, lines: Sequence[str]) -> list[_Edit]:
    """Return what a unified diff changes in these lines; nothing if it is a diff of others."""
    edits: list[_Edit] = []
    place, left = 0, 0
    open_edit: _Edit | None = None
    for line in diff.split("\n"):
        hunk = _HUNK.match(line)
        if hunk and not left:
            left = int(hunk[2] or 1)
            place = int(hunk[1]) - (left > 0)  # without a line of the old text, the line before is named
            open_edit = None
        elif line.startswith(("---", "+++", "\\")) and not left:
            continue
        elif line.startswith("+"):
            if open_edit is None:
                edits.append(open_edit := _Edit(place, 0, []))
            ending = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
            open_edit.added.append(line[1:].rstrip("\r") + ending)
        elif left and line[:1] in ("-", " ", ""):
            if place >= len(lines) or line[1:].rstrip("\r") != lines[place].rstrip("\r\n"):
                return []
            if line.startswith("-"):
                if open_edit is None:
                    open_edit = _Edit(place, 0, [])
                else:
                    edits.pop()
                edits.append(open_edit := _Edit(open_edit.start, open_edit.removed + 1, open_edit.added))
            else:
                open_edit = None
            place += 1
            left -= 1
    return edits


class Patch(NamedTuple):
    """All repairs as one unified diff.

    Attributes
    ----------
    diff : str
        What `patch -p0` and `git apply -p0` take.
    left_out : int
        How many repairs touch the same lines as another, or are those of a notebook: after the patch, check again.
    """

    diff: str
    left_out: int


def patch(files: Sequence[Checked]) -> Patch:
    """Put the repairs of all files into one diff.

    Parameters
    ----------
    files : sequence of Checked
        What was checked.

    Returns
    -------
    Patch
        The diff.
    """
    parts: list[str] = []
    left_out = 0
    for checked in files:
        lines = _lines(checked.text)
        taken: list[_Edit] = []
        for repair in dict.fromkeys(one.repair for one in _told(checked) if one.repair):
            edits = _edits(repair, lines)
            fresh = [edit for edit in edits if edit not in taken]
            if checked.notebook or not edits or any(_meet(a, b) for a in fresh for b in taken):
                left_out += 1
            else:
                taken += fresh
        new = list(lines)
        for edit in sorted(taken, reverse=True):
            new[edit.start : edit.start + edit.removed] = edit.added
        if lines and not lines[-1].endswith("\n") and new and any(e.start + e.removed == len(lines) for e in taken):
            new[-1] = new[-1].rstrip("\r\n")
        name = one_line(checked.report.file)
        for line in difflib.unified_diff(lines, new, name, name):
            parts.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return Patch("".join(parts), left_out)


def _meet(a: _Edit, b: _Edit) -> bool:
    """Whether two changes touch the same lines, or insert at the same place."""
    return a.start <= b.start + b.removed and b.start <= a.start + a.removed


# GitHub


def github(files: Sequence[Checked], level: Level) -> str:
    """Write the commands by which GitHub Actions marks lines of a pull request.

    Parameters
    ----------
    files : sequence of Checked
        What was checked.
    level : Level
        What was asked for.

    Returns
    -------
    str
        One line for each thing that is wrong or not decided.
    """
    lines: list[str] = []
    for checked in files:
        for one in _told(checked):
            kind = _kind(one, level)
            if kind is None:
                continue
            place = f",line={one.line}" if one.line and not checked.notebook else ""
            title = " ".join(filter(None, (one.pair, one.name)))
            lines.append(
                f"::{'warning' if kind == 'skipped' else 'error'} file={_property(checked.report.file)}{place},"
                f"title={_property(title)}::{_data(f'{one.word}: {_whole(checked, one)}')}\n"
            )
    return "".join(lines)


def _data(words: str) -> str:
    kept = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in words)
    return kept.replace("%", "%25").replace("\n", "%0A")


def _property(words: str) -> str:
    return _data(words).replace(":", "%3A").replace(",", "%2C")


# HTML


_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ground: #f3f4f6; --line: #dde1e6; --ink: #1c2024; --soft: #5d6570;
  --good: #176b34; --weak: #00609a; --bad: #b01818; --open: #8a5300 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ground: #0c0e11; --line: #343b44; --ink: #e9ecef; --soft: #a3acb8; --good: #7ddb98;
    --weak: #74bdf2; --bad: #ff9a94; --open: #f0c274 }
}
* { box-sizing: border-box }
body { margin: 0; color: var(--ink); background: var(--ground); font: 15px/1.55 system-ui, sans-serif }
main { max-width: 1200px; margin: 0 auto; padding: 28px 24px 64px }
h1 { font-size: 26px; margin: 0 } h2 { font-size: 19px; margin: 0 0 4px } h3 { font-size: 16px; margin: 18px 0 6px }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px;
  margin-top: 18px; overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: 6px 18px 6px 0; border-bottom: 1px solid var(--line) }
th, .soft { color: var(--soft) } th { font-weight: 600 } td.word { white-space: nowrap; font-weight: 600 }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; margin: 0 }
th:nth-child(1) { width: 16% } th:nth-child(2) { width: 17% } h3 code { font-size: inherit }
td pre { white-space: pre-wrap; overflow-wrap: anywhere } a { color: inherit }
.good { color: var(--good) } .weak { color: var(--weak) } .bad { color: var(--bad) } .open { color: var(--open) }
.source span { display: block; white-space: pre; padding-left: 4px; border-left: 4px solid transparent }
.source span.marked { border-left-color: currentColor; font-weight: 600 }
.source i { color: var(--soft); font-style: normal; display: inline-block; min-width: 5ch; user-select: none }
details { margin-top: 14px } summary { cursor: pointer }
@media print { body { background: #fff } section { break-inside: avoid } }
"""

_CLASS: Mapping[str, str] = {
    "PROVED": "good",
    "EXACT": "good",
    "AGREES": "weak",
    "DISPROVED": "bad",
    "NOT DECIDED": "open",
    "FINDING": "bad",
    "LIMIT": "open",
    "ERROR": "bad",
}
_MARKS: Mapping[str, str] = {
    **{str(word): mark for word, mark in _MARK.items()},
    "FINDING": "!",
    "LIMIT": "!",
    "ERROR": "!",
}


def html(files: Sequence[Checked], level: Level) -> str:
    """Write a page of its own: verdicts, repairs, and the source with its marked lines.

    Parameters
    ----------
    files : sequence of Checked
        What was checked.
    level : Level
        What was asked for.

    Returns
    -------
    str
        HTML that needs no script, font or network, in the colours of the reader's own light or dark screen.
    """
    sections = "".join(_section(number, checked, level) for number, checked in enumerate(files))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>xhat check</title><style>{_STYLE}</style></head><body><main>"
        f'<h1>xhat check</h1><p class="soft">{_text(_summary(files, level))}. Asked for: {level}.</p>'
        f"{sections}</main></body></html>\n"
    )


def _section(number: int, checked: Checked, level: Level) -> str:
    told = list(_told(checked))
    parts = [f"<h2>{_text(checked.report.file)}</h2>", f'<p class="soft">{_text(_summary([checked], level))}</p>']
    for pair in dict.fromkeys(one.pair for one in told):
        if pair:
            parts.append(f"<h3><code>{_text(pair)}</code></h3>")
        rows = "".join(_table_row(number, checked, one) for one in told if one.pair == pair)
        parts.append(f"<table><tr><th>name</th><th>verdict</th><th>why</th></tr>{rows}</table>")
    stopped = [checked.stopped] if checked.stopped else []
    for note in (*stopped, *checked.notes, *(f"not allowed: {act}" for act in checked.refused)):
        parts.append(f'<p class="soft">{_text(note)}</p>')
    if checked.printed:
        more = f"\n... and {checked.dropped:,} bytes more" if checked.dropped else ""
        parts.append(
            f"<details><summary>your code printed</summary><pre>{_text(checked.printed + more)}</pre></details>"
        )
    if checked.text:
        parts.append(_listing(number, checked, told))
    return f"<section>{''.join(parts)}</section>"


def _table_row(number: int, checked: Checked, one: _Told) -> str:
    why = f"<pre>{_text(one.message)}</pre>"
    if one.line:
        why += f'<a class="soft" href="#f{number}l{one.line}">{_text(checked.where(one.line))}</a>'
    if one.counterexample:
        why += f"<pre>for example: {_text(one.counterexample)}</pre>"
    if one.repair:
        changed = "".join(
            f'<span class="{ {"+": "good", "-": "bad"}.get(line[:1], "soft") }">{_text(line)}</span>\n'
            for line in one.repair.splitlines()
            if not line.startswith(("---", "+++"))
        )
        why += f'<p class="soft">a change that was tried and found right:</p><pre>{changed}</pre>'
    return (
        f"<tr><td><code>{_text(one.name)}</code></td>"
        f'<td class="word {_CLASS[one.word]}">{_MARKS[one.word]} {one.word}</td><td>{why}</td></tr>'
    )


def _listing(number: int, checked: Checked, told: Sequence[_Told]) -> str:
    """Write the source, each line that something is said of with the words said."""
    marks: dict[int, list[_Told]] = {}
    for one in told:
        if one.line and one.word not in (Word.PROVED, Word.EXACT, Word.AGREES):
            marks.setdefault(one.line, []).append(one)
    linked = {one.line for one in told}
    lines: list[str] = []
    for place, line in enumerate(checked.text.splitlines(), 1):
        here = marks.get(place, [])
        anchor = f' id="f{number}l{place}"' if place in linked else ""
        kind = f' class="marked {_CLASS[here[0].word]}"' if here else ""
        said = "".join(f"  {_MARKS[one.word]} {one.word} {one.name}" for one in here)
        lines.append(f"<span{anchor}{kind}><i>{place}</i> {_text(line)}{_text(said)}</span>")
    return (
        f"<details{' open' if marks else ''}><summary>the source</summary>"
        f'<pre class="source">{"".join(lines)}</pre></details>'
    )


def _text(words: str) -> str:
    """Return words as text of a page, whatever is in them."""
    return _html.escape("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in words))
