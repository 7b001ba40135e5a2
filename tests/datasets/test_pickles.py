"""The pickle reader: reads plain data and arrays of every protocol, and does nothing that a file says."""

import collections
import os
import pickle
import struct
import time
import tracemalloc
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xhat.datasets import pickles
from xhat.datasets.pickles import Call, Name

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(min_size=1),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        | st.tuples(inner)
        | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=12,
)


def as_read(value):
    """Protocols 0 to 2 spell bytes as text, so that is what both sides are compared as."""
    match value:
        case bytes():
            return value.decode("latin-1")
        case list() | tuple():
            return type(value)(map(as_read, value))
        case dict():
            return {key: as_read(item) for key, item in value.items()}
    return value


@given(value=plain, protocol=st.sampled_from(PROTOCOLS))
def test_plain_data(value, protocol):
    assert as_read(pickles.read(pickle.dumps(value, protocol))) == as_read(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_stay_a_note(protocol):
    note = pickles.read(pickle.dumps(np.arange(6, dtype=np.uint8), protocol))
    assert isinstance(note, Call)
    if protocol < 5:
        assert note.name == "numpy._core.multiarray _reconstruct"
        assert (note.arguments[0].name, note.state[1]) == ("numpy ndarray", (6,))
    else:
        assert note.name == "numpy._core.numeric _frombuffer"
        assert note.arguments[2] == (6,)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"S'a\\x00\\'\\\\\\n\\xff'\n.", "a\x00'\\\n\xff"),
        (b'S"it\'s"\n.', "it's"),
        (b"S''\n.", ""),
        (b"U\x02\x00\xff.", "\x00\xff"),
        (b"T\x02\x00\x00\x00\x00\xff.", "\x00\xff"),
        (b"(dp0\nS'a'\np1\nI1\ns.", {"a": 1}),
        (b"\x80\x02}q\x00(U\x01aK\x01U\x01bK\x02u.", {"a": 1, "b": 2}),
        (b"(lp0\nI00\naI01\naL12L\na.", [False, True, 12]),
    ],
)
def test_python_2(data, value):
    assert pickles.read(data) == value


class Marked:
    """Leaves a trace wherever a reader calls or fills it."""

    trace: ClassVar = collections.Counter()

    def __init__(self, *arguments):
        self.trace["init"] += 1

    def __setstate__(self, state):
        self.trace["setstate"] += 1

    def __reduce__(self):
        return (Marked, (1, 2), {"a": 1})


class Shell:
    def __reduce__(self):
        return os.system, ("echo hostile > hostile.txt",)


class Evaluate:
    def __reduce__(self):
        return eval, ("__import__('os').system('echo hostile > hostile.txt')",)


