"""Tables: what a column means, what a cell may hold, and what is said when it is something else."""

import csv
import io
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xhat import datasets
from xhat.datasets import tables

IRIS = "length,width,kind\n" + "".join(f"{i},{i / 10},{'ab'[i % 2]}\n" for i in range(20))


@pytest.fixture
def table(folder):
    def write(text: str | bytes, name: str = "t.csv") -> str:
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


def test_classes(table):
    data = datasets.load(table(IRIS), target="kind")
    assert (data.name, data.classes, data.features, data.image_shape) == (
        "t",
        ("a", "b"),
        ("length", "width"),
        None,
    )
    assert (data.x.shape, data.x_test.shape, data.x.dtype) == ((16, 2), (4, 2), np.float64)
    assert (data.y.dtype, data.y.shape, data.y_test.shape) == (np.int64, (16,), (4,))
    assert data.x.flags.c_contiguous
    assert data.x_test.flags.c_contiguous
    # Every row kept its own label.
    np.testing.assert_array_equal(data.x[:, 0] % 2, data.y)
    np.testing.assert_array_equal(data.x_test[:, 0] % 2, data.y_test)
    np.testing.assert_array_equal(np.sort(np.concatenate([data.x, data.x_test])[:, 0]), np.arange(20))
    np.testing.assert_array_equal(data.x[:, 1], data.x[:, 0] / 10)


def test_regression(table):
    text = "a,price\n" + "".join(f"{i},{i}.5\n" for i in range(8))
    data = datasets.load(table(text), target="price", test_fraction=0.25)
    assert data.classes is None
    assert (data.y.dtype, data.y.shape, data.y_test.shape) == (np.float64, (6, 1), (2, 1))
    np.testing.assert_array_equal(data.y, data.x.astype(np.float64) + 0.5)


def test_same_seed_same_rows_and_a_generator_moves_on(table):
    path = table(IRIS)
    tests = [datasets.load(path, target="kind", rng=rng).x_test for rng in (0, 0, 1)]
    np.testing.assert_array_equal(tests[0], tests[1])
    assert not np.array_equal(tests[0], tests[2])
    rng = np.random.default_rng(0)
    first, second = (datasets.load(path, target="kind", rng=rng).x_test for _ in range(2))
    np.testing.assert_array_equal(first, tests[0])
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["b", "a"] * 2, ("a", "b")),
        (["True", "False"] * 2, ("False", "True")),
        (["10", "9", "-1"] * 2, ("-1", "9", "10")),
        (["01", "1", "2"] * 2, ("1", "2")),
        (["1", "x"] * 2, ("1", "x")),
        (["1.0", "2"] * 2, None),
        (["1", "2", "3"], None),  # fewer than two rows of each
        ([str(i % 20) for i in range(40)], tuple(map(str, range(20)))),
        ([str(i % 20) for i in range(39)], None),
        ([str(i % 21) for i in range(420)], None),
        (["1e3", "2"] * 2, None),
        (["12345678901234567890", "2"] * 2, None),
    ],
)
def test_what_means_classes(table, cells, classes):
    text = "a,y\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))
    assert datasets.load(table(text), target="y").classes == classes


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_delimiters(table, mark):
    data = datasets.load(table(IRIS.replace(",", mark)), target="kind")
    assert data.features == ("length", "width")


def test_quotes_spaces_blank_lines_byte_order_mark_and_dos_lines(table):
    text = '\ufeff"a, first", b,kind\r\n\r\n1, 2,"x, ""y""\nz"\r\n3,4, q\r\n\r\n' + '5,6,"x, ""y""\nz"\r\n7,8,q'
    data = datasets.load(table(text), target="kind")
    assert data.features == ("a, first", "b")
    assert data.classes == ("q", 'x, "y"\nz')
    assert {tuple(row) for row in np.concatenate([data.x, data.x_test]).tolist()} == {
        (1, 2),
        (3, 4),
        (5, 6),
        (7, 8),
    }


def test_more_rows_than_a_block(table):
    text = "a,y\n" + "".join(f"{i},{i % 3}\n" for i in range(10_000))
    data = datasets.load(table(text), target="y")
    np.testing.assert_array_equal(np.sort(np.concatenate([data.x, data.x_test])[:, 0]), np.arange(10_000))
    np.testing.assert_array_equal(data.x[:, 0] % 3, data.y)


