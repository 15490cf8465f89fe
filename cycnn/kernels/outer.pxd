"""The outer-product tile: sums of products of x and dy over pixels, for the gradient of weights.

``channels`` x ``vectors`` sums stay in registers while the tile walks over the pixels of a block: it
broadcasts x, loads vectors of dy, and skips the pixels whose tap falls outside the image.
"""

from .ahead cimport Ahead, fetch
from .isa cimport (
    MR1, UNROLLED, VL, in_order, vadd, vf, vfma, vload, vload_part, vset1, vstore, vstore_part, vstream,
    vzero,
)

cdef enum:
    NR = 2 * VL
    TALL = MR1 + 2 * (MR1 > 12)     # rows of a tile that is one vector wide
    ROWS = 28                       # of the largest tile
    LONG = 16                       # pixels of a span: 14 or 7 are 3 to 6 % slower in turns and a rest

cdef struct Attributes:
    Py_ssize_t n, h, w, c, p, q, k
    Py_ssize_t r, s, sh, sw, dh, dw, ph, pw
    Py_ssize_t groups
    Py_ssize_t channels         # rows of dw a tap has: C / groups, or S * C when folded
    Py_ssize_t folded
    Py_ssize_t padded           # pixels in a row of the padded copy, 0 where x itself is read
    Py_ssize_t tiled            # whether the channels of a tile are copied, to lie side by side
    Py_ssize_t copied           # rows of either copy that one block may need
    Py_ssize_t chunks           # into how many parts the pixels, ...
    Py_ssize_t row_blocks       # the filter rows, ...
    Py_ssize_t channel_blocks   # the channel tiles ...
    Py_ssize_t panel_blocks     # and the panels of output channels of a group are split
    Py_ssize_t block            # at most so many pixels at a time,
    Py_ssize_t piece            # of which so many are walked over between requests for lines,
    Py_ssize_t spans            # whose table has room for so many spans of a tap
    Py_ssize_t table            # and is so many bytes long
    Py_ssize_t accumulate
    Py_ssize_t distant          # whether x and dy lie beyond the caches,
    Py_ssize_t stream           # and dw, once it is written, too

cdef struct Block:
    # pixels begin <= m < end of the output, (n, p, q) being the position of the first
    Py_ssize_t begin, end, n, p, q
    # the tile's channels of x, from row `first` of all rows of all images; `zero` is a row of zeros
    const float* x
    const float* zero
    Py_ssize_t first
    Py_ssize_t x_row, x_pixel   # floats from one to the next
    const float* dy
    Py_ssize_t dy_step
    bint add                    # to dw
    bint stream                 # past the caches
    Ahead* ahead                # the two parts of what comes next: with every piece
    Py_ssize_t lines[2]         # so many lines of each are sent for: memory serves two faster than one

cdef struct Span:
    # neighbouring pixels of a row of the block, whose tap is not left or right of the image
    Py_ssize_t row              # of the image, which the tap reads: it may lie outside
    Py_ssize_t x, y             # the first pixel of x and of dy, counted from those of the block
    Py_ssize_t count

cdef struct View:
    # what one tile sees of a block: the spans of a tap
    const Span* spans
    Py_ssize_t count
    Py_ssize_t lanes            # of the last vector that are stored
    float* dw


cdef inline void add_pixel(const int taps, const int channels, const int vectors,
                           const float** xs, const float* y, vf* sums) noexcept nogil:
    """sums += outer(x, dy) of a pixel"""
    cdef vf b[2]
    cdef int t, i, j
    for j in range(vectors):
        b[j] = vload(y + j * VL)
    for t in range(taps):
        for i in range(channels):
            for j in range(vectors):
                sums[(t * channels + i) * vectors + j] = vfma(
                    vset1(xs[t][i]), b[j], sums[(t * channels + i) * vectors + j])


cdef inline void walk(const int taps, const int channels, const int vectors, const bint stream,
                      const Attributes* a, const Block* block, const View* view,
                      Py_ssize_t views) noexcept nogil:
    """dw[taps * channels, vectors * VL] (+)= sum over the block's pixels of outer(x, dy), for each view.

    ``taps`` > 1 takes that many rows of a folded filter together, for filters of few channels. ``stream``
    is for whole vectors of a dw that starts on a cache line. (That the body stands in a loop keeps the
    sums in registers on its way in and out, see `tile.pxd`.)
    """
    cdef vf sums[ROWS * 2]
    cdef const float* xs[8]
    cdef const float* y
    cdef const Span* span
    cdef float* dw
    cdef bint full, in_turns
    cdef Py_ssize_t step = a.sw * block.x_pixel, y_step = block.dy_step
    cdef Py_ssize_t n, some, turns, row, _v, _r, _
    cdef int t, i, j, _k
    # pixels to a turn of the loop (see `tile.pxd`): of the other copies gcc keeps sums on the stack
    cdef int turn = UNROLLED if taps == 1 and (VL == 16 or vectors == 2 and not stream) else 1
    for _v in range(views):
        span = view.spans
        for i in range(taps * channels):
            for j in range(vectors):
                sums[i * vectors + j] = vzero()
        for _r in range(view.count):
            n = span.count
            y = block.dy + span.y * block.dy_step
            for t in range(taps):
                row = span.row + t * a.dh
                xs[t] = block.zero
                if 0 <= row < a.h:
                    xs[t] = block.x + span.x * block.x_pixel + t * a.dh * block.x_row
                elif taps == 1:
                    n = 0
            in_turns = turn > 1 and n >= LONG
            while n > 0:
                some = min(n, a.piece)
                turns = some // turn if in_turns else 0
                for _ in range(turns):
                    for _k in range(turn):
                        add_pixel(taps, channels, vectors, xs, y, sums)
                        y += y_step
                        for t in range(taps):
                            xs[t] += step
                        in_order()
                for _ in range(some - turns * turn):
                    add_pixel(taps, channels, vectors, xs, y, sums)
                    y += y_step
                    for t in range(taps):
                        xs[t] += step
                fetch(block.ahead, block.lines[0])
                fetch(block.ahead + 1, block.lines[1])
                n -= some
            span += 1
        dw = view.dw
        full = view.lanes == VL
        for i in range(taps * channels):
            if block.add:
                for j in range(vectors - 1):
                    sums[i * vectors + j] = vadd(vload(dw + j * VL), sums[i * vectors + j])
                sums[i * vectors + vectors - 1] = vadd(
                    vload(dw + (vectors - 1) * VL) if full
                    else vload_part(dw + (vectors - 1) * VL, view.lanes), sums[i * vectors + vectors - 1])
            if stream:
                for j in range(vectors):
                    vstream(dw + j * VL, sums[i * vectors + j])
                dw += a.k
                continue
            for j in range(vectors - 1):
                vstore(dw + j * VL, sums[i * vectors + j])
            if full:
                vstore(dw + (vectors - 1) * VL, sums[i * vectors + vectors - 1])
            else:
                vstore_part(dw + (vectors - 1) * VL, sums[i * vectors + vectors - 1], view.lanes)
            dw += a.k
        view += 1
