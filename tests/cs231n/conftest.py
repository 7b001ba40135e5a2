import random

import numpy as np
import pytest

from xhat import cs231n


@pytest.fixture(autouse=True)
def global_state():
    """The course draws from global generators, and its year is global: every test begins alike and leaves no trace."""
    kept, kept_too = np.random.get_state(), random.getstate()
    np.random.seed(231)
    random.seed(231)
    yield
    np.random.set_state(kept)
    random.setstate(kept_too)
    cs231n.set_year(2026)
