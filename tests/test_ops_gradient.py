"""Gradient rules against float64 central differences of the formulas."""

from __future__ import annotations

import numpy as np
import pytest

import oracle
import runner
from cases import CASES
from cycnn.errors import UnsupportedOp
from cycnn.graph.interpret import interpret
from cycnn.graph.ir import Graph, Value
from cycnn.ops.activation import FUNCTIONS
from cycnn.ops.base import Op, Spec
from cycnn.ops.dense import Dense
from cycnn.plan.plan import Plan
from cycnn.plan.weights import Weights

NOT_DIFFERENTIATED = {
    "DropPath": (1,),
    "Dropout": (1,),
    "Scale": (1,),
    "SoftmaxCrossEntropy": (1, 2),
}
HAS_GRADIENT = {
    "Activation",
    "Add",
    "AveragePool2D",
    "BatchNorm",
    "Concatenate",
    "Conv2D",
    "Dense",
    "DropPath",
    "Dropout",
    "Flatten",
    "GlobalAveragePool2D",
    "GlobalMaxPool2D",
    "MaxPool2D",
    "Multiply",
    "Reshape",
    "Scale",
    "Softmax",
    "SoftmaxCrossEntropy",
    "ZeroPad2D",
}


def keeps_enough(op):
    """Whether the gradient of the op's activation can be had from its output, or its input."""
    activation = getattr(op, "activation", None)
    return activation is None or FUNCTIONS[activation].from_output or op.recomputes


DIFFERENTIABLE = [c for c in CASES if c.op.name in HAS_GRADIENT and keeps_enough(c.op)]
SMOOTH = [c for c in DIFFERENTIABLE if not isinstance(c.inputs[0], np.ndarray)]
STEP = 1e-6


class GradientGraph:
    """The gradients of ``sum(y * dy)`` as a graph whose inputs are those of the op, then dy."""

    def __init__(self, op, arrays):
        self.graph = Graph()
        specs = [None if x is None else Spec(x.shape, str(x.dtype)) for x in arrays]
        inputs = [None if s is None else self.graph.input(s.shape, s.dtype) for s in specs]
        outputs = self.graph.add(op, *inputs)
        outputs = (outputs,) if isinstance(outputs, Value) else outputs
        dy = self.graph.input(outputs[0].spec.shape, name="dy")
        node = self.graph.nodes[0]
        dxs = op.gradient(self.graph, node, (dy, *[None] * (len(outputs) - 1)))
        self.differentiated = [i for i, dx in enumerate(dxs) if dx is not None]
        self.graph.outputs = [dxs[i] for i in self.differentiated]
        self.graph.check()

    def interpreted(self, arrays):
        given = [x for x in arrays if x is not None]
        return interpret(self.graph, given, np.float64)

    def planned(self, arrays):
        plan = Plan(self.graph, runner.KERNELS[runner.TIERS[0]])
        program = plan.bind(Weights(frozen=True))
        outputs = program.empty_outputs()
        program.run([x for x in arrays if x is not None], outputs, 2)
        return outputs


def formula(op, arrays):
    """The first output in float64."""
    if op.name in oracle.ORACLE:
        return oracle.expected(op, arrays)[0]
    return runner.evaluate(op, arrays)[0]


def slope(op, arrays, i, direction, dy):
    """d sum(y * dy) along ``direction`` of input ``i``, by fourth-order central differences."""

    def at(step):
        moved = [*arrays[:i], arrays[i] + step * direction, *arrays[i + 1 :]]
        return (formula(op, moved) * dy).sum()

    h = STEP
    return (at(-2 * h) - 8 * at(-h) + 8 * at(h) - at(2 * h)) / (12 * h)


def wide(arrays):
    return [x.astype(np.float64) if x is not None and x.dtype == np.float32 else x for x in arrays]


def with_dy(case):
    arrays = case.arrays()
    shape = runner.specs(case.op, arrays)[0].shape
    return arrays, np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def directions(shape, rng):
    """A random direction, and up to three single elements."""
    yield rng.standard_normal(shape)
    size = int(np.prod(shape))
    for element in rng.permutation(size)[:3]:
        yield np.eye(1, size, element).reshape(shape)


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_gradients_are_central_differences(case):
    arrays, dy = with_dy(case)
    gradients = GradientGraph(case.op, arrays)
    given = {i for i, x in enumerate(arrays) if x is not None}
    assert {*gradients.differentiated} == given - {*NOT_DIFFERENTIATED.get(case.op.name, ())}
    rng = np.random.default_rng(2)
    results = gradients.interpreted([*arrays, dy])
    for i, gradient in zip(gradients.differentiated, results, strict=True):
        assert gradient.shape == arrays[i].shape
        for direction in directions(arrays[i].shape, rng):
            expected = slope(case.op, wide(arrays), i, direction, dy.astype(np.float64))
            scale = np.abs(gradient * direction).sum() + 1
            assert abs((gradient * direction).sum() - expected) < 1e-6 * scale


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_planned_gradients_equal_interpreted_ones(case):
    arrays, dy = with_dy(case)
    gradients = GradientGraph(case.op, arrays)
    given = [*arrays, dy]
    runner.assert_close(gradients.planned(given), gradients.interpreted(given))


@pytest.mark.parametrize("name", sorted({c.op.name for c in CASES} - HAS_GRADIENT))
def test_other_ops_say_that_they_have_no_gradient(name):
    op = next(c.op for c in CASES if c.op.name == name)
    assert type(op).gradient is Op.gradient


@pytest.mark.parametrize("activation", [f for f in FUNCTIONS if not FUNCTIONS[f].from_output])
def test_an_activation_that_forgot_its_input_has_no_gradient(activation):
    graph = Graph()
    x, w = graph.input((2, 3)), graph.input((3, 4))
    graph.add(Dense(activation), x, w, None)
    with pytest.raises(UnsupportedOp, match=f"gradient of '{activation}' takes its input"):
        graph.nodes[0].op.gradient(graph, graph.nodes[0], (graph.nodes[0].output,))
