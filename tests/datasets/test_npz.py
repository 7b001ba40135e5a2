"""Arrays in .npz files, and files that are none."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from xhat import datasets

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20) % 2


@pytest.fixture
def npz(folder):
    def write(**arrays) -> str:
        np.savez("t.npz", **arrays)
        return "t.npz"

    return write


@pytest.mark.parametrize(("x", "y"), [("x", "y"), ("X", "labels"), ("data", "target")])
def test_rows_for_the_test_are_drawn(npz, x, y):
    data = datasets.load(npz(**{x: X, y: Y}))
    assert (data.name, data.classes, data.features, data.image_shape) == (
        "t",
        ("0", "1"),
        ("column 0", "column 1"),
        None,
    )
    assert (data.x.shape, data.x_test.shape, data.x.dtype) == ((16, 2), (4, 2), np.float64)
    assert (data.y.dtype, data.y.shape) == (np.int64, (16,))
    np.testing.assert_array_equal(data.x[:, 0] / 2 % 2, data.y)
    np.testing.assert_array_equal(data.x_test[:, 0] / 2 % 2, data.y_test)


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array(["q", "p"] * 10), ("p", "q")),
        (np.array([True, False] * 10), ("False", "True")),
        (np.array([[10], [9]] * 10, np.uint8), ("9", "10")),
        (np.repeat(np.arange(10), 2), tuple("0123456789")),
    ],
)
def test_classes(npz, y, classes):
    assert datasets.load(npz(x=X, y=y)).classes == classes


@pytest.mark.parametrize("y", [X[:, 0], X[:, :1].astype(np.float16)])
def test_regression(npz, y):
    data = datasets.load(npz(x=X, y=y))
    assert (data.classes, data.y.shape, data.y.dtype) == (None, (16, 1), np.float64)
    np.testing.assert_array_equal(data.y, data.x[:, :1])


@pytest.mark.parametrize(
    ("shape", "picture"),
    [
        ((8, 8), True),
        ((1, 8, 8), True),
        ((8, 8, 3), True),
        ((2, 8, 8), False),
        ((4, 4, 4), False),
        ((2, 2, 2, 2), False),
    ],
)
def test_what_is_a_picture(npz, shape, picture):
    data = datasets.load(
        npz(x=np.ones((20, *shape), np.float32) * np.arange(20).reshape(-1, *[1] * len(shape)), y=[0, 1] * 10)
    )
    assert data.image_shape == (shape if picture else None)
    assert data.x.shape[1] == np.prod(shape)


def test_own_split_pictures_and_any_layout(npz):
    pictures = np.asfortranarray(np.arange(96, dtype=">u2").reshape(4, 3, 2, 4))
    data = datasets.load(npz(x=pictures, y=[5, 7, 5, 7], X_test=pictures[:1], y_test=[7]))
    assert (data.image_shape, data.features[-1]) == ((3, 2, 4), "pixel 23")
    np.testing.assert_array_equal(data.x.reshape(4, 3, 2, 4), pictures)
    assert (data.x.flags.c_contiguous, data.y.tolist(), data.y_test.tolist()) == (True, [0, 1, 0, 1], [1])


def test_features(npz):
    x, y = datasets.read_features(npz(x=X, y=["p", "q"] * 10), ["a", "b"], classes=["q", "p"])
    np.testing.assert_array_equal(x, X)
    assert y.tolist() == [1, 0] * 10
    assert datasets.read_features(npz(x=X), ["a", "b"])[1] is None
    x, y = datasets.read_features(npz(x=X, y=Y, x_test=X[:3], y_test=Y[:3]), ["a", "b"])
    assert (x.shape, y.dtype, y.tolist()) == ((3, 2), np.float64, [[0], [1], [0]])


NAN = np.where(np.arange(40).reshape(20, 2) == 7, np.nan, X)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X}, "arrays x and y in t.npz, got neither. Save them with numpy.savez(path, x=..., y=...)."),
        ({"x": X}, "arrays x and y in t.npz, got 'x'. Save them with numpy.savez(path, x=..., y=...)."),
        ({"x": X, "X": X, "y": Y}, "one of the arrays 'x', 'X' in t.npz, got all of them. Save one."),
        (
            {"x": X[:, 0], "y": Y},
            "x in t.npz as numbers of shape (rows, features) or (rows, …) for pictures, "
            "got float64 of shape (20,). Convert or reshape it.",
        ),
        (
            {"x": X[:0], "y": Y[:0]},
            "x in t.npz as numbers of shape (rows, features) or (rows, …) for pictures, "
            "got float64 of shape (0, 2). Convert or reshape it.",
        ),
        (
            {"x": X.astype(str), "y": Y},
            "x in t.npz as numbers of shape (rows, features) or (rows, …) for pictures, "
            "got <U32 of shape (20, 2). Convert or reshape it.",
        ),
        (
            {"x": NAN, "y": Y},
            "finite numbers of size up to 3.4e+38 in x of t.npz, got nan in row 3. "
            "Correct the value, or remove the row.",
        ),
        (
            {"x": X * 1e38, "y": Y},
            "finite numbers of size up to 3.4e+38 in x of t.npz, got 4e+38 in row 2. "
            "Correct the value, or remove the row.",
        ),
        (
            {"x": X, "y": NAN[:, 1]},
            "finite numbers in y of t.npz, got nan in row 3. Correct the value, or remove the row.",
        ),
        ({"x": X, "y": Y[:5]}, "y of shape (20,) in t.npz, got (5,). Save one label per row."),
        (
            {"x": X, "y": np.eye(2)[Y]},
            "y of shape (20,) in t.npz, got (20, 2). Save one-hot labels as y.argmax(axis=1).",
        ),
        (
            {"x": X, "y": Y.astype(complex)},
            "y in t.npz as text, bool, integers or floats, got complex128. Convert it.",
        ),
        (
            {"x": X, "y": Y * 0},
            "two or more classes in t.npz, got only '0'. Add rows of another class, or choose another target.",
        ),
        (
            {"x": X, "y": [7] + [1] * 19},
            "at least 2 rows of every class in t.npz, got 1 of '7'. "
            "Add rows of the class or remove it; for regression, write the target with decimals (3.0).",
        ),
        ({"x": X, "y": Y, "y_test": Y}, "x_test beside y_test in t.npz, got none. Save both, or neither."),
        (
            {"x": X, "y": Y, "x_test": X},
            "x_test and y_test in t.npz of the same kind as x and y, got no y_test. Save arrays that belong together.",
        ),
        (
            {"x": X, "y": Y, "x_test": X[:, :1], "y_test": Y},
            "x_test and y_test in t.npz of the same kind as x and y, got 2 and 1 numbers per row. "
            "Save arrays that belong together.",
        ),
        (
            {"x": X, "y": Y, "x_test": X[:2], "y_test": [0, 3]},
            "one of the classes '0', '1' in t.npz, got '3' in row 1 of the labels. Correct it, or remove the row.",
        ),
        (
            {"x": X, "y": Y, "x_test": X, "y_test": X[:, 0]},
            "labels in t.npz that are classes, as text, bool or integers, got float64. "
            "Save labels of the kind trained on.",
        ),
        (
            {"x": np.array([["a", None]] * 20, object), "y": Y},
            "an .npz file of plain arrays in t.npz, got Python objects in x.npy, which are not read because they can "
            "run code. Write it again with numpy.savez.",
        ),
    ],
)
def test_what_is_wrong_with_the_arrays(npz, raises, arrays, message):
    with raises(ValueError, f"datasets.load: expected {message}"):
        datasets.load(npz(**arrays))


def test_columns_of_another_model(npz, raises):
    with raises(
        ValueError,
        "datasets.read_features: expected 3 numbers per row of x in t.npz, as the model was trained on, got 2. "
        "Save the same columns in the same order.",
    ):
        datasets.read_features(npz(x=X), ["a", "b", "c"])


NUMBERS = X.tobytes()


def member(shape="(20, 2)", descr="'<f8'", data=NUMBERS) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def archive(*members: tuple[str, bytes], how=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return file.getvalue()


LABELS = ("y.npy", member("(20,)", "'<i8'", Y.astype("<i8").tobytes()))
TERABYTES = "(1000000000000, 2)"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "File is not a zip file"),
        (b"PK\x05\x06" + b"\0" * 10, "File is not a zip file"),
        (
            archive(("x.npy", member(TERABYTES)), LABELS),
            f"a header that claims the wrong size, {TERABYTES}, in x.npy",
        ),
        (
            archive(("x.npy", member("(-20, -2)")), LABELS),
            "a header that claims the wrong size, (-20, -2), in x.npy",
        ),
        (
            archive(("x.npy", member("(20, 1)")), LABELS),
            "a header that claims the wrong size, (20, 1), in x.npy",
        ),
        (archive(("x", member()), ("x.npy", member()), LABELS), "two members of the name x"),
        (
            archive(("x.npy", member()), LABELS, how=zipfile.ZIP_BZIP2),
            "a way of packing that NumPy does not use",
        ),
        (
            archive(("x.npy", member(descr="'|O'")), LABELS),
            "Python objects in x.npy, which are not read because they can run code",
        ),
    ],
)
def test_forged_files(folder, raises, content, reason):
    Path("t.npz").write_bytes(content)
    with raises(
        ValueError,
        f"datasets.load: expected an .npz file of plain arrays in t.npz, got {reason}. Write it again with numpy.savez.",
    ):
        datasets.load("t.npz")


def test_duplicate_members_are_refused(folder):
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = archive(("x.npy", member()), ("x.npy", member()), LABELS)
    Path("t.npz").write_bytes(content)
    with pytest.raises(ValueError, match="got two members of the name x"):
        datasets.load("t.npz")


def test_a_bomb_is_not_unpacked(folder):
    size = 300 << 20
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("x.npy", "w") as x:
        x.write(member(f"({size // 16}, 2)", data=b""))
        for _ in range(300):
            x.write(bytes(1 << 20))
    Path("t.npz").write_bytes(file.getvalue())
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=r"got 3145\d{5} bytes of arrays in a file of \d{6}; numpy\.savez packs without"
    ):
        datasets.load("t.npz")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_directory_that_claims_too_little(folder):
    # Larger than one step of zipfile, so that there is something left to unpack when the claim is met.
    claimed = member("(2000, 2)", data=bytes(32_000))
    packed = bytearray(archive(("x.npy", claimed + bytes(64 << 20)), how=zipfile.ZIP_DEFLATED))
    directory = packed.rindex(b"PK\x01\x02")
    packed[directory + 24 : directory + 28] = struct.pack("<I", len(claimed))
    Path("t.npz").write_bytes(packed)
    tracemalloc.start()
    with pytest.raises(ValueError, match="Bad CRC-32"):
        datasets.load("t.npz")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("packed", [False, True])
def test_mutated_files_give_our_error_or_a_data_set(folder, attempt, packed):
    (np.savez_compressed if packed else np.savez)("good.npz", x=X, y=Y)
    good = Path("good.npz").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(400):
        bad = bytearray(good)
        for place in rng.integers(len(bad), size=rng.integers(1, 4)):
            bad[place] = rng.integers(256)
        Path("t.npz").write_bytes(bad[: rng.integers(len(bad))] if rng.random() < 0.2 else bad)
        data = attempt(datasets.load, "t.npz", begins="datasets.load: expected ")
        if data is not None:
            np.testing.assert_array_equal(np.sort(np.concatenate([data.x, data.x_test])[:, 0]), X[:, 0])
