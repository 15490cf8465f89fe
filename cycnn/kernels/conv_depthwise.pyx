"""Depthwise convolution, one window per channel, over NHWC pixels, and its gradient for the data.

    y[n, p, q, c] = activation(b[c] + sum over taps r, s of
                               x[n, row(p, r), col(q, s), c] * w[r, s, c])

with row() and col() those of the phases of an axis, see grid.pxd. Channels are the lanes of the
vectors; padding is a pointer to a row of zeros. w is read as it is, b may be absent, x and y must
not overlap.

An item is a run of pixels of one phase of one image.
"""

from libc.string cimport memset

from .activation cimport RELU, activate_all
from .grid cimport Axis, Phase, Pixels, axis_bytes, locate, needed_taps, next_axis, phase_of
from .isa cimport (
    VL, vf, vfma, vload, vload_part, vmax, vstore, vstore_part, vzero,
)
from .step cimport Step, kernel

cdef enum:
    GROUP = 4       # pixels that share a load of the weights

cdef struct Attributes:     # followed by the axes
    Py_ssize_t images
    Py_ssize_t channels
    Py_ssize_t taps
    Py_ssize_t pixel_blocks
    Py_ssize_t most_pixels
    int activation


cdef inline void window_sums(const int n, const bint part, const Attributes* a,
                             const Pixels* pixels, Py_ssize_t first, const int* tap, int taps,
                             Py_ssize_t c, const float* w, const float* b) noexcept nogil:
    """Channels from c on, a vector (or in part what is left), of ``n`` pixels from ``first`` on."""
    cdef vf acc[GROUP]
    cdef vf v
    cdef const float** rows
    cdef Py_ssize_t left = a.channels - c
    cdef int i, u
    v = vzero()
    if b != NULL:
        v = vload_part(b + c, left) if part else vload(b + c)
    for i in range(n):
        acc[i] = v
    for u in range(taps):
        rows = pixels.rows + tap[u] * pixels.step + first
        v = vload_part(w + tap[u] * a.channels + c, left) if part else vload(
            w + tap[u] * a.channels + c)
        for i in range(n):
            acc[i] = vfma(v, vload_part(rows[i] + c, left) if part else vload(rows[i] + c), acc[i])
    for i in range(n):
        if a.activation == RELU:
            acc[i] = vmax(vzero(), acc[i])
        if part:
            vstore_part(pixels.y[first + i] + c, acc[i], left)
        else:
            vstore(pixels.y[first + i] + c, acc[i])


cdef inline void all_channels(const int n, const Attributes* a, const Pixels* pixels,
                              Py_ssize_t first, const int* tap, int taps, const float* w,
                              const float* b) noexcept nogil:
    cdef Py_ssize_t c = 0, i
    while c + VL <= a.channels:
        window_sums(n, False, a, pixels, first, tap, taps, c, w, b)
        c += VL
    if c < a.channels:
        window_sums(n, True, a, pixels, first, tap, taps, c, w, b)
    if a.activation > RELU:
        for i in range(first, first + n):
            activate_all(a.activation, pixels.y[i], pixels.y[i], a.channels)


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* w = <const float*> buffers[step.operand[1]]
    cdef const float* b = <const float*> buffers[step.operand[2]]
    cdef const Axis* rows = <const Axis*> (a + 1)
    cdef const Axis* columns = next_axis(rows)
    cdef const Phase* pr
    cdef const Phase* pc
    cdef Py_ssize_t phases = rows.phases * columns.phases, c = a.channels
    cdef Py_ssize_t item, image, phase, block, n, i
    cdef const float* x
    cdef float* y
    cdef int taps
    cdef Pixels pixels
    pixels.step = a.most_pixels
    pixels.rows = <const float**> scratch
    pixels.y = <float**> scratch + a.taps * a.most_pixels
    cdef int* tap = <int*> (pixels.y + a.most_pixels)
    pixels.zero = <const float*> (tap + a.taps)
    memset(<void*> pixels.zero, 0, c * sizeof(float))
    for item in range(begin, end):
        block = item % a.pixel_blocks
        phase = item // a.pixel_blocks % phases
        image = item // a.pixel_blocks // phases
        pr = phase_of(rows, phase // columns.phases)
        pc = phase_of(columns, phase % columns.phases)
        n = pr.count * pc.count
        x = <const float*> buffers[step.operand[0]] + image * rows.in_size * columns.in_size * c
        y = <float*> buffers[step.operand[4]] + image * rows.out_size * columns.out_size * c
        locate(&pixels, rows, columns, pr, pc, n * block // a.pixel_blocks,
               n * (block + 1) // a.pixel_blocks, x, c, y, c)
        i = 0
        while i + GROUP <= pixels.count:
            taps = needed_taps(&pixels, rows, columns, pr, pc, i, GROUP, tap)
            all_channels(GROUP, a, &pixels, i, tap, taps, w, b)
            i += GROUP
        while i < pixels.count:
            taps = needed_taps(&pixels, rows, columns, pr, pc, i, 1, tap)
            all_channels(1, a, &pixels, i, tap, taps, w, b)
            i += 1


def convolve(images, channels, rows, columns, *, pixel_blocks, activation=0):
    """x (N, H, W, channels), w (kh, kw, 1, channels), b or absent -> y (N, P, Q, channels)"""
    cdef Attributes a
    a.images, a.channels, a.activation = images, channels, activation
    a.taps, a.pixel_blocks = rows.window * columns.window, pixel_blocks
    most = (max([p[1] for p in rows.phases], default=0)
            * max([p[1] for p in columns.phases], default=0))
    a.most_pixels = (most + a.pixel_blocks - 1) // a.pixel_blocks
    scratch = 8 * (a.taps + 1) * a.most_pixels + 4 * (a.taps + a.channels)
    items = a.images * len(rows.phases) * len(columns.phases) * a.pixel_blocks if most else 0
    attributes = (<const char*> &a)[:sizeof(a)] + axis_bytes(rows) + axis_bytes(columns)
    return kernel("conv_depthwise", run, items, scratch, <const char*> attributes, len(attributes))
