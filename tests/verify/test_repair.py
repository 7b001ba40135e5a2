import ast
import itertools
import subprocess
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhat.verify import checking
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

HOMEWORK = Path(__file__).parents[2] / "examples" / "homework.py"

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
    "N - 1 in var": [("np.mean(xmu ** 2, axis=0)", "np.var(x, axis=0, ddof=1)", "out")],
    "variance over all entries": [("np.mean(xmu ** 2, axis=0)", "np.mean(xmu ** 2)", "out")],
}  # fmt: skip


# Several edits are right in these; in all others the very text comes back.
EQUIVALENT = {
    "another variable", "gamma missing", "N missing", "N missing in a term", "half missing", "half missing as a sign", "sign",
    "sign of a term", "power", "argument changed", "cache order", "two mistakes", "beta missing", "N - 1 in var",
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
    assert (found.text == RIGHT) == (mistake not in EQUIVALENT)
    assert edited(source.text, found.edits) == found.text
    assert source.line_of(min(found.edits).start) == found.line


def test_right_code_gets_no_repair_that_is_not_accepted(tmp_path):
    source = source_of(tmp_path, RIGHT)
    tried = []
    assert repairs(source, candidates(source, pairs(source)[0]), lambda text: bool(tried.append(text)), 20) is None
    assert len(tried) > 1000
    assert len(set(tried)) == len(tried)
    assert RIGHT not in tried


def test_every_candidate_is_python(tmp_path):
    text = RIGHT.replace("dout * xhat, axis=0", "np.sum(dout) * xhat, axis=0")
    source = source_of(tmp_path, text)
    found = list(candidates(source, pairs(source)[0]))
    for edits in found[::7]:
        ast.parse(edited(text, edits))
    for edits in found:
        edited(text, edits)
    assert len(found) > 1000


def test_what_a_gradient_lacks_comes_first(tmp_path):
    asked = []

    def missing(gradient, factor):
        asked.append((gradient, factor))
        return ["- dout.mean(0) / std", "+ xhat"] if gradient == "dx" else []

    hints = Hints(GRADIENTS, ("dx", "dgamma"), missing=missing)
    source = source_of(tmp_path, RIGHT)
    first = [edited(RIGHT, edits) for edits in itertools.islice(candidates(source, pairs(source)[0], hints), 4)]
    assert any("          + dmu / N - dout.mean(0) / std + xhat)\n" in text for text in first)
    assert {gradient for gradient, _ in asked} == {"dx", "dgamma"}


def test_what_is_lacking_goes_into_the_sum_of_a_product(tmp_path):
    text = "def f_forward(x):\n    return x, x\ndef f_backward(dout, x):\n    return 2 * (dout - x) / len(x)\n"
    source = source_of(tmp_path, text)
    asked = []
    hints = Hints(("dx",), ("dx",), missing=lambda _, factor: asked.append(factor) or ["- x.mean()"])
    (edit,), *_ = candidates(source, pairs(source)[0], hints)
    assert edited(text, [edit]).endswith("    return 2 * (dout - x - x.mean()) / len(x)\n")
    assert eval(asked[0], {"len": len, "x": [1, 1, 1, 1]}) == 0.5


def test_what_is_lacking_is_carried_over_by_the_cache(tmp_path):
    source = source_of(tmp_path, RIGHT)
    hints = Hints(GRADIENTS, ("dx",), missing=lambda _, factor: ["+ eps * var"])
    first, *_ = candidates(source, pairs(source)[0], hints)
    text = edited(RIGHT, first)
    assert "cache = (xhat, xmu, std, gamma, N, eps, var)\n" in text
    assert "    xhat, xmu, std, gamma, N, eps, var = cache\n" in text


def test_a_gradient_is_written_anew_last_of_all(tmp_path):
    source = source_of(tmp_path, RIGHT)
    hints = Hints(GRADIENTS, ("dx",), whole=lambda name: f"the_whole_{name}")
    *_, one, other = candidates(source, pairs(source)[0], hints)
    assert "    dx = (the_whole_dx)\n" in edited(RIGHT, one)
    assert "    return the_whole_dx, dgamma, dbeta\n" in edited(RIGHT, other)


def test_only_what_looks_right_is_judged(tmp_path):
    source = source_of(tmp_path, "a = 1\nb = 1\n")
    wanted = {"a": Edit(4, 5, "2"), "b": Edit(10, 11, "3")}
    edits = [(Edit(4, 5, "9"),), (wanted["a"],), (Edit(10, 11, "9"),), (wanted["b"],)]
    looked, judged = [], []

    def look(edits):
        looked.append(edits)
        return frozenset(name for name, edit in wanted.items() if edit not in edits)

    found = repairs(source, edits, lambda text: not judged.append(text), 20, look)
    assert judged == ["a = 2\nb = 3\n"] == [found.text]
    assert len(looked) < 9
    assert repairs(source, edits, lambda text: False, 20, look) is None
    assert repairs(source, edits[:3], lambda text: not judged.append(text), 20, look) is None
    assert len(judged) == 1


def test_lines_under_suspicion_come_first(tmp_path):
    source = source_of(tmp_path, RIGHT)
    (pair,) = pairs(source)
    line = RIGHT[: RIGHT.index("dvar = ")].count("\n") + 1
    (first, *_), *_ = candidates(source, pair, Hints(GRADIENTS, ("dx",), lines=(line,)))
    assert source.line_of(first.start) == line
    (other, *_), *_ = candidates(source, pair, Hints(GRADIENTS, ("dx",)))
    assert source.line_of(other.start) != line


def test_only_what_a_wrong_gradient_depends_on_is_edited_first(tmp_path):
    source = source_of(tmp_path, RIGHT)
    caches = {RIGHT[: RIGHT.index(text)].count("\n") + 1 for text in ("cache = (", "xhat, xmu, std, gamma, N = cache")}
    line = RIGHT[: RIGHT.index("dbeta = ")].count("\n") + 1
    last = RIGHT.count("\n")
    found = candidates(source, pairs(source)[0], Hints(GRADIENTS, ("dbeta",)))
    assert {source.line_of(edit.start) for edits in itertools.islice(found, 60) for edit in edits} <= {
        line,
        last,
        *caches,
    }


def test_eps_dropped_in_backward_is_carried_over_by_the_cache(tmp_path):
    text = RIGHT.replace(
        "xhat, xmu, std, gamma, N = cache\n", "xhat, xmu, var, gamma, N = cache\n    std = np.sqrt(var)\n"
    )
    text = text.replace("cache = (xhat, xmu, std,", "cache = (xhat, xmu, var,")
    source = source_of(tmp_path, text)
    found = repairs(source, candidates(source, pairs(source)[0], Hints(GRADIENTS, ("dx",))), accept, 20)
    assert "    cache = (xhat, xmu, var, gamma, N, eps)\n" in found.text
    assert "    xhat, xmu, var, gamma, N, eps = cache\n    std = np.sqrt(var + eps)\n" in found.text


def test_a_sum_in_place_of_an_assignment(tmp_path):
    """Entries that overlap must be added up: `=` for `+=` in a loop."""
    text = (
        "import numpy as np\ndef pairs_forward(x):\n    out = x[1:] * x[:-1]\n    return out, x\n"
        "def pairs_backward(dout, x):\n    dx = np.zeros_like(x)\n    for i in range(len(dout)):\n"
        "        dx[i] = dout[i] * x[i + 1]\n        dx[i + 1] = dout[i] * x[i]\n    return dx\n"
    )
    source = source_of(tmp_path, text)
    x, dout = np.array([1.0, 2, 3, 4]), np.array([1.0, -2, 3])

    def judge(text):
        scope = {}
        try:
            exec(text, scope)
            return np.allclose(scope["pairs_backward"](dout, x), [2, -5, 8, 9])
        except (ArithmeticError, LookupError, NameError, TypeError, ValueError):
            return False

    found = repairs(source, candidates(source, pairs(source)[0], Hints(("dx",), ("dx",))), judge, 20)
    assert found.text == text.replace("dx[i] = ", "dx[i] += ")


ACTIVATIONS = {
    "a derivative that is 1": ("np.maximum(x, 0)", "dout * np.ones_like(x)"),
    "zero where the gradient is": ("np.maximum(x, 0)", "np.where(dout > 0, dout, 0)"),
    "square missing": ("np.tanh(x)", "dout * (1 - np.tanh(x))"),
    "root missing": ("np.sqrt(x ** 2 + 1)", "dout * x / (x ** 2 + 1)"),
    "N missing": ("x.mean(0)", "np.ones_like(x) * dout"),
}


@pytest.mark.parametrize("mistake", ACTIVATIONS)
def test_activations(tmp_path, mistake):
    forward, backward = ACTIVATIONS[mistake]
    text = f"import numpy as np\ndef f_forward(x):\n    return {forward}, x\ndef f_backward(dout, x):\n    return {backward}\n"
    source = source_of(tmp_path, text)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((7, 3))

    def judge(text):
        scope = {}
        try:
            exec(text, scope)
            out, cache = scope["f_forward"](x)
            dout, direction = rng.standard_normal(out.shape), rng.standard_normal(x.shape)
            slope = (scope["f_forward"](x + 1e-6 * direction)[0] - scope["f_forward"](x - 1e-6 * direction)[0]) / 2e-6
            dx = scope["f_backward"](dout, cache)
            return dx.shape == x.shape and np.allclose((dout * slope).sum(), (dx * direction).sum(), 1e-6)
        except (ArithmeticError, AttributeError, LookupError, NameError, TypeError, ValueError):
            return False

    with np.errstate(all="ignore"):
        assert not judge(text)
        found = repairs(source, candidates(source, pairs(source)[0], Hints(("dx",), ("dx",))), judge, 20)
    assert found is not None
    print(found.diff)


@pytest.mark.parametrize(
    ("edits", "wrong", "after"),
    [
        (
            [("(dout * xhat, axis=0)", "(dout * xhat, axis=0, keepdims=True)"), ("(dout, axis=0)", "(dout, axis=0, keepdims=True)")],
            ("dgamma", "dbeta"),
            "    dbeta = np.sum(dout, axis=0)\n    dgamma = np.sum(dout * xhat, axis=0)\n",
        ),
        (
            [("np.sum(dout * xhat, axis=0)", "np.sum(dout * xhat, axis=0) / len(dout)"), ("np.sum(dout, axis=0)", "dout.mean(axis=0)")],
            ("dgamma", "dbeta"),
            "    return dx, dgamma * N, dbeta * N\n",
        ),
        (
            [("std, gamma, N)", "std, N)"), ("std, gamma, N = cache", "std, N = cache"), ("dxhat = dout * gamma", "dxhat = dout")],
            ("dx",),
            "    xhat, xmu, std, N, gamma = cache\n",
        ),
    ],
)  # fmt: skip
def test_several_places_changed_alike(tmp_path, edits, wrong, after):
    text = RIGHT
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    source = source_of(tmp_path, text)
    found = repairs(source, candidates(source, pairs(source)[0], Hints(GRADIENTS, wrong)), accept, 20)
    assert after in found.text


def test_the_rest_of_the_file_stays_byte_for_byte(tmp_path):
    text = (
        broken(MISTAKES["sign of a term"]).replace("\n", "\r\n").replace("# step by step", "# pas à pas – x̂\t")
        + "# the end"
    )
    source = source_of(tmp_path, text)
    found = repairs(source, candidates(source, pairs(source)[0], Hints(GRADIENTS, ("dx",))), accept, 20)
    before, after = text.split("\r\n"), found.text.split("\r\n")
    assert len(before) == len(after)
    assert [number for number, (a, b) in enumerate(zip(before, after, strict=True), 1) if a != b] == [found.line]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_the_diff_is_one_that_patch_takes(tmp_path, ending):
    before = "a = 1\r\nb = 2\nc = 3" + ending
    after = "a = 1\r\nb = 3\nc = 4" + ending
    (tmp_path / "file.py").write_bytes(before.encode())
    diff = unified_diff("file.py", before, after)
    subprocess.run(["git", "apply", "-p0", "-"], input=diff.encode(), cwd=tmp_path, check=True)
    assert (tmp_path / "file.py").read_bytes() == after.encode()
    assert unified_diff("a\n+++ b.py", before, after).startswith("--- a?+++ b.py\n")


def test_time_is_kept(tmp_path):
    source = source_of(tmp_path, RIGHT)
    tried = []

    def slow(text):
        tried.append(text)
        end = time.process_time() + 0.02  # of the processor, which the search counts
        while time.process_time() < end:
            pass
        return False

    assert repairs(source, candidates(source, pairs(source)[0]), slow, 0.1) is None
    assert 1 <= len(tried) <= 6
    assert repairs(source, candidates(source, pairs(source)[0]), slow, 0.0) is None


def test_what_does_not_parse_is_never_judged(tmp_path):
    source = source_of(tmp_path, "x = 1\n")
    judged = []
    edits = [(Edit(4, 5, "("),), (Edit(4, 5, "1"),), (Edit(4, 5, "2"),)]
    found = repairs(source, edits, lambda text: not judged.append(text), 20)
    assert judged == ["x = 2\n"]
    assert found.diff.endswith("@@ -1 +1 @@\n-x = 1\n+x = 2\n")


@given(st.text(max_size=30), st.data())
@settings(deadline=None)
def test_an_edit_changes_only_its_span(text, data):
    count = data.draw(st.integers(0, 3))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2 * count, max_size=2 * count)))
    edits = [Edit(a, b, data.draw(st.text(max_size=4))) for a, b in zip(cuts[::2], cuts[1::2], strict=True)]
    kept = [text[a:b] for a, b in zip([0, *cuts[1::2]], [*cuts[::2], len(text)], strict=True)]
    order = sorted(edits)
    expected = "".join(part + (order[n].text if n < len(order) else "") for n, part in enumerate(kept))
    assert edited(text, data.draw(st.permutations(edits))) == expected


