"""Activations, as layers and as the ``activation`` argument of others."""

from __future__ import annotations

from ..errors import ArgumentError
from ..graph.ir import Graph, Value
from ..ops.base import Op
from ..ops.loss import Softmax
from ..ops.pointwise import Relu
from .base import Layer

__all__ = ["ACTIVATIONS", "Activation", "ReLU", "activate", "check_activation"]

ACTIVATIONS: dict[str, type[Op]] = {"relu": Relu, "softmax": Softmax}


def check_activation(name: str | None) -> str | None:
    """``name`` if it is one of `ACTIVATIONS`, "linear" or None. Raises `ArgumentError`."""
    if name is None or name == "linear":
        return None
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ArgumentError(
            f"`activation` must be one of {', '.join(sorted(ACTIVATIONS))}, linear or None. "
            f"Received: activation={name!r}."
        )
    return name


def activate(graph: Graph, name: str | None, x: Value) -> Value:
    """``x`` after the activation of that name."""
    return x if name is None else graph.add(ACTIVATIONS[name](), x)


class Activation(Layer):
    """Apply ``activation`` ("relu", "softmax", "linear") to every element or, softmax, channel."""

    def __init__(self, activation: str, *, name: str | None = None):
        super().__init__(name=name)
        self.activation = check_activation(activation)

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        return activate(graph, self.activation, x)


class ReLU(Layer):
    """``y = max(x, 0)``; NaN stays NaN."""

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        return graph.add(Relu(), x)
