"""`model.memory` foretells what a process grows by."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cycnn
import networks
from cycnn.errors import ArgumentError, ShapeError

GROWTH = """
import numpy as np, cycnn
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
small = cycnn.Sequential([layers.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)])
small.compile()
small.fit(x[:2, :4, :4, :1], y[:2], verbose=0)  # what is imported and started on the way
before = resident()
"""
TRAIN = """
model = network()
model.compile(cycnn.optimizers.SGD(0.0, momentum=0.9))
said = model.memory(8, threads=2).total
model.fit(x, y, batch_size=8, epochs=2, verbose=0, threads=2)
"""
PREDICT = """
model = network()
said = model.memory(8, threads=2).total
for _ in range(2):
    model.predict(x, threads=2)
"""


@pytest.mark.parametrize("work", [TRAIN, PREDICT])
def test_what_is_said_is_what_it_takes(work):
    code = GROWTH + work + "\nprint(said, highest() - before)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
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
