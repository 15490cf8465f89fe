"""Lowering: from a concrete graph to a flat list of kernel calls over buffers.

Each op's ``lower(node, target)`` calls the methods of `Target`; what comes out is laid out in one arena
by `plan.arena` and run by `plan.executor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..graph.ir import Graph, Node, Value
from ..kernels.dispatch import Kernels
from ..ops.base import Cost
from .choices import Chooser, Option
from .joins import Place, places
from .parts import Part

__all__ = ["PARALLEL_FROM", "Buffer", "Kernel", "PlannedStep", "Target", "lower"]

# A parallel region costs about a microsecond when the workers spin and some ten when they have to be
# woken; below this much work on one core a step runs serially.
PARALLEL_FROM = 12e-6
IN_CACHE = 2**20  # bytes that are still near when a step reads what the one before it wrote


class Kernel(NamedTuple):
    """What a kernel module's function returns: one kernel for one shape."""

    name: str
    run: object
    items: int
    scratch: int
    attributes: bytes


@dataclass(eq=False)
class Buffer:
    """A piece of memory that steps read and write.

    ``kind`` is that of the graph's values; "temporary" ones get an offset in the arena, all others an
    address when the plan is bound or called. A buffer may lie ``within`` another one, ``offset`` bytes
    from its beginning.
    """

    nbytes: int
    kind: str = "temporary"
    value: Value | None = None
    within: Buffer | None = None
    offset: int = 0

    @property
    def whole(self) -> Buffer:
        """What it lies within, or itself."""
        return self.within or self


@dataclass(eq=False)
class PlannedStep:
    """One kernel call. Operands are the buffers read, then those written; None is absent.

    A step of a part that takes the batch in ``turns`` is for the images of one of them.
    """

    kernel: Kernel
    reads: tuple[Buffer | None, ...]
    writes: tuple[Buffer, ...]
    cost: Cost
    node: Node | None = None
    in_place: tuple[int, int] | None = None
    part: int = 0
    turns: int = 1

    @property
    def seconds(self) -> float:
        """A rough time on one core, to tell work worth sharing from work that is not."""
        bandwidth = 100e9 if self.cost.nbytes < IN_CACHE else 25e9
        return self.cost.flops / 100e9 + self.cost.nbytes / bandwidth

    @property
    def shared(self) -> bool:
        """Whether the threads share its items."""
        return self.kernel.items > 1 and self.seconds > PARALLEL_FROM


