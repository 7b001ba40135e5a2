import ast
import json
import time
from pathlib import Path

import pytest

import xhat
from xhat.verify import static
from xhat.verify.source import FoundPair, SourceError, pairs, read
from xhat.verify.static import fixed_names, static_findings

RIGHT = """
import numpy as np
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import unknown

SCALE: float = 1.0

def centred(x):
    return x - x.mean(axis=0)

def bn_forward(x, gamma, beta, bn_param):
    \"\"\"Text.\"\"\"
    mode = bn_param['mode']
    eps = bn_param.get('eps', 1e-5)
    N, D = x.shape
    running_mean = bn_param.get('running_mean', np.zeros(D, dtype=x.dtype))
    out, cache = None, None
    if mode == 'train':
        mu = np.mean(x, axis=0)
        xmu = centred(x)
        var = np.sum(xmu ** 2, axis=0) / N
        std = np.sqrt(var + eps)
        xhat = xmu / std
        out = gamma * xhat + beta
        cache = (xhat, gamma, std)
        running_mean = 0.9 * running_mean + 0.1 * mu
    elif mode == 'test':
        out = gamma * (x - running_mean) / SCALE + beta
    else:
        raise ValueError('Invalid mode "%s"' % mode)
    bn_param['running_mean'] = running_mean
    return out, cache

def bn_backward(dout, cache):
    dx, dgamma, dbeta = None, None, None
    xhat, gamma, std = cache
    N = dout.shape[0]
    dbeta = np.sum(dout, axis=0)
    dgamma = np.zeros_like(gamma)
    for i in range(N):
        if i > 0:
            last = row
        row = dout[i] * xhat[i]
        dgamma += row
    dout = dout * gamma
    dout -= dout.mean(0)
    dx = dout.copy()
    dx[:] = (dout - xhat * (dout * xhat).mean(0)) / std
    return dx, dgamma, dbeta
"""


def source_of(folder, text, name="layers.py"):
    path = folder / name
    path.write_text(text)
    return read(path)


def findings(folder, text):
    """(line, kind, message) of everything said of the pairs of a file."""
    source = source_of(folder, text)
    return [(f.line, f.kind, f.message) for pair in pairs(source) for f in static_findings(source, pair)]


def changed(*edits):
    text = RIGHT
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def test_right_code_is_left_alone(tmp_path):
    assert findings(tmp_path, RIGHT) == []


