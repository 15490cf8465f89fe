"""The weights that programs read: live ones for training, a frozen copy for inference."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ..graph.ir import Value
from .arena import ALIGNMENT
from .arrays import empty
from .executor import Program
from .lower import Buffer, PlannedStep

__all__ = ["Weights", "run_step"]

BLOCK_BYTES = 2**25  # most, of a block that is not for one array


class _Shelf:
    """Memory for arrays that stay as long as each other: pieces of blocks that grow with what there is.

    Large blocks are on huge pages. A pass over a network reads each weight once, and small pages would have
    to be looked up in memory, one after the other.
    """

    def __init__(self) -> None:
        self._block = np.empty(0, np.uint8)
        self._used = self._total = 0

    def empty(self, shape: tuple[int, ...], dtype: object) -> np.ndarray:
        """Like `arrays.empty`."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        if self._used + nbytes > self._block.nbytes:
            self._block = empty((max(nbytes, min(self._total, BLOCK_BYTES)),), np.uint8)
            self._used = 0
        piece = self._block[self._used : self._used + nbytes]
        self._used += -(-nbytes // ALIGNMENT) * ALIGNMENT
        self._total += nbytes
        return piece.view(dtype).reshape(shape)


class Weights:
    """Where parameters, state and constants are, and what plans computed from them once.

    Live weights are the model's own arrays, or those of what ``instead`` has in place of a source.
    Frozen ones are copies, made as plans ask for them, and the results of steps that depend on weights
    alone (packed panels) are kept and shared by all plans.
    """

    def __init__(self, *, frozen: bool, instead: Mapping[object, object] | None = None):
        self.frozen = frozen
        self._instead = instead or {}
        self._arrays: dict[object, np.ndarray] = {}
        self._shelf = _Shelf()

    @property
    def nbytes(self) -> int:
        """Bytes of the frozen copies and of what was computed from them."""
        return sum(a.nbytes for a in self._arrays.values())

    def array(self, value: Value) -> np.ndarray:
        """The memory of a parameter, state or constant value."""
        if value.kind == "constant":
            return np.ascontiguousarray(value.array)
        source = value.source
        if not self.frozen:
            return self._instead.get(source, source).value
        if source not in self._arrays:
            self._arrays[source] = self._shelf.empty(source.shape, source.dtype)
            self._arrays[source][...] = source.value
        return self._arrays[source]

    def folded(
        self, steps: Sequence[PlannedStep], keys: dict[Buffer, tuple], wanted: Collection[Buffer]
    ) -> dict[Buffer, np.ndarray]:
        """The ``wanted`` results of steps that depend on weights alone, in order.

        Steps run unless what they lead to is here from an equal one; what is not wanted (a folded kernel
        that panels are packed from) is not kept. ``keys`` names what every buffer holds; the names of the
        results are added to it.
        """
        for step in steps:
            inputs = tuple(None if b is None else keys[b] for b in step.reads)
            for k, buffer in enumerate(step.writes):
                keys[buffer] = (step.kernel.name, step.kernel.attributes, inputs, k)
        made: dict[Buffer, np.ndarray] = {}
        missing = self._missing(steps, keys, wanted)
        last = {b: step for step in missing for b in step.reads}
        for step in missing:
            sources = [None if b is None else self._operand(b, keys, made) for b in step.reads]
            targets = [
                (self._shelf.empty if b in wanted else empty)((b.nbytes,), np.uint8)
                for b in step.writes
            ]
            run_step(step, sources, targets)
            made.update(zip(step.writes, targets, strict=True))
            for buffer in step.reads:
                if last[buffer] is step and buffer not in wanted:
                    made.pop(buffer, None)
        self._arrays.update({keys[b]: made[b] for b in wanted if b in made})
        return {b: self._arrays[keys[b]] for b in wanted}

    def _missing(
        self, steps: Sequence[PlannedStep], keys: dict[Buffer, tuple], wanted: Collection[Buffer]
    ) -> list[PlannedStep]:
        """The steps that have to run for ``wanted``, in order."""
        needed, missing = set(wanted), []
        for step in reversed(steps):
            if any(b in needed and keys[b] not in self._arrays for b in step.writes):
                missing.append(step)
                needed.update(b for b in step.reads if b is not None)
        return missing[::-1]

    def _operand(
        self, buffer: Buffer, keys: dict[Buffer, tuple], made: dict[Buffer, np.ndarray]
    ) -> np.ndarray:
        if buffer.kind == "folded":
            return made[buffer] if buffer in made else self._arrays[keys[buffer]]
        return buffer.value.source.value if self._is_live(buffer) else self.array(buffer.value)

    def _is_live(self, buffer: Buffer) -> bool:
        # packing reads the model's own array: a copy that only panels are made from is never made
        return buffer.kind != "constant" and buffer.value.source not in self._arrays


def run_step(step: PlannedStep, reads: list[np.ndarray | None], writes: list[np.ndarray]) -> None:
    """Execute one step on arrays of its own."""
    arrays = dict(enumerate((a for a in (*reads, *writes) if a is not None), start=1))
    numbers = iter(arrays)
    operands = tuple(0 if a is None else next(numbers) for a in (*reads, *writes))
    kernel = step.kernel
    steps = [(kernel.run, kernel.items, kernel.attributes, operands, False, 1)]
    Program(steps, len(arrays) + 1, arrays, {}, [], [], 0, kernel.scratch, {}).run([], [])
