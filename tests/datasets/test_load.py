"""Names, paths and arguments; the digits."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xhat import datasets
from xhat.datasets.dataset import Dataset, rows_for_test

KINDS = ".csv, .tsv, .parquet, .npz, a CIFAR-10 .tar.gz, or a folder with CIFAR-10 or Fashion-MNIST in it"


def test_digits():
    data = datasets.load("digits")
    assert data.name == "digits"
    assert (data.x.shape, data.x.dtype, data.x.flags.c_contiguous) == ((1442, 64), np.float32, True)
    assert (data.x_test.shape, data.y.dtype, data.y.shape) == ((355, 64), np.int64, (1442,))
    assert (data.x.min(), data.x.max()) == (0, 16)
    assert data.classes == tuple("0123456789")
    assert data.features[:2] == ("pixel 0", "pixel 1")
    assert data.image_shape == (8, 8)
    np.testing.assert_array_equal(np.bincount(data.y_test), [35, 36, 35, 36, 36, 36, 36, 35, 34, 36])


def test_digits_are_scikit_learns_split_without_loss():
    source = pytest.importorskip("sklearn.datasets").load_digits()
    data = datasets.load("digits")
    both = np.column_stack([np.concatenate([data.x, data.x_test]), np.concatenate([data.y, data.y_test])])
    expected = np.column_stack([source.data, source.target])
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, expected.tolist()))


def test_digits_do_not_depend_on_rng():
    first, second = datasets.load("digits"), datasets.load("digits", rng=5, test_fraction=0.5)
    np.testing.assert_array_equal(first.x_test, second.x_test)


def test_digits_without_scikit_learn(monkeypatch, raises):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with raises(
        ValueError,
        "datasets.load: expected scikit-learn, which brings 'digits', got no such package. "
        'Install it with: pip install "xhat[cli]"',
    ):
        datasets.load("digits")


def test_import_loads_numpy_only():
    loaded = "import sys, xhat.datasets; print(sorted({'sklearn', 'pyarrow', 'pandas', 'scipy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_repr_is_one_line_without_numbers():
    x, y = np.zeros((3, 2), np.float32), np.zeros((3, 1))
    data = Dataset("houses", x, y, x[:1], y[:1], None, ("a", "b"))
    assert repr(data) == "Dataset('houses': 3 rows to learn from, 1 for the test, 2 features, regression)"


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("digit", "Did you mean 'digits'? "),
        ("Digits", "Did you mean 'digits'? "),
        ("fashion_mnist", "Did you mean 'fashion-mnist'? "),
        ("cifar-10", "Did you mean 'cifar10'? "),
        ("zebra", ""),
    ],
)
def test_unknown_name(folder, raises, name, question):
    with raises(
        ValueError,
        f"datasets.load: expected one of 'digits', 'fashion-mnist', 'cifar10' or the path of {KINDS}, got {name!r}. "
        f"{question}Give one of these.",
    ):
        datasets.load(name)


@pytest.mark.parametrize("path", ["no.csv", "no.npz", "no.parquet", "no.tar.gz", "there/is/none"])
def test_missing_file(folder, raises, path):
    text = (
        f"datasets.load: expected a file or folder {path!r}, got none. "
        "Correct the path; it starts from the current folder."
    )
    with raises(FileNotFoundError, text):
        datasets.load(path, target="a")
    with raises(FileNotFoundError, text):
        datasets.read_features(Path(path), ["a"])


def test_unknown_kind_of_file(folder, raises):
    Path("notes.txt").write_text("a,b\n1,2\n")
    with raises(ValueError, f"datasets.load: expected {KINDS}, got 'notes.txt'. Convert it to one of these."):
        datasets.load("notes.txt")


def test_folder_with_nothing_known(folder, raises):
    Path("mine").mkdir()
    with raises(
        ValueError,
        "datasets.load: expected CIFAR-10 or Fashion-MNIST in the folder mine, got neither. Give the folder with "
        "data_batch_1, data_batch_1.bin or train-images-idx3-ubyte.gz in it, or the path of a file.",
    ):
        datasets.load("mine")


def test_source_of_a_wrong_type(raises):
    with raises(
        TypeError,
        'datasets.load: expected a name or a path, got int. Give a name such as "digits", or the path of a file.',
    ):
        datasets.load(3)


def test_target_where_there_is_no_choice(raises):
    with raises(
        ValueError,
        "datasets.load: expected no target for 'digits', got 'y'. Leave it out: only tables have a choice of columns.",
    ):
        datasets.load("digits", target="y")


@pytest.mark.parametrize("fraction", [0, -0.1, 0.95, 1, float("nan"), float("inf")])
def test_test_fraction_out_of_range(raises, fraction):
    with raises(
        ValueError,
        f"datasets.load: expected test_fraction > 0 and at most 0.9, got {fraction}. Hold back a share such as 0.2.",
    ):
        datasets.load("digits", test_fraction=fraction)


def test_rng_of_a_wrong_type(raises):
    with raises(
        TypeError,
        "datasets.load: expected rng as an integer or a numpy.random.Generator, got str. "
        "Give a seed such as rng=0, or numpy.random.default_rng().",
    ):
        datasets.load("digits", rng="0")


def test_features_of_a_named_data_set_are_its_test_part(raises):
    data = datasets.load("digits")
    x, y = datasets.read_features("digits", data.features, classes=data.classes)
    np.testing.assert_array_equal(x, data.x_test)
    np.testing.assert_array_equal(y, data.y_test)
    with raises(
        ValueError,
        "datasets.read_features: expected the classes of 'digits' "
        "('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'), got a model with 'cat', 'dog'. "
        "Use it on data of the kind it was trained on.",
    ):
        datasets.read_features("digits", data.features, classes=("cat", "dog"))
    with pytest.raises(ValueError, match=r"got a model with 'a', 'b'\. Use it"):
        datasets.read_features("digits", ["a", "b"])


@pytest.mark.parametrize("features", [(), "age"])
def test_features_must_be_names(raises, features):
    with raises(
        ValueError,
        f"datasets.read_features: expected a sequence of column names, got {features!r}. "
        "Give the features of the data set the model was trained on.",
    ):
        datasets.read_features("digits", features)


def test_every_class_is_held_back_in_proportion():
    y = np.repeat([0, 1, 2], [100, 10, 2])
    held_back = rows_for_test("here", y, "abc", 0.2, np.random.default_rng(0))
    np.testing.assert_array_equal(np.bincount(y[held_back]), [20, 2, 1])
    held_back = rows_for_test("here", y, "abc", 0.9, np.random.default_rng(0))
    np.testing.assert_array_equal(np.bincount(y[held_back]), [90, 9, 1])


def test_rows_are_drawn_at_random_and_again():
    y = np.zeros((1000, 1))
    drawn = [rows_for_test("here", y, None, 0.25, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert [mask.sum() for mask in drawn] == [250] * 3
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert 100 < (drawn[0] & ~drawn[2]).sum() < 240
    # No part of the table is favoured: 250 rows of 1000 fall into its first half with a deviation of 7.
    assert 90 < drawn[0][:500].sum() < 160
