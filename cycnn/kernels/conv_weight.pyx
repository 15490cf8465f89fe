"""Weight gradient of convolution and dense, float32, NHWC, as sums of outer products:

    dw[r, s, c, k] (+)= sum over n, p, q of
                        x[n, p*sh + r*dh - ph, q*sw + s*dw - pw, c] * dy[n, p, q, k]

with ``x`` N x H x W x C, ``dy`` N x P x Q x K and ``dw`` R x S x C/groups x K, all contiguous.
Positions outside ``x`` contribute nothing. A dense layer is the case of one tap and one row of
N pixels.

The tile keeps `channels` x `vectors` sums in registers while it walks over pixels: it broadcasts
x, loads vectors of dy, and skips the pixels whose tap falls outside ``x``. Pixels are walked in
blocks, so that the pieces of x and dy that all taps and channel tiles read again stay in the
second-level cache. For each block the spans of pixels that a tap can use are listed once. Where the
pixels of x lie far apart, the channels of each tile are copied, to lie side by side.

With few channels, the S * C neighbouring floats of a row of ``x`` are taken for the channels of
one tap (they are contiguous, and so are their rows of ``dw``): *folded*. Rows are then first
copied with their padding.

An item is one part of ``dw`` over one chunk of the pixels. With several chunks, chunk z writes
its sum to ``out[z]`` and `reduce.chunks` adds them up in order, so the bits depend on shapes alone.
"""

from libc.string cimport memset

from .ahead cimport LINE, Ahead, lines
from .isa cimport MR2, VL, vstream_end
from .outer cimport NR, TALL, Attributes, Block, View, walk
from .step cimport Step, kernel
from .weight_blocks cimport (
    Part, copy_rows, copy_tiles, count, find_spans, pack_panel, rows_of_a_block, spans_of_tap,
    table_bytes,
)

cdef enum:
    VIEWS = 8           # taps of a row of the filter that go to the tile together
    READINGS = 8        # of a panel of dy, or of a tile's channels of x, from which it pays to copy them
    APART = 256         # floats between pixels, which then meet in few sets of the first-level cache
    PIECE = 16          # pixels, after which lines are sent for: many at once would be waited for
    WIDE = 8            # times a block, its rows of x are too large to be copied whole

DISTANT = 2**21     # bytes of x and dy together that are beyond the nearest caches: fetched ahead of use

# channels of x and of dy in a full tile
TILE = (MR2, NR)

cdef void tiles_of_two(Py_ssize_t channels, const Attributes* a, const Block* b, const View* v,
                       Py_ssize_t views) noexcept nogil:
    """The tile that is two vectors wide, for 1 to MR2 channels."""
    if channels == MR2:
        walk(1, MR2, 2, False, a, b, v, views)
    elif channels == 1:
        walk(1, 1, 2, False, a, b, v, views)
    elif channels == 2:
        walk(1, 2, 2, False, a, b, v, views)
    elif channels == 3:
        walk(1, 3, 2, False, a, b, v, views)
    elif channels == 4:
        walk(1, 4, 2, False, a, b, v, views)
    elif channels == 5:
        walk(1, 5, 2, False, a, b, v, views)
    elif MR2 > 6 and channels == 6:
        walk(1, 6, 2, False, a, b, v, views)
    elif MR2 > 6 and channels == 7:
        walk(1, 7, 2, False, a, b, v, views)
    elif MR2 > 6 and channels == 8:
        walk(1, 8, 2, False, a, b, v, views)
    elif MR2 > 6 and channels == 9:
        walk(1, 9, 2, False, a, b, v, views)
    elif MR2 > 6 and channels == 10:
        walk(1, 10, 2, False, a, b, v, views)
    elif MR2 > 6 and channels == 11:
        walk(1, 11, 2, False, a, b, v, views)
    elif MR2 > 6 and channels == 12:
        walk(1, 12, 2, False, a, b, v, views)
    elif MR2 > 6 and channels == 13:
        walk(1, 13, 2, False, a, b, v, views)


