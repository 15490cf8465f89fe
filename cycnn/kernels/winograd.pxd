"""The one-dimensional transforms of Winograd's minimal convolution F(m, 3), over vectors of channels.

A Winograd convolution makes m outputs of a 3-tap correlation from m + 2 products, one for each of
m + 2 points where polynomials are evaluated (A. Lavin and S. Gray, Fast Algorithms for Convolutional
Neural Networks, arXiv:1509.09308, section 4):

    y = A^T [ (G g) * (B^T d) ]         y[i] = d[i] g[0] + d[i+1] g[1] + d[i+2] g[2],  i < m

and in two dimensions ``Y = A^T [ (G g G^T) * (B^T d B) ] A``: each matrix along the rows, then along the
columns. The gradient for g, of d and of dy, is ``dg = G^T [ (A dy) * (B^T d) ]``.

The points come as 0, pairs +-p, and infinity, in this order: p = 1 for m = 2; 1/sqrt 2, sqrt 2 for m = 4,
whose rounding errors are half those of the usual 1, 2. With P(x) = x * product of (x^2 - p^2),

    B^T, row of point q     the coefficients of P(x) / (x - q); of P itself for infinity
    A^T, row i              the powers q^i; for infinity 1 in the last row
    G, row of point q       1, q, q^2, divided by P'(q); for infinity 0, 0, 1

so that the sum and the difference of an even and an odd part serve a pair. ``m`` must be a literal.
Vector i of an operand is ``x[i * step]``; the result must not overlap the operand.
"""

from .isa cimport VL, vadd, vf, vfma, vmul, vset1, vsub

cdef enum:
    LINE = 16  # floats in a cache line


