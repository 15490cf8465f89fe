"""Pictures of a network: its filters, activation maps, loss curve and confusion matrix.

Each ``draw_*`` fills a matplotlib ``Figure`` or ``SubFigure`` from plain arrays; `save_report` puts
all four on one page. matplotlib comes with the extra ``plot``; no display is opened and no global
state is changed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .errors import MissingExtra, ShapeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

__all__ = [
    "draw_activations",
    "draw_confusion",
    "draw_filters",
    "draw_losses",
    "new_figure",
    "save_report",
]

INK, FAINT, PAPER = "#22262e", "#8a909c", "#ffffff"
LINES = ("#2d6cdf", "#e4572e", "#3aa17e", "#8f5fd0")
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": PAPER,
}


def new_figure(width: float = 6.0, height: float = 4.5) -> Figure:
    """An empty figure of ``width x height`` inches; `MissingExtra` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra(
            "Drawing needs matplotlib: pip install 'cycnn[plot]' or pip install matplotlib."
        ) from error
    return Figure((width, height), layout="constrained", facecolor=PAPER)


def save_report(
    path: str | os.PathLike,
    *,
    title: str,
    filters: np.ndarray,
    image: np.ndarray,
    activations: np.ndarray,
    losses: Mapping[str, Sequence[float]],
    confusion: np.ndarray,
    class_names: Sequence[str] | None = None,
) -> None:
    """Write one picture with the four parts; its format follows from the name's ending."""
    figure = new_figure(13, 10.5)
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure.suptitle(title, fontsize=15, fontweight="bold", x=0.02, ha="left")
        (top_left, top_right), (low_left, low_right) = figure.subfigures(
            2, 2, wspace=0.04, hspace=0.05, height_ratios=(0.72, 1)
        )
        draw_filters(top_left, filters)
        draw_activations(top_right, image, activations)
        draw_losses(low_left, losses)
        draw_confusion(low_right, confusion, class_names)
        figure.savefig(path, dpi=110, bbox_inches="tight", pad_inches=0.25)


def draw_filters(figure: FigureBase, filters: np.ndarray) -> None:
    """The kernels ``kh x kw x channels x filters`` of a convolution, one tile for each filter.

    Three channels are shown as a colour, else the mean over the channels on a scale of blue
    (negative), white (zero) and red (positive) that all filters share.
    """
    filters = _of_rank("filters", filters, 4)
    kh, kw, channels, count = filters.shape
    axes = _bare(figure.subplots())
    _head(
        figure, axes, "First-layer filters", f"{count} of {kh}x{kw}x{channels}, one scale for all"
    )
    largest = float(np.abs(filters).max()) or 1.0
    if channels == 3:
        mosaic = _mosaic([(k / largest + 1) / 2 for k in np.moveaxis(filters, 3, 0)])
        axes.imshow(np.nan_to_num(mosaic, nan=1.0))
        return
    mosaic = _mosaic(list(np.moveaxis(filters.mean(2), 2, 0)))
    largest = float(np.nanmax(np.abs(mosaic))) or 1.0
    shown = axes.imshow(mosaic, cmap="RdBu_r", vmin=-largest, vmax=largest)
    bar = figure.colorbar(shown, orientation="horizontal", shrink=0.5, aspect=40, panchor="NW")
    bar.outline.set_visible(False)


def draw_activations(figure: FigureBase, image: np.ndarray, activations: np.ndarray) -> None:
    """An input ``h x w x channels`` and the maps ``p x q x filters`` that a layer makes of it."""
    image, activations = _of_rank("image", image, 3), _of_rank("activations", activations, 3)
    left, right = map(_bare, figure.subplots(1, 2, width_ratios=(1, 4)))
    left.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray_r")
    left.set_title("the input", loc="left", fontsize=9, color=FAINT)
    _head(figure, right, "Activation maps", "and what each filter makes of it")
    maps = _mosaic(list(np.moveaxis(activations, 2, 0)))
    right.imshow(maps, cmap="magma", vmin=0, vmax=float(activations.max()) or 1.0)


