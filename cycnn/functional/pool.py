"""Pooling, over windows and over whole images, and its gradients."""

from __future__ import annotations

import numpy as np

from ..geometry import Window, to_axes
from ..ops import pool
from .compute import array, compute

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "global_max_pool2d",
    "global_max_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
]


def _pooling(pool_size: object, strides: object, padding: object) -> Window:
    strides = pool_size if strides is None else strides
    return Window.make(pool_size, strides, padding, kernel_name="pool_size")


def max_pool2d(
    x: object,
    pool_size: int | tuple[int, int] = 2,
    *,
    strides: int | tuple[int, int] | None = None,
    padding: object = 0,
) -> np.ndarray:
    """Largest value in each window; ties and NaN go to the first in row order."""
    return compute(pool.MaxPool2D(_pooling(pool_size, strides, padding)), array(x, "x"))


def max_pool2d_backward(
    x: object,
    dy: object,
    pool_size: int | tuple[int, int] = 2,
    *,
    strides: int | tuple[int, int] | None = None,
    padding: object = 0,
) -> np.ndarray:
    """The gradient of `max_pool2d` with respect to ``x``: each ``dy`` goes to its window's maximum."""
    op = pool.MaxPool2DBackward(_pooling(pool_size, strides, padding))
    return compute(op, array(x, "x"), array(dy, "dy"))


def avg_pool2d(
    x: object,
    pool_size: int | tuple[int, int] = 2,
    *,
    strides: int | tuple[int, int] | None = None,
    padding: object = 0,
    count_include_pad: bool = False,
) -> np.ndarray:
    """Mean of each window; padding is not counted unless ``count_include_pad``."""
    window = _pooling(pool_size, strides, padding)
    return compute(pool.AveragePool2D(window, bool(count_include_pad)), array(x, "x"))


def avg_pool2d_backward(
    dy: object,
    x_shape: tuple[int, int, int, int],
    pool_size: int | tuple[int, int] = 2,
    *,
    strides: int | tuple[int, int] | None = None,
    padding: object = 0,
    count_include_pad: bool = False,
) -> np.ndarray:
    """The gradient of `avg_pool2d` with respect to ``x`` of shape ``x_shape``."""
    window = _pooling(pool_size, strides, padding)
    shape = to_axes(x_shape, "x_shape", 4, least=0)
    op = pool.AveragePool2DBackward(window, shape, bool(count_include_pad))
    return compute(op, array(dy, "dy"))


def global_avg_pool2d(x: object) -> np.ndarray:
    """Mean of each channel over the image: ``(N, H, W, C) -> (N, C)``."""
    return compute(pool.GlobalAveragePool2D(), array(x, "x"))


def global_max_pool2d(x: object) -> np.ndarray:
    """Largest value of each channel over the image: ``(N, H, W, C) -> (N, C)``."""
    return compute(pool.GlobalMaxPool2D(), array(x, "x"))


def global_avg_pool2d_backward(dy: object, x_shape: tuple[int, int, int, int]) -> np.ndarray:
    """The gradient of `global_avg_pool2d` with respect to ``x`` of shape ``x_shape``."""
    shape = to_axes(x_shape, "x_shape", 4, least=0)
    return compute(pool.GlobalAveragePool2DBackward(shape), array(dy, "dy"))


def global_max_pool2d_backward(x: object, dy: object) -> np.ndarray:
    """The gradient of `global_max_pool2d` with respect to ``x``."""
    return compute(pool.GlobalMaxPool2DBackward(), array(x, "x"), array(dy, "dy"))
