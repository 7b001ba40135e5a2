"""Convolution and max pooling side by side: xhat, torch eager if it is installed, and the NumPy textbook.

    python benchmarks/convolution.py [--short] [--threads 2] [--csv FILE]

The first convolution has the size of the speed comparison in CS231n's assignment. Results are checked first; a wrong
one is not timed. The contenders take turns within one process, and the table gives medians and, because a machine is
never quiet, ratios of medians of the same run. "columns" is how long im2col alone takes: what going back would save
if the columns were kept. Everybody allocates the results.
"""

import argparse
import csv
import os
import sys
import time

LARGEST_ERROR = 1e-5  # of the largest value: float32 contenders that are right are far below, wrong ones far above
SECONDS_PER_CONTENDER = 1.0

# x, (filters, size, stride, padding)
CONVOLUTIONS = (
    ((100, 3, 31, 31), (25, 3, 2, 1)),
    ((32, 64, 28, 28), (64, 3, 1, 1)),
    ((16, 64, 56, 56), (128, 3, 2, 1)),
    ((64, 32, 32, 32), (64, 5, 1, 2)),
    ((32, 256, 14, 14), (256, 1, 1, 0)),
    ((128, 256, 4, 4), (256, 3, 1, 1)),
)
# x, (size, stride)
POOLS = (((100, 3, 32, 32), (2, 2)), ((32, 64, 28, 28), (2, 2)), ((32, 64, 28, 28), (3, 2)), ((32, 64, 28, 28), (3, 1)))
SHORT_CONVOLUTIONS = (((3, 2, 8, 8), (4, 3, 2, 1)),)
SHORT_POOLS = (((3, 2, 8, 8), (2, 2)), ((3, 2, 9, 9), (3, 2)))


def windows_of(x, size, stride):
    """Return a view (N, C, HH, WW, H', W') of all windows."""
    n, c, h, w = x.shape
    rows, columns = (h - size) // stride + 1, (w - size) // stride + 1
    a, b, s, t = x.strides
    shape, strides = (n, c, size, size, rows, columns), (a, b, s, t, s * stride, t * stride)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def textbook_conv(x, w, b, stride, padding):
    """Return y, and dx, dw, db of a dy, the way a textbook does: one matrix of columns."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = windows_of(padded, w.shape[2], stride)
    n, rows, columns_ = len(x), *windows.shape[4:]
    columns = windows.transpose(1, 2, 3, 0, 4, 5).reshape(-1, n * rows * columns_)
    filters = w.reshape(len(w), -1)
    y = (filters @ columns + b[:, None]).reshape(len(w), n, rows, columns_).transpose(1, 0, 2, 3)

    def backward(dy):
        flat = dy.transpose(1, 0, 2, 3).reshape(len(w), -1)
        dcolumns = (filters.T @ flat).reshape(x.shape[1], *w.shape[2:], n, rows, columns_)
        dpadded = np.zeros_like(padded)
        for i in range(w.shape[2]):
            for j in range(w.shape[3]):
                here = (slice(i, i + stride * rows, stride), slice(j, j + stride * columns_, stride))
                dpadded[:, :, *here] += dcolumns[:, i, j].transpose(1, 0, 2, 3)
        inside = slice(padding, padding + x.shape[2]), slice(padding, padding + x.shape[3])
        return dpadded[:, :, *inside], (flat @ columns.T).reshape(w.shape), dy.sum((0, 2, 3))

    return np.ascontiguousarray(y), backward


def textbook_pool(x, size, stride):
    """Return y, and dx of a dy: the largest of the windows' entries, found again by their place."""
    windows = windows_of(x, size, stride)
    flat = windows.transpose(0, 1, 4, 5, 2, 3).reshape(*windows.shape[:2], *windows.shape[4:], -1)
    winner = flat.argmax(-1)
    y = np.take_along_axis(flat, winner[..., None], -1)[..., 0]

    def backward(dy):
        dx = np.zeros_like(x)
        n, c, r, q = np.ogrid[tuple(map(slice, y.shape))]
        np.add.at(dx, (n, c, r * stride + winner // size, q * stride + winner % size), dy)
        return (dx,)

    return y, backward


def conv_contests(shape, filters, size, stride, padding):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    w = rng.standard_normal((filters, shape[1], size, size), np.float32)
    b = rng.standard_normal(filters, np.float32)
    y, cache = xhat.conv.forward(x, w, b, stride, padding)
    dy = rng.standard_normal(y.shape, np.float32)
    true_y, true_backward = textbook_conv(*(a.astype(np.float64) for a in (x, w, b)), stride, padding)
    book = textbook_conv(x, w, b, stride, padding)[1]
    columns = np.empty((1, *w.shape[1:], len(x), *y.shape[2:]), np.float32)
    pairs = (stride, stride), (padding, padding)
    forwards = {
        "xhat": lambda: (xhat.conv.forward(x, w, b, stride, padding)[0],),
        "numpy": lambda: (textbook_conv(x, w, b, stride, padding)[0],),
    }
    backwards = {
        "xhat": lambda: tuple(xhat.conv.backward(dy, cache)),
        "numpy": lambda: book(dy),
        "columns": lambda: kernels.native.im2col(x, columns, *pairs),
    }
    if torch:
        tx, tw, tb, tdy = map(torch.from_numpy, (x, w, b, dy))
        rest = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
        aten = torch.ops.aten
        forwards["torch"] = lambda: (aten.convolution(tx, tw, tb, *rest).numpy(),)
        backwards["torch"] = lambda: tuple(
            t.numpy() for t in aten.convolution_backward(tdy, tx, tw, [filters], *rest, [True] * 3)
        )
    what = f"conv {'x'.join(map(str, shape))}, {filters} of {size}x{size}, stride {stride}, padding {padding}"
    yield f"{what}, forward", forwards, (true_y,)
    yield f"{what}, backward", backwards, true_backward(dy.astype(np.float64))


def pool_contests(shape, size, stride):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    y, cache = xhat.max_pool.forward(x, size, stride)
    dy = rng.standard_normal(y.shape, np.float32)
    true_y, true_backward = textbook_pool(x.astype(np.float64), size, stride)
    book = textbook_pool(x, size, stride)[1]
    forwards = {
        "xhat": lambda: (xhat.max_pool.forward(x, size, stride)[0],),
        "numpy": lambda: (textbook_pool(x, size, stride)[0],),
    }
    backwards = {"xhat": lambda: tuple(xhat.max_pool.backward(dy, cache)), "numpy": lambda: book(dy)}
    if torch:
        tx, tdy = map(torch.from_numpy, (x, dy))
        rest = ([size] * 2, [stride] * 2)
        aten = torch.ops.aten
        winner = aten.max_pool2d_with_indices(tx, *rest)[1]
        forwards["torch"] = lambda: (aten.max_pool2d_with_indices(tx, *rest)[0].numpy(),)
        backwards["torch"] = lambda: (
            aten.max_pool2d_with_indices_backward(tdy, tx, *rest, [0, 0], [1, 1], False, winner).numpy(),
        )
    what = f"pool {'x'.join(map(str, shape))}, {size}x{size}, stride {stride}"
    yield f"{what}, forward", forwards, (true_y,)
    yield f"{what}, backward", backwards, true_backward(dy.astype(np.float64))


def check(what, contenders, expected):
    """Refuse to time what is wrong."""
    for name, contender in contenders.items():
        if name == "columns":
            continue
        for got, true in zip(contender(), expected, strict=True):
            error = np.abs(got - true).max() / np.abs(true).max()
            if not error < LARGEST_ERROR:
                sys.exit(f"{what}: {name} is off by {error:.1e} of the largest value. Not timed.")


def take_turns(contenders, short):
    """Return the median milliseconds of each contender."""
    start = time.perf_counter()
    for contender in contenders.values():
        contender()
    once = max(time.perf_counter() - start, 1e-6)
    rounds = int(min(max((0.02 if short else SECONDS_PER_CONTENDER * len(contenders)) / once, 5), 200))
    times = {name: [] for name in contenders}
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for name in rng.permutation(list(contenders)):  # who comes next finds what the last one left in the cache
            start = time.perf_counter()
            contenders[name]()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(t)) for name, t in times.items()}


