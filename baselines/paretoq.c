/* ParetoQ: quantization-aware training with one learned step a row and a grid that fits the level count.
 * With alpha = max(slot alpha, 1e-5) and u = w / alpha:
 *
 *     bits  w_eff                                                     levels / alpha
 *     1     alpha sign(w)                                             -1, 1 (0 only at w = 0)
 *     1.58  alpha rint(1.5 clip(u, +-0.99)) / 1.5                     -2/3, 0, 2/3
 *     2     alpha (rint(2 clip(u, +-0.99) - 0.5) + 0.5) / 2           -3/4, -1/4, 1/4, 3/4
 *     3, 4  alpha clip(rint(u), -2^(bits-1), 2^(bits-1) - 1)          LSQ: alpha is the step
 *
 * Only the slots "latent" (out,in) and "alpha" (out,1) exist; both train. */
#include "core/math/kernels.h"
#include "core/quant/method.h"

#include "core/data/safetensors.h"

#include <math.h>

extern const lq_method lq_method_paretoq;

enum { LATENT, ALPHA }; /* slots */
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

/* Everything but the one-bit sign is one formula (seq_fwd in core/math/kernels.h) with these numbers. */
typedef struct grid {
    size_t levels;      /* 2: the sign */
    float lo, hi;       /* clip of u, and the gate of the gradient, both inclusive */
    float scale, shift; /* q = (rint(scale u - shift) + shift) / scale */
    float below, above; /* d w_eff / d alpha of a clipped weight */
    float top;          /* largest level / alpha */
    int first;          /* rint(scale u - shift) of code 0 */
    double q_p;         /* Qp' of the gradient scale */
} grid;

static grid grid_of(const opts *o)
{
    size_t levels = lq_levels_of_bits(o->common.bits);
    if (levels == 2)
        return (grid){2, -1, 1, 0, 0, -1, 1, 1, 0, 1};
    if (levels == 3) {
        float slope = o->ternary_grad == SLOPE_EXACT ? 2.0f / 3.0f : 1.0f;
        return (grid){3, -0.99f, 0.99f, 1.5f, 0, -slope, slope, 2.0f / 3.0f, -1, 1};
    }
    if (levels == 4)
        return (grid){4, -0.99f, 0.99f, 2, 0.5f, -0.75f, 0.75f, 0.75f, -2, 1};
    int half = (int)levels / 2;
    float lo = (float)-half, hi = (float)(half - 1);
    return (grid){levels, lo, hi, 1, 0, lo, hi, hi, -half, half - 1};
}

static float floored(float alpha) { return alpha < 1e-5f ? 1e-5f : alpha; /* a NaN stays one */ }

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
    slot[LATENT] = (lq_slot){.name = "latent",
                             .kind = LQ_KIND_CONTINUOUS,
                             .rows = out,
                             .cols = in,
                             .train = true,
                             .grad_scale = 1};
    /* The released code counts the weights of the whole matrix although alpha is one row's
     * (facebookresearch/ParetoQ, models/utils_quant.py). We follow it: docs/decisions/0015. */
    slot[ALPHA] = (lq_slot){.name = "alpha",
                            .kind = LQ_KIND_CONTINUOUS,
                            .rows = out,
                            .cols = 1,
                            .train = true,
                            .grad_scale = 1 / sqrt((double)out * (double)in * grid_of(o).q_p),
                            .lr = o->alpha_lr};
    *n_slots = 2;
    return LQ_OK;
}

static void effective_row(const grid *g, const float *w, size_t n, float alpha, float *w_eff)
{
    if (g->levels > 2) {
        lq_kernels()->seq_fwd(w_eff, w, n, alpha, g->lo, g->hi, g->scale, g->shift);
        return;
    }
    for (size_t j = 0; j < n; j++)
        w_eff[j] = fabsf(w[j]) > 0 ? copysignf(alpha, w[j]) : w[j]; /* a zero and a NaN stay */
}

/* Squared error of a row under alpha, and the alpha of least error for the codes alpha chose. */
static double row_error(const grid *g, const float *w, size_t n, float alpha, float *w_eff,
                        float *better)
{
    double error = 0, across = 0, along = 0;
    effective_row(g, w, n, alpha, w_eff);
    for (size_t j = 0; j < n; j++) {
        double e = (double)w_eff[j] - (double)w[j];
        error += e * e;
        across += (double)w[j] * (double)w_eff[j];
        along += (double)w_eff[j] * (double)w_eff[j];
    }
    *better = along > 0 ? (float)((double)alpha * across / along) : alpha;
    return error;
}

