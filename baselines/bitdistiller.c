/* BitDistiller: a latent weight whose groups find their range anew in every step, with gradients through the
 * extremes, from a start whose ranges are clipped on both sides for least output error.
 *
 *     bits 2   lo, hi of the group, s = max(hi - lo, 1e-5) / Q, z = clip(-rint(lo / s), 0, Q), u = w / s
 *              c = clip(round(u) + z, 0, Q),  w_eff = s (c - z);   round: halves go away from zero
 *     bits 3   N2F3: w_eff = |hi| q(w / |hi|) for w >= 0, |lo| q(w / |lo|) below; q: nearest of
 *              -1, -0.535, -0.247, 0, 0.183, 0.382, 0.623, 1
 *
 *     dL/dw_i = dL/dw_eff_i where 0 <= round(u) + z <= Q, else 0 (N2F3: everywhere), and
 *               sum over the group of dL/dw_eff d w_eff/ds, times ds/dhi to the largest weight and
 *               ds/dlo to the smallest, split over equals: d w_eff/ds = c - z - [inside] u (N2F3: q - u)
 *
 * Codes for the zero get no gradient, nor does s at its floor. docs/decisions/0066. */
#include "core/math/gemm.h"
#include "core/quant/grid.h"
#include "core/quant/step.h"

#include <math.h>
#include <string.h>

extern const lq_method lq_method_bitdistiller;

/* Slots. STEP is 0 while ranges are found in the latents; unpacked, STEP and OTHER (the zero, or N2F3's
 * scale of negative weights) are those that shipped and the latents the effective weights themselves. */
enum { LATENT, STEP, OTHER, N_SLOTS };
enum { CLIP_SEARCH, CLIP_NONE };
enum { HALF_AWAY, HALF_EVEN };
enum { N_TRIED = 10 }; /* shrinks of each bound: 0, 1/20, ..., 9/20 */

typedef struct opts {
    lq_common_opts common;
    size_t group;
    int clip, half, three_bits;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"group", LQ_OPTION_SIZE, offsetof(opts, group), 128, 0, 1 << 20, NULL,
     "weights of a row that share a range; 0: the whole row; the last group may be shorter"},
    {"clip", LQ_OPTION_CHOICE, offsetof(opts, clip), CLIP_SEARCH, 0, 0, "search|none",
     "first ranges: clipped on both sides for least output error (not of q and k), or as they are"},
    {"half", LQ_OPTION_CHOICE, offsetof(opts, half), HALF_AWAY, 0, 0, "away|even",
     "where halves are rounded: as the released training, or as its evaluation"},
    {"three_bits", LQ_OPTION_CHOICE, offsetof(opts, three_bits), 0, 0, 0, "n2f3|int",
     "levels at 3 bits: those of a normal source, or integers"},
};

static size_t levels_of(const lq_theta *th)
{
    const opts *o = th->opts;
    return lq_levels_of_bits(o->common.bits);
}
static bool is_n2f3(const opts *o) { return o->common.bits == 3 && o->three_bits == 0; }

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    const size_t levels = lq_levels_of_bits(o->common.bits);
    if (levels != 4 && levels != 8)
        return lq_fail(LQ_E_OPTION, "bitdistiller: bits = %g; it has 2 and 3", o->common.bits);
    return LQ_OK;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    const opts *o = options_read;
    const size_t groups = lq_grid_groups(&(lq_grid_rule){.group = o->group}, in);
    const lq_slot fixed = {
        .name = "step", .kind = LQ_KIND_FIXED, .rows = out, .cols = groups, .grad_scale = 1};
    slot[LATENT] = lq_latent_slot(out, in);
    slot[STEP] = slot[OTHER] = fixed;
    slot[OTHER].name = is_n2f3(o) ? "step_negative" : "zero";
    *n_slots = N_SLOTS;
    return LQ_OK;
}

/* ---- one group ---- */

typedef struct group {
    bool n2f3, away, floored;
    float lo, hi;
    float step;  /* of all weights, or N2F3's of those >= 0 */
    float other; /* zero, or N2F3's step of those < 0 */
    float q_max;
} group;

static const float level[] = {-1,
                              -0.5350227355957031f,
                              -0.2469314038753510f,
                              0,
                              0.1833375245332718f,
                              0.3819939494132996f,
                              0.6229856610298157f,
                              1};
