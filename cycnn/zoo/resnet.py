"""Residual networks: resnet18 and resnet50 for photographs, resnet20 for CIFAR."""

from __future__ import annotations

from collections.abc import Callable

from .. import layers
from ..model import Model
from .blocks import Seeds, conv_norm, seeds_from

__all__ = ["resnet18", "resnet20", "resnet50"]

Block = Callable[[layers.Tensor, int, int, Seeds], layers.Tensor]


def resnet18(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    *,
    seed: int | None = None,
) -> Model:
    """ResNet-18: eight blocks of two 3x3 convolutions; the output is logits.

    He et al., "Deep Residual Learning for Image Recognition", 2016, table 1, as torchvision builds it:
    11,689,512 trained weights for 1000 classes. A pixel of the last feature map, 1/32 of the image's size,
    sees 435x435 pixels. ``seed`` fixes the initial weights.
    """
    return _resnet(input_shape, classes, basic, (2, 2, 2, 2), seeds_from(seed))


def resnet50(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    *,
    seed: int | None = None,
) -> Model:
    """ResNet-50: sixteen bottlenecks; the output is logits.

    He et al., "Deep Residual Learning for Image Recognition", 2016, table 1, as torchvision builds it:
    where a block halves the image, its 3x3 convolution does, not its first 1x1; 25,557,032 trained
    weights for 1000 classes. A pixel of the last feature map, 1/32 of the image's size, sees 427x427
    pixels. ``seed`` fixes the initial weights.
    """
    return _resnet(input_shape, classes, bottleneck, (3, 4, 6, 3), seeds_from(seed))


def resnet20(
    input_shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10, *, seed: int | None = None
) -> Model:
    """ResNet-20 for the small images of CIFAR: nine blocks; the output is logits.

    He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2, with 1x1 convolutions
    (option B) where a block changes the shape: 272,474 trained weights for 10 classes. ``seed`` fixes the
    initial weights.
    """
    seeds = seeds_from(seed)
    image = layers.Input(input_shape)
    x = conv_norm(image, 16, 3, seeds)
    x = _stages(x, basic, (16, 32, 64), (3, 3, 3), seeds)
    return Model(image, _classifier(x, classes, seeds))


def _resnet(
    input_shape: tuple[int, int, int], classes: int, block: Block, counts: tuple, seeds: Seeds
) -> Model:
    image = layers.Input(input_shape)
    x = conv_norm(image, 64, 7, seeds, strides=2)
    x = layers.MaxPooling2D(3, strides=2, padding=1)(x)
    x = _stages(x, block, (64, 128, 256, 512), counts, seeds)
    return Model(image, _classifier(x, classes, seeds))


def _stages(
    x: layers.Tensor, block: Block, filters: tuple, counts: tuple, seeds: Seeds
) -> layers.Tensor:
    """Stages of ``counts`` blocks; all but the first begin with one that halves the image."""
    for stage, (width, count) in enumerate(zip(filters, counts, strict=True)):
        for i in range(count):
            x = block(x, width, 2 if stage and i == 0 else 1, seeds)
    return x


def _classifier(x: layers.Tensor, classes: int, seeds: Seeds) -> layers.Tensor:
    return layers.Dense(classes, seed=next(seeds))(layers.GlobalAveragePooling2D()(x))


def basic(x: layers.Tensor, filters: int, strides: int, seeds: Seeds) -> layers.Tensor:
    """Two 3x3 convolutions beside a shortcut (figure 5, left)."""
    y = conv_norm(x, filters, 3, seeds, strides=strides)
    y = conv_norm(y, filters, 3, seeds, activation=None)
    return layers.ReLU()(layers.Add()([y, _shortcut(x, filters, strides, seeds)]))


def bottleneck(x: layers.Tensor, filters: int, strides: int, seeds: Seeds) -> layers.Tensor:
    """1x1, 3x3 and 1x1 convolutions, the last four times as wide, beside a shortcut (figure 5, right)."""
    y = conv_norm(x, filters, 1, seeds)
    y = conv_norm(y, filters, 3, seeds, strides=strides)
    y = conv_norm(y, 4 * filters, 1, seeds, activation=None)
    return layers.ReLU()(layers.Add()([y, _shortcut(x, 4 * filters, strides, seeds)]))


def _shortcut(x: layers.Tensor, filters: int, strides: int, seeds: Seeds) -> layers.Tensor:
    """``x``, projected by a 1x1 convolution where the block changes its shape."""
    if strides == 1 and x.shape[-1] == filters:
        return x
    return conv_norm(x, filters, 1, seeds, strides=strides, activation=None)
