"""The thread pool by itself: pool_check.cpp, compiled plainly and with the thread sanitizer."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler")
@pytest.mark.parametrize("sanitizer", [None, "thread"])
def test_pool(sanitizer, tmp_path):
    program = tmp_path / "pool_check"
    flags = ["-std=c++20", "-O1", "-g", "-pthread", "-Wall", "-Wextra", f"-I{CSRC}"]
    flags += [f"-fsanitize={sanitizer}"] if sanitizer else []
    sources = [str(HERE / "pool_check.cpp"), str(CSRC / "parallel.cpp")]
    built = subprocess.run(
        [COMPILER, *flags, *sources, "-o", str(program)], capture_output=True, text=True, check=False
    )
    if sanitizer and built.returncode != 0:
        pytest.skip("this compiler has no thread sanitizer")
    assert built.returncode == 0, built.stderr
    assert not built.stderr
    command = [str(program)]
    if sanitizer:
        command.append("nofork")  # the sanitizer itself does not survive it
        if setarch := shutil.which("setarch"):
            command = [setarch, platform.machine(), "-R", *command]  # it needs its addresses free
    done = subprocess.run(
        command,
        env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "ok\n", done.stderr
    assert done.returncode == 0, done.stderr
