"""Time every algorithm that could compute each benchmark layer, and check the planner's pick.

For every shape of benchmarks/shapes.py, forward and for the data, batch 1 and 16: each candidate of
`ops.conv_candidates` that suits is planned on its own and timed in turns with the others, weights packed
beforehand. The pick is marked; the run fails where it is more than 5 % behind the fastest.

    python tools/hwbench.py [--threads N] [--purpose latency|throughput] [--only TEXT]
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import timing
from shapes import CONVOLUTIONS

import cycnn
from cycnn.geometry import Window
from cycnn.graph.ir import Graph
from cycnn.kernels import dispatch
from cycnn.ops.conv import Conv2D, Conv2DBackwardData
from cycnn.plan.choices import Chooser
from cycnn.plan.plan import Plan
from cycnn.plan.weights import Weights

BEHIND = 1.05
BATCHES = {"latency": 1, "throughput": 16}


class Array:
    """A weight as graphs know it."""

    name, dtype = "w", "float32"

    def __init__(self, shape):
        self.shape = shape
        self.value = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 0.05


def ops(shape, batch):
    """The two ops of a layer, with the shape of what they are applied to."""
    window = Window.make(shape.kernel, shape.stride, shape.padding)
    yield "forward", Conv2D(window), shape.x(batch)
    if shape.channels > 3:
        yield "data", Conv2DBackwardData(window, 1, shape.x(batch)), shape.y(batch)


def candidates(op, x_shape, weight, purpose):
    """The program of every candidate that suits, the planner's pick first."""
    graph = Graph()
    graph.outputs = [graph.add(op, graph.input(x_shape), graph.parameter(weight))]

    def planned(chosen):
        return Plan(graph, dispatch.load(), purpose=purpose, chooser=Chooser(graph, chosen))

    asked = [c for c in planned({}).choices if c.name == "algorithm"]
    plans = {option: planned({c.id: option}) for c in asked for option in c.options}
    weights = Weights(frozen=True)
    return {
        f"{name}: {'+'.join(dict.fromkeys(s.kernel.name for s in plan.steps))}": plan.bind(weights)
        for name, plan in (plans or {"only": planned({})}).items()
    }


def compare(shape, direction, op, x_shape, purpose, threads):
    """Print a line a candidate; return whether the pick is good."""
    x = np.random.default_rng(1).standard_normal(x_shape).astype(np.float32)
    programs = candidates(op, x_shape, Array(shape.w), purpose)
    picked = next(iter(programs))
    calls = {}
    for name, bound in programs.items():
        outputs = bound.empty_outputs()
        calls[name] = lambda b=bound, y=outputs: b.run([x], y, threads)
    times = timing.interleave(calls, rounds=9)
    fastest = min(t.best for t in times.values())
    print(f"{direction:8} {shape!s:22} batch {x_shape[0]}")
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
        for shape in (s for s in CONVOLUTIONS if args.only in str(s)):
            for direction, op, x_shape in ops(shape, BATCHES[purpose]):
                if not compare(shape, direction, op, x_shape, purpose, args.threads):
                    bad.append(f"{direction} {shape} for {purpose}")
    for line in bad:
        print(f"the pick is more than {BEHIND - 1:.0%} behind: {line}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