HEAD = "a,b,y\n1,2,p\n"
MISSING = "Fill it in, or remove the row or the column."
ENCODE = "Encode the column as numbers first (for categories, a column of 0 and 1 for each), or remove it."
LARGE = "Correct the value, rescale the column, or remove the row."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "1,,q\n", f"a value in every cell of column 'b' of t.csv, got none in line 3. {MISSING}"),
        (HEAD + " NA,1,q\n", f"a value in every cell of column 'a' of t.csv, got none in line 3. {MISSING}"),
        (HEAD + "nan,1,q\n", f"a value in every cell of column 'a' of t.csv, got none in line 3. {MISSING}"),
        (HEAD + "1,1,\n", f"a value in every cell of column 'y' of t.csv, got none in line 3. {MISSING}"),
        (
            HEAD + "\n1,1,N/A\n",
            f"a value in every cell of column 'y' of t.csv, got none in line 4. {MISSING}",
        ),
        (HEAD + "1,red,q\n", f"numbers in column 'b' of t.csv, got 'red' in line 3. {ENCODE}"),
        (HEAD + "1,1_0,q\n", f"numbers in column 'b' of t.csv, got '1_0' in line 3. {ENCODE}"),
        (
            HEAD + "1,inf,q\n",
            f"numbers of size up to 3.4e+38 in column 'b' of t.csv, got inf in line 3. {LARGE}",
        ),
        (
            HEAD + "-1e39,1,q\n",
            f"numbers of size up to 3.4e+38 in column 'a' of t.csv, got -1e+39 in line 3. {LARGE}",
        ),
        (
            HEAD + "1,2\n",
            "3 fields in every row of t.csv, as in its header, got 2 in line 3. "
            "Look for a delimiter too many or too few.",
        ),
        (
            HEAD + "1,2,q,4\n",
            "3 fields in every row of t.csv, as in its header, got 4 in line 3. "
            "Look for a delimiter too many or too few.",
        ),
        ("a,b,y\n", "rows of data in t.csv, got only column names. Add rows."),
        ("", "a first row of column names in t.csv, got an empty one. Add a header row."),
        (
            "1,2\n3,4\n",
            "a first row of column names in t.csv, got only numbers ('1', '2'). Add a header row.",
        ),
        ("a,b,a\n1,2,3\n", "different column names in t.csv, got 'a' twice. Rename one of them."),
        (
            ",a,y\n0,1,2\n",
            "a name for every column of t.csv, got none for column 1. "
            "Name it, or save the table without its row numbers.",
        ),
        ("y\n1\n", "columns besides 'y' in t.csv, got none. Add the columns to predict it from."),
        (
            HEAD + '1,2,"q\n',
            "well-formed CSV in t.csv, got an error (unexpected end of data). "
            "Look for a quotation mark without its partner.",
        ),
        (
            HEAD + f'1,2,"{"q" * 200_000}"\n',
            "well-formed CSV in t.csv, got an error (field larger than field limit (131072)). "
            "Look for a quotation mark without its partner.",
        ),
        (
            HEAD.encode() + b"1,2,\xff\n",
            "UTF-8 text in t.csv, got other bytes. Save the table as CSV in UTF-8.",
        ),
        (
            HEAD + "1,3,p\n",
            "two or more classes in column 'y' of t.csv, got only 'p'. "
            "Add rows of another class, or choose another target.",
        ),
        (
            HEAD + "1,3,p\n1,2,q\n1,2,r\n",
            "at least 2 rows of every class in column 'y' of t.csv, got 1 of 'q', 'r'. "
            "Add rows of the class or remove it; for regression, write the target with decimals (3.0).",
        ),
        (
            "a,y\n1,2.5\n",
            "at least 2 rows in column 'y' of t.csv, got 1. Add rows: one has to be held back for the test.",
        ),
        (
            "a,y\n1,2.5\n2,inf\n",
            "finite numbers in the target column 'y' of t.csv, got 'inf' in line 3. "
            "Correct the value, or remove the row.",
        ),
    ],
)
def test_what_is_wrong_with_a_table(table, raises, text, message):
    with raises(ValueError, f"datasets.load: expected {message}"):
        datasets.load(table(text), target="y")


