"""The weights that programs read: live ones for training, a frozen copy for inference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..graph.ir import Value
from .arena import ALIGNMENT
from .executor import Program
from .lower import Buffer, PlannedStep

__all__ = ["Weights", "aligned_empty", "run_step"]


def aligned_empty(nbytes: int) -> np.ndarray:
    """Uninitialised bytes that start on a cache line."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


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

    def array(self, value: Value) -> np.ndarray:
        """The memory of a parameter, state or constant value."""
        if value.kind == "constant":
            return np.ascontiguousarray(value.array)
        source = value.source
        if not self.frozen:
            return self._instead.get(source, source).value
        if source not in self._arrays:
            copy = aligned_empty(source.value.nbytes).view(source.dtype)
            self._arrays[source] = copy.reshape(source.shape)
            self._arrays[source][...] = source.value
        return self._arrays[source]

    def folded(self, step: PlannedStep, keys: dict[Buffer, tuple]) -> dict[Buffer, np.ndarray]:
        """Run a step that depends on weights alone, unless an equal one has been run before.

        ``keys`` names what every buffer holds; the names of the results are added to it.
        """
        results = {}
        inputs = tuple(keys[b] for b in step.reads if b is not None)
        for k, buffer in enumerate(step.writes):
            keys[buffer] = (step.kernel.name, step.kernel.attributes, inputs, k)
        if any(keys[b] not in self._arrays for b in step.writes):
            sources = [None if b is None else self._by_key(b, keys) for b in step.reads]
            targets = [aligned_empty(b.nbytes) for b in step.writes]
            run_step(step, sources, targets)
            self._arrays.update({keys[b]: t for b, t in zip(step.writes, targets, strict=True)})
        for buffer in step.writes:
            results[buffer] = self._arrays[keys[buffer]]
        return results

    def _by_key(self, buffer: Buffer, keys: dict[Buffer, tuple]) -> np.ndarray:
        if buffer.kind != "folded":
            return buffer.value.source.value if self._is_live(buffer) else self.array(buffer.value)
        return self._arrays[keys[buffer]]

    def _is_live(self, buffer: Buffer) -> bool:
        # packing reads the model's own array: a copy that only panels are made from is never made
        return buffer.kind != "constant" and buffer.value.source not in self._arrays


def run_step(step: PlannedStep, reads: list[np.ndarray | None], writes: list[np.ndarray]) -> None:
    """Execute one step on arrays of its own."""
    arrays = dict(enumerate((a for a in (*reads, *writes) if a is not None), start=1))
    numbers = iter(arrays)
    operands = tuple(0 if a is None else next(numbers) for a in (*reads, *writes))
    kernel = step.kernel
    steps = [(kernel.run, kernel.items, kernel.attributes, operands, False)]
    Program(steps, len(arrays) + 1, arrays, {}, [], [], 0, kernel.scratch).run([], [])
