"""Where Winograd's tiles of m x m pixels lie in images of the y of a 3x3 convolution with dilation D.

Every D-th pixel of y along an axis reads every D-th of x: an image falls into D *phases* along it (or one for
each pixel, if there are fewer), interleaved images of their own, and a tile takes its pixels from one of
them. Tiles are numbered column by column, row by row, phase by phase, image by image. Phases that are a
pixel shorter than others have as many tiles, of which the last may lie outside the image.
"""

cdef struct Tiling:
    Py_ssize_t m
    Py_ssize_t row_dilation, column_dilation
    Py_ssize_t row_phases, column_phases
    Py_ssize_t rows, columns    # of tiles in a phase

cdef struct Place:              # of a tile
    Py_ssize_t image, row, column   # among those of its phase
    Py_ssize_t p, q                 # its first pixel


cdef inline Py_ssize_t pixels_from(Py_ssize_t first, Py_ssize_t size,
                                   Py_ssize_t dilation) noexcept nogil:
    """How many of ``size`` pixels a phase has from its ``first`` on."""
    return (size - first + dilation - 1) // dilation if first < size else 0


cdef inline Tiling tiling_of(Py_ssize_t m, Py_ssize_t height, Py_ssize_t width, dilation):
    """Of images of height x width; ``dilation`` is that of rows and of columns."""
    cdef Tiling t
    t.m = m
    t.row_dilation, t.column_dilation = dilation
    t.row_phases, t.column_phases = min(t.row_dilation, height), min(t.column_dilation, width)
    t.rows = (pixels_from(0, height, t.row_dilation) + m - 1) // m
    t.columns = (pixels_from(0, width, t.column_dilation) + m - 1) // m
    return t


cdef inline Py_ssize_t tiles_of(const Tiling* t) noexcept nogil:
    """How many an image has."""
    return t.row_phases * t.column_phases * t.rows * t.columns


cdef inline bint is_dilated(const Tiling* t) noexcept nogil:
    return t.row_dilation > 1 or t.column_dilation > 1


cdef inline Place place_of(const Tiling* t, Py_ssize_t tile) noexcept nogil:
    cdef Place at
    cdef Py_ssize_t phase
    at.row = tile // t.columns
    at.column = tile - at.row * t.columns
    phase = at.row // t.rows
    at.row -= phase * t.rows
    at.image = phase // (t.row_phases * t.column_phases)
    phase -= at.image * t.row_phases * t.column_phases
    at.p = phase // t.column_phases + at.row * t.m * t.row_dilation
    at.q = phase % t.column_phases + at.column * t.m * t.column_dilation
    return at
