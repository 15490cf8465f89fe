"""Direct convolution of thin images, those with few channels.

    y[n, p, q, k] = activation(b[k] + sum over r, over j < kw * C of
                               x[n, p * sh + r * dh + top, (q * sw + left) * C + j] * w[r, j, k]
                         + residual[n, p, q, k])

A row of the window is kw * C consecutive floats of an NHWC image, so it is multiplied as one tap of
that depth, and the pixels of a tile, all in one output row, are sw * C floats apart: no table of
pointers. Where the window leaves the image, the rows that an item needs are first copied into
scratch with zeros around them. w comes packed with kh taps of depth kw * C; b and the residual may
be absent, and the residual, laid out like y, may be y. Pixels of x and y lie as far apart as the
attributes say.

An item is a block of output rows of one image; it does not depend on how many images there are.
"""

from libc.string cimport memcpy, memset

from .isa cimport VL, vstream_end
from .stack cimport Multiply, stack, tiles_of_width
from .step cimport Step, kernel
from .tile cimport Tile, can_stream, send_nothing, set_activation, tile_rows

cdef struct Attributes:
    Py_ssize_t images
    Py_ssize_t height, width, channels
    Py_ssize_t out_height, out_width, filters
    Py_ssize_t x_step           # floats from a pixel of x to the next,
    Py_ssize_t y_step           # and of y
    Py_ssize_t kh, kw
    Py_ssize_t row_step, row_dilation, top      # image row of output row p, tap r: see above
    Py_ssize_t column_step, left
    Py_ssize_t row_blocks
    Py_ssize_t padded           # whether the window leaves the image, or its pixels lie apart
    Py_ssize_t padded_width     # pixels of a padded row
    int nv
    int activation
    bint stream             # whether y will not be read soon
    bint distant            # whether x and y lie beyond the nearer caches


cdef void multiply_tiles(int nv, int mr, const Tile* t) noexcept nogil:
    tiles_of_width(nv, False, False, mr, t)


cdef void stream_tiles(int nv, int mr, const Tile* t) noexcept nogil:
    tiles_of_width(nv, False, True, mr, t)


cdef void copy_pixels(const Attributes* a, const float* x, Py_ssize_t n, float* to) noexcept nogil:
    """``n`` pixels of a row of x, next to each other."""
    cdef Py_ssize_t i
    if a.x_step == a.channels:
        memcpy(to, x, n * a.channels * sizeof(float))
        return
    for i in range(n):
        memcpy(to + i * a.channels, x + i * a.x_step, a.channels * sizeof(float))


cdef void pad(const Attributes* a, const float* x, Py_ssize_t first, Py_ssize_t rows,
              float* to) noexcept nogil:
    """Copy image rows from ``first`` on, columns from ``left`` on; zeros outside the image."""
    cdef Py_ssize_t c = a.channels, i
    cdef Py_ssize_t begin = min(max(<Py_ssize_t> 0, -a.left), a.padded_width)
    cdef Py_ssize_t end = max(begin, min(a.padded_width, a.width - a.left))
    for i in range(first, first + rows):
        if 0 <= i < a.height:
            memset(to, 0, begin * c * sizeof(float))
            copy_pixels(a, x + (i * a.width + a.left + begin) * a.x_step, end - begin,
                        to + begin * c)
            memset(to + end * c, 0, (a.padded_width - end) * c * sizeof(float))
        else:
            memset(to, 0, a.padded_width * c * sizeof(float))
        to += a.padded_width * c


