"""Whatever is passed: the right result, or an error that says what is wrong. Never a crash."""

import re
import sys

import ml_dtypes
import numpy as np
import pytest
from tests.kernels import oracle

from xhat import kernels

pytestmark = oracle.needs_native

native = kernels.native
OPTIONAL = {"gamma", "beta", "weights"}
WRITTEN = {
    "forward": {"out", "mean", "mean_low", "var", "rstd"},
    "backward": {"out", "dgamma", "dbeta"},
    "apply": {"out"},
    "statistics": {"mean", "mean_low", "var", "rstd"},
    "sums": {"dgamma", "dbeta"},
    "gradient": {"out"},
}
NAMES = {
    "rows_forward": "x gamma beta eps centred out mean mean_low var rstd",
    "rows_backward": "dy x gamma mean mean_low rstd centred out dgamma dbeta",
    "channels_statistics": "x weights total eps mean mean_low var rstd",
    "channels_forward": "x weights total gamma beta eps out mean mean_low var rstd",
    "channels_apply": "x weights gamma beta mean mean_low rstd out",
    "channels_sums": "dy x weights mean mean_low rstd dgamma dbeta",
    "channels_gradient": "dy x weights total gamma mean mean_low rstd dgamma dbeta out",
    "channels_backward": "dy x weights total gamma mean mean_low rstd out dgamma dbeta",
    "channels_apply_backward": "dy x weights gamma mean mean_low rstd out dgamma dbeta",
}


TYPES = "float16, bfloat16, float32 or float64"
SETTINGS = {"eps": 1e-5, "centred": True, "total": 6.0}


def written(function):
    return WRITTEN[function.rpartition("_")[2]]


def optional(function, name):
    return name in OPTIONAL or (
        name == "mean_low" and function.startswith("channels") and name not in written(function)
    )


def shape_of(function, name):
    if name in ("x", "dy", "out"):
        return (6, 4) if function.startswith("rows") else (3, 4, 2)
    if name == "weights" or is_line(function, name):
        return (3, 2)
    return (4,) if function.startswith("channels") else (6,)


def is_line(function, name):
    """Whether the shape is the caller's choice, as long as it divides x and is that of the others."""
    return function.startswith("rows") and name in ("gamma", "beta", "dgamma", "dbeta")


def good(function):
    rng = np.random.default_rng(24)
    return {
        name: SETTINGS[name] if name in SETTINGS else rng.standard_normal(shape_of(function, name))
        for name in NAMES[function].split()
    }


ARRAYS = [(f, name) for f, names in NAMES.items() for name in names.split() if name not in SETTINGS]
PARAMETERS = [(f, name) for f, name in ARRAYS if name not in ("x", "dy", "out")]
LINES = [(f, name) for f, name in PARAMETERS if is_line(f, name)]
LIKE_X = [(f, name) for f, name in ARRAYS if name in ("dy", "out")]


def refuse(function, error, message, **changes):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        getattr(native, function)(**{**good(function), **changes})


@pytest.mark.parametrize("function", NAMES)
def test_good_arguments_are_taken(function):
    assert getattr(native, function)(**good(function)) is None


@pytest.mark.parametrize(("function", "name"), ARRAYS)
def test_none_and_strangers(function, name):
    for stranger, kind in ((None, "NoneType"), (3.0, "float"), ([1.0, 2.0], "list"), ("x", "str")):
        if stranger is None and optional(function, name):
            continue
        refuse(
            function,
            TypeError,
            f"{function}: expected {name} as an array of {TYPES}, got {kind}. Convert it with np.asarray.",
            **{name: stranger},
        )


@pytest.mark.parametrize(("function", "name"), ARRAYS)
@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        ("i2", "int16"),
        ("u2", "uint16"),
        ("u1", "uint8"),
        ("i4", "int32"),
        (">f8", ">f8"),
        ("?", "bool"),
        ("c8", "complex64"),
        ("O", "object"),
        ("f8,f4", "[('f0', '<f8'), ('f1', '<f4')]"),
    ],
)
def test_other_types(function, name, dtype, text):
    refuse(
        function,
        TypeError,
        f"{function}: expected {name} of native {TYPES}, got {text}. Convert it with astype.",
        **{name: np.zeros(shape_of(function, name), dtype)},
    )


