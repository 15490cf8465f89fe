"""Layers that act in training only."""

from __future__ import annotations

import numbers

from ..errors import ArgumentError
from ..graph.ir import Graph, Value
from ..ops import dropout as ops
from .base import Layer

__all__ = ["DropPath", "Dropout", "check_rate"]


def check_rate(rate: float) -> float:
    """``rate`` if it is at least 0 and below 1. Raises `ArgumentError`."""
    if isinstance(rate, bool) or not isinstance(rate, numbers.Real) or not 0 <= rate < 1:
        raise ArgumentError(f"`rate` must be at least 0 and below 1. Received: rate={rate!r}.")
    return float(rate)


class Dropout(Layer):
    """Set a share ``rate`` of the elements to zero in training and scale the rest by 1 / (1 - rate).

    The mask comes from a counter-based generator: the same for any number of threads. Srivastava et
    al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014.
    """

    def __init__(self, rate: float, *, name: str | None = None):
        super().__init__(name=name)
        self.rate = check_rate(rate)

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        return _drop(ops.Dropout, self.rate, graph, x, training)


class DropPath(Layer):
    """Drop the samples' paths: in training each sample is multiplied by 0, or by 1 / (1 - rate).

    To be put at the end of a residual branch, before `Add`: a share ``rate`` of the samples skip the
    branch. The mask comes from a counter-based generator: the same for any number of threads. Huang et
    al., "Deep Networks with Stochastic Depth", 2016.
    """

    def __init__(self, rate: float, *, name: str | None = None):
        super().__init__(name=name)
        self.rate = check_rate(rate)

    def call(self, graph: Graph, x: Value, *, training: bool) -> Value:
        return _drop(ops.DropPath, self.rate, graph, x, training)


def _drop(op: type[ops.Dropout], rate: float, graph: Graph, x: Value, training: bool) -> Value:
    if not training or rate == 0:
        return x
    seed = graph.scalar("seed", (2,), "uint64")
    return graph.add(op(rate, stream=len(graph.nodes)), x, seed)
