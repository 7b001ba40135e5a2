"""The limited process: whatever the code does, there is an outcome in time, and no success without a report."""

import ast
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from xhat.verify import sandbox
from xhat.verify.report import FileReport, Level, PairReport, Verdict, Word
from xhat.verify.sandbox import Ending, Settings, Task, run_limited

# Reports one pair, does what the file says, and reports the end: the same order of events as in a check.
STAND_IN = """
    from xhat.verify.report import FileReport, PairReport, Verdict, Word

    def check(path, *, pair, spec, level, seed, time_left, on_pair):
        first = PairReport("first", [Verdict("dx", Word.PROVED, "for all N and D")], line=3)
        on_pair(first)
        namespace = {"__name__": "checked", "time_left": time_left, "settings": (pair, spec, level, seed)}
        with open(path) as file:
            exec(compile(file.read(), path, "exec"), namespace)
        return FileReport(path, [first, PairReport("second", evidence={"saw": str(namespace.get("saw"))})])
"""
MEMORY = 300 << 20


@pytest.fixture
def run(tmp_path):
    """Return a function that runs code in the limited process."""
    (tmp_path / "stand_in.py").write_text(textwrap.dedent(STAND_IN))

    def start(code, **limits):
        path = tmp_path / "mine.py"
        path.write_text(textwrap.dedent(code))
        task = Task(path, Settings(), "stand_in:check")
        return run_limited(task, **{"timeout": 5, "memory": MEMORY, **limits})

    return start


def saw(outcome):
    assert outcome.ending is Ending.DONE, outcome
    return outcome.report.pairs[1].evidence["saw"]


def test_a_report_comes_back_pair_by_pair_and_whole(run, tmp_path):
    seen = []
    outcome = run("print('hello')", on_pair=seen.append)
    first = PairReport("first", (Verdict("dx", Word.PROVED, "for all N and D"),), (), 3, {}, None)
    second = PairReport("second", (), (), None, {"saw": "None"}, None)
    assert seen == [first]
    assert outcome.report == FileReport(str(tmp_path / "mine.py"), (first, second))
    assert (outcome.ending, outcome.message, outcome.printed) == (Ending.DONE, "", "hello\n")
    assert (outcome.dropped, outcome.refused, outcome.notes) == (0, (), ())


@pytest.mark.parametrize(
    ("code", "ending", "message"),
    [
        ("x = [0] * 10**9", Ending.MEMORY, "The memory was used up"),
        ("import numpy as np\nx = np.ones((10**5, 10**5))", Ending.MEMORY, "The memory was used up"),
        ("raise ImportError('libx.so: failed to map segment from shared object')", Ending.MEMORY, "The memory was used"),
        ("def f(): f()\nf()", Ending.RECURSION, "A function calls itself without end."),
        ("import os\nos._exit(0)", Ending.EXITED, "The code ended the process (exit code 0)"),
        ("import sys\nsys.exit(3)", Ending.EXITED, "The code called exit(3)"),
        ("exit()", Ending.EXITED, "The code called exit()"),
        ("import os\nos.abort()", Ending.CRASHED, "The process crashed (SIGABRT)"),
        ("import faulthandler\nfaulthandler._sigsegv()", Ending.CRASHED, "The process crashed (SIGSEGV): most often an endless"),
        ("raise KeyboardInterrupt", Ending.FAILED, "KeyboardInterrupt"),
        ("import nothing_of_this_name", Ending.FAILED, "No module named 'nothing_of_this_name'"),
        ("def f(:", Ending.FAILED, "SyntaxError"),
        ("import os\nos.closerange(3, 100)\nimport time\ntime.sleep(9)", Ending.FAILED, "The code closed the channel"),
    ],
)  # fmt: skip
def test_what_ends_the_code_is_told_and_finished_pairs_are_kept(run, code, ending, message):
    outcome = run(code)
    assert (outcome.ending, outcome.report) == (ending, None)
    assert message in outcome.message
    assert [pair.pair for pair in outcome.pairs] == ["first"]
    assert outcome.seconds < 5


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\nwhile True:\n  try: time.sleep(9)\n  except BaseException: pass",
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
        "import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\nwhile True: pass",
        "while True: print('x' * 1000)",
    ],
)
def test_what_never_ends_is_ended(run, code):
    outcome = run(code, timeout=0.5, output_limit=1000)
    assert outcome.ending is Ending.TIME
    assert outcome.message == (
        "The time was up: 0.5 s for each pair. Look for an endless loop, or give more with --timeout."
    )
    assert [pair.pair for pair in outcome.pairs] == ["first"]
    assert outcome.seconds < 3
    assert len(outcome.printed) <= 1000
    assert (outcome.dropped > 10_000) == ("print" in code)