@pytest.mark.parametrize(("function", "name"), [(f, name) for f, name in PARAMETERS if name not in ("gamma", "beta")])
def test_statistics_and_sums_are_float64(function, name):
    refuse(
        function,
        TypeError,
        f"{function}: expected {name} of float64, got float32. Convert it with astype.",
        **{name: np.zeros(shape_of(function, name), np.float32)},
    )


@pytest.mark.parametrize("function", [f for f, name in PARAMETERS if name == "gamma"])
@pytest.mark.parametrize("kind", ["f2", ml_dtypes.bfloat16, "f4", "f8"])
def test_parameters_are_widened(function, kind):
    arrays, wide = good(function), good(function)
    for name in {"gamma", "beta"} & arrays.keys():
        arrays[name] = arrays[name].astype(kind)
        wide[name] = arrays[name].astype(np.float64)
    getattr(native, function)(**arrays)
    getattr(native, function)(**wide)
    for name in written(function):
        np.testing.assert_array_equal(arrays[name], wide[name])


@pytest.mark.parametrize(("function", "name"), LIKE_X)
def test_type_of_x(function, name):
    refuse(
        function,
        TypeError,
        f"{function}: expected {name} of float64, got float32. Convert it with astype.",
        **{name: np.zeros(shape_of(function, name), np.float32)},
    )


@pytest.mark.parametrize(("function", "name"), [entry for entry in PARAMETERS if entry not in LINES])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (5,), (7,), (4, 1), (6, 1)])
def test_sizes(function, name, shape):
    right = shape_of(function, name)
    refuse(
        function,
        ValueError,
        f"{function}: expected {name} of shape {right}, got {shape}. Make it fit x.",
        **{name: np.zeros(shape)},
    )


@pytest.mark.parametrize(("function", "name"), LINES)
@pytest.mark.parametrize("shape", [(), (6,), (4, 2), (3, 3), (0, 2), (3, 0), (6, 8), (12, 4), (3, 2, 1)])
def test_lines_divide_x(function, name, shape):
    alone = {other: None for other in ("gamma", "beta") if other in NAMES[function].split() and other != name}
    if name == "dbeta":
        alone["dgamma"] = np.zeros((1, 2))  # the first one decides
        message = f"of shape (1, 2), got {shape}. Make it fit dgamma."
    else:
        message = f"of two sizes that divide those of x, (6, 4), got {shape}. Reshape it to (groups, entries)."
    refuse(function, ValueError, f"{function}: expected {name} {message}", **{**alone, name: np.zeros(shape)})


@pytest.mark.parametrize(("function", "name"), [(f, name) for f, name in LINES if name != "gamma"])
@pytest.mark.parametrize("shape", [(3, 4), (6, 2), (1, 1), (2, 3), (6,)])
def test_lines_have_one_shape(function, name, shape):
    refuse(
        function,
        ValueError,
        f"{function}: expected {name} of shape (3, 2), got {shape}. Make it fit gamma.",
        **{name: np.zeros(shape)},
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 4), (6, 1), (6, 4), (3, 2)])
def test_any_lines_that_divide_x_are_taken(shape):
    native.rows_forward(**{**good("rows_forward"), "gamma": np.ones(shape), "beta": np.ones(shape)})
    totals = {name: np.full(shape, np.nan) for name in ("dgamma", "dbeta")}
    native.rows_backward(**{**good("rows_backward"), "gamma": None, **totals})
    assert np.isfinite(totals["dgamma"]).all()
    assert np.isfinite(totals["dbeta"]).all()


