"""Maximum and average over windows, forward and backward: float32, NHWC.

    y[n,p,q,c] = max or mean over i, j of x[n, p*sh - top + i*dh, q*sw - left + j*dw, c]

Positions outside the image take no part. Every window must hold a position inside it. Nothing
aliases, nothing need be padded. A global pool is a window as large as the image.

Forward, an item is a band of rows of windows and a block of channels. Backward, it is the rows of
``dx`` from where one band of windows begins to where the next does, and a block of channels. It
goes through every window that touches these rows, in row order, and writes no others, so each
element of ``dx`` is the same sum however the work is split.
"""

from libc.math cimport INFINITY
from libc.string cimport memset

from .isa cimport (VL, touch, vadd, vdiv, vf, vlargest, vload, vload_part, vselect_eq,
                   vselect_larger, vset1, vstore, vstore_part, vzero)
from .step cimport Run, Step, kernel

cdef enum:
    LINE = 16  # floats in a line of cache
    BEYOND_CACHE = 8388608  # bytes of x
    WIDE = 4  # vectors of channels at a time
    MAXIMUM = 0
    AVERAGE = 1
    ITEM_BYTES = 65536
    FEW_ITEMS = 16  # with fewer, channels are split as well

cdef struct Attributes:
    Py_ssize_t n, h, w, c  # x
    Py_ssize_t p, q  # windows
    Py_ssize_t kh, kw, sh, sw, dh, dw, top, left
    Py_ssize_t inner, outer  # the columns inner <= q < outer of windows are inside the image
    Py_ssize_t count  # what an average divides by; 0: the positions inside the image
    Py_ssize_t band, bands  # rows of windows that begin in an item; items along an image
    Py_ssize_t block, blocks  # channels of an item; items along the channels
    Py_ssize_t disjoint  # no element of x is in two windows
    Py_ssize_t cover  # every element of x is in a window
    Py_ssize_t distant  # x comes from memory, not from a cache

cdef struct Taps:
    # the part of a window along one axis that is inside the image
    Py_ssize_t position  # of its first tap
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


cdef inline Py_ssize_t run_length(const Attributes* a, Py_ssize_t q) noexcept nogil:
    """How many windows from column ``q`` on can be done alike: those inside the image, or one."""
    return a.outer - q if a.inner <= q < a.outer else 1


cdef inline float divisor(const Attributes* a, Taps rows, Taps columns) noexcept nogil:
    return a.count if a.count > 0 else rows.count * columns.count


cdef inline void touch_rows(const Attributes* a, const float* x, Taps rows,
                            Py_ssize_t channels) noexcept nogil:
    """Read the rows of x that a row of windows covers from end to end.

    Windows jump between rows, which hides from the hardware that memory is read in order. Where x
    comes from memory this makes it twice as fast; where it is in a cache, a tenth slower.
    """
    cdef Py_ssize_t i = rows.position * a.w * a.c
    cdef Py_ssize_t end = i + ((rows.count - 1) * a.dh + 1) * a.w * a.c
    if a.distant == 0 or channels < a.c:
        return
    while i < end:
        touch(x + i)
        i += LINE


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
                        Py_ssize_t column_step, float count, float* y, Py_ssize_t n) noexcept nogil:
    """y[vectors * VL] = max or mean of x over rows x columns, each row on its own first."""
    cdef vf total[WIDE]
    cdef vf row[WIDE]
    cdef const float* tap
    cdef Py_ssize_t i, _j
    cdef int v
    for v in range(vectors):
        total[v] = vset1(-INFINITY) if kind == MAXIMUM else vzero()
    for i in range(rows):
        tap = x + i * row_step
        for v in range(vectors):
            row[v] = read(whole, tap + v * VL, n)
        for _j in range(1, columns):
            tap += column_step
            for v in range(vectors):
                row[v] = combine(kind, row[v], read(whole, tap + v * VL, n))
        for v in range(vectors):
            total[v] = combine(kind, total[v], row[v])
    for v in range(vectors):
        if kind == AVERAGE:
            total[v] = vdiv(total[v], vset1(count))
        write(whole, y + v * VL, total[v], n)


cdef inline void reduce_window(const int kind, const float* x, Py_ssize_t rows,
                               Py_ssize_t columns, Py_ssize_t row_step, Py_ssize_t column_step,
                               float count, float* y, Py_ssize_t channels) noexcept nogil:
    """One window for VL or more channels; the last vector may overlap the one before it."""
    cdef Py_ssize_t c = 0
    while c + WIDE * VL <= channels:
        reduce(kind, WIDE, True, x + c, rows, columns, row_step, column_step, count, y + c, VL)
        c += WIDE * VL
    if c + 2 * VL <= channels:
        reduce(kind, 2, True, x + c, rows, columns, row_step, column_step, count, y + c, VL)
        c += 2 * VL
    if c + VL <= channels:
        reduce(kind, 1, True, x + c, rows, columns, row_step, column_step, count, y + c, VL)
        c += VL
    if c < channels:
        c = channels - VL
        reduce(kind, 1, True, x + c, rows, columns, row_step, column_step, count, y + c, VL)


