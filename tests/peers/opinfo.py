"""torch's own samples for its operators (OpInfo), computed with xhat, forward and backward.

An adapter is called as torch's operator is, with NumPy arrays, and says what it would return. It may move axes; the
mathematics is xhat's. torch computes the same numbers in float64. What cannot be said in xhat's terms is a
`NotExpressibleError`.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from tests.contract.contract import MESSAGE
from tests.peers.suite import NotExpressibleError, Outcome, difference, replayed, require

import xhat


class Answer(NamedTuple):
    """What an operator gives: its outputs, the gradients by the names of torch's arguments, and what it changes.

    `gradients(dy)` is None where there is only a forward pass. `slope` is the largest factor that dy meets.
    """

    outputs: tuple[Any, ...]
    gradients: Callable[[Any], dict[str, Any]] | None = None
    changed: Mapping[str, Any] = MappingProxyType({})
    slope: float = 1.0


def norm_answer(pair: Any, outputs: tuple[Any, ...], cache: Any, changed: Any = MappingProxyType({})) -> Answer:
    def gradients(dy):
        grads = pair.backward(dy, cache)
        return {"input": grads.dx, "weight": grads.dgamma, "bias": getattr(grads, "dbeta", None)}

    return Answer(outputs, gradients, changed, slope=float(cache.rstd.max(initial=0)))


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    require(input.ndim > 1, "an x without a channel axis")
    require(eps >= 0, "an eps below 0")
    if not training:
        y, cache = xhat.batch_norm.apply(input, weight, bias, running_mean, running_var, eps)
        return norm_answer(xhat.batch_norm, (y,), cache)
    require(running_mean is None or 0 <= momentum <= 1, "an update rate outside [0, 1]")
    y, cache = xhat.batch_norm.forward(input, weight, bias, eps)
    changed = {}
    if running_mean is not None:
        statistics = xhat.RunningStatistics(len(running_mean), update_rate=momentum, unbiased=True)
        statistics.mean[...], statistics.var[...] = running_mean, running_var
        statistics.update(cache)
        changed = {"running_mean": statistics.mean, "running_var": statistics.var}
    return norm_answer(xhat.batch_norm, (y, cache.mean, cache.rstd), cache, changed)


def native_batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps):
    return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def native_batch_norm_legit(input, *rest):
    if len(rest) == 5:
        return native_batch_norm(input, *rest[:2], None, None, *rest[2:])
    return native_batch_norm(input, *rest)


def batch_norm_with_update(input, weight, bias, running_mean, running_var, momentum, eps):
    return native_batch_norm(input, weight, bias, running_mean, running_var, True, momentum, eps)


def native_layer_norm(input, normalized_shape, weight, bias, eps):
    require(eps >= 0, "an eps below 0")
    layer = xhat.LayerNorm(normalized_shape, eps=eps)
    layer.forward(input)  # refuses an x that the sizes do not fit
    y, cache = xhat.layer_norm.forward(input, weight, bias, eps, tuple(range(-len(normalized_shape), 0)))
    return norm_answer(xhat.layer_norm, (y, cache.mean, cache.rstd), cache)


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    answer = native_layer_norm(input, normalized_shape, weight, bias, eps)
    return answer._replace(outputs=answer.outputs[:1])


def rms_norm(input, normalized_shape, weight=None, eps=None):
    eps = np.finfo(np.float64).eps if eps is None else eps  # torch's, which is that of the type it computes in
    require(eps >= 0, "an eps below 0")
    layer = xhat.RMSNorm(normalized_shape, eps=eps)
    layer.forward(input)
    y, cache = xhat.rms_norm.forward(input, weight, eps, tuple(range(-len(normalized_shape), 0)))
    return norm_answer(xhat.rms_norm, (y,), cache)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    require(eps >= 0, "an eps below 0")
    y, cache = xhat.group_norm.forward(input, weight, bias, groups=num_groups, eps=eps)
    return norm_answer(xhat.group_norm, (y,), cache)


def instance_norm(
    input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    require(use_input_stats, "fixed statistics of an instance norm")
    y, cache = xhat.instance_norm.forward(input, weight, bias, eps=eps)
    return norm_answer(xhat.instance_norm, (y,), cache)


def linear(input, weight, bias=None):
    y, cache = xhat.affine.forward(input, weight.T, bias)

    def gradients(dy):
        grads = xhat.affine.backward(dy, cache)
        return {"input": grads.dx, "weight": grads.dw.T, "bias": grads.db}

    return Answer((y,), gradients)


def relu(input):
    y, cache = xhat.relu.forward(input)
    return Answer((y,), lambda dy: {"input": xhat.relu.backward(dy, cache).dx})


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    require(groups == 1, "groups in a convolution")
    require(np.all(np.equal(dilation, 1)), "dilation")
    require(padding != "same", "padding that differs from side to side")
    batched = input.ndim != 3
    stride = stride[0] if isinstance(stride, tuple) and len(stride) == 1 else stride
    padding = padding[0] if isinstance(padding, tuple) and len(padding) == 1 else padding
    y, cache = xhat.conv.forward(
        input if batched else input[None], weight, bias, stride, 0 if padding == "valid" else padding
    )

    def gradients(dy):
        grads = xhat.conv.backward(dy if batched else dy[None], cache)
        return {"input": grads.dx if batched else grads.dx[0], "weight": grads.dw, "bias": grads.db}

    return Answer((y if batched else y[0],), gradients)


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    require(not return_indices, "the places of the largest")
    require(not ceil_mode, "windows that reach over the edge (ceil_mode)")
    require(np.all(np.equal(dilation, 1)), "dilation")
    batched = input.ndim != 3
    y, cache = xhat.max_pool.forward(input if batched else input[None], kernel_size, stride, padding)

    def gradients(dy):
        dx = xhat.max_pool.backward(dy if batched else dy[None], cache).dx
        return {"input": dx if batched else dx[0]}

    return Answer((y if batched else y[0],), gradients)


def cross_entropy(
    input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0
):
    require(target.dtype.kind == "i", "probabilities as labels")
    require(weight is None, "weights of classes")
    require(ignore_index == -100, "labels that are ignored (ignore_index)")
    require(label_smoothing == 0, "label smoothing")
    scores = np.moveaxis(input, 1, -1)
    if reduction == "mean":
        loss, dscores = xhat.softmax_cross_entropy(scores, target)
        return Answer((np.asarray(loss, input.dtype),), lambda dy: {"input": np.moveaxis(dscores, -1, 1) * dy})
    rows = zip(scores.reshape(-1, scores.shape[-1]), target.reshape(-1), strict=True)
    losses, parts = zip(*(xhat.softmax_cross_entropy(row[None], label[None]) for row, label in rows), strict=True)
    each = np.array(losses, input.dtype).reshape(target.shape)

    def gradients(dy):
        return {"input": np.moveaxis(np.reshape(parts, scores.shape) * np.asarray(dy)[..., None], -1, 1)}

    return Answer((each if reduction == "none" else each.sum(),), gradients)


def dropout(input, p=0.5, training=True, inplace=False):
    import torch

    rate = p if training else 0.0
    torch.manual_seed(42)  # as OpInfo does before it calls
    keep = torch.nn.functional.dropout(torch.ones(input.shape, dtype=torch.float64), rate).numpy() != 0

    def backward(dy):
        with replayed(keep):
            return {"input": xhat.dropout.backward(dy, cache).dx}

    with replayed(keep):
        y, cache = xhat.dropout.forward(input, rate, 0)
    return Answer((y,), backward)


def softmax(input, dim, dtype=None):
    require(input.ndim > 0, "an x without a class axis")
    values = input if dtype is None else input.astype(np.float64)
    return Answer((np.moveaxis(xhat.softmax(np.moveaxis(values, dim, -1)), -1, dim),))


OPERATORS: dict[str, Callable[..., Answer]] = {
    "nn.functional.batch_norm": batch_norm,
    "native_batch_norm": native_batch_norm,
    "_native_batch_norm_legit": native_batch_norm_legit,
    "_batch_norm_with_update": batch_norm_with_update,
    "nn.functional.layer_norm": layer_norm,
    "native_layer_norm": native_layer_norm,
    "nn.functional.rms_norm": rms_norm,
    "nn.functional.group_norm": group_norm,
    "nn.functional.instance_norm": instance_norm,
    "nn.functional.linear": linear,
    "nn.functional.relu": relu,
    "nn.functional.conv2d": conv2d,
    "nn.functional.max_pool2d": max_pool2d,
    "nn.functional.cross_entropy": cross_entropy,
    "nn.functional.dropout": dropout,
    "softmax": softmax,
}


@contextmanager
def _quiet():
    """torch warns of its own deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plain(value: Any) -> Any:
    """A tensor as an array of its own; anything else as it is."""
    return value.detach().numpy().copy() if hasattr(value, "detach") else value


