"""The library's own gradients: every one proved and exact, and a fault in a reference seen by both engines."""

import itertools
import re

import numpy as np
import pytest
from tests.contract.dynamic_tanh import DynamicTanh
from tests.verify import proofs_page

from xhat import layers
from xhat.core import Case, Layer, Op
from xhat.layers import LAYERS, LOSSES, losses
from xhat.layers.batch_norm import reference
from xhat.verify import library
from xhat.verify.library import name_of, prove_layers, undecided
from xhat.verify.report import Word

WINDOWS = {"conv", "max_pool"}


@pytest.fixture(scope="module")
def rows():
    return list(prove_layers())


def test_every_gradient_is_exact(rows):
    assert [row for row in rows if row.engine == "exact numbers" and row.verdict.word is not Word.EXACT] == []
    assert undecided(rows) == []


def test_every_gradient_is_proved_but_for_loops_over_windows_and_parts(rows):
    left = [row for row in rows if row.engine == "symbols" and row.verdict.word is not Word.PROVED]
    assert {row.layer for row in left} == {*WINDOWS, "batch_norm"}
    assert all(row.layer in WINDOWS or "virtual_batch=" in row.case for row in left)
    assert all(row.verdict.word is Word.NOT_DECIDED and row.verdict.message for row in left)


def test_no_gradient_is_left_out(rows):
    assert [*dict.fromkeys(row.layer for row in rows)] == [*map(name_of, LAYERS), *LOSSES]
    for layer in LAYERS:
        wanted = {f"d{name}" for case in layer.cases() for name in ("x", *case.layer.parameters)}
        for engine in ("symbols", "exact numbers"):
            assert {row.what for row in rows if (row.layer, row.engine) == (name_of(layer), engine)} == wanted
    for gradient in {row.gradient for row in rows}:
        assert sorted(row.engine for row in rows if row.gradient == gradient) == ["exact numbers", "symbols"]


def test_what_is_exact_is_hardly_so_by_chance(rows):
    bounds = [int(n) for row in rows for n in re.findall(r"p < 2\^-(\d+)", row.verdict.message)]
    assert len(bounds) == 2 * sum(row.engine == "exact numbers" for row in rows)
    assert min(bounds) >= 64


@pytest.mark.parametrize(
    "case",
    [
        "(N, C) with gamma, beta; nine steps",
        "(N, C) with gamma, beta, r, d; renormalized",
        "(N, C) with gamma, beta, mean, var",
        "(N, C, H, W) with gamma, beta",
        "(N, H, C) with gamma, beta; channel_axis=-1",
        "(C, N) with gamma, beta; channel_axis=0",
        "(N, C) with gamma, beta, weights (N)",
        "(N, C, H) with gamma, beta, weights (N, H)",
    ],
)
def test_batch_norm_is_proved_in_every_form(rows, case):
    said = {(row.what, row.verdict.word) for row in rows if (row.layer, row.case) == ("batch_norm", case)}
    assert said == {(name, word) for name in ("dx", "dgamma", "dbeta") for word in (Word.PROVED, Word.EXACT)}


def test_the_page_says_what_is_found(rows):
    assert proofs_page.PAGE.read_text() == proofs_page.page(rows), "python -m tests.verify.proofs_page"


def words(name):
    """The verdicts on the first case of a layer."""
    first = next(prove_layers([name])).case
    told = itertools.takewhile(lambda row: row.case == first, prove_layers([name]))
    return {(row.engine, row.what): row.verdict.word for row in told}


def of_op(monkeypatch, layer, **changed):
    monkeypatch.setattr(layer, "ops", tuple(op._replace(**changed) for op in layer.ops))


def no_mean_of_dx_hat(dy, cache):
    """A layer norm without the projection along the ones vector."""
    right = layers.layer_norm.reference_backward(dy, cache)
    dx_hat = dy * cache.gamma.reshape(layers.layer_norm.parameter_shape(dy.shape, cache.axis))
    count = np.prod([dy.shape[i] for i in cache.axis])
    return right._replace(dx=right.dx + cache.rstd * dx_hat.sum(cache.axis, keepdims=True) / count)


