/* The definitions of the kernels that LDLQ is made of. */
#include "core/math/kernels.h"

#include <math.h>

void lq_kernels_fill_ref_round(lq_kernel_table *table);

static void grid_round_ref(float *q, float *value, const float *t, size_t n, float step,
                           float offset, float top)
{
    for (size_t i = 0; i < n; i++) {
        float u = (t[i] - offset) / step;
        q[i] = u > 0 ? rintf(u < top ? u : top) : 0;
        value[i] = offset + step * q[i];
    }
}

static void word_search_ref(uint16_t *index, const float *t, size_t n, size_t ldt,
                            const float *word, const float *norm, size_t words, size_t d)
{
    for (size_t i = 0; i < n; i++) {
        float best = -INFINITY;
        index[i] = 0;
        for (size_t k = 0; k < words; k++) {
            float dot = 0;
            for (size_t a = 0; a < d; a++)
                dot += t[a * ldt + i] * word[k * d + a];
            float score = 2 * dot - norm[k];
            if (score > best) {
                best = score;
                index[i] = (uint16_t)k;
            }
        }
    }
}

static void feed_ref(float *t, size_t n, size_t ldt, size_t left, const float *delta, size_t ldd,
                     size_t d, const float *M, size_t ldm)
{
    for (size_t b = 0; b < left; b++)
        for (size_t c = 0; c < d; c++)
            for (size_t i = 0; i < n; i++)
                t[b * ldt + i] += M[c * ldm + b] * delta[c * ldd + i];
}

void lq_kernels_fill_ref_round(lq_kernel_table *table)
{
    table->grid_round = grid_round_ref;
    table->word_search = word_search_ref;
    table->feed = feed_ref;
}
