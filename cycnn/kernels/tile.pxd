"""The accumulator tile: the one inner loop of matrix product and convolution.

A tile is ``mr`` rows (output pixels) times ``nv`` vectors (output channels), held in registers over
the whole sum; ``mr`` and ``nv`` are literals, so every loop over them becomes straight-line code.
The second operand lies in a *panel*, which `pack` makes, zero-padded to a whole number of vectors:

    panel[tap][depth][nv * VL]      the columns of one tap are read once, in order, by every tile

The body stands in a loop over equal tiles below one another. It is no luxury: gcc unrolls constant
loops early, before it decides what lives in registers, only where a loop encloses them; without
one the accumulators pass through the stack on the way in and out, some 400 cycles a tile.

A turn of that inner loop takes `UNROLLED` rows of the panel. An Intel core counts and jumps on the
ports that multiply, and a turn of a single row loses them 5 to 15 % of their time (a Zen has ports of
their own for that); many more rows lose as much again. `in_order` keeps gcc from reading all rows of a
turn first, for which there are no registers.
"""

from .activation cimport (
    HARD_SIGMOID, HARD_SWISH, RELU6, SIGMOID, SILU, activate_by,
)
from .ahead cimport LINE, send_for
from .isa cimport (
    MR1, MR2, MR4, UNROLLED, VL, in_order, vadd, vf, vfma, vfma_held, vload, vload_part, vmax, vmin,
    vset1, vstore, vstore_part, vstream, vzero,
)

cdef extern from *:
    """
    /* what LINEAR, RELU and RELU6 keep a number between */
    static const float BOUNDS[3][2] = {
        {-__builtin_inff(), __builtin_inff()}, {0, __builtin_inff()}, {0, 6}};
    """
    const float* BOUNDS[3]

cdef enum:
    FEW = 4     # tiles
    MANY = 16   # lines: more than that, stored at once, would be waited for
    AT_ONCE = 4 # are sent for

cdef enum:      # where the result of a tile goes:
    NEAR        # to a nearby cache,
    BEYOND      # to lines that may have to come first,
    PAST        # to memory, past the caches

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
    const float* residual   # lies to y as its rows lie to those of the result; NULL: none
    Py_ssize_t columns      # how many columns of the panel are stored
    const char* ahead       # what is used next, sent for with each row of the panel; NULL: the panel's start
    Py_ssize_t ahead_step   # bytes further on with each


cdef inline void set_activation(Tile* t, int activation) noexcept nogil:
    """Bounds serve relu and relu6, and cost nothing where there are none."""
    t.activation = activation
    t.bounds = BOUNDS[activation if activation <= RELU6 else 0]


cdef inline void send_nothing(Tile* t) noexcept nogil:
    t.ahead, t.ahead_step = NULL, 0


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


