"""What ``--data`` may name: the bundled digits, IDX files, CIFAR binaries, pictures in folders."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from .. import data
from ..data.idx import MNIST_NAME
from ..errors import ArgumentError, DataFileError

__all__ = ["DataSet", "load_dataset"]

Split = tuple[np.ndarray, np.ndarray]
TEST_FOLDERS = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class DataSet:
    """Images with values from 0 to 1 and labels, to train on and, where there are any, to test."""

    train: Split
    test: Split | None
    class_names: list[str]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(height, width, channels)`` of one image."""
        return self.train[0].shape[1:]

    def shuffled(self, seed: int) -> DataSet:
        """The same with the training samples in another order."""
        order = np.random.default_rng(seed).permutation(len(self.train[1]))
        x, y = self.train
        return DataSet((x[order], y[order]), self.test, self.class_names)


def load_dataset(source: str, *, size: tuple[int, int] | None = None, channels: int = 3) -> DataSet:
    """The data set that ``source`` names; ``size`` and ``channels`` are for pictures in folders.

    Raises `DataFileError`, `ArgumentError` or `OSError`.
    """
    if source == "digits":
        return _named(*data.load_digits())
    path = Path(source)
    if path.is_dir():
        names = {p.name for p in path.iterdir()}
        if any(MNIST_NAME.fullmatch(name) for name in names):
            return _named(*data.load_mnist(path))
        if any(name.startswith(("data_batch", "test_batch")) for name in names):
            return DataSet(*data.load_cifar10(path), list(data.CIFAR10_CLASSES))
        if {"train.bin", "test.bin"} <= names:
            return _named(*data.load_cifar100(path))
    elif path.exists() and not zipfile.is_zipfile(path):
        raise ArgumentError(
            "`--data` must be digits, a folder of IDX files, of CIFAR binaries or of one folder of "
            f"pictures for each class, or a .zip of such folders. Received: {source}."
        )
    return _pictures(path, size, channels)


def _named(train: Split, test: Split) -> DataSet:
    classes = int(max(train[1].max(initial=0), test[1].max(initial=0))) + 1
    return DataSet(train, test, [str(i) for i in range(classes)])


def _pictures(path: Path, size: tuple[int, int] | None, channels: int) -> DataSet:
    folders = _top_folders(path)
    if "train" not in folders:
        x, y, names = data.load_image_folder(path, size, channels=channels)
        return DataSet((x, y), None, names)
    x, y, names = data.load_image_folder(path, size, channels=channels, subset="train")
    held_back = next((f for f in TEST_FOLDERS if f in folders), None)
    if held_back is None:
        return DataSet((x, y), None, names)
    xt, yt, found = data.load_image_folder(
        path, size or x.shape[1:3], channels=channels, subset=held_back
    )
    if found != names:
        odd = ", ".join(sorted(set(found) ^ set(names))[:5])
        raise DataFileError(
            f"{path}: expected the same classes in train and {held_back}, found {odd} in one alone."
        )
    return DataSet((x, y), (xt, yt), names)


def _top_folders(path: Path) -> set[str]:
    if path.is_dir():
        return {p.name for p in path.iterdir() if p.is_dir()}
    with zipfile.ZipFile(path) as archive:
        names = [PurePosixPath(name) for name in archive.namelist()]
    return {name.parts[0] for name in names if len(name.parts) > 1}
