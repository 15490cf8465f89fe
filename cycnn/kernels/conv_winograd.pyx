"""Winograd convolution F(m x m, 3 x 3), m = 2 or 4, of NHWC images with stride S = 1 or 2, dilation D.

    y[n, p, q, k] = activation(b[k] + residual[n, p, q, k] + sum over r, s < 3, over c of
                               x[n, p * S + r * D + top, q * S + s * D + left, c] * w[r, s, c, k])

Output pixels are taken in tiles of m x m. A tile reads side^2 pixels d, m + 2 or with stride 2 2m + 1
along each axis, and with the matrices of winograd.pxd and winograd_strided.pxd is

    A^T [ sum over c of (G w G^T)[c, k] * (B^T d B)[c] ] A

so the sums over channels are side^2 matrix products, one for each *point*, of many tiles at once:

    v[point][tile][channel of x]  *  panel[point][channel of x][NR channels of y]  =  z[point][tile][NR]

with panels from `pack_winograd`; with stride 2 the points of odd pixels share them. Pixels outside an
image are zero, and a value that is not finite may reach any output of the tiles that read it. x and y
must not overlap; b and the residual may be absent, and y may be the residual, which is laid out like it.
Pixels of x and y lie as far apart as the attributes say.

Dilation, which comes with stride 1, may differ between the axes. It parts images into phases
(`tiling.pxd`); of a tile outside the image nothing is written.

Tiles are numbered through all images and cut into blocks that may cross from one image to the next: the
sum of an output runs over the channels in order, whatever else is in its block. A block goes from
pixels to pixels in the scratch of its thread (`convolve`); where blocks are few, or too large for
a cache, v is a buffer between two steps (`transform`, `multiply`).
"""

from libc.string cimport memset

from .activation cimport LINEAR, RELU, activate_all
from .isa cimport VL
from .stack cimport stack, tile_count, tiles_of_width
from .step cimport Step, kernel
from .tile cimport Tile, send_during, send_nothing, set_activation, tile_rows
from .tiling cimport Place, Tiling, is_dilated, pixels_from, place_of, tiling_of
from .winograd cimport LINE, apart, panel_point, side
from .winograd_tile cimport SIDE, Output, input_tile, output_tile

cdef extern from *:
    void __builtin_prefetch(const void*, int, int) noexcept nogil

cdef struct Attributes:
    Py_ssize_t height, width, channels          # of x
    Py_ssize_t out_height, out_width, filters   # of y
    Py_ssize_t x_step, y_step   # floats from a pixel to the next
    Py_ssize_t top, left
    Tiling tiling               # of y
    Py_ssize_t first, tiles     # of the step: its first tile, and how many
    Py_ssize_t block            # tiles of a block; the last one may have fewer
    Py_ssize_t panels
    Py_ssize_t panels_first     # whether consecutive items of `multiply` share a panel
    Py_ssize_t panels_ahead     # whether panels are sent for, since they lie beyond the nearer caches
    Py_ssize_t points
    Py_ssize_t v_row, v_point, v_block  # floats from one tile, point, block to the next
    Py_ssize_t u_point, u_panel
    Py_ssize_t z_point
    int m, stride
    int side                    # pixels of x that a tile reads along an axis, and points
    int nv
    int activation


# ---- fetching pixels before they are needed --------------------------------------------------

# Tiles read and write small pieces of many rows, which hardware does not foresee. While a block is
# multiplied, the rows that the next one reads and those that this one writes are sent for. Rows that
# tiles share with those above them are taken to be near; with dilation, nothing is sent for.

cdef struct Ahead:              # the rows of pixels of some tiles
    const float* image
    Py_ssize_t height, width
    Py_ssize_t step             # floats from a pixel to the next
    Py_ssize_t top, left, size  # of the pixels of a tile,
    Py_ssize_t apart            # which lie so many pixels apart
    Py_ssize_t tile, last       # not begun
    Py_ssize_t lines            # of all, roughly
    const float* row            # begun: rows of one run of tiles,
    Py_ssize_t rows, row_lines, line    # and how far it is done


