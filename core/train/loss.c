#include "core/train/loss.h"

#include "core/math/kernels.h"

#include <string.h>

bool lq_loss_has_teacher(const lq_loss_config *loss) { return loss->kind != LQ_LOSS_CE; }

size_t lq_loss_bytes(size_t V) { return 2 * sizeof(float) * LQ_LOSS_ROWS * V; }

lq_status lq_loss_rows_new(size_t V, lq_arena *arena, lq_loss_rows *out)
{
    LQ_TRY(lq_arena_new(arena, &out->student, LQ_LOSS_ROWS * V));
    return lq_arena_new(arena, &out->teacher, LQ_LOSS_ROWS * V);
}

/* nats (n) of the divergence without its weight; the teacher's logits become its scaled gradient. */
static void diverge(const lq_loss_config *c, lq_loss_rows *rows, size_t n, size_t V, float scale)
{
    const lq_kernel_table *k = lq_kernels();
    const float inv_T = (float)(1 / c->temperature), beta = (float)c->beta;
    const float w = (float)((double)scale * c->weight * c->temperature * c->temperature);
    if (c->kind == LQ_LOSS_JSD) {
        k->js_divergence(rows->nats, rows->teacher, rows->student, n, V, inv_T, beta, w);
        return;
    }
    const float reverse = c->kind == LQ_LOSS_KL ? 0 : c->kind == LQ_LOSS_REVERSE_KL ? 1 : beta;
    k->kl_divergence(rows->nats, rows->teacher, rows->student, n, V, inv_T, 1 - reverse, reverse,
                     w);
}

/* Rows without a target count for nothing. */
static double sum_counted(const float *nats, const uint32_t *target, size_t n, size_t V)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += target[i] < V ? (double)nats[i] : 0;
    return sum;
}

/* Of n rows: L, and its gradient in rows->teacher. */
static double one_chunk(const lq_loss_config *c, lq_loss_rows *rows, const uint32_t *target,
                        size_t n, size_t V, float scale)
{
    diverge(c, rows, n, V, scale);
    const double apart = sum_counted(rows->nats, target, n, V);
    for (size_t i = 0; i < n; i++)
        if (target[i] >= V)
            memset(rows->teacher + i * V, 0, V * sizeof *rows->teacher);
    double total = c->weight * c->temperature * c->temperature * apart;
    if (c->ce_weight > 0) {
        lq_kernels()->cross_entropy(rows->nats, rows->student, target, n, V,
                                    (float)((double)scale * c->ce_weight));
        lq_kernels()->add(rows->teacher, rows->student, n * V);
        total += c->ce_weight * sum_counted(rows->nats, target, n, V);
    }
    return total;
}

double lq_loss_distill(const lq_loss_config *c, const lq_weights *w, lq_lane *lane,
                       const uint32_t *targets, lq_teacher_logits logits, void *teacher,
                       lq_loss_rows *rows, float scale, lq_weights *grad)
{
    const size_t N = lane->B * lane->T, V = lane->config.V;
    double total = 0;
    LQ_ASSERT(lq_loss_has_teacher(c) && c->temperature > 0);
    for (size_t at = 0; at < N; at += LQ_LOSS_ROWS) {
        const size_t n = N - at < LQ_LOSS_ROWS ? N - at : LQ_LOSS_ROWS;
        lq_logits(w, lane, at, n, rows->student);
        logits(teacher, at, n, rows->student, rows->teacher);
        total += one_chunk(c, rows, targets + at, n, V, scale);
        lq_logits_backward(w, lane, at, n, rows->teacher, grad);
    }
    return total;
}
