from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Numbers: TypeAlias = NDArray[np.floating[Any]]
_Entries: TypeAlias = NDArray[np.float64]
_Pair: TypeAlias = tuple[int, int]

def variants() -> list[str]: ...
def use(name: str) -> None: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def rows_forward(
    x: _Numbers,
    gamma: _Entries | None,
    beta: _Entries | None,
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
    gamma: _Entries | None,
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
    gamma: _Entries | None,
    beta: _Entries | None,
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
    gamma: _Entries | None,
    beta: _Entries | None,
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
    gamma: _Entries | None,
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
    gamma: _Entries | None,
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
    gamma: _Entries | None,
    mean: _Entries,
    mean_low: _Entries | None,
    rstd: _Entries,
    out: _Numbers,
    dgamma: _Entries,
    dbeta: _Entries,
) -> None: ...
def im2col(x: _Numbers, out: _Numbers, stride: _Pair, padding: _Pair) -> None: ...
def col2im(columns: _Numbers, out: _Numbers, stride: _Pair, padding: _Pair) -> None: ...
def max_pool_forward(
    x: _Numbers, out: _Numbers, argmax: NDArray[np.uint8], size: _Pair, stride: _Pair, padding: _Pair
) -> None: ...
def max_pool_backward(
    dy: _Numbers, argmax: NDArray[np.uint8], out: _Numbers, size: _Pair, stride: _Pair, padding: _Pair
) -> None: ...
def softmax(scores: _Numbers, out: _Numbers) -> None: ...
def softmax_cross_entropy(scores: _Numbers, labels: NDArray[np.int64], out: _Numbers, losses: _Entries) -> None: ...
def dropout(x: _Numbers, key: int, rate: float, out: _Numbers) -> None: ...
