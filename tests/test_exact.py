"""Inside an exact block no transform is used; what was made outside it, or in it, stays what it is."""

from __future__ import annotations

import numpy as np

import cycnn
from cycnn import functional, layers

X = np.random.default_rng(0).standard_normal((2, 28, 28, 64)).astype(np.float32)


def network(algorithm: str = "auto") -> cycnn.Sequential:
    return cycnn.Sequential(
        [
            layers.Input((28, 28, 64)),
            layers.Conv2D(64, 3, padding="same", algorithm=algorithm, seed=0),
            layers.Conv2D(96, 3, strides=2, padding=1, algorithm=algorithm, seed=1),
            layers.GlobalAveragePooling2D(),
        ]
    )


def kernels(plan) -> set[str]:
    return {step.kernel.name for step in plan.steps}


def uses_transform(plan) -> bool:
    return any("winograd" in name for name in kernels(plan))


def test_predict_follows_the_block():
    model = network()
    assert uses_transform(model.plan(X.shape))
    with cycnn.exact():
        assert not uses_transform(model.plan(X.shape))
        y = model.predict(X)
        with cycnn.exact(False):
            assert uses_transform(model.plan(X.shape))
    np.testing.assert_array_equal(y, network("direct").predict(X))
    assert np.any(model.predict(X) != y)


def test_a_session_keeps_what_held_when_it_was_made():
    with cycnn.exact():
        session = cycnn.Session(network())
    assert not uses_transform(session.plan(X.shape))
    other = cycnn.Session(network())
    with cycnn.exact():
        assert uses_transform(other.plan(X.shape))


def test_training_follows_the_block():
    model = network()
    model.compile(cycnn.optimizers.SGD(0.1))
    assert uses_transform(model.trainer.step.plan((X.shape,))[0])
    with cycnn.exact():
        assert not uses_transform(model.trainer.step.plan((X.shape,))[0])


def test_functions_follow_the_block():
    w = np.random.default_rng(1).standard_normal((3, 3, 64, 64)).astype(np.float32)
    direct = functional.conv2d(X, w, padding=1, algorithm="direct")
    transformed = functional.conv2d(X, w, padding=1)
    with cycnn.exact():
        np.testing.assert_array_equal(functional.conv2d(X, w, padding=1), direct)
    assert np.any(transformed != direct)
    np.testing.assert_allclose(transformed, direct, rtol=1e-3, atol=1e-3)
