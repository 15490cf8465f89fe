"""Elementwise kernels on float32 arrays of any shape, read as one run of ``size`` floats.

An item is a block of BLOCK consecutive floats. ``y`` may be ``x`` itself in every kernel here.
"""

from libc.string cimport memcpy

from .isa cimport VL, vload, vload_part, vmax, vstore, vstore_part, vzero
from .step cimport Run, Step, kernel

cdef enum:
    BLOCK = 16384

cdef struct Attributes:
    Py_ssize_t size


cdef object offer(str name, Run run, Py_ssize_t size):
    cdef Attributes a
    a.size = size
    return kernel(name, run, (size + BLOCK - 1) // BLOCK, 0, &a, sizeof(a))


cdef void relu_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                   char* scratch) noexcept nogil:
    """y = max(x, 0); NaN stays NaN."""
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef float* y = <float*> buffers[step.operand[1]]
    cdef Py_ssize_t i = begin * BLOCK
    cdef Py_ssize_t stop = min(end * BLOCK, a.size)
    while i + VL <= stop:
        vstore(y + i, vmax(vzero(), vload(x + i)))
        i += VL
    vstore_part(y + i, vmax(vzero(), vload_part(x + i, stop - i)), stop - i)


def relu(size):
    """x -> y = max(x, 0)"""
    return offer("relu", relu_run, size)


cdef void copy_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                   char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef Py_ssize_t i = begin * BLOCK
    cdef Py_ssize_t stop = min(end * BLOCK, a.size)
    memcpy(buffers[step.operand[1]] + 4 * i, buffers[step.operand[0]] + 4 * i, 4 * (stop - i))


def copy(size):
    """x -> y = x"""
    return offer("copy", copy_run, size)
