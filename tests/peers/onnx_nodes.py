"""ONNX's own backend cases for single operators, computed with xhat.

An adapter takes inputs, attributes and the number of outputs as the operator does. It may move axes and fold constants
into parameters; the mathematics is xhat's. What cannot be said in xhat's terms is a `NotExpressibleError`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tests.peers.suite import NotExpressibleError, Outcome, difference, log_probabilities, replayed, require

import xhat

EPS = 1e-5  # what ONNX takes where a node gives no epsilon


def batch_normalization(inputs: Any, attributes: Any, outputs: int) -> Any:
    x, gamma, beta, mean, var = inputs
    eps = attributes.get("epsilon", EPS)
    if not attributes.get("training_mode"):
        return [xhat.batch_norm.apply(x, gamma, beta, mean, var, eps)[0]]
    y, cache = xhat.batch_norm.forward(x, gamma, beta, eps)
    statistics = xhat.RunningStatistics(len(mean), update_rate=1 - attributes.get("momentum", 0.9))
    statistics.mean[...], statistics.var[...] = mean, var
    statistics.update(cache)
    return [y, statistics.mean.astype(x.dtype), statistics.var.astype(x.dtype)]


def last_axes(x: Any, attributes: Any) -> tuple[int, ...]:
    return tuple(range(attributes.get("axis", -1) % x.ndim, x.ndim))


def layer_normalization(inputs: Any, attributes: Any, outputs: int) -> Any:
    x, gamma, beta = [*inputs, None][:3]
    y, cache = xhat.layer_norm.forward(x, gamma, beta, attributes.get("epsilon", EPS), last_axes(x, attributes))
    return [y, cache.mean.astype(x.dtype), cache.rstd.astype(x.dtype)]


def rms_normalization(inputs: Any, attributes: Any, outputs: int) -> Any:
    x, gamma = inputs
    return [xhat.rms_norm.forward(x, gamma, attributes.get("epsilon", EPS), last_axes(x, attributes))[0]]


def group_normalization(inputs: Any, attributes: Any, outputs: int) -> Any:
    groups, eps = attributes["num_groups"], attributes.get("epsilon", EPS)
    return [xhat.group_norm.forward(*inputs, groups=groups, eps=eps)[0]]


def instance_normalization(inputs: Any, attributes: Any, outputs: int) -> Any:
    return [xhat.instance_norm.forward(*inputs, eps=attributes.get("epsilon", EPS))[0]]


def mean_variance_normalization(inputs: Any, attributes: Any, outputs: int) -> Any:
    require(attributes.get("axes", [0, 2, 3]) == [0, 2, 3], "other axes than those of a channel")
    return [xhat.batch_norm.forward(inputs[0], eps=0.0)[0]]


def padding(x: Any, attributes: Any, strides: Any) -> list[int]:
    """The padding of each axis, where it is the same on both sides."""
    sizes, mode = attributes["kernel_shape"], attributes.get("auto_pad", b"NOTSET")
    pads = attributes.get("pads", [0] * 2 * len(sizes))
    if mode.startswith(b"SAME"):  # as much as keeps ceil(size / stride) outputs
        needed = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(x.shape[2:], sizes, strides, strict=True)]
        require(all(n % 2 == 0 for n in needed), "padding that differs from side to side")
        return [n // 2 for n in needed]
    require(pads[: len(sizes)] == pads[len(sizes) :], "padding that differs from side to side")
    return pads[: len(sizes)]


def conv(inputs: Any, attributes: Any, outputs: int) -> Any:
    x, w, b = [*inputs, None][:3]
    require(x.ndim == 4, "windows in one or three dimensions")
    require(set(attributes.get("dilations", [1])) == {1}, "dilation")
    require(attributes.get("group", 1) == 1, "groups in a convolution")
    strides = attributes.get("strides", [1, 1])
    return [xhat.conv.forward(x, w, b, stride=tuple(strides), padding=tuple(padding(x, attributes, strides)))[0]]


def max_pool(inputs: Any, attributes: Any, outputs: int) -> Any:
    (x,) = inputs
    require(x.dtype.kind == "f", "integers")
    require(outputs == 1, "the places of the largest")
    require(set(attributes.get("dilations", [1])) == {1}, "dilation")
    require(not attributes.get("ceil_mode"), "windows that reach over the edge (ceil_mode)")
    require(x.ndim == 4, "windows in one or three dimensions")
    strides = attributes.get("strides", [1, 1])
    size, pads = tuple(attributes["kernel_shape"]), tuple(padding(x, attributes, strides))
    require(all(2 * p <= n for n, p in zip(size, pads, strict=True)), "padding of more than half a window")
    return [xhat.max_pool.forward(x, size, tuple(strides), pads)[0]]


def dropout(inputs: Any, attributes: Any, outputs: int) -> Any:
    x, ratio, training = [*inputs, *[None] * 2][:3]
    rate = (0.5 if ratio is None else float(ratio)) if training else 0.0
    if "seed" in attributes:
        keep = np.random.RandomState(attributes["seed"]).uniform(0, 1, x.shape) >= rate  # as ONNX draws it
    else:
        keep = np.ones(x.shape, bool)
    with replayed(keep):
        return [xhat.dropout.forward(x, rate, 0)[0], keep]


def softmax(inputs: Any, attributes: Any, outputs: int) -> Any:
    axis = attributes.get("axis", -1)
    return [np.moveaxis(xhat.softmax(np.moveaxis(inputs[0], axis, -1)), -1, axis)]


def log_softmax(inputs: Any, attributes: Any, outputs: int) -> Any:
    axis = attributes.get("axis", -1)
    values = log_probabilities(np.moveaxis(inputs[0], axis, -1), xhat.softmax_cross_entropy)
    return [np.moveaxis(values, -1, axis)]


def softmax_cross_entropy_loss(inputs: Any, attributes: Any, outputs: int) -> Any:
    scores, labels = inputs[:2]
    require(len(inputs) == 2, "weights of classes")
    require("ignore_index" not in attributes, "labels that are ignored (ignore_index)")
    scores = np.moveaxis(scores, 1, -1)
    if attributes.get("reduction", b"mean") == b"mean":
        loss = np.asarray(xhat.softmax_cross_entropy(scores, labels)[0])
    else:  # each sample by itself
        rows = zip(scores.reshape(-1, scores.shape[-1]), labels.reshape(-1), strict=True)
        each = [xhat.softmax_cross_entropy(row[None], label[None])[0] for row, label in rows]
        loss = np.reshape(each, labels.shape) if attributes["reduction"] == b"none" else np.sum(each)
    result = [loss.astype(scores.dtype)]
    if outputs == 2:
        result.append(np.moveaxis(log_probabilities(scores, xhat.softmax_cross_entropy), -1, 1))
    return result


def negative_log_likelihood_loss(inputs: Any, attributes: Any, outputs: int) -> Any:
    raise NotExpressibleError("a loss on numbers that are no logarithms of probabilities")


def relu(inputs: Any, attributes: Any, outputs: int) -> Any:
    return [xhat.relu.forward(inputs[0])[0]]


def gemm(inputs: Any, attributes: Any, outputs: int) -> Any:
    a, b, c = [*inputs, None][:3]
    a, b = (m.T if attributes.get(name) else m for m, name in ((a, "transA"), (b, "transB")))
    w = np.float32(attributes.get("alpha", 1)) * b
    if c is not None:
        require(c.ndim < 2 or len(c) == 1, "a bias for each sample")
        c = np.float32(attributes.get("beta", 1)) * np.broadcast_to(c.reshape(-1), w.shape[1:])
    return [xhat.affine.forward(a, w, c)[0]]


OPERATORS: dict[str, Callable[[Any, Any, int], Any]] = {
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "RMSNormalization": rms_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "Conv": conv,
    "MaxPool": max_pool,
    "Dropout": dropout,
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    "SoftmaxCrossEntropyLoss": softmax_cross_entropy_loss,
    "NegativeLogLikelihoodLoss": negative_log_likelihood_loss,
    "Relu": relu,
    "Gemm": gemm,
}


def outcomes() -> Iterator[Outcome]:
    """Run every case that is a single node of one of the operators."""
    from onnx import helper
    from onnx.backend.test.loader import load_node_model_tests

    for case in load_node_model_tests():
        nodes = case.model.graph.node
        if len(nodes) != 1 or "_expanded" in case.name or nodes[0].op_type not in OPERATORS:
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in nodes[0].attribute}
        assert all(nodes[0].input), f"{case.name}: an input is left out"
        adapter, lacking, wrong = OPERATORS[nodes[0].op_type], "", []
        for inputs, expected in case.data_sets:
            kept = [values.copy() for values in inputs]
            try:
                got = adapter(inputs, attributes, len(nodes[0].output))
            except NotExpressibleError as reason:
                lacking = str(reason)
                continue
            for name, mine, theirs in zip(nodes[0].output, got[: len(expected)], expected, strict=True):
                wrong.append(difference(name, mine, theirs, theirs.dtype))
                if not np.allclose(mine, theirs, case.rtol, case.atol):
                    wrong.append(f"{name} is not within ONNX's own tolerance")
            if not all(map(np.array_equal, inputs, kept)):
                wrong.append("an input was changed")
        yield Outcome(nodes[0].op_type, case.name, lacking, "; ".join(filter(None, wrong)))
