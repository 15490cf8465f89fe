"""Losses: what training makes small."""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph.ir import Graph, Value
from ..ops.loss import Softmax, SoftmaxCrossEntropy

__all__ = ["Loss", "SparseCategoricalCrossentropy", "before_softmax", "get"]


class Loss:
    """Base of losses."""

    def add(self, graph: Graph, y: Value) -> Value:
        """Add the loss of predictions ``y`` to ``graph``; targets and scale become its inputs."""
        raise NotImplementedError

    def targets(
        self, y: object, predictions: tuple[int | None, ...], *, name: str = "y"
    ) -> np.ndarray:
        """Check targets against the shape of the predictions and convert them once."""
        raise NotImplementedError

    def value(self, predictions: np.ndarray, targets: np.ndarray) -> float:
        """The loss of predictions, in float64."""
        raise NotImplementedError


class SparseCategoricalCrossentropy(Loss):
    """Softmax cross-entropy of logits ``(N, classes)`` with integer labels ``(N,)``, mean over N.

    It takes logits: leave the softmax out of the network, or make it the last layer, which training
    then skips. Labels of any integer dtype, each in ``0 <= label < classes``.
    """

    def add(self, graph: Graph, y: Value) -> Value:
        if y.spec.rank != 2:
            raise ShapeError(f"The loss takes logits (N, classes). Received shape {y.spec.shape}.")
        y = before_softmax(y)
        labels = graph.scalar("targets", (y.spec.shape[0],), "int32")
        scale = graph.scalar("scale", (1,))
        return graph.add(SoftmaxCrossEntropy(), y, labels, scale)[0]

    def value(self, predictions: np.ndarray, targets: np.ndarray) -> float:
        shifted = predictions - predictions.max(axis=1, keepdims=True).astype(np.float64)
        chosen = shifted[np.arange(len(targets)), targets]
        return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - chosen))

    def targets(
        self, y: object, predictions: tuple[int | None, ...], *, name: str = "y"
    ) -> np.ndarray:
        labels = np.asarray(y)
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1:
            raise ShapeError(
                f"`{name}` must hold one label a sample, (N,). Received shape {labels.shape}."
            )
        if labels.dtype.kind not in "iu":
            raise DTypeError(f"`{name}` must hold integer labels. Received dtype {labels.dtype}.")
        classes = predictions[-1]
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            wrong = int(np.argmax((labels < 0) | (labels >= classes)))
            raise ArgumentError(
                f"`{name}` must hold labels from 0 to {classes - 1}. "
                f"Received: {name}[{wrong}]={labels[wrong]}."
            )
        return np.ascontiguousarray(labels, np.int32)


def before_softmax(y: Value) -> Value:
    """The logits where ``y`` is their softmax, else ``y``."""
    return y.node.inputs[0] if y.node is not None and isinstance(y.node.op, Softmax) else y


def get(loss: str | Loss) -> Loss:
    """A loss by name, or the one given. Raises `ArgumentError`."""
    if isinstance(loss, Loss):
        return loss
    if loss == "sparse_categorical_crossentropy":
        return SparseCategoricalCrossentropy()
    raise ArgumentError(
        '`loss` must be "sparse_categorical_crossentropy" or an instance from cycnn.losses. '
        f"Received: loss={loss!r}."
    )
