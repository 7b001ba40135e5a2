"""Mistakes in softmax cross-entropy, hinge loss (both in the course's signature) and squared error.

A loss is one function that returns the loss and its gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xhat.checks import Array
from xhat.verify.faults.dictionary import Dictionary, Function, Rows, Seen, normal

SOFTMAX = """
def softmax_loss(x, y):
    N = x.shape[0]
    shifted = x - np.max(x, axis=1, keepdims=True)
    Z = np.sum(np.exp(shifted), axis=1, keepdims=True)
    log_probs = shifted - np.log(Z)
    probs = np.exp(log_probs)
    loss = -np.sum(log_probs[np.arange(N), y]) / N
    dx = probs.copy()
    dx[np.arange(N), y] -= 1
    dx /= N
    return loss, dx
"""

SOFTMAX_FORWARD: Rows = {
    "not_averaged": (
        "The loss is summed over the batch: divide it by N.",
        "-np.sum(log_probs[np.arange(N), y]) / N",
        "-np.sum(log_probs[np.arange(N), y])",
    ),
    "divided_by_classes": (
        "The loss is averaged over all entries: divide by N alone.",
        "-np.sum(log_probs[np.arange(N), y]) / N",
        "-np.sum(log_probs[np.arange(N), y]) / x.size",
    ),
    "sign": (
        "The loss has the wrong sign: it is minus the logarithm.",
        "-np.sum(log_probs[np.arange(N), y]) / N",
        "np.sum(log_probs[np.arange(N), y]) / N",
    ),
    "logarithm_missing": (
        "The loss is taken of the probabilities: take their logarithm.",
        "-np.sum(log_probs[np.arange(N), y]) / N",
        "-np.sum(probs[np.arange(N), y]) / N",
    ),
    "all_classes": (
        "The logarithms of all classes are summed: take the one of the right class, log_probs[np.arange(N), y].",
        "-np.sum(log_probs[np.arange(N), y]) / N",
        "-np.sum(log_probs) / N",
    ),
    "columns_picked": (
        "log_probs[:, y] takes whole columns: pick one entry per row with log_probs[np.arange(N), y].",
        "-np.sum(log_probs[np.arange(N), y]) / N",
        "-np.sum(log_probs[:, y]) / N",
    ),
    "base_two": (
        "The logarithm is to the base 2: use np.log.",
        "-np.sum(log_probs[np.arange(N), y]) / N",
        "-np.sum(np.log2(probs[np.arange(N), y])) / N",
    ),
    "normalized_over_batch": (
        "The exponentials are summed over the batch: sum over the classes, axis=1.",
        "np.sum(np.exp(shifted), axis=1, keepdims=True)",
        "np.sum(np.exp(shifted), axis=0)",
    ),
    "normalized_over_all": (
        "The exponentials are summed over all entries: give np.sum axis=1, keepdims=True.",
        "np.sum(np.exp(shifted), axis=1, keepdims=True)",
        "np.sum(np.exp(shifted))",
    ),
    "shifted_in_sum_only": (
        "The largest score is taken off in the sum alone: take it off everywhere.",
        "log_probs = shifted - np.log(Z)",
        "log_probs = x - np.log(Z)",
    ),
    "not_shifted": (
        "The largest score of each row is not taken off, so that large scores overflow: subtract it first.",
        "x - np.max(x, axis=1, keepdims=True)",
        "x",
    ),
    "shift_of_all": (
        "The largest of all scores is taken off, so that rows of small scores underflow: use axis=1, keepdims=True.",
        "np.max(x, axis=1, keepdims=True)",
        "np.max(x)",
    ),
    "x_modified": (
        "x is changed in place: write x - np.max(...), which makes a new array.",
        "shifted = x - np.max(x, axis=1, keepdims=True)",
        "x -= np.max(x, axis=1, keepdims=True)\n    shifted = x",
    ),
    "one_subtracted_early": (
        "1 is taken off the probabilities before the loss is computed: copy them first.",
        "loss = -np.sum(log_probs[np.arange(N), y]) / N\n    dx = probs.copy()\n    dx[np.arange(N), y] -= 1",
        "dx = log_probs\n    dx[np.arange(N), y] -= 1\n    loss = -np.sum(log_probs[np.arange(N), y]) / N\n"
        "    dx = probs.copy()\n    dx[np.arange(N), y] -= 1",
    ),
}

SOFTMAX_BACKWARD: Rows = {
    "gradient_not_averaged": ("dx is not divided by N as the loss is.", "    dx /= N\n", ""),
    "gradient_averaged_twice": ("dx is divided by N twice.", "dx /= N", "dx /= N**2"),
    "gradient_divided_by_classes": (
        "dx is divided by the number of entries: divide by N alone.",
        "dx /= N",
        "dx /= x.size",
    ),
    "one_missing": (
        "1 is not taken off at the right class: dx = probs - onehot.",
        "    dx[np.arange(N), y] -= 1\n",
        "",
    ),
    "one_added": (
        "1 is added at the right class: take it off.",
        "dx[np.arange(N), y] -= 1",
        "dx[np.arange(N), y] += 1",
    ),
    "one_for_columns": (
        "dx[:, y] changes whole columns: pick one entry per row with dx[np.arange(N), y].",
        "dx[np.arange(N), y] -= 1",
        "dx[:, y] -= 1",
    ),
    "gradient_sign": ("dx has the wrong sign: it is probs - onehot.", "dx /= N", "dx /= -N"),
    "gradient_of_log": (
        "dx starts from the logarithms: start from the probabilities.",
        "dx = probs.copy()",
        "dx = log_probs.copy()",
    ),
    "gradient_of_exponentials": (
        "dx starts from exponentials that are not divided by their sum.",
        "dx = probs.copy()",
        "dx = np.exp(shifted)",
    ),
    "jacobian_diagonal": (
        "Only the diagonal of softmax's Jacobian is used: every score changes every probability, dx = probs - onehot.",
        "dx /= N",
        "dx *= 1 - probs\n    dx /= N",
    ),
    "gradient_only_right_class": (
        "Only the right class gets a gradient: the other scores move the loss too.",
        "dx = probs.copy()",
        "dx = np.zeros_like(probs)\n    dx[np.arange(N), y] = probs[np.arange(N), y]",
    ),
}

HINGE = """
def svm_loss(x, y):
    N = x.shape[0]
    right = x[np.arange(N), y][:, np.newaxis]
    margins = np.maximum(0, x - right + 1.0)
    margins[np.arange(N), y] = 0
    loss = np.sum(margins) / N
    positive = margins > 0
    dx = positive.astype(float)
    count = np.sum(positive, axis=1)
    dx[np.arange(N), y] -= count
    dx /= N
    return loss, dx
