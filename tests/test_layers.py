"""Layers on their own: shapes, what they refuse, and what comes back from a file."""

from __future__ import annotations

import numpy as np
import pytest

import cycnn
from cycnn import layers
from cycnn.errors import ArgumentError, CycnnError
from cycnn.layers.activation import ACTIVATIONS

IMAGE = layers.Input((9, 8, 4))


def one(layer, *shapes):
    """A model of that layer alone."""
    inputs = [layers.Input(s, name=f"x{i}") for i, s in enumerate(shapes)]
    return cycnn.Model(inputs, layer(inputs))


def some(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


SHAPES = [
    (layers.Concatenate(), [(9, 8, 4), (9, 8, 1), (9, 8, 2)], (9, 8, 7)),
    (layers.Concatenate(3), [(None, 8, 4), (9, None, 1)], (9, 8, 5)),
    (layers.Concatenate(axis=1), [(4,), (3,)], (7,)),
    (layers.Multiply(), [(9, 8, 4), (1, 1, 4), (9, 8, 4)], (9, 8, 4)),
    (layers.Multiply(), [(1, 1, 4), (None, 8, 4)], (None, 8, 4)),
    (layers.Multiply(), [(4,), (4,)], (4,)),
    (layers.ZeroPadding2D(), [(9, 8, 4)], (11, 10, 4)),
    (layers.ZeroPadding2D((1, 2)), [(9, None, 4)], (11, None, 4)),
    (layers.ZeroPadding2D(((1, 0), (0, 2))), [(9, 8, 4)], (10, 10, 4)),
    (layers.DepthwiseConv2D(3), [(9, 8, 4)], (7, 6, 4)),
    (
        layers.DepthwiseConv2D((3, 5), strides=2, padding="same", depth_multiplier=3),
        [(9, 8, 4)],
        (5, 4, 12),
    ),
    (layers.GlobalAveragePooling2D(keepdims=True), [(None, 8, 4)], (1, 1, 4)),
    (layers.GlobalMaxPooling2D(keepdims=True), [(9, 8, 4)], (1, 1, 4)),
    (layers.Reshape((8, 9, 4)), [(9, 8, 4)], (8, 9, 4)),
    (layers.Reshape((-1, 6)), [(9, 8, 4)], (48, 6)),
    (layers.DropPath(0.5), [(9, 8, 4)], (9, 8, 4)),
    (layers.ReLU(6), [(4,)], (4,)),
    *((layers.Activation(name), [(3, 4)], (3, 4)) for name in ACTIVATIONS),
]


@pytest.mark.parametrize(("layer", "inputs", "output"), SHAPES)
def test_shapes(layer, inputs, output):
    assert one(layer, *inputs).outputs[0].shape == (None, *output)


@pytest.mark.parametrize(("layer", "inputs", "output"), SHAPES)
def test_a_layer_comes_back_from_a_file(layer, inputs, output, tmp_path):
    model = one(layer, *inputs)
    model.save(tmp_path / "m")
    again = cycnn.load(tmp_path / "m")
    assert again.layers[0].config() == layer.config()
    x = [some(2, *((8 if i else 9) if d is None else d for i, d in enumerate(s))) for s in inputs]
    x = x if len(x) > 1 else x[0]
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: layers.Activation("tanh"), "`activation` must be one of hard_sigmoid, .*'tanh'"),
        (lambda: layers.ReLU(4), "`max_value` must be None or 6. Received: max_value=4"),
        (lambda: layers.Concatenate()(IMAGE), "Concatenate takes at least 2 inputs. Received: 1"),
        (lambda: layers.Concatenate("c"), "`axis` must be an integer. Received: axis='c'"),
        (lambda: layers.Concatenate(1)([IMAGE, IMAGE]), "`axis` must be the last .* axis=1"),
        (lambda: layers.Concatenate()([IMAGE, layers.Input((8, 8, 4))]), "agree in all others"),
        (lambda: layers.Multiply()(IMAGE), "Multiply takes at least 2 inputs"),
        (lambda: layers.Multiply()([IMAGE, layers.Input((1, 8, 4))]), r"\(N, 1, 1, C\)"),
        (lambda: layers.ZeroPadding2D("same"), "`padding` must be an integer .*'same'"),
        (lambda: layers.ZeroPadding2D(-1), "`padding` must be .*padding=-1"),
        (lambda: layers.ZeroPadding2D((1, 2, 3)), r"`padding` must be .*\(1, 2, 3\)"),
        (lambda: layers.DropPath(1), "`rate` must be at least 0 and below 1. Received: rate=1"),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=0), "`depth_multiplier` must be"),
        (lambda: layers.DepthwiseConv2D(3)(layers.Input((4,))), "DepthwiseConv2D takes images"),
        (lambda: layers.Reshape(4), "`target_shape` must be a tuple .*target_shape=4"),
        (lambda: layers.Reshape((-1, -1)), "`target_shape` must be a tuple"),
        (lambda: layers.Reshape((-1, 5))(IMAGE), "number of elements that 5 divides"),
        (lambda: layers.Reshape((-1, 4))(layers.Input((None, 8, 4))), "known number of elements"),
        (lambda: layers.Reshape((5, 5))(IMAGE), "samples of 25 elements"),
    ],
)
def test_mistakes_are_explained(make, text):
    with pytest.raises(CycnnError, match=text):
        make()


