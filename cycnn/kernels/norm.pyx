"""Batch normalization: statistics, the normalised tensor, and their gradients.

Tensors are ``pixels`` rows of ``channels`` floats. Sums over pixels are taken in float over slots of
SLOT pixels, and in double from there on, over groups of slots; both are cut by shape alone, and
groups are added up in order. ``affine`` is a scale for every channel, then a shift for every channel:

    y = activation(x * scale + shift)

What the activation is applied to is computed by one multiply-add, here and again for its gradient.
"""

from .activation cimport LINEAR, RELU, activate, activate_backward_at
from .isa cimport (VL, vadd, vf, vfma, vload, vload_part, vmul, vselect_eq, vstore, vstore_part, vsub,
                   vzero)
from .step cimport Run, Step, kernel

cdef enum:
    SLOT = 64           # pixels that are summed in float
    WIDE = 4            # vectors that are summed side by side
    MAX_VL = 16
    STRIP = 256         # channels of an item that sums
    BLOCK = 16384       # floats of an item that maps pixel by pixel
    SCALE = -1          # instead of an activation: without the shift

cdef struct Attributes:
    Py_ssize_t pixels, channels
    Py_ssize_t x_step, y_step   # floats from a pixel to the next, for maps
    Py_ssize_t group        # pixels of a group
    Py_ssize_t groups
    int activation


cdef inline vf read(const bint whole, const float* p, Py_ssize_t n) noexcept nogil:
    return vload(p) if whole else vload_part(p, n)


cdef inline void write(const bint whole, float* p, vf a, Py_ssize_t n) noexcept nogil:
    if whole:
        vstore(p, a)
    else:
        vstore_part(p, a, n)


cdef inline vf apply(const int activation, vf x, vf scale, vf shift) noexcept nogil:
    if activation == SCALE:
        return vmul(x, scale)
    return activate(activation, vfma(x, scale, shift))


cdef inline vf gate(const int activation, vf x, vf scale, vf shift, vf dy) noexcept nogil:
    """The gradient before the activation"""
    return activate_backward_at(activation, vfma(x, scale, shift), dy)


# ---- sums over pixels ----------------------------------------------------------------------------

cdef struct Slot:           # of one group and channel on, the rows it reads and where its sums go
    const float* x
    const float* dy
    const float* scale
    const float* shift
    const float* mean
    double* first
    double* second
    Py_ssize_t channels


cdef inline void sum_moments(const int vectors, const bint whole, const Slot* s, Py_ssize_t pixels,
                             Py_ssize_t n) noexcept nogil:
    """first += sum x, second += sum x^2, by float sums of x - k and (x - k)^2.

    k is the first pixel, or 0 where that is not finite. A slot's rounding error is then at most
    SLOT + 1 times that of exact deviations from its mean, however far the mean is from 0.
    """
    cdef vf sums[WIDE]
    cdef vf squares[WIDE]
    cdef vf origin[WIDE]
    cdef float linear[WIDE * MAX_VL]
    cdef float square[WIDE * MAX_VL]
    cdef float start[WIDE * MAX_VL]
    cdef const float* x = s.x
    cdef Py_ssize_t _, c
    cdef double k
    cdef vf a
    cdef int v
    for v in range(vectors):
        a = read(whole, x + v * VL, n)
        origin[v] = vselect_eq(vsub(a, a), vzero(), a, vzero())
        sums[v] = vzero()
        squares[v] = vzero()
    for _ in range(pixels):
        for v in range(vectors):
            a = vsub(read(whole, x + v * VL, n), origin[v])
            sums[v] = vadd(sums[v], a)
            squares[v] = vfma(a, a, squares[v])
        x += s.channels
    for v in range(vectors):
        vstore(linear + v * VL, sums[v])
        vstore(square + v * VL, squares[v])
        vstore(start + v * VL, origin[v])
    for c in range(vectors * VL if whole else min(n, <Py_ssize_t> VL)):
        k = start[c]
        s.first[c] += pixels * k + linear[c]
        s.second[c] += square[c] + k * (2.0 * linear[c] + pixels * k)


cdef inline void sum_gradients(const int activation, const int vectors, const bint whole,
                               const Slot* s, Py_ssize_t pixels, Py_ssize_t n) noexcept nogil:
    """first += sum g, second += sum g * (x - mean), g being the gradient before the activation"""
    cdef vf sums[WIDE]
    cdef vf products[WIDE]
    cdef float linear[WIDE * MAX_VL]
    cdef float product[WIDE * MAX_VL]
    cdef const float* x = s.x
    cdef const float* dy = s.dy
    cdef Py_ssize_t _, c
    cdef vf a, g
    cdef int v
    for v in range(vectors):
        sums[v] = vzero()
        products[v] = vzero()
    for _ in range(pixels):
        for v in range(vectors):
            a = read(whole, x + v * VL, n)
            g = gate(activation, a, read(whole, s.scale + v * VL, n),
                     read(whole, s.shift + v * VL, n), read(whole, dy + v * VL, n))
            sums[v] = vadd(sums[v], g)
            products[v] = vfma(vsub(a, read(whole, s.mean + v * VL, n)), g, products[v])
        x += s.channels
        dy += s.channels
    for v in range(vectors):
        vstore(linear + v * VL, sums[v])
        vstore(product + v * VL, products[v])
    for c in range(vectors * VL if whole else min(n, <Py_ssize_t> VL)):
        s.first[c] += linear[c]
        s.second[c] += product[c]


