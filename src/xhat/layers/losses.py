"""Losses: one number that says how wrong the predictions are, and its gradient.

softmax cross-entropy, for classes: minus the logarithm of the probability given to the right class.

    p_j = exp(s_j) / sum over k of exp(s_k)          loss = average over samples of -log(p_label)
    ds_j = (p_j - [j is the label]) / N

For a confident row p_label is so close to 1 that log(p) and p - 1 lose all digits. Both are therefore computed from
the *others*. With t the top score, o = sum over k != label of exp(s_k - t) and Z = o + exp(s_label - t):

    loss = log1p(o) where the label leads (then Z = 1 + o), else (t - s_label) + log(Z)
    ds_label = -(o / Z) / N

hinge loss, for classes: the label's score must lead every other by a margin of 1; what is missing is the loss.

    m_j = s_j - s_label + 1          loss = average over samples of the sum over j != label of max(0, m_j)
    ds_j = [m_j > 0] / N for j != label          ds_label = -(how many m_j > 0) / N

squared error, for numbers:

    loss = average over all entries of (prediction - target)²          dprediction = 2 (prediction - target) / count

Derivations: docs/softmax_cross_entropy.md, docs/hinge_loss.md
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from xhat import kernels
from xhat.checks import Array, as_targets, as_values
from xhat.core import Loss, LossCase
from xhat.kernels import memory
from xhat.kernels import softmax as softmax_rows


def reference_softmax_cross_entropy(scores: Array, labels: Array) -> Array:
    """Return the average of -log(p_label), from the definition."""
    top: Array = np.real(scores).max(-1, keepdims=True)
    at_label = np.take_along_axis(scores, labels[..., None], -1)
    return (np.log(np.exp(scores - top).sum(-1, keepdims=True)) - (at_label - top)).mean()


def reference_softmax_cross_entropy_gradient(scores: Array, labels: Array) -> Array:
    """Return (p_j - [j is the label]) / N."""
    shares = np.exp(scores)
    return (shares / shares.sum(-1, keepdims=True) - np.eye(scores.shape[-1])[labels]) / labels.size


def check_labels(who: str, labels: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return class numbers as an array, if they fit scores of the given shape."""
    classes = as_targets(who, "labels", labels)
    if len(shape) < 1 or shape[-1] < 1:
        raise ValueError(f"{who}: expected scores of shape (..., C), got {shape}. Give a score per class.")
    if classes.dtype.kind not in "iu" and classes.size:
        raise TypeError(f"{who}: expected labels as integers, got {classes.dtype}. Number the classes from 0.")
    if classes.shape != shape[:-1]:
        raise ValueError(
            f"{who}: expected labels of shape {shape[:-1]} for scores {shape}, got {classes.shape}. "
            "Give one class number per row of scores."
        )
    if classes.size:
        low, high = int(classes.min()), int(classes.max())
        if low < 0 or high >= shape[-1]:
            raise ValueError(
                f"{who}: expected labels from 0 to {shape[-1] - 1}, got {low if low < 0 else high}. "
                "Number the classes from 0, one score for each."
            )
    return classes


def softmax(scores: ArrayLike) -> Array:
    """Return the probabilities of the classes: exp(s_j) / sum over k of exp(s_k).

    Parameters
    ----------
    scores : array_like, shape (..., C)
        One score per class, any floating type; no unit.

    Returns
    -------
    array, shape (..., C)
        Of the type of `scores`; each row sums to 1.

    Raises
    ------
    TypeError
        If `scores` is not floating.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> print(xhat.softmax(np.array([0.0, np.log(3.0)])))
    [0.25 0.75]
    """
    values = as_values("softmax", "scores", scores)
    if not values.size:
        return values.copy()
    if kernels.serves_wide(values.dtype):
        rows = _rows(values)
        shares = memory.empty(rows.shape, rows.dtype)
        softmax_rows.softmax(rows, shares)
        return shares.reshape(values.shape)
    with np.errstate(all="ignore"):
        wide = values.astype(np.float64)
        shares = np.exp(wide - wide.max(-1, keepdims=True))
        return (shares / shares.sum(-1, keepdims=True)).astype(values.dtype)


