"""The order of work: what is said of a pair, and from which engine.

    1. static     the source alone: names, the cache, bodies that are not written
    2. protocol   floats: what is returned, what is changed, the forward against the formula, slopes
    3. exact      an identity in large finite fields, at some sizes
    4. symbols    the true gradient, derived from the user's own forward, for all sizes
    5. words      for what is wrong: terms, a known mistake, the first wrong line, a repair that was proved

A gradient is called PROVED only if no other engine found a difference.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import itertools
import linecache
import math
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from xhat.checks import as_count
from xhat.verify import formats, specs
from xhat.verify.exact import ExactResult, exact_identity
from xhat.verify.faults import DICTIONARIES, Match, diagnose
from xhat.verify.glance import Look, at_a_point, by_dictionary
from xhat.verify.problem import Problem
from xhat.verify.protocol import protocol
from xhat.verify.rebind import line_of
from xhat.verify.repair import Edit as Replacement
from xhat.verify.repair import Edits, Hints, candidates, edited, repairs
from xhat.verify.report import FileReport, Finding, Level, PairReport, Verdict, Word
from xhat.verify.source import FoundPair, Source, declaration, pairs, read
from xhat.verify.specs import Spec
from xhat.verify.spelling import Speller
from xhat.verify.static import fixed_names, static_findings
from xhat.verify.symbolic import Proof, Refusal, prove, told
from xhat.verify.terms import Explanation, Words, explain
from xhat.verify.undo import undone
from xhat.verify.values import Located, first_wrong_line

_REPAIR_SECONDS = 2.0
_EXPLANATION_SECONDS = 2.0
_MOST_UNDONE = 100  # ways to undo one mistake
_GLANCE_SECONDS = 0.3
_TRIAL_SECONDS = 1.0  # for an edited text, which may run for ever
_RESERVE = 1.0  # seconds that are left for the report itself
_OUT = "out"
_STATEFUL = {"global-state", "not-deterministic", "numpy-changed", "output-overwritten"}

_STOPS_THE_CODE = {"not-written", "undefined-name", "cache-length", "cache-none"}  # what is raised then says no more

_serial = itertools.count()


class Report(NamedTuple):
    """What `check` says of a pair of functions.

    Attributes
    ----------
    pair : PairReport
        All of it.
    asked : Level
        The level that was asked for.
    """

    pair: PairReport
    asked: Level

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong and all reached the level that was asked for."""
        return not self.pair.wrong and self.pair.level >= self.asked

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """By name: "out", "dx"."""
        return {verdict.name: verdict for verdict in self.pair.verdicts}

    @property
    def findings(self) -> Sequence[Finding]:
        """What else to change."""
        return self.pair.findings

    def _checked(self) -> list[formats.Checked]:
        return [formats.Checked(FileReport(self.pair.pair, [self.pair]))]

    def text(self) -> str:
        """Return the report as a terminal shows it."""
        return formats.text(self._checked(), self.asked)

    def json(self) -> str:
        """Return the report as JSON; the schema is docs/check.schema.json."""
        return formats.json(self._checked(), self.asked)

    def html(self) -> str:
        """Return the report as a page."""
        return formats.html(self._checked(), self.asked)

    def __str__(self) -> str:
        return self.text()


