"""The programs of benchmarks/ run on the smallest there is, and write what can be read again."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALLEST = {
    "dense": ["--only", "128x", "--rounds", "1"],
    "depthwise": ["--only", "7x7 768", "--batches", "1", "--rounds", "1"],
    "layers": ["--only", "512->512", "--batches", "1", "--rounds", "1"],
    "memory": ["--networks", "lenet5", "--batch", "2", "--batches", "1", "--rounds", "1"],
    "training": ["--no-learning", "--networks", "lenet5", "--batch", "2", "--rounds", "1"],
}
WITHOUT_A_FILE = {
    "elementwise": ["--only", "relu", "--where", "cache", "--rounds", "1"],
    "latency": ["--rounds", "1"],
    "startup": ["--rounds", "1"],
    "threads": ["--pauses", "1"],
}
WITHOUT_PEERS = {"memory": ["--peers"], "training": ["--peers"]}


def run(program: str, *arguments: str) -> str:
    """What a program prints."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(ROOT / "benchmarks" / f"{program}.py"), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """The JSON file of each program."""
    folder = tmp_path_factory.mktemp("benchmarks")
    paths = {name: folder / f"{name}.json" for name in SMALLEST}
    for name, path in paths.items():
        run(name, *SMALLEST[name], *WITHOUT_PEERS.get(name, []), "--json", str(path))
    return paths


@pytest.fixture(scope="module")
def documents(files) -> dict[str, dict]:
    return {name: json.loads(path.read_text()) for name, path in files.items()}


@pytest.mark.parametrize("name", SMALLEST)
def test_a_file_says_what_figures_cannot_be_read_without(documents, name):
    document = documents[name]
    assert document["rows"]
    assert document["machine"]["cpu"]
    assert document["date"][:2] == "20"
    assert document["peaks"][0]["threads"] == 1
    assert {"gflops", "read", "copy"} <= document["peaks"][0].keys()


@pytest.mark.parametrize("name", ["dense", "layers"])
def test_shares_of_the_peak_are_said(documents, name):
    for row in documents[name]["rows"]:
        assert 0 < row["best"] < math.inf
        assert 0 < row["share"] < math.inf


def test_times_are_compared_with_their_bursts():
    from timing import Times

    times = Times((2.0, 4.0), (4.0, 4.0)) + Times((8.0,), (4.0,))
    assert (times.best, times.median, times.of_burst) == (2.0, 4.0, 1.0)


@pytest.mark.parametrize("chosen", [[], ["--threads", "1", "2"]])
def test_a_file_holds_the_peaks_at_each_number_of_threads(tmp_path, chosen):
    import timing

    file = tmp_path / "figures.json"
    parser = timing.arguments(None, threads=(1, 2))
    timing.write(parser.parse_args(["--json", str(file), *chosen]), [])
    assert [peak["threads"] for peak in json.loads(file.read_text())["peaks"]] == [1, 2]


@pytest.mark.parametrize("name", WITHOUT_A_FILE)
def test_the_others_run(name):
    assert "cycnn" in run(name, *WITHOUT_A_FILE[name])


def test_memory_is_foretold(documents):
    step, prediction = documents["memory"]["rows"]
    assert (step["step"], prediction["step"]) == ("training", "prediction")
    for row in (step, prediction):
        assert row["foretold_mib"] > 0
        assert row["peak_mib"]["cycnn"] >= row["loaded_mib"]["cycnn"] > 0


# ---- pictures

HEAD = {
    "date": "2026-11-21",
    "machine": {"cpu": "a processor", "cpus": 2, "tuned_allocator": False},
    "peaks": [{"threads": n, "gflops": 100.0 * n, "read": 20.0, "copy": 15.0} for n in (1, 2)],
}
NETWORKS = [
    {"network": name, "batch": batch, "threads": n, "ratio": ratio * n, "fastest_peer": "openvino"}
    for name, ratio in {"slow": 0.5, "fast": 2.0, "even": 1.0}.items()
    for batch in (1, 16)
    for n in (1, 2)
]
LAYERS = [
    {
        "op": op,
        "shape": shape,
        "batch": batch,
        "flops": 2e9,
        "bytes": nbytes,
        "gflops": {"cycnn": speed, "eager": 40.0, "peak": 90.0},
    }
    for op in ("forward", "backward_data")
    for shape, nbytes, speed in [("3x3 64->64 @56", 1e7, 300.0), ("1x1 64->256 @56", 1e8, 20.0)]
    for batch in (1, 8)
]


def drawn(program: str, rows: list[dict], peaks=HEAD["peaks"][:1]) -> dict:
    pytest.importorskip("matplotlib")
    import plots

    figures = plots.draw(HEAD | {"command": [f"{program}.py"], "rows": rows, "peaks": peaks})
    for figure in figures.values():
        figure.draw_without_rendering()
    return figures


def test_bars_are_ratios_and_the_best_network_is_on_top():
    figure = drawn("networks", NETWORKS, HEAD["peaks"])[""]
    one, two = figure.axes
    assert [t.get_text() for t in one.get_yticklabels()] == ["slow", "even", "fast"]
    assert [t.get_text() for t in one.texts] == [
        "0.50  OpenVINO",
        "2.00  OpenVINO",
        "1.00  OpenVINO",
    ] * 2
    assert sorted(bar.get_width() for bar in two.patches) == [1, 1, 2, 2, 4, 4]
    assert two.get_title("left").endswith("geometric mean 2.00 at batch 1, 2.00 at batch 16")
    assert all(1 in line.get_xdata() for axes in figure.axes for line in axes.lines)
    assert any(
        "a processor, 2 CPUs, 1 thread, 2 threads, 2026" in t.get_text() for t in figure.texts
    )


def test_roofline_holds_a_point_for_each_layer():
    roofline = drawn("layers", LAYERS)["-roofline"]
    for axes in roofline.axes:
        lines = [line.get_xydata() for line in axes.lines]
        roof = next(line for line in lines if len(line) == 3)
        assert roof[1:, 1].tolist() == [100, 100]
        np.testing.assert_allclose(roof[:2, 1] / roof[:2, 0], 20)
        points = np.concatenate([line for line in lines if len(line) == 1])
        assert points.tolist() == [[200, 300], [200, 300], [20, 20], [20, 20]]
    assert "Winograd" in roofline.get_supxlabel()


def test_pictures_without_peers_or_peaks():
    rows = [row | {"gflops": {"cycnn": 1.0, "peak": 2.0}} for row in LAYERS]
    assert drawn("layers", rows).keys() == {"-roofline"}
    assert drawn("layers", rows, []) == {}
    assert drawn("training", [{"network": "lenet5", "batch": 2, "images_per_second": {}}]) == {}
    with pytest.raises(SystemExit, match=r"startup\.py is not drawn"):
        drawn("startup", [])


def test_files_become_pictures(files, tmp_path):
    pytest.importorskip("matplotlib")
    import plots

    drawn = [str(path) for name, path in files.items() if name in plots.CHARTS]
    said = run("plots", *drawn, "--folder", str(tmp_path))
    assert str(tmp_path / "layers-roofline.png") in said.splitlines()
    for line in said.splitlines():
        assert Path(line).read_bytes()[:4] == b"\x89PNG"
