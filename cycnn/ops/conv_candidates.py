"""How a convolution, or its gradient for the data, is computed: one entry per algorithm.

Both are one thing to the kernels, a `Correlation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from . import conv_pointwise, conv_winograd
from .correlation import Correlation
from .dense import (
    ITEM_FLOPS,
    ITEMS,
    NEAR_BYTES,
    TILES_OPTIONS,
    Reads,
    cut,
    distant,
    packs_by_panel,
    streams,
)
from .neighbours import best_count, widen, widen_bias, widen_weights

if TYPE_CHECKING:
    from ..plan.lower import Buffer, Target

__all__ = ["CANDIDATES", "lower_correlation"]


class Candidate(NamedTuple):
    """An algorithm: its name and family (what users ask for), where it applies, and how to emit it.

    ``pays``: whether to take it when users leave the choice; None: wherever it applies.
    """

    name: str
    family: str
    suits: Callable[[Correlation, Target], bool]
    emit: Callable[[Correlation, Target, Reads, Buffer], None]
    pays: Callable[[Correlation, Target], bool] | None = None


def lower_correlation(
    c: Correlation, target: Target, reads: Reads, y: Buffer, algorithm: str = "auto"
) -> None:
    """Emit the first candidate that suits, and pays or is of the family that ``algorithm`` names,

    unless another of those that suit was chosen by measuring.
    """
    algorithm = "direct" if target.exact else algorithm
    suitable = {
        candidate.name: candidate
        for candidate in CANDIDATES
        if algorithm in ("auto", candidate.family) and candidate.suits(c, target)
    }
    first = next(
        name
        for name, candidate in suitable.items()
        if algorithm != "auto" or candidate.pays is None or candidate.pays(c, target)
    )
    problem = (target.purpose, c._replace(images=1), *reads.present, *suitable)
    name = target.choose("algorithm", problem, tuple(suitable), first, same_bits=False)
    suitable[name].emit(c, target, reads, y)


# ---- one window per channel ----------------------------------------------------------------------


def _is_depthwise(c: Correlation, target: Target) -> bool:
    return c.groups > 1 and c.depth == c.filters == 1


DEPTHWISE_BYTES = 2**18  # of x and y in a band: it and the next fit the second-level cache
BAND_OPTIONS = (2, 4, 8, 16, 32)


def _emit_depthwise(c: Correlation, target: Target, reads: Reads, y: Buffer) -> None:
    kernel = target.kernels.conv_depthwise.convolve(
        c.images,
        c.x_channels,
        c.rows,
        c.columns,
        band=target.choose("rows of a band", c, BAND_OPTIONS, _rows_of_band(c)),
        activation=c.activation,
    )
    reads.emit(target, kernel, reads.w, y)


def _rows_of_band(c: Correlation, blocks: int = 1) -> int:
    """Rows of a phase that a band has: an even number, for they are taken in pairs."""
    most = max((count for _, count, _ in c.rows.phases), default=1)
    nbytes = 4 * (math.prod(c.x_shape) + math.prod(c.y_shape)) // most // blocks
    bands = min(ITEMS, c.flops * c.phases / ITEM_FLOPS + 1) / blocks
    rows = min(math.ceil(most / max(bands, 1)), DEPTHWISE_BYTES // max(nbytes, 1))
    return max(2, rows // 2 * 2)


# ---- narrow groups: several in a vector ------------------------------------------------------------


def _is_narrow(c: Correlation, target: Target) -> bool:
    vector = target.kernels.conv_grouped.VECTOR
    return c.groups > 1 and max(c.depth, c.filters) <= vector // 2


def _emit_narrow(c: Correlation, target: Target, reads: Reads, y: Buffer) -> None:
    grouped = target.kernels.conv_grouped
    shape = c.taps, c.x_channels, c.y_channels, c.groups
    step, vectors, nbytes = grouped.pack(*shape, c.transposed)
    packed = reads.pack(target, step, nbytes)
    _emit_bands(c, target, grouped.convolve, reads, packed, y, vectors)


# ---- groups of some vectors, of few channels ---------------------------------------------------------

# Channels of x: with more, a taller tile has enough to sum; of strided windows, which share no pixels, fewer.
WIDE_DEPTH, STRIDED_DEPTH = 96, 24


def _is_wide(c: Correlation, target: Target) -> bool:
    strided = max(c.rows.in_step, c.columns.in_step) > 1
    return c.groups > 1 and c.depth <= (STRIDED_DEPTH if strided else WIDE_DEPTH)


def _emit_wide(c: Correlation, target: Target, reads: Reads, y: Buffer) -> None:
    convolve = target.kernels.conv_grouped_wide.convolve
    packed = reads.pack(target, *c.packing(target, nv=1))
    _emit_bands(c, target, convolve, reads, packed, y, c.groups)


BLOCK_BYTES = 64 * 1024  # of the weights of a block of groups, which stay near while pixels pass


def _emit_bands(
    c: Correlation,
    target: Target,
    convolve: Callable[..., tuple],
    reads: Reads,
    packed: Buffer,
    y: Buffer,
    most_blocks: int,
) -> None:
    blocks = min(most_blocks, math.ceil(packed.nbytes / BLOCK_BYTES))
    kernel = convolve(
        c.images,
        c.x_channels,
        c.y_channels,
        c.rows,
        c.columns,
        groups=c.groups,
        blocks=blocks,
        band=target.choose("rows of a band", c, BAND_OPTIONS, _rows_of_band(c, blocks)),
        activation=c.activation,
    )
    reads.emit(target, kernel, packed, y)


# ---- a gradient for few channels: one product over all taps, then sums of its columns --------------

# Pixels of dy from an output's first tap to its last, at most so many more than the window has.
SCATTER_REACH = 16


def _is_worth_scattering(c: Correlation, target: Target) -> bool:
    """Whether vectors are so much fuller in the product that the sums are paid for.

    It pads all that lies between the first tap and the last.
    """
    vector, pixels = target.kernels.pack.VECTOR, c.rows.in_size * c.columns.in_size
    product = pixels * c.depth * math.ceil(c.taps * c.filters / vector)
    sums = 2 * pixels * c.taps * math.ceil(c.filters / vector)
    reach = max(c.rows.reach - c.rows.window, c.columns.reach - c.columns.window)
    suits = c.transposed and c.groups == 1 and not c.residual and reach <= SCATTER_REACH
    return suits and product + sums < 0.7 * c.vectors(vector)


def _emit_scatter(c: Correlation, target: Target, reads: Reads, y: Buffer) -> None:
    pack = target.kernels.pack
    columns = c.taps * c.filters
    nv = pack.panel_vectors(columns)
    packing = pack.columns((1, columns, c.depth), nv)
    packed = reads.pack(target, packing, pack.panel_bytes(columns, c.depth, nv))
    kernel = target.kernels.conv_scatter.spread(
        c.images,
        c.y_channels,
        c.x_channels,
        c.rows,
        c.columns,
        nv,
        bands=max(1, c.rows.out_size // (8 * c.rows.window)),
    )
    target.emit(kernel, [reads.x, packed], [y])


# ---- few channels: rows of the window in one piece -----------------------------------------------

THIN_CHANNELS = 32
THIN_STRIDE = 32  # most: what lies between windows is padded in vain,
THIN_DILATION = 8  # as are rows between taps
THIN_BYTES = 32768  # of padded rows, so that they stay in the first-level cache
THIN_FLOPS = 1e6  # of an item, at least
THIN_OPTIONS = (1, 2, 4, 8, 16)  # rows


def _is_thin(c: Correlation, target: Target) -> bool:
    rows, columns = c.rows.evenly, c.columns.evenly
    return (
        c.groups == 1
        and c.x_channels <= THIN_CHANNELS
        and max(c.rows.in_step, c.columns.in_step) <= THIN_STRIDE
        and rows is not None
        and rows[1] <= THIN_DILATION
        and columns is not None
        and columns[1] == 1
    )


def _emit_thin(c: Correlation, target: Target, reads: Reads, y: Buffer) -> None:
    nv = target.kernels.pack.panel_vectors(c.filters)
    top, dilation = c.rows.evenly
    left, _ = c.columns.evenly
    row_bytes = 4 * c.x_channels * (c.columns.out_size * c.columns.in_step + c.columns.window)
    fitting = max(1, THIN_BYTES // (row_bytes * c.rows.in_step))
    worth = math.ceil(c.rows.out_size * THIN_FLOPS / max(c.flops, 1))
    rows = max(1, min(c.rows.out_size, max(worth, min(fitting, 8))))
    rows = target.choose("rows of a block", c, THIN_OPTIONS, rows)
    kernel = target.kernels.conv_thin.convolve(
        c.images,
        c.x_shape,
        c.y_shape,
        (c.rows.window, c.columns.window),
        nv,
        row_step=c.rows.in_step,
        row_dilation=dilation,
        top=top,
        column_step=c.columns.in_step,
        left=left,
        row_blocks=math.ceil(c.rows.out_size / rows),
        activation=c.activation,
        stream=streams(target, y),
        distant=distant(reads.x, y),
        x_step=c.x_step,
        y_step=c.y_step,
    )
    packed = reads.pack(target, *c.packing(target, nv, reverse=c.transposed))
    reads.emit(target, kernel, packed, y)


def _has_empty_lanes(c: Correlation, target: Target) -> bool:
    return _is_thin(c, target) and best_count(c, target.kernels.pack.VECTOR) > 1


def _emit_neighbours(c: Correlation, target: Target, reads: Reads, y: Buffer) -> None:
    count = best_count(c, target.kernels.pack.VECTOR)
    w = widen_weights(c, count, target, reads.w)
    b = widen_bias(c, count, target, reads.b)
    _emit_thin(widen(c, count), target, reads._replace(w=w, b=b), y)


# ---- everything else: a table of pointers --------------------------------------------------------


# Deep layers have small images, where tiles that stay in a row leave out much padding: tiles are then
# tall and narrow, where those hold more sums. The choice is by channels alone, so that images of all
# sizes share packed weights.
DEEP = 512
TILES, TALL_TILES = 32, 16  # in a block of pixels, whose table of pointers is to stay near
TALL = 8  # rows of a tile; beyond, it is a tall one


def _emit_direct(c: Correlation, target: Target, reads: Reads, y: Buffer) -> None:
    pack = target.kernels.pack
    nv = pack.panel_vectors(c.filters, tall=c.depth >= DEEP)
    height, panels = pack.tile_height(nv), math.ceil(c.filters / (nv * pack.VECTOR))
    work = c.flops / c.groups
    problem = (c, *reads.present)
    packing, nbytes = c.packing(target, nv)
    few = 4 * c.images * math.prod(c.x_shape) <= nbytes  # every panel passes over all of x
    by_panel = c.groups == 1 and few and packs_by_panel(target, reads.w, panels, nbytes)
    tiles = TALL_TILES if height > TALL else TILES
    tiles = target.choose("tiles", problem, TILES_OPTIONS, tiles)
    pixel_blocks, panel_blocks = cut(c.pixels, panels, height, work, tiles)
    panels_first = target.choose(
        "panels first",
        problem,
        (False, True) if c.groups * panel_blocks > 1 and not by_panel else (),
        _prefer_panels(c),
    )
    kernel = target.kernels.conv_direct.convolve(
        c.images,
        c.x_channels,
        c.y_channels,
        c.rows,
        c.columns,
        nv,
        groups=c.groups,
        pixel_blocks=pixel_blocks,
        panel_blocks=panels if by_panel else panel_blocks,
        whole_rows=_cut_by_rows(c, nv, height),
        panels_first=panels_first or by_panel,
        panels_ahead=nbytes > NEAR_BYTES and not by_panel,
        distant=distant(reads.x, y),
        activation=c.activation,
        x_step=c.x_step,
        y_step=c.y_step,
    )
    packed = reads.pack(target, packing, nbytes, panels if by_panel else 0)
    reads.emit(target, kernel, packed, y)


def _cut_by_rows(c: Correlation, nv: int, height: int) -> bool:
    """Whether tiles that stay in a row are tall enough: nearly full, or accumulators for every cycle
    of a multiply-add's latency and four rows to each load of the panel."""
    width = max((count for _, count, _ in c.columns.phases), default=1)
    tiles = math.ceil(width / height)
    shortest = width // tiles
    return width >= 0.9 * height * tiles or (shortest >= 4 and shortest * nv >= 14)


