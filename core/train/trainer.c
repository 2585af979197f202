#include "core/train/trainer.h"

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/math/gemm.h"
#include "core/math/kernels.h"
#include "core/train/checkpoint.h"
#include "core/train/slots.h"

#include <math.h>
#include <string.h>

typedef struct lane {
    lq_lane *acts;
    lq_weights grad;
    uint32_t *tokens, *targets; /* (batch,T) this step's sequences; shared by all lanes */
    double nats;
    lq_teacher_lane teacher; /* of a loss with a teacher */
    lq_loss_rows rows;
} lane;

typedef struct trainer {
    lq_qmodel *q;
    lq_batches *data;
    const lq_train_config *c;
    lq_loss_config loss; /* with its beta */
    lane *lane;          /* (lanes); lane 0 collects the gradients */
    lq_param *param;
    size_t n_params;
    float *(*slot_grad)[LQ_MAX_SLOTS]; /* (n_theta) NULL where frozen */
    lq_train_result *result;
} trainer;

double lq_gradient(const lq_weights *w, lq_lane *acts, const uint32_t *tokens,
                   const uint32_t *targets, size_t n, lq_weights *grad)
{
    size_t counted = 0;
    for (size_t i = 0; i < n * acts->T; i++)
        counted += targets[i] < w->config.V;
    lq_forward(w, acts, tokens, n);
    const double nats = lq_loss(w, acts, targets, 1.0f / (float)counted, grad, NULL);
    lq_backward(w, acts, tokens, grad);
    return nats / (double)counted;
}

static bool trains(const lq_train_config *c, const lq_theta *th, const lq_slot *slot)
{
    return slot->kind == LQ_KIND_CONTINUOUS && slot->train &&
           (c->slots == NULL || lq_slots_select(c->slots, th, slot));
}

/* Is this tensor of the model a parameter of its own (not the image of a theta)? */
static bool is_free(const trainer *t, const lq_weight *w)
{
    if (w->kind == LQ_WEIGHT_LINEAR)
        return t->q->method == NULL;
    return t->c->train_rest;
}

static lq_status add_param(trainer *t, lq_arena *arena, lq_param p)
{
    LQ_TRY(lq_arena_new(arena, &p.m, p.n));
    LQ_TRY(lq_arena_new(arena, &p.v, p.n));
    t->param[t->n_params++] = p;
    return LQ_OK;
}

static lq_status list_slots(trainer *t, lq_arena *arena)
{
    lq_qmodel *q = t->q;
    LQ_TRY(lq_arena_new(arena, &t->slot_grad, q->n_theta));
    for (size_t i = 0; i < q->n_theta; i++)
        for (size_t s = 0; s < q->theta[i].n_slots; s++) {
            const lq_slot *slot = &q->theta[i].slot[s];
            if (!trains(t->c, &q->theta[i], slot))
                continue;
            const size_t n = slot->rows * slot->cols;
            LQ_TRY(lq_arena_new(arena, &t->slot_grad[i][s], n));
            lq_param p = {.w = q->theta[i].data[s], .g = t->slot_grad[i][s], .n = n};
            p.name = lq_arena_printf(arena, "%s:%s", lq_qmodel_weight(q, i)->name, slot->name);
            p.lr = slot->lr > 0 ? slot->lr : t->c->lr * lq_slot_lr_scale(slot);
            p.grad_scale = slot->grad_scale;
            p.decay = slot->weight_decay;
            p.centre = slot->decay_centre;
            if (slot->weight_decay <= 0 && lq_slot_is_latent(&q->theta[i], slot))
                p.decay = t->c->weight_decay;
            LQ_TRY(add_param(t, arena, p));
        }
    return LQ_OK;
}

