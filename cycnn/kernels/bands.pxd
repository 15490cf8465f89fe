"""Convolution by bands of rows: what each item reads, and where its rows of taps lie.

An item is a band of rows of one image, in all phases, at a block of channels. A strip of its columns is
walked down, each row through all channels of the block. Where the taps read is looked up in a table
of pointers to pixels, in which padding is a pointer to zeros; rows of taps outside the image are left
out, but by a kernel that takes two rows together, which multiplies zeros there.

Where tensors lie beyond the caches, the memory of the next band is sent for meanwhile: windows jump
between rows, which hides from the hardware that memory is read in order.
"""

from libc.string cimport memset

from .activation cimport RELU, RELU6, activate, activate_all
from .ahead cimport Ahead, fetch, lines, span
from .grid cimport (
    Axis, Phase, Positions, axis_bytes, next_axis, parts_of, phase_of, positions, tabulate, tap_of,
)
from .isa cimport VL, vf, vload, vload_part, vstore, vstore_part
from .step cimport Run, Step, kernel

cdef enum:
    SPARE = 3       # columns of the last strip that may lie beyond the row
    PAIRED = 4      # the largest stride of rows that are taken together

cdef struct Bands:          # what attributes begin with; the axes follow them
    Py_ssize_t x_channels
    Py_ssize_t y_channels
    Py_ssize_t w_tap        # floats from the weights of one tap to the next's
    Py_ssize_t taps         # of a window
    Py_ssize_t images
    Py_ssize_t band         # rows of a phase in a band
    Py_ssize_t bands        # of an image
    Py_ssize_t blocks       # of channels
    Py_ssize_t vectors      # in a block, about
    Py_ssize_t pairs        # whether two rows of pixels are taken together
    Py_ssize_t table_rows   # at most, so many ...
    Py_ssize_t table_columns
    Py_ssize_t distant      # whether x and y lie beyond the caches
    int activation

cdef struct Row:            # a row of output pixels
    const float** table     # row of the table that its first taps read,
    const float* w          # their weights,
    Py_ssize_t taps         # and how many rows of taps there are

cdef struct Band:           # rows of the pixels at some positions, and the strip at hand
    const void* attributes
    Py_ssize_t block
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
    Py_ssize_t channels     # of y
    const float* b
    int activation
    float* y                # first pixel
    Py_ssize_t y_row
    Py_ssize_t y_column
    Ahead x_ahead           # what the next band uses,
    Ahead y_ahead
    Py_ssize_t x_lines      # and how much of it to send for with every row of taps
    Py_ssize_t y_lines

ctypedef void (*Strips)(Band*, Py_ssize_t columns) noexcept nogil   # a kernel's walk through a band


cdef inline vf read(const bint part, const float* p, Py_ssize_t lanes) noexcept nogil:
    return vload_part(p, lanes) if part else vload(p)


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


cdef inline Py_ssize_t width_of_strip(Py_ssize_t columns, Py_ssize_t widest) noexcept nogil:
    """How many of ``columns`` to take first, at most ``widest``, which is 4, 8 or 14: the last strip
    leaves no more than `SPARE` of its own beyond the row."""
    if widest == 14 and (columns % 14 == 0 or columns >= 28):
        return 14
    if widest == 4 or columns <= 4 or 9 <= columns <= 12:
        return 4
    return 7 if columns % 7 == 0 or columns < 8 else 8


cdef inline void next_strip(Band* t, Py_ssize_t first, Py_ssize_t channels) noexcept nogil:
    """Apply what activation is left to ``channels`` channels from ``first``, and move on."""
    cdef Py_ssize_t p, i
    cdef float* y
    if t.activation > RELU6:
        for p in range(t.rows):
            for i in range(t.columns):
                y = t.y + p * t.y_row + i * t.y_column + first
                activate_all(t.activation, y, y, channels)
    t.y += t.columns * t.y_column
    t.first += t.columns * t.stride


cdef inline void send_ahead(Band* t) noexcept nogil:
    fetch(&t.x_ahead, t.x_lines)
    fetch(&t.y_ahead, t.y_lines)


