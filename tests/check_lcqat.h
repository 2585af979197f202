/* What the tests of UniSVQ and LC-QAT share: a theta started on normal weights under a gram whose inputs are
 * correlated. */
#ifndef LQ_TESTS_CHECK_LCQAT_H
#define LQ_TESTS_CHECK_LCQAT_H

#include "tests/check_method.h"

#include "core/quant/lcqat_theta.h"

extern const lq_method lq_method_unisvq, lq_method_lcqat;
static const lq_method *const methods[] = {&lq_method_unisvq, &lq_method_lcqat};

static inline float *zeros(size_t n)
{
    float *x;
    check_ok(lq_arena_new(&arena, &x, n));
    return x;
}

/* 0.9^|i-j|, and a tenth more on the diagonal. */
static inline double *fading_gram(size_t n)
{
    double *H;
    check_ok(lq_arena_new(&arena, &H, n * n));
    for (size_t i = 0; i < n * n; i++)
        H[i] = pow(0.9, fabs((double)(i / n) - (double)(i % n))) * (i / n == i % n ? 1.1 : 1);
    return H;
}

/* The weights that begun() starts from. */
static inline float *begun_from(size_t out, size_t in)
{
    return normal_weights(out * in, 0.02, out + in);
}

static inline lq_theta begun(const lq_method *method, const char *json, size_t out, size_t in)
{
    lq_theta th = theta_of(method, json, out, in);
    const lq_calib calib = {.gram = fading_gram(in), .n_tokens = 1};
    const lq_rng rng = lq_rng_seed(7);
    check_ok(method->init(&th, begun_from(out, in), &calib, &rng, &arena));
    return th;
}

#endif