cdef inline void reduce_windows(const int kind, const Attributes* a, const float* x,
                                Py_ssize_t rows, Py_ssize_t columns, float count, float* y,
                                Py_ssize_t windows, Py_ssize_t channels) noexcept nogil:
    """``windows`` neighbours in a row, each of rows x columns positions."""
    cdef Py_ssize_t row_step = a.dh * a.w * a.c
    cdef Py_ssize_t column_step = a.dw * a.c
    cdef Py_ssize_t x_step = a.sw * a.c
    cdef Py_ssize_t y_step = a.c
    cdef Py_ssize_t _q
    if channels >= VL:
        for _q in range(windows):
            reduce_window(kind, x, rows, columns, row_step, column_step, count, y, channels)
            x += x_step
            y += y_step
    else:
        for _q in range(windows):
            reduce(kind, 1, False, x, rows, columns, row_step, column_step, count, y, channels)
            x += x_step
            y += y_step


cdef inline void forward_row(const int kind, const Attributes* a, const float* x, float* y,
                             Py_ssize_t p, Py_ssize_t channels) noexcept nogil:
    """Row ``p`` of the windows of one image."""
    cdef Taps rows = taps_inside(p * a.sh - a.top, a.kh, a.dh, a.h)
    cdef Taps columns
    cdef const float* tap
    cdef float count
    cdef Py_ssize_t windows
    cdef Py_ssize_t q = 0
    touch_rows(a, x, rows, channels)
    while q < a.q:
        windows = run_length(a, q)
        columns = taps_inside(q * a.sw - a.left, a.kw, a.dw, a.w)
        count = divisor(a, rows, columns)
        tap = x + (rows.position * a.w + columns.position) * a.c
        if rows.count == 2 and columns.count == 2:
            reduce_windows(kind, a, tap, 2, 2, count, y, windows, channels)
        elif rows.count == 3 and columns.count == 3:
            reduce_windows(kind, a, tap, 3, 3, count, y, windows, channels)
        else:
            reduce_windows(kind, a, tap, rows.count, columns.count, count, y, windows, channels)
        q += windows
        y += windows * a.c


cdef inline void forward_run(const int kind, const Step* step, char** buffers, Py_ssize_t begin,
                             Py_ssize_t end) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef float* y = <float*> buffers[step.operand[1]]
    cdef Py_ssize_t item, image, band, c, p
    for item in range(begin, end):
        image = item // (a.bands * a.blocks)
        band = item // a.blocks % a.bands
        c = item % a.blocks * a.block
        for p in range(band * a.band, min((band + 1) * a.band, a.p)):
            forward_row(kind, a, x + image * a.h * a.w * a.c + c,
                        y + (image * a.p + p) * a.q * a.c + c, p, min(a.block, a.c - c))


cdef void max_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                  char* scratch) noexcept nogil:
    forward_run(MAXIMUM, step, buffers, begin, end)


cdef void average_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    forward_run(AVERAGE, step, buffers, begin, end)


# ---- backward ------------------------------------------------------------------------------------

cdef struct Window:
    # what the windows of a row have in common; ``dx`` is written for the taps first <= i < last
    Py_ssize_t row_step, column_step
    Py_ssize_t first, last
    float count


cdef inline void find_winners(const int vectors, const bint whole, const float* x,
                              Py_ssize_t step, Py_ssize_t rows, Py_ssize_t columns,
                              const Window* w, vf* best, Py_ssize_t n) noexcept nogil:
    """best = which tap, counted in row order, is the first maximum of x over rows x columns."""
    cdef vf largest[WIDE]
    cdef vf here
    cdef vf tap = vzero()
    cdef Py_ssize_t i, j
    cdef int v
    for v in range(vectors):
        best[v] = tap
        largest[v] = read(whole, x + v * step, n)
    for i in range(rows):
        for j in range(columns):
            for v in range(vectors):
                here = read(whole, x + v * step + i * w.row_step + j * w.column_step, n)
                best[v] = vselect_larger(here, largest[v], tap, best[v])
                largest[v] = vselect_larger(here, largest[v], here, largest[v])
            tap = vadd(tap, vset1(1))


