"""Weight gradient of a 3x3 convolution of stride 1 by Winograd's F(m x m, 3 x 3), m = 2 or 4, float32, NHWC:

    dw[r, s, c, k] (+)= sum over n, p, q of x[n, p + r*dh - ph, q + s*dw - pw, c] * dy[n, p, q, k]
                      = G^T [ sum over tiles t of V[t, c] * Z[t, k] ] G,
                        V = B^T x B, Z = A dy A^T      (`winograd.pxd` has the matrices)

with ``x`` N x H x W x C, ``dy`` N x P x Q x K and ``dw`` 3 x 3 x C x K, all contiguous. A tile is m x m
pixels of dy and the (m + 2) x (m + 2) pixels of x that they see; pixels outside either are zeros. V
and Z have (m + 2)^2 points, and each point is a matrix product over tiles, so that a tile takes
(m + 2)^2 multiply-adds where the direct kernel takes 9 m^2. With dilation a tile takes every dh-th row and
every dw-th column of one phase of an image (`tiling.pxd`).

An item is a block of the channels of x and of dy over one chunk of the tiles. It transforms some
tiles at a time into its own scratch, multiplies them, and takes the products of a few channels of x and
a panel of dy back to dw at once. With several chunks, chunk z writes its sum to ``out[z]`` and
`reduce.chunks` adds them up in order, so the bits depend on shapes alone.
"""

from libc.string cimport memset

from .ahead cimport LINE
from .isa cimport (
    MR2, VL, touch, vadd, vf, vfma, vload, vload_part, vset1, vstore, vstore_part, vzero,
)
from .outer cimport NR, TALL
from .step cimport Step, kernel
from .tiling cimport Place, Tiling, is_dilated, place_of, tiles_of, tiling_of
from .winograd cimport transform_gradient, transform_input, transform_products

cdef extern from *:
    void __builtin_prefetch(const void*, int, int) noexcept nogil

cdef enum:
    POINTS = 36                     # the most there are
    TOGETHER = 2 + 2 * (MR2 < 14)   # tiles of products that are transformed together

# (floats in a vector, floats in a panel)
TILE = (VL, NR)

cdef struct Attributes:
    Py_ssize_t n, h, w, c, p, q, k, ph, pw
    Py_ssize_t m
    Tiling tiling               # of dy
    Py_ssize_t chunks           # into how many parts the tiles,
    Py_ssize_t channel_blocks   # the vectors of channels of x
    Py_ssize_t panel_blocks     # and the panels of channels of dy are split
    Py_ssize_t block            # at most so many tiles at a time
    Py_ssize_t distant          # whether x and dy lie beyond the caches
    Py_ssize_t accumulate

cdef struct Images:
    # x or dy, of which an item reads channels c0 to c1; its tile (0, 0) begins at pixel (-above, -left)
    # and takes every dh-th row and dw-th column
    const float* data
    Py_ssize_t h, w, c, c0, c1, above, left, dh, dw

cdef struct Part:
    # what an item does: its channels of x and dy, the tiles of chunk z, and where in its scratch
    Images x, dy
    Py_ssize_t z, begin, size, blocks
    float* v            # [point][tile][v_row]
    float* panels       # Z: [panel][point][tile][NR, or VL in a last panel that is so narrow]
    float* products     # [point][channel of x][NR or VL]
    float* zero
    Py_ssize_t v_row, v_step, panel_step, products_step

cdef struct Product:
    # one matrix product a point: ``count`` tiles of channels of x side by side, times a panel of Z
    Py_ssize_t points, tiles, count
    const float* v
    const float* z
    float* to
    Py_ssize_t v_step, v_row, z_step, to_step
    float* dw           # where it will go
    Py_ssize_t dw_tap, dw_row


cdef inline Py_ssize_t count(Py_ssize_t size, Py_ssize_t part) noexcept nogil:
    """How many parts of at most ``part`` cover ``size``."""
    return (size + part - 1) // part


cdef inline Py_ssize_t panel_width(Py_ssize_t columns) noexcept nogil:
    """Floats in a row of the panel that begins where ``columns`` of dy are left."""
    return NR if columns > VL else VL


# ---- tiles of x and dy to points ----------------------------------------------------------------

