"""Data sets as NumPy arrays: the bundled digits, readers of files, and mini-batches.

    digits.py     the 8x8 optical digits that are bundled with the package
    idx.py        MNIST-style IDX files, gzipped or not
    cifar.py      the binary version of CIFAR-10 and CIFAR-100
    images.py     pictures, with one folder for each class, also inside a .zip
    batching.py   mini-batches, shuffled from a seed

Images are float32 ``N x H x W x C`` with values from 0 to 1, labels int64 from 0. Nothing is
unpickled, and a file that is not what it should be raises `DataFileError`, which says what was
expected and what was found.
"""

from .batching import batches
from .cifar import CIFAR10_CLASSES, load_cifar10, load_cifar100, read_cifar10, read_cifar100
from .digits import load_digits
from .idx import load_mnist, read_idx
from .images import load_image_folder, read_image

__all__ = [
    "CIFAR10_CLASSES",
    "batches",
    "load_cifar10",
    "load_cifar100",
    "load_digits",
    "load_image_folder",
    "load_mnist",
    "read_cifar10",
    "read_cifar100",
    "read_idx",
    "read_image",
]
