"""Convolution in narrow groups of channels over NHWC pixels, and its gradient for the data.

    y[n, p, q, g, k] = activation(b[g, k] + sum over taps r, s, over c of
                                  x[n, row(p, r), col(q, s), g, c] * w[r, s, g, c, k])

with row() and col() those of the phases of an axis, see grid.pxd. A vector holds the channels of y of
several neighbouring groups, `together`, of which each lane needs another group's channel c of x: one
load of neighbouring channels, in which `vpick` finds them. b may be absent, x and y must not overlap. w
comes packed, zero beyond the lanes in use:

    panel[v][tap][c][lane]      lane k of group g of vector v is w[tap, g, c, k]

An item is a band of rows of one image at a block of vectors, see bands.pxd. The tile is a row of
neighbouring pixels times a vector: what several windows share is loaded, and picked from, once.
"""

from libc.string cimport memset

from .bands cimport (
    Band, Bands, next_strip, offer_bands, put, read, run_bands, send_ahead, width_of_strip,
)
from .grid cimport Axis
from .isa cimport (
    VL, vf, vfma, vload, vload_part, vpick, vselect_eq, vset1, vstore, vu, vu_load, vzero,
)
from .lanes cimport Lanes, lay_out, whole_vectors
from .step cimport Run, Step, kernel

cdef enum:
    MANY = VL == 16     # there are registers for the widest strip,
    FEW = VL == 4       # and only for the narrowest
    WIDEST = 14         # columns of a strip

DISTANT = 2**20     # bytes of x and y together that are beyond the nearest caches
VECTOR = VL

cdef struct Attributes:         # followed by the axes
    Bands bands
    Py_ssize_t vectors
    Lanes lanes


cdef inline void tile(const int np, const int taps, const int stride, const bint part,
                      const Attributes* a, Band* t, Py_ssize_t p, Py_ssize_t v) noexcept nogil:
    """``np`` pixels of row p at vector v. Where ``taps`` is 0, their number and the stride are any."""
    cdef vf acc[WIDEST]
    cdef vf w[3]
    cdef vf x
    cdef vu at
    cdef Py_ssize_t depth = a.lanes.depth, first = v * a.lanes.y_width, from_x = v * a.lanes.x_width
    cdef Py_ssize_t lanes = min(a.lanes.y_width, t.channels - first)
    cdef Py_ssize_t x_lanes = min(<Py_ssize_t> VL, a.bands.x_channels - from_x), _, c, s
    cdef const float** table = t.row[p].table + t.first
    cdef const float* weights = t.row[p].w + v * a.bands.w_tap * a.bands.taps
    cdef int i, j, u
    x = vzero() if t.b == NULL else read(part, t.b + first, lanes)
    for i in range(np):
        acc[i] = x
    for _ in range(t.row[p].taps):
        for c in range(depth):
            at = vu_load(a.lanes.at[c])
            if taps > 0:
                for u in range(taps):
                    w[u] = vload(weights + u * t.w_tap + c * VL)
                for j in range((np - 1) * stride + taps):
                    x = vpick(read(part, table[j] + from_x, x_lanes), at)
                    for i in range(np):
                        if 0 <= j - i * stride and j - i * stride < taps:
                            acc[i] = vfma(x, w[j - i * stride], acc[i])
            else:
                for s in range(t.taps):
                    w[0] = vload(weights + s * t.w_tap + c * VL)
                    for i in range(np):
                        x = vpick(read(part, table[i * t.stride + s] + from_x, x_lanes), at)
                        acc[i] = vfma(x, w[0], acc[i])
        table += t.table_step
        weights += t.w_row
        send_ahead(t)
    put(np, part, acc, t.y + p * t.y_row + first, t, lanes)


