"""The whole check: files as people write them get the verdicts, words and lines they must get."""

import io
import multiprocessing
import re
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.verify.expectations import EXPECTATIONS, Expectation, broken

import xhat
from xhat.verify import checking
from xhat.verify.report import FileReport, Level, PairReport, Word
from xhat.verify.source import read

STUDENTS = Path(__file__).parent / "students"


def check_quietly(file: str, repair_seconds: float = 0.0) -> FileReport:
    checking._REPAIR_SECONDS = repair_seconds
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return checking.check_file(STUDENTS / file)


def in_processes_of_their_own(files: list[str], seconds: float) -> dict[str, FileReport]:
    """Some of the files change NumPy for the whole program."""
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        return dict(
            zip(files, pool.map(partial(check_quietly, repair_seconds=seconds), files, chunksize=1), strict=True)
        )


@pytest.fixture(scope="module")
def reports() -> dict[str, FileReport]:
    return in_processes_of_their_own(sorted({expected.file for expected in EXPECTATIONS}), 0.0)


LINES_THAT_TAKE_A_REPAIR = {
    "wrong/axis_missing_in_dmean.py",
    "wrong/eps_dropped_in_backward.py",
    "wrong/root_of_the_root.py",
}


@pytest.mark.parametrize("expected", EXPECTATIONS, ids=str)
def test_files_as_people_write_them(expected: Expectation, reports: dict[str, FileReport]) -> None:
    report = reports[expected.file]
    assert report.error is None
    pairs = {pair.pair: pair for pair in report.pairs}
    assert expected.pair in pairs
    lines = read(STUDENTS / expected.file).text.splitlines()
    wrongs = broken(expected, pairs[expected.pair], lines)
    if expected.file in LINES_THAT_TAKE_A_REPAIR:
        wrongs = [wrong for wrong in wrongs if not wrong.startswith("line")]
    assert not wrongs, "\n".join(
        [*wrongs, *(f"{v.name}: {v.word}: {v.message}" for v in pairs[expected.pair].verdicts)]
    )


REPAIRED = {
    "wrong/eps_dropped_in_backward.py": "    std = np.sqrt(var + eps)\n",
    "wrong/axis_missing_in_dmean.py": "np.sum(-dxhat * ivar, axis=0)",
    "wrong/misspelt_name.py": None,
    "wrong/variance_over_everything.py": "np.sum(xmu ** 2, axis=0)",
}


def test_repairs_are_proved_and_name_the_line(tmp_path: Path) -> None:
    found = in_processes_of_their_own(list(REPAIRED), 20.0)
    for file, becomes in REPAIRED.items():
        (pair,) = found[file].pairs
        repairs = [item.repair for item in (*pair.verdicts, *pair.findings) if item.repair]
        assert len(repairs) == 1, file
        assert becomes is None or becomes in repairs[0], repairs[0]
        mended = tmp_path / Path(file).name
        mended.write_text(_patched((STUDENTS / file).read_text(), repairs[0]))
        with redirect_stdout(io.StringIO()):
            again = checking.check_file(mended).pairs[0]
        assert all(verdict.word in (Word.PROVED, Word.AGREES) for verdict in again.verdicts), file
    for file in LINES_THAT_TAKE_A_REPAIR & set(REPAIRED):
        expected = next(row for row in EXPECTATIONS if row.file == file)
        assert not broken(expected, found[file].pairs[0], (STUDENTS / file).read_text().splitlines())


def _patched(text: str, diff: str) -> str:
    """Apply a unified diff."""
    lines = text.splitlines(keepends=True)
    for hunk in reversed(re.split(r"^(?=@@)", diff, flags=re.MULTILINE)[1:]):
        head, *body = hunk.splitlines(keepends=True)
        start, count = (int(n) for n in re.match(r"@@ -(\d+),(\d+)", head).groups())
        assert [line[1:] for line in body if line[0] in " -"] == lines[start - 1 : start - 1 + count]
        lines[start - 1 : start - 1 + count] = [line[1:] for line in body if line[0] in " +"]
    return "".join(lines)


