"""MobileNetV2."""

from __future__ import annotations

from .. import layers
from ..model import Model
from .blocks import Seeds, conv_norm, seeds_from

__all__ = ["mobilenet_v2"]

# expansion, filters, blocks, strides of the first: table 2
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    *,
    seed: int | None = None,
) -> Model:
    """MobileNetV2: inverted residual blocks over depthwise convolutions; the output is logits.

    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, table 2, as
    torchvision builds it: 3,504,872 trained weights for 1000 classes. A pixel of the last feature map,
    1/32 of the image's size, sees 491x491 pixels. ``seed`` fixes the initial weights.
    """
    seeds = seeds_from(seed)
    image = layers.Input(input_shape)
    x = conv_norm(image, 32, 3, seeds, strides=2, activation="relu6")
    for expansion, filters, count, strides in STAGES:
        for i in range(count):
            x = inverted_residual(x, expansion, filters, strides if i == 0 else 1, seeds)
    x = conv_norm(x, 1280, 1, seeds, activation="relu6")
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return Model(image, layers.Dense(classes, seed=next(seeds))(x))


def inverted_residual(
    x: layers.Tensor, expansion: int, filters: int, strides: int, seeds: Seeds
) -> layers.Tensor:
    """Widen by a 1x1 convolution, filter each channel by itself, narrow without an activation (figure 4)."""
    y, wide = x, expansion * x.shape[-1]
    if expansion > 1:
        y = conv_norm(y, wide, 1, seeds, activation="relu6")
    y = conv_norm(y, wide, 3, seeds, strides=strides, groups=wide, activation="relu6")
    y = conv_norm(y, filters, 1, seeds, activation=None)
    return layers.Add()([x, y]) if y.shape == x.shape else y
