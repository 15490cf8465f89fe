"""How a gradient of weights is computed, and how that is cut into items: one entry per algorithm.

Every algorithm estimates its time from shapes and the tier's tiles alone, since the bits of the result
depend on what is chosen. Time counts in floating-point operations at the speed of one core's multiply-adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .base import Cost
from .subsample import emit_subsample
from .weight_gradient_problem import Problem
from .weight_gradient_split import AnySplit, Timed, depthwise_split, split, winograd_split

if TYPE_CHECKING:
    from ..graph.ir import Node
    from ..kernels.dispatch import Kernels
    from ..plan.lower import Buffer, Target

__all__ = ["CANDIDATES", "emit_chunks", "lower_gradient"]

STREAM_BYTES = 2**21  # of a gradient: the caches are needed for what is left of the step


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
        problem = problem._replace(x=small, strides=(1, 1)).in_one_row
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


# ---- outer products of pixels -------------------------------------------------------------------


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


def _is_depthwise(problem: Problem, kernels: Kernels) -> bool:
    return problem.groups > 1 and problem.groups == problem.x[3] == problem.dy[3]


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

NEAR_BYTES = 2**20  # of x and dy together that are found in cache


def _is_winograd(problem: Problem) -> bool:
    taps = (problem.kernel_size, problem.strides)
    return taps == ((3, 3), (1, 1)) and problem.groups == 1


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
