"""Pictures: one file, or a folder (or .zip) with one folder of pictures for each class.

Decoding needs Pillow, from the extra ``images``; only the formats listed here are tried.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError, DataFileError, MissingExtra
from ..geometry import to_axes

if TYPE_CHECKING:
    import zipfile

__all__ = ["load_image_folder", "read_image"]

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
SUFFIXES = {
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff"),
}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
MAX_FILE = 2**28  # bytes of one picture
MAX_PIXELS = 2**26

Member = tuple[str, Callable[[], bytes]]  # the name for messages, and what reads the bytes


def read_image(
    path: str | os.PathLike, size: int | tuple[int, int] | None = None, *, channels: int = 3
) -> np.ndarray:
    """One picture as float32 ``H x W x channels`` from 0 to 1.

    ``size=(height, width)`` resizes it: bilinear, averaging where it shrinks, aspect not kept.
    ``channels`` is 1 for grey, 3 for RGB, 4 for RGBA. A camera's rotation tag is obeyed, 16 bits
    become 8. Raises `DataFileError` for what is not a whole picture.
    """
    size = _check_arguments(size, channels)
    pixels = _decode(_pillow(), str(path), _read_file(Path(path)), size, channels)
    return np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)


def load_image_folder(
    path: str | os.PathLike,
    size: int | tuple[int, int] | None = None,
    *,
    channels: int = 3,
    subset: str | None = None,
    limit: int | None = None,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """``x, y, class_names`` of a folder, or .zip file, with one folder of pictures for each class.

    Classes are numbered by their sorted names, pictures follow by class and name; files that are no
    pictures by their suffix are passed over. x is float32 ``N x H x W x channels`` from 0 to 1,
    y int64.

    Args:
        size: (height, width) to resize to; without it all pictures must have one size.
        channels: 1 grey, 3 RGB, 4 RGBA.
        subset: the folder inside ``path`` that holds the classes' folders, such as "train".
        limit: at most so many pictures of each class, the first by name.
    """
    import zipfile  # here, as it takes a good part of the time of `import cycnn`

    size = _check_arguments(size, channels)
    if limit is not None and (not hasattr(limit, "__index__") or limit < 1):
        raise ArgumentError(
            f"`limit` must be None or an integer of at least 1. Received: limit={limit!r}."
        )
    pillow, path = _pillow(), Path(path)
    if path.is_dir():
        return _load(pillow, path, _scan_folder(path, subset), size, channels, limit)
    try:
        with zipfile.ZipFile(path) as archive:
            members = _scan_zip(archive, path, subset)
            return _load(pillow, path, members, size, channels, limit)
    except zipfile.BadZipFile as error:
        raise DataFileError(f"{path}: expected a folder or a .zip file, found: {error}") from error


def _check_arguments(size, channels) -> tuple[int, int] | None:
    if channels not in MODES:
        raise ArgumentError(f"`channels` must be 1, 3 or 4. Received: channels={channels!r}.")
    return None if size is None else to_axes(size, "size")


def _pillow() -> ModuleType:
    try:
        from PIL import Image, ImageOps  # noqa: F401  (importing ImageOps makes it PIL.ImageOps)
    except ImportError as error:
        raise MissingExtra(
            "Reading pictures needs Pillow: pip install 'cycnn[images]' or pip install pillow."
        ) from error
    import PIL

    return PIL


def _read_file(path: Path) -> bytes:
    with open(path, "rb") as file:
        _check_size(str(path), os.fstat(file.fileno()).st_size)
        return file.read(MAX_FILE)


def _check_size(name: str, size: int) -> None:
    if not 0 < size <= MAX_FILE:
        raise DataFileError(
            f"{name}: expected a picture of 1 to {MAX_FILE:,} bytes, found {size:,} bytes."
        )


def _scan_folder(path: Path, subset: str | None) -> dict[str, list[Member]]:
    root = path / (subset or "")
    classes: dict[str, list[Member]] = {}
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        files = sorted(f for f in folder.iterdir() if _is_picture(f) and f.is_file())
        classes[folder.name] = [(str(f), lambda f=f: _read_file(f)) for f in files]
    return _check_classes(root, classes)


def _scan_zip(archive: zipfile.ZipFile, path: Path, subset: str | None) -> dict[str, list[Member]]:
    root = PurePosixPath(subset or "")
    classes: dict[str, list[Member]] = {}
    for info in sorted(archive.infolist(), key=lambda i: PurePosixPath(i.filename).parts):
        name = PurePosixPath(info.filename)
        if not name.is_relative_to(root):
            continue
        below = name.relative_to(root).parts
        if len(below) > 1 or (below and info.is_dir()):
            members = classes.setdefault(below[0], [])
            if len(below) == 2 and not info.is_dir() and _is_picture(name):
                members.append((f"{path}/{name}", lambda i=info: _read_member(archive, path, i)))
    return _check_classes(path / root, classes)


def _read_member(archive: zipfile.ZipFile, path: Path, info: zipfile.ZipInfo) -> bytes:
    name = f"{path}/{info.filename}"
    _check_size(name, info.file_size)
    try:
        return archive.read(info)
    except Exception as error:  # zipfile leaks whatever zlib, bz2, lzma and struct raise
        raise DataFileError(f"{name}: expected a whole file in the .zip, found: {error}") from error


def _is_picture(name: Path | PurePosixPath) -> bool:
    return name.suffix.lower() in SUFFIXES and not name.name.startswith(".")


def _check_classes(root: Path, classes: dict[str, list[Member]]) -> dict[str, list[Member]]:
    classes = {n: m for n, m in classes.items() if not n.startswith((".", "__MACOSX"))}
    if not classes:
        raise DataFileError(
            f"{root}: expected one folder of pictures for each class, found no folder."
        )
    empty = [name for name, members in classes.items() if not members]
    if empty:
        advice = (
            "" if len(empty) < len(classes) else f' (if they hold the classes: subset="{empty[0]}")'
        )
        raise DataFileError(
            f"{root}: expected pictures in every folder, found none in {', '.join(empty[:5])}"
            f"{advice}."
        )
    return classes


def _load(pillow, path, classes, size, channels, limit) -> tuple[np.ndarray, np.ndarray, list[str]]:
    members = [m for pictures in classes.values() for m in pictures[:limit]]
    counts = [len(pictures[:limit]) for pictures in classes.values()]
    x = None
    for i, (name, read) in enumerate(members):
        pixels = _decode(pillow, name, read(), size, channels)
        if x is None:
            x = _allocate(path, (len(members), *pixels.shape))
        if pixels.shape != x.shape[1:]:
            raise DataFileError(
                f"{name}: expected a picture of {x.shape[2]}x{x.shape[1]} pixels like the first, "
                f"found {pixels.shape[1]}x{pixels.shape[0]} (size=(height, width) makes all alike)."
            )
        np.multiply(pixels, np.float32(1 / 255), out=x[i])
    return x, np.repeat(np.arange(len(counts)), counts), list(classes)


def _allocate(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.empty(shape, np.float32)
    except (MemoryError, ValueError) as error:
        raise DataFileError(
            f"{path}: expected pictures that fit into memory, found {shape[0]:,} of "
            f"{shape[2]}x{shape[1]} pixels (size=(height, width) resizes them, limit= takes fewer)."
        ) from error


def _decode(pillow, name: str, content: bytes, size, channels: int) -> np.ndarray:
    """The picture in ``content`` as uint8 ``H x W x channels``."""
    try:
        with pillow.Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height <= MAX_PIXELS:
                return _to_pixels(pillow, picture, size, channels)
    except Exception as error:  # on damaged files Pillow's decoders raise nearly any type
        raise DataFileError(
            f"{name}: expected a whole picture ({', '.join(FORMATS)}), found: {error}"
        ) from error
    raise DataFileError(
        f"{name}: expected a picture of at most {MAX_PIXELS:,} pixels, found {width}x{height}."
    )


def _to_pixels(pillow, picture, size, channels: int) -> np.ndarray:
    picture = pillow.ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise ValueError("pixels that are floating-point numbers, whose range is unknown")
    if picture.mode.startswith("I"):  # 16 bits a pixel, which convert would clip to 255
        deep = np.asarray(picture).clip(0, 65535)
        picture = pillow.Image.fromarray((deep >> 8).astype(np.uint8))
    if "transparency" in picture.info:
        picture = picture.convert("RGBA")
    picture = picture.convert(MODES[channels])
    if size is not None and picture.size != size[::-1]:
        picture = picture.resize(size[::-1], pillow.Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return pixels.reshape(*pixels.shape[:2], channels)
