"""Pictures: one, a folder of them and a .zip, whole and damaged."""

import io
import sys
import zipfile

import numpy as np
import pytest

from cycnn import data
from cycnn.errors import ArgumentError, DataFileError, MissingExtra
from data_files import mutants, skip_if_memory_is_promised_blindly, some_bytes, write

image = pytest.importorskip("PIL.Image")


def picture(pixels, form="PNG", **options):
    buffer = io.BytesIO()
    image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def folder_of_pictures(root, shape=(4, 6, 3)):
    pixels = {}
    for c, name in enumerate(["cat", "ant", "bee"]):
        for i in range(c + 1):
            pixels[name, i] = some_bytes(*shape, seed=10 * c + i)
            write(root / name / f"{i}.PNG", picture(pixels[name, i]))
    write(root / "README.md", b"passed over")
    write(root / "ant" / "notes.txt", b"passed over")
    return pixels


def zip_folder(root, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root))
    return path


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("subset", [None, "train"])
def test_folders_are_classes(tmp_path, subset, zipped):
    root = tmp_path / "pictures"
    pixels = folder_of_pictures(root / (subset or ""))
    path = zip_folder(root, tmp_path / "pictures.zip") if zipped else root
    x, y, names = data.load_image_folder(path, subset=subset)
    assert names == ["ant", "bee", "cat"]
    assert y.tolist() == [0, 0, 1, 1, 1, 2]
    assert y.dtype == np.int64
    assert x.shape == (6, 4, 6, 3)
    assert x.dtype == np.float32
    assert np.array_equal(np.round(x[4] * 255), pixels["bee", 2])


@pytest.mark.parametrize("zipped", [False, True])
def test_classes_are_numbered_by_their_names_alone(tmp_path, zipped):
    names = ["ant", "ant eater", "ant-lion", "ant.wasp"]  # what follows "ant" sorts before its "/"
    for name in names:
        write(tmp_path / "root" / name / "0.PNG", picture(some_bytes(2, 2, 3)))
    root = tmp_path / "root"
    path = zip_folder(root, tmp_path / "pictures.zip") if zipped else root
    assert data.load_image_folder(path)[2] == names


def test_folder_limit_takes_the_first_of_each_class(tmp_path):
    folder_of_pictures(tmp_path)
    x, y, _ = data.load_image_folder(tmp_path, limit=1)
    assert y.tolist() == [0, 1, 2]
    every, _, _ = data.load_image_folder(tmp_path)
    assert np.array_equal(x, every[[0, 2, 5]])


def test_folder_resizes_and_converts(tmp_path):
    folder_of_pictures(tmp_path)
    write(tmp_path / "ant" / "large.png", picture(some_bytes(9, 9)))
    x, _, _ = data.load_image_folder(tmp_path, (2, 5), channels=1)
    assert x.shape == (7, 2, 5, 1)
    with pytest.raises(DataFileError, match=r"large.png: expected a picture of 6x4.*found 9x9"):
        data.load_image_folder(tmp_path)