cdef void streaming_tiles(Py_ssize_t channels, const Attributes* a, const Block* b, const View* v,
                          Py_ssize_t views) noexcept nogil:
    """`tiles_of_two` of the usual heights, which write past the caches."""
    if channels == MR2:
        walk(1, MR2, 2, True, a, b, v, views)
    elif channels == MR2 - 1:
        walk(1, MR2 - 1, 2, True, a, b, v, views)
    else:
        tiles_of_two(channels, a, b, v, views)


cdef void tiles_of_one(Py_ssize_t channels, const Attributes* a, const Block* b, const View* v,
                       Py_ssize_t views) noexcept nogil:
    """The tile that is one vector wide, for 1 to TALL channels."""
    if channels == TALL:
        walk(1, TALL, 1, False, a, b, v, views)
    elif channels == 1:
        walk(1, 1, 1, False, a, b, v, views)
    elif channels == 2:
        walk(1, 2, 1, False, a, b, v, views)
    elif channels == 3:
        walk(1, 3, 1, False, a, b, v, views)
    elif channels == 4:
        walk(1, 4, 1, False, a, b, v, views)
    elif channels == 5:
        walk(1, 5, 1, False, a, b, v, views)
    elif channels == 6:
        walk(1, 6, 1, False, a, b, v, views)
    elif channels == 7:
        walk(1, 7, 1, False, a, b, v, views)
    elif channels == 8:
        walk(1, 8, 1, False, a, b, v, views)
    elif channels == 9:
        walk(1, 9, 1, False, a, b, v, views)
    elif channels == 10:
        walk(1, 10, 1, False, a, b, v, views)
    elif channels == 11:
        walk(1, 11, 1, False, a, b, v, views)
    elif TALL > 12 and channels == 12:
        walk(1, 12, 1, False, a, b, v, views)
    elif TALL > 12 and channels == 13:
        walk(1, 13, 1, False, a, b, v, views)
    elif TALL > 12 and channels == 14:
        walk(1, 14, 1, False, a, b, v, views)
    elif TALL > 12 and channels == 15:
        walk(1, 15, 1, False, a, b, v, views)


cdef inline Py_ssize_t rows_together(Py_ssize_t channels, Py_ssize_t width) noexcept nogil:
    """How many rows of a folded filter `tiles_of_rows` takes together: 1 where it takes none."""
    if channels == 3 and (width <= VL or VL == 16):
        return 3
    if channels == 5 and width <= VL:
        return 5 if VL == 16 else 2
    if channels == 9 and width <= VL and VL == 16:
        return 3
    return 1


cdef void tiles_of_rows(Py_ssize_t channels, Py_ssize_t width, const Attributes* a, const Block* b,
                        const View* v, Py_ssize_t views) noexcept nogil:
    """The tile of `rows_together` rows: few channels alone would not fill the pipeline."""
    if channels == 3 and width <= VL:
        walk(3, 3, 1, False, a, b, v, views)
    elif VL == 16 and channels == 3:
        walk(3, 3, 2, False, a, b, v, views)
    elif VL == 16 and channels == 5:
        walk(5, 5, 1, False, a, b, v, views)
    elif channels == 5:
        walk(2, 5, 1, False, a, b, v, views)
    elif VL == 16:
        walk(3, 9, 1, False, a, b, v, views)


cdef void row_of_taps(const Attributes* a, const Block* block, const Part* part, char* table,
                      Py_ssize_t r, Py_ssize_t rows, Py_ssize_t c0, Py_ssize_t c1, Py_ssize_t k0,
                      Py_ssize_t width, float* dw) noexcept nogil:
    """Row r of the filter, and the ``rows`` - 1 below it: channels c0 to c1 of a group, ``width``
    output channels from k0."""
    cdef View views[VIEWS]
    cdef Py_ssize_t s = 0, n, i
    cdef Py_ssize_t* found
    while s < a.s:
        n = min(<Py_ssize_t> VIEWS, a.s - s)
        for i in range(n):
            views[i].spans = spans_of_tap(a, part, table, r, s + i, &found)
            views[i].count = found[0]
            views[i].lanes = width - VL if width > VL else width
            views[i].dw = dw + ((r * a.s + s + i) * a.channels + c0) * a.k + k0
        if rows > 1:
            tiles_of_rows(c1 - c0, width, a, block, views, n)
        elif block.stream and width == NR:
            streaming_tiles(c1 - c0, a, block, views, n)
        elif width > VL:
            tiles_of_two(c1 - c0, a, block, views, n)
        else:
            tiles_of_one(c1 - c0, a, block, views, n)
        s += n


