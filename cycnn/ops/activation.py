"""Activations: functions of one element. To add one: a line here and in `kernels/activation.pxd`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError
from .base import Cost, Op, Spec, require_same_shape

__all__ = ["FUNCTIONS", "Activation", "ActivationBackward", "Function", "function_named"]


class Function(NamedTuple):
    """What an activation is.

    ``code``: the kernels' number for it; ``of(x)``: y; ``backward(z, dy)``: dx, from z = y where
    ``from_output``, else from z = x; ``flops``: of an element.
    """

    code: int
    of: Callable[[np.ndarray], np.ndarray]
    backward: Callable[[np.ndarray, np.ndarray], np.ndarray]
    from_output: bool = True
    flops: int = 1


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def _silu_backward(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    s = _sigmoid(x)
    return dy * (s * (1 + x * (1 - s)))


def _hard_swish_backward(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    dx = dy * (np.clip(x, -3, 3) / 3 + 0.5)
    return np.where(x <= -3, 0, np.where(x >= 3, dy, dx)).astype(dy.dtype)


def _where_between(low: float, high: float, z: np.ndarray, dy: np.ndarray) -> np.ndarray:
    return np.where((z <= low) | (z >= high), dy.dtype.type(0), dy)


# PyTorch's definitions and its rules at the corners; the gradient passes, or is NaN, where x is NaN
FUNCTIONS = {
    "relu": Function(
        1,
        lambda x: np.maximum(x, 0),
        lambda y, dy: np.where(y <= 0, dy.dtype.type(0), dy),
    ),
    "relu6": Function(
        2,
        lambda x: np.clip(x, 0, 6),
        lambda y, dy: _where_between(0, 6, y, dy),
    ),
    "sigmoid": Function(3, _sigmoid, lambda y, dy: dy * (y * (1 - y)), flops=24),
    "silu": Function(4, lambda x: x * _sigmoid(x), _silu_backward, from_output=False, flops=24),
    "hard_sigmoid": Function(
        5,
        lambda x: np.clip(x + 3, 0, 6) / 6,
        lambda y, dy: _where_between(0, 1, y, dy / 6),
    ),
    "hard_swish": Function(
        6,
        lambda x: x * (np.clip(x + 3, 0, 6) / 6),
        _hard_swish_backward,
        from_output=False,
    ),
}


def function_named(name: str) -> Function:
    """The activation of that name. Raises `ArgumentError` for one that there is not."""
    if name not in FUNCTIONS:
        raise ArgumentError(
            f"`activation` must be None or one of {', '.join(map(repr, FUNCTIONS))}. "
            f"Received: activation={name!r}."
        )
    return FUNCTIONS[name]


class Activation(Op):
    """``y = f(x)`` for every element, f being one of `FUNCTIONS`; any shape; NaN stays NaN."""

    function: str

    @property
    def epilogue(self) -> str:
        return self.function

    @property
    def from_output(self) -> bool:
        return function_named(self.function).from_output

    def infer(self, x: Spec) -> Spec:
        function_named(self.function)
        return x

    def gradient(self, graph, node, dys):
        z = node.output if self.from_output else node.inputs[0]
        return [graph.add(ActivationBackward(self.function), z, dys[0])]

    def evaluate(self, x):
        return function_named(self.function).of(x)

    def cost(self, x: Spec) -> Cost:
        return Cost(function_named(self.function).flops * x.size, 2 * x.nbytes)

    def lower(self, node, target):
        code = function_named(self.function).code
        target.emit(
            target.kernels.pointwise.activation(self.function, node.output.spec.size, code),
            target.reads(node),
            target.writes(node),
            in_place=(0, 0),
        )


class ActivationBackward(Op):
    """``dx = f'(x) dy`` from z, dy: z is x or, where f' can be had from it, y (`Function`)."""

    function: str

    def infer(self, z: Spec, dy: Spec) -> Spec:
        function_named(self.function)
        require_same_shape(self.name, z, dy, "z and dy")
        return dy

    def evaluate(self, z, dy):
        return function_named(self.function).backward(z, dy)

    def cost(self, z: Spec, dy: Spec) -> Cost:
        return Cost(function_named(self.function).flops * z.size, 3 * z.nbytes)

    def lower(self, node, target):
        name, code = f"{self.function}_backward", function_named(self.function).code
        target.emit(
            target.kernels.pointwise.activation_backward(name, node.output.spec.size, code),
            target.reads(node),
            target.writes(node),
            in_place=(1, 0),
        )
