"""Copies and pickles of models, and weights that cannot be changed behind their backs."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import cycnn
import networks
from cycnn import layers
from cycnn.errors import ArgumentError


def images(n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 8, 8, 1)).astype(np.float32)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("make", [networks.small, lambda: trained(networks.small())])
def test_a_copy_has_weights_of_its_own(way, make):
    model, x = make(), images()
    model.class_names, model.input_scaling = list("abcd"), (0.5, 1.0)
    expected = model.predict(x)
    other = way(model)
    assert type(other) is cycnn.Sequential
    assert (other.class_names, other.input_scaling) == (list("abcd"), (0.5, 1.0))
    assert [layer.name for layer in other.layers] == [layer.name for layer in model.layers]
    np.testing.assert_array_equal(other.predict(x), expected)
    with pytest.raises(ArgumentError, match="compile"):
        other.train_on_batch(x, [0, 1, 2])
    before = other.get_weights()
    trained(other)
    np.testing.assert_array_equal(model.predict(x), expected)
    assert not np.array_equal(other.get_weights()[0], before[0])


def trained(model: cycnn.Model) -> cycnn.Model:
    model.compile(cycnn.optimizers.SGD(0.1, momentum=0.9))
    model.train_on_batch(*networks.stripes(16))
    return model


def test_a_deep_network_of_branches_is_copied():
    model = networks.dense_block()
    x = np.random.default_rng(0).normal(size=(2, 9, 7, 5)).astype(np.float32)
    for y, z in zip(model.predict(x), copy.deepcopy(model).predict(x), strict=True):
        np.testing.assert_array_equal(y, z)
    assert copy.deepcopy(cycnn.zoo.densenet121((32, 32, 3), 10)).count_params() > 6e6


def test_a_shallow_copy_shares_the_layers():
    model = networks.small()
    other = copy.copy(model)
    model.set_weights([2 * w for w in model.get_weights()])
    np.testing.assert_array_equal(other.predict(images()), model.predict(images()))


def test_a_copied_layer_has_weights_of_its_own():
    first = layers.Dense(2, seed=0)
    model = cycnn.Sequential([layers.Input((3,)), first])
    other = copy.deepcopy(first)
    first.kernel.assign(np.zeros((3, 2)))
    assert other.kernel.value.any()
    assert not cycnn.Sequential([layers.Input((3,)), first]).predict(np.ones((1, 3))).any()
    assert cycnn.Sequential([layers.Input((3,)), other]).predict(np.ones((1, 3))).any()
    assert model.layers == [first]


def test_weights_are_set_by_assign_and_not_behind_a_plans_back():
    model, x = networks.small(), images()
    before = model.predict(x)
    for _ in range(2):  # of its own, and in the block of a training step
        kernel = model.layers[0].kernel
        with pytest.raises(ValueError, match="read-only"):
            kernel.value[...] = 0
        np.testing.assert_array_equal(model.predict(x), before)
        model.compile()
    kernel.assign(np.zeros(kernel.shape))
    assert not np.array_equal(model.predict(x), before)