cdef inline void look_up(const int size, const Images* a, const Place* at,
                         const float* zero, const float** pixels) noexcept nogil:
    """Where the size x size pixels of a tile are; those outside the image are zeros."""
    cdef const float* image = a.data + at.image * a.h * a.w * a.c
    cdef Py_ssize_t row = at.p - a.above, column, i, j
    for i in range(size):
        column = at.q - a.left
        for j in range(size):
            pixels[i * size + j] = (
                image + (row * a.w + column) * a.c if 0 <= row < a.h and 0 <= column < a.w else zero)
            column += a.dw
        row += a.dh


cdef inline void transform(const int m, const bint gradient, const vf* d, vf* o) noexcept nogil:
    """A tile's row or column, of x or of the gradient dy, to its points."""
    if gradient:
        transform_gradient(m, d, 1, o, 1)
    else:
        transform_input(m, d, 1, o, 1)


cdef inline void transform_rows(const int m, const bint gradient, const bint whole, const int i1,
                                const int i2, const float** pixels, Py_ssize_t c, Py_ssize_t lanes,
                                float* to, Py_ssize_t step) noexcept nogil:
    """Rows i1 and i2 of a tile's points, for the ``whole`` vector of channels from c or ``lanes`` of it."""
    cdef vf d[6]
    cdef vf o[6]
    cdef vf first[6]
    cdef vf second[6]
    cdef float* to1 = to + i1 * (m + 2) * step
    cdef float* to2 = to + i2 * (m + 2) * step
    cdef int size = m if gradient else m + 2
    cdef int i, j
    for j in range(size):
        for i in range(size):
            d[i] = vload(pixels[i * size + j] + c) if whole else vload_part(
                pixels[i * size + j] + c, lanes)
        transform(m, gradient, d, o)
        first[j] = o[i1]
        second[j] = o[i2]
    transform(m, gradient, first, o)
    for j in range(m + 2):
        vstore(to1, o[j])
        to1 += step
    transform(m, gradient, second, o)
    for j in range(m + 2):
        vstore(to2, o[j])
        to2 += step


cdef inline void transform_vector(const int m, const bint gradient, const bint whole,
                                  const float** pixels, Py_ssize_t c, Py_ssize_t lanes, float* to,
                                  Py_ssize_t step) noexcept nogil:
    """All points, two rows at a time: so what lies between the passes stays in registers, at the price
    of reading pixels again."""
    transform_rows(m, gradient, whole, 0, m + 1, pixels, c, lanes, to, step)
    transform_rows(m, gradient, whole, 1, 2, pixels, c, lanes, to, step)
    if m == 4:
        transform_rows(m, gradient, whole, 3, 4, pixels, c, lanes, to, step)


cdef inline void transform_tile(const int m, const bint gradient, const float** pixels,
                                Py_ssize_t begin, Py_ssize_t end, float* to,
                                Py_ssize_t step) noexcept nogil:
    """Channels ``begin`` to ``end`` of a tile's pixels, of x or of the gradient dy, to its points."""
    cdef Py_ssize_t c = begin
    while c + VL <= end:
        transform_vector(m, gradient, True, pixels, c, VL, to, step)
        to += VL
        c += VL
    if c < end:
        transform_vector(m, gradient, False, pixels, c, end - c, to, step)


cdef void approach(const Images* a, Py_ssize_t m, Py_ssize_t overlap, const Place* at,
                   Py_ssize_t columns) noexcept nogil:
    """Before a row of tiles, read the pixels that it is the first to see end to end: they come faster
    than in pieces. Meanwhile send for those of the next row, at each tile for its share."""
    cdef Py_ssize_t begin = at.row * m + overlap - a.above if at.row else 0
    cdef Py_ssize_t end = at.image * a.h + max(min(at.row * m + m + overlap - a.above, a.h), 0)
    cdef Py_ssize_t width = a.c1 - a.c0, _i, i, j
    begin = at.image * a.h + max(min(begin, a.h), 0)
    cdef const float* pixel = a.data + begin * a.w * a.c + a.c0
    if at.column == 0:
        for _i in range((end - begin) * a.w):
            j = 0
            while j < width:
                touch(pixel + j)
                j += LINE
            pixel += a.c
    i = end * a.w + m * a.w * at.column // columns
    end = end * a.w + m * a.w * (at.column + 1) // columns
    while i < end:
        j = 0
        while j < width:
            __builtin_prefetch(a.data + i * a.c + a.c0 + j, 0, 2)
            j += LINE
        i += 1