cdef void multiply(const Attributes* a, const float* x, Py_ssize_t x_width, const float* panels,
                   const float* b, float* y, const float* residual,
                   Py_ssize_t rows) noexcept nogil:
    """Output rows 0 to ``rows`` from the image row and column where their first tap reads."""
    cdef Tile t
    cdef Py_ssize_t wide = a.nv * VL, row = x_width * a.channels, p, panel, at
    cdef bint stream = a.stream and can_stream(y, a.y_step, a.nv, a.activation)
    cdef Multiply tiles = stream_tiles if stream else multiply_tiles
    t.taps, t.tap, t.depth = a.kh, NULL, a.kw * a.channels
    t.tap_step, t.row_step = a.row_dilation * row, a.column_step * a.channels
    t.y_step, t.y_distant, t.bias, t.residual = a.y_step, a.distant, NULL, NULL
    send_nothing(&t)
    set_activation(&t, a.activation)
    for panel in range((a.filters + wide - 1) // wide):
        t.panel = panels + panel * a.kh * t.depth * wide
        if b != NULL:
            t.bias = b + panel * wide
        t.columns = min(wide, a.filters - panel * wide)
        for p in range(rows):
            at = p * a.out_width * a.y_step + panel * wide
            t.a, t.y = x + p * a.row_step * row, y + at
            if residual != NULL:
                t.residual = residual + at
            stack(tiles, a.out_width, tile_rows(a.nv), a.nv, &t)
    if stream:
        vstream_end()


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* panels = <const float*> buffers[step.operand[1]]
    cdef const float* b = <const float*> buffers[step.operand[2]]
    cdef const float* x
    cdef const float* residual
    cdef float* y
    cdef Py_ssize_t item, image, block, p, rows, first, at
    for item in range(begin, end):
        image, block = item // a.row_blocks, item % a.row_blocks
        p = a.out_height * block // a.row_blocks
        rows = a.out_height * (block + 1) // a.row_blocks - p
        first = p * a.row_step + a.top
        at = (image * a.out_height + p) * a.out_width * a.y_step
        x = <const float*> buffers[step.operand[0]] + image * a.height * a.width * a.x_step
        residual = <const float*> buffers[step.operand[3]]
        if residual != NULL:
            residual += at
        y = <float*> buffers[step.operand[4]] + at
        if a.padded:
            pad(a, x, first, (rows - 1) * a.row_step + (a.kh - 1) * a.row_dilation + 1,
                <float*> scratch)
            x = <const float*> scratch
            multiply(a, x, a.padded_width, panels, b, y, residual, rows)
        else:
            x += (first * a.width + a.left) * a.channels
            multiply(a, x, a.width, panels, b, y, residual, rows)


def convolve(images, x_shape, y_shape, kernel_size, nv, *, row_step, row_dilation, top, column_step,
             left, row_blocks, activation=0, stream=False, distant=False, x_step=None, y_step=None):
    """x (images, *x_shape), panels of w, b or absent, residual or absent -> y (images, *y_shape);
    shapes are (H, W, C), pixels lie ``x_step`` and ``y_step`` floats apart;
    y goes past the caches where ``stream`` says so, its lines are sent for where x and y are ``distant``"""
    cdef Attributes a
    cdef Py_ssize_t last_row, most_rows
    memset(&a, 0, sizeof(a))
    a.images, a.nv, a.row_blocks = images, nv, row_blocks
    a.activation, a.stream, a.distant = activation, stream, distant
    a.height, a.width, a.channels = x_shape
    a.out_height, a.out_width, a.filters = y_shape
    a.x_step, a.y_step = x_step or a.channels, y_step or a.filters
    a.kh, a.kw = kernel_size
    a.row_step, a.row_dilation, a.top = row_step, row_dilation, top
    a.column_step, a.left = column_step, left
    a.padded_width = (a.out_width - 1) * a.column_step + a.kw
    last_row = (a.out_height - 1) * a.row_step + (a.kh - 1) * a.row_dilation + a.top
    a.padded = (a.x_step != a.channels or a.top < 0 or a.left < 0 or last_row >= a.height
                or a.left + a.padded_width > a.width)
    most_rows = (((a.out_height + a.row_blocks - 1) // a.row_blocks - 1) * a.row_step
                 + (a.kh - 1) * a.row_dilation + 1)
    scratch = 4 * most_rows * a.padded_width * a.channels if a.padded else 0
    items = a.images * a.row_blocks if a.out_height * a.out_width * a.filters else 0
    return kernel("conv_thin", run, items, scratch, &a, sizeof(a))
