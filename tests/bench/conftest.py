"""A small task, and rows that were not measured."""

import pytest

from xhat.bench.measuring import Row, Task


@pytest.fixture
def task():
    """Return a function that makes a task of tiny arrays."""

    def make(norms=("batch",), sizes=(4096,), houses=("xhat", "numpy"), threads=1):
        return Task(list(norms), list(sizes), threads, False, 0.001, 2, list(houses))

    return make


@pytest.fixture
def row():
    """Return a function that makes one row."""

    def make(contender, ratio=1.0, *, size=4096, direction="forward", threads=1, huge_pages=False, **rest):
        given = {"milliseconds": ratio, "rate": 2.0, "share": 0.5, "ratio": ratio, "ulp": 0.5, **rest}
        return Row("batch", direction, "32x32", size, 4096, threads, huge_pages, contender, **given)

    return make
