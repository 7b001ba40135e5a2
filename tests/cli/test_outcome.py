import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from xhat.cli.outcome import number, probabilities, rate, score

SCORES = arrays.arrays(
    np.float64,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-1e6, 1e6),
)


@given(SCORES)
def test_probabilities_add_up_to_1_and_keep_the_order(scores):
    chances = probabilities(scores)
    np.testing.assert_allclose(chances.sum(1), 1.0, rtol=1e-12)
    assert ((chances >= 0) & (chances <= 1)).all()
    for row, chance in zip(scores, chances, strict=True):
        assert (np.diff(chance[np.argsort(row)]) >= 0).all()


def test_probabilities_by_hand():
    chances = probabilities([[0.0, math.log(3.0)], [1000.0, -1000.0]])
    np.testing.assert_allclose(chances, [[0.25, 0.75], [1.0, 0.0]], rtol=1e-15)


def test_probabilities_of_no_rows():
    assert probabilities(np.empty((0, 3))).shape == (0, 3)


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
