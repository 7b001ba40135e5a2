"""Everything about a pair that floats show.

The pair is called as a caller would call it, at two sizes, with random dout, gammas of both signs, a large eps and the
usual one, and what it returns, changes and keeps is looked at:

    conduct     exceptions, shapes, what is modified, what depends on earlier calls: findings
    values      the output against the formula, the gradients against differences of the user's own forward: verdicts

A derivative along a direction v comes from differences at two steps, which cancel the error of order h²:

    D(h) = (f(x + h v) - f(x - h v)) / 2h        f'(x) v = (4 D(h) - D(2h)) / 3 + O(h⁴)

in long double, where the code lets it through. The complex step is not used: np.var and np.abs are wrong on complex
numbers. Where the function has a corner between the points, a smaller step is tried.
"""

from __future__ import annotations

import ast
import copy
import inspect
import math
import random
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any, NamedTuple, cast

import numpy as np

from xhat.checks import Array
from xhat.verify.problem import Call, Malformed, Problem, Values
from xhat.verify.report import Finding, Verdict, Word
from xhat.verify.specs import DEFAULTS, Norm, Running, Spec, constant

_TOLERANCE = 1e-7  # of a gradient's own length; a missing eps of 1e-5 is seen at the large eps
_NOISE = 1e-9  # of the sum of |dout| times the largest output: what is smaller is zero
_LEAST = 1e-3  # an output that is smaller still counts as much: it may be 0 everywhere
_OUTPUT = 1e-9  # of the output's largest entry
_STEPS = (2.0**-10, 2.0**-14, 2.0**-7, 2.0**-17)
_WIDE_STEPS = (2.0**-12, 2.0**-15, 2.0**-10, 2.0**-18)
_DIRECTIONS = 2
_MOMENTUM = 0.83
_SEED = 231


_NUMPY = {name: one for name, one in vars(np).items() if callable(one)}  # as it is before a user's file is imported


class ProtocolResult(NamedTuple):
    """What floats show.

    Parameters
    ----------
    findings : list of Finding
        What to change.
    verdicts : dict of str to Verdict
        "out", every gradient, "running_mean", "running_var", "out (test)", as far as they could be judged.
    remarks : list of Finding
        What is worth knowing and no fault: float64 out of float32, an unknown mode that is accepted.
    failed : bool
        Whether the check itself failed, so that nothing can be said: no fault of the code.
    """

    findings: list[Finding]
    verdicts: dict[str, Verdict]
    remarks: list[Finding]
    failed: bool = False


def protocol(spec: Spec, *, rng: int | np.random.Generator = 0) -> ProtocolResult:
    """Call a pair of functions as a caller would, and say what is wrong with what it does.

    Parameters
    ----------
    spec : Spec
        The pair; `specs.find` makes it.
    rng : int or numpy.random.Generator
        Draws inputs and directions.

    Returns
    -------
    ProtocolResult
        Nothing that the code raises gets out of here, but KeyboardInterrupt.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.verify.specs import find
    >>> def relu_forward(x):
    ...     return np.maximum(x, 0), x
    >>> def relu_backward(dout, cache):
    ...     return dout * (cache > 0)
    >>> result = protocol(find("relu", relu_forward, relu_backward))
    >>> [(name, str(verdict.word)) for name, verdict in result.verdicts.items()], result.findings
    ([('out', 'AGREES'), ('dx', 'AGREES')], [])
    """
    numbers, pythons, handling = np.random.get_state(), random.getstate(), np.geterr()  # noqa: NPY002
    changed = [f"np.{name}" for name, one in _NUMPY.items() if vars(np).get(name) is not one]
    findings: list[Finding] = []
    try:
        if not changed:
            return _Examination(spec, np.random.default_rng(rng)).run()
        told = f"the file changes {', '.join(changed[:3])} for the whole program. What it computes cannot be judged so."
        findings, why = [Finding("numpy-changed", told)], "see the finding"
    except Exception as error:  # what the code returns may be of any kind, and fail where it is looked at
        why = f"the check itself failed ({type(error).__name__}: {error}). Return plain arrays; if they are, report it."
    finally:
        np.random.set_state(numbers)  # noqa: NPY002
        random.setstate(pythons)
        np.seterr(**cast("dict[str, Any]", handling))

    names = [*(["out"] if spec.problem.specification is not None else []), *spec.problem.gradients]
    verdicts = {name: Verdict(name, Word.NOT_DECIDED, why) for name in names}
    return ProtocolResult(findings, verdicts, [], failed=not findings)


class _Stop(Exception):  # noqa: N818  carries a finding after which a question cannot be gone on with
    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class _Trial(NamedTuple):
    """One call of the forward pass, and what was handed to it."""

    values: Values
    given: dict[str, Any]  # the copies that were handed over
    call: Call  # the arguments after the call
    before: Call  # and before
    y: Any
    cache: Any
    warned: list[warnings.WarningMessage]