@pytest.mark.parametrize(("target", "question"), [(None, ""), ("Y", ""), ("kinds", "Did you mean 'kind'? ")])
def test_target_must_be_a_column(table, raises, target, question):
    with raises(
        ValueError,
        f"datasets.load: expected target, the column of t.csv to predict, got {target!r}. "
        f"{question}Choose one of 'length', 'width', 'kind'.",
    ):
        datasets.load(table(IRIS), target=target)


def test_long_lists_of_columns_are_cut(table):
    path = table(",".join(f"c{i}" for i in range(500)) + "\n")
    with pytest.raises(ValueError, match=r"'c18', 'c19', … \(500 in all\)\.$"):
        datasets.load(path)


def test_features_come_by_name_in_the_models_order(table):
    path = table("id,b,kind,a\nx,2,q,1\ny,4,p,3\n")
    x, y = datasets.read_features(path, ("a", "b"), target="kind", classes=("p", "q"))
    np.testing.assert_array_equal(x, np.array([[1, 2], [3, 4]]))
    assert (x.dtype, x.flags.c_contiguous) == (np.float64, True)
    np.testing.assert_array_equal(y, [1, 0])
    assert datasets.read_features(path, ("a", "b"))[1] is None
    assert datasets.read_features(path, ("a", "b"), target="price")[1] is None


def test_labels_of_a_trained_model(table):
    assert datasets.read_features(table("a,y\n1,07\n2, 7\n"), ["a"], target="y", classes=("5", "7"))[1].tolist() == [
        1,
        1,
    ]
    assert datasets.read_features(table("a,y\n1,07\n2,7\n"), ["a"], target="y", classes=("07", "7"))[1].tolist() == [
        0,
        1,
    ]
    numbers = datasets.read_features(table("a,y\n1,3\n"), ["a"], target="y")[1]
    assert (numbers.dtype, numbers.tolist()) == (np.float64, [[3.0]])


def test_unknown_label_and_missing_columns(table, raises):
    path = table("a,y\n1,p\n2,z\n")
    with raises(
        ValueError,
        "datasets.read_features: expected one of the classes 'p', 'q' in column 'y' of t.csv, got 'z' in line 3. "
        "Correct the label, or remove the column.",
    ):
        datasets.read_features(path, ["a"], target="y", classes=("p", "q"))
    with raises(
        ValueError,
        "datasets.read_features: expected the 3 columns the model was trained on in t.csv, "
        "got a table without 'b', 'c'. Add what is missing; the order does not matter.",
    ):
        datasets.read_features(path, ["a", "b", "c"])


@given(
    values=st.lists(
        st.tuples(
            st.floats(width=32, allow_nan=False, allow_infinity=False),
            st.integers(-(2**24), 2**24),
            st.sampled_from("pq"),
        ),
        min_size=1,
        max_size=8,
    ),
    mark=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
)
def test_what_csv_writes_is_read_back_to_the_bit(tmp_path_factory, values, mark, quoting):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=mark, quoting=quoting)
    writer.writerows([("a", "b", "y"), *values])
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    path.write_text(text.getvalue(), newline="")
    x, y = datasets.read_features(path, ["b", "a"], target="y", classes=("p", "q"))
    np.testing.assert_array_equal(x, np.array([(b, a) for a, b, _ in values]))
    assert y.tolist() == ["pq".index(label) for _, _, label in values]


@given(st.text(alphabet="ab1.,;\t\"'\n\r \x00é-e", max_size=60))
def test_any_text_is_a_table_or_an_error_of_ours(tmp_path_factory, attempt, text):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(text, newline="", encoding="utf-8")
    data = attempt(datasets.load, path, target="a", begins="datasets.load: expected ")
    assert data is None or np.isfinite(data.x).all()


@pytest.fixture
def arrow():
    pytest.importorskip("pyarrow.parquet")
    import pyarrow.parquet

    return pyarrow


