"""Depthwise convolution, one window per channel, over NHWC pixels, and its gradient for the data.

    y[n, p, q, c] = activation(b[c] + sum over taps r, s of
                               x[n, row(p, r), col(q, s), c] * w[r, s, c])

with row() and col() those of the phases of an axis, see grid.pxd. Channels are the lanes of the
vectors. w is read as it is, b may be absent, x and y must not overlap.

An item is a band of rows of one image, in all phases. A strip of its columns is walked down, each row
through all channels. The tile is a row of neighbouring pixels, or two rows of them, times a vector of
channels: what several windows share is loaded once. Where the taps read is looked up in a table of
pointers, in which padding is a pointer to zeros; rows of taps outside the image are left out, but by the
tile of two rows, which multiplies zeros there.

Where tensors lie beyond the caches, the memory of the next band is sent for meanwhile: windows jump
between rows, which hides from the hardware that memory is read in order.
"""

from libc.string cimport memset

from .activation cimport RELU, RELU6, activate, activate_all
from .ahead cimport Ahead, fetch, lines, span
from .grid cimport (
    Axis, Phase, Positions, axis_bytes, next_axis, parts_of, phase_of, positions, tabulate, tap_of,
)
from .isa cimport VL, vf, vfma, vload, vload_part, vstore, vstore_part, vzero
from .step cimport Step, kernel

cdef enum:
    WIDEST = 14     # columns of a strip
    SPARE = 3       # columns of the last strip that may lie beyond the row
    PAIRS = VL == 16    # there are registers for two rows of pixels

DISTANT = 2**24     # bytes of x and y together that are beyond the caches

cdef struct Attributes:     # followed by the axes
    Py_ssize_t channels
    Py_ssize_t band         # rows of a phase in a band
    Py_ssize_t bands        # of an image
    Py_ssize_t table_rows   # at most, so many ...
    Py_ssize_t table_columns
    Py_ssize_t distant
    int activation

cdef struct Row:            # a row of output pixels
    const float** table     # row of the table that its first taps read,
    const float* w          # their weights,
    Py_ssize_t taps         # and how many rows of taps there are

cdef struct Band:           # rows of the pixels at some positions, and the strip at hand
    Row* row
    Py_ssize_t rows
    bint pairs              # whether two rows can be taken together
    Py_ssize_t table_step   # from one row of taps to the next, in the table
    Py_ssize_t w_row        # and in the weights,
    Py_ssize_t w_tap        # and from one tap to the next
    Py_ssize_t taps         # of a row of taps
    Py_ssize_t stride       # taps from one pixel to the next
    Py_ssize_t first        # column of the table that the strip begins with
    Py_ssize_t columns      # that it stores
    Py_ssize_t channels
    const float* b
    int activation
    float* y                # first pixel
    Py_ssize_t y_row
    Py_ssize_t y_column
    Ahead x_ahead           # what the next band uses,
    Ahead y_ahead
    Py_ssize_t x_lines      # and how much of it to send for with every row of taps
    Py_ssize_t y_lines


cdef inline vf read(const bint part, const float* p, Py_ssize_t lanes) noexcept nogil:
    return vload_part(p, lanes) if part else vload(p)


cdef inline vf bias(const bint part, const Band* t, Py_ssize_t c) noexcept nogil:
    return vzero() if t.b == NULL else read(part, t.b + c, t.channels - c)


cdef inline void send_ahead(Band* t) noexcept nogil:
    fetch(&t.x_ahead, t.x_lines)
    fetch(&t.y_ahead, t.y_lines)


cdef inline void put(const int np, const bint part, vf* acc, float* y, const Band* t,
                     Py_ssize_t lanes) noexcept nogil:
    """Store a row of pixels, of which only ``t.columns`` may be in the strip."""
    cdef int i
    if t.activation == RELU:
        for i in range(np):
            acc[i] = activate(RELU, acc[i])
    elif t.activation == RELU6:
        for i in range(np):
            acc[i] = activate(RELU6, acc[i])
    if t.columns >= np:     # a condition in every store would draw the sums behind it, one by one
        for i in range(np):
            if part:
                vstore_part(y + i * t.y_column, acc[i], lanes)
            else:
                vstore(y + i * t.y_column, acc[i])
    else:
        for i in range(np):
            if i < t.columns:
                if part:
                    vstore_part(y + i * t.y_column, acc[i], lanes)
                else:
                    vstore(y + i * t.y_column, acc[i])


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


