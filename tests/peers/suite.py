"""What the suites of others share: the outcome of a case, and when two arrays are the same."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from xhat import kernels
from xhat.kernels import random


class NotExpressibleError(Exception):
    """The case asks for something that xhat does not offer; the text says what."""


class Outcome(NamedTuple):
    """What came of one case: `lacking` what xhat does not offer, or `wrong` what differs, or neither."""

    operator: str
    case: str
    lacking: str = ""
    wrong: str = ""


def require(condition: Any, lacking: str) -> None:
    """Go on only if the case asks for nothing that is lacking."""
    if not condition:
        raise NotExpressibleError(lacking)


def difference(what: str, got: Any, true: Any, dtype: Any, floor: float = 0.0) -> str:
    """Say how two arrays differ by more than 8 eps of the largest entry (or of `floor`); nothing if they do not."""
    got, true = np.asarray(got), np.asarray(true)
    if got.shape != true.shape:
        return f"{what} has shape {got.shape}, not {true.shape}"
    if got.dtype != dtype:
        return f"{what} has type {got.dtype}, not {dtype}"
    if dtype == np.bool_:
        return "" if np.array_equal(got, true) else f"{what} differs"
    finite = np.isfinite(true)
    if not np.array_equal(got[~finite], true[~finite], equal_nan=True):
        return f"{what} differs where it is not finite"
    error = np.abs(got[finite].astype(np.float64) - true[finite]).max(initial=0)
    size = np.abs(true[finite]).max(initial=floor)
    allowed = 8 * np.finfo(dtype).eps * size
    return "" if error <= allowed else f"{what} is off by {error:.1e} where {allowed:.1e} is allowed"


@contextmanager
def replayed(keep: Any) -> Generator[None]:
    """Let dropout keep what another library kept."""
    with kernels.use("reference"), mock.patch.object(random, "kept", return_value=keep):
        yield


def log_probabilities(scores: Any, softmax_cross_entropy: Any) -> Any:
    """Return the logarithm of each class's probability: minus the loss if that class were the label, row by row."""
    rows = scores.reshape(-1, scores.shape[-1])
    values = [[-softmax_cross_entropy(row[None], np.array([j]))[0] for j in range(len(row))] for row in rows]
    return np.array(values, scores.dtype).reshape(scores.shape)
