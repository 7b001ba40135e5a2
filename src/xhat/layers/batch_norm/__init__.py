"""Batch normalization: give every channel mean 0 and variance 1 over the batch and all positions.

    mean  = average of x over batch and positions    x_hat = (x - mean) * rstd
    rstd  = 1 / sqrt(variance + eps)                 y     = x_hat * gamma + beta

Statistics of the batch and fixed statistics are different functions with different gradients:

    forward   statistics come from x, so x moves them:   dx = gamma * rstd * (dy - mean(dy) - x_hat * mean(dy * x_hat))
    apply     statistics are constants:                  dx = gamma * rstd * dy

In both, dgamma = sum(dy * x_hat) and dbeta = sum(dy) over batch and positions.

Source: Ioffe, Szegedy 2015, "Batch normalization", arXiv:1502.03167, algorithms 1 and 2; the backward pass in closed
form follows from the unnumbered equations of its section 3. Derivation: docs/batch_norm.md

In reading order: `reference` is the page of the mathematics, with weights; `virtual_batches` and `renormalization`
are two more on top of it; `arguments` judges what comes in, `compute` lets a kernel or the reference compute, `pair`
makes the public functions of these; `running_statistics`, `folding` and `nine_steps` stand beside; `layer` puts it
into a network and says where it must be right. (No file has the name of a public function: in a package one would
hide the other.)
"""

from xhat.layers.batch_norm.folding import fold
from xhat.layers.batch_norm.layer import BatchNorm
from xhat.layers.batch_norm.nine_steps import GRAPH, StepGradients, Steps, steps
from xhat.layers.batch_norm.pair import FIXED, OP, RENORM, VIRTUAL, apply, backward, forward, moments, renorm, sums
from xhat.layers.batch_norm.reference import (
    Cache,
    FixedCache,
    Grads,
    Moments,
    Sums,
    reference_apply,
    reference_apply_backward,
    reference_backward,
    reference_forward,
)
from xhat.layers.batch_norm.renormalization import RenormCache
from xhat.layers.batch_norm.running_statistics import RunningStatistics
from xhat.layers.batch_norm.virtual_batches import VirtualCache

__all__ = [
    "FIXED",
    "GRAPH",
    "OP",
    "RENORM",
    "VIRTUAL",
    "BatchNorm",
    "Cache",
    "FixedCache",
    "Grads",
    "Moments",
    "RenormCache",
    "RunningStatistics",
    "StepGradients",
    "Steps",
    "Sums",
    "VirtualCache",
    "apply",
    "backward",
    "fold",
    "forward",
    "moments",
    "reference_apply",
    "reference_apply_backward",
    "reference_backward",
    "reference_forward",
    "renorm",
    "steps",
    "sums",
]

for _kind in (
    BatchNorm,
    Cache,
    FixedCache,
    Grads,
    Moments,
    RenormCache,
    RunningStatistics,
    StepGradients,
    Steps,
    Sums,
    VirtualCache,
):
    _kind.__module__ = __name__  # messages and pickles name the layer, wherever in it a class is written
