"""What all of the course's networks do with their parameters."""

import os
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from xhat.checks import Array


class Parameters:
    """The base of a network: parameters by name, an L2 penalty on the weights, and a file for them.

    Attributes
    ----------
    params : dict of str to array
        Read again by every call of `loss`; may be changed in place or replaced.
    reg : float
        Strength of the penalty; read again by every call of `loss`.
    """

    params: dict[str, Array]
    reg: float

    def penalize(self, loss: float, grads: dict[str, Array], weights: Iterable[str]) -> float:
        """Return the loss with half of reg times the squared weights added, and add reg times the weights to grads."""
        for name in weights:
            w = self.params[name]
            loss += 0.5 * self.reg * float(np.sum(w * w))
            grads[name] = grads[name] + (self.reg * w).astype(grads[name].dtype, copy=False)
        return loss

    def save(self, fname: str | os.PathLike[str]) -> None:
        """Write the parameters to a file of exactly this name: NumPy's .npz form, without pickle."""
        with open(fname, "wb") as file:
            np.savez(file, **cast("dict[str, Any]", self.params))
        print(f"{os.fspath(fname)} saved.")

    def load(self, fname: str | os.PathLike[str]) -> bool:
        """Read parameters that `save` has written, and return True; False if there is no such file.

        Raises
        ------
        ValueError
            If it is a pickle, as the course's own `save` writes one, or has one in it: reading it could run code. Also
            if it is damaged, or the names or shapes are not those of this network.
        """
        who = f"{type(self).__name__}.load"
        if not os.path.exists(fname):
            print(f"{os.fspath(fname)} not available.")
            return False
        with open(fname, "rb") as file:
            if file.read(4) != b"PK\x03\x04":
                raise ValueError(
                    f"{who}: expected parameters that save has written, got another kind of file. A pickle is not "
                    "read, for it can run code: where you trust it, read it and write numpy.savez(name, **params)."
                )
            file.seek(0)
            try:
                with np.load(file, allow_pickle=False) as arrays:
                    found = {name: arrays[name] for name in arrays.files}
            except Exception as error:  # what a damaged archive makes of zipfile and zlib has no end of names
                raise ValueError(
                    f"{who}: expected parameters that save has written, got a file in which {error}. Save them again."
                ) from None
        wanted = {name: values.shape for name, values in self.params.items()}
        got = {name: values.shape for name, values in found.items()}
        if got != wanted:
            raise ValueError(
                f"{who}: expected parameters {wanted}, got {got}. Make the network with the same arguments."
            )
        self.params = {name: found[name].astype(values.dtype) for name, values in self.params.items()}
        print(f"{os.fspath(fname)} loaded.")
        return True


def draw(weight_scale: float, *shape: int, dtype: DTypeLike = np.float64) -> Array:
    """Return normal random numbers: one `randn` of NumPy's global generator, for the course's numbers."""
    return (weight_scale * np.random.randn(*shape)).astype(dtype)