@pytest.fixture
def parquet(folder, arrow):
    def write(**columns) -> str:
        arrow.parquet.write_table(arrow.table(columns), "t.parquet")
        return "t.parquet"

    return write


def test_parquet_columns(parquet):
    path = parquet(
        **{"a.b": [1, 2, 3, 4]},
        flag=[True, False, True, False],
        cost=[Decimal("1.5"), Decimal("2.5"), Decimal("3.5"), Decimal("4.5")],
        y=["q", "p", "q", "p"],
    )
    data = datasets.load(path, target="y", test_fraction=0.5)
    assert (data.features, data.classes) == (("a.b", "flag", "cost"), ("p", "q"))
    rows = np.concatenate([data.x, data.x_test])
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], [[1, 1, 1.5], [2, 0, 2.5], [3, 1, 3.5], [4, 0, 4.5]])
    np.testing.assert_array_equal(data.y, data.x[:, 1])
    x, y = datasets.read_features(path, ["cost", "a.b"], target="y", classes=("p", "q"))
    np.testing.assert_array_equal(x[0], [1.5, 1])
    np.testing.assert_array_equal(y, [1, 0, 1, 0])


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        ([True, False] * 2, ("False", "True")),
        (["1", "2"] * 2, ("1", "2")),
        ([10, 9] * 2, ("9", "10")),
        ([1, 2, 3, 4], None),
        ([1.0, 2.0] * 2, None),
        ([Decimal("1.5"), Decimal("2.5")] * 2, None),
    ],
)
def test_parquet_targets(parquet, y, classes):
    assert datasets.load(parquet(a=[1, 2, 3, 4], y=y), target="y").classes == classes


def test_parquet_categories(parquet, arrow):
    y = arrow.array(["p", "q"] * 2).dictionary_encode()
    assert datasets.load(parquet(a=[1, 2, 3, 4], y=y), target="y").classes == ("p", "q")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1, None]}, f"a value in every cell of column 'a' of t.parquet, got none in row 2. {MISSING}"),
        (
            {"a": [float("nan"), 1]},
            f"a value in every cell of column 'a' of t.parquet, got none in row 1. {MISSING}",
        ),
        (
            {"a": [1, 2], "y": ["p", None]},
            f"a value in every cell of column 'y' of t.parquet, got none in row 2. {MISSING}",
        ),
        ({"a": ["red", "blue"]}, f"numbers in column 'a' of t.parquet, got values of type string. {ENCODE}"),
        (
            {"a": [[1], [2]]},
            f"numbers in column 'a' of t.parquet, got values of type list<element: int64>. {ENCODE}",
        ),
        (
            {"a": [1, 2], "y": [b"p", b"q"]},
            "numbers, text or bool in the target column 'y' of t.parquet, got a value of type bytes. "
            "Convert the column, or choose another.",
        ),
    ],
)
def test_what_is_wrong_with_a_parquet_table(parquet, raises, columns, message):
    with raises(ValueError, f"datasets.load: expected {message}"):
        datasets.load(parquet(**{"y": ["p", "q"], **columns}), target="y")


def test_rows_are_counted_through_all_blocks(parquet, raises, monkeypatch):
    monkeypatch.setattr(tables, "_PARQUET_BLOCK", 2)
    path = parquet(a=[1, 2, 3, 4, None], y=["p", "q"] * 2 + ["p"])
    with raises(
        ValueError,
        f"datasets.load: expected a value in every cell of column 'a' of t.parquet, got none in row 5. {MISSING}",
    ):
        datasets.load(path, target="y")
    assert datasets.load(parquet(a=range(6), y=["p", "q"] * 3), target="y").x.shape == (4, 1)


def test_parquet_without_pyarrow(table, raises, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with raises(
        ValueError,
        "datasets.load: expected pyarrow, which reads t.parquet, got no such package. "
        'Install it with: pip install "xhat[parquet]"',
    ):
        datasets.load(table("", "t.parquet"), target="y")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 20, b"\0" * 100])
def test_damaged_parquet(table, arrow, content):
    with pytest.raises(ValueError, match=r"^datasets\.load: expected a parquet file in t\.parquet, got one that"):
        datasets.load(table(content, "t.parquet"), target="y")
