"""Weights, images and results that are sent for before their turn: what is computed stays the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

import runner
from convolutions import Convolution, window
from cycnn.ops import conv_candidates, conv_winograd, dense

tiers = pytest.mark.parametrize("tier", runner.TIERS)
DIRECT = [
    Convolution((2, 9, 8, 40), 150, window(3, padding="same")),
    Convolution((2, 7, 13, 35), 150, window(3, padding="same")),
    Convolution((1, 7, 9, 35), 70, window(3, 2, "same", 2)),
    Convolution((2, 5, 6, 200), 90, window(3), groups=2),
]
PRODUCTS = [
    Convolution((2, 9, 8, 40), 600, window(1)),
    Convolution((2, 3, 5, 2500), 64, window(1)),  # sums in three parts
    Convolution((2, 9, 8, 40), 24, window(1)),  # narrow, where a vector has 16 lanes
    Convolution((2, 9, 14, 3), 64, window(3)),  # thin
]
WINOGRAD = [
    Convolution((3, 9, 8, 20), 150, window(3, padding="same")),
    Convolution((2, 11, 9, 35), 70, window(3, 2, "same")),
]


def direct(monkeypatch, layer, items, panels_first):
    """Direct convolution cut into ``items``, of which consecutive ones share panels, or pixels."""
    monkeypatch.setattr(dense, "ITEMS", items)
    monkeypatch.setattr(dense, "ITEM_FLOPS", 1)
    monkeypatch.setattr(conv_candidates, "_prefer_panels", lambda c: panels_first)
    return replace(layer, algorithm="direct").forward(True, "relu")


def same_bits(monkeypatch, case, tier, module, limit="NEAR_BYTES"):
    """Tensors of any size count as large, so that they are sent for: no bit changes."""
    asked = [step.kernel.attributes for step in runner.steps_of(case.op, case.arrays(), tier)]
    expected = runner.run(case.op, case.arrays(), tier=tier)
    monkeypatch.setattr(module, limit, 0)
    steps = runner.steps_of(case.op, case.arrays(), tier)
    assert [step.kernel.attributes for step in steps] != asked
    for threads in (1, 3):
        results = runner.run(case.op, case.arrays(), tier=tier, threads=threads)
        assert all(map(runner.same_bits, results, expected))


@tiers
@pytest.mark.parametrize("layer", DIRECT, ids=str)
@pytest.mark.parametrize("items", [1, 2, 64])
@pytest.mark.parametrize("panels_first", [False, True])
def test_direct_convolution(monkeypatch, layer, items, panels_first, tier):
    case = direct(monkeypatch, layer, items, panels_first)
    same_bits(monkeypatch, case, tier, conv_candidates)


@tiers
@pytest.mark.parametrize("layer", DIRECT[:3], ids=str)
@pytest.mark.parametrize("items", [1, 64])
@pytest.mark.parametrize("panels_first", [False, True])
def test_direct_convolution_of_distant_images(monkeypatch, layer, items, panels_first, tier):
    case = direct(monkeypatch, layer, items, panels_first)
    same_bits(monkeypatch, case, tier, dense, "DISTANT_BYTES")


@tiers
def test_gradient_for_distant_images(monkeypatch, tier):
    case = replace(DIRECT[0], algorithm="direct").backward_data()
    same_bits(monkeypatch, case, tier, dense, "DISTANT_BYTES")


@tiers
@pytest.mark.parametrize("layer", PRODUCTS, ids=str)
@pytest.mark.parametrize("residual", [False, True])
def test_products_of_distant_rows(monkeypatch, layer, residual, tier):
    case = replace(layer, algorithm="direct").forward(True, "relu", residual=residual)
    same_bits(monkeypatch, case, tier, dense, "DISTANT_BYTES")


@tiers
@pytest.mark.parametrize("layer", WINOGRAD, ids=str)
@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
@pytest.mark.parametrize("blocks", [1, 10**6], ids=["one step", "two steps"])
def test_winograd(monkeypatch, layer, algorithm, blocks, tier):
    monkeypatch.setattr(conv_winograd, "BLOCKS", blocks)
    case = replace(layer, algorithm=algorithm).forward(True, "relu")
    same_bits(monkeypatch, case, tier, conv_winograd)
