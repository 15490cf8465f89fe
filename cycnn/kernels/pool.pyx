"""Maximum and average over windows, forward and backward: float32, NHWC.

    y[n,p,q,c] = max or mean over i, j of x[n, p*sh - top + i*dh, q*sw - left + j*dw, c]

Positions outside the image take no part. Every window must hold a position inside it. Nothing aliases,
nothing need be padded. A global pool is a window as large as the image.

Forward, an item is one row of windows and one block of channels. Backward, it is one band of rows of
``dx`` and one block of channels: it goes through every window that touches the band, in row order, and
writes inside the band alone, so each element of ``dx`` is the same sum however items are shared out.
"""

from libc.math cimport INFINITY
from libc.string cimport memset

from .isa cimport (VL, vadd, vdiv, vf, vlargest, vload, vload_part, vselect_eq_or_nan, vset1,
                   vstore, vstore_part, vzero)
from .step cimport Run, Step, kernel

cdef enum:
    WIDE = 4  # vectors of channels at a time
    MAXIMUM = 0
    AVERAGE = 1

cdef struct Attributes:
    Py_ssize_t n, h, w, c  # x
    Py_ssize_t p, q  # windows
    Py_ssize_t kh, kw, sh, sw, dh, dw, top, left
    Py_ssize_t count  # what an average divides by; 0: the positions inside the image
    Py_ssize_t parts  # forward: rows of windows of an image; backward: bands of rows of x
    Py_ssize_t blocks, block  # of channels
    Py_ssize_t band  # rows of x
    Py_ssize_t disjoint  # no element of x is in two windows
    Py_ssize_t cover  # every element of x is in a window

cdef struct Taps:
    # the part of a window along one axis that is inside the image: first position, number of taps
    Py_ssize_t position
    Py_ssize_t count


cdef inline Taps taps_inside(Py_ssize_t begin, Py_ssize_t k, Py_ssize_t d,
                             Py_ssize_t size) noexcept nogil:
    """Of the positions begin, begin + d, ... (k of them), those in ``0 <= position < size``."""
    cdef Taps t
    t.position, t.count = begin, k
    if begin < 0:
        t.count -= (d - 1 - begin) // d
        t.position += (d - 1 - begin) // d * d
    if t.position + (t.count - 1) * d >= size:
        t.count = (size - t.position + d - 1) // d
    return t


cdef inline vf read(const bint whole, const float* p, Py_ssize_t n) noexcept nogil:
    return vload(p) if whole else vload_part(p, n)


cdef inline void write(const bint whole, float* p, vf a, Py_ssize_t n) noexcept nogil:
    if whole:
        vstore(p, a)
    else:
        vstore_part(p, a, n)


# ---- forward -------------------------------------------------------------------------------------

cdef inline vf combine(const int kind, vf a, vf b) noexcept nogil:
    return vlargest(a, b) if kind == MAXIMUM else vadd(a, b)


cdef inline void reduce(const int kind, const int vectors, const bint whole, const float* x,
                        Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t row_step,
                        Py_ssize_t column_step, float divisor, float* y,
                        Py_ssize_t n) noexcept nogil:
    """y[vectors * VL] = max or mean of x over rows x columns; each row on its own, then all rows."""
    cdef vf total[WIDE]
    cdef vf row[WIDE]
    cdef const float* tap
    cdef Py_ssize_t i, j
    cdef int v
    for v in range(vectors):
        total[v] = vset1(-INFINITY) if kind == MAXIMUM else vzero()
    for i in range(rows):
        tap = x + i * row_step
        for v in range(vectors):
            row[v] = read(whole, tap + v * VL, n)
        for j in range(1, columns):
            tap += column_step
            for v in range(vectors):
                row[v] = combine(kind, row[v], read(whole, tap + v * VL, n))
        for v in range(vectors):
            total[v] = combine(kind, total[v], row[v])
    for v in range(vectors):
        if kind == AVERAGE:
            total[v] = vdiv(total[v], vset1(divisor))
        write(whole, y + v * VL, total[v], n)


