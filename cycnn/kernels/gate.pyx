"""Channels times a factor that an image has for each of them, and the gradient of the factors.

    scale:   y[n, p, c] = x[n, p, c] * s[n, c]
    reduce:  s[n, c] = sum over pixels p of a[n, p, c] * b[n, p, c]

over float32 arrays of N images, P pixels and C channels. y may be x; s overlaps nothing. An item of
``scale`` is a run of pixels of one image, of about ITEM_FLOATS floats; one of ``reduce`` is WIDE * VL
channels of one image, summed over runs of RUN pixels first.
"""

from .isa cimport VL, vadd, vf, vfma, vload, vload_part, vmul, vstore, vstore_part, vzero
from .step cimport Step, kernel

cdef enum:
    ITEM_FLOATS = 16384
    WIDE = 4
    RUN = 64

cdef struct Attributes:
    Py_ssize_t images, pixels, channels
    Py_ssize_t items  # of an image


cdef inline void scale_pixel(const float* x, const float* s, float* y,
                             Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t c = 0
    while c + VL <= channels:
        vstore(y + c, vmul(vload(x + c), vload(s + c)))
        c += VL
    if c < channels:
        vstore_part(y + c, vmul(vload_part(x + c, channels - c), vload_part(s + c, channels - c)),
                    channels - c)


cdef void scale_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                    char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const float* s = <const float*> buffers[step.operand[1]]
    cdef float* y = <float*> buffers[step.operand[2]]
    cdef Py_ssize_t item, image, p
    for item in range(begin, end):
        image = item // a.items
        for p in range(image * a.pixels + item % a.items * a.pixels // a.items,
                       image * a.pixels + (item % a.items + 1) * a.pixels // a.items):
            scale_pixel(x + p * a.channels, s + image * a.channels, y + p * a.channels, a.channels)


def scale(images, pixels, channels):
    """x (N, P, C), s (N, C) -> y = x * s"""
    cdef Attributes at
    at.images, at.pixels, at.channels = images, pixels, channels
    at.items = min((at.pixels * at.channels + ITEM_FLOATS - 1) // ITEM_FLOATS, at.pixels)
    return kernel("scale_channels", scale_run, at.images * at.items, 0, &at, sizeof(at))


cdef inline void sum_products(const int vectors, const bint part, const float* a, const float* b,
                              Py_ssize_t pixels, Py_ssize_t channels, Py_ssize_t left,
                              float* s) noexcept nogil:
    """s = sum over pixels of a * b for ``vectors`` vectors of channels, or in part what is left."""
    cdef vf total[WIDE]
    cdef vf run[WIDE]
    cdef Py_ssize_t p = 0, stop
    cdef int v
    for v in range(vectors):
        total[v] = vzero()
    while p < pixels:
        stop = min(p + RUN, pixels)
        for v in range(vectors):
            run[v] = vzero()
        while p < stop:
            for v in range(vectors):
                if part:
                    run[v] = vfma(vload_part(a + v * VL, left), vload_part(b + v * VL, left), run[v])
                else:
                    run[v] = vfma(vload(a + v * VL), vload(b + v * VL), run[v])
            a += channels
            b += channels
            p += 1
        for v in range(vectors):
            total[v] = vadd(total[v], run[v])
    for v in range(vectors):
        if part:
            vstore_part(s + v * VL, total[v], left)
        else:
            vstore(s + v * VL, total[v])


cdef void reduce_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                     char* scratch) noexcept nogil:
    cdef const Attributes* at = <const Attributes*> step.attributes
    cdef const float* a
    cdef const float* b
    cdef float* s
    cdef Py_ssize_t item, image, c, stop
    for item in range(begin, end):
        image, c = item // at.items, item % at.items * WIDE * VL
        a = <const float*> buffers[step.operand[0]] + image * at.pixels * at.channels
        b = <const float*> buffers[step.operand[1]] + image * at.pixels * at.channels
        s = <float*> buffers[step.operand[2]] + image * at.channels
        stop = min(c + WIDE * VL, at.channels)
        if stop == c + WIDE * VL:
            sum_products(WIDE, False, a + c, b + c, at.pixels, at.channels, 0, s + c)
            continue
        while c + VL <= stop:
            sum_products(1, False, a + c, b + c, at.pixels, at.channels, 0, s + c)
            c += VL
        if c < stop:
            sum_products(1, True, a + c, b + c, at.pixels, at.channels, stop - c, s + c)


def reduce(images, pixels, channels):
    """a, b (N, P, C) -> s (N, C), the sum over pixels of a * b"""
    cdef Attributes at
    at.images, at.pixels, at.channels = images, pixels, channels
    at.items = (at.channels + WIDE * VL - 1) // (WIDE * VL)
    return kernel("sum_of_products", reduce_run, at.images * at.items, 0, &at, sizeof(at))
