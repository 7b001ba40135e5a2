# ruff: noqa: NPY002  the old generator is modelled too

import functools
import math
import random

import numpy as np
import pytest

from xhat.verify.exact.namespace import ExactArray, ExactWorld, exact_array
from xhat.verify.exact.numbers import Field, Num, Rationals, random_prime
from xhat.verify.problem import Unsupported
from xhat.verify.rebind import rebind

X = np.array([[1.5, -2.0, 0.25], [0.75, 3.0, -1.0], [4.0, 0.5, 2.5], [-0.5, 1.25, 1.0]])
W = np.array([[0.5, -1.0], [2.0, 0.25], [1.0, 3.0]])
T = np.arange(24.0).reshape(2, 3, 4) - 7.5


def as_floats(value):
    if isinstance(value, tuple | list):
        return [as_floats(item) for item in value]
    if isinstance(value, Num):
        return value.real()
    if isinstance(value, np.ndarray) and value.dtype == object:
        return np.array([e.real() if isinstance(e, Num) else e for e in value.flat], float).reshape(value.shape)
    return np.asarray(value) if isinstance(value, np.ndarray) else value


def in_place(x):
    y = x
    y -= 1
    y *= x
    y /= 2
    y[0] = 5
    y[y > 2] = 0.5
    y[:, 1] += x[:, 0]
    return x


def through_views(x):
    flat = x.reshape(-1)
    flat[2:4] *= 3
    x.T[0] -= 1
    row = x[1]
    row += 2
    return x


def copies(x):
    y, z, c = x.copy(), np.array(x), np.asarray(x)
    y += 1
    z *= 2
    c += 7
    return x, y, z


def scattered(x):
    out = np.zeros((3, 3))
    np.add.at(out, np.array([0, 1, 0, 2]), x)
    return out


def best(x):
    largest = -np.inf
    for value in x.ravel():
        if value > largest:
            largest = value
    return largest, max(-np.inf, x[0, 0]), np.maximum(-np.inf, x)


