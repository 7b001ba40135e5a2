"""Local variables identified by value: which line of a wrong function is the first wrong one.

The code runs on the fixed inputs of its layer's dictionary. After every line its local variables are compared with the
quantities that right code passes through. A line is named only on evidence:

    what it reads is right, and is called what it is,
    what it stores is not what its name says, or what is returned under it should be,
    and with the right quantity put in its place, and nothing else changed, wrong results become right.

What is merely unknown is passed over: there are more ways to write a right gradient than quantities in a table.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import CodeType, FrameType
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from xhat.checks import Array
from xhat.verify.faults.dictionary import Dictionary, Function, Seen
from xhat.verify.faults.signature import DICTIONARIES, frozen, guarded, right_signature, same

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "N": ("n", "m", "num_samples", "batch_size", "num_train"),
    "D": ("d", "num_features"),
    "eps": ("epsilon",),
    "momentum": ("mom",),
    "running_mean": ("rm", "moving_mean"),
    "running_var": ("rv", "moving_var"),
    "mu": ("mean", "sample_mean", "batch_mean", "x_mean", "avg", "m", "u"),
    "xmu": ("x_mu", "xm", "centered", "centred", "x_centered", "xc", "x_minus_mean", "diff", "c"),
    "var": ("variance", "sample_var", "batch_var", "x_var", "sigma2", "v"),
    "std": ("sigma", "sample_std", "sqrtvar", "sqrt_var", "std_dev", "stddev", "s"),
    "ivar": ("inv_std", "istd", "invvar", "inv_var", "rstd", "inv_sigma", "inv_sqrtvar", "inv", "r"),
    "x_hat": ("xhat", "x_norm", "x_normalized", "normalized", "norm_x", "xn", "z"),
    "gamma": ("g",),
    "out": ("y", "output"),
    "dx": ("grad_x", "dX", "dscores"),
    "dgamma": ("grad_gamma", "dscale", "dg"),
    "dbeta": ("grad_beta", "dshift", "db"),
    "dx_hat": ("dxhat", "dx_norm", "dx_normalized", "dnorm", "dxn", "g"),
    "dvar": ("dvariance", "dsigma2", "dsample_var"),
    "dstd": ("dsigma", "dsqrtvar", "dsqrt_var"),
    "divar": ("dinv_std", "distd", "dinv_var", "dinvvar"),
    "dmu": ("dmean", "dsample_mean"),
    "dw": ("dW", "grad_w"),
    "db": ("grad_b", "dbias"),
    "probs": ("p", "softmax", "probabilities"),
}
"""What people call the variables that the dictionaries call so; some names are used for two things."""

_MEANINGS = {
    name: tuple(right for right, names in USUAL_NAMES.items() if name in (right, *names))
    for name in {*USUAL_NAMES, *itertools.chain.from_iterable(USUAL_NAMES.values())}
}


class Assignment(NamedTuple):
    """A local variable that was assigned, or changed in place, by a line."""

    name: str
    line: int  # of the file, counted from 1
    value: Any  # arrays are copied
    call: int  # which call of the function, counted from 0
    number: int  # which assignment of this call; -1 for an argument


@dataclass(frozen=True)
class Located:
    """The first wrong line.

    Parameters
    ----------
    line : int
        Of the file, counted from 1.
    name : str
        The variable that it stores; "return" for a line that returns.
    message : str
        What is wrong, as far as it is known.
    side : str
        "forward" or "backward"; of a loss, "backward" where the loss itself is right and its gradient is not.
    """

    line: int
    name: str
    message: str
    side: str


class _Swap(NamedTuple):
    """A value to be put in the place of what an assignment stored."""

    call: int
    number: int
    value: Any


def trace(function: Function, *args: Any, **kwargs: Any) -> tuple[Any, list[Assignment]]:
    """Call a function and return its result, and what each of its lines stored, in the order of execution.

    Functions that it calls are not watched. Another tracer (a debugger, coverage) does not see this call, and is there
    again after it, whether the function returns or raises.

    Examples
    --------
    >>> def area(width, height):
    ...     both = width * height
    ...     return both
    >>> result, stored = trace(area, 2, 3)
    >>> result, [(one.name, one.value) for one in stored]
    (6, [('both', 6)])
    """
    result, stored = _watched(lambda: function(*args, **kwargs), code_of(function))
    return result, [one for one in stored if one.number >= 0]


def identify(layer: str, side: str, value: Any) -> str | None:
    """Return in words what a value is, if it is one that the layer's right code holds, or a known wrong one.

    Parameters
    ----------
    layer : str
        "batch_norm".
    side : str
        "forward" or "backward"
    value : number or array
        Computed from the fixed inputs of the layer's dictionary.
    """
    rights = _right(layer, side)[0]
    words = DICTIONARIES[layer].quantities
    for name in (*words, *(name for name in rights if name not in words)):
        if any(_alike(value, right) for right in rights.get(name, ())):
            return name
    return _wrong_form(layer, side, value)


def first_wrong_line(
    layer: str,
    forward: Function,
    backward: Function | None,
    *,
    of: tuple[Function, Function | None] | None = None,
) -> Located | None:
    """Return the first line that is wrong, or None where all is right or nothing is certain.

    Parameters
    ----------
    layer : str
        "batch_norm"; one of the dictionaries.
    forward, backward : callable
        They take what the course's functions take. A loss has no backward pass.
    of : pair of callables, optional
        The functions whose lines are meant, where `forward` and `backward` merely call them.
    """
    first, second = of or (forward, backward)
    search = _Search(layer, "forward", first, forward, backward)
    if backward is None:
        located = search.find()
        right = not any(name.startswith("out") for name in search.wrong)
        return replace(located, side="backward") if located is not None and right else located
    if search.wrong or second is None:
        return search.find()
    return _Search(layer, "backward", second, forward, backward).find()


class _Search:
    """The search in one function."""

    def __init__(self, layer: str, side: str, function: Function, forward: Function, backward: Function | None) -> None:
        self.layer, self.side, self.function = layer, side, function
        self.forward, self.backward = forward, backward
        self.right = _right(layer, side)
        self.stored: list[Assignment] = []
        self.wrong: frozenset[str] = frozenset()
        try:
            self.code = code_of(function)
        except TypeError:
            return
        self.code_globals: Mapping[str, Any] = _plain(function).__globals__
        self.wrong, self.stored = self.run()

    def find(self) -> Located | None:
        """Return the first assignment that is wrong on evidence; then a `return` of right things that is wrong."""
        lines = _Lines.of(self.function) if self.wrong and "error" not in self.wrong else None
        if lines is None:
            return None
        for call in range(len(self.right)):
            stored = [one for one in self.stored if one.call == call and one.number >= 0]
            located = self.find_in(lines, stored) if stored else None
            if located is not None:
                return located
        return None

    def find_in(self, lines: _Lines, stored: Sequence[Assignment]) -> Located | None:
        """Follow one call."""
        counts = Counter((one.line, one.name) for one in stored)
        places: dict[str, list[int]] = {}
        for one in stored:
            places.setdefault(one.name, []).append(one.number)
        trusted = dict.fromkeys(lines.parameters, True)
        spread: set[str] = set()  # equal but for axes of length 1, so that they may grow otherwise
        for one in stored:
            statement = lines.at(one.line)
            if statement is None or statement.loop or counts[one.line, one.name] > 1:
                trusted[one.name] = False
                continue
            if one.name in lines.parameters and one.name not in statement.stores:
                if self.wrong == frozenset({f"{one.name} after the call"}):
                    return Located(statement.line, one.name, f"{one.name} is changed in place: copy it.", self.side)
                trusted[one.name] = False
                continue
            reads_right = not statement.draws and all(self.trusts(name, trusted) for name in statement.reads)
            reads_spread = bool(spread & statement.reads)
            wanted = self.wanted(one, places[one.name], lines.returned)
            right = wanted is not None and self.holds(one, wanted)
            trusted[one.name] = right or not _numeric(one.value)
            (spread.discard if wanted is None or _equal(one.value, wanted.value) else spread.add)(one.name)
            if wanted is None or right or statement.unpacks or not reads_right:
                continue
            if reads_spread and _outline(one.value) != _outline(wanted.value):
                continue
            if self.repaired(one, wanted):
                return Located(statement.line, one.name, self.explanation(one, wanted), self.side)
        last = lines.last_return(stored)
        own = not self.wrong.isdisjoint(self.results()) and stored[0].call == 0
        if last is not None and own and self.side == "backward" and all(trusted.get(name, True) for name in last.reads):
            return Located(last.line, "return", "What is returned is not in the order that is asked for.", self.side)
        return None

    def wanted(self, one: Assignment, places: Sequence[int], returned: Sequence[str]) -> _Wanted | None:
        """Return what a variable should hold: by its name, or by its place among what is returned."""
        if not _numeric(one.value):
            return None
        rights, results = self.right[one.call], self.results()
        names = [name for name in dict.fromkeys((one.name, *_MEANINGS.get(one.name, ()))) if name in rights]
        if one.name in returned and len(returned) == len(results) and not set(names) & set(results):
            names = [results[returned.index(one.name)]]
        meanings = [_Wanted(name, value) for name in names for value in self.stages(one, places, rights.get(name, []))]
        return next((meaning for meaning in meanings if self.holds(one, meaning)), next(iter(meanings), None))

    def stages(self, one: Assignment, places: Sequence[int], history: list[Any]) -> list[Any]:
        """Return what right code holds at this stage of a variable that may be stored several times."""
        place = places.index(one.number)
        if place == len(places) - 1:
            return history[-1:]
        if len(places) == len(history):
            return [history[place]]
        return [value for value in history if _alike(one.value, value)][:1]

    def results(self) -> tuple[str, ...]:
        """Return the names of what the function returns, in order."""
        names = tuple(right_signature(self.layer))
        if self.side == "backward":
            return tuple(name for name in names if name in ("dx", "dw", "db", "dgamma", "dbeta"))
        return _results_of_loss(self.layer) if self.backward is None else ("out", "cache")

    def holds(self, one: Assignment, wanted: _Wanted) -> bool:
        """Whether a variable holds this; what is a result must have its shape."""
        asked = right_signature(self.layer).get(wanted.name)
        final = asked is not None and same(asked, np.asarray(wanted.value, np.float64))
        return _equal(one.value, wanted.value) if final else _alike(one.value, wanted.value)

    def trusts(self, name: str, trusted: Mapping[str, bool]) -> bool:
        """Whether a line may be blamed although it reads this: a right value, or NumPy, but no function beside."""
        if name in trusted:
            return trusted[name]
        return name not in self.code.co_freevars and not hasattr(self.code_globals.get(name), "__code__")

    def run(self, swap: _Swap | None = None) -> tuple[frozenset[str], list[Assignment]]:
        """Return which results are wrong, and what was stored."""
        seen, stored = Seen(), list[Assignment]()
        with guarded(seen):
            dictionary = DICTIONARIES[self.layer]
            stored = _run(dictionary, self.side, self.forward, self.backward, seen, self.code, swap)
        right, found = right_signature(self.layer), frozen(seen)
        return frozenset(name for name in found if name not in right or not same(found[name], right[name])), stored

    def repaired(self, one: Assignment, wanted: _Wanted) -> bool:
        """Whether wrong results become right, and none wrong, with the right quantity in this place."""
        keep = np.size(wanted.value) == np.size(one.value) and wanted.name not in right_signature(self.layer)
        value: Any = np.reshape(wanted.value, np.shape(one.value)) if keep else wanted.value
        value = value.item() if _array(value) and value.ndim == 0 else value
        return self.run(_Swap(one.call, one.number, value))[0] < self.wrong

    def explanation(self, one: Assignment, wanted: _Wanted) -> str:
        """Return what is known of a wrong value."""
        form = _wrong_form(self.layer, self.side, one.value, wanted.name)
        meaning = _meaning(self.layer, self.side, wanted.name)
        told = f"should be {meaning}" if meaning else "is not what is needed here, though what the line reads is right"
        return form or f"{one.name} {told}."


class _Wanted(NamedTuple):
    name: str  # of the right code's variable
    value: Any


class _Statement(NamedTuple):
    line: int
    end: int
    reads: frozenset[str]
    stores: frozenset[str]
    loop: bool  # it runs several times, or it is not known how often
    unpacks: bool  # it takes apart what came from elsewhere
    returns: bool
    draws: bool  # what it stores depends on the state of a generator


class _Lines:
    """The statements of a function by line."""

    def __init__(self, tree: ast.FunctionDef) -> None:
        arguments = tree.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        self.parameters = frozenset(argument.arg for argument in every)
        self.statements = tuple(_statements(tree.body, False))
        self.returned = tuple(_returned(tree))

    @classmethod
    def of(cls, function: Function) -> _Lines | None:
        """Read a function's text; None where there is none."""
        try:
            lines, start = inspect.getsourcelines(_plain(function))
            tree = ast.parse(textwrap.dedent("".join(lines)))
        except (OSError, TypeError, SyntaxError):
            return None
        ast.increment_lineno(tree, start - 1)
        return cls(tree.body[0]) if isinstance(tree.body[0], ast.FunctionDef) else None

    def at(self, line: int) -> _Statement | None:
        return next((one for one in self.statements if one.line <= line <= one.end), None)

    def last_return(self, stored: Sequence[Assignment]) -> _Statement | None:
        """Return the only `return`, if it computes nothing and follows all that was stored."""
        found = [one for one in self.statements if one.returns]
        last = max((one.line for one in stored), default=0)
        return found[0] if self.returned and len(found) == 1 and found[0].line >= last else None


