"""Convolution and its gradient for the data as one thing, a *correlation*.

Every output pixel sums, over the taps of a window, an input pixel's channels times the tap's matrix.
Where taps read is said axis by axis.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ..geometry import Window

if TYPE_CHECKING:
    from ..plan.lower import Target

__all__ = ["Axis", "Correlation", "backward_axes", "forward_axes", "step_between"]

# (first output position, number of positions, taps), a tap being (index in the window, offset)
Phase = tuple[int, int, tuple[tuple[int, int], ...]]


class Axis(NamedTuple):
    """Where the taps read along one spatial axis; `kernels/grid.pxd` says what the numbers mean.

    ``in_step`` is the stride or, of a single output, less (`step_between`).
    """

    in_size: int
    out_size: int
    in_step: int
    out_step: int
    window: int
    phases: tuple[Phase, ...]

    @property
    def reach(self) -> int:
        """Inputs from the first tap of an output to the last, both included, at most."""
        offsets = [[offset for _, offset in taps] for _, _, taps in self.phases]
        return max((max(o) - min(o) + 1 for o in offsets if o), default=1)

    @property
    def evenly(self) -> tuple[int, int] | None:
        """(offset, dilation) where output p reads, with tap t in rising order of position,
        ``p * in_step + offset + t * dilation``; None where that is not so."""
        if len(self.phases) != 1 or self.out_step != 1:
            return None
        offsets = sorted(offset for _, offset in self.phases[0][2])
        return offsets[0], offsets[1] - offsets[0] if len(offsets) > 1 else 1


def step_between(outputs: int, stride: int, size: int) -> int:
    """The stride; from a single output, which nothing follows, no more than the image has, but at least 2:
    whoever asks whether there are strides hears the same.
    """
    return stride if outputs > 1 else min(stride, max(size, 2))


def forward_axes(window: Window, size: tuple[int, ...]) -> tuple[Axis, ...]:
    """One phase: output p reads, with tap r, input ``p * S + r * D - P``."""
    axes = []
    outputs = window.output(size)
    for i, (before, _) in enumerate(window.pads(size)):
        k, s, d = window.kernel[i], window.strides[i], window.dilation[i]
        taps = tuple((r, r * d - before) for r in range(k))
        step = step_between(outputs[i], s, size[i])
        axes.append(Axis(size[i], outputs[i], step, 1, k, ((0, outputs[i], taps),)))
    return tuple(axes)


def backward_axes(window: Window, size: tuple[int, ...]) -> tuple[Axis, ...]:
    """From dy to dx of ``size``: dx[h] sums the dy[p] with ``p * S + r * D - P = h`` for a tap r.

    Only every S-th h belongs to a tap, so the h with the same remainder form a phase.
    """
    axes = []
    outputs = window.output(size)
    for i, (before, _) in enumerate(window.pads(size)):
        k, s, d = window.kernel[i], window.strides[i], window.dilation[i]
        phases = []
        for start in range(min(s, size[i])):
            shifts = [(r, start + before - r * d) for r in range(k)]
            taps = tuple((r, shift // s) for r, shift in shifts if shift % s == 0)
            phases.append((start, (size[i] - start + s - 1) // s, taps))
        axes.append(Axis(outputs[i], size[i], 1, s, k, tuple(phases)))
    return tuple(axes)


class Correlation(NamedTuple):
    """``y[n, p, q, :] = activation(b + sum over taps of x[n, pixel(p, q, tap), :] w[tap] + residual)``

    in each group.
    ``w`` lies as (kh, kw, depth, groups * columns), or (kh, kw, columns, groups * depth) where
    ``transposed``; ``depth`` and ``columns`` count the channels of x and y in a group.
    """

    images: int
    rows: Axis
    columns: Axis
    groups: int
    x_channels: int
    y_channels: int
    transposed: bool = False
    activation: int = 0
    residual: bool = False
    x_step: int | None = None  # floats from a pixel to the next, the channels unless given
    y_step: int | None = None

    @property
    def taps(self) -> int:
        return self.rows.window * self.columns.window

    @property
    def depth(self) -> int:
        return self.x_channels // self.groups

    @property
    def filters(self) -> int:
        """Channels of y in a group."""
        return self.y_channels // self.groups

    @property
    def x_shape(self) -> tuple[int, int, int]:
        return self.rows.in_size, self.columns.in_size, self.x_channels

    @property
    def y_shape(self) -> tuple[int, int, int]:
        return self.rows.out_size, self.columns.out_size, self.y_channels

    @property
    def phases(self) -> int:
        return len(self.rows.phases) * len(self.columns.phases)

    @property
    def pixels(self) -> int:
        """Output pixels of the largest phase of an image."""
        axes = (self.rows, self.columns)
        return math.prod(max((count for _, count, _ in a.phases), default=0) for a in axes)

    @property
    def flops(self) -> int:
        """Of one image."""
        outputs = self.rows.out_size * self.columns.out_size * self.y_channels
        return 2 * outputs * self.taps * self.depth // self.phases if self.phases else 0

    def vectors(self, length: int) -> int:
        """Multiply-adds of vectors of ``length`` floats of y, for one image by direct convolution."""
        outputs = self.rows.out_size * self.columns.out_size
        taps = math.ceil(self.taps / max(self.phases, 1))
        return outputs * taps * self.depth * math.ceil(self.filters / length)

    def packing(self, target: Target, nv: int, reverse: bool = False) -> tuple[tuple, int]:
        """The kernel that packs w, and how many bytes that makes; neither depends on the size of an
        image, so that plans share what is packed."""
        pack = target.kernels.pack
        if self.transposed:
            shape = (self.taps, self.filters, self.groups * self.depth)
            step = pack.columns(shape, nv, self.groups, reverse)
        else:
            step = pack.rows((self.taps, self.depth, self.y_channels), nv, self.groups)
        return step, pack.panel_bytes(self.filters, self.depth, nv, self.taps, self.groups)
