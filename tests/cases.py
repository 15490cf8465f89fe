"""The grid: every op with every shape it is tested on. A new case is one new line.

One line of CONVOLUTIONS, DENSE or POOLS makes a case of the forward op and of each of its backward ops.

Sizes lie around the tiles of every tier: 8, 16, 32 and 64 output channels, 3, 6, 12 and 14 pixels.
"""

from __future__ import annotations

import numpy as np

from case import Case, case, given
from convolutions import (
    APART,
    CHANNELS,
    CONVOLUTIONS,
    DEEP,
    DEPTHWISE,
    EPILOGUES,
    FAR_STEPS,
    GROUPED,
    POINTWISE,
    SPLIT_DEPTHWISE,
    WINOGRAD,
    WINOGRAD_DILATED,
    WINOGRAD_DILATED_CHUNKS,
    WINOGRAD_STRIDED,
    C,
    window,
)
from cycnn.geometry import Window
from cycnn.ops.activation import FUNCTIONS, Activation, ActivationBackward
from cycnn.ops.dense import Dense, DenseBackwardData
from cycnn.ops.dropout import Dropout, DropPath
from cycnn.ops.loss import Softmax, SoftmaxBackward, SoftmaxCrossEntropy
from cycnn.ops.merge import Concatenate, Multiply, PixelDot, SliceChannels
from cycnn.ops.norm import (
    BatchNorm,
    BatchNormBackward,
    BatchNormInference,
    FoldBatchNorm,
    MovingAverage,
)
from cycnn.ops.optimizer import SGDUpdate
from cycnn.ops.padding import Crop2D, ZeroPad2D
from cycnn.ops.pointwise import AccumulateGradient, Add, Assign, Scale
from cycnn.ops.pool import (
    AveragePool2D,
    AveragePool2DBackward,
    GlobalAveragePool2D,
    GlobalAveragePool2DBackward,
    GlobalMaxPool2D,
    GlobalMaxPool2DBackward,
    MaxPool2D,
    MaxPool2DBackward,
)
from cycnn.ops.shape import Flatten, Reshape
from cycnn.ops.weight_gradient import BiasGradient, DenseBackwardWeight

# ---- dense: rows, inputs, units ------------------------------------------------------------------

DENSE = [
    *((2, n, 5) for n in CHANNELS),
    *((2, 5, n) for n in CHANNELS),
    *((n, 7, 19) for n in (*range(1, 31), 42, 43, 84, 85)),
    (0, 4, 3),
    (0, 256, 128),
    (1, 1, 1),
    (1, 400, 120),
    (3, 784, 10),
    (7, 33, 130),
    (128, 84, 10),
    (129, 257, 65),
    # sums of two parts and of three
    (13, 1030, 70),
    (7, 2200, 150),
    (2, 70, 1100),
]

# columns that leave half a vector of some tier empty: every height of a tile, odd and even depths, and
# columns of each tier
NARROW = [
    *((n, 7, 24) for n in (*range(1, 16), 28, 29)),
    *((n, 6, 40) for n in (*range(1, 12), 18, 19)),
    *((n, 9, 8) for n in (1, 12, 13, 14, 15)),
    *((15, 1, n) for n in (1, 2, 4, 5, 6, 8, 9, 10, 12, 18, 20, 24, 36, 40)),
    *((5, 2, n) for n in (1, 2, 4, 5, 6, 8, 9, 10, 12, 18, 20, 24, 36, 40)),
    (0, 3, 24),
]

# ---- pooling: image, window ----------------------------------------------------------------------

