"""A tenth of the mistakes of the dictionaries goes through the whole check: each is found, named, and its line told.

benchmarks/check_faults.py does so with all of them; what counts as named is written there.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xhat.verify.faults import DICTIONARIES, faults_of

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "check_faults.py"
SLOW = {"spatial_batch_norm": 60, "group_norm": 60, "instance_norm": 60, "conv": 20}  # every so many
TENTH = [
    fault
    for number, fault in enumerate(f for layer in DICTIONARIES for f in faults_of(layer) if not f.harmless)
    if number % SLOW.get(fault.layer, 10) == 4
]
# Another line is told than that which was changed: in loops it is the one that stores the result, and where two lines
# are wrong, putting one right changes nothing.
ELSEWHERE: set[tuple[str, str]] = set()


@pytest.fixture(scope="module")
def script():
    """The benchmark, as a module."""
    spec = importlib.util.spec_from_file_location("check_faults", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("fault", TENTH, ids=lambda fault: f"{fault.layer}-{fault.side}-{fault.key}")
def test_found_named_and_located(fault, script):
    row = script.judged(fault.layer, fault)
    assert row.found, fault.message
    assert row.named, fault.message
    assert row.located or (fault.layer, fault.key) in ELSEWHERE, fault.edits


@pytest.mark.parametrize("layer", DICTIONARIES)
def test_right_code_raises_no_alarm(layer, script):
    row = script.judged(layer, None)
    assert not row.found
    assert not row.located


@pytest.mark.parametrize(
    "fault",
    [next(fault for fault in faults_of(layer) if fault.harmless) for layer in ("batch_norm", "relu")],
    ids=lambda fault: fault.layer,
)
def test_a_mistake_that_changes_nothing_raises_no_alarm(fault, script):
    assert not script.judged(fault.layer, fault).found


def test_another_message_does_not_count_as_its_name(script, monkeypatch):
    """Were the report silent on the reason, the mistake would be found and not named."""
    fault = next(fault for fault in faults_of("hinge_loss") if fault.key == "count_missing")
    assert script.judged("hinge_loss", fault).named == "message"
    monkeypatch.setattr(script.checking, "diagnose", lambda *_: [])
    monkeypatch.setattr(script.checking, "first_wrong_line", lambda *_, **__: None)
    row = script.judged("hinge_loss", fault)
    assert row.found
    assert not row.named


def test_the_page_shows_what_the_command_says():
    page = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
    told = page.partition("<!-- check:")[2].partition("```text\n")[2].partition("```")[0]
    command = [sys.executable, "-m", "xhat", "check", "examples/homework.py", "--pair", "batchnorm"]
    environment = {**os.environ, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1, done.stderr
    assert told == done.stdout
