"""Every op against PyTorch: the second oracle, written by others.

Skipped where torch is not installed, unless ``CYCNN_REQUIRE_ORACLE=1`` says that it has to be.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import runner
from cases import CASES

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    if os.environ.get("CYCNN_REQUIRE_ORACLE") == "1":
        raise
    pytest.skip("torch is not installed (extra `oracle`)", allow_module_level=True)

pytestmark = pytest.mark.oracle


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def padded(x, window, value=0.0):
    """x in torch's layout, with its padding written out: torch knows no padding by side."""
    (top, bottom), (left, right) = window.pads(tuple(x.shape[1:3]))
    return F.pad(nchw(x), (left, right, top, bottom), value=value)


ACTIVATIONS = {
    None: lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
}


def activated(y, activation):
    return ACTIVATIONS[activation](y)


# ---- forward -------------------------------------------------------------------------------------


def conv2d(op, x, w, b=None, residual=None):
    window = op.window
    y = F.conv2d(
        padded(x, window),
        w.permute(3, 2, 0, 1).contiguous(),
        b,
        stride=window.strides,
        dilation=window.dilation,
        groups=op.groups,
    )
    y = nhwc(y) if residual is None else nhwc(y) + residual
    return activated(y, getattr(op, "activation", None))


def dense(op, x, w, b=None):
    return activated(F.linear(x, w.T, b), getattr(op, "activation", None))


def max_pool(op, x):
    window = op.window
    inside = padded(x, window, -torch.inf)
    return nhwc(F.max_pool2d(inside, window.kernel, window.strides, 0, window.dilation))


def average_pool(op, x):
    padding = [before for before, _ in op.window.pads(tuple(x.shape[1:3]))]
    kernel, strides = op.window.kernel, op.window.strides
    return nhwc(
        F.avg_pool2d(nchw(x), kernel, strides, padding, count_include_pad=op.count_include_pad)
    )


def global_average_pool(op, x):
    return F.adaptive_avg_pool2d(nchw(x), 1)[:, :, 0, 0]


def global_max_pool(op, x):
    return F.max_pool2d(nchw(x), x.shape[1:3])[:, :, 0, 0]


def zero_pad(op, x):
    (top, bottom), (left, right) = op.pads
    return F.pad(x, (0, 0, left, right, top, bottom))


def loss(op, logits, labels, scale):
    return F.cross_entropy(logits, labels.long(), reduction="sum")[None] * scale


def batch_norm(op, x, gamma, beta):
    """The moving statistics of momentum 1 are the batch's own."""
    pixels, one = x.flatten(0, -2), x.new_ones(x.shape[-1])
    moving = one.clone(), one.clone()
    F.batch_norm(pixels, *moving, gamma, beta, True, 1.0, op.epsilon)
    rest = (None, None, True, 0.0, op.epsilon)
    y, mean, invstd = torch.native_batch_norm(pixels, gamma, beta, *rest)
    return activated(y.reshape(x.shape), op.activation), mean, invstd, moving[1]


def batch_norm_inference(op, x, gamma, beta, mean, variance):
    y = F.batch_norm(x.flatten(0, -2), mean, variance, gamma, beta, False, 0.0, op.epsilon)
    return activated(y.reshape(x.shape), op.activation)


FORWARD = {
    "Activation": lambda op, x: activated(x, op.function),
    "Add": lambda op, a, b: a + b,
    "AveragePool2D": average_pool,
    "BatchNorm": batch_norm,
    "BatchNormInference": batch_norm_inference,
    "Concatenate": lambda op, *xs: torch.cat(xs, -1),
    "Conv2D": conv2d,
    "Dense": dense,
    "Flatten": lambda op, x: x.flatten(1),
    "GlobalAveragePool2D": global_average_pool,
    "GlobalMaxPool2D": global_max_pool,
    "MaxPool2D": max_pool,
    "Multiply": lambda op, a, b: a * b,
    "Reshape": lambda op, x: x.reshape(x.shape[0], *op.shape),
    "Scale": lambda op, x, s: x * s,
    "Softmax": lambda op, x: x.softmax(-1),
    "ZeroPad2D": zero_pad,
}

# ---- backward: torch's own differentiation of the above --------------------------------------------


def gradient(forward, op, inputs, i, dy):
    inputs[i].requires_grad_()
    return torch.autograd.grad(forward(op, *inputs), inputs[i], dy)[0]


def at(forward, shape):
    """The gradient of ``forward`` at zero, for ops that are linear and take no x."""
    return lambda op, dy, *w: gradient(forward, op, [dy.new_zeros(shape(op, dy, *w)), *w], 0, dy)


def weight_gradient(forward, shape):
    def function(op, x, dy, into=None):
        dw = gradient(forward, op, [x, x.new_zeros(shape(op, x, dy))], 1, dy)
        return dw if into is None else dw + into

    return function


def conv2d_backward_data(op, dy, w, absent=None, residual=None):
    dx = at(conv2d, lambda op, dy, w: op.x_shape)(op, dy, w)
    return dx if residual is None else dx + residual


def of_input(forward):
    return lambda op, x, dy: gradient(forward, op, [x], 0, dy)


def bias_gradient(op, dy, into=None):
    forward = lambda op, b: torch.zeros_like(dy) + b  # noqa: E731
    db = gradient(forward, op, [dy.new_zeros(dy.shape[-1])], 0, dy)
    return db if into is None else db + into


def activation_backward(op, z, dy):
    """At z = x; where z is y, at an x of that y."""
    if op.function == "sigmoid":
        return torch.ops.aten.sigmoid_backward(dy, z)
    x = 6 * z - 3 if op.function == "hard_sigmoid" else z
    return gradient(lambda op, x: activated(x, op.function), op, [x], 0, dy)