cdef Ahead reads(const Attributes* a, const float* x, Py_ssize_t begin,
                 Py_ssize_t end) noexcept nogil:
    """What tiles ``begin`` to ``end`` read."""
    cdef Ahead ahead
    memset(&ahead, 0, sizeof(ahead))
    ahead.image, ahead.height, ahead.width, ahead.step = x, a.height, a.width, a.x_step
    ahead.top, ahead.left, ahead.size, ahead.apart = a.top, a.left, a.side, a.m * a.stride
    ahead.tile, ahead.last = begin, min(end, a.first + a.tiles)
    if is_dilated(&a.tiling):
        ahead.last = begin
    ahead.lines = (ahead.last - begin) * ahead.apart * (ahead.apart + 1) * a.x_step // LINE
    return ahead


cdef Ahead writes(const Attributes* a, const float* y, Py_ssize_t begin,
                  Py_ssize_t end) noexcept nogil:
    """What they write."""
    cdef Ahead ahead
    memset(&ahead, 0, sizeof(ahead))
    ahead.image, ahead.height, ahead.width, ahead.step = y, a.out_height, a.out_width, a.y_step
    ahead.size = ahead.apart = a.m
    ahead.tile, ahead.last = begin, end
    if is_dilated(&a.tiling):
        ahead.last = begin
    ahead.lines = (ahead.last - begin) * a.m * a.m * a.y_step // LINE
    return ahead


cdef void begin_run(const Attributes* a, Ahead* ahead) noexcept nogil:
    """Go on to the next tiles that lie in one row."""
    cdef Place at = place_of(&a.tiling, ahead.tile)
    cdef Py_ssize_t n = min(a.tiling.columns - at.column, ahead.last - ahead.tile)
    cdef Py_ssize_t first = max(at.column * ahead.apart + ahead.left, <Py_ssize_t> 0)
    cdef Py_ssize_t last = (at.column + n - 1) * ahead.apart + ahead.left + ahead.size
    cdef Py_ssize_t bottom = at.row * ahead.apart + ahead.top + ahead.size
    cdef Py_ssize_t top = max(bottom - (ahead.apart if at.row else ahead.size), <Py_ssize_t> 0)
    first, last = min(first, ahead.width), min(last, ahead.width)
    ahead.rows = max(min(bottom, ahead.height) - top, <Py_ssize_t> 0) if last > first else 0
    ahead.row = ahead.image + (
        (at.image * ahead.height + top) * ahead.width + first) * ahead.step
    ahead.row_lines = ((last - first) * ahead.step + LINE - 1) // LINE
    ahead.line = 0
    ahead.tile += n


cdef void fetch(const Attributes* a, Ahead* ahead, Py_ssize_t lines) noexcept nogil:
    """Send for the next ``lines`` cache lines, to the second-level cache."""
    cdef Py_ssize_t n, i
    while lines > 0 and (ahead.rows > 0 or ahead.tile < ahead.last):
        if ahead.rows == 0:
            begin_run(a, ahead)
            continue
        n = min(lines, ahead.row_lines - ahead.line)
        for i in range(ahead.line, ahead.line + n):
            __builtin_prefetch(ahead.row + i * LINE, 0, 2)
        lines -= n
        ahead.line += n
        if ahead.line == ahead.row_lines:
            ahead.line = 0
            ahead.rows -= 1
            ahead.row += ahead.width * ahead.step


# ---- v = B^T d B ---------------------------------------------------------------------------------


cdef void input_tile_of(const Attributes* a, const float** pixels, float* v) noexcept nogil:
    if a.side == side(4, 1):
        input_tile(4, 1, pixels, a.channels, v, a.v_point)
    elif a.side == side(2, 1):
        input_tile(2, 1, pixels, a.channels, v, a.v_point)
    elif a.side == side(4, 2):
        input_tile(4, 2, pixels, a.channels, v, a.v_point)
    else:
        input_tile(2, 2, pixels, a.channels, v, a.v_point)


