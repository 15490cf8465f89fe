"""Inference: plans of one network, bound to frozen weights."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from . import threads as thread_budget
from .arrays import as_inputs
from .errors import ArgumentError, DTypeError
from .graph.build import build
from .graph.ir import Value
from .graph.passes import rewrite
from .kernels.dispatch import Kernels
from .layers.base import Tensor
from .locks import Lock
from .plan.arrays import empty_result
from .plan.cache import LRU
from .plan.choices import UNTUNED, Chooser, Chosen
from .plan.exact import is_exact
from .plan.executor import Program
from .plan.parts import chosen_cut
from .plan.plan import Plan
from .plan.weights import Weights
from .training.memory import Memory
from .tuning import Tuning, tune

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Inference", "Session"]

PURPOSES = ("latency", "throughput")
SHAPES_REMEMBERED = 8  # for which a session's call goes straight to the program
Shapes = tuple[tuple[int, ...], ...]


class Inference:
    """Plans and programs of one network, at most ``limit`` input shapes of them; safe to share.

    Weights are copied when first needed. With ``version``, a function whose result changes with the
    weights, they are read anew when it does, all at once; ``guard`` is held meanwhile and by whoever
    changes them. Calls under way keep the weights they began with. ``select`` maps each output to
    another value of the graph to be computed in its place. ``exact`` is whether transforms are excluded,
    by default as the `plan.exact` block around each call says. ``chosen`` is what `use` sets.
    """

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        kernels: Kernels,
        *,
        purpose: str,
        guard: Lock,
        version: Callable[[], object] | None = None,
        select: Callable[[Value], Value] | None = None,
        exact: bool | None = None,
        chosen: Chosen = UNTUNED,
        limit: int = 16,
    ):
        self.specs = [t.spec for t in inputs]
        self._kernels, self._purpose, self.guard = kernels, purpose, guard
        self._version, self._seen = version, None
        self._exact = exact
        self.chosen = chosen
        graph = build(inputs, outputs, training=False)
        if select is not None:
            graph.outputs = [select(v) for v in graph.outputs]
        self._graph = rewrite(graph)
        self._plans: LRU[tuple, Plan] = LRU(limit)
        self._programs: LRU[tuple, Program] = LRU(limit)
        self._output_shapes: LRU[tuple, list] = LRU(limit)
        self._weights = Weights(frozen=True)

    def freeze(self) -> None:
        """Copy every weight now."""
        with self.guard:
            for value in (*self._graph.parameters(), *self._graph.parameters("state")):
                self._weights.array(value)

    def plan(self, shapes: Shapes) -> Plan:
        """The plan for inputs of these shapes."""
        with self.guard:
            key = shapes, self._is_exact()
            plan = self._plans.get(key)
            if plan is None:
                plan = self._make_plan(shapes, self.chosen)
                self._plans.put(key, plan)
            return plan

    def _make_plan(self, shapes: Shapes, chosen: Chosen) -> Plan:
        graph = self._graph.specialise(list(shapes))
        chooser = Chooser(graph, chosen)
        parts = chosen_cut(
            graph, lambda n: self._graph.specialise([(n, *s[1:]) for s in shapes]), chooser
        )
        return Plan(
            graph,
            self._kernels,
            purpose=self._purpose,
            parts=parts,
            exact=self._is_exact(),
            chooser=chooser,
        )

    def trial(self, shapes: Shapes, chosen: Chosen, weights: Weights) -> tuple[Plan, Program]:
        """What `plan` and `programs` would give with other choices; nothing is kept but in ``weights``."""
        plan = self._make_plan(shapes, chosen)
        with self.guard:
            return plan, plan.bind(weights)

    @property
    def tier(self) -> str:
        """The instruction set of the kernels."""
        return self._kernels.tier

    def use(self, chosen: Chosen) -> None:
        """Make plans anew, with these choices. Calls under way keep theirs."""
        with self.guard:
            self.chosen = chosen
            self._plans.clear()
            self._programs.clear()

    def programs(self, wanted: Iterable[Shapes]) -> dict[Shapes, Program]:
        """Plans for inputs of these shapes, all bound to the same, current weights."""
        with self.guard:
            version = None if self._version is None else self._version()
            if version != self._seen:
                self._seen = version
                self._weights = Weights(frozen=True)
                self._programs.clear()
            return {shapes: self._program(shapes) for shapes in wanted}

    def _program(self, shapes: Shapes) -> Program:
        key = shapes, self._is_exact()
        program = self._programs.get(key)
        if program is None:
            program = self.plan(shapes).bind(self._weights)
            self._programs.put(key, program)
        return program

    def _is_exact(self) -> bool:
        return is_exact() if self._exact is None else self._exact

    def output_shapes(self, shapes: Shapes) -> list[tuple[int, ...]]:
        """The shape of each output for inputs of these shapes. Raises `ShapeError`."""
        with self.guard:
            found = self._output_shapes.get(shapes)
            if found is None:
                found = [v.spec.shape for v in self._graph.specialise(list(shapes)).outputs]
                self._output_shapes.put(shapes, found)
            return found

    def memory(self, shapes: Shapes, threads: int) -> Memory:
        """What a forward pass of inputs of these shapes needs; its weights are packed by this."""
        program = self.programs([shapes])[shapes]
        moving = sum(4 * math.prod(s) for s in (*shapes, *self.output_shapes(shapes)))
        workspace = program.workspace_bytes(threads)
        return Memory(weights=self._weights.nbytes, workspace=workspace, batch=moving)

    def run(self, arrays: list[np.ndarray], threads: int) -> list[np.ndarray]:
        """One forward pass of checked arrays."""
        shapes = tuple(a.shape for a in arrays)
        if not shapes[0][0]:
            return [np.empty(shape, np.float32) for shape in self.output_shapes(shapes)]
        program = self.programs([shapes])[shapes]
        outputs = program.empty_outputs()
        program.run(arrays, outputs, threads)
        return outputs

    def run_batches(
        self,
        arrays: list[np.ndarray],
        threads: int,
        batch_size: int,
        progress: Callable[[int], object],
    ) -> list[np.ndarray]:
        """A forward pass in batches, each written straight into its place in the result."""
        n = len(arrays[0])
        shapes = self.output_shapes(tuple(a.shape for a in arrays))
        whole = [empty_result(shape) for shape in shapes]
        sizes = {min(batch_size, n), n % batch_size} - {0}
        keys = {size: tuple((size, *a.shape[1:]) for a in arrays) for size in sizes}
        programs = self.programs(keys.values())
        for start in range(0, n, batch_size):
            size = min(batch_size, n - start)
            part = [a[start : start + size] for a in arrays]
            targets = [y[start : start + size] for y in whole]
            programs[keys[size]].run(part, targets, threads)
            progress(size)
        return whole


class Session:
    """A trained network, frozen, for serving: safe to call from many Python threads at once.

    ``model`` is the path of a saved model, or a model, whose weights are copied, so that later training
    does not change a session. ``threads`` is the number of threads a call may use, by default the process's
    budget at each call. ``optimize_for`` is "latency", of one image, or "throughput", of batches, for
    algorithms to be chosen by; they never depend on threads or the batch at hand, so a sample's result
    is the same in any batch. Raises `ArgumentError`, or
    `ModelFileError` for a bad file.
    """

    def __init__(
        self,
        model: Model | str | os.PathLike,
        threads: int | None = None,
        *,
        optimize_for: str = "latency",
    ):
        from .model import Model
        from .saving import load

        loaded = isinstance(model, (str, os.PathLike))  # then nobody else changes the weights
        if loaded:
            model = load(model)
        if not isinstance(model, Model):
            raise ArgumentError(
                f"`model` must be a cycnn model or a path. Received: {type(model).__name__}."
            )
        if optimize_for not in PURPOSES:
            raise ArgumentError(
                f'`optimize_for` must be "latency" or "throughput". '
                f"Received: optimize_for={optimize_for!r}."
            )
        self._threads = None if threads is None else thread_budget.check(threads)
        self._inference = model.inference(optimize_for, freeze=not loaded)
        self._loaded_bytes = sum(4 * p.size for p in model.parameters) if loaded else 0
        self._single = len(model.outputs) == 1
        self._recent: dict[tuple[int, ...], Program] = {}
        self.class_names = model.class_names
        self.input_scaling = model.input_scaling

    def run(self, *x: object) -> np.ndarray | list[np.ndarray]:
        """One forward pass: a new float32 array, or a list of them where there are several outputs.

        Takes one array for each input, of shape (batch, ...), or a list of them. Float32 in C order is
        read in place, anything else numeric is converted once. Raises `ShapeError`, `DTypeError` or
        `ArgumentError`.
        """
        threads = thread_budget.resolve(self._threads)
        if len(x) == 1:
            program = self._recent.get(getattr(x[0], "shape", None))
            if program is not None and program.takes(x[0]):
                return program.call(x[0], threads)
        return self._run(x, threads)

    def _run(self, x: tuple, threads: int) -> np.ndarray | list[np.ndarray]:
        """`run` for a shape that is new or an array that has to be checked and converted."""
        if not x:
            raise ArgumentError("`x`: run takes one array for each input. Received: nothing.")
        arrays = as_inputs(list(x) if len(x) > 1 else x[0], self._inference.specs)
        outputs = self._inference.run(arrays, threads)
        if len(arrays) == 1 and len(arrays[0]):
            self._remember(arrays[0].shape)
        return outputs[0] if self._single else outputs

    def _remember(self, shape: tuple[int, ...]) -> None:
        # a new dict each time: a reader in another thread keeps a whole one
        with self._inference.guard:
            recent = {**self._recent, shape: self._inference.programs([(shape,)])[(shape,)]}
            self._recent = dict(list(recent.items())[-SHAPES_REMEMBERED:])

    def tune(
        self, x: object, *, seconds: float = 60.0, algorithms: bool = False, verbose: int = 1
    ) -> Tuning:
        """Measure here what is fastest for batches of the shape of ``x``, and use it from now on.

        How batches are cut, how products are cut into blocks, which results are written past the
        caches: all of the same bits, so that results do not change. With ``algorithms`` also how
        each convolution is computed, with other rounding; that is chosen for a layer, whatever the
        batch, so that a sample's result stays the same in any. What is found is remembered for this machine
        and number of threads (`tuning.memory` says where) and need not be measured again;
        ``seconds=0`` takes what is remembered alone. What takes more than about ``seconds`` keeps its
        default. The result prints what was chosen and gained; ``verbose``: 1 shows a progress bar.
        ``x`` is as `Model.predict` takes it. Other calls may run meanwhile; it takes the memory of another
        session of the model. Raises `ShapeError`, `DTypeError` or `ArgumentError`.
        """
        threads = thread_budget.resolve(self._threads)
        found = tune(
            self._inference, x, threads, seconds=seconds, algorithms=algorithms, verbose=verbose
        )
        with self._inference.guard:
            self._inference.use({**self._inference.chosen, **found.chosen})
            self._recent = {}
        return found

    def __reduce__(self) -> NoReturn:
        raise DTypeError(
            "A Session cannot be copied or pickled; make one in every process, from a saved model's path."
        )

    def plan(self, *shapes: tuple[int, ...]) -> Plan:
        """The plan for inputs of these shapes, batch included."""
        return self._inference.plan(shapes)

    def memory(self, *shapes: tuple[int, ...]) -> Memory:
        """The memory that the session and a call on inputs of these shapes, batch included, take."""
        found = self._inference.memory(shapes, thread_budget.resolve(self._threads))
        return replace(found, weights=found.weights + self._loaded_bytes)
