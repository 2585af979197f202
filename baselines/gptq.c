/* GPTQ: columns are rounded one after another, and each error is made good, as far as the inputs
 * correlate, by the columns still to come. With H = E[x' x] (in,in) and U upper, H^-1 = U' U:
 *
 *     for j = 0..in-1:   q_j = round(w_j);  e = (w_j - q_j) / U_jj;  w_k -= e U_jk  for k > j
 *
 * Blocks of columns are finished on their own before one product updates the rest. The working copy is
 * transposed, (in,out), so that every inner loop runs along the rows of W; it is in double, the levels
 * are chosen in float: docs/decisions/0013-gptq-works-in-double.md. */
#include "core/base/log.h"
#include "core/math/gemm.h"
#include "core/math/linalg.h"
#include "core/quant/grid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

extern const lq_method lq_method_gptq;

enum { BLOCK = 128, MAX_DAMPINGS = 5 };

typedef struct opts {
    lq_common_opts common;
    size_t group;
    int scheme, clip;
    double sigma_reg;
    bool act_order, static_groups, stale_groups;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"group", LQ_OPTION_SIZE, offsetof(opts, group), 128, 0, 1 << 20, NULL,
     "weights of a row that share a step; 0: the whole row; the last group may be shorter"},
    {"scheme", LQ_OPTION_CHOICE, offsetof(opts, scheme), 0, 0, 0, "asym|sym",
     "min-max grid with an integer zero, or symmetric (the paper's --sym)"},
    {"clip", LQ_OPTION_CHOICE, offsetof(opts, clip), 0, 0, 0, "minmax|mse",
     "range of the grid: the extremes, or the shrink of them with the least error"},
    {"sigma_reg", LQ_OPTION_REAL, offsetof(opts, sigma_reg), 0.01, 0, 1, NULL,
     "damping: this share of the mean of the gram's diagonal is added to it (percdamp)"},
    {"act_order", LQ_OPTION_BOOL, offsetof(opts, act_order), 0, 0, 0, NULL,
     "columns by falling gram diagonal; without static_groups 16 more bits a column ship"},
    {"static_groups", LQ_OPTION_BOOL, offsetof(opts, static_groups), 0, 0, 0, NULL,
     "fit all grids on the weight as it comes, before any correction"},
    {"stale_groups", LQ_OPTION_BOOL, offsetof(opts, stale_groups), 0, 0, 0, NULL,
     "as the released code: grids miss the corrections of their own block of 128"},
};

typedef struct work { /* one run of the algorithm; arrays live in scratch */
    lq_theta *th;
    const opts *o;
    lq_grid_rule rule;
    size_t group;       /* columns a group, <= in */
    size_t *order;      /* (in) column of W at position p */
    double *wt;         /* (in,out) W' in that order, corrected as the run proceeds */
    double *block;      /* (BLOCK,out) working copy of the block's rows of wt */
    double *error;      /* (BLOCK,out) e of the block */
    double *factor;     /* (in,in) U */
    float *gather;      /* (in) one group of one row */
    const float *fixed; /* (out,in) W without dead columns, for static groups */
} work;

static lq_grid_rule rule_of(const opts *o)
{
    return (lq_grid_rule){.scheme = o->scheme == 1 ? LQ_GRID_SYM : LQ_GRID_ASYM,
                          .mse = o->clip == 1,
                          .q_max = (int)lq_levels_of_bits(o->common.bits) - 1,
                          .group = o->group};
}

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    if (lq_levels_of_bits(o->common.bits) < 4)
        return lq_fail(LQ_E_OPTION, "gptq: bits = %g; it has 2, 3, 4 and 8", o->common.bits);
    if (o->static_groups && o->stale_groups)
        return lq_fail(LQ_E_OPTION, "gptq: static_groups are never stale; drop one of the two");
    return LQ_OK;
}

