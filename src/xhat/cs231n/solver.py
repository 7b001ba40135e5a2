"""The course's training loop."""

import inspect
import pickle
from typing import Any

import numpy as np

from xhat.checks import Array
from xhat.cs231n import optim

__all__ = ["Solver"]


class Solver:
    """Train a network of the course, and keep the parameters that did best on the validation data.

    Parameters
    ----------
    model : object
        With a dict `params`, and `loss(X, y)` that returns `(loss, grads)`, `loss(X)` that returns scores.
    data : dict
        Arrays `X_train`, `y_train`, `X_val`, `y_val`.
    update_rule : str
        A name in `xhat.cs231n.optim`: "sgd", "sgd_momentum", "rmsprop" or "adam".
    optim_config : dict
        What the rule is configured with; every parameter has a copy of its own.
    lr_decay : float
        The learning rate is multiplied by it after every epoch.
    batch_size : int
        Samples per step, drawn with replacement.
    num_epochs : int
        Passes over the training data, in number of samples drawn.
    num_train_samples, num_val_samples : int or None
        The accuracy is measured on so many samples, drawn with replacement if there are more; None for all.
    checkpoint_name : str or None
        Where to write a pickle of model and histories after every epoch: `<name>_epoch_<n>.pkl`. The course's form;
        xhat writes such files and never reads them.
    print_every : int
        Steps between two printed losses.
    verbose : bool
        Whether to print.

    Attributes
    ----------
    loss_history : list of float
        One entry per step.
    train_acc_history, val_acc_history : list of float
        One entry for the first step and one for every epoch.
    best_val_acc, best_params
        The best accuracy on the validation data, and copies of the parameters that had it.
    epoch : int
        Epochs completed.
    optim_configs : dict of str to dict
        The state of the update rule for every parameter.

    Raises
    ------
    ValueError
        If an argument or the update rule is unknown.

    Notes
    -----
    Batches and samples are drawn with `numpy.random.choice` from the global generator. After `train` the model has the
    best parameters; the running statistics of batch norm stay those of the last step. Where no accuracy ever exceeded
    0, the model keeps its last parameters (the course's code leaves it without any).

    Examples
    --------
    >>> import numpy as np
    >>> from xhat.cs231n.classifiers.fc_net import TwoLayerNet
    >>> from xhat.cs231n.solver import Solver
    >>> np.random.seed(0)
    >>> X = np.random.randn(60, 4)
    >>> y = (X[:, 0] > 0).astype(int)
    >>> data = {"X_train": X[:50], "y_train": y[:50], "X_val": X[50:], "y_val": y[50:]}
    >>> model = TwoLayerNet(input_dim=4, hidden_dim=8, num_classes=2, weight_scale=0.1)
    >>> solver = Solver(model, data, optim_config={"learning_rate": 1.0}, batch_size=25, num_epochs=10, verbose=False)
    >>> solver.train()
    >>> len(solver.loss_history), len(solver.val_acc_history), solver.best_val_acc > 0.8
    (20, 11, True)
    """

    def __init__(self, model: Any, data: dict[str, Any], **kwargs: Any) -> None:
        self.model = model
        self.X_train, self.y_train = data["X_train"], data["y_train"]
        self.X_val, self.y_val = data["X_val"], data["y_val"]

        rule = kwargs.pop("update_rule", "sgd")
        self.optim_config: dict[str, Any] = kwargs.pop("optim_config", {})
        self.lr_decay: float = kwargs.pop("lr_decay", 1.0)
        self.batch_size: int = kwargs.pop("batch_size", 100)
        self.num_epochs: int = kwargs.pop("num_epochs", 10)
        self.num_train_samples: int | None = kwargs.pop("num_train_samples", 1000)
        self.num_val_samples: int | None = kwargs.pop("num_val_samples", None)
        self.checkpoint_name: str | None = kwargs.pop("checkpoint_name", None)
        self.print_every: int = kwargs.pop("print_every", 10)
        self.verbose: bool = kwargs.pop("verbose", True)
        if kwargs:
            unknown = ", ".join(f'"{name}"' for name in kwargs)
            raise ValueError(f"Unrecognized arguments {unknown}")
        # a rule of one's own, put into the module, is one too; what the module imports is not
        own = getattr(optim, str(rule), None)
        if not (inspect.isfunction(own) and list(inspect.signature(own).parameters)[:2] == ["w", "dw"]):
            raise ValueError(f'Invalid update_rule "{rule}"')
        self.update_rule: Any = getattr(optim, rule)
        self._reset()

    def _reset(self) -> None:
        """Forget all training."""
        self.epoch = 0
        self.best_val_acc = 0.0
        self.best_params: dict[str, Array] = {}
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []
        self.optim_configs = {name: dict(self.optim_config) for name in self.model.params}

    def _step(self) -> None:
        """Update every parameter once, on a batch that is drawn."""
        drawn = np.random.choice(self.X_train.shape[0], self.batch_size)
        loss, grads = self.model.loss(self.X_train[drawn], self.y_train[drawn])
        self.loss_history.append(loss)
        for name, w in self.model.params.items():
            self.model.params[name], self.optim_configs[name] = self.update_rule(
                w, grads[name], self.optim_configs[name]
            )

    def _save_checkpoint(self) -> None:
        """Write the model and the histories, if a name for the files was given."""
        if self.checkpoint_name is None:
            return
        checkpoint = {
            "model": self.model,
            "update_rule": self.update_rule,
            "lr_decay": self.lr_decay,
            "optim_config": self.optim_config,
            "batch_size": self.batch_size,
            "num_train_samples": self.num_train_samples,
            "num_val_samples": self.num_val_samples,
            "epoch": self.epoch,
            "loss_history": self.loss_history,
            "train_acc_history": self.train_acc_history,
            "val_acc_history": self.val_acc_history,
        }
        filename = f"{self.checkpoint_name}_epoch_{self.epoch}.pkl"
        if self.verbose:
            print(f'Saving checkpoint to "{filename}"')
        with open(filename, "wb") as file:
            pickle.dump(checkpoint, file)

    def check_accuracy(self, X: Array, y: Array, num_samples: int | None = None, batch_size: int = 100) -> float:
        """Return the share of samples whose highest score is the label's.

        Parameters
        ----------
        X, y : array
            Samples and their labels.
        num_samples : int or None
            Measure on so many, drawn with replacement if there are more.
        batch_size : int
            Samples per call of `model.loss`.
        """
        samples, labels = X, y
        if num_samples is not None and len(X) > num_samples:
            drawn = np.random.choice(len(X), num_samples)
            samples, labels = X[drawn], y[drawn]
        batches = (samples[start : start + batch_size] for start in range(0, len(samples), batch_size))
        scores: list[Array] = [self.model.loss(batch) for batch in batches]
        right: Array = np.vstack(scores).argmax(1) == labels
        return float(right.mean())

    def train(self) -> None:
        """Train for `num_epochs`, and leave the best parameters in the model."""
        steps_per_epoch = max(self.X_train.shape[0] // self.batch_size, 1)
        steps = self.num_epochs * steps_per_epoch
        for step in range(1, steps + 1):
            self._step()
            if self.verbose and (step - 1) % self.print_every == 0:
                print(f"(Iteration {step} / {steps}) loss: {self.loss_history[-1]:f}")
            ends_epoch = step % steps_per_epoch == 0
            if ends_epoch:
                self.epoch += 1
                for config in self.optim_configs.values():
                    config["learning_rate"] *= self.lr_decay
            if ends_epoch or step == 1:
                self._judge()
        if self.best_params:
            self.model.params = self.best_params

    def _judge(self) -> None:
        """Measure both accuracies, write a checkpoint, and keep the parameters if they are the best so far."""
        train_acc = self.check_accuracy(self.X_train, self.y_train, num_samples=self.num_train_samples)
        val_acc = self.check_accuracy(self.X_val, self.y_val, num_samples=self.num_val_samples)
        self.train_acc_history.append(train_acc)
        self.val_acc_history.append(val_acc)
        self._save_checkpoint()
        if self.verbose:
            print(f"(Epoch {self.epoch} / {self.num_epochs}) train acc: {train_acc:f}; val_acc: {val_acc:f}")
        if val_acc > self.best_val_acc:
            self.best_val_acc = val_acc
            self.best_params = {name: w.copy() for name, w in self.model.params.items()}
