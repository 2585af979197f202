#include "core/train/teacher.h"

#include <float.h>
#include <math.h>

size_t lq_teacher_lane_bytes(const lq_teacher_source *teacher, const lq_config *config, size_t B,
                             size_t T)
{
    return teacher->w != NULL ? lq_lane_bytes(config, B, T, LQ_KEEP_NOTHING) : 0;
}

lq_status lq_teacher_lane_new(const lq_teacher_source *teacher, const lq_config *config, size_t B,
                              size_t T, double temperature, lq_arena *arena, lq_teacher_lane *out)
{
    *out = (lq_teacher_lane){.teacher = teacher, .temperature = temperature, .T = T};
    return teacher->w != NULL ? lq_lane_new(config, B, T, LQ_KEEP_NOTHING, arena, &out->acts)
                              : LQ_OK;
}

void lq_teacher_read(lq_teacher_lane *lane, const uint32_t *tokens, size_t sequence, size_t B)
{
    lane->sequence = sequence;
    lane->B = B;
    if (lane->acts != NULL)
        lq_forward(lane->teacher->w, lane->acts, tokens, B);
}

typedef struct position { /* of a file */
    const float *logp;    /* (k) */
    const uint32_t *id;   /* (k) */
    double rest;
} position;

static position position_of(const lq_teacher_lane *lane, size_t row)
{
    const lq_teacher_file *f = lane->teacher->file;
    const size_t sequence = lane->sequence + row / lane->T;
    LQ_ASSERT(sequence < f->plan.n_sequences && lane->T == f->plan.T);
    const size_t chunk = sequence / LQ_TEACHER_CHUNK,
                 at = sequence % LQ_TEACHER_CHUNK * lane->T + row % lane->T;
    return (position){f->logp[chunk] + at * f->plan.k, f->id[chunk] + at * f->plan.k,
                      (double)f->rest[chunk][at]};
}

/* Logits whose softmax at the temperature has the listed probabilities, and gives the rest to the other
 * tokens in the student's proportions: q_j rest / (sum of the others' q). */
static void complete(const lq_teacher_lane *lane, const position *p, const float *student,
                     float *out)
{
    const size_t V = lane->teacher->file->V, k = lane->teacher->file->plan.k;
    const double inv_T = 1 / lane->temperature;
    double top = (double)student[0], all = 0, others = 0;
    for (size_t j = 1; j < V; j++)
        top = (double)student[j] > top ? (double)student[j] : top;
    for (size_t j = 0; j < V; j++) {
        out[j] = expf((float)(inv_T * ((double)student[j] - top)));
        all += (double)out[j];
    }
    for (size_t i = 0; i < k; i++)
        out[p->id[i]] = 0;
    for (size_t j = 0; j < V; j++)
        others += (double)out[j];
    const double rest = fmax(p->rest, (double)FLT_MIN), share = fmax(others / all, (double)FLT_MIN);
    const double shift = lane->temperature * (log(rest) - log(share) - log(all)) - top;
    for (size_t j = 0; j < V; j++)
        out[j] = (float)((double)student[j] + shift);
    for (size_t i = 0; i < k; i++)
        out[p->id[i]] = (float)(lane->temperature * (double)p->logp[i]);
}

void lq_teacher_rows(void *context, size_t first, size_t n, const float *student, float *out)
{
    const lq_teacher_lane *lane = context;
    if (lane->acts != NULL) {
        lq_logits(lane->teacher->w, lane->acts, first, n, out);
        return;
    }
    const size_t V = lane->teacher->file->V;
    for (size_t i = 0; i < n; i++) {
        const position p = position_of(lane, first + i);
        complete(lane, &p, student + i * V, out + i * V);
    }
}

static double largest(const float *logits, size_t V, double inv_T)
{
    double top = (double)logits[0], sum = 0;
    for (size_t j = 1; j < V; j++)
        top = (double)logits[j] > top ? (double)logits[j] : top;
    for (size_t j = 0; j < V; j++)
        sum += exp(inv_T * ((double)logits[j] - top));
    return 1 / sum;
}

double lq_teacher_confidence(lq_teacher_lane *lane, float *rows)
{
    const size_t N = lane->B * lane->T;
    double total = 0;
    if (lane->acts == NULL) {
        for (size_t i = 0; i < N; i++)
            total += exp((double)position_of(lane, i).logp[0]);
        return total;
    }
    const size_t V = lane->acts->config.V;
    for (size_t at = 0; at < N; at += LQ_TEACHER_ROWS) {
        const size_t n = N - at < LQ_TEACHER_ROWS ? N - at : LQ_TEACHER_ROWS;
        lq_logits(lane->teacher->w, lane->acts, at, n, rows);
        for (size_t i = 0; i < n; i++)
            total += largest(rows + i * V, V, 1 / lane->temperature);
    }
    return total;
}
