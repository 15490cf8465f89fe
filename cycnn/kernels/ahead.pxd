"""Memory that will be used soon: lines of it are sent for between the tiles of the work at hand."""

cdef extern from *:
    void __builtin_prefetch(const void*, int, int) noexcept nogil

cdef enum:
    LINE = 16       # floats in a cache line

cdef struct Ahead:
    # what will be used of a tensor and is not on its way yet: ``rows`` of ``width`` floats, ``stride``
    # apart, the first only from float ``at``
    const float* row
    Py_ssize_t rows, width, stride, at


cdef inline void send_for(const char* p) noexcept nogil:
    """Have the line that holds p brought to the second-level cache, or nearer."""
    __builtin_prefetch(p, 0, 2)


cdef inline Ahead span(const float* begin, Py_ssize_t size) noexcept nogil:
    """``size`` floats in one piece."""
    cdef Ahead ahead
    ahead.row, ahead.rows, ahead.width, ahead.stride, ahead.at = begin, size > 0, size, 0, 0
    return ahead


cdef inline Py_ssize_t lines(const Ahead* ahead) noexcept nogil:
    """How many lines that is."""
    return ahead.rows * ((ahead.width + LINE - 1) // LINE)


cdef inline void fetch(Ahead* ahead, Py_ssize_t lines) noexcept nogil:
    """Send for the next ``lines`` cache lines, to the second-level cache.

    Some twenty at once are heeded; what is sent for beyond them is forgotten.
    """
    while lines > 0 and ahead.rows > 0:
        send_for(<const char*> (ahead.row + ahead.at))
        ahead.at += LINE
        lines -= 1
        if ahead.at >= ahead.width:
            ahead.at = 0
            ahead.row += ahead.stride
            ahead.rows -= 1
