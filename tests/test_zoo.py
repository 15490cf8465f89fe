"""The networks of the zoo: their sizes, their seeds, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from cycnn import zoo
from cycnn.errors import ShapeError

# what training changes, as published with torchvision's (LeNet-5: section II-B; ResNet-20: option B)
TRAINED = {
    "densenet121": 7_978_856,
    "efficientnet_b0": 5_288_548,
    "lenet5": 61_706,
    "mobilenet_v2": 3_504_872,
    "resnet18": 11_689_512,
    "resnet20": 272_474,
    "resnet50": 25_557_032,
    "squeezenet1_1": 1_235_496,
    "vgg11": 132_863_336,
    "vgg16": 138_357_544,
}


def test_all_are_tested():
    assert list(TRAINED) == zoo.__all__


@pytest.mark.parametrize("name", TRAINED)
def test_weights_and_outputs(name):
    model = getattr(zoo, name)()
    assert sum(p.size for p in model.parameters if p.trainable) == TRAINED[name]
    classes = 10 if name in ("lenet5", "resnet20") else 1000
    assert model.outputs[0].shape == (None, classes)


@pytest.mark.parametrize("name", [name for name in TRAINED if not name.startswith("vgg")])
def test_other_images_and_classes(name):
    model = getattr(zoo, name)((40, 48, 5), 7)
    assert model.predict(np.zeros((2, 40, 48, 5), np.float32)).shape == (2, 7)


@pytest.mark.parametrize("name", [n for n in TRAINED if n not in ("lenet5", "squeezenet1_1")])
def test_images_of_any_size(name):
    if name.startswith("vgg"):
        with pytest.raises(ShapeError, match="224 to 255 pixels"):
            getattr(zoo, name)((None, None, 3))
    else:
        model = getattr(zoo, name)((None, None, 3), 4)
        for size in (32, 45):
            assert model.predict(np.ones((1, size, size, 3), np.float32)).shape == (1, 4)


@pytest.mark.parametrize("size", [(223, 224), (224, 256)])
def test_vgg_takes_images_for_a_map_of_7x7(size):
    with pytest.raises(ShapeError, match=r"`input_shape` must be of 224 to 255 .*\(22"):
        zoo.vgg11((*size, 3))


def test_squeezenet_takes_known_sizes():
    with pytest.raises(ShapeError, match=r"`input_shape` must have a known .*\(None, 64, 3\)"):
        zoo.squeezenet1_1((None, 64, 3))


@pytest.mark.parametrize("name", ["lenet5", "mobilenet_v2", "squeezenet1_1"])
def test_a_seed_fixes_the_weights(name):
    def kernels(seed):
        model = getattr(zoo, name)(seed=seed)
        return [p.value for p in model.parameters if p.name == "kernel"]

    for a, b, c, d in zip(kernels(3), kernels(3), kernels(4), kernels(None), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
        assert not np.array_equal(a, d)
    flat = [k.ravel()[:20].tobytes() for k in kernels(3)]
    assert len(set(flat)) == len(flat)
