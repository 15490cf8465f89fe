"""Memory for results: kept when an array goes, for the next one, and bounded."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from cycnn.plan import arrays

MEGABYTE = 2**20


def address(array: np.ndarray) -> int:
    return array.ctypes.data


@pytest.fixture(autouse=True)
def nothing_kept():
    """Push out what other tests left: one piece of all that may be kept."""
    gc.collect()
    arrays.empty_result((64 * MEGABYTE // 4,))


def test_the_next_result_gets_the_memory_of_the_last():
    first = arrays.empty_result((1024, 1024))
    at = address(first)
    del first
    second = arrays.empty_result((1024, 1024))
    assert address(second) == at
    assert address(arrays.empty_result((1024, 1024))) != at


def test_a_somewhat_larger_piece_serves_a_smaller_result():
    at = address(arrays.empty_result((1000, 1024)))
    assert address(arrays.empty_result((900, 1024))) == at
    assert address(arrays.empty_result((500, 1024))) != at


def test_a_view_keeps_the_memory():
    whole = arrays.empty_result((1024, 1024))
    part, at = whole[512:], address(whole)
    part[...] = 7
    del whole
    other = arrays.empty_result((1024, 1024))
    other[...] = 1
    assert address(other) != at
    assert (part == 7).all()


@pytest.mark.parametrize(("count", "megabytes"), [(40, 1), (10, 30), (3, 100)])
def test_what_is_kept_is_bounded(count, megabytes):
    held = [arrays.empty_result((megabytes * MEGABYTE // 4,)) for _ in range(count)]
    assert len({address(a) for a in held}) == count
    held.clear()
    assert arrays.kept_bytes() <= 64 * MEGABYTE


def test_small_results_are_numpys_own():
    assert arrays.empty_result((10, 10)).flags.owndata


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (1023, 257), (2000, 1000)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
@pytest.mark.parametrize("make", [arrays.empty, arrays.empty_result])
def test_shape_dtype_and_layout(make, shape, dtype):
    array = make(shape, dtype)
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.flags.aligned
    array[...] = 3
    assert (array == 3).all()


@pytest.mark.parametrize("size", [1, 100, 10**6])
def test_weights_start_on_a_cache_line_and_are_given_back(size):
    kept = arrays.kept_bytes()
    array = arrays.empty((size,))
    assert address(array) % 64 == 0
    del array
    assert arrays.kept_bytes() == kept


@pytest.mark.parametrize("make", [arrays.empty, arrays.empty_result])
def test_memory_that_the_system_does_not_have_is_refused(make):
    with pytest.raises(MemoryError, match="cannot allocate an array of 4611686018427387904 bytes"):
        make((2**60,))


def test_threads_never_share_memory():
    wrong = []

    def work(number: int) -> None:
        for _ in range(300):
            array = arrays.empty_result((64, 1024))
            array[...] = number
            if (array != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