cdef inline void sum_part(const bint moments, const int activation, const int vectors,
                          const bint whole, const Slot* at, Py_ssize_t c, Py_ssize_t pixels,
                          Py_ssize_t n) noexcept nogil:
    """Add up the channels from c on."""
    cdef Slot s = at[0]
    s.x += c
    s.first += c
    s.second += c
    if moments:
        sum_moments(vectors, whole, &s, pixels, n)
    else:
        s.dy += c
        s.scale += c
        s.shift += c
        s.mean += c
        sum_gradients(activation, vectors, whole, &s, pixels, n)


cdef inline void sum_slot(const bint moments, const int activation, const Slot* s,
                          Py_ssize_t pixels, Py_ssize_t width) noexcept nogil:
    """Add up ``width`` channels of one slot."""
    cdef Py_ssize_t c = 0
    while c + WIDE * VL <= width:
        sum_part(moments, activation, WIDE, True, s, c, pixels, VL)
        c += WIDE * VL
    while c + VL <= width:
        sum_part(moments, activation, 1, True, s, c, pixels, VL)
        c += VL
    if c < width:
        sum_part(moments, activation, 1, False, s, c, pixels, width - c)


cdef inline void sum_group(const bint moments, const int activation, const Attributes* a,
                           const Slot* start, Py_ssize_t pixels, Py_ssize_t width) noexcept nogil:
    """Add up ``width`` channels of a group of pixels, from zero."""
    cdef Slot s = start[0]
    cdef Py_ssize_t c, n
    for c in range(width):
        s.first[c] = 0
        s.second[c] = 0
    while pixels > 0:
        n = min(<Py_ssize_t> SLOT, pixels)
        sum_slot(moments, activation, &s, n, width)
        s.x += n * a.channels
        if not moments:
            s.dy += n * a.channels
        pixels -= n


cdef inline void sums_run(const bint moments, const int activation, const Step* step,
                          char** buffers, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef Py_ssize_t strips = (a.channels + STRIP - 1) // STRIP
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const float* dy = NULL
    cdef const float* affine = NULL
    cdef double* sums = <double*> buffers[step.operand[1 if moments else 4]]
    cdef Py_ssize_t i, z, c, row
    cdef Slot s
    s.channels = a.channels
    for i in range(begin, end):
        z = i // strips
        c = (i - z * strips) * STRIP
        row = z * a.group
        s.x = x + row * a.channels + c
        s.first = sums + 2 * z * a.channels + c
        s.second = s.first + a.channels
        if not moments:
            dy = <const float*> buffers[step.operand[1]]
            affine = <const float*> buffers[step.operand[2]] + c
            s.dy = dy + row * a.channels + c
            s.scale, s.shift = affine, affine + a.channels
            s.mean = <const float*> buffers[step.operand[3]] + c
        sum_group(moments, activation, a, &s, min(a.group, a.pixels - row),
                  min(<Py_ssize_t> STRIP, a.channels - c))


cdef void moments_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    sums_run(True, LINEAR, step, buffers, begin, end)


cdef void gradient_sums_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                            char* scratch) noexcept nogil:
    cdef int activation = (<const Attributes*> step.attributes).activation
    if activation == RELU:
        sums_run(False, RELU, step, buffers, begin, end)
    elif activation == LINEAR:
        sums_run(False, LINEAR, step, buffers, begin, end)
    else:
        sums_run(False, activation, step, buffers, begin, end)


cdef Attributes cut(Py_ssize_t pixels, Py_ssize_t channels, Py_ssize_t group,
                    int activation=LINEAR):
    cdef Attributes a
    a.pixels, a.channels, a.group = pixels, channels, group
    a.x_step = a.y_step = channels
    a.groups = (pixels + group - 1) // group
    a.activation = activation
    return a


