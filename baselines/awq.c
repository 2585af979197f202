/* AWQ: columns that meet large inputs are scaled up before a min-max grid rounds them, and the scale is taken
 * back where the input is made. Nothing trains. For one input (of q, k, v; of gate and up; ...) with
 * a_j = E|x_j|, in turn for r = 0, 0.05, ..., 0.95:
 *
 *     t = max(a^r, 1e-4),  t /= sqrt(max t min t),   What = Q(W diag(t)) diag(1/t)
 *
 * and the t of least error at the module's output stays. It goes into the op before: the gains of the norm,
 * the rows of v_proj or up_proj are divided by it, so nothing more ships, and theta is the scaled weight.
 * Then, but for q_proj and k_proj, each group is clipped to +-c, c of M (1 - k/20), k = 0..9, M its largest
 * |w|, with the least E[((w - What) x)^2] over the group's columns, d' H_gg d.
 *
 * A matrix alone (->init) has no op before it: it is clipped, if there is a gram, and not scaled.
 * docs/decisions/0051. */
#include "core/math/gemm.h"
#include "core/quant/grid.h"

#include <math.h>
#include <string.h>

extern const lq_method lq_method_awq;

enum { N_RATIOS = 20, N_CLIPS = 10 };

typedef struct opts {
    lq_common_opts common;
    size_t group;
    bool scale, clip;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"group", LQ_OPTION_SIZE, offsetof(opts, group), 128, 0, 1 << 20, NULL,
     "weights of a row that share a step; 0: the whole row; the last group may be shorter"},
    {"scale", LQ_OPTION_BOOL, offsetof(opts, scale), 1, 0, 0, NULL, "search scales of the columns"},
    {"clip", LQ_OPTION_BOOL, offsetof(opts, clip), 1, 0, 0, NULL, "search the range of each group"},
};

static lq_grid_rule rule_of(const opts *o)
{
    return (lq_grid_rule){.scheme = LQ_GRID_ASYM_RANGE,
                          .q_max = (int)lq_levels_of_bits(o->common.bits) - 1,
                          .group = o->group};
}

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    if (lq_levels_of_bits(o->common.bits) < 4)
        return lq_fail(LQ_E_OPTION, "awq: bits = %g; it has 2, 3, 4 and 8", o->common.bits);
    return LQ_OK;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    lq_grid_rule rule = rule_of(options_read);
    lq_grid_layout(&rule, out, in, slot, n_slots);
    return LQ_OK;
}

/* ---- One matrix -------------------------------------------------------------------------------- */

typedef struct fitted { /* the grid that decides codes, and the one that ships */
    lq_grid chosen, grid;
} fitted;

/* The weights of one group of one row, and what the search needs. */
typedef struct group {
    const lq_grid_rule *rule;
    const float *w;
    const double *gram; /* (n,n) of stride `in`; NULL: the range is not searched */
    size_t n, in;
    float *clipped; /* (n) */
    double *off;    /* (n) */
} group;

/* The min-max grid of the weights clipped to +-bound, Q's: a range of their own of at least 1e-5, an integer
 * zero. A clipped group is often -c .. c, where -c / s = -1.5 is a tie, and so is every clipped weight:
 * zero and codes are decided with the float step, as released, and only the values see it as fp16.
 * False: it overflows that. */
static bool fit(const group *g, float bound, fitted *f)
{
    const float top = (float)g->rule->q_max;
    float lo = INFINITY, hi = -INFINITY;
    for (size_t j = 0; j < g->n; j++) {
        g->clipped[j] = g->w[j] < -bound ? -bound : g->w[j] > bound ? bound : g->w[j];
        lo = g->clipped[j] < lo ? g->clipped[j] : lo;
        hi = g->clipped[j] > hi ? g->clipped[j] : hi;
    }
    const float step = (hi - lo > 1e-5f ? hi - lo : 1e-5f) / top, zero = -rintf(lo / step);
    f->chosen = (lq_grid){.step = step, .zero = zero > 0 ? (zero < top ? zero : top) : 0};
    f->grid = (lq_grid){.step = lq_grid_round_step(step), .zero = f->chosen.zero};
    return isfinite(f->grid.step);
}

