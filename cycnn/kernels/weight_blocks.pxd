"""What a block of pixels reads of x and dy, and the copies in which the outer-product tile reads faster.

A block belongs to a part of the gradient of weights, which is what an item of `conv_weight` computes.
"""

from libc.string cimport memcpy, memset

from .isa cimport MR2, VL, vload, vload_part, vstore
from .outer cimport NR, Attributes, Block, Span

cdef struct Part:
    # what an item does: a part of group g's dw, summed over ``size`` pixels from ``begin``
    Py_ssize_t g, z, row, channel, panel, begin, size, blocks
    Py_ssize_t r0, r1           # its rows of the filter


cdef inline Py_ssize_t count(Py_ssize_t size, Py_ssize_t part) noexcept nogil:
    """How many parts of at most ``part`` cover ``size``."""
    return (size + part - 1) // part


cdef inline Py_ssize_t find_spans_of_tap(const Attributes* a, const Block* block, Py_ssize_t r,
                                         Py_ssize_t s, Span* spans) noexcept nogil:
    """Write the spans of tap (r, s), and return how many there are."""
    cdef Py_ssize_t column = 0 if a.padded else s * a.dw - a.pw
    cdef Py_ssize_t size = a.padded if a.padded else a.w
    cdef Py_ssize_t low = 0, high = a.q, m = block.begin, n = block.n, p = block.p, q = block.q
    cdef Py_ssize_t first, stop, found = 0
    if not a.folded:
        low = count(max(-column, 0), a.sw)
        high = min(a.q, count(max(size - column, 0), a.sw))
    while m < block.end:
        first, stop = max(q, low), min(a.q, q + block.end - m)
        spans[found].row = p * a.sh - a.ph + r * a.dh
        spans[found].x = (n * a.h + spans[found].row - block.first) * size + first * a.sw + column
        spans[found].y = m - block.begin + first - q
        spans[found].count = min(stop, high) - first
        found += spans[found].count > 0
        m += stop - q
        q = 0
        p += 1
        if p == a.p:
            p = 0
            n += 1
    return found


# The table of a part's taps: how many spans each has, then room for `spans` of each.


cdef inline Py_ssize_t table_bytes(const Attributes* a, Py_ssize_t taps) noexcept nogil:
    """The size of the table, in whole cache lines."""
    return count(taps * (sizeof(Py_ssize_t) + a.spans * sizeof(Span)), 64) * 64


cdef inline Span* spans_of_tap(const Attributes* a, const Part* part, char* table, Py_ssize_t r,
                               Py_ssize_t s, Py_ssize_t** found) noexcept nogil:
    """The spans of tap (r, s) in the table; ``found`` shows how many there are."""
    cdef Py_ssize_t* counts = <Py_ssize_t*> table
    cdef Py_ssize_t tap = (r - part.r0) * a.s + s
    found[0] = counts + tap
    return <Span*> (counts + (part.r1 - part.r0) * a.s) + tap * a.spans


cdef inline void find_spans(const Attributes* a, const Block* block, const Part* part,
                            char* table) noexcept nogil:
    """Fill the table for a block."""
    cdef Py_ssize_t r, s
    cdef Py_ssize_t* found
    cdef Span* spans
    for r in range(part.r0, part.r1):
        for s in range(a.s):
            spans = spans_of_tap(a, part, table, r, s, &found)
            found[0] = find_spans_of_tap(a, block, r, s, spans)


cdef inline void pack_panel(const Attributes* a, const Block* block, const float* dy, Py_ssize_t width,
                            float* to) noexcept nogil:
    """Copy ``width`` channels of the block's pixels of dy to rows of NR floats.

    There they do not meet in a few sets of the cache. And whole vectors can be read, where in dy they would
    reach beyond its end; what lies beyond a panel is not stored.
    """
    cdef Py_ssize_t m, j
    for m in range(block.end - block.begin):
        j = 0
        while j + VL <= width:
            vstore(to + m * NR + j, vload(dy + m * a.k + j))
            j += VL
        if j < width:
            vstore(to + m * NR + j, vload_part(dy + m * a.k + j, width - j))


