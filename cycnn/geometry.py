"""Window arithmetic: padding, stride, dilation, output size, receptive field. The only copy.

One formula gives every output size, per axis:

    (W - E + P_left + P_right) / S + 1        E = (K - 1) * D + 1

with W the input size, K the window, D its dilation, E its extent, S the stride and P the padding. With
D = 1 and equal padding it is the textbook's (W - K + 2P) / S + 1 (CS231n, Convolutional Networks).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from .errors import ArgumentError, ShapeError

__all__ = ["ReceptiveField", "Window", "strict_tiling", "to_axes"]

Size = int | None
_strict: ContextVar[bool] = ContextVar("cycnn_strict_tiling", default=False)


@contextmanager
def strict_tiling(enabled: bool = True) -> Iterator[None]:
    """Layers and functions made inside the block refuse windows that do not tile their input.

    Outside it (and by default) a fractional output size is rounded down, as the field does.
    """
    token = _strict.set(bool(enabled))
    try:
        yield
    finally:
        _strict.reset(token)


def _is_integer(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def to_axes(value: object, name: str, axes: int = 2, least: int = 1) -> tuple[int, ...]:
    """``value`` as one integer per spatial axis: ``3`` and ``(3, 3)`` are the same."""
    if type(value) is int and least <= value < 2**31:  # what nearly all calls give
        return (value,) * axes
    values = (value,) * axes if _is_integer(value) else value
    if (
        not isinstance(values, (tuple, list))
        or len(values) != axes
        or not all(_is_integer(v) and least <= v < 2**31 for v in values)
    ):
        several = f", or {axes} of them" if axes > 1 else ""
        raise ArgumentError(
            f"`{name}` must be an integer of at least {least}{several}. Received: {name}={value!r}."
        )
    return tuple(int(v) for v in values)


def _to_padding(padding: object, axes: int) -> str | tuple[tuple[int, int], ...]:
    if isinstance(padding, str):
        if padding.lower() in ("valid", "same"):
            return padding.lower()
    elif _is_integer(padding):
        if 0 <= padding < 2**31:
            return ((int(padding), int(padding)),) * axes
    elif isinstance(padding, (tuple, list)) and len(padding) == axes:
        pairs = [(p, p) if _is_integer(p) else p for p in padding]
        if all(
            isinstance(pair, (tuple, list))
            and len(pair) == 2
            and all(_is_integer(v) and 0 <= v < 2**31 for v in pair)
            for pair in pairs
        ):
            return tuple((int(a), int(b)) for a, b in pairs)
    raise ArgumentError(
        '`padding` must be "valid", "same", an integer of at least 0, one integer per axis, or one '
        f"pair (before, after) per axis. Received: padding={padding!r}."
    )


@dataclass(frozen=True)
class Window:
    """A window that slides over the spatial axes: its size, strides, dilation and padding.

    ``padding`` is ``"valid"`` (none), ``"same"`` (output size = input size / stride, rounded up; the odd
    row or column goes to the bottom or right) or one (before, after) pair per axis.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...] = "valid"
    strict: bool = False

    @classmethod
    def make(
        cls,
        kernel: object,
        strides: object = 1,
        padding: object = "valid",
        dilation: object = 1,
        *,
        strict: bool = False,
        axes: int = 2,
        kernel_name: str = "kernel_size",
    ) -> Window:
        """Check and normalise what users write. Raises `ArgumentError`."""
        return cls(
            to_axes(kernel, kernel_name, axes),
            to_axes(strides, "strides", axes),
            to_axes(dilation, "dilation_rate", axes),
            _to_padding(padding, axes),
            bool(strict) or _strict.get(),
        )

    @property
    def extent(self) -> tuple[int, ...]:
        """Pixels from the first to the last tap, per axis: ``(K - 1) * D + 1``."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def taps(self) -> int:
        """Number of positions in the window."""
        count = 1
        for k in self.kernel:
            count *= k
        return count

    def pads(self, size: tuple[Size, ...]) -> tuple[tuple[int, int], ...]:
        """The (before, after) padding of each axis for an input of ``size``.

        An axis of unknown size is padded like one that the stride divides.
        """
        if self.padding == "valid":
            return ((0, 0),) * len(self.kernel)
        if self.padding != "same":
            return self.padding
        pads = []
        for w, e, s in zip(size, self.extent, self.strides, strict=True):
            total = max(e - s if w is None else (-(-w // s) - 1) * s + e - w, 0)
            pads.append((total // 2, total - total // 2))
        return tuple(pads)

    def output(self, size: tuple[Size, ...]) -> tuple[Size, ...]:
        """The output size for an input of ``size``; an axis of unknown size stays unknown.

        Raises `ShapeError` where the window is larger than the padded input and, when strict, where it
        does not tile the input.
        """
        return tuple(None if w is None else self._axis(axis, w) for axis, w in enumerate(size))

    def _axis(self, axis: int, w: int) -> int:
        if w < 1:
            raise ShapeError(
                f"A window needs at least 1 pixel on spatial axis {axis}. Received: {w}."
            )
        e, s = self.extent[axis], self.strides[axis]
        if self.padding == "same":
            return -(-w // s)
        before, after = (0, 0) if self.padding == "valid" else self.padding[axis]
        room = w - e + before + after
        if room < 0:
            raise ShapeError(
                f"A window of extent {e} does not fit into an input of {w} with padding "
                f"{before}+{after} on spatial axis {axis}."
            )
        if self.strict and room % s:
            raise ShapeError(_does_not_tile(w, e, before + after, s, axis))
        return room // s + 1


def _does_not_tile(w: int, e: int, p: int, s: int, axis: int) -> str:
    from fractions import Fraction  # here, for it takes 2 ms and few ask

    size = Fraction(w - e + p, s) + 1
    room, over = w - e + p, (w - e + p) % s
    strides = [c for c in range(1, room + 1) if room % c == 0]
    nearest = sorted(strides, key=lambda c: abs(c - s))[:2]
    pads = [q for q in (p - over, p + s - over) if q >= 0]
    return (
        f"The window does not tile spatial axis {axis}: W={w}, K={e}, P={p} (both sides together), "
        f"S={s} give (W - K + P) / S + 1 = {size} = {float(size):.4g}. What tiles: "
        f"W={w - over} or {w + s - over}; P={' or '.join(map(str, pads))}; "
        f"S={' or '.join(map(str, sorted(nearest)))}."
    )


class ReceptiveField(NamedTuple):
    """What one output pixel sees of the network's input, per spatial axis, in input pixels.

    ``size``: extent of the field; ``jump``: distance between the fields of neighbouring outputs;
    ``start``: centre of the first field (negative in the padding). Araujo et al., "Computing Receptive
    Fields of Convolutional Neural Networks", Distill 2019, equations 2 to 6.
    """

    size: tuple[int, ...] = (1, 1)
    jump: tuple[int, ...] = (1, 1)
    start: tuple[float, ...] = (0.0, 0.0)

    def through(self, window: Window, size: tuple[Size, ...]) -> ReceptiveField:
        """The field after ``window``, whose input has spatial ``size``."""
        pads = window.pads(size)
        grown, jump, start = [], [], []
        for i, (e, s) in enumerate(zip(window.extent, window.strides, strict=True)):
            grown.append(self.size[i] + (e - 1) * self.jump[i])
            jump.append(self.jump[i] * s)
            start.append(self.start[i] + ((e - 1) / 2 - pads[i][0]) * self.jump[i])
        return ReceptiveField(tuple(grown), tuple(jump), tuple(start))

    def union(self, other: ReceptiveField) -> ReceptiveField:
        """The smallest field that holds both, for layers that merge branches."""
        size = tuple(max(a, b) for a, b in zip(self.size, other.size, strict=True))
        jump = tuple(max(a, b) for a, b in zip(self.jump, other.jump, strict=True))
        return ReceptiveField(size, jump, tuple(map(min, self.start, other.start)))
