#include "core/train/blockwise.h"

#include "core/base/clock.h"
#include "core/math/gemm.h"
#include "core/math/kernels.h"
#include "core/train/optimizer.h"
#include "core/train/schedule.h"
#include "core/train/slots.h"

#include <math.h>
#include <string.h>

/* PyTorch's Adam has 1e-8: gradients of a mean over all entries of a block's output are small, and that
 * would not be (docs/decisions/0041). */
static const double adam_eps = 1e-12;

typedef struct lane { /* activations and gradients of some micro-batches; one thread at a time */
    lq_lane *acts;
    float *flat, *grad[LQ_N_LAYER_TENSORS]; /* laid out as the block's tensors are */
    float *second; /* (T,D) distance from the other target; NULL: there is one only */
    double squares;
} lane;

typedef struct tuner {
    lq_qmodel *q;
    const lq_blockwise_config *c;
    const lq_blockwise_data *data;
    size_t layer, n_train, n_floats; /* n_floats: of all tensors of the block */
    size_t steps, done;              /* of this block */
    double least_step;               /* least training loss of a step */
    lq_weights view;                 /* q->w, seen as a model of this one block */
    lane *lane;                      /* (c->lanes); lane 0 collects the gradients */
    lq_param *param;
    size_t n_params, n_values;
    float *slot_grad[LQ_N_LINEARS][LQ_MAX_SLOTS]; /* NULL where nothing moves */
    float *best;                                  /* (n_values) all parameters, one after another */
    uint32_t *order;                              /* (n_train) */
    lq_rng noise;
} tuner;

/* ---- What moves -------------------------------------------------------------------------------- */

static bool moves(const lq_blockwise_config *c, const lq_theta *th, const lq_slot *slot)
{
    return th->method->backward != lq_backward_none && lq_slots_select(c->slots, th, slot);
}

static lq_status check_names(const lq_blockwise_config *c, const lq_theta *th)
{
    const bool named = strcmp(c->slots, "all") != 0 && strcmp(c->slots, "scales") != 0;
    size_t n_moving = 0;
    LQ_TRY(lq_slots_check(c->slots, "blockwise", th));
    for (size_t s = 0; s < th->n_slots; s++)
        n_moving += moves(c, th, &th->slot[s]);
    if (n_moving == 0 && named)
        return lq_fail(LQ_E_OPTION, "blockwise: slots '%s': %s trains nothing", c->slots,
                       th->method->name);
    if (n_moving == 0 && !c->norms)
        return lq_fail(LQ_E_OPTION,
                       "blockwise: nothing moves: %s has no slots to tune, norms is false",
                       th->method->name);
    return LQ_OK;
}

lq_status lq_blockwise_check(const lq_blockwise_config *c, const lq_qmodel *q)
{
    return q->n_theta > 0 ? check_names(c, &q->theta[0]) : LQ_OK;
}

static lq_status add_param(tuner *t, lq_arena *arena, lq_param p)
{
    p.lr /= t->c->lr_unit == LQ_LR_STAGE ? (double)t->steps : 1;
    LQ_TRY(lq_arena_new(arena, &p.m, p.n));
    LQ_TRY(lq_arena_new(arena, &p.v, p.n));
    t->n_values += p.n;
    t->param[t->n_params++] = p;
    return LQ_OK;
}

static lq_param param_of(const lq_blockwise_config *c, lq_theta *th, size_t s, float *grad)
{
    const lq_slot *slot = &th->slot[s];
    const bool latent = lq_slot_is_latent(th, slot);
    lq_param p = {.name = slot->name, .w = th->data[s], .g = grad, .n = slot->rows * slot->cols};
    p.lr = (latent ? c->lr_latent : c->lr_scales) * lq_slot_lr_scale(slot);
    p.decay = latent ? c->decay_latent : 0;
    p.grad_scale = 1;
    p.lowest = slot->lowest;
    p.highest = slot->highest;
    if (!c->slot_rates)
        return p;
    p.lr = slot->lr > 0 ? slot->lr : p.lr;
    p.grad_scale = slot->grad_scale;
    if (slot->weight_decay > 0) {
        p.decay = slot->weight_decay;
        p.centre = slot->decay_centre;
    }
    return p;
}