cdef inline Py_ssize_t rows_of(const Attributes* a, Block* block) noexcept nogil:
    """Find the rows of x that a block reads: how many from ``block.first`` on."""
    cdef Py_ssize_t last = (block.end - 1) // a.q
    cdef Py_ssize_t n = last // a.p
    cdef Py_ssize_t h = (last - n * a.p) * a.sh - a.ph + (a.r - 1) * a.dh + 1
    block.first = block.n * a.h + min(max(block.p * a.sh - a.ph, 0), a.h)
    return n * a.h + min(max(h, 0), a.h) - block.first


cdef inline void copy_rows(const Attributes* a, Block* block, const float* x, float* to) noexcept nogil:
    """Copy the rows of x that a block reads, with zeros for their left and right padding."""
    cdef Py_ssize_t left = min(a.pw, a.padded) * a.c
    cdef Py_ssize_t size = max(min(a.w, a.padded - a.pw), 0) * a.c
    cdef Py_ssize_t row = a.padded * a.c
    cdef Py_ssize_t i
    for i in range(rows_of(a, block)):
        memset(to, 0, 4 * left)
        memcpy(to + left, x + (block.first + i) * a.w * a.c, 4 * size)
        memset(to + left + size, 0, 4 * (row - left - size))
        to += row


cdef inline void copy_channels(const int vectors, const float* x, Py_ssize_t step, Py_ssize_t pixels,
                               Py_ssize_t channels, float* to) noexcept nogil:
    """Copy the first ``channels`` of ``pixels`` >= 1 pixels, in whole ``vectors`` but for the last.

    Pixels lie ``step`` >= ``vectors`` * VL floats apart, so that no vector is read from beyond the last. What
    is too much of a pixel, the next one overwrites; the caller leaves room for a vector behind them.
    """
    cdef Py_ssize_t _m
    cdef int j
    for _m in range(pixels - 1):
        for j in range(vectors):
            vstore(to + j * VL, vload(x + j * VL))
        x += step
        to += channels
    memcpy(to, x, channels * sizeof(float))


cdef inline void copy_tiles(const Attributes* a, Block* block, const Part* part, const float* x,
                            float* to) noexcept nogil:
    """Copy the rows of x that a block reads, the channels of each tile by themselves.

    There one pixel after the other takes few lines of the cache, which do not meet in a few of its sets.
    """
    cdef Py_ssize_t tiles = count(a.channels, MR2), i, c0, n
    cdef Py_ssize_t pixels = rows_of(a, block) * a.w
    x += block.first * a.w * a.c + part.g * a.channels
    for i in range(part.channel * tiles // a.channel_blocks,
                   (part.channel + 1) * tiles // a.channel_blocks if pixels > 0 else 0):
        c0 = i * a.channels // tiles
        n = (i + 1) * a.channels // tiles - c0
        if n <= VL:
            copy_channels(1, x + c0, a.c, pixels, n, to)
        else:
            copy_channels(2, x + c0, a.c, pixels, n, to)
        to += a.copied * a.w * n


cdef inline Py_ssize_t rows_of_a_block(const Attributes* a):
    """The most rows of x that ``block`` pixels need, across image boundaries."""
    cdef Py_ssize_t rows = (a.block + a.q - 2) // max(a.q, <Py_ssize_t> 1) + 1
    cdef Py_ssize_t images = (rows + a.p - 2) // max(a.p, <Py_ssize_t> 1)
    cdef Py_ssize_t gap = max(a.h - (a.p - 1) * a.sh + a.ph, a.sh)
    return min((rows - 1) * a.sh + images * (gap - a.sh) + (a.r - 1) * a.dh + 1, a.n * a.h)