def softmax_cross_entropy(scores: ArrayLike, labels: ArrayLike) -> tuple[float, Array]:
    """Return the cross-entropy of softmax(scores) against the labels, and its gradient.

    Parameters
    ----------
    scores : array_like, shape (..., C)
        One score per class (logits), any floating type; no unit.
    labels : array_like of int, shape (...)
        The right classes, each in 0 ... C - 1.

    Returns
    -------
    loss : float
        Average over samples, in nats; 0 for an empty batch.
    dscores : array, shape (..., C)
        Of the type of `scores`.

    Raises
    ------
    TypeError
        If `scores` is not floating or `labels` not integer.
    ValueError
        If shapes do not fit or a label is out of range.

    Notes
    -----
    float64 inside. The loss and every entry of the gradient are accurate to the last digits of the type also for
    rows that are all but certain; scores of ±1000 are as good as any. A NaN makes the loss NaN.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> loss, dscores = xhat.softmax_cross_entropy(np.zeros((1, 4)), [2])
    >>> print(round(loss, 4), dscores)
    1.3863 [[ 0.25  0.25 -0.75  0.25]]
    """
    who = "softmax_cross_entropy"
    values = as_values(who, "scores", scores)
    classes = check_labels(who, labels, values.shape)
    if not classes.size:
        return 0.0, np.zeros_like(values)

    if kernels.serves_wide(values.dtype):
        scored = _rows(values)
        dscores = memory.empty(scored.shape, scored.dtype)
        losses = softmax_rows.cross_entropy(scored, np.ravel(classes).astype(np.int64), dscores)
        with np.errstate(all="ignore"):
            return float(losses.mean()), dscores.reshape(values.shape)

    rows = _rows(values).astype(np.float64)
    label = classes.reshape(-1, 1).astype(np.intp)
    with np.errstate(all="ignore"):
        top = rows.max(1, keepdims=True)
        gap: Array = top - np.take_along_axis(rows, label, 1)
        shares = np.exp(rows - top)
        at_label: Array = np.take_along_axis(shares, label, 1)
        np.put_along_axis(shares, label, 0.0, 1)
        others: Array = shares.sum(1, keepdims=True)
        total: Array = others + at_label
        # where the label leads, gap = 0 and at_label = 1, so log(total) = log1p(others) keeps a tiny loss
        losses = gap + np.where(gap == 0, np.log1p(others), np.log(total))
        np.put_along_axis(shares, label, -others, 1)
        shares /= total * len(rows)
        return float(losses.mean()), shares.reshape(values.shape).astype(values.dtype)


def _rows(values: Array) -> Array:
    """Return scores (..., C) as (rows, C); a single number is a row of one."""
    return values.reshape(-1, values.shape[-1] if values.shape else 1)


def reference_hinge_loss(scores: Array, labels: Array) -> Array:
    """Return the average of what the label's lead over each other class is short of 1, from the definition."""
    margin = scores - np.take_along_axis(scores, labels[..., None], -1) + 1
    return (np.where(np.real(margin) > 0, margin, 0).sum(-1) - 1).mean()  # less the label's own, which is 1


def reference_hinge_loss_gradient(scores: Array, labels: Array) -> Array:
    """Return [m_j > 0] / N for j != label, and for the label minus the sum of these."""
    is_label = np.eye(scores.shape[-1])[labels]
    at_label = np.take_along_axis(scores, labels[..., None], -1)
    short = np.where(scores + 1 > at_label, 1.0, 0.0)  # the label's own is 1 too, and is taken off with the others
    return (short - is_label * short.sum(-1, keepdims=True)) / labels.size


