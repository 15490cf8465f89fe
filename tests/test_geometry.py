"""The one formula of output sizes, what it reduces to, and the errors it explains."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import oracle_windows
from cycnn.errors import ArgumentError, ShapeError
from cycnn.geometry import ReceptiveField, Window, strict_tiling

SMALL = [
    (w, k, s, p, d)
    for w, k, s, p, d in product(range(1, 12), range(1, 6), range(1, 5), range(4), range(1, 4))
    if (k - 1) * d + 1 <= w + 2 * p
]


def output(w, k, s=1, p=0, d=1):
    return Window.make((k, 1), (s, 1), ((p, p), (0, 0)), (d, 1)).output((w, 1))[0]


def test_reduces_to_the_texts_formula():
    for w, k, s, p, d in SMALL:
        if d == 1 and (w - k + 2 * p) % s == 0:
            assert output(w, k, s, p) == (w - k + 2 * p) / s + 1


def test_counts_the_positions_where_the_window_fits():
    for w, k, s, p, d in SMALL:
        starts = [i for i in range(0, w + 2 * p, s) if i + (k - 1) * d + 1 <= w + 2 * p]
        assert output(w, k, s, p, d) == len(starts)


def test_dilation_is_a_larger_window():
    for w, k, s, p, d in SMALL:
        assert output(w, k, s, p, d) == output(w, (k - 1) * d + 1, s, p)


def test_half_the_window_of_padding_keeps_the_size():
    """P = (K - 1) / 2 at stride 1 is "same" padding."""
    for w, k in product(range(1, 20), (1, 3, 5, 7, 9)):
        assert output(w, k, 1, (k - 1) // 2) == w
        assert Window.make(k, 1, "same").pads((w, w)) == (((k - 1) // 2,) * 2,) * 2


def test_same_padding_divides_the_size_by_the_stride():
    for w, k, s, d in product(range(1, 15), range(1, 6), range(1, 5), range(1, 4)):
        window = Window.make(k, s, "same", d)
        (before, after), _ = window.pads((w, w))
        assert window.output((w, w)) == (-(-w // s),) * 2
        assert output(w + before + after, k, s, 0, d) == -(-w // s)
        assert after - before in (0, 1), (
            "the odd row goes to the bottom, the odd column to the right"
        )


def test_even_window_pads_the_bottom_and_the_right():
    assert Window.make(2, 1, "same").pads((5, 5)) == ((0, 1), (0, 1))
    assert Window.make((4, 2), 1, "SAME").pads((8, 8)) == ((1, 2), (0, 1))


def test_agrees_with_the_oracle():
    for padding, k, s, d in product(
        ("valid", "same", 1, ((0, 2), (1, 0))), (1, 3, 4), (1, 2, 3), (1, 2)
    ):
        window = Window.make(k, s, padding, d)
        for size in product(range(7, 12), range(7, 12)):
            assert window.output(size) == oracle_windows.output_size(window, size)
            assert list(window.pads(size)) == oracle_windows.padding(window, size)


def test_axes_are_independent():
    window = Window.make((3, 5), (2, 1), ((1, 0), (2, 2)), (1, 2))
    assert window.output((10, 20)) == (5, 16)
    assert window.extent == (3, 9)
    assert window.taps == 15


def test_unknown_sizes_stay_unknown():
    assert Window.make(3).output((None, 8)) == (None, 6)
    assert Window.make(3, 2, "same").output((9, None)) == (5, None)


def test_one_axis():
    assert Window.make(3, 2, 1, axes=1).output((9,)) == (5,)


@pytest.mark.parametrize(
    ("padding", "pads"),
    [
        ("valid", ((0, 0), (0, 0))),
        (2, ((2, 2), (2, 2))),
        ((1, 3), ((1, 1), (3, 3))),
        (((1, 0), (0, 2)), ((1, 0), (0, 2))),
        ([[1, 0], 2], ((1, 0), (2, 2))),
        (np.int64(1), ((1, 1), (1, 1))),
    ],
    ids=str,
)
def test_ways_to_write_padding(padding, pads):
    assert Window.make(3, 1, padding).pads((9, 9)) == pads


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["full", -1, (1,), (1, 2, 3), ((1, -1), 0), 1.5, None, True])
def test_padding_that_is_not_allowed(padding):
    with pytest.raises(ArgumentError, match=r"`padding` must be .* Received: padding="):
        Window.make(3, 1, padding)


@pytest.mark.parametrize("value", [0, -1, 2.0, (1, 2, 3), (3, 0), "3", None, True, 2**31])
def test_sizes_that_are_not_allowed(value):
    with pytest.raises(ArgumentError, match=r"`kernel_size` must be .*Received: kernel_size="):
        Window.make(value)
    with pytest.raises(ArgumentError, match="`strides` must be an integer of at least 1"):
        Window.make(3, value)
    with pytest.raises(ArgumentError, match="`dilation_rate` must be an integer of at least 1"):
        Window.make(3, 1, "valid", value)


def test_argument_is_named_as_the_caller_calls_it():
    with pytest.raises(ArgumentError, match="`pool_size` must be"):
        Window.make(0, kernel_name="pool_size")


def test_window_larger_than_the_input():
    with pytest.raises(ShapeError, match=r"extent 5 .* input of 3 with padding 0\+1 .* axis 1"):
        Window.make((1, 3), 1, ((0, 0), (0, 1)), (1, 2)).output((9, 3))


def test_strict_tiling_names_everything():
    """(224 - 11) / 4 + 1 = 54.25: the message gives W, K, P, S, the fraction and what tiles."""
    with pytest.raises(ShapeError) as error:
        Window.make(11, 4, strict=True).output((224, 224))
    for part in ("W=224", "K=11", "P=0", "S=4", "217/4 = 54.25", "W=223 or 227", "P=3", "S=1 or 3"):
        assert part in str(error.value)


def test_strict_tiling_offers_values_that_tile():
    for w, k, s, p, d in SMALL:
        if (w + 2 * p - (k - 1) * d - 1) % s == 0:
            continue
        with pytest.raises(ShapeError) as error:
            Window.make((k, 1), (s, 1), ((p, p), (0, 0)), (d, 1), strict=True).output((w, 1))
        offers = str(error.value).split("What tiles:")[1].rstrip(".").split(";")
        for name, values in (offer.split("=") for offer in offers):
            for value in values.split(" or "):
                tried = {"W": w, "P": 2 * p, "S": s} | {name.strip(): int(value)}
                room = tried["W"] - ((k - 1) * d + 1) + tried["P"]
                assert room >= 0
                assert room % tried["S"] == 0


def test_strict_tiling_is_a_block_or_a_flag():
    assert Window.make(2, 2).output((5, 5)) == (2, 2)
    with strict_tiling():
        strict = Window.make(2, 2)
        with strict_tiling(False):
            assert Window.make(2, 2).output((5, 5)) == (2, 2)
    for window in (strict, Window.make(2, 2, strict=True)):
        with pytest.raises(ShapeError, match="does not tile"):
            window.output((5, 5))
    assert strict.output((6, 6)) == (3, 3)
    assert Window.make(2, 2).output((5, 5)) == (2, 2)


def test_strict_windows_tile_with_same_padding():
    assert Window.make(3, 2, "same", strict=True).output((5, 6)) == (3, 3)


# ---- receptive field -----------------------------------------------------------------------------


def support(windows, size, place):
    """First and last input pixel that reaches output ``place`` of stacked 1-D windows."""
    first = last = place
    sizes = [size]
    for window in windows:
        sizes.append(window.output((sizes[-1], 1))[0])
    assert 0 <= place < sizes[-1]
    for window, w in zip(reversed(windows), sizes[-2::-1], strict=True):
        before = window.pads((w, 1))[0][0]
        first = first * window.strides[0] - before
        last = last * window.strides[0] - before + window.extent[0] - 1
    return first, last


STACKS = [
    [(3, 1, 0, 1)],
    [(3, 1, 1, 1), (3, 1, 1, 1)],
    [(7, 2, 3, 1), (3, 2, 1, 1), (3, 1, 1, 1)],
    [(3, 1, 2, 2), (3, 2, 4, 4), (2, 2, 0, 1)],
    [(11, 4, 0, 1), (3, 2, 0, 1), (5, 1, 2, 1)],
]


@pytest.mark.parametrize("stack", STACKS, ids=str)
def test_receptive_field_is_what_the_windows_reach(stack):
    windows = [Window.make((k, 1), (s, 1), ((p, p), (0, 0)), (d, 1)) for k, s, p, d in stack]
    field, size = ReceptiveField(), 67
    for window in windows:
        field = field.through(window, (size, 1))
        size = window.output((size, 1))[0]
    for place in range(size):
        first, last = support(windows, 67, place)
        assert field.size[0] == last - first + 1
        assert field.start[0] + place * field.jump[0] == (first + last) / 2


def test_two_threes_see_five_and_three_threes_seven():
    field, sizes = ReceptiveField(), []
    for _ in range(3):
        field = field.through(Window.make(3), (32, 32))
        sizes.append(field.size)
    assert sizes == [(3, 3), (5, 5), (7, 7)]


def test_dilation_widens_the_field_with_as_many_taps():
    plain, dilated = Window.make(3), Window.make(3, dilation=4)
    assert ReceptiveField().through(dilated, (32, 32)).size == (9, 9)
    assert plain.taps == dilated.taps == 9


def test_merged_branches_see_the_larger_field():
    one = ReceptiveField((3, 5), (2, 2), (0.0, -1.0))
    other = ReceptiveField((7, 1), (2, 2), (-2.0, 0.0))
    assert one.union(other) == ReceptiveField((7, 5), (2, 2), (-2.0, -1.0))