cdef void point_at(const Attributes* a, const float* x, const float* zero, Py_ssize_t tile,
                   const float** pixels) noexcept nogil:
    """Where the pixels of a tile lie, row by row."""
    cdef Place at = place_of(&a.tiling, tile)
    cdef Py_ssize_t h = at.p * a.stride + a.top, w, r, s
    cdef const float* row
    for r in range(a.side):
        row = x + ((at.image * a.height + h) * a.width) * a.x_step
        w = at.q * a.stride + a.left
        for s in range(a.side):
            pixels[r * a.side + s] = zero
            if 0 <= h < a.height and 0 <= w < a.width:
                pixels[r * a.side + s] = row + w * a.x_step
            w += a.tiling.column_dilation
        h += a.tiling.row_dilation


cdef void transform_block(const Attributes* a, const float* x, const float* zero, Py_ssize_t begin,
                          Py_ssize_t end, float* v) noexcept nogil:
    """v of tiles ``begin`` to ``end``, which are in one block, from the row of the first on"""
    cdef const float* pixels[SIDE * SIDE]
    cdef Py_ssize_t tile
    for tile in range(begin, end):
        point_at(a, x, zero, tile, pixels)
        input_tile_of(a, pixels, v)
        v += a.v_row


# ---- products ------------------------------------------------------------------------------------


cdef void multiply_tiles(int nv, int mr, const Tile* t) noexcept nogil:
    tiles_of_width(nv, False, False, mr, t)