@dataclass(eq=False)
class Target:
    """What an op sees of the machine while it is lowered.

    ``kernels`` are the modules of one tier, ``purpose`` is "latency" or "throughput"; ``exact`` excludes
    algorithms with a rounding error of their own; ``frozen`` weights do not change between calls.
    """

    kernels: Kernels
    chooser: Chooser
    purpose: str = "latency"
    exact: bool = False
    frozen: bool = True
    steps: list[PlannedStep] = field(default_factory=list)
    _buffers: dict[Value, Buffer] = field(default_factory=dict)
    _places: dict[Value, Place] = field(default_factory=dict)
    _node: Node | None = None
    _part: int = 0
    _turns: int = 1

    def read(self, value: Value | None) -> Buffer | None:
        """The buffer of a value; None for an absent one."""
        if value is None:
            return None
        if value not in self._buffers:
            buffer = Buffer(value.spec.nbytes, value.kind, value)
            if value in self._places:
                root, offset, _ = self._places[value]
                buffer.within, buffer.offset = self.read(root), 4 * offset
            self._buffers[value] = buffer
        return self._buffers[value]

    def step(self, value: Value) -> int:
        """Floats from a pixel of ``value`` to the next: its channels, or more where it lies apart.

        To be heeded by ops whose `Op.takes_step` says so; no other sees a value that lies apart.
        """
        return self._places[value].step if value in self._places else value.spec.shape[-1]

    def is_inside(self, value: Value, whole: Value, offset: int) -> bool:
        """Whether ``value`` is made in its place: channels ``offset`` and on of ``whole``."""
        root, begin, step = self._places.get(whole, (whole, 0, self.step(whole)))
        return self._places.get(value) == (root, begin + offset, step)

    def reads(self, node: Node) -> list[Buffer | None]:
        """The buffers of the node's inputs."""
        return [self.read(v) for v in node.inputs]

    def writes(self, node: Node) -> list[Buffer]:
        """The buffers of the node's outputs."""
        return [self.read(v) for v in node.outputs]

    def choose(
        self,
        name: str,
        problem: object,
        options: tuple[Option, ...],
        default: Option,
        *,
        same_bits: bool = True,
    ) -> Option:
        """One of ``options`` for ``problem``: what was chosen for it by measuring, or ``default``.

        ``problem`` has a `repr` that says all that matters. Options that do not give the same bits must
        say so, and then the problem has no batch: a sample's result is the same in any.
        """
        return self.chooser.choose(
            name, problem, options, default, node=self._node, same_bits=same_bits
        )

    def is_live(self, w: Buffer) -> bool:
        """Whether weights may be others in the next call: what is made of them is made every time."""
        return w.kind == "input" or not self.frozen

    def temporary(self, nbytes: int) -> Buffer:
        """Memory between two steps of one lowering, e.g. packed weights or partial sums."""
        return Buffer(max(int(nbytes), 4))

    def alias(self, value: Value, of: Value) -> None:
        """``value`` is ``of`` seen in another shape: no step, no memory.

        But a copy where one of them passes from part to part of the plan and the other does not.
        """
        buffer = self._buffers.setdefault(value, self.read(of))
        if buffer is not self.read(of):
            self._copy(self.read(of), buffer, value.spec.nbytes)

    def _copy(self, source: Buffer, to: Buffer, nbytes: int) -> None:
        size = nbytes // np.dtype("float32").itemsize
        self.emit(self.kernels.pointwise.copy(size), [source], [to], cost=Cost(0, 2 * nbytes))

    def emit(
        self,
        kernel: tuple,
        reads: Sequence[Buffer | None],
        writes: Sequence[Buffer],
        *,
        in_place: tuple[int, int] | None = None,
        cost: Cost | None = None,
    ) -> None:
        """Append a kernel call.

        ``in_place=(i, j)``: the kernel allows ``writes[j]`` to be the same memory as ``reads[i]``.
        ``cost`` is the node's unless given; it decides what runs serially.
        """
        node = self._node
        cost = cost or node.op.cost(*(None if v is None else v.spec for v in node.inputs))
        self.steps.append(
            PlannedStep(
                Kernel(*kernel),
                tuple(reads),
                tuple(writes),
                cost,
                node,
                in_place,
                self._part,
                self._turns,
            )
        )

    def lower_part(self, number: int, part: Part, whole: Graph, shared: set[Value]) -> None:
        """Lower the nodes of a part; a value that it shares has one buffer for the whole batch."""
        self._part, self._turns = number, part.turns
        if part.graph is not whole:
            inside = dict(zip(_values(whole), _values(part.graph), strict=True))
            self._places.update(
                (inside[v], p._replace(root=inside[p.root]))
                for v, p in list(self._places.items())
                if v in inside
            )
            self._buffers.update((inside[v], self.read(v)) for v in shared)
        for node in part.graph.nodes[part.first : part.last]:
            self._node = node
            node.op.lower(node, self)
        self._node, self._part, self._turns = None, number + 1, 1


def _values(graph: Graph) -> list[Value]:
    return [*graph.inputs, *(v for node in graph.nodes for v in node.outputs)]


def _shared(graph: Graph, parts: Sequence[Part], places: dict[Value, Place]) -> set[Value]:
    """The values that come in, go out, or are made in one part and read in another; and what they lie
    within, with all else that does."""
    home = {}
    for number, part in enumerate(parts):
        for node in graph.nodes[part.first : part.last]:
            home.update((v, number) for v in node.outputs)
    shared = {*graph.inputs, *graph.outputs}
    for number, part in enumerate(parts):
        for node in graph.nodes[part.first : part.last]:
            shared.update(v for v in node.inputs if home.get(v, number) != number)
    shared.update(p.root for v, p in places.items() if v in shared)
    shared.update(v for v, p in places.items() if p.root in shared)
    return shared


def lower(
    graph: Graph,
    kernels: Kernels,
    purpose: str = "latency",
    parts: Sequence[Part] = (),
    exact: bool = False,
    frozen: bool = True,
    chooser: Chooser | None = None,
) -> tuple[Target, list[Buffer]]:
    """Lower every node; return the target and the buffer of each graph output.

    ``parts`` cover the nodes; by default the graph is one part. Every output gets memory of its own:
    one that is another value seen again (an input handed through, a reshape, the same output twice) is
    copied.
    """
    chooser = chooser or Chooser(graph)
    target = Target(kernels, chooser, purpose, exact, frozen, _places=places(graph))
    parts = parts or [Part(graph, 0, len(graph.nodes))]
    shared = _shared(graph, parts, target._places)
    for number, part in enumerate(parts):
        target.lower_part(number, part, graph, shared)
    outputs: list[Buffer] = []
    roots = {b.within for b in target._buffers.values()}
    for value in graph.outputs:
        buffer = target.read(value)
        if buffer.kind == "temporary" and buffer not in outputs and buffer not in roots:
            buffer.kind = "output"
        else:
            source, buffer = buffer, Buffer(buffer.nbytes, "output", value)
            target._copy(source, buffer, source.nbytes)
        outputs.append(buffer)
    return target, outputs
