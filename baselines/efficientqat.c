/* EfficientQAT: weights, steps and zeros of each group are trained block by block (Block-AP); then codes and
 * zeros stand still and the steps alone are trained end to end (E2E-QP). Q = 2^bits - 1:
 *
 *     s = clip(step, 1e-4, 1e4),  z = clip(rint(zero), 0, Q),  u = w / s,  p = rint(u) + z
 *     w_eff = s (clip(p, 0, Q) - z)
 *
 *     dw_eff/dw    = 1 for 0 <= p <= Q, else 0: the gate comes after rounding
 *     dw_eff/dstep = rint(u) - u there, -z for p < 0, Q - z for p > Q
 *     dw_eff/dzero = 0 there, -s beyond
 *
 * Rounding and clipping of step and zero pass gradients as they are. In the second stage
 * w_eff = step (code - zero), dw_eff/dstep = code - zero. docs/decisions/0063. */
#include "core/quant/grid.h"
#include "core/quant/step.h"

#include <math.h>
#include <string.h>

extern const lq_method lq_method_efficientqat;

/* Slots. Once FROZEN is 1, LATENT holds codes and ZERO integers. */
enum { LATENT, STEP, ZERO, FROZEN, N_SLOTS };
enum { E2E_STEPS, E2E_ALL };

typedef struct opts {
    lq_common_opts common;
    size_t group;
    int e2e;
    double lr_ratio;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"group", LQ_OPTION_SIZE, offsetof(opts, group), 128, 0, 1 << 20, NULL,
     "weights of a row that share a step; 0: the whole row; the last group may be shorter"},
    {"e2e", LQ_OPTION_CHOICE, offsetof(opts, e2e), E2E_STEPS, 0, 0, "steps|all",
     "what end-to-end training moves: the steps alone (E2E-QP), or weights and zeros too (ours)"},
    {"lr_ratio", LQ_OPTION_REAL, offsetof(opts, lr_ratio), 0, 0, 1000, NULL,
     "with e2e=all: rate of steps and zeros in units of the run's; 0: Block-AP's 5 at 2 bits, 10 "
     "beyond"},
};

static int q_max_of(const opts *o) { return (int)lq_levels_of_bits(o->common.bits) - 1; }

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    if (lq_levels_of_bits(o->common.bits) < 4)
        return lq_fail(LQ_E_OPTION, "efficientqat: bits = %g; it has 2, 3, 4 and 8",
                       o->common.bits);
    return LQ_OK;
}

static double lr_ratio_of(const opts *o)
{
    if (o->lr_ratio > 0)
        return o->lr_ratio;
    return q_max_of(o) == 3 ? 5 : 10; /* 1e-4 over 2e-5, and over 1e-5 */
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    const opts *o = options_read;
    const size_t groups = lq_grid_groups(&(lq_grid_rule){.group = o->group}, in);
    slot[LATENT] = lq_latent_slot(out, in);
    slot[STEP] = lq_alpha_slot("step", out, 1);
    slot[ZERO] = lq_alpha_slot("zero", out, 1);
    slot[STEP].cols = slot[ZERO].cols = groups;
    slot[STEP].lr_scale = slot[ZERO].lr_scale = lr_ratio_of(o);
    slot[FROZEN] =
        (lq_slot){.name = "frozen", .kind = LQ_KIND_FIXED, .rows = 1, .cols = 1, .grad_scale = 1};
    *n_slots = N_SLOTS;
    return LQ_OK;
}

/* ---- groups ---- */

typedef struct group {
    size_t at, n; /* first weight, of (out,in), and how many */
    float step;   /* clipped */
    int zero;
} group;

static bool is_frozen(const lq_theta *th) { return ((const float *)th->data[FROZEN])[0] != 0; }
static size_t n_groups(const lq_theta *th) { return th->slot[STEP].rows * th->slot[STEP].cols; }

