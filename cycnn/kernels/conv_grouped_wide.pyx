"""Convolution in groups that fill vectors, over NHWC pixels, and its gradient for the data.

    y[n, p, q, g, k] = activation(b[g, k] + sum over taps r, s, over c of
                                  x[n, row(p, r), col(q, s), g, c] * w[r, s, g, c, k])

with row() and col() those of the phases of an axis, see grid.pxd. b may be absent, x and y must not
overlap. w comes packed from `pack`, in panels of one vector; the last of a group may have lanes to spare.

An item is a band of rows of one image at a block of groups, see bands.pxd. The tile is a row of
neighbouring pixels times one or two vectors: a channel of x is broadcast once for all taps of a row that
read it. That is for groups of few channels, where a taller tile than a row's has little to sum.
"""

from libc.string cimport memset

from .bands cimport (
    Band, Bands, next_strip, offer_bands, put, run_bands, send_ahead, width_of_strip,
)
from .grid cimport Axis
from .isa cimport VL, vf, vfma, vload, vload_part, vset1, vzero
from .step cimport Step

cdef enum:
    MANY = VL == 16             # there are 32 registers, not 16
    WIDEST = 8 + 6 * MANY       # columns of a strip one vector wide,
    WIDE = 4 + 4 * MANY         # and of one of two vectors

DISTANT = 2**20     # bytes of x and y together that are beyond the nearest caches

cdef struct Attributes:         # followed by the axes
    Bands bands
    Py_ssize_t groups
    Py_ssize_t depth            # channels of x in a group,
    Py_ssize_t filters          # and of y,
    Py_ssize_t panels           # which are so many vectors


cdef inline void tile(const int nv, const int np, const int taps, const int stride,
                      const Attributes* a, Band* t, Py_ssize_t p, Py_ssize_t group,
                      Py_ssize_t panel) noexcept nogil:
    """``np`` pixels of row p at ``nv`` vectors. Where ``taps`` is 0, their number and the stride are any."""
    cdef vf acc[2][14]
    cdef vf w[6]
    cdef vf x
    cdef Py_ssize_t from_x = group * a.depth, first = group * a.filters + panel * VL
    cdef Py_ssize_t lanes = min(<Py_ssize_t> VL, a.filters - (panel + nv - 1) * VL), _, c, s
    cdef Py_ssize_t size = a.bands.taps * a.bands.w_tap
    cdef const float** table = t.row[p].table + t.first
    cdef const float* weights = t.row[p].w + (group * a.panels + panel) * size
    cdef int i, j, u, v
    for v in range(nv):
        x = vzero() if t.b == NULL else vload_part(
            t.b + first + v * VL, VL if v < nv - 1 else lanes)
        for i in range(np):
            acc[v][i] = x
    for _ in range(t.row[p].taps):
        for c in range(a.depth):
            if taps > 0:
                for v in range(nv):
                    for u in range(taps):
                        w[v * taps + u] = vload(weights + v * size + u * t.w_tap + c * VL)
                for j in range((np - 1) * stride + taps):
                    x = vset1(table[j][from_x + c])
                    for i in range(np):
                        if 0 <= j - i * stride and j - i * stride < taps:
                            for v in range(nv):
                                acc[v][i] = vfma(x, w[v * taps + j - i * stride], acc[v][i])
            else:
                for s in range(t.taps):
                    for v in range(nv):
                        w[v] = vload(weights + v * size + s * t.w_tap + c * VL)
                    for i in range(np):
                        x = vset1(table[i * t.stride + s][from_x + c])
                        for v in range(nv):
                            acc[v][i] = vfma(x, w[v], acc[v][i])
        table += t.table_step
        weights += t.w_row
        send_ahead(t)
    if nv > 1:
        put(np, False, acc[0], t.y + p * t.y_row + first, t, VL)
    if lanes == VL:
        put(np, False, acc[nv - 1], t.y + p * t.y_row + first + (nv - 1) * VL, t, VL)
    else:
        put(np, True, acc[nv - 1], t.y + p * t.y_row + first + (nv - 1) * VL, t, lanes)


