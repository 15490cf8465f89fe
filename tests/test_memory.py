"""`model.memory` foretells what a process grows by."""

from __future__ import annotations

import resource
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import cycnn
import networks
from cycnn.errors import ArgumentError, ShapeError

GROWTH = """
import ctypes, sys, numpy as np, cycnn, cycnn.zoo
from cycnn import layers

def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096

def highest():
    with open("/proc/self/status") as f:
        return next(1024 * int(line.split()[1]) for line in f if line.startswith("VmHWM"))

def network():
    return cycnn.Sequential([
        layers.Input((64, 64, 16)),
        *(layers.Conv2D(48, 3, padding="same", activation="relu", seed=i) for i in range(6)),
        layers.GlobalAveragePooling2D(),
        layers.Dense(40, seed=9),
    ])

x, y = np.zeros((8, 64, 64, 16), np.float32), np.zeros(8, np.int64)
small = cycnn.Sequential([
    layers.Input((8, 8, 1)),
    layers.Conv2D(2, 3, padding="same", activation="relu"),
    layers.MaxPooling2D(2),
    layers.Flatten(),
    layers.Dense(2),
])
small.compile()
small.fit(x[:2, :8, :8, :1], y[:2], verbose=0)  # what is imported and started on the way
before = resident()
"""
TRAIN = """
model = network()
model.compile(cycnn.optimizers.SGD(0.0, momentum=0.9))
said = model.memory(8, threads=2).total
model.fit(x, y, batch_size=8, epochs=2, verbose=0, threads=2)
"""
SMALL_STEP = """
model = cycnn.zoo.lenet5(seed=0)
model.compile(cycnn.optimizers.SGD(0.0, momentum=0.9))
said = model.memory(128, threads=2).total
x = np.zeros((128, 28, 28, 1), np.float32)
model.fit(x, np.zeros(128, np.int64), batch_size=128, epochs=2, verbose=0, threads=2)
"""
PREDICT = """
x = np.ones_like(x)
model = network()
said = model.memory(8, threads=2).total
for _ in range(2):
    model.predict(x, threads=2)
"""
SAVE = """
import sys, cycnn
from cycnn import layers
wide = [layers.Input((1024,)), layers.Dense(2048, seed=0), layers.Dense(1024, seed=1)]
cycnn.Sequential(wide).save(sys.argv[1])
"""
SERVE = """
session = cycnn.Session(sys.argv[1], threads=2)
x = np.zeros((8, 1024), np.float32)
said = session.memory(x.shape).total
for _ in range(2):
    session.run(x)
ctypes.CDLL(None).malloc_trim(0)  # what loading used for a moment
highest = resident
"""


@pytest.mark.parametrize("work", [TRAIN, SMALL_STEP, PREDICT, SERVE])
def test_what_is_said_is_what_it_takes(work, tmp_path):
    for code in [SAVE, GROWTH + work + "\nprint(said, highest() - before)"]:
        command = [sys.executable, "-c", code, str(tmp_path / "wide")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    said, grown = map(int, done.stdout.split())
    assert 0.9 * grown < said < 1.1 * grown


def test_parts_add_up_and_grow_with_the_batch():
    model = networks.small()
    prediction = model.memory(4)
    assert prediction.gradients == prediction.slots == 0
    model.compile(cycnn.optimizers.SGD(0.1, momentum=0.9))
    step = model.memory(4)
    assert step.gradients == step.slots >= 4 * model.count_params()
    assert step.weights >= 4 * model.count_params()
    assert model.memory(8).workspace > step.workspace
    assert model.memory(4, training=False) == prediction
    assert f"{step.total / 2**20:,.1f} MiB (weights" in str(step)


def test_a_session_counts_the_weights_of_its_file(tmp_path):
    model = networks.small()
    model.save(tmp_path / "model")
    session = cycnn.Session(tmp_path / "model", threads=1, optimize_for="throughput")
    assert session.memory((4, 8, 8, 1)) == model.memory(4, threads=1)


@pytest.mark.parametrize("training", [True, False])
def test_in_the_steady_state_no_page_is_new(training):
    """Large tensors that come and go would be given back to the system, and taken from it again."""
    model = cycnn.zoo.resnet20(seed=0)
    model.compile(cycnn.optimizers.SGD(0.01))
    x, y = np.zeros((32, 32, 32, 3), np.float32), np.zeros(32, np.int64)
    session = cycnn.Session(model, threads=2)
    call = partial(model.train_on_batch, x, y) if training else partial(session.run, x)
    faults = []
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        call()
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert model.memory(32, training=training).workspace > 2**22  # 1,024 pages
    assert min(faults[2:]) < 10


def test_fit_says_it_first(capsys):
    model = networks.small()
    model.compile()
    x, y = networks.stripes()
    model.fit(x, y, verbose=2)
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == f"memory: {model.memory(32)}"


def test_errors():
    with pytest.raises(ShapeError, match=r"whose input sizes are known.*None"):
        networks.residual().memory(1)
    with pytest.raises(ArgumentError, match="compile"):
        networks.small().memory(1, training=True)
    with pytest.raises(ArgumentError, match="`batch_size`"):
        networks.small().memory(0)
