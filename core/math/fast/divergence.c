/* Vectorised twins of core/math/ref/divergence.c; the contract is in core/math/kernels.h. */
#include "core/math/kernels.h"

#include "core/math/fast/vec.h"

void LQ_PASTE(lq_kernels_fill_divergence, LQ_ISA)(lq_kernel_table *table);

enum { LOWEST = -1000000000 }; /* stands after the end of a row: its exponential is nothing */

/* Natural logarithm of a positive normal x: 2^e m with m in [sqrt(1/2), sqrt(2)), and the polynomial of
 * Cephes' logf in m - 1 (relative error below 2e-7, also next to x = 1). */
static inline vec vlog(vec x)
{
    const ivec bits = (ivec)x;
    ivec e = (bits >> 23) - 126;
    const vec half = (vec)((bits & 0x7fffff) | 0x3f000000); /* in [1/2, 1) */
    const ivec low = half < 0.70710678f;
    e += low; /* a true lane is -1 */
    const vec m = select_vec(low, half + half, half) - 1.0f, z = m * m;
    const vec whole = __builtin_convertvector(e, vec);
    vec p = splat(7.0376836292e-2f);
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    p = p * m * z - whole * 2.12194440e-4f - 0.5f * z;
    return m + p + whole * 0.693359375f;
}

static inline vec take(const float *x, size_t i, size_t n)
{
    return n - i < LANES ? load_part(x + i, n - i, (float)LOWEST) : load(x + i);
}

static inline void put(float *x, size_t i, size_t n, vec v)
{
    if (n - i < LANES)
        store_part(x + i, v, n - i);
    else
        store(x + i, v);
}

static float top_of(const float *x, size_t n)
{
    vec top = splat((float)LOWEST);
    for (size_t i = 0; i < n; i += LANES)
        top = vmax(take(x, i, n), top);
    return max_lanes(top);
}

/* Of one row: a = (t - top_t) / T, b = (s - top_s) / T, so that log p = a - log sum_p and log q = b -
 * log sum_q; apart = log sum_p - log sum_q. */
typedef struct row {
    float top_t, top_s, inv_T, sum_p, sum_q, apart;
    float forward, reverse; /* KL(p||q), KL(q||p) */
} row;

static inline row row_of(const float *t, const float *s, size_t V, float inv_T)
{
    row r = {.top_t = top_of(t, V), .top_s = top_of(s, V), .inv_T = inv_T};
    vec p = {0}, q = {0}, pd = {0}, qd = {0};
    for (size_t i = 0; i < V; i += LANES) {
        const vec a = (take(t, i, V) - r.top_t) * inv_T, b = (take(s, i, V) - r.top_s) * inv_T;
        const vec ep = vexp(a), eq = vexp(b);
        p += ep;
        q += eq;
        pd += ep * (a - b);
        qd += eq * (b - a);
    }
    r.sum_p = sum_lanes(p);
    r.sum_q = sum_lanes(q);
    r.apart = logf(r.sum_p) - logf(r.sum_q);
    r.forward = sum_lanes(pd) / r.sum_p - r.apart;
    r.reverse = sum_lanes(qd) / r.sum_q + r.apart;
    return r;
}

static void kl_divergence(float *nats, float *t, const float *s, size_t n, size_t V, float inv_T,
                          float forward, float reverse, float weight)
{
    for (size_t k = 0; k < n; k++, t += V, s += V) {
        const row r = row_of(t, s, V, inv_T);
        const float scale = weight * inv_T, of_q = 1.0f / r.sum_q, of_p = 1.0f / r.sum_p;
        nats[k] = forward * r.forward + reverse * r.reverse;
        for (size_t i = 0; i < V; i += LANES) {
            const vec a = (take(t, i, V) - r.top_t) * inv_T, b = (take(s, i, V) - r.top_s) * inv_T;
            const vec p = vexp(a) * of_p, q = vexp(b) * of_q;
            const vec off = (b - a) + (r.apart - r.reverse);
            put(t, i, V, scale * (forward * (q - p) + reverse * (q * off)));
        }
    }
}

static void js_divergence(float *nats, float *t, const float *s, size_t n, size_t V, float inv_T,
                          float beta, float weight)
{
    const float rest = 1.0f - beta;
    for (size_t k = 0; k < n; k++, t += V, s += V) {
        const row r = row_of(t, s, V, inv_T);
        const float of_q = 1.0f / r.sum_q, of_p = 1.0f / r.sum_p;
        vec teacher = {0}, student = {0};
        for (size_t i = 0; i < V; i += LANES) { /* t becomes log(q / m) */
            const vec a = (take(t, i, V) - r.top_t) * inv_T, b = (take(s, i, V) - r.top_s) * inv_T;
            const vec d = (a - b) - r.apart; /* log(p / q) */
            const ivec above = d > 0.0f;
            const vec low = select_vec(above, (vec){0}, d), high = d - low;
            const vec e = vexp(low - high);
            const vec mix = vlog(select_vec(above, beta + rest * e, rest + beta * e));
            teacher += vexp(a) * of_p * (low - mix);
            student -= vexp(b) * of_q * (high + mix);
            put(t, i, V, -(high + mix));
        }
        const float of_student = sum_lanes(student), scale = weight * inv_T * rest * of_q;
        nats[k] = beta * sum_lanes(teacher) + rest * of_student;
        for (size_t i = 0; i < V; i += LANES) {
            const vec b = (take(s, i, V) - r.top_s) * inv_T;
            put(t, i, V, scale * vexp(b) * (take(t, i, V) - of_student));
        }
    }
}

void LQ_PASTE(lq_kernels_fill_divergence, LQ_ISA)(lq_kernel_table *table)
{
    table->kl_divergence = kl_divergence;
    table->js_divergence = js_divergence;
}
