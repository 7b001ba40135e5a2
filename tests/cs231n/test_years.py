"""Older forms of the course."""

import inspect

import numpy as np
import pytest

from xhat import cs231n
from xhat.cs231n.classifiers.fc_net import FullyConnectedNet
from xhat.cs231n.layers import dropout_backward, dropout_forward


@pytest.mark.parametrize("number", [2016, 2017])
def test_p_was_the_share_dropped(number):
    x = np.random.randn(200, 100) + 10
    np.random.seed(3)
    draw = np.random.rand(*x.shape)
    cs231n.set_year(number)
    np.random.seed(3)
    out, cache = dropout_forward(x, {"mode": "train", "p": 0.25})
    assert np.allclose(out, x * (draw > 0.25) / 0.75, rtol=1e-14)
    assert abs((out == 0).mean() - 0.25) < 0.02
    assert np.array_equal(dropout_backward(x, cache), out)
    cs231n.set_year(2026)
    assert np.array_equal(dropout_backward(x, cache), out)  # the mask says all
    for p, true in ((1, 0 * x), (0, x)):
        with cs231n.year(number):
            assert np.array_equal(dropout_forward(x, {"mode": "train", "p": p})[0], true)


@pytest.mark.parametrize("number", range(2018, 2027))
def test_p_is_the_share_kept(number):
    x = np.ones((200, 100))
    with cs231n.year(number):
        out, _ = dropout_forward(x, {"mode": "train", "p": 0.25})
    assert abs((out == 0).mean() - 0.75) < 0.02
    assert out.max() == 4


def test_fully_connected_net_in_the_words_of_its_year():
    with cs231n.year(2016):
        net = FullyConnectedNet([5], 4, 3)
        assert not net.use_dropout
        assert net.normalization is None
        net = FullyConnectedNet([5], 4, 3, 0.25, True)
        assert net.dropout_param == {"mode": "train", "p": 0.25}
        assert net.normalization == "batchnorm"
        assert FullyConnectedNet([5], dropout=0.5, use_batchnorm=False, seed=1).dropout_param["p"] == 0.5
        assert not FullyConnectedNet([5], dropout=0).use_dropout
    for number, name in ((2018, "dropout"), (2020, "dropout"), (2021, "dropout_keep_ratio")):
        with cs231n.year(number):
            assert not FullyConnectedNet([5]).use_dropout
            assert not FullyConnectedNet([5], **{name: 1}).use_dropout
            net = FullyConnectedNet([5], **{name: 0.25}, normalization="layernorm")
            assert net.dropout_param["p"] == 0.25
            assert net.bn_params == [{}]


def test_words_of_another_year_are_refused():
    for number, named, expected in (
        (2016, {"normalization": None}, "dropout and use_batchnorm in 2016, got normalization"),
        (2017, {"dropout_keep_ratio": 0.5}, "dropout and use_batchnorm in 2017, got dropout_keep_ratio"),
        (2019, {"use_batchnorm": True}, "dropout and normalization in 2019, got use_batchnorm"),
        (2026, {"dropout": 0.5}, "dropout_keep_ratio and normalization in 2026, got dropout"),
    ):
        with (
            cs231n.year(number),
            pytest.raises(TypeError, match=rf"FullyConnectedNet: expected {expected}\. It belongs to another year"),
        ):
            FullyConnectedNet([5], **named)
    with pytest.raises(TypeError, match="hidden"):
        FullyConnectedNet(hidden=[5])
    assert list(inspect.signature(FullyConnectedNet).parameters)[3:5] == ["dropout_keep_ratio", "normalization"]


def test_a_net_stays_in_the_year_that_it_was_made_in():
    with cs231n.year(2017):
        net = FullyConnectedNet([400], 4, 3, dropout=0.25, weight_scale=1.0, dtype=np.float64)
        # all hidden units are on, so that the zeros are those of dropout
    net.params["b1"] += 100
    X, y = np.random.randn(50, 4), np.arange(50) % 3
    np.random.seed(3)
    _, grads = net.loss(X, y)
    np.random.seed(3)
    with cs231n.year(2017):
        _, true = net.loss(X, y)
    assert np.array_equal(grads["W2"], true["W2"])
    np.random.seed(3)
    net.dropout_param["p"] = 0.0  # nothing dropped, in the words of 2017
    assert net.loss(X, y)[0] > 0


def test_a_while_ends_also_after_an_error():
    def leave():
        with cs231n.year(2016):
            raise KeyError("x")

    with pytest.raises(KeyError):
        leave()
    assert dropout_forward(np.ones(3), {"mode": "train", "p": 1})[0].sum() == 3


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (2015, ValueError, "cs231n.set_year: expected a year >= 2016, got 2015. The forms of assignment 2"),
        (2027, ValueError, "cs231n.set_year: expected a year <= 2026, got 2027. The forms of assignment 2"),
        ("2017", TypeError, "cs231n.set_year: expected a year as an integer, got str."),
    ],
)
def test_unknown_years(number, kind, message):
    with pytest.raises(kind, match=message):
        cs231n.set_year(number)
