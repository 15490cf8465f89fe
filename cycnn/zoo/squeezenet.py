"""SqueezeNet 1.1."""

from __future__ import annotations

from .. import layers
from ..errors import ShapeError
from ..model import Model
from .blocks import Seeds, seeds_from

__all__ = ["squeezenet1_1"]


def squeezenet1_1(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    *,
    seed: int | None = None,
) -> Model:
    """SqueezeNet 1.1: eight fire modules and no dense layer; the output is logits, none below 0.

    Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
    2016, in the authors' version 1.1 as torchvision builds it: 1,235,496 weights for 1000 classes. Height
    and width must be known; raises `ShapeError`. A pixel of the last feature map, 1/16 of the image's
    size, sees 207x207 pixels. ``seed`` fixes the initial weights.
    """
    image = layers.Input(input_shape)
    if None in image.shape[1:]:
        raise ShapeError(
            "`input_shape` must have a known height and width. "
            f"Received: input_shape={input_shape!r}."
        )
    seeds = seeds_from(seed)
    x = _conv(image, 64, 3, seeds, strides=2)
    for squeezed in ((16, 16), (32, 32), (48, 48, 64, 64)):
        x = _pool(x)
        for filters in squeezed:
            x = fire(x, filters, 4 * filters, seeds)
    x = _conv(layers.Dropout(0.5)(x), classes, 1, seeds)
    return Model(image, layers.GlobalAveragePooling2D()(x))


def fire(x: layers.Tensor, squeezed: int, expanded: int, seeds: Seeds) -> layers.Tensor:
    """Narrow by a 1x1 convolution, then widen by as many 1x1 as 3x3 filters (figure 1)."""
    x = _conv(x, squeezed, 1, seeds)
    sides = [_conv(x, expanded, size, seeds, padding=size // 2) for size in (1, 3)]
    return layers.Concatenate()(sides)


def _conv(
    x: layers.Tensor, filters: int, kernel_size: int, seeds: Seeds, **options: object
) -> layers.Tensor:
    options |= {"kernel_initializer": "he_normal", "seed": next(seeds)}
    return layers.Conv2D(filters, kernel_size, activation="relu", **options)(x)


def _pool(x: layers.Tensor) -> layers.Tensor:
    """Windows of 3x3 in steps of 2 that cover the image, its last row and column too."""
    over = tuple((0, 1 - size % 2) for size in x.shape[1:3])
    return layers.MaxPooling2D(3, strides=2, padding=over)(x)
