"""Few filters leave most lanes of a vector empty: neighbouring pixels become filters of a wider window.

``count`` pixels of a row with F filters each are one pixel with ``count * F`` filters, the row's memory is
the same. Its window is wider, and each of the neighbours' filters is zero where it does not look:

    w'[r, s + j * stride, c, j * F + k] = w[r, s, c, k]      for neighbour j < count, zero elsewhere

Two pixels of a 5x5 window with 6 filters fill 12 of 16 lanes instead of 6, for one tap in six more. What is
not finite may spread to all ``count`` pixels: it meets those zeros.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .base import Cost

if TYPE_CHECKING:
    from ..plan.lower import Buffer, Target
    from .correlation import Correlation

__all__ = ["best_count", "widen", "widen_bias", "widen_weights"]

COUNTS = range(1, 9)
WORTH = 0.8  # of the multiply-adds, at most


def best_count(c: Correlation, vector: int) -> int:
    """How many pixels to take together for the fewest multiply-adds of a vector; 1 where none pays."""
    if c.transposed or c.y_step not in (None, c.filters):
        return 1
    counts = [n for n in COUNTS if c.columns.out_size % n == 0]
    best = min(counts, key=lambda n: _work(c, vector, n))
    return best if _work(c, vector, best) < WORTH * _work(c, vector, 1) else 1


def _work(c: Correlation, vector: int, count: int) -> float:
    """Vectors of multiply-adds a pixel, in a row of the window."""
    return _window(c, count) * math.ceil(count * c.filters / vector) / count


def _window(c: Correlation, count: int) -> int:
    return c.columns.window + (count - 1) * c.columns.in_step


def widen(c: Correlation, count: int) -> Correlation:
    """The correlation with ``count`` neighbours taken together; x and y are the same memory."""
    left, _ = c.columns.evenly
    window, positions = _window(c, count), c.columns.out_size // count
    taps = tuple((s, s + left) for s in range(window))
    columns = c.columns._replace(
        out_size=positions,
        in_step=count * c.columns.in_step,
        window=window,
        phases=((0, positions, taps),),
    )
    return c._replace(columns=columns, y_channels=count * c.filters, y_step=None)


def widen_weights(c: Correlation, count: int, target: Target, w: Buffer) -> Buffer:
    """Emit w of the window that `widen` makes of ``c``."""
    shape = (c.rows.window, c.columns.window, c.depth, c.filters)
    return _emit_widen(target, w, shape, count, c.columns.in_step)


def widen_bias(c: Correlation, count: int, target: Target, b: Buffer | None) -> Buffer | None:
    """Emit b, ``count`` times one after the other."""
    return None if b is None else _emit_widen(target, b, (1, 1, 1, c.filters), count, 0)


def _emit_widen(
    target: Target, w: Buffer, shape: tuple[int, int, int, int], count: int, stride: int
) -> Buffer:
    kh, kw, depth, filters = shape
    nbytes = 4 * kh * (kw + (count - 1) * stride) * depth * count * filters
    widened = target.temporary(nbytes)
    step = target.kernels.pack.widen(shape, count, stride)
    target.emit(step, [w], [widened], cost=Cost(0, nbytes))
    return widened
