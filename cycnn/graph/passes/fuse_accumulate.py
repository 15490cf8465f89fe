"""into += op(...)  =>  op(..., into) with accumulate=True, for ops that can add to what is there."""

from __future__ import annotations

from dataclasses import fields, replace

from ..ir import Graph, Node

__all__ = ["fuse_accumulate"]


def fuse_accumulate(graph: Graph) -> None:
    """Let a gradient be added to its place in the gradient block by the kernel that computes it."""
    readers = graph.consumers()
    moved: dict[Node, Node] = {}
    for node in graph.nodes:
        producer = node.inputs[0].node if node.op.accumulates and node.inputs[0] else None
        if (
            producer is not None
            and any(f.name == "accumulate" for f in fields(producer.op))
            and len(producer.outputs) == 1
            and len(readers[producer.output]) == 1
            and producer.output not in graph.outputs
        ):
            moved[node] = producer
    for node, producer in moved.items():
        producer.op = replace(producer.op, accumulate=True)
        producer.inputs = (*producer.inputs, node.inputs[1])
        producer.outputs = node.outputs
        for value in node.outputs:
            value.node = producer
    graph.nodes = [n for n in graph.nodes if n not in moved]
