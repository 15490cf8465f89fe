"""From connected layers to a graph: one builder for training and inference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ..errors import ArgumentError
from ..ops.base import Spec
from .ir import Graph, Value

__all__ = ["build", "in_call_order"]


class Symbol(Protocol):
    """A symbolic tensor: the result of a layer, or an input where ``layer`` is None."""

    spec: Spec
    layer: object
    inputs: tuple[Symbol, ...]
    name: str


def in_call_order(outputs: Sequence[Symbol]) -> list[Symbol]:
    """Every tensor that ``outputs`` depend on, each after those it is made from."""
    order: dict[Symbol, None] = {}
    stack: list[tuple[Symbol, Iterator[Symbol]]] = [(t, iter(t.inputs)) for t in outputs[::-1]]
    while stack:
        tensor, remaining = stack[-1]
        following = next((t for t in remaining if t not in order), None)
        if following is not None:
            stack.append((following, iter(following.inputs)))
        else:
            order.setdefault(tensor)
            stack.pop()
    return list(order)


def build(inputs: Sequence[Symbol], outputs: Sequence[Symbol], *, training: bool) -> Graph:
    """The graph of the layers between ``inputs`` and ``outputs``, still with unknown dims.

    Raises `ArgumentError` where ``outputs`` depend on an input that is not among ``inputs``.
    """
    graph = Graph()
    values: dict[Symbol, Value] = {
        t: graph.input(t.spec.shape, t.spec.dtype, t.name) for t in inputs
    }
    for tensor in in_call_order(outputs):
        if tensor in values:
            continue
        if tensor.layer is None:
            raise ArgumentError(
                f"`outputs` depend on the input {tensor.name!r}, which is not among `inputs`."
            )
        graph.label = tensor.layer.name or type(tensor.layer).__name__
        sources = [values[t] for t in tensor.inputs]
        values[tensor] = tensor.layer.call(graph, *sources, training=training)
    graph.outputs = [values[t] for t in outputs]
    return graph
