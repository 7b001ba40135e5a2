import numpy as np
import pytest

from xhat.verify.specs import find
from xhat.verify.spelling import Speller


def bn_forward(x, gamma, beta, eps):
    std = np.sqrt(x.var(axis=0) + eps)
    x_hat = (x - x.mean(axis=0)) / std
    return gamma * x_hat + beta, (x_hat, std, gamma)


def bn_backward(dout, cache):
    x_hat, std, gamma = cache
    g = dout * gamma
    dx = (g - x_hat * (g * x_hat).mean(axis=0)) / std
    return dx, (dout * x_hat).sum(axis=0) * 2, dout.sum(axis=0)


def columns_forward(x, gamma, beta, eps):
    std = np.sqrt(x.var(axis=1, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=1, keepdims=True)) / std
    return gamma[:, None] * x_hat + beta[:, None], (x_hat, std, gamma)


def columns_backward(dout, cache):
    x_hat, std, gamma = cache
    return dout * gamma[:, None] / std, (dout * x_hat).sum(axis=1), dout.sum(axis=1)


def images_forward(x, gamma, beta, eps):
    wide = (1, len(gamma), 1, 1)
    mean, var = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
    std = np.sqrt(var + eps)
    x_hat = (x - mean) / std
    return gamma.reshape(wide) * x_hat + beta.reshape(wide), (x_hat, std, gamma)


def images_backward(dout, cache):
    x_hat, std, _ = cache
    return dout / std, (dout * x_hat).sum(axis=(0, 2, 3)), dout.sum(axis=(0, 2, 3))


def rows_forward(x, gamma, beta, eps):
    std = np.sqrt(x.var(axis=1) + eps)
    x_hat = (x - x.mean(axis=1)[:, None]) / std[:, None]
    return gamma * x_hat + beta, (x_hat, std, gamma)


def rows_backward(dout, cache):
    x_hat, std, gamma = cache
    return dout * gamma / std[:, None], (dout * x_hat).sum(axis=0), dout.sum(axis=0)


LAYOUTS = {
    "N D": (bn_forward, bn_backward, {"x": "N D", "gamma": "D", "beta": "D", "eps": "eps"}, (7, 3), 3),
    "D N": (columns_forward, columns_backward, {"x": "D N", "gamma": "D", "beta": "D", "eps": "eps"}, (3, 7), 3),
    "N C H W": (images_forward, images_backward, {"x": "N C H W", "gamma": "C", "beta": "C", "eps": "eps"}, (2, 3, 4, 5), 3),
    "rows": (rows_forward, rows_backward, {"x": "N D", "gamma": "D", "beta": "D", "eps": "eps"}, (7, 3), 3),
}  # fmt: skip


def speller(layout):
    forward, backward, declared, *_ = LAYOUTS[layout]
    return Speller(find("norm", forward, backward, declaration=declared).problem)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_whole_gradient_is_the_gradient(layout):
    forward, _, _, shape, count = LAYOUTS[layout]
    written = speller(layout)
    rng = np.random.default_rng(0)
    x, gamma, beta = rng.standard_normal(shape), rng.standard_normal(count), rng.standard_normal(count)
    y, (x_hat, std, gamma) = forward(x, gamma, beta, 0.4)
    dout = rng.standard_normal(y.shape)
    held = {
        "np": np,
        "dout": dout,
        "x_hat": x_hat,
        "std": std,
        "gamma": gamma,
        "g": dout * gamma if y.ndim == 2 and layout != "D N" else 0,
    }
    for name, place in (("dx", 0), ("dgamma", 1), ("dbeta", 2)):
        text = written.whole(name)
        assert text is not None
        gradient = eval(text, held)
        given = [x, gamma, beta]
        direction = rng.standard_normal(given[place].shape)
        assert gradient.shape == direction.shape
        moved = [[*given[:place], given[place] + step * direction, *given[place + 1 :]] for step in (1e-5, -1e-5)]
        ends = [forward(*values, 0.4)[0] for values in moved]
        assert np.sum(gradient * direction) == pytest.approx(np.sum(dout * (ends[0] - ends[1])) / 2e-5, rel=1e-6)


def test_a_missing_term_is_written_in_the_names_of_the_code():
    written = speller("N D")
    assert written.missing("dx") == ["- np.mean(g, axis=0) / std"]
    assert written.missing("dx", "1 / std") == ["- np.mean(g, axis=0)"]
    assert written.missing("dx", "gamma") == ["- np.mean(dout, axis=0) / std"]


def test_a_term_that_is_wrong_is_not_called_missing():
    assert speller("N D").missing("dgamma") == []  # twice what it should be
    assert speller("N D").missing("dbeta") == []  # nothing is missing
    assert speller("N D").missing("dnothing") == []


def test_a_factor_that_is_not_plain_arithmetic_is_not_evaluated():
    assert speller("N D").missing("dx", "np.sqrt(std)") == []
    assert speller("N D").missing("dx", "nobody") == []


def test_terms_of_other_layouts():
    assert sorted(speller("D N").missing("dx")) == [
        "- gamma[:, None] * np.mean(dout, axis=1, keepdims=True) / std",
        "- x_hat * gamma[:, None] * np.mean(x_hat * dout, axis=1, keepdims=True) / std",
    ]
    assert "- np.mean(dout * gamma, axis=1, keepdims=True) / std[:, None]" in speller("rows").missing("dx")
