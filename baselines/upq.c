/* UPQ, unified progressive quantization: 16 -> 4 -> 2 bits. The weight is first rounded to INT4 under the
 * inputs' second moments; what comes of it is the latent of a 2-bit grid without a zero (ParetoQ's), whose
 * first alpha is the largest INT4 weight of the row. Then both are trained, to match the full-precision
 * model's distribution: that loss is the recipe's affair.
 *
 *     w4    = s4 (code - 8), code in 0..15, s4 a row, from LDLQ under H = E[x' x] + sigma
 *     w_eff = alpha (rint(2 clip(u, +-0.99) - 0.5) + 0.5) / 2,   u = latent / alpha
 *
 * No code is released; what the paper leaves open is decided in docs/decisions/0067. */
#include "core/base/log.h"
#include "core/quant/lcqat.h" /* lq_lcqat_regularize */
#include "core/quant/ldlq.h"
#include "core/quant/step.h"

#include <math.h>
#include <string.h>

extern const lq_method lq_method_upq;

enum { STAGE_LDLQ, STAGE_RTN, STAGE_NONE };
enum { INT4_LEVELS = 16, MAX_DAMPINGS = 5 };

typedef struct opts {
    lq_common_opts common;
    int stage_one, int4_step, init;
    double sigma_reg;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"stage_one", LQ_OPTION_CHOICE, offsetof(opts, stage_one), STAGE_LDLQ, 0, 0, "ldlq|rtn|none",
     "how the weight becomes INT4: GPTQ's rounding, to nearest, or not at all (ParetoQ's start)"},
    {"int4_step", LQ_OPTION_CHOICE, offsetof(opts, int4_step), 0, 0, 0, "mse|max",
     "INT4 step of a row: of least squared error, or max|w| / 7"},
    {"init", LQ_OPTION_CHOICE, offsetof(opts, init), 0, 0, 0, "max|mse",
     "first alpha of a row: largest INT4 weight, or the one of least squared error (ours)"},
    {"sigma_reg", LQ_OPTION_REAL, offsetof(opts, sigma_reg), 0.01, 0, 1, NULL,
     "added to the diagonal of the gram, in units of its mean diagonal"},
};

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    if (o->common.bits != 2)
        return lq_fail(LQ_E_OPTION, "upq: bits = %g; it has 2", o->common.bits);
    return LQ_OK;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    (void)options_read;
    slot[LQ_STEP_LATENT] = lq_latent_slot(out, in);
    slot[LQ_STEP_ALPHA] = lq_alpha_slot("alpha", out, 1 / sqrt((double)out * (double)in));
    *n_slots = LQ_STEP_SLOTS;
    return LQ_OK;
}

/* LDLQ with columns one by one: GPTQ's rounding in the opposite order. gram NULL: to nearest. Where H has
 * no Cholesky factor, ten times the damping is tried, and again. */
static lq_status round_int4(const opts *o, const float *units, const double *gram, size_t out,
                            size_t in, float *rounded, lq_arena *scratch)
{
    const lq_scalar_grid grid = {
        .levels = INT4_LEVELS, .step = 1, .offset = -(float)(INT4_LEVELS / 2)};
    const lq_rounder rounder = lq_rounder_scalar(&grid);
    const lq_ldlq_opts how = {.block = 1, .sweep_block = 1};
    lq_ldlq_result result;
    uint16_t *code;
    double *H, sigma = o->sigma_reg;
    LQ_TRY(lq_arena_new(scratch, &code, out * in));
    if (gram == NULL)
        return lq_ldlq(units, NULL, out, in, &rounder, &how, rounded, code, &result, scratch);
    LQ_TRY(lq_arena_new(scratch, &H, in * in));
    for (size_t attempt = 0; attempt < MAX_DAMPINGS; attempt++) {
        memcpy(H, gram, in * in * sizeof *H);
        LQ_TRY(lq_lcqat_regularize(H, in, sigma));
        lq_status status =
            lq_ldlq(units, H, out, in, &rounder, &how, rounded, code, &result, scratch);
        if (status == LQ_OK && attempt > 0)
            lq_log_warn("upq: the gram (%zu,%zu) needed damping %g instead of %g", in, in, sigma,
                        o->sigma_reg);
        if (status != LQ_E_NUMERIC)
            return status;
        sigma = sigma > 0 ? 10 * sigma : 1e-4;
    }
    return lq_fail(LQ_E_NUMERIC,
                   "upq: the gram (%zu,%zu) is not positive definite even with sigma_reg = %g; "
                   "calibrate on more tokens or raise it",
                   in, in, sigma / 10);
}

