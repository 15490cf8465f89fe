"""Dense (fully connected) layers: ``y = activation(x W + b)`` and its gradient for x."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import ShapeError
from .base import Cost, Op, Spec, require_rank
from .epilogue import activate, activation_code, activation_gradient

if TYPE_CHECKING:
    from ..graph.ir import Graph, Node, Value
    from ..plan.lower import Buffer, Target

__all__ = [
    "ITEMS",
    "ITEM_FLOPS",
    "NEAR_BYTES",
    "TILES_OPTIONS",
    "ByPanel",
    "Dense",
    "DenseBackwardData",
    "Product",
    "Reads",
    "cut",
    "distant",
    "emit_gemm",
    "packs_by_panel",
    "streams",
]


class ByPanel(NamedTuple):
    """Weights that their product packs itself: each panel before the items that take it."""

    packing: tuple
    nbytes: int  # of all panels
    panels: int


class Reads(NamedTuple):
    """What a product reads: x, the weights, and perhaps a bias and a residual."""

    x: Buffer
    w: Buffer
    b: Buffer | None = None
    residual: Buffer | None = None

    @property
    def present(self) -> tuple[bool, bool]:
        """Whether there is a bias, and a residual."""
        return self.b is not None, self.residual is not None

    def pack(
        self, target: Target, packing: tuple, nbytes: int, panels: int = 0
    ) -> Buffer | ByPanel:
        """w as `emit` takes it: packed by a step of its own, or, given ``panels``, one by one as used."""
        if panels:
            return ByPanel(packing, nbytes, panels)
        packed = target.temporary(nbytes)
        target.emit(packing, [self.w], [packed], cost=Cost(0, self.w.nbytes + nbytes))
        return packed

    def emit(
        self,
        target: Target,
        kernel: tuple,
        packed: Buffer | ByPanel,
        y: Buffer,
        cost: Cost | None = None,
    ) -> None:
        """Emit ``kernel`` with w packed, into y; y may take the residual's place.

        Where w is packed `ByPanel`, items of ``kernel`` take panel after panel.
        """
        first = self.x, packed
        if isinstance(packed, ByPanel):
            chain, (packing, nbytes, panels) = target.kernels.chain, packed
            operands = (0, chain.THROUGH), (1, chain.THROUGH, 2, 3, 4)
            kernel = chain.chain(packing, kernel, panels, nbytes // panels, *operands)
            first = self.w, self.x
        in_place = (3, 0) if self.residual else None
        target.emit(kernel, [*first, self.b, self.residual], [y], in_place=in_place, cost=cost)


PANEL_BYTES = 2**22
PANELS = 16


def packs_by_panel(target: Target, w: Buffer, panels: int, nbytes: int) -> bool:
    """Whether to pack w panel by panel in its product: it is packed in every call, to that many bytes.

    They would go to memory and come back. But then no more threads than panels share the work.
    """
    return target.is_live(w) and nbytes > PANEL_BYTES and panels >= PANELS


# Items that a matrix product, or an image's convolution, is cut into, where each is this much work.
ITEMS = 64
ITEM_FLOPS = 1e6
# For so many items blocks are cut as low as two tiles, for more only while they stay tall: each reads all
# weights again.
FEW_ITEMS = 16
LOW, TALL = 2, 8

# Rows of a block. Large panels, which are read again for each block, take the tallest; else the rows of a
# block, and of the next one, which are sent for meanwhile, are to fit the second-level cache.
ROWS = 96, 384  # at least, and at most
PACKING = 8  # rows whose products take as long as packing the weights
BLOCK_BYTES = 2**17
NEAR_BYTES = 2**19  # of all panels, where reading them again costs little
TILES_OPTIONS = (4, 8, 16, 32, 64, 128)  # below one another in a block

STREAM_BYTES = 2**24
STREAM_OPTIONS = (2**22, 2**23, 2**24, 2**25, 2**60)
DISTANT_BYTES = 2**20  # of x and y; requests for what is nearer cost up to a fifth of the time


def streams(target: Target, y: Buffer) -> bool:
    """Whether a result is so large that it is not in the caches any more when it is read."""
    if y.nbytes < min(STREAM_BYTES, *STREAM_OPTIONS):
        return False
    chooser = target.chooser
    return y.nbytes >= chooser.choose_for_all("streamed from", STREAM_OPTIONS, STREAM_BYTES)


def distant(x: Buffer, y: Buffer) -> bool:
    """Whether x and y together lie beyond the nearest caches; one that passes between parts of a plan counts
    for the whole batch."""
    return x.nbytes + y.nbytes >= DISTANT_BYTES


class Product(NamedTuple):
    """y (rows, columns) = activation(a w + b + residual) with a (rows, depth).

    w is (depth, columns), or (columns, depth) where ``transposed``; rows of a and y lie ``a_step`` and
    ``y_step`` floats apart, None: as many as they hold.
    """

    rows: int
    depth: int
    columns: int
    activation: int = 0
    transposed: bool = False
    a_step: int | None = None
    y_step: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.rows, self.depth, self.columns

    @property
    def form(self) -> dict[str, int | None]:
        """What kernels take besides the shape."""
        return {"activation": self.activation, "a_step": self.a_step, "y_step": self.y_step}

    def blocks(
        self, target: Target, problem: tuple, panels: int, height: int, nbytes: int
    ) -> tuple[int, int]:
        """Blocks of rows in tiles of ``height``, and of panels, which take ``nbytes``."""
        rows = _block_rows(self.depth, nbytes)
        tiles = target.choose("tiles", problem, TILES_OPTIONS, rows // height)
        work = 2 * (self.rows + PACKING) * self.depth * self.columns
        return cut(self.rows, panels, height, work, tiles)


def emit_gemm(target: Target, product: Product, reads: Reads, y: Buffer) -> None:
    """Emit ``product`` of ``reads`` into y; w is packed before, or as it is used."""
    problem = (*product, *reads.present)
    if target.kernels.gemm_narrow.suits(product.columns):
        _emit_narrow(target, product, problem, reads, y)
    else:
        _emit_panels(target, product, problem, reads, y)


def _emit_panels(target: Target, product: Product, problem: tuple, reads: Reads, y: Buffer) -> None:
    pack, (rows, depth, columns) = target.kernels.pack, product.shape
    nv = pack.panel_vectors(columns)
    if product.transposed:
        packing = pack.columns((1, columns, depth), nv)
    else:
        packing = pack.rows((1, depth, columns), nv)
    nbytes = pack.panel_bytes(columns, depth, nv)
    panels = math.ceil(columns / (nv * pack.VECTOR))
    by_panel = columns > rows and packs_by_panel(target, reads.w, panels, nbytes)
    row_blocks, panel_blocks = product.blocks(target, problem, panels, pack.tile_height(nv), nbytes)
    panels_first = target.choose(
        "panels first",
        problem,
        (False, True) if min(row_blocks, panel_blocks) > 1 else (),
        depth * columns > rows * depth,
    )
    kernel = target.kernels.gemm.multiply_packed(
        *product.shape,
        nv,
        row_blocks=row_blocks,
        panel_blocks=panels if by_panel else panel_blocks,
        panels_first=panels_first or by_panel,
        chained=by_panel,
        stream=streams(target, y),
        distant=distant(reads.x, y),
        **product.form,
    )
    packed = reads.pack(target, packing, nbytes, panels if by_panel else 0)
    reads.emit(target, kernel, packed, y)


def _emit_narrow(target: Target, product: Product, problem: tuple, reads: Reads, y: Buffer) -> None:
    """Few columns, the last of which leave half a vector empty."""
    narrow = target.kernels.gemm_narrow
    packing, nbytes = narrow.pack(product.depth, product.columns, product.transposed)
    height = narrow.tile_height(product.columns)
    row_blocks, _ = product.blocks(target, problem, 1, height, nbytes)
    kernel = narrow.multiply(
        *product.shape, row_blocks=row_blocks, distant=distant(reads.x, y), **product.form
    )
    reads.emit(target, kernel, reads.pack(target, packing, nbytes), y)


def _block_rows(depth: int, nbytes: int) -> int:
    """Rows of a block where the panels take ``nbytes``."""
    least, most = ROWS
    return most if nbytes > NEAR_BYTES else min(most, max(least, BLOCK_BYTES // (4 * depth)))


def cut(rows: int, panels: int, height: int, flops: float, tiles: int) -> tuple[int, int]:
    """Into how many blocks the rows (pixels) and the panels of a product are cut.

    Some ``tiles`` tiles of rows times all panels, cut further, panels first, until there are enough
    items.
    """
    wanted = min(ITEMS, flops / ITEM_FLOPS)
    row_blocks, panel_blocks = max(1, math.ceil(rows / (tiles * height))), 1
    while row_blocks * panel_blocks < wanted and panel_blocks < panels:
        panel_blocks = min(2 * panel_blocks, panels)
    while row_blocks * panel_blocks < wanted:
        least = LOW if row_blocks * panel_blocks < FEW_ITEMS else TALL
        if rows // row_blocks <= 2 * least * height:
            break
        row_blocks *= 2
    return row_blocks, panel_blocks


def _require_weights(op: str, w: Spec) -> None:
    if 0 in w.shape:
        raise ShapeError(f"`{op}` takes at least one weight. Received: w.shape={w.shape}.")


def _require_features(op: str, x: Spec, features: int | None, name: str, w: Spec) -> None:
    if x.shape[-1] is not None and x.shape[-1] != features:
        raise ShapeError(
            f"`{op}` takes as many features as `w` has {name}. "
            f"Received: x of shape {x.shape}, w of shape {w.shape}."
        )


class Dense(Op):
    """``y[n, o] = activation(b[o] + sum over i of x[n, i] * w[i, o])``; ``b`` may be absent."""

    activation: str | None = None
    onnx = "Gemm"

    @property
    def linear(self) -> bool:
        return self.activation is None

    def infer(self, x: Spec, w: Spec, b: Spec | None = None) -> Spec:
        require_rank("Dense", "x", x, 2, "(N, inputs)")
        require_rank("Dense", "w", w, 2, "(inputs, units)")
        _require_weights("Dense", w)
        activation_code(self.activation)
        _require_features("Dense", x, w.shape[0], "rows", w)
        if b is not None and b.shape != (w.shape[1],):
            raise ShapeError(
                f"`Dense` takes b of shape {(w.shape[1],)}. Received: b of shape {b.shape}."
            )
        return Spec((x.shape[0], w.shape[1]), x.dtype)

    def gradient(
        self, graph: Graph, node: Node, dys: tuple[Value | None, ...]
    ) -> list[Value | None]:
        from .weight_gradient import BiasGradient, DenseBackwardWeight

        x, w, b = node.inputs
        dy = activation_gradient(graph, self.activation, node.output, dys[0])
        return [
            graph.add(DenseBackwardData(), dy, w),
            graph.add(DenseBackwardWeight(), x, dy),
            None if b is None else graph.add(BiasGradient(), dy),
        ]

    def evaluate(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        y = x @ w
        return activate(self.activation, y if b is None else y + b)

    def cost(self, x: Spec, w: Spec, b: Spec | None = None) -> Cost:
        y = self.infer(x, w, b)
        return Cost(2 * y.size * w.shape[0], x.nbytes + w.nbytes + y.nbytes)

    def lower(self, node: Node, target: Target) -> None:
        rows, depth = node.inputs[0].spec.shape
        columns = node.output.spec.shape[1]
        product = Product(rows, depth, columns, activation_code(self.activation))
        emit_gemm(target, product, Reads(*target.reads(node)), target.read(node.output))


class DenseBackwardData(Op):
    """``dx[n, i] = sum over o of dy[n, o] * w[i, o]``: the gradient of `Dense` for x."""

    def infer(self, dy: Spec, w: Spec) -> Spec:
        require_rank("DenseBackwardData", "dy", dy, 2, "(N, units)")
        require_rank("DenseBackwardData", "w", w, 2, "(inputs, units)")
        _require_weights("DenseBackwardData", w)
        _require_features("DenseBackwardData", dy, w.shape[1], "columns", w)
        return Spec((dy.shape[0], w.shape[0]), dy.dtype)

    def evaluate(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
        return dy @ w.T

    def cost(self, dy: Spec, w: Spec) -> Cost:
        dx = self.infer(dy, w)
        return Cost(2 * dx.size * w.shape[1], dy.nbytes + w.nbytes + dx.nbytes)

    def lower(self, node: Node, target: Target) -> None:
        rows, depth = node.inputs[0].spec.shape
        product = Product(rows, depth, node.output.spec.shape[1], transposed=True)
        emit_gemm(target, product, Reads(*target.reads(node)), target.read(node.output))
