"""Batch normalization, channel by channel: what follows from the sums that `norm` takes over pixels.

Groups of sums are added up in order, in double. An item is BLOCK channels.
"""

from libc.string cimport memset

from libc.math cimport sqrt

from .step cimport Run, Step, kernel

cdef enum:
    BLOCK = 64

cdef struct Attributes:
    Py_ssize_t channels
    Py_ssize_t groups       # of pixels
    Py_ssize_t pixels       # of all groups together
    double factor           # epsilon, or momentum


cdef object offer(str name, Run run, channels, groups=0, pixels=0, factor=0.0):
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.channels, a.groups, a.pixels, a.factor = channels, groups, pixels, factor
    return kernel(name, run, (a.channels + BLOCK - 1) // BLOCK, 0, &a, sizeof(a))


cdef inline void add_groups(const Attributes* a, const double* sums, Py_ssize_t begin,
                            Py_ssize_t end, double* first, double* second) noexcept nogil:
    """first, second = the sums over all groups, of channels ``begin`` to ``end``."""
    cdef Py_ssize_t c, z
    for c in range(end - begin):
        first[c] = 0
        second[c] = 0
    for z in range(a.groups):
        for c in range(end - begin):
            first[c] += sums[2 * z * a.channels + begin + c]
            second[c] += sums[(2 * z + 1) * a.channels + begin + c]


cdef void moments_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const double* sums = <const double*> buffers[step.operand[0]]
    cdef float* mean = <float*> buffers[step.operand[1]]
    cdef float* invstd = <float*> buffers[step.operand[2]]
    cdef float* variance = <float*> buffers[step.operand[3]]
    cdef double first[BLOCK]
    cdef double second[BLOCK]
    cdef double m, v
    cdef Py_ssize_t item, i, c
    for item in range(begin, end):
        i = item * BLOCK
        add_groups(a, sums, i, min(i + BLOCK, a.channels), first, second)
        for c in range(min(<Py_ssize_t> BLOCK, a.channels - i)):
            m = first[c] / a.pixels
            v = second[c] / a.pixels - m * m
            v = 0.0 if v < 0 else v  # by rounding; NaN stays
            mean[i + c] = <float> m
            invstd[i + c] = <float> (1.0 / sqrt(v + a.factor))
            variance[i + c] = <float> (v * (<double> a.pixels / (a.pixels - 1)))


def moments(pixels, channels, groups, epsilon):
    """sums of `norm.moment_sums` -> mean, 1 / sqrt(biased variance + epsilon), unbiased variance"""
    return offer("bn_moments", moments_run, channels, groups, pixels, epsilon)


cdef void gradients_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                        char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const double* sums = <const double*> buffers[step.operand[0]]
    cdef const float* scale = <const float*> buffers[step.operand[1]]
    cdef const float* invstd = <const float*> buffers[step.operand[2]]
    cdef float* dgamma = <float*> buffers[step.operand[3]]
    cdef float* dbeta = <float*> buffers[step.operand[4]]
    cdef float* slope = <float*> buffers[step.operand[5]]
    cdef float* offset = slope + a.channels
    cdef double first[BLOCK]
    cdef double second[BLOCK]
    cdef double r, k
    cdef Py_ssize_t item, i, c
    for item in range(begin, end):
        i = item * BLOCK
        add_groups(a, sums, i, min(i + BLOCK, a.channels), first, second)
        for c in range(min(<Py_ssize_t> BLOCK, a.channels - i)):
            r = invstd[i + c]
            k = -scale[i + c] / <double> a.pixels
            dgamma[i + c] = <float> (second[c] * r)
            dbeta[i + c] = <float> first[c]
            slope[i + c] = <float> (k * r * r * second[c])
            offset[i + c] = <float> (k * first[c])


def gradients(pixels, channels, groups):
    """sums of `norm.gradient_sums`, affine, invstd -> dgamma, dbeta, line

        dgamma = sum g * (x - mean) * invstd;  dbeta = sum g

    and line, a slope and an offset for every channel: dx = g * scale + (x - mean) * slope + offset.
    """
    return offer("bn_gradients", gradients_run, channels, groups, pixels)


cdef void affine_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                     char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* gamma = <const float*> buffers[step.operand[0]]
    cdef const float* beta = <const float*> buffers[step.operand[1]]
    cdef const float* mean = <const float*> buffers[step.operand[2]]
    cdef const float* spread = <const float*> buffers[step.operand[3]]
    cdef float* scale = <float*> buffers[step.operand[4]]
    cdef float* shift = scale + a.channels
    cdef double r
    cdef Py_ssize_t c
    for c in range(begin * BLOCK, min(end * BLOCK, a.channels)):
        r = spread[c] if a.factor < 0 else 1.0 / sqrt(spread[c] + a.factor)
        scale[c] = <float> (r if gamma == NULL else gamma[c] * r)
        shift[c] = <float> ((0.0 if beta == NULL else beta[c]) - <double> mean[c] * scale[c])


def affine(channels):
    """gamma, beta, mean, invstd -> affine (2, channels): y = gamma * (x - mean) * invstd + beta

    affine is a scale, then a shift for every channel. gamma or beta may be absent: 1 and 0.
    """
    return offer("bn_affine", affine_run, channels, 0, 0, -1.0)


def affine_of_variance(channels, epsilon):
    """gamma, beta, mean, variance -> affine, as `affine` of invstd = 1 / sqrt(variance + epsilon)"""
    return offer("bn_affine_of_variance", affine_run, channels, 0, 0, epsilon)


cdef void fold_bias_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                        char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* b = <const float*> buffers[step.operand[0]]
    cdef const float* scale = <const float*> buffers[step.operand[1]]
    cdef const float* shift = scale + a.channels
    cdef float* y = <float*> buffers[step.operand[2]]
    cdef Py_ssize_t c
    for c in range(begin * BLOCK, min(end * BLOCK, a.channels)):
        y[c] = shift[c] if b == NULL else b[c] * scale[c] + shift[c]


def fold_bias(channels):
    """b, affine -> b * scale + shift; b may be absent: 0"""
    return offer("bn_fold_bias", fold_bias_run, channels)


cdef void moving_average_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                             char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef float* y = <float*> buffers[step.operand[1]]
    cdef float momentum = <float> a.factor
    cdef float rest = <float> (1.0 - a.factor)
    cdef Py_ssize_t c
    for c in range(begin * BLOCK, min(end * BLOCK, a.channels)):
        y[c] = momentum * y[c] + rest * x[c]


def moving_average(size, momentum):
    """x, y -> y = momentum * y + (1 - momentum) * x, in place"""
    return offer("moving_average", moving_average_run, size, 0, 0, momentum)
