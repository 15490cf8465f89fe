"""What the networks have in common: seeds of their layers, and a convolution that is normalised."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from .. import layers

__all__ = ["Seeds", "conv_norm", "norm", "seeds_from"]

Seeds = Iterator[int | None]


def seeds_from(seed: int | None) -> Seeds:
    """A seed for each layer in turn, or None for each."""
    return itertools.repeat(None) if seed is None else itertools.count(1000 * seed)


def norm(x: layers.Tensor) -> layers.Tensor:
    """Batch normalization with PyTorch's constants."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def conv_norm(
    x: layers.Tensor,
    filters: int,
    kernel_size: int,
    seeds: Seeds,
    *,
    strides: int = 1,
    groups: int = 1,
    activation: str | None = "relu",
) -> layers.Tensor:
    """A convolution without bias, padded by half its odd window, then `norm` and the activation."""
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=kernel_size // 2,
        groups=groups,
        use_bias=False,
        kernel_initializer="he_normal",
        seed=next(seeds),
    )(x)
    x = norm(x)
    return x if activation is None else layers.Activation(activation)(x)
