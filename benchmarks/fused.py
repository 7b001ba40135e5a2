"""Norms with what stands beside them, in one pass and one after the other, beside torch eager if it is installed.

    python benchmarks/fused.py [--short] [--threads 1 2]

Every contender's results are compared with those of the separate kernels first; a wrong one is not timed. The
contenders take turns within one process, into memory that they own (torch allocates its own); the table gives medians
and ratios of medians of the same run. Every number of threads gets a fresh process.

norm, then ReLU, then dropout: the separate way is the norm's kernel, NumPy's maximum and the dropout kernel; its
backward the dropout kernel, a product with the sign of y, and the norm's kernel. x + residual, then norm: NumPy's sum
and the kernel. torch draws masks of its own, so with dropout it is timed but not compared.
"""

import argparse
import os
import subprocess
import sys
import time

SHAPES = [(128, 512), (4096, 1024), (32, 64, 56, 56)]
SHORT_SHAPES = [(8, 12), (2, 3, 4, 5)]
LARGEST_ERROR = 2e-6  # of the largest value
SECONDS_PER_CONTENDER = 0.4
EPS = 1e-5


class Problem:
    """One norm over one shape: arrays, and the contenders of each of its cases."""

    def __init__(self, norm, shape):
        rng = np.random.default_rng(0)
        self.norm, self.shape = norm, shape
        self.flat = shape if norm == "layer" else (shape[0], shape[1], int(np.prod(shape[2:])))
        self.x, self.dy, self.other = (np.asarray(rng.standard_normal(self.flat), np.float32) for _ in range(3))
        self.gamma, self.beta = rng.uniform(0.5, 2, shape[1]), rng.standard_normal(shape[1])
        if norm == "layer":
            self.gamma, self.beta = self.gamma[None], self.beta[None]
        self.y, self.middle, self.total, self.dx, self.back = (np.empty_like(self.x) for _ in range(5))

    def forward(self, x, out, **beside):
        """Normalize x, with what stands beside it or alone."""
        module = fused if beside else kernels
        if self.norm == "layer":
            return module.rows_forward(x, self.gamma, self.beta, EPS, out, **beside)
        return module.channels_forward(x, None, self.gamma, self.beta, EPS, out, **beside)

    def backward(self, dy, x, statistics, out, **beside):
        """Write the gradient of x, likewise."""
        parameters = (self.gamma, self.beta) if beside else (self.gamma,)
        module = fused if beside else kernels
        if self.norm == "layer":
            shape = self.gamma.shape
            return module.rows_backward(dy, x, *parameters, statistics, out, shape=shape, **beside)
        return module.channels_backward(dy, x, None, *parameters, statistics, out, **beside)

    def followed(self, rate):
        """Return the contenders of norm, ReLU and dropout."""
        epilogue, norm = fused.Epilogue(rate, 12345), np.empty_like(self.x)
        positive = np.empty_like(self.x)

        def separate():
            self.statistics = self.forward(self.x, norm)
            if rate == 0:
                np.maximum(norm, np.float32(0), out=self.y)
                return self.y
            np.maximum(norm, np.float32(0), out=self.middle)
            random.dropout(self.middle, epilogue.key, rate, self.y)
            return self.y

        def separate_back():
            np.greater(norm, 0, out=positive, casting="unsafe")
            if rate == 0:
                np.multiply(self.dy, positive, out=self.middle)
            else:
                random.dropout(self.dy, epilogue.key, rate, self.middle)
                np.multiply(self.middle, positive, out=self.middle)
            self.backward(self.middle, self.x, self.statistics, self.dx)
            return self.dx

        def together():
            self.statistics = self.forward(self.x, self.total, epilogue=epilogue)
            return self.total

        def together_back():
            self.backward(self.dy, self.x, self.statistics, self.back, epilogue=epilogue)
            return self.back

        title = f"{self.norm} norm, ReLU" + (", dropout" if rate else "")
        return title, (together, together_back), (separate, separate_back), self.torch(rate=rate), rate == 0

    def residual(self):
        """Return the contenders of the sum of x and a residual, and its norm."""

        def separate():
            np.add(self.x, self.other, out=self.total)
            self.statistics = self.forward(self.total, self.y)
            return self.y

        def separate_back():
            self.backward(self.dy, self.total, self.statistics, self.dx)
            np.add(self.dx, self.other, out=self.dx)
            return self.dx

        def together():
            self.statistics = self.forward(self.x, self.middle, added=self.other, total=self.total)
            return self.middle

        def together_back():
            self.backward(self.dy, self.total, self.statistics, self.back, also=self.other)
            return self.back

        return "x + residual, layer norm", (together, together_back), (separate, separate_back), self.torch(), True

    def torch(self, rate=None):
        """Return torch's passes of the same, or None where it is not installed."""
        if not torch:
            return None
        x = torch.tensor(self.x.reshape(self.shape), requires_grad=True)
        dy, other = (torch.tensor(a.reshape(self.shape)) for a in (self.dy, self.other))
        gamma, beta = (
            torch.tensor(a.ravel(), dtype=torch.float32, requires_grad=True) for a in (self.gamma, self.beta)
        )
        functional, kept = torch.nn.functional, {}

        def forward():
            total = x + other if rate is None else x
            if self.norm == "layer":
                y = functional.layer_norm(total, self.shape[1:], gamma, beta, EPS)
            else:
                y = functional.batch_norm(total, None, None, gamma, beta, training=True, eps=EPS)
            if rate is not None:
                y = functional.relu(y)
            if rate:
                y = functional.dropout(y, rate)
            kept["y"], kept["total"] = y, total
            return y.detach().numpy()

        def backward():
            kept["of"], *_ = torch.autograd.grad(
                (kept["y"], kept["total"]) if rate is None else kept["y"],
                (x, gamma, beta),
                (dy, other) if rate is None else dy,
            )
            return kept["of"].numpy()

        return forward, backward


