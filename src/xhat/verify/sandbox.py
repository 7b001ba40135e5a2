"""The user's code in a limited process of its own.

`run_limited` starts one process for one file and kills it, with its whole process group, when it is done. What holds
even against code that looks for a way out, as far as the system enforces it:

    time         the parent's clock, from one finished pair to the next; beneath it RLIMIT_CPU, for a parent that died
    memory       RLIMIT_AS, counted on top of what Python and NumPy take before the code is loaded
    files        RLIMIT_FSIZE and RLIMIT_CORE; no descriptor of the parent is inherited
    output       read as it comes, kept up to a length, the rest counted and dropped
    environment  a few named variables, so that no secret is in it

What is a seat belt only: an audit hook refuses to write or delete files outside a temporary folder, to start
processes, to open sockets, to load libraries through ctypes, and says what was refused. It stops mistakes and careless
code. It is no wall: files can be read, a compiled extension beside the file runs unwatched, and it lives in the same
interpreter as the code it watches.

The report comes back over a pipe of its own, each message marked with a random number that arrived on standard input
and is in no variable that the code finds by name. Printing a report is therefore in vain, and so is ending the process:
without a report there is no success. But code that walks the interpreter's frames or memory can find the mark, and
code that exchanges the functions of xhat or NumPy can make a wrong gradient look right. Against such code run the
check in a container and read the source.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from xhat.verify import formats
from xhat.verify.report import FileReport, Level, PairReport

resource: ModuleType | None
try:
    import resource
except ImportError:  # a system without it
    resource = None

_START_SECONDS = 20.0  # Python, NumPy and xhat are imported before the clock of the first pair starts
_REPORT_BYTES = 32 << 20
_FILE_BYTES = 64 << 20
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_MOST_REFUSED = 20


class Ending(StrEnum):
    """How the limited process ended."""

    DONE = "done"
    TIME = "time"
    MEMORY = "memory"
    RECURSION = "recursion"
    EXITED = "exited"
    CRASHED = "crashed"
    REPORT = "report"
    FAILED = "failed"


class Settings(NamedTuple):
    """How a file is checked.

    Attributes
    ----------
    pair : str or None
        The one pair to check; None for all.
    spec : str or None
        Whose signatures the pairs have: "cs231n", "torch", "none". None to find out.
    level : Level
        What is asked for.
    seed : int
        Draws what is random.
    """

    pair: str | None = None
    spec: str | None = None
    level: Level = Level.PROOF
    seed: int = 0


@dataclass(frozen=True)
class Task:
    """What the limited process does.

    Parameters
    ----------
    path : Path
        The file to check. Its folder is the working directory.
    settings : Settings
        How.
    engine : str
        "module:function". It is called with the path and, by name, with the settings, with `time_left`, which returns
        the seconds that are left for the pair at hand, and with `on_pair`, to be called with the report on each pair
        as soon as it is finished. It returns a `FileReport`.
    """

    path: Path
    settings: Settings
    engine: str = "xhat.verify.checking:check_file"


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Parameters
    ----------
    ending : Ending
        How the process ended; only after DONE is there a report.
    report : FileReport, optional
        What the function returned.
    pairs : sequence of PairReport
        The pairs that were finished, however the process ended.
    message : str
        Why it ended before its end, as sentences.
    printed : str
        What was written to standard output and standard error, as much as was kept.
    dropped : int
        How many bytes more were written.
    refused : sequence of str
        What the audit hook refused.
    notes : sequence of str
        Limits that this system did not take.
    seconds : float
        How long it took.
    """

    ending: Ending
    report: FileReport | None
    pairs: Sequence[PairReport]
    message: str
    printed: str
    dropped: int
    refused: Sequence[str]
    notes: Sequence[str]
    seconds: float


def run_limited(
    task: Task,
    *,
    timeout: float = 10.0,
    memory: int = 1 << 30,
    output_limit: int = 1 << 16,
    steps: int = 1,
    on_pair: Callable[[PairReport], None] | None = None,
) -> Outcome:
    """Run a task in a process of its own and return what came of it, whatever it does.

    Parameters
    ----------
    task : Task
        What to do.
    timeout : float
        Seconds for each pair: the clock starts anew when one is finished.
    memory : int
        Bytes that it may take beyond what Python and NumPy take.
    output_limit : int
        So many bytes of what it prints are kept.
    steps : int
        How many pairs are expected; the processor time of them all is bounded too.
    on_pair : callable, optional
        Called with each pair as it is finished.

    Returns
    -------
    Outcome
        The report, or what stood in its way.
    """
    if os.name != "posix":
        raise OSError("run_limited: expected Linux or macOS, got a system without POSIX pipes. Run it there.")
    path = task.path.resolve()
    mark = secrets.token_hex(16)
    started = time.monotonic()
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(prefix="xhat-check-", ignore_cleanup_errors=True) as home:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-u", "-c", "from xhat.verify.sandbox import work; work()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                cwd=path.parent,
                env=_environment(home),
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        listener = _Listener(mark, timeout, output_limit, on_pair)
        try:
            order = {
                "mark": mark,
                "pipe": writing,
                "home": home,
                "engine": task.engine,
                "path": str(path),
                "settings": task.settings._asdict(),
                "folders": [str(folder) for folder in import_folders(path.parent)],
                "timeout": timeout,
                "memory": memory,
                "cpu": int(_START_SECONDS + (timeout + 1) * max(steps, 1)),
            }
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(order).encode())
                process.stdin.close()
            assert process.stdout is not None
            listener.listen(reading, process.stdout.fileno())
        finally:
            status = _end(process, listener.patience)
            os.close(reading)
    return listener.outcome(status, time.monotonic() - started)


