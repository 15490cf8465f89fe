"""What mathematics promises of the layers, whatever the numbers."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from cases import seed
from convolutions import CONVOLUTIONS, window
from cycnn.geometry import ReceptiveField
from cycnn.ops.conv import Conv2D, Conv2DBackwardData
from cycnn.ops.dense import Dense
from cycnn.ops.dropout import Dropout
from cycnn.ops.pool import (
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    MaxPool2D,
    MaxPool2DBackward,
)
from cycnn.ops.weight_gradient import Conv2DBackwardWeight
from runner import assert_close, run, same_bits


def normal(*shape, key=0):
    return np.random.default_rng(key).standard_normal(shape).astype(np.float32)


def conv(x, w, *arguments, b=None, groups=1, activation=None, **options):
    sliding = window(w.shape[:2], *arguments, **options)
    return run(Conv2D(sliding, groups, activation), [x, w, b])[0]


def dot(a, b):
    return np.vdot(a.astype(np.float64), b.astype(np.float64))


# ---- convolution and its transposes --------------------------------------------------------------


@pytest.mark.parametrize("shapes", CONVOLUTIONS, ids=str)
def test_backward_products_are_adjoint(shapes):
    """<conv(x, w), y> == <x, backward_data(y, w)> == <w, backward_weight(x, y)>."""
    x, w, y = normal(*shapes.x), normal(*shapes.w, key=1), normal(*shapes.y, key=2)
    sliding, groups = shapes.window, shapes.groups
    (forward,) = run(Conv2D(sliding, groups), [x, w, None])
    (dx,) = run(Conv2DBackwardData(sliding, groups, shapes.x), [y, w])
    (dw,) = run(Conv2DBackwardWeight(sliding, groups, shapes.w), [x, y])
    scale = 1 + np.linalg.norm(forward) * np.linalg.norm(y)
    assert abs(dot(forward, y) - dot(x, dx)) < 1e-6 * scale
    assert abs(dot(forward, y) - dot(w, dw)) < 1e-6 * scale


def matrix(function, shape):
    """The matrix of a linear function of arrays of ``shape``."""
    size = int(np.prod(shape))
    unit = np.eye(size, dtype=np.float32).reshape(size, *shape)
    return np.stack([function(e[None]).ravel() for e in unit], axis=1)


@pytest.mark.parametrize("strides", [1, 2, 3])
def test_backward_data_is_the_transposed_matrix(strides):
    """Deconvolution multiplies by the transpose of the convolution's matrix."""
    sliding, w = window((2, 3), strides, 1), normal(2, 3, 2, 3)
    shape = (5, 4, 2)
    forward = matrix(lambda x: run(Conv2D(sliding), [x, w, None])[0], shape)
    output = (*sliding.output(shape[:2]), 3)
    backward = Conv2DBackwardData(sliding, 1, (1, *shape))
    assert np.array_equal(forward.T, matrix(lambda y: run(backward, [y, w])[0], output))


def test_shared_weights_sum_the_gradients_of_every_position():
    """Each position, seen as a layer of its own, has a gradient; the shared weights get their sum."""
    x, dy = normal(2, 6, 7, 3), normal(2, 4, 5, 8, key=1)
    local = Conv2DBackwardWeight(window(3), 1, (3, 3, 3, 8))
    total = np.zeros((3, 3, 3, 8))
    for p in range(4):
        for q in range(5):
            patch = np.ascontiguousarray(x[:, p : p + 3, q : q + 3])
            total += run(local, [patch, np.ascontiguousarray(dy[:, p : p + 1, q : q + 1])])[0]
    assert_close(run(local, [x, dy]), [total])


# ---- translation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("steps", [(1, 0), (0, 1), (2, 1)])
def test_translation_equivariance(strides, steps):
    """A shift of the image by multiples of the stride shifts the feature map."""
    x, w = normal(1, 16, 17, 3), normal(3, 3, 3, 8, key=1)
    down, right = steps
    shifted = np.ascontiguousarray(x[:, down * strides :, right * strides :])
    moved = conv(shifted, w, strides)
    assert_close([moved], [conv(x, w, strides)[:, down:, right:]])