MISTAKES = {
    "misspelt": (
        [("out = gamma * xhat + beta", "out = gamma * xhatt + beta")],
        (25, "undefined-name", "`xhatt` is never defined. Did you mean `xhat` (line 24)?"),
    ),
    "other case": (
        [("    N = dout.shape[0]\n    dbeta", "    n = dout.shape[0]\n    dbeta")],
        (41, "undefined-name", "`N` is a variable of bn_forward and not known here. Put it in the cache there and take it out here."),
    ),
    "parameter in other case": (
        [("dgamma = np.zeros_like(gamma)", "dgamma = np.zeros_like(Gamma)")],
        (40, "undefined-name", "`Gamma` is never defined. Did you mean `gamma` (line 37)?"),
    ),
    "not in the cache": (
        [("(dout * xhat).mean(0)) / std", "(dout * xhat).mean(0)) / std * var")],
        (49, "undefined-name", "`var` is a variable of bn_forward and not known here. Put it in the cache there and take it out here."),
    ),
    "in a function that is called": (
        [("return x - x.mean(axis=0)", "return x - mean")],
        (10, "undefined-name", "`mean` is never defined. Give it a value before this line."),
    ),
    "too early": (
        [("    N, D = x.shape\n", ""), ("    bn_param['running_mean'] = running_mean\n", "    N, D = x.shape\n")],
        (16, "undefined-name", "`D` is used here, but gets its value only on line 31. Move that line up."),
    ),
    "never begun": (
        [("    dgamma = np.zeros_like(gamma)\n", ""), ("    dx, dgamma, dbeta = None, None, None\n", "")],
        (43, "undefined-name", "`dgamma` has no value yet when this line uses it. Give it one before."),
    ),
    "no such function": (
        [("np.sqrt(var + eps)", "np.sqr(var + eps)")],
        (23, "undefined-name", "NumPy has no `sqr`. Did you mean `np.sqrt`?"),
    ),
    "type that NumPy dropped": (
        [("dtype=x.dtype", "dtype=np.float")],
        (17, "undefined-name", "NumPy has no `float`. Did you mean `float`?"),
    ),
    "Python 2": (
        [("range(N)", "xrange(N)")],
        (41, "undefined-name", "`xrange` is never defined. Did you mean `range`?"),
    ),
    "cache too short": (
        [("cache = (xhat, gamma, std)", "cache = (xhat, gamma)")],
        (37, "cache-length", "bn_forward puts 2 values in the cache (xhat, gamma), but bn_backward takes out 3 (xhat, gamma, std). `std` is not in the cache."),
    ),
    "cache too long": (
        [("cache = (xhat, gamma, std)", "cache = xhat, x, gamma, 1 / std, std")],
        (37, "cache-length", "bn_forward puts 5 values in the cache (xhat, x, gamma, 1 / std, std), but bn_backward takes out 3 (xhat, gamma, std). `x`, `1 / std` are not taken out."),
    ),
    "cache order": (
        [("xhat, gamma, std = cache", "xhat, std, gamma = cache")],
        (37, "cache-order", "bn_forward puts (xhat, gamma, std) in the cache, but bn_backward takes out (xhat, std, gamma): another order. Use the same one."),
    ),
    "no cache": (
        [("        cache = (xhat, gamma, std)\n", "")],
        (36, "cache-none", "bn_forward returns None for the cache, but bn_backward uses it. Put in what it needs."),
    ),
    "gradient never set": (
        [("dbeta = np.sum(dout, axis=0)", "np.sum(dout, axis=0)")],
        (50, "not-written", "bn_backward is not written yet: `dbeta` is still None."),
    ),
    "statement without effect": (
        [("    dout = dout * gamma\n", "    dout = dout * gamma\n    dout - dout.mean(0)\n")],
        (47, "unused-result", "The result of `dout - dout.mean(0)` is thrown away. Give it a name: `name = ...`."),
    ),
    "comparison for assignment": (
        [("dbeta = np.sum(dout, axis=0)", "dbeta = 0\n    dbeta == np.sum(dout, axis=0)")],
        (40, "comparison-statement", "`==` compares, and the answer is thrown away. To give a value, write `=`."),
    ),
    "identity": (
        [("if mode == 'train'", "if mode is 'train'")],
        (19, "identity-comparison", "`is` asks for the same object, not for the same value. Write `==`."),
    ),
    "argument ignored": (
        [("    N = dout.shape[0]\n    dbeta", "    dout = np.ones_like(xhat)\n    N = dout.shape[0]\n    dbeta")],
        (38, "argument-ignored", "`dout` gets another value before it was used, so the argument counts for nothing. Use another name here."),
    ),
    "argument changed": (
        [("    dout = dout * gamma\n", "    dout *= gamma\n")],
        (46, "input-modified", "`dout` is changed in place by `dout *= gamma`, so the caller's array changes too. Make a copy first."),
    ),
    "argument changed by another name": (
        [("    dout = dout * gamma\n    dout -= dout.mean(0)\n", "    dxhat = dout\n    dxhat[0, :] = 0\n")],
        (47, "input-modified", "`dxhat`, which is `dout` itself, is changed in place by `dxhat[0, :] = 0`, so the caller's array changes too. Make a copy first."),
    ),
    "order of gradients": (
        [("return dx, dgamma, dbeta", "return dx, dbeta, dgamma")],
        (50, "gradient-order", "The gradients are returned as dx, dbeta, dgamma; the order of the arguments is dx, dgamma, dbeta. Return them in that order."),
    ),
    "returns nothing": (
        [("    return dx, dgamma, dbeta\n", "")],
        (35, "no-return", "bn_backward returns nothing. End it with `return` and its results."),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found_on_its_line(tmp_path, mistake):
    edits, expected = MISTAKES[mistake]
    found = findings(tmp_path, changed(*edits))
    assert expected in found
    assert len(found) <= (2 if mistake in ("other case", "too early", "gradient never set") else 1)


@pytest.mark.parametrize(
    "body",
    [
        "pass",
        "...",
        '"""What to do."""',
        "raise NotImplementedError",
        "raise NotImplementedError('later')",
        "dx = None\n    pass\n    return dx",
        "dx, dw = None, None\n    # TODO\n    return dx, dw",
        "dx = dw = None\n    return dx, dw",
    ],
)
def test_a_skeleton_is_not_written_yet(tmp_path, body):
    text = f"def a_forward(x, w):\n    return x * w, (x, w)\ndef a_backward(dout, cache):\n    {body}\n"
    ((line, kind, message),) = findings(tmp_path, text)
    assert kind == "not-written"
    assert message.startswith("a_backward is not written yet: ")
    assert line >= 3


# Each of these is right, or cannot be known to be wrong.
SILENT = {
    "comprehension": "dx = sum([d * w for d in dout for w in [1, 2] if w > 1])",
    "walrus": "dx = (n := 2) * n * dout",
    "walrus in a comprehension": "dx = [last := d for d in dout]\n    dx = last",
    "lambda": "f = lambda t, s=1: t * s\n    dx = f(dout)",
    "closure": "def f(t):\n        return t * later\n    later = 2\n    dx = f(dout)",
    "recursion": "def f(t):\n        return f(t)\n    dx = dout",
    "nonlocal": "n = 0\n    def f():\n        nonlocal n\n        n = 1\n    f()\n    dx = dout * n",
    "global": "global COUNT\n    COUNT = 1\n    dx = dout * COUNT",
    "star": "first, *rest = dout\n    dx = rest, first",
    "for else": "for i in range(3):\n        pass\n    else:\n        e = 1\n    dx = dout * i * e",
    "loop carried": "for i in range(3):\n        if i:\n            dx = dx + before\n        else:\n            dx = 0\n        before = dout",
    "inner loop carried": "for i in range(3):\n        for j in range(i):\n            dx = dx + before\n        dx = before = dout",
    "loop carried in an expression": "for i in range(3):\n        dx = before if i else dout\n        before = dx",
    "after a branch": "if dout.any():\n        t = 1\n    dx = t",
    "after a branch in a loop": "for i in range(2):\n        if i == 0:\n            t = 1\n        dx = t",
    "while": "while True:\n        dx = dout\n        break",
    "try": "try:\n        dx = unknown\n    except NameError:\n        dx = dout",
    "try import": "try:\n        import fast as f\n    except ImportError:\n        f = None\n    dx = dout if f is None else f(dout)",
    "except as": "try:\n        dx = dout\n    except ValueError as error:\n        raise TypeError from error",
    "with": "with np.errstate(all='ignore') as state:\n        dx = dout * (state is None)",
    "del": "t = dout\n    dx = t * 1\n    del t",
    "match": "match dout.shape:\n        case (n, d):\n            dx = n * d * dout\n        case [*rest] if rest:\n            dx = rest\n        case {'a': 1, **others} as whole:\n            dx = others, whole",
    "import": "import numpy.linalg as la\n    from math import pi\n    dx = la, pi",
    "class": "class T:\n        a = 1\n        b = a\n    dx = T",
    "annotation": "dx: Unknown = dout",
    "f-string": "assert dout.ndim == 2, f'{dout.shape!r:>{10}} {np.pi}'\n    dx = dout",
    "after return": "dx = dout\n    return dx\n    dx = unknown",
    "dead branch": "if 0:\n        dx = unknown\n    dx = dout",
    "builtins": "dx = float(sum(range(len(dout)))) * dout; print(__name__)",
    "loaded later": "dx = helper(dout)",
    "debugging switched off": "silent(dout)\n    dx = dout",
    "module of numpy": "import numpy.matlib\n    dx = np.matlib.asarray(dout)",
    "is None": "dx = dout if cache is None or cache is not True else 2 * dout",
    "call for its effect": "np.random.seed(0); np.add(dout, 1, out=cache); np.exp(cache, cache); np.testing.assert_allclose(1, 1)\n    dx = dout",
    "error wanted": "try:\n        dout + cache\n    except ValueError:\n        pass\n    dx = dout",
    "copy changed": "dx = dout.copy()\n    dx *= 2",
    "copy in a branch": "if cache is None:\n        dout = dout.copy()\n    dout *= 1\n    dx = dout",
    "alias in a branch": "dx = 1 * dout\n    if cache is None:\n        dx = dout\n    else:\n        dx[0] = 0",
    "entry of a dictionary": "cache['seen'] = True\n    dx = dout",
    "two lengths": "if len(cache) == 2:\n        a, b = cache\n    else:\n        a, b, c = cache\n    dx = a",
    "several returns": "if cache is None:\n        return dout\n    dx = dout",
}  # fmt: skip


@pytest.mark.parametrize("case", SILENT)
def test_what_is_not_certain_is_not_said(tmp_path, case):
    text = (
        "import numpy as np\ndef a_forward(x, scale):\n    return x, (x, scale)\n"
        f"def a_backward(dout, cache):\n    {SILENT[case]}\n    return dx\ndef helper(t):\n    return t\ndef silent(t): pass\n"
    )
    compile(text, case, "exec")
    assert findings(tmp_path, text) == []


@pytest.mark.parametrize(
    "opening", ["from somewhere import *", "exec('unknown = 1')", "globals()['unknown'] = 1", "def f(): global unknown"]
)
def test_where_names_cannot_be_known_none_is_called_unknown(tmp_path, opening):
    text = "def a_forward(x):\n    return unknown * x, x\ndef a_backward(dout, cache):\n    return unknown * dout\n"
    assert findings(tmp_path, opening + "\n" + text) == []
    assert len(findings(tmp_path, "import somewhere\n" + text)) == 2


@pytest.mark.parametrize(("cell", "count"), [("%pylab inline", 0), ("unknown = (", 0), ("%matplotlib inline", 1)])
def test_a_notebook_whose_magics_bind_names(tmp_path, cell, count):
    code = "def a_forward(x):\n    return unknown * x, x\ndef a_backward(dout, cache):\n    return dout\n"
    cells = [{"cell_type": "code", "source": text} for text in (cell, code)]
    source = source_of(tmp_path, json.dumps({"cells": cells}), "a.ipynb")
    assert len(static_findings(source, pairs(source)[0])) == count


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        ("cache = [x]\n    cache.append(w)", "x, w = cache"),
        ("cache = (x,)\n    cache += (w,)", "x, w = cache"),
        ("cache = (x, *w)", "a, b, c = cache"),
        ("cache = helper(x)", "a, b, c = cache"),
        ("cache = (x, w)", "x, *rest = cache"),
        ("cache = (x, w)", "cache = cache[0]\n    x, w, b = cache"),
        ("cache = (x, w)", "b, a = cache"),
        ("cache = (x, w) if x.ndim else (x,)", "(x,) = cache"),
        ("cache = x", "a, b, c = cache"),
    ],
)
def test_a_cache_that_is_not_plain_to_see(tmp_path, pack, unpack):
    text = (
        f"def helper(x):\n    return x\ndef a_forward(x, w):\n    {pack}\n    return x * w, cache\n"
        f"def a_backward(dout, cache):\n    {unpack}\n    return dout, dout\n"
    )
    assert findings(tmp_path, text) == []


