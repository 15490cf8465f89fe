"""A plan that takes the batch in turns gives the bits of one that does not, in less memory."""

from __future__ import annotations

import numpy as np
import pytest

import cycnn
import networks
from cycnn import layers
from cycnn.graph.build import build
from cycnn.graph.passes import rewrite
from cycnn.kernels import dispatch
from cycnn.plan.explain import balance, most_items
from cycnn.plan.parts import cut
from cycnn.plan.plan import Plan
from cycnn.plan.weights import Weights

BATCH = 12


def pyramid() -> cycnn.Model:
    """Images that shrink, a branch around a part, folded batch norm, and a flattened end."""
    x = layers.Input((16, 16, 3))
    a = layers.Conv2D(16, 3, padding="same", activation="relu", seed=0)(x)
    b = layers.Conv2D(16, 3, padding="same", seed=1)(a)
    y = layers.MaxPooling2D(2)(layers.ReLU()(layers.Add()([a, b])))
    z = layers.Conv2D(24, 3, strides=2, seed=2)(y)
    z = layers.BatchNormalization()(z)
    return cycnn.Model(x, [layers.Dense(5, seed=3)(layers.Flatten()(z)), layers.Flatten()(z)])


def images(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def planned(model, shape, cache):
    """The plan of ``model`` for a cache of that many bytes, and its program."""
    graph = rewrite(build(model.inputs, model.outputs, training=False))
    whole = graph.specialise([shape])
    parts = cut(whole, lambda n: graph.specialise([(n, *shape[1:])]), cache)
    plan = Plan(whole, dispatch.load(), parts=parts)
    return plan, plan.bind(Weights(frozen=True))


def run(program, x, threads):
    outputs = program.empty_outputs()
    program.run([x], outputs, threads)
    return outputs


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("cache", [1, 10_000, 40_000, 150_000, 400_000, 10**9])
@pytest.mark.parametrize(
    "model",
    [
        pyramid(),
        networks.residual(),
        networks.dense_block(),
        networks.fire(),
        cycnn.zoo.lenet5(seed=0),
    ],
)
def test_same_bits_however_the_batch_is_cut(model, cache, threads):
    shape = tuple(n or 9 for n in model.inputs[0].shape[1:])
    x = images(BATCH, *shape)
    _, whole = planned(model, x.shape, 10**9)
    _, program = planned(model, x.shape, cache)
    for y, expected in zip(run(program, x, threads), run(whole, x, 1), strict=True):
        np.testing.assert_array_equal(y, expected)


def test_early_layers_take_few_images_and_late_ones_many():
    plan, _ = planned(pyramid(), (BATCH, 16, 16, 3), 60_000)
    turns = [step.turns for step in plan.steps]
    assert turns == sorted(turns, reverse=True)
    assert turns[0] > turns[-1] >= 1


def test_networks_with_batch_norm_take_turns():
    model = cycnn.zoo.mobilenet_v2(seed=0)
    turns = [step.turns for step in model.plan((4, 224, 224, 3)).steps]
    assert turns[0] == 4
    assert turns[-1] == 1


def test_folding_batch_norm_changes_no_turns():
    def turns(normalize):
        x = y = layers.Input((7, 7, 600))
        for filters in (600, 300, 600):
            y = layers.Conv2D(filters, 1, seed=0)(y)
            y = layers.BatchNormalization()(y) if normalize else y
        return [s.turns for s in planned(cycnn.Model(x, y), (64, 7, 7, 600), 4 * 2**20)[0].steps]

    assert turns(True) == turns(False)
    assert max(turns(True)) > 1


def test_turns_need_less_memory():
    model = pyramid()
    few, _ = planned(model, (BATCH, 16, 16, 3), 60_000)
    whole, _ = planned(model, (BATCH, 16, 16, 3), 10**9)
    assert few.arena.nbytes < whole.arena.nbytes / 2


@pytest.mark.parametrize("batch", [1, 2, 7, 13])
def test_turns_divide_the_batch(batch):
    plan, program = planned(pyramid(), (batch, 16, 16, 3), 20_000)
    assert all(batch % step.turns == 0 for step in plan.steps)
    run(program, images(batch, 16, 16, 3), 2)


def test_explain_shows_the_turns_and_profile_counts_all_of_them():
    model = cycnn.Sequential(
        [layers.Input((256, 256, 3)), layers.Conv2D(32, 3, seed=0), layers.GlobalMaxPooling2D()]
    )
    x = images(4, 256, 256, 3)
    assert {step.turns for step in model.plan(x.shape).steps} == {4}
    assert " turns " in model.plan(x.shape).explain()
    assert model.profile(x, repeats=1).seconds.min() > 0


@pytest.mark.parametrize(
    ("items", "threads", "largest"),
    [(0, 4, 1), (1, 4, 1), (4, 4, 0.25), (5, 4, 0.4), (130, 2, 0.5)],
)
def test_largest_share_of_equal_items(items, threads, largest):
    assert most_items(items, threads) == largest


def test_balance_falls_with_threads_and_is_shown():
    plan = pyramid().plan((8, 16, 16, 3))
    shares = [balance(plan, n) for n in (1, 2, 4, 16, 64)]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert f"load balance {shares[2]:.2f} at 4 threads" in plan.explain()
