"""Tuning: no option that keeps the bits changes them, and the search follows the times."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import cycnn
import networks
import runner
from cycnn import layers
from cycnn.locks import Lock
from cycnn.plan.weights import Weights
from cycnn.session import Inference
from cycnn.tuning.search import Search, Trial
from networks import images

LARGE = (184, 184, 3)


def varied() -> cycnn.Model:
    """Every kernel that can be cut in several ways: thin, depthwise, 1x1, strided, deep, Winograd's."""
    x = layers.Input(LARGE)
    y = layers.Conv2D(32, 3, padding="same", activation="relu", seed=0)(x)
    y = layers.DepthwiseConv2D(3, padding="same", seed=1)(y)
    y = layers.Conv2D(20, 1, strides=2, seed=2)(y)
    y = layers.Conv2D(24, 1, activation="relu", seed=3)(y)
    z = layers.Conv2D(24, 3, padding="same", seed=4)(y)
    y = layers.ReLU()(layers.Add()([y, z]))
    y = layers.Conv2D(280, 3, strides=3, groups=2, seed=5)(y)
    y = layers.Conv2D(40, 3, padding="same", algorithm="winograd2", seed=6)(y)
    y = layers.Conv2D(70, 3, strides=2, algorithm="direct", seed=7)(y)
    return cycnn.Model(x, layers.Dense(5, seed=8)(layers.GlobalAveragePooling2D()(y)))


NETWORKS = {
    "varied": (varied, (2, *LARGE)),
    "small": (networks.small, (8, 8, 8, 1)),
    "residual": (networks.residual, (8, 11, 6, 3)),
    "dense_block": (networks.dense_block, (8, 9, 7, 5)),
    "fire": (networks.fire, (8, 9, 7, 3)),
}


def engine_of(model, tier=None) -> Inference:
    kernels = runner.KERNELS[tier or runner.TIERS[-1]]
    return Inference(model.inputs, model.outputs, kernels, purpose="latency", guard=Lock())


def trial_of(engine, x, chosen) -> Trial:
    return Trial(*engine.trial((x.shape,), chosen, Weights(frozen=True)))


def run(trial, x, threads=2):
    outputs = trial.program.empty_outputs()
    trial.program.run([x], outputs, threads)
    return outputs


def forced(choices, turn) -> dict:
    """Another option of every choice, in turns."""
    others = {c.id: c.options[1:] for c in choices}
    return {id: options[turn % len(options)] for id, options in others.items()}


# ---- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", runner.TIERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_options_that_keep_the_bits_do(name, tier):
    make, shape = NETWORKS[name]
    engine, x = engine_of(make(), tier), images(*shape)
    usual = trial_of(engine, x, {})
    expected = run(usual, x, threads=1)
    choices = [c for c in usual.plan.choices if c.same_bits]
    for asked in itertools.groupby(sorted(choices, key=lambda c: c.name), lambda c: c.name):
        asked = list(asked[1])
        for turn in range(max(len(c.options) - 1 for c in asked)):
            trial = trial_of(engine, x, forced(asked, turn))
            assert all(map(runner.same_bits, run(trial, x), expected)), asked[0].name


def test_the_varied_network_asks_every_question():
    x = images(2, *LARGE)
    engine = engine_of(varied())
    plans = [trial_of(engine, x, {}).plan]
    for turn in range(3):
        plans.append(trial_of(engine, x, forced(plans[0].choices, turn)).plan)
    assert {c.name for plan in plans for c in plan.choices} == {
        "algorithm",
        "cache",
        "panels first",
        "rows of a band",
        "rows of a block",
        "steps",
        "streamed from",
        "tiles",
        "tiles of a step",
        "fewest tiles of a step",
    }


def algorithms(plan) -> list:
    return [(c.id, c.option) for c in plan.choices if c.name == "algorithm"]


def test_an_algorithm_is_chosen_for_a_layer_whatever_the_batch():
    x, engine = images(2, *LARGE), engine_of(varied())
    usual = trial_of(engine, x, {})
    other_bits = [c for c in usual.plan.choices if not c.same_bits]
    assert {c.name for c in other_bits} == {"algorithm"}
    for turn in range(3):
        engine.use(forced(other_bits, turn))
        found, alone = algorithms(engine.plan((x.shape,))), algorithms(engine.plan((x[:1].shape,)))
        assert found == alone != algorithms(usual.plan)
        whole = engine.run([x], 2)[0]
        np.testing.assert_array_equal(whole[:1], engine.run([x[:1]], 1)[0])
        np.testing.assert_allclose(whole, run(usual, x)[0], rtol=1e-3, atol=1e-4)


