"""How a gradient of weights is computed, and how that is cut into items: one entry per algorithm.

Every algorithm estimates its time from shapes and the tier's tiles alone, since the bits of the result
depend on what is chosen. Time counts in floating-point operations at the speed of one core's multiply-adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from .base import Cost
from .conv_winograd import tiles_of
from .subsample import emit_subsample
from .weight_gradient_problem import Problem

if TYPE_CHECKING:
    from ..graph.ir import Node
    from ..kernels.dispatch import Kernels
    from ..plan.lower import Buffer, Target

__all__ = ["CANDIDATES", "emit_chunks", "lower_gradient"]

# of a core's second-level cache: for a block, the next one and sums, not for copies of x
CACHE_BYTES = 256 * 1024
BLOCK = (96, 400)  # the fewest and most pixels in a block; 400 holds 7 rows of 56, 14 of 28
BLOCK_OF_ONE_TAP = (96, 128)  # what a tile and a panel read of them fits the first-level cache
FLOPS_PER_BYTE = 10  # arithmetic of a core in the time it takes to read a byte again,
FLOPS_PER_PARTIAL = 300  # and to write a partial sum, read it and add it
STREAM_BYTES = 2**21  # of a gradient: the caches are needed for what is left of the step
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


class Candidate(NamedTuple):
    """An algorithm: its family (what users ask for), where it applies, its best split and the time
    that takes, and its kernel."""

    family: str
    suits: Callable[[Problem, Kernels], bool]
    split: Callable[[Problem, Kernels], Timed]
    kernel: Callable[..., tuple]


def lower_gradient(
    node: Node, target: Target, problem: Problem, accumulate: bool, algorithm: str = "auto"
) -> None:
    """Emit the fastest candidate that suits, of the family that ``algorithm`` names or of all."""
    algorithm = "direct" if target.exact else algorithm
    reads = target.reads(node)
    if problem.skips_pixels:
        small = (*problem.dy[:3], problem.x[3])
        reads[0] = emit_subsample(target, reads[0], problem.x, small, problem.strides)
        problem = problem._replace(x=small, strides=(1, 1))
    timed = [
        (*candidate.split(problem, target.kernels), candidate)
        for candidate in CANDIDATES
        if algorithm in ("auto", candidate.family) and candidate.suits(problem, target.kernels)
    ]
    _, parts, candidate = min(timed, key=lambda t: t[0])
    _emit(node, target, reads, problem, parts, candidate, accumulate)


def _emit(
    node: Node,
    target: Target,
    reads: list[Buffer | None],
    problem: Problem,
    parts: AnySplit,
    candidate: Candidate,
    accumulate: bool,
) -> None:
    """The kernel, and where it works in chunks, the one that combines them."""
    single = parts.chunks == 1
    if accumulate:
        target.alias(node.output, of=node.inputs[-1])
    dw = target.read(node.output)
    out = dw if single else target.temporary(parts.chunks * dw.nbytes)
    kernel = candidate.kernel(
        target.kernels, problem, accumulate=accumulate and single, **parts._asdict()
    )
    target.emit(kernel, reads if single else reads[:2], [out])
    if not single:
        emit_chunks(node, target, out, parts.chunks, accumulate)


def emit_chunks(node: Node, target: Target, sums: object, chunks: int, accumulate: bool) -> None:
    """The kernel that adds ``chunks`` partial sums up, or adds their sum to ``into``."""
    if accumulate:
        target.alias(node.output, of=node.inputs[-1])
    size = node.output.spec.size
    target.emit(
        target.kernels.reduce.chunks(size, chunks, accumulate),
        [sums],
        [target.read(node.output)],
        cost=Cost(chunks * size, 4 * (chunks + 1) * size),
    )


def _halvings(n: int) -> list[int]:
    return sorted({-(-n // 2**i) for i in range(n.bit_length() + 1)} - {0})


def _chunkings(size: int, least: int) -> list[int]:
    """Powers of two, up to 1024, that leave ``least`` to a chunk."""
    return [2**i for i in range(11) if i == 0 or 2**i * least <= size]


def _uneven(items: int, workers: float) -> float:
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
    fewest, most = BLOCK if r * s > 1 else BLOCK_OF_ONE_TAP
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
        time = flops * (1 + _uneven(items, flops // FLOPS_PER_WORKER)) / 2
        time += FLOPS_PER_BYTE * traffic + _partial_sums(problem, chunks, FLOPS_PER_PARTIAL)
        if time < least:
            best, least = Split(chunks, rows, cs, ks, block), time
    return least, best


def _direct_kernel(kernels: Kernels, problem: Problem, accumulate: bool, **parts: int) -> tuple:
    return kernels.conv_weight.gradient(
        problem.x,
        problem.dy,
        problem.kernel_size,
        problem.strides,
        problem.dilation,
        problem.pads,
        problem.groups,
        folded=problem.folded,
        accumulate=accumulate,
        stream=parts["chunks"] == 1 and 4 * problem.weights >= STREAM_BYTES,
        **parts,
    )


# ---- one window per channel ----------------------------------------------------------------------

BAND_BYTES = 160 * 1024  # of x and dy in a band, which the next one joins in the second-level cache
DEPTHWISE_FLOPS_PER_WORKER = 2_000_000
DEPTHWISE_FLOPS_PER_PARTIAL = 60
AHEAD = 32  # floats beyond a block of channels that memory sends in vain


def _is_depthwise(problem: Problem, kernels: Kernels) -> bool:
    return problem.groups > 1 and problem.groups == problem.x[3] == problem.dy[3]


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
        work = flops + FLOPS_PER_BYTE * traffic
        largest = width * height * chunks * blocks / (vectors * rows)  # to the mean
        uneven = largest * _uneven(chunks * blocks, work / DEPTHWISE_FLOPS_PER_WORKER)
        time = work * (1 + uneven) / 2
        time += _partial_sums(problem, chunks, DEPTHWISE_FLOPS_PER_PARTIAL)
        if time < least:
            band = max(1, min(p, height, int(BAND_BYTES * blocks / row_bytes)))
            best, least = DepthwiseSplit(chunks, blocks, band), time
    return least, best


def _depthwise_kernel(kernels: Kernels, problem: Problem, **parts: int) -> tuple:
    return kernels.conv_depthwise_weight.gradient(
        problem.x[0], problem.x[3], problem.axis(0), problem.axis(1), **parts
    )


# ---- narrow groups: several in a vector ------------------------------------------------------------


def _group(problem: Problem) -> int:
    """Channels of x, or of dy if they are more, in a group."""
    return max(problem.x[3], problem.dy[3]) // problem.groups


def _is_narrow(problem: Problem, kernels: Kernels) -> bool:
    half = kernels.conv_grouped_weight.VECTOR // 2
    return problem.groups > 1 and not _is_depthwise(problem, kernels) and _group(problem) <= half


DISTANT = 2**23  # bytes of x and dy together that are beyond the caches
WIDE_DEPTH = 16  # channels of x in a group: a pixel's are no more than a line of memory


def _is_wide(problem: Problem, kernels: Kernels) -> bool:
    """Wider groups whose channels one by one, pixel by pixel, memory would bring too slowly."""
    nbytes = 4 * (math.prod(problem.x) + math.prod(problem.dy))
    filters, vector = problem.dy[3] // problem.groups, kernels.conv_grouped_weight.VECTOR
    few = problem.x[3] // problem.groups <= WIDE_DEPTH and problem.kernel_size[1] > 1
    return problem.groups > 1 and few and filters % vector == 0 and nbytes >= DISTANT


def _is_dense(problem: Problem, kernels: Kernels) -> bool:
    return not any(f(problem, kernels) for f in (_is_depthwise, _is_narrow, _is_wide))


def _wide_split(problem: Problem, kernels: Kernels) -> Timed:
    return depthwise_split(problem, kernels.conv_grouped_weight.VECTOR)


def _grouped_split(problem: Problem, kernels: Kernels) -> Timed:
    together = kernels.conv_grouped_weight.VECTOR // _group(problem)
    return depthwise_split(problem, together * problem.dy[3] // problem.groups)


def _grouped_kernel(kernels: Kernels, problem: Problem, **parts: int) -> tuple:
    return kernels.conv_grouped_weight.gradient(
        problem.x[0],
        problem.x[3],
        problem.dy[3],
        problem.groups,
        problem.axis(0),
        problem.axis(1),
        **parts,
    )


# ---- Winograd's products of tiles ---------------------------------------------------------------

WINOGRAD_FLOPS_PER_WORKER = 8_000_000
WINOGRAD_FLOPS_PER_PARTIAL = 100
SHALLOW = 8  # channels of x: fewer do not fill the pipeline
TILES = (32, 128)  # the fewest and most tiles in a block
SCRATCH_BYTES = 4 * 2**20  # of a block's transformed tiles, about
NEAR_BYTES = 2**20  # of x and dy together that are found in cache
# multiply-adds in the time it takes to transform a vector: of a tile of x, of a tile of dy, and to
# store the products of a channel of x with a vector of dy, and transform them to weights
TRANSFORMS = {2: (100, 80, 90), 4: (250, 200, 200)}


def _is_winograd(problem: Problem) -> bool:
    taps = (problem.kernel_size, problem.strides)
    return taps == ((3, 3), (1, 1)) and problem.groups == 1


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


def _winograd_kernel(
    m: int, kernels: Kernels, problem: Problem, accumulate: bool, **parts: int
) -> tuple:
    nbytes = 4 * (math.prod(problem.x) + math.prod(problem.dy))
    return kernels.conv_weight_winograd.gradient(
        problem.x,
        problem.dy,
        problem.dilation,
        problem.pads,
        m,
        distant=nbytes > NEAR_BYTES,
        accumulate=accumulate,
        **parts,
    )


def _winograd(m: int) -> Candidate:
    return Candidate(
        f"winograd{m}",
        lambda problem, kernels: _is_winograd(problem),
        lambda problem, kernels: winograd_split(problem, m, kernels.conv_weight_winograd.TILE),
        partial(_winograd_kernel, m),
    )


CANDIDATES = (
    Candidate(
        "direct",
        _is_dense,
        lambda problem, kernels: split(problem, kernels.conv_weight.TILE),
        _direct_kernel,
    ),
    Candidate(
        "direct",
        _is_depthwise,
        lambda problem, kernels: depthwise_split(problem, kernels.conv_depthwise_weight.VECTOR),
        _depthwise_kernel,
    ),
    Candidate("direct", _is_narrow, _grouped_split, _grouped_kernel),
    Candidate("direct", _is_wide, _wide_split, _grouped_kernel),
    _winograd(2),
    _winograd(4),
)