def test_half_a_pair_is_looked_at_too(tmp_path):
    assert findings(tmp_path, "def a_forward(x):\n    return y, x\ndef b_backward(dout, cache):\n    return z\n") == [
        (2, "undefined-name", "`y` is never defined. Give it a value before this line."),
        (4, "undefined-name", "`z` is never defined. Give it a value before this line."),
    ]


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("np.sum(dout, 0)\n    return dout", "unused-result", "The result of `np.sum(dout, 0)` is thrown away."),
        ("-dout\n    return dout", "unused-result", "The result of `-dout` is thrown away."),
        ("f = lambda a, b=bb: a\n    return f(dout)", "undefined-name", "`bb` is never defined."),
        ("def f(a, *, b=bb): return a\n    return f(dout)", "undefined-name", "`bb` is never defined."),
        ("f = lambda a: a * bb\n    return f(dout)", "undefined-name", "`bb` is never defined."),
        ("return [d * bb for d in dout]", "undefined-name", "`bb` is never defined."),
        ("return dout if cache else bb", "undefined-name", "`bb` is never defined."),
        ("with bb as c:\n        return dout", "undefined-name", "`bb` is never defined."),
        ("for i in bb:\n        dout = dout + i\n    return dout", "undefined-name", "`bb` is never defined."),
        ("while bb:\n        dout = dout + 1\n    return dout", "undefined-name", "`bb` is never defined."),
        ("match dout:\n        case 1 if bb:\n            pass\n    return dout", "undefined-name", "`bb` is never defined."),
        ("try:\n        dout = bb\n    except ValueError:\n        pass\n    return dout", "undefined-name", "`bb` is never defined."),
        ("for i in dout:\n        total = total + i\n    return total", "undefined-name", "`total` has no value yet"),
        ("dx[0] = 1\n    return dx", "undefined-name", "`dx` is never defined."),
        ("if cache is not 'a':\n        return dout\n    return 2 * dout", "identity-comparison", "`is` asks for the same object"),
        ("dout = 3\n    return dout", "argument-ignored", "`dout` gets another value before it was used"),
    ],
)  # fmt: skip
def test_one_line_of_a_backward_pass(tmp_path, body, kind, message):
    text = f"import numpy as np\ndef a_forward(x):\n    return x, x\ndef a_backward(dout, cache):\n    {body}\n"
    ((_, found, told),) = findings(tmp_path, text)
    assert (found, told[: len(message)]) == (kind, message)