HOSTILE_OBJECTS = {
    "shell": Shell(),
    "eval": Evaluate(),
    "init": Marked(),
    "function": os.system,
    "class": collections.OrderedDict,
    "set": {1, 2},
    "float": 1.5,
    "complex": 1j,
    "object array": np.array([Shell(), None], object),
    "scalar": np.float64(3),
    "date": np.datetime64("2020-01-01"),
    "deep": {"data": [({"labels": Shell()},)]},
    "key": {(1, 2): 3},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", HOSTILE_OBJECTS)
def test_hostile_objects(folder, name, protocol):
    data = pickle.dumps(HOSTILE_OBJECTS[name], protocol)
    Marked.trace.clear()
    with pytest.raises(ValueError, match=r"^a pickle that ") as caught:
        pickles.read(data)
    assert type(caught.value) is ValueError
    assert not Marked.trace
    assert not list(folder.iterdir())


SHELL = b"cposix\nsystem\n"
COMMAND = b"S'echo hostile > hostile.txt'\n"
ENCODE = b"c_codecs\nencode\n"
DTYPE = b"cnumpy\ndtype\n"
RECONSTRUCT = b"cnumpy._core.multiarray\n_reconstruct\n"
GARBLED = "a pickle that is cut short or garbled"
MACHINE_CODE = {
    "global": (
        SHELL + b"(" + COMMAND + b"tR.",
        "a pickle that calls for 'posix.system', which no array needs",
    ),
    "stack global": (
        b"\x8c\x05posix\x8c\x06system\x93" + COMMAND + b"\x85R.",
        "a pickle that calls for 'posix.system', which no array needs",
    ),
    "stack global of numbers": (b"K\x01K\x02\x93.", "a pickle that has something else than text for a name"),
    "dotted global": (
        b"\x8c\x05numpy\x8c\x10ndarray.tofile.x\x93.",
        "a pickle that calls for 'numpy.ndarray.tofile.x', which no array needs",
    ),
    "inst": (
        b"(" + COMMAND + b"iposix\nsystem\n.",
        "a pickle that has the instruction INST in it, which no array needs",
    ),
    "obj": (
        b"(" + ENCODE + COMMAND + b"o.",
        "a pickle that has the instruction OBJ in it, which no array needs",
    ),
    "newobj": (DTYPE + b")\x81.", "a pickle that has the instruction NEWOBJ in it, which no array needs"),
    "newobj_ex": (
        DTYPE + b")}\x92.",
        "a pickle that has the instruction NEWOBJ_EX in it, which no array needs",
    ),
    "extension 1": (b"\x82\x01.", "a pickle that has the instruction EXT1 in it, which no array needs"),
    "extension 2": (b"\x83\x01\x01.", "a pickle that has the instruction EXT2 in it, which no array needs"),
    "extension 4": (b"\x84\x01\0\0\0.", "a pickle that has the instruction EXT4 in it, which no array needs"),
    "persistent id": (b"Phostile\n.", "a pickle that has the instruction PERSID in it, which no array needs"),
    "binary persistent id": (
        b"K\x01Q.",
        "a pickle that has the instruction BINPERSID in it, which no array needs",
    ),
    "next buffer": (b"\x97.", "a pickle that has the instruction NEXT_BUFFER in it, which no array needs"),
    "duplicate": (b"K\x012\x86.", "a pickle that has the instruction DUP in it, which no array needs"),
    "call of text": (COMMAND + b")R.", "a pickle that calls something else than a known function"),
    "call of a call": (DTYPE + b")R)R.", "a pickle that calls something else than a known function"),
    "arguments that are no tuple": (
        DTYPE + b"]R.",
        "a pickle that calls something else than a known function",
    ),
    "state of a name": (DTYPE + b"}b.", "a pickle that takes something else for its call"),
    "state of a list": (b"]}b.", "a pickle that takes something else for its call"),
    "state twice": (DTYPE + b")R}b}b.", "a pickle that fills an array twice"),
    "append to a call": (DTYPE + b")RK\x01a.", "a pickle that takes something else for its list"),
    "set in a call": (DTYPE + b")RU\x01aK\x01s.", "a pickle that takes something else for its dict"),
    "get before put": (b"h\x07.", "a pickle that refers to something it has not said"),
    "put of nothing": (b"q\x07.", "a pickle that takes something else for its object"),
    "key of a list": (b"}]K\x01s.", "a pickle that has a key other than a short text"),
    "long key": (b"}U\x41" + b"a" * 65 + b"K\x01s.", "a pickle that has a key other than a short text"),
    "key alone": (b"(U\x01ad.", "a pickle that has a key without a value"),
    "empty stack": (b"R.", "a pickle that takes more from its stack than it has put there"),
    "below the mark": (b"K\x01(\x86.", "a pickle that takes more from its stack than it has put there"),
    "no mark": (b"t.", "a pickle that goes back to a mark it has not set"),
    "open mark": (b"(K\x01.", "a pickle that has more in it than one object"),
    "two objects": (b"K\x01K\x02.", "a pickle that has more in it than one object"),
    "nothing": (b".", "a pickle that has more in it than one object"),
    "more after the end": (b"K\x01.K\x01.", "a pickle that has more in it than one object"),
    "no end": (b"K\x01", GARBLED),
    "empty": (b"", GARBLED),
    "unknown instruction": (b"\xff.", GARBLED),
    "half a string": (b"T\xff\xff\xff\x7fa.", GARBLED),
    "negative length": (b"T\xff\xff\xff\xffa.", GARBLED),
    "8 exabytes": (b"\x8e" + struct.pack("<Q", 2**63 - 1) + b"a.", GARBLED),
    "18 exabytes": (b"\x96" + struct.pack("<Q", 2**64 - 1) + b"a.", GARBLED),
    "open quote": (b"S'a\n.", GARBLED),
    "one quote": (b"S'\n.", GARBLED),
    "bad escape": (b"S'\\xz'\n.", GARBLED),
    "number of 10 000 digits": (b"I" + b"9" * 10_000 + b"\n.", GARBLED),
    "no utf-8": (b"\x8c\x01\xff.", GARBLED),
}


@pytest.mark.parametrize("name", MACHINE_CODE)
def test_hostile_machine_code(folder, raises, name):
    data, reason = MACHINE_CODE[name]
    for prefix in (b"", b"\x80\x02", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff"):
        with raises(ValueError, reason):
            pickles.read(prefix + data)
    assert not list(folder.iterdir())


def test_unusual_escapes_do_not_warn():
    assert pickles.read(b"S'\\d'\n.") == "\\d"


def test_every_single_call_stays_a_note():
    note = pickles.read(RECONSTRUCT + b"(" + DTYPE + b"K\x01tR}b.")
    assert (type(note), type(note.arguments[0]), note.state) == (Call, Name, {})


BOMBS = {
    "memo index": b"K\x01r\xff\xff\xff\xff.",
    "memo": b"]" + b"".join(b"r" + struct.pack("<I", i << 8) for i in range(100_000)) + b".",
    "nested tuples": b")" + b"\x85" * 200_000 + b".",
    "nested lists": b"]" + b"(" * 200_000 + b"l" * 200_000 + b".",
    "doubling": b"]q\x00" + b"(h\x00h\x00lq\x00" * 30_000 + b".",
    "text again and again": ENCODE
    + b"q\x00"
    + b"X\x00\x00\x10\x00"
    + b"a" * (1 << 20)
    + b"q\x01U\x06latin1\x86q\x02"
    + b"h\x00h\x02R" * 50_000
    + b".",
    "instructions": b"]0" * 10 + b"N" * 2_000_000 + b".",
    "marks": b"(" * 2_000_000 + b".",
    "keys": b"}" + b"(dC\x01ah\x00s" * 10 + b".",
    "list in itself": b"]q\x00h\x00a.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_stay_small(attempt, name):
    data = BOMBS[name]
    tracemalloc.start()
    begin = time.process_time()
    attempt(pickles.read, data, begins="a pickle that ")
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 4 * len(data) + 300 * pickles.MOST_INSTRUCTIONS
    assert time.process_time() - begin < 10


def test_too_many_instructions(raises):
    with raises(ValueError, "a pickle that has more than 250000 instructions"):
        pickles.read(b"(" + b"N" * 250_000 + b"t.")


@given(st.binary(max_size=80))
def test_any_bytes(attempt, data):
    attempt(pickles.read, data, begins="a pickle that ")


GOOD = [pickle.dumps({"data": np.arange(9, dtype=np.uint8), "labels": [1, 2, "x", None]}, p) for p in PROTOCOLS]


@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_mutated_pickles(attempt, data, changes):
    bad = bytearray(data)
    for place, value in changes:
        bad[place % len(bad)] = value
    attempt(pickles.read, bytes(bad), begins="a pickle that ")