def import_folders(folder: Path) -> list[Path]:
    """Return where imports of neighbours are looked for: the file's folder, and the one that holds its package."""
    folder = folder.resolve()
    top = folder
    while (top / "__init__.py").exists() and top.parent != top:
        top = top.parent
    return [folder] if top == folder else [folder, top]


def _environment(home: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {
        **kept,
        **dict.fromkeys(_ONE_THREAD, "1"),
        "HOME": home,
        "TMPDIR": home,
        "MPLBACKEND": "Agg",
    }


def _end(process: subprocess.Popen[bytes], patience: float) -> int | None:
    """Kill the process and whatever it started, and return how it had ended; None if it had not."""
    status = None
    try:
        with suppress(subprocess.TimeoutExpired):
            status = process.wait(patience)  # one that is dying by itself says of what
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    return status


class _Listener:
    """Reads what the process sends and prints until it is done, gone or out of time."""

    def __init__(
        self, mark: str, timeout: float, output_limit: int, on_pair: Callable[[PairReport], None] | None
    ) -> None:
        self._mark = mark.encode()
        self._timeout = timeout
        self._output_limit = output_limit
        self._on_pair = on_pair
        self._pairs: list[PairReport] = []
        self._last: dict[str, Any] | None = None
        self._notes: list[str] = []
        self._refused: list[str] = []
        self._printed = bytearray()
        self._dropped = 0
        self._ready = False
        self._out_of_time = False
        self._too_long = False
        self._ended_alone = False

    @property
    def patience(self) -> float:
        """How many seconds the process may take to end by itself."""
        return 1.0 if self._ended_alone else 0.0

    def listen(self, report: int, output: int) -> None:
        """Read both pipes until the last message, the end of the process or the end of its time."""
        waiting, received = bytearray(), 0
        deadline = time.monotonic() + _START_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(report, selectors.EVENT_READ)
            selector.register(output, selectors.EVENT_READ)
            while self._last is None and selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    self._out_of_time = True
                    break
                for key, _ in selector.select(left):
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fd)
                        if key.fd == report:  # nothing more can come, whoever still holds the output open
                            self._ended_alone = True
                            self._drain(output)
                            return
                    elif key.fd == output:
                        self._keep(data)
                    else:
                        received += len(data)
                        if received > _REPORT_BYTES:
                            self._too_long = True
                            return
                        waiting += data
                        *lines, rest = bytes(waiting).split(b"\n")
                        waiting = bytearray(rest)
                        for line in lines:
                            if self._take(line) in ("ready", "pair"):
                                deadline = time.monotonic() + self._timeout
        self._drain(output)

    def _drain(self, output: int) -> None:
        """Read what was printed before the end."""
        os.set_blocking(output, False)
        with suppress(BlockingIOError):
            while data := os.read(output, 1 << 16):
                self._keep(data)
                if self._dropped:
                    break

    def _keep(self, data: bytes) -> None:
        room = self._output_limit - len(self._printed)
        self._printed += data[:room]
        self._dropped += max(0, len(data) - room)

    def _take(self, line: bytes) -> str | None:
        """Take in one message and return its kind; what does not carry the mark is none of ours."""
        mark, _, body = line.partition(b" ")
        if not secrets.compare_digest(mark, self._mark):
            return None
        try:
            message = json.loads(body)
            kind = str(message["kind"])
            if kind == "pair":
                pair = formats.pair_from_json(message["pair"])
                self._pairs.append(pair)
                if self._on_pair is not None:
                    self._on_pair(pair)
            elif kind == "ready":
                self._ready = True
                self._notes = [str(note) for note in message["notes"]]
            elif kind == "refused":
                self._refused.append(str(message["what"]))
            else:
                if kind == "done":
                    message["report"] = formats.from_json(message["report"])
                self._last = message
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            kind = str(Ending.FAILED)
            self._last = {"kind": kind, "message": f"The report was damaged: {error}"}
        return kind

    def outcome(self, status: int | None, seconds: float) -> Outcome:
        """Put into words how it ended."""
        report: FileReport | None = None
        if self._last is not None and self._last["kind"] == "done":
            ending, message, report = Ending.DONE, "", self._last["report"]
        elif self._last is not None:
            ending, message = Ending(self._last["kind"]), str(self._last["message"])
        elif self._too_long:
            ending = Ending.REPORT
            message = f"The report was longer than {_REPORT_BYTES >> 20} MB."
        elif self._out_of_time or status == -signal.SIGXCPU:
            ending = Ending.TIME
            message = (
                f"The time was up: {self._timeout:g} s for each pair. "
                "Look for an endless loop, or give more with --timeout."
                if self._ready
                else f"Python and NumPy did not start within {_START_SECONDS:g} s. Try again when the machine is idle."
            )
        elif status is None:
            ending, message = Ending.FAILED, "The code closed the channel over which the report is sent."
        else:
            ending, message = _gone(status, self._ready, bytes(self._printed))
        return Outcome(
            ending,
            report,
            tuple(self._pairs),
            message,
            self._printed.decode(errors="replace"),
            self._dropped,
            tuple(self._refused),
            tuple(self._notes),
            seconds,
        )


