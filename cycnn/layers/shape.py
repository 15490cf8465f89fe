"""Layers that only change the shape."""

from __future__ import annotations

from ..graph.ir import Graph, Value
from ..ops import shape as ops
from .base import Layer

__all__ = ["Flatten"]


class Flatten(Layer):
    """``(N, H, W, C) -> (N, H * W * C)``, in that order; nothing is moved."""

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        return graph.add(ops.Flatten(), x)
