"""One run: the networks that the settings ask for, their gradients checked, trained, judged and saved."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

import xhat
from xhat import verify
from xhat.cli.console import Refusal, refusing, say, show
from xhat.cli.outcome import CHECK_HEADS, Outcome, check_rows
from xhat.cli.progress import Live
from xhat.training import schedules

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xhat.datasets import Dataset
    from xhat.networks import Sequential
    from xhat.verify import GradientCheck

NO_NORM = "none"
SCHEDULES: Mapping[str, Callable[[int], Callable[[int], float] | None]] = {
    "constant": lambda epochs: None,
    "cosine": schedules.cosine,
    "step": lambda epochs: schedules.step(-(-epochs // 3)),
}
"""By what factor the learning rate falls, for a number of epochs: not, to 0, or tenfold after every third."""

_ROWS_TO_DRAW, _ROWS_TO_CHECK = 4096, 16


@dataclass(frozen=True)
class Settings:
    """The options that decide the numbers: the same settings give the same run.

    Attributes are named after the options of `xhat train`; `data` is its argument.
    """

    data: str
    target: str | None
    hidden: tuple[int, ...]
    norm: str
    compare: str | None
    dropout: float
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str
    schedule: str
    l2: float
    patience: int | None
    validation: float
    seed: int
    threads: int | None

    @property
    def norms(self) -> tuple[str, ...]:
        """The normalizations to train with, one network for each."""
        return (self.norm,) if self.compare is None else (self.norm, self.compare)

    def options(self) -> dict[str, str]:
        """Return every option that is set, by its name on the command line."""
        chosen = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "data"}
        chosen["hidden"] = ",".join(map(str, self.hidden)) or "none"
        return {f"--{name.replace('_', '-')}": str(value) for name, value in chosen.items() if value is not None}

    def command(self) -> str:
        """Return the command line that repeats the run, in a folder of its own."""
        words = [word for option in self.options().items() for word in option]
        return shlex.join(["xhat", "train", self.data, *words])


@dataclass(frozen=True)
class Parts:
    """The rows that train and those that choose; the test rows stay in the data set."""

    x: NDArray[np.floating[Any]]
    y: NDArray[Any]
    validation: tuple[NDArray[np.floating[Any]], NDArray[Any]] | None

    @classmethod
    def of(cls, read: Dataset, settings: Settings) -> Self:
        """Set rows apart for validation, of every class its share, rounded down."""
        rng = np.random.default_rng(settings.seed)
        apart = np.zeros(len(read.y), np.bool_)
        kinds = read.y if read.classes else np.zeros(len(read.y))
        for kind in np.unique(kinds):
            rows = np.flatnonzero(kinds == kind)
            apart[rng.permutation(rows)[: int(settings.validation * len(rows))]] = True
        if not apart.any():
            return cls(read.x, read.y, None)
        return cls(read.x[~apart], read.y[~apart], (read.x[apart], read.y[apart]))


def train_all(settings: Settings, read: Dataset, parts: Parts, folder: Path) -> list[Outcome]:
    """Train one network per normalization, and save each to `folder`, until done or stopped.

    Parameters
    ----------
    settings : Settings
        What to train.
    read : Dataset
        The data; its test rows judge.
    parts : Parts
        Its rows for training and validation.
    folder : Path
        Where `model.safetensors` goes, and `model-NORM.safetensors` for the twin.

    Returns
    -------
    list of Outcome
        One per network; fewer if Ctrl-C came, but at least one.

    Raises
    ------
    Refusal
        If a setting is out of range, or a gradient is wrong.
    KeyboardInterrupt
        If Ctrl-C came before anything was trained.
    """
    outcomes: list[Outcome] = []
    for norm in settings.norms:
        file = folder / ("model.safetensors" if norm == settings.norm else f"model-{norm}.safetensors")
        try:
            outcomes.append(_train_one(settings, norm, read, parts, file))
        except KeyboardInterrupt:  # of this network there is nothing to keep
            if not outcomes:
                raise
            break
        if outcomes[-1].stopped:
            break
    return outcomes


def _train_one(settings: Settings, norm: str, read: Dataset, parts: Parts, file: Path) -> Outcome:
    network = _network(settings, norm, read, parts)
    label = "no norm" if norm == NO_NORM else f"{norm} norm"
    unit = _TargetUnit.of(parts.y)
    y, validation = unit.standardize(parts.y), None
    if parts.validation is not None:
        validation = (parts.validation[0], unit.standardize(parts.validation[1]))
    check = _check(network, parts.x, y, settings, label)
    trainer = _trainer(network, settings)
    say()
    stopped = False

    def stop(number: int = 0, frame: FrameType | None = None) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(signal.SIGINT, _exit_at_once)
        say("\nStopped. Keeping what was reached; Ctrl-C again ends at once.", style="yellow")

    before = signal.getsignal(signal.SIGINT)
    try:
        with Live(settings.epochs, network.score_name) as live, refusing():
            trainer.fit(
                parts.x,
                y,
                epochs=settings.epochs,
                validation=validation,
                on_batch=live.on_batch,
                on_epoch=live.on_epoch,
            )
        signal.signal(signal.SIGINT, stop)  # from here on nothing is cut short until it is saved
    except KeyboardInterrupt:
        stop()
    network = unit.given_to(network)
    network.notes = {"data": settings.data, "target": settings.target, "command": settings.command()}
    with refusing():
        xhat.save(network, file)
    results = {"train": network.evaluate(parts.x, parts.y)}
    if parts.validation is not None:
        results["validation"] = network.evaluate(*parts.validation)
    results["test"] = network.evaluate(read.x_test, read.y_test)
    if not stopped:
        signal.signal(signal.SIGINT, before)
    history = trainer.history
    return Outcome(label, network, check, history.epochs, history.best, results, stopped, file)


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(130)


def _network(settings: Settings, norm: str, read: Dataset, parts: Parts) -> Sequential:
    with refusing(2):
        body = xhat.mlp(
            len(read.features),
            settings.hidden,
            len(read.classes) if read.classes else 1,
            normalization=None if norm == NO_NORM else norm,
            dropout=settings.dropout,
            rng=settings.seed,
            loss="softmax_cross_entropy" if read.classes else "squared_error",
        )
    scaling = xhat.Standardize.of(parts.x, shared=read.image_shape is not None)
    return xhat.Sequential([scaling, *body.layers], loss=body.loss_name, classes=read.classes, features=read.features)


def _check(
    network: Sequential, x: NDArray[np.floating[Any]], y: NDArray[Any], settings: Settings, label: str
) -> GradientCheck:
    rows = _different_rows(x, settings.seed)
    with refusing():
        check = verify.check_network(network, x[rows], y[rows], l2=settings.l2, rng=settings.seed)
    show(f"\nGradient check: {label}", CHECK_HEADS, check_rows(check), left=2)
    if not check.ok:
        wrong = ", ".join(row.name for row in check.rows if not row.ok)
        raise Refusal(
            f"xhat train: expected the gradients of the network to be right, got wrong ones for {wrong}. "
            "Nothing was trained; report this network as a bug."
        )
    return check


def _different_rows(x: NDArray[np.floating[Any]], seed: int) -> NDArray[np.intp]:
    """Draw a few rows to check gradients on.

    Were they equal, every normalized value would sit at 0, where ReLU has no derivative to compare with.
    """
    drawn = np.random.default_rng(seed).permutation(len(x))[:_ROWS_TO_DRAW]
    first = np.unique(x[drawn], axis=0, return_index=True)[1]
    if len(first) < 2:
        raise Refusal(
            f"xhat train: expected rows that differ to train on, got {len(drawn)} equal ones. Check the data."
        )
    return drawn[np.sort(first)[:_ROWS_TO_CHECK]]


def _trainer(network: Sequential, settings: Settings) -> xhat.Trainer:
    with refusing(2):
        return xhat.Trainer(
            network,
            optimizer=settings.optimizer,
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_size,
            l2=settings.l2,
            schedule=SCHEDULES[settings.schedule](settings.epochs),
            patience=settings.patience,
            rng=settings.seed,
        )


class _TargetUnit(NamedTuple):
    """The mean and deviation of a regression's target; 0 and 1 for classes.

    The network learns the standardized target, so that one learning rate suits house prices and fractions; the one
    that is judged and saved predicts in the target's own unit, in float64: float32 may not hold its digits.
    """

    mean: float
    std: float

    @classmethod
    def of(cls, y: NDArray[Any]) -> Self:
        if y.dtype.kind == "i":
            return cls(0.0, 1.0)
        std = float(y.std())
        return cls(float(y.mean()), std if std > 0 else 1.0)

    def standardize(self, y: NDArray[Any]) -> NDArray[Any]:
        return y if y.dtype.kind == "i" else (y - self.mean) / self.std

    def given_to(self, network: Sequential) -> Sequential:
        if (self.mean, self.std) == (0.0, 1.0):
            return network
        wide = network.astype(np.float64)
        last = wide.layers[-1].parameters
        last["w"] *= self.std
        last["b"] *= self.std
        last["b"] += self.mean
        return wide
