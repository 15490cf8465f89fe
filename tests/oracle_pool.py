"""What pooling must compute, see `oracle`."""

from __future__ import annotations

import math

import numpy as np

from oracle_windows import output_size, pad, positions, unpad


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
