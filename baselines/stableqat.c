/* StableQAT: LSQ's forward, and a slope of rounding that moves the undecided weights. With u = w / alpha,
 * one alpha a row:
 *
 *     w_eff = alpha clip(rint(u), -2^(bits-1), 2^(bits-1) - 1)
 *     dw_eff/dw = (1-c)/(1+c) inside the range, c = sqrt(2) pi A cos(pi (u + rint(u))); else 0
 *     dw_eff/dalpha as LSQ's, scaled by 1 / sqrt(out in Qp)
 *
 * The slope is 0.035 on a level and 1 on the edge of a bin (A = 0.21), the first harmonic of the rotated
 * Fourier series of the staircase; A = 0 is the straight-through estimator. The released start is
 * alpha = max|w| / Qp, which at 2 bits rounds all but the largest weights to 0: docs/decisions/0062. */
#include "core/quant/step.h"

#include <math.h>

extern const lq_method lq_method_stableqat;

enum { GRID_LSQ, GRID_SEQ };

typedef struct opts {
    lq_common_opts common;
    int grid, init;
    double amplitude;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"grid", LQ_OPTION_CHOICE, offsetof(opts, grid), GRID_LSQ, 0, 0, "lsq|seq",
     "LSQ's integer grid as released, or at 2 bits ParetoQ's without a zero (ours)"},
    {"init", LQ_OPTION_CHOICE, offsetof(opts, init), 0, 0, 0, "max|mse|lsq",
     "first alpha of a row: as released, of least squared error (ours), or the LSQ paper's"},
    {"amplitude", LQ_OPTION_REAL, offsetof(opts, amplitude), 0.21, 0, 0.22, NULL,
     "A of the slope, below 1 / (sqrt(2) pi); 0: straight-through"},
};

static lq_step_grid grid_of(const void *options_read)
{
    const opts *o = options_read;
    const size_t levels = lq_levels_of_bits(o->common.bits);
    lq_step_grid g = o->grid == GRID_SEQ ? lq_step_stretched(levels) : lq_step_integer(levels);
    g.stable = lq_stable_gate_of(o->amplitude);
    return g;
}

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    const size_t levels = lq_levels_of_bits(o->common.bits);
    if (levels < 4 || levels > 16)
        return lq_fail(LQ_E_OPTION, "stableqat: bits = %g; it has 2, 3 and 4", o->common.bits);
    if (o->grid == GRID_SEQ && levels != 4)
        return lq_fail(LQ_E_OPTION, "stableqat: grid=seq has 2 bits, not %g", o->common.bits);
    if (o->grid == GRID_SEQ && o->init == 2)
        return lq_fail(LQ_E_OPTION, "stableqat: init=lsq is for grid=lsq; take max or mse");
    return LQ_OK;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    const opts *o = options_read;
    const double q_p = (double)(lq_levels_of_bits(o->common.bits) / 2 - 1);
    slot[LQ_STEP_LATENT] = lq_latent_slot(out, in);
    slot[LQ_STEP_ALPHA] = lq_alpha_slot("alpha", out, 1 / sqrt((double)out * (double)in * q_p));
    *n_slots = LQ_STEP_SLOTS;
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)calib;
    (void)rng;
    static const lq_step_start starts[] = {LQ_STEP_FROM_MAX, LQ_STEP_FROM_MSE, LQ_STEP_FROM_LSQ};
    const opts *o = th->opts;
    return lq_step_init(th, starts[o->init], w, scratch);
}

const lq_method lq_method_stableqat = {
    .name = "stableqat",
    .source = "StableQAT, arXiv:2601.19320, and microsoft/StableQAT 68a6572 models/utils_quant.py "
              "(the regular path); what is ours: docs/decisions/0062",
    .family = LQ_FAMILY_SCALAR,
    .needs = LQ_TRAINS,
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
