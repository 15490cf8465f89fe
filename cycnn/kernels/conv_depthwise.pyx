"""Depthwise convolution, one window per channel, over NHWC pixels, and its gradient for the data.

    y[n, p, q, c] = activation(b[c] + sum over taps r, s of
                               x[n, row(p, r), col(q, s), c] * w[r, s, c])

with row() and col() those of the phases of an axis, see grid.pxd. Channels are the lanes of the
vectors. w is read as it is, b may be absent, x and y must not overlap.

An item is a band of rows of one image, see bands.pxd. The tile is a row of neighbouring pixels, or two
rows of them, times a vector of channels: what several windows share is loaded once.
"""

from libc.string cimport memset

from .bands cimport (
    Band, Bands, next_strip, offer_bands, put, read, run_bands, send_ahead, width_of_strip,
)
from .grid cimport Axis
from .isa cimport VL, vf, vfma, vzero
from .step cimport Step

cdef enum:
    WIDEST = 14     # columns of a strip
    PAIRS = VL == 16    # there are registers for two rows of pixels

DISTANT = 2**20     # bytes of x and y together that are beyond the nearest caches


cdef inline vf bias(const bint part, const Band* t, Py_ssize_t c) noexcept nogil:
    return vzero() if t.b == NULL else read(part, t.b + c, t.channels - c)


cdef inline void one_row(const int np, const int taps, const int stride, const bint part, Band* t,
                         Py_ssize_t p, Py_ssize_t c) noexcept nogil:
    """``np`` pixels of row p. Where ``taps`` is 0, their number and the stride are any."""
    cdef vf acc[WIDEST]
    cdef vf w[7]
    cdef vf v = bias(part, t, c)
    cdef const float** table = t.row[p].table + t.first
    cdef const float* weights = t.row[p].w + c
    cdef Py_ssize_t lanes = t.channels - c, _, s
    cdef int i, j, u
    for i in range(np):
        acc[i] = v
    for _ in range(t.row[p].taps):
        if taps > 0:
            for u in range(taps):
                w[u] = read(part, weights + u * t.w_tap, lanes)
            for j in range((np - 1) * stride + taps):
                v = read(part, table[j] + c, lanes)
                for i in range(np):
                    if 0 <= j - i * stride and j - i * stride < taps:
                        acc[i] = vfma(v, w[j - i * stride], acc[i])
        else:
            for s in range(t.taps):
                v = read(part, weights + s * t.w_tap, lanes)
                for i in range(np):
                    acc[i] = vfma(v, read(part, table[i * t.stride + s] + c, lanes), acc[i])
        table += t.table_step
        weights += t.w_row
        send_ahead(t)
    put(np, part, acc, t.y + p * t.y_row + c, t, lanes)


cdef inline void row_of_two(const int np, const int r, const bint part, const float** table,
                            Py_ssize_t c, Py_ssize_t lanes, const vf* w, vf* acc) noexcept nogil:
    """Row r of the four that two rows of pixels see."""
    cdef vf v
    cdef int i, j
    for j in range(np + 2):
        v = read(part, table[j] + c, lanes)
        for i in range(np):
            if 0 <= j - i and j - i < 3:
                if r < 3:
                    acc[i] = vfma(v, w[r * 3 + j - i], acc[i])
                if r > 0:
                    acc[np + i] = vfma(v, w[(r - 1) * 3 + j - i], acc[np + i])


cdef inline void two_rows(const int np, const bint part, Band* t, Py_ssize_t p,
                          Py_ssize_t c) noexcept nogil:
    """``np`` pixels of row p and of the next, of windows of 3 x 3 taps and stride 1."""
    cdef vf acc[16]
    cdef vf w[9]
    cdef vf v = bias(part, t, c)
    cdef const float** table = t.row[p].table + t.first
    cdef const float* weights = t.row[p].w + c
    cdef Py_ssize_t lanes = t.channels - c
    cdef int i, r, s
    for i in range(2 * np):
        acc[i] = v
    for r in range(3):
        for s in range(3):
            w[r * 3 + s] = read(part, weights + r * t.w_row + s * t.w_tap, lanes)
    row_of_two(np, 0, part, table, c, lanes, w, acc)
    send_ahead(t)
    row_of_two(np, 1, part, table + t.table_step, c, lanes, w, acc)
    send_ahead(t)
    row_of_two(np, 2, part, table + 2 * t.table_step, c, lanes, w, acc)
    send_ahead(t)
    row_of_two(np, 3, part, table + 3 * t.table_step, c, lanes, w, acc)
    send_ahead(t)
    put(np, part, acc, t.y + p * t.y_row + c, t, lanes)
    put(np, part, acc + np, t.y + (p + 1) * t.y_row + c, t, lanes)