/* With act_order the groups are runs of the new order, so each column has to ship its group. */
static bool has_group_slot(const opts *o, size_t in)
{
    lq_grid_rule rule = rule_of(o);
    return o->act_order && !o->static_groups && lq_grid_groups(&rule, in) > 1;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    const opts *o = options_read;
    lq_grid_rule rule = rule_of(o);
    lq_grid_layout(&rule, out, in, slot, n_slots);
    if (!has_group_slot(o, in))
        return LQ_OK;
    if (lq_grid_groups(&rule, in) > UINT16_MAX)
        return lq_fail(LQ_E_SHAPE,
                       "gptq: act_order ships the group of a column in 16 bits, but a "
                       "row of %zu has more groups of %zu",
                       in, rule.group);
    slot[*n_slots] = (lq_slot){"group", LQ_KIND_FIXED, .rows = 1, .cols = in, .grad_scale = 1};
    ++*n_slots;
    return LQ_OK;
}

typedef struct ranked {
    double diagonal;
    size_t column;
} ranked;

static int by_falling_diagonal(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->diagonal != y->diagonal)
        return x->diagonal > y->diagonal ? -1 : 1;
    return x->column < y->column ? -1 : x->column > y->column;
}

/* The order of the columns, and W' in it with dead columns (never any input) at zero. The diagonal
 * compared is the undamped one, 1 where the column is dead, as in the released code. */
static lq_status order_columns(work *k, const float *w, const double *gram, lq_arena *scratch)
{
    size_t out = k->th->out, in = k->th->in;
    ranked *rank = lq_arena_alloc(scratch, in * sizeof *rank);
    float *alive = lq_arena_alloc(scratch, out * in * sizeof *alive);
    if (rank == NULL || alive == NULL)
        return LQ_E_MEMORY;
    memcpy(alive, w, out * in * sizeof *alive);
    for (size_t j = 0; j < in; j++) {
        double diagonal = gram[j * in + j];
        rank[j] = (ranked){diagonal == 0.0 ? 1.0 : diagonal, j};
        for (size_t i = 0; i < out && diagonal == 0.0; i++)
            alive[i * in + j] = 0.0f;
    }
    if (k->o->act_order)
        qsort(rank, in, sizeof *rank, by_falling_diagonal);
    for (size_t p = 0; p < in; p++) {
        k->order[p] = rank[p].column;
        for (size_t i = 0; i < out; i++)
            k->wt[p * out + i] = (double)alive[i * in + rank[p].column];
    }
    k->fixed = alive;
    return LQ_OK;
}

static lq_status check_gram(const double *gram, size_t in)
{
    for (size_t i = 0; i < in; i++) {
        for (size_t j = 0; j < in; j++)
            if (!isfinite(gram[i * in + j]))
                return lq_fail(LQ_E_NUMERIC, "gptq: gram (%zu,%zu) is %g; check the calibration", i,
                               j, gram[i * in + j]);
        if (gram[i * in + i] < 0.0)
            return lq_fail(LQ_E_NUMERIC, "gptq: gram (%zu,%zu) is %g; a sum of squares cannot be",
                           i, i, gram[i * in + i]);
    }
    return LQ_OK;
}

/* k->factor = U of the gram in the new order. When that is not positive definite, ten times the damping
 * is tried, and again, up to 1e4 times. */
static lq_status factorize(work *k, const double *gram)
{
    size_t in = k->th->in;
    double mean = 0;
    for (size_t j = 0; j < in; j++)
        mean += (gram[j * in + j] == 0.0 ? 1.0 : gram[j * in + j]) / (double)in;
    double share = k->o->sigma_reg;
    for (size_t attempt = 0; attempt < MAX_DAMPINGS; attempt++) {
        for (size_t p = 0; p < in; p++) {
            const double *row = gram + k->order[p] * in;
            for (size_t q = 0; q < in; q++)
                k->factor[p * in + q] = row[k->order[q]];
            double *diagonal = &k->factor[p * in + p];
            *diagonal = (*diagonal == 0.0 ? 1.0 : *diagonal) + share * mean;
        }
        lq_status status = lq_inverse_upper_cholesky(k->factor, in);
        if (status == LQ_OK && attempt > 0)
            lq_log_warn("gptq: the gram (%zu,%zu) needed damping %g instead of %g", in, in, share,
                        k->o->sigma_reg);
        if (status != LQ_E_NUMERIC)
            return status;
        share = share > 0 ? 10 * share : 1e-4;
    }
    return lq_fail(LQ_E_NUMERIC,
                   "gptq: the gram (%zu,%zu) is not positive definite even with sigma_reg = %g; "
                   "calibrate on more tokens or raise it",
                   in, in, share / 10);
}