"""

HINGE_FORWARD: Rows = {
    "not_averaged": ("The loss is summed over the batch: divide it by N.", "np.sum(margins) / N", "np.sum(margins)"),
    "divided_by_entries": (
        "The loss is averaged over all entries: divide by N alone.",
        "np.sum(margins) / N",
        "np.mean(margins)",
    ),
    "right_class_counted": (
        "The right class counts with its margin of 1: set it to 0.",
        "    margins[np.arange(N), y] = 0\n",
        "",
    ),
    "margin_missing": ("The margin of 1 is missing: x - right + 1.", "x - right + 1.0", "x - right"),
    "margin_subtracted": ("The margin is subtracted: x - right + 1.", "x - right + 1.0", "x - right - 1.0"),
    "difference_reversed": ("The difference is reversed: x - right + 1.", "x - right + 1.0", "right - x + 1.0"),
    "not_clipped": (
        "Negative margins count: take np.maximum(0, ...).",
        "np.maximum(0, x - right + 1.0)",
        "x - right + 1.0",
    ),
    "squared": ("The margins are squared, which is another loss.", "np.sum(margins) / N", "np.sum(margins**2) / N"),
    "largest_only": (
        "Only the largest margin counts: sum them.",
        "np.sum(margins) / N",
        "np.sum(np.max(margins, axis=1)) / N",
    ),
    "one_row": (
        "The right scores are taken of the first row's class: use x[np.arange(N), y].",
        "right = x[np.arange(N), y][:, np.newaxis]",
        "right = x[:, y[:1]]",
    ),
}

HINGE_BACKWARD: Rows = {
    "gradient_not_averaged": ("dx is not divided by N as the loss is.", "    dx /= N\n", ""),
    "count_missing": (
        "The right class gets no gradient: take off the number of positive margins.",
        "    dx[np.arange(N), y] -= count\n",
        "",
    ),
    "count_is_one": (
        "1 is taken off at the right class: take off the number of positive margins.",
        "dx[np.arange(N), y] -= count",
        "dx[np.arange(N), y] -= 1",
    ),
    "count_added": (
        "The number of positive margins is added: take it off.",
        "dx[np.arange(N), y] -= count",
        "dx[np.arange(N), y] += count",
    ),
    "count_of_all": (
        "The positive margins are counted over the whole batch: count per row, axis=1.",
        "np.sum(positive, axis=1)",
        "np.sum(positive)",
    ),
    "count_of_margins": (
        "The margins themselves are summed for the right class: count those that are positive.",
        "np.sum(positive, axis=1)",
        "np.sum(margins, axis=1)",
    ),
    "gradient_of_margins": (
        "dx holds the margins: the derivative of each is 1 where it is positive.",
        "positive.astype(float)",
        "margins.copy()",
    ),
    "gradient_sign": ("dx has the wrong sign.", "dx /= N", "dx /= -N"),
    "gradient_everywhere": (
        "Every class gets a gradient: only those with a positive margin do.",
        "positive = margins > 0",
        "positive = margins >= 0",
    ),
}

SQUARED = """
def squared_error_loss(x, targets):
    difference = x - targets
    loss = np.mean(difference**2)
    dx = 2 * difference / difference.size
    return loss, dx