/* w4 (out,in) of w, row i in units of its step: LDLQ feeds errors along a row only, so that scaling rows
 * changes nothing but the grid. */
static lq_status to_int4(const opts *o, const float *w, const double *gram, size_t out, size_t in,
                         float *w4, lq_arena *scratch)
{
    const lq_step_grid four = lq_step_integer(INT4_LEVELS);
    float *step, *units, *row;
    LQ_TRY(lq_arena_new(scratch, &step, out));
    LQ_TRY(lq_arena_new(scratch, &units, out * in));
    LQ_TRY(lq_arena_new(scratch, &row, in));
    for (size_t i = 0; i < out; i++) {
        const float top = lq_step_measure(w + i * in, in).top;
        step[i] = top / four.hi;
        if (o->int4_step == 0 && top > 0)
            step[i] = lq_step_best(&four, w + i * in, in, top, row);
        step[i] = lq_step_floored(step[i]);
        for (size_t j = i * in; j < (i + 1) * in; j++)
            units[j] = w[j] / step[i];
    }
    LQ_TRY(round_int4(o, units, gram, out, in, w4, scratch));
    for (size_t i = 0; i < out; i++)
        for (size_t j = i * in; j < (i + 1) * in; j++)
            w4[j] *= step[i];
    return LQ_OK;
}

static lq_step_grid grid_of(const void *options_read)
{
    (void)options_read;
    return lq_step_stretched(4);
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)rng;
    const opts *o = th->opts;
    const lq_step_start start = o->init == 0 ? LQ_STEP_FROM_MAX : LQ_STEP_FROM_MSE;
    LQ_TRY(lq_check_finite("upq", w, th->out, th->in));
    if (o->stage_one == STAGE_NONE)
        return lq_step_init(th, start, w, scratch);
    if (o->stage_one == STAGE_LDLQ && (calib == NULL || calib->gram == NULL))
        return lq_fail(LQ_E_MISSING, "upq: stage_one=ldlq needs the gram of the layer's inputs; "
                                     "run `lcqat calibrate` and pass its file");
    lq_mark mark = lq_arena_mark(scratch);
    float *w4;
    lq_status status = lq_arena_new(scratch, &w4, th->out * th->in);
    if (status == LQ_OK)
        status = to_int4(o, w, o->stage_one == STAGE_LDLQ ? calib->gram : NULL, th->out, th->in, w4,
                         scratch);
    if (status == LQ_OK)
        status = lq_step_init(th, start, w4, scratch);
    lq_arena_release(scratch, mark);
    return status;
}

const lq_method lq_method_upq = {
    .name = "upq",
    .source = "UPQ, arXiv:2506.09104, which has no released code: INT4 by layer-wise LDLQ in the "
              "place of its block-wise stage, then ParetoQ's 2-bit grid; docs/decisions/0067",
    .family = LQ_FAMILY_SCALAR,
    .needs = LQ_NEEDS_GRAM | LQ_TRAINS,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .opts_bytes = sizeof(opts),
    .check = check,
    .layout = layout,
    .init = init,
    .effective = lq_step_effective,
    .backward = lq_step_backprop,
    .pack = lq_step_pack,
    .unpack = lq_step_unpack,
    .surrogate = lq_step_surrogate,
    .step_grid = grid_of,
};
