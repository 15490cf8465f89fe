"""The table that `Model.summary` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .geometry import ReceptiveField
from .graph.build import build, in_call_order
from .graph.ir import Graph
from .layers.base import Tensor

if TYPE_CHECKING:
    from .model import Model

__all__ = ["multiply_adds", "receptive_fields", "summary"]

HEAD = ("layer", "output", "weights", "field", "multiply-adds", "activation bytes")
Field = ReceptiveField | None


def summary(model: Model) -> str:
    """One line a layer: output shape, weights, receptive field, multiply-adds, bytes, for one sample.

    A dim that is not known is written "any", and so is what depends on it.
    """
    tensors = in_call_order(model.outputs)
    fields = receptive_fields(tensors)
    counts = multiply_adds(model)
    rows, seen = [HEAD], set()
    for tensor in tensors:
        name = tensor.layer.name if tensor.layer else tensor.name
        first = tensor.layer is not None and tensor.layer not in seen  # of a layer used twice
        seen.add(tensor.layer)
        weights = tensor.layer.count_params() if first else 0
        macs = (counts.get(name, 0) if first else 0) if counts is not None else None
        known = None not in tensor.shape[1:]
        nbytes = 4 * _product(tensor.shape[1:]) if known else None
        shape = " x ".join("any" if d is None else str(d) for d in tensor.shape[1:])
        rows.append(
            (name, shape, _count(weights), _spell(fields[tensor]), _count(macs), _count(nbytes))
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = ["  ".join(_align(row, widths)) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    total = None if counts is None else sum(counts.values())
    lines.append("-" * len(lines[0]))
    trainable = sum(p.size for p in model.parameters if p.trainable)
    weights = f"{model.count_params():,} weights"
    if rest := model.count_params() - trainable:
        weights += f" ({trainable:,} trainable, {rest:,} non-trainable)"
    lines.append(f"{weights}, {_count(total)} multiply-adds an image")
    return "\n".join(lines)


def receptive_fields(tensors: list[Tensor]) -> dict[Tensor, Field]:
    """The receptive field of each tensor, given in call order; None where it is the whole input."""
    fields: dict[Tensor, Field] = {}
    for tensor in tensors:
        sources = [fields[t] for t in tensor.inputs]
        if tensor.layer is None:
            fields[tensor] = ReceptiveField() if len(tensor.shape) == 4 else None
        elif None in sources or len(tensor.shape) != 4:
            fields[tensor] = None
        else:
            field = sources[0]
            for other in sources[1:]:
                field = field.union(other)
            window = tensor.layer.window
            size = tensor.inputs[0].shape[1:3]
            if window is not None:
                field = field.through(window, size)
            elif tensor.shape[1:3] != size:  # of a whole image, and kept as an image of one pixel
                field = None
            fields[tensor] = field
    return fields


def multiply_adds(model: Model) -> dict[str, int] | None:
    """Multiply-adds with filters and matrices of weights, layer by layer, for one image.

    What is done element by element (batch normalization) is not counted. None where a size is not known.
    """
    shapes = [(1, *t.shape[1:]) for t in model.inputs]
    if any(None in shape for shape in shapes):
        return None
    graph: Graph = build(model.inputs, model.outputs, training=False).specialise(shapes)
    counts: dict[str, int] = {}
    for node in graph.nodes:
        if any(v is not None and v.kind == "parameter" and v.spec.rank > 1 for v in node.inputs):
            cost = node.op.cost(*(None if v is None else v.spec for v in node.inputs))
            counts[node.label] = counts.get(node.label, 0) + cost.flops // 2
    return counts


def _product(dims: tuple[int, ...]) -> int:
    product = 1
    for d in dims:
        product *= d
    return product


def _count(n: int | None) -> str:
    return "any" if n is None else f"{n:,}"


def _spell(field: Field) -> str:
    return "all" if field is None else " x ".join(map(str, field.size))


def _align(row: tuple[str, ...], widths: list[int]) -> list[str]:
    left = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
    return left + [cell.rjust(w) for cell, w in zip(row[2:], widths[2:], strict=True)]
