"""The README shows what `xhat check` really says of the example, and docs/check.md names all kinds of findings."""

import ast
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


def test_every_kind_of_finding_is_named() -> None:
    kinds = {
        node.args[0].value
        for file in (ROOT / "src" / "xhat" / "verify").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding"
        if node.args and isinstance(node.args[0], ast.Constant)
    }
    page = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
    assert len(kinds) > 30
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in page] == []