def check(
    forward: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    *,
    layer: str | None = None,
    shapes: Mapping[str, Any] | None = None,
    spec: str | None = None,
    level: Level | str = Level.EXACT,
    name: str | None = None,
    seed: int = 0,
) -> Report:
    """Prove that a backward pass is the gradient of a forward pass, or say what is wrong with it.

    The two functions run as they are, on floats, on exact numbers and on symbols; copies of them do, and nothing is
    changed. They run in this process: code that you do not trust belongs into `xhat check`, or better a container.

    Parameters
    ----------
    forward : callable
        Returns `(y, cache)`. A loss returns itself and its gradient, and has no backward.
    backward : callable, optional
        Takes `(dy, cache)`, and returns a gradient for every input, in their order.
    layer : str, optional
        What the pair should be: "batch_norm", or another layer of this library. Without, it is found by the functions'
        names, or only the gradient is judged.
    shapes : mapping of str to str, optional
        What the parameters of the forward are, where names do not tell: `{"x": "N D", "w": "D M", "labels": "N < C"}`.
    spec : {"cs231n", "torch", "none"}, optional
        Whose signatures they have.
    level : {"numeric", "exact", "proof"}
        What is asked for. "numeric" runs the code on floats alone; otherwise all engines run, and what can be proved is
        proved.
    name : str, optional
        What the pair is called. Default: from the name of the forward.
    seed : int
        Draws the points and primes.

    Returns
    -------
    Report
        `ok`, `verdicts["dx"]`, `findings`, `text()`, `json()`, `html()`.

    Raises
    ------
    TypeError, ValueError
        If it cannot be known how to call the functions; the message says how to declare it. If the level or the seed is
        none.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> def forward(x, w):
    ...     return x @ w, (x, w)
    >>> def backward(dy, cache):
    ...     x, w = cache
    ...     return dy @ w.T, dy.T @ x
    >>> report = xhat.verify.check(forward, backward, shapes={"x": "N D", "w": "D M"})
    >>> report.ok, str(report.verdicts["dx"].word), report.verdicts["dw"].message
    (False, 'PROVED', 'shape (M, D), expected (D, M)')
    """
    asked = _asked(level)
    as_count("check", "seed", seed, 0, "Any such number will do.")
    called = name or getattr(forward, "__name__", "pair").removesuffix("_forward")
    found = specs.find(called, forward, backward, convention=spec, declaration=shapes, layer=layer)
    report = _Examination(found, asked, seed).report()
    return Report(replace(report, verdicts=_explained(found, report.verdicts, {})), asked)


def _asked(level: Level | str) -> Level:
    """Return the level by its name; that nothing is reached cannot be asked for."""
    levels = {str(one): one for one in Level if one is not Level.NONE}
    name = str(level).lower()
    if not isinstance(level, str | Level) or name not in levels:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"check: expected level {', '.join(map(repr, levels))}, got {level!r}. Choose one of these.")
    return levels[name]


def assert_gradient(
    forward: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    *,
    level: Level | str = Level.EXACT,
    **options: Any,
) -> None:
    """Raise an AssertionError that explains what is wrong, unless the level is reached.

    Parameters
    ----------
    forward, backward : callable
        As for `check`.
    level : {"numeric", "exact", "proof"}
        What must be reached.
    **options
        As for `check`.

    Raises
    ------
    AssertionError
        Its message is the report.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> def relu_forward(x):
    ...     return np.maximum(x, 0), x
    >>> def relu_backward(dy, x):
    ...     return dy * (x > 0)
    >>> xhat.verify.assert_gradient(relu_forward, relu_backward)
    """
    report = check(forward, backward, level=level, **options)
    if not report.ok:
        raise AssertionError("\n" + report.text())


def check_file(
    path: str | os.PathLike[str],
    *,
    pair: str | None = None,
    spec: str | None = None,
    level: Level = Level.EXACT,
    seed: int = 0,
    time_left: Callable[[], float] = lambda: math.inf,
    on_pair: Callable[[PairReport], None] = lambda _: None,
) -> FileReport:
    """Check the pairs of a file. The file is imported, and its code runs in this process.

    Parameters
    ----------
    path : path
        A Python file or a notebook.
    pair : str, optional
        Only this pair.
    spec : str, optional
        Whose signatures they have.
    level : Level
        What is asked for; at NUMERIC the code runs on floats alone.
    seed : int
        Draws the points and primes.
    time_left : callable
        How many seconds there are.
    on_pair : callable
        Is given the report on each pair as it is finished.

    Raises
    ------
    SourceError
        If the file cannot be read.
    """
    source = read(path)
    name = str(path)
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last: a student's random.py is not Python's
    try:
        module = _executed(source.text, str(Path(path).resolve()), in_memory=name.lower().endswith(".ipynb"))
    except MemoryError:
        raise
    except Exception as error:
        line = _line_in(error, str(Path(path).resolve()))
        told = f"the import ends with {type(error).__name__}: {error}. {_advice(error)}"
        return FileReport(name, error=told, error_line=line)
    declared = declaration(source)
    done: list[PairReport] = []
    for found in pairs(source):
        if pair is not None and found.name != pair:
            continue
        if pair is None and not (found.forward and (found.backward or found.kind == "loss")):
            continue
        file = _File(source, module, declared, spec, level, seed, time_left)
        try:
            report = file.report(found)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # an error that cannot be told, say: the other pairs are judged all the same
            why = f"the check of this pair ended with {type(error).__name__}"
            report = PairReport(found.name, [Verdict(_OUT, Word.NOT_DECIDED, why, found.line)], line=found.line)
        done.append(report)
        on_pair(report)
    return FileReport(name, done)