cdef inline Py_ssize_t weights_of(const Attributes* a, Py_ssize_t point) noexcept nogil:
    """Where the weights of a point begin in a panel, in floats."""
    cdef Py_ssize_t last = a.m + 1
    return (min(point // a.side, last) * (a.m + 2) + min(point % a.side, last)) * a.u_point


cdef void multiply_block(const Attributes* a, Py_ssize_t tiles, const float* v, const float* panel,
                         const float* next_panel, float* z, Ahead* x_ahead,
                         Ahead* y_ahead) noexcept nogil:
    """z[point][tile][NR] of one panel; meanwhile the weights of the next point, at last those of
    ``next_panel``, are sent for, and a panel's share of what is ahead is fetched"""
    cdef Tile t
    cdef Py_ssize_t point, width = a.nv * VL
    cdef Py_ssize_t x_lines = x_ahead.lines // (a.points * a.panels) + 1
    cdef Py_ssize_t y_lines = y_ahead.lines // a.points + 1
    t.taps, t.tap, t.depth, t.row_step = 1, NULL, a.channels, a.v_row
    t.bias, t.residual, t.y_step, t.y_distant, t.columns = NULL, NULL, width, False, width
    send_nothing(&t)
    set_activation(&t, LINEAR)
    for point in range(a.points):
        fetch(a, x_ahead, x_lines)
        fetch(a, y_ahead, y_lines)
        t.a = v + point * a.v_point
        t.panel = panel + weights_of(a, point)
        if a.panels_ahead:
            send_during(&t, a.nv, <const char*> (
                panel + weights_of(a, point + 1) if point + 1 < a.points else next_panel),
                a.channels * width * sizeof(float), a.channels * tile_count(tiles, tile_rows(a.nv)))
        t.y = z + point * a.z_point
        stack(multiply_tiles, tiles, tile_rows(a.nv), a.nv, &t)


# ---- y = A^T z A ---------------------------------------------------------------------------------

cdef void output_tile_of(const Attributes* a, const Output* t) noexcept nogil:
    cdef Py_ssize_t i, j
    if a.side == side(4, 1):
        output_tile(4, 1, t)
    elif a.side == side(2, 1):
        output_tile(2, 1, t)
    elif a.side == side(4, 2):
        output_tile(4, 2, t)
    else:
        output_tile(2, 2, t)
    if t.activation > RELU:
        for i in range(t.rows):
            for j in range(t.columns):
                activate_all(t.activation, t.y + i * t.y_row + j * t.y_pixel,
                             t.y + i * t.y_row + j * t.y_pixel, t.filters)


cdef void finish_block(const Attributes* a, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t panel,
                       const float* z, const float* b, const float* residual,
                       float* y) noexcept nogil:
    """The outputs of tiles ``begin`` to ``end`` and one panel."""
    cdef Output t
    cdef const Tiling* tiling = &a.tiling
    cdef Place at
    cdef Py_ssize_t tile, offset, width = a.nv * VL
    t.z, t.z_point, t.activation, t.bias, t.residual = z, a.z_point, a.activation, NULL, NULL
    if b != NULL:
        t.bias = b + panel * width
    t.filters = min(width, a.filters - panel * width)
    t.y_row = tiling.row_dilation * a.out_width * a.y_step
    t.y_pixel = tiling.column_dilation * a.y_step
    for tile in range(begin, end):
        at = place_of(tiling, tile)
        t.rows = min(<Py_ssize_t> a.m, pixels_from(at.p, a.out_height, tiling.row_dilation))
        t.columns = min(<Py_ssize_t> a.m, pixels_from(at.q, a.out_width, tiling.column_dilation))
        offset = panel * width + (
            (at.image * a.out_height + at.p) * a.out_width + at.q) * a.y_step
        t.y = y + offset
        if residual != NULL:
            t.residual = residual + offset
        if t.rows > 0 and t.columns > 0:
            output_tile_of(a, &t)
        t.z += width


# ---- steps ---------------------------------------------------------------------------------------


cdef void convolve_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                       char* scratch) noexcept nogil:
    """An item is a block of tiles, from pixels to pixels."""
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const float* panels = <const float*> buffers[step.operand[1]]
    cdef const float* b = <const float*> buffers[step.operand[2]]
    cdef const float* residual = <const float*> buffers[step.operand[3]]
    cdef float* y = <float*> buffers[step.operand[4]]
    cdef float* v = <float*> scratch
    cdef float* z = v + a.v_block
    cdef float* zero = z + a.points * a.z_point
    cdef Py_ssize_t item, first, last, p
    cdef Ahead x_ahead, y_ahead
    memset(zero, 0, a.channels * sizeof(float))
    for item in range(begin, end):
        first = a.first + item * a.block
        last = min(first + a.block, a.first + a.tiles)
        if item == begin:
            x_ahead = reads(a, x, first, last)
            fetch(a, &x_ahead, x_ahead.lines)
        transform_block(a, x, zero, first, last, v)
        x_ahead = reads(a, x, last, last + a.block)
        y_ahead = writes(a, y, first, last)
        for p in range(a.panels):
            multiply_block(a, last - first, v, panels + p * a.u_panel,
                           panels + (p + 1) % a.panels * a.u_panel, z, &x_ahead, &y_ahead)
            finish_block(a, first, last, p, z, b, residual, y)


cdef void transform_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                        char* scratch) noexcept nogil:
    """An item is a tile."""
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef float* v = <float*> buffers[step.operand[1]]
    cdef Py_ssize_t block, last
    cdef Ahead ahead = reads(a, x, a.first + begin, a.first + end)
    memset(scratch, 0, a.channels * sizeof(float))
    fetch(a, &ahead, ahead.lines)
    while begin < end:
        block = begin // a.block
        last = min(end, (block + 1) * a.block)
        transform_block(a, x, <const float*> scratch, a.first + begin, a.first + last,
                        v + block * a.v_block + (begin - block * a.block) * a.v_row)
        begin = last


