"""Direct convolution (implicit matrix product) over NHWC pixels, and its gradient for the data.

    y[n, p, q, k] = activation(b[k] + sum over taps r, s, over c of
                               x[n, row(p, r), col(q, s), c] * w[r, s, c, k]
                         + residual[n, p, q, k])

in each group of channels, where row() and col() are those of the phases of an axis, see grid.pxd.
No column matrix is formed: a table of pointers says where each tap of each pixel reads, and padding
is a pointer to a row of zeros. Taps that read nothing but padding for a whole tile are left out. w
comes packed from `pack`; b and the residual may be absent, and the residual, laid out like y, may be
y; x and y must not overlap. Pixels of x and y lie as far apart as the attributes say.

An item is a run of pixels of one phase of one image, times a block of panels of one group; it does
not depend on how many images there are.
"""

from libc.string cimport memset

from .grid cimport Axis, Phase, Pixels, axis_bytes, locate, needed_taps, next_axis, phase_of
from .isa cimport VL
from .stack cimport tiles_of_width
from .step cimport Step, kernel
from .tile cimport Tile, send_during, send_nothing, set_activation, tile_rows

cdef enum:
    NEXT = 4096     # floats from the last that a tile reads of x to what it sends for

cdef struct Attributes:     # followed by the axes
    Py_ssize_t images
    Py_ssize_t groups
    Py_ssize_t depth        # channels of x in a group
    Py_ssize_t columns      # channels of y in a group
    Py_ssize_t x_step       # floats from a pixel of x to the next,
    Py_ssize_t y_step       # and of y
    Py_ssize_t taps
    Py_ssize_t whole_rows       # whether blocks and tiles are cut between rows, not anywhere
    Py_ssize_t pixel_blocks     # of a phase
    Py_ssize_t most_pixels      # in a block
    Py_ssize_t most_tiles       # in a block
    Py_ssize_t panels           # of a group
    Py_ssize_t panel_blocks     # of a group
    Py_ssize_t panels_first     # whether consecutive items share a block of panels
    Py_ssize_t panels_ahead     # whether the next panel is sent for, since it lies beyond the nearer caches
    Py_ssize_t distant          # whether x and y do: lines of y are sent for,
    Py_ssize_t sends_x          # and x, where panels are not
    Py_ssize_t x_ahead          # floats from where a tile's pixels lie in x to what is sent for
    double x_share              # floats of x to one of y
    int nv
    int activation

cdef struct Work:
    Pixels pixels
    const Phase* row_phase
    const Phase* column_phase
    Py_ssize_t tiles
    int* first              # pixel of each tile, and of the end
    int* tap_count          # of each tile
    int* tap                # [tile][taps]


cdef void multiply_tiles(int nv, int mr, const Tile* t) noexcept nogil:
    tiles_of_width(nv, True, False, mr, t)


cdef Py_ssize_t scratch_bytes(const Attributes* a) noexcept nogil:
    cdef Py_ssize_t pointers = (a.taps + 1) * a.most_pixels
    return (pointers * sizeof(void*) + a.groups * a.depth * sizeof(float)
            + ((a.taps + 2) * a.most_tiles + 1) * sizeof(int))


cdef void lay_out(const Attributes* a, Work* work, char* scratch) noexcept nogil:
    """Divide the scratch, and clear the row of zeros."""
    work.tiles, work.pixels.count, work.pixels.step = 0, 0, a.most_pixels
    work.pixels.rows = <const float**> scratch
    work.pixels.y = <float**> scratch + a.taps * a.most_pixels
    work.tap = <int*> (work.pixels.y + a.most_pixels)
    work.tap_count = work.tap + a.most_tiles * a.taps
    work.first = work.tap_count + a.most_tiles
    work.pixels.zero = <const float*> (work.first + a.most_tiles + 1)
    memset(<void*> work.pixels.zero, 0, a.groups * a.depth * sizeof(float))


