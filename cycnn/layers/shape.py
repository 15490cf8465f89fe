"""Layers that only change the shape, or put zeros around."""

from __future__ import annotations

import math

from ..errors import ArgumentError, ShapeError
from ..geometry import Window
from ..graph.ir import Graph, Value
from ..ops import padding, shape
from ..ops.base import Spec
from .base import Layer

__all__ = ["Flatten", "Reshape", "ZeroPadding2D"]


class Flatten(Layer):
    """``(N, H, W, C) -> (N, H * W * C)``, in that order; nothing is moved."""

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        return graph.add(shape.Flatten(), x)


class Reshape(Layer):
    """``(N, ...) -> (N, *target_shape)``, in row-major order; nothing is moved.

    One dim may be -1: it is computed from the input's, which must then be known. Raises `ArgumentError`
    and, when connected, `ShapeError`.
    """

    def __init__(self, target_shape: tuple[int, ...], *, name: str | None = None):
        super().__init__(name=name)
        good = isinstance(target_shape, (tuple, list)) and all(
            hasattr(d, "__index__") and not isinstance(d, bool) and (d == -1 or 0 < d < 2**31)
            for d in target_shape
        )
        if not good or not target_shape or list(target_shape).count(-1) > 1:
            raise ArgumentError(
                "`target_shape` must be a tuple of positive integers, without the batch; one may be "
                f"-1. Received: target_shape={target_shape!r}."
            )
        self.target_shape = tuple(int(d) for d in target_shape)

    def _target(self, x: Spec) -> tuple[int, ...]:
        if -1 not in self.target_shape:
            return self.target_shape
        given = -math.prod(self.target_shape)
        if None in x.shape[1:] or math.prod(x.shape[1:]) % given:
            raise ShapeError(
                f"Reshape to {self.target_shape} takes samples of a known number of elements that "
                f"{given} divides. Received shape {x.shape}."
            )
        rest = math.prod(x.shape[1:]) // given
        return tuple(rest if d == -1 else d for d in self.target_shape)

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        return graph.add(shape.Reshape(self._target(x.spec)), x)


class ZeroPadding2D(Layer):
    """Zeros around images: ``(N, H, W, C) -> (N, top + H + bottom, left + W + right, C)``.

    ``padding`` is an integer, one per axis, or ((top, bottom), (left, right)). Raises `ArgumentError`.
    """

    def __init__(self, padding: object = 1, *, name: str | None = None):
        super().__init__(name=name)
        if isinstance(padding, str):
            raise ArgumentError(
                "`padding` must be an integer of at least 0, one integer per axis, or one pair "
                f"(before, after) per axis. Received: padding={padding!r}."
            )
        self._window = Window.make(1, padding=padding)
        self.padding = self._window.padding

    @property
    def window(self) -> Window:
        return self._window

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        return graph.add(padding.ZeroPad2D(self.padding), x)
