"""Copies between float32 arrays of different strides: concatenation, slices, padding, cropping, and
pixels some strides apart, gathered or spread out.

A box of images x rows x ``width`` floats is copied from one place to another,

    y[image, row, i] = x[image, row, i]     0 <= i < width

each array with strides of its own for images and rows. ``pad`` writes zeros around the box as well.
x and y must not overlap. An item is a run of rows of y, of about ITEM_FLOATS floats.
"""

from libc.string cimport memset

from .isa cimport VL, vload, vload_part, vstore, vstore_part
from .step cimport Run, Step, kernel

cdef enum:
    ITEM_FLOATS = 16384

cdef struct Attributes:
    Py_ssize_t images, rows, width  # the box
    Py_ssize_t x_image, x_row, x_offset  # strides of x, and where the box starts in it
    Py_ssize_t y_image, y_row, y_offset
    Py_ssize_t top, y_rows  # pad: the box's first row in an image of y, and how many there are
    Py_ssize_t item  # rows of y of an item

cdef struct Subsampling:
    Py_ssize_t images, rows, columns, channels  # of y
    Py_ssize_t x_image, x_row, x_pixel  # strides of x, from one pixel that is copied to the next
    Py_ssize_t item  # rows of y of an item

cdef struct Spreading:
    Py_ssize_t images, rows, columns, channels  # of x
    Py_ssize_t y_rows, y_columns, row_stride, column_stride
    Py_ssize_t item  # rows of y of an item


cdef inline void copy_floats(const float* x, float* y, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + VL <= size:
        vstore(y + i, vload(x + i))
        i += VL
    if i < size:
        vstore_part(y + i, vload_part(x + i, size - i), size - i)


cdef void copy_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                   char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]] + a.x_offset
    cdef float* y = <float*> buffers[step.operand[1]] + a.y_offset
    cdef Py_ssize_t i, image, row
    for i in range(begin * a.item, min(end * a.item, a.images * a.rows)):
        image, row = i // a.rows, i % a.rows
        copy_floats(x + image * a.x_image + row * a.x_row, y + image * a.y_image + row * a.y_row,
                    a.width)


cdef void pad_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                  char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef float* y = <float*> buffers[step.operand[1]]
    cdef Py_ssize_t right = a.y_offset + a.width, i, row
    for i in range(begin * a.item, min(end * a.item, a.images * a.y_rows)):
        row = i % a.y_rows - a.top
        if row < 0 or row >= a.rows:
            memset(y + i * a.y_row, 0, a.y_row * sizeof(float))
            continue
        memset(y + i * a.y_row, 0, a.y_offset * sizeof(float))
        copy_floats(x + i // a.y_rows * a.x_image + row * a.x_row, y + i * a.y_row + a.y_offset,
                    a.width)
        memset(y + i * a.y_row + right, 0, (a.y_row - right) * sizeof(float))


cdef void subsample_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                        char* scratch) noexcept nogil:
    cdef const Subsampling* a = <const Subsampling*> step.attributes
    cdef const float* x
    cdef float* y
    cdef Py_ssize_t row, q
    for row in range(begin * a.item, min(end * a.item, a.images * a.rows)):
        x = <const float*> buffers[step.operand[0]] + row // a.rows * a.x_image
        x += row % a.rows * a.x_row
        y = <float*> buffers[step.operand[1]] + row * a.columns * a.channels
        for q in range(a.columns):
            copy_floats(x + q * a.x_pixel, y + q * a.channels, a.channels)