static const float edge[] = {-0.7675113677978516f, -0.39097706973552704f, -0.1234657019376755f,
                             0.0916687622666359f,  0.2826657369732857f,   0.5024898052215576f,
                             0.8114928305149078f};
enum { N_EDGES = sizeof edge / sizeof edge[0] };

static float round_of(const group *g, float u)
{
    return g->away ? copysignf(floorf(fabsf(u) + 0.5f), u) : rintf(u);
}

/* The group of n weights as they are. */
static group group_of(const opts *o, const float *w, size_t n)
{
    group g = {.n2f3 = is_n2f3(o), .away = o->half == HALF_AWAY, .lo = w[0], .hi = w[0]};
    g.q_max = (float)(lq_levels_of_bits(o->common.bits) - 1);
    for (size_t j = 1; j < n; j++) {
        g.lo = w[j] < g.lo ? w[j] : g.lo;
        g.hi = w[j] > g.hi ? w[j] : g.hi;
    }
    if (g.n2f3) {
        g.step = fabsf(g.hi);
        g.other = fabsf(g.lo);
        return g;
    }
    g.floored = !(g.hi - g.lo >= 1e-5f);
    g.step = (g.floored ? 1e-5f : g.hi - g.lo) / g.q_max;
    g.other = -rintf(g.lo / g.step);
    g.other = g.other > 0 ? (g.other > g.q_max ? g.q_max : g.other) : 0; /* -0 is 0 */
    return g;
}

static float scale_of(const group *g, float w) { return g->n2f3 && w < 0 ? g->other : g->step; }

/* w / scale; 0 where the released code has 0 / 0. */
static float units_of(const group *g, float w)
{
    const float scale = scale_of(g, w);
    return scale > 0 ? w / scale : 0;
}

static uint8_t code_of(const group *g, float u)
{
    if (!g->n2f3) {
        const float p = round_of(g, u) + g->other;
        return (uint8_t)(p > 0 ? (p > g->q_max ? g->q_max : p) : 0);
    }
    uint8_t code = 0;
    for (size_t k = 0; k < N_EDGES; k++)
        code = (uint8_t)(code + (u >= edge[k]));
    return code;
}

/* Of a code, in units of its scale. */
static float level_of(const group *g, uint8_t code)
{
    return g->n2f3 ? level[code] : (float)code - g->other;
}

static float value_of(const group *g, uint8_t code)
{
    const float units = level_of(g, code);
    return units * (g->n2f3 && units < 0 ? g->other : g->step);
}

static bool is_inside(const group *g, float u)
{
    const float p = round_of(g, u) + g->other;
    return g->n2f3 || (p >= 0 && p <= g->q_max);
}

static void quantize(const group *g, const float *w, size_t n, float *w_eff)
{
    for (size_t j = 0; j < n; j++)
        w_eff[j] = value_of(g, code_of(g, units_of(g, w[j])));
}

/* ---- walking the groups ---- */

typedef struct place {
    size_t at, n; /* first weight, of (out,in), and how many */
} place;

static size_t n_groups(const lq_theta *th) { return th->slot[STEP].rows * th->slot[STEP].cols; }

static place place_of(const lq_theta *th, size_t index)
{
    const opts *o = th->opts;
    const size_t groups = th->slot[STEP].cols, length = groups == 1 ? th->in : o->group;
    const size_t first = index % groups * length;
    return (place){.at = index / groups * th->in + first,
                   .n = th->in - first < length ? th->in - first : length};
}

static bool is_shipped(const lq_theta *th) { return ((const float *)th->data[STEP])[0] != 0; }

/* ---- start ---- */

typedef struct clipping { /* the search in one column of groups */
    const opts *o;
    size_t out, n;       /* rows, and weights a group */
    const float *w;      /* (out,n) */
    const float *H;      /* (n,n) second moments of their inputs */
    float *lo, *hi;      /* (out) of w */
    float *delta, *next; /* (out,n) w_eff - w, and that times H */
    float *best_lo, *best_hi;
    double *least;
} clipping;

static float clamp(float x, float lo, float hi)
{
    x = x < lo ? lo : x;
    return x > hi ? hi : x;
}

