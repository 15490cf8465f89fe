/* isa.h: the one place that knows instruction sets.
 *
 * A kernel is written over `vf`, a vector of VL floats, and is compiled once per tier; the compiler's
 * own macros choose the width here. Nothing else in the project tests for an instruction set.
 *
 * Include it first: it also makes Cython's `inline` binding for gcc, so that a tile called with
 * literal arguments is specialised for them.
 */
#ifndef CYCNN_ISA_H
#define CYCNN_ISA_H
#include <stdint.h>
#include <string.h>

#undef CYTHON_INLINE
#define CYTHON_INLINE inline __attribute__((always_inline))
#define CYCNN_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#  define CYCNN_VECTOR_BYTES 64
#elif defined(__AVX__)
#  define CYCNN_VECTOR_BYTES 32
#else
#  define CYCNN_VECTOR_BYTES 16
#endif
#if defined(__SSE2__)
#  include <immintrin.h>
#endif

typedef float vf __attribute__((vector_size(CYCNN_VECTOR_BYTES), may_alias));
typedef float vf_unaligned __attribute__((vector_size(CYCNN_VECTOR_BYTES), may_alias, aligned(4)));
typedef int32_t vi __attribute__((vector_size(CYCNN_VECTOR_BYTES), may_alias));
typedef uint32_t vu __attribute__((vector_size(CYCNN_VECTOR_BYTES), may_alias));

/* VL: floats in a vector.  MR<k>: rows of the accumulator tile that is k vectors wide, so that the
 * tile, the fewer of its rows and vectors, and one of the others fit the register file.
 * UNROLLED: terms of a tall tile's sums to a turn of the loop, some 50 multiply-adds. */
enum {
    VL = CYCNN_VECTOR_BYTES / 4,
#if CYCNN_VECTOR_BYTES == 64
    MR4 = 6, MR2 = 14, MR1 = 14, UNROLLED = 2,
#elif CYCNN_VECTOR_BYTES == 32
    MR4 = 3, MR2 = 6, MR1 = 12, UNROLLED = 4,
#else
    MR4 = 2, MR2 = 5, MR1 = 12, /* a product needs a register of its own where there is no FMA */
    UNROLLED = 1,
#endif
    MR_MAX = 14
};

CYCNN_INLINE vf vload(const float *p) { return *(const vf_unaligned *)p; }
CYCNN_INLINE void vstore(float *p, vf a) { *(vf_unaligned *)p = a; }
CYCNN_INLINE vf vzero(void) { return (vf){}; }
CYCNN_INLINE vf vset1(float x) { return x - (vf){}; }
CYCNN_INLINE vf vadd(vf a, vf b) { return a + b; }
CYCNN_INLINE vf vsub(vf a, vf b) { return a - b; }
CYCNN_INLINE vf vmul(vf a, vf b) { return a * b; }
CYCNN_INLINE vf vdiv(vf a, vf b) { return a / b; }
/* a * b + c, one rounding where the machine has it */
CYCNN_INLINE vf vfma(vf a, vf b, vf c) { return a * b + c; }
/* the same, each of the three in a register: with few registers gcc reads b from memory again for every
 * product instead of holding it, and more is read than two loads a cycle allow */
#if CYCNN_VECTOR_BYTES == 32 && defined(__FMA__)
CYCNN_INLINE vf vfma_held(vf a, vf b, vf c)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
    return c;
}
#else
CYCNN_INLINE vf vfma_held(vf a, vf b, vf c) { return vfma(a, b, c); }
#endif
/* lanes of x where a > b, of y elsewhere (also where a or b is NaN) */
CYCNN_INLINE vf vselect_gt(vf a, vf b, vf x, vf y)
{
    vi m = a > b;
    return (vf)(((vi)x & m) | ((vi)y & ~m));
}
/* lanes of x where a == b, of y elsewhere (also where a or b is NaN) */
CYCNN_INLINE vf vselect_eq(vf a, vf b, vf x, vf y)
{
    vi m = a == b;
    return (vf)(((vi)x & m) | ((vi)y & ~m));
}