class _Examination:
    """One pair under examination."""

    def __init__(self, spec: Spec, rng: np.random.Generator) -> None:
        self.spec = spec
        self.rng = rng
        self.findings: dict[tuple[str, str], Finding] = {}
        self.remarks: dict[str, Finding] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.calls: list[tuple[Call, Call]] = []
        self.left_out: tuple[str, ...] = ()  # of dicts of settings, so that defaults are taken
        self.draws = 0  # what seeds the generators that a mask is drawn from
        self.warned: list[warnings.WarningMessage] = []  # of the last call
        problem = spec.problem

        def recorded(values: Values) -> Call:
            call = problem.arguments(values)
            for settings in _arguments(call):
                if isinstance(settings, dict):
                    for key in self.left_out:
                        cast("dict[str, Any]", settings).pop(key, None)
            self.calls.append((call, copy.deepcopy(call)))
            return call

        self.problem = replace(problem, arguments=recorded)
        self.places = _Places(problem)

    def run(self) -> ProtocolResult:
        points = list(self._points())
        trials: list[_Trial] = []
        for values in points:
            try:
                trials.append(self._forward(values))
            except _Stop as stop:
                self._find(stop.finding)
                break
        if len(trials) < len(points) or not self._goes(trials, self._steady, self._outputs):
            return self._result("the forward cannot be judged: see the finding")
        self._goes(trials, self._running)
        self._goes(trials, self._defaults)
        self._goes(trials, self._prediction)
        self._goes(trials, self._conduct, self._gradients, self._small_and_large)
        return self._result("the backward cannot be judged: see the finding")

    def _goes(self, trials: list[_Trial], *checks: Callable[[list[_Trial]], None]) -> bool:
        """Return whether all checks could be made; what stops one is a finding."""
        try:
            for check in checks:
                check(trials)
        except _Stop as stop:
            self._find(stop.finding)
            return False
        return True

    def _judged(self) -> list[str]:
        judged = self.spec.problem.specification is not None or self.spec.layer == "dropout"
        return [*(["out"] if judged else []), *self.problem.gradients]

    def _result(self, undecided: str) -> ProtocolResult:
        for name in self._judged():
            self.verdicts.setdefault(name, Verdict(name, Word.NOT_DECIDED, undecided))
        order = ("out", *self.problem.gradients, "running_mean", "running_var", "out (test)")
        verdicts = {name: self.verdicts[name] for name in order if name in self.verdicts}
        return ProtocolResult(list(self.findings.values()), verdicts, list(self.remarks.values()))

    def _find(self, finding: Finding) -> None:
        self.findings.setdefault((finding.kind, finding.message), finding)

    # Calls.

    def _points(self) -> Iterator[dict[str, Any]]:
        """Yield values at every size, for the large eps and for the usual one."""
        for number, sizes in enumerate(self.problem.sizes):
            for eps in (None, 1e-5) if self.problem.scalars else (None,):
                values = self.problem.draw(self.rng, sizes)
                gamma = values.get("gamma")
                if gamma is not None and gamma.size > 1:
                    signs = np.resize([1.0, -1.0], gamma.size)
                    values["gamma"] = (0.2 + np.abs(gamma)) * signs.reshape(gamma.shape)
                if self.spec.layer == "max_pool" and number:
                    values["x"] -= 4.0  # windows whose largest entry is negative
                if eps is not None:
                    values.update(dict.fromkeys(self.problem.scalars, eps))
                yield values

    def _guarded(self, who: str, values: Values, function: Callable[[], Any]) -> Any:
        """Return what the code returns; whatever it raises becomes a finding."""
        seed = _SEED + self.draws + (who == "backward")  # a mask is the same each time, but not drawn again
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        np.seterr(all="warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.warned = caught
            try:
                return function()
            except KeyboardInterrupt:
                raise
            except Malformed as error:
                line = self.places.backward if who == "backward" else self.places.forward
                kind, advice = "malformed", "."
                if str(error).endswith(("is None", "returns nothing")):
                    kind, advice = "not-written", ": it is not written yet, or the result is not returned."
                raise _Stop(Finding(kind, f"{error}{advice}", line)) from None
            except NotImplementedError:
                message = f"{who} is not written yet."
                raise _Stop(Finding("not-written", message, self.places.forward)) from None
            except BaseException as error:
                line = self.places.raised(error)
                raise _Stop(Finding("exception", _told(who, error, self._sizes(values)), line)) from None

    def _forward(self, values: Values, *, who: str = "forward") -> _Trial:
        given = {name: copy.deepcopy(value) for name, value in values.items()}
        y, cache = self._guarded(who, values, lambda: self.problem.run_forward(given))
        call, before = self.calls.pop()
        self.calls.clear()
        if y is None:
            raise _Stop(
                Finding("not-written", f"{who} returns None for the output. Assign the result.", self.places.forward)
            )
        y = self._as_numbers(y, f"the output of {who}", self.places.forward)
        return _Trial(values, given, call, before, y, cache, self.warned)

    def _backward(self, trial: _Trial, dout: Any) -> dict[str, Any]:
        gradients = self._guarded("backward", trial.values, lambda: self.problem.run_backward(dout, trial.cache))
        return {
            name: self._as_numbers(g, name, self.places.gradient(i)) for i, (name, g) in enumerate(gradients.items())
        }

    def _as_numbers(self, value: Any, what: str, line: int | None) -> Any:
        """Return a result as an array, where it is one of floats."""
        try:
            array = np.asarray(value)
        except Exception:
            array = np.asarray(None)
        if array.dtype.kind in "iub":
            message = f"{what} has type {array.dtype}, expected floats. An integer array cuts off what is put into it."
            self._find(Finding("dtype", message, line))
        elif array.dtype.kind == "c":
            raise _Stop(Finding("dtype", f"{what} is complex, expected floats. Take the real part.", line))
        elif array.dtype.kind != "f":
            raise _Stop(
                Finding(
                    "dtype", f"{what} is {type(value).__name__}, expected an array of floats. Return numbers.", line
                )
            )
        return array

    def _dout(self, trial: _Trial) -> Any:
        """Return a random dout, 1 for a loss that has no backward."""
        if self.problem.backward is None:
            return 1.0
        dout = self.rng.standard_normal(np.shape(trial.y))
        return dout if np.ndim(dout) else float(dout)

    def _sizes(self, values: Values) -> str:
        return ", ".join(f"{name} = {values[name]}" for name in self.problem.sizes[0])

    def _where(self, values: Values) -> str:
        return self._sizes(values) + "".join(f", {name} = {values[name]:.3g}" for name in self.problem.scalars)

    # Values of the output.

    def _outputs(self, trials: list[_Trial]) -> None:
        """Compare the output with the formula; say which usual slip it is."""
        for trial in trials:
            self._finite("the output", trial.y, trial.values, self.places.forward, trial.warned)
        if self.spec.layer == "dropout":
            self.verdicts["out"] = self._dropped(trials)
            return
        specification = self.problem.specification
        if specification is None:
            self._output_shapes(trials)
            return
        wanted = [np.asarray(specification(trial.values)) for trial in trials]
        for trial, right in zip(trials, wanted, strict=True):
            if np.shape(trial.y) != right.shape:
                self._wrong_shape("out", np.shape(trial.y), right.shape, self.places.forward)
                return
        worst = max(_distance(trial.y, right) for trial, right in zip(trials, wanted, strict=True))
        line = self.places.forward
        if worst <= _OUTPUT:
            message = f"as {self._title()} should be, to {_digits(worst)}, at {len(trials)} points"
            self.verdicts["out"] = Verdict("out", Word.AGREES, message, line)
            return
        line = self._output_line(trials[0].values)
        reason = self._deviation(trials)
        trial, right = max(zip(trials, wanted, strict=True), key=lambda pair: _distance(pair[0].y, pair[1]))
        self.verdicts["out"] = Verdict(
            "out",
            Word.DISPROVED,
            reason or f"this is not {self._title()}",
            line,
            counterexample=self._entry("out", trial.y, right, trial.values),
        )

    def _output_line(self, values: Values, name: str | None = None) -> int | None:
        """Return where the output, or another variable, gets its value, in the mode that the values ask for."""
        return self.places.output(lambda: self._forward(values), name)

    def _output_shapes(self, trials: list[_Trial]) -> None:
        """Compare the output's shape with what is declared."""
        if self.problem.output is None:
            return
        named = replace(self.problem, inputs={"y": self.problem.output})
        for trial in trials:
            right = named.shape("y", cast("Mapping[str, int]", trial.values))
            if np.shape(trial.y) != right:
                self._wrong_shape("out", np.shape(trial.y), right, self.places.forward)
                return

    def _wrong_shape(self, name: str, got: tuple[int, ...], right: tuple[int, ...], line: int | None) -> None:
        advice = "Return one number for every entry."
        if 0 in got:
            advice = "A slice such as pad:-pad is empty where pad is 0."
        elif tuple(n for n in got if n != 1) == tuple(n for n in right if n != 1):
            advice = "Leave out keepdims, or reshape." if len(got) > len(right) else "Keep the axes of size 1."
        elif math.prod(got) == math.prod(right):
            advice = "Reshape or transpose it."
        elif len(got) < len(right):
            advice = "A sum goes over too many axes."
        elif len(got) == 1:
            advice = "The sum goes over the wrong axis."
        what = "the output" if name == "out" else name
        message = f"{what} has shape {_shape(got)}, expected {_shape(right)}. {advice}"
        self._find(Finding("wrong-shape", message, line))
        self.verdicts[name] = Verdict(name, Word.DISPROVED, f"shape {_shape(got)}, expected {_shape(right)}", line)

    def _title(self) -> str:
        return (self.spec.layer or self.spec.name).replace("_", " ")

    def _entry(self, name: str, got: Any, right: Array, values: Values) -> str:
        """Return the entry in which a result differs most."""
        numbers = np.asarray(got, np.float64)
        difference = np.where(np.isfinite(numbers), np.abs(numbers - right), np.inf)
        place = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), right.shape)) if right.shape else ()
        where = f"{name}[{', '.join(map(str, place))}]" if place else name
        return f"{where} is {numbers[place]:.10g}, expected {right[place]:.10g}, at {self._where(values)}"

    def _deviation(self, trials: list[_Trial]) -> str | None:
        """Return the usual slip that gives exactly these outputs."""
        for message, formula in _deviations(self.spec):
            with np.errstate(all="ignore"):
                try:
                    pairs = [(trial.y, np.asarray(formula(trial.values))) for trial in trials]
                    if all(np.shape(y) == other.shape and _distance(y, other) <= _OUTPUT for y, other in pairs):
                        return message
                except (ValueError, KeyError, IndexError, TypeError):
                    continue  # a slip that this layout has no room for
        return None

    def _finite(
        self, what: str, value: Any, values: Values, line: int | None, warned: list[warnings.WarningMessage]
    ) -> None:
        """Stop at a result that is not finite; what NumPy warned of is the likely cause."""
        numbers = np.asarray(value, np.float64)
        if np.isfinite(numbers).all():
            return
        causes = (w for w in warned if issubclass(w.category, RuntimeWarning) and w.filename in self.places.files)
        cause = next(causes, None)
        kind = "NaN" if np.isnan(numbers).any() else "Inf"
        message = f"{what} holds {kind} at {self._sizes(values)}"
        if cause is not None:
            message, line = f"{message} ({cause.message})", cause.lineno
        advice = "Look for a division by 0 or the root of a negative number."
        raise _Stop(Finding("not-finite", f"{message}. {advice}", line))

    def _dropped(self, trials: list[_Trial]) -> Verdict:
        """Judge a dropout by its entries: 0, or x scaled by what keeps the mean."""
        line = self.places.forward
        p = float(DEFAULTS["p"])
        values = {**trials[0].values, "x": self.rng.uniform(1, 2, (50, 20))}
        trial = self._forward({**values, "N": 50, "D": 20})
        if np.shape(trial.y) != (50, 20):
            self._wrong_shape("out", np.shape(trial.y), (50, 20), line)
            return self.verdicts["out"]
        self.draws = 2
        again = self._forward(trial.values)
        self.draws = 0
        seeded = any(_takes(argument, "seed", DEFAULTS["seed"]) for argument in _arguments(trial.before))
        other = self._forward({**trial.values, "seed": DEFAULTS["seed"] + 1})
        if seeded and (not _same(trial.y, again.y) or _same(trial.y, other.y)):
            message = "the seed of the settings does not decide the mask. Call np.random.seed with it before drawing."
            draws = _calls("rand", "randn", "random", "uniform", "binomial", "choice")
            line = self.places.last(0, _calls("seed", "default_rng")) or self.places.last(0, draws)
            self._find(Finding("seed-ignored", message, line or self.places.forward_line))
        ratio = np.asarray(trial.y, np.float64) / values["x"]
        kept, dropped = int((ratio != 0).sum()), int((ratio == 0).sum())
        factors = sorted(set(np.round(ratio[ratio != 0], 9).tolist()))
        if len(factors) != 1:
            line = self._output_line(trials[0].values)
            return Verdict("out", Word.DISPROVED, "what is kept is not x times one factor", line)
        share, factor = kept / (kept + dropped), factors[0]
        told = any(_takes(argument, "p", p) for argument in _arguments(trial.before))
        if not told and abs(share * factor - 1) < 0.1:
            return Verdict("out", Word.AGREES, f"every entry is 0 or {factor:.4g} x", line)
        for name, keep in (("kept", p), ("dropped", 1 - p)):
            if abs(factor - 1 / keep) < 1e-6 and abs(share - keep) < 0.08:
                return Verdict("out", Word.AGREES, f"every entry is 0 or x / {keep:g}: p is the share {name}", line)
        message = f"p = {p:g}: {share:.0%} of the entries are kept and scaled by {factor:.4g}"
        if factor == 1:
            message += "; divide the mask by the share that is kept, then the test needs no scaling"
        else:
            message += "; the factor must be 1 over the share that is kept"
        return Verdict("out", Word.DISPROVED, message, self._output_line(trials[0].values))

    # Conduct.

    def _steady(self, trials: list[_Trial]) -> None:
        """Look what the forward modifies, and whether it depends on more than its arguments."""
        for trial in trials[:: max(1, len(trials) - 1)]:
            self._unmodified(trial, trial.values, trial.before, "forward", lambda t=trial: self._forward_changes(t))
            if not _same(trial.y, self._forward(trial.values).y):
                message = "forward gives another output for the same input. It must depend on its arguments alone."
                raise _Stop(Finding("not-deterministic", message, self.places.forward_line))

    def _conduct(self, trials: list[_Trial]) -> None:
        """Look what the backward modifies, and what depends on earlier calls."""
        for trial in trials[:: max(1, len(trials) - 1)]:
            again = self._forward(trial.values)
            dout = self._dout(trial)
            handed, kept = copy.deepcopy(dout), _snapshot(again.cache)
            given, call = copy.deepcopy((again.given, again.call))
            gradients = self._backward(again, handed)
            first = copy.deepcopy(gradients)
            for name, gradient in first.items():
                self._finite(name, gradient, trial.values, self.places.gradient(self._number(name)), self.warned)
            if self.problem.backward is None:
                continue
            if not _same(handed, dout):
                message = "backward modifies dout, which the caller still needs. Work on a new array: dout = dout * ..."
                self._find(Finding("dout-modified", message, self._backward_changes(trial.values, "dout")))
            self._unmodified(again, given, call, "backward", lambda t=trial: self._backward_changes(t.values, "given"))
            second = self._backward(again, copy.deepcopy(dout))
            if not _same(first, second):
                if not _same(kept, _snapshot(again.cache)):
                    message = "backward modifies the cache, so that a second call gives another gradient. Copy first."
                    self._find(Finding("cache-modified", message, self._backward_changes(trial.values, "cache")))
                else:
                    message = "backward gives another gradient for the same dout and cache."
                    self._find(Finding("not-deterministic", message, self.places.backward_line))
                return
            self._remembers(trial, dout, first)
        self._types(trials[0])

    def _number(self, gradient: str) -> int:
        return self.problem.gradients.index(gradient)

    def _forward_changes(self, trial: _Trial) -> int | None:
        """Return the line of the forward that changes what it was given."""
        given = copy.deepcopy(trial.values)
        line = self.places.changes(
            lambda: self._guarded("forward", given, lambda: self.problem.run_forward(given)), given.values()
        )
        self.calls.clear()
        return line or self.places.forward_line

    def _backward_changes(self, values: Values, what: str) -> int | None:
        """Return the line of the backward that changes dout, the cache or the inputs."""
        trial = self._forward(values)
        dout = self._dout(trial)
        watched = {"dout": [dout], "cache": [trial.cache], "given": [*trial.given.values()]}[what]
        line = self.places.changes(lambda: self._backward(trial, dout), watched)
        return line or self.places.backward_line

    def _unmodified(self, trial: _Trial, earlier: Values, call: Call, who: str, line: Callable[[], int | None]) -> None:
        """Look whether inputs and settings are as they were earlier."""
        for name, value in earlier.items():
            if not _same(trial.given[name], value):
                message = f"{who} modifies {name}, which belongs to the caller. Work on a copy: {name} = {name}.copy()."
                self._find(Finding("input-modified", message, line()))
        for now, then in zip(_arguments(trial.call), _arguments(call), strict=True):
            if not isinstance(now, dict):
                continue
            settings, before = cast("dict[str, Any]", now), cast("dict[str, Any]", then)
            for key, value in before.items():
                if not key.startswith("running_") and (key not in settings or not _same(settings[key], value)):
                    message = f"{who} changes {key!r} in the dict of settings. Leave it as it is."
                    self._find(Finding("settings-modified", message, line()))

    def _remembers(self, trial: _Trial, dout: Any, first: dict[str, Any]) -> None:
        """Look whether another call in between changes what an earlier one returned, or its gradients."""
        one = self._forward(trial.values)
        y = copy.deepcopy(one.y)
        other = self._forward({**trial.values, **self._moved(trial.values)})
        if not _same(one.y, y):
            message = "a second call of forward changes the output of the first. Make a new array in each call."
            self._find(Finding("output-overwritten", message, self.places.forward_line))
            return
        gradients = self._backward(one, copy.deepcopy(dout))
        if not _same(gradients, first):
            message = (
                "after another forward, backward gives another gradient for the same cache: something is kept outside "
                "of it. Put everything that backward needs into the cache."
            )
            self._find(Finding("global-state", message, self.places.backward_line))
            return
        kept = copy.deepcopy(gradients)
        self._backward(other, self._dout(other))
        if not _same(gradients, kept):
            message = "a second call of backward changes the gradients of the first. Make new arrays in each call."
            self._find(Finding("output-overwritten", message, self.places.backward_line))

    def _moved(self, values: Values) -> dict[str, Any]:
        return {name: values[name] + self.rng.standard_normal(np.shape(values[name])) for name in self.problem.inputs}

    def _types(self, trial: _Trial) -> None:
        """Remark where float32 becomes another type."""
        try:
            small = self._forward(_as_type(np.float32, trial.values))
            dout = _as_type(np.float32, {"dout": self._dout(small)})["dout"]
            results = {"the output": small.y, **self._backward(small, dout)}
        except _Stop as stop:
            self._find(replace(stop.finding, message=f"with float32 inputs: {stop.finding.message}"))
            return
        for name, value in results.items():
            if np.ndim(value) and value.dtype.kind == "f" and value.dtype != np.float32:
                message = (
                    f"{name} is {value.dtype} for float32 inputs. Give np.zeros and np.ones dtype=x.dtype, and make "
                    "numbers such as np.sqrt(2) floats: float(np.sqrt(2))."
                )
                line = self.places.forward if name == "the output" else self.places.gradient(self._number(name))
                self.remarks.setdefault(name, Finding("dtype", message, line))

    def _one_sample(self) -> None:
        """Run a single sample through a layer that treats samples alone."""
        problem = self.problem
        if "N" not in problem.sizes[0] or self.spec.running is not None or self.spec.convention == "declared":
            return
        if self.spec.layer in (None, "batch_norm", "dropout") or next(iter(problem.inputs.values()))[0] != "N":
            return
        sizes = {**problem.sizes[0], "N": 1}
        try:
            one = self._forward(problem.draw(self.rng, sizes))
            gradients = self._backward(one, self._dout(one))
        except _Stop as stop:
            if stop.finding.kind in ("exception", "malformed"):
                message = f"with a batch of one sample: {stop.finding.message}"
                self._find(replace(stop.finding, kind="one-sample", message=message))
            return
        if any(verdict.message.startswith("shape") for verdict in self.verdicts.values()):
            return
        wrong = [name for name, g in gradients.items() if np.shape(g) != problem.shape(name[1:], sizes)]
        if wrong:
            message = f"with a batch of one sample {wrong[0]} loses an axis. np.squeeze takes off too many."
            self._find(Finding("one-sample", message, self.places.gradient(self._number(wrong[0]))))

    # Values of the gradients.

    def _gradients(self, trials: list[_Trial]) -> None:
        """Compare every gradient with the derivative of the user's own forward along random directions."""
        wide = self._takes_long_double(trials[0])
        found: dict[str, list[_Slope]] = {name: [] for name in self.problem.gradients}
        for trial in trials:
            fresh = self._forward(trial.values)
            dout = self._dout(fresh)
            gradients = self._backward(fresh, copy.deepcopy(dout))
            scale = float(np.abs(dout).sum()) * max(_largest(fresh.y), _LEAST)
            for name, gradient in gradients.items():
                right = self.problem.shape(name[1:], cast("Mapping[str, int]", trial.values))
                if np.shape(gradient) != right:
                    if name not in self.verdicts:
                        self._wrong_shape(name, np.shape(gradient), right, self.places.gradient(self._number(name)))
                    if math.prod(np.shape(gradient)) != math.prod(right):
                        continue
                g = np.asarray(gradient, np.float64).reshape(right)
                self._finite(name, g, trial.values, self.places.gradient(self._number(name)), self.warned)
                for _ in range(_DIRECTIONS):
                    v = self.rng.standard_normal(right)
                    claimed = float((g * v).sum())
                    size = float(np.sqrt((g * g).sum()))
                    slopes = self._slopes(trial.values, name[1:], v, dout, claimed, size, scale, wide=wide)
                    others = {
                        other: float((np.asarray(h, np.float64).reshape(right) * v).sum())
                        for other, h in gradients.items()
                        if np.size(h) == math.prod(right)
                    }
                    found[name].append(_Slope(slopes, claimed, size, scale, others, trial.values))
        self._order(found)
        for name, slopes in found.items():
            if name not in self.verdicts:
                self.verdicts[name] = self._judge(name, slopes)

    def _takes_long_double(self, trial: _Trial) -> bool:
        """Return whether the forward computes in long double, where that is more than float64."""
        if np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
            return False
        try:
            y = self._forward(_as_type(np.longdouble, trial.values)).y
        except _Stop:
            return False
        return y.dtype == np.longdouble and _distance(y, np.asarray(trial.y, np.float64)) < 1e-12

    def _slopes(
        self,
        values: Values,
        name: str,
        v: Array,
        dout: Any,
        claimed: float,
        size: float,
        scale: float,
        *,
        wide: bool,
    ) -> list[float]:
        """Return the derivative along v, at one step after the other until one agrees with what is claimed."""
        if wide:
            values = _as_type(np.longdouble, values)
        slopes: list[float] = []
        for step in _WIDE_STEPS if wide else _STEPS:
            ends: list[Any] = []
            for way in (1, -1, 2, -2):
                ends.append(self._forward({**values, name: values[name] + way * step * v}).y)
            near = (dout * (ends[0] - ends[1])).sum() / (2 * step)
            far = (dout * (ends[2] - ends[3])).sum() / (4 * step)
            slopes.append(float((4 * near - far) / 3))
            if abs(slopes[-1] - claimed) <= max(_TOLERANCE * size, _NOISE * scale):
                break
        return slopes

    def _judge(self, name: str, slopes: list[_Slope]) -> Verdict:
        """Return the verdict on a gradient."""
        line = self.places.gradient(self._number(name))
        wrong = [slope for slope in slopes if not slope.agrees]
        if not wrong:
            worst = max((slope.error for slope in slopes), default=0.0)
            message = f"the gradient of your forward, to {_digits(worst)}, at {len(slopes)} points"
            return Verdict(name, Word.AGREES, message, line)
        unsteady = [slope for slope in wrong if not slope.steady]
        if len(unsteady) == len(wrong):
            message = "the forward jumps, or has corners, where differences were taken"
            return Verdict(name, Word.NOT_DECIDED, message, line)
        shown = max((slope for slope in wrong if slope.steady), key=lambda slope: slope.error)
        return Verdict(
            name,
            Word.DISPROVED,
            _reason(name, [slope for slope in slopes if slope.steady]) or "this is not the gradient of your forward",
            line,
            counterexample=(
                f"along a random direction {name} gives {shown.claimed:.10g}, "
                f"the forward changes by {shown.true:.10g}, at {self._where(shown.values)}"
            ),
        )

    def _order(self, found: Mapping[str, list[_Slope]]) -> None:
        """Recognize gradients that are right and stand in each other's place."""
        wrong = [name for name, slopes in found.items() if any(not s.agrees and s.steady for s in slopes)]
        takes = {
            name: [other for other in wrong if other != name and all(s.matches(other) for s in found[name])]
            for name in wrong
        }
        if len(wrong) > 1 and all(len(takes[name]) == 1 for name in wrong):
            line = self.places.returned
            order = ", ".join(self.problem.gradients)
            told = " and ".join(wrong)
            message = f"{told} are right, and returned in each other's place. Return {order} in this order."
            self._find(Finding("gradient-order", message, line))
            for name in wrong:
                text = f"this is {takes[name][0]}: the order is {order}"
                self.verdicts[name] = Verdict(name, Word.DISPROVED, text, line)

    # Running statistics and modes.

    def _running(self, trials: list[_Trial]) -> None:
        """Compare the running statistics after a call with what they should be."""
        running = self.spec.running
        if running is None:
            return
        line = self.places.forward
        missing: list[str] = []
        if not running.required:
            fresh = running.read(self._forward(trials[0].values).call)
            missing = [name for name in ("running_mean", "running_var") if fresh.get(name) is None]
            if missing:
                message = f"forward does not store {' and '.join(missing)}, so that mode 'test' has nothing to use."
                self._find(Finding("running-statistics", f"{message} Write them into the dict.", line))
        worst: dict[str, float] = {}
        for trial in (trials[0], trials[-1]):
            values, right = self._with_statistics(running, trial.values)
            call = self._forward(values).call
            kept = running.read(call)
            for name in ("running_mean", "running_var"):
                if name in self.verdicts and self.verdicts[name].wrong:
                    continue
                got = kept.get(name)
                if got is None or np.shape(got) != np.shape(right[name]):
                    shape = "nothing" if got is None else f"shape {_shape(np.shape(got))}"
                    message = f"{name} has {shape}, expected shape {_shape(np.shape(right[name]))}"
                    self._find(
                        Finding("running-statistics", f"{message}. Reduce over the batch without keepdims.", line)
                    )
                    self.verdicts[name] = Verdict(name, Word.DISPROVED, message, line)
                    continue
                error = _distance(got, right[name])
                worst[name] = max(error, worst.get(name, 0.0))
                if error <= _OUTPUT:
                    message = f"kept as it should be, to {_digits(worst[name])}"
                    self.verdicts[name] = Verdict(name, Word.AGREES, message, line)
                else:
                    reason = _kept_wrongly(name, got, values, running)
                    if reason == _UNCHANGED and name not in missing:
                        where = "in place" if running.required else "into the dict"
                        told = f"forward does not write {name} back in mode 'train'. Write it {where}."
                        self._find(Finding("running-statistics", told, line))
                    entry = self._entry(name, got, right[name], values)
                    message = reason or "not what it should be"
                    self.verdicts[name] = Verdict(name, Word.DISPROVED, message, line, counterexample=entry)

    def _defaults(self, trials: list[_Trial]) -> None:
        """Look what the course's functions take for settings that are left out of the dict."""
        specification, running = self.problem.specification, self.spec.running
        values = trials[0].values
        known = self.spec.convention == "cs231n" and specification is not None and bool(self.problem.scalars)
        if not known or self.verdicts["out"].wrong:
            return
        self.left_out = ("eps", "momentum")
        try:
            trial = self._forward(values)
        except _Stop:  # they are asked for, as a caller may be
            return
        finally:
            self.left_out = ()
        right = np.asarray(specification({**values, "eps": DEFAULTS["eps"]})) if specification is not None else trial.y
        if _distance(trial.y, right) > _OUTPUT:
            line = self.places.last(0, _reads_setting("eps")) or self.places.forward_line
            self._find(Finding("default", "eps that is left out of the dict must be 1e-5.", line))
        names = ("running_mean", "running_var")
        if running is None or any(name not in self.verdicts or self.verdicts[name].wrong for name in names):
            return
        mean, var, _ = _batch(running, values)
        kept = running.read(trial.call)
        if _distance(kept.get("running_mean"), 0.1 * mean) > _OUTPUT:
            told = "momentum that is left out of the dict must be 0.9, and running_mean start from 0."
            line = self.places.last(0, _reads_setting("momentum"))
            self._find(Finding("default", told, line or self.places.forward_line))
        elif _distance(kept.get("running_var"), 0.1 * var) > _OUTPUT:
            line = (
                self.places.last(0, lambda node: isinstance(node, ast.Call) and _reads_setting("running_var")(node))
                or self.places.forward_line
            )
            self._find(Finding("default", "running_var that is left out of the dict must start from 0.", line))

    def _with_statistics(self, running: Running, values: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return values with running statistics of no special size, and those that a call should leave."""
        shape = np.shape(np.asarray(running.seen(values)).mean(running.axes))
        old: dict[str, Any] = {
            "running_mean": self.rng.standard_normal(shape),
            "running_var": self.rng.uniform(0.5, 2, shape),
        }
        filled: dict[str, Any] = {**values, **old, "momentum": _MOMENTUM, "mode": "train"}
        mean, var, count = _batch(running, values)
        if running.unbiased:
            var = var * count / (count - 1)
        share = _MOMENTUM if running.keeps_old else 1 - _MOMENTUM
        right: dict[str, Any] = {
            "running_mean": share * old["running_mean"] + (1 - share) * mean,
            "running_var": share * old["running_var"] + (1 - share) * var,
        }
        return filled, right

    def _prediction(self, trials: list[_Trial]) -> None:
        """Look at mode "test"."""
        if not self.spec.modes:
            return
        line = self.places.forward
        running = self.spec.running
        worst = 0.0
        name = "out (test)"
        for trial in (trials[0], trials[-1]):
            values: dict[str, Any] = {**trial.values, "mode": "test"}
            if running is not None:
                values = {**self._with_statistics(running, trial.values)[0], "mode": "test"}
            elif self.spec.layer == "batch_norm":
                return
            try:
                test = self._forward(values, who="forward in mode 'test'")
            except _Stop as stop:
                kind = "test-mode" if stop.finding.kind in ("not-written", "malformed") else stop.finding.kind
                self._find(replace(stop.finding, kind=kind))
                self.verdicts[name] = Verdict(name, Word.NOT_DECIDED, "the forward did not run in mode 'test'", line)
                return
            if self.spec.layer == "dropout":
                right = values["x"]
            elif self.problem.specification is not None:
                right = np.asarray(self.problem.specification(values))
            else:
                return
            if running is not None:
                kept = running.read(test.call)
                changed = [key for key in ("running_mean", "running_var") if not _same(kept.get(key), values[key])]
                if changed:
                    message = f"forward changes {' and '.join(changed)} in mode 'test'. Only 'train' may do so."
                    self._find(Finding("test-mode", message, self._output_line(values, changed[0])))
            if np.shape(test.y) != right.shape:
                self._wrong_shape(name, np.shape(test.y), right.shape, line)
                return
            error = _distance(test.y, right)
            worst = max(worst, error)
            if error > _OUTPUT:
                reason = self._predicted_wrongly(test, values)
                line = self._output_line(values)
                entry = self._entry("out", test.y, right, values)
                self.verdicts[name] = Verdict(name, Word.DISPROVED, reason, line, counterexample=entry)
                return
        self.verdicts[name] = Verdict(name, Word.AGREES, f"as it should be, to {_digits(worst)}", line)
        self._test_gradient(trials[0])
        self._unknown_mode(trials[0])

    def _predicted_wrongly(self, test: _Trial, values: dict[str, Any]) -> str:
        specification = self.problem.specification
        if self.spec.layer == "dropout":
            return "in mode 'test' x must come out as it is"
        if specification is None:
            return "not what it should be"
        with np.errstate(all="ignore"):
            root = values["running_var"] ** 2  # a root taken of the root, undone
            eps = values.get("eps", DEFAULTS["eps"])
            slips = {
                "normalized with the statistics of the batch; use running_mean and running_var": {"mode": "train"},
                "eps is left out: add it to running_var under the root": {"eps": 0.0},
                "running_mean is not subtracted": {"running_mean": 0 * values["running_mean"]},
                "divided by running_var instead of its root": {"running_var": (values["running_var"] + eps) ** 2 - eps},
                "running_var is taken for a standard deviation: take its root": {"running_var": root - eps},
                "the eps that is passed is ignored: 1e-5 is used": {"eps": 1e-5},
                "gamma is missing": {"gamma": 1 + 0 * values["gamma"]} if "gamma" in values else {},
                "beta is missing": {"beta": 0 * values["beta"]} if "beta" in values else {},
            }
            for message, changed in slips.items():
                if changed and _distance(test.y, np.asarray(specification({**values, **changed}))) <= _OUTPUT:
                    return message
        return "not what it should be: gamma * (x - running_mean) / sqrt(running_var + eps) + beta"

    def _test_gradient(self, trial: _Trial) -> None:
        """In mode "test" dropout passes dout on as it is."""
        if self.spec.layer != "dropout":
            return
        try:
            test = self._forward({**trial.values, "mode": "test"})
            dout = self._dout(test)
            dx = self._backward(test, copy.deepcopy(dout))["dx"]
        except _Stop as stop:
            message = f"after a forward in mode 'test': {stop.finding.message}"
            self._find(replace(stop.finding, kind="test-mode", message=message))
            return
        if np.shape(dx) != np.shape(dout) or _distance(dx, dout) > _OUTPUT:
            message = "after a forward in mode 'test' dx is not dout. Nothing was dropped, so everything passes back."
            self._find(Finding("test-mode", message, self.places.gradient(0)))

    def _unknown_mode(self, trial: _Trial) -> None:
        """Remark that a misspelt mode is not refused."""
        if not any(_takes(argument, "mode", "train") for argument in _arguments(trial.before)):
            return
        try:
            self._forward({**trial.values, "mode": "neither"})
        except _Stop:
            return
        message = "a mode that is neither 'train' nor 'test' is accepted silently. Raise a ValueError."
        self.remarks.setdefault("mode", Finding("mode-accepted", message, self.places.forward))

    def _ties(self, trial: _Trial) -> None:
        """Remark that equal entries of a window get more than the window's dout."""
        flat = self._forward({**trial.values, "x": np.ones_like(trial.values["x"])})
        dout = np.abs(self._dout(flat))
        dx = self._backward(flat, dout.copy())["dx"]
        if float(dx.sum()) > float(dout.sum()) * (1 + _OUTPUT):
            message = "where several entries of a window are the largest, each gets all of dout. Choose one, or share."
            self.remarks.setdefault("ties", Finding("ties", message, self.places.backward))

    def _corner(self, trial: _Trial) -> None:
        """Remark that a gradient passes where x is 0."""
        flat = self._forward({**trial.values, "x": np.zeros_like(trial.values["x"])})
        if self._backward(flat, self._dout(flat))["dx"].any():
            message = "where x is exactly 0 dout passes. That is allowed, but usual is 0: x > 0, not x >= 0."
            self.remarks.setdefault("corner", Finding("corner", message, self.places.backward))

    def _small_and_large(self, trials: list[_Trial]) -> None:
        """Look at a single sample, at windows of equal entries, at scores whose exponentials overflow."""
        self._one_sample()
        if self.spec.layer == "max_pool":
            self._ties(trials[0])
        if self.spec.layer == "relu":
            self._corner(trials[0])
        out = self.verdicts.get("out")
        if self.spec.layer != "softmax_cross_entropy" or out is None or out.wrong:
            return
        values = trials[0].values
        apart = 1000 * np.arange(1, len(values["x"]) + 1)  # rows whose scores are far apart, and large
        large = self._forward({**values, "x": values["x"] + apart[:, None]})
        if _distance(large.y, trials[0].y) > _OUTPUT:
            message = "with scores of 1000 the loss overflows. Subtract the largest score of each row before np.exp."
            self._find(Finding("overflow", message, self.places.last(0, _calls("exp")) or self.places.forward))


class _Slope(NamedTuple):
    """One derivative along a direction: as differences show it, and as the gradient claims."""

    slopes: list[float]  # at one step after the other; the last agrees, if any does
    claimed: float
    size: float  # length of the gradient
    scale: float  # sum of |dout| times the largest output
    others: Mapping[str, float]  # what the other gradients of this shape would claim
    values: Values

    @property
    def true(self) -> float:
        """The derivative: the one of two neighbouring steps that differ least."""
        if self.agrees:
            return self.slopes[-1]
        pairs = zip(self.slopes, self.slopes[1:], strict=False)
        return min(pairs, key=lambda pair: abs(pair[0] - pair[1]))[0]

    @property
    def _allowed(self) -> float:
        return max(_TOLERANCE * self.size, _NOISE * self.scale)

    @property
    def agrees(self) -> bool:
        return abs(self.slopes[-1] - self.claimed) <= self._allowed

    @property
    def error(self) -> float:
        """Relative to the gradient's own length; what is zero but for noise, relative to what it is made of."""
        length = self.size if self.size > _NOISE * self.scale else max(self.scale, 1e-300)
        return abs(self.slopes[-1] - self.claimed) / length

    @property
    def steady(self) -> bool:
        """Whether differences at two steps agree with each other, and better than with what is claimed."""
        if self.agrees:
            return True
        spread = min(abs(a - b) for a, b in zip(self.slopes, self.slopes[1:], strict=False))
        alike = spread <= max(1e-3 * abs(self.true), _NOISE * self.scale)
        return math.isfinite(spread) and alike and spread < 0.05 * abs(self.true - self.claimed)

    def matches(self, other: str) -> bool:
        """Whether the gradient that is returned as `other` belongs here."""
        if other not in self.others:
            return False
        return abs(self.others[other] - self.true) <= max(1e-6 * abs(self.true), 1e-8 * self.scale)


def _reason(name: str, slopes: list[_Slope]) -> str | None:
    """Return what a factor that is the same everywhere tells of a wrong gradient."""
    if all(slope.size <= _NOISE * slope.scale for slope in slopes):
        return f"{name} is zero; the forward does depend on {name[1:]}"
    if any(abs(slope.true) <= 1e-6 * slope.scale for slope in slopes):
        return None
    factors = [slope.claimed / slope.true for slope in slopes]

    def everywhere(expected: Callable[[Values], float]) -> bool:
        pairs = zip(factors, slopes, strict=True)
        return all(abs(f / expected(slope.values) - 1) < 1e-5 for f, slope in pairs)

    names = [key for key, value in slopes[0].values.items() if isinstance(value, int) and value > 1]
    for key in names:
        if everywhere(lambda values, key=key: float(values[key])):
            return f"too large by the factor {key}: a mean was meant, not a sum"
        if everywhere(lambda values, key=key: 1 / float(values[key])):
            return f"too small by the factor {key}: a sum was meant, not a mean"
    if everywhere(lambda _: -1.0):
        return "the sign is wrong"
    if everywhere(lambda _: factors[0]):
        return f"off by the factor {factors[0]:.4g}"
    return None


def _batch(running: Running, values: Values) -> tuple[Array, Array, int]:
    """Return mean, biased variance and count of what a batch norm sees."""
    x = np.asarray(running.seen(values))
    count = math.prod(x.shape[i] for i in running.axes)
    return x.mean(running.axes), x.var(running.axes), count


_UNCHANGED = "not updated"


def _kept_wrongly(name: str, got: Any, values: Values, running: Running) -> str | None:
    """Return the usual slip that leaves exactly this running statistic."""
    mean, var, count = _batch(running, values)
    old = values[name]
    batch = mean if name == "running_mean" else var
    eps = values.get("eps", DEFAULTS["eps"])
    unbiased = var * count / max(count - 1, 1)
    share = _MOMENTUM if running.keeps_old else 1 - _MOMENTUM

    def updated(new: Array, share: float = share) -> Array:
        return share * old + (1 - share) * new

    right = unbiased if running.unbiased and name == "running_var" else batch
    role = "old" if running.keeps_old else "new"
    slips = {
        _UNCHANGED: old,
        f"the shares are exchanged: momentum is the share of the {role} statistic": updated(right, 1 - share),
        "overwritten by the batch: the old statistic has no share": right,
        "the momentum that is passed is ignored: 0.9 is used": updated(right, 0.9 if running.keeps_old else 0.1),
        "the momentum that is passed is ignored: 0.1 is used": updated(right, 0.1 if running.keeps_old else 0.9),
        "the old statistic is added whole": old + (1 - share) * right,
        "the batch enters with weight 1 instead of its share": share * old + right,
        "started from zero: the old statistic is not read": (1 - share) * right,
    }
    if name == "running_var":
        slips |= {
            "divided by N instead of N - 1" if running.unbiased else "divided by N - 1 instead of N": updated(
                batch if running.unbiased else unbiased
            ),
            "eps is stored with the variance; add it only under the root": updated(right + eps),
            "the standard deviation is stored instead of the variance": updated(np.sqrt(right)),
            "the root of variance and eps is stored instead of the variance": updated(np.sqrt(right + eps)),
            "the mean is stored instead of the variance": updated(mean),
        }
    return next((message for message, slip in slips.items() if _distance(got, slip) <= _OUTPUT), None)


# Usual slips of a forward pass, each with the formula that gives it.

Formula = Callable[[Values], Any]


def _deviations(spec: Spec) -> Iterator[tuple[str, Formula]]:
    """Yield usual slips of a layer: what to say, and the output that it leads to."""
    right = spec.problem.specification
    if right is None:
        return
    for name in ("gamma", "beta", "b"):
        if name in spec.problem.inputs:
            neutral = 1.0 if name == "gamma" else 0.0
            yield f"{name} is missing", _with(right, {name: lambda a, neutral=neutral: 0 * a + neutral})
            if name == "beta":
                yield "beta is subtracted instead of added", _with(right, {name: lambda a: -a})
    if "b" in spec.problem.inputs:
        yield "b is subtracted instead of added", _with(right, {"b": lambda a: -a})
    if {"gamma", "beta"} <= set(spec.problem.inputs):
        yield "gamma and beta are exchanged", lambda v: right({**v, "gamma": v["beta"], "beta": v["gamma"]})
    if spec.norm is not None:
        for message, statistics in _NORM_SLIPS.items():
            yield message, _slipped(spec.norm, statistics)
        for literal in (1e-5, 1e-8, 1e-6, 1e-7, 1e-3, 1e-4, 1e-10, 1e-12):
            yield (
                f"the eps that is passed is ignored: {literal:g} is used".replace("e-0", "e-"),
                lambda v, literal=literal: right({**v, "eps": literal}),
            )
        yield from _axis_slips(spec.norm)
    if spec.layer == "conv":
        turned = _with(right, {"w": lambda w: w[:, :, ::-1, ::-1]})
        yield "the filters are turned by 180 degrees: this convolution does not flip them", turned
    yield from _OTHER_SLIPS.get(spec.layer or "", {}).items()


def _with(right: Formula, changes: Mapping[str, Callable[[Any], Any]]) -> Formula:
    return lambda values: right({**values, **{name: change(values[name]) for name, change in changes.items()}})


def _slipped(norm: Norm, x_hat: Callable[[Array, Array, Array, float, int], Array]) -> Formula:
    """Return the formula of a normalization in which something else stands for x_hat."""

    def formula(values: Values) -> Any:
        x = norm.blocks(values)
        mean = x.mean(norm.axes, keepdims=True) if norm.centred else 0 * x.mean(norm.axes, keepdims=True)
        var = ((x - mean) ** 2).mean(norm.axes, keepdims=True)
        count = math.prod(x.shape[i] for i in norm.axes)
        return norm.scaled(x_hat(x, mean, var, values.get("eps", DEFAULTS["eps"]), count), values)

    return formula


_NORM_SLIPS: Mapping[str, Callable[[Array, Array, Array, float, int], Array]] = {
    "eps is left out: add it to the variance under the root": lambda x, m, v, e, n: (x - m) / np.sqrt(v),
    "eps is outside of the root: sqrt(var + eps) is meant, not sqrt(var) + eps": lambda x, m, v, e, n: (
        (x - m) / (np.sqrt(v) + e)
    ),
    "a standard deviation stands for the variance, so that the root is taken twice": lambda x, m, v, e, n: (
        (x - m) / np.sqrt(np.sqrt(v) + e)
    ),
    "eps is added twice": lambda x, m, v, e, n: (x - m) / np.sqrt(v + 2 * e),
    "eps is squared": lambda x, m, v, e, n: (x - m) / np.sqrt(v + e * e),
    "the variance is divided by N - 1 instead of N": lambda x, m, v, e, n: (x - m) / np.sqrt(v * n / (n - 1) + e),
    "the variance is a sum: divide it by N": lambda x, m, v, e, n: (x - m) / np.sqrt(v * n + e),
    "the standard deviation is subtracted instead of divided by": lambda x, m, v, e, n: x - m - np.sqrt(v + e),
    "multiplied by the standard deviation instead of divided": lambda x, m, v, e, n: (x - m) * np.sqrt(v + e),
    "divided by the variance instead of its root": lambda x, m, v, e, n: (x - m) / (v + e),
    "the mean is not subtracted": lambda x, m, v, e, n: x / np.sqrt(v + e),
    "the mean is added instead of subtracted": lambda x, m, v, e, n: (x + m) / np.sqrt(v + e),
    "not divided by the standard deviation": lambda x, m, v, e, n: x - m,
    "the mean of the squares stands for the variance: subtract the mean first": lambda x, m, v, e, n: (
        (x - m) / np.sqrt(v + m * m + e)
    ),
}


def _axis_slips(norm: Norm) -> Iterator[tuple[str, Formula]]:
    """Yield statistics over other axes than those that are meant."""

    def over(axes: tuple[int, ...] | None, mean_axes: tuple[int, ...] | None = None) -> Formula:
        """Take the variance over other axes; the mean too, where those of the mean are not told."""

        def formula(values: Values) -> Any:
            x = norm.blocks(values)
            mean = x.mean(mean_axes or axes, keepdims=True) if norm.centred else 0.0
            var = ((x - mean) ** 2).mean(axes, keepdims=True)
            return norm.scaled((x - mean) / np.sqrt(var + values.get("eps", DEFAULTS["eps"])), values)

        return formula

    def of_all(values: Values) -> Any:
        x = values["x"]
        centred = x - x.mean(norm.axes, keepdims=True) if norm.centred else x
        return norm.scaled(centred / np.sqrt(x.var() + values.get("eps", DEFAULTS["eps"])), values)

    def summed(values: Values) -> Any:
        x = values["x"]
        centred = x - x.mean(norm.axes, keepdims=True) if norm.centred else x
        var = (centred**2).sum() / math.prod(x.shape[i] for i in norm.axes)
        return norm.scaled(centred / np.sqrt(var + values.get("eps", DEFAULTS["eps"])), values)

    kept = tuple(i for i in range(2) if i not in norm.axes)
    if norm.grouped:
        yield "the statistics go over all channels, not over each group", over((1, 2, 3, 4))
        yield "the statistics go over each channel, not over each group", over((3, 4))

        def strided(values: Values) -> Any:
            x = values["x"]
            n, groups, k, height, width = (values[name] for name in ("N", "G", "K", "H", "W"))
            mixed = x.reshape(n, k, groups, height, width)
            mean = mixed.mean((1, 3, 4), keepdims=True)
            var = mixed.var((1, 3, 4), keepdims=True)
            return norm.scaled((mixed - mean) / np.sqrt(var + values.get("eps", DEFAULTS["eps"])), values)

        def many(values: Values) -> Any:
            x = values["x"]
            blocks = x.reshape(values["N"], values["K"], values["G"], values["H"], values["W"])
            mean, var = blocks.mean((2, 3, 4), keepdims=True), blocks.var((2, 3, 4), keepdims=True)
            return norm.scaled((blocks - mean) / np.sqrt(var + values.get("eps", DEFAULTS["eps"])), values)

        yield "G is the number of groups, not the channels in each: reshape to (N, G, C // G, H, W)", many
        yield "the groups are not blocks of neighbouring channels: reshape to (N, G, C // G, H, W)", strided
        return
    places = ", ".join(map(str, norm.axes))
    told = f"axis=({places})" if "," in places else f"axis={places}"
    yield f"the statistics go over all entries: {told} is missing", over(None)
    for formula in (over(None, norm.axes), of_all):
        yield f"the variance goes over all entries: {told} is missing", formula
    yield f"the variance sums all entries: {told} is missing", summed
    if len(norm.axes) == 1:
        yield f"the statistics go over the other axis: {told} is meant", over(kept)
        yield f"the variance goes over the other axis: {told} is meant", over(kept, norm.axes)
    else:
        yield f"the statistics go over the batch alone: {told} is meant", over((0,))
        yield f"the statistics go over each picture alone: {told} is meant", over((2, 3))
        yield f"the statistics go over each sample: {told} is meant", over((1, 2, 3))

        def unmoved(values: Values) -> Any:
            x = values["x"]
            rows = x.reshape(-1, x.shape[1])
            eps = values.get("eps", DEFAULTS["eps"])
            return values["gamma"] * (rows - rows.mean(0)) / np.sqrt(rows.var(0) + eps) + values["beta"]

        def spread(values: Values) -> Any:
            return unmoved(values).reshape(values["x"].shape)

        def restored(values: Values) -> Any:
            n, c, h, w = values["x"].shape
            return unmoved(values).reshape(n, h, w, c).transpose(0, 3, 1, 2)

        for formula in (spread, restored):
            yield "the channels are not last when x is reshaped: transpose(0, 2, 3, 1) first", formula
        yield (
            "the axes are not put back: transpose(0, 3, 1, 2) at the end",
            lambda v: _rows_of_channels(v).reshape(v["x"].shape),
        )


def _rows_of_channels(values: Values) -> Any:
    """Return the normalized rows (N*H*W, C)."""
    x = values["x"].transpose(0, 2, 3, 1).reshape(-1, values["x"].shape[1])
    x_hat = (x - x.mean(0)) / np.sqrt(x.var(0) + values.get("eps", DEFAULTS["eps"]))
    return values["gamma"] * x_hat + values["beta"]


def _log_shares(values: Values) -> Array:
    """Return -log of the share of each label."""
    x, y = values["x"], values["y"]
    return np.log(np.exp(x).sum(1)) - x[np.arange(len(y)), y]


def _margins(values: Values) -> Array:
    """Return what each score lacks of the margin, the label's own included."""
    x, y = values["x"], values["y"]
    return np.maximum(x - x[np.arange(len(y)), y][:, None] + 1, 0)


def _squares(values: Values) -> Array:
    return (values["x"] - constant("targets", values["x"].shape)) ** 2


def _windows(values: Values) -> Array:
    """Return the windows of pooling, (N, C, H', W', entries)."""
    shape = values["pool_height"], values["pool_width"]
    seen = np.lib.stride_tricks.sliding_window_view(values["x"], shape, axis=(2, 3))
    seen = seen[:, :, :: values["stride"], :: values["stride"]]
    return seen.reshape(*seen.shape[:4], -1)


_OTHER_SLIPS: Mapping[str, Mapping[str, Formula]] = {
    "relu": {
        "the absolute value is taken": lambda v: np.abs(v["x"]),
        "what is negative is let through, not what is positive": lambda v: np.minimum(v["x"], 0),
        "what is positive becomes 1: multiply by x": lambda v: (v["x"] > 0) * 1.0,
        "nothing is cut off": lambda v: v["x"],
        "cut off at 1 as well": lambda v: np.clip(v["x"], 0, 1),
        "what is negative is only made small": lambda v: np.maximum(v["x"], 0.01 * v["x"]),
    },
    "softmax_cross_entropy": {
        "summed over the samples: divide by N": lambda v: _log_shares(v).sum(),
        "the sign is wrong: the loss is minus the logarithm": lambda v: -_log_shares(v).mean(),
        "the logarithm is missing": lambda v: np.exp(-_log_shares(v)).mean(),
        "divided by all entries, not by the samples": lambda v: _log_shares(v).sum() / v["x"].size,
        "the share of the label is not divided by the sum": lambda v: -v["x"][np.arange(len(v["y"])), v["y"]].mean(),
    },
    "hinge_loss": {
        "summed over the samples: divide by N": lambda v: _margins(v).sum() - len(v["y"]),
        "the label's own margin is counted: set it to 0": lambda v: _margins(v).sum() / len(v["y"]),
        "divided by all entries, not by the samples": lambda v: (_margins(v).sum() - len(v["y"])) / v["x"].size,
    },
    "squared_error": {
        "halved: the mean of the squares is meant": lambda v: _squares(v).mean() / 2,
        "summed: the mean over all entries is meant": lambda v: _squares(v).sum(),
        "half of the sum: the mean over all entries is meant": lambda v: _squares(v).sum() / 2,
        "divided by the samples, not by all entries": lambda v: _squares(v).sum() / len(v["x"]),
        "half, and divided by the samples: the mean over all entries is meant": lambda v: (
            _squares(v).sum() / (2 * len(v["x"]))
        ),
    },
    "max_pool": {
        "the mean of each window is taken, not its largest entry": lambda v: _windows(v).mean(-1),
        "the smallest entry of each window is taken": lambda v: _windows(v).min(-1),
        "the largest absolute value of each window is taken": lambda v: np.abs(_windows(v)).max(-1),
        "entries below 0 are taken for 0: start from -np.inf": lambda v: np.maximum(_windows(v).max(-1), 0),
    },
}


# Comparison, and what is said.


def _same(a: Any, b: Any) -> bool:
    """Return whether two results are the same to rounding; NaN is the same as NaN."""
    if isinstance(a, dict) and isinstance(b, dict):
        left, right = cast("dict[Any, Any]", a), cast("dict[Any, Any]", b)
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        one, other = cast("list[Any]", a), cast("list[Any]", b)
        return len(one) == len(other) and all(_same(x, y) for x, y in zip(one, other, strict=True))
    try:
        x, y = np.asarray(a), np.asarray(b)
        if x.shape != y.shape:
            return False
        if x.dtype.kind in "fc" and y.dtype.kind in "fc":
            with np.errstate(all="ignore"):
                return bool(np.allclose(x, y, rtol=1e-12, atol=1e-14 * _largest(y), equal_nan=True))
        return bool(np.array_equal(x, y))
    except Exception:
        return True


def _as_type(kind: type[np.floating[Any]], values: Values) -> dict[str, Any]:
    """Return the values with their arrays of floats in another type."""

    def changed(value: Any) -> Any:
        return value.astype(kind) if np.ndim(value) and np.asarray(value).dtype.kind == "f" else value

    return {name: changed(value) for name, value in values.items()}


def _snapshot(cache: Any) -> Any:
    """Return a copy of what a cache holds, as far as it lets itself be copied."""
    try:
        return copy.deepcopy(cache)
    except Exception:
        return None


def _arguments(call: Call) -> list[Any]:
    return [*call[0], *call[1].values()]


def _takes(argument: Any, key: str, value: float | str) -> bool:
    """Return whether an argument is this setting, or a dict that holds it."""
    held: Any = cast("dict[str, Any]", argument).get(key) if isinstance(argument, dict) else argument
    return type(held) is type(value) and held == value


def _largest(values: Any) -> float:
    array = np.abs(np.asarray(values, np.float64))
    finite = array[np.isfinite(array)]
    return float(finite.max()) if finite.size else 0.0


def _distance(got: Any, right: Any) -> float:
    """Return the largest difference, relative to the largest entry; infinite where shapes or NaNs forbid one."""
    a, b = np.asarray(got), np.asarray(right)
    if a.shape != b.shape:
        return math.inf
    if not a.size:
        return 0.0
    with np.errstate(all="ignore"):
        error = float(np.abs(a - b).max())
    return error / max(_largest(b), 1e-300) if math.isfinite(error) else math.inf


def _digits(error: float) -> str:
    """Return how far numbers agree: "1e-11"."""
    return f"1e-{min(15, math.floor(-math.log10(error)))}" if error > 1e-15 else "1e-15"


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def _told(who: str, error: BaseException, sizes: str) -> str:
    """Return a sentence about what the code raised."""
    kind, text = type(error).__name__, str(error).strip().split("\n")[0]
    told = f"{who} raises {kind}" + (f": {text}" if text else "")
    match error:
        case NameError():
            advice = "Is it spelt as it was where it was assigned?"
        case KeyError():
            advice = "The dict does not hold this key: use .get with a default."
        case RecursionError():
            advice = "The function calls itself without end."
        case SystemExit():
            advice = "Do not end the program inside of a layer."
        case ValueError() if "unpack" in text:
            advice = "The cache holds another number of values than backward takes out of it."
        case TypeError() if "NoneType" in text:
            advice = "Something that is used was never given a value."
        case UnboundLocalError():
            advice = "It is only assigned on another path."
        case _:
            advice = f"This is at {sizes}."
    return f"{told.rstrip('.')}. {advice}"


class _Places:
    """Where in the user's file things are."""

    def __init__(self, problem: Problem) -> None:
        functions = [inspect.unwrap(f) for f in (problem.forward, problem.backward) if f is not None]
        self.files = {f.__code__.co_filename for f in functions if inspect.isfunction(f)}
        self.trees = [_tree(f) for f in functions]
        self.forward_line = _first(functions[0])
        self.backward_line = _first(functions[-1])
        self.forward = _last_return(self.trees[0]) or self.forward_line
        self.backward = _last_return(self.trees[-1]) or self.backward_line
        self.returned = self.backward
        self.first_gradient = 0 if problem.backward is not None else 1  # a loss is returned before its gradients

    def gradient(self, number: int) -> int | None:
        """Return the line at which the gradient of this number was last assigned, else that of the return."""
        tree = self.trees[-1]
        name = _returned_name(tree, number + self.first_gradient)
        return max((node.lineno for node in _stores(tree, name)), default=self.backward)

    def output(self, run: Callable[[], Any], name: str | None = None) -> int | None:
        """Return the line that gives a variable its value in this call of the forward, else that of the return.

        Without a name it is what is returned first.
        """
        met: set[int] = set()
        self.trace(run, met.add)
        wanted = name or _returned_name(self.trees[0], 0)
        stores = [node for node in _stores(self.trees[0], wanted) if node.lineno in met]
        made = [node for node in stores if not _only_reshaped(node)]
        return max((node.lineno for node in made or stores), default=self.forward)

    def changes(self, run: Callable[[], Any], arrays: Iterable[Any]) -> int | None:
        """Return the line after which one of these arrays holds something else."""
        before = [(array, copy.deepcopy(array)) for array in arrays]
        found: list[int] = []

        def look(line: int) -> None:
            if not found and not all(_same(now, then) for now, then in before):
                found.append(line)

        self.trace(run, look)
        return found[0] if found else None

    def trace(self, run: Callable[[], Any], after: Callable[[int], None]) -> None:
        """Call something, and tell of each line of the user's file when it has been executed."""

        def enter(frame: FrameType, event: str, _: Any) -> Any:
            if frame.f_code.co_filename not in self.files:
                return None
            line: int | None = None

            def step(frame: FrameType, event: str, _: Any) -> Any:
                nonlocal line
                if line is not None:
                    after(line)
                line = frame.f_lineno
                return step

            return step

        before = sys.gettrace()
        sys.settrace(enter)
        try:
            run()
        finally:
            sys.settrace(before)

    def last(self, side: int, wanted: Callable[[ast.AST], bool]) -> int | None:
        """Return the last line of the forward (0) or the backward (-1) that holds such a node."""
        tree = self.trees[side]
        lines = [getattr(node, "lineno", 0) for node in ast.walk(tree) if wanted(node)] if tree is not None else []
        return max(lines, default=None)

    def raised(self, error: BaseException) -> int | None:
        """Return the innermost line of the user's file that an exception went through."""
        if isinstance(error, SyntaxError) and error.filename in self.files:
            return error.lineno
        frames = traceback.extract_tb(error.__traceback__)
        return next((frame.lineno for frame in reversed(frames) if frame.filename in self.files), None)


def _targets(node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _stores(tree: ast.AST | None, name: str | None) -> list[ast.Assign | ast.AugAssign | ast.AnnAssign]:
    """Return the statements that give a variable a value, or change its entries."""
    if tree is None or name is None:
        return []
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign))
        and any(isinstance(part, ast.Name) and part.id == name for one in _targets(node) for part in ast.walk(one))
    ]