def _advice(error: Exception) -> str:
    """Return what to do about a file that cannot be imported."""
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "The file runs alone: import from layers, say, and not from .layers."
    if isinstance(error, ImportError):
        return "Put the functions into a file that imports NumPy alone, or install what is missing."
    return "Run the file with Python first."


@dataclass
class _Examination:
    """One pair: all engines, and what their answers come to."""

    spec: Spec
    level: Level
    seed: int
    time_left: Callable[[], float] = lambda: math.inf
    exact: list[ExactResult] = field(default_factory=list[ExactResult])
    proof: Proof | None = None
    refusal: Refusal | None = None
    specified: bool = False

    @property
    def problem(self) -> Problem:
        return self.spec.problem

    def report(self) -> PairReport:
        """Run the engines, and return what they say."""
        self.floats = protocol(self.spec, rng=self.seed)
        broken = self.floats.failed or any(f.kind in ("exception", "malformed") for f in self.floats.findings)
        if self.level >= Level.EXACT and not broken and self._gradients_judged():
            for sizes in self.problem.sizes:
                known = self.exact[-1].verdicts.values() if self.exact else ()
                settled = known and all(verdict.word is Word.DISPROVED for verdict in known)
                if self.time_left() > _RESERVE and not settled:
                    self.exact.append(exact_identity(self.problem, sizes, seed=self.seed))
        if self.level >= Level.EXACT and not broken and self.time_left() > _RESERVE:
            try:
                self.proof = prove(self.problem)
            except Refusal as refusal:
                self.refusal = refusal
        self.words = Words(self.proof) if self.proof is not None else None
        self.explained: dict[str, Explanation] = {}
        verdicts = [
            self._output(name, verdict) for name, verdict in self.floats.verdicts.items() if not verdict.is_gradient
        ]
        verdicts += [self._gradient(name) for name in self.problem.gradients]
        return PairReport(
            self.spec.name, verdicts, self.floats.findings, evidence=self._evidence(), remarks=self.floats.remarks
        )

    def _gradients_judged(self) -> bool:
        return (
            any(
                name in self.floats.verdicts and self.floats.verdicts[name].word is not Word.NOT_DECIDED
                for name in self.problem.gradients
            )
            or not self.floats.findings
        )

    def _output(self, name: str, verdict: Verdict) -> Verdict:
        """Return the verdict on an output: PROVED if its formula is that of the layer on symbols."""
        if name == _OUT and verdict.word is Word.AGREES and self.proof is not None and self.proof.specified:
            return replace(verdict, word=Word.PROVED, message=self._for_all(f"your forward is {self._title()}"))
        return verdict

    def _title(self) -> str:
        return (self.spec.layer or self.spec.name).replace("_", " ")

    def _for_all(self, said: str = "") -> str:
        names = list(
            dict.fromkeys(part for axes in self.problem.inputs.values() for axis in axes for part in axis.split("*"))
        )
        sizes = [name for name in names if not name.isdecimal()]
        told = " and ".join(filter(None, [", ".join(sizes[:-1]), sizes[-1] if sizes else ""]))
        first = f"for all {told}" if told else "for all inputs"
        kept = [f"{name} = {value}" for name, value in self.problem.sizes[0].items() if name not in names]
        first += f", with {', '.join(kept)}" if kept else ""
        first = f"{said}, {first}" if said else first
        assumed = self.words.assumptions() if self.words is not None else []
        return "\n".join([first, *(f"assuming {text}" for text in assumed)])

    def _gradient(self, name: str) -> Verdict:
        numeric = self.floats.verdicts.get(name)
        exact = [result.verdicts[name] for result in self.exact if name in result.verdicts]
        symbolic = self.proof.gradients.get(name) if self.proof is not None else None
        disproved = [e for e in exact if e.word is Word.DISPROVED]
        remembers = next((f for f in self.floats.findings if f.kind in _STATEFUL), None)
        if remembers is not None and not (disproved or (numeric is not None and numeric.wrong)):
            return Verdict(
                name, Word.NOT_DECIDED, f"it is no function of its arguments: {remembers.message}", remembers.line
            )
        if disproved or (numeric is not None and numeric.wrong):
            return self._disproved(name, numeric, disproved[0].counterexample if disproved else None)
        why, line = self._why_not(name)
        if symbolic is not None and symbolic.proved and numeric is not None and numeric.word is Word.AGREES:
            return Verdict(name, Word.PROVED, self._for_all())
        if exact and all(e.word is Word.EXACT for e in exact):
            return Verdict(name, Word.EXACT, "\n".join([*(e.message for e in exact), *why]), line)
        undecided = next((e for e in exact if e.word is Word.NOT_DECIDED), None)
        if undecided is not None:
            why, line = [*why, f"not exact: {undecided.message}"], line or undecided.line
        if numeric is None:
            return Verdict(name, Word.NOT_DECIDED, "\n".join(why) or "it could not be computed", line)
        if numeric.word is Word.AGREES:
            return replace(numeric, message="\n".join([numeric.message, *why]), line=line or numeric.line)
        return replace(numeric, message="\n".join([numeric.message, *why]))

    def _why_not(self, name: str) -> tuple[list[str], int | None]:
        """Return why a gradient is not proved, and where."""
        if self.level < Level.EXACT:
            return [], None
        if self.refusal is not None:
            return [f"not proved: {self.refusal.why}"], self.refusal.line
        if self.proof is None:
            return [], None
        for key in ("", name):
            if key in self.proof.undecided:
                why, line = self.proof.undecided[key]
                return [f"not proved: {why}"], line
        gradient = self.proof.gradients.get(name)
        if gradient is None or gradient.proved:
            return [], None
        return ["not proved: the difference of the two formulas could not be brought to 0"], None

    def _disproved(self, name: str, numeric: Verdict | None, counterexample: str | None) -> Verdict:
        symbolic = self.proof.gradients.get(name) if self.proof is not None else None
        message = numeric.message if numeric is not None and numeric.wrong else "not the gradient of your forward"
        returned = self.proof is not None and "" not in self.proof.undecided
        if symbolic is not None and self.words is not None and returned and not symbolic.proved:
            if symbolic.user is None:
                message = f"shape {told(symbolic.shape)}, expected {told(symbolic.expected)}"
            else:
                self.explained[name] = explain(symbolic, self.words)
                message = "\n".join([*self.explained[name].lines, *self._where()])
        line = numeric.line if numeric is not None else None
        shown = counterexample or (numeric.counterexample if numeric is not None else None)
        return Verdict(name, Word.DISPROVED, message, line, None, shown)

    def _where(self) -> list[str]:
        assert self.words is not None
        return [f"with {text}" for text in self.words.meaning()]

    def _evidence(self) -> dict[str, Any]:
        evidence: dict[str, Any] = {
            "convention": self.spec.convention,
            "layer": self.spec.layer,
            "seed": self.seed,
        }
        if self.proof is not None and self.words is not None:
            evidence["symbols"] = {
                "assumptions": self.words.assumptions(),
                "literals": {repr(value): str(read_as) for value, read_as in self.proof.space.literals.items()},
                "functions": sorted(self.proof.functions),
                "milliseconds": round(self.proof.milliseconds, 1),
            }
        if self.exact:
            evidence["exact"] = [
                {
                    "sizes": result.sizes,
                    "kind": result.kind,
                    "primes": list(result.primes),
                    "degree": result.degree,
                    "log2_failure": round(result.log2_failure, 1),
                    "redraws": result.redraws,
                    "branches": result.branches,
                    "literals": {repr(value): str(read_as) for value, read_as in result.literals.items()},
                }
                for result in self.exact
            ]
        return evidence


