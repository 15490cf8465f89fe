"""Fully connected layers."""

from __future__ import annotations

from ..errors import ShapeError
from ..geometry import to_axes
from ..graph.ir import Graph, Value
from ..ops import dense as ops
from ..ops.base import Spec
from .activation import activate, check_activation
from .base import Layer

__all__ = ["Dense"]


class Dense(Layer):
    """``y = x W + b`` with ``W`` of shape ``(inputs, units)``; input ``(N, inputs)``."""

    def __init__(
        self,
        units: int,
        *,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: str = "glorot_uniform",
        bias_initializer: str = "zeros",
        name: str | None = None,
        seed: int | None = None,
    ):
        super().__init__(name=name, seed=seed)
        (self.units,) = to_axes(units, "units", 1)
        self.activation = check_activation(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer

    def build(self, x: Spec) -> None:
        if x.rank != 2 or x.shape[-1] is None:
            raise ShapeError(
                f"Dense takes (N, inputs) with known inputs; put Flatten or a global pooling before "
                f"it. Received shape {x.shape}."
            )
        self.kernel = self.parameter("kernel", (x.shape[-1], self.units), self.kernel_initializer)
        self.bias = (
            self.parameter("bias", (self.units,), self.bias_initializer) if self.use_bias else None
        )

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        bias = None if self.bias is None else graph.parameter(self.bias)
        y = graph.add(ops.Dense(), x, graph.parameter(self.kernel), bias)
        return activate(graph, self.activation, y)