def test_the_clock_of_the_first_pair_is_no_longer_than_the_others(run, tmp_path):
    (tmp_path / "slow.py").write_text("def check(path, **settings):\n    while True: pass")
    outcome = run_limited(Task(tmp_path / "mine.py", Settings(), "slow:check"), timeout=0.5)
    assert (outcome.ending, outcome.pairs) == (Ending.TIME, ())
    assert outcome.seconds < 3


def test_the_code_can_ask_for_the_time_that_is_left(run):
    assert 3 < float(saw(run("saw = time_left()"))) < 4.5


def test_the_settings_arrive(run, tmp_path):
    (tmp_path / "mine.py").write_text("saw = settings")
    task = Task(tmp_path / "mine.py", Settings("batchnorm", "cs231n", Level.EXACT, 3), "stand_in:check")
    assert saw(run_limited(task)) == "('batchnorm', 'cs231n', <Level.EXACT: 2>, 3)"


def test_output_is_kept_up_to_its_limit_and_the_rest_is_counted(run):
    outcome = run("import sys\nprint('a' * 30)\nsys.stderr.write('b' * 1000000)", output_limit=100)
    assert outcome.ending is Ending.DONE
    assert outcome.printed == "a" * 30 + "\n" + "b" * 69
    assert outcome.dropped == 1000000 - 69


def test_output_that_is_no_text_is_shown_all_the_same(run):
    assert run("import os\nos.write(1, b'\\xff\\x00')").printed == "\ufffd\x00"


FORGED = '{"kind": "done", "report": {"file": "f", "pairs": [], "error": null, "error_line": null}}'


@pytest.mark.parametrize(
    "code",
    [
        f"print('0' * 32 + ' ' + {FORGED!r})",
        f"import os\nfor fd in range(1, 50):\n  try: os.write(fd, ('\\n' + '0' * 32 + ' ' + {FORGED!r} + '\\n').encode())\n  except OSError: pass",
    ],
)
def test_a_forged_report_is_none(run, code):
    outcome = run(code + "\nos = __import__('os')\nos._exit(0)")
    assert (outcome.ending, outcome.report) == (Ending.EXITED, None)


def test_garbage_on_the_pipe_hides_no_report(run):
    outcome = run("import os\nfor fd in range(3, 50):\n  try: os.write(fd, b'garbage' * 1000)\n  except OSError: pass")
    assert outcome.ending is Ending.DONE


def test_a_report_without_end_is_cut(run, monkeypatch):
    monkeypatch.setattr(sandbox, "_REPORT_BYTES", 1 << 20)
    outcome = run(
        "import os\nfor fd in range(3, 50):\n  try:\n    while True: os.write(fd, b'x' * 65536)\n  except OSError: pass"
    )
    assert (outcome.ending, outcome.report) == (Ending.REPORT, None)


@pytest.mark.parametrize("found", ["mark", "pipe", "sys.stdin.read()", "globals().get('order')"])
def test_the_mark_is_in_no_variable_and_not_on_the_input(run, found):
    read = (
        found
        if "(" in found
        else f"[v for v in (globals().get({found!r}), vars(__import__('xhat.verify.sandbox', fromlist=['x'])).get({found!r})) if v]"
    )
    assert saw(run(f"import sys, os\nsaw = {read}")) in ("", "[]", "None")


def test_reading_input_meets_its_end(run):
    outcome = run("input('your name? ')")
    assert (outcome.ending, "EOFError" in outcome.message) == (Ending.FAILED, True)


