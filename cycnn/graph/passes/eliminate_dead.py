"""Drop nodes whose results nobody reads and that update no state."""

from __future__ import annotations

from ..ir import Graph, Node

__all__ = ["eliminate_dead"]


def eliminate_dead(graph: Graph) -> None:
    """Keep what the outputs and the state updates need, e.g. no gradient of the network's input."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.op.updates_state or any(v in needed for v in node.outputs):
            kept.append(node)
            needed.update(v for v in node.inputs if v is not None)
    graph.nodes = kept[::-1]
