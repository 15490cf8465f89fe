"""Transform 3x3 weights to Winograd's points, and pack them into panels for the tile.

    panel[p][r, s][i][j] = (G w[i, p * NR + j] G^T)[r, s], zero beyond the last column

with the G of winograd.pxd, for stride 2 of winograd_strided.pxd, r and s < m + 2, i counting the
channels of x and j those of y. ``w`` lies as (3, 3, depth, columns), or as (3, 3, columns, depth) for the
gradient of the data: then the taps are taken in reverse order. Points lie `panel_point` apart. An item is
a run of rows i of one panel.
"""

from libc.string cimport memset

from .isa cimport VL, vf, vload, vload_part, vstore, vtranspose, vzero
from .step cimport Run, Step, kernel
from .winograd cimport panel_point, transform_weights
from .winograd_strided cimport transform_weights as transform_weights_strided

cdef enum:
    TAPS = 9
    ROWS = 64           # of an item; a multiple of every VL

cdef struct Attributes:
    Py_ssize_t depth
    Py_ssize_t columns
    Py_ssize_t runs             # of rows
    Py_ssize_t points
    Py_ssize_t point            # floats from one to the next
    int m, stride
    int nv

cdef struct Rows:               # of weights: vector v of row i, tap t lies at
    const float* w              # w + i * row_step + v * vector_step + t * tap_step
    Py_ssize_t row_step
    Py_ssize_t vector_step
    Py_ssize_t tap_step
    Py_ssize_t count
    Py_ssize_t columns          # from w on


cdef inline void transform_side(const int m, const int stride, const vf* g, const int g_step, vf* o,
                                const int o_step) noexcept nogil:
    if stride == 2:
        transform_weights_strided(m, g, g_step, o, o_step)
    else:
        transform_weights(m, g, g_step, o, o_step)


cdef inline void transform_vector(const int m, const int stride, const float* w,
                                  Py_ssize_t tap_step, Py_ssize_t n, float* to,
                                  Py_ssize_t point) noexcept nogil:
    """to[r, s] = (G w G^T)[r, s] for a vector of columns, of which ``n`` are there"""
    cdef vf g[TAPS]
    cdef vf down[6 * 3]
    cdef vf o[6]
    cdef int i, r, s
    for i in range(TAPS):
        g[i] = vload(w + i * tap_step) if n >= VL else vload_part(w + i * tap_step, n)
    for s in range(3):
        transform_side(m, stride, g + s, 3, down + s, 3)
    for r in range(m + 2):
        transform_side(m, stride, down + 3 * r, 1, o, 1)
        for s in range(m + 2):
            vstore(to + (r * (m + 2) + s) * point, o[s])


cdef inline void transform_rows(const int m, const int stride, const Attributes* a, const Rows* rows,
                                float* to) noexcept nogil:
    cdef Py_ssize_t i, v
    for i in range(rows.count):
        for v in range(a.nv):
            transform_vector(m, stride, rows.w + i * rows.row_step + v * rows.vector_step,
                             rows.tap_step, max(rows.columns - v * VL, <Py_ssize_t> 0),
                             to + (i * a.nv + v) * VL, a.point)


cdef void transform_rows_of(const Attributes* a, const Rows* rows, float* to) noexcept nogil:
    if a.stride == 1 and a.m == 4:
        transform_rows(4, 1, a, rows, to)
    elif a.stride == 1:
        transform_rows(2, 1, a, rows, to)
    elif a.m == 4:
        transform_rows(4, 2, a, rows, to)
    else:
        transform_rows(2, 2, a, rows, to)


cdef void rows_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                   char* scratch) noexcept nogil:
    """w[tap, i, j] lies at (tap * depth + i) * columns + j"""
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* w = <const float*> buffers[step.operand[0]]
    cdef float* panels = <float*> buffers[step.operand[1]]
    cdef Py_ssize_t width = a.nv * VL, item, p, first
    cdef Rows rows
    rows.row_step, rows.vector_step, rows.tap_step = a.columns, VL, a.depth * a.columns
    for item in range(begin, end):
        p = item // a.runs
        first = (item - p * a.runs) * ROWS
        rows.w = w + first * a.columns + p * width
        rows.count = min(<Py_ssize_t> ROWS, a.depth - first)
        rows.columns = a.columns - p * width
        transform_rows_of(a, &rows, panels + p * a.points * a.point + first * width)


cdef void transpose_taps(const float* w, Py_ssize_t tap_step, Py_ssize_t step, Py_ssize_t rows,
                         Py_ssize_t columns, float* to) noexcept nogil:
    """to[8 - tap, i, j] = w[tap * tap_step + j * step + i] for i < rows, j < columns; else 0

    Neighbours in memory are read soon after each other, or they would come line by line.
    """
    cdef vf block[VL]
    cdef Py_ssize_t tap, i, j
    for tap in range(TAPS):
        i = 0
        while i < rows:
            for j in range(VL):
                block[j] = vzero()
                if j < columns:
                    block[j] = (vload(w + j * step + i) if i + VL <= rows
                                else vload_part(w + j * step + i, rows - i))
            vtranspose(block)
            for j in range(VL):
                vstore(to + ((TAPS - 1 - tap) * ROWS + i + j) * VL, block[j])
            i += VL
        w += tap_step


cdef void columns_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    """w[tap, j, i] lies at (tap * columns + j) * depth + i: transposed, and the taps reversed"""
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* w = <const float*> buffers[step.operand[0]]
    cdef float* panels = <float*> buffers[step.operand[1]]
    cdef float* taps = <float*> scratch
    cdef Py_ssize_t width = a.nv * VL, item, p, first, v, column
    cdef Rows rows
    rows.w, rows.row_step, rows.vector_step, rows.tap_step = taps, VL, TAPS * ROWS * VL, ROWS * VL
    rows.columns = width
    for item in range(begin, end):
        p = item // a.runs
        first = (item - p * a.runs) * ROWS
        rows.count = min(<Py_ssize_t> ROWS, a.depth - first)
        for v in range(a.nv):
            column = p * width + v * VL
            transpose_taps(w + column * a.depth + first, a.columns * a.depth, a.depth, rows.count,
                           a.columns - column, taps + v * TAPS * ROWS * VL)
        transform_rows_of(a, &rows, panels + p * a.points * a.point + first * width)


cdef object offer(str name, Run run, int m, int stride, Py_ssize_t depth, Py_ssize_t columns,
                  int nv, Py_ssize_t scratch):
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.m, a.stride, a.depth, a.columns, a.nv = m, stride, depth, columns, nv
    a.points = (m + 2) * (m + 2)
    a.point = panel_point(depth, nv)
    a.runs = (depth + ROWS - 1) // ROWS
    panels = (columns + nv * VL - 1) // (nv * VL)
    return kernel(name, run, panels * a.runs, scratch, &a, sizeof(a))


def rows(m, stride, depth, columns, nv):
    """w (3, 3, depth, columns) -> panels"""
    return offer(f"winograd{m}_pack_rows", rows_run, m, stride, depth, columns, nv, 0)


def columns(m, depth, columns, nv):
    """w (3, 3, columns, depth) -> panels for the gradient of the data"""
    scratch = 4 * nv * TAPS * ROWS * VL
    return offer(f"winograd{m}_pack_columns", columns_run, m, 1, depth, columns, nv, scratch)


def panel_bytes(m, depth, columns, nv):
    """Size of all panels."""
    return 4 * ((columns + nv * VL - 1) // (nv * VL)) * (m + 2) ** 2 * panel_point(depth, nv)
