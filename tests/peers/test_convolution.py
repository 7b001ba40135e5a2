"""Convolution and pooling beside torch: the same numbers, forward and backward."""

import numpy as np
import pytest

import xhat

pytestmark = pytest.mark.peers

CONVOLUTIONS = [
    # x, w, stride, padding
    ((2, 3, 7, 8), (4, 3, 3, 3), 1, 1),
    ((2, 3, 7, 8), (4, 3, 3, 2), (2, 1), (1, 0)),
    ((1, 1, 1, 1), (1, 1, 1, 1), 1, 0),
    ((3, 2, 5, 6), (3, 2, 5, 6), 1, 0),
    ((2, 2, 4, 9), (1, 2, 2, 3), (3, 4), (2, 3)),
    ((5, 16, 8, 8), (32, 16, 1, 1), 1, 0),
    ((100, 3, 31, 31), (25, 3, 3, 3), 2, 1),
    ((0, 3, 5, 5), (2, 3, 3, 3), 1, 1),
]
POOLS = [
    # x, size, stride, padding
    ((2, 3, 8, 6), 2, None, 0),
    ((2, 3, 7, 9), 3, 2, 0),
    ((1, 2, 5, 6), (2, 3), 1, 0),
    ((2, 1, 9, 9), 2, (3, 4), 0),
    ((2, 3, 112, 112), 3, 2, 1),
    ((1, 2, 5, 23), (4, 5), 1, (2, 1)),
    ((2, 1, 1, 3), 3, (3, 2), 1),
]
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def compare(torch, function, arrays, got_y, got_gradients, dy):
    """Against torch in float64 on the same numbers, in units of the type's eps and the largest entry."""
    # torch adds the 25,600 terms of a dw one after the other, which in float64 costs more digits than it costs us
    allowed = np.finfo(got_y.dtype).eps * (8 if got_y.dtype == np.float32 else 100)
    leaves = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    y = function(*leaves)
    y.backward(torch.tensor(dy.astype(np.float64)))
    peers = [y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]
    for got, peer in zip((got_y, *got_gradients), peers, strict=True):
        assert got.dtype == arrays[0].dtype
        assert got.shape == peer.shape
        if got.size:
            assert np.abs(got - peer).max() <= allowed * max(1, np.abs(peer).max())


@each_dtype
@pytest.mark.parametrize(("x_shape", "w_shape", "stride", "padding"), CONVOLUTIONS, ids=str)
def test_convolution(torch, x_shape, w_shape, stride, padding, dtype, rng):
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (x_shape, w_shape, w_shape[:1]))
    y, cache = xhat.conv.forward(x, w, b, stride, padding)
    dy = rng.standard_normal(y.shape).astype(dtype)

    def peer(x, w, b):
        return torch.nn.functional.conv2d(x, w, b, stride, padding)

    compare(torch, peer, (x, w, b), y, xhat.conv.backward(dy, cache), dy)


@each_dtype
@pytest.mark.parametrize(("shape", "size", "stride", "padding"), POOLS, ids=str)
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool(torch, shape, size, stride, padding, ties, dtype, rng):
    x = (rng.integers(-2, 3, shape) if ties else rng.standard_normal(shape)).astype(dtype)
    y, cache = xhat.max_pool.forward(x, size, stride, padding)
    dy = rng.standard_normal(y.shape).astype(dtype)

    def peer(x):
        return torch.nn.functional.max_pool2d(x, size, stride, padding)

    compare(torch, peer, (x,), y, xhat.max_pool.backward(dy, cache), dy)


def test_a_whole_network_has_the_same_gradients(torch, rng):
    net = xhat.cnn((2, 8, 8), [4, 5], [6], 3, normalization="batch", rng=0, dtype=np.float64)
    p = {name: torch.tensor(values, requires_grad=True) for name, values in net.parameters.items()}
    x, labels = rng.standard_normal((7, 2, 8, 8)), rng.integers(0, 3, 7)
    loss, gradients = net.loss_and_gradients(x, labels)
    f = torch.nn.functional
    y = torch.tensor(x)
    for i in (0, 4):
        y = f.conv2d(y, p[f"{i}.w"], padding=1)
        y = f.batch_norm(y, None, None, p[f"{i + 1}.gamma"], p[f"{i + 1}.beta"], training=True)
        y = f.max_pool2d(f.relu(y), 2)
    y = y.flatten(1) @ p["9.w"]
    y = f.relu(f.batch_norm(y, None, None, p["10.gamma"], p["10.beta"], training=True))
    peer = f.cross_entropy(y @ p["12.w"] + p["12.b"], torch.tensor(labels))
    peer.backward()
    assert loss == pytest.approx(peer.item(), rel=1e-12)
    for name, gradient in gradients.items():
        true = p[name].grad.numpy()
        assert np.abs(gradient - true).max() <= 1e-12 * np.abs(true).max(), name
