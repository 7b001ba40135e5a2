"""What the thread pool costs: beside BLAS's own threads, and on small arrays.

    python benchmarks/threads.py [--short] [--threads N]

First, products of matrices by NumPy's BLAS and batch norms take turns, and are compared with the same number of each
done alone. Two pools that keep their threads awake fight for the CPUs; a norm between two products should cost what it
costs alone. The same for torch's batch norm, if torch is installed: its pool is OpenMP's.

Then the crossover: arrays of growing size on one thread and on several. Medians of alternated rounds; a machine is
never quiet, so only the ratios mean much.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

SIDE = 512  # of the matrices: about a millisecond on two cores
NORMS = ((256, 512), (512, 512), (2048, 512))
SIZES = tuple((rows, 256) for rows in (16, 64, 128, 192, 256, 384, 512, 1024, 4096))


def seconds(work: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def medians(contenders: dict[str, Callable[[], object]], rounds: int, times: int) -> dict[str, float]:
    """Return the seconds per call of each, which take turns in bursts of `times` calls."""
    found = {name: [] for name in contenders}
    for contender in contenders.values():
        seconds(contender, 2)
    for _ in range(rounds):
        for name, contender in contenders.items():
            found[name].append(seconds(contender, times))
    return {name: statistics.median(times) for name, times in found.items()}


def beside_blas(norms: dict[str, Callable], rounds: int, times: int) -> None:
    """Print what a norm costs alone and between two products."""
    print(f"{'norm':24}{'alone us':>10}{'product us':>12}{'pair us':>10}{'norm in pair':>14}")
    a, b, c = (np.full((SIDE, SIDE), value, np.float32) for value in (0.5, 2, 0))

    def product():
        np.matmul(a, b, out=c)

    for name, norm in norms.items():

        def pair(norm=norm):
            product()
            norm()

        took = medians({"norm": norm, "product": product, "pair": pair}, rounds, times)
        alone, products, pairs = (took[key] * 1e6 for key in ("norm", "product", "pair"))
        print(f"{name:24}{alone:10.1f}{products:12.1f}{pairs:10.1f}{(pairs - products) / alone:13.2f}x")


def crossover(threads: int, sizes: tuple[tuple[int, int], ...], rounds: int) -> None:
    """Print the time on one thread over that on several."""
    heads = "".join(f"{f'{norm} 1':>11}{f'{norm} {threads}':>11}{'ratio':>7}" for norm in ("batch", "layer"))
    print(f"\n{'numbers':>9}{heads}")
    for shape in sizes:
        x = np.random.default_rng(0).standard_normal(shape, np.float32)
        y = np.zeros_like(x)
        images, images_out = x[:, :, None], y[:, :, None]
        line = f"{x.size:9}"
        for norm in (
            lambda x=images, y=images_out: kernels.channels_forward(x, None, None, None, 1e-5, y),
            lambda x=x, y=y: kernels.rows_forward(x, None, None, 1e-5, y),
        ):

            def work(count, norm=norm):
                if count != xhat.get_num_threads():
                    xhat.set_num_threads(count)
                norm()

            contenders = {"one": lambda work=work: work(1), "several": lambda work=work: work(threads)}
            took = medians(contenders, rounds, max(3, 2**20 // x.size))
            line += f"{took['one'] * 1e6:11.1f}{took['several'] * 1e6:11.1f}{took['one'] / took['several']:7.2f}"
        print(line, flush=True)


def batch_norms(threads: int, shapes: tuple[tuple[int, int], ...]) -> dict[str, Callable]:
    """Return the norms to time, of each library that is here, each checked."""
    found: dict[str, Callable] = {}
    for shape in shapes:
        x = np.random.default_rng(1).standard_normal(shape, np.float32)
        expected = (x - x.mean(0)) / x.std(0)
        ones, zeros = np.ones(shape[1]), np.zeros(shape[1])
        out = np.zeros_like(x)
        name = "x".join(map(str, shape))
        for count in (threads, 1):

            def ours(x=x, ones=ones, zeros=zeros, out=out, count=count):
                xhat.set_num_threads(count)
                return xhat.batch_norm.forward(x, ones, zeros, out=out)[0]

            found[f"xhat {name}, {count} thr."] = ours
        if torch:
            arguments = [torch.from_numpy(values.astype(np.float32)) for values in (x, ones, zeros)]
            found[f"torch {name}, {threads} thr."] = lambda a=arguments: torch.native_batch_norm(
                *a, None, None, True, 0.1, 1e-5
            )[0].numpy()
        for which, norm in found.items():
            if name in which:
                assert np.abs(norm() - expected).max() < 1e-3, f"{which}: wrong"
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few calls of each, to see that all of it runs")
    parser.add_argument("--threads", type=int, default=2)
    settings = parser.parse_args()

    for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(variable, None)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(settings.threads)
    import numpy as np  # after its threads are set

    import xhat
    from xhat import kernels

    try:
        import torch
    except ImportError:
        torch = None
    else:
        torch.set_num_threads(settings.threads)

    rounds = 3 if settings.short else 15
    shapes = NORMS[:1] if settings.short else NORMS
    beside_blas(batch_norms(settings.threads, shapes), rounds, 5 if settings.short else 50)
    crossover(settings.threads, SIZES[:3] if settings.short else SIZES, rounds)