static lq_status list_params(tuner *t, lq_arena *arena)
{
    LQ_TRY(lq_arena_new(arena, &t->param, LQ_N_LINEARS * LQ_MAX_SLOTS + LQ_N_LAYER_TENSORS));
    for (size_t i = 0; i < LQ_N_LINEARS; i++) {
        lq_theta *th = &t->q->theta[t->layer * LQ_N_LINEARS + i];
        for (size_t s = 0; s < th->n_slots; s++) {
            const lq_slot *slot = &th->slot[s];
            if (!moves(t->c, th, slot))
                continue;
            LQ_TRY(lq_arena_new(arena, &t->slot_grad[i][s], slot->rows * slot->cols));
            LQ_TRY(add_param(t, arena, param_of(t->c, th, s, t->slot_grad[i][s])));
        }
    }
    for (size_t i = 0; t->c->norms && i < t->q->w.n_tensors; i++) {
        const lq_weight *w = &t->q->w.tensor[i];
        if (w->layer == t->layer && w->kind == LQ_WEIGHT_NORM)
            LQ_TRY(add_param(t, arena,
                             (lq_param){.name = w->name,
                                        .w = w->data,
                                        .g = t->lane[0].grad[w->id],
                                        .n = w->cols,
                                        .lr = t->c->lr_norms,
                                        .grad_scale = 1}));
    }
    LQ_TRY(lq_arena_new(arena, &t->best, t->n_values));
    return LQ_OK;
}

/* ---- Preparing --------------------------------------------------------------------------------- */

static lq_status lane_new(const tuner *t, lane *l, lq_arena *arena)
{
    lq_config shape = t->view.config;
    shape.V = 1; /* a lane of one block computes no logits */
    LQ_TRY(lq_lane_new(&shape, t->c->micro, t->data->T, LQ_KEEP_ALL, arena, &l->acts));
    LQ_TRY(lq_arena_new(arena, &l->flat, t->n_floats));
    if (t->c->target == LQ_TARGET_BOTH)
        LQ_TRY(lq_arena_new(arena, &l->second, t->data->T * shape.D));
    for (size_t i = 0; i < LQ_N_LAYER_TENSORS; i++)
        if (t->view.layer[0][i] != NULL)
            l->grad[i] = l->flat + (t->view.layer[0][i] - t->view.layer[0][0]);
    return LQ_OK;
}

/* Of n sequences, the first so many train; the others are held out. */
static size_t n_training(const lq_blockwise_config *c, size_t n)
{
    const size_t held = (size_t)(c->validation * (double)n);
    return held == 0 ? n - 1 : held >= n ? 1 : n - held;
}

static lq_status prepare(tuner *t, lq_arena *arena)
{
    const lq_blockwise_config *c = t->c;
    LQ_ASSERT(c->batch > 0 && c->micro > 0 && c->lanes > 0);
    const size_t n = t->data->n_sequences;
    if (n < 2)
        return lq_fail(LQ_E_SHAPE,
                       "blockwise: %zu sequences; one to train and one to validate are "
                       "the least",
                       n);
    t->n_train = n_training(c, n);
    t->steps = lq_blockwise_steps(c, n);
    t->least_step = INFINITY;
    t->view = t->q->w;
    t->view.config.L = 1;
    t->view.layer = t->q->w.layer + t->layer;
    for (size_t i = 0; i < t->q->w.n_tensors; i++)
        if (t->q->w.tensor[i].layer == t->layer)
            t->n_floats += t->q->w.tensor[i].rows * t->q->w.tensor[i].cols;
    LQ_TRY(lq_arena_new(arena, &t->lane, c->lanes));
    for (size_t i = 0; i < c->lanes; i++)
        LQ_TRY(lane_new(t, &t->lane[i], arena));
    LQ_TRY(lq_arena_new(arena, &t->order, t->n_train));
    return list_params(t, arena);
}

