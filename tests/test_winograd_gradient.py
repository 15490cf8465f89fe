"""Weight gradients by Winograd's tiles: where they are chosen, how exact they are, where NaN goes."""

from __future__ import annotations

import numpy as np
import pytest

import cycnn
import oracle
import runner
from convolutions import WINOGRAD, WINOGRAD_DILATED, Convolution, window
from cycnn import functional
from cycnn.graph.ir import Graph
from cycnn.ops import weight_gradient_candidates
from cycnn.ops.conv import Conv2D
from cycnn.ops.weight_gradient import Conv2DBackwardWeight
from cycnn.ops.weight_gradient_split import WinogradSplit
from cycnn.plan.lower import lower

SAME = window(3, padding="same")
LAYERS = [
    Convolution((2, 56, 56, 64), 64, SAME),
    Convolution((3, 30, 29, 33), 70, SAME),
    Convolution((8, 14, 14, 128), 128, SAME),
    Convolution((1, 7, 7, 300), 200, SAME),
    Convolution((64, 16, 16, 16), 16, SAME),
]
layers = pytest.mark.parametrize("layer", LAYERS, ids=str)
tiers = pytest.mark.parametrize("tier", runner.TIERS)


def operands(layer: Convolution) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape).astype(np.float32) for shape in (layer.x, layer.y)]


def gradient(layer: Convolution, algorithm: str) -> Conv2DBackwardWeight:
    return Conv2DBackwardWeight(layer.window, layer.groups, layer.w, algorithm=algorithm)


# ---- the choice ----------------------------------------------------------------------------------


def chosen(layer: Convolution, tier: str) -> str:
    return runner.kernels_of(gradient(layer, "auto"), operands(layer), tier)[0]


@tiers
@pytest.mark.parametrize(
    "layer", [*LAYERS, Convolution((2, 56, 56, 64), 64, window(3, 1, "same", (2, 3)))], ids=str
)
def test_large_layers_take_tiles_of_four(layer, tier):
    assert chosen(layer, tier) == "conv2d_backward_weight_winograd4"


@tiers
def test_elsewhere_pixels_are_summed(tier):
    for layer in (
        Convolution((8, 56, 56, 64), 64, window(3, 2, 1)),
        Convolution((8, 56, 56, 64), 64, window(3, 1, "same", 40)),  # so would those of phases
        Convolution((8, 56, 56, 64), 64, SAME, groups=2),
        Convolution((8, 56, 56, 64), 64, window(5, 1, "same")),
        Convolution((8, 56, 56, 1), 4, SAME),
        Convolution((8, 1, 1, 64), 64, SAME),  # tiles would be nearly empty
    ):
        assert chosen(layer, tier) == "conv2d_backward_weight"


@tiers
@pytest.mark.parametrize(("algorithm", "transformed"), [("auto", True), ("direct", False)])
def test_a_layer_that_excludes_transforms_has_gradients_without(tier, algorithm, transformed):
    graph = Graph()
    x, w = graph.input(LAYERS[0].x), graph.input(LAYERS[0].w)
    y = graph.add(Conv2D(SAME, algorithm=algorithm), x, w, None)
    dy = graph.input(y.spec.shape)
    graph.outputs = [y, *y.node.op.gradient(graph, y.node, (dy,))[:2]]
    names = [step.kernel.name for step in lower(graph, runner.KERNELS[tier])[0].steps]
    assert any("winograd" in name for name in names) == transformed


def test_an_exact_block_excludes_transforms():
    x, dy = operands(LAYERS[2])
    options = {"w_shape": LAYERS[2].w, "padding": 1}
    direct = functional.conv2d_backward_weight(x, dy, **options, algorithm="direct")
    with cycnn.exact():
        assert runner.same_bits(functional.conv2d_backward_weight(x, dy, **options), direct)
    assert not runner.same_bits(functional.conv2d_backward_weight(x, dy, **options), direct)


# ---- the cuts ------------------------------------------------------------------------------------


@tiers
@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("cut", [(1, 1, 1, 7), (3, 1, 2, 7), (1, 3, 1, 100), (5, 2, 3, 1)])
@pytest.mark.parametrize("w", [SAME, window(3, 1, "same", (2, 3))], ids=["near", "dilated"])
def test_every_cut_sums_all_tiles(monkeypatch, w, cut, accumulate, algorithm, tier):
    split = WinogradSplit(*cut)
    monkeypatch.setattr(weight_gradient_candidates, "winograd_split", lambda *_: (0.0, split))
    layer = Convolution((2, 11, 9, 50), 82, w, algorithm=algorithm)
    case = layer.backward_weight(accumulate)
    bench = runner.Bench(case.op, case.arrays(), tier=tier).run(threads=2)
    bench.check()
    runner.assert_close(bench.results, oracle.expected(case.op, case.arrays()))


# ---- rounding ------------------------------------------------------------------------------------


def in_float64(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The weight gradient of a 3x3 window that pads by 1, in float64."""
    x, dy = (a.astype(np.float64) for a in (np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]), dy))
    axes, (p, q) = ([0, 1, 2], [0, 1, 2]), dy.shape[1:3]
    taps = [np.tensordot(x[:, r : r + p, s : s + q], dy, axes) for r, s in np.ndindex(3, 3)]
    return np.reshape(taps, (3, 3, x.shape[3], dy.shape[3]))


@tiers
@layers
def test_rounding_errors_beside_those_of_direct_summation(layer, tier):
    """Root mean squares; `kernels/README.md` has what layers of ResNets show."""
    arrays = operands(layer)
    expected, errors = in_float64(*arrays), {}
    for algorithm in ("direct", "winograd2", "winograd4"):
        (dw,) = runner.run(gradient(layer, algorithm), arrays, tier=tier)
        errors[algorithm] = np.sqrt(np.mean((dw - expected) ** 2) / np.mean(expected**2))
    assert errors["direct"] < 1e-6
    assert errors["winograd2"] < 2 * errors["direct"]
    assert errors["winograd4"] < 4 * errors["direct"]


# ---- values that are not finite ------------------------------------------------------------------


@pytest.mark.parametrize("shapes", [c for c in (*WINOGRAD, *WINOGRAD_DILATED) if c.x[0]], ids=str)
@pytest.mark.parametrize("operand", [0, 1])
def test_what_is_not_finite_stays_in_its_channel_and_never_vanishes(shapes, operand):
    case = shapes.backward_weight(accumulate=False)
    arrays = case.arrays()
    rng = np.random.default_rng(arrays[operand].size)
    place = tuple(rng.integers(size) for size in arrays[operand].shape)
    for value in (np.nan, np.inf, -np.inf):
        arrays[operand][place] = value
        (expected,) = oracle.expected(case.op, arrays)
        for tier in runner.TIERS:
            (actual,) = runner.run(case.op, arrays, tier=tier)
            assert not np.isfinite(actual[~np.isfinite(expected)]).any()
            others = [np.delete(dw, place[3], axis=2 + operand) for dw in (actual, expected)]
            runner.assert_close(others[:1], others[1:])
