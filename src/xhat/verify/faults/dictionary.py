"""A dictionary of mistakes: the code of a layer as students write it, and edits that make it wrong in a known way.

Every mistake reads as "this piece of text became that one". The wrong functions are compiled from the edited text,
once and only when they are asked for.
"""

from __future__ import annotations

import ast
import itertools
import linecache
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from xhat.checks import Array

Function = Callable[..., Any]
Seen = dict[str, Any]
"""What one run returned or stored, by name: "out", "running_mean", "dx"."""

Rows = Mapping[str, tuple[str, ...]]
"""By key: the message, then what was written and what it became, in turn."""


@dataclass(frozen=True)
class Fault:
    """One mistake that people make.

    Parameters
    ----------
    layer : str
        "batch_norm".
    side : str
        Which function is changed: "forward" or "backward".
    key : str
        A short name, unique on its side of its layer: "variance_over_all".
    message : str
        What is wrong and what to do, in one sentence.
    edits : tuple of pairs of str
        What was written, and what it became. The first of a pair occurs exactly once in the function.
    harmless : bool
        Whether the result stays right: such code is not wrong, though people believe so.
    """

    layer: str
    side: str
    key: str
    message: str
    edits: tuple[tuple[str, str], ...]
    harmless: bool = False


@dataclass(frozen=True)
class Dictionary:
    """The mistakes of one layer.

    Parameters
    ----------
    layer : str
        "batch_norm".
    forward, backward : str
        The right code, each one function; `backward` is empty for a loss, whose one function returns the gradient too.
    after_forward : callable
        `after_forward(forward, seen)` calls the function on fixed inputs, puts what it sees into `seen` as it goes,
        and returns the cache.
    after_backward : callable
        `after_backward(backward, cache, seen)` does the same with the gradients.
    forward_rows, backward_rows : mapping
        The mistakes. Those of a loss are all edits of its one function.
    harmless : set of str
        The keys of those that change nothing.
    before : str
        Functions that both need.
    quantities : mapping of str to str
        What a local variable of right code may hold besides: words, and an expression over the variables of this code.
    """

    layer: str
    forward: str
    backward: str
    after_forward: Callable[[Function, Seen], Any]
    after_backward: Callable[[Function, Any, Seen], None]
    forward_rows: Rows
    backward_rows: Rows
    harmless: frozenset[str] = frozenset()
    before: str = ""
    quantities: Mapping[str, str] = field(default_factory=dict[str, str])

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """The mistakes, those of the forward pass first."""
        return tuple(
            Fault(self.layer, side, key, row[0], tuple(zip(row[1::2], row[2::2], strict=True)), key in self.harmless)
            for side, rows in (("forward", self.forward_rows), ("backward", self.backward_rows))
            for key, row in rows.items()
        )

    def text(self, side: str, faults: Iterable[Fault] = ()) -> str:
        """Return a function's text with those of these mistakes in it that are its own.

        Raises
        ------
        ValueError
            If two mistakes change the same place.
        """
        right = self.forward if side == "forward" or not self.backward else self.backward
        places: list[tuple[int, int, str]] = []
        for fault in faults:
            if self.backward and fault.side != side:
                continue
            for old, new in fault.edits:
                if right.count(old) != 1:
                    raise ValueError(
                        f"{self.layer}, {fault.key}: expected {old!r} once in the {fault.side} pass, "
                        f"got {right.count(old)} times. Write more of the line."
                    )
                start = right.index(old)
                places.append((start, start + len(old), new))
        places.sort()
        if any(first[1] > second[0] for first, second in itertools.pairwise(places)):
            raise ValueError(f"{self.layer}: expected faults in different places, got two in one. Choose others.")
        for start, stop, new in reversed(places):
            right = right[:start] + new + right[stop:]
        return right

    def functions(self, faults: Sequence[Fault] = ()) -> tuple[Function, Function | None]:
        """Return the forward and the backward pass with these mistakes in them; a loss has no backward pass."""
        if not self.backward:
            return self._compiled("forward", tuple(faults)), None
        first, second = (tuple(fault for fault in faults if fault.side == side) for side in ("forward", "backward"))
        return self._compiled("forward", first), self._compiled("backward", second)

    def source(self, faults: Sequence[Fault] = ()) -> str:
        """Return a whole module with these mistakes in it."""
        sides = ("forward", "backward") if self.backward else ("forward",)
        texts = [self.text(side, faults) for side in sides]
        return "import numpy as np\n" + "".join(f"\n\n{text.strip()}\n" for text in (self.before, *texts) if text)

    @cached_property
    def _known(self) -> dict[tuple[str, tuple[Fault, ...]], Function]:
        return {}

    def _compiled(self, side: str, faults: tuple[Fault, ...]) -> Function:
        if (side, faults) in self._known:
            return self._known[side, faults]
        keys = ", ".join(fault.key for fault in faults) or "right"
        text = f"import numpy as np\n{self.before}\n{self.text(side, faults)}"
        function = compiled(text, f"<{self.layer} {side}: {keys}>", readable=len(faults) < 2)
        if len(faults) < 2:  # pairs are thousands: neither kept nor readable
            self._known[side, faults] = function
        return function


def compiled(text: str, file: str, *, readable: bool = True) -> Function:
    """Return the last function of a module's text; a readable one is found by `inspect` under the file's name."""
    if readable:
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    tree = ast.parse(text, file)
    last = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)][-1]
    namespace: dict[str, Any] = {"__name__": file}
    exec(compile(tree, file, "exec"), namespace)
    return namespace[last]


def normal(seed: int, *shape: int) -> Array:
    """Return random numbers of a fixed seed."""
    return np.random.default_rng(seed).standard_normal(shape)


def put_gradients(result: Any, names: Sequence[str], seen: Seen) -> None:
    """Put the gradients that a backward pass returned under their names."""
    found = list(result) if isinstance(result, tuple | list) else [result]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if len(found) != len(names):  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError(f"backward: expected {len(names)} gradients, got {len(found)}. Return one per input.")  # pyright: ignore[reportUnknownArgumentType]
    seen.update(zip(names, found, strict=True))  # pyright: ignore[reportUnknownArgumentType]


def fill(rows: Rows, **words: str) -> dict[str, tuple[str, ...]]:
    """Return rows with placeholders such as AXIS replaced by a layer's own words."""
    return {key: tuple(filled(text, **words) for text in row) for key, row in rows.items()}


def filled(text: str, **words: str) -> str:
    """Return a text with placeholders such as AXIS replaced."""
    for placeholder, word in words.items():
        text = text.replace(placeholder, word)
    return text
