"""Networks: structure, weights, prediction."""

from __future__ import annotations

import numpy as np
import pytest

import cycnn
import networks
from cycnn import layers
from cycnn.errors import ArgumentError, DTypeError, ShapeError
from cycnn.graph.build import build
from cycnn.graph.interpret import interpret
from cycnn.graph.ir import Graph
from cycnn.graph.passes import PASSES, rewrite
from cycnn.kernels import dispatch
from cycnn.layers.base import Parameter
from cycnn.ops.activation import Activation
from cycnn.ops.pointwise import Add
from cycnn.plan.plan import Plan
from cycnn.plan.weights import Weights


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_interpreter(model, *arrays):
    graph = build(model.inputs, model.outputs, training=False)
    graph = graph.specialise([a.shape for a in arrays])
    return interpret(graph, arrays, np.float64)


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (networks.small(), images(5, 8, 8, 1)),
        (networks.residual(), images(2, 9, 13, 3)),
        (networks.residual(), images(1, 1, 1, 3)),
        (networks.dense_block(), images(2, 9, 7, 5)),
        (networks.fire(), images(3, 9, 7, 3)),
        (cycnn.zoo.lenet5(seed=1), images(3, 28, 28, 1)),
    ],
)
def test_plan_equals_interpreter(model, x):
    outputs = model.predict(x)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    for y, expected in zip(outputs, by_interpreter(model, x), strict=True):
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", range(len(PASSES) + 1))
def test_every_prefix_of_the_rewrites_keeps_the_meaning(first):
    model, x = networks.classifier(), images(2, 9, 7, 3)
    graph = build(model.inputs, model.outputs, training=False).specialise([x.shape])
    expected = interpret(graph, [x], np.float64)
    (y,) = interpret(rewrite(graph, first), [x], np.float64)
    np.testing.assert_array_equal(y, expected[0])


def test_relu_is_fused_into_what_feeds_it():
    names = [step.kernel.name for step in networks.small().plan((1, 8, 8, 1)).steps]
    assert "relu" not in names


def test_a_sum_is_fused_into_the_later_of_what_feeds_it():
    plan = networks.residual().plan((1, 8, 8, 3))
    assert "add" not in [step.kernel.name for step in plan.steps]
    assert [len(n.inputs) for n in plan.graph.nodes if n.op.name == "Conv2D"] == [3, 3, 4]


def test_a_sum_stays_where_its_terms_are_needed_or_are_one():
    x = layers.Input((4, 4, 3))
    y = layers.Conv2D(3, 3, padding="same", seed=0)(x)
    twice = cycnn.Model(x, layers.Add()([y, y]))
    also = cycnn.Model(x, [layers.Add()([x, y]), y])
    data = images(2, 4, 4, 3)
    for model in (twice, also):
        assert "add" in [step.kernel.name for step in model.plan(data.shape).steps]
    np.testing.assert_array_equal(twice.predict(data), 2 * also.predict(data)[1])


@pytest.mark.parametrize(("model", "copies"), [(networks.fire(), 0), (networks.dense_block(), 5)])
def test_concatenations_are_made_in_place(model, copies):
    shape = (2, *model.inputs[0].shape[1:])
    names = [step.kernel.name for step in model.plan(shape).steps]
    assert names.count("insert_channels") == copies


def test_names_follow_call_order():
    names = [layer.name for layer in networks.small().layers]
    assert names[:4] == ["conv2d", "max_pooling2d", "conv2d_1", "re_lu"]
    with pytest.raises(ArgumentError, match="'a'"):
        cycnn.Sequential([layers.Input((4,)), layers.Dense(2, name="a"), layers.Dense(2, name="a")])


def test_a_layer_used_twice_counts_once():
    x = layers.Input((4,))
    shared = layers.Dense(4, seed=0)
    model = cycnn.Model(x, shared(shared(x)))
    assert model.count_params() == 20
    kernel, bias = model.get_weights()
    data = images(3, 4)
    np.testing.assert_allclose(
        model.predict(data), (data @ kernel + bias) @ kernel + bias, rtol=1e-5, atol=1e-6
    )


def test_weights_come_and_go_in_call_order():
    model, other = networks.small(seed=0), networks.small(seed=50)
    shapes = [w.shape for w in model.get_weights()]
    assert shapes[:4] == [(3, 3, 1, 6), (6,), (3, 3, 6, 9), (9,)]
    x = images(4, 8, 8, 1)
    assert not np.array_equal(model.predict(x), other.predict(x))
    other.set_weights(model.get_weights())
    np.testing.assert_array_equal(model.predict(x), other.predict(x))


