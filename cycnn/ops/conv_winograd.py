"""Winograd convolution F(m x m, 3 x 3): where it applies, what it costs, and how it is emitted.

(m + 2)^2 multiply-adds a tile take the place of 9 m^2, with stride 2 (2m + 1)^2 of them, at the price of
transforming images and weights: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks",
arXiv:1509.09308.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from .base import Cost
from .dense import NEAR_BYTES, ByPanel, packs_by_panel

if TYPE_CHECKING:
    from ..plan.lower import Buffer, Target
    from .correlation import Correlation
    from .dense import Reads

__all__ = ["applies", "emit", "pays", "tiles_of"]

SIZES = (2, 4)  # m

# What a layer is assumed to run on, so that the choice does not depend on the batch.
IMAGES = {"latency": 1, "throughput": 16}

PRODUCT = 8  # multiply-adds of a vector to begin and end a tile of a product, a row and point


class _Prices(NamedTuple):
    """Costs in multiply-adds of a vector, measured on Zen 4, those of stride 1 on Zen 5 too; of packing on
    an Intel Xeon, which multiplies twice as fast and takes 25, and a Zen 4, which takes 5."""

    transform: dict[int, int]  # by m: a vector of channels of a tile, in and out together
    near: int  # a cache line of weights, from a cache
    far: int  # or from memory
    hidden: bool  # whether lines are read behind products, or in time of their own
    pack: int  # to make a line
    gain: float  # over direct convolution, to be worth it


PRICES = {  # by stride
    1: _Prices({2: 250, 4: 700}, near=4, far=11, hidden=True, pack=8, gain=1),
    2: _Prices({2: 250, 4: 900}, near=2, far=11, hidden=False, pack=40, gain=1.1),
}
FAR = 2**24  # bytes
THIN = 32  # channels; below, direct convolution reaches 0.8 of the peak, else 0.95
WORTH = 2**21  # flops of an image; below, nothing is to be gained

# How tiles of the image are grouped; no bits depend on it.
BLOCK_TILES = 12  # about, of a block that one thread takes from pixels to pixels
BLOCK_OPTIONS = (1, 2, 4, 8)  # that many times the height of a tile of products
# most bytes of one, by stride: it stays in the second-level cache, or nearly so
BLOCK_BYTES = {1: 5 * 2**17, 2: 5 * 2**18}
# The same where weights, which every block reads, take more bytes than that cache has.
LARGE_WEIGHTS = 2**22
LARGE_BLOCK_TILES = 28
LARGE_BLOCK_BYTES = {1: 9 * 2**17, 2: 10 * 2**18}
BLOCKS = 16  # at least, or else it is done in two steps
STEP_TILES = 64  # most, of a block of the second step
STEP_OPTIONS = (32, 64, 128)
STEP_ITEMS = 32  # wanted there
STEP_FEWEST = 16  # tiles of a block of the second step, for each block reads all weights again
STEP_FEWEST_OPTIONS = (8, 16)  # many threads may prefer more blocks
STEP_BYTES = 2**23  # of transformed images that pass from one step to the other
# Channels from which panels are narrow if tall tiles hold more sums, for images are small; and from which
# wide ones are a tenth faster (on an Intel Xeon) where neither few tiles nor packing in every call ask for
# many panels.
DEEP, DEEPEST = 128, 512


def applies(c: Correlation, target: Target) -> bool:
    """Whether the window is 3x3 with groups 1, and strides of 1 or, forward only and undilated, of 2.

    Strides along an axis of a single output count for no more than its image has (`step_between`).
    """
    return (
        c.groups == 1
        and c.rows.window == c.columns.window == 3
        and c.rows.in_step == c.columns.in_step <= 2
        and all(a.evenly and 1 in (a.in_step, a.evenly[1]) for a in (c.rows, c.columns))
    )


def pays(m: int, c: Correlation, target: Target) -> bool:
    """Whether tiles of m x m cost less than the other size and than direct convolution.

    It depends on the layer and on ``target.purpose``, not on the batch: a sample has the same result in
    any.
    """
    if not applies(c, target):
        return False
    images, vector = IMAGES[target.purpose], target.kernels.pack.VECTOR
    direct = images * c.vectors(vector) / (0.8 if c.depth <= THIN else 0.95)
    costs = {size: _cost(size, c, images, vector, target.purpose) for size in SIZES}
    worth = c.flops >= WORTH and costs[m] * PRICES[c.rows.in_step].gain < direct
    return worth and costs[m] == min(costs.values())


def tiles_of(size: tuple[int, ...], dilation: tuple[int, ...], m: int) -> int:
    """Tiles of m x m in an image of that size: in each of its phases as many as the largest takes."""
    return math.prod(
        min(d, s) * math.ceil(math.ceil(s / d) / m) for s, d in zip(size, dilation, strict=True)
    )


def _points(m: int, c: Correlation) -> int:
    """Products of a tile; with stride 2 some have the same weights."""
    return ((m - 1) * c.rows.in_step + 3) ** 2


def _tiles(m: int, c: Correlation) -> int:
    """Of an image."""
    size, dilation = zip(*((a.out_size, a.evenly[1]) for a in (c.rows, c.columns)), strict=True)
    return tiles_of(size, dilation, m)


def _cost(m: int, c: Correlation, images: int, vector: int, purpose: str) -> float:
    tiles, prices = images * _tiles(m, c), PRICES[c.rows.in_step]
    into, out = math.ceil(c.depth / vector), math.ceil(c.filters / vector)
    lines = (m + 2) ** 2 * c.depth * math.ceil(c.filters / 16)
    live = c.transposed or purpose == "throughput"  # others are packed once, and then far away
    far = 64 * lines > FAR and not live
    products = _points(m, c) * tiles * (c.depth + PRODUCT) * out
    read = lines * math.ceil(tiles / STEP_TILES) * (prices.far if far else prices.near)
    busy = max(products, read) if prices.hidden else products + read
    return busy + lines * prices.pack * live + prices.transform[m] * tiles * (into + out) / 2


class _Work(NamedTuple):
    """A correlation in tiles of m x m, and the kernels for it."""

    m: int
    c: Correlation
    target: Target
    nv: int

    @property
    def tiles(self) -> int:
        return self.c.images * _tiles(self.m, self.c)

    @property
    def panels(self) -> int:
        return math.ceil(self.c.filters / (self.nv * self.target.kernels.pack.VECTOR))

    @property
    def panel_bytes(self) -> int:
        pack = self.target.kernels.pack_winograd
        return pack.panel_bytes(self.m, self.c.depth, self.c.filters, self.nv)

    @property
    def sends_panels(self) -> bool:
        """Whether weights, too large for the nearer caches, are sent for before their turn comes."""
        return self.panel_bytes > NEAR_BYTES

    def block(self, height: int) -> tuple[int, bool]:
        """Tiles of a block of `convolve`, and whether their points fit the second-level cache."""
        large = self.panel_bytes > LARGE_WEIGHTS
        block = height * max(1, (LARGE_BLOCK_TILES if large else BLOCK_TILES) // height)
        limit = (LARGE_BLOCK_BYTES if large else BLOCK_BYTES)[self.c.rows.in_step]
        return block, self.transformed_bytes(block, block) <= limit

    def packing(self) -> tuple[tuple, int]:
        """The kernel that transforms the weights, and how many bytes that makes; neither depends on the
        size of an image, so that plans share them."""
        c, pack = self.c, self.target.kernels.pack_winograd
        if c.transposed:
            step = pack.columns(self.m, c.depth, c.filters, self.nv)
        else:
            step = pack.rows(self.m, c.rows.in_step, c.depth, c.filters, self.nv)
        return step, self.panel_bytes

    def transformed_bytes(self, tiles: int, block: int) -> int:
        kernel = self.target.kernels.conv_winograd
        return kernel.transformed_bytes(self.m, self.c.rows.in_step, self.c.depth, tiles, block)

    def kernel(self, name: str, first: int, last: int, block: int, **form: object) -> tuple:
        """One of `conv_winograd`, for some of the tiles."""
        c = self.c
        make = getattr(self.target.kernels.conv_winograd, name)
        shapes = (c.images, *c.x_shape), (c.images, *c.y_shape)
        origin, dilation = zip(c.rows.evenly, c.columns.evenly, strict=True)
        tiles = first, last
        return make(
            self.m,
            c.rows.in_step,
            *shapes,
            (c.x_step, c.y_step),
            origin,
            dilation,
            tiles=tiles,
            block=block,
            nv=self.nv,
            **form,
        )


def emit(m: int, c: Correlation, target: Target, reads: Reads, y: Buffer) -> None:
    """Emit blocks that go from pixels to pixels, or two steps where those are few or large."""
    pack = target.kernels.pack
    many = target.purpose == "latency" or target.is_live(reads.w)
    nv = pack.panel_vectors(c.filters, tall=c.depth >= DEEP and (c.depth < DEEPEST or many))
    work = _Work(m, c, target, nv)
    height = pack.tile_height(nv)
    block, fits = work.block(height)
    problem = (m, c, *reads.present)
    steps = 1 if fits and work.tiles > block * (BLOCKS - 1) else 2
    steps = target.choose("steps", problem, (1, 2), steps)
    if steps == 1:
        options = tuple(height * n for n in BLOCK_OPTIONS)
        block = target.choose("tiles", problem, options, block)
        form = {"activation": c.activation, "panels_ahead": work.sends_panels}
        kernel = work.kernel("convolve", 0, work.tiles, block, **form)
        reads.emit(target, kernel, reads.pack(target, *work.packing()), y)
        return
    bounds = (
        target.choose("fewest tiles of a step", problem, STEP_FEWEST_OPTIONS, STEP_FEWEST),
        target.choose("tiles of a step", problem, STEP_OPTIONS, STEP_TILES),
    )
    most = max(STEP_BYTES // work.transformed_bytes(1, 1), 1)
    passes = math.ceil(work.tiles / most)
    by_panel = passes <= 1 and packs_by_panel(target, reads.w, work.panels, work.panel_bytes)
    packed = reads.pack(target, *work.packing(), work.panels if by_panel else 0)
    for n in range(passes):
        first, last = (work.tiles * k // passes for k in (n, n + 1))
        _emit_two_steps(work, reads, packed, y, first, last, bounds)


def _emit_two_steps(
    work: _Work,
    reads: Reads,
    packed: Buffer | ByPanel,
    y: Buffer,
    first: int,
    last: int,
    bounds: tuple[int, int],
) -> None:
    """Emit both steps for some tiles; ``bounds`` are those of the tiles in a block of the second."""
    c, tiles, (fewest, step_tiles) = work.c, last - first, bounds
    wanted = STEP_ITEMS if work.panel_bytes <= FAR else 1
    blocks = math.ceil(tiles / step_tiles)
    while blocks * work.panels < wanted and tiles // blocks >= 2 * fewest:
        blocks *= 2
    block = math.ceil(tiles / blocks)
    v = work.target.temporary(work.transformed_bytes(tiles, block))
    kernel = work.kernel("transform", first, last, block)
    moved = 4 * c.images * math.prod(c.x_shape) * tiles // work.tiles + v.nbytes
    work.target.emit(kernel, [reads.x], [v], cost=Cost(0, moved))
    panels_first = isinstance(packed, ByPanel) or v.nbytes * work.panels < work.panel_bytes * blocks
    form = {
        "panels_first": panels_first,
        "panels_ahead": work.sends_panels and not isinstance(packed, ByPanel),
        "activation": c.activation,
    }
    kernel = work.kernel("multiply", first, last, block, **form)
    flops = 2 * _points(work.m, c) * tiles * c.depth * c.filters
    cost = Cost(flops, v.nbytes + work.panel_bytes)
    reads._replace(x=v).emit(work.target, kernel, packed, y, cost)
