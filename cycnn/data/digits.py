"""The optical digits bundled with the package: 8x8 images, 3,823 to train on and 1,797 to test.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998, CC BY 4.0 (see optdigits.md). The writers of the test images did not write the
training images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .idx import read_idx

__all__ = ["load_digits"]

Split = tuple[np.ndarray, np.ndarray]

INK = 16  # a pixel counts the dark ones of a 4x4 block of the scanned bitmap


def load_digits() -> tuple[Split, Split]:
    """``(x_train, y_train), (x_test, y_test)``: x float32 ``N x 8 x 8 x 1``, 0 to 1, y int64."""
    return _read_split("train"), _read_split("test")


def _read_split(split: str) -> Split:
    prefix = f"optdigits-{split}"
    x = read_idx(Path(__file__).with_name(f"{prefix}-images-idx3-ubyte.gz"))
    y = read_idx(Path(__file__).with_name(f"{prefix}-labels-idx1-ubyte.gz"))
    return x[..., None].astype(np.float32) / INK, y.astype(np.int64)
