"""Time every algorithm that could compute each benchmark layer, and check the planner's pick.

For every shape of benchmarks/shapes.py, forward and for the data, batch 1 and 16: each candidate of
`ops.conv_candidates` that suits is planned on its own and timed in turns with the others, weights packed
beforehand: those of several such layers one after the other, as in a network, which finds large ones in
memory and not in a cache. For the weights, as throughput needs them, the families of
`ops.weight_gradient_candidates`. The pick is marked; the run fails where it is more than 5 % behind the
fastest, also when they are timed again for longer.

    python tools/hwbench.py [--threads N] [--purpose latency|throughput] [--only TEXT]
"""

import argparse
import sys
from itertools import cycle
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import timing
from shapes import CONVOLUTIONS, DEPTHWISE, DILATED, GROUPED

import cycnn
from cycnn.errors import ArgumentError
from cycnn.geometry import Window
from cycnn.graph.ir import Graph
from cycnn.kernels import dispatch
from cycnn.ops.conv import ALGORITHMS, Conv2D, Conv2DBackwardData
from cycnn.ops.weight_gradient import Conv2DBackwardWeight
from cycnn.plan.choices import Chooser
from cycnn.plan.plan import Plan
from cycnn.plan.weights import Weights

BEHIND = 1.05
ROUNDS = (9, 35)
LAYERS = 4
BATCHES = {"latency": 1, "throughput": 16}
SHAPES = [*CONVOLUTIONS, *DEPTHWISE, *GROUPED, *(s for s in DILATED if s.dilation > 1)]


class Array:
    """A weight as graphs know it."""

    name, dtype = "w", "float32"

    def __init__(self, shape):
        self.shape = shape
        self.value = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 0.05


def programs(shape, purpose):
    """(direction, programs by name, shapes of their inputs) for a layer, the planner's pick first."""
    batch = BATCHES[purpose]
    window = Window.make(shape.kernel, shape.stride, shape.padding, shape.dilation)
    x, y, w = shape.x(batch), shape.y(batch), Array(shape.w)
    yield "forward", candidates(Conv2D(window, shape.groups), x, w, purpose), [x]
    if shape.channels > 3:
        op = Conv2DBackwardData(window, shape.groups, x)
        yield "data", candidates(op, y, w, purpose), [y]
    if purpose == "throughput":
        yield "weights", families(window, shape, x, y), [x, y]


def named(plans):
    """Their programs, one for each of `LAYERS`, by what was asked for and the kernels that came of it."""
    layers = [Weights(frozen=True) for _ in range(LAYERS)]
    return {
        f"{name}: {'+'.join(dict.fromkeys(s.kernel.name for s in plan.steps))}": [
            plan.bind(weights) for weights in layers
        ]
        for name, plan in plans.items()
    }


def candidates(op, x_shape, weight, purpose):
    """The program of every candidate that suits."""
    graph = Graph()
    graph.outputs = [graph.add(op, graph.input(x_shape), graph.parameter(weight))]

    def planned(chosen):
        return Plan(graph, dispatch.load(), purpose=purpose, chooser=Chooser(graph, chosen))

    asked = [c for c in planned({}).choices if c.name == "algorithm"]
    plans = {option: planned({c.id: option}) for c in asked for option in c.options}
    return named(plans or {"only": planned({})})


def families(window, shape, x, y):
    """The program of every family of weight gradients that suits."""
    plans = {}
    for algorithm in sorted(ALGORITHMS, key=lambda name: name != "auto"):
        op = Conv2DBackwardWeight(window, shape.groups, shape.w, algorithm=algorithm)
        graph = Graph()
        try:
            graph.outputs = [graph.add(op, graph.input(x), graph.input(y))]
        except ArgumentError:  # not for such a window
            continue
        plan = Plan(graph, dispatch.load(), purpose="throughput")
        if not plans or work(plan) != work(plans["auto"]):
            plans[algorithm] = plan
    return named(plans)


def work(plan):
    """What its kernels do."""
    return [(s.kernel.name, s.kernel.items, s.kernel.attributes) for s in plan.steps]


def is_good(shape, direction, found, input_shapes, threads):
    """Whether the pick is among the fastest: at the second, longer look if not at the first."""
    return any(compare(shape, direction, found, input_shapes, threads, n) for n in ROUNDS)


def compare(shape, direction, found, input_shapes, threads, rounds):
    """Print a line a candidate; return whether the pick is good."""
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(s).astype(np.float32) for s in input_shapes]
    picked = next(iter(found))
    calls = {}
    for name, bound in found.items():
        outputs, layer = bound[0].empty_outputs(), cycle(bound)
        calls[name] = lambda b=layer, y=outputs: next(b).run(inputs, y, threads)
    times = timing.interleave(calls, rounds=rounds)
    fastest = min(t.best for t in times.values())
    print(f"{direction:8} {shape!s:22} batch {input_shapes[0][0]}")
    for name, t in sorted(times.items(), key=lambda item: item[1].best):
        mark = "<- picked" if name == picked else ""
        print(f"    {t.best * 1e3:9.3f} ms  {t.best / fastest:5.2f}  {name} {mark}")
    return times[picked].best <= BEHIND * fastest


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--purpose", choices=BATCHES, nargs="+", default=list(BATCHES))
    parser.add_argument("--only", default="", help="layers whose name contains this, as 512")
    args = parser.parse_args()
    cycnn.set_num_threads(args.threads)
    bad = []
    for purpose in args.purpose:
        for shape in (s for s in SHAPES if args.only in str(s)):
            for direction, found, input_shapes in programs(shape, purpose):
                if not is_good(shape, direction, found, input_shapes, args.threads):
                    bad.append(f"{direction} {shape} for {purpose}")
    for line in bad:
        print(f"the pick is more than {BEHIND - 1:.0%} behind: {line}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