def _only_reshaped(node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> bool:
    """Whether a value is made of the variable itself by one of its methods: out = out.reshape(x.shape)."""
    value, target = node.value, _targets(node)[0]
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and isinstance(value.func.value, ast.Name)
        and isinstance(target, ast.Name)
        and value.func.value.id == target.id
    )


def _calls(*names: str) -> Callable[[ast.AST], bool]:
    """Return what tells calls of functions or methods by the end of their name."""

    def wanted(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and ast.unparse(node.func).rsplit(".", 1)[-1] in names

    return wanted


def _reads_setting(key: str) -> Callable[[ast.AST], bool]:
    """Return what tells places where a setting is read: settings["eps"], settings.get("eps", 1e-5)."""

    def wanted(node: ast.AST) -> bool:
        keys = node.args[:1] if isinstance(node, ast.Call) else [node.slice] if isinstance(node, ast.Subscript) else []
        return any(isinstance(each, ast.Constant) and each.value == key for each in keys)

    return wanted


def _first(function: Any) -> int | None:
    return function.__code__.co_firstlineno if inspect.isfunction(function) else None


def _tree(function: Any) -> ast.AST | None:
    """Return the syntax tree of a function, with the line numbers of its file."""
    try:
        lines, start = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    return ast.increment_lineno(tree, max(start, 1) - 1)


def _returns(tree: ast.AST | None) -> list[ast.Return]:
    """Return the return statements of a function that return something, in order, those of inner functions left out."""
    if tree is None:
        return []
    found: list[ast.Return] = []
    waiting: list[ast.AST] = list(getattr(next(ast.iter_child_nodes(tree), None), "body", []))
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Return) and node.value is not None:
            found.append(node)
        if not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            waiting += ast.iter_child_nodes(node)
    return sorted(found, key=lambda node: node.lineno)


def _last_return(tree: ast.AST | None) -> int | None:
    returns = _returns(tree)
    return returns[-1].lineno if returns else None


def _returned_name(tree: ast.AST | None, number: int) -> str | None:
    """Return the name that is returned at this place."""
    returns = _returns(tree)
    if not returns:
        return None
    value = returns[-1].value
    element = value.elts[number] if isinstance(value, ast.Tuple) and number < len(value.elts) else value
    return element.id if isinstance(element, ast.Name) else None
