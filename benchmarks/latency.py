"""How long does one prediction take, Python call included? LeNet-5, batch 1, cycnn and ONNX Runtime.

Both have the same weights, and their answers are compared first. Calls are timed one by one, in turns of
a hundred, and compared by their medians.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import lenet
import numpy as np
import timing

import cycnn


def onnx_runtime(model: cycnn.Model, x: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """A call of ONNX Runtime on the same network and image."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        lenet.for_onnx(onnx, model), options, providers=["CPUExecutionProvider"]
    )
    feed = {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))}
    return lambda: session.run(None, feed)[0]


def calls(model: cycnn.Model, x: np.ndarray, threads: int) -> dict[str, Callable[[], np.ndarray]]:
    """One prediction by each candidate."""
    session = cycnn.Session(model, threads=threads)
    found = {"cycnn": lambda: session.run(x)}
    if timing.peer("onnx") and timing.peer("onnxruntime"):
        found["onnxruntime"] = onnx_runtime(model, x, threads)
    if torch := timing.peer("torch"):
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        network, image = lenet.for_torch(torch, model), torch.from_numpy(x.transpose(0, 3, 1, 2))
        found["torch"] = lambda: network(image).numpy()
    return found


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
    x = np.random.default_rng(0).random((args.batch, *lenet.IMAGE), np.float32)
    candidates = calls(cycnn.zoo.lenet5(seed=0), x, args.threads)
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
