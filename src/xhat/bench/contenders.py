"""Who computes it: xhat, and whichever of torch, JAX, ONNX Runtime and NumPy are there.

One function per contender's house makes the calls of one problem and direction. What a call needs (tensors, compiled
code, the cache of a backward pass) is made before it is timed.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple, cast

import numpy as np

import xhat
from xhat.bench.problems import EPS, Array, Data, Direction, Problem, textbook_backward, textbook_forward


class Contender(NamedTuple):
    """One way to compute a problem.

    Attributes
    ----------
    name : str
        As the tables call it.
    call : callable
        Does the work and waits for its end.
    arrays : callable
        Makes NumPy arrays of what a call returned: (y,) or (dx, dgamma, dbeta), where the latter two may be missing.
    """

    name: str
    call: Callable[[], Any]
    arrays: Callable[[Any], Sequence[Array | None]]


class Absent(Exception):  # noqa: N818  it is an answer, not a failure
    """A contender that does not take part, and why."""


def xhat_calls(problem: Problem, data: Data, direction: Direction) -> Iterator[Contender]:
    """Make the public calls of xhat, into fresh memory and into memory that is given.

    Parameters
    ----------
    problem : Problem
        What is computed.
    data : Data
        Its arrays.
    direction : str
        `forward` or `backward`.

    Yields
    ------
    Contender
        `xhat` and `xhat out=`.
    """
    affine = data.x, data.gamma, data.beta
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    match problem.norm:
        case "layer":
            forward, backward = partial(xhat.layer_norm.forward, *affine), xhat.layer_norm.backward
        case "rms":
            forward, backward = partial(xhat.rms_norm.forward, data.x, data.gamma), xhat.rms_norm.backward
        case "group":
            forward = partial(xhat.group_norm.forward, *affine, groups=problem.groups)
            backward = xhat.group_norm.backward
        case "instance":
            forward, backward = partial(xhat.instance_norm.forward, *affine), xhat.instance_norm.backward
        case _:
            axis = 3 if problem.channels_last else 1
            forward = partial(xhat.batch_norm.forward, *affine, channel_axis=axis)
            backward = xhat.batch_norm.backward
    call = forward if direction == "forward" else partial(backward, data.dy, forward()[1])
    arrays = _first if direction == "forward" else tuple
    yield Contender("xhat", call, arrays)
    yield Contender("xhat out=", partial(call, out=np.zeros_like(data.x)), arrays)


def numpy_calls(problem: Problem, data: Data, direction: Direction) -> Iterator[Contender]:
    """Make the textbook's call.

    Parameters
    ----------
    problem, data, direction
        As in `xhat_calls`.

    Yields
    ------
    Contender
        `numpy`.
    """
    x, dy = data.x.reshape(problem.view), data.dy.reshape(problem.view)
    gamma, beta = (p.reshape(problem.parameter) for p in (data.gamma, data.beta))
    if direction == "forward":
        yield Contender("numpy", lambda: textbook_forward(x, gamma, beta, problem), _first)
        return
    _, x_hat, rstd = textbook_forward(x, gamma, beta, problem)
    yield Contender("numpy", lambda: textbook_backward(dy, x_hat, rstd, gamma, problem), tuple)


def torch_calls(problem: Problem, data: Data, direction: Direction) -> Iterator[Contender]:
    """Make torch's eager calls: into fresh memory, and into given memory where an operator writes there itself.

    Most of torch's `out=` overloads compute into fresh memory and copy; these are not timed.

    Parameters
    ----------
    problem, data, direction
        As in `xhat_calls`.

    Yields
    ------
    Contender
        `torch`, and perhaps `torch out=`.
    """
    torch = _framework("torch")
    calls = _torch(torch, problem, data)
    yield Contender("torch", getattr(calls, direction), calls.arrays)
    if direction == "forward" and calls.writes_into:
        yield Contender("torch out=", calls.forward_out, calls.arrays)


def compile_calls(problem: Problem, data: Data, direction: Direction) -> Iterator[Contender]:
    """Make the calls of torch.compile.

    Parameters
    ----------
    problem, data, direction
        As in `xhat_calls`.

    Yields
    ------
    Contender
        `torch.compile`.
    """
    torch = _framework("torch")
    calls = _torch(torch, problem, data)
    if direction == "backward" and not calls.functional:
        raise Absent("its backward pass is autograd's, which is not compiled alone")
    torch._dynamo.reset()
    logging.disable(logging.WARNING)
    compiled = torch.compile(getattr(calls, direction), dynamic=False)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            compiled()
    except Exception as error:  # a missing compiler has many faces
        raise Absent(f"it failed: {_first_line(error)}") from error
    yield Contender("torch.compile", compiled, calls.arrays)


def jax_calls(problem: Problem, data: Data, direction: Direction) -> Iterator[Contender]:
    """Make JAX's calls: the textbook's formula, jitted; its gradient by JAX itself.

    Parameters
    ----------
    problem, data, direction
        As in `xhat_calls`.

    Yields
    ------
    Contender
        `jax`.
    """
    jax = _framework("jax")
    put = jax.numpy.asarray
    x, dy = put(data.x.reshape(problem.view)), put(data.dy.reshape(problem.view))
    gamma, beta = (put(p.reshape(problem.parameter)) for p in (data.gamma, data.beta))

    inputs = (x, gamma, beta) if problem.centred else (x, gamma)

    def y_of(x: Any, gamma: Any, beta: Any = None) -> Any:
        return textbook_forward(x, gamma, beta, problem)[0]

    def pullback(*inputs: Any) -> Any:
        return jax.vjp(y_of, *inputs)[1]

    def pulled(pull: Any, dy: Any) -> Any:
        return pull(dy)

    forward = jax.jit(y_of)
    if direction == "forward":
        yield Contender("jax", lambda: forward(*inputs).block_until_ready(), _as_numpy)
        return
    pull, backward = jax.jit(pullback)(*inputs), jax.jit(pulled)
    yield Contender("jax", lambda: jax.block_until_ready(backward(pull, dy)), _as_numpy)


_ONNX: dict[str, tuple[str, int, dict[str, Any]]] = {
    "layer": ("LayerNormalization", 17, {"axis": -1}),
    "rms": ("RMSNormalization", 23, {"axis": -1}),
    "group": ("GroupNormalization", 21, {}),
    "instance": ("InstanceNormalization", 17, {}),
}


def onnxruntime_calls(problem: Problem, data: Data, direction: Direction) -> Iterator[Contender]:
    """Make the call of ONNX Runtime on a model of one node.

    Parameters
    ----------
    problem, data, direction
        As in `xhat_calls`.

    Yields
    ------
    Contender
        `onnxruntime`.
    """
    if direction == "backward":
        raise Absent("it has no backward pass")
    if problem.norm not in _ONNX:
        raise Absent("its batch norm does not take statistics of the batch")
    runtime, onnx = _framework("onnxruntime"), _framework("onnx")
    kind, opset, attributes = _ONNX[problem.norm]
    attributes = attributes | ({"num_groups": problem.groups} if problem.norm == "group" else {})
    make, number = onnx.helper, onnx.TensorProto.FLOAT
    given = {"x": data.x, "gamma": data.gamma, "beta": data.beta}
    if problem.norm == "rms":
        del given["beta"]
    graph = make.make_graph(
        [make.make_node(kind, list(given), ["y"], epsilon=EPS, **attributes)],
        "norm",
        [make.make_tensor_value_info(name, number, array.shape) for name, array in given.items()],
        [make.make_tensor_value_info("y", number, data.x.shape)],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", opset)], ir_version=10)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = xhat.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # each release has its own
        raise Absent(f"it has no such node: {_first_line(error)}") from error
    yield Contender("onnxruntime", lambda: session.run(None, given), tuple)


HOUSES: dict[str, Callable[[Problem, Data, Direction], Iterator[Contender]]] = {
    "xhat": xhat_calls,
    "torch": torch_calls,
    "torch.compile": compile_calls,
    "jax": jax_calls,
    "onnxruntime": onnxruntime_calls,
    "numpy": numpy_calls,
}
"""By name; `xhat` is the one that the others are compared with."""


def _first(got: Any) -> Sequence[Array]:
    return (got[0],)


def _as_numpy(got: Any) -> Sequence[Array]:
    return [np.asarray(one) for one in (cast("tuple[Any, ...]", got) if isinstance(got, tuple) else (got,))]


def _framework(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise Absent("not installed" if error.name == name else f"it cannot be loaded: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _torch(torch: Any, problem: Problem, data: Data) -> _TorchCalls:
    """Return the calls of torch for a problem."""
    match problem.norm:
        case "layer":
            return _TorchLayer(torch, problem, data)
        case "rms":
            return _TorchRms(torch, problem, data)
        case "group":
            return _TorchGroup(torch, problem, data)
        case "instance":
            return _TorchInstance(torch, problem, data)
        case _:
            return _TorchBatch(torch, problem, data)


class _TorchCalls:
    """The calls of torch on its own tensors, which share memory with the arrays.

    The forward pass is `torch.nn.functional`'s, without autograd. The backward pass is the operator that autograd would
    call, called directly: less than users pay.
    """

    functional = True  # whether backward is an operator
    writes_into = False  # whether an operator of the forward pass writes into given memory

    def __init__(self, torch: Any, problem: Problem, data: Data) -> None:
        self.torch, self.problem = torch, problem
        torch.set_num_threads(xhat.get_num_threads())
        self.norms = torch.nn.functional
        self.aten = torch.ops.aten
        torch.set_grad_enabled(False)
        self.x, self.dy = (self._tensor(array) for array in (data.x, data.dy))
        self.gamma, self.beta = torch.from_numpy(data.gamma), torch.from_numpy(data.beta)

    def _tensor(self, array: Array) -> Any:
        tensor = self.torch.from_numpy(array)
        return tensor.permute(0, 3, 1, 2) if self.problem.channels_last else tensor

    def arrays(self, got: Any) -> Sequence[Array]:
        tensors = [got] if self.torch.is_tensor(got) else [one for one in got if one is not None]
        if self.problem.channels_last:
            tensors[0] = tensors[0].permute(0, 2, 3, 1)
        return [tensor.numpy() for tensor in tensors]

    def forward(self) -> Any:
        raise NotImplementedError

    def forward_out(self) -> Any:
        raise NotImplementedError

    def backward(self) -> Any:
        raise NotImplementedError


class _TorchBatch(_TorchCalls):
    writes_into = True

    def __init__(self, torch: Any, problem: Problem, data: Data) -> None:
        super().__init__(torch, problem, data)
        self.out = torch.empty_like(self.x).zero_()  # keeps a channels-last layout
        self.settings = (self.gamma, self.beta, None, None, True, 0.1, EPS)
        _, self.mean, self.rstd = self.aten.native_batch_norm(self.x, *self.settings)
        self.to = {
            "out": self.out,
            "save_mean": torch.empty_like(self.mean),
            "save_invstd": torch.empty_like(self.rstd),
        }

    def forward(self) -> Any:
        return self.norms.batch_norm(self.x, None, None, self.gamma, self.beta, True, 0.1, EPS)

    def forward_out(self) -> Any:
        return self.aten.native_batch_norm.out(self.x, *self.settings, **self.to)[0]

    def backward(self) -> Any:
        return self.aten.native_batch_norm_backward(
            self.dy, self.x, self.gamma, None, None, self.mean, self.rstd, True, EPS, [True] * 3
        )


class _TorchInstance(_TorchCalls):
    """Torch's instance norm is its batch norm of one sample with a channel for every plane."""

    writes_into = True

    def __init__(self, torch: Any, problem: Problem, data: Data) -> None:
        super().__init__(torch, problem, data)
        samples, channels = problem.shape[:2]
        self.planes = (1, samples * channels, *problem.shape[2:])
        self.wide = self.gamma.repeat(samples)
        self.flat, self.flat_dy = self.x.view(self.planes), self.dy.view(self.planes)
        self.settings = (self.wide, self.beta.repeat(samples), None, None, True, 0.1, EPS)
        _, self.mean, self.rstd = self.aten.native_batch_norm(self.flat, *self.settings)
        self.to = {
            "out": torch.zeros(self.planes),
            "save_mean": torch.empty_like(self.mean),
            "save_invstd": torch.empty_like(self.rstd),
        }

    def forward(self) -> Any:
        return self.norms.instance_norm(self.x, None, None, self.gamma, self.beta, True, 0.1, EPS)

    def forward_out(self) -> Any:
        return self.aten.native_batch_norm.out(self.flat, *self.settings, **self.to)[0]

    def backward(self) -> Any:
        dx, dgamma, dbeta = self.aten.native_batch_norm_backward(
            self.flat_dy, self.flat, self.wide, None, None, self.mean, self.rstd, True, EPS, [True] * 3
        )
        channels = self.problem.features
        return dx, dgamma.view(-1, channels).sum(0), dbeta.view(-1, channels).sum(0)


