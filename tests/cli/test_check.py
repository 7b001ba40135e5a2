"""`xhat check`: which files are checked, how, what is written where, and the exit code of every outcome."""

import json
import re
import subprocess
import textwrap
import time
import xml.etree.ElementTree as ElementTree

import pytest

from xhat.cli import check as command
from xhat.verify import sandbox

# Finds pairs as the real engine does, and lets the file itself say what is to be said of each.
ENGINE = """
import ast
from xhat.verify import source
from xhat.verify.report import FileReport, Finding, PairReport, Verdict, Word

def check_file(path, *, pair, spec, level, seed, time_left, on_pair):
    text = source.read(path)
    namespace = {"__name__": "mine", "settings": (pair, spec, str(level), seed)}
    try:
        exec(compile(text.text, path, "exec"), namespace)
    except Exception as error:
        return FileReport(path, error=f"{type(error).__name__}: {error}", error_line=1)
    pairs = []
    for found in source.pairs(text):
        if pair is None or found.name == pair:
            told = namespace[found.backward]()
            verdicts = [v for v in told if isinstance(v, Verdict)]
            findings = [f for f in told if isinstance(f, Finding)]
            pairs.append(PairReport(found.name, verdicts, findings, found.line, {"seed": seed}))
            on_pair(pairs[-1])
    return FileReport(path, pairs)
"""
HEAD = """
from xhat.verify.report import Finding, Verdict, Word
PROVED, EXACT, AGREES, DISPROVED, OPEN = Word.PROVED, Word.EXACT, Word.AGREES, Word.DISPROVED, Word.NOT_DECIDED
"""


@pytest.fixture
def write(folder, monkeypatch):
    """Return a function that writes a file of pairs; the engine is a stand-in that says what their backwards return."""
    (folder / "engine").mkdir()
    monkeypatch.setattr(command, "_ENGINE", "stand_in_engine:check_file")

    def written(name="mine.py", more="", **pairs):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "stand_in_engine.py").write_text(ENGINE)
        lines = [HEAD, textwrap.dedent(more)]
        lines += [f"def {pair}_forward(): pass\ndef {pair}_backward():\n    {body}" for pair, body in pairs.items()]
        path.write_text("\n".join(lines))
        return name

    return written


def says(*verdicts, findings=""):
    told = "".join(f"Verdict('d{n}', {word}, 'because'), " for n, word in enumerate(verdicts))
    return f"return [{told}{findings}]"


LOOP = "while True: pass"
FINDING = "Finding('input-modified', 'dout is changed in place', 7)"


@pytest.mark.parametrize(
    ("code", "pairs", "level"),
    [
        (0, [says("PROVED", "PROVED")], "proof"),
        (0, [says("PROVED", "EXACT")], "exact"),
        (3, [says("PROVED", "EXACT")], "proof"),
        (0, [says("AGREES")], "numeric"),
        (3, [says("AGREES")], "exact"),
        (3, [says("OPEN")], "numeric"),
        (3, [says()], "numeric"),
        (1, [says("PROVED", findings=FINDING)], "proof"),
        (1, [says("DISPROVED"), says("OPEN")], "numeric"),
        (4, [says("DISPROVED"), LOOP], "proof"),
        (4, [says("PROVED"), "import os; os._exit(0)"], "proof"),
        (4, [says("PROVED"), "x = [0] * 10**9; return x"], "proof"),
    ],
)
def test_exit_codes(xhat, write, code, pairs, level):
    write(**{f"p{n}": body for n, body in enumerate(pairs)})
    done = xhat("check", "mine.py", "--level", level, "--timeout", "0.6", "--memory", "200M")
    assert (done.code, done.err) == (code, ""), done


def test_a_time_without_end_is_refused(xhat, write):
    write("mine.py", a=says("PROVED"))
    done = xhat("check", "mine.py", "--timeout", "inf")
    assert (done.code, done.out) == (2, "")
    assert "expected --timeout in seconds" in done.err