cdef inline void transform_tiles(const int m, const Attributes* a, const Part* part,
                                 Py_ssize_t begin, Py_ssize_t tiles) noexcept nogil:
    """V and Z of ``tiles`` tiles."""
    cdef const float* pixels[POINTS]
    cdef float* panel
    cdef Place at
    cdef Py_ssize_t t, k, width
    for t in range(tiles):
        at = place_of(&a.tiling, begin + t)
        if a.distant:
            approach(&part.x, m, 2, &at, a.tiling.columns)
            approach(&part.dy, m, 0, &at, a.tiling.columns)
        look_up(m + 2, &part.x, &at, part.zero, pixels)
        transform_tile(m, False, pixels, part.x.c0, part.x.c1, part.v + t * part.v_row, part.v_step)
        look_up(m, &part.dy, &at, part.zero, pixels)
        k = part.dy.c0
        panel = part.panels
        while k < part.dy.c1:
            width = panel_width(part.dy.c1 - k)
            transform_tile(m, True, pixels, k, min(k + width, part.dy.c1), panel + t * width,
                           a.block * width + LINE)
            panel += part.panel_step
            k += NR


# ---- products of points -------------------------------------------------------------------------

cdef inline void fetch(const Product* a, Py_ssize_t point, int rows, int vectors) noexcept nogil:
    """Send for one of ``points`` parts of dw's rows, before they are added to or written."""
    cdef Py_ssize_t channels = a.count * rows
    cdef Py_ssize_t i = 9 * channels * point // a.points
    cdef Py_ssize_t end = 9 * channels * (point + 1) // a.points
    cdef Py_ssize_t tap = i // channels, c = i - tap * channels, _i
    for _i in range(end - i):
        __builtin_prefetch(a.dw + tap * a.dw_tap + c * a.dw_row, 1, 2)
        if vectors * VL > LINE:
            __builtin_prefetch(a.dw + tap * a.dw_tap + c * a.dw_row + LINE, 1, 2)
        c += 1
        if c == channels:
            c = 0
            tap += 1


cdef inline void product(const int rows, const int vectors, const Product* a) noexcept nogil:
    """to[point, c, k] = sum over tiles t of v[point, t, c] * z[point, t, k] for ``count`` times
    ``rows`` channels c of x and ``vectors`` vectors of channels k of dy.

    Meanwhile the rows of dw that this is for are fetched. (That the sums stand in a loop keeps them in
    registers on their way in and out, see `tile.pxd`.)
    """
    cdef vf sums[16 * 2]
    cdef vf b[2]
    cdef vf x
    cdef const float* v
    cdef const float* z
    cdef float* to
    cdef Py_ssize_t point, n, _t
    cdef int i, j
    for point in range(a.points):
        to = a.to + point * a.to_step
        fetch(a, point, rows, vectors)
        for n in range(a.count):
            v = a.v + point * a.v_step + n * rows
            z = a.z + point * a.z_step
            for i in range(rows * vectors):
                sums[i] = vzero()
            for _t in range(a.tiles):
                for j in range(vectors):
                    b[j] = vload(z + j * VL)
                for i in range(rows):
                    x = vset1(v[i])
                    for j in range(vectors):
                        sums[i * vectors + j] = vfma(x, b[j], sums[i * vectors + j])
                z += vectors * VL
                v += a.v_row
            for i in range(rows * vectors):
                vstore(to + i * VL, sums[i])
            to += rows * vectors * VL


cdef void products(int rows, int vectors, const Product* a) noexcept nogil:
    """The products of an even number of rows, at most MR2 (or TALL with one vector)."""
    if vectors == 2:
        if rows == 2:
            product(2, 2, a)
        elif rows == 4:
            product(4, 2, a)
        elif rows == 6:
            product(6, 2, a)
        elif MR2 >= 8 and rows == 8:
            product(8, 2, a)
        elif MR2 >= 10 and rows == 10:
            product(10, 2, a)
        elif MR2 >= 12 and rows == 12:
            product(12, 2, a)
        elif MR2 >= 14 and rows == 14:
            product(14, 2, a)
    elif rows == 2:
        product(2, 1, a)
    elif rows == 4:
        product(4, 1, a)
    elif rows == 6:
        product(6, 1, a)
    elif rows == 8:
        product(8, 1, a)
    elif rows == 10:
        product(10, 1, a)
    elif rows == 12:
        product(12, 1, a)
    elif TALL >= 14 and rows == 14:
        product(14, 1, a)
    elif TALL >= 16 and rows == 16:
        product(16, 1, a)


