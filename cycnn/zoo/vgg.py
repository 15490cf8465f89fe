"""VGG: vgg11 and vgg16, without batch normalization."""

from __future__ import annotations

from .. import layers
from ..errors import ShapeError
from ..model import Model
from .blocks import seeds_from

__all__ = ["vgg11", "vgg16"]


def vgg11(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    *,
    seed: int | None = None,
) -> Model:
    """VGG-11: eight 3x3 convolutions and three dense layers; the output is logits.

    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015,
    table 1, column A: 132,863,336 weights for 1000 classes. Images of 224 to 255 pixels a side; raises
    `ShapeError` for others. A pixel of the last feature map, 7x7, sees 150x150 pixels. ``seed`` fixes the
    initial weights.
    """
    return _vgg(input_shape, classes, (1, 1, 2, 2, 2), seed)


def vgg16(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    *,
    seed: int | None = None,
) -> Model:
    """VGG-16: thirteen 3x3 convolutions and three dense layers; the output is logits.

    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015,
    table 1, column D: 138,357,544 weights for 1000 classes. Images of 224 to 255 pixels a side; raises
    `ShapeError` for others. A pixel of the last feature map, 7x7, sees 212x212 pixels. ``seed`` fixes the
    initial weights.
    """
    return _vgg(input_shape, classes, (2, 2, 3, 3, 3), seed)


def _vgg(input_shape: tuple[int, int, int], classes: int, counts: tuple, seed: int | None) -> Model:
    seeds = seeds_from(seed)
    x = image = layers.Input(input_shape)
    for filters, count in zip((64, 128, 256, 512, 512), counts, strict=True):
        for _ in range(count):
            x = layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                seed=next(seeds),
            )(x)
        x = layers.MaxPooling2D(2)(x)
    if x.shape[1:3] != (7, 7):
        raise ShapeError(
            "`input_shape` must be of 224 to 255 pixels a side, for a last feature map of 7x7. "
            f"Received: input_shape={input_shape!r}."
        )
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dense(4096, activation="relu", seed=next(seeds))(x)
        x = layers.Dropout(0.5)(x)
    return Model(image, layers.Dense(classes, seed=next(seeds))(x))