/* vmax(a, b), vmin(a, b): b where either is NaN, so vmax(vzero(), x) lets a NaN in x pass */
#if CYCNN_VECTOR_BYTES == 64
CYCNN_INLINE vf vmax(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
CYCNN_INLINE vf vmin(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
CYCNN_INLINE vf vsqrt(vf a) { return (vf)_mm512_sqrt_ps((__m512)a); }
#elif CYCNN_VECTOR_BYTES == 32
CYCNN_INLINE vf vmax(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
CYCNN_INLINE vf vmin(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
CYCNN_INLINE vf vsqrt(vf a) { return (vf)_mm256_sqrt_ps((__m256)a); }
#elif defined(__SSE2__)
CYCNN_INLINE vf vmax(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
CYCNN_INLINE vf vmin(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
CYCNN_INLINE vf vsqrt(vf a) { return (vf)_mm_sqrt_ps((__m128)a); }
#else
CYCNN_INLINE vf vmax(vf a, vf b) { return vselect_gt(a, b, a, b); }
CYCNN_INLINE vf vmin(vf a, vf b) { return vselect_gt(b, a, a, b); }
CYCNN_INLINE vf vsqrt(vf a)
{
    for (int i = 0; i < VL; i++) a[i] = __builtin_sqrtf(a[i]);
    return a;
}
#endif

/* write past the caches, what will not be read soon; p lies on a boundary of VL floats, and other threads
 * see it after vstream_end() */
#if CYCNN_VECTOR_BYTES == 64
CYCNN_INLINE void vstream(float *p, vf a) { _mm512_stream_ps(p, (__m512)a); }
#elif CYCNN_VECTOR_BYTES == 32
CYCNN_INLINE void vstream(float *p, vf a) { _mm256_stream_ps(p, (__m256)a); }
#elif defined(__SSE2__)
CYCNN_INLINE void vstream(float *p, vf a) { _mm_stream_ps(p, (__m128)a); }
#else
CYCNN_INLINE void vstream(float *p, vf a) { vstore(p, a); }
#endif
#if defined(__SSE2__)
CYCNN_INLINE void vstream_end(void) { _mm_sfence(); }
#else
CYCNN_INLINE void vstream_end(void) {}
#endif

/* read and forget: bring the line of memory that holds *p into the cache */
CYCNN_INLINE void touch(const float *p) { (void)*(const volatile float *)p; }

/* the same address, but what was read there before is read again: gcc otherwise keeps it in registers
 * from one round of a loop to the next, until there are none left */
CYCNN_INLINE const float **anew(const float **p)
{
    __asm__("" : "+r"(p));
    return p;
}

/* what is read below this is not read above it: gcc otherwise reads early until no register is left */
CYCNN_INLINE void in_order(void) { __asm__ volatile("" ::: "memory"); }

/* the larger of a and b, NaN where either is NaN */
#if CYCNN_VECTOR_BYTES == 64
CYCNN_INLINE vf vlargest(vf a, vf b)
{
    __mmask16 number = _mm512_cmp_ps_mask((__m512)a, (__m512)a, _CMP_ORD_Q);
    return (vf)_mm512_mask_max_ps((__m512)a, number, (__m512)a, (__m512)b);
}
#else
CYCNN_INLINE vf vlargest(vf a, vf b) { return vselect_eq(a, a, vmax(a, b), a); }
#endif
/* lanes of x where a is larger than b, NaN being larger than any number; of y elsewhere */
#if CYCNN_VECTOR_BYTES == 64
CYCNN_INLINE vf vselect_larger(vf a, vf b, vf x, vf y)
{
    __mmask16 number = _mm512_cmp_ps_mask((__m512)b, (__m512)b, _CMP_ORD_Q);
    __mmask16 larger = _mm512_mask_cmp_ps_mask(number, (__m512)a, (__m512)b, _CMP_NLE_UQ);
    return (vf)_mm512_mask_mov_ps((__m512)y, larger, (__m512)x);
}
#else
CYCNN_INLINE vf vselect_larger(vf a, vf b, vf x, vf y)
{
    vi m = ~(a <= b) & (b == b);
    return (vf)(((vi)x & m) | ((vi)y & ~m));
}
#endif

/* vectors of VL unsigned 32-bit integers, arithmetic modulo 2^32 */
CYCNN_INLINE vu vu_set1(uint32_t a) { return a + (vu){}; }
/* base, base + 1, ..., base + VL - 1 */
CYCNN_INLINE vu vu_count(uint32_t base)
{
    vu a;
    for (int i = 0; i < VL; i++) a[i] = (uint32_t)i;
    return a + base;
}
CYCNN_INLINE vu vu_add(vu a, vu b) { return a + b; }
CYCNN_INLINE vu vu_mul(vu a, vu b) { return a * b; }
CYCNN_INLINE vu vu_xor(vu a, vu b) { return a ^ b; }
CYCNN_INLINE vu vu_shift_right(vu a, int bits) { return a >> bits; }
/* lanes of x where a < b, of y elsewhere; a and b below 2^31 */
CYCNN_INLINE vf vselect_less(vu a, vu b, vf x, vf y)
{
    vi m = (vi)a < (vi)b;
    return (vf)(((vi)x & m) | ((vi)y & ~m));
}

/* the first n floats of a vector, 0 <= n <= VL; lanes beyond n read as zero (or as those of
 * `other`) and are not written */
#if CYCNN_VECTOR_BYTES == 64
CYCNN_INLINE vf vload_part(const float *p, ptrdiff_t n)
{
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
}
CYCNN_INLINE vf vload_part_or(const float *p, ptrdiff_t n, vf other)
{
    return (vf)_mm512_mask_loadu_ps((__m512)other, (__mmask16)((1u << n) - 1u), p);
}
CYCNN_INLINE void vstore_part(float *p, vf a, ptrdiff_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), (__m512)a);
}
#elif CYCNN_VECTOR_BYTES == 32
CYCNN_INLINE __m256i vfirst(ptrdiff_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
CYCNN_INLINE vf vload_part(const float *p, ptrdiff_t n) { return (vf)_mm256_maskload_ps(p, vfirst(n)); }
CYCNN_INLINE vf vload_part_or(const float *p, ptrdiff_t n, vf other)
{
    return (vf)_mm256_blendv_ps((__m256)other, (__m256)vload_part(p, n), (__m256)vfirst(n));
}
CYCNN_INLINE void vstore_part(float *p, vf a, ptrdiff_t n) { _mm256_maskstore_ps(p, vfirst(n), (__m256)a); }
#else
CYCNN_INLINE vf vload_part(const float *p, ptrdiff_t n)
{
    vf a = vzero();
    for (ptrdiff_t i = 0; i < n && i < VL; i++) a[i] = p[i];
    return a;
}
CYCNN_INLINE vf vload_part_or(const float *p, ptrdiff_t n, vf other)
{
    for (ptrdiff_t i = 0; i < n && i < VL; i++) other[i] = p[i];
    return other;
}
CYCNN_INLINE void vstore_part(float *p, vf a, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n && i < VL; i++) p[i] = a[i];
}
#endif

/* p[0] p[1] p[0] p[1] ... */
CYCNN_INLINE vf vset2(const float *p)
{
    typedef int64_t pairs __attribute__((vector_size(CYCNN_VECTOR_BYTES)));
    int64_t pair;
    memcpy(&pair, p, sizeof pair);
    return (vf)(pair + (pairs){});
}
/* a[0] b[0] a[1] b[1] ... from the lower and from the upper halves of a and b */
#if CYCNN_VECTOR_BYTES == 64
CYCNN_INLINE vf vzip_low(vf a, vf b)
{
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
CYCNN_INLINE vf vzip_high(vf a, vf b)
{
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif CYCNN_VECTOR_BYTES == 32
CYCNN_INLINE vf vzip_low(vf a, vf b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
CYCNN_INLINE vf vzip_high(vf a, vf b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
CYCNN_INLINE vf vzip_low(vf a, vf b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
CYCNN_INLINE vf vzip_high(vf a, vf b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif
/* transpose the VL x VL matrix whose rows are r[0 .. VL-1]: log2(VL) perfect shuffles of its rows */
CYCNN_INLINE void vtranspose(vf *r)
{
    vf t[VL];
    for (int stage = 1; stage < VL; stage *= 2) {
        for (int i = 0; i < VL / 2; i++) {
            t[2 * i] = vzip_low(r[i], r[i + VL / 2]);
            t[2 * i + 1] = vzip_high(r[i], r[i + VL / 2]);
        }
        for (int i = 0; i < VL; i++) r[i] = t[i];
    }
}

/* lane i is lane at[i] of a, 0 <= at[i] < VL */
CYCNN_INLINE vu vu_load(const uint32_t *p)
{
    vu a;
    memcpy(&a, p, sizeof a);
    return a;
}
CYCNN_INLINE vf vpick(vf a, vu at) { return __builtin_shuffle(a, (vi)at); }

/* sum and maximum over the lanes, always in the same order; vhmax is NaN if any lane is */
CYCNN_INLINE float vhsum(vf a)
{
    float s = 0;
    for (int i = 0; i < VL; i++) s += a[i];
    return s;
}
CYCNN_INLINE float vhmax(vf a)
{
    float m = a[0];
    for (int i = 1; i < VL; i++) m = (a[i] > m || a[i] != a[i]) ? a[i] : m;
    return m;
}

/* exp(x), relative error below 1e-7: the polynomial of Cephes expf (Moshier) after x has been brought
 * between -ln 2 / 2 and ln 2 / 2. +inf above 88.72, 0 or a denormal below -87.33, NaN for NaN. */
CYCNN_INLINE vf vexp_polynomial(vf r)
{
    vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return p * (r * r) + (r + 1.0f);
}
#if CYCNN_VECTOR_BYTES == 64
CYCNN_INLINE vf vexp(vf x)
{
    vf y = vmin(vset1(89.0f), vmax(vset1(-104.0f), x));
    vf n = (vf)_mm512_roundscale_ps((__m512)(y * 1.44269504088896341f), _MM_FROUND_TO_NEAREST_INT);
    vf p = vexp_polynomial((y - n * 0.693359375f) + n * 2.12194440e-4f);
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
}
#else
CYCNN_INLINE vf vexp(vf x)
{
    const vf high = vset1(88.72283f), low = vset1(-87.33654f);
    vf y = vmin(high, vmax(low, x));
    vf z = y * 1.44269504088896341f + 12582912.0f; /* adding 1.5 * 2^23 rounds to an integer */
    vi n = (vi)z - 0x4B400000;
    vf k = z - 12582912.0f;
    vf p = vexp_polynomial((y - k * 0.693359375f) + k * 2.12194440e-4f);
    p = (p * (vf)(((n >> 1) + 127) << 23)) * (vf)((n - (n >> 1) + 127) << 23);
    p = vselect_gt(x, high, vset1(__builtin_inff()), p);
    return vselect_gt(low, x, vzero(), p);
}
#endif

/* p * 2^k for integers k from -250 to 250, infinite or 0 where that is out of range; NaN for NaN */
#if CYCNN_VECTOR_BYTES == 64
CYCNN_INLINE vf vscale2(vf p, vf k) { return (vf)_mm512_scalef_ps((__m512)p, (__m512)k); }
#else
CYCNN_INLINE vf vscale2(vf p, vf k)
{
    vi n = __builtin_convertvector(k, vi), half = n >> 1;
    return p * (vf)((half + 127) << 23) * (vf)((n - half + 127) << 23);
}
#endif

/* a / (1 + exp(-x)): a times the logistic function of x, relative error below 3e-7 + 1.4e-8 |x|
 * (9e-8 |x| where products are rounded); a * 0 below -88.73, where exp(-x) overflows, NaN for
 * NaN. exp(-x) is 2^k 2^-f with f between -1/2 and 1/2, and 2^-f the polynomial of degree 5 with the least
 * relative error, 7.5e-8. */
CYCNN_INLINE vf vlogistic(vf a, vf x)
{
    const float log2e = 1.44269504088896341f;
    vf y = vmax(vset1(-104.0f), vmin(vset1(87.0f), x));
    vf k = (12582912.0f - y * log2e) - 12582912.0f; /* adding 1.5 * 2^23 rounds to an integer */
    vf f = vfma(y, vset1(log2e), k);
    vf p = f * -1.32764718e-03f + 9.67554133e-03f;
    p = p * f - 5.55071327e-02f;
    p = p * f + 2.40221197e-01f;
    p = p * f - 6.93146967e-01f;
    p = p * f + 1.0f;
    return a / (1.0f + vscale2(p, k));
}
#endif
