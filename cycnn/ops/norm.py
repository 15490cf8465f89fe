"""Batch normalization: by the batch's statistics in training, by moving ones in inference.

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
Covariate Shift", 2015. A channel is an index of the last axis; its statistics are over all others.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from ..errors import ArgumentError, ShapeError, UnsupportedOp
from .base import Cost, Op, Spec
from .epilogue import activate, activate_backward, activation_code

if TYPE_CHECKING:
    from ..graph.ir import Graph, Node, Value
    from ..plan.lower import Buffer, Target

__all__ = ["BatchNorm", "BatchNormBackward", "BatchNormInference", "FoldBatchNorm", "MovingAverage"]

SLOT = 64  # pixels that the kernels sum in float
STRIP = 256  # channels that are summed by one item, where whole rows would make too few items
ITEM_FLOATS = 32768  # that are summed by one item, about
ENOUGH = 64  # items
CHANNEL_FLOPS = 50  # of what is done once a channel


def _require_channels(op: str, x: Spec, x_name: str = "x", **vectors: Spec | None) -> None:
    if x.rank < 2 or not x.shape[-1]:
        raise ShapeError(
            f"`{op}` takes {x_name} of shape (N, ..., C) with known C >= 1. Received: {x.shape}."
        )
    for name, spec in vectors.items():
        if spec is not None and spec.shape != x.shape[-1:]:
            raise ShapeError(
                f"`{op}` takes {name} of shape {x.shape[-1:]} for {x_name} of shape {x.shape}. "
                f"Received: {name} of shape {spec.shape}."
            )


def _require_epsilon(epsilon: float) -> None:
    if not 0 < epsilon < math.inf:
        raise ArgumentError(f"`epsilon` must be above 0. Received: epsilon={epsilon!r}.")


def _affine(x, gamma, beta, mean, invstd):
    scale = invstd if gamma is None else gamma * invstd
    y = (x - mean) * scale
    return y if beta is None else y + beta


def _vector_cost(channels: int, vectors: int = 6) -> Cost:
    return Cost(CHANNEL_FLOPS * channels, 4 * vectors * channels)


class _Sums(NamedTuple):
    """How a tensor is cut where its channels are summed over pixels: by its shape alone."""

    pixels: int
    channels: int

    @property
    def group(self) -> int:
        """Pixels that are summed by one item: whole slots."""
        slots = ITEM_FLOATS // (SLOT * min(self.channels, STRIP))
        return SLOT * min(max(slots, 1), 32)

    @property
    def groups(self) -> int:
        return math.ceil(self.pixels / self.group)

    @property
    def strip(self) -> int:
        """Channels that are summed by one item."""
        return self.channels if self.groups >= ENOUGH else STRIP

    def cost(self, tensors: int) -> Cost:
        """Of reading or writing that many tensors."""
        size = self.pixels * self.channels
        return Cost(4 * tensors * size, 4 * tensors * size)

    def buffer(self, target: Target) -> Buffer:
        """Two sums of double for every group and channel."""
        return target.temporary(16 * self.groups * self.channels)

    @property
    def total_cost(self) -> Cost:
        """Of adding up the groups."""
        return Cost(
            (2 * self.groups + CHANNEL_FLOPS) * self.channels, 16 * self.groups * self.channels
        )


class BatchNorm(Op):
    """In training: every channel with its own mean 0 and variance 1, then scaled and shifted.

        y = activation(gamma * (x - mean) * invstd + beta),   invstd = 1 / sqrt(variance + epsilon)

    ``(x (N, ..., C), gamma (C), beta (C)) -> (y, mean, invstd, unbiased)``; gamma and beta may be absent: 1
    and 0. ``variance`` is that of the batch, divided by the number of values; ``unbiased`` is divided by
    one less, and is what moving averages are made of. A channel must have two values or more.
    """

    epsilon: float = 1e-3
    activation: str | None = None
    onnx: ClassVar[str] = "BatchNormalization"
    recomputes: ClassVar[bool] = True

    def infer(self, x: Spec, gamma: Spec | None, beta: Spec | None) -> tuple[Spec, ...]:
        _require_channels(self.name, x, gamma=gamma, beta=beta)
        _require_epsilon(self.epsilon)
        activation_code(self.activation)
        if x.concrete and x.pixels < 2:
            raise ShapeError(
                f"`{self.name}` takes two values or more of every channel in training: one has no "
                f"variance. Received: x of shape {x.shape}."
            )
        return x, *(Spec(x.shape[-1:], x.dtype) for _ in range(3))

    def gradient(
        self, graph: Graph, node: Node, dys: tuple[Value | None, ...]
    ) -> list[Value | None]:
        x, gamma, beta = node.inputs
        if dys[0] is None or any(dy is not None for dy in dys[1:]):
            raise UnsupportedOp(f"The gradient of `{self.name}` is that of y alone.")
        _, mean, invstd, _ = node.outputs
        op = BatchNormBackward(self.activation)
        dx, dgamma, dbeta = graph.add(op, x, dys[0], gamma, beta, mean, invstd)
        return [dx, None if gamma is None else dgamma, None if beta is None else dbeta]

    def evaluate(self, x, gamma, beta):
        axes, n = tuple(range(x.ndim - 1)), math.prod(x.shape[:-1])
        wide = x.astype(np.float64)
        mean, variance = wide.mean(axis=axes), wide.var(axis=axes)
        unbiased = variance * (n / (n - 1))
        statistics = (mean, 1 / np.sqrt(variance + self.epsilon), unbiased)
        mean, invstd, unbiased = (s.astype(x.dtype) for s in statistics)
        y = activate(self.activation, _affine(x, gamma, beta, mean, invstd))
        return y, mean, invstd, unbiased

    def cost(self, x: Spec, gamma: Spec | None, beta: Spec | None) -> Cost:
        return Cost(6 * x.size, 3 * x.nbytes)

    def lower(self, node: Node, target: Target) -> None:
        x, gamma, beta = target.reads(node)
        y, mean, invstd, unbiased = target.writes(node)
        spec = node.inputs[0].spec
        cut, channels = _Sums(spec.pixels, spec.shape[-1]), target.kernels.norm_channels
        kernel = target.kernels.norm.moment_sums(cut.pixels, cut.channels, cut.group, cut.strip)
        sums, affine = cut.buffer(target), target.temporary(8 * cut.channels)
        target.emit(kernel, [x], [sums], cost=cut.cost(1))
        kernel = channels.moments(cut.pixels, cut.channels, cut.groups, self.epsilon)
        target.emit(kernel, [sums], [mean, invstd, unbiased], cost=cut.total_cost)
        _emit_affine(target, channels.affine(cut.channels), [gamma, beta, mean, invstd], affine)
        _emit_normalise(target, node, x, affine, y, self.activation)


def _emit_affine(target: Target, kernel: tuple, reads: list, affine: Buffer) -> None:
    target.emit(kernel, reads, [affine], cost=_vector_cost(affine.nbytes // 8))


def _emit_normalise(
    target: Target, node: Node, x: Buffer, affine: Buffer, y: Buffer, activation: str | None
) -> None:
    spec = node.inputs[0].spec
    code = activation_code(activation)
    steps = target.step(node.inputs[0]), target.step(node.output)
    kernel = target.kernels.norm.normalise(spec.pixels, spec.shape[-1], code, *steps)
    target.emit(
        kernel, [x, affine], [y], in_place=(0, 0), cost=Cost(2 * spec.size, 2 * spec.nbytes)
    )


class BatchNormBackward(Op):
    """The gradients of `BatchNorm`, from its input: ``g`` is dy times the activation's derivative.

        dbeta = sum g,   dgamma = sum g * xhat,   xhat = (x - mean) * invstd
        dx = gamma * invstd * (g - dbeta / n - xhat * dgamma / n)

    with sums over the n values of a channel. ``(x, dy, gamma, beta, mean, invstd) -> (dx, dgamma,
    dbeta)``; gamma and beta may be absent: 1 and 0. What the activation was applied to is computed again
    by the same multiply-add as in `BatchNorm`, so that neither it nor the result need be kept.
    """

    activation: str | None = None

    def infer(
        self,
        x: Spec,
        dy: Spec,
        gamma: Spec | None,
        beta: Spec | None,
        mean: Spec,
        invstd: Spec,
    ) -> tuple[Spec, Spec, Spec]:
        _require_channels(self.name, x, gamma=gamma, beta=beta, mean=mean, invstd=invstd)
        activation_code(self.activation)
        if dy.shape != x.shape:
            raise ShapeError(
                f"`{self.name}` takes dy of shape {x.shape}. Received: dy of shape {dy.shape}."
            )
        vector = Spec(x.shape[-1:], x.dtype)
        return x, vector, vector

    def evaluate(self, x, dy, gamma, beta, mean, invstd):
        axes, n = tuple(range(x.ndim - 1)), max(math.prod(x.shape[:-1]), 1)
        dy = activate_backward(self.activation, _affine(x, gamma, beta, mean, invstd), dy)
        centred = x - mean
        dbeta = dy.sum(axis=axes, dtype=np.float64)
        dgamma = (dy * centred).sum(axis=axes, dtype=np.float64) * invstd
        scale = invstd if gamma is None else gamma * invstd
        dx = scale * dy - centred * (scale * invstd * dgamma / n) - scale * dbeta / n
        return dx.astype(x.dtype), dgamma.astype(x.dtype), dbeta.astype(x.dtype)

    def cost(self, x: Spec, *others: Spec | None) -> Cost:
        return Cost(12 * x.size, 5 * x.nbytes)

    def lower(self, node: Node, target: Target) -> None:
        x, dy, gamma, beta, mean, invstd = target.reads(node)
        dx, dgamma, dbeta = target.writes(node)
        spec, code = node.inputs[0].spec, activation_code(self.activation)
        cut, norm = _Sums(spec.pixels, spec.shape[-1]), target.kernels.norm
        channels, shape = target.kernels.norm_channels, (cut.pixels, cut.channels)
        sums = cut.buffer(target)
        affine, line = (target.temporary(8 * cut.channels) for _ in range(2))
        _emit_affine(target, channels.affine(cut.channels), [gamma, beta, mean, invstd], affine)
        kernel = norm.gradient_sums(*shape, cut.group, cut.strip, code)
        target.emit(kernel, [x, dy, affine, mean], [sums], cost=cut.cost(2))
        kernel = channels.gradients(*shape, cut.groups)
        reads = [sums, affine, invstd]
        target.emit(kernel, reads, [dgamma, dbeta, line], cost=cut.total_cost)
        kernel, reads = norm.input_gradient(*shape, code), [x, dy, affine, mean, line]
        target.emit(kernel, reads, [dx], in_place=(1, 0), cost=cut.cost(3))


class BatchNormInference(Op):
    """``y = activation(gamma * (x - mean) / sqrt(variance + epsilon) + beta)``, by given statistics.

    ``(x (N, ..., C), gamma, beta, mean, variance (C)) -> y``; gamma and beta may be absent: 1 and 0.
    """

    epsilon: float = 1e-3
    activation: str | None = None
    onnx: ClassVar[str] = "BatchNormalization"

    @property
    def folds(self) -> bool:
        return self.activation is None

    def fold(self, graph: Graph, node: Node, w: Value, b: Value | None) -> tuple[Value, Value]:
        return graph.add(FoldBatchNorm(self.epsilon), w, b, *node.inputs[1:])

    def infer(
        self, x: Spec, gamma: Spec | None, beta: Spec | None, mean: Spec, variance: Spec
    ) -> Spec:
        _require_channels(self.name, x, gamma=gamma, beta=beta, mean=mean, variance=variance)
        _require_epsilon(self.epsilon)
        activation_code(self.activation)
        return x

    def evaluate(self, x, gamma, beta, mean, variance):
        invstd = 1 / np.sqrt(variance + x.dtype.type(self.epsilon))
        return activate(self.activation, _affine(x, gamma, beta, mean, invstd))

    def cost(self, x: Spec, *others: Spec | None) -> Cost:
        return Cost(2 * x.size, 2 * x.nbytes)

    def takes_step(self, node: Node, value: Value) -> bool:
        return value in (node.inputs[0], node.output)

    def lower(self, node: Node, target: Target) -> None:
        x, *vectors = target.reads(node)
        channels = node.inputs[0].spec.shape[-1]
        affine = target.temporary(8 * channels)
        kernel = target.kernels.norm_channels.affine_of_variance(channels, self.epsilon)
        _emit_affine(target, kernel, vectors, affine)
        _emit_normalise(target, node, x, affine, *target.writes(node), self.activation)


class FoldBatchNorm(Op):
    """Weights and bias of a convolution or dense layer together with the `BatchNormInference` behind it.

        w'[..., k] = w[..., k] * scale[k],   b'[k] = (b[k] - mean[k]) * scale[k] + beta[k]

    with ``scale = gamma / sqrt(variance + epsilon)``: ``(w (..., K), b, gamma, beta, mean, variance (K)) ->
    (w', b')``; b, gamma and beta may be absent: 0, 1 and 0.
    """

    epsilon: float = 1e-3

    def infer(
        self,
        w: Spec,
        b: Spec | None,
        gamma: Spec | None,
        beta: Spec | None,
        mean: Spec,
        variance: Spec,
    ) -> tuple[Spec, Spec]:
        vectors = {"b": b, "gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
        _require_channels(self.name, w, "w", **vectors)
        _require_epsilon(self.epsilon)
        return w, mean

    def evaluate(self, w, b, gamma, beta, mean, variance):
        invstd = 1 / np.sqrt(variance + w.dtype.type(self.epsilon))
        scale = invstd if gamma is None else gamma * invstd
        return w * scale, _affine(w.dtype.type(0) if b is None else b, gamma, beta, mean, invstd)

    def cost(self, w: Spec, *others: Spec | None) -> Cost:
        return Cost(w.size, 2 * w.nbytes)

    def lower(self, node: Node, target: Target) -> None:
        w, b, *vectors = target.reads(node)
        folded_w, folded_b = target.writes(node)
        spec, channels = node.inputs[0].spec, target.kernels.norm_channels
        affine = target.temporary(8 * spec.shape[-1])
        kernel = channels.affine_of_variance(spec.shape[-1], self.epsilon)
        _emit_affine(target, kernel, vectors, affine)
        kernel = target.kernels.norm.scale_filters(spec.pixels, spec.shape[-1])
        target.emit(kernel, [w, affine], [folded_w])
        kernel, cost = channels.fold_bias(spec.shape[-1]), _vector_cost(spec.shape[-1])
        target.emit(kernel, [b, affine], [folded_b], cost=cost)


class MovingAverage(Op):
    """``y = momentum * y + (1 - momentum) * x``, in place: ``(x, y) -> y``, of one shape."""

    momentum: float
    updates_state: ClassVar[bool] = True

    def infer(self, x: Spec, y: Spec) -> Spec:
        if x.shape != y.shape:
            raise ShapeError(
                f"`{self.name}` takes x and y of one shape. Received: {x.shape} and {y.shape}."
            )
        return y

    def evaluate(self, x, y):
        return y.dtype.type(self.momentum) * y + y.dtype.type(1 - self.momentum) * x

    def lower(self, node: Node, target: Target) -> None:
        target.alias(node.output, of=node.inputs[1])
        size = node.output.spec.size
        kernel = target.kernels.norm_channels.moving_average(size, self.momentum)
        target.emit(kernel, target.reads(node), target.writes(node))
