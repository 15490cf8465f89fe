"""Ops that see the same memory in another shape; they cost nothing."""

from __future__ import annotations

import math
from typing import ClassVar

from ..errors import ShapeError
from .base import Cost, Op, Spec

__all__ = ["Flatten", "Reshape"]


class _View(Op):
    """An op whose output is its input's memory."""

    def gradient(self, graph, node, dys):
        return [graph.add(Reshape(node.inputs[0].spec.shape[1:]), dys[0])]

    def cost(self, x: Spec) -> Cost:
        return Cost(0, 0)

    def lower(self, node, target):
        target.alias(node.output, of=node.inputs[0])


class Flatten(_View):
    """``(N, d1, d2, ...) -> (N, d1 * d2 * ...)``, in row-major order."""

    onnx: ClassVar[str] = "Flatten"

    def infer(self, x: Spec) -> Spec:
        if x.rank < 1:
            raise ShapeError(f"`Flatten` takes x with a batch dim. Received shape {x.shape}.")
        inner = x.shape[1:]
        return Spec((x.shape[0], None if None in inner else math.prod(inner)), x.dtype)

    def evaluate(self, x):
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class Reshape(_View):
    """``(N, ...) -> (N, *shape)``: every sample in another shape, in row-major order."""

    shape: tuple[int, ...]
    onnx: ClassVar[str] = "Reshape"

    def infer(self, x: Spec) -> Spec:
        inner = x.shape[1:]
        if x.rank < 1 or (None not in inner and math.prod(inner) != math.prod(self.shape)):
            raise ShapeError(
                f"`Reshape` to {self.shape} takes samples of {math.prod(self.shape)} elements. "
                f"Received shape {x.shape}."
            )
        return Spec((x.shape[0], *self.shape), x.dtype)

    def evaluate(self, x):
        return x.reshape(x.shape[0], *self.shape)
