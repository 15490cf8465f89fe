"""Pooling: the maximum or the mean over windows, or over whole images."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..errors import ShapeError
from ..geometry import Window
from .base import Cost, Op, Shape, Spec, require_rank

__all__ = [
    "AveragePool2D",
    "AveragePool2DBackward",
    "GlobalAveragePool2D",
    "GlobalAveragePool2DBackward",
    "GlobalMaxPool2D",
    "GlobalMaxPool2DBackward",
    "MaxPool2D",
    "MaxPool2DBackward",
]


def _pooled(op: str, x: Spec, window: Window) -> Spec:
    """The spec of ``x`` after pooling; every window must hold at least one real pixel."""
    require_rank(op, "x", x, 4, "(N, H, W, C)")
    n, *size, c = x.shape
    if not isinstance(window.padding, str):
        for axis, (pads, extent) in enumerate(zip(window.padding, window.extent, strict=True)):
            if max(pads) >= extent:
                raise ShapeError(
                    f"`{op}` takes padding smaller than its window, so that every window holds a "
                    f"real pixel: less than {extent} on spatial axis {axis}. "
                    f"Received: padding={window.padding}."
                )
    output = window.output(tuple(size))
    if window.taps >= 2**24:
        raise ShapeError(
            f"`{op}` takes windows of fewer than 2**24 positions. Received: {window.kernel}."
        )
    for axis, (w, out) in enumerate(zip(size, output, strict=True)):
        if w is not None and not _inside(window, axis, w, out).any(axis=1).all():
            raise ShapeError(
                f"`{op}` has a window without any real pixel on spatial axis {axis}. Received: "
                f"shape={x.shape}, padding={window.padding}, extent={window.extent}."
            )
    return Spec((n, *output, c), x.dtype)


def _inside(window: Window, axis: int, size: int, outputs: int) -> np.ndarray:
    """For the first and the last windows along an axis and each tap: is it inside the image?

    Those between lie inside where these do.
    """
    sizes = tuple(size for _ in window.kernel)
    ends = window.extent[axis] // window.strides[axis] + 2  # windows that may leave the image
    first = np.arange(min(outputs, ends))
    begin = (
        np.concatenate([first, outputs - 1 - first]) * window.strides[axis]
        - window.pads(sizes)[axis][0]
    )
    taps = begin[:, None] + np.arange(window.kernel[axis]) * window.dilation[axis]
    return (taps >= 0) & (taps < size)


def _tap_slices(x_shape: Shape, window: Window):
    """For each tap in row order, where it meets x, and which windows it belongs to, as slices.

    The padded image is meant: slices of it, and of the outputs.
    """
    p, q = window.output(x_shape[1:3])
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            top, left = i * window.dilation[0], j * window.dilation[1]
            yield (
                slice(None),
                slice(top, top + (p - 1) * window.strides[0] + 1, window.strides[0]),
                slice(left, left + (q - 1) * window.strides[1] + 1, window.strides[1]),
            )


def _padded(x: np.ndarray, window: Window, fill: float) -> np.ndarray:
    pads = window.pads(x.shape[1:3])
    return np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)


def _cropped(padded: np.ndarray, x_shape: Shape, window: Window) -> np.ndarray:
    (top, _), (left, _) = window.pads(x_shape[1:3])
    return padded[:, top : top + x_shape[1], left : left + x_shape[2]]


def _first_maximum(x: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """The largest value of each window and the number of the tap where it is first met."""
    padded = _padded(x, window, -np.inf)
    real = _padded(np.ones((1, *x.shape[1:3], 1), bool), window, False)
    y = winner = None
    for tap, here in enumerate(_tap_slices(x.shape, window)):
        value, inside = padded[here], real[here]
        if y is None:
            y, winner = value.copy(), np.where(inside, 0, -1) + np.zeros(value.shape, int)
            continue
        better = inside & ((value > y) | (np.isnan(value) & ~np.isnan(y)) | (winner < 0))
        y, winner = np.where(better, value, y), np.where(better, tap, winner)
    return y, winner


def _divisor(x_shape: Shape, window: Window, count_include_pad: bool, dtype) -> np.ndarray:
    """What each window's sum is divided by, of shape (1, P, Q, 1)."""
    real = np.ones((1, *x_shape[1:3], 1), dtype)
    padded = _padded(real, window, 1 if count_include_pad else 0)
    return sum(padded[here] for here in _tap_slices(x_shape, window))


