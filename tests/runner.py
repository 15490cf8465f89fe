"""Run one op, or a small graph, with every buffer in an array of its own between guard words.

This stands in for the planner's arena: inputs, outputs and temporaries lie apart, start out as NaN,
and are followed and preceded by words that must survive.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from cycnn.graph.ir import Graph, Value
from cycnn.kernels import dispatch
from cycnn.ops.base import Spec
from cycnn.plan import executor
from cycnn.plan.lower import PlannedStep, lower
from cycnn.plan.plan import Plan
from cycnn.plan.weights import Weights

TIERS = dispatch.supported_tiers()
KERNELS = {tier: dispatch.load(tier) for tier in TIERS}
GUARD = np.uint32(0x7FC0DEAD)  # read as a float it is NaN
GUARD_WORDS = 64
IN_PLACE = {
    "AccumulateGradient": (1,),
    "Assign": (1,),
    "MovingAverage": (1,),
    "SGDUpdate": (0, 1, 2),
}


def written_inputs(op) -> tuple[int, ...]:
    """The inputs that an op updates in place."""
    if getattr(op, "accumulate", False):
        return (1 if op.name == "BiasGradient" else 2,)
    return IN_PLACE.get(op.name, ())


class Guarded:
    """Memory with guard words on both sides; ``shift`` words off a 64-byte boundary."""

    def __init__(self, nbytes: int, shift: int = 0):
        words = -(-nbytes // 4)
        self.raw = np.full(words + 2 * GUARD_WORDS + 32, GUARD)
        to_boundary = -self.raw.ctypes.data % 64 // 4
        self.begin = GUARD_WORDS // 16 * 16 + to_boundary + shift
        self.end = self.begin + words
        self.data = self.raw[self.begin : self.end].view(np.uint8)[:nbytes]

    def check(self) -> None:
        assert (self.raw[: self.begin] == GUARD).all(), "wrote before a buffer"
        assert (self.raw[self.end :] == GUARD).all(), "wrote behind a buffer"


class Source:
    """What stands behind a parameter or a state value."""

    def __init__(self, name: str, value: np.ndarray):
        self.name, self.value = name, value
        self.shape, self.dtype = value.shape, str(value.dtype)


def single_op(op, arrays, parameters: tuple[int, ...] = ()) -> Graph:
    """A graph of one node; inputs that the op updates are its state."""
    graph = Graph()
    values = []
    for i, array in enumerate(arrays):
        if array is None:
            values.append(None)
        elif i in written_inputs(op):
            values.append(graph.parameter(Source(f"state{i}", array), "state"))
        elif i in parameters:
            values.append(graph.parameter(Source(f"parameter{i}", array)))
        else:
            values.append(graph.input(array.shape, str(array.dtype), f"input{i}"))
    outputs = graph.add(op, *values)
    graph.outputs = [outputs] if isinstance(outputs, Value) else list(outputs)
    return graph


@dataclass(eq=False)
class Bench:
    """A lowered graph of one node, its buffers allocated."""

    op: object
    arrays: list
    tier: str = TIERS[0]
    shift: int = 0
    in_place: bool = False
    memory: type = Guarded
    blocks: dict = field(default_factory=dict)

    def __post_init__(self):
        graph = single_op(self.op, self.arrays)
        (self.node,) = graph.nodes
        graph.outputs = []  # so that none is copied
        self.target, _ = lower(graph, KERNELS[self.tier])
        self.steps = [self._step(step) for step in self.target.steps]
        for value in self.node.outputs:
            self._block(self.target.read(value))
        for value, array in zip(self.node.inputs, self.arrays, strict=True):
            if array is not None:
                self._write(self.target.read(value), array)

    def _block(self, buffer):
        """The memory of a buffer; temporaries are aligned, the caller's arrays to their items only."""
        if buffer not in self.blocks:
            words = 0 if buffer.value is None else np.dtype(buffer.value.spec.dtype).itemsize // 4
            shift = words * self.shift
            self.blocks[buffer] = self.memory(buffer.nbytes, shift)
        return self.blocks[buffer]

    def _write(self, buffer, array):
        if buffer in self.blocks:
            self._block(buffer).data[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def _step(self, step):
        """A step of `executor.Program`; buffers are numbered in the order in which they are met."""
        if self.in_place and step.in_place is not None:
            read, write = step.in_place
            self.blocks[step.writes[write]] = self._block(step.reads[read])
        operands = [None if b is None else self._block(b) for b in (*step.reads, *step.writes)]
        kernel = step.kernel
        return kernel.run, kernel.items, kernel.attributes, operands, kernel.scratch

    def run(self, threads: int = 1):
        blocks = list(dict.fromkeys(self.blocks.values()))
        number = {None: 0} | {block: i for i, block in enumerate(blocks, 1)}
        steps = [
            (run, items, attributes, tuple(number[b] for b in operands), True, 1)
            for run, items, attributes, operands, _ in self.steps
        ]
        fixed = {number[block]: block.data for block in blocks}
        scratch = max((s[4] for s in self.steps), default=0)
        program = executor.Program(steps, len(blocks) + 1, fixed, {}, [], [], 0, scratch, {})
        program.run([], [], threads)
        return self

    def array(self, value) -> np.ndarray:
        """What a value's memory holds now."""
        data = self.blocks[self.target.read(value)].data
        return np.frombuffer(data.tobytes(), value.spec.dtype).reshape(value.spec.shape)

    @property
    def results(self) -> list[np.ndarray]:
        """The outputs; for an op without outputs, the inputs that it updates."""
        values = self.node.outputs or [self.node.inputs[i] for i in written_inputs(self.op)]
        return [self.array(v) for v in values if v is not None]

    def check(self) -> None:
        """Guard words stand, and inputs that the op does not update are as they were."""
        for block in self.blocks.values():
            block.check()
        for i, (value, array) in enumerate(zip(self.node.inputs, self.arrays, strict=True)):
            aliased = self.in_place or i in written_inputs(self.op)
            if array is not None and not aliased and self.target.read(value) in self.blocks:
                assert same_bits(self.array(value), array), f"input {i} was written"


def run(op, arrays, *, threads: int = 1, **options) -> list[np.ndarray]:
    """The outputs of ``op`` by its kernels."""
    return Bench(op, arrays, **options).run(threads).results


def plan_and_run(op, arrays, parameters: tuple[int, ...] = (), *, threads: int = 1) -> list:
    """The outputs of ``op`` by a plan of its own; some inputs may be parameters, packed once."""
    graph = single_op(op, arrays, parameters)
    plan = Plan(graph, KERNELS[TIERS[0]], frozen=not written_inputs(op))
    program = plan.bind(Weights(frozen=not written_inputs(op)))
    held = {*parameters, *written_inputs(op)}
    given = [x for i, x in enumerate(arrays) if x is not None and i not in held]
    outputs = program.empty_outputs()
    program.run(given, outputs, threads)
    return outputs or [arrays[i] for i in written_inputs(op) if arrays[i] is not None]


def evaluate(op, arrays) -> list[np.ndarray]:
    """The outputs of ``op`` by the interpreter; for an op without outputs, what it updates."""
    arrays = [None if x is None else x.copy() for x in arrays]
    outputs = op.evaluate(*arrays)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    if not specs(op, arrays):
        outputs = [arrays[i] for i in written_inputs(op) if arrays[i] is not None]
    return list(outputs)


def steps_of(op, arrays, tier: str = TIERS[0], purpose: str = "latency") -> list[PlannedStep]:
    """The steps that serve ``op``."""
    return lower(single_op(op, arrays), KERNELS[tier], purpose)[0].steps


def kernels_of(op, arrays, tier: str = TIERS[0], purpose: str = "latency") -> list[str]:
    """The names of the kernels that serve ``op``."""
    return [step.kernel.name for step in steps_of(op, arrays, tier, purpose)]


def specs(op, arrays) -> tuple[Spec, ...]:
    """The specs of the outputs, as the op infers them."""
    outputs = op.infer(*(None if x is None else Spec(x.shape, str(x.dtype)) for x in arrays))
    return (outputs,) if isinstance(outputs, Spec) else tuple(outputs)


@contextmanager
def named(tier: str) -> Iterator[None]:
    """Let what fails within say of which tier that was true."""
    try:
        yield
    except AssertionError as error:
        error.add_note(f"tier {tier}")
        raise


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def assert_close(actual, expected, tolerance: float = 1e-5) -> None:
    """Equal shapes, NaN and infinity in equal places, the rest within tolerance of the largest."""
    actual, expected = list(actual), list(expected)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        finite = np.isfinite(e)
        np.testing.assert_array_equal(np.isfinite(a), finite)
        np.testing.assert_array_equal(a[~finite], e[~finite].astype(a.dtype))
        largest = np.abs(e[finite]).max(initial=1.0)
        np.testing.assert_allclose(a[finite], e[finite], rtol=tolerance, atol=tolerance * largest)
