import ast
import itertools
import subprocess
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhat.verify.repair import Edit, Hints, candidates, edited, repairs, unified_diff
from xhat.verify.source import pairs, read

RIGHT = """\
import numpy as np   # the usual name

def bn_forward(x, gamma, beta, eps=1e-5):
    N, D = x.shape
    mu = np.mean(x, axis=0)
    xmu = x - mu                      # (N, D)
    var = np.mean(xmu ** 2, axis=0)
    std = np.sqrt(var + eps)
    xhat = xmu / std
    out = gamma * xhat + beta
    cache = (xhat, xmu, std, gamma, N)
    return out, cache

def bn_backward(dout, cache):
    # step by step
    xhat, xmu, std, gamma, N = cache
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    dxhat = dout * gamma
    divar = np.sum(dxhat * xmu, axis=0)
    dvar = divar * -0.5 / std ** 3
    dxmu = dxhat / std + 2 * xmu * dvar / N
    dmu = -np.sum(dxmu, axis=0)
    dx = (dxmu   # through the centred values
          + dmu / N)
    return dx, dgamma, dbeta
"""

GRADIENTS = ("dx", "dgamma", "dbeta")

# What was written instead, and which gradients are wrong then.
MISTAKES = {
    "axis": [("dgamma = np.sum(dout * xhat, axis=0)", "dgamma = np.sum(dout * xhat, axis=1)", "dgamma")],
    "axis missing": [("dbeta = np.sum(dout, axis=0)", "dbeta = np.sum(dout)", "dbeta")],
    "mean for sum": [("dbeta = np.sum(dout, axis=0)", "dbeta = np.mean(dout, axis=0)", "dbeta")],
    "keepdims": [("dout * xhat, axis=0)", "dout * xhat, axis=0, keepdims=True)", "dgamma")],
    "gamma twice": [("dgamma = np.sum(dout * xhat", "dgamma = np.sum(dout * xhat * gamma", "dgamma")],
    "gamma at the end": [("np.sum(dout * xhat, axis=0)", "gamma * np.sum(dout * xhat, axis=0)", "dgamma")],
    "another variable": [("np.sum(dout * xhat", "np.sum(dout * xmu", "dgamma")],
    "x_hat missing": [("np.sum(dout * xhat", "np.sum(dout", "dgamma")],
    "gamma missing": [("dxhat = dout * gamma", "dxhat = dout", "dx")],
    "N missing": [("+ dmu / N", "+ dmu", "dx")],
    "N missing in a term": [("* dvar / N", "* dvar", "dx")],
    "N - 1": [("* dvar / N", "* dvar / (N - 1)", "dx")],
    "half missing": [("* -0.5 / std", "* -1 / std", "dx")],
    "half missing as a sign": [("divar * -0.5 / std", "-divar / std", "dx")],
    "sign": [("dmu = -np.sum", "dmu = np.sum", "dx")],
    "sign of a term": [("/ std + 2 * xmu", "/ std - 2 * xmu", "dx")],
    "times for divided": [("dxhat / std + 2", "dxhat * std + 2", "dx")],
    "power": [("std ** 3", "std ** 2", "dx")],
    "no power": [("std ** 3", "std", "dx")],
    "a term too many": [("+ dmu / N)", "+ dmu / N + dxhat)", "dx")],
    "two gradients exchanged": [("return dx, dgamma, dbeta", "return dx, dbeta, dgamma", "dgamma dbeta")],
    "argument changed": [("dxhat = dout * gamma", "dout *= gamma\n    dxhat = dout", "dx")],
    "cache order": [("xhat, xmu, std, gamma, N = cache", "xhat, std, xmu, gamma, N = cache", "dx")],
    "cache too short": [("std, gamma, N)", "std, gamma)", "dx dgamma dbeta")],
    "not in the cache": [
        ("std, gamma, N)", "std, gamma)", "dx dgamma dbeta"),
        ("std, gamma, N = cache", "std, gamma = cache", "dx dgamma dbeta"),
    ],
    "misspelt": [("dxhat / std + 2", "dxhatt / std + 2", "dx dgamma dbeta")],
    "NumPy misspelt": [("dbeta = np.sum(", "dbeta = np.summ(", "dx dgamma dbeta")],
    "comparison": [("dmu = -np.sum(dxmu, axis=0)", "dmu = -np.sum(dxmu * (xhat >= 9), axis=0)", "dx")],
    "two mistakes": [
        ("dmu = -np.sum", "dmu = np.sum", "dx"),
        ("np.mean(xmu ** 2, axis=0)\n    std = np.sqrt(var + eps)", "np.mean(xmu ** 2, axis=0)\n    std = np.sqrt(var + eps)", "dx"),
        ("dgamma = np.sum(dout * xhat, axis=0)", "dgamma = np.sum(dout * xhat)", "dgamma"),
    ],
    "eps outside": [("np.sqrt(var + eps)", "np.sqrt(var) + eps", "out")],
    "no eps": [("np.sqrt(var + eps)", "np.sqrt(var)", "out")],
    "another eps": [("np.sqrt(var + eps)", "np.sqrt(var + eps + eps)", "out")],
    "not divided": [("xhat = xmu / std", "xhat = xmu - std", "out")],
    "root missing": [("xhat = xmu / std", "xhat = xmu / var", "out")],
    "beta missing": [("gamma * xhat + beta", "gamma * xhat", "out")],
    "variance over all entries": [("np.mean(xmu ** 2, axis=0)", "np.mean(xmu ** 2)", "out")],
}  # fmt: skip


def source_of(folder, text, name="layers.py"):
    path = folder / name
    path.write_bytes(text.encode())
    return read(path)


def run(text, dout):
    """What a file's pair returns, and whether it left its inputs alone; None if it fails."""
    rng = np.random.default_rng(1)
    x, gamma, beta = rng.standard_normal((5, 3)) * 2 + 1, rng.standard_normal(3), rng.standard_normal(3)
    scope = {}
    given = dout.copy()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            exec(compile(text, "<text>", "exec"), scope)
            out, cache = scope["bn_forward"](x, gamma, beta, 0.4)
            results = out, *scope["bn_backward"](given, cache)
    except Exception:
        return None
    return results if (given == dout).all() else None


DOUT = np.random.default_rng(0).standard_normal((5, 3))
TRUE = run(RIGHT, DOUT)


def accept(text):
    results = run(text, DOUT)
    return (
        results is not None
        and len(results) == 4
        and all(np.shape(a) == b.shape and np.allclose(a, b, 1e-10, 1e-12) for a, b in zip(results, TRUE, strict=True))
    )


def broken(edits):
    text = RIGHT
    for old, new, _ in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_repaired(tmp_path, mistake):
    text = broken(MISTAKES[mistake])
    wrong = dict.fromkeys(" ".join(names for _, _, names in MISTAKES[mistake]).split())
    source = source_of(tmp_path, text)
    assert not accept(text)
    count = itertools.count()

    def judge(text):
        next(count)
        return accept(text)

    found = repairs(source, candidates(source, pairs(source)[0], Hints(GRADIENTS, tuple(wrong))), judge, 20)
    print(f"{mistake}: {next(count)} tried\n{found and found.diff}")
    assert found is not None
    assert accept(found.text)
    assert edited(source.text, found.edits) == found.text
    assert source.line_of(min(found.edits).start) == found.line
