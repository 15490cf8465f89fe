"""Values on the command line: counts, shares, sizes; and where results go."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

__all__ = ["count", "counts", "positive", "seed", "shape", "share", "size", "write_json"]


def count(text: str) -> int:
    """An integer of at least 1."""
    return _number(text, int, lambda n: n >= 1, "an integer of at least 1")


def seed(text: str) -> int:
    """An integer of at least 0."""
    return _number(text, int, lambda n: n >= 0, "an integer of at least 0")


def counts(text: str) -> list[int]:
    """Integers of at least 1 with commas between."""
    return [count(part) for part in text.split(",")]


def shape(text: str) -> tuple[int, int, int]:
    """``HEIGHT,WIDTH,CHANNELS``."""
    dims = counts(text.replace("x", ","))
    if len(dims) != 3:
        raise argparse.ArgumentTypeError(f"expected HEIGHT,WIDTH,CHANNELS, found {text!r}")
    return dims[0], dims[1], dims[2]


def size(text: str) -> tuple[int, int]:
    """``HEIGHT,WIDTH``, or one number for both."""
    dims = counts(text.replace("x", ","))
    if len(dims) > 2:
        raise argparse.ArgumentTypeError(f"expected HEIGHT,WIDTH, found {text!r}")
    return dims[0], dims[-1]


def share(text: str) -> float:
    """A number of at least 0 and below 1."""
    return _number(text, float, lambda n: 0 <= n < 1, "a number of at least 0 and below 1")


def positive(text: str) -> float:
    """A number of at least 0."""
    return _number(text, float, lambda n: 0 <= n < math.inf, "a number of at least 0")


def _number(text, kind, allowed, wanted):
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not allowed(number):
        raise argparse.ArgumentTypeError(f"expected {wanted}, found {text!r}")
    return number


def write_json(path: str, value: object) -> None:
    """Write ``value`` as JSON to ``path``; "-" is stdout."""
    text = json.dumps(value, indent=2) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text)
