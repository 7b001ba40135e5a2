"""Layer norm and RMS norm of x + residual: the values of the sum alone, and its gradient."""

import numpy as np
import pytest
from tests.contract.contract import MESSAGE

import xhat
from xhat import kernels

NORMS = [xhat.layer_norm, xhat.rms_norm]
SHAPES = [
    ((5, 7), -1),
    ((2, 3, 8), -1),
    ((3, 4, 5), (1, 2)),
    ((4, 6), 0),
    ((1, 4), 0),
    ((3, 1), -1),
    ((0, 3), -1),
    ((70, 1031), -1),
]


@pytest.fixture(params=sorted({"reference", kernels.VARIANTS[-1]}))
def variant(request):
    with kernels.use(request.param):
        yield request.param


def features_of(shape, axis):
    axes = sorted(i % len(shape) for i in np.atleast_1d(axis))
    return tuple(shape[i] for i in axes), [1 if i not in axes else n for i, n in enumerate(shape)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__name__.rpartition(".")[2])
def test_the_sum_is_what_is_normalized(norm, shape, axis, dtype, bias, variant):
    rng = np.random.default_rng(1)
    features, along = features_of(shape, axis)
    x = rng.standard_normal(shape).astype(dtype)
    residual = rng.normal(2, 3, features if bias else shape).astype(dtype)
    gamma = rng.standard_normal(features)
    before = x.copy(), residual.copy()
    y, cache = norm.forward(x, gamma, axis=axis, residual=residual)
    total = x + (residual.reshape(along) if bias else residual)
    wanted, right = norm.forward(total, gamma, axis=axis)
    assert np.array_equal(cache.x, total)
    assert cache.x.dtype == dtype
    assert np.array_equal(y, wanted)
    assert all(np.array_equal(a, b) for a, b in zip(cache[1:], right[1:], strict=True) if a is not None)
    assert np.array_equal(x, before[0])
    assert np.array_equal(residual, before[1])

    dy, also = rng.standard_normal((2, *shape)).astype(dtype)
    plain, together = norm.backward(dy, cache), norm.backward(dy, cache, also=also)
    for got, wanted in zip(together[1:], plain[1:], strict=True):
        assert (got is None and wanted is None) or np.array_equal(got, wanted)
    assert together.dx.dtype == dtype
    size = max(1.0, np.abs(plain.dx).max(initial=0))
    error = np.abs(together.dx.astype(np.float64) - plain.dx - also).max(initial=0)
    assert error <= 2 * size * np.finfo(dtype).eps, f"{error:.1e} beside {size:.1e}"


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__name__.rpartition(".")[2])
def test_gradients_of_a_block_are_right(norm, variant):
    """z = norm(x + r) . u + (x + r) . v, along random directions of x, a residual and a bias."""
    rng = np.random.default_rng(2)
    x, residual, u, v = rng.standard_normal((4, 6, 5))
    gamma, bias = rng.standard_normal((2, 5))

    def loss(x, residual):
        y, _ = norm.reference_forward(x + residual, gamma, *([None] if norm is xhat.layer_norm else []), 1e-5, -1)
        return (y * u).sum() + ((x + residual) * v).sum()

    for added in (residual, bias):
        _, cache = norm.forward(x, gamma, residual=added)
        dx = norm.backward(u, cache, also=v).dx
        for gradient, others in ((dx, (x,)), (dx if added is residual else dx.sum(0), (added,))):
            direction = rng.standard_normal(others[0].shape)
            moved = (x + 1e-30j * direction, added) if others[0] is x else (x, added + 1e-30j * direction)
            slope = loss(*moved).imag / 1e-30
            assert abs(slope - (gradient * direction).sum()) < 1e-12 * max(1, abs(slope))


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__name__.rpartition(".")[2])
def test_messages(norm):
    who, x = norm.__name__.rpartition(".")[2], np.ones((2, 3))
    wrong = [
        (lambda: norm.forward(x, residual=np.ones(2)), ValueError, "residual of shape (2, 3) or (3,), got (2,)"),
        (lambda: norm.forward(x, residual=np.ones((2, 3), int)), TypeError, "residual of type"),
        (lambda: norm.forward(x, residual=x, out=x), ValueError, "out apart from the inputs"),
        (lambda: norm.backward(x, norm.forward(x)[1], also=np.ones(3)), ValueError, "also of shape (2, 3), got (3,)"),
        (lambda: norm.backward(x, norm.forward(x)[1], also="a"), TypeError, "also of type"),
        (lambda: norm.forward(x, epilogue=True), TypeError, "epilogue as kernels.fused.Epilogue, got bool"),
    ]
    for call, kind, words in wrong:
        with pytest.raises(kind, match=MESSAGE) as error:
            call()
        assert str(error.value).startswith(who)
        assert words in str(error.value)


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__name__.rpartition(".")[2])
def test_a_bias_shows_whatever_lies_in_out(norm):
    """`out` that shares memory with the residual is refused; a residual that does with x is not."""
    x = np.random.default_rng(3).standard_normal((4, 5))
    y, cache = norm.forward(x, residual=x)
    assert np.array_equal(cache.x, 2 * x)
    room = np.empty_like(x)
    z, _ = norm.forward(x, residual=x, out=room)
    assert z is room
    assert np.array_equal(y, z)
    with pytest.raises(ValueError, match="out apart"):
        norm.forward(x, residual=room, out=room)