cdef inline void strip(const int np, const int taps, const int stride, const Attributes* a, Band* t,
                       Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """``np`` columns of all rows at vectors ``begin`` to ``end``."""
    cdef Py_ssize_t whole = whole_vectors(&a.lanes, a.bands.x_channels, t.channels), p, v
    whole = max(begin, min(whole, end))
    for p in range(t.rows):
        for v in range(begin, whole):
            tile(np, taps, stride, False, a, t, p, v)
        for v in range(whole, end):
            tile(np, taps, stride, True, a, t, p, v)


cdef inline void strip_of_width(const int np, const Attributes* a, Band* t, Py_ssize_t begin,
                                Py_ssize_t end) noexcept nogil:
    if t.stride == 1 and t.taps == 3:
        strip(np, 3, 1, a, t, begin, end)
    elif t.stride == 2 and t.taps == 3:
        strip(np, 3, 2, a, t, begin, end)
    elif t.stride == 1 and t.taps == 2:
        strip(np, 2, 1, a, t, begin, end)
    elif t.stride == 1 and t.taps == 1:
        strip(np, 1, 1, a, t, begin, end)
    else:
        strip(np, 0, 0, a, t, begin, end)


cdef void strip_of_14(const Attributes* a, Band* t, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    strip_of_width(14, a, t, begin, end)


cdef void strip_of_8(const Attributes* a, Band* t, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    strip_of_width(8, a, t, begin, end)


cdef void strip_of_7(const Attributes* a, Band* t, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    strip_of_width(7, a, t, begin, end)


cdef void strip_of_4(const Attributes* a, Band* t, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    strip_of_width(4, a, t, begin, end)


cdef void all_strips(Band* t, Py_ssize_t columns) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> t.attributes
    cdef Py_ssize_t begin = a.vectors * t.block // a.bands.blocks
    cdef Py_ssize_t end = a.vectors * (t.block + 1) // a.bands.blocks
    cdef Py_ssize_t first = begin * a.lanes.y_width, q = 0, np
    cdef Py_ssize_t channels = min(end * a.lanes.y_width, t.channels) - first
    while q < columns:
        np = width_of_strip(columns - q, 14 if MANY else 4 if FEW else 8)
        t.columns = min(np, columns - q)
        if MANY and np == 14:
            strip_of_14(a, t, begin, end)
        elif not FEW and np == 8:
            strip_of_8(a, t, begin, end)
        elif not FEW and np == 7:
            strip_of_7(a, t, begin, end)
        else:
            strip_of_4(a, t, begin, end)
        next_strip(t, first, channels)
        q += np


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    run_bands(all_strips, &a.bands, <const Axis*> (a + 1), step, buffers, begin, end, scratch)


def convolve(images, channels, filters, rows, columns, *, groups, blocks, band, activation=0):
    """x (N, H, W, channels), w packed, b (filters) or absent -> y (N, P, Q, filters)

    ``rows`` and ``columns`` are the `Axis` of each spatial axis; an item is ``band`` rows of a phase
    and one of ``blocks`` blocks of vectors. Half a vector has room for a group.
    """
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    lay_out(&a.lanes, channels // groups, filters // groups)
    a.vectors = (filters + a.lanes.y_width - 1) // a.lanes.y_width
    a.bands.images, a.bands.band, a.bands.blocks, a.bands.activation = images, band, blocks, activation
    a.bands.x_channels, a.bands.y_channels, a.bands.pairs = channels, filters, False
    a.bands.w_tap, a.bands.vectors = a.lanes.depth * VL, a.vectors // blocks
    a.bands.taps = rows.window * columns.window
    return offer_bands("conv_grouped", run, &a.bands, sizeof(a), rows, columns, DISTANT)


# ---- packing -------------------------------------------------------------------------------------

cdef struct Packing:
    Py_ssize_t taps
    Py_ssize_t x_channels
    Py_ssize_t y_channels
    Py_ssize_t filters      # channels of y in a group
    Lanes lanes


cdef void rows_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                   char* scratch) noexcept nogil:
    """w (taps, depth, y_channels)"""
    cdef const Packing* a = <const Packing*> step.attributes
    cdef const float* w = <const float*> buffers[step.operand[0]]
    cdef float* to = <float*> buffers[step.operand[1]] + begin * a.taps * a.lanes.depth * VL
    cdef Py_ssize_t v, i, first
    for v in range(begin, end):
        first = v * a.lanes.y_width
        for i in range(a.taps * a.lanes.depth):
            vstore(to, vload_part(w + i * a.y_channels + first,
                                  min(a.lanes.y_width, a.y_channels - first)))
            to += VL


cdef void columns_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    """w (taps, filters, x_channels): the transpose of each group's"""
    cdef const Packing* a = <const Packing*> step.attributes
    cdef const float* w
    cdef float* to = <float*> buffers[step.operand[1]] + begin * a.taps * a.lanes.depth * VL
    cdef vf column = vload(a.lanes.column), sum
    cdef Py_ssize_t v, tap, c, k, first
    for v in range(begin, end):
        first = v * a.lanes.x_width
        for tap in range(a.taps):
            for c in range(a.lanes.depth):
                w = <const float*> buffers[step.operand[0]]
                w += tap * a.filters * a.x_channels + first
                sum = vzero()
                for k in range(a.filters):
                    sum = vselect_eq(column, vset1(<float> k), vpick(
                        vload_part(w + k * a.x_channels, min(<Py_ssize_t> VL, a.x_channels - first)),
                        vu_load(a.lanes.at[c])), sum)
                vstore(to, sum)
                to += VL


def pack(taps, channels, filters, groups, transposed):
    """w -> panels, of how many vectors of y they are, and how many bytes they take

    w is (taps, channels / groups, filters), or ``transposed`` (taps, filters / groups, channels).
    """
    cdef Packing a
    memset(&a, 0, sizeof(a))
    lay_out(&a.lanes, channels // groups, filters // groups)
    a.taps, a.x_channels, a.y_channels, a.filters = taps, channels, filters, filters // groups
    cdef Py_ssize_t vectors = (filters + a.lanes.y_width - 1) // a.lanes.y_width
    cdef Run how = columns_run if transposed else rows_run
    step = kernel("pack_grouped", how, vectors, 0, &a, sizeof(a))
    return step, vectors, 4 * vectors * a.taps * a.lanes.depth * VL
