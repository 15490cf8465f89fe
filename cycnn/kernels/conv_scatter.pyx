"""Gradient of a convolution for images of few channels: one matrix product, then sums of its columns.

    z[p, q, (r, s, c)] = sum over k of dy[n, p, q, k] * w[r, s, c, k]
    dx[n, h, i, c]     = sum over the taps (r, s) and (p, q) that read (h, i) of z[p, q, (r, s, c)]

The product has kh * kw * C columns, so the vectors of its tile are full where those of a direct
convolution, C channels wide, would be mostly padding. w comes packed transposed, as one matrix with
kh * kw * C columns of depth K; dy and dx must not overlap.

An item is a band of rows of one image; the rows of z that it needs are computed into scratch, with
columns of zeros on both sides so that no tap leaves them.
"""

from libc.string cimport memset

from .grid cimport Axis, Phase, axis_bytes, next_axis, phase_of, tap_of
from .activation cimport LINEAR
from .isa cimport VL, vadd, vf, vload, vstore_part, vzero
from .stack cimport stack, tiles_of_width
from .step cimport Step, kernel
from .tile cimport Tile, send_nothing, set_activation, tile_rows

cdef enum:
    PIXELS = 4              # of dx that are summed side by side

cdef struct Attributes:     # followed by the axes
    Py_ssize_t depth        # K
    Py_ssize_t channels     # C
    Py_ssize_t columns      # kh * kw * C
    Py_ssize_t width        # floats of a pixel of z, the panels' padding included
    Py_ssize_t left         # columns of zeros before z
    Py_ssize_t padded       # pixels of a row of z, zeros included
    Py_ssize_t most_rows    # of z for one band
    Py_ssize_t bands
    int nv


cdef void multiply_tiles(int nv, int mr, const Tile* t) noexcept nogil:
    tiles_of_width(nv, False, False, mr, t)


