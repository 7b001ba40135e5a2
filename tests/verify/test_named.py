"""A tenth of the mistakes of the dictionaries goes through the whole check: each is found, named, and its line told.

benchmarks/check_faults.py does so with all of them; what counts as named is written there.
"""

import importlib.util
from pathlib import Path

import pytest

from xhat.verify.faults import DICTIONARIES, faults_of

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "check_faults.py"
TENTH = [
    fault
    for number, fault in enumerate(f for layer in DICTIONARIES for f in faults_of(layer) if not f.harmless)
    if number % 10 == 7
]
# Other lines than those that were changed are told, or none: in loops nothing is looked for below the statement that
# stores the result, and of two wrong lines neither is the first.
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
    assert row.located or (fault.layer, fault.key) in ELSEWHERE, script.changed_lines


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
