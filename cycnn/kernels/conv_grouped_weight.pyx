"""Weight gradient of convolution in narrow groups of channels, over NHWC pixels:

    dw[r, s, c, g, k] (+)= sum over n, p, q of x[n, row(p, r), col(q, s), g, c] * dy[n, p, q, g, k]

with row() and col() those of the only phase of an axis, see grid.pxd. A vector holds the channels of dy
of several neighbouring groups, of which each lane needs another group's channel c of x, see lanes.pxd, or
channels of one group where that fills vectors: then channel c is broadcast. Items are those of
weight_bands.pxd. Nothing may overlap.

The tile keeps the sums of some rows of taps and channels c of x times a vector of dy in registers while it
walks over the pixels of a band of rows, several neighbours at a time: what several taps share is loaded
once.
"""

from libc.string cimport memset

from .bands cimport read
from .grid cimport Axis
from .isa cimport VL, anew, vadd, vf, vfma, vpick, vset1, vstore, vstore_part, vu, vu_load, vzero
from .lanes cimport Lanes, lay_out, whole_vectors
from .step cimport Step
from .weight_bands cimport Band, Bands, offer_bands, run_bands, send_ahead

cdef enum:
    MANY = VL == 16             # there are 32 registers, not 16
    FEW = VL == 4               # products need a register of their own
    WIDEST = 15                 # taps of a row, and as many more as pixels reach on both sides
    DEEP = 2 + 2 * MANY - FEW   # channels of x in a tile of one row of taps,
    WIDE = 3 + 4 * MANY - FEW   # which takes so many pixels together,
    NARROW = 3 + MANY - 2 * FEW  # with stride 2 so many,
    FLAT = 2 + 2 * MANY - FEW   # and that of three rows and one or two channels so many

DISTANT = 2**20     # bytes of x and dy together that are beyond the nearest caches
VECTOR = VL

cdef struct Attributes:     # followed by the axes
    Bands bands
    Lanes lanes             # of narrow groups
    Py_ssize_t depth        # channels of x in a group,
    Py_ssize_t filters      # and of dy,
    Py_ssize_t panels       # which are so many vectors: 0 where groups are narrow


cdef inline Py_ssize_t first_of(const bint narrow, const Attributes* a, Py_ssize_t v) noexcept nogil:
    """The first channel of dy that is in vector v."""
    if narrow:
        return v * a.lanes.y_width
    return v // a.panels * a.filters + v % a.panels * VL


cdef inline Py_ssize_t lanes_of(const bint narrow, const Attributes* a, Py_ssize_t v) noexcept nogil:
    """How many are."""
    if narrow:
        return min(a.lanes.y_width, a.bands.y_channels - v * a.lanes.y_width)
    return min(<Py_ssize_t> VL, a.filters - v % a.panels * VL)


