"""The command ``cycnn``: what each verb prints, writes and refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

import cycnn
from cycnn.cli import main
from data_files import some_bytes, write

image = pytest.importorskip("PIL.Image")

NETWORK = """
import cycnn
from cycnn import layers

def small(input_shape, classes, seed=None):
    return cycnn.Sequential([
        layers.Input(input_shape),
        layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", seed=seed),
        layers.GlobalAveragePooling2D(),
        layers.Dense(classes, seed=seed),
    ])

def unseeded(input_shape, classes):
    return small(input_shape, classes)

def broken(input_shape, classes):
    return undefined

def wrong(input_shape, classes):
    return 3

CONSTANT = 1
"""


@pytest.fixture
def network(tmp_path):
    return write(tmp_path / "networks.py", NETWORK.encode())


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


def picture(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(np.full((6, 6), level, np.uint8)).save(path)
    return str(path)


def picture_folder(root, each=6):
    for c, name in enumerate(["dark", "light"]):
        for i in range(each):
            picture(root / name / f"{i}.png", 30 + 150 * c + i)
    return root


def refused(capsys, *arguments):
    """Exit code 2 and one sentence on stderr, which is returned."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as exit:
        code = exit.code
    assert code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


# demo


def test_demo_of_one_epoch(tmp_path, capsys):
    figures = tmp_path / "figures.json"
    out = tmp_path / "out"
    assert main(["demo", "--epochs", "1", "--output", str(out), "--json", str(figures)]) == 0
    text = capsys.readouterr().out
    assert "3,823 digits to train on, 1,797 to test" in text
    assert "conv2d_1" in text
    assert f"cycnn predict {out / 'digits.safetensors'} {out / 'digit.pgm'}" in text
    found = json.loads(figures.read_text())
    assert set(found) == {"test_accuracy", "session_accuracy", "seconds", "images_per_second"}
    assert found["session_accuracy"] == found["test_accuracy"] > 0.8
    assert f"Test accuracy {found['test_accuracy']:.2%}" in text
    assert found["seconds"] > 0
    assert found["images_per_second"] > 0
    assert (out / "digits.png").read_bytes()[:4] == b"\x89PNG"
    rows = [
        line.split() for line in text.splitlines() if line.endswith("%") and line[4:5].isdigit()
    ]
    counts = np.array([[0 if n == "." else int(n) for n in row[1:11]] for row in rows])
    assert counts.sum(1).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.trace(counts) / 1797 == found["test_accuracy"]


def test_demo_repeats_on_any_threads_and_goes_on_to_predict(tmp_path, capsys):
    figures = []
    for run, threads in (("a", "1"), ("b", "2")):
        path = tmp_path / f"{run}.json"
        arguments = ["--epochs", "1", "--seed", "3", "--threads", threads, "--json", str(path)]
        assert main(["demo", "--output", str(tmp_path / run), *arguments]) == 0
        figures.append(json.loads(path.read_text())["test_accuracy"])
    models = [(tmp_path / run / "digits.safetensors").read_bytes() for run in ("a", "b")]
    assert figures[0] == figures[1]
    assert models[0] == models[1]
    capsys.readouterr()
    digits = [str(tmp_path / "a" / name) for name in ("digits.safetensors", "digit.pgm")]
    assert main(["predict", *digits, "--top", "1"]) == 0
    assert ": 3 " in capsys.readouterr().out


def test_demo_without_matplotlib_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["demo", "--epochs", "1", "--output", str(tmp_path)]) == 0
    assert "No picture was drawn. Drawing needs matplotlib" in capsys.readouterr().out
    assert (tmp_path / "digits.safetensors").exists()


# train


def test_train_on_digits_and_describe_the_model(tmp_path, network, capsys):
    path = tmp_path / "model.safetensors"
    arguments = ["--model", f"{network}:small", "--epochs", "2", "--validation", "0.2"]
    assert main(["train", "--data", "digits", *arguments, "--output", str(path)]) == 0
    text = capsys.readouterr().out
    assert "3,823 images of (8, 8, 1), 10 classes" in text
    assert "val_accuracy" in text
    assert "test: loss" in text
    model = cycnn.load(path)
    assert model.class_names == list("0123456789")
    assert model.input_scaling == (1 / 255, 0.0)
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    assert "10 classes: 0, 1, 2" in text
    assert "pixels from 0 to 255" in text


@pytest.mark.parametrize("zipped", [False, True])
def test_train_on_pictures_and_predict_them(tmp_path, network, capsys, zipped):
    root = tmp_path / "pictures"
    picture_folder(root / "train")
    picture_folder(root / "test", 2)
    data = root
    if zipped:
        data = tmp_path / "pictures.zip"
        with zipfile.ZipFile(data, "w") as archive:
            for file in root.rglob("*.png"):
                archive.write(file, file.relative_to(root))
    path = str(tmp_path / "model.safetensors")
    arguments = ["--model", f"{network}:unseeded", "--channels", "1", "--output", path]
    assert main(["train", "--data", str(data), *arguments, "--epochs", "1"]) == 0
    text = capsys.readouterr().out
    assert "12 images of (6, 6, 1), 2 classes" in text
    assert "test: loss" in text
    assert "val_" not in text
    assert cycnn.load(path).class_names == ["dark", "light"]
    assert main(["predict", path, str(root / "test" / "dark" / "0.png")]) == 0
    assert "dark" in capsys.readouterr().out