cdef void cut(Work* work, Py_ssize_t rows, Py_ssize_t width, Py_ssize_t height) noexcept nogil:
    """Cut ``rows`` rows of ``width`` pixels into tiles, those of a row nearly equal."""
    cdef Py_ssize_t tiles = (width + height - 1) // height, i, j
    work.tiles = rows * tiles
    for i in range(rows):
        for j in range(tiles):
            work.first[i * tiles + j] = <int> (i * width + width * j // tiles)
    work.first[work.tiles] = <int> (rows * width)


cdef void prepare(const Attributes* a, Work* work, Py_ssize_t spatial, const float* x,
                  float* y) noexcept nogil:
    """Find where the pixels of ``spatial`` = (image, phase of rows, of columns, block) read."""
    cdef const Axis* rows = <const Axis*> (a + 1)
    cdef const Axis* columns = next_axis(rows)
    cdef Py_ssize_t block = spatial % a.pixel_blocks
    cdef Py_ssize_t phase = spatial // a.pixel_blocks % (rows.phases * columns.phases)
    cdef Py_ssize_t image = spatial // a.pixel_blocks // (rows.phases * columns.phases)
    cdef Py_ssize_t begin, i
    cdef const Phase* pr = phase_of(rows, phase // columns.phases)
    cdef const Phase* pc = phase_of(columns, phase % columns.phases)
    cdef Py_ssize_t width = pc.count if a.whole_rows else 1
    cdef Py_ssize_t n = pr.count * pc.count // width
    begin, n = n * block // a.pixel_blocks, n * (block + 1) // a.pixel_blocks
    n -= begin
    locate(&work.pixels, rows, columns, pr, pc, begin * width, (begin + n) * width,
           x + image * rows.in_size * columns.in_size * a.x_step, a.x_step,
           y + image * rows.out_size * columns.out_size * a.y_step, a.y_step)
    if a.whole_rows:
        cut(work, n, width, tile_rows(a.nv))
    else:
        cut(work, 1, n, tile_rows(a.nv))
    for i in range(work.tiles):
        work.tap_count[i] = needed_taps(&work.pixels, rows, columns, pr, pc, work.first[i],
                                        work.first[i + 1] - work.first[i], work.tap + i * a.taps)


cdef inline Py_ssize_t first_panel(const Attributes* a, Py_ssize_t part) noexcept nogil:
    """Number, counted through all groups, of the first panel of a part: a block of panels of a group."""
    return (part // a.panel_blocks * a.panels
            + a.panels * (part % a.panel_blocks) // a.panel_blocks)


cdef inline Py_ssize_t next_part(const Attributes* a, Py_ssize_t part, Py_ssize_t item,
                                 Py_ssize_t spatials) noexcept nogil:
    """The part whose panels are wanted when those of ``part`` have been multiplied: the next item's, or,
    where a panel by itself stays while the images pass, the one that follows."""
    cdef Py_ssize_t parts = a.groups * a.panel_blocks
    if not a.panels_first or a.panel_blocks == a.panels:
        return (part + 1) % parts
    return (item + 1) // spatials % parts


cdef inline void send_x(const Attributes* a, Tile* t, const float* x, int mr) noexcept nogil:
    """Have a tile's share of x sent for, which tiles after it are the first to read."""
    cdef Py_ssize_t at = <Py_ssize_t> ((t.y_rows[0] - t.y) * a.x_share) + a.x_ahead
    cdef Py_ssize_t nbytes = <Py_ssize_t> (mr * a.y_step * a.x_share * sizeof(float))
    send_during(t, a.nv, <const char*> (x + at), nbytes, t.taps * a.depth)


cdef void multiply(const Attributes* a, const Work* work, const float* x, const float* panels,
                   const float* b, float* y, const float* residual, Py_ssize_t part,
                   Py_ssize_t after) noexcept nogil:
    """The pixels of ``work`` times the panels of ``part``; those of part ``after`` are next."""
    cdef Tile t
    cdef Py_ssize_t width = a.nv * VL, size = a.taps * a.depth * width
    cdef Py_ssize_t group = part // a.panel_blocks
    cdef Py_ssize_t first = first_panel(a, part), last = first_panel(a, part + 1)
    cdef Py_ssize_t panel, p, i, m, share
    cdef const float* next_panel
    cdef int mr
    t.count, t.depth, t.rows_step, t.offset = 1, a.depth, work.pixels.step, group * a.depth
    t.bias, t.y, t.y_distant, t.residual = NULL, y, a.distant, residual
    set_activation(&t, a.activation)
    for panel in range(first, last):
        p = panel - group * a.panels
        t.panel = panels + panel * size
        next_panel = panels + (panel + 1 if panel + 1 < last else first_panel(a, after)) * size
        if b != NULL:
            t.bias = b + group * a.columns + p * width
        t.y_offset = group * a.columns + p * width
        t.columns = min(width, a.columns - p * width)
        for i in range(work.tiles):
            m = work.first[i]
            mr = work.first[i + 1] - work.first[i]
            t.taps, t.tap = work.tap_count[i], work.tap + i * a.taps
            t.rows, t.y_rows = work.pixels.rows + m, work.pixels.y + m
            if a.panels_ahead:      # this tile's share of it
                share = size * sizeof(float) // work.tiles
                send_during(&t, a.nv, <const char*> next_panel + i * share, share, t.taps * a.depth)
            elif a.sends_x and panel == first and (a.panels_first or part == 0):
                send_x(a, &t, x, mr)    # items before, on the same pixels, have not
            else:
                send_nothing(&t)
            multiply_tiles(a.nv, mr, &t)


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const float* panels = <const float*> buffers[step.operand[1]]
    cdef const float* b = <const float*> buffers[step.operand[2]]
    cdef const float* residual = <const float*> buffers[step.operand[3]]
    cdef float* y = <float*> buffers[step.operand[4]]
    cdef Py_ssize_t parts = a.groups * a.panel_blocks, spatials = step.items // parts
    cdef Py_ssize_t item, spatial, part, prepared = -1
    cdef Work work
    lay_out(a, &work, scratch)
    for item in range(begin, end):
        spatial = item % spatials if a.panels_first else item // parts
        part = item // spatials if a.panels_first else item % parts
        if spatial != prepared:
            prepare(a, &work, spatial, x, y)
            prepared = spatial
        multiply(a, &work, x, panels, b, y, residual, part, next_part(a, part, item, spatials))


def convolve(images, channels, filters, rows, columns, nv, *, groups=1, pixel_blocks, panel_blocks,
             whole_rows=False, panels_first=False, panels_ahead=False, distant=False, activation=0,
             x_step=None, y_step=None):
    """x (N, H, W, channels), panels of w, b (filters) or absent, residual or absent
    -> y (N, P, Q, filters)

    ``rows`` and ``columns`` are the `Axis` of each spatial axis; pixels lie ``x_step`` and ``y_step``
    floats apart. Lines of y are sent for where x and y are ``distant``; with ``panels_ahead`` the next panel,
    while one is multiplied, else x where that is.
    """
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.images, a.groups, a.nv, a.activation = images, groups, nv, activation
    a.depth, a.columns, a.taps = channels // groups, filters // groups, rows.window * columns.window
    a.x_step, a.y_step = x_step or channels, y_step or filters
    a.panels = (a.columns + a.nv * VL - 1) // (a.nv * VL)
    a.pixel_blocks, a.panel_blocks, a.panels_first = pixel_blocks, panel_blocks, panels_first
    a.whole_rows, a.panels_ahead, a.distant = whole_rows, panels_ahead, distant
    x_size = rows.in_size * columns.in_size * a.x_step
    y_size = rows.out_size * columns.out_size * a.y_step
    if groups == len(rows.phases) == len(columns.phases) == 1 and y_size:
        a.sends_x = distant
        below = max([offset for _, offset in rows.phases[0][2]], default=0)
        a.x_ahead, a.x_share = below * columns.in_size * a.x_step + NEXT, x_size / y_size
    cdef Py_ssize_t height = tile_rows(a.nv)
    cdef Py_ssize_t most_rows = max([p[1] for p in rows.phases], default=0)
    cdef Py_ssize_t width = max([p[1] for p in columns.phases], default=0)
    if whole_rows:
        most_rows = (most_rows + a.pixel_blocks - 1) // a.pixel_blocks
    else:
        most_rows, width = 1, (most_rows * width + a.pixel_blocks - 1) // a.pixel_blocks
    a.most_pixels = most_rows * width
    a.most_tiles = most_rows * ((width + height - 1) // height)
    items = (a.images * len(rows.phases) * len(columns.phases) * a.pixel_blocks * a.groups
             * a.panel_blocks) if a.columns and a.most_pixels else 0
    header = (<const char*> &a)[:sizeof(a)]
    attributes = header + axis_bytes(rows) + axis_bytes(columns)
    return kernel("conv_direct", run, items, scratch_bytes(&a), <const char*> attributes,
                  len(attributes))