/* d' H_gg d, d = What - w. */
static double error_of(const group *g, const fitted *f)
{
    double sum = 0;
    for (size_t j = 0; j < g->n; j++) {
        const int code = lq_grid_code(f->chosen, g->rule->q_max, g->clipped[j]);
        g->off[j] = (double)lq_grid_value(f->grid, code) - (double)g->w[j];
    }
    for (size_t i = 0; i < g->n; i++) {
        double along = 0;
        for (size_t j = 0; j < g->n; j++)
            along += g->gram[i * g->in + j] * g->off[j];
        sum += g->off[i] * along;
    }
    return sum;
}

/* The best bound of a group. False: a step overflows fp16. */
static bool search_clip(const group *g, float *bound)
{
    float top = 0;
    double least = HUGE_VAL;
    bool found = false;
    for (size_t j = 0; j < g->n; j++)
        top = fabsf(g->w[j]) > top ? fabsf(g->w[j]) : top;
    for (int k = 0; k < (g->gram != NULL ? N_CLIPS : 1); k++) {
        const float tried = top * (1 - (float)k / 20);
        fitted f;
        if (!fit(g, tried, &f))
            continue;
        const double error = g->gram != NULL ? error_of(g, &f) : 0;
        if (error < least) {
            least = error;
            *bound = tried;
            found = true;
        }
    }
    return found;
}

/* Codes of w; grams of its inputs where ranges are searched, else NULL. */
static lq_status quantize(lq_theta *th, const float *w, const double *gram, lq_arena *scratch)
{
    const lq_grid_rule rule = rule_of(th->opts);
    uint8_t *code = lq_theta_codes(th, "codes");
    const lq_mark mark = lq_arena_mark(scratch);
    group g = {.rule = &rule, .in = th->in};
    g.clipped = lq_arena_f32(scratch, th->in);
    g.off = lq_arena_f64(scratch, th->in);
    lq_status status = LQ_OK;
    const size_t groups = lq_grid_groups(&rule, th->in);
    for (size_t at = 0; at < th->out * groups && status == LQ_OK; at++) {
        const size_t row = at / groups;
        size_t first, end;
        fitted f;
        float bound;
        lq_grid_span(&rule, th->in, at % groups, &first, &end);
        g.w = w + row * th->in + first;
        g.n = end - first;
        g.gram = gram != NULL ? gram + first * (th->in + 1) : NULL;
        if (!search_clip(&g, &bound)) {
            status = lq_fail(LQ_E_NUMERIC, "awq: the step of row %zu, group %zu overflows fp16",
                             row, at % groups);
            break;
        }
        fit(&g, bound, &f);
        lq_grid_set(th, &rule, row, at % groups, f.grid);
        for (size_t j = 0; j < g.n; j++)
            code[row * th->in + first + j] =
                (uint8_t)lq_grid_code(f.chosen, rule.q_max, g.clipped[j]);
    }
    lq_arena_release(scratch, mark);
    return status;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)rng;
    const opts *o = th->opts;
    const double *gram = calib != NULL ? calib->gram : NULL;
    LQ_TRY(lq_check_finite("awq", w, th->out, th->in));
    return quantize(th, w, o->clip ? gram : NULL, scratch);
}

/* ---- A block ----------------------------------------------------------------------------------- */

/* t (n) of one ratio. */
static void scale_of(const double *mean_abs, size_t n, double ratio, float *t)
{
    double lowest = HUGE_VAL, highest = 0;
    for (size_t j = 0; j < n; j++) {
        const double s = pow(mean_abs[j], ratio);
        t[j] = (float)(s > 1e-4 ? s : 1e-4);
        lowest = (double)t[j] < lowest ? (double)t[j] : lowest;
        highest = (double)t[j] > highest ? (double)t[j] : highest;
    }
    for (size_t j = 0; j < n; j++)
        t[j] = (float)((double)t[j] / sqrt(highest * lowest));
}

/* to (out,in) = Q(w diag(t)) diag(1/t), through theta, which is left with the codes. */
static lq_status candidate_of(lq_theta *th, const float *w, const float *t, float *to,
                              lq_arena *scratch)
{
    for (size_t i = 0; i < th->out * th->in; i++)
        to[i] = w[i] * t[i % th->in];
    LQ_TRY(quantize(th, to, NULL, scratch));
    th->method->effective(th, to, scratch);
    for (size_t i = 0; i < th->out * th->in; i++)
        to[i] /= t[i % th->in];
    return LQ_OK;
}