cdef inline void reduce_channels(const int kind, const float* x, Py_ssize_t rows,
                                 Py_ssize_t columns, Py_ssize_t row_step, Py_ssize_t column_step,
                                 float divisor, float* y, Py_ssize_t channels) noexcept nogil:
    """One window for all ``channels``. The last vector overlaps the one before it if there is one."""
    cdef Py_ssize_t c = 0
    while c + WIDE * VL <= channels:
        reduce(kind, WIDE, True, x + c, rows, columns, row_step, column_step, divisor, y + c, VL)
        c += WIDE * VL
    if c + 2 * VL <= channels:
        reduce(kind, 2, True, x + c, rows, columns, row_step, column_step, divisor, y + c, VL)
        c += 2 * VL
    if c + VL <= channels:
        reduce(kind, 1, True, x + c, rows, columns, row_step, column_step, divisor, y + c, VL)
        c += VL
    if c == channels:
        return
    if channels >= VL:
        c = channels - VL
        reduce(kind, 1, True, x + c, rows, columns, row_step, column_step, divisor, y + c, VL)
    else:
        reduce(kind, 1, False, x, rows, columns, row_step, column_step, divisor, y, channels)


cdef inline void forward_row(const int kind, const Attributes* a, const float* x, float* y,
                             Py_ssize_t p, Py_ssize_t channels) noexcept nogil:
    """Row ``p`` of the windows of one image."""
    cdef Taps rows = taps_inside(p * a.sh - a.top, a.kh, a.dh, a.h)
    cdef Taps columns
    cdef Py_ssize_t row_step = a.dh * a.w * a.c
    cdef Py_ssize_t column_step = a.dw * a.c
    cdef Py_ssize_t q
    cdef const float* tap
    cdef float divisor = a.count
    for q in range(a.q):
        columns = taps_inside(q * a.sw - a.left, a.kw, a.dw, a.w)
        tap = x + (rows.position * a.w + columns.position) * a.c
        if a.count == 0:
            divisor = rows.count * columns.count
        if rows.count == 2 and columns.count == 2:
            reduce_channels(kind, tap, 2, 2, row_step, column_step, divisor, y, channels)
        elif rows.count == 3 and columns.count == 3:
            reduce_channels(kind, tap, 3, 3, row_step, column_step, divisor, y, channels)
        else:
            reduce_channels(kind, tap, rows.count, columns.count, row_step, column_step, divisor,
                            y, channels)
        y += a.c


cdef inline void forward_run(const int kind, const Step* step, char** buffers, Py_ssize_t begin,
                             Py_ssize_t end) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef float* y = <float*> buffers[step.operand[1]]
    cdef Py_ssize_t item, row, c
    for item in range(begin, end):
        row = item // a.blocks
        c = item % a.blocks * a.block
        forward_row(kind, a, x + row // a.p * a.h * a.w * a.c + c, y + row * a.q * a.c + c,
                    row % a.p, min(a.block, a.c - c))


cdef void max_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                  char* scratch) noexcept nogil:
    forward_run(MAXIMUM, step, buffers, begin, end)


cdef void average_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    forward_run(AVERAGE, step, buffers, begin, end)


# ---- backward ------------------------------------------------------------------------------------

cdef inline void give(const bint whole, const bint disjoint, float* dx, vf share,
                      Py_ssize_t n) noexcept nogil:
    """dx += share; where windows are disjoint, dx = share"""
    write(whole, dx, share if disjoint else vadd(read(whole, dx, n), share), n)


cdef inline void give_to_first_maximum(const bint whole, const bint disjoint, const float* x,
                                       vf dy, float* dx, Taps rows, Taps columns,
                                       Py_ssize_t row_step, Py_ssize_t column_step,
                                       Py_ssize_t first, Py_ssize_t last,
                                       Py_ssize_t n) noexcept nogil:
    """dx += dy at the first maximum of the window; ``dx`` is there for taps first <= i < last only."""
    cdef vf largest = read(whole, x, n)
    cdef vf here
    cdef const float* tap
    cdef Py_ssize_t i, j
    for i in range(rows.count):
        tap = x + i * row_step
        for j in range(columns.count):
            largest = vlargest(largest, read(whole, tap + j * column_step, n))
    for i in range(last):
        for j in range(columns.count):
            here = read(whole, x + i * row_step + j * column_step, n)
            if i >= first:
                give(whole, disjoint, dx + i * row_step + j * column_step,
                     vselect_eq_or_nan(here, largest, dy, vzero()), n)
            dy = vselect_eq_or_nan(here, largest, vzero(), dy)  # given once


