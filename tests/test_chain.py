"""Weights that are live are packed panel by panel in the product that uses them, to the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import oracle
import runner
from case import case
from cycnn import functional
from cycnn.geometry import Window
from cycnn.ops.conv import Conv2D, Conv2DBackwardData
from cycnn.ops.dense import Dense, DenseBackwardData

tiers = pytest.mark.parametrize("tier", runner.TIERS)
WINDOW = Window.make((3, 3), 1, 1)
STRIDED = Window.make((3, 3), 2, 1)
LARGE = [
    case(Dense("relu"), (3, 1100), (1100, 1003), (1003,)),
    case(DenseBackwardData(), (2, 1003), (1100, 1003)),
    case(Conv2D(WINDOW, algorithm="winograd2"), (2, 5, 4, 130), (3, 3, 130, 520), (520,)),
    case(Conv2D(WINDOW, algorithm="winograd4"), (1, 9, 7, 60), (3, 3, 60, 520), None),
    case(
        Conv2DBackwardData(WINDOW, 1, (1, 9, 7, 520), "winograd4"),
        (1, 9, 7, 60),
        (3, 3, 520, 60),
        None,
        (1, 9, 7, 520),
    ),
    case(
        Conv2D(WINDOW, activation="relu", algorithm="direct"),
        (2, 5, 4, 260),
        (3, 3, 260, 520),
        (520,),
        (2, 5, 4, 520),
    ),
    case(
        Conv2DBackwardData(STRIDED, 1, (1, 9, 8, 520), "direct"), (1, 5, 4, 260), (3, 3, 520, 260)
    ),
    case(Conv2D(STRIDED, algorithm="winograd4"), (1, 17, 14, 60), (3, 3, 60, 520), None),
]


@tiers
@pytest.mark.parametrize("large", LARGE, ids=str)
def test_packing_happens_in_the_product(large, tier):
    arrays = large.arrays()
    assert any("pack" in n and "+" in n for n in runner.kernels_of(large.op, arrays, tier))
    bench = runner.Bench(large.op, arrays, tier=tier).run(threads=3)
    bench.check()
    runner.assert_close(bench.results, oracle.expected(large.op, arrays), 1e-4)
    alone = runner.run(large.op, arrays, tier=tier)
    np.testing.assert_array_equal(bench.results[0], alone[0])


@pytest.mark.parametrize("large", LARGE[:4:2], ids=str)
def test_same_bits_as_with_weights_packed_before(large):
    x, w, b = large.arrays()
    if isinstance(large.op, Dense):
        live, before = (functional.dense(x, v, b) for v in (w, functional.pack(w)))
    else:
        form = {"padding": 1, "algorithm": large.op.algorithm}
        live, before = (functional.conv2d(x, v, b, **form) for v in (w, functional.pack(w)))
    np.testing.assert_array_equal(live, before)


def test_weights_of_a_frozen_plan_are_packed_once():
    x, w = np.ones((2, 1100), np.float32), np.ones((1100, 1003), np.float32)
    packed = functional.pack(w)
    functional.dense(x, packed)
    before = packed.weights.nbytes
    functional.dense(x, packed)
    assert packed.weights.nbytes == before > w.nbytes


def test_few_panels_are_packed_before_so_that_threads_find_work():
    few = case(Conv2D(WINDOW, algorithm="winograd4"), (1, 9, 7, 520), (3, 3, 520, 70), None)
    assert not any("+" in name for name in runner.kernels_of(few.op, few.arrays()))


def test_weights_are_packed_before_where_there_are_more_pixels():
    many = case(Conv2D(WINDOW, algorithm="direct"), (1, 75, 75, 260), (3, 3, 260, 520), None)
    assert not any("+" in name for name in runner.kernels_of(many.op, many.arrays()))


def test_slices_must_divide_the_items():
    kernels = runner.KERNELS[runner.TIERS[0]]
    packing = kernels.pack.rows((1, 8, 130), 1)
    with pytest.raises(ValueError, match="slices do not divide"):
        kernels.chain.chain(packing, packing, packing[2] - 1, 64, (0, 1), (0, 1))
