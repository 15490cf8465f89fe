"""Lay out the temporaries of a plan in one block of memory, by first and last use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .lower import Buffer, PlannedStep

__all__ = ["ALIGNMENT", "Arena", "merge_in_place", "place"]

ALIGNMENT = 64


class Arena(NamedTuple):
    """Byte offset of every temporary, and the size of the block that holds them all."""

    offsets: dict[Buffer, int]
    nbytes: int


def merge_in_place(steps: Sequence[PlannedStep]) -> dict[Buffer, Buffer]:
    """Which buffer each one lives in: an in-place step writes where it reads.

    Only where nobody reads the old content afterwards, both have the same size, and one at least is a
    temporary. What lies within another buffer, or holds such, stays. The result maps merged buffers;
    one that is absent lives in itself.
    """
    last = {b: i for i, step in enumerate(steps) for b in (*step.reads, *step.writes) if b}
    roots = {b.within for b in last if b.within}
    home: dict[Buffer, Buffer] = {}
    for i, step in enumerate(steps):
        if step.in_place is None:
            continue
        read, write = step.reads[step.in_place[0]], step.writes[step.in_place[1]]
        old = _home(home, read)
        free = read.kind == "temporary" and last[read] == i and old.kind == "temporary"
        twice = sum(b is not None and _home(home, b) is old for b in step.reads) > 1
        apart = any(b.within or b in roots for b in (read, write))
        if free and not twice and not apart and read.nbytes == write.nbytes and write not in home:
            home[old] = write
            last[write] = max(last[write], i)
    return {b: _home(home, b) for b in home}


def _home(home: dict[Buffer, Buffer], buffer: Buffer) -> Buffer:
    while buffer in home:
        buffer = home[buffer]
    return buffer


def place(steps: Sequence[PlannedStep], home: dict[Buffer, Buffer]) -> Arena:
    """Give every temporary the lowest offset that no buffer alive at the same time occupies.

    Largest first, which keeps the block near the largest sum of what is alive at once (Pisarchyk and
    Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, greedy by size).
    """
    first, last = _lives(steps, home)
    offsets: dict[Buffer, int] = {}
    for buffer in sorted(first, key=lambda b: -b.nbytes):
        busy = sorted(
            (offsets[b], offsets[b] + b.nbytes)
            for b in offsets
            if first[b] <= last[buffer] and first[buffer] <= last[b]
        )
        offsets[buffer] = _first_gap(busy, buffer.nbytes)
    total = max((offsets[b] + b.nbytes for b in offsets), default=0)
    inner = {b for s in steps for b in (*s.reads, *s.writes) if b is not None and b.within}
    offsets.update((b, offsets[b.within] + b.offset) for b in inner)
    return Arena(offsets, _aligned(total))


def _lives(
    steps: Sequence[PlannedStep], home: dict[Buffer, Buffer]
) -> tuple[dict[Buffer, int], dict[Buffer, int]]:
    """The first and the last step during which each temporary is alive.

    What several parts of the plan share lives through the whole of them: a part begins again with the
    next images while results of the first ones wait.
    """
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    begin: dict[int, int] = {}
    end: dict[int, int] = {}
    for i, step in enumerate(steps):
        begin.setdefault(step.part, i)
        end[step.part] = i
        for buffer in (*step.reads, *step.writes):
            if buffer is not None and home.get(buffer, buffer).kind == "temporary":
                buffer = home.get(buffer, buffer).whole
                first.setdefault(buffer, i)
                last[buffer] = i
    for buffer in first:
        a, b = steps[first[buffer]].part, steps[last[buffer]].part
        if a != b:
            first[buffer], last[buffer] = begin[a], end[b]
    return first, last


def _first_gap(busy: list[tuple[int, int]], nbytes: int) -> int:
    offset = 0
    for begin, end in busy:
        if offset + nbytes <= begin:
            break
        offset = max(offset, _aligned(end))
    return offset


def _aligned(nbytes: int) -> int:
    return (nbytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
