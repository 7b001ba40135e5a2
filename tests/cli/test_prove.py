"""`xhat prove`: the table of the library's own proofs, and a formula in plain text."""

import pytest

from xhat.verify import formulas, library
from xhat.verify.library import Row
from xhat.verify.report import Verdict, Word


@pytest.fixture
def engine(monkeypatch):
    """Return a function that puts rows in the place of the engines' work, and what they were asked."""
    asked = []

    def stand_in(*words):
        rows = [
            Row("batch_norm", "plain", f"d{n}", "symbols", Verdict(f"d{n}", word, "so"), 2.5)
            for n, word in enumerate(words)
        ]
        monkeypatch.setattr(library, "prove_layers", lambda names: asked.append(list(names)) or iter(rows))
        return asked

    return stand_in


def test_the_table_of_the_layers(xhat, engine):
    asked = engine(Word.PROVED, Word.EXACT)
    done = xhat("prove", "batch_norm")
    assert asked == [["batch_norm"]]
    assert (done.code, done.err) == (0, "")
    assert [line.split() for line in done.out.splitlines() if line.startswith((" batch", "batch"))] == [
        ["batch_norm", "plain", "d0", "symbols", "PROVED", "2.5"],
        ["batch_norm", "plain", "d1", "symbols", "EXACT", "2.5"],
    ]
    assert done.out.splitlines()[-1] == "2 of 2 gradients proved or exact, in 0.0 s"


@pytest.mark.parametrize("word", [Word.AGREES, Word.DISPROVED, Word.NOT_DECIDED])
def test_one_that_is_not_proved_fails(xhat, engine, word):
    engine(Word.PROVED, word)
    done = xhat("prove")
    assert done.code == 1
    assert f"batch_norm plain d1: {word}. so\n1 of 2 gradients proved or exact, in 0.0 s" in done.out


@pytest.mark.parametrize(("other", "code"), [(Word.EXACT, 0), (Word.NOT_DECIDED, 1), (Word.DISPROVED, 1)])
def test_one_engine_that_does_not_decide_leaves_it_to_the_other(xhat, monkeypatch, other, code):
    words = {"symbols": Word.NOT_DECIDED if code == 0 else Word.PROVED, "exact numbers": other}
    if other is Word.NOT_DECIDED:
        words["symbols"] = Word.NOT_DECIDED
    rows = [Row("conv", "plain", "dx", engine, Verdict("dx", word, "so"), 1.0) for engine, word in words.items()]
    monkeypatch.setattr(library, "prove_layers", lambda names: iter(rows))
    done = xhat("prove")
    assert done.code == code
    assert done.out.splitlines()[-1] == f"{1 - code} of 1 gradients proved or exact, in 0.0 s"


def test_nothing_proved_is_no_success(xhat, engine):
    engine()
    assert xhat("prove").code == 1


def test_a_layer_that_is_not_known_is_refused(xhat, monkeypatch):
    def unknown(names):
        raise ValueError("prove_layers: expected a layer, got 'batch'. Choose one of: batch_norm.")
        yield

    monkeypatch.setattr(library, "prove_layers", unknown)
    done = xhat("prove", "batch")
    assert (done.code, done.out) == (2, "")
    assert done.err == "prove_layers: expected a layer, got 'batch'. Choose one of: batch_norm.\n"


@pytest.mark.parametrize(
    ("word", "code"), [(Word.PROVED, 0), (Word.EXACT, 0), (Word.DISPROVED, 1), (Word.NOT_DECIDED, 1)]
)
def test_a_formula(xhat, monkeypatch, word, code):
    asked = []

    def prove(expression, *, of, wrt):
        asked.append((expression, of, wrt))
        return Verdict("dx", word, "for all N and D", counterexample="x = 1/2")

    monkeypatch.setattr(formulas, "prove", prove)
    done = xhat("prove", "--formula", "2 * dy", "--of", "batch_norm", "--wrt", "x")
    assert asked == [("2 * dy", "batch_norm", "x")]
    assert (done.code, done.out) == (code, f"{word}  for all N and D\nfor example: x = 1/2\n")


@pytest.mark.parametrize(
    "words",
    [
        ("--formula", "dy"),
        ("--of", "batch_norm"),
        ("--formula", "dy", "--of", "relu"),
        ("relu", "--formula", "dy", "--of", "relu", "--wrt", "x"),
    ],
)
def test_half_a_formula_is_refused(xhat, words):
    done = xhat("prove", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "xhat prove: expected --formula, --of and --wrt together and no layer beside them, got fewer or more. "
        'Give --formula "..." --of batch_norm --wrt x, say.\n'
    )