SAME = {
    "creation": lambda x, w, t: (
        np.zeros((2, 3)),
        np.ones(3),
        np.full((2,), 0.5),
        np.zeros_like(x),
        np.ones_like(x),
        np.full_like(x, 2),
        np.arange(5),
        np.arange(1.0, 3.0),
        np.eye(3),
        np.identity(2),
        np.array([1.5, 2]),
        np.array([[x[0, 0], 1]]),
        np.array([x[0], x[1]]),
        np.asarray(x),
        np.ones((2, 2), dtype=int),
        np.zeros(2, dtype=bool),
        np.zeros(3, dtype=x.dtype),
        np.zeros(2, np.float32),
    ),
    "integers stay integers": lambda x, w, t: (
        np.arange(6) * 2 + 1,
        np.arange(6) // 4,
        np.arange(6) % 4,
        np.arange(3) ** 2,
    ),
    "sums": lambda x, w, t: (
        x.sum(),
        np.sum(x),
        x.sum(0),
        np.sum(x, axis=1),
        x.sum(axis=-1, keepdims=True),
        t.sum(axis=(0, 2)),
        np.sum(t, (0, 2), keepdims=True),
        sum(x),
        np.add.reduce(x, axis=1),
        np.prod(w, axis=0),
        w.prod(),
        np.cumsum(x, axis=1),
        np.sum([1, 2, x[0, 0]]),
        np.sum(x > 0),
        (x > 0).sum(axis=0),
        np.sum(x[:0], axis=0),
        x[:0].sum(),
        math.prod([1, x[0, 0], 3]),
    ),
    "moments": lambda x, w, t: (
        x.mean(),
        np.mean(x, axis=0),
        t.mean(axis=(0, 2), keepdims=True),
        np.var(x, axis=0),
        x.var(1, ddof=1),
        np.var(t, axis=(0, 1)),
        (x > 0).mean(axis=0),
        np.mean([1, 2, 4]),
        np.var(np.arange(4)),
        np.mean(np.arange(3)),
    ),
    "extremes": lambda x, w, t: (
        x.max(),
        np.max(x, axis=1, keepdims=True),
        x.min(0),
        np.amin(x),
        x.argmax(),
        np.argmax(x, axis=1),
        np.argmin(x, 0),
        np.sort(x, 1),
        np.argsort(x, axis=0),
        max(x[0]),
        min(x[1]),
        abs(x),
        np.sign(x),
        np.clip(x, 0, 2),
        x.clip(0),
        np.maximum(x, 0),
        np.minimum(1.5, x),
        np.maximum(x, x[0]),
        np.fmod if False else 0,
    ),
    "elementwise": lambda x, w, t: (
        x + 1,
        1 - x,
        2 * x,
        x / 3,
        1 / x,
        -x,
        +x,
        x**2,
        x**3,
        x**-1,
        x**0,
        np.power(x, 2),
        np.square(x),
        np.reciprocal(x),
        np.negative(x),
        np.add(x, x),
        np.multiply(x, 0.5),
        np.divide(x, 4),
        np.true_divide(x, 4),
        np.subtract(1, x),
        x * x[0],
        np.abs(x),
        np.float64(2) * x,
        x * np.float32(0.5),
        np.int64(3) + x,
        True * x,
        0.5 * np.arange(3),
        np.arange(3) / 3,
        np.square(x)[0, 0],
    ),
    "comparisons": lambda x, w, t: (
        x > 0,
        x >= 1.5,
        x < 0.5,
        x <= x[0],
        x == 0.5,
        x != 0.5,
        (x > 0) & (x < 2),
        ~(x > 0),
        (x > 0) | (x < -1),
        np.logical_and(x > 0, x < 2),
        np.logical_not(x > 0),
        np.any(x > 3),
        np.all(x > -5, axis=0),
        (x > 0).any(),
        (x > 0) * 2.5,
        (x > 0) / 0.8,
        (x > 0).astype(float) / 3,
        (x > 0).astype(int),
        x.astype(bool),
        np.count_nonzero(x > 0),
        np.isnan(x),
        np.isfinite(x),
        1.0 * (x > 0),
    ),
    "shapes": lambda x, w, t: (
        x.T,
        x.reshape(2, 6),
        x.reshape(-1),
        np.reshape(x, (3, 4)),
        x.ravel(),
        x.flatten(),
        np.transpose(t, (2, 0, 1)),
        t.transpose(1, 0, 2),
        t.swapaxes(0, 1),
        np.moveaxis(t, 0, -1),
        x[:, None],
        x[:, np.newaxis, :],
        np.expand_dims(x, 0),
        np.squeeze(x[:, :1]),
        np.broadcast_to(x[0], (2, 3)),
        np.atleast_2d(x[0]),
        np.flip(x, 1),
        np.tile(x, (2, 1)),
        np.repeat(x, 2, axis=0),
        np.roll(x, 1, axis=0),
        x[::-1, 1:],
        x[[0, 2]],
        x[np.arange(3), np.array([0, 1, 2])],
        x.T.reshape(2, -1),
        x.reshape((2, 6), order="F"),
        np.take(x, [0, 1], axis=1),
        t[..., 0],
    ),
    "joined and split": lambda x, w, t: (
        np.concatenate([x, x], axis=1),
        np.concatenate((x, np.zeros((1, 3)))),
        np.stack([x[0], x[1]]),
        np.vstack([x, [1, 2, 3]]),
        np.hstack((x, x)),
        np.pad(x, ((1, 0), (0, 2)), mode="constant"),
        np.pad(x, 1, "constant", constant_values=0.5),
        np.split(x, 2),
        np.column_stack([x, x]),
        np.array_split(x, 3, axis=1),
        np.append(x, x),
        np.tril(x),
        np.diag(x[0]),
        np.diag(x),
    ),
    "products": lambda x, w, t: (
        x @ w,
        x.dot(w),
        np.dot(x, w),
        np.matmul(x, w),
        np.outer(x[0], w[:, 0]),
        np.inner(x, x),
        np.vdot(x, x),
        np.tensordot(t, x, axes=([1], [1])),
        np.tensordot(x, w, 1),
        np.einsum("nd,dm->nm", x, w),
        np.einsum("ij,ij->i", x, x, optimize=True),
        np.einsum("ijk->ik", t),
        np.einsum("...d,d", x, x[0]),
        np.dot(x[0], x[1]),
        x[0] @ x[1],
        np.multiply.outer(x[0], x[1]),
        np.trace(x[:3]),
        t @ t.swapaxes(1, 2),
        np.dot((x > 0).T, x),
        np.dot(x, 2),
        np.ones((1, 4)).dot(x),
        np.linalg.norm(np.array([3.0, 4.0])),
        np.einsum("ii->i", x[:3]),
        np.arange(4) @ x,
    ),
    "chosen": lambda x, w, t: (
        np.where(x > 0, x, 0),
        np.where(x > 0, 1.0, 0.5),
        np.where(x > 0)[0],
        np.nonzero(x > 1),
        np.unravel_index(5, (4, 3)),
        list(np.ndindex(2, 2)),
        np.argwhere(x > 1),
        np.where(x > 0, 1, 2),
    ),
    "roots": lambda x, w, t: (
        np.sqrt(np.square(x)),
        (x * x) ** 0.5,
        (x * x) ** -0.5,
        np.sqrt(4),
        np.sqrt(0.25),
        math.sqrt(9),
        math.sqrt(x[0, 0] ** 2),
        np.std([1.0, 3.0]),
        np.std(np.array([[1.0, 3.0], [2.0, 6.0]]), axis=1),
    ),
    "counts": lambda x, w, t: (
        len(x),
        x.shape,
        x.size,
        x.ndim,
        float(x.shape[0]),
        int(2.0),
        np.size(x),
        np.shape(x),
        np.prod(x.shape),
        np.prod(x.shape[1:]),
        np.ndim(t),
        isinstance(x, np.ndarray),
        math.floor(2.5),
        x[0, 0].ndim,
        np.isscalar(2.0),
    ),
    "averages": lambda x, w, t: (
        np.average(x),
        np.average(x, axis=0),
        np.average(x, axis=1, weights=x * x),
        np.take_along_axis(x, np.array([[0], [1], [2], [0]]), axis=1),
        f"{x[0, 0]:.3f}",
    ),
    "in place": lambda x, w, t: in_place(x),
    "through views": lambda x, w, t: through_views(x),
    "copies": lambda x, w, t: copies(x),
    "scattered": lambda x, w, t: scattered(x),
    "best": lambda x, w, t: best(x),
    "windows": lambda x, w, t: (
        np.lib.stride_tricks.as_strided(x, (2, 3, 2), (x.strides[0], x.strides[1], x.strides[0])),
        np.lib.stride_tricks.sliding_window_view(x, (2, 2)),
    ),
    "numpy's constants": lambda x, w, t: (
        x.astype(np.float64).astype("float32", copy=False) + np.float64(1) + np.asarray(x, dtype=float)
    ),
}