def test_a_fault_in_a_backward_pass_is_seen_by_both_engines(monkeypatch):
    of_op(monkeypatch, layers.layer_norm.LayerNorm, reference_backward=no_mean_of_dx_hat)
    seen = words("layer_norm")
    assert seen["exact numbers", "dx"] is Word.DISPROVED
    assert seen["symbols", "dx"] is Word.NOT_DECIDED
    assert {seen[engine, "dgamma"] for engine in ("symbols", "exact numbers")} == {Word.PROVED, Word.EXACT}


def test_a_fault_in_a_function_that_a_reference_calls_is_seen_by_both_engines(monkeypatch):
    small = lambda cls: iter([Case(cls(2), x=(4, 2))])  # noqa: E731  a counterexample is found sooner
    monkeypatch.setattr(layers.batch_norm.BatchNorm, "cases", classmethod(small))
    right = reference.reference_sums
    monkeypatch.setattr(reference, "reference_sums", lambda dy, cache: right(dy, cache)._replace(dbeta=2 * dy.sum(0)))
    seen = words("batch_norm")
    assert {seen["symbols", name] for name in ("dx", "dbeta")} == {Word.NOT_DECIDED}
    assert {seen["exact numbers", name] for name in ("dx", "dbeta")} == {Word.DISPROVED}
    assert {seen[engine, "dgamma"] for engine in ("symbols", "exact numbers")} == {Word.PROVED, Word.EXACT}


def test_a_fault_in_a_loss_is_seen_by_both_engines(monkeypatch):
    right = losses.LOSSES["hinge_loss"]
    wrong = right._replace(reference_gradient=lambda scores, labels: right.reference_gradient(scores, labels) * 2)
    monkeypatch.setitem(losses.LOSSES, "hinge_loss", wrong)
    assert words("hinge_loss") == {
        ("symbols", "dpredictions"): Word.NOT_DECIDED,
        ("exact numbers", "dpredictions"): Word.DISPROVED,
    }
    assert len(undecided(list(prove_layers(["hinge_loss"])))) == 2


def test_a_new_layer_needs_no_line(monkeypatch):
    monkeypatch.setattr(library, "LAYERS", (DynamicTanh,))
    found = list(prove_layers([name_of(DynamicTanh)]))
    assert found
    assert undecided(found) == []


class Unclear(Layer):
    """A layer whose cases do not tell its axes apart."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.parameters = {"w": np.ones((size, size))}

    ops = (Op(None, None, lambda x, w: (x @ w, None), lambda dy, cache: None),) * 2

    @classmethod
    def cases(cls):
        yield Case(cls(3), x=(3, 3))


class OnlyByHand(Unclear):
    @classmethod
    def cases(cls):
        yield Case(cls(3), x=np.ones((2, 3)))


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (Unclear, "w has an axis of length 3, as have several of x: take lengths that differ"),
        (OnlyByHand, "no case gives the shape of x alone"),
    ],
)
def test_a_layer_that_cannot_be_posed_is_not_silently_absent(monkeypatch, layer, why):
    monkeypatch.setattr(library, "LAYERS", (layer,))
    (row,) = prove_layers([name_of(layer)])
    assert (row.verdict.word, row.verdict.message) == (Word.NOT_DECIDED, why)
    assert undecided([row]) == [row]


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError) as refused:
        next(prove_layers(["batch"]))
    known = ", ".join([*map(name_of, LAYERS), *LOSSES])
    assert str(refused.value) == f"prove_layers: expected a layer or a loss, got 'batch'. Choose from: {known}."


def test_names_are_proved_in_their_order():
    found = [row.layer for row in prove_layers(["squared_error", "flatten"])]
    assert [*dict.fromkeys(found)] == ["squared_error", "flatten"]
