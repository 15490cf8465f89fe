"""Weight gradient of depthwise convolution, one window per channel, over NHWC pixels:

    dw[r, s, c] (+)= sum over n, p, q of x[n, row(p, r), col(q, s), c] * dy[n, p, q, c]

with row() and col() those of the only phase of an axis, see grid.pxd. Channels are the lanes of the
vectors. The sum runs over the rows of dy in order. Nothing may overlap.

The tile keeps the sums of some rows of taps times a vector of channels in registers while it walks over
the pixels of a band of rows, several neighbours at a time: what several taps share is loaded once.
Where the taps read is looked up in a table of pointers, in which padding beside the image is a pointer
to zeros, and so is all of a row above or below it.

An item is a block of channels of one chunk of the rows of dy of all images, and goes through it band by
band. With several chunks, chunk z writes its sum to ``out[z]`` and `reduce.chunks` adds them up in order,
so the bits depend on shapes alone. Where tensors lie beyond the caches, the memory of the next band is
sent for meanwhile.
"""

from libc.string cimport memset

from .ahead cimport Ahead, fetch, lines
from .grid cimport Axis, Positions, axis_bytes, next_axis, parts_of, phase_of, positions, tabulate, tap_of
from .isa cimport VL, anew, vadd, vf, vfma, vload, vload_part, vstore, vstore_part, vzero
from .step cimport Step, kernel

cdef enum:
    MANY = VL == 16                 # there are 32 registers, not 16
    FEW = VL == 4                   # products need a register of their own
    WIDEST = 19                     # taps of a row, and as many more as pixels reach on both sides
    ROWS5 = 2 + 3 * MANY            # rows of 5 taps that a tile takes,
    ROWS7 = 1 + 2 * MANY            # and of 7 taps
    WIDE = 4 + 3 * MANY - FEW       # pixels that tiles of 3 and 7 taps take together,
    NARROW = 4 - 2 * FEW            # those of stride 2,
    NARROW5 = 3 + MANY - FEW        # and those of 5 taps

DISTANT = 2**19     # bytes of x and dy together that are beyond the nearest caches
VECTOR = VL

cdef struct Attributes:     # followed by the axes
    Py_ssize_t images, channels
    Py_ssize_t chunks       # into how many parts the rows of dy
    Py_ssize_t blocks       # and the vectors of channels are split
    Py_ssize_t band         # rows of dy in a band, at most
    Py_ssize_t table_rows   # at most, so many ...
    Py_ssize_t table_columns
    Py_ssize_t accumulate
    Py_ssize_t distant

cdef struct Band:           # rows of dy at some positions of columns
    Py_ssize_t rows
    Py_ssize_t columns
    Py_ssize_t channels
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
    Py_ssize_t ahead_lines[2]   # and how much of it to send for with every row of a tile

cdef struct Piece:          # what an item does at a time: ``count`` rows of dy from row ``first`` of
    Py_ssize_t image, first, count      # an image, at the channels c0 <= c < c1
    Py_ssize_t c0, c1


