"""Pickles read as text: what a file says is written down, nothing it says is done.

A pickle is a program for a small stack machine, and Python's own reader runs it, imports and calls included.
Here plain data (whole numbers, text, bytes, lists, tuples, dicts) is built, and a call is kept as a `Call`: a
note of its name and arguments, never made. Only the few names by which NumPy writes an array are known; any
other name, and any instruction not listed here, ends the reading.
"""

from __future__ import annotations

import codecs
import io
import pickletools
import warnings
from dataclasses import dataclass
from typing import Any, cast

# A batch of CIFAR-10 takes about 60 000 instructions in any protocol. Each makes one small object besides the
# bytes that stand in the file, so this number and the size of the file bound the memory.
MOST_INSTRUCTIONS = 250_000

_LONGEST_KEY = 64

_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}

_NAMES = frozenset(
    (
        "_codecs encode",
        "numpy dtype",
        "numpy ndarray",
        "numpy._core.multiarray _reconstruct",
        "numpy._core.numeric _frombuffer",
    )
)

_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)


@dataclass(frozen=True, eq=False)
class Name:
    """A function or class that the file mentions, as "module name"."""

    name: str


@dataclass(eq=False)
class Call:
    """A call that the file asks for, and the state it would set afterwards."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


def read(data: bytes) -> Any:
    """Return what a pickle of any protocol, written by Python 2 or 3, describes.

    Text of Python 2, and bytes in protocols 0 to 2, are spelled as latin-1 text and come out as str.

    Raises
    ------
    ValueError
        If this is not one whole pickle, or has anything but plain data and NumPy arrays in it. The message is
        the reason alone ("a pickle that …"), for the caller's sentence.
    """
    machine = _Machine(data)
    # pickletools decodes escapes in a way that warns about unusual ones.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(MOST_INSTRUCTIONS):
            instruction, argument = machine.fetch()
            if instruction == "STOP":
                return machine.result()
            machine.step(instruction, argument)
    raise ValueError(f"a pickle that has more than {MOST_INSTRUCTIONS} instructions")


class _Machine:
    """The stack machine, but for every instruction that could do more than note something down."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # for each open mark, the stack under it
        self.memo: dict[int, Any] = {}

    def fetch(self) -> tuple[str, Any]:
        """Read one instruction: its name and its argument."""
        opcode = _OPCODES.get(self.file.read(1).decode("latin-1"))
        if opcode is None:
            raise ValueError("a pickle that is cut short or garbled")
        try:
            if opcode.name == "STRING":
                return opcode.name, self._python2_string()
            return opcode.name, None if opcode.arg is None else opcode.arg.reader(self.file)
        except ValueError:
            raise ValueError("a pickle that is cut short or garbled") from None

    def _python2_string(self) -> str:
        # pickletools reads this one as ASCII, but Python 2 also wrote pixels in this way.
        line = self.file.readline()
        if len(line) < 3 or line[:1] not in (b"'", b'"') or line[-2:] != line[:1] + b"\n":
            raise ValueError("no quotes")
        return codecs.escape_decode(line[1:-2])[0].decode("latin-1")

    def step(self, instruction: str, argument: Any) -> None:
        """Carry out one instruction."""
        match instruction:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self.stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction])
            case _ if instruction in _LITERALS:
                self.stack.append(argument)
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_DICT":
                self.stack.append({"EMPTY_LIST": [], "EMPTY_TUPLE": (), "EMPTY_DICT": {}}[instruction])
            case "LIST" | "TUPLE":
                items = self._since_mark()
                self.stack.append(items if instruction == "LIST" else tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.stack.append(tuple(self._take(int(instruction[-1]))))
            case "APPEND" | "APPENDS":
                items = self._take(1) if instruction == "APPEND" else self._since_mark()
                self._top(list).extend(items)
            case "DICT":
                items = self._since_mark()
                self.stack.append({})
                self._set(items)
            case "SETITEM" | "SETITEMS":
                self._set(self._take(2) if instruction == "SETITEM" else self._since_mark())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self._top(object)
            case "MEMOIZE":
                self.memo[len(self.memo)] = self._top(object)
            case "GET" | "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    raise ValueError("a pickle that refers to something it has not said")
                self.stack.append(self.memo[argument])
            case "GLOBAL":
                self._name(*str(argument).split(" ", 1))
            case "STACK_GLOBAL":
                self._name(*self._take(2))
            case "REDUCE":
                self._call(*self._take(2))
            case "BUILD":
                (state,) = self._take(1)
                call = self._top(Call)
                if call.state is not None:
                    raise ValueError("a pickle that fills an array twice")
                call.state = state
            case _:
                raise ValueError(f"a pickle that has the instruction {instruction} in it, which no array needs")

    def result(self) -> Any:
        """Return the one object that is left at the end."""
        if self.below or len(self.stack) != 1 or self.file.read(1):
            raise ValueError("a pickle that has more in it than one object")
        return self.stack[0]

    def _take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("a pickle that takes more from its stack than it has put there")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _since_mark(self) -> list[Any]:
        if not self.below:
            raise ValueError("a pickle that goes back to a mark it has not set")
        items, self.stack = self.stack, self.below.pop()
        return items

    def _top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise ValueError(f"a pickle that takes something else for its {kind.__name__.lower()}")
        return self.stack[-1]

    def _set(self, items: list[Any]) -> None:
        entries = self._top(dict)
        if len(items) % 2:
            raise ValueError("a pickle that has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Text only, and short: hashing a deep tuple overflows the stack, a long key copied often is slow.
            if not isinstance(key, str | bytes) or len(key) > _LONGEST_KEY:
                raise ValueError("a pickle that has a key other than a short text")
            entries[key if isinstance(key, str) else key.decode("latin-1")] = value

    def _name(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a pickle that has something else than text for a name")
        full = f"{module[:80]} {name[:80]}".replace("numpy.core.", "numpy._core.")  # its name before NumPy 2
        if full not in _NAMES:
            raise ValueError(f"a pickle that calls for {full.replace(' ', '.')!r}, which no array needs")
        self.stack.append(Name(full))

    def _call(self, function: Any, arguments: Any) -> None:
        match function, arguments:
            case Name("_codecs encode"), (str() as text, "latin1"):
                self.stack.append(text)
            case Name(name), tuple():
                self.stack.append(Call(name, cast(tuple[Any, ...], arguments)))
            case _:
                raise ValueError("a pickle that calls something else than a known function")