static lq_status list_params(trainer *t, lq_arena *arena)
{
    lq_qmodel *q = t->q;
    LQ_TRY(lq_arena_new(arena, &t->param, q->w.n_tensors + q->n_theta * LQ_MAX_SLOTS));
    LQ_TRY(list_slots(t, arena));
    for (size_t i = 0; i < q->w.n_tensors; i++) {
        const lq_weight *w = &q->w.tensor[i];
        if (!is_free(t, w))
            continue;
        const bool matrix = w->kind != LQ_WEIGHT_NORM && w->kind != LQ_WEIGHT_BIAS;
        lq_param p = {.name = w->name, .w = w->data, .n = w->rows * w->cols, .lr = t->c->lr};
        p.g = t->lane[0].grad.flat + w->offset;
        p.grad_scale = 1;
        p.decay = matrix ? t->c->weight_decay : 0;
        LQ_TRY(add_param(t, arena, p));
    }
    return LQ_OK;
}

static lq_status prepare(trainer *t, lq_arena *arena)
{
    const lq_train_config *c = t->c;
    LQ_ASSERT(c->micro > 0 && c->lanes > 0 && c->batch > 0 && c->T == t->data->T);
    const lq_keep keep = lq_train_keep(t->q, c);
    LQ_TRY(lq_arena_new(arena, &t->lane, c->lanes));
    LQ_TRY(lq_arena_new(arena, &t->lane[0].tokens, c->batch * c->T));
    LQ_TRY(lq_arena_new(arena, &t->lane[0].targets, c->batch * c->T));
    for (size_t i = 0; i < c->lanes; i++) {
        lane *l = &t->lane[i];
        l->tokens = t->lane[0].tokens;
        l->targets = t->lane[0].targets;
        LQ_TRY(lq_lane_new(&t->q->w.config, c->micro, c->T, keep, arena, &l->acts));
        if (c->compute == LQ_COMPUTE_BF16)
            LQ_TRY(lq_lane_use_bf16(l->acts));
        LQ_TRY(lq_weights_new(&t->q->w.config, arena, &l->grad));
        if (!lq_loss_has_teacher(&c->loss))
            continue;
        LQ_TRY(lq_teacher_lane_new(&c->teacher, &t->q->w.config, c->micro, c->T,
                                   c->loss.temperature, arena, &l->teacher));
        LQ_TRY(lq_loss_rows_new(t->q->w.config.V, arena, &l->rows));
    }
    if (c->slots != NULL && t->q->n_theta > 0)
        LQ_TRY(lq_slots_check(c->slots, "train", &t->q->theta[0]));
    LQ_TRY(list_params(t, arena));
    if (t->n_params == 0)
        return lq_fail(LQ_E_OPTION,
                       "train: nothing moves: no slot of %s is among '%s', rest is false",
                       t->q->method->name, c->slots != NULL ? c->slots : "its own");
    return lq_arena_new(arena, &t->result->loss, c->steps);
}

/* Of n sequences from the `at`-th of the step that begins with sequence `first` of the run. */
static double loss_of(trainer *t, lane *l, size_t first, size_t at, size_t n, float weight)
{
    const uint32_t *tokens = l->tokens + at * t->c->T, *targets = l->targets + at * t->c->T;
    if (!lq_loss_has_teacher(&t->loss))
        return lq_loss(&t->q->w, l->acts, targets, weight, &l->grad, NULL);
    lq_teacher_read(&l->teacher, tokens, first + at, n);
    return lq_loss_distill(&t->loss, &t->q->w, l->acts, targets, lq_teacher_rows, &l->teacher,
                           &l->rows, weight, &l->grad);
}

/* Micro-batches lane, lane + lanes, ...: forward, loss, backward, gradients added up. */
static void run_lane(trainer *t, size_t index, size_t first)
{
    const lq_train_config *c = t->c;
    lane *l = &t->lane[index];
    const float weight = 1.0f / (float)(c->sum_per_sequence ? c->batch : c->batch * c->T);
    l->nats = 0;
    memset(l->grad.flat, 0, l->grad.n * sizeof *l->grad.flat);
    for (size_t at = index * c->micro; at < c->batch; at += c->lanes * c->micro) {
        const size_t n = c->batch - at < c->micro ? c->batch - at : c->micro;
        lq_forward(&t->q->w, l->acts, l->tokens + at * c->T, n);
        l->nats += loss_of(t, l, first, at, n, weight);
        lq_backward(&t->q->w, l->acts, l->tokens + at * c->T, &l->grad);
    }
}