typedef struct search { /* for the alpha of least error of one row */
    const grid *g;
    const float *w;
    size_t n;
    float *scratch;   /* (n) */
    float best, next; /* the best alpha so far, and the best one for its codes */
    double least;     /* squared error of best */
} search;

static bool improves(search *s, double alpha)
{
    float better, tried = floored((float)alpha);
    double error = row_error(s->g, s->w, s->n, tried, s->scratch, &better);
    if (!(error < s->least))
        return false;
    s->best = tried;
    s->next = better;
    s->least = error;
    return true;
}

/* The error as a function of alpha has many shallow minima, so: the best of 81 alphas, 9 % apart, from
 * where the outer level meets the largest weight down to 2^-10 of that; of 15 more, 1 % apart, around
 * it; from there, in turn, the best alpha for these codes and the best codes for this alpha, while the
 * error falls. */
static float best_alpha(const grid *g, const float *w, size_t n, float row_max, float *scratch)
{
    search s = {g, w, n, scratch, .best = row_max, .next = row_max, .least = HUGE_VAL};
    for (int k = 0; k <= 80; k++)
        improves(&s, (double)row_max / (double)g->top * exp2(-k / 8.0));
    double middle = (double)s.best;
    for (int k = -7; k <= 7; k++)
        improves(&s, middle * exp2(k / 64.0));
    for (int k = 0; k < 50 && improves(&s, (double)s.next); k++)
        ;
    return s.best;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)calib;
    (void)rng;
    const opts *o = th->opts;
    const grid g = grid_of(o);
    float *latent = th->data[LATENT], *alpha = th->data[ALPHA];
    LQ_TRY(lq_check_finite("paretoq", w, th->out, th->in));
    lq_mark mark = lq_arena_mark(scratch);
    float *row = lq_arena_f32(scratch, th->in);
    for (size_t i = 0; i < th->out; i++, w += th->in, latent += th->in) {
        double sum = 0;
        float top = 0;
        for (size_t j = 0; j < th->in; j++) {
            latent[j] = w[j];
            sum += fabs((double)w[j]);
            top = fabsf(w[j]) > top ? fabsf(w[j]) : top;
        }
        if (g.levels == 2) /* the least squared error as well */
            alpha[i] = (float)(sum / (double)th->in);
        else if (o->init == INIT_MSE && top > 0)
            alpha[i] = best_alpha(&g, w, th->in, top, row);
        else
            alpha[i] = g.levels > 4 ? top / g.hi : top;
    }
    lq_arena_release(scratch, mark);
    return LQ_OK;
}

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    const grid g = grid_of(th->opts);
    const float *latent = th->data[LATENT], *alpha = th->data[ALPHA];
    for (size_t i = 0; i < th->out; i++)
        effective_row(&g, latent + i * th->in, th->in, floored(alpha[i]), w_eff + i * th->in);
}

/* d w_eff / d latent: 1 for lo <= u <= hi, else 0. d w_eff / d alpha: q - u there, the clipped level
 * beyond (1 at ternary, as released); one bit: sign(w) everywhere. The floor of alpha has no gate. */
static void backward_row(const grid *g, const float *dw_eff, const float *w, size_t n, float alpha,
                         float *dlatent, double *dalpha)
{
    if (g->levels > 2) {
        lq_kernels()->seq_bwd(dlatent, dalpha, dw_eff, w, n, alpha, g->lo, g->hi, g->scale,
                              g->shift, g->below, g->above);
        return;
    }
    for (size_t j = 0; j < n; j++)
        *dalpha += fabsf(w[j]) > 0 ? (double)dw_eff[j] * (double)copysignf(1, w[j]) : 0;
    for (size_t j = 0; j < n && dlatent != NULL; j++)
        dlatent[j] += fabsf(w[j] / alpha) <= 1 ? dw_eff[j] : 0.0f;
}

static void backward(const lq_theta *th, const float *dw_eff, float *const *grad, lq_arena *scratch)
{
    (void)scratch;
    const grid g = grid_of(th->opts);
    const float *latent = th->data[LATENT], *alpha = th->data[ALPHA];
    if (grad[LATENT] == NULL && grad[ALPHA] == NULL)
        return;
    for (size_t i = 0; i < th->out; i++) {
        size_t row = i * th->in;
        double dalpha = 0;
        backward_row(&g, dw_eff + row, latent + row, th->in, floored(alpha[i]),
                     grad[LATENT] != NULL ? grad[LATENT] + row : NULL, &dalpha);
        if (grad[ALPHA] != NULL)
            grad[ALPHA][i] += (float)dalpha;
    }
}