cdef inline vf read(const bint part, const float* p, Py_ssize_t lanes) noexcept nogil:
    return vload_part(p, lanes) if part else vload(p)


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
    cdef Py_ssize_t lanes = t.channels - c, p, step
    cdef Py_ssize_t _q
    cdef int over = (np - 1) * stride, i, j, k
    while r + rows <= t.window:
        dw = t.dw + (r * t.taps + s) * t.channels + c
        for i in range(rows):
            for j in range(taps + 2 * over):
                sums[i][j] = vzero()
        for p in range(t.rows):
            fetch(&t.ahead[0], t.ahead_lines[0])
            fetch(&t.ahead[1], t.ahead_lines[1])
            y = t.dy + p * t.dy_row + c
            for i in range(rows):
                x[i] = t.x[p * t.window + r + i] + s
            if np > 1:
                for _q in range(t.columns // np):
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
            for _q in range(t.columns % np if np > 1 else t.columns):
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


cdef inline Py_ssize_t top(const Axis* rows, const Piece* piece) noexcept nogil:
    """The first row of x that a piece reads."""
    cdef Py_ssize_t row = piece.first * rows.in_step + tap_of(rows, 0).offset
    return min(max(row, <Py_ssize_t> 0), rows.in_size)


cdef inline Py_ssize_t bottom(const Axis* rows, const Piece* piece) noexcept nogil:
    """The first row that it does not."""
    cdef Py_ssize_t row = piece.first + piece.count - 1
    row = row * rows.in_step + tap_of(rows, rows.window - 1).offset + 1
    return min(max(row, top(rows, piece)), rows.in_size)


cdef void piece_at(const Attributes* a, const Axis* rows, const Axis* columns, const Piece* piece,
                   const float* x, const float* dy, Band* t, const float** table,
                   const float* zero) noexcept nogil:
    """Add what a piece contributes to dw."""
    cdef Py_ssize_t first = top(rows, piece), last = bottom(rows, piece), k, i, r, row, width, c
    cdef Positions q
    x += piece.image * rows.in_size * columns.in_size * a.channels
    dy += (piece.image * rows.out_size + piece.first) * columns.out_size * a.channels
    t.rows, t.dy_row = piece.count, columns.out_size * a.channels
    for k in range(parts_of(columns, phase_of(columns, 0))):
        q = positions(columns, phase_of(columns, 0), k)
        width = q.count * q.stride + q.taps
        tabulate(table + width, width, first, last, rows, columns, &q, x, a.channels, zero)
        for i in range(width):
            table[i] = zero
        for i in range(piece.count):
            for r in range(rows.window):
                row = (piece.first + i) * rows.in_step + tap_of(rows, r).offset
                t.x[i * rows.window + r] = (
                    table + (row - first + 1) * width if 0 <= row < rows.in_size else table)
        t.columns, t.taps, t.stride = q.count, q.taps, q.stride
        t.dy, t.dy_column = dy + q.out * a.channels, q.out_step * a.channels
        c = piece.c0
        while c + VL <= piece.c1:
            whole_vector(t, c)
            c += VL
        if c < piece.c1:
            last_vector(t, c)
        t.add = True


cdef Piece piece_from(const Attributes* a, const Axis* rows, Py_ssize_t item,
                      Py_ssize_t done) noexcept nogil:
    """What an item does after ``done`` rows of its chunk: nothing after the last."""
    cdef Piece piece
    cdef Py_ssize_t total = a.images * rows.out_size, vectors = (a.channels + VL - 1) // VL
    cdef Py_ssize_t z = item // a.blocks, block = item % a.blocks
    cdef Py_ssize_t at = z * total // a.chunks + done, end = (z + 1) * total // a.chunks
    piece.image = at // rows.out_size
    piece.first = at - piece.image * rows.out_size
    piece.count = min(min(a.band, end - at), rows.out_size - piece.first)
    piece.c0 = block * vectors // a.blocks * VL
    piece.c1 = min((block + 1) * vectors // a.blocks * VL, a.channels)
    return piece


cdef Ahead lines_of(const Attributes* a, const float* row, Py_ssize_t pixels,
                    const Piece* piece) noexcept nogil:
    """So many pixels, at a piece's channels."""
    cdef Ahead ahead
    ahead.row, ahead.rows, ahead.width = row + piece.c0, pixels, piece.c1 - piece.c0
    ahead.stride, ahead.at = a.channels, 0
    if ahead.width == ahead.stride and ahead.rows:      # whole pixels lie in one piece
        ahead.width *= ahead.rows
        ahead.rows = 1
    return ahead


cdef void look_ahead(const Attributes* a, const Axis* rows, const Axis* columns, const Piece* now,
                     const Piece* then, const float* x, const float* dy, Band* t) noexcept nogil:
    """Find what the piece ``then`` uses, but for the rows of x that ``now`` reads as well."""
    cdef Py_ssize_t begin = top(rows, then), end = bottom(rows, then), i, steps
    if then.image == now.image and then.c0 == now.c0:
        begin = min(max(begin, bottom(rows, now)), end)
    begin, end = begin + then.image * rows.in_size, end + then.image * rows.in_size
    t.ahead[0] = lines_of(a, x + begin * columns.in_size * a.channels,
                          (end - begin) * columns.in_size, then)
    begin = then.image * rows.out_size + then.first
    t.ahead[1] = lines_of(a, dy + begin * columns.out_size * a.channels,
                          then.count * columns.out_size, then)
    steps = max(now.count * ((now.c1 - now.c0 + VL - 1) // VL), <Py_ssize_t> 1)
    for i in range(2):
        t.ahead_lines[i] = lines(&t.ahead[i]) // steps + 1


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const Axis* rows = <const Axis*> (a + 1)
    cdef const Axis* columns = next_axis(rows)
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const float* dy = <const float*> buffers[step.operand[1]]
    cdef float* out = <float*> buffers[step.operand[2]]
    cdef const float** table = <const float**> scratch
    cdef const float* zero
    cdef Py_ssize_t item, done, size = rows.window * columns.window * a.channels
    cdef Piece now, then
    cdef Band t
    memset(&t, 0, sizeof(t))
    t.x = <const float***> (table + a.table_rows * a.table_columns)
    zero = <const float*> (t.x + a.band * rows.window)
    memset(<void*> zero, 0, a.channels * sizeof(float))
    t.channels, t.window = a.channels, rows.window
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
            piece_at(a, rows, columns, &now, x, dy, &t, table, zero)
            now = piece_from(a, rows, item, done)
            if now.count == 0:
                break


def gradient(images, channels, rows, columns, *, chunks, channel_blocks, band, accumulate):
    """(x, dy) -> out: ``chunks`` partial sums of dw, or dw itself where ``chunks`` is 1.

    ``rows`` and ``columns`` are the `Axis` of each spatial axis, of the convolution. ``accumulate``
    adds to what ``out`` holds.
    """
    cdef Attributes a
    a.images, a.channels, a.chunks, a.blocks = images, channels, chunks, channel_blocks
    a.band, a.accumulate = band, accumulate
    a.distant = 4 * images * channels * (
        rows.in_size * columns.in_size + rows.out_size * columns.out_size) >= DISTANT
    offsets = [offset for _, offset in rows.phases[0][2]]
    a.table_rows = (band - 1) * rows.in_step + max(offsets) - min(offsets) + 1
    a.table_rows = min(a.table_rows, rows.in_size) + 1
    a.table_columns = columns.out_size * columns.in_step + columns.window
    scratch = 8 * (a.table_rows * a.table_columns + band * rows.window) + 4 * channels
    attributes = (<const char*> &a)[:sizeof(a)] + axis_bytes(rows) + axis_bytes(columns)
    return kernel("conv_depthwise_weight", run, chunks * channel_blocks, scratch,
                  <const char*> attributes, len(attributes))
