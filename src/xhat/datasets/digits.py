"""The handwritten digits that come with scikit-learn: 1797 pictures of 8 by 8 pixels, 0..16."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from xhat.datasets.dataset import Dataset, pixel_names


def load_named(places: Sequence[Path]) -> Dataset:
    """Load the digits, wherever scikit-learn is; every fifth picture of each digit is for the test."""
    try:
        source = import_module("sklearn.datasets").load_digits()
    except ImportError:
        raise ValueError(
            "datasets.load: expected scikit-learn, which brings 'digits', got no such package. "
            'Install it with: pip install "xhat[cli]"'
        ) from None
    x = np.ascontiguousarray(source.data, np.float32)
    y = np.asarray(source.target, np.int64)
    # No random numbers here: the split is the same on every machine and for every NumPy.
    held_back = np.zeros(len(y), np.bool_)
    for digit in range(10):
        held_back[np.flatnonzero(y == digit)[4::5]] = True
    return Dataset(
        name="digits",
        x=x[~held_back],
        y=y[~held_back],
        x_test=x[held_back],
        y_test=y[held_back],
        classes=tuple("0123456789"),
        features=pixel_names(64),
        image_shape=(8, 8),
    )
