"""Layers that join branches."""

from __future__ import annotations

from ..errors import ArgumentError, ShapeError
from ..graph.ir import Graph, Value
from ..ops import pointwise as ops
from ..ops.base import Spec
from .base import Layer

__all__ = ["Add"]


class Add(Layer):
    """Elementwise sum of two or more tensors of one shape: ``Add()([a, b])``."""

    inputs_taken = None

    def build(self, *specs: Spec) -> None:
        if len(specs) < 2:
            raise ArgumentError(f"Add takes at least 2 inputs. Received: {len(specs)}.")
        if any(s.shape != specs[0].shape for s in specs):
            shapes = ", ".join(str(s.shape) for s in specs)
            raise ShapeError(f"Add takes inputs of one shape. Received shapes {shapes}.")

    def call(self, graph: Graph, *inputs: Value, training: bool) -> Value:
        total, *rest = inputs
        for x in rest:
            total = graph.add(ops.Add(), total, x)
        return total
