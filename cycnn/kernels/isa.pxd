"""The vector type and its operations, as isa.h defines them for the tier being compiled."""

from libc.stdint cimport uint32_t

cdef extern from "isa.h" nogil:
    ctypedef struct vf:
        pass
    ctypedef struct vu:
        pass
    enum:
        VL
        MR4
        MR2
        MR1
        MR_MAX
        UNROLLED
    vf vload(const float*)
    void vstore(float*, vf)
    vf vzero()
    vf vset1(float)
    vf vadd(vf, vf)
    vf vsub(vf, vf)
    vf vmul(vf, vf)
    vf vdiv(vf, vf)
    vf vfma(vf, vf, vf)
    vf vfma_held(vf, vf, vf)
    vf vselect_gt(vf, vf, vf, vf)
    vf vselect_eq(vf, vf, vf, vf)
    vf vmax(vf, vf)
    vf vmin(vf, vf)
    vf vsqrt(vf)
    void vstream(float*, vf)
    void vstream_end()
    void touch(const float*)
    const float** anew(const float**)
    void in_order()
    vf vlargest(vf, vf)
    vf vselect_larger(vf, vf, vf, vf)
    vu vu_set1(uint32_t)
    vu vu_count(uint32_t)
    vu vu_add(vu, vu)
    vu vu_mul(vu, vu)
    vu vu_xor(vu, vu)
    vu vu_shift_right(vu, int)
    vf vselect_less(vu, vu, vf, vf)
    vu vu_load(const uint32_t*)
    vf vpick(vf, vu)
    vf vload_part(const float*, Py_ssize_t)
    vf vload_part_or(const float*, Py_ssize_t, vf)
    void vstore_part(float*, vf, Py_ssize_t)
    vf vset2(const float*)
    vf vzip_low(vf, vf)
    void vtranspose(vf*)
    float vhsum(vf)
    float vhmax(vf)
    vf vexp(vf)
    vf vlogistic(vf, vf)
