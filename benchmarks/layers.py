"""How near to the FMA peak are convolutions and GEMM, forward and backward, and how near to the peers?

Everything is timed in turns in one process: cycnn (forward as a session runs it), PyTorch as it comes
(eager), oneDNN with weights packed ahead of time, forward the other peers that ``--peers`` names, and a
burst of multiply-adds from registers (the peak). Speeds are those of the best round. Cores that are held to
some power lower their clock for a product, which reads as well as multiplies, and take milliseconds to raise
it again. So there are two shares: "share" is cycnn's part of a burst right behind it (of "burst" GFLOP/s) in
the same round, at the median, and "needs" is what it is held to; "best" is the best round's part of the best
peak, which may have had the higher clock. Multiply-adds are counted as in direct convolution, those on
padding too, so that Winograd's tiles go beyond 100 %. "onednn" is the share of oneDNN with packed weights;
"error" is the root mean square of the difference to PyTorch's result in float64, as a share of that of the
result. Neighbours that stay for seconds outlast all rounds of a row: `--passes` comes to each row several
times, and pools their rounds.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import timing
from peak import Peak, burst
from shapes import BATCHES, CONVOLUTIONS, GEMM, Convolution, required

import cycnn
from cycnn import functional, layers
from cycnn.kernels import dispatch

Calls = dict[str, Callable[[], object]]
Pool = defaultdict[str, timing.Times]  # every round of each candidate
OPS = ("forward", "backward_data", "backward_weight", "gemm")
PEERS = ("compiled", "onnxruntime", "openvino", "ncnn")


@dataclass
class Case:
    """One row: an operation of ``flops`` with a call for each candidate; cycnn's is the first.

    ``nbytes``: what has to come from memory or go there, every tensor once. ``exact`` computes the result
    in float64.
    """

    name: str
    op: str
    batch: int
    flops: float
    nbytes: int
    needs: float | None
    calls: Calls = field(default_factory=dict)
    exact: Callable[[], np.ndarray] | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        return self.op, self.name, self.batch

    def error(self) -> float | None:
        """Root mean square of cycnn's rounding error over that of the result."""
        if self.exact is None:
            return None
        exact = self.exact()
        difference = self.calls["cycnn"]() - exact
        return float(np.sqrt(np.vdot(difference, difference) / np.vdot(exact, exact)))


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def network(shape: Convolution, w: np.ndarray, window: dict) -> cycnn.Model:
    """One of a single layer, as it is served."""
    conv = layers.Conv2D(shape.filters, shape.w[:2], **window)
    model = cycnn.Sequential([layers.Input(shape.x(1)[1:]), conv])
    model.set_weights([w, np.zeros(shape.filters, np.float32)])
    return model


def session(model: cycnn.Model, x: np.ndarray) -> Callable[[], np.ndarray]:
    """Serve it: for one image latency is its purpose, for a batch throughput."""
    purpose = "latency" if len(x) == 1 else "throughput"
    return partial(cycnn.Session(model, optimize_for=purpose).run, x)


def served(model: cycnn.Model, x: np.ndarray, names: Sequence[str], threads: int) -> Calls:
    """The peers that serve whole networks, serving that of a single layer."""
    if not names:
        return {}
    import peers

    with tempfile.TemporaryDirectory() as folder:
        one, images = peers.Network(model, Path(folder)), np.moveaxis(x, 3, 1).copy()
        return {name: peers.PEERS[name](one, images, threads) for name in names}


