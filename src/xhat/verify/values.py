"""Local variables identified by value: which line of a wrong function is the first wrong one.

The code runs on the fixed inputs of its layer's dictionary. After every line its local variables are compared with the
quantities that right code passes through. A line is named only on evidence:

    what it reads is right,
    what it stores is not,
    and with the right quantity put in its place, and nothing else changed, wrong results become right.

What is merely unknown is passed over: there are more ways to write a right gradient than quantities in a table.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from xhat.checks import Array
from xhat.verify.faults.dictionary import Dictionary, Function, Seen
from xhat.verify.faults.signature import DICTIONARIES, frozen, guarded, right_signature, same

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "N": ("n", "m", "num_samples", "batch_size"),
    "D": ("d", "num_features"),
    "eps": ("epsilon",),
    "mu": ("mean", "sample_mean", "batch_mean", "x_mean", "avg", "m_x"),
    "xmu": ("x_mu", "xm", "centered", "centred", "x_centered", "xc", "x_minus_mean", "diff"),
    "var": ("variance", "sample_var", "batch_var", "x_var", "sigma2", "sq_var"),
    "std": ("sigma", "sample_std", "sqrtvar", "sqrt_var", "std_dev", "stddev"),
    "ivar": ("inv_std", "istd", "invvar", "inv_var", "rstd", "inv_sigma", "inv_sqrtvar"),
    "x_hat": ("xhat", "x_norm", "x_normalized", "normalized", "x_n", "norm_x"),
    "out": ("y", "output"),
    "dx": ("grad_x", "dX", "dscores"),
    "dgamma": ("grad_gamma", "dscale"),
    "dbeta": ("grad_beta", "dshift"),
    "dx_hat": ("dxhat", "dx_norm", "dx_normalized", "dnorm"),
    "dvar": ("dvariance", "dsigma2", "dsample_var"),
    "dstd": ("dsigma", "dsqrtvar", "dsqrt_var"),
    "divar": ("dinv_std", "distd", "dinv_var", "dinvvar"),
    "dmu": ("dmean", "dsample_mean"),
    "dw": ("dW", "grad_w"),
    "db": ("grad_b", "dbias"),
    "probs": ("p", "softmax", "probabilities"),
}
"""What people call the variables that the dictionaries call so."""

_CANONICAL = {name: right for right, names in USUAL_NAMES.items() for name in (right, *names)}


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
        "forward" or "backward".
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
        if name in rights and _alike(value, rights[name]):
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
    located = _Search(layer, "forward", first, forward, backward)
    if located.wrong or backward is None or second is None:
        return located.find()
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
        """Return the first assignment that is wrong on evidence; then a `return` that reads right things only."""
        lines = _Lines.of(self.function) if self.wrong and "error" not in self.wrong else None
        if lines is None:
            return None
        last = {(one.call, one.name): one.number for one in self.stored}
        counts: dict[tuple[int, int, str], int] = {}
        for one in self.stored:
            counts[one.call, one.line, one.name] = counts.get((one.call, one.line, one.name), 0) + 1
        for call in range(len(self.right)):
            innocent: dict[str, bool] = dict.fromkeys(lines.parameters, True)
            reshaped: frozenset[str] = frozenset()
            for one in (one for one in self.stored if one.call == call and one.number >= 0):
                statement = lines.at(one.line)
                if statement is None or statement.loop or counts[call, one.line, one.name] > 1:
                    innocent[one.name] = False
                    continue
                if one.name in lines.parameters and not statement.binds(one.name):
                    if self.wrong == frozenset({f"{one.name} after the call"}):
                        return self.located(statement, one, f"{one.name} is changed in place: work on a copy.")
                    innocent[one.name] = False
                    continue
                named = self.named(one, last[call, one.name] == one.number)
                known = self.known(one)
                trusted = not statement.draws and all(self.trusted(name, innocent) for name in statement.reads)
                spread = bool(reshaped & statement.reads)
                innocent[one.name] = known if named is None else named
                reshaped = reshaped - {one.name} if self.in_shape(one) else reshaped | {one.name}
                repair = None if named or statement.unpacks else self.repair(one)
                if repair is None:
                    continue
                if known and named is None:
                    return None  # a right quantity, but perhaps not the one that is needed here
                if not trusted or (spread and _outline(one.value) != _outline(self.right[call][repair])):
                    return None
                return self.located(statement, one, self.explanation(one, repair))
            returned = lines.returned(self.stored, call)
            if returned is not None and returned.reads and self.fits_return(returned, innocent):
                return Located(
                    returned.line, "return", "What is returned is in another order than asked for.", self.side
                )
        return None

    def trusted(self, name: str, innocent: Mapping[str, bool]) -> bool:
        """Whether a line may be blamed although it reads this: a right value, or NumPy, but no function beside."""
        beside = self.code_globals.get(name)
        return innocent[name] if name in innocent else not hasattr(beside, "__code__")

    def fits_return(self, returned: _Statement, innocent: Mapping[str, bool]) -> bool:
        """Whether all that a `return` reads is right and goes by a name that says what it is."""
        names = [name for name in returned.reads if name in innocent]
        return (
            returned.plain and all(innocent[name] and name in _CANONICAL for name in names) and self.side == "backward"
        )

    def run(self, swap: _Swap | None = None) -> tuple[frozenset[str], list[Assignment]]:
        """Return which results are wrong, and what was stored."""
        seen, stored = Seen(), list[Assignment]()
        with guarded(seen):
            dictionary = DICTIONARIES[self.layer]
            stored = _run(dictionary, self.side, self.forward, self.backward, seen, self.code, swap)
        right, found = right_signature(self.layer), frozen(seen)
        return frozenset(name for name in found if name not in right or not same(found[name], right[name])), stored

    def named(self, one: Assignment, last: bool) -> bool | None:
        """Return whether a variable holds what its name says; None where its name says nothing."""
        name = _CANONICAL.get(one.name, one.name)
        rights = self.right[one.call]
        if name not in rights or not _numeric(one.value):
            return None
        if _alike(one.value, rights[name]) and not (last and self.returned_otherwise(name, one.value)):
            return True
        return False if last else None

    def returned_otherwise(self, name: str, value: Any) -> bool:
        """Whether this is a result, in another shape than asked for."""
        asked = right_signature(self.layer).get(name)
        return asked is not None and asked.shape != np.shape(value)

    def known(self, one: Assignment) -> bool:
        """Return whether the value is one that right code may hold."""
        if not _numeric(one.value):
            return one.value is None or isinstance(one.value, str | tuple | dict)
        return any(_alike(one.value, right) for right in self.right[one.call].values())

    def in_shape(self, one: Assignment) -> bool:
        """Return whether right code holds this value in the same shape, so that it cannot spread otherwise."""
        rights = self.right[one.call].values() if _numeric(one.value) else ()
        return any(_equal(one.value, right) for right in rights)

    def repair(self, one: Assignment) -> str | None:
        """Return the quantity which, put in the place of what was stored, makes wrong results right."""
        if not _numeric(one.value):
            return None
        rights = self.right[one.call]
        name = _CANONICAL.get(one.name, one.name)
        first = [name] if name in rights else []
        others = [words for words, right in rights.items() if words != name and _fits(one.value, right)]
        for words in (*first, *others):
            right = rights[words]
            keep = np.size(right) == np.size(one.value) and not self.returned_otherwise(words, one.value)
            if _alike(one.value, right) and keep:
                continue
            value = np.reshape(right, np.shape(one.value)) if keep else right
            value = value.item() if np.ndim(value) == 0 and not isinstance(value, int | float) else value
            if self.run(_Swap(one.call, one.number, value))[0] < self.wrong:
                return words
        return None

    def explanation(self, one: Assignment, repair: str) -> str:
        """Return what is known of a wrong value."""
        form = _wrong_form(self.layer, self.side, one.value, repair)
        meaning = _meaning(self.layer, self.side, repair)
        told = f"should be {meaning}" if meaning else "is not what is needed here, though what the line reads is right"
        return form or f"{one.name} {told}."

    def located(self, statement: _Statement, one: Assignment, message: str) -> Located:
        """Return the finding."""
        return Located(statement.line, one.name, message, self.side)


class _Statement(NamedTuple):
    line: int
    end: int
    reads: frozenset[str]
    stores: frozenset[str]
    loop: bool  # it runs several times, or it is not known how often
    unpacks: bool  # it takes apart what came from elsewhere
    returns: bool
    draws: bool  # what it stores depends on the state of a generator
    plain: bool  # nothing is computed

    def binds(self, name: str) -> bool:
        return name in self.stores


class _Lines:
    """The statements of a function by line."""

    def __init__(self, tree: ast.FunctionDef) -> None:
        arguments = tree.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        self.parameters = frozenset(argument.arg for argument in every)
        self.statements = tuple(_statements(tree.body, False))

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

    def returned(self, stored: Sequence[Assignment], call: int) -> _Statement | None:
        """Return the only `return`, if there is one only and it follows what was stored."""
        found = [one for one in self.statements if one.returns]
        last = max((one.line for one in stored if one.call == call), default=0)
        return found[0] if len(found) == 1 and found[0].line >= last else None


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
        plain = not any(isinstance(one, ast.BinOp | ast.Call | ast.UnaryOp) for one in ast.walk(node))
        yield _Statement(
            node.lineno,
            node.end_lineno or node.lineno,
            frozenset(reads),
            frozenset(stores),
            loop,
            unpacks,
            isinstance(node, ast.Return),
            any(isinstance(one, ast.Attribute) and one.attr == "random" for one in ast.walk(node)),
            plain,
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


def _fits(value: Any, right: Any) -> bool:
    whole = np.asarray(value).dtype.kind in "biu"
    return whole == (np.asarray(right).dtype.kind in "biu") and _outline(value) == _outline(right)


@functools.cache
def _right(layer: str, side: str) -> tuple[dict[str, Any], ...]:
    """Return what right code holds in each of the calls; a backward pass knows what the forward pass knows."""
    dictionary = DICTIONARIES[layer]
    functions = dictionary.functions()
    held: list[dict[str, Any]] = []
    with guarded(Seen()):
        _gather(held, _run(dictionary, "forward", *functions))
        if side == "backward":
            stored = _run(dictionary, "backward", *functions)
            del held[1 + max(one.call for one in stored) :]
            _gather(held, stored)
        for names in held:
            for words, expression in dictionary.quantities.items():
                try:
                    names[words] = eval(expression, {"np": np, **names})
                except NameError:  # a branch that this call does not take
                    continue
    return tuple({name: value for name, value in names.items() if _numeric(value)} for names in held)


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


def _gather(held: list[dict[str, Any]], stored: Sequence[Assignment]) -> None:
    for one in stored:
        while len(held) <= one.call:
            held.append({})
        names = held[one.call]
        if one.name in names and not _alike(names[one.name], one.value):
            names[f"{one.name} at first ({len(names)})"] = names[one.name]
        names[one.name] = one.value


def _meaning(layer: str, side: str, name: str) -> str | None:
    """Return what stands for a quantity in the right code, or the quantity itself."""
    dictionary = DICTIONARIES[layer]
    if name in dictionary.quantities:
        return dictionary.quantities[name]
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
    rights = _right(layer, side)[0].values()
    if name is None and any(_alike(value, right) for right in rights):
        return None
    messages = {m for known, wrong, m in _wrong_forms(layer, side) if name in (None, known) and _alike(value, wrong)}
    return messages.pop() if len(messages) == 1 else None


@functools.cache
def _wrong_forms(layer: str, side: str) -> tuple[tuple[str, Any, str], ...]:
    """Return what each mistake changes first: the variable, what it then holds, and the mistake's message."""
    dictionary = DICTIONARIES[layer]
    forms: list[tuple[str, Any, str]] = []
    with guarded(Seen()):
        rights = {(one.call, one.line, one.name): one.value for one in _run(dictionary, side, *dictionary.functions())}
    for fault in dictionary.faults:
        if fault.side != side and dictionary.backward:
            continue
        stored: list[Assignment] = []
        with guarded(Seen()):
            stored = _run(dictionary, side, *dictionary.functions((fault,)))
        for one in stored:
            right = rights.get((one.call, one.line, one.name))
            if _numeric(one.value) and _numeric(right) and not _equal(one.value, right):
                forms.append((one.name, one.value, fault.message))
                break  # what follows is wrong because of it
    return tuple(forms)
