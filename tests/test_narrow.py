"""Products with few columns: which they are, and what the grid does not reach."""

from __future__ import annotations

import numpy as np
import pytest

import cycnn
import runner
from cycnn import layers
from cycnn.ops.dense import Dense

TIERS = pytest.mark.parametrize("tier", runner.TIERS)


@TIERS
def test_the_last_columns_fill_at_most_half_a_vector(tier):
    kernels = runner.KERNELS[tier]
    vl = kernels.pack.VECTOR
    expected = {v * vl + n for v in range(3) for n in range(1, vl // 2 + 1)}
    assert {n for n in range(1, 5 * vl) if kernels.gemm_narrow.suits(n)} == expected
    for columns in (vl // 2, vl // 2 + 1):
        names = runner.kernels_of(Dense(), [np.ones((2, 3)), np.ones((3, columns)), None], tier)
        assert ("gemm_narrow" in names) == (columns in expected)


@pytest.mark.parametrize("activation", [None, "relu6", "silu"])
def test_between_the_channels_of_others(activation):
    """Read and written where pixels lie apart, as parts of a concatenation."""
    x = layers.Input((5, 6, 7))
    parts = [layers.Conv2D(n, 1, activation=activation, seed=n)(x) for n in (24, 40, 8)]
    both = layers.Concatenate()(parts)
    y = layers.Conv2D(20, 1, activation=activation, seed=1)(both)
    images = np.random.default_rng(0).standard_normal((3, 5, 6, 7), np.float32)
    session = cycnn.Session(cycnn.Model(x, y))
    steps = session.plan(images.shape).steps
    assert [step.kernel.name for step in steps] == ["gemm_narrow"] * 4
    *apart, joined, expected = cycnn.Session(cycnn.Model(x, [*parts, both, y])).run(images)
    np.testing.assert_array_equal(joined, np.concatenate(apart, axis=-1))
    np.testing.assert_array_equal(session.run(images), expected)
