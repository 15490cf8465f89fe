"""EfficientNet-B0."""

from __future__ import annotations

from .. import layers
from ..model import Model
from .blocks import Seeds, conv_norm, seeds_from

__all__ = ["efficientnet_b0"]

# expansion, kernel size, strides of the first block, filters, blocks: table 1
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
BLOCKS = sum(count for *_, count in STAGES)
DROPPED = 0.2  # share of samples that would skip a block after the last


def efficientnet_b0(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    *,
    seed: int | None = None,
) -> Model:
    """EfficientNet-B0: inverted residual blocks with squeeze and excitation; the output is logits.

    Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019, table 1,
    as torchvision builds it: 5,288,548 trained weights for 1000 classes. In training, samples skip blocks
    (stochastic depth), the later the more. A pixel of the last feature map, 1/32 of the image's size,
    sees 851x851 pixels, and the whole image by way of the excitations. ``seed`` fixes the initial weights.
    """
    seeds = seeds_from(seed)
    image = layers.Input(input_shape)
    x = conv_norm(image, 32, 3, seeds, strides=2, activation="silu")
    rates = (DROPPED * i / BLOCKS for i in range(BLOCKS))
    for expansion, kernel_size, strides, filters, count in STAGES:
        for i in range(count):
            options = {"strides": strides if i == 0 else 1, "drop": next(rates)}
            x = mb_conv(x, expansion, kernel_size, filters, seeds, **options)
    x = conv_norm(x, 1280, 1, seeds, activation="silu")
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return Model(image, layers.Dense(classes, seed=next(seeds))(x))


def mb_conv(
    x: layers.Tensor,
    expansion: int,
    kernel_size: int,
    filters: int,
    seeds: Seeds,
    *,
    strides: int,
    drop: float,
) -> layers.Tensor:
    """Widen, filter each channel by itself, scale the channels, narrow; a share ``drop`` of the samples
    skip the block in training where it keeps the shape."""
    y, wide = x, expansion * x.shape[-1]
    if expansion > 1:
        y = conv_norm(y, wide, 1, seeds, activation="silu")
    y = conv_norm(y, wide, kernel_size, seeds, strides=strides, groups=wide, activation="silu")
    y = squeeze_excite(y, x.shape[-1] // 4, seeds)
    y = conv_norm(y, filters, 1, seeds, activation=None)
    return layers.Add()([x, layers.DropPath(drop)(y)]) if y.shape == x.shape else y


def squeeze_excite(x: layers.Tensor, squeezed: int, seeds: Seeds) -> layers.Tensor:
    """Scale every channel by a factor from 0 to 1 that two 1x1 convolutions make of all channels' means.

    Hu et al., "Squeeze-and-Excitation Networks", 2018, equations 2 to 4.
    """
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(squeezed, 1, activation="silu", seed=next(seeds))(y)
    y = layers.Conv2D(x.shape[-1], 1, activation="sigmoid", seed=next(seeds))(y)
    return layers.Multiply()([x, y])
