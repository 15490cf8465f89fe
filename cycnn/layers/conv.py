"""Convolutional layers."""

from __future__ import annotations

from ..errors import ArgumentError, ShapeError
from ..geometry import Window, to_axes
from ..graph.ir import Graph, Value
from ..ops import conv as ops
from ..ops.base import Spec
from .activation import activate, check_activation
from .base import Layer

__all__ = ["Conv2D", "DepthwiseConv2D"]


class Conv2D(Layer):
    """Slide ``filters`` windows of weights over the image: cross-correlation, plus a bias per filter.

    Input ``(N, H, W, C)``, output ``(N, P, Q, filters)``; weights ``kernel_size x C / groups x filters``
    (HWIO). ``padding`` is "valid", "same" (an even window's extra row and column go to the bottom and
    right), an integer, one per axis, or ((top, bottom), (left, right)). ``algorithm="direct"`` excludes
    transforms with a rounding error of their own; "winograd2" and "winograd4" ask for one, see
    `ops.conv.Conv2D`. ``strict=True`` refuses an input that the windows do
    not tile. Raises `ArgumentError` and, when connected, `ShapeError`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        *,
        strides: int | tuple[int, int] = 1,
        padding: object = "valid",
        dilation_rate: int | tuple[int, int] = 1,
        groups: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: str = "glorot_uniform",
        bias_initializer: str = "zeros",
        algorithm: str = "auto",
        strict: bool = False,
        name: str | None = None,
        seed: int | None = None,
    ):
        super().__init__(name=name, seed=seed)
        (self.filters,) = to_axes(filters, "filters", 1)
        (self.groups,) = to_axes(groups, "groups", 1)
        self._window = Window.make(kernel_size, strides, padding, dilation_rate, strict=strict)
        self.kernel_size, self.strides = self._window.kernel, self._window.strides
        self.dilation_rate, self.padding = self._window.dilation, self._window.padding
        self.strict = self._window.strict
        self.activation = check_activation(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer
        self.algorithm = algorithm
        ops.check_algorithm(algorithm)
        if self.filters % self.groups:
            raise ArgumentError(
                f"`filters` (={self.filters}) must be divisible by `groups` (={self.groups})."
            )

    @property
    def window(self) -> Window:
        return self._window

    def build(self, x: Spec) -> None:
        if x.rank != 4:
            raise ShapeError(f"Conv2D takes images (N, H, W, C). Received shape {x.shape}.")
        channels = x.shape[-1]
        if channels % self.groups:
            raise ShapeError(
                f"The input's channels (={channels}) must be divisible by `groups` (={self.groups})."
            )
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        self.kernel = self.parameter("kernel", shape, self.kernel_initializer)
        self.bias = (
            self.parameter("bias", (self.filters,), self.bias_initializer)
            if self.use_bias
            else None
        )

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        op = ops.Conv2D(self._window, groups=self.groups, algorithm=self.algorithm)
        bias = None if self.bias is None else graph.parameter(self.bias)
        y = graph.add(op, x, graph.parameter(self.kernel), bias)
        return activate(graph, self.activation, y)


class DepthwiseConv2D(Layer):
    """``depth_multiplier`` windows of weights for each channel, which see that channel alone.

    Input ``(N, H, W, C)``, output ``(N, P, Q, C * depth_multiplier)`` with the filters of a channel next to
    each other. Weights ``kernel_size x 1 x C * depth_multiplier``: HWIO of a convolution in C groups (Keras
    keeps the same numbers as ``kernel_size x C x depth_multiplier``). Other arguments as for `Conv2D`.
    Raises `ArgumentError` and, when connected, `ShapeError`.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        *,
        strides: int | tuple[int, int] = 1,
        padding: object = "valid",
        depth_multiplier: int = 1,
        dilation_rate: int | tuple[int, int] = 1,
        activation: str | None = None,
        use_bias: bool = True,
        depthwise_initializer: str = "glorot_uniform",
        bias_initializer: str = "zeros",
        strict: bool = False,
        name: str | None = None,
        seed: int | None = None,
    ):
        super().__init__(name=name, seed=seed)
        self._window = Window.make(kernel_size, strides, padding, dilation_rate, strict=strict)
        self.kernel_size, self.strides = self._window.kernel, self._window.strides
        self.dilation_rate, self.padding = self._window.dilation, self._window.padding
        self.strict = self._window.strict
        (self.depth_multiplier,) = to_axes(depth_multiplier, "depth_multiplier", 1)
        self.activation = check_activation(activation)
        self.use_bias = bool(use_bias)
        self.depthwise_initializer = depthwise_initializer
        self.bias_initializer = bias_initializer

    @property
    def window(self) -> Window:
        return self._window

    def build(self, x: Spec) -> None:
        if x.rank != 4:
            raise ShapeError(
                f"DepthwiseConv2D takes images (N, H, W, C). Received shape {x.shape}."
            )
        self.groups = x.shape[-1]
        filters = self.groups * self.depth_multiplier
        shape = (*self.kernel_size, 1, filters)
        self.kernel = self.parameter("kernel", shape, self.depthwise_initializer)
        self.bias = (
            self.parameter("bias", (filters,), self.bias_initializer) if self.use_bias else None
        )

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        bias = None if self.bias is None else graph.parameter(self.bias)
        op = ops.Conv2D(self._window, groups=self.groups)
        return activate(
            graph, self.activation, graph.add(op, x, graph.parameter(self.kernel), bias)
        )
