"""Pack a matrix, or one matrix per tap and group, into panels for the tile.

    panel[g][p][t][i][j] = w[t', i, p * NR + j] of group g, zero beyond the last column

so that a tile reads its second operand once, in order, on cache lines of its own. ``t'`` is t, or
taps - 1 - t where the order is reversed. An item is one tap of one panel.
"""

from libc.string cimport memcpy, memset

from .isa cimport MR2, MR4, VL, vf, vload_part, vstore, vtranspose, vzero
from .step cimport Run, Step, kernel
from .tile cimport tile_rows

cdef struct Attributes:
    Py_ssize_t taps
    Py_ssize_t depth
    Py_ssize_t columns
    Py_ssize_t panels       # of a group
    Py_ssize_t width        # NR
    Py_ssize_t tap_step     # floats from w of one tap to the next,
    Py_ssize_t group_step   # of one group to the next,
    Py_ssize_t step         # of one row to the next (transposed: of one column to the next)
    Py_ssize_t reverse

cdef struct Widening:
    Py_ssize_t rows
    Py_ssize_t taps         # of a row of w,
    Py_ssize_t wide_taps    # and of the wider window
    Py_ssize_t depth
    Py_ssize_t filters
    Py_ssize_t count
    Py_ssize_t stride

VECTOR = VL

# Share of the FMA peak that a tile of 4, 2 and 1 vectors reaches, where columns leave a choice. That of one
# vector broadcasts a number for every multiply-add: with AVX2, a Zen 4 does the one once a cycle, the other
# twice, and reaches 0.52.
SHARE = {2: 1.0, 1: 0.9} if MR4 < 3 else {4: 1.0, 2: 0.98, 1: 0.85 if VL == 16 else 0.6}


def panel_vectors(columns, tall=False):
    """Vectors in a panel row: what wastes the least on ``columns`` columns.

    ``tall`` prefers the tile of two vectors where that holds more sums than the one of four.
    """
    widest = 2 if tall and 2 * MR2 > 4 * MR4 else 4

    def share(nv):
        width = nv * VL
        return SHARE[nv] * columns / ((columns + width - 1) // width * width)
    return max((nv for nv in SHARE if nv <= widest), key=share)


def tile_height(nv):
    """Rows of the tile that is ``nv`` vectors wide."""
    return tile_rows(nv)


def panel_bytes(columns, depth, nv, taps=1, groups=1):
    """Size of all panels."""
    width = nv * VL
    return 4 * groups * ((columns + width - 1) // width) * width * depth * taps


cdef const float* source(const Attributes* a, const float* w, Py_ssize_t item) noexcept nogil:
    cdef Py_ssize_t tap = item % a.taps, group = item // (a.taps * a.panels)
    tap = a.taps - 1 - tap if a.reverse else tap
    return w + tap * a.tap_step + group * a.group_step


cdef void rows_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                   char* scratch) noexcept nogil:
    """w[t, i, j] lies at t * tap_step + g * group_step + i * step + j"""
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef float* panels = <float*> buffers[step.operand[1]]
    cdef const float* w
    cdef float* to
    cdef Py_ssize_t item, _i, first, n
    for item in range(begin, end):
        first = item // a.taps % a.panels * a.width
        n = min(a.width, a.columns - first)
        w = source(a, <const float*> buffers[step.operand[0]], item) + first
        to = panels + item * a.depth * a.width
        for _i in range(a.depth):
            memcpy(to, w, n * sizeof(float))
            if n < a.width:
                memset(to + n, 0, (a.width - n) * sizeof(float))
            w += a.step
            to += a.width


cdef void columns_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    """w[t, i, j] lies at t * tap_step + g * group_step + j * step + i: packed transposed"""
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef float* panels = <float*> buffers[step.operand[1]]
    cdef const float* w
    cdef float* to
    cdef Py_ssize_t item, j, first, n
    for item in range(begin, end):
        first = item // a.taps % a.panels * a.width
        w = source(a, <const float*> buffers[step.operand[0]], item) + first * a.step
        to = panels + item * a.depth * a.width
        for j in range(a.width // VL):
            n = max(<Py_ssize_t> 0, min(<Py_ssize_t> VL, a.columns - first - j * VL))
            transpose_columns(w + j * VL * a.step, a.step, n, to + j * VL, a.width, a.depth)


cdef void transpose_columns(const float* w, Py_ssize_t step, Py_ssize_t n, float* to,
                            Py_ssize_t width, Py_ssize_t depth) noexcept nogil:
    """to[i * width + j] = w[j * step + i] for j < n, 0 for n <= j < VL"""
    cdef vf block[VL]
    cdef Py_ssize_t i = 0, j, m
    while i < depth:
        m = min(<Py_ssize_t> VL, depth - i)
        for j in range(VL):
            block[j] = vload_part(w + j * step + i, m) if j < n else vzero()
        vtranspose(block)
        for j in range(m):
            vstore(to + (i + j) * width, block[j])
        i += VL


cdef void widen_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                    char* scratch) noexcept nogil:
    cdef const Widening* a = <const Widening*> step.attributes
    cdef const float* w = <const float*> buffers[step.operand[0]]
    cdef float* to = <float*> buffers[step.operand[1]]
    cdef Py_ssize_t width = a.count * a.filters, row, i, j
    memset(to + begin * a.wide_taps * a.depth * width, 0,
           (end - begin) * a.wide_taps * a.depth * width * sizeof(float))
    for row in range(begin, end):
        for i in range(a.taps * a.depth):
            for j in range(a.count):
                memcpy(to + ((row * a.wide_taps + j * a.stride) * a.depth + i) * width
                       + j * a.filters,
                       w + (row * a.taps * a.depth + i) * a.filters, a.filters * sizeof(float))


cdef object offer(str name, Run run, Attributes* a, Py_ssize_t groups, Py_ssize_t nv):
    a.width = nv * VL
    a.panels = (a.columns + a.width - 1) // a.width
    return kernel(name, run, groups * a.panels * a.taps, 0, a, sizeof(Attributes))


def rows(shape, nv, groups=1):
    """w of ``shape`` (taps, depth, groups * columns) -> panels"""
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.taps, a.depth, columns = shape
    a.columns = columns // groups
    a.tap_step, a.group_step, a.step = a.depth * columns, a.columns, columns
    a.reverse = False
    return offer("pack_rows", rows_run, &a, groups, nv)


def columns(shape, nv, groups=1, reverse=False):
    """w of ``shape`` (taps, columns, groups * depth) -> panels of the transpose of each"""
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.taps, a.columns, depth = shape
    a.depth = depth // groups
    a.tap_step, a.group_step, a.step = a.columns * depth, a.depth, depth
    a.reverse = reverse
    return offer("pack_columns", columns_run, &a, groups, nv)


def widen(shape, count, stride):
    """w of ``shape`` (kh, kw, depth, filters) -> (kh, kw + (count - 1) * stride, depth, count * filters)

    with w once for each of ``count`` neighbouring pixels, ``stride`` taps apart, and zeros around it:
    ``y[r, s + j * stride, c, j * filters + k] = w[r, s, c, k]``. An item is a row.
    """
    cdef Widening a
    memset(&a, 0, sizeof(a))
    a.rows, a.taps, a.depth, a.filters = shape
    a.count, a.stride, a.wide_taps = count, stride, a.taps + (count - 1) * stride
    return kernel("widen", widen_run, a.rows, 0, &a, sizeof(a))