cdef inline Py_ssize_t width_of_strip(const Band* t, Py_ssize_t columns) noexcept nogil:
    """How many of ``columns`` to take first, so that few lie beyond the row in the end."""
    if columns >= WIDEST and PAIRS and t.stride == 1 and (t.taps == 5 or t.taps == 7):
        return WIDEST       # of large windows the more pixels share a row of weights the better
    if columns <= 4 or 9 <= columns <= 12:
        return 4
    return 7 if columns % 7 == 0 or columns < 8 else 8


cdef void all_strips(Band* t, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t q = 0, np, p, i
    while q < columns:
        np = width_of_strip(t, columns - q)
        t.first = q * t.stride
        t.columns = min(np, columns - q)
        whole_vectors(np, t)
        if t.channels % VL:
            last_vector(np, t)
        if t.activation > RELU6:
            for p in range(t.rows):
                for i in range(t.columns):
                    activate_all(t.activation, t.y + p * t.y_row + i * t.y_column,
                                 t.y + p * t.y_row + i * t.y_column, t.channels)
        t.y += np * t.y_column
        q += np


cdef void phase_in_band(const Attributes* a, const Axis* rows, const Axis* columns,
                        const Phase* phase, const Positions* q, Py_ssize_t begin, Py_ssize_t end,
                        const float* x, const float* w, float* y, Band* t,
                        const float** table, const float* zero) noexcept nogil:
    """Rows ``begin`` to ``end`` of a phase, at the positions ``q`` of columns."""
    cdef Positions p = positions(rows, phase, 0)
    cdef Py_ssize_t c = a.channels, width = (q.count + SPARE) * q.stride + q.taps
    cdef Py_ssize_t first = begin * rows.in_step + p.source
    cdef Py_ssize_t last = (end - 1) * rows.in_step + p.source + (p.taps - 1) * p.spacing + 1
    cdef Py_ssize_t i, at, low, high
    t.pairs = p.taps == 3 and p.spacing == rows.in_step
    if not (PAIRS and t.pairs and q.taps == 3 and q.stride == 1):
        first, last = max(first, <Py_ssize_t> 0), min(last, rows.in_size)
    tabulate(table, width, first, last, rows, columns, q, x, c, zero)
    for i in range(begin, end):
        at = i * rows.in_step + p.source
        low = (max(first - at, <Py_ssize_t> 0) + p.spacing - 1) // p.spacing
        high = (max(last - at, <Py_ssize_t> 0) + p.spacing - 1) // p.spacing
        high = min(high, p.taps if q.taps else 0)
        t.row[i - begin].taps = max(high - low, <Py_ssize_t> 0)
        t.row[i - begin].table = table + (at + low * p.spacing - first) * width
        t.row[i - begin].w = w + ((p.tap + low * p.tap_step) * columns.window + q.tap) * c
    t.rows, t.table_step = end - begin, p.spacing * width
    t.w_row, t.w_tap = p.tap_step * columns.window * c, q.tap_step * c
    t.taps, t.stride = q.taps, q.stride
    t.y_row, t.y_column = rows.out_step * columns.out_size * c, q.out_step * c
    t.y = y + ((phase.start + begin * rows.out_step) * columns.out_size + q.out) * c
    all_strips(t, q.count)


cdef inline Py_ssize_t rows_read(const Attributes* a, const Axis* rows,
                                 Py_ssize_t band) noexcept nogil:
    """How many rows of x the bands up to and including ``band`` read."""
    cdef Py_ssize_t i, j, end, last = 0
    cdef const Phase* phase
    for i in range(rows.phases):
        phase = phase_of(rows, i)
        end = min((band + 1) * a.band, phase.count)
        for j in range(phase.taps):
            last = max(last, (end - 1) * rows.in_step + tap_of(rows, phase.first + j).offset + 1)
    return min(last, rows.in_size)


cdef void look_ahead(const Attributes* a, const Axis* rows, const Axis* columns, Py_ssize_t item,
                     const float* x, const float* y, Band* t) noexcept nogil:
    """Find what item ``item`` uses and those before it do not."""
    cdef Py_ssize_t image = item // a.bands, band = item % a.bands
    cdef Py_ssize_t x_row = columns.in_size * a.channels, y_row = columns.out_size * a.channels
    cdef Py_ssize_t begin = rows_read(a, rows, band - 1) if band else 0
    cdef Py_ssize_t height = a.band * rows.out_step, steps
    x += (image * rows.in_size + begin) * x_row
    y += (image * rows.out_size + band * height) * y_row
    t.x_ahead = span(x, (rows_read(a, rows, band) - begin) * x_row)
    t.y_ahead = span(y, min(height, rows.out_size - band * height) * y_row)
    # a tile of 7 pixels sends with every row of taps, one of two rows four times
    steps = height * columns.out_size // 7 * a.channels // VL * max(rows.window // rows.phases,
                                                                    <Py_ssize_t> 1)
    if PAIRS and rows.window == 3 and rows.phases == rows.in_step == 1:
        steps = steps * 2 // 3
    t.x_lines = lines(&t.x_ahead) // max(steps, <Py_ssize_t> 1) + 1
    t.y_lines = lines(&t.y_ahead) // max(steps, <Py_ssize_t> 1) + 1


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const Axis* rows = <const Axis*> (a + 1)
    cdef const Axis* columns = next_axis(rows)
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const float* w = <const float*> buffers[step.operand[1]]
    cdef float* y = <float*> buffers[step.operand[4]]
    cdef Py_ssize_t x_size = rows.in_size * columns.in_size * a.channels
    cdef Py_ssize_t y_size = rows.out_size * columns.out_size * a.channels
    cdef const float** table = <const float**> scratch
    cdef const float* zero
    cdef Py_ssize_t item, image, first, last, i, j, k
    cdef const Phase* phase
    cdef Positions q
    cdef Band t
    memset(&t, 0, sizeof(t))
    t.row = <Row*> (table + a.table_rows * a.table_columns)
    zero = <const float*> (t.row + a.band)
    memset(<void*> zero, 0, a.channels * sizeof(float))
    t.channels, t.b, t.activation = a.channels, <const float*> buffers[step.operand[2]], a.activation
    for item in range(begin, end):
        image = item // a.bands
        first = item % a.bands * a.band
        if a.distant and item + 1 < step.items:
            look_ahead(a, rows, columns, item + 1, x, y, &t)
        for i in range(rows.phases):
            last = min(first + a.band, phase_of(rows, i).count)
            for j in range(columns.phases):
                phase = phase_of(columns, j)
                for k in range(parts_of(columns, phase)):
                    q = positions(columns, phase, k)
                    if first < last and q.count > 0:
                        phase_in_band(a, rows, columns, phase_of(rows, i), &q, first, last,
                                      x + image * x_size, w, y + image * y_size, &t, table, zero)


