/* Vectorised twins of core/math/ref/round.c. Compiled without contraction, as the definition is, and with
 * the sums in its order: where codes are decided, twins agree bit for bit. */
#include "core/math/kernels.h"

#include "core/math/fast/vec.h"

void LQ_PASTE(lq_kernels_fill_round, LQ_ISA)(lq_kernel_table *table);

/* u clipped to 0 .. top and rounded to nearest even; a NaN becomes 0. 1.5 * 2^23 leaves no room for a
 * fraction, and the addition itself rounds. */
static inline vec round_clip(vec u, vec top)
{
    const vec shift = splat(12582912.0f);
    u = select_vec(u < top, u, select_vec(u == u, top, (vec){0}));
    u = select_vec(u > (vec){0}, u, (vec){0});
    return (u + shift) - shift;
}

static void grid_round(float *q, float *value, const float *t, size_t n, float step, float offset,
                       float top)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec level = round_clip((load(t + i) - offset) / step, splat(top));
        store(q + i, level);
        store(value + i, offset + step * level);
    }
    if (i < n) {
        vec level = round_clip((load_part(t + i, n - i, 0) - offset) / step, splat(top));
        store_part(q + i, level, n - i);
        store_part(value + i, offset + step * level, n - i);
    }
}

/* Sixteen vectors at once, a lane each; the words go by. */
static inline ivec best_word(const vec *t, const float *word, const float *norm, size_t words,
                             size_t d)
{
    vec best = splat(-INFINITY);
    ivec index = {0};
    for (size_t k = 0; k < words; k++) {
        vec dot = (vec){0} + t[0] * word[k * d];
        for (size_t a = 1; a < d; a++)
            dot += t[a] * word[k * d + a];
        const vec score = 2.0f * dot - norm[k];
        const ivec better = score > best;
        best = select_vec(better, score, best);
        index = (better & ((ivec){0} + (int32_t)k)) | (~better & index);
    }
    return index;
}

enum { WIDEST_WORD = 16 };
static void word_search(uint16_t *index, const float *t, size_t n, size_t ldt, const float *word,
                        const float *norm, size_t words, size_t d)
{
    for (size_t i = 0; i < n; i += LANES) {
        const size_t here = n - i < LANES ? n - i : LANES;
        vec v[WIDEST_WORD];
        for (size_t a = 0; a < d; a++)
            v[a] = here == LANES ? load(t + a * ldt + i) : load_part(t + a * ldt + i, here, 0);
        const ivec found =
            d == 4 ? best_word(v, word, norm, words, 4) : best_word(v, word, norm, words, d);
        for (size_t l = 0; l < here; l++)
            index[i + l] = (uint16_t)found[l];
    }
}

/* One row of t, all d terms while it is in registers. */
static inline void feed_row(float *t, size_t n, const float *delta, size_t ldd, size_t d,
                            const float *M, size_t ldm)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec sum = load(t + i);
        for (size_t c = 0; c < d; c++)
            sum += M[c * ldm] * load(delta + c * ldd + i);
        store(t + i, sum);
    }
    for (; i < n; i++)
        for (size_t c = 0; c < d; c++)
            t[i] += M[c * ldm] * delta[c * ldd + i];
}

static void feed(float *t, size_t n, size_t ldt, size_t left, const float *delta, size_t ldd,
                 size_t d, const float *M, size_t ldm)
{
    for (size_t b = 0; b < left; b++)
        if (d == 1)
            feed_row(t + b * ldt, n, delta, ldd, 1, M + b, ldm);
        else if (d == 4)
            feed_row(t + b * ldt, n, delta, ldd, 4, M + b, ldm);
        else
            feed_row(t + b * ldt, n, delta, ldd, d, M + b, ldm);
}

void LQ_PASTE(lq_kernels_fill_round, LQ_ISA)(lq_kernel_table *table)
{
    table->grid_round = grid_round;
    table->word_search = word_search;
    table->feed = feed;
}