/* Tries hi (1 - i/20), lo (1 - j/20) on all rows: error d' H d, kept where strictly better. The released
 * search rounds halves to even. */
static void try_bounds(clipping *c, int i, int j)
{
    const float down = (float)(1 - i / 20.0), up = (float)(1 - j / 20.0);
    const size_t n = c->n;
    for (size_t r = 0; r < c->out; r++) {
        const float *w = c->w + r * n;
        float *cut = c->next + r * n, *delta = c->delta + r * n;
        for (size_t k = 0; k < n; k++)
            cut[k] = clamp(w[k], up * c->lo[r], down * c->hi[r]);
        group g = group_of(c->o, cut, n);
        g.away = false;
        quantize(&g, cut, n, delta);
        for (size_t k = 0; k < n; k++)
            delta[k] -= w[k];
    }
    lq_gemm_nn(c->out, n, n, 1, c->delta, n, c->H, n, 0, c->next, n);
    for (size_t r = 0; r < c->out; r++) {
        double error = 0;
        for (size_t k = r * n; k < (r + 1) * n; k++)
            error += (double)c->delta[k] * (double)c->next[k];
        if (error < c->least[r]) {
            c->least[r] = error;
            c->best_lo[r] = up * c->lo[r];
            c->best_hi[r] = down * c->hi[r];
        }
    }
}

/* Columns first..first+n-1 of latent (out,in) are clipped to the best bounds of each row. */
static lq_status clip_columns(lq_theta *th, const double *gram, size_t first, size_t n,
                              lq_arena *scratch)
{
    const size_t out = th->out, in = th->in;
    float *latent = th->data[LATENT];
    clipping c = {.o = th->opts, .out = out, .n = n};
    float *w = lq_arena_f32(scratch, out * n), *H = lq_arena_f32(scratch, n * n);
    c.delta = lq_arena_f32(scratch, out * n);
    c.next = lq_arena_f32(scratch, out * n);
    c.lo = lq_arena_f32(scratch, 4 * out);
    c.hi = c.lo + out;
    c.best_lo = c.lo + 2 * out;
    c.best_hi = c.lo + 3 * out;
    c.least = lq_arena_f64(scratch, out);
    for (size_t k = 0; k < n * n; k++) {
        H[k] = (float)gram[(first + k / n) * in + first + k % n];
        if (!isfinite(H[k]))
            return lq_fail(LQ_E_NUMERIC,
                           "bitdistiller: gram (%zu,%zu) is %g; check the calibration",
                           first + k / n, first + k % n, (double)H[k]);
    }
    for (size_t r = 0; r < out; r++) {
        memcpy(w + r * n, latent + r * in + first, n * sizeof *w);
        const group g = group_of(c.o, w + r * n, n);
        c.lo[r] = c.best_lo[r] = g.lo;
        c.hi[r] = c.best_hi[r] = g.hi;
        c.least[r] = HUGE_VAL;
    }
    c.w = w;
    c.H = H;
    for (int i = 0; i < N_TRIED; i++)
        for (int j = 0; j < N_TRIED; j++)
            try_bounds(&c, i, j);
    for (size_t r = 0; r < out; r++)
        for (size_t k = 0; k < n; k++)
            latent[r * in + first + k] = clamp(w[r * n + k], c.best_lo[r], c.best_hi[r]);
    return LQ_OK;
}

/* "due to qk bmm, it is hard to clip precisely", says the released code. */
static bool is_query_or_key(const char *linear)
{
    return linear != NULL && (strstr(linear, "q_proj") != NULL || strstr(linear, "k_proj") != NULL);
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)rng;
    const opts *o = th->opts;
    LQ_TRY(lq_check_finite("bitdistiller", w, th->out, th->in));
    memcpy(th->data[LATENT], w, th->out * th->in * sizeof *w);
    if (o->clip == CLIP_NONE || is_query_or_key(th->linear))
        return LQ_OK;
    if (calib == NULL || calib->gram == NULL)
        return lq_fail(LQ_E_MISSING, "bitdistiller: needs the gram of the layer's inputs; run "
                                     "`lcqat calibrate` and pass its file, or set clip=none");
    lq_status status = LQ_OK;
    for (size_t g = 0; g < th->slot[STEP].cols && status == LQ_OK; g++) {
        const place p = place_of(th, g);
        lq_mark mark = lq_arena_mark(scratch);
        status = clip_columns(th, calib->gram, p.at, p.n, scratch);
        lq_arena_release(scratch, mark);
    }
    return status;
}

