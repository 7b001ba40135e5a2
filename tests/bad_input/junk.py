"""Junk: what people pass by mistake, by kind, and what each means where it means anything.

A probe is a value with the plain value it stands for. `NOTHING` says that it stands for none and must be refused.
"""

import array
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from tests.contract import contract


class _Nothing:
    def __repr__(self):
        return "nothing"


NOTHING = _Nothing()


class Probe(NamedTuple):
    """A value to pass, the plain one that it stands for, and whether it has to be taken."""

    name: str
    value: Any
    stands_for: Any = NOTHING
    taken: bool = False


class Made(NamedTuple):
    """A value that is made from the other arguments: an overlap needs something to overlap."""

    make: Callable[[dict[str, Any]], Any]


class Subclass(np.ndarray):
    """An array that calls itself something else."""


class Duck:
    """An array only on request, as those of other libraries are."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)

    def __repr__(self):
        return f"Duck({self.values.shape})"


class Sparse:
    """A matrix that is no array, as scipy's sparse ones are."""

    shape = (2, 2)
    dtype = np.dtype(np.float64)

    def toarray(self):
        return np.eye(2)

    def __repr__(self):
        return "Sparse()"


STRANGERS = {
    "None": None,
    "str": "x",
    "str of a number": "1",
    "bytes": b"1",
    "dict": {"x": 1.0},
    "set": {1.0},
    "object": object(),
    "type": float,
    "function": len,
    "ellipsis": ...,
    "sparse": Sparse(),
    "unequal rows": [[1.0], [2.0, 3.0]],
    "unequal depth": [1.0, [2.0]],
    "list of strings": ["a", "b"],
    "list of None": [None],
    "complex": 3j,
}
"""What is neither an array nor a number."""

FOREIGN_TYPES = {
    "complex64": "c8",
    "complex128": "c16",
    "object": "O",
    "str array": "U3",
    "bytes array": "S3",
    "datetime": "M8[s]",
    "timedelta": "m8[s]",
    "record": [("a", "f4")],
    "float8": ml_dtypes.float8_e4m3fn,
}
"""Types of array that are never numbers to compute with here."""

NARROW_TYPES = {
    "bool": "?",
    "int8": "i1",
    "uint8": "u1",
    "int32": "i4",
    "int64": "i8",
    "uint64": "u8",
    "long double": "g",
}
"""Types of array that hold numbers, but have to be converted where digits count."""


def strangers() -> Iterator[Probe]:
    """Yield what stands for nothing, whatever is asked for."""
    for name, value in STRANGERS.items():
        yield Probe(name, value)


def types(good: np.ndarray) -> Iterator[Probe]:
    """Yield arrays of the right shape and of a type that is not computed with."""
    for name, dtype in FOREIGN_TYPES.items():
        yield Probe(name, np.zeros(good.shape, dtype))
    yield Probe("masked", np.ma.masked_array(good, np.zeros(good.shape, bool)))
    yield Probe("masked, nothing hidden", np.ma.masked_array(good))
    yield Probe("numbers as objects", good.astype(object))


def narrow_types(good: np.ndarray) -> Iterator[Probe]:
    """Yield arrays of the right shape whose numbers have another type: right as that type, or refused."""
    for name, dtype in NARROW_TYPES.items():
        values = np.zeros(good.shape, dtype)
        values[...] = np.arange(values.size).reshape(values.shape) % 2
        if good.dtype.kind == "f":
            yield Probe(name, values, values.astype(np.float64))
        else:
            same = values.dtype == good.dtype or (good.dtype.kind == "i" and values.dtype.kind in "iu")
            yield Probe(name, values, values.astype(good.dtype) if same else NOTHING)


def layouts(good: np.ndarray) -> Iterator[Probe]:
    """Yield the same numbers lying differently in memory, or handed over differently."""
    for name, values in contract.layouts(good):
        yield Probe(name, values, good, taken=True)
    yield Probe("subclass", good.view(Subclass), good, taken=True)
    if good.dtype.kind == "f":
        yield Probe("on request", Duck(good), good, taken=True)
    if good.size:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "values"
            path.write_bytes(good.tobytes())
            yield Probe("memory map", np.memmap(path, good.dtype, "r", shape=good.shape), good, taken=True)
    if good.ndim == 1 and good.dtype.char in "fd":
        yield Probe("array.array", array.array(good.dtype.char, good.tolist()), good, taken=True)
    if good.ndim and good.size and good.dtype == np.float64:
        yield Probe("list", good.tolist(), good, taken=True)


def values(good: np.ndarray) -> Iterator[Probe]:
    """Yield the right shape and type with numbers that are none, or as large and as small as the type holds."""
    info = ml_dtypes.finfo(good.dtype)
    # beyond these the squares leave float64, as the docs say
    largest, smallest = min(float(info.max), 1e150), max(float(info.smallest_subnormal), 1e-150)
    for name, number in {
        "one NaN": np.nan,
        "one Inf": np.inf,
        "one -Inf": -np.inf,
        "one largest": largest,
        "one smallest": smallest,
    }.items():
        changed = good.copy()
        changed.reshape(-1)[:1] = number
        yield Probe(name, changed, changed)
    for name, number in {"all NaN": np.nan, "all zero": 0.0, "all -0": -0.0, "all equal": 3.0}.items():
        changed = np.full_like(good, number)
        yield Probe(name, changed, changed)