def convolve(images, channels, rows, columns, *, band, activation=0):
    """x (N, H, W, channels), w (kh, kw, 1, channels), b or absent -> y (N, P, Q, channels)

    ``rows`` and ``columns`` are the `Axis` of each spatial axis; an item is ``band`` rows of a phase.
    """
    cdef Attributes a
    a.channels, a.band, a.activation = channels, band, activation
    a.bands = (max([p[1] for p in rows.phases], default=0) + band - 1) // band
    a.distant = 4 * images * channels * (
        rows.in_size * columns.in_size + rows.out_size * columns.out_size) >= DISTANT
    offsets = [[offset for _, offset in taps] or [0] for _, _, taps in rows.phases]
    reach = max([max(o) - min(o) for o in offsets], default=0)
    a.table_rows = (band - 1) * rows.in_step + reach + 1
    width = max([p[1] for p in columns.phases], default=0)
    a.table_columns = (width + SPARE) * columns.in_step + columns.window
    items = images * a.bands if columns.out_size else 0
    scratch = 8 * a.table_rows * a.table_columns + sizeof(Row) * a.band + 4 * a.channels
    attributes = (<const char*> &a)[:sizeof(a)] + axis_bytes(rows) + axis_bytes(columns)
    return kernel("conv_depthwise", run, items, scratch, <const char*> attributes, len(attributes))
