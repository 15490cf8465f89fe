"""Batch normalization in networks: its two modes, moving statistics, weights, saving."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import cycnn
import runner
from cycnn import layers, optimizers
from cycnn.errors import ArgumentError, ShapeError
from cycnn.ops.base import Spec
from cycnn.ops.norm import BatchNorm

SHAPE = (5, 6, 3)


def normalised(momentum: float = 0.75, seed: int = 0) -> cycnn.Sequential:
    """Convolution, normalisation, ReLU, twice, on 8x8x1 images; then four classes."""
    options = {"momentum": momentum, "epsilon": 1e-5}
    return cycnn.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(6, 3, padding="same", use_bias=False, seed=seed),
            layers.BatchNormalization(**options),
            layers.ReLU(),
            layers.Conv2D(9, 3, strides=2, seed=seed + 1),
            layers.BatchNormalization(**options),
            layers.Activation("relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, seed=seed + 2),
            layers.BatchNormalization(**options),
        ]
    )


def compiled(model: cycnn.Model, **options) -> cycnn.Model:
    model.compile(optimizers.SGD(0.05, momentum=0.9, **options), metrics=["accuracy"])
    return model


def batch(n: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(2, 3, (n, 8, 8, 1)).astype(np.float32), rng.integers(0, 4, n)


def alone(**options) -> tuple[cycnn.Model, layers.BatchNormalization]:
    """A model of one normalisation, with four outputs to train on."""
    layer = layers.BatchNormalization(**options)
    x = layers.Input((4,))
    return compiled(cycnn.Model(x, layer(x))), layer


def test_inference_normalises_by_moving_statistics():
    layer = layers.BatchNormalization(epsilon=0.5)
    x = layers.Input(SHAPE)
    model = cycnn.Model(x, layer(x))
    rng = np.random.default_rng(0)
    gamma, beta, mean = rng.normal(size=(3, 3))
    variance = rng.uniform(0.1, 2, 3)
    model.set_weights([gamma, beta, mean, variance])
    data = rng.normal(size=(2, *SHAPE))
    expected = gamma * (data - mean) / np.sqrt(variance + 0.5) + beta
    np.testing.assert_allclose(model.predict(data), expected, rtol=1e-5, atol=1e-6)


def test_weights_are_gamma_beta_and_moving_statistics():
    model, layer = alone()
    assert [p.name for p in layer.parameters] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [p.trainable for p in layer.parameters] == [True, True, False, False]
    for weights, value in zip(model.get_weights(), (1, 0, 0, 1), strict=True):
        np.testing.assert_array_equal(weights, np.full(4, value))
    assert layer.count_params() == model.count_params() == 16
    _, bare = alone(center=False, scale=False)
    assert [p.name for p in bare.parameters] == ["moving_mean", "moving_variance"]
    _, scaled = alone(center=False, gamma_initializer="zeros", moving_variance_initializer="zeros")
    assert [p.name for p in scaled.parameters] == ["gamma", "moving_mean", "moving_variance"]
    assert not any(p.value.any() for p in scaled.parameters)


def test_moving_statistics_follow_the_batches():
    """moving = momentum * moving + (1 - momentum) * batch, the variance being the unbiased one."""
    model, layer = alone(momentum=0.75)
    mean, variance = np.zeros(4), np.ones(4)
    for step in range(3):
        x = np.random.default_rng(step).normal(3, 2, (10, 4)).astype(np.float32)
        model.train_on_batch(x, np.arange(10) % 4)
        mean = 0.75 * mean + 0.25 * x.mean(axis=0, dtype=float)
        variance = 0.75 * variance + 0.25 * x.var(axis=0, ddof=1, dtype=float)
        np.testing.assert_allclose(layer.moving_mean.value, mean, rtol=1e-6)
        np.testing.assert_allclose(layer.moving_variance.value, variance, rtol=1e-6)


def test_a_layer_used_twice_moves_twice():
    layer, x = layers.BatchNormalization(momentum=0.5), layers.Input((4,))
    model = compiled(cycnn.Model(x, layer(layer(x))))
    data = np.random.default_rng(0).normal(3, 2, (10, 4)).astype(np.float32)
    model.train_on_batch(data, np.arange(10) % 4)
    first = 0.5 * data.mean(axis=0)
    np.testing.assert_allclose(layer.moving_mean.value, 0.5 * first, rtol=1e-5, atol=1e-6)


def test_training_normalises_by_the_batch():
    """Whatever the moving statistics are, the loss is that of the batch's own."""
    x, y = batch()
    model, other = compiled(normalised()), compiled(normalised())
    weights = model.get_weights()
    for i, p in enumerate(model.parameters):
        if not p.trainable:
            weights[i] = weights[i] + 5
    other.set_weights(weights)
    assert not np.array_equal(model.predict(x), other.predict(x))
    assert model.train_on_batch(x, y) == other.train_on_batch(x, y)


