"""The same bits for any number of threads, alone or in a batch, wherever the arrays lie."""

from __future__ import annotations

import numpy as np
import pytest

import runner
from cases import CASES

FORWARD = {
    "Activation",
    "Add",
    "AveragePool2D",
    "BatchNormInference",
    "Concatenate",
    "Conv2D",
    "Dense",
    "GlobalAveragePool2D",
    "GlobalMaxPool2D",
    "MaxPool2D",
    "Multiply",
    "Scale",
    "Softmax",
    "ZeroPad2D",
}
# inputs that are a batch of samples, where it is not the first alone
SAMPLES = {
    "Add": (0, 1),
    "Concatenate": range(20),
    "Conv2D": (0, 3),
    "Dense": (0, 3),
    "Multiply": (0, 1),
}
grid = pytest.mark.parametrize("case", CASES, ids=str)
BATCHED = [c for c in CASES if c.op.name in FORWARD and c.arrays()[0].ndim > 1]


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert runner.same_bits(a, e)


@grid
def test_any_number_of_threads_and_any_alignment(case):
    """Guard words stand, too, and inputs are as they were."""
    for tier in runner.TIERS:
        benches = [
            runner.Bench(case.op, case.arrays(), tier=tier, shift=shift).run(threads)
            for threads, shift in ((1, 0), (2, 1), (3, 0))
        ]
        with runner.named(tier):
            for bench in benches:
                bench.check()
                assert_same(bench.results, benches[0].results)


@pytest.mark.parametrize("case", BATCHED, ids=str)
def test_alone_or_in_a_batch(case):
    arrays = case.arrays()
    rng = np.random.default_rng(3)
    batch = list(arrays)
    samples = [i for i in SAMPLES.get(case.op.name, (0,)) if i < len(arrays)]
    for i in samples:
        batch[i] = rng.standard_normal((5, *arrays[i].shape[1:])).astype(np.float32)
    for tier in runner.TIERS:
        together = runner.run(case.op, batch, tier=tier)
        for n in range(5):
            sample = [x[n : n + 1] if i in samples else x for i, x in enumerate(batch)]
            with runner.named(tier):
                alone = runner.run(case.op, sample, tier=tier)
                assert_same(alone, [y[n : n + 1] for y in together])


@grid
def test_in_place_where_the_kernel_allows_it(case):
    apart = runner.run(case.op, case.arrays())
    assert_same(runner.run(case.op, case.arrays(), in_place=True), apart)


@grid
def test_in_a_plan(case):
    """One arena for all buffers, weights packed in every call or once: the bits do not change."""
    apart = runner.run(case.op, case.arrays())
    assert_same(runner.plan_and_run(case.op, case.arrays(), threads=2), apart)
    weights = tuple(range(1, len(case.inputs)))
    assert_same(runner.plan_and_run(case.op, case.arrays(), weights), apart)
