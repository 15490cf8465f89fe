"""Ops that join branches channel by channel: concatenation, and products with factors of channels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..errors import ArgumentError, ShapeError
from .base import Cost, Op, Spec, require_rank, require_same_shape

__all__ = ["Concatenate", "Multiply", "PixelDot", "SliceChannels"]


def _agreed(dims: tuple[int | None, ...]) -> int | None:
    """What known dims have in common; None where none is known. Raises `ValueError`."""
    known = {d for d in dims if d is not None}
    if len(known) > 1:
        raise ValueError(dims)
    return known.pop() if known else None


class Concatenate(Op):
    """``(..., C1), (..., C2), ... -> (..., C1 + C2 + ...)``: the channels of all inputs, in order."""

    onnx: ClassVar[str] = "Concat"
    joins: ClassVar[bool] = True

    def takes_step(self, node, value):
        return True

    def infer(self, *xs: Spec) -> Spec:
        shapes = ", ".join(str(x.shape) for x in xs)
        if len(xs) < 1 or any(x.rank < 2 or x.rank != xs[0].rank for x in xs):
            raise ShapeError(
                f"`Concatenate` takes tensors of one rank, 2 or more. Received shapes: {shapes}."
            )
        try:
            outer = tuple(map(_agreed, zip(*(x.shape[:-1] for x in xs), strict=True)))
        except ValueError:
            raise ShapeError(
                "`Concatenate` joins the last axis of tensors that agree in all others. "
                f"Received shapes: {shapes}."
            ) from None
        channels = [x.shape[-1] for x in xs]
        return Spec((*outer, None if None in channels else sum(channels)), xs[0].dtype)

    def gradient(self, graph, node, dys):
        dxs, begin = [], 0
        for x in node.inputs:
            end = begin + x.spec.shape[-1]
            dxs.append(graph.add(SliceChannels(begin, end), dys[0]))
            begin = end
        return dxs

    def evaluate(self, *xs):
        return np.concatenate(xs, axis=-1)

    def cost(self, *xs: Spec) -> Cost:
        return Cost(0, 2 * sum(x.nbytes for x in xs))

    def lower(self, node, target):
        """Copy what is not in its place already."""
        y, begin = node.output, 0
        for x in node.inputs:
            width = x.spec.shape[-1]
            if not target.is_inside(x, y, begin):
                kernel = target.kernels.strided.insert_channels(
                    y.spec.pixels, width, target.step(y), begin, target.step(x)
                )
                target.emit(
                    kernel, [target.read(x)], [target.read(y)], cost=Cost(0, 2 * x.spec.nbytes)
                )
            begin += width


class SliceChannels(Op):
    """``y = x[..., begin:end]``; with ``0 <= begin < end``."""

    begin: int
    end: int
    onnx: ClassVar[str] = "Slice"

    def infer(self, x: Spec) -> Spec:
        if not 0 <= self.begin < self.end:
            raise ArgumentError(
                "`begin` must be at least 0 and less than `end`. "
                f"Received: begin={self.begin}, end={self.end}."
            )
        if x.rank < 2 or (x.shape[-1] is not None and x.shape[-1] < self.end):
            raise ShapeError(
                f"`SliceChannels` takes x of {self.end} channels or more. Received shape {x.shape}."
            )
        return Spec((*x.shape[:-1], self.end - self.begin), x.dtype)

    def evaluate(self, x):
        return x[..., self.begin : self.end].copy()

    def cost(self, x: Spec) -> Cost:
        return Cost(0, 2 * self.infer(x).nbytes)

    def lower(self, node, target):
        x = node.inputs[0].spec
        kernel = target.kernels.strided.slice_channels(x.pixels, x.shape[-1], self.begin, self.end)
        target.emit(kernel, target.reads(node), target.writes(node))


def _gates(x: Spec, s: Spec) -> bool:
    """Whether ``s`` is (N, 1, 1, C), for an x of (N, H, W, C)."""
    return (
        x.rank == s.rank == 4
        and s.shape[1:3] == (1, 1)
        and all(None in p or p[0] == p[1] for p in zip(x.shape[::3], s.shape[::3], strict=True))
    )


class Multiply(Op):
    """``y = a * b`` for tensors of one shape, or with a factor for each channel of an image:
    ``(N, H, W, C), (N, 1, 1, C) -> (N, H, W, C)``, in either order."""

    onnx: ClassVar[str] = "Mul"

    def infer(self, a: Spec, b: Spec) -> Spec:
        if _gates(a, b):
            return a
        if _gates(b, a):
            return b
        try:
            require_same_shape(self.name, a, b, "a and b")
        except ShapeError as error:
            raise ShapeError(f"{error} One of them may have shape (N, 1, 1, C).") from None
        return a if a.concrete else b

    def gradient(self, graph, node, dys):
        a, b = node.inputs
        return [self._gradient(graph, a, b, dys[0]), self._gradient(graph, b, a, dys[0])]

    def _gradient(self, graph, a, b, dy):
        """With respect to ``a``, the other factor being ``b``."""
        op = self if a.spec.shape == dy.spec.shape else PixelDot()
        return graph.add(op, dy, b)

    def evaluate(self, a, b):
        return a * b

    def lower(self, node, target):
        a, b = (v.spec for v in node.inputs)
        if a.shape == b.shape:
            kernel, order = target.kernels.pointwise.multiply(a.size), (0, 1)
        else:
            order = (0, 1) if b.shape[1:3] == (1, 1) else (1, 0)
            n, h, w, c = node.output.spec.shape
            kernel = target.kernels.gate.scale(n, h * w, c)
        reads = target.reads(node)
        target.emit(kernel, [reads[i] for i in order], target.writes(node), in_place=(0, 0))


class PixelDot(Op):
    """``y[n, 0, 0, c] = sum over h, w of a[n, h, w, c] * b[n, h, w, c]``."""

    def infer(self, a: Spec, b: Spec) -> Spec:
        require_rank(self.name, "a", a, 4, "(N, H, W, C)")
        require_same_shape(self.name, a, b, "a and b")
        return Spec((a.shape[0], 1, 1, a.shape[3]), a.dtype)

    def evaluate(self, a, b):
        return (a * b).sum(axis=(1, 2), keepdims=True)

    def cost(self, a: Spec, b: Spec) -> Cost:
        return Cost(2 * a.size, a.nbytes + b.nbytes)

    def lower(self, node, target):
        n, h, w, c = node.inputs[0].spec.shape
        kernel = target.kernels.gate.reduce(n, h * w, c)
        target.emit(kernel, target.reads(node), target.writes(node))
