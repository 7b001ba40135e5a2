"""What a mistake leaves: everything the code returns or stores on fixed inputs, and the mistakes that leave the same.

The inputs are chosen so that mistakes do not look alike: a large eps, random dout, gammas of both signs, more rows than
columns.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from xhat.checks import Array
from xhat.verify.faults.affine import AFFINE
from xhat.verify.faults.batch_norm import BATCH_NORM
from xhat.verify.faults.conv import CONV
from xhat.verify.faults.dictionary import Dictionary, Fault, Function, Seen
from xhat.verify.faults.dropout import DROPOUT
from xhat.verify.faults.flatten import FLATTEN
from xhat.verify.faults.group_norm import GROUP_NORM
from xhat.verify.faults.instance_norm import INSTANCE_NORM
from xhat.verify.faults.layer_norm import LAYER_NORM
from xhat.verify.faults.losses import HINGE_LOSS, SOFTMAX_CROSS_ENTROPY, SQUARED_ERROR
from xhat.verify.faults.max_pool import MAX_POOL
from xhat.verify.faults.relu import RELU
from xhat.verify.faults.rms_norm import RMS_NORM
from xhat.verify.faults.spatial_batch_norm import SPATIAL_BATCH_NORM

DICTIONARIES: Mapping[str, Dictionary] = {
    dictionary.layer: dictionary
    for dictionary in (
        BATCH_NORM,
        SPATIAL_BATCH_NORM,
        LAYER_NORM,
        GROUP_NORM,
        INSTANCE_NORM,
        RMS_NORM,
        AFFINE,
        RELU,
        DROPOUT,
        CONV,
        MAX_POOL,
        FLATTEN,
        SOFTMAX_CROSS_ENTROPY,
        HINGE_LOSS,
        SQUARED_ERROR,
    )
}

Signature = dict[str, Array | None]
"""By name: "out", "running_mean", "dx"; None for what is not an array of numbers."""

_RTOL, _ATOL = 1e-8, 1e-10  # equal formulas differ by rounding alone; the mistakes differ by far more
_DIGITS = 7


@dataclass(frozen=True)
class Match:
    """Mistakes that leave what the code leaves.

    Parameters
    ----------
    faults : tuple of Fault
        One, or two that were made together.
    parts : tuple of str
        What they explain: "out", "dx".
    whole : bool
        Whether they explain all that was seen, down to what is right.
    """

    faults: tuple[Fault, ...]
    parts: tuple[str, ...]
    whole: bool

    @property
    def message(self) -> str:
        """What is wrong, and what to do."""
        return " ".join(fault.message for fault in self.faults)


class Row(NamedTuple):
    """One layer of the table: how many mistakes there are, and how far they can be told apart."""

    layer: str
    forward: int
    backward: int
    harmless: int  # single mistakes that leave what correct code leaves
    signatures: int  # different ones of the others
    pairs: int  # two mistakes in different places, neither harmless
    unique: int  # pairs whose signature is that of no other pair, no single mistake and not the correct one
    masked: int  # pairs that look like a single mistake, or like correct code


def source_of(layer: str, faults: Sequence[Fault] = ()) -> str:
    """Return the text of a module: a layer's forward and backward pass with these mistakes, or without any.

    Parameters
    ----------
    layer : str
        "batch_norm"; one of `DICTIONARIES`.
    faults : sequence of Fault
        Mistakes of this layer in different places.

    Examples
    --------
    >>> from xhat.verify.faults import faults_of, source_of
    >>> fault = next(f for f in faults_of("batch_norm") if f.key == "variance_over_all")
    >>> lines = [line.strip() for line in source_of("batch_norm", [fault]).splitlines()]
    >>> [line for line in lines if line.startswith("var = ")]
    ['var = np.mean(xmu**2)']
    """
    return DICTIONARIES[layer].source(faults)


def faults_of(layer: str) -> tuple[Fault, ...]:
    """Return the mistakes of a layer, those of the forward pass first."""
    return DICTIONARIES[layer].faults


def signature(layer: str, forward: Function, backward: Function | None) -> Signature:
    """Return everything that the code returns or stores on the layer's fixed inputs, up to where it raises.

    Parameters
    ----------
    layer : str
        "batch_norm".
    forward, backward : callable
        They take what the course's functions take. A loss has no backward pass.
    """
    dictionary, seen = DICTIONARIES[layer], Seen()
    with guarded(seen):
        kept = dictionary.after_forward(forward, seen)
        if backward is not None:
            dictionary.after_backward(backward, kept, seen)
    return frozen(seen)


def right_signature(layer: str) -> Signature:
    """Return what correct code leaves."""
    return _singles(layer)[()]


def wrong_parts(layer: str, found: Signature) -> tuple[str, ...]:
    """Return the names of what is not as correct code leaves it."""
    right = right_signature(layer)
    return tuple(name for name in found if name not in right or not same(found[name], right[name]))


def diagnose(layer: str, forward: Function, backward: Function | None) -> list[Match]:
    """Return the known mistakes that leave what this code leaves; nothing for correct code and unknown mistakes.

    Parameters
    ----------
    layer : str
        "batch_norm".
    forward, backward : callable
        They take what the course's functions take. A loss has no backward pass.

    Returns
    -------
    list of Match
        Single mistakes that explain everything, if there are any; otherwise pairs that do; otherwise for every wrong
        part the mistakes that explain this part.
    """
    found = signature(layer, forward, backward)
    wrong = wrong_parts(layer, found)
    if not wrong:
        return []
    singles = _singles(layer)
    # Where the loss is another function, a gradient that is right for the layer is not the gradient of this loss.
    parts = (*wrong, "dx") if backward is None and "out" in wrong and "dx" not in wrong else wrong
    for known in (_singles, _pairs):  # the pairs are thousands: only made where no single mistake is enough
        whole = [Match(faults, parts, True) for faults, left in known(layer).items() if _all_same(found, left)]
        if whole:
            return whole
    if backward is None and "out" in wrong:  # another loss has another gradient: nothing is known of it
        return _by_part(singles, found, ("out",))
    return _by_part(singles, found, wrong)


def table() -> list[Row]:
    """Return for each layer how many mistakes its dictionary holds and how far they can be told apart."""
    return [_row(layer) for layer in DICTIONARIES]


def _by_part(singles: Mapping[tuple[Fault, ...], Signature], found: Signature, wrong: Sequence[str]) -> list[Match]:
    explained: dict[tuple[Fault, ...], list[str]] = {}
    right = singles[()]
    for part in wrong:
        for faults, left in singles.items():
            changed = part in left and not (part in right and same(left[part], right[part]))
            if changed and found[part] is not None and same(found[part], left[part]):
                explained.setdefault(faults, []).append(part)
    matches = [Match(faults, tuple(parts), False) for faults, parts in explained.items()]
    # What explains more comes first; what another mistake explains as well, and more besides, is left out.
    matches.sort(key=lambda match: -len(match.parts))
    best: list[Match] = []
    for match in matches:
        if not any(set(match.parts) < set(other.parts) for other in best):
            best.append(match)
    return best


def _row(layer: str) -> Row:
    dictionary = DICTIONARIES[layer]
    singles = {faults: _key(left) for faults, left in _singles(layer).items()}
    right = singles.pop(())
    harmful = {faults: key for faults, key in singles.items() if key != right}
    known = {right, *harmful.values()}
    pairs = Counter(_key(left) for left in _pairs(layer).values())
    return Row(
        layer,
        len(dictionary.forward_rows),
        len(dictionary.backward_rows),
        len(singles) - len(harmful),
        len(set(harmful.values())),
        pairs.total(),
        sum(count for key, count in pairs.items() if count == 1 and key not in known),
        sum(count for key, count in pairs.items() if key in known),
    )


@cache
def _singles(layer: str) -> dict[tuple[Fault, ...], Signature]:
    """Return what correct code leaves, under (), and what each mistake leaves."""
    dictionary = DICTIONARIES[layer]
    chosen: list[tuple[Fault, ...]] = [(), *((fault,) for fault in dictionary.faults)]
    return {faults: signature(layer, *dictionary.functions(faults)) for faults in chosen}


@cache
def _pairs(layer: str) -> dict[tuple[Fault, ...], Signature]:
    """Return what two mistakes in different places leave."""
    dictionary = DICTIONARIES[layer]
    harmful = [fault for fault in dictionary.faults if not fault.harmless]
    if not dictionary.backward:
        return {
            faults: signature(layer, *dictionary.functions(faults))
            for faults in itertools.combinations(harmful, 2)
            if _apart(*faults)
        }
    pairs: dict[tuple[Fault, ...], Signature] = {}
    with guarded(Seen()):  # once for thousands
        pairs.update(_pairs_of_two_functions(dictionary, harmful))
    return pairs


def _pairs_of_two_functions(
    dictionary: Dictionary, faults: Sequence[Fault]
) -> Iterator[tuple[tuple[Fault, ...], Signature]]:
    first = [fault for fault in faults if fault.side == "forward"]
    second = [fault for fault in faults if fault.side == "backward"]
    right_forward, right_backward = dictionary.functions()
    assert right_backward is not None

    def outcomes(forward: Function, backwards: Mapping[tuple[Fault, ...], Function]) -> Iterator[Any]:
        """Run the forward pass once for many backward passes."""
        before, kept = Seen(), None
        try:
            kept = dictionary.after_forward(forward, before)
        except Exception as error:
            before["error"] = type(error).__name__
        left = frozen(before)
        for faults, backward in backwards.items():
            seen = Seen()
            try:
                if "error" not in before:
                    dictionary.after_backward(backward, kept, seen)
            except Exception as error:
                seen["error"] = type(error).__name__
            yield faults, {**left, **frozen(seen)}

    backwards = {(fault,): _second(dictionary, fault) for fault in second}
    for fault in first:
        forward = dictionary.functions((fault,))[0]
        yield from (((fault, *two), left) for two, left in outcomes(forward, backwards))
    for two in filter(lambda two: _apart(*two), itertools.combinations(first, 2)):
        forward = dictionary.functions(two)[0]
        yield from ((two, left) for _, left in outcomes(forward, {(): right_backward}))
    both = {two: _second(dictionary, *two) for two in itertools.combinations(second, 2) if _apart(*two)}
    yield from outcomes(right_forward, both)


def _second(dictionary: Dictionary, *faults: Fault) -> Function:
    backward = dictionary.functions(faults)[1]
    assert backward is not None
    return backward


def _apart(one: Fault, other: Fault) -> bool:
    """Whether two mistakes change different places, so that both can be made."""
    try:
        DICTIONARIES[one.layer].source((one, other))
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def guarded(seen: Seen) -> Generator[None, None, None]:
    """Run what may be anybody's code: that it raises is a part of what it leaves.

    It does not warn of what wrong code divides by, and leaves the global generator where it was.
    """
    state = np.random.get_state()  # noqa: NPY002  the course's dropout draws from it
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            seen["error"] = type(error).__name__
        finally:
            np.random.set_state(state)  # noqa: NPY002


def frozen(seen: Seen) -> dict[str, Array | None]:
    """Return what was seen as copies in float64."""
    return {name: _numbers(value) for name, value in seen.items()}


def _numbers(value: Any) -> Array | None:
    try:
        return None if value is None else np.array(value, np.float64)
    except (TypeError, ValueError):
        return None


def same(one: Array | None, other: Array | None) -> bool:
    """Whether two results have one shape and differ by rounding alone."""
    if one is None or other is None:
        return one is other
    if one.shape != other.shape:
        return False
    with np.errstate(invalid="ignore"):
        near = np.abs(one - other) <= _ATOL + _RTOL * np.abs(other)
    return bool((near | (one == other) | ((one != one) & (other != other))).all())


def _all_same(one: Signature, other: Signature) -> bool:
    # Gradients come last and differ most often.
    return one.keys() == other.keys() and all(same(one[name], other[name]) for name in reversed(other))


def _key(left: Signature) -> tuple[Any, ...]:
    """Return what tells signatures apart, in a form that can be counted."""
    return tuple(
        (name, None if value is None else (value.shape, (np.round(value, _DIGITS) + 0.0).tobytes()))
        for name, value in left.items()
    )
