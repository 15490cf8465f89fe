"""Cut an inference graph into parts that each take a few images of the batch at a time.

Layer by layer, a batch's activations pass through memory as soon as they outgrow the cache. A part is
a run of layers that one small group of images goes through before the next group begins, so that what
one layer writes is still in the cache when the next one reads it. Early layers have large images and
small weights, and take one image or a few at a time; late ones the whole batch, so that their weights
are read once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..graph.ir import Graph, Value
from .choices import Chooser

__all__ = ["Part", "chosen_cut", "cut"]

CACHE = 8 * 2**20  # bytes that a layer may read and write without leaving the last-level cache
CACHE_OPTIONS = (2**20, 2**21, 2**22, 2**23, 2**24, 2**25, 2**60)


class Part(NamedTuple):
    """Nodes ``first`` to ``last`` (exclusive) of ``graph``, made for 1 / ``turns`` of the batch.

    They are run ``turns`` times, each time on the next images.
    """

    graph: Graph
    first: int
    last: int
    turns: int = 1


def cut(graph: Graph, specialise: Callable[[int], Graph], cache: int = CACHE) -> list[Part]:
    """The parts of a concrete inference ``graph``; ``specialise(n)`` is the same for n images."""
    batch = graph.inputs[0].spec.shape[0] if graph.inputs else 1
    moving = _moving(graph)
    if batch < 2 or any(v.spec.shape[0] != batch for v in moving):
        return [Part(graph, 0, len(graph.nodes))]
    runs = _join(_runs(graph, moving, batch, cache), cache)
    graphs = {batch: graph}
    for run in runs:
        if run.images not in graphs:
            graphs[run.images] = specialise(run.images)
    return [Part(graphs[r.images], r.first, r.last, batch // r.images) for r in runs]


def chosen_cut(graph: Graph, specialise: Callable[[int], Graph], chooser: Chooser) -> list[Part]:
    """`cut` for the cache that was chosen by measuring, or a common one."""
    batch = graph.inputs[0].spec.shape[0] if graph.inputs else 1
    if batch < 2:
        return cut(graph, specialise)
    return cut(graph, specialise, chooser.choose_for_all("cache", CACHE_OPTIONS, CACHE))


def _moving(graph: Graph) -> set[Value]:
    """What comes from the images, and not from weights alone."""
    moving = set(graph.inputs)
    for node in graph.nodes:
        if moving.intersection(node.inputs):
            moving.update(node.outputs)
    return moving


@dataclass
class _Run:
    first: int
    last: int
    images: int
    weights: int  # bytes


def _runs(graph: Graph, moving: set[Value], batch: int, cache: int) -> list[_Run]:
    """Runs of nodes that can take equally many images: all of which a divisor of the batch is."""
    divisors = [n for n in range(1, batch + 1) if batch % n == 0]
    runs: list[_Run] = []
    for i, node in enumerate(graph.nodes):
        if not moving.intersection(node.outputs):
            continue  # on weights alone: it belongs to the run of what comes next
        values = [v for v in (*node.inputs, *node.outputs) if v is not None]
        image = sum(v.spec.nbytes for v in values if v in moving) // batch
        images = max((n for n in divisors if n * image <= cache), default=1)
        weights = sum(v.spec.nbytes for v in values if v not in moving)
        if runs and runs[-1].images == images:
            runs[-1].last, runs[-1].weights = i + 1, runs[-1].weights + weights
        else:
            runs.append(_Run(runs[-1].last if runs else 0, i + 1, images, weights))
    if runs:
        runs[-1].last = len(graph.nodes)
    return runs


def _join(runs: list[_Run], cache: int) -> list[_Run]:
    """Let a run take fewer images, as its neighbour does, where its weights stay in the cache.

    What passes between them then stays there too.
    """
    runs, i = list(runs), 0
    while i < len(runs) - 1:
        a, b = runs[i], runs[i + 1]
        larger = a if a.images > b.images else b
        if a.images == b.images or larger.weights <= cache // 4:
            runs[i : i + 2] = [
                _Run(a.first, b.last, min(a.images, b.images), a.weights + b.weights)
            ]
            i = max(i - 1, 0)
        else:
            i += 1
    return runs
