"""Run the grid with every buffer against a page that may not be touched: `python tests/fences.py`.

A read or write one byte too far ends the process with SIGSEGV, so each case runs in a forked child.
The cases that died are printed, one a line.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

import numpy as np

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


def survives(case, tier: str, behind: bool) -> bool:
    child = os.fork()
    if child == 0:
        Fenced.behind = behind
        try:
            runner.Bench(case.op, case.arrays(), tier=tier, memory=Fenced).run()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    import runner
    from cases import CASES

    died = [
        f"{tier} {'behind' if behind else 'before'}: {case}"
        for case in CASES
        for tier in runner.TIERS
        for behind in (True, False)
        if not survives(case, tier, behind)
    ]
    print(*died, sep="\n")
    sys.exit(bool(died))
