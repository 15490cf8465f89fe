"""Dropout: a random mask from a counter, so that any number of threads draws the same numbers.

Whether element i is kept depends on (seed, step, stream, i) alone. They give two 32-bit keys, see
`keys`; the low 32 bits of i and the keys go through an integer hash, see `draw`, 31 bits of which
are compared with the rate. An item is a block of BLOCK consecutive floats. ``drop_path`` keeps or
drops whole samples: i is the sample, and an item a block of one.
"""

from libc.string cimport memset

from libc.stdint cimport uint32_t, uint64_t

from .isa cimport (VL, vf, vload, vload_part, vmul, vselect_less, vset1, vstore, vstore_part, vu,
                   vu_add, vu_count, vu_mul, vu_set1, vu_shift_right, vu_xor, vzero)
from .step cimport Step, kernel

cdef enum:
    BLOCK = 8192  # divides 2^32: the high 32 bits of i are the same in all of a block

cdef struct Attributes:
    Py_ssize_t size  # drop_path: of a sample
    uint64_t stream
    uint64_t threshold  # rate * 2^31
    double scale  # of what is kept: 1 / (1 - rate)


cdef inline uint64_t mix(uint64_t z) noexcept nogil:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    z = (z ^ (z >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t> 0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint64_t keys(const uint64_t* seed, uint64_t stream, uint64_t high) noexcept nogil:
    """Two 32-bit keys from seed = [seed, step], stream and the high 32 bits of the element."""
    cdef uint64_t golden = <uint64_t> 0x9E3779B97F4A7C15
    cdef uint64_t z = mix(seed[0] + golden)
    z = mix((z ^ seed[1]) + golden)
    return mix((z ^ (stream << 32) ^ high) + golden)


cdef inline vu draw(uint32_t i, uint32_t key0, uint32_t key1) noexcept nogil:
    """31 random bits for each of the elements i, ..., i + VL - 1.

    The integer hash triple32 (C. Wellons, "Prospecting for hash functions", 2018), offset by one
    key at its start and by the other after its first round.
    """
    cdef vu x = vu_count(i + key0)
    x = vu_mul(vu_xor(x, vu_shift_right(x, 17)), vu_set1(0xED5AD4BB))
    x = vu_add(x, vu_set1(key1))
    x = vu_mul(vu_xor(x, vu_shift_right(x, 11)), vu_set1(0xAC4C1B51))
    x = vu_mul(vu_xor(x, vu_shift_right(x, 15)), vu_set1(0x31848BAB))
    return vu_shift_right(vu_xor(x, vu_shift_right(x, 14)), 1)


cdef inline vf factor(uint32_t i, uint64_t key, vu threshold, vf scale) noexcept nogil:
    """What elements i, ..., i + VL - 1 are multiplied by: 0 or ``scale``."""
    return vselect_less(draw(i, <uint32_t> key, <uint32_t> (key >> 32)), threshold, vzero(), scale)


cdef inline void drop_block(const Attributes* a, const uint64_t* seed, const float* x, float* y,
                            Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    cdef uint64_t key = keys(seed, a.stream, <uint64_t> i >> 32)
    cdef vu threshold = vu_set1(a.threshold)
    cdef vf scale = vset1(a.scale)
    while i + VL <= end:
        vstore(y + i, vmul(vload(x + i), factor(i, key, threshold, scale)))
        i += VL
    if i < end:
        vstore_part(y + i, vmul(vload_part(x + i, end - i), factor(i, key, threshold, scale)),
                    end - i)


cdef void dropout_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const uint64_t* seed = <const uint64_t*> buffers[step.operand[1]]
    cdef float* y = <float*> buffers[step.operand[2]]
    cdef Py_ssize_t block
    for block in range(begin, end):
        drop_block(a, seed, x, y, block * BLOCK, min((block + 1) * BLOCK, a.size))


cdef Attributes attributes(size, rate, stream) except *:
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    a.size, a.stream = size, stream
    a.threshold = round(rate * 2**31)
    a.scale = 1 / (1 - rate)
    return a


def dropout(size, rate, stream):
    """x, [seed, step] (uint64) -> y = x * (0 or 1 / (1 - rate)); y may be x"""
    cdef Attributes a = attributes(size, rate, stream)
    return kernel("dropout", dropout_run, (a.size + BLOCK - 1) // BLOCK, 0, &a, sizeof(a))


cdef inline void multiply(const float* x, float s, float* y, Py_ssize_t i,
                          Py_ssize_t end) noexcept nogil:
    while i + VL <= end:
        vstore(y + i, vmul(vload(x + i), vset1(s)))
        i += VL
    if i < end:
        vstore_part(y + i, vmul(vload_part(x + i, end - i), vset1(s)), end - i)


cdef void drop_path_run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
                        char* scratch) noexcept nogil:
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef const float* x = <const float*> buffers[step.operand[0]]
    cdef const uint64_t* seed = <const uint64_t*> buffers[step.operand[1]]
    cdef float* y = <float*> buffers[step.operand[2]]
    cdef uint64_t key = keys(seed, a.stream, 0)
    cdef vu threshold = vu_set1(a.threshold)
    cdef Py_ssize_t items = (a.size + BLOCK - 1) // BLOCK  # of a sample
    cdef Py_ssize_t item, sample, i
    cdef float first[16]
    for item in range(begin, end):
        sample, i = item // items, item % items * BLOCK
        vstore(first, factor(<uint32_t> sample, key, threshold, vset1(a.scale)))
        multiply(x + sample * a.size, first[0], y + sample * a.size, i, min(i + BLOCK, a.size))


def drop_path(samples, size, rate, stream):
    """x (samples, size), [seed, step] (uint64) -> y = x * (0 or 1 / (1 - rate)), one for each sample

    y may be x.
    """
    cdef Attributes a = attributes(size, rate, stream)
    items = samples * ((a.size + BLOCK - 1) // BLOCK)
    return kernel("drop_path", drop_path_run, items, 0, &a, sizeof(a))