/* Fits the group of columns at positions first..end-1; those of the running block, which begins at
 * `begin` and ends before `stop`, come from its working copy unless groups are to be stale. */
static lq_status fit_group(work *k, size_t first, size_t begin, size_t stop)
{
    size_t out = k->th->out, end = k->th->in - first < k->group ? k->th->in : first + k->group;
    for (size_t i = 0; i < out; i++) {
        for (size_t p = first; p < end; p++) {
            bool inside = p < stop && !k->o->stale_groups;
            const double *from = inside ? k->block + (p - begin) * out : k->wt + p * out;
            k->gather[p - first] = (float)from[i];
        }
        lq_grid grid;
        if (!lq_grid_fit(&k->rule, k->gather, end - first, &grid))
            return lq_fail(LQ_E_NUMERIC, "gptq: the step of row %zu, group %zu overflows fp16", i,
                           first / k->group);
        lq_grid_set(k->th, &k->rule, i, first / k->group, grid);
    }
    return LQ_OK;
}

static lq_status fit_static_groups(work *k)
{
    size_t in = k->th->in;
    for (size_t i = 0; i < k->th->out; i++)
        for (size_t first = 0; first < in; first += k->group) {
            size_t n = in - first < k->group ? in - first : k->group;
            lq_grid grid;
            if (!lq_grid_fit(&k->rule, k->fixed + i * in + first, n, &grid))
                return lq_fail(LQ_E_NUMERIC, "gptq: the step of row %zu, group %zu overflows fp16",
                               i, first / k->group);
            lq_grid_set(k->th, &k->rule, i, first / k->group, grid);
        }
    return LQ_OK;
}

/* Rounds position p, whose working copy is row p - begin of k->block, and leaves e in k->error. */
static void round_column(work *k, size_t p, size_t begin)
{
    size_t out = k->th->out, in = k->th->in, column = k->order[p];
    size_t group = (k->o->static_groups ? column : p) / k->group;
    const double *w = k->block + (p - begin) * out;
    double *error = k->error + (p - begin) * out;
    uint8_t *code = lq_theta_codes(k->th, "codes");
    double diagonal = k->factor[p * in + p];
    for (size_t i = 0; i < out; i++) {
        lq_grid grid = lq_grid_get(k->th, &k->rule, i, group);
        int level = lq_grid_code(grid, k->rule.q_max, (float)w[i]);
        code[i * in + column] = (uint8_t)level;
        error[i] = (w[i] - (double)lq_grid_value(grid, level)) / diagonal;
    }
}

/* Positions begin..stop-1, then the product that corrects all later ones. */
static lq_status round_block(work *k, size_t begin, size_t stop)
{
    size_t out = k->th->out, in = k->th->in;
    memcpy(k->block, k->wt + begin * out, (stop - begin) * out * sizeof *k->block);
    for (size_t p = begin; p < stop; p++) {
        if (p % k->group == 0 && !k->o->static_groups)
            LQ_TRY(fit_group(k, p, begin, stop));
        round_column(k, p, begin);
        const double *error = k->error + (p - begin) * out;
        for (size_t q = p + 1; q < stop; q++) {
            double share = k->factor[p * in + q];
            double *w = k->block + (q - begin) * out;
            for (size_t i = 0; i < out; i++)
                w[i] -= share * error[i];
        }
    }
    lq_gemm_tn_f64(in - stop, out, stop - begin, -1, k->factor + begin * in + stop, in, k->error,
                   out, 1, k->wt + stop * out, out);
    return LQ_OK;
}

/* Where the block that begins at `begin` stops. No group may begin inside a block and end after it, or
 * its grid would miss corrections; the released code's blocks of 128 do not care. */
static size_t block_stop(const work *k, size_t begin)
{
    size_t in = k->th->in, length = BLOCK;
    if (!k->o->stale_groups && k->group <= BLOCK)
        length = BLOCK / k->group * k->group;
    else if (!k->o->stale_groups && k->group - begin % k->group < BLOCK)
        length = k->group - begin % k->group;
    return in - begin < length ? in : begin + length;
}

