"""1x1 windows: a matrix product over all pixels, or over those that strides leave."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .dense import Product, emit_gemm
from .subsample import emit_spread, emit_subsample

if TYPE_CHECKING:
    from ..plan.lower import Buffer, Target
    from .correlation import Correlation
    from .dense import Reads

__all__ = [
    "emit_pointwise",
    "emit_spread_product",
    "emit_subsampled",
    "fills_pixels",
    "is_pointwise",
    "skips_pixels",
]


def is_pointwise(c: Correlation, target: Target) -> bool:
    """Whether a 1x1 window takes every pixel once."""
    axes = (c.rows, c.columns)
    return c.groups == 1 and all(
        a.window == 1 and a.in_step == a.out_step == 1 and a.evenly == (0, 1)
        and a.in_size == a.out_size
        for a in axes
    )  # fmt: skip


def emit_pointwise(c: Correlation, target: Target, reads: Reads, y: Buffer) -> None:
    """Emit the product of all pixels with the weights, into y."""
    product = Product(
        c.images * c.rows.out_size * c.columns.out_size,
        c.depth,
        c.filters,
        activation=c.activation,
        transposed=c.transposed,
        a_step=c.x_step,
        y_step=c.y_step,
    )
    emit_gemm(target, product, reads, y)


def skips_pixels(c: Correlation, target: Target) -> bool:
    """A 1x1 window with strides that stays inside the image."""
    return c.groups == 1 and all(
        a.window == 1 and a.evenly == (0, 1) and (a.out_size - 1) * a.in_step < a.in_size
        for a in (c.rows, c.columns)
    )


def emit_subsampled(c: Correlation, target: Target, reads: Reads, y: Buffer) -> None:
    """Emit the copy of the pixels that strides leave, and their product."""
    small = (c.images, *c.y_shape[:2], c.x_channels)
    strides = c.rows.in_step, c.columns.in_step
    x = emit_subsample(target, reads.x, (c.images, *c.x_shape), small, strides, c.x_step)
    dense = c._replace(
        rows=c.rows._replace(in_size=c.rows.out_size, in_step=1),
        columns=c.columns._replace(in_size=c.columns.out_size, in_step=1),
        x_step=None,
    )
    emit_pointwise(dense, target, reads._replace(x=x), y)


def fills_pixels(c: Correlation, target: Target) -> bool:
    """The gradient of such a window: all pixels but those it read are zero."""
    return (
        c.transposed
        and c.groups == 1
        and not c.residual
        and all(
            a.window == 1
            and a.in_step == 1
            and [taps for _, _, taps in a.phases] == [((0, 0),), *[()] * (len(a.phases) - 1)]
            for a in (c.rows, c.columns)
        )
    )


def emit_spread_product(c: Correlation, target: Target, reads: Reads, y: Buffer) -> None:
    """Emit the product of all pixels of dy, and spread it over y."""
    small = (c.images, *c.x_shape[:2], c.y_channels)
    product = Product(math.prod(small[:3]), c.depth, c.filters, transposed=True)
    dense = target.temporary(4 * math.prod(small))
    emit_gemm(target, product, reads, dense)
    strides = c.rows.out_step, c.columns.out_step
    emit_spread(target, dense, y, small, (c.images, *c.y_shape), strides)
