import numpy as np
import pytest

import xhat


def test_of_training_data():
    rng = np.random.default_rng(0)
    x = (1e6 + rng.standard_normal((500, 3)) * [1, 100, 0]).astype(np.float32)
    layer = xhat.Standardize.of(x)
    y, _ = layer.forward(x.astype(np.float64))
    assert np.abs(y.mean(0)).max() < 1e-9
    assert np.allclose(y.std(0), [1, 1, 0])
    assert layer.state["std"][2] == 1  # what never varies is only centred
    shared = xhat.Standardize.of(x, shared=True)
    assert shared.state["mean"].shape == (1,)
    assert abs(shared.forward(x.astype(np.float64))[0].mean()) < 1e-9


WRONG = [
    (lambda: xhat.Standardize.of(np.zeros((0, 3))),
     "Standardize.of: expected x of shape (N, D), not empty, got (0, 3). Give a table."),
    (lambda: xhat.Standardize.of(np.array([[np.nan]])),
     "Standardize.of: expected finite x, got NaN or Inf. Fill or drop missing values first."),
    (lambda: xhat.Standardize(3).forward(np.zeros((2, 4))),
     "standardize.forward: expected mean of shape (4,), got (3,). Give one mean and one std > 0 per feature, or one for all."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_messages(call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == message
