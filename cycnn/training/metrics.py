"""Metrics: what is reported beside the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import ArgumentError

__all__ = ["METRICS", "accuracy", "check", "confusion_matrix"]

Metric = Callable[[np.ndarray, np.ndarray], float]


def accuracy(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Share of samples whose largest prediction is the one of their label; 0 of none."""
    if not len(targets):
        return 0.0
    return float(np.count_nonzero(predictions.argmax(axis=-1) == targets)) / len(targets)


def confusion_matrix(
    targets: np.ndarray, predicted: np.ndarray, *, classes: int | None = None
) -> np.ndarray:
    """Counts ``(classes, classes)``: row the true label, column the predicted one, both integers."""
    targets, predicted = np.asarray(targets), np.asarray(predicted)
    if classes is None:
        classes = int(max(targets.max(initial=-1), predicted.max(initial=-1))) + 1
    for name, labels in (("targets", targets), ("predicted", predicted)):
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ArgumentError(f"`{name}` must hold labels from 0 to {classes - 1}.")
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (targets, predicted), 1)
    return matrix


METRICS: dict[str, Metric] = {"accuracy": accuracy}


def check(metrics: Sequence[str]) -> tuple[str, ...]:
    """The names if all are metrics. Raises `ArgumentError`."""
    for name in [metrics] if isinstance(metrics, str) else metrics:
        if not isinstance(name, str) or name not in METRICS:
            raise ArgumentError(
                f"`metrics` must be names among {', '.join(METRICS)}. Received: {name!r}."
            )
    return (metrics,) if isinstance(metrics, str) else tuple(metrics)