def test_predict_and_evaluate_follow_training_and_change_nothing():
    x, y = batch()
    model = compiled(normalised())
    session, before = cycnn.Session(model), model.predict(x)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, seed=0)
    weights = model.get_weights()
    after = model.predict(x)
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(session.run(x), before)
    np.testing.assert_array_equal(cycnn.Session(model).run(x), after)
    model.evaluate(x, y)
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_predict_sees_moving_statistics_that_were_set():
    x, _ = batch(3)
    model = normalised()
    before = model.predict(x)
    model.set_weights([w + 0.5 for w in model.get_weights()])
    assert not np.array_equal(model.predict(x), before)
    other = normalised(seed=9)
    other.set_weights(model.get_weights())
    np.testing.assert_array_equal(other.predict(x), model.predict(x))


def test_statistics_set_between_steps_are_where_training_goes_on():
    model, layer = alone(momentum=0.5)
    x = np.random.default_rng(0).normal(3, 2, (10, 4)).astype(np.float32)
    model.train_on_batch(x, np.arange(10) % 4)
    layer.moving_mean.assign(np.full(4, 100.0))
    model.train_on_batch(x, np.arange(10) % 4)
    np.testing.assert_allclose(layer.moving_mean.value, 50 + 0.5 * x.mean(axis=0), rtol=1e-6)


def test_only_what_is_trainable_is_updated_and_decays():
    model, layer = alone(momentum=1.0)
    model.compile(optimizers.SGD(0.1, weight_decay=0.5))
    gamma, beta, mean, variance = model.get_weights()
    x = np.random.default_rng(0).normal(3, 2, (10, 4)).astype(np.float32)
    model.train_on_batch(x, np.arange(10) % 4)
    assert not np.array_equal(layer.gamma.value, gamma)
    assert not np.array_equal(layer.beta.value, beta)
    np.testing.assert_array_equal(layer.moving_mean.value, mean)
    np.testing.assert_array_equal(layer.moving_variance.value, variance)


