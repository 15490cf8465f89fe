"""Weight gradient of convolution by bands of rows: what each item sums, and where its taps read.

The sum runs over the rows of dy of all images in order. Where the taps read is looked up in a table of
pointers to pixels, in which padding beside the image is a pointer to zeros, and so is all of a row above
or below it.

An item is a block of vectors of channels of one chunk of the rows of dy, and goes through it band by
band. With several chunks, chunk z writes its sum to ``out[z]`` and `reduce.chunks` adds them up in order,
so the bits depend on shapes alone. Where tensors lie beyond the caches, the memory of the next band is
sent for meanwhile.
"""

from libc.string cimport memset

from .ahead cimport Ahead, fetch, lines
from .grid cimport (
    Axis, Positions, axis_bytes, next_axis, parts_of, phase_of, positions, tabulate, tap_of,
)
from .isa cimport VL
from .step cimport Run, Step, kernel

cdef enum:
    PACE = 256

cdef struct Bands:          # what attributes begin with; the axes follow them
    Py_ssize_t images
    Py_ssize_t x_channels
    Py_ssize_t y_channels
    Py_ssize_t vectors      # of channels of dy:
    Py_ssize_t x_width      # so many channels of x
    Py_ssize_t y_width      # and of dy are a vector's
    Py_ssize_t depth        # channels of x that a weight of dy's channel has
    Py_ssize_t chunks       # into how many parts the rows of dy
    Py_ssize_t blocks       # and the vectors of channels are split
    Py_ssize_t band         # rows of dy in a band, at most
    Py_ssize_t table_rows   # at most, so many ...
    Py_ssize_t table_columns
    Py_ssize_t accumulate
    Py_ssize_t distant

cdef struct Band:           # rows of dy at some positions of columns
    const void* attributes
    Py_ssize_t rows
    Py_ssize_t columns
    Py_ssize_t channels     # of dy
    const float* dy         # the first pixel
    Py_ssize_t dy_row
    Py_ssize_t dy_column
    const float*** x        # x[i * window + r]: row of the table that row r of taps reads for row i
    Py_ssize_t window       # how many rows of taps there are
    Py_ssize_t taps         # of a row of taps
    Py_ssize_t stride       # taps from one pixel to the next
    float* dw
    bint add                # to what dw holds
    Ahead ahead[2]          # what the next band uses of x and of dy,
    Py_ssize_t pace[2]      # lines of it for every pixel of a vector, in parts of `PACE`

cdef struct Piece:          # what an item does at a time: ``count`` rows of dy from row ``first`` of
    Py_ssize_t image, first, count      # an image, at the vectors v0 <= v < v1
    Py_ssize_t v0, v1

ctypedef void (*Sum)(Band*, Py_ssize_t begin, Py_ssize_t end) noexcept nogil    # vectors of a band