/* tr(D H D') / out of D = candidate - w: the mean squared error of one linear on its inputs. */
static double linear_error(const lq_theta *th, const float *w, const float *candidate,
                           const double *gram, lq_arena *scratch)
{
    const size_t out = th->out, in = th->in;
    const lq_mark mark = lq_arena_mark(scratch);
    double *d = lq_arena_f64(scratch, out * in), *dh = lq_arena_f64(scratch, out * in), sum = 0;
    for (size_t i = 0; i < out * in; i++)
        d[i] = (double)candidate[i] - (double)w[i];
    lq_gemm_nn_f64(out, in, in, 1, d, in, gram, in, 0, dh, in);
    for (size_t i = 0; i < out * in; i++)
        sum += d[i] * dh[i];
    lq_arena_release(scratch, mark);
    return sum / (double)out;
}

typedef struct search { /* of the scale of one input */
    lq_block *block;
    size_t input, readers, n;        /* n: columns */
    size_t reader[LQ_BLOCK_LINEARS]; /* linears that read it */
    float *candidate[LQ_BLOCK_LINEARS];
    float *t; /* (n) tried */
} search;

static lq_status error_at(search *s, double ratio, double *error, lq_arena *scratch)
{
    lq_block *b = s->block;
    const float *given[LQ_BLOCK_LINEARS] = {NULL};
    scale_of(b->calib[s->reader[0]].mean_abs, s->n, ratio, s->t);
    for (size_t r = 0; r < s->readers; r++) {
        const size_t i = s->reader[r];
        LQ_TRY(candidate_of(b->theta[i], b->w[i], s->t, s->candidate[i], scratch));
        given[i] = s->candidate[i];
    }
    const size_t i = s->reader[0];
    *error = s->readers > 1
                 ? b->error(b->context, s->input, given)
                 : linear_error(b->theta[i], b->w[i], given[i], b->calib[i].gram, scratch);
    return LQ_OK;
}

/* Is there an op before that can take the scale? The released code leaves o_proj alone unless v_proj has
 * its shape, which no model with grouped queries meets. */
static bool can_scale(const search *s)
{
    const int feeder = s->block->fed_by[s->input];
    const lq_theta *reader = s->block->theta[s->reader[0]];
    if (feeder == LQ_FED_BY_MANY || s->readers == 0)
        return false;
    if (feeder < 0 || strcmp(s->block->name[s->reader[0]], "o_proj") != 0)
        return true;
    return s->block->theta[feeder]->out == reader->out && s->block->theta[feeder]->in == reader->in;
}

/* best (n): the scale of least error, ones when nothing can take one. */
static lq_status search_scale(search *s, float *best, lq_arena *scratch)
{
    double least = HUGE_VAL;
    for (size_t j = 0; j < s->n; j++)
        best[j] = 1;
    for (int k = 0; k < N_RATIOS && can_scale(s); k++) {
        double error;
        LQ_TRY(error_at(s, k / 20.0, &error, scratch));
        if (error < least) {
            least = error;
            memcpy(best, s->t, s->n * sizeof *best);
        }
    }
    return LQ_OK;
}

static lq_status begin_search(search *s, lq_block *b, size_t input, lq_arena *scratch)
{
    *s = (search){.block = b, .input = input};
    for (size_t i = 0; i < b->n; i++)
        if (b->input[i] == input) {
            s->reader[s->readers++] = i;
            s->n = b->theta[i]->in;
            LQ_TRY(lq_arena_new(scratch, &s->candidate[i], b->theta[i]->out * s->n));
        }
    return lq_arena_new(scratch, &s->t, s->n);
}

/* Columns of the readers times t, rows of a linear that feeds them divided by it. */
static void apply_scale(const search *s, const float *t, float *const *w)
{
    const int feeder = s->block->fed_by[s->input];
    for (size_t r = 0; r < s->readers; r++) {
        const lq_theta *th = s->block->theta[s->reader[r]];
        for (size_t i = 0; i < th->out * th->in; i++)
            w[s->reader[r]][i] *= t[i % th->in];
    }
    for (size_t i = 0; feeder >= 0 && i < s->n; i++)
        for (size_t j = 0; j < s->block->theta[feeder]->in; j++)
            w[feeder][i * s->block->theta[feeder]->in + j] /= t[i];
    s->block->divide(s->block->context, s->input, t);
}

