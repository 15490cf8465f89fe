"""Winograd convolution: where it is chosen, how exact it is, where NaN goes, what its cuts leave alone."""

from __future__ import annotations

import numpy as np
import pytest

import cycnn
import oracle
import runner
from convolutions import WINOGRAD, WINOGRAD_DILATED, WINOGRAD_STRIDED, window
from cycnn import layers
from cycnn.geometry import Window
from cycnn.graph.ir import Graph
from cycnn.ops import conv_winograd
from cycnn.ops.activation import Activation
from cycnn.ops.conv import Conv2D, Conv2DBackwardData
from cycnn.ops.merge import Concatenate
from cycnn.plan.joins import places
from cycnn.plan.plan import Plan
from cycnn.plan.weights import Weights

SAME = window(3, padding="same")
STRIDED = window(3, 2, 1)
DILATED = window(3, 1, "same", 2)


def layer(channels, filters, size, images=1, *, w: Window = SAME, algorithm="auto", backward=False):
    """A convolution of square images: its op, and arrays of its shapes."""
    rng = np.random.default_rng(channels + filters + size)
    shape = (images, size, size, channels)
    x = rng.standard_normal(shape, np.float32)
    weights = 0.05 * rng.standard_normal((*w.kernel, channels, filters), np.float32)
    if not backward:
        return Conv2D(w, algorithm=algorithm), [x, weights, None]
    dy = rng.standard_normal((images, *w.output((size, size)), filters), np.float32)
    return Conv2DBackwardData(w, 1, shape, algorithm), [dy, weights]


# ---- the choice ----------------------------------------------------------------------------------


def chosen(*shape, purpose="latency", **options) -> str:
    """The size of tiles that is chosen, "" for direct convolution."""
    names = runner.kernels_of(*layer(*shape, **options), purpose=purpose)
    sizes = {name[len("winograd")] for name in names if name.startswith("winograd")}
    return "".join(sizes)


@pytest.mark.parametrize("images", [1, 16])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("purpose", ["latency", "throughput"])
def test_layers_of_many_channels_take_tiles_of_four(images, backward, purpose):
    for shape in [(64, 64, 56), (128, 128, 28), (256, 256, 14)]:
        assert chosen(*shape, images, backward=backward, purpose=purpose) == "4"


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("purpose", ["latency", "throughput"])
def test_dilation_changes_the_choice_only_where_tiles_do_not_fit_phases(backward, purpose):
    for dilation in (2, (2, 7)):  # phases of 28 and 8 pixels
        w = window(3, 1, "same", dilation)
        assert chosen(64, 64, 56, w=w, backward=backward, purpose=purpose) == "4"
    w = window(3, 1, "same", 40)  # phases of a pixel or two, most of a tile empty
    assert chosen(64, 64, 56, w=w, backward=backward, purpose=purpose) == ""


@pytest.mark.parametrize("images", [1, 16])
def test_where_weights_outweigh_images_the_purpose_decides(images):
    """Transformed for tiles of four, weights of 512 channels are read from memory."""
    assert chosen(512, 512, 7, images) == "2"
    assert chosen(512, 512, 7, images, purpose="throughput") == "4"


@pytest.mark.parametrize("purpose", ["latency", "throughput"])
def test_elsewhere_convolution_is_direct(purpose):
    assert (
        chosen(3, 64, 112, purpose=purpose) == ""
    )  # the transforms would cost more than they spare
    assert chosen(8, 8, 8, purpose=purpose) == ""  # nothing to gain
    assert chosen(64, 64, 56, w=STRIDED, backward=True, purpose=purpose) == ""
    assert chosen(64, 64, 56, w=window(3, (1, 2), "same"), purpose=purpose) == ""
    assert chosen(64, 64, 56, w=window(3, 3, "same"), purpose=purpose) == ""
    assert chosen(64, 64, 56, w=window(3, 2, "same", 2), purpose=purpose) == ""
    assert chosen(64, 64, 56, w=window(5, 1, "same"), purpose=purpose) == ""
    assert chosen(64, 64, 56, algorithm="direct", purpose=purpose) == ""
    assert chosen(64, 128, 56, w=STRIDED, algorithm="direct", purpose=purpose) == ""


