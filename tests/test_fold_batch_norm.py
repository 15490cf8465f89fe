"""Folding of batch normalization: the same outputs up to rounding, and nothing left to do in a call."""

from __future__ import annotations

import numpy as np
import pytest

import cycnn
from cycnn import layers
from cycnn.errors import UnsupportedOp
from cycnn.graph.build import build
from cycnn.graph.interpret import interpret
from cycnn.graph.ir import Graph
from cycnn.graph.passes import PASSES, rewrite
from cycnn.graph.passes.fold_batch_norm import fold_batch_norm
from cycnn.kernels import dispatch
from cycnn.ops.activation import Activation
from cycnn.plan.plan import Plan
from cycnn.plan.weights import Weights


def norm():
    return layers.BatchNormalization(epsilon=1e-5)


def chain(*following: layers.Layer, shape=(9, 7, 6)) -> cycnn.Model:
    return moved(cycnn.Sequential([layers.Input(shape), *following]))


def moved(model: cycnn.Model) -> cycnn.Model:
    """The model with weights and statistics that are no round numbers."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1, w.shape) for w in model.get_weights()])
    return model


def residual() -> cycnn.Model:
    x = layers.Input((9, 7, 6))
    a = layers.ReLU()(norm()(layers.Conv2D(8, 3, padding="same", use_bias=False)(x)))
    a = norm()(layers.Conv2D(8, 3, padding="same")(a))
    b = norm()(layers.Conv2D(8, 1)(x))
    y = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([a, b])))
    return moved(cycnn.Model(x, norm()(layers.Dense(5)(y))))


def twice() -> cycnn.Model:
    """One convolution, normalised by two layers."""
    x, conv = layers.Input((9, 7, 6)), layers.Conv2D(6, 3, padding="same")
    return moved(cycnn.Model(x, norm()(conv(norm()(conv(x))))))


FOLDED = {
    "convolution": lambda: chain(layers.Conv2D(5, 3), norm()),
    "no bias": lambda: chain(layers.Conv2D(5, 3, use_bias=False), norm(), layers.ReLU()),
    "groups": lambda: chain(layers.Conv2D(12, 3, groups=3, strides=2), norm()),
    "depthwise": lambda: chain(layers.Conv2D(6, 3, groups=6, padding="same"), norm()),
    "dense": lambda: chain(layers.Flatten(), layers.Dense(5, use_bias=False), norm()),
    "two norms": lambda: chain(layers.Conv2D(5, 3), norm(), norm()),
    "no gamma": lambda: chain(layers.Conv2D(5, 3), layers.BatchNormalization(scale=False)),
    "no beta": lambda: chain(layers.Conv2D(5, 3), layers.BatchNormalization(center=False)),
    "shared": twice,
    "residual": residual,
}


def read_twice() -> cycnn.Model:
    x = layers.Input((9, 7, 6))
    y = layers.Conv2D(5, 3)(x)
    return moved(cycnn.Model(x, layers.Add()([norm()(y), y])))


def given_out() -> cycnn.Model:
    x = layers.Input((9, 7, 6))
    y = layers.Conv2D(5, 3)(x)
    return moved(cycnn.Model(x, [norm()(y), y]))


KEPT = {
    "activation between": lambda: chain(layers.Conv2D(5, 3, activation="relu"), norm()),
    "before": lambda: chain(norm(), layers.Conv2D(5, 3)),
    "of a pooling": lambda: chain(layers.MaxPooling2D(2), norm(), layers.ReLU()),
    "read twice": read_twice,
    "given out": given_out,
}


def images(n=3):
    return np.random.default_rng(1).normal(size=(n, 9, 7, 6)).astype(np.float32)


def graph_of(model, x):
    return build(model.inputs, model.outputs, training=False).specialise([x.shape])


def names(graph):
    return [node.op.name for node in graph.nodes]


def run(graph, x):
    """The outputs by kernels, without any other rewrite."""
    program = Plan(graph, dispatch.load()).bind(Weights(frozen=True))
    outputs = program.empty_outputs()
    program.run([x], outputs)
    return outputs


@pytest.mark.parametrize("name", [*FOLDED, *KEPT])
def test_with_and_without_the_pass(name):
    model, x = (FOLDED | KEPT)[name](), images()
    graph = graph_of(model, x)
    plain, exact = run(graph, x), interpret(graph, [x], np.float64)
    fold_batch_norm(graph)
    graph.check()
    assert ("BatchNormInference" in names(graph)) == (name in KEPT)
    assert ("FoldBatchNorm" in names(graph)) == (name in FOLDED)
    for e, i in zip(exact, interpret(graph, [x], np.float64), strict=True):
        np.testing.assert_allclose(i, e, rtol=1e-10)
    for e, y, p in zip(exact, run(graph, x), plain, strict=True):
        np.testing.assert_allclose(y, e, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(y, p, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*FOLDED, *KEPT])
@pytest.mark.parametrize("first", range(len(PASSES) + 1))
def test_every_prefix_of_the_rewrites_keeps_the_meaning(name, first):
    model, x = (FOLDED | KEPT)[name](), images()
    graph = graph_of(model, x)
    expected = interpret(graph, [x], np.float64)
    found = interpret(rewrite(graph, first), [x], np.float64)
    for e, y in zip(expected, found, strict=True):
        np.testing.assert_allclose(y, e, rtol=1e-10)


@pytest.mark.parametrize("name", FOLDED)
def test_a_call_has_nothing_to_normalise(name):
    model = FOLDED[name]()
    plan = model.plan((2, 9, 7, 6))
    kernels = [step.kernel.name for step in plan.steps]
    assert not any(kernel.startswith(("bn_", "relu", "add", "pack")) for kernel in kernels)
    assert [s.kernel.name for s in plan.prologue].count("bn_fold_bias") == len(
        [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    )


def test_an_activation_is_fused_where_nothing_could_be_folded():
    kernels = [s.kernel.name for s in KEPT["of a pooling"]().plan((2, 9, 7, 6)).steps]
    assert kernels == ["max_pool2d", "bn_normalise"]


def test_training_is_not_folded():
    model = FOLDED["no bias"]()
    graph = build(model.inputs, model.outputs, training=True).specialise([(2, 9, 7, 6)])
    before = names(graph)
    fold_batch_norm(graph)
    assert names(graph) == before


def test_weights_that_are_set_are_folded_anew():
    model, x = FOLDED["convolution"](), images()
    first = model.predict(x)
    for parameter in model.parameters:
        parameter.assign(parameter.value + 0.5)
        (expected,) = interpret(graph_of(model, x), [x], np.float64)
        np.testing.assert_allclose(model.predict(x), expected, rtol=1e-4, atol=1e-5)
    assert not np.array_equal(first, model.predict(x))


def test_folded_kernels_are_not_kept_beside_their_panels():
    model = chain(layers.Conv2D(64, 3), norm())
    weights = Weights(frozen=True)
    for n in (1, 2):
        graph = rewrite(graph_of(model, images(n)))
        Plan(graph, dispatch.load()).bind(weights)
        kept = [a.nbytes for a in weights._arrays.values()]
        kernel = model.parameters[0].value.nbytes
        assert len([n for n in kept if n >= kernel]) == 1  # the panels, for both shapes


def test_other_ops_say_that_they_cannot_be_folded():
    graph = Graph()
    graph.add(Activation("relu"), graph.input((3,)))
    with pytest.raises(UnsupportedOp, match="Activation cannot be folded"):
        Activation("relu").fold(graph, graph.nodes[0], graph.inputs[0], None)