def test_the_worst_file_decides(xhat, write):
    write("good.py", a=says("PROVED"))
    write("bad.py", a=says("DISPROVED"))
    write("open.py", a=says("OPEN"))
    write("broken.py", "import nothing_of_this_name", a=says("PROVED"))
    assert xhat("check", "good.py", "open.py").code == 3
    assert xhat("check", "bad.py", "good.py", "open.py").code == 1
    done = xhat("check", "bad.py", "broken.py", "good.py")
    assert done.code == 2
    told = " ".join(done.out.split())
    assert "! ERROR ModuleNotFoundError: No module named 'nothing_of_this_name' (line 1)" in told
    assert told.endswith("3 files: 1 of 2 outputs and gradients exact or proved, 1 disproved, 1 not to be checked")


def test_a_report_that_a_student_understands(xhat, write):
    repair = "--- mine.py\\n+++ mine.py\\n@@ -1 +1 @@\\n-a\\n+b\\n"
    write(
        more="print('looking')\nopen('/no', 'w') if 0 else None",
        batchnorm="return [Verdict('out', PROVED, 'for all N and D'), Verdict('dgamma', DISPROVED, "
        f"'off by a factor sigma: x - mean was used where x_hat belongs, in the sum over the batch of dout', 9, '{repair}', 'x = 1/2'), {FINDING}]",
    )
    done = xhat("check", "mine.py")
    assert done.out == textwrap.dedent("""\
        mine.py

          batchnorm  (line 7)
            ✓ out     PROVED       for all N and D
            ✗ dgamma  DISPROVED    off by a factor sigma: x - mean was used where x_hat
                                   belongs, in the sum over the batch of dout  (line 9)
              for example: x = 1/2
              a change that was tried and found right:
                @@ -1 +1 @@
                -a
                +b
            ! input-modified  dout is changed in place  (line 7)
          your code printed:
          | looking

          1 of 2 outputs and gradients exact or proved, 1 disproved, 1 to change besides
        """)  # fmt: skip
    assert done.code == 1


def test_pairs_after_one_that_never_ends_are_checked_all_the_same(xhat, write):
    write(a=says("PROVED"), b=LOOP, c=says("DISPROVED"), d=LOOP, e=says("PROVED"))
    done = xhat("check", "mine.py", "--timeout", "0.6", "--format", "json")
    pairs = {pair["pair"]: pair for pair in json.loads(done.out)["files"][0]["pairs"]}
    assert list(pairs) == ["a", "b", "c", "d", "e"]
    assert [pair["limit"] for pair in pairs.values()] == [None, "time", None, "time", None]
    assert pairs["c"]["verdicts"][0]["verdict"] == "DISPROVED"
    assert done.code == 4


def test_an_import_that_never_ends_is_not_tried_for_every_pair(xhat, write):
    write(more=LOOP, **{f"p{n}": says("PROVED") for n in range(9)})
    began = time.monotonic()
    done = xhat("check", "mine.py", "--timeout", "0.5")
    assert time.monotonic() - began < 4
    assert done.code == 4
    assert "p8  (line" not in done.out
    assert done.out.count("Not begun: the check of this file ended before.") == 7
    assert "The time was up: 0.5 s for each pair." in done.out


def test_settings_reach_the_engine(xhat, write):
    write(a="return [Verdict('dx', PROVED, repr(settings))]", b=says("DISPROVED"))
    done = xhat("check", "mine.py", "--pair", "a", "--spec", "torch", "--level", "exact", "--seed", "7")
    assert "('a', 'torch', 'exact', 7)" in done.out
    assert done.code == 0


def test_folders_are_searched(xhat, write, folder):
    write("class/ann/layers.py", a=says("PROVED"))
    write("class/bob/layers.py", a=says("DISPROVED"))
    write("class/.venv/layers.py", a=says("DISPROVED"))
    write("class/notes.py", more="x = 1")
    (folder / "class/cat").mkdir()
    (folder / "class/cat/layers.py").write_text("def a_forward(:\ndef a_backward(")
    (folder / "class/cat/other.py").write_text("print 'old'")
    cells = [
        {
            "cell_type": "code",
            "source": (folder / "class/ann/layers.py").read_text(),
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
    ]
    (folder / "class/book.ipynb").write_text(
        json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})
    )
    write("class/x.py", more="")
    done = xhat("check", "class", "--format", "json")
    files = json.loads(done.out)["files"]
    assert [file["file"] for file in files] == [
        "class/ann/layers.py",
        "class/bob/layers.py",
        "class/book.ipynb",
        "class/cat/layers.py",
    ]
    assert [bool(file["error"]) for file in files] == [False, False, False, True]
    assert done.code == 2


