"""Pooling layers: no parameters, one window over each channel."""

from __future__ import annotations

from ..geometry import Window
from ..graph.ir import Graph, Value
from ..ops import pool as ops
from ..ops.base import Op
from ..ops.shape import Reshape
from .base import Layer

__all__ = ["AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "MaxPooling2D"]


class _Pooling2D(Layer):
    """What max and average pooling share: a window that by default moves by its own size."""

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        *,
        strides: int | tuple[int, int] | None = None,
        padding: object = "valid",
        strict: bool = False,
        name: str | None = None,
    ):
        super().__init__(name=name)
        strides = pool_size if strides is None else strides
        self._window = Window.make(
            pool_size, strides, padding, strict=strict, kernel_name="pool_size"
        )
        self.pool_size, self.strides = self._window.kernel, self._window.strides
        self.padding, self.strict = self._window.padding, self._window.strict

    @property
    def window(self) -> Window:
        return self._window

    def op(self) -> Op:
        """The op that pools."""
        raise NotImplementedError

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        return graph.add(self.op(), x)


class MaxPooling2D(_Pooling2D):
    """Largest value in each window. Ties, and NaN, go to the first in row order, in both directions."""

    def op(self) -> Op:
        return ops.MaxPool2D(self._window)


class AveragePooling2D(_Pooling2D):
    """Mean of each window; padding is not counted unless ``count_include_pad``."""

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        *,
        strides: int | tuple[int, int] | None = None,
        padding: object = "valid",
        count_include_pad: bool = False,
        strict: bool = False,
        name: str | None = None,
    ):
        super().__init__(pool_size, strides=strides, padding=padding, strict=strict, name=name)
        self.count_include_pad = bool(count_include_pad)

    def op(self) -> Op:
        return ops.AveragePool2D(self._window, self.count_include_pad)


class _GlobalPooling2D(Layer):
    """What both have in common: whether height and width stay, as dims of 1."""

    def __init__(self, *, keepdims: bool = False, name: str | None = None):
        super().__init__(name=name)
        self.keepdims = bool(keepdims)

    def op(self) -> Op:
        """The op that pools."""
        raise NotImplementedError

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        y = graph.add(self.op(), x)
        return graph.add(Reshape((1, 1, y.spec.shape[1])), y) if self.keepdims else y


class GlobalAveragePooling2D(_GlobalPooling2D):
    """Mean of each channel over the whole image: ``(N, H, W, C) -> (N, C)``.

    With ``keepdims`` ``(N, 1, 1, C)``.
    """

    def op(self) -> Op:
        return ops.GlobalAveragePool2D()


class GlobalMaxPooling2D(_GlobalPooling2D):
    """Largest value of each channel over the whole image: ``(N, H, W, C) -> (N, C)``.

    With ``keepdims`` ``(N, 1, 1, C)``.
    """

    def op(self) -> Op:
        return ops.GlobalMaxPool2D()