def test_train_holds_back_a_mixed_tenth_where_there_is_no_test_set(tmp_path, network, capsys):
    picture_folder(tmp_path / "data", 10)
    path = str(tmp_path / "model.safetensors")
    arguments = ["--model", f"{network}:small", "--size", "5,4", "--output", path]
    assert main(["train", "--data", str(tmp_path / "data"), *arguments, "--epochs", "1"]) == 0
    text = capsys.readouterr().out
    assert "20 images of (5, 4, 3)" in text
    assert "val_accuracy" in text
    assert "test:" not in text


def test_train_on_idx_and_cifar_folders(tmp_path, network, capsys):
    header = b"\0\0\x08\x03\0\0\0\4\0\0\0\x06\0\0\0\x06"
    for name in ("train", "t10k"):
        write(tmp_path / "idx" / f"{name}-images-idx3-ubyte", header + some_bytes(144).tobytes())
        write(tmp_path / "idx" / f"{name}-labels-idx1-ubyte", b"\0\0\x08\1\0\0\0\4\0\1\2\1")
    for i in range(1, 6):
        write(tmp_path / "c10" / f"data_batch_{i}.bin", bytes([i]) + bytes(3072))
    write(tmp_path / "c10" / "test_batch.bin", bytes(3073))
    for name in ("train", "test"):
        write(tmp_path / "c100" / f"{name}.bin", bytes([1, 7]) + bytes(3072))
    expected = {"idx": "(6, 6, 1), 3", "c10": "(32, 32, 3), 10", "c100": "(32, 32, 3), 8"}
    for folder, said in expected.items():
        path = str(tmp_path / "model.safetensors")
        arguments = ["--data", str(tmp_path / folder), "--model", f"{network}:small"]
        assert main(["train", *arguments, "--epochs", "1", "--output", path]) == 0
        assert f"images of {said} classes" in capsys.readouterr().out


BAD_TRAINING = {
    "no such data": (["--data", "nowhere"], "No such file or directory: nowhere"),
    "a file": (["--data", "{network}"], "`--data` must be digits, a folder"),
    "an empty folder": (["--data", "{empty}"], "expected one folder of pictures"),
    "unknown network": (["--model", "lenet6"], "must be .*lenet5, .* or FILE.py:function"),
    "no such file": (["--model", "none.py:f"], "No such file or directory: none.py"),
    "no such function": (["--model", "{network}:large"], "has no function 'large'"),
    "no function": (["--model", "{network}:CONSTANT"], "has no function 'CONSTANT'"),
    "error in it": (["--model", "{network}:broken"], "broken raised NameError: name 'undefined'"),
    "another thing": (["--model", "{network}:wrong"], "must return a cycnn model. Received: int"),
    "does not fit": (["--model", "lenet5"], "does not fit into an input of"),
    "epochs": (["--epochs", "0"], "--epochs: expected an integer of at least 1, found '0'"),
    "share": (["--validation", "1"], "at least 0 and below 1, found '1'"),
    "size": (["--size", "1,2,3"], "expected HEIGHT,WIDTH, found '1,2,3'"),
    "seed": (["--seed", "-1"], "--seed: expected an integer of at least 0, found '-1'"),
    "rate": (["--lr", "fast"], "--lr: expected a number of at least 0, found 'fast'"),
    "no such option": (["--rate", "1"], "unrecognized arguments: --rate 1"),
    "output": (["--output", "nowhere/model"], "No such file or directory"),
}


@pytest.mark.parametrize("case", BAD_TRAINING)
def test_train_refuses_in_one_sentence(tmp_path, network, capsys, case):
    arguments, message = BAD_TRAINING[case]
    (tmp_path / "empty").mkdir()
    arguments = [a.format(network=network, empty=tmp_path / "empty") for a in arguments]
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    default = {"--data": "digits", "--model": f"{network}:small", "--epochs": "1"}
    words = [word for pair in (default | given).items() for word in pair]
    assert re.search(message, refused(capsys, "train", *words))


def test_train_refuses_a_folder_whose_splits_differ(tmp_path, network, capsys):
    picture_folder(tmp_path / "data" / "train")
    picture_folder(tmp_path / "data" / "val")
    picture(tmp_path / "data" / "val" / "odd" / "0.png", 9)
    arguments = ["--data", tmp_path / "data", "--model", f"{network}:small"]
    error = refused(capsys, "train", *arguments)
    assert "expected the same classes in train and val, found odd in one alone" in error


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
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
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
