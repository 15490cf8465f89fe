"""Whole networks against PyTorch, given the same weights: outputs, loss, gradients and trained weights."""

from __future__ import annotations

import os

import numpy as np
import pytest

from cycnn import Model, Sequential, layers, optimizers, zoo
from runner import assert_close

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    if os.environ.get("CYCNN_REQUIRE_ORACLE") == "1":
        raise
    pytest.skip("torch is not installed (extra `oracle`)", allow_module_level=True)

pytestmark = pytest.mark.oracle

# ---- the networks, and their twins in torch: functions of images (N, H, W, C) and weights ---------


def conv(x, w, b=None, *, strides=1, pads=(0, 0, 0, 0)):
    """``pads`` is left, right, top, bottom."""
    y = F.conv2d(F.pad(x.permute(0, 3, 1, 2), pads), w.permute(3, 2, 0, 1).contiguous(), b, strides)
    return y.permute(0, 2, 3, 1)


def max_pool(x):
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def lenet5_twin(x, w1, b1, w2, b2, w3, b3, w4, b4, w5, b5):
    y = max_pool(conv(x, w1, b1, pads=(2, 2, 2, 2)).relu())
    y = max_pool(conv(y, w2, b2).relu()).flatten(1)
    y = (y @ w3 + b3).relu()
    return (y @ w4 + b4).relu() @ w5 + b5


def residual():
    """A block that keeps its input, then one that halves the image and projects it."""
    x = layers.Input((8, 9, 5))
    a = layers.Conv2D(16, 3, padding="same", activation="relu", seed=1)(x)
    b = layers.Conv2D(16, 3, padding="same", activation="relu", seed=2)(a)
    b = layers.Conv2D(16, 3, padding="same", seed=3)(b)
    a = layers.ReLU()(layers.Add()([a, b]))
    b = layers.Conv2D(24, 3, strides=2, padding="same", seed=4)(a)
    c = layers.Conv2D(24, 1, strides=2, use_bias=False, seed=5)(a)
    y = layers.ReLU()(layers.Add()([b, c]))
    return Model(x, layers.Dense(10, seed=6)(layers.GlobalAveragePooling2D()(y)))


def residual_twin(x, w1, b1, w2, b2, w3, b3, w4, b4, w5, w6, b6):
    same = (1, 1, 1, 1)
    a = conv(x, w1, b1, pads=same).relu()
    b = conv(conv(a, w2, b2, pads=same).relu(), w3, b3, pads=same)
    a = (a + b).relu()
    b = conv(a, w4, b4, strides=2, pads=(1, 1, 0, 1))  # "same": 8 rows need one more, at the bottom
    y = (b + conv(a, w5, strides=2)).relu()
    return y.mean(dim=(1, 2)) @ w6 + b6


def averaging():
    """Groups, dilation, overlapping average pools whose padding is not counted, a softmax at the end."""
    return Sequential(
        [
            layers.Input((11, 10, 4)),
            layers.Conv2D(12, 3, groups=2, dilation_rate=2, padding=2, activation="relu", seed=1),
            layers.AveragePooling2D(3, strides=2, padding=1),
            layers.Conv2D(12, 3, groups=12, seed=2),
            layers.Activation("relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(6, activation="softmax", seed=3),
        ]
    )


def averaging_logits(x, w1, b1, w2, b2, w3, b3):
    y = F.conv2d(x.permute(0, 3, 1, 2), w1.permute(3, 2, 0, 1), b1, padding=2, dilation=2, groups=2)
    y = F.avg_pool2d(y.relu(), 3, 2, 1, count_include_pad=False)
    y = F.conv2d(y, w2.permute(3, 2, 0, 1), b2, groups=12).relu()
    return y.amax(dim=(2, 3)) @ w3 + b3


def gated():
    """What mobile networks are made of: an inverted residual with a gate for each channel, and a join."""
    x = layers.Input((9, 8, 4))
    a = layers.Conv2D(12, 1, activation="silu", seed=1)(x)
    a = layers.ZeroPadding2D(((1, 0), (1, 2)))(a)
    a = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="hard_swish", seed=2)(a)
    g = layers.GlobalAveragePooling2D(keepdims=True)(a)
    g = layers.Conv2D(5, 1, activation="relu6", seed=3)(g)
    g = layers.Conv2D(24, 1, activation="hard_sigmoid", seed=4)(g)
    a = layers.Conv2D(4, 1, seed=5)(layers.Multiply()([a, g]))
    b = layers.Conv2D(4, 3, padding=((0, 1), (1, 2)), activation="sigmoid", seed=6)(x)
    a = layers.Concatenate()([b, layers.ReLU(6)(a), b])
    a = layers.DepthwiseConv2D((8, 9), use_bias=False, seed=7)(a)
    return Model(x, layers.Dense(6, seed=8)(layers.Reshape((-1,))(a)))


