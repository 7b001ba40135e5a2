"""The cases that ONNX and torch test their own operators with."""

import warnings

import pytest
from tests.peers import report

pytestmark = pytest.mark.peers

ADVICE = "Look whether something left the suites unseen; if not, write the page again: python -m tests.peers.report"


@pytest.fixture(scope="module")
def suites():
    for package in ("torch", "onnx", "expecttest"):
        pytest.importorskip(package)
    with warnings.catch_warnings():  # those of the suites themselves, while they are made
        warnings.simplefilter("ignore")
        return dict(zip(("onnx", "torch", "errors"), report.run(), strict=True))


@pytest.mark.parametrize("suite", ["onnx", "torch", "errors"])
def test_every_expressible_case_passes(suites, suite):
    outcomes = suites[suite]
    expressible = [outcome for outcome in outcomes if not outcome.lacking]
    wrong = [f"{outcome.case}: {outcome.wrong}" for outcome in expressible if outcome.wrong]
    passed = len(expressible) - len(wrong)
    print(
        f"{suite}: {passed} of {len(expressible)} expressible cases passed, {len(outcomes) - len(expressible)} not expressible"
    )
    assert len(expressible) > 10
    assert not wrong, "\n".join(wrong)


def test_the_page_says_what_was_run(suites):
    """The cases that cannot be expressed are exactly those that docs/peers.md lists."""
    written = report.page(*suites.values())
    assert report.PAGE.read_text() == written, ADVICE
