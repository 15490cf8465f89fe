"""Equal problems have equal bytes: by a kernel's attributes plans know what they can share."""

from __future__ import annotations

import numpy as np
import pytest

import cycnn
import runner
from cases import CASES
from cycnn import layers

# of every op some, among them the narrow groups, whose attributes hold tables
SOME = CASES[::9]


def attributes(case, tier: str) -> list[tuple]:
    lowered = runner.lower(runner.single_op(case.op, case.arrays()), runner.KERNELS[tier])[0]
    return [(s.kernel.name, s.kernel.items, s.kernel.attributes) for s in lowered.steps]


@pytest.mark.parametrize("tier", runner.TIERS)
@pytest.mark.parametrize("number", range(len(SOME)))
def test_lowered_again_after_others(number, tier):
    found = attributes(SOME[number], tier)
    for other in (number - 1, number - 7, number - 30):
        attributes(SOME[other], tier)
    assert attributes(SOME[number], tier) == found


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_plans_of_other_shapes_share_packed_weights(groups):
    layer = layers.Conv2D(32, 3, groups=groups, algorithm="direct", seed=0)
    model = cycnn.Sequential([layers.Input((None, None, 32)), layer])
    session = cycnn.Session(model)
    session.run(np.zeros((1, 9, 9, 32), np.float32))
    weights = session.memory((1, 9, 9, 32)).weights
    for size in range(10, 40):
        session.run(np.zeros((1, size, 9, 32), np.float32))
    assert session.memory((1, 9, 9, 32)).weights == weights
