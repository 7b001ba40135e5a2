# ruff: noqa: RUF059  written as people write it

from fractions import Fraction

import numpy as np
import pytest
from tests.verify.exact import pairs
from tests.verify.exact.pairs import EPS, IMAGES, LABELS, NC, ND, NORM, POOL, QKV, RIGHT, problem

from xhat.verify.exact import exact_identity
from xhat.verify.exact.identity import _Fields
from xhat.verify.report import Word

X = {"x": "N D"}


@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_are_exact(name):
    posed, sizes = RIGHT[name]
    result = exact_identity(posed, sizes)
    assert {n: v.word for n, v in result.verdicts.items()} == dict.fromkeys(posed.gradients, Word.EXACT), (
        result.verdicts
    )
    assert result.log2_failure < -100
    assert len(set(result.primes)) == 4
    assert all(p.bit_length() >= 61 for p in result.primes)
    assert result.sizes == sizes


# --- wrong gradients: each with the names that must be disproved, and no other


def steps(change):
    def backward(dout, cache):
        return change(dout, cache, *pairs.batch_steps_backward(dout, cache))

    return problem(pairs.batch_steps, backward, NORM, bn_param={"mode": "train"}, smallest={"N": 2, "D": 1})


def closed(change):
    def backward(dout, cache):
        grads = pairs.batch_closed_backward(dout, cache)
        return change(dout, cache, grads["dx"], grads["dgamma"], grads["dbeta"])

    return problem(pairs.batch_closed, backward, NORM, scalars=EPS)


def eps_dropped(dout, cache):
    xhat, gamma, xmu, ivar, sqrtvar, var, eps = cache
    return pairs.batch_steps_backward(dout, (xhat, gamma, xmu, ivar, sqrtvar, var, 0.0))


def eps_twice(dout, cache):
    xhat, gamma, xmu, ivar, sqrtvar, var, eps = cache
    return pairs.batch_steps_backward(dout, (xhat, gamma, xmu, ivar, np.sqrt(sqrtvar**2 + eps), var, eps))


def unbiased(x, gamma, beta, eps):
    var = x.var(axis=0, ddof=1)
    x_hat = (x - x.mean(axis=0)) / np.sqrt(var + eps)
    return gamma * x_hat + beta, {"x_hat": x_hat, "gamma": gamma, "rstd": 1 / np.sqrt(var + eps)}


def one_input(forward, backward, **constants):
    return problem(forward, backward, X, **constants)


def bad_conv_backward(dout, cache):
    dx, dw, db = pairs.conv_backward(dout, cache)
    return dx, dw[:, :, ::-1], db


def bad_attention_backward(dy, cache):
    q, k, v, p = cache
    ds = p * (1 - p) * (dy @ v.T) / np.sqrt(q.shape[1])
    return ds @ k, ds.T @ q, p.T @ dy


def bad_softmax(x, y):
    loss, dx = pairs.softmax_shifted(x, y)
    return loss, dx * x.shape[0]


def bad_svm(x, y):
    loss, dx = pairs.svm(x, y)
    dx[np.arange(len(y)), y] = -1 / len(y)
    return loss, dx


def bad_pool_backward(dout, cache):
    x, size = cache
    return np.repeat(np.repeat(dout, size, axis=2), size, axis=3) / (size * size)


