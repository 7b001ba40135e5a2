"""Training: the loop, the optimizers, schedules of the learning rate, and the files that networks are kept in."""

from xhat.training import schedules
from xhat.training.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Momentum, Nesterov, Optimizer, RMSProp
from xhat.training.trainer import Epoch, History, Progress, Trainer

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "Epoch",
    "History",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "Progress",
    "RMSProp",
    "Trainer",
    "schedules",
]