def _returned(tree: ast.FunctionDef) -> list[str]:
    """Return the names that the only `return` lists; none if there are several, or if something is computed there."""
    found = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    entries = found[0].elts if len(found) == 1 and isinstance(found[0], ast.Tuple) else found
    names = [entry.id for entry in entries if isinstance(entry, ast.Name)]
    return names if len(found) == 1 and len(names) == len(entries) else []


def _statements(body: Sequence[ast.stmt], loop: bool) -> Iterator[_Statement]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        inner = [getattr(node, name, []) for name in ("body", "orelse", "finalbody")]
        if any(inner):
            inside = loop or isinstance(node, ast.For | ast.While | ast.AsyncFor)
            for part in inner:
                yield from _statements(part, inside)
            continue
        names = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
        reads = {one.id for one in names if isinstance(one.ctx, ast.Load)}
        stores = {one.id for one in names if isinstance(one.ctx, ast.Store)}
        if isinstance(node, ast.AugAssign):
            reads |= stores
        unpacks = (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Name | ast.Subscript | ast.Attribute)
            and isinstance(node.targets[0], ast.Tuple | ast.List)
        )
        yield _Statement(
            node.lineno,
            node.end_lineno or node.lineno,
            frozenset(reads),
            frozenset(stores),
            loop,
            unpacks,
            isinstance(node, ast.Return),
            any(isinstance(one, ast.Attribute) and one.attr == "random" for one in ast.walk(node)),
        )


