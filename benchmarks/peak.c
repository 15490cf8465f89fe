/* The limits that kernels are held against: arithmetic from registers, and memory.
 * Built at run time by benchmarks/peak.py, once for each instruction set. */
#include <stddef.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
typedef float vf __attribute__((vector_size(BYTES)));
typedef float vf_unaligned __attribute__((vector_size(BYTES), may_alias, aligned(4)));

/* more chains than latency times units, fewer than registers; by name, so that they stay in them */
#define CHAINS 12
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define START(k) vf a##k = x;
#define STEP(k)                                                                                    \
    a##k = a##k * x + y;                                                                           \
    __asm__ volatile("" : "+v"(a##k)); /* a chain is not to be folded or reordered */
#define SUM(k) sum += a##k;

/* a = a * x + y on independent chains, n times; returns the floating-point operations done */
double multiply_add(long n)
{
    const vf x = 0.999f - (vf){0}, y = 1e-3f - (vf){0};
    EACH(START)
    for (long r = 0; r < n; r++) {
        EACH(STEP)
    }
    vf sum = {0};
    EACH(SUM)
    volatile float sink = sum[0];
    (void)sink;
    return 2.0 * CHAINS * (BYTES / 4) * n;
}

/* returns the bytes read */
double read_memory(const float *p, size_t n)
{
    vf a = {0}, b = {0}, c = {0}, d = {0};
    const vf_unaligned *v = (const vf_unaligned *)p;
    for (size_t i = 0; i + 4 <= n * 4 / BYTES; i += 4) {
        a += v[i];
        b += v[i + 1];
        c += v[i + 2];
        d += v[i + 3];
    }
    a += b + c + d;
    volatile float sink = a[0];
    (void)sink;
    return 4.0 * n;
}

/* returns the bytes read and written, not counting that a written line is read first */
double copy_memory(float *q, const float *p, size_t n)
{
    const vf_unaligned *v = (const vf_unaligned *)p;
    vf_unaligned *w = (vf_unaligned *)q;
    for (size_t i = 0; i < n * 4 / BYTES; i++) w[i] = v[i] + 1.0f;
    return 8.0 * n;
}
