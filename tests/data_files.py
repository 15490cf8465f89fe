"""Files to read: written from bytes, and damaged in many small ways."""

from pathlib import Path

import numpy as np
import pytest


def some_bytes(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def mutants(content, count, seed):
    """``content`` with one to eight bytes changed, cut off, put in or doubled."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        mutant = bytearray(content)
        for _ in range(rng.integers(1, 9)):
            at = int(rng.integers(0, max(len(mutant), 1)))
            match int(rng.integers(0, 5)):
                case 0 | 1 if mutant:
                    mutant[at % len(mutant)] = int(rng.integers(0, 256))
                case 2:
                    mutant = mutant[:at]
                case 3:
                    mutant[at:at] = rng.bytes(int(rng.integers(1, 5)))
                case _:
                    mutant[at:at] = mutant[at : at + 8]
        yield bytes(mutant)


def skip_if_memory_is_promised_blindly():
    """Skip where the kernel grants any request for memory and kills who uses it."""
    setting = Path("/proc/sys/vm/overcommit_memory")
    if setting.exists() and setting.read_text().strip() == "1":
        pytest.skip("vm.overcommit_memory is 1")