def convolution(
    shape: Convolution,
    op: str,
    batch: int,
    torch,
    *,
    algorithm: str = "auto",
    packed: bool = False,
    names: Sequence[str] = (),
    threads: int = 1,
) -> Case:
    """One convolution and one of its three directions; ``packed``: weights, ahead of backward_data.

    Forward, the peers of those ``names`` serve it, too, on as many ``threads``.
    """
    x, w, dy = normal(*shape.x(batch)), normal(*shape.w) * 0.05, normal(*shape.y(batch))
    window = {
        "strides": shape.stride,
        "padding": shape.padding,
        "dilation_rate": shape.dilation,
        "groups": shape.groups,
        "algorithm": algorithm,
    }
    nbytes = x.nbytes + w.nbytes + dy.nbytes
    case = Case(str(shape), op, batch, shape.flops(batch), nbytes, required(shape, op, batch))
    if op == "forward":
        model = network(shape, w, window)
        case.calls["cycnn"] = session(model, x)
    elif op == "backward_data":
        weights = functional.pack(w) if packed else w
        case.calls["cycnn"] = lambda: functional.conv2d_backward_data(
            dy, weights, x.shape, **window
        )
    else:
        case.calls["cycnn"] = lambda: functional.conv2d_backward_weight(x, dy, w.shape, **window)
    if torch:
        case.calls |= torch_convolution(torch, shape, op, x, w, dy)
        case.exact = partial(exact_convolution, torch, shape, op, x, w, dy)
    if op == "forward":
        case.calls |= served(model, x, names, threads)
    return case


def exact_convolution(torch, shape: Convolution, op: str, x, w, dy) -> np.ndarray:
    """What should come out, by PyTorch in float64, in cycnn's order of axes."""
    window = [[shape.stride] * 2, [shape.padding] * 2, [shape.dilation] * 2]
    x, dy = (torch.from_numpy(a).double().permute(0, 3, 1, 2) for a in (x, dy))
    w = torch.from_numpy(w).double().permute(3, 2, 0, 1)
    if op == "forward":
        y = torch.nn.functional.conv2d(x, w, None, *window, shape.groups)
        return y.permute(0, 2, 3, 1).numpy()
    mask = [op == "backward_data", op == "backward_weight", False]
    rest = [False, [0, 0], shape.groups, mask]
    dx, dw, _ = torch.ops.aten.convolution_backward(dy, x, w, None, *window, *rest)
    return (dx.permute(0, 2, 3, 1) if dw is None else dw.permute(2, 3, 1, 0)).numpy()


def torch_convolution(torch, shape: Convolution, op: str, x, w, dy) -> Calls:
    """PyTorch's calls of a convolution, their tensors channels-last."""
    window = [[shape.stride] * 2, [shape.padding] * 2, [shape.dilation] * 2]
    x, dy = (torch.from_numpy(a).clone().permute(0, 3, 1, 2) for a in (x, dy))
    w = torch.from_numpy(w).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    b = torch.zeros(shape.filters)
    if op != "forward":
        mask = [op == "backward_data", op == "backward_weight", False]
        gradient, rest = torch.ops.aten.convolution_backward, [False, [0, 0], shape.groups, mask]
        return {"eager": lambda: gradient(dy, x, w, None, *window, *rest)}
    mkldnn = torch.ops.mkldnn
    strides, padding, dilation = window
    ahead = [padding, strides, dilation, shape.groups]
    packed = mkldnn._reorder_convolution_weight(w, *ahead, list(x.shape))
    return {
        "eager": lambda: torch.nn.functional.conv2d(x, w, b, *window, shape.groups),
        "prepacked": lambda: mkldnn._convolution_pointwise(x, packed, b, *ahead, "none", [], ""),
    }


def gemm(torch) -> Case:
    """A matrix product with the right-hand side packed ahead of time."""
    x, w = normal(GEMM, GEMM), normal(GEMM, GEMM)
    packed = functional.pack(w)
    case = Case(f"{GEMM}^3", "gemm", 1, 2.0 * GEMM**3, 3 * x.nbytes, 0.95)
    case.calls["cycnn"] = lambda: functional.dense(x, packed)
    if torch:
        tx, tw = torch.from_numpy(x).clone(), torch.from_numpy(w).clone()
        case.calls["eager"] = lambda: torch.mm(tx, tw)
        case.exact = lambda: (tx.double() @ tw.double()).numpy()
    return case


def cases(args, torch, names: Sequence[str]) -> Iterator[Case]:
    """Every row asked for, made when it is timed."""
    options = {"algorithm": args.algorithm, "packed": args.packed}
    options |= {"names": names, "threads": args.threads}
    for op in args.ops:
        if op == "gemm":
            yield gemm(torch)
            continue
        for shape in (s for s in CONVOLUTIONS if args.only in str(s)):
            for batch in args.batches:
                yield convolution(shape, op, batch, torch, **options)


