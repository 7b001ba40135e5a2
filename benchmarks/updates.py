"""Optimizer steps side by side: xhat's kernel, its NumPy equations, torch's foreach and fused forms if it is installed.

    python benchmarks/updates.py [--short] [--threads 1 2] [--csv FILE]

A few steps of each contender are compared with the equations in float64 first; a wrong one is not timed. The contenders
take turns within one process, each with parameters of its own; the table gives medians and ratios of medians of the
same run. Every number of threads gets a fresh process.
"""

import argparse
import csv
import os
import platform
import subprocess
import sys
import time

LISTS = {
    "mlp 784-512-512-10": [(784, 512), (512,), (512,), (512,), (512, 512), (512,), (512,), (512,), (512, 10), (10,)],
    "100 small": [(64, 8), (64,), (64,), (8,)] * 25,
    "64 MB": [(4096, 4096)],
}
SHORT_LISTS = {"short": [(13, 5), (5,), ()]}
PASSES = {"sgd": 3, "momentum": 5, "nesterov": 5, "rmsprop": 5, "adam": 7, "adamw": 7}  # arrays read and written
RATE = 1e-3
LARGEST_ERROR = 1e-5  # of a parameter of size 1: float32 contenders that are right are far below
SECONDS_PER_CONTENDER = 1.0


def contenders(rule, shapes):
    """Make a step for each contender, the arrays that it changes, and what brings its gradients back."""
    rng = np.random.default_rng(0)
    start = {str(i): np.asarray(rng.standard_normal(shape, np.float32)) for i, shape in enumerate(shapes)}
    gradients = {name: np.asarray(rng.standard_normal(w.shape, np.float32)) for name, w in start.items()}

    def ours(variant, dtype=np.float32):
        own, slopes = ({name: a.astype(dtype) for name, a in arrays.items()} for arrays in (start, gradients))
        optimizer = OPTIMIZERS[rule]()

        def step():
            if kernels.variant() == variant:
                optimizer.update(own, slopes, RATE)
            else:
                with kernels.use(variant):
                    optimizer.update(own, slopes, RATE)

        return step, list(own.values()), lambda: None

    def theirs(**form):
        own = [torch.tensor(w) for w in start.values()]

        def restore():  # torch's foreach form of Nesterov's rule overwrites them
            for w, gradient in zip(own, gradients.values(), strict=True):
                w.grad = torch.tensor(gradient)

        restore()
        make, options = {
            "sgd": (torch.optim.SGD, {}),
            "momentum": (torch.optim.SGD, {"momentum": 0.9}),
            "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
            "rmsprop": (torch.optim.RMSprop, {}),
            "adam": (torch.optim.Adam, {}),
            "adamw": (torch.optim.AdamW, {}),
        }[rule]
        return make(own, lr=RATE, **options, **form).step, [w.numpy() for w in own], restore

    made = {"xhat": ours(kernels.variant()), "equations": ours("reference")}
    if torch:
        made["torch foreach"] = theirs(foreach=True)
        if rule != "rmsprop":
            made["torch fused"] = theirs(fused=True)
    return made, ours("reference", np.float64)


def check(rule, made, true):
    """Make three steps with every contender and refuse a wrong one."""
    for step, _, restore in (*made.values(), true):
        for _ in range(3):
            step()
            restore()
    for name, (_, arrays, _) in made.items():
        error = max(np.abs(a - b).max() for a, b in zip(arrays, true[1], strict=True))
        if not error <= LARGEST_ERROR:
            sys.exit(f"{rule}: {name} is wrong by {error:.2g}; nothing is timed.")


def take_turns(made, short):
    """Return the median milliseconds of each contender."""
    times = {name: [] for name in made}
    end = time.perf_counter() + SECONDS_PER_CONTENDER * len(made)
    rounds = 0
    while rounds < 5 or (time.perf_counter() < end and not short):
        rounds += 1
        for name, (step, _, _) in made.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(t)) for name, t in times.items()}


def measure(threads, short):
    """Check, time and print all rules and lists; return the rows of the table."""
    kernels.set_num_threads(threads)
    if torch:
        torch.set_num_threads(threads)
    rows = []
    for title, shapes in (SHORT_LISTS if short else LISTS).items():
        size = sum(int(np.prod(shape)) for shape in shapes)
        for rule in OPTIMIZERS:
            made, true = contenders(rule, shapes)
            check(rule, made, true)
            del true
            times = take_turns(made, short)
            speed = 4 * PASSES[rule] * size / times["xhat"] / 1e6
            others = "   ".join(f"{k} {t:.4f} ms ({t / times['xhat']:.2f}x)" for k, t in times.items() if k != "xhat")
            print(f"{title:18} {rule:8}  xhat {times['xhat']:8.4f} ms {speed:5.1f} GB/s   {others}", flush=True)
            rows += [
                {
                    "parameters": title,
                    "rule": rule,
                    "threads": threads,
                    "contender": name,
                    "milliseconds": f"{t:.6f}",
                    "of xhat's time": f"{t / times['xhat']:.4f}",
                    "system": platform.platform(),
                    "numpy": np.__version__,
                    "torch": torch.__version__ if torch else "not installed",
                    "xhat": xhat.__version__,
                    "variant": kernels.variant(),
                }
                for name, t in times.items()
            ]
    return rows


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
    print(f"\n{options.threads[0]} thread(s); medians, and in brackets how many times xhat's time")
    rows = measure(options.threads[0], options.short)
    if options.csv:
        with open(options.csv, "a" if options.append else "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            if not options.append:
                writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    import numpy as np

    import xhat
    from xhat import kernels
    from xhat.training import OPTIMIZERS

    try:
        import torch
    except ImportError:
        torch = None
    main()
