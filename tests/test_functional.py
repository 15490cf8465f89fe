"""The functional interface: defaults, packed weights, errors. The kernels have their own tests."""

from __future__ import annotations

import numpy as np
import pytest

from cycnn import functional as F
from cycnn.errors import ArgumentError, CycnnError, DTypeError, ShapeError

rng = np.random.default_rng(0)
X = rng.normal(size=(2, 7, 6, 4)).astype(np.float32)
W = rng.normal(size=(3, 3, 4, 5)).astype(np.float32)
B = rng.normal(size=5).astype(np.float32)


def test_conv2d_by_hand():
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    w = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    y = F.conv2d(x, w, [0.5])
    np.testing.assert_array_equal(y[0, :, :, 0], [[27.5, 37.5], [57.5, 67.5]])


def test_packed_weights_give_the_same_bits():
    packed = F.pack(W)
    options = {"strides": 2, "padding": 1, "activation": "relu"}
    np.testing.assert_array_equal(F.conv2d(X, packed, B, **options), F.conv2d(X, W, B, **options))
    dy = F.conv2d(X, W, padding=1)
    np.testing.assert_array_equal(
        F.conv2d_backward_data(dy, packed, X.shape, padding=1),
        F.conv2d_backward_data(dy, W, X.shape, padding=1),
    )
    x, w = X.reshape(2, -1), rng.normal(size=(168, 3))
    np.testing.assert_array_equal(F.dense(x, F.pack(w)), F.dense(x, w))


def test_packed_weights_do_not_change_with_their_source():
    w = W.copy()
    packed = F.pack(w)
    before = F.conv2d(X, packed)
    w[...] = 0
    np.testing.assert_array_equal(F.conv2d(X, packed), before)
    with pytest.raises(ValueError, match="read-only"):
        packed.value[...] = 0