def test_an_error_on_purpose_is_no_skeleton(tmp_path):
    for raised in ("ValueError('no')", "errors.Refused", "make_error()"):
        text = f"import errors\nfrom errors import make_error\ndef a_forward(x):\n    raise {raised}\ndef a_backward(dout, x):\n    return dout\n"
        assert "not-written" not in [kind for _, kind, _ in findings(tmp_path, text)]


@pytest.mark.parametrize(
    ("put", "taken", "end"),
    [
        ("x, w", "x, w, b", "(x, w, b). `b` is not in the cache."),
        ("x, w", "x, w, b, c", "(x, w, b, c). `b`, `c` are not in the cache."),
        ("x, w", "a, b, c", "(a, b, c)."),
        ("x, w, 2 * w", "x, w", "(x, w). `2 * w` is not taken out."),
        ("x, w, w", "a, b", "(a, b)."),
    ],
)
def test_what_a_cache_lacks_is_named_where_that_is_known(tmp_path, put, taken, end):
    text = f"def a_forward(x, w):\n    return x, ({put})\ndef a_backward(dout, cache):\n    {taken} = cache\n    return dout, dout\n"
    ((line, kind, message),) = findings(tmp_path, text)
    assert (line, kind) == (4, "cache-length")
    assert message.endswith(f"takes out {taken.count(',') + 1} {end}")


