"""Files that hold nothing but numbers."""

import numpy as np
import pytest

from xhat import datasets

X = np.array([[1.0, -2.0], [3.5, 4.0], [0.0, 6.0]])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_every_kind_of_file_gives_the_same(folder, dtype):
    x = X.astype(dtype)
    np.savetxt("t.csv", x, delimiter=",", header="a,b", comments="")
    np.savetxt("t.tsv", x, delimiter="\t", header="a\tb", comments="")
    np.save("t.npy", x)
    np.save("f.npy", np.asfortranarray(x))
    np.savez("t.npz", x=x, y=np.arange(3))
    for name in ("t.csv", "t.tsv", "t.npy", "f.npy", "t.npz"):
        found = datasets.read_matrix(name)
        assert np.array_equal(found, x), name
        assert found.flags.c_contiguous
        assert found.dtype == (np.float64 if name.endswith("sv") or dtype == np.float64 else np.float32)


WRONG = [
    ("t.npz", "datasets.read_matrix: expected an array x in t.npz, got none. Save it as x."),
    (
        "one.npy",
        "datasets.load: expected x in one.npy as numbers of shape (rows, features) or (rows, …) for pictures, "
        "got float64 of shape (3,). Convert or reshape it.",
    ),
    (
        "nan.npy",
        "datasets.load: expected finite numbers of size up to 3.4e+38 in x of nan.npy, got nan in row 1. "
        "Correct the value, or remove the row.",
    ),
    (
        "bare.csv",
        "datasets.load: expected a first row of column names in bare.csv, got only numbers ('1.0', '-2.0'). "
        "Add a header row.",
    ),
    (
        "digits",
        "datasets.read_matrix: expected a file of numbers, got 'digits'. Give a .csv, .tsv, .parquet, .npz or .npy file.",
    ),
    (".", "datasets.read_matrix: expected a file of numbers, got '.'. Give a .csv, .tsv, .parquet, .npz or .npy file."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), WRONG, ids=[name for name, _ in WRONG])
def test_what_is_wrong_is_said(folder, name, text):
    np.savez("t.npz", y=np.arange(3))
    np.save("one.npy", X[:, 0])
    np.save("nan.npy", np.where(X == 3.5, np.nan, X))
    np.savetxt("bare.csv", X, delimiter=",", fmt="%.1f")
    with pytest.raises(ValueError) as caught:
        datasets.read_matrix(name)
    assert str(caught.value) == text


def test_a_header_that_claims_more_than_there_is(folder):
    np.save("t.npy", X)
    whole = (folder / "t.npy").read_bytes()
    claimed = whole.replace(b"(3, 2), }" + 9 * b" ", b"(3000000000, 2), }")
    assert claimed != whole
    (folder / "t.npy").write_bytes(claimed)
    with pytest.raises(ValueError, match="expected an .npy file of numbers in t.npy, got "):
        datasets.read_matrix("t.npy")
    (folder / "t.npy").write_bytes(whole[:-8])
    with pytest.raises(ValueError, match="expected an .npy file of numbers in t.npy, got "):
        datasets.read_matrix("t.npy")