@dataclass(frozen=True)
class _File:
    """The pairs of one file."""

    source: Source
    module: types.ModuleType
    declared: Mapping[str, Mapping[str, Any]]
    convention: str | None
    level: Level
    seed: int
    time_left: Callable[[], float]

    def report(self, found: FoundPair) -> PairReport:
        """Check one pair."""
        findings = static_findings(self.source, found)
        if found.note or found.kind in ("class", "nested"):
            verdict = Verdict(_OUT, Word.NOT_DECIDED, found.note or f"a {found.kind} is not called", found.line)
            return PairReport(found.name, [verdict], findings, line=found.line)
        text, sides = self._with_names_put_right(found)
        try:
            forward, backward = self._functions(found, text)
            spec = self._spec(found, forward, backward)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            verdict = Verdict(_OUT, Word.NOT_DECIDED, str(error), found.line)
            return PairReport(found.name, [verdict], findings, line=found.line)
        examination = _Examination(spec, self.level, self.seed, self.time_left)
        report = examination.report()
        verdicts = list(report.verdicts)
        told = {finding.kind for finding in findings}
        if told & _STOPS_THE_CODE:
            told |= {"exception", "malformed"}
        findings = [*findings, *(f for f in report.findings if f.kind not in told)]
        if sides:
            outputs_too = "forward" in sides
            verdicts = [_if_put_right(v) if outputs_too or v.is_gradient else v for v in verdicts]
        if any(verdict.wrong for verdict in verdicts):
            verdicts = _explained(spec, verdicts, self.source.lines)
        if any(verdict.wrong for verdict in verdicts) or findings:
            verdicts, findings = self._repaired(found, spec, verdicts, findings, examination)
        return PairReport(found.name, verdicts, findings, found.line, report.evidence, remarks=report.remarks)

    def _with_names_put_right(self, found: FoundPair) -> tuple[str, set[str]]:
        """Return the text with misspelt names as they were meant, so that the rest can be judged, and their sides."""
        fixes = fixed_names(self.source, found)
        edits = [Replacement(*self.source.span(node), name) for node, name in fixes]
        forward = self.source.functions.get(found.forward or "")
        lines = range(forward.lineno, (forward.end_lineno or 0) + 1) if forward is not None else range(0)
        sides = {"forward" if node.lineno in lines else "backward" for node, _ in fixes}
        return (edited(self.source.text, edits) if edits else self.source.text), sides

    def _functions(self, found: FoundPair, text: str) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
        module = self.module
        if text != self.source.text:
            module = _executed(text, module.__file__ or self.source.path, in_memory=True)
        forward = _attribute(module, found.forward or "")
        return forward, _attribute(module, found.backward) if found.backward else None

    def _spec(self, found: FoundPair, forward: Any, backward: Any) -> Spec:
        declared = self.declared.get(found.name)
        return specs.find(found.name, forward, backward, convention=self.convention, declaration=declared)

    def _repaired(
        self,
        found: FoundPair,
        spec: Spec,
        verdicts: list[Verdict],
        findings: list[Finding],
        examination: _Examination,
    ) -> tuple[list[Verdict], list[Finding]]:
        """Look for a small edit after which everything is right, and put it where it belongs."""
        wrong = [verdict.name for verdict in verdicts if verdict.wrong]
        lines = [item.line for item in (*verdicts, *findings) if item.line is not None]
        speller = functools.cache(lambda: _speller(spec.problem))

        def missing(name: str, factor: str) -> Sequence[str]:
            explained = examination.explained.get(name)
            words = speller() if explained is not None and explained.missing else None
            return words.missing(name, factor) if words is not None else ()

        def whole(name: str) -> str | None:
            words = speller() if examination.proof is not None else None
            return words.whole(name) if words is not None else None

        known = self._undone(found, spec) if wrong else ()  # the tables of pairs of mistakes take their time
        hints = Hints(spec.problem.gradients, wrong, lines, known, missing, whole)
        budget = min(_REPAIR_SECONDS, self.time_left() - _RESERVE)
        if budget <= 0:
            return verdicts, findings
        names = [verdict.name for verdict in verdicts]

        def accept(text: str) -> bool:
            return self._is_right(found, text, names)

        look = self._look(found, spec, wrong)
        repair = repairs(self.source, candidates(self.source, found, hints), accept, budget, look)
        if repair is None:
            return verdicts, findings
        if wrong:
            edit = max(repair.edits) if wrong[0].startswith("d") else min(repair.edits)  # the cache may be packed anew
            line = self.source.line_of(edit.start)
            verdicts = [replace(v, repair=repair.diff, line=line) if v.name == wrong[0] else v for v in verdicts]
        elif findings:
            findings = [replace(findings[0], repair=repair.diff), *findings[1:]]
        return verdicts, findings

    def _undone(self, found: FoundPair, spec: Spec) -> Iterator[Edits]:
        """Yield edits that undo the known mistakes that leave what the code leaves."""
        layer = _dictionary_of(spec)
        if layer is None:
            return
        try:
            with _limited(_EXPLANATION_SECONDS):
                matches = diagnose(layer, *_as_the_course_calls(spec, layer))
        except (Exception, _TooLong):
            return
        for match in matches:
            ways: list[list[Edits]] = []
            for fault in match.faults:
                name = found.backward if fault.side == "backward" and found.backward else found.forward
                function = self.source.functions.get(name or "")
                ways.append(list(undone(self.source, function, DICTIONARIES[layer], fault)) if function else [])
            for chosen in itertools.islice(itertools.product(*ways), _MOST_UNDONE):
                yield tuple(dict.fromkeys(itertools.chain(*chosen)))

    def _look(self, found: FoundPair, spec: Spec, wrong: Sequence[str]) -> Callable[[Edits], frozenset[str]]:
        """Return what says quickly that edits cannot be right; nothing is wrong where it cannot see what is."""
        namespace = vars(self.module)
        spans: list[tuple[int, int]] = []
        for name in (found.forward, found.backward):
            function = self.source.functions.get(name or "")
            if name is None or function is None or "." in name or function.decorator_list:
                continue
            spans.append(self.source.span(function))

        def of(edits: Edits) -> Problem | None:
            """Return the problem with the edited functions, of which only these are compiled."""
            names = dict(namespace)
            for start, end in spans:
                inside = [edit for edit in edits if start <= edit.start and edit.end <= end]
                if inside:
                    moved = [edit._replace(start=edit.start - start, end=edit.end - start) for edit in inside]
                    exec(compile(edited(self.source.text[start:end], moved), "<edited>", "exec"), names)
            if any(not any(start <= edit.start and edit.end <= end for start, end in spans) for edit in edits):
                return None
            backward = names[found.backward] if found.backward else None
            return replace(spec.problem, forward=names[found.forward or ""], backward=backward)

        def looked(look: Look, edits: Edits) -> frozenset[str]:
            try:
                with _limited(_GLANCE_SECONDS):
                    problem = of(edits)
                    return look(problem) if problem is not None else frozenset()
            except (Exception, _TooLong):
                return frozenset({"error"})

        looks: list[Look] = []
        layer = _dictionary_of(spec)
        if layer is not None and spec.convention == "cs231n":
            looks.append(by_dictionary(layer, lambda problem: (problem.forward, problem.backward)))
        point = at_a_point(spec.problem)
        if point is not None:
            looks.append(point)
        for look in looks:
            before = looked(look, ())
            if before >= set(wrong) & {_OUT, *spec.problem.gradients} and before:

                def chosen(edits: Edits, look: Look = look, before: frozenset[str] = before) -> frozenset[str]:
                    left = looked(look, edits)
                    return frozenset() if left < before and not left & set(wrong) and "error" not in left else left

                return chosen
        return lambda _: frozenset()

    def _is_right(self, found: FoundPair, text: str, names: Sequence[str]) -> bool:
        """Judge an edited text: every gradient at least EXACT, the forward as asked, and nothing found."""
        try:
            with _limited(_TRIAL_SECONDS):
                forward, backward = self._functions(found, text)
                spec = self._spec(found, forward, backward)
                floats = protocol(spec, rng=self.seed)
                if floats.findings or any(verdict.word is not Word.AGREES for verdict in floats.verdicts.values()):
                    return False
                if not set(names) <= set(floats.verdicts):
                    return False
                return _holds(spec.problem, self.seed)
        except (Exception, _TooLong):
            return False


