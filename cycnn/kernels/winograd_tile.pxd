"""Winograd's tiles, a vector of channels at a time: from pixels to points, and from points to pixels.

    v = B^T d B         the side^2 pixels d of x that a tile reads
    y = A^T z A         the m x m pixels of y that it makes

with the matrices of winograd.pxd, or for stride 2 those of winograd_strided.pxd. ``m`` and ``stride`` must
be literals.
"""

from libc.math cimport INFINITY

from .activation cimport RELU
from .isa cimport VL, vadd, vf, vload, vload_part, vmax, vset1, vstore, vstore_part, vzero
from .winograd cimport side, transform_input, transform_output
from .winograd_strided cimport transform_input as transform_input_strided
from .winograd_strided cimport transform_output as transform_output_strided

cdef enum:
    SIDE = 9            # of the larger m with stride 2


# ---- v = B^T d B ---------------------------------------------------------------------------------

cdef inline void input_side(const int m, const int stride, const vf* d, vf* o) noexcept nogil:
    if stride == 2:
        transform_input_strided(m, d, o)
    else:
        transform_input(m, d, 1, o, 1)


cdef inline void input_vector(const int m, const int stride, const bint part, const float** pixels,
                              Py_ssize_t c, Py_ssize_t n, float* v,
                              Py_ssize_t v_point) noexcept nogil:
    """One vector of channels, or ``n`` < VL of them. Rows of points are made two at a time: one
    transform down the columns leaves no more than registers hold, and what a pair does not need
    is not computed. The first row goes with the last, or alone."""
    cdef vf d[SIDE]
    cdef vf o[SIDE]
    cdef vf first[SIDE]
    cdef vf second[SIDE]
    cdef int size = side(m, stride)
    cdef int pair, r, s, i, j
    for pair in range((size + 1) // 2):
        i = 2 * pair - 1 if pair else 0
        j = 2 * pair if pair else size - 1 if stride == 1 else 0
        for s in range(size):
            for r in range(size):
                d[r] = (vload_part(pixels[r * size + s] + c, n) if part
                        else vload(pixels[r * size + s] + c))
            input_side(m, stride, d, o)
            first[s] = o[i]
            second[s] = o[j]
        input_side(m, stride, first, o)
        for s in range(size):
            vstore(v + (i * size + s) * v_point + c, o[s])
        if i != j:
            input_side(m, stride, second, o)
            for s in range(size):
                vstore(v + (j * size + s) * v_point + c, o[s])


cdef inline void input_tile(const int m, const int stride, const float** pixels,
                            Py_ssize_t channels, float* v, Py_ssize_t v_point) noexcept nogil:
    cdef Py_ssize_t c = 0
    while c + VL <= channels:
        input_vector(m, stride, False, pixels, c, VL, v, v_point)
        c += VL
    while c < channels:
        input_vector(m, stride, True, pixels, c, channels - c, v, v_point)
        c += VL


# ---- y = A^T z A ---------------------------------------------------------------------------------

cdef struct Output:             # of one tile and panel
    const float* z
    Py_ssize_t z_point
    const float* bias           # NULL: none
    const float* residual       # NULL: none; it lies as y
    float* y
    Py_ssize_t y_row, y_pixel
    Py_ssize_t rows, columns    # pixels of the tile that are in the image
    Py_ssize_t filters          # of the panel
    int activation


cdef inline void put(const bint part, const Output* t, Py_ssize_t at, Py_ssize_t n, vf bias, vf low,
                     vf o) noexcept nogil:
    """y[at] = max(low, o + bias + residual[at]), letting NaN pass; ``n`` lanes of it where ``part``"""
    o = vadd(o, bias)
    if t.residual != NULL:
        o = vadd(o, vload_part(t.residual + at, n) if part else vload(t.residual + at))
    if part:
        vstore_part(t.y + at, vmax(low, o), n)
    else:
        vstore(t.y + at, vmax(low, o))


cdef inline void output_side(const int m, const int stride, const vf* d, vf* o) noexcept nogil:
    if stride == 2:
        transform_output_strided(m, d, o)
    else:
        transform_output(m, d, 1, o, 1)


cdef inline void output_vector(const int m, const int stride, const bint part, const Output* t,
                               Py_ssize_t k, Py_ssize_t n) noexcept nogil:
    """One vector of filters, or ``n`` < VL of them; even rows of pixels, then odd ones"""
    cdef vf z[SIDE]
    cdef vf down[2 * SIDE]
    cdef vf o[4]
    cdef vf low = vset1(0) if t.activation == RELU else vset1(-INFINITY)
    cdef vf bias = vzero()
    cdef int size = side(m, stride)
    cdef int i, j, odd
    if t.bias != NULL:
        bias = vload_part(t.bias + k, n) if part else vload(t.bias + k)
    for odd in range(2):
        for j in range(size):
            for i in range(size):
                z[i] = vload(t.z + (i * size + j) * t.z_point + k)
            output_side(m, stride, z, o)
            for i in range(m // 2):
                down[i * SIDE + j] = o[2 * i + odd]
        for i in range(m // 2):
            output_side(m, stride, down + i * SIDE, o)
            if 2 * i + odd < t.rows:
                for j in range(m):
                    if j < t.columns:
                        put(part, t, (2 * i + odd) * t.y_row + j * t.y_pixel + k, n, bias, low,
                            o[j])


cdef inline void output_tile(const int m, const int stride, const Output* t) noexcept nogil:
    cdef Py_ssize_t k = 0
    while k + VL <= t.filters:
        output_vector(m, stride, False, t, k, VL)
        k += VL
    while k < t.filters:
        output_vector(m, stride, True, t, k, t.filters - k)
        k += VL
