"""Time one network or layer on 1 to n threads.

    cycnn bench --model lenet5 --input 28,28,1 --batch 128 --train
    cycnn bench --layer "Conv2D(64, 3, padding='same')" --input 56,56,64 --threads 1,2

The numbers of threads take turns, so that what disturbs the machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from .. import __version__, threads
from ..kernels import dispatch
from ..model import Model
from ..session import Session
from ..summary import multiply_adds
from . import values
from .networks import layer_network, load_network

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``cycnn bench`` takes."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", help="lenet5 (default), FILE.py:function or a saved model")
    what.add_argument("--layer", help="one layer, as in Python, with literal arguments")
    add = parser.add_argument
    add(
        "--input", type=values.shape, default=(28, 28, 1), metavar="H,W,C", help="(default 28,28,1)"
    )
    add("--classes", type=values.count, default=10, help="of the network (default 10)")
    add("--batch", type=values.count, default=1, help="images a call (default 1)")
    add("--threads", type=values.counts, help="such as 1,2,4 (default 1 to all)")
    add("--repeats", type=values.count, default=50, help="timed calls for each (default 50)")
    add("--train", action="store_true", help="time a training step instead of a prediction")
    add("--profile", action="store_true", help="print the time of each step of the plan as well")
    add("--json", metavar="FILE", help='write the figures as JSON; "-" prints nothing else')


def run(arguments: argparse.Namespace) -> None:
    """Time the calls and print or write what was found."""
    arguments.model = arguments.model or "lenet5"
    if arguments.layer:
        model = layer_network(arguments.layer, arguments.input)
    else:
        model = load_network(arguments.model, arguments.input, arguments.classes, seed=0)
    shape = (arguments.batch, *_sizes(model, arguments.input))
    numbers = arguments.threads or list(range(1, threads.get_num_threads() + 1))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    call = _training(model, x) if arguments.train else _prediction(model, x, numbers)
    found = _figures(model, arguments, shape, _time(call, numbers, arguments.repeats))
    if arguments.json:
        values.write_json(arguments.json, found)
    if arguments.json != "-":
        _print(found)
        if arguments.profile:
            print(model.profile(x, repeats=arguments.repeats, threads=max(numbers)))


def _sizes(model: Model, wanted: tuple[int, int, int]) -> tuple[int, ...]:
    """The sizes the network takes; those it leaves open are the wanted ones."""
    dims = model.inputs[0].shape[1:]
    return tuple(w if d is None else d for d, w in zip(dims, wanted, strict=False))


def _prediction(model: Model, x: np.ndarray, numbers: list[int]) -> Callable[[int], object]:
    purpose = "latency" if len(x) == 1 else "throughput"
    sessions = {n: Session(model, n, optimize_for=purpose) for n in numbers}
    return lambda n: sessions[n].run(x)


def _training(model: Model, x: np.ndarray) -> Callable[[int], object]:
    model.compile("sgd")
    classes = model.outputs[0].shape[-1]
    y = np.random.default_rng(1).integers(0, classes, len(x))
    return lambda n: model.train_on_batch(x, y, threads=n)


def _time(call: Callable[[int], object], numbers: list[int], repeats: int) -> dict[int, np.ndarray]:
    """Seconds of ``repeats`` calls for each number of threads, after two that do not count."""
    seconds = np.empty((repeats + 2, len(numbers)))
    for row in seconds:
        for i, n in enumerate(numbers):
            started = time.perf_counter()
            call(n)
            row[i] = time.perf_counter() - started
    return dict(zip(numbers, seconds[2:].T, strict=True))


def _figures(model, arguments, shape, times) -> dict[str, object]:
    counts = multiply_adds(model)
    work = 2 * sum(counts.values()) * shape[0] if counts and not arguments.train else None
    return {
        "version": __version__,
        "tier": dispatch.load().tier,
        "network": arguments.layer or arguments.model,
        "mode": "training" if arguments.train else "prediction",
        "input": list(shape),
        "repeats": arguments.repeats,
        "results": [_row(n, seconds, shape[0], work) for n, seconds in times.items()],
    }


def _row(n: int, seconds: np.ndarray, batch: int, work: int | None) -> dict[str, object]:
    median = float(np.median(seconds))
    return {
        "threads": n,
        "median_ms": 1e3 * median,
        "best_ms": 1e3 * float(seconds.min()),
        "images_per_second": batch / median,
        "gflops": None if work is None else work / median / 1e9,
    }


def _print(found: dict[str, object]) -> None:
    shape = " x ".join(map(str, found["input"]))
    print(f"{found['mode']} with {found['network']}, input {shape}, tier {found['tier']}")
    print(f"{'threads':>8} {'median ms':>11} {'best ms':>11} {'images/s':>12} {'GFLOP/s':>9}")
    for row in found["results"]:
        speed = "" if row["gflops"] is None else f"{row['gflops']:.1f}"
        print(
            f"{row['threads']:>8} {row['median_ms']:>11.4f} {row['best_ms']:>11.4f} "
            f"{row['images_per_second']:>12,.0f} {speed:>9}"
        )
