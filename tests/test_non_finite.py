"""NaN and infinity pass through every op, to where the formula takes them and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

import oracle
import runner
from cases import CASES


def exact(case) -> bool:
    """Whether it says of every element where NaN goes: not of Winograd's tiles (test_winograd*.py), nor of
    pixels that are taken together (test_neighbours.py)."""
    arrays = case.arrays()
    known = case.op.name in oracle.ORACLE and 0 not in np.shape(arrays[0])
    return known and not any(
        "winograd" in name or name == "widen"
        for tier in runner.TIERS
        for name in runner.kernels_of(case.op, arrays, tier)
    )


REAL = [c for c in CASES if exact(c)]


@pytest.mark.parametrize("case", REAL, ids=str)
def test_one_value_that_is_not_finite(case):
    arrays = case.arrays()
    place = np.random.default_rng(arrays[0].size).integers(arrays[0].size)
    for value in (np.nan, np.inf, -np.inf):
        arrays[0].flat[place] = value
        expected = oracle.expected(case.op, arrays)
        for tier in runner.TIERS:
            runner.assert_close(runner.run(case.op, arrays, tier=tier), expected)


@pytest.mark.parametrize("case", REAL[::5], ids=str)
def test_nothing_but_nan(case):
    arrays = case.arrays()
    arrays[0][...] = np.nan
    expected = oracle.expected(case.op, arrays)
    for tier in runner.TIERS:
        runner.assert_close(runner.run(case.op, arrays, tier=tier), expected)
