"""The one-dimensional transforms of a 3-tap correlation with stride 2, over vectors of channels.

    y[i] = d[2i] g[0] + d[2i+1] g[1] + d[2i+2] g[2],  i < m

Even samples meet two taps with stride 1, which is Winograd's F(m, 2) with m + 1 points; odd samples meet
one, at m products without any transform. So 2m + 1 samples have as many points, and as in winograd.pxd

    y = A^T [ (G g) * (B^T d) ]

The points come in this order: infinity, those of F(m, 2), odd samples. All of the latter multiply g[1], and
so G g has m + 2 values, the last of which serves m points. The two points of m = 2 are 0 and, for the
middle one, 1; those of m = 4 are +-1/2 and +-5/4, which round no worse than a direct sum. With P(x) the
product of (x - q) for all points q but infinity, and e[i] = d[2i], the rows of a point are

    B^T     the coefficients of P(x) / (x - q) and of P, times e
    A^T     the powers q^i; for infinity 1 in the last row
    G       1, q, divided by P'(q), times g[0], g[2]; for infinity 0, 1

``m`` must be a literal. Vector i of an operand is ``x[i * step]``; the result must not overlap it.
"""

from .isa cimport vadd, vf, vfma, vmul, vset1, vsub
from .winograd cimport pair


cdef inline void transform_input(const int m, const vf* d, vf* o) noexcept nogil:
    """o = B^T d, from 2m + 1 values to as many"""
    cdef int i
    for i in range(m):
        o[m + 1 + i] = d[2 * i + 1]
    if m == 2:
        o[0] = vsub(d[4], d[2])
        o[1] = d[2]
        o[2] = vsub(d[0], d[2])
    else:
        o[0] = vfma(vset1(0.390625), d[0], vsub(d[8], vmul(vset1(1.8125), d[4])))
        pair(vsub(d[6], vmul(vset1(1.5625), d[2])), vsub(d[4], vmul(vset1(1.5625), d[0])),
             vset1(0.5), o + 1, 1)
        pair(vsub(d[6], vmul(vset1(0.25), d[2])), vsub(d[4], vmul(vset1(0.25), d[0])),
             vset1(1.25), o + 3, 1)


cdef inline void transform_output(const int m, const vf* d, vf* o) noexcept nogil:
    """o = A^T d, from 2m + 1 values to m"""
    cdef vf even, odd, even2, odd2
    if m == 2:
        o[0] = vadd(vadd(d[1], d[2]), d[3])
        o[1] = vadd(vadd(d[1], d[0]), d[4])
    else:
        even, odd = vadd(d[1], d[2]), vsub(d[1], d[2])
        even2, odd2 = vadd(d[3], d[4]), vsub(d[3], d[4])
        o[0] = vadd(vadd(even, even2), d[5])
        o[1] = vfma(vset1(1.25), odd2, vfma(vset1(0.5), odd, d[6]))
        o[2] = vfma(vset1(1.5625), even2, vfma(vset1(0.25), even, d[7]))
        o[3] = vadd(vfma(vset1(1.953125), odd2, vfma(vset1(0.125), odd, d[8])), d[0])


cdef inline void transform_weights(const int m, const vf* g, const int g_step, vf* o,
                                   const int o_step) noexcept nogil:
    """o = G g, from 3 values to m + 2"""
    o[0] = g[2 * g_step]
    if m == 2:
        o[o_step] = vadd(g[0], g[2 * g_step])
        o[2 * o_step] = g[0]
    else:
        pair(vmul(vset1(-0.38095238095238095), g[2 * g_step]), g[0], vset1(-0.76190476190476190),
             o + o_step, o_step)
        pair(vmul(vset1(0.38095238095238095), g[2 * g_step]), g[0], vset1(0.30476190476190476),
             o + 3 * o_step, o_step)
    o[(m + 1) * o_step] = g[g_step]
