"""What an op can apply to its result while it stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import UnsupportedOp
from .activation import ActivationBackward, function_named

if TYPE_CHECKING:
    from ..graph.ir import Graph, Value

__all__ = ["activate", "activate_backward", "activation_code", "activation_gradient"]


def activation_code(activation: str | None) -> int:
    """The kernels' number of an activation. Raises `ArgumentError` for one they do not know."""
    return 0 if activation is None else function_named(activation).code


def activate(activation: str | None, y: np.ndarray) -> np.ndarray:
    """``activation`` of every element; NaN stays NaN."""
    return y if activation is None else function_named(activation).of(y)


def activate_backward(activation: str | None, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The gradient before the activation, from ``x`` there and the gradient ``dy`` after it."""
    if activation is None:
        return dy
    function = function_named(activation)
    return function.backward(function.of(x) if function.from_output else x, dy)


def activation_gradient(graph: Graph, activation: str | None, y: Value, dy: Value) -> Value:
    """The gradient before the activation, from its result ``y`` and the gradient ``dy`` there.

    Raises `UnsupportedOp` where it takes what was before the activation, which is not kept.
    """
    if activation is None:
        return dy
    if not function_named(activation).from_output:
        raise UnsupportedOp(
            f"The gradient of {activation!r} takes its input, which an op with "
            f"activation={activation!r} does not keep; differentiate before fusing them."
        )
    return graph.add(ActivationBackward(activation), y, dy)
