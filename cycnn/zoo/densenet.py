"""DenseNet-121."""

from __future__ import annotations

from .. import layers
from ..model import Model
from .blocks import Seeds, conv_norm, norm, seeds_from

__all__ = ["densenet121"]

GROWTH = 32  # filters that every layer adds


def densenet121(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    *,
    seed: int | None = None,
) -> Model:
    """DenseNet-121: 58 layers in four blocks, each seeing all before it; the output is logits.

    Huang et al., "Densely Connected Convolutional Networks", 2017, table 1, as torchvision builds it:
    7,978,856 trained weights for 1000 classes. A pixel of the last feature map, 1/32 of the image's size,
    sees 2071x2071 pixels. ``seed`` fixes the initial weights.
    """
    seeds = seeds_from(seed)
    image = layers.Input(input_shape)
    x = conv_norm(image, 2 * GROWTH, 7, seeds, strides=2)
    x = layers.MaxPooling2D(3, strides=2, padding=1)(x)
    for block, count in enumerate((6, 12, 24, 16)):
        x = transition(x, seeds) if block else x
        for _ in range(count):
            x = layers.Concatenate()([x, dense_layer(x, seeds)])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(norm(x)))
    return Model(image, layers.Dense(classes, seed=next(seeds))(x))


def dense_layer(x: layers.Tensor, seeds: Seeds) -> layers.Tensor:
    """`GROWTH` new channels: normalised, narrowed by a 1x1 convolution, filtered by a 3x3 one."""
    x = conv_norm(layers.ReLU()(norm(x)), 4 * GROWTH, 1, seeds)
    return _conv(x, GROWTH, 3, seeds)


def transition(x: layers.Tensor, seeds: Seeds) -> layers.Tensor:
    """Halve channels, height and width."""
    x = _conv(layers.ReLU()(norm(x)), x.shape[-1] // 2, 1, seeds)
    return layers.AveragePooling2D(2)(x)


def _conv(x: layers.Tensor, filters: int, kernel_size: int, seeds: Seeds) -> layers.Tensor:
    return layers.Conv2D(
        filters,
        kernel_size,
        padding=kernel_size // 2,
        use_bias=False,
        kernel_initializer="he_normal",
        seed=next(seeds),
    )(x)
