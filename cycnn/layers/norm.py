"""Normalisation layers."""

from __future__ import annotations

import numbers

from ..errors import ArgumentError, ShapeError
from ..graph.ir import Graph, Value
from ..ops import norm as ops
from ..ops.base import Spec
from .base import Layer

__all__ = ["BatchNormalization"]


class BatchNormalization(Layer):
    """Give every channel mean 0 and variance 1, then ``gamma`` and ``beta`` of its own: ``(N, ..., C)``.

    In training by the statistics of the batch, which also move those that inference uses::

        moving = momentum * moving + (1 - momentum) * batch

    so ``momentum`` is Keras's, 1 less PyTorch's (whose default of 0.1 is 0.9 here). As in PyTorch the
    batch is normalised by its biased variance, divided by n, and the moving variance follows the
    unbiased one, divided by n - 1 (Keras: the biased one); ``epsilon`` is 1e-5 there. Weights: gamma, beta
    (where there is ``scale``, ``center``), moving_mean, moving_variance; the last two are not trained.
    Ioffe and Szegedy, "Batch Normalization", 2015. Raises `ArgumentError` and, when connected or when a
    batch has but one value a channel, `ShapeError`.
    """

    def __init__(
        self,
        axis: int = -1,
        *,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str = "zeros",
        gamma_initializer: str = "ones",
        moving_mean_initializer: str = "zeros",
        moving_variance_initializer: str = "ones",
        name: str | None = None,
        seed: int | None = None,
    ):
        super().__init__(name=name, seed=seed)
        if axis != -1:
            raise ArgumentError(f"`axis` must be -1, the channels. Received: axis={axis!r}.")
        self.axis = -1
        self.momentum = _number(momentum, "momentum", 0, 1)
        self.epsilon = _number(epsilon, "epsilon", 1e-12, 1)
        self.center, self.scale = bool(center), bool(scale)
        self.beta_initializer, self.gamma_initializer = beta_initializer, gamma_initializer
        self.moving_mean_initializer = moving_mean_initializer
        self.moving_variance_initializer = moving_variance_initializer

    def build(self, x: Spec) -> None:
        if x.rank < 2 or x.shape[-1] is None:
            raise ShapeError(
                f"BatchNormalization takes (N, ..., C) with known C. Received shape {x.shape}."
            )
        shape = x.shape[-1:]
        self.gamma = self.parameter("gamma", shape, self.gamma_initializer) if self.scale else None
        self.beta = self.parameter("beta", shape, self.beta_initializer) if self.center else None
        self.moving_mean = self.parameter(
            "moving_mean", shape, self.moving_mean_initializer, trainable=False
        )
        self.moving_variance = self.parameter(
            "moving_variance", shape, self.moving_variance_initializer, trainable=False
        )

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        trained = [None if p is None else graph.parameter(p) for p in (self.gamma, self.beta)]
        moving = [graph.parameter(p, "state") for p in (self.moving_mean, self.moving_variance)]
        if not training:
            return graph.add(ops.BatchNormInference(self.epsilon), x, *trained, *moving)
        y, mean, _, variance = graph.add(ops.BatchNorm(self.epsilon), x, *trained)
        for batch, state in zip((mean, variance), moving, strict=True):
            graph.add(ops.MovingAverage(self.momentum), batch, state)
        return y


def _number(value: object, name: str, least: float, most: float) -> float:
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not good or not least <= value <= most:
        raise ArgumentError(
            f"`{name}` must be a number from {least:g} to {most:g}. Received: {name}={value!r}."
        )
    return float(value)
