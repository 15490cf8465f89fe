"""A gradient of weights as its kernels see it: two images, and the window that relates them."""

from __future__ import annotations

import math
from typing import NamedTuple

from .correlation import Axis, step_between

__all__ = ["Problem"]


FOLDED_STRIDE, FOLDED_DILATION = 32, 8  # most; dilation of rows


class Problem(NamedTuple):
    """A weight gradient as the kernels see it; ``pads`` are (above, left)."""

    x: tuple[int, ...]
    dy: tuple[int, ...]
    kernel_size: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int]
    groups: int

    @property
    def folded(self) -> bool:
        """Whether a whole row of the filter is taken for the channels of one tap."""
        narrow = self.x[3] <= 12 and self.kernel_size[1] > 1
        # what lies between windows and taps is copied in vain
        near = max(self.strides) <= FOLDED_STRIDE and self.dilation[0] <= FOLDED_DILATION
        return narrow and self.groups == 1 and near and self.dilation[1] == 1

    @property
    def weights(self) -> int:
        return math.prod(self.kernel_size) * self.x[3] // self.groups * self.dy[3]

    @property
    def skips_pixels(self) -> bool:
        """Whether it is for a 1x1 window with strides that stays inside the image."""
        return self.kernel_size == (1, 1) and self.strides != (1, 1) and self.groups == 1 and all(
            (self.dy[i] - 1) * self.strides[i - 1] < self.x[i] and self.pads[i - 1] == 0 for i in (1, 2)
        )  # fmt: skip

    @property
    def in_one_row(self) -> Problem:
        """The same with all pixels in one long row, for a 1x1 window that takes each of them."""
        pixels = (1, 1, math.prod(self.x[:3]))
        return self._replace(x=(*pixels, self.x[3]), dy=(*pixels, self.dy[3]))

    def seen(self, axis: int) -> int:
        """How many pairs of an output position and a tap along an axis fall inside the image."""
        size, positions = self.x[1 + axis], self.dy[1 + axis]
        stride, before = self.strides[axis], self.pads[axis]
        pairs = 0
        for tap in range(self.kernel_size[axis]):
            offset = tap * self.dilation[axis] - before
            first = max(0, math.ceil(-offset / stride))
            pairs += max(0, min(positions, math.ceil((size - offset) / stride)) - first)
        return pairs

    def axis(self, axis: int) -> Axis:
        """Where the taps of the convolution read along a spatial axis."""
        positions, taps = self.dy[1 + axis], range(self.kernel_size[axis])
        reads = tuple((t, t * self.dilation[axis] - self.pads[axis]) for t in taps)
        phases = ((0, positions, reads),)
        step = step_between(positions, self.strides[axis], self.x[1 + axis])
        return Axis(self.x[1 + axis], positions, step, 1, len(taps), phases)
