"""conv -> relu  =>  conv(activation="relu"), for every op that can apply an activation as it stores."""

from __future__ import annotations

from dataclasses import fields, replace

from ..ir import Graph, Node

__all__ = ["fuse_activation", "fuse_activation_to_differentiate"]


def fuse_activation(graph: Graph) -> None:
    """Move an activation into the op whose first output it is of, where nobody else reads that."""
    _fuse(graph, graph.nodes)


def fuse_activation_to_differentiate(graph: Graph) -> None:
    """The same where gradients are still to be added, and can do without what would be lost."""
    _fuse(graph, [n for n in graph.nodes if n.op.from_output or _recomputes(n)])


def _recomputes(node: Node) -> bool:
    producer = node.inputs[0].node if node.inputs and node.inputs[0] is not None else None
    return producer is not None and producer.op.recomputes


def _fuse(graph: Graph, candidates: list[Node]) -> None:
    readers = graph.consumers()
    fused: set[Node] = set()
    for node in candidates:
        producer = node.inputs[0].node if node.inputs and node.inputs[0] is not None else None
        fusable = (
            producer is not None
            and node.op.epilogue is not None
            and _takes_activation(producer)
            and node.inputs[0] is producer.output
            and len(readers[node.inputs[0]]) == 1
            and node.inputs[0] not in graph.outputs
        )
        if fusable:
            producer.op = replace(producer.op, activation=node.op.epilogue)
            producer.outputs = (node.output, *producer.outputs[1:])
            node.output.node = producer
            fused.add(node)
    graph.nodes = [n for n in graph.nodes if n not in fused]


def _takes_activation(node: Node) -> bool:
    names = {f.name for f in fields(node.op)}
    return "activation" in names and node.op.activation is None
