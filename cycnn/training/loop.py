"""Fit and evaluate: mini-batches, shuffling, validation, history."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import as_inputs
from ..errors import ArgumentError, ShapeError
from ..geometry import to_axes
from . import losses, metrics, optimizers
from .progress import progress_bar
from .step import TrainingStep

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["History", "Trainer"]


@dataclass
class History:
    """What `fit` saw: ``history["loss"]`` and the like hold one number an epoch.

    ``seconds`` is the time spent training, without validation.
    """

    epoch: list[int] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    def append(self, epoch: int, logs: dict[str, float]) -> None:
        """Add one epoch's numbers."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


@dataclass
class Mean:
    """Running means of the loss and metrics, weighted by batch size."""

    totals: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, logs: dict[str, float], n: int) -> None:
        self.count += n
        for name, value in logs.items():
            self.totals[name] = self.totals.get(name, 0.0) + n * value

    def result(self) -> dict[str, float]:
        return {name: total / max(self.count, 1) for name, total in self.totals.items()}


class Trainer:
    """How one model is trained: loss, metrics, optimizer, and the programs of a step."""

    def __init__(
        self,
        model: Model,
        optimizer: str | optimizers.Optimizer,
        loss: str | losses.Loss,
        metric_names: Sequence[str],
    ):
        self._model = model
        self.optimizer = optimizers.get(optimizer)
        self.loss = losses.get(loss)
        self.metrics = metrics.check(metric_names)
        self.step = TrainingStep(
            model.inputs,
            model.outputs,
            model.parameters,
            self.loss,
            self.optimizer,
            model._kernels,
        )
        self._specs = [t.spec for t in model.inputs]
        self._classes = model.outputs[0].spec.shape

    def fit(
        self,
        x: object,
        y: object,
        *,
        batch_size: int,
        epochs: int,
        validation_data: tuple[object, object] | None,
        validation_split: float,
        shuffle: bool,
        seed: int | None,
        verbose: int,
        threads: int,
    ) -> History:
        """See `Model.fit`."""
        (batch_size,) = to_axes(batch_size, "batch_size", 1)
        (epochs,) = to_axes(epochs, "epochs", 1, least=0)
        if seed is not None:
            to_axes(seed, "seed", 1, least=0)
        arrays, targets, held_back = _split(*self._check(x, y), validation_split)
        if validation_data is not None:
            held_back = self._check(*_pair(validation_data))
        if verbose:
            shapes = tuple((min(batch_size, len(a)), *a.shape[1:]) for a in arrays)
            print(f"memory: {self.step.memory(shapes, threads)}")
        rng = np.random.default_rng(seed)
        mask_seed = int(rng.integers(2**63))
        history = History()
        for epoch in range(epochs):
            order = rng.permutation(len(targets)) if shuffle else None
            label = f"epoch {epoch + 1}/{epochs}"
            logs, seconds = self._epoch(
                arrays, targets, order, batch_size, label, mask_seed, verbose, threads
            )
            history.seconds += seconds
            if held_back is not None:
                checked = self._evaluate(*held_back, batch_size, 0, threads)
                logs.update({f"val_{name}": value for name, value in checked.items()})
            history.append(epoch, logs)
            if verbose:
                print(f"{label}: {_spell(logs)}, {len(targets) / max(seconds, 1e-9):,.0f} images/s")
        return history

    def _epoch(
        self,
        arrays: list[np.ndarray],
        targets: np.ndarray,
        order: np.ndarray | None,
        batch_size: int,
        label: str,
        seed: int,
        verbose: int,
        threads: int,
    ) -> tuple[dict[str, float], float]:
        mean, started = Mean(), time.perf_counter()
        with progress_bar(len(targets), label, verbose) as bar:
            bar.leave = False
            for start in range(0, len(targets), batch_size):
                part = slice(start, start + batch_size)
                chosen = part if order is None else order[part]
                batch = [np.ascontiguousarray(a[chosen]) for a in arrays]
                logs = self._train(batch, np.ascontiguousarray(targets[chosen]), seed, threads)
                mean.add(logs, len(batch[0]))
                if not bar.disable:
                    bar.set_postfix(mean.result(), refresh=False)
                    bar.update(len(batch[0]))
        return mean.result(), time.perf_counter() - started

    def train_on_batch(self, x: object, y: object, *, threads: int) -> dict[str, float]:
        """See `Model.train_on_batch`."""
        arrays, targets = self._check(x, y)
        return self._train(arrays, targets, 0, threads)

    def _train(
        self, arrays: list[np.ndarray], targets: np.ndarray, seed: int, threads: int
    ) -> dict[str, float]:
        """One whole step; one that is interrupted is either done or not begun, and leaves no gradients."""
        with self._model._training:
            try:
                loss, predictions = self.step.accumulate(
                    arrays, targets, scale=1 / len(targets), seed=seed, threads=threads
                )
                with self._model._guard:
                    self.step.apply(threads=threads)
            except BaseException:
                self.step.discard()
                raise
        return {"loss": loss, **self._measure(targets, predictions)}

    def evaluate(
        self, x: object, y: object, *, batch_size: int, verbose: int, threads: int
    ) -> dict[str, float]:
        """See `Model.evaluate`."""
        (batch_size,) = to_axes(batch_size, "batch_size", 1)
        return self._evaluate(*self._check(x, y), batch_size, verbose, threads)

    def _evaluate(
        self,
        arrays: list[np.ndarray],
        targets: np.ndarray,
        batch_size: int,
        verbose: int,
        threads: int,
    ) -> dict[str, float]:
        engine = self._model._logits
        with progress_bar(len(targets), "evaluate", verbose) as bar:
            (logits,) = engine.run_batches(arrays, threads, batch_size, bar.update)
        return {"loss": self.loss.value(logits, targets), **self._measure(targets, logits)}

    def _measure(self, targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
        return {name: metrics.METRICS[name](targets, predictions) for name in self.metrics}

    def _check(self, x: object, y: object) -> tuple[list[np.ndarray], np.ndarray]:
        arrays = as_inputs(x, self._specs)
        targets = self.loss.targets(y, self._classes)
        if len(targets) != len(arrays[0]):
            raise ShapeError(
                f"`x` and `y` must have one length. Received: {len(arrays[0])} and {len(targets)}."
            )
        if not len(targets):
            raise ShapeError("`x` and `y` must hold at least one sample. Received: 0.")
        return arrays, targets


def _pair(data: object) -> tuple[object, object]:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ArgumentError("`validation_data` must be a pair (x, y).")
    return data


def _split(
    arrays: list[np.ndarray], targets: np.ndarray, share: float
) -> tuple[list[np.ndarray], np.ndarray, tuple[list[np.ndarray], np.ndarray] | None]:
    """Hold back ``share`` of the samples, from the end."""
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise ArgumentError(
            f"`validation_split` must be at least 0 and below 1. "
            f"Received: validation_split={share!r}."
        )
    held_back = int(len(targets) * share)
    if not held_back:
        return arrays, targets, None
    kept = len(targets) - held_back
    last = [a[kept:] for a in arrays], targets[kept:]
    return [a[:kept] for a in arrays], targets[:kept], last


def _spell(logs: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in logs.items())
