"""LeNet-5."""

from __future__ import annotations

from .. import layers
from ..model import Sequential

__all__ = ["lenet5"]


def lenet5(
    input_shape: tuple[int, int, int] = (28, 28, 1), classes: int = 10, *, seed: int | None = None
) -> Sequential:
    """LeNet-5 with ReLU and max pooling, for digits of 28x28 pixels; the output is logits.

    LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, section II-B, in the
    form used today: 5x5 convolutions of 6 and 16 filters, dense layers of 120, 84 and ``classes``.
    ``seed`` fixes the initial weights.
    """
    seeds = [None] * 5 if seed is None else [seed * 5 + i for i in range(5)]
    return Sequential(
        [
            layers.Input(input_shape),
            layers.Conv2D(6, 5, padding=2, activation="relu", seed=seeds[0]),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5, activation="relu", seed=seeds[1]),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="relu", seed=seeds[2]),
            layers.Dense(84, activation="relu", seed=seeds[3]),
            layers.Dense(classes, seed=seeds[4]),
        ]
    )
