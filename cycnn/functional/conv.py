"""Convolution and dense layers, and their gradients."""

from __future__ import annotations

import numpy as np

from ..arrays import as_float32
from ..errors import ShapeError
from ..geometry import Window, to_axes
from ..layers.activation import check_activation
from ..ops import conv, weight_gradient
from ..ops import dense as dense_ops
from ..ops.base import Spec
from .compute import PackedWeights, array, compute

__all__ = [
    "bias_gradient",
    "conv2d",
    "conv2d_backward_data",
    "conv2d_backward_weight",
    "dense",
    "dense_backward_data",
    "dense_backward_weight",
    "pack",
]


def _window(w: np.ndarray | tuple, strides: object, padding: object, dilation: object) -> Window:
    shape = w if isinstance(w, tuple) else w.shape
    if len(shape) != 4:
        raise ShapeError(f"`w` must have shape (kh, kw, C / groups, filters). Received: {shape}.")
    return Window.make(shape[:2], strides, padding, dilation)


def pack(
    w: object,
    *,
    strides: int | tuple[int, int] = 1,
    padding: object = 0,
    dilation_rate: int | tuple[int, int] = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> PackedWeights:
    """Weights to be used many times: the functions that take ``w`` then prepare them only once.

    They do so for every way in which the weights are used. What the first will be may be said here, with
    the keywords of `conv2d`, to have it checked.
    """
    value = as_float32(w, "w").copy()
    value.flags.writeable = False
    if value.ndim == 4:
        window = _window(value, strides, padding, dilation_rate)
        (groups,) = to_axes(groups, "groups", 1)
        conv.check_filters("pack", Spec(value.shape), window, groups)
        conv.check_algorithm(algorithm)
    return PackedWeights(value)


def conv2d(
    x: object,
    w: object,
    b: object | None = None,
    *,
    strides: int | tuple[int, int] = 1,
    padding: object = 0,
    dilation_rate: int | tuple[int, int] = 1,
    groups: int = 1,
    activation: str | None = None,
    algorithm: str = "auto",
) -> np.ndarray:
    """Cross-correlation of ``x`` with the filters ``w``, plus ``b``, then ``activation``.

    ``y[n,p,q,k] = b[k] + sum_{r,s,c} x[n, p*sh + r*dh - ph, q*sw + s*dw - pw, c] * w[r,s,c,k]``.
    """
    x, w, b = array(x, "x"), array(w, "w"), array(b, "b")
    window = _window(w, strides, padding, dilation_rate)
    (groups,) = to_axes(groups, "groups", 1)
    op = conv.Conv2D(window, groups, check_activation(activation), algorithm)
    return compute(op, x, w, b)


def conv2d_backward_data(
    dy: object,
    w: object,
    x_shape: tuple[int, int, int, int],
    *,
    strides: int | tuple[int, int] = 1,
    padding: object = 0,
    dilation_rate: int | tuple[int, int] = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> np.ndarray:
    """The gradient of `conv2d` with respect to ``x`` of shape ``x_shape``, given that of its output."""
    dy, w = array(dy, "dy"), array(w, "w")
    window = _window(w, strides, padding, dilation_rate)
    (groups,) = to_axes(groups, "groups", 1)
    shape = to_axes(x_shape, "x_shape", 4, least=0)
    return compute(conv.Conv2DBackwardData(window, groups, shape, algorithm), dy, w)


def conv2d_backward_weight(
    x: object,
    dy: object,
    w_shape: tuple[int, int, int, int],
    *,
    strides: int | tuple[int, int] = 1,
    padding: object = 0,
    dilation_rate: int | tuple[int, int] = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> np.ndarray:
    """The gradient of `conv2d` with respect to ``w`` of shape ``w_shape``: summed over all positions."""
    x, dy = array(x, "x"), array(dy, "dy")
    shape = to_axes(w_shape, "w_shape", 4)
    window = _window(shape, strides, padding, dilation_rate)
    (groups,) = to_axes(groups, "groups", 1)
    op = weight_gradient.Conv2DBackwardWeight(window, groups, shape, algorithm=algorithm)
    return compute(op, x, dy)


def bias_gradient(dy: object) -> np.ndarray:
    """The sum of ``dy`` over all axes but the last: the gradient of a bias."""
    return compute(weight_gradient.BiasGradient(), array(dy, "dy"))


def dense(
    x: object, w: object, b: object | None = None, *, activation: str | None = None
) -> np.ndarray:
    """``x w + b``, then ``activation``; ``x`` of shape ``(N, inputs)``, ``w`` ``(inputs, units)``."""
    op = dense_ops.Dense(check_activation(activation))
    return compute(op, array(x, "x"), array(w, "w"), array(b, "b"))


def dense_backward_data(dy: object, w: object) -> np.ndarray:
    """``dy w^T``: the gradient of `dense` with respect to ``x``."""
    return compute(dense_ops.DenseBackwardData(), array(dy, "dy"), array(w, "w"))


def dense_backward_weight(x: object, dy: object) -> np.ndarray:
    """``x^T dy``: the gradient of `dense` with respect to ``w``."""
    return compute(weight_gradient.DenseBackwardWeight(), array(x, "x"), array(dy, "dy"))