POOLS = [
    *(((1, 4, 6, n), window(2, 2)) for n in CHANNELS),
    *(((1, 2, n + 1, 5), window(2, 1)) for n in range(1, 10)),
    ((2, 7, 9, 3), window(2, 2)),
    ((1, 7, 9, 3), window(3, 2)),
    ((1, 7, 9, 16), window(3, 2, 1)),
    ((3, 8, 7, 17), window(3, 2, "same")),
    ((1, 6, 5, 4), window(2, 1, "same")),
    ((1, 6, 5, 33), window(3, 1, "same")),
    ((1, 9, 11, 2), window(2, 3)),
    ((1, 9, 10, 3), window((2, 3), (3, 1))),
    ((1, 9, 10, 3), window((3, 1), (1, 2), ((0, 1), (0, 0)))),
    ((1, 8, 9, 6), window((2, 3), 2, ((1, 0), (1, 2)))),
    ((1, 9, 9, 5), window(2, 1, "valid", 3)),
    ((2, 8, 9, 5), window(3, 2, "same", 2)),
    ((1, 1, 1, 1), window(1)),
    ((1, 1, 1, 9), window(3, 1, "same")),
    ((2, 5, 4, 8), window((5, 4))),
    ((1, 20, 20, 65), window(3, 2, 1)),
    ((0, 4, 4, 3), window(2, 2)),
]
GLOBAL_POOLS = [
    *((2, 3, 5, n) for n in CHANNELS),
    (1, 1, 1, 1),
    (3, 1, 1, 17),
    (1, 29, 31, 5),
    (0, 3, 3, 4),
]

# ---- batch normalization: tensors; slots of 64 pixels, strips of 256 channels or whole rows -------

NORMS = [
    *((2, 3, 5, n) for n in CHANNELS),
    *((n, 33) for n in (2, 3, 63, 64, 65, 127, 128, 129)),
    (2, 1, 1, 1),
    (3, 47, 47, 3),
    (2, 20, 27, 64),
    (2, 9, 9, 300),
    (1, 13, 5, 530),
    (70, 2100),
    (8190, 258),
]
EMPTY = (0, 3, 4, 5)


def distant(*shape: int) -> np.ndarray:
    """Channels whose mean is a hundred standard deviations away from 0."""
    return (np.random.default_rng(4).standard_normal(shape) + 100).astype(np.float32)


def positive(n: int) -> np.ndarray:
    return np.random.default_rng(6).uniform(0.2, 2, n).astype(np.float32)


def norm(x: object, bits: int, function: str = "relu") -> tuple[Case, Case, Case]:
    """Training, its gradient and inference; ``bits`` say what there is: activation, gamma, beta."""
    shape = np.shape(x) if given(x) else x
    n = shape[-1]
    activation = function if bits & 1 else None
    affine = ((n,) if bits & 2 else None, (n,) if bits & 4 else None)
    return (
        case(BatchNorm(1e-3, activation), x, *affine),
        case(BatchNormBackward(activation), x, shape, *affine, (n,), positive(n)),
        case(BatchNormInference(1e-3, activation), x, *affine, (n,), positive(n)),
    )


# ---- the others ----------------------------------------------------------------------------------

SIZES = (1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64, 65, 130, 1000)
SHAPES = [*((n,) for n in SIZES), (3, 5), (2, 3, 4, 5), (3, 60, 61, 3), (0, 4)]
PADS = [
    *(((2, 3, 4, n), ((1, 1), (1, 1))) for n in CHANNELS),
    ((1, 5, 4, 3), ((0, 0), (0, 0))),
    ((2, 5, 4, 3), ((2, 0), (0, 3))),
    ((1, 1, 1, 1), ((0, 5), (4, 0))),
    ((1, 70, 81, 5), ((3, 2), (1, 0))),
    ((0, 3, 3, 4), ((1, 0), (1, 2))),
]
SCALE = np.array([0.25], np.float32)
LEARNING_RATE = np.array([0.1], np.float32)


def ties(*shape: int) -> np.ndarray:
    """Small integers, so that the maximum of a window is often taken more than once."""
    return np.random.default_rng(7).integers(-1, 2, shape).astype(np.float32)


def corners() -> np.ndarray:
    """Where the pieces of activations meet, and where exp overflows."""
    ends = [0, 1, 3, 6, 87, 88, 89, 104, 1e4, 1e15]
    return np.array([s * v for v in [*ends, 2.999, 1e-10, 0.5] for s in (1, -1)], np.float32)


