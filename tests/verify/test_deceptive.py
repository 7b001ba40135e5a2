"""Code that is right where floats look and wrong elsewhere is not called proved, nor exact where it is not."""

import collections
import functools
import pickle

import numpy as np
import pytest

from xhat.verify.checking import check, check_file
from xhat.verify.report import Word


def square(x):
    return x * x, x


def in_a_set(dy, x):
    return (3 if x.shape[0] in {50} else 2) * x * dy


def in_a_dictionary(dy, x):
    return {50: 3}.get(len(x), 2) * x * dy


def counted(dy, x):
    return (2 + collections.Counter(x.shape)[50]) * x * dy


def f_string(dy, x):
    return (3 if f"{x.shape[0]}" == "50" else 2) * x * dy


def percent(dy, x):
    return (3 if "%s" % x.shape[0] == "50" else 2) * x * dy  # noqa: UP031


def text_of_the_shape(dy, x):
    return (3 if str(x.shape).startswith("(50,") else 2) * x * dy


def by_identity(dy, x):
    fifty = 50
    return (3 if x.shape[0] is fifty else 2) * x * dy


def asks_for_what_symbols_have(dy, x):
    return (2 if getattr(x, "poly", None) is not None or len(x) < 50 else 3) * x * dy


def equal_as_numbers(dy, x):
    return np.where(np.float64(x.shape[0]) == 50, 3, 2) * x * dy


def asks_for_its_class(dy, x):
    return (3 if x.size.__class__ is int and x.size > 5000 else 2) * x * dy


def pickled(dy, x):
    return (3 if pickle.dumps(x.shape[0]) == pickle.dumps(50) else 2) * x * dy


def goes_on(function):
    @functools.wraps(function)
    def guarded(dy, x):
        try:
            return function(dy, x)
        except Exception:
            return 2 * x * dy

    return guarded


@goes_on
def goes_on_after_an_error(dy, x):
    return (3 if x.shape[0] > 50 else 2) * x * dy


@goes_on
def goes_on_after_rounding(dy, x):
    return (3 if np.floor(x).max() > 50 else 2) * x * dy


def _without_source():
    names = {}
    text = "def backward(dy, x):\n    try:\n        return (3 if len(x) > 50 else 2) * x * dy\n"
    exec(text + "    except Exception:\n        return 2 * x * dy\n", names)
    return names["backward"]


without_source = _without_source()

OF_SIZES = [
    *(in_a_set, in_a_dictionary, counted, f_string, percent, text_of_the_shape, by_identity),
    *(equal_as_numbers, asks_for_its_class, pickled),
    *(asks_for_what_symbols_have, goes_on_after_an_error, without_source),
]


@pytest.mark.parametrize("backward", OF_SIZES, ids=lambda backward: backward.__name__)
def test_what_is_wrong_at_another_size_is_not_proved(backward):
    assert check(square, backward, shapes={"x": "N D"}).verdicts["dx"].word is not Word.PROVED


def test_what_is_wrong_for_larger_values_is_not_exact_because_an_error_was_caught():
    report = check(square, goes_on_after_rounding, shapes={"x": "N D"})
    assert report.verdicts["dx"].word is Word.AGREES
    assert "goes on after an error" in report.verdicts["dx"].message


@pytest.mark.parametrize("asks", ["labels == 255", "255 == labels", "labels < 0", "labels in (255,)"])
def test_questions_about_labels_are_not_answered(asks):
    names = {"np": np}
    exec(f"def backward(dy, cache):\n    x, labels = cache\n    return 2 * x * dy * (1 - ({asks}))\n", names)

    def forward(x, labels):
        return x * x, (x, labels)

    if "in" in asks:
        names["backward"] = lambda dy, cache: 2 * cache[0] * dy * (1 - any(n == 255 for n in cache[1]))
    shapes = {"x": "N", "labels": "N < C", "gradients": "dx"}
    assert check(forward, names["backward"], shapes=shapes).verdicts["dx"].word is not Word.PROVED


def test_a_question_about_a_count_is_not_answered():
    def backward(dy, x):
        return (2 + (np.arange(len(x)) == 50)) * x * dy

    assert check(square, backward, shapes={"x": "N"}).verdicts["dx"].word is not Word.PROVED


def test_squeeze_assumes_that_no_other_axis_goes():
    def forward(x, w):
        return x * w, (x, w)

    def backward(dy, cache):
        x, w = cache
        return dy * w, (dy * x).sum(axis=0, keepdims=True).squeeze()

    verdict = check(forward, backward, shapes={"x": "N D", "w": "D"}).verdicts["dw"]
    assert verdict.word is Word.PROVED
    assert "assuming D > 1" in verdict.message


def test_code_that_symbols_refuse_is_not_told_to_have_no_shape():
    def backward(dy, x):
        return np.floor(x) * dy

    verdict = check(square, backward, shapes={"x": "N D"}).verdicts["dx"]
    assert verdict.word is Word.DISPROVED
    assert "shape ()" not in verdict.message


def test_an_error_that_cannot_be_told_costs_its_own_pair_only(tmp_path):
    text = """
class Untold(Exception):
    def __str__(self):
        raise RuntimeError

def first_forward(x):
    raise Untold

def first_backward(dout, cache):
    return dout

def relu_forward(x):
    return x * (x > 0), x

def relu_backward(dout, x):
    return dout * (x > 0)
"""
    (tmp_path / "layers.py").write_text(text)
    first, second = check_file(tmp_path / "layers.py").pairs
    assert (first.pair, first.verdicts[0].word) == ("first", Word.NOT_DECIDED)
    assert {verdict.word for verdict in second.verdicts} == {Word.PROVED}


@pytest.mark.parametrize("asks", ["isinstance(x.max(), float)", "isinstance(x, np.ndarray)", "type(x) is np.ndarray"])
def test_questions_about_types_are_answered_as_on_floats(asks):
    """So that the branch is seen: without it nothing is said of branches."""
    names = {"np": np}
    exec(f"def backward(dy, x):\n    return (3 if {asks} and x.max() > 50 else 2) * x * dy\n", names)
    verdict = check(square, names["backward"], shapes={"x": "N D"}).verdicts["dx"]
    assert verdict.word is not Word.PROVED
    assert "on the branches taken" in verdict.message