def test_of_a_folder_the_files_that_hold_the_pair_are_checked(xhat, write, folder):
    write("class/ann/layers.py", a=says("PROVED"), b=says("DISPROVED"))
    write("class/bob/layers.py", b=says("DISPROVED"))
    done = xhat("check", "class", "--pair", "a", "--format", "json")
    assert [file["file"] for file in json.loads(done.out)["files"]] == ["class/ann/layers.py"]
    assert done.code == 0
    done = xhat("check", "class", "--pair", "c")
    assert "expected --pair as a pair of some file in class, got 'c'" in done.err
    assert done.code == 2


def test_a_notebooks_lines_are_those_of_its_cells(xhat, write, folder):
    write(a=says("PROVED"))
    body = (folder / "mine.py").read_text()
    cells = [
        {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}
        for source in ("x = 1", body)
    ]
    (folder / "mine.ipynb").write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    done = xhat("check", "mine.ipynb")
    assert re.search(r"  a  \(cell 2, line \d\)", done.out), done.out
    assert done.code == 0


@pytest.mark.parametrize("form", ["text", "json", "junit", "sarif", "html"])
def test_reports_go_to_a_file_whole(xhat, write, folder, form):
    write(a=says("DISPROVED"))
    done = xhat("check", "mine.py", "--format", form, "--output", "report")
    assert (done.out, done.err, done.code) == ("", "", 1)
    written = (folder / "report").read_text()
    assert "DISPROVED" in written
    assert "\x1b" not in written
    if form in ("json", "sarif"):
        json.loads(written)
    if form == "junit":
        assert ElementTree.fromstring(written.encode()).get("failures") == "1"
    done = xhat("check", "mine.py", "--format", form, "--output", "no/such/folder/report")
    assert done.code == 1
    assert done.err.startswith("xhat: expected to read or write ")


def test_a_patch_repairs_the_file(xhat, write, folder):
    write(
        more=f"REPAIR = open({str(folder / 'repair')!r}).read()",
        a="return [Verdict('dx', DISPROVED, 'wrong', 3, REPAIR)]",
    )
    text = (folder / "mine.py").read_text()
    last = text.splitlines()[-1]
    (folder / "repair").write_text(f"--- any\n+++ any\n@@ -{len(text.splitlines())} +1 @@\n-{last}\n+    return []\n")
    done = xhat("check", "mine.py", "--diff")
    assert (done.code, done.err) == (1, "")
    (folder / "patch").write_text(done.out)
    subprocess.run(["git", "apply", "-p0", "patch"], cwd=folder, check=True)
    assert (folder / "mine.py").read_text() == text.replace(last, "    return []")


