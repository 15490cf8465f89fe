"""The graph: a list of nodes over values, in an order in which it can be executed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..ops.base import Op, Spec

__all__ = ["Graph", "Node", "Value"]


@dataclass(eq=False)
class Value:
    """One tensor of the graph.

    ``kind`` is "input" (given by the caller), "parameter" (trained), "state" (kept between calls and
    written by nodes that say so), "constant" (known now, in ``array``) or "temporary".
    ``source`` is what a parameter or state value stands for: the object that owns its storage.
    """

    name: str
    spec: Spec
    kind: str = "temporary"
    node: Node | None = None
    source: object = None
    array: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"{self.name}:{'x'.join(map(str, self.spec.shape))}"


@dataclass(eq=False)
class Node:
    """One op applied to values. An absent optional input is None."""

    op: Op
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    label: str = ""

    @property
    def output(self) -> Value:
        return self.outputs[0]

    def __repr__(self) -> str:
        outs = ", ".join(map(repr, self.outputs))
        ins = ", ".join("-" if v is None else v.name for v in self.inputs)
        return f"{outs} = {self.op.name}({ins})"


@dataclass(eq=False)
class Graph:
    """Nodes in order of execution, with the values that come in and go out."""

    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    label: str = ""
    _sources: dict[int, Value] = field(default_factory=dict, repr=False)
    _count: int = 0

    def input(self, shape: Iterable[int | None], dtype: str = "float32", name: str = "x") -> Value:
        """A value that the caller gives at every run."""
        value = Value(name, Spec(tuple(shape), dtype), "input")
        self.inputs.append(value)
        return value

    def scalar(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> Value:
        """A run-time scalar (learning rate, seed, loss scale): one input for all that ask by name."""
        for value in self.inputs:
            if value.name == f"${name}":
                return value
        return self.input(shape, dtype, f"${name}")

    def parameter(self, source: object, kind: str = "parameter") -> Value:
        """The value of ``source`` (it has ``name``, ``shape``, ``dtype``); the same one every time."""
        if id(source) not in self._sources:
            spec = Spec(tuple(source.shape), source.dtype)
            self._sources[id(source)] = Value(source.name, spec, kind, source=source)
        return self._sources[id(source)]

    def constant(self, array: np.ndarray, name: str = "constant") -> Value:
        """A value that is known now."""
        return Value(name, Spec(array.shape, str(array.dtype)), "constant", array=array)

    def add(self, op: Op, *inputs: Value | None) -> Value | tuple[Value, ...]:
        """Append a node and return its output, or outputs where the op has several.

        Raises what ``op.infer`` raises when the inputs do not fit.
        """
        specs = op.infer(*(None if v is None else v.spec for v in inputs))
        single = isinstance(specs, Spec)
        node = Node(op, inputs, (), self.label)
        node.outputs = tuple(
            Value(f"{op.name.lower()}_{self._next()}", s, node=node)
            for s in ((specs,) if single else specs)
        )
        self.nodes.append(node)
        return node.output if single else node.outputs

    def _next(self) -> int:
        self._count += 1
        return self._count

    def parameters(self, kind: str = "parameter") -> list[Value]:
        """The values of that kind, in the order in which they were first used."""
        return [v for v in self._sources.values() if v.kind == kind]

    def specialise(self, shapes: list[tuple[int, ...]]) -> Graph:
        """This graph with inputs of the given concrete ``shapes``, everything inferred anew.

        Inputs beyond those given keep their shapes: run-time scalars have concrete ones.
        """
        graph = Graph()
        new: dict[Value | None, Value | None] = {None: None}
        for i, value in enumerate(self.inputs):
            shape = shapes[i] if i < len(shapes) else value.spec.shape
            new[value] = graph.input(shape, value.spec.dtype, value.name)
        for value in self._sources.values():
            new[value] = graph.parameter(value.source, value.kind)
        for node in self.nodes:
            graph.label = node.label
            for value in node.inputs:
                if value not in new:
                    new[value] = value  # a constant: shared, it never changes
            outputs = graph.add(node.op, *(new[v] for v in node.inputs))
            outputs = (outputs,) if isinstance(outputs, Value) else outputs
            new.update(zip(node.outputs, outputs, strict=True))
        graph.outputs = [new[v] for v in self.outputs]
        return graph

    def consumers(self) -> dict[Value, list[Node]]:
        """For each value, the nodes that read it."""
        readers: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                if value is not None:
                    readers.setdefault(value, []).append(node)
        return readers

    def check(self) -> None:
        """Assert that every value is made before it is read and that inference still agrees."""
        made: set[Value] = set(self.inputs) | set(self._sources.values())
        for node in self.nodes:
            for value in node.inputs:
                assert value is None or value.kind == "constant" or value in made, (node, value)
            made.update(node.outputs)
            specs = node.op.infer(*(None if v is None else v.spec for v in node.inputs))
            specs = (specs,) if isinstance(specs, Spec) else specs
            assert [v.spec for v in node.outputs] == list(specs), node
        for value in self.outputs:
            assert value in made or value.kind == "constant", value
