"""Each number of threads and each setting of torch's memory gets a fresh process: they are read when a library loads.

`python -m xhat.bench.processes TASK` is the other end: it writes one line of JSON for each contest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from xhat.bench.measuring import Row, Task, measure


def run(task: Task) -> Iterator[list[Row]]:
    """Measure a task in a process of its own.

    Parameters
    ----------
    task : Task
        What is measured.

    Yields
    ------
    list of Row
        As `measure` does, while the process runs.

    Raises
    ------
    RuntimeError
        If the process dies; it says what came last on its stderr.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(task._asdict())],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=os.environ | environment(task, os.environ),
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield [Row(**row) for row in json.loads(line)]
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if code:
            said.seek(0)
            last = (said.read().strip().splitlines() or ["nothing"])[-1]
            raise RuntimeError(
                f"bench: expected the process of {task.threads} threads to end well, got exit code {code}; it said: "
                f"{last}. Leave a contender or a size out."
            )


def environment(task: Task, given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that give every library its threads, and torch its pages.

    Parameters
    ----------
    task : Task
        What is measured.
    given : mapping of str to str
        The environment as it is.

    Returns
    -------
    dict of str to str
        What is added to it.
    """
    count = str(task.threads)
    flags = [given.get("XLA_FLAGS", "")]
    if task.threads == 1:
        flags.append("--xla_cpu_multi_thread_eigen=false")
    return {
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "NPROC": count,  # JAX's pool
        "XLA_FLAGS": " ".join(flag for flag in flags if flag),
        "JAX_PLATFORMS": "cpu",
        "THP_MEM_ALLOC_ENABLE": str(int(task.huge_pages)),
    }


def _main() -> None:
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not come between
    settings: dict[str, Any] = json.loads(sys.argv[1])
    for rows in measure(Task(**settings)):
        print(json.dumps([asdict(row) for row in rows]), file=lines, flush=True)


if __name__ == "__main__":
    _main()
