"""Draw the JSON files of layers.py, networks.py, training.py and memory.py.

For each file a bar chart of ratios, best peer over cycnn: a bar beyond the line at 1 is a network or layer at
which cycnn is ahead, and says which peer it was held to. For layers.py also a roofline: GFLOP/s over the
operations done for each byte, below what the processor and its memory could do. Pictures are named after
the files, and go beside them or to ``--folder``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING

from cycnn.plot import FAINT, INK, STYLE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind can tell apart
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
MARKERS = "osD^vP"
PEERS = {
    "torch": "PyTorch",
    "compiled": "PyTorch compiled",
    "contiguous": "PyTorch contiguous",
    "channels-last": "PyTorch channels-last",
    "eager": "PyTorch",
    "prepacked": "oneDNN prepacked",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
OPS = {
    "forward": "forward",
    "backward_data": "gradient for the data",
    "backward_weight": "gradient for the weights",
}


@dataclass(frozen=True)
class Bar:
    """One ratio: ``series`` is its colour, ``label`` its row in a ``panel``."""

    panel: str
    label: str
    series: str
    ratio: float
    peer: str


# ---- the bars of each program


def _of_networks(rows: list[dict]) -> list[Bar]:
    return [
        Bar(
            _threads(row["threads"]),
            row["network"],
            f"batch {row['batch']}",
            row["ratio"],
            row["fastest_peer"],
        )
        for row in rows
        if "ratio" in row
    ]


def _of_training(rows: list[dict]) -> list[Bar]:
    bars = []
    for row in rows:
        if "ratio" in row:
            rates = {k: v for k, v in row["images_per_second"].items() if k != "cycnn"}
            label = f"{row['network']}, batch {row['batch']}"
            bars.append(Bar("", label, "", row["ratio"], max(rates, key=rates.get)))
    return bars


def _of_memory(rows: list[dict]) -> list[Bar]:
    bars = []
    for row in rows:
        if "ratio" in row:
            batch = f"batch {row['batch']}"
            inside = row["step"] == "training"  # one batch for each network
            label = f"{row['network']}, {batch}" if inside else row["network"]
            peer = row["smallest_peer"]
            bars.append(Bar(row["step"], label, "" if inside else batch, row["ratio"], peer))
    return bars


def _of_layers(rows: list[dict]) -> list[Bar]:
    bars = []
    for row in rows:
        speeds = {k: v for k, v in row["gflops"].items() if k not in ("cycnn", "peak")}
        if speeds and row["op"] in OPS:
            best = max(speeds, key=speeds.get)
            ratio = row["gflops"]["cycnn"] / speeds[best]
            bars.append(Bar(OPS[row["op"]], row["shape"], f"batch {row['batch']}", ratio, best))
    return bars


# the program's bars, and what its ratio is
CHARTS: dict[str, tuple[Callable[[list[dict]], list[Bar]], str]] = {
    "layers": (_of_layers, "Layers: time of the fastest peer over cycnn's"),
    "memory": (_of_memory, "Memory: that of the smallest peer over cycnn's"),
    "networks": (_of_networks, "Predictions: time of the fastest peer over cycnn's"),
    "training": (_of_training, "Training steps: time of the fastest peer over cycnn's"),
}


def _threads(n: int) -> str:
    return "1 thread" if n == 1 else f"{n} threads"


def circumstances(document: dict) -> str:
    """Machine, threads and date, as a line under a title."""
    machine = document["machine"]
    threads = ", ".join(_threads(peak["threads"]) for peak in document["peaks"])
    cpus = f"{machine['cpu']}, {machine['cpus']} CPUs"
    tuned = "allocator tuned" if machine["tuned_allocator"] else ""
    return ", ".join(filter(None, [cpus, threads, tuned, document["date"]]))


# ---- bar charts


def draw_ratios(bars: Sequence[Bar], title: str, below: str) -> Figure:
    """A panel for each step or number of threads, a row for each network or layer, the best on top."""
    panels = [[b for b in bars if b.panel == name] for name in dict.fromkeys(b.panel for b in bars)]
    series = list(dict.fromkeys(bar.series for bar in bars if bar.series))
    rows = max(len(panel) + 0.6 * len({bar.label for bar in panel}) for panel in panels)
    alike = len({frozenset(bar.label for bar in panel) for panel in panels}) == 1
    figure = new_figure(1.8 + (3.4 if alike else 4.6) * len(panels), 1.7 + 0.16 * rows)
    colours = {name: COLOURS[k] for k, name in enumerate(series)}
    first = None
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(
            1, len(panels), i + 1, sharex=first, sharey=first if alike else None
        )
        _draw_panel(axes, panel, _best_last(bars if alike else panel), colours)
        axes.tick_params(labelleft=not alike or first is None)
        first = first or axes
    first.set_xlim(0, 1.5 * max(1, *(bar.ratio for bar in bars)))
    if len(series) > 1:
        drawn = {d.get_label(): d for axes in figure.axes for d in axes.containers}
        handles = [drawn[name] for name in series]
        figure.legend(handles, series, loc="outside lower right", ncols=len(series), frameon=False)
    _head(figure, title, below)
    return figure


def _best_last(bars: Sequence[Bar]) -> list[str]:
    labels = {bar.label for bar in bars}
    return sorted(
        labels,
        key=lambda label: geometric_mean(b.ratio for b in bars if b.label == label),
    )


def _draw_panel(axes: Axes, bars: list[Bar], labels: list[str], colours: dict[str, str]) -> None:
    series = list(dict.fromkeys(bar.series for bar in bars))
    height = 0.8 / len(series)
    for k, name in enumerate(series):
        part = [bar for bar in bars if bar.series == name]
        places = [labels.index(bar.label) + 0.4 - height * (k + 0.5) for bar in part]
        widths, colour = [bar.ratio for bar in part], colours.get(name, COLOURS[2])
        axes.barh(places, widths, height * 0.92, color=colour, label=name)
        for place, bar in zip(places, part, strict=True):
            said = f"{bar.ratio:.2f}  {PEERS.get(bar.peer, bar.peer)}"
            at = max(bar.ratio, 1), place  # beyond the line
            shift = {"xytext": (4, 0), "textcoords": "offset points"}
            axes.annotate(said, at, va="center", fontsize=7, color=INK, **shift)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.set_title(_panel_title(bars), loc="left", fontsize=8)


def _panel_title(bars: list[Bar]) -> str:
    """The panel's name and the geometric mean of each series."""
    said = []
    for name in dict.fromkeys(bar.series for bar in bars):
        value = geometric_mean(bar.ratio for bar in bars if bar.series == name)
        said.append(f"{value:.2f} at {name}" if name else f"{value:.2f}")
    return "\n".join(filter(None, [bars[0].panel, f"geometric mean {', '.join(said)}"]))


