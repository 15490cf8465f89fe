"""add(conv(x), r)  =>  conv(x, residual=r), for every op that can add a tensor as it stores."""

from __future__ import annotations

from ..ir import Graph, Node, Value

__all__ = ["fuse_residual"]


def fuse_residual(graph: Graph) -> None:
    """Let the op that is computed last of a sum's two terms add the other one."""
    readers = graph.consumers()
    order = {node: i for i, node in enumerate(graph.nodes)}
    kept: list[Node] = []
    for node in graph.nodes:
        producer = _last_producer(node, order) if node.op.sums else None
        term = producer.output if producer else None
        if term is None or len(readers[term]) > 1 or term in graph.outputs:
            kept.append(node)
            continue
        (residual,) = (v for v in node.inputs if v is not term)
        producer.inputs = (*producer.inputs, *(None,) * (3 - len(producer.inputs)), residual)
        producer.outputs = node.outputs
        for value in node.outputs:
            value.node = producer
    graph.nodes = kept


def _last_producer(node: Node, order: dict[Node, int]) -> Node | None:
    """What makes the later of the node's two inputs, if it can add the other one."""

    def made(value: Value) -> int:
        return -1 if value.node is None else order[value.node]

    first, last = sorted(node.inputs, key=made)
    producer = last.node
    good = producer is not None and first is not last and producer.op.takes_residual
    return producer if good and len(producer.inputs) < 4 else None
