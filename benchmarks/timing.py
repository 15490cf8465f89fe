"""Time several candidates fairly: in one process, in turns, under the same weather.

Clocks float and neighbours come and go, so no time means anything by itself. Candidates are called in
turns, each round starting with another one. Short bursts are compared by their best rounds, which is what
is left when neighbours are quiet, whole steps and calls by their medians; files hold both. What is to be a
share of a peak is compared with a burst right behind it (`Times.of_burst`).
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# keeps freed memory in the process, so that no large output is paid for in page faults
TUNED_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


# seconds in which the workers of PyTorch, ONNX Runtime and the OpenMP libraries stop waiting actively
ASLEEP = 0.25


@dataclass(frozen=True)
class Times:
    """Seconds of one call, round by round, and of a ``burst`` right behind it, where one was asked for."""

    seconds: tuple[float, ...] = ()
    burst: tuple[float, ...] = ()

    def __add__(self, other: Times) -> Times:
        """The rounds of both."""
        return Times(self.seconds + other.seconds, self.burst + other.burst)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def of_burst(self) -> float:
        """How many times as fast as the burst, the median over rounds: both run beside the same neighbours,
        and on one thread at the same clock, which a product may lower for some milliseconds."""
        pairs = zip(self.burst, self.seconds, strict=True)
        return statistics.median(burst / call for burst, call in pairs)

    def gflops(self, flops: float) -> float:
        """GFLOP/s in the best round."""
        return flops / self.best * 1e-9


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 15,
    at_least: float = 2e-3,
    threads: int = 1,
    burst: Callable[[], object] | None = None,
) -> dict[str, Times]:
    """Call every candidate once a round, as often in a row as fills ``at_least`` seconds, and a ``burst``
    behind each, after one that is not counted.

    Where it has several ``threads``, those of the one before, which go on spinning for a while, are
    waited for, before a burst as well: they would take the place of its own.
    """
    repeats = {}
    for name, call in candidates.items():
        _wait_for_sleep(threads)
        repeats[name] = _repeats(call, at_least)
    times = {name: Times() for name in candidates}
    order = list(candidates)
    gc.disable()
    for r in range(rounds):
        for name in order[r % len(order) :] + order[: r % len(order)]:
            _wait_for_sleep(threads)
            times[name] += Times((_time(candidates[name], repeats[name]),))
            if burst:
                _wait_for_sleep(threads)
                times[name] += Times(burst=(_time(burst, 1),))
    gc.enable()
    return times


def _wait_for_sleep(threads: int) -> None:
    if threads > 1:
        time.sleep(ASLEEP)


def _time(call: Callable[[], object], repeats: int) -> float:
    """Seconds a call of ``repeats`` in a row, after one that is not counted."""
    call()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _repeats(call: Callable[[], object], at_least: float) -> int:
    call()  # the first call plans, packs and touches memory
    first = _time(call, 1)
    if first >= at_least:
        return 1
    return max(1, round(at_least / min(first, _time(call, 1), _time(call, 1))))


def machine() -> dict[str, object]:
    """What a figure cannot be read without."""
    import numpy

    import cycnn

    return {
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "cycnn": cycnn.__version__,
        "tuned_allocator": tuned_allocator(),
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


def tuned_allocator() -> bool:
    """Whether this process started with `TUNED_ALLOCATOR`."""
    return all(os.environ.get(key) == value for key, value in TUNED_ALLOCATOR.items())


def arguments(description: str | None, threads: int | Sequence[int] = 1) -> argparse.ArgumentParser:
    """A parser of what every benchmark understands; ``threads`` is the default, one or several."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--threads",
        type=int,
        nargs=None if isinstance(threads, int) else "+",
        default=threads,
        help="threads of every candidate",
    )
    parser.add_argument(
        "--tuned-allocator",
        action="store_true",
        help="start with glibc set to keep freed memory: spares the peers page faults",
    )
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; starts the process again where the environment has to be set first."""
    args = parser.parse_args()
    environment = {**TUNED_ALLOCATOR} if args.tuned_allocator else {}
    if getattr(args, "isa", None):
        environment |= PEER_ISA[args.isa]
    if any(os.environ.get(key) != value for key, value in environment.items()):
        os.execve(sys.executable, sys.orig_argv, os.environ | environment)
    return args


# cycnn's tiers, and what holds the peers to the same instructions
PEER_ISA = {
    "v3": {"CYCNN_ISA": "v3", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "v4": {"CYCNN_ISA": "v4"},
}


def peer(module: str) -> object | None:
    """A peer's module, or None and a sentence where it is not installed."""
    try:
        return __import__(module)
    except ImportError:
        print(f"{module} is not installed: its columns stay empty (pip install '.[bench]')")
        return None


# the module that a peer needs, where its name does not say so
MODULES = {"compiled": "torch", "ncnn": "pnnx"}


def installed(names: Sequence[str]) -> list[str]:
    """Those peers that are installed, with a sentence for each that is not."""
    return [name for name in names if peer(MODULES.get(name, name))]


def torch_kernels(threads: int) -> object | None:
    """PyTorch on so many threads, recording no gradients; None where it is not installed."""
    torch = peer("torch")
    if torch:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
    return torch


def write(args: argparse.Namespace, rows: list[dict]) -> None:
    """Write ``rows`` to the file that ``--json`` names, with what they cannot be read without."""
    if not args.json:
        return
    threads = [args.threads] if isinstance(args.threads, int) else args.threads
    document = {
        "command": sys.argv,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "peaks": _peaks(threads),
        "rows": rows,
    }
    Path(args.json).write_text(json.dumps(document, indent=1) + "\n")


def _peaks(threads: Sequence[int]) -> list[dict]:
    """What the machine can do in this process's tier, at each number of threads; none without gcc."""
    from peak import limits

    _wait_for_sleep(max(threads))
    try:
        return [limits(n) for n in threads]
    except (OSError, subprocess.SubprocessError, KeyError) as error:
        print(f"the file holds no peaks: {error}")
        return []