def _head(figure: Figure, title: str, below: str) -> None:
    """The title, and the machine in the line under it."""
    figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.text(
        0.01, 1 - 0.42 / figure.get_figheight(), below, va="center", fontsize=8, color=FAINT
    )


# ---- the roofline


def draw_roofline(rows: Sequence[dict], peak: float, bandwidth: float, below: str) -> Figure:
    """GFLOP/s of cycnn's layers over operations a byte, under a roof of ``peak`` GFLOP/s and
    ``bandwidth`` GB/s."""
    windows = list(dict.fromkeys(row["shape"].split()[0] for row in rows))
    batches = sorted({row["batch"] for row in rows})
    ops = list(dict.fromkeys(row["op"] for row in rows))
    figure = new_figure(1.6 + 3.2 * len(ops), 4.4)
    first = None
    for i, op in enumerate(ops):
        axes = figure.add_subplot(1, len(ops), i + 1, sharex=first, sharey=first)
        first = first or axes
        for row in (row for row in rows if row["op"] == op):
            k, filled = windows.index(row["shape"].split()[0]), row["batch"] == batches[-1]
            at = row["flops"] / row["bytes"], row["gflops"]["cycnn"]
            axes.plot(*at, **_marker(k, COLOURS[k % len(COLOURS)], filled))
        axes.set_title(OPS[op], loc="left", fontsize=9)
        axes.set_xlabel("operations a byte")
        axes.tick_params(labelleft=i == 0, labelsize=8)
    first.set_ylabel("GFLOP/s")
    _draw_roofs(figure.axes, rows, peak, bandwidth)
    _explain(figure, windows, batches)
    _head(figure, "Layers under the roof of the machine", below)
    return figure