"""

SQUARED_FORWARD: Rows = {
    "difference_missing": (
        "The difference is a sum: subtract the target.",
        "x - targets",
        "x + targets",
    ),
    "summed": (
        "The squares are summed: take their mean, as the gradient does.",
        "np.mean(difference**2)",
        "np.sum(difference**2)",
    ),
    "averaged_over_batch": (
        "The squares are divided by the batch size: divide by the number of entries, as the gradient does.",
        "np.mean(difference**2)",
        "np.sum(difference**2) / len(difference)",
    ),
    "halved": (
        "The loss has a factor 1/2: the gradient is that of the mean of the squares.",
        "np.mean(difference**2)",
        "0.5 * np.mean(difference**2)",
    ),
    "absolute": (
        "The sizes are averaged: square the differences.",
        "np.mean(difference**2)",
        "np.mean(np.abs(difference))",
    ),
    "root": (
        "The square root is taken: the loss is the mean square itself.",
        "np.mean(difference**2)",
        "np.sqrt(np.mean(difference**2))",
    ),
    "square_of_mean": ("The mean is squared: square first.", "np.mean(difference**2)", "np.mean(difference) ** 2"),
}

SQUARED_BACKWARD: Rows = {
    "gradient_two_missing": (
        "The 2 of the square's derivative is missing.",
        "2 * difference / difference.size",
        "difference / difference.size",
    ),
    "gradient_not_averaged": (
        "The gradient is not divided by the number of entries as the loss is.",
        "2 * difference / difference.size",
        "2 * difference",
    ),
    "gradient_averaged_over_batch": (
        "The gradient is divided by the batch size: divide by the number of entries.",
        "2 * difference / difference.size",
        "2 * difference / len(difference)",
    ),
    "gradient_sign": (
        "The gradient has the wrong sign: it is 2 * (x - targets) / count.",
        "2 * difference / difference.size",
        "-2 * difference / difference.size",
    ),
    "gradient_of_sign": (
        "The gradient is that of the absolute value: it is 2 * (x - targets) / count.",
        "2 * difference / difference.size",
        "np.sign(difference) / difference.size",
    ),
    "gradient_half_and_mean": (
        "The gradient belongs to half the sum of the squares: here it is 2 * (x - targets) / count.",
        "2 * difference / difference.size",
        "difference",
    ),
    "gradient_summed": (
        "The gradient is one number: there is one per entry of x.",
        "2 * difference / difference.size",
        "np.mean(2 * difference)",
    ),
}

SCORES, LABELS = 2 * normal(121, 5, 4), np.array([2, 0, 3, 1, 0])
PREDICTION, TARGET = normal(122, 5, 2), normal(123, 5, 2)


def after_scores(loss: Function, seen: Seen) -> Any:
    """Judge scores of five samples, and large ones."""
    _after_loss(loss, SCORES, LABELS, seen)
    seen["out at large scores"], seen["dx at large scores"] = loss(_large_scores(), LABELS[:2])


def after_squared_error(loss: Function, seen: Seen) -> Any:
    """Judge five predictions of two numbers each."""
    _after_loss(loss, PREDICTION, TARGET, seen)


def after_nothing(backward: Function, cache: Any, seen: Seen) -> None:
    """Do nothing: a loss returns its gradient itself."""


def _after_loss(loss: Function, values: Array, targets: Array, seen: Seen) -> None:
    x = values.copy()
    seen["out"], seen["dx"] = loss(x, targets.copy())
    seen["x after the call"] = x


def _large_scores() -> Array:
    """Scores whose exponentials neither fit alone nor, taken off the largest of all, are above zero."""
    return np.array([[1000.0, 999.0, 998.5, 0.0], [-1000.0, -1001.0, -1000.5, -1002.0]])


SOFTMAX_CROSS_ENTROPY = Dictionary(
    "softmax_cross_entropy",
    SOFTMAX,
    "",
    after_scores,
    after_nothing,
    SOFTMAX_FORWARD,
    SOFTMAX_BACKWARD,
    quantities={
        "exp(x - max)": "np.exp(shifted)",
        "the largest score of each row": "np.max(x, axis=1, keepdims=True)",
        "the logarithm of the sum": "np.log(Z)",
        "the probabilities": "probs",
        "the logarithm of the right probability": "log_probs[np.arange(N), y]",
        "the probability of the right class": "probs[np.arange(N), y]",
        "the sum of the losses": "loss * N",
        "dx * N": "dx * N",
        "1 at the right class": "np.eye(x.shape[1])[y]",
    },
)
HINGE_LOSS = Dictionary(
    "hinge_loss",
    HINGE,
    "",
    after_scores,
    after_nothing,
    HINGE_FORWARD,
    HINGE_BACKWARD,
    quantities={
        "x - right": "x - right",
        "x - right + 1": "x - right + 1.0",
        "the margins with the right class": "np.maximum(0, x - right + 1.0)",
        "the sum of the losses": "loss * N",
        "dx * N": "dx * N",
    },
)
SQUARED_ERROR = Dictionary(
    "squared_error",
    SQUARED,
    "",
    after_squared_error,
    after_nothing,
    SQUARED_FORWARD,
    SQUARED_BACKWARD,
    quantities={
        "the squares": "difference**2",
        "the sum of the squares": "np.sum(difference**2)",
        "2 * difference": "2 * difference",
    },
)