def test_stride_breaks_equivariance_for_other_shifts():
    x, w = normal(1, 16, 16, 1), normal(3, 3, 1, 4, key=1)
    moved = conv(np.roll(x, 1, axis=2), w, 2)
    assert not np.allclose(moved[:, :, 1:], conv(x, w, 2)[:, :, :-1], atol=1e-3)


@pytest.mark.parametrize("pool", [GlobalMaxPool2D(), GlobalAveragePool2D()], ids=lambda p: p.name)
def test_global_pooling_is_invariant(pool):
    """Where a pattern lies in the image makes no difference after global pooling."""
    pattern, w = normal(1, 5, 5, 2), normal(3, 3, 2, 6, key=1)
    answers = []
    for top, left in [(2, 2), (2, 9), (7, 5)]:
        image = np.zeros((1, 16, 16, 2), np.float32)
        image[:, top : top + 5, left : left + 5] = pattern
        answers += run(pool, [conv(image, w)])
    assert_close(answers[1:], [answers[0]] * 2)


def test_local_pooling_is_invariant_to_small_shifts():
    image = np.zeros((1, 8, 8, 1), np.float32)
    image[0, 4, 4] = 1
    pool = MaxPool2D(window(2, 2))
    assert np.array_equal(run(pool, [image])[0], run(pool, [np.roll(image, 1, axis=2)])[0])
    assert not np.array_equal(run(pool, [image])[0], run(pool, [np.roll(image, 2, axis=2)])[0])


