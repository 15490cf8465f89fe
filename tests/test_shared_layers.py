"""Models that share layers: they train the same weights, and wait for each other's steps."""

from __future__ import annotations

import threading
import types

import numpy as np
import pytest

import cycnn
import networks
from cycnn import layers
from cycnn.locks import Lock, together
from cycnn.training.optimizers import SGD


def test_models_that_share_layers_train_the_same_weights():
    x = layers.Input((4,))
    shared = layers.Dense(6, activation="relu", seed=0)
    models = [cycnn.Model(x, layers.Dense(4, seed=i)(shared(x))) for i in (1, 2)]
    for model in models:
        model.compile(SGD(0.05, momentum=0.9))
    data, labels = np.random.default_rng(0).normal(size=(8, 4)), np.arange(8) % 4
    for model in models:
        before = shared.kernel.value.copy()
        model.train_on_batch(data, labels)
        assert (shared.kernel.value != before).any()
    hidden = cycnn.Model(x, shared(x)).predict(data)
    expected = np.maximum(data @ shared.kernel.value + shared.bias.value, 0)
    np.testing.assert_allclose(hidden, expected, rtol=1e-5, atol=1e-6)


def test_a_model_waits_for_the_step_of_another_that_shares_layers(monkeypatch):
    """What it then sees are the weights of a finished step."""
    x, y = networks.stripes(16)
    model = networks.small()
    model.compile(SGD(0.05, momentum=0.9))
    first = cycnn.Model(model.inputs, model.layers[0](model.inputs[0]))
    both = cycnn.Model(model.inputs, layers.Dense(4, seed=9)(layers.Flatten()(first.outputs[0])))
    both.compile(SGD(0.1))
    begun, go_on, asked = threading.Event(), threading.Event(), []
    apply = model.trainer.step.apply

    def slow(**options):
        begun.set()
        go_on.wait()
        apply(**options)

    monkeypatch.setattr(model.trainer.step, "apply", slow)
    before = first.predict(x)
    training = threading.Thread(target=model.train_on_batch, args=(x, y))
    training.start()
    begun.wait()
    others = [
        threading.Thread(target=lambda: asked.append(first.predict(x))),
        threading.Thread(target=both.train_on_batch, args=(x, y)),
    ]
    for thread in others:
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
    go_on.set()
    for thread in (training, *others):
        thread.join()
    assert not np.array_equal(asked[0], before)
    assert both.trainer.step.steps == 1


def test_an_interrupt_while_waiting_leaves_no_lock_held(monkeypatch):
    first, second = Lock(), Lock()
    both = together([first, second])

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(second, "_lock", types.SimpleNamespace(acquire=interrupted))
    with pytest.raises(KeyboardInterrupt), both:
        pass
    taken = []
    thread = threading.Thread(target=lambda: taken.append(first._lock.acquire(timeout=5)))
    thread.start()
    thread.join()
    assert taken == [True]


def test_compile_waits_for_a_step_of_a_model_that_shares_layers():
    x = layers.Input((4,))
    hidden = layers.Dense(3, seed=0)(x)
    a, b = (cycnn.Model(x, layers.Dense(2, seed=1)(hidden)) for _ in range(2))
    done = threading.Event()

    def work() -> None:
        b.compile("sgd")
        done.set()

    with a._training:
        thread = threading.Thread(target=work)
        thread.start()
        assert not done.wait(0.2)
    thread.join()
    assert done.is_set()