cdef inline void strip(const int nv, const int np, const int taps, const int stride,
                       const Attributes* a, Band* t, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """``np`` columns of all rows at groups ``begin`` to ``end``, ``nv`` vectors at a time."""
    cdef Py_ssize_t p, g, v
    for p in range(t.rows):
        for g in range(begin, end):
            v = 0
            while v + nv <= a.panels:
                tile(nv, np, taps, stride, a, t, p, g, v)
                v += nv
            while nv > 1 and v < a.panels:
                tile(1, np, taps, stride, a, t, p, g, v)
                v += 1


cdef inline void strip_of_width(const int nv, const int np, const Attributes* a, Band* t,
                                Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    if t.stride == 1 and t.taps == 3:
        strip(nv, np, 3, 1, a, t, begin, end)
    elif t.stride == 2 and t.taps == 3:
        strip(nv, np, 3, 2, a, t, begin, end)
    elif t.stride == 1 and t.taps == 2:
        strip(nv, np, 2, 1, a, t, begin, end)
    elif t.stride == 1 and t.taps == 1:
        strip(nv, np, 1, 1, a, t, begin, end)
    else:
        strip(nv, np, 0, 0, a, t, begin, end)


cdef void strip_of_one(Py_ssize_t np, const Attributes* a, Band* t, Py_ssize_t begin,
                       Py_ssize_t end) noexcept nogil:
    if MANY and np == 14:
        strip_of_width(1, 14, a, t, begin, end)
    elif np == 8:
        strip_of_width(1, 8, a, t, begin, end)
    elif np == 7:
        strip_of_width(1, 7, a, t, begin, end)
    else:
        strip_of_width(1, 4, a, t, begin, end)


cdef void strip_of_two(Py_ssize_t np, const Attributes* a, Band* t, Py_ssize_t begin,
                       Py_ssize_t end) noexcept nogil:
    if MANY and np == 8:
        strip_of_width(2, 8, a, t, begin, end)
    elif MANY and np == 7:
        strip_of_width(2, 7, a, t, begin, end)
    else:
        strip_of_width(2, 4, a, t, begin, end)


cdef void all_strips(Band* t, Py_ssize_t columns) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> t.attributes
    cdef Py_ssize_t begin = a.groups * t.block // a.bands.blocks
    cdef Py_ssize_t end = a.groups * (t.block + 1) // a.bands.blocks
    cdef Py_ssize_t q = 0, np
    cdef bint two = a.panels > 1
    while q < columns:
        np = width_of_strip(columns - q, WIDE if two else WIDEST)
        t.columns = min(np, columns - q)
        if two:
            strip_of_two(np, a, t, begin, end)
        else:
            strip_of_one(np, a, t, begin, end)
        next_strip(t, begin * a.filters, (end - begin) * a.filters)
        q += np


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    run_bands(all_strips, &a.bands, <const Axis*> (a + 1), step, buffers, begin, end, scratch)


def convolve(images, channels, filters, rows, columns, *, groups, blocks, band, activation=0):
    """x (N, H, W, channels), panels of w, b (filters) or absent -> y (N, P, Q, filters)

    ``rows`` and ``columns`` are the `Axis` of each spatial axis; an item is ``band`` rows of a phase
    and one of ``blocks`` blocks of groups.
    """
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.groups, a.depth, a.filters = groups, channels // groups, filters // groups
    a.panels = (a.filters + VL - 1) // VL
    a.bands.images, a.bands.band, a.bands.blocks, a.bands.activation = images, band, blocks, activation
    a.bands.x_channels, a.bands.y_channels, a.bands.pairs = channels, filters, False
    a.bands.taps = rows.window * columns.window
    a.bands.w_tap, a.bands.vectors = a.depth * VL, max(a.groups // blocks * a.panels, <Py_ssize_t> 1)
    return offer_bands("conv_grouped_wide", run, &a.bands, sizeof(a), rows, columns, DISTANT)