def test_edits_that_overlap_are_refused():
    for edits in ([Edit(0, 3, ""), Edit(2, 4, "")], [Edit(3, 2, "")], [Edit(0, 99, "")], [Edit(-1, 2, "")]):
        with pytest.raises(ValueError) as error:
            edited("abcdef", edits)
        assert "edited: expected edits apart from each other, got " in str(error.value)


def test_a_loss_is_repaired(tmp_path):
    text = "def square_loss(x, y):\n    d = x - y\n    return (d ** 2).mean(), 2 * d\n"
    source = source_of(tmp_path, text)

    def judge(text):
        scope = {}
        exec(text, scope)
        try:
            return np.allclose(scope["square_loss"](np.array([3.0, 1.0]), 1.0)[1], [2, 0])
        except (ValueError, IndexError):
            return False

    found = repairs(source, candidates(source, pairs(source)[0], Hints(("dx",), ("dx",))), judge, 20)
    assert found.text.splitlines()[-1] in (
        "    return (d ** 2).mean(), d",
        "    return (d ** 2).mean(), 2 * d / x.shape[0]",
    )


def test_a_forward_pass_alone_and_a_class(tmp_path):
    text = "class A:\n    def forward(self, x):\n        return x * 2\n    def backward(self, dout):\n        return dout * 3\n"
    source = source_of(tmp_path, text + "def b_forward(x):\n    return x + 1, None\n")
    for pair in pairs(source):
        for edits in candidates(source, pair):
            ast.parse(edited(source.text, edits))


