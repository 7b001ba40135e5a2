"""Beside the frameworks: the same numbers from torch, JAX and ONNX Runtime, forward and backward."""

import numpy as np
import pytest

import xhat

pytestmark = pytest.mark.peers

SHAPES = [(7, 5), (2, 3), (64, 33), (4, 3, 5), (2, 6, 4, 3)]
GROUPED = [((7, 6), 2), ((2, 6, 5), 3), ((3, 4, 5, 2), 2), ((2, 5, 3, 4), 1), ((2, 4, 3, 2, 5), 2), ((3, 3, 7), 3)]
EPS = 1e-3


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def draw(rng, shape, parameter_shape):
    x, dy = rng.standard_normal((2, *shape))
    return x, dy, *rng.standard_normal((2, *parameter_shape))


def close(got, peer, dtype=np.float64):
    peer = np.asarray(peer, np.float64)
    assert got.shape == peer.shape
    # the peers compute in the type itself
    assert np.abs(got - peer).max() <= 100 * np.finfo(dtype).eps * max(1, np.abs(peer).max())


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def jax():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return jax


@pytest.fixture(scope="module")
def run_onnx():
    """Run one ONNX operator on arrays."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    helper = onnx.helper

    def run(operator, opset, inputs, **attributes):
        def info(name, array):
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

        names = [f"i{i}" for i in range(len(inputs))]
        node = helper.make_node(operator, names, ["y"], **attributes)
        graph = helper.make_graph([node], operator, list(map(info, names, inputs)), [info("y", inputs[0])])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, dict(zip(names, inputs, strict=True)))[0]

    return run


class TestTorch:
    def gradients(self, torch, function, arrays, dy):
        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        y = function(*tensors)
        y.backward(torch.tensor(dy))
        return y.detach().numpy(), [t.grad.numpy() for t in tensors]

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_batch_norm(self, torch, shape, dtype, rng):
        x, dy, gamma, beta = (a.astype(dtype) for a in draw(rng, shape, shape[1:2]))
        y, cache = xhat.batch_norm.forward(x, gamma, beta, eps=EPS)

        def peer(x, gamma, beta):
            return torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=EPS)

        peer_y, peers = self.gradients(torch, peer, (x, gamma, beta), dy)
        close(y, peer_y, dtype)
        for got, true in zip(xhat.batch_norm.backward(dy, cache), peers, strict=True):
            close(got, true, dtype)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_fixed_statistics(self, torch, shape, rng):
        x, dy, gamma, beta = draw(rng, shape, shape[1:2])
        mean, var = rng.standard_normal(shape[1]), rng.random(shape[1])
        y, cache = xhat.batch_norm.apply(x, gamma, beta, mean, var, eps=EPS)

        def peer(x, gamma, beta):
            return torch.nn.functional.batch_norm(x, torch.tensor(mean), torch.tensor(var), gamma, beta, eps=EPS)

        peer_y, peers = self.gradients(torch, peer, (x, gamma, beta), dy)
        close(y, peer_y)
        for got, true in zip(xhat.batch_norm.backward(dy, cache), peers, strict=True):
            close(got, true)

    @pytest.mark.parametrize("update_rate", [0.1, None])
    def test_running_statistics(self, torch, update_rate, rng):
        layer = xhat.BatchNorm(3, update_rate=update_rate, unbiased=True)
        peer = torch.nn.BatchNorm1d(3, momentum=update_rate, dtype=torch.float64)
        for _ in range(4):
            x = rng.normal(5, 2, (8, 3))
            layer.forward(x, training=True)
            peer(torch.tensor(x))
        if update_rate is not None:  # torch's average of None is over batches, ours over values
            close(layer.statistics.var, peer.running_var.numpy())
        close(layer.statistics.mean, peer.running_mean.numpy())

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_layer_norm(self, torch, shape, dtype, rng):
        x, dy, gamma, beta = (a.astype(dtype) for a in draw(rng, shape, shape[-1:]))
        y, cache = xhat.layer_norm.forward(x, gamma, beta, eps=EPS)

        def peer(x, gamma, beta):
            return torch.nn.functional.layer_norm(x, shape[-1:], gamma, beta, eps=EPS)

        peer_y, peers = self.gradients(torch, peer, (x, gamma, beta), dy)
        close(y, peer_y, dtype)
        for got, true in zip(xhat.layer_norm.backward(dy, cache), peers, strict=True):
            close(got, true, dtype)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize(("shape", "groups"), GROUPED)
    @pytest.mark.parametrize("axis", [1, -1, 0])
    def test_group_norm(self, torch, shape, groups, axis, dtype, rng):
        x, dy, gamma, beta = (a.astype(dtype) for a in draw(rng, shape, shape[1:2]))
        moved_x, moved_dy = (np.moveaxis(a, 1, axis) for a in (x, dy))
        y, cache = xhat.group_norm.forward(moved_x, gamma, beta, groups=groups, eps=EPS, channel_axis=axis)
        dx, dgamma, dbeta = xhat.group_norm.backward(moved_dy, cache)

        def peer(x, gamma, beta):
            return torch.nn.functional.group_norm(x, groups, gamma, beta, eps=EPS)

        peer_y, peers = self.gradients(torch, peer, (x, gamma, beta), dy)
        close(np.moveaxis(y, axis, 1), peer_y, dtype)
        for got, true in zip((np.moveaxis(dx, axis, 1), dgamma, dbeta), peers, strict=True):
            close(got, true, dtype)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("shape", [shape for shape, _ in GROUPED if len(shape) > 2])
    @pytest.mark.parametrize("axis", [1, -1, 0])
    def test_instance_norm(self, torch, shape, axis, dtype, rng):
        x, dy, gamma, beta = (a.astype(dtype) for a in draw(rng, shape, shape[1:2]))
        moved_x, moved_dy = (np.moveaxis(a, 1, axis) for a in (x, dy))
        y, cache = xhat.instance_norm.forward(moved_x, gamma, beta, eps=EPS, channel_axis=axis)
        dx, dgamma, dbeta = xhat.instance_norm.backward(moved_dy, cache)

        def peer(x, gamma, beta):
            return torch.nn.functional.instance_norm(x, weight=gamma, bias=beta, eps=EPS)

        peer_y, peers = self.gradients(torch, peer, (x, gamma, beta), dy)
        close(np.moveaxis(y, axis, 1), peer_y, dtype)
        for got, true in zip((np.moveaxis(dx, axis, 1), dgamma, dbeta), peers, strict=True):
            close(got, true, dtype)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("axes", [1, 2])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_rms_norm(self, torch, shape, axes, dtype, rng):
        features = shape[-axes:]
        x, dy, gamma, _ = (a.astype(dtype) for a in draw(rng, shape, features))
        y, cache = xhat.rms_norm.forward(x, gamma, eps=EPS, axis=tuple(range(-axes, 0)))

        def peer(x, gamma):
            return torch.nn.functional.rms_norm(x, features, gamma, eps=EPS)

        peer_y, peers = self.gradients(torch, peer, (x, gamma), dy)
        close(y, peer_y, dtype)
        for got, true in zip(xhat.rms_norm.backward(dy, cache), peers, strict=True):
            close(got, true, dtype)

    def test_affine(self, torch, rng):
        x, w, b, dy = rng.standard_normal((6, 4)), *(rng.standard_normal(s) for s in ((4, 3), (3,), (6, 3)))
        y, cache = xhat.affine.forward(x, w, b)
        peer_y, peers = self.gradients(torch, lambda x, w, b: x @ w + b, (x, w, b), dy)
        close(y, peer_y)
        for got, true in zip(xhat.affine.backward(dy, cache), peers, strict=True):
            close(got, true)

    def test_losses(self, torch, rng):
        scores, labels = 5 * rng.standard_normal((9, 4)), rng.integers(0, 4, 9)
        loss, dscores = xhat.softmax_cross_entropy(scores, labels)
        leaf = torch.tensor(scores, requires_grad=True)
        peer = torch.nn.functional.cross_entropy(leaf, torch.tensor(labels))
        peer.backward()
        close(np.asarray(loss), peer.detach().numpy())
        close(dscores, leaf.grad.numpy())

    def test_a_whole_network_trains_alike(self, torch, rng):
        """Ten steps of Adam on the same batches from the same weights."""
        net = xhat.mlp(5, [8], 3, normalization="batch", rng=0, dtype=np.float64)
        linear, norm, out = torch.nn.Linear(5, 8, bias=False), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3)
        peer = torch.nn.Sequential(linear, norm, torch.nn.ReLU(), out).double()
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(net.parameters["0.w"].T))
            out.weight.copy_(torch.tensor(net.parameters["3.w"].T))
            out.bias.zero_()
        optimizer, adam = xhat.training.Adam(), torch.optim.Adam(peer.parameters(), lr=0.01)
        for _ in range(10):
            x, labels = rng.standard_normal((16, 5)), rng.integers(0, 3, 16)
            loss, gradients = net.loss_and_gradients(x, labels)
            optimizer.update(net.parameters, gradients, 0.01)
            adam.zero_grad()
            peer_loss = torch.nn.functional.cross_entropy(peer(torch.tensor(x)), torch.tensor(labels))
            peer_loss.backward()
            adam.step()
            assert loss == pytest.approx(peer_loss.item(), rel=1e-9)
        close(net.parameters["0.w"], linear.weight.detach().numpy().T)


class TestJax:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("norm", ["batch_norm", "layer_norm"])
    def test_norms_by_automatic_differentiation(self, jax, norm, shape, rng):
        np_ = jax.numpy
        batch = norm == "batch_norm"
        axes = tuple(i for i in range(len(shape)) if i != 1) if batch else (-1,)
        lay = (1, -1, *[1] * (len(shape) - 2)) if batch else (-1,)
        x, dy, gamma, beta = draw(rng, shape, (shape[1] if batch else shape[-1],))

        def formula(x, gamma, beta):
            centred = x - x.mean(axes, keepdims=True)
            x_hat = centred / np_.sqrt((centred**2).mean(axes, keepdims=True) + EPS)
            return x_hat * gamma.reshape(lay) + beta.reshape(lay)

        pair = getattr(xhat, norm)
        y, cache = pair.forward(x, gamma, beta, eps=EPS)
        peer_y, pull_back = jax.vjp(formula, x, gamma, beta)
        close(y, peer_y)
        for got, true in zip(pair.backward(dy, cache), pull_back(dy), strict=True):
            close(got, true)


class TestOnnxRuntime:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_layer_normalization(self, run_onnx, shape, rng):
        x, _, gamma, beta = (a.astype(np.float32) for a in draw(rng, shape, shape[-1:]))
        y, _ = xhat.layer_norm.forward(x, gamma, beta, eps=EPS)
        close(y, run_onnx("LayerNormalization", 17, [x, gamma, beta], epsilon=EPS), np.float32)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_batch_normalization(self, run_onnx, shape, rng):
        x, _, gamma, beta = (a.astype(np.float32) for a in draw(rng, shape, shape[1:2]))
        mean, var = rng.standard_normal(shape[1]).astype(np.float32), rng.random(shape[1]).astype(np.float32)
        y, _ = xhat.batch_norm.apply(x, gamma, beta, mean, var, eps=EPS)
        close(y, run_onnx("BatchNormalization", 15, [x, gamma, beta, mean, var], epsilon=EPS), np.float32)
