"""Centred differences, in place."""

import inspect

import numpy as np
import pytest

from xhat.cs231n import gradient_check
from xhat.cs231n.gradient_check import *  # noqa: F403


def test_names_and_arguments():
    for name, arguments in {
        "eval_numerical_gradient": "f, x, verbose=True, h=1e-05",
        "eval_numerical_gradient_array": "f, x, df, h=1e-05",
        "eval_numerical_gradient_blobs": "f, inputs, output, h=1e-05",
        "eval_numerical_gradient_net": "net, inputs, output, h=1e-05",
        "grad_check_sparse": "f, x, analytic_grad, num_checks=10, h=1e-05",
    }.items():
        parameters = inspect.signature(getattr(gradient_check, name)).parameters.values()
        assert ", ".join(str(p.replace(annotation=p.empty)) for p in parameters) == arguments


def test_gradient_of_a_number(capsys):
    x = np.random.randn(3, 2)
    kept = x.copy()
    got = eval_numerical_gradient(lambda _: (x**3).sum(), x)  # reads the live array
    assert np.allclose(got, 3 * x**2, rtol=1e-7)
    assert np.array_equal(x, kept)
    assert len(capsys.readouterr().out.splitlines()) == 6
    eval_numerical_gradient(lambda a: a.sum(), x, verbose=False, h=0.5)
    assert capsys.readouterr().out == ""
    coarse = eval_numerical_gradient(lambda a: (a**3).sum(), x, verbose=False, h=0.5)
    assert np.allclose(coarse, 3 * x**2 + 0.25)


def test_gradient_of_an_array_also_where_f_gives_one_array_again():
    x, df, out = np.random.randn(4), np.random.randn(4), np.empty(4)

    def f(a):
        np.sin(a, out=out)
        return out

    assert np.allclose(eval_numerical_gradient_array(f, x, df), np.cos(x) * df, rtol=1e-7)
    strided = np.random.randn(4, 2)[:, 0]
    assert np.allclose(eval_numerical_gradient_array(np.sin, strided, df), np.cos(strided) * df, rtol=1e-7)


class Blob:
    def __init__(self, shape):
        self.vals, self.diffs = np.random.randn(*shape), np.random.randn(*shape)


class Product:
    def __init__(self):
        self.a, self.b, self.out = Blob((2, 3)), Blob((3, 4)), Blob((2, 4))

    def forward(self):
        self.out.vals[...] = self.a.vals @ self.b.vals


def test_blobs_and_nets():
    net = Product()
    true = net.out.diffs @ net.b.vals.T, net.a.vals.T @ net.out.diffs

    def f(a, b, out):
        out.vals = a.vals @ b.vals

    for got in (
        eval_numerical_gradient_blobs(f, (net.a, net.b), net.out),
        eval_numerical_gradient_net(net, [net.a, net.b], net.out),
    ):
        for gradient, expected in zip(got, true, strict=True):
            assert np.allclose(gradient, expected, rtol=1e-7)


def test_sparse_check_prints(capsys):
    x = np.random.randn(5, 4) + 3
    assert grad_check_sparse(lambda a: (a**2).sum(), x, 2 * x, num_checks=4) is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(float(line.rsplit(" ")[-1]) < 1e-7 for line in lines)
    assert lines[0].startswith("numerical: ")
    grad_check_sparse(lambda a: (a**2).sum(), x, 3 * x, num_checks=1)
    assert float(capsys.readouterr().out.rsplit(" ")[-1]) == pytest.approx(0.2, rel=1e-4)
    grad_check_sparse(lambda a: 1.0, x, 0 * x, num_checks=1)
    assert capsys.readouterr().out.endswith("relative error: 0.000000e+00\n")


def test_arrays_are_restored_after_an_error_and_integers_refused():
    x = np.ones(3)

    def fails(a):
        if (a != 1).any():
            raise RuntimeError

    with pytest.raises(RuntimeError):
        eval_numerical_gradient(fails, x)
    assert np.array_equal(x, [1, 1, 1])
    with pytest.raises(TypeError, match="eval_numerical_gradient: expected x as a floating array, got int64"):
        eval_numerical_gradient(np.sum, np.arange(3))
    with pytest.raises(TypeError, match="eval_numerical_gradient_array: expected x as a floating array, got list"):
        eval_numerical_gradient_array(np.sum, [1.0], 1)