cdef inline void give_to_all(const bint whole, const bint disjoint, vf share, float* dx,
                             Taps columns, Py_ssize_t row_step, Py_ssize_t column_step,
                             Py_ssize_t first, Py_ssize_t last, Py_ssize_t n) noexcept nogil:
    """dx += share for taps first <= i < last"""
    cdef Py_ssize_t i, j
    for i in range(first, last):
        for j in range(columns.count):
            give(whole, disjoint, dx + i * row_step + j * column_step, share, n)


cdef inline void backward_vector(const int kind, const bint whole, const bint disjoint,
                                 const float* x, const float* dy, float* dx, Taps rows,
                                 Taps columns, Py_ssize_t row_step, Py_ssize_t column_step,
                                 Py_ssize_t first, Py_ssize_t last, float divisor,
                                 Py_ssize_t n) noexcept nogil:
    if kind == MAXIMUM:
        give_to_first_maximum(whole, disjoint, x, read(whole, dy, n), dx, rows, columns, row_step,
                              column_step, first, last, n)
    else:
        give_to_all(whole, disjoint, vdiv(read(whole, dy, n), vset1(divisor)), dx, columns,
                    row_step, column_step, first, last, n)


cdef inline void backward_channels(const int kind, const bint disjoint, const float* x,
                                   const float* dy, float* dx, Taps rows, Taps columns,
                                   Py_ssize_t row_step, Py_ssize_t column_step, Py_ssize_t first,
                                   Py_ssize_t last, float divisor,
                                   Py_ssize_t channels) noexcept nogil:
    """One window for all ``channels``."""
    cdef Py_ssize_t c = 0
    while c + VL <= channels:
        backward_vector(kind, True, disjoint, x + c, dy + c, dx + c, rows, columns, row_step,
                        column_step, first, last, divisor, VL)
        c += VL
    if c < channels:
        backward_vector(kind, False, disjoint, x + c, dy + c, dx + c, rows, columns, row_step,
                        column_step, first, last, divisor, channels - c)