def measure(case: Case, peak: Peak, behind: Peak, rounds: int, times: Pool) -> dict:
    """Time one row; ``times`` holds its rounds of the passes before, and takes these."""
    form = {"rounds": rounds, "threads": peak.threads, "burst": behind}
    for name, found in timing.interleave({"peak": peak, **case.calls}, **form).items():
        times[name] += found
    flops = {name: peak.flops if name == "peak" else case.flops for name in times}
    row = {"op": case.op, "shape": case.name, "batch": case.batch, "needs": case.needs}
    row |= {"flops": case.flops, "bytes": case.nbytes}
    row["gflops"] = {name: t.gflops(flops[name]) for name, t in times.items()}
    row["median_gflops"] = {name: flops[name] / t.median * 1e-9 for name, t in times.items()}
    row["shares"] = {name: flops[name] / behind.flops * t.of_burst for name, t in times.items()}
    row["share"] = row["shares"]["cycnn"]
    row["burst"] = behind.flops / statistics.median(times["cycnn"].burst) * 1e-9
    row["best"] = row["gflops"]["cycnn"] / row["gflops"]["peak"]
    return row


def header(names: Sequence[str]) -> str:
    """Of the table, with a column for each of the ``names``."""
    rest = ("burst", "share", "best", "onednn", "needs", "error")
    titles = "".join(f"{name:>12s}" for name in (*names, *rest))
    return f"{'':45s}{'GFLOP/s:':>10s}\n{'op':16s}{'layer':22s}{'batch':>5s}{titles}"


def line(row: dict, names: Sequence[str]) -> str:
    """One row of the table."""
    speeds = [row["gflops"].get(name) for name in names] + [row["burst"]]
    numbers = "".join(f"{'-' if g is None else format(g, '.0f'):>12s}" for g in speeds)
    parts = (row["share"], row["best"], row["shares"].get("prepacked"), row["needs"])
    shares = "".join(f"{'-' if part is None else format(part, '.0%'):>12s}" for part in parts)
    error = "-" if row["error"] is None else f"{row['error']:.1e}"
    short = "  < needs" if row["needs"] and row["share"] < row["needs"] else ""
    left = f"{row['op']:16s}{row['shape']:22s}{row['batch']:5d}"
    return f"{left}{numbers}{shares}{error:>12s}{short}"


def main() -> None:
    parser = timing.arguments(__doc__)
    parser.add_argument("--ops", nargs="+", choices=OPS, default=OPS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--only", default="", help="layers whose name contains this, as 512")
    parser.add_argument(
        "--algorithm", choices=("auto", "direct"), default="auto", help="of cycnn's convolutions"
    )
    parser.add_argument(
        "--packed", action="store_true", help="pack cycnn's weights ahead for backward_data, too"
    )
    parser.add_argument(
        "--isa", choices=sorted(timing.PEER_ISA), help="hold cycnn, PyTorch and oneDNN to one tier"
    )
    parser.add_argument("--rounds", type=int, default=15, help="of each pass")
    parser.add_argument("--passes", type=int, default=1, help="over all rows, one after the other")
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=(), help="forward, as networks of one layer"
    )
    args = timing.parse(parser)
    if args.isa and args.peers:
        parser.error("--isa holds cycnn, PyTorch and oneDNN to a tier, but none of --peers")
    torch = timing.torch_kernels(args.threads)
    names = timing.installed(args.peers) if torch else []
    columns = ("cycnn", "eager", "prepacked", *names, "peak")
    cycnn.set_num_threads(args.threads)
    peak, behind = (kind(dispatch.load().tier, args.threads) for kind in (Peak, burst))
    times = defaultdict(lambda: defaultdict(timing.Times))
    print(header(columns))
    rows = {}
    for n in range(args.passes):
        for case in cases(args, torch, names):
            rows[case.key] = measure(case, peak, behind, args.rounds, times[case.key])
            if n == args.passes - 1:
                rows[case.key]["error"] = case.error()
                print(line(rows[case.key], columns), flush=True)
    timing.write(args, list(rows.values()))


if __name__ == "__main__":
    main()
