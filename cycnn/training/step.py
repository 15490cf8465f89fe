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
from ..graph.passes import rewrite
from ..kernels.dispatch import Kernels
from ..layers.base import Block, Parameter
from ..ops.pointwise import AccumulateGradient, Add
from ..plan.cache import LRU
from ..plan.executor import Program
from ..plan.plan import Plan
from ..plan.weights import Weights, aligned_empty
from .losses import Loss
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


class TrainingStep:
    """The programs that train one network, and the memory they share.

    ``inputs``, ``outputs``: the network's symbolic tensors (one output). Making a step moves the
    ``parameters`` into one block.
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
        self._live = Weights(frozen=False)
        self._lay_out()
        self.plans: LRU[tuple, tuple[Plan, Program]] = LRU(limit=8)
        self._apply = self._apply_program()
        self.steps = 0

    def _lay_out(self) -> None:
        offsets, size = [], 0
        for parameter in self.parameters:
            offsets.append(size)
            lines = (parameter.size + FLOATS_PER_LINE - 1) // FLOATS_PER_LINE
            size += lines * FLOATS_PER_LINE
        self.block, self._offsets = Block(self._zeros(size)), offsets
        for parameter, offset in zip(self.parameters, offsets, strict=True):
            parameter.move(self.block, offset)
        self._weights = Slot("weights", self.block.array)
        self._gradients = Slot("gradients", self._zeros(size))
        self._slots = [Slot(name, self._zeros(size)) for name in self.optimizer.slots]
        self._gradient_of = {
            p: Slot(f"{p.name}_gradient", self._gradients.value[o : o + p.size].reshape(p.shape))
            for p, o in zip(self.parameters, offsets, strict=True)
        }

    @staticmethod
    def _zeros(size: int) -> np.ndarray:
        array = aligned_empty(4 * size).view(np.float32)
        array[...] = 0
        return array

    def graph(self, shapes: list[tuple[int, ...]]) -> Graph:
        """The accumulate graph for inputs of these shapes: outputs are the loss and the predictions."""
        symbolic = build(*self._tensors, training=True)
        graph = symbolic.specialise(shapes)
        prediction = graph.outputs[0]
        loss = self._loss.add(graph, prediction)
        graph.outputs = [loss, prediction]
        rewrite(graph)
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
        found = self.plans.get(shapes)
        if found is None:
            graph = self.graph(list(shapes))
            plan = Plan(graph, self._kernels, purpose="throughput", frozen=False)
            found = plan, plan.bind(self._live)
            self.plans.put(shapes, found)
        return found

    def _apply_program(self) -> Program:
        graph = Graph()
        w, g = graph.parameter(self._weights, "state"), graph.parameter(self._gradients, "state")
        slots = [graph.parameter(slot, "state") for slot in self._slots]
        self.optimizer.update(graph, w, g, slots, graph.scalar("learning_rate", (1,)))
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
        self._gather()
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

    def _gather(self) -> None:
        """Take back parameters that the step of another model, which shares layers, has moved."""
        for parameter, offset in zip(self.parameters, self._offsets, strict=True):
            if parameter.block is not self.block:
                parameter.move(self.block, offset)

    def apply(self, *, threads: int) -> None:
        """Update the weights from the gradients, and set those to zero."""
        rate = np.array([self.optimizer.learning_rate], np.float32)
        self.block.version += 1  # before, so that an interrupt after the update is not missed
        self._apply.run([rate], [], threads)
        self.steps += 1

    def discard(self) -> None:
        """Forget the gradients of a step that was interrupted."""
        self._gradients.value[...] = 0

    def gradient(self, parameter: Parameter) -> np.ndarray:
        """The accumulated gradient of ``parameter``: a live view."""
        return self._gradient_of[parameter].value