def _gone(status: int, ready: bool, printed: bytes) -> tuple[Ending, str]:
    """Say what a process without a last message died of."""
    if not ready:
        told = printed.decode(errors="replace").strip().rpartition("\n")[2]
        return Ending.FAILED, f"The limited process did not start: {told or f'exit code {status}'}"
    if status >= 0:
        return Ending.EXITED, (
            f"The code ended the process (exit code {status}) before the check was done. "
            "Take out calls of os._exit, quit and the like."
        )
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    if name == "SIGKILL":
        return Ending.MEMORY, "The system killed the process (SIGKILL), most often because memory ran out."
    why = {
        "SIGSEGV": "most often an endless recursion, or a fault in a compiled extension",
        "SIGABRT": "it called abort, or a compiled library gave up",
        "SIGFPE": "a fault in a compiled extension",
        "SIGILL": "a compiled extension for another processor",
        "SIGBUS": "a fault in a compiled extension",
    }.get(name, "nothing in the check sends it")
    return Ending.CRASHED, f"The process crashed ({name}): {why}."


# The other side: what runs in the limited process


def work() -> NoReturn:
    """Do the task that arrives on standard input and end the process; nothing else may call this."""
    with open(0, "rb", closefd=False) as stdin:
        order = json.loads(stdin.read())
    sender = _Sender(order.pop("pipe"), order.pop("mark"))
    clock = _Clock(order["timeout"])
    sys.path.extend(order["folders"])  # at the end, so that a file called random.py does not stand before Python's own
    sys.argv[:] = ["xhat check"]
    module, _, name = order["engine"].partition(":")
    settings = Settings(**order["settings"])
    settings = settings._replace(level=Level(settings.level))
    leave = os._exit  # pyright: ignore[reportPrivateUsage]  no hook, thread or buffer of the code's has a say in it

    def on_pair(pair: PairReport) -> None:
        sender.send({"kind": "pair", "pair": formats.pair_as_json(pair)})
        clock.start()

    try:
        engine = getattr(importlib.import_module(module), name)
        notes = _limit(order["memory"], order["cpu"])
        _fasten_seat_belt(order["home"], lambda what: sender.send({"kind": "refused", "what": what}))
        sender.send({"kind": "ready", "notes": notes})
        clock.start()
        report = engine(order["path"], **settings._asdict(), time_left=clock.left, on_pair=on_pair)
        last: dict[str, Any] = {"kind": "done", "report": formats.as_json(report)}
    except BaseException as error:
        last = _ended(error)
    sender.send(last)
    leave(0)


