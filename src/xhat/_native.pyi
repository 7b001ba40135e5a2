from collections.abc import Sequence
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

_Numbers: TypeAlias = NDArray[np.floating[Any]]
_Entries: TypeAlias = NDArray[np.float64]
_Pair: TypeAlias = tuple[int, int]
_Normalized: TypeAlias = tuple[Any, tuple[Any, ...]]
_Gradients: TypeAlias = tuple[Any, Any, Any]

def variants() -> list[str]: ...
def use(name: str) -> None: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...

@final
class Buffer:
    def __init__(self, size: int) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def set_idle_memory(limit: int) -> None: ...
def get_idle_memory() -> int: ...
def memory_held() -> tuple[int, int]: ...
def rows_forward(
    x: _Numbers,
    gamma: _Numbers | None,
    beta: _Numbers | None,
    eps: float,
    centred: bool,
    out: _Numbers,
    mean: _Entries,
    mean_low: _Entries,
    var: _Entries,
    rstd: _Entries,
) -> None: ...
def rows_backward(
    dy: _Numbers,
    x: _Numbers,
    gamma: _Numbers | None,
    mean: _Entries,
    mean_low: _Entries,
    rstd: _Entries,
    centred: bool,
    out: _Numbers,
    dgamma: _Entries,
    dbeta: _Entries,
) -> None: ...
def channels_statistics(
    x: _Numbers,
    weights: _Entries | None,
    total: float,
    eps: float,
    mean: _Entries,
    mean_low: _Entries,
    var: _Entries,
    rstd: _Entries,
) -> None: ...
def channels_forward(
    x: _Numbers,
    weights: _Entries | None,
    total: float,
    gamma: _Numbers | None,
    beta: _Numbers | None,
    eps: float,
    out: _Numbers,
    mean: _Entries,
    mean_low: _Entries,
    var: _Entries,
    rstd: _Entries,
) -> None: ...
def channels_apply(
    x: _Numbers,
    weights: _Entries | None,
    gamma: _Numbers | None,
    beta: _Numbers | None,
    mean: _Entries,
    mean_low: _Entries | None,
    rstd: _Entries,
    out: _Numbers,
) -> None: ...
def channels_sums(
    dy: _Numbers,
    x: _Numbers,
    weights: _Entries | None,
    mean: _Entries,
    mean_low: _Entries | None,
    rstd: _Entries,
    dgamma: _Entries,
    dbeta: _Entries,
) -> None: ...
def channels_gradient(
    dy: _Numbers,
    x: _Numbers,
    weights: _Entries | None,
    total: float,
    gamma: _Numbers | None,
    mean: _Entries,
    mean_low: _Entries | None,
    rstd: _Entries,
    dgamma: _Entries,
    dbeta: _Entries,
    out: _Numbers,
) -> None: ...
def channels_backward(
    dy: _Numbers,
    x: _Numbers,
    weights: _Entries | None,
    total: float,
    gamma: _Numbers | None,
    mean: _Entries,
    mean_low: _Entries | None,
    rstd: _Entries,
    out: _Numbers,
    dgamma: _Entries,
    dbeta: _Entries,
) -> None: ...
def channels_apply_backward(
    dy: _Numbers,
    x: _Numbers,
    weights: _Entries | None,
    gamma: _Numbers | None,
    mean: _Entries,
    mean_low: _Entries | None,
    rstd: _Entries,
    out: _Numbers,
    dgamma: _Entries,
    dbeta: _Entries,
) -> None: ...
def softmax(scores: _Numbers, out: _Numbers) -> None: ...
def softmax_cross_entropy(scores: _Numbers, labels: NDArray[np.int64], out: _Numbers, losses: _Entries) -> None: ...
def dropout(x: _Numbers, key: int, rate: float, out: _Numbers) -> None: ...
def fused_rows_forward(
    x: _Numbers,
    added: _Numbers | None,
    total: _Numbers | None,
    gamma: _Numbers | None,
    beta: _Numbers | None,
    eps: float,
    centred: bool,
    epilogue: tuple[float, int] | None,
    out: _Numbers,
    mean: _Entries,
    mean_low: _Entries,
    var: _Entries,
    rstd: _Entries,
) -> None: ...
def fused_rows_backward(
    dy: _Numbers,
    x: _Numbers,
    also: _Numbers | None,
    gamma: _Numbers | None,
    beta: _Numbers | None,
    mean: _Entries,
    mean_low: _Entries,
    rstd: _Entries,
    centred: bool,
    epilogue: tuple[float, int] | None,
    out: _Numbers,
    dgamma: _Entries,
    dbeta: _Entries,
    dbias: _Entries | None,
) -> None: ...
def fused_channels_forward(
    x: _Numbers,
    weights: _Entries | None,
    total: float,
    gamma: _Numbers | None,
    beta: _Numbers | None,
    eps: float,
    epilogue: tuple[float, int] | None,
    out: _Numbers,
    mean: _Entries,
    mean_low: _Entries,
    var: _Entries,
    rstd: _Entries,
) -> None: ...
def fused_channels_apply(
    x: _Numbers,
    weights: _Entries | None,
    gamma: _Numbers | None,
    beta: _Numbers | None,
    mean: _Entries,
    mean_low: _Entries | None,
    rstd: _Entries,
    epilogue: tuple[float, int] | None,
    out: _Numbers,
) -> None: ...
def fused_channels_backward(
    dy: _Numbers,
    x: _Numbers,
    weights: _Entries | None,
    total: float,
    gamma: _Numbers | None,
    beta: _Numbers | None,
    mean: _Entries,
    mean_low: _Entries | None,
    rstd: _Entries,
    epilogue: tuple[float, int] | None,
    out: _Numbers,
    dgamma: _Entries,
    dbeta: _Entries,
) -> None: ...
def fused_channels_apply_backward(
    dy: _Numbers,
    x: _Numbers,
    weights: _Entries | None,
    gamma: _Numbers | None,
    beta: _Numbers | None,
    mean: _Entries,
    mean_low: _Entries | None,
    rstd: _Entries,
    epilogue: tuple[float, int] | None,
    out: _Numbers,
    dgamma: _Entries,
    dbeta: _Entries,
) -> None: ...
def copy(x: _Numbers, out: _Numbers) -> None: ...
def im2col(x: _Numbers, out: _Numbers, stride: _Pair, padding: _Pair) -> None: ...
def col2im(columns: _Numbers, out: _Numbers, stride: _Pair, padding: _Pair) -> None: ...
def max_pool_forward(
    x: _Numbers, out: _Numbers, argmax: NDArray[np.uint8], size: _Pair, stride: _Pair, padding: _Pair
) -> None: ...
def max_pool_backward(
    dy: _Numbers, argmax: NDArray[np.uint8], out: _Numbers, size: _Pair, stride: _Pair, padding: _Pair
) -> None: ...
def small_channels_forward(x: object, gamma: object, beta: object, eps: object, axis: object) -> _Normalized | None: ...
def small_channels_backward(dy: object, *saved: object) -> _Gradients | None: ...
def small_rows_forward(
    x: object, gamma: object, beta: object, eps: object, axis: object, centred: bool
) -> _Normalized | None: ...
def small_rows_backward(dy: object, centred: bool, *saved: object) -> _Gradients | None: ...
def small_groups_forward(
    x: object, gamma: object, beta: object, eps: object, groups: object, axis: object
) -> _Normalized | None: ...
def small_groups_backward(dy: object, *saved: object) -> _Gradients | None: ...
def small_instances_forward(
    x: object, gamma: object, beta: object, eps: object, axis: object
) -> _Normalized | None: ...
def small_instances_backward(dy: object, *saved: object) -> _Gradients | None: ...
def update(
    rule: str,
    rate: float,
    kept1: float,
    kept2: float,
    correction: float,
    eps: float,
    parameters: Sequence[_Numbers],
    gradients: Sequence[_Numbers],
    memory: Sequence[Sequence[_Numbers]],
    decay: Sequence[float],
) -> bool: ...
