"""What an older form of the course wrote otherwise, and the switch for it.

Names and shapes that do not contradict each other are always understood. What is left, the year decides: what `p` of
dropout is a share of, and how `FullyConnectedNet` spells two of its arguments.
"""

import functools
import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

from xhat.checks import as_count


class Form(NamedTuple):
    """What the year decides."""

    p_is_kept: bool  # whether p of dropout is the share kept, else the share dropped
    dropout: str  # what FullyConnectedNet calls that share
    normalization: str  # what FullyConnectedNet calls the choice of the norm

    @property
    def no_dropout(self) -> int:
        """The p with which nothing is dropped."""
        return 1 if self.p_is_kept else 0


# Each holds until the next.
_FORMS = {
    2016: Form(p_is_kept=False, dropout="dropout", normalization="use_batchnorm"),
    2018: Form(p_is_kept=True, dropout="dropout", normalization="normalization"),
    2021: Form(p_is_kept=True, dropout="dropout_keep_ratio", normalization="normalization"),
}
_LATEST = 2026
_year = _LATEST


def set_year(number: int) -> None:
    """Follow the course as it was in a year, from now on and in all threads.

    Parameters
    ----------
    number : int
        2016 to 2026. Without a call, the form of 2021 to 2026 holds.

    Raises
    ------
    TypeError, ValueError
        If `number` is no such year.

    Notes
    -----
    Until 2017, `p` of dropout is the share dropped and 0 drops nothing; `FullyConnectedNet` takes `dropout=0` and
    `use_batchnorm=False`. From 2018 on, `p` is the share kept and 1 drops nothing; the arguments are `dropout=1` and
    `normalization=None`. From 2021 on, the first is `dropout_keep_ratio=1`. A net goes on in the form of the year
    that it was made in.

    Examples
    --------
    >>> from xhat import cs231n
    >>> from xhat.cs231n.classifiers.fc_net import FullyConnectedNet
    >>> cs231n.set_year(2017)
    >>> FullyConnectedNet([5], dropout=0.25, use_batchnorm=True).dropout_param
    {'mode': 'train', 'p': 0.25}
    >>> cs231n.set_year(2026)
    """
    global _year
    advice = f"The forms of assignment 2 from 2016 to {_LATEST} are known."
    number = as_count("cs231n.set_year", "a year", number, 2016, advice)
    if number > _LATEST:
        raise ValueError(f"cs231n.set_year: expected a year <= {_LATEST}, got {number}. {advice}")
    _year = number


@contextmanager
def year(number: int) -> Generator[None]:
    """Follow the course as it was in a year, for a while; see `set_year`.

    Examples
    --------
    >>> import numpy as np
    >>> from xhat import cs231n
    >>> from xhat.cs231n.layers import dropout_forward
    >>> dropout = {"mode": "train", "p": 0.25, "seed": 0}
    >>> with cs231n.year(2017):
    ...     print(dropout_forward(np.ones(4), dropout)[0])  # each stays with probability 0.75
    [1.33333333 1.33333333 1.33333333 1.33333333]
    >>> print(dropout_forward(np.ones(4), dropout)[0])  # each stays with probability 0.25
    [0. 0. 0. 0.]
    """
    before = _year
    set_year(number)
    try:
        yield
    finally:
        set_year(before)


def current_year() -> int:
    """Return the year that is followed."""
    return _year


def form() -> Form:
    """Return what the year decides."""
    return _FORMS[max(first for first in _FORMS if first <= _year)]


def spelled_as_in_its_year(init: Callable[..., None]) -> Callable[..., None]:
    """Let the constructor of `FullyConnectedNet` be called in the words of the year."""
    signature = inspect.signature(init)
    now = _FORMS[max(_FORMS)]

    @functools.wraps(init)
    def spelled(*arguments: Any, **named: Any) -> None:
        then = form()
        todays = {then.dropout: now.dropout, then.normalization: now.normalization}
        for name in named:
            if name not in todays and any(name in (other.dropout, other.normalization) for other in _FORMS.values()):
                raise TypeError(
                    f"FullyConnectedNet: expected {then.dropout} and {then.normalization} in {_year}, got {name}. "
                    "It belongs to another year of the course: choose it with xhat.cs231n.set_year."
                )
        try:
            bound = signature.bind(*arguments, **{todays.get(name, name): value for name, value in named.items()})
        except TypeError as error:
            raise TypeError(f"FullyConnectedNet: {error}") from None
        bound.arguments.setdefault(now.dropout, then.no_dropout)
        if then.normalization == "use_batchnorm":
            bound.arguments[now.normalization] = "batchnorm" if bound.arguments.get(now.normalization) else None
        init(*bound.args, **bound.kwargs)

    return spelled
