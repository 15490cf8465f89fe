"""Gradients of the weights and biases of convolution and dense layers.

With ``accumulate=True`` an op takes one input more, the place of that gradient in the model's gradient
block, and adds to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import ShapeError
from ..geometry import Window
from .base import Cost, Op, Spec, require_rank

if TYPE_CHECKING:
    from ..graph.ir import Node
    from ..plan.lower import Target

__all__ = ["BiasGradient", "Conv2DBackwardWeight", "DenseBackwardWeight"]


@dataclass(frozen=True)
class WeightGradient(Op):
    """What the ops of this file share: they can add to what is there."""

    def check_into(self, spec: Spec, into: tuple[Spec, ...]) -> Spec:
        """``spec``, once the place to add to is given exactly when needed, and of its shape."""
        if len(into) != self.accumulate or any(i != spec for i in into):
            expected = f"`into` of shape {spec.shape}" if self.accumulate else "no `into`"
            raise ShapeError(
                f"`{self.name}` with accumulate={self.accumulate} takes {expected}. "
                f"Received: {[i.shape for i in into]}."
            )
        return spec


@dataclass(frozen=True)
class Conv2DBackwardWeight(WeightGradient):
    """Gradient of a convolution's weights, summed over every position of each depth slice.

    ``dw[r, s, c, k] = sum over n, p, q of x[n, p*sh + r*dh - ph, q*sw + s*dw - pw, c] * dy[n, p, q, k]``
    """

    window: Window
    groups: int
    w_shape: tuple[int, ...]
    accumulate: bool = False

    def infer(self, x: Spec, dy: Spec, *into: Spec) -> Spec:
        require_rank(self.name, "x", x, 4, "(N, H, W, C)")
        require_rank(self.name, "dy", dy, 4, "(N, P, Q, K)")
        channels, filters = self.w_shape[2] * self.groups, self.w_shape[3]
        if self.groups < 1 or filters % self.groups or self.w_shape[:2] != self.window.kernel:
            raise ShapeError(
                f"`{self.name}` takes filters that `groups` divides and a window of "
                f"{self.window.kernel}. Received: groups={self.groups}, w_shape={self.w_shape}."
            )
        expected = (x.shape[0], *self.window.output(x.shape[1:3]), filters)
        if x.shape[3] != channels or any(
            a != b and None not in (a, b) for a, b in zip(dy.shape, expected, strict=True)
        ):
            raise ShapeError(
                f"`{self.name}` of weights {self.w_shape} in {self.groups} group(s) takes x with "
                f"{channels} channels and dy of shape {expected}. "
                f"Received: x.shape={x.shape}, dy.shape={dy.shape}."
            )
        return self.check_into(Spec(self.w_shape, x.dtype), into)

    def evaluate(self, x: np.ndarray, dy: np.ndarray, *into: np.ndarray) -> np.ndarray:
        (above, below), (left, right) = self.window.pads(x.shape[1:3])
        x = np.pad(x, ((0, 0), (above, below), (left, right), (0, 0)))
        x = x.reshape(*x.shape[:3], self.groups, x.shape[3] // self.groups)
        dy = dy.reshape(*dy.shape[:3], self.groups, dy.shape[3] // self.groups)
        (_, p, q), (sh, sw), (dh, dw) = dy.shape[:3], self.window.strides, self.window.dilation
        out = np.empty(self.w_shape, np.result_type(x, dy))
        for r, s in np.ndindex(*self.window.kernel):
            seen = x[:, r * dh :, s * dw :][:, : p * sh : sh, : q * sw : sw]
            out[r, s] = np.einsum("npqgc,npqgk->cgk", seen, dy).reshape(out.shape[2:])
        return out + into[0] if self.accumulate else out

    def cost(self, x: Spec, dy: Spec, *into: Spec) -> Cost:
        w = Spec(self.w_shape, x.dtype)
        return Cost(2 * dy.pixels * w.size, x.nbytes + dy.nbytes + (1 + len(into)) * w.nbytes)

    def lower(self, node: Node, target: Target) -> None:
        x, dy = (v.spec.shape for v in node.inputs[:2])
        (above, _), (left, _) = self.window.pads(x[1:3])
        window, strides = self.window, self.window.strides
        if window.taps == 1 and (above, left) == (0, 0) and x[:3] == dy[:3]:
            x, dy = (1, 1, math.prod(x[:3]), x[3]), (1, 1, math.prod(dy[:3]), dy[3])
            strides = (1, 1)  # whatever they were, one pixel an axis or all of them were taken
        problem = Problem(
            x, dy, window.kernel, strides, window.dilation, (above, left), self.groups
        )
        emit_gradient(node, target, problem, self.accumulate)


@dataclass(frozen=True)
class DenseBackwardWeight(WeightGradient):
    """Gradient of a dense layer's weights: ``dw[i, o] = sum over n of x[n, i] * dy[n, o]``."""

    accumulate: bool = False

    def infer(self, x: Spec, dy: Spec, *into: Spec) -> Spec:
        require_rank(self.name, "x", x, 2, "(N, I)")
        require_rank(self.name, "dy", dy, 2, "(N, O)")
        if x.shape[0] != dy.shape[0]:
            raise ShapeError(
                f"`{self.name}` takes x and dy of equally many rows. "
                f"Received: x.shape={x.shape}, dy.shape={dy.shape}."
            )
        return self.check_into(Spec((x.shape[1], dy.shape[1]), x.dtype), into)

    def evaluate(self, x: np.ndarray, dy: np.ndarray, *into: np.ndarray) -> np.ndarray:
        dw = x.T @ dy
        return dw + into[0] if self.accumulate else dw

    def cost(self, x: Spec, dy: Spec, *into: Spec) -> Cost:
        w = self.infer(x, dy, *into)
        return Cost(2 * x.shape[0] * w.size, x.nbytes + dy.nbytes + (1 + len(into)) * w.nbytes)

    def lower(self, node: Node, target: Target) -> None:
        (n, i), (_, o) = (v.spec.shape for v in node.inputs[:2])
        problem = Problem((1, 1, n, i), (1, 1, n, o), (1, 1), (1, 1), (1, 1), (0, 0), 1)
        emit_gradient(node, target, problem, self.accumulate)


