"""The table of normalizations promises what a test shows: every cell leads to one that is there."""

import re
from pathlib import Path

import pytest
from tests.contract import contract

from xhat.layers import LAYERS

PAGE = Path(__file__).parents[2] / "docs" / "normalizations.md"
CELLS = sorted(set(re.findall(r'\]\(([^) ]+) "([^"]+)"\)', PAGE.read_text())))
CASES = {str(case) for layer in LAYERS for case in contract.cases_of(layer)}


def test_the_table_is_read():
    assert len(CELLS) > 40


@pytest.mark.parametrize(("link", "name"), CELLS)
def test_a_cell_leads_to_a_test(link, name):
    file = (PAGE.parent / link).resolve()
    assert file.exists()
    if name.startswith("test_"):
        assert f"\ndef {name}(" in file.read_text()
    else:
        assert file.name == "test_layers.py"
        assert name in CASES
