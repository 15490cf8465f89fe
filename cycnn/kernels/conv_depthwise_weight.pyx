"""Weight gradient of depthwise convolution, one window per channel, over NHWC pixels:

    dw[r, s, c] (+)= sum over n, p, q of x[n, row(p, r), col(q, s), c] * dy[n, p, q, c]

with row() and col() those of the only phase of an axis, see grid.pxd. Channels are the lanes of the
vectors. Items are those of weight_bands.pxd. Nothing may overlap.

The tile keeps the sums of some rows of taps times a vector of channels in registers while it walks over
the pixels of a band of rows, several neighbours at a time: what several taps share is loaded once.
"""

from libc.string cimport memset

from .bands cimport read
from .grid cimport Axis
from .isa cimport VL, anew, vadd, vf, vfma, vstore, vstore_part, vzero
from .step cimport Step
from .weight_bands cimport Band, Bands, offer_bands, run_bands, send_ahead

cdef enum:
    MANY = VL == 16                 # there are 32 registers, not 16
    FEW = VL == 4                   # products need a register of their own
    WIDEST = 19                     # taps of a row, and as many more as pixels reach on both sides
    ROWS5 = 2 + 3 * MANY            # rows of 5 taps that a tile takes,
    ROWS7 = 1 + 2 * MANY            # and of 7 taps
    WIDE = 4 + 3 * MANY - FEW       # pixels that tiles of 3 and 7 taps take together,
    NARROW = 4 - 2 * FEW            # those of stride 2,
    NARROW5 = 3 + MANY - FEW        # and those of 5 taps

DISTANT = 2**20     # bytes of x and dy together that are beyond the nearest caches
VECTOR = VL


cdef inline Py_ssize_t tile(const int rows, const int taps, const int stride, const int np,
                            const bint part, Band* t, Py_ssize_t c, Py_ssize_t r,
                            Py_ssize_t s) noexcept nogil:
    """Taps s, ..., s + ``taps`` - 1 of the rows of taps from r on, ``rows`` together as long as there are
    so many; return the first row that is left. Where ``stride`` is 0, it is any, and np is 1."""
    cdef vf sums[5][WIDEST]     # with those beyond the taps, which gcc drops: no condition need say so
    cdef vf d[8]
    cdef vf v
    cdef const float** x[5]
    cdef const float* y
    cdef float* dw
    cdef Py_ssize_t lanes = t.channels - c, p, step, rest
    cdef Py_ssize_t _q
    cdef int over = (np - 1) * stride, i, j, k
    while r + rows <= t.window:
        dw = t.dw + (r * t.taps + s) * t.channels + c
        for i in range(rows):
            for j in range(taps + 2 * over):
                sums[i][j] = vzero()
        for p in range(t.rows):
            y = t.dy + p * t.dy_row + c
            for i in range(rows):
                x[i] = t.x[p * t.window + r + i] + s
            if np > 1:
                for _q in range(t.columns // np):
                    send_ahead(t, np)
                    for k in range(np):
                        d[k] = read(part, y, lanes)
                        y += t.dy_column
                    for i in range(rows):
                        x[i] = anew(x[i])
                        for j in range((np - 1) * stride + taps):
                            v = read(part, x[i][j] + c, lanes)
                            for k in range(np):
                                sums[i][over + j - k * stride] = vfma(
                                    v, d[k], sums[i][over + j - k * stride])
                        x[i] += np * stride
            step = stride if stride else t.stride
            rest = t.columns % np if np > 1 else t.columns
            send_ahead(t, rest)
            for _q in range(rest):
                v = read(part, y, lanes)
                y += t.dy_column
                for i in range(rows):
                    for j in range(taps):
                        sums[i][over + j] = vfma(
                            read(part, x[i][j] + c, lanes), v, sums[i][over + j])
                    x[i] += step
        if t.add:
            for i in range(rows):
                for j in range(taps):
                    sums[i][over + j] = vadd(
                        read(part, dw + (i * t.taps + j) * t.channels, lanes), sums[i][over + j])
        for i in range(rows):
            for j in range(taps):
                if part:
                    vstore_part(dw + (i * t.taps + j) * t.channels, sums[i][over + j], lanes)
                else:
                    vstore(dw + (i * t.taps + j) * t.channels, sums[i][over + j])
        r += rows
    return r


cdef inline void vector_of_channels(const bint part, Band* t, Py_ssize_t c) noexcept nogil:
    """All taps for the channels from c on."""
    cdef Py_ssize_t r = 0, s
    if t.taps == 3 and t.stride == 1:
        r = tile(3, 3, 1, WIDE, part, t, c, 0, 0)
    elif t.taps == 3 and t.stride == 2:
        r = tile(3, 3, 2, NARROW, part, t, c, 0, 0)
    elif t.taps == 5 and t.stride == 1:
        r = tile(ROWS5, 5, 1, NARROW5, part, t, c, 0, 0)
    elif t.taps == 5 and t.stride == 2:
        r = tile(ROWS5, 5, 2, NARROW5, part, t, c, 0, 0)
    elif t.taps == 7 and t.stride == 1:
        r = tile(ROWS7, 7, 1, WIDE, part, t, c, 0, 0)
    s = 0
    while r < t.window and s < t.taps:
        if t.taps - s >= 7:
            tile(1, 7, 0, 1, part, t, c, r, s)
            s += 7
        elif t.taps - s >= 5:
            tile(1, 5, 0, 1, part, t, c, r, s)
            s += 5
        elif t.taps - s >= 3:
            tile(1, 3, 0, 1, part, t, c, r, s)
            s += 3
        else:
            tile(1, 1, 0, 1, part, t, c, r, s)
            s += 1


cdef void whole_vector(Band* t, Py_ssize_t c) noexcept nogil:
    vector_of_channels(False, t, c)


cdef void last_vector(Band* t, Py_ssize_t c) noexcept nogil:
    vector_of_channels(True, t, c)


cdef void sum_vectors(Band* t, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t v
    for v in range(begin, end):
        if (v + 1) * VL <= t.channels:
            whole_vector(t, v * VL)
        else:
            last_vector(t, v * VL)


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Bands* a = <const Bands*> step.attributes
    run_bands(sum_vectors, a, <const Axis*> (a + 1), step, buffers, begin, end, scratch)


def gradient(images, channels, rows, columns, *, chunks, channel_blocks, band, accumulate):
    """(x, dy) -> out: ``chunks`` partial sums of dw, or dw itself where ``chunks`` is 1.

    ``rows`` and ``columns`` are the `Axis` of each spatial axis, of the convolution. ``accumulate``
    adds to what ``out`` holds.
    """
    cdef Bands a
    memset(&a, 0, sizeof(a))
    a.images, a.x_channels, a.y_channels, a.depth = images, channels, channels, 1
    a.x_width, a.y_width, a.vectors = VL, VL, (channels + VL - 1) // VL
    a.chunks, a.blocks, a.band, a.accumulate = chunks, channel_blocks, band, accumulate
    return offer_bands("conv_depthwise_weight", run, &a, sizeof(a), rows, columns, DISTANT)
