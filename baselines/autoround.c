/* AutoRound (SignRound): the rounding of each weight and the range of each group are moved by the sign of
 * the gradient of the block's error; the weight itself is frozen. With Q = 2^bits - 1 and half = 2^(bits-1),
 * V (out,in) from 0, a_hi and a_lo (out,groups) from 1 and kept within [0,1]:
 *
 *     asym   hi = a_hi max(0, max w),  lo = a_lo min(0, min w),  s = max((hi - lo) / Q, 1e-5),  z = rint(-lo / s)
 *     sym    s = M / half with the sign that gives the larger of a_hi max w, -a_lo min w the code -half;  z = half
 *            sym_search: s = a_hi s0, s0 the step of least error, weighed by E[x_j^2]
 *     What = s (clip(rint(w / s + V) + z, 0, Q) - z)
 *
 * What backward says, every rint taken as the identity (z's, too), p = rint(w / s + V) + z, c = clip(p):
 *     dWhat/dV  = s where 0 <= p <= Q, else 0
 *     dWhat/ds  = (c - z) - w / s inside,  (c - z) - lo / s outside (asym: through z),  c - z outside (sym)
 *     dWhat/dlo = 1 outside (asym: through z), besides ds/dhi = 1/Q, ds/dlo = -1/Q
 * The step is an fp16 number, here as in the released code; docs/decisions/0050. */
#include "core/quant/tuned_grid.h"

#include <math.h>
#include <string.h>

extern const lq_method lq_method_autoround;

enum { V = LQ_TUNED_SLOTS, HI, LO }; /* LO: s0 with sym_search */
enum { SCHEME_ASYM, SCHEME_SYM, SCHEME_SYM_SEARCH };
static const float least_step = 1e-5f;

typedef struct opts {
    lq_common_opts common;
    size_t group;
    int scheme, recipe;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"group", LQ_OPTION_SIZE, offsetof(opts, group), 128, 0, 1 << 20, NULL,
     "weights of a row that share a step; 0: the whole row; the last group may be shorter"},
    {"scheme", LQ_OPTION_CHOICE, offsetof(opts, scheme), SCHEME_ASYM, 0, 0, "asym|sym|sym_search",
     "min-max grid with an integer zero, the full-range symmetric one, or that with searched first "
     "steps (the 2-bit extension)"},
    {"recipe", LQ_OPTION_CHOICE, offsetof(opts, recipe), 0, 0, 0, "default|best",
     "200 or 1000 steps a block; up to 3 bits the latter reach twice as far"},
};

static lq_grid_rule rule_of(const void *options_read)
{
    const opts *o = options_read;
    return (lq_grid_rule){.scheme = o->scheme == SCHEME_ASYM ? LQ_GRID_ASYM : LQ_GRID_FULLRANGE,
                          .q_max = (int)lq_levels_of_bits(o->common.bits) - 1,
                          .group = o->group};
}

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    if (lq_levels_of_bits(o->common.bits) < 4)
        return lq_fail(LQ_E_OPTION, "autoround: bits = %g; it has 2, 3, 4 and 8", o->common.bits);
    return LQ_OK;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    const opts *o = options_read;
    lq_grid_rule rule = rule_of(o);
    lq_tuned_layout(&rule, out, in, slot);
    slot[V] = (lq_slot){
        .name = "v", .kind = LQ_KIND_CONTINUOUS, .rows = out, .cols = in, .grad_scale = 1};
    slot[HI] = (lq_slot){.name = "a_hi",
                         .kind = LQ_KIND_CONTINUOUS,
                         .rows = out,
                         .cols = lq_grid_groups(&rule, in),
                         .grad_scale = 1,
                         .highest = 1};
    slot[LO] = slot[HI];
    slot[LO].name = "a_lo";
    *n_slots = LO + 1;
    if (o->scheme ==
        SCHEME_SYM_SEARCH) { /* there s0 takes the place of a_lo, which would move nothing */
        slot[LO].name = "start";
        slot[LO].kind = LQ_KIND_FIXED;
    }
    return LQ_OK;
}

/* sum importance_j (What_j - w_j)^2 of n weights coded with step 1 / inverse. */
static double weighted_error(const float *w, size_t n, const double *gram, size_t in, size_t first,
                             float inverse, float half)
{
    const float step = inverse == 0 ? 0 : 1 / inverse;
    double sum = 0;
    for (size_t j = 0; j < n; j++) {
        float code = rintf(inverse * w[j]);
        code = code < -half ? -half : code > half - 1 ? half - 1 : code;
        const double off = (double)step * (double)code - (double)w[j];
        sum += gram[(first + j) * (in + 1)] * off * off;
    }
    return sum;
}

