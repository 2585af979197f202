/* OmniQuant's learnable weight clipping: the range of each group's min-max grid shrinks by two learned
 * factors, tuned block by block; the weight itself is frozen. With Q = 2^bits - 1:
 *
 *     hi = sigmoid(gamma_hi) max w,  lo = sigmoid(gamma_lo) min w,  s = clip((hi - lo) / Q, 1e-5, 1e4)
 *     z = rint(-lo / s),   What = s (clip(rint(w / s) + z, 0, Q) - z)
 *
 * What backward says, with u = w / s and p = rint(u) + z (z is rounded without a gradient of its own):
 *     dWhat/ds = rint(u) - u where 0 <= p <= Q, -z below, Q - z above;  0 where the clip of s is active
 *     dL/dgamma_hi = dL/ds max(w) / Q sigmoid'(gamma_hi),  dL/dgamma_lo = -dL/ds min(w) / Q sigmoid'(gamma_lo)
 *
 * Where we differ (docs/decisions/0050): the step is an fp16 number, z stays a code. */
#include "core/quant/tuned_grid.h"

#include <math.h>
#include <string.h>

extern const lq_method lq_method_omniquant;

enum { HI = LQ_TUNED_SLOTS, LO };

typedef struct opts {
    lq_common_opts common;
    size_t group;
    double start;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"group", LQ_OPTION_SIZE, offsetof(opts, group), 128, 0, 1 << 20, NULL,
     "weights of a row that share a step; 0: the whole row; the last group may be shorter"},
    {"start", LQ_OPTION_REAL, offsetof(opts, start), 4, -10, 20, NULL,
     "first gamma: sigmoid(4) = 0.982 of the extremes"},
};

static lq_grid_rule rule_of(const void *options_read)
{
    const opts *o = options_read;
    return (lq_grid_rule){.scheme = LQ_GRID_ASYM_RANGE,
                          .q_max = (int)lq_levels_of_bits(o->common.bits) - 1,
                          .group = o->group};
}

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    if (lq_levels_of_bits(o->common.bits) < 4)
        return lq_fail(LQ_E_OPTION, "omniquant: bits = %g; it has 2, 3, 4 and 8", o->common.bits);
    return LQ_OK;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    lq_grid_rule rule = rule_of(options_read);
    lq_tuned_layout(&rule, out, in, slot);
    slot[HI] = (lq_slot){.name = "gamma_hi",
                         .kind = LQ_KIND_CONTINUOUS,
                         .rows = out,
                         .cols = lq_grid_groups(&rule, in),
                         .grad_scale = 1};
    slot[LO] = slot[HI];
    slot[LO].name = "gamma_lo";
    *n_slots = LO + 1;
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)calib;
    (void)rng;
    (void)scratch;
    const opts *o = th->opts;
    LQ_TRY(lq_check_finite("omniquant", w, th->out, th->in));
    memcpy(th->data[LQ_TUNED_WEIGHT], w, th->out * th->in * sizeof *w);
    for (size_t i = 0; i < th->slot[HI].rows * th->slot[HI].cols; i++)
        ((float *)th->data[HI])[i] = ((float *)th->data[LO])[i] = (float)o->start;
    return LQ_OK;
}

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

typedef struct range { /* of one group */
    float max, min, hi, lo;
    float step; /* clipped to 1e-5 .. 1e4, not yet fp16 */
    bool clipped;
} range;

static range range_of(const lq_theta *th, const lq_grid_rule *rule, size_t row, size_t group)
{
    const size_t at = row * th->slot[HI].cols + group;
    range r;
    lq_tuned_extremes(th, rule, row, group, &r.min, &r.max);
    r.hi = sigmoid(((const float *)th->data[HI])[at]) * r.max;
    r.lo = sigmoid(((const float *)th->data[LO])[at]) * r.min;
    const float step = (r.hi - r.lo) / (float)rule->q_max;
    r.clipped = step < 1e-5f || step > 1e4f;
    r.step = step < 1e-5f ? 1e-5f : step > 1e4f ? 1e4f : step; /* a NaN stays one */
    return r;
}

static lq_grid grid_of(const lq_theta *th, size_t row, size_t group)
{
    lq_grid grid;
    if (lq_tuned_settled(th, row, group, &grid))
        return grid;
    const lq_grid_rule rule = rule_of(th->opts);
    const range r = range_of(th, &rule, row, group);
    grid.step = lq_grid_round_step(r.step);
    const float zero = rintf(-r.lo / grid.step), top = (float)rule.q_max;
    grid.zero = zero > 0 ? (zero < top ? zero : top) : 0;
    return grid;
}