class _Clock:
    """How much of a pair's time is left."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._now = time.monotonic
        self.start()

    def start(self) -> None:
        """Begin the next pair."""
        self._deadline = self._now() + 0.9 * self._timeout  # so that it ends by itself before it is ended

    def left(self) -> float:
        """Return the seconds that are left."""
        return self._deadline - self._now()


class _Sender:
    """Writes messages to the parent; keeps what it needs, since the code may exchange functions in modules."""

    def __init__(self, pipe: int, mark: str) -> None:
        write = os.write
        encode = json.JSONEncoder(check_circular=False).encode
        os.set_inheritable(pipe, False)

        def send(message: Mapping[str, Any]) -> None:
            data = f"\n{mark} {encode(message)}\n".encode()
            while data:
                data = data[write(pipe, data) :]

        self.send = send


def _ended(error: BaseException) -> dict[str, Any]:
    """Say in a message what ended the task."""
    # a library that finds no room is an ImportError, with the words of the loader
    if isinstance(error, MemoryError) or "failed to map segment" in str(error):
        ending, message = Ending.MEMORY, "The memory was used up. Use smaller arrays, or give more with --memory."
    elif isinstance(error, RecursionError):
        ending, message = Ending.RECURSION, "A function calls itself without end."
    elif isinstance(error, SystemExit):
        ending, message = (
            Ending.EXITED,
            (
                f"The code called exit({'' if error.code is None else repr(error.code)}) before the check was done. "
                "Take the call out, or put it under if __name__ == '__main__'."
            ),
        )
    else:
        told = traceback.format_exception_only(error)[-1].strip()
        place = traceback.extract_tb(error.__traceback__)[-1:]
        where = f" ({Path(place[0].filename).name}, line {place[0].lineno})" if place else ""
        ending, message = Ending.FAILED, f"{told}{where}"
    return {"kind": str(ending), "message": message}


def _limit(memory: int, cpu: int) -> list[str]:
    """Set the limits of this process and return what the system did not take."""
    if resource is None:
        return ["this system has no limits for memory, processor time and file sizes; only the clock is watched"]
    notes: list[str] = []
    for name, value, told in (
        ("RLIMIT_AS", _size() + memory, "memory"),
        ("RLIMIT_CPU", cpu, "processor time"),
        ("RLIMIT_FSIZE", _FILE_BYTES, "the size of files"),
        ("RLIMIT_CORE", 0, ""),
    ):
        try:
            kind = getattr(resource, name)
            hard: int = resource.getrlimit(kind)[1]
            least = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (least, least))
        except (AttributeError, OSError, ValueError):
            if told:
                notes.append(f"this system took no limit for {told}")
    return notes


def _size() -> int:
    """Return the address space of this process in bytes, or what Python and NumPy usually take."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 1 << 30
    return pages * os.sysconf("SC_PAGE_SIZE")


_STARTS_PROCESSES = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pty.spawn",
    "subprocess.Popen",
}
_SIGNALS = {"os.kill", "os.killpg", "signal.pthread_kill", "resource.prlimit", "resource.setrlimit"}
# events that change files: where their arguments hold a path, and the open folder that it is relative to
_CHANGES_FILES: Mapping[str, tuple[tuple[int, int | None], ...]] = {
    "os.chflags": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.link": ((0, 2), (1, 3)),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.removexattr": ((0, None),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.setxattr": ((0, None),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
    "sqlite3.connect": ((0, None),),
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _fasten_seat_belt(home: str, on_refused: Callable[[str], None]) -> None:
    """Refuse from now on what a check has no need of."""
    with suppress(ImportError):
        import ctypes  # noqa: F401  # pyright: ignore[reportUnusedImport]  its own import looks into a library
    home = os.path.realpath(home)
    real, join, link, decode, separator = os.path.realpath, os.path.join, os.readlink, os.fsdecode, os.sep
    error = PermissionError
    count = 0

    def refuse(what: str) -> NoReturn:
        nonlocal count
        count += 1
        if count <= _MOST_REFUSED:
            on_refused(what)
        raise error(f"xhat check does not let the code {what}")

    def inside(path: Any, folder: int = -1) -> bool:
        """Whether a path, or what it links to, lies in the temporary folder."""
        try:
            named: str = join(link(f"/proc/self/fd/{folder}") if folder >= 0 else "", decode(path))
        except (OSError, TypeError, ValueError):
            return False
        return real(named).startswith(home + separator)

    def no_process(*_: Any) -> NoReturn:
        refuse("start a process (fork_exec)")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES and path != os.devnull and not inside(path):
                refuse(f"write a file: {_short(path)}")
        elif event in _CHANGES_FILES:
            for place, folder in _CHANGES_FILES[event]:
                path = arguments[place]
                if event == "os.truncate" and isinstance(path, int):
                    continue  # an open file was judged when it was opened
                if path != ":memory:" and not inside(path, -1 if folder is None else arguments[folder]):
                    refuse(f"change a file or folder ({event}): {_short(path)}")
        elif event in _STARTS_PROCESSES:
            what = f": {_short(arguments[0])}" if event == "subprocess.Popen" else ""
            refuse(f"start a process ({event}){what}")
        elif event in _SIGNALS:
            refuse(f"send signals or change limits ({event})")
        elif event.startswith("socket.") and event != "socket.gethostname":
            refuse(f"use the network ({event})")
        elif event.startswith("ctypes."):
            refuse(f"use ctypes ({event})")

    with suppress(ImportError):
        module = importlib.import_module("_posixsubprocess")  # the one way to a process that raises no event
        vars(module)["fork_exec"] = no_process
    sys.addaudithook(hook)


def _short(path: Any) -> str:
    words = os.fsdecode(path) if isinstance(path, (str, bytes)) else repr(path)
    return words if len(words) <= 200 else words[:200] + "..."