def test_exact_sessions_never_get_transforms():
    with cycnn.exact():
        engine = cycnn.Sequential(
            [layers.Input((20, 20, 40)), layers.Conv2D(40, 3, seed=0)]
        ).inference("latency")
    names = [c.options for c in engine.plan(((2, 20, 20, 40),)).choices if c.name == "algorithm"]
    assert not any("winograd" in option for options in names for option in options)


def test_what_is_no_option_is_ignored():
    engine, x = engine_of(networks.small()), images(2, 8, 8, 1)
    choices = engine.plan((x.shape,)).choices
    engine.use({c.id: "nonsense" for c in choices})
    assert [c.option for c in engine.plan((x.shape,)).choices] == [c.default for c in choices]


def test_explain_names_what_differs_from_the_default():
    engine, x = engine_of(varied()), images(2, *LARGE)
    plan = engine.plan((x.shape,))
    assert "chosen by tune" not in plan.explain()
    choice = next(c for c in plan.choices if c.name == "tiles")
    engine.use({choice.id: choice.options[2]})
    line = f"tiles: {choice.options[2]} (by default {choice.default})"
    last = engine.plan((x.shape,)).explain().split("chosen by tune:\n")[1]
    assert choice.node.label in last
    assert line in last


# ---- the search ---------------------------------------------------------------------------------


class Times:
    """Made-up times: each step takes what ``of`` says for each choice of its node, and all others 1."""

    def __init__(self, of, seconds=0.0):
        self.of, self.now, self.seconds, self.calls = of, 0.0, seconds, 0

    def clock(self) -> float:
        return self.now

    def measure(self, trial) -> np.ndarray:
        self.now += self.seconds
        self.calls += 1
        times = np.ones(len(trial.plan.steps))
        for choice in trial.plan.choices:
            times[trial.steps_of(choice)] *= self.of(choice)
        return times


def search(times, *, algorithms=False, known=None, limit=1e9):
    engine, x = engine_of(varied()), images(2, *LARGE)
    found = Search(
        lambda chosen: trial_of(engine, x, chosen),
        times.measure,
        chosen={},
        known=known or {},
        algorithms=algorithms,
        clock=times.clock,
    )
    result = found.run(limit)
    return found, trial_of(engine, x, found.chosen).plan, result


def last_is_best(choice) -> float:
    return 1 - 0.1 * choice.options.index(choice.option)


def test_the_fastest_option_is_taken():
    found, plan, (before, after) = search(Times(last_is_best))
    tuned = [c for c in plan.choices if c.name in ("rows of a band", "rows of a block")]
    assert tuned
    assert all(c.option == c.options[-1] for c in tuned)
    assert after < before
    assert found.settled == found.chosen
    assert not found.open(plan) or {c.name for c in found.open(plan)} == {"algorithm"}
    assert search(Times(last_is_best))[0].chosen == found.chosen


def test_algorithms_change_only_when_asked_for():
    _, plan, _ = search(Times(last_is_best))
    assert all(c.option == c.default for c in plan.choices if not c.same_bits)
    _, plan, _ = search(Times(last_is_best), algorithms=True)
    assert any(c.option != c.default for c in plan.choices if not c.same_bits)


def test_a_little_is_not_enough():
    found, plan, (before, after) = search(Times(lambda c: 0.98 if c.option != c.default else 1))
    assert all(c.option == c.default for c in plan.choices)
    assert before == after
    assert found.settled


def test_what_does_not_gain_as_a_whole_is_taken_back():
    times = Times(last_is_best)
    times.of = lambda c: 1 if c.option == c.default else 0.5 if times.now < 100 else 2
    times.seconds = 1e-9

    def measure(trial):
        if trial.plan.choices and found_all(trial):
            times.now = 200
        return Times.measure(times, trial)

    def found_all(trial):
        return len({c.name for c in trial.plan.choices if c.option != c.default}) > 1

    times.measure = measure
    _, plan, (before, after) = search(times)
    assert all(c.option == c.default for c in plan.choices)
    assert before == after


def test_out_of_time_means_by_default():
    times = Times(last_is_best, seconds=10)
    found, plan, result = search(times, limit=5)
    assert result == (None, None)
    assert all(c.option == c.default for c in plan.choices)
    assert found.given_up
    assert not found.settled
    times = Times(last_is_best, seconds=10)
    assert search(times, limit=0)[2] == (None, None)
    assert times.calls == 0


def test_what_is_known_is_not_measured():
    found, plan, _ = search(Times(last_is_best))
    times = Times(last_is_best)
    again, same, result = search(times, known=found.settled)
    assert times.calls == 0
    assert result == (None, None)
    assert [c.option for c in same.choices] == [c.option for c in plan.choices]
    assert again.settled == found.settled