def test_names_that_others_use():
    assert layers.Activation("swish").activation == "silu"
    assert layers.Conv2D(1, 1, activation="hard_silu").activation == "hard_swish"


def test_paths_are_dropped_in_training_alone():
    x, y = layers.Input((2,)), layers.Input((2,))
    out = layers.Add()([x, layers.DropPath(0.5)(layers.Dense(2, seed=0)(y))])
    model = cycnn.Model([x, y], layers.Dense(2, seed=1)(out))
    model.compile()
    arrays = [some(64, 2), some(64, 2)]
    assert not any("drop" in step.kernel.name for step in model.plan((1, 2), (1, 2)).steps)
    step, labels = model.trainer.step, np.zeros(64, np.int32)
    losses = {
        step.accumulate(arrays, labels, scale=1 / 64, seed=seed, threads=2)[0] for seed in (0, 0, 1)
    }
    assert len(losses) == 2


def test_what_a_gate_sees(capsys):
    """Padding moves the field; what is pooled globally, or multiplied by that, sees the whole image."""
    x = layers.Input((9, 8, 4))
    a = layers.Conv2D(4, 3, name="seen")(layers.ZeroPadding2D(1)(x))
    g = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(a)
    cycnn.Model(x, layers.Multiply(name="gate")([a, g])).summary()
    fields = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "3 x 3" in fields["seen"]
    assert " all " in fields["pool"]
    assert " all " in fields["gate"]


def test_layers_without_weights_have_none_before_they_are_connected():
    assert layers.MaxPooling2D(2).count_params() == 0
    assert layers.Flatten().count_params() == 0
    with pytest.raises(ArgumentError, match="no weights before"):
        layers.Dense(3).count_params()


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (layers.ReLU6, "relu6"),
        (layers.Sigmoid, "sigmoid"),
        (layers.SiLU, "silu"),
        (layers.HardSwish, "hard_swish"),
    ],
)
def test_activations_that_are_layers_by_name(layer, name, tmp_path):
    x = layers.Input((5, 5, 3))
    model = cycnn.Model(x, layer()(x))
    images = 4 * some(2, 5, 5, 3)
    expected = cycnn.Model(x, layers.Activation(name)(x)).predict(images)
    np.testing.assert_array_equal(model.predict(images), expected)
    model.save(tmp_path / "m")
    again = cycnn.load(tmp_path / "m")
    assert type(again.layers[0]) is layer
    np.testing.assert_array_equal(again.predict(images), expected)