def test_weights_that_do_not_fit_change_nothing():
    model = networks.small()
    before = model.get_weights()
    with pytest.raises(ShapeError, match="`weights`"):
        model.set_weights([*[w + 1 for w in before[:-1]], np.zeros(5)])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_seeds_repeat():
    a, b, c = networks.small(3), networks.small(3), networks.small(4)
    np.testing.assert_array_equal(a.get_weights()[0], b.get_weights()[0])
    assert not np.array_equal(a.get_weights()[0], c.get_weights()[0])


def test_images_of_any_size():
    model = networks.residual()
    for size in ((4, 4), (7, 3), (1, 1)):
        logits, y = model.predict(images(2, *size, 3))
        assert logits.shape == (2, 5)
        assert y.shape == (2, *size, 8)


@pytest.mark.parametrize("make", [networks.small, networks.classifier])
def test_an_empty_batch_gives_an_empty_answer(make):
    model = make()
    x = np.zeros((0, *model.inputs[0].shape[1:]), np.float32)
    assert model.predict(x).shape == (0, model.outputs[0].shape[-1])
    assert cycnn.Session(model).run(x).shape == (0, model.outputs[0].shape[-1])


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.uint8, np.int64, bool])
def test_arrays_of_other_dtypes_are_converted(dtype):
    model = networks.small()
    x = (images(3, 8, 8, 1) * 3).astype(dtype)
    np.testing.assert_array_equal(model.predict(x), model.predict(x.astype(np.float32)))


def test_arrays_of_odd_strides_are_converted():
    model = networks.small()
    wide = images(3, 16, 16, 2)
    view = wide[::-1, ::2, ::-2, 1:]
    np.testing.assert_array_equal(model.predict(view), model.predict(view.copy()))


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (np.zeros((2, 8, 8)), ShapeError, r"\(batch, 8, 8, 1\)"),
        (np.zeros((2, 8, 9, 1)), ShapeError, r"Received shape \(2, 8, 9, 1\)"),
        (np.array(["a"]), DTypeError, "numbers"),
        (np.zeros((1, 8, 8, 1), complex), DTypeError, "complex"),
    ],
)
def test_inputs_that_do_not_fit(x, error, text):
    with pytest.raises(error, match=text):
        networks.small().predict(x)


def test_two_inputs():
    a, b = layers.Input((3,), name="a"), layers.Input((3,), name="b")
    model = cycnn.Model([a, b], layers.Add()([a, b]))
    x, y = images(2, 3), images(2, 3, seed=1)
    np.testing.assert_array_equal(model.predict([x, y]), x + y)
    np.testing.assert_array_equal(cycnn.Session(model).run(x, y), x + y)
    with pytest.raises(ArgumentError, match="list of 2"):
        model.predict(x)
    with pytest.raises(ShapeError, match="one batch"):
        model.predict([x, y[:1]])


