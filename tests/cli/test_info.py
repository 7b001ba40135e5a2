import json

import pytest

from xhat import kernels
from xhat.cli import machine
from xhat.cli.machine import Blas, Cpu, blas_advice

NEW = Cpu("a CPU", 2, ("avx2", "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"))
OLD = Cpu("a CPU", 2, ("avx2", "avx512f"))


def openblas(chosen):
    return [Blas("openblas", "0.3.31", chosen, 2)]


def test_json_has_what_programs_ask_for(xhat):
    done = xhat("info", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert set(found) == {"versions", "platform", "cpu", "kernels", "threads", "blas", "advice"}
    assert found["versions"]["numpy"]
    assert set(found["cpu"]) == {"name", "cores", "features"}
    assert found["kernels"] == {
        "variant": kernels.variant(),
        "available": list(kernels.VARIANTS),
        "reason": kernels.reason,
    }
    assert found["threads"] == kernels.get_num_threads()
    assert all(set(library) == {"library", "version", "kernels", "threads"} for library in found["blas"])
    assert found["blas"]


def test_the_table_says_the_same(xhat):
    done = xhat("info")
    assert done.code == 0
    assert kernels.variant() in done.out
    assert machine.cpu().name in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())


def test_why_the_native_module_is_absent(xhat, monkeypatch):
    monkeypatch.setattr(kernels, "reason", "no such module")
    told = (
        "kernels: expected the native module, got none (no such module). "
        "Reinstall with a C++20 compiler at hand; the NumPy reference serves until then, slower."
    )
    assert json.loads(xhat("info", "--json").out)["advice"] == [told]
    assert xhat("info").err == f"warning: {told}\n"


@pytest.mark.parametrize(
    ("processor", "libraries"),
    [
        (NEW, openblas("SkylakeX")),
        (NEW, openblas("Cooperlake")),
        (NEW, openblas("")),
        (NEW, [Blas("mkl", "2025.0", "", 2)]),
        (OLD, openblas("Haswell")),
        (NEW, []),
    ],
)
def test_no_advice_where_all_is_well(processor, libraries):
    assert blas_advice(processor, libraries) == ""


def test_advice_where_openblas_runs_older_kernels(monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    assert blas_advice(NEW, openblas("Haswell")) == (
        "OpenBLAS: expected AVX-512 kernels on this CPU, got those for Haswell. "
        "Set OPENBLAS_CORETYPE=SkylakeX before Python starts: matrix products run up to twice as fast."
    )
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert blas_advice(NEW, openblas("Haswell")) == (
        "OpenBLAS: expected AVX-512 kernels on this CPU, got those for Haswell because "
        "OPENBLAS_CORETYPE=Haswell is set. Unset it: matrix products run up to twice as fast."
    )