def forward(x: Any, gamma: Any, beta: Any, eps: float) -> tuple[Any, Any]:
    mean = x.mean(axis=0)
    std = np.sqrt(x.var(axis=0) + eps)
    x_hat = (x - mean) / std
    return gamma * x_hat + beta, (x_hat, std, gamma)


def backward(dy: Any, cache: Any) -> tuple[Any, Any, Any]:
    x_hat, std, gamma = cache
    dbeta, dgamma = dy.sum(axis=0), (dy * x_hat).sum(axis=0)
    return gamma / std * (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0)), dgamma, dbeta


def without_the_mean(dy: Any, cache: Any) -> tuple[Any, Any, Any]:
    _, std, gamma = cache
    dx, dgamma, dbeta = backward(dy, cache)
    return dx + gamma / std * dy.mean(axis=0), dgamma, dbeta


class TestCheck:
    def test_right_code_is_proved(self) -> None:
        report = xhat.verify.check(forward, backward, layer="batch_norm")
        assert report.ok
        assert {name: str(verdict.word) for name, verdict in report.verdicts.items()} == dict.fromkeys(
            ("out", "dx", "dgamma", "dbeta"), "PROVED"
        )
        assert report.verdicts["dx"].message.splitlines() == ["for all N and D", "assuming eps > 0"]
        assert "for all N and D" in report.text()

    def test_a_missing_term_is_named(self) -> None:
        report = xhat.verify.check(forward, without_the_mean, layer="batch_norm")
        assert not report.ok
        assert "\nterm missing: - gamma*mean(dout)/sigma\n" in report.verdicts["dx"].message
        assert report.verdicts["dgamma"].word is Word.PROVED

    @pytest.mark.parametrize(("level", "word"), [("numeric", "AGREES"), ("exact", "PROVED"), ("proof", "PROVED")])
    def test_levels(self, level: str, word: str) -> None:
        report = xhat.verify.check(forward, backward, layer="batch_norm", level=level)
        assert report.ok
        assert str(report.verdicts["dx"].word) == word

    def test_a_gradient_alone(self) -> None:
        assert xhat.verify.check(forward, backward, shapes={"x": "N D", "gamma": "D", "beta": "D", "eps": "eps"}).ok

    def test_the_message_of_the_assertion_explains(self) -> None:
        xhat.verify.assert_gradient(forward, backward, layer="batch_norm")
        with pytest.raises(AssertionError, match=r"term missing: - gamma\*mean\(dout\)/sigma"):
            xhat.verify.assert_gradient(forward, without_the_mean, layer="batch_norm")

    def test_what_is_not_known_is_asked_for(self) -> None:
        with pytest.raises(ValueError, match="shapes="):
            xhat.verify.check(lambda p, q, r, s: (p, q), lambda d, c: d)
        with pytest.raises(ValueError, match="expected layer"):
            xhat.verify.check(forward, backward, layer="batchnormm")

    @pytest.mark.parametrize("level", ["certain", "none", Level.NONE, 2, None])
    def test_a_level_that_is_none_is_refused(self, level: Any) -> None:
        with pytest.raises(ValueError, match="expected level 'numeric', 'exact', 'proof', got"):
            xhat.verify.assert_gradient(forward, backward, layer="batch_norm", level=level)

    @pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), ("a", TypeError)])
    def test_a_seed_that_is_none_is_refused(self, seed: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="check: expected seed"):
            xhat.verify.check(forward, backward, layer="batch_norm", seed=seed)

    def test_floats_outvote_symbols(self) -> None:
        """What symbols cannot see, the sign of a zero divided by, or numbers too large, floats do."""

        def overflowing(x: Any) -> tuple[Any, Any]:
            return x * (1e308 * 10 / 1e309), x

        report = xhat.verify.check(overflowing, lambda dy, x: dy, shapes={"x": "N D"})
        assert report.verdicts["dx"].word is not Word.PROVED


