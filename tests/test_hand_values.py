"""Small results computed by hand, so that kernels, interpreter and oracle cannot be wrong together."""

from __future__ import annotations

import numpy as np
import pytest

import oracle
import runner
from convolutions import window
from cycnn.ops.activation import Activation, ActivationBackward
from cycnn.ops.conv import Conv2D, Conv2DBackwardData
from cycnn.ops.dense import Dense, DenseBackwardData
from cycnn.ops.loss import Softmax, SoftmaxCrossEntropy
from cycnn.ops.optimizer import SGDUpdate
from cycnn.ops.pool import (
    AveragePool2D,
    AveragePool2DBackward,
    GlobalAveragePool2D,
    GlobalMaxPool2DBackward,
    MaxPool2D,
    MaxPool2DBackward,
)
from cycnn.ops.weight_gradient import BiasGradient, Conv2DBackwardWeight, DenseBackwardWeight


def image(*rows):
    """One image of one channel."""
    return np.array(rows, np.float32)[None, :, :, None]


def filters(*rows):
    """One filter for one channel."""
    return np.array(rows, np.float32)[:, :, None, None]


def f(*values):
    return np.array(values, np.float32)


def ints(*values):
    return np.array(values, np.int32)


NINE = image([1, 2, 3], [4, 5, 6], [7, 8, 9])
CROSS = filters([0, 1], [2, 3])
NAN, INF = np.nan, np.inf

