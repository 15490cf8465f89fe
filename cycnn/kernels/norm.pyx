"""Batch normalization: sums over pixels, the normalised tensor, and its gradient.

Tensors are ``pixels`` rows of ``channels`` floats. Sums over pixels are taken in float over slots of
SLOT pixels, and in double from there on, over groups of slots; both are cut by shape alone.
``affine`` is a scale for every channel, then a shift for every channel:

    y = activation(x * scale + shift)

What the activation is applied to is computed by one multiply-add, here and again for its gradient.

Where a row is no more than registers hold, what belongs to its channels stays in them from row to row.
A longer row is read from end to end, as the hardware expects of memory that lies far away.
"""

from libc.string cimport memset

from .activation cimport LINEAR, RELU, RELU6, activate, activate_backward_at
from .isa cimport VL, vadd, vf, vfma, vload, vload_part, vmul, vstore, vstore_part, vsub
from .step cimport Run, Step, kernel

cdef enum:
    SLOT = 64           # pixels that are summed in float
    STRIP = 2048        # most channels of an item that sums
    WIDE = 4            # vectors side by side
    MOST_VL = 16        # with as many registers again
    ITEM = 16384        # floats of an item that maps pixel by pixel
    SCALE = -1          # instead of an activation: without the shift
    MOMENTS = -2        # instead of an activation: sums are those of x
    DY = 1              # operands of sums of gradients
    AFFINE = 2
    MEAN = 3

cdef struct Attributes:
    Py_ssize_t pixels, channels
    Py_ssize_t group        # pixels of a group, or of an item that maps
    Py_ssize_t groups
    Py_ssize_t strip        # channels of an item
    Py_ssize_t x_step, y_step   # floats from a pixel to the next, for maps
    int kind


