"""How it is timed: who is wrong is not, who is absent is named, and who is compared with whom."""

import math
import sys

import numpy as np
import pytest

from xhat import kernels
from xhat.bench import contenders, measuring, problems
from xhat.bench.contenders import Absent, Contender
from xhat.bench.measuring import contests, measure
from xhat.bench.problems import DIRECTIONS, NORMS


def rows_of(task):
    return [row for rows in measure(task) for row in rows]


@pytest.mark.parametrize("norm", NORMS)
def test_xhat_and_the_textbook_are_right(task, norm):
    lists = list(measure(task([norm])))
    assert len(lists) == contests(task([norm])) == 3
    for direction, rows in zip(DIRECTIONS, lists[1:], strict=True):
        found = {row.contender: row for row in rows}
        assert set(found) >= {"xhat", "xhat out=", "numpy", "copy"}
        for name in ("xhat", "xhat out=", "numpy"):
            row = found[name]
            assert (row.norm, row.direction, row.note) == (norm, direction, "")
            assert row.milliseconds > 0
            assert 0 < row.ulp < (1.0 if name != "numpy" else 20.0), row
        moved = problems.problem(norm, 4096).traffic(direction, problems.l2_bytes())
        assert found["xhat"].rate == pytest.approx(moved / found["xhat"].milliseconds / 1e6)
        copy = max(row.rate for name, row in found.items() if name.startswith("copy"))
        assert found["xhat"].share == pytest.approx(found["xhat"].rate / copy)
        assert found["numpy"].ratio == pytest.approx(found["numpy"].milliseconds / found["xhat"].milliseconds)
        assert found["copy"].ratio == pytest.approx(found["copy"].milliseconds / found["xhat out="].milliseconds)


def spoiled(which, by):
    """Return the textbook with one of its results changed."""

    def calls(problem, data, direction):
        for contender in contenders.numpy_calls(problem, data, direction):

            def arrays(got, contender=contender):
                results = [np.array(one) for one in contender.arrays(got)]
                if which < len(results):
                    results[which].reshape(-1)[-1] += by * np.abs(results[which]).max()
                return results

            yield Contender("numpy", contender.call, arrays)

    return calls


@pytest.mark.parametrize(("which", "direction"), [(0, "forward"), (0, "backward"), (1, "backward"), (2, "backward")])
@pytest.mark.parametrize("by", [0.01, math.nan, math.inf])
def test_a_wrong_result_is_not_timed(task, monkeypatch, which, direction, by):
    monkeypatch.setitem(contenders.HOUSES, "numpy", spoiled(which, by))
    found = {row.direction: row for row in rows_of(task()) if row.contender == "numpy"}
    assert math.isnan(found[direction].milliseconds)
    assert math.isnan(found[direction].ratio)
    assert found[direction].note.startswith("WRONG by ")
    assert found[direction].note.endswith(" of the largest value: not timed")


def test_a_small_error_is_shown(task, monkeypatch):
    monkeypatch.setitem(contenders.HOUSES, "numpy", spoiled(0, 1e-5))
    row = next(row for row in rows_of(task()) if row.contender == "numpy" and row.direction == "forward")
    assert row.milliseconds > 0
    assert 80 < row.ulp < 1000  # 84 of the largest value of all columns


@pytest.mark.parametrize("got", [[np.zeros(3, np.float32)], [None]])
def test_a_result_of_another_size_is_wrong(got):
    problem = problems.problem("batch", 4096)
    assert measuring.errors(got, problem, problems.make(problem), "forward")[0] == math.inf


@pytest.mark.parametrize("house", ["torch", "torch.compile", "jax", "onnxruntime"])
def test_a_framework_that_is_missing(task, monkeypatch, house):
    monkeypatch.setitem(sys.modules, house.partition(".")[0], None)
    rows = rows_of(task(["layer"], houses=("xhat", house)))
    notes = {row.note for row in rows if row.contender == house and row.direction == "forward"}
    assert len(notes) == 1
    assert notes.pop().startswith(("not installed", "it cannot be loaded"))
    assert any(row.contender == "xhat" and row.milliseconds > 0 for row in rows)


def test_one_that_gives_up_says_why(task, monkeypatch):
    def gives_up(problem, data, direction):
        raise Absent("it has no such norm")
        yield

    monkeypatch.setitem(contenders.HOUSES, "jax", gives_up)
    rows = [row for row in rows_of(task(houses=("xhat", "jax"))) if row.contender == "jax"]
    assert [row.note for row in rows] == ["it has no such norm"] * 2
    assert all(math.isnan(row.milliseconds) for row in rows)


def test_too_little_memory(task, monkeypatch):
    monkeypatch.setattr(measuring, "available_bytes", lambda: 24 * 4096 - 1)
    rows = rows_of(task(sizes=(4096, 1024)))
    assert [row.note for row in rows if row.size == 4096 and row.note] == [
        "left out: expected 0 MB of free memory, got less"
    ] * 2
    assert all(row.milliseconds > 0 for row in rows if row.size == 1024)


def test_the_overhead_of_a_call(task):
    rows = next(measure(task()))
    assert [row.contender for row in rows] == ["xhat", "xhat out=", "numpy"]
    assert {row.direction for row in rows} == {"overhead"}
    assert {row.shape for row in rows} == {"32x64"}
    assert all(row.milliseconds > 0 for row in rows)


def test_turns_are_compared_by_their_medians(task):
    counts = {"short": 0, "long": 0}

    def short():
        counts["short"] += 1

    def long():
        counts["long"] += 1
        sum(range(20_000))

    times = measuring.take_turns({"short": short, "long": long}, task())
    assert times["short"] < times["long"]
    assert counts["short"] > counts["long"] > 2  # a turn of short calls has more of them


def test_threads_are_set(task):
    before = kernels.get_num_threads()
    try:
        next(measure(task(threads=3)))
        assert kernels.get_num_threads() == (3 if kernels.native else 1)
    finally:
        kernels.set_num_threads(before)


def test_memory_that_is_free():
    assert measuring.available_bytes() > 1 << 20
