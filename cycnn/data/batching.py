"""Mini-batches by slicing arrays that are in memory: no worker processes, no queue."""

from __future__ import annotations

import operator
from collections.abc import Iterator

import numpy as np

from ..errors import ArgumentError, ShapeError

__all__ = ["batches"]


def batches(
    x: np.ndarray,
    y: np.ndarray,
    *,
    batch_size: int = 32,
    shuffle: int | np.random.Generator | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each mini-batch ``(x, y)`` in turn, C-contiguous; the last one may be short.

    ``shuffle=None`` keeps the order and gives views of contiguous arrays. A seed or a generator
    takes one permutation of the samples; pass one generator to all epochs, so that each has an
    order of its own. Raises `ShapeError` where x and y differ in length, `ArgumentError` for another
    ``batch_size`` or ``shuffle``.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ShapeError(
            "`x` and `y` must hold equally many samples. "
            f"Received: x.shape={x.shape}, y.shape={y.shape}."
        )
    if (
        not hasattr(batch_size, "__index__")
        or isinstance(batch_size, bool)
        or operator.index(batch_size) < 1
    ):
        raise ArgumentError(
            f"`batch_size` must be an integer of at least 1. Received: batch_size={batch_size!r}."
        )
    order = None if shuffle is None else _generator(shuffle).permutation(len(x))
    return _slices(x, y, operator.index(batch_size), order)


def _generator(shuffle):
    """Its own, or that of a seed; a bool is a misunderstanding: False would be the seed 0."""
    if isinstance(shuffle, np.random.Generator):
        return shuffle
    if (
        not hasattr(shuffle, "__index__")
        or isinstance(shuffle, bool)
        or operator.index(shuffle) < 0
    ):
        raise ArgumentError(
            "`shuffle` must be None, a seed of at least 0 or a numpy.random.Generator. "
            f"Received: shuffle={shuffle!r}."
        )
    return np.random.default_rng(operator.index(shuffle))


def _slices(x, y, batch_size, order):
    for begin in range(0, len(x), batch_size):
        part = slice(begin, begin + batch_size)
        rows = part if order is None else order[part]
        yield np.ascontiguousarray(x[rows]), np.ascontiguousarray(y[rows])