@pytest.mark.parametrize(("function", "name"), LIKE_X)
@pytest.mark.parametrize("shape", [(), (24,), (4, 6), (6, 5), (3, 2, 4), (3, 4, 3), (1, 3, 4, 2)])
def test_shape_of_x(function, name, shape):
    refuse(
        function,
        ValueError,
        f"{function}: expected {name} of shape {shape_of(function, name)}, got {shape}. Make it fit x.",
        **{name: np.zeros(shape)},
    )


@pytest.mark.parametrize("function", NAMES)
@pytest.mark.parametrize("shape", [(), (24,), (1, 3, 4, 2)])
def test_dimensions_of_x(function, shape):
    meaning = "(rows, columns)" if function.startswith("rows") else "(outer, channels, inner)"
    refuse(
        function,
        ValueError,
        f"{function}: expected x of shape {meaning}, got {shape}. Reshape it.",
        x=np.zeros(shape),
    )


@pytest.mark.parametrize(("function", "name"), ARRAYS)
def test_strides(function, name):
    shape = shape_of(function, name)
    for array in (np.zeros((*shape[:-1], 2 * shape[-1]))[..., ::2], np.zeros(shape)[::-1]):
        refuse(
            function,
            ValueError,
            f"{function}: expected {name} to be C-contiguous, got other strides. Convert it with np.ascontiguousarray.",
            **{name: array},
        )


@pytest.mark.parametrize(("function", "name"), ARRAYS)
def test_alignment(function, name):
    shape = shape_of(function, name)
    size = 8 * int(np.prod(shape))
    refuse(
        function,
        ValueError,
        f"{function}: expected {name} to be aligned, got an address between two elements. Copy it.",
        **{name: np.zeros(size + 1, np.uint8)[1:].view(np.float64).reshape(shape)},
    )


@pytest.mark.parametrize(("function", "name"), ARRAYS)
def test_read_only(function, name):
    arguments = good(function)
    arguments[name].flags.writeable = False
    if name in written(function):
        refuse(
            function,
            ValueError,
            f"{function}: expected {name} to be writable, got a read-only array. Pass one that may be written.",
            **{name: arguments[name]},
        )
    else:
        getattr(native, function)(**arguments)


@pytest.mark.parametrize("function", NAMES)
def test_nothing_written_shares_memory(function):
    arrays = [name for name in NAMES[function].split() if name not in SETTINGS]
    memory = np.zeros(100)
    for a in arrays:
        for b in arrays:
            if a == b or not {a, b} & written(function):
                continue
            changes = {}
            for name, start in ((a, 0), (b, 2)):
                shape = shape_of(function, name)
                changes[name] = memory[start : start + int(np.prod(shape))].reshape(shape)
            order = sorted((a, b), key=arrays.index)
            output, other = order if order[0] in written(function) else order[::-1]
            refuse(
                function,
                ValueError,
                f"{function}: expected {output} to share no memory with {other}, got overlapping arrays. "
                "Pass an array of its own.",
                **changes,
            )


@pytest.mark.parametrize("function", ["rows_forward", "channels_forward", "channels_statistics"])
@pytest.mark.parametrize("eps", [-1.0, -1e-300, np.nan, np.inf, -np.inf])
def test_eps(function, eps):
    refuse(
        function,
        ValueError,
        f"{function}: expected eps finite and >= 0, got {eps!r}. It is added to a variance.",
        eps=eps,
    )


def test_refused_arrays_are_let_go():
    arguments = good("rows_forward")
    for x, error in ((np.zeros((6, 8))[:, ::2], ValueError), (np.zeros((6, 4), np.int32), TypeError)):
        before = sys.getrefcount(x)
        for _ in range(100):
            with pytest.raises(error, match=r"^rows_forward: expected x "):
                native.rows_forward(**{**arguments, "x": x})
        assert sys.getrefcount(x) < before + 50


def test_unknown_variant():
    with pytest.raises(ValueError, match=r"^use: expected a name from variants\(\), got 'best'. Choose one of them.$"):
        native.use("best")
