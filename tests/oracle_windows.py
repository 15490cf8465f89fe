"""Windows over images, from the formulas: the oracle's own arithmetic of padding and sizes."""

from __future__ import annotations

import math

import numpy as np


def padding(window, size):
    """(before, after) of each axis."""
    if window.padding == "valid":
        return [(0, 0)] * 2
    if window.padding != "same":
        return list(window.padding)
    pads = []
    for w, k, s, d in zip(size, window.kernel, window.strides, window.dilation, strict=True):
        total = max((math.ceil(w / s) - 1) * s + (k - 1) * d + 1 - w, 0)
        pads.append((total // 2, total - total // 2))
    return pads


def output_size(window, size):
    """(W - K + P_left + P_right) / S + 1, rounded down, for each axis."""
    pads = padding(window, size)
    return tuple(
        (w - ((k - 1) * d + 1) + sum(p)) // s + 1
        for w, k, s, d, p in zip(
            size, window.kernel, window.strides, window.dilation, pads, strict=True
        )
    )


def pad(x, window, value=0.0):
    """x with its padding written out."""
    return np.pad(x, [(0, 0), *padding(window, x.shape[1:3]), (0, 0)], constant_values=value)


def unpad(x, window, size):
    """The part of a padded array that is not padding."""
    (top, _), (left, _) = padding(window, size)
    return x[:, top : top + size[0], left : left + size[1]]


def positions(window, size):
    """Each output position and the slices of the padded input that its window covers."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilation
    rows, columns = output_size(window, size)
    for p in range(rows):
        for q in range(columns):
            here = (
                slice(p * sh, p * sh + (kh - 1) * dh + 1, dh),
                slice(q * sw, q * sw + (kw - 1) * dw + 1, dw),
            )
            yield p, q, here