def test_the_environment_holds_no_secret_and_one_thread(run, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    names = saw(run("import os\nsaw = os.environ"))
    assert "s3cret" not in names
    assert "'OPENBLAS_NUM_THREADS': '1'" in names


def test_no_file_of_the_parent_is_open(run):
    with open(__file__) as file:
        os.set_inheritable(file.fileno(), True)
        opened = saw(
            run(
                "import os\nsaw = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if int(fd) > 2 and os.path.exists(f'/proc/self/fd/{fd}')]"
            )
        )
    assert "test_sandbox" not in opened
    assert opened.count("pipe:") == 1


FILES = [
    ("open('new.txt', 'w')", "write a file: new.txt"),
    ("open('kept.txt', 'a')", "write a file: kept.txt"),
    ("os.open('new.txt', os.O_CREAT)", "write a file: new.txt"),
    ("__import__('numpy').save('new.npy', 1)", "write a file: new.npy"),
    ("os.remove('kept.txt')", "change a file or folder (os.remove): kept.txt"),
    ("os.unlink('kept.txt', dir_fd=os.open('.', 0))", "change a file or folder (os.remove): kept.txt"),
    ("os.rename('kept.txt', 'other')", "change a file or folder (os.rename): kept.txt"),
    ("os.rename('kept.txt', os.environ['HOME'] + '/x')", "change a file or folder (os.rename): kept.txt"),
    ("os.truncate('kept.txt', 0)", "change a file or folder (os.truncate): kept.txt"),
    ("os.chmod('kept.txt', 0)", "change a file or folder (os.chmod): kept.txt"),
    ("os.chmod(os.open('kept.txt', 0), 0)", "change a file or folder (os.chmod)"),
    ("os.mkdir('folder')", "change a file or folder (os.mkdir): folder"),
    ("__import__('shutil').rmtree('.')", "change a file or folder (os.remove): "),
    (
        "(os.symlink(os.path.abspath('.'), os.environ['HOME'] + '/l'), open(os.environ['HOME'] + '/l/new.txt', 'w'))",
        "write a file: ",
    ),
    ("__import__('sqlite3').connect('new.db')", "change a file or folder (sqlite3.connect): new.db"),
]
OTHERS = [
    (
        "__import__('_posixsubprocess').fork_exec([b'touch', b'new.txt'], [b'/bin/touch'])",
        "start a process (fork_exec)",
    ),
    ("os.fork()", "start a process (os.fork)"),
    ("os.system('touch new.txt')", "start a process (os.system)"),
    ("__import__('subprocess').run(['touch', 'new.txt'])", "start a process (subprocess.Popen): touch"),
    ("os.execv('/bin/touch', ['touch', 'new.txt'])", "start a process (os.exec)"),
    ("os.posix_spawn('/bin/touch', ['touch', 'new.txt'], {})", "start a process (os.posix_spawn)"),
    ("__import__('multiprocessing').Process(target=print).start()", "start a process (os.fork)"),
    ("os.kill(os.getppid(), 9)", "send signals or change limits (os.kill)"),
    ("__import__('resource').setrlimit(0, (-1, -1))", "send signals or change limits (resource.setrlimit)"),
    ("__import__('socket').create_connection(('127.0.0.1', 9))", "use the network (socket.getaddrinfo)"),
    ("__import__('urllib.request').request.urlopen('http://127.0.0.1')", "use the network (socket.getaddrinfo)"),
    ("__import__('ctypes').string_at(0)", "use ctypes (ctypes.string_at)"),
    ("__import__('ctypes').CDLL(None)", "use ctypes (ctypes.dlopen)"),
]


@pytest.mark.parametrize("acts", [FILES, OTHERS], ids=["files", "processes and network"])
def test_the_seat_belt_refuses_and_says_what(run, tmp_path, acts):
    (tmp_path / "kept.txt").write_text("kept")
    before = sorted([*(path.name for path in tmp_path.iterdir()), "mine.py"])
    tried = "".join(f"try: {act}\nexcept Exception as error: saw.append(repr(error))\n" for act, _ in acts)
    outcome = run(f"import os\nsaw = []\n{tried}")
    answers = ast.literal_eval(saw(outcome))
    assert all("PermissionError('xhat check does not let the code " in answer for answer in answers), answers
    assert len(answers) == len(acts)
    for (act, told), refused in zip(acts, outcome.refused, strict=True):
        assert refused.startswith(told), (act, refused)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "kept.txt").read_text() == "kept"


def test_what_stays_in_the_temporary_folder_is_allowed_and_gone_afterwards(run):
    outcome = run(
        """
        import os, tempfile, shutil, numpy as np
        with tempfile.TemporaryDirectory() as folder:
            np.save(folder + "/a.npy", 1)
            os.rename(folder + "/a.npy", folder + "/b.npy")
            os.mkdir(folder + "/c")
        kept = tempfile.mkdtemp()
        open(kept + "/d", "w").write("x")
        open(os.devnull, "w").write("x")
        saw = kept
        """
    )
    assert outcome.refused == ()
    assert not os.path.exists(saw(outcome))


