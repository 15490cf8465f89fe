"""Convolution over NHWC images, and its gradient for the images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..geometry import Window
from .base import Cost, Op, Shape, Spec, require_rank
from .conv_candidates import lower_correlation
from .correlation import Correlation, backward_axes, forward_axes
from .dense import Reads
from .epilogue import activate, activation_code, activation_gradient

if TYPE_CHECKING:
    from ..graph.ir import Graph, Node, Value
    from ..plan.lower import Target

__all__ = [
    "ALGORITHMS",
    "Conv2D",
    "Conv2DBackwardData",
    "check_algorithm",
    "check_applies",
    "check_filters",
]

ALGORITHMS = ("auto", "direct", "winograd2", "winograd4")


def check_algorithm(algorithm: str) -> None:
    """Raise `ArgumentError` unless ``algorithm`` is one of `ALGORITHMS`."""
    if algorithm not in ALGORITHMS:
        raise ArgumentError(
            f"`algorithm` must be one of {', '.join(map(repr, ALGORITHMS))}. "
            f"Received: algorithm={algorithm!r}."
        )


def check_applies(op: str, algorithm: str, window: Window, groups: int) -> None:
    """Raise `ArgumentError` unless ``algorithm`` can compute such a convolution or its gradient."""
    check_algorithm(algorithm)
    strided = op == "Conv2D" and window.strides == (2, 2) and window.dilation == (1, 1)
    takes = window.kernel == (3, 3) and groups == 1 and (strided or window.strides == (1, 1))
    if algorithm.startswith("winograd") and not takes:
        or_two = ", or of (2, 2) with dilation of 1" if op == "Conv2D" else ""
        raise ArgumentError(
            f"`algorithm`={algorithm!r} takes a window of (3, 3) with groups of 1 and strides of (1, 1)"
            f"{or_two}. "
            f"Received: `{op}` with a window of {window.kernel}, strides={window.strides}, "
            f"dilation={window.dilation}, groups={groups}."
        )


def check_filters(
    op: str, w: Spec, window: Window, groups: int, channels: int | None = None
) -> None:
    """Raise `ShapeError` unless w is (kh, kw, channels / groups, filters) for ``window``."""
    require_rank(op, "w", w, 4, "(kh, kw, channels / groups, filters)")
    if 0 in w.shape:
        raise ShapeError(
            f"`{op}` takes filters of at least one weight. Received: w.shape={w.shape}."
        )
    if w.shape[:2] != window.kernel:
        raise ShapeError(
            f"`{op}` has a window of {window.kernel}. Received: w of shape {w.shape}, "
            f"a window of {w.shape[:2]}."
        )
    if groups < 1 or w.shape[3] % groups:
        raise ShapeError(
            f"`groups` must divide the number of filters. "
            f"Received: groups={groups}, filters={w.shape[3]}."
        )
    if channels is not None and channels != w.shape[2] * groups:
        raise ShapeError(
            f"`{op}` takes channels / groups of x equal to axis 2 of w. Received: "
            f"channels={channels}, groups={groups}, w of shape {w.shape}."
        )


def _taps(window: Window, outputs: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """For each tap: its indices, and the slices of the padded image that it reads."""
    for tap in np.ndindex(*window.kernel):
        yield (
            tap,
            tuple(
                slice(t * d, t * d + (p - 1) * s + 1, s)
                for t, d, p, s in zip(tap, window.dilation, outputs, window.strides, strict=True)
            ),
        )


class Conv2D(Op):
    """Every filter at every position of the window, with D the dilation, P the padding before:

        y[n, p, q, k] = activation(b[k] + sum over r, s, c of
                                   x[n, p*S + r*D - P, q*S + s*D - P, c] * w[r, s, c, k]
                                   + residual[n, p, q, k])

    x is (N, H, W, C), w (kh, kw, C / groups, K), b (K) or absent, the residual of y's shape, mostly
    absent; group g of the channels feeds group g of the filters. Outside the image x is 0, and
    products with it may be left out: an infinite weight there counts as 0 or as NaN.
    ``algorithm`` is "auto", "direct" (no transform of images or weights), "winograd2" or "winograd4":
    F(2x2, 3x3) and F(4x4, 3x3), for 3x3 windows with groups 1, and strides 1, or 2 where dilation is 1;
    gradients of stride 2 are then "direct". The rounding error is below and about twice that of "direct",
    with stride 2 below and about the same, and a value that is not finite may spread to all
    outputs of its tile; with "auto" and few filters also to some next to its window (`ops.neighbours`).
    """

    window: Window
    groups: int = 1
    activation: str | None = None
    algorithm: str = "auto"
    onnx = "Conv"

    @property
    def linear(self) -> bool:
        return self.activation is None

    @property
    def takes_residual(self) -> bool:
        return self.groups == 1 and self.activation is None

    def infer(self, x: Spec, w: Spec, b: Spec | None = None, residual: Spec | None = None) -> Spec:
        require_rank("Conv2D", "x", x, 4, "(N, H, W, C)")
        activation_code(self.activation)
        check_applies("Conv2D", self.algorithm, self.window, self.groups)
        check_filters("Conv2D", w, self.window, self.groups, x.shape[3])
        if b is not None and b.shape != w.shape[3:]:
            raise ShapeError(
                f"`Conv2D` takes b of shape {w.shape[3:]}. Received: b of shape {b.shape}."
            )
        y = Spec((x.shape[0], *self.window.output(x.shape[1:3]), w.shape[3]), x.dtype)
        if residual is not None and not residual.fits(y):
            raise ShapeError(
                f"`Conv2D` takes a residual of shape {y.shape}. Received: {residual.shape}."
            )
        return y

    def gradient(
        self, graph: Graph, node: Node, dys: tuple[Value | None, ...]
    ) -> list[Value | None]:
        from .weight_gradient import BiasGradient, Conv2DBackwardWeight

        x, w, b, *residual = node.inputs
        dy = activation_gradient(graph, self.activation, node.output, dys[0])
        strided = self.window.strides != (1, 1)
        algorithm = "direct" if strided and "winograd" in self.algorithm else self.algorithm
        return [
            graph.add(Conv2DBackwardData(self.window, self.groups, x.spec.shape, algorithm), dy, w),
            graph.add(
                Conv2DBackwardWeight(self.window, self.groups, w.spec.shape, algorithm=algorithm),
                x,
                dy,
            ),
            None if b is None else graph.add(BiasGradient(), dy),
            *(dy for _ in residual),
        ]

    def evaluate(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None = None,
        residual: np.ndarray | None = None,
    ) -> np.ndarray:
        n, h, wide, c = x.shape
        outputs, g = self.window.output((h, wide)), self.groups
        padded = np.pad(x, ((0, 0), *self.window.pads((h, wide)), (0, 0)))
        k = w.shape[3]
        y = np.zeros((n, *outputs, g, k // g), np.result_type(x, w))
        for tap, pixels in _taps(self.window, outputs):
            seen = padded[:, *pixels].reshape(n, *outputs, g, c // g)
            y += np.einsum("npqgc,cgk->npqgk", seen, w[tap].reshape(c // g, g, k // g))
        y = y.reshape(n, *outputs, k)
        y = y if b is None else y + b
        return activate(self.activation, y if residual is None else y + residual)

    def cost(self, x: Spec, w: Spec, b: Spec | None = None, residual: Spec | None = None) -> Cost:
        y = self.infer(x, w, b, residual)
        traffic = x.nbytes + w.nbytes + y.nbytes * (1 if residual is None else 2)
        return Cost(2 * y.size * self.window.taps * w.shape[2], traffic)

    def takes_step(self, node: Node, value: Value) -> bool:
        x, residual = node.inputs[0], node.inputs[3:]
        return self.groups == 1 and value not in residual and (value is x or not residual)

    def lower(self, node: Node, target: Target) -> None:
        x, w = node.inputs[0].spec.shape, node.inputs[1].spec.shape
        rows, columns = forward_axes(self.window, x[1:3])
        correlation = Correlation(
            x[0],
            rows,
            columns,
            self.groups,
            x[3],
            w[3],
            activation=activation_code(self.activation),
            x_step=target.step(node.inputs[0]),
            y_step=target.step(node.output),
        )
        reads = Reads(*target.reads(node))
        lower_correlation(correlation, target, reads, target.read(node.output), self.algorithm)


class Conv2DBackwardData(Op):
    """The gradient of `Conv2D` for x, of shape ``x_shape``: every dy spread over its window.

        dx[n, p*S + r*D - P, q*S + s*D - P, c] += dy[n, p, q, k] * w[r, s, c, k]

    for all n, p, q, r, s, c, k, from zeros, or from the residual, a gradient that came another way.
    ``(dy, w) -> dx`` or ``(dy, w, absent, residual) -> dx``.
    """

    window: Window
    groups: int
    x_shape: Shape
    algorithm: str = "auto"

    @property
    def takes_residual(self) -> bool:
        return self.groups == 1

    def infer(self, dy: Spec, w: Spec, absent: None = None, residual: Spec | None = None) -> Spec:
        require_rank("Conv2DBackwardData", "dy", dy, 4, "(N, P, Q, K)")
        check_applies("Conv2DBackwardData", self.algorithm, self.window, self.groups)
        check_filters("Conv2DBackwardData", w, self.window, self.groups, self.x_shape[3])
        y_shape = (self.x_shape[0], *self.window.output(self.x_shape[1:3]), w.shape[3])
        if dy.shape != y_shape:
            raise ShapeError(
                f"`Conv2DBackwardData` takes dy of shape {y_shape} for x of shape {self.x_shape}. "
                f"Received: dy of shape {dy.shape}."
            )
        dx = Spec(self.x_shape, dy.dtype)
        if residual is not None and not residual.fits(dx):
            raise ShapeError(
                f"`Conv2DBackwardData` takes a residual of shape {dx.shape}. "
                f"Received: {residual.shape}."
            )
        return dx

    def evaluate(
        self,
        dy: np.ndarray,
        w: np.ndarray,
        absent: None = None,
        residual: np.ndarray | None = None,
    ) -> np.ndarray:
        n, h, wide, c = self.x_shape
        g, outputs = self.groups, dy.shape[1:3]
        (top, bottom), (left, right) = self.window.pads((h, wide))
        dx = np.zeros((n, top + h + bottom, left + wide + right, c), np.result_type(dy, w))
        k = w.shape[3]
        dy = dy.reshape(n, *outputs, g, k // g)
        for tap, pixels in _taps(self.window, outputs):
            spread = np.einsum("npqgk,cgk->npqgc", dy, w[tap].reshape(c // g, g, k // g))
            dx[:, *pixels] += spread.reshape(n, *outputs, c)
        dx = dx[:, top : top + h, left : left + wide]
        return dx if residual is None else dx + residual

    def cost(self, dy: Spec, w: Spec, absent: None = None, residual: Spec | None = None) -> Cost:
        dx = self.infer(dy, w)
        traffic = dy.nbytes + w.nbytes + dx.nbytes * (1 if residual is None else 2)
        return Cost(2 * dy.size * self.window.taps * w.shape[2], traffic)

    def lower(self, node: Node, target: Target) -> None:
        n, *size, channels = self.x_shape
        rows, columns = backward_axes(self.window, tuple(size))
        filters = node.inputs[1].spec.shape[3]
        reads = Reads(*target.reads(node))
        correlation = Correlation(
            n,
            rows,
            columns,
            self.groups,
            filters,
            channels,
            transposed=True,
            residual=reads.residual is not None,
        )
        lower_correlation(correlation, target, reads, target.read(node.output), self.algorithm)