static void add_gradients(lq_weights *sum, const lq_weights *more)
{
    enum { CHUNK = 65536 };
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < sum->n; at += CHUNK)
        lq_kernels()->add(sum->flat + at, more->flat + at,
                          sum->n - at < CHUNK ? sum->n - at : CHUNK);
}

static void get_batch(trainer *t, size_t step)
{
    const lq_train_config *c = t->c;
    for (size_t b = 0; b < c->batch; b++)
        lq_batches_get(t->data, step * c->batch + b, t->lane[0].tokens + b * c->T,
                       t->lane[0].targets + b * c->T);
}

static double gradients(trainer *t, size_t step)
{
    const lq_train_config *c = t->c;
    get_batch(t, step);
#pragma omp parallel for schedule(static, 1) if (c->lanes > 1)
    for (size_t i = 0; i < c->lanes; i++)
        run_lane(t, i, step * c->batch);
    double nats = 0;
    for (size_t i = 0; i < c->lanes; i++) {
        nats += t->lane[i].nats;
        if (i > 0)
            add_gradients(&t->lane[0].grad, &t->lane[i].grad);
    }
    return nats / (double)(c->batch * c->T);
}

/* dL/dW of every linear becomes dL/dslot of its theta. */
static void pull_back(trainer *t)
{
    lq_qmodel *q = t->q;
#pragma omp parallel
    {
        lq_arena scratch = {0};
#pragma omp for schedule(dynamic, 1)
        for (size_t i = 0; i < q->n_theta; i++) {
            const lq_theta *th = &q->theta[i];
            for (size_t s = 0; s < th->n_slots; s++)
                if (t->slot_grad[i][s] != NULL)
                    memset(t->slot_grad[i][s], 0,
                           th->slot[s].rows * th->slot[s].cols * sizeof(float));
            q->method->backward(th, t->lane[0].grad.flat + lq_qmodel_weight(q, i)->offset,
                                t->slot_grad[i], &scratch);
        }
        lq_arena_close(&scratch);
    }
}

static lq_status one_step(trainer *t, size_t step)
{
    const lq_train_config *c = t->c;
    if (t->q->method != NULL) {
        lq_qmodel_at(t->q, 0, t->q->n_theta, LQ_STAGE_END_TO_END, step, c->steps, &c->noise);
        lq_qmodel_refresh(t->q);
    }
    const double loss = gradients(t, step);
    if (t->q->method != NULL)
        pull_back(t);
    const double norm = lq_params_grad_norm(t->param, t->n_params);
    t->result->loss[step] = loss;
    if (!isfinite(loss) || !isfinite(norm))
        return lq_fail(LQ_E_NUMERIC, "training diverged at step %zu: loss %g, gradient norm %g",
                       step, loss, norm);
    lq_optimizer_step((lq_optimizer_kind)c->optimizer, &c->adamw, t->param, t->n_params, step + 1,
                      lq_schedule_factor(&c->schedule, step, c->steps), norm);
    return LQ_OK;
}

/* ---- The teacher's confidence ------------------------------------------------------------------ */

static bool measures_beta(const lq_loss_config *loss)
{
    return loss->kind == LQ_LOSS_CAKLD && loss->beta <= 0;
}

static void confide(trainer *t, size_t index, size_t first)
{
    const lq_train_config *c = t->c;
    lane *l = &t->lane[index];
    l->nats = 0;
    for (size_t at = index * c->micro; at < c->batch; at += c->lanes * c->micro) {
        const size_t n = c->batch - at < c->micro ? c->batch - at : c->micro;
        lq_teacher_read(&l->teacher, l->tokens + at * c->T, first + at, n);
        l->nats += lq_teacher_confidence(&l->teacher, l->rows.teacher);
    }
}

