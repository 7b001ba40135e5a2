"""What a check says: a verdict for every output and gradient, and findings that say what to change.

The five words of a verdict are fixed, and each claims no more than was done:

    PROVED for all sizes      the user's own code ran on symbols that stand for every size and every real input
    EXACT at shapes ...       an identity between rational functions held at random points of large finite fields
    AGREES to 1e-n            floats agree
    DISPROVED                 there is an input, shown, at which the two differ
    NOT DECIDED               why, and at which line
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any


class Word(StrEnum):
    """What is known of an output or a gradient."""

    PROVED = "PROVED"
    EXACT = "EXACT"
    AGREES = "AGREES"
    DISPROVED = "DISPROVED"
    NOT_DECIDED = "NOT DECIDED"


class Level(IntEnum):
    """How far a check goes; each level is stronger than the one before."""

    NONE = 0
    NUMERIC = 1
    EXACT = 2
    PROOF = 3

    def __str__(self) -> str:
        return self.name.lower()


LEVEL_OF: Mapping[Word, Level] = {
    Word.PROVED: Level.PROOF,
    Word.EXACT: Level.EXACT,
    Word.AGREES: Level.NUMERIC,
    Word.DISPROVED: Level.NONE,
    Word.NOT_DECIDED: Level.NONE,
}


@dataclass(frozen=True)
class Verdict:
    """What is known of one output ("out", "running_mean") or one gradient ("dx").

    Parameters
    ----------
    name : str
        "out", "dx", "dgamma".
    word : Word
        The verdict.
    message : str
        One or several lines that a student understands; the first stands alone: "for all N and D",
        "term missing: - gamma*mean(dout)/sigma".
    line : int, optional
        Where in the file, counted from 1.
    repair : str, optional
        A unified diff after which this is right: it was applied and checked before it was put here.
    counterexample : str, optional
        The input at which the two differ, and the two numbers.
    """

    name: str
    word: Word
    message: str
    line: int | None = None
    repair: str | None = None
    counterexample: str | None = None

    @property
    def level(self) -> Level:
        """The level reached."""
        return LEVEL_OF[self.word]

    @property
    def wrong(self) -> bool:
        """Whether this is disproved."""
        return self.word is Word.DISPROVED

    @property
    def is_gradient(self) -> bool:
        """Whether it is a gradient that is judged, and not an output."""
        return self.name.startswith("d")


@dataclass(frozen=True)
class Finding:
    """Something to change that is not a formula: a name never defined, a cache of other length, an input modified.

    Parameters
    ----------
    kind : str
        One short word with hyphens, for machines: "undefined-name", "input-modified", "wrong-shape".
    message : str
        A sentence that says what is wrong and what to do.
    line : int, optional
        Where in the file, counted from 1.
    repair : str, optional
        A unified diff, checked before it was put here.
    """

    kind: str
    message: str
    line: int | None = None
    repair: str | None = None


@dataclass(frozen=True)
class PairReport:
    """All that is said of one pair of functions.

    Parameters
    ----------
    pair : str
        "batchnorm": `batchnorm_forward` and `batchnorm_backward`.
    verdicts : sequence of Verdict
        The output first ("your forward is batch norm"), then the gradients ("the gradient of your forward").
    findings : sequence of Finding
        What else to change.
    line : int, optional
        Where the forward pass begins.
    evidence : mapping
        What a certificate records: shapes, primes, seeds, degrees, assumptions, literals as read, functions used, ms.
    limit : str, optional
        Which limit stopped the check: "time", "memory".
    remarks : sequence of Finding
        What is worth knowing and no fault: float64 out of float32.
    """

    pair: str
    verdicts: Sequence[Verdict] = ()
    findings: Sequence[Finding] = ()
    line: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    limit: str | None = None
    remarks: Sequence[Finding] = ()

    @property
    def wrong(self) -> bool:
        """Whether something is to be changed."""
        return bool(self.findings) or any(verdict.wrong for verdict in self.verdicts)

    @property
    def level(self) -> Level:
        """The level that all gradients reached, of outputs that were decided: those are compared on floats at least."""
        if any(verdict.level is Level.NONE for verdict in self.verdicts):
            return Level.NONE
        judged = [verdict for verdict in self.verdicts if verdict.is_gradient] or self.verdicts
        return min((verdict.level for verdict in judged), default=Level.NONE)


@dataclass(frozen=True)
class FileReport:
    """All that is said of one file; `error` says why it could not be read or imported."""

    file: str
    pairs: Sequence[PairReport] = ()
    error: str | None = None
    error_line: int | None = None