/* The signed step of least weighted error: inverse steps -(half - k / 100) / extreme, k = -90..90, of
 * which k = 0, the plain full-range step, is tried first and only a smaller error replaces it. */
static float search_step(const float *w, size_t n, const double *gram, size_t in, size_t first,
                         float half)
{
    float extreme = 0;
    for (size_t j = 0; j < n; j++)
        extreme = fabsf(w[j]) > fabsf(extreme) ? w[j] : extreme;
    if (extreme == 0)
        return least_step;
    float best = -half / extreme;
    double least = weighted_error(w, n, gram, in, first, best, half);
    for (int k = -90; k <= 90; k++) {
        const float inverse = -(half - 0.01f * (float)k) / extreme;
        const double error = weighted_error(w, n, gram, in, first, inverse, half);
        if (error < least) {
            least = error;
            best = inverse;
        }
    }
    return 1 / best;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)rng;
    (void)scratch;
    const opts *o = th->opts;
    const lq_grid_rule rule = rule_of(o);
    const size_t groups = th->slot[HI].cols;
    LQ_TRY(lq_check_finite("autoround", w, th->out, th->in));
    if (o->scheme == SCHEME_SYM_SEARCH && (calib == NULL || calib->gram == NULL))
        return lq_fail(LQ_E_MISSING, "autoround: sym_search needs the gram of the layer's inputs");
    memcpy(th->data[LQ_TUNED_WEIGHT], w, th->out * th->in * sizeof *w);
    for (size_t at = 0; at < th->out * groups; at++) {
        float *lo = (float *)th->data[LO] + at;
        size_t first, end;
        lq_grid_span(&rule, th->in, at % groups, &first, &end);
        ((float *)th->data[HI])[at] = *lo = 1;
        if (o->scheme == SCHEME_SYM_SEARCH)
            *lo = search_step(w + at / groups * th->in + first, end - first, calib->gram, th->in,
                              first, (float)((rule.q_max + 1) / 2));
    }
    return LQ_OK;
}

typedef struct range { /* of one group */
    float max, min;    /* 0 among them */
    float lo;          /* asym */
    float step;        /* not yet fp16 */
    float dhi, dlo;    /* ds/da_hi, ds/da_lo */
} range;

static range sym_range(const opts *o, range r, float a_hi, float a_lo)
{
    const float half = (float)(lq_levels_of_bits(o->common.bits) / 2);
    if (o->scheme == SCHEME_SYM_SEARCH) { /* a_lo is s0 */
        r.step = a_hi * a_lo;
        r.dhi = a_lo;
    } else if (a_hi * r.max >= -a_lo * r.min) {
        r.step = -a_hi * r.max / half;
        r.dhi = -r.max / half;
    } else {
        r.step = -a_lo * r.min / half;
        r.dlo = -r.min / half;
    }
    if (fabsf(r.step) < least_step) {
        r.step = copysignf(least_step, r.step);
        r.dhi = r.dlo = 0;
    }
    return r;
}

static range range_of(const lq_theta *th, const lq_grid_rule *rule, size_t row, size_t group)
{
    const size_t at = row * th->slot[HI].cols + group;
    const float a_hi = ((const float *)th->data[HI])[at], a_lo = ((const float *)th->data[LO])[at];
    range r = {0};
    lq_tuned_extremes(th, rule, row, group, &r.min, &r.max);
    r.max = r.max > 0 ? r.max : 0;
    r.min = r.min < 0 ? r.min : 0;
    if (rule->scheme == LQ_GRID_FULLRANGE)
        return sym_range(th->opts, r, a_hi, a_lo);
    const float top = (float)rule->q_max;
    r.lo = a_lo * r.min;
    r.step = (a_hi * r.max - r.lo) / top;
    r.dhi = r.max / top;
    r.dlo = -r.min / top;
    if (r.step < least_step) {
        r.step = least_step;
        r.dhi = r.dlo = 0;
    }
    return r;
}

static lq_grid grid_of_range(const lq_grid_rule *rule, const range *r)
{
    lq_grid grid = {.step = lq_grid_round_step(r->step), .zero = (float)((rule->q_max + 1) / 2)};
    if (rule->scheme == LQ_GRID_FULLRANGE)
        return grid;
    const float zero = rintf(-r->lo / grid.step), top = (float)rule->q_max;
    grid.zero = zero > 0 ? (zero < top ? zero : top) : 0; /* only fp16's rounding can leave 0..Q */
    return grid;
}

static lq_grid grid_of(const lq_theta *th, size_t row, size_t group)
{
    lq_grid grid;
    if (lq_tuned_settled(th, row, group, &grid))
        return grid;
    const lq_grid_rule rule = rule_of(th->opts);
    const range r = range_of(th, &rule, row, group);
    return grid_of_range(&rule, &r);
}

