"""How near to the copy bandwidth is batch normalization with its ReLU in training, and how near is PyTorch?

cycnn, PyTorch (eager, channels-last: normalisation and ReLU one after the other) and a copy of the same
array are timed in turns in one process. "share" is the time in which that many bytes are copied, over
cycnn's best: the forward pass reads its tensor twice and writes one, the backward pass reads four and
writes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import timing
from peak import Copy

import cycnn
from cycnn import functional

SHAPES = [(16, 56, 56, 64), (16, 14, 14, 256)]
TENSORS = {"forward": 3, "backward": 5}
Calls = dict[str, Callable[[], object]]


def ours(x: np.ndarray, dy: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> Calls:
    _, mean, invstd, _ = functional.batch_norm_training(x, gamma, beta)
    weights, relu = (gamma, beta), {"activation": "relu"}
    return {
        "forward": lambda: functional.batch_norm_training(x, *weights, **relu),
        "backward": lambda: functional.batch_norm_backward(x, dy, mean, invstd, *weights, **relu),
    }


def torchs(torch, x: np.ndarray, dy: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> Calls:
    x, dy = (torch.from_numpy(a).clone().permute(0, 3, 1, 2) for a in (x, dy))
    gamma, beta = torch.from_numpy(gamma), torch.from_numpy(beta)
    moving = torch.zeros(len(gamma)), torch.ones(len(gamma))
    forward, aten = torch.native_batch_norm, torch.ops.aten
    z, mean, invstd = forward(x, gamma, beta, *moving, True, 0.1, 1e-3)
    z = torch.relu(z)

    def backward():
        g = aten.threshold_backward(dy, z, 0)
        statistics = (*moving, mean, invstd, True, 1e-3, [True] * 3)
        return aten.native_batch_norm_backward(g, x, gamma, *statistics)

    return {
        "forward": lambda: forward(x, gamma, beta, *moving, True, 0.1, 1e-3)[0].relu_(),
        "backward": backward,
    }


def rows(torch, threads: int, rounds: int) -> Iterator[dict]:
    """One row for each shape and direction."""
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x, dy = rng.standard_normal((2, *shape), np.float32)
        weights = rng.standard_normal((2, shape[-1]), np.float32)
        calls, copy = {"cycnn": ours(x, dy, *weights)}, Copy(x.nbytes, threads)
        if torch:
            calls["torch"] = torchs(torch, x, dy, *weights)
        for op, tensors in TENSORS.items():
            candidates = {name: c[op] for name, c in calls.items()}
            candidates["copy"] = copy
            times = timing.interleave(candidates, rounds=rounds, threads=threads)
            best = {name: t.best for name, t in times.items()}
            best["copy"] *= 2 * x.nbytes / copy.nbytes  # of one pass
            yield {
                "op": op,
                "shape": shape,
                "microseconds": {name: 1e6 * s for name, s in best.items()},
                "share": tensors / 2 * best["copy"] / best["cycnn"],
                "ratio": best["torch"] / best["cycnn"] if torch else None,
            }


def main() -> None:
    parser = timing.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    args = timing.parse(parser)
    torch = timing.torch_kernels(args.threads)
    cycnn.set_num_threads(args.threads)
    found = []
    print(f"{'op':10s}{'shape':>16s}{'cycnn us':>10s}{'torch us':>10s}{'share':>8s}{'ratio':>8s}")
    for row in rows(torch, args.threads, args.rounds):
        found.append(row)
        shape = "x".join(map(str, row["shape"]))
        times = row["microseconds"]
        peer = f"{times['torch']:10.0f}" if torch else f"{'-':>10s}"
        ratio = f"{row['ratio']:8.2f}" if torch else f"{'-':>8s}"
        left = f"{row['op']:10s}{shape:>16s}{times['cycnn']:10.0f}"
        print(f"{left}{peer}{row['share']:8.0%}{ratio}", flush=True)
    timing.write(args, found)


if __name__ == "__main__":
    main()
