"""IDX files, the format of MNIST and its relatives: Y. LeCun, "The MNIST database", file formats.

0x00 0x00 <element type> <rank>     the magic number
<dim> ...                           one big-endian unsigned 32-bit integer for each axis
<element> ...                       big-endian, the last axis changing fastest
"""

from __future__ import annotations

import math
import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import DataFileError

__all__ = ["MNIST_NAME", "load_mnist", "read_idx"]

Split = tuple[np.ndarray, np.ndarray]

ELEMENT_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_RANK = 32  # what every NumPy has
GZIP_MAGIC = b"\x1f\x8b"
DEFLATE_LIMIT = 1032  # no byte of a deflate stream can stand for more
MNIST_NAME = re.compile(r"(.*-)?(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """The array in one IDX file, which may be gzipped, in this machine's byte order.

    Raises `DataFileError` if the file is not IDX, or its header and its length do not agree.
    """
    import gzip  # here, as it takes a good part of the time of `import cycnn`
    import zlib

    with open(path, "rb") as file:
        stored = os.fstat(file.fileno()).st_size
        zipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        if not zipped:
            if Path(path).suffix == ".gz":
                raise DataFileError(
                    f"{path}: expected a gzip file, as its name says, found one that starts with "
                    f"{file.read(2)!r}."
                )
            return _read_array(file, path, stored, exact=True)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _read_array(stream, path, stored * DEFLATE_LIMIT, exact=False)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataFileError(f"{path}: expected a whole gzip file, found: {error}.") from error


def _read_array(stream: BinaryIO, path, length: int, *, exact: bool) -> np.ndarray:
    """Read header and elements; ``length`` is the stream's, or unless ``exact`` a bound of it.

    The lengths are compared before anything is allocated, so that a wrong header costs nothing.
    """
    dtype, shape = _read_header(stream, path)
    header = 4 + 4 * len(shape)
    size = math.prod(shape) * dtype.itemsize
    claim = (
        f"{path}: the header says {' x '.join(map(str, shape))} elements of {dtype.itemsize} byte"
    )
    if math.prod(max(d, 1) for d in shape) * dtype.itemsize >= 2**63:
        raise DataFileError(f"{claim}, more than any memory holds.")
    if header + size > length or (exact and header + size < length):
        raise DataFileError(
            f"{claim}: expected {header + size:,} bytes in all, found "
            f"{'' if exact else 'at most '}{length:,}."
        )
    array = _allocate(shape, dtype, claim)
    content = memoryview(array.reshape(-1)).cast("B") if size else memoryview(b"")
    done = 0
    while done < size and (count := stream.readinto(content[done : done + 2**24])):
        done += count
    extra = stream.read(1)
    if done < size or extra:
        found = f"only {done:,}" if done < size else "more"
        raise DataFileError(f"{claim}: expected {size:,} bytes after the header, found {found}.")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_header(stream: BinaryIO, path) -> tuple[np.dtype, tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataFileError(
            f"{path}: expected an IDX file, whose first 4 bytes are 0, 0, the element type and the "
            f"rank, found {list(magic) or 'an empty file'}."
        )
    code, rank = magic[2], magic[3]
    if code not in ELEMENT_TYPES:
        known = ", ".join(f"0x{c:02x}" for c in ELEMENT_TYPES)
        raise DataFileError(f"{path}: expected an IDX element type ({known}), found 0x{code:02x}.")
    if not 1 <= rank <= MAX_RANK:
        raise DataFileError(f"{path}: expected an IDX rank from 1 to {MAX_RANK}, found {rank}.")
    dims = stream.read(4 * rank)
    if len(dims) < 4 * rank:
        raise DataFileError(
            f"{path}: expected {rank} dimensions of 4 bytes each, found {len(dims)} bytes."
        )
    return np.dtype(ELEMENT_TYPES[code]), struct.unpack(f">{rank}I", dims)


def _allocate(shape: tuple[int, ...], dtype: np.dtype, claim: str) -> np.ndarray:
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:
        raise DataFileError(f"{claim}, more than this machine's memory holds.") from error


def load_mnist(folder: str | os.PathLike) -> tuple[Split, Split]:
    """``(x_train, y_train), (x_test, y_test)`` from the four IDX files of MNIST in ``folder``.

    ``x`` is float32 ``N x H x W x 1`` from 0 to 1, ``y`` int64. The files may be gzipped; those of
    Fashion-MNIST, KMNIST and (one split in a folder) EMNIST have the same names and work alike.
    """
    files = _find_mnist(Path(folder))
    train, test = (_read_split(files[s, "images"], files[s, "labels"]) for s in ("train", "test"))
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataFileError(
            f"{folder}: expected training and test images of one size, found "
            f"{train[0].shape[1:3]} and {test[0].shape[1:3]}."
        )
    return train, test


def _find_mnist(folder: Path) -> dict[tuple[str, str], Path]:
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):  # a file comes before the same name with .gz
        match = MNIST_NAME.fullmatch(path.name)
        if match is None:
            continue
        key = ("train" if match[2] == "train" else "test", match[3])
        first = found.setdefault(key, path)
        if path.name not in (first.name, first.name + ".gz"):
            raise DataFileError(
                f"{folder}: expected one file of {key[0]} {key[1]}, found {first.name} and "
                f"{path.name}."
            )
    missing = [
        f"{prefix}-{kind}-idx{rank}-ubyte"
        for split, prefix in (("train", "train"), ("test", "t10k"))
        for kind, rank in (("images", 3), ("labels", 1))
        if (split, kind) not in found
    ]
    if missing:
        names = ", ".join(p.name for p in found.values()) or "no IDX file"
        raise DataFileError(f"{folder}: expected {', '.join(missing)} (or .gz), found {names}.")
    return found


def _read_split(images: Path, labels: Path) -> Split:
    x, y = read_idx(images), read_idx(labels)
    for path, array, rank in ((images, x, 3), (labels, y, 1)):
        if array.ndim != rank or array.dtype != np.uint8:
            raise DataFileError(
                f"{path}: expected unsigned bytes of rank {rank}, found {array.dtype} of rank "
                f"{array.ndim}."
            )
    if len(x) != len(y):
        raise DataFileError(
            f"{labels}: expected one label for each of the {len(x):,} images in {images.name}, "
            f"found {len(y):,}."
        )
    return np.multiply(x[..., None], np.float32(1 / 255), dtype=np.float32), y.astype(np.int64)
