"""`xhat info`: the versions, the CPU, the kernels and the BLAS that this installation runs on."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from xhat import kernels
from xhat.cli import machine
from xhat.cli.console import show, warn

PACKAGES = (
    "xhat",
    "numpy",
    "safetensors",
    "typer",
    "rich",
    "matplotlib",
    "scikit-learn",
    "threadpoolctl",
    "pyarrow",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that xhat may use.

    Returns
    -------
    dict of str to str
        By name; an absent package is '' .
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def facts() -> dict[str, Any]:
    """Collect all that `xhat info` shows.

    Returns
    -------
    dict
        `versions`, `platform`, `cpu`, `kernels`, `threads`, `blas` and `advice`, ready for JSON.
    """
    processor = machine.cpu()
    libraries = machine.blas()
    advice = [machine.blas_advice(processor, libraries)]
    if kernels.reason:
        advice.append(
            f"kernels: expected the native module, got none ({kernels.reason}). "
            "Reinstall with a C++20 compiler at hand; the NumPy reference serves until then, slower."
        )
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "cpu": processor._asdict(),
        "kernels": {
            "variant": kernels.variant(),
            "available": list(kernels.VARIANTS),
            "reason": kernels.reason,
        },
        "threads": kernels.get_num_threads(),
        "blas": [library._asdict() for library in libraries],
        "advice": [line for line in advice if line],
    }


def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show versions, CPU, kernels, threads and BLAS, with advice where something is slower than need be."""
    found = facts()
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    installed = [(name, number or "not installed") for name, number in found["versions"].items()]
    show("Versions", ["", ""], installed, left=2)
    machine_rows = [
        ("system", found["platform"]),
        ("CPU", found["cpu"]["name"]),
        ("cores", str(found["cpu"]["cores"])),
        ("features", " ".join(found["cpu"]["features"]) or "unknown"),
        ("kernels", f"{found['kernels']['variant']} (of {', '.join(found['kernels']['available'])})"),
        ("threads", str(found["threads"])),
    ]
    for library in found["blas"]:
        described = f"{library['library']} {library['version']}".strip()
        kind = f", {library['kernels']} kernels" if library["kernels"] else ""
        machine_rows.append(("BLAS", f"{described}{kind}, {library['threads']} threads"))
    show("\nMachine", ["", ""], machine_rows, left=2)
    for line in found["advice"]:
        warn(line)
