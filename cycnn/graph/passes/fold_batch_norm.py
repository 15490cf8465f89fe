"""batch_norm(conv(x, w, b))  =>  conv(x, w', b'), for every op that is linear in its weights."""

from __future__ import annotations

from ..ir import Graph, Node, Value

__all__ = ["fold_batch_norm"]


def fold_batch_norm(graph: Graph) -> None:
    """Work a scale and shift of every channel into the weights and bias of the op that feeds it.

    That is arithmetic on weights alone, done when a plan is bound to them and not in every call. By the
    batch's own statistics, as in training, it cannot be done.
    """
    readers = graph.consumers()
    nodes, graph.nodes = graph.nodes, []
    kept: list[Node] = []
    for node in nodes:
        producer = _linear_producer(node, readers)
        if producer is None or producer.output in graph.outputs:
            kept.append(node)
            continue
        x, w, b = (*producer.inputs, None)[:3]
        graph.label = node.label
        producer.inputs = (x, *node.op.fold(graph, node, w, b))
        kept[kept.index(producer) : kept.index(producer)] = graph.nodes
        graph.nodes = []
        producer.outputs = node.outputs
        node.output.node = producer
    graph.nodes = kept


def _linear_producer(node: Node, readers: dict[Value, list[Node]]) -> Node | None:
    """What makes the first input of an op that folds, if its only reader may change its weights."""
    if not node.op.folds or node.inputs[0] is None or node.inputs[0].node is None:
        return None
    producer = node.inputs[0].node
    alone = len(readers[node.inputs[0]]) == 1 and len(producer.inputs) < 4
    return producer if alone and producer.op.linear else None