static int code_of(const lq_theta *th, lq_grid grid, size_t row, size_t column)
{
    const opts *o = th->opts;
    const int q_max = (int)lq_levels_of_bits(o->common.bits) - 1;
    return lq_grid_code(grid, q_max,
                        ((const float *)th->data[LQ_TUNED_WEIGHT])[row * th->in + column]);
}

static const lq_tuned_map map = {rule_of, grid_of, code_of};
/* dL/ds of one group. */
static double step_gradient(const lq_theta *th, const lq_grid_rule *rule, lq_grid grid, size_t row,
                            size_t group, const float *dw_eff)
{
    const float *w = th->data[LQ_TUNED_WEIGHT];
    const float top = (float)rule->q_max;
    double sum = 0;
    size_t j, end;
    lq_grid_span(rule, th->in, group, &j, &end);
    for (j += row * th->in, end += row * th->in; j < end; j++) {
        const float u = w[j] / grid.step, p = rintf(u) + grid.zero;
        const float slope = p < 0 ? -grid.zero : p > top ? top - grid.zero : rintf(u) - u;
        sum += (double)dw_eff[j] * (double)slope;
    }
    return sum;
}

static void backward(const lq_theta *th, const float *dw_eff, float *const *grad, lq_arena *scratch)
{
    (void)scratch;
    const lq_grid_rule rule = rule_of(th->opts);
    const size_t groups = th->slot[HI].cols;
    for (size_t at = 0; at < th->out * groups; at++) {
        const range r = range_of(th, &rule, at / groups, at % groups);
        if (r.clipped || (grad[HI] == NULL && grad[LO] == NULL))
            continue;
        const lq_grid grid = grid_of(th, at / groups, at % groups);
        const double ds = step_gradient(th, &rule, grid, at / groups, at % groups, dw_eff);
        const double share = ds / (double)rule.q_max;
        const float hi = sigmoid(((const float *)th->data[HI])[at]);
        const float lo = sigmoid(((const float *)th->data[LO])[at]);
        if (grad[HI] != NULL)
            grad[HI][at] += (float)(share * (double)(r.max * hi * (1 - hi)));
        if (grad[LO] != NULL)
            grad[LO][at] -= (float)(share * (double)(r.min * lo * (1 - lo)));
    }
}

/* Rounding adds at `at` what it added at `base`: of u to its level, of the step to fp16; z stands still. */
static void surrogate(const lq_theta *at, const lq_theta *base, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    const lq_grid_rule rule = rule_of(base->opts);
    const float *w = base->data[LQ_TUNED_WEIGHT], top = (float)rule.q_max;
    for (size_t i = 0; i < base->out; i++)
        for (size_t g = 0; g < base->slot[HI].cols; g++) {
            const lq_grid grid = grid_of(base, i, g);
            const double step = (double)grid.step + (double)range_of(at, &rule, i, g).step -
                                (double)range_of(base, &rule, i, g).step;
            size_t j, end;
            lq_grid_span(&rule, base->in, g, &j, &end);
            for (j += i * base->in, end += i * base->in; j < end; j++) {
                const float u = w[j] / grid.step, p = rintf(u) + grid.zero;
                const float level = p < 0 ? 0 : p > top ? top : p;
                w_eff[j] = p < 0 || p > top
                               ? (float)(step * (double)(level - grid.zero))
                               : (float)((double)w[j] + step * ((double)rintf(u) -
                                                                (double)w[j] / (double)grid.step));
            }
        }
}

/* 128 sequences one by one, 40 times at 2 bits and 20 times above; every 2-bit script has --aug_loss. */
static const char *blockwise(const void *options_read)
{
    const opts *o = options_read;
    return o->common.bits < 3 ? "iterations=5120 batch=1 feed=quant target=both slots=scales "
                                "norms=false lr_scales=0.01 keep=last"
                              : "iterations=2560 batch=1 feed=quant target=model slots=scales "
                                "norms=false lr_scales=0.01 keep=last";
}

const lq_method lq_method_omniquant = {
    .name = "omniquant",
    .source =
        "OmniQuant, arXiv:2308.13137, and OpenGVLab/OmniQuant 95fae1b quantize/quantizer.py: "
        "learnable weight clipping, the weight-only recipe (--lwc); docs/decisions/0050, 0052",
    .family = LQ_FAMILY_SCALAR,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .opts_bytes = sizeof(opts),
    .check = check,
    .layout = layout,
    .init = init,
    .blockwise = blockwise,
    .effective = lq_tuned_effective,
    .backward = backward,
    .pack = lq_tuned_pack,
    .unpack = lq_tuned_unpack,
    .surrogate = surrogate,
    .tuned_map = &map,
};