/* ---- Forward and backward ---------------------------------------------------------------------- */

/* off (entries) = output - target of one sequence, and with two targets the sum of both distances;
 * returns the squares. */
static double distance(const tuner *t, lane *l, size_t sequence, const float *y, float *off)
{
    const size_t entries = t->data->T * t->view.config.D, at = sequence * entries;
    const bool own = t->c->target == LQ_TARGET_BLOCK;
    const float *target = (own ? t->data->block_target : t->data->target) + at;
    for (size_t i = 0; i < entries; i++)
        off[i] = y[i] - target[i];
    double squares = lq_sum_squares(off, entries);
    if (l->second == NULL)
        return squares;
    target = t->data->block_target + at;
    for (size_t i = 0; i < entries; i++)
        l->second[i] = y[i] - target[i];
    for (size_t i = 0; i < entries; i++)
        off[i] += l->second[i];
    return squares + lq_sum_squares(l->second, entries);
}

/* Micro-batches index, index + lanes, ... of the n sequences which[0], ...; NULL: those held out.
 * scale > 0: the gradient of scale * (sum of squares) is added up. */
static void run_lane(tuner *t, size_t index, const uint32_t *which, size_t n, float scale)
{
    const lq_blockwise_config *c = t->c;
    const size_t entries = t->data->T * t->view.config.D;
    lane *l = &t->lane[index];
    lq_lane *acts = l->acts;
    l->squares = 0;
    if (scale > 0)
        memset(l->flat, 0, t->n_floats * sizeof *l->flat);
    for (size_t at = index * c->micro; at < n; at += c->lanes * c->micro) {
        const size_t B = n - at < c->micro ? n - at : c->micro;
        float *x = acts->layer[0].x, *y = acts->x_final;
        for (size_t b = 0; b < B; b++) {
            const size_t from = which != NULL ? which[at + b] : t->n_train + at + b;
            memcpy(x + b * entries, t->data->input + from * entries, entries * sizeof *x);
        }
        lq_block_forward(&t->view, acts, 0, x, B, y);
        for (size_t b = 0; b < B; b++) {
            const size_t from = which != NULL ? which[at + b] : t->n_train + at + b;
            l->squares += distance(t, l, from, y + b * entries, acts->dx + b * entries);
        }
        if (scale <= 0)
            continue;
        for (size_t i = 0; i < B * entries; i++)
            acts->dx[i] *= 2 * scale;
        lq_block_backward(&t->view, acts, 0, acts->dx, B, NULL, l->grad);
    }
}

/* Mean squared error over the sequences; with_gradient: and its gradient, in lane 0. */
static double run_lanes(tuner *t, const uint32_t *which, size_t n, bool with_gradient)
{
    const double entries = (double)n * (double)(t->data->T * t->view.config.D);
#pragma omp parallel for schedule(static, 1) if (t->c->lanes > 1)
    for (size_t i = 0; i < t->c->lanes; i++)
        run_lane(t, i, which, n, with_gradient ? (float)(1 / entries) : 0.0f);
    double squares = 0;
    for (size_t i = 0; i < t->c->lanes; i++) {
        squares += t->lane[i].squares;
        for (size_t j = 0; with_gradient && i > 0 && j < t->n_floats; j++)
            t->lane[0].flat[j] += t->lane[i].flat[j];
    }
    return squares / entries;
}

/* With grads, dL/dW of the block's linears becomes dL/dslot; else theta becomes W. */
static void walk_thetas(tuner *t, bool grads)
{
#pragma omp parallel
    {
        lq_arena scratch = {0};
#pragma omp for schedule(dynamic, 1)
        for (size_t i = 0; i < LQ_N_LINEARS; i++) {
            const lq_theta *th = &t->q->theta[t->layer * LQ_N_LINEARS + i];
            for (size_t s = 0; grads && s < th->n_slots; s++)
                if (t->slot_grad[i][s] != NULL)
                    memset(t->slot_grad[i][s], 0,
                           th->slot[s].rows * th->slot[s].cols * sizeof(float));
            if (grads)
                th->method->backward(th, t->lane[0].grad[i], t->slot_grad[i], &scratch);
            else
                th->method->effective(th, t->view.layer[0][i], &scratch);
        }
        lq_arena_close(&scratch);
    }
}

