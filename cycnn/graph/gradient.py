"""Reverse-mode differentiation, from graph to graph.

Each op says which ops compute its gradients (`ops.base.Op.gradient`); here they are strung together.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ..ops.base import Op
from .ir import Graph, Node, Value

__all__ = ["backward"]


def backward(
    graph: Graph, loss: Value, wanted: Collection[Value], add: Op
) -> dict[Value, list[Value]]:
    """Append the backward pass of ``loss`` to ``graph``.

    Returns, for each of the ``wanted`` values, its gradient contributions in graph order: one for every
    node that reads it, not yet summed. Where any other value fans out, its contributions are summed by
    the op ``add`` in graph order. A wanted value that ``loss`` does not depend on gets an empty list.
    """
    nodes = list(graph.nodes)
    relevant = _depends_on(nodes, set(wanted))
    seed = graph.constant(np.ones(loss.spec.shape, np.float32), "one")
    found: dict[Value, list[Value]] = {loss: [seed]}
    for node in reversed(nodes):
        if not any(v in relevant for v in node.inputs):
            continue
        dys = tuple(_total(graph, found.get(v, []), add) for v in node.outputs)
        if all(dy is None for dy in dys):
            continue
        graph.label = node.label
        _collect(found, relevant, node, node.op.gradient(graph, node, dys))
    return {v: list(reversed(found.get(v, []))) for v in wanted}


def _depends_on(nodes: list[Node], wanted: set[Value]) -> set[Value]:
    """``wanted`` and every value computed from them."""
    reached = set(wanted)
    for node in nodes:
        if any(v in reached for v in node.inputs):
            reached.update(node.outputs)
    return reached


def _collect(
    found: dict[Value, list[Value]], relevant: set[Value], node: Node, dxs: list[Value | None]
) -> None:
    # inputs from last to first, as nodes are: reversing a list later restores graph order
    for value, dx in reversed(list(zip(node.inputs, dxs, strict=True))):
        if dx is not None and value in relevant:
            found.setdefault(value, []).append(dx)


def _total(graph: Graph, contributions: list[Value], add: Op) -> Value | None:
    if not contributions:
        return None
    total, *rest = reversed(contributions)
    for dy in rest:
        total = graph.add(add, total, dy)
    return total
