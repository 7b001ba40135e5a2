"""The bits depend neither on the instruction set nor on the number of threads, nor on who else computes."""

import numpy as np
import pytest
from tests.kernels import oracle
from tests.kernels.oracle import DTYPES, bits, make_case, run

from xhat import kernels

pytestmark = oracle.needs_native

SHAPES = [(1, 200_003), (300, 701), (70_001, 5), (3, 3), (5000, 37, 1), (3001, 11, 9), (3, 2, 140_001)]
SHAPES += [(4, 20, 5001), (200_003, 1, 1), (400, 700, 3), (7, 3, 1), (200, 17, 140)]
LINES = {(3000, 70): (3, 10), (2000, 260): (4, 2), (600, 500): (6, 1), (3, 140_004): (3, 2), (4, 140_006): (2, 70_003)}
SHAPES += LINES
NATIVE = [name for name in kernels.VARIANTS if name != "reference"]


@pytest.fixture(autouse=True)
def same_threads_after():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


@pytest.fixture(params=SHAPES, ids=str)
def case(request):
    rng = np.random.default_rng(21)
    shape = request.param
    return make_case(shape, np.float64, rng, x=3 + rng.standard_normal(shape), lines=LINES.get(shape))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_variants_agree_bit_for_bit(case, dtype):
    case = case._replace(x=case.x.astype(dtype), dy=case.dy.astype(dtype))
    results = []
    for name in NATIVE:
        with kernels.use(name):
            results.append(bits(run(case)))
    assert all(r == results[0] for r in results)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threads_agree_bit_for_bit(case, dtype):
    case = case._replace(x=case.x.astype(dtype), dy=case.dy.astype(dtype))
    results = []
    for threads in (1, 2, 3, 5, 16):
        kernels.set_num_threads(threads)
        results += [bits(run(case)), bits(run(case))]
    assert all(r == results[0] for r in results)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if len(shape) == 3], ids=str)
def test_fixed_statistics_agree_bit_for_bit(shape):
    case = make_case(shape, np.float32, np.random.default_rng(21))
    ones = np.ones(shape[1])
    results = []
    for name, threads in [(name, threads) for name in NATIVE for threads in (1, 3)]:
        y, dx = np.full_like(case.x, np.nan), np.full_like(case.x, np.nan)
        kernels.set_num_threads(threads)
        with kernels.use(name):
            kernels.channels_apply(case.x, None, case.gamma, case.beta, ones, None, ones, y)
            sums = kernels.channels_apply_backward(case.dy, case.x, None, case.gamma, ones, None, ones, dx)
        results.append([a.tobytes() for a in (y, dx, *sums)])
    assert all(r == results[0] for r in results)


def test_a_row_does_not_depend_on_the_others():
    rng = np.random.default_rng(22)
    case = make_case((300, 701), np.float32, rng)
    whole = run(case)
    for i in (0, 1, 150, 299):
        one = run(case._replace(x=case.x[i : i + 1], dy=case.dy[i : i + 1]))
        assert np.array_equal(one.y[0], whole.y[i])
        assert np.array_equal(one.dx[0], whole.dx[i])


def test_a_sample_does_not_depend_on_the_others_in_its_lines():
    rng = np.random.default_rng(22)
    for columns, entries in ((70, 10), (260, 2), (130, 1)):
        case = make_case((300, columns), np.float32, rng, lines=(3, entries))
        whole = run(case)
        one = run(case._replace(x=case.x[150:153], dy=case.dy[150:153]))
        assert np.array_equal(one.y, whole.y[150:153])
        assert np.array_equal(one.dx, whole.dx[150:153])


def test_address_does_not_matter():
    rng = np.random.default_rng(23)
    case = make_case((33, 130), np.float32, rng)
    memory = np.empty(33 * 130 + 1, np.float32)
    moved = memory[1:].reshape(33, 130)
    moved[:] = case.x
    assert bits(run(case._replace(x=moved))) == bits(run(case))
