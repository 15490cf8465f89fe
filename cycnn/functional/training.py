"""What a training step needs besides layers: the loss and the update."""

from __future__ import annotations

import numpy as np

from ..arrays import as_float32
from ..errors import ShapeError
from ..ops import loss
from ..training.losses import SparseCategoricalCrossentropy
from ..training.optimizers import SGD
from .compute import compute

__all__ = [
    "sgd_update",
    "softmax_cross_entropy",
]


def sgd_update(
    w: object,
    g: object,
    velocity: object | None = None,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights and velocity after one step of `optimizers.SGD`; the velocity starts as zeros."""
    sgd = SGD(learning_rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    new, g = as_float32(w, "w").copy(), as_float32(g, "g").copy()
    start = np.zeros(new.shape) if velocity is None else velocity
    v = as_float32(start, "velocity").copy() if sgd.slots else None
    if g.shape != new.shape or (v is not None and v.shape != new.shape):
        raise ShapeError(
            f"`w`, `g` and `velocity` must have one shape. Received: {new.shape}, {g.shape}."
        )
    rate = np.array([sgd.learning_rate], np.float32)
    # the op writes where it reads: into the copies made here
    operands = (new.ravel(), g.ravel(), None if v is None else v.ravel())
    compute(sgd.op(), *operands, rate)
    return new, v


def softmax_cross_entropy(logits: object, labels: object) -> tuple[float, np.ndarray]:
    """The mean over N of ``-log softmax(logits)[n, labels[n]]``, and its gradient ``(N, classes)``."""
    logits = as_float32(logits, "logits")
    if logits.ndim != 2:
        raise ShapeError(f"`logits` must have shape (N, classes). Received: {logits.shape}.")
    labels = SparseCategoricalCrossentropy().targets(labels, logits.shape, name="labels")
    if len(labels) != len(logits):
        raise ShapeError(
            f"`logits` and `labels` must have one length. Received: {len(logits)}, {len(labels)}."
        )
    scale = np.array([1 / max(len(labels), 1)], np.float32)
    value, gradient = compute(loss.SoftmaxCrossEntropy(), logits, labels, scale)
    return float(value[0]), gradient
