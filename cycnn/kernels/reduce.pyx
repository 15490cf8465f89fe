"""Sums over rows of float32 matrices, in an order that depends on their shape alone.

`columns` sums chunks of rows into partial sums, `chunks` adds partial sums up in order.
"""

from libc.string cimport memset

from .isa cimport VL, vadd, vf, vload, vload_part, vstore, vstore_part, vzero
from .step cimport Step, kernel

cdef enum:
    WIDE = 8        # vectors summed side by side
    MAX_VL = 16

# (floats in a vector, floats summed side by side)
WIDTHS = (VL, WIDE * VL)

cdef struct Columns:
    Py_ssize_t size, columns, chunks

cdef struct Chunks:
    Py_ssize_t size, chunks, accumulate


cdef inline void sum_vectors(const int vectors, const float* x, Py_ssize_t rows, Py_ssize_t stride,
                             float* y) noexcept nogil:
    """y[j] = sum over rows of x[row * stride + j], for ``vectors`` * VL columns."""
    cdef vf sums[WIDE]
    cdef Py_ssize_t _
    cdef int j
    for j in range(vectors):
        sums[j] = vzero()
    for _ in range(rows):
        for j in range(vectors):
            sums[j] = vadd(sums[j], vload(x + j * VL))
        x += stride
    for j in range(vectors):
        vstore(y + j * VL, sums[j])


cdef void sum_rest(const float* x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t lanes,
                   float* y) noexcept nogil:
    """The same for fewer than VL columns."""
    cdef vf total = vzero()
    cdef Py_ssize_t row
    for row in range(rows):
        total = vadd(total, vload_part(x + row * stride, lanes))
    vstore_part(y, total, lanes)


cdef void sum_columns(const float* x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t columns,
                      float* y) noexcept nogil:
    """The same for up to WIDE * VL columns."""
    cdef Py_ssize_t j = 0
    if columns == WIDE * VL:
        sum_vectors(WIDE, x, rows, stride, y)
        return
    while j + 4 * VL <= columns:
        sum_vectors(4, x + j, rows, stride, y + j)
        j += 4 * VL
    while j + VL <= columns:
        sum_vectors(1, x + j, rows, stride, y + j)
        j += VL
    if j < columns:
        sum_rest(x + j, rows, stride, columns - j, y + j)


cdef void columns_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    cdef const Columns* a = <const Columns*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef float* y = <float*> buffers[step.operand[1]]
    cdef Py_ssize_t rows = a.size // a.columns
    cdef Py_ssize_t strips = (a.columns + WIDE * VL - 1) // (WIDE * VL)
    cdef Py_ssize_t i, j, z, row, left, width
    for i in range(begin, end):
        z = i // strips
        j = (i - z * strips) * WIDE * VL
        width = min(<Py_ssize_t> WIDE * VL, a.columns - j)
        row = z * rows // a.chunks
        sum_columns(x + row * a.columns + j, (z + 1) * rows // a.chunks - row, a.columns, width,
                    y + z * a.columns + j)
        if z == a.chunks - 1:
            left = min(a.size - rows * a.columns - j, width)
            for row in range(left):
                y[z * a.columns + j + row] += x[rows * a.columns + j + row]


def columns(size, columns, chunks):
    """x (size) read as rows of ``columns`` -> y (chunks, columns): the sum of each chunk of rows.

    The last row may be incomplete; what it has is added last.
    """
    cdef Columns a
    memset(&a, 0, sizeof(a))
    a.size, a.columns, a.chunks = size, columns, chunks
    strips = (columns + WIDE * VL - 1) // (WIDE * VL)
    return kernel("sum_columns", columns_run, chunks * strips, 0, &a, sizeof(a))


cdef void chunks_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                     char* scratch) noexcept nogil:
    cdef const Chunks* a = <const Chunks*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef float* y = <float*> buffers[step.operand[1]]
    cdef float sums[WIDE * MAX_VL]
    cdef Py_ssize_t i, j, width
    for i in range(begin, end):
        j = i * WIDE * VL
        width = min(<Py_ssize_t> WIDE * VL, a.size - j)
        if not a.accumulate:
            sum_columns(x + j, a.chunks, a.size, width, y + j)
            continue
        sum_columns(x + j, a.chunks, a.size, width, sums)
        add(sums, width, y + j)


cdef inline void add(const float* x, Py_ssize_t size, float* y) noexcept nogil:
    """y += x"""
    cdef Py_ssize_t j = 0
    while j + VL <= size:
        vstore(y + j, vadd(vload(y + j), vload(x + j)))
        j += VL
    vstore_part(y + j, vadd(vload_part(y + j, size - j), vload_part(x + j, size - j)), size - j)


def chunks(size, chunks, accumulate=False):
    """x (chunks, size) -> y (size) = sum over chunks, in order; ``accumulate``: y += that sum."""
    cdef Chunks a
    memset(&a, 0, sizeof(a))
    a.size, a.chunks, a.accumulate = size, chunks, accumulate
    return kernel("sum_chunks", chunks_run, (size + WIDE * VL - 1) // (WIDE * VL), 0, &a, sizeof(a))
