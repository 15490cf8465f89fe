"""What do threads cost and share: after a pause, beside other libraries' threads, and item by item?

* after a pause: a convolution after an idle second, beside the same one back to back; and that on one
  thread, which wakes nobody: what it loses, too, is the machine's own sleep, low clock and cold caches;
* mixing: a convolution in turns with NumPy's BLAS, and with PyTorch, beside each on its own;
* balance: how evenly the items of a plan keep the threads busy, computed and measured;
* denormals: a step on numbers too small to be normal beside the same step on normal ones.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import timing

import cycnn
from cycnn import layers
from cycnn.plan.explain import balance


def network() -> cycnn.Model:
    """Two convolutions of some 0.2 GFLOP each."""
    return cycnn.Sequential(
        [
            layers.Input((28, 28, 128)),
            layers.Conv2D(128, 3, padding="same", activation="relu", algorithm="direct", seed=0),
            layers.Conv2D(128, 3, padding="same", algorithm="direct", seed=1),
        ]
    )


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def after_a_pause(
    calls: dict[str, Callable[[], object]], pauses: int, length: float
) -> dict[str, dict[str, float]]:
    """Medians of each call back to back, and of the first one after a pause, taken in turns."""
    busy = {name: [seconds(call) for _ in range(50)][10:] for name, call in calls.items()}
    idle = {name: [] for name in calls}
    for _ in range(pauses):
        for name, call in calls.items():
            time.sleep(length)
            idle[name].append(seconds(call))
    return {
        name: {"busy": statistics.median(busy[name]), "after_pause": statistics.median(idle[name])}
        for name in calls
    }


def mixed(call: Callable[[], object], other: Callable[[], object], n: int) -> dict[str, float]:
    """Medians of two calls on their own and in turns."""
    alone = statistics.median(seconds(call) for _ in range(n))
    other_alone = statistics.median(seconds(other) for _ in range(n))
    pairs = [(seconds(call), seconds(other)) for _ in range(n)]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"alone": alone, "mixed": mine, "other_alone": other_alone, "other_mixed": theirs}


def products(torch, threads: int) -> dict[str, Callable[[], object]]:
    """A matrix product of each library that keeps threads of its own."""
    a = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    found = {"numpy": lambda: a @ a}
    if torch:
        torch.set_num_threads(threads)
        t = torch.from_numpy(a)
        found["torch"] = lambda: torch.mm(t, t)
    return found


def denormal(threads: int) -> dict[str, float]:
    """Median seconds of a training step with inputs of normal size, and of 1e-39."""
    model, labels = cycnn.zoo.lenet5(seed=0), np.zeros(64, np.int64)
    model.compile(cycnn.optimizers.SGD(0.0))
    x = np.random.default_rng(0).random((64, 28, 28, 1), np.float32)
    found = {}
    for name, images in {"normal": x, "denormal": x * np.float32(1e-39)}.items():
        calls = [
            seconds(lambda images=images: model.train_on_batch(images, labels, threads=threads))
            for _ in range(30)
        ]
        found[name] = statistics.median(calls[5:])
    return found


def main() -> None:
    parser = timing.arguments(__doc__)
    parser.set_defaults(threads=2)
    parser.add_argument("--pauses", type=int, default=20)
    args = timing.parse(parser)
    cycnn.set_num_threads(args.threads)
    model = network()
    session, alone = cycnn.Session(model), cycnn.Session(model, threads=1)
    x = np.random.default_rng(0).random((1, 28, 28, 128), np.float32)

    def call() -> None:
        session.run(x)

    pauses = after_a_pause({"threads": call, "one": lambda: alone.run(x)}, args.pauses, 1.0)
    rows = [{"question": "pause", **pauses["threads"], "one_thread": pauses["one"]}]
    extra = {name: 1e3 * (p["after_pause"] - p["busy"]) for name, p in pauses.items()}
    print(
        f"after an idle second: {extra['threads']:.3f} ms more than back to back on {args.threads} "
        f"threads, {extra['one']:.3f} on one"
    )
    for name, product in products(timing.peer("torch"), args.threads).items():
        row = mixed(call, product, 200)
        rows.append({"question": "mixing", "with": name, **row})
        ratios = row["mixed"] / row["alone"], row["other_mixed"] / row["other_alone"]
        print(f"in turns with {name}: cycnn takes {ratios[0]:.2f} times, {name} {ratios[1]:.2f}")
    one, many = (
        statistics.median(model.profile(x, repeats=20, threads=n).seconds.sum() for _ in range(5))
        for n in (1, args.threads)
    )
    computed, measured = balance(session.plan(x.shape), args.threads), one / many / args.threads
    rows.append({"question": "balance", "computed": computed, "measured": measured})
    print(f"balance at {args.threads} threads: computed {computed:.2f}, measured {measured:.2f}")
    rows.append({"question": "denormals", **denormal(args.threads)})
    print(
        f"denormals: {rows[-1]['denormal'] / rows[-1]['normal']:.2f} times the time of normal numbers"
    )
    timing.write(args, rows)


if __name__ == "__main__":
    main()
