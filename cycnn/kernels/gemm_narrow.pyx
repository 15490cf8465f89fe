"""Matrix product with few columns, of which the last ones fill at most half a vector.

    y[m, k] = activation(b[k] + sum over c of a[m, c] * w[c, k] + residual[m, k])

as in `gemm`. Lanes of that vector would idle; they hold the next row of w instead, lane by lane, and meet
two neighbours of a:

    lane           0          1          2          3      ...
    panel     w[c, k]  w[c+1, k]  w[c, k+1]  w[c+1, k+1]   ...     k the first of the last columns
    a            a[c]     a[c+1]       a[c]     a[c+1]     ...     one load

Even and odd lanes are added at the end, so that these columns are sums over even c plus sums over odd c.
a and y are row-major, their rows as far apart as the attributes say, and must not overlap; w comes
packed from `pack`; b and the residual may be absent, and the residual, laid out like y, may be y. An
item is a block of rows.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from .activation cimport RELU6, activate_all, between
from .ahead cimport send_for
from .isa cimport (
    VL, vadd, vf, vfma, vload, vload_part, vpick, vset1, vset2, vstore, vstore_part,
    vu_load, vzero, vzip_low,
)
from .stack cimport stack, tile_count
from .step cimport Step, kernel
from .tile cimport Tile, send_nothing, set_activation

cdef extern from *:
    """
    static const uint32_t EVEN[16] = {0, 2, 4, 6, 8, 10, 12, 14};
    static const uint32_t ODD[16] = {1, 3, 5, 7, 9, 11, 13, 15};
    """
    const uint32_t* EVEN
    const uint32_t* ODD

cdef enum:
    MOST = 2    # whole vectors of columns

cdef struct Attributes:
    Py_ssize_t rows
    Py_ssize_t depth
    Py_ssize_t columns
    Py_ssize_t a_step       # floats from a row of a to the next,
    Py_ssize_t y_step       # and of y
    Py_ssize_t row_blocks
    bint rows_ahead         # whether the next rows of a are sent for
    int activation

cdef struct Packing:
    Py_ssize_t depth
    Py_ssize_t columns
    Py_ssize_t row_step     # floats of w from a row to the next,
    Py_ssize_t column_step  # and from a column


def suits(columns):
    """Whether the kernel takes so many columns."""
    return columns // VL <= MOST and 0 < columns % VL <= VL // 2


cdef inline int height(const int whole) noexcept nogil:
    """Rows of the tile of ``whole`` vectors and a half, so that gcc keeps all sums in registers."""
    if VL == 16:
        return 8 if whole == 2 else 14
    return 10 if whole == 0 else 5 if whole == 1 else 3


def tile_height(columns):
    """Rows of the tile."""
    return height(columns // VL)


cdef inline void multiply_row(const int mr, const int whole, const float* a, Py_ssize_t step,
                              const float* panel, vf* acc) noexcept nogil:
    """One row of w: its whole vectors."""
    cdef vf b[MOST]
    cdef vf x
    cdef int i, j
    for j in range(whole):
        b[j] = vload(panel + j * VL)
    for i in range(mr):
        x = vset1(a[i * step])
        for j in range(whole):
            acc[i * whole + j] = vfma(x, b[j], acc[i * whole + j])


cdef inline void tile(const int mr, const int whole, const Tile* t) noexcept nogil:
    """``mr`` rows, ``whole`` vectors and a half: what `tile.tile` does, but for the order of the
    last columns' sums, and for sending for two lines a turn, ``t.ahead_step`` apart."""
    cdef vf acc[MOST * 8]
    cdef vf half[14]
    cdef vf x
    cdef const char* ahead = t.ahead
    cdef const float* a
    cdef const float* panel
    cdef const float* r
    cdef float* y
    cdef Py_ssize_t rest = t.columns - whole * VL, step = t.row_step, n, _c
    cdef int i, j
    for n in range(t.count):
        for j in range(whole):
            x = vload(t.bias + j * VL) if t.bias != NULL else vzero()
            for i in range(mr):
                acc[i * whole + j] = x
        x = vzero()
        if t.bias != NULL:
            x = vzip_low(vload_part(t.bias + whole * VL, rest), x)
        for i in range(mr):
            half[i] = x
        a, panel = t.a + n * mr * step, t.panel
        for _c in range(t.depth // 2):
            multiply_row(mr, whole, a, step, panel, acc)
            multiply_row(mr, whole, a + 1, step, panel + whole * VL, acc)
            x = vload(panel + 2 * whole * VL)
            for i in range(mr):
                half[i] = vfma(vset2(a + i * step), x, half[i])
            send_for(ahead)
            send_for(ahead + t.ahead_step)
            ahead += 2 * t.ahead_step
            panel += (2 * whole + 1) * VL
            a += 2
        if t.depth % 2:
            multiply_row(mr, whole, a, step, panel, acc)
            x = vload(panel + 2 * whole * VL)
            for i in range(mr):
                half[i] = vfma(vzip_low(vset1(a[i * step]), vzero()), x, half[i])
        for i in range(mr):
            half[i] = vadd(vpick(half[i], vu_load(EVEN)), vpick(half[i], vu_load(ODD)))
        if t.residual != NULL:
            for i in range(mr):
                r = t.residual + (n * mr + i) * t.y_step
                for j in range(whole):
                    acc[i * whole + j] = vadd(acc[i * whole + j], vload(r + j * VL))
                half[i] = vadd(half[i], vload_part(r + whole * VL, rest))
        for i in range(mr * whole):
            acc[i] = between(t.bounds[0], t.bounds[1], acc[i])
        for i in range(mr):
            half[i] = between(t.bounds[0], t.bounds[1], half[i])
        for i in range(mr):
            y = t.y + (n * mr + i) * t.y_step
            for j in range(whole):
                vstore(y + j * VL, acc[i * whole + j])
            vstore_part(y + whole * VL, half[i], rest)


cdef inline void tiles(const int whole, int mr, const Tile* t) noexcept nogil:
    """The tiles with ``1 <= mr <= height(whole)`` rows: one specialised copy per height."""
    if mr == 1:
        tile(1, whole, t)
    elif mr == 2:
        tile(2, whole, t)
    elif mr == 3:
        tile(3, whole, t)
    elif mr == 4 and height(whole) >= 4:
        tile(4, whole, t)
    elif mr == 5 and height(whole) >= 5:
        tile(5, whole, t)
    elif mr == 6 and height(whole) >= 6:
        tile(6, whole, t)
    elif mr == 7 and height(whole) >= 7:
        tile(7, whole, t)
    elif mr == 8 and height(whole) >= 8:
        tile(8, whole, t)
    elif mr == 9 and height(whole) >= 9:
        tile(9, whole, t)
    elif mr == 10 and height(whole) >= 10:
        tile(10, whole, t)
    elif mr == 11 and height(whole) >= 11:
        tile(11, whole, t)
    elif mr == 12 and height(whole) >= 12:
        tile(12, whole, t)
    elif mr == 13 and height(whole) >= 13:
        tile(13, whole, t)
    elif mr == 14 and height(whole) >= 14:
        tile(14, whole, t)


cdef void tiles_of_width(int whole, int mr, const Tile* t) noexcept nogil:
    cdef Py_ssize_t i
    if whole == 0:
        tiles(0, mr, t)
    elif whole == 1:
        tiles(1, mr, t)
    else:
        tiles(2, mr, t)
    if t.activation > RELU6:
        for i in range(t.count * mr):
            activate_all(t.activation, t.y + i * t.y_step, t.y + i * t.y_step, t.columns)


cdef void multiply_rows(const Attributes* a, Tile* t, Py_ssize_t rows) noexcept nogil:
    """``rows`` rows from ``t.a`` on."""
    cdef int whole = <int> (a.columns // VL)
    if rows and a.rows_ahead:
        t.ahead = <const char*> (t.a + rows * a.a_step)
        t.ahead_step = rows * sizeof(float) // tile_count(rows, height(whole))
    stack(tiles_of_width, rows, height(whole), whole, t)


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const float* residual = <const float*> buffers[step.operand[3]]
    cdef float* y = <float*> buffers[step.operand[4]]
    cdef Py_ssize_t item, row
    cdef Tile t
    t.taps, t.depth, t.row_step, t.y_step = 1, a.depth, a.a_step, a.y_step
    t.panel = <const float*> buffers[step.operand[1]]
    t.bias = <const float*> buffers[step.operand[2]]
    t.columns, t.residual = a.columns, NULL
    send_nothing(&t)
    set_activation(&t, a.activation)
    for item in range(begin, end):
        row = a.rows * item // a.row_blocks
        t.a, t.y = x + row * a.a_step, y + row * a.y_step
        if residual != NULL:
            t.residual = residual + row * a.y_step
        multiply_rows(a, &t, a.rows * (item + 1) // a.row_blocks - row)


def multiply(rows, depth, columns, *, row_blocks, distant=False, activation=0, a_step=None,
             y_step=None):
    """a (rows, depth), w (depth, columns) from `pack`, b (columns) or absent, residual or absent
    -> y (rows, columns); rows of a and y lie ``a_step`` and ``y_step`` floats apart; rows of a
    are sent for where a and y are ``distant``, beyond the nearer caches"""
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.rows, a.depth, a.columns, a.activation = rows, depth, columns, activation
    a.a_step, a.y_step, a.row_blocks = a_step or depth, y_step or columns, row_blocks
    a.rows_ahead = distant and a.a_step == a.depth
    return kernel("gemm_narrow", run, a.row_blocks if rows else 0, 0, &a, sizeof(a))


cdef void read_row(const Packing* a, const float* w, Py_ssize_t row, float* to) noexcept nogil:
    """Row ``row`` of w, or zeros below the last."""
    cdef Py_ssize_t j
    if row == a.depth:
        memset(to, 0, a.columns * sizeof(float))
    elif a.column_step == 1:
        memcpy(to, w + row * a.row_step, a.columns * sizeof(float))
    else:
        for j in range(a.columns):
            to[j] = w[row * a.row_step + j * a.column_step]


cdef void pack_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                   char* scratch) noexcept nogil:
    """Two rows of w in each item: their whole vectors, then what is left of both, lane by lane."""
    cdef const Packing* a = <const Packing*> step.attributes
    cdef const float* w = <const float*> buffers[step.operand[0]]
    cdef Py_ssize_t whole = a.columns // VL, item, i, j
    cdef float* to = <float*> buffers[step.operand[1]] + begin * (2 * whole + 1) * VL
    cdef float rows[2][(MOST + 1) * VL]
    memset(rows, 0, sizeof(rows))
    for item in range(begin, end):
        for i in range(2):
            read_row(a, w, 2 * item + i, rows[i])
            for j in range(whole):
                vstore(to, vload(rows[i] + j * VL))
                to += VL
        vstore(to, vzip_low(vload(rows[0] + whole * VL), vload(rows[1] + whole * VL)))
        to += VL


def pack(depth, columns, transposed=False):
    """w (depth, columns), or (columns, depth) where ``transposed`` -> what `multiply` reads

    The kernel, and how many bytes that is.
    """
    cdef Packing a
    memset(&a, 0, sizeof(a))
    a.depth, a.columns = depth, columns
    a.row_step, a.column_step = (1, depth) if transposed else (columns, 1)
    pairs = (depth + 1) // 2
    nbytes = 4 * pairs * (2 * (columns // VL) + 1) * VL
    return kernel("pack_narrow", pack_run, pairs, 0, &a, sizeof(a)), nbytes
