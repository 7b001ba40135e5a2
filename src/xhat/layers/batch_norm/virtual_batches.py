"""Virtual ("ghost") batches: a large batch is normalized in small parts, whose noisy statistics regularize.

Every part is normalized by itself, as if it were the batch; gamma and beta serve them all, so their gradients add up.

Source: Hoffer, Hubara, Soudry 2017, "Train longer, generalize better", arXiv:1705.08741, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from xhat.checks import Array
from xhat.layers.batch_norm.reference import Cache, Grads, batch_axis, reference_backward, reference_forward


class VirtualCache(NamedTuple):
    """What backward needs when virtual batches had statistics of their own."""

    parts: tuple[Cache, ...]  # one per virtual batch, in order
    channel_axis: int


def reference_virtual(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    channel_axis: int = 1,
    weights: Array | None = None,
    *,
    virtual_batch: int,
) -> tuple[Array, VirtualCache]:
    """Normalize every virtual batch by itself."""
    ys: list[Array] = []
    caches: list[Cache] = []
    for part, samples in virtual_batches(x.shape, channel_axis, virtual_batch):
        part_weights = None if weights is None else weights[samples]
        y, cache = reference_forward(x[part], gamma, beta, eps, channel_axis, part_weights)
        ys.append(y)
        caches.append(cache)
    return np.concatenate(ys, batch_axis(x.ndim, channel_axis)), VirtualCache(tuple(caches), channel_axis)


def reference_virtual_backward(dy: Array, cache: VirtualCache) -> Grads:
    """Go back through every virtual batch by itself, and add up what gamma and beta did in each."""
    axis = batch_axis(dy.ndim, cache.channel_axis)
    ends = np.cumsum([part.x.shape[axis] for part in cache.parts])
    results = [
        reference_backward(part_dy, part)
        for part_dy, part in zip(np.split(dy, ends[:-1], axis), cache.parts, strict=True)
    ]
    return Grads(
        np.concatenate([grads.dx for grads in results], axis),
        total([grads.dgamma for grads in results]),
        total([grads.dbeta for grads in results]),
    )


def virtual_batches(shape: tuple[int, ...], channel_axis: int, size: int) -> Iterator[tuple[tuple[slice, ...], slice]]:
    """Yield for each virtual batch where it lies in x, and which samples it has; the last one takes in a short rest."""
    axis = batch_axis(len(shape), channel_axis)
    count = shape[axis]
    starts = range(0, max(1, count - size + 1), size)
    for start in starts:
        samples = slice(start, count if start == starts[-1] else start + size)
        yield (*(slice(None),) * axis, samples), samples


def total(gradients: Sequence[Array | None]) -> Array | None:
    """Return the sum of the parts of one gradient; None if there is none."""
    present = [gradient for gradient in gradients if gradient is not None]
    return np.sum(present, 0) if present else None
