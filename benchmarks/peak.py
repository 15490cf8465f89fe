"""What this machine can do at all: multiply-adds from registers, and bytes from each level of memory.

The share of a peak is the only figure of a kernel that can be carried to another machine. The loops
are C (peak.c), built by the system's compiler when they are first needed.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import timing

from cycnn.kernels import dispatch
from cycnn.kernels.dispatch import supported_tiers

SOURCE = Path(__file__).with_name("peak.c")
LONG, BURST = 3e-3, 0.5e-3  # seconds
TIERS = {"v2": "x86-64-v2", "v3": "x86-64-v3", "v4": "x86-64-v4"}


@functools.cache
def library(tier: str) -> ctypes.CDLL:
    """peak.c built for ``tier``."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "peak.so"
        flags = ["-O3", f"-march={TIERS[tier]}", "-shared", "-fPIC"]
        subprocess.run(["gcc", *flags, str(SOURCE), "-o", str(target)], check=True)
        loops = ctypes.CDLL(str(target))
    for name, types in {
        "multiply_add": [ctypes.c_long],
        "read_memory": [ctypes.c_void_p, ctypes.c_size_t],
        "copy_memory": [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t],
    }.items():
        function = getattr(loops, name)
        function.argtypes, function.restype = types, ctypes.c_double
    return loops


class Peak:
    """A candidate for `timing.interleave`: a burst of multiply-adds on ``threads`` threads."""

    def __init__(self, tier: str, threads: int = 1, seconds: float = LONG):
        self.threads = threads
        self._loop = library(tier).multiply_add
        self._pool = ThreadPoolExecutor(threads)
        start = time.perf_counter()
        self._loop(100_000)
        self._n = int(100_000 * seconds / (time.perf_counter() - start))
        self.flops = threads * self._loop(self._n)

    def __call__(self) -> None:
        if self.threads == 1:
            self._loop(self._n)
        else:
            list(self._pool.map(self._loop, [self._n] * self.threads))


def burst(tier: str, threads: int = 1) -> Peak:
    """For `timing.interleave`: as short as the time for which a product's clock outlasts it, but not so short
    that starting several threads counts."""
    return Peak(tier, threads, BURST if threads == 1 else LONG)


class Copy:
    """A candidate for `timing.interleave`: an array of ``nbytes`` copied, shared among ``threads``."""

    def __init__(self, nbytes: int, threads: int = 1):
        loops, self._size = library(supported_tiers()[0]), nbytes // 4 // threads
        self._copy = loops.copy_memory
        self._arrays = np.ones((2, threads, self._size), "f4")
        self._places = [[row.ctypes.data for row in array] for array in self._arrays]
        self._passes = max(1, (1 << 24) // nbytes)
        self._pool = ThreadPoolExecutor(threads)
        self.nbytes = 2 * nbytes * self._passes

    def _share(self, source: int, target: int) -> None:
        for _ in range(self._passes):
            self._copy(target, source, self._size)

    def __call__(self) -> None:
        if len(self._places[0]) == 1:
            self._share(*(place[0] for place in self._places))
        else:
            list(self._pool.map(self._share, *self._places))


class Read:
    """A candidate for `timing.interleave`: an array of ``nbytes`` read, shared among ``threads``."""

    def __init__(self, nbytes: int, threads: int = 1):
        self._read, size = library(supported_tiers()[0]).read_memory, nbytes // 4 // threads
        self._array = np.ones((threads, size), "f4")
        self._places = [row.ctypes.data for row in self._array]
        self._pool = ThreadPoolExecutor(threads)
        self.nbytes = self._array.nbytes

    def __call__(self) -> None:
        size = self._array.shape[1]
        if len(self._places) == 1:
            self._read(self._places[0], size)
        else:
            list(self._pool.map(self._read, self._places, [size] * len(self._places)))


def bandwidth(nbytes: int, threads: int) -> dict[str, float]:
    """GB/s of reading and of copying arrays of ``nbytes``, shared among ``threads``."""
    loops, size = library(supported_tiers()[0]), nbytes // 4 // threads
    source, target = np.ones((threads, size), "f4"), np.ones((threads, size), "f4")
    p, q = ([row.ctypes.data for row in array] for array in (source, target))
    passes = max(1, (1 << 27) // nbytes)

    def read(t: int) -> float:
        return sum(loops.read_memory(p[t], size) for _ in range(passes))

    def copy(t: int) -> float:
        return sum(loops.copy_memory(q[t], p[t], size) for _ in range(passes))

    with ThreadPoolExecutor(threads) as pool:
        calls = {f.__name__: lambda f=f: sum(pool.map(f, range(threads))) for f in (read, copy)}
        moved = {name: call() for name, call in calls.items()}
        times = timing.interleave(calls, rounds=7)
    return {name: moved[name] / times[name].median * 1e-9 for name in calls}


def limits(threads: int) -> dict[str, object]:
    """GFLOP/s in the tier that cycnn runs in, and GB/s of memory beyond the caches."""
    tier = dispatch.load().tier
    peak = Peak(tier, threads)
    gflops = timing.interleave({tier: peak})[tier].gflops(peak.flops)
    return {"tier": tier, "threads": threads, "gflops": gflops} | bandwidth(1 << 28, threads)


def main() -> None:
    args = timing.parse(timing.arguments(__doc__))
    rows = []
    for tier in supported_tiers():
        for threads in sorted({1, args.threads}):
            peak = Peak(tier, threads)
            times = timing.interleave({tier: peak})[tier]
            rows.append({"tier": tier, "threads": threads, "gflops": times.gflops(peak.flops)})
            print(f"{tier}  {threads} thread(s)  {rows[-1]['gflops']:6.0f} GFLOP/s", flush=True)
    for nbytes in (1 << 19, 1 << 23, 1 << 28):
        for threads in sorted({1, args.threads}):
            rows.append({"bytes": nbytes, "threads": threads, **bandwidth(nbytes, threads)})
            print(
                f"{nbytes / 2**20:5.1f} MiB  {threads} thread(s)  read {rows[-1]['read']:4.0f} GB/s"
                f"  copy {rows[-1]['copy']:4.0f} GB/s",
                flush=True,
            )
    timing.write(args, rows)


if __name__ == "__main__":
    main()