cdef inline Py_ssize_t apart(Py_ssize_t floats) noexcept nogil:
    """At least ``floats``, and an odd number of cache lines: what lies so far apart, one for each point or
    tile, does not meet in one set of a cache."""
    return ((floats + LINE - 1) // LINE | 1) * LINE


cdef inline int side(const int m, const int stride) noexcept nogil:
    """Pixels that a tile of m x m reads along an axis, and its points: m + 2, or 2m + 1 with stride 2."""
    return (m - 1) * stride + 3


cdef inline Py_ssize_t panel_point(Py_ssize_t depth, int nv) noexcept nogil:
    """Floats from one point to the next in a panel of transformed weights."""
    return apart(depth * nv * VL)


cdef inline void pair(vf even, vf odd, vf p, vf* o, const int step) noexcept nogil:
    """o[0] = even + p * odd, o[step] = even - p * odd"""
    o[0] = vfma(p, odd, even)
    o[step] = vsub(even, vmul(p, odd))


cdef inline void transform_input(const int m, const vf* d, const int d_step, vf* o,
                                 const int o_step) noexcept nogil:
    """o = B^T d, from m + 2 values to m + 2"""
    cdef vf half = vset1(0.5)
    cdef vf two = vset1(2)
    cdef vf middle = vset1(2.5)
    if m == 2:
        o[0] = vsub(d[2 * d_step], d[0])
        o[o_step] = vadd(d[2 * d_step], d[d_step])
        o[2 * o_step] = vsub(d[2 * d_step], d[d_step])
        o[3 * o_step] = vsub(d[3 * d_step], d[d_step])
    else:
        o[0] = vsub(vadd(d[0], d[4 * d_step]), vmul(middle, d[2 * d_step]))
        pair(vsub(d[4 * d_step], vmul(two, d[2 * d_step])),
             vsub(d[3 * d_step], vmul(two, d[d_step])),
             vset1(0.70710678118654752), o + o_step, o_step)
        pair(vsub(d[4 * d_step], vmul(half, d[2 * d_step])),
             vsub(d[3 * d_step], vmul(half, d[d_step])),
             vset1(1.41421356237309505), o + 3 * o_step, o_step)
        o[5 * o_step] = vsub(vadd(d[d_step], d[5 * d_step]), vmul(middle, d[3 * d_step]))


cdef inline void transform_output(const int m, const vf* d, const int d_step, vf* o,
                                  const int o_step) noexcept nogil:
    """o = A^T d, from m + 2 values to m"""
    cdef vf even = vadd(d[d_step], d[2 * d_step])
    cdef vf odd = vsub(d[d_step], d[2 * d_step])
    cdef vf even2, odd2
    if m == 2:
        o[0] = vadd(d[0], even)
        o[o_step] = vadd(d[3 * d_step], odd)
    else:
        even2 = vadd(d[3 * d_step], d[4 * d_step])
        odd2 = vsub(d[3 * d_step], d[4 * d_step])
        o[0] = vadd(vadd(d[0], even), even2)
        o[o_step] = vmul(vset1(0.70710678118654752), vfma(vset1(2), odd2, odd))
        o[2 * o_step] = vfma(vset1(2), even2, vmul(vset1(0.5), even))
        o[3 * o_step] = vfma(vset1(0.35355339059327376), vfma(vset1(8), odd2, odd),
                             d[5 * d_step])


cdef inline void transform_weights(const int m, const vf* g, const int g_step, vf* o,
                                   const int o_step) noexcept nogil:
    """o = G g, from 3 values to m + 2"""
    cdef vf third = vset1(0.33333333333333333)
    cdef vf ends
    if m == 2:
        o[0] = vsub(vset1(0), g[0])
        ends = vmul(vset1(0.5), vadd(g[0], g[2 * g_step]))
        pair(ends, g[g_step], vset1(0.5), o + o_step, o_step)
    else:
        o[0] = g[0]
        ends = vmul(third, vfma(vset1(2), g[0], g[2 * g_step]))
        pair(vsub(vset1(0), ends), g[g_step], vset1(-0.47140452079103168), o + o_step, o_step)
        ends = vmul(third, vfma(vset1(0.5), g[0], g[2 * g_step]))
        pair(ends, g[g_step], vset1(0.23570226039551584), o + 3 * o_step, o_step)
    o[(m + 1) * o_step] = g[2 * g_step]


cdef inline void transform_gradient(const int m, const vf* d, const int d_step, vf* o,
                                    const int o_step) noexcept nogil:
    """o = A d, from m values to m + 2: the transpose of `transform_output`"""
    o[0] = d[0]
    if m == 2:
        pair(d[0], d[d_step], vset1(1), o + o_step, o_step)
    else:
        pair(vfma(vset1(0.5), d[2 * d_step], d[0]), vfma(vset1(0.5), d[3 * d_step], d[d_step]),
             vset1(0.70710678118654752), o + o_step, o_step)
        pair(vfma(vset1(2), d[2 * d_step], d[0]), vfma(vset1(2), d[3 * d_step], d[d_step]),
             vset1(1.41421356237309505), o + 3 * o_step, o_step)
    o[(m + 1) * o_step] = d[(m - 1) * d_step]


cdef inline void transform_products(const int m, const vf* d, const int d_step, vf* o,
                                    const int o_step) noexcept nogil:
    """o = G^T d, from m + 2 values to 3: the transpose of `transform_weights`"""
    cdef vf even = vadd(d[d_step], d[2 * d_step])
    cdef vf odd = vsub(d[d_step], d[2 * d_step])
    cdef vf even2, odd2
    if m == 2:
        o[0] = vsub(vmul(vset1(0.5), even), d[0])
        o[o_step] = vmul(vset1(0.5), odd)
        o[2 * o_step] = vfma(vset1(0.5), even, d[3 * d_step])
    else:
        even2 = vadd(d[3 * d_step], d[4 * d_step])
        odd2 = vsub(d[3 * d_step], d[4 * d_step])
        o[0] = vfma(vset1(0.16666666666666667), vsub(even2, vmul(vset1(4), even)), d[0])
        o[o_step] = vmul(vset1(0.23570226039551584), vsub(odd2, vmul(vset1(2), odd)))
        o[2 * o_step] = vfma(vset1(0.33333333333333333), vsub(even2, even), d[5 * d_step])
