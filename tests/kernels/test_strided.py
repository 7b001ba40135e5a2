"""The rows loop on views: the bits of the contiguous copy, written where they belong, and nothing copied in vain."""

import numpy as np
import pytest

from xhat import kernels
from xhat.kernels import strided

pytestmark = pytest.mark.skipif(len(kernels.VARIANTS) == 1, reason="needs the native module")

VIEWS = {
    "as it lies": lambda values: values,
    "last axis second": lambda values: np.moveaxis(values, -1, 1),
    "first two exchanged": lambda values: np.moveaxis(values, 0, 1),
    "reversed": lambda values: values[::-1, :, ::-1],
    "every other": lambda values: values[:, ::2],
    "split": lambda values: np.moveaxis(values, -1, 1).reshape(values.shape[0], 2, -1, *values.shape[1:-1]),
}


@pytest.fixture(params=VIEWS.values(), ids=list(VIEWS))
def view(request):
    return request.param


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_view_gives_the_bits_of_its_copy(view, kept, centred, dtype):
    rng = np.random.default_rng(0)
    x, dy = (view(values) for values in rng.standard_normal((2, 6, 4, 3, 2)).astype(dtype))
    whole_y, whole_dx = np.full((2, 6, 4, 3, 2), np.nan, dtype)
    y, dx = view(whole_y), view(whole_dx)
    groups, entries = (1, *x.shape)[kept], (*x.shape, 1)[kept]
    gamma, beta = rng.standard_normal((2, groups * entries)).astype(np.float32)

    statistics = strided.rows_forward(x, gamma, beta, 1e-5, y, kept=kept, shape=(groups, entries), centred=centred)
    dgamma, dbeta = strided.rows_backward(dy, x, gamma, statistics, dx, shape=(groups, entries), centred=centred)

    rows = int(np.prod(x.shape[:kept]))
    wide_gamma, wide_beta = (values.reshape(groups, entries).astype(np.float64) for values in (gamma, beta))
    flat_x, flat_dy = (np.ascontiguousarray(values).reshape(rows, -1) for values in (x, dy))
    true_y, true_dx = np.empty_like(flat_x), np.empty_like(flat_x)
    true = kernels.rows_forward(flat_x, wide_gamma, wide_beta, 1e-5, true_y, centred=centred)
    true_gradients = kernels.rows_backward(
        flat_dy, flat_x, wide_gamma, true, true_dx, shape=(groups, entries), centred=centred
    )

    assert np.array_equal(y, true_y.reshape(x.shape))
    assert np.array_equal(dx, true_dx.reshape(x.shape))
    assert np.isnan(whole_y).sum() == whole_y.size - y.size
    for got, flat in zip(statistics, true, strict=True):
        assert got.shape == x.shape[:kept]
        assert np.array_equal(got.reshape(-1), flat)
    for got, flat in zip((dgamma, dbeta), true_gradients, strict=True):
        assert got.shape == (groups, entries)
        assert np.array_equal(got, flat)


def test_what_lies_right_is_not_copied(monkeypatch):
    seen = []
    right = kernels.rows_forward
    monkeypatch.setattr(kernels, "rows_forward", lambda *args, **kwargs: seen.append(args) or right(*args, **kwargs))
    x, y = np.random.default_rng(0).standard_normal((2, 6, 4, 3))
    strided.rows_forward(x, None, None, 1e-5, y, kept=2, shape=(1, 3))
    assert np.shares_memory(seen[0][0], x)
    assert np.shares_memory(seen[0][4], y)
