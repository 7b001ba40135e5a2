"""The cost of one call on a small array: xhat, torch's functional calls if it is installed, and the NumPy textbook.

    python benchmarks/overhead.py [--short]

Every layer, forward and backward, at 2048 float32 numbers with float32 parameters, one thread. Results are checked
first; a wrong one is not timed. The contenders take turns within one process; given are microseconds per call: the
median over the turns, each of many calls, and the least. torch's forward pass records what its backward pass needs, as
xhat's does; its backward pass is `torch.autograd.grad`.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import xhat

try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = functional = None

EPS = 1e-5
LARGEST_ERROR = 1e-4  # of the largest value: float32 contenders that are right are far below
GROUPS = 8


class Contest(NamedTuple):
    """One layer, one direction; each contender returns what is to be compared, the first being xhat."""

    name: str
    contenders: dict[str, Callable]


def textbook_forward(x, gamma, beta, axes):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    x_hat = (x - mean) / np.sqrt(var + np.float32(EPS))
    return gamma * x_hat + beta


def textbook_backward(dy, x, gamma, axes):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    rstd = 1 / np.sqrt(var + np.float32(EPS))
    x_hat, dx_hat = (x - mean) * rstd, dy * gamma
    dx = rstd * (dx_hat - dx_hat.mean(axes, keepdims=True) - x_hat * (dx_hat * x_hat).mean(axes, keepdims=True))
    others = tuple(i for i in range(dy.ndim) if gamma.shape[i] == 1)
    return dx, (dy * x_hat).sum(others), dy.sum(others)


def textbook_rms_backward(dy, x, gamma):
    rstd = 1 / np.sqrt((x * x).mean(1, keepdims=True) + np.float32(EPS))
    x_hat, dx_hat = x * rstd, dy * gamma
    return rstd * (dx_hat - x_hat * (dx_hat * x_hat).mean(1, keepdims=True)), (dy * x_hat).sum(0)


def contests():
    """Make every contest."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 32, 64), np.float32)
    gamma, beta = rng.standard_normal((2, 64), np.float32)
    images, dimages = x.reshape(32, 8, 8), dy.reshape(32, 8, 8)
    blocks, dblocks = x.reshape(32, GROUPS, -1), dy.reshape(32, GROUPS, -1)
    w = rng.standard_normal((64, 64), np.float32)
    column = (1, 8, 1)
    lines = gamma.reshape(1, GROUPS, -1), beta.reshape(1, GROUPS, -1)

    def grouped_backward():
        dx, dgamma, dbeta = textbook_backward(dblocks, blocks, lines[0], (2,))
        return dx.reshape(x.shape), dgamma.reshape(-1), dbeta.reshape(-1)

    yield from both(
        "batch norm",
        xhat.batch_norm,
        (x, gamma, beta),
        {},
        dy,
        lambda: textbook_forward(x, gamma, beta, (0,)),
        lambda: textbook_backward(dy, x, gamma[None], (0,)),
        lambda x, gamma, beta: functional.batch_norm(x, None, None, gamma, beta, training=True, eps=EPS),
    )
    yield from both(
        "layer norm",
        xhat.layer_norm,
        (x, gamma, beta),
        {},
        dy,
        lambda: textbook_forward(x, gamma, beta, (1,)),
        lambda: textbook_backward(dy, x, gamma[None], (1,)),
        lambda x, gamma, beta: functional.layer_norm(x, (64,), gamma, beta, EPS),
    )
    yield from both(
        "RMS norm",
        xhat.rms_norm,
        (x, gamma),
        {},
        dy,
        lambda: x / np.sqrt((x * x).mean(1, keepdims=True) + np.float32(EPS)) * gamma,
        lambda: textbook_rms_backward(dy, x, gamma),
        lambda x, gamma: functional.rms_norm(x, (64,), gamma, EPS),
    )
    yield from both(
        "group norm",
        xhat.group_norm,
        (x, gamma, beta),
        {"groups": GROUPS},
        dy,
        lambda: textbook_forward(blocks, *lines, (2,)).reshape(x.shape),
        grouped_backward,
        lambda x, gamma, beta: functional.group_norm(x, GROUPS, gamma, beta, EPS),
    )
    yield from both(
        "instance norm",
        xhat.instance_norm,
        (images, gamma[:8].copy(), beta[:8].copy()),
        {},
        dimages,
        lambda: textbook_forward(images, gamma[:8].reshape(column), beta[:8].reshape(column), (2,)),
        lambda: textbook_backward(dimages, images, gamma[:8].reshape(column), (2,)),
        lambda x, gamma, beta: functional.instance_norm(x, weight=gamma, bias=beta, eps=EPS),
    )
    yield from both(
        "affine",
        xhat.affine,
        (x, w, beta),
        {},
        dy,
        lambda: x @ w + beta,
        lambda: (dy @ w.T, x.T @ dy, dy.sum(0)),
        lambda x, w, b: functional.linear(x, w.T, b),
    )
    yield from both(
        "ReLU",
        xhat.relu,
        (x,),
        {},
        dy,
        lambda: np.maximum(x, 0),
        lambda: (dy * (x > 0),),
        lambda x: functional.relu(x),
    )


def both(name, layer, arguments, settings, dy, numpy_forward, numpy_backward, torch_forward):
    """Make the forward and the backward contest of one layer."""
    _, cache = layer.forward(*arguments, **settings)
    forwards = {"xhat": lambda: layer.forward(*arguments, **settings)[0]}
    backwards = {"xhat": lambda: layer.backward(dy, cache)}
    if torch:
        tensors = [torch.tensor(values, requires_grad=True) for values in arguments]
        y, tdy = torch_forward(*tensors), torch.tensor(dy)
        forwards["torch"] = lambda: torch_forward(*tensors)
        backwards["torch"] = lambda: torch.autograd.grad(y, tensors, tdy, retain_graph=True)
    yield Contest(f"{name} forward", forwards | {"numpy": numpy_forward})
    yield Contest(f"{name} backward", backwards | {"numpy": numpy_backward})


def check(contest):
    """Refuse to time what is wrong."""
    results = {name: contender() for name, contender in contest.contenders.items()}
    expected, *_ = results.values()
    for name, result in results.items():
        pairs = zip(result, expected, strict=True) if isinstance(expected, tuple) else [(result, expected)]
        for got, true in pairs:
            values = got.detach().numpy() if torch and isinstance(got, torch.Tensor) else got
            if not np.abs(values - true).max() < LARGEST_ERROR * np.abs(true).max():
                sys.exit(f"{contest.name}: {name} and xhat do not agree. Not timed.")


def take_turns(contenders, rounds, calls):
    """Return the microseconds per call of each contender, for each round."""
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            start = time.perf_counter()
            for _ in range(calls):
                contender()
            times[name].append((time.perf_counter() - start) / calls * 1e6)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="few rounds, in a second: does it run at all?")
    short = parser.parse_args().short
    xhat.kernels.set_num_threads(1)
    if torch:
        torch.set_num_threads(1)
    print(f"{'microseconds per call, median (least)':24}")
    for contest in contests():
        check(contest)
        times = take_turns(contest.contenders, 3 if short else 101, 20 if short else 200)
        row = "   ".join(f"{name} {np.median(t):6.2f} ({min(t):6.2f})" for name, t in times.items())
        print(f"{contest.name:24}{row}", flush=True)


if __name__ == "__main__":
    main()