def _marker(k: int, colour: str, filled: bool) -> dict[str, object]:
    face = colour if filled else "none"
    return {"ls": "", "marker": MARKERS[k % len(MARKERS)], "ms": 5.5, "mec": colour, "mfc": face}


def _draw_roofs(panels: list[Axes], rows: Sequence[dict], peak: float, bandwidth: float) -> None:
    """Peak and bandwidth as lines, on logarithmic axes that hold all points."""
    intensities = [row["flops"] / row["bytes"] for row in rows]
    speeds = [row["gflops"]["cycnn"] for row in rows]
    left, right = 0.4 * min(*intensities, peak / bandwidth), 2 * max(intensities)
    roof = [left, peak / bandwidth, right], [left * bandwidth, peak, peak]
    said = {"textcoords": "offset points", "fontsize": 7, "color": INK}
    from matplotlib.ticker import LogLocator, NullLocator

    for axes in panels:
        axes.set(xscale="log", yscale="log", xlim=(left, right))
        axes.set_ylim(0.6 * min(*speeds, left * bandwidth), 1.8 * max(*speeds, peak))
        axes.plot(*roof, color=INK, linewidth=1, zorder=0)
        axes.annotate(f"{peak:.0f} GFLOP/s", (right, peak), (-2, -9), ha="right", **said)
        axes.annotate(f"{bandwidth:.0f} GB/s", (left, left * bandwidth), (12, 2), **said)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_locator(NullLocator())


def _explain(figure: Figure, windows: list[str], batches: list[int]) -> None:
    from matplotlib.lines import Line2D

    drawn = [(name, _marker(k, COLOURS[k % len(COLOURS)], True)) for k, name in enumerate(windows)]
    if len(batches) > 1:
        drawn.append((f"batch {', '.join(map(str, batches[:-1]))}", _marker(0, INK, False)))
        drawn.append((f"batch {batches[-1]}", _marker(0, INK, True)))
    handles = [Line2D([], [], label=name, **marker) for name, marker in drawn]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    figure.supxlabel(
        "Operations are those of direct convolution: Winograd's does fewer and may lie above the roof.\n"
        "Every tensor comes from memory once: a layer that stays in the caches may lie above the slope.",
        x=0.01,
        ha="left",
        fontsize=8,
        color=FAINT,
    )


# ---- files


def draw(document: dict) -> dict[str, Figure]:
    """The pictures of a file's content, by the ending of their names."""
    program = Path(document["command"][0]).stem
    if program not in CHARTS:
        raise SystemExit(f"{program}.py is not drawn; those that are: {', '.join(CHARTS)}")
    bars_of, title = CHARTS[program]
    rows, below = document["rows"], circumstances(document)
    figures = {}
    if bars := bars_of(rows):
        figures[""] = draw_ratios(bars, title, below)
    layers = [row for row in rows if row.get("op") in OPS]
    if program == "layers" and layers and document["peaks"]:
        (limits,) = document["peaks"]
        peak = max(limits["gflops"], *(row["gflops"]["peak"] for row in rows))
        figures["-roofline"] = draw_roofline(layers, peak, limits["read"], below)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--folder", type=Path, help="where the pictures go; made if need be")
    args = parser.parse_args()
    if args.folder:
        args.folder.mkdir(parents=True, exist_ok=True)
    import matplotlib

    for file in args.files:
        with matplotlib.rc_context(STYLE):
            for ending, figure in draw(json.loads(file.read_text())).items():
                path = (args.folder or file.parent) / f"{file.stem}{ending}.png"
                figure.savefig(path, dpi=150)
                print(path)


if __name__ == "__main__":
    main()
