"""The numbers that texts on convolutional networks give, and that the layers must give too."""

from __future__ import annotations

import numpy as np
import pytest

from cycnn import Sequential, layers, strict_tiling
from cycnn.errors import ShapeError


def network(shape, *stack):
    return Sequential([layers.Input(shape), *stack])


def output(shape, *stack):
    """The output's shape, without the batch."""
    return network(shape, *stack).outputs[0].shape[1:]


@pytest.mark.parametrize(
    ("image", "weights"),
    [
        ((100, 100, 1), 10_000),
        ((32, 32, 3), 3_072),
        ((200, 200, 3), 120_000),
        ((1000, 1000, 3), 3_000_000),
    ],
)
def test_a_fully_connected_neuron_sees_every_pixel(image, weights):
    assert network(image, layers.Flatten(), layers.Dense(1)).count_params() == weights + 1
    assert (
        network(image, layers.Flatten(), layers.Dense(1, use_bias=False)).count_params() == weights
    )


@pytest.mark.parametrize("image", [(5, 5, 1), (100, 100, 1), (None, None, 1)])
def test_a_shared_five_by_five_tile_has_25_weights(image):
    """However large the image is."""
    assert network(image, layers.Conv2D(1, 5, use_bias=False)).count_params() == 25


def test_first_layer_of_96_filters():
    """227 x 227 x 3, 11 x 11 filters, stride 4: (227 - 11) / 4 + 1 = 55."""
    conv = layers.Conv2D(96, 11, strides=4)
    assert output((227, 227, 3), conv) == (55, 55, 96)
    assert conv.kernel.shape == (11, 11, 3, 96)
    assert conv.kernel.size == 34_848
    assert conv.count_params() == 34_944


def test_without_sharing_it_had_over_a_hundred_million():
    """One set of 363 weights and a bias for each of 290,400 neurons."""
    conv = layers.Conv2D(96, 11, strides=4)
    neurons = int(np.prod(output((227, 227, 3), conv)))
    assert neurons == 290_400
    weights = conv.kernel.size // conv.filters
    assert weights == 363
    assert neurons * (weights + 1) == 105_705_600


def test_224_pixels_are_not_tiled():
    """(224 - 11) / 4 + 1 = 54.25: rounded down by default, an error when strict."""
    assert output((224, 224, 3), layers.Conv2D(96, 11, strides=4)) == (54, 54, 96)
    with pytest.raises(ShapeError, match=r"W=224.*K=11.*S=4.*54\.25"):
        network((224, 224, 3), layers.Conv2D(96, 11, strides=4, strict=True))
    with strict_tiling(), pytest.raises(ShapeError, match=r"54\.25"):
        network((224, 224, 3), layers.Conv2D(96, 11, strides=4))


def test_a_two_by_two_pool_discards_three_quarters():
    pool = layers.MaxPooling2D(2)
    shape = output((55 + 1, 55 + 1, 96), pool)
    assert shape == (28, 28, 96)
    assert np.prod(shape) / np.prod((56, 56, 96)) == 0.25
    assert pool.count_params() == 0


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("strides", [1, 2, 4])
@pytest.mark.parametrize("extent", [1, 3, 5])
def test_four_hyperparameters(extent, strides, padding):
    """K filters of extent F, stride S, padding P: (W - F + 2P) / S + 1, and F F D1 K + K weights."""
    filters, width, height, depth = 6, 13 - 2 * padding, 21 - 2 * padding, 3
    if (width + 2 * padding - extent) % strides:
        width += strides - (width + 2 * padding - extent) % strides
        height += strides - (height + 2 * padding - extent) % strides
    conv = layers.Conv2D(filters, extent, strides=strides, padding=padding, strict=True)
    rows, columns, slices = output((height, width, depth), conv)
    assert rows == (height - extent + 2 * padding) / strides + 1
    assert columns == (width - extent + 2 * padding) / strides + 1
    assert slices == filters
    assert conv.count_params() == (extent * extent * depth) * filters + filters


@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_dilation_costs_no_weights(dilation):
    conv = layers.Conv2D(4, 3, dilation_rate=dilation, padding="same")
    assert output((20, 20, 2), conv) == (20, 20, 4)
    assert conv.count_params() == 3 * 3 * 2 * 4 + 4


def test_pooling_downsamples_by_its_stride():
    """It is the stride that makes the image smaller, not the window."""
    assert output((9, 9, 3), layers.MaxPooling2D(3, strides=1, padding="same")) == (9, 9, 3)
    assert output((9, 9, 3), layers.AveragePooling2D(3, strides=3)) == (3, 3, 3)
    assert output((8, 12, 3), layers.MaxPooling2D((2, 3))) == (4, 4, 3)


def test_global_pooling_leaves_one_number_a_map():
    assert output((7, 7, 512), layers.GlobalAveragePooling2D()) == (512,)
    assert output((None, None, 8), layers.GlobalMaxPooling2D()) == (8,)


def test_depth_is_the_number_of_filters():
    assert output((8, 8, 3), layers.Conv2D(12, 3)) == (6, 6, 12)


def test_filters_reach_through_the_depth_and_groups_do_not():
    whole, depthwise = (
        layers.Conv2D(8, 3, use_bias=False),
        layers.Conv2D(8, 3, groups=8, use_bias=False),
    )
    network((9, 9, 8), whole)
    network((9, 9, 8), depthwise)
    assert whole.count_params() == 8 * depthwise.count_params() == 3 * 3 * 8 * 8


def test_different_maps_start_with_different_weights():
    conv = layers.Conv2D(16, 3, seed=1)
    network((9, 9, 3), conv)
    maps = conv.kernel.value.reshape(-1, 16).T
    assert len(np.unique(maps.round(6), axis=0)) == 16
