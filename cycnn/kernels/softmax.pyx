"""Softmax over rows of k numbers, and the cross-entropy of rows against integer labels.

Rows are contiguous: x[rows, k]. An item is a block of rows of about BLOCK floats. A row is reduced
in an order that depends on k alone; a NaN or +inf in a row makes the whole row NaN.
"""

from libc.string cimport memset

from libc.math cimport INFINITY, NAN, log
from libc.stdint cimport int32_t

from .isa cimport (VL, vadd, vexp, vf, vfma, vhmax, vhsum, vload, vload_part, vload_part_or, vmax,
                   vmul, vset1, vstore, vstore_part, vsub, vzero)
from .step cimport Run, Step, kernel

cdef enum:
    BLOCK = 4096

cdef struct Attributes:
    Py_ssize_t rows, k
    Py_ssize_t block  # rows in an item


cdef object offer(str name, Run run, Py_ssize_t rows, Py_ssize_t k):
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.rows, a.k, a.block = rows, k, max(1, BLOCK // max(k, 1))
    return kernel(name, run, (rows + a.block - 1) // a.block, 0, &a, sizeof(a))


cdef inline float largest(const float* x, Py_ssize_t k) noexcept nogil:
    """max x[k]; a NaN may be missed, the exponentials will show it"""
    cdef vf m = vset1(-INFINITY)
    cdef Py_ssize_t i = 0
    while i + VL <= k:
        m = vmax(m, vload(x + i))
        i += VL
    return vhmax(vmax(m, vload_part_or(x + i, k - i, vset1(-INFINITY))))


cdef inline float exponentials(const float* x, float m, float* y, Py_ssize_t k) noexcept nogil:
    """y[k] = exp(x[k] - m), and their sum"""
    cdef vf total = vzero()
    cdef vf e
    cdef Py_ssize_t i = 0
    while i + VL <= k:
        e = vexp(vsub(vload(x + i), vset1(m)))
        vstore(y + i, e)
        total = vadd(total, e)
        i += VL
    if i < k:
        e = vexp(vsub(vload_part_or(x + i, k - i, vset1(-INFINITY)), vset1(m)))
        vstore_part(y + i, e, k - i)
        total = vadd(total, e)
    return vhsum(total)


cdef inline void scale_row(float* y, float s, Py_ssize_t k) noexcept nogil:
    """y[k] *= s"""
    cdef Py_ssize_t i = 0
    while i + VL <= k:
        vstore(y + i, vmul(vload(y + i), vset1(s)))
        i += VL
    vstore_part(y + i, vmul(vload_part(y + i, k - i), vset1(s)), k - i)


# ---- softmax -------------------------------------------------------------------------------------

cdef void softmax_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef float* y = <float*> buffers[step.operand[1]]
    cdef Py_ssize_t row
    cdef float total
    for row in range(begin * a.block, min(end * a.block, a.rows)):
        total = exponentials(x + row * a.k, largest(x + row * a.k, a.k), y + row * a.k, a.k)
        scale_row(y + row * a.k, 1 / total, a.k)


def softmax(rows, k):
    """x -> y = exp(x) / sum over the row of exp(x); y may be x"""
    return offer("softmax", softmax_run, rows, k)


cdef inline float dot(const float* a, const float* b, Py_ssize_t k) noexcept nogil:
    cdef vf total = vzero()
    cdef Py_ssize_t i = 0
    while i + VL <= k:
        total = vfma(vload(a + i), vload(b + i), total)
        i += VL
    total = vfma(vload_part(a + i, k - i), vload_part(b + i, k - i), total)
    return vhsum(total)


cdef inline void backward_row(const float* y, const float* dy, float* dx,
                              Py_ssize_t k) noexcept nogil:
    """dx = y * (dy - y . dy)"""
    cdef vf mean = vset1(dot(y, dy, k))
    cdef Py_ssize_t i = 0
    while i + VL <= k:
        vstore(dx + i, vmul(vload(y + i), vsub(vload(dy + i), mean)))
        i += VL
    vstore_part(dx + i, vmul(vload_part(y + i, k - i), vsub(vload_part(dy + i, k - i), mean)),
                k - i)


cdef void softmax_backward_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                               char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* y = <const float*> buffers[step.operand[0]]
    cdef const float* dy = <const float*> buffers[step.operand[1]]
    cdef float* dx = <float*> buffers[step.operand[2]]
    cdef Py_ssize_t row
    for row in range(begin * a.block, min(end * a.block, a.rows)):
        backward_row(y + row * a.k, dy + row * a.k, dx + row * a.k, a.k)


def softmax_backward(rows, k):
    """y, dy -> dx = y * (dy - sum over the row of y * dy); dx may be y or dy"""
    return offer("softmax_backward", softmax_backward_run, rows, k)


# ---- cross-entropy -------------------------------------------------------------------------------

cdef inline double cross_entropy_row(const float* x, int32_t label, float scale, float* dx,
                                     Py_ssize_t k) noexcept nogil:
    """log(sum exp(x)) - x[label], and dx = scale * (softmax(x) - onehot(label))"""
    cdef float m = largest(x, k)
    cdef float total = exponentials(x, m, dx, k)
    if not 0 <= label < k:
        scale_row(dx, NAN, k)
        return NAN
    scale_row(dx, scale / total, k)
    dx[label] -= scale
    return log(total) - (<double> x[label] - m)


cdef void cross_entropy_rows_run(const Step* step, char** buffers, Py_ssize_t begin,
                                 Py_ssize_t end, char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const int32_t* labels = <const int32_t*> buffers[step.operand[1]]
    cdef const float* scale = <const float*> buffers[step.operand[2]]
    cdef double* losses = <double*> buffers[step.operand[3]]
    cdef float* dx = <float*> buffers[step.operand[4]]
    cdef Py_ssize_t row
    for row in range(begin * a.block, min(end * a.block, a.rows)):
        losses[row] = cross_entropy_row(x + row * a.k, labels[row], scale[0], dx + row * a.k, a.k)


def cross_entropy_rows(rows, k):
    """x[rows, k], labels[rows] (int32), scale[1] -> losses[rows] (double), dx[rows, k]

    A label outside 0 <= label < k makes its row NaN. dx may not be x.
    """
    return offer("cross_entropy_rows", cross_entropy_rows_run, rows, k)


cdef void cross_entropy_sum_run(const Step* step, char** buffers, Py_ssize_t begin,
                                Py_ssize_t end, char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const double* losses = <const double*> buffers[step.operand[0]]
    cdef const float* scale = <const float*> buffers[step.operand[1]]
    cdef float* loss = <float*> buffers[step.operand[2]]
    cdef double total = 0
    cdef Py_ssize_t row
    for row in range(a.rows):
        total += losses[row]
    loss[0] = scale[0] * total


def cross_entropy_sum(rows):
    """losses[rows] (double), scale[1] -> loss[1] = scale * sum(losses), in order"""
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.rows, a.k, a.block = rows, 1, rows
    return kernel("cross_entropy_sum", cross_entropy_sum_run, 1, 0, &a, sizeof(a))