def hinge_loss(scores: ArrayLike, labels: ArrayLike) -> tuple[float, Array]:
    """Return the multiclass hinge loss of the scores against the labels, and its gradient.

    Every class but the label's costs what the label's lead over it is short of 1.

    Parameters
    ----------
    scores : array_like, shape (..., C)
        One score per class, any floating type; no unit.
    labels : array_like of int, shape (...)
        The right classes, each in 0 ... C - 1.

    Returns
    -------
    loss : float
        Average over samples, in the unit of the scores; 0 for an empty batch.
    dscores : array, shape (..., C)
        Of the type of `scores`. Where a lead is exactly 1 there is no derivative; 0 is taken.

    Raises
    ------
    TypeError
        If `scores` is not floating or `labels` not integer.
    ValueError
        If shapes do not fit or a label is out of range.

    Notes
    -----
    float64 inside. A NaN makes the loss NaN.

    References
    ----------
    Weston, Watkins 1999, "Support vector machines for multi-class pattern recognition", ESANN; with a margin of 1.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> loss, dscores = xhat.hinge_loss(np.array([[0.5, 2.0, 0.0]]), [0])
    >>> print(loss, dscores)
    3.0 [[-2.  1.  1.]]
    """
    who = "hinge_loss"
    values = as_values(who, "scores", scores)
    classes = check_labels(who, labels, values.shape)
    if not classes.size:
        return 0.0, np.zeros_like(values)

    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
    label = classes.reshape(-1, 1).astype(np.intp)
    with np.errstate(all="ignore"):
        margin: Array = rows - np.take_along_axis(rows, label, 1) + 1
        np.put_along_axis(margin, label, 0.0, 1)
        short = np.where(margin > 0, 1.0, 0.0)
        np.put_along_axis(short, label, -short.sum(1, keepdims=True), 1)
        dscores = (short / len(rows)).reshape(values.shape).astype(values.dtype)
        return float(np.maximum(margin, 0).sum(1).mean()), dscores


def reference_squared_error(predictions: Array, targets: Array) -> Array:
    """Return the average of (prediction - target)², from the definition."""
    return ((predictions - targets) ** 2).mean()


def reference_squared_error_gradient(predictions: Array, targets: Array) -> Array:
    """Return 2 (prediction - target) / count."""
    return 2 * (predictions - targets) / targets.size


