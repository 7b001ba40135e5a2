"""What this machine is: the CPU, the kernels that NumPy's BLAS chose for it, and the threads in use."""

from __future__ import annotations

import os
import platform
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from xhat import kernels

_AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}
_AVX512_KERNELS = {"SkylakeX", "Cooperlake", "SapphireRapids"}
_WORTH_A_THREAD = 100_000_000  # multiplications
_SHOWN = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    *sorted(_AVX512),
    "avx512_bf16",
    "avx512_fp16",
    "asimd",
    "sve",
)


class Blas(NamedTuple):
    """One BLAS library in this process.

    Attributes
    ----------
    library : str
        Its kind: `openblas`, `mkl`, `blis`, ….
    version : str
        Its version, or '' where it does not say.
    kernels : str
        The CPU whose kernels it runs (`SkylakeX`, `Haswell`, …), or '' where it does not say.
    threads : int
        The threads of a matrix product.
    """

    library: str
    version: str
    kernels: str
    threads: int


class Cpu(NamedTuple):
    """The processor.

    Attributes
    ----------
    name : str
        As it calls itself.
    cores : int
        The logical CPUs that this process may use.
    features : tuple of str
        Those vector instruction sets of it that matter to the kernels.
    """

    name: str
    cores: int
    features: tuple[str, ...]


def cpu() -> Cpu:
    """Return the processor; where the system does not tell its features, they are empty.

    Returns
    -------
    Cpu
        Its name, usable cores and features.
    """
    said: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            said.setdefault(key.strip().lower(), value.strip())
    except OSError:
        pass  # not Linux
    flags = (said.get("flags") or said.get("features") or "").split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name = said.get("model name") or platform.processor() or platform.machine()
    return Cpu(name, cores, tuple(flag for flag in _SHOWN if flag in flags))


def blas() -> list[Blas]:
    """Return the BLAS libraries loaded in this process; NumPy's comes with `import numpy`.

    Returns
    -------
    list of Blas
        One entry per library.
    """
    pools: list[dict[str, Any]] = import_module("threadpoolctl").threadpool_info()
    return [
        Blas(
            str(pool["internal_api"]),
            str(pool.get("version") or ""),
            str(pool.get("architecture") or ""),
            int(pool["num_threads"]),
        )
        for pool in pools
        if pool["user_api"] == "blas"
    ]


def use_threads(count: int) -> None:
    """Set the threads of the kernels and of every BLAS in this process.

    Parameters
    ----------
    count : int
        At least 1.

    Raises
    ------
    ValueError
        If there are more than the kernels take.
    """
    kernels.set_num_threads(count)
    import_module("threadpoolctl").threadpool_limits(count)


def calm_blas(multiplications: int) -> None:
    """Give BLAS one thread where its products are small.

    Two threads gain little there (a tenth, measured on the digits), and where other programs use the CPUs they wait on
    each other: epochs were seen to take 25 to 100 times as long.

    Parameters
    ----------
    multiplications : int
        Of the largest matrix product.
    """
    if multiplications < _WORTH_A_THREAD:
        import_module("threadpoolctl").threadpool_limits(1, "blas")


def blas_advice(processor: Cpu, libraries: list[Blas]) -> str:
    """Say what to do where OpenBLAS runs older kernels than the processor can.

    The remedy is an environment variable, read once when NumPy loads. `xhat` does not set it itself:
    OpenBLAS was seen to choose well wherever nothing had set it, and what the user has set stays.

    Parameters
    ----------
    processor : Cpu
        What there is.
    libraries : list of Blas
        What runs.

    Returns
    -------
    str
        One line, or '' where all is well.
    """
    if not _AVX512.issubset(processor.features):
        return ""
    for library in libraries:
        if library.library == "openblas" and library.kernels and library.kernels not in _AVX512_KERNELS:
            chosen = os.environ.get("OPENBLAS_CORETYPE")
            why = f" because OPENBLAS_CORETYPE={chosen} is set" if chosen else ""
            remedy = "Unset it" if chosen else "Set OPENBLAS_CORETYPE=SkylakeX before Python starts"
            return (
                f"OpenBLAS: expected AVX-512 kernels on this CPU, got those for {library.kernels}{why}. "
                f"{remedy}: matrix products run up to twice as fast."
            )
    return ""