cdef inline void backward_row(const int kind, const bint disjoint, const Attributes* a,
                              const float* x, const float* dy, float* dx, Py_ssize_t p,
                              Py_ssize_t low, Py_ssize_t high, Py_ssize_t channels) noexcept nogil:
    """What row ``p`` of the windows gives to the rows low <= h < high of ``dx``."""
    cdef Taps rows = taps_inside(p * a.sh - a.top, a.kh, a.dh, a.h)
    cdef Taps columns
    cdef Py_ssize_t first = max(low - rows.position + a.dh - 1, 0) // a.dh
    cdef Py_ssize_t last = min(max(high - rows.position + a.dh - 1, 0) // a.dh, rows.count)
    cdef Py_ssize_t offset, q
    cdef float divisor = a.count
    for q in range(a.q):
        columns = taps_inside(q * a.sw - a.left, a.kw, a.dw, a.w)
        offset = (rows.position * a.w + columns.position) * a.c
        if a.count == 0:
            divisor = rows.count * columns.count
        backward_channels(kind, disjoint, x + offset, dy, dx + offset, rows, columns,
                          a.dh * a.w * a.c, a.dw * a.c, first, last, divisor, channels)
        dy += a.c


cdef inline void clear(const Attributes* a, float* dx, Py_ssize_t low, Py_ssize_t high,
                       Py_ssize_t channels) noexcept nogil:
    """dx = 0 in the rows low <= h < high"""
    cdef Py_ssize_t pixel
    if channels == a.c:
        memset(dx + low * a.w * a.c, 0, (high - low) * a.w * a.c * sizeof(float))
        return
    for pixel in range(low * a.w, high * a.w):
        memset(dx + pixel * a.c, 0, channels * sizeof(float))


cdef inline void backward_band(const int kind, const Attributes* a, const float* x,
                               const float* dy, float* dx, Py_ssize_t band,
                               Py_ssize_t channels) noexcept nogil:
    """The rows of ``dx`` from ``band * a.band - a.top`` on, in which ``a.band`` windows begin."""
    cdef Py_ssize_t low = max(band * a.band - a.top, 0)
    cdef Py_ssize_t high = min((band + 1) * a.band - a.top, a.h)
    cdef Py_ssize_t above = low + a.top - (a.kh - 1) * a.dh  # where the first window may begin
    cdef Py_ssize_t p
    if high <= low:
        return
    if not (a.disjoint and a.cover):
        clear(a, dx, low, high, channels)
    for p in range(max(above + a.sh - 1, 0) // a.sh, min((high - 1 + a.top) // a.sh + 1, a.p)):
        if a.disjoint:
            backward_row(kind, True, a, x, dy + p * a.q * a.c, dx, p, low, high, channels)
        else:
            backward_row(kind, False, a, x, dy + p * a.q * a.c, dx, p, low, high, channels)


cdef inline void backward_run(const int kind, const Attributes* a, const float* x,
                              const float* dy, float* dx, Py_ssize_t begin,
                              Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t item, part, image, c
    for item in range(begin, end):
        part = item // a.blocks
        c = item % a.blocks * a.block
        image = part // a.parts * a.h * a.w * a.c + c
        backward_band(kind, a, x + image, dy + part // a.parts * a.p * a.q * a.c + c, dx + image,
                      part % a.parts, min(a.block, a.c - c))


cdef void max_backward_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                           char* scratch) noexcept nogil:
    backward_run(MAXIMUM, <const Attributes*> step.attributes,
                 <const float*> buffers[step.operand[0]], <const float*> buffers[step.operand[1]],
                 <float*> buffers[step.operand[2]], begin, end)


cdef void average_backward_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                               char* scratch) noexcept nogil:
    cdef float* dx = <float*> buffers[step.operand[1]]
    backward_run(AVERAGE, <const Attributes*> step.attributes, dx,
                 <const float*> buffers[step.operand[0]], dx, begin, end)


# ---- offers --------------------------------------------------------------------------------------

cdef enum:
    FEW_ITEMS = 16  # with fewer, channels are split as well
    BAND_BYTES = 65536


cdef Py_ssize_t windows_in_band(const Attributes* a):
    """Rows of windows that begin in a band; those of its neighbours that reach into it add a quarter."""
    cdef Py_ssize_t reach = max((a.kh - 1) * a.dh + 1 - a.sh, 0)
    cdef Py_ssize_t cached = BAND_BYTES // max(4 * a.sh * a.w * a.c, 1)
    return min(max(1, cached, 4 * (reach + a.sh - 1) // a.sh), max(1, a.p))


cdef Attributes describe(x_shape, window, bint count_padding) except *:
    cdef Attributes a
    a.n, a.h, a.w, a.c = x_shape
    a.p, a.q = window.output((a.h, a.w))
    a.kh, a.kw = window.kernel
    a.sh, a.sw = window.strides
    a.dh, a.dw = window.dilation
    (a.top, _), (a.left, _) = window.pads((a.h, a.w))
    a.count = a.kh * a.kw if count_padding else 0
    a.disjoint = (a.kh - 1) * a.dh < a.sh and (a.kw - 1) * a.dw < a.sw
    a.cover = (a.p * a.kh - a.top >= a.h and a.q * a.kw - a.left >= a.w and a.sh <= a.kh
               and a.sw <= a.kw and a.dh == a.dw == 1)
    a.band = a.sh * windows_in_band(&a)
    a.parts = a.blocks = a.block = 0
    return a


cdef object offer(str name, Run run, Attributes* a, Py_ssize_t parts):
    """Split an image into ``parts`` and, where that makes few items, into blocks of channels."""
    a.parts, a.block = parts, max(a.c, 1)
    if a.n * parts < FEW_ITEMS:
        a.block = WIDE * VL if a.n * parts * a.c >= FEW_ITEMS * WIDE * VL else VL
    a.blocks = (a.c + a.block - 1) // a.block
    return kernel(name, run, a.n * parts * a.blocks, 0, a, sizeof(a[0]))


cdef Py_ssize_t bands(const Attributes* a):
    return (a.h + a.top + a.band - 1) // a.band


def max_forward(x_shape, window):
    """x -> y, the maximum of every window; NaN where there is one in it"""
    cdef Attributes a = describe(x_shape, window, False)
    return offer("max_pool2d", max_run, &a, a.p)


def average_forward(x_shape, window, count_padding):
    """x -> y, the mean of every window"""
    cdef Attributes a = describe(x_shape, window, count_padding)
    return offer("average_pool2d", average_run, &a, a.p)


def max_backward(x_shape, window):
    """x, dy -> dx: each window's dy goes to its first maximum in row order, or its first NaN"""
    cdef Attributes a = describe(x_shape, window, False)
    return offer("max_pool2d_backward", max_backward_run, &a, bands(&a))


def average_backward(x_shape, window, count_padding):
    """dy -> dx: each window's dy is shared out evenly among its positions"""
    cdef Attributes a = describe(x_shape, window, count_padding)
    return offer("average_pool2d_backward", average_backward_run, &a, bands(&a))
