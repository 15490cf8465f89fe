"""Tiles of any height and width, and stacks of them: what kernels call `tile.tile` by.

Heights and widths are literals to a tile, so each has its own copy; the choice comes once for a run of
equal tiles. An activation that is more than a pair of bounds is applied to what was just stored.
"""

from .activation cimport (
    HARD_SIGMOID, HARD_SWISH, RELU6, SIGMOID, SILU, activate_by,
)
from .tile cimport Tile, tile, tile_rows

cdef enum:
    FEW = 4     # tiles


cdef inline void tiles(const int nv, const bint gather, const bint stream, const int mr,
                       const Tile* t) noexcept nogil:
    """The tiles with ``1 <= mr <= tile_rows(nv)`` rows: one specialised copy per height."""
    if mr == 1:
        tile(1, nv, gather, stream, t)
    elif mr == 2:
        tile(2, nv, gather, stream, t)
    elif mr == 3 and tile_rows(nv) >= 3:
        tile(3, nv, gather, stream, t)
    elif mr == 4 and tile_rows(nv) >= 4:
        tile(4, nv, gather, stream, t)
    elif mr == 5 and tile_rows(nv) >= 5:
        tile(5, nv, gather, stream, t)
    elif mr == 6 and tile_rows(nv) >= 6:
        tile(6, nv, gather, stream, t)
    elif mr == 7 and tile_rows(nv) >= 7:
        tile(7, nv, gather, stream, t)
    elif mr == 8 and tile_rows(nv) >= 8:
        tile(8, nv, gather, stream, t)
    elif mr == 9 and tile_rows(nv) >= 9:
        tile(9, nv, gather, stream, t)
    elif mr == 10 and tile_rows(nv) >= 10:
        tile(10, nv, gather, stream, t)
    elif mr == 11 and tile_rows(nv) >= 11:
        tile(11, nv, gather, stream, t)
    elif mr == 12 and tile_rows(nv) >= 12:
        tile(12, nv, gather, stream, t)
    elif mr == 13 and tile_rows(nv) >= 13:
        tile(13, nv, gather, stream, t)
    elif mr == 14 and tile_rows(nv) >= 14:
        tile(14, nv, gather, stream, t)


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


cdef inline void tiles_of_width(const int nv, const bint gather, const bint stream, const int mr,
                                const Tile* t) noexcept nogil:
    """The tiles that are ``nv`` = 4, 2 or 1 vectors wide; each kernel wraps it once."""
    if nv == 4:
        tiles(4, gather, stream, mr, t)
    elif nv == 2:
        tiles(2, gather, stream, mr, t)
    else:
        tiles(1, gather, stream, mr, t)
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