def test_nothing_to_train_but_statistics():
    model, layer = alone(center=False, scale=False, momentum=0.0)
    x = np.random.default_rng(0).normal(3, 2, (10, 4)).astype(np.float32)
    model.train_on_batch(x, np.arange(10) % 4)
    np.testing.assert_allclose(layer.moving_mean.value, x.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("threads", [2, 3])
def test_training_repeats_to_the_bit(threads):
    x, y = batch(96)
    models = [compiled(normalised()) for _ in range(2)]
    for model, n in zip(models, (1, threads), strict=True):
        model.fit(x, y, batch_size=40, epochs=2, seed=1, verbose=0, threads=n)
    for a, b in zip(*(m.get_weights() for m in models), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_interrupted_step_leaves_the_statistics_of_the_one_before(monkeypatch):
    x, y = batch()
    model = compiled(normalised())
    model.train_on_batch(x, y)
    before = model.get_weights()

    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(model.trainer.step, "apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.train_on_batch(x, y)
    monkeypatch.undo()
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    other = compiled(normalised())
    for _ in range(2):
        other.train_on_batch(x, y)
    other.set_weights(before)
    model.train_on_batch(x, y)
    other.train_on_batch(x, y)
    for p, a, b in zip(model.parameters, model.get_weights(), other.get_weights(), strict=True):
        assert p.trainable or np.array_equal(a, b)


def test_predict_during_fit_sees_statistics_of_a_finished_step():
    x, y = batch(64)
    model = compiled(normalised())
    seen, done = [], threading.Event()

    def watch():
        size = 1
        while not done.is_set():
            size = size % 7 + 1  # other shapes make other plans, which copy what they need anew
            seen.append(model.predict(np.repeat(x[:1], size, axis=0))[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    steps = [model.predict(x[:1])[0]]
    for _ in range(20):
        model.train_on_batch(x, y)
        steps.append(model.predict(x[:1])[0])
    done.set()
    watcher.join()
    assert seen
    for y in seen:
        assert any(np.array_equal(y, step) for step in steps)


def test_micro_batches_move_the_statistics_one_after_another():
    model, layer = alone(momentum=0.5)
    step = model.trainer.step
    x = np.random.default_rng(0).normal(3, 2, (20, 4)).astype(np.float32)
    for part in (x[:10], x[10:]):
        step.accumulate([part], np.zeros(10, np.int32), scale=1 / 20, seed=0, threads=1)
        assert not layer.moving_mean.value.any()
    step.apply(threads=1)
    expected = 0.25 * x[:10].mean(axis=0) + 0.5 * x[10:].mean(axis=0)
    np.testing.assert_allclose(layer.moving_mean.value, expected, rtol=1e-5)


def test_models_that_share_a_layer_share_its_statistics():
    layer, x = layers.BatchNormalization(momentum=0.5), layers.Input((4,))
    models = [compiled(cycnn.Model(x, layer(x))) for _ in range(2)]
    data = np.random.default_rng(0).normal(3, 2, (10, 4)).astype(np.float32)
    for model in models:
        model.train_on_batch(data, np.arange(10) % 4)
    np.testing.assert_allclose(layer.moving_mean.value, 0.75 * data.mean(axis=0), rtol=1e-5)


def test_a_saved_model_comes_back(tmp_path):
    x, y = batch()
    model = compiled(normalised())
    model.fit(x, y, batch_size=8, verbose=0)
    model.save(tmp_path / "model.safetensors")
    loaded = cycnn.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert loaded.layers[1].config() == model.layers[1].config()
    assert [p.trainable for p in loaded.parameters] == [p.trainable for p in model.parameters]


def test_the_summary_tells_trainable_from_non_trainable(capsys):
    model, _ = alone()
    model.summary()
    text = capsys.readouterr().out
    assert "16 weights (8 trainable, 8 non-trainable), 0 multiply-adds" in text


def test_the_activation_is_fused_in_training_too():
    model = compiled(normalised())
    plan, _ = model.trainer.step.plan(((4, 8, 8, 1),))
    names = [step.kernel.name for step in plan.steps]
    assert "relu" not in names
    assert "relu_backward" not in names
    assert names.count("bn_normalise") == 3


def test_variance_keeps_its_digits_far_from_zero():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4, 20, 20, 70)) + 3000).astype(np.float32)
    x[:, 0, :, ::2] = 0.3  # rows that begin far from the others
    wide = x.reshape(-1, 70).astype(np.float64)
    for tier in runner.TIERS:
        _, mean, invstd, unbiased = runner.run(BatchNorm(1e-5), [x, None, None], tier=tier)
        np.testing.assert_allclose(mean, wide.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(unbiased, wide.var(axis=0, ddof=1), rtol=2e-6)
        np.testing.assert_allclose(invstd, 1 / np.sqrt(wide.var(axis=0) + 1e-5), rtol=2e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: layers.BatchNormalization(1), "`axis` must be -1"),
        (lambda: layers.BatchNormalization(momentum=1.5), "`momentum`.*from 0 to 1.*=1.5"),
        (lambda: layers.BatchNormalization(momentum="fast"), "`momentum`.*'fast'"),
        (lambda: layers.BatchNormalization(epsilon=0), "`epsilon`.*epsilon=0"),
        (lambda: layers.BatchNormalization(epsilon=True), "`epsilon`.*epsilon=True"),
        (lambda: alone(gamma_initializer="magic"), "initializer.*'magic'"),
    ],
)
def test_mistakes_are_explained(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


def test_one_value_has_no_variance():
    model, _ = alone()
    before = model.get_weights()
    with pytest.raises(ShapeError, match=r"two values or more.*x of shape \(1, 4\)"):
        model.train_on_batch(np.zeros((1, 4)), [0])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ShapeError, match=r"BatchNormalization takes \(N, ..., C\)"):
        layers.BatchNormalization()(layers.Tensor(Spec((None,))))
