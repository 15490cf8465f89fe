"""Data sets: what the readers give, and what they say about files that are not what they seem."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from cycnn import data
from cycnn.errors import ArgumentError, DataFileError, ShapeError
from data_files import mutants, skip_if_memory_is_promised_blindly, some_bytes, write


def pack_idx(array, code=0x08, element=">u1"):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return head + array.astype(element).tobytes()


# the bundled digits


def test_digits_have_the_published_counts_and_range():
    (x, y), (xt, yt) = data.load_digits()
    assert x.shape == (3823, 8, 8, 1)
    assert xt.shape == (1797, 8, 8, 1)
    assert x.dtype == xt.dtype == np.float32
    assert y.dtype == yt.dtype == np.int64
    assert np.unique(x * 16).tolist() == list(range(17))
    assert np.bincount(y).tolist() == [376, 389, 380, 389, 387, 376, 377, 387, 380, 382]
    assert np.bincount(yt).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize(("split", "name"), [(0, "train_3823"), (1, "test_1797")])
def test_digits_are_those_of_the_repository(shared, split, name):
    with gzip.open(shared / f"data/optdigits/optdigits_{name}.csv.gz") as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    x, y = data.load_digits()[split]
    assert np.array_equal(x.reshape(-1, 64) * 16, rows[:, :64])
    assert np.array_equal(y, rows[:, 64])


def test_digits_carry_their_attribution():
    text = Path(data.__file__).with_name("optdigits.md").read_text()
    assert "Alpaydin" in text
    assert "Kaynak" in text
    assert "CC BY 4.0" in text


# IDX

ELEMENTS = [
    (0x08, ">u1"),
    (0x09, ">i1"),
    (0x0B, ">i2"),
    (0x0C, ">i4"),
    (0x0D, ">f4"),
    (0x0E, ">f8"),
]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (0, 28, 28), (1, 1, 1, 1)])
@pytest.mark.parametrize(("code", "element"), ELEMENTS)
def test_idx_round_trip(tmp_path, code, element, shape, zipped):
    array = np.arange(np.prod(shape)).reshape(shape).astype(element)
    content = pack_idx(array, code, element)
    path = write(tmp_path / "a", gzip.compress(content) if zipped else content)
    read = data.read_idx(path)
    assert np.array_equal(read, array)
    assert read.dtype == np.dtype(element).newbyteorder("=")
    assert read.dtype.isnative


GOOD = pack_idx(some_bytes(3, 4, 5))
HUGE = struct.pack(">BBBB3I", 0, 0, 0x0E, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)
NOTHING_HUGE = struct.pack(">BBBB3I", 0, 0, 0x0E, 3, 0, 2**32 - 1, 2**32 - 1)
BIG = struct.pack(">BBBB3I", 0, 0, 0x08, 3, 60000, 28, 28)
BAD_IDX = {
    "empty": (b"", "first 4 bytes are 0, 0.*found an empty file"),
    "three bytes": (GOOD[:3], "first 4 bytes"),
    "text": (b"0,0,5,13,9,1\n", r"first 4 bytes.*found \[48, 44, 48, 44\]"),
    "element type": (b"\0\0\x0a\x03" + GOOD[4:], "0x08, 0x09.*found 0x0a"),
    "rank 0": (b"\0\0\x08\0", "rank from 1 to 32, found 0"),
    "rank 33": (b"\0\0\x08\x21" + bytes(200), "rank from 1 to 32, found 33"),
    "header": (GOOD[:11], "3 dimensions of 4 bytes each, found 7 bytes"),
    "truncated": (GOOD[:-1], "3 x 4 x 5 elements.*expected 76 bytes in all, found 75"),
    "trailing": (GOOD + b"\0", "expected 76 bytes in all, found 77"),
    "overflow": (HUGE + bytes(100), "more than any memory holds"),
    "overflow of an empty array": (NOTHING_HUGE, "more than any memory holds"),
    "larger than the file": (BIG + bytes(100), "expected 47,040,016 bytes in all, found 116"),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_idx_says_what_was_expected_and_found(tmp_path, case):
    content, message = BAD_IDX[case]
    with pytest.raises(DataFileError, match=message):
        data.read_idx(write(tmp_path / "file", content))


BAD_GZIP = {
    "only named so": (GOOD, "expected a gzip file, as its name says"),
    "empty": (b"", "expected a gzip file, as its name says"),
    "two bytes": (b"\x1f\x8b", "expected a whole gzip file"),
    "cut": (gzip.compress(GOOD)[:-9], "expected a whole gzip file"),
    "wrong checksum": (gzip.compress(GOOD)[:-8] + bytes(8), "expected a whole gzip file"),
    "wrong block": (gzip.compress(GOOD)[:10] + b"\xff" * 30, "expected a whole gzip file"),
    "garbage behind": (gzip.compress(GOOD) + b"tail", "expected a whole gzip file"),
    "truncated inside": (gzip.compress(GOOD[:-1]), "expected 60 bytes after.*found only 59"),
    "trailing inside": (gzip.compress(GOOD + b"\0"), "expected 60 bytes after.*found more"),
    "larger than deflate can": (gzip.compress(BIG), "expected 47,040,016 bytes.*at most"),
    "overflow": (gzip.compress(HUGE), "more than any memory holds"),
}


@pytest.mark.parametrize("case", BAD_GZIP)
def test_gzipped_idx_says_what_was_expected_and_found(tmp_path, case):
    content, message = BAD_GZIP[case]
    with pytest.raises(DataFileError, match=message):
        data.read_idx(write(tmp_path / "file.gz", content))


def test_idx_that_memory_cannot_hold(tmp_path):
    skip_if_memory_is_promised_blindly()
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.write(struct.pack(">BBBB2I", 0, 0, 0x08, 2, 2**21, 2**21))
        try:
            file.truncate(12 + 2**42)
        except OSError:
            pytest.skip("this file system holds no sparse file of 4 TB")
    with pytest.raises(DataFileError, match="more than this machine's memory holds"):
        data.read_idx(path)


def test_missing_file_is_the_usual_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        data.read_idx(tmp_path / "none")


def mnist_files(train=5, test=3):
    files = {}
    for prefix, count in (("train", train), ("t10k", test)):
        files[f"{prefix}-images-idx3-ubyte"] = pack_idx(some_bytes(count, 4, 6, seed=count))
        files[f"{prefix}-labels-idx1-ubyte"] = pack_idx(some_bytes(count, seed=count) % 10)
    return files


@pytest.mark.parametrize("form", ["plain", "gz", "both", "dots", "emnist"])
def test_mnist_finds_its_four_files(tmp_path, form):
    for name, content in mnist_files().items():
        if form == "dots":
            name = name.replace("-idx", ".idx")
        if form == "emnist":
            name = "emnist-digits-" + name.replace("t10k", "test")
        if form in ("gz", "both"):
            write(tmp_path / f"{name}.gz", gzip.compress(content))
        if form != "gz":
            write(tmp_path / name, content)
    write(tmp_path / "readme.txt", b"not a data file")
    (x, y), (xt, yt) = data.load_mnist(tmp_path)
    assert x.shape == (5, 4, 6, 1)
    assert xt.shape == (3, 4, 6, 1)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[..., 0] * 255, some_bytes(5, 4, 6, seed=5), rtol=1e-6)
    assert np.array_equal(y, some_bytes(5, seed=5) % 10)
    assert y.dtype == yt.dtype == np.int64


BAD_MNIST = {
    "missing": (
        {"t10k-labels-idx1-ubyte": None},
        "expected t10k-labels-idx1-ubyte .*found t10k-images",
    ),
    "two of one": (
        {"emnist-letters-train-images-idx3-ubyte": b""},
        "expected one file of train images, found emnist.* and train-images",
    ),
    "swapped": (
        {"train-images-idx3-ubyte": pack_idx(some_bytes(5))},
        "expected unsigned bytes of rank 3, found uint8 of rank 1",
    ),
    "float labels": (
        {"t10k-labels-idx1-ubyte": pack_idx(np.zeros(3), 0x0D, ">f4")},
        "expected unsigned bytes of rank 1, found float32",
    ),
    "counts": (
        {"train-labels-idx1-ubyte": pack_idx(some_bytes(4))},
        "one label for each of the 5 images.*found 4",
    ),
    "sizes": (
        {"t10k-images-idx3-ubyte": pack_idx(some_bytes(3, 6, 4))},
        r"images of one size, found \(4, 6\) and \(6, 4\)",
    ),
}


@pytest.mark.parametrize("case", BAD_MNIST)
def test_mnist_says_what_was_expected_and_found(tmp_path, case):
    changed, message = BAD_MNIST[case]
    for name, content in (mnist_files() | changed).items():
        if content is not None:
            write(tmp_path / name, content)
    with pytest.raises(DataFileError, match=message):
        data.load_mnist(tmp_path)


def test_mnist_in_an_empty_folder(tmp_path):
    with pytest.raises(DataFileError, match="found no IDX file"):
        data.load_mnist(tmp_path)


def test_mnist_itself(shared):
    (x, y), (xt, yt) = data.load_mnist(shared / "data/mnist")
    assert x.shape == (60000, 28, 28, 1)
    assert xt.shape == (10000, 28, 28, 1)
    assert (x.min(), x.max()) == (0, 1)
    assert y[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert np.bincount(yt).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# CIFAR


def cifar_records(count, labels=1, seed=0):
    records = some_bytes(count, labels + 3072, seed=seed)
    records[:, :labels] %= 10
    return records


def test_cifar10_is_planes_of_red_green_and_blue(tmp_path):
    records = cifar_records(4)
    x, y = data.read_cifar10(write(tmp_path / "batch.bin", records.tobytes()))
    assert x.shape == (4, 32, 32, 3)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    assert np.array_equal(y, records[:, 0])
    for n, row, column, colour in [(0, 0, 0, 0), (1, 3, 7, 1), (3, 31, 31, 2)]:
        byte = records[n, 1 + 1024 * colour + 32 * row + column]
        assert x[n, row, column, colour] == pytest.approx(byte / 255)


@pytest.mark.parametrize(("labels", "column"), [("coarse", 0), ("fine", 1)])
def test_cifar100_has_two_labels(tmp_path, labels, column):
    train, test = cifar_records(3, 2), cifar_records(2, 2, seed=1)
    write(tmp_path / "train.bin", train.tobytes())
    write(tmp_path / "test.bin", test.tobytes())
    (x, y), (xt, yt) = data.load_cifar100(tmp_path, labels)
    assert x.shape == (3, 32, 32, 3)
    assert len(xt) == 2
    assert np.array_equal(y, train[:, column])
    assert np.array_equal(yt, test[:, column])


def test_cifar10_folder_joins_the_batches_in_order(tmp_path):
    for i, name in enumerate([*(f"data_batch_{b}" for b in range(1, 6)), "test_batch"]):
        write(tmp_path / f"{name}.bin", cifar_records(2, seed=i).tobytes())
    (x, y), (xt, yt) = data.load_cifar10(tmp_path)
    assert x.shape == (10, 32, 32, 3)
    assert xt.shape == (2, 32, 32, 3)
    assert y.tolist() == [int(r[0]) for i in range(5) for r in cifar_records(2, seed=i)]
    assert yt.tolist() == cifar_records(2, seed=5)[:, 0].tolist()


BAD_CIFAR = {
    "empty": (b"", "whole records of 3,073 bytes, found 0 bytes"),
    "truncated": (cifar_records(2).tobytes()[:-1], "found 6,145 bytes, 3,072 more than 1 records"),
    "trailing": (cifar_records(2).tobytes() + b"\0", "found 6,147 bytes, 1 more than 2 records"),
    "labels": (b"\x0a" + bytes(3072), "labels from 0 to 9 in byte 0.*found 10"),
}


@pytest.mark.parametrize("case", BAD_CIFAR)
def test_cifar_says_what_was_expected_and_found(tmp_path, case):
    content, message = BAD_CIFAR[case]
    with pytest.raises(DataFileError, match=message):
        data.read_cifar10(write(tmp_path / "batch.bin", content))


def test_cifar100_checks_both_labels(tmp_path):
    path = write(tmp_path / "a.bin", bytes([19, 100]) + bytes(3072))
    with pytest.raises(DataFileError, match=r"labels from 0 to 99 in byte 1.*found 100"):
        data.read_cifar100(path, "coarse")
    with pytest.raises(ArgumentError, match=r'"fine" or "coarse". Received: labels=.both.'):
        data.read_cifar100(path, "both")


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ([], r"expected data_batch_1.bin, .*found none of them"),
        (["test_batch.bin"], r"expected data_batch_1.bin.*found test_batch.bin"),
        (["data_batch_1", "test_batch"], "pickled version, which cannot be read safely"),
    ],
)
def test_cifar_folder_says_what_was_expected_and_found(tmp_path, present, message):
    for name in present:
        write(tmp_path / name, b"")
    with pytest.raises(DataFileError, match=message):
        data.load_cifar10(tmp_path)


# damaged files


FUZZED = {
    "idx": (lambda: GOOD, data.read_idx, 400),
    "idx header": (lambda: GOOD[:20], data.read_idx, 400),
    "idx.gz": (lambda: gzip.compress(GOOD), data.read_idx, 400),
    "cifar": (lambda: cifar_records(2).tobytes(), data.read_cifar10, 100),
}


@pytest.mark.parametrize("case", FUZZED)
def test_damaged_files_raise_nothing_else(tmp_path, case):
    make, read, count = FUZZED[case]
    refused = 0
    for mutant in mutants(make(), count, seed=7):
        try:
            read(write(tmp_path / "file", mutant))
        except DataFileError:
            refused += 1
    assert refused > 0


# mini-batches


def numbered(count):
    return np.arange(count * 6, dtype=np.float32).reshape(count, 2, 3), np.arange(count)


@pytest.mark.parametrize("count", [0, 1, 4, 10])
@pytest.mark.parametrize("shuffle", [None, 3])
def test_batches_hold_every_sample_once(count, shuffle):
    x, y = numbered(count)
    parts = list(data.batches(x, y, batch_size=4, shuffle=shuffle))
    assert [len(b) for _, b in parts] == [min(4, count - i) for i in range(0, count, 4)]
    seen = [int(label) for _, labels in parts for label in labels]
    assert sorted(seen) == list(range(count))
    if shuffle is None:
        assert seen == sorted(seen)
    for xb, yb in parts:
        assert np.array_equal(xb, x[yb])
        assert xb.flags.c_contiguous


def test_batches_repeat_with_the_seed_and_go_on_with_a_generator():
    x, y = numbered(50)

    def order(shuffle):
        return np.concatenate([b for _, b in data.batches(x, y, shuffle=shuffle)]).tolist()

    assert order(1) == order(1) == order(np.random.default_rng(1))
    assert order(1) != order(2)
    generator = np.random.default_rng(1)
    assert order(generator) != order(generator)


@pytest.mark.parametrize("shuffle", [None, 0])
def test_batches_of_strided_arrays_are_contiguous(shuffle):
    x, y = numbered(9)
    for xb, yb in data.batches(np.asfortranarray(x), y[::-1], batch_size=4, shuffle=shuffle):
        assert xb.flags.c_contiguous
        assert yb.flags.c_contiguous
        assert np.array_equal(xb, x[8 - yb])


def test_batches_in_order_are_not_copied():
    x, y = numbered(9)
    assert all(np.shares_memory(xb, x) for xb, _ in data.batches(x, y, batch_size=4))


def test_batches_check_at_once():
    x, y = numbered(3)
    with pytest.raises(ShapeError, match=r"equally many samples. Received: x.shape=\(3, 2, 3\)"):
        data.batches(x, y[:2])
    with pytest.raises(ShapeError, match="equally many samples"):
        data.batches(x, np.int64(3))
    for wrong in (0, -1, 2.0, True, "8"):
        with pytest.raises(ArgumentError, match="`batch_size` must be an integer of at least 1"):
            data.batches(x, y, batch_size=wrong)
    for wrong in (False, True, -1, 0.5, "8"):
        with pytest.raises(ArgumentError, match="`shuffle` must be None, a seed of at least 0"):
            data.batches(x, y, shuffle=wrong)
