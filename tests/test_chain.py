"""Weights that are live are packed panel by panel in the product that uses them, to the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import cases
import oracle
import runner
from cycnn import functional
from cycnn.geometry import Window
from cycnn.ops.conv import Conv2D, Conv2DBackwardData
from cycnn.ops.dense import Dense, DenseBackwardData

tiers = pytest.mark.parametrize("tier", runner.TIERS)
WINDOW = Window.make((3, 3), 1, 1)
LARGE = [
    cases.case(Dense("relu"), (3, 1100), (1100, 1003), (1003,)),
    cases.case(DenseBackwardData(), (2, 1003), (1100, 1003)),
    cases.case(Conv2D(WINDOW, algorithm="winograd2"), (2, 5, 4, 260), (3, 3, 260, 270), (270,)),
    cases.case(Conv2D(WINDOW, algorithm="winograd4"), (1, 9, 7, 180), (3, 3, 180, 200), None),
    cases.case(
        Conv2DBackwardData(WINDOW, 1, (1, 9, 7, 180), "winograd4"),
        (1, 9, 7, 200),
        (3, 3, 180, 200),
        None,
        (1, 9, 7, 180),
    ),
]


@tiers
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_packing_happens_in_the_product(case, tier):
    arrays = case.arrays()
    assert any("pack" in n and "+" in n for n in runner.kernels_of(case.op, arrays, tier))
    bench = runner.Bench(case.op, arrays, tier=tier).run(threads=3)
    bench.check()
    runner.assert_close(bench.results, oracle.expected(case.op, arrays), 1e-4)
    alone = runner.run(case.op, arrays, tier=tier)
    np.testing.assert_array_equal(bench.results[0], alone[0])


@pytest.mark.parametrize("case", LARGE[:4:2], ids=str)
def test_same_bits_as_with_weights_packed_before(case):
    x, w, b = case.arrays()
    if isinstance(case.op, Dense):
        live, before = (functional.dense(x, v, b) for v in (w, functional.pack(w)))
    else:
        form = {"padding": 1, "algorithm": case.op.algorithm}
        live, before = (functional.conv2d(x, v, b, **form) for v in (w, functional.pack(w)))
    np.testing.assert_array_equal(live, before)


def test_weights_of_a_frozen_plan_are_packed_once():
    x, w = np.ones((2, 1100), np.float32), np.ones((1100, 1003), np.float32)
    packed = functional.pack(w)
    functional.dense(x, packed)
    before = packed.weights.nbytes
    functional.dense(x, packed)
    assert packed.weights.nbytes == before > w.nbytes
