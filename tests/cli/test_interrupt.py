import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.conftest import PROGRAM, environment

import xhat as library

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

# one epoch takes a moment, so that the signal comes in the middle of the training
ENDLESS = ("train", "species.csv", "--target", "species", "--epochs", "100000", "--hidden", "64")


def wait_for(process, text):
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(process.stderr.read())


def test_ctrl_c_keeps_what_was_reached(start, species):
    process = start(*ENDLESS, "--compare", "none")
    wait_for(process, "3/100000")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == ""
    assert "Stopped. Keeping what was reached; Ctrl-C again ends at once." in out
    assert "no norm" not in out
    assert "Results: accuracy" in out
    runs = Path("runs/species")
    assert sorted(path.name for path in runs.iterdir()) == [
        "curves.png", "history.csv", "model.safetensors", "report.html",
    ]  # fmt: skip
    assert len((runs / "history.csv").read_text().splitlines()) >= 4
    assert "Stopped by Ctrl-C." in (runs / "report.html").read_text(encoding="utf-8")
    assert library.load(runs / "model.safetensors").classes


def test_a_second_ctrl_c_ends_at_once(start, species):
    slow = "import xhat, time; xhat.save = lambda *_: (print('saving', flush=True), time.sleep(60)); "
    process = start(*ENDLESS, program=slow + PROGRAM)
    wait_for(process, "1/100000")
    process.send_signal(signal.SIGINT)
    wait_for(process, "saving")
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - begin < 20


def test_ctrl_c_in_the_first_epoch_keeps_the_network(start, species):
    early = "import xhat; xhat.Trainer._epoch = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt); "
    process = start(*ENDLESS, program=early + PROGRAM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "Results: accuracy" in out
    runs = Path("runs/species")
    assert len((runs / "history.csv").read_text().splitlines()) == 1
    assert (runs / "report.html").exists()
    assert library.load(runs / "model.safetensors").classes


def test_ctrl_c_before_training_leaves_no_folder(start, species):
    slow = (
        "import xhat, time; "
        "xhat.verify.check_network = lambda *_, **__: (print('checking', flush=True), time.sleep(60)); "
    )
    process = start(*ENDLESS, program=slow + PROGRAM)
    wait_for(process, "checking")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert not list(Path("runs").iterdir())


def test_a_terminal_gets_a_bar_and_colours(species):
    ours, theirs = pty.openpty()
    shown = {**environment(TERM="xterm-256color", COLUMNS="100")}
    shown.pop("NO_COLOR")
    words = ["train", "species.csv", "--target", "species", "--epochs", "100", "--batch-size", "8"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=theirs, stderr=theirs, stdin=theirs, env=shown
    )
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait(timeout=60) == 0
    text = seen.decode()
    assert "\x1b[1m" in text  # bold headings
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text)
    assert re.search(r"epoch \d+/100 .*loss [\d.e-]+ accuracy [\d.]+ % [\d,]+ samples/s", plain)
    assert "100/100" in plain
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") >= 1  # the cursor comes back


def test_ctrl_c_after_the_last_epoch_loses_nothing(start, folder):
    """The network is saved before anything else is done with it."""
    for delay in (0.0, 0.1, 0.3):
        out = folder / f"run-{delay}"
        process = start(
            "train", "digits", "--epochs", "1", "--hidden", "1500,1500", "--norm", "none", "--out", str(out)
        )
        wait_for(process, " 1/1 ")
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (0, 130)  # 0: it was done before the signal came
        assert "Traceback" not in errors
        assert library.load(out / "model.safetensors").classes is not None
