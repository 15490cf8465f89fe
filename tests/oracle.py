"""What every op must compute: slow, obvious float64 loops written from the formulas.

Nothing here is shared with `cycnn`: not the window arithmetic, not the interpreter. Each function
takes the op (for its attributes) and its inputs, and returns the outputs; an op that works in place
returns the new values of what it writes.
"""

from __future__ import annotations

import math

import numpy as np

from oracle_pool import (
    average_pool,
    average_pool_backward,
    global_average_pool,
    global_average_pool_backward,
    global_max_pool,
    global_max_pool_backward,
    max_pool,
    max_pool_backward,
)
from oracle_windows import output_size, pad, positions, unpad

# ---- convolution and dense -----------------------------------------------------------------------


def grouped(patch, groups):
    """(N, R, S, C) -> (groups, N, R * S * C / groups)"""
    n, r, s, c = patch.shape
    parts = patch.reshape(n, r, s, groups, c // groups).transpose(3, 0, 1, 2, 4)
    return parts.reshape(groups, n, r * s * c // groups)


def ungrouped(patch, shape):
    """What `grouped` does, undone."""
    n, r, s, c = shape
    parts = patch.reshape(len(patch), n, r, s, c // len(patch))
    return parts.transpose(1, 2, 3, 0, 4).reshape(shape)


def grouped_filters(w, groups):
    """(R, S, C / groups, K) -> (groups, R * S * C / groups, K / groups)"""
    return w.reshape(-1, groups, w.shape[3] // groups).transpose(1, 0, 2)


def ungrouped_filters(w, shape):
    """What `grouped_filters` does, undone."""
    return w.transpose(1, 0, 2).reshape(shape)


def grouped_vectors(y, groups):
    """(N, K) -> (groups, N, K / groups)"""
    return y.reshape(len(y), groups, y.shape[1] // groups).transpose(1, 0, 2)


def conv2d(op, x, w, b, residual=0):
    size, filters = x.shape[1:3], w.shape[3]
    y = np.zeros((x.shape[0], *output_size(op.window, size), filters))
    padded, w = pad(x, op.window), grouped_filters(w, op.groups)
    for p, q, (rows, columns) in positions(op.window, size):
        products = grouped(padded[:, rows, columns], op.groups) @ w
        y[:, p, q] = products.transpose(1, 0, 2).reshape(y[:, p, q].shape)
    return activate((y if b is None else y + b) + residual, op.activation)


def conv2d_backward_data(op, dy, w, absent=None, residual=0):
    size = op.x_shape[1:3]
    padded = pad(np.zeros(op.x_shape), op.window)
    w = grouped_filters(w, op.groups).transpose(0, 2, 1)
    for p, q, (rows, columns) in positions(op.window, size):
        patch = padded[:, rows, columns]
        patch += ungrouped(grouped_vectors(dy[:, p, q], op.groups) @ w, patch.shape)
        padded[:, rows, columns] = patch
    return unpad(padded, op.window, size) + residual


def conv2d_backward_weight(op, x, dy, into=None):
    dw = np.zeros(op.w_shape) if into is None else into.copy()
    padded = pad(x, op.window)
    for p, q, (rows, columns) in positions(op.window, x.shape[1:3]):
        patch = grouped(padded[:, rows, columns], op.groups)
        sums = patch.transpose(0, 2, 1) @ grouped_vectors(dy[:, p, q], op.groups)
        dw += ungrouped_filters(sums, dw.shape)
    return dw


def dense(op, x, w, b):
    y = np.array([[(row * column).sum() for column in w.T] for row in x]).reshape(
        len(x), w.shape[1]
    )
    return activate(y if b is None else y + b, op.activation)


def dense_backward_data(op, dy, w):
    return np.einsum("nu,iu->ni", dy, w)


def dense_backward_weight(op, x, dy, into=None):
    dw = np.zeros((x.shape[1], dy.shape[1])) if into is None else into.copy()
    for row, gradient in zip(x, dy, strict=True):
        dw += np.outer(row, gradient)
    return dw


def bias_gradient(op, dy, into=None):
    db = dy.reshape(-1, dy.shape[-1]).sum(axis=0)
    return db if into is None else db + into


# ---- batch normalization -------------------------------------------------------------------------


def normalised(op, x, gamma, beta, mean, invstd):
    y = (x - mean) * invstd
    y = y if gamma is None else y * gamma
    return activate(y if beta is None else y + beta, getattr(op, "activation", None))


def batch_norm(op, x, gamma, beta):
    pixels = x.reshape(-1, x.shape[-1])
    mean = np.array([column.sum() / len(pixels) for column in pixels.T])
    deviations = [((column - m) ** 2).sum() for column, m in zip(pixels.T, mean, strict=True)]
    variance = np.array(deviations) / len(pixels)
    invstd = 1 / np.sqrt(variance + op.epsilon)
    unbiased = np.array(deviations) / (len(pixels) - 1)
    return normalised(op, x, gamma, beta, mean, invstd), mean, invstd, unbiased


def batch_norm_backward(op, x, dy, gamma, beta, mean, invstd):
    """dx = gamma * invstd * (g - mean g - xhat * mean(g * xhat)), g = dy where the activation passes."""
    g = dy
    if op.activation is not None:
        z = normalised(None, x, gamma, beta, mean, invstd)
        keeps_x = op.activation in ("silu", "hard_swish")
        g = pulled_back(op.activation, z if keeps_x else activate(z, op.activation), dy)
    xhat = (x - mean) * invstd
    axes, n = tuple(range(x.ndim - 1)), max(x.size // x.shape[-1], 1)
    dbeta, dgamma = g.sum(axis=axes), (g * xhat).sum(axis=axes)
    scale = invstd if gamma is None else gamma * invstd
    return scale * (g - dbeta / n - xhat * (dgamma / n)), dgamma, dbeta


def batch_norm_inference(op, x, gamma, beta, mean, variance):
    return normalised(op, x, gamma, beta, mean, 1 / np.sqrt(variance + op.epsilon))


def fold_batch_norm(op, w, b, *vectors):
    """Of w by scaling alone, of b as of anything that is normalised."""
    gamma, _, _, variance = vectors
    scale = (1 if gamma is None else gamma) / np.sqrt(variance + op.epsilon)
    return w * scale, batch_norm_inference(op, 0.0 if b is None else b, *vectors)


def moving_average(op, x, y):
    return op.momentum * y + (1 - op.momentum) * x


# ---- elementwise, loss, update -------------------------------------------------------------------


def activate(y, activation):
    return y if activation is None else ACTIVATIONS[activation](y)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu6(x):
    return np.minimum(np.maximum(x, 0), 6)


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": relu6,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "hard_sigmoid": lambda x: relu6(x + 3) / 6,
    "hard_swish": lambda x: x * (relu6(x + 3) / 6),
}
# dx / dy, from x for silu and hard_swish, from y for the others
SLOPES = {
    "relu": lambda y: 1,
    "relu6": lambda y: 1,
    "sigmoid": lambda y: y * (1 - y),
    "silu": lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x))),
    "hard_sigmoid": lambda y: 1 / 6,
    "hard_swish": lambda x: np.where(x >= 3, 1, np.minimum(x, 3) / 3 + 1 / 2),
}
# where the gradient is 0: outside (low, high)
FLAT = {"relu": (0, np.inf), "relu6": (0, 6), "hard_sigmoid": (0, 1), "hard_swish": (-3, np.inf)}


def activation(op, x):
    return activate(x, op.function)


def pulled_back(activation, z, dy):
    low, high = FLAT.get(activation, (None, None))
    dx = SLOPES[activation](z) * dy
    if low is None:
        return dx
    return np.where((z <= low) | ((z >= high) & (high < np.inf)), 0.0, dx)


def activation_backward(op, z, dy):
    return pulled_back(op.function, z, dy)


def add(op, a, b):
    return a + b


def multiply(op, a, b):
    return a * b


def pixel_dot(op, a, b):
    return (a * b).sum(axis=(1, 2), keepdims=True)


def concatenate(op, *xs):
    return np.concatenate(xs, axis=-1)


def slice_channels(op, x):
    return x[..., op.begin : op.end]


def zero_pad(op, x):
    return np.pad(x, ((0, 0), *op.pads, (0, 0)))


def crop(op, x):
    (top, bottom), (left, right) = op.pads
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def scale(op, x, s):
    return x * s[0]


def accumulate_gradient(op, d, into):
    return into + d


def assign(op, x, into):
    return x


def flatten(op, x):
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def reshape(op, x):
    return x.reshape(x.shape[0], *op.shape)


def softmax_cross_entropy(op, logits, labels, scale):
    """loss = sum_n log(sum_k exp(z_nk)) - z_n,label; its gradient is softmax(z) - onehot(label)."""
    loss, dlogits = 0.0, np.empty(logits.shape)
    for n, (z, label) in enumerate(zip(logits, labels, strict=True)):
        powers = np.exp(z - z.max())
        loss += np.log(powers.sum()) + z.max() - z[label]
        dlogits[n] = powers / powers.sum() - (np.arange(len(z)) == label)
    return np.array([loss * scale[0]]), dlogits * scale[0]


def softmax(op, x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=-1, keepdims=True)


def softmax_backward(op, y, dy):
    return y * (dy - (y * dy).sum(axis=-1, keepdims=True))


def splitmix64(z):
    """The finaliser of the generator: 64 bits from 64 bits."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def triple32(x, key):
    """The integer hash, with a second key added after its first round."""
    x = ((x ^ (x >> 17)) * 0xED5AD4BB + key) % 2**32
    x = ((x ^ (x >> 11)) * 0xAC4C1B51) % 2**32
    x = ((x ^ (x >> 15)) * 0x31848BAB) % 2**32
    return x ^ (x >> 14)


def kept(op, n, seed):
    """Number i is dropped where 31 bits of a hash of (seed, step, stream, i) are below the rate."""
    golden, key = 0x9E3779B97F4A7C15, 0
    for word in (int(seed[0]), int(seed[1]), op.stream << 32):
        key = splitmix64(((key ^ word) + golden) % 2**64)
    bits = [triple32((i + key) % 2**32, key >> 32) >> 1 for i in range(n)]
    return np.array(bits, np.uint32) >= op.rate * 2**31


def dropout(op, x, seed):
    return x * kept(op, x.size, seed).reshape(x.shape) / (1 - op.rate)


def drop_path(op, x, seed):
    rows = x.reshape(len(x), math.prod(x.shape[1:]))
    return (rows * kept(op, len(x), seed)[:, None] / (1 - op.rate)).reshape(x.shape)


def sgd_update(op, w, g, v, lr):
    """d = g + decay * w; v = momentum * v + d; w -= lr * (v, or d + momentum * v)."""
    d = g + op.weight_decay * w
    if v is None:
        return w - lr[0] * d, np.zeros(g.shape)
    v = op.momentum * v + d
    return w - lr[0] * (d + op.momentum * v if op.nesterov else v), np.zeros(g.shape), v


ORACLE = {
    "AccumulateGradient": accumulate_gradient,
    "Activation": activation,
    "ActivationBackward": activation_backward,
    "Add": add,
    "Assign": assign,
    "AveragePool2D": average_pool,
    "AveragePool2DBackward": average_pool_backward,
    "BatchNorm": batch_norm,
    "BatchNormBackward": batch_norm_backward,
    "BatchNormInference": batch_norm_inference,
    "BiasGradient": bias_gradient,
    "Concatenate": concatenate,
    "Conv2D": conv2d,
    "Conv2DBackwardData": conv2d_backward_data,
    "Conv2DBackwardWeight": conv2d_backward_weight,
    "Crop2D": crop,
    "Dense": dense,
    "DenseBackwardData": dense_backward_data,
    "DenseBackwardWeight": dense_backward_weight,
    "DropPath": drop_path,
    "Dropout": dropout,
    "Flatten": flatten,
    "FoldBatchNorm": fold_batch_norm,
    "GlobalAveragePool2D": global_average_pool,
    "GlobalAveragePool2DBackward": global_average_pool_backward,
    "GlobalMaxPool2D": global_max_pool,
    "GlobalMaxPool2DBackward": global_max_pool_backward,
    "MaxPool2D": max_pool,
    "MaxPool2DBackward": max_pool_backward,
    "MovingAverage": moving_average,
    "Multiply": multiply,
    "PixelDot": pixel_dot,
    "Reshape": reshape,
    "SGDUpdate": sgd_update,
    "Scale": scale,
    "SliceChannels": slice_channels,
    "Softmax": softmax,
    "SoftmaxBackward": softmax_backward,
    "SoftmaxCrossEntropy": softmax_cross_entropy,
    "ZeroPad2D": zero_pad,
}


def expected(op, arrays):
    """The outputs of ``op`` in float64, as a list."""
    wide = [x.astype(np.float64) if x is not None and x.dtype == np.float32 else x for x in arrays]
    with np.errstate(all="ignore"):
        outputs = ORACLE[op.name](op, *wide)
    return list(outputs) if isinstance(outputs, tuple) else [outputs]