# ---- and back -----------------------------------------------------------------------------------

cdef inline void transform_back(const int m, const int vectors, const Product* t,
                                Py_ssize_t channels, Py_ssize_t last, bint add) noexcept nogil:
    """dw (+)= G^T products G for ``channels`` channels of x and a panel of ``vectors`` vectors of dy, of
    which the last has ``last`` floats."""
    cdef vf d[6]
    cdef vf half[18]
    cdef vf o[3]
    cdef const float* products = t.to
    cdef float* dw
    cdef float* to
    cdef Py_ssize_t c, lanes
    cdef int i, j, s
    for c in range(channels * vectors):
        j = c % vectors
        dw = t.dw + c // vectors * t.dw_row + j * VL
        lanes = last if j == vectors - 1 else VL
        for s in range(m + 2):
            for i in range(m + 2):
                d[i] = vload(products + (i * (m + 2) + s) * t.to_step)
            transform_products(m, d, 1, half + s, m + 2)
        for i in range(3):
            transform_products(m, half + i * (m + 2), 1, o, 1)
            for s in range(3):
                to = dw + (i * 3 + s) * t.dw_tap
                if lanes == VL:
                    vstore(to, vadd(vload(to), o[s]) if add else o[s])
                else:
                    vstore_part(to, vadd(vload_part(to, lanes), o[s]) if add else o[s], lanes)
        products += VL


cdef inline void multiply_panel(const int m, const int vectors, const Part* part, Product* t,
                                Py_ssize_t last, bint add) noexcept nogil:
    """dw (+)= what V and a panel of Z contribute, by tiles of nearly equal height; the panel's last
    vector has ``last`` floats."""
    cdef Py_ssize_t left = part.x.c1 - part.x.c0
    cdef Py_ssize_t tiles = count(left, MR2 if vectors == 2 else TALL)
    cdef Py_ssize_t pairs = count(left, 2), taller = pairs % tiles, rows = pairs // tiles + 1, tile = 0
    while tile < tiles:
        if tile == taller:
            rows -= 1
        t.count = min(<Py_ssize_t> TOGETHER, (taller if tile < taller else tiles) - tile)
        products(<int> rows * 2, vectors, t)
        transform_back(m, vectors, t, min(2 * t.count * rows, left), last, add)
        t.v += 2 * t.count * rows
        t.dw += 2 * t.count * rows * t.dw_row
        left -= 2 * t.count * rows
        tile += t.count


cdef inline void multiply_tiles(const int m, const Attributes* a, const Part* part,
                                Py_ssize_t tiles, bint add, float* out) noexcept nogil:
    """dw (+)= what ``tiles`` tiles of V and Z contribute."""
    cdef Product t
    cdef Py_ssize_t k = part.dy.c0
    t.points, t.tiles = (m + 2) * (m + 2), tiles
    t.v_step, t.v_row = part.v_step, part.v_row
    t.z, t.to, t.to_step = part.panels, part.products, part.products_step
    t.dw_tap, t.dw_row = a.c * a.k, a.k
    while k < part.dy.c1:
        t.v = part.v
        t.z_step = a.block * panel_width(part.dy.c1 - k) + LINE
        t.dw = out + part.x.c0 * a.k + k
        if part.dy.c1 - k > VL:
            multiply_panel(m, 2, part, &t, min(part.dy.c1 - k - VL, <Py_ssize_t> VL), add)
        else:
            multiply_panel(m, 1, part, &t, part.dy.c1 - k, add)
        t.z += part.panel_step
        k += NR


# ---- items --------------------------------------------------------------------------------------

cdef Py_ssize_t lay_out(const Attributes* a, Py_ssize_t channels, Py_ssize_t columns, Part* part,
                        float* scratch) noexcept nogil:
    """Divide the scratch for that many channels of x and dy; return how many floats are needed.

    Steps from point to point are odd numbers of lines: the points of a tile fall into different sets
    of the first-level cache.
    """
    cdef Py_ssize_t points = (a.m + 2) * (a.m + 2), size = max(a.c, a.k) + VL
    part.v_row = count(channels, VL) * VL + LINE
    part.v_step = a.block * part.v_row + LINE
    part.panel_step = points * (a.block * NR + LINE)
    part.products_step = TOGETHER * max(MR2 * NR, TALL * VL) + LINE
    part.zero = scratch
    part.v = scratch + size
    size += points * part.v_step
    part.panels = scratch + size
    size += count(columns, NR) * part.panel_step
    part.products = scratch + size
    return size + points * part.products_step