def code_of(function: Function) -> CodeType:
    """Return the code that runs when a function is called, under its decorators.

    Raises
    ------
    TypeError
        If it is not written in Python.
    """
    code = getattr(_plain(function), "__code__", None)
    if not isinstance(code, CodeType):
        raise TypeError(f"trace: expected a Python function, got {type(function).__name__}. Give the function itself.")
    return code


def _plain(function: Function) -> Function:
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return inspect.unwrap(function)  # pyright: ignore[reportUnknownArgumentType]


def _watched(run: Callable[[], Any], code: CodeType, swap: _Swap | None = None) -> tuple[Any, list[Assignment]]:
    """Run something, and record what the frames of one piece of code store; a swap is made as soon as it is stored."""
    stored: list[Assignment] = []
    calls = 0

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal calls
        if frame.f_code is not code:
            return None
        call, calls = calls, calls + 1
        held = {name: (value, _copy(value)) for name, value in frame.f_locals.items()}
        line, number = frame.f_lineno, 0
        stored.extend(Assignment(name, line, copied, call, -1) for name, (_, copied) in held.items())

        def step(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal line, number
            names = frame.f_locals  # asked for once: each time gives back what was swapped
            for name, value in list(names.items()):
                if name in held and held[name][0] is value and _unchanged(held[name][1], value):
                    continue
                stored.append(Assignment(name, line, _copy(value), call, number))
                if swap is not None and (swap.call, swap.number) == (call, number):
                    names[name] = value = _copy(swap.value)
                held[name] = (value, _copy(value))
                number += 1
            line = frame.f_lineno
            return step

        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        return run(), stored
    finally:
        sys.settrace(before)


def _array(value: Any) -> TypeGuard[Array]:
    return isinstance(value, np.ndarray)


def _copy(value: Any) -> Any:
    return value.copy() if _array(value) else value


def _unchanged(old: Any, new: Any) -> bool:
    """Whether an array still holds what it held; what is no array is not looked into."""
    if not _array(new):
        return True
    return old.shape == new.shape and bool(((old == new) | ((old != old) & (new != new))).all())


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.ndarray) and np.asarray(value).dtype.kind in "biuf"