static lq_status run(work *k, const float *w, const double *gram, lq_arena *scratch)
{
    size_t out = k->th->out, in = k->th->in;
    k->order = lq_arena_alloc(scratch, in * sizeof *k->order);
    k->wt = lq_arena_alloc(scratch, in * out * sizeof *k->wt);
    k->factor = lq_arena_alloc(scratch, in * in * sizeof *k->factor);
    k->block = lq_arena_alloc(scratch, BLOCK * out * sizeof *k->block);
    k->error = lq_arena_alloc(scratch, BLOCK * out * sizeof *k->error);
    k->gather = lq_arena_alloc(scratch, in * sizeof *k->gather);
    if (k->order == NULL || k->wt == NULL || k->factor == NULL || k->block == NULL ||
        k->error == NULL || k->gather == NULL)
        return LQ_E_MEMORY;
    LQ_TRY(order_columns(k, w, gram, scratch));
    LQ_TRY(factorize(k, gram));
    if (k->o->static_groups)
        LQ_TRY(fit_static_groups(k));
    for (size_t begin = 0, stop; begin < in; begin = stop) {
        stop = block_stop(k, begin);
        LQ_TRY(round_block(k, begin, stop));
    }
    if (has_group_slot(k->o, in)) {
        float *group_of = lq_theta_f32(k->th, "group");
        for (size_t p = 0; p < in; p++)
            group_of[k->order[p]] = (float)(p / k->group);
    }
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)rng;
    if (calib == NULL || calib->gram == NULL)
        return lq_fail(LQ_E_MISSING, "gptq: needs the gram of the layer's inputs; run `lcqat "
                                     "calibrate` and pass its file");
    LQ_TRY(lq_check_finite("gptq", w, th->out, th->in));
    LQ_TRY(check_gram(calib->gram, th->in));
    const opts *o = th->opts;
    work k = {.th = th, .o = o, .rule = rule_of(o)};
    k.group = o->group == 0 || o->group > th->in ? th->in : o->group;
    lq_mark mark = lq_arena_mark(scratch);
    lq_status status = run(&k, w, calib->gram, scratch);
    lq_arena_release(scratch, mark);
    return status;
}

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    lq_grid_rule rule = rule_of(th->opts);
    const float *group_of = has_group_slot(th->opts, th->in) ? lq_theta_f32(th, "group") : NULL;
    lq_grid_effective(th, &rule, group_of, w_eff);
}

static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    lq_grid_rule rule = rule_of(th->opts);
    LQ_TRY(lq_grid_pack(th, &rule, bytes));
    if (!has_group_slot(th->opts, th->in))
        return LQ_OK;
    const float *group_of = lq_theta_f32(th, "group");
    for (size_t j = 0; j < th->in; j++) {
        unsigned group = (unsigned)group_of[j];
        uint8_t byte[2] = {(uint8_t)(group & 255), (uint8_t)(group >> 8)};
        LQ_TRY(lq_sink_put(bytes, byte, sizeof byte));
    }
    return LQ_OK;
}

static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    lq_grid_rule rule = rule_of(th->opts);
    LQ_TRY(lq_grid_unpack(th, &rule, bytes));
    if (!has_group_slot(th->opts, th->in))
        return LQ_OK;
    float *group_of = lq_theta_f32(th, "group");
    for (size_t j = 0; j < th->in; j++) {
        uint8_t byte[2];
        LQ_TRY(lq_source_take(bytes, byte, sizeof byte));
        size_t group = (size_t)(byte[0] | byte[1] << 8);
        if (group >= lq_grid_groups(&rule, th->in))
            return lq_fail(LQ_E_FORMAT, "%s: column %zu is in group %zu, which is not there",
                           bytes->where, j, group);
        group_of[j] = (float)group;
    }
    return LQ_OK;
}

const lq_method lq_method_gptq = {
    .name = "gptq",
    .source =
        "GPTQ, arXiv:2210.17323, and IST-DASLab/gptq 2d65066 gptq.py; grids are fitted on the "
        "corrected weight (docs/decisions/0012), double instead of float (0013)",
    .family = LQ_FAMILY_SCALAR,
    .needs = LQ_NEEDS_GRAM | LQ_NEEDS_QUANT_PREFIX,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .opts_bytes = sizeof(opts),
    .check = check,
    .layout = layout,
    .init = init,
    .effective = effective,
    .backward = lq_backward_none, /* nothing trains */
    .pack = pack,
    .unpack = unpack,
};
