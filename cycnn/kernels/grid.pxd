"""Which pixels the taps of a window read: the phases of an axis, and tables of pointers to pixels.

Along one axis a convolution, or its gradient with respect to the data, visits its output positions
in phases. The positions of a phase are evenly spaced and use the same taps:

    position q < count of a phase is output position  start + q * out_step
    a tap of it reads input position                  q * in_step + offset, or nothing outside

A convolution has one phase; the gradient of one with stride S has up to S (see
`ops.correlation`).
"""

cdef struct Phase:
    Py_ssize_t start
    Py_ssize_t count
    Py_ssize_t first        # its taps are entries first, first + 1, ... of the axis' list
    Py_ssize_t taps

cdef struct Tap:
    Py_ssize_t number       # index in the window
    Py_ssize_t offset

cdef struct Axis:           # followed in memory by its phases and then its taps
    Py_ssize_t in_size
    Py_ssize_t out_size
    Py_ssize_t in_step
    Py_ssize_t out_step
    Py_ssize_t window
    Py_ssize_t phases
    Py_ssize_t nbytes       # of this header, the phases and the taps together


cdef inline const Phase* phase_of(const Axis* axis, Py_ssize_t i) noexcept nogil:
    return <const Phase*> (axis + 1) + i


cdef inline const Tap* tap_of(const Axis* axis, Py_ssize_t i) noexcept nogil:
    return <const Tap*> (<const Phase*> (axis + 1) + axis.phases) + i


cdef inline const Axis* next_axis(const Axis* axis) noexcept nogil:
    return <const Axis*> (<const char*> axis + axis.nbytes)


cdef struct Positions:      # some positions of a phase: evenly spaced, a whole number of taps apart
    Py_ssize_t count
    Py_ssize_t out          # the first lies here,
    Py_ssize_t out_step     # the others so far apart;
    Py_ssize_t source       # its first tap reads here,
    Py_ssize_t spacing      # each tap so far from the one before,
    Py_ssize_t stride       # and the next position ``stride`` taps further on
    Py_ssize_t taps
    Py_ssize_t tap          # number of the first tap, which reads furthest to the left,
    Py_ssize_t tap_step     # and from one to the next


