/* Vectorised twins of core/math/ref/seq.c: the same levels bit for bit, other sums of the same terms. */
#include "core/math/kernels.h"

#include "core/math/fast/vec.h"

#include <stdbool.h>

void LQ_PASTE(lq_kernels_fill_seq, LQ_ISA)(lq_kernel_table *table);

/* rintf for |x| < 2^22, without SSE4.1: adding 1.5 * 2^23 leaves no room for a fraction, and the
 * addition rounds to nearest even. The sign is put back, since rintf(-0.3f) is -0. */
static inline vec round_even(vec x)
{
    const vec shift = splat(12582912.0f);
    const ivec sign = (ivec){0} + INT32_MIN;
    vec r = (x + shift) - shift;
    return (vec)(((ivec)r & ~sign) | ((ivec)x & sign));
}

/* Divides by alpha and by levels as the definition does: a reciprocal would move levels. */
static inline vec level(vec u, float lo, float hi, float levels, float shift)
{
    vec c = select_vec(u < lo, splat(lo), select_vec(u > hi, splat(hi), u));
    return (round_even(c * levels - shift) + shift) / levels;
}

static void seq_fwd(float *w_hat, const float *w, size_t n, float alpha, float lo, float hi,
                    float levels, float shift)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(w_hat + i, level(load(w + i) / alpha, lo, hi, levels, shift) * alpha);
    if (i < n) {
        vec u = load_part(w + i, n - i, 0) / alpha;
        store_part(w_hat + i, level(u, lo, hi, levels, shift) * alpha, n - i);
    }
}

static void seq_bwd(float *dw, double *dalpha, const float *g, const float *w, size_t n,
                    float alpha, float lo, float hi, float levels, float shift, float below,
                    float above)
{
    enum { CHUNK = 1024 }; /* 64 floats a lane are summed before a double takes over */
    double sum = 0;
    for (size_t at = 0; at < n; at += CHUNK) {
        const size_t end = n - at < CHUNK ? n : at + CHUNK;
        vec part = {0};
        for (size_t i = at; i < end; i += LANES) {
            const size_t here = end - i < LANES ? end - i : LANES;
            const bool whole = here == LANES;
            const vec gi = whole ? load(g + i) : load_part(g + i, here, 0);
            const vec u = (whole ? load(w + i) : load_part(w + i, here, 0)) / alpha;
            const ivec inside = (u >= lo) & (u <= hi);
            const vec outer = select_vec(u < lo, splat(below), splat(above));
            const vec inner = level(u, lo, hi, levels, shift) - u;
            part += gi * select_vec(inside, inner, outer);
            const vec through = select_vec(inside, gi, (vec){0});
            if (dw != NULL && whole)
                store(dw + i, load(dw + i) + through);
            else if (dw != NULL)
                store_part(dw + i, load_part(dw + i, here, 0) + through, here);
        }
        sum += (double)sum_lanes(part);
    }
    *dalpha += sum;
}

void LQ_PASTE(lq_kernels_fill_seq, LQ_ISA)(lq_kernel_table *table)
{
    table->seq_fwd = seq_fwd;
    table->seq_bwd = seq_bwd;
}
