"""How near to the bandwidth of memory is what has little to compute: activations, sums, pooling?

Each op is timed on a tensor that stays in the second-level cache and on one that fits into none, in turns
with PyTorch and, as the yardstick, a copy of an array of the same size. Everyone writes into arrays that
exist already. "GB/s" counts every tensor once, read or written; "share" is cycnn's part of the copy's.
Figures are those of the best round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import timing
from peak import Copy

from cycnn.geometry import Window
from cycnn.graph.ir import Graph
from cycnn.kernels import dispatch
from cycnn.ops.activation import FUNCTIONS, Activation, ActivationBackward
from cycnn.ops.base import Op
from cycnn.ops.merge import Concatenate, Multiply, PixelDot, SliceChannels
from cycnn.ops.padding import Crop2D, ZeroPad2D
from cycnn.ops.pointwise import Add
from cycnn.ops.pool import (
    AveragePool2D,
    AveragePool2DBackward,
    GlobalAveragePool2D,
    MaxPool2D,
    MaxPool2DBackward,
)
from cycnn.plan.plan import Plan
from cycnn.plan.weights import Weights

SHAPES = {"cache": (1, 28, 28, 64), "memory": (16, 112, 112, 64)}
PADS = ((1, 1), (1, 1))
WINDOWS = {"2/2": Window.make(2, 2), "3/2": Window.make(3, 2, 1), "3/1": Window.make(3, 1, 1)}
TORCH_NAMES = {"hard_sigmoid": "hardsigmoid", "hard_swish": "hardswish"}


@dataclass
class Case:
    """An op on inputs of some shapes, and the name of what PyTorch does instead."""

    name: str
    op: Op
    inputs: tuple[tuple[int, ...], ...]
    torch: Callable | None = None  # (aten, tensors in its layout, result) -> call


def elementwise(x: tuple[int, ...]) -> Iterator[Case]:
    """Activations, sums and products."""
    for name in FUNCTIONS:
        yield Case(name, Activation(name), (x,), unary(TORCH_NAMES.get(name, name)))
    for name in FUNCTIONS:
        torch = backward(TORCH_NAMES.get(name, name))
        yield Case(f"{name} backward", ActivationBackward(name), (x, x), torch)
    gate = (x[0], 1, 1, x[3])
    yield Case("add", Add(), (x, x), lambda a, t, y: a.add.out(t[0], t[1], out=y))
    yield Case("multiply", Multiply(), (x, x), lambda a, t, y: a.mul.out(t[0], t[1], out=y))
    yield Case("gate", Multiply(), (x, gate), lambda a, t, y: a.mul.out(t[0], t[1], out=y))
    yield Case("gate backward", PixelDot(), (x, x))
    yield Case("concatenate", Concatenate(), (x, x), lambda a, t, y: a.cat.out(t, 1, out=y))
    yield Case("slice", SliceChannels(0, x[3] // 2), (x,))
    yield Case("pad", ZeroPad2D(PADS), (x,), lambda a, t, y: a.constant_pad_nd(t[0], [1] * 4))
    yield Case("crop", Crop2D(PADS), (x,))


def unary(name: str) -> Callable:
    """A function of one tensor; relu and relu6 as clamps, which can write into an array."""
    if name == "relu":
        return lambda a, t, y: a.clamp_min.out(t[0], 0.0, out=y)
    if name == "relu6":
        return lambda a, t, y: a.hardtanh.out(t[0], 0.0, 6.0, out=y)
    return lambda a, t, y: getattr(a, name).out(t[0], out=y)


def backward(name: str) -> Callable:
    """The gradient of one; t is z, dy."""
    if name == "relu":
        return lambda a, t, y: a.threshold_backward.grad_input(t[1], t[0], 0.0, grad_input=y)
    if name == "relu6":
        return lambda a, t, y: a.hardtanh_backward.grad_input(t[1], t[0], 0, 6, grad_input=y)
    if name == "hardswish":
        return lambda a, t, y: a.hardswish_backward.out(t[1], t[0], out=y)
    return lambda a, t, y: getattr(a, f"{name}_backward").grad_input(t[1], t[0], grad_input=y)


def pooling(x: tuple[int, ...]) -> Iterator[Case]:
    """Windows that are disjoint, that overlap, and that overlap at every pixel."""
    for name, window in WINDOWS.items():
        y = (x[0], *window.output(x[1:3]), x[3])
        args = [[v[0]] * 2 for v in (window.kernel, window.strides, window.pads(x[1:3]))]
        args[2] = [window.pads(x[1:3])[0][0]] * 2
        yield Case(f"max {name}", MaxPool2D(window), (x,), max_pool(args))
        yield Case(f"max {name} backward", MaxPool2DBackward(window), (x, y), max_back(args))
        yield Case(f"average {name}", AveragePool2D(window), (x,), average(args))
        op = AveragePool2DBackward(window, x)
        yield Case(f"average {name} backward", op, (y,), average_back(args, x))
    yield Case("global average", GlobalAveragePool2D(), (x,), lambda a, t, y: t[0].mean((2, 3)))


def max_pool(args: list) -> Callable:
    found = {}

    def call(a, t, y):
        indices = found.setdefault(0, a.max_pool2d_with_indices(t[0], *args)[1])
        a.max_pool2d_with_indices.out(t[0], *args, out=y, indices=indices)

    return call


def max_back(args: list) -> Callable:
    """From the indices that the forward pass kept: cycnn finds them again from x."""
    found = {}

    def call(a, t, y):
        if not found:
            found[0] = a.max_pool2d_with_indices(t[0], *args)[1]
        rest = (t[0], *args, [1, 1], False, found[0])
        a.max_pool2d_with_indices_backward.grad_input(t[1], *rest, grad_input=y)

    return call


def average(args: list) -> Callable:
    return lambda a, t, y: a.avg_pool2d.out(t[0], *args, False, False, None, out=y)


def average_back(args: list, shape: tuple[int, ...]) -> Callable:
    found = {}

    def call(a, t, y):
        x = found.setdefault(0, y)
        a.avg_pool2d_backward.grad_input(t[0], x, *args, False, False, None, grad_input=y)

    return call


def normal(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def ours(op: Op, arrays: list[np.ndarray], threads: int) -> tuple[Callable, np.ndarray]:
    """A call of the kernel, by a plan of one op, and what it writes."""
    graph = Graph()
    graph.outputs = [graph.add(op, *(graph.input(a.shape) for a in arrays))]
    program = Plan(graph, dispatch.load()).bind(Weights(frozen=True))
    outputs = program.empty_outputs()
    return lambda: program.run(arrays, outputs, threads), outputs[0]


def theirs(torch, case: Case, arrays: list[np.ndarray], result: np.ndarray) -> Callable:
    """PyTorch's, on tensors of its own, channels last."""
    last = [torch.from_numpy(a).clone() for a in (*arrays, result)]
    *tensors, y = (t.permute(0, 3, 1, 2) if t.ndim == 4 else t for t in last)
    return lambda: case.torch(torch.ops.aten, tensors, y)