def _explained(spec: Spec, verdicts: Sequence[Verdict], lines_of: Mapping[int, str]) -> list[Verdict]:
    """Add the name of the mistake, and the first wrong line."""
    if not any(verdict.wrong for verdict in verdicts):
        return list(verdicts)
    layer = _dictionary_of(spec)
    if layer is None:
        return list(verdicts)
    of = (spec.problem.forward, spec.problem.backward)
    forward, backward = _as_the_course_calls(spec, layer)
    matches: list[Match] = []
    located: Located | None = None
    try:
        with _limited(_EXPLANATION_SECONDS):
            matches = diagnose(layer, forward, backward)
            located = first_wrong_line(layer, forward, backward, of=of)
    except (Exception, _TooLong):  # an explanation that cannot be had is none
        pass
    told: list[Verdict] = []
    out_is_wrong = any(verdict.wrong and verdict.name == _OUT for verdict in verdicts)
    for verdict in verdicts:
        if verdict.wrong:
            known = next((m.message for m in matches if verdict.name in m.parts), None)
            ours = located is not None and (located.side == "backward") == verdict.is_gradient
            lines = [known, verdict.message] if known is not None else [verdict.message]
            ours = ours and (verdict.is_gradient or verdict.name == _OUT or not out_is_wrong)
            if located is not None and ours and known is None and verdict.name == _OUT:
                lines.insert(0, located.message)
            if located is not None and ours:
                where = lines_of.get(located.line, f"line {located.line}")
                new = located.message not in lines
                lines.append(f"the first wrong line is {where}{f': {located.message}' if new else ''}")
            line = located.line if located is not None and ours else verdict.line
            verdict = replace(verdict, message="\n".join(dict.fromkeys(lines)), line=line)
        told.append(verdict)
    return told


