"""Into which parts a gradient of weights is cut, and what time that takes.

Times are estimated from shapes and the tier's tiles alone, since the bits of the result depend on what is
chosen. They count in floating-point operations at the speed of one core's multiply-adds.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from .conv_winograd import tiles_of
from .weight_gradient_problem import Problem

__all__ = [
    "AnySplit",
    "DepthwiseSplit",
    "Split",
    "Timed",
    "WinogradSplit",
    "depthwise_split",
    "split",
    "winograd_split",
]

# of a core's second-level cache: for a block, the next one and sums, not for copies of x
CACHE_BYTES = 256 * 1024
BLOCK = (96, 400)  # the fewest and most pixels in a block; 400 holds 7 rows of 56, 14 of 28
BLOCK_OF_ONE_TAP = (96, 128)  # what a tile and a panel read of them fits the first-level cache
FLOPS_PER_BYTE = 10  # arithmetic of a core in the time it takes to read a byte again,
FLOPS_PER_BYTE_OF_ONE_TAP = 16  # where there is little to do with it,
FLOPS_PER_PARTIAL = 300  # and to write a partial sum, read it and add it
ONE_CORE = 1 / 2  # how much its time counts beside that of WORKERS cores;
ONE_CORE_OF_ONE_TAP = 7 / 8  # a split for many, which read the same, costs it more there
WORKERS = 64  # cores that are to be kept busy
FLOPS_PER_WORKER = 500_000  # below this another core is not worth its start


class Split(NamedTuple):
    """Into how many parts pixels, filter rows, channel tiles and panels go; pixels in a block."""

    chunks: int
    row_blocks: int
    channel_blocks: int
    panel_blocks: int
    block: int


class DepthwiseSplit(NamedTuple):
    """Into how many parts rows of dy and vectors of channels go; rows in a band."""

    chunks: int
    channel_blocks: int
    band: int


class WinogradSplit(NamedTuple):
    """Into how many parts tiles, vectors of channels and panels go; tiles in a block."""

    chunks: int
    channel_blocks: int
    panel_blocks: int
    block: int


AnySplit = Split | DepthwiseSplit | WinogradSplit
Timed = tuple[float, AnySplit]


def _halvings(n: int) -> list[int]:
    return sorted({-(-n // 2**i) for i in range(n.bit_length() + 1)} - {0})


def _chunkings(size: int, least: int) -> list[int]:
    """Powers of two, up to 1024, that leave ``least`` to a chunk."""
    return [2**i for i in range(11) if i == 0 or 2**i * least <= size]


def _uneven(items: int, workers: int) -> float:
    """How much longer so many workers take than if the items were evenly theirs."""
    workers = max(1, min(WORKERS, workers))
    return -(-items // workers) * workers / items


def _partial_sums(problem: Problem, chunks: int, flops: int) -> int:
    """The time that goes to writing them, reading them and adding them up."""
    return flops * problem.weights * chunks * (chunks > 1)


# ---- outer products of pixels -------------------------------------------------------------------


@lru_cache(maxsize=256)
def split(problem: Problem, tile: tuple[int, int]) -> tuple[float, Split]:
    """The split of least estimated time, over all its powers of two, and that time.

    That is arithmetic, on one core and as evenly as the items fall on many, and memory traffic: x and
    dy once for every part that reads them, partial sums.
    """
    c, k, groups = problem.x[3], problem.dy[3], problem.groups
    pixels, (r, s) = math.prod(problem.dy[:3]), problem.kernel_size
    channels = c * s if problem.folded else c // groups
    weights, vector = problem.weights, tile[1] // 2
    lanes = groups * vector * math.ceil(k / groups / vector)
    flops = 2 * problem.x[0] * problem.seen(0) * problem.seen(1) * c // groups * lanes
    x_pixels = math.prod(problem.x[:3])
    (fewest, most), byte, alone = BLOCK, FLOPS_PER_BYTE, ONE_CORE
    if r * s == 1:
        (fewest, most), byte = BLOCK_OF_ONE_TAP, FLOPS_PER_BYTE_OF_ONE_TAP
        alone = ONE_CORE_OF_ONE_TAP
    best, least = None, math.inf
    for chunks, rows, cs, ks in product(
        _chunkings(pixels, 256),
        {1, r},
        _halvings(-(-channels // tile[0])),
        _halvings(-(-k // groups // tile[1])),
    ):
        items = chunks * rows * cs * ks * groups
        part = 4 * weights / (groups * rows * cs * ks)
        pixel = 4 * (c * x_pixels / max(pixels, 1) / cs + k / ks) / groups
        block = int(min(most, max(fewest, CACHE_BYTES / pixel)))
        blocks = -(-pixels // chunks // block)
        traffic = 4 * (x_pixels * c * ks + pixels * k * cs) * rows
        if part > CACHE_BYTES:
            traffic += 8 * weights * (blocks - 1) * chunks
        time = flops * (alone + (1 - alone) * _uneven(items, flops // FLOPS_PER_WORKER))
        time += byte * traffic + _partial_sums(problem, chunks, FLOPS_PER_PARTIAL)
        if time < least:
            best, least = Split(chunks, rows, cs, ks, block), time
    return least, best


# ---- one window per channel, and narrow groups ---------------------------------------------------

BAND_BYTES = 160 * 1024  # of x and dy in a band, which the next one joins in the second-level cache
DEPTHWISE_FLOPS_PER_WORKER = 2_000_000
DEPTHWISE_FLOPS_PER_PARTIAL = 60
AHEAD = 32  # floats beyond a block of channels that memory sends in vain
MEMORY_SERVES = 16  # cores at once: more of them are no faster at what waits for memory


@lru_cache(maxsize=256)
def depthwise_split(problem: Problem, vector: int) -> tuple[float, DepthwiseSplit]:
    """The split of least estimated time, over powers of two, and that time, where ``vector`` channels of
    dy are a vector's.

    A chunk reads rows of x that its neighbours read as well.
    """
    (n, p, q, k), (r, _) = problem.dy, problem.kernel_size
    _, h, w, c = problem.x
    vectors, rows = math.ceil(k / vector), max(1, n * p)
    row_bytes = 4 * (k * q + c * h * w / p)
    flops = 2 * n * problem.seen(0) * problem.seen(1) * vectors * vector * c // problem.groups
    best, least = None, math.inf
    for chunks, blocks in product(_chunkings(rows, 1), _halvings(vectors)):
        width, height = math.ceil(vectors / blocks), math.ceil(rows / chunks)
        again = (r - 1) / problem.strides[0] * (chunks - 1) / 4
        traffic = row_bytes * (rows + again) * (1 + AHEAD / (vector * width) * (blocks > 1))
        memory = FLOPS_PER_BYTE * traffic
        work = flops + memory
        largest = width * height * chunks * blocks / (vectors * rows)  # to the mean
        workers = int(min(MEMORY_SERVES * work / memory, work / DEPTHWISE_FLOPS_PER_WORKER))
        workers = 2 ** max(0, workers.bit_length() - 1)  # as machines have them, about
        uneven = largest * _uneven(chunks * blocks, workers)
        time = work * (1 + uneven) / 2
        time += _partial_sums(problem, chunks, DEPTHWISE_FLOPS_PER_PARTIAL)
        if time < least:
            tall = max(1, min(p, height))
            band = max(1, min(tall, int(BAND_BYTES * blocks / row_bytes)))
            band = math.ceil(tall / math.ceil(tall / band))
            best, least = DepthwiseSplit(chunks, blocks, band), time
    return least, best


# ---- Winograd's products of tiles ---------------------------------------------------------------

WINOGRAD_FLOPS_PER_WORKER = 8_000_000
WINOGRAD_FLOPS_PER_PARTIAL = 100
SHALLOW = 8  # channels of x: fewer do not fill the pipeline
TILES = (32, 128)  # the fewest and most tiles in a block
SCRATCH_BYTES = 2**20  # of a block's transformed tiles, about: they stay in the second-level cache
# multiply-adds in the time it takes to transform a vector: of a tile of x, of a tile of dy, and to
# store the products of a channel of x with a vector of dy, and transform them to weights
TRANSFORMS = {2: (100, 80, 90), 4: (250, 200, 200)}


@lru_cache(maxsize=256)
def winograd_split(problem: Problem, m: int, tile: tuple[int, int]) -> tuple[float, WinogradSplit]:
    """The split of least estimated time, over powers of two, and that time.

    A part transforms all that it reads itself, x as often as there are parts of dy and the reverse,
    so that one core counts for more than an even share for many.
    """
    (n, p, q, k), c = problem.dy, problem.x[3]
    vector, width = tile
    tiles, points = n * tiles_of((p, q), problem.dilation, m), (m + 2) ** 2
    cv, kv = math.ceil(c / vector), math.ceil(k / vector)
    of_x, of_dy, back = TRANSFORMS[m]
    best, least = None, math.inf
    for chunks, cs, ks in product(
        _chunkings(tiles, TILES[0]), _halvings(cv), _halvings(math.ceil(k / width))
    ):
        channels = vector * math.ceil(cv / cs) + width * math.ceil(k / width / ks)
        block = int(min(TILES[1], max(TILES[0], SCRATCH_BYTES / (4 * points * channels))))
        blocks = chunks * math.ceil(tiles / chunks / block)
        vectors = points * tiles * max(c, SHALLOW) * kv + tiles * (of_x * cv * ks + of_dy * kv * cs)
        vectors += back * blocks * c * kv
        traffic = 4 * (math.prod(problem.x) * ks + math.prod(problem.dy) * cs)
        flops = 2 * vector * vectors
        time = flops * (7 + _uneven(chunks * cs * ks, flops // WINOGRAD_FLOPS_PER_WORKER)) / 8
        time += FLOPS_PER_BYTE * traffic + _partial_sums(
            problem, chunks, WINOGRAD_FLOPS_PER_PARTIAL
        )
        if time < least:
            best, least = WinogradSplit(chunks, cs, ks, block), time
    return least, best
