"""A sample of the mistakes of the dictionaries goes through the whole check: each is found, named, and its line told.

benchmarks/check_faults.py does so with all of them; what counts as named is written there.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xhat.verify.faults import DICTIONARIES, faults_of
from xhat.verify.report import FileReport, PairReport, Verdict, Word

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "check_faults.py"
SLOW = {"batch_norm": 20, "layer_norm": 20, "max_pool": 20, "conv": 40}  # every so many
SLOW |= dict.fromkeys(("spatial_batch_norm", "group_norm", "instance_norm"), 80)
SAMPLE = [
    fault
    for number, fault in enumerate(f for layer in DICTIONARIES for f in faults_of(layer) if not f.harmless)
    if number % SLOW.get(fault.layer, 10) == 4
]
# Another line is told than that which was changed: in loops it is the one that stores the result, and where two lines
# are wrong, putting one right changes nothing.
ELSEWHERE = {
    ("batch_norm", "eps_missing_everywhere"),
    ("conv", "dx_without_w"),
    ("dropout", "mode_ignored"),
    ("max_pool", "spread"),
    ("softmax_cross_entropy", "jacobian_diagonal"),
    ("softmax_cross_entropy", "one_subtracted_early"),
    ("spatial_batch_norm", "bn_param_copied"),
}


@pytest.fixture(scope="module")
def script():
    """The benchmark, as a module."""
    spec = importlib.util.spec_from_file_location("check_faults", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("fault", SAMPLE, ids=lambda fault: f"{fault.layer}-{fault.side}-{fault.key}")
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


def test_that_something_is_wrong_does_not_count_as_its_name(script, monkeypatch):
    verdict = Verdict("dx", Word.DISPROVED, "this is not the gradient of your forward", 3)
    report = FileReport("layers.py", [PairReport("relu", [verdict])])
    monkeypatch.setattr(script, "checked", lambda *_: report)
    fault = next(fault for fault in faults_of("relu") if not fault.harmless)
    row = script.judged("relu", fault)
    assert row.found
    assert not row.named
    assert not row.located


def test_the_page_shows_what_the_command_says():
    page = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
    told = page.partition("<!-- check:")[2].partition("```text\n")[2].partition("```")[0]
    command = [sys.executable, "-m", "xhat", "check", "examples/homework.py", "--pair", "batchnorm"]
    environment = {**os.environ, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1, done.stderr
    assert told == done.stdout