cdef inline void give(const int kind, const int vectors, const bint whole, const bint disjoint,
                      const float* x, Py_ssize_t step, const float* dy, Py_ssize_t dy_step,
                      float* dx, Py_ssize_t rows, Py_ssize_t columns, const Window* w,
                      Py_ssize_t n) noexcept nogil:
    """dx += what windows give to each of their taps; where windows are disjoint, dx = that.

    Several vectors at a time hide the latency of finding a maximum: vectors of one window's
    channels, or of neighbouring windows, ``step`` apart in x and ``dy_step`` in dy.
    """
    cdef vf all[WIDE]
    cdef vf best[WIDE]
    cdef vf tap = vzero()
    cdef vf share
    cdef Py_ssize_t i, j, here
    cdef int v
    for v in range(vectors):
        all[v] = read(whole, dy + v * dy_step, n)
        if kind == AVERAGE:
            all[v] = vdiv(all[v], vset1(w.count))
    if kind == MAXIMUM:
        find_winners(vectors, whole, x, step, rows, columns, w, best, n)
    for i in range(rows):
        if not w.first <= i < w.last:
            tap = vadd(tap, vset1(columns))
            continue
        for j in range(columns):
            for v in range(vectors):
                here = v * step + i * w.row_step + j * w.column_step
                share = vselect_eq(best[v], tap, all[v], vzero()) if kind == MAXIMUM else all[v]
                if not disjoint:
                    share = vadd(read(whole, dx + here, n), share)
                write(whole, dx + here, share, n)
            tap = vadd(tap, vset1(1))


cdef inline void give_channels(const int kind, const bint disjoint, const float* x,
                               const float* dy, float* dx, Py_ssize_t rows, Py_ssize_t columns,
                               const Window* w, Py_ssize_t channels) noexcept nogil:
    """One window, several vectors of channels at a time."""
    cdef Py_ssize_t c = 0
    while c + WIDE * VL <= channels:
        give(kind, WIDE, True, disjoint, x + c, VL, dy + c, VL, dx + c, rows, columns, w, VL)
        c += WIDE * VL
    while c + VL <= channels:
        give(kind, 1, True, disjoint, x + c, VL, dy + c, VL, dx + c, rows, columns, w, VL)
        c += VL
    if c < channels:
        give(kind, 1, False, disjoint, x + c, VL, dy + c, VL, dx + c, rows, columns, w,
             channels - c)


