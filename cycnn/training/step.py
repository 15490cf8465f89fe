"""A training step as two programs: accumulate (forward, loss, backward) and apply (the update).

All trained weights of a model are one contiguous block, and so are their gradients and every slot of the
optimizer. *Accumulate* adds the gradients of one batch into theirs; *apply* updates all weights and sets
the gradients back to zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..graph.build import build
from ..graph.gradient import backward
from ..graph.ir import Graph, Value
from ..graph.passes import BEFORE_GRADIENT, rewrite
from ..kernels.dispatch import Kernels
from ..layers.base import Block, Parameter
from ..ops.pointwise import AccumulateGradient, Add, Assign
from ..plan.arrays import empty
from ..plan.cache import LRU
from ..plan.exact import is_exact
from ..plan.executor import Program
from ..plan.plan import Plan
from ..plan.weights import Weights
from .losses import Loss
from .memory import Memory
from .optimizers import Optimizer

__all__ = ["TrainingStep"]

FLOATS_PER_LINE = 16


@dataclass(eq=False)
class Slot:
    """State of training: a named float32 array that programs read and write."""

    name: str
    value: np.ndarray
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


class Storage:
    """Parameters that live in one block of memory, each from a cache line on."""

    def __init__(self, parameters: Sequence[Parameter]):
        self.parameters = list(parameters)
        self._offsets, self._size = [], 0
        for parameter in self.parameters:
            self._offsets.append(self._size)
            lines = (parameter.size + FLOATS_PER_LINE - 1) // FLOATS_PER_LINE
            self._size += lines * FLOATS_PER_LINE
        self.block = Block(self.zeros())
        self.gather()

    def zeros(self) -> np.ndarray:
        """Another array of the block's size."""
        array = empty((self._size,))
        array[...] = 0
        return array

    def gather(self) -> None:
        """Take in the parameters; again those that the step of another model, sharing layers, moved."""
        for parameter, offset in zip(self.parameters, self._offsets, strict=True):
            if parameter.block is not self.block:
                parameter.move(self.block, offset)

    def slots(self, of: Slot) -> dict[Parameter, Slot]:
        """The part of ``of``, an array like the block, that belongs to each parameter."""
        return {
            p: Slot(f"{p.name}_{of.name}", of.value[o : o + p.size].reshape(p.shape))
            for p, o in zip(self.parameters, self._offsets, strict=True)
        }


