#include "core/train/qmodel.h"

#include <string.h>

const lq_weight *lq_qmodel_weight(const lq_qmodel *q, size_t theta)
{
    const size_t layer = theta / LQ_N_LINEARS;
    const lq_layer_tensor id = (lq_layer_tensor)(theta % LQ_N_LINEARS);
    for (size_t i = 0; i < q->w.n_tensors; i++)
        if (q->w.tensor[i].layer == layer && q->w.tensor[i].id == id)
            return &q->w.tensor[i];
    const bool every_layer_has_every_linear = false;
    LQ_ASSERT(every_layer_has_every_linear);
    return NULL;
}

static lq_status thetas_new(lq_qmodel *out, const lq_method *method, const void *opts,
                            lq_arena *arena)
{
    out->method = method;
    out->opts = opts;
    if (method == NULL)
        return LQ_OK;
    out->n_theta = out->w.config.L * LQ_N_LINEARS;
    LQ_TRY(lq_arena_new(arena, &out->theta, out->n_theta));
    for (size_t i = 0; i < out->n_theta; i++) {
        const lq_weight *t = lq_qmodel_weight(out, i);
        LQ_TRY(lq_theta_new(method, opts, t->rows, t->cols, arena, &out->theta[i]));
        out->theta[i].linear = t->name;
    }
    return LQ_OK;
}

lq_status lq_qmodel_new(const lq_weights *full, const lq_method *method, const void *opts,
                        lq_arena *arena, lq_qmodel *out)
{
    memset(out, 0, sizeof *out);
    LQ_TRY(lq_weights_new(&full->config, arena, &out->w));
    memcpy(out->w.flat, full->flat, full->n * sizeof *full->flat);
    return thetas_new(out, method, opts, arena);
}

lq_status lq_qmodel_take(lq_weights *full, const lq_method *method, const void *opts,
                         lq_arena *arena, lq_qmodel *out)
{
    memset(out, 0, sizeof *out);
    out->w = *full;
    return thetas_new(out, method, opts, arena);
}

static lq_status begin(lq_qmodel *q, size_t first, size_t n, lq_stage stage)
{
    lq_status status = LQ_OK;
    lq_arena scratch = {0};
    for (size_t i = first; status == LQ_OK && i < first + n && q->method->begin != NULL; i++)
        status = q->method->begin(&q->theta[i], stage, &scratch);
    lq_arena_close(&scratch);
    return status;
}

lq_status lq_qmodel_begin(lq_qmodel *q, lq_stage stage)
{
    return q->method == NULL ? LQ_OK : begin(q, 0, q->n_theta, stage);
}

lq_status lq_qmodel_begin_block(lq_qmodel *q, size_t layer, lq_stage stage)
{
    return begin(q, layer * LQ_N_LINEARS, LQ_N_LINEARS, stage);
}

void lq_qmodel_at(lq_qmodel *q, size_t first, size_t n, lq_stage stage, size_t step, size_t steps,
                  const lq_rng *rng)
{
    const lq_rng now = lq_rng_split(rng, "step", step);
    for (size_t i = first; i < first + n; i++) {
        lq_rng own = lq_rng_split(&now, "theta", i);
        q->theta[i].now = (lq_when){
            .stage = stage, .progress = (double)step / (double)steps, .seed = lq_rng_u64(&own)};
    }
}

void lq_qmodel_done(lq_qmodel *q, size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++)
        q->theta[i].now = (lq_when){.stage = LQ_STAGE_DONE};
}

void lq_qmodel_refresh(lq_qmodel *q)
{
#pragma omp parallel
    {
        lq_arena scratch = {0};
#pragma omp for schedule(dynamic, 1)
        for (size_t i = 0; i < q->n_theta; i++) {
            const lq_weight *t = lq_qmodel_weight(q, i);
            q->method->effective(&q->theta[i], t->data, &scratch);
        }
        lq_arena_close(&scratch);
    }
}