cdef inline void send_ahead(Band* t, Py_ssize_t pixels) noexcept nogil:
    """Send for what falls to so many pixels of a vector: a few lines with every few pixels, since a burst
    would hold up what the tile itself reads, and of both at once, which memory serves faster than one after
    the other. Where a vector takes several tiles, the first of them have sent for all."""
    fetch(&t.ahead[0], (t.pace[0] * pixels + PACE - 1) // PACE)
    fetch(&t.ahead[1], (t.pace[1] * pixels + PACE - 1) // PACE)


cdef inline Py_ssize_t top(const Axis* rows, const Piece* piece) noexcept nogil:
    """The first row of x that a piece reads."""
    cdef Py_ssize_t row = piece.first * rows.in_step + tap_of(rows, 0).offset
    return min(max(row, <Py_ssize_t> 0), rows.in_size)


cdef inline Py_ssize_t bottom(const Axis* rows, const Piece* piece) noexcept nogil:
    """The first row that it does not."""
    cdef Py_ssize_t row = piece.first + piece.count - 1
    row = row * rows.in_step + tap_of(rows, rows.window - 1).offset + 1
    return min(max(row, top(rows, piece)), rows.in_size)


cdef inline void piece_at(Sum sum, const Bands* a, const Axis* rows, const Axis* columns,
                          const Piece* piece, const float* x, const float* dy, Band* t,
                          const float** table, const float* zero) noexcept nogil:
    """Add what a piece contributes to dw."""
    cdef Py_ssize_t first = top(rows, piece), last = bottom(rows, piece), k, i, r, row, width
    cdef Py_ssize_t parts = parts_of(columns, phase_of(columns, 0))
    cdef Positions q
    x += piece.image * rows.in_size * columns.in_size * a.x_channels
    dy += (piece.image * rows.out_size + piece.first) * columns.out_size * a.y_channels
    t.rows, t.dy_row = piece.count, columns.out_size * a.y_channels
    for k in range(max(min(parts, columns.out_size), <Py_ssize_t> 1)):  # others are empty
        q = positions(columns, phase_of(columns, 0), k)
        width = q.count * q.stride + q.taps
        tabulate(table + width, width, first, last, rows, columns, &q, x,
                 a.x_channels, zero)
        for i in range(width):
            table[i] = zero
        for i in range(piece.count):
            for r in range(rows.window):
                row = (piece.first + i) * rows.in_step + tap_of(rows, r).offset
                t.x[i * rows.window + r] = (
                    table + (row - first + 1) * width if 0 <= row < rows.in_size else table)
        t.columns, t.taps, t.stride = q.count, q.taps, q.stride
        t.dy, t.dy_column = dy + q.out * a.y_channels, q.out_step * a.y_channels
        sum(t, piece.v0, piece.v1)
        t.add = True


cdef inline Piece piece_from(const Bands* a, const Axis* rows, Py_ssize_t item,
                             Py_ssize_t done) noexcept nogil:
    """What an item does after ``done`` rows of its chunk: nothing after the last."""
    cdef Piece piece
    cdef Py_ssize_t total = a.images * rows.out_size
    cdef Py_ssize_t z = item // a.blocks, block = item % a.blocks
    cdef Py_ssize_t at = z * total // a.chunks + done, end = (z + 1) * total // a.chunks
    piece.image = at // rows.out_size
    piece.first = at - piece.image * rows.out_size
    piece.count = min(min(a.band, end - at), rows.out_size - piece.first)
    piece.v0, piece.v1 = block * a.vectors // a.blocks, (block + 1) * a.vectors // a.blocks
    return piece


cdef inline Ahead lines_of(const Piece* piece, const float* row, Py_ssize_t pixels,
                           Py_ssize_t channels, Py_ssize_t width) noexcept nogil:
    """So many pixels, at a piece's vectors of ``width`` channels."""
    cdef Ahead ahead
    ahead.row, ahead.rows, ahead.stride, ahead.at = row + piece.v0 * width, pixels, channels, 0
    ahead.width = min(piece.v1 * width, channels) - piece.v0 * width
    if ahead.width == ahead.stride and ahead.rows:      # whole pixels lie in one piece
        ahead.width *= ahead.rows
        ahead.rows = 1
    return ahead


cdef inline void look_ahead(const Bands* a, const Axis* rows, const Axis* columns,
                            const Piece* now, const Piece* then, const float* x, const float* dy,
                            Band* t) noexcept nogil:
    """Find what the piece ``then`` uses, but for the rows of x that ``now`` reads as well."""
    cdef Py_ssize_t begin = top(rows, then), end = bottom(rows, then), pixels, i
    if then.image == now.image and then.v0 == now.v0:
        begin = min(max(begin, bottom(rows, now)), end)
    begin, end = begin + then.image * rows.in_size, end + then.image * rows.in_size
    t.ahead[0] = lines_of(then, x + begin * columns.in_size * a.x_channels,
                          (end - begin) * columns.in_size, a.x_channels, a.x_width)
    begin = then.image * rows.out_size + then.first
    t.ahead[1] = lines_of(then, dy + begin * columns.out_size * a.y_channels,
                          then.count * columns.out_size, a.y_channels, a.y_width)
    pixels = max(now.count * columns.out_size * (now.v1 - now.v0), <Py_ssize_t> 1)
    for i in range(2):
        t.pace[i] = PACE * lines(&t.ahead[i]) // pixels


cdef inline void run_bands(Sum sum, const Bands* a, const Axis* rows, const Step* step,
                           char** buffers, Py_ssize_t begin, Py_ssize_t end,
                           char* scratch) noexcept nogil:
    """Items ``begin`` to ``end``, block after block of chunk after chunk."""
    cdef const Axis* columns = next_axis(rows)
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const float* dy = <const float*> buffers[step.operand[1]]
    cdef float* out = <float*> buffers[step.operand[2]]
    cdef const float** table = <const float**> scratch
    cdef const float* zero
    cdef Py_ssize_t item, done, size = rows.window * columns.window * a.depth * a.y_channels
    cdef Piece now, then
    cdef Band t
    memset(&t, 0, sizeof(t))
    t.x = <const float***> (table + a.table_rows * a.table_columns)
    zero = <const float*> (t.x + a.band * rows.window)
    memset(<void*> zero, 0, (a.x_channels + VL) * sizeof(float))
    t.attributes, t.channels, t.window = a, a.y_channels, rows.window
    for item in range(begin, end):
        t.dw, t.add, done = out + item // a.blocks * size, a.accumulate, 0
        now = piece_from(a, rows, item, 0)
        while True:     # once also where there are no rows, for then dw is zero
            done += now.count
            then = piece_from(a, rows, item, done)
            if then.count == 0 and item + 1 < end:
                then = piece_from(a, rows, item + 1, 0)
            if a.distant:
                look_ahead(a, rows, columns, &now, &then, x, dy, &t)
            piece_at(sum, a, rows, columns, &now, x, dy, &t, table, zero)
            now = piece_from(a, rows, item, done)
            if now.count == 0:
                break


cdef inline object offer_bands(str name, Run run, Bands* a, Py_ssize_t size, object rows,
                               object columns, Py_ssize_t distant):
    """Offer ``run`` for attributes of ``size`` bytes that begin with ``a``, completed here from shapes.

    Tensors of ``distant`` bytes together lie beyond the nearest caches.
    """
    a.distant = 4 * a.images * (rows.in_size * columns.in_size * a.x_channels
                                + rows.out_size * columns.out_size * a.y_channels) >= distant
    offsets = [offset for _, offset in rows.phases[0][2]]
    a.table_rows = (a.band - 1) * rows.in_step + max(offsets) - min(offsets) + 1
    a.table_rows = min(a.table_rows, rows.in_size) + 1
    a.table_columns = columns.out_size * columns.in_step + columns.window
    scratch = (8 * (a.table_rows * a.table_columns + a.band * rows.window)
               + 4 * (a.x_channels + VL))
    attributes = (<const char*> a)[:size] + axis_bytes(rows) + axis_bytes(columns)
    return kernel(name, run, a.chunks * a.blocks, scratch, <const char*> attributes,
                  len(attributes))