def test_a_declared_order_of_gradients_is_no_mistake(tmp_path):
    text = "def a_forward(x, w):\n    return x, (x, w)\ndef a_backward(dout, cache):\n    dx = dw = dout\n    return dw, dx\n"
    assert [kind for _, kind, _ in findings(tmp_path, text)] == ["gradient-order"]
    assert findings(tmp_path, "XHAT = {'a': {'x': 'N', 'w': 'N', 'gradients': 'dw dx'}}\n" + text) == []
    assert findings(tmp_path, text.replace("x, w)", "a, b)")) != []
    assert findings(tmp_path, text.replace("def a_forward(x, w)", "def a_forward(z, v, x=0, w=0)")) != []
    assert (
        findings(tmp_path, text.replace("def a_forward(x, w)", "def a_forward(x, y, w=0)").replace("dw, dx", "dy, dx"))
        != []
    )


def test_a_numpy_that_the_file_changes_is_not_judged(tmp_path):
    text = "import numpy as np\nnp.half_of = lambda x: x / 2\ndef a_forward(x):\n    return np.half_of(x), x\ndef a_backward(dout, x):\n    return dout / 2\n"
    assert findings(tmp_path, text) == []


def test_fixed_names_are_those_never_defined(tmp_path):
    text = changed(("out = gamma * xhat + beta", "out = gama * xhatt + xhatt"), ("np.sqrt(var", "np.sqr(var"))
    source = source_of(tmp_path, text)
    fixed = [(source.segment(node), meant) for node, meant in fixed_names(source, pairs(source)[0])]
    assert fixed == [("np.sqr", "np.sqrt"), ("gama", "gamma"), ("xhatt", "xhat"), ("xhatt", "xhat")]