def check(title, expected, made):
    """Refuse a contender whose results are not those of the separate kernels."""
    for name, passes in made.items():
        for run, truth in zip(passes, expected, strict=True):
            error = float(np.abs(run().reshape(truth.shape) - truth).max() / np.abs(truth).max())
            if not error <= LARGEST_ERROR:
                sys.exit(f"{title}: {name} is wrong by {error:.2g} of the largest value; nothing is timed.")


def take_turns(made, short):
    """Return the median milliseconds of forward and backward of each contender."""
    times = {name: ([], []) for name in made}
    end = time.perf_counter() + SECONDS_PER_CONTENDER * len(made)
    rounds = 0
    while rounds < 5 or (time.perf_counter() < end and not short):
        rounds += 1
        for name, passes in made.items():
            for run, taken in zip(passes, times[name], strict=True):
                start = time.perf_counter()
                run()
                taken.append(time.perf_counter() - start)
    return {name: [1e3 * float(np.median(t)) for t in both] for name, both in times.items()}


def measure(threads, short):
    """Check, time and print all cases."""
    kernels.set_num_threads(threads)
    if torch:
        torch.set_num_threads(threads)
    for shape in SHORT_SHAPES if short else SHAPES:
        problems = [Problem(norm, shape) for norm in (("layer", "batch") if len(shape) == 2 else ("batch",))]
        cases = [problem.followed(rate) for problem in problems for rate in (0.0, 0.5)]
        if len(shape) == 2:
            cases.append(problems[0].residual())
        for title, together, separate, theirs, alike in cases:
            expected = [run().copy() for run in separate]
            made = {"fused": together, "separate": separate}
            check(title, expected, made | ({"torch": theirs} if theirs and alike else {}))
            if theirs:
                made["torch"] = theirs
            times = take_turns(made, short)
            name = "x".join(map(str, shape))
            for k, part in enumerate(("forward", "backward")):
                ours = times["fused"][k]
                others = "   ".join(
                    f"{other} {t[k]:.4f} ms ({t[k] / ours:.2f}x)" for other, t in times.items() if other != "fused"
                )
                print(f"{name:12} {title:26} {part:8}  fused {ours:8.4f} ms   {others}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="tiny sizes, in seconds: does it run at all?")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    if len(options.threads) > 1:
        for threads in options.threads:
            command = [sys.executable, __file__, "--threads", str(threads), *(["--short"] if options.short else [])]
            environment = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
            subprocess.run(command, env=os.environ | environment, check=True)
        return
    if not kernels.serves_wide(np.float32):
        sys.exit(f"The kernels are not in use. {kernels.reason}")
    print(f"\n{options.threads[0]} thread(s); medians, and in brackets how many times the fused time")
    measure(options.threads[0], options.short)


if __name__ == "__main__":
    import numpy as np

    from xhat import kernels
    from xhat.kernels import fused, random

    try:
        import torch
    except ImportError:
        torch = None
    main()