class TrainingStep:
    """The programs that train one network, and the memory they share.

    ``inputs``, ``outputs``: the network's symbolic tensors (one output). Making a step moves the
    ``parameters`` into two blocks: those that are trained, and those that are not (moving statistics).
    *Accumulate* updates the latter beside the model, and *apply* puts them there: until a step is done,
    the model has those of the step before.
    """

    def __init__(
        self,
        inputs: Sequence,
        outputs: Sequence,
        parameters: Sequence[Parameter],
        loss: Loss,
        optimizer: Optimizer,
        kernels: Kernels,
    ):
        self._tensors = inputs, outputs
        self._loss, self._kernels = loss, kernels
        self.optimizer = optimizer
        self.parameters = list(parameters)
        self._lay_out()
        self.plans: LRU[tuple, tuple[Plan, Program]] = LRU(limit=8)
        self._apply = self._apply_program()
        self.steps = 0

    def _lay_out(self) -> None:
        """Gradients and slots beside what is trained; beside the rest, what it will be after the step."""
        self._trained = Storage([p for p in self.parameters if p.trainable])
        self._kept = Storage([p for p in self.parameters if not p.trainable])
        self._weights = Slot("weights", self._trained.block.array)
        self._gradients = Slot("gradients", self._trained.zeros())
        self._slots = [Slot(name, self._trained.zeros()) for name in self.optimizer.slots]
        self._gradient_of = self._trained.slots(self._gradients)
        self._state = Slot("state", self._kept.block.array)
        self._next_state = Slot("next_state", self._kept.zeros())
        self._begun = False
        self._live = Weights(frozen=False, instead=self._kept.slots(self._next_state))

    def graph(self, shapes: list[tuple[int, ...]]) -> Graph:
        """The accumulate graph for inputs of these shapes: outputs are the loss and the predictions."""
        symbolic = build(*self._tensors, training=True)
        graph = symbolic.specialise(shapes)
        prediction = graph.outputs[0]
        loss = self._loss.add(graph, prediction)
        graph.outputs = [loss, prediction]
        rewrite(graph, passes=BEFORE_GRADIENT)
        self._append_backward(graph, loss)
        return rewrite(graph)

    def _append_backward(self, graph: Graph, loss: Value) -> None:
        trained = {v: v.source for v in graph.parameters() if v.source in self._gradient_of}
        for value, contributions in backward(graph, loss, trained, Add()).items():
            into = graph.parameter(self._gradient_of[trained[value]], "state")
            for dw in contributions:
                graph.add(AccumulateGradient(), dw, into)

    def plan(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[Plan, Program]:
        """The accumulate plan for inputs of these shapes, and its program."""
        key = shapes, is_exact()
        found = self.plans.get(key)
        if found is None:
            graph = self.graph(list(shapes))
            plan = Plan(graph, self._kernels, purpose="throughput", frozen=False, exact=is_exact())
            found = plan, plan.bind(self._live)
            self.plans.put(key, found)
        return found

    def _apply_program(self) -> Program:
        graph = Graph()
        w, g = graph.parameter(self._weights, "state"), graph.parameter(self._gradients, "state")
        slots = [graph.parameter(slot, "state") for slot in self._slots]
        self.optimizer.update(graph, w, g, slots, graph.scalar("learning_rate", (1,)))
        if self._kept.parameters:
            state = [graph.parameter(s, "state") for s in (self._next_state, self._state)]
            graph.add(Assign(), *state)
        return Plan(graph, self._kernels, frozen=False).bind(self._live)

    def accumulate(
        self,
        inputs: Sequence[np.ndarray],
        targets: np.ndarray,
        *,
        scale: float,
        seed: int,
        threads: int,
    ) -> tuple[float, np.ndarray]:
        """Add the gradients of ``scale`` times the summed loss; return that loss and the predictions."""
        self._begin()
        plan, program = self.plan(tuple(a.shape for a in inputs))
        scalars = {
            "$targets": targets,
            "$scale": np.array([scale], np.float32),
            "$seed": np.array([seed, self.steps], np.uint64),
        }
        named = [scalars[v.name] for v in plan.graph.inputs[len(inputs) :]]
        loss, predictions = program.empty_outputs()
        program.run([*inputs, *named], [loss, predictions], threads)
        return float(loss[0]), predictions

    def _begin(self) -> None:
        """Start from the model as it is: its weights may have been set, or trained by another step."""
        self._trained.gather()
        self._kept.gather()
        if not self._begun:
            self._next_state.value[...] = self._state.value
            self._begun = True

    def apply(self, *, threads: int) -> None:
        """Update the weights from the gradients, set those to zero, and take over the new state."""
        self._begin()
        rate = np.array([self.optimizer.learning_rate], np.float32)
        for storage in (self._trained, self._kept):  # before: an interrupt afterwards is not missed
            storage.block.version += 1
        self._apply.run([rate], [], threads)
        self.steps += 1
        self._begun = False

    def memory(self, shapes: tuple[tuple[int, ...], ...], threads: int) -> Memory:
        """What a step on inputs of these shapes needs, before one is made."""
        plan, program = self.plan(shapes)
        moving = (*plan.graph.inputs, *plan.graph.outputs)
        return Memory(
            weights=self._weights.value.nbytes + 2 * self._state.value.nbytes,
            gradients=self._gradients.value.nbytes,
            slots=sum(slot.value.nbytes for slot in self._slots),
            workspace=max(p.workspace_bytes(threads) for p in (program, self._apply)),
            batch=sum(v.spec.nbytes for v in moving),
        )

    def discard(self) -> None:
        """Forget the gradients and the state of a step that was interrupted."""
        self._gradients.value[...] = 0
        self._begun = False

    def gradient(self, parameter: Parameter) -> np.ndarray:
        """The accumulated gradient of ``parameter``: a live view."""
        return self._gradient_of[parameter].value
