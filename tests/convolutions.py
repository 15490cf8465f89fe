"""Shapes of convolutions: image, filters, window, groups. Each makes a case of each of its ops."""

from __future__ import annotations

from dataclasses import dataclass, replace

from case import Case, case
from cycnn.geometry import Window
from cycnn.ops.conv import Conv2D, Conv2DBackwardData
from cycnn.ops.weight_gradient import Conv2DBackwardWeight

window = Window.make
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
    # the same where turns of the tile's loop leave a rest
    *(C((1, 2, n, 35), 66, window(3, padding="same")) for n in range(1, 17)),
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
    C((0, 8, 8, 256), 128, window(1, 2)),
    depthwise((0, 4, 9, 4), 1),
    C((0, 4, 9, 1), 1, window(1)),
    C((0, 9, 8, 20), 24, window(1, 2)),
    C((2, 9, 8, 20), 24, window(1, (1, 3))),
    C((2, 9, 8, 20), 24, window(1, (3, 2), "same")),
    depthwise((2, 20, 20, 40), 1),
    depthwise((3, 1, 1, 40), 1, 2),
]
# a product whose sums take several parts, also those of its gradient
DEEP = C((1, 2, 9, 1100), 1030, window(1))
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
# rows that are taken together, and the first stride at which they are not; strides beyond the image
FAR_STEPS = [
    *(depthwise((2, 23, 11, 17), 3, s, "same", s) for s in (4, 5)),
    *(depthwise((1, 5, 6, 33), 3, 7, 2, d) for d in (2, 3, 4)),
    *(C((1, 5, 6, 12), 24, window(3, 7, 2, d), groups=3) for d in (1, 3)),
    *(C((2, 5, 6, 20), 9, window(3, (7, 9), 2, d)) for d in (1, 3)),
    *(C((2, 5, 6, 3), 18, window(3, (7, 9), 1, (d, 1))) for d in (1, 2)),
    C((1, 5, 4, 7), 5, window(1, 8)),
    C((2, 1, 5, 6), 7, window(3, (2, 3), 1)),
]
# interleaved phases, of one size and of several, some of them empty
WINOGRAD_DILATED = winograd(
    *(C((1, n, 21 - n, 5), 9, window(3, 1, "same", (2, 2))) for n in range(1, 21, 3)),
    *(C((2, n, 19 - n, 4), 17, window(3, 1, "same", (3, 2))) for n in range(2, 18, 3)),
    C((2, 13, 12, 17), 16, window(3, 1, 0, (2, 5))),
    C((1, 9, 12, 3), 8, window(3, 1, ((5, 4), (3, 6)), (1, 4))),
    C((0, 7, 7, 3), 8, window(3, 1, "same", (2, 2))),
    C((3, 7, 9, 40), 66, window(3, 1, "same", (2, 2))),
    C((5, 13, 14, 4), 6, window(3, 1, "same", (3, 3))),
    C((1, 14, 14, 130), 72, window(3, 1, "same", (12, 12))),
    # more dilation than pixels
    C((2, 3, 5, 4), 6, window(3, 1, "same", (97, 7))),
)
# weights only: chunks of a sum over tiles, each of several blocks, from one phase and image to the next
WINOGRAD_DILATED_CHUNKS = winograd(C((3, 40, 41, 33), 40, window(3, 1, ((2, 1), (0, 3)), (2, 3))))
# forward only
WINOGRAD_STRIDED = winograd(
    # every channel tail, in and out
    *(C((1, 7, 6, n), 5, window(3, 2)) for n in CHANNELS[::2]),
    *(C((1, 6, 8, 3), n, window(3, 2)) for n in CHANNELS[::2]),
    *(C((1, 5, 4, n), n, window(3, 2, "same")) for n in CHANNELS[1::2]),
    # every part of a tile that the image ends in, and padding of each side
    *(C((1, n, 22 - n, 4), 17, window(3, 2, "same")) for n in range(1, 22)),
    *(C((2, n, 24 - n, 5), 8, window(3, 2)) for n in range(3, 22)),
    C((1, 9, 10, 3), 4, window(3, 2, 1)),
    C((1, 9, 10, 3), 4, window(3, 2, 2)),
    C((2, 5, 6, 3), 4, window(3, 2, ((1, 0), (0, 2)))),
    C((1, 3, 4, 17), 16, window(3, 2, ((5, 4), (3, 6)))),
    C((3, 1, 1, 16), 64, window(3, 2, "same")),
    # blocks that go from image to image, in one step and in two
    C((0, 5, 6, 3), 8, window(3, 2, "same")),
    C((3, 14, 15, 40), 66, window(3, 2, 1)),
    C((5, 5, 5, 64), 64, window(3, 2, 1)),
    C((5, 52, 53, 4), 6, window(3, 2, 1)),
    C((1, 14, 14, 520), 72, window(3, 2, 1)),
)
# gradients of weights whose tiles of channels are copied, in several blocks of pixels
APART = [
    C((2, 15, 14, 259), 20, window(3, 1, 1)),
    C((1, 7, 7, 256), 33, window(3, 1, "same")),
    C((3, 9, 8, 257), 17, window(3, 2, ((1, 0), (0, 1)))),
    C((1, 21, 20, 258), 48, window((2, 3), 1, ((0, 1), (2, 1)), (3, 2))),
    C((2, 5, 6, 518), 40, window(3, 1, 1), groups=2),
    C((40, 1, 6, 256), 24, window((1, 3))),
    C((40, 3, 1, 256), 130, window((3, 1), 1, ((2, 2), (0, 0)))),
    C((0, 5, 6, 256), 24, window(3)),
    # rows too wide to be copied
    C((1, 4, 1100, 256), 17, window(3, 1, 1)),
]
DEPTHWISE = [c for c in CONVOLUTIONS if c.groups == c.x[3]]