def _alike(value: Any, right: Any) -> bool:
    """Whether two values are equal but for axes of length 1, which may be many only where there are images."""
    if not (_numeric(value) and _numeric(right)) or np.ndim(value) > max(np.ndim(right), 4):
        return False
    return same(np.squeeze(np.asarray(value, np.float64)), np.squeeze(np.asarray(right, np.float64)))


def _equal(value: Any, right: Any) -> bool:
    return np.shape(value) == np.shape(right) and _alike(value, right)


def _outline(value: Any) -> tuple[int, ...]:
    return np.squeeze(value).shape


@functools.cache
def _results_of_loss(layer: str) -> tuple[str, ...]:
    """Return what the right code of a loss calls the loss and its gradient."""
    tree = ast.parse(DICTIONARIES[layer].forward).body[0]
    return tuple(_returned(tree)) if isinstance(tree, ast.FunctionDef) else ()


@functools.cache
def _right(layer: str, side: str) -> tuple[dict[str, list[Any]], ...]:
    """Return what the right code's variables hold one after the other, and what can be said in words, call by call."""
    dictionary = DICTIONARIES[layer]
    functions = dictionary.functions()
    held: list[dict[str, list[Any]]] = []
    with guarded(Seen()):
        _gather(held, _run(dictionary, "forward", *functions))
        if side == "backward":
            stored = _run(dictionary, "backward", *functions)
            del held[1 + max(one.call for one in stored) :]
            _gather(held, stored)
        for names in held:
            last = {name: values[-1] for name, values in names.items()}
            for words, expression in dictionary.quantities.items():
                try:
                    names[words] = [eval(expression, {"np": np, **last})]
                except NameError:  # a branch that this call does not take
                    continue
    return tuple(held)


