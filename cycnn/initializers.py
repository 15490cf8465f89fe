"""Initial values of weights.

``he``: He et al., "Delving Deep into Rectifiers", 2015, equation 10; ``glorot``: Glorot and Bengio,
"Understanding the difficulty of training deep feedforward neural networks", 2010, equation 16.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from .errors import ArgumentError

__all__ = ["INITIALIZERS", "get"]

Initializer: TypeAlias = "Callable[[tuple[int, ...], np.random.Generator], np.ndarray]"


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs of one unit: of a dense kernel ``(in, out)``, of a convolution's HWIO."""
    if len(shape) < 2:
        return (shape[0] if shape else 1,) * 2
    taps = math.prod(shape[:-2])
    return max(taps * shape[-2], 1), max(taps * shape[-1], 1)


def zeros(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """All zero."""
    return np.zeros(shape, np.float32)


def ones(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """All one."""
    return np.ones(shape, np.float32)


def he_normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Normal with variance 2 / fan_in."""
    return rng.normal(0, math.sqrt(2 / fans(shape)[0]), shape).astype(np.float32)


def he_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Uniform with variance 2 / fan_in."""
    return _uniform(math.sqrt(6 / fans(shape)[0]), shape, rng)


def glorot_normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Normal with variance 2 / (fan_in + fan_out)."""
    return rng.normal(0, math.sqrt(2 / sum(fans(shape))), shape).astype(np.float32)


def glorot_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Uniform with variance 2 / (fan_in + fan_out)."""
    return _uniform(math.sqrt(6 / sum(fans(shape))), shape, rng)


def _uniform(limit: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-limit, limit, shape).astype(np.float32)


INITIALIZERS: dict[str, Initializer] = {
    f.__name__: f for f in (zeros, ones, he_normal, he_uniform, glorot_normal, glorot_uniform)
}


def get(name: str) -> Initializer:
    """The initializer of that name. Raises `ArgumentError`."""
    if not isinstance(name, str) or name not in INITIALIZERS:
        raise ArgumentError(
            f"An initializer must be one of {', '.join(INITIALIZERS)}. Received: {name!r}."
        )
    return INITIALIZERS[name]