def _prefer_panels(c: Correlation) -> bool:
    """Whether to stay with a block of panels while the images pass: where the weights outweigh the
    second-level cache and an image."""
    weights = 4 * c.taps * c.depth * c.y_channels
    return weights > 2**19 and weights > 4 * math.prod(c.x_shape)


CANDIDATES = (
    *(
        Candidate(
            f"winograd{m}",
            f"winograd{m}",
            conv_winograd.applies,
            partial(conv_winograd.emit, m),
            partial(conv_winograd.pays, m),
        )
        for m in conv_winograd.SIZES
    ),
    Candidate("pointwise", "direct", conv_pointwise.is_pointwise, conv_pointwise.emit_pointwise),
    Candidate("subsampled", "direct", conv_pointwise.skips_pixels, conv_pointwise.emit_subsampled),
    Candidate("spread", "direct", conv_pointwise.fills_pixels, conv_pointwise.emit_spread_product),
    Candidate("depthwise", "direct", _is_depthwise, _emit_depthwise),
    Candidate("narrow groups", "direct", _is_narrow, _emit_narrow),
    Candidate("scatter", "direct", _is_worth_scattering, _emit_scatter),
    Candidate("neighbours", "neighbours", _has_empty_lanes, _emit_neighbours),
    Candidate("thin", "direct", _is_thin, _emit_thin),
    Candidate("wide groups", "direct", _is_wide, _emit_wide),
    Candidate("direct", "direct", lambda c, target: True, _emit_direct),
)
