"""Name what is in pictures, with a saved model.

Pictures are resized to what the network takes; the scaling and the names of the classes are those of
the model file. Without a scaling in it, pixels go from 0 to 1.
"""

from __future__ import annotations

import argparse

import numpy as np

from .. import data, saving
from ..errors import ArgumentError
from ..model import Model
from ..session import Session
from . import values

__all__ = ["add_arguments", "run"]

WHITE = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``cycnn predict`` takes."""
    parser.add_argument("model", metavar="MODEL", help="a model saved by cycnn")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="JPEG, PNG, ... files")
    parser.add_argument("--top", type=values.count, default=3, help="classes to name (default 3)")
    parser.add_argument("--invert", action="store_true", help="swap black and white first")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--threads", type=values.count, help="threads to use")


def run(arguments: argparse.Namespace) -> None:
    """Print the likeliest classes of each picture."""
    model = saving.load(arguments.model)
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise ArgumentError("`MODEL` must take one picture and give one score for each class.")
    session = Session(model, arguments.threads)
    rows = []
    for path in arguments.images:
        scores = session.run(_input(model, path, arguments.invert))[0]
        chances = scores if _ends_in_softmax(model) else _softmax(scores)
        rows.append({"image": path, "classes": _best(model, chances, arguments.top)})
    if arguments.json:
        values.write_json("-", rows)
        return
    for row in rows:
        named = "  ".join(f"{c['name']} {c['probability']:.1%}" for c in row["classes"])
        print(f"{row['image']}: {named}")


def _input(model: Model, path: str, invert: bool) -> np.ndarray:
    """The picture at ``path`` as the network takes it: ``1 x H x W x C``."""
    dims = model.inputs[0].shape[1:]
    if len(dims) != 3:
        raise ArgumentError(f"`MODEL` must take pictures (H, W, C). It takes {dims}.")
    height, width, channels = dims
    size = None if height is None or width is None else (height, width)
    pixels = data.read_image(path, size, channels=channels)[None] * np.float32(WHITE)
    if invert:
        pixels = WHITE - pixels
    scale, offset = model.input_scaling or (1 / WHITE, 0.0)
    return pixels * np.float32(scale) + np.float32(offset)


def _ends_in_softmax(model: Model) -> bool:
    return getattr(model.outputs[0].layer, "activation", None) == "softmax"


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def _best(model: Model, chances: np.ndarray, top: int) -> list[dict[str, object]]:
    names = model.class_names or []
    names = [*names, *map(str, range(len(names), len(chances)))]
    order = np.argsort(-chances, kind="stable")[:top]
    return [
        {"name": str(names[i]), "index": int(i), "probability": float(chances[i])} for i in order
    ]