static void at_step(tuner *t)
{
    lq_qmodel_at(t->q, t->layer * LQ_N_LINEARS, LQ_N_LINEARS, LQ_STAGE_BLOCKWISE, t->done, t->steps,
                 &t->noise);
    walk_thetas(t, false);
}

/* Of the weights that would ship. */
static double validate(tuner *t)
{
    lq_qmodel_done(t->q, t->layer * LQ_N_LINEARS, LQ_N_LINEARS);
    walk_thetas(t, false);
    return run_lanes(t, NULL, t->data->n_sequences - t->n_train, false);
}

/* ---- The loop ---------------------------------------------------------------------------------- */

static void keep(tuner *t)
{
    float *at = t->best;
    for (size_t i = 0; i < t->n_params; at += t->param[i++].n)
        memcpy(at, t->param[i].w, t->param[i].n * sizeof *at);
}

static void put_back(tuner *t)
{
    const float *at = t->best;
    for (size_t i = 0; i < t->n_params; at += t->param[i++].n)
        memcpy(t->param[i].w, at, t->param[i].n * sizeof *at);
    lq_qmodel_done(t->q, t->layer * LQ_N_LINEARS, LQ_N_LINEARS);
    walk_thetas(t, false);
}

static void optimize(tuner *t, double norm)
{
    static const lq_schedule_kind kind[] = {LQ_SCHEDULE_CONSTANT, LQ_SCHEDULE_COSINE,
                                            LQ_SCHEDULE_LINEAR};
    const lq_schedule schedule = {.kind = kind[t->c->schedule]};
    const lq_adamw numbers = {.beta1 = t->c->beta1, .beta2 = t->c->beta2, .eps = adam_eps};
    const double floor = t->c->lr_floor;
    const double factor = floor + (1 - floor) * lq_schedule_factor(&schedule, t->done, t->steps);
    lq_optimizer_step((lq_optimizer_kind)t->c->optimizer, &numbers, t->param, t->n_params,
                      ++t->done, factor, norm);
}

/* One pass over the training sequences, or what is left of the steps; false: the loss is no number any
 * more. */
static bool one_epoch(tuner *t, size_t epoch, const lq_rng *rng,
                      const lq_blockwise_progress *progress, lq_blockwise_result *out)
{
    lq_rng stream = lq_rng_split(rng, "order", epoch);
    lq_rng_permutation(&stream, t->order, t->n_train);
    for (size_t at = 0; at < t->n_train && t->done < t->steps && !lq_stop_asked();
         at += t->c->batch) {
        const size_t n = t->n_train - at < t->c->batch ? t->n_train - at : t->c->batch;
        at_step(t);
        const double mse = run_lanes(t, t->order + at, n, true);
        walk_thetas(t, true);
        const double norm = lq_params_grad_norm(t->param, t->n_params);
        if (!isfinite(mse) || !isfinite(norm)) {
            lq_log_warn("fine-tuning block %zu: loss %g, gradient norm %g in epoch %zu; its best "
                        "state is kept",
                        t->layer, mse, norm, epoch + 1);
            return false;
        }
        if (t->c->keep == LQ_KEEP_BEST_STEP && mse < t->least_step) {
            t->least_step = mse;
            out->best_epoch = t->done > 0 ? epoch + 1 : 0;
            keep(t);
        }
        optimize(t, norm);
        if (progress->line != NULL)
            lq_progress_update(progress->line, progress->done + t->done,
                               "block %zu, epoch %zu, mse %.3g", t->layer + 1, epoch + 1, mse);
    }
    return true;
}

