"""How fast are depthwise, grouped and dilated convolutions beside PyTorch's, forward and backward?

They do few multiply-adds a byte: large windows are bound by the FMA units, small ones by memory. So a
row prints cycnn's share of the FMA peak, and the bytes it moves a second, every tensor once. All are timed
in turns in one process; figures are medians of the rounds, means of groups are geometric. "needs" is what a
group's mean ratio to PyTorch is held to.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict

import timing
from layers import convolution
from peak import Peak
from shapes import DEPTHWISE, DILATED, GROUPED, Convolution

import cycnn
from cycnn.kernels import dispatch

OPS = ("forward", "backward_data", "backward_weight")
BATCHES = (1, 16)
GROUPS = {"depthwise": DEPTHWISE, "grouped": GROUPED, "dilated": DILATED}


def nbytes(shape: Convolution, batch: int) -> int:
    """Of all three tensors."""
    return 4 * sum(math.prod(s) for s in (shape.x(batch), shape.y(batch), shape.w))


def needed(op: str, group: str, kernel: int) -> float | None:
    """The ratio to PyTorch that depthwise convolution is held to."""
    if group != "depthwise":
        return None
    return 5.0 if op == "backward_weight" and kernel > 3 else 1.2


def measure(shape: Convolution, op: str, batch: int, torch, peak: Peak, rounds: int) -> dict:
    """Time one row."""
    case = convolution(shape, op, batch, torch)
    calls = {name: call for name, call in case.calls.items() if name != "prepacked"}
    times = timing.interleave({**calls, "peak": peak}, rounds=rounds, threads=peak.threads)
    seconds = {name: t.median for name, t in times.items()}
    best = peak.flops / seconds.pop("peak")
    row = {"op": op, "shape": str(shape), "kernel": shape.kernel, "batch": batch}
    row["dilation"] = shape.dilation
    row |= {"seconds": seconds, "best_seconds": {name: times[name].best for name in seconds}}
    row["share"] = case.flops / seconds["cycnn"] / best
    row["bandwidth"] = nbytes(shape, batch) / seconds["cycnn"]
    row["ratio"] = seconds["eager"] / seconds["cycnn"] if torch else None
    return row


def line(row: dict) -> str:
    """One row of the table."""
    left = f"{row['op']:16s}{row['shape']:22s}{row['batch']:5d}"
    microseconds = [row["seconds"].get(name) for name in ("cycnn", "eager")]
    times = "".join(f"{'-' if s is None else format(s * 1e6, '.1f'):>10s}" for s in microseconds)
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
    return f"{left}{times}{ratio:>8s}{row['share']:8.0%}{row['bandwidth'] * 1e-9:8.1f}"


HEADER = f"{'op':16s}{'layer':22s}{'batch':>5s}{'cycnn us':>10s}{'eager us':>10s}"
HEADER += f"{'ratio':>8s}{'peak':>8s}{'GB/s':>8s}"


def means(rows: list[dict], group: str) -> list[str]:
    """A line for each operation, kernel size, dilation and batch: the geometric mean of the ratios."""
    lines = []
    ratios = defaultdict(list)
    for r in rows:
        ratios[OPS.index(r["op"]), r["kernel"], r["dilation"], r["batch"]].append(r["ratio"])
    for number, kernel, dilation, batch in sorted(ratios):
        op, mean = OPS[number], statistics.geometric_mean(ratios[number, kernel, dilation, batch])
        needs = needed(op, group, kernel)
        held = "" if needs is None else f"  needs {needs:.1f}" + "  < needs" * (mean < needs)
        window = f"{kernel}x{kernel}" + f"d{dilation}" * (dilation > 1)
        lines.append(f"{group} {op} {window} batch {batch}: {mean:.2f}{held}")
    return lines


def main() -> None:
    parser = timing.arguments(__doc__)
    parser.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--ops", nargs="+", choices=OPS, default=OPS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--only", default="", help="layers whose name contains this, as 5x5")
    parser.add_argument("--isa", choices=sorted(timing.PEER_ISA), help="hold everyone to one tier")
    parser.add_argument("--rounds", type=int, default=15)
    args = timing.parse(parser)
    torch = timing.torch_kernels(args.threads)
    cycnn.set_num_threads(args.threads)
    peak = Peak(dispatch.load().tier, args.threads)
    rows, summary = [], []
    print(HEADER)
    for group in args.groups:
        done = []
        for op in args.ops:
            for shape in (s for s in GROUPS[group] if args.only in str(s)):
                for batch in args.batches:
                    done.append(
                        measure(shape, op, batch, torch, peak, args.rounds) | {"group": group}
                    )
                    print(line(done[-1]), flush=True)
        rows += done
        summary += means(done, group) if torch and done else []
    print("", *summary, sep="\n")
    timing.write(args, rows)


if __name__ == "__main__":
    main()
