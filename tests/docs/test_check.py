"""The README shows what `xhat check` really says of the example."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def shown() -> str:
    """Run the command as a reader would, on a terminal of 100 columns."""
    command = [sys.executable, "-m", "xhat", "check", "examples/homework.py"]
    environment = {**os.environ, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1, done.stderr
    return done.stdout


def test_the_readme_shows_what_the_command_says() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    block = page.partition("<!-- check:")[2].partition("<!-- /check -->")[0]
    told = block.partition("```text\n")[2].partition("```")[0]
    assert told == shown()
