"""Tables, means and files made of rows that were not measured."""

import json
import math

import pytest

from xhat.bench import tables
from xhat.bench.plot import draw


def contest(row, torch, huge, **where):
    return [
        row("xhat", 1.0, **where),
        row("xhat out=", 1.0, **where),
        row("torch", torch, **where),
        row("copy", 0.5, **where),
        row("jax", math.nan, milliseconds=math.nan, note="not installed", **where),
        row("xhat", 1.0, huge_pages=True, **where),
        row("torch", huge, huge_pages=True, **where),
    ]


def test_means(row):
    rows = contest(row, 8.0, 2.0) + contest(row, 2.0, 0.5, size=1 << 16) + contest(row, 3.0, 1.0, threads=2)
    rows.append(row("torch", 100.0, direction="overhead"))
    found = tables.means(rows)
    assert [(m.threads, m.contender, m.contests) for m in found] == [
        (1, "torch", 2),
        (1, "torch, huge pages", 2),
        (2, "torch", 1),
        (2, "torch, huge pages", 1),
    ]
    assert [m.mean for m in found] == pytest.approx([4.0, 1.0, 3.0, 1.0])
    assert [(m.worst, m.where) for m in found[:2]] == [(2.0, "batch fwd 64K"), (0.5, "batch fwd 64K")]


def test_both_settings_stand_side_by_side(row):
    table = tables.of_others(contest(row, 8.0, 2.0))
    assert table.heads == ["", "torch", "+huge"]
    assert table.rows == [["batch fwd 4K", "8.00", "2.00"]]


def test_what_does_not_depend_on_the_setting_counts_once(row):
    rows = [
        *contest(row, 8.0, 2.0),
        row("xhat", 7.0, huge_pages=True),
        row("jax", 3.0),
        row("jax", 9.0, huge_pages=True),
    ]
    assert [(one.contender, one.milliseconds) for one in tables.timed(rows) if one.contender in ("xhat", "jax")] == [
        ("xhat", 1.0),
        ("jax", 3.0),
    ]


def test_xhat_beside_the_copy(row):
    table = tables.of_xhat(contest(row, 8.0, 2.0))
    assert table.heads == ["", "ms", "out= ms", "GB/s", "copy", "stream", "share", "ULP"]
    assert table.rows == [["batch fwd 4K", "1", "1", "2.0", "2.0", "-", "50 %", "0.50"]]


def test_who_was_wrong_and_who_absent(row):
    gone = {"milliseconds": math.nan}
    rows = [*contest(row, 2.0, 1.0), row("numpy", math.nan, note="WRONG by 1.0e+00", **gone)]
    rows.append(row("xhat", math.nan, note="left out: expected 8 MB of free memory, got less", size=1 << 19, **gone))
    assert tables.wrong(rows) == ["batch forward 32x32, 1 threads: numpy is WRONG by 1.0e+00"]
    assert tables.absences(rows) == [
        "jax: not installed",
        "batch 512K left out: expected 8 MB of free memory, got less",
    ]


def test_the_overhead_has_a_line_of_its_own(row):
    rows = contest(row, 2.0, 1.0)
    assert tables.overhead(rows) == ""
    rows.append(row("xhat", 0.0031, direction="overhead"))
    rows.append(row("torch", 0.0055, direction="overhead"))
    assert tables.overhead(rows) == "One batch norm forward of 32x32, microseconds: xhat 3.1, torch 5.5"
    assert len(tables.of_xhat(rows).rows) == 1


def test_a_file_can_be_read_again(row, tmp_path):
    rows = contest(row, 2.125, 1.0)
    path = tmp_path / "norms.csv"
    path.write_text(tables.csv_text(rows, {"cpu": 'a "fast", one', "torch": "2"}))
    assert path.read_text().splitlines()[0] == (
        "norm,direction,shape,size,bytes,threads,torch huge pages,contender,milliseconds,GB/s,share of copy,times xhat,"
        "error in ULP,note,cpu,torch"
    )
    again, facts = tables.read_csv(path)
    assert facts == {"cpu": 'a "fast", one', "torch": "2"}
    assert str(again) == str(rows)  # NaN is not equal to itself


@pytest.mark.parametrize("text", ["", "norm,direction\nbatch,forward\n"])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"expected .*other.csv with the columns of xhat bench --csv, got others"):
        tables.read_csv(path)


def test_json_knows_no_nan(row):
    read = json.loads(
        tables.json_text(contest(row, 2.0, 1.0), {"cpu": "one"}), parse_constant=lambda name: pytest.fail(name)
    )
    assert read["facts"] == {"cpu": "one"}
    assert [one["milliseconds"] for one in read["rows"] if one["contender"] == "jax"] == [None]
    assert read["means"][0]["contender"] == "torch"


@pytest.mark.parametrize(
    ("size", "text"), [(1 << 10, "1K"), (3 << 20, "3M"), (1 << 30, "1G"), (1500, "1500"), (1536, "1536")]
)
def test_sizes_are_written_as_they_are_given(size, text):
    assert tables.size_text(size) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.4211, "0.42"), (9.99, "9.99"), (12.34, "12.3"), (191.5, "192")])
def test_multiples_have_three_digits(ratio, text):
    assert tables.multiple(ratio) == text


def test_the_picture(row):
    rows = contest(row, 2.0, 1.0) + contest(row, 3.0, 2.0, threads=2, size=1 << 20)
    assert draw(rows, {"cpu": "one", "torch": "2"}).startswith(b"\x89PNG")
    assert draw([], {}).startswith(b"\x89PNG")