def draw_losses(figure: FigureBase, losses: Mapping[str, Sequence[float]]) -> None:
    """One line for each entry of ``losses``: a value for each epoch."""
    axes = figure.subplots()
    _head(figure, axes, "Loss", "mean cross-entropy of each epoch")
    for (name, values), colour in zip(losses.items(), LINES * len(losses), strict=False):
        epochs = np.arange(1, len(values) + 1)
        axes.plot(epochs, values, color=colour, lw=2, marker="o", ms=3.5, label=name)
        if len(values):
            axes.annotate(
                f"{values[-1]:.3g}",
                (epochs[-1], values[-1]),
                (6, 0),
                textcoords="offset points",
                color=colour,
                va="center",
            )
    if any(v > 0 and math.isfinite(v) for values in losses.values() for v in values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color="#e7e9ee", lw=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)


def draw_confusion(
    figure: FigureBase, confusion: np.ndarray, class_names: Sequence[str] | None = None
) -> None:
    """Counts by true class (rows) and predicted class (columns); mistakes stand out in red."""
    confusion = _of_rank("confusion", confusion, 2)
    total, right = int(confusion.sum()), int(np.trace(confusion))
    axes = figure.subplots()
    note = f"{right:,} of {total:,} right, {right / max(total, 1):.2%}"
    _head(figure, axes, "Confusion matrix", note)
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    diagonal = np.eye(len(confusion), dtype=bool)
    axes.imshow(np.where(diagonal, share, np.nan), cmap="Blues", vmin=0, vmax=1.4)
    most = float(share[~diagonal].max(initial=0)) or 1.0
    mistakes = np.where(~diagonal & (confusion > 0), share, np.nan)
    axes.imshow(mistakes, cmap="Reds", vmin=-0.3 * most, vmax=1.6 * most)
    if len(confusion) <= 25:
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                dark = row == column and share[row, column] > 0.6
                axes.text(
                    column, row, count, ha="center", va="center", color=PAPER if dark else INK
                )
    names = list(class_names or range(len(confusion)))
    steep = max((len(str(n)) for n in names), default=0) > 3
    if len(names) <= 40:
        axes.set_xticks(range(len(names)), names, rotation=45 if steep else 0)
        axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#eceef2", lw=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _of_rank(name: str, array: np.ndarray, rank: int) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != rank or not array.size:
        raise ShapeError(
            f"`{name}` must have {rank} axes, none of size 0. "
            f"Received: {name} of shape {array.shape}."
        )
    return array


def _head(figure: FigureBase, axes: Axes, title: str, note: str) -> None:
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    axes.set_title(note, loc="left", fontsize=9, color=FAINT)


def _mosaic(tiles: list[np.ndarray], gap: int = 4, side: int = 32) -> np.ndarray:
    """``h x w`` (or ``h x w x 3``) tiles side by side, enlarged to ``side`` pixels, NaN between.

    The rows are equally long where that leaves the mosaic less than three times as wide as high.
    """
    count = max(len(tiles), 1)
    least = math.ceil(math.sqrt(count))
    columns = next((c for c in range(least, 2 * least) if count % c == 0), least)
    scale = -(-side // max(tiles[0].shape[:2]))
    height, width = (scale * n + gap for n in tiles[0].shape[:2])
    shape = (-(-count // columns) * height - gap, columns * width - gap, *tiles[0].shape[2:])
    mosaic = np.full(shape, np.nan)
    for i, tile in enumerate(tiles):
        row, column = i // columns * height, i % columns * width
        large = tile.repeat(scale, 0).repeat(scale, 1)
        mosaic[row : row + height - gap, column : column + width - gap] = large
    return mosaic


def _bare(axes: Axes) -> Axes:
    """``axes`` without ticks and frame, an image in it pushed to the top left."""
    axes.set_anchor("NW")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return axes
