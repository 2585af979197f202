#include "core/quant/lcqat.h"

#include "core/base/log.h"
#include "core/math/kernels.h"
#include "core/quant/hadamard.h"

#include <math.h>
#include <string.h>

lq_status lq_lcqat_regularize(double *H, size_t n, double sigma)
{
    double trace = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            if (!isfinite(H[i * n + j]))
                return lq_fail(LQ_E_NUMERIC,
                               "gram of order %zu: entry (%zu,%zu) is not finite; "
                               "look at the calibration's activations",
                               n, i, j);
            if (i == j)
                trace += H[i * n + j];
        }
    const double mean = trace / (double)n;
    if (mean < 0)
        return lq_fail(LQ_E_NUMERIC, "gram of order %zu has a negative trace; collect it anew", n);
    if (mean == 0) {
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                H[i * n + j] = i == j;
        return LQ_OK;
    }
    for (size_t i = 0; i < n * n; i++)
        H[i] /= mean;
    for (size_t i = 0; i < n; i++)
        H[i * n + i] += sigma;
    return LQ_OK;
}

/* LDLQ with more and more on the diagonal: 0, then 10, 100, 1000 sigma, as the released code. */
static lq_status round_damped(const lq_lcqat_rounding *how, const float *w, double *h, size_t m,
                              size_t n, const lq_rounder *rounder, uint16_t *code,
                              lq_lcqat_rounded *out, lq_arena *scratch)
{
    const double sigma = how->sigma > 0 ? how->sigma : 0.01;
    out->damping = 0;
    lq_status status =
        lq_ldlq(w, h, m, n, rounder, &how->ldlq, out->value, code, &out->ldlq, scratch);
    for (double more = 10 * sigma; status == LQ_E_NUMERIC && more <= 1001 * sigma; more *= 10) {
        lq_log_warn("rounding a %zu x %zu weight: %s; trying again with %g added", m, n,
                    lq_status_note(), more);
        for (size_t i = 0; i < n; i++)
            h[i * n + i] += more - out->damping;
        out->damping = more;
        status = lq_ldlq(w, h, m, n, rounder, &how->ldlq, out->value, code, &out->ldlq, scratch);
    }
    return status;
}

/* Codes of one vector become digits, the first column's the most significant. */
static void split_codes(uint8_t *digit, const uint16_t *code, size_t count, size_t d, size_t levels)
{
    for (size_t i = 0; i < count; i++) {
        size_t rest = code[i];
        for (size_t j = d; j-- > 0; rest /= levels)
            digit[i * d + j] = (uint8_t)(rest % levels);
    }
}

static lq_status round_incoherent(const lq_lcqat_rounding *how, const float *wr, double *hr,
                                  size_t m, size_t n, lq_lcqat_rounded *out, lq_arena *scratch)
{
    float affine[2];
    lq_lcqat_affine(how->levels, false, affine);
    lq_scalar_grid scalar = {.levels = how->levels, .step = affine[0], .offset = affine[1]};
    lq_rounder rounder = lq_rounder_scalar(&scalar);
    lq_lcqat_grid grid;
    lq_word_table table;
    size_t d = 1;
    if (how->bf16_grid) {
        LQ_TRY(lq_lcqat_grid_new(how->levels, NULL, true, scratch, &grid));
        table = lq_lcqat_grid_table(&grid);
        rounder = lq_rounder_table(&table);
        d = LQ_LCQAT_D;
    }
    uint16_t *code;
    LQ_TRY(lq_arena_new(scratch, &code, m * n));
    LQ_TRY(round_damped(how, wr, hr, m, n, &rounder, code, out, scratch));
    split_codes(out->code, code, m * n / d, d, how->levels);
    return LQ_OK;
}

lq_status lq_lcqat_round_matrix(const lq_lcqat_rounding *how, const float *w, const double *h,
                                size_t m, size_t n, const float *sign_m, const float *sign_n,
                                lq_arena *keep, lq_lcqat_rounded *out, lq_arena *scratch)
{
    *out = (lq_lcqat_rounded){0};
    LQ_TRY(lq_arena_new(keep, &out->code, m * n));
    LQ_TRY(lq_arena_new(keep, &out->value, m * n));
    lq_mark mark = lq_arena_mark(scratch);
    const size_t block_n = lq_hadamard_block(n, how->hadamard_cap);
    float *wr = lq_arena_f32(scratch, m * n);
    memcpy(wr, w, m * n * sizeof *wr);
    lq_incoherent_weight(wr, m, n, sign_m, sign_n, lq_hadamard_block(m, how->hadamard_cap),
                         block_n);
    out->scale = sqrt(lq_sum_squares(wr, m * n) / (double)(m * n)) / how->g;
    double *hr = NULL;
    if (out->scale > 0) {
        for (size_t i = 0; i < m * n; i++)
            wr[i] = (float)((double)wr[i] / out->scale);
        if (h != NULL) {
            hr = lq_arena_f64(scratch, n * n);
            memcpy(hr, h, n * n * sizeof *hr);
            lq_incoherent_gram(hr, n, sign_n, block_n);
        }
    }
    lq_status status = round_incoherent(how, wr, hr, m, n, out, scratch);
    lq_arena_release(scratch, mark);
    return status;
}

static double norm(const float *x, size_t n) { return sqrt(lq_sum_squares(x, n)); }

void lq_lcqat_balance(float *su, size_t n, float *sv, size_t m, double epsilon)
{
    const double a = norm(su, n), v = norm(sv, m);
    if (!(a > 0 && v > 0))
        return;
    const double t = sqrt(a * v + epsilon);
    for (size_t j = 0; j < n; j++)
        su[j] = (float)((double)su[j] * (t / a));
    for (size_t i = 0; i < m; i++)
        sv[i] = (float)((double)sv[i] * (t / v));
}

double lq_lcqat_kappa(size_t out, size_t in) { return sqrt((double)out + (double)in) / 2; }

void lq_lcqat_proxy_of_u(float *proxy, const float *u, size_t count, double kappa, double mu)
{
    for (size_t i = 0; i < count; i++)
        proxy[i] = (float)(((double)u[i] - mu) / kappa);
}

void lq_lcqat_u_of_proxy(float *u, const float *proxy, size_t count, double kappa, double mu)
{
    for (size_t i = 0; i < count; i++)
        u[i] = (float)(kappa * (double)proxy[i] + mu);
}
