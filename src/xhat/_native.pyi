from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Numbers: TypeAlias = NDArray[np.floating[Any]]
_Entries: TypeAlias = NDArray[np.float64]

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
def channels_forward(
    x: _Numbers,
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
    gamma: _Entries | None,
    beta: _Entries | None,
    mean: _Entries,
    rstd: _Entries,
    out: _Numbers,
) -> None: ...
def channels_backward(
    dy: _Numbers,
    x: _Numbers,
    gamma: _Entries | None,
    mean: _Entries,
    mean_low: _Entries,
    rstd: _Entries,
    out: _Numbers,
    dgamma: _Entries,
    dbeta: _Entries,
) -> None: ...
def channels_apply_backward(
    dy: _Numbers,
    x: _Numbers,
    gamma: _Entries | None,
    mean: _Entries,
    rstd: _Entries,
    out: _Numbers,
    dgamma: _Entries,
    dbeta: _Entries,
) -> None: ...
