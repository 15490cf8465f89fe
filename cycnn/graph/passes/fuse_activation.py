"""conv -> relu  =>  conv(activation="relu"), for every op that can apply an activation as it stores."""

from __future__ import annotations

from dataclasses import fields, replace

from ..ir import Graph, Node

__all__ = ["fuse_activation"]


def fuse_activation(graph: Graph) -> None:
    """Move an activation into the op whose first output it is of, where nobody else reads that."""
    readers = graph.consumers()
    kept: list[Node] = []
    for node in graph.nodes:
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
        else:
            kept.append(node)
    graph.nodes = kept


def _takes_activation(node: Node) -> bool:
    names = {f.name for f in fields(node.op)}
    return "activation" in names and node.op.activation is None