/* ---- theta -> w_eff and back ---- */

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    const float *w = th->data[LATENT];
    if (is_shipped(th)) {
        memcpy(w_eff, w, th->out * th->in * sizeof *w_eff);
        return;
    }
    for (size_t i = 0; i < n_groups(th); i++) {
        const place p = place_of(th, i);
        const group g = group_of(th->opts, w + p.at, p.n);
        quantize(&g, w + p.at, p.n, w_eff + p.at);
    }
}

static float sign_of(float x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }

/* dw gets `amount`, split over the weights that are `extreme`. */
static void add_to_extreme(float *dw, const float *w, size_t n, float extreme, double amount)
{
    size_t equals = 0;
    for (size_t j = 0; j < n; j++)
        equals += w[j] == extreme;
    for (size_t j = 0; j < n; j++)
        dw[j] += w[j] == extreme ? (float)(amount / (double)equals) : 0;
}

static void backward_group(const group *g, const float *dw_eff, const float *w, size_t n, float *dw)
{
    double slope = 0, negative = 0; /* dL/dstep, and N2F3's dL/dother */
    for (size_t j = 0; j < n; j++) {
        const float u = units_of(g, w[j]);
        const bool inside = is_inside(g, u);
        const double ds =
            (double)dw_eff[j] * (double)(level_of(g, code_of(g, u)) - (inside ? u : 0));
        *(g->n2f3 && w[j] < 0 ? &negative : &slope) += ds;
        dw[j] += inside ? dw_eff[j] : 0;
    }
    if (g->n2f3) {
        add_to_extreme(dw, w, n, g->hi, slope * (double)sign_of(g->hi));
        add_to_extreme(dw, w, n, g->lo, negative * (double)sign_of(g->lo));
    } else if (!g->floored) {
        add_to_extreme(dw, w, n, g->hi, slope / (double)g->q_max);
        add_to_extreme(dw, w, n, g->lo, -slope / (double)g->q_max);
    }
}

static void backward(const lq_theta *th, const float *dw_eff, float *const *grad, lq_arena *scratch)
{
    (void)scratch;
    const float *w = th->data[LATENT];
    for (size_t i = 0; i < n_groups(th) && grad[LATENT] != NULL; i++) {
        const place p = place_of(th, i);
        const group g = group_of(th->opts, w + p.at, p.n);
        backward_group(&g, dw_eff + p.at, w + p.at, p.n, grad[LATENT] + p.at);
    }
}

/* By how much the mean of the weights that are extreme in w has moved. */
static double extreme_moved(const float *w, const float *moved, size_t n, float extreme)
{
    double sum = 0, equals = 0;
    for (size_t j = 0; j < n; j++)
        if (w[j] == extreme) {
            sum += (double)moved[j] - (double)w[j];
            equals++;
        }
    return sum / equals;
}

/* Rounding at `base` is taken as adding what it added there: inside, w_eff = w + s (round(u) - u); beyond,
 * w_eff = s (c - z); and s follows the weights that are extreme at base. */
static void surrogate(const lq_theta *at, const lq_theta *base, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    for (size_t i = 0; i < n_groups(base); i++) {
        const place p = place_of(base, i);
        const float *w = (const float *)base->data[LATENT] + p.at;
        const float *moved = (const float *)at->data[LATENT] + p.at;
        const group g = group_of(base->opts, w, p.n);
        const double up = extreme_moved(w, moved, p.n, g.hi);
        const double down = extreme_moved(w, moved, p.n, g.lo);
        double by = g.floored ? 0 : (up - down) / (double)g.q_max, other = 0;
        if (g.n2f3) {
            by = up * (double)sign_of(g.hi);
            other = down * (double)sign_of(g.lo);
        }
        for (size_t j = 0; j < p.n; j++) {
            const float u = units_of(&g, w[j]);
            const double s = (double)scale_of(&g, w[j]) + (g.n2f3 && w[j] < 0 ? other : by);
            const double units = (double)level_of(&g, code_of(&g, u));
            w_eff[p.at + j] = is_inside(&g, u) ? (float)((double)moved[j] + s * (units - (double)u))
                                               : (float)(s * units);
        }
    }
}