cdef inline void give_vector(const int kind, const bint whole, const bint disjoint,
                             const Attributes* a, const float* x, const float* dy, float* dx,
                             Py_ssize_t rows, Py_ssize_t columns, const Window* w,
                             Py_ssize_t windows, Py_ssize_t n) noexcept nogil:
    """One vector of channels, several windows at a time."""
    cdef Py_ssize_t step = a.sw * a.c
    cdef Py_ssize_t dy_step = a.c
    cdef Py_ssize_t _q
    for _q in range(windows // WIDE):
        give(kind, WIDE, whole, disjoint, x, step, dy, dy_step, dx, rows, columns, w, n)
        x += WIDE * step
        dy += WIDE * dy_step
        dx += WIDE * step
    for _q in range(windows % WIDE):
        give(kind, 1, whole, disjoint, x, step, dy, dy_step, dx, rows, columns, w, n)
        x += step
        dy += dy_step
        dx += step


cdef inline void give_windows(const int kind, const bint disjoint, const Attributes* a,
                              const float* x, const float* dy, float* dx, Py_ssize_t rows,
                              Py_ssize_t columns, const Window* w, Py_ssize_t windows,
                              Py_ssize_t channels) noexcept nogil:
    """``windows`` neighbours in a row, each of rows x columns positions."""
    cdef Py_ssize_t _q, c
    if channels >= WIDE * VL:
        for _q in range(windows):
            give_channels(kind, disjoint, x, dy, dx, rows, columns, w, channels)
            x += a.sw * a.c
            dx += a.sw * a.c
            dy += a.c
        return
    c = 0
    while c + VL <= channels:
        give_vector(kind, True, disjoint, a, x + c, dy + c, dx + c, rows, columns, w, windows, VL)
        c += VL
    if c < channels:
        give_vector(kind, False, disjoint, a, x + c, dy + c, dx + c, rows, columns, w, windows,
                    channels - c)


cdef inline void backward_row(const int kind, const bint disjoint, const Attributes* a,
                              const float* x, const float* dy, float* dx, Py_ssize_t p,
                              Py_ssize_t low, Py_ssize_t high, Py_ssize_t channels) noexcept nogil:
    """What row ``p`` of the windows gives to the rows low <= h < high of ``dx``."""
    cdef Taps rows = taps_inside(p * a.sh - a.top, a.kh, a.dh, a.h)
    cdef Taps columns
    cdef Py_ssize_t offset, windows
    cdef Py_ssize_t q = 0
    cdef Window w
    if kind == MAXIMUM:
        touch_rows(a, x, rows, channels)
    touch_rows(a, dx, rows, channels)
    w.row_step, w.column_step = a.dh * a.w * a.c, a.dw * a.c
    w.first = max(low - rows.position + a.dh - 1, 0) // a.dh
    w.last = max(high - rows.position + a.dh - 1, 0) // a.dh
    while q < a.q:
        windows = run_length(a, q)
        columns = taps_inside(q * a.sw - a.left, a.kw, a.dw, a.w)
        w.count = divisor(a, rows, columns)
        offset = (rows.position * a.w + columns.position) * a.c
        if rows.count == 2 and columns.count == 2:
            give_windows(kind, disjoint, a, x + offset, dy, dx + offset, 2, 2, &w, windows,
                         channels)
        elif rows.count == 3 and columns.count == 3:
            give_windows(kind, disjoint, a, x + offset, dy, dx + offset, 3, 3, &w, windows,
                         channels)
        else:
            give_windows(kind, disjoint, a, x + offset, dy, dx + offset, rows.count,
                         columns.count, &w, windows, channels)
        q += windows
        dy += windows * a.c


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
    """The rows of ``dx`` from where the band's first window begins to where the next band does."""
    cdef Py_ssize_t low = max(band * a.band * a.sh - a.top, 0)
    cdef Py_ssize_t high = a.h if band == a.bands - 1 else (band + 1) * a.band * a.sh - a.top
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
    cdef Py_ssize_t item, image, c
    for item in range(begin, end):
        image = item // (a.bands * a.blocks)
        c = item % a.blocks * a.block
        backward_band(kind, a, x + image * a.h * a.w * a.c + c, dy + image * a.p * a.q * a.c + c,
                      dx + image * a.h * a.w * a.c + c, item // a.blocks % a.bands,
                      min(a.block, a.c - c))


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

cdef Attributes describe(x_shape, window, bint count_padding) except *:
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.n, a.h, a.w, a.c = x_shape
    a.p, a.q = window.output((a.h, a.w))
    a.kh, a.kw = window.kernel
    a.sh, a.sw = window.strides
    a.dh, a.dw = window.dilation
    (a.top, _), (a.left, _) = window.pads((a.h, a.w))
    a.inner = min((a.left + a.sw - 1) // a.sw, a.q)
    a.outer = (a.w + a.left - (a.kw - 1) * a.dw - 1 + a.sw) // a.sw
    a.outer = max(min(a.outer, a.q), a.inner)
    a.count = a.kh * a.kw if count_padding else 0
    a.disjoint = (a.kh - 1) * a.dh < a.sh and (a.kw - 1) * a.dw < a.sw
    a.cover = (a.p * a.kh - a.top >= a.h and a.q * a.kw - a.left >= a.w and a.sh <= a.kh
               and a.sw <= a.kw and a.dh == a.dw == 1)
    a.distant = 4 * a.n * a.h * a.w * a.c >= BEYOND_CACHE
    a.band = a.bands = a.block = a.blocks = 0
    return a


cdef object offer(str name, Run run, Attributes* a, Py_ssize_t shared):
    """Split the windows into items; each item has ``shared`` rows of windows in common with others.

    An item is about ITEM_BYTES of x, and four times what is done twice. Where that makes few items,
    channels are split as well.
    """
    cdef Py_ssize_t rows = ITEM_BYTES // max(4 * a.sh * a.w * a.c, 1)
    a.band = max(min(max(rows, 4 * shared), a.p), 1)
    a.bands = (a.p + a.band - 1) // a.band
    a.block = max(a.c, 1)
    if a.n * a.bands < FEW_ITEMS:
        a.block = WIDE * VL if a.n * a.bands * a.c >= FEW_ITEMS * WIDE * VL else VL
    a.blocks = (a.c + a.block - 1) // a.block
    return kernel(name, run, a.n * a.bands * a.blocks, 0, a, sizeof(a[0]))


cdef Py_ssize_t overlap(const Attributes* a):
    """Rows of windows that begin in one band and reach into the next."""
    return max((a.kh - 1) * a.dh, 0) // a.sh


def max_forward(x_shape, window):
    """x -> y, the maximum of every window; NaN where there is one in it"""
    cdef Attributes a = describe(x_shape, window, False)
    return offer("max_pool2d", max_run, &a, 0)


def average_forward(x_shape, window, count_padding):
    """x -> y, the mean of every window"""
    cdef Attributes a = describe(x_shape, window, count_padding)
    return offer("average_pool2d", average_run, &a, 0)


def max_backward(x_shape, window):
    """x, dy -> dx: each window's dy goes to its first maximum in row order, or its first NaN"""
    cdef Attributes a = describe(x_shape, window, False)
    return offer("max_pool2d_backward", max_backward_run, &a, overlap(&a))


def average_backward(x_shape, window, count_padding):
    """dy -> dx: each window's dy is shared out evenly among its positions"""
    cdef Attributes a = describe(x_shape, window, count_padding)
    return offer("average_pool2d_backward", average_backward_run, &a, overlap(&a))
