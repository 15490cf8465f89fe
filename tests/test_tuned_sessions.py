"""Tuned sessions and models: the results of before, and answers kept in a file that does no harm."""

from __future__ import annotations

import fcntl
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
from cycnn import layers
from cycnn.errors import ArgumentError, CycnnError, ShapeError
from cycnn.tuning import memory, tune
from networks import images


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "cache" / "tuned.json"
    monkeypatch.setenv("CYCNN_TUNE_CACHE", str(path))
    return path


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
