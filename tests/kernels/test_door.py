"""The choice of the variant, the number of threads, and life without the native module."""

import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from tests.kernels import oracle

from xhat import kernels

LISTED = ", ".join(kernels.VARIANTS)


def python(code, **environment):
    """Run code in a fresh interpreter, where the environment is read anew."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_variants_begin_with_the_reference():
    assert kernels.VARIANTS[0] == "reference"
    assert kernels.variant() in kernels.VARIANTS
    assert (len(kernels.VARIANTS) == 1) == bool(kernels.reason)


@pytest.mark.parametrize("name", kernels.VARIANTS)
def test_use_is_for_a_while(name):
    before = kernels.variant()
    with kernels.use(name):
        assert kernels.variant() == name
        assert kernels.serves(np.dtype(np.float32)) == (name != "reference")
        with kernels.use("reference"):
            assert not kernels.serves(np.float64)
        assert kernels.variant() == name
    assert kernels.variant() == before


def test_use_ends_with_an_exception():
    before = kernels.variant()
    with pytest.raises(KeyError), kernels.use("reference"):
        raise KeyError
    assert kernels.variant() == before


def test_unknown_variant():
    message = f"kernels.use: expected one of {LISTED}, got 'fast'. Only these can run here."
    if kernels.reason:
        message += f" The native module is absent: {kernels.reason}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"), kernels.use("fast"):
        pass


@oracle.needs_native
def test_serves():
    with kernels.use("baseline"):
        assert kernels.serves(np.dtype(np.float32))
        assert kernels.serves(np.float64)
        assert kernels.serves_wide(np.dtype(np.float32))
        assert kernels.serves_wide(np.float64)
        for other in (np.int32, np.complex64, np.longdouble, object, ">f4", ">f8"):
            assert not kernels.serves(np.dtype(other))
            assert not kernels.serves_wide(np.dtype(other))


@oracle.needs_native
@pytest.mark.parametrize("name", kernels.VARIANTS)
def test_environment_chooses_the_variant(name):
    done = python("from xhat import kernels; print(kernels.variant())", XHAT_KERNELS=name)
    assert done.stdout.strip() == name, done.stderr


def test_unknown_variant_in_the_environment():
    done = python("import xhat.kernels", XHAT_KERNELS="sse9")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ValueError: XHAT_KERNELS: expected one of {LISTED}, got 'sse9'. Only these can run here.")


def test_without_the_native_module():
    done = python(
        """
        import sys
        sys.modules["xhat._native"] = None
        from xhat import kernels
        assert kernels.VARIANTS == ("reference",)
        assert kernels.variant() == "reference"
        assert "_native" in kernels.reason
        assert not kernels.serves("float32")
        assert kernels.get_num_threads() == 1
        kernels.set_num_threads(4)
        assert kernels.get_num_threads() == 1
        try:
            with kernels.use("avx2"):
                pass
        except ValueError as error:
            assert str(error) == (
                "kernels.use: expected one of reference, got 'avx2'. Only these can run here. "
                "The native module is absent: " + kernels.reason
            )
        else:
            raise AssertionError
        """,
        XHAT_KERNELS="reference",
    )
    assert done.returncode == 0, done.stderr


@oracle.needs_native
@pytest.mark.parametrize(
    ("wish", "threads"),
    [
        ("1", 1),
        ("3", 3),
        ("5000", 1024),
        ("0", None),
        ("-2", None),
        ("4,2", 4),
        (" 3 , 1", 3),
        ("0,4", None),
        (",4", None),
        ("", None),
    ],
)
def test_first_number_of_threads(wish, threads):
    done = python("from xhat import kernels; print(kernels.get_num_threads())", OMP_NUM_THREADS=wish)
    if threads is None:
        assert 1 <= int(done.stdout) <= (os.cpu_count() or 1)
    else:
        assert int(done.stdout) == threads, done.stderr


@oracle.needs_native
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_threads_follow_the_affinity():
    code = """
        import os
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        from xhat import kernels
        print(kernels.get_num_threads())
    """
    assert python(code, OMP_NUM_THREADS="").stdout.strip() == "1"


@oracle.needs_native
def test_set_num_threads():
    before = kernels.get_num_threads()
    for n in (1, np.int64(3), 1024, True):
        kernels.set_num_threads(n)
        assert kernels.get_num_threads() == int(n)
    kernels.set_num_threads(before)


@pytest.mark.parametrize("n", [2.0, "2", None])
def test_threads_are_an_integer(n):
    message = f"set_num_threads: expected an integer, got {n!r} ({type(n).__name__}). Pass a number of threads."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        kernels.set_num_threads(n)


@pytest.mark.parametrize("n", [0, -1, 1025, 2**70])
def test_threads_are_in_range(n):
    before = kernels.get_num_threads()
    message = f"set_num_threads: expected n from 1 to 1024, got {n}. Pass 1 for no other thread."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        kernels.set_num_threads(n)
    assert kernels.get_num_threads() == before


def test_kernels_know_no_layers():
    done = python(
        """
        import importlib.util, sys, types
        package = importlib.util.find_spec("xhat")
        bare = types.ModuleType("xhat")
        bare.__path__ = package.submodule_search_locations
        sys.modules["xhat"] = bare
        import xhat.kernels
        loaded = {name for name in sys.modules if name.startswith("xhat.")}
        assert loaded <= {f"xhat.kernels{room}" for room in ("", ".granted", ".memory", ".threads")} | {"xhat._native"}, loaded
        """
    )
    assert done.returncode == 0, done.stderr
