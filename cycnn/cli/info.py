"""Say what this installation is, or what a model file holds."""

from __future__ import annotations

import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``cycnn info`` takes."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a saved model to describe")


def run(arguments: argparse.Namespace) -> None:
    """Print the configuration, or the summary of a model."""
    import cycnn

    if arguments.model is None:
        cycnn.show_config()
        return
    model = cycnn.load(arguments.model)
    model.summary()
    if model.class_names:
        print(f"{len(model.class_names)} classes: {', '.join(map(str, model.class_names))}")
    if model.input_scaling:
        scale, offset = model.input_scaling
        print(f"input: {scale:.6g} * pixel + {offset:.6g}, pixels from 0 to 255")