cdef inline void phase_in_band(Strips strips, const Bands* a, const Axis* rows, const Axis* columns,
                               const Phase* phase, const Positions* q, Py_ssize_t begin,
                               Py_ssize_t end, const float* x, const float* w, float* y, Band* t,
                               const float** table, const float* zero) noexcept nogil:
    """Rows ``begin`` to ``end`` of a phase, at the positions ``q`` of columns."""
    cdef Positions p = positions(rows, phase, 0)
    cdef Py_ssize_t width = (q.count + SPARE) * q.stride + q.taps
    cdef Py_ssize_t first = begin * rows.in_step + p.source
    cdef Py_ssize_t last = (end - 1) * rows.in_step + p.source + (p.taps - 1) * p.spacing + 1
    cdef Py_ssize_t i, at, low, high
    t.pairs = a.pairs and p.taps == 3 and p.spacing == rows.in_step
    if not (t.pairs and q.taps == 3 and q.stride == 1):
        first, last = max(first, <Py_ssize_t> 0), min(last, rows.in_size)
    tabulate(table, width, first, last, rows, columns, q, x, a.x_channels, zero)
    for i in range(begin, end):
        at = i * rows.in_step + p.source
        low = (max(first - at, <Py_ssize_t> 0) + p.spacing - 1) // p.spacing
        high = (max(last - at, <Py_ssize_t> 0) + p.spacing - 1) // p.spacing
        high = min(high, p.taps if q.taps else 0)
        t.row[i - begin].taps = max(high - low, <Py_ssize_t> 0)
        t.row[i - begin].table = table + (at + low * p.spacing - first) * width
        t.row[i - begin].w = w + ((p.tap + low * p.tap_step) * columns.window + q.tap) * a.w_tap
    t.rows, t.table_step = end - begin, p.spacing * width
    t.w_row, t.w_tap = p.tap_step * columns.window * a.w_tap, q.tap_step * a.w_tap
    t.taps, t.stride, t.first = q.taps, q.stride, 0
    t.y_column = q.out_step * a.y_channels
    t.y_row = rows.out_step * columns.out_size * a.y_channels
    t.y = y + ((phase.start + begin * rows.out_step) * columns.out_size
               + q.out) * a.y_channels
    strips(t, q.count)


cdef inline Py_ssize_t rows_read(const Bands* a, const Axis* rows,
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


cdef inline Ahead block_of(const float* row, Py_ssize_t pixels, Py_ssize_t channels,
                           Py_ssize_t blocks, Py_ssize_t block) noexcept nogil:
    """So many pixels, at about the channels of a block."""
    cdef Ahead ahead
    cdef Py_ssize_t begin = channels * block // blocks
    if blocks == 1:
        return span(row, pixels * channels)
    ahead.row, ahead.rows, ahead.stride, ahead.at = row + begin, pixels, channels, 0
    ahead.width = channels * (block + 1) // blocks - begin
    return ahead


cdef inline void look_ahead(const Bands* a, const Axis* rows, const Axis* columns, Py_ssize_t item,
                            const float* x, const float* y, Band* t) noexcept nogil:
    """Find what item ``item`` uses and those before it do not."""
    cdef Py_ssize_t image = item // a.bands % a.images, band = item % a.bands
    cdef Py_ssize_t block = item // a.bands // a.images
    cdef Py_ssize_t begin = rows_read(a, rows, band - 1) if band else 0
    cdef Py_ssize_t height = a.band * rows.out_step, steps
    x += (image * rows.in_size + begin) * columns.in_size * a.x_channels
    y += (image * rows.out_size + band * height) * columns.out_size * a.y_channels
    t.x_ahead = block_of(x, max(rows_read(a, rows, band) - begin, <Py_ssize_t> 0) * columns.in_size,
                         a.x_channels, a.blocks, block)
    t.y_ahead = block_of(y, min(height, rows.out_size - band * height) * columns.out_size,
                         a.y_channels, a.blocks, block)
    # a tile of 7 pixels sends with every row of taps, one of two rows four times
    steps = height * columns.out_size // 7 * a.vectors * max(rows.window // rows.phases,
                                                             <Py_ssize_t> 1)
    if a.pairs and rows.window == 3 and rows.phases == rows.in_step == 1:
        steps = steps * 2 // 3
    t.x_lines = lines(&t.x_ahead) // max(steps, <Py_ssize_t> 1) + 1
    t.y_lines = lines(&t.y_ahead) // max(steps, <Py_ssize_t> 1) + 1