class MaxPool2D(Op):
    """The largest value in each window: ``y[n,p,q,c] = max x[n, p*sh+i*dh-top, q*sw+j*dw-left, c]``.

    Padding never wins: positions outside ``x`` are skipped. NaN is larger than any number. Ties go to
    the first position in row order, in both directions. ``(N, H, W, C) -> (N, P, Q, C)``.
    """

    window: Window
    onnx: ClassVar[str] = "MaxPool"

    def infer(self, x: Spec) -> Spec:
        return _pooled(self.name, x, self.window)

    def gradient(self, graph, node, dys):
        return [graph.add(MaxPool2DBackward(self.window), node.inputs[0], dys[0])]

    def evaluate(self, x):
        return _first_maximum(x, self.window)[0]

    def cost(self, x: Spec) -> Cost:
        y = self.infer(x)
        return Cost(y.size * self.window.taps, x.nbytes + y.nbytes)

    def lower(self, node, target):
        x = node.inputs[0].spec.shape
        kernel = target.kernels.pool.max_forward(x, self.window)
        target.emit(kernel, target.reads(node), target.writes(node))


class MaxPool2DBackward(Op):
    """``dx``: each window's ``dy`` goes to its first maximum in row order, found again from ``x``."""

    window: Window

    def infer(self, x: Spec, dy: Spec) -> Spec:
        _require_output(self.name, _pooled(self.name, x, self.window), dy)
        return x

    def evaluate(self, x, dy):
        _, winner = _first_maximum(x, self.window)
        dx = _padded(np.zeros_like(x), self.window, 0)
        for tap, here in enumerate(_tap_slices(x.shape, self.window)):
            dx[here] += np.where(winner == tap, dy, 0)
        return _cropped(dx, x.shape, self.window)

    def cost(self, x: Spec, dy: Spec) -> Cost:
        return Cost(2 * dy.size * self.window.taps, 2 * x.nbytes + dy.nbytes)

    def lower(self, node, target):
        x = node.inputs[0].spec.shape
        kernel = target.kernels.pool.max_backward(x, self.window)
        target.emit(kernel, target.reads(node), target.writes(node))


def _require_output(op: str, y: Spec, dy: Spec) -> None:
    if dy.shape != y.shape:
        raise ShapeError(f"`{op}` takes dy of shape {y.shape}. Received shape {dy.shape}.")


class AveragePool2D(Op):
    """The mean of each window, ``(N, H, W, C) -> (N, P, Q, C)``.

    Padding is zero; it counts in the divisor only with ``count_include_pad``.
    """

    window: Window
    count_include_pad: bool = False
    onnx: ClassVar[str] = "AveragePool"

    def infer(self, x: Spec) -> Spec:
        return _pooled(self.name, x, self.window)

    def gradient(self, graph, node, dys):
        op = AveragePool2DBackward(self.window, node.inputs[0].spec.shape, self.count_include_pad)
        return [graph.add(op, dys[0])]

    def evaluate(self, x):
        padded = _padded(x, self.window, 0)
        total = sum(padded[here] for here in _tap_slices(x.shape, self.window))
        return total / _divisor(x.shape, self.window, self.count_include_pad, x.dtype)

    def cost(self, x: Spec) -> Cost:
        y = self.infer(x)
        return Cost(y.size * self.window.taps, x.nbytes + y.nbytes)

    def lower(self, node, target):
        x = node.inputs[0].spec.shape
        kernel = target.kernels.pool.average_forward(x, self.window, self.count_include_pad)
        target.emit(kernel, target.reads(node), target.writes(node))


class AveragePool2DBackward(Op):
    """``dx`` of shape ``x_shape``: each window's ``dy`` is shared out evenly among its positions."""

    window: Window
    x_shape: Shape
    count_include_pad: bool = False

    def infer(self, dy: Spec) -> Spec:
        x = Spec(self.x_shape, dy.dtype)
        _require_output(self.name, _pooled(self.name, x, self.window), dy)
        return x

    def evaluate(self, dy):
        share = dy / _divisor(self.x_shape, self.window, self.count_include_pad, dy.dtype)
        dx = _padded(np.zeros(self.x_shape, dy.dtype), self.window, 0)
        for here in _tap_slices(self.x_shape, self.window):
            dx[here] += share
        return _cropped(dx, self.x_shape, self.window)

    def cost(self, dy: Spec) -> Cost:
        x = self.infer(dy)
        return Cost(dy.size * self.window.taps, x.nbytes + dy.nbytes)

    def lower(self, node, target):
        kernel = target.kernels.pool.average_backward(
            self.x_shape, self.window, self.count_include_pad
        )
        target.emit(kernel, target.reads(node), target.writes(node))


