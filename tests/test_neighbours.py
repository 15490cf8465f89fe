"""Few filters: neighbouring pixels are taken together, and the result is that of direct convolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import oracle
import runner
from convolutions import Convolution, window
from cycnn.kernels import dispatch
from cycnn.ops.correlation import Correlation, forward_axes
from cycnn.ops.neighbours import best_count, widen

tiers = pytest.mark.parametrize("tier", runner.TIERS)
LAYERS = [
    Convolution((2, 9, 8, 1), 1, window(3)),
    Convolution((2, 9, 8, 1), 2, window(5, padding="same")),
    Convolution((1, 7, 12, 3), 1, window(3, 2, "same")),
    Convolution((2, 6, 25, 2), 1, window((2, 7), (1, 3), (0, 4))),
    Convolution((1, 8, 9, 4), 2, window(5, padding="same")),
    Convolution((2, 28, 28, 1), 6, window(5, padding=2)),
    Convolution((3, 5, 10, 3), 7, window(7, padding="same")),
]


def correlation(layer: Convolution) -> Correlation:
    rows, columns = forward_axes(layer.window, layer.x[1:3])
    return Correlation(layer.x[0], rows, columns, 1, layer.x[3], layer.filters)


@tiers
@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("activation", [None, "silu"])
def test_same_bits_as_direct_convolution(layer, activation, tier):
    case = layer.forward(True, activation, residual=activation is None)
    arrays = case.arrays()
    bench = runner.Bench(case.op, arrays, tier=tier).run(threads=2)
    bench.check()
    runner.assert_close(bench.results, oracle.expected(case.op, arrays))
    direct = runner.run(replace(case.op, algorithm="direct"), arrays, tier=tier)
    np.testing.assert_array_equal(bench.results[0], direct[0])


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_some_tier_takes_them_together(layer):
    vectors = [dispatch.load(tier).pack.VECTOR for tier in runner.TIERS]
    assert max(best_count(correlation(layer), v) for v in vectors) > 1


@pytest.mark.parametrize(
    ("layer", "count"),
    [
        (Convolution((1, 28, 28, 1), 6, window(5, padding=2)), 2),
        (
            Convolution((1, 29, 29, 1), 6, window(5, padding=2)),
            1,
        ),  # an odd row
        (
            Convolution((1, 28, 28, 1), 16, window(5, padding=2)),
            1,
        ),  # lanes are full
        (Convolution((1, 28, 28, 1), 6, window(1)), 1),
    ],
    ids=str,
)
def test_how_many_of_vectors_of_16(layer, count):
    assert best_count(correlation(layer), 16) == count


def test_wider_correlation_has_the_same_memory():
    c = correlation(LAYERS[5])
    wide = widen(c, 2)
    assert wide.columns.window == 6
    assert wide.columns.in_step == 2
    assert np.prod(wide.y_shape) == np.prod(c.y_shape)


@tiers
def test_what_is_not_finite_stays_with_the_pixels_taken_together(tier):
    layer = LAYERS[5]
    case = layer.forward(True, None)
    x, *rest = case.arrays()
    clean = runner.run(case.op, [x, *rest], tier=tier)[0]
    x[1, 10, 12] = np.inf
    y = runner.run(case.op, [x, *rest], tier=tier)[0]
    direct = runner.run(replace(case.op, algorithm="direct"), [x, *rest], tier=tier)[0]
    assert not np.isfinite(y[~np.isfinite(direct)]).any()
    inside = np.zeros(y.shape[:3], bool)
    inside[1, 8:13, 8:16] = True  # windows that see it, and their neighbours
    np.testing.assert_array_equal(y[~inside], clean[~inside])
