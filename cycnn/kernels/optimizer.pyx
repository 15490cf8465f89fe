"""Updates of all parameters at once: weights, gradients and slots are one contiguous block each.

An item is a block of BLOCK consecutive floats.
"""

from libc.string cimport memset

from .isa cimport VL, vf, vfma, vload, vload_part, vset1, vstore, vstore_part, vzero
from .step cimport Step, kernel

cdef enum:
    BLOCK = 8192
    PLAIN = 0
    MOMENTUM = 1
    NESTEROV = 2

cdef struct Attributes:
    Py_ssize_t size
    Py_ssize_t rule
    double momentum, weight_decay


cdef inline vf read(const bint whole, const float* p, Py_ssize_t n) noexcept nogil:
    return vload(p) if whole else vload_part(p, n)


cdef inline void write(const bint whole, float* p, vf a, Py_ssize_t n) noexcept nogil:
    if whole:
        vstore(p, a)
    else:
        vstore_part(p, a, n)


cdef inline void sgd_vector(const int rule, const bint whole, float* w, float* g, float* v, vf step,
                            vf momentum, vf decay, Py_ssize_t n) noexcept nogil:
    """One vector of the update; ``step`` is minus the learning rate."""
    cdef vf weight = read(whole, w, n)
    cdef vf d = vfma(decay, weight, read(whole, g, n))
    cdef vf velocity
    if rule != PLAIN:
        velocity = vfma(momentum, read(whole, v, n), d)
        write(whole, v, velocity, n)
        d = vfma(momentum, velocity, d) if rule == NESTEROV else velocity
    write(whole, w, vfma(step, d, weight), n)
    write(whole, g, vzero(), n)


cdef inline void sgd_block(const int rule, const Attributes* a, float* w, float* g, float* v,
                           float lr, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef vf step = vset1(-lr)
    cdef vf momentum = vset1(a.momentum)
    cdef vf decay = vset1(a.weight_decay)
    cdef Py_ssize_t i = begin
    while i + VL <= end:
        sgd_vector(rule, True, w + i, g + i, v + i, step, momentum, decay, VL)
        i += VL
    if i < end:
        sgd_vector(rule, False, w + i, g + i, v + i, step, momentum, decay, end - i)


cdef void sgd_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                  char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef float* w = <float*> buffers[step.operand[0]]
    cdef float* g = <float*> buffers[step.operand[1]]
    cdef float* v = <float*> buffers[step.operand[2]]
    cdef const float* lr = <const float*> buffers[step.operand[3]]
    begin, end = begin * BLOCK, min(end * BLOCK, a.size)
    if a.rule == PLAIN:  # v is absent
        sgd_block(PLAIN, a, w, g, w, lr[0], begin, end)
    elif a.rule == MOMENTUM:
        sgd_block(MOMENTUM, a, w, g, v, lr[0], begin, end)
    else:
        sgd_block(NESTEROV, a, w, g, v, lr[0], begin, end)


def sgd(size, momentum, nesterov, weight_decay):
    """w, g, v, lr[1], in place:

    d = g + decay * w;  v = momentum * v + d;  w -= lr * (d, or v, or d + momentum * v);  g = 0

    v is absent where momentum is 0. Nothing aliases.
    """
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.size, a.momentum, a.weight_decay = size, momentum, weight_decay
    a.rule = PLAIN if momentum == 0 else NESTEROV if nesterov else MOMENTUM
    return kernel("sgd", sgd_run, (a.size + BLOCK - 1) // BLOCK, 0, &a, sizeof(a))
