"""Several narrow groups of channels in one vector: which channels its lanes are."""

from libc.stdint cimport uint32_t

from .isa cimport VL

cdef enum:
    HALF = VL // 2              # a group has so many channels at most

cdef struct Lanes:
    Py_ssize_t depth            # channels of x in a group
    Py_ssize_t x_width          # and in the groups of a vector,
    Py_ssize_t y_width          # which has so many lanes in use, channels of y
    uint32_t at[HALF][VL]       # which of the channels of x is number c of the lane's group
    float column[VL]            # and which of its group's channels of y a lane is, -1 for none


cdef inline void lay_out(Lanes* a, Py_ssize_t depth, Py_ssize_t filters) noexcept nogil:
    """As many groups as have room in a vector of x and in one of y."""
    cdef Py_ssize_t together = VL // max(depth, filters), i, c
    a.depth, a.x_width, a.y_width = depth, together * depth, together * filters
    for i in range(VL):
        a.column[i] = <float> (i % filters if i < a.y_width else -1)
        for c in range(depth):
            a.at[c][i] = <uint32_t> (i // filters * depth + c if i < a.y_width else 0)


cdef inline Py_ssize_t whole_vectors(const Lanes* a, Py_ssize_t x_channels,
                                     Py_ssize_t y_channels) noexcept nogil:
    """How many vectors, from the first, can be read from x and written to y whole."""
    if a.y_width < VL or x_channels < VL:
        return 0
    return min(y_channels // VL, (x_channels - VL) // a.x_width + 1)