static float clip_to(float x, float lo, float hi) { return x < lo ? lo : x > hi ? hi : x; }
/* A NaN becomes a bound: only ->pack has to tell, and it looks first. */
static int zero_of(float zero, int q_max)
{
    const float z = rintf(zero);
    return z > 0 ? (int)clip_to(z, 0, (float)q_max) : 0;
}

/* Group number `index`, row after row. */
static group group_of(const lq_theta *th, size_t index)
{
    const opts *o = th->opts;
    const size_t groups = th->slot[STEP].cols, length = groups == 1 ? th->in : o->group;
    const size_t first = index % groups * length;
    return (group){.at = index / groups * th->in + first,
                   .n = th->in - first < length ? th->in - first : length,
                   .step = clip_to(((const float *)th->data[STEP])[index], 1e-4f, 1e4f),
                   .zero = zero_of(((const float *)th->data[ZERO])[index], q_max_of(o))};
}

/* ---- start ---- */

/* Min-max over the true range: step (hi-lo)/Q, zero -lo/step rounded, not clipped to the codes. */
static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)calib;
    (void)rng;
    (void)scratch;
    float *step = th->data[STEP], *zero = th->data[ZERO];
    LQ_TRY(lq_check_finite("efficientqat", w, th->out, th->in));
    memcpy(th->data[LATENT], w, th->out * th->in * sizeof *w);
    for (size_t i = 0; i < n_groups(th); i++) {
        const group g = group_of(th, i);
        float lo = w[g.at], hi = w[g.at];
        for (size_t j = g.at; j < g.at + g.n; j++) {
            lo = w[j] < lo ? w[j] : lo;
            hi = w[j] > hi ? w[j] : hi;
        }
        step[i] = clip_to((hi - lo) / (float)q_max_of(th->opts), 1e-4f, 1e4f);
        zero[i] = rintf(-clip_to(lo / step[i], -1e4f, 1e4f));
    }
    return LQ_OK;
}

/* Steps become fp16, as the released code packs them between its stages. Codes are those of the steps that
 * were trained. */
static lq_status freeze(lq_theta *th)
{
    float *w = th->data[LATENT], *step = th->data[STEP], *zero = th->data[ZERO];
    LQ_TRY(lq_check_finite("efficientqat: latent", w, th->out, th->in));
    LQ_TRY(lq_check_finite("efficientqat: step", step, th->out, th->slot[STEP].cols));
    LQ_TRY(lq_check_finite("efficientqat: zero", zero, th->out, th->slot[ZERO].cols));
    for (size_t i = 0; i < n_groups(th); i++) {
        const group g = group_of(th, i);
        const lq_step_grid grid = lq_step_affine(q_max_of(th->opts), g.zero);
        step[i] = lq_grid_round_step(g.step); /* 1e4 at most, so finite */
        zero[i] = (float)g.zero;
        for (size_t j = g.at; j < g.at + g.n; j++)
            w[j] = (float)lq_step_code(&grid, w[j], g.step);
    }
    ((float *)th->data[FROZEN])[0] = 1;
    return LQ_OK;
}

/* The engine for blocks names the rates of latents and of the rest, so they are not scaled there; nor are
 * those of E2E-QP, where the steps are all that moves. */
static lq_status begin(lq_theta *th, lq_stage stage, lq_arena *scratch)
{
    (void)scratch;
    const opts *o = th->opts;
    if (stage == LQ_STAGE_END_TO_END && o->e2e == E2E_STEPS && !is_frozen(th))
        LQ_TRY(freeze(th));
    const bool scaled = stage == LQ_STAGE_END_TO_END && !is_frozen(th);
    th->slot[LATENT].train = th->slot[ZERO].train = !is_frozen(th);
    th->slot[STEP].lr_scale = th->slot[ZERO].lr_scale = scaled ? lr_ratio_of(o) : 0;
    return LQ_OK;
}