def test_the_example_of_homework_is_repaired_inside_its_sum(monkeypatch):
    monkeypatch.setattr(checking, "_REPAIR_SECONDS", 20.0)
    batchnorm, _ = checking.check_file(HOMEWORK).pairs
    (repair,) = [verdict.repair for verdict in batchnorm.verdicts if verdict.repair]
    assert "+    dx = (dx_hat - x_hat * np.sum(dx_hat * x_hat, axis=0) / N - np.mean(dx_hat, axis=0)) / std\n" in repair


def test_a_forward_pass_is_never_changed_to_fit_a_wrong_backward(tmp_path, monkeypatch):
    """The backward is that of a forward without its mean; only it may be edited."""
    monkeypatch.setattr(checking, "_REPAIR_SECONDS", 20.0)
    text = HOMEWORK.read_text()
    file = tmp_path / "layers.py"
    file.write_text(
        text.replace("dx = (dx_hat - x_hat * np.sum(dx_hat * x_hat, axis=0) / N) / std", "dx = dx_hat / std")
    )
    batchnorm, _ = checking.check_file(file).pairs
    (repair,) = [verdict.repair for verdict in batchnorm.verdicts if verdict.repair]
    changed = [line for line in repair.splitlines()[2:] if line.startswith(("+", "-"))]
    assert len(changed) == 2
    assert all(" dx = " in line for line in changed)


def test_a_forward_without_a_specification_stays_as_it_is(tmp_path, monkeypatch):
    """A loss that is always 0 would have the gradient 0."""
    monkeypatch.setattr(checking, "_REPAIR_SECONDS", 20.0)
    file = tmp_path / "loss.py"
    file.write_text(
        'XHAT = {"power_loss": {"y": "N", "t": "N", "gradients": "dy"}}\n'
        "def power_loss(y, t):\n    diff = y - t\n    return (diff ** 4).mean(), 4 * diff ** 3\n"
    )
    (pair,) = checking.check_file(file).pairs
    assert pair.wrong
    (repair,) = [verdict.repair for verdict in pair.verdicts if verdict.repair]
    assert "-    return (diff ** 4).mean(), 4 * diff ** 3" in repair
    assert "+    return (diff ** 4).mean(), " in repair
