"""Activations: how exact they are, and that fusing them changes neither results nor gradients."""

from __future__ import annotations

import numpy as np
import pytest

import oracle
import runner
from cycnn.graph.gradient import backward
from cycnn.graph.ir import Graph
from cycnn.graph.passes import BEFORE_GRADIENT, rewrite
from cycnn.ops.activation import FUNCTIONS, Activation, ActivationBackward
from cycnn.ops.dense import Dense
from cycnn.ops.norm import BatchNorm
from cycnn.ops.pointwise import Add
from cycnn.plan.plan import Plan
from cycnn.plan.weights import Weights

# where results are normal numbers: e^-87.3 is the smallest
X = np.concatenate([np.linspace(-87, 88, 20001), np.linspace(-4, 4, 20001)]).astype(np.float32)
functions = pytest.mark.parametrize("function", FUNCTIONS)
tiers = pytest.mark.parametrize("tier", runner.TIERS)


@functions
@tiers
def test_relative_error(function, tier):
    (y,) = runner.run(Activation(function), [X], tier=tier)
    (exact,) = oracle.expected(Activation(function), [X])
    bound = 3e-7 + (9e-8 if tier == "v2" else 1.4e-8) * np.abs(X)
    assert (np.abs(y - exact) <= bound * np.abs(exact)).all()


@functions
@tiers
def test_error_of_the_gradient(function, tier):
    """Relative to 1: f' crosses zero, and 1 - sigmoid(x) loses digits as it comes near."""
    z = X if not FUNCTIONS[function].from_output else oracle.ACTIVATIONS[function](X)
    arrays = [z.astype(np.float32), np.ones_like(X)]
    (dx,) = runner.run(ActivationBackward(function), arrays, tier=tier)
    (exact,) = oracle.expected(ActivationBackward(function), arrays)
    np.testing.assert_allclose(dx, exact, rtol=5e-7, atol=2e-6)


@functions
@tiers
def test_nothing_overflows(function, tier):
    x = np.array([1, -1], np.float32)[:, None] * np.geomspace(1e-45, 3e38, 500, dtype=np.float32)
    (y,) = runner.run(Activation(function), [x], tier=tier)
    assert np.isfinite(y).all()
    z = x if not FUNCTIONS[function].from_output else y
    (dx,) = runner.run(ActivationBackward(function), [z, np.ones_like(x)], tier=tier)
    assert np.isfinite(dx).all()


def network(function):
    """A loss that reads ``function`` of a dense layer, and its gradients; not rewritten yet."""
    graph = Graph()
    x, w, b = graph.input((9, 7)), graph.input((7, 33)), graph.input((33,))
    y = graph.add(Activation(function), graph.add(Dense(), x, w, b))
    loss = graph.add(Dense(), y, graph.input((33, 1)), None)
    loss = graph.add(Dense(), graph.input((1, 9)), loss, None)
    found = backward(graph, loss, [w, b], Add())
    graph.outputs = [y, *found[w], *found[b]]
    return graph


def outputs(graph, arrays):
    program = Plan(graph, runner.KERNELS[runner.TIERS[0]]).bind(Weights(frozen=True))
    results = program.empty_outputs()
    program.run(arrays, results, 2)
    return results


@functions
def test_fused_after_differentiation(function):
    """But not where the gradient reads what the activation is applied to."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal(v.spec.shape).astype(np.float32) for v in network(function).inputs
    ]
    plain, fused = network(function), rewrite(network(function))
    assert ("Activation" in {n.op.name for n in fused.nodes}) != FUNCTIONS[function].from_output
    for a, b in zip(outputs(plain, arrays), outputs(fused, arrays), strict=True):
        assert runner.same_bits(a, b)


def normed():
    graph = Graph()
    vectors = [graph.input((33,)) for _ in range(2)]
    y, *_ = graph.add(BatchNorm(), graph.input((9, 33)), *vectors)
    return graph, y


def dense():
    graph = Graph()
    return graph, graph.add(Dense(), graph.input((9, 7)), graph.input((7, 33)), None)


@functions
@pytest.mark.parametrize("made", [normed, dense])
def test_fused_before_differentiation(function, made):
    """Where the gradient can be computed all the same."""
    graph, x = made()
    graph.outputs = [graph.add(Activation(function), x)]
    rewrite(graph, passes=BEFORE_GRADIENT)
    (first, *rest) = graph.nodes
    assert (first.op.activation == function) == (not rest)
    assert (not rest) == (FUNCTIONS[function].from_output or made is normed)
    first.op.gradient(graph, first, (graph.outputs[0], None, None, None)[: len(first.outputs)])


@functions
def test_fused_in_inference(function):
    graph = Graph()
    y = graph.add(Dense(), graph.input((9, 7)), graph.input((7, 33)), None)
    graph.outputs = [graph.add(Activation(function), y)]
    assert [n.op for n in rewrite(graph).nodes] == [Dense(function)]
