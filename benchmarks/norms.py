"""Normalizations side by side: xhat, torch eager if it is installed, the NumPy textbook, and a plain copy.

    python benchmarks/norms.py [--short] [--threads 1 2] [--csv FILE]

The results are checked first; a wrong one is not timed. The contenders take turns within one process, and the
table gives medians and, because a machine is never quiet, ratios of medians of the same run. Every number of
threads gets a fresh process. xhat and the copy write into memory they own; torch allocates its results, as it
is usually called, and where its operator takes `out=` it is timed that way too.
"""

import argparse
import csv
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

EPS = 1e-5
LARGEST_ERROR = 1e-5  # of the largest value: float32 contenders that are right are far below, wrong ones far above
SECONDS_PER_CONTENDER = 1.0

BATCH_SHAPES = ((128, 512), (4096, 1024), (65536, 256), (32, 64, 56, 56))
LAYER_SHAPES = ((128, 512), (4096, 1024), (65536, 256))
SHORT_SHAPES = ((32, 16), (64, 8, 6, 6))


class Contest(NamedTuple):
    """One computation, done by several contenders.

    Attributes
    ----------
    norm, direction : str
    shape : tuple of int
    contenders : dict of str to callable
        Each returns its result, to be checked.
    expected : numpy.ndarray
        float64.
    traffic : int
        Bytes that must be read and written if x is larger than the cache.
    """

    norm: str
    direction: str
    shape: tuple[int, ...]
    contenders: dict[str, Callable]
    expected: object
    traffic: int


def textbook_forward(x, gamma, beta, axes):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return gamma * ((x - mean) / np.sqrt(var + np.float32(EPS))) + beta


def textbook_backward(dy, x, gamma, axes):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    rstd = 1 / np.sqrt(var + x.dtype.type(EPS))
    x_hat, dx_hat = (x - mean) * rstd, dy * gamma
    along_ones, along_x_hat = dx_hat.mean(axes, keepdims=True), (dx_hat * x_hat).mean(axes, keepdims=True)
    return rstd * (dx_hat - along_ones - x_hat * along_x_hat)


def contests(norm, shape):
    """Make the forward and the backward contest of one norm and shape."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape, np.float32) for _ in range(2))
    y, dx, copied = (np.zeros(shape, np.float32) for _ in range(3))
    size = shape[1]
    gamma, beta = rng.uniform(0.5, 1.5, size), rng.standard_normal(size)
    wide = (1, size, *[1] * (len(shape) - 2))
    gamma_there, beta_there = gamma.reshape(wide), beta.reshape(wide)
    gamma32, beta32 = gamma_there.astype(np.float32), beta_there.astype(np.float32)
    axes = (1,) if norm == "layer" else tuple(axis for axis in range(len(shape)) if axis != 1)

    if norm == "layer":
        line = gamma.reshape(1, size), beta.reshape(1, size)
        statistics = kernels.rows_forward(x, *line, EPS, y)

        def forward():
            kernels.rows_forward(x, *line, EPS, y)
            return y

        def backward():
            kernels.rows_backward(dy, x, line[0], statistics, dx, shape=(1, size))
            return dx
    else:
        view = (shape[0], size, -1)
        x3, y3, dy3, dx3 = (a.reshape(view) for a in (x, y, dy, dx))
        statistics = kernels.channels_forward(x3, None, gamma, beta, EPS, y3)

        def forward():
            kernels.channels_forward(x3, None, gamma, beta, EPS, y3)
            return y

        def backward():
            kernels.channels_backward(dy3, x3, None, gamma, statistics, dx3)
            return dx

    def copy():
        np.copyto(copied, x)

    forwards = {"xhat": forward, "copy": copy}
    backwards = {"xhat": backward, "copy": copy}
    if torch:
        torch_forwards, torch_backwards = torch_contenders(norm, x, dy, gamma, beta)
        forwards |= torch_forwards
        backwards |= torch_backwards
    forwards["numpy"] = lambda: textbook_forward(x, gamma32, beta32, axes)
    backwards["numpy"] = lambda: textbook_backward(dy, x, gamma32, axes)
    true_y = textbook_forward(x.astype(np.float64), gamma_there, beta_there, axes)
    true_dx = textbook_backward(dy.astype(np.float64), x.astype(np.float64), gamma_there, axes)
    # batch norm reads x, or x and dy, twice unless a channel fits the cache; a row does
    reads = 1 if norm == "layer" or len(shape) > 2 else 2
    return (
        Contest(norm, "forward", shape, forwards, true_y, (reads + 1) * x.nbytes),
        Contest(norm, "backward", shape, backwards, true_dx, (2 * reads + 1) * x.nbytes),
    )


def torch_contenders(norm, x, dy, gamma, beta):
    """Do the same with torch's own operators, without autograd."""
    aten = torch.ops.aten
    tx, tdy = torch.from_numpy(x), torch.from_numpy(dy)
    tgamma, tbeta = (torch.tensor(p, dtype=torch.float32) for p in (gamma, beta))
    out = torch.zeros_like(tx)
    wanted = [True, True, True]
    if norm == "layer":
        size = [x.shape[1]]
        _, mean, rstd = aten.native_layer_norm(tx, size, tgamma, tbeta, EPS)
        outs = {"out0": out, "out1": torch.empty_like(mean), "out2": torch.empty_like(rstd)}
        return {
            "torch": lambda: aten.native_layer_norm(tx, size, tgamma, tbeta, EPS)[0].numpy(),
            "torch out=": lambda: aten.native_layer_norm.out(tx, size, tgamma, tbeta, EPS, **outs)[0].numpy(),
        }, {
            "torch": lambda: aten.native_layer_norm_backward(tdy, tx, size, mean, rstd, tgamma, tbeta, wanted)[
                0
            ].numpy()
        }
    arguments = (tx, tgamma, tbeta, None, None, True, 0.1, EPS)
    _, mean, rstd = aten.native_batch_norm(*arguments)
    outs = {"out": out, "save_mean": torch.empty_like(mean), "save_invstd": torch.empty_like(rstd)}
    return {
        "torch": lambda: aten.native_batch_norm(*arguments)[0].numpy(),
        "torch out=": lambda: aten.native_batch_norm.out(*arguments, **outs)[0].numpy(),
    }, {
        "torch": lambda: aten.native_batch_norm_backward(tdy, tx, tgamma, None, None, mean, rstd, True, EPS, wanted)[
            0
        ].numpy()
    }