/* What an epoch, sane or not, means for the state that is kept. */
static void judge(tuner *t, size_t epoch, bool sane, lq_blockwise_result *out)
{
    if (t->c->keep == LQ_KEEP_BEST_STEP || !sane)
        return;
    const double mse = t->c->keep == LQ_KEEP_BEST ? validate(t) : 0;
    if (t->c->keep == LQ_KEEP_BEST && !(mse < out->mse_after))
        return;
    out->mse_after = mse;
    out->best_epoch = epoch + 1;
    keep(t);
}

static lq_status loop(tuner *t, const lq_rng *rng, const lq_blockwise_progress *progress,
                      lq_blockwise_result *out)
{
    bool sane = true;
    out->mse_before = out->mse_after = validate(t);
    if (!isfinite(out->mse_before))
        return lq_fail(LQ_E_NUMERIC, "fine-tuning block %zu: its output is not finite", t->layer);
    keep(t);
    for (size_t e = 0; sane && t->done < t->steps; e++) {
        if (t->c->keep == LQ_KEEP_BEST && e - out->best_epoch >= t->c->patience)
            break;
        sane = one_epoch(t, e, rng, progress, out);
        if (lq_stop_asked())
            return lq_fail(LQ_E_STOPPED, "fine-tuning stopped at block %zu", t->layer);
        out->epochs = e + 1;
        judge(t, e, sane, out);
    }
    put_back(t);
    if (t->c->keep != LQ_KEEP_BEST)
        out->mse_after = validate(t);
    return LQ_OK;
}

static lq_status tune(tuner *t, const lq_rng *rng, const lq_blockwise_progress *progress,
                      lq_arena *arena, lq_blockwise_result *out)
{
    LQ_TRY(lq_qmodel_begin_block(t->q, t->layer, LQ_STAGE_BLOCKWISE));
    LQ_TRY(check_names(t->c, &t->q->theta[t->layer * LQ_N_LINEARS]));
    LQ_TRY(prepare(t, arena));
    float *const *norm = t->view.layer[0];
    const lq_config *c = &t->view.config;
    float *saved = lq_arena_f32(arena, t->n_floats);
    memcpy(saved, norm[LQ_Q], t->n_floats * sizeof *saved);
    LQ_TRY(loop(t, rng, progress, out));
    if (!t->c->drop_norms)
        return LQ_OK;
    for (size_t i = LQ_INPUT_NORM; i <= LQ_K_NORM; i++)
        if (norm[i] != NULL)
            memcpy(norm[i], saved + (norm[i] - norm[LQ_Q]),
                   (i <= LQ_POST_NORM ? c->D : c->dh) * sizeof *saved);
    out->mse_after = validate(t);
    return LQ_OK;
}

bool lq_blockwise_is_on(const lq_blockwise_config *c) { return c->epochs > 0 || c->iterations > 0; }

size_t lq_blockwise_steps(const lq_blockwise_config *c, size_t n_sequences)
{
    if (n_sequences < 2 || c->iterations > 0)
        return n_sequences < 2 ? 0 : c->iterations;
    return c->epochs * ((n_training(c, n_sequences) + c->batch - 1) / c->batch);
}

lq_status lq_blockwise_tune(lq_qmodel *q, size_t layer, const lq_blockwise_data *data,
                            const lq_blockwise_config *config, const lq_rng *rng,
                            lq_blockwise_progress progress, lq_blockwise_result *out)
{
    lq_arena arena = {0};
    tuner t = {.q = q, .c = config, .data = data, .layer = layer};
    const lq_rng stream = lq_rng_split(rng, "blockwise", layer);
    t.noise = lq_rng_split(&stream, "noise", 0);
    const int threads = lq_blas_threads(1); /* as in lq_train: a lane alone must be told */
    if (config->lanes > 1)
        lq_blas_threads(threads);
    memset(out, 0, sizeof *out);
    lq_status status = tune(&t, &stream, &progress, &arena, out);
    lq_blas_threads(threads);
    lq_arena_close(&arena);
    return status;
}
