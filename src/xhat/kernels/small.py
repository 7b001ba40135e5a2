"""The norms on small arrays, where judging the arguments costs more than the work.

One native call judges what it is given, allocates and computes. It answers None wherever anything is unusual: another
type, layout, size or setting, entries that do not fit each other, data out of range. Nothing has been done then, and
the layer goes its own way, which judges again and has the words for it. Where both serve, their bits are the same.

Usual are plain NumPy arrays of native float32 or float64, C-contiguous and aligned; an x of up to 256 KiB; gamma and
beta of either type, or None; an eps that is a float; axes and counts that are integers.

A forward pass returns y and what to save: x, gamma, beta, mean, mean_low, var, rstd, and then what its loop was told,
axes counted from the front. A backward pass takes dy and the saved entries, however many there are, and returns dx,
dgamma and dbeta, the last two None for a parameter that is None. Every entry is judged again.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from xhat import kernels

MOST_BYTES = 1 << 18
"""The size of the largest x that is served; csrc/bind_small.cpp has the same."""

Normalized: TypeAlias = tuple[Any, tuple[Any, ...]]
Gradients: TypeAlias = tuple[Any, Any, Any]


def channels_forward(x: object, gamma: object, beta: object, eps: object, axis: object) -> Normalized | None:
    """Normalize each channel: all that has one index along `axis`.

    Parameters
    ----------
    x, gamma, beta, eps, axis : object
        gamma and beta have the shape (channels,).

    Returns
    -------
    tuple or None
        y, and what to save: the common entries, the count of values per channel, the axis, and None for weights.
    """
    if kernels.variant() == "reference":
        return None
    return kernels.native.small_channels_forward(x, gamma, beta, eps, axis)


def channels_backward(dy: object, *saved: object) -> Gradients | None:
    """Return the gradients of `channels_forward`.

    Parameters
    ----------
    dy, *saved : object
        The gradient of y, and what was saved.

    Returns
    -------
    tuple or None
        dx, dgamma, dbeta.
    """
    return None if kernels.variant() == "reference" else kernels.native.small_channels_backward(dy, *saved)


def rows_forward(
    x: object, gamma: object, beta: object, eps: object, axis: object, *, centred: bool = True
) -> Normalized | None:
    """Normalize each row: what stands behind the first axes.

    Parameters
    ----------
    x, gamma, beta, eps, axis : object
        The axis is the last one, or a tuple of the last ones in order; gamma and beta have their shape.
    centred : bool
        Whether the mean is taken off.

    Returns
    -------
    tuple or None
        y, and what to save: the common entries, statistics with axes of size 1, and the axes as a tuple.
    """
    if kernels.variant() == "reference":
        return None
    return kernels.native.small_rows_forward(x, gamma, beta, eps, axis, centred)


def rows_backward(dy: object, *saved: object, centred: bool = True) -> Gradients | None:
    """Return the gradients of `rows_forward`.

    Parameters
    ----------
    dy, *saved : object
        The gradient of y, and what was saved; None for mean and mean_low if it was not centred.
    centred : bool
        As in `rows_forward`.

    Returns
    -------
    tuple or None
        dx, dgamma, dbeta.
    """
    return None if kernels.variant() == "reference" else kernels.native.small_rows_backward(dy, centred, *saved)


def groups_forward(
    x: object, gamma: object, beta: object, eps: object, groups: object, axis: object
) -> Normalized | None:
    """Normalize each group of channels of each sample.

    Parameters
    ----------
    x, gamma, beta, eps, groups, axis : object
        The axis of the channels is 1; gamma and beta have the shape (channels,).

    Returns
    -------
    tuple or None
        y, and what to save: the common entries, statistics (samples, groups), the number of groups, and the axis.
    """
    if kernels.variant() == "reference":
        return None
    return kernels.native.small_groups_forward(x, gamma, beta, eps, groups, axis)


def groups_backward(dy: object, *saved: object) -> Gradients | None:
    """Return the gradients of `groups_forward`.

    Parameters
    ----------
    dy, *saved : object
        The gradient of y, and what was saved.

    Returns
    -------
    tuple or None
        dx, dgamma, dbeta.
    """
    return None if kernels.variant() == "reference" else kernels.native.small_groups_backward(dy, *saved)


def instances_forward(x: object, gamma: object, beta: object, eps: object, axis: object) -> Normalized | None:
    """Normalize each channel of each sample.

    Parameters
    ----------
    x, gamma, beta, eps, axis : object
        The axis of the channels is 1; gamma and beta have the shape (channels,).

    Returns
    -------
    tuple or None
        y, and what to save: the common entries, statistics (samples, channels), and the axis.
    """
    if kernels.variant() == "reference":
        return None
    return kernels.native.small_instances_forward(x, gamma, beta, eps, axis)


def instances_backward(dy: object, *saved: object) -> Gradients | None:
    """Return the gradients of `instances_forward`.

    Parameters
    ----------
    dy, *saved : object
        The gradient of y, and what was saved.

    Returns
    -------
    tuple or None
        dx, dgamma, dbeta.
    """
    return None if kernels.variant() == "reference" else kernels.native.small_instances_backward(dy, *saved)