WRONG = {
    "batch norm: dgamma times gamma": (closed(lambda u, c, x, g, b: (x, g * c["gamma"], b)), ND, {"dgamma"}),
    "batch norm: statistics taken as constants": (
        closed(lambda u, c, x, g, b: (u * c["gamma"] * c["rstd"], g, b)),
        ND,
        {"dx"},
    ),
    "batch norm: a projection is missing": (
        closed(lambda u, c, x, g, b: (c["gamma"] * c["rstd"] * (u - u.mean(0)), g, b)),
        ND,
        {"dx"},
    ),
    "batch norm: gradients exchanged": (steps(lambda u, c, x, g, b: (x, b, g)), ND, {"dgamma", "dbeta"}),
    "batch norm: dbeta a mean": (steps(lambda u, c, x, g, b: (x, g, u.mean(axis=0))), ND, {"dbeta"}),
    "batch norm: a fixed eps of 1e-5 dropped": (problem(pairs.batch_steps, eps_dropped, NORM, bn_param={}), ND, {"dx"}),
    "batch norm: a fixed eps of 1e-5 counted twice": (
        problem(pairs.batch_steps, eps_twice, NORM, bn_param={}),
        ND,
        {"dx"},
    ),
    "batch norm: N - 1 in the forward pass": (
        problem(unbiased, pairs.batch_closed_backward, NORM, scalars=EPS),
        ND,
        {"dx"},
    ),
    "relu: another threshold": (one_input(pairs.relu, lambda u, x: u * (x > -1)), ND, {"dx"}),
    "relu: no mask": (one_input(pairs.relu, lambda u, x: u), ND, {"dx"}),
    "dropout: not divided by p": (
        one_input(pairs.dropout, lambda u, c: u * (c[1] > 0), dropout_param={"p": 0.7, "seed": 3}),
        ND,
        {"dx"},
    ),
    "convolution: dw flipped": (
        problem(pairs.conv, bad_conv_backward, IMAGES, conv_param={"pad": 1, "stride": 1}),
        pairs.CONV,
        {"dw"},
    ),
    "max pool: as a mean": (problem(pairs.pool, bad_pool_backward, {"x": "N C H H"}, size=2), POOL, {"dx"}),
    "softmax: not divided by N": (problem(bad_softmax, None, {"x": "N C"}, labels=LABELS), NC, {"dx"}),
    "SVM: the right class counted once": (problem(bad_svm, None, {"x": "N C"}, labels=LABELS), NC, {"dx"}),
    "attention: the Jacobian diagonal": (
        problem(pairs.attention, bad_attention_backward, {"q": "N D", "k": "M D", "v": "M C"}),
        QKV,
        {"dq", "dk"},
    ),
    "tanh: not squared": (one_input(pairs.tanh, lambda u, y: u * (1 - y)), ND, {"dx"}),
    "SiLU: as a sigmoid": (one_input(pairs.silu, lambda u, c: u * c[1] * (1 - c[1])), ND, {"dx"}),
    "a root of a square, which is the absolute value": (
        one_input(lambda x: (np.sqrt(x * x), x), lambda u, x: u),
        ND,
        {"dx"},
    ),
    "the output in another precision": (
        one_input(lambda x: (x * np.float32(0.5), x), lambda u, x: u * np.float32(0.25)),
        ND,
        {"dx"},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_are_disproved_and_no_others(name):
    posed, sizes, wrong = WRONG[name]
    result = exact_identity(posed, sizes)
    words = {n: v.word for n, v in result.verdicts.items()}
    assert words == {n: Word.DISPROVED if n in wrong else Word.EXACT for n in posed.gradients}, result.verdicts
    for n in wrong:
        assert "but the derivative is" in result.verdicts[n].counterexample


# --- pairs that a careless engine takes for right


def twice_in_place(u, cache):
    u *= 2
    return u


def scaled_in_place(u, cache):
    x, gamma = cache
    dx = u
    dx *= gamma
    return dx, np.sum(u * x, axis=0), np.sum(u, axis=0)


def scaled_with_out(u, cache):
    x, gamma = cache
    dgamma = np.sum(u * x, axis=0)
    np.multiply(u, gamma, out=u)
    return u, dgamma, np.sum(u, axis=0)


def shifted_in_place(x):
    x += 1
    return x * x, x - 1


def through_a_view(u, x):
    flat = u.reshape(-1)
    flat[:] = 3 * flat
    return u


identity = lambda u, x: u  # noqa: E731
scale = lambda x, gamma, beta: (x * gamma + beta, (x, gamma))  # noqa: E731
TRAPS = {
    "dout doubled in place": (one_input(lambda x: (x + 0, x), twice_in_place), {"dx"}),
    "dout changed through a view": (one_input(lambda x: (x + 0, x), through_a_view), {"dx"}),
    "two names for one array": (problem(scale, scaled_in_place, NORM), {"dgamma", "dbeta"}),
    "out=": (problem(scale, scaled_with_out, NORM), {"dbeta"}),
    "x changed in place before it is squared": (one_input(shifted_in_place, lambda u, x: 2 * x * u), {"dx"}),
    "a sum over the other axis": (
        one_input(lambda x: (np.sum(x, axis=1, keepdims=True) * np.ones_like(x), x), lambda u, x: u),
        {"dx"},
    ),
    "the square of such a sum": (
        one_input(lambda x: (np.sum(x, axis=1, keepdims=True) ** 2 * np.ones_like(x), x), lambda u, x: 2 * x * u),
        {"dx"},
    ),
    "such a sum after [:, None]": (one_input(lambda x: (x.sum(1)[:, None] * x, x), lambda u, x: 2 * x * u), {"dx"}),
    "right only where all entries are positive": (one_input(lambda x: (np.abs(x), x), identity), {"dx"}),
}


@pytest.mark.parametrize("name", TRAPS)
def test_traps_are_disproved(name):
    posed, wrong = TRAPS[name]
    words = {n: v.word for n, v in exact_identity(posed, {"N": 3, "D": 2}).verdicts.items()}
    assert words == {n: Word.DISPROVED if n in wrong else Word.EXACT for n in posed.gradients}


def read_before_written(x):
    y = np.empty_like(x)
    y[0] = x[0]
    return y * 1, x


def rounded(x):
    return x * int(np.sum(x)), x


calls = []


def forgetful(x):
    calls.append(1)
    return x * len(calls), x


UNDECIDED = {
    "where=": (lambda x: (np.add(x, x, where=False), x), identity, "where= is not modelled"),
    "sum with where=": (lambda x: (x.sum(where=x > 0), x), identity, "where"),
    "float()": (lambda x: (x * float(x[0, 0]), x), identity, "rounding to a float"),
    "integers": (lambda x: (x.astype(int) * x, x), identity, "rounding to integers"),
    "a function not modelled": (lambda x: (np.fft.fft(x), x), identity, "np.fft is not modelled"),
    "a method not modelled": (lambda x: (x.round(), x), identity, "the method round of an array is not modelled"),
    "np.pi": (lambda x: (x * np.pi, x), identity, "np.pi is not modelled"),
    "nan": (lambda x: (x * float("nan"), x), identity, "nan is not a number"),
    "infinity": (lambda x: (x * np.inf, x), identity, "inf is not a number"),
    "np.empty read": (read_before_written, identity, "read before it is written"),
    "an exp in an exp": (lambda x: (np.exp(np.exp(x)), x), identity, "exp of something that is computed from an exp"),
    "a cube root": (lambda x: (x ** (1 / 3), x), identity, "the power 1/3"),
    "a remainder": (lambda x: (x % 2, x), identity, "rounding"),
    "an error of the user's": (lambda x: (x + np.zeros(7), x), identity, "ValueError"),
    "another output each time": (forgetful, identity, "another output when it is called again"),
    "no cache": (lambda x: x, identity, "expected the output and the cache"),
    "no gradient": (lambda x: (x * 1, x), lambda u, x: None, "dx is None"),
    "integers divided in place": (
        lambda x: (np.ones(3, dtype=int).__itruediv__(2).sum() * x, x),
        identity,
        "UFuncTypeError",
    ),
    "logical functions of numbers": (lambda x: (x * np.logical_not(x), x), identity, "compare them first"),
    "a root whose sign is not known": (
        lambda x: (np.abs(x), x),
        lambda u, x: u * x / np.sqrt(x * x),
        "the sign of a root is not known",
    ),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_is_not_modelled_is_not_decided(name):
    forward, backward, message = UNDECIDED[name]
    result = exact_identity(one_input(forward, backward), {"N": 3, "D": 2})
    assert result.verdicts["dx"].word is Word.NOT_DECIDED
    assert message in result.verdicts["dx"].message


def test_a_root_that_exists_nowhere_is_not_looked_for_without_end(monkeypatch):
    monkeypatch.setattr("xhat.verify.exact.identity._DRAWS", 50)
    result = exact_identity(one_input(lambda x: (np.sqrt(-1 - x * x), x), identity), {"N": 3, "D": 2})
    assert result.verdicts["dx"].word is Word.NOT_DECIDED
    assert result.verdicts["dx"].message == "no input was found in 50 draws: a root does not exist"


def test_the_line_is_told():
    verdict = exact_identity(one_input(rounded, identity), {"N": 3, "D": 2}).verdicts["dx"]
    assert verdict.line == rounded.__code__.co_firstlineno + 1


@pytest.mark.parametrize(("factor", "word"), [(1, Word.EXACT), (2, Word.DISPROVED)])
def test_a_number_is_true_where_it_is_not_0(factor, word):
    posed = one_input(lambda x: (x if np.sum(x) else 2 * x, x), lambda u, x: factor * u)
    verdict = exact_identity(posed, {"N": 3, "D": 2}).verdicts["dx"]
    assert verdict.word is word
    assert word is Word.DISPROVED or verdict.message.endswith("on the branches taken)")


def test_a_gradient_must_have_the_shape_of_its_input():
    posed = closed(lambda u, c, x, g, b: (x, g, u.sum(axis=0, keepdims=True)))
    verdict = exact_identity(posed, ND).verdicts["dbeta"]
    assert verdict.word is Word.DISPROVED
    assert verdict.message == "dbeta has the shape (1, 3); expected (3,), that of beta"


def test_a_counterexample_is_in_fractions_where_it_can_be():
    result = exact_identity(one_input(lambda x: (x * x * 0.5, x), lambda u, x: u), {"N": 1, "D": 1})
    told = result.verdicts["dx"].counterexample
    assert "." not in told.replace("..", "")
    x, dout = told.split("x = [[")[1].split("]]")[0], told.split("dout = [[")[1].split("]]")[0]
    assert told.endswith(f"dx[0, 0] is {dout}, but the derivative is {Fraction(x) * Fraction(dout)}")


@pytest.mark.parametrize("ties", [False, True])
def test_a_counterexample_lies_at_a_tie_only_if_the_gradient_is_wrong_elsewhere(ties):
    posed = one_input(lambda x: (np.maximum(x, x), x), lambda u, x: 2 * u)
    told = _Fields(posed, {"N": 1, "D": 1}, 0, 61).counterexample("x", ties=ties)
    assert (told is not None) is ties


@pytest.mark.parametrize("seed", range(12))
def test_a_root_of_the_wrong_sign_never_passes_however_few_the_points(seed):
    posed = one_input(lambda x: (np.sqrt(x * x), x), lambda u, x: u)
    result = exact_identity(posed, {"N": 1, "D": 1}, trials=1, seed=seed)
    positive = result.verdicts["dx"].word is Word.EXACT
    assert positive <= (random_sign(posed, seed) > 0)


def random_sign(posed, seed):
    """Return the sign of the entry at the point that this seed leads to."""
    point, _ = _Fields(posed, {"N": 1, "D": 1}, seed, 61).trial()
    return point.values["x"][0, 0].real()


def test_many_roots_are_found_soon():
    posed, _ = RIGHT["layer norm"]
    result = exact_identity(posed, {"N": 10, "D": 2}, trials=2)
    assert {v.word for v in result.verdicts.values()} == {Word.EXACT}
    assert result.roots == 10
    assert result.redraws < 40  # all ten exist at once in one draw of 1024


def test_rounded_constants_are_no_disproof():
    result = exact_identity(one_input(lambda x: (x * 0.3, x), lambda u, x: u * (0.1 + 0.2)), {"N": 1, "D": 1})
    assert result.verdicts["dx"].word is Word.NOT_DECIDED
    assert "less than floats can show" in result.verdicts["dx"].message
    assert result.literals[0.3].denominator == 10


def test_the_same_seed_gives_the_same_result():
    posed, sizes = RIGHT["layer norm"]
    assert exact_identity(posed, sizes, seed=5) == exact_identity(posed, sizes, seed=5)
    assert exact_identity(posed, sizes, seed=5).primes != exact_identity(posed, sizes, seed=6).primes


def test_nothing_of_the_users_is_changed():
    before = dict(vars(pairs))
    exact_identity(*RIGHT["batch norm, nine steps, eps fixed"])
    assert dict(vars(pairs)) == before
    assert pairs.np is np