def _run(
    dictionary: Dictionary,
    side: str,
    forward: Function,
    backward: Function | None,
    seen: Seen | None = None,
    code: CodeType | None = None,
    swap: _Swap | None = None,
) -> list[Assignment]:
    """Run a layer's examples and return what one side stored."""
    seen = Seen() if seen is None else seen
    if side == "forward" or backward is None:
        return _watched(lambda: dictionary.after_forward(forward, seen), code or code_of(forward), swap)[1]
    cache = dictionary.after_forward(forward, Seen())
    return _watched(lambda: dictionary.after_backward(backward, cache, seen), code or code_of(backward), swap)[1]


def _gather(held: list[dict[str, list[Any]]], stored: Sequence[Assignment]) -> None:
    """Sort what was stored by call and name; what a backward pass stores counts anew."""
    held.extend({} for _ in range(1 + max(one.call for one in stored) - len(held)))
    begun: set[tuple[int, str]] = set()
    for one in stored:
        if _numeric(one.value):
            values = held[one.call].setdefault(one.name, [])
            if (one.call, one.name) not in begun:
                begun.add((one.call, one.name))
                values.clear()
            values.append(one.value)


def _meaning(layer: str, side: str, name: str) -> str | None:
    """Return what a variable of the right code holds: in words, or else as it is computed there."""
    dictionary = DICTIONARIES[layer]
    words = next((words for words, expression in dictionary.quantities.items() if expression == name), None)
    if words is not None:
        return words
    for text in (dictionary.backward if side == "backward" else "", dictionary.forward):
        found = [
            ast.unparse(node.value)
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Assign)
            and not isinstance(node.value, ast.Constant | ast.Name)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == name
        ]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _wrong_form(layer: str, side: str, value: Any, name: str | None = None) -> str | None:
    """Return the message of the only mistake that stores such a value, if need be in the place of one quantity."""
    if not _numeric(value) or (np.size(value) == 1 and float(np.asarray(value).item()).is_integer()):
        return None
    rights = itertools.chain.from_iterable(_right(layer, side)[0].values())
    if name is None and any(_alike(value, right) for right in rights):
        return None
    forms = [form for form in _wrong_forms(layer, side) if name in (None, form.name) and _alike(value, form.value)]
    for chosen in ([form for form in forms if form.first], forms):
        messages = {form.message for form in chosen}
        if len(messages) == 1:
            return messages.pop()
    return None


class _Form(NamedTuple):
    name: str
    value: Any
    message: str
    first: bool  # stored by the wrong line itself, and not wrong because of it


@functools.cache
def _wrong_forms(layer: str, side: str) -> tuple[_Form, ...]:
    """Return what each mistake makes of which variable."""
    dictionary = DICTIONARIES[layer]
    forms: list[_Form] = []
    with guarded(Seen()):
        rights = {(one.call, one.line, one.name): one.value for one in _run(dictionary, side, *dictionary.functions())}
    for fault in dictionary.faults:
        if fault.side != side and dictionary.backward:
            continue
        stored: list[Assignment] = []
        with guarded(Seen()):
            stored = _run(dictionary, side, *dictionary.functions((fault,)))
        first = True
        for one in stored:
            right = rights.get((one.call, one.line, one.name))
            if _numeric(one.value) and _numeric(right) and not _equal(one.value, right):
                forms.append(_Form(one.name, one.value, fault.message, first))
                first = False
    return tuple(forms)