cdef inline Py_ssize_t tile(const int rows, const int channels, const int taps, const int stride,
                            const int np, const bint narrow, const bint part, Band* t,
                            Py_ssize_t v, Py_ssize_t r, Py_ssize_t c, Py_ssize_t s) noexcept nogil:
    """Taps s, ..., s + ``taps`` - 1 of the rows of taps from r on, ``rows`` together as long as there are
    so many, of ``channels`` channels of x from c on; return the first row that is left. Where ``stride``
    is 0, it is any, and np is 1."""
    cdef vf sums[3][4][WIDEST]      # with those beyond the taps, which gcc drops
    cdef vf d[8]
    cdef vu at[4]
    cdef vf x, y
    cdef const float** table[3]
    cdef const float* dy
    cdef float* dw
    cdef const Attributes* a = <const Attributes*> t.attributes
    cdef Py_ssize_t depth = a.depth, first = first_of(narrow, a, v)
    cdef Py_ssize_t from_x = v * a.lanes.x_width if narrow else v // a.panels * depth
    cdef Py_ssize_t lanes = lanes_of(narrow, a, v)
    cdef Py_ssize_t x_lanes = min(<Py_ssize_t> VL, a.bands.x_channels - from_x)
    cdef Py_ssize_t p, step = stride if stride else t.stride, rest, _q
    cdef int over = (np - 1) * stride, i, j, k, u
    while r + rows <= t.window:
        dw = t.dw + ((r * t.taps + s) * depth + c) * t.channels + first
        for u in range(channels):
            if narrow:
                at[u] = vu_load(a.lanes.at[c + u])
        for i in range(rows):
            for u in range(channels):
                for j in range(taps + 2 * over):
                    sums[i][u][j] = vzero()
        for p in range(t.rows):
            dy = t.dy + p * t.dy_row + first
            for i in range(rows):
                table[i] = t.x[p * t.window + r + i] + s
            if np > 1:
                for _q in range(t.columns // np):
                    send_ahead(t, np)
                    for k in range(np):
                        d[k] = read(part, dy, lanes)
                        dy += t.dy_column
                    for i in range(rows):
                        table[i] = anew(table[i])
                        for j in range((np - 1) * stride + taps):
                            if narrow:
                                x = read(part, table[i][j] + from_x, x_lanes)
                            for u in range(channels):
                                y = vpick(x, at[u]) if narrow else vset1(table[i][j][from_x + c + u])
                                for k in range(np):
                                    sums[i][u][over + j - k * stride] = vfma(
                                        y, d[k], sums[i][u][over + j - k * stride])
                        table[i] += np * stride
            rest = t.columns % np if np > 1 else t.columns
            send_ahead(t, rest)
            for _q in range(rest):
                y = read(part, dy, lanes)
                dy += t.dy_column
                for i in range(rows):
                    for j in range(taps):
                        if narrow:
                            x = read(part, table[i][j] + from_x, x_lanes)
                        for u in range(channels):
                            sums[i][u][over + j] = vfma(
                                vpick(x, at[u]) if narrow else vset1(table[i][j][from_x + c + u]), y,
                                sums[i][u][over + j])
                    table[i] += step
        for i in range(rows):
            for j in range(taps):
                for u in range(channels):
                    if t.add:
                        sums[i][u][over + j] = vadd(read(part, dw, lanes), sums[i][u][over + j])
                    if part:
                        vstore_part(dw, sums[i][u][over + j], lanes)
                    else:
                        vstore(dw, sums[i][u][over + j])
                    dw += t.channels
                dw += (depth - channels) * t.channels
            dw += (t.taps - taps) * depth * t.channels
        r += rows
    return r


cdef inline void taps_of(const int channels, const bint narrow, const bint part, Band* t,
                         Py_ssize_t v, Py_ssize_t c) noexcept nogil:
    """All taps, for ``channels`` channels of x from c on."""
    cdef Py_ssize_t r = 0, s = 0
    if t.taps == 3 and t.stride == 1:
        if not FEW and (channels == 1 or channels == 2 and channels < DEEP):
            r = tile(3, channels, 3, 1, FLAT, narrow, part, t, v, 0, c, 0)
        tile(1, channels, 3, 1, WIDE, narrow, part, t, v, r, c, 0)
    elif t.taps == 3 and t.stride == 2:
        tile(1, channels, 3, 2, NARROW, narrow, part, t, v, 0, c, 0)
    else:
        while s + 3 <= t.taps:
            tile(1, channels, 3, 0, 1, narrow, part, t, v, 0, c, s)
            s += 3
        while s < t.taps:
            tile(1, channels, 1, 0, 1, narrow, part, t, v, 0, c, s)
            s += 1


cdef inline void vector(const bint narrow, const bint part, Band* t, Py_ssize_t v) noexcept nogil:
    """All taps and channels of x for a vector of dy."""
    cdef Py_ssize_t depth = (<const Attributes*> t.attributes).depth, c = 0
    while c + DEEP <= depth:
        taps_of(DEEP, narrow, part, t, v, c)
        c += DEEP
    while MANY and c + 2 <= depth:
        taps_of(2, narrow, part, t, v, c)
        c += 2
    while c < depth:
        taps_of(1, narrow, part, t, v, c)
        c += 1


cdef void narrow_vector(Band* t, Py_ssize_t v) noexcept nogil:
    vector(True, False, t, v)


cdef void part_of_narrow_vector(Band* t, Py_ssize_t v) noexcept nogil:
    vector(True, True, t, v)


cdef void wide_vector(Band* t, Py_ssize_t v) noexcept nogil:
    vector(False, False, t, v)


cdef void part_of_wide_vector(Band* t, Py_ssize_t v) noexcept nogil:
    vector(False, True, t, v)


cdef void sum_vectors(Band* t, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> t.attributes
    cdef Py_ssize_t v, whole
    if a.panels == 0:
        whole = whole_vectors(&a.lanes, a.bands.x_channels, t.channels)
        for v in range(begin, end):
            if v < whole:
                narrow_vector(t, v)
            else:
                part_of_narrow_vector(t, v)
    else:
        for v in range(begin, end):
            if lanes_of(False, a, v) == VL:
                wide_vector(t, v)
            else:
                part_of_wide_vector(t, v)


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    run_bands(sum_vectors, &a.bands, <const Axis*> (a + 1), step, buffers, begin, end, scratch)


def gradient(images, channels, filters, groups, rows, columns, *, chunks, channel_blocks, band,
             accumulate):
    """(x, dy) -> out: ``chunks`` partial sums of dw, or dw itself where ``chunks`` is 1.

    ``rows`` and ``columns`` are the `Axis` of each spatial axis, of the convolution. ``accumulate``
    adds to what ``out`` holds.
    """
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.depth, a.filters, a.panels = channels // groups, filters // groups, 0
    if 2 * max(a.depth, a.filters) <= VL:
        lay_out(&a.lanes, a.depth, a.filters)
        a.bands.x_width, a.bands.y_width = a.lanes.x_width, a.lanes.y_width
        a.bands.vectors = (filters + a.lanes.y_width - 1) // a.lanes.y_width
    else:
        a.panels = (a.filters + VL - 1) // VL
        a.bands.x_width, a.bands.y_width = a.depth // a.panels, a.filters // a.panels
        a.bands.vectors = groups * a.panels
    a.bands.images, a.bands.x_channels, a.bands.y_channels = images, channels, filters
    a.bands.depth = a.depth
    a.bands.chunks, a.bands.blocks = chunks, channel_blocks
    a.bands.band, a.bands.accumulate = band, accumulate
    return offer_bands("conv_grouped_weight", run, &a.bands, sizeof(a), rows, columns, DISTANT)