def test_an_input_handed_through_is_copied():
    x = layers.Input((3,))
    model = cycnn.Model(x, [x, layers.Flatten()(x)])
    data = images(2, 3)
    first, second = model.predict(data)
    np.testing.assert_array_equal(first, data)
    np.testing.assert_array_equal(second, data)
    assert not np.shares_memory(first, data)
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: cycnn.Sequential([]), "layers.Input"),
        (lambda: cycnn.Sequential([layers.Input((3,)), 5]), "int"),
        (lambda: cycnn.Model(layers.Input((3,)), layers.Input((3,))), "not among `inputs`"),
        (lambda: cycnn.Model("x", "y"), "`inputs`"),
        (lambda: layers.Input((3, None)), "`shape`"),
        (lambda: layers.Input((0,)), "`shape`"),
        (lambda: layers.Dense(2)(np.zeros((1, 3))), "model.predict"),
        (lambda: layers.Dense(2)(layers.Input((2, 2, 1))), "Flatten"),
        (lambda: layers.Dense(0), "`units`"),
        (lambda: layers.Dense(2, activation="tanhh"), "`activation`"),
        (lambda: layers.Dense(2, kernel_initializer="magic")(layers.Input((3,))), "initializer"),
        (lambda: layers.Dense(2, name=""), "`name`"),
        (lambda: layers.Dense(2, seed=-1), "`seed`"),
        (lambda: layers.Dense(2).count_params(), "connected"),
        (lambda: layers.Conv2D(4, 3, groups=3), "`groups`"),
        (lambda: layers.Conv2D(4, 3, groups=2)(layers.Input((5, 5, 3))), "`groups`"),
        (lambda: layers.Conv2D(4, 3, padding="full"), "`padding`"),
        (lambda: layers.Conv2D(4, 3, padding=-1), "`padding`"),
        (lambda: layers.Conv2D(4, (3, 0)), "`kernel_size`"),
        (lambda: layers.Conv2D(4, 3, strides=0), "`strides`"),
        (lambda: layers.Conv2D(4, 3, algorithm="fft"), "`algorithm`"),
        (lambda: layers.Conv2D(4, 3)(layers.Input((5,))), "images"),
        (lambda: layers.MaxPooling2D((2, 2, 2)), "`pool_size`"),
        (lambda: layers.Dropout(1.0), "`rate`"),
        (lambda: layers.Add()(layers.Input((3,))), "at least 2"),
        (lambda: layers.Add()([layers.Input((3,)), layers.Input((4,))]), "one shape"),
        (lambda: networks.small().get_layer("nobody"), "`name`"),
        (lambda: networks.small().fit(0, 0), "compile"),
    ],
)
def test_mistakes_are_explained(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


def test_a_window_larger_than_the_image_is_refused():
    with pytest.raises(ShapeError, match="does not fit"):
        layers.Conv2D(4, 5)(layers.Input((4, 9, 1)))


def test_summary_says_what_the_texts_say(capsys):
    model = cycnn.Sequential(
        [layers.Input((227, 227, 3)), layers.Conv2D(96, 11, strides=4), layers.MaxPooling2D(2)]
    )
    model.summary()
    text = capsys.readouterr().out
    assert "55 x 55 x 96" in text
    assert "34,944" in text
    assert "11 x 11" in text
    assert f"{55 * 55 * 96 * 11 * 11 * 3:,}" in text
    networks.residual().summary()
    assert "any" in capsys.readouterr().out


def test_explain_and_profile():
    model = networks.small()
    plan = model.plan((2, 8, 8, 1))
    text = plan.explain()
    for step in plan.steps:
        assert step.kernel.name in text
    seconds = model.profile(np.zeros((2, 8, 8, 1)), repeats=2)
    assert len(seconds.seconds) == len(plan.steps)
    assert "conv2d" in str(seconds)


def test_plans_are_bounded():
    model = networks.residual()
    for width in range(1, 25):
        model.predict(np.zeros((1, 2, width, 3)))
    assert len(model._current._plans) == 16
    assert len(model._current._programs) == 16


def test_the_arena_reuses_memory():
    plan = networks.small().plan((64, 8, 8, 1))
    sizes = {b: b.nbytes for step in plan.steps for b in step.writes if b in plan.arena.offsets}
    assert plan.arena.nbytes < sum(sizes.values())


def test_images_without_pixels_are_refused():
    with pytest.raises(ShapeError, match="at least 1 pixel"):
        networks.residual().predict(np.zeros((1, 0, 5, 3)))


def test_misaligned_arrays_are_converted():
    raw = np.zeros(4 * 64 + 1, np.uint8)
    x = raw[1:].view(np.float32).reshape(1, 8, 8, 1)
    model = networks.small()
    np.testing.assert_array_equal(model.predict(x), model.predict(x.copy()))
    np.testing.assert_array_equal(cycnn.Session(model).run(x), model.predict(x.copy()))


def test_what_depends_on_weights_alone_is_computed_once_and_read():
    graph = Graph()
    source = Parameter("p", (2, 3), "glorot_uniform", (0, 0))
    x = graph.input((2, 3))
    folded = graph.add(Activation("relu"), graph.parameter(source))
    graph.outputs = [graph.add(Add(), folded, x)]
    program = Plan(graph, dispatch.load()).bind(Weights(frozen=True))
    data, out = images(2, 3), np.full((2, 3), 7, np.float32)
    program.run([data], [out])
    np.testing.assert_array_equal(out, np.maximum(source.value, 0) + data)


def test_models_merged_from_two_have_their_layers_renamed():
    a, b = layers.Input((3,), name="a"), layers.Input((3,), name="b")
    first, second = (cycnn.Model(x, layers.Dense(2, seed=0)(x)) for x in (a, b))
    merged = cycnn.Model([a, b], layers.Add()([first.outputs[0], second.outputs[0]]))
    assert [layer.name for layer in merged.layers] == ["dense", "dense_1", "add"]


def test_a_layer_used_twice_is_counted_once_in_the_summary(capsys):
    x = layers.Input((4,))
    shared = layers.Dense(4, seed=0)
    cycnn.Model(x, shared(shared(x))).summary()
    assert "20 weights" in capsys.readouterr().out


def test_weights_that_are_no_numbers_change_nothing():
    model = networks.small()
    before = model.get_weights()
    with pytest.raises(DTypeError, match="`weights`"):
        model.set_weights([before[0] + 1, np.array(["a"] * 6), *before[2:]])
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_the_initial_weights_do_not_depend_on_what_is_asked_first():
    models = [
        cycnn.Sequential(
            [layers.Input((3,)), layers.Dense(2, seed=1, bias_initializer="he_normal")]
        )
        for _ in range(2)
    ]
    bias = models[0].layers[0].bias.value.copy()
    np.testing.assert_array_equal(
        models[1].layers[0].kernel.value, models[0].layers[0].kernel.value
    )
    np.testing.assert_array_equal(models[1].layers[0].bias.value, bias)
