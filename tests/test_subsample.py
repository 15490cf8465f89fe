"""1x1 windows with strides: the pixels that they read are copied together, or spread out again."""

from __future__ import annotations

import pytest

import convolutions
import oracle
import runner

tiers = pytest.mark.parametrize("tier", runner.TIERS)
LAYERS = [
    convolutions.Convolution((2, 9, 8, 20), 24, convolutions.window(1, 2)),
    convolutions.Convolution((2, 9, 8, 40), 24, convolutions.window(1, (1, 3))),
    convolutions.Convolution((1, 7, 12, 64), 17, convolutions.window(1, (3, 2), "same")),
]


@tiers
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_forward_and_weight_gradient_copy_them(layer, tier):
    for case in (
        layer.forward(True, "relu", residual=True),
        layer.backward_weight(False),
        layer.backward_weight(True),
    ):
        assert runner.kernels_of(case.op, case.arrays(), tier)[0] == "subsample"
        bench = runner.Bench(case.op, case.arrays(), tier=tier).run(threads=2)
        bench.check()
        runner.assert_close(bench.results, oracle.expected(case.op, case.arrays()))


@tiers
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_gradients_of_the_data_are_spread(layer, tier):
    case = layer.backward_data()
    assert runner.kernels_of(case.op, case.arrays(), tier)[-1] == "spread"
    bench = runner.Bench(case.op, case.arrays(), tier=tier).run(threads=2)
    bench.check()
    runner.assert_close(bench.results, oracle.expected(case.op, case.arrays()))