def test_packing_checks_what_it_is_told():
    packed = F.pack(W, strides=2, padding="same", algorithm="direct")
    x = F.conv2d(X, packed, strides=2, padding="same", algorithm="direct")
    np.testing.assert_array_equal(x, F.conv2d(X, W, strides=2, padding="same", algorithm="direct"))
    for options, text in [
        ({"strides": 0}, "`strides`"),
        ({"padding": "full"}, "`padding`"),
        ({"dilation_rate": -1}, "`dilation_rate`"),
        ({"groups": 3}, "`groups` must divide .*groups=3, filters="),
        ({"algorithm": "fft"}, "`algorithm`"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            F.pack(W, **options)


def test_backward_functions_are_the_gradients():
    dy = rng.normal(size=(2, 5, 4, 5)).astype(np.float32)
    y = F.conv2d(X, W).astype(np.float64)
    total = np.sum(y * dy)
    dx = F.conv2d_backward_data(dy, W, X.shape)
    dw = F.conv2d_backward_weight(X, dy, W.shape)
    assert np.sum(dx.astype(float) * X) == pytest.approx(total, rel=1e-5)
    assert np.sum(dw.astype(float) * W) == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose(F.bias_gradient(dy), dy.sum(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)


def test_pooling_and_the_rest():
    np.testing.assert_array_equal(F.max_pool2d(X)[0, 0, 0], X[0, :2, :2].max(axis=(0, 1)))
    np.testing.assert_allclose(
        F.avg_pool2d(X)[1, 2, 1], X[1, 4:6, 2:4].mean(axis=(0, 1)), rtol=1e-5
    )
    np.testing.assert_allclose(F.global_avg_pool2d(X), X.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(F.global_max_pool2d(X), X.max(axis=(1, 2)))
    assert F.max_pool2d(X).size * 4 == X[:, :6].size
    assert F.max_pool2d_backward(X, np.ones((2, 3, 3, 4)), 2).sum() == 2 * 3 * 3 * 4
    assert F.avg_pool2d_backward(np.ones((2, 3, 3, 4)), X.shape, 2).sum() == 2 * 3 * 3 * 4
    np.testing.assert_array_equal(F.relu(X), np.maximum(X, 0))
    np.testing.assert_array_equal(F.relu_backward(F.relu(X), X), np.maximum(X, 0))
    np.testing.assert_array_equal(F.add(X, X), 2 * X)
    np.testing.assert_allclose(F.softmax(X).sum(axis=-1), 1, rtol=1e-6)


def test_backward_of_global_pooling_and_softmax():
    dy = rng.normal(size=(2, 4)).astype(np.float32)
    spread = np.broadcast_to(dy[:, None, None] / 42, X.shape)
    np.testing.assert_allclose(F.global_avg_pool2d_backward(dy, X.shape), spread, rtol=1e-6)
    dx = F.global_max_pool2d_backward(X, dy)
    np.testing.assert_array_equal(dx.sum(axis=(1, 2)), dy)
    np.testing.assert_array_equal(dx != 0, X.max(axis=(1, 2), keepdims=True) == X)
    y = F.softmax(dy)
    expected = y * (dy - (dy * y).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(F.softmax_backward(y, dy), expected, rtol=1e-4, atol=1e-6)


def test_batch_norm_by_hand():
    x = np.array([[1.0, 5.0], [3.0, 9.0]])
    y, mean, invstd, unbiased = F.batch_norm_training(x, [2.0, 1.0], [0.5, 0.0], epsilon=1e-6)
    np.testing.assert_allclose(mean, [2, 7], rtol=1e-6)
    np.testing.assert_allclose(invstd, [1, 0.5], rtol=1e-6)
    np.testing.assert_allclose(unbiased, [2, 8], rtol=1e-6)
    np.testing.assert_allclose(y, [[-1.5, -1], [2.5, 1]], rtol=1e-5)
    np.testing.assert_allclose(
        F.batch_norm(x, mean, [1.0, 4.0], [2.0, 1.0], [0.5, 0.0], epsilon=1e-6), y, rtol=1e-5
    )
    np.testing.assert_allclose(F.batch_norm(x, mean, [1, 4], activation="relu")[0], 0)


def test_batch_norm_backward_is_the_gradient():
    """Along x and along a constant y does not change, but for epsilon; along gamma it is linear."""
    gamma, beta = rng.normal(size=(2, 4))
    dy = rng.normal(size=X.shape).astype(np.float32)
    y, mean, invstd, _ = F.batch_norm_training(X, gamma, beta, epsilon=1e-9)
    dx, dgamma, dbeta = F.batch_norm_backward(X, dy, mean, invstd, gamma, beta)
    np.testing.assert_allclose(dx.sum(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose((dx * X).sum(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(dbeta, dy.sum(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
    total = (dy * (y - beta)).sum(axis=(0, 1, 2))
    np.testing.assert_allclose(gamma * dgamma, total, rtol=1e-4, atol=1e-4)
    y, *_ = F.batch_norm_training(X, gamma, beta, activation="relu")
    passed = F.batch_norm_backward(X, dy, mean, invstd, gamma, beta, activation="relu")[2]
    np.testing.assert_allclose(passed, (dy * (y > 0)).sum(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)


def test_dropout_repeats_and_its_gradient_has_the_same_mask():
    y = F.dropout(X, 0.5, seed=3)
    np.testing.assert_array_equal(y, F.dropout(X, 0.5, seed=3))
    kept = y != 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_array_equal(y[kept], 2 * X[kept])
    np.testing.assert_array_equal(F.dropout(np.ones_like(X), 0.5, seed=3) != 0, kept)
    for other in ({"seed": 4}, {"seed": 3, "step": 1}, {"seed": 3, "stream": 1}):
        assert not np.array_equal(F.dropout(X, 0.5, **other) != 0, kept)


def test_sgd_update_by_hand():
    w, g = np.array([[1.0, -2.0]]), np.array([[0.5, 0.25]])
    new, velocity = F.sgd_update(w, g, learning_rate=0.1, momentum=0.9, weight_decay=0.2)
    np.testing.assert_allclose(velocity, [[0.7, -0.15]], rtol=1e-6)
    np.testing.assert_allclose(new, [[0.93, -1.985]], rtol=1e-6)
    new, velocity = F.sgd_update(
        new, g, velocity, learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.2
    )
    d = 0.5 + 0.2 * 0.93
    np.testing.assert_allclose(velocity[0, 0], 0.9 * 0.7 + d, rtol=1e-6)
    np.testing.assert_allclose(new[0, 0], 0.93 - 0.1 * (d + 0.9 * (0.9 * 0.7 + d)), rtol=1e-6)
    assert F.sgd_update(w, g, learning_rate=0.1)[1] is None
    np.testing.assert_array_equal(w, [[1.0, -2.0]])


def test_softmax_cross_entropy_by_hand():
    value, gradient = F.softmax_cross_entropy([[0.0, np.log(3)], [5.0, 5.0]], [1, 0])
    assert value == pytest.approx((np.log(4 / 3) + np.log(2)) / 2, rel=1e-6)
    np.testing.assert_allclose(gradient, [[0.125, -0.125], [-0.25, 0.25]], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.conv2d(X, W[0]), ShapeError, "`w`"),
        (lambda: F.conv2d(X[0], W), ShapeError, "rank 4"),
        (lambda: F.conv2d(X[..., :3], W), ShapeError, "channels"),
        (lambda: F.conv2d(X, W, B[:2]), ShapeError, "b"),
        (lambda: F.conv2d(X, W, groups=3), CycnnError, "groups"),
        (lambda: F.conv2d(X, W, strides=0), ArgumentError, "`strides`"),
        (lambda: F.conv2d(X, W, algorithm="magic"), ArgumentError, "algorithm"),
        (lambda: F.conv2d(X, W, activation="magic"), ArgumentError, "`activation`"),
        (lambda: F.conv2d("x", W), DTypeError, "`x`"),
        (lambda: F.conv2d(X[:, :2], W), ShapeError, "does not fit"),
        (lambda: F.conv2d_backward_data(X, W, X.shape), ShapeError, "dy"),
        (lambda: F.conv2d_backward_weight(X, X, W.shape), ShapeError, "dy"),
        (lambda: F.dense(X, W), ShapeError, "rank 2"),
        (lambda: F.add(X, X[:1]), ShapeError, "shape"),
        (lambda: F.softmax_cross_entropy(X, [1]), ShapeError, "`logits`"),
        (lambda: F.softmax_cross_entropy(X[0, 0], [0, 9, 0, 0, 0, 0]), ArgumentError, "9"),
        (lambda: F.dropout(X, 1.5, seed=0), ArgumentError, "`rate`"),
        (lambda: F.sgd_update([1.0], [1.0], learning_rate=-1), ArgumentError, "`learning_rate`"),
        (lambda: F.sgd_update([1.0], [1.0, 2.0], learning_rate=1), ShapeError, "g"),
        (lambda: F.max_pool2d(X, 2, padding=2), ShapeError, "padding"),
    ],
)
def test_mistakes_are_explained(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_packed_operands_are_told_apart():
    x, w = F.pack(X.reshape(2, -1)), F.pack(rng.normal(size=(168, 3)))
    low, high = F.pack(np.zeros(3)), F.pack(np.full(3, 100.0))
    np.testing.assert_allclose(F.dense(x, w, low) + 100, F.dense(x, w, high), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: F.conv2d_backward_data(X, W, (2, 7, 6)), "`x_shape`"),
        (lambda: F.conv2d_backward_data(X, W, None), "`x_shape`"),
        (lambda: F.conv2d_backward_data(X, W, X.shape, algorithm="magic"), "`algorithm`"),
        (lambda: F.conv2d_backward_weight(X, X, W.shape, algorithm="magic"), "`algorithm`"),
        (lambda: F.conv2d_backward_weight(X[..., :2], X, (1, 1, 1, 3), groups=2), "groups"),
        (lambda: F.conv2d_backward_weight(X[:, :0], X[:, :0], (1, 1, 4, 4)), "pixel"),
        (lambda: F.conv2d(X, np.zeros((3, 3, 4, 0))), "at least one"),
        (lambda: F.dense(np.zeros((2, 3)), np.zeros((3, 0))), "at least one"),
        (lambda: F.conv2d(X, W, padding=2**63), "`padding`"),
        (lambda: F.batch_norm(X, B, B), "mean of shape"),
        (lambda: F.batch_norm(X, B[:4], B[:4], epsilon=-1), "`epsilon`"),
        (lambda: F.batch_norm(X, B[:4], B[:4], activation="softmax"), "`activation`"),
        (lambda: F.batch_norm_training(X[:1, :1, :1]), "two values"),
        (lambda: F.batch_norm_backward(X, X[1:], B[:4], B[:4]), "dy"),
        (lambda: F.dropout(X, 0.5, seed=-1), "`seed`"),
        (lambda: F.sgd_update(np.zeros((2, 3)), np.zeros((3, 2)), learning_rate=1), "one shape"),
        (lambda: F.global_max_pool2d_backward(X, X), "dy"),
        (lambda: F.silu_backward(X, X[:1]), "same shape"),
        (lambda: F.multiply(X, X[..., :2]), "same shape"),
        (lambda: F.multiply_backward(X, X, X[:1]), "same shape"),
        (lambda: F.concatenate([X, X[:1]]), "agree in all others"),
        (lambda: F.concatenate([]), "one rank"),
        (lambda: F.slice_channels(X, 3, 9), "9 channels or more"),
        (lambda: F.slice_channels(X, -1, 2), "`begin`"),
        (lambda: F.zero_pad2d(X, "same"), "`padding`"),
        (lambda: F.crop2d(X, 4), "at least one pixel"),
        (lambda: F.drop_path(X, 1.0, seed=0), "`rate`"),
    ],
)
def test_more_mistakes_are_explained(call, text):
    with pytest.raises(CycnnError, match=text):
        call()


@pytest.mark.parametrize("name", ["relu", "relu6", "sigmoid", "silu", "hard_sigmoid", "hard_swish"])
def test_activations_and_their_slopes(name):
    x, h = 6 * X, 1e-2
    forward, gradient = getattr(F, name), getattr(F, f"{name}_backward")
    y = forward(x)
    np.testing.assert_allclose(F.dense(x[0, 0], np.eye(4), activation=name), y[0, 0], rtol=1e-5)
    dx = gradient(x if name in ("silu", "hard_swish") else y, np.full_like(x, 2))
    smooth = np.min([np.abs(x - kink) for kink in (-3, 0, 3, 6)], axis=0) > h
    slope = (forward(x + h).astype(float) - forward(x - h)) / (2 * h)
    np.testing.assert_allclose(dx[smooth], 2 * slope[smooth], atol=1e-3)


def test_merging_and_cutting():
    y = F.concatenate([X, 2 * X[..., :1], X])
    np.testing.assert_array_equal(y, np.concatenate([X, 2 * X[..., :1], X], -1))
    np.testing.assert_array_equal(F.slice_channels(y, 4, 5), 2 * X[..., :1])
    padded = F.zero_pad2d(X, ((1, 0), (2, 3)))
    np.testing.assert_array_equal(padded, np.pad(X, ((0, 0), (1, 0), (2, 3), (0, 0))))
    np.testing.assert_array_equal(F.crop2d(padded, ((1, 0), (2, 3))), X)
    gate = X[:, :1, :1]
    np.testing.assert_array_equal(F.multiply(X, gate), X * gate)
    for a, b in ((X, gate), (gate, X), (X, X)):
        da, db = F.multiply_backward(a, b, X)
        assert (da.shape, db.shape) == (a.shape, b.shape)
        y = F.multiply(a, b).astype(float)
        assert np.sum(da * a) == pytest.approx(np.sum(y * X), rel=1e-5)
        assert np.sum(db * b) == pytest.approx(np.sum(y * X), rel=1e-5)


def test_drop_path_drops_samples():
    x = np.ones((200, 2, 3, 4), np.float32)
    y = F.drop_path(x, 0.25, seed=3)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1, :1], x.shape))
    kept = y[:, 0, 0, 0] != 0
    assert 0.6 < kept.mean() < 0.9
    np.testing.assert_allclose(y[kept], 1 / 0.75, rtol=1e-6)
    assert not np.array_equal(F.drop_path(x, 0.25, seed=3, step=1), y)
