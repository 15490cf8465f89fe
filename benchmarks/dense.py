"""How near do dense layers come to what the machine allows, and how near does PyTorch?

cycnn (as a session runs it, weights packed), PyTorch (eager), a burst of multiply-adds from registers and a
pass over an array that no cache holds are timed in turns in one process; speeds are those of the best
round. "limit" is the lower of two: the FMA peak, and the operations for which a plain loop over memory
would deliver the weights, read once (one that asks ahead can be faster). "share" is cycnn's part of it in
the same round, at the median, with a burst right behind it, as in `layers.py`; "best" compares the best
rounds; "needs" is what the share is held to.
"""

from __future__ import annotations

import operator
import statistics
from typing import NamedTuple

import numpy as np
import timing
from peak import Peak, Read, burst

import cycnn
from cycnn import layers
from cycnn.kernels import dispatch


class Product(NamedTuple):
    """``rows`` images times ``inputs`` x ``units`` weights; ``needs``: the share it is held to."""

    rows: int
    inputs: int
    units: int
    needs: float

    @property
    def flops(self) -> float:
        return 2.0 * self.rows * self.inputs * self.units

    def __str__(self) -> str:
        return f"{self.rows}x{self.inputs}x{self.units}"


PRODUCTS = [
    Product(1, 4096, 4096, 0.90),
    Product(16, 4096, 4096, 0.80),
    Product(128, 784, 512, 0.90),
    Product(1024, 1024, 1024, 0.95),
]
BEYOND_CACHES = 2**27  # bytes


def candidates(product: Product, torch) -> dict:
    """The layer, as each candidate runs it."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((product.rows, product.inputs), np.float32)
    model = cycnn.Sequential([layers.Input((product.inputs,)), layers.Dense(product.units, seed=0)])
    session = cycnn.Session(model)
    calls = {"cycnn": lambda: session.run(x)}
    if torch:
        kernel, bias = model.get_weights()
        w, b, tx = (torch.from_numpy(a).clone() for a in (kernel.T.copy(), bias, x))
        calls["torch"] = lambda: torch.nn.functional.linear(tx, w, b)
    return calls


def measure(
    product: Product, torch, peak: Peak, behind: Peak, read: Read, rounds: int
) -> dict[str, object]:
    """Time one row."""
    layer = candidates(product, torch)
    calls = {**layer, "peak": peak, "read": read}
    times = timing.interleave(calls, rounds=rounds, threads=peak.threads, burst=behind)
    best = {name: t.best for name, t in times.items()}
    nbytes = 4 * product.inputs * product.units
    gflops = {name: product.flops / best[name] * 1e-9 for name in layer}
    from_registers = peak.flops / best["peak"] * 1e-9
    from_memory = product.flops / nbytes * read.nbytes / best["read"] * 1e-9
    limit = min(from_registers, from_memory)
    ours, reads = times["cycnn"], times["read"].seconds
    limits = [  # seconds, round by round
        max(product.flops / behind.flops * a, nbytes / read.nbytes * b)
        for a, b in zip(ours.burst, reads, strict=True)
    ]
    return {
        "product": str(product),
        "gflops": gflops,
        "from_registers": from_registers,
        "from_memory": from_memory,
        "limit": limit,
        "share": statistics.median(map(operator.truediv, limits, ours.seconds)),
        "best": gflops["cycnn"] / limit,
        "needs": product.needs,
    }


def line(row: dict) -> str:
    """One row of the table."""
    peer = format(row["gflops"]["torch"], ".1f") if "torch" in row["gflops"] else "-"
    short = "  < needs" if row["share"] < row["needs"] else ""
    left = f"{row['product']:16s}{row['gflops']['cycnn']:10.1f}{peer:>10s}{row['limit']:10.1f}"
    return f"{left}{row['share']:8.0%}{row['best']:8.0%}{row['needs']:8.0%}{short}"


def main() -> None:
    parser = timing.arguments(__doc__)
    parser.add_argument("--isa", choices=sorted(timing.PEER_ISA), help="hold everyone to one tier")
    parser.add_argument("--only", default="", help="products whose name contains this, as 128x")
    parser.add_argument("--rounds", type=int, default=25)
    args = timing.parse(parser)
    torch = timing.torch_kernels(args.threads)
    cycnn.set_num_threads(args.threads)
    peak, behind = (kind(dispatch.load().tier, args.threads) for kind in (Peak, burst))
    read = Read(BEYOND_CACHES, args.threads)
    rows = []
    columns = f"{'share':>8s}{'best':>8s}{'needs':>8s}"
    print(f"{'GFLOP/s':16s}{'cycnn':>10s}{'torch':>10s}{'limit':>10s}{columns}")
    for product in (p for p in PRODUCTS if args.only in str(p)):
        rows.append(measure(product, torch, peak, behind, read, args.rounds))
        print(line(rows[-1]), flush=True)
    timing.write(args, rows)


if __name__ == "__main__":
    main()
