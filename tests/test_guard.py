"""Kernels stay inside their buffers, in whatever alignment, and leave their inputs alone."""

from __future__ import annotations

import pytest
import runner
from cases import CASES

grid = pytest.mark.parametrize("case", CASES, ids=str)


@grid
@pytest.mark.parametrize("tier", runner.TIERS)
@pytest.mark.parametrize("shift", [0, 1])
def test_guard_words_survive(case, tier, shift):
    runner.Bench(case.op, case.arrays(), tier=tier, shift=shift).run(threads=3).check()
