import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xhat.cli.outcome import number, rate, score


@given(st.floats(-1e300, 1e300))
def test_a_number_keeps_its_size_and_stays_short(value):
    shown = number(value)
    assert len(shown) <= 12
    assert float(shown) == pytest.approx(value, rel=1e-3, abs=1e-4 if 1e-3 <= abs(value) < 1e6 else 0.0)


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (number(0.0), "0.0000"),
        (number(0.12345), "0.1235"),
        (number(1e-5), "1.000e-05"),
        (number(-2.5e7), "-2.500e+07"),
        (number(math.nan), "–"),
        (number(math.inf), "inf"),
        (score("accuracy", 0.98765), "98.77 %"),
        (score("accuracy", math.nan), "–"),
        (score("R²", 0.98765), "0.9877"),
        (rate(45123.4), "45,123"),
        (rate(math.nan), "–"),
    ],
)
def test_how_numbers_are_written(shown, wanted):
    assert shown == wanted