cdef inline Py_ssize_t strip(const int most, Py_ssize_t width) noexcept nogil:
    """How many vectors of ``width`` channels are done at a time: all, the last in part, or ``most``."""
    return min((width + VL - 1) // VL, <Py_ssize_t> most)


cdef inline int few() noexcept nogil:
    """As many vectors as registers hold where each takes five, not three."""
    return WIDE if <int> VL == MOST_VL else WIDE // 2


cdef inline vf read(const bint whole, const float* p, Py_ssize_t n) noexcept nogil:
    return vload(p) if whole else vload_part(p, n)


cdef inline void write(const bint whole, float* p, vf a, Py_ssize_t n) noexcept nogil:
    if whole:
        vstore(p, a)
    else:
        vstore_part(p, a, n)


cdef inline vf apply(const int kind, vf x, vf scale, vf shift) noexcept nogil:
    if kind == SCALE:
        return vmul(x, scale)
    return activate(kind, vfma(x, scale, shift))


cdef inline vf gate(const int kind, vf x, vf scale, vf shift, vf dy) noexcept nogil:
    """The gradient before the activation"""
    return activate_backward_at(kind, vfma(x, scale, shift), dy)


# ---- sums over pixels ----------------------------------------------------------------------------

cdef struct Slot:
    const float* x          # its first pixel, from the strip's first channel on
    const float* dy
    const float* scale
    const float* shift
    const float* centre     # of each channel: what x is taken from, the mean or the slot's first x
    float* first            # the slot's sums so far
    float* second
    Py_ssize_t channels


cdef struct Rows:
    Py_ssize_t first
    Py_ssize_t apart
    Py_ssize_t count


cdef inline void sum_vectors(const int kind, const int vectors, const bint whole, const Slot* s,
                             const Rows* rows, Py_ssize_t c, Py_ssize_t n) noexcept nogil:
    """first += g, second += g * (x - centre), for channels from c on of some rows

    g is the gradient before the activation; for moments x - centre, too.
    """
    cdef vf first[WIDE]
    cdef vf second[WIDE]
    cdef vf centre[WIDE]
    cdef vf scale[WIDE]
    cdef vf shift[WIDE]
    cdef Py_ssize_t i = rows.first * s.channels + c, _
    cdef Py_ssize_t step = rows.apart * s.channels
    cdef vf a, g
    cdef int v
    for v in range(vectors):
        first[v] = read(whole or v < vectors - 1, s.first + c + v * VL, n)
        second[v] = read(whole or v < vectors - 1, s.second + c + v * VL, n)
        centre[v] = read(whole or v < vectors - 1, s.centre + c + v * VL, n)
        scale[v] = centre[v]
        shift[v] = centre[v]
        if kind > LINEAR:
            scale[v] = read(whole or v < vectors - 1, s.scale + c + v * VL, n)
            shift[v] = read(whole or v < vectors - 1, s.shift + c + v * VL, n)
    for _ in range(rows.count):
        for v in range(vectors):
            a = read(whole or v < vectors - 1, s.x + i + v * VL, n)
            if kind == MOMENTS:
                a = vsub(a, centre[v])
                g = a
            else:
                g = read(whole or v < vectors - 1, s.dy + i + v * VL, n)
                if kind > LINEAR:
                    g = gate(kind, a, scale[v], shift[v], g)
                a = vsub(a, centre[v])
            first[v] = vadd(first[v], g)
            second[v] = vfma(a, g, second[v])
        i += step
    for v in range(vectors):
        write(whole or v < vectors - 1, s.first + c + v * VL, first[v], n)
        write(whole or v < vectors - 1, s.second + c + v * VL, second[v], n)


cdef inline void sum_rows(const int kind, const int most, const Slot* s, const Rows* rows,
                          Py_ssize_t width) noexcept nogil:
    """Add some rows, at most ``most`` vectors of channels at a time."""
    cdef Py_ssize_t c = 0, vectors, n
    while c < width:
        vectors = strip(most, width - c)
        n = min(width - c - (vectors - 1) * VL, <Py_ssize_t> VL)
        if most > 1 and vectors == 4 and n == VL:
            sum_vectors(kind, 4, True, s, rows, c, n)
        elif most > 1 and vectors == 4:
            sum_vectors(kind, 4, False, s, rows, c, n)
        elif most > 1 and vectors == 3 and n == VL:
            sum_vectors(kind, 3, True, s, rows, c, n)
        elif most > 1 and vectors == 3:
            sum_vectors(kind, 3, False, s, rows, c, n)
        elif most > 1 and vectors == 2 and n == VL:
            sum_vectors(kind, 2, True, s, rows, c, n)
        elif most > 1 and vectors == 2:
            sum_vectors(kind, 2, False, s, rows, c, n)
        elif n == VL:
            sum_vectors(kind, 1, True, s, rows, c, n)
        else:
            sum_vectors(kind, 1, False, s, rows, c, n)
        c += vectors * VL


cdef inline void sum_slot(const int kind, const int most, const Slot* s, Py_ssize_t pixels,
                          Py_ssize_t width) noexcept nogil:
    """Add ``width`` channels of one slot to its sums.

    Where a row is more than registers hold, a few rows are read side by side, each from end to end, as
    the hardware expects of memory that lies far away.
    """
    cdef Rows rows
    cdef Py_ssize_t side = 4 if kind == MOMENTS or <int> VL < MOST_VL else 2
    rows.first, rows.apart, rows.count = 0, 1, pixels
    if width > WIDE * VL:
        rows.apart, rows.count = pixels // side, side
        for rows.first in range(rows.apart):
            sum_rows(kind, most, s, &rows, width)
        rows.first, rows.apart, rows.count = side * (pixels // side), 1, pixels % side
    if rows.count > 0:
        sum_rows(kind, most, s, &rows, width)


cdef inline void start_slot(const int kind, const float* x, Py_ssize_t width, float* origin,
                            float* first, float* second) noexcept nogil:
    """Sums of zero; for moments the origin is the first pixel, or 0 where that is not finite."""
    cdef Py_ssize_t c
    for c in range(width):
        first[c] = 0
        second[c] = 0
        if kind == MOMENTS:
            origin[c] = x[c] if x[c] - x[c] == 0 else <float> 0


cdef inline void finish_slot(const int kind, const float* origin, const float* first,
                             const float* second, Py_ssize_t pixels, Py_ssize_t width,
                             double* sums, double* products) noexcept nogil:
    """Add the sums of a slot to those of its group: for moments those of x and x^2.

    Sums of x - origin, of which one is 0, have at most SLOT + 1 times the rounding error of exact
    deviations from the slot's mean, however far that is from 0.
    """
    cdef Py_ssize_t c
    cdef double k, n = pixels
    for c in range(width):
        k = origin[c] if kind == MOMENTS else 0
        sums[c] += first[c] + n * k
        products[c] += second[c] + k * (2.0 * first[c] + n * k)


cdef inline void sum_group(const int kind, const int most, const Slot* start,
                           Py_ssize_t pixels, Py_ssize_t width, double* sums,
                           double* products) noexcept nogil:
    """sums, products = those of ``width`` channels of a group of pixels"""
    cdef float first[STRIP]
    cdef float second[STRIP]
    cdef float origin[STRIP]
    cdef Slot s = start[0]
    cdef Py_ssize_t c, n
    s.first, s.second = first, second
    if kind == MOMENTS:
        s.centre = origin
    for c in range(width):
        sums[c] = 0
        products[c] = 0
    while pixels > 0:
        n = min(<Py_ssize_t> SLOT, pixels)
        start_slot(kind, s.x, width, origin, first, second)
        sum_slot(kind, most, &s, n, width)
        finish_slot(kind, origin, first, second, n, width, sums, products)
        s.x += n * s.channels
        if kind != MOMENTS:
            s.dy += n * s.channels
        pixels -= n


cdef inline void sum_groups(const int kind, const int most, const Step* step, char** buffers,
                            Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef Py_ssize_t strips = (a.channels + a.strip - 1) // a.strip
    cdef const float* affine = NULL
    cdef double* sums = <double*> buffers[step.operand[1 if kind == MOMENTS else MEAN + 1]]
    cdef Py_ssize_t i, z, c, row
    cdef Slot s
    s.channels = a.channels
    for i in range(begin, end):
        z = i // strips
        c = (i - z * strips) * a.strip
        row = z * a.group
        s.x = <const float*> buffers[step.operand[0]] + row * a.channels + c
        if kind != MOMENTS:
            affine = <const float*> buffers[step.operand[AFFINE]] + c
            s.dy = <const float*> buffers[step.operand[DY]] + row * a.channels + c
            s.scale, s.shift = affine, affine + a.channels
            s.centre = <const float*> buffers[step.operand[MEAN]] + c
        sum_group(kind, most, &s, min(a.group, a.pixels - row), min(a.strip, a.channels - c),
                  sums + 2 * z * a.channels + c, sums + (2 * z + 1) * a.channels + c)


cdef void moment_sums_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                          char* scratch) noexcept nogil:
    sum_groups(MOMENTS, WIDE, step, buffers, begin, end)


cdef void gradient_sums_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                            char* scratch) noexcept nogil:
    cdef int kind = (<const Attributes*> step.attributes).kind
    if kind == LINEAR:
        sum_groups(LINEAR, WIDE, step, buffers, begin, end)
    elif kind == RELU:
        sum_groups(RELU, few(), step, buffers, begin, end)
    elif kind == RELU6:
        sum_groups(RELU6, few(), step, buffers, begin, end)
    else:
        sum_groups(kind, 1, step, buffers, begin, end)


cdef object offer(str name, Run run, Py_ssize_t pixels, Py_ssize_t channels, Py_ssize_t group,
                  Py_ssize_t strip, int kind, x_step=None, y_step=None):
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.x_step, a.y_step = x_step or channels, y_step or channels
    a.pixels, a.channels, a.group, a.strip, a.kind = pixels, channels, group, strip, kind
    a.groups = (pixels + group - 1) // group
    return kernel(name, run, a.groups * ((channels + strip - 1) // strip), 0, &a, sizeof(a))


def moment_sums(pixels, channels, group, strip):
    """x -> sums (groups, 2, channels) of double: sum x and sum x^2 over each group of pixels.

    An item is ``strip`` channels of a group.
    """
    return offer("bn_moment_sums", moment_sums_run, pixels, channels, group, min(strip, STRIP),
                 MOMENTS)


def gradient_sums(pixels, channels, group, strip, activation):
    """x, dy, affine, mean -> sums (groups, 2, channels) of double: sum g and sum g * (x - mean).

    g is dy times the activation's derivative. Items as in `moment_sums`.
    """
    return offer("bn_gradient_sums", gradient_sums_run, pixels, channels, group,
                 min(strip, STRIP), activation)


# ---- pixel by pixel ------------------------------------------------------------------------------

cdef struct Map:
    const float* x
    const float* dy         # NULL where y is computed, and not a gradient
    const float* affine
    const float* mean
    const float* line
    float* y
    Py_ssize_t channels
    Py_ssize_t x_step       # floats from a pixel to the next, of x and dy
    Py_ssize_t y_step


cdef inline void map_vectors(const bint gradient, const int kind, const int vectors,
                             const bint whole, const Map* m, Py_ssize_t row, Py_ssize_t rows,
                             Py_ssize_t c, Py_ssize_t n) noexcept nogil:
    """y = activation(x * scale + shift), or y = g * scale + (x - mean) * slope + offset"""
    cdef vf scale[WIDE]
    cdef vf shift[WIDE]
    cdef vf mean[WIDE]
    cdef vf slope[WIDE]
    cdef vf offset[WIDE]
    cdef Py_ssize_t i = row * m.x_step + c
    cdef float* y = m.y + row * m.y_step + c
    cdef Py_ssize_t _
    cdef vf a, g
    cdef int v
    for v in range(vectors):
        scale[v] = read(whole or v < vectors - 1, m.affine + c + v * VL, n)
        shift[v] = read(whole or v < vectors - 1, m.affine + m.channels + c + v * VL, n)
        if gradient:
            mean[v] = read(whole or v < vectors - 1, m.mean + c + v * VL, n)
            slope[v] = read(whole or v < vectors - 1, m.line + c + v * VL, n)
            offset[v] = read(whole or v < vectors - 1, m.line + m.channels + c + v * VL, n)
    for _ in range(rows):
        for v in range(vectors):
            a = read(whole or v < vectors - 1, m.x + i + v * VL, n)
            if gradient:
                g = read(whole or v < vectors - 1, m.dy + i + v * VL, n)
                g = gate(kind, a, scale[v], shift[v], g)
                a = vfma(g, scale[v], vfma(vsub(a, mean[v]), slope[v], offset[v]))
            else:
                a = apply(kind, a, scale[v], shift[v])
            write(whole or v < vectors - 1, y + v * VL, a, n)
        i += m.x_step
        y += m.y_step


cdef inline void map_rows(const bint gradient, const int kind, const int most, const Map* m,
                          Py_ssize_t row, Py_ssize_t rows) noexcept nogil:
    """Some rows, at most ``most`` vectors of channels at a time."""
    cdef Py_ssize_t c = 0, vectors, n
    while c < m.channels:
        vectors = strip(most, m.channels - c)
        n = min(m.channels - c - (vectors - 1) * VL, <Py_ssize_t> VL)
        if most > 1 and vectors == 4 and n == VL:
            map_vectors(gradient, kind, 4, True, m, row, rows, c, n)
        elif most > 1 and vectors == 4:
            map_vectors(gradient, kind, 4, False, m, row, rows, c, n)
        elif most > 1 and vectors == 3 and n == VL:
            map_vectors(gradient, kind, 3, True, m, row, rows, c, n)
        elif most > 1 and vectors == 3:
            map_vectors(gradient, kind, 3, False, m, row, rows, c, n)
        elif most > 1 and vectors == 2 and n == VL:
            map_vectors(gradient, kind, 2, True, m, row, rows, c, n)
        elif most > 1 and vectors == 2:
            map_vectors(gradient, kind, 2, False, m, row, rows, c, n)
        elif n == VL:
            map_vectors(gradient, kind, 1, True, m, row, rows, c, n)
        else:
            map_vectors(gradient, kind, 1, False, m, row, rows, c, n)
        c += vectors * VL


cdef inline void map_pixels(const bint gradient, const int kind, const int most, const Map* m,
                            Py_ssize_t pixels) noexcept nogil:
    """All channels of some pixels: row by row where a row is more than registers hold."""
    cdef Py_ssize_t i
    if strip(most, m.channels) * VL >= m.channels:
        map_rows(gradient, kind, most, m, 0, pixels)
        return
    for i in range(pixels):
        map_rows(gradient, kind, most, m, i, 1)


cdef void normalise_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                        char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef Py_ssize_t first = begin * a.group
    cdef Py_ssize_t pixels = min(end * a.group, a.pixels) - first
    cdef Map m
    m.channels, m.x_step, m.y_step = a.channels, a.x_step, a.y_step
    m.x = <const float*> buffers[step.operand[0]] + first * a.x_step
    m.affine = <const float*> buffers[step.operand[1]]
    m.y = <float*> buffers[step.operand[2]] + first * a.y_step
    if a.kind == LINEAR:
        map_pixels(False, LINEAR, WIDE, &m, pixels)
    elif a.kind == SCALE:
        map_pixels(False, SCALE, WIDE, &m, pixels)
    elif a.kind == RELU:
        map_pixels(False, RELU, WIDE, &m, pixels)
    elif a.kind == RELU6:
        map_pixels(False, RELU6, WIDE, &m, pixels)
    else:
        map_pixels(False, a.kind, 1, &m, pixels)


cdef void input_gradient_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                             char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef Py_ssize_t first = begin * a.group
    cdef Py_ssize_t pixels = min(end * a.group, a.pixels) - first
    cdef Map m
    m.channels = m.x_step = m.y_step = a.channels
    m.x = <const float*> buffers[step.operand[0]] + first * a.channels
    m.dy = <const float*> buffers[step.operand[DY]] + first * a.channels
    m.affine = <const float*> buffers[step.operand[AFFINE]]
    m.mean = <const float*> buffers[step.operand[MEAN]]
    m.line = <const float*> buffers[step.operand[4]]
    m.y = <float*> buffers[step.operand[5]] + first * a.channels
    if a.kind == LINEAR:
        map_pixels(True, LINEAR, few(), &m, pixels)
    elif a.kind == RELU:
        map_pixels(True, RELU, few(), &m, pixels)
    elif a.kind == RELU6:
        map_pixels(True, RELU6, few(), &m, pixels)
    else:
        map_pixels(True, a.kind, 1, &m, pixels)


def normalise(pixels, channels, activation, x_step=None, y_step=None):
    """x, affine -> y = activation(x * scale + shift); y may be x itself

    Pixels of x and y lie ``x_step`` and ``y_step`` floats apart.
    """
    return offer("bn_normalise", normalise_run, pixels, channels, max(1, ITEM // channels),
                 channels, activation, x_step, y_step)


def scale_filters(taps, channels):
    """w (taps, channels), affine -> w * scale; the result may be w itself"""
    return offer("bn_scale_filters", normalise_run, taps, channels, max(1, ITEM // channels),
                 channels, SCALE)


def input_gradient(pixels, channels, activation):
    """x, dy, affine, mean, line -> dx = g * scale + (x - mean) * slope + offset; dx may be dy

    g is dy times the activation's derivative.
    """
    return offer("bn_input_gradient", input_gradient_run, pixels, channels,
                 max(1, ITEM // channels), channels, activation)
