"""One op as a cached plan, from NumPy arrays to NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import threads
from ..arrays import as_float32
from ..graph.ir import Graph
from ..kernels import dispatch
from ..locks import Lock
from ..ops.base import Op
from ..plan.cache import LRU
from ..plan.exact import is_exact
from ..plan.executor import Program
from ..plan.plan import Plan
from ..plan.weights import Weights

__all__ = [
    "PackedWeights",
    "array",
    "compute",
]


_programs: LRU[tuple, Program] = LRU(limit=64)
_guard = Lock()


@dataclass(eq=False)
class PackedWeights:
    """Weights that keep what kernels make of them, made by `pack`; ``value`` is read-only."""

    value: np.ndarray
    name: str = "w"
    dtype: str = "float32"
    programs: LRU[tuple, Program] = field(default_factory=lambda: LRU(limit=16))
    weights: Weights = field(default_factory=lambda: Weights(frozen=True))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


def compute(op: Op, *operands: object) -> np.ndarray | tuple:
    """Run ``op`` on arrays, packed weights or None."""
    packed = next((a for a in operands if isinstance(a, PackedWeights)), None)
    arrays = [
        a if a is None or isinstance(a, (PackedWeights, np.ndarray)) else np.asarray(a)
        for a in operands
    ]
    key = (op, is_exact(), tuple(_signature(a) for a in arrays))
    with _guard:
        programs = _programs if packed is None else packed.programs
        program = programs.get(key)
        if program is None:
            weights = Weights(frozen=True) if packed is None else packed.weights
            program = _plan(op, arrays).bind(weights)
            programs.put(key, program)
    outputs = program.empty_outputs()
    program.run([a for a in arrays if isinstance(a, np.ndarray)], outputs, threads.resolve(None))
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _signature(array: object) -> object:
    if isinstance(array, np.ndarray):
        return array.shape, array.dtype.str
    return array  # packed weights stand for themselves


def _plan(op: Op, arrays: Sequence[object]) -> Plan:
    graph = Graph()
    values = []
    for array in arrays:
        if isinstance(array, PackedWeights):
            values.append(graph.parameter(array))
        else:
            values.append(None if array is None else graph.input(array.shape, str(array.dtype)))
    result = graph.add(op, *values)
    graph.outputs = list(result) if isinstance(result, tuple) else [result]
    return Plan(graph, dispatch.load(), exact=is_exact())


def array(value: object, name: str) -> np.ndarray | PackedWeights | None:
    """``value`` as a float32 array, unless it is packed or absent. Raises `DTypeError`."""
    return value if value is None or isinstance(value, PackedWeights) else as_float32(value, name)
