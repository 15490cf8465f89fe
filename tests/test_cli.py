"""The command ``cycnn`` and its verbs but `demo` and `train`: what they print, write and refuse."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import cycnn
from commands import picture, refused, write_networks
from cycnn.cli import main
from data_files import write


@pytest.fixture
def network(tmp_path):
    return write_networks(tmp_path)


@pytest.fixture
def saved(tmp_path):
    """A model of three classes that tells grey pictures of 4x4 pixels by their brightness."""
    layers = cycnn.layers
    model = cycnn.Sequential(
        [layers.Input((4, 4, 1)), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    )
    model.set_weights([np.array([[0, 40, 80]], np.float32), np.array([0, -10, -40], np.float32)])
    model.class_names, model.input_scaling = ["dark", "grey", "bright"], (1 / 255, 0.0)
    path = tmp_path / "brightness.safetensors"
    model.save(path)
    return path


# predict


def test_predict_applies_the_scaling_and_names_of_the_file(tmp_path, saved, capsys):
    pictures = [picture(tmp_path / f"{level}.png", level) for level in (0, 120, 250)]
    assert main(["predict", str(saved), *pictures, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["image"] for row in rows] == pictures
    assert [row["classes"][0]["name"] for row in rows] == ["dark", "grey", "bright"]
    assert [c["index"] for c in rows[0]["classes"]] == [0, 1, 2]
    for row in rows:
        assert sum(c["probability"] for c in row["classes"]) == pytest.approx(1)
    logits = np.array([0, 40 * 120 / 255 - 10, 80 * 120 / 255 - 40])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert rows[1]["classes"][0]["probability"] == pytest.approx(expected[1], rel=1e-4)


def test_predict_numbers_the_classes_that_have_no_name(tmp_path, saved, capsys):
    model = cycnn.load(saved)
    model.class_names = ["dark"]
    model.save(saved)
    picture(tmp_path / "a.png", 250)
    assert main(["predict", str(saved), str(tmp_path / "a.png"), "--json"]) == 0
    best = json.loads(capsys.readouterr().out)[0]["classes"]
    assert {c["index"]: c["name"] for c in best} == {0: "dark", 1: "1", 2: "2"}


def test_predict_top_and_invert(tmp_path, saved, capsys):
    white = picture(tmp_path / "white.png", 255)
    assert main(["predict", str(saved), white, "--top", "1", "--threads", "1"]) == 0
    assert capsys.readouterr().out == f"{white}: bright 100.0%\n"
    assert main(["predict", str(saved), white, "--top", "1", "--invert"]) == 0
    assert capsys.readouterr().out.startswith(f"{white}: dark 100.0%")


def test_predict_with_softmax_any_size_and_no_names(tmp_path, capsys):
    layers = cycnn.layers
    model = cycnn.Sequential(
        [
            layers.Input((None, None, 3)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.set_weights([np.array([[0, 1]] * 3, np.float32), np.zeros(2, np.float32)])
    model.save(tmp_path / "m.safetensors")
    path = picture(tmp_path / "white.png", 255)
    assert main(["predict", str(tmp_path / "m.safetensors"), path, "--json"]) == 0
    best = json.loads(capsys.readouterr().out)[0]["classes"][0]
    assert best["name"] == "1"
    assert best["probability"] == pytest.approx(1 / (1 + np.exp(-3)), rel=1e-5)


def test_predict_refuses_in_one_sentence(tmp_path, saved, capsys):
    good = picture(tmp_path / "a.png", 9)
    text = write(tmp_path / "text.png", b"no picture")
    assert "No model file at" in refused(capsys, "predict", tmp_path / "none", good)
    assert "is not a cycnn model" in refused(capsys, "predict", good, good)
    assert "expected a whole picture" in refused(capsys, "predict", saved, text)
    assert "No such file or directory" in refused(capsys, "predict", saved, tmp_path / "b.png")
    assert "required: IMAGE" in refused(capsys, "predict", saved)
    layers = cycnn.layers
    cycnn.Sequential([layers.Input((4,)), layers.Dense(3)]).save(tmp_path / "vector")
    error = refused(capsys, "predict", tmp_path / "vector", good)
    assert "must take pictures (H, W, C)" in error
    cycnn.Sequential([layers.Input((4, 4, 1)), layers.ReLU()]).save(tmp_path / "map")
    assert "one score for each class" in refused(capsys, "predict", tmp_path / "map", good)


# info and bench


def test_info_says_what_is_installed(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert cycnn.__version__ in text
    assert "threads" in text


@pytest.mark.parametrize("mode", [[], ["--train"]])
def test_bench_of_a_network(tmp_path, network, capsys, mode):
    path = tmp_path / "figures.json"
    arguments = ["--model", f"{network}:small", "--input", "8x8x1", "--batch", "3"]
    repeats = ["--repeats", "2", "--threads", "1,2", "--json", str(path)]
    assert main(["bench", *arguments, *repeats, *mode]) == 0
    assert "images/s" in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert found["input"] == [3, 8, 8, 1]
    assert found["mode"] == ("training" if mode else "prediction")
    assert [row["threads"] for row in found["results"]] == [1, 2]
    for row in found["results"]:
        assert 0 < row["best_ms"] <= row["median_ms"]
        assert row["images_per_second"] == pytest.approx(3000 / row["median_ms"])
        assert (row["gflops"] is None) == bool(mode)


def test_bench_of_a_layer_and_of_a_saved_model(saved, capsys):
    layer = "Conv2D(5, 3, padding='same', activation='relu')"
    few = ["--repeats", "1", "--threads", "1", "--json", "-"]
    assert main(["bench", "--layer", layer, "--input", "6,7,3", *few]) == 0
    found = json.loads(capsys.readouterr().out)
    row = found["results"][0]
    assert row["gflops"] * row["median_ms"] * 1e6 == pytest.approx(2 * 6 * 7 * 9 * 3 * 5)
    assert main(["bench", "--model", str(saved), *few]) == 0
    assert json.loads(capsys.readouterr().out)["input"] == [1, 4, 4, 1]


def test_bench_profiles(capsys):
    arguments = ["--layer", "ReLU", "--repeats", "1", "--threads", "1", "--profile"]
    assert main(["bench", *arguments]) == 0
    assert "GB/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "open('x')"], "`--layer` must be a layer with literal arguments"),
        (["--layer", "Conv2D(__import__('os'), 3)"], "`--layer` must be a layer with literal"),
        (["--layer", "Conv2D("], "`--layer` must be a layer with literal arguments"),
        (["--layer", "Conv2D()"], "`--layer` must be a layer with literal arguments"),
        (["--layer", "Conv2D(0, 3)"], "`filters` must be an integer"),
        (["--layer", "ReLU", "--model", "lenet5"], "not allowed with argument"),
        (["--input", "28,28"], "expected HEIGHT,WIDTH,CHANNELS, found '28,28'"),
        (["--threads", "1,x"], "expected an integer of at least 1, found 'x'"),
    ],
)
def test_bench_refuses_in_one_sentence(capsys, arguments, message):
    assert message in refused(capsys, "bench", *arguments)


# the command itself


def run_command(*arguments, **options):
    command = [sys.executable, "-m", "cycnn", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_python_m_cycnn():
    done = run_command("--version")
    assert done.returncode == 0
    assert done.stdout == f"cycnn {cycnn.__version__}\n"
    for verb in ("demo", "train", "predict", "info", "bench"):
        assert verb in run_command("--help").stdout


def test_no_verb_or_a_wrong_one(capsys):
    assert "VERB" in refused(capsys)
    assert "invalid choice: 'dance'" in refused(capsys, "dance")


def test_a_closed_pipe_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "cycnn", "info"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""


def test_ctrl_c_saves_and_exits_with_130(tmp_path, network):
    path = tmp_path / "model.safetensors"
    arguments = ["train", "--data", "digits", "--model", f"{network}:small", "--epochs", "100000"]
    command = [sys.executable, "-u", "-m", "cycnn", *arguments, "--output", str(path)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
        # a shell's job in the background ignores Ctrl-C, and so would what it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        for line in process.stdout:
            if line.startswith("epoch"):
                break
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert f"the weights so far are in {path}" in out
    assert cycnn.load(path).class_names == list("0123456789")