def measure(case: Case, threads: int, torch, rounds: int, copy: Copy) -> dict:
    """Time one row."""
    arrays = [normal(shape) for shape in case.inputs]
    call, result = ours(case.op, arrays, threads)
    calls = {"cycnn": call, "copy": copy}
    if torch and case.torch:
        calls["eager"] = theirs(torch, case, arrays, result)
    times = timing.interleave(calls, rounds=rounds, threads=threads)
    nbytes = result.nbytes + sum(a.nbytes for a in arrays)
    moved = {name: copy.nbytes if name == "copy" else nbytes for name in times}
    speeds = {name: moved[name] / t.best * 1e-9 for name, t in times.items()}
    return {"op": case.name, "gbps": speeds, "share": speeds["cycnn"] / speeds["copy"]}


def line(where: str, row: dict) -> str:
    """One row of the table."""
    mine, theirs = row["gbps"]["cycnn"], row["gbps"].get("eager")
    ratio = f"{'-':>8s}{'-':>8s}" if theirs is None else f"{theirs:8.1f}{mine / theirs:8.2f}"
    return (
        f"{where:8s}{row['op']:24s}{mine:8.1f}{ratio}{row['gbps']['copy']:8.1f}{row['share']:8.0%}"
    )


def main() -> None:
    parser = timing.arguments(__doc__)
    parser.add_argument("--only", default="", help="ops whose name contains this, as backward")
    parser.add_argument("--where", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=9)
    args = timing.parse(parser)
    torch = timing.torch_kernels(args.threads)
    rows = []
    print(f"{'':32s}{'GB/s:':>8s}")
    print(f"{'':8s}{'op':24s}{'cycnn':>8s}{'eager':>8s}{'ratio':>8s}{'copy':>8s}{'share':>8s}")
    for where in args.where:
        shape = SHAPES[where]
        copy = Copy(4 * int(np.prod(shape)), args.threads)
        for case in (*elementwise(shape), *pooling(shape)):
            if args.only in case.name:
                row = measure(case, args.threads, torch, args.rounds, copy)
                rows.append({"where": where, "threads": args.threads, **row})
                print(line(where, row), flush=True)
    timing.write(args, rows)


if __name__ == "__main__":
    main()