def test_what_the_text_shows_is_not_told_again_when_it_raises(reports: dict[str, FileReport]) -> None:
    for file in ("cache_too_short", "not_written_yet", "misspelt_in_backward"):
        (pair,) = reports[f"wrong/{file}.py"].pairs
        assert len(pair.findings) == 1


def test_the_evidence_holds_what_a_certificate_needs() -> None:
    evidence = xhat.verify.check(forward, backward, layer="batch_norm", seed=5).pair.evidence
    assert evidence["seed"] == 5
    assert evidence["symbols"]["assumptions"] == ["eps > 0"]
    assert evidence["exact"][0]["log2_failure"] < -100
    assert all(len(run["primes"]) == 4 for run in evidence["exact"])


def test_pairs_are_reported_as_they_finish(tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text(
        "import numpy as np\n"
        "def relu_forward(x):\n    return np.maximum(x, 0), x\n"
        "def relu_backward(dout, x):\n    return dout * (x > 0)\n"
        "def affine_forward(x, w, b):\n    return x.reshape(len(x), -1) @ w + b, (x, w, b)\n"
        "def affine_backward(dout, cache):\n    x, w, b = cache\n"
        "    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(0)\n"
    )
    seen: list[PairReport] = []
    report = checking.check_file(file, on_pair=seen.append)
    assert [pair.pair for pair in seen] == ["relu", "affine"] == [pair.pair for pair in report.pairs]
    assert all(pair.level == Level.PROOF for pair in report.pairs)
    assert [pair.pair for pair in checking.check_file(file, pair="affine").pairs] == ["affine"]


@pytest.mark.parametrize("text", ["import nothing_of_this_name\n", "1 / 0\n", "raise RuntimeError('no')\n"])
def test_an_import_that_fails_is_told_with_its_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("x = 1\n" + text)
    report = checking.check_file(file)
    assert report.error is not None
    assert report.error_line == 2


@pytest.mark.filterwarnings("ignore::ImportWarning")
def test_an_import_that_fails_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from .fast_layers import conv\n", encoding="utf-8")
    told = checking.check_file(tmp_path / "mine.py").error
    assert told is not None
    assert told.endswith("import from layers, say, and not from .layers.")


def test_what_is_drawn_is_called_random() -> None:
    def forward(x: Any, shift: Any) -> Any:
        mask = (np.random.default_rng(0).random(x.shape) < 0.5) + shift
        return x * mask, mask

    report = xhat.verify.check(forward, lambda dout, mask: 2 * dout * mask, shapes={"x": "N D", "shift": 1})
    assert "[random - 1/2 > 0]" in report.verdicts["dx"].message, report.text()


def test_float64_that_sneaks_in_is_seen_where_it_does() -> None:
    def forward(x: Any) -> Any:
        return x * 2, x

    def backward(dout: Any, x: Any) -> Any:
        return dout * np.sqrt(4)

    (remark,) = xhat.verify.check(forward, backward, shapes={"x": "N D"}).pair.remarks
    assert remark.line == backward.__code__.co_firstlineno + 1
    assert "float(np.sqrt(2))" in remark.message


def test_the_first_words_on_a_wrong_output_name_the_mistake_and_no_other_verdict_repeats_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def batchnorm_forward(x, gamma, beta, bn_param):\n"
        "    mu, var = x.mean(axis=0), x.var(axis=0, ddof=1)\n"
        "    std = np.sqrt(var + bn_param.get('eps', 1e-5))\n"
        "    return gamma * (x - mu) / std + beta, (x - mu, std, gamma)\n"
        "def batchnorm_backward(dout, cache):\n"
        "    c, std, gamma = cache\n"
        "    h, n = c / std, len(c)\n"
        "    g = dout * gamma\n"
        "    return (g - g.mean(0) - h * (g * h).sum(0) / (n - 1)) / std, (dout * h).sum(0), dout.sum(0)\n",
        encoding="utf-8",
    )
    (pair,) = checking.check_file(tmp_path / "mine.py").pairs
    said = {verdict.name: verdict.message for verdict in pair.verdicts if verdict.wrong}
    assert "N - 1" in said["out"].splitlines()[0]
    assert "N - 1" not in said["running_mean"]