def wide(value: Any, leaves: bool) -> Any:
    """A floating tensor in float64, as a leaf to take gradients for; anything else as it is."""
    if not hasattr(value, "detach"):
        return value
    value = value.detach().clone()
    return value.double().requires_grad_(leaves) if value.is_floating_point() else value


def differences(op: Any, sample: Any, adapter: Callable[..., Answer], dtype: Any, rng: Any) -> Iterator[str]:
    """Run one sample both ways and yield what differs."""
    import torch

    arrays = [plain(value) for value in (sample.input, *sample.args)]
    named = {name: plain(value) for name, value in sample.kwargs.items()}
    answer = adapter(*arrays, **named)

    constants = {"running_mean", "running_var"}
    names = list(inspect.signature(adapter).parameters)
    if op.name == "_native_batch_norm_legit":
        names = ["input", "weight", "bias", "running_mean", "running_var"]
        names = names[:3] if len(sample.args) == 5 else names
    tensors: dict[str, Any] = {}
    args = []
    for i, value in enumerate((sample.input, *sample.args)):
        name = names[i] if i < len(names) else ""
        args.append(wide(value, name not in constants))
        tensors[name] = args[-1]
    kwargs = {name: wide(value, name not in constants) for name, value in sample.kwargs.items()}
    tensors |= kwargs
    with _quiet():
        outputs = op.op(*args, **kwargs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for i, (got, true) in enumerate(zip(answer.outputs, outputs, strict=False)):
        kind = dtype if i == 0 and "dtype" not in sample.kwargs else np.float64  # statistics are float64
        yield difference(f"output {i}", np.asarray(got), plain(true), kind)
    for name, got in answer.changed.items():
        yield difference(name, got, plain(tensors[name]), np.float64)
    if answer.gradients is None or not outputs[0].requires_grad:
        return
    dy = rng.standard_normal(tuple(outputs[0].shape)).astype(dtype)
    outputs[0].backward(torch.tensor(dy, dtype=torch.float64))
    gradients = answer.gradients(dy)
    for name, tensor in tensors.items():
        if hasattr(tensor, "grad") and tensor.requires_grad:
            floor = float(np.abs(dy).max(initial=0))
            if dtype == np.float64:  # torch rounds as well: what it loses of x and dy is scaled by the slope
                floor *= max(1.0, answer.slope * float(np.abs(arrays[0]).max(initial=0)))
            yield difference(f"gradient of {name}", gradients[name], plain(tensor.grad), dtype, floor)


def sample_outcomes(dtype: Any) -> Iterator[Outcome]:
    """Run every sample of every operator in one type."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    rng = np.random.default_rng(0)
    for op in op_db:
        if op.name not in OPERATORS:
            continue
        with _quiet():
            samples = list(op.sample_inputs("cpu", getattr(torch, np.dtype(dtype).name)))
        for i, sample in enumerate(samples):
            case = f"{op.name}{op.variant_test_name and ' ' + op.variant_test_name} {i}"
            try:
                wrong = "; ".join(filter(None, differences(op, sample, OPERATORS[op.name], dtype, rng)))
            except NotExpressibleError as reason:
                yield Outcome(op.name, case, lacking=str(reason))
            else:
                yield Outcome(op.name, case, wrong=wrong)


def error_outcomes() -> Iterator[Outcome]:
    """Run every input that torch refuses: so must we, in our own words."""
    from torch.testing._internal.common_methods_invocations import op_db

    for op in op_db:
        if op.name not in OPERATORS or op.error_inputs_func is None:
            continue
        with _quiet():
            errors = list(op.error_inputs("cpu"))
        for i, error in enumerate(errors):
            sample, case, wrong = error.sample_input, f"{op.name} error {i}", ""
            arrays = [plain(value) for value in (sample.input, *sample.args)]
            try:
                OPERATORS[op.name](*arrays, **{name: plain(value) for name, value in sample.kwargs.items()})
            except NotExpressibleError as reason:
                yield Outcome(op.name, case, lacking=str(reason))
                continue
            except (TypeError, ValueError) as refusal:
                if not MESSAGE.fullmatch(str(refusal)):
                    wrong = f"refused in other words than ours: {refusal}"
            else:
                wrong = f"accepted: {str(error.error_regex)[:80]}"
            yield Outcome(op.name, case, wrong=wrong)
