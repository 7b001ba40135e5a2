"""docs/accuracy.md says what was measured: every table is what the last run of the benchmark makes of itself."""

import pytest
from benchmarks import accuracy

LINES = accuracy.read()


@pytest.mark.parametrize("name", ["summary", "float32", "float64", "float16", "bfloat16", "long"])
def test_the_page_shows_the_last_run(name: str) -> None:
    start, end = accuracy.marks(name)
    page = accuracy.PAGE.read_text(encoding="utf-8")
    assert page.partition(start)[2].partition(end)[0].strip("\n") == accuracy.tables(LINES)[name]


def test_the_run_was_a_whole_one() -> None:
    cases = {(line["type"], line["case"]) for line in LINES if line["table"] == "grid"}
    assert cases >= {(case.x.dtype.name, case.name) for case in accuracy.grid_cases(short=False)}


def test_xhat_misses_nothing() -> None:
    of_xhat = [line for line in LINES if line["library"] == "xhat"]
    assert [line for line in of_xhat if any(accuracy.missed(line, name) for name in accuracy.QUANTITIES)] == []