def _if_put_right(verdict: Verdict) -> Verdict:
    """Return the verdict on code that was judged with its misspelt names put right: as it stands it does not run."""
    if verdict.word in (Word.DISPROVED, Word.NOT_DECIDED):
        return verdict
    return replace(verdict, word=Word.NOT_DECIDED, message=f"with the name put right: {verdict.word} {verdict.message}")


def _holds(problem: Problem, seed: int) -> bool:
    """Whether all gradients are proved, or exact at all sizes."""
    try:
        proof = prove(problem)
        if not proof.undecided and all(gradient.proved for gradient in proof.gradients.values()):
            return True
    except Refusal:
        pass
    results = [exact_identity(problem, sizes, seed=seed) for sizes in problem.sizes]
    return all(verdict.word is Word.EXACT for result in results for verdict in result.verdicts.values())


def _speller(problem: Problem) -> Speller | None:
    try:
        with _limited(_TRIAL_SECONDS):
            return Speller(problem)
    except (Refusal, _TooLong):
        return None


def _dictionary_of(spec: Spec) -> str | None:
    """Return the dictionary of mistakes that a pair belongs to."""
    name = spec.layer
    if name == "batch_norm" and len(next(iter(spec.problem.inputs.values()))) > 2:
        name = "spatial_batch_norm"
    return name if name in DICTIONARIES else None


