/* GPTQ: columns are rounded one after another, and each error is made good, as far as the inputs
 * correlate, by the columns still to come. With H = E[x' x] (in,in) and U upper, H^-1 = U' U:
 *
 *     for j = 0..in-1:   q_j = round(w_j);  e = (w_j - q_j) / U_jj;  w_k -= e U_jk  for k > j
 *
 * Blocks of columns are finished on their own before one product updates the rest. The working copy is
 * transposed, (in,out), so that every inner loop runs along the rows of W; it is in double, the levels
 * are chosen in float: docs/decisions/0013-gptq-works-in-double.md. */
#include "core/quant/gptq.h"

#include "core/base/log.h"
#include "core/math/gemm.h"
#include "core/math/linalg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 128, MAX_DAMPINGS = 5 };

typedef struct work { /* one run of the algorithm; arrays live in scratch */
    lq_theta *th;
    const lq_gptq_how *o;
    size_t group;       /* columns a group, <= in */
    size_t *order;      /* (in) column of W at position p */
    double *wt;         /* (in,out) W' in that order, corrected as the run proceeds */
    double *block;      /* (BLOCK,out) working copy of the block's rows of wt */
    double *error;      /* (BLOCK,out) e of the block */
    double *factor;     /* (in,in) U */
    float *gather;      /* (in) one group of one row */
    const float *fixed; /* (out,in) W without dead columns, for static groups */
} work;

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
        if (!lq_grid_fit(&k->o->rule, k->gather, end - first, &grid))
            return lq_fail(LQ_E_NUMERIC, "gptq: the step of row %zu, group %zu overflows fp16", i,
                           first / k->group);
        lq_grid_set(k->th, &k->o->rule, i, first / k->group, grid);
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
            if (!lq_grid_fit(&k->o->rule, k->fixed + i * in + first, n, &grid))
                return lq_fail(LQ_E_NUMERIC, "gptq: the step of row %zu, group %zu overflows fp16",
                               i, first / k->group);
            lq_grid_set(k->th, &k->o->rule, i, first / k->group, grid);
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
        lq_grid grid = lq_grid_get(k->th, &k->o->rule, i, group);
        int level = lq_grid_code(grid, k->o->rule.q_max, (float)w[i]);
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

static lq_status run(work *k, const float *w, const double *gram, float *group_of,
                     lq_arena *scratch)
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
    for (size_t p = 0; p < in && group_of != NULL; p++)
        group_of[k->order[p]] = (float)((k->o->static_groups ? k->order[p] : p) / k->group);
    return LQ_OK;
}

lq_status lq_gptq(lq_theta *th, const float *w, const double *gram, const lq_gptq_how *how,
                  float *group_of, lq_arena *scratch)
{
    LQ_TRY(check_gram(gram, th->in));
    work k = {.th = th, .o = how};
    k.group = how->rule.group == 0 || how->rule.group > th->in ? th->in : how->rule.group;
    lq_mark mark = lq_arena_mark(scratch);
    lq_status status = run(&k, w, gram, group_of, scratch);
    lq_arena_release(scratch, mark);
    return status;
}
