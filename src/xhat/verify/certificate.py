"""What a check found out, written to a file that can be checked again.

A certificate holds the hash of the source, how the check was made (level, seed, versions) and per output and gradient
what was found and from what evidence: assumptions, literals as they were read, primes, degrees, shapes. Nobody has to
believe it: `recheck` runs the same check again, with the seed of the certificate and with a fresh one, and compares.
The hash that it holds of itself shows damage. It is no signature: anybody can write a certificate with a right hash and
a false verdict, and the second run is what refutes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xhat.verify import formats
from xhat.verify.report import LEVEL_OF, FileReport, Level, Verdict, Word
from xhat.verify.sandbox import Settings

_SCHEMA = 1
_KIND = "xhat check certificate"
_LARGEST = 64 << 20


Run = Callable[[Path, Settings], FileReport]
"""Checks a file."""


class CertificateError(ValueError):
    """A certificate cannot be used; the message says why."""


class Recheck(NamedTuple):
    """What became of a certificate that was checked again.

    Attributes
    ----------
    file : Path
        The source that it speaks of.
    confirmed : tuple of str
        "batchnorm dx PROVED", once for each verdict that both runs found again.
    differences : tuple of str
        A sentence for each verdict that a run did not find again.
    reports : tuple of FileReport
        What the two runs said: with the certificate's seed, and with a fresh one.
    seeds : tuple of int
        Their seeds.
    """

    file: Path
    confirmed: tuple[str, ...]
    differences: tuple[str, ...]
    reports: tuple[FileReport, ...]
    seeds: tuple[int, ...]


def issue(report: FileReport, source: bytes, settings: Settings, folder: str | os.PathLike[str]) -> str:
    """Return the certificate of a check, as the text of a file.

    Parameters
    ----------
    report : FileReport
        What was found.
    source : bytes
        The file that was checked, as it was read.
    settings : Settings
        How it was checked.
    folder : path-like
        Where the certificate will lie: it names the source as seen from there.

    Returns
    -------
    str
        JSON.

    Raises
    ------
    CertificateError
        If the report says that the file could not be checked, or that a limit stopped it.
    """
    if report.error is not None or any(pair.limit for pair in report.pairs) or not report.pairs:
        raise CertificateError(
            f"issue: expected a check that was done, got none of {report.file}. Check the file without errors first."
        )
    content = {
        "kind": _KIND,
        "schema": _SCHEMA,
        "statement": "about real numbers in exact arithmetic, not about rounding; 'xhat check --recheck' runs it again",
        "versions": {"xhat": version("xhat"), "numpy": np.__version__, "python": platform.python_version()},
        "file": os.path.relpath(os.path.realpath(report.file), os.path.realpath(folder)),
        "source_sha256": hashlib.sha256(source).hexdigest(),
        "settings": {**settings._asdict(), "level": str(settings.level)},
        "pairs": [formats.pair_as_json(pair) for pair in report.pairs],
    }
    return json.dumps({**content, "sha256": _hash(content)}, indent=2) + "\n"


def recheck(path: str | os.PathLike[str], run: Run) -> Recheck:
    """Check again what a certificate says.

    Parameters
    ----------
    path : path-like
        The certificate. The source is looked for where it lay, seen from there.
    run : callable
        `run(file, settings)` checks a file and returns the report.

    Returns
    -------
    Recheck
        What was confirmed and what was not.

    Raises
    ------
    CertificateError
        If it is no certificate, damaged, or speaks of another source than the one that is there.
    """
    content = _read(Path(path))
    try:
        file = Path(os.path.realpath(Path(path).parent)) / content["file"]
        asked = content["settings"]
        settings = Settings(
            _text_or_none(asked["pair"]),
            _text_or_none(asked["spec"]),
            Level[asked["level"].upper()],
            int(asked["seed"]),
        )
        claims = [formats.pair_from_json(pair) for pair in content["pairs"]]
        wanted = content["source_sha256"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, f"an entry that is missing or of another kind ({error})") from None
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise CertificateError(
            f"{path}: expected the source at {file}, got: {error.strerror or error}. Put it there again."
        ) from None
    if found != wanted:
        raise CertificateError(
            f"{path}: expected {file} as it was when it was checked (SHA-256 {str(wanted)[:12]}...), "
            f"got another text ({found[:12]}...). Check it anew."
        )
    seeds = (settings.seed, secrets.randbelow(1 << 31))
    reports = tuple(run(file, settings._replace(seed=seed)) for seed in seeds)
    confirmed: list[str] = []
    differences: list[str] = []
    for pair in claims:
        for claim in pair.verdicts:
            label = f"{pair.pair} {claim.name}"
            missed = [
                f"{label}: the certificate says {claim.word}, the run with seed {seed} says {_say(again)}"
                for seed, report in zip(seeds, reports, strict=True)
                if not _confirms(again := _verdict(report, pair.pair, claim.name), claim)
            ]
            differences += missed
            if not missed:
                confirmed.append(f"{label} {claim.word}")
    return Recheck(file, tuple(confirmed), tuple(differences), reports, seeds)


def _verdict(report: FileReport, pair: str, name: str) -> Verdict | None:
    return next((v for p in report.pairs if p.pair == pair for v in p.verdicts if v.name == name), None)


def _say(verdict: Verdict | None) -> str:
    return "nothing" if verdict is None else str(verdict.word)


def _confirms(again: Verdict | None, claim: Verdict) -> bool:
    """Whether a verdict says at least what the certificate says."""
    if again is None or again.wrong != claim.wrong:
        return False
    return claim.word is Word.NOT_DECIDED or again.wrong or LEVEL_OF[again.word] >= LEVEL_OF[claim.word]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise CertificateError(
            f"{path}: expected a certificate, got: {error.strerror or error}. Check the path."
        ) from None
    if len(data) > _LARGEST:
        raise _damaged(path, f"more than {_LARGEST >> 20} MB")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise _damaged(path, "no JSON") from None
    if not isinstance(content, dict) or content.get("kind") != _KIND:  # pyright: ignore[reportUnknownMemberType]
        raise _damaged(path, "another kind of file")
    entries: dict[str, Any] = dict(content)  # pyright: ignore[reportUnknownArgumentType]
    if entries.get("schema") != _SCHEMA:
        raise CertificateError(
            f"{path}: expected a certificate of version {_SCHEMA}, got {entries.get('schema')!r}. "
            "Use the version of xhat that wrote it."
        )
    told = entries.pop("sha256", None)
    if told != _hash(entries):
        raise _damaged(path, "one that was changed after it was written (its own SHA-256 does not fit)")
    return entries


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _damaged(path: str | os.PathLike[str], got: str) -> CertificateError:
    return CertificateError(
        f"{os.fspath(path)}: expected a certificate of xhat check, got {got}. Write it anew with --certificate."
    )


def _text_or_none(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"a {type(value).__name__} where none belongs")
