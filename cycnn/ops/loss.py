"""Softmax, and its cross-entropy against integer labels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..errors import DTypeError, ShapeError, UnsupportedOp
from .base import Cost, Op, Spec, require_rank
from .pointwise import Scale

__all__ = ["Softmax", "SoftmaxBackward", "SoftmaxCrossEntropy"]

EXP_FLOPS = 16  # one exponential by polynomial


def _exp_shifted(x: np.ndarray) -> np.ndarray:
    """``exp(x - max x)`` along the last axis."""
    with np.errstate(invalid="ignore"):  # inf - inf
        return np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))


class Softmax(Op):
    """``y = exp(x) / sum exp(x)`` along the last axis, without overflow."""

    onnx: ClassVar[str] = "Softmax"

    def infer(self, x: Spec) -> Spec:
        if x.rank < 1:
            raise ShapeError(f"`Softmax` takes x of rank 1 or more. Received shape {x.shape}.")
        return x

    def gradient(self, graph, node, dys):
        return [graph.add(SoftmaxBackward(), node.output, dys[0])]

    def evaluate(self, x):
        powers = _exp_shifted(x)
        return powers / powers.sum(axis=-1, keepdims=True)

    def cost(self, x: Spec) -> Cost:
        return Cost(EXP_FLOPS * x.size, 2 * x.nbytes)

    def lower(self, node, target):
        x = node.inputs[0].spec
        kernel = target.kernels.softmax.softmax(x.pixels, x.shape[-1])
        target.emit(kernel, target.reads(node), target.writes(node), in_place=(0, 0))


class SoftmaxBackward(Op):
    """``dx = y * (dy - sum y * dy)`` along the last axis, from softmax's output."""

    def infer(self, y: Spec, dy: Spec) -> Spec:
        if y.shape != dy.shape:
            raise ShapeError(
                f"`SoftmaxBackward` takes y and dy of the same shape. "
                f"Received shapes {y.shape} and {dy.shape}."
            )
        return dy

    def evaluate(self, y, dy):
        return y * (dy - (y * dy).sum(axis=-1, keepdims=True))

    def lower(self, node, target):
        y = node.output.spec
        kernel = target.kernels.softmax.softmax_backward(y.pixels, y.shape[-1])
        target.emit(kernel, target.reads(node), target.writes(node), in_place=(1, 0))


class SoftmaxCrossEntropy(Op):
    """Softmax cross-entropy of logits against integer labels, loss and gradient in one pass.

    ``(logits (N, K), labels (N,) int32, scale (1,)) -> (loss (1,), dlogits (N, K))`` with
    ``loss = scale * sum_n (log sum_k exp(logits[n,k]) - logits[n,labels[n]])`` and
    ``dlogits = scale * (softmax(logits) - onehot(labels))``; ``scale`` is 1 / N for the mean.
    Labels must have been checked to lie in ``0 <= label < K``.
    """

    def infer(self, logits: Spec, labels: Spec, scale: Spec) -> tuple[Spec, Spec]:
        require_rank(self.name, "logits", logits, 2, "(N, K)")
        if labels.dtype != "int32":
            raise DTypeError(f"`{self.name}` takes labels of int32. Received: {labels.dtype}.")
        if labels.rank != 1 or (
            None not in (n := {labels.shape[0], logits.shape[0]}) and len(n) > 1
        ):
            raise ShapeError(
                f"`{self.name}` takes one label for each row of logits. "
                f"Received shapes {labels.shape} and {logits.shape}."
            )
        if scale.shape != (1,):
            raise ShapeError(
                f"`{self.name}` takes scale of shape (1,). Received shape {scale.shape}."
            )
        return Spec((1,), logits.dtype), logits

    def gradient(self, graph, node, dys):
        dloss, dlogits = dys[0], node.outputs[1]
        if dys[1] is not None or dloss is None:
            raise UnsupportedOp(f"The gradient of `{self.name}` is that of its loss alone.")
        if dloss.kind != "constant" or not (dloss.array == 1).all():
            dlogits = graph.add(Scale(), dlogits, dloss)
        return [dlogits, None, None]

    def evaluate(self, logits, labels, scale):
        rows = np.arange(len(labels))
        powers = _exp_shifted(logits)
        totals = powers.sum(axis=-1)
        largest = logits.max(axis=-1, initial=-np.inf)
        with np.errstate(invalid="ignore"):
            losses = np.log(totals) - (logits[rows, labels] - largest)
        dlogits = powers / totals[:, None]
        dlogits[rows, labels] -= 1
        return scale * losses.sum(dtype=np.float64).astype(logits.dtype), dlogits * scale

    def cost(self, logits: Spec, labels: Spec, scale: Spec) -> Cost:
        return Cost(EXP_FLOPS * logits.size, 2 * logits.nbytes + labels.nbytes)

    def lower(self, node, target):
        rows, k = node.inputs[0].spec.shape
        logits, labels, scale = target.reads(node)
        loss, dlogits = target.writes(node)
        losses = target.temporary(8 * rows)
        module = target.kernels.softmax
        target.emit(module.cross_entropy_rows(rows, k), [logits, labels, scale], [losses, dlogits])
        target.emit(
            module.cross_entropy_sum(rows), [losses, scale], [loss], cost=Cost(rows, 8 * rows)
        )
