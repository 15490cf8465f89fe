"""Small real networks and data that several test files use."""

from __future__ import annotations

import numpy as np

import cycnn
from cycnn import layers


def small(seed: int = 0, dropout: float = 0.0) -> cycnn.Sequential:
    """Two convolutions, two poolings and two dense layers on 8x8x1 images, 4 classes."""
    return cycnn.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(6, 3, padding="same", activation="relu", seed=seed),
            layers.MaxPooling2D(2),
            layers.Conv2D(9, 3, seed=seed + 1),
            layers.ReLU(),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dropout(dropout),
            layers.Dense(7, activation="relu", seed=seed + 2),
            layers.Dense(4, seed=seed + 3),
        ]
    )


def residual(seed: int = 0) -> cycnn.Model:
    """A residual block with a projection, for images of any size; two outputs."""
    x = layers.Input((None, None, 3))
    a = layers.Conv2D(8, 3, padding="same", activation="relu", seed=seed)(x)
    a = layers.Conv2D(8, 3, padding="same", seed=seed + 1)(a)
    b = layers.Conv2D(8, 1, use_bias=False, seed=seed + 2)(x)
    y = layers.ReLU()(layers.Add()([a, b]))
    pooled = layers.GlobalAveragePooling2D()(y)
    return cycnn.Model(x, [layers.Dense(5, seed=seed + 3)(pooled), y])


def classifier(seed: int = 0) -> cycnn.Model:
    """`residual` with its first output alone, on 9x7x3 images."""
    x = layers.Input((9, 7, 3))
    a = layers.Conv2D(8, 3, padding="same", activation="relu", seed=seed)(x)
    b = layers.Conv2D(8, 3, padding="same", seed=seed + 1)(a)
    y = layers.ReLU()(layers.Add()([a, b]))
    return cycnn.Model(x, layers.Dense(5, seed=seed + 2)(layers.GlobalMaxPooling2D()(y)))


def stripes(n: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """8x8 images of one bright row or column, top or bottom, left or right: four classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    x = rng.normal(0, 0.1, (n, 8, 8, 1)).astype(np.float32)
    places = {0: np.s_[1, :], 1: np.s_[6, :], 2: np.s_[:, 1], 3: np.s_[:, 6]}
    for image, label in zip(x, labels, strict=True):
        image[places[int(label)]] += 1
    return x, labels


def images(*shape: int) -> np.ndarray:
    """Normal numbers, the same every time."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def dense_block(seed: int = 0) -> cycnn.Model:
    """Concatenations of concatenations, one value in two of them, and one that is an output too."""
    x = layers.Input((9, 7, 5))
    a = layers.Conv2D(6, 3, padding="same", activation="relu", seed=seed)(x)
    for i in range(3):
        b = layers.ReLU()(layers.BatchNormalization()(a))
        b = layers.Conv2D(8, 1, seed=seed + 10 + i)(b)
        b = layers.Conv2D(3, 3, padding="same", seed=seed + 20 + i)(b)
        a = layers.Concatenate()([a, b])
    again = layers.Concatenate()([a, b, b])
    halved = layers.Conv2D(40, 1, seed=seed + 30)(again)
    pooled = layers.GlobalAveragePooling2D()(layers.Concatenate()([halved, again]))
    return cycnn.Model(x, [layers.Dense(5, seed=seed + 3)(pooled), layers.Flatten()(a), a])


def fire(seed: int = 0) -> cycnn.Model:
    """Two branches of convolutions side by side, twice."""
    x = layers.Input((9, 7, 3))
    y = x
    for i in range(2):
        s = layers.Conv2D(4, 1, activation="relu", seed=seed + i)(y)
        left = layers.Conv2D(9, 1, activation="relu", seed=seed + 10 + i)(s)
        right = layers.Conv2D(7, 3, padding="same", activation="relu", seed=seed + 20 + i)(s)
        y = layers.Concatenate()([left, right])
    return cycnn.Model(x, layers.GlobalMaxPooling2D()(y))