def check_numbers(who: str, targets: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return numbers to predict as an array, if they fit predictions of the given shape."""
    wanted = as_targets(who, "targets", targets)
    if wanted.dtype.kind not in "iuf" and wanted.dtype.name != "bfloat16":
        raise TypeError(f"{who}: expected targets as numbers, got {wanted.dtype}. Convert them to float.")
    if wanted.shape != shape:
        raise ValueError(
            f"{who}: expected targets of shape {shape}, got {wanted.shape}. Give one target per prediction."
        )
    return wanted


def squared_error(predictions: ArrayLike, targets: ArrayLike) -> tuple[float, Array]:
    """Return the mean squared error of the predictions, and its gradient.

    Parameters
    ----------
    predictions : array_like
        Any shape, any floating type.
    targets : array_like
        The same shape; numbers, in the unit of the predictions.

    Returns
    -------
    loss : float
        Average over all entries, in the unit of the predictions squared; 0 for an empty batch.
    dpredictions : array
        Shape and type of `predictions`.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> loss, dpredictions = xhat.squared_error(np.array([[1.0], [5.0]]), [[3.0], [5.0]])
    >>> print(loss, dpredictions.ravel())
    2.0 [-2.  0.]
    """
    who = "squared_error"
    values = as_values(who, "predictions", predictions)
    wanted = check_numbers(who, targets, values.shape)
    if not values.size:
        return 0.0, np.zeros_like(values)
    with np.errstate(all="ignore"):
        miss = values.astype(np.float64) - wanted.astype(np.float64)
        return float((miss * miss).mean()), (miss * (2.0 / miss.size)).astype(values.dtype)


def accuracy(scores: Array, labels: Array, spread: float = 1.0) -> float:
    """Return the share of samples whose highest score is the label's; of equal scores the first counts."""
    if not labels.size:
        return float("nan")
    return float(((scores.argmax(-1) == labels) & ~np.isnan(scores).any(-1)).mean())


def no_spread(labels: Array) -> float:
    """Return 1: a share is measured against nothing."""
    return 1.0


def r_squared(predictions: Array, targets: Array, spread: float) -> float:
    """Return 1 - (mean squared error) / spread: 1 is perfect, 0 no better than the mean of the targets."""
    if not targets.size or spread == 0:
        return float("nan")
    return 1.0 - float(((predictions.astype(np.float64) - targets) ** 2).mean()) / spread


def variance(targets: Array) -> float:
    """Return the variance of the targets, averaged over the columns."""
    return float(targets.astype(np.float64).var(0).mean()) if targets.size else 0.0


def _softmax_cross_entropy_cases() -> Iterator[LossCase]:
    rng = np.random.default_rng(0)
    yield LossCase(rng.standard_normal((5, 4)), rng.integers(0, 4, 5))
    yield LossCase(rng.normal(0, 3, (2, 3, 7)), rng.integers(0, 7, (2, 3)))
    yield LossCase(rng.standard_normal((1, 2)), np.array([1]))
    score = float(np.log(2.0))  # the probabilities are 1/2, 1/4, 1/4
    yield LossCase(
        np.array([[score, 0.0, 0.0], [score, 0.0, 0.0], [score, 0.0, 0.0]]),
        np.array([0, 2, 0]),
        loss=4 / 3 * score,
        dpredictions=[[-1 / 6, 1 / 12, 1 / 12], [1 / 6, 1 / 12, -1 / 4], [-1 / 6, 1 / 12, 1 / 12]],
        score=2 / 3,
    )


def _hinge_loss_cases() -> Iterator[LossCase]:
    rng = np.random.default_rng(0)
    yield LossCase(rng.standard_normal((5, 4)), rng.integers(0, 4, 5))
    yield LossCase(rng.normal(0, 3, (2, 3, 7)), rng.integers(0, 7, (2, 3)))
    yield LossCase(np.array([[2.0005, 1.0, 1.5]]), np.array([0]))  # leads of just more than 1, and less
    # short by 1/2 and not at all; leading by 5/4 and by more; short by 5/2 and 3/2
    yield LossCase(
        np.array([[1.0, 0.5, -3.0], [1.75, 0.5, 3.0], [0.0, 1.5, 0.5]]),
        np.array([0, 2, 0]),
        loss=4.5 / 3,
        dpredictions=[[-1 / 3, 1 / 3, 0], [0, 0, 0], [-2 / 3, 1 / 3, 1 / 3]],
        score=2 / 3,
    )


def _squared_error_cases() -> Iterator[LossCase]:
    rng = np.random.default_rng(0)
    yield LossCase(rng.standard_normal((5, 2)), rng.standard_normal((5, 2)))
    yield LossCase(
        np.array([[1.0], [5.0]]),
        np.array([[3.0], [6.0]]),
        loss=2.5,
        dpredictions=[[-2.0], [-1.0]],
        score=1 - 5 / 4.5,
    )


LOSSES: dict[str, Loss] = {
    "softmax_cross_entropy": Loss(
        softmax_cross_entropy,
        reference_softmax_cross_entropy,
        reference_softmax_cross_entropy_gradient,
        check_labels,
        "accuracy",
        accuracy,
        no_spread,
        _softmax_cross_entropy_cases,
    ),
    "hinge_loss": Loss(
        hinge_loss,
        reference_hinge_loss,
        reference_hinge_loss_gradient,
        check_labels,
        "accuracy",
        accuracy,
        no_spread,
        _hinge_loss_cases,
    ),
    "squared_error": Loss(
        squared_error,
        reference_squared_error,
        reference_squared_error_gradient,
        check_numbers,
        "R²",
        r_squared,
        variance,
        _squared_error_cases,
    ),
}