cdef void aim(const Attributes* a, Block* block, const Part* part, const float* x,
              const float* copy, bint tiled, Py_ssize_t tiles, Py_ssize_t i) noexcept nogil:
    """Let the block show tile ``i`` of the part's group, of ``tiles``."""
    cdef Py_ssize_t c0 = i * a.channels // tiles, first
    block.x_pixel = a.c
    block.x_row = a.w * a.c
    block.x = x + block.first * a.w * a.c + part.g * a.channels + c0
    if a.padded:
        block.x_row = a.padded * a.c
        block.x = copy + c0
    elif tiled:
        first = part.channel * tiles // a.channel_blocks * a.channels // tiles
        block.x_pixel = (i + 1) * a.channels // tiles - c0
        block.x_row = a.w * block.x_pixel
        block.x = copy + (c0 - first) * a.copied * a.w


cdef void look_ahead(const Attributes* a, const Block* next_block, const float* x, const float* dy,
                     const Part* part, Ahead* ahead) noexcept nogil:
    """What a block reads: of x in ``ahead[0]``, of dy in ``ahead[1]``."""
    cdef Py_ssize_t group_c = a.c // a.groups
    cdef Py_ssize_t group_k = a.k // a.groups
    cdef Py_ssize_t last = (next_block.end - 1) // a.q
    cdef Py_ssize_t n = last // a.p
    cdef Py_ssize_t h = (last - n * a.p) * a.sh - a.ph + (a.r - 1) * a.dh + 1
    cdef Py_ssize_t begin, end, i
    begin = (next_block.n * a.h + min(max(next_block.p * a.sh - a.ph, 0), a.h)) * a.w
    end = (n * a.h + min(max(h, 0), a.h)) * a.w
    if a.p == 1 and a.h == 1:   # one long row
        begin = max(begin, next_block.n * a.w + next_block.q * a.sw - a.pw)
        end = min(end, n * a.w + (next_block.end - 1 - n * a.q) * a.sw + a.dw * a.s)
    ahead[0].width = count(group_c, a.channel_blocks)
    ahead[0].row = x + begin * a.c + (
        part.g * group_c + part.channel * group_c // a.channel_blocks)
    ahead[0].rows = end - begin
    ahead[0].stride = a.c
    ahead[0].at = 0
    ahead[1].width = count(group_k, a.panel_blocks)
    ahead[1].row = dy + next_block.begin * a.k + (
        part.g * group_k + part.panel * group_k // a.panel_blocks)
    ahead[1].rows = next_block.end - next_block.begin
    ahead[1].stride = a.k
    ahead[1].at = 0
    for i in range(2):
        if ahead[i].width == ahead[i].stride:   # whole rows lie in one piece
            ahead[i].width *= ahead[i].rows
            ahead[i].rows = min(ahead[i].rows, <Py_ssize_t> 1)


cdef void block_gradient(const Attributes* a, Block* block, const float* x, const float* dy,
                         const Part* part, char* table, Ahead* ahead, float* packed,
                         const float* copy, float* out) noexcept nogil:
    """All tiles of one part of dw, for one block of pixels."""
    cdef Py_ssize_t g = part.g
    cdef Py_ssize_t r0 = part.r0, r1 = part.r1
    cdef Py_ssize_t group_k = a.k // a.groups
    cdef Py_ssize_t panels = count(group_k, NR)
    cdef Py_ssize_t panel, k0, width, tiles, together, rows, i, i0, i1, r
    cdef const float* from_dy
    # pieces that its tiles walk over, about, which share the lines of the next block among them
    cdef Py_ssize_t pieces = (r1 - r0) * a.s * max(
        (block.end - block.begin) // a.piece, <Py_ssize_t> 1) * count(
        count(a.channels, TALL), a.channel_blocks) * count(panels, a.panel_blocks)
    block.ahead = ahead
    for i in range(2):
        block.lines[i] = count(lines(&ahead[i]), pieces)
    for panel in range(part.panel * panels // a.panel_blocks,
                       (part.panel + 1) * panels // a.panel_blocks):
        k0 = g * group_k + panel * NR
        width = min(<Py_ssize_t> NR, group_k - panel * NR)
        from_dy = dy + block.begin * a.k + k0
        block.dy = from_dy
        block.dy_step = a.k
        tiles = count(a.channels, MR2 if width > VL else TALL)
        i0 = part.channel * tiles // a.channel_blocks
        i1 = (part.channel + 1) * tiles // a.channel_blocks
        if (a.k > NR and (r1 - r0) * a.s * (i1 - i0) >= READINGS) or width != NR and (
                block.end * a.k - a.k + k0 + count(width, VL) * VL > a.n * a.p * a.q * a.k):
            pack_panel(a, block, from_dy, width, packed)
            block.dy = packed
            block.dy_step = NR
        together = rows_together(a.channels, width) if a.folded else 1
        for i in range(i0, i1):
            aim(a, block, part, x, copy, a.tiled and width > VL, tiles, i)
            r = r0
            while r < r1:
                rows = together if r + together <= r1 else 1
                row_of_taps(a, block, part, table, r, rows, i * a.channels // tiles,
                            (i + 1) * a.channels // tiles, k0, width, out)
                r += rows


cdef Part part_of(const Attributes* a, Py_ssize_t number) noexcept nogil:
    """What item ``number`` does; the parts of one chunk of pixels follow each other."""
    cdef Part part
    cdef Py_ssize_t pixels = a.n * a.p * a.q
    part.panel = number % a.panel_blocks
    number //= a.panel_blocks
    part.channel = number % a.channel_blocks
    number //= a.channel_blocks
    part.row = number % a.row_blocks
    number //= a.row_blocks
    part.g = number % a.groups
    part.z = number // a.groups
    part.r0, part.r1 = part.row * a.r // a.row_blocks, (part.row + 1) * a.r // a.row_blocks
    part.begin = part.z * pixels // a.chunks
    part.size = (part.z + 1) * pixels // a.chunks - part.begin
    part.blocks = max(count(part.size, a.block), <Py_ssize_t> 1 - a.accumulate)
    return part


cdef void place(const Attributes* a, const Part* part, Py_ssize_t i, Block* block) noexcept nogil:
    """The pixels of block i of a part."""
    block.begin = part.begin + i * part.size // part.blocks
    block.end = part.begin + (i + 1) * part.size // part.blocks
    block.n = block.begin // (a.p * a.q) if part.size else 0
    block.p = block.begin // a.q - block.n * a.p if part.size else 0
    block.q = block.begin - (block.n * a.p + block.p) * a.q


cdef void item(const Attributes* a, Py_ssize_t number, bint follows, const float* x,
               const float* dy, float* out, char* table) noexcept nogil:
    """One part of dw, block by block. Meanwhile what comes next is fetched, also for the item
    after it when it ``follows`` on the same thread."""
    cdef Part part = part_of(a, number)
    cdef Part next_part = part_of(a, number + 1 if follows else number)
    cdef float* packed = <float*> (table + a.table)
    cdef float* copy = packed + a.block * NR
    cdef Py_ssize_t i
    cdef Block block, next_block
    cdef Ahead ahead[2]
    memset(ahead, 0, sizeof(ahead))
    block.first = 0
    block.zero = copy + a.copied * a.padded * a.c
    if a.folded:
        memset(<void*> block.zero, 0, 4 * (a.padded if a.padded else a.w) * a.c)
    out += part.z * a.r * a.s * a.channels * a.k
    for i in range(part.blocks):
        place(a, &part, i, &block)
        block.add = i > 0 or a.accumulate
        block.stream = (a.stream and not block.add and part.blocks == 1
                        and a.k // a.groups % LINE == 0
                        and <size_t> out % (LINE * sizeof(float)) == 0)
        if a.distant and part.size and i + 1 < part.blocks:
            place(a, &part, i + 1, &next_block)
            look_ahead(a, &next_block, x, dy, &part, ahead)
        elif a.distant and part.size and follows:
            place(a, &next_part, 0, &next_block)
            look_ahead(a, &next_block, x, dy, &next_part, ahead)
        if a.padded and part.size:
            copy_rows(a, &block, x, copy)
        elif a.tiled and part.size:
            copy_tiles(a, &block, &part, x, copy)
        find_spans(a, &block, &part, table)
        block_gradient(a, &block, x, dy, &part, table, ahead, packed, copy, out)


cdef void gradient_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                       char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef Py_ssize_t i
    for i in range(begin, end):
        item(a, i, i + 1 < end, <const float*> buffers[step.operand[0]],
             <const float*> buffers[step.operand[1]], <float*> buffers[step.operand[2]],
             scratch)
    if a.stream:
        vstream_end()


cdef bint is_worth_copying(const Attributes* a):
    """Whether to copy the channels of each tile.

    It is where these are less than half of the cache line that each pixel takes otherwise, pixels meet in
    few sets of the cache, and panels are wide. A copy is read often, and hardly larger than the block: rows
    of x are copied whole, a dense layer's only one with them.
    """
    cdef Py_ssize_t panels = count(a.k // a.groups, NR)
    cdef Py_ssize_t readings = count(a.r, a.row_blocks) * a.s * count(panels, a.panel_blocks)
    return (2 * MR2 <= LINE and a.c >= APART and a.k // a.groups > VL and not a.folded
            and readings >= READINGS and rows_of_a_block(a) * a.w <= WIDE * a.block)


def gradient(x_shape, dy_shape, kernel_size, strides, dilation, pads, groups, *, folded, chunks,
             row_blocks, channel_blocks, panel_blocks, block, accumulate, stream=False):
    """(x, dy) -> out: ``chunks`` partial sums of dw, or dw itself where ``chunks`` is 1.

    ``pads`` is (above, left). ``folded`` needs one group and a dilation of 1 along the row.
    ``accumulate`` adds to what ``out`` holds; ``stream``: it will not be read soon.
    """
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.n, a.h, a.w, a.c = x_shape
    a.p, a.q, a.k = dy_shape[1:]
    a.r, a.s = kernel_size
    a.sh, a.sw = strides
    a.dh, a.dw = dilation
    a.ph, a.pw = pads
    a.groups, a.folded = groups, folded
    a.channels = a.c // a.groups
    a.padded = a.copied = 0
    a.chunks, a.row_blocks = chunks, row_blocks
    a.channel_blocks, a.panel_blocks = channel_blocks, panel_blocks
    # (a literal in `walk` would have gcc unroll its loops)
    a.block, a.piece, a.accumulate, a.stream = block, PIECE, accumulate, stream
    a.distant = 4 * (a.n * a.h * a.w * a.c + a.n * a.p * a.q * a.k) >= DISTANT
    a.spans = (a.block + a.q - 2) // max(a.q, <Py_ssize_t> 1) + 1
    a.table = table_bytes(&a, count(a.r, row_blocks) * (1 if folded else a.s))
    a.tiled = is_worth_copying(&a)
    if a.tiled:
        a.copied = rows_of_a_block(&a)
    if a.folded:
        if a.pw > 0 or (a.q - 1) * a.sw + a.s > a.w:
            a.padded = (a.q - 1) * a.sw + a.s
            a.copied = rows_of_a_block(&a)
        a.channels = a.s * a.c
        a.s = 1
    cdef Py_ssize_t items = chunks * groups * row_blocks * channel_blocks * panel_blocks
    cdef Py_ssize_t zero = a.folded * (a.padded or a.w) * a.c
    cdef Py_ssize_t copy = a.copied * a.padded * a.c
    if a.tiled:     # the last pixel of each tile but the last is overwritten; that one has a vector's room
        copy = a.copied * a.w * min(
            count(count(a.channels, MR2), channel_blocks) * MR2, a.channels) + VL
    cdef Py_ssize_t scratch = a.table + 4 * (a.block * NR + copy + zero)
    return kernel("conv2d_backward_weight", gradient_run, items, scratch, &a, sizeof(a))