def _as_the_course_calls(spec: Spec, layer: str) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
    """Return the two functions as the dictionary calls them: with the course's arguments."""
    problem = spec.problem
    if spec.convention == "cs231n":
        return problem.forward, problem.backward
    tree = next(node for node in ast.walk(ast.parse(DICTIONARIES[layer].forward)) if isinstance(node, ast.FunctionDef))
    names = [argument.arg for argument in tree.args.args]

    def forward(*given: Any) -> Any:
        values: dict[str, Any] = dict(problem.sizes[0])
        for name, value in zip(names, given, strict=True):
            values.update(cast("dict[str, Any]", value) if isinstance(value, dict) else {name: value})
        for name, axes in problem.inputs.items():
            for axis, length in zip(axes, np.shape(values[name]), strict=True):
                if "*" not in axis:
                    values[axis] = length
        positional, named = problem.arguments(values)
        return problem.forward(*positional, **named)

    return forward, problem.backward


class _TooLong(BaseException):
    """An edited text ran for too long."""


@contextlib.contextmanager
def _limited(seconds: float) -> Generator[None]:
    """Stop what runs inside after some time, where signals can."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: Any) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)  # of the processor: what else the machine does takes nothing away
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _executed(text: str, path: str, *, in_memory: bool = False) -> types.ModuleType:
    """Run a module's text; what is not on the disk under this name can be looked up all the same."""
    name = f"xhat_checked_{next(_serial)}"
    module = types.ModuleType(name)
    module.__file__ = path
    module.__dict__["__builtins__"] = builtins
    file = path
    if in_memory:
        file = f"{path} [{name}]"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    sys.modules[name] = module
    exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)
    return module


def _attribute(module: types.ModuleType, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _line_in(error: BaseException, file: str) -> int | None:
    """Return the line of a file at which its import fails, also where it is no Python."""
    line = line_of(error, file)
    return error.lineno if line is None and isinstance(error, SyntaxError) and error.filename == file else line