def check(contest):
    """Refuse to time what is wrong."""
    largest = np.abs(contest.expected).max()
    for name, contender in contest.contenders.items():
        if name == "copy":
            continue
        error = np.abs(contender() - contest.expected).max() / largest
        if not error < LARGEST_ERROR:
            what = f"{contest.norm} {contest.direction} {contest.shape}"
            sys.exit(f"{what}: {name} is off by {error:.1e} of the largest value. Not timed.")


def take_turns(contenders, short):
    """Return the median milliseconds of each contender."""
    start = time.perf_counter()
    for contender in contenders.values():
        contender()
    once = max(time.perf_counter() - start, 1e-6)
    budget = 0.02 if short else SECONDS_PER_CONTENDER * len(contenders)
    rounds = int(min(max(budget / once, 5), 500))
    times = {name: [] for name in contenders}
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for name in rng.permutation(list(contenders)):  # who comes next finds what the last one left in the cache
            start = time.perf_counter()
            contenders[name]()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(t)) for name, t in times.items()}


def machine():
    """Say what the numbers belong to."""
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    cpuinfo = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else ())
        if line.startswith("model name")
    ]
    return {
        "cpu": f"{models[0] if models else platform.processor()} x {os.cpu_count()}",
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__ if torch else "not installed",
        "xhat": xhat.__version__,
        "variant": kernels.variant(),
        "huge pages": pages.read_text().strip() if pages.exists() else "unknown",
        "torch asks for huge pages": os.environ.get("THP_MEM_ALLOC_ENABLE", "0"),
    }


def measure(threads, short):
    """Check, time and print all contests of one number of threads; return the rows of the table."""
    kernels.set_num_threads(threads)
    if torch:
        torch.set_num_threads(threads)
    rows = []
    for norm, shapes in (("batch", BATCH_SHAPES), ("layer", LAYER_SHAPES)):
        for shape in SHORT_SHAPES if short else shapes:
            if norm == "layer" and len(shape) > 2:
                continue
            for contest in contests(norm, shape):
                check(contest)
                times = take_turns(contest.contenders, short)
                shape_text = "x".join(map(str, shape))
                speed = contest.traffic / times["xhat"] / 1e6
                ratios = {name: t / times["xhat"] for name, t in times.items() if name != "xhat"}
                print(
                    f"{norm:5} {contest.direction:8} {shape_text:>12}  xhat {times['xhat']:8.3f} ms"
                    f" {speed:5.1f} GB/s   "
                    + "   ".join(f"{name} {times[name]:.3f} ms ({ratio:.2f}x)" for name, ratio in ratios.items()),
                    flush=True,
                )
                rows += [
                    {
                        "norm": norm,
                        "direction": contest.direction,
                        "shape": shape_text,
                        "threads": threads,
                        "contender": name,
                        "milliseconds": f"{t:.6f}",
                        "of xhat's time": f"{t / times['xhat']:.4f}",
                    }
                    for name, t in times.items()
                ]
    return rows


def write(path, rows, append):
    with open(path, "a" if append else "w", newline="") as file:
        facts = machine()
        writer = csv.DictWriter(file, [*rows[0], *facts])
        if not append:
            writer.writeheader()
        writer.writerows(row | facts for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="tiny sizes, in seconds: does it run at all?")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--csv", metavar="FILE", help="write the medians there")
    parser.add_argument("--append", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if len(options.threads) > 1:
        for k, threads in enumerate(options.threads):
            command = [sys.executable, __file__, "--threads", str(threads)]
            command += ["--short"] if options.short else []
            command += ["--csv", options.csv] if options.csv else []
            command += ["--append"] if k else []
            environment = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
            subprocess.run(command, env=os.environ | environment, check=True)
        return
    if kernels.variant() == "reference":
        sys.exit(f"The kernels are not in use. {kernels.reason}")
    if not options.append:
        print("\n".join(f"{name}: {value}" for name, value in machine().items()))
    print(f"\n{options.threads[0]} thread(s); medians, and in brackets how many times xhat's time")
    rows = measure(options.threads[0], options.short)
    if options.csv:
        write(options.csv, rows, options.append)


if __name__ == "__main__":
    import numpy as np

    import xhat
    from xhat import kernels

    try:
        import torch
    except ImportError:
        torch = None
    main()