def depthwise(x, w, b=None):
    w = w.permute(3, 2, 0, 1).contiguous()
    return F.conv2d(x.permute(0, 3, 1, 2), w, b, groups=x.shape[3]).permute(0, 2, 3, 1)


def gated_twin(x, w6, b6, w1, b1, w2, b2, w3, b3, w4, b4, w5, b5, w7, w8, b8):
    a = F.pad(F.silu(conv(x, w1, b1)), (0, 0, 1, 2, 1, 0))
    a = F.hardswish(depthwise(a, w2, b2))
    g = F.relu6(conv(a.mean(dim=(1, 2), keepdim=True), w3, b3))
    a = conv(a * F.hardsigmoid(conv(g, w4, b4)), w5, b5)
    b = torch.sigmoid(conv(x, w6, b6, pads=(1, 2, 0, 1)))
    a = depthwise(torch.cat([b, F.relu6(a), b], -1), w7)
    return a.flatten(1) @ w8 + b8


NETWORKS = {
    "lenet5": (lambda: zoo.lenet5(seed=3), lenet5_twin),
    "residual": (residual, residual_twin),
    "averaging": (averaging, averaging_logits),
    "gated": (gated, gated_twin),
}
networks = pytest.mark.parametrize("name", NETWORKS)


def made(name):
    """The model, its twin, and the twin's weights in float64."""
    make, twin = NETWORKS[name]
    model = make()
    rng = np.random.default_rng(9)
    model.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in model.get_weights()])
    weights = [torch.tensor(w, dtype=torch.double, requires_grad=True) for w in model.get_weights()]
    return model, twin, weights


def batch(model, n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, *model.inputs[0].shape[1:])).astype(np.float32)
    return x, rng.integers(0, model.outputs[0].shape[1], n)


def arrays(tensors):
    return [t.detach().numpy() for t in tensors]


@networks
def test_outputs(name):
    model, twin, weights = made(name)
    x, _ = batch(model, 7)
    expected = twin(torch.tensor(x).double(), *weights)
    if name == "averaging":
        expected = expected.softmax(-1)
    assert_close([model.predict(x)], arrays([expected]))
    assert_close([model.predict(x, batch_size=3)], arrays([expected]))


@networks
def test_loss_and_gradients(name):
    model, twin, weights = made(name)
    model.compile(optimizers.SGD(0.0))
    x, y = batch(model, 9)
    step = model.trainer.step
    loss, _ = step.accumulate([x], y.astype(np.int32), scale=1 / len(y), seed=0, threads=2)
    expected = F.cross_entropy(twin(torch.tensor(x).double(), *weights), torch.tensor(y))
    assert abs(loss - expected.item()) < 1e-5 * abs(expected.item())
    gradients = torch.autograd.grad(expected, weights)
    for parameter, gradient in zip(model.parameters, gradients, strict=True):
        largest = float(gradient.abs().max())
        np.testing.assert_allclose(step.gradient(parameter), gradient, atol=2e-5 * largest)


OPTIMIZERS = [
    {},
    {"weight_decay": 0.01},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
]


@networks
@pytest.mark.parametrize("options", OPTIMIZERS, ids=str)
def test_weights_after_three_steps(name, options):
    model, twin, weights = made(name)
    model.compile(optimizers.SGD(0.05, **options))
    optimizer = torch.optim.SGD(weights, 0.05, **options)
    for step in range(3):
        x, y = batch(model, 8, seed=step)
        logs = model.train_on_batch(x, y)
        optimizer.zero_grad()
        loss = F.cross_entropy(twin(torch.tensor(x).double(), *weights), torch.tensor(y))
        loss.backward()
        optimizer.step()
        assert abs(logs["loss"] - loss.item()) < 2e-5 * abs(loss.item())
    assert_close(model.get_weights(), arrays(weights), 2e-5)


@networks
def test_evaluation(name):
    model, twin, weights = made(name)
    model.compile(metrics=["accuracy"])
    x, y = batch(model, 50)
    logits = twin(torch.tensor(x).double(), *weights)
    found = model.evaluate(x, y, batch_size=16)
    assert found["accuracy"] == float((logits.argmax(-1) == torch.tensor(y)).double().mean())
    assert abs(found["loss"] - F.cross_entropy(logits, torch.tensor(y)).item()) < 1e-5


# ---- batch normalization: two modes, and statistics that move --------------------------------------

MOMENTUM, EPSILON = 0.1, 1e-5  # PyTorch's


