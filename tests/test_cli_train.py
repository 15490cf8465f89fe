"""``cycnn demo`` and ``cycnn train``: what they print, write and refuse."""

import json
import re
import sys
import zipfile

import numpy as np
import pytest

import cycnn
from commands import picture, refused, write_networks
from cycnn.cli import main
from data_files import some_bytes, write


@pytest.fixture
def network(tmp_path):
    return write_networks(tmp_path)


def picture_folder(root, each=6):
    for c, name in enumerate(["dark", "light"]):
        for i in range(each):
            picture(root / name / f"{i}.png", 30 + 150 * c + i)
    return root


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