# ---- receptive field -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stack",
    [
        [window(3), window(3)],
        [window(5, 2, "same"), window(3, 1, "same", 2)],
        [window(3, 2), window((1, 3), 1, 0, 3), window(2, 2)],
    ],
    ids=str,
)
def test_receptive_field_is_where_the_gradient_arrives(stack):
    """The input gradient of one output pixel is nonzero in the field and nowhere else."""
    sizes, field = [(31, 30)], ReceptiveField()
    for sliding in stack:
        field = field.through(sliding, sizes[-1])
        sizes.append(sliding.output(sizes[-1]))
    middle = tuple(n // 2 for n in sizes[-1])
    gradient = np.zeros((1, *sizes.pop(), 1), np.float32)
    gradient[0, *middle] = 1
    for sliding, size in zip(reversed(stack), reversed(sizes), strict=True):
        ones_like = np.ones((*sliding.kernel, 1, 1), np.float32)
        (gradient,) = run(Conv2DBackwardData(sliding, 1, (1, *size, 1)), [gradient, ones_like])
    for axis, reached in enumerate(np.nonzero(gradient[0, :, :, 0])):
        assert reached.max() - reached.min() + 1 == field.size[axis]
        centre = field.start[axis] + middle[axis] * field.jump[axis]
        assert (reached.max() + reached.min()) / 2 == centre


# ---- convolutions that equal each other ----------------------------------------------------------


def test_one_by_one_is_dense_at_every_pixel():
    x, w, b = normal(2, 5, 6, 33), normal(1, 1, 33, 20, key=1), normal(20, key=2)
    pixels = run(Dense(), [x.reshape(-1, 33), w[0, 0], b])
    assert_close([conv(x, w, b=b)], [pixels[0].reshape(2, 5, 6, 20)])


def test_window_as_large_as_the_image_is_dense():
    x, w = normal(3, 4, 5, 6), normal(4, 5, 6, 9, key=1)
    flat = run(Dense(), [x.reshape(3, -1), w.reshape(-1, 9), None])
    assert_close([conv(x, w).reshape(3, 9)], flat)


def test_padding_is_zeros_around_the_image():
    x, w = normal(2, 5, 6, 3), normal(3, 3, 3, 8, key=1)
    around = np.pad(x, ((0, 0), (1, 0), (2, 3), (0, 0)))
    assert_close([conv(x, w, 2, ((1, 0), (2, 3)))], [conv(around, w, 2)])


def test_dilation_spreads_the_taps():
    x, w = normal(1, 9, 10, 4), normal(3, 2, 4, 8, key=1)
    spread = np.zeros((5, 4, 4, 8), np.float32)
    spread[::2, ::3] = w
    assert_close([conv(x, w, dilation=(2, 3))], [conv(x, spread)])


def test_groups_are_convolutions_side_by_side():
    x, w = normal(2, 6, 6, 12), normal(3, 3, 4, 18, key=1)
    parts = [
        conv(
            np.ascontiguousarray(x[..., 4 * g :][..., :4]),
            np.ascontiguousarray(w[..., 6 * g :][..., :6]),
        )
        for g in range(3)
    ]
    assert_close([conv(x, w, groups=3)], [np.concatenate(parts, axis=-1)])


def test_fused_bias_and_activation():
    x, w, b = normal(2, 6, 6, 12), normal(3, 3, 12, 18, key=1), normal(18, key=2)
    assert_close([conv(x, w, b=b, activation="relu")], [np.maximum(conv(x, w) + b, 0)])


def test_stride_takes_every_other_position():
    x, w = normal(1, 9, 9, 5), normal(3, 3, 5, 8, key=1)
    assert_close([conv(x, w, 2)], [conv(x, w)[:, ::2, ::2]])


def test_linear_in_image_and_filters():
    x, w = normal(1, 7, 7, 5), normal(3, 3, 5, 8, key=1)
    assert np.array_equal(conv(2 * x, w), 2 * conv(x, w))
    assert np.array_equal(conv(x, -w), -conv(x, w))


def test_matched_filter_finds_its_template():
    """The response is largest where the image is the filter."""
    image = normal(1, 20, 20, 3)
    template = image[0, 7:12, 4:9]
    response = conv(image, np.ascontiguousarray(template[..., None]))
    assert np.unravel_index(response.argmax(), response.shape) == (0, 7, 4, 0)


# ---- pooling -------------------------------------------------------------------------------------


def test_two_by_two_keeps_a_quarter():
    x = normal(2, 8, 10, 3)
    (y,) = run(MaxPool2D(window(2, 2)), [x])
    assert y.size / x.size == 0.25


def test_one_of_four_gets_the_gradient():
    """Also where all four are equal: then it is the first in row order."""
    pool = MaxPool2DBackward(window(2, 2))
    dy = np.ones((1, 3, 4, 5), np.float32)
    for x in (normal(1, 6, 8, 5), np.zeros((1, 6, 8, 5), np.float32)):
        (dx,) = run(pool, [x, dy])
        assert (dx.reshape(3, 2, 4, 2, 5).sum(axis=(1, 3)) == 1).all()
    assert (dx[:, ::2, ::2] == 1).all()


def test_stride_one_pooling_keeps_the_size():
    assert run(MaxPool2D(window(2, 1, "same")), [normal(1, 5, 7, 3)])[0].shape == (1, 5, 7, 3)


# ---- dropout -------------------------------------------------------------------------------------


ones = partial(np.ones, dtype=np.float32)


def mask(rate, stream, key, step, n=100_000):
    (y,) = run(Dropout(rate, stream), [ones((1, n)), seed(key, step)])
    return y


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share(rate):
    y = mask(rate, 0, 7, 3)
    kept = (y != 0).mean()
    assert abs(kept - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / y.size)
    assert np.allclose(y[y != 0], 1 / (1 - rate))
    assert abs(y.mean() - 1) < 0.03


def test_dropout_masks_are_unlike_each_other():
    """Other seed, step or stream: another mask, and half of the elements agree."""
    masks = [
        mask(0.5, *key) != 0 for key in [(0, 7, 3), (0, 8, 3), (0, 7, 4), (1, 7, 3), (1, 3, 7)]
    ]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert abs((one == other).mean() - 0.5) < 0.008


def test_dropout_elements_are_unlike_their_neighbours():
    kept = (mask(0.5, 0, 7, 3)[0] != 0).astype(float) - 0.5
    for lag in (1, 2, 4, 8, 16, 64, 256):
        assert abs((kept[lag:] * kept[:-lag]).mean() * 4) < 0.015


def test_dropout_repeats():
    assert same_bits(mask(0.3, 2, 5, 6), mask(0.3, 2, 5, 6))


def test_dropout_of_nothing_is_the_identity():
    x = normal(3, 50)
    assert same_bits(run(Dropout(0.0, 0), [x, seed(1, 2)])[0], x)
