"""Run the grid with every buffer against a page that may not be touched: `python tests/fences.py`.

A read or write one byte too far ends the process with SIGSEGV, so cases run in forked children, many in
one; where a child dies, its cases run again one by one. Those that died are printed, one a line.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import sys

import numpy as np

import runner
from cases import CASES

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)


def fence(memory: np.ndarray) -> None:
    """Forbid all access to whole pages."""
    address, nbytes = ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.nbytes)
    if libc.mprotect(address, nbytes, 0):
        raise OSError(ctypes.get_errno(), "mprotect")


class Fenced:
    """Memory between two forbidden pages: up to the last byte, or from the first one."""

    behind = True

    def __init__(self, nbytes: int, shift: int = 0):
        room = -(-nbytes // PAGE) * PAGE
        pages = np.frombuffer(mmap.mmap(-1, room + 2 * PAGE), np.uint8)
        begin = PAGE + (room - nbytes if self.behind else 0)
        self.data = pages[begin : begin + nbytes]
        self.data[:] = 0xFF
        fence(pages[:PAGE])
        fence(pages[PAGE + room :])


def survives(function, *arguments) -> bool:
    """Whether a child lives through ``function``."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function(*arguments)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def run(cases, tier: str, behind: bool) -> None:
    Fenced.behind = behind
    for case in cases:
        runner.Bench(case.op, case.arrays(), tier=tier, memory=Fenced).run()


def dead(cases, tier: str, behind: bool) -> list[str]:
    if survives(run, cases, tier, behind):
        return []
    died = [c for c in cases if not survives(run, [c], tier, behind)] or cases
    return [f"{tier}, {'behind' if behind else 'before'} a buffer: {c}" for c in died]


def read_beyond() -> None:
    ctypes.string_at(Fenced(12).data.ctypes.data + 12, 1)


if __name__ == "__main__":
    assert not survives(read_beyond), "the fence is open"
    chunks = [CASES[i : i + 100] for i in range(0, len(CASES), 100)]
    died = [
        line
        for cases, tier, behind in itertools.product(chunks, runner.TIERS, (True, False))
        for line in dead(cases, tier, behind)
    ]
    print(*died, sep="\n")
    sys.exit(bool(died))
