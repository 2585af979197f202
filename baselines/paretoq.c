/* ParetoQ: quantization-aware training with one learned step a row and a grid that fits the level count.
 * With alpha = max(slot alpha, 1e-5) and u = w / alpha:
 *
 *     bits  w_eff                                                     levels / alpha
 *     1     alpha sign(w)                                             -1, 1 (0 only at w = 0)
 *     1.58  alpha rint(1.5 clip(u, +-0.99)) / 1.5                     -2/3, 0, 2/3
 *     2     alpha (rint(2 clip(u, +-0.99) - 0.5) + 0.5) / 2           -3/4, -1/4, 1/4, 3/4
 *     3, 4  alpha clip(rint(u), -2^(bits-1), 2^(bits-1) - 1)          LSQ: alpha is the step
 *
 * Only the slots "latent" (out,in) and "alpha" (out,1) exist; both train, at one rate. The grids and their
 * gradients are those of core/quant/step.h. */
#include "core/quant/step.h"

#include <math.h>

extern const lq_method lq_method_paretoq;

enum { INIT_MAX, INIT_MSE };
enum { SLOPE_CODE, SLOPE_EXACT };

typedef struct opts {
    lq_common_opts common;
    int init, ternary_grad;
    double alpha_lr;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"init", LQ_OPTION_CHOICE, offsetof(opts, init), INIT_MAX, 0, 0, "max|mse",
     "first alpha of a row: the published rule, or the one of least squared error (ours)"},
    {"ternary_grad", LQ_OPTION_CHOICE, offsetof(opts, ternary_grad), SLOPE_CODE, 0, 0, "code|exact",
     "slope of a clipped ternary weight in alpha: 1 as released, or the true 2/3"},
    {"alpha_lr", LQ_OPTION_REAL, offsetof(opts, alpha_lr), 0, 0, 10, NULL,
     "peak learning rate of alpha, in the unit of the weights; 0: the run's"},
};

static lq_step_grid grid_of(const void *options_read)
{
    const opts *o = options_read;
    size_t levels = lq_levels_of_bits(o->common.bits);
    if (levels == 2)
        return lq_step_sign();
    if (levels > 4)
        return lq_step_integer(levels);
    lq_step_grid g = lq_step_stretched(levels);
    if (levels == 3 && o->ternary_grad == SLOPE_CODE) {
        g.below = -1;
        g.above = 1;
    }
    return g;
}

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    size_t levels = lq_levels_of_bits(o->common.bits);
    if (levels == 0 || levels == 256)
        return lq_fail(LQ_E_OPTION, "paretoq: bits = %g; it has 1, 1.58, 2, 3 and 4",
                       o->common.bits);
    return LQ_OK;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    const opts *o = options_read;
    const size_t levels = lq_levels_of_bits(o->common.bits);
    const double q_p = levels > 4 ? (double)(levels / 2 - 1) : 1;
    /* The released code counts the weights of the whole matrix although alpha is one row's
     * (facebookresearch/ParetoQ, models/utils_quant.py). We follow it: docs/decisions/0015. */
    slot[LQ_STEP_LATENT] = lq_latent_slot(out, in);
    slot[LQ_STEP_ALPHA] = lq_alpha_slot("alpha", out, 1 / sqrt((double)out * (double)in * q_p));
    slot[LQ_STEP_ALPHA].lr = o->alpha_lr;
    *n_slots = LQ_STEP_SLOTS;
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)calib;
    (void)rng;
    const opts *o = th->opts;
    lq_step_start start = o->init == INIT_MSE ? LQ_STEP_FROM_MSE : LQ_STEP_FROM_MAX;
    if (grid_of(o).levels == 2)
        start = LQ_STEP_FROM_MEAN; /* the least squared error as well */
    return lq_step_init(th, start, w, scratch);
}

const lq_method lq_method_paretoq = {
    .name = "paretoq",
    .source =
        "ParetoQ, arXiv:2502.02631, and facebookresearch/ParetoQ 655e338 "
        "models/utils_quant.py; where the two differ, and init = mse: docs/decisions/0014-0016",
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
