"""Rewrites of a graph, one a file, applied in the order of `PASSES`.

A pass takes a graph and changes it in place. The graph is checked after every one, and the list can be
cut short, so that a wrong rewrite is found by bisection.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir import Graph
from .eliminate_dead import eliminate_dead
from .fold_batch_norm import fold_batch_norm
from .fuse_accumulate import fuse_accumulate
from .fuse_activation import fuse_activation
from .fuse_residual import fuse_residual

__all__ = ["PASSES", "rewrite"]

PASSES: tuple[Callable[[Graph], None], ...] = (
    fold_batch_norm,
    fuse_residual,
    fuse_activation,
    fuse_accumulate,
    eliminate_dead,
)


def rewrite(graph: Graph, first: int | None = None) -> Graph:
    """Apply the passes (the ``first`` few of them where a number is given) and return ``graph``."""
    for apply in PASSES[:first]:
        apply(graph)
        graph.check()
    return graph
