"""The accumulator tile: the one inner loop of matrix product and convolution.

A tile is ``mr`` rows (output pixels) times ``nv`` vectors (output channels), held in registers over
the whole sum; ``mr`` and ``nv`` are literals, so every loop over them becomes straight-line code.
The second operand lies in a *panel*, which `pack` makes, zero-padded to a whole number of vectors:

    panel[tap][depth][nv * VL]      the columns of one tap are read once, in order, by every tile

The body stands in a loop over equal tiles below one another. It is no luxury: gcc unrolls constant
loops early, before it decides what lives in registers, only where a loop encloses them; without
one the accumulators pass through the stack on the way in and out, some 400 cycles a tile.

A turn of that inner loop takes several rows of the panel (`unrolled`). An Intel core counts and jumps on the
ports that multiply, and a turn of a single row loses them 5 to 15 % of their time (a Zen has ports of
their own for that); many more rows lose as much again. `in_order` keeps gcc from reading all rows of a
turn first, for which there are no registers.
"""

from .activation cimport RELU, RELU6, between
from .ahead cimport AT_ONCE, BYTES, LINE, lines_at_once, send_for, send_lines
from .isa cimport (
    MR1, MR2, MR4, UNROLLED, VL, in_order, vadd, vf, vfma, vfma_held, vload, vload_part, vset1, vstore,
    vstore_part, vstream, vzero,
)

cdef extern from *:
    """
    /* what LINEAR, RELU and RELU6 keep a number between */
    static const float BOUNDS[3][2] = {
        {-__builtin_inff(), __builtin_inff()}, {0, __builtin_inff()}, {0, 6}};
    """
    const float* BOUNDS[3]

cdef enum:
    MANY = 16   # lines: more than that, stored at once, would be waited for

cdef struct Tile:
    Py_ssize_t count        # how many tiles of mr rows lie below one another
    Py_ssize_t taps         # how many taps are summed
    const int* tap          # their numbers, ascending; NULL: all, 0 .. taps - 1
    Py_ssize_t depth        # floats of a row that one tap multiplies
    const float** rows      # gather: row i of tap t starts at rows[t * rows_step + i] + offset
    Py_ssize_t rows_step
    Py_ssize_t offset
    const float* a          # otherwise: it starts at a + t * tap_step + i * row_step
    Py_ssize_t tap_step
    Py_ssize_t row_step
    const float* panel
    const float* bias       # NULL: none
    int activation          # set, like the next, by `set_activation`
    const float* bounds     # of what is stored
    float** y_rows          # gather: row i of the result starts at y_rows[i] + y_offset
    Py_ssize_t y_offset
    float* y                # otherwise: at y + i * y_step
    Py_ssize_t y_step
    bint y_distant          # whether rows of the result lie beyond the nearer caches, and are sent for
    const float* residual   # lies to y as its rows lie to those of the result; NULL: none
    Py_ssize_t columns      # how many columns of the panel are stored
    const char* ahead       # what is used next is sent for meanwhile, from here on:
    int ahead_lines         # with each turn so many lines of it, 1 or `AT_ONCE`,
    Py_ssize_t ahead_apart  # so many bytes from one to the next;
    Py_ssize_t ahead_step   # they move on by so many for each row of the panel


cdef inline void set_activation(Tile* t, int activation) noexcept nogil:
    """The bounds of relu and relu6; of any other, infinite ones."""
    t.activation = activation
    t.bounds = BOUNDS[activation if activation <= RELU6 else 0]


cdef inline void send_nothing(Tile* t) noexcept nogil:
    """A line is sent for all the same, since to ask would cost more: that of ``t``, which is near."""
    t.ahead, t.ahead_lines, t.ahead_apart, t.ahead_step = <const char*> t, 1, BYTES, 0


cdef inline bint can_stream(const float* y, Py_ssize_t y_step, int nv,
                            int activation) noexcept nogil:
    """Whether tiles write whole cache lines of y, and `finish` does not read them again."""
    return (activation <= RELU6 and y_step % LINE == 0 and nv * VL % LINE == 0
            and <size_t> y % (LINE * sizeof(float)) == 0)


cdef inline int tile_rows(int nv) noexcept nogil:
    """Height of the tile that is ``nv`` vectors wide."""
    return MR4 if nv == 4 else MR2 if nv == 2 else MR1


