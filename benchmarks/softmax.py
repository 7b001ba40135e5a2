"""Softmax cross-entropy, loss and gradient: the kernel beside the NumPy code and, where installed, torch.

    python benchmarks/softmax.py [--short]

The contenders take turns; each row gives the median time and its ratio to xhat's. The results are compared first.
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import xhat
from xhat import kernels

SIZES = ((128, 10), (4096, 1000), (256, 32_000))
SECONDS = 6.0  # per size

Call = Callable[[], tuple[float, Any]]


def without_kernels(scores: np.ndarray, labels: np.ndarray) -> Call:
    """Return the layer's NumPy code."""

    def call() -> tuple[float, np.ndarray]:
        with kernels.use("reference"):
            return xhat.softmax_cross_entropy(scores, labels)

    return call


def by_torch(scores: np.ndarray, labels: np.ndarray) -> Call:
    """Return torch's cross_entropy, forward and backward."""
    import torch

    torch.set_num_threads(kernels.get_num_threads())
    leaf = torch.from_numpy(scores).requires_grad_()
    wanted = torch.from_numpy(labels)

    def call() -> tuple[float, Any]:
        leaf.grad = None
        loss = torch.nn.functional.cross_entropy(leaf, wanted)
        loss.backward()
        return float(loss.detach()), leaf.grad

    return call


def median_times(calls: dict[str, Call], seconds: float) -> dict[str, float]:
    """Return the median time of each, in seconds. They take turns until the time is up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times["xhat"]) < 3:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tenth of the time")
    seconds = SECONDS / 10 if parser.parse_args().short else SECONDS
    print(f"float32, {kernels.get_num_threads()} thread(s), kernels: {kernels.variant()}")
    rng = np.random.default_rng(0)
    for rows, classes in SIZES:
        scores = rng.normal(0, 3, (rows, classes)).astype(np.float32)
        labels = rng.integers(0, classes, rows)
        calls: dict[str, Call] = {
            "xhat": lambda scores=scores, labels=labels: xhat.softmax_cross_entropy(scores, labels),
            "NumPy": without_kernels(scores, labels),
        }
        if importlib.util.find_spec("torch"):
            calls["torch"] = by_torch(scores, labels)
        loss, dscores = calls["xhat"]()
        for call in calls.values():
            other, dother = call()
            assert abs(other - loss) <= 1e-5 * abs(loss)
            assert np.allclose(np.asarray(dother), dscores, rtol=1e-3, atol=1e-9)
        found = median_times(calls, seconds)
        for name, value in found.items():
            print(f"{rows:5} x {classes:<6} {name:6} {value * 1e3:9.3f} ms   {value / found['xhat']:5.2f}")


if __name__ == "__main__":
    main()