class _TorchLayer(_TorchCalls):
    def __init__(self, torch: Any, problem: Problem, data: Data) -> None:
        super().__init__(torch, problem, data)
        self.size = [problem.features]
        _, self.mean, self.rstd = self.aten.native_layer_norm(self.x, self.size, self.gamma, self.beta, EPS)

    def forward(self) -> Any:
        return self.norms.layer_norm(self.x, self.size, self.gamma, self.beta, EPS)

    def backward(self) -> Any:
        return self.aten.native_layer_norm_backward(
            self.dy, self.x, self.size, self.mean, self.rstd, self.gamma, self.beta, [True] * 3
        )


class _TorchGroup(_TorchCalls):
    def __init__(self, torch: Any, problem: Problem, data: Data) -> None:
        super().__init__(torch, problem, data)
        samples, channels, height, width = problem.shape
        self.sizes = samples, channels, height * width, problem.groups
        _, self.mean, self.rstd = self.aten.native_group_norm(self.x, self.gamma, self.beta, *self.sizes, EPS)

    def forward(self) -> Any:
        return self.norms.group_norm(self.x, self.problem.groups, self.gamma, self.beta, EPS)

    def backward(self) -> Any:
        return self.aten.native_group_norm_backward(
            self.dy, self.x, self.mean, self.rstd, self.gamma, *self.sizes, [True] * 3
        )


class _TorchRms(_TorchCalls):
    """It is made of elementwise operators; its gradient is autograd's."""

    functional = False

    def __init__(self, torch: Any, problem: Problem, data: Data) -> None:
        super().__init__(torch, problem, data)
        self.size = [problem.features]
        with torch.enable_grad():
            self.inputs = self.x.detach().requires_grad_(), self.gamma.detach().requires_grad_()
            self.y = self.norms.rms_norm(self.inputs[0], self.size, self.inputs[1], EPS)

    def forward(self) -> Any:
        return self.norms.rms_norm(self.x, self.size, self.gamma, EPS)

    def backward(self) -> Any:
        return self.torch.autograd.grad(self.y, self.inputs, self.dy, retain_graph=True)
