"""How long does a whole network take, beside all peers: PyTorch, ONNX Runtime, OpenVINO and ncnn?

Ten networks of `cycnn.zoo`, with the same weights everywhere; for each, batch and number of threads the
candidates take turns, and their answers are compared. Printed are milliseconds at the median, the time of
the fastest peer over cycnn's, the geometric mean of these ratios, and how far the answers are apart at most,
as a share of the largest. Batches of ncnn, which knows none, are one image after the other. Compiling takes
PyTorch minutes: ``--peers`` leaves it out.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import timing

import cycnn

PEERS = ("torch", "compiled", "onnxruntime", "openvino", "ncnn")


def calibrate(network, images: np.ndarray) -> None:
    """Give batch normalization the statistics of ``images``, so that activations stay near 1."""
    import torch

    module = network.twin.network.train()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # the mean of all batches seen
    with torch.no_grad():
        module(torch.from_numpy(images))
    module.eval()
    for pair in network.twin.pairs:
        if not pair.ours.trainable:
            pair.ours.assign(pair.theirs.numpy())


def candidates(network, images: np.ndarray, threads: int, names: Sequence[str]) -> dict:
    """A call of cycnn, and of each peer."""
    import peers

    return {
        "cycnn": peers.session(network, images, threads),
        **{name: peers.PEERS[name](network, images, threads) for name in names},
    }


def compare(calls: dict, rounds: int, at_least: float, threads: int) -> dict:
    """Time the calls in turns; milliseconds, the ratio, and how far their answers are apart."""
    answers = {name: call() for name, call in calls.items()}
    largest = float(np.abs(answers["cycnn"]).max())
    apart = {
        name: float(np.abs(answer - answers["cycnn"]).max()) / largest
        for name, answer in answers.items()
    }
    times = timing.interleave(calls, rounds=rounds, at_least=at_least, threads=threads)
    milliseconds = {name: 1e3 * t.median for name, t in times.items()}
    row = {"milliseconds": milliseconds, "apart": apart}
    row["best_milliseconds"] = {name: 1e3 * t.best for name, t in times.items()}
    others = {name: t for name, t in milliseconds.items() if name != "cycnn"}
    if others:
        row["fastest_peer"] = min(others, key=others.get)
        row["ratio"] = others[row["fastest_peer"]] / milliseconds["cycnn"]
    return row


def rows(args, names: Sequence[str]) -> Iterator[dict]:
    """A row for each network, batch and number of threads."""
    import peers

    for name in args.networks:
        model = getattr(cycnn.zoo, name)(seed=0)
        rng = np.random.default_rng(0)
        with tempfile.TemporaryDirectory() as folder:
            network = peers.Network(model, Path(folder))
            calibrate(network, rng.standard_normal((4, *network.image), np.float32))
            for threads in args.threads:
                for batch in args.batches:
                    images = rng.standard_normal((batch, *network.image), np.float32)
                    calls = candidates(network, images, threads, names)
                    found = compare(calls, args.rounds, args.at_least, threads)
                    yield {"network": name, "batch": batch, "threads": threads, **found}


def show(row: dict, names: Sequence[str]) -> None:
    text = f"{row['network']:16s}{row['batch']:5d}{row['threads']:8d}"
    text += "".join(f"{row['milliseconds'][name]:12.3f}" for name in ("cycnn", *names))
    if "ratio" in row:
        text += f"{row['ratio']:7.2f}  {row['fastest_peer']:12s}"
    print(text + f"{max(row['apart'].values()):9.1e}", flush=True)


def show_means(found: list[dict]) -> None:
    """The geometric mean of the ratios of all networks, for each batch and number of threads."""
    for key in dict.fromkeys((row["batch"], row["threads"]) for row in found):
        ratios = [r["ratio"] for r in found if (r["batch"], r["threads"]) == key and "ratio" in r]
        if ratios:
            mean = statistics.geometric_mean(ratios)
            batch, threads = key
            print(f"batch {batch}, threads {threads}: fastest peer / cycnn {mean:.2f}")


def main() -> None:
    parser = timing.arguments(__doc__, threads=(1, 2))
    several = {"nargs": "+", "metavar": "NAME"}
    parser.add_argument(
        "--networks", **several, choices=cycnn.zoo.__all__, default=cycnn.zoo.__all__
    )
    parser.add_argument("--peers", **several, choices=PEERS, default=list(PEERS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16], metavar="N")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--at-least", type=float, default=0.05, help="seconds a turn", metavar="S")
    args = timing.parse(parser)
    if not timing.peer("torch"):
        raise SystemExit("PyTorch is needed: it writes the files that the peers read")
    names = timing.installed(args.peers)
    heads = "".join(f"{name:>12s}" for name in ("cycnn", *names))
    print(f"{'network':16s}{'batch':>5s}{'threads':>8s}{heads}  ratio  fastest       apart")
    found = []
    for row in rows(args, names):
        found.append(row)
        show(row, names)
    show_means(found)
    timing.write(args, found)


if __name__ == "__main__":
    main()
