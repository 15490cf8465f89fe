"""The programs of benchmarks/ run on the smallest there is, and write what can be read again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALLEST = {
    "layers": ["--only", "512->512", "--batches", "1", "--rounds", "1"],
    "memory": ["--networks", "lenet5", "--batch", "2", "--batches", "1", "--rounds", "1"],
    "training": ["--no-learning", "--networks", "lenet5", "--batch", "2", "--rounds", "1"],
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


def test_memory_is_foretold(documents):
    step, prediction = documents["memory"]["rows"]
    assert (step["step"], prediction["step"]) == ("training", "prediction")
    for row in (step, prediction):
        assert row["foretold_mib"] > 0
        assert row["peak_mib"]["cycnn"] >= row["loaded_mib"]["cycnn"] > 0
