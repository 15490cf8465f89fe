"""Layers that join branches."""

from __future__ import annotations

from ..errors import ArgumentError, ShapeError
from ..graph.ir import Graph, Value
from ..ops import merge, pointwise
from ..ops.base import Op, Spec
from .base import Layer

__all__ = ["Add", "Concatenate", "Multiply"]


class _Merge(Layer):
    """What all have in common: two or more inputs."""

    inputs_taken = None

    def build(self, *specs: Spec) -> None:
        if len(specs) < 2:
            name = type(self).__name__
            raise ArgumentError(f"{name} takes at least 2 inputs. Received: {len(specs)}.")

    def _from_left(self, op: Op, graph: Graph, inputs: tuple[Value, ...]) -> Value:
        total, *rest = inputs
        for x in rest:
            total = graph.add(op, total, x)
        return total


class Add(_Merge):
    """Elementwise sum of two or more tensors of one shape: ``Add()([a, b])``."""

    def build(self, *specs: Spec) -> None:
        super().build(*specs)
        if any(s.shape != specs[0].shape for s in specs):
            shapes = ", ".join(str(s.shape) for s in specs)
            raise ShapeError(f"Add takes inputs of one shape. Received shapes {shapes}.")

    def call(self, graph: Graph, *inputs: Value, training: bool) -> Value:
        return self._from_left(pointwise.Add(), graph, inputs)


class Multiply(_Merge):
    """Elementwise product of two or more tensors of one shape: ``Multiply()([a, b])``.

    One of two may be ``(N, 1, 1, C)`` where the other is ``(N, H, W, C)``: a factor for each channel of
    an image, as in squeeze-and-excitation. Raises `ShapeError` when connected to others.
    """

    def call(self, graph: Graph, *inputs: Value, training: bool) -> Value:
        return self._from_left(merge.Multiply(), graph, inputs)


class Concatenate(_Merge):
    """Two or more tensors end to end along ``axis``, the last: ``Concatenate()([a, b])``.

    ``(N, H, W, C1), (N, H, W, C2), ... -> (N, H, W, C1 + C2 + ...)``. ``axis`` is -1, or the number of
    the last axis; raises `ArgumentError` for any other, and `ShapeError` for inputs that do not fit.
    """

    def __init__(self, axis: int = -1, *, name: str | None = None):
        super().__init__(name=name)
        if isinstance(axis, bool) or not hasattr(axis, "__index__"):
            raise ArgumentError(f"`axis` must be an integer. Received: axis={axis!r}.")
        self.axis = int(axis)

    def build(self, *specs: Spec) -> None:
        super().build(*specs)
        last = specs[0].rank - 1
        if self.axis not in (-1, last):
            raise ArgumentError(
                f"`axis` must be the last axis, -1 or {last} for inputs of rank {last + 1}. "
                f"Received: axis={self.axis}."
            )

    def call(self, graph: Graph, *inputs: Value, training: bool) -> Value:
        return graph.add(merge.Concatenate(), *inputs)