def slice_channels(op, x):
    return x[..., op.begin : op.end]


def crop(op, x):
    (top, bottom), (left, right) = op.pads
    shape = (x.shape[0], x.shape[1] - top - bottom, x.shape[2] - left - right, x.shape[3])
    return gradient(zero_pad, op, [x.new_zeros(shape)], 0, x)


def softmax_backward(op, y, dy):
    return torch._softmax_backward_data(dy, y, -1, y.dtype)


def softmax_cross_entropy(op, logits, labels, scale):
    logits.requires_grad_()
    value = loss(op, logits, labels, scale)
    return value.detach(), torch.autograd.grad(value, logits)[0]


def batch_norm_backward(op, x, dy, gamma, beta, mean, invstd):
    if op.activation is not None:
        forward = lambda op, y: activated(y, op.activation)  # noqa: E731
        y = (x - mean) * (invstd if gamma is None else invstd * gamma)
        dy = gradient(forward, op, [y if beta is None else y + beta], 0, dy)
    pixels = dy.flatten(0, -2), x.flatten(0, -2)
    rest = (None, None, mean, invstd, True, 1e-3, [True] * 3)
    weight = torch.ones_like(mean) if gamma is None else gamma
    dx, dgamma, dbeta = torch.ops.aten.native_batch_norm_backward(*pixels, weight, *rest)
    return dx.reshape(x.shape), dgamma, dbeta


def fold_batch_norm(op, w, b, gamma, beta, mean, variance):
    fuse = torch.nn.utils.fusion.fuse_conv_bn_weights
    folded, bias = fuse(w.movedim(-1, 0), b, mean, variance, op.epsilon, gamma, beta)
    return folded.movedim(0, -1), bias


def sgd_update(op, w, g, v, lr):
    w, w.grad = torch.nn.Parameter(w), g
    optimizer = torch.optim.SGD(
        [w], float(lr), op.momentum, nesterov=op.nesterov, weight_decay=op.weight_decay
    )
    if v is not None:
        optimizer.state[w]["momentum_buffer"] = v
    optimizer.step()
    updated = (w.detach(), torch.zeros_like(g))
    return updated if v is None else (*updated, optimizer.state[w]["momentum_buffer"])


BACKWARD = {
    "AccumulateGradient": lambda op, d, into: d + into,
    "Assign": lambda op, x, into: x,
    "ActivationBackward": activation_backward,
    "AveragePool2DBackward": at(average_pool, lambda op, dy: op.x_shape),
    "BatchNormBackward": batch_norm_backward,
    "BiasGradient": bias_gradient,
    "Conv2DBackwardData": conv2d_backward_data,
    "Conv2DBackwardWeight": weight_gradient(conv2d, lambda op, x, dy: op.w_shape),
    "Crop2D": crop,
    "DenseBackwardData": at(dense, lambda op, dy, w: (dy.shape[0], w.shape[0])),
    "DenseBackwardWeight": weight_gradient(dense, lambda op, x, dy: (x.shape[1], dy.shape[1])),
    "FoldBatchNorm": fold_batch_norm,
    "GlobalAveragePool2DBackward": at(global_average_pool, lambda op, dy: op.x_shape),
    "GlobalMaxPool2DBackward": of_input(global_max_pool),
    "MaxPool2DBackward": of_input(max_pool),
    "MovingAverage": lambda op, x, y: torch.lerp(x, y, op.momentum),
    "PixelDot": lambda op, a, b: torch.einsum("nhwc,nhwc->nc", a, b)[:, None, None],
    "SGDUpdate": sgd_update,
    "SliceChannels": slice_channels,
    "SoftmaxBackward": softmax_backward,
    "SoftmaxCrossEntropy": softmax_cross_entropy,
}
TORCH = FORWARD | BACKWARD


def torch_can(case) -> bool:
    """Whether torch has the op: average pooling there knows no dilation and no padding by side.

    The gradient of batch normalization there divides by zero where there are no pixels, and crashes.
    """
    if case.op.name == "BatchNormBackward":
        return np.size(case.arrays()[0]) > 0
    if not case.op.name.startswith("AveragePool2D"):
        return True
    window = case.op.window
    shape = getattr(case.op, "x_shape", None) or np.shape(case.arrays()[0])
    even = all(
        a == b and 2 * a <= k
        for (a, b), k in zip(window.pads(shape[1:3]), window.kernel, strict=True)
    )
    return even and window.dilation == (1, 1)


def test_every_op_is_compared():
    """Dropout is not: its mask comes from another generator."""
    assert {c.op.name for c in CASES} - {"DropPath", "Dropout"} == {*TORCH}


@pytest.mark.parametrize("case", [c for c in CASES if c.op.name in TORCH and torch_can(c)], ids=str)
def test_op_equals_torch(case):
    arrays = case.arrays()
    tensors = [None if x is None else torch.from_numpy(x.copy()) for x in arrays]
    tensors = [t.double() if t is not None and t.is_floating_point() else t for t in tensors]
    expected = TORCH[case.op.name](case.op, *tensors)
    expected = expected if isinstance(expected, tuple) else (expected,)
    actual = runner.run(case.op, arrays, threads=2)
    runner.assert_close(actual, [e.detach().numpy() for e in expected])


def test_averages_are_compared_where_torch_has_them():
    compared = [c for c in CASES if c.op.name == "AveragePool2D" and torch_can(c)]
    assert len(compared) > 50
