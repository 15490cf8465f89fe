"""Elementwise ops: sum of two tensors, scaling, adding up gradients, copying state."""

from __future__ import annotations

from typing import ClassVar

from ..errors import ShapeError
from .base import Cost, Op, Spec, require_same_shape

__all__ = ["AccumulateGradient", "Add", "Assign", "Scale"]


class Add(Op):
    """``y = a + b`` for tensors of the same shape."""

    onnx: ClassVar[str] = "Add"
    sums: ClassVar[bool] = True

    def infer(self, a: Spec, b: Spec) -> Spec:
        require_same_shape(self.name, a, b, "a and b")
        return a if a.concrete else b

    def gradient(self, graph, node, dys):
        return [dys[0], dys[0]]

    def evaluate(self, a, b):
        return a + b

    def lower(self, node, target):
        target.emit(
            target.kernels.pointwise.add(node.output.spec.size),
            target.reads(node),
            target.writes(node),
            in_place=(0, 0),
        )


class Scale(Op):
    """``y = x * s`` with ``s`` of shape (1,), a scalar known at run time."""

    def infer(self, x: Spec, s: Spec) -> Spec:
        if s.shape != (1,):
            raise ShapeError(f"`Scale` takes s of shape (1,). Received shape {s.shape}.")
        return x

    def gradient(self, graph, node, dys):
        """With respect to ``x`` alone."""
        return [graph.add(Scale(), dys[0], node.inputs[1]), None]

    def evaluate(self, x, s):
        return x * s[0]

    def lower(self, node, target):
        target.emit(
            target.kernels.pointwise.scale(node.output.spec.size),
            target.reads(node),
            target.writes(node),
            in_place=(0, 0),
        )


class AccumulateGradient(Op):
    """``into += d``, in place: ``into`` is the gradient's part of the model's gradient block."""

    accumulates: ClassVar[bool] = True

    def infer(self, d: Spec, into: Spec) -> Spec:
        require_same_shape(self.name, d, into, "d and into")
        return into

    def evaluate(self, d, into):
        return into + d

    def cost(self, d: Spec, into: Spec) -> Cost:
        return Cost(d.size, d.nbytes + 2 * into.nbytes)

    def lower(self, node, target):
        target.alias(node.output, of=node.inputs[1])
        target.emit(
            target.kernels.pointwise.add(node.output.spec.size),
            target.reads(node),
            target.writes(node),
        )


class Assign(Op):
    """``into = x``, in place."""

    updates_state: ClassVar[bool] = True

    def infer(self, x: Spec, into: Spec) -> Spec:
        require_same_shape(self.name, x, into, "x and into")
        return into

    def evaluate(self, x, into):
        return x.copy()

    def lower(self, node, target):
        target.alias(node.output, of=node.inputs[1])
        kernel = target.kernels.pointwise.copy(node.output.spec.size)
        target.emit(kernel, target.reads(node)[:1], target.writes(node))