def normalised():
    """A residual network whose convolutions are normalised, the last before its sum."""
    norm = {"momentum": 1 - MOMENTUM, "epsilon": EPSILON}
    x = layers.Input((8, 9, 5))
    a = layers.Conv2D(16, 3, padding="same", use_bias=False, seed=1)(x)
    a = layers.ReLU()(layers.BatchNormalization(**norm)(a))
    b = layers.Conv2D(20, 3, strides=2, padding=1, seed=2)(a)
    b = layers.BatchNormalization(**norm)(b)
    c = layers.Conv2D(20, 1, strides=2, use_bias=False, seed=3)(a)
    c = layers.BatchNormalization(**norm)(c)
    y = layers.ReLU()(layers.Add()([b, c]))
    y = layers.GlobalAveragePooling2D()(y)
    y = layers.BatchNormalization(**norm)(layers.Dense(12, seed=4)(y))
    return Model(x, layers.Dense(10, seed=5)(layers.ReLU()(y)))


class Normalised(torch.nn.Module):
    """The same in torch, in float64."""

    def __init__(self, model):
        super().__init__()
        weights = model.get_weights()
        self.names, norms = [], iter(range(9))
        for parameter, value in zip(model.parameters, weights, strict=True):
            tensor = torch.tensor(value).double()
            number = (
                next(norms) if parameter.name in ("kernel", "gamma") else int(self.names[-1][0])
            )
            name = f"{number}_{parameter.name}"
            self.names.append(name)
            if parameter.trainable:
                self.register_parameter(name, torch.nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    def of(self, number, *names):
        return [getattr(self, f"{number}_{name}") for name in names]

    def norm(self, number, x):
        weights = self.of(number, "moving_mean", "moving_variance", "gamma", "beta")
        y = F.batch_norm(x.flatten(0, -2), *weights, self.training, MOMENTUM, EPSILON)
        return y.reshape(x.shape)

    def forward(self, x):
        a = self.norm(1, conv(x, *self.of(0, "kernel"), pads=(1, 1, 1, 1))).relu()
        b = conv(a, *self.of(2, "kernel", "bias"), strides=2, pads=(1, 1, 1, 1))
        c = conv(a, *self.of(4, "kernel"), strides=2)
        y = (self.norm(3, b) + self.norm(5, c)).relu().mean(dim=(1, 2))
        kernel, bias = self.of(6, "kernel", "bias")
        y = self.norm(7, y @ kernel + bias).relu()
        kernel, bias = self.of(8, "kernel", "bias")
        return y @ kernel + bias

    def arrays(self):
        return arrays([getattr(self, name) for name in self.names])


def normalised_pair():
    """The model with weights that are no round numbers, and its twin."""
    model = normalised()
    rng = np.random.default_rng(9)
    model.set_weights([w + 0.1 * rng.uniform(0, 1, w.shape) for w in model.get_weights()])
    return model, Normalised(model)


def test_normalised_outputs():
    model, twin = normalised_pair()
    x, _ = batch(model, 7)
    assert_close([model.predict(x)], arrays([twin.eval()(torch.tensor(x).double())]))


def test_normalised_gradients():
    model, twin = normalised_pair()
    model.compile(optimizers.SGD(0.0))
    x, y = batch(model, 9)
    step = model.trainer.step
    loss, _ = step.accumulate([x], y.astype(np.int32), scale=1 / len(y), seed=0, threads=2)
    expected = F.cross_entropy(twin(torch.tensor(x).double()), torch.tensor(y))
    assert abs(loss - expected.item()) < 1e-5 * abs(expected.item())
    trained = [p for p in model.parameters if p.trainable]
    gradients = torch.autograd.grad(expected, list(twin.parameters()))
    largest = max(float(g.abs().max()) for g in gradients)  # of biases that a norm removes: 0
    for parameter, gradient in zip(trained, gradients, strict=True):
        np.testing.assert_allclose(step.gradient(parameter), gradient, atol=2e-5 * largest)


@pytest.mark.parametrize("options", OPTIMIZERS, ids=str)
def test_normalised_weights_and_statistics_after_four_steps(options):
    model, twin = normalised_pair()
    model.compile(optimizers.SGD(0.05, **options))
    optimizer = torch.optim.SGD(twin.parameters(), 0.05, **options)
    for step in range(4):
        x, y = batch(model, 8, seed=step)
        logs = model.train_on_batch(x, y)
        optimizer.zero_grad()
        loss = F.cross_entropy(twin(torch.tensor(x).double()), torch.tensor(y))
        loss.backward()
        optimizer.step()
        assert abs(logs["loss"] - loss.item()) < 5e-5 * abs(loss.item())
    assert_close(model.get_weights(), twin.arrays(), 5e-5)
    x, _ = batch(model, 20, seed=9)
    assert_close([model.predict(x)], arrays([twin.eval()(torch.tensor(x).double())]), 5e-5)
