"""A plan: one graph, one set of input shapes, one tier, as a flat program."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph.ir import Graph
from ..kernels.dispatch import Kernels
from .arena import merge_in_place, place
from .choices import Choice, Chooser
from .executor import Program
from .lower import Buffer, PlannedStep, lower
from .parts import Part
from .weights import Weights

__all__ = ["Plan"]

WEIGHT_KINDS = ("parameter", "state", "constant")
MOVING_KINDS = ("input", "output", "temporary")


class Plan:
    """The steps of a concrete graph, their memory laid out; immutable.

    ``frozen``: weights do not change between calls, so steps that read weights alone run once, when the
    plan is bound, and not in every call. ``parts`` (see `plan.parts`) cover the graph's nodes; by default
    it is one part. ``exact`` excludes transforms with a rounding error of their own. ``chooser`` answers
    what can be done in several ways, by default as shapes say; ``choices`` is what it was asked.
    """

    def __init__(
        self,
        graph: Graph,
        kernels: Kernels,
        *,
        purpose: str = "latency",
        frozen: bool = True,
        parts: Sequence[Part] = (),
        exact: bool = False,
        chooser: Chooser | None = None,
    ):
        self.graph, self.kernels, self.purpose = graph, kernels, purpose
        chooser = chooser or Chooser(graph)
        target, self._outputs = lower(graph, kernels, purpose, parts, exact, frozen, chooser)
        self.choices: tuple[Choice, ...] = tuple(chooser.choices)
        self._inputs = [target.read(v) for v in graph.inputs]
        self.prologue, self.steps = _hoist(target.steps) if frozen else ([], target.steps)
        for buffer in (b for step in self.prologue for b in step.writes):
            buffer.kind = "folded"
        self._home = merge_in_place(self.steps)
        body = [b for s in self.steps for b in (*s.reads, *s.writes) if b is not None]
        body = dict.fromkeys((*self._inputs, *self._outputs, *body))
        self.arena = place(self.steps, self._home)
        homes = dict.fromkeys(self._home.get(b, b) for b in body)
        self._number = {b: i for i, b in enumerate(homes, start=1)}

    def bind(self, weights: Weights) -> Program:
        """A program that reads ``weights``; its prologue has been run."""
        folded = self._fold(weights)
        fixed = {}
        for buffer, number in self._number.items():
            if buffer.kind == "folded":
                fixed[number] = folded[buffer]
            elif buffer.kind in WEIGHT_KINDS:
                fixed[number] = weights.array(buffer.value)
        return Program(
            [self._step(s) for s in self.steps],
            len(self._number) + 1,
            fixed,
            {self._number[b]: offset for b, offset in self.arena.offsets.items()},
            [(self._number[b], v.spec.shape, v.spec.dtype) for b, v in self._pairs("inputs")],
            [(self._number[b], v.spec.shape, v.spec.dtype) for b, v in self._pairs("outputs")],
            self.arena.nbytes,
            max((s.kernel.scratch for s in self.steps), default=0),
            self._passing(),
        )

    def explain(self) -> str:
        """The steps as text, one a line."""
        from .explain import explain

        return explain(self)

    def place_of(self, buffer: Buffer) -> str:
        """Where a buffer lives: an offset in the arena, or the kind of memory it is."""
        home = self._home.get(buffer, buffer)
        return f"@{self.arena.offsets[home]}" if home in self.arena.offsets else home.kind

    def _passing(self) -> dict[int, int]:
        """The bytes of every buffer that holds the whole batch though a part takes it in turns."""
        parts: dict[Buffer, set[int]] = {}
        for step in self.steps:
            for buffer in (*step.reads, *step.writes):
                if buffer is not None:
                    whole = self._home.get(buffer, buffer).whole
                    parts.setdefault(whole, set()).add(step.part)
        passing = {b for b, p in parts.items() if len(p) > 1 or b.kind in ("input", "output")}
        return {
            number: b.whole.nbytes
            for b, number in self._number.items()
            if b.kind in MOVING_KINDS and b.whole in passing
        }

    def _pairs(self, which: str) -> zip:
        buffers = self._inputs if which == "inputs" else self._outputs
        return zip(buffers, getattr(self.graph, which), strict=True)

    def _fold(self, weights: Weights) -> dict:
        keys = {}
        for step in self.prologue:
            for buffer in step.reads:
                if buffer is not None and buffer.kind in WEIGHT_KINDS and buffer not in keys:
                    keys[buffer] = (buffer.value.source or id(buffer.value.array),)
        wanted = dict.fromkeys(b for b in self._number if b.kind == "folded")
        return weights.folded(self.prologue, keys, wanted)

    def _operand(self, buffer: Buffer | None) -> int:
        return 0 if buffer is None else self._number[self._home.get(buffer, buffer)]

    def _step(self, step: PlannedStep) -> tuple:
        operands = tuple(self._operand(b) for b in (*step.reads, *step.writes))
        kernel = step.kernel
        return kernel.run, kernel.items, kernel.attributes, operands, step.shared, step.turns


def _hoist(steps: list[PlannedStep]) -> tuple[list[PlannedStep], list[PlannedStep]]:
    """Split off the steps that depend on weights alone."""
    known: set[Buffer] = set()
    prologue, body = [], []
    for step in steps:
        reads = [b for b in step.reads if b is not None]
        if (
            reads
            and all(b.kind in WEIGHT_KINDS or b in known for b in reads)
            and all(b.kind == "temporary" for b in step.writes)
        ):
            known.update(step.writes)
            prologue.append(step)
        else:
            body.append(step)
    return prologue, body
