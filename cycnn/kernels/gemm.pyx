"""Matrix product with packed second operand: dense layers, and convolutions with 1x1 windows.

    y[m, k] = activation(b[k] + sum over c of a[m, c] * w[c, k])

a and y are row-major and must not overlap; w comes packed from `pack.rows` or `pack.columns`; b may
be absent. An item is a block of rows times a block of panels.
"""

from .isa cimport VL, touch
from .step cimport Step, kernel
from .tile cimport Tile, stack, tiles_of_width

cdef enum:
    LINE = 16           # floats in a cache line

cdef struct Attributes:
    Py_ssize_t rows
    Py_ssize_t depth
    Py_ssize_t columns
    int nv
    int activation
    Py_ssize_t row_blocks
    Py_ssize_t panels
    Py_ssize_t panel_blocks
    Py_ssize_t panels_first     # whether consecutive items share a block of panels
    Py_ssize_t distant          # whether a lies beyond the caches

DISTANT = 8 * 2**20  # bytes


cdef void multiply_tiles(int nv, int mr, const Tile* t) noexcept nogil:
    tiles_of_width(nv, False, mr, t)


cdef void multiply(const Attributes* a, const float* x, const float* panels, const float* b,
                   float* y, Py_ssize_t row, Py_ssize_t stop, Py_ssize_t panel,
                   Py_ssize_t last) noexcept nogil:
    """Rows ``row`` to ``stop`` times panels ``panel`` to ``last``: tiles of nearly equal height."""
    cdef Tile t
    cdef Py_ssize_t width = a.nv * VL, i, p
    if a.distant:
        # read end to end, the rows come faster than the tile's few streams would bring them
        # (doing the same for the rows of y before they are written gained nothing)
        for i in range((stop - row) * a.depth // LINE):
            touch(x + row * a.depth + i * LINE)
    t.taps, t.tap, t.depth, t.row_step = 1, NULL, a.depth, a.depth
    t.activation, t.y_step, t.bias = a.activation, a.columns, NULL
    for p in range(panel, last):
        t.panel = panels + p * a.depth * width
        if b != NULL:
            t.bias = b + p * width
        t.columns = min(width, a.columns - p * width)
        t.a = x + row * a.depth
        t.y = y + row * a.columns + p * width
        stack(multiply_tiles, stop - row, a.nv, &t)


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const float* panels = <const float*> buffers[step.operand[1]]
    cdef const float* b = <const float*> buffers[step.operand[2]]
    cdef float* y = <float*> buffers[step.operand[3]]
    cdef Py_ssize_t item, i, j
    for item in range(begin, end):
        i = item % a.row_blocks if a.panels_first else item // a.panel_blocks
        j = item // a.row_blocks if a.panels_first else item % a.panel_blocks
        multiply(a, x, panels, b, y,
                 a.rows * i // a.row_blocks, a.rows * (i + 1) // a.row_blocks,
                 a.panels * j // a.panel_blocks, a.panels * (j + 1) // a.panel_blocks)


def multiply_packed(rows, depth, columns, nv, *, row_blocks, panel_blocks, panels_first=False,
                    activation=0):
    """a (rows, depth), panels of w (depth, columns), b (columns) or absent -> y (rows, columns)"""
    cdef Attributes a
    a.rows, a.depth, a.columns, a.nv, a.activation = rows, depth, columns, nv, activation
    a.panels = (a.columns + a.nv * VL - 1) // (a.nv * VL)
    a.row_blocks, a.panel_blocks, a.panels_first = row_blocks, panel_blocks, panels_first
    a.distant = 4 * a.rows * a.depth >= DISTANT
    items = a.row_blocks * a.panel_blocks if a.rows and a.columns else 0
    return kernel("gemm", run, items, 0, &a, sizeof(a))
