import functools
import inspect
import sys

import numpy as np
import pytest
from tests.verify import styles

from xhat.verify.faults import DICTIONARIES, batch_norm, diagnose, faults_of
from xhat.verify.faults.signature import signature, wrong_parts
from xhat.verify.values import Located, first_wrong_line, identify, trace

# Faults that edit one line: how often that line is named, and how often nothing is said. No other line is ever named.
NAMED = {
    "batch_norm": (103, 1),
    "spatial_batch_norm": (11, 4),
    "layer_norm": (67, 0),
    "group_norm": (68, 2),
    "instance_norm": (65, 0),
    "rms_norm": (33, 0),
    "affine": (24, 0),
    "relu": (16, 0),
    "dropout": (10, 5),  # what depends on the state of the generator is not blamed
    "conv": (10, 23),  # lines inside loops are not blamed
    "max_pool": (2, 16),
    "flatten": (7, 0),
    "softmax_cross_entropy": (19, 0),
    "hinge_loss": (16, 0),
    "squared_error": (14, 0),
}


def edited_line(fault):
    """The line of the function's text that a fault changes, if it is one only."""
    if fault.harmless or len(fault.edits) != 1 or "\n" in "".join(fault.edits[0]):
        return None
    text = DICTIONARIES[fault.layer].text(fault.side)
    return text[: text.index(fault.edits[0][0])].count("\n")


@pytest.mark.parametrize("layer", DICTIONARIES)
def test_the_line_that_was_edited_is_named_and_no_other(layer):
    named, silent, messages = 0, 0, 0
    for fault in faults_of(layer):
        line = edited_line(fault)
        if line is None:
            continue
        forward, backward = DICTIONARIES[layer].functions([fault])
        located = first_wrong_line(layer, forward, backward)
        if located is None:
            silent += 1
            continue
        function = backward if backward and fault.side == "backward" else forward
        start = inspect.getsourcelines(function)[1]
        assert (located.line - start + 1, located.side) == (line, fault.side), (fault, located)
        named += 1
        messages += located.message == fault.message
    assert (named, silent) == NAMED[layer]
    assert messages >= 0.7 * named - 2  # with the mistake's own words


BATCH, LAYER = DICTIONARIES["batch_norm"].functions(), DICTIONARIES["layer_norm"].functions()
STYLES = {
    **{f"batch forward, {key}": ("batch_norm", 0, text) for key, text in styles.BATCH_NORM_FORWARDS.items()},
    **{f"batch backward, {key}": ("batch_norm", 1, text) for key, text in styles.BATCH_NORM_BACKWARDS.items()},
    **{f"layer forward, {key}": ("layer_norm", 0, text) for key, text in styles.LAYER_NORM_FORWARDS.items()},
    **{f"layer backward, {key}": ("layer_norm", 1, text) for key, text in styles.LAYER_NORM_BACKWARDS.items()},
}
# One-line mutants of right code in other styles: named, and passed over.
MUTANTS = {
    "batch forward, short": (57, 9),
    "batch forward, sums": (28, 44),
    "batch backward, closed form": (29, 2),
    "batch backward, paper": (56, 4),
    "batch backward, odd names": (0, 22),
    "batch backward, in place": (3, 19),
    "batch backward, matrix": (3, 30),
    "layer forward, transposed": (9, 11),
    "layer backward, closed form": (8, 27),
    "layer backward, paths": (6, 47),
}


def pair(layer, side, function):
    other = (BATCH if layer == "batch_norm" else LAYER)[1 - side]
    return (other, function) if side else (function, other)


@pytest.mark.parametrize("style", STYLES)
def test_code_in_other_styles_is_not_blamed_where_it_is_right(style):
    layer, side, text = STYLES[style]
    right = pair(layer, side, styles.read(text, style))
    assert wrong_parts(layer, signature(layer, *right)) == ()
    assert diagnose(layer, *right) == []
    assert first_wrong_line(layer, *right) is None
    found = [0, 0]
    for number, (mutant, line) in enumerate(styles.mutants(text)):
        wrong = pair(layer, side, styles.read(mutant, f"{style} {number}"))
        if not wrong_parts(layer, signature(layer, *wrong)):
            continue
        located = first_wrong_line(layer, *wrong)
        found[located is None] += 1
        assert located is None or located.line == line, (mutant.splitlines()[line - 1], located)
    assert tuple(found) == MUTANTS[style]


