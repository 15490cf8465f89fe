"""A case: an op and its inputs.

An input is a shape (filled with seeded normal numbers), an array (taken as it is) or None (absent).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from cycnn.geometry import Window
from cycnn.ops.base import Op


@dataclass(frozen=True, eq=False)
class Case:
    """An op and what it is applied to."""

    op: Op
    inputs: tuple

    def __str__(self) -> str:
        attributes = [_brief(getattr(self.op, f.name)) for f in fields(self.op)]
        inputs = map(_shown, self.inputs)
        return " ".join([self.op.name, *filter(None, attributes), "on", *inputs])

    @cached_property
    def _arrays(self) -> list[np.ndarray | None]:
        rng = np.random.default_rng(zlib.crc32(str(self).encode()))
        return [_fill(x, rng) for x in self.inputs]

    def arrays(self) -> list[np.ndarray | None]:
        """New inputs, the same every time."""
        return [None if a is None else a.copy() for a in self._arrays]


def given(x: object) -> bool:
    """Whether an input is an array already."""
    return isinstance(x, np.ndarray)


def _shown(x: object) -> str:
    if x is None:
        return "-"
    return f"given {_brief(x.shape)}" if given(x) else _brief(x)


def _fill(x: object, rng: np.random.Generator) -> np.ndarray | None:
    if x is None or given(x):
        return x
    return rng.standard_normal(x).astype(np.float32)


def _brief(attribute: object) -> str:
    if isinstance(attribute, Window):
        parts = [("k", attribute.kernel), ("s", attribute.strides), ("d", attribute.dilation)]
        return "".join(f"{k}{_brief(v)}" for k, v in parts) + f"p{_brief(attribute.padding)}"
    if isinstance(attribute, tuple):
        return "x".join(map(_brief, attribute)) or "scalar"
    return "" if attribute is None else str(attribute)


def case(op: Op, *inputs: object) -> Case:
    return Case(op, inputs)
