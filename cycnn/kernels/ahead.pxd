"""Memory that will be used soon: its lines are sent for between the tiles of the work at hand, or within."""

cdef extern from *:
    """
    /* p + n, found where it is asked for: gcc would keep it in a register, or on the stack, until then */
    #define MOVED(p, n) ({ const char *_p = (p) + (n); __asm__("" : "+r"(_p)); _p; })
    """
    void __builtin_prefetch(const void*, int, int) noexcept nogil
    long __builtin_expect(long, long) noexcept nogil
    const char* MOVED(const char*, Py_ssize_t) noexcept nogil

cdef enum:
    LINE = 16       # floats in a cache line,
    BYTES = 64      # and bytes
    AT_ONCE = 4     # lines that `send_lines` sends for, at most

cdef struct Ahead:
    # what will be used of a tensor and is not on its way yet: ``rows`` of ``width`` floats, ``stride``
    # apart, the first only from float ``at``
    const float* row
    Py_ssize_t rows, width, stride, at


cdef inline void send_for(const char* p) noexcept nogil:
    """Have the line that holds p brought to the second-level cache, or nearer."""
    __builtin_prefetch(p, 0, 2)


cdef inline int lines_at_once(Py_ssize_t nbytes) noexcept nogil:
    """How many lines `send_lines` is to send for to get ``nbytes``: one, or `AT_ONCE`."""
    return 1 if nbytes <= BYTES else AT_ONCE


cdef inline void send_lines(const char* p, int count, Py_ssize_t apart) noexcept nogil:
    """Send for one line, or `AT_ONCE`, ``apart`` bytes apart: a loop would count and jump. They are several
    where a panel is large for the rows it meets: memory is waited for there, not for a jump."""
    send_for(p)
    if __builtin_expect(count > 1, 0):
        p = MOVED(p, apart)
        send_for(p)
        p = MOVED(p, apart)
        send_for(p)
        p = MOVED(p, apart)
        send_for(p)


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
