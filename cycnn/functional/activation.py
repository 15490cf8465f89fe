"""Activations and softmax, and their gradients."""

from __future__ import annotations

import numpy as np

from ..ops import activation, loss
from .compute import array, compute

__all__ = [
    "hard_sigmoid",
    "hard_sigmoid_backward",
    "hard_swish",
    "hard_swish_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
]


def relu(x: object) -> np.ndarray:
    """``max(x, 0)``; NaN stays NaN."""
    return _activation("relu", x)


def relu_backward(y: object, dy: object) -> np.ndarray:
    """``dy`` where the output ``y`` of `relu` is above 0, else 0."""
    return _backward("relu", "y", y, dy)


def relu6(x: object) -> np.ndarray:
    """``min(max(x, 0), 6)``; NaN stays NaN."""
    return _activation("relu6", x)


def relu6_backward(y: object, dy: object) -> np.ndarray:
    """``dy`` where the output ``y`` of `relu6` is between 0 and 6, else 0."""
    return _backward("relu6", "y", y, dy)


def sigmoid(x: object) -> np.ndarray:
    """``1 / (1 + exp(-x))``; 0 below -87.1, next to the smallest normal number."""
    return _activation("sigmoid", x)


def sigmoid_backward(y: object, dy: object) -> np.ndarray:
    """``y (1 - y) dy``: the gradient of `sigmoid`, given its output ``y``."""
    return _backward("sigmoid", "y", y, dy)


def silu(x: object) -> np.ndarray:
    """``x sigmoid(x)``, also called swish; 0 below -87.1, NaN for -inf."""
    return _activation("silu", x)


def silu_backward(x: object, dy: object) -> np.ndarray:
    """``s (1 + x (1 - s)) dy`` with ``s = sigmoid(x)``: the gradient of `silu` at ``x``."""
    return _backward("silu", "x", x, dy)


def hard_sigmoid(x: object) -> np.ndarray:
    """``relu6(x + 3) / 6``, as in Keras 3 and PyTorch."""
    return _activation("hard_sigmoid", x)


def hard_sigmoid_backward(y: object, dy: object) -> np.ndarray:
    """``dy / 6`` where the output ``y`` of `hard_sigmoid` is between 0 and 1, else 0."""
    return _backward("hard_sigmoid", "y", y, dy)


def hard_swish(x: object) -> np.ndarray:
    """``x relu6(x + 3) / 6``."""
    return _activation("hard_swish", x)


def hard_swish_backward(x: object, dy: object) -> np.ndarray:
    """The gradient of `hard_swish` at ``x``: 0 up to -3, ``dy`` from 3 on, ``(x / 3 + 1 / 2) dy`` between."""
    return _backward("hard_swish", "x", x, dy)


def _activation(function: str, x: object) -> np.ndarray:
    return compute(activation.Activation(function), array(x, "x"))


def _backward(function: str, name: str, z: object, dy: object) -> np.ndarray:
    return compute(activation.ActivationBackward(function), array(z, name), array(dy, "dy"))


def softmax(x: object) -> np.ndarray:
    """``exp(x) / sum exp(x)`` over the last axis."""
    return compute(loss.Softmax(), array(x, "x"))


def softmax_backward(y: object, dy: object) -> np.ndarray:
    """The gradient of `softmax` with respect to ``x``, given its output ``y``."""
    return compute(loss.SoftmaxBackward(), array(y, "y"), array(dy, "dy"))
