"""Results too large for the caches are written past them: the same bits, and memory that allows it."""

from __future__ import annotations

import numpy as np
import pytest

import cycnn
import runner
from case import case
from cases import CASES
from cycnn import functional
from cycnn.geometry import Window
from cycnn.ops import dense, weight_gradient_candidates
from cycnn.ops.conv import Conv2D
from cycnn.ops.weight_gradient import Conv2DBackwardWeight

NAMES = ("Dense", "DenseBackwardData", "Conv2D", "Conv2DBackwardData")
PRODUCTS = [c for c in CASES if c.op.name in NAMES]


def attributes(bench):
    return [packed for _, _, packed, _, _ in bench.steps]


@pytest.mark.parametrize("tier", runner.TIERS)
def test_products_and_thin_layers_stream(tier, monkeypatch):
    thin = Conv2D(Window.make((3, 3), 1, 1))
    for c in (
        case(dense.Dense(), (7, 9), (9, 64), None),
        case(thin, (1, 8, 8, 3), (3, 3, 3, 64), None),
    ):
        plain = attributes(runner.Bench(c.op, c.arrays(), tier=tier))
        with monkeypatch.context() as patch:
            patch.setattr(dense, "STREAM_BYTES", 0)
            assert attributes(runner.Bench(c.op, c.arrays(), tier=tier)) != plain


@pytest.mark.parametrize("case", PRODUCTS, ids=str)
def test_streamed_results_have_the_same_bits(case, monkeypatch):
    """Also where y does not allow it, or has the residual in it."""
    plain = {tier: runner.Bench(case.op, case.arrays(), tier=tier) for tier in runner.TIERS}
    monkeypatch.setattr(dense, "STREAM_BYTES", 0)
    for tier, bench in plain.items():
        if attributes(runner.Bench(case.op, case.arrays(), tier=tier)) == attributes(bench):
            continue  # no kernel of this case streams
        expected = bench.run().results
        for options in ({}, {"shift": 1}, {"in_place": True}):
            streaming = runner.Bench(case.op, case.arrays(), tier=tier, **options).run(threads=2)
            with runner.named(tier):
                streaming.check()
                assert all(map(runner.same_bits, streaming.results, expected))


GRADIENTS = [c for c in CASES if c.op.name in ("DenseBackwardWeight", "Conv2DBackwardWeight")]


@pytest.mark.parametrize("case", GRADIENTS, ids=str)
def test_streamed_gradients_have_the_same_bits(case, monkeypatch):
    plain = {tier: runner.run(case.op, case.arrays(), tier=tier) for tier in runner.TIERS}
    monkeypatch.setattr(weight_gradient_candidates, "STREAM_BYTES", 0)
    for tier, expected in plain.items():
        for shift in (0, 1):
            bench = runner.Bench(case.op, case.arrays(), tier=tier, shift=shift).run(threads=2)
            with runner.named(tier):
                bench.check()
                assert all(map(runner.same_bits, bench.results, expected))


@pytest.mark.parametrize("channels", [12, 13, 26, 30])
@pytest.mark.parametrize("filters", [32, 48, 64, 65])
def test_gradients_of_whole_and_part_tiles(channels, filters, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 5, 4, channels), np.float32)
    dy = rng.standard_normal((1, 5, 4, filters), np.float32)
    shape = 3, 3, channels, filters
    plain = functional.conv2d_backward_weight(x, dy, shape, padding=1, algorithm="direct")
    monkeypatch.setattr(weight_gradient_candidates, "STREAM_BYTES", 0)
    with cycnn.exact():  # a plan of its own
        streamed = functional.conv2d_backward_weight(x, dy, shape, padding=1)
    np.testing.assert_array_equal(plain, streamed)


@pytest.mark.parametrize(("filters", "groups"), [(80, 2), (80, 4), (80, 8), (720, 2)])
@pytest.mark.parametrize("tier", runner.TIERS)
def test_groups_whose_filters_do_not_start_on_cache_lines(filters, groups, tier, monkeypatch):
    window = Window.make((3, 3), 1, 1)
    op = Conv2DBackwardWeight(window, groups, (3, 3, 34, filters), algorithm="direct")
    arrays = case(op, (1, 5, 6, 34 * groups), (1, 5, 6, filters)).arrays()
    expected = runner.run(op, arrays, tier=tier)
    monkeypatch.setattr(weight_gradient_candidates, "STREAM_BYTES", 0)
    assert all(map(runner.same_bits, runner.run(op, arrays, tier=tier), expected))


def test_large_outputs_start_on_a_cache_line():
    x = cycnn.layers.Input((64, 64, 3))
    model = cycnn.Model(x, cycnn.layers.Conv2D(64, 3, seed=0)(x))
    images = np.random.default_rng(0).standard_normal((20, 64, 64, 3), np.float32)
    large = [cycnn.Session(model).run(images) for _ in range(5)]
    assert [y.ctypes.data % 64 for y in large] == [0] * 5
    assert large[0].nbytes > dense.STREAM_BYTES
    alone = [cycnn.Session(model).run(image[None])[0] for image in images]
    np.testing.assert_array_equal(large[0], alone)