/* ---- theta -> w_eff and back ---- */

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    const float *w = th->data[LATENT], *step = th->data[STEP], *zero = th->data[ZERO];
    for (size_t i = 0; i < n_groups(th); i++) {
        const group g = group_of(th, i);
        const lq_step_grid grid = lq_step_affine(q_max_of(th->opts), g.zero);
        if (!is_frozen(th))
            lq_step_forward(&grid, w + g.at, g.n, g.step, w_eff + g.at);
        for (size_t j = g.at; j < g.at + g.n && is_frozen(th); j++)
            w_eff[j] = step[i] * (w[j] - zero[i]);
    }
}

/* Sum of dw_eff over the weights of a group that are clipped. */
static double clipped_sum(const lq_step_grid *grid, const float *dw_eff, const float *w, size_t n,
                          float step)
{
    double sum = 0;
    for (size_t j = 0; j < n; j++) {
        const float u = w[j] / step;
        sum += u < grid->gate_lo || u > grid->gate_hi ? (double)dw_eff[j] : 0;
    }
    return sum;
}

static void backward_frozen(const lq_theta *th, const float *dw_eff, float *dstep)
{
    const float *code = th->data[LATENT], *zero = th->data[ZERO];
    for (size_t i = 0; i < n_groups(th) && dstep != NULL; i++) {
        const group g = group_of(th, i);
        double sum = 0;
        for (size_t j = g.at; j < g.at + g.n; j++)
            sum += (double)dw_eff[j] * (double)(code[j] - zero[i]);
        dstep[i] += (float)sum;
    }
}

static void backward(const lq_theta *th, const float *dw_eff, float *const *grad, lq_arena *scratch)
{
    (void)scratch;
    const float *w = th->data[LATENT];
    float *dw = grad[LATENT], *dstep = grad[STEP], *dzero = grad[ZERO];
    if (is_frozen(th)) {
        backward_frozen(th, dw_eff, dstep);
        return;
    }
    for (size_t i = 0; i < n_groups(th); i++) {
        const group g = group_of(th, i);
        const lq_step_grid grid = lq_step_affine(q_max_of(th->opts), g.zero);
        double sum = 0;
        lq_step_backward(&grid, dw_eff + g.at, w + g.at, g.n, g.step, dw != NULL ? dw + g.at : NULL,
                         &sum);
        if (dstep != NULL)
            dstep[i] += (float)sum;
        if (dzero != NULL)
            dzero[i] -=
                (float)((double)g.step * clipped_sum(&grid, dw_eff + g.at, w + g.at, g.n, g.step));
    }
}

/* Rounding at `base` is taken as adding what it added there: inside, w_eff = w + s (rint(u) - u); beyond,
 * w_eff = s (bound - z). Clips and roundings of step and zero likewise. */
static void surrogate(const lq_theta *at, const lq_theta *base, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    const float *w = base->data[LATENT], *moved = at->data[LATENT];
    for (size_t i = 0; i < n_groups(base); i++) {
        const group g = group_of(base, i);
        const lq_step_grid grid = lq_step_affine(q_max_of(base->opts), g.zero);
        const double by = (double)((const float *)at->data[STEP])[i] -
                          (double)((const float *)base->data[STEP])[i];
        const double up = (double)((const float *)at->data[ZERO])[i] -
                          (double)((const float *)base->data[ZERO])[i];
        const double s = (double)g.step + by;
        if (is_frozen(base)) {
            const double step = (double)((const float *)at->data[STEP])[i];
            for (size_t j = g.at; j < g.at + g.n; j++)
                w_eff[j] = (float)(step * (double)(w[j] - (float)g.zero));
            continue;
        }
        for (size_t j = g.at; j < g.at + g.n; j++) {
            const float u = w[j] / g.step;
            const double bound = (double)(u < grid.gate_lo ? grid.below : grid.above);
            const bool inside = grid.gate_lo <= u && u <= grid.gate_hi;
            w_eff[j] = inside ? (float)((double)moved[j] + s * (double)(rintf(u) - u))
                              : (float)(s * (bound - up));
        }
    }
}