def moment_sums(pixels, channels, group):
    """x -> sums (groups, 2, channels) of double: sum x and sum x^2 over each group of pixels."""
    cdef Attributes a = cut(pixels, channels, group)
    return kernel("bn_moment_sums", moments_run, a.groups * ((a.channels + STRIP - 1) // STRIP), 0,
                  &a, sizeof(a))


def gradient_sums(pixels, channels, group, activation):
    """x, dy, affine, mean -> sums (groups, 2, channels) of double: sum g and sum g * (x - mean).

    g is dy times the activation's derivative.
    """
    cdef Attributes a = cut(pixels, channels, group, activation)
    return kernel("bn_gradient_sums", gradient_sums_run,
                  a.groups * ((a.channels + STRIP - 1) // STRIP), 0, &a, sizeof(a))


# ---- pixel by pixel ------------------------------------------------------------------------------

cdef inline void map_pixels(const int activation, const Attributes* a, const float* x,
                            const float* affine, float* y, Py_ssize_t pixels) noexcept nogil:
    """y = activation(x * scale + shift)"""
    cdef Py_ssize_t channels = a.channels
    cdef const float* scale = affine
    cdef const float* shift = affine + channels
    cdef Py_ssize_t _, c, n
    for _ in range(pixels):
        c = 0
        while c + VL <= channels:
            vstore(y + c, apply(activation, vload(x + c), vload(scale + c), vload(shift + c)))
            c += VL
        if c < channels:
            n = channels - c
            vstore_part(y + c, apply(activation, vload_part(x + c, n), vload_part(scale + c, n),
                                     vload_part(shift + c, n)), n)
        x += a.x_step
        y += a.y_step


cdef void normalise_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                        char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* affine = <const float*> buffers[step.operand[1]]
    cdef Py_ssize_t first = begin * a.group
    cdef Py_ssize_t pixels = min(end * a.group, a.pixels) - first
    cdef const float* x = <const float*> buffers[step.operand[0]] + first * a.x_step
    cdef float* y = <float*> buffers[step.operand[2]] + first * a.y_step
    if a.activation == RELU:
        map_pixels(RELU, a, x, affine, y, pixels)
    elif a.activation == SCALE:
        map_pixels(SCALE, a, x, affine, y, pixels)
    elif a.activation == LINEAR:
        map_pixels(LINEAR, a, x, affine, y, pixels)
    else:
        map_pixels(a.activation, a, x, affine, y, pixels)


cdef object offer_map(str name, Run run, pixels, channels, activation, x_step=None, y_step=None):
    cdef Attributes a = cut(pixels, channels, max(1, BLOCK // max(1, channels)), activation)
    a.x_step, a.y_step = x_step or channels, y_step or channels
    return kernel(name, run, a.groups, 0, &a, sizeof(a))


def normalise(pixels, channels, activation, x_step=None, y_step=None):
    """x, affine -> y = activation(x * scale + shift); y may be x itself

    Pixels of x and y lie ``x_step`` and ``y_step`` floats apart.
    """
    return offer_map("bn_normalise", normalise_run, pixels, channels, activation, x_step, y_step)


def scale_filters(taps, channels):
    """w (taps, channels), affine -> w * scale; the result may be w itself"""
    return offer_map("bn_scale_filters", normalise_run, taps, channels, SCALE)


cdef inline vf slant(const int activation, const bint whole, const float* x, const float* dy,
                     const float* affine, const float* mean, const float* line,
                     Py_ssize_t channels, Py_ssize_t n) noexcept nogil:
    """One vector of dx."""
    cdef vf a = read(whole, x, n)
    cdef vf scale = read(whole, affine, n)
    cdef vf g = gate(activation, a, scale, read(whole, affine + channels, n), read(whole, dy, n))
    a = vfma(vsub(a, read(whole, mean, n)), read(whole, line, n),
             read(whole, line + channels, n))
    return vfma(g, scale, a)


cdef inline void gradient_pixels(const int activation, const float* x, const float* dy,
                                 const float* affine, const float* mean, const float* line,
                                 float* dx, Py_ssize_t pixels,
                                 Py_ssize_t channels) noexcept nogil:
    """dx = g * scale + (x - mean) * slope + offset"""
    cdef Py_ssize_t _, c, n
    for _ in range(pixels):
        c = 0
        while c + VL <= channels:
            vstore(dx + c, slant(activation, True, x + c, dy + c, affine + c, mean + c, line + c,
                                 channels, VL))
            c += VL
        if c < channels:
            n = channels - c
            vstore_part(dx + c, slant(activation, False, x + c, dy + c, affine + c, mean + c,
                                      line + c, channels, n), n)
        x += channels
        dy += channels
        dx += channels


cdef void input_gradient_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                             char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* affine = <const float*> buffers[step.operand[2]]
    cdef const float* mean = <const float*> buffers[step.operand[3]]
    cdef const float* line = <const float*> buffers[step.operand[4]]
    cdef Py_ssize_t first = begin * a.group
    cdef Py_ssize_t pixels = min(end * a.group, a.pixels) - first
    cdef const float* x = <const float*> buffers[step.operand[0]] + first * a.channels
    cdef const float* dy = <const float*> buffers[step.operand[1]] + first * a.channels
    cdef float* dx = <float*> buffers[step.operand[5]] + first * a.channels
    if a.activation == RELU:
        gradient_pixels(RELU, x, dy, affine, mean, line, dx, pixels, a.channels)
    elif a.activation == LINEAR:
        gradient_pixels(LINEAR, x, dy, affine, mean, line, dx, pixels, a.channels)
    else:
        gradient_pixels(a.activation, x, dy, affine, mean, line, dx, pixels, a.channels)


def input_gradient(pixels, channels, activation):
    """x, dy, affine, mean, line -> dx = g * scale + (x - mean) * slope + offset; dx may be dy

    g is dy times the activation's derivative.
    """
    return offer_map("bn_input_gradient", input_gradient_run, pixels, channels, activation)
