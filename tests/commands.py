"""What tests of the command ``cycnn`` share: a file of networks, pictures, and how it refuses."""

import numpy as np
import pytest

from cycnn.cli import main
from data_files import write

image = pytest.importorskip("PIL.Image")

NETWORK = """
import cycnn
from cycnn import layers

def small(input_shape, classes, seed=None):
    return cycnn.Sequential([
        layers.Input(input_shape),
        layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", seed=seed),
        layers.GlobalAveragePooling2D(),
        layers.Dense(classes, seed=seed),
    ])

def unseeded(input_shape, classes):
    return small(input_shape, classes)

def broken(input_shape, classes):
    return undefined

def wrong(input_shape, classes):
    return 3

CONSTANT = 1
"""


def write_networks(folder):
    return write(folder / "networks.py", NETWORK.encode())


def picture(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(np.full((6, 6), level, np.uint8)).save(path)
    return str(path)


def refused(capsys, *arguments):
    """Exit code 2 and one sentence on stderr, which is returned."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as exit:
        code = exit.code
    assert code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error