cdef inline Py_ssize_t lanes(Py_ssize_t columns, int j) noexcept nogil:
    """How many of ``columns`` fall into vector ``j``."""
    return max(<Py_ssize_t> 0, min(<Py_ssize_t> VL, columns - j * VL))


cdef inline void claim(const int nv, const float* y) noexcept nogil:
    """Send for the ``nv`` vectors at y, which will be stored."""
    cdef int i
    for i in range((nv * VL + LINE - 1) // LINE):
        send_for(<const char*> (y + i * LINE))


cdef inline int unrolled(const int mr, const int nv) noexcept nogil:
    """Rows of the panel in a turn of the loop of that tile: with few registers, gcc finds enough of them
    for several only where rows are held, which `vfma_held` sees to."""
    return UNROLLED if VL == 16 or mr < nv else 1


cdef inline void send_during(Tile* t, int nv, const char* ahead, Py_ssize_t nbytes,
                             Py_ssize_t rows) noexcept nogil:
    """Have ``nbytes`` sent for while tiles of ``nv`` vectors, as tall as they get, walk over ``rows`` rows of
    panels, in several streams where one line a turn is not enough: memory serves these faster than one."""
    cdef Py_ssize_t part = nbytes       # of a stream
    if rows == 0:
        send_nothing(t)
        return
    t.ahead, t.ahead_lines = ahead, lines_at_once(unrolled(tile_rows(nv), nv) * nbytes // rows)
    if t.ahead_lines == AT_ONCE:
        part = (nbytes // AT_ONCE + BYTES - 1) // BYTES * BYTES
    t.ahead_apart, t.ahead_step = part, (part + rows - 1) // rows


cdef inline int starts(const int mr, const bint gather) noexcept nogil:
    """How many addresses say where ``mr`` rows are: of every row, or of evenly spaced ones every fourth, at
    its first channel. The rows of each four lie at the same distances behind it, which move on with the
    channels: four numbers do, however many rows there are."""
    return mr if gather else (mr + 3) // 4


cdef inline float element(const bint gather, const float** rows, const Py_ssize_t* behind, int i,
                          Py_ssize_t c) noexcept nogil:
    """a[i][c], where c counts, unless rows are gathered, from the channel that ``behind`` has come to"""
    return rows[i][c] if gather else rows[i // 4][behind[i % 4] + c]


cdef inline void multiply_row(const int mr, const int nv, const bint gather, const float** rows,
                              const Py_ssize_t* behind, Py_ssize_t c, const float* panel,
                              vf* acc) noexcept nogil:
    """acc[i, :] += a[i][c] * panel[:], the fewer of rows and vectors held in registers"""
    cdef vf held[14]    # 4 at most: gcc warns of the branch that is not taken
    cdef vf x
    cdef int i, j
    if mr < nv:
        for i in range(mr):
            held[i] = vset1(element(gather, rows, behind, i, c))
        for j in range(nv):
            x = vload(panel + j * VL)
            for i in range(mr):
                acc[i * nv + j] = vfma_held(held[i], x, acc[i * nv + j])
    else:
        for j in range(nv):
            held[j] = vload(panel + j * VL)
        for i in range(mr):
            x = vset1(element(gather, rows, behind, i, c))
            for j in range(nv):
                acc[i * nv + j] = vfma(x, held[j], acc[i * nv + j])


cdef inline float* stored_row(const int mr, const bint gather, const Tile* t, Py_ssize_t n,
                              int i) noexcept nogil:
    """Where row ``i`` of tile ``n`` is stored."""
    return t.y_rows[n * mr + i] + t.y_offset if gather else t.y + (n * mr + i) * t.y_step


cdef inline void start_sums(const int mr, const int nv, const bint full, const Tile* t,
                            vf* acc) noexcept nogil:
    """acc[i, :] = bias"""
    cdef vf b
    cdef int i, j
    for j in range(nv):
        b = vzero()
        if t.bias != NULL:
            b = (vload(t.bias + j * VL) if full
                 else vload_part(t.bias + j * VL, lanes(t.columns, j)))
        for i in range(mr):
            acc[i * nv + j] = b


cdef inline void complete_sums(const int mr, const int nv, const bint gather, const bint full,
                               const Tile* t, Py_ssize_t n, vf* acc) noexcept nogil:
    """acc[i, :] += residual[i, :], then relu or relu6, if it is one of them"""
    cdef const float* r
    cdef int i, j
    if t.residual != NULL:
        for i in range(mr):
            r = t.residual + (stored_row(mr, gather, t, n, i) - t.y)
            for j in range(nv):
                acc[i * nv + j] = vadd(acc[i * nv + j], (
                    vload(r + j * VL) if full else vload_part(r + j * VL, lanes(t.columns, j))))
    if t.activation == RELU or t.activation == RELU6:
        for i in range(mr):
            for j in range(nv):
                acc[i * nv + j] = between(t.bounds[0], t.bounds[1], acc[i * nv + j])


cdef inline void store_sums(const int mr, const int nv, const bint gather, const bint stream,
                            const bint full, const Tile* t, Py_ssize_t n,
                            const vf* acc) noexcept nogil:
    """y[i, :] = acc[i, :]; whether vectors are whole is asked once, not with every row"""
    cdef float* y
    cdef int i, j
    if full:
        for i in range(mr):
            y = stored_row(mr, gather, t, n, i)
            for j in range(nv):
                if stream:
                    vstream(y + j * VL, acc[i * nv + j])
                else:
                    vstore(y + j * VL, acc[i * nv + j])
    else:
        for i in range(mr):
            y = stored_row(mr, gather, t, n, i)
            for j in range(nv):
                vstore_part(y + j * VL, acc[i * nv + j], lanes(t.columns, j))


cdef inline void tile(const int mr, const int nv, const bint gather, const bint stream,
                      const Tile* t) noexcept nogil:
    """y[i, :] = bias + sum over taps, over c < depth of a[tap, i][c] * panel[tap, c, :]
              + residual[i, :]

    between the bounds that are relu and relu6; `finish` applies any other. The sum runs in the
    order of taps and channels whatever the tile. y must not overlap a; it may be the residual.
    A ``stream`` goes to memory, past the caches. Lines of a distant y, where they are many, are sent for
    before the sum: it takes long enough for them to come, and for their addresses to be translated.
    ``t.ahead`` goes line by line, with every turn: a burst would be in the way of what the loop itself
    reads. The loop asks only how many lines these are: any other question costs it a twentieth of its time.
    """
    cdef int turn = unrolled(mr, nv)
    cdef bint claims = not stream and mr * nv * VL > MANY * LINE and t.y_distant
    cdef bint full = t.columns >= nv * VL
    cdef int sent = t.ahead_lines
    cdef Py_ssize_t ahead_step = t.ahead_step, apart = t.ahead_apart
    cdef vf acc[14 * 4]
    cdef const float* rows[14]
    cdef Py_ssize_t behind[4]
    cdef const float* panel
    cdef const char* ahead = t.ahead
    cdef Py_ssize_t depth = t.depth, rest = t.depth % turn, step = t.row_step, u, tap, n, _c
    cdef int i, k
    for n in range(t.count):
        start_sums(mr, nv, full, t, acc)
        if claims:
            for i in range(mr):
                claim(nv, stored_row(mr, gather, t, n, i))
        for u in range(t.taps):
            tap = u if t.tap == NULL else t.tap[u]
            panel = t.panel + tap * depth * nv * VL
            for i in range(starts(mr, gather)):
                rows[i] = (t.rows[tap * t.rows_step + n * mr + i] + t.offset if gather
                           else t.a + tap * t.tap_step + (n * mr + 4 * i) * step)
            if not gather:
                for i in range(4):
                    behind[i] = i * step
            for _c in range(depth // turn):
                for k in range(turn):
                    multiply_row(mr, nv, gather, rows, behind, _c * turn + k if gather else k,
                                 panel, acc)
                    panel += nv * VL
                    if turn > 1:
                        in_order()
                send_lines(ahead, sent, apart)
                ahead += turn * ahead_step
                if not gather:
                    for i in range(4):
                        behind[i] += turn
            for k in range(turn - 1):
                if k < rest:
                    multiply_row(mr, nv, gather, rows, behind, depth - rest + k if gather else k,
                                 panel + k * nv * VL, acc)
            ahead += rest * ahead_step
        complete_sums(mr, nv, gather, full, t, n, acc)
        store_sums(mr, nv, gather, stream, full, t, n, acc)
