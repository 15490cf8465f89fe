"""Model files: what comes back, and what happens to files that are not models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

import cycnn
import networks
from cycnn import layers, saving
from cycnn.errors import ArgumentError, ModelFileError

MAKERS = [
    networks.small,
    networks.residual,
    networks.classifier,
    cycnn.zoo.lenet5,
    cycnn.zoo.resnet20,
    cycnn.zoo.efficientnet_b0,
]


@pytest.mark.parametrize("make", MAKERS)
def test_a_model_comes_back(make, tmp_path):
    model = make(seed=3)
    model.class_names = [f"class {i}" for i in range(4)]
    model.input_scaling = (1 / 255, -0.5)
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = cycnn.load(path)
    assert type(again) is type(model)
    assert again.class_names == model.class_names
    assert again.input_scaling == model.input_scaling
    assert json.dumps(saving.architecture(again)) == json.dumps(saving.architecture(model))
    x = np.ones((2, *(d or 5 for d in model.inputs[0].shape[1:])), np.float32)
    for a, b in zip(flat(model.predict(x)), flat(again.predict(x)), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(flat(cycnn.Session(path).run(x)), flat(model.predict(x)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert os.listdir(tmp_path) == ["model.safetensors"]


def flat(y):
    return y if isinstance(y, list) else [y]


def test_every_layer_is_saved_with_its_options(tmp_path):
    x = layers.Input((12, 11, 4), name="picture")
    y = layers.Conv2D(
        6,
        (3, 2),
        strides=(2, 1),
        padding=((1, 0), (0, 2)),
        dilation_rate=(1, 2),
        groups=2,
        activation="relu",
        use_bias=False,
        kernel_initializer="he_normal",
        algorithm="direct",
        name="first",
    )(x)
    y = layers.AveragePooling2D(
        (2, 3), strides=(1, 2), padding=((1, 0), (1, 1)), count_include_pad=True
    )(y)
    y = layers.MaxPooling2D(2, padding="same")(y)
    y = layers.BatchNormalization(
        momentum=0.9,
        epsilon=1e-5,
        center=False,
        gamma_initializer="zeros",
        moving_mean_initializer="ones",
        moving_variance_initializer="he_normal",
    )(y)
    y = layers.BatchNormalization(scale=False, beta_initializer="ones")(y)
    y = layers.Dropout(0.25)(layers.Activation("relu")(y))
    y = layers.Dense(3, activation="softmax", bias_initializer="ones")(layers.Flatten()(y))
    model = cycnn.Model(x, y)
    path = tmp_path / "m"
    model.save(path)
    again = cycnn.load(path)
    for layer, other in zip(model.layers, again.layers, strict=True):
        assert layer.config() == other.config()
        assert layer.name == other.name
    assert again.inputs[0].name == "picture"


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    networks.small(0).save(path)
    before = path.read_bytes()

    def no_room(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", no_room)
    with pytest.raises(OSError, match="no space"):
        networks.small(1).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_a_layer_of_the_users_own_is_not_saved(tmp_path):
    class Mine(layers.Layer):
        def call(self, graph, x, *, training):
            return x

    x = layers.Input((3,))
    with pytest.raises(ArgumentError, match="Mine"):
        cycnn.Model(x, Mine()(x)).save(tmp_path / "m")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("class_names", "abcd", "`class_names` must be a list of names. Received: 'abcd'"),
        ("class_names", 4, "`class_names`.*4"),
        ("input_scaling", (1,), r"`input_scaling` must be two numbers.*\(1,\)"),
        ("input_scaling", "ab", "`input_scaling`.*'ab'"),
        ("input_scaling", (1, float("nan")), "`input_scaling`.*nan"),
        ("input_scaling", 0.5, "`input_scaling`.*0.5"),
    ],
)
def test_names_and_scaling_that_do_not_fit_are_not_saved(name, value, text, tmp_path):
    model = networks.small()
    setattr(model, name, value)
    with pytest.raises(ArgumentError, match=text):
        model.save(tmp_path / "m")
    assert not os.listdir(tmp_path)


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(FileNotFoundError, match="No model file"):
        cycnn.load(tmp_path / "absent")
    path = tmp_path / "bad"
    for content in (b"", b"\x00" * 100, b"PK\x03\x04 a zip", os.urandom(200)):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="not a cycnn model"):
            cycnn.load(path)
    path.write_bytes(to_bytes({"a": np.zeros(3, np.float32)}))
    with pytest.raises(ModelFileError, match="not a cycnn model"):
        cycnn.load(path)


def rewrite(path, change, tensors=lambda t: t):
    with safe_open(path, framework="numpy") as file:
        described = json.loads(file.metadata()["cycnn"])
        arrays = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    described = change(described) or described
    path.write_bytes(to_bytes(tensors(arrays), {"cycnn": json.dumps(described)}))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format=99),
        lambda d: d["layers"][0].update({"class": "os.system"}),
        lambda d: d["layers"][0]["config"].update(filters=-3),
        lambda d: d["layers"][0]["config"].update(filters=2**31 - 1),
        lambda d: d["layers"][0]["config"].update(kernel_size="rm -rf"),
        lambda d: d["layers"][0]["config"].update(surprise=1),
        lambda d: d["layers"][0].pop("config"),
        lambda d: d["tensors"][1].update(of=[7]),
        lambda d: d["tensors"][1].update(of=[-1]),
        lambda d: d["tensors"][1].update(layer=99),
        lambda d: d["tensors"][0].update(input=[8, 8, None]),
        lambda d: d.update(outputs=[]),
        lambda d: d.update(outputs="x"),
        lambda d: d.pop("inputs"),
        lambda d: d.update(layers=5),
        lambda d: d.update(class_names=5),
        lambda d: d.update(class_names="abcd"),
        lambda d: d.update(input_scaling=[1]),
        lambda d: d.update(input_scaling=[float("inf"), 0]),
        lambda d: [d],
    ],
)
def test_architectures_that_are_wrong(change, tmp_path):
    path = tmp_path / "model"
    networks.small().save(path)
    rewrite(path, change)
    with pytest.raises(ModelFileError):
        cycnn.load(path)


@pytest.mark.parametrize(
    "tensors",
    [
        lambda t: {k: v for k, v in t.items() if "conv" not in k},
        lambda t: {**t, "more": np.zeros(3, np.float32)},
        lambda t: {k: v[..., :-1].copy() for k, v in t.items()},
        lambda t: {k: v.astype(np.float64) for k, v in t.items()},
    ],
)
def test_weights_that_do_not_belong(tensors, tmp_path):
    path = tmp_path / "model"
    networks.small().save(path)
    rewrite(path, lambda d: None, tensors)
    with pytest.raises(ModelFileError):
        cycnn.load(path)


def test_damaged_files_raise_and_nothing_else(tmp_path):
    path = tmp_path / "model"
    networks.small().save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 3000), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        data = data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data
        path.write_bytes(data)
        try:
            model = cycnn.load(path)
        except ModelFileError:
            continue
        assert isinstance(model, cycnn.Model)


def test_a_file_keeps_its_permissions_and_a_link_stays_one(tmp_path):
    path, link = tmp_path / "model", tmp_path / "link"
    networks.small().save(path)
    path.chmod(0o600)
    link.symlink_to(path)
    networks.small(1).save(link)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    np.testing.assert_array_equal(
        cycnn.load(path).get_weights()[0], networks.small(1).get_weights()[0]
    )


def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe, path = tmp_path / "pipe", tmp_path / "model"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: path.write_bytes(pipe.read_bytes()), daemon=True)
    reader.start()
    networks.small().save(pipe)
    reader.join(60)
    assert not reader.is_alive()
    assert pipe.is_fifo()
    assert isinstance(cycnn.load(path), cycnn.Model)


def test_so_is_a_pipe_of_the_shell(tmp_path):
    path = tmp_path / "model"
    program = "import cycnn; cycnn.zoo.lenet5().save('/dev/stdout')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    path.write_bytes(done.stdout)
    assert done.returncode == 0
    assert isinstance(cycnn.load(path), cycnn.Model)


def test_a_layer_with_the_name_of_another_is_not_taken_for_it(tmp_path):
    class Dense(layers.Dense):
        pass

    x = layers.Input((3,))
    with pytest.raises(ArgumentError, match="not a layer of cycnn"):
        cycnn.Model(x, Dense(2)(x)).save(tmp_path / "m")