def measure(short, threads):
    """Check, time and print everything; return the rows of the table."""
    rows = []
    convolutions, pools = (SHORT_CONVOLUTIONS, SHORT_POOLS) if short else (CONVOLUTIONS, POOLS)
    contests = [contest for shape, rest in convolutions for contest in conv_contests(shape, *rest)]
    contests += [contest for shape, rest in pools for contest in pool_contests(shape, *rest)]
    for what, contenders, expected in contests:
        check(what, contenders, expected)
        times = take_turns(contenders, short)
        others = (f"{name} {t:.3f} ms ({t / times['xhat']:.2f}x)" for name, t in times.items() if name != "xhat")
        print(f"{what:70} xhat {times['xhat']:8.3f} ms   " + "   ".join(others), flush=True)
        rows += [
            {"what": what, "threads": threads, "contender": name, "milliseconds": f"{t:.6f}"}
            for name, t in times.items()
        ]
    return rows


def main():
    kernels.set_num_threads(options.threads)
    if torch:
        torch.set_num_threads(options.threads)
    if kernels.variant() == "reference":
        sys.exit(f"The kernels are not in use. {kernels.reason}")
    with_torch = f"torch {torch.__version__}" if torch else "torch not installed"
    print(f"{options.threads} thread(s), {kernels.variant()}, NumPy {np.__version__}, {with_torch}")
    print("float32; medians, and in brackets how many times xhat's time")
    rows = measure(options.short, options.threads)
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="tiny sizes, in seconds: does it run at all?")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv", metavar="FILE", help="write the medians there")
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when the libraries are loaded
        os.environ[name] = str(options.threads)

    import numpy as np

    import xhat
    from xhat import kernels

    try:
        import torch
    except ImportError:
        torch = None
    main()
