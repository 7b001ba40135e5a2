"""`xhat bench`: what it measures, what it writes, and what it refuses."""

import json

import pytest

from xhat.bench import processes, tables
from xhat.bench.measuring import Row


@pytest.fixture
def measured(monkeypatch):
    """Put rows in the place of the processes; return the tasks that they were given."""
    tasks = []

    def stand_in(note=""):
        def run(task):
            tasks.append(task)
            lost = {"milliseconds": float("nan")} if note else {}
            numbers = {"milliseconds": 1.0, "rate": 2.0, "share": 0.5, "ratio": 1.0, "ulp": 0.5}
            for contender in ("xhat", "xhat out=", "copy"):
                yield [Row("batch", "forward", "32x32", 4096, 4096, task.threads, False, contender, **numbers)]
            yield [
                Row("batch", "forward", "32x32", 4096, 4096, task.threads, False, "numpy", **numbers | lost, note=note)
            ]

        monkeypatch.setattr(processes, "run", run)
        return tasks

    return stand_in


def test_a_run_in_a_process(xhat, folder):
    words = ("--short", "--norm", "layer", "--against", "numpy", "--csv", "norms.csv", "--plot", "norms.png")
    done = xhat("bench", *words)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert any(line.startswith("layer fwd 4K") for line in lines)
    assert any(line.startswith("numpy") for line in lines)
    assert max(map(len, lines)) <= 120
    rows, facts = tables.read_csv(folder / "norms.csv")
    assert {row.contender for row in rows} >= {"xhat", "xhat out=", "numpy", "copy"}
    assert {row.direction for row in rows} == {"overhead", "forward", "backward"}
    assert set(facts) >= {"cpu", "python", "xhat", "commit", "numpy", "torch", "huge pages", "variant"}
    assert (folder / "norms.png").read_bytes().startswith(b"\x89PNG")


def test_json(xhat, measured):
    measured()
    done = xhat("bench", "--threads", "2", "--against", "numpy", "--json")
    assert (done.code, done.err) == (0, "")
    assert [row["contender"] for row in json.loads(done.out)["rows"]] == ["xhat", "xhat out=", "copy", "numpy"]


def test_a_wrong_contender_is_an_error(xhat, measured):
    measured("WRONG by 1.0e+00 of the largest value: not timed")
    done = xhat("bench", "--threads", "1", "--against", "numpy")
    assert done.code == 1
    assert done.err == (
        "xhat bench: batch forward 32x32, 1 threads: numpy is WRONG by 1.0e+00 of the largest value: not timed\n"
    )
    assert next(line for line in done.out.splitlines() if line.startswith("batch fwd 4K")).split()[-1] == "0.50"


def test_lists_have_commas(xhat, measured):
    tasks = measured()
    words = ("--norm", "layer,batch NCHW", "--norm", "rms", "--size", "1k, 8M", "--threads", "2,1,2")
    done = xhat("bench", *words, "--against", "numpy,jax")
    assert done.code == 0
    assert [task.threads for task in tasks] == [2, 1]
    assert tasks[0].norms == ["layer", "batch NCHW", "rms"]
    assert tasks[0].sizes == [1024, 8 << 20]
    assert tasks[0].houses == ["xhat", "numpy", "jax"]


def test_torch_gets_two_settings_of_its_memory(xhat, measured, monkeypatch):
    from xhat.cli import bench

    tasks = measured()
    monkeypatch.setattr(bench, "find_spec", lambda name: True)
    assert xhat("bench", "--threads", "1,2").code == 0
    assert [(task.threads, task.huge_pages) for task in tasks] == [(1, False), (1, True), (2, False), (2, True)]
    assert "torch.compile" not in tasks[0].houses
    tasks.clear()
    assert xhat("bench", "--threads", "1", "--against", "jax", "--full").code == 0
    assert [task.huge_pages for task in tasks] == [False]
    assert tasks[0].sizes[-1] == 512 << 20


def test_a_process_that_dies(xhat, monkeypatch):
    def dies(task):
        raise RuntimeError("bench: expected the process to end well, got exit code -9. Leave a size out.")
        yield

    monkeypatch.setattr(processes, "run", dies)
    done = xhat("bench", "--short", "--against", "numpy")
    assert done.code == 1
    assert done.err == "bench: expected the process to end well, got exit code -9. Leave a size out.\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("optimizers",), "xhat bench: expected norms, got 'optimizers'. Nothing else is measured yet.\n"),
        (("--full", "--short"), "xhat bench: expected --full or --short, got both. Choose one.\n"),
        (("--norm", "layre"), "xhat bench: expected --norm from batch, batch NCHW, batch NHWC, layer, rms, group, "
         "instance, got 'layre'. Choose of these.\n"),
        (("--against", "xhat"), "xhat bench: expected --against from torch, torch.compile, jax, onnxruntime, numpy, "
         "got 'xhat'. Choose of these.\n"),
        (("--size", "1"), "xhat bench: expected --size from 1K to 1024G, got '1'. Give 64K or 8M, say.\n"),
        (("--size", "9999G"), "xhat bench: expected --size from 1K to 1024G, got '9999G'. Give 64K or 8M, say.\n"),
        (("--size", "-4K"), "xhat bench: expected --size from 1K to 1024G, got '-4K'. Give 64K or 8M, say.\n"),
        (("--threads", "0"), "xhat bench: expected --threads from 1 to 1024, got '0'. Give 1,2.\n"),
        (("--threads", "1,two"), "xhat bench: expected --threads from 1 to 1024, got 'two'. Give 1,2.\n"),
        (("--csv", "no/such.csv"), "xhat bench: expected a file in a folder that exists, got no/such.csv. Choose "
         "another place.\n"),
        (("--plot", "."), "xhat bench: expected a file in a folder that exists, got .. Choose another place.\n"),
    ],
)  # fmt: skip
def test_refused(xhat, words, told):
    done = xhat("bench", *words)
    assert (done.code, done.out, done.err) == (2, "", told)