def labels(n: int, classes: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, classes, n).astype(np.int32)


def seed(key: int, step: int) -> np.ndarray:
    return np.array([key, step], np.uint64)


def pooled(shape: tuple[int, ...], w: Window) -> tuple[int, ...]:
    return (shape[0], *w.output(shape[1:3]), shape[3])


CASES = [
    *(c.forward(*EPILOGUES[i % 4]) for i, c in enumerate([*CONVOLUTIONS, *WINOGRAD])),
    *(
        c.forward(*EPILOGUES[i % 4], residual=True)
        for i, c in enumerate([*CONVOLUTIONS, *WINOGRAD[::5]])
        if c.groups == 1
    ),
    *(
        c.forward(i % 2 == 0, f)
        for i, c in enumerate([*CONVOLUTIONS[::13], *DEPTHWISE[::4], *WINOGRAD[1:40:13]])
        for f in FUNCTIONS
    ),
    *(c.backward_data() for c in [*CONVOLUTIONS, *WINOGRAD]),
    *(c.backward_data(residual=True) for c in [*CONVOLUTIONS, *WINOGRAD[2::5]] if c.groups == 1),
    *(c.backward_weight(i % 3 == 0) for i, c in enumerate(CONVOLUTIONS)),
    *(c.backward_weight(i % 3 == 0) for i, c in enumerate(WINOGRAD)),
    *(c.backward_weight(i % 2 == 0) for i, c in enumerate(SPLIT_DEPTHWISE)),
    *(c.forward(*EPILOGUES[i % 4]) for i, c in enumerate(POINTWISE)),
    *(c.backward_data() for c in POINTWISE),
    *(c.backward_weight(accumulate) for c in POINTWISE for accumulate in (False, True)),
    *(c.forward(*EPILOGUES[i % 4]) for i, c in enumerate(GROUPED)),
    *(c.forward(i % 2 == 0, f) for i, c in enumerate(GROUPED[3::40]) for f in FUNCTIONS),
    *(c.backward_data() for c in GROUPED),
    *(c.backward_weight(i % 3 == 0) for i, c in enumerate(GROUPED)),
    *(
        case(Dense(activation), (n, i), (i, u), (u,) if bias else None)
        for k, (n, i, u) in enumerate(DENSE)
        for bias, activation in [EPILOGUES[k % 4]]
    ),
    *(case(Dense(f), (n, i), (i, u), (u,)) for n, i, u in DENSE[::19] for f in FUNCTIONS),
    *(case(DenseBackwardData(), (n, u), (i, u)) for n, i, u in DENSE),
    *(case(DenseBackwardWeight(), (n, i), (n, u)) for n, i, u in DENSE),
    *(case(DenseBackwardWeight(True), (n, i), (n, u), (i, u)) for n, i, u in DENSE[::3]),
    *(DEEP.forward(True, f, residual=True) for f in (None, "relu", "silu")),
    *(DEEP.backward_data(residual) for residual in (False, True)),
    *(case(BiasGradient(), (3, 4, n)) for n in CHANNELS),
    *(case(BiasGradient(True), (n, 17), (17,)) for n in range(31)),
    case(BiasGradient(), (2, 70, 71, 5)),
    case(BiasGradient(True), (300, 65), (65,)),
    *(case(MaxPool2D(w), x) for x, w in POOLS),
    *(case(MaxPool2D(w), ties(*x)) for x, w in POOLS[::3]),
    *(case(MaxPool2DBackward(w), x, pooled(x, w)) for x, w in POOLS),
    *(case(MaxPool2DBackward(w), ties(*x), pooled(x, w)) for x, w in POOLS),
    *(case(AveragePool2D(w), x) for x, w in POOLS),
    *(case(AveragePool2D(w, True), x) for x, w in POOLS),
    *(case(AveragePool2DBackward(w, x, False), pooled(x, w)) for x, w in POOLS),
    *(case(AveragePool2DBackward(w, x, True), pooled(x, w)) for x, w in POOLS),
    *(case(GlobalAveragePool2D(), x) for x in GLOBAL_POOLS),
    *(case(GlobalAveragePool2DBackward(x), (x[0], x[3])) for x in GLOBAL_POOLS),
    *(case(GlobalMaxPool2D(), x) for x in GLOBAL_POOLS),
    *(case(GlobalMaxPool2DBackward(), x, (x[0], x[3])) for x in GLOBAL_POOLS),
    *(case(GlobalMaxPool2DBackward(), ties(*x), (x[0], x[3])) for x in GLOBAL_POOLS),
    *(c for i, x in enumerate(NORMS) for c in norm(x, i % 8)),
    *(c for i in (6, 7) for c in norm((4, 11, 13, 24), i)),
    *(c for f in FUNCTIONS for x in NORMS[::5] for c in norm(x, 7, f)),
    *(c for c in norm(distant(2, 12, 12, 19), 6)),
    *(c for c in norm(EMPTY, 7)[1:]),
    *(
        case(
            FoldBatchNorm(1e-5),
            w,
            *((n,) if i & bit else None for bit in (1, 2, 4)),
            (n,),
            positive(n),
        )
        for i, w in enumerate([*((3, n) for n in CHANNELS), (3, 3, 5, 70), (1, 1, 300, 260)])
        for n in w[-1:]
    ),
    *(case(MovingAverage(0.9), (n,), (n,)) for n in SIZES),
    case(MovingAverage(0.0), (3,), (3,)),
    *(case(Activation(f), s) for f in FUNCTIONS for s in SHAPES[::2]),
    *(case(Activation(f), corners()) for f in FUNCTIONS),
    *(case(ActivationBackward(f), s, s) for f in FUNCTIONS for s in SHAPES[::2]),
    *(case(ActivationBackward(f), x, x.shape) for f in FUNCTIONS for x in (corners(), ties(3, 70))),
    *(case(Add(), s, s) for s in SHAPES),
    *(case(Multiply(), s, s) for s in SHAPES),
    *(case(Multiply(), x, (x[0], 1, 1, x[3])) for x in GLOBAL_POOLS),
    *(case(Multiply(), (x[0], 1, 1, x[3]), x) for x in GLOBAL_POOLS[::3]),
    case(Multiply(), (2, 40, 41, 33), (2, 1, 1, 33)),
    *(case(PixelDot(), x, x) for x in [*GLOBAL_POOLS, (2, 1, 1, 5), (1, 17, 16, 130)]),
    *(case(Concatenate(), (2, 3, 4, n), (2, 3, 4, 5)) for n in CHANNELS),
    *(case(Concatenate(), *((3, n) for n in range(1, k))) for k in (3, 5, 20)),
    case(Concatenate(), (2, 3)),
    case(Concatenate(), (1, 40, 41, 16), (1, 40, 41, 1), (1, 40, 41, 48)),
    case(Concatenate(), (0, 3, 4, 5), (0, 3, 4, 2)),
    *(case(SliceChannels(n // 2, n), (2, 3, 4, n)) for n in CHANNELS),
    *(case(SliceChannels(0, n), (3, n + 1)) for n in CHANNELS),
    case(SliceChannels(5, 38), (1, 50, 41, 40)),
    case(SliceChannels(0, 2), (0, 3, 3)),
    *(case(ZeroPad2D(pads), x) for x, pads in PADS),
    *(
        case(Crop2D(pads), (n, h + sum(pads[0]), w + sum(pads[1]), c))
        for (n, h, w, c), pads in PADS
    ),
    *(case(Scale(), s, SCALE) for s in SHAPES),
    *(case(AccumulateGradient(), s, s) for s in SHAPES),
    *(case(Assign(), s, s) for s in SHAPES),
    case(Flatten(), (2, 3, 4, 5)),
    case(Flatten(), (1, 7)),
    case(Flatten(), (0, 3, 2)),
    case(Reshape((4, 15)), (2, 3, 4, 5)),
    case(Reshape((3, 2)), (0, 6)),
    *(case(Dropout(0.5, 3), (2, n), seed(11, n)) for n in SIZES),
    case(Dropout(0.2, 1), (2, 50, 51, 3), seed(2**63 + 5, 2**33)),
    case(Dropout(0.0, 0), (4, 9), seed(0, 0)),
    case(Dropout(0.9, 0), (0, 9), seed(0, 0)),
    *(case(DropPath(0.5, 3), (n, 3, 2), seed(11, n)) for n in SIZES),
    case(DropPath(0.2, 1), (3, 60, 61, 3), seed(2**63 + 5, 2**33)),
    case(DropPath(0.4), (70,), seed(1, 2)),
    case(DropPath(0.9), (0, 9), seed(0, 0)),
    *(case(Softmax(), (3, k)) for k in CHANNELS),
    *(case(SoftmaxBackward(), (3, k), (3, k)) for k in CHANNELS),
    *(case(Softmax(), s) for s in [(5,), (2, 3, 4, 10), (0, 4), (130, 9)]),
    *(case(SoftmaxBackward(), s, s) for s in [(5,), (2, 3, 4, 10), (0, 4), (130, 9)]),
    *(case(SoftmaxCrossEntropy(), (3, k), labels(3, k), SCALE) for k in CHANNELS),
    *(case(SoftmaxCrossEntropy(), (n, 10), labels(n, 10), SCALE) for n in (0, 1, 2, 127, 300)),
    *(
        case(SGDUpdate(m, n, d), (s,), (s,), (s,) if m else None, LEARNING_RATE)
        for s in (*SIZES, 40000)
        for m, n, d in [(0.0, False, 0.0), (0.9, False, 0.0), (0.9, True, 0.01), (0.0, False, 0.1)]
    ),
    *(c.forward(*EPILOGUES[i // 2 % 4]) for i, c in enumerate(WINOGRAD_STRIDED)),
    *(c.forward(*EPILOGUES[i % 4], residual=True) for i, c in enumerate(WINOGRAD_STRIDED[::5])),
    *(c.forward(i % 2 == 0, f) for i, c in enumerate(WINOGRAD_STRIDED[1:60:19]) for f in FUNCTIONS),
    *(
        case(Dense(activation), (n, i), (i, u), (u,) if bias else None)
        for k, (n, i, u) in enumerate(NARROW)
        for bias, activation in [EPILOGUES[k % 4]]
    ),
    *(case(Dense(f), (n, i), (i, u), (u,)) for n, i, u in NARROW[::9] for f in FUNCTIONS),
    *(case(DenseBackwardData(), (n, i), (u, i)) for n, i, u in NARROW),
    *(case(DenseBackwardData(), (3000, 96), (n, 96)) for n in (5, 20, 40)),
    *(case(Dense(), (900, 75), (75, n), None) for n in (5, 20, 40)),
    *(
        C((n, 1, 1, i), u, window(1)).forward(*EPILOGUES[k % 4], residual=True)
        for k, (n, i, u) in enumerate(NARROW)
    ),
    *(C((2, 5, 6, 30), n, window(1, 2)).forward(True, "silu") for n in (8, 20, 24, 40)),
    *(c.backward_weight(i % 3 == 0) for i, c in enumerate(APART)),
    *(c.forward(*EPILOGUES[i // 2 % 4]) for i, c in enumerate(WINOGRAD_DILATED)),
    *(c.forward(*EPILOGUES[i % 4], residual=True) for i, c in enumerate(WINOGRAD_DILATED[::5])),
    *(c.backward_data() for c in WINOGRAD_DILATED),
    *(c.backward_weight(i % 3 == 0) for i, c in enumerate(WINOGRAD_DILATED)),
    *(c.backward_weight(False) for c in WINOGRAD_DILATED_CHUNKS),
    *(c.forward(True, None) for c in FAR_STEPS),
    *(c.backward_data() for c in FAR_STEPS),
    *(c.backward_weight(i % 2 == 0) for i, c in enumerate(FAR_STEPS)),
]
