"""Tuning: no option that keeps the bits changes them, the search follows the times, the file is harmless."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import cycnn
import networks
import runner
from cycnn import layers
from cycnn.errors import ArgumentError, CycnnError, ShapeError
from cycnn.locks import Lock
from cycnn.plan.weights import Weights
from cycnn.session import Inference
from cycnn.tuning import memory, tune
from cycnn.tuning.search import Search, Trial

LARGE = (184, 184, 3)


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "cache" / "tuned.json"
    monkeypatch.setenv("CYCNN_TUNE_CACHE", str(path))
    return path


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


def images(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


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


# ---- sessions and models ------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_a_tuned_session_has_the_same_results_and_remembers(threads, file):
    x = images(3, 8, 8, 1)
    session = cycnn.Session(networks.small(), threads=threads)
    expected = session.run(x)
    found = session.tune(x, verbose=0)
    assert found.before >= found.after > 0
    assert found.left == 0
    assert "ms before" in str(found)
    np.testing.assert_array_equal(session.run(x), expected)
    again = cycnn.Session(networks.small(), threads=threads).tune(x, seconds=0, verbose=0)
    assert again.before is again.after is None
    assert "nothing measured" in str(again)
    assert [c.option for c in again.choices] == [c.option for c in found.choices]
    assert json.loads(file.read_text())["answers"]


def test_a_tuned_model_predicts_evaluates_and_serves_as_before():
    x, y = networks.stripes(8)
    model = networks.small()
    model.compile()
    expected, score = model.predict(x), model.evaluate(x, y)
    found = model.tune(x, threads=2, verbose=0)
    assert found.threads == 2
    np.testing.assert_array_equal(model.predict(x), expected)
    assert model.evaluate(x, y) == score
    assert model.inference("latency").chosen == found.chosen
    now = model.plan(x.shape).choices
    assert [(c.id, c.option) for c in now] == [(c.id, c.option) for c in found.choices]


def test_algorithms_hold_for_predict_evaluate_and_new_sessions():
    x = images(4, 20, 20, 8)
    model = cycnn.Sequential([layers.Input((20, 20, 8)), layers.Conv2D(8, 3, seed=0)])
    found = model.tune(x, algorithms=True, verbose=0)
    assert any(c.name == "algorithm" for c in found.choices)
    assert "algorithm" in " ".join(found.chosen)
    whole = model.predict(x)
    np.testing.assert_array_equal(whole[2:3], model.predict(x[2:3]))
    session = cycnn.Session(model, optimize_for="throughput")
    np.testing.assert_array_equal(session.run(x), whole)


def test_calls_may_run_while_a_session_is_tuned():
    x = images(2, 8, 8, 1)
    session = cycnn.Session(networks.small(), threads=1)
    expected, done, wrong = session.run(x), threading.Event(), []

    def serve():
        while not done.is_set():
            wrong.extend([] if np.array_equal(session.run(x), expected) else [1])

    others = [threading.Thread(target=serve) for _ in range(2)]
    for thread in others:
        thread.start()
    for _ in range(3):
        session.tune(x, seconds=1, verbose=0)
    done.set()
    for thread in others:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"seconds": -1}, ArgumentError, "`seconds` must be a number of at least 0.*seconds=-1"),
        ({"seconds": float("nan")}, ArgumentError, "`seconds`.*nan"),
        ({"seconds": "long"}, ArgumentError, "`seconds`.*'long'"),
        ({"seconds": True}, ArgumentError, "`seconds`.*True"),
        ({"seconds": None}, ArgumentError, "`seconds`.*None"),
        ({"verbose": 7}, ArgumentError, "`verbose`"),
        ({"x": np.zeros((0, 8, 8, 1))}, ArgumentError, r"`x` must have at least one.*\(0, 8"),
        ({"x": np.zeros((2, 7, 8, 1))}, ShapeError, "`x`"),
    ],
)
def test_mistakes_are_explained(arguments, error, text):
    arguments = {"x": images(2, 8, 8, 1), "verbose": 0, **arguments}
    for tuned in (cycnn.Session(networks.small()), networks.small()):
        with pytest.raises(error, match=text):
            tuned.tune(arguments["x"], **{k: v for k, v in arguments.items() if k != "x"})
    with pytest.raises(CycnnError, match="`threads`"):
        networks.small().tune(images(2, 8, 8, 1), threads=0)


# ---- the file -----------------------------------------------------------------------------------


def test_answers_are_kept_for_one_machine(file):
    memory.keep("this", {"tiles 1": 8, "cache 2": 2**60, "algorithm 3": "thin", "first": True})
    memory.keep("that", {"tiles 1": 4})
    found = memory.recall("this")
    assert found == {"tiles 1": 8, "cache 2": 2**60, "algorithm 3": "thin", "first": True}
    assert memory.recall("that") == {"tiles 1": 4}
    assert memory.recall("another") == {}
    assert memory.machine("v3", 1) != memory.machine("v3", 2)
    assert memory.machine("v3", 1) != memory.machine("v4", 1)
    assert {p.name for p in file.parent.iterdir()} == {file.name, f"{file.name}.lock"}


KEEPING = """
import sys
from cycnn.tuning import memory
for i in range(30):
    memory.keep("m", {f"{sys.argv[1]} {i}": i})
