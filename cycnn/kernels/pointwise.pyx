"""Elementwise kernels on float32 arrays of any shape, read as one run of ``size`` floats.

An item is a block of BLOCK consecutive floats. The output may be any of the inputs itself, in every
kernel here.
"""

from libc.string cimport memcpy, memset

from .activation cimport (HARD_SIGMOID, HARD_SWISH, RELU, RELU6, SIGMOID, SILU, activate_all,
                          activate_backward)
from .isa cimport VL, vadd, vf, vload, vload_part, vmul, vset1, vstore, vstore_part
from .step cimport Run, Step, kernel

cdef enum:
    BLOCK = 16384
    ADD = 0
    MULTIPLY = 1

cdef struct Attributes:
    Py_ssize_t size
    int function  # of an activation, see activation.pxd


cdef object offer(str name, Run run, Py_ssize_t size, int function=0):
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.size, a.function = size, function
    return kernel(name, run, (size + BLOCK - 1) // BLOCK, 0, &a, sizeof(a))


cdef inline vf apply(const int function, vf a, vf b) noexcept nogil:
    return vadd(a, b) if function == ADD else vmul(a, b)


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


cdef void activation_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                         char* scratch) noexcept nogil:
    activate_all((<const Attributes*> step.attributes).function, operand(step, buffers, 0, begin),
                 operand(step, buffers, 1, begin), length(step, begin, end))


def activation(str name, size, code):
    """x -> y = f(x), the function that `activation.pxd` gives this code"""
    return offer(name, activation_run, size, code)


cdef inline void backward_by(const int code, const float* z, const float* dy, float* dx,
                             Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + VL <= size:
        vstore(dx + i, activate_backward(code, vload(z + i), vload(dy + i)))
        i += VL
    if i < size:
        vstore_part(dx + i, activate_backward(code, vload_part(z + i, size - i),
                                              vload_part(dy + i, size - i)), size - i)


cdef void activation_backward_run(const Step* step, char** buffers, Py_ssize_t begin,
                                  Py_ssize_t end, char* scratch) noexcept nogil:
    cdef int code = (<const Attributes*> step.attributes).function
    cdef const float* z = operand(step, buffers, 0, begin)
    cdef const float* dy = operand(step, buffers, 1, begin)
    cdef float* dx = operand(step, buffers, 2, begin)
    cdef Py_ssize_t size = length(step, begin, end)
    if code == RELU:
        backward_by(RELU, z, dy, dx, size)
    elif code == RELU6:
        backward_by(RELU6, z, dy, dx, size)
    elif code == SIGMOID:
        backward_by(SIGMOID, z, dy, dx, size)
    elif code == SILU:
        backward_by(SILU, z, dy, dx, size)
    elif code == HARD_SIGMOID:
        backward_by(HARD_SIGMOID, z, dy, dx, size)
    elif code == HARD_SWISH:
        backward_by(HARD_SWISH, z, dy, dx, size)


def activation_backward(str name, size, code):
    """z, dy -> dx = f'(x) dy; z is x where f' is computed from it, y = f(x) elsewhere"""
    return offer(name, activation_backward_run, size, code)


cdef void add_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                  char* scratch) noexcept nogil:
    binary(ADD, operand(step, buffers, 0, begin), operand(step, buffers, 1, begin),
           operand(step, buffers, 2, begin), length(step, begin, end))


def add(size):
    """a, b -> y = a + b"""
    return offer("add", add_run, size)


cdef void multiply_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                       char* scratch) noexcept nogil:
    binary(MULTIPLY, operand(step, buffers, 0, begin), operand(step, buffers, 1, begin),
           operand(step, buffers, 2, begin), length(step, begin, end))


def multiply(size):
    """a, b -> y = a * b"""
    return offer("multiply", multiply_run, size)


cdef void scale_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                    char* scratch) noexcept nogil:
    cdef const float* s = <const float*> buffers[step.operand[1]]
    unary(MULTIPLY, operand(step, buffers, 0, begin), vset1(s[0]), operand(step, buffers, 2, begin),
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