/* What ->backward differentiates, told apart from how: rounding is taken as adding the offset that it
 * added at `base`, r = q - u, so inside the gate w = alpha (latent / alpha + r); beyond it the level
 * stands still and w moves with alpha at the slope of the clipped branch. */
static void surrogate(const lq_theta *at, const lq_theta *base, float *w, lq_arena *scratch)
{
    const grid g = grid_of(base->opts);
    const float *latent = base->data[LATENT], *moved = at->data[LATENT];
    effective(base, w, scratch);
    for (size_t i = 0; i < base->out; i++) {
        double alpha = (double)floored(((const float *)base->data[ALPHA])[i]);
        double step = (double)((const float *)at->data[ALPHA])[i] -
                      (double)((const float *)base->data[ALPHA])[i];
        for (size_t j = 0; j < base->in; j++, latent++, moved++, w++) {
            double u = (double)*latent / alpha, q = (double)*w / alpha, at_alpha = alpha + step;
            float gate = *latent / (float)alpha;
            bool inside = g.lo <= gate && gate <= g.hi;
            if (g.levels == 2)
                *w = (float)(at_alpha * q + (inside ? (double)*moved - (double)*latent : 0));
            else if (inside)
                *w = (float)(at_alpha * ((double)*moved / at_alpha + (q - u)));
            else
                *w = (float)((double)*w + step * (double)(gate < g.lo ? g.below : g.above));
        }
    }
}

static uint8_t code_of(const grid *g, float w, float alpha)
{
    if (g->levels == 2)
        return w >= 0; /* a zero has no sign, but its bit needs one */
    float u = w / alpha, c = u < g->lo ? g->lo : u > g->hi ? g->hi : u;
    return (uint8_t)((int)rintf(c * g->scale - g->shift) - g->first);
}

/* Alpha as fp16, then the codes, which are those of the alpha that was trained. */
static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    const grid g = grid_of(th->opts);
    const float *latent = th->data[LATENT], *alpha = th->data[ALPHA];
    uint8_t *codes = lq_arena_alloc(bytes->arena, th->out * th->in);
    float *steps = lq_arena_alloc(bytes->arena, th->out * sizeof *steps);
    if (codes == NULL || steps == NULL)
        return LQ_E_MEMORY;
    LQ_TRY(lq_check_finite("paretoq", latent, th->out, th->in));
    LQ_TRY(lq_check_finite("paretoq: alpha", alpha, th->out, 1));
    for (size_t i = 0; i < th->out; i++) {
        steps[i] = floored(alpha[i]);
        for (size_t j = i * th->in; j < (i + 1) * th->in; j++)
            codes[j] = code_of(&g, latent[j], steps[i]);
    }
    LQ_TRY(lq_sink_f16(bytes, steps, th->out));
    return lq_sink_codes(bytes, codes, th->out, th->in, g.levels);
}

/* The latent becomes the level itself, which codes to itself again. */
static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    const grid g = grid_of(th->opts);
    float *latent = th->data[LATENT], *alpha = th->data[ALPHA];
    LQ_TRY(lq_source_f16(bytes, alpha, th->out));
    for (size_t i = 0; i < th->out; i++)
        if (alpha[i] < 1e-5f)
            return lq_fail(LQ_E_FORMAT, "%s: alpha of row %zu is %g, below its floor", bytes->where,
                           i, (double)alpha[i]);
    lq_arena room = {0};
    uint8_t *code = lq_arena_alloc(&room, th->in);
    lq_status status = code != NULL ? LQ_OK : LQ_E_MEMORY;
    for (size_t i = 0; i < th->out && status == LQ_OK; i++, latent += th->in) {
        status = lq_source_codes(bytes, code, 1, th->in, g.levels);
        for (size_t j = 0; j < th->in && status == LQ_OK; j++) {
            float level = g.levels == 2 ? (float)(2 * code[j] - 1)
                                        : ((float)(code[j] + g.first) + g.shift) / g.scale;
            latent[j] = level * alpha[i];
        }
    }
    lq_arena_close(&room);
    return status;
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
    .effective = effective,
    .backward = backward,
    .pack = pack,
    .unpack = unpack,
    .surrogate = surrogate,
};
