"""How long does one prediction take, Python call included? LeNet-5, batch 1, cycnn and ONNX Runtime.

Both have the same weights, and their answers are compared first. Calls are timed one by one, in turns of
a hundred, and compared by their medians.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timing

import cycnn


def calls(
    model: cycnn.Model, batch: int, threads: int, folder: Path
) -> dict[str, Callable[[], np.ndarray]]:
    """One prediction by each candidate."""
    height, width, channels = model.inputs[0].shape[1:]
    images = np.random.default_rng(0).random((batch, channels, height, width), np.float32)
    names = [name for name in ("onnxruntime", "torch") if timing.peer(name)]
    if "torch" not in names:  # it writes the files of the others
        session = cycnn.Session(model, threads=threads)
        return {"cycnn": lambda: session.run(images.transpose(0, 2, 3, 1))}
    import peers

    network = peers.Network(model, folder)
    return {"cycnn": peers.session(network, images, threads)} | {
        name: peers.PEERS[name](network, images, threads) for name in names
    }


def one_by_one(call: Callable[[], object], n: int) -> list[float]:
    seconds = []
    for _ in range(n):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = timing.arguments(__doc__)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=100, help="turns of a hundred calls each")
    args = timing.parse(parser)
    with tempfile.TemporaryDirectory() as folder:
        candidates = calls(cycnn.zoo.lenet5(seed=0), args.batch, args.threads, Path(folder))
    answers = {name: call() for name, call in candidates.items()}
    for name, answer in answers.items():
        np.testing.assert_allclose(answer, answers["cycnn"], rtol=1e-4, atol=1e-5, err_msg=name)
    seconds = {name: [] for name in candidates}
    for _ in range(args.rounds):
        for name, call in candidates.items():
            seconds[name] += one_by_one(call, 100)
    rows = []
    for name, values in seconds.items():
        median, ratio = statistics.median(values), None
        if rows:
            ratio = median / rows[0]["median_seconds"]
        rows.append({"name": name, "median_seconds": median, "best_seconds": min(values)})
        rows[-1]["times_cycnn"] = ratio
        text = f"{name:12s} median {median * 1e6:7.1f} us   best {min(values) * 1e6:7.1f} us"
        print(text + (f"   {ratio:5.2f} x cycnn" if ratio else ""))
    timing.write(args, rows)


if __name__ == "__main__":
    sys.exit(main())
