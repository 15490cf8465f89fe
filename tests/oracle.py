"""What every op must compute: slow, obvious float64 loops written from the formulas.

Nothing here is shared with `cycnn`: not the window arithmetic, not the interpreter. Each function
takes the op (for its attributes) and its inputs, and returns the outputs; an op that works in place
returns the new values of what it writes.
"""

from __future__ import annotations

import math

import numpy as np

from oracle_windows import output_size, pad, positions, unpad


def channels_of(group, total, groups):
    """The slice of ``total`` channels that belongs to a group."""
    each = total // groups
    return slice(group * each, (group + 1) * each)


def activate(y, activation):
    return y if activation is None else np.maximum(y, 0)


# ---- convolution and dense -----------------------------------------------------------------------


def conv2d(op, x, w, b, residual=0):
    size, filters = x.shape[1:3], w.shape[3]
    y = np.zeros((x.shape[0], *output_size(op.window, size), filters))
    padded = pad(x, op.window)
    for p, q, (rows, columns) in positions(op.window, size):
        for g in range(op.groups):
            i, k = channels_of(g, x.shape[3], op.groups), channels_of(g, filters, op.groups)
            y[:, p, q, k] = np.tensordot(padded[:, rows, columns, i], w[..., k], 3)
    return activate((y if b is None else y + b) + residual, op.activation)


def conv2d_backward_data(op, dy, w):
    size = op.x_shape[1:3]
    padded = pad(np.zeros(op.x_shape), op.window)
    for p, q, (rows, columns) in positions(op.window, size):
        for g in range(op.groups):
            i = channels_of(g, op.x_shape[3], op.groups)
            k = channels_of(g, w.shape[3], op.groups)
            padded[:, rows, columns, i] += np.tensordot(dy[:, p, q, k], w[..., k], (1, 3))
    return unpad(padded, op.window, size)


def conv2d_backward_weight(op, x, dy, into=None):
    dw = np.zeros(op.w_shape) if into is None else into.copy()
    padded = pad(x, op.window)
    for p, q, (rows, columns) in positions(op.window, x.shape[1:3]):
        for g in range(op.groups):
            i, k = channels_of(g, x.shape[3], op.groups), channels_of(g, dy.shape[3], op.groups)
            dw[..., k] += np.tensordot(padded[:, rows, columns, i], dy[:, p, q, k], (0, 0))
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


# ---- pooling -------------------------------------------------------------------------------------


def first_largest(values):
    """Index of the first maximum, a NaN being larger than any number."""
    best = 0
    for i, value in enumerate(values):
        if not math.isnan(values[best]) and (math.isnan(value) or value > values[best]):
            best = i
    return best


def inside(x, window):
    """1 where the padded input is x, 0 where it is padding."""
    return pad(np.ones((1, *x.shape[1:3], 1)), window)[0, :, :, 0]


def winners(x, window):
    """For each output element, the place in the padded input that its maximum is taken from."""
    padded, real = pad(x, window), inside(x, window)
    for p, q, (rows, columns) in positions(window, x.shape[1:3]):
        places = [
            (i, j)
            for i in range(rows.start, rows.stop, rows.step)
            for j in range(columns.start, columns.stop, columns.step)
            if real[i, j]
        ]
        for n in range(x.shape[0]):
            for c in range(x.shape[3]):
                i, j = places[first_largest([padded[n, i, j, c] for i, j in places])]
                yield (n, p, q, c), (n, i, j, c)


def max_pool(op, x):
    y = np.empty((x.shape[0], *output_size(op.window, x.shape[1:3]), x.shape[3]))
    padded = pad(x, op.window)
    for out, best in winners(x, op.window):
        y[out] = padded[best]
    return y


def max_pool_backward(op, x, dy):
    dx = pad(np.zeros(x.shape), op.window)
    for out, best in winners(x, op.window):
        dx[best] += dy[out]
    return unpad(dx, op.window, x.shape[1:3])


def divisor(op, real, rows, columns):
    """What an average divides by: the pixels of the window, or those that are not padding."""
    return math.prod(op.window.kernel) if op.count_include_pad else real[rows, columns].sum()


