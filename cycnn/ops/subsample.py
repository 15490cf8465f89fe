"""1x1 windows that skip pixels: those they read are copied together, and what remains is a product.

Read where they are, pixels that are a multiple of 4 KiB apart would share the few lines of one set
of the first-level cache. For the gradient of the data the product comes first, and is spread out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .base import Cost

if TYPE_CHECKING:
    from ..plan.lower import Buffer, Target

__all__ = ["emit_spread", "emit_subsample"]


def emit_subsample(
    target: Target,
    x: Buffer,
    large: tuple[int, ...],
    small: tuple[int, ...],
    strides: tuple[int, int],
    x_step: int | None = None,
) -> Buffer:
    """Emit the copy of every ``strides``-th pixel of x, of shape ``large``, to shape ``small``."""
    nbytes = 4 * math.prod(small)
    y = target.temporary(nbytes)
    kernel = target.kernels.strided.subsample(large, small, strides, x_step)
    target.emit(kernel, [x], [y], cost=Cost(0, 2 * nbytes))
    return y


def emit_spread(
    target: Target,
    x: Buffer,
    y: Buffer,
    small: tuple[int, ...],
    large: tuple[int, ...],
    strides: tuple[int, int],
) -> None:
    """Emit the reverse: x, of shape ``small``, becomes every ``strides``-th pixel of y, the others zero."""
    kernel = target.kernels.strided.spread(small, large, strides)
    target.emit(kernel, [x], [y], cost=Cost(0, x.nbytes + y.nbytes))
