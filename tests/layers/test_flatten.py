import numpy as np
import pytest

import xhat
from xhat import flatten


@pytest.mark.parametrize(
    ("shape", "flat"),
    [
        ((4, 2, 3, 5), (4, 30)),
        ((4,), (4, 1)),
        ((4, 1), (4, 1)),
        ((0, 2, 3), (0, 6)),
        ((4, 0, 3), (4, 0)),
        ((0,), (0, 1)),
    ],
)
def test_shapes_there_and_back(shape, flat):
    y, cache = flatten.forward(np.zeros(shape))
    assert y.shape == flat
    assert flatten.backward(y, cache).dx.shape == shape


def test_an_affine_layer_can_follow():
    net = xhat.Sequential([xhat.Flatten(), xhat.Affine(12, 3, rng=0)])
    x = np.random.default_rng(0).standard_normal((5, 3, 2, 2))
    assert net.predict(x).shape == (5, 3)
    check = xhat.verify.check_network(net, x, [0, 1, 2, 0, 1])
    assert check.ok, str(check)


def test_messages():
    with pytest.raises(
        ValueError, match=r"^flatten\.forward: expected x of shape \(N, \.\.\.\), got a single number\."
    ):
        flatten.forward(np.float32(1))
    y, cache = flatten.forward(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=r"^flatten\.backward: expected dy of shape \(2, 12\), got \(2, 3, 4\)\."):
        flatten.backward(y.reshape(2, 3, 4), cache)
    with pytest.raises(ValueError, match=r"^flatten\.backward: expected cache\.shape of samples, got \(\)\."):
        flatten.backward(y, cache._replace(shape=()))
    with pytest.raises(ValueError, match=r"^flatten\.backward: expected cache\.shape >= 0, got -2\."):
        flatten.backward(y, cache._replace(shape=(2, -2, -6)))