cdef inline int lines_of(Py_ssize_t nbytes) noexcept nogil:
    """How many lines to send for where ``nbytes`` are multiplied meanwhile: all, up to `AT_ONCE`."""
    cdef Py_ssize_t line = LINE * sizeof(float)
    return <int> min(max((nbytes + line - 1) // line, <Py_ssize_t> 1), <Py_ssize_t> AT_ONCE)


cdef inline int starts(const int mr, const bint gather) noexcept nogil:
    """How many addresses say where ``mr`` rows are: of every row, or of evenly spaced ones every third,
    since an address of the machine adds a step once or twice."""
    return mr if gather else (mr + 2) // 3


cdef inline float element(const bint gather, const float** rows, Py_ssize_t step, int i,
                          Py_ssize_t c) noexcept nogil:
    """a[i][c]"""
    return rows[i][c] if gather else rows[i // 3][i % 3 * step + c]


cdef inline void multiply_row(const int mr, const int nv, const bint gather, const float** rows,
                              Py_ssize_t step, Py_ssize_t c, const float* panel,
                              vf* acc) noexcept nogil:
    """acc[i, :] += a[i][c] * panel[:], the fewer of rows and vectors held in registers"""
    cdef vf held[14]    # 4 at most: gcc warns of the branch that is not taken
    cdef vf x
    cdef int i, j
    if mr < nv:
        for i in range(mr):
            held[i] = vset1(element(gather, rows, step, i, c))
        for j in range(nv):
            x = vload(panel + j * VL)
            for i in range(mr):
                acc[i * nv + j] = vfma_held(held[i], x, acc[i * nv + j])
    else:
        for j in range(nv):
            held[j] = vload(panel + j * VL)
        for i in range(mr):
            x = vset1(element(gather, rows, step, i, c))
            for j in range(nv):
                acc[i * nv + j] = vfma(x, held[j], acc[i * nv + j])


cdef inline void tile(const int mr, const int nv, const bint gather, const int to,
                      const bint send, const Tile* t) noexcept nogil:
    """y[i, :] = bias + sum over taps, over c < depth of a[tap, i][c] * panel[tap, c, :]
              + residual[i, :]

    between the bounds that are relu and relu6; `finish` applies any other. The sum runs in the
    order of taps and channels whatever the tile. y must not overlap a; it may be the residual.
    Lines of y that lie `BEYOND` are sent for with the first channels, where they are many, and
    ``t.ahead`` with every turn, where it is to ``send``: a burst of requests would have to be waited
    for, one a turn is not.
    """
    cdef int turn = unrolled(mr, nv)
    cdef bint claims = to == BEYOND and mr * nv * VL > MANY * LINE
    cdef int sent = lines_of(turn * t.ahead_step)
    cdef vf acc[14 * 4]
    cdef const float* rows[14]
    cdef const float* panel
    cdef const char* ahead = t.ahead if send and t.ahead != NULL else <const char*> t.panel
    cdef const float* r
    cdef float* y
    cdef vf x
    cdef Py_ssize_t depth = t.depth, step = t.row_step, u, tap, n, _c
    cdef int claimed, i, j, k
    for n in range(t.count):
        claimed = 0
        for j in range(nv):
            x = vzero()
            if t.bias != NULL:
                x = (vload(t.bias + j * VL) if t.columns >= nv * VL
                     else vload_part(t.bias + j * VL, lanes(t.columns, j)))
            for i in range(mr):
                acc[i * nv + j] = x
        for u in range(t.taps):
            tap = u if t.tap == NULL else t.tap[u]
            panel = t.panel + tap * depth * nv * VL
            for i in range(starts(mr, gather)):
                rows[i] = (t.rows[tap * t.rows_step + n * mr + i] + t.offset if gather
                           else t.a + tap * t.tap_step + (n * mr + 3 * i) * step)
            for _c in range(depth // turn):
                for k in range(unrolled(mr, nv)):
                    multiply_row(mr, nv, gather, rows, step, _c * turn + k if gather else k,
                                 panel, acc)
                    panel += nv * VL
                    if turn > 1:
                        in_order()
                if claims and claimed < mr:
                    claim(nv, t.y_rows[n * mr + claimed] + t.y_offset if gather
                          else t.y + (n * mr + claimed) * t.y_step)
                    claimed += 1
                if send:
                    for k in range(sent):
                        send_for(ahead + k * LINE * <Py_ssize_t> sizeof(float))
                    ahead += turn * t.ahead_step
                if not gather:
                    for i in range(starts(mr, gather)):
                        rows[i] += turn
            for _c in range(depth - depth % turn, depth):
                multiply_row(mr, nv, gather, rows, step, _c if gather else 0, panel, acc)
                panel += nv * VL
                if not gather:
                    for i in range(starts(mr, gather)):
                        rows[i] += 1
        if t.residual != NULL:
            for i in range(mr):
                r = t.residual + ((t.y_rows[n * mr + i] + t.y_offset if gather
                                   else t.y + (n * mr + i) * t.y_step) - t.y)
                for j in range(nv):
                    acc[i * nv + j] = vadd(acc[i * nv + j], (
                        vload(r + j * VL) if t.columns >= nv * VL
                        else vload_part(r + j * VL, lanes(t.columns, j))))
        for i in range(mr * nv):
            acc[i] = vmin(vset1(t.bounds[1]), vmax(vset1(t.bounds[0]), acc[i]))
        for i in range(mr):
            y = (t.y_rows[n * mr + i] + t.y_offset if gather
                 else t.y + (n * mr + i) * t.y_step)
            if t.columns >= nv * VL:
                for j in range(nv):
                    if to == PAST:
                        vstream(y + j * VL, acc[i * nv + j])
                    else:
                        vstore(y + j * VL, acc[i * nv + j])
            else:
                for j in range(nv):
                    vstore_part(y + j * VL, acc[i * nv + j], lanes(t.columns, j))


cdef inline void tiles(const int nv, const bint gather, const int to, const bint send,
                       const int mr, const Tile* t) noexcept nogil:
    """The tiles with ``1 <= mr <= tile_rows(nv)`` rows: one specialised copy per height."""
    if mr == 1:
        tile(1, nv, gather, to, send, t)
    elif mr == 2:
        tile(2, nv, gather, to, send, t)
    elif mr == 3 and tile_rows(nv) >= 3:
        tile(3, nv, gather, to, send, t)
    elif mr == 4 and tile_rows(nv) >= 4:
        tile(4, nv, gather, to, send, t)
    elif mr == 5 and tile_rows(nv) >= 5:
        tile(5, nv, gather, to, send, t)
    elif mr == 6 and tile_rows(nv) >= 6:
        tile(6, nv, gather, to, send, t)
    elif mr == 7 and tile_rows(nv) >= 7:
        tile(7, nv, gather, to, send, t)
    elif mr == 8 and tile_rows(nv) >= 8:
        tile(8, nv, gather, to, send, t)
    elif mr == 9 and tile_rows(nv) >= 9:
        tile(9, nv, gather, to, send, t)
    elif mr == 10 and tile_rows(nv) >= 10:
        tile(10, nv, gather, to, send, t)
    elif mr == 11 and tile_rows(nv) >= 11:
        tile(11, nv, gather, to, send, t)
    elif mr == 12 and tile_rows(nv) >= 12:
        tile(12, nv, gather, to, send, t)
    elif mr == 13 and tile_rows(nv) >= 13:
        tile(13, nv, gather, to, send, t)
    elif mr == 14 and tile_rows(nv) >= 14:
        tile(14, nv, gather, to, send, t)


cdef inline void finish_by(const int code, const bint gather, int mr,
                           const Tile* t) noexcept nogil:
    cdef float* y
    cdef Py_ssize_t i
    for i in range(t.count * mr):
        y = t.y_rows[i] + t.y_offset if gather else t.y + i * t.y_step
        activate_by(code, y, y, t.columns)


cdef inline void finish(const bint gather, int mr, const Tile* t) noexcept nogil:
    """y = activation(y), for the tiles just stored: the choice comes once, not with every row."""
    if t.activation == SIGMOID:
        finish_by(SIGMOID, gather, mr, t)
    elif t.activation == SILU:
        finish_by(SILU, gather, mr, t)
    elif t.activation == HARD_SIGMOID:
        finish_by(HARD_SIGMOID, gather, mr, t)
    elif t.activation == HARD_SWISH:
        finish_by(HARD_SWISH, gather, mr, t)


cdef inline void tiles_of_width(const int nv, const bint gather, const int to,
                                const bint send, const int mr, const Tile* t) noexcept nogil:
    """The tiles that are ``nv`` = 4, 2 or 1 vectors wide; each kernel wraps it once."""
    if nv == 4:
        tiles(4, gather, to, send, mr, t)
    elif nv == 2:
        tiles(2, gather, to, send, mr, t)
    else:
        tiles(1, gather, to, send, mr, t)
    if t.activation > RELU6:
        finish(gather, mr, t)


ctypedef void (*Multiply)(int nv, int mr, const Tile*) noexcept nogil  # a kernel's `tiles_of_width`


cdef inline void stack_equal(Multiply multiply, Py_ssize_t tiles, int mr, int nv,
                             Tile* t) noexcept nogil:
    """``tiles`` tiles of ``mr`` rows; ``t`` moves on to what lies below them.

    What `finish` is to do again comes a few at a time, while it is in the first-level cache.
    """
    cdef Py_ssize_t together
    while tiles > 0:
        together = min(tiles, <Py_ssize_t> FEW) if t.activation > RELU6 else tiles
        t.count = together
        multiply(nv, mr, t)
        t.a += together * mr * t.row_step
        t.y += together * mr * t.y_step
        if t.residual != NULL:
            t.residual += together * mr * t.y_step
        if t.ahead != NULL:
            t.ahead += together * t.taps * t.depth * t.ahead_step
        tiles -= together


cdef inline Py_ssize_t tile_count(Py_ssize_t rows, int height) noexcept nogil:
    """Tiles that ``rows`` rows are cut into, where ``height`` is the most they hold."""
    return (rows + height - 1) // height


cdef inline void stack(Multiply multiply, Py_ssize_t rows, int height, int nv,
                       Tile* t) noexcept nogil:
    """``rows`` evenly spaced rows from ``t.a`` and ``t.y`` on, in tiles of nearly equal height."""
    cdef Py_ssize_t tiles = tile_count(rows, height)
    cdef Py_ssize_t low = rows // max(tiles, <Py_ssize_t> 1), taller = rows - low * tiles
    stack_equal(multiply, taller, <int> low + 1, nv, t)
    stack_equal(multiply, tiles - taller, <int> low, nv, t)