cdef inline Py_ssize_t common_divisor(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """The greatest."""
    while b:
        a, b = b, a % b
    return a


cdef inline Py_ssize_t spacing_of(const Axis* axis, const Phase* phase) noexcept nogil:
    """From one tap's input position to the next's, which is negative for a gradient's."""
    if phase.taps < 2:
        return axis.in_step
    return tap_of(axis, phase.first + 1).offset - tap_of(axis, phase.first).offset


cdef inline Py_ssize_t parts_of(const Axis* axis, const Phase* phase) noexcept nogil:
    """How many `Positions` there are of a phase: more than one where dilation leaves gaps."""
    cdef Py_ssize_t spacing = spacing_of(axis, phase)
    return max(spacing, -spacing) // common_divisor(max(spacing, -spacing), axis.in_step)


cdef inline Positions positions(const Axis* axis, const Phase* phase,
                                Py_ssize_t part) noexcept nogil:
    """Those positions ``part``, ``part`` + `parts_of`, ... of a phase."""
    cdef Positions p
    cdef Py_ssize_t parts = parts_of(axis, phase)
    cdef const Tap* first
    p.spacing, p.taps, p.tap, p.tap_step = spacing_of(axis, phase), phase.taps, 0, 0
    p.source = part * axis.in_step
    if p.taps > 1:
        p.tap_step = tap_of(axis, phase.first + 1).number - tap_of(axis, phase.first).number
    if p.taps > 0:
        first = tap_of(axis, phase.first + (p.taps - 1 if p.spacing < 0 else 0))
        p.source += first.offset
        p.tap = first.number
    if p.spacing < 0:
        p.spacing, p.tap_step = -p.spacing, -p.tap_step
    p.stride = axis.in_step * parts // p.spacing
    p.count = (phase.count - part + parts - 1) // parts
    p.out = phase.start + part * axis.out_step
    p.out_step = axis.out_step * parts
    return p


cdef struct Pixels:         # a run of output pixels of one phase of one image
    Py_ssize_t count
    float** y               # where each lies
    const float** rows      # rows[tap * step + i]: the pixel that the tap reads for pixel i,
    Py_ssize_t step
    const float* zero       # or this, channels that are zero


cdef inline void point(const float** to, Py_ssize_t n, const float* row, Py_ssize_t position,
                       Py_ssize_t step, Py_ssize_t size, Py_ssize_t channels,
                       const float* zero) noexcept nogil:
    """to[i] = pixel position + i * step of the row, zero where that is outside 0 .. size - 1"""
    cdef Py_ssize_t i
    for i in range(n):
        to[i] = row + position * channels if 0 <= position < size else zero
        position += step


cdef inline void tabulate(const float** table, Py_ssize_t width, Py_ssize_t first, Py_ssize_t last,
                          const Axis* rows, const Axis* columns, const Positions* q, const float* x,
                          Py_ssize_t channels, const float* zero) noexcept nogil:
    """Rows ``first`` to ``last`` of x: table[row - first, j] is what tap j of the first position of q
    reads there, tap j - stride of the second and so on."""
    cdef Py_ssize_t i
    for i in range(first, last):
        point(table + (i - first) * width, width, x + i * columns.in_size * channels, q.source,
              q.spacing, columns.in_size if 0 <= i < rows.in_size else 0, channels, zero)


cdef inline void locate(Pixels* pixels, const Axis* rows, const Axis* columns, const Phase* pr,
                        const Phase* pc, Py_ssize_t begin, Py_ssize_t end, const float* x,
                        Py_ssize_t x_channels, float* y, Py_ssize_t y_channels) noexcept nogil:
    """Fill the table for pixels ``begin`` to ``end``, in row order, of a phase of the image x."""
    cdef Py_ssize_t i = 0, p = begin // pc.count, q = begin - p * pc.count, n, u, v, position
    cdef const Tap* tr
    cdef const Tap* tc
    cdef const float** to
    pixels.count = end - begin
    while i < end - begin:
        n = min(pc.count - q, end - begin - i)
        for u in range(n):
            pixels.y[i + u] = y + ((pr.start + p * rows.out_step) * columns.out_size
                                   + pc.start + (q + u) * columns.out_step) * y_channels
        for u in range(pr.taps):
            tr = tap_of(rows, pr.first + u)
            position = p * rows.in_step + tr.offset
            for v in range(pc.taps):
                tc = tap_of(columns, pc.first + v)
                to = pixels.rows + (tr.number * columns.window + tc.number) * pixels.step + i
                point(to, n, x + position * columns.in_size * x_channels,
                      q * columns.in_step + tc.offset, columns.in_step,
                      columns.in_size if 0 <= position < rows.in_size else 0, x_channels,
                      pixels.zero)
        i += n
        p += 1
        q = 0


cdef inline int needed_taps(const Pixels* pixels, const Axis* rows, const Axis* columns,
                            const Phase* pr, const Phase* pc, Py_ssize_t first, Py_ssize_t count,
                            int* taps) noexcept nogil:
    """Write the numbers of the taps that read anything but padding for some of ``count`` pixels."""
    cdef Py_ssize_t u, v, i, tap
    cdef int n = 0
    for u in range(pr.taps):
        for v in range(pc.taps):
            tap = (tap_of(rows, pr.first + u).number * columns.window
                   + tap_of(columns, pc.first + v).number)
            for i in range(count):
                if pixels.rows[tap * pixels.step + first + i] != pixels.zero:
                    taps[n] = <int> tap
                    n += 1
                    break
    return n


cdef inline bytes axis_bytes(object axis):
    """What `ops.correlation.Axis` holds, as an `Axis` in memory."""
    from array import array
    values = [axis.in_size, axis.out_size, axis.in_step, axis.out_step, axis.window,
              len(axis.phases), 0]
    first = 0
    for start, count, taps in axis.phases:
        values += [start, count, first, len(taps)]
        first += len(taps)
    for _, _, taps in axis.phases:
        for tap in taps:
            values += tap
    values[6] = 8 * len(values)
    return array("q", values).tobytes()