def test_github_marks_lines(xhat, write, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    write(a="return [Verdict('dx', DISPROVED, 'first\\nsecond 100%', 9), Verdict('dy', OPEN, 'no')]")
    done = xhat("check", "mine.py")
    assert "::error file=mine.py,line=9,title=a dx::DISPROVED: first%0Asecond 100%25%0Amine.py, line 9" in done.out
    assert "::warning file=mine.py,title=a dy::NOT DECIDED: no" in done.out
    assert "::error" not in xhat("check", "mine.py", "--format", "json").out


def test_certificates_are_written_and_run_again(xhat, write, folder):
    write(a=says("PROVED", "EXACT"), b=says("DISPROVED"))
    assert xhat("check", "mine.py", "--certificate", "c.json").code == 1
    done = xhat("check", "--recheck", "c.json")
    assert done.code == 0, done
    assert "  confirmed  a d0 PROVED\n  confirmed  a d1 EXACT\n  confirmed  b d0 DISPROVED\n" in done.out
    assert "3 confirmed, 0 not, with seeds 0 and " in done.out

    (folder / "mine.py").write_text((folder / "mine.py").read_text() + "\n# later\n")
    done = xhat("check", "--recheck", "c.json")
    assert done.code == 2
    assert "got another text" in done.err


def test_a_file_that_changes_meanwhile_is_not_certified(xhat, write, folder, monkeypatch):
    write(a=says("PROVED"))
    written = command.formats.text
    monkeypatch.setattr(
        command.formats, "text", lambda *a, **k: (folder / "mine.py").write_text("x = 1") and written(*a, **k)
    )
    done = xhat("check", "mine.py", "--certificate", "c.json")
    assert done.code == 1
    assert "expected mine.py to stay as it is, got changes during the check. Check it again." in done.err
    assert not (folder / "c.json").exists()


def test_a_verdict_that_depends_on_the_seed_is_not_confirmed(xhat, write):
    lucky = "return [Verdict('dx', PROVED if settings[3] == 0 else {}, 'by luck')]"
    write(a=lucky.format("DISPROVED"))
    assert xhat("check", "mine.py", "--certificate", "c.json").code == 0
    done = xhat("check", "--recheck", "c.json")
    assert done.code == 1
    assert re.search(
        r"NOT FOUND AGAIN  a dx: the certificate says PROVED, the run with seed \d+ says DISPROVED", done.out
    )
    write(a=lucky.format("AGREES"))
    xhat("check", "mine.py", "--certificate", "c.json")
    assert xhat("check", "--recheck", "c.json").code == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "xhat check: expected a file to check, got none. Name a .py or .ipynb file, or a folder."),
        (("mine.py", "--level", "certain"), "xhat check: Invalid value for '--level': expected one of numeric, exact, proof, got 'certain'. See xhat check --help."),
        (("mine.py", "--memory", "1"), "xhat check: expected --memory of at least 64M, got '1'. Give 1G, say."),
        (("mine.py", "--memory", "lots"), "xhat check: expected --memory of at least 64M, got 'lots'. Give 1G, say."),
        (("mine.py", "--diff", "--format", "json"), "xhat check: expected --diff or --format json, got both. Choose one."),
        (("mine.py", "--pair", "bb"), "xhat check: expected --pair as a pair of mine.py, got 'bb'. Choose one of: a."),
        (("empty",), "xhat check: expected files with a forward and a backward pass in empty, got none. Name a file, or call the functions x_forward and x_backward."),
        (("mine.py", "other.py", "--certificate", "c"), "xhat check: expected one file for --certificate, got 2. Name one."),
        (("mine.py", "--recheck", "c"), "xhat check: expected --recheck with no file and no other choice, got more. The certificate says what is checked."),
        (("--recheck", "c"), "c: expected a certificate, got: No such file or directory. Check the path."),
    ],
)  # fmt: skip
def test_what_is_refused(xhat, write, folder, words, told):
    write(a=says("PROVED"))
    (folder / "empty").mkdir()
    done = xhat("check", *words)
    assert (done.code, done.out, done.err) == (2, "", told + "\n")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("none.py", None, "none.py: expected a .py or .ipynb file, got no file. Check the path."),
        ("bad.py", "def f(:", "bad.py"),
        ("bad.ipynb", "{", "bad.ipynb"),
        ("nothing.py", "x = 1", "no pair of a forward and a backward pass found"),
    ],
)
def test_files_without_anything_to_check(xhat, write, folder, name, text, told):
    write("other.py", a=says("PROVED"))
    if text is not None:
        (folder / name).write_text(text)
    done = xhat("check", name)
    assert done.code == 2
    assert told in " ".join(done.out.split())


def test_a_hostile_name_commands_no_terminal(xhat, write, folder):
    write("\x1b[2Jmine.py", a="return [Verdict('\\x1b[2Jdx', DISPROVED, '\\x1b[2J\\x07')]")
    done = xhat("check", "\x1b[2Jmine.py")
    assert "\x1b" not in done.out
    assert "\x07" not in done.out


def test_the_code_runs_somewhere_else(xhat, write):
    write(more="import os\nos.environ['HERE'] = '1'", a="import os; return [Verdict('dx', PROVED, str(os.getppid()))]")
    done = xhat("check", "mine.py")
    assert str(sandbox.os.getpid()) in done.out
    assert "HERE" not in sandbox.os.environ