cdef void spread_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                     char* scratch) noexcept nogil:
    cdef const Spreading* a = <const Spreading*> step.attributes
    cdef const float* x
    cdef float* y
    cdef Py_ssize_t row, q, h, width = a.y_columns * a.channels
    for row in range(begin * a.item, min(end * a.item, a.images * a.y_rows)):
        h = row % a.y_rows
        y = <float*> buffers[step.operand[1]] + row * width
        if h % a.row_stride:
            memset(y, 0, width * sizeof(float))
            continue
        x = <const float*> buffers[step.operand[0]]
        x += (row // a.y_rows * a.rows + h // a.row_stride) * a.columns * a.channels
        for q in range(a.y_columns):
            if q % a.column_stride:
                memset(y + q * a.channels, 0, a.channels * sizeof(float))
            else:
                copy_floats(x + q // a.column_stride * a.channels, y + q * a.channels, a.channels)


cdef object offer_rows(str name, Run run, const void* attributes, Py_ssize_t size, Py_ssize_t* item,
                       Py_ssize_t rows, Py_ssize_t floats):
    """``rows`` of y are to be written, of ``floats`` floats each; ``item``, which is one of the
    ``attributes``, is set to how many an item takes."""
    item[0] = max(ITEM_FLOATS // max(floats, 1), 1)
    return kernel(name, run, (rows + item[0] - 1) // item[0] if floats else 0, 0, attributes, size)


cdef object offer(str name, Run run, Attributes* a, Py_ssize_t rows, Py_ssize_t floats):
    return offer_rows(name, run, a, sizeof(a[0]), &a.item, rows, floats)


cdef object channels(str name, Py_ssize_t pixels, Py_ssize_t width, Py_ssize_t x_row,
                     Py_ssize_t x_offset, Py_ssize_t y_row, Py_ssize_t y_offset):
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.images, a.rows, a.width = 1, pixels, width
    a.x_row, a.x_offset, a.y_row, a.y_offset = x_row, x_offset, y_row, y_offset
    return offer(name, copy_run, &a, pixels, width)


def insert_channels(pixels, x_channels, y_channels, begin, x_step=None):
    """x (pixels, x_channels) -> the channels of y from ``begin`` on

    Pixels of x lie ``x_step`` floats apart, those of y ``y_channels``.
    """
    x_step = x_step or x_channels
    return channels("insert_channels", pixels, x_channels, x_step, 0, y_channels, begin)


def slice_channels(pixels, x_channels, begin, end):
    """x (pixels, x_channels) -> y = x[:, begin:end]"""
    return channels("slice_channels", pixels, end - begin, x_channels, begin, end - begin, 0)


def pad(small, large, top, left):
    """x (N, h, w, C) -> y (N, H, W, C): x at row ``top``, column ``left``, and zeros around it"""
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    n, h, w, c = small
    a.images, a.rows, a.width, a.top, a.y_rows = n, h, w * c, top, large[1]
    a.x_image, a.x_row = h * w * c, w * c
    a.y_row, a.y_offset = large[2] * c, left * c
    return offer("pad", pad_run, &a, n * a.y_rows, a.y_row)


def crop(large, small, top, left):
    """x (N, H, W, C) -> y (N, h, w, C), from row ``top`` and column ``left`` of x on"""
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    n, h, w, c = small
    a.images, a.rows, a.width = n, h, w * c
    a.x_image, a.x_row = large[1] * large[2] * c, large[2] * c
    a.x_offset = top * a.x_row + left * c
    a.y_image, a.y_row = h * w * c, w * c
    return offer("crop", copy_run, &a, n * h, w * c)


def subsample(large, small, strides, x_step=None):
    """x (N, H, W, C) -> y (N, h, w, C): ``y[n, p, q] = x[n, p * strides[0], q * strides[1]]``

    Pixels of x lie ``x_step`` floats apart.
    """
    cdef Subsampling a
    memset(&a, 0, sizeof(a))
    a.images, a.rows, a.columns, a.channels = small
    a.x_pixel = (x_step or a.channels) * strides[1]
    a.x_row = (x_step or a.channels) * large[2] * strides[0]
    a.x_image = (x_step or a.channels) * large[1] * large[2]
    return offer_rows("subsample", subsample_run, &a, sizeof(a), &a.item, a.images * a.rows,
                      a.columns * a.channels)


def spread(small, large, strides):
    """x (N, h, w, C) -> y (N, H, W, C): ``y[n, p * strides[0], q * strides[1]] = x[n, p, q]``, else 0

    H is at most h * strides[0], and W likewise; rows and columns of x that lie beyond are left out.
    """
    cdef Spreading a
    memset(&a, 0, sizeof(a))
    a.images, a.rows, a.columns, a.channels = small
    a.y_rows, a.y_columns = large[1:3]
    a.row_stride, a.column_stride = strides
    return offer_rows("spread", spread_run, &a, sizeof(a), &a.item, a.images * a.y_rows,
                      a.y_columns * a.channels)
