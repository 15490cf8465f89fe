"""CIFAR-10 and CIFAR-100 in their binary version.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. A file is a row of
records: one byte for the label (CIFAR-100: one for the coarse label, then one for the fine label),
1,024 bytes of red, 1,024 of green and 1,024 of blue, each row by row.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import ArgumentError, DataFileError

__all__ = ["CIFAR10_CLASSES", "load_cifar10", "load_cifar100", "read_cifar10", "read_cifar100"]

Split = tuple[np.ndarray, np.ndarray]

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
SIDE, COLOURS = 32, 3
PIXELS = COLOURS * SIDE * SIDE
CIFAR100_LABELS = {"coarse": 20, "fine": 100}
TRAIN10 = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
FILES10 = (*TRAIN10, "test_batch.bin")
FILES100 = ("train.bin", "test.bin")


def read_cifar10(path: str | os.PathLike) -> Split:
    """``x, y`` of one batch file: x float32 ``N x 32 x 32 x 3`` from 0 to 1, y int64, 0 to 9."""
    return _read_records(path, "CIFAR-10", (10,), 0)


def load_cifar10(folder: str | os.PathLike) -> tuple[Split, Split]:
    """``(x_train, y_train), (x_test, y_test)``: five batches to train on and one to test."""
    _check_files(folder, "CIFAR-10", FILES10)
    parts = [read_cifar10(Path(folder, name)) for name in FILES10]
    x, y = zip(*parts[:-1], strict=True)
    return (np.concatenate(x), np.concatenate(y)), parts[-1]


def read_cifar100(path: str | os.PathLike, labels: str = "fine") -> Split:
    """``x, y`` of one file of CIFAR-100; ``labels`` is "fine" (100 classes) or "coarse" (20)."""
    if labels not in CIFAR100_LABELS:
        raise ArgumentError(f'`labels` must be "fine" or "coarse". Received: labels={labels!r}.')
    return _read_records(path, "CIFAR-100", (20, 100), list(CIFAR100_LABELS).index(labels))


def load_cifar100(folder: str | os.PathLike, labels: str = "fine") -> tuple[Split, Split]:
    """``(x_train, y_train), (x_test, y_test)`` from train.bin and test.bin."""
    _check_files(folder, "CIFAR-100", FILES100)
    train, test = (read_cifar100(Path(folder, name), labels) for name in FILES100)
    return train, test


def _check_files(folder, name: str, files: tuple[str, ...]) -> None:
    present = {p.name for p in Path(folder).iterdir()}
    missing = [f for f in files if f not in present]
    if not missing:
        return
    pickled = present & {Path(f).stem for f in files}
    found = (
        f"{', '.join(sorted(pickled))}: the pickled version, which cannot be read safely"
        if pickled
        else ", ".join(sorted(present & set(files))) or "none of them"
    )
    raise DataFileError(
        f"{folder}: expected {', '.join(missing)} (the binary version of {name}), found {found}."
    )


def _read_records(path, name: str, classes: tuple[int, ...], which: int) -> Split:
    """The records of one file, whose labels count ``classes``; ``which`` of them is y."""
    size, record = os.path.getsize(path), len(classes) + PIXELS
    if size == 0 or size % record:
        raise DataFileError(
            f"{path}: expected a {name} batch of whole records of {record:,} bytes, found "
            f"{size:,} bytes, {size % record:,} more than {size // record:,} records."
        )
    records = np.fromfile(path, np.uint8).reshape(-1, record)
    for column, count in enumerate(classes):
        largest = int(records[:, column].max())
        if largest >= count:
            raise DataFileError(
                f"{path}: expected {name} labels from 0 to {count - 1} in byte {column} of every "
                f"record of {record:,} bytes, found {largest}."
            )
    planes = records[:, len(classes) :].reshape(-1, COLOURS, SIDE, SIDE)
    x = np.multiply(planes.transpose(0, 2, 3, 1), np.float32(1 / 255), dtype=np.float32, order="C")
    return x, records[:, which].astype(np.int64)