/* ---- bytes ---- */

/* Codes, row by row; steps as fp16; zeros as one row of codes: bits + (16 + bits) / group a weight. */
static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    const size_t count = th->out * th->in, groups = n_groups(th);
    lq_theta copy = *th; /* frozen, if th is not: packing changes nothing */
    uint8_t *code;
    float flag = ((const float *)th->data[FROZEN])[0];
    LQ_TRY(lq_check_finite("efficientqat: step", th->data[STEP], th->out, th->slot[STEP].cols));
    for (size_t s = LATENT; s <= ZERO; s++) {
        float *own;
        const size_t n = th->slot[s].rows * th->slot[s].cols;
        LQ_TRY(lq_arena_new(bytes->arena, &own, n));
        memcpy(own, th->data[s], n * sizeof *own);
        copy.data[s] = own;
    }
    copy.data[FROZEN] = &flag;
    if (!is_frozen(&copy))
        LQ_TRY(freeze(&copy));
    float *step = copy.data[STEP];
    for (size_t i = 0; i < groups; i++)
        step[i] = lq_grid_round_step(step[i]); /* keeps a trained step from vanishing */
    LQ_TRY(lq_arena_new(bytes->arena, &code, count + groups));
    for (size_t i = 0; i < count; i++)
        code[i] = (uint8_t)((const float *)copy.data[LATENT])[i];
    for (size_t i = 0; i < groups; i++)
        code[count + i] = (uint8_t)((const float *)copy.data[ZERO])[i];
    const size_t levels = (size_t)q_max_of(th->opts) + 1;
    LQ_TRY(lq_sink_codes(bytes, code, th->out, th->in, levels));
    LQ_TRY(lq_sink_f16(bytes, step, groups));
    return lq_sink_codes(bytes, code + count, 1, groups, levels);
}

static lq_status take_codes(lq_source *bytes, float *x, size_t rows, size_t cols, size_t levels)
{
    lq_arena room = {0};
    uint8_t *code;
    lq_status status = lq_arena_new(&room, &code, rows * cols);
    if (status == LQ_OK)
        status = lq_source_codes(bytes, code, rows, cols, levels);
    for (size_t i = 0; i < rows * cols && status == LQ_OK; i++)
        x[i] = (float)code[i];
    lq_arena_close(&room);
    return status;
}

/* A step may have been trained below 0; none is 0. */
static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    const size_t levels = (size_t)q_max_of(th->opts) + 1, groups = n_groups(th);
    const float *step = th->data[STEP];
    LQ_TRY(take_codes(bytes, th->data[LATENT], th->out, th->in, levels));
    LQ_TRY(lq_source_f16(bytes, th->data[STEP], groups));
    for (size_t i = 0; i < groups; i++)
        if (step[i] == 0.0f)
            return lq_fail(LQ_E_FORMAT, "%s: step %zu is 0", bytes->where, i);
    ((float *)th->data[FROZEN])[0] = 1;
    return take_codes(bytes, th->data[ZERO], 1, groups, levels);
}

const lq_method lq_method_efficientqat = {
    .name = "efficientqat",
    .source = "EfficientQAT, arXiv:2407.11062, and OpenGVLab/EfficientQAT 78fd3fb "
              "quantize/quantizer.py, block_ap.py, int_linear_real.py; docs/decisions/0063",
    .family = LQ_FAMILY_SCALAR,
    .needs = LQ_TRAINS,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .opts_bytes = sizeof(opts),
    .check = check,
    .layout = layout,
    .init = init,
    .begin = begin,
    .effective = effective,
    .backward = backward,
    .pack = pack,
    .unpack = unpack,
    .surrogate = surrogate,
};