cdef inline void strip(const int np, const int taps, const int stride, const bint part,
                       Band* t) noexcept nogil:
    """``np`` columns of all rows: every whole vector of channels, or the rest of them in ``part``."""
    cdef Py_ssize_t whole = t.channels // VL * VL, p = 0, c
    while p < t.rows:
        c = whole if part else 0
        if PAIRS and taps == 3 and stride == 1 and np <= 8 and t.pairs and p + 1 < t.rows:
            while c < (t.channels if part else whole):
                two_rows(np, part, t, p, c)
                c += VL
            p += 2
        else:
            while c < (t.channels if part else whole):
                one_row(np, taps, stride, part, t, p, c)
                c += VL
            p += 1


cdef inline void strip_of_width(const int np, const bint part, Band* t) noexcept nogil:
    if np == WIDEST:
        if t.taps == 5:
            strip(np, 5, 1, part, t)
        else:
            strip(np, 7, 1, part, t)
    elif t.stride == 1 and t.taps == 3:
        strip(np, 3, 1, part, t)
    elif t.stride == 1 and t.taps == 5:
        strip(np, 5, 1, part, t)
    elif t.stride == 1 and t.taps == 7:
        strip(np, 7, 1, part, t)
    elif t.stride == 1 and t.taps == 2:
        strip(np, 2, 1, part, t)
    elif t.stride == 2 and t.taps == 3:
        strip(np, 3, 2, part, t)
    elif t.stride == 2 and t.taps == 5:
        strip(np, 5, 2, part, t)
    else:
        strip(np, 0, 0, part, t)


cdef void whole_vectors(Py_ssize_t np, Band* t) noexcept nogil:
    if np == 14:
        strip_of_width(14, False, t)
    elif np == 8:
        strip_of_width(8, False, t)
    elif np == 7:
        strip_of_width(7, False, t)
    else:
        strip_of_width(4, False, t)


cdef void last_vector(Py_ssize_t np, Band* t) noexcept nogil:
    if np == 14:
        strip_of_width(14, True, t)
    elif np == 8:
        strip_of_width(8, True, t)
    elif np == 7:
        strip_of_width(7, True, t)
    else:
        strip_of_width(4, True, t)


cdef void all_strips(Band* t, Py_ssize_t columns) noexcept nogil:
    # of large windows the more pixels share a row of weights the better
    cdef bint wide = PAIRS and t.stride == 1 and (t.taps == 5 or t.taps == 7)
    cdef Py_ssize_t q = 0, np
    while q < columns:
        np = WIDEST if wide and columns - q >= WIDEST else width_of_strip(columns - q, 8)
        t.columns = min(np, columns - q)
        whole_vectors(np, t)
        if t.channels % VL:
            last_vector(np, t)
        next_strip(t, 0, t.channels)
        q += np


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Bands* a = <const Bands*> step.attributes
    run_bands(all_strips, a, <const Axis*> (a + 1), step, buffers, begin, end, scratch)


def convolve(images, channels, rows, columns, *, band, activation=0):
    """x (N, H, W, channels), w (kh, kw, 1, channels), b or absent -> y (N, P, Q, channels)

    ``rows`` and ``columns`` are the `Axis` of each spatial axis; an item is ``band`` rows of a phase.
    """
    cdef Bands a
    memset(&a, 0, sizeof(a))
    a.images, a.band, a.blocks, a.activation = images, band, 1, activation
    a.x_channels, a.y_channels, a.w_tap, a.vectors = channels, channels, channels, channels // VL
    a.pairs, a.taps = PAIRS, rows.window * columns.window
    return offer_bands("conv_depthwise", run, &a, sizeof(a), rows, columns, DISTANT)
