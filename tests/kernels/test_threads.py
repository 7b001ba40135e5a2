"""Many Python threads, fork at any time, spawn, exit: no hang, no crash, the same bits."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.kernels import oracle
from tests.kernels.oracle import bits, make_case, run

from xhat import kernels

pytestmark = oracle.needs_native

COMPUTE = """
import os, sys, threading, time
import numpy as np
from xhat import kernels

if __name__ == "__main__":
    kernels.set_num_threads(3)
rng = np.random.default_rng(25)
x = rng.standard_normal((700, 300), np.float32)

def compute():
    y, dx = np.empty_like(x), np.empty_like(x)
    statistics = kernels.channels_forward(x[:, :, None], None, None, None, 1e-5, y[:, :, None])
    dgamma, _ = kernels.rows_backward(x, y, None, kernels.rows_forward(y, None, None, 1e-5, dx), dx, shape=(1, 300))
    return y.tobytes() + dx.tobytes() + dgamma.tobytes() + statistics.var.tobytes()

expected = compute()
"""


@pytest.fixture(autouse=True)
def soak_is_asked_for(request):
    if request.node.get_closest_marker("soak") and "soak" not in request.config.option.markexpr:
        pytest.skip("asked for by -m soak")


def finishes(code, tmp_path, seconds=60, threads=""):
    """Run a script in its own process: it must end by itself, and well."""
    script = tmp_path / "script.py"
    script.write_text(COMPUTE + textwrap.dedent(code))
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(script)]
    env = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("threads", "calls"), [(8, 100), pytest.param(16, 1000, marks=pytest.mark.soak)])
def test_many_python_threads(threads, calls):
    rng = np.random.default_rng(26)
    cases = [make_case(s, np.float32, rng) for s in ((300, 500), (900, 130, 1), (4, 20, 1500))]
    expected = [bits(run(case)) for case in cases]
    before = kernels.get_num_threads()
    kernels.set_num_threads(3)

    def work(start):
        for call in range(calls):
            index = (start + call) % len(cases)
            assert bits(run(cases[index])) == expected[index]
        return True

    with ThreadPoolExecutor(threads) as pool:
        assert all(pool.map(work, range(threads)))
    kernels.set_num_threads(before)


def test_threads_may_change_while_others_compute():
    rng = np.random.default_rng(27)
    case = make_case((900, 130, 1), np.float32, rng)
    expected = bits(run(case))
    before = kernels.get_num_threads()

    def work(n):
        for call in range(50):
            kernels.set_num_threads(1 + (n + call) % 6)
            assert bits(run(case)) == expected
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(4)))
    kernels.set_num_threads(before)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on this system")
@pytest.mark.parametrize("forks", [25, pytest.param(200, marks=pytest.mark.soak)])
def test_fork_while_others_compute(forks, tmp_path):
    code = f"forks = {forks}\n" + textwrap.dedent("""
        stop = threading.Event()
        wrong = []

        def keep_computing():
            while not stop.is_set():
                if compute() != expected:
                    wrong.append(1)

        threads = [threading.Thread(target=keep_computing) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(forks):
            child = os.fork()
            if child == 0:
                os._exit(0 if compute() == expected == compute() else 1)
            deadline = time.monotonic() + 30
            while (status := os.waitpid(child, os.WNOHANG)) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(child, 9)
                    sys.exit("a forked child hangs")
                time.sleep(0.001)
            if status[1] != 0:
                sys.exit(f"a forked child ended with status {status[1]}")
        stop.set()
        for thread in threads:
            thread.join()
        sys.exit("wrong results in the parent" if wrong or compute() != expected else 0)
    """)
    finishes(code, tmp_path, 600)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on this system")
def test_children_of_children(tmp_path):
    code = """
        def descend(depth):
            if compute() != expected:
                os._exit(1)
            if depth == 0:
                os._exit(0)
            child = os.fork()
            if child == 0:
                descend(depth - 1)
            os._exit(os.waitpid(child, 0)[1] != 0 or compute() != expected)

        child = os.fork()
        if child == 0:
            descend(4)
        sys.exit(os.waitpid(child, 0)[1])
    """
    finishes(code, tmp_path)


WORKERS = """
    def work(_):
        return compute() == expected, kernels.get_num_threads()

    def more_threads():
        kernels.set_num_threads(5)
"""


@pytest.mark.parametrize("threads", ["", "4"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers(method, threads, tmp_path):
    """A worker uses one thread, or as many as OMP_NUM_THREADS says, or as it is told itself."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not on this system")
    code = f"""
        if __name__ == "__main__":
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor

            context = multiprocessing.get_context("{method}")
            with context.Pool(1) as pool:
                assert pool.map(work, range(3)) == [(True, {threads or 1})] * 3
            with ProcessPoolExecutor(1, context, more_threads) as pool:
                assert list(pool.map(work, range(3))) == [(True, 5)] * 3
            assert work(0) == (True, 3)
    """
    finishes(textwrap.dedent(WORKERS) + textwrap.dedent(code), tmp_path, threads=threads)


def test_the_number_of_a_parent_counts_in_no_worker(tmp_path):
    code = """
        if __name__ == "__main__":
            import multiprocessing

            if hasattr(os, "fork"):
                child = os.fork()
                if child == 0:
                    os._exit(kernels.get_num_threads() != 3)  # no worker: its parent's number
                assert os.waitpid(child, 0)[1] == 0
            kernels.set_num_threads(7)
            with multiprocessing.get_context("fork").Pool(1) as pool:
                assert pool.map(work, range(2)) == [(True, 1)] * 2
            assert kernels.get_num_threads() == 7
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork on this system")
    finishes(textwrap.dedent(WORKERS) + textwrap.dedent(code), tmp_path)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_joblib(backend, tmp_path):
    pytest.importorskip("joblib")
    code = f"""
        if __name__ == "__main__":
            from joblib import Parallel, delayed, parallel_config

            with parallel_config("{backend}", n_jobs=2):
                found = Parallel()(delayed(work)(i) for i in range(6))
            assert [right for right, _ in found] == [True] * 6
            counts = {{threads for _, threads in found}}
            assert counts == {{3}} if "{backend}" == "threading" else max(counts) <= max(1, os.cpu_count() // 2), counts
    """
    finishes(textwrap.dedent(WORKERS) + textwrap.dedent(code), tmp_path)


def test_exit_while_a_thread_computes(tmp_path):
    code = """
        def forever():
            while True:
                compute()

        for _ in range(3):
            threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.1)
        print("end")
    """
    assert finishes(code, tmp_path) == "end\n"
