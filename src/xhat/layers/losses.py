"""Losses: one number that says how wrong the predictions are, and its gradient.

softmax cross-entropy, for classes: minus the logarithm of the probability given to the right class.

    p_j = exp(s_j) / sum over k of exp(s_k)          loss = average over samples of -log(p_label)
    ds_j = (p_j - [j is the label]) / N

For a confident row p_label is so close to 1 that log(p) and p - 1 lose all digits. Both are therefore
computed from the *others*: with o = sum over k != label of exp(s_k - s_label), loss = log1p(o), and the gradient's
entry at the label is -(share of the others).

squared error, for numbers:

    loss = average over all entries of (prediction - target)²          dprediction = 2 (prediction - target) / count
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_values
from xhat.core import Loss, LossCase


def reference_softmax_cross_entropy(scores: Array, labels: Array) -> Array:
    """Return the average of -log(p_label), from the definition."""
    at_label = np.take_along_axis(scores, labels[..., None], -1)
    return np.log(np.exp(scores - at_label).sum(-1)).mean()


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
    classes = np.asarray(labels)
    if values.ndim < 1 or values.shape[-1] < 1:
        raise ValueError(f"{who}: expected scores of shape (..., C), got {values.shape}. Give a score per class.")
    if classes.dtype.kind not in "iu" and classes.size:
        raise TypeError(f"{who}: expected labels as integers, got {classes.dtype}. Number the classes from 0.")
    if classes.shape != values.shape[:-1]:
        raise ValueError(
            f"{who}: expected labels of shape {values.shape[:-1]} for scores {values.shape}, got {classes.shape}. "
            "Give one class number per row of scores."
        )
    if not classes.size:
        return 0.0, np.zeros_like(values)
    low, high = int(classes.min()), int(classes.max())
    if low < 0 or high >= values.shape[-1]:
        raise ValueError(
            f"{who}: expected labels from 0 to {values.shape[-1] - 1}, got {low if low < 0 else high}. "
            "Number the classes from 0, one score for each."
        )

    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
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


def reference_squared_error(predictions: Array, targets: Array) -> Array:
    """Return the average of (prediction - target)², from the definition."""
    return ((predictions - targets) ** 2).mean()


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
    wanted = np.asarray(targets)
    if wanted.dtype.kind not in "iuf" and wanted.dtype.name != "bfloat16":
        raise TypeError(f"{who}: expected targets as numbers, got {wanted.dtype}. Convert them to float.")
    if wanted.shape != values.shape:
        raise ValueError(
            f"{who}: expected targets of shape {values.shape}, got {wanted.shape}. Give one target per prediction."
        )
    if not values.size:
        return 0.0, np.zeros_like(values)
    with np.errstate(all="ignore"):
        miss = values.astype(np.float64) - wanted.astype(np.float64)
        return float((miss * miss).mean()), (miss * (2.0 / miss.size)).astype(values.dtype)


def accuracy(scores: Array, labels: Array) -> float:
    """Return the share of samples whose highest score is the label's; of equal scores the first counts."""
    return float((scores.argmax(-1) == labels).mean()) if labels.size else float("nan")


def r_squared(predictions: Array, targets: Array) -> float:
    """Return 1 - (squared error) / (variance of the targets): 1 is perfect, 0 no better than their mean."""
    wanted = np.asarray(targets, np.float64)
    spread = float(((wanted - wanted.mean(0)) ** 2).sum()) if wanted.size else 0.0
    if spread == 0:
        return float("nan")
    return 1.0 - float(((predictions - wanted) ** 2).sum()) / spread


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
        "accuracy",
        accuracy,
        _softmax_cross_entropy_cases,
    ),
    "squared_error": Loss(squared_error, reference_squared_error, "R²", r_squared, _squared_error_cases),
}