cdef Part part_of(const Attributes* a, Py_ssize_t number, const float* x, const float* dy,
                  float* scratch) noexcept nogil:
    """What item ``number`` does; the parts of one chunk of tiles follow each other."""
    cdef Part part
    cdef Py_ssize_t tiles = a.n * tiles_of(&a.tiling)
    cdef Py_ssize_t vectors = count(a.c, VL), panels = count(a.k, NR)
    cdef Py_ssize_t i = number % a.panel_blocks
    part.dy.data, part.dy.h, part.dy.w, part.dy.c = dy, a.p, a.q, a.k
    part.dy.above = part.dy.left = 0
    part.dy.dh, part.dy.dw = a.tiling.row_dilation, a.tiling.column_dilation
    part.dy.c0 = i * panels // a.panel_blocks * NR
    part.dy.c1 = min((i + 1) * panels // a.panel_blocks * NR, a.k)
    number //= a.panel_blocks
    i = number % a.channel_blocks
    part.x.data, part.x.h, part.x.w, part.x.c = x, a.h, a.w, a.c
    part.x.above, part.x.left = a.ph, a.pw
    part.x.dh, part.x.dw = part.dy.dh, part.dy.dw
    part.x.c0 = i * vectors // a.channel_blocks * VL
    part.x.c1 = min((i + 1) * vectors // a.channel_blocks * VL, a.c)
    part.z = number // a.channel_blocks
    part.begin = part.z * tiles // a.chunks
    part.size = (part.z + 1) * tiles // a.chunks - part.begin
    part.blocks = max(count(part.size, a.block), <Py_ssize_t> 1 - a.accumulate)
    lay_out(a, part.x.c1 - part.x.c0, part.dy.c1 - part.dy.c0, &part, scratch)
    memset(part.zero, 0, 4 * (max(a.c, a.k) + VL))
    return part


cdef inline void item(const int m, const Attributes* a, const Part* part, float* out) noexcept nogil:
    """One part of dw, block by block."""
    cdef Py_ssize_t begin, tiles, i
    for i in range(part.blocks):
        begin = i * part.size // part.blocks
        tiles = (i + 1) * part.size // part.blocks - begin
        transform_tiles(m, a, part, part.begin + begin, tiles)
        multiply_tiles(m, a, part, tiles, i > 0 or a.accumulate, out + part.z * 9 * a.c * a.k)


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef float* out = <float*> buffers[step.operand[2]]
    cdef Part part
    cdef Py_ssize_t i
    for i in range(begin, end):
        part = part_of(a, i, <const float*> buffers[step.operand[0]],
                       <const float*> buffers[step.operand[1]], <float*> scratch)
        if a.m == 2:
            item(2, a, &part, out)
        else:
            item(4, a, &part, out)


def gradient(x_shape, dy_shape, dilation, pads, m, *, chunks, channel_blocks, panel_blocks, block, distant,
             accumulate):
    """(x, dy) -> out: ``chunks`` partial sums of dw, or dw itself where ``chunks`` is 1.

    ``dilation`` is that of rows and of columns, ``pads`` (above, left), ``m`` 2 or 4. ``distant`` tells
    that x and dy lie beyond the caches; with dilation they are not read ahead. ``accumulate`` adds to what
    ``out`` holds.
    """
    cdef Attributes a
    cdef Part part
    memset(&a, 0, sizeof(a))
    a.n, a.h, a.w, a.c = x_shape
    a.p, a.q, a.k = dy_shape[1:]
    a.ph, a.pw = pads
    a.m, a.tiling = m, tiling_of(m, a.p, a.q, dilation)
    a.chunks, a.channel_blocks, a.panel_blocks = chunks, channel_blocks, panel_blocks
    a.block, a.accumulate = block, accumulate
    a.distant = distant and not is_dilated(&a.tiling)
    cdef Py_ssize_t channels = count(count(a.c, VL), channel_blocks) * VL
    cdef Py_ssize_t columns = count(count(a.k, NR), panel_blocks) * NR
    cdef Py_ssize_t scratch = 4 * lay_out(&a, channels, columns, &part, NULL)
    return kernel(f"conv2d_backward_weight_winograd{m}", run, chunks * channel_blocks * panel_blocks,
                  scratch, &a, sizeof(a))