/* The released loop adds up eleven batches and divides by ten. The teacher and the data are the run's, so
 * a resumed run measures the same bits. */
static double measure_beta(trainer *t)
{
    const lq_train_config *c = t->c;
    double total = 0;
    for (size_t step = 0; step < LQ_BETA_BATCHES; step++) {
        get_batch(t, step);
#pragma omp parallel for schedule(static, 1) if (c->lanes > 1)
        for (size_t i = 0; i < c->lanes; i++)
            confide(t, i, step * c->batch);
        for (size_t i = 0; i < c->lanes; i++)
            total += t->lane[i].nats;
    }
    return total / (double)((LQ_BETA_BATCHES - 1) * c->batch * c->T);
}

size_t lq_train_sequences(const lq_train_config *c)
{
    const size_t least = measures_beta(&c->loss) ? LQ_BETA_BATCHES : 0;
    return c->batch * (c->steps > least ? c->steps : least);
}

static lq_checkpoint checkpoint_of(const trainer *t, size_t step)
{
    return (lq_checkpoint){.path = t->c->checkpoint,
                           .fingerprint = t->c->fingerprint,
                           .param = t->param,
                           .n_params = t->n_params,
                           .step = step,
                           .loss = t->result->loss,
                           .n_loss = t->c->steps};
}

/* A large model's checkpoint takes seconds: they are spaced so that writing stays a small part of the time. */
static lq_status write_checkpoint(const trainer *t, size_t step, double *next_s)
{
    enum { SPARING = 30 };
    const double begin = lq_clock_wall_s();
    lq_checkpoint now = checkpoint_of(t, step);
    LQ_TRY(lq_checkpoint_write(&now));
    const double end = lq_clock_wall_s(), sparing = SPARING * (end - begin);
    const bool at_once = t->c->checkpoint_s < 0;
    *next_s = end + (at_once || sparing < t->c->checkpoint_s ? t->c->checkpoint_s : sparing);
    return LQ_OK;
}

static lq_status loop(trainer *t, size_t first, lq_on_step on_step, void *context)
{
    const lq_train_config *c = t->c;
    lq_progress progress = lq_progress_resume("training", first, c->steps, "step");
    double next_s = lq_clock_wall_s() + c->checkpoint_s;
    lq_status status = LQ_OK;
    size_t step = first;
    while (status == LQ_OK && step < c->steps) {
        status = one_step(t, step);
        if (status != LQ_OK)
            break;
        t->result->steps_done = ++step;
        if (on_step != NULL)
            status = on_step(context, step, t->result->loss[step - 1],
                             lq_schedule_factor(&c->schedule, step - 1, c->steps));
        lq_progress_update(&progress, step, "loss %.4f", t->result->loss[step - 1]);
        const bool stop = lq_stop_asked() && step < c->steps;
        const bool due = lq_clock_wall_s() > next_s && step < c->steps;
        if (c->checkpoint != NULL && status == LQ_OK && (stop || due))
            status = write_checkpoint(t, step, &next_s);
        if (stop && status == LQ_OK)
            status = lq_fail(LQ_E_STOPPED,
                             "stopped after step %zu of %zu; run the same command "
                             "again to go on",
                             step, c->steps);
    }
    lq_progress_end(&progress);
    return status;
}

static lq_status train_in(trainer *t, lq_arena *arena, lq_on_step on_step, void *context)
{
    const lq_train_config *c = t->c;
    LQ_TRY(prepare(t, arena));
    lq_checkpoint saved = checkpoint_of(t, 0);
    if (c->checkpoint != NULL && lq_path_exists(c->checkpoint))
        LQ_TRY(lq_checkpoint_read(&saved, arena));
    t->result->steps_done = saved.step;
    /* Several lanes are a parallel region, in which BLAS keeps to one thread. A lane alone must be told,
     * for the bits of a product depend on its threads. Told for several, it would starve the lanes: the
     * setting of OpenBLAS's OpenMP build is OpenMP's own. */
    const int threads = lq_blas_threads(1);
    if (c->lanes > 1)
        lq_blas_threads(threads);
    if (measures_beta(&t->loss))
        t->loss.beta = measure_beta(t);
    t->result->beta = t->loss.beta;
    const lq_status status = loop(t, saved.step, on_step, context);
    lq_blas_threads(threads);
    return status;
}