/* ---- bytes ---- */

/* Codes, row by row; steps as fp16, a group each; then zeros as one row of codes, which makes
 * bits + (16 + bits) / group a weight, or N2F3's steps of negative weights, 3 + 32 / group. */
static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    const size_t groups = n_groups(th), levels = levels_of(th);
    const float *w = th->data[LATENT];
    uint8_t *code, *zero;
    float *step, *other;
    LQ_TRY(lq_check_finite("bitdistiller", w, th->out, th->in));
    LQ_TRY(lq_arena_new(bytes->arena, &code, th->out * th->in));
    LQ_TRY(lq_arena_new(bytes->arena, &zero, groups));
    LQ_TRY(lq_arena_new(bytes->arena, &step, groups));
    LQ_TRY(lq_arena_new(bytes->arena, &other, groups));
    for (size_t i = 0; i < groups; i++) {
        const place p = place_of(th, i);
        group g = group_of(th->opts, w + p.at, p.n);
        if (is_shipped(th)) {
            g.step = ((const float *)th->data[STEP])[i];
            g.other = ((const float *)th->data[OTHER])[i];
        }
        for (size_t j = p.at; j < p.at + p.n; j++)
            code[j] = code_of(&g, units_of(&g, w[j]));
        step[i] = lq_grid_round_step(g.step);
        other[i] = lq_grid_round_step(g.other);
        zero[i] = (uint8_t)(g.n2f3 ? 0 : (int)g.other);
    }
    LQ_TRY(lq_sink_codes(bytes, code, th->out, th->in, levels));
    LQ_TRY(lq_sink_f16(bytes, step, groups));
    return is_n2f3(th->opts) ? lq_sink_f16(bytes, other, groups)
                             : lq_sink_codes(bytes, zero, 1, groups, levels);
}

static lq_status check_steps(const lq_theta *th, size_t slot, const char *where)
{
    const float *step = th->data[slot];
    for (size_t i = 0; i < n_groups(th); i++)
        if (!(step[i] > 0))
            return lq_fail(LQ_E_FORMAT, "%s: %s %zu is %g", where, th->slot[slot].name, i,
                           (double)step[i]);
    return LQ_OK;
}

static lq_status unpack_with(lq_theta *th, lq_source *bytes, uint8_t *code, uint8_t *zero)
{
    const size_t groups = n_groups(th), levels = levels_of(th);
    const bool n2f3 = is_n2f3(th->opts);
    float *w = th->data[LATENT], *step = th->data[STEP], *other = th->data[OTHER];
    LQ_TRY(lq_source_codes(bytes, code, th->out, th->in, levels));
    LQ_TRY(lq_source_f16(bytes, step, groups));
    LQ_TRY(check_steps(th, STEP, bytes->where));
    if (n2f3) {
        LQ_TRY(lq_source_f16(bytes, other, groups));
        LQ_TRY(check_steps(th, OTHER, bytes->where));
    } else {
        LQ_TRY(lq_source_codes(bytes, zero, 1, groups, levels));
    }
    for (size_t i = 0; i < groups; i++) {
        const place p = place_of(th, i);
        other[i] = n2f3 ? other[i] : (float)zero[i];
        const group g = {.n2f3 = n2f3, .step = step[i], .other = other[i]};
        for (size_t j = p.at; j < p.at + p.n; j++)
            w[j] = value_of(&g, code[j]);
    }
    return LQ_OK;
}

static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    lq_arena room = {0};
    uint8_t *code, *zero;
    lq_status status = lq_arena_new(&room, &code, th->out * th->in);
    if (status == LQ_OK)
        status = lq_arena_new(&room, &zero, n_groups(th));
    if (status == LQ_OK)
        status = unpack_with(th, bytes, code, zero);
    lq_arena_close(&room);
    return status;
}

const lq_method lq_method_bitdistiller = {
    .name = "bitdistiller",
    .source = "BitDistiller, arXiv:2402.10631, and DD-DuDa/BitDistiller 9faaab8 "
              "quantization/quantizer.py, autoclip.py; docs/decisions/0066",
    .family = LQ_FAMILY_SCALAR,
    .needs = LQ_NEEDS_GRAM | LQ_TRAINS,
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
