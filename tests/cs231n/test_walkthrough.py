"""The example runs through, draws its picture, and none of its checks fails."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "cs231n_walkthrough.py"


def test_walkthrough(tmp_path):
    picture = tmp_path / "walkthrough.png"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE), "--short", str(picture)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # small products: threads only get in each other's way
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.endswith("0 checks failed.\n")
    assert done.stdout.count(" ok\n") > 100
    assert picture.read_bytes()[:4] == b"\x89PNG"
