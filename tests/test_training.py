"""Training: the two programs of a step, fit, evaluate, what repeats and what is refused."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest

import cycnn
import networks
from cycnn import layers
from cycnn.errors import ArgumentError, DTypeError, ShapeError
from cycnn.graph.interpret import interpret

SGD = cycnn.optimizers.SGD


def compiled(model=None, **options):
    model = networks.small() if model is None else model
    options = {"momentum": 0.9, **options}
    model.compile(SGD(options.pop("learning_rate", 0.05), **options), metrics=["accuracy"])
    return model


def loss_of(model, x, labels):
    """The mean loss in float64, by the interpreter."""
    trainer = model.trainer
    graph = trainer.step.graph([x.shape])
    arrays = [x.astype(np.float64), labels.astype(np.int32), np.array([1 / len(x)])]
    return float(interpret(graph, arrays, np.float64)[0][0])


def test_gradients_equal_central_differences():
    model = compiled(networks.classifier())
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(3, 9, 7, 3)), rng.integers(0, 5, 3)
    step = model.trainer.step
    step.accumulate([x.astype(np.float32)], labels.astype(np.int32), scale=1 / 3, seed=0, threads=1)
    for parameter in model.parameters:
        gradient = step.gradient(parameter)
        for index in rng.integers(0, parameter.size, 4):
            place = np.unravel_index(index, parameter.shape)
            whole, h = parameter.value.copy(), np.float32(2**-12)
            ends = []
            for sign in (1, -1):
                moved = whole.copy()
                moved[place] += sign * h
                parameter.assign(moved)
                ends.append(loss_of(model, x, labels))
            parameter.assign(whole)
            assert gradient[place] == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=2e-3)


def test_gradients_accumulate_until_applied():
    x, labels = networks.stripes(12)
    whole, halves = compiled(), compiled()
    whole.trainer.step.accumulate([x], labels.astype(np.int32), scale=1 / 12, seed=0, threads=1)
    for part in (slice(0, 5), slice(5, 12)):
        halves.trainer.step.accumulate(
            [np.ascontiguousarray(x[part])],
            labels[part].astype(np.int32),
            scale=1 / 12,
            seed=0,
            threads=1,
        )
    for a, b in zip(whole.parameters, halves.parameters, strict=True):
        np.testing.assert_allclose(
            whole.trainer.step.gradient(a), halves.trainer.step.gradient(b), rtol=1e-4, atol=1e-6
        )
    before = whole.get_weights()
    whole.trainer.step.apply(threads=1)
    assert all(not whole.trainer.step.gradient(p).any() for p in whole.parameters)
    assert any((a != b).any() for a, b in zip(before, whole.get_weights(), strict=True))


def test_a_shared_layer_gets_both_gradients():
    x = layers.Input((4,))
    shared = layers.Dense(4, seed=0)
    model = compiled(cycnn.Model(x, shared(shared(x))))
    data, labels = np.random.default_rng(0).normal(size=(6, 4)), np.arange(6) % 4
    step = model.trainer.step
    step.accumulate([data.astype(np.float32)], labels.astype(np.int32), scale=1, seed=0, threads=1)
    kernel, bias = (w.astype(np.float64) for w in model.get_weights())
    hidden = data @ kernel + bias
    logits = hidden @ kernel + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    dy = p / p.sum(axis=1, keepdims=True) - np.eye(4)[labels]
    dh = dy @ kernel.T
    expected = hidden.T @ dy + data.T @ dh
    np.testing.assert_allclose(step.gradient(shared.kernel), expected, rtol=1e-4, atol=1e-5)


def test_fit_learns_and_reports():
    x, labels = networks.stripes(256)
    xv, yv = networks.stripes(64, seed=1)
    model = compiled()
    history = model.fit(
        x, labels, batch_size=24, epochs=8, validation_data=(xv, yv), seed=0, verbose=0
    )
    assert history.epoch == list(range(8))
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history.history["loss"][-1] < history.history["loss"][0] / 3
    assert history.history["val_accuracy"][-1] > 0.95
    result = model.evaluate(xv, yv)
    assert result["accuracy"] == history.history["val_accuracy"][-1]
    assert result["loss"] == pytest.approx(history.history["val_loss"][-1], rel=1e-5)
    assert result["accuracy"] == np.mean(model.predict(xv).argmax(axis=1) == yv)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_training_repeats_to_the_bit(threads):
    x, labels = networks.stripes(70)
    weights = []
    for n in (1, threads):
        model = compiled(networks.small(dropout=0.3), nesterov=True, weight_decay=1e-3)
        model.fit(x, labels, batch_size=16, epochs=2, seed=7, verbose=0, threads=n)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_seed_trains_otherwise():
    x, labels = networks.stripes(64)
    weights = []
    for seed in (1, 2):
        model = compiled(networks.small())
        model.fit(x, labels, batch_size=16, seed=seed, verbose=0)
        weights.append(model.get_weights()[0])
    assert not np.array_equal(*weights)


def test_dropout_acts_in_training_alone():
    x, labels = networks.stripes(32)
    model = compiled(networks.small(dropout=0.5))
    np.testing.assert_array_equal(model.predict(x), networks.small().predict(x))
    first = model.trainer.step.accumulate([x], labels.astype(np.int32), scale=1, seed=1, threads=1)
    again = model.trainer.step.accumulate([x], labels.astype(np.int32), scale=1, seed=1, threads=1)
    other = model.trainer.step.accumulate([x], labels.astype(np.int32), scale=1, seed=2, threads=1)
    assert first[0] == again[0] != other[0]


def test_a_last_softmax_changes_the_prediction_and_not_the_training():
    x, labels = networks.stripes(32)
    plain, ended = compiled(), compiled(_with_softmax())
    for _ in range(3):
        assert plain.train_on_batch(x, labels) == ended.train_on_batch(x, labels)
    np.testing.assert_allclose(ended.predict(x).sum(axis=1), 1, rtol=1e-6)
    assert plain.evaluate(x, labels) == ended.evaluate(x, labels)


def _with_softmax():
    model = networks.small()
    return cycnn.Model(model.inputs, layers.Activation("softmax")(model.outputs[0]))


def test_predict_during_fit_sees_a_finished_step():
    x, labels = networks.stripes(64)
    model = compiled()
    seen, done = [], threading.Event()

    def watch():
        while not done.is_set():
            seen.append(model.predict(x[:3]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    steps = [model.predict(x[:3])]
    for _ in range(20):
        model.train_on_batch(x, labels)
        steps.append(model.predict(x[:3]))
    done.set()
    watcher.join()
    assert seen
    for y in seen:
        assert any(np.array_equal(y, step) for step in steps)


def test_a_session_keeps_its_weights_while_the_model_trains():
    x, labels = networks.stripes(32)
    model = compiled()
    session = cycnn.Session(model)
    before = session.run(x)
    model.fit(x, labels, verbose=0)
    np.testing.assert_array_equal(session.run(x), before)
    assert not np.array_equal(session.run(x[:5]), model.predict(x[:5]))
    np.testing.assert_array_equal(session.run(x[:5]), before[:5])


def test_an_interrupted_step_leaves_the_model_as_it_was(monkeypatch):
    x, labels = networks.stripes(32)
    model = compiled()
    model.train_on_batch(x, labels)
    before = model.get_weights()

    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(model.trainer.step, "apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, labels, verbose=0)
    monkeypatch.undo()
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(not model.trainer.step.gradient(p).any() for p in model.parameters)


def python_calls(function) -> int:
    count = 0

    def count_calls(frame, event, argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(count_calls)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_a_step_makes_as_many_python_calls_for_30_layers_as_for_3():
    x, labels = np.zeros((8, 4), np.float32), np.arange(8) % 4
    counts = []
    for depth in (3, 30):
        net = [layers.Dense(4, activation="relu", seed=i) for i in range(depth)]
        model = compiled(cycnn.Sequential([layers.Input((4,)), *net]))
        model.train_on_batch(x, labels)
        counts.append(python_calls(lambda model=model: model.train_on_batch(x, labels)))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("threads", [1, 2])
def test_another_python_thread_makes_progress_during_one_step(threads):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(1024, 28, 28, 1)), rng.integers(0, 10, 1024)
    model = compiled(cycnn.zoo.lenet5(seed=0))
    model.train_on_batch(x, labels, threads=threads)
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(None)
            time.sleep(0)  # let the GIL go

    ticker = threading.Thread(target=tick)
    interval = sys.getswitchinterval()
    try:
        ticker.start()
        sys.setswitchinterval(100)  # from here on the other runs only when the GIL is let go
        progress = []
        while (
            max(progress, default=0) <= 10 and len(progress) < 50
        ):  # a busy machine may give it no CPU
            before = len(ticks)
            model.train_on_batch(x, labels, threads=threads)
            progress.append(len(ticks) - before)
    finally:
        sys.setswitchinterval(interval)
        done.set()
        ticker.join()
    assert max(progress) > 10


def test_validation_split_holds_back_the_end():
    x, labels = networks.stripes(40)
    a, b = compiled(), compiled()
    history = a.fit(x, labels, validation_split=0.25, shuffle=False, verbose=0, seed=0)
    b.fit(x[:30], labels[:30], shuffle=False, verbose=0, seed=0)
    assert "val_loss" in history.history
    np.testing.assert_array_equal(a.get_weights()[0], b.get_weights()[0])


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_verbose(verbose, capfd):
    x, labels = networks.stripes(40)
    compiled().fit(x, labels, verbose=verbose, epochs=2)
    captured = capfd.readouterr()
    assert ("epoch 2/2: loss" in captured.out) == (verbose > 0)
    assert ("img" in captured.err) == (verbose == 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64])
def test_labels_of_any_integer_dtype(dtype):
    x, labels = networks.stripes(16)
    assert compiled().evaluate(x, labels.astype(dtype)) == compiled().evaluate(x, labels)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda x, y: (x, y + 3), ArgumentError, r"0 to 3\. Received: y\["),
        (lambda x, y: (x, y - 1), ArgumentError, "0 to 3"),
        (lambda x, y: (x, y.astype(float)), DTypeError, "integer labels"),
        (lambda x, y: (x, y[:-1]), ShapeError, "one length"),
        (lambda x, y: (x, np.eye(4)[y]), ShapeError, "one label a sample"),
        (lambda x, y: (x[:0], y[:0]), ShapeError, "at least one"),
        (lambda x, y: (x[:, :4], y), ShapeError, "`x` must have shape"),
    ],
)
def test_data_that_does_not_fit(change, error, text):
    x, y = change(*networks.stripes(16))
    model = compiled()
    for call in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(error, match=text):
            call(x, y)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "`batch_size`"),
        ({"epochs": -1}, "`epochs`"),
        ({"validation_split": 1.0}, "`validation_split`"),
        ({"verbose": 3}, "`verbose`"),
        ({"threads": 0}, "threads"),
        ({"validation_data": (1,)}, "`validation_data`"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_fit_options_that_are_not_allowed(options, text):
    with pytest.raises(ArgumentError, match=text):
        compiled().fit(*networks.stripes(8), **{"verbose": 0, **options})


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SGD(-1), "`learning_rate`"),
        (lambda: SGD(0.1, momentum=float("nan")), "`momentum`"),
        (lambda: SGD(0.1, nesterov=True), "`nesterov`"),
        (lambda: SGD(0.1, weight_decay="much"), "`weight_decay`"),
        (lambda: networks.small().compile("adamant"), "`optimizer`"),
        (lambda: networks.small().compile(loss="mae"), "`loss`"),
        (lambda: networks.small().compile(metrics=["f2"]), "`metrics`"),
        (lambda: networks.residual().compile(), "1 output"),
    ],
)
def test_compile_options_that_are_not_allowed(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


def test_the_learning_rate_may_change_between_steps():
    x, labels = networks.stripes(16)
    model = compiled(momentum=0.0)
    before = model.get_weights()
    model.optimizer.learning_rate = 0.0
    model.train_on_batch(x, labels)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_confusion_matrix():
    matrix = cycnn.metrics.confusion_matrix(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]))
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [0, 1, 1], [0, 0, 1]])


def test_an_interrupt_after_the_update_is_not_missed_by_predict():
    x, labels = networks.stripes(16)
    model = compiled()
    before = model.predict(x)
    step = model.trainer.step
    whole = step._apply

    class Interrupted:
        def run(self, *arguments):
            whole.run(*arguments)
            raise KeyboardInterrupt

    step._apply = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        model.train_on_batch(x, labels)
    after = model.predict(x)
    assert (after != before).any()
    np.testing.assert_array_equal(after[:3], cycnn.Session(model).run(x[:3]))


def test_numpy_scalars_are_numbers():
    assert SGD(np.float32(0.5), momentum=np.float64(0.25)).momentum == 0.25
    assert layers.Dropout(np.float32(0.5)).rate == 0.5


def test_gradients_that_meet_are_added_as_they_are_stored():
    model = networks.classifier()
    model.compile()
    plan, _ = model.trainer.step.plan(((4, 9, 7, 3),))
    names = [step.kernel.name for step in plan.steps]
    assert "add" not in names
