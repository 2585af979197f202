/* The step-learning kernels: every fast twin has the reference's levels bit for bit. */
#include "core/base/rng.h"
#include "core/math/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 2100 };
typedef struct shape {
    float lo, hi, levels, shift, below, above;
} shape;
static const shape shapes[] = {
    {-0.99f, 0.99f, 2, 0.5f, -0.75f, 0.75f},
    {-0.99f, 0.99f, 1.5f, 0, -1, 1},
    {-4, 3, 1, 0, -4, 3},
    {-8, 7, 1, 0, -8, 7},
};
static const size_t lengths[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 67, 129, 255, 1040, MOST};

/* Weights around every edge: ties, bounds, zeros of both signs, huge and denormal values. */
static void fill(float *w, size_t n, float alpha, lq_rng *rng)
{
    static const float odd[] = {0.0f, -0.0f, 1e-42f, -1e-42f, 3e38f, -3e38f, 0.99f, -0.99f};
    for (size_t i = 0; i < n; i++) {
        w[i] = (float)lq_rng_normal(rng) * alpha * 2;
        if (i % 5 == 1)
            w[i] = odd[lq_rng_below(rng, 8)] * (i % 2 != 0 ? alpha : 1.0f);
        if (i % 5 == 3)
            w[i] = (float)((double)lq_rng_below(rng, 41) - 20.0) * 0.25f * alpha;
    }
}

static bool near(double got, double want, double tolerance)
{
    return fabs(got - want) <= tolerance;
}

static void check_twin(const lq_kernel_table *ref, const lq_kernel_table *fast, const shape *s,
                       size_t n, float alpha, lq_rng *rng)
{
    static float room_w[MOST + 1], g[MOST], want[MOST], room_got[MOST + 1];
    static float dw_want[MOST], dw_got[MOST];
    float *w = room_w + n % 2, *got = room_got + n % 2; /* also unaligned */
    fill(w, n, alpha, rng);
    double scale = 0;
    for (size_t i = 0; i < n; i++) {
        g[i] = (float)lq_rng_normal(rng);
        dw_want[i] = dw_got[i] = (float)lq_rng_normal(rng);
        scale += fabs((double)g[i]) * 8;
    }
    ref->seq_fwd(want, w, n, alpha, s->lo, s->hi, s->levels, s->shift);
    fast->seq_fwd(got, w, n, alpha, s->lo, s->hi, s->levels, s->shift);
    assert_memory_equal(want, got, n * sizeof *want);
    double da_want = 0.25, da_got = 0.25, da_frozen = 0.25;
    ref->seq_bwd(dw_want, &da_want, g, w, n, alpha, s->lo, s->hi, s->levels, s->shift, s->below,
                 s->above);
    fast->seq_bwd(dw_got, &da_got, g, w, n, alpha, s->lo, s->hi, s->levels, s->shift, s->below,
                  s->above);
    fast->seq_bwd(NULL, &da_frozen, g, w, n, alpha, s->lo, s->hi, s->levels, s->shift, s->below,
                  s->above);
    assert_memory_equal(dw_want, dw_got, n * sizeof *dw_want);
    assert_true(near(da_got, da_want, 1e-6 * scale));
    assert_true(da_frozen == da_got);
}

static void twins_agree_bit_for_bit_on_levels(void **state)
{
    (void)state;
    lq_rng rng = lq_rng_seed(3);
    const char *name;
    const lq_kernel_table *ref = lq_kernels_variant(0, &name), *fast;
    for (size_t v = 1; (fast = lq_kernels_variant(v, &name)) != NULL; v++)
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
            for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
                /* 41 / 41 is 1, but 41 * (1 / 41) is not: a reciprocal would move its ties */
                const float alphas[] = {1.0f, 41.0f, 0.0371f, 1e-5f};
                for (size_t a = 0; a < 4; a++)
                    check_twin(ref, fast, &shapes[s], lengths[l], alphas[a], &rng);
            }
}

static void nan_stays_nan(void **state)
{
    (void)state;
    float w[20] = {0}, w_hat[20];
    w[3] = w[18] = NAN;
    const char *name;
    const lq_kernel_table *table;
    for (size_t v = 0; (table = lq_kernels_variant(v, &name)) != NULL; v++) {
        table->seq_fwd(w_hat, w, 20, 1, -0.99f, 0.99f, 2, 0.5f);
        for (size_t i = 0; i < 20; i++)
            assert_true(isnan(w_hat[i]) == (i == 3 || i == 18));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twins_agree_bit_for_bit_on_levels),
        cmocka_unit_test(nan_stays_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
