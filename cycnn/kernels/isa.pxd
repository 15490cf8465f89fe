"""The vector type and its operations, as isa.h defines them for the tier being compiled."""

cdef extern from "isa.h" nogil:
    ctypedef struct vf:
        pass
    enum:
        VL
        MR4
        MR2
        MR1
        MR_MAX
    vf vload(const float*)
    void vstore(float*, vf)
    vf vzero()
    vf vset1(float)
    vf vadd(vf, vf)
    vf vsub(vf, vf)
    vf vmul(vf, vf)
    vf vdiv(vf, vf)
    vf vfma(vf, vf, vf)
    vf vselect_gt(vf, vf, vf, vf)
    vf vselect_eq(vf, vf, vf, vf)
    vf vmax(vf, vf)
    vf vmin(vf, vf)
    vf vsqrt(vf)
    vf vload_part(const float*, Py_ssize_t)
    void vstore_part(float*, vf, Py_ssize_t)
    void vtranspose(vf*)
    float vhsum(vf)
    float vhmax(vf)
    vf vexp(vf)
