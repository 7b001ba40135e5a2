"""Honesty: whether a backward pass computes the gradient of its forward pass, and if not, what is wrong with it.

In reading order: `problem` is the question, `report` the answer, `checking` the order of work. The engines:
`protocol` (floats), `exact` (finite fields), `symbolic` (all sizes at once); `rebind` runs a user's function on other
numbers. What is known beforehand: `specs` (signatures and formulas), `faults` (mistakes people make). The words:
`terms`, `values` (the first wrong line), `static` and `source` (the text), `repair`. `library` and `formulas` go
through the same engines: xhat's own layers, and formulas in plain text. Around it: `sandbox`, `certificate`, `formats`.
`numeric` checks whole networks before training.
"""

from xhat.verify.checking import Report, assert_gradient, check
from xhat.verify.formulas import prove
from xhat.verify.numeric import GradientCheck, GradientRow, check_network
from xhat.verify.report import Finding, Level, PairReport, Verdict, Word

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
