"""Depthwise and grouped convolution: where their kernels are taken, cuts of gradients, fetching ahead."""

from __future__ import annotations

import pytest

import convolutions
import oracle
import runner
from cycnn.ops import weight_gradient_candidates
from cycnn.ops.weight_gradient_split import DepthwiseSplit

tiers = pytest.mark.parametrize("tier", runner.TIERS)

# (chunks, blocks of channels, rows in a band): bands that end within images and at their ends, blocks
# of a vector and of several, chunks that begin within an image
CUTS = [(1, 1, 1), (1, 4, 3), (3, 1, 2), (5, 3, 2), (7, 2, 100)]
LAYERS = [
    convolutions.depthwise((3, 11, 9, 70), 3, 1, "same"),
    convolutions.depthwise((2, 12, 11, 70), 5, 2, "same"),
    convolutions.depthwise((2, 9, 10, 70), 7, 1, "same"),
    convolutions.depthwise((2, 13, 12, 70), 3, 1, "same", 2),
    convolutions.depthwise(
        (3, 24, 20, 140), 3, 1, "same"
    ),  # beyond the nearest caches: fetched ahead
]
C = convolutions.Convolution
GROUPED = [
    C((3, 11, 9, 72), 72, convolutions.window(3, 1, "same"), groups=36),
    C((2, 12, 11, 35), 70, convolutions.window(5, 2, "same"), groups=35),
    C((2, 13, 12, 36), 36, convolutions.window(3, 1, "same", 2), groups=18),
    C((2, 13, 12, 100), 100, convolutions.window(3, 1, "same"), groups=5),
]
# kernels that fetch ahead what lies beyond the nearest caches
DISTANT = ("conv_depthwise", "conv_depthwise_weight", "conv_grouped", "conv_grouped_weight")
DISTANT += ("conv_grouped_wide",)


@tiers
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_one_filter_a_channel_takes_the_kernel(layer, tier):
    case = layer.backward_weight(False)
    assert runner.kernels_of(case.op, case.arrays(), tier)[0] == "conv_depthwise_weight"


@tiers
@pytest.mark.parametrize(
    "widths", [(1, 2), (2, 1), (2, 2), (4, 4), (8, 8), (16, 16), (20, 40), (100, 40)]
)
def test_the_width_of_groups_chooses_the_kernel(widths, tier):
    channels, filters = widths
    layer = C((2, 6, 7, 3 * channels), 3 * filters, convolutions.window(3, 1, "same"), groups=3)
    narrow = 2 * max(channels, filters) <= runner.KERNELS[tier].conv_grouped.VECTOR
    for case, depth in [(layer.forward(True, None), channels), (layer.backward_data(), filters)]:
        wide = "conv_grouped_wide" if depth <= 96 else "conv_direct"
        kernels = runner.kernels_of(case.op, case.arrays(), tier)
        assert ("conv_grouped" if narrow else wide) in kernels
    case = layer.backward_weight(False)
    kernels = runner.kernels_of(case.op, case.arrays(), tier)
    assert ("conv_grouped_weight" if narrow else "conv2d_backward_weight") in kernels


@tiers
@pytest.mark.parametrize(
    ("images", "kernel"), [(1, "conv2d_backward_weight"), (3, "conv_grouped_weight")]
)
def test_gradients_beyond_the_caches_take_bands(images, kernel, tier):
    layer = C((images, 57, 57, 112), 112, convolutions.window(3, 1, 1), groups=7)
    case = layer.backward_weight(False)
    assert runner.kernels_of(case.op, case.arrays(), tier)[0] == kernel


@tiers
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("layer", [*LAYERS, *GROUPED], ids=str)
def test_every_cut_sums_all_rows(monkeypatch, layer, accumulate, cut, tier):
    split = DepthwiseSplit(*cut)
    monkeypatch.setattr(weight_gradient_candidates, "depthwise_split", lambda *_: (0.0, split))
    case = layer.backward_weight(accumulate)
    expected, results = oracle.expected(case.op, case.arrays()), []
    for threads in (1, 3):
        bench = runner.Bench(case.op, case.arrays(), tier=tier).run(threads=threads)
        bench.check()
        runner.assert_close(bench.results, expected)
        results.append(bench.results[0].copy())
    assert runner.same_bits(*results)


@tiers
@pytest.mark.parametrize("layer", [*LAYERS, *GROUPED], ids=str)
def test_fetching_ahead_changes_no_bit(monkeypatch, layer, tier):
    for case in (
        layer.forward(True, "relu6"),
        layer.backward_data(),
        layer.backward_weight(False),
    ):
        expected = runner.run(case.op, case.arrays(), tier=tier)
        for module in DISTANT:
            monkeypatch.setattr(getattr(runner.KERNELS[tier], module), "DISTANT", 0)
        results = runner.run(case.op, case.arrays(), tier=tier, threads=3)
        monkeypatch.undo()
        assert all(map(runner.same_bits, results, expected))