/* Every input's scale is searched on the block as it was; w, which begins as a copy of the block's
 * weights, then carries them all. */
static lq_status scale_block(lq_block *b, float *const *w, float *const *t, lq_arena *scratch)
{
    search s[LQ_BLOCK_LINEARS];
    for (size_t input = 0; input < b->n_inputs; input++) {
        LQ_TRY(begin_search(&s[input], b, input, scratch));
        LQ_TRY(search_scale(&s[input], t[input], scratch));
    }
    for (size_t input = 0; input < b->n_inputs; input++)
        if (can_scale(&s[input]))
            apply_scale(&s[input], t[input], w);
    return LQ_OK;
}

/* E[x' x] of x / t. */
static double *scaled_gram(const double *gram, const float *t, size_t n, lq_arena *scratch)
{
    double *scaled = lq_arena_f64(scratch, n * n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            scaled[i * n + j] = gram[i * n + j] / ((double)t[i] * (double)t[j]);
    return scaled;
}

static lq_status fit_block(lq_block *b, lq_arena *scratch)
{
    const opts *o = b->theta[0]->opts;
    float *w[LQ_BLOCK_LINEARS], *t[LQ_BLOCK_LINEARS];
    for (size_t i = 0; i < b->n; i++) {
        const lq_theta *th = b->theta[i];
        if (lq_check_finite("awq", b->w[i], th->out, th->in) != LQ_OK)
            return lq_fail(LQ_E_NUMERIC, "%s: %.300s", b->name[i], lq_status_note());
        LQ_TRY(lq_arena_new(scratch, &w[i], th->out * th->in));
        memcpy(w[i], b->w[i], th->out * th->in * sizeof *w[i]);
        LQ_TRY(lq_arena_new(scratch, &t[b->input[i]], th->in));
        for (size_t j = 0; j < th->in; j++)
            t[b->input[i]][j] = 1;
    }
    if (o->scale)
        LQ_TRY(scale_block(b, w, t, scratch));
    for (size_t i = 0; i < b->n; i++) {
        lq_theta *th = b->theta[i];
        /* q and k meet in a product: the error of one alone says little about clipping it */
        const bool clips =
            o->clip && strncmp(b->name[i], "q_", 2) != 0 && strncmp(b->name[i], "k_", 2) != 0;
        const lq_mark mark = lq_arena_mark(scratch);
        const double *gram =
            clips ? scaled_gram(b->calib[i].gram, t[b->input[i]], th->in, scratch) : NULL;
        const lq_status status = quantize(th, w[i], gram, scratch);
        lq_arena_release(scratch, mark);
        if (status != LQ_OK)
            return lq_fail(status, "%s: %.300s", b->name[i], lq_status_note());
    }
    return LQ_OK;
}

static lq_status init_block(lq_block *b, const lq_rng *rng, lq_arena *scratch)
{
    (void)rng;
    const lq_mark mark = lq_arena_mark(scratch);
    const lq_status status = fit_block(b, scratch);
    lq_arena_release(scratch, mark);
    return status;
}

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    lq_grid_rule rule = rule_of(th->opts);
    lq_grid_effective(th, &rule, NULL, w_eff);
}

static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    lq_grid_rule rule = rule_of(th->opts);
    return lq_grid_pack(th, &rule, bytes);
}

static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    lq_grid_rule rule = rule_of(th->opts);
    return lq_grid_unpack(th, &rule, bytes);
}

const lq_method lq_method_awq = {
    .name = "awq",
    .source = "AWQ, arXiv:2306.00978, and mit-han-lab/llm-awq d6e797a auto_scale.py, auto_clip.py, "
              "quantizer.py; scales live in the op before (docs/decisions/0051)",
    .family = LQ_FAMILY_SCALAR,
    .needs = LQ_NEEDS_GRAM | LQ_NEEDS_MEAN_ABS | LQ_NEEDS_FEATURES,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .opts_bytes = sizeof(opts),
    .check = check,
    .layout = layout,
    .init = init,
    .init_block = init_block,
    .effective = effective,
    .backward = lq_backward_none, /* nothing trains */
    .pack = pack,
    .unpack = unpack,
};
