"""What an op can apply to its result while it stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError

if TYPE_CHECKING:
    from ..graph.ir import Graph, Value

__all__ = ["activate", "activation_code", "activation_gradient"]

# as `kernels/tile.pxd` numbers them
CODES = {None: 0, "relu": 1}


def activation_code(activation: str | None) -> int:
    """The kernels' number of an activation. Raises `ArgumentError` for one they do not know."""
    if activation not in CODES:
        raise ArgumentError(
            f"`activation` must be None or one of {', '.join(repr(a) for a in CODES if a)}. "
            f"Received: activation={activation!r}."
        )
    return CODES[activation]


def activate(activation: str | None, y: np.ndarray) -> np.ndarray:
    """``activation`` of every element; NaN stays NaN."""
    return np.maximum(y, 0) if activation == "relu" else y


def activation_gradient(graph: Graph, activation: str | None, y: Value, dy: Value) -> Value:
    """The gradient before the activation, from its result ``y`` and the gradient ``dy`` there."""
    if activation is None:
        return dy
    from .pointwise import ReluBackward

    return graph.add(ReluBackward(), y, dy)
