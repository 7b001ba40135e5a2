"""The training loop: shuffled minibatches, one update each, and a look at held-back data after every epoch."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from xhat.checks import Array, as_choice, as_count, as_generator, as_real, as_targets, as_values
from xhat.networks import Evaluation, Sequential
from xhat.training.optimizers import OPTIMIZERS, Optimizer
from xhat.training.schedules import Schedule


class Progress(NamedTuple):
    """Where training stands after a batch. Loss and score are averages over the epoch so far."""

    epoch: int  # this one, from 1
    epochs: int  # the last one of this fit
    batch: int  # this one, from 1
    batches: int  # in an epoch
    samples: int  # seen in this epoch
    loss: float
    score: float
    samples_per_second: float


class Epoch(NamedTuple):
    """What an epoch brought; NaN where there was no validation."""

    epoch: int  # from 1
    loss: float  # average over the epoch's batches, as minimized: with the penalty, in training mode
    score: float  # likewise
    validation_loss: float  # after the epoch, with the penalty
    validation_score: float
    learning_rate: float
    seconds: float  # training alone
    samples_per_second: float


class _Snapshot(NamedTuple):
    """A moment of the training to go back to: network and optimizer."""

    arrays: list[Array]
    steps: int


class History:
    """The epochs of a training, in order.

    Attributes
    ----------
    epochs : list of Epoch
    """

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []

    @property
    def best(self) -> Epoch | None:
        """The epoch with the best validation score, of equal ones that with the lowest loss; None without any.

        Where the score is NaN (R² of targets that do not vary), the loss alone decides.
        """
        judged = [e for e in self.epochs if not math.isnan(e.validation_loss)]

        def goodness(epoch: Epoch) -> tuple[float, float]:
            score = epoch.validation_score
            return (-math.inf if math.isnan(score) else score, -epoch.validation_loss)

        return max(judged, key=goodness, default=None)

    def column(self, name: str) -> list[float]:
        """Return one field of all epochs, for a plot."""
        as_choice("History.column", "name", name, Epoch._fields)
        return [getattr(epoch, name) for epoch in self.epochs]

    def __len__(self) -> int:
        """Return the number of epochs."""
        return len(self.epochs)

    def __iter__(self) -> Iterator[Epoch]:
        """Iterate over the epochs."""
        return iter(self.epochs)

    @overload
    def __getitem__(self, index: int) -> Epoch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Epoch]: ...
    def __getitem__(self, index: int | slice) -> Epoch | list[Epoch]:
        """Return an epoch by its place; -1 is the last."""
        return self.epochs[index]

    def __repr__(self) -> str:
        """Return a table of the epochs."""
        head = "epoch     loss    score  validation loss  validation score"
        rows = [
            f"{e.epoch:5d}  {e.loss:7.4f}  {e.score:7.4f}  {e.validation_loss:15.4f}  {e.validation_score:16.4f}"
            for e in self.epochs
        ]
        return "\n".join([head, *rows])


class Trainer:
    """Train a network on arrays.

    Parameters
    ----------
    network : Sequential
        Changed in place.
    optimizer : {"adam", "adamw", "rmsprop", "nesterov", "momentum", "sgd"} or Optimizer
        How gradients change parameters. AdamW decays weights only, no biases, gammas or betas.
    learning_rate : float
        Positive; see the optimizer for its unit.
    batch_size : int
        Samples per update. A last batch of one sample is merged into the one before it.
    l2 : float
        Adds l2 / 2 times the sum of squared weights to the loss; weights only, no biases, gammas or betas.
    schedule : callable, optional
        From the number of the epoch (from 0) to a factor for the learning rate; see `xhat.training.schedules`.
    patience : int, optional
        Stop after so many epochs without a better validation score (or an equal one with a lower loss), and go back
        to the best epoch: parameters, running statistics and what the optimizer remembers.
    rng : int or numpy.random.Generator
        Draws the order of the samples.

    Attributes
    ----------
    history : History
        All epochs finished so far, also after an interrupt.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or value.

    Examples
    --------
    >>> import numpy as np, xhat
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((200, 2), np.float32)
    >>> labels = (x[:, 0] > x[:, 1] ** 2).astype(int)
    >>> net = xhat.mlp(2, [32], 2, normalization="batch", rng=0)
    >>> history = xhat.Trainer(net, learning_rate=0.02, batch_size=20, rng=0).fit(x, labels, epochs=20)
    >>> net.evaluate(x, labels).score > 0.95
    True
    """

    def __init__(
        self,
        network: Sequential,
        *,
        optimizer: str | Optimizer = "adam",
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        l2: float = 0.0,
        schedule: Schedule | None = None,
        patience: int | None = None,
        rng: int | np.random.Generator = 0,
    ) -> None:
        who = "Trainer"
        if not isinstance(network, Sequential):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"{who}: expected network as a Sequential, got {type(network).__name__}. Make one with xhat.mlp."
            )
        self.network = network
        if not isinstance(optimizer, Optimizer):
            optimizer = OPTIMIZERS[as_choice(who, "optimizer", optimizer, tuple(OPTIMIZERS))]()
        self.optimizer = optimizer
        self.learning_rate = as_real(
            who, "learning_rate", learning_rate, 0.0, math.inf, "The usual one for Adam is 1e-3.", above=True
        )
        self.batch_size = as_count(who, "batch_size", batch_size, 1, "The usual one is 128.")
        self.l2 = as_real(who, "l2", l2, 0.0, math.inf, "Give 0 for none.")
        if schedule is not None and not callable(schedule):
            raise TypeError(
                f"{who}: expected schedule as a function of the epoch, got {schedule!r}. "
                "Take one from xhat.training.schedules, such as cosine(epochs)."
            )
        self.schedule = schedule
        if patience is not None:
            patience = as_count(who, "patience", patience, 1, "Give a number of epochs, or None.")
        self.patience = patience
        self.rng = as_generator(who, rng)
        self.history = History()

    def fit(
        self,
        x: ArrayLike,
        targets: ArrayLike,
        *,
        epochs: int = 10,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        on_batch: Callable[[Progress], None] | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> History:
        """Train for some epochs; called again, it goes on where it stopped.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            Inputs of a floating type.
        targets : array_like, shape (N,) or (N, M)
            Class numbers, or numbers to predict.
        epochs : int
            How many more.
        validation : (x, targets), optional
            Held-back data, looked at after every epoch.
        on_batch, on_epoch : callable, optional
            Called with a `Progress` after every batch, with an `Epoch` after every epoch.

        Returns
        -------
        History
            `self.history`: also the epochs of earlier calls.

        Raises
        ------
        TypeError, ValueError
            If the data do not fit the network or each other, before anything is trained; or if running statistics
            meet a NaN or Inf (see `RunningStatistics`).
        FloatingPointError
            If the loss stops being finite; the network is as before the batch in question, but for its running
            statistics. Or if a parameter does, which is looked at after every epoch.
        KeyboardInterrupt
            Passed on. The network and `self.history` hold what was reached; one update may be incomplete. With
            `patience` the network goes back to the best epoch, here and after any other error.
        """
        who = "Trainer.fit"
        epochs = as_count(who, "epochs", epochs, 1, "Give the number of epochs to go.")
        if validation is not None and not (isinstance(validation, tuple) and len(validation) == 2):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"{who}: expected validation as a pair (x, targets), got {type(validation).__name__}. "
                "Hold some samples back and give them."
            )
        x, wanted = self._data(who, "x", x, targets)
        held = None if validation is None else self._data(who, "validation x", *validation)
        if held is None and self.patience is not None:
            raise ValueError(f"{who}: expected validation data because patience is set, got None. Give validation=.")

        best, kept, waited = self.history.best, self._snapshot() if self.patience else None, 0
        last = len(self.history) + epochs
        try:
            for number in range(len(self.history) + 1, last + 1):
                epoch = self._epoch(number, last, x, wanted, held, on_batch)
                self.history.epochs.append(epoch)
                waited += 1
                if self.patience is not None and self.history.best is not best:
                    best, kept, waited = self.history.best, self._snapshot(), 0
                if on_epoch is not None:
                    on_epoch(epoch)
                if self.patience is not None and waited >= self.patience:
                    break
        finally:
            if kept is not None and best is not None:
                self._go_back_to(kept)
        return self.history

    def _epoch(
        self,
        number: int,
        last: int,
        x: Array,
        targets: Array,
        held: tuple[Array, Array] | None,
        on_batch: Callable[[Progress], None] | None,
    ) -> Epoch:
        factor = 1.0 if self.schedule is None else self.schedule(number - 1)
        rate = as_real("Trainer.fit", "schedule factor", factor, 0.0, math.inf, "Return it from schedule(epoch).")
        rate *= self.learning_rate
        order = self.rng.permutation(len(x))
        bounds = _bounds(len(x), self.batch_size)
        spread = self.network.loss.spread(targets)
        loss_sum = score_sum = 0.0
        start = time.perf_counter()
        for i, (begin, end) in enumerate(itertools.pairwise(bounds), 1):
            batch = order[begin:end]
            loss, score = self._step(x[batch], targets[batch], spread, rate, f"epoch {number}, batch {i}")
            loss_sum += loss * (end - begin)
            score_sum += score * (end - begin)
            if on_batch is not None:
                seconds = max(time.perf_counter() - start, 1e-9)
                on_batch(
                    Progress(number, last, i, len(bounds) - 1, end, loss_sum / end, score_sum / end, end / seconds)
                )
        seconds = max(time.perf_counter() - start, 1e-9)
        lost = [name for name, values in self.network.parameters.items() if not np.isfinite(values).all()]
        if lost:
            raise FloatingPointError(
                f"Trainer.fit: expected finite parameters, got NaN or Inf in {', '.join(lost)} after epoch {number}. "
                "Lower learning_rate or standardize x, and start again from a new network."
            )
        judged = Evaluation(math.nan, math.nan) if held is None else self.network.evaluate(*held)
        return Epoch(
            number,
            loss_sum / len(x),
            score_sum / len(x),
            judged.loss + self.network.penalty(self.l2),
            judged.score,
            rate,
            seconds,
            len(x) / seconds,
        )

    def _step(self, x: Array, targets: Array, spread: float, rate: float, where: str) -> Evaluation:
        """Make one update; return the loss and the score before it."""
        network = self.network
        scores, caches = network.forward(x, training=True)
        loss, dscores = network.loss.function(scores, targets)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"Trainer.fit: expected a finite loss, got {loss} in {where}. "
                "Lower learning_rate, standardize x, or look for NaN in the data."
            )
        _, gradients = network.backward(dscores, caches)
        loss += network.penalty(self.l2, gradients)
        self.optimizer.update(network.parameters, gradients, rate, weights=network.weights)
        return Evaluation(loss, network.loss.score(scores, targets, spread))

    def _data(self, who: str, name: str, x: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
        values = as_values(who, name, x)
        wanted = as_targets(who, f"{name}'s targets", targets)
        if values.ndim < 1 or wanted.ndim < 1 or len(values) != len(wanted):
            raise ValueError(
                f"{who}: expected as many targets as samples in {name}, got shapes {wanted.shape} and {values.shape}. "
                "Give one target per row."
            )
        if not len(values):
            raise ValueError(f"{who}: expected at least one sample in {name}, got none. Check the data.")
        scores = self.network.predict(values[:1])  # whether x fits the network shows before anything is trained
        return values, self.network.loss.check(who, wanted, (len(values), *scores.shape[1:]))

    def _live(self) -> list[Array]:
        kept = (array for arrays in self.optimizer.memory.values() for array in arrays)
        return [*self.network.parameters.values(), *self.network.state.values(), *kept]

    def _snapshot(self) -> _Snapshot:
        return _Snapshot([values.copy() for values in self._live()], self.optimizer.steps)

    def _go_back_to(self, snapshot: _Snapshot) -> None:
        for values, kept in zip(self._live(), snapshot.arrays, strict=False):
            values[...] = kept
        self.optimizer.steps = snapshot.steps


def _bounds(samples: int, batch_size: int) -> list[int]:
    """Return where batches begin and the last one ends; a last batch of one sample joins the one before it."""
    bounds = [*range(0, samples, batch_size), samples]
    if batch_size > 1 and len(bounds) > 2 and bounds[-1] - bounds[-2] == 1:
        del bounds[-2]
    return bounds
