/* Numbers of the contract suite: comparisons, and weights and grams with oddities in them. */
#ifndef LQ_TESTS_CONTRACT_NUMBERS_H
#define LQ_TESTS_CONTRACT_NUMBERS_H

#include "core/base/arena.h"
#include "core/base/rng.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static inline bool near(double got, double want, double tolerance)
{
    return fabs(got - want) <= tolerance; /* false for a NaN */
}

/* Is `got`, a gradient, within a share of the difference quotient and of what is typical of the slot? `noise`:
 * what the rounding of the weights alone may make of the quotient. */
static inline bool gradient_agrees(double got, double quotient, double share, double typical,
                                   double noise)
{
    return near(got, quotient, share * (fabs(quotient) + typical) + noise);
}

static inline double rms(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum / (double)n);
}

/* Normal weights with a row of zeros, an outlier, and a weight that is exactly 0. */
static inline float *odd_weight(lq_arena *arena, size_t out, size_t in)
{
    lq_rng rng = lq_rng_seed(out * 1000 + in);
    float *w = lq_arena_f32(arena, out * in);
    for (size_t i = 0; i < out * in; i++)
        w[i] = (float)lq_rng_normal(&rng) * 0.05f;
    memset(w + in, 0, in * sizeof *w); /* row 1 */
    w[2 * in + 3] *= 50;
    return w;
}

static inline double *correlated_gram(lq_arena *arena, size_t in)
{
    lq_rng rng = lq_rng_seed(in);
    double *gram = lq_arena_f64(arena, in * in), *x = lq_arena_f64(arena, in);
    for (size_t j = 0; j < in; j++)
        x[j] = lq_rng_normal(&rng);
    for (size_t i = 0; i < in; i++)
        for (size_t j = 0; j < in; j++)
            gram[i * in + j] = x[i] * x[j] + (i == j ? 0.5 : 0);
    return gram;
}

#endif