# ---- over whole images ---------------------------------------------------------------------------


def _whole(x_shape: Shape) -> Window:
    """The window that is the image."""
    return Window.make(x_shape[1:3], x_shape[1:3])


def _pooled_globally(op: str, x: Spec) -> Spec:
    require_rank(op, "x", x, 4, "(N, H, W, C)")
    if 0 in x.shape[1:3]:
        raise ShapeError(f"`{op}` takes images of at least one pixel. Received shape {x.shape}.")
    return Spec((x.shape[0], x.shape[3]), x.dtype)


class GlobalAveragePool2D(Op):
    """The mean over each image, ``(N, H, W, C) -> (N, C)``."""

    onnx: ClassVar[str] = "GlobalAveragePool"

    def infer(self, x: Spec) -> Spec:
        return _pooled_globally(self.name, x)

    def gradient(self, graph, node, dys):
        return [graph.add(GlobalAveragePool2DBackward(node.inputs[0].spec.shape), dys[0])]

    def evaluate(self, x):
        return x.mean(axis=(1, 2))

    def cost(self, x: Spec) -> Cost:
        return Cost(x.size, x.nbytes + self.infer(x).nbytes)

    def lower(self, node, target):
        x = node.inputs[0].spec.shape
        kernel = target.kernels.pool.average_forward(x, _whole(x), False)
        target.emit(kernel, target.reads(node), target.writes(node))


class GlobalAveragePool2DBackward(Op):
    """``dx[n,h,w,c] = dy[n,c] / (H * W)``, of shape ``x_shape``."""

    x_shape: Shape

    def infer(self, dy: Spec) -> Spec:
        x = Spec(self.x_shape, dy.dtype)
        _require_output(self.name, _pooled_globally(self.name, x), dy)
        return x

    def evaluate(self, dy):
        n, h, w, c = self.x_shape
        return np.broadcast_to(dy[:, None, None] / dy.dtype.type(h * w), (n, h, w, c)).copy()

    def lower(self, node, target):
        kernel = target.kernels.pool.average_backward(self.x_shape, _whole(self.x_shape), False)
        target.emit(kernel, target.reads(node), target.writes(node))


class GlobalMaxPool2D(Op):
    """The largest value of each image, ``(N, H, W, C) -> (N, C)``; NaN where there is one."""

    onnx: ClassVar[str] = "GlobalMaxPool"

    def infer(self, x: Spec) -> Spec:
        return _pooled_globally(self.name, x)

    def gradient(self, graph, node, dys):
        return [graph.add(GlobalMaxPool2DBackward(), node.inputs[0], dys[0])]

    def evaluate(self, x):
        return x.max(axis=(1, 2))

    def cost(self, x: Spec) -> Cost:
        return Cost(x.size, x.nbytes + self.infer(x).nbytes)

    def lower(self, node, target):
        x = node.inputs[0].spec.shape
        kernel = target.kernels.pool.max_forward(x, _whole(x))
        target.emit(kernel, target.reads(node), target.writes(node))


class GlobalMaxPool2DBackward(Op):
    """``dx``: ``dy[n,c]`` at the first maximum in row order of ``x[n,:,:,c]``, 0 elsewhere."""

    def infer(self, x: Spec, dy: Spec) -> Spec:
        _require_output(self.name, _pooled_globally(self.name, x), dy)
        return x

    def evaluate(self, x, dy):
        n, h, w, c = x.shape
        pixels = x.reshape(n, h * w, c)
        dx = np.zeros_like(pixels)  # argmax: the first, and a NaN before any number
        np.put_along_axis(dx, pixels.argmax(axis=1)[:, None], dy[:, None], axis=1)
        return dx.reshape(x.shape)

    def lower(self, node, target):
        x = node.inputs[0].spec.shape
        kernel = target.kernels.pool.max_backward(x, _whole(x))
        target.emit(kernel, target.reads(node), target.writes(node))
