"""Elementwise kernels on float32 arrays of any shape, read as one run of ``size`` floats.

An item is a block of BLOCK consecutive floats. The output may be any of the inputs itself, in every
kernel here.
"""

from libc.string cimport memcpy

from .isa cimport (VL, vadd, vf, vload, vload_part, vmax, vmul, vselect_eq, vset1, vstore,
                   vstore_part, vzero)
from .step cimport Run, Step, kernel

cdef enum:
    BLOCK = 16384
    RELU = 0
    RELU_BACKWARD = 1
    ADD = 2
    SCALE = 3

cdef struct Attributes:
    Py_ssize_t size


cdef object offer(str name, Run run, Py_ssize_t size):
    cdef Attributes a
    a.size = size
    return kernel(name, run, (size + BLOCK - 1) // BLOCK, 0, &a, sizeof(a))


cdef inline vf apply(const int function, vf a, vf b) noexcept nogil:
    if function == RELU:
        return vmax(vzero(), a)
    if function == RELU_BACKWARD:  # 0 where max(a, 0) == 0, b where it is positive or NaN
        return vselect_eq(vmax(vzero(), a), vzero(), vzero(), b)
    if function == ADD:
        return vadd(a, b)
    return vmul(a, b)


cdef inline void unary(const int function, const float* a, vf b, float* y,
                       Py_ssize_t size) noexcept nogil:
    """y = function(a, b), b being the same for every element"""
    cdef Py_ssize_t i = 0
    while i + VL <= size:
        vstore(y + i, apply(function, vload(a + i), b))
        i += VL
    vstore_part(y + i, apply(function, vload_part(a + i, size - i), b), size - i)


cdef inline void binary(const int function, const float* a, const float* b, float* y,
                        Py_ssize_t size) noexcept nogil:
    """y = function(a, b)"""
    cdef Py_ssize_t i = 0
    while i + VL <= size:
        vstore(y + i, apply(function, vload(a + i), vload(b + i)))
        i += VL
    vstore_part(y + i, apply(function, vload_part(a + i, size - i), vload_part(b + i, size - i)),
                size - i)


cdef inline Py_ssize_t length(const Step* step, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Floats in the items ``begin <= i < end``; none where there are no items."""
    cdef const Attributes* a = <const Attributes*> step.attributes
    return max(min(end * BLOCK, a.size) - begin * BLOCK, 0)


cdef inline float* operand(const Step* step, char** buffers, int k,
                           Py_ssize_t begin) noexcept nogil:
    """Where item ``begin`` starts in the k-th operand."""
    return <float*> buffers[step.operand[k]] + begin * BLOCK


cdef void relu_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                   char* scratch) noexcept nogil:
    unary(RELU, operand(step, buffers, 0, begin), vzero(), operand(step, buffers, 1, begin),
          length(step, begin, end))


def relu(size):
    """x -> y = max(x, 0); NaN stays NaN"""
    return offer("relu", relu_run, size)


cdef void relu_backward_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                            char* scratch) noexcept nogil:
    binary(RELU_BACKWARD, operand(step, buffers, 0, begin), operand(step, buffers, 1, begin),
           operand(step, buffers, 2, begin), length(step, begin, end))


def relu_backward(size):
    """y, dy -> dx = 0 where y <= 0, dy elsewhere (also where y is NaN)"""
    return offer("relu_backward", relu_backward_run, size)


cdef void add_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                  char* scratch) noexcept nogil:
    binary(ADD, operand(step, buffers, 0, begin), operand(step, buffers, 1, begin),
           operand(step, buffers, 2, begin), length(step, begin, end))


def add(size):
    """a, b -> y = a + b"""
    return offer("add", add_run, size)


cdef void scale_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                    char* scratch) noexcept nogil:
    cdef const float* s = <const float*> buffers[step.operand[1]]
    unary(SCALE, operand(step, buffers, 0, begin), vset1(s[0]), operand(step, buffers, 2, begin),
          length(step, begin, end))


def scale(size):
    """x, s[1] -> y = x * s"""
    return offer("scale", scale_run, size)


cdef void copy_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                   char* scratch) noexcept nogil:
    memcpy(operand(step, buffers, 1, begin), operand(step, buffers, 0, begin),
           4 * length(step, begin, end))


def copy(size):
    """x -> y = x"""
    return offer("copy", copy_run, size)