@pytest.mark.parametrize(
    "body",
    [
        "return " + "+".join(["x"] * 135) + ", x",
        "return " + "-" * 135 + "x, x",
        "if x: pass\n" + "".join("    elif x: y = 1\n" for _ in range(130)) + "    return x, x",
        "return " + "(lambda: " * 60 + "x" + ")" * 60 + ", x",
        "return " + "[" * 60 + "x" + " for i in x]" * 60 + ", x",
        "return " + "(x if x else " * 90 + "x" + ")" * 90 + ", x",
    ],
)
def test_the_deepest_code_that_is_read_is_walked_through(tmp_path, body):
    assert findings(tmp_path, f"def a_forward(x):\n    {body}\ndef a_backward(d, c):\n    return d\n") == []


def test_no_name_is_unknown_in_code_that_runs():
    """This library and a part of the standard library, function by function, are the judge of the walk through names."""
    files = [*Path(xhat.__file__).parent.rglob("*.py")]
    files += [path for room in (json, ast) for path in Path(room.__file__).parent.glob("[a-d]*.py")]
    count = 0
    for path in files:
        try:
            source = read(path)
        except SourceError:
            continue
        for name in source.functions:
            pair = FoundPair(name, name, None, kind="class")
            count += 1
            assert [f for f in static_findings(source, pair) if f.kind == "undefined-name"] == [], (path, name)
    assert count > 500


def test_a_long_file_takes_no_time(tmp_path):
    text = RIGHT + "".join(RIGHT.split("SCALE: float = 1.0")[1].replace("bn_", f"bn{n}_") for n in range(23))
    text = text.replace("SCALE", "2")
    assert text.count("\n") > 1000
    source = source_of(tmp_path, text.replace("2: float = 1.0", ""))
    static._module_names.cache_clear()
    start = time.perf_counter()
    found = [f for pair in pairs(source) for f in static_findings(source, pair)]
    taken = time.perf_counter() - start
    print(f"{len(pairs(source))} pairs, {taken:.3f} s")
    assert found == []
    assert taken < 0.2 * 5  # a machine busy with other things