cdef inline void run_bands(Strips strips, const Bands* a, const Axis* rows, const Step* step,
                           char** buffers, Py_ssize_t begin, Py_ssize_t end,
                           char* scratch) noexcept nogil:
    """Items ``begin`` to ``end``, band after band of image after image of block after block."""
    cdef const Axis* columns = next_axis(rows)
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const float* w = <const float*> buffers[step.operand[1]]
    cdef float* y = <float*> buffers[step.operand[4]]
    cdef Py_ssize_t x_size = rows.in_size * columns.in_size * a.x_channels
    cdef Py_ssize_t y_size = rows.out_size * columns.out_size * a.y_channels
    cdef const float** table = <const float**> scratch
    cdef const float* zero
    cdef Py_ssize_t item, image, first, last, i, j, k
    cdef const Phase* phase
    cdef Positions q
    cdef Band t
    memset(&t, 0, sizeof(t))
    t.row = <Row*> (table + a.table_rows * a.table_columns)
    zero = <const float*> (t.row + a.band)
    memset(<void*> zero, 0, (a.x_channels + VL) * sizeof(float))
    t.channels, t.b, t.activation = a.y_channels, <const float*> buffers[step.operand[2]], a.activation
    t.attributes = a
    for item in range(begin, end):
        image = item // a.bands % a.images
        t.block = item // a.bands // a.images
        first = item % a.bands * a.band
        if a.distant and item + 1 < step.items:
            look_ahead(a, rows, columns, item + 1, x, y, &t)
        for i in range(rows.phases):
            last = min(first + a.band, phase_of(rows, i).count)
            for j in range(columns.phases):
                phase = phase_of(columns, j)
                for k in range(min(parts_of(columns, phase), phase.count)):     # others are empty
                    q = positions(columns, phase, k)
                    if first < last and q.count > 0:
                        phase_in_band(strips, a, rows, columns, phase_of(rows, i), &q, first, last,
                                      x + image * x_size, w, y + image * y_size, &t, table, zero)


cdef inline object offer_bands(str name, Run run, Bands* a, Py_ssize_t size, object rows,
                               object columns, Py_ssize_t distant):
    """Offer ``run`` for attributes of ``size`` bytes that begin with ``a``, completed here from shapes.

    Tensors of ``distant`` bytes together lie beyond the caches.
    """
    a.bands = (max([p[1] for p in rows.phases], default=0) + a.band - 1) // a.band
    a.distant = 4 * a.images * (rows.in_size * columns.in_size * a.x_channels
                                + rows.out_size * columns.out_size * a.y_channels) >= distant
    offsets = [[offset for _, offset in taps] or [0] for _, _, taps in rows.phases]
    reach = max([max(o) - min(o) for o in offsets], default=0)
    a.pairs = a.pairs and rows.in_step <= PAIRED
    a.table_rows = min((a.band - 1) * rows.in_step + reach + 1, rows.in_size)
    if a.pairs:     # whose table holds rows outside the image, too
        a.table_rows = max(a.table_rows, (a.band + 1) * rows.in_step + 1)
    width = max([p[1] for p in columns.phases], default=0)
    a.table_columns = (width + SPARE) * columns.in_step + columns.window
    scratch = 8 * a.table_rows * a.table_columns + sizeof(Row) * a.band + 4 * (a.x_channels + VL)
    items = a.images * a.bands * a.blocks if columns.out_size else 0
    attributes = (<const char*> a)[:size] + axis_bytes(rows) + axis_bytes(columns)
    return kernel(name, run, items, scratch, <const char*> attributes, len(attributes))