# op, inputs, outputs
VALUES = [
    # the window is not flipped: 1*0 + 2*1 + 4*2 + 5*3 = 25
    (Conv2D(window(2)), [NINE, CROSS, None], [image([25, 31], [43, 49])]),
    (Conv2D(window(2)), [NINE, CROSS, f(-30)], [image([-5, 1], [13, 19])]),
    (Conv2D(window(2), 1, "relu"), [NINE, CROSS, f(-30)], [image([0, 1], [13, 19])]),
    (Conv2D(window(2, 2)), [NINE, CROSS, None], [image([25])]),
    (Conv2D(window(2, 1, "valid", 2)), [NINE, CROSS, None], [image([0 + 3 + 14 + 27])]),
    # an even window pads the bottom and the right
    (
        Conv2D(window(2, 1, "same")),
        [NINE, CROSS, None],
        [image([25, 31, 12], [43, 49, 18], [8, 9, 0])],
    ),
    # each dy adds dy * w to its window
    (
        Conv2DBackwardData(window(2), 1, (1, 3, 3, 1)),
        [image([1, 10], [100, 1000]), CROSS],
        [image([0, 1, 10], [2, 123, 1030], [200, 2300, 3000])],
    ),
    # dw[r, s] = sum of x[p + r, q + s] * dy[p, q]
    (
        Conv2DBackwardWeight(window(2), 1, (2, 2, 1, 1)),
        [NINE, image([1, 10], [100, 1000])],
        [filters([5421, 6532], [8754, 9865])],
    ),
    (
        Conv2DBackwardWeight(window(2), 1, (2, 2, 1, 1), True),
        [NINE, image([1, 10], [100, 1000]), filters([1, 2], [3, 4])],
        [filters([5422, 6534], [8757, 9869])],
    ),
    (BiasGradient(), [f([[1, 2], [3, 4]], [[5, 6], [7, 8]])], [f(16, 20)]),
    (Dense(), [f([1, 2]), f([1, 2, 3], [4, 5, 6]), f(10, 20, 30)], [f([19, 32, 45])]),
    (DenseBackwardData(), [f([1, 0, 2]), f([1, 2, 3], [4, 5, 6])], [f([7, 16])]),
    (DenseBackwardWeight(), [f([1, 2], [3, 4]), f([5], [6])], [f([23], [34])]),
    (MaxPool2D(window(2, 1)), [NINE], [image([5, 6], [8, 9])]),
    (MaxPool2D(window(2, 1, 1)), [-NINE[:, :1, :1]], [image([-1, -1], [-1, -1])]),
    (MaxPool2D(window(1, 2)), [NINE], [image([1, 3], [7, 9])]),
    (MaxPool2D(window(2)), [image([1, NAN], [3, INF])], [image([NAN])]),
    (
        MaxPool2DBackward(window(2, 1)),
        [NINE, image([1, 2], [3, 4])],
        [image([0] * 3, [0, 1, 2], [0, 3, 4])],
    ),
    # ties: the first in row order, also where windows overlap
    (
        MaxPool2DBackward(window(2, 1)),
        [image([1, 1, 1], [1, 1, 1], [1, 1, 1]), image([1, 2], [3, 4])],
        [image([1, 2, 0], [3, 4, 0], [0, 0, 0])],
    ),
    (
        MaxPool2DBackward(window(2)),
        [image([1, NAN], [NAN, INF]), image([5])],
        [image([0, 5], [0, 0])],
    ),
    # padding is not counted unless asked: the corner has one pixel, or four
    (AveragePool2D(window(2, 1, 1)), [image([4])], [image([4, 4], [4, 4])]),
    (AveragePool2D(window(2, 1, 1), True), [image([4])], [image([1, 1], [1, 1])]),
    (AveragePool2D(window(2, 1)), [NINE], [image([3, 4], [6, 7])]),
    (
        AveragePool2DBackward(window(2, 2), (1, 3, 3, 1), False),
        [image([8])],
        [image([2, 2, 0], [2, 2, 0], [0] * 3)],
    ),
    (GlobalAveragePool2D(), [NINE], [f([5])]),
    (GlobalMaxPool2DBackward(), [image([2, 7], [7, 1]), f([3])], [image([0, 3], [0, 0])]),
    (Activation("relu"), [f(-1, 0, 2, NAN, -INF, INF)], [f(0, 0, 2, NAN, 0, INF)]),
    (ActivationBackward("relu"), [f(0, 2, NAN, INF), f(5, 6, 7, 8)], [f(0, 6, 7, 8)]),
    (Activation("relu6"), [f(-1, 5, 7, NAN, -INF, INF)], [f(0, 5, 6, NAN, 0, 6)]),
    (ActivationBackward("relu6"), [f(0, 2, 6, NAN), f(5, 6, 7, 8)], [f(0, 6, 0, 8)]),
    (Activation("sigmoid"), [f(0, np.log(3), NAN, -INF, INF)], [f(0.5, 0.75, NAN, 0, 1)]),
    (ActivationBackward("sigmoid"), [f(0, 0.5, 1, NAN), f(5, 6, 7, 8)], [f(0, 1.5, 0, NAN)]),
    (Activation("silu"), [f(0, -np.log(3), -1e30, NAN, INF)], [f(0, -np.log(3) / 4, 0, NAN, INF)]),
    (ActivationBackward("silu"), [f(0, -1e30, 1e30, NAN), f(5, 6, 7, 8)], [f(2.5, 0, 7, NAN)]),
    (Activation("hard_sigmoid"), [f(-3, 0, 3, NAN, -INF, INF)], [f(0, 0.5, 1, NAN, 0, 1)]),
    (ActivationBackward("hard_sigmoid"), [f(0, 0.5, 1, NAN), f(5, 6, 7, 12)], [f(0, 1, 0, 2)]),
    (Activation("hard_swish"), [f(-4, -1, 0, 1, 1e38, NAN)], [f(0, -1 / 3, 0, 2 / 3, 1e38, NAN)]),
    (ActivationBackward("hard_swish"), [f(-3, 0, 3, NAN), f(5, 6, 7, 8)], [f(0, 3, 7, NAN)]),
    (Softmax(), [f([0, np.log(3)], [1000, 1000])], [f([0.25, 0.75], [0.5, 0.5])]),
    (
        SoftmaxCrossEntropy(),
        [f([0, np.log(3)], [0, 0]), ints(0, 1), f(0.5)],
        [f(0.5 * (np.log(4) + np.log(2))), f([-0.375, 0.375], [0.25, -0.25])],
    ),
    # certain and right, certain and wrong: no overflow
    (
        SoftmaxCrossEntropy(),
        [f([1000, 0], [1000, 0]), ints(0, 1), f(1)],
        [f(1000), f([0, 0], [1, -1])],
    ),
    (SGDUpdate(), [f(1), f(2), None, f(0.5)], [f(0), f(0)]),
    (SGDUpdate(0.5), [f(1), f(2), f(4), f(0.5)], [f(-1), f(0), f(4)]),
    (SGDUpdate(0.5, True), [f(1), f(2), f(4), f(0.5)], [f(-1), f(0), f(4)]),
    (SGDUpdate(0.5, True, 1.0), [f(1), f(2), f(4), f(0.5)], [f(1 - 0.5 * (3 + 2.5)), f(0), f(5)]),
]
ids = [f"{i}-{op.name}" for i, (op, _, _) in enumerate(VALUES)]
values = pytest.mark.parametrize(("op", "inputs", "outputs"), VALUES, ids=ids)


@values
@pytest.mark.parametrize("tier", runner.TIERS)
def test_kernels(op, inputs, outputs, tier):
    runner.assert_close(runner.run(op, inputs, tier=tier), outputs, 1e-6)


@values
def test_interpreter(op, inputs, outputs):
    runner.assert_close(runner.evaluate(op, inputs), outputs, 1e-6)


@values
def test_oracle(op, inputs, outputs):
    runner.assert_close(oracle.expected(op, inputs), outputs, 1e-6)
