"""Activations: functions of one element, for their own kernels and for what others do as they store.

NaN passes, in both directions. `ops/activation.py` has the formulas again, and gives the codes.
"""

from .isa cimport (
    VL, vadd, vf, vfma, vload, vload_part, vlogistic, vmax, vmin, vmul, vselect_eq, vset1, vstore,
    vstore_part, vsub, vzero,
)

cdef enum:
    LINEAR = 0
    RELU = 1
    RELU6 = 2
    SIGMOID = 3
    SILU = 4
    HARD_SIGMOID = 5
    HARD_SWISH = 6


cdef inline vf between(float low, float high, vf x) noexcept nogil:
    """min(max(x, low), high)"""
    return vmin(vset1(high), vmax(vset1(low), x))


cdef inline vf activate(const int code, vf x) noexcept nogil:
    """f(x) for each lane"""
    if code == RELU:
        return vmax(vzero(), x)
    if code == RELU6:
        return between(0, 6, x)
    if code == SIGMOID:
        return vlogistic(vset1(1), x)
    if code == SILU:
        return vlogistic(x, x)
    if code == HARD_SIGMOID:
        return vmul(between(0, 6, vadd(x, vset1(3))), vset1(1.0 / 6))
    if code == HARD_SWISH:
        return vmul(x, activate(HARD_SIGMOID, x))
    return x


cdef inline vf where_between(float low, float high, vf z, vf dy) noexcept nogil:
    """dy where low < z < high or z is NaN, else 0"""
    cdef vf near = between(low, high, z)
    dy = vselect_eq(near, vset1(low), vzero(), dy)
    return vselect_eq(near, vset1(high), vzero(), dy)


cdef inline vf silu_slope(vf x) noexcept nogil:
    """s + x s (1 - s) with s = sigmoid(x)"""
    cdef vf s = activate(SIGMOID, x)
    return vmul(s, vfma(x, vsub(vset1(1), s), vset1(1)))


cdef inline vf hard_swish_backward(vf x, vf dy) noexcept nogil:
    """dy (x / 3 + 1 / 2) where -3 < x < 3, 0 to the left and dy to the right of it"""
    cdef vf near = between(-3, 3, x)
    cdef vf dx = vmul(dy, vfma(near, vset1(1.0 / 3), vset1(0.5)))
    dx = vselect_eq(near, vset1(-3), vzero(), dx)
    return vselect_eq(near, vset1(3), dy, dx)


cdef inline vf activate_backward(const int code, vf z, vf dy) noexcept nogil:
    """f'(x) dy for each lane, from z = x for SILU and HARD_SWISH, from z = f(x) for the others"""
    if code == RELU:  # 0 where max(z, 0) == 0, dy where it is positive or NaN
        return vselect_eq(vmax(vzero(), z), vzero(), vzero(), dy)
    if code == RELU6:
        return where_between(0, 6, z, dy)
    if code == SIGMOID:
        return vmul(dy, vmul(z, vsub(vset1(1), z)))
    if code == SILU:
        return vmul(dy, silu_slope(z))
    if code == HARD_SIGMOID:
        return where_between(0, 1, z, vmul(dy, vset1(1.0 / 6)))
    if code == HARD_SWISH:
        return hard_swish_backward(z, dy)
    return dy


cdef inline vf activate_backward_at(const int code, vf x, vf dy) noexcept nogil:
    """f'(x) dy for each lane, from x whatever the function"""
    if code == SIGMOID or code == HARD_SIGMOID:
        return activate_backward(code, activate(code, x), dy)
    return activate_backward(code, x, dy)


cdef inline void activate_by(const int code, const float* x, float* y,
                             Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + VL <= size:
        vstore(y + i, activate(code, vload(x + i)))
        i += VL
    if i < size:
        vstore_part(y + i, activate(code, vload_part(x + i, size - i)), size - i)


cdef inline void activate_all(int code, const float* x, float* y, Py_ssize_t size) noexcept nogil:
    """y = f(x) for ``size`` floats; y may be x"""
    if code == RELU:
        activate_by(RELU, x, y, size)
    elif code == RELU6:
        activate_by(RELU6, x, y, size)
    elif code == SIGMOID:
        activate_by(SIGMOID, x, y, size)
    elif code == SILU:
        activate_by(SILU, x, y, size)
    elif code == HARD_SIGMOID:
        activate_by(HARD_SIGMOID, x, y, size)
    elif code == HARD_SWISH:
        activate_by(HARD_SWISH, x, y, size)
