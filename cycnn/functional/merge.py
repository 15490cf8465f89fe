"""Joining, cutting, padding and dropping; gradients where they are not one of these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..geometry import to_axes
from ..layers.regularisation import check_rate
from ..layers.shape import ZeroPadding2D
from ..ops import merge, pointwise
from ..ops.dropout import Dropout, DropPath
from ..ops.padding import Crop2D, ZeroPad2D
from .compute import array, compute

__all__ = [
    "add",
    "concatenate",
    "crop2d",
    "drop_path",
    "dropout",
    "multiply",
    "multiply_backward",
    "slice_channels",
    "zero_pad2d",
]


def add(a: object, b: object) -> np.ndarray:
    """``a + b`` for arrays of one shape."""
    return compute(pointwise.Add(), array(a, "a"), array(b, "b"))


def multiply(a: object, b: object) -> np.ndarray:
    """``a * b`` for arrays of one shape, or ``(N, H, W, C)`` with ``(N, 1, 1, C)`` in either order."""
    return compute(merge.Multiply(), array(a, "a"), array(b, "b"))


def multiply_backward(a: object, b: object, dy: object) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of `multiply` for ``a`` and for ``b``."""
    a, b, dy = array(a, "a"), array(b, "b"), array(dy, "dy")
    return _factor_gradient(a, b, dy), _factor_gradient(b, a, dy)


def _factor_gradient(a: np.ndarray, b: np.ndarray, dy: np.ndarray) -> np.ndarray:
    return compute(merge.Multiply() if a.shape == dy.shape else merge.PixelDot(), dy, b)


def concatenate(arrays: Sequence[object]) -> np.ndarray:
    """The channels of all ``arrays`` one after the other: they differ in their last axis alone."""
    return compute(merge.Concatenate(), *(array(a, "arrays") for a in arrays))


def slice_channels(x: object, begin: int, end: int) -> np.ndarray:
    """``x[..., begin:end]``; applied to ``dy`` it is the gradient of `concatenate`."""
    (begin,) = to_axes(begin, "begin", 1, least=0)
    (end,) = to_axes(end, "end", 1)
    return compute(merge.SliceChannels(begin, end), array(x, "x"))


def zero_pad2d(x: object, padding: object = 1) -> np.ndarray:
    """``x`` with zeros around its images: an integer, one per axis, or a pair (before, after) per axis."""
    return compute(ZeroPad2D(ZeroPadding2D(padding).padding), array(x, "x"))


def crop2d(x: object, padding: object = 1) -> np.ndarray:
    """``x`` without that many rows and columns; applied to ``dy`` it is the gradient of `zero_pad2d`."""
    return compute(Crop2D(ZeroPadding2D(padding).padding), array(x, "x"))


def dropout(x: object, rate: float, *, seed: int, step: int = 0, stream: int = 0) -> np.ndarray:
    """``x`` with a share ``rate`` of its elements 0 and the rest divided by ``1 - rate``.

    The mask depends on ``seed``, ``step``, ``stream`` and the place alone; applied to ``dy`` with the
    same ones it is the gradient.
    """
    return _dropped(Dropout, x, rate, seed, step, stream)


def drop_path(x: object, rate: float, *, seed: int, step: int = 0, stream: int = 0) -> np.ndarray:
    """``x`` with a share ``rate`` of its samples 0 and the rest divided by ``1 - rate``.

    Which ones depends on ``seed``, ``step``, ``stream`` and the sample's number alone; applied to ``dy``
    with the same ones it is the gradient.
    """
    return _dropped(DropPath, x, rate, seed, step, stream)


def _dropped(
    op: type[Dropout], x: object, rate: float, seed: int, step: int, stream: int
) -> np.ndarray:
    for name, value in (("seed", seed), ("step", step), ("stream", stream)):
        to_axes(value, name, 1, least=0)
    counters = np.array([seed, step], np.uint64)
    return compute(op(check_rate(rate), stream=stream), array(x, "x"), counters)