BAD_FOLDER = {
    "no folder": ([], "one folder of pictures for each class, found no folder"),
    "empty class": (["cat/0.png", "dog/"], "pictures in every folder, found none in dog"),
    "a level too deep": (["test/cat/0.png"], r'none in test \(if they.*: subset="test"\)'),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("case", BAD_FOLDER)
def test_folder_says_what_was_expected_and_found(tmp_path, case, zipped):
    files, message = BAD_FOLDER[case]
    root = tmp_path / "root"
    root.mkdir()
    for name in files:
        if name.endswith("/"):
            (root / name).mkdir()
        else:
            write(root / name, picture(some_bytes(2, 2)))
    path = zip_folder(root, tmp_path / "a.zip") if zipped else root
    with pytest.raises(DataFileError, match=message):
        data.load_image_folder(path)


BAD_PICTURE = {
    "empty": (lambda: b"", "1 to 268,435,456 bytes, found 0 bytes"),
    "text": (lambda: b"these are no pixels", "expected a whole picture .*found: cannot identify"),
    "truncated": (lambda: picture(some_bytes(40, 40))[:-900], "expected a whole picture"),
    "truncated jpeg": (
        lambda: picture(some_bytes(40, 40, 3), "JPEG")[:-300],
        "expected a whole picture .*truncated",
    ),
    "floating-point": (
        lambda: picture(np.zeros((2, 2), np.float32), "TIFF"),
        "expected a whole picture .*floating-point",
    ),
    "absurd size": (
        lambda: b"P6 9000 9000 255\n" + bytes(100),
        "at most 67,108,864 pixels, found 9000x9000",
    ),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "cannot identify"),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("case", BAD_PICTURE)
def test_picture_says_what_was_expected_and_found(tmp_path, case, zipped):
    make, message = BAD_PICTURE[case]
    path = write(tmp_path / "root" / "class" / "0.png", make())
    read = data.read_image
    if zipped:
        path, read = zip_folder(tmp_path / "root", tmp_path / "a.zip"), data.load_image_folder
    with pytest.raises(DataFileError, match=message):
        read(path)


def test_zip_says_what_was_expected_and_found(tmp_path):
    folder_of_pictures(tmp_path / "root")
    whole = zip_folder(tmp_path / "root", tmp_path / "a.zip").read_bytes()
    for content in (b"", b"PK nothing", whole[:-30]):
        with pytest.raises(DataFileError, match=r"expected a folder or a \.zip file"):
            data.load_image_folder(write(tmp_path / "b.zip", content))
    damaged = bytearray(whole)
    damaged[whole.index(b"ant/0.PNG") + 30] ^= 0xFF
    with pytest.raises(DataFileError, match=r"0.PNG: expected a whole file in the \.zip"):
        data.load_image_folder(write(tmp_path / "b.zip", bytes(damaged)))


def test_zip_member_that_claims_a_huge_size(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/0.png", bytes(257 * 2**20))
    with pytest.raises(DataFileError, match="1 to 268,435,456 bytes, found 269,484,032"):
        data.load_image_folder(path)


def test_pictures_that_memory_cannot_hold(tmp_path):
    skip_if_memory_is_promised_blindly()
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/0000.ppm", b"P6 4000 4000 255\n" + bytes(3 * 4000 * 4000))
        for i in range(1, 7000):
            archive.writestr(f"cat/{i:04}.ppm", b"")
    with pytest.raises(DataFileError, match="fit into memory, found 7,000 of 4000x4000"):
        data.load_image_folder(tmp_path / "a.zip", channels=4)


def test_read_image_modes(tmp_path):
    grey = some_bytes(3, 4)
    path = write(tmp_path / "grey.png", picture(grey))
    read = data.read_image(path, channels=1)
    assert read.shape == (3, 4, 1)
    assert np.array_equal(np.round(read[..., 0] * 255), grey)
    assert np.array_equal(data.read_image(path), np.repeat(read, 3, axis=2))
    deep = write(tmp_path / "deep.png", picture(grey.astype(np.uint16) * 257))
    assert np.array_equal(data.read_image(deep, channels=1), read)
    wide = write(tmp_path / "wide.tiff", picture(grey.astype(np.int32) * 257, "TIFF"))
    assert np.array_equal(data.read_image(wide, channels=1), read)
    palette = image.fromarray(some_bytes(3, 4, 3)).quantize(8)
    palette.save(tmp_path / "palette.png", transparency=bytes(range(8)))
    rgba = data.read_image(tmp_path / "palette.png", channels=4)
    assert np.array_equal(np.round(rgba[..., 3] * 255), np.asarray(palette))


def test_read_image_obeys_the_rotation_tag(tmp_path):
    exif = image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    path = write(tmp_path / "a.png", picture(some_bytes(2, 5, 3), exif=exif))
    turned = data.read_image(path)
    assert turned.shape == (5, 2, 3)
    upright = data.read_image(write(tmp_path / "b.png", picture(some_bytes(2, 5, 3))))
    assert np.array_equal(turned, np.rot90(upright, -1))


def test_read_image_size_is_height_and_width(tmp_path):
    path = write(tmp_path / "a.png", picture(np.full((8, 8, 3), 51, np.uint8)))
    small = data.read_image(path, (3, 2))
    assert small.shape == (3, 2, 3)
    np.testing.assert_allclose(small, 0.2, rtol=1e-6)
    assert data.read_image(path, 4).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 2}, "`channels` must be 1, 3 or 4. Received: channels=2"),
        ({"size": (0, 3)}, r"`size` must be an integer .*Received: size=\(0, 3\)"),
        ({"limit": 0}, "`limit` must be None or an integer of at least 1. Received: limit=0"),
    ],
)
def test_picture_arguments(tmp_path, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        data.load_image_folder(tmp_path, **arguments)


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match=r"cycnn\[images\]"):
        data.read_image(tmp_path / "a.png")


def test_photograph(shared):
    x = data.read_image(shared / "data/images/chelsea.png")
    assert x.shape == (300, 451, 3)
    np.testing.assert_allclose(x.mean((0, 1)), [0.5793, 0.4372, 0.3405], atol=1e-3)


@pytest.mark.parametrize(("subset", "each"), [("train", 40), ("test", 1000)])
def test_cifar_jpegs(shared, subset, each):
    x, y, names = data.load_image_folder(
        shared / "data/cifar10/cifar10-jpegs.zip", subset=subset, limit=each
    )
    assert x.shape == (10 * each, 32, 32, 3)
    assert names == list(data.CIFAR10_CLASSES)
    assert np.bincount(y).tolist() == [each] * 10
    assert 0.4 < x.mean() < 0.55


def zipped_pictures():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"c{i % 2}/{i}.png", picture(some_bytes(3, 3, seed=i)))
    return buffer.getvalue()


FUZZED = {
    "png": (lambda: picture(some_bytes(5, 5, 3)), data.read_image, 200),
    "jpeg": (lambda: picture(some_bytes(9, 9, 3), "JPEG"), data.read_image, 200),
    "gif": (lambda: picture(some_bytes(5, 5), "GIF"), data.read_image, 200),
    "tiff": (lambda: picture(some_bytes(5, 5, 3), "TIFF"), data.read_image, 200),
    "webp": (lambda: picture(some_bytes(5, 5, 3), "WEBP"), data.read_image, 200),
    "bmp": (lambda: picture(some_bytes(5, 5, 3), "BMP"), data.read_image, 200),
    "zip": (zipped_pictures, data.load_image_folder, 300),
}


@pytest.mark.parametrize("case", FUZZED)
@pytest.mark.filterwarnings("ignore")  # Pillow warns about odd files that it reads all the same
def test_damaged_files_raise_nothing_else(tmp_path, case):
    make, read, count = FUZZED[case]
    refused = 0
    for mutant in mutants(make(), count, seed=7):
        try:
            read(write(tmp_path / "file", mutant))
        except DataFileError:
            refused += 1
    assert refused > 0