def test_a_wrong_line_is_named_with_what_it_holds():
    text = styles.BATCH_NORM_FORWARDS["short"].replace("x.var(axis=0)", "x.var()")
    assert first_wrong_line("batch_norm", styles.read(text, "all entries"), BATCH[1]) == Located(
        10, "v", "The variance is that of all entries around their one mean: give np.var axis=0.", "forward"
    )
    text = styles.BATCH_NORM_BACKWARDS["paper"].replace("* -0.5", "* 0.5")
    assert first_wrong_line("batch_norm", BATCH[0], styles.read(text, "sign")) == Located(
        7, "dvar", "The derivative of 1/std has a minus sign: dstd = -divar / std**2.", "backward"
    )


def test_values_are_identified():
    x = batch_norm.X
    assert identify("batch_norm", "forward", x.mean(0)) == "the mean over the batch"
    assert identify("batch_norm", "forward", x.mean(0, keepdims=True)) == "the mean over the batch"
    assert identify("batch_norm", "forward", x.var(0) + 0.37) == "var + eps"
    assert identify("batch_norm", "forward", ((x - x.mean(0)) ** 2).sum() / 5) == (
        "The squares are summed over all entries and divided by N: give np.sum axis=0."
    )
    assert identify("batch_norm", "forward", x.var(0, ddof=1)) == (
        "The variance is divided by N - 1: batch norm divides by N (ddof=0)."
    )
    assert identify("batch_norm", "forward", x + 0.1) is None


def test_the_functions_meant_may_be_called_by_others():
    fault = next(fault for fault in faults_of("layer_norm") if fault.key == "variance_over_all")
    forward, backward = DICTIONARIES["layer_norm"].functions([fault])
    outer = functools.partial(lambda inner, *args: inner(*args), forward)
    located = first_wrong_line("layer_norm", outer, backward, of=(forward, backward))
    assert located is not None
    assert located.message == fault.message


def test_code_that_is_no_python_or_has_no_text_or_raises_is_not_blamed():
    def broken(x, gamma, beta, bn_param):
        raise ZeroDivisionError

    assert first_wrong_line("batch_norm", broken, BATCH[1]) is None
    assert first_wrong_line("relu", np.abs, None) is None
    namespace = {}
    exec("def forward(x):\n    out = -x\n    return out, x", namespace)
    assert first_wrong_line("relu", namespace["forward"], DICTIONARIES["relu"].functions()[1]) is None


def test_a_trace_tells_what_each_line_stored():
    def inner(value):
        hidden = [value, 1]
        return sum(hidden)

    def outer(values):
        total = values.sum()
        values[0] = 7.0
        for _ in range(2):
            total = inner(total)
        return total

    start = inspect.getsourcelines(outer)[1]
    result, stored = trace(outer, np.array([1.0, 2.0]))
    assert result == 5.0
    assert [(one.name, one.line - start) for one in stored] == [
        ("total", 1),
        ("values", 2),
        ("_", 3),
        ("total", 4),
        ("_", 3),
        ("total", 4),
    ]
    assert stored[1].value.tolist() == [7.0, 2.0]


def test_a_trace_leaves_other_tracers_alone():
    seen = []

    def tracer(frame, event, arg):
        seen.append(frame.f_code.co_name)

    def fails():
        value = 1
        raise KeyError(value)

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        trace(edited_line, faults_of("relu")[0])
        with pytest.raises(KeyError):
            trace(fails)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
    assert "fails" not in seen


def test_a_trace_refuses_what_is_not_written_in_python():
    with pytest.raises(TypeError, match=r"trace: expected a Python function, got builtin_function_or_method\. Give"):
        trace(abs, 1)
