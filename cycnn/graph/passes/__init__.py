"""Rewrites of a graph, one a file, applied in the order of `PASSES`.

A pass takes a graph and changes it in place. The graph is checked after every one, and the list can be
cut short, so that a wrong rewrite is found by bisection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir import Graph
from .eliminate_dead import eliminate_dead
from .fold_batch_norm import fold_batch_norm
from .fuse_accumulate import fuse_accumulate
from .fuse_activation import fuse_activation, fuse_activation_to_differentiate
from .fuse_residual import fuse_residual

__all__ = ["BEFORE_GRADIENT", "PASSES", "rewrite"]

PASSES: tuple[Callable[[Graph], None], ...] = (
    fold_batch_norm,
    fuse_residual,
    fuse_activation,
    fuse_accumulate,
    eliminate_dead,
)
# of a graph that is still to be differentiated
BEFORE_GRADIENT: tuple[Callable[[Graph], None], ...] = (
    fuse_residual,
    fuse_activation_to_differentiate,
)


def rewrite(
    graph: Graph, first: int | None = None, passes: Sequence[Callable[[Graph], None]] = PASSES
) -> Graph:
    """Apply the passes (the ``first`` few of them where a number is given) and return ``graph``."""
    for apply in passes[:first]:
        apply(graph)
        graph.check()
    return graph