@pytest.mark.parametrize("images", [1, 16])
@pytest.mark.parametrize("purpose", ["latency", "throughput"])
def test_with_stride_2_many_channels_take_the_tiles_that_fit(images, purpose):
    for shape in [(64, 128, 56), (128, 128, 56), (64, 64, 112)]:
        assert chosen(*shape, images, w=STRIDED, purpose=purpose) == "4"
    for shape in [(128, 256, 28), (256, 256, 28)]:  # 14 x 14 are 7 x 7 tiles of two
        assert chosen(*shape, images, w=STRIDED, purpose=purpose) == "2"
    assert chosen(16, 16, 16, images, w=STRIDED, purpose=purpose) == ""
    assert chosen(3, 64, 224, images, w=STRIDED, purpose=purpose) == ""


def test_with_stride_2_weights_that_outweigh_images_are_not_transformed():
    assert chosen(512, 512, 14, w=STRIDED) == ""


def test_gradients_of_stride_2_are_direct_whatever_was_asked():
    """A layer that asks for Winograd's tiles can be trained."""
    model = cycnn.Sequential(
        [
            layers.Input((9, 9, 3)),
            layers.Conv2D(3, 2),
            layers.Conv2D(4, 3, strides=2, algorithm="winograd4"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    model.compile(cycnn.optimizers.SGD(0.1))
    names = [step.kernel.name for step in model.trainer.step.plan(((2, 9, 9, 3),))[0].steps]
    forward = {"winograd4_pack_rows", "winograd4_transform", "winograd4_multiply"}
    assert {name for name in names if "winograd" in name} == forward


# ---- rounding ------------------------------------------------------------------------------------


def error(op, arrays) -> float:
    """Root mean square of the difference to 64-bit arithmetic, relative to that of the result."""
    (expected,) = oracle.expected(op, arrays)
    (actual,) = runner.run(op, arrays)
    return np.sqrt(np.mean((actual - expected) ** 2) / np.mean(expected**2))


@pytest.mark.parametrize(("channels", "size"), [(16, 32), (32, 16), (64, 14), (130, 13), (256, 7)])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("backward", [False, True])
def test_rounding_errors_beside_those_of_direct_convolution(channels, size, positive, backward):
    errors = rounding(channels, size, positive, backward=backward)
    assert errors["winograd2"] < errors["direct"]
    assert errors["winograd4"] < (2.5 if channels > 16 else 3) * errors["direct"]


@pytest.mark.parametrize(("channels", "size"), [(16, 32), (32, 24), (64, 28), (130, 25), (256, 14)])
@pytest.mark.parametrize("positive", [False, True])
def test_with_stride_2_they_are_those_of_direct_convolution(channels, size, positive):
    errors = rounding(channels, size, positive, w=STRIDED)
    assert errors["winograd2"] < errors["direct"]
    assert errors["winograd4"] < 1.4 * errors["direct"]


def rounding(channels: int, size: int, positive: bool, **options) -> dict[str, float]:
    """The error of each algorithm."""
    errors = {}
    for algorithm in ("direct", "winograd2", "winograd4"):
        op, arrays = layer(channels, channels, size, algorithm=algorithm, **options)
        arrays[0] = np.maximum(arrays[0], 0) if positive else arrays[0]
        errors[algorithm] = error(op, arrays)
    return errors


# ---- values that are not finite ------------------------------------------------------------------


def reading_tiles(op, arrays, place) -> np.ndarray:
    """Which outputs are in a tile that reads the pixel of ``arrays[0]`` at ``place``."""
    m, stride = int(op.algorithm[-1]), op.window.strides[0]
    forward = op.name == "Conv2D"
    size = arrays[0].shape[1:3] if forward else op.x_shape[1:3]
    image, *pixel = np.unravel_index(place, arrays[0].shape)[:3]
    (y,) = runner.specs(op, arrays)
    mask = np.arange(y.shape[0])[:, None, None, None] == image
    for axis, (before, _) in enumerate(op.window.pads(size)):
        dilation, out = op.window.dilation[axis], np.arange(y.shape[1 + axis])
        first = out % dilation + out // dilation // m * m * dilation  # of the tile
        offset = pixel[axis] - first * stride + (before if forward else 2 * dilation - before)
        inside = (offset % dilation == 0) & (offset >= 0)
        inside &= offset < ((m - 1) * stride + 3) * dilation
        mask = mask & np.expand_dims(inside, [a for a in range(4) if a != 1 + axis])
    return np.broadcast_to(mask, y.shape)


NOT_FINITE = [
    *((c, b) for c in (*WINOGRAD, *WINOGRAD_DILATED) if c.x[0] for b in (False, True)),
    *((c, False) for c in WINOGRAD_STRIDED if c.x[0]),
]


@pytest.mark.parametrize(("shapes", "backward"), NOT_FINITE, ids=str)
def test_what_is_not_finite_stays_in_its_tiles_and_never_vanishes(shapes, backward):
    case = shapes.backward_data() if backward else shapes.forward(True, None)
    arrays = case.arrays()
    place = np.random.default_rng(arrays[0].size).integers(arrays[0].size)
    for value in (np.nan, np.inf, -np.inf):
        arrays[0].flat[place] = value
        (expected,) = oracle.expected(case.op, arrays)
        for tier in runner.TIERS:
            (actual,) = runner.run(case.op, arrays, tier=tier)
            assert not np.isfinite(actual[~np.isfinite(expected)]).any()
            outside = ~reading_tiles(case.op, arrays, place)
            runner.assert_close([actual[outside]], [expected[outside]])


# ---- the cuts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("w", "backward"),
    [(SAME, False), (SAME, True), (STRIDED, False), (DILATED, False), (DILATED, True)],
)
@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
@pytest.mark.parametrize("tier", runner.TIERS)
def test_bits_do_not_depend_on_how_tiles_are_grouped(monkeypatch, algorithm, tier, w, backward):
    size = 9 * w.strides[0]
    op, arrays = layer(20, 35, size, 3, w=w, algorithm=algorithm, backward=backward)
    results, forms = [], set()
    for settings in (
        {"BLOCKS": 1},
        {"BLOCKS": 1, "BLOCK_TILES": 40},
        {"BLOCKS": 1, "LARGE_WEIGHTS": 0},
        {"BLOCKS": 10**6},
        {"BLOCKS": 10**6, "STEP_TILES": 5},
        {"BLOCKS": 10**6, "STEP_FEWEST": 1},
        {"BLOCKS": 10**6, "STEP_BYTES": 20000},
        {"BLOCKS": 10**6, "STEP_BYTES": 60000, "STEP_ITEMS": 1},
    ):
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setattr(conv_winograd, name, value)
            forms.add(tuple(runner.kernels_of(op, arrays, tier)))
            results.append(runner.run(op, arrays, tier=tier, threads=2)[0])
    assert len(forms) >= 3  # one step, two, and several times two
    assert all(runner.same_bits(r, results[0]) for r in results)


def test_the_oracle_agrees_where_tiles_go_through_in_parts(monkeypatch):
    monkeypatch.setattr(conv_winograd, "STEP_BYTES", 20000)
    monkeypatch.setattr(conv_winograd, "BLOCKS", 10**6)
    op, (x, w, _) = layer(24, 40, 11, 2, algorithm="winograd4")
    arrays = [x, w, np.ones(40, np.float32), np.full((2, 11, 11, 40), 0.5, np.float32)]
    assert runner.kernels_of(op, arrays).count("winograd4_multiply") > 1
    for in_place in (False, True):
        results = runner.Bench(op, arrays, in_place=in_place).run(threads=2).results
        runner.assert_close(results, oracle.expected(op, arrays))


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
@pytest.mark.parametrize("tier", runner.TIERS)
def test_pixels_may_lie_apart(algorithm, tier):
    """Inside a concatenation, which two convolutions write and another one reads, with stride 2."""
    conv, strided = (Conv2D(w, algorithm=algorithm) for w in (SAME, STRIDED))
    x, w1, _ = layer(5, 19, 18, 2)[1]
    w2, w3 = layer(19, 33, 9, 2)[1][1], layer(19, 20, 9, 2)[1][1]
    graph = Graph()
    given = [graph.input(array.shape, "float32") for array in (x, w1, w2, w3)]
    first = graph.add(strided, given[0], given[1])
    second = graph.add(conv, first, given[2])
    third = graph.add(strided, first, given[3])
    both = graph.add(Activation("relu"), graph.add(Concatenate(), first, second))
    graph.outputs = [both, graph.add(Activation("relu"), third)]
    assert {place.step for place in places(graph).values()} == {19 + 33}
    program = Plan(graph, runner.KERNELS[tier]).bind(Weights(frozen=True))
    outputs = program.empty_outputs()
    program.run([x, w1, w2, w3], outputs, 2)
    (one,) = runner.run(strided, [x, w1, None], tier=tier)
    (two,) = runner.run(conv, [one, w2, None], tier=tier)
    (three,) = runner.run(strided, [one, w3, None], tier=tier)
    assert runner.same_bits(outputs[0], np.maximum(np.concatenate([one, two], axis=3), 0))
    assert runner.same_bits(outputs[1], np.maximum(three, 0))
