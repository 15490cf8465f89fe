"""Activations, as layers and as the ``activation`` argument of others."""

from __future__ import annotations

from typing import ClassVar

from ..errors import ArgumentError
from ..graph.ir import Graph, Value
from ..ops import activation as ops
from ..ops.base import Op
from ..ops.loss import Softmax
from .base import Layer

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "HardSwish",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "activate",
    "check_activation",
]

ACTIVATIONS: dict[str, Op] = {name: ops.Activation(name) for name in ops.FUNCTIONS} | {
    "softmax": Softmax()
}
ALIASES = {"swish": "silu", "hard_silu": "hard_swish"}


def check_activation(name: str | None) -> str | None:
    """The name in `ACTIVATIONS`; None for "linear" or None. Raises `ArgumentError`."""
    if name is None or name == "linear":
        return None
    found = ALIASES.get(name, name) if isinstance(name, str) else None
    if found not in ACTIVATIONS:
        raise ArgumentError(
            f"`activation` must be one of {', '.join(sorted(ACTIVATIONS))}, linear or None. "
            f"Received: activation={name!r}."
        )
    return found


def activate(graph: Graph, name: str | None, x: Value) -> Value:
    """``x`` after the activation of that name."""
    return x if name is None else graph.add(ACTIVATIONS[name], x)


class Activation(Layer):
    """Apply ``activation`` to every element or, softmax, to the channels of every pixel.

    One of "relu", "relu6", "sigmoid", "silu" (or "swish"), "hard_sigmoid", "hard_swish" (or
    "hard_silu"), "softmax", "linear"; all as PyTorch and Keras 3 define them.
    """

    def __init__(self, activation: str, *, name: str | None = None):
        super().__init__(name=name)
        self.activation = check_activation(activation)

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        return activate(graph, self.activation, x)


class ReLU(Layer):
    """``y = max(x, 0)``, with ``max_value=6`` relu6: ``min(max(x, 0), 6)``; NaN stays NaN."""

    def __init__(self, max_value: float | None = None, *, name: str | None = None):
        super().__init__(name=name)
        if max_value is not None and max_value != 6:
            raise ArgumentError(
                f"`max_value` must be None or 6. Received: max_value={max_value!r}."
            )
        self.max_value = None if max_value is None else 6.0

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        return activate(graph, "relu" if self.max_value is None else "relu6", x)


class _Named(Layer):
    """An activation that is a layer by name: what they have in common."""

    activation: ClassVar[str]

    def __init__(self, *, name: str | None = None):
        super().__init__(name=name)

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        return activate(graph, self.activation, x)


class ReLU6(_Named):
    """``y = min(max(x, 0), 6)``; NaN stays NaN."""

    activation = "relu6"


class Sigmoid(_Named):
    """``y = 1 / (1 + exp(-x))``."""

    activation = "sigmoid"


class SiLU(_Named):
    """``y = x / (1 + exp(-x))``, also called swish."""

    activation = "silu"


class HardSwish(_Named):
    """``y = x * min(max(x + 3, 0), 6) / 6``. Howard et al., "Searching for MobileNetV3", 2019."""

    activation = "hard_swish"
