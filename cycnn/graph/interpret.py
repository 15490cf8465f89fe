"""Run a graph node by node in plain NumPy: the oracle that every plan is tested against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .ir import Graph, Value

__all__ = ["interpret"]


def interpret(
    graph: Graph, inputs: Sequence[np.ndarray], precision: type | None = None
) -> list[np.ndarray]:
    """The outputs of ``graph``, each op computed by its ``evaluate``.

    ``precision`` (such as ``np.float64``) replaces float32 throughout. State is read, never written.
    """
    arrays: dict[Value | None, np.ndarray | None] = {None: None}

    def get(value: Value) -> np.ndarray:
        if value not in arrays:
            array = value.array if value.kind == "constant" else value.source.value
            arrays[value] = _cast(array, precision)
        return arrays[value]

    for value, array in zip(graph.inputs, inputs, strict=True):
        arrays[value] = _cast(np.asarray(array), precision)
    for node in graph.nodes:
        results = node.op.evaluate(*(None if v is None else get(v) for v in node.inputs))
        results = results if isinstance(results, tuple) else (results,)
        arrays.update(zip(node.outputs, results, strict=True))
    return [get(v) for v in graph.outputs]


def _cast(array: np.ndarray, precision: type | None) -> np.ndarray:
    return array.astype(precision) if precision and array.dtype == np.float32 else array
