"""The grid: every op with every shape it is tested on. A new case is one new line.

A case is an op and its inputs. An input is a shape (filled with seeded normal numbers), an array
(taken as it is) or None (absent). One line of CONVOLUTIONS, DENSE or POOLS makes a case of the
forward op and of each of its backward ops.

Sizes lie around the tiles of every tier: 8, 16, 32 and 64 output channels, 3, 6, 12 and 14 pixels.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields, replace

import numpy as np

from cycnn.geometry import Window
from cycnn.ops.activation import FUNCTIONS, Activation, ActivationBackward
from cycnn.ops.base import Op
from cycnn.ops.conv import Conv2D, Conv2DBackwardData
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
from cycnn.ops.weight_gradient import BiasGradient, Conv2DBackwardWeight, DenseBackwardWeight

window = Window.make


@dataclass(frozen=True, eq=False)
class Case:
    """An op and what it is applied to."""

    op: Op
    inputs: tuple

    def __str__(self) -> str:
        attributes = [_brief(getattr(self.op, f.name)) for f in fields(self.op)]
        inputs = map(_shown, self.inputs)
        return " ".join([self.op.name, *filter(None, attributes), "on", *inputs])

    def arrays(self) -> list[np.ndarray | None]:
        """New inputs, the same every time."""
        rng = np.random.default_rng(zlib.crc32(str(self).encode()))
        return [_fill(x, rng) for x in self.inputs]


def _given(x: object) -> bool:
    return isinstance(x, np.ndarray)


def _shown(x: object) -> str:
    if x is None:
        return "-"
    return f"given {_brief(x.shape)}" if _given(x) else _brief(x)


def _fill(x: object, rng: np.random.Generator) -> np.ndarray | None:
    if x is None or _given(x):
        return None if x is None else x.copy()
    return rng.standard_normal(x).astype(np.float32)


def _brief(attribute: object) -> str:
    if isinstance(attribute, Window):
        parts = [("k", attribute.kernel), ("s", attribute.strides), ("d", attribute.dilation)]
        return "".join(f"{k}{_brief(v)}" for k, v in parts) + f"p{_brief(attribute.padding)}"
    if isinstance(attribute, tuple):
        return "x".join(map(_brief, attribute)) or "scalar"
    return "" if attribute is None else str(attribute)


def case(op: Op, *inputs: object) -> Case:
    return Case(op, inputs)


# ---- convolution: image, filters, window, groups -------------------------------------------------

FEW = (1, 2, 3, 4, 6, 7, 8, 9, 15, 16, 17)
CHANNELS = (*FEW, 24, 31, 32, 33, 48, 63, 64, 65, 70, 96, 127, 128, 130)


@dataclass(frozen=True)
class Convolution:
    """A convolution's shapes, from which each of its ops makes a case."""

    x: tuple[int, ...]
    filters: int
    window: Window
    groups: int = 1
    algorithm: str = "auto"

    @property
    def w(self) -> tuple[int, ...]:
        return (*self.window.kernel, self.x[3] // self.groups, self.filters)

    @property
    def y(self) -> tuple[int, ...]:
        return (self.x[0], *self.window.output(self.x[1:3]), self.filters)

    def forward(self, bias: bool, activation: str | None, residual: bool = False) -> Case:
        op = Conv2D(self.window, self.groups, activation, self.algorithm)
        added = [self.y] if residual else []
        return case(op, self.x, self.w, (self.filters,) if bias else None, *added)

    def backward_data(self, residual: bool = False) -> Case:
        op = Conv2DBackwardData(self.window, self.groups, self.x, self.algorithm)
        return case(op, self.y, self.w, *([None, self.x] if residual else []))

    def backward_weight(self, accumulate: bool) -> Case:
        op = Conv2DBackwardWeight(
            self.window, self.groups, self.w, accumulate, algorithm=self.algorithm
        )
        return case(op, self.x, self.y, *([self.w] if accumulate else []))


C = Convolution


def depthwise(x: tuple[int, ...], *arguments: object, **options: object) -> Convolution:
    return C(x, x[3], window(*arguments, **options), groups=x[3])


CONVOLUTIONS = [
    # every channel tail, in and out
    *(C((1, 4, 5, n), 5, window(3)) for n in CHANNELS),
    *(C((1, 4, 5, 3), n, window(3)) for n in CHANNELS),
    *(C((2, 3, 4, n), n, window(1)) for n in CHANNELS),
    *(C((1, 5, 4, n), n, window(3, padding="same")) for n in CHANNELS),
    # every pixel tail: rows of 1 to 30 pixels, in one row and in two
    *(C((1, 1, n, 4), 17, window(1)) for n in range(1, 31)),
    *(C((1, 4, n + 2, 3), 17, window(3)) for n in range(1, 31)),
    *(C((1, 2, n, 16), 66, window(3, padding="same")) for n in range(1, 17)),
    # strides, also beyond the window
    C((1, 9, 11, 3), 8, window(3, 2)),
    C((2, 8, 8, 16), 24, window(3, 2, "same")),
    C((1, 9, 9, 17), 33, window(3, 2, 1)),
    C((1, 10, 11, 5), 6, window(2, 3)),
    C((1, 11, 9, 4), 5, window(1, 2)),
    C((1, 13, 12, 20), 18, window(1, 3)),
    C((1, 12, 10, 3), 7, window((3, 2), (1, 3), "same")),
    C((1, 13, 13, 2), 3, window(2, 5, 1)),
    C((1, 23, 27, 3), 16, window(7, 2, 3)),
    C((1, 27, 27, 3), 20, window(11, 4)),
    C((1, 16, 15, 8), 16, window(5, 4, "same")),
    # dilation
    C((1, 9, 8, 3), 4, window(3, 1, "valid", 2)),
    C((2, 9, 10, 6), 17, window(3, 1, "same", 2)),
    C((1, 12, 12, 5), 9, window((2, 3), 2, "same", (3, 2))),
    C((1, 13, 12, 16), 32, window(3, 3, 4, 4)),
    C((1, 8, 15, 3), 8, window((1, 3), 1, "valid", (1, 5))),
    # groups and depthwise
    C((1, 6, 7, 4), 6, window(3), groups=2),
    C((2, 5, 6, 6), 9, window(3, 1, "same"), groups=3),
    C((1, 6, 6, 34), 36, window(3, 1, "same"), groups=2),
    C((1, 6, 6, 8), 16, window(1), groups=4),
    C((1, 6, 6, 130), 128, window(3, 2, "same"), groups=2),
    C((1, 6, 6, 5), 10, window(3, 2, 1, 2), groups=5),
    *(depthwise((1, 6, 7, n), 3, 1, "same") for n in (1, 2, 3, 7, 8, 16, 17, 33, 65)),
    depthwise((2, 7, 9, 16), 3, 2, "same"),
    C((1, 9, 9, 10), 30, window(5, 1, "same"), groups=10),
    # padding: each side, even windows, more than the window
    C((1, 5, 6, 3), 4, window(3, 1, ((1, 0), (0, 2)))),
    C((1, 5, 6, 16), 16, window((2, 4), 1, ((0, 1), (2, 1)))),
    C((2, 6, 5, 3), 8, window(2, 1, "same")),
    C((1, 7, 7, 8), 8, window(4, 1, "same")),
    C((1, 7, 6, 4), 8, window(4, 2, "same")),
    C((1, 3, 3, 3), 5, window(2, 1, 3)),
    C((1, 3, 4, 17), 16, window(3, 2, ((5, 4), (3, 6)))),
    C((1, 2, 2, 2), 3, window(2, 3, ((4, 0), (0, 5)))),
    C((1, 6, 6, 3), 4, window(1, 1, 1)),
    # a stride that an image of one pixel, row or column does not show
    C((3, 1, 1, 8), 5, window(1, 3)),
    C((3, 1, 5, 8), 5, window(1, (2, 1))),
    C((3, 4, 1, 17), 16, window(1, (1, 3), "same")),
    C((2, 1, 1, 3), 4, window(3, 2, "same")),
    # small images, and windows as large as the image
    C((1, 1, 1, 1), 1, window(1)),
    C((1, 1, 1, 1), 1, window(3, 1, "same")),
    C((3, 1, 1, 16), 64, window(3, 1, "same")),
    C((1, 1, 1, 130), 70, window(1)),
    C((2, 5, 5, 3), 10, window(5)),
    C((1, 7, 4, 33), 17, window((7, 4))),
    C((1, 1, 9, 3), 4, window((1, 9))),
    C((1, 2, 3, 4), 5, window((5, 7), 1, "same")),
    # batches, among them the empty one
    C((0, 5, 6, 3), 8, window(3, 1, "same")),
    C((0, 4, 4, 16), 64, window(1)),
    depthwise((0, 4, 4, 8), 3),
    C((3, 5, 5, 1), 1, window(3, 1, "same")),
    C((3, 6, 7, 16), 17, window(3, 1, "same")),
    C((3, 9, 9, 2), 65, window(3, 2)),
    C((5, 3, 3, 64), 64, window(3, 1, "same")),
    # larger than a block of any driver
    C((1, 20, 21, 70), 130, window(3, 1, "same")),
    C((2, 14, 14, 192), 96, window(1)),
    C((1, 7, 7, 520), 72, window(3, 1, "same")),
    C((1, 40, 45, 3), 64, window(3, 1, "same")),
    C((1, 2, 3, 1100), 40, window(1)),
    # depthwise: channel tails, widths of strips, windows and strides with and without a tile of their own
    *(depthwise((1, 9, 8, n), 5, 2, "same") for n in (2, 9, 24, 31, 48)),
    *(depthwise((1, 3, n, 17), 3, 1, "same") for n in range(1, 18)),
    *(depthwise((1, 5, n, 9), 5, 1, "same") for n in (1, 4, 9, 14, 15, 21, 29)),
    *(depthwise((1, n, 10, 20), 7, 1, "same") for n in (1, 2, 6, 7, 15)),
    *(depthwise((2, 11, 12, 18), k, s, "same") for k in range(1, 8) for s in (1, 2, 3)),
    *(depthwise((1, n, n, 16), k, s, "same") for n in (1, 2) for k in (3, 7) for s in (1, 2)),
    *(depthwise((1, 13, 14, 10), 3, s, "same", d) for s in (1, 2, 3) for d in (2, 3, 4)),
    depthwise((1, 12, 11, 19), (3, 5), (2, 1), "same", (1, 3)),
    depthwise((2, 9, 14, 8), (4, 2), (1, 3), 0, (2, 2)),
    depthwise((1, 5, 6, 33), 3, 1, ((4, 2), (0, 5))),
    depthwise((1, 8, 8, 6), 5, 2, ((0, 3), (4, 1))),
    depthwise((1, 4, 31, 16), (1, 9), 1, "same"),
    depthwise((3, 16, 15, 40), 3, 1, 1),
    depthwise((2, 20, 22, 600), 3, 1, 1),
    # two filters to a channel
    *(C((2, 6, 7, n), 2 * n, window(3, 1, "same"), groups=n) for n in (7, 16, 33)),
]
# 1x1 windows that skip pixels, or have one filter a channel
POINTWISE = [
    depthwise((0, 4, 9, 4), 1),
    C((0, 4, 9, 1), 1, window(1)),
    C((0, 9, 8, 20), 24, window(1, 2)),
    C((2, 9, 8, 20), 24, window(1, (1, 3))),
    C((2, 9, 8, 20), 24, window(1, (3, 2), "same")),
    depthwise((2, 20, 20, 40), 1),
    depthwise((3, 1, 1, 40), 1, 2),
]
# of which only gradients of weights are taken, large enough for chunks and for bands within them
SPLIT_DEPTHWISE = [
    depthwise((3, 9, 8, 330), 5, 1, "same"),
    depthwise((2, 8, 7, 216), 7, 1, "same"),
    depthwise((3, 40, 29, 72), 3, 2, "same"),
    depthwise((1, 33, 30, 200), 3, 1, "same", 2),
]
# narrow groups, several to a vector: (groups, channels and filters of a group), tails of all widths
WIDTHS = [(1, 2), (2, 1), (2, 2), (3, 3), (4, 4), (2, 4), (4, 2), (5, 3), (8, 8), (1, 8), (8, 6)]
GROUPED = [
    *(
        C((1, 5, 6, g * c), g * k, window(3, 1, "same"), groups=g)
        for c, k in WIDTHS
        for g in (2, 3, 4, 5, 8, 9)
    ),
    # every part of a strip, windows and strides with and without a tile of their own
    *(C((2, 3, n, 12), 12, window(3, 1, "same"), groups=3) for n in range(1, 31)),
    *(
        C((1, 9, n, 32), 32, window(k, s, "same"), groups=8)
        for n in (8, 15)
        for k in range(1, 8)
        for s in (1, 2, 3)
    ),
    *(
        C((1, 13, 14, 16), 32, window(3, s, "same", d), groups=16)
        for s in (1, 2, 3)
        for d in (2, 3, 4)
    ),
    *(C((1, 1, n, 24), 24, window(3, 2, 1), groups=3) for n in (1, 2, 29)),
    C((1, 12, 11, 24), 12, window((3, 5), (2, 1), "same", (1, 3)), groups=6),
    C((2, 9, 14, 16), 8, window((4, 2), (1, 3), 0, (2, 2)), groups=4),
    C((1, 5, 6, 36), 36, window(3, 1, ((4, 2), (0, 5))), groups=9),
    C((1, 2, 3, 16), 16, window(1, 1, 1), groups=4),
    C((0, 4, 4, 8), 8, window(3), groups=2),
    # groups that fill vectors, with tails of all widths
    *(
        C((1, 5, 9, 2 * c), 2 * k, window(3, 1, "same"), groups=2)
        for c, k in [(9, 9), (16, 16), (24, 20), (5, 33), (20, 5), (40, 48), (64, 70)]
    ),
    *(C((1, 5, n, 51), 51, window(3, s, "same"), groups=3) for n in (7, 14, 31) for s in (1, 2)),
    C((2, 9, 12, 36), 72, window((5, 2), (1, 3), "same", (2, 1)), groups=4),
    C((2, 7, 7, 320), 320, window(3, 1, 1), groups=10),
    C(
        (3, 57, 57, 112), 112, window(3, 1, 1), groups=7
    ),  # beyond the caches, where gradients take bands
    C((3, 57, 58, 192), 192, window(3, 2, 1), groups=12),
    # more than a block of vectors, more than a band
    C((3, 16, 15, 200), 200, window(3, 1, 1), groups=25),
    C((2, 30, 31, 96), 96, window(3, 1, 1), groups=24),
    C((2, 30, 31, 96), 192, window(3, 2, 1), groups=96),
]
EPILOGUES = [(True, None), (True, "relu"), (False, None), (False, "relu")]


def winograd(*shapes: Convolution) -> list[Convolution]:
    """Each shape with tiles of 2 x 2 and of 4 x 4."""
    return [replace(c, algorithm=f"winograd{m}") for c in shapes for m in (2, 4)]


WINOGRAD = winograd(
    # every channel tail, in and out
    *(C((1, 5, 4, n), 5, window(3)) for n in CHANNELS[::2]),
    *(C((1, 4, 5, 3), n, window(3)) for n in CHANNELS[::2]),
    *(C((1, 3, 4, n), n, window(3, padding="same")) for n in CHANNELS[1::2]),
    # every part of a tile that the image ends in, and padding of each side
    *(C((1, n, 13 - n, 4), 17, window(3, padding="same")) for n in range(1, 13)),
    *(C((2, n, 12 - n, 5), 8, window(3)) for n in range(3, 10)),
    C((1, 5, 6, 3), 4, window(3, 1, 2)),
    C((2, 5, 6, 3), 4, window(3, 1, ((1, 0), (0, 2)))),
    C((1, 3, 4, 17), 16, window(3, 1, ((5, 4), (3, 6)))),
    C((3, 1, 1, 16), 64, window(3, 1, "same")),
    # blocks that go from image to image, in one step and in two
    C((0, 5, 6, 3), 8, window(3, 1, "same")),
    C((3, 7, 7, 40), 66, window(3, 1, "same")),
    C((5, 3, 3, 64), 64, window(3, 1, "same")),
    C((5, 27, 26, 4), 6, window(3, 1, "same")),
    C((1, 7, 7, 520), 72, window(3, 1, "same")),
    # chunks of a sum over tiles, each of several blocks
    C((3, 40, 41, 33), 40, window(3, 1, ((2, 1), (0, 3)))),
)
DEPTHWISE = [c for c in CONVOLUTIONS if c.groups == c.x[3]]

# ---- dense: rows, inputs, units ------------------------------------------------------------------

DENSE = [
    *((2, n, 5) for n in CHANNELS),
    *((2, 5, n) for n in CHANNELS),
    *((n, 7, 19) for n in (*range(1, 31), 42, 43, 84, 85)),
    (0, 4, 3),
    (1, 1, 1),
    (1, 400, 120),
    (3, 784, 10),
    (7, 33, 130),
    (128, 84, 10),
    (129, 257, 65),
    (13, 1030, 70),
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
    shape = np.shape(x) if _given(x) else x
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
]