cdef void multiply_row(const Attributes* a, const float* dy, Py_ssize_t pixels,
                       const float* panels, float* z) noexcept nogil:
    """A row of z from a row of dy."""
    cdef Tile t
    cdef Py_ssize_t wide = a.nv * VL, panel
    t.taps, t.tap, t.depth, t.row_step, t.tap_step = 1, NULL, a.depth, a.depth, 0
    t.bias, t.residual, t.y_step, t.y_distant, t.columns = NULL, NULL, a.width, False, wide
    send_nothing(&t)
    set_activation(&t, LINEAR)
    for panel in range(a.width // wide):
        t.panel = panels + panel * a.depth * wide
        t.a, t.y = dy, z + panel * wide
        stack(multiply_tiles, pixels, tile_rows(a.nv), a.nv, &t)


cdef void multiply(const Attributes* a, const Axis* columns, const float* dy, Py_ssize_t first,
                   Py_ssize_t last, const float* panels, float* z) noexcept nogil:
    """Rows ``first`` to ``last`` of z, each between its zeros."""
    cdef Py_ssize_t pixels = columns.in_size, right = a.padded - a.left - pixels, p
    for p in range(first, last):
        memset(z, 0, a.left * a.width * sizeof(float))
        z += a.left * a.width
        multiply_row(a, dy + p * pixels * a.depth, pixels, panels, z)
        z += pixels * a.width
        memset(z, 0, right * a.width * sizeof(float))
        z += right * a.width


cdef inline void add_up(const int n, const Attributes* a, const Axis* rows, const Axis* columns,
                        const Phase* pr, const Phase* pc, Py_ssize_t p, Py_ssize_t first,
                        Py_ssize_t last, const float* z, float* dx,
                        Py_ssize_t step) noexcept nogil:
    """n pixels of dx, ``step`` floats apart; p is their position in the phase of rows.

    z points to where the pixel with position 0 in the phase of columns begins.
    """
    cdef vf sums[PIXELS]
    cdef const float* from_row
    cdef const float* source
    cdef Py_ssize_t u, v, row, tap, c = 0
    cdef int i
    while c < a.channels:
        for i in range(n):
            sums[i] = vzero()
        for u in range(pr.taps):
            row = p + tap_of(rows, pr.first + u).offset
            if row < first or row >= last:
                continue
            tap = tap_of(rows, pr.first + u).number * columns.window
            from_row = z + (row - first) * a.padded * a.width + c
            for v in range(pc.taps):
                source = (from_row + tap_of(columns, pc.first + v).offset * a.width
                          + (tap + tap_of(columns, pc.first + v).number) * a.channels)
                for i in range(n):
                    sums[i] = vadd(sums[i], vload(source + i * a.width))
        for i in range(n):
            vstore_part(dx + i * step + c, sums[i], min(<Py_ssize_t> VL, a.channels - c))
        c += VL


cdef void add_up_row(const Attributes* a, const Axis* rows, const Axis* columns, const Phase* pr,
                     Py_ssize_t p, Py_ssize_t first, Py_ssize_t last, const float* z,
                     float* dx) noexcept nogil:
    """A row of dx, one phase of columns after the other."""
    cdef const Phase* pc
    cdef Py_ssize_t j, q, step = columns.out_step * a.channels
    cdef const float* source
    cdef float* to
    for j in range(columns.phases):
        pc = phase_of(columns, j)
        q = 0
        while q < pc.count:
            source = z + (a.left + q) * a.width
            to = dx + (pc.start + q * columns.out_step) * a.channels
            if q + PIXELS <= pc.count:
                add_up(PIXELS, a, rows, columns, pr, pc, p, first, last, source, to, step)
                q += PIXELS
            else:
                add_up(1, a, rows, columns, pr, pc, p, first, last, source, to, step)
                q += 1


cdef const Phase* phase_of_row(const Axis* rows, Py_ssize_t h, Py_ssize_t* p) noexcept nogil:
    """The phase of output row h, and the row's position in it."""
    p[0] = h // rows.out_step
    return phase_of(rows, h % rows.out_step)


cdef void rows_needed(const Axis* rows, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t* first,
                      Py_ssize_t* last) noexcept nogil:
    """The rows of dy that output rows ``begin`` to ``end`` read."""
    cdef Py_ssize_t h, p, u, row
    cdef const Phase* pr
    first[0], last[0] = rows.in_size, 0
    for h in range(begin, end):
        pr = phase_of_row(rows, h, &p)
        for u in range(pr.taps):
            row = p + tap_of(rows, pr.first + u).offset
            if 0 <= row < rows.in_size:
                first[0] = min(first[0], row)
                last[0] = max(last[0], row + 1)
    first[0] = min(first[0], last[0])


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const Axis* rows = <const Axis*> (a + 1)
    cdef const Axis* columns = next_axis(rows)
    cdef const float* panels = <const float*> buffers[step.operand[1]]
    cdef const float* dy
    cdef float* dx
    cdef Py_ssize_t item, image, band, h, p, first, last, top, bottom
    cdef const Phase* pr
    for item in range(begin, end):
        image, band = item // a.bands, item % a.bands
        top, bottom = rows.out_size * band // a.bands, rows.out_size * (band + 1) // a.bands
        dy = (<const float*> buffers[step.operand[0]]
              + image * rows.in_size * columns.in_size * a.depth)
        dx = (<float*> buffers[step.operand[2]]
              + image * rows.out_size * columns.out_size * a.channels)
        rows_needed(rows, top, bottom, &first, &last)
        multiply(a, columns, dy, first, last, panels, <float*> scratch)
        for h in range(top, bottom):
            pr = phase_of_row(rows, h, &p)
            add_up_row(a, rows, columns, pr, p, first, last, <const float*> scratch,
                       dx + h * columns.out_size * a.channels)


def spread(images, channels, filters, rows, columns, nv, *, bands):
    """dy (N, P, Q, filters), panels of w -> dx (N, H, W, channels)

    ``rows`` and ``columns`` are the `Axis` of each spatial axis, of the gradient.
    """
    cdef Attributes a
    cdef Py_ssize_t wide = nv * VL, span
    memset(&a, 0, sizeof(a))
    a.depth, a.channels, a.nv, a.bands = filters, channels, nv, bands
    a.columns = rows.window * columns.window * channels
    a.width = (a.columns + wide - 1) // wide * wide
    reads = [(q, count) for _, count, taps in columns.phases for _, q in taps] or [(0, 0)]
    a.left = max(0, -min(q for q, _ in reads))
    a.padded = a.left + max(columns.in_size, max(q + count for q, count in reads))
    offsets = [p for _, _, taps in rows.phases for _, p in taps] or [0]
    span = (rows.out_size + bands - 1) // bands // rows.out_step + 1 + max(offsets) - min(offsets)
    a.most_rows = min(rows.in_size, span)
    scratch = 4 * (a.most_rows * a.padded * a.width + VL)  # the last channels are read in whole vectors
    items = images * bands if rows.out_size * columns.out_size * channels else 0
    attributes = (<const char*> &a)[:sizeof(a)] + axis_bytes(rows) + axis_bytes(columns)
    return kernel("conv_scatter", run, items, scratch, <const char*> attributes, len(attributes))