def shapes(good: np.ndarray, *, free: bool) -> Iterator[Probe]:
    """Yield the right type in other shapes; `free` where another shape may be meant."""
    others = {
        "an axis in front": good[None],
        "an axis at the end": good[..., None],
        "twice": np.concatenate([good, good]) if good.ndim else good[None],
        "one short": good[:-1] if good.ndim else good[None],
        "one short at the end": good[..., :-1] if good.ndim else good[None],
        "one only": good[:1] if good.ndim else good[None],
        "none": good[:0] if good.ndim else good[None],
        "none at the end": good[..., :0] if good.ndim else good[None],
        "flat": good.reshape(-1),
        "turned": good.T,
        "single number": good.reshape(-1)[0] if good.size else good.dtype.type(0),
        "no axes": np.array(good.reshape(-1)[0] if good.size else 0, good.dtype),
        "64 axes": np.ones((1,) * 64, good.dtype),
        "huge": np.broadcast_to(good.dtype.type(1), (2**59,)),
    }
    for name, value in others.items():
        if np.shape(value) != good.shape:
            yield Probe(name, value, value if free else NOTHING)


def numbers() -> Iterator[Probe]:
    """Yield single numbers, most of them out of any range."""
    for value in (-2, -1, 0, 1, 2, 3, 7):
        yield Probe(f"{value}", value, value)
    for value in (2**50, 2**63, -(2**63) - 1, 2**64):  # no memory holds as many numbers
        yield Probe(f"huge, {value}", value, value)
    for value in (10**400, -(10**400)):
        yield Probe(f"huge, of {len(str(value))} digits", value, value)
    for value in (-0.5, -0.0, 1e-300, 0.3, 1.0, 1.5, 1e308):
        yield Probe(f"{value}", value, value)
    for value in (np.nan, np.inf, -np.inf, np.float32(np.nan)):
        yield Probe(f"{type(value).__name__} {value}", value)
    for kind in (np.int8, np.uint64, np.float16, np.float32, np.float64, np.longdouble):
        yield Probe(kind.__name__, kind(1), 1)
    for value in (True, np.True_):
        yield Probe(f"{type(value).__name__} True", value, 1)
    yield Probe("0-d array", np.array(1), 1)
    yield Probe("0-d float array", np.array(0.5), 0.5)
    yield Probe("Fraction", Fraction(1, 2), 0.5)
    yield Probe("Generator", np.random.default_rng(0), np.random.default_rng(0))
    yield Probe("list of numbers", [1, 1], (1, 1))
    yield Probe("generator", (i for i in (1, 2)), (1, 2))
    yield Probe("Decimal", Decimal("0.5"), 0.5)
    for name, value in {
        "array": np.array([1, 2]),
        "float array": np.array([0.5]),
        "empty array": np.array([]),
        "numpy datetime": np.datetime64(1, "s"),
        "numpy complex": np.complex64(1),
        "tuple": (1, 1),
        "empty tuple": (),
        "tuple out of range": (0, 99),
        "tuple of floats": (0, 1.0),
        "tuple of tuples": ((0,),),
        "range": range(2),
        "RandomState": np.random.RandomState(0),
    }.items():
        yield Probe(name, value, value)


def dtypes() -> Iterator[Probe]:
    """Yield what is no floating type. (numpy takes anything that has a `dtype` for one, and so do we.)"""
    for name, value in STRANGERS.items():
        if not hasattr(value, "dtype") and value is not float:
            yield Probe(name, value)
    for value in (
        int,
        bool,
        complex,
        object,
        str,
        "i4",
        "f4, f4",
        "float33",
        np.longdouble,
        np.dtype("M8[s]"),
        4,
        np.nan,
    ):
        yield Probe(f"type {value}", value)
    for value in ("float32", "<f8", ">f4", np.float16, np.dtype(ml_dtypes.bfloat16)):
        yield Probe(f"type {value}", value, value)


def outputs(like: np.ndarray, source: Callable[[dict[str, Any]], np.ndarray]) -> Iterator[Probe]:
    """Yield what to write to: `like` is an array that would do, `source(arguments)` an input, which would not."""
    locked = np.empty_like(like)
    locked.flags.writeable = False
    for name, value in {
        "the input itself": Made(source),
        "a view of the input": Made(lambda arguments: source(arguments)[...]),
        "read-only": locked,
        "unaligned": np.zeros(like.nbytes + 1, np.uint8)[1:].view(like.dtype).reshape(like.shape),
        "big-endian": np.empty(like.shape, like.dtype.newbyteorder(">")),
        "long double": np.empty(like.shape, np.longdouble),
        "whole numbers": np.empty(like.shape, int),
        "masked": np.ma.empty(like.shape, like.dtype),
        "an axis more": np.empty_like(like[None]),
        "every other entry": np.empty((*like.shape, 2), like.dtype)[..., 0],
        "a list": like.tolist(),
    }.items():
        yield Probe(name, value)
    yield Probe("a good one", np.empty_like(like), None, taken=True)