def average_pool(op, x):
    y = np.empty((x.shape[0], *output_size(op.window, x.shape[1:3]), x.shape[3]))
    padded, real = pad(x, op.window), inside(x, op.window)
    for p, q, (rows, columns) in positions(op.window, x.shape[1:3]):
        total = padded[:, rows, columns].sum(axis=(1, 2))
        y[:, p, q] = total / divisor(op, real, rows, columns)
    return y


def average_pool_backward(op, dy):
    x = np.zeros(op.x_shape)
    dx, real = pad(x, op.window), inside(x, op.window)
    for p, q, (rows, columns) in positions(op.window, x.shape[1:3]):
        share = dy[:, p, q] / divisor(op, real, rows, columns)
        dx[:, rows, columns] += share[:, None, None]
    return unpad(dx, op.window, x.shape[1:3])


def global_average_pool(op, x):
    return x.mean(axis=(1, 2))


def global_average_pool_backward(op, dy):
    _, h, w, _ = op.x_shape
    return np.broadcast_to(dy[:, None, None] / (h * w), op.x_shape)


def global_winners(x):
    """For each sample and channel, the (row, column) of the first maximum."""
    pixels = x.reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
    for n in range(x.shape[0]):
        for c in range(x.shape[3]):
            yield n, c, divmod(first_largest(pixels[n, :, c]), x.shape[2])


def global_max_pool(op, x):
    y = np.empty((x.shape[0], x.shape[3]))
    for n, c, (i, j) in global_winners(x):
        y[n, c] = x[n, i, j, c]
    return y


def global_max_pool_backward(op, x, dy):
    dx = np.zeros(x.shape)
    for n, c, (i, j) in global_winners(x):
        dx[n, i, j, c] = dy[n, c]
    return dx


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
    if op.activation == "relu":
        g = np.where(normalised(None, x, gamma, beta, mean, invstd) <= 0, 0.0, dy)
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


def relu(op, x):
    return np.maximum(x, 0)


def relu_backward(op, y, dy):
    return np.where(y <= 0, 0.0, dy)


def add(op, a, b):
    return a + b


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


def dropout(op, x, seed):
    """Element i is dropped where 31 bits of a hash of (seed, step, stream, i) are below the rate."""
    golden, key = 0x9E3779B97F4A7C15, 0
    for word in (int(seed[0]), int(seed[1]), op.stream << 32):
        key = splitmix64(((key ^ word) + golden) % 2**64)
    bits = [triple32((i + key) % 2**32, key >> 32) >> 1 for i in range(x.size)]
    kept = np.array(bits, np.uint32).reshape(x.shape) >= op.rate * 2**31
    return x * kept / (1 - op.rate)


def sgd_update(op, w, g, v, lr):
    """d = g + decay * w; v = momentum * v + d; w -= lr * (v, or d + momentum * v)."""
    d = g + op.weight_decay * w
    if v is None:
        return w - lr[0] * d, np.zeros(g.shape)
    v = op.momentum * v + d
    return w - lr[0] * (d + op.momentum * v if op.nesterov else v), np.zeros(g.shape), v


ORACLE = {
    "AccumulateGradient": accumulate_gradient,
    "Add": add,
    "Assign": assign,
    "AveragePool2D": average_pool,
    "AveragePool2DBackward": average_pool_backward,
    "BatchNorm": batch_norm,
    "BatchNormBackward": batch_norm_backward,
    "BatchNormInference": batch_norm_inference,
    "BiasGradient": bias_gradient,
    "Conv2D": conv2d,
    "Conv2DBackwardData": conv2d_backward_data,
    "Conv2DBackwardWeight": conv2d_backward_weight,
    "Dense": dense,
    "DenseBackwardData": dense_backward_data,
    "DenseBackwardWeight": dense_backward_weight,
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
    "Relu": relu,
    "ReluBackward": relu_backward,
    "Reshape": reshape,
    "SGDUpdate": sgd_update,
    "Scale": scale,
    "Softmax": softmax,
    "SoftmaxBackward": softmax_backward,
    "SoftmaxCrossEntropy": softmax_cross_entropy,
}


def expected(op, arrays):
    """The outputs of ``op`` in float64, as a list."""
    wide = [x.astype(np.float64) if x is not None and x.dtype == np.float32 else x for x in arrays]
    with np.errstate(all="ignore"):
        outputs = ORACLE[op.name](op, *wide)
    return list(outputs) if isinstance(outputs, tuple) else [outputs]