@functools.cache
def rings():
    return Rationals(), Field(random_prime(61, random.Random(1)))


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("kind", [0, 1], ids=["rationals", "prime field"])
def test_as_numpy_does(name, kind):
    ring = rings()[kind]
    if name == "roots" and kind:
        pytest.skip("a root of a square has a sign that the field does not know")
    given = [x.copy() for x in (X, W, T)]
    exact = [exact_array(x, ring) for x in given]
    expected = SAME[name](*given)
    found = rebind(SAME[name], ExactWorld(ring))(*exact)
    for one, other in zip(*(v if isinstance(v, tuple) else (v,) for v in (found, expected)), strict=True):
        one, other = as_floats(one), as_floats(other)
        if isinstance(other, str):
            assert one == other
        elif isinstance(other, list | tuple):
            assert len(one) == len(other)
            for a, b in zip(one, other, strict=True):
                np.testing.assert_allclose(as_floats(a), b, rtol=1e-12, atol=1e-14)
        else:
            assert np.shape(one) == np.shape(other)
            assert np.asarray(one).dtype.kind in np.asarray(other).dtype.kind + "f"
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    for one, other in zip(exact, given, strict=True):
        np.testing.assert_allclose(as_floats(one), other, rtol=1e-12)


REFUSED = {
    "np.fft.fft": lambda x: np.fft.fft(x),
    "np.linspace": lambda x: np.linspace(0, 1, 3),
    "np.pi": lambda x: np.pi,
    "np.e": lambda x: np.e,
    "np.linalg.inv": lambda x: np.linalg.inv(x),
    "np.median": lambda x: np.median(x),
    "np.sin": lambda x: np.sin(x),
    "np.random.choice": lambda x: np.random.choice(3),
    "np.round": lambda x: np.round(x),
    "np.vectorize": lambda x: np.vectorize(abs)(x),
    "np.add with where=": lambda x: np.add(x, x, where=False),
    "np.add with casting=": lambda x: np.add(x, x, casting="no"),
    "np.einsum with out=": lambda x: np.einsum("ij->i", x, out=x[:, 0]),
    "np.sum with out=": lambda x: x.sum(0, out=x[0]),
    "np.max with initial=": lambda x: x.max(initial=0),
    "np.mean with dtype=int64": lambda x: x.mean(dtype=np.int64),
    "np.add with dtype=": lambda x: np.add(x, x, dtype=np.int64),
    "np.divide.reduce": lambda x: np.divide.reduce(x),
    "the method view": lambda x: x.view(float),
    "the method round": lambda x: x.round(2),
    "rounding to integers": lambda x: x.astype(np.int32),
    "rounding to a float": lambda x: float(x[0, 0]),
    "rounding": lambda x: int(x[0, 0]),
    "the power 1/3": lambda x: x ** (1 / 3),
    "a power with an exponent": lambda x: 2 ** x[0, 0],
    "is not a number": lambda x: x + np.inf,
    "complex": lambda x: np.zeros(3, dtype=complex),
    "math.erf": lambda x: math.erf(x[0, 0]),
    "exp is not modelled": lambda x: np.exp(x),
    "log is not modelled": lambda x: math.log(x[0, 0]),
    "np.lib.stride_tricks": lambda x: np.lib.stride_tricks.as_strided(x, (2,), (8,), writeable=False),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_modelled_is_refused_by_name(name):
    x = exact_array(X, rings()[0])
    with pytest.raises(Unsupported) as raised:
        rebind(REFUSED[name], ExactWorld(rings()[0]))(x)
    assert name.removesuffix(".fft") in str(raised.value)


def test_windows_stay_inside_the_array():
    with pytest.raises(ValueError, match="past the array"):
        rebind(lambda x: np.lib.stride_tricks.as_strided(x, (9, 9), (8, 96)), ExactWorld(rings()[0]))(
            exact_array(X, rings()[0])
        )


def test_random_numbers_are_the_same_in_every_run():
    def draw():
        first = np.random.rand(3, 2)
        np.random.seed(7)
        rng = np.random.default_rng(1)
        return first, np.random.randn(4), rng.random(3), np.random.randint(5, size=4), rng.uniform(size=2), rng.random()

    world = ExactWorld(rings()[0])
    once, again = rebind(draw, world), rebind(draw, world)
    first = once()
    world.restart()
    for one, other in zip(first, again(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.all(np.asarray(first[0]) < 1)
    assert np.std(np.asarray(first[0])) > 0


def test_entries_are_exact_numbers_whatever_is_written():
    x = exact_array(np.zeros(3), rings()[0])
    x[0], x[1:] = 0.1, [1, np.float64(0.3)]
    assert all(isinstance(entry, Num) for entry in x)
    assert x.sum() == 1.4
    assert type(x[1:].copy() * 2) is ExactArray


def test_integers_do_not_take_exact_numbers():
    ring = rings()[0]
    whole = ExactWorld(ring).modules["numpy"].arange(3)
    with pytest.raises(TypeError):
        whole += exact_array([0.5, 0.5, 0.5], ring)
    with pytest.raises((TypeError, Unsupported)):
        whole[0] = ring(0.5)