static void close_lanes(trainer *t)
{
    for (size_t i = 0; t->lane != NULL && i < t->c->lanes; i++)
        lq_lane_close(t->lane[i].acts);
}

lq_status lq_train(lq_qmodel *q, lq_batches *data, const lq_train_config *config, lq_arena *arena,
                   lq_on_step on_step, void *context, lq_train_result *out)
{
    memset(out, 0, sizeof *out);
    trainer t = {.q = q, .data = data, .c = config, .loss = config->loss, .result = out};
    LQ_TRY(lq_qmodel_begin(q, LQ_STAGE_END_TO_END));
    lq_status status = train_in(&t, arena, on_step, context);
    close_lanes(&t);
    out->tokens = out->steps_done * config->batch * config->T;
    const size_t tail = out->steps_done / 10 > 0 ? out->steps_done / 10 : 1;
    for (size_t i = 0; out->steps_done > 0 && i < tail; i++)
        out->final_loss += out->loss[out->steps_done - 1 - i] / (double)tail;
    LQ_TRY(status);
    if (q->method != NULL) {
        lq_qmodel_done(q, 0, q->n_theta);
        lq_qmodel_refresh(q);
    }
    return LQ_OK;
}

static size_t bytes_keeping(const lq_qmodel *q, const lq_train_config *c, lq_keep keep)
{
    size_t slots = 0, rest = 0;
    for (size_t i = 0; i < q->n_theta; i++)
        for (size_t s = 0; s < q->theta[i].n_slots; s++) {
            const lq_slot *slot = &q->theta[i].slot[s];
            const size_t width =
                slot->kind == LQ_KIND_DISCRETE ? 1 : 4 * (trains(c, &q->theta[i], slot) ? 4 : 1);
            slots += slot->rows * slot->cols * width; /* value, gradient, two moments */
        }
    for (size_t i = 0; i < q->w.n_tensors; i++) {
        const lq_weight *w = &q->w.tensor[i];
        const bool moves = w->kind == LQ_WEIGHT_LINEAR ? q->method == NULL : c->train_rest;
        rest += moves ? 2 * 4 * w->rows * w->cols : 0; /* two moments */
    }
    size_t each = lq_lane_bytes(&q->w.config, c->micro, c->T, keep), teacher = 0;
    if (c->compute == LQ_COMPUTE_BF16)
        each += lq_lane_bf16_bytes(&q->w.config, c->micro, c->T);
    if (lq_loss_has_teacher(&c->loss)) {
        each += lq_loss_bytes(q->w.config.V);
        each += lq_teacher_lane_bytes(&c->teacher, &q->w.config, c->micro, c->T);
        teacher = c->teacher.w != NULL ? 4 * c->teacher.w->n : 0;
    }
    return slots + rest + teacher + 4 * q->w.n * (1 + c->lanes) /* weights, a gradient a lane */
           + c->lanes * each;
}

lq_keep lq_train_keep(const lq_qmodel *q, const lq_train_config *c)
{
    if (c->checkpointing != LQ_CHECKPOINTING_AUTO)
        return c->checkpointing == LQ_CHECKPOINTING_ON ? LQ_KEEP_INPUTS : LQ_KEEP_ALL;
    const size_t most = lq_clock_memory_bytes() / 2;
    return bytes_keeping(q, c, LQ_KEEP_ALL) > most ? LQ_KEEP_INPUTS : LQ_KEEP_ALL;
}

size_t lq_train_bytes(const lq_qmodel *q, const lq_train_config *c)
{
    return bytes_keeping(q, c, lq_train_keep(q, c));
}