cdef void multiply_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                       char* scratch) noexcept nogil:
    """An item is a panel for a block of tiles."""
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* v = <const float*> buffers[step.operand[0]]
    cdef const float* panels = <const float*> buffers[step.operand[1]]
    cdef const float* b = <const float*> buffers[step.operand[2]]
    cdef const float* residual = <const float*> buffers[step.operand[3]]
    cdef float* y = <float*> buffers[step.operand[4]]
    cdef float* z = <float*> scratch
    cdef Py_ssize_t blocks = step.items // a.panels, item, block, p, following, first, last
    cdef Ahead none = writes(a, y, 0, 0)
    for item in range(begin, end):
        block = item % blocks if a.panels_first else item // a.panels
        p = item // blocks if a.panels_first else item % a.panels
        first = a.first + block * a.block
        last = min(first + a.block, a.first + a.tiles)
        following = (item + 1) // blocks % a.panels if a.panels_first else (item + 1) % a.panels
        multiply_block(a, last - first, v + block * a.v_block, panels + p * a.u_panel,
                       panels + following * a.u_panel, z, &none, &none)
        finish_block(a, first, last, p, z, b, residual, y)


cdef Attributes attributes(int m, int stride, x_shape, y_shape, steps, origin, dilation, tiles,
                           Py_ssize_t block, int nv, int activation, bint panels_ahead=False):
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.panels_ahead = panels_ahead
    a.height, a.width, a.channels = x_shape[1:]
    a.out_height, a.out_width, a.filters = y_shape[1:]
    a.x_step, a.y_step = steps[0] or a.channels, steps[1] or a.filters
    a.top, a.left = origin
    a.m, a.stride, a.side, a.nv, a.activation = m, stride, side(m, stride), nv, activation
    a.points = a.side * a.side
    a.tiling = tiling_of(m, a.out_height, a.out_width, dilation)
    a.first, a.tiles, a.block = tiles[0], tiles[1] - tiles[0], block
    a.panels = (a.filters + nv * VL - 1) // (nv * VL)
    a.v_row = apart(a.channels)
    a.v_point = apart(a.block * a.v_row)
    a.v_block = a.points * a.v_point
    a.u_point = panel_point(a.channels, nv)
    a.u_panel = (m + 2) * (m + 2) * a.u_point
    a.z_point = apart(a.block * nv * VL)
    return a


def convolve(m, stride, x_shape, y_shape, steps, origin, dilation, *, tiles, block, nv, activation=0,
             panels_ahead=False):
    """x (N, H, W, C), panels, b (K) or absent, residual (N, P, Q, K) or absent -> y (N, P, Q, K)

    ``steps`` are those from pixel to pixel of x and y, None: as many as there are channels; ``origin``
    is (top, left), ``dilation`` that of rows and of columns. The kernel does the ``tiles`` (first, last),
    ``block`` of them an item. ``panels_ahead``: weights are sent for before they are multiplied.
    """
    cdef Attributes a = attributes(m, stride, x_shape, y_shape, steps, origin, dilation, tiles, block,
                                   nv, activation, panels_ahead)
    items = (a.tiles + a.block - 1) // a.block
    scratch = 4 * (a.v_block + a.points * a.z_point + a.channels)
    return kernel(f"winograd{m}", convolve_run, items, scratch, &a, sizeof(a))


def transform(m, stride, x_shape, y_shape, steps, origin, dilation, *, tiles, block, nv):
    """x -> v: the first half of `convolve`"""
    cdef Attributes a = attributes(m, stride, x_shape, y_shape, steps, origin, dilation, tiles, block,
                                   nv, 0)
    return kernel(f"winograd{m}_transform", transform_run, a.tiles, 4 * a.channels, &a, sizeof(a))


def multiply(m, stride, x_shape, y_shape, steps, origin, dilation, *, tiles, block, nv,
             panels_first=False, panels_ahead=False, activation=0):
    """v, panels, b or absent, residual or absent -> y: the second half"""
    cdef Attributes a = attributes(m, stride, x_shape, y_shape, steps, origin, dilation, tiles, block,
                                   nv, activation, panels_ahead)
    a.panels_first = panels_first
    items = (a.tiles + a.block - 1) // a.block * a.panels
    return kernel(f"winograd{m}_multiply", multiply_run, items, 4 * a.points * a.z_point, &a, sizeof(a))


def transformed_bytes(m, stride, channels, tiles, block):
    """The size of v for ``tiles`` tiles."""
    return 4 * ((tiles + block - 1) // block) * side(m, stride) ** 2 * apart(block * apart(channels))
