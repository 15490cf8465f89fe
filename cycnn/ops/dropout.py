"""Dropout of elements or samples: the mask is computed, not stored, and the gradient draws it again."""

from __future__ import annotations

import math

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from .base import Cost, Op, Spec

__all__ = ["DropPath", "Dropout"]

U64 = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def _mix(z: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014), of 64-bit ``z``."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & U64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & U64
    return z ^ (z >> 31)


def _keys(seed: int, step: int, stream: int, high: int) -> tuple[np.uint32, np.uint32]:
    z = _mix((seed + GOLDEN) & U64)
    z = _mix(((z ^ step) + GOLDEN) & U64)
    z = _mix(((z ^ (stream << 32) ^ high) + GOLDEN) & U64)
    return np.uint32(z & 0xFFFFFFFF), np.uint32(z >> 32)


def _draw(i: np.ndarray, key0: np.uint32, key1: np.uint32) -> np.ndarray:
    """31 random bits for each 32-bit ``i`` (the hash triple32, C. Wellons, 2018)."""
    x = i + key0
    x = (x ^ (x >> np.uint32(17))) * np.uint32(0xED5AD4BB)
    x = x + key1
    x = (x ^ (x >> np.uint32(11))) * np.uint32(0xAC4C1B51)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x31848BAB)
    return (x ^ (x >> np.uint32(14))) >> np.uint32(1)


class Dropout(Op):
    """``y = x / (1 - rate)``, each element with probability ``rate`` replaced by ``x * 0``.

    ``(x, seed) -> y`` with ``seed`` the uint64 array ``[seed, step]``. Whether an element is kept depends
    on seed, step, ``stream`` (one for each dropout layer of a model) and the element's index in ``x``, and
    on nothing else. ``0 <= rate < 1``.
    """

    rate: float
    stream: int = 0

    def infer(self, x: Spec, seed: Spec) -> Spec:
        if not 0 <= self.rate < 1:
            raise ArgumentError(
                f"`rate` must be at least 0 and less than 1. Received: rate={self.rate}."
            )
        if not 0 <= self.stream < 2**32:
            raise ArgumentError(
                f"`stream` must be at least 0 and less than 2**32. Received: stream={self.stream}."
            )
        if seed.shape != (2,):
            raise ShapeError(f"`{self.name}` takes seed of shape (2,). Received {seed.shape}.")
        if seed.dtype != "uint64":
            raise DTypeError(f"`{self.name}` takes seed of uint64. Received: {seed.dtype}.")
        return x

    def gradient(self, graph, node, dys):
        return [graph.add(self, dys[0], node.inputs[1]), None]

    def _kept(self, size: int, seed: np.ndarray) -> np.ndarray:
        """For each of ``size`` elements: is it kept?"""
        bits = np.empty(size, np.uint32)
        for begin in range(0, size, 2**32):
            here = bits[begin : begin + 2**32]
            keys = _keys(int(seed[0]), int(seed[1]), self.stream, begin >> 32)
            here[:] = _draw(np.arange(here.size, dtype=np.uint32), *keys)
        return bits >= round(self.rate * 2**31)

    def _decisions(self, x: np.ndarray) -> tuple[int, ...]:
        """The shape of what is decided: every element."""
        return x.shape

    def evaluate(self, x, seed):
        shape = self._decisions(x)
        kept = self._kept(math.prod(shape), seed).reshape(shape)
        return x * kept.astype(x.dtype) * x.dtype.type(1 / (1 - self.rate))

    def cost(self, x: Spec, seed: Spec) -> Cost:
        return Cost(16 * x.size, 2 * x.nbytes)

    def lower(self, node, target):
        kernel = target.kernels.dropout.dropout(node.output.spec.size, self.rate, self.stream)
        target.emit(kernel, target.reads(node), target.writes(node), in_place=(0, 0))


class DropPath(Dropout):
    """`Dropout` of whole samples: each is kept, divided by ``1 - rate``, or multiplied by 0.

    Stochastic depth, Huang et al., "Deep Networks with Stochastic Depth", 2016, sample by sample.
    Whether sample n is kept depends on seed, step, ``stream`` and n.
    """

    def infer(self, x: Spec, seed: Spec) -> Spec:
        if x.rank < 1:
            raise ShapeError(f"`DropPath` takes x with a batch dim. Received shape {x.shape}.")
        return super().infer(x, seed)

    def _decisions(self, x: np.ndarray) -> tuple[int, ...]:
        return (len(x), *(1 for _ in x.shape[1:]))

    def cost(self, x: Spec, seed: Spec) -> Cost:
        return Cost(x.size, 2 * x.nbytes)

    def lower(self, node, target):
        samples, *inner = node.output.spec.shape
        kernel = target.kernels.dropout.drop_path(samples, math.prod(inner), self.rate, self.stream)
        target.emit(kernel, target.reads(node), target.writes(node), in_place=(0, 0))
