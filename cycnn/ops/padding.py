"""Zeros around images, and the gradient of that: the images cut out again."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..errors import ShapeError
from ..geometry import Window
from .base import Cost, Op, Spec, require_rank

__all__ = ["Crop2D", "ZeroPad2D"]

Pads = tuple[tuple[int, int], tuple[int, int]]


def _padded(size: tuple[int | None, ...], pads: Pads) -> tuple[int | None, ...]:
    """The size of images with ``pads`` around them: as a window of one pixel sees it."""
    return Window.make(1, padding=pads).output(size)


class ZeroPad2D(Op):
    """``(N, H, W, C) -> (N, top + H + bottom, left + W + right, C)`` with zeros around the images.

    ``pads`` is ``((top, bottom), (left, right))``.
    """

    pads: Pads
    onnx: ClassVar[str] = "Pad"

    def infer(self, x: Spec) -> Spec:
        require_rank(self.name, "x", x, 4, "(N, H, W, C)")
        n, *size, c = x.shape
        return Spec((n, *_padded(tuple(size), self.pads), c), x.dtype)

    def gradient(self, graph, node, dys):
        return [graph.add(Crop2D(self.pads), dys[0])]

    def evaluate(self, x):
        return np.pad(x, ((0, 0), *self.pads, (0, 0)))

    def cost(self, x: Spec) -> Cost:
        return Cost(0, x.nbytes + self.infer(x).nbytes)

    def lower(self, node, target):
        (top, _), (left, _) = self.pads
        x, y = node.inputs[0].spec.shape, node.output.spec.shape
        kernel = target.kernels.strided.pad(x, y, top, left)
        target.emit(kernel, target.reads(node), target.writes(node))


class Crop2D(Op):
    """``y = x[:, top : H - bottom, left : W - right]``, at least one pixel of it."""

    pads: Pads

    def infer(self, x: Spec) -> Spec:
        require_rank(self.name, "x", x, 4, "(N, H, W, C)")
        n, *size, c = x.shape
        kept = tuple(
            None if d is None else d - sum(pair) for d, pair in zip(size, self.pads, strict=True)
        )
        if any(d is not None and d < 1 for d in kept):
            raise ShapeError(
                f"`{self.name}` leaves at least one pixel. "
                f"Received: pads={self.pads}, x of shape {x.shape}."
            )
        return Spec((n, *kept, c), x.dtype)

    def evaluate(self, x):
        (top, bottom), (left, right) = self.pads
        return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right].copy()

    def cost(self, x: Spec) -> Cost:
        return Cost(0, 2 * self.infer(x).nbytes)

    def lower(self, node, target):
        (top, _), (left, _) = self.pads
        x, y = node.inputs[0].spec.shape, node.output.spec.shape
        kernel = target.kernels.strided.crop(x, y, top, left)
        target.emit(kernel, target.reads(node), target.writes(node))