"""


def test_processes_that_write_at_once_lose_nothing(file):
    command = [sys.executable, "-W", "error", "-c", KEEPING]
    several = [subprocess.Popen([*command, name]) for name in "abc"]
    assert [process.wait() for process in several] == [0, 0, 0]
    assert len(memory.recall("m")) == 90


def test_nobody_waits_for_ever_for_a_turn(file, monkeypatch):
    memory.keep("m", {"a": 1})
    monkeypatch.setattr(memory, "PATIENCE", 0.05)
    with open(f"{file}.lock") as stuck:
        fcntl.flock(stuck, fcntl.LOCK_EX)
        memory.keep("m", {"b": 2})
    assert memory.recall("m") == {"a": 1, "b": 2}


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_turn(file):
    file.parent.mkdir()
    with memory._turn(file):
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        with open(f"{file}.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_file_is_bounded_and_forgets_what_was_not_used():
    memory.keep("m", {str(i): i for i in range(memory.LIMIT)})
    memory.keep("m", {"0": 0, "new": 1})
    found = memory.recall("m")
    assert len(found) == memory.LIMIT
    assert {"0", "new", "2"} <= set(found)
    assert "1" not in found


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1, 2]",
        b'{"format": "another", "answers": {}}',
        b'{"format": "cycnn tuning 1", "answers": [1]}',
        b'{"format": "cycnn tuning 1", "answers": {"a": [1]}}',
        b"[" * 100_000,
    ],
)
def test_a_file_that_is_something_else_is_left_alone(content, file):
    file.parent.mkdir()
    file.write_bytes(content)
    session, x = cycnn.Session(networks.small()), images(2, 8, 8, 1)
    with pytest.warns(RuntimeWarning, match=r"tuned.json` cannot be used.* this process only"):
        assert session.tune(x, verbose=0).before > 0
    assert file.read_bytes() == content


@pytest.mark.parametrize("path", ["/proc/nowhere/tuned.json", "/dev/null/tuned.json"])
def test_what_cannot_be_written_is_said(path, monkeypatch):
    monkeypatch.setenv("CYCNN_TUNE_CACHE", path)
    session, x = cycnn.Session(networks.small()), images(2, 8, 8, 1)
    expected = session.run(x)
    with pytest.warns(RuntimeWarning, match=r"tuned.json` cannot be .* this process only") as seen:
        found = session.tune(x, verbose=0)
    assert [Path(w.filename).name for w in seen] == [Path(__file__).name]
    assert found.before > 0
    np.testing.assert_array_equal(session.run(x), expected)


def test_where_the_file_is(monkeypatch):
    monkeypatch.setenv("CYCNN_TUNE_CACHE", "")
    assert memory.location() is None
    memory.keep("m", {"a": 1})
    assert memory.recall("m") == {}
    monkeypatch.delenv("CYCNN_TUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert memory.location() == Path("/somewhere/cycnn/tuned.json")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/home/someone")
    assert memory.location() == Path("/home/someone/.cache/cycnn/tuned.json")


def test_without_tune_no_file_is_read(monkeypatch, file):
    file.parent.mkdir()
    file.write_text("{")
    networks.small().predict(images(2, 8, 8, 1))
    cycnn.Session(networks.small()).run(images(2, 8, 8, 1))
    assert tune.__module__ == "cycnn.tuning.search"
