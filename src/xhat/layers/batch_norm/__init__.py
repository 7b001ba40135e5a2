"""Batch normalization: give every channel mean 0 and variance 1 over the batch and all positions.

    mean  = average of x over batch and positions    x_hat = (x - mean) * rstd
    rstd  = 1 / sqrt(variance + eps)                 y     = x_hat * gamma + beta

Statistics of the batch and fixed statistics are different functions with different gradients:

    forward   statistics come from x, so x moves them:   dx = gamma * rstd * (dy - mean(dy) - x_hat * mean(dy * x_hat))
    apply     statistics are constants:                  dx = gamma * rstd * dy

In both, dgamma = sum(dy * x_hat) and dbeta = sum(dy) over batch and positions.

Source: Ioffe, Szegedy 2015, "Batch normalization", arXiv:1502.03167, algorithms 1 and 2; the backward pass in closed
form follows from the unnumbered equations of its section 3. Derivation: docs/batch_norm.md
"""

from xhat.layers.batch_norm.correction import RenormCache
from xhat.layers.batch_norm.folding import fold
from xhat.layers.batch_norm.graph import GRAPH, StepGradients, Steps, steps
from xhat.layers.batch_norm.layer import BatchNorm
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
from xhat.layers.batch_norm.running import RunningStatistics
from xhat.layers.batch_norm.virtual import VirtualCache

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
    _kind.__module__ = __name__  # the rooms inside are nobody's business: messages and pickles name the layer
