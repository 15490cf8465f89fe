"""The pictures of a network: every part is drawn from the numbers it is given."""

import sys

import numpy as np
import pytest

from cycnn import plot
from cycnn.errors import MissingExtra, ShapeError

matplotlib = pytest.importorskip("matplotlib")

RNG = np.random.default_rng(0)
REPORT = {
    "title": "two classes",
    "filters": RNG.normal(size=(3, 3, 1, 6)),
    "image": RNG.random((8, 8, 1)),
    "activations": RNG.random((8, 8, 6)),
    "losses": {"training": [1.0, 0.4, 0.1], "test": [0.9, 0.5, 0.2]},
    "confusion": np.array([[5, 1], [0, 6]]),
}


def parts(draw, *arrays):
    figure = plot.new_figure()
    draw(figure, *arrays)
    figure.draw_without_rendering()
    return figure


def test_report_is_one_png(tmp_path):
    path = tmp_path / "report.png"
    before = dict(matplotlib.rcParams)
    plot.save_report(path, **REPORT)
    assert dict(matplotlib.rcParams) == before
    read = pytest.importorskip("matplotlib.image").imread(path)
    assert min(read.shape[:2]) > 900
    assert len(np.unique(read.reshape(-1, 4), axis=0)) > 100


@pytest.mark.parametrize("count", [1, 6, 7, 32])
def test_every_filter_has_a_tile(count):
    filters = np.arange(1, count + 1) * np.ones((2, 3, 2, 1))
    shown = np.asarray(parts(plot.draw_filters, filters).axes[0].images[0].get_array())
    values, counts = np.unique(shown[np.isfinite(shown)], return_counts=True)
    assert values.tolist() == list(range(1, count + 1))
    assert len(set(counts)) == 1


def test_filters_of_three_channels_are_colours():
    filters = np.zeros((2, 2, 3, 1))
    filters[..., 0, :] = -1
    filters[..., 1, :] = 1
    shown = parts(plot.draw_filters, filters).axes[0].images[0].get_array()
    assert np.unique(shown[:2, :2].reshape(-1, 3), axis=0).tolist() == [[0, 1, 0.5]]


def test_zero_filters_and_dead_maps_are_drawn():
    parts(plot.draw_filters, np.zeros((3, 3, 1, 4)))
    parts(plot.draw_activations, np.zeros((4, 4, 3)), np.zeros((4, 4, 4)))


def test_losses_are_lines_over_epochs():
    axes = parts(plot.draw_losses, {"training": [2.0, 1.0], "test": [2.0, 1.5]}).axes[0]
    assert [line.get_label() for line in axes.lines] == ["training", "test"]
    assert axes.lines[1].get_xydata().tolist() == [[1, 2.0], [2, 1.5]]
    assert axes.get_yscale() == "log"


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [np.nan], [np.inf, 1.0], [0.5]])
def test_odd_losses_are_drawn(values):
    parts(plot.draw_losses, {"training": values})


def test_confusion_counts_are_written_into_the_cells():
    axes = parts(plot.draw_confusion, np.array([[5, 1], [0, 6]]), ["cat", "dog"]).axes[0]
    assert {t.get_position(): t.get_text() for t in axes.texts} == {
        (0, 0): "5",
        (1, 0): "1",
        (1, 1): "6",
    }
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cat", "dog"]
    assert axes.get_title("left") == "11 of 12 right, 91.67%"


def test_confusion_of_many_classes_or_none_right():
    assert not parts(plot.draw_confusion, np.ones((60, 60), int)).axes[0].texts
    parts(plot.draw_confusion, np.zeros((3, 3), int))


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("filters", np.zeros((3, 3, 1)), r"`filters` must have 4 axes.*of shape \(3, 3, 1\)"),
        ("filters", np.zeros((3, 3, 1, 0)), r"none of size 0.*of shape \(3, 3, 1, 0\)"),
        ("image", np.zeros((3, 3)), "`image` must have 3 axes"),
        ("activations", np.zeros((1, 3, 3, 4)), "`activations` must have 3 axes"),
        ("confusion", np.zeros(3), "`confusion` must have 2 axes"),
    ],
)
def test_wrong_shapes(tmp_path, name, wrong, message):
    with pytest.raises(ShapeError, match=message):
        plot.save_report(tmp_path / "a.png", **(REPORT | {name: wrong}))


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"cycnn\[plot\]"):
        plot.new_figure()
