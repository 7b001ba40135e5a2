"""Fashion-MNIST and its like: four idx files in a folder."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from xhat import datasets
from xhat.datasets import idx

RNG = np.random.default_rng(0)
X, X_TEST = RNG.integers(0, 256, (20, 4, 3), np.uint8), RNG.integers(0, 256, (5, 4, 3), np.uint8)
Y, Y_TEST = np.arange(20, dtype=np.uint8) % 10, np.array([9, 2, 1, 1, 6], np.uint8)
NAMES = dict(zip(("x", "y", "x_test", "y_test"), (*idx._TRAIN, *idx._TEST), strict=True))
FETCH = "Download the file again."


def encode(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


GOOD = {"x": encode(X), "y": encode(Y), "x_test": encode(X_TEST), "y_test": encode(Y_TEST)}


def write(folder: str | Path, packed: bool = True, **files: bytes | None) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for key, content in {**GOOD, **files}.items():
        if content is not None:
            path = Path(folder, NAMES[key] + (".gz" if packed else ""))
            path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [True, False])
def test_folder(folder, packed):
    write("mine", packed)
    data = datasets.load("mine")
    assert (data.name, data.classes, data.image_shape) == ("mine", tuple("0123456789"), (4, 3))
    assert (data.x.dtype, data.y.dtype, data.features[-1]) == (np.float32, np.int64, "pixel 11")
    np.testing.assert_array_equal(data.x.reshape(X.shape), X)
    np.testing.assert_array_equal(data.y, Y)
    np.testing.assert_array_equal(data.x_test.reshape(X_TEST.shape), X_TEST)
    np.testing.assert_array_equal(data.y_test, Y_TEST)


@pytest.mark.parametrize("place", ["fashion-mnist", "data/fashion-mnist", "elsewhere/fashion-mnist"])
def test_by_name(folder, monkeypatch, place):
    monkeypatch.setenv("XHAT_DATA", "elsewhere")
    write(place)
    data = datasets.load("fashion-mnist")
    assert (data.name, data.classes[9], len(data.x)) == ("fashion-mnist", "Ankle boot", 20)


def test_missing(folder, monkeypatch, raises):
    monkeypatch.setattr(idx, "_DEBIAN_FOLDER", Path("no/fashion-mnist"))
    with raises(
        FileNotFoundError,
        "datasets.load: expected the folder 'fashion-mnist' here, in data, in $XHAT_DATA or in no, got none. "
        "Get it with: apt-get install dataset-fashion-mnist, or download its four files from "
        "https://github.com/zalandoresearch/fashion-mnist into a folder and give the folder.",
    ):
        datasets.load("fashion-mnist")


@pytest.mark.skipif(not idx._DEBIAN_FOLDER.is_dir(), reason="needs the package dataset-fashion-mnist")
def test_the_real_one(folder):
    data = datasets.load(idx._DEBIAN_FOLDER)
    assert (data.x.shape, data.x_test.shape, data.image_shape) == ((60_000, 784), (10_000, 784), (28, 28))
    assert data.classes[:2] == ("T-shirt/top", "Trouser")
    assert np.bincount(data.y).tolist() == [6000] * 10
    assert (data.x.max(), round(float(data.x.mean()), 4)) == (255, 72.9404)


def test_a_file_is_missing(folder, raises):
    write("mine", y_test=None)
    with raises(
        FileNotFoundError,
        "datasets.load: expected t10k-labels-idx1-ubyte.gz or t10k-labels-idx1-ubyte in mine, got neither. "
        "Put all four files (training and test, pictures and labels) into the folder.",
    ):
        datasets.load("mine")


HUGE = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 2**16, 2**16)
IDX = "an idx file of unsigned bytes with 3 axes in mine/train-images-idx3-ubyte, got"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x": b""}, f"{IDX} a file that ends within its header. {FETCH}"),
        ({"x": b"\0\0\x08\3\0"}, f"{IDX} a file that ends within its header. {FETCH}"),
        ({"x": encode(Y)}, f"{IDX} a file that begins with 00000801 instead of 00000803. {FETCH}"),
        ({"x": HUGE}, f"{IDX} a header that claims {(2**32 - 1) * 2**32} bytes in a file of 16. {FETCH}"),
        ({"x": encode(X[:0])}, f"{IDX} a header that claims 0 bytes in a file of 16. {FETCH}"),
        ({"x": encode(X)[:-1]}, f"{IDX} less than the 240 bytes that its header claims. {FETCH}"),
        ({"x": encode(X) + b"\0"}, f"{IDX} more than the 240 bytes that its header claims. {FETCH}"),
        (
            {"y": encode(Y[:5])},
            "a label for every picture in mine, got 20 pictures in train-images-idx3-ubyte and 5 labels in "
            "train-labels-idx1-ubyte. Put four files that belong together into the folder.",
        ),
        (
            {"y_test": encode(Y_TEST + 1)},
            f"labels from 0 to 9 in mine/t10k-labels-idx1-ubyte, got 10. {FETCH}",
        ),
        (
            {"x_test": encode(X_TEST[:, :2])},
            "pictures of one size in mine, got (4, 3) for training and (2, 3) for the test. "
            "Put four files that belong together into the folder.",
        ),
    ],
)
def test_what_is_wrong_with_the_files(folder, raises, files, message):
    write("mine", packed=False, **files)
    with raises(ValueError, f"datasets.load: expected {message}"):
        datasets.load("mine")


@pytest.mark.parametrize("header", [HUGE, bytes((0, 0, 8, 3)) + struct.pack(">3I", 100, 1 << 10, 1 << 10)])
def test_claims_and_bombs_take_no_memory(folder, header):
    write("mine", x=header + bytes(100 << 20))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"got a header that claims \d+ bytes in a file of \d+\."):
        datasets.load("mine")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_mutated_files_give_our_error_or_the_same_numbers(folder, attempt):
    write("mine")
    path = Path("mine", NAMES["x"] + ".gz")
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        bad = bytearray(good)
        bad[rng.integers(len(bad))] = rng.integers(256)
        path.write_bytes(bad[: rng.integers(len(bad))] if rng.random() < 0.2 else bad)
        data = attempt(datasets.load, "mine", begins="datasets.load: expected an idx file")
        seen.add("refused" if data is None else "read")
        if data is not None:
            np.testing.assert_array_equal(data.x.reshape(X.shape), X)
    assert seen == {"refused", "read"}
