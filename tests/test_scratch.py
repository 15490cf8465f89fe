"""What a thread needs beside the buffers is bounded, however far apart taps and windows lie."""

from __future__ import annotations

import pytest

import runner
from convolutions import Convolution, window

FAR = window(3, 1, "same", 2**20)
ROWS_FAR = window((3, 2), 1, "same", (2**20, 1))
LAYERS = {
    "dense": Convolution((1, 40, 40, 64), 64, FAR),
    "few filters": Convolution((1, 40, 40, 64), 3, FAR),
    "thin": Convolution((1, 40, 40, 3), 8, ROWS_FAR),
    "few channels and filters": Convolution((1, 40, 40, 2), 3, ROWS_FAR),
    "depthwise": Convolution((1, 40, 40, 32), 32, FAR, groups=32),
    "depthwise with strides": Convolution(
        (1, 40, 40, 32), 32, window(3, (2, 1), "same", 2**20), groups=32
    ),
    "depthwise, one output": Convolution(
        (1, 40, 40, 32), 32, window(3, 2**20, "same", 2**20), groups=32
    ),
    "thin, one output": Convolution((1, 40, 40, 3), 64, window(3, 2**20, 1)),
    "thin, far outputs": Convolution((1, 40, 40, 3), 64, window(3, 2**12, 2**12)),
    "narrow groups": Convolution((1, 40, 40, 32), 32, FAR, groups=8),
    "wide groups": Convolution((1, 40, 40, 64), 64, FAR, groups=2),
}
MOST = 2**17  # bytes


@pytest.mark.parametrize("tier", runner.TIERS)
@pytest.mark.parametrize("name", LAYERS)
def test_what_lies_between_takes_no_memory(name, tier):
    layer = LAYERS[name]
    cases = layer.forward(True, None), layer.backward_data(), layer.backward_weight(False)
    for case in cases:
        graph = runner.single_op(case.op, case.arrays())
        target, _ = runner.lower(graph, runner.KERNELS[tier], "latency")
        for step in target.steps:
            assert step.kernel.scratch < MOST, (case.op.name, step.kernel.name)
