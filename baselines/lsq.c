/* LSQ: a symmetric integer grid whose step is learned with the weights.
 *
 *     w_eff = s clip(rint(w / s), Qn, Qp),   Qn = -2^(bits-1), Qp = 2^(bits-1) - 1
 *     dw_eff/dw = 1 for Qn <= w/s <= Qp, else 0;  dw_eff/ds = rint(w/s) - w/s there, Qn below, Qp above
 *     ds is scaled by 1 / sqrt(N Qp), N the weights that share the step;  first s = 2 mean|w| / sqrt(Qp)
 *
 * The paper has one step a layer; language models use one a row, which is the default here. */
#include "core/quant/step.h"

#include <math.h>

extern const lq_method lq_method_lsq;

enum { SHARE_ROW, SHARE_MATRIX };
enum { COUNT_SHARED, COUNT_MATRIX };
enum { GATE_CLOSED, GATE_OPEN };

typedef struct opts {
    lq_common_opts common;
    int share, init, count, gate;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"share", LQ_OPTION_CHOICE, offsetof(opts, share), SHARE_ROW, 0, 0, "row|matrix",
     "weights that share a step: a row, or all, as in the paper"},
    {"init", LQ_OPTION_CHOICE, offsetof(opts, init), 0, 0, 0, "paper|mse|max",
     "first step: 2 mean|w| / sqrt(Qp), the one of least squared error (ours), or max|w| / Qp"},
    {"count", LQ_OPTION_CHOICE, offsetof(opts, count), COUNT_SHARED, 0, 0, "shared|matrix",
     "N of the gradient scale: the weights that share the step, or the matrix's (as ParetoQ)"},
    {"gate", LQ_OPTION_CHOICE, offsetof(opts, gate), GATE_CLOSED, 0, 0, "closed|open",
     "does a weight on an outer level still move, as in released code, or not, as in the paper"},
};

static lq_step_grid grid_of(const void *options_read)
{
    const opts *o = options_read;
    lq_step_grid g = lq_step_integer(lq_levels_of_bits(o->common.bits));
    if (o->gate == GATE_OPEN)
        lq_step_open_gate(&g);
    return g;
}

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    size_t levels = lq_levels_of_bits(o->common.bits);
    if (levels < 4 || levels > 16)
        return lq_fail(LQ_E_OPTION, "lsq: bits = %g; it has 2, 3 and 4", o->common.bits);
    return LQ_OK;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    const opts *o = options_read;
    const size_t steps = o->share == SHARE_ROW ? out : 1;
    const size_t counted = o->count == COUNT_SHARED ? out * in / steps : out * in;
    const double q_p = (double)(lq_levels_of_bits(o->common.bits) / 2 - 1);
    slot[LQ_STEP_LATENT] = lq_latent_slot(out, in);
    slot[LQ_STEP_ALPHA] = lq_alpha_slot("step", steps, 1 / sqrt((double)counted * q_p));
    *n_slots = LQ_STEP_SLOTS;
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)calib;
    (void)rng;
    static const lq_step_start starts[] = {LQ_STEP_FROM_LSQ, LQ_STEP_FROM_MSE, LQ_STEP_FROM_MAX};
    const opts *o = th->opts;
    return lq_step_init(th, starts[o->init], w, scratch);
}

const lq_method lq_method_lsq = {
    .name = "lsq",
    .source = "LSQ, arXiv:1902.08153, eqs. 1-3 and sec. 2.1-2.2; a step a row, as language models "
              "have it, and the closed gate of released code: docs/decisions/0061",
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