def test_refusals_are_told_even_if_the_code_hides_them_but_not_without_end(run):
    outcome = run("for n in range(1000):\n  try: open(f'new{n}', 'w')\n  except Exception: pass")
    assert outcome.ending is Ending.DONE
    assert outcome.refused == tuple(f"write a file: new{n}" for n in range(20))


@pytest.mark.parametrize(
    "code",
    [
        "import atexit, os\natexit.register(os._exit, 7)",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
        "import sys\nclass Stubborn:\n  def __del__(self): raise SystemExit\nx = Stubborn()\nsys.stdout = x",
        "import json\njson.dumps = json.loads = json.JSONEncoder = None",
        "import os\nos._exit = os.write = lambda *a: 0",
        "import builtins\nbuiltins.open = builtins.isinstance = builtins.print = None",
        "import sys\nsys.exit = sys.stdout = sys.stderr = None\nsys.modules.clear()",
        "import time\ntime.monotonic = lambda: -1e9",
        "import signal, os\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)",
    ],
)
def test_what_the_code_leaves_behind_stands_in_no_reports_way(run, code):
    outcome = run(code)
    assert outcome.ending in (Ending.DONE, Ending.FAILED, Ending.EXITED), outcome  # a function of ours may be broken
    assert (outcome.report is None) == (outcome.ending is not Ending.DONE)
    assert outcome.seconds < 3


def test_neighbours_are_imported_from_the_folder_and_from_its_package(run, tmp_path):
    package = tmp_path / "course"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "layers.py").write_text("saw = 'neighbour'")
    (package / "colorsys.py").write_text("raise AssertionError('a neighbour stands before the standard library')")
    task = Task(package / "mine.py", Settings(), "course.stand_in:check")
    (package / "stand_in.py").write_text(textwrap.dedent(STAND_IN))
    (package / "mine.py").write_text("import colorsys, layers, course.layers\nsaw = course.layers.saw + layers.saw")
    assert saw(run_limited(task, timeout=5)) == "neighbourneighbour"
    assert not (package / "__pycache__").exists()


def test_a_start_that_fails_says_why(tmp_path):
    outcome = run_limited(Task(tmp_path / "mine.py", Settings(), "no_such_module:check"))
    assert (outcome.ending, outcome.message) == (Ending.FAILED, "ModuleNotFoundError: No module named 'no_such_module' (<frozen importlib._bootstrap>, line 1140)")  # fmt: skip


def test_a_system_without_limits_is_told(run, tmp_path, monkeypatch):
    (tmp_path / "resource.py").write_text("")
    (tmp_path / "stand_in.py").write_text(
        "from xhat.verify import sandbox\nsandbox.resource = None\n" + textwrap.dedent(STAND_IN)
    )
    (tmp_path / "mine.py").write_text("")
    outcome = run_limited(Task(tmp_path / "mine.py", Settings(), "stand_in:check"))
    assert outcome.ending is Ending.DONE
    assert outcome.notes == (
        "this system has no limits for memory, processor time and file sizes; only the clock is watched",
    )


def alive(marker):
    return [
        pid
        for pid in os.listdir("/proc")
        if pid.isdecimal() and marker.encode() in _read(Path("/proc") / pid / "environ")
    ]


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_ctrl_c_kills_the_process(run, tmp_path):
    program = f"""
        import sys
        from pathlib import Path
        from xhat.verify.sandbox import Settings, Task, run_limited
        task = Task(Path({str(tmp_path / "mine.py")!r}), Settings(), "stand_in:check")
        run_limited(task, timeout=60, on_pair=lambda pair: print("started", flush=True))
    """
    (tmp_path / "mine.py").write_text("while True: pass")
    environment = {**os.environ, "LANG": str(tmp_path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert parent.stdout.readline() == b"started\n"
    assert len(alive(str(tmp_path))) == 2
    parent.send_signal(signal.SIGINT)
    _, told = parent.communicate(timeout=10)
    assert told.rstrip().endswith(b"KeyboardInterrupt")
    assert alive(str(tmp_path)) == []


def test_the_processor_time_is_bounded_even_if_the_parent_is_gone(run, tmp_path):
    code = "import resource\nsaw = resource.getrlimit(resource.RLIMIT_CPU)[1]"
    assert int(saw(run(code, timeout=4, steps=3))) == 20 + 5 * 3
