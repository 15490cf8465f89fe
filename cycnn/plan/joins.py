"""Which values can be made in place, as some of the channels of the concatenation they go into.

A concatenation copies only what nobody could write there: an op whose kernels take a step from pixel
to pixel writes its result between the channels of others, and ops that take one read it there.
"""

from __future__ import annotations

from typing import NamedTuple

from ..graph.ir import Graph, Node, Value

__all__ = ["Place", "places"]


class Place(NamedTuple):
    """Channels from ``offset`` on of ``root``, whose pixels lie ``step`` floats apart."""

    root: Value
    offset: int
    step: int


def places(graph: Graph) -> dict[Value, Place]:
    """The place of every value that is made inside a concatenation's result.

    From the last concatenation to the first: one that goes into another whole is a place itself.
    """
    readers = graph.consumers()
    found: dict[Value, Place] = {}
    for node in reversed(graph.nodes):
        if not node.op.joins or node.output in graph.outputs:
            continue
        root, offset, step = found.get(
            node.output, Place(node.output, 0, node.output.spec.shape[-1])
        )
        for value in node.inputs:
            if value not in found and _can_lie_apart(value, node, readers, graph):
                found[value] = Place(root, offset, step)
            offset += value.spec.shape[-1]
    return found


def _can_lie_apart(
    value: Value, join: Node, readers: dict[Value, list[Node]], graph: Graph
) -> bool:
    """Whether all who write and read ``value`` can do it where its pixels lie apart."""
    return (
        value.kind == "temporary"
        and value not in graph.outputs
        and join.inputs.count(value) == 1
        and all(node.op.takes_step(node, value) for node in (value.node, *readers[value]))
    )