/* p, before it is clipped to a code. */
static float place_of(const lq_theta *th, lq_grid grid, size_t at)
{
    return rintf(((const float *)th->data[LQ_TUNED_WEIGHT])[at] / grid.step +
                 ((const float *)th->data[V])[at]) +
           grid.zero;
}

static int code_of(const lq_theta *th, lq_grid grid, size_t row, size_t column)
{
    const opts *o = th->opts;
    const float top = (float)(lq_levels_of_bits(o->common.bits) - 1);
    const float p = place_of(th, grid, row * th->in + column);
    return p > 0 ? (int)(p < top ? p : top) : 0;
}

static const lq_tuned_map map = {rule_of, grid_of, code_of};
typedef struct sums { /* over a group: dL/ds, and what reaches lo through z */
    double step, beyond;
} sums;

static sums group_gradient(const lq_theta *th, const lq_grid_rule *rule, const range *r, size_t row,
                           size_t group, const float *dw_eff, float *dv)
{
    const lq_grid grid = grid_of_range(rule, r);
    const float *w = th->data[LQ_TUNED_WEIGHT], top = (float)rule->q_max;
    const bool asym = rule->scheme != LQ_GRID_FULLRANGE;
    sums sum = {0};
    size_t j, end;
    lq_grid_span(rule, th->in, group, &j, &end);
    for (j += row * th->in, end += row * th->in; j < end; j++) {
        const float p = place_of(th, grid, j), c = p < 0 ? 0 : p > top ? top : p;
        const bool inside = p >= 0 && p <= top;
        const float through = inside ? w[j] / grid.step : asym ? r->lo / grid.step : 0;
        sum.step += (double)dw_eff[j] * (double)(c - grid.zero - through);
        sum.beyond += inside || !asym ? 0 : (double)dw_eff[j];
        if (dv != NULL && inside)
            dv[j] += dw_eff[j] * grid.step;
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
        const sums sum = group_gradient(th, &rule, &r, at / groups, at % groups, dw_eff, grad[V]);
        if (grad[HI] != NULL)
            grad[HI][at] += (float)(sum.step * (double)r.dhi);
        if (grad[LO] != NULL)
            grad[LO][at] += (float)(sum.step * (double)r.dlo + sum.beyond * (double)r.min);
    }
}

/* Every rounding adds at `at` what it added at `base`. */
static void surrogate(const lq_theta *at, const lq_theta *base, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    const lq_grid_rule rule = rule_of(base->opts);
    const float *w = base->data[LQ_TUNED_WEIGHT], top = (float)rule.q_max;
    const size_t groups = base->slot[HI].cols;
    for (size_t k = 0; k < base->out * groups; k++) {
        const range r = range_of(base, &rule, k / groups, k % groups);
        const range moved = range_of(at, &rule, k / groups, k % groups);
        const lq_grid grid = grid_of_range(&rule, &r);
        const double s = (double)grid.step, step = s + (double)moved.step - (double)r.step;
        const double z = (double)grid.zero - (double)moved.lo / step + (double)r.lo / s;
        size_t j, end;
        lq_grid_span(&rule, base->in, k % groups, &j, &end);
        for (j += k / groups * base->in, end += k / groups * base->in; j < end; j++) {
            const float p = place_of(base, grid, j);
            const double dv =
                (double)((const float *)at->data[V])[j] - (double)((const float *)base->data[V])[j];
            const double turned = (double)w[j] / step - (double)w[j] / s + dv;
            const double c = p < 0     ? 0
                             : p > top ? (double)top
                                       : (double)p + turned + z - (double)grid.zero;
            w_eff[j] = (float)(step * (c - z));
        }
    }
}

/* Rates are 1/steps and fall linearly to 0: a value gets 0.5 far, or 1 with `best` up to 3 bits. */
static const char *blockwise(const void *options_read)
{
    const opts *o = options_read;
#define SHARED                                                                      \
    " batch=8 feed=quant slots=all norms=false optimizer=sign_sgd schedule=linear " \
    "lr_unit=stage keep=best_step"
    if (o->recipe == 0)
        return "iterations=200 lr_latent=1 lr_scales=1" SHARED;
    return o->common.bits <= 3 ? "iterations=1000 lr_latent=2 lr_scales=2" SHARED
                               : "iterations=1000 lr_latent=1 lr_scales=1" SHARED;
#undef SHARED
}

const lq_method lq_method_autoround = {
    .name = "autoround",
    .source =
        "SignRound, arXiv:2309.05516, and intel/auto-round b9f3d00 data_type/int.py, wrapper.py, "
        "alg_ext.py (without its loss mask); docs/decisions/0050, 0052",
    .family = LQ_FAMILY_SCALAR,
    .needs = LQ_NEEDS_GRAM,
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
