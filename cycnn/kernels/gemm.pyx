"""Matrix product with packed second operand: dense layers, and convolutions with 1x1 windows.

    y[m, k] = activation(b[k] + sum over c of a[m, c] * w[c, k] + residual[m, k])

a and y are row-major, their rows as far apart as the attributes say, and must not overlap; w comes
packed from `pack.rows` or `pack.columns`; b and the residual may be absent, and the residual, laid
out like y, may be y. An item is a block of rows times a block of panels. Sums over more than `DEPTH`
channels come in parts, whatever the rows, so that the part of a panel which several tiles read one
after the other stays in the second-level cache.
"""

from libc.string cimport memset

from .activation cimport LINEAR
from .ahead cimport BYTES, lines_at_once
from .isa cimport VL, vstream_end
from .stack cimport Multiply, stack, tile_count, tiles_of_width
from .step cimport Step, kernel
from .tile cimport Tile, can_stream, send_during, send_nothing, set_activation, tile_rows, unrolled

cdef enum:
    SPREAD = 2  # rows of a are sent for where they lie at most so many times their length apart,
    SOON = 4    # while so many panels are multiplied
    DEPTH = 1024    # terms of a sum at most, before the next rows of a: their part of a panel stays near
    NEXT = 16384    # bytes from what one tile multiplies to what it sends for

cdef struct Attributes:
    Py_ssize_t rows
    Py_ssize_t depth
    Py_ssize_t columns
    Py_ssize_t a_step       # floats from a row of a to the next,
    Py_ssize_t y_step       # and of y
    int nv
    int activation
    bint stream             # whether y will not be read soon
    bint distant            # whether a and y lie beyond the nearer caches: lines of y are sent for,
    bint rows_ahead         # and the next rows of a
    Py_ssize_t row_blocks
    Py_ssize_t panels
    Py_ssize_t panel_blocks
    Py_ssize_t panels_first     # whether consecutive items share a block of panels,
    Py_ssize_t panels_stream    # and the next block lies behind it


cdef void multiply_tiles(int nv, int mr, const Tile* t) noexcept nogil:
    tiles_of_width(nv, False, False, mr, t)


cdef void stream_tiles(int nv, int mr, const Tile* t) noexcept nogil:
    tiles_of_width(nv, False, True, mr, t)


cdef inline void send_panel(const Attributes* a, Tile* t, Py_ssize_t depth,
                            Py_ssize_t tiles) noexcept nogil:
    """Have what lies behind ``depth`` rows of a panel sent for while ``tiles`` tiles multiply them.

    A single tile asks for what it comes to soon: more would push out of the cache what waits there.
    """
    cdef Py_ssize_t width = a.nv * VL * sizeof(float)
    if tiles > 1:
        send_during(t, a.nv, <const char*> t.panel + depth * width, depth * width, tiles * depth)
    else:
        t.ahead, t.ahead_apart, t.ahead_step = <const char*> t.panel + NEXT, BYTES, width
        t.ahead_lines = lines_at_once(unrolled(tile_rows(a.nv), a.nv) * width)


cdef void multiply_panel(const Attributes* a, Multiply by_width, Tile* t, const float* x, float* y,
                         Py_ssize_t rows) noexcept nogil:
    """``rows`` rows times the panel at ``t.panel``, a deep one in parts, each added to those before."""
    cdef Py_ssize_t parts = (a.depth + DEPTH - 1) // DEPTH, done = 0, k
    cdef int height = tile_rows(a.nv)
    for k in range(parts):
        t.depth = a.depth * (k + 1) // parts - done
        t.a, t.y = x + done, y
        set_activation(t, a.activation if k == parts - 1 else LINEAR)
        if k > 0:
            t.bias, t.residual = NULL, y
        if a.panels_stream:
            send_panel(a, t, t.depth, tile_count(rows, height))
        stack(by_width, rows, height, a.nv, t)
        t.panel += t.depth * a.nv * VL
        done += t.depth


cdef void multiply(const Attributes* a, Multiply by_width, Tile* t, const float* x, const float* panels,
                   const float* b, float* y, const float* residual, Py_ssize_t rows,
                   Py_ssize_t panel, Py_ssize_t last) noexcept nogil:
    """``rows`` rows times panels ``panel`` to ``last``, none of which is empty."""
    cdef Py_ssize_t width = a.nv * VL, tiles = tile_count(rows, tile_rows(a.nv)), p
    send_nothing(t)
    if a.rows_ahead:
        send_during(t, a.nv, <const char*> (x + rows * a.a_step), rows * a.a_step * sizeof(float),
                    tiles * a.depth * min(last - panel, <Py_ssize_t> SOON))
    t.panel = panels + panel * a.depth * width
    for p in range(panel, last):
        if p == panel + SOON:
            send_nothing(t)
        t.bias, t.residual = b, residual
        if b != NULL:
            t.bias += p * width
        if residual != NULL:
            t.residual += p * width
        t.columns = min(width, a.columns - p * width)
        multiply_panel(a, by_width, t, x, y + p * width, rows)


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const float* panels = <const float*> buffers[step.operand[1]]
    cdef const float* b = <const float*> buffers[step.operand[2]]
    cdef const float* residual
    cdef float* y = <float*> buffers[step.operand[4]]
    cdef Py_ssize_t item, i, j, row
    cdef Tile t
    cdef bint stream = (a.stream and a.depth <= DEPTH
                        and can_stream(y, a.y_step, a.nv, a.activation))
    cdef Multiply tiles = stream_tiles if stream else multiply_tiles
    t.taps, t.tap, t.row_step, t.tap_step = 1, NULL, a.a_step, 0
    t.y_step, t.y_distant = a.y_step, a.distant
    for item in range(begin, end):
        i = item % a.row_blocks if a.panels_first else item // a.panel_blocks
        j = item // a.row_blocks if a.panels_first else item % a.panel_blocks
        row = a.rows * i // a.row_blocks
        residual = <const float*> buffers[step.operand[3]]
        if residual != NULL:
            residual += row * a.y_step
        multiply(a, tiles, &t, x + row * a.a_step, panels, b, y + row * a.y_step, residual,
                 a.rows * (i + 1) // a.row_blocks - row,
                 a.panels * j // a.panel_blocks, a.panels * (j + 1) // a.panel_blocks)
    if stream:
        vstream_end()


def multiply_packed(rows, depth, columns, nv, *, row_blocks, panel_blocks, panels_first=False,
                    chained=False, activation=0, stream=False, distant=False, a_step=None, y_step=None):
    """a (rows, depth), panels of w (depth, columns), b (columns) or absent, residual or absent
    -> y (rows, columns), past the caches where ``stream`` says so; rows of a and y lie ``a_step`` and
    ``y_step`` floats apart; ``chained``: only the panels of an item are there when it is done"""
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.rows, a.depth, a.columns, a.nv = rows, depth, columns, nv
    a.activation, a.stream = activation, stream
    a.a_step, a.y_step = a_step or depth, y_step or columns
    a.panels = (a.columns + a.nv * VL - 1) // (a.nv * VL)
    a.row_blocks, a.panel_blocks, a.panels_first = row_blocks, panel_blocks, panels_first
    a.panels_stream = panels_first and not chained
    a.distant, a.rows_ahead = distant, distant and a.a_step <= SPREAD * a.depth
    items = a.row_blocks * a.panel_blocks if a.rows and a.columns else 0
    return kernel("gemm", run, items, 0, &a, sizeof(a))
