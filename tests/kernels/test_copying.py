"""The streaming copy: every entry, whatever the alignment, and nothing beside."""

import numpy as np
import pytest

from xhat import kernels

pytestmark = pytest.mark.skipif(not kernels.native, reason="no native module")


@pytest.mark.parametrize("variant", kernels.VARIANTS[1:])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 3])
def test_it_copies(variant, dtype, threads):
    rng = np.random.default_rng(0)
    before = kernels.get_num_threads()
    kernels.set_num_threads(threads)
    try:
        with kernels.use(variant):
            for size in (0, 1, 2, 7, 15, 16, 17, 1009, 70_001, 300_007):
                for start in (0, 1, 3):
                    x = rng.standard_normal(size + start).astype(dtype)
                    out = np.full(size + start + 17, np.nan, dtype)
                    kernels.native.copy(x[start:], out[start : start + size])
                    np.testing.assert_array_equal(out[start : start + size], x[start:])
                    assert np.isnan(out[:start]).all()
                    assert np.isnan(out[start + size :]).all()
    finally:
        kernels.set_num_threads(before)


@pytest.mark.parametrize(
    ("x", "out", "error", "told"),
    [
        (np.zeros((2, 2)), np.zeros((2, 2)), ValueError, "copy: expected x of shape (size,), got (2, 2). Reshape it."),
        (np.zeros(4), np.zeros(5), ValueError, "copy: expected out of shape (4,), got (5,). Make it fit x."),
        (
            np.zeros(4),
            np.zeros(4, np.float32),
            TypeError,
            "copy: expected out of float64, got float32. Convert it with astype.",
        ),
    ],
)
def test_refused(x, out, error, told):
    with pytest.raises(error) as raised:
        kernels.native.copy(x, out)
    assert str(raised.value) == told


def test_overlap_is_refused():
    x = np.zeros(9)
    with pytest.raises(ValueError, match="copy: expected out to share no memory with x, got overlapping arrays"):
        kernels.native.copy(x[:8], x[1:])
    frozen = np.zeros(4)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="copy: expected out to be writable"):
        kernels.native.copy(np.ones(4), frozen)