@dataclass(frozen=True)
class BiasGradient(WeightGradient):
    """Gradient of a bias: the sum of dy over all axes but the last."""

    accumulate: bool = False

    def infer(self, dy: Spec, *into: Spec) -> Spec:
        return self.check_into(Spec(dy.shape[-1:], dy.dtype), into)

    def evaluate(self, dy: np.ndarray, *into: np.ndarray) -> np.ndarray:
        db = dy.reshape(-1, dy.shape[-1]).sum(axis=0)
        return db + into[0] if self.accumulate else db

    def cost(self, dy: Spec, *into: Spec) -> Cost:
        return Cost(dy.size, dy.nbytes)

    def lower(self, node: Node, target: Target) -> None:
        dy, k = target.read(node.inputs[0]), node.output.spec.size
        size = node.inputs[0].spec.size
        vector, wide = target.kernels.reduce.WIDTHS
        columns = whole_vectors(k, size // k, vector, wide)
        chunks = max(1, min(64, 4 * size // BIAS_CHUNK_BYTES))
        sums = target.temporary(4 * chunks * columns)
        target.emit(target.kernels.reduce.columns(size, columns, chunks), [dy], [sums])
        emit_chunks(node, target, sums, chunks * columns // k, self.accumulate)


# ---- how the work is split ----------------------------------------------------------------------

BIAS_CHUNK_BYTES = 128 * 1024
CACHE_BYTES = 256 * 1024  # of a core's second-level cache: for a block, the next, and sums
BLOCK = (96, 1024)  # the fewest and most pixels in a block
FLOPS_PER_BYTE = 10  # arithmetic of a core in the time it takes to read a byte again,
FLOPS_PER_PARTIAL = 300  # and to write a partial sum, read it and add it
WORKERS = 64  # cores that are to be kept busy
FLOPS_PER_WORKER = 500_000  # below this another core is not worth its start


class Problem(NamedTuple):
    """A weight gradient as the kernel sees it; ``pads`` are (above, left)."""

    x: tuple[int, ...]
    dy: tuple[int, ...]
    kernel_size: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int]
    groups: int

    @property
    def folded(self) -> bool:
        """Whether a whole row of the filter is taken for the channels of one tap."""
        narrow = self.x[3] <= 12 and self.kernel_size[1] > 1
        return narrow and self.groups == 1 and self.dilation[1] == 1


class Split(NamedTuple):
    """Into how many parts pixels, filter rows, channel tiles and panels go; pixels in a block."""

    chunks: int
    row_blocks: int
    channel_blocks: int
    panel_blocks: int
    block: int


def whole_vectors(k: int, rows: int, vector: int, wide: int) -> int:
    """A multiple of ``k`` that is whole vectors, and wide, if there are rows enough to read so."""
    together = vector // math.gcd(k, vector)
    together *= max(1, wide // (k * together))
    return k * together if together * 8 <= rows else k


def _halvings(n: int) -> list[int]:
    return sorted({-(-n // 2**i) for i in range(n.bit_length() + 1)} - {0})


@lru_cache(maxsize=256)
def split(problem: Problem, tile: tuple[int, int]) -> Split:
    """The split of least estimated time, over all its powers of two.

    Time is arithmetic, on one core and as evenly as the items fall on many, plus memory traffic: x
    and dy once for every part that reads them, partial sums written, read and added. It depends on
    shapes and the tier's tile alone, as the bits of the result do.
    """
    c, k, groups = problem.x[3], problem.dy[3], problem.groups
    pixels, (r, s) = math.prod(problem.dy[:3]), problem.kernel_size
    channels = c * s if problem.folded else c // groups
    weights = r * s * c // groups * k
    flops = 2 * pixels * weights
    workers = max(1, min(WORKERS, flops // FLOPS_PER_WORKER))
    x_pixels = math.prod(problem.x[:3])
    best, least = None, math.inf
    for chunks, rows, cs, ks in product(
        [2**i for i in range(11) if i == 0 or 2**i * 256 <= pixels],
        {1, r},
        _halvings(-(-channels // tile[0])),
        _halvings(-(-k // groups // tile[1])),
    ):
        items = chunks * rows * cs * ks * groups
        part = 4 * weights / (groups * rows * cs * ks)
        pixel = 4 * (c * x_pixels / max(pixels, 1) / cs + k / ks) / groups
        block = int(min(BLOCK[1], max(BLOCK[0], CACHE_BYTES / pixel)))
        blocks = -(-pixels // chunks // block)
        traffic = 4 * (x_pixels * c * ks + pixels * k * cs) * rows
        if part > CACHE_BYTES:
            traffic += 8 * weights * (blocks - 1) * chunks
        uneven = -(-items // workers) * workers / items
        time = flops * (1 + uneven) / 2 + FLOPS_PER_BYTE * traffic
        time += FLOPS_PER_PARTIAL * weights * chunks * (chunks > 1)
        if time < least:
            best, least = Split(chunks, rows, cs, ks, block), time
    return best


def emit_gradient(node: Node, target: Target, problem: Problem, accumulate: bool) -> None:
    """The kernel, and where it works in chunks, the one that combines them."""
    kernels = target.kernels
    parts = split(problem, kernels.conv_weight.TILE)
    single = parts.chunks == 1
    if accumulate:
        target.alias(node.output, of=node.inputs[-1])
    dw = target.read(node.output)
    out = dw if single else target.temporary(parts.chunks * dw.nbytes)
    kernel = kernels.conv_weight.gradient(
        problem.x,
        problem.dy,
        problem.kernel_size,
        problem.strides,
        problem.dilation,
        problem.pads,
        problem.groups,
        folded=problem.folded,
        accumulate=accumulate and single,
        **parts._asdict(),
    )
    reads = target.reads(node)
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
