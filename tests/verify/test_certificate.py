"""Certificates: what they hold, that a second run decides and not the file, and that damage is refused."""

import hashlib
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xhat.verify import certificate
from xhat.verify.certificate import CertificateError
from xhat.verify.report import FileReport, Level, PairReport, Verdict, Word
from xhat.verify.sandbox import Settings

SOURCE = b"def a_forward(x): ...\ndef a_backward(dout, cache): ...\n"
HOW = Settings("a", "cs231n", Level.EXACT, 5)


def report(*words, file="mine.py"):
    evidence = {"primes": [2**61 - 1], "failure probability, log2": -170.5, "shapes": [{"N": 3}], "seed": 5}
    verdicts = tuple(Verdict(f"d{n}", word, "because") for n, word in enumerate(words))
    return FileReport(file, (PairReport("a", verdicts, evidence=evidence),))


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_bytes(SOURCE)
    words = (Word.PROVED, Word.EXACT, Word.DISPROVED, Word.NOT_DECIDED)
    (tmp_path / "c.json").write_text(certificate.issue(report(*words), SOURCE, HOW, "."))
    return tmp_path / "c.json"


def seal(path, change):
    """Change a certificate and give it a hash that fits, as a forger would."""
    content = json.loads(path.read_text())
    del content["sha256"]
    change(content)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps({**content, "sha256": hashlib.sha256(text.encode()).hexdigest()}))


def test_it_holds_what_it_takes_to_check_again(written):
    content = json.loads(written.read_text())
    assert content["file"] == "mine.py"
    assert content["source_sha256"] == hashlib.sha256(SOURCE).hexdigest()
    assert content["settings"] == {"pair": "a", "spec": "cs231n", "level": "exact", "seed": 5}
    assert set(content["versions"]) == {"xhat", "numpy", "python"}
    assert content["pairs"][0]["evidence"]["primes"] == [2**61 - 1]
    assert [(v["name"], v["verdict"], v["level"]) for v in content["pairs"][0]["verdicts"]] == [
        ("d0", "PROVED", "proof"),
        ("d1", "EXACT", "exact"),
        ("d2", "DISPROVED", "none"),
        ("d3", "NOT DECIDED", "none"),
    ]


def test_it_is_run_again_with_its_seed_and_a_fresh_one(written):
    runs = []

    def run(file, how):
        runs.append((file, how))
        return report(Word.PROVED, Word.PROVED, Word.DISPROVED, Word.AGREES)  # stronger verdicts confirm

    done = certificate.recheck(written, run)
    assert done.differences == ()
    assert done.confirmed == ("a d0 PROVED", "a d1 EXACT", "a d2 DISPROVED", "a d3 NOT DECIDED")
    assert [file for file, _ in runs] == [written.parent / "mine.py"] * 2
    assert runs[0][1] == HOW
    assert runs[1][1] == HOW._replace(seed=done.seeds[1])
    assert done.seeds[1] != 5


@pytest.mark.parametrize(
    ("claimed", "found"),
    [
        (Word.PROVED, Word.EXACT),
        (Word.PROVED, Word.DISPROVED),
        (Word.EXACT, Word.AGREES),
        (Word.AGREES, Word.NOT_DECIDED),
        (Word.DISPROVED, Word.PROVED),
        (Word.DISPROVED, Word.NOT_DECIDED),
        (Word.NOT_DECIDED, Word.DISPROVED),
    ],
)
def test_a_false_verdict_is_refuted_by_the_run(written, claimed, found):
    written.write_text(certificate.issue(report(claimed), SOURCE, HOW, "."))
    fresh = certificate.recheck(written, lambda _, how: report(claimed if how.seed == 5 else found))
    assert fresh.confirmed == ()
    assert fresh.differences == (
        f"a d0: the certificate says {claimed}, the run with seed {fresh.seeds[1]} says {found}",
    )


def test_a_verdict_that_is_gone_is_not_confirmed(written):
    done = certificate.recheck(written, lambda *_: FileReport("mine.py", error="ImportError"))
    assert len(done.differences) == 8
    assert done.differences[0] == "a d0: the certificate says PROVED, the run with seed 5 says nothing"


def refuse(file, how):
    raise AssertionError("run without need")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("EXACT", "PROVED"), "one that was changed after it was written (its own SHA-256 does not fit)"),
        (lambda text: text[:-9], "no JSON"),
        (lambda text: "[" * 100_000, "no JSON"),
        (lambda text: "[]", "another kind of file"),
        (lambda text: "{}", "another kind of file"),
        (lambda text: "\xff\x00", "no JSON"),
    ],
)  # fmt: skip
def test_damage_is_refused(written, change, told):
    written.write_bytes(change(written.read_text()).encode("latin-1"))
    with pytest.raises(CertificateError) as error:
        certificate.recheck(written, refuse)
    assert str(error.value) == (
        f"{written}: expected a certificate of xhat check, got {told}. Write it anew with --certificate."
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("pairs"),
        lambda c: c.update(pairs=[{}]),
        lambda c: c.update(settings=7),
        lambda c: c["settings"].update(level="certain"),
        lambda c: c["settings"].update(seed="x"),
        lambda c: c["settings"].update(pair=3),
        lambda c: c["pairs"][0]["verdicts"][0].update(verdict="TRUE"),
        lambda c: c.update(file=3),
    ],
)
def test_a_forged_certificate_of_other_form_is_refused(written, change):
    seal(written, change)
    with pytest.raises(CertificateError, match="got an entry that is missing or of another kind"):
        certificate.recheck(written, refuse)


def test_another_version_is_refused(written):
    seal(written, lambda content: content.update(schema=2))
    with pytest.raises(CertificateError, match="expected a certificate of version 1, got 2. Use the version of xhat"):
        certificate.recheck(written, refuse)


def test_another_source_is_refused(written):
    (written.parent / "mine.py").write_bytes(SOURCE + b"\n")
    with pytest.raises(CertificateError, match=r"as it was when it was checked .*, got another text .* Check it anew."):
        certificate.recheck(written, refuse)
    (written.parent / "mine.py").unlink()
    with pytest.raises(CertificateError, match=r"expected the source at .*mine.py, got: No such file or directory"):
        certificate.recheck(written, refuse)
    written.unlink()
    with pytest.raises(CertificateError, match="expected a certificate, got: No such file or directory"):
        certificate.recheck(written, refuse)


def test_both_files_may_move_together(written, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    os.rename(written, away / "c.json")
    os.rename(tmp_path / "mine.py", away / "mine.py")
    assert certificate.recheck(away / "c.json", lambda file, _: report()).file == away / "mine.py"


@pytest.mark.parametrize(
    "unfinished",
    [
        FileReport("mine.py", error="SyntaxError"),
        FileReport("mine.py", (PairReport("a", limit="time"),)),
        FileReport("mine.py"),
    ],
)
def test_what_was_not_done_is_not_certified(tmp_path, unfinished):
    with pytest.raises(CertificateError, match="issue: expected a check that was done, got none of mine.py"):
        certificate.issue(unfinished, SOURCE, HOW, tmp_path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_any_changed_byte_is_refused_or_makes_no_difference(written, place, byte):
    whole = written.read_bytes()
    changed = bytearray(whole)
    changed[place % len(whole)] = byte
    (written.parent / "changed.json").write_bytes(changed)
    try:
        certificate.recheck(written.parent / "changed.json", lambda *_: report())
    except CertificateError:
        return
    assert json.loads(changed) == json.loads(whole)
