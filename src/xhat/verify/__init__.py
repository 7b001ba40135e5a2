"""Honesty: whether a backward pass computes the gradient of its forward pass, and if not, what is wrong with it.

In reading order: `problem` is the question, `report` the answer, `checking` the order of work. The engines:
`protocol` (floats), `exact` (finite fields), `symbolic` (all sizes at once); `rebind` runs a user's function on other
numbers. What is known beforehand: `specs` (signatures and formulas), `faults` (mistakes people make). The words:
`terms`, `values` (the first wrong line), `static` and `source` (the text), `repair`. `library` and `formulas` go
through the same engines: xhat's own layers, and formulas in plain text. Around it: `sandbox`, `certificate`, `formats`.
`numeric` checks whole networks before training.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from xhat.verify.numeric import GradientCheck, GradientRow, check_network
from xhat.verify.report import Finding, Level, PairReport, Verdict, Word

if _TYPE_CHECKING:
    from xhat.verify.checking import Report, assert_gradient, check
    from xhat.verify.formulas import prove

_LATER = {
    "Report": "xhat.verify.checking",
    "assert_gradient": "xhat.verify.checking",
    "check": "xhat.verify.checking",
    "prove": "xhat.verify.formulas",
}
"""What needs the engines, which are loaded when it is first asked for: training and the command begin without them."""


def __getattr__(name: str) -> _Any:
    """Load what is public but not loaded yet."""
    if name not in _LATER:
        raise AttributeError(f"module 'xhat.verify' has no attribute {name!r}")
    thing = getattr(_import_module(_LATER[name]), name)
    globals()[name] = thing
    return thing


def __dir__() -> list[str]:
    """Name everything public, loaded or not."""
    return sorted({*globals(), *_LATER})


__all__ = [
    "Finding",
    "GradientCheck",
    "GradientRow",
    "Level",
    "PairReport",
    "Report",
    "Verdict",
    "Word",
    "assert_gradient",
    "check",
    "check_network",
    "prove",
]
