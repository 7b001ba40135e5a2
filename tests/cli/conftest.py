"""Tables to train on, and two ways to run the command: here, and in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from xhat.cli import machine, main

# names that HTML, rich and matplotlib would each read as their own language
CLASSES = ("<script>alert(1)</script>", "[red]$x_1$[/red]")
PROGRAM = "import sys; from xhat.cli import main; sys.exit(main())"


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test in a folder of its own, on any machine, without colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(machine, "blas_advice", lambda *_: "")
    return tmp_path


@pytest.fixture(autouse=True)
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS from fighting other processes for the CPU."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def xhat(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Return a function that runs one command in this process."""

    def run(*words: str) -> Done:
        capsys.readouterr()
        code = main(words)
        return Done(code, *capsys.readouterr())

    return run


def environment(**changed: str) -> dict[str, str]:
    """Return this environment with one BLAS thread, and without a choice of BLAS kernels."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **changed}


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts the command in a process of its own, which ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str, program: str = PROGRAM) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def species(folder: Path) -> Path:
    """Write a table of two classes that a few epochs tell apart."""
    rng = np.random.default_rng(0)
    lines = ["length,width,species"]
    for row in range(80):
        a, b = rng.normal(3.0 * (row % 2), 1.0, 2)
        lines.append(f"{a},{b},{CLASSES[row % 2]}")
    path = folder / "species.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def prices(folder: Path) -> Path:
    """Write a table whose target is far from 0 and 1."""
    rng = np.random.default_rng(0)
    lines = ["size,age,price"]
    for _ in range(200):
        size, age = rng.normal(100, 30), rng.uniform(0, 50)
        lines.append(f"{size},{age},{3e5 + 4e3 * size - 2e3 * age}")
    path = folder / "prices.csv"
    path.write_text("\n".join(lines))
    return path
