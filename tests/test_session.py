"""Sessions: what a service needs."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import cycnn
import networks
from cycnn import layers
from cycnn.errors import ArgumentError, CycnnError, ShapeError


def images(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 8, 8, 1)).astype(np.float32)


def test_a_new_array_every_time():
    session = cycnn.Session(networks.small())
    x = images(2)
    first = session.run(x)
    kept = first.copy()
    second = session.run(images(2, seed=1))
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("purpose", ["latency", "throughput"])
def test_a_sample_alone_or_in_a_batch_on_any_threads(purpose):
    model, x = networks.small(), images(9)
    whole = cycnn.Session(model, threads=1, optimize_for=purpose).run(x)
    for threads in (1, 2, 3):
        session = cycnn.Session(model, threads=threads, optimize_for=purpose)
        np.testing.assert_array_equal(session.run(x), whole)
        for i in range(9):
            np.testing.assert_array_equal(session.run(x[i : i + 1])[0], whole[i])


def test_predict_agrees_to_the_bit_with_a_session_of_its_purpose():
    model, x = networks.small(), images(40)
    session = cycnn.Session(model, optimize_for="throughput")
    np.testing.assert_array_equal(session.run(x), model.predict(x, batch_size=7))


def test_many_python_threads_share_one_session():
    session = cycnn.Session(networks.small(), threads=2)
    batches = [images(1 + i % 5, seed=i) for i in range(40)]
    expected = [session.run(x) for x in batches]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for y, wanted in zip(pool.map(session.run, batches), expected, strict=True):
                np.testing.assert_array_equal(y, wanted)


def test_non_contiguous_and_read_only_inputs():
    session = cycnn.Session(networks.small())
    x = images(6)
    fixed = x.copy()
    fixed.flags.writeable = False
    np.testing.assert_array_equal(session.run(fixed), session.run(x))
    np.testing.assert_array_equal(session.run(x[::2]), session.run(x)[::2])


def test_non_finite_inputs_are_seen_in_the_answer():
    session = cycnn.Session(networks.small())
    x = images(3)
    clean = session.run(x)
    x[1, 3, 3, 0] = np.nan
    y = session.run(x)
    assert np.isnan(y[1]).all()
    np.testing.assert_array_equal(y[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: cycnn.Session(5), ArgumentError, "`model`"),
        (lambda: cycnn.Session("nowhere.safetensors"), FileNotFoundError, "nowhere"),
        (lambda: cycnn.Session(networks.small(), threads=0), CycnnError, "threads"),
        (lambda: cycnn.Session(networks.small(), optimize_for="joy"), ArgumentError, "latency"),
        (lambda: cycnn.Session(networks.small()).run(np.zeros(3)), ShapeError, "`x`"),
        (lambda: cycnn.Session(networks.small()).run(), ArgumentError, "one array"),
    ],
)
def test_mistakes_are_explained(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_two_inputs_come_one_by_one_or_as_a_list():
    a, b = layers.Input((3,)), layers.Input((3,))
    model = cycnn.Model([a, b], layers.Add()([a, b]))
    session = cycnn.Session(model)
    x, y = np.ones((2, 3), np.float32), np.full((2, 3), 2.0)
    for _ in range(2):
        np.testing.assert_array_equal(session.run(x, y), x + y)
        np.testing.assert_array_equal(session.run([x, y]), x + y)


def test_a_session_is_neither_copied_nor_pickled():
    session = cycnn.Session(networks.small())
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="Session cannot be copied or pickled"):
            way(session)


def test_a_child_forked_while_a_lock_is_held_predicts():
    model, x = networks.small(), images(2)
    expected = model.predict(x)
    held, done = threading.Event(), threading.Event()

    def hold():
        with model._guard:
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if np.array_equal(model.predict(x), expected) else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    holder.join()
    assert status == 0
