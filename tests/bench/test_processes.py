"""A process for each setting."""

import os

import pytest

from xhat.bench import processes


def test_a_process_measures(task):
    lists = list(processes.run(task(["rms"], sizes=(1024,))))
    assert [rows[0].direction for rows in lists] == ["overhead", "forward", "backward"]
    assert all(row.milliseconds > 0 for rows in lists for row in rows)


def test_a_process_that_dies(task):
    with pytest.raises(
        RuntimeError,
        match=r"^bench: expected the process of 1 threads to end well, got exit code 1; it said: KeyError: 'no such norm'",
    ):
        list(processes.run(task(["no such norm"])))


def test_every_library_gets_its_threads(task):
    one = processes.environment(task(threads=1), {"XLA_FLAGS": "--a=1"})
    assert {one[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")} == {"1"}
    assert one["XLA_FLAGS"] == "--a=1 --xla_cpu_multi_thread_eigen=false"
    assert one["THP_MEM_ALLOC_ENABLE"] == "0"
    two = processes.environment(task(threads=2)._replace(huge_pages=True), os.environ)
    assert two["OMP_NUM_THREADS"] == "2"
    assert "multi_thread_eigen" not in two["XLA_FLAGS"]
    assert two["THP_MEM_ALLOC_ENABLE"] == "1"
